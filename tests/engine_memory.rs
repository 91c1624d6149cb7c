//! What the engine takes of memory while it writes a large file anew: as much as of a small one. In a
//! process of its own, since what the allocator kept of earlier work would be counted too.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]
#![expect(clippy::print_stderr, reason = "the figures are what a reader wants to see")]

mod engine_support;

use std::path::Path;
use std::process::Command;

use engine_support::{Bed, NOW, Owned, Rec, execute, open, payload, small};
use tidegate::base::lsn::Lsn;
use tidegate::base::units::Bytes;
use tidegate::engine::TableEngine;
use tidegate::engine::catalog::Erasure;
use tidegate::engine::embedded::Options;
use tidegate::record::TableId;
use tidegate::record::codec::BUCKETS;

/// Where the process that is measured finds the file.
const FOLDER: &str = "TIDEGATE_TEST_FOLDER";

const TEXT_BYTES: usize = 256 << 10;

/// Rows of a flush, and flushes whose files are merged: a gibibyte of texts.
const ROWS: i64 = 64;
const FLUSHES: i64 = 64;

/// Some row groups of 64 MiB, as rows, as columns and as pages; far less than the file has.
const PEAK_BYTES_MAX: u64 = 450 << 20;

fn options(dir: &Path) -> Options {
    Options { memory_bytes_max: Bytes::mib(64), flush_bytes: Bytes::mib(48), ..small(dir) }
}

fn row(table: TableId, at: i64, version: i64) -> Rec {
    let text = format!("{at:08}").repeat(TEXT_BYTES / 8);
    let row = Rec::new(table, &format!("h{}", at % 5), NOW + at, version);
    row.with("text", Owned::Varchar(text))
}

/// The most memory that the process has had since [`forget_peak`].
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Updates a row of the one file in the folder, and erases some.
fn write_it_anew(dir: &Path) {
    let (catalog, engine) = open(&options(dir), 1);
    let table = catalog.resolve("d", "t").unwrap().id;
    assert_eq!(engine.state().files, 1);
    forget_peak();
    let lsn = Lsn(u64::try_from(ROWS * FLUSHES).unwrap() + 1);
    let update = payload(&[row(table, 7, 2)], 1);
    execute(&engine, 1, lsn, &update, &[Lsn::ZERO; BUCKETS]);
    engine.flush().unwrap();
    let of_update = peak_bytes();
    assert_eq!(engine.state().files, 2, "the new row, and all others");
    forget_peak();
    let dimensions = vec![("host".into(), "h1".into())];
    let erasure = Erasure { number: 0, table, dimensions, lsn, at_ns: 1, note: "".into() };
    catalog.erase(erasure).unwrap();
    engine.tidy().unwrap();
    let of_erasure = peak_bytes();
    eprintln!("peak of an update {} MiB, of an erasure {} MiB", of_update >> 20, of_erasure >> 20);
    assert!(of_update < PEAK_BYTES_MAX, "{of_update} bytes for an update");
    assert!(of_erasure < PEAK_BYTES_MAX, "{of_erasure} bytes for an erasure");
    let left = (0..ROWS * FLUSHES).filter(|at| at % 5 != 1).count();
    assert_eq!(engine.rows(table), left as u64);
}

/// Goal: an update of one old row, and an erasure, cost a bounded part of memory however large the file is
/// that they write anew. Method: a merge of many files makes one that is larger than what memory may take,
/// as its rows are long; decoded at once it would be all of it.
#[test]
fn a_file_larger_than_memory_is_written_anew() {
    const NAME: &str = "a_file_larger_than_memory_is_written_anew";
    if let Some(dir) = std::env::var_os(FOLDER) {
        return write_it_anew(Path::new(&dir));
    }
    let mut bed = Bed::with(1, |it| *it = options(&it.dir));
    let table = bed.table("t");
    for flush in 0..FLUSHES {
        for at in 0..ROWS {
            bed.write(&[row(table, flush * ROWS + at, 1)]);
            // What a log would have on its disk.
            bed.frames.iter_mut().for_each(|frame| *frame = Vec::new());
        }
        bed.engine.flush().unwrap();
    }
    bed.engine.tidy().unwrap();
    assert_eq!(bed.engine.state().files, 1, "one file has them all");
    let Bed { dir, engine, .. } = bed;
    drop(engine);
    let mut measured = Command::new(std::env::current_exe().unwrap());
    let measured = measured.args([NAME, "--exact", "--nocapture"]).env(FOLDER, dir.path());
    let ended = measured.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    let figures = said.lines().find(|line| line.starts_with("peak of"));
    eprintln!("{}", figures.expect("it was measured"));
}
