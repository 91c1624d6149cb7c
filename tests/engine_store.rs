//! What the embedded engine promises, one case each: values, layers, marks, bounds, crashes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use engine_support::{Bed, DAY, NOW, Owned, Rec, copy_dir, execute, open, payload, rows, small};
use tidegate::base::clock::ManualClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::thread::Thread;
use tidegate::base::units::Bytes;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::embedded::{Embedded, FileStep, Options};
use tidegate::engine::{EngineError, ShardId, TableEngine, TimeRange};
use tidegate::record::codec::{BUCKETS, Bucket};
use tidegate::record::request::{CommonAttributes, Outcome, WriteRequest};
use tidegate::record::{MeasureKind, Reason, TableId};

fn reason(outcome: &Outcome) -> Option<Reason> {
    match outcome {
        Outcome::Rejected(rejection) => Some(rejection.reason),
        _ => None,
    }
}

fn all_types(table: TableId, host: &str, time_ns: i64) -> Rec {
    Rec::new(table, host, time_ns, 1)
        .with("z double", Owned::double(-0.0))
        .with("bigint", Owned::Bigint(i64::MIN))
        .with("ok", Owned::Boolean(true))
        .with("text", Owned::Varchar("ü\0\n\"'".to_owned()))
        .with("at", Owned::Timestamp(-1))
        .with("time", Owned::Bigint(1))
        .with("host", Owned::double(1e-300))
        .with("attribute::host", Owned::Varchar(String::new()))
        .with("measure_value::double", Owned::Boolean(false))
}

/// Every type, odd names, missing dimensions, scalars of all types, the ends of time.
#[test]
fn what_is_written_reads_back_equal_from_every_layer() {
    let mut bed = Bed::new(2);
    let table = bed.table("odd ../name=x");
    let mut records = vec![
        all_types(table, "a", NOW),
        all_types(table, "", i64::MAX - 1),
        all_types(table, "b", i64::MIN + 2),
    ];
    for (at, value) in [
        Owned::double(1.5),
        Owned::Bigint(7),
        Owned::Boolean(false),
        Owned::Varchar(String::new()),
        Owned::Timestamp(i64::MAX),
    ]
    .into_iter()
    .enumerate()
    {
        let mut scalar = Rec::new(table, "s", NOW + i64::try_from(at).unwrap(), 3);
        scalar.dimensions.clear();
        scalar.measure = "scalar".to_owned();
        records.push(scalar.with("", value));
    }
    let mut named = Rec::new(table, "c", NOW, i64::MAX);
    named.dimensions.push(("time".to_owned(), "t".to_owned()));
    named.dimensions.push(("date".to_owned(), "2020".to_owned()));
    named.dimensions.push(("version".to_owned(), String::new()));
    records.push(named.with("date", Owned::Bigint(0)));
    for outcome in bed.write(&records) {
        assert_eq!(outcome, Outcome::Stored);
    }
    let in_memory = bed.rows(table);
    assert_eq!(in_memory.len(), records.len());
    for record in &records {
        let mut dimensions = record.dimensions.clone();
        dimensions.sort();
        let (kind, version, attributes) =
            &in_memory[&(record.measure.clone(), dimensions, record.time_ns)];
        assert_eq!((*kind, *version), (record.kind(), record.version));
        assert_eq!(*attributes, record.attributes.iter().cloned().collect());
    }
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.state().memory_rows, 0);
    assert_eq!(bed.rows(table), in_memory);
    bed.crash(3);
    assert_eq!(bed.rows(table), in_memory);
    // All of it written once more changes nothing, and every row is found in its file.
    for outcome in bed.write(&records) {
        assert_eq!(outcome, Outcome::Unchanged);
    }
}

/// Where the row stands when the next write meets it.
#[derive(Debug, Clone, Copy)]
enum Layer {
    Active,
    File,
    FileAfterRestart,
}

