//! Walking over the frames of a segment whose bytes nobody vouches for, with `pread`.
//!
//! [`Scan`] is what recovery walks with; [`read_only`] is for tools beside a running server.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::disk::{Disk, DiskFile, RealDisk};
use super::frame::{self, HEADER_BYTES, Header, HeaderBytes, Kind, Seed};
use super::segment::{self, HEADER_PAGE_BYTES};
use super::{WalError, checkpoint};
use crate::base::lsn::Lsn;

/// Bytes read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// Walks over one segment's frames.
#[derive(Debug)]
pub(super) struct Scan {
    seed: Seed,
    /// The segment ends here.
    bytes: u64,
    /// Where the next frame should begin.
    offset: u64,
    /// The number it should have.
    expected: Lsn,
    window: Window,
}

/// What stands at the next frame's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A valid frame.
    Frame(Header),
    /// No valid frame: the end, or damage.
    End(End),
}

/// Why there is no valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The segment has no room for one.
    Room,
    /// The mark behind the last frame.
    Mark,
    /// No valid header, or one of another frame.
    Header,
    /// The frame's header; its payload is not what it heads.
    Payload(Header),
}

/// What stands behind a place without a valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Behind {
    /// The largest durable mark in a valid header.
    pub(super) durable: Lsn,
    /// Valid headers of frames.
    pub(super) frames: u64,
    /// Where the last of these frames ends, or 0.
    pub(super) end: u64,
}

impl Scan {
    /// Walks over the frames of the segment with this header. Each call is given the segment's file.
    pub(super) fn new(header: &segment::Header) -> Self {
        Self {
            seed: header.seed(),
            bytes: header.bytes,
            offset: HEADER_PAGE_BYTES,
            expected: header.first,
            window: Window { start: 0, bytes: Vec::new(), limit: header.bytes },
        }
    }

    /// Where the next frame should begin.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The number it should have.
    pub(super) fn expected(&self) -> Lsn {
        self.expected
    }

    /// Reads anew what is read next: the file may have changed.
    pub(super) fn refresh(&mut self) {
        self.window.bytes.clear();
    }

    /// The next frame, or why there is none; then the scan stays where it is.
    pub(super) fn step(&mut self, file: &dyn DiskFile) -> io::Result<Step> {
        let start = self.offset.saturating_add(HEADER_BYTES as u64);
        if start > self.bytes {
            return Ok(Step::End(End::Room));
        }
        let Some(header) = self.header_at(file, self.offset)? else {
            return Ok(Step::End(End::Header));
        };
        let end = self.offset.saturating_add(header.frame_bytes());
        if header.lsn != self.expected || end > self.bytes {
            return Ok(Step::End(End::Header));
        }
        if header.kind == Kind::Mark {
            return Ok(Step::End(End::Mark));
        }
        // The header is valid, so the length is bounded, and the frame lies in the segment.
        let body = self.window.get(file, start, header.body_bytes())?;
        if !header.heads(body) {
            return Ok(Step::End(End::Payload(header)));
        }
        self.offset = end;
        self.expected = self.expected.next();
        Ok(Step::Frame(header))
    }

    /// The payload of the frame that the last step returned.
    pub(super) fn payload(&mut self, file: &dyn DiskFile, header: &Header) -> io::Result<&[u8]> {
        let start = self.offset.saturating_sub(header.body_bytes() as u64);
        self.window.get(file, start, header.length as usize)
    }

    /// Searches the rest of the segment, behind a place without a valid frame, for valid headers of
    /// later frames. A header is enough: it proves when it was written.
    pub(super) fn behind(&mut self, file: &dyn DiskFile) -> io::Result<Behind> {
        let mut behind = Behind::default();
        let mut offset = self.offset;
        while offset.saturating_add(HEADER_BYTES as u64) <= self.bytes {
            let next = offset.saturating_add(frame::ALIGN as u64);
            let header = self.header_at(file, offset)?.filter(|header| header.lsn >= self.expected);
            if let Some(header) = header {
                behind.durable = behind.durable.max(header.durable);
                if header.kind == Kind::Frame {
                    behind.frames = behind.frames.saturating_add(1);
                    behind.end = offset.saturating_add(header.frame_bytes()).min(self.bytes);
                }
            }
            offset = next;
        }
        Ok(behind)
    }

