//! A shard's part of the memory store, and what becomes of one record in it.
//!
//! Most telemetry is later than anything its series has: such a record is new for certain, and its
//! row is appended without a look at any other. Every other record is looked for, newest layer
//! first: in the active store, in the frozen stores that wait for their flush, in the files. What is
//! found goes through the version rule together with the record.
//!
//! # How a late record knows where to look
//!
//! What an active store must remember of the older layers is one number a series: no row of it there
//! is later than this. It begins with the series of the store that was frozen before it, and with their
//! numbers; [`ShardState::freeze`] tells which it is spared, so that memory stays bounded however many
//! series come and go. The numbers of those are in [`History`], by hash alone: two series with one hash
//! share the later number, which costs a look-up and never an error. A series that [`History`] does
//! not know, after a restart, gets the latest time of its whole table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::engine::catalog::Table;
use crate::engine::upsert::{Candidate, Verdict, decide};
use crate::record::codec::RecordView;
use crate::record::request::{Attributes, Outcome, WriteRequest};
use crate::record::{OwnedValue, TableId};

use super::column::RowId;
use super::layout::WireId;
use super::magnetic::Magnetic;
use super::points::Block;
use super::series::Wanted;
use super::store::{Keep, RowRef, SeriesId, Stamp, TableStore};

pub(super) type Tables = HashMap<TableId, TableStore, RandomState>;

/// Freezes through which the series of a table without rows are kept.
const IDLE_FREEZES_MAX: u32 = 2;

/// Bytes that one series of a history takes, with the map's spare room.
const HISTORY_ENTRY_BYTES: usize = 24;

/// Stores that take no more rows and wait for their flush: all rows of a shard's frames up to `lsn`
/// that no earlier one has.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) lsn: Lsn,
    pub(super) tables: Tables,
    pub(super) bytes: usize,
    pub(super) rows: u64,
}

/// What a shard may remember of what was frozen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Remembered {
    /// Most bytes of series that are kept without rows.
    pub(super) series_bytes_max: usize,
    /// Most bytes of histories.
    pub(super) history_bytes_max: usize,
}

/// Memory that a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: usize,
    /// Of these, what is no row: the series of the active stores, and what is remembered of older ones.
    pub(super) series_bytes: usize,
}

/// Up to which time older layers may have rows of a series.
#[derive(Debug)]
struct History {
    /// Hash and latest time of each series that was frozen since start and is not kept.
    last: HashTable<(u64, i64)>,
    /// Whether a series that is not in `last` has no older rows at all.
    is_complete: bool,
    /// The latest time of any row in an older layer, ns.
    time_ns_max: i64,
}

impl History {
    fn new(time_ns_flushed: Option<i64>) -> Self {
        Self {
            last: HashTable::new(),
            is_complete: time_ns_flushed.is_none(),
            time_ns_max: time_ns_flushed.unwrap_or(i64::MIN),
        }
    }

    fn older(&self, hash: u64) -> i64 {
        match self.last.find(hash, |entry| entry.0 == hash) {
            Some(&(_, time_ns)) => time_ns,
            None if self.is_complete => i64::MIN,
            None => self.time_ns_max,
        }
    }

    fn note(&mut self, hash: u64, time_ns: i64) {
        self.time_ns_max = self.time_ns_max.max(time_ns);
        match self.last.find_mut(hash, |entry| entry.0 == hash) {
            Some(entry) => entry.1 = entry.1.max(time_ns),
            None => {
                self.last.insert_unique(hash, (hash, time_ns), |entry| entry.0);
            }
        }
    }

    fn forget(&mut self) {
        self.is_complete &= self.last.is_empty();
        self.last = HashTable::new();
    }

    /// Makes room at once for the first series, so many: grown step by step, it would be copied at each. Of
    /// later ones most may be in it already, and room for them again would be counted as memory.
    fn reserve_first(&mut self, series: usize) {
        if self.last.is_empty() {
            self.last.reserve(series, |entry| entry.0);
        }
    }

    fn bytes(&self) -> usize {
        self.last.capacity() * HISTORY_ENTRY_BYTES
    }
}

