//! Which series the embedded engine keeps from one flush to the next, and that nothing is lost with
//! those that it lets go.

mod engine_support;

use std::collections::{BTreeMap, BTreeSet};

use engine_support::{Bed, Key, NOW, Owned, Rec, State, payload};
use tidegate::base::units::Bytes;
use tidegate::engine::TableEngine;
use tidegate::engine::standing::Met;
use tidegate::record::TableId;
use tidegate::record::codec::{Payload, RecordView};
use tidegate::record::request::Outcome;

fn rec(table: TableId, host: u64, time_ns: i64, version: i64) -> Rec {
    Rec::new(table, &format!("h{host}"), time_ns, version).with("a", Owned::Bigint(version))
}

/// The version that a record would meet, as the engine says before it is written.
fn met(bed: &Bed, record: &Rec) -> Option<i64> {
    let bytes = payload(std::slice::from_ref(record), bed.shards);
    let payload = Payload::open(&bytes).expect("just built");
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).expect("just built");
    let sections = (0..payload.sections()).flat_map(|at| payload.section(at, &families, &layouts));
    let views: Vec<RecordView<'_>> = sections.map(|view| view.expect("just built")).collect();
    let met = bed.engine.met(&views).expect("the files can be read");
    assert_eq!(met.len(), 1, "an answer a record");
    match &met[0] {
        Met::Nothing => None,
        Met::Row(standing) => Some(standing.version),
        Met::Refused(why) => unreachable!("no record here is refused whatever stands: {why:?}"),
    }
}

/// Whether a record of `version` may become `outcome` where `stood` stands.
fn may_become(outcome: &Outcome, stood: Option<i64>, version: i64) -> bool {
    match stood {
        None => matches!(outcome, Outcome::Stored),
        Some(stood) if stood == version => matches!(outcome, Outcome::Unchanged),
        Some(stood) if stood < version => matches!(outcome, Outcome::Updated),
        Some(_) => matches!(outcome, Outcome::Rejected(_)),
    }
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
/// each record meets, and what it must become.
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
                let record = rec(table, host, time_ns, version);
                let stood = model.get(&(table, host, time_ns)).copied();
                assert_eq!(met(&bed, &record), stood, "seed {seed}, round {round}: is foreseen");
                let outcome = &bed.write(&[record])[0];
                assert!(
                    may_become(outcome, stood, version),
                    "seed {seed}, round {round}: {outcome:?} on {stood:?}"
                );
                let stands = model.entry((table, host, time_ns)).or_insert(version);
                *stands = version.max(*stands);
            }
            assert!(bed.engine.flush().is_err() || bed.engine.state().memory_rows == 0);
        }
        assert!(bed.engine.state().flushed.failures > 0, "seed {seed}: no flush met the obstacle");
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
            let in_files = bed.engine.rows(table);
            assert_eq!(in_files, rows.len() as u64, "seed {seed}: a key has one row in all files");
            let found = rows.iter().map(|((_, dimensions, time_ns), (_, version, _))| {
                (dimensions[0].1.clone(), *time_ns, *version)
            });
            assert_eq!(found.collect::<BTreeSet<_>>(), versions(table), "{seed}");
        }
    }
}

/// Goal: an order of series that one flush leaves to the next puts each row where its key is looked for.
/// Method: many hosts send, all of them again, all and one that sorts before them, all but that one; another
/// table is flushed between. Rows are compared, and after a crash each key is looked up in the files.
#[test]
fn rows_are_found_in_the_files_of_flushes_with_one_order() {
    let mut bed = Bed::new(1);
    let (table, other) = (bed.table("t"), bed.table("other"));
    let fleet: Vec<String> = (0..1_100).map(|host| format!("h{host:04}")).collect();
    let grown: Vec<String> = std::iter::once("a".to_owned()).chain(fleet.iter().cloned()).collect();
    let steps = [
        (table, &fleet),
        (table, &fleet),
        (table, &grown),
        (table, &fleet),
        (other, &fleet),
        (table, &grown),
        (table, &grown),
    ];
    let mut written: BTreeMap<TableId, Vec<Rec>> = BTreeMap::new();
    for (step, (table, hosts)) in (0..).zip(steps) {
        let value = |at: usize| Owned::Bigint(step * 10_000 + i64::try_from(at).unwrap());
        let of_host = |(at, host): (usize, &String)| {
            Rec::new(table, host, NOW + step, 1).with("a", value(at))
        };
        let records: Vec<Rec> = hosts.iter().enumerate().map(of_host).collect();
        assert!(all(&bed.write(&records), &Outcome::Stored));
        bed.engine.flush().unwrap();
        written.entry(table).or_default().extend(records);
    }
    for is_crashed in [false, true] {
        if is_crashed {
            bed.crash(1);
            assert_eq!(bed.engine.state().memory_rows, 0, "all is in files");
        }
        for (&table, records) in &written {
            let expected: BTreeMap<Key, State> = records.iter().map(row_of).collect();
            assert_eq!(bed.rows(table), expected);
            assert_eq!(bed.engine.rows(table), expected.len() as u64);
            assert!(records.iter().all(|record| met(&bed, record) == Some(1)));
            assert!(all(&bed.write(records), &Outcome::Unchanged));
        }
    }
}

/// The row that a record alone becomes.
fn row_of(record: &Rec) -> (Key, State) {
    let key = (record.measure.clone(), record.dimensions.clone(), record.time_ns);
    let attributes = record.attributes.iter().cloned().collect();
    (key, (record.kind(), record.version, attributes))
}
