//! Reading the newest rows of some dimensions, without looking at the rest of the table.
//!
//! Memory is searched by the keys of its series. Files are searched day by day, the latest first, by
//! their runs ([`super::runs`]), until there are as many rows as were asked for and no earlier day can
//! have a later one. Keys alone are compared; the values of the rows that were found are read last,
//! [`READ_ROWS`] at a time, from the pages that hold them.
//!
//! Memory for: one key a row asked for, the keys of [`super::parquet_read`]'s batch, and the values of
//! [`READ_ROWS`] rows of files and of the rows found in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

use crate::engine::catalog::Hidden;
use crate::engine::catalog::erasure::hash_of;
use crate::engine::{EngineError, Row, Selection, TimeRange};
use crate::record::request::Attributes;
use crate::record::{TableId, varint};

use super::files::TableFiles;
use super::flusher::lock;
use super::magnetic::MagneticFile;
use super::parquet_read::{Part, is_inside};
use super::partition::day_end;
use super::runs::{Run, Runs};
use super::scan::Each;
use super::series::SeriesKey;
use super::store::{RowRef, SeriesId, Stamp, TableStore};
use super::write::ShardState;

/// Rows of a file whose values are read at a time: each may be as long as a value can be.
const READ_ROWS: usize = 8;

/// Rows whose keys are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// What a search works with.
pub(super) struct Search<'s> {
    pub(super) table: TableId,
    pub(super) selection: Selection<'s>,
    /// Taken before anything is read.
    pub(super) hidden: Arc<Hidden>,
}

/// Where a row is that was found.
#[derive(Debug)]
enum At {
    /// In a copy of what memory had: which, and where in it.
    Memory {
        copy: usize,
        series: SeriesId,
        row: super::column::RowId,
    },
    File {
        file: Arc<MagneticFile>,
        row: u64,
    },
}

/// The newest rows so far, by time and tie.
struct Newest {
    rows_max: usize,
    found: BTreeMap<(i64, Box<str>), At>,
}

impl Newest {
    /// The time before which nothing is of interest any more.
    fn floor_ns(&self) -> i64 {
        match self.found.first_key_value() {
            Some(((time_ns, _), _)) if self.found.len() >= self.rows_max => *time_ns,
            _ => i64::MIN,
        }
    }

    fn wants(&self, time_ns: i64, tie: &str) -> bool {
        if self.found.len() < self.rows_max {
            return true;
        }
        let least = self.found.first_key_value();
        least.is_some_and(|((time, known), _)| (*time, &**known) < (time_ns, tie))
    }

    /// Keeps a row, unless one with its key was found before, in a newer layer.
    fn put(&mut self, time_ns: i64, tie: &str, at: At) {
        self.found.entry((time_ns, tie.into())).or_insert(at);
        if self.found.len() > self.rows_max {
            self.found.pop_first();
        }
    }
}

/// Tells series with all of some dimensions from others; most by comparing bytes.
struct Wish<'w> {
    dimensions: &'w [(&'w str, &'w str)],
    /// The values, as keys encode them.
    prefix: Vec<u8>,
    /// By the address of a family: whether its first names are those that are wanted.
    families: HashMap<usize, bool>,
}

impl<'w> Wish<'w> {
    fn new(dimensions: &'w [(&'w str, &'w str)]) -> Self {
        let mut prefix = Vec::new();
        for (_, value) in dimensions {
            varint::put_bytes(&mut prefix, value.as_bytes());
        }
        Self { dimensions, prefix, families: HashMap::new() }
    }

    fn is_met_by(&mut self, key: &SeriesKey) -> bool {
        let address = Arc::as_ptr(&key.family).addr();
        let is_first = *self.families.entry(address).or_insert_with(|| {
            let wanted = self.dimensions.iter().map(|(name, _)| *name);
            key.family.family().names().take(self.dimensions.len()).eq(wanted)
        });
        if is_first {
            return key.begins_with(&self.prefix);
        }
        self.dimensions.iter().all(|(name, value)| key.value(name) == Some(value))
    }
}

