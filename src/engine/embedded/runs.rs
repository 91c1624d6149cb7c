//! Where in a file the rows of some dimensions stand, so that a reader of a few rows decodes no others.
//!
//! A file is sorted by series, and a series is ordered by the names and values of its dimensions. Rows
//! that share the values of the first few dimensions therefore stand together: a **run**, cut after
//! [`RUN_ROWS`] so that a reader of a stretch of time need not read all of a long one. The index of
//! a file for some names of dimensions says for each run which rows it is and from when to when they
//! go. It is made once, by decoding the file's keys, and kept up to [`BYTES_MAX`] for all files; what
//! was not used for longest goes first. Runs are told apart by a hash of the values, so whoever reads
//! one compares the values too.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use foldhash::fast::RandomState;

use crate::engine::catalog::erasure::hash_of;
use crate::engine::{EngineError, TimeRange};

use super::flusher::lock;
use super::magnetic::MagneticFile;
use super::parquet_read::Part;
use super::series::SeriesKey;
use super::store::{SeriesId, TableStore};

/// Most bytes of indexes that are kept.
const BYTES_MAX: usize = 64 << 20;

/// Rows after which a run is cut.
const RUN_ROWS: u64 = 512;

/// Rows whose keys are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Rows of a file that stand together and share the values of some dimensions.
#[derive(Debug, Clone)]
pub(super) struct Run {
    hash: u64,
    /// Counted through the whole file, from 0.
    pub(super) rows: Range<u64>,
    pub(super) time_ns_min: i64,
    pub(super) time_ns_max: i64,
}

impl Run {
    /// Whether a row at `first` whose values have this hash belongs to it.
    const fn goes_on_with(&self, hash: u64, first: u64) -> bool {
        let is_full = self.rows.end - self.rows.start >= RUN_ROWS;
        self.hash == hash && self.rows.end == first && !is_full
    }
}

/// The runs of one file, by hash.
#[derive(Debug)]
pub(super) struct RunIndex {
    runs: Box<[Run]>,
}

impl RunIndex {
    /// The runs whose values have this hash.
    pub(super) fn of(&self, hash: u64) -> &[Run] {
        let begin = self.runs.partition_point(|run| run.hash < hash);
        let end = self.runs.partition_point(|run| run.hash <= hash);
        &self.runs[begin..end]
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + std::mem::size_of_val(&*self.runs)
    }
}

/// A file's number and generation, and a hash of the names.
type Key = (u64, u32, u64);

/// The indexes that are kept.
#[derive(Debug, Default)]
pub(super) struct Runs {
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<Key, (Arc<RunIndex>, u64), RandomState>,
    bytes: usize,
    /// Counts uses, to find what was not used for longest.
    uses: u64,
}

impl Cache {
    fn get(&mut self, key: Key) -> Option<Arc<RunIndex>> {
        self.uses += 1;
        let (index, used) = self.entries.get_mut(&key)?;
        *used = self.uses;
        Some(Arc::clone(index))
    }

    fn put(&mut self, key: Key, index: Arc<RunIndex>) {
        self.uses += 1;
        self.bytes += index.bytes();
        if let Some((before, _)) = self.entries.insert(key, (index, self.uses)) {
            self.bytes -= before.bytes();
        }
        while self.bytes > BYTES_MAX && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, (_, used))| used);
            let oldest = *oldest.expect("there are entries").0;
            let (index, _) = self.entries.remove(&oldest).expect("just found");
            self.bytes -= index.bytes();
        }
    }
}

impl Runs {
    /// The file's index for these names, which are sorted; costs a decoding of its keys unless it is kept.
    pub(super) fn of(
        &self,
        file: &MagneticFile,
        names: &[&str],
    ) -> Result<Arc<RunIndex>, EngineError> {
        assert!(names.is_sorted(), "one list of names has one index");
        let key = (file.meta.number, file.meta.generation, hash_of(names.iter().copied()));
        if let Some(index) = lock(&self.cache).get(key) {
            return Ok(index);
        }
        let index = Arc::new(RunIndex { runs: runs_of(file, names)?.into_boxed_slice() });
        lock(&self.cache).put(key, Arc::clone(&index));
        Ok(index)
    }
}

fn runs_of(file: &MagneticFile, names: &[&str]) -> Result<Vec<Run>, EngineError> {
    let reader = file.open()?;
    let groups = (0..reader.groups()).collect();
    let mut batches = reader.batches(groups, Part::Keys, BATCH_ROWS)?;
    let mut runs: Vec<Run> = Vec::new();
    let mut row = 0;
    loop {
        let mut store = TableStore::default();
        if !batches.next(TimeRange::ALL, &mut store)? {
            break;
        }
        for (at, key) in (0..).map(SeriesId).zip(store.keys().iter()) {
            let rows = store.rows_of(at);
            let first = row;
            row += rows.len() as u64;
            let Some(hash) = hash_in(key, names) else { continue };
            let times = rows.iter().map(|&id| store.row(id).time_ns());
            let time_ns_min = times.clone().min().expect("a series that was read has rows");
            let time_ns_max = times.max().expect("a series that was read has rows");
            match runs.last_mut() {
                Some(last) if last.goes_on_with(hash, first) => {
                    last.rows.end = row;
                    last.time_ns_min = last.time_ns_min.min(time_ns_min);
                    last.time_ns_max = last.time_ns_max.max(time_ns_max);
                }
                _ => runs.push(Run { hash, rows: first..row, time_ns_min, time_ns_max }),
            }
        }
    }
    assert_eq!(row, file.meta.rows, "every row of the file was met");
    runs.sort_by_key(|run| (run.hash, run.rows.start));
    Ok(runs)
}

/// The hash of a series' values of these dimensions; `None` where it lacks one.
fn hash_in(key: &SeriesKey, names: &[&str]) -> Option<u64> {
    let values: Option<Vec<&str>> = names.iter().map(|name| key.value(name)).collect();
    Some(hash_of(values?.into_iter()))
}
