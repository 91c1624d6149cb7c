//! What the way in takes, refuses and leaves behind.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::{Pin, pin};
use std::task::Poll;

use super::*;
use crate::base::clock::ManualClock;
use crate::base::poison::Poison;
use crate::engine::TableEngine;
use crate::engine::catalog::{Enforcement, PartitionKey, Profile, TableSettings, TableUpdate};
use crate::engine::embedded::{self, Embedded};
use crate::protocol::line;
use crate::record::Reason;
use crate::record::limits::DIMENSIONS_PER_TABLE_MAX;
use crate::record::{Attribute, Dimension, Record, Value};
use crate::wal::Unobserved;

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// A way in over a log of its own; nothing leads out of it.
struct House {
    dir: tempfile::TempDir,
    ingest: Ingest,
    parts: Parts,
    clock: Arc<ManualClock>,
}

/// What a request for database `d` asks for.
const fn ask(partial: Partial) -> Ask<'static> {
    Ask {
        protocol: Protocol::Json,
        database: "d",
        reading: None,
        received_ns: NOW_NS,
        body_bytes: 1,
        durability: None,
        partial,
    }
}

impl House {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = ManualClock::at(NOW_NS);
        let parts = parts(dir.path(), &(Arc::clone(&clock) as SharedClock));
        let ingest = Ingest::new(parts.clone(), options, Durability::Memory, 1);
        Self { dir, ingest, parts, clock }
    }

    fn accept(&self, partial: Partial, text: &str) -> Result<Receipt, IngestError> {
        let ask = Ask {
            protocol: Protocol::Line,
            database: "d",
            reading: None,
            received_ns: self.ingest.received_ns(),
            body_bytes: text.len(),
            durability: None,
            partial,
        };
        let options = line::Options::new("d", ask.received_ns);
        let decode = |sink: &mut dyn RecordSink| line::decode(text.as_bytes(), &options, sink);
        run(self.ingest.accept(&ask, decode))
    }

    /// Takes one record that a decoder has made.
    fn show(&self, record: &Record<'_>) -> Receipt {
        run(self.ingest.accept(&ask(Partial::Accept), |sink| sink.record(record))).unwrap()
    }

    fn make(&self, table: &str) {
        self.parts.catalog.create("d", table, &TableSettings::default()).unwrap();
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(future)
}

fn parts(dir: &Path, clock: &SharedClock) -> Parts {
    let options = crate::wal::Options { dir: dir.join("wal"), ..Default::default() };
    let unobserved = Arc::new(Unobserved);
    let wal = Wal::open(&options, Arc::clone(clock), Poison::new(), unobserved).unwrap();
    let catalog = Arc::new(Catalog::open(dir).unwrap());
    let options = embedded::Options { dir: dir.join("tables"), ..Default::default() };
    let engine = Embedded::open(options, 1, Arc::clone(&catalog), Arc::clone(clock)).unwrap();
    let engine: Arc<dyn TableEngine> = Arc::new(engine);
    Parts {
        marks: Arc::new(Marks::new(Lsn::ZERO, wal.clone(), engine)),
        wal,
        catalog,
        metrics: Metrics::new().unwrap(),
        clock: Arc::clone(clock),
        stopping: Arc::new(AtomicBool::new(false)),
    }
}

fn reasons(receipt: &Receipt) -> Vec<Reason> {
    receipt.named.iter().map(|refusal| refusal.reason).collect()
}

