//! A crash at any step of the work on files loses no row and doubles none: of a flush, a compaction, a
//! drop of expired days and of a deleted table; nor does a second crash, at any step of the start that
//! follows.
//!
//! Method: a scenario is run once. After every step (a file made, written, synced, renamed, linked,
//! removed, a folder synced) the folder is copied as a crash would leave it, and as power cuts would,
//! which lose all, or some, of what was not synced. From each copy an engine is opened, the frames
//! that its marks do not cover are executed again, and its rows are compared with the model's.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine_support::image::{Disk, Durable, Files, Loss, write_image};
use engine_support::{
    Bed, DAY, Key, NOW, Owned, Random, Rec, State, folder, open_at, replay, rows,
};
use tidegate::base::clock::SharedClock;
use tidegate::engine::catalog::{Catalog, Retention, TableSettings};
use tidegate::engine::embedded::{Embedded, FileStep, Options};
use tidegate::engine::{TableEngine, TimeRange};
use tidegate::record::TableId;

/// Copies that were taken, each distinct one once.
#[derive(Default)]
struct Copies {
    taken: Vec<Copy>,
    last: BTreeMap<Loss, Files>,
    steps: BTreeMap<FileStep, usize>,
}

/// One of them.
struct Copy {
    step: FileStep,
    loss: Loss,
    files: Files,
    /// What a power cut leaves of it, where nothing is lost yet.
    durable: Option<Durable>,
}

/// Takes copies of the bed's folder from now on.
fn watch(bed: &Bed) -> Arc<Mutex<Copies>> {
    let copies: Arc<Mutex<Copies>> = Arc::default();
    bed.engine.on_file_step(copier(Disk::of(bed.dir.path()), &copies));
    copies
}

/// Takes copies of a folder after each step that it hears of.
fn copier(
    disk: Disk,
    copies: &Arc<Mutex<Copies>>,
) -> impl Fn(FileStep, &Path) + Send + Sync + 'static {
    let of_hook = Arc::clone(copies);
    let disk = Mutex::new((disk, Random::new(7)));
    move |step, path: &Path| {
        let mut disk = disk.lock().unwrap();
        let (disk, random) = &mut *disk;
        disk.saw(step, path);
        let mut copies = of_hook.lock().unwrap();
        *copies.steps.entry(step).or_default() += 1;
        for loss in Loss::ALL {
            let files = disk.image(loss, random);
            if copies.last.get(&loss) != Some(&files) {
                copies.last.insert(loss, files.clone());
                let durable = (loss == Loss::Nothing).then(|| disk.durable());
                copies.taken.push(Copy { step, loss, files, durable });
            }
        }
    }
}

/// Starts an engine on what a crash left, with a crash after every step of that start, and gives what
/// those left. What a killed process had written and not synced, the next may lose with the power.
fn crashed_again(bed: &Bed, crashed: &Copy) -> Copies {
    let copy = folder();
    write_image(&crashed.files, copy.path());
    let disk = match &crashed.durable {
        Some(durable) => Disk::after_kill(copy.path(), durable),
        None => Disk::of(copy.path()),
    };
    let copies: Arc<Mutex<Copies>> = Arc::default();
    let options = Options { dir: copy.path().to_owned(), ..bed.options.clone() };
    let catalog = Arc::new(Catalog::open(&options.dir).unwrap());
    let hook = copier(disk, &copies);
    let clock = Arc::clone(&bed.clock) as SharedClock;
    let engine = Embedded::open_watched(options, 1, catalog, clock, hook).unwrap();
    drop(engine);
    std::mem::take(&mut *copies.lock().unwrap())
}

/// Opens every copy and compares. Returns how many there were.
fn check(bed: &Bed, copies: &Mutex<Copies>, expected: &[(TableId, BTreeMap<Key, State>)]) -> usize {
    let taken = std::mem::take(&mut copies.lock().unwrap().taken);
    check_copies(bed, taken, expected)
}

fn check_copies(
    bed: &Bed,
    taken: Vec<Copy>,
    expected: &[(TableId, BTreeMap<Key, State>)],
) -> usize {
    let count = taken.len();
    for (at, Copy { step, loss, files, .. }) in taken.into_iter().enumerate() {
        let what = format!("copy {at}, after {step:?}, lost: {loss:?}");
        let copy = folder();
        write_image(&files, copy.path());
        let options = Options { dir: copy.path().to_owned(), ..bed.options.clone() };
        // Another number of shards, since a restart may have one.
        let clock = Arc::clone(&bed.clock) as SharedClock;
        let (_catalog, engine) = open_at(&options, 3, clock);
        replay(&engine, 3, &bed.frames);
        for (table, rows_expected) in expected {
            assert_eq!(&rows(&engine, *table, TimeRange::ALL), rows_expected, "{what}");
        }
        // And it goes on from there.
        engine.flush().unwrap();
        engine.tidy().unwrap();
        for (table, rows_expected) in expected {
            assert_eq!(&rows(&engine, *table, TimeRange::ALL), rows_expected, "{what}, flushed");
        }
        drop(engine);
        let hidden =
            files_named(copy.path(), |name| name.starts_with('.') || name.contains(".tmp"));
        assert!(hidden.is_empty(), "{what}: {hidden:?}");
    }
    count
}

