//! What an erasure promises: its rows are seen by nobody from the moment it is durable, never come back,
//! and leave the files; nothing else is touched. And the newest rows of some dimensions are found as a
//! scan of everything would find them, wherever they stand.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

mod engine_support;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex};

use engine_support::image::{Disk, Loss, write_image};
use engine_support::{Bed, DAY, NOW, Owned, Random, Rec, folder, open_at, replay, rows};
use tidegate::base::clock::SharedClock;
use tidegate::base::lsn::Lsn;
use tidegate::engine::catalog::Erasure;
use tidegate::engine::embedded::{Embedded, Options};
use tidegate::engine::{Selection, TableEngine, TimeRange};
use tidegate::record::TableId;

/// A row of group `group`, told apart by `id`.
fn rec(table: TableId, group: &str, id: usize, time_ns: i64, version: i64) -> Rec {
    let mut rec = Rec::new(table, "", time_ns, version).with("a", Owned::Varchar(format!("v{id}")));
    rec.dimensions = vec![("group".into(), group.into()), ("id".into(), format!("{id:05}"))];
    rec
}

fn erase(bed: &Bed, table: TableId, group: &str) {
    let erasure = Erasure {
        number: 0,
        table,
        dimensions: vec![("group".into(), group.into())],
        lsn: Lsn(bed.frames.len() as u64),
        at_ns: NOW,
        note: "".into(),
    };
    bed.catalog.erase(erasure).unwrap();
}

fn version(bed: &Bed) -> i64 {
    bed.catalog.next_erasure().unwrap()
}

/// Whether any file below `dir` has `text`, which is written so that no encoding breaks it up.
fn stands_in_files(dir: &Path, text: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return stands_in_files(&path, text);
        }
        let is_table = path.extension().is_some_and(|end| end == "parquet");
        is_table && memchr::memmem::find(&std::fs::read(&path).unwrap(), text).is_some()
    })
}

#[test]
fn an_erased_group_is_gone_from_memory_files_and_replay_and_nothing_else_is() {
    let mut bed = Bed::new(2);
    let (table, other) = (bed.table("t"), bed.table("other"));
    let group = |table, name: &str, from: usize, version| -> Vec<Rec> {
        (from..from + 20)
            .map(|id| rec(table, name, id, NOW - DAY * i64::try_from(id % 3).unwrap(), version))
            .collect()
    };
    bed.write(&group(table, "erased-group", 0, 1));
    bed.write(&group(table, "stays", 0, 1));
    bed.write(&group(other, "erased-group", 0, 1));
    bed.engine.flush().unwrap();
    bed.write(&group(table, "erased-group", 20, 1));
    bed.write(&group(table, "stays", 20, 1));
    assert!(stands_in_files(bed.dir.path(), b"erased-group"));
    erase(&bed, table, "erased-group");
    assert_eq!((bed.rows(table).len(), bed.rows(other).len()), (40, 20), "from that moment on");
    bed.engine.tidy().unwrap();
    assert_eq!(bed.catalog.erasures_due(Lsn(u64::MAX)).len(), 1, "it waits for the flush");

    let after = version(&bed);
    bed.write(&group(table, "erased-group", 10, after));
    let expected = bed.rows(table);
    assert_eq!(expected.len(), 60, "what was written afterwards is there");
    bed.crash(3);
    assert_eq!(bed.rows(table), expected, "the replay brings nothing back");
    bed.engine.flush().unwrap();
    assert_eq!(bed.rows(table), expected);
    bed.engine.tidy().unwrap();
    assert!(bed.catalog.erasures_due(Lsn(u64::MAX)).is_empty(), "carried out");
    assert_eq!((bed.rows(table), bed.engine.rows(table)), (expected.clone(), 60));
    assert_eq!(bed.rows(other).len(), 20);
    bed.crash(1);
    assert_eq!((bed.rows(table), bed.rows(other).len()), (expected, 20));
}

#[test]
fn after_one_pass_no_file_has_a_byte_of_what_was_erased() {
    let mut bed = Bed::with(2, |options| options.compact_files = 2);
    let table = bed.table("t");
    for at in 0..4 {
        let alone = rec(table, "erased-group", at, NOW - 5 * DAY, 1);
        bed.write(&[
            alone,
            rec(table, "erased-group", at, NOW, 1),
            rec(table, "stays", at, NOW, 1),
        ]);
        bed.engine.flush().unwrap();
    }
    erase(&bed, table, "erased-group");
    bed.engine.tidy().unwrap();
    assert!(!stands_in_files(bed.dir.path(), b"erased-group"));
    assert!(stands_in_files(bed.dir.path(), b"stays"));
    assert_eq!(bed.rows(table).len(), 4);
    assert_eq!(bed.engine.state().files, 1, "a file of nothing else is gone");
}

