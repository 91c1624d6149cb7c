//! Damage to a log that lies still: every truncation, every flipped bit, every lost or misplaced
//! sector. A start either refuses or serves every frame as it was appended.
//!
//! `TIDEGATE_DAMAGE_BYTES` is how many bytes of frames a segment has room for. The time grows with its
//! square: so many more bits, each tried by a start that reads so much more.

use std::collections::BTreeMap;
use std::ops::Range;

use super::super::disk::sim::{Random, SimDisk};
use super::super::segment::{HEADER_PAGE_BYTES, name};
use super::super::{WalError, checkpoint, prepare};
use super::{Machine, number_from, payload, tell};
use crate::base::lsn::Lsn;

/// Room for frames in a segment: small enough to try every bit.
const ROOM_BYTES: u64 = 1024;

/// Frames written: some segments full of them.
const FRAMES: u64 = 40;

/// Of so many parts of the room, one is the longest payload.
const PAYLOAD_PART: u64 = 17;

/// Where the header page has something; the rest of it is zeros that nobody reads.
const HEADER_COPIES: [Range<usize>; 2] = [0..48, 2048..2096];

type Frames = BTreeMap<Lsn, Vec<u8>>;

/// How the server ended that left the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It closed.
    Closed,
    /// It was killed when it had nothing to do.
    Killed,
}

/// A log and what is in it.
fn written(end: End) -> (SimDisk, Frames) {
    let disk = SimDisk::new(7);
    let mut machine = start(&disk).unwrap();
    let mut random = Random::new(7);
    let mut frames = Frames::new();
    for _ in 0..FRAMES {
        let payload = payload(&mut random, room_bytes() / PAYLOAD_PART);
        frames.insert(machine.commit(&payload), payload);
    }
    match end {
        End::Closed => machine.close(),
        End::Killed => drop(machine),
    }
    (disk, frames)
}

fn room_bytes() -> u64 {
    number_from("TIDEGATE_DAMAGE_BYTES").unwrap_or(ROOM_BYTES)
}

fn start(disk: &SimDisk) -> Result<Machine, WalError> {
    let segment_bytes = HEADER_PAGE_BYTES + room_bytes();
    Machine::start_with(disk, segment_bytes, 100 * segment_bytes)
}

/// Whether a start refuses; if it does not, it must serve all frames. A refusal changes nothing.
fn refuses(disk: &SimDisk, frames: &Frames, what: &str) -> bool {
    let before = disk.image();
    match start(disk) {
        Ok(machine) => {
            let found = machine.read(Lsn(1)).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(&found, frames, "{what}: opened, and not what was written");
            false
        }
        Err(error) => {
            assert!(matches!(error, WalError::Damaged { .. }), "{what}: {error}");
            assert_eq!(disk.image(), before, "{what}: refused, and changed something");
            true
        }
    }
}

#[test]
fn a_segment_cut_off_at_any_byte_is_refused() {
    for end in [End::Closed, End::Killed] {
        let (disk, frames) = written(end);
        let segments = disk.segments();
        assert!(segments.len() >= 3, "several segments: {segments:?}");
        let mut cuts = 0;
        // The last one may be a spare, which holds nothing.
        for segment in &segments[..segments.len() - 1] {
            let whole = disk.bytes_of(segment);
            for length in 0..whole.len() {
                let damaged = disk.copy();
                damaged.put(segment, whole[..length].to_vec());
                let what = format!("{end:?}: {segment} cut at {length}");
                assert!(refuses(&damaged, &frames, &what), "{what}");
                cuts += 1;
            }
        }
        tell(&format!("damage: {end:?}, {} segments cut off at {cuts} places", segments.len() - 1));
    }
}

