//! Reading a table: memory and files merged, in order of time and series, one row a key.
//!
//! A snapshot is a list of chunks and files that never change. It is read in **windows** of time, each
//! small enough that its rows fit in memory: the stretch asked for is halved until a window has at
//! most [`WINDOW_ROWS`] rows, and [`WINDOW_BYTES`] of files, by the bounds of its chunks and row groups. A
//! window is loaded, sorted and shown, then forgotten.
//!
//! Cost: memory for a window's rows; each file's footer is read once, and the file decoded once for each
//! window that touches it.
//! Files hold rows that follow each other in time, so for telemetry that came in order it is one or
//! two windows a file; for a file that spans much time beside many others it is one a window.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::engine::{EngineError, Row, TimeRange};
use crate::record::request::Attributes;

use super::column::Chunk;
use super::keys::Keys;
use super::layout::Shape;
use super::magnetic::MagneticFile;
use super::names::rank;
use super::parquet_read::{Part, is_inside};
use super::series::SeriesKey;
use super::store::{RowRef, TableStore};

/// About how many rows are in memory at a time.
const WINDOW_ROWS: u64 = 1 << 20;

/// About how many bytes of files, as they are in memory, are decoded for a window, for the sake of rows of
/// long texts.
const WINDOW_BYTES: u64 = 64 << 20;

/// Rows of one store as they stood at one moment.
#[derive(Debug)]
pub(super) struct Source {
    keys: Keys,
    shapes: Vec<Arc<Shape>>,
    chunks: Vec<Arc<Chunk>>,
}

impl Source {
    /// Copies what it must, shares the rest.
    pub(super) fn of(store: &TableStore) -> Self {
        Self {
            keys: store.keys().clone(),
            shapes: store.shapes().to_vec(),
            chunks: store.snapshot(),
        }
    }
}

/// A table as it stood at one moment.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Newer rows of a series stand in later sources.
    pub(super) memory: Vec<Source>,
    /// Among them at most one row a key; memory's are newer.
    pub(super) files: Vec<Arc<MagneticFile>>,
}

/// A row of a window.
#[derive(Debug, Clone, Copy)]
struct Entry {
    time_ns: i64,
    rank: u32,
    /// Of rows with one key the greatest (source, arrival) stands.
    source: u32,
    arrival: u32,
    chunk: u32,
    row: u32,
}

/// A stretch of time in which there are rows.
#[derive(Debug, Clone, Copy)]
struct Piece {
    time_ns_min: i64,
    time_ns_max: i64,
    rows: u64,
    /// In a file; what is in memory is there anyway.
    bytes: u64,
}

impl Piece {
    /// A file as a whole.
    fn of(file: &MagneticFile) -> Self {
        Self {
            time_ns_min: file.meta.time_ns_min,
            time_ns_max: file.meta.time_ns_max,
            rows: file.meta.rows,
            bytes: file.meta.bytes,
        }
    }

    /// About how many of the rows are in `range`, if they are spread evenly.
    fn rows_in(&self, range: TimeRange) -> u64 {
        self.part_in(range, self.rows)
    }

    /// About how many of the bytes are.
    fn bytes_in(&self, range: TimeRange) -> u64 {
        self.part_in(range, self.bytes)
    }

    fn part_in(&self, range: TimeRange, of: u64) -> u64 {
        let from = self.time_ns_min.max(range.from_ns);
        let to = if range.to_ns == i64::MAX { i64::MAX } else { range.to_ns - 1 };
        let to = self.time_ns_max.min(to);
        if from > to {
            return 0;
        }
        let part = i128::from(to) - i128::from(from) + 1;
        let whole = i128::from(self.time_ns_max) - i128::from(self.time_ns_min) + 1;
        let part = (i128::from(of) * part + whole - 1) / whole;
        u64::try_from(part).expect("a part of what it has")
    }
}

/// Whoever hears the rows.
pub(super) type Each<'e> = dyn FnMut(&Row<'_>) -> ControlFlow<()> + 'e;

impl Snapshot {
    /// Shows the rows in `range`.
    pub(super) fn scan(&self, range: TimeRange, each: &mut Each<'_>) -> Result<(), EngineError> {
        self.scan_by(WINDOW_ROWS, range, each)
    }