#[test]
fn the_version_rule_holds_through_every_layer() {
    for layer in [Layer::Active, Layer::File, Layer::FileAfterRestart] {
        let mut bed = Bed::new(2);
        let table = bed.table("t");
        let settle = |bed: &mut Bed| match layer {
            Layer::Active => {}
            Layer::File => bed.engine.flush().unwrap(),
            Layer::FileAfterRestart => {
                bed.engine.flush().unwrap();
                bed.crash(2);
            }
        };
        let rec = |version, name: &str, value| {
            Rec::new(table, "h", NOW, version).with(name, Owned::Bigint(value))
        };
        assert_eq!(bed.write_one(rec(5, "a", 1)), Outcome::Stored, "{layer:?}");
        for (record, expected) in [
            (rec(5, "a", 1), Ok(Outcome::Unchanged)),
            (rec(5, "a", 2), Err((Reason::VersionConflict, 5))),
            (rec(4, "a", 1), Err((Reason::VersionLower, 5))),
            (rec(5, "b", 1), Ok(Outcome::Updated)),
            (rec(6, "a", 3), Ok(Outcome::Updated)),
            (rec(6, "b", 1), Ok(Outcome::Unchanged)),
            (rec(7, "c", 9), Ok(Outcome::Updated)),
        ] {
            settle(&mut bed);
            match (bed.write_one(record.clone()), expected) {
                (Outcome::Rejected(found), Err((reason, version))) => {
                    assert_eq!(found.reason, reason, "{layer:?} {record:?}");
                    assert_eq!(found.existing_version, Some(version), "{layer:?}");
                }
                (found, Ok(expected)) => assert_eq!(found, expected, "{layer:?} {record:?}"),
                (found, expected) => panic!("{layer:?} {record:?}: {found:?}, {expected:?}"),
            }
        }
        settle(&mut bed);
        let rows = bed.rows(table);
        let (kind, version, attributes) = rows.values().next().unwrap();
        assert_eq!((rows.len(), *kind, *version), (1, MeasureKind::Multi, 7), "{layer:?}");
        let expected = [("a", 3), ("b", 1), ("c", 9)];
        let expected = expected.map(|(name, value)| (name.to_owned(), Owned::Bigint(value)));
        assert_eq!(*attributes, expected.into_iter().collect(), "{layer:?}");
    }
}

/// Files never keep a key that a newer file has, so a reader of the folder finds it once.
#[test]
fn an_update_of_flushed_rows_rewrites_their_file_without_them() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    let rec = |at: i64, version, value| {
        Rec::new(table, "h", NOW + at, version).with("a", Owned::Bigint(value))
    };
    bed.write(&(0..10).map(|at| rec(at, 1, at)).collect::<Vec<_>>());
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.state().files, 1);
    bed.write(&[rec(3, 2, 33), rec(4, 2, 44)]);
    bed.engine.flush().unwrap();
    let public = published(bed.dir.path());
    assert_eq!(public.len(), 2, "the rest of the first file and the updates: {public:?}");
    bed.write(&(0..10).map(|at| rec(at, 3, 100 + at)).collect::<Vec<_>>());
    bed.engine.flush().unwrap();
    let public = published(bed.dir.path());
    assert_eq!(public.len(), 1, "no row of the older files is left: {public:?}");
    assert_eq!(bed.rows(table).len(), 10);
    assert!(hidden(bed.dir.path()).is_empty(), "what is replaced is deleted");
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn named(dir: &Path, is_wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files_below(dir).into_iter().filter(|path| is_wanted(&name(path))).collect()
}

fn published(dir: &Path) -> BTreeSet<PathBuf> {
    named(dir, |name| name.ends_with(".parquet"))
}

fn hidden(dir: &Path) -> BTreeSet<PathBuf> {
    named(dir, |name| name.starts_with('.'))
}

#[test]
fn files_lie_by_table_and_day_and_names_stay_inside() {
    let mut bed = Bed::new(1);
    let table = bed.catalog.create("../d b", "a/ü=1", &TableSettings::default()).unwrap().id;
    for time_ns in [0, -1, DAY, DAY + 1] {
        bed.write_one(Rec::new(table, "h", time_ns, 1).with("a", Owned::Bigint(1)));
    }
    bed.engine.flush().unwrap();
    let below = bed.dir.path().join("%2E%2E%2Fd%20b").join("a%2F%C3%BC%3D1-1");
    let days: BTreeSet<PathBuf> =
        published(bed.dir.path()).iter().map(|path| path.parent().unwrap().to_owned()).collect();
    let expected = ["date=1969-12-31", "date=1970-01-01", "date=1970-01-02"];
    assert_eq!(days, expected.into_iter().map(|day| below.join(day)).collect());
}