/// Given to the sink as they are: a decoder finds some of these faults itself.
#[test]
fn a_record_that_is_refused_leaves_no_table_and_no_column() {
    let good = || Record {
        database: "d",
        table: "m",
        measure_name: "m",
        dimensions: vec![Dimension { name: "site", value: "a" }],
        attributes: vec![Attribute { name: "v", value: Value::Varchar("text") }],
        time_ns: Some(1),
        ..Record::default()
    };
    for (reason, bad) in [
        (Reason::InvalidVersion, Record { version: Some(0), ..good() }),
        (Reason::InvalidTime, Record { time_ns: Some(i64::MAX), ..good() }),
        (Reason::NoDimension, Record { dimensions: Vec::new(), ..good() }),
        (Reason::InvalidName, Record { measure_name: "a\tb", ..good() }),
        (Reason::NoMeasure, Record { attributes: Vec::new(), ..good() }),
    ] {
        let house = House::new(Options::default());
        let receipt = house.show(&bad);
        assert_eq!(reasons(&receipt), [reason]);
        assert!(house.parts.catalog.resolve("d", "m").is_none(), "{reason} made a table");
        house.make("m");
        house.show(&bad);
        let table = house.parts.catalog.resolve("d", "m").unwrap();
        assert!(table.columns().is_empty(), "{reason} claimed {:?}", table.columns());
        assert_eq!(house.show(&good()).accepted, 1);
    }
}

#[test]
fn what_is_refused_is_counted_by_its_reason() {
    let house = House::new(Options::default());
    let receipt =
        house.accept(Partial::Accept, "m,site=a v=1 1\nm,site=a\nm,site=a v=x 1").unwrap();
    assert_eq!((receipt.accepted, receipt.refused), (1, 2));
    for reason in reasons(&receipt) {
        let counted = house.parts.metrics.ingest_refused.with_label_values(&[reason.code()]).get();
        assert_eq!(counted, 1, "{reason}");
    }
}

#[test]
fn a_table_that_must_not_be_made_costs_its_own_records_only_and_a_database_the_request() {
    let house = House::new(Options { create_tables: false, ..Options::default() });
    let text = "there,site=a v=1 1\nmissing,site=a v=1 1";
    let refused = house.accept(Partial::Accept, text).unwrap_err();
    assert!(matches!(refused, IngestError::DatabaseNotFound { .. }), "{refused}");
    house.make("there");
    let receipt = house.accept(Partial::Accept, text).unwrap();
    assert_eq!((receipt.accepted, reasons(&receipt)), (1, vec![Reason::TableNotFound]));
    assert!(house.parts.catalog.resolve("d", "missing").is_none());
}

#[test]
fn what_is_taken_whole_or_not_at_all_leaves_no_trace_when_it_is_not() {
    let house = House::new(Options::default());
    let receipt = house.accept(Partial::Refuse, "m,site=a v=1 1\nm,site=a v=x 2").unwrap();
    assert_eq!((receipt.lsn, receipt.accepted, receipt.refused), (None, 0, 1));
    assert!(
        house.parts.catalog.tables().is_empty(),
        "a table was made for a request that was refused"
    );
    // The column's type is still free.
    let receipt = house.accept(Partial::Refuse, "m,site=a v=1i 1").unwrap();
    assert_eq!((receipt.accepted, receipt.refused), (1, 0));
    let conflict = house.accept(Partial::Refuse, "m,site=a v=1.5 2\nm,site=a w=1 3").unwrap();
    assert_eq!((conflict.accepted, conflict.named[0].reason), (0, Reason::TypeConflict));
    assert_eq!(
        house.parts.catalog.tables()[0].columns().len(),
        1,
        "only the column that was stored"
    );
}

const HOUR_NS: i64 = 3_600_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

fn strict() -> House {
    House::new(Options { profile: Profile::Strict, ..Options::default() })
}

/// Writes one line a time into `weather`. Returns what the receipt says: taken, of them for the
/// magnetic store, and the reasons of the refusals.
fn at_times(house: &House, partial: Partial, times: &[i64]) -> (u64, u64, Vec<Reason>) {
    let lines: Vec<_> = times.iter().map(|time| format!("weather,site=a v=1 {time}")).collect();
    let receipt = house.accept(partial, &lines.join("\n")).unwrap();
    (receipt.accepted, receipt.magnetic, reasons(&receipt))
}

