//! The catalog: what it answered stays, and what it cannot read it refuses.

use std::path::PathBuf;

use super::log::{Entry, FILE_NAME, FORMAT, line_of};
use super::state::DELETED_KEPT;
use super::*;
use crate::base;
use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::record::codec::{Payload, PayloadBuilder};
use crate::record::limits::{
    DATABASES_MAX, DIMENSIONS_PER_TABLE_MAX, MAGNETIC_RETENTION_DAYS_MAX,
    MEASURE_NAMES_PER_TABLE_MAX, TABLE_NAME_BYTES_MAX, TABLES_MAX, TAGS_PER_RESOURCE_MAX,
};
use crate::record::{Attribute, MeasureKind, Reason, Record, Value, ValueType};

mod drafts;

fn open(dir: &Path) -> Catalog {
    Catalog::open(dir).unwrap()
}

fn make(catalog: &Catalog, database: &str, table: &str) -> Result<TableId, CatalogError> {
    catalog.create(database, table, &TableSettings::default()).map(|table| table.id)
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join(FILE_NAME)
}

fn location(prefix: &str) -> RejectLocation {
    let key_prefix = Some(prefix.to_owned());
    let encryption = Some(Encryption::SseS3);
    RejectLocation { bucket: "reports".to_owned(), key_prefix, encryption, kms_key: None }
}

fn host_key(enforcement: Enforcement) -> PartitionKey {
    PartitionKey::Dimension { name: "host".to_owned(), enforcement }
}

fn tags(pairs: &[(&str, &str)]) -> Tags {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn tables_are_found_again_with_their_numbers_and_settings() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let strict = TableSettings {
        profile: Profile::Strict,
        columns_max: 7,
        created_ns: 42,
        updated_ns: 42,
        retention: Retention { memory_hours: 1, magnetic_days: 2, magnetic_writes: true },
        rejected_data: Some(location("late/")),
        partition_key: host_key(Enforcement::Optional),
        tags: tags(&[("team", "fleet")]),
    };
    let first = catalog.create("d", "t", &strict).unwrap();
    assert_eq!((first.id, first.profile()), (TableId(1), Profile::Strict));
    assert_eq!(make(&catalog, "d", "ü \"quoted\"").unwrap(), TableId(2));
    assert_eq!(make(&catalog, "e", "t").unwrap(), TableId(3));
    for catalog in [catalog, open(dir.path())] {
        assert_eq!(catalog.resolve("d", "t").unwrap().settings(), Arc::new(strict.clone()));
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
    let mut newer = line_of(&Entry::Catalog { format: FORMAT + 1 });
    newer.extend_from_slice(lines[1]);
    std::fs::write(log_of(dir.path()), newer).unwrap();
    assert!(Catalog::open(dir.path()).unwrap_err().to_string().contains("catalog format 5"));
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

/// What a create would say is known before, also behind others that are not made either.
#[test]
fn a_table_that_would_be_made_is_judged_as_one_that_is() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "t").unwrap();
    let settings = TableSettings::default();
    let would = |database: &str, others: Others| {
        catalog.would_create([database, "u"], &settings, others).map(|table| table.name)
    };
    let full = Others { tables: TABLES_MAX - 1, ..Others::default() };
    assert!(matches!(would("d", full), Err(CatalogError::Limit { what: "tables", .. })));
    assert!(would("d", Others { tables: TABLES_MAX - 2, ..full }).is_ok());
    let full = Others { databases: DATABASES_MAX - 1, ..Others::default() };
    assert!(matches!(would("e", full), Err(CatalogError::Limit { what: "databases", .. })));
    assert!(would("d", full).is_ok(), "its database is there");
    assert!(would("e", Others { has_database: true, ..full }).is_ok(), "it is among the others");
    assert!(matches!(would("a\tb", Others::default()), Err(CatalogError::Name { .. })));
    assert_eq!(catalog.tables().len(), 1);
    assert!(!catalog.has_database("e"));
}

/// `/dev/full` takes no byte.
#[test]
fn after_a_failed_write_no_table_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "before").unwrap();
    catalog.break_log();
    let error = make(&catalog, "d", "t").unwrap_err();
    assert!(matches!(error, CatalogError::Io { .. }) && error.class() == Class::Fault);
    assert!(catalog.resolve("d", "t").is_none());
    assert!(matches!(make(&catalog, "d", "u"), Err(CatalogError::Poisoned { .. })));
    assert!(make(&catalog, "d", "before").is_ok());
}