#[test]
fn damaged_files_are_refused_by_name() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write_one(all_types(table, "h", NOW));
    bed.engine.close();
    let open_with = |change: &dyn Fn(&Path)| {
        let copy = tempfile::tempdir().unwrap();
        copy_dir(bed.dir.path(), copy.path());
        change(copy.path());
        let catalog = Arc::new(Catalog::open(copy.path()).unwrap());
        let clock = ManualClock::at(0);
        Embedded::open(small(copy.path()), 1, catalog, clock).map(|_| ()).unwrap_err().to_string()
    };
    let manifest = |dir: &Path| dir.join("manifest.json");
    let edit = |path: PathBuf, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(path, bytes).unwrap();
    };
    let error = open_with(&|dir| edit(manifest(dir), &|bytes| bytes[40] ^= 1));
    assert!(error.contains("manifest.json") && error.contains("checksum"), "{error}");
    let error = open_with(&|dir| edit(manifest(dir), &|bytes| bytes.truncate(50)));
    assert!(error.contains("manifest.json"), "{error}");
    let error = open_with(&|dir| std::fs::remove_file(manifest(dir)).unwrap());
    assert!(error.contains("manifest.json") && error.contains("missing"), "{error}");
    let log = |dir: &Path| dir.join("manifest-1.log");
    let error = open_with(&|dir| std::fs::remove_file(log(dir)).unwrap());
    assert!(error.contains("manifest-1.log") && error.contains("missing"), "{error}");
    let error = open_with(&|dir| edit(log(dir), &|bytes| bytes[60] ^= 1));
    assert!(error.contains("manifest-1.log") && error.contains("line 2 checksum"), "{error}");
    let file = |dir: &Path| published(dir).into_iter().next().unwrap();
    let error = open_with(&|dir| std::fs::remove_file(file(dir)).unwrap());
    assert!(error.contains(".parquet"), "{error}");
    let error = open_with(&|dir| edit(file(dir), &|bytes| bytes.truncate(bytes.len() - 1)));
    assert!(error.contains(".parquet") && error.contains("bytes"), "{error}");
    let error = open_with(&|dir| {
        edit(dir.join("catalog.log"), &|bytes| {
            let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
            bytes.truncate(end + 1);
        });
    });
    assert!(error.contains("manifest.json") && error.contains("catalog"), "{error}");
}

