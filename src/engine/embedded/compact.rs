//! Compaction: many small files of one table and day into one.
//!
//! # Which files
//!
//! A file of fewer than [`SMALL_ROWS`] rows is small. With `k` for the setting `compact_files`, its
//! **tier** is the greatest `t` with `k^t` rows or fewer. Where a day of a table has `k` files of one
//! tier, all of these, up to [`FILES_MAX`] and [`FILE_ROWS_MAX`] rows, become one. Files never share a
//! key, so that one has at least `k^(t+1)` rows: **a row is written again once a tier at most**, with
//! `k` = 8 six times in its life (8^6 > 131,072), with 2 seventeen times. What is left of a day is at
//! most `k - 1` files a tier and, beside those, one file for each 131,072 rows. A table that gets
//! little, one flush of 600 rows every ten minutes, ends its day with 11 files instead of 144:
//! 2 of 38,400 rows, 2 of 4,800 and 0 to 7 of 600.
//!
//! # What it costs
//!
//! The files are read side by side in batches that hold [`GROUP_ROWS`] rows together, and their rows
//! are copied into a row group in the making, which is written when it has as many rows or
//! [`GROUP_BYTES`]. So a merge takes the memory of two row groups, whatever the files have: some 30 MiB
//! for ten numbers a row.
//!
//! # Beside flushes and writers
//!
//! The thread `engine-compact` does it, and not the one that flushes: a merge of a million rows takes
//! a second or two, and a flush that waited for it would make writers wait. It holds no lock while it
//! reads and writes files, since these never change. It takes the manifest's lock twice: to get a
//! file number, and to commit, which takes a few syncs; a shard's lock never.
//!
//! **The race with a flush.** While a merge reads the file A, a flush may write A anew without the
//! rows that newer ones override, or remove it. If the merge then committed what it had read, those
//! rows would stand twice. A flush holds the manifest's lock from looking at the files until its
//! commit, and a merge looks, under the same lock, whether each of its files is still the one that
//! counts, number and generation. If one is not, **the flush has won**: what was merged is discarded,
//! and the day is looked at anew. Nothing a flush did can be lost, since a merge only ever replaces
//! files that nobody else has replaced. A flush that comes after the commit looks for the keys that
//! it overrides in the files that count then: overrides are noted by key, not by file. A day whose
//! files are overridden without a pause is merged when that ends; until then merges are begun
//! [`CONFLICTS_MAX`] times a pass at most.
//!
//! A late record that is looked up meanwhile holds the list of files that it began with; what these
//! files hold is the same in both lists. Files that were merged are deleted when the last scan that
//! reads them ends.

use std::sync::Arc;

use crate::engine::catalog::Table;
use crate::engine::{EngineError, TimeRange};

use super::columns::ColumnSet;
use super::commit::{Changes, Written};
use super::file_out::{FileOut, Finished, Target};
use super::flush::FILE_ROWS_MAX;
use super::io_error;
use super::magnetic::{Magnetic, MagneticFile};
use super::names::SeriesNames;
use super::parquet_read::{Batches, Part};
use super::parquet_write::{GROUP_ROWS, Pick};
use super::store::{SeriesId, Stamp, TableStore};

/// Files of fewer rows are merged with others.
const SMALL_ROWS: u64 = GROUP_ROWS as u64;

/// Most files of one merge: as many are open at once.
const FILES_MAX: usize = 64;

/// Bytes at which a row group is written before it has all its rows: rows of long texts.
pub(super) const GROUP_BYTES: usize = 64 << 20;

/// How often a pass begins a merge anew since a flush was faster.
pub(super) const CONFLICTS_MAX: usize = 3;

/// A layout that was not asked for yet.
const NONE: u32 = u32::MAX;

/// Files of one table and day that shall become one.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) table: Arc<Table>,
    pub(super) day: i32,
    /// In order of time.
    pub(super) files: Vec<Arc<MagneticFile>>,
}

