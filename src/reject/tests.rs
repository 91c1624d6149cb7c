//! A report holds the record as it came, under a key that a replay finds again.

use std::sync::atomic::Ordering;

use super::report::{Content, Place, place_in};
use super::*;
use crate::base::clock::{ManualClock, SystemClock};
use crate::base::lsn::Lsn;
use crate::record::codec::{Payload, PayloadBuilder, RefusedLine};
use crate::record::request::{Rejection, Stood};
use crate::record::{Attribute, Dimension, MeasureKind, Reason, Record, TableId, Value, ValueType};

const RECEIVED_NS: i64 = 1_700_000_000_000_000_000;

fn reported(kind: MeasureKind, attributes: Vec<Attribute<'_>>) -> ReportedRecord {
    let record = Record {
        measure_name: "weather",
        dimensions: vec![Dimension { name: "site", value: "a" }],
        kind,
        attributes,
        ..Record::default()
    };
    let mut builder = PayloadBuilder::new(1);
    builder.start(RECEIVED_NS);
    let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
    builder.push(ids, &record, 5, 2);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let payload = Payload::open(&bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let view = payload.section(0, &families, &layouts).next().unwrap().unwrap();
    let rejection = Rejection {
        reason: Reason::VersionConflict,
        message: "another value stands".into(),
        existing_version: Some(2),
        stood: vec![Stood {
            name: "t".into(),
            value: "20.5".into(),
            value_type: ValueType::Double,
        }],
    };
    ReportedRecord::new(&view, place_in(&bytes, view.values), &rejection).unwrap()
}

fn report(content: Content<'_>) -> Report<'_> {
    Report { lsn: Lsn(7), received_ns: RECEIVED_NS, database: "iot/eu", part: 0, content }
}

#[test]
fn the_last_frame_with_a_report_is_known_by_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::in_directory(dir.path()).unwrap();
    assert_eq!(last_reported(&store).unwrap(), Lsn::ZERO);
    let (shard, place) = ((0, 1), Place::Sink);
    let records = || Content::Records { table: "t", shard, place, records: Vec::new() };
    for (lsn, content) in [(12, records()), (9, records()), (700, Content::Lines(Vec::new()))] {
        let report = Report { lsn: Lsn(lsn), ..report(content) };
        store.put(&report.own_key(), report.to_json()).unwrap();
    }
    store.put("records/iot/t/99999999999999999999.txt", Vec::new()).unwrap();
    assert_eq!(last_reported(&store).unwrap(), Lsn(700));
    // Of a block the frames that it has count, not those that it may have.
    let (_dir, other, _, reporter) = sink(|_| unreachable!("the sink is there"));
    let mut outbox = Outbox::default();
    for lsn in [3, 515, 516, 400] {
        reporter.report(&mut outbox, &lines(lsn, "d")).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    assert_eq!(last_reported(&other).unwrap(), Lsn(516));
    let last = other.list("lines").unwrap().pop().unwrap();
    other.put(&last, b"damaged".to_vec()).unwrap();
    assert_eq!(last_reported(&other).unwrap(), Lsn(767), "more rather than less");
}

#[test]
fn a_report_names_record_reason_table_and_frame() {
    let attributes = vec![
        Attribute { name: "t", value: Value::Double(21.5) },
        Attribute { name: "n", value: Value::Bigint(i64::MIN) },
    ];
    let records = vec![reported(MeasureKind::Multi, attributes)];
    let report =
        report(Content::Records { table: "weather", place: Place::Sink, shard: (1, 2), records });
    assert_eq!(
        report.own_key(),
        "records/iot=2Feu/weather/2023/11/14/00000000000000000007-1of2-0.json"
    );
    assert_eq!(
        report.shared_key(),
        "records/iot=2Feu/weather/2023/11/14/00000000000000000000-00000000000000000255-1of2"
    );
    let json: serde_json::Value = serde_json::from_slice(&report.to_json()).unwrap();
    assert_eq!(json["table"], "weather");
    let entry = &json["records"][0];
    assert_eq!(entry["lsn"], 7);
    assert_eq!(entry["received"], "2023-11-14T22:13:20Z");
    assert!(entry["id"].as_str().unwrap().starts_with("7-"), "{entry}");
    assert_eq!(entry["stood"][0]["Value"], "20.5");
    assert_eq!(entry["reason"], "version_conflict");
    assert_eq!(entry["existing_version"], 2);
    assert_eq!(entry["record"]["MeasureValues"][1]["Value"], "-9223372036854775808");
    assert_eq!(entry["record"]["Time"], "5");
    assert_eq!(entry["record"]["Dimensions"][0]["Name"], "site");
}

#[test]
fn a_scalar_record_is_reported_as_one() {
    let scalar = vec![Attribute { name: "", value: Value::Boolean(true) }];
    let records = vec![reported(MeasureKind::Scalar, scalar)];
    let report =
        report(Content::Records { table: "weather", place: Place::Sink, shard: (0, 1), records });
    let json: serde_json::Value = serde_json::from_slice(&report.to_json()).unwrap();
    let record = &json["records"][0]["record"];
    assert_eq!(record["MeasureValueType"], "BOOLEAN");
    assert_eq!(record["MeasureValue"], "true");
    assert!(record.get("MeasureValues").is_none());
}

/// The layout of Timestream's reports, key by key.
#[test]
fn a_conflict_of_the_magnetic_store_is_reported_in_timestreams_layout() {
    let scalar = vec![Attribute { name: "", value: Value::Double(1.5) }];
    let multi = vec![Attribute { name: "t", value: Value::Bigint(7) }];
    let records = vec![reported(MeasureKind::Scalar, scalar), reported(MeasureKind::Multi, multi)];
    let place = Place::Location { id: TableId(3), prefix: "late/of fleet//" };
    let content =
        || Content::Records { table: "weather", place, shard: (1, 2), records: records.clone() };
    let part = |part| Report { part, ..report(content()) };
    let told = part(0);
    let json: serde_json::Value = serde_json::from_slice(&told.to_json()).unwrap();
    let id = json["reportId"].as_str().unwrap();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b)));
    assert_eq!(told.own_key(), format!("late/of=20fleet/iot=2Feu/weather/2023/11/14/{id}.json"));
    assert_eq!(part(0).own_key(), told.own_key(), "a replay overwrites it");
    assert_ne!(part(1).own_key(), told.own_key(), "its parts stand side by side");
    let dimensions =
        serde_json::json!([{"name": "site", "value": "a", "dimensionValueType": null}]);
    let expected = serde_json::json!({"reportId": id, "errors": [{
        "reason": "another value stands",
        "records": [
            {"dimensions": dimensions, "measureName": "weather", "measureValue": "1.5",
             "measureValues": null, "measureValueType": "DOUBLE", "time": "5",
             "timeUnit": "NANOSECONDS", "version": 2},
            {"dimensions": dimensions, "measureName": "weather", "measureValue": null,
             "measureValues": [{"name": "t", "value": "7", "type": "BIGINT"}],
             "measureValueType": "MULTI", "time": "5", "timeUnit": "NANOSECONDS", "version": 2},
        ],
    }]});
    assert_eq!(json, expected);
}