/// Tables as servers of the manifest's format 1 wrote them, with files whose names the Arrow writer
/// encoded: every row is there, can be written again, and stays when format 2 goes on.
#[test]
fn tables_of_an_earlier_version_open_and_go_on() {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tables-v1"), dir.path());
    let options = small(&dir.path().join("tables"));
    let open = || {
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        Embedded::open(options.clone(), 2, catalog, ManualClock::at(NOW)).unwrap()
    };
    let (cpu, mem) = (TableId(1), TableId(2));
    let load = |engine: &Embedded, host: &str, at: i64| {
        let dimensions = [("host", host), ("zone", "z")];
        let dimensions = dimensions.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let key = ("cpu".to_owned(), dimensions.to_vec(), 1_700_000_000_000_000_000 + at);
        rows(engine, cpu, TimeRange::ALL)[&key].2["load"].clone()
    };
    let engine = open();
    for (host, value) in [("h1", 0.1), ("h2", 0.2), ("h3", 0.3)] {
        assert_eq!(load(&engine, host, 20_000_000_000), Owned::double(value));
    }
    assert_eq!(rows(&engine, cpu, TimeRange::ALL).len(), 6);
    assert_eq!(rows(&engine, mem, TimeRange::ALL).len(), 6);
    let mut again = Rec::new(cpu, "h2", 1_700_000_010_000_000_000, 9);
    again.measure = "cpu".to_owned();
    again.dimensions.push(("zone".to_owned(), "z".to_owned()));
    let again = again.with("load", Owned::double(7.5)).with("usage", Owned::Bigint(3));
    let none = [Lsn::ZERO; BUCKETS];
    execute(&engine, 2, Lsn(100), &payload(&[again], 2), &none);
    engine.flush().unwrap();
    drop(engine);
    let engine = open();
    assert_eq!(load(&engine, "h2", 10_000_000_000), Owned::double(7.5));
    assert_eq!(rows(&engine, cpu, TimeRange::ALL).len(), 6);
    assert_eq!(rows(&engine, mem, TimeRange::ALL).len(), 6);
    drop(engine);
    let manifest = std::fs::read_to_string(options.dir.join("manifest.json")).unwrap();
    // Written anew by each start.
    assert!(manifest.contains(r#""format":2,"sequence":2"#), "{manifest}");
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { flush_bytes: Bytes(1), ..small(dir.path()) };
    let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
    let error = Embedded::open(options, 1, catalog, ManualClock::at(0)).unwrap_err();
    assert!(matches!(&error, EngineError::Corrupt { what, .. } if what.contains("flush_bytes")));
}

#[test]
fn strangers_of_ours_are_deleted_and_foreign_files_stay() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write_one(all_types(table, "h", NOW));
    bed.engine.flush().unwrap();
    let day = published(bed.dir.path()).into_iter().next().unwrap().parent().unwrap().to_owned();
    for name in ["0000000099.parquet", ".0000000099-1.parquet.tmp", "README.md", "x.parquet"] {
        std::fs::write(day.join(name), b"x").unwrap();
    }
    let before = bed.rows(table);
    bed.crash(1);
    assert_eq!(bed.rows(table), before);
    let names: BTreeSet<String> = std::fs::read_dir(&day)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected = ["0000000001.parquet", "README.md", "x.parquet"];
    assert_eq!(names, expected.into_iter().map(str::to_owned).collect());
}

#[test]
fn marks_follow_flushes_and_idle_shards_follow_what_was_applied() {
    let mut bed = Bed::new(4);
    let table = bed.table("t");
    assert_eq!(bed.engine.checkpoint(), Lsn::ZERO);
    // A frame of one series: three shards stay idle.
    bed.write_one(Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1)));
    let mark = |bed: &Bed| -> Vec<Lsn> {
        (0..BUCKETS).map(|at| bed.engine.stored(Bucket(u8::try_from(at).unwrap()))).collect()
    };
    let marks = mark(&bed);
    assert_eq!(marks.iter().filter(|mark| **mark == Lsn(1)).count(), BUCKETS / 4 * 3);
    assert_eq!(bed.engine.checkpoint(), Lsn::ZERO);
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.checkpoint(), Lsn(1));
    // What changes nothing leaves nothing to be flushed.
    bed.write_one(Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1)));
    assert_eq!(bed.engine.checkpoint(), Lsn(2));
    // A flush that comes after the frame was applied takes the idle ones along.
    bed.write_one(Rec::new(table, "h", NOW, 2).with("a", Owned::Bigint(1)));
    bed.engine.applied(Lsn(9));
    assert_eq!(bed.engine.checkpoint(), Lsn(2));
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.checkpoint(), Lsn(9));
    let before = mark(&bed);
    bed.engine.close();
    bed.crash(2);
    assert!(mark(&bed).iter().zip(&before).all(|(now, before)| now <= before));
    assert!(bed.engine.checkpoint() >= Lsn(3), "what a flush committed is durable");
}

/// Half a frame may be in memory; no file, and no mark, knows of it.
#[test]
fn a_frame_is_flushed_whole_or_not_at_all() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write_one(Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1)));
    let bytes = payload(&[Rec::new(table, "h", NOW + 1, 1).with("a", Owned::Bigint(1))], 1);
    write_without_commit(&bed.engine, &bytes);
    bed.engine.close();
    assert_eq!(bed.engine.state().files, 0);
    assert_eq!(bed.engine.checkpoint(), Lsn::ZERO);
    bed.crash(1);
    assert_eq!(bed.rows(table).len(), 1);
}

fn write_without_commit(engine: &Embedded, bytes: &[u8]) {
    let payload = tidegate::record::codec::Payload::open(bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let records: Vec<_> = payload.section(0, &families, &layouts).map(Result::unwrap).collect();
    let common = CommonAttributes::default();
    for run in records.chunk_by(|a, b| a.family.table == b.family.table) {
        let request = WriteRequest { table: run[0].family.table, common: &common, records: run };
        engine.write(ShardId(0), &request, &mut Vec::new()).unwrap();
    }
}

#[test]
fn an_attribute_of_another_type_is_refused_also_after_a_restart() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    let rec = |at, value| Rec::new(table, "h", NOW + at, 1).with("a", value);
    assert_eq!(bed.write_one(rec(0, Owned::Bigint(1))), Outcome::Stored);
    let text = || Owned::Varchar("1".to_owned());
    assert_eq!(reason(&bed.write_one(rec(1, text()))), Some(Reason::TypeConflict));
    bed.engine.flush().unwrap();
    bed.crash(1);
    assert_eq!(reason(&bed.write_one(rec(2, text()))), Some(Reason::TypeConflict));
    assert_eq!(bed.write_one(rec(2, Owned::Bigint(1))), Outcome::Stored);
}

