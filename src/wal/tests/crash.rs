//! Crashes at a random operation of a random run: what was promised must be found, and nothing else.
//!
//! A run is a life of the log after the other on one disk: append, commit, checkpoint, and then the
//! power goes, or the process is killed, or it closes. After each crash the log is opened again; now
//! and then the power goes while it opens. `TIDEGATE_CRASHES` sets how many runs; a failure prints
//! the seed, and `TIDEGATE_SEED` runs that one alone.

use std::collections::BTreeMap;
use std::ops::Not;

use super::super::disk::sim::{Fault, Lie, Random, SimDisk};
use super::super::inspect::{Overview, SegmentState};
use super::super::walk::walk_segment;
use super::super::{Durability, Options, WalError, locked, prepare};
use super::{Machine, SEGMENT_BYTES, number_from, payload, tell};
use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::base::units::{Bytes, Span};

const CRASHES: u64 = 2_000;
const LIVES: u64 = 4;

/// What a log must still have.
#[derive(Debug, Default)]
struct Promised {
    /// Every payload that has a number, unless a crash dropped it.
    appended: BTreeMap<Lsn, Vec<u8>>,
    /// The last frame that a power cut must not take.
    synced: Lsn,
    /// The last frame that a killed process must not take.
    written: Lsn,
    /// The last checkpoint that was answered "durable".
    checkpoint: Lsn,
    /// The last checkpoint asked for.
    checkpoint_asked: Lsn,
}

/// What the runs came across. A test that never met a torn tail proves nothing about it.
#[derive(Debug, Default)]
struct Met {
    crashes: u64,
    acknowledged: u64,
    rotations: u64,
    recycled: u64,
    torn_tails: u64,
    /// Valid frames behind a gap, dropped.
    gaps: u64,
    full: u64,
    cut_while_opening: u64,
    /// Kept segments that a restart found and kept on.
    kept: u64,
    /// Frames of them that were read back.
    kept_frames: u64,
}

/// What one run is about.
#[derive(Debug, Clone, Copy, Default)]
struct Story {
    lie: Option<Lie>,
    /// Most segments that are kept below the checkpoint.
    retain_segments: u64,
}

impl Story {
    fn start(self, disk: &SimDisk) -> Result<Machine, WalError> {
        let options = Options {
            segment_bytes: Bytes(SEGMENT_BYTES),
            bytes_max: Bytes(6 * SEGMENT_BYTES),
            retain_bytes: Bytes(self.retain_segments * SEGMENT_BYTES),
            retain_for: Span::secs(0),
            ..Options::default()
        };
        Machine::open(disk, &options, 0)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    PowerCut,
    Kill,
    Close,
}

#[test]
fn a_power_cut_at_any_moment_takes_nothing_that_was_promised() {
    let met = crash(Story::default());
    let summary = format!("{met:?}");
    tell(&format!("crash: {summary}"));
    let Met {
        crashes,
        acknowledged,
        rotations,
        recycled,
        torn_tails,
        gaps,
        full,
        cut_while_opening,
        kept,
        ..
    } = met;
    if crashes == 0 {
        return;
    }
    assert_eq!(kept, 0, "nothing is kept that nobody asked for: {summary}");
    assert!(acknowledged > 10 * crashes, "too little happened: {summary}");
    for rare in [rotations, recycled, torn_tails, gaps, full, cut_while_opening] {
        assert!(rare > crashes / 50, "something was hardly met: {summary}");
    }
}

/// Goal: a kept frame is readable and equal after every crash, and never applied again by a start.
#[test]
fn a_power_cut_at_any_moment_takes_no_kept_frame_and_applies_none_twice() {
    let met = crash(Story { retain_segments: 2, ..Story::default() });
    if met.crashes == 0 {
        return;
    }
    let rare = [met.recycled, met.kept, met.torn_tails, met.cut_while_opening];
    assert!(rare.iter().all(|count| *count > met.crashes / 50), "hardly met: {met:?}");
    assert!(met.kept_frames > met.crashes, "hardly read: {met:?}");
}

/// Runs until enough crashes were met; none where the run of one seed was asked for.
fn crash(story: Story) -> Met {
    let mut met = Met::default();
    if let Some(seed) = number_from("TIDEGATE_SEED") {
        live(seed, story, &mut met).unwrap();
        return Met::default();
    }
    let crashes = number_from("TIDEGATE_CRASHES").unwrap_or(CRASHES);
    for seed in 0.. {
        if met.crashes >= crashes {
            break;
        }
        live(seed, story, &mut met)
            .unwrap_or_else(|broken| panic!("TIDEGATE_SEED={seed}, {story:?}: {broken}"));
    }
    met
}

#[test]
fn a_disk_that_lies_is_caught_by_the_test_above() {
    for lie in [Lie::Sync, Lie::Names] {
        let story = Story { lie: Some(lie), ..Story::default() };
        // An assertion of the log's own that fails has noticed, too.
        let noticed = |seed: &u64| {
            let run = std::panic::catch_unwind(|| live(*seed, story, &mut Met::default()));
            run.is_ok_and(|run| run.is_ok()).not()
        };
        let caught = (0..200).filter(noticed).count();
        assert!(caught > 20, "{lie:?}: only {caught} of 200 runs noticed");
    }
}

/// Some lives of one log. What was broken, if anything was.
fn live(seed: u64, story: Story, met: &mut Met) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut disk = SimDisk::new(seed);
    if let Some(lie) = story.lie {
        disk.lie(lie);
    }
    let mut promised = Promised::default();
    for _ in 0..LIVES {
        let expected = kept_expected(&disk, story)?;
        if random.chance(20) {
            disk.fail_after(random.below(40), Fault::PowerCut);
        }
        let machine = match story.start(&disk) {
            Ok(machine) => machine,
            Err(_) if disk.is_dead() => {
                met.cut_while_opening += 1;
                promised.written = promised.synced;
                disk = disk.after_power_cut(&mut random);
                continue;
            }
            Err(error) => return Err(format!("it does not open: {error}")),
        };
        disk = disk.after_kill();
        check_opened(&machine, &mut promised, met)?;
        check_kept(&machine, &disk, &expected, &promised, met)?;
        let ending = [Ending::PowerCut, Ending::PowerCut, Ending::Kill, Ending::Close]
            [usize::try_from(random.below(4)).unwrap()];
        if ending == Ending::PowerCut {
            disk.fail_after(random.below(150), Fault::PowerCut);
        }
        met.crashes += u64::from(ending != Ending::Close);
        disk = end(machine, &disk, ending, &mut random, &mut promised, met)?;
    }
    match story.start(&disk) {
        Ok(machine) => check_opened(&machine, &mut promised, met),
        Err(error) => Err(format!("it does not open: {error}")),
    }
}

