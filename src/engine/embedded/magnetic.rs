//! The magnetic store: immutable Parquet files, the manifest that lists them, and looking things up
//! in them.
//!
//! # How other files come to count, and why a crash at any step is safe
//!
//! A flush, a compaction, a drop of expired days and of a deleted table are all the same commit
//! ([`super::commit`]) of new files and of such that are no more:
//!
//! 1. New files are written under names that no reader of the folder looks for
//!    (`.<number>-<generation>.parquet.tmp`) and synced, and so are their folders.
//! 2. The manifest is replaced. **This is the moment of the commit**: before it, start-up deletes the
//!    new files, and the log or the old files have their records; after it, the new files are what
//!    counts.
//! 3. Each new file gets its public name by one rename. A file that was written anew without some
//!    rows keeps its number, so its rename replaces the old content at once: a reader of the folder
//!    sees one or the other, never none. Files that are no more get a hidden name.
//! 4. What is hidden is deleted when its last scan ends.
//!
//! Start-up completes step 3 for every file that the manifest lists (the hidden name with the listed
//! generation, if it exists, is the one that counts) and deletes every file of ours that is not
//! listed. The folders are synced once after step 3, for which nothing waits: with any part of the
//! names of that step start-up finds the same. `tests/engine_crash.rs` stops after every step, with
//! what was not synced lost in whole and in part.
//!
//! A foreign reader, who knows no manifest, can see the files before and after in one listing only
//! while step 3 lasts; new rows appear before the old versions of them vanish. Of a merge it may for
//! that moment see rows twice.
//!
//! # What a late record costs
//!
//! A record that may have a row in the files is looked for in those of its day whose times include
//! its own. For each, the index (which row group has which series, from when to when) is made once,
//! by decoding the keys, or kept from the writing; then the keys of the row group that may have it
//! (series, times, versions) are decoded and kept. Its values are decoded only where the version rule
//! needs them: for a repetition at the same version, and for an update that names a part of the
//! attributes. All of it lives in a cache of bounded bytes. Records that walk through more row groups
//! than the cache holds, in an order that is not the files', pay a decoding each.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::fast::RandomState;

use crate::engine::catalog::Table;
use crate::engine::upsert::Candidate;
use crate::engine::{EngineError, TimeRange};
use crate::record::{MeasureKind, TableId, Value};

use super::column::RowId;
use super::columns::ColumnSet;
use super::disk::Disk;
use super::file_out::Target;
use super::io_error;
use super::manifest::FileMeta;
use super::parquet_read::{Part, Reader};
use super::partition::{day_dir, day_of, file_name, retired_name, table_dir, unpublished_name};
use super::series::Wanted;
use super::store::{SeriesId, TableStore};

/// The magnetic store of one data folder.
#[derive(Debug)]
pub(super) struct Magnetic {
    pub(super) dir: PathBuf,
    /// Swapped as a whole by a flush; never held while files are read.
    files: RwLock<Arc<Files>>,
    /// The latest time of each table's rows when the store was opened.
    opened: HashMap<TableId, i64, RandomState>,
    cache: Mutex<Cache>,
    disk: Arc<Disk>,
}

/// The files that count at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) tables: HashMap<TableId, BTreeMap<i32, Vec<Arc<MagneticFile>>>, RandomState>,
}

/// One file that counts, or that a scan still reads.
#[derive(Debug)]
pub(super) struct MagneticFile {
    pub(super) table: TableId,
    pub(super) meta: FileMeta,
    /// Where it is now. Held while it is opened or renamed.
    path: Mutex<PathBuf>,
    is_retired: AtomicBool,
    disk: Arc<Disk>,
}

/// Which row group of a file has a series, and from when to when.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexEntry {
    pub(super) hash: u64,
    pub(super) time_ns_min: i64,
    pub(super) time_ns_max: i64,
    pub(super) group: u32,
}

/// A row that a file has.
#[derive(Debug)]
pub(super) struct Found {
    file: Arc<MagneticFile>,
    index: Arc<FileIndex>,
    group: usize,
    pub(super) version: i64,
}