fn files_named(dir: &Path, is_wanted: fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            found.extend(files_named(&entry.path(), is_wanted));
        } else if is_wanted(&name) {
            found.insert(name);
        }
    }
    found
}

fn rec(table: TableId, host: usize, time_ns: i64, version: i64) -> Rec {
    Rec::new(table, &format!("h{host}"), time_ns, version).with("a", Owned::Bigint(version))
}

/// Flushes that add files, write some anew without the rows that newer ones override, and remove one;
/// and merges of what is left.
#[test]
fn a_crash_at_any_step_of_flushes_and_compactions_loses_and_doubles_nothing() {
    let mut bed = Bed::with(2, |options| options.compact_files = 2);
    let table = bed.table("t");
    let copies = watch(&bed);
    let all = |version| -> Vec<Rec> {
        (0..3)
            .flat_map(|host| (0..4).map(move |at| rec(table, host, NOW + at * DAY / 4, version)))
            .collect()
    };
    let some: Vec<Rec> = all(2).into_iter().step_by(3).collect();
    let late: Vec<Rec> = (0..6).map(|at| rec(table, 1, NOW + 7 + at * 1000, 1)).collect();
    let later: Vec<Rec> = (0..6).map(|at| rec(table, 2, NOW + 8 + at * 1000, 1)).collect();
    let mut count = 0;
    for (records, is_tidied) in
        [(all(1), false), (some, false), (late, true), (later, true), (all(3), true)]
    {
        bed.write(&records);
        let expected = [(table, bed.rows(table))];
        bed.engine.flush().unwrap();
        if is_tidied {
            bed.engine.tidy().unwrap();
        }
        assert_eq!(bed.rows(table), expected[0].1);
        count += check(&bed, &copies, &expected);
    }
    assert!(bed.engine.state().tidied.compactions >= 2, "{:?}", bed.engine.state());
    let steps = &copies.lock().unwrap().steps;
    let has_all = steps.len() == 8 && !steps.contains_key(&FileStep::FolderRemoved);
    assert!(has_all, "every kind of step was seen: {steps:?}");
    assert!(count > 150, "{count} copies of {steps:?}");
}

/// Goal: the manifest may be written as a whole at any commit, as it is at the first after a start, and
/// its changes begin anew. Method: a restart before each of three flushes, the last of them beside a
/// compaction.
#[test]
fn a_crash_while_the_manifest_is_written_anew_loses_and_doubles_nothing() {
    let mut bed = Bed::with(2, |options| options.compact_files = 2);
    let table = bed.table("t");
    let mut count = 0;
    for round in 0..3 {
        bed.crash(2);
        let copies = watch(&bed);
        let times = (0..6).map(|at| NOW + round + at * 1000);
        let records: Vec<Rec> =
            times.enumerate().map(|(at, time_ns)| rec(table, at % 3, time_ns, 1)).collect();
        bed.write(&records);
        let expected = [(table, bed.rows(table))];
        bed.engine.flush().unwrap();
        if round == 2 {
            bed.engine.tidy().unwrap();
        }
        count += check(&bed, &copies, &expected);
        let logs = files_named(bed.dir.path(), |name| name.starts_with("manifest-"));
        // One was begun with the folder.
        assert_eq!(logs, BTreeSet::from([format!("manifest-{}.log", round + 2)]));
    }
    assert!(count > 60, "{count} copies");
}

#[test]
fn a_crash_at_any_step_of_a_drop_of_expired_days_loses_and_doubles_nothing() {
    let mut bed = Bed::new(2);
    let retention = Retention { memory_hours: 1, magnetic_days: 2, ..Retention::default() };
    let settings = TableSettings { retention, ..TableSettings::default() };
    let table = bed.catalog.create("d", "expires", &settings).unwrap().id;
    let other = bed.table("stays");
    for at in 0..3 {
        let time_ns = NOW - at * DAY / 2;
        bed.write(&[
            rec(table, 1, time_ns, 1),
            rec(table, 2, time_ns, 1),
            rec(other, 1, time_ns, 1),
        ]);
        bed.engine.flush().unwrap();
    }
    bed.write(&[rec(table, 3, NOW - DAY, 1), rec(table, 1, NOW - DAY, 2)]);
    let copies = watch(&bed);
    // To the very moment at which the newest rows still live.
    bed.clock.advance(Duration::from_hours(49));
    let expected = [(table, bed.rows(table)), (other, bed.rows(other))];
    assert_eq!((expected[0].1.len(), expected[1].1.len()), (2, 3));
    bed.engine.tidy().unwrap();
    assert!(bed.engine.state().tidied.expired_files > 0);
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    assert!(check(&bed, &copies, &expected) > 20);
}

