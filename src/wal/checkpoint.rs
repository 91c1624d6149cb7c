//! The file `checkpoint`: up to which frame everything is stored outside the log.
//!
//! 8192 bytes, made once. A record stands at offset 0 or at 4096; each one written replaces the older
//! of the two and is synced before anything is done in its name.
//!
//! | offset | bytes | field | content |
//! |---:|---:|---|---|
//! | 0 | 8 | magic | `TGATECKP` |
//! | 8 | 4 | version | 1 |
//! | 12 | 4 | check | CRC-32 of the other 44 bytes |
//! | 16 | 8 | turn | counts the records written; the larger of two counts, an odd one stands at 4096 |
//! | 24 | 8 | checkpoint | the last frame that is stored outside the log |
//! | 32 | 8 | segment | the oldest segment that is still needed |
//! | 40 | 8 | durable | the last frame known to be synced when this was written |
//!
//! A record is valid if and only if magic, version and check hold, `checkpoint <= durable < 2^63`, and
//! its turn belongs to its place. A power cut can spoil only the record being written, and then the one
//! before counts, whose segments are still there: they are reclaimed after the sync.
//!
//! The file is rewritten in place, not replaced by a new one: giving space back must need no space.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile};
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;

/// The file's name.
pub(super) const NAME: &str = "checkpoint";

const MAGIC: [u8; 8] = *b"TGATECKP";
const VERSION: u32 = 1;
const RECORD_BYTES: usize = 48;
const PLACE_BYTES: u64 = 4096;
const PLACES: u64 = 2;
const FILE_BYTES: u64 = PLACE_BYTES * PLACES;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) turn: u64,
    pub(super) checkpoint: Lsn,
    /// The oldest segment still needed.
    pub(super) segment: u64,
    /// The last frame known to be synced; `checkpoint` or later.
    pub(super) durable: Lsn,
}

impl Record {
    fn encode(&self) -> [u8; RECORD_BYTES] {
        assert!(self.checkpoint <= self.durable, "only what is durable is stored elsewhere");
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        for (at, value) in
            [(16, self.turn), (24, self.checkpoint.0), (32, self.segment), (40, self.durable.0)]
        {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let check = check_of(&bytes);
        bytes[12..16].copy_from_slice(&check.to_le_bytes());
        assert_eq!(Self::decode(&bytes), Some(*self), "a record reads back");
        bytes
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let long =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
        let sound = bytes[..8] == MAGIC
            && bytes[8..12] == VERSION.to_le_bytes()
            && bytes[12..16] == check_of(bytes).to_le_bytes();
        let record = Self {
            turn: long(16),
            checkpoint: Lsn(long(24)),
            segment: long(32),
            durable: Lsn(long(40)),
        };
        (sound && record.checkpoint <= record.durable && record.durable < Lsn::LIMIT)
            .then_some(record)
    }

    fn place(&self) -> u64 {
        self.turn % PLACES * PLACE_BYTES
    }
}

fn check_of(bytes: &[u8; RECORD_BYTES]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

/// The file, open, and the record that counts.
#[derive(Debug)]
pub(super) struct File {
    file: Box<dyn DiskFile>,
    record: Record,
}

impl File {
    /// Makes the file, durably. One that is there is replaced.
    pub(super) fn create(disk: &Arc<dyn Disk>, record: Record) -> io::Result<Self> {
        let temporary = NAME.to_owned() + TEMPORARY_SUFFIX;
        let file = disk.create(&temporary)?;
        file.allocate(FILE_BYTES)?;
        file.write_at(record.place(), &record.encode())?;
        file.sync()?;
        disk.publish(&temporary, NAME)?;
        Ok(Self { file, record })
    }

    /// The record that counts.
    pub(super) fn record(&self) -> Record {
        self.record
    }

    /// Writes a new record, durably. On failure the log is to be poisoned: whether it was written is
    /// unknown.
    pub(super) fn write(&mut self, checkpoint: Lsn, segment: u64, durable: Lsn) -> io::Result<()> {
        let last = self.record;
        assert!(last.checkpoint <= checkpoint, "a checkpoint only moves forward");
        assert!(last.segment <= segment, "a segment that was given up stays given up");
        assert!(last.durable <= durable, "what is durable stays durable");
        let record = Record { turn: last.turn + 1, checkpoint, segment, durable };
        self.file.write_at(record.place(), &record.encode())?;
        self.file.sync()?;
        self.record = record;
        Ok(())
    }
}

/// What was found under the file's name.
#[derive(Debug)]
pub(super) enum Found {
    /// No file.
    Missing,
    /// A file without a valid record.
    Damaged,
    /// A record that counts.
    Sound(File),
}

/// Looks for the file, as the device has it.
pub(super) fn open(disk: &Arc<dyn Disk>) -> io::Result<Found> {
    let file = match disk.open(NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    // The page cache may hold a record that a failed write-back never brought to the device.
    file.sync()?;
    file.forget_cached()?;
    let record = read(file.as_ref())?;
    Ok(record.map_or(Found::Damaged, |record| Found::Sound(File { file, record })))
}

/// The record that counts in an open file, if there is one.
pub(super) fn read(file: &dyn DiskFile) -> io::Result<Option<Record>> {
    let mut newest: Option<Record> = None;
    for place in 0..PLACES {
        let mut bytes = [0; RECORD_BYTES];
        let offset = place * PLACE_BYTES;
        let read = file.read_at(offset, &mut bytes)?;
        let record = Record::decode(&bytes).filter(|r| read == RECORD_BYTES && r.place() == offset);
        newest = newest.into_iter().chain(record).max_by_key(|r| r.turn);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: Record = Record { turn: 4, checkpoint: Lsn(7), segment: 2, durable: Lsn(9) };

    #[test]
    fn every_flipped_bit_of_a_record_is_seen() {
        let good = RECORD.encode();
        assert_eq!(Record::decode(&good), Some(RECORD));
        for bit in 0..RECORD_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(&bytes), None, "bit {bit}");
        }
    }
}
