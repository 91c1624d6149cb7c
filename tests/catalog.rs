//! The promise: a catalog written by any earlier version still opens, with exactly the tables that were
//! made. `tests/data/catalog-v*` hold what each format's servers wrote; they are never written again.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::fs;
use std::path::Path;

use tidegate::base::lsn::Lsn;
use tidegate::engine::catalog::{Catalog, Drafting, Erasure, Profile, Retention, TableSettings};
use tidegate::record::TableId;

const LOG: &str = "catalog.log";

fn fixture() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/catalog-v1").join(LOG);
    fs::read(path).unwrap()
}

fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(LOG), fixture()).unwrap();
    dir
}

fn check(catalog: &Catalog) {
    let made: Vec<_> = catalog
        .tables()
        .iter()
        .map(|table| (table.id.0, format!("{}.{}", table.database, table.name)))
        .collect();
    let names = ["iot.weather", "iot.pump 1", "fleet/weekly.weather", "iot.valve"];
    let expected: Vec<_> = (1..).zip(names.map(str::to_owned)).collect();
    assert_eq!(made, expected);
    let created_ns = 1_795_367_326_284_269_909;
    let weather = TableSettings { created_ns, updated_ns: created_ns, ..TableSettings::default() };
    assert_eq!(*catalog.get(TableId(1)).unwrap().settings(), weather);
    let valve = catalog.get(TableId(4)).unwrap().settings();
    assert_eq!((valve.profile, valve.columns_max), (Profile::Strict, 7));
    let retention = Retention { memory_hours: 1, magnetic_days: 2, magnetic_writes: true };
    assert_eq!(valve.retention, retention);
    assert_eq!(catalog.table_count("iot"), Some(3));
    assert_eq!(catalog.database("iot").unwrap().settings().created_ns, created_ns);
}

