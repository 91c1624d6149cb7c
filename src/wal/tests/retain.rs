//! Retention: what is kept below the checkpoint, for how long, what it gives way to, and damage in it.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use super::super::disk::sim::{Fault, Random, SimDisk};
use super::super::inspect::{Hurts, Verdict};
use super::super::recovery::Case;
use super::super::segment::{HEADER_PAGE_BYTES, name};
use super::super::walk::walk_segment;
use super::super::{Durability, Options, WalError, locked, prepare};
use super::{Machine, SEGMENT_BYTES};
use crate::base::lsn::Lsn;
use crate::base::units::{Bytes, Span};

/// Bytes of a payload of which four fit a segment.
const PAYLOAD_BYTES: usize = 2000;

/// Bytes of its frame.
const FRAME_BYTES: usize = 32 + PAYLOAD_BYTES;

const HOUR_NS: i64 = 3_600_000_000_000;

fn options(retain_segments: u64, retain_for: Span) -> Options {
    Options {
        segment_bytes: Bytes(SEGMENT_BYTES),
        bytes_max: Bytes(12 * SEGMENT_BYTES),
        retain_bytes: Bytes(retain_segments * SEGMENT_BYTES),
        retain_for,
        ..Options::default()
    }
}

fn payload(n: u64) -> Vec<u8> {
    vec![u8::try_from(n % 251).unwrap(); PAYLOAD_BYTES]
}

/// Commits frames up to `last`, each with its own payload.
fn commit_up_to(machine: &mut Machine, last: u64) {
    while machine.log.marks.get().appended < Lsn(last) {
        let n = machine.log.marks.get().appended.next().0;
        assert_eq!(machine.commit(&payload(n)), Lsn(n));
    }
}

fn kept(machine: &Machine) -> Vec<u64> {
    locked(&machine.log.stock).kept_numbers()
}

/// Every sound frame that the files hold, with the numbers of the frames that are not.
fn frames_of(disk: &SimDisk) -> (BTreeMap<Lsn, Vec<u8>>, Verdict) {
    let verdict = Verdict::of(disk, &mut |_| {}).unwrap();
    let mut frames = BTreeMap::new();
    for segment in &verdict.overview.segments {
        walk_segment(disk, &verdict.overview, segment, &mut |lsn, payload| {
            frames.insert(lsn, payload.to_vec());
            Ok(())
        })
        .unwrap();
    }
    (frames, verdict)
}

#[test]
fn without_retention_nothing_is_kept() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(0)), 0).unwrap();
    commit_up_to(&mut machine, 17);
    machine.log.checkpoint(Lsn(17)).unwrap();
    let state = machine.log.state();
    assert_eq!((state.segments_retained, state.bytes_retained), (0, 0));
}

#[test]
fn retention_by_size_keeps_the_newest_and_frees_the_oldest() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(2, Span::secs(0)), 0).unwrap();
    commit_up_to(&mut machine, 17);
    machine.log.checkpoint(Lsn(8)).unwrap();
    assert_eq!(kept(&machine), [1, 2]);
    machine.log.checkpoint(Lsn(16)).unwrap();
    assert_eq!(kept(&machine), [3, 4]);
    let state = machine.log.state();
    assert_eq!((state.segments_retained, state.bytes_retained), (2, 2 * SEGMENT_BYTES));
    assert_eq!((state.segments, state.bytes), (1, SEGMENT_BYTES), "what is kept is not needed");
    // The oldest is the next to be used again.
    commit_up_to(&mut machine, 21);
    assert!(prepare::step(&machine.log));
    assert!(!disk.segments().contains(&name(1)) && disk.segments().contains(&name(3)));
    let (frames, _) = frames_of(&disk);
    assert!((9..=21).all(|n| frames[&Lsn(n)] == payload(n)), "what is kept reads back");
}

#[test]
fn retention_by_time_keeps_a_segment_as_long_as_asked_and_not_longer() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(3600)), 0).unwrap();
    commit_up_to(&mut machine, 5);
    machine.clock.advance(Duration::from_mins(40));
    commit_up_to(&mut machine, 9);
    machine.log.checkpoint(Lsn(9)).unwrap();
    assert_eq!(kept(&machine), [1, 2]);
    machine.clock.advance(Duration::from_mins(20) - Duration::from_nanos(1));
    assert!(prepare::step(&machine.log));
    assert_eq!(kept(&machine), [1, 2], "a nanosecond before its time");
    assert_eq!(
        locked(&machine.log.stock).expires_in(machine.log.clock.wall_ns()),
        Some(Duration::from_nanos(1)),
        "the thread knows when to look again"
    );
    machine.clock.advance(Duration::from_nanos(1));
    assert!(prepare::step(&machine.log));
    assert_eq!(kept(&machine), [2]);
    machine.clock.advance(Duration::from_mins(40));
    assert!(prepare::step(&machine.log));
    assert_eq!((kept(&machine).len(), machine.log.state().bytes_retained), (0, 0));
}

