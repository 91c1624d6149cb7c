//! Records that meet rows in files find them, whatever the cache holds: with room for everything, with
//! keys of an index beyond their bound, and with room for nothing.
//!
//! Method: a file of several blocks, with rows of different attributes and versions; then records of
//! lower, equal and higher versions, with all attributes and with some, in random order. Outcomes and
//! rows are those that the version rule says.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use engine_support::{Bed, NOW, Owned, Random, Rec};
use tidegate::base::units::Bytes;
use tidegate::engine::TableEngine;
use tidegate::record::request::Outcome;
use tidegate::record::{MeasureKind, Reason, TableId};

const HOSTS: usize = 40;
/// With the hosts, rows of more than two blocks of 8,192.
const TIMES: i64 = 500;

fn version_of(host: usize, at: i64) -> i64 {
    10 + i64::try_from(host).unwrap() % 3 * (at % 2)
}

/// Every third host has a text beside its numbers, every fifth row has no `b`.
fn stored(table: TableId, host: usize, at: i64) -> Rec {
    let rec = Rec::new(table, &format!("h{host}"), NOW + at * 1000, version_of(host, at));
    let mut rec = rec.with("a", Owned::Bigint(at * 7 + i64::try_from(host).unwrap()));
    if at % 5 != 0 {
        rec = rec.with("b", Owned::double(0.5));
    }
    if host.is_multiple_of(3) {
        rec = rec.with("c", Owned::Varchar(format!("text {at}")));
    }
    rec
}

/// A record that meets the row of `host` at `at`, and what becomes of it.
fn late(random: &mut Random, table: TableId, host: usize, at: i64) -> (Rec, &'static str) {
    let row = stored(table, host, at);
    let new = |version: i64| Rec::new(table, &format!("h{host}"), NOW + at * 1000, version);
    match random.below(6) {
        0 => (new(row.version - 1).with("a", Owned::Bigint(0)), "lower"),
        1 => (row, "unchanged"),
        2 => (new(row.version).with("a", Owned::Bigint(-1)), "conflict"),
        3 => (new(row.version).with("z", Owned::Boolean(true)), "updated"),
        4 => (new(row.version + 1).with("a", Owned::Bigint(-1)), "updated"),
        _ => (Rec { version: row.version + 1, ..row }, "updated"),
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Stored => "stored",
        Outcome::Updated => "updated",
        Outcome::Unchanged => "unchanged",
        Outcome::Rejected(rejection) => match rejection.reason {
            Reason::VersionLower => "lower",
            Reason::VersionConflict => "conflict",
            _ => "another reason",
        },
    }
}

fn look_up(cache: Bytes, count: usize, is_restarted: bool) {
    let mut bed = Bed::with(1, |options| options.cache_bytes_max = cache);
    let table = bed.table("t");
    let all: Vec<Rec> =
        (0..TIMES).flat_map(|at| (0..HOSTS).map(move |host| stored(table, host, at))).collect();
    bed.write(&all);
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.state().files, 1);
    if is_restarted {
        bed.crash(1);
    }
    let mut expected = bed.rows(table);
    let mut random = Random::new(11);
    let (mut records, mut outcomes) = (Vec::new(), Vec::new());
    // 333 and 20,000 share no divisor, so that no key comes twice.
    for place in (0..count).map(|at| at * 333 % (HOSTS * 500)) {
        let (rec, outcome) =
            late(&mut random, table, place % HOSTS, i64::try_from(place / HOSTS).unwrap());
        let key = (rec.measure.clone(), rec.dimensions.clone(), rec.time_ns);
        let (kind, version, attributes) = expected.get_mut(&key).unwrap();
        assert_eq!(*kind, MeasureKind::Multi);
        if outcome == "updated" {
            *version = rec.version;
            attributes.extend(rec.attributes.iter().cloned());
        }
        records.push(rec);
        outcomes.push(outcome);
    }
    // Beside them such as meet nothing: between two rows, and of a host that there is not.
    records.push(Rec::new(table, "h1", NOW + 1500, 1).with("a", Owned::Bigint(1)));
    records.push(Rec::new(table, "h", NOW + 1000, 1).with("a", Owned::Bigint(1)));
    outcomes.extend(["stored"; 2]);
    let found: Vec<_> = bed.write(&records).iter().map(name_of).collect();
    for ((found, expected), rec) in found.iter().zip(&outcomes).zip(&records) {
        assert_eq!(found, expected, "{rec:?}, cache of {cache}");
    }
    let mut rows = bed.rows(table);
    assert_eq!(rows.len(), expected.len() + 2);
    rows.retain(|key, _| expected.contains_key(key));
    assert_eq!(rows, expected, "cache of {cache}");
    bed.engine.flush().unwrap();
    let mut rows = bed.rows(table);
    rows.retain(|key, _| expected.contains_key(key));
    assert_eq!(rows, expected, "flushed, cache of {cache}");
}

#[test]
fn late_records_find_their_rows_with_a_cache_that_has_room() {
    look_up(Bytes::mib(256), 1_500, false);
    look_up(Bytes::mib(256), 1_500, true);
}

/// The keys of 40 series take more than the sixteenth of this cache that one index may take: rows are
/// found by the names in the file.
#[test]
fn late_records_find_their_rows_where_an_index_may_not_keep_its_keys() {
    look_up(Bytes(1 << 15), 120, false);
    look_up(Bytes(1 << 15), 120, true);
}

/// Each record pushes out what the one before it needed.
#[test]
fn late_records_find_their_rows_with_a_cache_that_has_room_for_nothing() {
    look_up(Bytes(0), 60, false);
    look_up(Bytes(0), 60, true);
}
