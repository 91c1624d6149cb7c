//! One segment: a file of fixed size, a page of header and then frames.
//!
//! The file is called by its number, 20 decimal digits and `.wal`. Its first 4096 bytes hold the
//! header twice, at offset 0 and at 2048; the rest of the page is zero. Frames begin at 4096.
//!
//! | offset | bytes | field | content |
//! |---:|---:|---|---|
//! | 0 | 8 | magic | `TGATEWAL` |
//! | 8 | 4 | version | 1 |
//! | 12 | 4 | check | CRC-32 of the other 44 bytes |
//! | 16 | 8 | number | the segment's number, from 1, as in its name |
//! | 24 | 8 | generation | random, another one each time the file begins a new life |
//! | 32 | 8 | first | the first frame's LSN; 0 while the segment is a spare |
//! | 40 | 8 | bytes | the file's length |
//!
//! A header is valid if and only if magic, version and check hold, the number is the file name's, and
//! `first` is at most 2^63.
//! Of two valid copies the one with the larger `first` counts: the page is written in one piece, and
//! a power cut may leave one copy from before. Each copy lies within one sector of 512 bytes.
//!
//! A header with `first` set is synced before the first frame of the segment is written, and after
//! all frames before `first` are synced. So `first` says two things: where this segment begins, and
//! that everything before it reached the disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex, OnceLock};

use super::disk::{Disk, DiskFile};
use super::frame::Seed;
use super::map::{Access, Map};
use crate::base::lsn::Lsn;

/// Bytes before the first frame.
pub(super) const HEADER_PAGE_BYTES: u64 = PAGE_BYTES as u64;

const PAGE_BYTES: usize = 4096;

/// The version this program writes, and the only one it reads.
const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"TGATEWAL";

/// Bytes of one copy of the header.
const HEADER_BYTES: usize = 48;

/// Where the copies stand.
const COPIES: [usize; 2] = [0, 2048];

/// What a segment's name ends in.
const SUFFIX: &str = ".wal";

/// Bytes of the zeros that fill a new segment, a write.
const ZEROS_BYTES: usize = 1 << 20;

/// The header page as it lies in the file.
pub(super) type HeaderPage = [u8; PAGE_BYTES];

/// A header page that is not valid, to be read into.
pub(super) const BLANK_HEADER_PAGE: HeaderPage = [0; PAGE_BYTES];

/// The name of segment `number`.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The number in a segment's name; `None` for other files.
pub(super) fn number_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|number| *number > 0)
}

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) generation: u64,
    /// [`Lsn::ZERO`] while the segment is a spare.
    pub(super) first: Lsn,
    /// The file's length.
    pub(super) bytes: u64,
}

