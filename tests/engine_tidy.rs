//! What the thread `engine-compact` promises: small files become one without a row lost or doubled,
//! also beside flushes; what has expired does not exist; a deleted table leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use engine_support::{Bed, DAY, NOW, Owned, Rec, execute, folder, open, payload, rows, small};
use tidegate::base::clock::{Clock as _, SystemClock};
use tidegate::base::lsn::Lsn;
use tidegate::base::thread::Thread;
use tidegate::base::units::Bytes;
use tidegate::engine::catalog::{Retention, TableSettings};
use tidegate::engine::embedded::FileStep;
use tidegate::engine::{TableEngine, TimeRange};
use tidegate::record::TableId;
use tidegate::record::codec::BUCKETS;
use tidegate::record::request::Outcome;

fn rec(table: TableId, host: usize, time_ns: i64, version: i64) -> Rec {
    Rec::new(table, &format!("h{host}"), time_ns, version).with("a", Owned::Bigint(version))
}

/// A table whose rows live an hour and `magnetic_days`.
fn expiring(bed: &Bed, magnetic_days: u32) -> TableId {
    let retention = Retention { memory_hours: 1, magnetic_days, ..Retention::default() };
    let settings = TableSettings { retention, ..TableSettings::default() };
    bed.catalog.create("d", "expires", &settings).unwrap().id
}

fn parquet_files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| {
            if path.is_dir() {
                parquet_files(&path)
            } else {
                usize::from(path.extension().is_some_and(|end| end == "parquet"))
            }
        })
        .sum()
}

/// Series that are in some files only, rows that interleave, several layouts, and updates in between.
#[test]
fn small_files_become_one_with_every_row() {
    let mut bed = Bed::with(2, |options| options.compact_files = 4);
    let table = bed.table("t");
    for flush in 0..4_i64 {
        let mut records = Vec::new();
        for at in 0..50 {
            let host = usize::try_from((at + flush) % 7).unwrap();
            records.push(rec(table, host, NOW + at * 1000 + flush, 1));
            let other = rec(table, host, NOW + at * 1000 + 500 + flush, 1);
            records.push(other.with("b", Owned::Varchar(format!("text {at}"))));
        }
        if flush > 0 {
            records.push(rec(table, 0, NOW, flush + 1));
        }
        bed.write(&records);
        bed.engine.flush().unwrap();
    }
    let before = bed.rows(table);
    bed.engine.tidy().unwrap();
    let state = bed.engine.state();
    assert_eq!((state.files, parquet_files(bed.dir.path())), (1, 1), "{state:?}");
    assert_eq!((state.tidied.compactions, state.tidied.compacted_files), (1, 4));
    assert_eq!(bed.rows(table), before);
    // The look-ups of late records find what was merged.
    assert_eq!(bed.write_one(rec(table, 0, NOW, 4)), Outcome::Unchanged);
    assert_eq!(bed.write_one(rec(table, 0, NOW, 9)), Outcome::Updated);
    bed.crash(3);
    assert_eq!(bed.rows(table).len(), before.len());
    bed.engine.tidy().unwrap();
    assert_eq!(bed.engine.state().tidied.compactions, 0, "there is nothing more to do");
}

