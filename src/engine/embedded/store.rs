//! The rows of one table: series, layouts and chunks. The memory store holds one a table and shard;
//! a row group read back from a file becomes one too, so that looking up, scanning and writing files
//! know one form only.
//!
//! Rows are only ever appended. A record that is written again gets a new row and the series' index
//! points to that one; the old row is dead and is left out when the store is flushed.

use std::sync::Arc;

use crate::engine::catalog::Table;
use crate::record::codec::{CodecError, Layout, RecordView};
use crate::record::request::{Attributes, Rejection};
use crate::record::{MeasureKind, Value, ValueType};

use super::chunks::Chunks;
use super::column::{Chunk, RowHead, RowId};
use super::directory::Directory;
use super::keys::Keys;
use super::layout::{Layouts, Shape, WireId, WireTarget, attributes_of};
use super::series::{FamilyKey, SeriesKey, Wanted};
use super::standing::Standing;

/// Late rows of a series that are kept apart before they are merged into its index: an index grown by
/// one row in its middle would be copied for each.
const LATE_ROWS_MAX: usize = 256;

/// Bytes that a map entry takes, with the map's spare room.
pub(super) const MAP_ENTRY_BYTES: usize = 8;

/// So many series stay in the processor's caches, some 300 bytes each.
const CACHED_SERIES_MAX: usize = 1 << 13;

/// A series and where its rows are: one line of the processor's cache.
#[derive(Debug)]
#[repr(align(64))]
struct Series {
    /// No row of this series, here or in an older layer, is later than this, ns.
    time_ns_last: i64,
    /// No row of this series in an older layer is later than this, ns.
    time_ns_older: i64,
    /// The place of its family.
    family: u32,
    /// Its rows that stand.
    standing: Standing,
}

const _: () = assert!(size_of::<Series>() == 64);

impl Series {
    const fn new(family: u32, time_ns_older: i64) -> Self {
        Self { time_ns_last: time_ns_older, time_ns_older, family, standing: Standing::NONE }
    }
}

/// What a store passes on to the one that follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The series it knows, unless most of them have no rows: then only those that have.
    Series,
    /// No series: they would take too much.
    Nothing,
}

/// A series' place in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SeriesId(pub(super) u32);

