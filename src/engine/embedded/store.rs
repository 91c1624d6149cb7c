//! The rows of one table: series, layouts and chunks. The memory store holds one a table and shard;
//! a row group read back from a file becomes one too, so that looking up, scanning and writing files
//! know one form only.
//!
//! Rows are only ever appended. A record that is written again gets a new row and the series' index
//! points to that one; the old row is dead and is left out when the store is flushed.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::catalog::Table;
use crate::record::codec::{CodecError, Layout, RecordView};
use crate::record::request::{Attributes, Rejection};
use crate::record::{MeasureKind, Value, ValueType};

use super::chunks::Chunks;
use super::column::{Chunk, RowHead, RowId};
use super::layout::{Layouts, Shape, WireId, WireTarget, attributes_of};
use super::series::{FamilyKey, SeriesKey, Wanted};

/// Late rows of a series that are kept apart before they are merged into its index: an index grown by
/// one row in its middle would be copied for each.
const LATE_ROWS_MAX: usize = 256;

/// Bytes that a map entry takes, with the map's spare room.
pub(super) const MAP_ENTRY_BYTES: usize = 8;

/// The same for the map of series.
const SERIES_ENTRY_BYTES: usize = 24;

/// A series and where its rows are.
#[derive(Debug)]
struct Series {
    hash: u64,
    /// No row of this series, here or in an older layer, is later than this, ns.
    time_ns_last: i64,
    /// No row of this series in an older layer is later than this, ns.
    time_ns_older: i64,
    /// Its rows that stand, in order of time.
    rows: Vec<RowId>,
    /// Such as came late, in order of time, not in `rows` yet.
    late: Vec<RowId>,
}

/// A series in the map of series. With its hash, so that a look-up waits for the map alone before it
/// knows which series it would be.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    hash: u64,
    series: u32,
}

/// A series' place in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeriesId(pub(super) u32);

/// The rows of one table.
#[derive(Debug, Default)]
pub(super) struct TableStore {
    families: Vec<Arc<FamilyKey>>,
    families_by_hash: HashTable<u32>,
    family_hint: usize,
    series: Vec<Series>,
    keys: Vec<Arc<SeriesKey>>,
    series_by_hash: HashTable<Hashed>,
    layouts: Layouts,
    chunks: Chunks,
    /// Rows appended, dead ones too.
    arrivals: u32,
    /// Keys of rows here that stand in an older layer too.
    overrides: Vec<(SeriesId, i64)>,
    bytes: usize,
    /// Of `bytes`, what the series take whether they have rows or not.
    series_bytes: usize,
}

/// A row as it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowRef<'s> {
    pub(super) chunk: &'s Chunk,
    pub(super) shape: &'s Shape,
    pub(super) row: usize,
}

impl<'s> RowRef<'s> {
    pub(super) fn version(&self) -> i64 {
        self.chunk.versions[self.row]
    }

    pub(super) fn time_ns(&self) -> i64 {
        self.chunk.times[self.row]
    }

    /// Appends the attributes, sorted by name.
    pub(super) fn attributes(&self, out: &mut Attributes<'s>) {
        let (chunk, row) = (self.chunk, self.row);
        let values = chunk.columns.iter().map(|column| column.value(row));
        out.extend(self.shape.attributes.iter().map(|(name, _)| &**name).zip(values));
    }
}

impl TableStore {
    /// Bytes of memory that it takes.
    #[inline]
    pub(super) const fn bytes(&self) -> usize {
        self.bytes + self.layouts.bytes()
    }

    /// Bytes of memory that its series take, whether they have rows or not.
    #[inline]
    pub(super) const fn series_bytes(&self) -> usize {
        self.series_bytes
    }

    /// Rows, dead ones too.
    pub(super) const fn rows(&self) -> u32 {
        self.arrivals
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.arrivals == 0
    }

    /// Whether it should be frozen whatever its bytes, since row ids run out.
    pub(super) const fn is_nearly_full(&self) -> bool {
        self.chunks.is_nearly_full() || self.arrivals >= u32::MAX / 2
    }

    pub(super) fn keys(&self) -> &[Arc<SeriesKey>] {
        &self.keys
    }

    pub(super) fn families(&self) -> &[Arc<FamilyKey>] {
        &self.families
    }

    pub(super) fn shapes(&self) -> &[Arc<Shape>] {
        self.layouts.shapes()
    }