#[test]
fn a_line_that_is_not_utf8_is_kept_byte_for_byte() {
    let line = RefusedLine {
        number: 3,
        reason: Reason::InvalidUtf8,
        database: "iot/eu",
        message: "byte 0xff",
        text: b"cpu \xff",
        reading: "",
    };
    let report = report(Content::Lines(vec![(40, line)]));
    assert_eq!(report.own_key(), "lines/iot=2Feu/2023/11/14/00000000000000000007-0.json");
    let json: serde_json::Value = serde_json::from_slice(&report.to_json()).unwrap();
    assert_eq!(json["lines"][0]["line_base64"], "Y3B1IP8=");
}

#[test]
fn a_report_is_written_and_counted_and_a_stop_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::in_directory(&dir.path().join("sink")).unwrap());
    let metrics = Metrics::new().unwrap();
    let stopping = Arc::new(AtomicBool::new(false));
    let reporter = Reporter::new(
        Claim::new(Arc::clone(&store), "one".to_owned(), Lsn(u64::MAX), SystemClock::shared()),
        ManualClock::at(0),
        metrics.clone(),
        Arc::clone(&stopping),
    );
    let scalar = vec![Attribute { name: "", value: Value::Bigint(1) }];
    let records = vec![reported(MeasureKind::Scalar, scalar)];
    let report =
        report(Content::Records { table: "w", place: Place::Sink, shard: (0, 1), records });
    let mut outbox = Outbox::default();
    reporter.report(&mut outbox, &report).unwrap();
    reporter.write_out(&mut outbox).unwrap();
    assert_eq!(store.list("records").unwrap(), [report.shared_key() + ".json"]);
    assert_eq!(metrics.reject_reports.get(), 1);

    // A sink that is away: its directory became a file.
    std::fs::remove_dir_all(dir.path().join("sink")).unwrap();
    std::fs::write(dir.path().join("sink"), b"").unwrap();
    stopping.store(true, Ordering::Relaxed);
    reporter.report(&mut outbox, &report).unwrap();
    assert!(reporter.write_out(&mut outbox).is_err());
    assert_eq!(metrics.reject_retries.get(), 1);
}