/// What a shard has in memory.
#[derive(Debug, Default)]
pub(super) struct ShardState {
    pub(super) active: Tables,
    /// Oldest first.
    pub(super) frozen: Vec<Arc<Frozen>>,
    history: HashMap<TableId, History, RandomState>,
    /// The last frame that the shard has written as a whole.
    pub(super) committed: Lsn,
    /// Whether records of a frame were written that was not committed yet: a store is frozen
    /// between frames only.
    pub(super) is_mid_frame: bool,
    /// Whether the next commit shall freeze the store.
    pub(super) is_freeze_wanted: bool,
    /// Stores frozen since start.
    pub(super) frozen_count: u64,
    /// When the oldest row of the active store was written.
    pub(super) first_write: Option<Duration>,
    /// Bytes of the active stores.
    active_bytes: usize,
    /// Of these, what the series take whether they have rows or not.
    series_bytes: usize,
    /// Bytes of the histories.
    history_bytes: usize,
    /// Where the series of the records of a batch are.
    found: Vec<Option<SeriesId>>,
}

impl ShardState {
    /// What the active stores take, and what the shard remembers of older ones.
    pub(super) const fn held(&self) -> Held {
        // What is remembered of older stores is no row either: a flush makes it no less.
        let series_bytes = self.series_bytes + self.history_bytes;
        Held { bytes: self.active_bytes + self.history_bytes, series_bytes }
    }

    /// Rows of the active stores, dead ones too.
    pub(super) fn active_rows(&self) -> u64 {
        self.active.values().map(|store| u64::from(store.rows())).sum()
    }

    /// Whether no row waits for a flush.
    pub(super) fn is_empty(&self) -> bool {
        self.frozen.is_empty() && self.active.values().all(TableStore::is_empty)
    }

    /// Whether the active store should be frozen whatever its bytes.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.active.values().any(TableStore::is_nearly_full)
    }

    /// Lets go of what the active store has of tables that are not wanted any more. What is frozen
    /// of them goes with its flush. Returns the stores, for the caller to drop behind the lock: one of
    /// a million series takes its time.
    #[must_use = "dropped here it would be dropped under the lock"]
    pub(super) fn retain_tables(&mut self, is_wanted: impl Fn(TableId) -> bool) -> Vec<TableStore> {
        let gone = self.active.extract_if(|&table, _| !is_wanted(table));
        let let_go: Vec<TableStore> = gone.map(|(_, store)| store).collect();
        self.active_bytes -= let_go.iter().map(TableStore::bytes).sum::<usize>();
        self.series_bytes -= let_go.iter().map(TableStore::series_bytes).sum::<usize>();
        // Not by asking alone: a table that is deleted at this moment is wanted first and then not,
        // and a store is never without its history.
        let active = &self.active;
        self.history.retain(|table, _| active.contains_key(table) || is_wanted(*table));
        self.history_bytes = self.history.values().map(History::bytes).sum();
        let_go
    }

    /// Writes a batch; see [`crate::engine::TableEngine::write`].
    pub(super) fn write(
        &mut self,
        below: &Below<'_>,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        self.is_mid_frame = true;
        let &Below { table, magnetic, alive_from_ns } = below;
        let store = self.active.entry(table.id).or_default();
        let history = self
            .history
            .entry(table.id)
            .or_insert_with(|| History::new(magnetic.time_ns_max_at_open(table.id)));
        let (before, series_before) = (store.bytes(), store.series_bytes());
        let frozen = &self.frozen;
        let mut layers = Layers { table, store, history, frozen, magnetic, alive_from_ns };
        layers.store.find_all(request.records, &mut self.found);
        let result = request.records.iter().zip(&self.found).try_for_each(|(view, found)| {
            outcomes.push(layers.write(view, *found)?);
            Ok(())
        });
        let (after, series_after) = (layers.store.bytes(), layers.store.series_bytes());
        self.active_bytes = self.active_bytes - before + after;
        self.series_bytes += series_after - series_before;
        result
    }

    /// Freezes the active stores that have rows; they hold whole frames only. Series are kept, of one
    /// table after the other as far as `bounds` goes, but where most have no rows only those that have; a
    /// table without rows keeps its series, in the store as it is, for [`IDLE_FREEZES_MAX`] freezes.
    /// Nothing large is dropped here, under the shard's lock: a store without rows that is not kept goes
    /// with the frozen ones, to the thread that flushes. Returns whether there was anything to freeze.
    pub(super) fn freeze(&mut self, bounds: Remembered) -> bool {
        assert!(!self.is_mid_frame, "a store is frozen between frames");
        self.is_freeze_wanted = false;
        self.first_write = None;
        let rows = self.active_rows();
        if rows == 0 {
            return false;
        }
        let mut tables = Tables::default();
        let mut series_bytes_left = bounds.series_bytes_max;
        for (table, mut store) in std::mem::take(&mut self.active) {
            let history = self.history.get_mut(&table).expect("made when the store was");
            let has_frozen = self.frozen.iter().any(|frozen| {
                let number = |store: &TableStore| store.directory().number();
                frozen.tables.get(&table).is_some_and(|frozen| number(frozen) == number(&store))
            });
            let is_dropped = store.is_empty() && store.idle_freezes() >= IDLE_FREEZES_MAX;
            let fits = store.series_bytes_kept() <= series_bytes_left;
            // A frozen store that waits finds its series through this one's directory: a store without
            // rows, which is not frozen itself, must not be dropped then.
            let is_needed = store.is_empty() && has_frozen;
            let is_kept = is_needed || fits && !is_dropped;
            if store.is_empty() && is_kept {
                store.note_idle_freeze();
                series_bytes_left = series_bytes_left.saturating_sub(store.series_bytes());
                self.active.insert(table, store);
                continue;
            }
            store.seal();
            let keep = if is_kept { Keep::Series } else { Keep::Nothing };
            history.reserve_first(store.series_let_go(keep));
            let next = store.followed_by(keep, |hash, time_ns| history.note(hash, time_ns));
            series_bytes_left = series_bytes_left.saturating_sub(next.series_bytes());
            if is_kept {
                self.active.insert(table, next);
            }
            tables.insert(table, store);
        }
        self.active_bytes = self.active.values().map(TableStore::bytes).sum();
        self.series_bytes = self.active.values().map(TableStore::series_bytes).sum();
        self.history_bytes = self.history.values().map(History::bytes).sum();
        if self.history_bytes > bounds.history_bytes_max {
            self.history.values_mut().for_each(History::forget);
            self.history_bytes = 0;
        }
        let bytes = tables.values().map(TableStore::bytes).sum();
        let lsn = self.committed;
        assert!(self.frozen.last().is_none_or(|last| last.lsn <= lsn), "frames are in order");
        self.frozen.push(Arc::new(Frozen { lsn, tables, bytes, rows }));
        self.frozen_count += 1;
        true
    }
}

