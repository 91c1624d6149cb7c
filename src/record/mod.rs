//! Floor 1: the typed record, the one form in which data travels.
//!
//! A **record** is one measurement of one series at one time. A decoder of floor 2 fills a
//! [`Record`] from text and shows it to a [`RecordSink`]; `ingest` is that sink and packs what it
//! accepts into a payload with [`codec::PayloadBuilder`]; a shard reads the payload back as
//! [`codec::RecordView`]s and gives them to an engine as a [`request::WriteRequest`].
//!
//! What may be stored is [`validate`]'s to say, in strict tables [`window`]'s too; both know a record and
//! the clock, and no table.
//!
//! A `Record` borrows its texts from the request's body and is filled anew for each line, so that
//! decoding allocates nothing per record. It is what was *sent*: dimensions stand in the order of
//! arrival, and nothing about it has been checked but its syntax.

pub mod value;
pub mod reason;
pub mod limits;
pub mod validate;
pub mod window;
pub mod varint;
pub mod codec;
pub mod request;
pub mod reading;
pub mod metered;

pub use reading::Reading;
pub use reason::Reason;
pub use value::{OwnedValue, Value, ValueType};

/// One name and value of those that name a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dimension<'a> {
    /// The dimension's name; a tag key in line protocol.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// One measured value with its name; a field in line protocol.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attribute<'a> {
    /// The attribute's name; empty for the one value of a scalar record.
    pub name: &'a str,
    /// The value.
    pub value: Value<'a>,
}

/// Whether a record carries one value, named by its measure name, or several with names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MeasureKind {
    /// One value; the only attribute's name is empty.
    Scalar,
    /// One or more named values.
    #[default]
    Multi,
}

/// Where in a request a record stood, so that an error can point at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The line's number, from 1 (line protocol, NDJSON), or the record's index, from 0 (arrays).
    pub number: u64,
    /// The record as it was sent.
    pub text: &'a [u8],
    /// What stood around the record and is part of its meaning, as a JSON object that lacks `Records`;
    /// empty where the text says all itself.
    pub within: &'a str,
}

/// A record as it was sent. Decoders fill one and use it again for the next.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    /// Where it stood.
    pub origin: Origin<'a>,
    /// The database it is for.
    pub database: &'a str,
    /// The table it is for.
    pub table: &'a str,
    /// The name of what was measured.
    pub measure_name: &'a str,
    /// What names the series, in the order of arrival.
    pub dimensions: Vec<Dimension<'a>>,
    /// Whether `attributes` is one value or several.
    pub kind: MeasureKind,
    /// What was measured, in the order of arrival.
    pub attributes: Vec<Attribute<'a>>,
    /// When, in nanoseconds since 1970-01-01T00:00:00Z; `None` is the time of receipt.
    pub time_ns: Option<i64>,
    /// The version it was sent with; `None` leaves it to the setting `ingest.version`.
    pub version: Option<i64>,
}

/// A line or record that was not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Where it stood and how it was sent.
    pub origin: Origin<'a>,
    /// The column of the first byte that is wrong, from 1, counted in bytes; 0 where none is to blame.
    pub column: u64,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people: what was found and what would be right. One line, no period.
    pub message: String,
}

/// Whoever takes what a decoder finds.
pub trait RecordSink {
    /// Takes a record, or refuses it after its own checks; a refusal is the sink's to remember.
    fn record(&mut self, record: &Record<'_>);

    /// Hears of a line or record that could not be decoded.
    fn refuse(&mut self, refusal: Refusal<'_>);
}

/// The number of a table. Never used again, so that a replay cannot revive a deleted table.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct TableId(pub u32);

impl std::fmt::Display for TableId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
