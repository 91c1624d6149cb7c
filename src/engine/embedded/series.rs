//! Series as stores keep them: keys that stores and snapshots share, and the order of series.

use std::sync::Arc;

use crate::record::codec::{Family, RecordView, TextIter};
use crate::record::{TableId, varint};

/// A table, a measure name and the names of dimensions, as payloads encode them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FamilyKey {
    bytes: Box<[u8]>,
}

impl FamilyKey {
    /// A family from bytes that a payload's reader checked.
    pub(super) fn new(bytes: &[u8]) -> Self {
        assert!(Family::from_bytes(bytes).is_some(), "a family's bytes were checked when read");
        Self { bytes: bytes.into() }
    }

    /// The family with these names, which are sorted.
    pub(super) fn of<'n>(
        table: TableId,
        measure_name: &str,
        names: impl ExactSizeIterator<Item = &'n str>,
    ) -> Self {
        let mut bytes = Vec::new();
        varint::put(&mut bytes, u64::from(table.0));
        varint::put_bytes(&mut bytes, measure_name.as_bytes());
        varint::put(&mut bytes, names.len() as u64);
        for name in names {
            varint::put_bytes(&mut bytes, name.as_bytes());
        }
        Self::new(&bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn family(&self) -> Family<'_> {
        Family::from_bytes(&self.bytes).expect("checked when made")
    }

    /// The hash that seeds those of its series; see the payload's format.
    pub(super) fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }
}

/// What names a series.
#[derive(Debug)]
pub(super) struct SeriesKey {
    /// Its hash, as payloads carry it.
    pub(super) hash: u64,
    /// Its family.
    pub(super) family: Arc<FamilyKey>,
    /// The values of its dimensions in the order of the family's names, each a text.
    values: Box<[u8]>,
}

impl SeriesKey {
    pub(super) fn new(hash: u64, family: Arc<FamilyKey>, values: &[u8]) -> Self {
        Self { hash, family, values: values.into() }
    }

    /// The series of `family` with these values, which stand encoded one behind the other.
    pub(super) fn of(family: Arc<FamilyKey>, values: &[u8]) -> Self {
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(values, family.hash());
        Self::new(hash, family, values)
    }

    /// Equal hashes are not enough: two series that were taken for one would lose records.
    #[inline]
    pub(super) fn is_of(&self, wanted: &Wanted<'_>) -> bool {
        self.hash == wanted.hash
            && *self.values == *wanted.values
            && *self.family.bytes == *wanted.family
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted { hash: self.hash, family: &self.family.bytes, values: &self.values }
    }

    /// Names and values of the dimensions, sorted by name.
    pub(super) fn dimensions(&self) -> impl Iterator<Item = (&str, &str)> {
        self.family.family().names().zip(TextIter::new(&self.values))
    }

    /// The values of its dimensions, encoded.
    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }

    /// The value of a dimension, if it has that.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.dimensions().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// Whether the values of its first dimensions are these, each encoded as a text.
    pub(super) fn begins_with(&self, values: &[u8]) -> bool {
        self.values.starts_with(values)
    }

    /// Bytes of memory that it takes; its family counts where families are kept.
    pub(super) fn bytes(&self) -> usize {
        // Two counters stand before what an `Arc` points at.
        size_of::<Self>() + 2 * size_of::<usize>() + self.values.len()
    }

    /// Bytes whose order is the order of series: by measure name, then by names and values of the
    /// dimensions. Each text ends in two zeros, a zero in it is followed by a one, so that no text
    /// reaches into the next and a shorter one comes first.
    pub(super) fn order(&self) -> Box<[u8]> {
        let mut out = Vec::with_capacity(self.values.len() * 2 + 32);
        push_ordered(&mut out, self.family.family().measure_name);
        for (name, value) in self.dimensions() {
            push_ordered(&mut out, name);
            push_ordered(&mut out, value);
        }
        out.into_boxed_slice()
    }
}

fn push_ordered(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr(0, rest) {
        out.extend_from_slice(&rest[..=at]);
        out.push(1);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(&[0, 0]);
}

/// A series that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Its hash.
    pub(super) hash: u64,
    /// Its family's bytes.
    pub(super) family: &'a [u8],
    /// Its values' bytes.
    pub(super) values: &'a [u8],
}

impl<'a> Wanted<'a> {
    #[inline]
    pub(super) const fn of(view: &RecordView<'a>) -> Self {
        Self { hash: view.series_hash, family: view.family.bytes, values: view.series_values }
    }
}
