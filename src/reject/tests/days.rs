//! Days of the sink: the newest are shown without a look at those before, the oldest are removed when they are to be.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::base::units::DAY_NS;
use crate::object::Object;
use crate::reject::archive::Archive;
use crate::reject::entry::{Id, Moment};
use crate::reject::key::Day;
use crate::reject::mark::Resubmitted;
use crate::reject::retention::{Sweep, Swept};
use crate::reject::select::{Order, Query};

/// A sink with a refused line and a record a day, of two databases and two tables.
fn days(count: i64) -> (tempfile::TempDir, Archive, Arc<Store>) {
    let (dir, store, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let mut outbox = Outbox::default();
    for day in 0..count {
        let lsn = 1_000 * (day.unsigned_abs() + 1);
        let received_ns = RECEIVED_NS + day * DAY_NS;
        let database = if day % 2 == 0 { "iot/eu" } else { "fleet" };
        let line = Report { received_ns, ..lines(lsn, database) };
        reporter.report(&mut outbox, &line).unwrap();
        let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
        let records = vec![reported(MeasureKind::Scalar, scalar).at(500)];
        let table = if day % 3 == 0 { "even" } else { "odd" };
        let content = Content::Records { table, place: Place::Sink, shard: (0, 1), records };
        let record = Report { received_ns, database, content, ..lines(lsn, database) };
        reporter.report(&mut outbox, &record).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    (dir, reporter.archive(), store)
}

fn keys(store: &Store, folder: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    store.each(folder, |Object { key, .. }| _ = keys.insert(key)).unwrap();
    keys
}

fn sweep(store: &Store, keep_from_ns: i64) -> Swept {
    let (stopping, mut marks_after) = (AtomicBool::new(false), String::new());
    let keep_from = Day::of(keep_from_ns);
    let mut sweep = Sweep { store, keep_from, stopping: &stopping, marks_after: &mut marks_after };
    let mut count = 0;
    let swept = sweep.round(&mut || count += 1).unwrap();
    assert_eq!(swept.removed, count, "each is counted");
    swept
}

/// Method: the days before are broken in a way that whoever lists them tells.
#[test]
fn the_newest_are_shown_without_a_look_at_the_days_before() {
    let (_dir, archive, store) = days(60);
    for key in keys(&store, "records").into_iter().chain(keys(&store, "lines")) {
        let (folder, _) = key.rsplit_once('/').unwrap();
        store.put(&format!("{folder}/stray.txt"), b"x".to_vec()).unwrap();
    }
    for order in [Order::Newest, Order::Oldest] {
        let page = archive.page(&Query { order, limit: 4, ..Query::all() }, &|_| true).unwrap();
        let found: Vec<u64> = page.rejections.iter().map(|one| one.entry.lsn.0).collect();
        let expected = match order {
            Order::Newest => [60_000, 60_000, 59_000, 59_000],
            Order::Oldest => [1_000, 1_000, 2_000, 2_000],
        };
        assert_eq!(found, expected);
        assert!(page.next.is_some());
        assert_eq!(page.unreadable.len(), 4, "two days of two folders each: {:?}", page.unreadable);
    }
    // A frame of one of the newest days is found there, one of another among all.
    for (lsn, looked_at) in [(59_000, 4), (7_000, 20)] {
        let query = Query { lsn: Some(Lsn(lsn)), ..Query::all() };
        let page = archive.page(&query, &|_| true).unwrap();
        assert_eq!((page.rejections.len(), page.unreadable.len()), (2, looked_at), "{lsn}");
    }
    assert!(
        archive.find(&[Id { lsn: Lsn(7_000), place: 1 }].into(), &|_| true).unwrap().is_empty()
    );
}

#[test]
fn days_that_are_wholly_older_go_with_their_marks_and_nothing_else_does() {
    let (dir, archive, store) = days(10);
    let mark = |lsn: u64, day: i64, of: u64| {
        let at = Moment(RECEIVED_NS + day * DAY_NS);
        let resubmitted = Resubmitted { lsn: Lsn(lsn), at, by: "ada".to_owned(), correction: None };
        let stored = [Id { lsn: Lsn(of), place: 40 }].into();
        archive.mark(&resubmitted, &ended(stored, false)).unwrap();
    };
    // Of the second day, made on the third; and of the third, made on the ninth.
    mark(50_000, 2, 2_000);
    mark(51_000, 8, 3_000);
    store.put("elsewhere/fleet/odd/2023/11/14/late.json", b"{}".to_vec()).unwrap();
    // Others have a place in the same bucket: what is no report stays, also in a day of ours.
    let late = "0123456789abcdef0123456789abcdef.json";
    let foreign = ["x/y/2023/11/14/data.parquet".to_owned(), format!("x/y/2023/11/14/{late}")];
    for key in &foreign {
        store.put(&format!("records/{key}"), b"theirs".to_vec()).unwrap();
    }
    let before = keys(&store, "records").len() + keys(&store, "lines").len();
    assert_eq!(before, 20 + foreign.len());
    assert_eq!(sweep(&store, RECEIVED_NS), Swept::default(), "the first day is not over");
    // Five days and an hour later the first five are wholly older.
    let swept = sweep(&store, RECEIVED_NS + 5 * DAY_NS + DAY_NS / 24);
    assert_eq!(swept, Swept { removed: 11, is_cut: false });
    let left = archive.page(&Query { order: Order::Oldest, ..Query::all() }, &|_| true).unwrap();
    let left: Vec<u64> = left.rejections.iter().map(|one| one.entry.lsn.0).collect();
    assert_eq!(left.first(), Some(&6_000));
    assert_eq!(left.len(), 10);
    assert_eq!(keys(&store, "resubmitted").len(), 1, "a younger mark stays");
    assert_eq!(keys(&store, "elsewhere").len(), 1, "what a table names is not ours");
    assert_eq!(sweep(&store, RECEIVED_NS + 5 * DAY_NS), Swept::default());
    assert_eq!(sweep(&store, RECEIVED_NS + 400 * DAY_NS).removed, 11);
    assert_eq!(keys(&store, "records").len(), foreign.len(), "what is no report is not ours");
    for (folder, theirs) in [("records", 1), ("lines", 0), ("resubmitted", 0)] {
        let left = std::fs::read_dir(dir.path().join(folder)).unwrap().count();
        assert_eq!(left, theirs, "{folder} has no empty folders");
    }
}

#[test]
fn a_stop_breaks_a_round_off_and_its_marks_stay() {
    let (_dir, archive, store) = days(3);
    let at = Moment(RECEIVED_NS);
    let resubmitted = Resubmitted { lsn: Lsn(9_000), at, by: "ada".to_owned(), correction: None };
    archive.mark(&resubmitted, &ended([Id { lsn: Lsn(1_000), place: 40 }].into(), false)).unwrap();
    let (stopping, mut marks_after) = (AtomicBool::new(true), String::new());
    let keep_from = Day::of(RECEIVED_NS + 9 * DAY_NS);
    let mut sweep =
        Sweep { store: &store, keep_from, stopping: &stopping, marks_after: &mut marks_after };
    assert_eq!(sweep.round(&mut || ()).unwrap(), Swept { removed: 0, is_cut: true });
    assert_eq!(keys(&store, "resubmitted").len(), 1);
    assert_eq!(keys(&store, "lines").len(), 3);
}

#[test]
fn what_is_kept_for_less_than_a_day_is_a_contradiction() {
    use crate::base::units::Span;
    let problems = |keep_for| Options { keep_for, ..Options::default() }.problems();
    assert!(problems(Span::default()).is_empty() && problems(Span::secs(86_400)).is_empty());
    assert!(problems(Span::secs(3_600))[0].contains("1d to 73000d"), "{:?}", problems(Span::ms(1)));
}
