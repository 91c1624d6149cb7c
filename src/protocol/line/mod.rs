//! Influx line protocol: the text that agents send.
//!
//! ```text
//! cpu,host=web\ 1,region=eu usage=12.5,cores=8i,state="ok" 1700000000000000000
//! |   |                     |                              |
//! |   tags -> dimensions    fields -> attributes           timestamp -> time
//! measurement -> table, and measure name
//! ```
//!
//! [`decode`] does it all for one body. Under it, [`Reader`] gives the lines as they were sent, for
//! whoever needs what the record cannot say: unsigned integers, repeated fields, raw timestamps.
//!
//! A line that is refused does not keep its neighbours from being taken. Which lines are right is told
//! by the documentation of `InfluxDB` and, where that is silent, by the line-protocol v2 corpus;
//! `tests/decode.rs` holds the decoder to both. Where implementations differ, we
//!
//! * take CRLF, leading spaces, newlines in strings, unsigned integers, floats such as `.5` and `1.`;
//! * refuse repeated tag keys, empty tag values, control characters outside strings, `NaN`;
//! * read `\"` and `\\` as the only escapes of a string, so that `"a\nb"` holds a backslash and an `n`;
//! * keep the last of several fields with one key.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod grammar;
pub mod loose;
mod map;
mod number;
mod precision;
mod raw;
mod reader;
mod recover;
mod scan;
mod shape;
mod syntax;
mod text;
#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that indexes in vain fails, as it should"
)]
mod tests;

pub use precision::{Precision, PrecisionError};
pub use raw::{Field, FieldValue, RawLine};
pub use reader::Reader;

use bumpalo::Bump;

use crate::record::limits::{
    ATTRIBUTES_MAX, DIMENSIONS_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, VARCHAR_BYTES_MAX,
};
use crate::record::{Dimension, Reason, Record, RecordSink};

/// How the lines of one request become records.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// The unit of the timestamps.
    pub precision: Precision,
    /// The time of receipt, in nanoseconds since 1970; cut to `precision`, it is the time of every
    /// line without a timestamp.
    pub received_ns: i64,
    /// The database of every record.
    pub database: &'a str,
    /// Where the measure name comes from.
    pub measure_name: MeasureName<'a>,
    /// The dimension of a record without a tag; `None` refuses the line.
    pub default_dimension: Option<Dimension<'a>>,
    /// Where the version comes from.
    pub version: VersionField<'a>,
    /// What a line may hold.
    pub limits: Limits,
}

/// Where the measure name of a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MeasureName<'a> {
    /// It is the measurement.
    #[default]
    Measurement,
    /// It is always this.
    Fixed(&'a str),
}

/// Where the version of a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionField<'a> {
    /// The client sends none.
    #[default]
    None,
    /// The field with this key, which is then no attribute. A line may lack it.
    Field(&'a str),
}

/// What a line may hold at most. A line that holds more is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the line.
    pub line_bytes: usize,
    /// Bytes of the measurement, of each key and of each tag value.
    pub name_bytes: usize,
    /// Bytes of each string.
    pub string_bytes: usize,
    /// Tags.
    pub tags: usize,
    /// Fields, repeated ones included.
    pub fields: usize,
}

/// Why a line that keeps the grammar is refused.
#[derive(Debug)]
struct Wrong {
    reason: Reason,
    message: String,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: LINE_BYTES_MAX,
            name_bytes: NAME_BYTES_MAX,
            string_bytes: VARCHAR_BYTES_MAX,
            tags: DIMENSIONS_MAX,
            fields: ATTRIBUTES_MAX,
        }
    }
}

impl<'a> Options<'a> {
    /// Options for a request to `database` that was received at `received_ns`: timestamps in
    /// nanoseconds, the measurement as measure name, lines without a tag refused, no version field.
    pub fn new(database: &'a str, received_ns: i64) -> Self {
        Self {
            precision: Precision::default(),
            received_ns,
            database,
            measure_name: MeasureName::default(),
            default_dimension: None,
            version: VersionField::default(),
            limits: Limits::default(),
        }
    }
}

/// Decodes `body` and shows `sink` each of its lines, as a record or as a refusal, in order.
///
/// Nothing is allocated for a line that is taken, unless it is longer than those before it or holds
/// escapes.
pub fn decode(body: &[u8], options: &Options<'_>, sink: &mut dyn RecordSink) {
    let arena = Bump::new();
    let mut reader = Reader::new(body, options.limits, &arena);
    let mut record = Record {
        dimensions: Vec::with_capacity(raw::KEYS_EXPECTED),
        attributes: Vec::with_capacity(raw::KEYS_EXPECTED),
        ..Record::default()
    };
    let mut mapper = map::Mapper::new(options);
    while let Some(read) = reader.read() {
        match read.and_then(|line| mapper.fill(&mut record, line)) {
            Ok(()) => sink.record(&record),
            Err(refusal) => sink.refuse(refusal),
        }
    }
}