/// A file that takes no byte more, but can be cut and synced: what a full disk leaves.
#[test]
fn a_change_that_finds_no_room_is_taken_back_and_can_be_tried_again() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "t").unwrap();
    let full: std::fs::File = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap().into();
    fcntl_add_seals(&full, SealFlags::GROW).unwrap();
    let (file, length) = {
        let mut log = catalog.log.lock().unwrap();
        (std::mem::replace(&mut log.file, full), std::mem::replace(&mut log.length, 0))
    };
    let error = catalog.delete_table("d", "t").unwrap_err();
    assert!(matches!(error, CatalogError::Unwritten { .. }) && error.class() == Class::Busy);
    assert!(matches!(make(&catalog, "d", "u"), Err(CatalogError::Unwritten { .. })));
    assert!(catalog.resolve("d", "t").is_some(), "it is in no doubt");
    {
        let mut log = catalog.log.lock().unwrap();
        (log.file, log.length) = (file, length);
    }
    assert_eq!(make(&catalog, "d", "u").unwrap(), TableId(2));
    catalog.delete_table("d", "t").unwrap();
    assert_eq!(described(&open(dir.path())), described(&catalog));
}

/// What is acknowledged for a table that the next start may not have would be lost.
#[test]
fn a_table_whose_delete_is_in_doubt_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "t").unwrap();
    make(&catalog, "d", "u").unwrap();
    catalog.break_log();
    let error = catalog.delete_table("d", "t").unwrap_err();
    assert!(matches!(error, CatalogError::Io { .. }) && error.class() == Class::Fault);
    assert!(catalog.resolve("d", "t").is_none());
    assert!(matches!(make(&catalog, "d", "t"), Err(CatalogError::Poisoned { .. })));
    assert!(catalog.get(TableId(1)).is_some(), "what was acknowledged before reaches it");
    assert!(!catalog.is_deleted(TableId(1)));
    assert!(matches!(catalog.delete_table("d", "u"), Err(CatalogError::Poisoned { .. })));
    assert_eq!(make(&catalog, "d", "u").unwrap(), TableId(2), "this one is in no doubt");
    assert!(open(dir.path()).resolve("d", "t").is_some(), "here nothing was written");
}

/// A record written with any number could be meant by the erasure that the next start may find, or by none
/// that follows.
#[test]
fn after_an_erasure_in_doubt_no_number_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let table = make(&catalog, "d", "t").unwrap();
    let erase = |table| {
        let dimensions = vec![("a".into(), "1".into())];
        let note = "".into();
        catalog.erase(Erasure { number: 0, table, dimensions, lsn: Lsn(1), at_ns: 1, note })
    };
    assert!(matches!(erase(TableId(9)), Err(CatalogError::NotFound { .. })));
    erase(table).unwrap();
    assert_eq!(catalog.next_erasure(), Some(2));
    catalog.break_log();
    assert!(matches!(erase(table), Err(CatalogError::Io { .. })));
    assert_eq!(catalog.next_erasure(), None);
    assert!(matches!(erase(table), Err(CatalogError::Poisoned { .. })));
    assert!(matches!(
        catalog.carried_out(&catalog.erasures_due(Lsn(1))),
        Err(CatalogError::Poisoned { .. })
    ));
    assert!(catalog.hidden(table).hides(&[("a", "1")], 1), "what was acknowledged holds");
    assert_eq!(open(dir.path()).next_erasure(), Some(2), "here nothing was written");
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
    assert_eq!(longest.alive_from_ns(0), i64::MIN, "nothing is ever gone");
    assert_eq!(retention.alive_from_ns(i64::MIN + 5), i64::MIN, "time does not wrap");
}

fn names_of(page: &Page<Arc<Table>>) -> Vec<String> {
    page.items.iter().map(|table| format!("{}.{}", table.database, table.name)).collect()
}

