//! Frozen stores into files: which rows go where, and the commit that lets them count.
//!
//! Rows of one table and day go to one file, or to several of [`FILE_ROWS_MAX`] rows that follow each
//! other in time; in a file they are sorted by series and time. Of rows with one key the newest is
//! written. Where a row's key stands in an older file too, that file is written anew without it, in
//! the same commit, so that a reader finds one row a key.
//!
//! Memory: beside the frozen stores, a row group in the making, the index of the new files and, while
//! an old file is written anew, that file decoded.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::base;
use crate::base::lsn::Lsn;
use crate::engine::catalog::{Catalog, Table};
use crate::engine::{EngineError, TimeRange};
use crate::record::TableId;

use super::columns::ColumnSet;
use super::io_error;
use super::magnetic::{FileIndex, Files, IndexEntry, Magnetic, MagneticFile};
use super::manifest::{FileMeta, Manifest};
use super::order::Ordered;
use super::parquet_read::Part;
use super::parquet_write::{GROUP_ROWS, GroupWriter, Pick};
use super::partition::{day_dir, day_of, table_dir, unpublished_name};
use super::store::{SeriesId, TableStore};
use super::write::Frozen;

/// Most rows of one file, unless they are all of one time: what a late record or a scan decodes at
/// worst, and what one merge holds in memory.
const FILE_ROWS_MAX: usize = 1 << 20;

/// A step of a flush, for tests that stop there.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlushStep {
    /// A file was written and synced under its hidden name.
    FileWritten,
    /// The manifest was replaced.
    ManifestReplaced,
    /// A file got its public name.
    FilePublished,
    /// A file that counts no more was hidden.
    FileRetired,
}

/// Why a flush failed, and whether it happened all the same.
#[derive(Debug)]
pub(super) enum FlushError {
    /// It did not happen: the same stores can be flushed again.
    Before(EngineError),
    /// Whether it happened is known after a restart only.
    During(EngineError),
}

/// A file of the flush.
#[derive(Debug)]
struct Written {
    file: Arc<MagneticFile>,
    /// Its generation before.
    replaces: Option<Arc<MagneticFile>>,
    columns: ColumnSet,
}

/// What a flush is about to change.
#[derive(Debug, Default)]
struct Changes {
    written: Vec<Written>,
    /// Files of which no row is left.
    removed: Vec<Arc<MagneticFile>>,
}

/// What a flush works with.
pub(super) struct Flush<'f> {
    pub(super) magnetic: &'f Magnetic,
    pub(super) catalog: &'f Catalog,
    /// The manifest as it stands; this flush's when it succeeds.
    pub(super) manifest: &'f mut Manifest,
    pub(super) hook: &'f dyn Fn(FlushStep),
}

