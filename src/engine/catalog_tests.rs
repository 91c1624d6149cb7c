//! The catalog: what it answered stays, and what it cannot read it refuses.

use super::*;
use crate::record::codec::{Payload, PayloadBuilder};
use crate::record::{Attribute, Record, Value};

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir).unwrap()
}

fn make(catalog: &Catalog, database: &str, table: &str) -> Result<TableId, CatalogError> {
    catalog.create(database, table, &TableSettings::default()).map(|table| table.id)
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

#[test]
fn tables_are_found_again_with_their_numbers_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let strict = TableSettings {
        profile: Profile::Strict,
        columns_max: 7,
        created_ns: 42,
        retention: Retention { memory_hours: 1, magnetic_days: 2, magnetic_writes: true },
    };
    let first = catalog.create("d", "t", &strict).unwrap();
    assert_eq!((first.id, first.profile()), (TableId(1), Profile::Strict));
    assert_eq!(make(&catalog, "d", "ü \"quoted\"").unwrap(), TableId(2));
    assert_eq!(make(&catalog, "e", "t").unwrap(), TableId(3));
    for catalog in [catalog, open(dir.path())] {
        assert_eq!(catalog.resolve("d", "t").unwrap().settings, strict);
        assert_eq!(catalog.resolve("d", "ü \"quoted\"").unwrap().id, TableId(2));
        assert_eq!(&*catalog.get(TableId(3)).unwrap().database, "e");
        assert!(catalog.resolve("e", "x").is_none() && catalog.resolve("x", "t").is_none());
        assert!(catalog.get(TableId(0)).is_none() && catalog.get(TableId(4)).is_none());
        assert_eq!(catalog.tables().len(), 3);
    }
    assert_eq!(make(&open(dir.path()), "d", "u").unwrap(), TableId(4));
}

#[test]
fn making_a_table_twice_makes_one() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let catalog = Arc::clone(&catalog);
            let (send, receive) = crossbeam_channel::bounded(1);
            let thread = base::thread::Thread::spawn("maker", move || {
                send.send(make(&catalog, "d", "t").unwrap()).unwrap();
            });
            (thread.unwrap(), receive)
        })
        .collect();
    for (thread, made) in threads {
        assert_eq!(made.recv().unwrap(), TableId(1));
        thread.join().unwrap();
    }
    let other = TableSettings { profile: Profile::Strict, ..TableSettings::default() };
    assert_eq!(catalog.create("d", "t", &other).unwrap().profile(), Profile::Relaxed);
    assert_eq!(std::fs::read_to_string(log_of(dir.path())).unwrap().lines().count(), 2);
}

/// A crash may leave any part of the last line, or zeros in its place.
#[test]
fn a_torn_last_line_is_dropped_and_its_number_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "first").unwrap();
    let before = std::fs::read(log_of(dir.path())).unwrap();
    make(&catalog, "d", "second").unwrap();
    let whole = std::fs::read(log_of(dir.path())).unwrap();
    drop(catalog);
    for cut in before.len()..whole.len() {
        let mut zeroed = whole[..cut].to_vec();
        zeroed.resize(whole.len() - 1, 0);
        zeroed.push(b'\n');
        for bytes in [&whole[..cut], &zeroed] {
            if bytes == &whole[..] {
                continue;
            }
            std::fs::write(log_of(dir.path()), bytes).unwrap();
            let catalog = open(dir.path());
            assert!(catalog.resolve("d", "second").is_none(), "cut at {cut}");
            assert_eq!(std::fs::read(log_of(dir.path())).unwrap(), before);
            assert_eq!(make(&catalog, "d", "third").unwrap(), TableId(2));
            assert!(open(dir.path()).resolve("d", "third").is_some());
        }
    }
    // Torn in its very first line: an empty catalog.
    std::fs::write(log_of(dir.path()), &whole[..10]).unwrap();
    assert!(open(dir.path()).tables().is_empty());
    assert!(open(dir.path()).tables().is_empty());
}

#[test]
fn damage_elsewhere_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    for table in ["a", "b", "c"] {
        make(&catalog, "d", table).unwrap();
    }
    let sound = std::fs::read(log_of(dir.path())).unwrap();
    let lines: Vec<&[u8]> = sound.split_inclusive(|&byte| byte == b'\n').collect();
    let flipped = |at: usize, place: usize| {
        let mut lines: Vec<Vec<u8>> = lines.iter().map(|line| line.to_vec()).collect();
        lines[at][place] ^= 1;
        lines.concat()
    };
    let cases: [(Vec<u8>, usize, &str); 7] = [
        (flipped(1, 30), 2, "checksum"),
        (flipped(3, 30), 4, "checksum"),
        (flipped(2, 8), 3, "no space"),
        (flipped(2, 0).iter().map(|&b| if b == b'\0' { b'x' } else { b }).collect(), 3, "checksum"),
        (lines[1..].concat(), 1, "out of place"),
        ([lines[0], lines[1], lines[3]].concat(), 3, "table number 3, expected 2"),
        ([lines[0], lines[0]].concat(), 2, "out of place"),
    ];
    for (bytes, line, what) in cases {
        std::fs::write(log_of(dir.path()), &bytes).unwrap();
        let error = Catalog::open(dir.path()).unwrap_err();
        assert_eq!(error.class(), Class::Fault);
        let text = error.to_string();
        assert!(text.contains(&format!("line {line}:")) && text.contains(what), "{text}");
        assert_eq!(std::fs::read(log_of(dir.path())).unwrap(), bytes, "nothing was changed");
    }
    let mut newer = line_of(&Entry::Catalog { format: 2 });
    newer.extend_from_slice(lines[1]);
    std::fs::write(log_of(dir.path()), newer).unwrap();
    assert!(Catalog::open(dir.path()).unwrap_err().to_string().contains("catalog format 2"));
}