    pub(super) fn overrides(&self) -> &[(SeriesId, i64)] {
        &self.overrides
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// Every chunk as it stands now; costs a copy of each open one.
    pub(super) fn snapshot(&self) -> Vec<Arc<Chunk>> {
        self.chunks.snapshot()
    }

    /// Seals every chunk and merges what came late: nothing is appended from now on.
    pub(super) fn seal(&mut self) {
        self.chunks.seal();
        for at in 0..self.series.len() {
            self.merge_late(SeriesId(index(at)));
        }
    }

    #[inline]
    pub(super) fn row(&self, id: RowId) -> RowRef<'_> {
        let chunk = self.chunks.get(id.chunk());
        RowRef { chunk, shape: &self.layouts.shapes()[chunk.layout as usize], row: id.row() }
    }

    /// The place of a series that is here.
    pub(super) fn find_series(&self, wanted: &Wanted<'_>) -> Option<SeriesId> {
        self.series_by_hash
            .find(wanted.hash, |at| self.keys[at.series as usize].is_of(wanted))
            .map(|at| SeriesId(at.series))
    }

    /// The places of the series of some records; `None` for one that is not here, or that
    /// [`Self::find_series`] must tell from another of its hash.
    ///
    /// Of a million series nothing is in the processor's caches. One record after the other would wait
    /// for the map, for the key and for its values in turn; step by step, the waits of many overlap.
    pub(super) fn find_all(&self, views: &[RecordView<'_>], found: &mut Vec<Option<SeriesId>>) {
        let candidate = |view: &RecordView<'_>| {
            let hash = view.series_hash;
            self.series_by_hash.find(hash, |at| at.hash == hash).map(|at| SeriesId(at.series))
        };
        found.clear();
        found.extend(views.iter().map(candidate));
        for (view, found) in views.iter().zip(&mut *found) {
            *found = found.filter(|id| self.keys[id.0 as usize].is_of(&Wanted::of(view)));
        }
        assert_eq!(found.len(), views.len(), "an answer a record");
    }

    /// The place of the record's series; `older` says, for one that is not here yet, up to which
    /// time older layers may have rows of it.
    #[inline]
    pub(super) fn series(&mut self, wanted: &Wanted<'_>, older: impl FnOnce() -> i64) -> SeriesId {
        if let Some(id) = self.find_series(wanted) {
            return id;
        }
        let family = self.family(wanted.family);
        let key = Arc::new(SeriesKey::new(wanted.hash, family, wanted.values));
        self.add_series(key, older())
    }

    pub(super) fn add_series(&mut self, key: Arc<SeriesKey>, time_ns_older: i64) -> SeriesId {
        let at = index(self.series.len());
        let hash = key.hash;
        let bytes =
            key.bytes() + size_of::<Arc<SeriesKey>>() + size_of::<Series>() + SERIES_ENTRY_BYTES;
        self.bytes += bytes;
        self.series_bytes += bytes;
        self.keys.push(key);
        self.series.push(Series {
            hash,
            time_ns_last: time_ns_older,
            time_ns_older,
            rows: Vec::new(),
            late: Vec::new(),
        });
        self.series_by_hash.insert_unique(hash, Hashed { hash, series: at }, |at| at.hash);
        SeriesId(at)
    }

    fn family(&mut self, bytes: &[u8]) -> Arc<FamilyKey> {
        if self.families.get(self.family_hint).is_some_and(|family| family.bytes() == bytes) {
            return Arc::clone(&self.families[self.family_hint]);
        }
        let hash = xxh3_64(bytes);
        let families = &self.families;
        let found = self.families_by_hash.find(hash, |&at| families[at as usize].bytes() == bytes);
        self.family_hint = if let Some(&at) = found {
            at as usize
        } else {
            let at = self.families.len();
            self.families.push(Arc::new(FamilyKey::new(bytes)));
            self.bytes += bytes.len() + size_of::<Arc<FamilyKey>>() * 4 + MAP_ENTRY_BYTES;
            let families = &self.families;
            self.families_by_hash
                .insert_unique(hash, index(at), |&at| families[at as usize].hash());
            at
        };
        Arc::clone(&self.families[self.family_hint])
    }

    /// No row of the series, here or in an older layer, is later than this.
    #[inline]
    pub(super) fn time_ns_last(&self, id: SeriesId) -> i64 {
        self.series[id.0 as usize].time_ns_last
    }

    /// No row of the series in an older layer is later than this.
    pub(super) fn time_ns_older(&self, id: SeriesId) -> i64 {
        self.series[id.0 as usize].time_ns_older
    }