#[test]
fn records_of_an_unknown_table_are_refused() {
    let mut bed = Bed::new(1);
    let outcome = bed.write_one(Rec::new(TableId(77), "h", NOW, 1).with("a", Owned::Bigint(1)));
    assert_eq!(reason(&outcome), Some(Reason::TableDeleted));
}

/// Of an attribute that a record names twice the later value counts.
#[test]
fn an_attribute_named_twice_has_its_later_value() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    let twice = Rec::new(table, "h", NOW, 1)
        .with("b", Owned::Bigint(1))
        .with("a", Owned::Bigint(2))
        .with("b", Owned::Bigint(3));
    bed.write_one(twice);
    let rows = bed.rows(table);
    let attributes = &rows.values().next().unwrap().2;
    assert_eq!(attributes.len(), 2);
    assert_eq!(attributes["b"], Owned::Bigint(3));
}

/// Late rows are merged into the index in runs; more of them than a run holds, from both ends.
#[test]
fn late_records_find_their_place() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    let rec =
        |at: i64, version| Rec::new(table, "h", NOW + at, version).with("a", Owned::Bigint(at));
    let count = 2_000;
    let backwards: Vec<Rec> = (0..count).rev().map(|at| rec(at * 2, 1)).collect();
    let between: Vec<Rec> = (0..count).map(|at| rec(at * 2 + 1, 1)).collect();
    for records in [&backwards, &between] {
        assert!(bed.write(records).iter().all(|outcome| *outcome == Outcome::Stored));
        assert!(bed.write(records).iter().all(|outcome| *outcome == Outcome::Unchanged));
    }
    let higher: Vec<Rec> = (0..count * 2).map(|at| rec(at, 2)).collect();
    assert!(bed.write(&higher).iter().all(|outcome| *outcome == Outcome::Updated));
    assert_eq!(bed.rows(table).len(), 4_000);
    bed.engine.flush().unwrap();
    assert_eq!(bed.rows(table).len(), 4_000);
}

/// What is counted is what is taken: series, time, version, arrival and ten values are 104 bytes, the
/// index and the last chunk's spare room come on top.
#[test]
fn the_memory_that_is_counted_is_that_of_the_rows() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    for step in 0..200_i64 {
        let records: Vec<Rec> = (0..100)
            .map(|host| {
                let rec = Rec::new(table, &format!("h{host}"), NOW + step, 1);
                (0..10).fold(rec, |rec, at| rec.with(&format!("f{at}"), Owned::Bigint(at)))
            })
            .collect();
        bed.write(&records);
    }
    let state = bed.engine.state();
    assert_eq!((state.memory_rows, state.series), (20_000, 100));
    let per_row = state.memory_bytes / state.memory_rows;
    assert!((108..=130).contains(&per_row), "{per_row} bytes a row");
    bed.engine.flush().unwrap();
    let state = bed.engine.state();
    assert_eq!((state.memory_rows, state.series), (0, 100), "series stay for what comes next");
    assert!(state.memory_bytes < 100 * 250, "{state:?}");
}

/// Writers that are faster than the disk wait; what they wrote is all there.
#[test]
fn memory_stays_bounded_and_writers_wait() {
    let mut bed = Bed::with(2, |options| {
        options.memory_bytes_max = Bytes::mib(2);
        options.flush_bytes = Bytes::mib(1);
    });
    let table = bed.table("t");
    let text = "x".repeat(1000);
    let mut most = 0;
    for frame in 0..60_i64 {
        let records: Vec<Rec> = (0..100)
            .map(|at| {
                let time_ns = NOW + frame * 100 + at;
                Rec::new(table, &format!("h{}", at % 7), time_ns, 1)
                    .with("a", Owned::Varchar(text.clone()))
            })
            .collect();
        bed.write(&records);
        most = most.max(bed.engine.state().memory_bytes);
    }
    let frame_bytes_max = 2 * 400_000;
    assert!(most <= 2 * (1 << 20) + frame_bytes_max, "{most} bytes");
    assert!(bed.engine.state().files > 0);
    assert_eq!(bed.rows(table).len(), 6_000);
}