#[test]
fn a_catalog_of_format_1_opens_and_goes_on_in_format_4() {
    let dir = copy();
    check(&Catalog::open(dir.path()).unwrap());
    let renewed = fs::read_to_string(dir.path().join(LOG)).unwrap();
    assert!(renewed.starts_with(r#"8c083096 {"op":"catalog","format":4}"#), "{renewed}");
    let catalog = Catalog::open(dir.path()).unwrap();
    check(&catalog);
    catalog.delete_table("iot", "valve").unwrap();
    drop(catalog);
    let catalog = Catalog::open(dir.path()).unwrap();
    assert!(catalog.is_deleted(TableId(4)));
    assert_eq!(catalog.tables().len(), 3);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing is left beside the log: {left:?}");
}

#[test]
fn a_catalog_of_format_1_is_read_and_not_renewed_by_who_only_reads() {
    let dir = copy();
    assert_eq!(Catalog::read_only(dir.path()).unwrap().len(), 4);
    assert_eq!(fs::read(dir.path().join(LOG)).unwrap(), fixture());
}

#[test]
fn a_catalog_of_format_1_that_is_damaged_is_refused_and_stays_as_it_is() {
    let dir = copy();
    let mut bytes = fixture();
    bytes[100] ^= 1;
    fs::write(dir.path().join(LOG), &bytes).unwrap();
    let error = Catalog::open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("line 2:"), "{error}");
    assert_eq!(fs::read(dir.path().join(LOG)).unwrap(), bytes);
}

#[test]
fn a_catalog_of_format_2_opens_and_goes_on_in_format_4() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/catalog-v2").join(LOG);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path, dir.path().join(LOG)).unwrap();
    for _ in 0..2 {
        let catalog = Catalog::open(dir.path()).unwrap();
        let tables: Vec<_> =
            catalog.tables().iter().map(|table| (table.id.0, table.name.to_string())).collect();
        assert_eq!(tables, [(3, "valve".to_owned()), (4, "pump 1".to_owned())]);
        let valve = catalog.get(TableId(3)).unwrap().settings();
        assert_eq!((valve.profile, valve.retention.memory_hours), (Profile::Strict, 7));
        assert_eq!((valve.created_ns, valve.updated_ns), (8, 10));
        let deleted: Vec<_> = catalog.deleted_tables().iter().map(|table| table.id.0).collect();
        assert_eq!(deleted, [1, 2]);
        assert!(!catalog.has_database("implied") && !catalog.has_numbered(TableId(5)));
        let plant = catalog.database("plant").unwrap().settings();
        assert_eq!((plant.kms_key.as_deref(), plant.updated_ns), (Some("key"), 9));
        let log = fs::read_to_string(dir.path().join(LOG)).unwrap();
        assert!(log.lines().next().unwrap().ends_with(r#"{"op":"catalog","format":4}"#), "{log}");
    }
}

/// A crash may have cut the last line of the old format too.
#[test]
fn a_torn_line_of_format_1_is_dropped_before_the_rest_is_renewed() {
    let dir = copy();
    let bytes = fixture();
    fs::write(dir.path().join(LOG), &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(Catalog::open(dir.path()).unwrap().tables().len(), 3);
    assert_eq!(Catalog::open(dir.path()).unwrap().tables().len(), 3);
}

#[test]
fn a_catalog_of_format_2_takes_erasures() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/catalog-v2").join(LOG);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path, dir.path().join(LOG)).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let check = |catalog: &Catalog| {
        let names: Vec<_> = catalog.tables().iter().map(|t| (t.id.0, t.name.to_string())).collect();
        assert_eq!(names, [(3, "valve".to_owned()), (4, "pump 1".to_owned())]);
    };
    check(&catalog);
    let dimensions = vec![("host".into(), "h1".into())];
    let (table, lsn) = (TableId(3), Lsn(7));
    let erasure = Erasure { number: 0, table, dimensions, lsn, at_ns: 1, note: "n".into() };
    assert_eq!(catalog.next_erasure(), Some(1));
    catalog.erase(erasure).unwrap();
    drop(catalog);
    let catalog = Catalog::open(dir.path()).unwrap();
    check(&catalog);
    assert_eq!(catalog.next_erasure(), Some(2));
    assert!(catalog.hidden(table).hides(&[("host", "h1")], 1));
    assert!(
        catalog.erasures_due(Lsn(6)).is_empty(),
        "frames that may hold such rows are not stored"
    );
    let due = catalog.erasures_due(lsn);
    assert_eq!((due.len(), &*due[0].note), (1, "n"));
    catalog.carried_out(&due).unwrap();
    drop(catalog);
    let catalog = Catalog::open(dir.path()).unwrap();
    assert!(catalog.hidden(table).is_empty() && catalog.erasures_noted().len() == 1);
    assert_eq!(catalog.next_erasure(), Some(2), "a number is given once");
}

#[test]
fn a_catalog_of_format_3_opens_and_goes_on_in_format_4() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/catalog-v3").join(LOG);
    let dir = tempfile::tempdir().unwrap();
    fs::copy(path, dir.path().join(LOG)).unwrap();
    for round in 0..2 {
        let catalog = Catalog::open(dir.path()).unwrap();
        let tables = catalog.tables();
        let names: Vec<_> = tables.iter().map(|t| format!("{} {}", t.id.0, t.name)).collect();
        let made: &[&str] = if round == 0 { &[] } else { &["8 new", "9 other"] };
        let before = ["2 valve", "4 points", "5 entities", "6 tokens", "7 fan"];
        assert_eq!(names, [&before[..], made].concat());
        let hours = |id| catalog.get(TableId(id)).unwrap().settings().retention.memory_hours;
        assert_eq!((hours(2), hours(7)), (7, 9));
        let deleted: Vec<_> = catalog.deleted_tables().iter().map(|table| table.id.0).collect();
        assert_eq!(deleted, [1, 3]);
        assert!(!catalog.has_database("empty") && !catalog.has_database("gone"));
        let key = |name| catalog.database(name).unwrap().settings().kms_key.clone();
        assert_eq!(
            (key("plant").as_deref(), key("spare").as_deref()),
            (Some("key"), Some("other"))
        );
        assert_eq!(catalog.next_erasure(), Some(3));
        assert_eq!(catalog.erasures_due(Lsn(u64::MAX)).len(), 2);
        let log = fs::read_to_string(dir.path().join(LOG)).unwrap();
        assert!(log.lines().next().unwrap().ends_with(r#"{"op":"catalog","format":4}"#), "{log}");
        if round == 0 {
            let (mut drafting, settings) = (Drafting::default(), TableSettings::default());
            for name in ["new", "other"] {
                catalog.draft_table(&mut drafting, ["plant", name], &settings).unwrap();
            }
            catalog.settle(&drafting).unwrap();
            let log = fs::read_to_string(dir.path().join(LOG)).unwrap();
            assert!(log.lines().next_back().unwrap().contains(r#"{"op":"together","changes":["#));
        }
    }
}