#[test]
fn a_segment_is_kept_as_long_as_size_or_time_asks_for_it() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(1, Span::secs(3600)), 0).unwrap();
    commit_up_to(&mut machine, 13);
    machine.log.checkpoint(Lsn(13)).unwrap();
    assert_eq!(kept(&machine), [1, 2, 3], "young");
    machine.clock.advance(Duration::from_hours(2));
    assert!(prepare::step(&machine.log));
    assert_eq!(kept(&machine), [3], "one segment of any age");
}

#[test]
fn a_clock_that_was_set_back_keeps_rather_than_frees() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(3600)), 5 * HOUR_NS).unwrap();
    disk.set_time(5 * HOUR_NS);
    commit_up_to(&mut machine, 6);
    machine.log.checkpoint(Lsn(5)).unwrap();
    drop(machine);
    let machine = Machine::open(&disk, &options(0, Span::secs(3600)), HOUR_NS).unwrap();
    assert_eq!(kept(&machine), [1]);
}

#[test]
fn what_is_kept_gives_way_to_writes_when_bytes_max_is_reached() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(3600)), 0).unwrap();
    // `commit` fails the test where the log answers "full".
    for round in 1..=10 {
        commit_up_to(&mut machine, round * 10);
        let last = machine.log.marks.get().durable;
        machine.log.checkpoint(last).unwrap();
    }
    let state = machine.log.state();
    assert!(state.bytes_total <= 12 * SEGMENT_BYTES, "{state:?}");
    assert!(state.segments_retained >= 9, "all room that writes do not need is used: {state:?}");
    let numbers = kept(&machine);
    assert!(numbers.is_sorted() && numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    let newest = *numbers.last().unwrap();
    assert!(newest + 2 >= machine.committer.segment_number(), "the oldest went: {numbers:?}");
}

#[test]
fn what_is_kept_gives_way_to_writes_on_a_full_disk() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(3600)), 0).unwrap();
    commit_up_to(&mut machine, 13);
    assert!(prepare::step(&machine.log));
    machine.log.checkpoint(Lsn(13)).unwrap();
    assert_eq!(kept(&machine), [1, 2, 3]);
    disk.set_space(0);
    commit_up_to(&mut machine, 17);
    assert!(prepare::step(&machine.log), "no space, but a kept segment");
    assert!(prepare::step(&machine.log), "which is used again");
    assert_eq!(kept(&machine), [2, 3]);
    commit_up_to(&mut machine, 21);
    assert!(!machine.log.poison.is_thrown());
}

#[test]
fn kept_segments_of_another_size_are_removed_to_make_room() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(0, Span::secs(3600)), 0).unwrap();
    commit_up_to(&mut machine, 41);
    machine.log.checkpoint(Lsn(41)).unwrap();
    machine.close();
    let larger =
        Options { segment_bytes: Bytes(SEGMENT_BYTES + 4096), ..options(0, Span::secs(3600)) };
    let mut machine = Machine::open(&disk, &larger, 0).unwrap();
    assert_eq!(kept(&machine).len(), 11);
    for _ in 0..8 {
        prepare::step(&machine.log);
    }
    let last = machine.log.marks.get().durable.0;
    commit_up_to(&mut machine, last + 12);
    let total: usize = disk.segments().iter().map(|segment| disk.bytes_of(segment).len()).sum();
    assert!(total as u64 <= 12 * SEGMENT_BYTES, "{total}");
}