impl Found {
    /// Whether the version rule can do without the row's values: a lower version is refused whatever
    /// stands, and of what a higher one covers nothing remains.
    pub(super) fn is_decided(&self, incoming: &Candidate<'_, '_>) -> bool {
        incoming.version < self.version
            || incoming.version > self.version
                && incoming.kind == MeasureKind::Multi
                && self.index.is_covered_by(incoming.attributes)
    }
}

/// All entries of a file, by hash.
#[derive(Debug)]
pub(super) struct FileIndex {
    entries: Box<[IndexEntry]>,
    /// The names of all attributes in the file, sorted; `None` where it has scalar rows.
    attributes: Option<Box<[Box<str>]>>,
}

impl FileIndex {
    pub(super) fn new(mut entries: Vec<IndexEntry>, columns: &ColumnSet) -> Self {
        entries.sort_unstable_by_key(|entry| (entry.hash, entry.group));
        let names = columns.attributes().map(|(name, _)| name.into());
        let attributes = (!columns.has_scalars()).then(|| names.collect());
        Self { entries: entries.into_boxed_slice(), attributes }
    }

    /// Whether a MULTI record with these attributes, sorted by name, names all that any row of the
    /// file has: then nothing of the row that it overrides remains, whatever that is.
    fn is_covered_by(&self, attributes: &[(&str, Value<'_>)]) -> bool {
        let Some(names) = &self.attributes else { return false };
        let mut given = attributes.iter().map(|(name, _)| *name);
        names.iter().all(|name| given.any(|given| given == &**name))
    }

    /// The row groups that may have a row of the series at the time.
    pub(super) fn groups(&self, hash: u64, time_ns: i64) -> impl Iterator<Item = usize> {
        let begin = self.entries.partition_point(|entry| entry.hash < hash);
        self.entries[begin..]
            .iter()
            .take_while(move |entry| entry.hash == hash)
            .filter(move |entry| entry.time_ns_min <= time_ns && time_ns <= entry.time_ns_max)
            .map(|entry| entry.group as usize)
    }

    fn bytes(&self) -> usize {
        let names = self.attributes.iter().flatten();
        size_of::<Self>()
            + std::mem::size_of_val(&*self.entries)
            + names.map(|name| size_of::<Box<str>>() + name.len()).sum::<usize>()
    }
}

/// A file's number and generation, and a row group, one with [`KEYS`] or [`INDEX`].
type CacheKey = (u64, u32, u32);

/// What stands for the index among row groups.
const INDEX: u32 = u32::MAX;

/// What is added to a row group's number for its keys alone.
const KEYS: u32 = 1 << 31;

/// What was read from files, up to a number of bytes.
#[derive(Debug)]
struct Cache {
    entries: HashMap<CacheKey, CacheEntry, RandomState>,
    bytes: usize,
    bytes_max: usize,
    /// Counts uses, to find what was not used for longest.
    uses: u64,
}

#[derive(Debug)]
struct CacheEntry {
    cached: Cached,
    bytes: usize,
    used: u64,
}

#[derive(Debug, Clone)]
enum Cached {
    Index(Arc<FileIndex>),
    Group(Arc<TableStore>),
}

impl Cache {
    fn get(&mut self, key: CacheKey) -> Option<Cached> {
        self.uses += 1;
        let entry = self.entries.get_mut(&key)?;
        entry.used = self.uses;
        Some(entry.cached.clone())
    }

    fn put(&mut self, key: CacheKey, cached: Cached) {
        let bytes = match &cached {
            Cached::Index(index) => index.bytes(),
            Cached::Group(group) => group.bytes(),
        };
        self.uses += 1;
        let entry = CacheEntry { cached, bytes, used: self.uses };
        self.bytes += bytes;
        if let Some(before) = self.entries.insert(key, entry) {
            self.bytes -= before.bytes;
        }
        // What was just put stays, however large: the next record most likely needs it again.
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = *oldest.expect("there are entries").0;
            let entry = self.entries.remove(&oldest).expect("just found");
            self.bytes -= entry.bytes;
        }
    }
}

impl Magnetic {
    /// A store of these files; see [`super::recover`].
    pub(super) fn new(
        dir: &Path,
        files: Files,
        opened: HashMap<TableId, i64, RandomState>,
        cache_bytes_max: usize,
        disk: Arc<Disk>,
    ) -> Self {
        let entries = HashMap::default();
        let cache = Mutex::new(Cache { entries, bytes: 0, bytes_max: cache_bytes_max, uses: 0 });
        Self { dir: dir.to_owned(), files: RwLock::new(Arc::new(files)), opened, cache, disk }
    }

