//! The index of a file: where the rows of each series stand.
//!
//! An entry says in which row group the rows of a series are, from which row on, how many, and from
//! when to when. Rows of one series stand side by side in order of time, so that an entry and the
//! times of its row group lead to a row by one binary search.
//!
//! Equal hashes are not enough to take two series for one, so an index keeps the keys of its series
//! as well. They are what it costs: some 200 bytes a series of ten dimensions, 56 of them the entry.
//! The keys of a file that take more than the bound which [`IndexBuilder`] is given are let go
//! together: a look-up in that file then decodes the names of a row group instead, which takes some
//! ten times as long while nothing of it is cached.

use std::sync::Arc;

use crate::record::Value;

use super::columns::ColumnSet;
use super::series::{SeriesKey, Wanted};

/// Where rows of a series stand: one row group of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct IndexEntry {
    pub(super) hash: u64,
    pub(super) time_ns_min: i64,
    pub(super) time_ns_max: i64,
    pub(super) group: u32,
    /// Its first row, counted in the row group.
    pub(super) row: u32,
    pub(super) rows: u32,
}

/// All entries of a file, by hash.
#[derive(Debug)]
pub(super) struct FileIndex {
    entries: Box<[IndexEntry]>,
    /// The series of each entry; `None` where they would take too much.
    keys: Option<Box<[Arc<SeriesKey>]>>,
    key_bytes: usize,
    /// The names of all attributes in the file, sorted; `None` where it has scalar rows.
    attributes: Option<Box<[Box<str>]>>,
}

/// An index in the making.
#[derive(Debug)]
pub(super) struct IndexBuilder {
    entries: Vec<IndexEntry>,
    keys: Option<Vec<Arc<SeriesKey>>>,
    key_bytes: usize,
    /// Most bytes that the keys may take.
    key_bytes_max: usize,
}

impl IndexBuilder {
    pub(super) const fn new(key_bytes_max: usize) -> Self {
        Self { entries: Vec::new(), keys: Some(Vec::new()), key_bytes: 0, key_bytes_max }
    }

    /// Adds rows of the series `key`, whose hash `entry` has.
    pub(super) fn push(&mut self, entry: IndexEntry, key: &Arc<SeriesKey>) {
        assert_eq!(entry.hash, key.hash, "an entry is of its series");
        assert!(entry.rows > 0, "an entry has rows");
        self.entries.push(entry);
        let Some(keys) = &mut self.keys else { return };
        self.key_bytes += key.bytes() + size_of::<Arc<SeriesKey>>();
        if self.key_bytes <= self.key_bytes_max {
            keys.push(Arc::clone(key));
        } else {
            self.keys = None;
            self.key_bytes = 0;
        }
    }

    pub(super) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The index of a file with these columns.
    pub(super) fn finish(self, columns: &ColumnSet) -> FileIndex {
        let Self { mut entries, keys, key_bytes, .. } = self;
        let by_hash = |entry: &IndexEntry| (entry.hash, entry.group);
        let keys = if let Some(keys) = keys {
            assert_eq!(keys.len(), entries.len(), "one key an entry");
            let mut both: Vec<_> = entries.into_iter().zip(keys).collect();
            both.sort_by_key(|(entry, _)| by_hash(entry));
            let (sorted, keys): (_, Vec<_>) = both.into_iter().unzip();
            entries = sorted;
            Some(keys.into_boxed_slice())
        } else {
            entries.sort_by_key(by_hash);
            None
        };
        let names = columns.attributes().map(|(name, _)| name.into());
        let attributes = (!columns.has_scalars()).then(|| names.collect());
        FileIndex { entries: entries.into_boxed_slice(), keys, key_bytes, attributes }
    }
}

impl FileIndex {
    /// Whether a MULTI record with these attributes, sorted by name, names all that any row of the
    /// file has: then nothing of the row that it overrides remains, whatever that is.
    pub(super) fn is_covered_by(&self, attributes: &[(&str, Value<'_>)]) -> bool {
        let Some(names) = &self.attributes else { return false };
        let mut given = attributes.iter().map(|(name, _)| *name);
        names.iter().all(|name| given.any(|given| given == &**name))
    }

    /// Whether the file may have a row of a series with this hash at the time.
    pub(super) fn may_have(&self, hash: u64, time_ns: i64) -> bool {
        self.at(hash, time_ns).next().is_some()
    }

    /// Whether look-ups can do without the names in the file.
    pub(super) const fn has_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The entries in which a row of the series at the time would be. Where the index has no keys,
    /// also such of another series with the same hash.
    pub(super) fn find(
        &self,
        wanted: &Wanted<'_>,
        time_ns: i64,
    ) -> impl Iterator<Item = &IndexEntry> {
        self.at(wanted.hash, time_ns)
            .filter(|&at| self.keys.as_ref().is_none_or(|keys| keys[at].is_of(wanted)))
            .map(|at| &self.entries[at])
    }

    fn at(&self, hash: u64, time_ns: i64) -> impl Iterator<Item = usize> {
        let begin = self.entries.partition_point(|entry| entry.hash < hash);
        let same = self.entries[begin..].iter().take_while(move |entry| entry.hash == hash);
        (begin..).zip(same).filter_map(move |(at, entry)| {
            (entry.time_ns_min <= time_ns && time_ns <= entry.time_ns_max).then_some(at)
        })
    }

    pub(super) fn bytes(&self) -> usize {
        let names = self.attributes.iter().flatten();
        size_of::<Self>()
            + std::mem::size_of_val(&*self.entries)
            + self.key_bytes
            + names.map(|name| size_of::<Box<str>>() + name.len()).sum::<usize>()
    }
}