/// A disk that takes no file: writers hear that the engine is busy, nothing is lost, and once the
/// disk is well again everything is flushed.
#[test]
fn a_failed_flush_is_told_and_tried_again() {
    let mut bed = Bed::with(1, |options| {
        options.memory_bytes_max = Bytes::mib(1);
        options.flush_bytes = Bytes(1 << 19);
    });
    let table = bed.table("t");
    // A file where the database's folder should be.
    let obstacle = bed.dir.path().join("d");
    std::fs::write(&obstacle, b"").unwrap();
    bed.write_one(Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1)));
    assert!(matches!(bed.engine.flush(), Err(EngineError::Io { .. })));
    assert!(bed.engine.state().fault.is_some());
    assert_eq!(bed.engine.checkpoint(), Lsn::ZERO);
    let text = "x".repeat(600_000);
    for at in 1..3 {
        bed.write_one(Rec::new(table, "h", NOW + at, 1).with("b", Owned::Varchar(text.clone())));
    }
    let bytes = payload(&[Rec::new(table, "h", NOW + 3, 1).with("a", Owned::Bigint(1))], 1);
    let full = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let none = [Lsn::ZERO; BUCKETS];
        execute(&bed.engine, 1, Lsn(99), &bytes, &none)
    }));
    assert!(full.is_err(), "a write without room is refused");
    std::fs::remove_file(&obstacle).unwrap();
    bed.engine.flush().unwrap();
    assert_eq!(bed.engine.state().fault, None);
    assert_eq!(bed.engine.checkpoint(), Lsn(3));
    assert_eq!(bed.rows(table).len(), 3);
}

#[test]
fn rows_that_waited_long_enough_are_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
    let table = catalog.create("d", "t", &TableSettings::default()).unwrap().id;
    let clock = ManualClock::at(NOW);
    let shared = Arc::clone(&clock);
    let engine = Embedded::open(small(dir.path()), 1, catalog, shared).unwrap();
    let (send, receive) = crossbeam_channel::bounded(10);
    engine.on_file_step(move |step, _| {
        if step == FileStep::FileSynced {
            send.send(step).unwrap();
        }
    });
    let bytes = payload(&[Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1))], 1);
    execute(&engine, 1, Lsn(1), &bytes, &[Lsn::ZERO; BUCKETS]);
    clock.advance(Duration::from_secs(599));
    assert!(receive.recv_timeout(Duration::from_millis(1200)).is_err(), "not yet");
    clock.advance(Duration::from_secs(2));
    assert_eq!(receive.recv_timeout(Duration::from_secs(30)).unwrap(), FileStep::FileSynced);
}

/// Each frame is one moment of one shard: a scan sees the newest of its records or none.
#[test]
fn a_scan_beside_writes_and_flushes_sees_one_moment() {
    let mut bed = Bed::with(1, |options| options.flush_bytes = Bytes(1 << 17));
    let table = bed.table("t");
    let hosts = 50;
    let version = |version: i64| -> Vec<Rec> {
        (0..hosts)
            .map(|host| {
                Rec::new(table, &format!("h{host}"), NOW, version).with("a", Owned::Bigint(version))
            })
            .collect()
    };
    bed.write(&version(1));
    let engine = Arc::new(std::mem::replace(&mut bed.engine, {
        let elsewhere = tempfile::tempdir().unwrap();
        open(&small(elsewhere.path()), 1).1
    }));
    let (is_done, scans) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let scanner = {
        let (engine, is_done, scans) =
            (Arc::clone(&engine), Arc::clone(&is_done), Arc::clone(&scans));
        let scan = move || {
            while !is_done.load(Ordering::Acquire) {
                let found = rows(&engine, table, TimeRange::ALL);
                assert_eq!(found.len(), 50);
                // A batch is one step under the shard's lock: all rows are of one version.
                let versions: BTreeSet<i64> = found.values().map(|state| state.1).collect();
                assert_eq!(versions.len(), 1, "{versions:?}");
                scans.fetch_add(1, Ordering::AcqRel);
            }
        };
        Thread::spawn("scanner", scan).unwrap()
    };
    let mut lsn = 1;
    while scans.load(Ordering::Acquire) < 100 && !scanner.is_finished() {
        lsn += 1;
        let bytes = payload(&version(i64::try_from(lsn).unwrap()), 1);
        execute(&engine, 1, Lsn(lsn), &bytes, &[Lsn::ZERO; BUCKETS]);
        if lsn % 50 == 0 {
            engine.flush().unwrap();
        }
    }
    is_done.store(true, Ordering::Release);
    scanner.join().unwrap();
    assert!(lsn > 2);
}