    /// Moves to the first later frame that is sound, behind a place without one, numbered at most
    /// `until`; `false`, and nothing moved, where there is none. The seed keeps bytes of a payload from
    /// being taken for a frame.
    pub(super) fn skip(&mut self, file: &dyn DiskFile, until: Option<Lsn>) -> io::Result<bool> {
        let until = until.unwrap_or(Lsn(u64::MAX));
        let mut offset = self.offset.saturating_add(frame::ALIGN as u64);
        while offset.saturating_add(HEADER_BYTES as u64) <= self.bytes {
            let header = self.header_at(file, offset)?.filter(|header| {
                header.kind == Kind::Frame && header.lsn > self.expected && header.lsn <= until
            });
            if let Some(header) = header {
                let body = offset.saturating_add(HEADER_BYTES as u64);
                if header.heads(self.window.get(file, body, header.body_bytes())?) {
                    self.offset = offset;
                    self.expected = header.lsn;
                    return Ok(true);
                }
            }
            offset = offset.saturating_add(frame::ALIGN as u64);
        }
        Ok(false)
    }

    fn header_at(&mut self, file: &dyn DiskFile, offset: u64) -> io::Result<Option<Header>> {
        let bytes = self.window.get(file, offset, HEADER_BYTES)?;
        let header: Option<&HeaderBytes> = bytes.try_into().ok();
        Ok(header.and_then(|bytes| Header::decode(bytes, self.seed)))
    }
}

/// A stretch of the file in memory.
#[derive(Debug)]
struct Window {
    start: u64,
    bytes: Vec<u8>,
    /// The segment ends here.
    limit: u64,
}