    /// The series' latest time, here or in an older layer, of every series.
    pub(super) fn last_times(&self) -> impl Iterator<Item = (u64, i64)> {
        self.series.iter().map(|series| (series.hash, series.time_ns_last))
    }

    /// The row of a series at a time.
    pub(super) fn find_row(&self, id: SeriesId, time_ns: i64) -> Option<RowId> {
        let series = &self.series[id.0 as usize];
        [&series.rows, &series.late].into_iter().find_map(|rows| {
            let at = self.place(rows, time_ns);
            rows.get(at).copied().filter(|&row| self.row(row).time_ns() == time_ns)
        })
    }

    /// A sealed store's rows of a series from `from_ns` to before `to_ns`, in order of time;
    /// `i64::MAX` is no end.
    pub(super) fn rows_between(&self, id: SeriesId, from_ns: i64, to_ns: i64) -> &[RowId] {
        let series = &self.series[id.0 as usize];
        assert!(series.late.is_empty(), "late rows were merged when the store was sealed");
        let end =
            if to_ns == i64::MAX { series.rows.len() } else { self.place(&series.rows, to_ns) };
        // No look at a row where all are wanted: each is a wait for memory.
        let begin = if from_ns == i64::MIN { 0 } else { self.place(&series.rows, from_ns) };
        &series.rows[begin..end]
    }

    /// A sealed store's rows of a series, in order of time.
    pub(super) fn rows_of(&self, id: SeriesId) -> &[RowId] {
        let series = &self.series[id.0 as usize];
        assert!(series.late.is_empty(), "late rows were merged when the store was sealed");
        &series.rows
    }

    /// The rows of a series that stand, in no order, sealed or not.
    pub(super) fn standing(&self, id: SeriesId) -> impl Iterator<Item = RowId> {
        let series = &self.series[id.0 as usize];
        series.rows.iter().chain(&series.late).copied()
    }

    /// The first place in `rows` whose time is not before `time_ns`.
    fn place(&self, rows: &[RowId], time_ns: i64) -> usize {
        rows.partition_point(|&row| self.row(row).time_ns() < time_ns)
    }

    /// What the payload's layout means here; a layout that is new claims its columns of `table`.
    #[inline]
    pub(super) fn wire(&mut self, layout: &Layout<'_>, table: &Table) -> WireId {
        self.layouts.wire(layout, table)
    }

    /// Why records of this layout are refused, if they are.
    #[inline]
    pub(super) fn refusal(&self, wire: WireId) -> Option<&Rejection> {
        match self.layouts.target(wire) {
            WireTarget::Refused(rejection) => Some(rejection),
            WireTarget::Columns { .. } | WireTarget::Repeats => None,
        }
    }