#[test]
fn a_scan_ends_when_it_is_told_to_and_keeps_to_its_range() {
    let mut bed = Bed::new(2);
    let table = bed.table("t");
    let rec = |at: i64| Rec::new(table, "h", NOW + at, 1).with("a", Owned::Bigint(at));
    bed.write(&(0..10).map(rec).collect::<Vec<_>>());
    for _ in 0..2 {
        let mut seen = 0;
        bed.engine
            .scan(table, TimeRange::ALL, &mut |_| {
                seen += 1;
                if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
            .unwrap();
        assert_eq!(seen, 3);
        let range = TimeRange { from_ns: NOW + 2, to_ns: NOW + 5 };
        let times: Vec<i64> = rows(&bed.engine, table, range).keys().map(|key| key.2).collect();
        assert_eq!(times, [NOW + 2, NOW + 3, NOW + 4]);
        let none = TimeRange { from_ns: NOW + 5, to_ns: NOW + 5 };
        assert!(rows(&bed.engine, table, none).is_empty());
        bed.engine.flush().unwrap();
    }
    assert!(rows(&bed.engine, TableId(9), TimeRange::ALL).is_empty());
}

/// Values that are not those of their layout: the batch fails, and the store is as it was.
#[test]
fn values_that_cannot_be_read_are_a_fault_and_leave_no_row() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    let rec = Rec::new(table, "h", NOW, 1)
        .with("a", Owned::Bigint(1))
        .with("b", Owned::Varchar("text".to_owned()));
    let bytes = payload(std::slice::from_ref(&rec), 1);
    let payload = tidegate::record::codec::Payload::open(&bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let view = payload.section(0, &families, &layouts).next().unwrap().unwrap();
    let common = CommonAttributes::default();
    let longer = [view.values, &[0]].concat();
    for values in [&view.values[..view.values.len() - 1], &[], &longer] {
        let broken = [tidegate::record::codec::RecordView { values, ..view }];
        let request = WriteRequest { table, common: &common, records: &broken };
        let mut outcomes = Vec::new();
        let error = bed.engine.write(ShardId(0), &request, &mut outcomes).unwrap_err();
        assert!(matches!(error, EngineError::Codec(_)), "{error}");
        assert!(outcomes.is_empty());
    }
    assert!(bed.rows(table).is_empty());
    assert_eq!(bed.write_one(rec), Outcome::Stored);
    assert_eq!(bed.rows(table).len(), 1);
}

#[test]
fn a_parquet_export_has_the_rows_of_the_table() {
    use tidegate::engine::embedded::ColumnSet;
    use tidegate::engine::embedded::export::{ExportError, ParquetExport};

    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write(&[all_types(table, "a", NOW), all_types(table, "b", NOW)]);
    let mut columns = ColumnSet::default();
    bed.engine
        .scan(table, TimeRange::ALL, &mut |row| {
            columns.see(row);
            ControlFlow::Continue(())
        })
        .unwrap();
    let export = |columns: ColumnSet| -> Result<Vec<u8>, ExportError> {
        let mut export = ParquetExport::new(Vec::new(), columns)?;
        let mut result = Ok(());
        bed.engine
            .scan(table, TimeRange::ALL, &mut |row| {
                result = export.push(row);
                if result.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        result?;
        export.finish()
    };
    let bytes = export(columns).unwrap();
    assert_eq!((&bytes[..4], &bytes[bytes.len() - 4..]), (&b"PAR1"[..], &b"PAR1"[..]));
    assert!(matches!(export(ColumnSet::default()), Err(ExportError::NewColumn)));
}

/// Its waiters would otherwise wait for ever, and nothing would say why the log grows.
#[test]
fn a_flush_thread_that_panics_is_a_fault_and_nobody_waits_for_it() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write_one(Rec::new(table, "h", NOW, 1).with("a", Owned::Bigint(1)));
    bed.engine.on_file_step(|_, _| panic!("as the test wants"));
    assert!(bed.engine.flush().is_err());
    let fault = bed.engine.state().fault.unwrap();
    assert!(fault.contains("panicked"), "{fault}");
    assert!(bed.engine.flush().is_err(), "later ones are told at once");
    bed.engine.close();
}