/// All that a catalog answers, as text.
fn described(catalog: &Catalog) -> String {
    use std::fmt::Write as _;
    let mut out = String::new();
    for database in catalog.list_databases(None, usize::MAX).items {
        writeln!(out, "{} {:?}", database.name, database.settings()).unwrap();
        for table in catalog.list_tables(Some(&database.name), None, usize::MAX).items {
            let names = |dimension, measure| {
                table.new_names(std::iter::once(dimension), measure).map(|new| new.is_empty())
            };
            let (id, name, settings) = (table.id, &table.name, table.settings());
            writeln!(out, "  {id} {name} {settings:?} {:?}", names("host", "cpu")).unwrap();
        }
    }
    let deleted: Vec<_> = catalog.deleted_tables().iter().map(|table| table.id).collect();
    writeln!(out, "deleted {deleted:?}").unwrap();
    out
}

type Change = fn(&Catalog) -> Result<(), CatalogError>;

/// A change of each kind.
const CHANGES: [Change; 11] = [
    |catalog| catalog.create_database("d", &DatabaseSettings::default()).map(drop),
    |catalog| catalog.create_table("d", "t", &TableSettings::default()).map(drop),
    |catalog| make(catalog, "implied", "t").map(drop),
    |catalog| {
        let table = catalog.resolve("d", "t").unwrap();
        catalog.claim_names(&table, std::iter::once("host"), "cpu")
    },
    |catalog| catalog.update_database("d", "key", 5).map(drop),
    |catalog| catalog.tag(Resource::Database("d"), &tags(&[("a", "1"), ("b", "")])),
    |catalog| catalog.untag(Resource::Database("d"), &["a", "none"]),
    |catalog| {
        let update = TableUpdate { memory_hours: Some(7), ..TableUpdate::default() };
        catalog.update_table("d", "t", &update, 6).map(drop)
    },
    |catalog| catalog.delete_table("d", "t").map(drop),
    |catalog| make(catalog, "d", "t").map(drop),
    |catalog| {
        catalog.delete_table("implied", "t")?;
        catalog.delete_database("implied")
    },
];

/// Goal: a crash while any change is written leaves the catalog before the change or after it. Method:
/// the log of a change of each kind, cut at every byte, amounts to what the whole lines amounted to.
#[test]
fn a_log_cut_at_any_byte_has_every_change_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let length = || std::fs::metadata(log_of(dir.path())).unwrap().len();
    let mut states = vec![(0, described(&catalog))];
    for change in CHANGES {
        change(&catalog).unwrap();
        states.push((length(), described(&catalog)));
    }
    let whole = std::fs::read(log_of(dir.path())).unwrap();
    // The last change is two lines; between them only the table is gone.
    let between = whole[..whole.len() - 1].iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    let elsewhere = tempfile::tempdir().unwrap();
    for cut in 0..=whole.len() {
        std::fs::write(log_of(elsewhere.path()), &whole[..cut]).unwrap();
        let found = described(&open(elsewhere.path()));
        let (_, expected) = states.iter().rfind(|(end, _)| *end <= cut as u64).unwrap();
        if (between..whole.len()).contains(&cut) {
            assert!(
                found.contains("implied") && found.contains("deleted [TableId(1), TableId(2)]")
            );
        } else {
            assert_eq!(found, *expected, "cut at {cut}");
        }
        assert_eq!(described(&open(elsewhere.path())), found, "opened again after the cut");
    }
}

#[test]
fn a_change_that_changes_nothing_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "t").unwrap();
    catalog.update_database("d", "key", 1).unwrap();
    let written = std::fs::read(log_of(dir.path())).unwrap();
    catalog.update_database("d", "key", 2).unwrap();
    catalog.untag(Resource::Table { database: "d", table: "t" }, &["none"]).unwrap();
    catalog.tag(Resource::Database("d"), &Tags::new()).unwrap();
    assert_eq!(std::fs::read(log_of(dir.path())).unwrap(), written);
    assert_eq!(catalog.database("d").unwrap().settings().updated_ns, 1);
}

#[test]
fn a_number_is_given_once_whatever_is_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let first = catalog.create("d", "t", &TableSettings::default()).unwrap();
    first.claim_attributes(&[("v", ValueType::Double)]).unwrap();
    assert_eq!(catalog.delete_table("d", "t").unwrap().id, TableId(1));
    assert!(catalog.resolve("d", "t").is_none() && catalog.get(TableId(1)).is_none());
    drop(catalog);
    for number in [2, 3] {
        let catalog = open(dir.path());
        assert!(catalog.is_deleted(TableId(1)) && !catalog.is_deleted(TableId(9)));
        let again = catalog.create("d", "t", &TableSettings::default()).unwrap();
        assert_eq!(again.id, TableId(number));
        assert!(again.columns().is_empty(), "columns are deleted with their table");
        catalog.delete_table("d", "t").unwrap();
    }
    let catalog = open(dir.path());
    assert_eq!(catalog.deleted_tables().len(), 3);
    assert_eq!(make(&catalog, "d", "t").unwrap(), TableId(4));
    let all: Vec<_> = Catalog::read_only(dir.path()).unwrap().iter().map(|t| t.id.0).collect();
    assert_eq!(all, [1, 2, 3, 4], "a log may name deleted ones");
}

