//! The index of a file: where the rows of each series stand.
//!
//! An entry says in which row group the rows of a series are, from which row on, how many, and from
//! when to when. Rows of one series stand side by side in order of time, so that an entry and the
//! times of its row group lead to a row by one binary search.
//!
//! Equal hashes are not enough to take two series for one, so an index keeps the keys of its series
//! as well. They are what it costs: some 200 bytes a series of ten dimensions, 40 of them the entry.
//! The keys of a file that take more than the bound which [`IndexBuilder`] is given are let go
//! together: a look-up in that file then decodes the names of a row group as well, as all look-ups did
//! before keys were kept; benches/README.md has both speeds.

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

    /// Adds rows of the series `key`, whose hash `entry` has. The key is looked at only where keys are
    /// kept: each look waits for memory.
    pub(super) fn push<'k>(&mut self, entry: IndexEntry, key: impl FnOnce() -> &'k Arc<SeriesKey>) {
        assert!(entry.rows > 0, "an entry has rows");
        self.entries.push(entry);
        let Some(keys) = &mut self.keys else { return };
        let key = key();
        assert_eq!(entry.hash, key.hash, "an entry is of its series");
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
        let by_hash = |entry: &IndexEntry| (entry.hash, entry.group, entry.row);
        let keys = if let Some(keys) = keys {
            assert_eq!(keys.len(), entries.len(), "one key an entry");
            let mut both: Vec<_> = entries.into_iter().zip(keys).collect();
            both.sort_unstable_by_key(|(entry, _)| by_hash(entry));
            let (sorted, keys): (_, Vec<_>) = both.into_iter().unzip();
            entries = sorted;
            Some(keys.into_boxed_slice())
        } else {
            entries.sort_unstable_by_key(by_hash);
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

#[cfg(test)]
mod tests {
    use super::super::series::FamilyKey;
    use super::*;
    use crate::record::{TableId, varint};

    fn key(host: &str) -> Arc<SeriesKey> {
        let family = Arc::new(FamilyKey::of(TableId(1), "m", ["host"].into_iter()));
        let mut values = Vec::new();
        varint::put_bytes(&mut values, host.as_bytes());
        Arc::new(SeriesKey::of(family, &values))
    }

    fn entry(key: &SeriesKey, group: u32, row: u32) -> IndexEntry {
        let (time_ns_min, time_ns_max) = (i64::from(group) * 100, i64::from(group) * 100 + 9);
        IndexEntry { hash: key.hash, time_ns_min, time_ns_max, group, row, rows: 10 }
    }

    /// Two series in two row groups, and one that takes the hash of the first.
    fn index(key_bytes_max: usize) -> (FileIndex, [Arc<SeriesKey>; 3]) {
        let (a, b) = (key("a"), key("b"));
        let same = SeriesKey::new(a.hash, Arc::clone(&b.family), b.wanted().values);
        let keys = [a, b, Arc::new(same)];
        let mut builder = IndexBuilder::new(key_bytes_max);
        for group in 0..2 {
            for (at, key) in (0..).zip(&keys) {
                builder.push(entry(key, group, at * 10), || key);
            }
        }
        (builder.finish(&ColumnSet::default()), keys)
    }

    fn found(index: &FileIndex, key: &SeriesKey, time_ns: i64) -> Vec<(u32, u32)> {
        index.find(&key.wanted(), time_ns).map(|entry| (entry.group, entry.row)).collect()
    }

    #[test]
    fn a_series_is_found_by_its_key_and_not_by_its_hash() {
        let (index, [a, b, same]) = index(usize::MAX);
        assert!(index.has_keys());
        assert_eq!(found(&index, &a, 105), [(1, 0)]);
        assert_eq!(found(&index, &b, 0), [(0, 10)]);
        assert_eq!(found(&index, &same, 9), [(0, 20)]);
        assert_eq!(found(&index, &a, 10), [], "between the row groups");
        assert_eq!(found(&index, &key("c"), 5), []);
        assert!(index.may_have(a.hash, 5) && !index.may_have(a.hash, 50));
    }

    #[test]
    fn keys_beyond_their_bound_are_let_go_and_every_series_is_found_still() {
        let (whole, [a, b, same]) = index(usize::MAX);
        let (bounded, _) = index(whole.key_bytes - 1);
        assert!(!bounded.has_keys());
        assert_eq!(bounded.bytes(), whole.bytes() - whole.key_bytes);
        assert_eq!(found(&bounded, &b, 105), [(1, 10)]);
        // Whoever looks further has to tell these two apart.
        assert_eq!(found(&bounded, &a, 5), found(&bounded, &same, 5));
        assert_eq!(found(&bounded, &a, 5), [(0, 0), (0, 20)]);
        assert!(index(whole.key_bytes).0.has_keys(), "as much as the bound is within it");
    }
}
