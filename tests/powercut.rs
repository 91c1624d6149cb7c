//! Promise: what was acknowledged as synced survives a power cut, exactly once and equal in value,
//! and nothing is there that nobody sent.
//!
//! The load and the books of `kill`, on a file system of the test's own. At random moments the server
//! is frozen, the power of its file system is cut (everything that the device does not have is gone),
//! the process is killed, the file system is mounted again, and a new server recovers; sometimes that
//! one is cut off too. Every cut is followed by a comparison of everything. Conflicts are counted in
//! the reject sink at the end of each file system's life.
//!
//! The control is the bug that every server has who acknowledges before the sync: the same load with
//! durability `memory`, which promises no more than that, must be found out by the same comparison.
//!
//! `TIDEGATE_CUTS` sets the number of cuts of each file system, `TIDEGATE_CUTS_SEED` repeats the
//! choices of a run (not its timing). Needs root and loop devices, and fails without.

#[path = "common/mod.rs"]
mod common;
#[path = "kill/ledger.rs"]
mod ledger;
#[path = "kill/run.rs"]
mod run;
#[path = "kill/traffic.rs"]
mod traffic;

use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::count::{self, Count, Counter};
use common::gateway::Place;
use common::random::Random;
use common::volume::{Kind, Volume};
use common::{tell, wait_for};
use run::{ACKNOWLEDGED_MIN, GENERATION_CYCLES, Run};
use traffic::Levels;

/// Cuts of each file system unless the environment says otherwise.
const CUTS: u32 = 20;

/// Power cuts after which the control must have lost something.
const CONTROL_CUTS: u32 = 20;

/// What is promised to survive.
const SYNCED: Levels = &[None, Some("sync"), Some("applied")];

/// What is acknowledged before the sync.
const UNSYNCED: Levels = &[Some("memory")];

/// Every so many cuts, one around a rotation: records so large, and so many of them before the cut, that
/// a segment is filled never, once or more often.
const ROTATION_CUTS_PART: u32 = 4;
const LARGE_BYTES: usize = 256 << 10;
const LARGE_RECORDS: Range<u64> = 120..500;

/// Longest time until so many are acknowledged, on a busy machine.
const LOAD_MAX: Duration = Duration::from_mins(2);

/// Room for the log and for the Parquet files of one generation; the file behind it is sparse.
const VOLUME_BYTES: u64 = 4 << 30;

/// The machine is shared by the tests of a file, and the load is what makes a cut worth something.
static ALONE: Mutex<()> = Mutex::new(());

/// What a run of cuts came to.
#[derive(Default)]
struct Sum {
    cuts: u32,
    acknowledged: u64,
    records: usize,
    rotations: usize,
    slowest_start: Duration,
}

fn cuts() -> u32 {
    let given = std::env::var("TIDEGATE_CUTS").ok();
    given.map_or(CUTS, |text| text.parse().expect("TIDEGATE_CUTS is a number"))
}

/// Cuts the power of one new file system up to `cuts` times, and adds to `sum`.
fn life(kind: Kind, cuts: u32, seed: u64, sum: &mut Sum) {
    let mut run = Run::new(SYNCED, Some(Volume::new(kind, VOLUME_BYTES)), seed);
    let mut server = run.start();
    let (mut counted, mut tried) = (0, 0);
    while counted < cuts {
        tried += 1;
        assert!(tried <= 2 * cuts + 10, "{counted} of {tried} cuts were busy enough to count");
        let acknowledged = run.load_and_crash(server);
        counted += u32::from(acknowledged >= ACKNOWLEDGED_MIN);
        server = run.start();
        let wrong = run.check(&server);
        assert!(wrong.is_empty(), "{kind:?}, cut {tried}, seed {seed}:\n{}", wrong.join("\n"));
    }
    // The last server is stopped well, which must not lose anything either.
    run.load_and_stop(server);
    let server = run.start();
    server.settle();
    let (records, wrong) = run.check_all(&server);
    assert!(wrong.is_empty(), "{kind:?}, in the end, seed {seed}:\n{}", wrong.join("\n"));
    sum.cuts += counted;
    sum.acknowledged += run.acknowledged;
    sum.records += records;
    sum.rotations += run.rotations;
    sum.slowest_start = sum.slowest_start.max(run.slowest_start);
    tell(format!(
        "powercut: {kind:?}, {} cuts, {} requests acknowledged, {} records read back, lost 0, doubled \
         0, invented 0; {} rotations under load, slowest start {:?}",
        sum.cuts, sum.acknowledged, sum.records, sum.rotations, sum.slowest_start
    ));
}

