//! What a request is the first to name: in the catalog before any frame that names it, with one sync.

use super::*;
use crate::record::limits::{DIMENSIONS_PER_TABLE_MAX, MEASURE_NAMES_PER_TABLE_MAX};

impl House {
    /// Lines of the catalog's log, each of which took one sync.
    fn catalog_lines(&self) -> usize {
        let log = self.dir.path().join(crate::engine::catalog::FILE_NAME);
        std::fs::read_to_string(log).unwrap().lines().count()
    }
}

/// A record of a table and measure.
fn of<'r>(table: &'r str, measure_name: &'r str) -> Record<'r> {
    Record {
        database: "d",
        table,
        measure_name,
        dimensions: vec![Dimension { name: "site", value: "a" }],
        attributes: vec![Attribute { name: "v", value: Value::Bigint(1) }],
        time_ns: Some(NOW_NS),
        ..Record::default()
    }
}

fn show_all(house: &House, partial: Partial, tables: &[&str], measures: &[String]) -> Receipt {
    let decode = |sink: &mut dyn RecordSink| {
        for table in tables {
            for measure in measures {
                sink.record(&of(table, measure));
            }
        }
    };
    run(house.ingest.accept(&ask(partial), decode)).unwrap()
}

#[test]
fn all_that_a_request_is_the_first_to_name_costs_one_sync_of_the_catalog() {
    for partial in [Partial::Accept, Partial::Refuse] {
        let house = strict();
        let before = house.catalog_lines();
        let measures: Vec<String> = (0..100).map(|at| format!("m{at}")).collect();
        let receipt = show_all(&house, partial, &["t", "u", "v"], &measures);
        assert_eq!((receipt.accepted, house.catalog_lines()), (300, before + 1), "{partial:?}");
        let more: Vec<String> = (50..200).map(|at| format!("m{at}")).collect();
        show_all(&house, partial, &["u"], &more);
        assert_eq!(house.catalog_lines(), before + 2, "{partial:?}: of a table that there is");
        show_all(&house, partial, &["t", "u", "v"], &measures);
        assert_eq!(house.catalog_lines(), before + 2, "{partial:?}: nothing is new");
        let again = Catalog::open(house.dir.path()).unwrap();
        assert_eq!(again.tables().len(), 3);
    }
}

/// One request reaches both bounds and goes beyond them.
#[test]
fn names_are_counted_to_their_limits_within_one_request() {
    let house = strict();
    let measures: Vec<String> =
        (0..MEASURE_NAMES_PER_TABLE_MAX + 3).map(|at| format!("m{at}")).collect();
    let receipt = show_all(&house, Partial::Accept, &["t"], &measures);
    assert_eq!((receipt.accepted, receipt.refused), (MEASURE_NAMES_PER_TABLE_MAX as u64, 3));
    assert!(receipt.named[0].message.contains("and the table has 8192"), "{:?}", receipt.named);
    let names: Vec<String> = (0..DIMENSIONS_PER_TABLE_MAX + 2).map(|at| format!("d{at}")).collect();
    let decode = |sink: &mut dyn RecordSink| {
        for name in &names {
            let dimensions = vec![Dimension { name, value: "v" }];
            sink.record(&Record { dimensions, ..of("u", "m") });
        }
        let attributes = vec![Attribute { name: "d7", value: Value::Bigint(1) }];
        let dimensions = vec![Dimension { name: "d1", value: "v" }];
        sink.record(&Record { dimensions, attributes, ..of("u", "m") });
    };
    let receipt = run(house.ingest.accept(&ask(Partial::Accept), decode)).unwrap();
    assert_eq!((receipt.accepted, receipt.refused), (DIMENSIONS_PER_TABLE_MAX as u64, 3));
    assert_eq!(reasons(&receipt), [Reason::TableLimit; 3]);
    let twofold = "\"d7\" is a dimension and an attribute";
    assert!(receipt.named[2].message.contains(twofold), "{:?}", receipt.named);
}

/// Goal: no frame names what the catalog's log does not have, whoever drafted it. Method: while a request is
/// decoded that has named a new table, another comes that names it too; the log takes no line.
#[test]
fn no_frame_names_what_the_catalog_could_not_write() {
    let house = strict();
    house.show(&of("known", "m"));
    house.parts.catalog.break_log();
    let appended = house.ingest.appended();
    let decode = |sink: &mut dyn RecordSink| {
        sink.record(&of("t", "m"));
        std::thread::scope(|scope| {
            let other = || {
                run(house.ingest.accept(&ask(Partial::Accept), |sink| {
                    sink.record(&of("t", "m"));
                    sink.record(&of("known", "m"));
                }))
            };
            let other = scope.spawn(other).join().unwrap();
            assert!(matches!(other, Err(IngestError::Fault { .. })), "{other:?}");
        });
        sink.record(&of("known", "m"));
    };
    let refused = run(house.ingest.accept(&ask(Partial::Accept), decode));
    assert!(matches!(refused, Err(IngestError::Fault { .. })), "{refused:?}");
    assert_eq!(house.ingest.appended(), appended);
    assert_eq!(house.show(&of("known", "m")).accepted, 1, "what needs no change is taken");
    assert!(house.parts.catalog.resolve("d", "t").is_none());
}
