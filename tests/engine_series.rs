//! Which series the embedded engine keeps from one flush to the next, and that nothing is lost with
//! those that it lets go.

mod engine_support;

use std::collections::{BTreeMap, BTreeSet};

use engine_support::{Bed, NOW, Owned, Rec};
use tidegate::base::units::Bytes;
use tidegate::engine::TableEngine;
use tidegate::record::TableId;
use tidegate::record::request::Outcome;

fn rec(table: TableId, host: u64, time_ns: i64, version: i64) -> Rec {
    Rec::new(table, &format!("h{host}"), time_ns, version).with("a", Owned::Bigint(version))
}

fn all(outcomes: &[Outcome], expected: &Outcome) -> bool {
    outcomes.iter().all(|outcome| outcome == expected)
}

/// Goal: a fleet that sends again is known; of one of which most are silent only the others are; a table
/// to which nobody writes is forgotten after a while. Method: look at the count of series.
#[test]
fn series_stay_known_until_they_are_silent() {
    let mut bed = Bed::new(1);
    let (table, other) = (bed.table("t"), bed.table("other"));
    for step in 0..3 {
        let of_all: Vec<Rec> = (0..100).map(|host| rec(table, host, NOW + step, 1)).collect();
        assert!(all(&bed.write(&of_all), &Outcome::Stored));
        bed.engine.flush().unwrap();
        assert_eq!(bed.engine.state().series, 100);
    }
    // Most send, then few.
    for (hosts, known) in [(60, 100), (10, 10)] {
        let some: Vec<Rec> =
            (0..hosts).map(|host| rec(table, host, NOW + 1_000 - known, 1)).collect();
        assert!(all(&bed.write(&some), &Outcome::Stored));
        bed.engine.flush().unwrap();
        assert_eq!(bed.engine.state().series, known.unsigned_abs());
    }
    for (step, known) in [(0, 11), (1, 11), (2, 1)] {
        bed.write(&[rec(other, 0, NOW + step, 1)]);
        bed.engine.flush().unwrap();
        assert_eq!(bed.engine.state().series, known, "after {step} flushes without a row of `t`");
    }
    // What was let go has rows, and nobody forgot them.
    let again: Vec<Rec> = (0..100).map(|host| rec(table, host, NOW, 1)).collect();
    assert!(all(&bed.write(&again), &Outcome::Unchanged));
    assert_eq!(bed.rows(table).len(), 3 * 100 + 60 + 10);
}

#[test]
fn series_beyond_their_bound_are_let_go_and_their_rows_are_found() {
    let mut bed = Bed::with(1, |options| {
        options.memory_bytes_max = Bytes::mib(1);
        options.flush_bytes = Bytes(1 << 19);
    });
    let table = bed.table("t");
    let of_all = |version| (0..4_000).map(move |host| rec(table, host, NOW, version)).collect();
    let records: Vec<Rec> = of_all(1);
    assert!(all(&bed.write(&records), &Outcome::Stored));
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.state().series, 0, "they would take more than half of the memory");
    assert!(all(&bed.write(&records), &Outcome::Unchanged));
    let records: Vec<Rec> = of_all(2);
    assert!(all(&bed.write(&records), &Outcome::Updated));
    bed.engine.flush().unwrap();
    assert_eq!(bed.rows(table).len(), 4_000);
}

/// Goal: a late record finds the row that it repeats or overrides, in whichever store that is. Method:
/// flushes that fail leave a row of frozen stores; between them random hosts of a few or of all send
/// random times again, so that series are passed on, let go and made anew; a model tells what
/// each record must become.
#[test]
fn late_records_find_their_rows_in_every_store_that_waits() {
    for seed in 1..=8_u64 {
        let mut state = seed;
        let mut below = |end: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % end
        };
        let mut bed = Bed::new(2);
        let tables = [bed.table("t"), bed.table("u")];
        let obstacle = bed.dir.path().join("d");
        std::fs::write(&obstacle, b"").unwrap();
        let mut model: BTreeMap<(TableId, u64, i64), i64> = BTreeMap::new();
        for round in 0..60 {
            let hosts = [3, 40, 40, 9][usize::try_from(below(4)).unwrap()];
            let table = tables[usize::from(below(5) == 0)];
            for _ in 0..below(60) {
                let (host, time_ns) = (below(hosts), NOW + below(20).cast_signed());
                let version = 1 + below(3).cast_signed();
                let outcome = &bed.write(&[rec(table, host, time_ns, version)])[0];
                let stood = model.get(&(table, host, time_ns)).copied();
                let expected = match stood {
                    None => matches!(outcome, Outcome::Stored),
                    Some(stood) if stood == version => matches!(outcome, Outcome::Unchanged),
                    Some(stood) if stood < version => matches!(outcome, Outcome::Updated),
                    Some(_) => matches!(outcome, Outcome::Rejected(_)),
                };
                assert!(expected, "seed {seed}, round {round}: {outcome:?} on {stood:?}");
                let stands = model.entry((table, host, time_ns)).or_insert(version);
                *stands = version.max(*stands);
            }
            assert!(bed.engine.flush().is_err() || bed.engine.state().memory_rows == 0);
        }
        std::fs::remove_file(&obstacle).unwrap();
        bed.engine.flush().unwrap();
        let versions = |table| {
            let of_table = model.iter().filter(move |((of, ..), _)| *of == table);
            let key = |((_, host, time_ns), version): (&(TableId, u64, i64), &i64)| {
                (format!("h{host}"), *time_ns, *version)
            };
            of_table.map(key).collect::<BTreeSet<_>>()
        };
        for table in tables {
            let rows = bed.rows(table);
            let found = rows.iter().map(|((_, dimensions, time_ns), (_, version, _))| {
                (dimensions[0].1.clone(), *time_ns, *version)
            });
            assert_eq!(found.collect::<BTreeSet<_>>(), versions(table), "{seed}");
        }
    }
}