#[test]
fn names_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let long = "x".repeat(TABLE_NAME_BYTES_MAX + 1);
    for bad in ["", "a\nb", "\0", &long] {
        for (database, table) in [(bad, "t"), ("d", bad)] {
            let error = make(&catalog, database, table).unwrap_err();
            assert_eq!(error.class(), Class::Refused, "{bad:?}");
        }
    }
    for good in ["../..", "a b", "\u{1f30a}", &long[1..]] {
        make(&catalog, good, good).unwrap();
    }
    assert_eq!(open(dir.path()).tables().len(), 4);
}

/// A log with as many tables as there may be is read, and takes no more.
#[test]
fn databases_and_tables_are_limited() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = line_of(&Entry::Catalog { format: FORMAT });
    for at in 0..TABLES_MAX {
        log.extend(line_of(&Entry::Create {
            id: TableId(u32::try_from(at + 1).unwrap()),
            database: format!("d{}", at % DATABASES_MAX).into(),
            table: format!("t{at}").into(),
            settings: TableSettings::default(),
        }));
        if at + 1 == DATABASES_MAX {
            std::fs::write(log_of(dir.path()), &log).unwrap();
            let catalog = open(dir.path());
            let error = make(&catalog, "one more", "t").unwrap_err();
            assert!(matches!(error, CatalogError::Limit { what: "databases", .. }), "{error}");
            assert_eq!(error.class(), Class::Refused);
        }
    }
    std::fs::write(log_of(dir.path()), &log).unwrap();
    let catalog = open(dir.path());
    let error = make(&catalog, "d0", "one more").unwrap_err();
    assert!(matches!(error, CatalogError::Limit { what: "tables", .. }), "{error}");
    assert!(make(&catalog, "d0", "t0").is_ok(), "what exists is found");
}

/// `/dev/full` takes no byte.
#[test]
fn after_a_failed_write_no_table_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "before").unwrap();
    *catalog.log.lock().unwrap() = OpenOptions::new().append(true).open("/dev/full").unwrap();
    let error = make(&catalog, "d", "t").unwrap_err();
    assert!(matches!(error, CatalogError::Io { .. }) && error.class() == Class::Fault);
    assert!(catalog.resolve("d", "t").is_none());
    assert!(matches!(make(&catalog, "d", "u"), Err(CatalogError::Poisoned { .. })));
    assert!(make(&catalog, "d", "before").is_ok());
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), b"").unwrap();
    let error = Catalog::open(&dir.path().join("file/below")).unwrap_err();
    assert!(matches!(error, CatalogError::Io { .. }), "{error}");
}

fn claim(table: &Table, attributes: &[(&str, Value<'_>)]) -> Result<(), ClaimError> {
    let kind = match attributes {
        [("", _)] => MeasureKind::Scalar,
        _ => MeasureKind::Multi,
    };
    let attributes = attributes.iter().map(|&(name, value)| Attribute { name, value }).collect();
    let record = Record { kind, attributes, ..Record::default() };
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    let ids = (builder.family(table.id, &record).0, builder.layout(&record).0);
    builder.push(ids, &record, 0, 1);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    Payload::open(&bytes).unwrap().dictionary(&mut families, &mut layouts).unwrap();
    table.claim(&layouts[0])
}

#[test]
fn the_first_type_of_an_attribute_stays() {
    let settings = TableSettings { columns_max: 3, ..TableSettings::default() };
    let table = Table::new(TableId(1), "d", "t", settings);
    claim(&table, &[("a", Value::Bigint(1)), ("b", Value::Double(1.0))]).unwrap();
    claim(&table, &[("b", Value::Double(1.0))]).unwrap();
    let conflict = claim(&table, &[("c", Value::Bigint(1)), ("a", Value::Varchar("1"))]);
    assert_eq!(
        conflict,
        Err(ClaimError::Type {
            attribute: "a".into(),
            found: ValueType::Varchar,
            existing: ValueType::Bigint
        })
    );
    assert_eq!(conflict.unwrap_err().reason(), Reason::TypeConflict);
    let twice = claim(&table, &[("d", Value::Bigint(1)), ("d", Value::Boolean(true))]);
    assert!(matches!(twice, Err(ClaimError::Type { .. })), "{twice:?}");
    let full = claim(&table, &[("c", Value::Bigint(1)), ("d", Value::Bigint(1))]);
    assert_eq!(full, Err(ClaimError::Limit { attribute: "d".into(), columns_max: 3 }));
    assert_eq!(full.unwrap_err().reason(), Reason::TableLimit);
    // What was refused claimed nothing.
    let columns = table.columns();
    assert_eq!(columns, [("a".into(), ValueType::Bigint), ("b".into(), ValueType::Double)]);
    for value in [Value::Bigint(1), Value::Varchar("x")] {
        claim(&table, &[("", value)]).unwrap();
    }
    assert_eq!(table.columns().len(), 2, "scalars claim nothing");
}

#[test]
fn a_record_lives_through_both_retentions() {
    let hour_ns = 3_600_000_000_000;
    let retention = Retention { memory_hours: 2, magnetic_days: 1, magnetic_writes: false };
    assert_eq!(retention.alive_from_ns(100 * hour_ns), 74 * hour_ns);
    let longest = Retention { magnetic_days: MAGNETIC_RETENTION_DAYS_MAX, ..retention };
    assert!(longest.alive_from_ns(0) < i64::MIN / 2 + i64::MAX / 4, "200 years are nearly all");
    assert_eq!(longest.alive_from_ns(i64::MIN), i64::MIN, "time does not wrap");
}
