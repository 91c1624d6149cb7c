//! The payload: what one accepted request becomes, and all that the log stores of it.
//!
//! A payload is self-contained and compact: whatever repeats stands once. A **family** is a table, a
//! measure name and the sorted names of the dimensions; a **layout** is the names and types of the
//! attributes; a **series** is a family and the values of its dimensions. Records are grouped by
//! **section**, one for each shard of the time of writing, so that a shard walks its own part only.
//!
//! # Layout, version 2
//!
//! Integers of the header are little-endian; `varint` and `signed` are those of
//! [`super::varint`]; `bytes` is a varint length and that many bytes; `text` is `bytes` of UTF-8.
//!
//! | part | offset | bytes | content |
//! |---|---|---|---|
//! | header | 0 | 1 | format version, 2 |
//! | header | 1 | 1 | 0, reserved |
//! | header | 2 | 2 | sections |
//! | header | 4 | 4 | families |
//! | header | 8 | 4 | layouts |
//! | header | 12 | 4 | refused lines |
//! | header | 16 | 8 | time of receipt, ns |
//! | header | 24 | 4 | bytes of families and layouts |
//! | header | 28 | 4 | bytes of refused lines |
//! | section table | 32 | 8 a section | bytes (4 bytes), records (4 bytes) |
//! | families | | | table (varint), measure name (text), dimensions (varint), that many names (text) |
//! | layouts | | | kind (1 byte: 0 scalar, 1 multi), attributes (varint), that many of: type (1 byte), name (text) |
//! | refused lines | | | number (varint), reason (1 byte: [`Reason`](super::Reason)), database, message (text), line (bytes), reading (text: JSON of a [`Reading`][super::Reading], or empty) |
//! | sections | | | records, below |
//!
//! A record of a section, deltas against the one before it in the section (the first: against 0,
//! its time against the time of receipt):
//!
//! | field | form | meaning |
//! |---|---|---|
//! | series | varint | 0: a new one follows; n: the n-th new one of this section |
//! | family | varint | only if new: index of the family |
//! | hash | 8 bytes | only if new: the series' hash |
//! | values | bytes | only if new: the dimensions' values, each a text, in the order of the names |
//! | layout | varint | index of the layout |
//! | time | signed | ns, wrapping delta |
//! | version | signed | wrapping delta |
//! | number | signed | line or index in the request, wrapping delta |
//! | attributes | bytes | the values, each by its type, in the order of the layout |
//!
//! | type | number | form of a value |
//! |---|---:|---|
//! | DOUBLE | 1 | 8 bytes, IEEE 754 |
//! | BIGINT | 2 | signed |
//! | BOOLEAN | 3 | 1 byte, 0 or 1 |
//! | VARCHAR | 4 | text |
//! | TIMESTAMP | 5 | signed |
//!
//! A payload is valid if and only if every length stays inside its part, every index names an entry
//! before it, every text is UTF-8 and every value is of its layout's type. Its bytes are covered by
//! the frame's checksum; the reader checks all the same and answers [`CodecError`], never panics.
//!
//! # The hash of a series
//!
//! XXH3-64 over the values' bytes, seeded with the XXH3-64 of the family's bytes. It is part of the
//! format: it chooses the bucket ([`Bucket`]), a bucket never changes its series, and stores remember
//! per bucket how far they got, so a changed number of shards finds each record where it was.

mod encode;
mod decode;
#[cfg(test)]
mod tests;

pub use decode::{Family, Layout, Payload, RecordView, Records, RefusedLine, TextIter, ValueIter};
pub use encode::{FamilyId, LayoutId, PayloadBuilder};

/// The format version this code writes.
pub const PAYLOAD_VERSION: u8 = 2;
/// The oldest format version that it reads: in version 1, which differs in nothing else, a refused line
/// has no reading.
pub const PAYLOAD_VERSION_MIN: u8 = 1;
const HEADER_BYTES: usize = 32;
const SECTION_ENTRY_BYTES: usize = 8;

/// Most shards, and the number of buckets that they share out.
pub const BUCKETS: usize = 64;

/// Largest payload that a builder makes: what the log takes in one frame.
pub const PAYLOAD_BYTES_MAX: usize = 48 << 20;

/// One of [`BUCKETS`] parts of all series. A shard owns whole buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u8);

impl Bucket {
    /// Every bucket, in order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..BUCKETS).map(|at| Self(u8::try_from(at).expect("BUCKETS fits a byte")))
    }

    /// The bucket of a series.
    #[inline]
    pub const fn of(series_hash: u64) -> Self {
        Self((series_hash >> 58) as u8)
    }

    /// The shard, of `shards`, that owns this bucket.
    #[inline]
    pub const fn shard(self, shards: usize) -> usize {
        self.0 as usize * shards / BUCKETS
    }
}

const _: () = assert!(1 << 6 == BUCKETS);

/// Bytes that are no payload of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Another format version.
    #[error("payload version {found}, this build reads {PAYLOAD_VERSION_MIN} to {PAYLOAD_VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A part ends early or an entry does not make sense.
    #[error("payload is malformed in its {part}")]
    Malformed {
        /// The part, as the table of the format names it.
        part: &'static str,
    },
}

impl CodecError {
    /// Always the operator's: what the log holds is ours.
    pub const fn class(&self) -> crate::base::class::Class {
        crate::base::class::Class::Fault
    }
}
