//! What the sink holds is found, in order and in pages, and what was sent again is marked.

use std::collections::BTreeSet;

use super::*;
use crate::reject::archive::{Archive, Rejected};
use crate::reject::entry::{Id, Moment};
use crate::reject::mark::{Correction, Ended, Resubmitted, WhyAgain};
use crate::reject::select::{Kind, Order, Query, State};

const DAY_NS: i64 = 86_400_000_000_000;

fn at(lsn: u64, place: u64) -> Id {
    Id { lsn: Lsn(lsn), place }
}

/// A sink with `count` refused lines and as many records, over several days, blocks, tables and databases.
fn full(count: u64) -> (tempfile::TempDir, Archive, Arc<Store>) {
    let (dir, store, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let mut outbox = Outbox::default();
    for lsn in 1..=count {
        let received_ns = RECEIVED_NS + i64::try_from(lsn / 300).unwrap() * DAY_NS;
        let database = if lsn % 3 == 0 { "iot/eu" } else { "fleet" };
        let line = Report { received_ns, ..lines(lsn, database) };
        reporter.report(&mut outbox, &line).unwrap();
        let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
        let records = vec![reported(MeasureKind::Scalar, scalar).at(500)];
        let table = if lsn % 2 == 0 { "even" } else { "odd" };
        let content = Content::Records { table, place: Place::Sink, shard: (0, 1), records };
        let record = Report { received_ns, database, content, ..lines(lsn, database) };
        reporter.report(&mut outbox, &record).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    (dir, reporter.archive(), store)
}

/// Whether a rejection is one that a query asks for.
type Expected<'e> = &'e dyn Fn(&Rejected) -> bool;

/// All that a query finds, page by page.
fn pages(archive: &Archive, query: &Query) -> Vec<Rejected> {
    let mut query = query.clone();
    let mut found = Vec::new();
    loop {
        let page = archive.page(&query, &|_| true).unwrap();
        assert!(page.rejections.len() <= query.limit);
        found.extend(page.rejections);
        let Some(next) = page.next else { return found };
        let text = next.to_string();
        assert_eq!(text.parse(), Ok(next));
        assert!(query.after != Some(next), "a page leads on");
        query.after = Some(next);
    }
}

fn ids(found: &[Rejected]) -> Vec<Id> {
    found.iter().map(|one| one.entry.id).collect()
}

#[test]
fn pages_of_any_size_give_everything_once_and_in_order() {
    let (_dir, archive, _) = full(700);
    let expected: Vec<Id> = (1..=700).flat_map(|lsn| [at(lsn, 40), at(lsn, 500)]).collect();
    for limit in [1_000, 999, 256, 17] {
        for order in [Order::Oldest, Order::Newest] {
            let mut found = ids(&pages(&archive, &Query { order, limit, ..Query::default() }));
            if order == Order::Newest {
                found.reverse();
            }
            assert_eq!(found, expected, "{limit} {order:?}");
        }
    }
}

#[test]
fn each_filter_finds_its_own_and_nothing_else() {
    let (_dir, archive, _) = full(700);
    let all = pages(&archive, &Query { limit: 1_000, ..Query::all() });
    let from_ns = RECEIVED_NS + DAY_NS;
    let any = || Query { limit: 1_000, ..Query::default() };
    let filters: [(Query, usize, Expected<'_>); 9] = [
        (Query { reason: Some(Reason::VersionConflict), ..any() }, 700, &|one| {
            one.entry.reason == Reason::VersionConflict
        }),
        (Query { kind: Some(Kind::Line), ..any() }, 700, &|one| one.entry.record.is_none()),
        (Query { database: Some("iot/eu".into()), ..any() }, 466, &|one| one.database == "iot/eu"),
        (Query { table: Some("odd".into()), ..any() }, 350, &|one| {
            one.table.as_deref() == Some("odd")
        }),
        (
            Query { database: Some("fleet".into()), table: Some("odd".into()), ..any() },
            233,
            &|one| one.database == "fleet" && one.table.as_deref() == Some("odd"),
        ),
        (Query { from_ns, to_ns: from_ns + 1, ..any() }, 600, &|one| {
            one.entry.received.0 == from_ns
        }),
        (Query { lsn: Some(Lsn(300)), ..any() }, 2, &|one| one.entry.lsn == Lsn(300)),
        (Query { ids: Some([at(9, 40), at(9, 41)].into()), ..any() }, 1, &|one| {
            one.entry.id == at(9, 40)
        }),
        (Query { to_ns: RECEIVED_NS, ..any() }, 0, &|_| false),
    ];
    for (query, count, expected) in filters {
        let found = ids(&pages(&archive, &query));
        let matching: Vec<Rejected> = all.iter().filter(|one| expected(one)).cloned().collect();
        assert_eq!(found, ids(&matching), "{query:?}");
        assert_eq!(found.len(), count, "{query:?}");
    }
    // A line names its table in the words of its protocol.
    let line = all.iter().find(|one| one.entry.record.is_none()).unwrap();
    assert_eq!(line.table, None, "a line that ends before its measurement does names none");
    let seen = archive.page(&any(), &|database| database == "fleet").unwrap();
    assert!(seen.rejections.iter().all(|one| one.database == "fleet"));
    assert_eq!(seen.rejections.len(), 934);
}

#[test]
fn what_is_no_report_is_named_and_passed_over() {
    let (_dir, archive, store) = full(10);
    store.put("records/readme.txt", b"hello".to_vec()).unwrap();
    let digits = "0".repeat(20);
    store.put(&format!("lines/d/2023/11/14/{digits}.json"), b"{}".to_vec()).unwrap();
    let page = archive.page(&Query::default(), &|_| true).unwrap();
    assert_eq!(page.rejections.len(), 20);
    assert_eq!(page.unreadable.len(), 2, "{:?}", page.unreadable);
    assert!(page.unreadable.iter().any(|named| named.starts_with("records/readme.txt: is no")));
    assert!(page.unreadable.iter().any(|named| named.contains("missing field")));
}

#[test]
fn reports_of_the_first_layout_are_read() {
    let (_dir, archive, store) = full(0);
    let record = r#"{"lsn":7,"received":"2023-11-14T22:13:20Z","database":"d","table":"t","records":[
        {"number":3,"reason":"version_lower","message":"m","existing_version":5,"record":{"Dimensions":
        [{"Name":"a","Value":"b"}],"MeasureName":"n","MeasureValueType":"DOUBLE","MeasureValue":"1.5",
        "Time":"5","TimeUnit":"NANOSECONDS","Version":2}}]}"#;
    let lines = r#"{"lsn":8,"received":"2023-11-14T22:13:21Z","database":"d","lines":[
        {"number":1,"reason":"no_measure","message":"m","line":"cpu,a=b"},
        {"number":2,"reason":"invalid_utf8","message":"m","line_base64":"Y3B1IP8="}]}"#;
    let day = "2023/11/14/0000000000000000000";
    store.put(&format!("records/d/t/{day}7-0of1-0.json"), record.into()).unwrap();
    store.put(&format!("lines/d/{day}8.json"), lines.into()).unwrap();
    let page =
        archive.page(&Query { order: Order::Oldest, ..Query::default() }, &|_| true).unwrap();
    assert_eq!(page.unreadable, Vec::<String>::new());
    let [first, second, third] = &page.rejections[..] else { panic!("{:?}", page.rejections) };
    assert_eq!(first.entry.existing_version, Some(5));
    assert_eq!(first.entry.record.as_ref().unwrap().measure_value.as_deref(), Some("1.5"));
    assert_eq!(first.entry.received, Moment(RECEIVED_NS));
    assert_eq!(second.table.as_deref(), Some("cpu"));
    assert_eq!(third.text().unwrap(), b"cpu \xff");
    let id: Id = third.entry.id.to_string().parse().unwrap();
    assert_eq!(archive.find(&[id].into(), &|_| true).unwrap()[&id].entry, third.entry);
}