/// The files of one day that shall become one, if there are `count` of one tier.
pub(super) fn choose(day: &[Arc<MagneticFile>], count: usize) -> Option<Vec<Arc<MagneticFile>>> {
    assert!(count >= 2, "one file is no reason to write it again");
    if day.len() < count {
        return None;
    }
    let mut tiers: Vec<Vec<&Arc<MagneticFile>>> = Vec::new();
    for file in day.iter().filter(|file| file.meta.rows < SMALL_ROWS) {
        let tier = file.meta.rows.max(1).ilog(count as u64) as usize;
        if tiers.len() <= tier {
            tiers.resize_with(tier + 1, Vec::new);
        }
        tiers[tier].push(file);
    }
    let mut files = tiers.into_iter().find(|tier| tier.len() >= count)?;
    // Neighbours in time, so that the new file spans no more than it must.
    files.sort_by_key(|file| (file.meta.time_ns_min, file.meta.number));
    let mut rows = 0;
    let fits = |file: &&&Arc<MagneticFile>| {
        rows += file.meta.rows;
        rows <= FILE_ROWS_MAX as u64
    };
    let chosen: Vec<_> =
        files.iter().take(FILES_MAX).take_while(fits).map(|file| Arc::clone(file)).collect();
    assert!(chosen.len() >= 2, "two small files always fit into one");
    Some(chosen)
}

const _: () =
    assert!(2 * SMALL_ROWS <= FILE_ROWS_MAX as u64, "two small files always fit into one");

impl Job {
    /// Whether each file still counts as it was chosen.
    pub(super) fn is_current(&self, magnetic: &Magnetic) -> bool {
        let day = magnetic.files(|files| files.day(self.table.id, self.day));
        let counts = |file: &Arc<MagneticFile>| {
            day.as_ref().is_some_and(|day| day.iter().any(|f| Arc::ptr_eq(f, file)))
        };
        self.files.iter().all(counts)
    }

    /// Writes the files' rows to one new file and says what its commit changes; `None` where
    /// `is_over` ended it.
    pub(super) fn run(
        &self,
        magnetic: &Magnetic,
        number: u64,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Changes>, EngineError> {
        let target = magnetic.target(&self.table, self.day, number, 0)?;
        let finished = self.write(magnetic, &target, is_over);
        if !matches!(finished, Ok(Some(_))) && target.path.exists() {
            let removed = magnetic.disk().remove(&target.path);
            removed.map_err(|error| io_error("delete", &target.path, error))?;
        }
        let Some(finished) = finished? else { return Ok(None) };
        let rows: u64 = self.files.iter().map(|file| file.meta.rows).sum();
        assert_eq!(finished.meta.rows, rows, "every row of the files was written once");
        let written = vec![Written::new(magnetic, &target, None, finished)];
        Ok(Some(Changes { written, removed: self.files.clone(), ..Changes::default() }))
    }

    fn write(
        &self,
        magnetic: &Magnetic,
        target: &Target,
        is_over: &dyn Fn() -> bool,
    ) -> Result<Option<Finished>, EngineError> {
        let mut columns = ColumnSet::default();
        let mut cursors = Vec::with_capacity(self.files.len());
        for file in &self.files {
            let reader = file.open()?;
            columns.see_specs(reader.specs());
            let groups = (0..reader.groups()).collect();
            let batches = reader.batches(groups, Part::Whole, GROUP_ROWS / self.files.len())?;
            cursors.push(Cursor::begin(batches)?);
        }
        let mut out = Out::new(FileOut::new(target, columns, magnetic.disk()));
        while let Some(least) = cursors.iter().map(|cursor| &cursor.order).min() {
            let least = least.clone();
            let mut members: Vec<&mut Cursor> =
                cursors.iter_mut().filter(|cursor| cursor.order == least).collect();
            merge_series(&mut members, &mut out)?;
            cursors.retain(|cursor| !cursor.is_over);
            if is_over() {
                return Ok(None);
            }
        }
        out.finish().map(Some)
    }
}

/// Copies the rows of the series that all `members` stand in, in order of time.
fn merge_series(members: &mut Vec<&mut Cursor>, out: &mut Out<'_>) -> Result<(), EngineError> {
    let mut last = None;
    out.series = None;
    while let Some((at, member)) =
        members.iter_mut().enumerate().min_by_key(|(_, member)| member.time_ns())
    {
        let time_ns = member.time_ns();
        if last.is_some_and(|last| last >= time_ns) {
            return Err(member.batches.corrupt("has a key of another file"));
        }
        last = Some(time_ns);
        out.push(member)?;
        if !member.advance()? {
            members.swap_remove(at);
        }
    }
    Ok(())
}

/// A place in a file that is being read.
#[derive(Debug)]
struct Cursor {
    batches: Batches,
    /// The batch that is being read.
    store: TableStore,
    /// The series and its row, by their places.
    series: SeriesId,
    row: usize,
    /// The order of the series.
    order: Box<[u8]>,
    /// Whether there is no row any more.
    is_over: bool,
    /// For each layout of the batch, that of the row group in the making.
    layouts: Vec<u32>,
    /// Which row group that was.
    group: u32,
}

impl Cursor {
    /// At the first row.
    fn begin(batches: Batches) -> Result<Self, EngineError> {
        let mut cursor = Self {
            batches,
            store: TableStore::default(),
            series: SeriesId(0),
            row: 0,
            order: Box::default(),
            is_over: false,
            layouts: Vec::new(),
            group: 0,
        };
        cursor.next_batch()?;
        if cursor.is_over {
            return Err(cursor.batches.corrupt("has no rows"));
        }
        Ok(cursor)
    }

