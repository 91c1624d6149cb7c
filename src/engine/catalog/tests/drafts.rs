//! Drafts: one line for many, nobody hears of them before it, and nothing is left of those taken back.

use super::*;
use crate::base::thread::Thread;
use crate::engine::catalog::drafts::Progress;

fn lines(dir: &Path) -> usize {
    std::fs::read_to_string(log_of(dir)).unwrap().lines().count()
}

fn draft(
    catalog: &Catalog,
    drafting: &mut Drafting,
    table: &str,
) -> Result<Arc<Table>, CatalogError> {
    let settings = TableSettings { profile: Profile::Strict, ..TableSettings::default() };
    catalog.draft_table(drafting, ["d", table], &settings)
}

fn name(
    catalog: &Catalog,
    drafting: &mut Drafting,
    table: &Table,
    names: (&str, &str),
) -> Result<(), CatalogError> {
    catalog.draft_names(drafting, table, std::iter::once(names.0), names.1)
}

/// Writes what is drafted as [`Catalog::settle`] does, and calls `meanwhile` before it counts.
fn settle_slowly(catalog: &Catalog, meanwhile: impl FnOnce()) -> Result<(), CatalogError> {
    let mut log = catalog.log.lock().unwrap();
    let group = catalog.drafts().group();
    let appended = log.append(&group.entry());
    meanwhile();
    catalog.finish(&mut catalog.drafts(), group, appended)
}

#[test]
fn what_several_requests_draft_takes_one_line_and_is_known_to_nobody_before() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let known = catalog.create("d", "known", &TableSettings::default()).unwrap();
    let (before, described_before) = (lines(dir.path()), described(&catalog));
    let (mut one, mut other) = (Drafting::default(), Drafting::default());
    for at in 0..100 {
        name(&catalog, &mut one, &known, ("host", &format!("m{at}"))).unwrap();
    }
    let table = draft(&catalog, &mut one, "t").unwrap();
    name(&catalog, &mut other, &table, ("host", "m")).unwrap();
    assert!(Arc::ptr_eq(&draft(&catalog, &mut other, "t").unwrap(), &table));
    assert_eq!(draft(&catalog, &mut other, "u").unwrap().id, TableId(3));
    table.claim_attributes(&[("v", ValueType::Double)]).unwrap();
    assert_eq!((lines(dir.path()), described(&catalog)), (before, described_before));
    assert!(catalog.resolve("d", "t").is_none() && !catalog.has_numbered(TableId(2)));
    catalog.settle(&one).unwrap();
    assert_eq!(lines(dir.path()), before + 1, "one line, and so one sync");
    assert!(Arc::ptr_eq(&catalog.resolve("d", "t").unwrap(), &table), "with its columns");
    catalog.settle(&other).unwrap();
    catalog.settle(&one).unwrap();
    assert_eq!(lines(dir.path()), before + 1, "the other's were in it");
    assert!(catalog.drafts().is_empty());
    assert_eq!(described(&open(dir.path())), described(&catalog));
    assert!(known.new_names(std::iter::once("host"), "m99").unwrap().is_empty());
}

/// Whoever drafts nothing, and goes by nothing that is drafted, waits for nobody.
#[test]
fn a_request_without_drafts_does_not_wait_for_those_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let known = catalog.create("d", "known", &TableSettings::default()).unwrap();
    catalog.claim_names(&known, std::iter::once("host"), "m").unwrap();
    draft(&catalog, &mut Drafting::default(), "t").unwrap();
    let mut drafting = Drafting::default();
    draft(&catalog, &mut drafting, "known").unwrap();
    name(&catalog, &mut drafting, &known, ("host", "m")).unwrap();
    catalog.check_twofold(&mut drafting, &known, std::iter::once("v")).unwrap();
    let _held = catalog.log.lock().unwrap();
    catalog.settle(&drafting).unwrap();
    assert!(!catalog.drafts().is_empty());
}