/// One life to its end; the disk that it leaves.
fn end(
    mut machine: Machine,
    disk: &SimDisk,
    ending: Ending,
    random: &mut Random,
    promised: &mut Promised,
    met: &mut Met,
) -> Result<SimDisk, String> {
    let segment = machine.committer.segment_number();
    for _ in 0..20 + random.below(100) {
        act(&mut machine, random, promised, met)?;
        if machine.log.poison.is_thrown() {
            break;
        }
    }
    let rotations = machine.committer.segment_number() - segment;
    met.rotations += rotations;
    met.recycled += disk.recycled();
    if machine.log.poison.is_thrown() && !disk.is_dead() {
        return Err(format!("poisoned without a fault: {:?}", machine.log.poison.reason()));
    }
    if ending == Ending::Close {
        machine.close();
        if !disk.is_dead() {
            let last = promised.appended.keys().next_back().copied();
            promised.synced = last.unwrap_or(promised.synced);
            promised.written = promised.synced;
            return Ok(disk.after_kill());
        }
    }
    if ending == Ending::PowerCut || disk.is_dead() {
        promised.written = promised.synced;
        return Ok(disk.after_power_cut(random));
    }
    Ok(disk.after_kill())
}

/// Does one thing to the log.
fn act(
    machine: &mut Machine,
    random: &mut Random,
    promised: &mut Promised,
    met: &mut Met,
) -> Result<(), String> {
    match random.below(10) {
        0..=4 => append(machine, random, promised, met)?,
        5 | 6 => machine.committer.step(),
        7 => drop(prepare::step(&machine.log)),
        8 => {
            machine.clock.advance(std::time::Duration::from_millis(random.below(300)));
            machine.committer.step();
        }
        _ => checkpoint(machine, random, promised),
    }
    let marks = machine.log.marks.get();
    promised.synced = promised.synced.max(marks.durable);
    for (lsn, durability, answer) in locked(&machine.answers).drain(..) {
        if answer.is_ok() {
            met.acknowledged += 1;
            promised.written = promised.written.max(lsn);
            if durability == Durability::Sync {
                promised.synced = promised.synced.max(lsn);
            }
            if lsn > marks.durable && durability == Durability::Sync {
                return Err(format!("frame {lsn} was acknowledged, durable is {}", marks.durable));
            }
        }
    }
    Ok(())
}

fn append(
    machine: &Machine,
    random: &mut Random,
    promised: &mut Promised,
    met: &mut Met,
) -> Result<(), String> {
    let payload = payload(random, 3000);
    let durability = [Durability::Memory, Durability::Interval, Durability::Sync]
        [usize::try_from(random.below(3)).unwrap()];
    match machine.append(&payload, durability) {
        Ok(lsn) => match promised.appended.insert(lsn, payload) {
            None => Ok(()),
            Some(_) => Err(format!("frame {lsn} was numbered twice")),
        },
        Err(error) if error.class() == Class::Busy => {
            met.full += 1;
            Ok(())
        }
        Err(_) if machine.log.poison.is_thrown() => Ok(()),
        Err(error) => Err(format!("an append failed: {error}")),
    }
}