impl Flush<'_> {
    /// Writes `frozen`, oldest first, to files and lets them count, together with `marks`.
    pub(super) fn run(&mut self, frozen: &[Arc<Frozen>], marks: &[Lsn]) -> Result<(), FlushError> {
        let mut changes = Changes::default();
        let files = self.magnetic.files();
        let written = self.write_all(frozen, &files, &mut changes);
        if let Err(error) = written {
            discard(&changes);
            return Err(FlushError::Before(error));
        }
        self.commit(&files, &changes, marks).map_err(FlushError::During)
    }

    fn write_all(
        &mut self,
        frozen: &[Arc<Frozen>],
        files: &Files,
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        let tables: BTreeSet<TableId> =
            frozen.iter().flat_map(|frozen| frozen.tables.keys().copied()).collect();
        for id in tables {
            // A table that was deleted since: its rows are of no more use to anybody.
            let Some(table) = self.catalog.get(id) else { continue };
            let sources: Vec<&TableStore> = frozen
                .iter()
                .filter_map(|frozen| frozen.tables.get(&id))
                .filter(|store| !store.is_empty())
                .collect();
            if sources.is_empty() {
                continue;
            }
            let ordered = Ordered::new(sources);
            self.write_table(&table, &ordered, changes)?;
            self.rewrite_table(&table, &ordered.sources, files, changes)?;
        }
        Ok(())
    }

    /// Writes a table's new rows.
    fn write_table(
        &mut self,
        table: &Table,
        ordered: &Ordered<'_>,
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        for (day, rows) in ordered.days() {
            for range in ordered.slices(day, rows, FILE_ROWS_MAX) {
                let number = self.manifest.next_file;
                self.manifest.next_file += 1;
                let target = self.target(table, day, number, 0)?;
                let keep = |_: SeriesId, _: i64| true;
                if let Some(written) = self.write_file(&target, ordered, range, keep)? {
                    changes.written.push(written);
                }
            }
        }
        Ok(())
    }

    /// Writes those files anew that have rows with keys of the new ones, without these rows.
    fn rewrite_table(
        &mut self,
        table: &Table,
        sources: &[&TableStore],
        files: &Files,
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        let Some(days) = files.tables.get(&table.id) else { return Ok(()) };
        for (day, keys) in overrides_by_day(sources) {
            for file in days.get(&day).into_iter().flatten() {
                let index = self.magnetic.index(file)?;
                let may_have = |&(source, series, time_ns): &(usize, SeriesId, i64)| {
                    let key = &sources[source].keys()[series.0 as usize];
                    index.groups(key.hash, time_ns).next().is_some()
                };
                let keys: Vec<_> = keys.iter().copied().filter(may_have).collect();
                if !keys.is_empty() {
                    self.rewrite(table, file, sources, &keys, changes)?;
                }
            }
        }
        Ok(())
    }

    /// Writes `file` anew without the rows of `keys`, if it has any of them.
    fn rewrite(
        &mut self,
        table: &Table,
        file: &Arc<MagneticFile>,
        sources: &[&TableStore],
        keys: &[(usize, SeriesId, i64)],
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        let mut store = TableStore::default();
        let reader = file.open()?;
        reader.read((0..reader.groups()).collect(), Part::Whole, TimeRange::ALL, &mut store)?;
        store.seal();
        let gone: HashSet<(SeriesId, i64)> = keys
            .iter()
            .filter_map(|&(source, series, time_ns)| {
                let key = &sources[source].keys()[series.0 as usize];
                let series = store.find_series(&key.wanted())?;
                store.find_row(series, time_ns).map(|_| (series, time_ns))
            })
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let meta = &file.meta;
        let target = self.target(table, meta.day, meta.number, meta.generation + 1)?;
        let ordered = Ordered::new(vec![&store]);
        let keep = |series, time_ns| !gone.contains(&(series, time_ns));
        match self.write_file(&target, &ordered, TimeRange::ALL, keep)? {
            Some(mut written) => {
                let expected = meta.rows - gone.len() as u64;
                assert_eq!(written.file.meta.rows, expected, "every other row was written again");
                written.replaces = Some(Arc::clone(file));
                changes.written.push(written);
            }
            None => changes.removed.push(Arc::clone(file)),
        }
        Ok(())
    }

    fn target(
        &self,
        table: &Table,
        day: i32,
        number: u64,
        generation: u32,
    ) -> Result<Target, EngineError> {
        let folder = self.magnetic.dir.join(table_dir(table)).join(day_dir(day));
        base::fs::create_dir_all(&folder).map_err(|error| io_error("make", &folder, error))?;
        let path = folder.join(unpublished_name(number, generation));
        let names = [table.database.to_string(), table.name.to_string()];
        Ok(Target { table: table.id, names, day, number, generation, path })
    }

    /// Writes the rows in `range` that `keep` keeps; nothing, and no file, if there are none.
    fn write_file(
        &self,
        target: &Target,
        ordered: &Ordered<'_>,
        range: TimeRange,
        keep: impl Fn(SeriesId, i64) -> bool,
    ) -> Result<Option<Written>, EngineError> {
        let written = write_rows(target, ordered, range, keep);
        if written.is_err() && target.path.exists() {
            // Start-up would delete it; until then it would take space that may just have run out.
            std::fs::remove_file(&target.path)
                .map_err(|error| io_error("delete", &target.path, error))?;
        }
        let Some((meta, entries)) = written? else { return Ok(None) };
        (self.hook)(FlushStep::FileWritten);
        self.magnetic.remember_index(&meta, Arc::new(FileIndex::new(entries)));
        let file = Arc::new(MagneticFile::new(target.table, &meta, target.path.clone()));
        let mut columns = ColumnSet::default();
        ordered.sources.iter().for_each(|source| columns.see_store(source));
        Ok(Some(Written { file, replaces: None, columns }))
    }

    /// Replaces the manifest and gives the files their public names.
    fn commit(
        &mut self,
        files: &Files,
        changes: &Changes,
        marks: &[Lsn],
    ) -> Result<(), EngineError> {
        let mut manifest = self.manifest.clone();
        assert_eq!(marks.len(), manifest.stored.len(), "one mark a bucket");
        for (old, new) in manifest.stored.iter_mut().zip(marks) {
            assert!(*old <= *new, "a bucket's mark never goes back");
            *old = *new;
        }
        let mut files = files.clone();
        changes.apply(&mut manifest, &mut files);
        sync_folders(changes)?;
        manifest.store(&self.magnetic.dir)?;
        *self.manifest = manifest;
        (self.hook)(FlushStep::ManifestReplaced);
        self.magnetic.install(files);
        for written in &changes.written {
            written.file.publish(written.replaces.as_deref())?;
            (self.hook)(FlushStep::FilePublished);
        }
        for file in &changes.removed {
            file.retire()?;
            (self.hook)(FlushStep::FileRetired);
        }
        Ok(())
    }
}

