//! What a shard keeps through freezes, and what it says that this takes.

use super::*;
use crate::engine::catalog::{Catalog, TableSettings};
use crate::engine::embedded::disk::Disk;
use crate::engine::embedded::recover;
use crate::record::codec::{Payload, PayloadBuilder};
use crate::record::request::CommonAttributes;
use crate::record::{Attribute, Dimension, Record, Value};
use std::cell::Cell;
use std::ops::Range;

const ALL: Remembered = Remembered { series_bytes_max: usize::MAX, history_bytes_max: usize::MAX };

/// A table's files, of which there are none, and a payload with one record at time 7.
fn ground() -> (tempfile::TempDir, Arc<Table>, Magnetic, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let table = catalog.create("d", "t", &TableSettings::default()).unwrap();
    let disk = Arc::new(Disk::default());
    let (magnetic, _) = recover::open(dir.path(), 1 << 20, &catalog, disk).unwrap();
    let bytes = payload(&table, 0..1, 7);
    (dir, table, magnetic, bytes)
}

/// A record of each of these hosts at a time.
fn payload(table: &Table, hosts: Range<u32>, time_ns: i64) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    for host in hosts {
        let host = format!("h{host}");
        let record = Record {
            measure_name: "m",
            dimensions: vec![Dimension { name: "host", value: &host }],
            attributes: vec![Attribute { name: "v", value: Value::Bigint(1) }],
            ..Record::default()
        };
        let ids = (builder.family(table.id, &record).0, builder.layout(&record).0);
        builder.push(ids, &record, time_ns, 1);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

fn write(state: &mut ShardState, below: &Below<'_>, bytes: &[u8]) -> Vec<Outcome> {
    let payload = Payload::open(bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let views: Vec<RecordView<'_>> =
        payload.section(0, &families, &layouts).collect::<Result<_, _>>().unwrap();
    let common = CommonAttributes::default();
    let request = WriteRequest { table: below.table.id, common: &common, records: &views };
    let mut outcomes = Vec::new();
    state.write(below, &request, &mut outcomes).unwrap();
    state.is_mid_frame = false;
    outcomes
}

/// Goal: a writer that asked the catalog before a table was deleted, and comes to its shard after the
/// store was let go of, finds what was frozen. Method: these steps, one after the other.
#[test]
fn rows_that_wait_are_found_when_the_store_after_them_is_gone() {
    let (_dir, table, magnetic, bytes) = ground();
    let below = Below { table: &table, magnetic: &magnetic, alive_from_ns: i64::MIN };
    let mut state = ShardState::default();
    assert_eq!(write(&mut state, &below, &bytes), [Outcome::Stored]);
    assert!(state.freeze(ALL));
    drop(state.retain_tables(|_| false));
    assert!(state.active.is_empty() && state.history.is_empty());
    // As where older files have later rows of the table.
    state.history.insert(table.id, History::new(Some(7)));
    assert_eq!(write(&mut state, &below, &bytes), [Outcome::Unchanged]);
}

#[test]
fn a_table_that_is_deleted_while_it_is_asked_for_can_be_frozen() {
    let (_dir, table, magnetic, bytes) = ground();
    let below = Below { table: &table, magnetic: &magnetic, alive_from_ns: i64::MIN };
    let mut state = ShardState::default();
    assert_eq!(write(&mut state, &below, &bytes), [Outcome::Stored]);
    let is_wanted = Cell::new(true);
    assert!(state.retain_tables(|_| is_wanted.replace(false)).is_empty());
    assert!(!is_wanted.get(), "it was asked for");
    assert!(state.freeze(ALL));
    assert_eq!(state.retain_tables(|_| is_wanted.get()).len(), 1);
    assert!(state.active.is_empty() && state.history.is_empty());
}

/// What the shard has, counted anew.
fn counted(state: &ShardState) -> Held {
    let stores = || state.active.values();
    let history: usize = state.history.values().map(History::bytes).sum();
    let bytes = stores().map(TableStore::bytes).sum::<usize>() + history;
    let series_bytes = stores().map(TableStore::series_bytes).sum::<usize>() + history;
    Held { bytes, series_bytes }
}

/// Goal: what a shard says that it holds is what it holds, also of tables that were deleted. Method: writes,
/// freezes with little room and much, deletes, in every order; each is counted anew.
#[test]
fn what_is_held_is_what_there_is_whatever_was_let_go() {
    let (_dir, table, magnetic, _) = ground();
    let below = Below { table: &table, magnetic: &magnetic, alive_from_ns: i64::MIN };
    let little = Remembered { series_bytes_max: 0, history_bytes_max: usize::MAX };
    let none = Remembered { series_bytes_max: 0, history_bytes_max: 0 };
    let mut had_history = 0;
    for round in 0..4_u32.pow(5) {
        let mut state = ShardState::default();
        for step in 0..5 {
            let time_ns = i64::from(step);
            match round / 4_u32.pow(step) % 4 {
                0 => drop(write(&mut state, &below, &payload(&table, 0..step * 3 + 9, time_ns))),
                1 => drop(state.freeze(if step % 2 == 0 { ALL } else { little })),
                2 => drop(state.freeze(if step % 2 == 0 { little } else { none })),
                _ => {
                    had_history += u32::from(state.history_bytes > 0);
                    drop(state.retain_tables(|_| false));
                    assert_eq!(state.held(), Held::default(), "round {round}, step {step}");
                }
            }
            assert_eq!(state.held(), counted(&state), "round {round}, step {step}");
        }
    }
    assert!(had_history > 50, "only {had_history} times there was a history to let go of");
}

/// Goal: what takes long is not done under a shard's lock: a table without rows is kept as it is, and one
/// that is let go of is dropped by the thread that flushes. Method: another table's freezes.
#[test]
fn a_table_without_rows_is_kept_as_it_is_and_goes_with_what_is_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let make = |name| catalog.create("d", name, &TableSettings::default()).unwrap();
    let (idle, busy) = (make("idle"), make("busy"));
    let disk = Arc::new(Disk::default());
    let (magnetic, _) = recover::open(dir.path(), 1 << 20, &catalog, disk).unwrap();
    let of = |table| Below { table, magnetic: &magnetic, alive_from_ns: i64::MIN };
    let mut state = ShardState::default();
    write(&mut state, &of(&idle), &payload(&idle, 0..50, 1));
    assert!(state.freeze(ALL));
    state.frozen.clear();
    let number = |state: &ShardState| state.active.get(&idle.id).map(|s| s.directory().number());
    let first = number(&state);
    for time_ns in 0..i64::from(IDLE_FREEZES_MAX) {
        write(&mut state, &of(&busy), &payload(&busy, 0..1, time_ns));
        assert!(state.freeze(ALL));
        assert!(!state.frozen.pop().unwrap().tables.contains_key(&idle.id));
        assert_eq!(number(&state), first);
        assert_eq!(state.held(), counted(&state));
    }
    write(&mut state, &of(&busy), &payload(&busy, 0..1, 9));
    assert!(state.freeze(ALL));
    assert_eq!(number(&state), None);
    let let_go = &state.frozen[0].tables[&idle.id];
    assert!(let_go.is_empty() && let_go.keys().len() == 50, "for the other thread to drop");
    assert!(state.frozen[0].bytes >= let_go.series_bytes(), "until then it counts");
    // What it knew is remembered: a repetition is looked for.
    let history = &state.history[&idle.id];
    assert!(history.last.len() == 50 && history.last.iter().all(|entry| entry.1 == 1));
    assert_eq!(state.held(), counted(&state));
}

/// Of a table with many series of which few have rows those few are kept, where all would not fit.
#[test]
fn the_series_that_have_rows_are_kept_where_all_would_take_too_much() {
    let (_dir, table, magnetic, _) = ground();
    let below = Below { table: &table, magnetic: &magnetic, alive_from_ns: i64::MIN };
    let mut state = ShardState::default();
    write(&mut state, &below, &payload(&table, 0..1000, 1));
    assert!(state.freeze(ALL));
    state.frozen.clear();
    let all = state.held().series_bytes;
    write(&mut state, &below, &payload(&table, 0..100, 2));
    let bounds = Remembered { series_bytes_max: all / 5, ..ALL };
    assert!(state.freeze(bounds));
    let kept = &state.active[&table.id];
    assert_eq!(kept.keys().len(), 100);
    assert!(kept.series_bytes() <= bounds.series_bytes_max, "{} of {all}", kept.series_bytes());
    assert_eq!(state.history[&table.id].last.len(), 900, "the others are remembered");
    assert_eq!(write(&mut state, &below, &payload(&table, 0..1, 2)), [Outcome::Unchanged]);
}
