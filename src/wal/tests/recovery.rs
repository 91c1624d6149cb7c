//! The table of cases: each one made, and what a start makes of it.

use super::super::disk::Disk;
use super::super::disk::sim::{Fault, Random, SimDisk};
use super::super::recovery::{Case, Decision, decide};
use super::super::segment::{self, HEADER_PAGE_BYTES, Header, name};
use super::super::{Durability, WalError, checkpoint, prepare};
use super::{Machine, SEGMENT_BYTES};
use crate::base::lsn::Lsn;

/// Four frames a segment, ten of them: segments 1 and 2 full, two frames in 3, a spare 4.
fn log_of_three_segments() -> SimDisk {
    let disk = SimDisk::new(3);
    let mut machine = Machine::start(&disk).unwrap();
    for n in 0..10 {
        machine.commit(&[n; 2000]);
    }
    prepare::step(&machine.log);
    machine.close();
    assert_eq!(disk.segments(), [name(1), name(2), name(3), name(4)]);
    disk
}

/// How a start goes that is refused.
fn refusal(disk: &SimDisk) -> (Case, String) {
    match Machine::start(disk) {
        Err(WalError::Damaged { case, path, detail }) => {
            assert_eq!(decide(case), Decision::Refuse);
            (case, format!("{}: {detail}", path.display()))
        }
        other => panic!("not refused: {other:?}"),
    }
}

fn opens_with(disk: &SimDisk, last: u64) -> Machine {
    let machine = Machine::start(disk).unwrap();
    let from = machine.log.recovery.checkpoint.next();
    let found: Vec<_> = machine.read(from).unwrap().into_keys().map(|lsn| lsn.0).collect();
    assert_eq!(found, (from.0..=last).collect::<Vec<_>>());
    machine
}

fn change(disk: &SimDisk, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = disk.bytes_of(name);
    change(&mut bytes);
    disk.put(name, bytes);
}

/// Damages the frame number `index` of a segment, from 0.
fn damage_frame(disk: &SimDisk, segment: u64, index: usize) {
    let page = usize::try_from(HEADER_PAGE_BYTES).unwrap();
    change(disk, &name(segment), |bytes| bytes[page + index * 2032 + 100] ^= 1);
}

#[test]
fn a_new_directory_becomes_a_log() {
    let disk = SimDisk::new(1);
    let machine = opens_with(&disk, 0);
    assert_eq!(machine.log.recovery.segments, 0);
    assert_eq!(disk.segments(), [name(1)]);
}

#[test]
fn a_clean_end_is_resumed_in_a_new_segment() {
    let disk = log_of_three_segments();
    let mut machine = opens_with(&disk, 10);
    let found = machine.log.recovery;
    assert_eq!((found.frames, found.segments, found.torn_bytes), (10, 3, 0));
    assert_eq!((found.first, found.last), (Lsn(1), Lsn(10)));
    assert_eq!(machine.committer.segment_number(), 4, "the spare is used");
    assert_eq!(machine.commit(b"next"), Lsn(11));
}

#[test]
fn a_leftover_is_removed() {
    let disk = log_of_three_segments();
    disk.put(&(name(9) + ".tmp"), vec![1; 5000]);
    disk.put("checkpoint.tmp", vec![]);
    opens_with(&disk, 10);
    assert!(!disk.list().unwrap().iter().any(|name| name.contains(".tmp")));
}

#[test]
fn a_file_of_somebody_else_is_left_alone() {
    let disk = log_of_three_segments();
    disk.put("notes.txt", b"hands off".to_vec());
    opens_with(&disk, 10);
    assert_eq!(disk.bytes_of("notes.txt"), b"hands off");
}

#[test]
fn a_segment_below_the_checkpoint_is_not_read_and_used_again() {
    let disk = log_of_three_segments();
    let machine = opens_with(&disk, 10);
    machine.log.checkpoint(Lsn(9)).unwrap();
    drop(machine);
    let reclaimed = disk.segments()[0].clone();
    assert_eq!(reclaimed, name(1), "one is kept to be used again");
    damage_frame(&disk, 1, 1);
    let machine = opens_with(&disk, 10);
    assert_eq!(machine.log.recovery.frames, 1);
    assert!(prepare::step(&machine.log));
    assert!(!disk.segments().contains(&reclaimed), "recycled");
}

