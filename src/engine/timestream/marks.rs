//! `upstream.marks`: up to which frame everything is known to be stored upstream, a bucket each.
//!
//! Two slots, at bytes 0 and 4,096, written in turn, so that a write that breaks off hurts the older
//! one only:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `TGUPMARK` |
//! | 4 | version, 1 |
//! | 4 | buckets, 64 |
//! | 8 | sequence, one more than the other slot's |
//! | 64 x 8 | the last LSN of each bucket |
//! | 4 | CRC-32 of all before |
//!
//! A slot is valid if and only if magic, version, buckets and checksum are right. The valid one of the
//! higher sequence counts; none is as if nothing were known, which a replay may send again. All numbers
//! are little-endian.
//!
//! A mark is written, and synced, after each turn of a shard: 0.1 ms at the median on a disk that does
//! nothing else, 4 ms beside compilers, and an upstream takes 10 to 50 ms to answer. Shards that commit while a mark is being written are covered by
//! the next one together.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::fs::sync_dir;
use crate::base::lsn::Lsn;
use crate::engine::{EngineError, ShardId};
use crate::record::codec::{BUCKETS, Bucket};

const MAGIC: &[u8; 8] = b"TGUPMARK";
const VERSION: u32 = 1;
const HEAD_BYTES: usize = 24;
const SLOT_BYTES: usize = HEAD_BYTES + BUCKETS * 8 + 4;
/// Apart by a page, so that no write of the device touches both.
const SLOT_OFFSETS: [u64; 2] = [0, 4096];

const FILE_NAME: &str = "upstream.marks";

/// The last LSN of each bucket.
type Buckets = [u64; BUCKETS];

/// How far everything is known to be upstream.
#[derive(Debug)]
pub(super) struct Marks {
    /// What the file said at the start.
    base: Buckets,
    /// The last frame that each shard has committed since. Release and Acquire: who reads one may rely
    /// on what the shard has written before.
    shards: Vec<AtomicU64>,
    /// Every shard has executed everything up to here. Ordered as `shards` are.
    applied: AtomicU64,
    file: Mutex<Slots>,
}

#[derive(Debug)]
struct Slots {
    path: PathBuf,
    file: File,
    sequence: u64,
    written: Buckets,
}

impl Marks {
    /// Reads the marks in `dir`, or begins them there.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub(super) fn open(dir: &Path, shards: usize) -> Result<Self, EngineError> {
        assert!((1..=BUCKETS).contains(&shards), "checked with the settings");
        let path = dir.join(FILE_NAME);
        let file = open_file(&path, dir).map_err(|source| failed("open", &path, source))?;
        let read = SLOT_OFFSETS.map(|offset| read_slot(&file, offset));
        let (sequence, base) =
            read.into_iter().flatten().max_by_key(|slot| slot.0).unwrap_or((0, [0; BUCKETS]));
        Ok(Self {
            base,
            shards: (0..shards).map(|_| AtomicU64::new(0)).collect(),
            applied: AtomicU64::new(0),
            file: Mutex::new(Slots { path, file, sequence, written: base }),
        })
    }

    /// The last frame up to which every record of `bucket` is known to be upstream.
    pub(super) fn stored(&self, bucket: Bucket) -> Lsn {
        let shard = &self.shards[bucket.shard(self.shards.len())];
        let base = self.base[usize::from(bucket.0)];
        Lsn(base.max(shard.load(Ordering::Acquire)).max(self.applied().0))
    }

    /// Every shard has executed everything up to this frame.
    pub(super) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Acquire))
    }

    /// Hears that all shards have executed everything up to `lsn`.
    pub(super) fn set_applied(&self, lsn: Lsn) {
        self.applied.fetch_max(lsn.0, Ordering::AcqRel);
    }

    /// Hears that `shard` has everything up to `lsn` upstream or in the reject sink. On return that is
    /// known after a crash too.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`]: a crash would send again what was committed since the last mark.
    pub(super) fn commit(&self, shard: ShardId, lsn: Lsn) -> Result<(), EngineError> {
        let own = usize::from(shard.0);
        let before = self.shards[own].fetch_max(lsn.0, Ordering::AcqRel);
        assert!(before <= lsn.0, "a shard goes through the log in order");
        let mut slots = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let covers = |bucket: Bucket| slots.written[usize::from(bucket.0)] >= lsn.0;
        // Whoever wrote while this shard waited for the lock has written its mark, too.
        if Bucket::all().filter(|b| b.shard(self.shards.len()) == own).all(covers) {
            return Ok(());
        }
        let mut now = [0; BUCKETS];
        for bucket in Bucket::all() {
            now[usize::from(bucket.0)] = self.stored(bucket).0;
        }
        slots.write(&now)
    }
}