#[test]
fn limits_hold_to_the_last_name_also_of_what_is_drafted() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = line_of(&Entry::Catalog { format: FORMAT });
    let (database, settings) = ("d".into(), TableSettings::default());
    log.extend(line_of(&Entry::Create { id: TableId(1), database, table: "t".into(), settings }));
    let of = |letter: char, count: usize| -> Vec<Box<str>> {
        (0..count).map(|at| format!("{letter}{at}").into()).collect()
    };
    let dimensions = of('d', DIMENSIONS_PER_TABLE_MAX - 1);
    let measures = of('m', MEASURE_NAMES_PER_TABLE_MAX - 2);
    log.extend(line_of(&Entry::Names { id: TableId(1), dimensions, measures }));
    std::fs::write(log_of(dir.path()), log).unwrap();
    let catalog = open(dir.path());
    let table = catalog.resolve("d", "t").unwrap();
    table.claim_attributes(&[("v", ValueType::Double)]).unwrap();
    let (mut one, mut other) = (Drafting::default(), Drafting::default());
    name(&catalog, &mut one, &table, ("d0", "first")).unwrap();
    name(&catalog, &mut other, &table, ("last", "second")).unwrap();
    for drafting in [&mut one, &mut other, &mut Drafting::default()] {
        name(&catalog, drafting, &table, ("last", "first")).unwrap();
        for names in [("d0", "third"), ("another", "first"), ("v", "m0")] {
            let refused = name(&catalog, drafting, &table, names);
            assert!(matches!(refused, Err(CatalogError::Claim(_))), "{names:?}: {refused:?}");
        }
        let twofold = catalog.check_twofold(drafting, &table, ["x", "last"].into_iter());
        assert_eq!(twofold, Err(ClaimError::Twofold { name: "last".into() }));
        assert_eq!(catalog.drafts().progress(drafting), Progress::Waiting);
    }
    catalog.settle(&one).unwrap();
    let again = open(dir.path()).resolve("d", "t").unwrap();
    let names = again.names();
    assert_eq!(names.dimensions.len(), DIMENSIONS_PER_TABLE_MAX);
    assert_eq!(names.measures.len(), MEASURE_NAMES_PER_TABLE_MAX);
    let refused = name(&catalog, &mut other, &table, ("d0", "third"));
    assert!(matches!(refused, Err(CatalogError::Claim(_))), "{refused:?}");
}

#[test]
fn as_many_tables_and_databases_are_drafted_as_there_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = line_of(&Entry::Catalog { format: FORMAT });
    for at in 0..TABLES_MAX - 2 {
        log.extend(line_of(&Entry::Create {
            id: TableId(u32::try_from(at + 1).unwrap()),
            database: format!("d{}", at % (DATABASES_MAX - 1)).into(),
            table: format!("t{at}").into(),
            settings: TableSettings::default(),
        }));
    }
    std::fs::write(log_of(dir.path()), log).unwrap();
    let catalog = open(dir.path());
    let (mut one, mut other) = (Drafting::default(), Drafting::default());
    let settings = TableSettings::default();
    let make = |drafting: &mut Drafting, database: &str, table: &str| {
        catalog.draft_table(drafting, [database, table], &settings).map(|table| table.id.0)
    };
    let last = u32::try_from(TABLES_MAX).unwrap();
    assert_eq!(make(&mut one, "new", "a").unwrap(), last - 1);
    let full = make(&mut other, "newer", "a").unwrap_err();
    assert!(matches!(full, CatalogError::Limit { what: "databases", .. }), "{full}");
    assert_eq!(make(&mut other, "new", "b").unwrap(), last);
    let full = make(&mut one, "d0", "c").unwrap_err();
    assert!(matches!(full, CatalogError::Limit { what: "tables", .. }), "{full}");
    catalog.settle(&other).unwrap();
    assert!(make(&mut one, "d0", "c").is_err());
    assert_eq!(open(dir.path()).tables().len(), TABLES_MAX);
}