    /// The record's attributes, sorted by name, each name once.
    pub(super) fn attributes<'a>(
        &self,
        wire: WireId,
        view: &RecordView<'a>,
    ) -> Result<Attributes<'a>, CodecError> {
        attributes_of(view, self.layouts.target(wire))
    }

    /// The layout's place; `attributes` are sorted by name, each name once.
    pub(super) fn layout(&mut self, kind: MeasureKind, attributes: &[(&str, ValueType)]) -> u32 {
        self.layouts.shape(kind, attributes)
    }

    /// Appends the record as it came, as a row of `series`.
    ///
    /// # Errors
    ///
    /// [`CodecError`]: its values are not those of its layout; nothing was appended.
    #[inline]
    pub(super) fn append_view(
        &mut self,
        series: SeriesId,
        wire: WireId,
        view: &RecordView<'_>,
    ) -> Result<RowId, CodecError> {
        let target = self.layouts.target(wire);
        let WireTarget::Columns { layout, columns } = target else {
            let attributes = attributes_of(view, target)?;
            let stamp = Stamp { time_ns: view.time_ns, version: view.version };
            return Ok(self.append(series, stamp, view.layout.kind, &attributes));
        };
        let head = RowHead {
            series: series.0,
            time_ns: view.time_ns,
            version: view.version,
            arrival: self.arrivals,
        };
        let (at, chunk) = self.chunks.with_room(*layout, self.layouts.shapes());
        let row = chunk.rows();
        let taken = chunk.take_row(&head, columns, view.values);
        self.bytes += taken.ok_or(CodecError::Malformed { part: "attributes" })?;
        self.arrivals += 1;
        Ok(RowId::new(at, row))
    }

    /// Appends a row of `series` with these attributes, sorted by name, each name once.
    pub(super) fn append(
        &mut self,
        series: SeriesId,
        stamp: Stamp,
        kind: MeasureKind,
        attributes: &[(&str, Value<'_>)],
    ) -> RowId {
        let types: Vec<_> = attributes.iter().map(|(name, v)| (*name, v.value_type())).collect();
        let layout = self.layout(kind, &types);
        self.append_values(series, stamp, layout, attributes.iter().map(|(_, value)| *value))
    }

    /// Appends a row of `series` with a value for each attribute of the layout.
    pub(super) fn append_values<'v>(
        &mut self,
        series: SeriesId,
        stamp: Stamp,
        layout: u32,
        values: impl Iterator<Item = Value<'v>>,
    ) -> RowId {
        let Stamp { time_ns, version } = stamp;
        let head = RowHead { series: series.0, time_ns, version, arrival: self.arrivals };
        let (at, chunk) = self.chunks.with_room(layout, self.layouts.shapes());
        let row = chunk.rows();
        self.bytes += chunk.push_row(&head, values);
        self.arrivals += 1;
        RowId::new(at, row)
    }

    /// Lets `row`, later than every other of its series, stand.
    #[inline]
    pub(super) fn index_last(&mut self, id: SeriesId, row: RowId, time_ns: i64) {
        let series = &mut self.series[id.0 as usize];
        debug_assert!(time_ns > series.time_ns_last, "the fast path is for the latest row");
        series.time_ns_last = time_ns;
        let room = series.rows.capacity();
        series.rows.push(row);
        self.bytes += (series.rows.capacity() - room) * size_of::<RowId>();
    }

    /// Lets `row` stand, whose key has no row here yet.
    pub(super) fn index_late(&mut self, id: SeriesId, row: RowId, time_ns: i64) {
        let is_last_here = self.series[id.0 as usize]
            .rows
            .last()
            .is_none_or(|&last| self.row(last).time_ns() < time_ns);
        let at = self.place(&self.series[id.0 as usize].late, time_ns);
        let series = &mut self.series[id.0 as usize];
        series.time_ns_last = series.time_ns_last.max(time_ns);
        let room = series.rows.capacity() + series.late.capacity();
        if is_last_here {
            series.rows.push(row);
        } else {
            series.late.insert(at, row);
        }
        let has_enough = series.late.len() >= LATE_ROWS_MAX;
        self.bytes += (series.rows.capacity() + series.late.capacity() - room) * size_of::<RowId>();
        if has_enough {
            self.merge_late(id);
        }
    }

    /// Lets `row` stand instead of `old`, which has the same key.
    pub(super) fn index_instead(&mut self, id: SeriesId, old: RowId, row: RowId) {
        let time_ns = self.row(old).time_ns();
        assert_eq!(self.row(row).time_ns(), time_ns, "a row replaces one of its own time");
        let at = self.place(&self.series[id.0 as usize].rows, time_ns);
        let late_at = self.place(&self.series[id.0 as usize].late, time_ns);
        let series = &mut self.series[id.0 as usize];
        let place = match series.rows.get_mut(at) {
            Some(place) if *place == old => place,
            _ => &mut series.late[late_at],
        };
        assert_eq!(*place, old, "the old row stood");
        *place = row;
    }

    /// Remembers that an older layer has a row with this key.
    pub(super) fn add_override(&mut self, id: SeriesId, time_ns: i64) {
        self.bytes += size_of::<(SeriesId, i64)>();
        self.overrides.push((id, time_ns));
    }

    /// Merges a series' late rows into its index.
    fn merge_late(&mut self, id: SeriesId) {
        let series = &mut self.series[id.0 as usize];
        if series.late.is_empty() {
            return;
        }
        let late = std::mem::take(&mut series.late);
        let mut rows = std::mem::take(&mut series.rows);
        self.bytes -= (late.capacity() + rows.capacity()) * size_of::<RowId>();
        rows.extend(late);
        // Two sorted runs, which this sort merges in one pass.
        rows.sort_by_key(|&row| self.row(row).time_ns());
        self.bytes += rows.capacity() * size_of::<RowId>();
        self.series[id.0 as usize].rows = rows;
    }
}

/// When a row was measured, and its version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) time_ns: i64,
    pub(super) version: i64,
}

/// Places in a store fit 32 bits: it is frozen long before they run out.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).expect("a store is frozen long before its places run out")
}