#[test]
fn what_was_sent_again_is_marked_and_never_deleted() {
    let (_dir, archive, _) = full(600);
    let resubmitted =
        Resubmitted { lsn: Lsn(599), at: Moment(RECEIVED_NS), by: "me".into(), correction: None };
    let stored = BTreeSet::from([at(1, 500), at(2, 500), at(300, 40)]);
    archive.mark(&resubmitted, &ended(stored.clone(), true)).unwrap();
    // A crash came before the answer: the same again changes nothing.
    archive.mark(&resubmitted, &ended(stored.clone(), true)).unwrap();
    let of_state = |state| ids(&pages(&archive, &Query { state, limit: 1_000, ..Query::all() }));
    assert_eq!(of_state(Some(State::Open)).len(), 1_200 - 5);
    assert_eq!(of_state(Some(State::Resubmitted)), [at(300, 40), at(2, 500), at(1, 500)]);
    assert_eq!(of_state(Some(State::Again)), [at(599, 500), at(599, 40)]);
    assert_eq!(of_state(None).len(), 1_200);
    let one = archive.find(&[at(1, 500)].into(), &|_| true).unwrap().remove(&at(1, 500)).unwrap();
    assert_eq!((one.state, one.resubmitted), (State::Resubmitted, Some(resubmitted)));
    // Another one for the same block stands beside it.
    let other =
        Resubmitted { lsn: Lsn(700), at: Moment(RECEIVED_NS), by: "you".into(), correction: None };
    archive.mark(&other, &ended(BTreeSet::from([at(3, 500)]), false)).unwrap();
    assert_eq!(of_state(Some(State::Resubmitted)).len(), 4);
}