impl Search<'_> {
    /// Whether a row is one of those that are looked for; its dimensions were compared.
    fn takes(&self, key: &SeriesKey, time_ns: i64, version: i64) -> bool {
        let Selection { range, tie, before, .. } = self.selection;
        if !is_inside(range, time_ns) {
            return false;
        }
        if let Some(before) = before
            && (time_ns, key.value(tie).unwrap_or("")) >= before
        {
            return false;
        }
        if version > self.hidden.number_max() {
            return true;
        }
        let dimensions: Vec<_> = key.dimensions().collect();
        !self.hidden.hides(&dimensions, version)
    }

    /// Finds and shows the rows. Memory is read before `files` is called, so that what is flushed
    /// meanwhile is found in one of them, or in both.
    pub(super) fn run(
        &self,
        shards: &[Mutex<ShardState>],
        files: impl FnOnce() -> Option<Arc<TableFiles>>,
        runs: &Runs,
        each: &mut Each<'_>,
    ) -> Result<(), EngineError> {
        let mut newest = Newest { rows_max: self.selection.rows_max, found: BTreeMap::new() };
        let mut copies = Vec::new();
        if newest.rows_max == 0 {
            return Ok(());
        }
        for shard in shards {
            self.search_memory(&lock(shard), &mut newest, &mut copies);
        }
        if let Some(files) = files() {
            self.search_files(&files, runs, &mut newest)?;
        }
        show(newest, &copies, each)
    }

    fn search_memory(&self, state: &ShardState, newest: &mut Newest, copies: &mut Vec<TableStore>) {
        let Selection { tie, .. } = self.selection;
        let frozen = state.frozen.iter().filter_map(|frozen| frozen.tables.get(&self.table));
        let stores: Vec<&TableStore> = frozen.chain(state.active.get(&self.table)).collect();
        // Newer stores first: of rows with one key the first stands.
        let mut found: BTreeMap<(i64, &str), (RowRef<'_>, &SeriesKey)> = BTreeMap::new();
        for store in stores.into_iter().rev() {
            let mut wish = Wish::new(self.selection.dimensions);
            for (at, key) in (0..).map(SeriesId).zip(store.keys().iter()) {
                // The rows first: of a series that only is known still, the key need not be fetched.
                if store.standing(at).next().is_none() || !wish.is_met_by(key) {
                    continue;
                }
                let of_tie = key.value(tie).unwrap_or("");
                for id in store.standing(at) {
                    let row = store.row(id);
                    let time_ns = row.time_ns();
                    if !self.takes(key, time_ns, row.version()) || !newest.wants(time_ns, of_tie) {
                        continue;
                    }
                    found.entry((time_ns, of_tie)).or_insert((row, key));
                    if found.len() > newest.rows_max {
                        found.pop_first();
                    }
                }
            }
        }
        let mut copy = TableStore::default();
        for ((time_ns, tie), (row, key)) in found {
            let mut attributes = Attributes::new();
            row.attributes(&mut attributes);
            let series = copy.series(&key.wanted(), || i64::MIN);
            let stamp = Stamp { time_ns, version: row.version() };
            let row = copy.append(series, stamp, row.shape.kind, &attributes);
            newest.put(time_ns, tie, At::Memory { copy: copies.len(), series, row });
        }
        copies.push(copy);
    }

    fn search_files(
        &self,
        files: &TableFiles,
        runs: &Runs,
        newest: &mut Newest,
    ) -> Result<(), EngineError> {
        let names: Vec<&str> = self.selection.dimensions.iter().map(|(name, _)| *name).collect();
        let hash = hash_of(self.selection.dimensions.iter().map(|(_, value)| *value));
        let mut range = self.selection.range;
        if let Some((time_ns, _)) = self.selection.before {
            range.to_ns = range.to_ns.min(time_ns.saturating_add(1));
        }
        for (&day, of_day) in files.days().iter().rev() {
            if day_end(day) <= range.from_ns.max(newest.floor_ns()) {
                return Ok(());
            }
            for file in &**of_day {
                if !overlaps((file.meta.time_ns_min, file.meta.time_ns_max), range) {
                    continue;
                }
                let index = runs.of(file, &names)?;
                let in_range = |run: &&Run| overlaps((run.time_ns_min, run.time_ns_max), range);
                let mut of_form: Vec<&Run> = index.of(hash).iter().filter(in_range).collect();
                // The latest first: most of the others are then too old to be looked at.
                of_form.sort_by_key(|run| Reverse(run.time_ns_max));
                for run in of_form {
                    if run.time_ns_max >= newest.floor_ns() {
                        self.search_run(file, run.rows.clone(), newest)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn search_run(
        &self,
        file: &Arc<MagneticFile>,
        rows: Range<u64>,
        newest: &mut Newest,
    ) -> Result<(), EngineError> {
        let mut at = rows.start;
        let mut batches = file.open()?.selected(&[rows], Part::Keys, BATCH_ROWS)?;
        loop {
            let mut store = TableStore::default();
            if !batches.next(TimeRange::ALL, &mut store)? {
                return Ok(());
            }
            let mut wish = Wish::new(self.selection.dimensions);
            for (series, key) in (0..).map(SeriesId).zip(store.keys().iter()) {
                // Another run may have the same hash.
                let is_met = wish.is_met_by(key);
                let tie = key.value(self.selection.tie).unwrap_or("");
                for &id in store.rows_of(series) {
                    let (row, place) = (store.row(id), at);
                    at += 1;
                    let time_ns = row.time_ns();
                    let is_wanted = is_met && newest.wants(time_ns, tie);
                    if is_wanted && self.takes(key, time_ns, row.version()) {
                        let file = Arc::clone(file);
                        newest.put(time_ns, tie, At::File { file, row: place });
                    }
                }
            }
        }
    }
}

/// Whether times from the first to the last may be in the range.
const fn overlaps(times: (i64, i64), range: TimeRange) -> bool {
    times.1 >= range.from_ns && (times.0 < range.to_ns || range.to_ns == i64::MAX)
}

/// Shows what was found, the newest first.
fn show(newest: Newest, copies: &[TableStore], each: &mut Each<'_>) -> Result<(), EngineError> {
    let mut found: Vec<At> = newest.found.into_values().rev().collect();
    while let Some(first) = found.first() {
        let (shown, flow) = match first {
            At::Memory { copy, series, row } => {
                let store = &copies[*copy];
                (1, show_row(store, *series, store.row(*row), each))
            }
            At::File { file, .. } => {
                let of_file = found.iter().map_while(|at| match at {
                    At::File { file: other, row } if Arc::ptr_eq(file, other) => Some(*row),
                    At::File { .. } | At::Memory { .. } => None,
                });
                let rows: Vec<u64> = of_file.take(READ_ROWS).collect();
                (rows.len(), show_of_file(file, &rows, each)?)
            }
        };
        if flow.is_break() {
            return Ok(());
        }
        found.drain(..shown);
    }
    Ok(())
}

/// Shows these rows of a file, in this order.
fn show_of_file(
    file: &MagneticFile,
    rows: &[u64],
    each: &mut Each<'_>,
) -> Result<ControlFlow<()>, EngineError> {
    let mut sorted: Vec<u64> = rows.to_vec();
    sorted.sort_unstable();
    let ranges: Vec<Range<u64>> = sorted.iter().map(|&row| row..row + 1).collect();
    let mut store = TableStore::default();
    let mut batches = file.open()?.selected(&ranges, Part::Whole, READ_ROWS)?;
    while batches.next(TimeRange::ALL, &mut store)? {}
    // Rows come as they stand in the file, which is in order of series and time.
    let mut places = Vec::with_capacity(rows.len());
    for series in (0..).map(SeriesId).take(store.keys().len()) {
        places.extend(store.rows_of(series).iter().map(|&id| (series, id)));
    }
    assert_eq!(places.len(), rows.len(), "a file has the rows that its keys say");
    for row in rows {
        let at = sorted.binary_search(row).expect("it was sorted from these");
        let (series, id) = places[at];
        if show_row(&store, series, store.row(id), each).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn show_row(
    store: &TableStore,
    series: SeriesId,
    row: RowRef<'_>,
    each: &mut Each<'_>,
) -> ControlFlow<()> {
    let key = &store.keys()[series.0 as usize];
    let dimensions: Vec<_> = key.dimensions().collect();
    let mut attributes = Attributes::new();
    row.attributes(&mut attributes);
    each(&Row {
        measure_name: key.family.family().measure_name,
        dimensions: &dimensions,
        kind: row.shape.kind,
        attributes: &attributes,
        time_ns: row.time_ns(),
        version: row.version(),
    })
}