impl Header {
    /// The page as it lies in the file.
    pub(super) fn encode(&self) -> HeaderPage {
        let mut copy = [0; HEADER_BYTES];
        copy[..8].copy_from_slice(&MAGIC);
        copy[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in
            [(16, self.number), (24, self.generation), (32, self.first.0), (40, self.bytes)]
        {
            copy[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let check = check_of(&copy);
        copy[12..16].copy_from_slice(&check.to_le_bytes());
        let mut page = BLANK_HEADER_PAGE;
        for at in COPIES {
            page[at..at + HEADER_BYTES].copy_from_slice(&copy);
        }
        assert_eq!(Self::decode(&page, self.number), Some(*self), "a header reads back");
        page
    }

    /// Reads a page that may be anything, of the file named by `number`.
    pub(super) fn decode(page: &HeaderPage, number: u64) -> Option<Self> {
        let copies = COPIES.map(|at| Self::decode_copy(&page[at..at + HEADER_BYTES]));
        copies.into_iter().flatten().filter(|h| h.number == number).max_by_key(|h| h.first)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let long = |at: usize| copy[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let sound = copy[..8] == MAGIC
            && copy[8..12] == VERSION.to_le_bytes()
            && copy[12..16] == check_of(copy).to_le_bytes();
        let header =
            Self { number: long(16), generation: long(24), first: Lsn(long(32)), bytes: long(40) };
        (sound && header.first <= Lsn::LIMIT && header.bytes > HEADER_PAGE_BYTES).then_some(header)
    }

    /// The seed of the frames in the segment.
    pub(super) fn seed(&self) -> Seed {
        Seed::new(self.number, self.generation)
    }
}

fn check_of(copy: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&copy[..12]);
    hasher.update(&copy[16..HEADER_BYTES]);
    hasher.finalize()
}

/// Whether a segment that is being made can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Making {
    Underway,
    Done,
    Failed,
}

/// A segment in memory. Who holds it keeps its file from being recycled.
#[derive(Debug)]
pub(super) struct Segment {
    number: u64,
    generation: u64,
    seed: Seed,
    bytes: u64,
    file: Box<dyn DiskFile>,
    map: OnceLock<Option<Map>>,
    making: Mutex<Making>,
    made: Condvar,
    /// The directory and its lock stay as long as any segment does.
    _disk: Arc<dyn Disk>,
}

impl Segment {
    /// The segment of a file that is ready.
    pub(super) fn ready(disk: &Arc<dyn Disk>, header: Header, file: Box<dyn DiskFile>) -> Self {
        Self::new(disk, header, file, Making::Done)
    }

    /// The segment of a file that has its blocks and not yet its zeros and its name.
    pub(super) fn underway(disk: &Arc<dyn Disk>, header: Header, file: Box<dyn DiskFile>) -> Self {
        Self::new(disk, header, file, Making::Underway)
    }

    fn new(disk: &Arc<dyn Disk>, header: Header, file: Box<dyn DiskFile>, making: Making) -> Self {
        assert!(header.number > 0, "segments count from 1");
        Self {
            number: header.number,
            generation: header.generation,
            seed: header.seed(),
            bytes: header.bytes,
            file,
            map: OnceLock::new(),
            making: Mutex::new(making),
            made: Condvar::new(),
            _disk: Arc::clone(disk),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    /// The file's length.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn file(&self) -> &dyn DiskFile {
        self.file.as_ref()
    }

    /// The segment's map, made at the first call; `None` on a disk without maps.
    pub(super) fn map(&self, access: Access) -> io::Result<Option<&Map>> {
        if let Some(map) = self.map.get() {
            return Ok(map.as_ref());
        }
        let map = self.file.map(self.bytes, access)?;
        // Another thread may have been faster; then its map stays and this one goes.
        Ok(self.map.get_or_init(|| map).as_ref())
    }

    /// Bytes of the map that [`Segment::map`] made: of frames up to the durable mark, and of nothing
    /// else. `None` outside it, and when there is none.
    pub(super) fn mapped(&self, offset: u64, length: usize) -> Option<&[u8]> {
        self.map.get()?.as_ref()?.bytes(offset, length)
    }

    /// Writes and syncs the header of a spare that becomes the segment for the frames from `first`.
    pub(super) fn begin(&self, first: Lsn) -> io::Result<()> {
        assert!(first > Lsn::ZERO, "a segment begins with a frame");
        let header =
            Header { number: self.number, generation: self.generation, first, bytes: self.bytes };
        self.file.write_at(0, &header.encode())?;
        self.file.sync()
    }

    /// Says that the file is ready.
    pub(super) fn set_made(&self) {
        self.end_making(Making::Done);
    }

    /// Says that the file never will be ready.
    pub(super) fn set_failed(&self) {
        self.end_making(Making::Failed);
    }

    fn end_making(&self, end: Making) {
        let mut making = super::locked(&self.making);
        assert_eq!(*making, Making::Underway, "a segment is made once");
        *making = end;
        self.made.notify_all();
    }

    /// Waits until the file is ready; `false` when it never will be.
    pub(super) fn wait_made(&self) -> bool {
        let mut making = super::locked(&self.making);
        while *making == Making::Underway {
            making = super::waited(self.made.wait(making));
        }
        *making == Making::Done
    }
}

/// Fills the frames' part of a file with zeros, once, so that writing frames converts no extents:
/// measured at 2.6 times the speed of a file that was only allocated.
pub(super) fn fill_with_zeros(file: &dyn DiskFile, bytes: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = HEADER_PAGE_BYTES;
    while offset < bytes {
        let part = (bytes - offset).min(ZEROS_BYTES as u64);
        let part = usize::try_from(part).expect("at most ZEROS_BYTES");
        file.write_at(offset, &zeros[..part])?;
        offset += part as u64;
    }
    assert_eq!(offset, bytes, "filled to the end and not beyond");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header { number: 3, generation: 77, first: Lsn(10), bytes: 1 << 20 };

    #[test]
    fn a_header_reads_back_under_its_own_number_only() {
        let page = HEADER.encode();
        assert_eq!(Header::decode(&page, 3), Some(HEADER));
        assert_eq!(Header::decode(&page, 4), None);
        assert_eq!(Header::decode(&[0; 4096], 3), None);
    }

    #[test]
    fn either_copy_serves_when_the_other_is_damaged() {
        let good = HEADER.encode();
        for bit in 0..good.len() * 8 {
            let mut page = good;
            page[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&page, 3), Some(HEADER), "bit {bit}");
        }
    }

    #[test]
    fn of_a_page_written_in_part_the_later_copy_counts() {
        let spare = Header { first: Lsn::ZERO, ..HEADER }.encode();
        let mut page = HEADER.encode();
        page[..512].copy_from_slice(&spare[..512]);
        assert_eq!(Header::decode(&page, 3), Some(HEADER));
    }

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!(name(3), "00000000000000000003.wal");
        assert_eq!(number_in(&name(u64::MAX)), Some(u64::MAX));
        for other in ["3.wal", "00000000000000000003.tmp", "checkpoint", "00000000000000000000.wal"]
        {
            assert_eq!(number_in(other), None, "{other}");
        }
    }
}
