//! The keys of a store's series, by their places.
//!
//! Keys are only ever added, and what was added never changes: blocks that are full are shared by all
//! who have a copy, so that a copy of a million keys touches none of them.

use std::ops::Index;
use std::sync::Arc;

use super::series::SeriesKey;
use super::store::SeriesId;

/// Keys of a block.
const BLOCK_KEYS: usize = 1 << 10;

/// Keys of series, by their places.
#[derive(Debug, Default, Clone)]
pub(super) struct Keys {
    /// Of [`BLOCK_KEYS`] each.
    full: Vec<Arc<[Arc<SeriesKey>]>>,
    /// The block that is being filled.
    open: Vec<Arc<SeriesKey>>,
}

impl Keys {
    pub(super) const fn len(&self) -> usize {
        self.full.len() * BLOCK_KEYS + self.open.len()
    }

    pub(super) fn push(&mut self, key: Arc<SeriesKey>) {
        self.open.push(key);
        if self.open.len() == BLOCK_KEYS {
            self.full.push(std::mem::take(&mut self.open).into());
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<SeriesKey>> + Clone {
        self.full.iter().flat_map(|block| &**block).chain(&self.open)
    }

    #[inline]
    pub(super) fn get(&self, id: SeriesId) -> &Arc<SeriesKey> {
        let at = id.0 as usize;
        if let Some(block) = self.full.get(at / BLOCK_KEYS) {
            return &block[at % BLOCK_KEYS];
        }
        // The rest alone would be a place in the open block, whichever block is meant.
        assert_eq!(at / BLOCK_KEYS, self.full.len(), "a place behind the last key");
        &self.open[at % BLOCK_KEYS]
    }
}

impl Index<usize> for Keys {
    type Output = Arc<SeriesKey>;

    fn index(&self, at: usize) -> &Arc<SeriesKey> {
        self.get(SeriesId(super::store::index(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::series::FamilyKey;
    use super::super::store;
    use super::*;
    use crate::record::TableId;

    #[test]
    fn a_copy_keeps_its_keys_while_others_are_added() {
        let family = Arc::new(FamilyKey::of(TableId(1), "m", std::iter::empty()));
        let key = |hash| Arc::new(SeriesKey::new(hash, Arc::clone(&family), &[]));
        let mut keys = Keys::default();
        let mut copies = Vec::new();
        let end = 2 * BLOCK_KEYS as u64 + 3;
        for hash in 0..end {
            if hash % 512 < 2 {
                copies.push(keys.clone());
            }
            keys.push(key(hash));
            assert_eq!(keys.get(SeriesId(u32::try_from(hash).unwrap())).hash, hash);
        }
        copies.push(keys);
        for copy in &copies {
            assert!(copy.iter().map(|key| key.hash).eq(0..copy.len() as u64));
            assert!((0..copy.len()).all(|at| copy[at].hash == at as u64));
        }
        assert_eq!(copies[copies.len() - 1].len() as u64, end);
    }

    #[test]
    #[should_panic(expected = "a place behind the last key")]
    fn a_place_behind_the_last_is_no_other_series() {
        let family = Arc::new(FamilyKey::of(TableId(1), "m", std::iter::empty()));
        let mut keys = Keys::default();
        keys.push(Arc::new(SeriesKey::new(1, family, &[])));
        keys.get(SeriesId(store::index(BLOCK_KEYS)));
    }
}
