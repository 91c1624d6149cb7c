//! Objects that many frames share: one for database, table, day, shard and block of
//! [`BLOCK_FRAMES`](super::key::BLOCK_FRAMES) frames.
//!
//! The block's name is made of the frames, so a replay finds the object again, whatever its turns. The object is
//! written whole each time it grows: a crash leaves the one before or the one after, each of which says all that
//! it says. It only ever grows:
//!
//! | step | a crash behind it leaves | the replay |
//! |---|---|---|
//! | rejections found | the old object; the log has the frames | finds them again, writes the union |
//! | object written | the new object; the log has the frames | finds some or all of them again: the union is the same |
//! | frames released | the new object | does not come |
//!
//! What the object of a block says is kept in memory from one turn to the next, so that it is read once a
//! start, when the first rejection of its block comes, and after it has been forgotten to make room. Nobody
//! else writes it: a shard is one thread of the one process that has the folder.
//!
//! The union is by [number](super::entry::Id). A turn that the engine has undone and executes again finds
//! its rejections again: versions and columns that stand only ever grow, so what was refused stays refused.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;
use tracing::error;

use super::entry::{Id, sheet};
use super::key::Block;
use super::report::Report;
use crate::base::lsn::Lsn;
use crate::object::{ObjectError, Store, Trouble};

/// Bytes of objects that are kept in memory at most.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Objects that are kept in memory at most.
const KEPT_OBJECTS_MAX: usize = 1 << 12;

/// What a kept object takes beside its entries, about.
const OBJECT_BYTES: usize = 256;

/// What an entry takes beside its text, about.
const ENTRY_BYTES: usize = 64;

/// Which object: ordered by block, so that the oldest go first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    block: Block,
    /// The object's key but for its ending.
    pub(super) base: String,
    database: String,
    table: Option<String>,
}

impl Key {
    pub(super) fn of(report: &Report<'_>) -> Self {
        let (database, table) = (report.database.to_owned(), report.table().map(str::to_owned));
        Self { block: Block::of(report.lsn), base: report.shared_key(), database, table }
    }
}

/// What an object says.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    database: String,
    table: Option<String>,
    /// Each rejection as it stands in the object.
    entries: BTreeMap<Id, Vec<u8>>,
    bytes: usize,
    /// How many objects at this name cannot be read, and stay as they are.
    passed_over: u32,
}

#[derive(Deserialize)]
struct Outline<'a> {
    database: String,
    table: Option<String>,
    #[serde(borrow)]
    records: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    lines: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
struct Named {
    id: Id,
}

impl Shared {
    /// An object of `key`'s that says nothing yet.
    pub(super) fn new(key: &Key) -> Self {
        let (database, table) = (key.database.clone(), key.table.clone());
        Self { database, table, entries: BTreeMap::new(), bytes: OBJECT_BYTES, passed_over: 0 }
    }

    pub(super) fn extend(&mut self, entries: impl Iterator<Item = (Id, Vec<u8>)>) {
        for (id, json) in entries {
            self.bytes += json.len() + ENTRY_BYTES;
            if let Some(before) = self.entries.insert(id, json) {
                self.bytes -= before.len() + ENTRY_BYTES;
            }
        }
    }

    /// The first rejection of a frame behind `ended` of which this says something else than `other`. Frames up to
    /// there were given by an earlier process, whose words may have been others.
    pub(super) fn contradicts(&self, other: &Self, ended: Lsn) -> Option<Id> {
        let mut new = other.entries.iter().filter(|(id, _)| id.lsn > ended);
        new.find_map(|(id, json)| {
            let known = self.entries.get(id)?;
            (known != json).then_some(*id)
        })
    }

    /// Adds what another says of the same database and table.
    pub(super) fn merge(&mut self, other: &Self) {
        assert!(
            self.database == other.database && self.table == other.table,
            "an object is of one table"
        );
        self.extend(other.entries.iter().map(|(id, json)| (*id, json.clone())));
    }

    pub(super) fn to_json(&self) -> Vec<u8> {
        sheet(&self.database, self.table.as_deref(), self.entries.values().map(Vec::as_slice))
    }

    /// The whole key of the object.
    pub(super) fn key(&self, key: &Key) -> String {
        whole_key(&key.base, self.passed_over)
    }

    /// Reads the object of `key`.
    fn parse(key: &Key, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let Outline { database, table, records, lines } = serde_json::from_slice(bytes)?;
        if (&database, &table) != (&key.database, &key.table) {
            return Err(serde::de::Error::custom("it is of another table"));
        }
        let mut shared = Self::new(key);
        let raw = records.or(lines).unwrap_or_default();
        let named = raw.into_iter().map(|raw| {
            let Named { id } = serde_json::from_str(raw.get())?;
            Ok((id, raw.get().as_bytes().to_vec()))
        });
        shared.extend(named.collect::<Result<Vec<_>, serde_json::Error>>()?.into_iter());
        Ok(shared)
    }
}

fn whole_key(base: &str, passed_over: u32) -> String {
    match passed_over {
        0 => format!("{base}.json"),
        count => format!("{base}-x{count}.json"),
    }
}

/// What the objects of the last blocks say: what is durable, nothing else.
#[derive(Debug)]
pub(super) struct Kept {
    inner: Mutex<Inner>,
    bytes_max: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { inner: Mutex::default(), bytes_max: KEPT_BYTES_MAX }
    }
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Shared>,
    bytes: usize,
}

impl Kept {
    #[cfg(test)]
    pub(super) fn with_room(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.inner.lock().unwrap().objects.len()
    }

    /// What the object says, out of memory or out of the store; empty where there is none.
    pub(super) fn take(&self, store: &Store, key: &Key) -> Result<Shared, ObjectError> {
        let kept = {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = inner.objects.remove(key);
            inner.bytes -= kept.as_ref().map_or(0, |kept| kept.bytes);
            kept
        };
        match kept {
            Some(kept) => Ok(kept),
            None => read(store, key),
        }
    }

    /// Keeps what an object says from now on, which is durable.
    pub(super) fn put_back(&self, key: Key, shared: Shared) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.bytes += shared.bytes;
        let before = inner.objects.insert(key, shared);
        assert!(before.is_none(), "an object is its shard's alone");
        while inner.bytes > self.bytes_max || inner.objects.len() > KEPT_OBJECTS_MAX {
            let Some((_, oldest)) = inner.objects.pop_first() else { break };
            inner.bytes -= oldest.bytes;
        }
    }
}

/// Reads what a start before this one wrote. An object that cannot be read is left as it is, for somebody to look
/// at, and the next name is taken.
fn read(store: &Store, key: &Key) -> Result<Shared, ObjectError> {
    let mut passed_over = 0;
    loop {
        let name = whole_key(&key.base, passed_over);
        let bytes = match store.get(&name) {
            Err(error) if error.trouble() == Trouble::NotFound => {
                return Ok(Shared { passed_over, ..Shared::new(key) });
            }
            read => read?,
        };
        match Shared::parse(key, &bytes) {
            Ok(shared) => return Ok(Shared { passed_over, ..shared }),
            Err(cause) => {
                error!(key = name, %cause, "a report cannot be read; it stays, and another is begun");
                passed_over += 1;
            }
        }
    }
}
