//! A file written anew without some of its rows, a few rows at a time.
//!
//! A late update and an erasure take rows out of a file. How large that can be is bounded in rows: a merge
//! makes files of at most `FILE_ROWS_MAX` ([`super::flush`]), a flush of `LARGEST_FILE` times as many
//! ([`super::order`]), or of one moment as many as were in memory. It is bounded in bytes by nothing: a million
//! rows of long texts are more than memory holds. So a file is never decoded as a whole. What is in memory
//! at once, whatever the file has:
//!
//! | what | at most | source |
//! |---|---|---|
//! | the rows that were read last | [`BATCH_ROWS`] rows, some 32 MiB | [`super::parquet_read`] |
//! | the row group in the making | [`GROUP_ROWS`] rows or [`GROUP_BYTES`], and once more as the writer has it | [`super::compact`] |
//! | series, times and versions of one row group, while rows are looked for | [`GROUP_ROWS`] rows | [`rows_in`] |
//! | the index of the new file | its entries, and keys up to their bound | [`super::index`] |
//!
//! Beside these, rows that are larger than the bounds are in memory one at a time. `tests/engine_memory.rs`
//! takes rows out of a file of a gibibyte of texts: 179 MiB at most for an update, 297 for an erasure of a
//! fifth, where the file decoded would be the gibibyte.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::engine::{EngineError, TimeRange};

use super::column::RowId;
use super::columns::ColumnSet;
use super::compact::GROUP_BYTES;
use super::disk::Disk;
use super::file_out::{FileOut, Finished, Target};
use super::index::FileIndex;
use super::magnetic::MagneticFile;
use super::names::SeriesNames;
use super::parquet_read::{Part, Reader};
use super::parquet_write::{GROUP_ROWS, Pick};
use super::series::SeriesKey;
use super::store::{SeriesId, Stamp, TableStore};

/// Rows that are read at a time: some of them may be long texts.
const BATCH_ROWS: usize = 1024;

/// A layout that was not asked for yet.
const NONE: u32 = u32::MAX;

type Times = HashSet<i64, RandomState>;

/// Keys of rows.
#[derive(Debug, Default)]
pub(super) struct RowKeys {
    /// By the hash of the series, of which several may have one.
    of_series: HashMap<u64, Vec<(Arc<SeriesKey>, Times)>, RandomState>,
    count: u64,
}

impl RowKeys {
    fn insert(&mut self, key: &Arc<SeriesKey>, time_ns: i64) {
        let of_hash = self.of_series.entry(key.hash).or_default();
        let known = of_hash.iter().position(|(known, _)| known.is_of(&key.wanted()));
        let at = known.unwrap_or_else(|| {
            of_hash.push((Arc::clone(key), Times::default()));
            of_hash.len() - 1
        });
        self.count += u64::from(of_hash[at].1.insert(time_ns));
    }

    /// How many there are.
    pub(super) const fn len(&self) -> u64 {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The times of rows of this series.
    pub(super) fn times(&self, key: &SeriesKey) -> Option<&Times> {
        let of_hash = self.of_series.get(&key.hash)?;
        of_hash.iter().find(|(known, _)| known.is_of(&key.wanted())).map(|(_, times)| times)
    }
}

/// Those of `keys`, series and time, of which the file has a row. Decodes the keys of those row groups
/// that may have one, one after the other.
pub(super) fn rows_in(
    reader: &Reader,
    index: &FileIndex,
    keys: &[(&Arc<SeriesKey>, i64)],
) -> Result<RowKeys, EngineError> {
    let mut of_groups: BTreeMap<u32, Vec<(&Arc<SeriesKey>, i64)>> = BTreeMap::new();
    for &(key, time_ns) in keys {
        for entry in index.find(&key.wanted(), time_ns) {
            of_groups.entry(entry.group).or_default().push((key, time_ns));
        }
    }
    let mut found = RowKeys::default();
    for (group, keys) in of_groups {
        let mut store = TableStore::default();
        reader.read(vec![group as usize], Part::Keys, TimeRange::ALL, &mut store)?;
        for (key, time_ns) in keys {
            let series = store.find_series(&key.wanted());
            if series.is_some_and(|series| store.find_row(series, time_ns).is_some()) {
                found.insert(key, time_ns);
            }
        }
    }
    assert!(found.count <= keys.len() as u64, "nothing is found that was not looked for");
    Ok(found)
}

/// Rows of a series as they were read: which of them stay.
pub(super) type Choose<'c> = dyn FnMut(&SeriesKey, &TableStore, &[RowId], &mut Vec<RowId>) + 'c;

/// Writes the rows of a file that `choose` lets stay. Returns what was written, `None` where none stays,
/// and how many do not.
pub(super) fn copy(
    file: &MagneticFile,
    target: &Target,
    disk: &Arc<Disk>,
    choose: &mut Choose<'_>,
) -> Result<(Option<Finished>, u64), EngineError> {
    let reader = file.open()?;
    let mut columns = ColumnSet::default();
    columns.see_specs(reader.specs());
    let mut out = Out {
        file: FileOut::new(target, columns, disk),
        group: TableStore::default(),
        picks: Vec::new(),
        layouts: Vec::new(),
    };
    let (mut staying, mut gone) = (Vec::new(), 0);
    let groups = (0..reader.groups()).collect();
    let mut batches = reader.batches(groups, Part::Whole, BATCH_ROWS)?;
    loop {
        let mut batch = TableStore::default();
        if !batches.next(TimeRange::ALL, &mut batch)? {
            break;
        }
        out.layouts.clear();
        for (at, key) in (0..).map(SeriesId).zip(batch.keys().iter()) {
            let rows = batch.rows_of(at);
            staying.clear();
            choose(key, &batch, rows, &mut staying);
            gone += (rows.len() - staying.len()) as u64;
            staying.iter().try_for_each(|&row| out.push(key, &batch, row))?;
        }
    }
    out.write_group()?;
    Ok((out.file.finish()?, gone))
}

/// The new file, and its row group in the making.
struct Out<'t> {
    file: FileOut<'t>,
    group: TableStore,
    picks: Vec<Pick>,
    /// For each layout of the batch, that of the group.
    layouts: Vec<u32>,
}

impl Out<'_> {
    fn push(&mut self, key: &SeriesKey, batch: &TableStore, row: RowId) -> Result<(), EngineError> {
        if self.picks.len() == GROUP_ROWS || self.group.bytes() >= GROUP_BYTES {
            self.write_group()?;
        }
        let (group, row) = (&mut self.group, batch.row(row));
        let series = group.series(&key.wanted(), || i64::MIN);
        if self.layouts.len() < batch.shapes().len() {
            self.layouts.resize(batch.shapes().len(), NONE);
        }
        let layout = &mut self.layouts[row.chunk.layout as usize];
        if *layout == NONE {
            *layout = group.layout(row.shape.kind, &row.shape.borrowed());
        }
        let stamp = Stamp { time_ns: row.time_ns(), version: row.version() };
        let values = row.chunk.columns.iter().map(|column| column.value(row.row));
        let row = group.append_values(series, stamp, *layout, values);
        self.picks.push(Pick { source: 0, series: series.0, row });
        Ok(())
    }

    fn write_group(&mut self) -> Result<(), EngineError> {
        if self.picks.is_empty() {
            return Ok(());
        }
        let group = std::mem::take(&mut self.group);
        self.file.write_group(&[&group], &SeriesNames::of(&group), &self.picks)?;
        self.picks.clear();
        self.layouts.clear();
        Ok(())
    }
}