/// A sleeper that mends what is broken, so that an attempt after the first finds it whole.
struct Mender(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Mender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mender")
    }
}

impl crate::base::clock::Clock for Mender {
    fn wall_ns(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn sleep(&self, _pause: Duration) {
        (self.0)();
    }
}

/// The report of frame `lsn`, of lines of `database`.
fn lines(lsn: u64, database: &str) -> Report<'_> {
    let line = RefusedLine {
        number: lsn,
        reason: Reason::NoMeasure,
        database,
        message: "no measure",
        text: b"cpu",
        reading: "",
    };
    Report { lsn: Lsn(lsn), database, ..report(Content::Lines(vec![(40, line)])) }
}

/// A sink in a folder of its own, and a reporter that calls `mend` with the folder instead of pausing.
fn sink(
    mend: impl Fn(&std::path::Path) + Send + Sync + 'static,
) -> (tempfile::TempDir, Arc<Store>, Metrics, Reporter) {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::in_directory(dir.path()).unwrap());
    let metrics = Metrics::new().unwrap();
    let path = dir.path().to_owned();
    let clock = Arc::new(Mender(Box::new(move || mend(&path))));
    let reporter = Reporter::new(
        Claim::new(Arc::clone(&store), "one".to_owned(), Lsn(u64::MAX), SystemClock::shared()),
        clock,
        metrics.clone(),
        Arc::default(),
    );
    (dir, store, metrics, reporter)
}

/// The report of the first frame of block `block`, so that each has an object of its own.
fn of_block(block: u64, database: &str) -> Report<'_> {
    lines(block * key::BLOCK_FRAMES, database)
}