impl Changes {
    fn apply(&self, manifest: &mut Manifest, files: &mut Files) {
        for written in &self.written {
            let (table, meta) = (written.file.table, &written.file.meta);
            let entry = manifest.tables.entry(table).or_default();
            for (name, value_type) in written.columns.attributes() {
                let number = entry.attributes.entry(name.to_owned()).or_insert(value_type.number());
                assert_eq!(*number, value_type.number(), "a column has one type in all files");
            }
            entry.files.retain(|old| old.number != meta.number);
            entry.files.push(meta.clone());
            let day = files.tables.entry(table).or_default().entry(meta.day).or_default();
            day.retain(|old| old.meta.number != meta.number);
            day.push(Arc::clone(&written.file));
        }
        for file in &self.removed {
            let (table, meta) = (file.table, &file.meta);
            let entry = manifest.tables.get_mut(&table).expect("the file was listed");
            entry.files.retain(|old| old.number != meta.number);
            let days = files.tables.get_mut(&table).expect("the file was listed");
            let day = days.get_mut(&meta.day).expect("the file was listed");
            day.retain(|old| old.meta.number != meta.number);
            if day.is_empty() {
                days.remove(&meta.day);
            }
        }
    }
}

fn write_rows(
    target: &Target,
    ordered: &Ordered<'_>,
    range: TimeRange,
    keep: impl Fn(SeriesId, i64) -> bool,
) -> Result<Option<(FileMeta, Vec<IndexEntry>)>, EngineError> {
    let mut out = FileOut::new(target, &ordered.sources);
    for series in &ordered.series {
        ordered.rows_of(series, range, &mut |pick, time_ns| {
            if keep(pick.series, time_ns) { out.push(pick) } else { Ok(()) }
        })?;
    }
    out.finish()
}

/// The manifest may name a file only when its name would survive a crash.
fn sync_folders(changes: &Changes) -> Result<(), EngineError> {
    let folders: BTreeSet<PathBuf> =
        changes.written.iter().filter_map(|written| written.file.folder()).collect();
    for folder in folders {
        base::fs::sync_dir(&folder).map_err(|error| io_error("sync", &folder, error))?;
    }
    Ok(())
}

/// Deletes the files of a flush that did not happen; start-up would too.
fn discard(changes: &Changes) {
    for written in &changes.written {
        written.file.discard();
    }
}

/// For each day, keys of rows that stand in older files too: source, series, time.
fn overrides_by_day(sources: &[&TableStore]) -> BTreeMap<i32, Vec<(usize, SeriesId, i64)>> {
    let mut days: BTreeMap<i32, Vec<(usize, SeriesId, i64)>> = BTreeMap::new();
    for (at, source) in sources.iter().enumerate() {
        for &(series, time_ns) in source.overrides() {
            days.entry(day_of(time_ns)).or_default().push((at, series, time_ns));
        }
    }
    days
}