/// Also those that were drafted while the line was written, whose numbers follow on its numbers.
#[test]
fn what_is_taken_back_can_be_named_by_nobody_who_saw_it() {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    make(&catalog, "d", "before").unwrap();
    let written = std::fs::read(log_of(dir.path())).unwrap();
    let full: std::fs::File = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap().into();
    fcntl_add_seals(&full, SealFlags::GROW).unwrap();
    let (file, length) = {
        let mut log = catalog.log.lock().unwrap();
        (std::mem::replace(&mut log.file, full), std::mem::replace(&mut log.length, 0))
    };
    let [mut maker, mut user, mut later, mut unconcerned] = [(); 4].map(|()| Drafting::default());
    let table = draft(&catalog, &mut maker, "t").unwrap();
    draft(&catalog, &mut user, "t").unwrap();
    draft(&catalog, &mut unconcerned, "before").unwrap();
    let failed = settle_slowly(&catalog, || {
        assert_eq!(draft(&catalog, &mut later, "u").unwrap().id, TableId(3));
    });
    assert!(matches!(failed, Err(CatalogError::Unwritten { .. })), "{failed:?}");
    {
        let mut log = catalog.log.lock().unwrap();
        (log.file, log.length) = (file, length);
    }
    // There is room again. The number is given to another, whose is in the log before they ask.
    let mut next = Drafting::default();
    assert_eq!(draft(&catalog, &mut next, "other").unwrap().id, table.id);
    name(&catalog, &mut maker, &table, ("host", "m")).unwrap();
    catalog.settle(&next).unwrap();
    for drafting in [&maker, &user, &later] {
        let error = catalog.settle(drafting).unwrap_err();
        assert!(matches!(error, CatalogError::Unwritten { .. }) && error.class() == Class::Busy);
    }
    catalog.settle(&unconcerned).unwrap();
    assert!(catalog.resolve("d", "t").is_none() && catalog.resolve("d", "u").is_none());
    let found = std::fs::read(log_of(dir.path())).unwrap();
    assert!(found.starts_with(&written) && lines(dir.path()) == 3, "only the other's");
}

/// `/dev/full` takes no byte, and cannot be cut either.
#[test]
fn after_a_failure_in_doubt_nothing_that_was_drafted_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let (mut one, mut other) = (Drafting::default(), Drafting::default());
    draft(&catalog, &mut one, "t").unwrap();
    draft(&catalog, &mut other, "t").unwrap();
    catalog.break_log();
    assert!(matches!(catalog.settle(&one), Err(CatalogError::Io { .. })));
    assert!(matches!(catalog.settle(&other), Err(CatalogError::Poisoned { .. })));
    assert!(matches!(catalog.settle(&one), Err(CatalogError::Poisoned { .. })));
    let mut again = Drafting::default();
    draft(&catalog, &mut again, "t").unwrap();
    assert!(matches!(catalog.settle(&again), Err(CatalogError::Poisoned { .. })));
    assert!(catalog.tables().is_empty() && catalog.drafts().is_empty());
}

#[test]
fn another_change_comes_behind_what_was_drafted_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let mut drafting = Drafting::default();
    let table = draft(&catalog, &mut drafting, "t").unwrap();
    name(&catalog, &mut drafting, &table, ("host", "m")).unwrap();
    let other = catalog.create_table("d", "u", &TableSettings::default()).unwrap();
    assert_eq!((table.id, other.id), (TableId(1), TableId(2)));
    assert!(matches!(
        catalog.create_table("d", "t", &TableSettings::default()),
        Err(CatalogError::Exists { .. })
    ));
    let mut more = Drafting::default();
    name(&catalog, &mut more, &table, ("host", "n")).unwrap();
    catalog.delete_table("d", "t").unwrap();
    let before = lines(dir.path());
    catalog.settle(&drafting).unwrap();
    catalog.settle(&more).unwrap();
    assert_eq!(lines(dir.path()), before, "they were written before the delete");
    let deleted = name(&catalog, &mut more, &table, ("host", "o"));
    assert!(matches!(deleted, Err(CatalogError::Claim(ClaimError::Deleted { .. }))));
    assert_eq!(described(&open(dir.path())), described(&catalog));
}