#[test]
fn what_is_not_there_or_there_already_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let (settings, update) = (TableSettings::default(), TableUpdate::default());
    let of = DatabaseSettings::default();
    let nothing = Tags::new();
    let missing = Resource::Table { database: "d", table: "none" };
    make(&catalog, "d", "t").unwrap();
    for (error, text) in [
        (catalog.create_database("d", &of).unwrap_err(), r#"database "d" already exists"#),
        (catalog.create_table("d", "t", &settings).unwrap_err(), r#"table "t" already exists"#),
        (catalog.create_table("e", "t", &settings).unwrap_err(), r#"database "e" does not exist"#),
        (catalog.update_table("d", "u", &update, 0).unwrap_err(), r#"table "u" does not exist"#),
        (catalog.update_database("e", "k", 0).unwrap_err(), r#"database "e" does not exist"#),
        (catalog.delete_table("e", "t").unwrap_err(), r#"database "e" does not exist"#),
        (catalog.delete_table("d", "u").unwrap_err(), r#"table "u" does not exist"#),
        (catalog.delete_database("e").unwrap_err(), r#"database "e" does not exist"#),
        (
            catalog.delete_database("d").unwrap_err(),
            r#"database "d" has 1 tables: delete them first"#,
        ),
        (catalog.tag(missing, &nothing).unwrap_err(), r#"table "none" does not exist"#),
        (catalog.tags(missing).unwrap_err(), r#"table "none" does not exist"#),
        (catalog.tags(Resource::Database("e")).unwrap_err(), r#"database "e" does not exist"#),
    ] {
        assert_eq!((error.to_string(), error.class()), (text.to_owned(), Class::Refused));
    }
    catalog.delete_table("d", "t").unwrap();
    catalog.delete_database("d").unwrap();
    assert!(!open(dir.path()).has_database("d"));
    assert_eq!(make(&catalog, "d", "t").unwrap(), TableId(2), "both can be made again");
}

#[test]
fn an_update_changes_what_it_names_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let before = TableSettings {
        created_ns: 1,
        partition_key: host_key(Enforcement::Optional),
        rejected_data: Some(location("late")),
        ..TableSettings::default()
    };
    let table = catalog.create("d", "t", &before).unwrap();
    let update = |update: &TableUpdate| catalog.update_table("d", "t", update, 7).map(drop);
    let required = Some(host_key(Enforcement::Required));
    update(&TableUpdate { partition_key: required.clone(), ..TableUpdate::default() }).unwrap();
    assert_eq!(table.settings().partition_key.required(), Some("host"));
    assert_eq!(table.settings().rejected_data, before.rejected_data);
    update(&TableUpdate { rejected_data: Some(None), ..TableUpdate::default() }).unwrap();
    assert_eq!(table.settings().rejected_data, None);
    update(&TableUpdate { memory_hours: Some(1), ..TableUpdate::default() }).unwrap();
    update(&TableUpdate { magnetic_writes: Some(true), ..TableUpdate::default() }).unwrap();
    update(&TableUpdate { magnetic_days: Some(3), ..TableUpdate::default() }).unwrap();
    let retention = Retention { memory_hours: 1, magnetic_days: 3, magnetic_writes: true };
    assert_eq!(table.retention(), retention, "whoever holds the table sees it at once");
    let other = PartitionKey::Dimension { name: "rack".into(), enforcement: Enforcement::Required };
    for refused in [
        TableUpdate { partition_key: Some(other), ..TableUpdate::default() },
        TableUpdate { partition_key: Some(PartitionKey::Measure), ..TableUpdate::default() },
        TableUpdate { memory_hours: Some(0), partition_key: required, ..TableUpdate::default() },
    ] {
        assert!(matches!(update(&refused), Err(CatalogError::Setting { .. })), "{refused:?}");
    }
    let after = open(dir.path()).resolve("d", "t").unwrap().settings();
    assert_eq!(*after, *table.settings());
    assert_eq!((after.created_ns, after.updated_ns), (1, 7));
}

#[test]
fn retentions_and_tags_hold_at_their_bounds_and_not_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "t").unwrap();
    for (memory_hours, magnetic_days, is_taken) in [
        (1, 1, true),
        (8_766, 73_000, true),
        (0, 1, false),
        (8_767, 1, false),
        (1, 0, false),
        (1, 73_001, false),
    ] {
        let (hours, days) = (Some(memory_hours), Some(magnetic_days));
        let update =
            TableUpdate { memory_hours: hours, magnetic_days: days, ..TableUpdate::default() };
        let updated = catalog.update_table("d", "t", &update, 0);
        assert_eq!(updated.is_ok(), is_taken, "{update:?}");
    }
    let resource = Resource::Table { database: "d", table: "t" };
    let many: Tags =
        (0..TAGS_PER_RESOURCE_MAX).map(|at| (format!("k{at}"), String::new())).collect();
    catalog.tag(resource, &many).unwrap();
    let error = catalog.tag(resource, &tags(&[("one more", "")])).unwrap_err();
    assert!(matches!(error, CatalogError::Limit { what: "tags", .. }), "{error}");
    catalog.tag(resource, &tags(&[("k0", "another value")])).unwrap();
    catalog.untag(resource, &["k1", "k2", "k3"]).unwrap();
    let (key, value) = ("\u{fc}".repeat(128), "\u{fc}".repeat(256));
    catalog.tag(resource, &tags(&[(&key, &value)])).unwrap();
    for (key, value) in
        [(format!("{key}x"), ""), (String::new(), ""), ("k".into(), &*format!("{value}x"))]
    {
        let error = catalog.tag(resource, &tags(&[(&key, value)])).unwrap_err();
        assert!(matches!(error, CatalogError::Setting { what: "tags", .. }), "{error}");
    }
    let kept = open(dir.path()).tags(resource).unwrap();
    assert_eq!((kept.len(), &*kept["k0"]), (TAGS_PER_RESOURCE_MAX - 2, "another value"));
}

#[test]
fn lists_go_on_behind_a_name_even_if_it_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    for (database, table) in [("b", "z"), ("a", "y"), ("b", "x"), ("c", "w"), ("a", "b")] {
        make(&catalog, database, table).unwrap();
    }
    catalog.create_database("empty", &DatabaseSettings::default()).unwrap();
    let page = catalog.list_databases(None, 2);
    let names = |page: Page<Arc<Database>>| -> Vec<String> {
        page.items.iter().map(|database| database.name.to_string()).collect()
    };
    assert!(page.has_more);
    assert_eq!(names(page), ["a", "b"]);
    let rest = catalog.list_databases(Some("b"), 2);
    assert!(!rest.has_more);
    assert_eq!(names(rest), ["c", "empty"]);
    let first = catalog.list_tables(None, None, 3);
    assert!(first.has_more);
    assert_eq!(names_of(&first), ["a.b", "a.y", "b.x"]);
    catalog.delete_table("b", "x").unwrap();
    let rest = catalog.list_tables(None, Some(("b", "x")), 3);
    assert!(!rest.has_more);
    assert_eq!(names_of(&rest), ["b.z", "c.w"]);
    assert_eq!(names_of(&catalog.list_tables(Some("a"), Some(("a", "b")), 9)), ["a.y"]);
    assert_eq!(names_of(&catalog.list_tables(Some("empty"), None, 9)), [""; 0]);
    assert_eq!((catalog.table_count("a"), catalog.table_count("x")), (Some(2), None));
}

#[test]
fn the_names_of_a_table_are_counted_up_to_their_limits_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let table = catalog.create("d", "t", &TableSettings::default()).unwrap();
    table.claim_attributes(&[("v", ValueType::Double)]).unwrap();
    let dimensions: Vec<String> =
        (0..=DIMENSIONS_PER_TABLE_MAX).map(|at| format!("d{at}")).collect();
    let claim = |catalog: &Catalog, dimensions: &[String], measure: &str| {
        let table = catalog.resolve("d", "t").unwrap();
        let claimed = catalog.claim_names(&table, dimensions.iter().map(|name| &**name), measure);
        claimed.map_err(|error| error.to_string())
    };
    claim(&catalog, &dimensions[..DIMENSIONS_PER_TABLE_MAX], "m").unwrap();
    let mut log = std::fs::read(log_of(dir.path())).unwrap();
    // As many lines as the claims would have made, without their syncs.
    let measures: Vec<Box<str>> =
        (1..MEASURE_NAMES_PER_TABLE_MAX).map(|at| format!("m{at}").into()).collect();
    log.extend(line_of(&Entry::Names { id: table.id, dimensions: vec![], measures }));
    std::fs::write(log_of(dir.path()), log).unwrap();
    let catalog = open(dir.path());
    claim(&catalog, &dimensions[..2], "m7").unwrap();
    let one_more = claim(&catalog, &dimensions, "m").unwrap_err();
    assert_eq!(one_more, r#"dimension "d128" would be new, and the table has 128 already"#);
    let one_more = claim(&catalog, &[], "another").unwrap_err();
    assert_eq!(one_more, r#"measure name "another" would be new, and the table has 8192 already"#);
    let error = table.check_twofold(["x", "d1"].into_iter()).unwrap_err();
    assert_eq!(error.reason(), Reason::TableLimit);
    let error = table.new_names(std::iter::once("v"), "m").unwrap_err();
    assert_eq!(error, ClaimError::Twofold { name: "v".into() });
}

#[test]
fn nothing_is_counted_for_a_table_that_was_deleted_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let table = catalog.create("d", "t", &TableSettings::default()).unwrap();
    catalog.delete_table("d", "t").unwrap();
    let error = catalog.claim_names(&table, std::iter::once("host"), "m").unwrap_err();
    let CatalogError::Claim(error) = error else { panic!("{error}") };
    assert_eq!(error.reason(), Reason::TableDeleted);
    assert_eq!(described(&open(dir.path())), described(&catalog));
}

/// Each line is sound by itself; what it says makes no sense where it stands.
#[test]
fn entries_about_what_is_not_there_are_damage_and_named_by_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let create = Entry::Create {
        id: TableId(1),
        database: "d".into(),
        table: "t".into(),
        settings: TableSettings::default(),
    };
    let delete = Entry::DeleteTable { id: TableId(1) };
    let database = |name: &str| Entry::CreateDatabase {
        database: name.into(),
        settings: DatabaseSettings::default(),
    };
    let set = Entry::SetTable { id: TableId(2), settings: TableSettings::default() };
    for (entries, line, what) in [
        (vec![delete.clone()], 2, "table number 1 is not there"),
        (vec![create.clone(), delete.clone(), delete.clone()], 4, "table number 1 is not there"),
        (vec![create.clone(), delete, create.clone()], 4, "table number 1, expected 2"),
        (vec![create.clone(), set], 3, "table number 2 is not there"),
        (vec![create.clone(), database("d")], 3, "made a second time"),
        (vec![database("d"), Entry::DeleteDatabase { database: "e".into() }], 3, "is not there"),
        (vec![create, Entry::DeleteDatabase { database: "d".into() }], 3, "with tables in it"),
    ] {
        let mut log = line_of(&Entry::Catalog { format: FORMAT });
        log.extend(entries.iter().flat_map(line_of));
        std::fs::write(log_of(dir.path()), &log).unwrap();
        let error = Catalog::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("line {line}:")) && error.contains(what), "{error}");
        assert_eq!(std::fs::read(log_of(dir.path())).unwrap(), log, "nothing was changed");
    }
}

/// A log of as many tables, made and deleted, but for the first and the last.
fn log_of_many(tables: u32) -> Vec<u8> {
    let mut log = line_of(&Entry::Catalog { format: FORMAT });
    for number in 1..=tables {
        let (id, table) = (TableId(number), format!("t{number}").into());
        let settings = TableSettings::default();
        log.extend(line_of(&Entry::Create { id, database: "d".into(), table, settings }));
        if number > 1 && number < tables {
            log.extend(line_of(&Entry::DeleteTable { id }));
        }
    }
    log
}

/// Goal: what is written anew amounts to what was there. Method: after a change of each kind, and where
/// nothing but numbers is left.
#[test]
fn a_log_written_anew_amounts_to_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    for change in CHANGES {
        change(&catalog).unwrap();
        let mut log = line_of(&Entry::Catalog { format: FORMAT });
        catalog.state().entries().iter().for_each(|entry| log.extend(line_of(entry)));
        std::fs::write(log_of(elsewhere.path()), &log).unwrap();
        let again = open(elsewhere.path());
        assert_eq!(described(&again), described(&catalog));
        assert_eq!(again.state().next_id(), catalog.state().next_id());
        assert_eq!(again.state().entries(), catalog.state().entries());
    }
}

/// Goal: neither a disk nor memory is filled by a client that makes and drops tables for ever, and no
/// number is given twice. Method: more tables than are remembered, and one change more.
#[test]
fn a_log_of_many_deleted_tables_is_written_anew_and_forgets_all_but_their_numbers() {
    let tables = u32::try_from(DELETED_KEPT).unwrap() + 12;
    let dir = tempfile::tempdir().unwrap();
    let long = log_of_many(tables);
    std::fs::write(log_of(dir.path()), &long).unwrap();
    let catalog = open(dir.path());
    catalog.update_database("d", "key", 5).unwrap();
    let short = std::fs::read(log_of(dir.path())).unwrap();
    assert!(short.len() < long.len() / 3, "{} bytes, now {}", long.len(), short.len());
    let before = described(&catalog);
    assert_eq!(make(&catalog, "d", "next").unwrap(), TableId(tables + 1));
    drop(catalog);
    let catalog = open(dir.path());
    catalog.delete_table("d", "next").unwrap();
    assert_eq!(make(&catalog, "d", "next").unwrap(), TableId(tables + 2));
    // The first is there still, the ten after it are forgotten, and one more since.
    assert!(catalog.get(TableId(1)).is_some() && !catalog.is_deleted(TableId(1)));
    for id in (2..=12).map(TableId) {
        assert!(catalog.is_deleted(id) && catalog.has_numbered(id) && catalog.get(id).is_none());
        assert_eq!(&*catalog.deleted(id).unwrap().name, format!("deleted-{id}"));
    }
    assert_eq!(&*catalog.deleted(TableId(13)).unwrap().name, "t13");
    assert_eq!(catalog.deleted_tables().len(), DELETED_KEPT);
    assert!(!catalog.is_deleted(TableId(0)) && !catalog.is_deleted(TableId(tables + 3)));
    // A crash while it was written anew leaves the old log with a part of the new one beside it.
    let beside = dir.path().join("catalog.log.tmp");
    for cut in [0, 1, short.len() / 2, short.len()] {
        let crashed = tempfile::tempdir().unwrap();
        std::fs::write(log_of(crashed.path()), &long).unwrap();
        std::fs::write(crashed.path().join("catalog.log.tmp"), &short[..cut]).unwrap();
        let found = open(crashed.path());
        found.update_database("d", "key", 5).unwrap();
        assert_eq!(described(&found), before, "cut at {cut}");
        assert!(!crashed.path().join("catalog.log.tmp").exists());
        assert_eq!(std::fs::read(log_of(crashed.path())).unwrap(), short);
    }
    assert!(!beside.exists());
}

#[test]
fn a_log_that_cannot_be_written_anew_grows_on() {
    let dir = tempfile::tempdir().unwrap();
    let long = log_of_many(5_000);
    std::fs::write(log_of(dir.path()), &long).unwrap();
    let catalog = open(dir.path());
    std::fs::create_dir(dir.path().join("catalog.log.tmp")).unwrap();
    catalog.update_database("d", "key", 5).unwrap();
    catalog.update_database("d", "other", 6).unwrap();
    let found = std::fs::read(log_of(dir.path())).unwrap();
    assert!(found.len() > long.len() && found.starts_with(&long));
}

#[test]
fn numbers_that_were_given_are_not_forgotten_twice() {
    let dir = tempfile::tempdir().unwrap();
    for (entries, is_sound) in [
        (vec![Entry::Forgotten { to: TableId(3) }], true),
        (vec![Entry::Forgotten { to: TableId(3) }, Entry::Forgotten { to: TableId(3) }], false),
        (vec![Entry::Forgotten { to: TableId(0) }], false),
        (vec![Entry::Deleted { id: TableId(2), database: "d".into(), table: "t".into() }], false),
    ] {
        let mut log = line_of(&Entry::Catalog { format: FORMAT });
        for entry in &entries {
            log.extend(line_of(entry));
        }
        std::fs::write(log_of(dir.path()), log).unwrap();
        assert_eq!(Catalog::open(dir.path()).is_ok(), is_sound, "{entries:?}");
    }
}
