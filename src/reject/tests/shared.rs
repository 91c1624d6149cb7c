//! Objects that many frames share say what each of their frames said, whatever crashes.

use super::*;
use crate::reject::archive::Archive;
use crate::reject::entry::{Id, Sheet};
use crate::reject::select::Query;

/// A reporter of its own of the sink in `dir`, as after a start.
fn started(store: &Arc<Store>) -> Reporter {
    let clock = Arc::new(Mender(Box::new(|| unreachable!("the sink is there"))));
    Reporter::new(
        Claim::new(Arc::clone(store), "one".to_owned(), Lsn(u64::MAX), SystemClock::shared()),
        clock,
        Metrics::new().unwrap(),
        Arc::default(),
    )
}

/// The rejection at `place` of frame `lsn`, found by shard `shard`.
fn conflict(lsn: u64, place: u64, shard: (u16, usize)) -> Report<'static> {
    let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
    let record = reported(MeasureKind::Scalar, scalar).at(place);
    let content = Content::Records { table: "t", place: Place::Sink, shard, records: vec![record] };
    Report { lsn: Lsn(lsn), received_ns: RECEIVED_NS, database: "d", part: 0, content }
}

fn write<'r>(reporter: &Reporter, reports: impl IntoIterator<Item = Report<'r>>) {
    let mut outbox = Outbox::default();
    for report in reports {
        reporter.report(&mut outbox, &report).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
}

/// The numbers of all rejections, as an archive shows them.
fn shown(store: &Arc<Store>) -> Vec<(u64, u64)> {
    let query = Query { limit: 1_000, ..Query::default() };
    let page = Archive::new(Arc::clone(store)).page(&query, &|_| true).unwrap();
    assert_eq!((&page.next, &page.unreadable), (&None, &Vec::new()));
    page.rejections.iter().rev().map(|one| (one.entry.id.lsn.0, one.entry.id.place)).collect()
}

fn store() -> (tempfile::TempDir, Arc<Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::in_directory(dir.path()).unwrap());
    (dir, store)
}

#[test]
fn small_reports_of_a_block_are_one_object_and_of_two_blocks_are_two() {
    let (_dir, store) = store();
    write(&started(&store), (0..512).map(|lsn| conflict(lsn, 57, (0, 1))));
    assert_eq!(store.list("records").unwrap().len(), 2);
    assert_eq!(shown(&store).len(), 512);
}

/// Turn by turn, with a crash behind every step: before the object is written, after it, and after the frames
/// were released. A replay begins at some frame that was not released and finds what it found, or a part of
/// it where the engine has stored the others.
#[test]
fn a_crash_between_any_two_steps_loses_nothing_and_doubles_nothing() {
    const FRAMES: u64 = 11;
    let all: Vec<(u64, u64)> = (250..250 + FRAMES).flat_map(|lsn| [(lsn, 10), (lsn, 20)]).collect();
    let of = |lsn: u64| [conflict(lsn, 10, (0, 1)), conflict(lsn, 20, (0, 1))];
    for crash_at in 250..250 + FRAMES {
        for (is_written, only_second) in [(false, false), (true, false), (true, true)] {
            let (_dir, store) = store();
            let first = started(&store);
            for lsn in 250..crash_at {
                write(&first, of(lsn));
            }
            if is_written {
                write(&first, of(crash_at));
            }
            drop(first);
            let second = started(&store);
            // The engine had stored what else the frames had; of some it is asked for a part alone.
            for lsn in crash_at.saturating_sub(3).max(250)..250 + FRAMES {
                let skipped = usize::from(only_second && lsn <= crash_at);
                write(&second, of(lsn).into_iter().skip(skipped));
            }
            assert_eq!(shown(&store), all, "crash at {crash_at}, written: {is_written}");
            let objects = store.list("records").unwrap();
            assert_eq!(objects.len(), 2, "{objects:?}");
        }
    }
}

#[test]
fn another_number_of_shards_shows_each_rejection_once() {
    let (_dir, store) = store();
    write(&started(&store), (1..20).map(|lsn| conflict(lsn, 57, (0, 1))));
    write(&started(&store), (5..30).map(|lsn| conflict(lsn, 57, ((lsn % 2) as u16, 2))));
    assert_eq!(store.list("records").unwrap().len(), 3);
    assert_eq!(shown(&store), (1..30).map(|lsn| (lsn, 57)).collect::<Vec<_>>());
}

#[test]
fn a_large_report_has_its_own_object_and_a_part_of_it_found_again_is_shown_once() {
    let (_dir, store) = store();
    let many = |count: u64| {
        let scalar = || vec![Attribute { name: "", value: Value::Bigint(1) }];
        let records = (0..count).map(|at| reported(MeasureKind::Scalar, scalar()).at(at + 1));
        let (place, shard, records) = (Place::Sink, (0, 1), records.collect());
        report(Content::Records { table: "t", place, shard, records })
    };
    write(&started(&store), [many(100)]);
    let own = store.list("records").unwrap();
    assert!(own.len() == 1 && own[0].ends_with("00000000000000000007-0of1-0.json"), "{own:?}");
    write(&started(&store), [many(3)]);
    assert_eq!(store.list("records").unwrap().len(), 2);
    assert_eq!(shown(&store), (1..=100).map(|place| (7, place)).collect::<Vec<_>>());
}

#[test]
fn what_was_forgotten_to_make_room_is_read_again() {
    let (_dir, store) = store();
    let text = "y".repeat(outbox::SHARED_REPORT_BYTES_MAX / 2).into_bytes();
    let room = crate::reject::shared::Kept::with_room(10 * outbox::SHARED_REPORT_BYTES_MAX);
    let reporter = Reporter { shared: Arc::new(room), ..started(&store) };
    // More than is kept; then the first block again.
    for block in 0..40 {
        write(&reporter, [large(of_block(block, "d"), &text)]);
    }
    assert!((10..20).contains(&reporter.shared.count()), "{}", reporter.shared.count());
    write(&reporter, [lines(1, "d")]);
    let first = store.list("lines").unwrap()[0].clone();
    let sheet = Sheet::parse(&store.get(&first).unwrap()).unwrap();
    let ids: Vec<u64> = sheet.entries.iter().map(|entry| entry.id.lsn.0).collect();
    assert_eq!(ids, [0, 1]);
}

#[test]
fn an_object_that_cannot_be_read_stays_and_another_is_begun() {
    let (_dir, store) = store();
    write(&started(&store), [conflict(1, 57, (0, 1))]);
    let name = store.list("records").unwrap().pop().unwrap();
    for damaged in
        [&b"{\"database\":\"d\""[..], br#"{"database":"other","table":"t","records":[]}"#]
    {
        let (_dir, store) = self::store();
        store.put(&name, damaged.to_vec()).unwrap();
        let reporter = started(&store);
        write(&reporter, [conflict(2, 57, (0, 1))]);
        write(&reporter, [conflict(3, 57, (0, 1))]);
        write(&started(&store), [conflict(4, 57, (0, 1))]);
        assert_eq!(store.get(&name).unwrap(), damaged, "it is for somebody to look at");
        let objects = store.list("records").unwrap();
        assert_eq!(objects.len(), 2, "{objects:?}");
        let other = Sheet::parse(&store.get(&name.replace(".json", "-x1.json")).unwrap()).unwrap();
        let ids: Vec<Id> = other.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [2, 3, 4].map(|lsn| Id { lsn: Lsn(lsn), place: 57 }));
    }
}