impl Window {
    /// `length` bytes from `offset`, fewer where the file ends.
    fn get(&mut self, file: &dyn DiskFile, offset: u64, length: usize) -> io::Result<&[u8]> {
        if !self.holds(offset, length) {
            let rest = usize::try_from(self.limit.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.bytes.resize(length.max(rest.min(WINDOW_BYTES)), 0);
            let read = file.read_at(offset, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.start = offset;
        }
        let skip = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    fn holds(&self, offset: u64, length: usize) -> bool {
        let end = self.start.saturating_add(self.bytes.len() as u64);
        offset >= self.start && offset.saturating_add(length as u64) <= end
    }
}

/// Reads a segment's header; `None` unless it is valid.
pub(super) fn read_header(file: &dyn DiskFile, number: u64) -> io::Result<Option<segment::Header>> {
    let mut page = segment::BLANK_HEADER_PAGE;
    // What the file is too short for stays zero.
    file.read_at(0, &mut page)?;
    Ok(segment::Header::decode(&page, number))
}

/// The numbers of the segments among these names, in order.
pub(super) fn numbers(names: &[String]) -> BTreeMap<u64, &str> {
    names.iter().filter_map(|name| Some((segment::number_in(name)?, name.as_str()))).collect()
}

/// Reads the frames of the log in `dir` that are not reclaimed, in order, without a lock and without
/// writing anything, so also beside the server that has it. The frames of the last segment end where
/// the next is not valid and nobody knows it to be synced: beside a running server it may be one that
/// is just being written.
///
/// # Errors
///
/// [`WalError::Io`] when the directory or the checkpoint cannot be read. From the iterator:
/// [`WalError::Corrupt`] at a frame that is not valid or not there although it was synced, and
/// [`WalError::Io`]; it ends there.
pub fn read_only(dir: &Path) -> Result<Frames, WalError> {
    let disk = RealDisk::read_only(dir);
    let mut frames = Frames { disk, open: None, ended: false };
    let failed = |error| WalError::io("read", dir.to_owned(), error);
    let from = frames.checkpoint().map_err(failed)?.map_or(0, |record| record.segment);
    frames.open = frames.used_from(from).map_err(failed)?;
    Ok(frames)
}

/// The same, from the segment that holds frame `from`, which may be one whose frames are stored
/// elsewhere and whose file was not used again yet; where that is gone, from the oldest that is left.
/// Where files between two such segments were used again, their frames are passed over.
///
/// # Errors
///
/// As of [`read_only`].
pub fn read_from(dir: &Path, from: Lsn) -> Result<Frames, WalError> {
    let disk = RealDisk::read_only(dir);
    let failed = |error| WalError::io("read", dir.to_owned(), error);
    let names = disk.list().map_err(failed)?;
    let mut frames = Frames { disk, open: None, ended: false };
    for number in numbers(&names).into_keys() {
        let Some(open) = frames.used_from(number).map_err(failed)? else { break };
        if frames.open.is_some() && open.header.first > from {
            break;
        }
        frames.open = Some(open);
    }
    Ok(frames)
}

/// The frames of a log; see [`read_only`] and [`read_from`].
#[derive(Debug)]
pub struct Frames {
    disk: RealDisk,
    /// The segment that is read; `None` in an empty log.
    open: Option<Open>,
    ended: bool,
}

/// A segment that is read.
#[derive(Debug)]
struct Open {
    file: Box<dyn DiskFile>,
    header: segment::Header,
    scan: Scan,
}

impl Iterator for Frames {
    type Item = Result<(Lsn, Vec<u8>), WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().transpose();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Frames {
    /// The next frame, in this segment or a later one; `None` at the end of the log.
    fn read(&mut self) -> Result<Option<(Lsn, Vec<u8>)>, WalError> {
        loop {
            let Some(mut open) = self.open.take() else { return Ok(None) };
            let number = open.header.number;
            let path = self.disk.path(&segment::name(number));
            let failed = |error| WalError::io("read", path.clone(), error);
            let mut frame = open.next().map_err(failed)?;
            let follows = match frame {
                Some(_) => None,
                None => self.used_from(number.saturating_add(1)).map_err(failed)?,
            };
            if follows.is_some() {
                // A later segment says that this one is complete. Frames written after the look
                // above, but before that one began, are seen by a second look.
                open.scan.refresh();
                frame = open.next().map_err(failed)?;
            }
            if frame.is_some() {
                self.open = Some(open);
                return Ok(frame);
            }
            if follows.is_none() && self.is_synced(&mut open).map_err(failed)? {
                // Whoever says that it was synced was written after it: what is seen now counts.
                open.scan.refresh();
                frame = open.next().map_err(failed)?;
                let (offset, lsn) = (open.scan.offset(), open.scan.expected());
                self.open = Some(open);
                let corrupt = WalError::Corrupt { segment: number, offset, lsn };
                return frame.map(Some).ok_or(corrupt);
            }
            if let Some(follows) = &follows
                && open.scan.expected() < follows.header.first
                && !self.is_reclaimed(follows.header.first.previous()).map_err(failed)?
            {
                let (offset, lsn) = (open.scan.offset(), open.scan.expected());
                return Err(WalError::Corrupt { segment: number, offset, lsn });
            }
            self.open = follows;
        }
    }

    /// Whether anything says that the frame at whose place the scan stands was synced. That frame is
    /// not valid, and no later segment is there.
    fn is_synced(&self, open: &mut Open) -> io::Result<bool> {
        let synced = self.checkpoint()?.map_or(Lsn::ZERO, |record| record.durable);
        let behind = open.scan.behind(open.file.as_ref())?;
        Ok(open.scan.expected() <= synced.max(behind.durable))
    }

    /// Whether all frames up to `lsn` are stored elsewhere, so that their files may be used again.
    fn is_reclaimed(&self, lsn: Lsn) -> io::Result<bool> {
        Ok(self.checkpoint()?.is_some_and(|record| lsn <= record.checkpoint))
    }

    fn checkpoint(&self) -> io::Result<Option<checkpoint::Record>> {
        match self.disk.open(checkpoint::NAME) {
            Ok(file) => checkpoint::read(file.as_ref()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens the first segment from `number` on that holds frames.
    fn used_from(&self, number: u64) -> io::Result<Option<Open>> {
        let names = self.disk.list()?;
        for number in numbers(&names).into_keys().filter(|found| *found >= number) {
            let file = match self.disk.open(&segment::name(number)) {
                Ok(file) => file,
                // Used again since the names were listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let header = read_header(file.as_ref(), number)?;
            if let Some(header) = header.filter(|header| header.first > Lsn::ZERO) {
                // Not beyond the end of a file that was cut: each look there would read in vain.
                let readable = segment::Header { bytes: header.bytes.min(file.bytes()?), ..header };
                return Ok(Some(Open { file, header, scan: Scan::new(&readable) }));
            }
        }
        Ok(None)
    }
}

impl Open {
    fn next(&mut self) -> io::Result<Option<(Lsn, Vec<u8>)>> {
        let Step::Frame(header) = self.scan.step(self.file.as_ref())? else { return Ok(None) };
        let payload = self.scan.payload(self.file.as_ref(), &header)?.to_vec();
        Ok(Some((header.lsn, payload)))
    }
}