#[test]
fn what_is_drafted_while_a_line_is_written_comes_in_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let (mut one, mut other) = (Drafting::default(), Drafting::default());
    let table = draft(&catalog, &mut one, "t").unwrap();
    name(&catalog, &mut one, &table, ("host", "m")).unwrap();
    settle_slowly(&catalog, || {
        name(&catalog, &mut other, &table, ("host", "m")).unwrap();
        name(&catalog, &mut other, &table, ("host", "n")).unwrap();
        assert_eq!(draft(&catalog, &mut other, "u").unwrap().id, TableId(2));
    })
    .unwrap();
    assert_eq!((lines(dir.path()), catalog.tables().len()), (2, 1));
    catalog.settle(&one).unwrap();
    assert_eq!(lines(dir.path()), 2);
    assert_eq!(draft(&catalog, &mut one, "v").unwrap().id, TableId(3));
    catalog.settle(&other).unwrap();
    catalog.settle(&one).unwrap();
    assert_eq!((lines(dir.path()), catalog.tables().len()), (3, 3));
    let names = catalog.resolve("d", "t").unwrap().names();
    assert_eq!(names.measures.concat(), "mn");
    assert_eq!(described(&open(dir.path())), described(&catalog));
}

/// The frame whose tables they are was not appended before all of them were synced.
#[test]
fn a_crash_leaves_all_that_was_written_together_or_none_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = open(dir.path());
    let before = (described(&catalog), std::fs::read(log_of(dir.path())).unwrap());
    let mut drafting = Drafting::default();
    for table in ["t", "u", "v"] {
        let table = draft(&catalog, &mut drafting, table).unwrap();
        name(&catalog, &mut drafting, &table, ("host", "m")).unwrap();
    }
    catalog.settle(&drafting).unwrap();
    let after = (described(&catalog), std::fs::read(log_of(dir.path())).unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    for cut in before.1.len()..=after.1.len() {
        let mut zeroed = after.1[..cut].to_vec();
        zeroed.resize(after.1.len() - 1, 0);
        zeroed.push(b'\n');
        for bytes in [&after.1[..cut], &zeroed] {
            std::fs::write(log_of(elsewhere.path()), bytes).unwrap();
            let expected = if bytes == after.1 { &after.0 } else { &before.0 };
            assert_eq!(described(&open(elsewhere.path())), *expected, "cut at {cut}");
        }
    }
    // What else there is to say is never said together.
    let mut log = before.1;
    let changes = vec![Entry::Forgotten { to: TableId(3) }];
    log.extend(line_of(&Entry::Together { changes }));
    std::fs::write(log_of(elsewhere.path()), log).unwrap();
    let error = Catalog::open(elsewhere.path()).unwrap_err().to_string();
    assert!(error.contains("line 2: Forgotten"), "{error}");
}

/// Goal: numbers are dense and names are whole however many draft at once. Method: threads that make the same
/// tables and names in their own orders, with other changes between them.
#[test]
fn many_who_draft_at_once_agree_on_every_number() {
    const THREADS: u64 = 6;
    const ROUNDS: u64 = 40;
    let dir = tempfile::tempdir().unwrap();
    let catalog = Arc::new(open(dir.path()));
    catalog.create_database("d", &DatabaseSettings::default()).unwrap();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let catalog = Arc::clone(&catalog);
            let (send, receive) = crossbeam_channel::bounded(1);
            let spawned = Thread::spawn("drafts", move || {
                let mut seen = Vec::new();
                for round in 0..ROUNDS {
                    let mut drafting = Drafting::default();

                    for at in [round, round * (thread + 1) * 3 % 7] {
                        let table = draft(&catalog, &mut drafting, &format!("t{at}")).unwrap();
                        let measure = format!("m{}", (round + thread) % 5);
                        name(&catalog, &mut drafting, &table, ("host", &measure)).unwrap();
                        seen.push((table.id, table.name.to_string()));
                    }
                    if round % 8 == thread {
                        catalog.update_database("d", &format!("{round}"), 1).unwrap();
                    }
                    catalog.settle(&drafting).unwrap();
                    for (id, name) in &seen {
                        assert_eq!(*catalog.get(*id).unwrap().name, **name);
                    }
                }
                send.send(seen).unwrap();
            });
            (spawned.unwrap(), receive)
        })
        .collect();
    for (thread, seen) in threads {
        for (id, name) in seen.recv().unwrap() {
            assert_eq!(catalog.resolve("d", &name).unwrap().id, id);
        }
        thread.join().unwrap();
    }
    assert_eq!(catalog.tables().len() as u64, ROUNDS);
    assert!(catalog.drafts().is_empty());
    let again = open(dir.path());
    assert_eq!(described(&again), described(&catalog));
    assert_eq!(again.state().entries(), catalog.state().entries());
}