#[test]
fn spares_are_not_read() {
    let disk = log_of_three_segments();
    // Frames never synced may be in a spare's file from a life that ended before its header was.
    change(&disk, &name(4), |bytes| bytes[4096..].fill(0xab));
    let machine = opens_with(&disk, 10);
    machine.close();
    opens_with(&disk, 10);
}

#[test]
fn a_start_that_dies_again_and_again_does_not_use_up_the_log() {
    let disk = log_of_three_segments();
    for _ in 0..20 {
        opens_with(&disk, 10);
    }
    assert_eq!(disk.segments().len(), 4);
}

#[test]
fn a_torn_tail_is_dropped_and_its_numbers_are_given_again() {
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let mut machine = Machine::start(&disk).unwrap();
        machine.commit(&[1; 1000]);
        for n in 0..5 {
            machine.append(&[n; 1000], Durability::Memory).unwrap();
        }
        // The frames are written; the power goes at the sync.
        machine.clock.advance(std::time::Duration::from_secs(1));
        disk.fail_after(1, Fault::PowerCut);
        machine.committer.step();
        drop(machine);
        let disk = disk.after_power_cut(&mut Random::new(seed));
        let mut machine = Machine::start(&disk).unwrap();
        let last = machine.log.recovery.last;
        assert!(last >= Lsn(1));
        let next = machine.commit(b"new");
        assert_eq!(next, last.next());
        drop(machine);
        // What lay behind the gap never comes back.
        let machine = opens_with(&disk, next.0);
        assert_eq!(machine.read(next).unwrap()[&next], b"new");
    }
}

/// The segment in question is begun again in place, because it holds no frame: only its new generation
/// keeps what was dropped from following the new frame.
#[test]
fn what_was_dropped_does_not_follow_a_new_frame_of_the_same_size() {
    let page = 4096;
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let mut machine = Machine::start(&disk).unwrap();
        for n in [1, 2] {
            machine.append(&vec![n; page - 32], Durability::Memory).unwrap();
        }
        machine.committer.step();
        drop(machine);
        // Of the two, the second reached the device.
        change(&disk, &name(1), |bytes| bytes[page..2 * page].fill(0));
        let mut machine = opens_with(&disk, 0);
        assert_eq!((machine.log.recovery.torn_frames, machine.committer.segment_number()), (1, 1));
        let new = machine.append(&vec![3; page - 32], Durability::Sync).unwrap();
        // Written and synced; the power goes with the mark, which would hide what is behind.
        disk.fail_after(2, Fault::PowerCut);
        machine.committer.step();
        assert_eq!(machine.log.marks.get().durable, new);
        drop(machine);
        opens_with(&disk.after_power_cut(&mut Random::new(seed)), 1);
    }
}

#[test]
fn a_missing_checkpoint_replays_all() {
    let disk = log_of_three_segments();
    disk.take(checkpoint::NAME);
    let machine = opens_with(&disk, 10);
    assert_eq!(machine.log.recovery.checkpoint, Lsn::ZERO);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let disk = log_of_three_segments();
    change(&disk, checkpoint::NAME, |bytes| bytes.fill(7));
    assert_eq!(refusal(&disk).0, Case::CheckpointDamaged);
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    for number in [1, 2, 3] {
        let disk = log_of_three_segments();
        disk.take(&name(number));
        let (case, text) = refusal(&disk);
        assert_eq!(case, Case::SegmentMissing);
        assert!(text.contains(&name(number)), "{text}");
    }
}

#[test]
fn a_missing_segment_at_the_end_is_refused_when_the_checkpoint_knows_its_frames() {
    let disk = log_of_three_segments();
    disk.take(&name(4));
    disk.take(&name(3));
    // Segment 2 is the last now, and ends well; but ten frames were synced.
    let (case, text) = refusal(&disk);
    assert_eq!(case, Case::FrameDamaged);
    assert!(text.contains("frame 9 "), "{text}");
}

