//! `overtaken-N.log`: versions that were stored upstream and are about to be overtaken by later ones of
//! the same turn, for shard N.
//!
//! A crash between an answer of the upstream and the mark that remembers it sends the turn again. Equal
//! versions are welcome a second time; a lower one is not: a record that was stored and then overtaken
//! would come back as rejected. So before a request that overtakes a record of its own turn, that
//! record's key and version are written here and synced. A replay that is refused a version which stands
//! here knows that it was stored. Overtaking within a turn is rare, and all else costs nothing.
//!
//! | bytes | what |
//! |---|---|
//! | 16 | the key: first half of SHA-256 over table, family, series and time |
//! | 8 | version |
//! | 4 | CRC-32 of both |
//!
//! Reading ends at the first entry that is cut short or whose checksum is wrong: what overtakes it was
//! not sent. All numbers are little-endian. A file is emptied by its shard's commit, not before
//! the log that was found at the start is executed: until then its entries may be asked for.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::marks::failed;
use crate::base::fs::sync_dir;
use crate::engine::{EngineError, ShardId};
use crate::record::TableId;
use crate::record::codec::{BUCKETS, RecordView};

const KEY_BYTES: usize = 16;
const ENTRY_BYTES: usize = KEY_BYTES + 8 + 4;

/// What names a record: its series and time. Of a hash that no sender can make collide, since a
/// collision would keep a rejection from being reported.
pub(super) type Key = [u8; KEY_BYTES];

/// The key of a record of `table`.
pub(super) fn key_of(table: TableId, record: &RecordView<'_>) -> Key {
    let mut hash = Sha256::new();
    for part in [record.family.bytes, record.series_values] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(table.0.to_le_bytes());
    hash.update(record.time_ns.to_le_bytes());
    let digest = hash.finalize();
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&digest[..KEY_BYTES]);
    key
}

/// What may be overtaken, and what was before a crash.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    /// What a crash left. Empty once its turns are executed again.
    found: Mutex<HashSet<(Key, i64)>>,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    file: File,
    is_empty: bool,
    /// Versions stored upstream since the last commit.
    stored: HashMap<Key, i64>,
}

impl Journal {
    /// Reads what a crash left in `dir`, of however many shards.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub(super) fn open(dir: &Path, shards: usize) -> Result<Self, EngineError> {
        assert!((1..=BUCKETS).contains(&shards), "checked with the settings");
        let mut found = HashSet::new();
        for at in 0..BUCKETS {
            let path = path_of(dir, at);
            if path.exists() {
                let bytes = std::fs::read(&path).map_err(|source| failed("read", &path, source))?;
                found.extend(entries(&bytes));
            }
        }
        let shards = (0..shards).map(|at| Shard::open(path_of(dir, at)).map(Mutex::new));
        let shards = shards.collect::<Result<_, _>>()?;
        sync_dir(dir).map_err(|source| failed("sync", dir, source))?;
        Ok(Self { dir: dir.to_owned(), found: Mutex::new(found), shards })
    }

    /// Hears what is about to be sent; what it overtakes is durable on return.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`]: nothing must be sent.
    pub(super) fn before(&self, shard: ShardId, records: &[(Key, i64)]) -> Result<(), EngineError> {
        self.shard(shard).before(records)
    }

    /// Hears that the upstream has stored a record.
    pub(super) fn stored(&self, shard: ShardId, record: &(Key, i64)) {
        let mut shard = self.shard(shard);
        let version = shard.stored.entry(record.0).or_insert(record.1);
        *version = record.1.max(*version);
    }

    /// Whether this version of a record was stored before a crash.
    pub(super) fn was_stored(&self, record: &(Key, i64)) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).contains(record)
    }

    /// The turn of `shard` is over and its mark durable. `is_replayed`: so is all that the log held at
    /// the start.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub(super) fn commit(&self, shard: ShardId, is_replayed: bool) -> Result<(), EngineError> {
        let mut shard = self.shard(shard);
        shard.stored.clear();
        if is_replayed { shard.empty() } else { Ok(()) }
    }

    /// All that the log held at the start is executed: what a crash left is of no more use.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`].
    pub(super) fn replayed(&self) -> Result<(), EngineError> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() {
            return Ok(());
        }
        // Those of shards that there are not any more; the others are emptied by their own commits.
        for at in self.shards.len()..BUCKETS {
            let path = path_of(&self.dir, at);
            if path.exists() {
                std::fs::remove_file(&path).map_err(|source| failed("remove", &path, source))?;
            }
        }
        found.clear();
        Ok(())
    }

    fn shard(&self, shard: ShardId) -> std::sync::MutexGuard<'_, Shard> {
        // A panic of a shard ends the server; what it leaves here is read by nobody.
        self.shards[usize::from(shard.0)].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self, EngineError> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path);
        let mut file = file.map_err(|source| failed("open", &path, source))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| failed("read", &path, source))?;
        let sound = (entries(&bytes).count() * ENTRY_BYTES) as u64;
        // Behind an entry that is cut short none would be read.
        file.set_len(sound).map_err(|source| failed("cut", &path, source))?;
        Ok(Self { path, file, is_empty: sound == 0, stored: HashMap::new() })
    }

    fn before(&mut self, records: &[(Key, i64)]) -> Result<(), EngineError> {
        let overtaken = records.iter().filter_map(|(key, version)| {
            self.stored.get(key).filter(|stored| *stored < version).map(|stored| (*key, *stored))
        });
        let bytes: Vec<u8> = overtaken.flat_map(|entry| entry_bytes(&entry)).collect();
        if bytes.is_empty() {
            return Ok(());
        }
        assert_eq!(bytes.len() % ENTRY_BYTES, 0, "entries are whole");
        self.is_empty = false;
        let done = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        done.map_err(|source| failed("write", &self.path, source))
    }

    fn empty(&mut self) -> Result<(), EngineError> {
        if self.is_empty {
            return Ok(());
        }
        self.file.set_len(0).map_err(|source| failed("empty", &self.path, source))?;
        self.is_empty = true;
        Ok(())
    }
}