/// What a shard's part of a table stands on.
#[derive(Debug)]
pub(super) struct Below<'b> {
    pub(super) table: &'b Table,
    pub(super) magnetic: &'b Magnetic,
    /// A record from before does not live; see [`super::tidy`].
    pub(super) alive_from_ns: i64,
}

/// The layers in which a key may have a row, newest first.
struct Layers<'l> {
    table: &'l Table,
    store: &'l mut TableStore,
    history: &'l History,
    frozen: &'l [Arc<Frozen>],
    magnetic: &'l Magnetic,
    alive_from_ns: i64,
}

/// A row in an older layer.
enum Older<'l> {
    Frozen(&'l TableStore, RowId),
    /// One of these rows of a file, by its place, and its version.
    File(Arc<Block>, usize, i64),
    /// One in a file whose values do not matter, and its version.
    Key(i64),
}

/// What is to be done for a record.
enum Plan {
    /// The record becomes a row as it came.
    Append(Outcome),
    /// These attributes become a row: its own and those that stood.
    AppendMerged(Vec<(Box<str>, OwnedValue)>),
    /// No row.
    Answer(Outcome),
}

impl<'l> Layers<'l> {
    /// Writes a record, whose series is the one that was `found`, if one was.
    #[inline]
    fn write(
        &mut self,
        view: &RecordView<'_>,
        found: Option<SeriesId>,
    ) -> Result<Outcome, EngineError> {
        let wire = self.store.wire(view.layout, self.table);
        if let Some(refusal) = self.store.refusal(wire) {
            return Ok(Outcome::Rejected(Box::new(refusal.clone())));
        }
        if view.time_ns < self.alive_from_ns {
            return Ok(Outcome::Stored);
        }
        let history = self.history;
        let series = found.unwrap_or_else(|| {
            self.store.series(&Wanted::of(view), || history.older(view.series_hash))
        });
        if view.time_ns > self.store.time_ns_last(series) {
            let row = self.store.append_view(series, wire, view)?;
            self.store.index_last(series, row, view.time_ns);
            return Ok(Outcome::Stored);
        }
        self.write_late(series, wire, view)
    }