/// A flush overrides a row of a file while that file is being merged: the flush wins, the merge begins
/// anew, and the row stands once, as it was written last.
#[test]
fn a_flush_beside_a_compaction_is_not_lost() {
    let mut bed = Bed::with(1, |options| options.compact_files = 2);
    let table = bed.table("t");
    for at in 0..2 {
        bed.write(&[rec(table, 1, NOW + at, 1), rec(table, 2, NOW + at, 1)]);
        bed.engine.flush().unwrap();
    }
    let elsewhere = folder();
    let engine = Arc::new(std::mem::replace(&mut bed.engine, open(&small(elsewhere.path()), 1).1));
    let of_hook = Arc::downgrade(&engine);
    let overrides = AtomicUsize::new(0);
    engine.on_file_step(move |step, path| {
        let is_merge =
            path.to_str().unwrap().ends_with(".parquet.tmp") && step == FileStep::FileSynced;
        // The first file that is synced is the merge's; the next ones are the flush's own.
        if is_merge && overrides.fetch_add(1, Ordering::AcqRel) == 0 {
            let engine = of_hook.upgrade().unwrap();
            let flush = move || {
                let bytes = payload(&[rec(table, 1, NOW, 2)], 1);
                execute(&engine, 1, Lsn(3), &bytes, &[Lsn::ZERO; BUCKETS]);
                engine.flush().unwrap();
            };
            Thread::spawn("overrides", flush).unwrap().join().unwrap();
        }
    });
    engine.tidy().unwrap();
    let found = rows(&engine, table, TimeRange::ALL);
    let versions: Vec<i64> = found.values().map(|state| state.1).collect();
    assert_eq!(versions, [2, 1, 1, 1], "{found:?}");
    let state = engine.state();
    assert!(
        state.tidied.compactions >= 1 && state.files < 3,
        "merged at the second try: {state:?}"
    );
}

#[test]
fn what_has_expired_does_not_exist() {
    let mut bed = Bed::new(2);
    let table = expiring(&bed, 2);
    let old = NOW - 2 * DAY;
    bed.write(&[rec(table, 1, old, 5), rec(table, 1, NOW, 5)]);
    bed.engine.flush().unwrap();
    bed.write(&[rec(table, 2, old, 5)]);
    assert_eq!(bed.rows(table).len(), 3);
    bed.clock.advance(Duration::from_hours(1));
    assert_eq!(bed.rows(table).len(), 3, "its last moment");
    bed.clock.advance(Duration::from_nanos(1));
    assert_eq!(bed.rows(table).len(), 1, "in a file and in memory");
    // Whatever its version: nothing stands that it could meet.
    for version in [4, 5, 6] {
        assert_eq!(bed.write_one(rec(table, 1, old, version)), Outcome::Stored);
    }
    assert_eq!(bed.engine.state().memory_rows, 1, "such a record leaves no row");
    bed.clock.advance(Duration::from_hours(24));
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    let state = bed.engine.state();
    assert_eq!((state.tidied.expired_files, state.tidied.expired_rows), (2, 2), "{state:?}");
    assert!(state.tidied.expired_bytes > 0);
    assert_eq!(parquet_files(bed.dir.path()), 1);
    bed.crash(1);
    assert_eq!(bed.rows(table).len(), 1);
}

/// Even the first nanosecond that there is: the longest retention has no end.
#[test]
fn the_longest_retention_is_for_ever() {
    let mut bed = Bed::new(1);
    let table = bed.table("t");
    bed.write(&[rec(table, 1, i64::MIN + 1, 1)]);
    bed.clock.advance(Duration::from_hours(24 * 365 * 100));
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    assert_eq!(bed.rows(table).len(), 1);
}

#[test]
fn a_deleted_table_leaves_nothing() {
    let mut bed = Bed::new(2);
    let table = bed.table("goes");
    bed.write(&[rec(table, 1, NOW, 1)]);
    bed.engine.flush().unwrap();
    bed.write(&[rec(table, 1, NOW + 1, 1)]);
    bed.catalog.delete_table("d", "goes").unwrap();
    assert!(bed.rows(table).is_empty(), "from that moment on");
    bed.engine.tidy().unwrap();
    let state = bed.engine.state();
    assert_eq!((state.files, state.memory_rows, parquet_files(bed.dir.path())), (0, 0, 0));
    bed.engine.flush().unwrap();
    let folders = |bed: &Bed| std::fs::read_dir(bed.dir.path().join("d")).unwrap().count();
    assert_eq!(folders(&bed), 0, "its folders go at once");
    bed.crash(1);
    assert_eq!(folders(&bed), 0, "and do not come back");
}