fn checkpoint(machine: &Machine, random: &mut Random, promised: &mut Promised) {
    let marks = machine.log.marks.get();
    let between = marks.durable.0 - marks.checkpoint.0;
    let lsn = Lsn(marks.checkpoint.0 + random.below(between + 1));
    promised.checkpoint_asked = promised.checkpoint_asked.max(lsn);
    match machine.log.checkpoint(lsn) {
        Ok(()) => promised.checkpoint = promised.checkpoint.max(lsn),
        Err(error) => assert!(matches!(error, WalError::Poisoned { .. }), "{error}"),
    }
}

/// Holds a log that was opened against what was promised.
fn check_opened(machine: &Machine, promised: &mut Promised, met: &mut Met) -> Result<(), String> {
    let found = machine.log.recovery;
    met.torn_tails += u64::from(found.torn_bytes > 0);
    met.gaps += u64::from(found.torn_frames > 0);
    if found.last < promised.synced {
        return Err(format!(
            "frames up to {} were synced, last is {}",
            promised.synced, found.last
        ));
    }
    if found.last < promised.written {
        return Err(format!(
            "frames up to {} were written, last is {}",
            promised.written, found.last
        ));
    }
    if found.checkpoint < promised.checkpoint || found.checkpoint > promised.checkpoint_asked {
        return Err(format!("checkpoint is {}, was {}", found.checkpoint, promised.checkpoint));
    }
    // What a crash dropped was never promised; its numbers are given again.
    promised.appended.retain(|lsn, _| *lsn <= found.last);
    promised.synced = found.last;
    promised.written = found.last;
    promised.checkpoint = found.checkpoint;
    let read = machine.read(found.checkpoint.next()).map_err(|e| format!("unreadable: {e}"))?;
    let expected: BTreeMap<_, _> = promised.appended.range(found.checkpoint.next()..).collect();
    if read.iter().collect::<BTreeMap<_, _>>() != expected {
        return Err(format!("frames differ: {} found, {} expected", read.len(), expected.len()));
    }
    Ok(())
}

/// The segments that a start must keep: the newest of those below the checkpoint.
fn kept_expected(disk: &SimDisk, story: Story) -> Result<Vec<u64>, String> {
    let overview = Overview::of(disk).map_err(|e| format!("it cannot be looked at: {e}"))?;
    let is_stored = |segment: &&super::super::inspect::SegmentInfo| {
        segment.state == SegmentState::Stored && segment.first() > Lsn::ZERO
    };
    let stored: Vec<u64> = overview.segments.iter().filter(is_stored).map(|s| s.number).collect();
    let retained = usize::try_from(story.retain_segments).unwrap();
    Ok(stored[stored.len().saturating_sub(retained)..].to_vec())
}

/// Holds the kept segments of a log that was opened against what was appended.
fn check_kept(
    machine: &Machine,
    disk: &SimDisk,
    expected: &[u64],
    promised: &Promised,
    met: &mut Met,
) -> Result<(), String> {
    let kept = locked(&machine.log.stock).kept_numbers();
    // A start may find that more is stored than the checkpoint's file says.
    let newer =
        expected.last().map_or(kept.len(), |last| kept.iter().filter(|n| *n > last).count());
    if newer > 1 || kept.len() < expected.len() {
        return Err(format!("kept {kept:?}, expected {expected:?}"));
    }
    let overview = Overview::of(disk).map_err(|e| format!("it cannot be looked at: {e}"))?;
    for segment in overview.segments.iter().filter(|segment| kept.contains(&segment.number)) {
        let mut wrong = None;
        let walked = walk_segment(disk, &overview, segment, &mut |lsn, read| {
            if promised.appended.get(&lsn).is_none_or(|appended| appended != read) {
                wrong.get_or_insert(lsn);
            }
            Ok(())
        });
        let walked = walked.map_err(|e| format!("unreadable: {e}"))?;
        if let Some(lsn) = wrong {
            return Err(format!("kept frame {lsn} is not what was appended"));
        }
        if !walked.gaps.is_empty() || segment.until().is_some_and(|until| walked.last != until) {
            return Err(format!("segment {} lost kept frames: {walked:?}", segment.number));
        }
        met.kept += 1;
        met.kept_frames += walked.frames;
    }
    let Some(oldest) = overview.segments.iter().find(|s| kept.contains(&s.number)) else {
        return Ok(());
    };
    match machine.read(oldest.first()) {
        Err(WalError::Reclaimed { .. }) => Ok(()),
        other => Err(format!("a kept frame is served again: {other:?}")),
    }
}
