//! What was read from files, up to a number of bytes.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::index::FileIndex;
use super::manifest::FileMeta;
use super::parquet_head::Head;
use super::points::{Block, Stamps};
use super::store::TableStore;

/// What of a file is cached; row groups and blocks by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Piece {
    Head,
    Index,
    /// Series, times and versions of a row group.
    Keys(usize),
    /// Times and versions of a row group.
    Stamps(usize),
    /// Values of some rows of a row group.
    Block(usize, usize),
}

/// A file's number and generation, and a piece of it.
type CacheKey = (u64, u32, Piece);

#[derive(Debug, Clone)]
pub(super) enum Cached {
    Head(Arc<Head>),
    Index(Arc<FileIndex>),
    Keys(Arc<TableStore>),
    Stamps(Arc<Stamps>),
    Block(Arc<Block>),
}

impl Cached {
    fn bytes(&self) -> usize {
        match self {
            Self::Head(head) => head.bytes(),
            Self::Index(index) => index.bytes(),
            Self::Keys(keys) => keys.bytes(),
            Self::Stamps(stamps) => stamps.bytes(),
            Self::Block(block) => block.bytes(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    entries: HashMap<CacheKey, CacheEntry, RandomState>,
    bytes: usize,
    bytes_max: usize,
    /// Counts uses, to find what was not used for longest.
    uses: u64,
}

#[derive(Debug)]
struct CacheEntry {
    cached: Cached,
    bytes: usize,
    used: u64,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::default(), bytes: 0, bytes_max, uses: 0 }
    }

    pub(super) fn get(&mut self, meta: &FileMeta, piece: Piece) -> Option<Cached> {
        self.uses += 1;
        let entry = self.entries.get_mut(&(meta.number, meta.generation, piece))?;
        entry.used = self.uses;
        Some(entry.cached.clone())
    }

    pub(super) fn put(&mut self, meta: &FileMeta, piece: Piece, cached: Cached) {
        let bytes = cached.bytes();
        self.uses += 1;
        let entry = CacheEntry { cached, bytes, used: self.uses };
        self.bytes += bytes;
        let key = (meta.number, meta.generation, piece);
        if let Some(before) = self.entries.insert(key, entry) {
            self.bytes -= before.bytes;
        }
        // What was just put stays, however large: the next record most likely needs it again.
        while self.bytes > self.bytes_max && self.entries.len() > 1 {
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used);
            let oldest = *oldest.expect("there are entries").0;
            let entry = self.entries.remove(&oldest).expect("just found");
            self.bytes -= entry.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::ColumnSet;
    use super::super::index::IndexBuilder;
    use super::*;

    fn meta(number: u64) -> FileMeta {
        FileMeta {
            number,
            generation: 0,
            day: 0,
            rows: 1,
            bytes: 1,
            time_ns_min: 0,
            time_ns_max: 0,
            hash_min: 0,
            hash_max: 0,
        }
    }

    fn cached() -> Cached {
        Cached::Index(Arc::new(IndexBuilder::new(0).finish(&ColumnSet::default())))
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let one = cached().bytes();
        let mut cache = Cache::new(3 * one);
        for number in 0..3 {
            cache.put(&meta(number), Piece::Index, cached());
        }
        assert!(cache.get(&meta(0), Piece::Index).is_some());
        cache.put(&meta(3), Piece::Index, cached());
        let held = |cache: &mut Cache| {
            (0..4).filter(|&at| cache.get(&meta(at), Piece::Index).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(held(&mut cache), [0, 2, 3]);
        assert_eq!(cache.bytes, 3 * one);
        cache.put(&meta(3), Piece::Index, cached());
        assert_eq!((held(&mut cache).len(), cache.bytes), (3, 3 * one), "put again, counted once");
        assert!(cache.get(&meta(0), Piece::Head).is_none(), "another piece of the file");
        let other = FileMeta { generation: 1, ..meta(0) };
        assert!(cache.get(&other, Piece::Index).is_none(), "another generation of it");
    }

    #[test]
    fn what_is_larger_than_the_cache_stays_until_the_next() {
        let mut cache = Cache::new(0);
        for number in 0..3 {
            cache.put(&meta(number), Piece::Index, cached());
            assert!(cache.get(&meta(number), Piece::Index).is_some());
            assert_eq!((cache.entries.len(), cache.bytes), (1, cached().bytes()));
        }
    }
}