#[test]
fn a_strict_table_takes_what_its_window_holds_when_a_request_is_received() {
    let house = strict();
    let late = NOW_NS - 7 * HOUR_NS;
    let outside = Reason::TimeOutsideWindow;
    assert_eq!(at_times(&house, Partial::Accept, &[late]), (0, 0, vec![outside]));
    assert!(house.parts.catalog.tables().is_empty(), "what is refused makes no table");
    let begin = NOW_NS - 6 * HOUR_NS - 25 * MINUTE_NS;
    let end = NOW_NS + 15 * MINUTE_NS;
    let times = [begin - 1, begin, NOW_NS, end - 1, end];
    for partial in [Partial::Accept, Partial::Refuse] {
        let expected = if partial == Partial::Accept { 3 } else { 0 };
        let found = at_times(&house, partial, &times);
        assert_eq!(found, (expected, 0, vec![outside; 2]), "{partial:?}");
    }
    // An hour later the window is an hour later.
    house.clock.advance(Duration::from_hours(1));
    assert_eq!(at_times(&house, Partial::Accept, &[begin, end]), (1, 0, vec![outside]));
    let update = TableUpdate {
        memory_hours: Some(8),
        magnetic_days: Some(1),
        magnetic_writes: Some(true),
        ..TableUpdate::default()
    };
    house.parts.catalog.update_table("d", "weather", &update, 0).unwrap();
    let magnetic = begin - HOUR_NS - 1;
    let found = at_times(&house, Partial::Accept, &[begin, magnetic, magnetic - 24 * HOUR_NS + 1]);
    assert_eq!(found, (3, 2, vec![]), "an update counts at once");
    let found = at_times(&house, Partial::Accept, &[magnetic - 24 * HOUR_NS, -1]);
    assert_eq!(found, (0, 0, vec![outside, Reason::InvalidTime]));
}

#[test]
fn a_relaxed_table_takes_every_time() {
    let house = House::new(Options::default());
    let times = [-1, 0, NOW_NS - 1_000_000 * HOUR_NS, NOW_NS, NOW_NS + 1_000_000 * HOUR_NS];
    assert_eq!(at_times(&house, Partial::Accept, &times), (5, 0, vec![]));
}

#[test]
fn a_table_keeps_the_profile_that_it_was_made_with() {
    let house = strict();
    house.make("weather");
    assert_eq!(at_times(&house, Partial::Accept, &[1]), (1, 0, vec![]));
    assert_eq!(house.parts.catalog.resolve("d", "weather").unwrap().profile(), Profile::Relaxed);
}

#[test]
fn a_record_without_the_required_partition_key_is_refused_alone() {
    let house = House::new(Options::default());
    let key = |enforcement| PartitionKey::Dimension { name: "site".to_owned(), enforcement };
    let partition_key = key(Enforcement::Required);
    let settings = TableSettings { partition_key, ..TableSettings::default() };
    house.parts.catalog.create("d", "m", &settings).unwrap();
    let text = "m,site=a v=1 1\nm,host=b v=1 1\nm,host=b,site=c v=1 1";
    for partial in [Partial::Accept, Partial::Refuse] {
        let receipt = house.accept(partial, text).unwrap();
        assert_eq!(reasons(&receipt), [Reason::PartitionKeyMissing], "{partial:?}");
        assert_eq!(receipt.accepted, if partial == Partial::Accept { 2 } else { 0 });
    }
    let partition_key = Some(key(Enforcement::Optional));
    let update = TableUpdate { partition_key, ..TableUpdate::default() };
    house.parts.catalog.update_table("d", "m", &update, 0).unwrap();
    assert_eq!(house.accept(Partial::Accept, text).unwrap().accepted, 3);
}

