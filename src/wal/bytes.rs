//! A segment that is in memory, as bytes nobody vouches for: for whoever has a part of a log and no
//! directory, and for tests that try every byte.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io;

use super::disk::DiskFile;
use super::map::{Access, Map};
use super::scan::{self, Scan, Step};
use crate::base::lsn::Lsn;

/// Number and payload of frames.
pub type Frames = Vec<(Lsn, Vec<u8>)>;

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Each frame, in order.
    pub frames: Frames,
    /// Where the last of them ends.
    pub end: u64,
    /// Frames behind `end` with a valid header: they were written, and something before them is gone.
    pub frames_behind: u64,
    /// The last frame that any header behind `end` knows to be synced.
    pub durable_behind: Lsn,
}

/// Walks over the frames of segment `number`, given as the bytes of its file; `None` when its header
/// is not valid. Costs a search of all that stands behind the last frame.
pub fn walk(bytes: &[u8], number: u64) -> Option<Walked> {
    walk_file(&Segment(bytes.to_vec()), number).expect("memory can be read")
}

/// Every sound frame of that segment, those behind damage included, as [`super::salvage`] keeps them:
/// numbers ascend, and may have gaps. `None` when its header is not valid.
pub fn sound(bytes: &[u8], number: u64) -> Option<Frames> {
    sound_in(&Segment(bytes.to_vec()), number).expect("memory can be read")
}

fn walk_file(file: &Segment, number: u64) -> io::Result<Option<Walked>> {
    let Some(header) = scan::read_header(file, number)? else { return Ok(None) };
    let mut scan = Scan::new(&header);
    let mut frames = Vec::new();
    while let Step::Frame(header) = scan.step(file)? {
        frames.push((header.lsn, scan.payload(file, &header)?.to_vec()));
    }
    let end = scan.offset();
    assert!(end <= header.bytes, "frames lie in their segment");
    let behind = scan.behind(file)?;
    Ok(Some(Walked { frames, end, frames_behind: behind.frames, durable_behind: behind.durable }))
}

fn sound_in(file: &Segment, number: u64) -> io::Result<Option<Frames>> {
    let Some(header) = scan::read_header(file, number)? else { return Ok(None) };
    let mut scan = Scan::new(&header);
    let mut frames: Frames = Vec::new();
    loop {
        while let Step::Frame(header) = scan.step(file)? {
            assert!(frames.last().is_none_or(|(last, _)| *last < header.lsn), "numbers ascend");
            frames.push((header.lsn, scan.payload(file, &header)?.to_vec()));
        }
        let before = scan.expected();
        if !scan.skip(file, None)? {
            return Ok(Some(frames));
        }
        assert!(scan.expected() > before, "what is skipped is not found again");
    }
}

/// The bytes as a file that can be read.
#[derive(Debug)]
struct Segment(Vec<u8>);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

impl DiskFile for Segment {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn modified_ns(&self) -> io::Result<i64> {
        Ok(0)
    }

    fn allocate(&self, _bytes: u64) -> io::Result<()> {
        read_only()
    }

    fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        read_only()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.0.get(offset..).unwrap_or_default();
        let read = buffer.iter_mut().zip(rest).map(|(to, from)| *to = *from).count();
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }

    fn forget_cached(&self) -> io::Result<()> {
        Ok(())
    }

    fn map(&self, _bytes: u64, _access: Access) -> io::Result<Option<Map>> {
        Ok(None)
    }
}