#[test]
fn a_restart_keeps_what_is_within_the_retention_in_order() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::open(&disk, &options(3, Span::secs(0)), 0).unwrap();
    commit_up_to(&mut machine, 22);
    machine.log.checkpoint(Lsn(21)).unwrap();
    assert_eq!(kept(&machine), [3, 4, 5]);
    drop(machine);
    let machine = Machine::open(&disk, &options(3, Span::secs(0)), 0).unwrap();
    assert_eq!(kept(&machine), [3, 4, 5]);
    let found = machine.log.recovery;
    assert_eq!((found.first, found.last, found.frames), (Lsn(22), Lsn(22), 1), "applied once");
    let replayed = machine.read(Lsn(22)).unwrap();
    assert_eq!(replayed.into_keys().collect::<Vec<_>>(), [Lsn(22)]);
    let refused = machine.read(Lsn(20)).unwrap_err();
    assert!(matches!(refused, WalError::Reclaimed { .. }), "the shards never see it: {refused}");
    drop(machine);
    // Another setting counts from the next start on.
    let machine = Machine::open(&disk, &options(1, Span::secs(0)), 0).unwrap();
    assert_eq!(kept(&machine).len(), 1);
    drop(machine);
    let machine = Machine::open(&disk, &options(0, Span::secs(0)), 0).unwrap();
    assert_eq!(kept(&machine), Vec::<u64>::new());
}

#[test]
fn a_restart_knows_how_old_a_kept_segment_is() {
    let disk = SimDisk::new(1);
    let hour = options(0, Span::secs(3600));
    let mut machine = Machine::open(&disk, &hour, 0).unwrap();
    commit_up_to(&mut machine, 5);
    disk.set_time(HOUR_NS);
    machine.clock.advance(Duration::from_hours(1));
    commit_up_to(&mut machine, 10);
    machine.log.checkpoint(Lsn(9)).unwrap();
    drop(machine);
    let opened = |now_ns| kept(&Machine::open(&disk.copy(), &hour, now_ns).unwrap());
    assert_eq!(opened(HOUR_NS - 1), [1, 2]);
    assert_eq!(opened(2 * HOUR_NS - 1), [2]);
    assert_eq!(opened(2 * HOUR_NS), Vec::<u64>::new());
}

#[test]
fn a_look_from_outside_knows_what_is_synced_and_what_is_only_written() {
    let disk = SimDisk::new(1);
    let mut machine = Machine::start(&disk).unwrap();
    let known = || {
        let (_, verdict) = frames_of(&disk);
        (verdict.walked[&1].last, verdict.walked[&1].durable)
    };
    machine.commit(b"one");
    assert_eq!(known(), (Lsn(1), Lsn(1)), "by the mark");
    machine.append(b"two", Durability::Memory).unwrap();
    machine.committer.step();
    assert_eq!(known(), (Lsn(2), Lsn(1)), "by the frame, which knows of the one before");
    machine.commit(b"three");
    assert_eq!(known(), (Lsn(3), Lsn(3)));
}

/// Segments 1 and 2 below the checkpoint, which lies at frame 10 in segment 3, frames up to 12.
fn log_with_its_checkpoint_in_segment_3() -> SimDisk {
    let disk = SimDisk::new(3);
    let mut machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
    commit_up_to(&mut machine, 12);
    machine.log.checkpoint(Lsn(10)).unwrap();
    drop(machine);
    disk
}

fn change(disk: &SimDisk, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.bytes_of(file);
    change(&mut bytes);
    disk.put(file, bytes);
}

/// Flips bits of a segment's frame number `index`, from 0: of its header, or of its payload.
fn damage(disk: &SimDisk, segment: u64, index: usize, inside: usize) {
    let page = usize::try_from(HEADER_PAGE_BYTES).unwrap();
    change(disk, &name(segment), |bytes| bytes[page + index * FRAME_BYTES + inside] ^= 0x55);
}