impl Slots {
    fn write(&mut self, marks: &Buckets) -> Result<(), EngineError> {
        assert!(self.written.iter().zip(marks).all(|(old, new)| old <= new), "marks only grow");
        let sequence = self.sequence + 1;
        let mut bytes = Vec::with_capacity(SLOT_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&64_u32.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        for mark in marks {
            bytes.extend_from_slice(&mark.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        assert_eq!(bytes.len(), SLOT_BYTES, "a slot has one size");
        let offset = SLOT_OFFSETS[usize::from(sequence % 2 == 1)];
        let done = self.file.write_all_at(&bytes, offset).and_then(|()| self.file.sync_data());
        done.map_err(|source| failed("write", &self.path, source))?;
        self.sequence = sequence;
        self.written = *marks;
        Ok(())
    }
}

const _: () = assert!(BUCKETS == 64 && SLOT_BYTES <= 4096);

fn open_file(path: &Path, dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    file.sync_all()?;
    sync_dir(dir)?;
    Ok(file)
}

fn read_slot(file: &File, offset: u64) -> Option<(u64, Buckets)> {
    let mut bytes = [0; SLOT_BYTES];
    // A file that ends before is one that was never written so far.
    file.read_exact_at(&mut bytes, offset).ok()?;
    let (content, checksum) = bytes.split_at(SLOT_BYTES - 4);
    let checksum = u32::from_le_bytes(checksum.try_into().ok()?);
    let word = |at: usize| content[at..at + 4].try_into().map(u32::from_le_bytes);
    let long = |at: usize| content[at..at + 8].try_into().map(u64::from_le_bytes);
    let is_ours = content.starts_with(MAGIC) && word(8).ok()? == VERSION && word(12).ok()? == 64;
    if !is_ours || crc32fast::hash(content) != checksum {
        return None;
    }
    let mut marks = [0; BUCKETS];
    for (at, mark) in marks.iter_mut().enumerate() {
        *mark = long(HEAD_BYTES + at * 8).ok()?;
    }
    Some((long(16).ok()?, marks))
}

/// A failure of a file of this engine.
pub(super) fn failed(what: &'static str, path: &Path, source: io::Error) -> EngineError {
    EngineError::Io { what, path: path.display().to_string(), source: Arc::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S0: ShardId = ShardId(0);
    const S1: ShardId = ShardId(1);

    fn all(marks: &Marks) -> Vec<u64> {
        Bucket::all().map(|bucket| marks.stored(bucket).0).collect()
    }

    #[test]
    fn what_a_shard_committed_is_known_after_a_restart_with_other_shards() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path(), 2).unwrap();
        marks.commit(S0, Lsn(7)).unwrap();
        marks.commit(S1, Lsn(9)).unwrap();
        let expected: Vec<u64> =
            Bucket::all().map(|b| if b.shard(2) == 0 { 7 } else { 9 }).collect();
        assert_eq!(all(&marks), expected);
        drop(marks);
        assert_eq!(all(&Marks::open(dir.path(), 5).unwrap()), expected);
    }

    #[test]
    fn an_idle_shard_follows_what_all_have_executed() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path(), 2).unwrap();
        marks.set_applied(Lsn(5));
        marks.commit(S0, Lsn(6)).unwrap();
        drop(marks);
        let marks = Marks::open(dir.path(), 2).unwrap();
        assert_eq!(all(&marks).iter().filter(|&&mark| mark == 5).count(), 32);
    }

    #[test]
    fn a_write_that_broke_off_leaves_the_marks_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(dir.path(), 1).unwrap();
        for lsn in 1..=4 {
            marks.commit(S0, Lsn(lsn)).unwrap();
        }
        drop(marks);
        let path = dir.path().join(FILE_NAME);
        let whole = std::fs::read(&path).unwrap();
        // Sequence 4 is in the first slot; any byte of it may be wrong.
        for at in 0..SLOT_BYTES {
            let mut torn = whole.clone();
            torn[at] ^= 0x40;
            std::fs::write(&path, torn).unwrap();
            assert_eq!(all(&Marks::open(dir.path(), 1).unwrap()), [3; BUCKETS], "byte {at}");
        }
        std::fs::write(&path, &whole[..0]).unwrap();
        assert_eq!(all(&Marks::open(dir.path(), 1).unwrap()), [0; BUCKETS]);
    }
}