#[test]
fn the_last_refusal_of_an_open_one_is_remembered_until_it_is_taken() {
    let (_dir, archive, _) = full(20);
    let id = at(3, 40);
    let find = || archive.find(&[id].into(), &|_| true).unwrap().remove(&id).unwrap();
    let mark = |lsn: u64, ended: &Ended| {
        let correction = Some(Correction { said: "--set version=next".into(), hash: "00".into() });
        let sent =
            Resubmitted { lsn: Lsn(lsn), at: Moment(RECEIVED_NS), by: "me".into(), correction };
        archive.mark(&sent, ended).unwrap();
        sent
    };
    let refused = |stood: i64| {
        let why = WhyAgain {
            reason: Reason::VersionLower,
            message: "it is lower".into(),
            existing_version: Some(stood),
            key: None,
        };
        Ended { refused: [(id, why)].into(), again: true, ..Ended::default() }
    };
    let first = find();
    assert_eq!((first.state, &first.refused_again), (State::Open, &None));
    mark(900, &refused(7));
    // The listing of a folder has no order that counts: the frames have.
    let last = mark(1_000, &refused(9));
    let open = find();
    assert_eq!((open.state, open.version_reported()), (State::Open, Some(9)));
    assert_eq!(open.suggested().as_deref(), Some("version=10"));
    assert_eq!(open.refused_again.map(|again| again.sent), Some(last));
    let taken = mark(1_100, &ended([id].into(), false));
    let found = find();
    assert_eq!((found.state, found.resubmitted), (State::Resubmitted, Some(taken)));
    assert_eq!(found.refused_again, None);
    // Sent once more on purpose: the last one counts.
    let again = mark(1_200, &ended([id].into(), false));
    assert_eq!(find().resubmitted, Some(again));
}

/// Breaks a file so that a listing shows no other.
fn break_unseen(file: &std::path::Path) {
    let before = std::fs::metadata(file).unwrap();
    let junk = vec![b'x'; usize::try_from(before.len()).unwrap()];
    std::fs::write(file, junk).unwrap();
    let opened = std::fs::File::options().write(true).open(file).unwrap();
    opened.set_modified(before.modified().unwrap()).unwrap();
}