fn path_of(dir: &Path, shard: usize) -> PathBuf {
    dir.join(format!("overtaken-{shard}.log"))
}

fn entry_bytes((key, version): &(Key, i64)) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..KEY_BYTES].copy_from_slice(key);
    entry[KEY_BYTES..KEY_BYTES + 8].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32fast::hash(&entry[..KEY_BYTES + 8]);
    entry[KEY_BYTES + 8..].copy_from_slice(&checksum.to_le_bytes());
    entry
}

fn entries(bytes: &[u8]) -> impl Iterator<Item = (Key, i64)> + '_ {
    bytes.chunks_exact(ENTRY_BYTES).map_while(|entry| {
        let (content, checksum) = entry.split_at(KEY_BYTES + 8);
        let expected = u32::from_le_bytes(checksum.try_into().ok()?);
        let (key, version) = content.split_at(KEY_BYTES);
        let version = i64::from_le_bytes(version.try_into().ok()?);
        (crc32fast::hash(content) == expected).then_some((key.try_into().ok()?, version))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(0);
    const A: Key = [1; KEY_BYTES];
    const B: Key = [2; KEY_BYTES];

    #[test]
    fn only_what_is_overtaken_is_written_and_a_crash_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 3).unwrap();
        journal.before(SHARD, &[(A, 1), (B, 1)]).unwrap();
        journal.stored(SHARD, &(A, 1));
        journal.stored(SHARD, &(B, 1));
        assert_eq!(std::fs::read(path_of(dir.path(), 0)).unwrap().len(), 0);
        journal.before(SHARD, &[(A, 2), (B, 1)]).unwrap();
        drop(journal);
        let after = Journal::open(dir.path(), 1).unwrap();
        assert!(after.was_stored(&(A, 1)));
        assert!(!after.was_stored(&(A, 2)) && !after.was_stored(&(B, 1)));
        // A second crash while the first is made good finds it still.
        after.commit(SHARD, false).unwrap();
        drop(after);
        let again = Journal::open(dir.path(), 1).unwrap();
        assert!(again.was_stored(&(A, 1)));
        again.replayed().unwrap();
        again.commit(SHARD, true).unwrap();
        assert!(!again.was_stored(&(A, 1)));
        drop(again);
        assert!(!Journal::open(dir.path(), 1).unwrap().was_stored(&(A, 1)));
    }

    #[test]
    fn an_entry_that_was_cut_short_is_none_and_hides_none_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let whole = [entry_bytes(&(A, 1)), entry_bytes(&(B, 1))].concat();
        for length in ENTRY_BYTES..whole.len() {
            std::fs::write(path_of(dir.path(), 0), &whole[..length]).unwrap();
            let journal = Journal::open(dir.path(), 1).unwrap();
            assert!(journal.was_stored(&(A, 1)) && !journal.was_stored(&(B, 1)), "{length}");
            journal.stored(SHARD, &(B, 5));
            journal.before(SHARD, &[(B, 6)]).unwrap();
            drop(journal);
            assert!(Journal::open(dir.path(), 1).unwrap().was_stored(&(B, 5)), "{length}");
        }
    }
}