    /// Writes a record whose key may have a row already.
    fn write_late(
        &mut self,
        series: SeriesId,
        wire: WireId,
        view: &RecordView<'_>,
    ) -> Result<Outcome, EngineError> {
        let incoming = self.store.attributes(wire, view)?;
        let here = self.store.find_row(series, view.time_ns);
        let may_be_older = here.is_none() && view.time_ns <= self.store.time_ns_older(series);
        let kind = view.layout.kind;
        let candidate = Candidate { version: view.version, kind, attributes: &incoming };
        let older = if may_be_older { self.find_older(series, view, &candidate)? } else { None };
        let plan = match (here, &older) {
            (Some(row), _) => plan(self.store.row(row), &candidate),
            (None, Some(Older::Frozen(store, row))) => plan(store.row(*row), &candidate),
            (None, Some(Older::File(block, row, version))) => {
                plan_by_block(block, *row, *version, &candidate)
            }
            (None, Some(Older::Key(version))) => plan_by_version(*version, &candidate),
            (None, None) => Plan::Append(Outcome::Stored),
        };
        let row = match plan {
            Plan::Answer(outcome) => return Ok(outcome),
            Plan::Append(outcome) => (self.store.append_view(series, wire, view)?, outcome),
            Plan::AppendMerged(owned) => {
                let merged: Attributes<'_> =
                    owned.iter().map(|(name, value)| (&**name, value.value())).collect();
                let stamp = Stamp { time_ns: view.time_ns, version: view.version };
                (self.store.append(series, stamp, view.layout.kind, &merged), Outcome::Updated)
            }
        };
        let (row, outcome) = row;
        match here {
            Some(old) => self.store.index_instead(series, old, row),
            None => self.store.index_late(series, row, view.time_ns),
        }
        if older.is_some() {
            self.store.add_override(series, view.time_ns);
        }
        Ok(outcome)
    }

    fn find_older(
        &self,
        series: SeriesId,
        view: &RecordView<'_>,
        incoming: &Candidate<'_, '_>,
    ) -> Result<Option<Older<'l>>, EngineError> {
        let wanted = Wanted::of(view);
        // A series has one place in all stores of a directory, and the last of them has the map.
        let mut known = (self.store.directory().number(), Some(series));
        for frozen in self.frozen.iter().rev() {
            let Some(store) = frozen.tables.get(&self.table.id) else { continue };
            let number = store.directory().number();
            if number != known.0 {
                known = (number, store.find_series(&wanted));
            }
            if let Some(row) = known.1.and_then(|series| store.find_row(series, view.time_ns)) {
                return Ok(Some(Older::Frozen(store, row)));
            }
        }
        let Some(found) = self.magnetic.find(self.table.id, &wanted, view.time_ns)? else {
            return Ok(None);
        };
        if found.is_decided(incoming) {
            return Ok(Some(Older::Key(found.version)));
        }
        let (block, row) = self.magnetic.read(&found)?;
        Ok(Some(Older::File(block, row, found.version)))
    }
}

/// Asks the version rule.
fn plan<'a>(existing: RowRef<'a>, incoming: &Candidate<'_, 'a>) -> Plan {
    let mut standing = Attributes::with_capacity(existing.shape.attributes.len());
    existing.attributes(&mut standing);
    let (version, kind) = (existing.version(), existing.shape.kind);
    carry_out(&Candidate { version, kind, attributes: &standing }, incoming)
}

/// Asks the version rule about a row of a block.
fn plan_by_block<'a>(
    block: &'a Block,
    row: usize,
    version: i64,
    incoming: &Candidate<'_, 'a>,
) -> Plan {
    let mut standing = Attributes::new();
    let kind = block.row(row, &mut standing);
    carry_out(&Candidate { version, kind, attributes: &standing }, incoming)
}

/// Asks the version rule where only the version that stands matters: as if it stood without values.
fn plan_by_version(version: i64, incoming: &Candidate<'_, '_>) -> Plan {
    assert_ne!(version, incoming.version, "at one version the values decide");
    carry_out(&Candidate { version, kind: incoming.kind, attributes: &[] }, incoming)
}

fn carry_out<'a>(standing: &Candidate<'_, 'a>, incoming: &Candidate<'_, 'a>) -> Plan {
    match decide(Some(standing), incoming) {
        Verdict::Stored => unreachable!("a row stands"),
        Verdict::Unchanged => Plan::Answer(Outcome::Unchanged),
        Verdict::Rejected(rejection) => Plan::Answer(Outcome::Rejected(rejection)),
        // Every attribute that arrived is among the merged ones: as many are the same ones.
        Verdict::Updated(merged) if merged.len() == incoming.attributes.len() => {
            Plan::Append(Outcome::Updated)
        }
        Verdict::Updated(merged) => Plan::AppendMerged(
            merged.iter().map(|(name, value)| ((*name).into(), OwnedValue::of(value))).collect(),
        ),
    }
}

#[cfg(test)]
mod tests;