#[test]
fn a_flipped_bit_is_refused_or_harmless() {
    for end in [End::Closed, End::Killed] {
        let (disk, frames) = written(end);
        let (mut refused, mut tried) = (0, 0);
        let segments = disk.segments();
        for segment in &segments {
            let whole = disk.bytes_of(segment);
            let page = usize::try_from(HEADER_PAGE_BYTES).unwrap();
            let interesting = HEADER_COPIES.into_iter().flatten().chain(page..whole.len());
            for bit in interesting.flat_map(|byte| byte * 8..byte * 8 + 8) {
                let damaged = disk.copy();
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                damaged.put(segment, bytes);
                let what = format!("{end:?}: {segment}, bit {bit}");
                refused += u64::from(refuses(&damaged, &frames, &what));
                tried += 1;
            }
        }
        tell(&format!("damage: {end:?}, {tried} bits flipped, {refused} of them refused"));
        let frame_bits: usize =
            frames.values().map(|p| (32 + p.len().next_multiple_of(8)) * 8).sum();
        assert_eq!(refused, frame_bits as u64, "{end:?}: exactly the bits of frames matter");
    }
}

#[test]
fn a_flipped_bit_of_the_checkpoint_is_refused_or_harmless() {
    let (disk, frames) = written(End::Closed);
    let whole = disk.bytes_of(checkpoint::NAME);
    for bit in (0..48 * 8).chain(4096 * 8..(4096 + 48) * 8) {
        let damaged = disk.copy();
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        damaged.put(checkpoint::NAME, bytes);
        refuses(&damaged, &frames, &format!("checkpoint, bit {bit}"));
    }
}

#[test]
fn a_lost_or_misplaced_sector_is_refused_or_harmless() {
    const SECTOR: usize = 512;
    // Closed: a sector that holds the last frames takes the mark behind them with it, and only the
    // checkpoint of a log that was closed then knows of them.
    let (disk, frames) = written(End::Closed);
    let segments = disk.segments();
    let mut refused = 0;
    for segment in &segments {
        let whole = disk.bytes_of(segment);
        for to in 0..whole.len() / SECTOR {
            // From another place of the same file, from the same place of another, and zeros.
            let other = disk.bytes_of(&segments[0]);
            let sources =
                [&whole[..SECTOR], &whole[whole.len() - SECTOR..], &whole[4096..4096 + SECTOR]];
            let there = to * SECTOR..(to + 1) * SECTOR;
            let zeros = [0; SECTOR];
            for source in sources.into_iter().chain([&other[there.clone()], &zeros[..]]) {
                let damaged = disk.copy();
                let mut bytes = whole.clone();
                bytes[there.clone()].copy_from_slice(source);
                damaged.put(segment, bytes);
                refused +=
                    u64::from(refuses(&damaged, &frames, &format!("{segment}, sector {to}")));
            }
        }
    }
    assert!(refused > 10, "some of it matters: {refused}");
}

#[test]
fn damage_under_a_running_log_is_never_a_wrong_frame() {
    let (disk, frames) = written(End::Closed);
    let machine = start(&disk).unwrap();
    let first = name(1);
    let whole = disk.bytes_of(&first);
    let mut corrupt = 0;
    for bit in (4096 * 8..whole.len() * 8).step_by(3) {
        disk.flip(&first, bit);
        match machine.read(Lsn(1)) {
            Ok(found) => assert_eq!(found, frames, "bit {bit}"),
            Err(error) => {
                assert!(
                    matches!(error, WalError::Corrupt { segment: 1, .. }),
                    "bit {bit}: {error}"
                );
                corrupt += 1;
            }
        }
        disk.flip(&first, bit);
    }
    assert!(corrupt > 1000, "most bits are a frame's: {corrupt}");
}

#[test]
fn frames_of_another_generation_are_not_read() {
    let (other, _) = written(End::Closed);
    let disk = SimDisk::new(8);
    let mut machine = start(&disk).unwrap();
    prepare::step(&machine.log);
    machine.commit(b"the only frame");
    let own = machine.read(Lsn(1)).unwrap();
    drop(machine);
    // The same numbers at the same places, from a log whose segment has another generation.
    let page = usize::try_from(HEADER_PAGE_BYTES).unwrap();
    let end = page + 32 + 16;
    let mut bytes = disk.bytes_of(&name(1));
    bytes[end..].copy_from_slice(&other.bytes_of(&name(1))[end..]);
    disk.put(&name(1), bytes);
    assert_eq!(start(&disk).unwrap().read(Lsn(1)).unwrap(), own);
}
