//! What the way in takes, refuses and leaves behind.

use std::path::Path;

use super::*;
use crate::base::clock::ManualClock;
use crate::base::poison::Poison;
use crate::engine::TableEngine;
use crate::engine::catalog::TableSettings;
use crate::engine::embedded::{self, Embedded};
use crate::protocol::line;
use crate::record::{Attribute, Dimension, Record, Value};
use crate::wal::Unobserved;

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// A way in over a log of its own; nothing leads out of it.
struct House {
    _dir: tempfile::TempDir,
    ingest: Ingest,
    parts: Parts,
}

impl House {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock: SharedClock = ManualClock::at(NOW_NS);
        let parts = parts(dir.path(), &clock);
        let ingest = Ingest::new(parts.clone(), options, Durability::Memory, 1);
        Self { _dir: dir, ingest, parts }
    }

    fn accept(&self, partial: Partial, text: &str) -> Result<Receipt, IngestError> {
        let ask = Ask {
            protocol: Protocol::Line,
            database: "d",
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
        let ask = Ask {
            protocol: Protocol::Json,
            database: "d",
            received_ns: NOW_NS,
            body_bytes: 1,
            durability: None,
            partial: Partial::Accept,
        };
        run(self.ingest.accept(&ask, |sink| sink.record(record))).unwrap()
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