/// A request with very many that are refused has an object for a thousand of them. Who goes on from page to page reads
/// none again that lies behind: it is broken here, unseen by a listing, which would be told.
#[test]
fn whoever_goes_on_does_not_read_again_what_lies_behind() {
    for order in [Order::Newest, Order::Oldest] {
        let (dir, archive, _) = full(0);
        let file = |part: u64| {
            let folder = dir.path().join("lines/fleet/2023/11/14");
            std::fs::create_dir_all(&folder).unwrap();
            folder.join(format!("00000000000000000007-{part}.json"))
        };
        let entry = |place: u64| {
            format!(
                r#"{{"id":"7-{place}","lsn":7,"received":"2023-11-14T22:13:20Z","number":1,"reason":"invalid_value","message":"m","line":"x"}}"#
            )
        };
        for part in 0..5 {
            let entries: Vec<String> = (part * 10..part * 10 + 10).map(entry).collect();
            let text =
                format!("{{\"database\":\"fleet\",\"lines\":[\n{}\n]}}\n", entries.join(",\n"));
            std::fs::write(file(part), text).unwrap();
        }
        let mut query = Query { order, limit: 10, ..Query::default() };
        let first = archive.page(&query, &|_| true).unwrap();
        assert_eq!(first.rejections.len(), 10);
        let is_far = |part: u64| if order == Order::Newest { part >= 4 } else { part == 0 };
        for part in (0..5).filter(|part| is_far(*part)) {
            break_unseen(&file(part));
        }
        let (mut count, mut after) = (10, first.next);
        while let Some(next) = after {
            query.after = Some(next);
            let page = archive.page(&query, &|_| true).unwrap();
            assert!(page.unreadable.is_empty(), "{order:?}: {:?}", page.unreadable);
            count += page.rejections.len();
            after = page.next;
        }
        assert_eq!(count, 50, "{order:?}: none is left out");
    }
}