/// Every step of the files' work, with everything, nothing or some of what was not synced lost.
#[test]
fn a_crash_at_any_step_of_carrying_out_brings_no_row_back_and_loses_none() {
    let mut bed = Bed::with(2, |options| options.compact_files = 2);
    let table = bed.table("t");
    for at in 0..3_usize {
        let mut records = Vec::new();
        for id in 0..6 {
            let time_ns = NOW - DAY * i64::try_from(id % 2).unwrap();
            let group = if (id + at).is_multiple_of(2) { "erased-group" } else { "stays" };
            records.push(rec(table, group, at * 10 + id, time_ns, 1));
        }
        bed.write(&records);
        bed.engine.flush().unwrap();
    }
    let taken: Arc<Mutex<Vec<_>>> = Arc::default();
    let of_hook = Arc::clone(&taken);
    let disk = Mutex::new((Disk::of(bed.dir.path()), Random::new(11)));
    erase(&bed, table, "erased-group");
    // The catalog syncs its line itself.
    let catalog = std::fs::read(bed.dir.path().join("catalog.log")).unwrap();
    let again = version(&bed);
    bed.write(&[rec(table, "erased-group", 99, NOW, again)]);
    let expected = bed.rows(table);
    assert_eq!(expected.len(), 10);
    bed.engine.on_file_step(move |step, path: &Path| {
        let mut disk = disk.lock().unwrap();
        let (disk, random) = &mut *disk;
        disk.saw(step, path);
        for loss in Loss::ALL {
            of_hook.lock().unwrap().push((step, loss, disk.image(loss, random)));
        }
    });
    bed.engine.flush().unwrap();
    bed.engine.tidy().unwrap();
    assert_eq!(bed.rows(table), expected);
    let taken = std::mem::take(&mut *taken.lock().unwrap());
    assert!(taken.len() > 100, "{} copies", taken.len());
    for (at, (step, loss, files)) in taken.into_iter().enumerate() {
        let what = format!("copy {at}, after {step:?}, lost: {loss:?}");
        let copy = folder();
        write_image(&files, copy.path());
        std::fs::write(copy.path().join("catalog.log"), &catalog).unwrap();
        let options = Options { dir: copy.path().to_owned(), ..bed.options.clone() };
        let (_catalog, engine) = open_at(&options, 3, Arc::clone(&bed.clock) as SharedClock);
        replay(&engine, 3, &bed.frames);
        assert_eq!(rows(&engine, table, TimeRange::ALL), expected, "{what}");
        engine.flush().unwrap();
        engine.tidy().unwrap();
        assert_eq!(rows(&engine, table, TimeRange::ALL), expected, "{what}, tidied");
        assert_eq!(engine.rows(table), 10, "{what}, its rows have left the files");
    }
}

fn newest(engine: &Embedded, table: TableId, selection: Selection<'_>) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut each = |row: &tidegate::engine::Row<'_>| {
        let id = row.dimensions.iter().find(|(name, _)| *name == "id").unwrap().1;
        assert!(!row.attributes.is_empty(), "{row:?}");
        found.push((row.time_ns, id.to_owned()));
        ControlFlow::Continue(())
    };
    engine.newest(table, selection, &mut each).unwrap();
    found
}

/// Rows in memory, in files and in both, several groups, several days, some erased: pages of any size,
/// one behind the other, are what a scan shows, the other way round.
#[test]
fn the_newest_rows_page_by_page_are_those_of_a_scan() {
    let seed = 20_261_122;
    let mut random = Random::new(seed);
    let mut bed = Bed::with(3, |options| options.compact_files = 3);
    let table = bed.table("t");
    let mut id = 0;
    for turn in 0..12 {
        let version = version(&bed);
        let mut records = Vec::new();
        for _ in 0..60 {
            id += 1;
            let group = ["a", "b", "c", "\u{e4}"][random.below(4)];
            let back = i64::try_from(random.below(40)).unwrap();
            records.push(rec(table, group, id, NOW - back * DAY / 8, version));
        }
        bed.write(&records);
        match turn % 4 {
            1 => bed.engine.flush().unwrap(),
            3 => bed.engine.tidy().unwrap(),
            _ => {}
        }
        if turn == 6 {
            erase(&bed, table, "b");
        }
    }
    for group in ["a", "b", "c", "\u{e4}", "none"] {
        for (from_ns, to_ns) in [(i64::MIN, i64::MAX), (NOW - 3 * DAY, NOW - DAY + 1)] {
            let range = TimeRange { from_ns, to_ns };
            let mut expected: Vec<(i64, String)> = rows(&bed.engine, table, range)
                .into_keys()
                .filter(|(_, dimensions, _)| dimensions[0].1 == group)
                .map(|(_, dimensions, time_ns)| (time_ns, dimensions[1].1.clone()))
                .collect();
            expected.sort_unstable();
            expected.reverse();
            for rows_max in [1, 7, 50, 1000] {
                let mut found: Vec<(i64, String)> = Vec::new();
                loop {
                    let last = found.last().cloned();
                    let before = last.as_ref().map(|(time_ns, id)| (*time_ns, &**id));
                    let dimensions = [("group", group)];
                    let selection =
                        Selection { dimensions: &dimensions, range, tie: "id", before, rows_max };
                    let page = newest(&bed.engine, table, selection);
                    let is_last = page.len() < rows_max;
                    found.extend(page);
                    if is_last {
                        break;
                    }
                }
                assert_eq!(found, expected, "seed {seed}, group {group}, {rows_max} a page");
            }
        }
    }
}