    /// The files that count now.
    pub(super) fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets other files count.
    pub(super) fn install(&self, files: Files) {
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    /// Where the next file of a table and day goes; makes the folder if it is missing.
    pub(super) fn target(
        &self,
        table: &Table,
        day: i32,
        number: u64,
        generation: u32,
    ) -> Result<Target, EngineError> {
        let folder = self.dir.join(table_dir(table)).join(day_dir(day));
        let made = self.disk.create_dir_all(&folder);
        made.map_err(|error| io_error("make", &folder, error))?;
        let path = folder.join(unpublished_name(number, generation));
        let names = [table.database.to_string(), table.name.to_string()];
        Ok(Target { table: table.id, names, day, number, generation, path })
    }

    /// The disk that the files are on.
    pub(super) const fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// The latest time of the table's rows in files when the store was opened, if it had any.
    pub(super) fn time_ns_max_at_open(&self, table: TableId) -> Option<i64> {
        self.opened.get(&table).copied()
    }

    /// The row of a series at a time, if a file has it: its key and version.
    pub(super) fn find(
        &self,
        table: TableId,
        wanted: &Wanted<'_>,
        time_ns: i64,
    ) -> Result<Option<Found>, EngineError> {
        let files = self.files();
        let of_day = files.tables.get(&table).and_then(|days| days.get(&day_of(time_ns)));
        for file in of_day.into_iter().flatten() {
            let meta = &file.meta;
            let may_have = (meta.time_ns_min..=meta.time_ns_max).contains(&time_ns)
                && (meta.hash_min..=meta.hash_max).contains(&wanted.hash);
            if !may_have {
                continue;
            }
            let index = self.index(file)?;
            for group in index.groups(wanted.hash, time_ns) {
                let keys = self.group(file, group, Part::Keys)?;
                let row = keys.find_series(wanted).and_then(|id| keys.find_row(id, time_ns));
                if let Some(row) = row {
                    let version = keys.row(row).version();
                    let file = Arc::clone(file);
                    let index = Arc::clone(&index);
                    return Ok(Some(Found { file, index, group, version }));
                }
            }
        }
        Ok(None)
    }

    /// The whole of a row that was found.
    pub(super) fn read(
        &self,
        found: &Found,
        wanted: &Wanted<'_>,
        time_ns: i64,
    ) -> Result<(Arc<TableStore>, RowId), EngineError> {
        let store = self.group(&found.file, found.group, Part::Whole)?;
        let row = store.find_series(wanted).and_then(|id| store.find_row(id, time_ns));
        let row = row.expect("a file never changes, and it had the key");
        assert_eq!(store.row(row).version(), found.version, "keys and rows are of one file");
        Ok((store, row))
    }

    /// The file's index; costs a decoding of its keys unless it is cached.
    pub(super) fn index(&self, file: &MagneticFile) -> Result<Arc<FileIndex>, EngineError> {
        let key = (file.meta.number, file.meta.generation, INDEX);
        if let Some(Cached::Index(index)) = self.cache().get(key) {
            return Ok(index);
        }
        let reader = file.open()?;
        let mut entries = Vec::new();
        for group in 0..reader.groups() {
            let mut store = TableStore::default();
            reader.read(vec![group], Part::Keys, TimeRange::ALL, &mut store)?;
            entries.extend(entries_of(&store, group));
        }
        let mut columns = ColumnSet::default();
        columns.see_specs(reader.specs());
        let index = Arc::new(FileIndex::new(entries, &columns));
        self.remember_index(&file.meta, Arc::clone(&index));
        Ok(index)
    }

    /// Keeps the index of a file that was just written.
    pub(super) fn remember_index(&self, meta: &FileMeta, index: Arc<FileIndex>) {
        let key = (meta.number, meta.generation, INDEX);
        self.cache().put(key, Cached::Index(index));
    }

    /// A row group, or its keys alone; costs a decoding unless it is cached.
    fn group(
        &self,
        file: &MagneticFile,
        group: usize,
        part: Part,
    ) -> Result<Arc<TableStore>, EngineError> {
        let mut number = u32::try_from(group).expect("row groups are counted in 16 bits");
        if part == Part::Keys {
            number |= KEYS;
        }
        let key = (file.meta.number, file.meta.generation, number);
        if let Some(Cached::Group(store)) = self.cache().get(key) {
            return Ok(store);
        }
        let mut store = TableStore::default();
        file.open()?.read(vec![group], part, TimeRange::ALL, &mut store)?;
        store.seal();
        let store = Arc::new(store);
        self.cache().put(key, Cached::Group(Arc::clone(&store)));
        Ok(store)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The index entries of one row group.
pub(super) fn entries_of(store: &TableStore, group: usize) -> Vec<IndexEntry> {
    let group = u32::try_from(group).expect("row groups are counted in 16 bits");
    let mut entries: Vec<IndexEntry> = store
        .keys()
        .iter()
        .map(|key| IndexEntry {
            hash: key.hash,
            time_ns_min: i64::MAX,
            time_ns_max: i64::MIN,
            group,
        })
        .collect();
    for chunk in store.chunks() {
        for (&series, &time_ns) in chunk.series.iter().zip(&chunk.times) {
            let entry = &mut entries[SeriesId(series).0 as usize];
            entry.time_ns_min = entry.time_ns_min.min(time_ns);
            entry.time_ns_max = entry.time_ns_max.max(time_ns);
        }
    }
    entries
}

impl MagneticFile {
    pub(super) fn new(table: TableId, meta: &FileMeta, path: PathBuf, disk: &Arc<Disk>) -> Self {
        let (path, is_retired) = (Mutex::new(path), AtomicBool::new(false));
        Self { table, meta: meta.clone(), path, is_retired, disk: Arc::clone(disk) }
    }

    /// Opens the file, wherever it is.
    pub(super) fn open(&self) -> Result<Reader, EngineError> {
        let path = self.path();
        let file = File::open(&*path).map_err(|error| io_error("open", &path, error))?;
        Reader::open(file, &path, self.table)
    }

    /// Gives the file, which was written under a hidden name, its public one; replaces `old`, its
    /// generation before, which scans may still read under a hidden name. The folder's sync is the
    /// caller's.
    pub(super) fn publish(&self, old: Option<&Self>) -> Result<(), EngineError> {
        let mut path = self.path();
        let public = path.with_file_name(file_name(self.meta.number));
        let error = |error| io_error("publish", &public, error);
        if let Some(old) = old {
            assert_eq!(old.meta.number, self.meta.number, "a file replaces its own generation");
            let mut old_path = old.path();
            let hidden =
                old_path.with_file_name(retired_name(old.meta.number, old.meta.generation));
            self.disk.link(&old_path, &hidden).map_err(error)?;
            *old_path = hidden;
            // Relaxed: the last owner reads it, and dropping an `Arc` synchronises its owners.
            old.is_retired.store(true, Ordering::Relaxed);
        }
        self.disk.rename(&path, &public).map_err(error)?;
        *path = public;
        Ok(())
    }

    /// Takes the file, which counts no more, from the readers of the folder. The folder's sync is the
    /// caller's.
    pub(super) fn retire(&self) -> Result<(), EngineError> {
        let mut path = self.path();
        let hidden = path.with_file_name(retired_name(self.meta.number, self.meta.generation));
        self.disk.rename(&path, &hidden).map_err(|error| io_error("hide", &path, error))?;
        *path = hidden;
        self.is_retired.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Deletes a file of a flush that did not happen.
    pub(super) fn discard(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
    }

    /// The folder that it is in.
    pub(super) fn folder(&self) -> Option<PathBuf> {
        self.path().parent().map(Path::to_owned)
    }

    fn path(&self) -> MutexGuard<'_, PathBuf> {
        self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for MagneticFile {
    fn drop(&mut self) {
        if self.is_retired.load(Ordering::Relaxed) {
            let path = self.path();
            if let Err(error) = self.disk.remove(&path) {
                tracing::warn!(path = %path.display(), %error, "old file stays until the next start");
            }
        }
    }
}