#[test]
fn a_crash_at_any_step_of_a_drop_of_a_table_brings_no_row_of_it_back() {
    let mut bed = Bed::new(2);
    let table = bed.table("goes");
    let other = bed.table("stays");
    for at in 0..3 {
        let time_ns = NOW - at * DAY;
        bed.write(&[rec(table, 1, time_ns, 1), rec(other, 1, time_ns, 1)]);
        bed.engine.flush().unwrap();
    }
    bed.write(&[rec(table, 1, NOW + 1, 1), rec(other, 1, NOW + 1, 1)]);
    let copies = watch(&bed);
    bed.catalog.delete_table("d", "goes").unwrap();
    let again = bed.table("goes");
    assert_ne!(again, table);
    bed.write(&[rec(again, 9, NOW, 1)]);
    let expected = [(table, BTreeMap::new()), (again, bed.rows(again)), (other, bed.rows(other))];
    assert_eq!(expected.each_ref().map(|(_, rows)| rows.len()), [0, 1, 4]);
    bed.engine.tidy().unwrap();
    assert_eq!(bed.engine.state().tidied.deleted_files, 3);
    assert_eq!(bed.engine.state().memory_rows, 2, "its rows in memory went too");
    bed.engine.flush().unwrap();
    assert!(check(&bed, &copies, &expected) > 20);
}

/// Goal: a start that is cut short is no other than one that was not begun. Method: what each step of
/// an update of old rows, a merge and a drop of a table leaves is started from, with a crash after
/// every step of that start; from what those leave, everything is compared.
#[test]
fn a_crash_at_any_step_of_a_start_after_a_crash_loses_and_doubles_nothing() {
    let mut bed = Bed::with(2, |options| options.compact_files = 2);
    let (table, goes) = (bed.table("t"), bed.table("goes"));
    for version in [1, 2] {
        let old = (0..2).map(|host| rec(table, host, NOW + version * DAY, 1));
        bed.write(&old.chain([rec(goes, 1, NOW, version)]).collect::<Vec<_>>());
        bed.engine.flush().unwrap();
    }
    let copies = watch(&bed);
    let mut steps = BTreeMap::new();
    // One row of a file is overridden, the other file goes as a whole, the rest is merged.
    let update = [(0, 1), (0, 2), (1, 2)].map(|(host, day)| rec(table, host, NOW + day * DAY, 2));
    bed.write(&update);
    bed.engine.flush().unwrap();
    let mut expected = [(table, bed.rows(table)), (goes, bed.rows(goes))];
    assert_eq!(expected.each_ref().map(|(_, rows)| rows.len()), [4, 1]);
    let mut count = check_second_crashes(&bed, &copies, &expected, &mut steps);
    bed.catalog.delete_table("d", "goes").unwrap();
    bed.write(&[rec(table, 3, NOW + 2 * DAY + 1, 1)]);
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    expected = [(table, bed.rows(table)), (goes, BTreeMap::new())];
    let state = bed.engine.state();
    assert!(state.tidied.compactions > 0 && state.tidied.deleted_files > 0, "{state:?}");
    count += check_second_crashes(&bed, &copies, &expected, &mut steps);
    let has = |step| assert!(steps.contains_key(&step), "{step:?} of a start: {steps:?}");
    has(FileStep::FileRenamed);
    has(FileStep::FolderSynced);
    has(FileStep::FileRemoved);
    has(FileStep::FolderRemoved);
    assert!(count > 50, "{count} copies of {steps:?}");
}

/// Starts from each copy, with a crash at every step, and compares what those leave. Counts the steps,
/// and returns how many copies there were.
fn check_second_crashes(
    bed: &Bed,
    copies: &Mutex<Copies>,
    expected: &[(TableId, BTreeMap<Key, State>)],
    steps: &mut BTreeMap<FileStep, usize>,
) -> usize {
    let taken = std::mem::take(&mut copies.lock().unwrap().taken);
    // What a killed process leaves, and what a power cut does: with all that was not synced lost.
    let taken = taken.iter().filter(|copy| matches!(copy.loss, Loss::Nothing | Loss::All));
    let mut count = 0;
    for crashed in taken {
        let again = crashed_again(bed, crashed);
        for (step, times) in &again.steps {
            *steps.entry(*step).or_default() += times;
        }
        count += check_copies(bed, again.taken, expected);
    }
    count
}