    /// Shows the rows in `range`, about `window_rows` at a time.
    fn scan_by(
        &self,
        window_rows: u64,
        range: TimeRange,
        each: &mut Each<'_>,
    ) -> Result<(), EngineError> {
        let pieces = self.pieces(range)?;
        let mut windows = vec![range];
        while let Some(window) = windows.pop() {
            let rows: u64 = pieces.iter().map(|piece| piece.rows_in(window)).sum();
            if rows == 0 {
                continue;
            }
            let bytes: u64 = pieces.iter().map(|piece| piece.bytes_in(window)).sum();
            if (rows > window_rows || bytes > WINDOW_BYTES)
                && let Some((first, second)) = halves(window, &pieces)
            {
                windows.push(second);
                windows.push(first);
                continue;
            }
            if self.show(window, each)?.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The chunks, and the row groups of the files with rows in `range`.
    fn pieces(&self, range: TimeRange) -> Result<Vec<Piece>, EngineError> {
        let of_chunk = |chunk: &Arc<Chunk>| Piece {
            time_ns_min: chunk.time_ns_min,
            time_ns_max: chunk.time_ns_max,
            rows: chunk.rows() as u64,
            bytes: 0,
        };
        let chunks = self.memory.iter().flat_map(|source| &source.chunks).map(of_chunk);
        let mut pieces: Vec<Piece> = chunks.filter(|piece| piece.rows > 0).collect();
        for file in self.files.iter().filter(|file| Piece::of(file).rows_in(range) > 0) {
            let (reader, whole) = (file.open()?, Piece::of(file));
            assert!(whole.time_ns_min <= whole.time_ns_max, "it has rows in the range");
            pieces.extend((0..reader.groups()).map(|group| {
                let (rows, times) = reader.group(group);
                Piece {
                    // A group that does not say its times has them anywhere in the file.
                    time_ns_min: times.from_ns.max(whole.time_ns_min),
                    time_ns_max: times.to_ns.saturating_sub(1).min(whole.time_ns_max),
                    rows,
                    bytes: reader.group_bytes(group),
                }
            }));
        }
        Ok(pieces)
    }

    /// Loads, sorts and shows one window.
    fn show(&self, window: TimeRange, each: &mut Each<'_>) -> Result<ControlFlow<()>, EngineError> {
        let mut sources: Vec<Source> = Vec::new();
        for file in &self.files {
            if Piece::of(file).rows_in(window) > 0 {
                sources.push(load(file, window)?);
            }
        }
        let sources: Vec<&Source> = sources.iter().chain(&self.memory).collect();
        let mut entries = Vec::new();
        for (at, source) in (0_u32..).zip(&sources) {
            gather(source, at, window, &mut entries);
        }
        let (firsts, keys) = rank_used(&sources, &mut entries);
        assert_eq!(firsts, sources.len(), "every source's series were ranked");
        // Newest first among equal keys, so that the first is the one that stands.
        entries.sort_unstable_by(|a, b| {
            (a.time_ns, a.rank, b.source, b.arrival).cmp(&(b.time_ns, b.rank, a.source, a.arrival))
        });
        entries.dedup_by_key(|entry| (entry.time_ns, entry.rank));
        let names: Vec<(&str, Vec<(&str, &str)>)> = keys
            .iter()
            .map(|key| (key.family.family().measure_name, key.dimensions().collect()))
            .collect();
        let mut attributes = Attributes::new();
        for entry in &entries {
            let source = sources[entry.source as usize];
            let chunk = &source.chunks[entry.chunk as usize];
            let shape = &source.shapes[chunk.layout as usize];
            let row = RowRef { chunk, shape, row: entry.row as usize };
            attributes.clear();
            row.attributes(&mut attributes);
            let (measure_name, dimensions) = &names[entry.rank as usize];
            let shown = Row {
                measure_name,
                dimensions,
                kind: shape.kind,
                attributes: &attributes,
                time_ns: entry.time_ns,
                version: row.version(),
            };
            if each(&shown).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The two halves of the part of a window in which there are rows; `None` if they share one time.
fn halves(window: TimeRange, pieces: &[Piece]) -> Option<(TimeRange, TimeRange)> {
    let inside = pieces.iter().filter(|piece| piece.rows_in(window) > 0);
    let first = inside.clone().map(|piece| piece.time_ns_min).min()?.max(window.from_ns);
    let last = inside.map(|piece| piece.time_ns_max).max()?;
    let last = if window.to_ns == i64::MAX { last } else { last.min(window.to_ns - 1) };
    assert!(first <= last, "a window with rows has a first and a last time");
    if first == last {
        return None;
    }
    // Halfway, rounded down, and one further: both halves are shorter than the whole.
    let middle = i64::midpoint(first, last) + 1;
    let middle = if middle <= first { first + 1 } else { middle };
    Some((
        TimeRange { from_ns: window.from_ns, to_ns: middle },
        TimeRange { from_ns: middle, to_ns: window.to_ns },
    ))
}

/// The rows of a file that are in the window.
fn load(file: &MagneticFile, window: TimeRange) -> Result<Source, EngineError> {
    let reader = file.open()?;
    let groups: Vec<usize> = (0..reader.groups())
        .filter(|&group| {
            let (rows, range) = reader.group(group);
            rows > 0
                && is_inside(TimeRange { to_ns: i64::MAX, ..window }, range.to_ns.saturating_sub(1))
                && (window.to_ns == i64::MAX || range.from_ns < window.to_ns)
        })
        .collect();
    let mut store = TableStore::default();
    reader.read(groups, Part::Whole, window, &mut store)?;
    store.seal();
    Ok(Source::of(&store))
}

/// Adds the rows of a source that are in the window; their rank is the series' place in the source
/// for now.
fn gather(source: &Source, at: u32, window: TimeRange, entries: &mut Vec<Entry>) {
    for (place, chunk) in (0_u32..).zip(&source.chunks) {
        let is_beside = chunk.time_ns_max < window.from_ns
            || window.to_ns != i64::MAX && chunk.time_ns_min >= window.to_ns;
        if is_beside {
            continue;
        }
        for (row, &time_ns) in (0_u32..).zip(&chunk.times) {
            if is_inside(window, time_ns) {
                entries.push(Entry {
                    time_ns,
                    rank: chunk.series[row as usize],
                    source: at,
                    arrival: chunk.arrivals[row as usize],
                    chunk: place,
                    row,
                });
            }
        }
    }
}

/// Gives the entries the ranks of their series among those that the window has. Returns how many
/// sources there were, and the keys by rank.
fn rank_used<'s>(
    sources: &[&'s Source],
    entries: &mut [Entry],
) -> (usize, Vec<&'s Arc<SeriesKey>>) {
    let mut used: Vec<Vec<u32>> =
        sources.iter().map(|source| vec![u32::MAX; source.keys.len()]).collect();
    for entry in entries.iter() {
        used[entry.source as usize][entry.rank as usize] = 0;
    }
    let keys = sources.iter().zip(&used).flat_map(|(source, used)| {
        source.keys.iter().zip(used).filter(|(_, used)| **used == 0).map(|(key, _)| key)
    });
    let (ranks, distinct) = rank(keys);
    let mut ranks = ranks.into_iter();
    for place in used.iter_mut().flatten().filter(|place| **place == 0) {
        *place = ranks.next().expect("one a series that is used");
    }
    for entry in entries {
        entry.rank = used[entry.source as usize][entry.rank as usize];
    }
    (used.len(), distinct)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::embedded::series::FamilyKey;
    use crate::engine::embedded::store::Stamp;
    use crate::record::{MeasureKind, TableId, Value};

    /// Two series, each with rows at `times`.
    fn store(times: &(impl Iterator<Item = i64> + Clone)) -> TableStore {
        let mut store = TableStore::default();
        for name in ["b", "a"] {
            let family = Arc::new(FamilyKey::of(TableId(1), name, std::iter::empty()));
            let series = store.add_series(Arc::new(SeriesKey::of(family, &[])), i64::MIN);
            for time_ns in times.clone() {
                let stamp = Stamp { time_ns, version: 1 };
                let value = [("", Value::Bigint(time_ns))];
                let row = store.append(series, stamp, MeasureKind::Scalar, &value);
                store.index_late(series, row, time_ns);
            }
        }
        store
    }

    fn scan(snapshot: &Snapshot, window_rows: u64, range: TimeRange) -> Vec<(i64, String)> {
        let mut seen = Vec::new();
        let mut each = |row: &Row<'_>| {
            seen.push((row.time_ns, row.measure_name.to_owned()));
            ControlFlow::Continue(())
        };
        snapshot.scan_by(window_rows, range, &mut each).unwrap();
        seen
    }

    #[test]
    fn windows_of_any_size_show_the_same() {
        let ends = [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX];
        let stores = [
            store(&(0..3000).map(|at| at * 7)),
            store(&(0..10).map(|_| 5)),
            store(&ends.into_iter()),
        ];
        let snapshot =
            Snapshot { memory: stores.iter().map(Source::of).collect(), files: Vec::new() };
        for range in [TimeRange::ALL, TimeRange { from_ns: 3, to_ns: 9_000 }] {
            let whole = scan(&snapshot, u64::MAX, range);
            assert!(whole.is_sorted(), "in order of time and series");
            for window_rows in [1, 2, 100, 4000] {
                assert_eq!(scan(&snapshot, window_rows, range), whole, "{window_rows} rows");
            }
        }
        // Rows at 0 stand in two stores, those at 5 ten times in one: each key is shown once.
        assert_eq!(scan(&snapshot, 10, TimeRange::ALL).len(), 2 * (3000 + 1 + 5));
    }
}
