//! JSON to records: one object, an array of them, or NDJSON, each object in any of three shapes.
//!
//! | shape | known by | record |
//! |---|---|---|
//! | flat | `fields` | `measurement` or `name` is table and measure name, `tags` are the dimensions, `fields` one MULTI measure; beside them `timestamp`, `version`, `database` or `db`, `table` |
//! | batch | `metrics` | each element is a flat record; what Telegraf's `outputs.http` sends |
//! | Timestream | `Records` | Timestream's `WriteRecords` with any number of records: [`timestream`] |
//!
//! Shapes may be mixed in one array. Members of other names are skipped; `null` anywhere is as if
//! the member were absent; of a member named twice the last one counts. A record's own database and
//! table go before those of the request ([`Options`]), a table named by either before the measurement. In Timestream's
//! shape a database or table of both that differs is refused.
//!
//! | JSON value of a field | type |
//! |---|---|
//! | number without fraction and exponent | BIGINT; beyond 64 bits: refused |
//! | any other number | DOUBLE, correctly rounded; beyond its range: refused |
//! | `true`, `false` | BOOLEAN |
//! | string | VARCHAR |
//! | object, array | refused |
//!
//! A tag is a string; a number or truth value stands for its own JSON text.
//!
//! A timestamp is an integer in the unit of [`Options::precision`], or an RFC 3339 text. No unit is
//! guessed: Telegraf's serializer counts seconds unless told otherwise, so either its output says
//! `json_timestamp_units = "1ms"` or its URL `precision=s`.
//!
//! # What one bad record costs
//!
//! Only itself. The elements of an array are first found as JSON, then each is decoded alone. Where
//! the JSON itself breaks, the elements before it stay taken and the rest is refused once. Records
//! under `Records` are taken when their object has been read to its end, since members that all of
//! them share may follow them.
//!
//! # Why `serde_json` and raw leaves
//!
//! `serde_json` checks the grammar; every leaf arrives as its text ([`serde_json::value::RawValue`])
//! and is read here. Its own numbers would not do: they turn `-0` and integers beyond 64 bits into
//! floats, forget how a tag was written, and make `1e999` an error of syntax that costs the document.
//! A tokenizer of our own was tried on the same records and is three times as fast; it was refused,
//! since this is fast enough (`benches/json.rs`) and JSON's grammar is then somebody else's to get right.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod document;
mod object;
mod draft;
mod fault;
mod scalar;
mod timestream;
mod walk;
#[cfg(test)]
mod tests;

use std::str::FromStr;

use bumpalo::Bump;

use self::draft::Draft;
use self::fault::Fault;
use crate::record::{Origin, RecordSink, Refusal};

/// The unit of a timestamp that is an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    #[default]
    Ms,
    /// Seconds.
    S,
}

impl Precision {
    const ALL: [Self; 4] = [Self::Ns, Self::Us, Self::Ms, Self::S];

    /// Its name in the parameter `precision`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Us => "us",
            Self::Ms => "ms",
            Self::S => "s",
        }
    }

    /// `count` of this unit in nanoseconds; `None` where 64 bits do not hold them.
    const fn to_ns(self, count: i64) -> Option<i64> {
        count.checked_mul(match self {
            Self::Ns => 1,
            Self::Us => 1_000,
            Self::Ms => 1_000_000,
            Self::S => 1_000_000_000,
        })
    }
}

/// A precision that JSON timestamps cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("precision is not one of ns, us, ms, s")]
pub struct UnknownPrecision;

impl UnknownPrecision {
    /// Always the client's.
    pub const fn class(self) -> crate::base::class::Class {
        crate::base::class::Class::Refused
    }
}

impl FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(name: &str) -> Result<Self, UnknownPrecision> {
        Self::ALL.into_iter().find(|unit| unit.name() == name).ok_or(UnknownPrecision)
    }
}

/// How a body holds its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// One value: an object or an array of objects.
    #[default]
    Document,
    /// One value a line (NDJSON); blank lines are skipped.
    Lines,
}

/// What a request says beside its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options<'a> {
    /// The unit of timestamps that are integers. Timestream's shape names its own.
    pub precision: Precision,
    /// The time of receipt, ns. Only for messages: it tells which precision may have been meant.
    pub received_ns: i64,
    /// The database of records that name none.
    pub database: Option<&'a str>,
    /// The table of records that name none; goes before the measurement.
    pub table: Option<&'a str>,
    /// How the body holds its values.
    pub form: Form,
    /// The dimension of records without any; `None` refuses them.
    pub default_dimension: Option<(&'a str, &'a str)>,
    /// The measure name of all flat records, and of Timestream's where they name none; `None` takes
    /// the measurement.
    pub measure_name: Option<&'a str>,
}

/// Shows every record of `body` to `sink`, and every part that is none, each exactly once, in order.
///
/// `origin.number` is the line, from 1, in [`Form::Lines`]; else the record's index, from 0, among all
/// records of the body, taken or refused. `origin.text` is the record's own JSON, and a refusal's
/// column counts in it; messages about broken syntax name line and column of the body.
pub fn decode(body: &[u8], options: &Options<'_>, sink: &mut dyn RecordSink) {
    let arena = Bump::new();
    let mut decoder = Decoder {
        options: *options,
        sink,
        number: 0,
        draft: Draft::new(&arena),
        fault: None,
        last: "",
        in_batch: false,
        within: "",
        repeated_bytes: 0,
    };
    // A mark that Windows editors and PowerShell put first. Source: RFC 8259, 8.1.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    match options.form {
        Form::Document => decoder.document(body),
        Form::Lines => decoder.lines(body),
    }
}

struct Decoder<'a, 's> {
    options: Options<'a>,
    sink: &'s mut dyn RecordSink,
    /// The number of the line or record that comes next.
    number: u64,
    draft: Draft<'a>,
    /// Why a walk ended early; `serde`'s errors cannot carry it.
    fault: Option<Fault<'a>>,
    /// The last element of the current document that was dealt with.
    last: &'a str,
    /// Whether the elements of a `metrics` are being read. They hold no further ones: each level of
    /// a nest would be read once for every level above it.
    in_batch: bool,
    /// What stands around the records at hand and is part of their meaning; empty where nothing does.
    within: &'a str,
    /// Bytes of `CommonAttributes`, counted once for each record that repeated them.
    repeated_bytes: usize,
}

impl<'a> Decoder<'a, '_> {
    /// Shows the drafted record to the sink.
    fn show(&mut self, text: &'a str) -> Result<(), Fault<'a>> {
        self.draft.complete(text, self.options.default_dimension)?;
        self.draft.record.origin = self.origin(text.as_bytes());
        self.sink.record(&self.draft.record);
        self.count();
        Ok(())
    }

    fn refuse(&mut self, text: &'a str, fault: Fault<'a>) {
        let column = fault.column_in(text);
        let origin = self.origin(text.as_bytes());
        self.sink.refuse(Refusal { origin, column, reason: fault.reason, message: fault.message });
        self.count();
    }

    fn origin(&self, text: &'a [u8]) -> Origin<'a> {
        Origin { number: self.number, text, within: self.within }
    }

    fn count(&mut self) {
        if self.options.form == Form::Document {
            self.number = self.number.saturating_add(1);
        }
    }
}