    fn time_ns(&self) -> i64 {
        self.store.row(self.store.rows_of(self.series)[self.row]).time_ns()
    }

    /// Moves to the next row. Returns whether that is of the same series.
    fn advance(&mut self) -> Result<bool, EngineError> {
        assert!(!self.is_over, "a cursor that is over does not move");
        self.row += 1;
        if self.row < self.store.rows_of(self.series).len() {
            return Ok(true);
        }
        self.row = 0;
        self.series.0 += 1;
        let before = std::mem::take(&mut self.order);
        if (self.series.0 as usize) < self.store.keys().len() {
            self.order = self.store.keys()[self.series.0 as usize].order();
        } else {
            self.next_batch()?;
        }
        if !self.is_over && self.order < before {
            return Err(self.batches.corrupt("its series are out of order"));
        }
        Ok(!self.is_over && self.order == before)
    }

    fn next_batch(&mut self) -> Result<(), EngineError> {
        self.store = TableStore::default();
        self.layouts.clear();
        (self.series, self.row) = (SeriesId(0), 0);
        while self.store.is_empty() {
            if !self.batches.next(TimeRange::ALL, &mut self.store)? {
                self.is_over = true;
                return Ok(());
            }
        }
        self.order = self.store.keys()[0].order();
        Ok(())
    }
}

/// The new file, and its row group in the making.
struct Out<'t> {
    file: FileOut<'t>,
    store: TableStore,
    picks: Vec<Pick>,
    /// The series whose rows are being copied, in `store`.
    series: Option<SeriesId>,
    /// Row groups begun.
    group: u32,
}

impl<'t> Out<'t> {
    fn new(file: FileOut<'t>) -> Self {
        Self { file, store: TableStore::default(), picks: Vec::new(), series: None, group: 1 }
    }