/// A folder stays while a scan reads its file, or while there is a file of somebody else in it.
#[test]
fn folders_go_when_nothing_is_left_in_them() {
    let mut bed = Bed::new(1);
    let table = expiring(&bed, 2);
    let days = |bed: &Bed| {
        let tables = std::fs::read_dir(bed.dir.path().join("d")).unwrap();
        tables.map(|table| std::fs::read_dir(table.unwrap().path()).unwrap().count()).sum::<usize>()
    };
    for day in 0..3 {
        bed.write(&[rec(table, 1, NOW - day * DAY / 2, 1)]);
    }
    bed.engine.flush().unwrap();
    assert_eq!(days(&bed), 2);
    let table_dir = std::fs::read_dir(bed.dir.path().join("d")).unwrap().next().unwrap();
    let foreign = table_dir.unwrap().path().join("date=2024-10-03").join("mine.txt");
    assert!(foreign.parent().unwrap().is_dir(), "the day of {NOW} is another");
    let mut was_scanned = false;
    // What lives begins in the first of the two days, so that a scan has the files of both.
    bed.clock.advance(Duration::from_hours(24 + 24));
    bed.engine
        .scan(table, TimeRange::ALL, &mut |_| {
            was_scanned = true;
            bed.clock.advance(Duration::from_hours(25));
            bed.engine.tidy().unwrap();
            assert_eq!((bed.engine.state().files, days(&bed)), (0, 2), "a scan reads them");
            std::ops::ControlFlow::Break(())
        })
        .unwrap();
    assert!(was_scanned);
    std::fs::write(&foreign, "text").unwrap();
    bed.engine.tidy().unwrap();
    assert_eq!(days(&bed), 1, "one has a file of somebody else");
    assert!(foreign.is_file());
    // The table goes on, in a folder made anew.
    std::fs::remove_file(&foreign).unwrap();
    std::fs::remove_dir_all(foreign.parent().unwrap().parent().unwrap()).unwrap();
    let time_ns = NOW + 3 * DAY;
    bed.write(&[rec(table, 1, time_ns, 1)]);
    bed.engine.flush().unwrap();
    assert_eq!(bed.rows(table).len(), 1);
}

/// Goal: who waits for a start does not wait for files that can be written later, and where memory has no room for all
/// that is replayed, files are written meanwhile. Method: the same rows, more than memory is to hold, in an engine
/// that replays nothing else, in one that has a hundred times as much before it, and in one that does not replay; the
/// last shows how long a flush would have taken.
#[test]
fn what_is_replayed_is_flushed_once_the_replay_has_ended() {
    let bed = || {
        Bed::with(1, |options| {
            options.flush_bytes = Bytes(64 << 10);
            options.memory_bytes_max = Bytes(2 << 20);
        })
    };
    let (mut replaying, mut long, mut control) = (bed(), bed(), bed());
    let flushes = |bed: &Bed| bed.engine.state().flushed.flushes;
    let wait_for_a_flush = |bed: &Bed| {
        let clock = SystemClock::new();
        while flushes(bed) == 0 {
            assert!(clock.monotonic() < Duration::from_mins(1), "it is never flushed");
            clock.sleep(Duration::from_millis(1));
        }
    };
    replaying.engine.replay_begins(Lsn(30));
    long.engine.replay_begins(Lsn(300));
    for bed in [&mut replaying, &mut long, &mut control] {
        let table = bed.table("t");
        let text = "x".repeat(1_000);
        let row = |at| rec(table, 0, NOW + at, 1).with("b", Owned::Varchar(text.clone()));
        for first in (0..300).step_by(10) {
            bed.write(&(first..first + 10).map(row).collect::<Vec<_>>());
        }
    }
    wait_for_a_flush(&control);
    wait_for_a_flush(&long);
    let state = replaying.engine.state();
    assert_eq!((state.flushed.flushes, state.memory_rows), (0, 300), "it is put off");
    replaying.engine.replay_ended();
    wait_for_a_flush(&replaying);
}