/// The file of segment 3 as it is, and what is written of it in what follows.
fn opens_behind(disk: &SimDisk, what: &str) {
    let mut machine = Machine::open(disk, &options(4, Span::secs(0)), 0)
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let read = machine.read(Lsn(11)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let expected: BTreeMap<_, _> = [11, 12].map(|n| (Lsn(n), payload(n))).into();
    assert_eq!(read, expected, "{what}");
    assert_eq!(machine.commit(b"next"), Lsn(13), "{what}");
    drop(machine);
    // And once more: what was passed over stays passed over.
    let machine = Machine::open(disk, &options(4, Span::secs(0)), 0).unwrap();
    assert_eq!(machine.read(Lsn(11)).unwrap().len(), 3, "{what}");
}

#[test]
fn damage_below_the_checkpoint_in_its_own_segment_is_passed_over() {
    for (frames, inside) in [(0..1, 5), (0..1, 200), (1..2, 5), (1..2, 200), (0..2, 5), (0..2, 9)] {
        let disk = log_with_its_checkpoint_in_segment_3();
        for index in frames.clone() {
            damage(&disk, 3, index, inside);
        }
        let what = format!("frames {frames:?}, byte {inside}");
        let (_, verdict) = frames_of(&disk);
        assert!(!verdict.is_sound(), "{what}: verify names it");
        assert!(verdict.damage.iter().all(|d| d.hurts == Hurts::Past), "{what}");
        opens_behind(&disk, &what);
    }
}

#[test]
fn damage_beyond_the_checkpoint_is_refused_as_ever() {
    // Alone, and together with damage below it.
    for indices in [&[2][..], &[1, 2], &[0, 2], &[3], &[0, 1, 2, 3]] {
        for inside in [5, 200] {
            let disk = log_with_its_checkpoint_in_segment_3();
            for index in indices {
                damage(&disk, 3, *index, inside);
            }
            let what = format!("frames {indices:?}, byte {inside}");
            match Machine::open(&disk, &options(4, Span::secs(0)), 0) {
                Err(WalError::Damaged { case, .. }) => assert_eq!(case, Case::FrameDamaged),
                // The mark behind the last frame is gone with its header: nobody knows of the frame.
                Ok(machine) => panic!("{what}: opened, last {}", machine.log.recovery.last),
                Err(error) => panic!("{what}: {error}"),
            }
            let (_, verdict) = frames_of(&disk);
            assert!(verdict.damage.iter().any(|d| d.hurts == Hurts::Start), "{what}");
        }
    }
}

#[test]
fn a_log_all_of_which_is_stored_ends_at_its_checkpoint_however_damaged() {
    for inside in [5, 200] {
        let disk = SimDisk::new(3);
        let mut machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
        commit_up_to(&mut machine, 10);
        machine.log.checkpoint(Lsn(10)).unwrap();
        machine.close();
        damage(&disk, 3, 0, inside);
        damage(&disk, 3, 1, inside);
        let mut machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
        assert_eq!((machine.log.recovery.last, machine.log.recovery.frames), (Lsn(10), 0));
        assert_eq!(machine.commit(b"next"), Lsn(11), "no number is given twice");
        drop(machine);
        let machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
        assert_eq!(machine.read(Lsn(11)).unwrap().len(), 1);
    }
}

#[test]
fn whatever_is_wrong_with_a_kept_segment_a_start_goes_on() {
    type Break = fn(&SimDisk);
    let cases: [(&str, Break); 5] = [
        ("a frame", |d| damage(d, 1, 1, 100)),
        ("a header", |d| change(d, &name(1), |bytes| bytes[..4096].fill(0))),
        ("a length", |d| change(d, &name(2), |bytes| bytes.truncate(5000))),
        ("an empty file", |d| change(d, &name(1), Vec::clear)),
        ("no file", |d| d.take(&name(1))),
    ];
    for (what, break_it) in cases {
        let disk = log_with_its_checkpoint_in_segment_3();
        break_it(&disk);
        let (_, verdict) = frames_of(&disk);
        assert_eq!(verdict.is_sound(), what == "no file", "{what}: verify names what is there");
        assert!(verdict.damage.iter().all(|d| d.hurts == Hurts::Past), "{what}");
        opens_behind(&disk, what);
    }
}

/// The checkpoint was written when segment 3 was the last, so it names it; a crash then leaves a
/// segment below the checkpoint that the checkpoint says is needed.
#[test]
fn whatever_is_wrong_with_the_segment_that_the_checkpoint_names_a_start_goes_on_where_all_is_stored()
 {
    type Break = fn(&SimDisk);
    let cases: [(&str, Break); 4] = [
        ("a frame", |d| damage(d, 3, 3, 5)),
        ("a header", |d| change(d, &name(3), |bytes| bytes[..4096].fill(0))),
        ("a length", |d| change(d, &name(3), |bytes| bytes.truncate(5000))),
        ("no file", |d| d.take(&name(3))),
    ];
    for (what, break_it) in cases {
        let disk = SimDisk::new(3);
        let mut machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
        commit_up_to(&mut machine, 12);
        machine.log.checkpoint(Lsn(12)).unwrap();
        commit_up_to(&mut machine, 14);
        drop(machine);
        break_it(&disk);
        let (_, verdict) = frames_of(&disk);
        assert!(verdict.damage.iter().all(|d| d.hurts == Hurts::Past), "{what}: {verdict:?}");
        let machine = Machine::open(&disk, &options(4, Span::secs(0)), 0)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(machine.read(Lsn(13)).unwrap().len(), 2, "{what}");
    }
}

#[test]
fn a_file_of_a_far_number_with_an_old_first_frame_is_not_taken_for_the_begin() {
    let disk = log_with_its_checkpoint_in_segment_3();
    let mut machine = Machine::open(&disk, &options(4, Span::secs(0)), 0).unwrap();
    commit_up_to(&mut machine, 14);
    machine.close();
    // Segment 1 of another log under the next number: its frames have numbers up to 4.
    let spare = disk.segments().last().unwrap().clone();
    let number = super::super::segment::number_in(&spare).unwrap();
    let mut bytes = disk.bytes_of(&name(1));
    let page = bytes.first_chunk_mut().unwrap();
    let header = super::super::segment::Header::decode(page, 1).unwrap();
    *page = super::super::segment::Header { number: number + 1, ..header }.encode();
    disk.put(&name(number + 1), bytes);
    let refused = Machine::open(&disk, &options(4, Span::secs(0)), 0);
    assert!(
        matches!(&refused, Err(WalError::Damaged { case: Case::OrderWrong, .. })),
        "{refused:?}"
    );
}

/// Every flipped bit of every frame of a log with its checkpoint in the middle of a segment.
#[test]
fn a_flipped_bit_below_the_checkpoint_is_harmless_and_beyond_it_is_refused() {
    const SMALL: usize = 40;
    let small = |n: u64| vec![u8::try_from(n).unwrap(); SMALL - 32];
    let disk = SimDisk::new(7);
    let own = Options {
        segment_bytes: Bytes(HEADER_PAGE_BYTES + 6 * SMALL as u64),
        bytes_max: Bytes(1 << 20),
        retain_bytes: Bytes(1 << 16),
        ..Options::default()
    };
    let mut machine = Machine::open(&disk, &own, 0).unwrap();
    for n in 1..=12 {
        assert_eq!(machine.commit(&small(n)), Lsn(n));
    }
    machine.log.checkpoint(Lsn(9)).unwrap();
    machine.close();
    let expected: BTreeMap<_, _> = (10..=12).map(|n| (Lsn(n), small(n))).collect();
    let page = usize::try_from(HEADER_PAGE_BYTES).unwrap();
    for (segment, frames) in [(1, 1..=6), (2, 7..=12)] {
        for (index, lsn) in frames.enumerate() {
            for bit in (page + index * SMALL) * 8..(page + (index + 1) * SMALL) * 8 {
                let damaged = disk.copy();
                change(&damaged, &name(segment), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
                let what = format!("frame {lsn}, bit {bit}");
                match Machine::open(&damaged, &own, 0) {
                    Ok(machine) => {
                        assert!(lsn <= 9, "{what}: opened");
                        assert_eq!(machine.read(Lsn(10)).unwrap(), expected, "{what}");
                    }
                    Err(error) => assert!(lsn > 9, "{what}: {error}"),
                }
            }
        }
    }
}

/// Two lives with segments kept, given up, removed and used again; the last frame acknowledged.
fn lives_with_retention(disk: &SimDisk) -> Result<u64, WalError> {
    let mut last = 0;
    for _ in 0..2 {
        let mut machine = Machine::open(disk, &options(1, Span::secs(1)), 0)?;
        for n in 0..30 {
            prepare::step(&machine.log);
            let Ok(lsn) = machine.append(&payload(last + 1), Durability::Sync) else { break };
            machine.committer.step();
            if machine.log.poison.is_thrown() {
                return Ok(last);
            }
            last = lsn.0;
            if n % 5 == 4 {
                machine.clock.advance(Duration::from_millis(700));
                // A failure throws the poison, which is looked at.
                machine.log.checkpoint(Lsn(last - 1)).ok();
            }
        }
    }
    Ok(last)
}

#[test]
fn whatever_fails_while_segments_are_kept_nothing_acknowledged_is_lost() {
    let whole = SimDisk::new(1);
    assert_eq!(lives_with_retention(&whole).unwrap(), 60);
    assert!(whole.recycled() > 3, "kept segments are used again");
    for n in 0..whole.operations() {
        let disk = SimDisk::new(1);
        disk.fail_after(n, Fault::Once(ErrorKind::Other));
        let last = lives_with_retention(&disk).unwrap_or(0);
        for left in [disk.after_power_cut(&mut Random::new(n)), disk.after_kill()] {
            let machine = Machine::open(&left, &options(1, Span::secs(1)), 0)
                .unwrap_or_else(|error| panic!("operation {n}: {error}"));
            let found = machine.log.recovery;
            assert!(found.last >= Lsn(last), "operation {n}: {found:?}");
            let from = found.checkpoint.next();
            for (lsn, read) in machine.read(from).unwrap() {
                assert_eq!(read, payload(lsn.0), "operation {n}, frame {lsn}");
            }
        }
    }
}