fn survives_power_cuts(kind: Kind) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = Random::seed_from("TIDEGATE_CUTS_SEED");
    let cuts = cuts();
    tell(format!("powercut: {kind:?}, {cuts} cuts, TIDEGATE_CUTS_SEED={seed}"));
    let mut sum = Sum::default();
    while sum.cuts < cuts {
        let left = cuts - sum.cuts;
        life(kind, left.min(GENERATION_CYCLES), seed + u64::from(sum.cuts), &mut sum);
    }
}

#[test]
fn what_was_synced_survives_power_cuts_on_ext4() {
    survives_power_cuts(Kind::Ext4);
}

#[test]
fn what_was_synced_survives_power_cuts_on_xfs() {
    survives_power_cuts(Kind::Xfs);
}

/// Large records turn the log's segments over, so that cuts fall into the time around a rotation.
#[test]
fn what_was_synced_survives_power_cuts_around_a_rotation() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let seed = Random::seed_from("TIDEGATE_CUTS_SEED");
    let mut random = Random::new(seed);
    let (mut records, mut rotations) = (0, 0);
    let cuts = cuts().div_ceil(ROTATION_CUTS_PART);
    tell(format!("powercut: rotation, {cuts} cuts, TIDEGATE_CUTS_SEED={seed}"));
    for cut in 0..cuts {
        let kind = *random.pick(&[Kind::Ext4, Kind::Xfs]);
        let volume = Volume::new(kind, VOLUME_BYTES);
        let place = Place::on(&volume, &run::settings(2));
        let server = place.start();
        let begun = place.logged(run::ROTATED);
        let mut counters: Vec<Counter> = (0..4).map(|at| Counter::new(at, LARGE_BYTES)).collect();
        let (count, address) = (Count::default(), server.address);
        let enough = random.within(LARGE_RECORDS);
        std::thread::scope(|scope| {
            for counter in &mut counters {
                scope.spawn(|| counter.run(address, &count));
            }
            wait_for("the load", LOAD_MAX, || {
                (count.acknowledged.load(Ordering::SeqCst) >= enough).then_some(())
            });
            server.end(|child| run::cut(child, &volume));
        });
        rotations += place.logged(run::ROTATED) - begun;
        let server = place.start();
        let found = count::served(&server);
        let wrong = count::wrong(&counters, &found);
        assert!(wrong.is_empty(), "{kind:?}, cut {cut}, seed {seed}: {}", wrong.join("\n"));
        records += found.len();
    }
    tell(format!(
        "powercut: rotation, {cuts} cuts, {rotations} rotations, {records} records, lost 0"
    ));
    assert!(rotations > 0, "the log was never rotated; the load was too small to prove anything");
}

/// Goal: what a start has read of the catalog may go into frames, which are synced: numbers of tables.
/// Method: its last line is in the system's memory only, as a server leaves it that was killed before its
/// sync; the next one starts, and the power is cut.
#[test]
fn what_a_start_has_read_of_the_catalog_survives_a_power_cut() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in [Kind::Ext4, Kind::Xfs] {
        let volume = Volume::new(kind, VOLUME_BYTES);
        let place = Place::on(&volume, &run::settings(2));
        let server = place.start();
        server.write("one", "m,s=a v=1i 1");
        server.write("two", "m,s=a v=1i 1");
        server.stop();
        let path = place.data().join("catalog.log");
        let whole = std::fs::read(&path).expect("there is one");
        let last = whole.split_inclusive(|byte| *byte == b'\n').next_back().expect("a line").len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("it can be opened");
        let kept = (whole.len() - last) as u64;
        file.set_len(kept).expect("it can be cut");
        volume.settle();
        file.write_all_at(&whole[whole.len() - last..], kept).expect("it can be written");
        drop(file);
        let server = place.start();
        server.end(|child| run::cut(child, &volume));
        volume.remount();
        assert_eq!(std::fs::read(&path).ok(), Some(whole), "{kind:?}");
    }
}

/// The control: acknowledged before the sync is lost, and found out.
#[test]
fn what_was_acknowledged_before_the_sync_is_found_to_be_lost() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut run = Run::new(UNSYNCED, Some(Volume::new(Kind::Ext4, VOLUME_BYTES)), 11);
    let lost = (1..=CONTROL_CUTS).find_map(|cut| {
        let server = run.start();
        run.load_and_crash(server);
        let server = run.start();
        let wrong = run.check(&server);
        server.stop();
        (!wrong.is_empty()).then(|| (cut, wrong.join("\n")))
    });
    let (cut, wrong) =
        lost.expect("data that was acknowledged before the sync is lost by a power cut");
    assert!(wrong.contains("lost: ") || wrong.contains("differs: "), "{wrong}");
    tell(format!("powercut: acknowledged before the sync, lost at cut {cut}:\n{wrong}"));
}
