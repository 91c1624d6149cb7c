//! Which series a store knows: keys, families, and the map from hashes.
//!
//! A fleet sends what it sent before. A store that is frozen therefore passes its directory on to the
//! one that follows it: the map goes over, keys and families are shared, and a series has the same
//! place in both. Directories of which one was passed on to the other have one [`Directory::number`].
//! Only the last of them has the map; whoever has found a series' place there knows it for all. Where
//! the last is gone, with its table, the others look through their keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::keys::Keys;
use super::series::{FamilyKey, SeriesKey, Wanted};
use super::store::{MAP_ENTRY_BYTES, SeriesId, index};

/// Bytes that a series takes in the map of series, with the map's spare room.
const SERIES_ENTRY_BYTES: usize = 24;

/// Counts directories. Relaxed: only that numbers differ matters.
static DIRECTORIES: AtomicU64 = AtomicU64::new(0);

/// A series in the map of series. With its hash, so that a look-up waits for the map alone before it
/// knows which series it would be.
#[derive(Debug, Clone, Copy)]
struct Hashed {
    hash: u64,
    series: u32,
}

/// The series that a store knows.
#[derive(Debug)]
pub(super) struct Directory {
    number: u64,
    families: Vec<Arc<FamilyKey>>,
    families_by_hash: HashTable<u32>,
    family_hint: usize,
    keys: Keys,
    series_by_hash: HashTable<Hashed>,
    is_passed_on: bool,
    /// What its keys, families and maps take.
    bytes: usize,
}

impl Default for Directory {
    fn default() -> Self {
        Self {
            number: DIRECTORIES.fetch_add(1, Ordering::Relaxed),
            families: Vec::new(),
            families_by_hash: HashTable::new(),
            family_hint: 0,
            keys: Keys::default(),
            series_by_hash: HashTable::new(),
            is_passed_on: false,
            bytes: 0,
        }
    }
}

impl Directory {
    /// The same for directories in which a series has one place.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether another has the map now.
    pub(super) const fn is_passed_on(&self) -> bool {
        self.is_passed_on
    }

    /// Bytes of memory that it takes; none once it was passed on, since then it shares all.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) const fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(super) fn families(&self) -> &[Arc<FamilyKey>] {
        &self.families
    }

    /// The same directory for a store that follows.
    pub(super) fn pass_on(&mut self) -> Self {
        assert!(!self.is_passed_on, "a directory is passed on once");
        self.is_passed_on = true;
        Self {
            number: self.number,
            families: self.families.clone(),
            families_by_hash: std::mem::take(&mut self.families_by_hash),
            family_hint: self.family_hint,
            keys: self.keys.clone(),
            series_by_hash: std::mem::take(&mut self.series_by_hash),
            is_passed_on: false,
            bytes: std::mem::take(&mut self.bytes),
        }
    }

    /// The place of a series that is here.
    #[inline]
    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Option<SeriesId> {
        if self.is_passed_on {
            return self.find_without_map(wanted);
        }
        self.series_by_hash
            .find(wanted.hash, |at| {
                at.hash == wanted.hash && self.keys.get(SeriesId(at.series)).is_of(wanted)
            })
            .map(|at| SeriesId(at.series))
    }

    /// Whom it was passed on to has the map, and is asked; but is gone where its table was deleted
    /// meanwhile, while a writer that knew the table before still finds this one.
    #[cold]
    fn find_without_map(&self, wanted: &Wanted<'_>) -> Option<SeriesId> {
        assert!(self.series_by_hash.is_empty(), "the map was passed on");
        self.keys.iter().position(|key| key.is_of(wanted)).map(|at| SeriesId(index(at)))
    }

    /// The place of a series with this hash, whichever that is.
    #[inline]
    pub(super) fn find_hash(&self, hash: u64) -> Option<SeriesId> {
        self.series_by_hash.find(hash, |at| at.hash == hash).map(|at| SeriesId(at.series))
    }

    /// Adds a series that is not here.
    pub(super) fn add(&mut self, key: Arc<SeriesKey>) -> SeriesId {
        let (at, hash) = (index(self.keys.len()), key.hash);
        self.bytes += key.bytes() + size_of::<Arc<SeriesKey>>() + SERIES_ENTRY_BYTES;
        self.keys.push(key);
        self.series_by_hash.insert_unique(hash, Hashed { hash, series: at }, |at| at.hash);
        SeriesId(at)
    }

    /// The place of a family, which is added as `make` has it if it is not here.
    pub(super) fn family(&mut self, bytes: &[u8], make: impl FnOnce() -> Arc<FamilyKey>) -> usize {
        if self.families.get(self.family_hint).is_some_and(|family| family.bytes() == bytes) {
            return self.family_hint;
        }
        let hash = xxh3_64(bytes);
        let families = &self.families;
        let found = self.families_by_hash.find(hash, |&at| families[at as usize].bytes() == bytes);
        self.family_hint = if let Some(&at) = found {
            at as usize
        } else {
            let at = self.families.len();
            let family = make();
            assert_eq!(family.bytes(), bytes, "the family that was looked for");
            self.families.push(family);
            self.bytes += bytes.len() + size_of::<Arc<FamilyKey>>() * 4 + MAP_ENTRY_BYTES;
            let families = &self.families;
            self.families_by_hash
                .insert_unique(hash, index(at), |&at| families[at as usize].hash());
            at
        };
        self.family_hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::TableId;

    #[test]
    fn a_family_that_comes_with_a_key_is_in_memory_once() {
        let family = Arc::new(FamilyKey::of(TableId(1), "m", std::iter::empty()));
        let mut directory = Directory::default();
        for _ in 0..2 {
            let place = directory.family(family.bytes(), || Arc::clone(&family));
            assert!(Arc::ptr_eq(&directory.families()[place], &family));
        }
        assert_eq!(directory.families().len(), 1);
    }
}
