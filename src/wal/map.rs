//! The map of a segment: the only file of the project with `unsafe` in it.
//!
//! # Why the map is sound
//!
//! Memory that belongs to a file can be changed, cut off or fail to load under the program. Each of
//! the three is ruled out by a rule of the log:
//!
//! 1. **Nobody else writes.** The directory is locked (`flock`) as long as any segment of it is in
//!    memory, and the lock belongs to the segments: it is released when the last one is dropped.
//! 2. **Never cut off.** A segment is allocated and zero-filled in full before it has its name, and
//!    no file of the log is truncated. A map never reaches beyond the file's length, which is
//!    checked against the header when the segment is opened.
//! 3. **No hole.** Every page has a block on the disk, so a load or store needs no new space and a
//!    full disk is no `SIGBUS`; the file systems where rewriting needs space are refused by `open`.
//! 4. **Bytes that are lent out do not change.** [`Map::bytes`] is asked only for frames up to the
//!    durable mark. Such a frame is never written again until its segment is recycled, and a segment
//!    is recycled only when no [`super::Frame`] and no [`super::Reader`] holds it. No reference ever
//!    covers bytes that the commit thread still writes: a reference is made for one frame, never for
//!    the whole map, which is held as a raw address.
//! 5. **One writer.** [`Map::write`] is called by the commit thread alone, and only for bytes behind
//!    the durable mark.
//!
//! `pwrite` and a shared map see the same pages on ext4, XFS and tmpfs (one page cache), and the
//! commit thread publishes the durable mark (release) after its `pwrite` returned, before a reader
//! that saw it (acquire) looks.
//!
//! What stays: a sector that cannot be read is `SIGBUS` on a mapped load. Recovery reads every
//! segment with `pread` first, so that happens only to a sector that goes bad while the server runs;
//! the process then ends, and the next start names segment and offset.
//!
//! A store is not durable; only a sync is. Nothing that is read here is trusted before its check.

#![expect(unsafe_code, reason = "a map of a file has no safe form; the rules are above")]

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

/// What a map may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and storing.
    Write,
}

/// The bytes of one segment file, shared with the page cache.
#[derive(Debug)]
pub struct Map {
    raw: MmapRaw,
    access: Access,
}

impl Map {
    /// Maps the first `bytes` of `file`.
    ///
    /// # Errors
    ///
    /// When the file is shorter, or the system refuses.
    pub fn new(file: &File, bytes: u64, access: Access) -> io::Result<Self> {
        if file.metadata()?.len() < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let mut options = MmapOptions::new();
        options.len(bytes);
        let raw = match access {
            Access::Read => options.map_raw_read_only(file)?,
            Access::Write => options.map_raw(file)?,
        };
        assert_eq!(raw.len(), bytes, "a map is as long as it was asked to be");
        Ok(Self { raw, access })
    }

    /// `length` bytes from `offset` on, all of them in frames up to the durable mark; `None` when the
    /// map ends before.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Option<&[u8]> {
        let offset = self.within(offset, length)?;
        // SAFETY: rule 2: `within` has checked that offset + length lies in the map.
        let start = unsafe { self.raw.as_ptr().add(offset) };
        // SAFETY: rules 1 and 4: the bytes are mapped, initialised, and nobody changes them while
        // the reference lives, since it borrows the map, which its segment owns.
        Some(unsafe { std::slice::from_raw_parts(start, length) })
    }

    /// Stores `bytes` at `offset`, behind the durable mark. Called by the commit thread only.
    ///
    /// # Errors
    ///
    /// When the pages cannot be had, a full disk among the reasons; nothing was stored.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert_eq!(self.access, Access::Write, "a map for reading is not written");
        let offset = self
            .within(offset, bytes.len())
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // The kernel makes the pages writable here and can refuse; a store could only raise SIGBUS.
        self.raw.advise_range(Advice::PopulateWrite, offset, bytes.len())?;
        // SAFETY: rule 2: `within` has checked that offset + length lies in the map.
        let start = unsafe { self.raw.as_mut_ptr().add(offset) };
        // SAFETY: rules 3, 4 and 5: the pages are there, no reference covers them, and this thread is
        // the only one that writes; `bytes` is ordinary memory, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        Ok(())
    }

    fn within(&self, offset: u64, length: usize) -> Option<usize> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(length)?;
        (end <= self.raw.len()).then_some(offset)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn file(bytes: u64) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        file
    }

    #[test]
    fn what_is_written_to_the_file_is_seen_in_the_map() {
        let file = file(8192);
        let map = Map::new(&file, 8192, Access::Read).unwrap();
        file.write_all_at(b"frame", 5000).unwrap();
        assert_eq!(map.bytes(5000, 5), Some(&b"frame"[..]));
    }

    #[test]
    fn what_is_stored_in_the_map_is_seen_in_the_file() {
        let file = file(8192);
        let map = Map::new(&file, 8192, Access::Write).unwrap();
        map.write(5000, b"frame").unwrap();
        let mut read = [0; 5];
        file.read_exact_at(&mut read, 5000).unwrap();
        assert_eq!(&read, b"frame");
        assert!(map.write(8190, b"frame").is_err());
    }

    #[test]
    fn nothing_outside_the_map_is_lent() {
        let map = Map::new(&file(4096), 4096, Access::Read).unwrap();
        assert!(map.bytes(0, 4096).is_some());
        for (offset, length) in [(0, 4097), (4096, 1), (u64::MAX, 1), (1, usize::MAX)] {
            assert_eq!(map.bytes(offset, length), None);
        }
    }

    #[test]
    fn a_file_that_is_too_short_is_not_mapped() {
        assert!(Map::new(&file(4096), 4097, Access::Read).is_err());
    }
}