#[test]
fn a_damaged_header_is_refused_whichever_segment_has_it() {
    for number in [1, 2, 3, 4] {
        let disk = log_of_three_segments();
        change(&disk, &name(number), |bytes| bytes[..4096].fill(0));
        let (case, text) = refusal(&disk);
        assert_eq!(case, Case::HeaderDamaged);
        assert!(text.contains(&format!("segment {number}:")), "{text}");
    }
}

#[test]
fn a_segment_of_the_wrong_length_is_refused() {
    let disk = log_of_three_segments();
    change(&disk, &name(2), |bytes| bytes.push(0));
    assert_eq!(refusal(&disk).0, Case::LengthWrong);
}

#[test]
fn headers_that_contradict_each_other_are_refused() {
    // A spare between segments that hold frames.
    let disk = log_of_three_segments();
    set_first(&disk, 2, 0);
    assert_eq!(refusal(&disk).0, Case::OrderWrong);
    // A segment that begins before the one before it.
    let disk = log_of_three_segments();
    set_first(&disk, 2, 9);
    set_first(&disk, 3, 5);
    assert_eq!(refusal(&disk).0, Case::OrderWrong);
    // The oldest segment begins behind the checkpoint.
    let disk = log_of_three_segments();
    set_first(&disk, 1, 2);
    assert_eq!(refusal(&disk).0, Case::OrderWrong);
}

fn set_first(disk: &SimDisk, number: u64, first: u64) {
    change(disk, &name(number), |bytes| {
        let page: &mut segment::HeaderPage = bytes.first_chunk_mut().unwrap();
        let header = Header::decode(page, number).unwrap();
        *page = Header { first: Lsn(first), ..header }.encode();
    });
}

#[test]
fn a_synced_frame_that_is_damaged_is_refused_with_its_place() {
    // In a full segment the next one knows; in the last one a later frame, or the checkpoint.
    for (segment, index, lsn) in [(1, 0, 1), (1, 3, 4), (2, 2, 7), (3, 0, 9), (3, 1, 10)] {
        let disk = log_of_three_segments();
        damage_frame(&disk, segment, index);
        let (case, text) = refusal(&disk);
        assert_eq!(case, Case::FrameDamaged);
        let offset = HEADER_PAGE_BYTES + index as u64 * 2032;
        let place = format!("segment {segment} at byte {offset}: frame {lsn} ");
        assert!(text.contains(&place), "{text}");
        assert!(text.contains(&name(segment)), "{text}");
    }
}

#[test]
fn the_mark_knows_the_last_frames_of_a_killed_server() {
    let disk = SimDisk::new(3);
    let mut machine = Machine::start(&disk).unwrap();
    machine.commit(&[1; 2000]);
    machine.commit(&[2; 2000]);
    drop(machine);
    damage_frame(&disk, 1, 1);
    assert_eq!(refusal(&disk).0, Case::FrameDamaged);
}

#[test]
fn frames_at_the_end_of_a_segment_without_room_for_a_header_are_found() {
    let disk = SimDisk::new(3);
    let mut machine = Machine::start(&disk).unwrap();
    let room = usize::try_from(SEGMENT_BYTES - HEADER_PAGE_BYTES).unwrap();
    machine.commit(&vec![1; room - 32]);
    machine.commit(&vec![2; room - 32 - 16]);
    machine.commit(b"");
    machine.close();
    let machine = opens_with(&disk, 3);
    assert_eq!(machine.log.recovery.torn_bytes, 0);
}

#[test]
fn every_case_says_what_it_is_and_what_to_do() {
    for case in [
        Case::New,
        Case::Leftover,
        Case::Reclaimed,
        Case::StoredDamaged,
        Case::Spare,
        Case::CleanEnd,
        Case::TornTail,
        Case::CheckpointMissing,
        Case::CheckpointDamaged,
        Case::SegmentMissing,
        Case::HeaderDamaged,
        Case::LengthWrong,
        Case::OrderWrong,
        Case::FrameDamaged,
    ] {
        assert!(!case.label().is_empty());
        let nothing = case.advice() == "nothing is to be done";
        assert_eq!(nothing, decide(case) == Decision::Resume, "{case:?}");
    }
}