    /// Copies the row that the cursor stands at.
    fn push(&mut self, cursor: &mut Cursor) -> Result<(), EngineError> {
        if self.picks.len() == GROUP_ROWS || self.store.bytes() >= GROUP_BYTES {
            self.write_group()?;
        }
        let key = &cursor.store.keys()[cursor.series.0 as usize];
        let store = &mut self.store;
        let series = *self.series.get_or_insert_with(|| store.series(&key.wanted(), || i64::MIN));
        let row = cursor.store.row(cursor.store.rows_of(cursor.series)[cursor.row]);
        if cursor.group != self.group {
            cursor.group = self.group;
            cursor.layouts.clear();
        }
        if cursor.layouts.len() < cursor.store.shapes().len() {
            cursor.layouts.resize(cursor.store.shapes().len(), NONE);
        }
        let layout = &mut cursor.layouts[row.chunk.layout as usize];
        if *layout == NONE {
            *layout = store.layout(row.shape.kind, &row.shape.borrowed());
        }
        let stamp = Stamp { time_ns: row.time_ns(), version: row.version() };
        let values = row.chunk.columns.iter().map(|column| column.value(row.row));
        let row = store.append_values(series, stamp, *layout, values);
        self.picks.push(Pick { source: 0, series: series.0, row });
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), EngineError> {
        let sources = [&self.store];
        self.file.write_group(&sources, &SeriesNames::of(&self.store), &self.picks)?;
        self.store = TableStore::default();
        self.picks.clear();
        self.series = None;
        self.group += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Finished, EngineError> {
        if !self.picks.is_empty() {
            self.write_group()?;
        }
        Ok(self.file.finish()?.expect("the files had rows"))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::disk::Disk;
    use super::super::manifest::FileMeta;
    use super::*;
    use crate::record::TableId;

    fn day(rows: &[u64]) -> Vec<Arc<MagneticFile>> {
        let disk = Arc::new(Disk::default());
        let file = |(number, &rows): (u64, &u64)| {
            let meta = FileMeta {
                number,
                generation: 0,
                day: 0,
                rows,
                bytes: rows,
                time_ns_min: 0,
                time_ns_max: 0,
                hash_min: 0,
                hash_max: 0,
            };
            Arc::new(MagneticFile::new(TableId(1), &meta, PathBuf::new(), &disk))
        };
        (0..).zip(rows).map(file).collect()
    }

    fn chosen(rows: &[u64], count: usize) -> Option<Vec<u64>> {
        let files = choose(&day(rows), count)?;
        Some(files.iter().map(|file| file.meta.rows).collect())
    }

    #[test]
    fn files_of_one_tier_become_one_and_large_ones_stay() {
        assert_eq!(chosen(&[600; 7], 8), None);
        assert_eq!(chosen(&[600; 8], 8), Some(vec![600; 8]));
        assert_eq!(chosen(&[600, 5_000, 600, 600, 600, 600, 600, 600, 600], 8), Some(vec![600; 8]));
        assert_eq!(chosen(&[131_072; 100], 8), None, "large ones are never written again");
        assert_eq!(chosen(&[1; 1_000], 8).map(|files| files.len()), Some(FILES_MAX));
        assert_eq!(chosen(&[131_071; 64], 64).map(|files| files.len()), Some(8));
        assert_eq!(chosen(&[2, 3], 2), Some(vec![2, 3]));
    }

    /// The bounds that the head of this module states.
    #[test]
    fn a_row_is_written_again_once_a_tier_at_most() {
        for (count, rewrites_max) in [(2, 17), (8, 6), (64, 3)] {
            // Rows of each file, and how often its most travelled row was written again.
            let mut files: Vec<(u64, u32)> = Vec::new();
            let mut most = 0;
            for flush in 0..20_000_u64 {
                files.push((1 + flush * 7 % 50, 0));
                loop {
                    let rows: Vec<u64> = files.iter().map(|file| file.0).collect();
                    let day = day(&rows);
                    let Some(job) = choose(&day, count) else { break };
                    let numbers: Vec<u64> = job.iter().map(|file| file.meta.number).collect();
                    let merged = numbers.iter().fold((0, 0), |sum, &at| {
                        let file = files[usize::try_from(at).unwrap()];
                        (sum.0 + file.0, sum.1.max(file.1 + 1))
                    });
                    most = most.max(merged.1);
                    let mut at = 0;
                    files.retain(|_| {
                        at += 1;
                        !numbers.contains(&(at - 1))
                    });
                    files.push(merged);
                }
            }
            assert!(most <= rewrites_max, "{most} times with {count}");
            let small = files.iter().filter(|file| file.0 < SMALL_ROWS).count();
            let left_max = (count - 1) * rewrites_max as usize;
            assert!(small <= left_max, "{small} small files with {count}");
        }
    }
}