#[test]
fn a_sink_that_fails_in_the_middle_gets_the_rest_and_each_report_once() {
    const REPORTS: u64 = 100;
    let text = "x".repeat(outbox::SHARED_REPORT_BYTES_MAX).into_bytes();
    let in_the_way = |dir: &std::path::Path| dir.join("lines/late");
    let (dir, store, metrics, reporter) = sink(move |dir| {
        // What was written before is not written again.
        for entry in std::fs::read_dir(dir.join("lines/well/2023/11/14")).unwrap() {
            std::fs::write(entry.unwrap().path(), b"untouched").unwrap();
        }
        std::fs::remove_file(in_the_way(dir)).unwrap();
    });
    std::fs::create_dir_all(dir.path().join("lines")).unwrap();
    std::fs::write(in_the_way(dir.path()), b"").unwrap();
    let mut outbox = Outbox::default();
    // One in the middle cannot be written, and those after it wait for it. All have objects of their own.
    for lsn in 1..=REPORTS {
        let database = if lsn == REPORTS / 2 { "late" } else { "well" };
        reporter.report(&mut outbox, &large(lines(lsn, database), &text)).unwrap();
    }
    reporter.write_out(&mut outbox).unwrap();
    assert!(outbox.is_empty() && reporter.trouble().is_none());
    let keys = store.list("lines").unwrap();
    let lsn = |key: &String| key::read(key).unwrap().first.0;
    let mut found: Vec<u64> = keys.iter().map(lsn).collect();
    found.sort_unstable();
    assert_eq!(found, (1..=REPORTS).collect::<Vec<_>>());
    let is_first = |key: &&String| store.get(key).unwrap() == b"untouched";
    let first = keys.iter().filter(is_first).count() as u64;
    assert!((1..REPORTS).contains(&first), "{first} were written by the first attempt");
    assert_eq!(metrics.reject_reports.get(), REPORTS, "each is counted once");
    assert_eq!(metrics.reject_retries.get(), 1);
}

/// The same report with a long line.
fn large<'t>(mut report: Report<'t>, text: &'t [u8]) -> Report<'t> {
    let Content::Lines(lines) = &mut report.content else { unreachable!("it is of lines") };
    lines[0].1.text = text;
    report
}

#[test]
fn as_many_reports_wait_as_the_bounds_allow_and_no_more() {
    let (_dir, store, metrics, reporter) = sink(|_| unreachable!("the sink is there"));
    let mut outbox = Outbox::default();
    let most = outbox::WAITING_REPORTS_MAX as u64;
    for block in 1..most {
        reporter.report(&mut outbox, &of_block(block, "d")).unwrap();
    }
    assert!(store.list("lines").unwrap().is_empty());
    reporter.report(&mut outbox, &of_block(most, "d")).unwrap();
    assert!(outbox.is_empty());
    assert_eq!(store.list("lines").unwrap().len() as u64, most);

    // Large ones: a report is a little larger than its line.
    let text = "x".repeat(outbox::WAITING_BYTES_MAX / 2 - (1 << 10)).into_bytes();
    for (lsn, written) in [(1, 0), (2, 0), (3, 3), (4, 3)] {
        reporter.report(&mut outbox, &large(lines(lsn, "large"), &text)).unwrap();
        assert_eq!(metrics.reject_reports.get() - most, written, "after {lsn}");
    }
}

/// Frames and shards overtake each other on the way to the sink.
#[test]
fn the_sink_is_the_same_whatever_the_order_of_its_reports() {
    let orders: [Vec<u64>; 2] = [(1..=40).collect(), (1..=40).rev().collect()];
    let sinks = orders.map(|order| {
        let (dir, store, _, reporter) = sink(|_| unreachable!("the sink is there"));
        let mut outbox = Outbox::default();
        // A replay comes with them again.
        for lsn in order.iter().chain(&order[10..20]) {
            reporter.report(&mut outbox, &lines(*lsn, "d")).unwrap();
        }
        reporter.write_out(&mut outbox).unwrap();
        assert_eq!(last_reported(&store).unwrap(), Lsn(40));
        let keys = store.list("lines").unwrap();
        let contents = keys.iter().map(|key| store.get(key).unwrap()).collect::<Vec<_>>();
        let files = std::fs::read_dir(dir.path().join("lines/d/2023/11/14")).unwrap().count();
        assert_eq!(files, keys.len(), "nothing half-written stays");
        (keys, contents)
    });
    assert_eq!(sinks[0].0.len(), 1, "they share an object");
    assert_eq!(sinks[0], sinks[1]);
}

/// What a mark says of these.
fn ended(stored: std::collections::BTreeSet<super::entry::Id>, again: bool) -> super::mark::Ended {
    super::mark::Ended { stored, again, ..super::mark::Ended::default() }
}

mod shared;
mod archive;
mod days;