/// The rows of one table.
#[derive(Debug, Default)]
pub(super) struct TableStore {
    directory: Directory,
    /// By their places in the directory.
    series: Vec<Series>,
    /// Series that have rows, in the order in which they got one: what is done at a freeze follows these and
    /// not all series that are known.
    used: Vec<SeriesId>,
    /// Their families, once another store followed.
    used_families: Option<Vec<Arc<FamilyKey>>>,
    idle_freezes: u32,
    layouts: Layouts,
    chunks: Chunks,
    /// Rows appended, dead ones too.
    arrivals: u32,
    /// Keys of rows here that stand in an older layer too.
    overrides: Vec<(SeriesId, i64)>,
    /// Beside the directory and the layouts.
    bytes: usize,
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
        self.bytes + self.layouts.bytes() + self.directory.bytes()
    }

    /// Bytes of memory that its series take, whether they have rows or not.
    #[inline]
    pub(super) const fn series_bytes(&self) -> usize {
        self.series.len() * size_of::<Series>() + self.directory.bytes()
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

    pub(super) const fn keys(&self) -> &Keys {
        self.directory.keys()
    }

    /// The key of a row's series.
    pub(super) fn key_of(&self, row: RowId) -> &Arc<SeriesKey> {
        self.keys().get(self.series_of(row))
    }

    /// The series of a row.
    pub(super) fn series_of(&self, row: RowId) -> SeriesId {
        SeriesId(self.chunks.get(row.chunk()).series[row.row()])
    }

    /// Bytes of memory that series would take in the store that follows it, if that keeps them: all, or
    /// where most have no rows about the share of those that have.
    pub(super) fn series_bytes_kept(&self) -> usize {
        if self.keeps_all() {
            return self.series_bytes();
        }
        self.series_bytes() / self.series.len() * self.used()
    }

    /// Whether a store that follows keeps all series, and not only those that have rows.
    const fn keeps_all(&self) -> bool {
        self.is_empty() || self.used() * 2 >= self.series.len()
    }

    /// How many series a store that follows does not know.
    pub(super) const fn series_let_go(&self, keep: Keep) -> usize {
        match keep {
            Keep::Series if self.keeps_all() => 0,
            Keep::Series => self.series.len() - self.used(),
            Keep::Nothing => self.series.len(),
        }
    }

    /// Hears that it is kept as it is at a freeze, since it has no rows.
    pub(super) fn note_idle_freeze(&mut self) {
        assert!(self.is_empty(), "rows are frozen");
        self.idle_freezes += 1;
    }

    /// Freezes in a row at which it had no rows.
    pub(super) const fn idle_freezes(&self) -> u32 {
        self.idle_freezes
    }

    /// The series that it knows.
    pub(super) const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The families of its rows, and of series without rows where no store followed yet.
    pub(super) fn families(&self) -> &[Arc<FamilyKey>] {
        self.used_families.as_deref().unwrap_or_else(|| self.directory.families())
    }

    /// How many series have rows.
    pub(super) const fn used(&self) -> usize {
        self.used.len()
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
        let used = std::mem::take(&mut self.used);
        for &series in &used {
            self.merge_late(series);
        }
        self.used = used;
    }

    #[inline]
    pub(super) fn row(&self, id: RowId) -> RowRef<'_> {
        let chunk = self.chunks.get(id.chunk());
        RowRef { chunk, shape: &self.layouts.shapes()[chunk.layout as usize], row: id.row() }
    }

    /// A store for the rows that follow those of this one, which is sealed. `let_go` is told hash and
    /// latest time of each series that the new one does not know.
    pub(super) fn followed_by(&mut self, keep: Keep, mut let_go: impl FnMut(u64, i64)) -> Self {
        assert!(self.used_families.is_none(), "one store follows it");
        self.note_used_families();
        let mut next = Self::default();
        if keep == Keep::Series && self.keeps_all() {
            next.directory = self.directory.pass_on();
            next.series =
                self.series.iter().map(|s| Series::new(s.family, s.time_ns_last)).collect();
            next.bytes = next.series.len() * size_of::<Series>();
            return next;
        }
        for (series, key) in self.series.iter().zip(self.directory.keys().iter()) {
            if keep == Keep::Series && !series.standing.rows().is_empty() {
                next.add_series(Arc::clone(key), series.time_ns_last);
            } else {
                let_go(key.hash, series.time_ns_last);
            }
        }
        next
    }

    fn note_used_families(&mut self) {
        let families = self.directory.families();
        let mut is_used = vec![false; families.len()];
        for series in &self.used {
            is_used[self.series[series.0 as usize].family as usize] = true;
        }
        let used = families.iter().zip(is_used).filter(|(_, is_used)| *is_used);
        self.used_families = Some(used.map(|(family, _)| Arc::clone(family)).collect());
    }

    /// The place of a series that is here.
    pub(super) fn find_series(&self, wanted: &Wanted<'_>) -> Option<SeriesId> {
        self.directory.find(wanted)
    }

    /// The places of the series of some records; `None` for one that is not here, or that
    /// [`Self::find_series`] must tell from another of its hash.
    ///
    /// Of a million series nothing is in the processor's caches. One record after the other would wait
    /// for the map, for the key and for its values in turn; step by step, the waits of many overlap.
    pub(super) fn find_all(&self, views: &[RecordView<'_>], found: &mut Vec<Option<SeriesId>>) {
        found.clear();
        if self.series.len() < CACHED_SERIES_MAX {
            found.extend(views.iter().map(|view| self.find_series(&Wanted::of(view))));
        } else {
            self.find_far(views, found);
        }
        assert_eq!(found.len(), views.len(), "an answer a record");
    }

    fn find_far(&self, views: &[RecordView<'_>], found: &mut Vec<Option<SeriesId>>) {
        found.extend(views.iter().map(|view| self.directory.find_hash(view.series_hash)));
        let key = |id: SeriesId| &**self.keys().get(id);
        let mut keys: Vec<Option<&SeriesKey>> = found.iter().map(|id| id.map(key)).collect();
        for (view, key) in views.iter().zip(&mut keys) {
            *key = key.filter(|key| key.hash == view.series_hash);
        }
        let mut time_ns_last = i64::MIN;
        for ((view, key), found) in views.iter().zip(keys).zip(&mut *found) {
            *found = found.filter(|_| key.is_some_and(|key| key.is_of(&Wanted::of(view))));
            if let Some(id) = *found {
                time_ns_last = time_ns_last.max(self.series[id.0 as usize].time_ns_last);
            }
        }
        // Only that they were looked at matters: the series are in the cache when the rows come.
        std::hint::black_box(time_ns_last);
    }

    /// The place of the record's series; `older` says, for one that is not here yet, up to which
    /// time older layers may have rows of it.
    #[inline]
    pub(super) fn series(&mut self, wanted: &Wanted<'_>, older: impl FnOnce() -> i64) -> SeriesId {
        if let Some(id) = self.find_series(wanted) {
            return id;
        }
        let make = || Arc::new(FamilyKey::new(wanted.family));
        let family = self.directory.family(wanted.family, make);
        let family = Arc::clone(&self.directory.families()[family]);
        self.add_series(Arc::new(SeriesKey::new(wanted.hash, family, wanted.values)), older())
    }

    pub(super) fn add_series(&mut self, key: Arc<SeriesKey>, time_ns_older: i64) -> SeriesId {
        // The key's own: another with the same bytes would be in memory beside it.
        let family = self.directory.family(key.family.bytes(), || Arc::clone(&key.family));
        self.bytes += size_of::<Series>();
        self.series.push(Series::new(index(family), time_ns_older));
        let id = self.directory.add(key);
        assert_eq!(id.0 as usize + 1, self.series.len(), "every series has a key");
        id
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

    /// The row of a series, which it need not know, at a time.
    pub(super) fn find_row(&self, id: SeriesId, time_ns: i64) -> Option<RowId> {
        let series = self.series.get(id.0 as usize)?;
        [series.standing.rows(), series.standing.late()].into_iter().find_map(|rows| {
            let at = self.place(rows, time_ns);
            rows.get(at).copied().filter(|&row| self.row(row).time_ns() == time_ns)
        })
    }

    /// How many rows of a series stand, of one that it need not know.
    #[inline]
    pub(super) fn row_count(&self, id: SeriesId) -> usize {
        self.series.get(id.0 as usize).map_or(0, |series| series.standing.rows().len())
    }

    /// A sealed store's rows of a series, which it need not know, from `from_ns` to before `to_ns`, in
    /// order of time; `i64::MAX` is no end.
    pub(super) fn rows_between(&self, id: SeriesId, from_ns: i64, to_ns: i64) -> &[RowId] {
        let Some(series) = self.series.get(id.0 as usize) else { return &[] };
        assert!(series.standing.late().is_empty(), "merged when the store was sealed");
        let rows = series.standing.rows();
        let end = if to_ns == i64::MAX { rows.len() } else { self.place(rows, to_ns) };
        // No look at a row where all are wanted: each is a wait for memory.
        let begin = if from_ns == i64::MIN { 0 } else { self.place(rows, from_ns) };
        &rows[begin..end]
    }

    /// A sealed store's rows of a series, in order of time.
    pub(super) fn rows_of(&self, id: SeriesId) -> &[RowId] {
        let series = &self.series[id.0 as usize];
        assert!(series.standing.late().is_empty(), "merged when the store was sealed");
        series.standing.rows()
    }

    /// The rows of a series that stand, in no order, sealed or not.
    pub(super) fn standing(&self, id: SeriesId) -> impl Iterator<Item = RowId> {
        let series = &self.series[id.0 as usize];
        series.standing.rows().iter().chain(series.standing.late()).copied()
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
        if series.standing.rows().is_empty() {
            self.used.push(id);
            self.bytes += size_of::<SeriesId>();
        }
        self.bytes += series.standing.push(row);
    }

    /// Lets `row` stand, whose key has no row here yet.
    pub(super) fn index_late(&mut self, id: SeriesId, row: RowId, time_ns: i64) {
        let standing = &self.series[id.0 as usize].standing;
        let last = standing.rows().last();
        let is_last_here = last.is_none_or(|&last| self.row(last).time_ns() < time_ns);
        let at = self.place(standing.late(), time_ns);
        let series = &mut self.series[id.0 as usize];
        series.time_ns_last = series.time_ns_last.max(time_ns);
        if is_last_here {
            // What came late stands beside rows in order, so that it is no series' first row.
            if series.standing.rows().is_empty() {
                self.used.push(id);
                self.bytes += size_of::<SeriesId>();
            }
            self.bytes += series.standing.push(row);
            return;
        }
        let before = series.standing.bytes();
        let late = &mut series.standing.many().late;
        late.insert(at, row);
        let has_enough = late.len() >= LATE_ROWS_MAX;
        self.bytes += series.standing.bytes() - before;
        if has_enough {
            self.merge_late(id);
        }
    }

    /// Lets `row` stand instead of `old`, which has the same key.
    pub(super) fn index_instead(&mut self, id: SeriesId, old: RowId, row: RowId) {
        let time_ns = self.row(old).time_ns();
        assert_eq!(self.row(row).time_ns(), time_ns, "a row replaces one of its own time");
        let standing = &self.series[id.0 as usize].standing;
        let at = self.place(standing.rows(), time_ns);
        let late_at = self.place(standing.late(), time_ns);
        let standing = &mut self.series[id.0 as usize].standing;
        let is_late = standing.rows().get(at) != Some(&old);
        let place =
            if is_late { &mut standing.many().late[late_at] } else { &mut standing.rows_mut()[at] };
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
        let standing = &mut self.series[id.0 as usize].standing;
        if standing.late().is_empty() {
            return;
        }
        let before = standing.bytes();
        let many = standing.many();
        let late = std::mem::take(&mut many.late);
        let mut rows = std::mem::take(&mut many.rows);
        rows.extend(late);
        // Two sorted runs, which this sort merges in one pass.
        rows.sort_by_key(|&row| self.row(row).time_ns());
        let standing = &mut self.series[id.0 as usize].standing;
        standing.many().rows = rows;
        self.bytes = self.bytes - before + standing.bytes();
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

#[cfg(test)]
mod tests;
