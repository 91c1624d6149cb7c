//! What the decoder takes and refuses, rule by rule. The numbers R1 to R29 are those of
//! `tests/data/line-protocol/README.md`.

use super::*;
use crate::record::{Refusal, Value};

const RECEIVED_NS: i64 = 1_700_000_000_123_456_789;
const DATABASE: &str = "db";

/// A record with texts of its own.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    number: u64,
    table: String,
    measure_name: String,
    dimensions: Vec<(String, String)>,
    attributes: Vec<(String, Shown)>,
    time_ns: Option<i64>,
    version: Option<i64>,
}

/// A value with texts of its own; floats by their bits.
#[derive(Debug, Clone, PartialEq)]
enum Shown {
    Double(u64),
    Bigint(i64),
    Boolean(bool),
    Varchar(String),
}

/// A refusal without its message.
#[derive(Debug, Clone, PartialEq)]
struct Refused {
    number: u64,
    column: u64,
    reason: Reason,
    text: Vec<u8>,
}

#[derive(Debug, Default)]
struct Collector {
    records: Vec<Owned>,
    refusals: Vec<Refused>,
    messages: Vec<String>,
}

impl RecordSink for Collector {
    fn record(&mut self, record: &Record<'_>) {
        assert_eq!(record.database, DATABASE);
        let dimension = |d: &Dimension<'_>| (d.name.to_owned(), d.value.to_owned());
        self.records.push(Owned {
            number: record.origin.number,
            table: record.table.to_owned(),
            measure_name: record.measure_name.to_owned(),
            dimensions: record.dimensions.iter().map(dimension).collect(),
            attributes: record
                .attributes
                .iter()
                .map(|a| (a.name.to_owned(), shown(a.value)))
                .collect(),
            time_ns: record.time_ns,
            version: record.version,
        });
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        assert!(!refusal.message.contains('\n'), "{}", refusal.message);
        assert!(!refusal.message.ends_with('.'), "{}", refusal.message);
        let (number, text) = (refusal.origin.number, refusal.origin.text.to_vec());
        self.refusals.push(Refused {
            number,
            column: refusal.column,
            reason: refusal.reason,
            text,
        });
        self.messages.push(refusal.message);
    }
}

fn shown(value: Value<'_>) -> Shown {
    match value {
        Value::Double(value) => Shown::Double(value.to_bits()),
        Value::Bigint(value) | Value::Timestamp(value) => Shown::Bigint(value),
        Value::Boolean(value) => Shown::Boolean(value),
        Value::Varchar(value) => Shown::Varchar(value.to_owned()),
    }
}

fn options() -> Options<'static> {
    let default_dimension = Some(Dimension { name: "source", value: "unknown" });
    Options { default_dimension, ..Options::new(DATABASE, RECEIVED_NS) }
}

fn collect(body: &[u8], options: &Options<'_>) -> Collector {
    let mut collector = Collector::default();
    decode(body, options, &mut collector);
    collector
}

/// What a line without tags becomes, to be changed by the functions below.
fn record(table: &str) -> Owned {
    Owned {
        number: 1,
        table: table.to_owned(),
        measure_name: table.to_owned(),
        dimensions: Vec::new(),
        attributes: Vec::new(),
        time_ns: Some(RECEIVED_NS),
        version: None,
    }
}

impl Owned {
    fn dimension(mut self, name: &str, value: &str) -> Self {
        self.dimensions.push((name.to_owned(), value.to_owned()));
        self
    }

    fn attribute(mut self, name: &str, value: Value<'_>) -> Self {
        self.attributes.push((name.to_owned(), shown(value)));
        self
    }

    fn double(self, name: &str, value: f64) -> Self {
        self.attribute(name, Value::Double(value))
    }

    fn bigint(self, name: &str, value: i64) -> Self {
        self.attribute(name, Value::Bigint(value))
    }

    fn varchar(self, name: &str, value: &str) -> Self {
        self.attribute(name, Value::Varchar(value))
    }

    fn line(self, number: u64) -> Self {
        Self { number, ..self }
    }

    fn at(self, time_ns: i64) -> Self {
        Self { time_ns: Some(time_ns), ..self }
    }

    /// With the dimension of lines without tags.
    fn untagged(self) -> Self {
        self.dimension("source", "unknown")
    }
}

const fn at(number: u64, column: u64) -> (u64, u64) {
    (number, column)
}

/// The body becomes exactly these records; nothing is refused.
macro_rules! decodes {
    ($name:ident, $body:expr, [$($record:expr),* $(,)?]) => {
        #[test]
        fn $name() {
            let body: &[u8] = $body.as_ref();
            let collector = collect(body, &options());
            assert_eq!(collector.refusals, [], "{:?}", collector.messages);
            let expected: Vec<Owned> = vec![$($record),*];
            assert_eq!(collector.records, expected);
        }
    };
}

/// The body's one line is refused, at this place and for this reason.
macro_rules! refuses {
    ($name:ident, $body:expr, $at:expr, $reason:expr) => {
        #[test]
        fn $name() {
            refuses($body.as_ref(), $at, $reason);
        }
    };
}

/// The line is refused, and so it is with good lines around it, which are taken.
fn refuses(body: &[u8], (number, column): (u64, u64), reason: Reason) {
    let collector = collect(body, &options());
    let text = body.to_vec();
    let refused = Refused { number, column, reason, text };
    assert_eq!(collector.refusals, std::slice::from_ref(&refused), "{:?}", collector.messages);
    assert_eq!(collector.records, []);

    let around = [b"a,b=c d=1\n", body, b"\nx,y=z w=2"].concat();
    let collector = collect(&around, &options());
    let moved = Refused { number: number + 1, ..refused };
    assert_eq!(collector.refusals, [moved], "{:?}", collector.messages);
    let tables: Vec<_> = collector.records.iter().map(|record| record.table.as_str()).collect();
    assert_eq!(tables, ["a", "x"]);
}

mod taken;
mod refused;
mod limits;
