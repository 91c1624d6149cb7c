//! Frozen stores into files: which rows go where, and the commit that lets them count.
//!
//! Rows of one table and day go to one file, or to several of about [`FILE_ROWS_MAX`] rows that follow
//! each other in time ([`Ordered::stretches`]); in a file they are sorted by series and time. Of rows with one key the newest is
//! written. Where a row's key stands in an older file too, that file is written anew without it, in
//! the same commit, so that a reader finds one row a key.
//!
//! Memory: beside the frozen stores, the order of their series and the numbers of their names, some 120
//! bytes a series, which stay until the next flush, a row group in the making, the index of the new
//! files and, while an old file is written anew, what [`super::rewrite`] says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::lsn::Lsn;
use crate::engine::catalog::{Catalog, Table};
use crate::engine::{EngineError, TimeRange};
use crate::record::TableId;

use super::column::RowId;
use super::columns::ColumnSet;
use super::commit::{Changes, CommitError, Written};
use super::disk::Disk;
use super::file_out::{FileOut, Finished, Target};
use super::io_error;
use super::magnetic::{Magnetic, MagneticFile};
use super::manifest::Manifest;
use super::order::{Ordered, Orders};
use super::parquet_write::GROUP_ROWS;
use super::partition::day_of;
use super::rewrite::{self, RowKeys};
use super::series::SeriesKey;
use super::store::{SeriesId, TableStore};
use super::write::Frozen;

/// Most rows of one file, unless they are all of one time, or a series has fewer than eight of them:
/// what a late record or a scan decodes at worst, though never at once.
pub(super) const FILE_ROWS_MAX: usize = 1 << 20;

/// What a flush works with.
pub(super) struct Flush<'f> {
    pub(super) magnetic: &'f Magnetic,
    pub(super) catalog: &'f Catalog,
    /// The manifest as it stands; this flush's when it succeeds.
    pub(super) manifest: &'f mut Manifest,
    /// How the flush before ordered series; how this one did as soon as it has, also when it fails.
    pub(super) orders: &'f mut Orders,
}

impl Flush<'_> {
    /// Writes `frozen`, oldest first, to files and lets them count, together with `marks`.
    /// Returns the bytes of the files that it wrote.
    pub(super) fn run(
        &mut self,
        frozen: &[Arc<Frozen>],
        marks: &[Lsn],
    ) -> Result<u64, CommitError> {
        let mut changes = Changes::default();
        let written = self.write_all(frozen, &mut changes);
        let result = written
            .map_err(CommitError::Before)
            .and_then(|()| changes.commit(self.magnetic, self.manifest, Some(marks)));
        if matches!(result, Err(CommitError::Before(_))) {
            changes.discard();
        }
        result.map(|()| changes.written.iter().map(|written| written.file.meta.bytes).sum())
    }

    fn write_all(
        &mut self,
        frozen: &[Arc<Frozen>],
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        let tables: BTreeSet<TableId> =
            frozen.iter().flat_map(|frozen| frozen.tables.keys().copied()).collect();
        self.orders.retain(|id| tables.contains(&id));
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
            let order = self.orders.of(id, &sources);
            let ordered = Ordered::by(sources, order);
            self.write_table(&table, &ordered, changes)?;
            self.rewrite_table(&table, &ordered.sources, changes)?;
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
        for (day, range) in ordered.stretches(FILE_ROWS_MAX) {
            let number = self.manifest.next_file;
            self.manifest.next_file += 1;
            let target = self.magnetic.target(table, day, number, 0)?;
            if let Some(finished) = self.write_file(&target, ordered, range)? {
                let written = Written::new(self.magnetic, &target, None, finished);
                changes.written.push(written);
            }
        }
        Ok(())
    }

    /// Writes those files anew that have rows with keys of the new ones, without these rows.
    fn rewrite_table(
        &mut self,
        table: &Table,
        sources: &[&TableStore],
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        for (day, keys) in overrides_by_day(sources) {
            let files = self.magnetic.files(|files| files.day(table.id, day));
            for file in files.iter().flat_map(|files| &**files) {
                let index = self.magnetic.index(file)?;
                let keys = keys.iter().map(|&(source, series, time_ns)| {
                    (sources[source].keys().get(series), time_ns)
                });
                let may_have =
                    |&(key, time_ns): &(&Arc<SeriesKey>, i64)| index.may_have(key.hash, time_ns);
                let keys: Vec<_> = keys.filter(may_have).collect();
                if keys.is_empty() {
                    continue;
                }
                let gone = rewrite::rows_in(&file.open()?, &index, &keys)?;
                if !gone.is_empty() {
                    self.rewrite(table, file, &gone, changes)?;
                }
            }
        }
        Ok(())
    }

    /// Writes `file` anew without the rows of these keys, all of which it has.
    fn rewrite(
        &mut self,
        table: &Table,
        file: &Arc<MagneticFile>,
        gone: &RowKeys,
        changes: &mut Changes,
    ) -> Result<(), EngineError> {
        let meta = &file.meta;
        let target = self.magnetic.target(table, meta.day, meta.number, meta.generation + 1)?;
        let disk = self.magnetic.disk();
        let written = rewrite::copy(file, &target, disk, &mut |key, batch, rows, staying| {
            let times = gone.times(key);
            let is_gone =
                |row: &RowId| times.is_some_and(|times| times.contains(&batch.row(*row).time_ns()));
            staying.extend(rows.iter().copied().filter(|row| !is_gone(row)));
        });
        let (finished, count) = self.or_without_file(&target, written)?;
        assert_eq!(count, gone.len(), "every row that was found, and no other");
        match finished {
            Some(finished) => {
                let expected = meta.rows - count;
                assert_eq!(finished.meta.rows, expected, "every other row was written again");
                let replaces = Some(Arc::clone(file));
                let written = Written::new(self.magnetic, &target, replaces, finished);
                changes.written.push(written);
            }
            None => changes.removed.push(Arc::clone(file)),
        }
        Ok(())
    }

    /// Writes the rows in `range`; nothing, and no file, if there are none.
    fn write_file(
        &self,
        target: &Target,
        ordered: &Ordered<'_>,
        range: TimeRange,
    ) -> Result<Option<Finished>, EngineError> {
        self.or_without_file(target, write_rows(target, self.magnetic.disk(), ordered, range))
    }

    /// Deletes what was written of a file that failed.
    fn or_without_file<T>(
        &self,
        target: &Target,
        written: Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if written.is_err() && target.path.exists() {
            // Start-up would delete it; until then it would take space that may just have run out.
            let removed = self.magnetic.disk().remove(&target.path);
            removed.map_err(|error| io_error("delete", &target.path, error))?;
        }
        written
    }
}

fn write_rows(
    target: &Target,
    disk: &Arc<Disk>,
    ordered: &Ordered<'_>,
    range: TimeRange,
) -> Result<Option<Finished>, EngineError> {
    let mut columns = ColumnSet::default();
    ordered.sources.iter().for_each(|source| columns.see_store(source));
    let mut out = FileOut::new(target, columns, disk);
    let mut picks = Vec::new();
    ordered.each_series(|series| {
        ordered.rows_of(series, range, &mut |pick| {
            picks.push(pick);
            if picks.len() == GROUP_ROWS {
                out.write_group(&ordered.sources, ordered.names(), &picks)?;
                picks.clear();
            }
            Ok(())
        })
    })?;
    if !picks.is_empty() {
        out.write_group(&ordered.sources, ordered.names(), &picks)?;
    }
    out.finish()
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