/// Where a file goes.
#[derive(Debug)]
struct Target {
    table: TableId,
    /// Of the database and the table.
    names: [String; 2],
    day: i32,
    number: u64,
    generation: u32,
    path: PathBuf,
}

/// A file being written.
struct FileOut<'s> {
    target: &'s Target,
    sources: &'s [&'s TableStore],
    writer: Option<GroupWriter<File>>,
    picks: Vec<Pick>,
    entries: Vec<IndexEntry>,
    groups: u32,
    rows: u64,
}

impl<'s> FileOut<'s> {
    fn new(target: &'s Target, sources: &'s [&'s TableStore]) -> Self {
        let (picks, entries) = (Vec::new(), Vec::new());
        Self { target, sources, writer: None, picks, entries, groups: 0, rows: 0 }
    }

    fn push(&mut self, pick: Pick) -> Result<(), EngineError> {
        self.picks.push(pick);
        if self.picks.len() < GROUP_ROWS { Ok(()) } else { self.write_group() }
    }

    fn write_group(&mut self) -> Result<(), EngineError> {
        let path = &self.target.path;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let written = writer.write(self.sources, &self.picks);
        written.map_err(|error| io_error("write", path, error))?;
        self.writer = Some(writer);
        for run in self.picks.chunk_by(|a, b| (a.source, a.series) == (b.source, b.series)) {
            let source = self.sources[run[0].source as usize];
            let (first, last) = (run[0].row, run[run.len() - 1].row);
            self.entries.push(IndexEntry {
                hash: source.keys()[run[0].series.0 as usize].hash,
                time_ns_min: source.row(first).time_ns(),
                time_ns_max: source.row(last).time_ns(),
                group: self.groups,
            });
        }
        self.groups += 1;
        self.rows += self.picks.len() as u64;
        self.picks.clear();
        Ok(())
    }

    fn begin(&self) -> Result<GroupWriter<File>, EngineError> {
        let path = &self.target.path;
        let mut columns = ColumnSet::default();
        self.sources.iter().for_each(|source| columns.see_store(source));
        let file = File::create(path).map_err(|error| io_error("create", path, error))?;
        let [database, table] = &self.target.names;
        let metadata = [("tidegate.database", &**database), ("tidegate.table", &**table)];
        GroupWriter::new(file, &columns, &metadata).map_err(|error| io_error("begin", path, error))
    }

    /// Ends and syncs the file. `None` if it had no rows; then there is no file.
    fn finish(mut self) -> Result<Option<(FileMeta, Vec<IndexEntry>)>, EngineError> {
        if !self.picks.is_empty() {
            self.write_group()?;
        }
        let path = &self.target.path;
        let Some(writer) = self.writer else { return Ok(None) };
        let file = writer.finish().map_err(|error| io_error("end", path, error))?;
        file.sync_all().map_err(|error| io_error("sync", path, error))?;
        let bytes = file.metadata().map_err(|error| io_error("measure", path, error))?.len();
        let times_min = self.entries.iter().map(|entry| entry.time_ns_min).min();
        let times_max = self.entries.iter().map(|entry| entry.time_ns_max).max();
        let hashes = self.entries.iter().map(|entry| entry.hash);
        let meta = FileMeta {
            number: self.target.number,
            generation: self.target.generation,
            day: self.target.day,
            rows: self.rows,
            bytes,
            time_ns_min: times_min.expect("a file has rows"),
            time_ns_max: times_max.expect("a file has rows"),
            hash_min: hashes.clone().min().expect("a file has rows"),
            hash_max: hashes.max().expect("a file has rows"),
        };
        assert_eq!(day_of(meta.time_ns_min), meta.day, "a file's rows are of its day");
        assert_eq!(day_of(meta.time_ns_max), meta.day, "a file's rows are of its day");
        Ok(Some((meta, self.entries)))
    }
}