#[test]
fn a_strict_table_counts_its_dimensions_and_has_one_column_of_a_name() {
    let house = strict();
    let names: Vec<String> = (0..DIMENSIONS_PER_TABLE_MAX).map(|at| format!("d{at}")).collect();
    let dimensions = names.iter().map(|name| Dimension { name, value: "v" }).collect();
    let with = |dimensions: Vec<Dimension<'static>>, attribute: &'static str| Record {
        database: "d",
        table: "m",
        measure_name: "m",
        dimensions,
        attributes: vec![Attribute { name: attribute, value: Value::Bigint(1) }],
        time_ns: Some(NOW_NS),
        ..Record::default()
    };
    let full = Record { dimensions, ..with(Vec::new(), "v") };
    assert_eq!(house.show(&full).accepted, 1);
    let known = Dimension { name: "d7", value: "w" };
    assert_eq!(house.show(&with(vec![known], "v")).accepted, 1);
    for (record, what) in [
        (with(vec![Dimension { name: "d128", value: "v" }], "v"), "and the table has 128"),
        (with(vec![known], "d9"), "a dimension and an attribute"),
        (with(vec![Dimension { name: "v", value: "v" }], "w"), "a dimension and an attribute"),
    ] {
        let receipt = house.show(&record);
        assert_eq!(reasons(&receipt), [Reason::TableLimit]);
        assert!(receipt.named[0].message.contains(what), "{}", receipt.named[0].message);
    }
    let columns = house.parts.catalog.resolve("d", "m").unwrap().columns();
    assert_eq!(columns.len(), 1, "what was refused has claimed nothing: {columns:?}");
}

/// A table that is deleted between two requests is another one in the second.
#[test]
fn no_request_uses_a_table_of_the_request_before() {
    let house = House::new(Options::default());
    house.accept(Partial::Accept, "m,site=a v=1 1").unwrap();
    house.parts.catalog.delete_table("d", "m").unwrap();
    let receipt = house.accept(Partial::Accept, "m,site=a v=\"text\" 1").unwrap();
    assert_eq!((receipt.accepted, reasons(&receipt)), (1, vec![]), "its columns are new too");
    assert_eq!(house.parts.catalog.resolve("d", "m").unwrap().id.0, 2);
}

/// Begins a future, and says whether there is something that it waits for.
async fn begin<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

/// Goal: who waits until the log is settled takes the place of nobody, and leaves nobody behind. Nothing
/// executes frames here until the test says so.
#[test]
fn who_waits_until_all_is_executed_takes_nobodys_place() {
    const SHORT: Duration = Duration::from_millis(20);
    let house = House::new(Options::default());
    let settled = || house.ingest.settled(house.ingest.appended(), SHORT);
    house.accept(Partial::Accept, "m,site=a v=1 1").unwrap();
    run(async {
        assert!(!settled().await);
        let (mut first, second) = (pin!(settled()), pin!(settled()));
        assert!(begin(first.as_mut()).await);
        assert_eq!((second.await, first.await), (false, false));
    });
    let ask = Ask::of_rejections("d", NOW_NS, 20);
    let options = line::Options::new("d", NOW_NS);
    let decode = |sink: &mut dyn RecordSink| line::decode(b"m,site=b v=2 1", &options, sink);
    run(async {
        let mut written = pin!(house.ingest.accept(&ask, decode));
        assert!(begin(written.as_mut()).await, "nothing has executed it");
        assert!(!settled().await);
        while house.parts.wal.marks().durable < Lsn(2) {
            tokio::task::yield_now().await;
        }
        let fed = |lsn| crate::shard::marks::Fed { lsn: Lsn(lsn), parts: 1, received_ns: NOW_NS };
        house.parts.marks.fed(&[fed(1), fed(2)]);
        house.parts.marks.executed([Lsn(1), Lsn(2)]);
        assert_eq!(written.await.expect("it is executed").accepted, 1);
        assert!(settled().await);
    });
}

mod drafts;
mod trial;