/// A turn that the engine undid is executed again: its large report is written again under its key, and has another
/// rejection by then, of the same length at that.
#[test]
fn what_is_written_again_under_its_key_is_found() {
    let (_dir, _, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let archive = reporter.archive();
    let text = "z".repeat(20 << 10).into_bytes();
    let find = |id: Id| archive.find(&[id].into(), &|_| true).unwrap().remove(&id);
    for place in [3, 5] {
        let mut outbox = Outbox::default();
        let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
        let long =
            Attribute { name: "v", value: Value::Varchar(std::str::from_utf8(&text).unwrap()) };
        let attributes = [scalar, vec![long]].concat();
        let records = vec![reported(MeasureKind::Multi, attributes).at(place)];
        let content = Content::Records { table: "t", place: Place::Sink, shard: (0, 1), records };
        reporter.report(&mut outbox, &Report { content, ..lines(7, "d") }).unwrap();
        reporter.write_out(&mut outbox).unwrap();
        assert_eq!(find(at(7, place)).map(|one| one.entry.id), Some(at(7, place)));
        assert_eq!(find(at(7, 8 - place)), None, "it is not there now");
    }
}

/// Whoever sends what stays refused every hour adds nothing to what each reader of the block reads.
#[test]
fn a_refusal_that_is_known_is_not_marked_once_more() {
    let (dir, archive, _) = full(20);
    let id = at(3, 40);
    let find = || archive.find(&[id].into(), &|_| true).unwrap().remove(&id).unwrap();
    let count = || {
        let of_block = dir.path().join("resubmitted").read_dir().unwrap().next().unwrap();
        of_block.unwrap().path().read_dir().unwrap().count()
    };
    let mark = |lsn: u64, (hash, message): (&str, &str), stood| {
        let correction = Some(Correction { said: "--set t=1".into(), hash: hash.into() });
        let sent =
            Resubmitted { lsn: Lsn(lsn), at: Moment(RECEIVED_NS), by: "me".into(), correction };
        let (reason, message) = (Reason::VersionLower, message.to_owned());
        let why = WhyAgain { reason, message, existing_version: Some(stood), key: None };
        archive.mark(&sent, &Ended { refused: [(id, why)].into(), ..Ended::default() }).unwrap();
        find().refused_again.unwrap().sent.lsn.0
    };
    for hour in 0..50 {
        assert_eq!(mark(900 + hour, ("00", "it is lower"), 7), 900);
    }
    assert_eq!(count(), 1);
    // The mark of a frame that is made again says no less.
    assert_eq!(mark(900, ("00", "it is lower"), 7), 900);
    assert_eq!(mark(1_000, ("00", "it is lower"), 8), 1_000, "another version stands");
    assert_eq!(mark(1_001, ("01", "it is lower"), 8), 1_001, "it was mended in another way");
    assert_eq!(mark(1_002, ("01", "it is much lower"), 8), 1_002, "another text");
    assert_eq!(mark(1_003, ("01", "it is lower"), 8), 1_003, "not as the last one");
    assert_eq!((mark(1_004, ("01", "it is lower"), 8), count()), (1_003, 5));
    // It is open, and then it is taken: that is always marked.
    let sent = Resubmitted { lsn: Lsn(1_005), at: Moment(1), by: "me".into(), correction: None };
    archive.mark(&sent, &ended([id].into(), true)).unwrap();
    assert_eq!(find().state, State::Resubmitted);
}

#[test]
fn a_page_is_bounded_in_bytes() {
    let (_dir, _, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let text = "z".repeat(1 << 20).into_bytes();
    let mut outbox = Outbox::default();
    for lsn in 1..=12 {
        reporter.report(&mut outbox, &large(lines(lsn, "d"), &text)).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    let archive = reporter.archive();
    let first = archive.page(&Query::default(), &|_| true).unwrap();
    assert!((1..=4).contains(&first.rejections.len()), "{}", first.rejections.len());
    assert_eq!(ids(&pages(&archive, &Query::default())).len(), 12);
}

/// A large report has an object of its own, which is read at another time than those beside it: what a page
/// had no room for must not be passed over for what is read later and comes behind it.
#[test]
fn large_rejections_amid_small_ones_are_shown_once_and_in_order() {
    let (_dir, _, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let text = "z".repeat(3 << 20).into_bytes();
    let mut outbox = Outbox::default();
    for lsn in 1..=20 {
        let small = lines(lsn, "d");
        let report = if lsn % 10 > 6 { large(small, &text) } else { small };
        reporter.report(&mut outbox, &report).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    for limit in [1_000, 10] {
        for order in [Order::Oldest, Order::Newest] {
            let found = pages(&reporter.archive(), &Query { order, limit, ..Query::default() });
            let mut found: Vec<u64> = found.iter().map(|one| one.entry.id.lsn.0).collect();
            if order == Order::Newest {
                found.reverse();
            }
            assert_eq!(found, (1..=20).collect::<Vec<_>>(), "{limit} {order:?}");
        }
    }
}

#[test]
fn numbers_have_one_spelling() {
    assert_eq!("42-57".parse(), Ok(at(42, 57)));
    for wrong in ["", "42", "42-", "-57", "+42-57", "042-57", "42-57-1", "9223372036854775808-1"] {
        assert!(wrong.parse::<Id>().is_err(), "{wrong}");
    }
}

/// Names are the clients': whatever they hold, an object lies in the sink, and is found under its name.
#[test]
fn no_name_leaves_the_sink() {
    let (dir, _, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let long = "\u{6e29}".repeat(85);
    let names = ["..", ".", "", "/", "../../etc", "a/../b", "\0", "C:\\x", "~", "=2E.", &long];
    let mut outbox = Outbox::default();
    for (at, name) in names.iter().enumerate() {
        let lsn = at as u64 + 1;
        reporter.report(&mut outbox, &lines(lsn, name)).unwrap();
        let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
        let records = vec![reported(MeasureKind::Scalar, scalar)];
        let content = Content::Records { table: name, place: Place::Sink, shard: (0, 1), records };
        reporter.report(&mut outbox, &Report { content, ..lines(lsn, name) }).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    let mut top: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    top.sort();
    assert_eq!(top, [".owner.json", "lines", "records"]);
    for name in names {
        let (database, table) = (Some(name.to_owned()), Some(name.to_owned()));
        let query = Query { database, table, kind: Some(Kind::Record), ..Query::default() };
        let found = reporter.archive().page(&query, &|_| true).unwrap().rejections;
        assert_eq!(found.len(), 1, "{name:?}");
        assert_eq!(found[0].database, name);
    }
}
