//! What holds for every body, tried with random ones. A failing seed is printed and kept by proptest.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::fmt::Write as _;

use proptest::prelude::*;
use tidegate::protocol::line::{self, Options};
use tidegate::record::{Dimension, Record, RecordSink, Refusal, Value};

const RECEIVED_NS: i64 = 1_700_000_000_123_456_789;

/// A line that can be written and compared.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    measurement: String,
    tags: Vec<(String, String)>,
    fields: Vec<(String, Field)>,
    time_ns: Option<i64>,
}

#[derive(Debug, Clone, PartialEq)]
enum Field {
    Double(f64),
    Bigint(i64),
    Boolean(bool),
    Varchar(String),
}

#[derive(Debug, Default)]
struct Collector {
    lines: Vec<Line>,
    /// Number and text of each line, taken or refused, in the order heard.
    origins: Vec<(u64, Vec<u8>)>,
    refused: usize,
}

impl RecordSink for Collector {
    fn record(&mut self, record: &Record<'_>) {
        self.origins.push((record.origin.number, record.origin.text.to_vec()));
        self.lines.push(Line {
            measurement: record.table.to_owned(),
            tags: record
                .dimensions
                .iter()
                .map(|d| (d.name.to_owned(), d.value.to_owned()))
                .collect(),
            fields: record.attributes.iter().map(|a| (a.name.to_owned(), field(a.value))).collect(),
            time_ns: record.time_ns,
        });
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        let text = refusal.origin.text;
        assert!(refusal.column >= 1 && refusal.column <= text.len() as u64 + 1, "{refusal:?}");
        assert!(!refusal.message.contains('\n'), "{refusal:?}");
        self.origins.push((refusal.origin.number, text.to_vec()));
        self.refused += 1;
    }
}

fn field(value: Value<'_>) -> Field {
    match value {
        Value::Double(value) => Field::Double(value),
        Value::Bigint(value) | Value::Timestamp(value) => Field::Bigint(value),
        Value::Boolean(value) => Field::Boolean(value),
        Value::Varchar(value) => Field::Varchar(value.to_owned()),
    }
}

fn collect(body: &[u8]) -> Collector {
    let default_dimension = Some(Dimension { name: "none", value: "none" });
    let options = Options { default_dimension, ..Options::new("db", RECEIVED_NS) };
    let mut collector = Collector::default();
    line::decode(body, &options, &mut collector);
    collector
}

impl Line {
    fn write(&self, body: &mut String) {
        body.push_str(&escape(&self.measurement, ", "));
        for (key, value) in &self.tags {
            write!(body, ",{}={}", escape(key, ",= "), escape(value, ",= ")).unwrap();
        }
        for (number, (key, value)) in self.fields.iter().enumerate() {
            body.push(if number == 0 { ' ' } else { ',' });
            write!(body, "{}=", escape(key, ",= ")).unwrap();
            match value {
                Field::Double(value) => write!(body, "{value:?}").unwrap(),
                Field::Bigint(value) => write!(body, "{value}i").unwrap(),
                Field::Boolean(value) => write!(body, "{value}").unwrap(),
                Field::Varchar(value) => write!(body, "\"{}\"", escape(value, "\"\\")).unwrap(),
            }
        }
        if let Some(time_ns) = self.time_ns {
            write!(body, " {time_ns}").unwrap();
        }
    }
}

fn escape(text: &str, escaped: &str) -> String {
    let mut escaped_text = String::new();
    for char in text.chars() {
        if escaped.contains(char) {
            escaped_text.push('\\');
        }
        escaped_text.push(char);
    }
    escaped_text
}

/// Names that can be written: a backslash at their end, or before something escaped, cannot be.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_]{1,20}",
        2 => "[a-z,= \"'#!-]{0,12}[a-z]",
        1 => "(\\\\[a-z]|[a-zé温🌡]){1,9}",
    ]
}

/// A measurement does not start with `#`: there is no escape that would keep it from being a comment.
fn measurement() -> impl Strategy<Value = String> {
    name().prop_filter("a comment", |name| !name.trim_start_matches(' ').starts_with('#'))
}

fn value() -> impl Strategy<Value = Field> {
    prop_oneof![
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Field::Double),
        (-1_000_000_i32..1_000_000).prop_map(|value| Field::Double(f64::from(value) / 1000.0)),
        any::<i64>().prop_map(Field::Bigint),
        (0..200_i64).prop_map(Field::Bigint),
        any::<bool>().prop_map(Field::Boolean),
        any::<String>().prop_map(Field::Varchar),
        "[\"\\\\\n,= a]{0,20}".prop_map(Field::Varchar),
    ]
}

fn keyed<T: std::fmt::Debug>(
    values: impl Strategy<Value = T>,
    least: usize,
) -> impl Strategy<Value = Vec<(String, T)>> {
    prop::collection::vec((name(), values), least..8).prop_map(|pairs| {
        let mut unique: Vec<(String, T)> = Vec::new();
        for (key, value) in pairs {
            if key != "time" && unique.iter().all(|(other, _)| *other != key) {
                unique.push((key, value));
            }
        }
        unique
    })
}

fn a_line() -> impl Strategy<Value = Line> {
    let time = prop::option::of(-i64::MAX + 1..i64::MAX);
    (measurement(), keyed(name(), 1), keyed(value(), 1), time).prop_map(
        |(measurement, tags, fields, time_ns)| Line { measurement, tags, fields, time_ns },
    )
}

/// Text that looks like line protocol often enough to get past the first byte.
fn nearly_line_protocol() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        6 => "(m|cpu|a=b|f=1|,|=| |\n|\r\n|\"|\\\\|#|f=\"|1i|t|-1.5e3|time=|m,a=b f=1 5\n)",
        1 => ".{0,4}",
    ];
    let pieces = prop::collection::vec(piece.prop_map(String::into_bytes), 0..40);
    prop_oneof![
        4 => pieces.clone().prop_map(|pieces| pieces.concat()),
        1 => (pieces, any::<Vec<u8>>()).prop_map(|(pieces, tail)| [pieces.concat(), tail].concat()),
    ]
}

/// Goal: every byte of the body belongs to a line that was taken or refused, a blank line or a comment,
/// and to one of them only. Method: walk along the body by the texts and numbers that were reported.
fn accounts_for_every_line(body: &[u8]) {
    let collector = collect(body);
    assert_eq!(collector.lines.len() + collector.refused, collector.origins.len());
    let (mut rest, mut number) = (body, 1_u64);
    for (line_number, text) in &collector.origins {
        while number < *line_number {
            (rest, number) = (after_idle_line(rest), number + 1);
        }
        assert!(
            rest.starts_with(text),
            "line {line_number} {text:?} is not where it was said to be"
        );
        number += text.split(|byte| *byte == b'\n').count() as u64;
        rest = after_line_end(rest.strip_prefix(text.as_slice()).unwrap());
    }
    while !rest.is_empty() {
        rest = after_idle_line(rest);
    }
}

/// What follows the physical line at the start of `rest`, which is blank or a comment.
fn after_idle_line(rest: &[u8]) -> &[u8] {
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let line = rest[..end].trim_ascii_start();
    let is_blank = rest[..end].iter().all(|byte| matches!(byte, b' ' | b'\r'));
    assert!(is_blank || line.starts_with(b"#"), "{line:?} got lost");
    after_line_end(&rest[end..])
}

fn after_line_end(rest: &[u8]) -> &[u8] {
    let rest = rest.strip_prefix(b"\r").unwrap_or(rest);
    if rest.is_empty() { rest } else { rest.strip_prefix(b"\n").unwrap() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(lines in prop::collection::vec(a_line(), 1..6)) {
        let mut body = String::new();
        for line in &lines {
            line.write(&mut body);
            body.push('\n');
        }
        let collector = collect(body.as_bytes());
        let expected: Vec<_> = lines
            .into_iter()
            .map(|line| Line { time_ns: line.time_ns.or(Some(RECEIVED_NS)), ..line })
            .collect();
        prop_assert_eq!(collector.lines, expected, "{}", body);
        prop_assert_eq!(collector.refused, 0);
    }

    #[test]
    fn any_bytes_are_accounted_for(body: Vec<u8>) {
        accounts_for_every_line(&body);
    }

    #[test]
    fn nearly_line_protocol_is_accounted_for(body in nearly_line_protocol()) {
        accounts_for_every_line(&body);
    }

    /// Goal: damage to a body is found or harmless, never a panic or a line lost. Method: change,
    /// remove or double a few bytes of a body that was right.
    #[test]
    fn damaged_lines_are_accounted_for(
        lines in prop::collection::vec(a_line(), 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut body = String::new();
        for line in &lines {
            line.write(&mut body);
            body.push('\n');
        }
        let mut body = body.into_bytes();
        for (place, byte, kind) in damage {
            let place = place.index(body.len());
            match kind {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => { body.remove(place); }
            }
            if body.is_empty() {
                break;
            }
        }
        accounts_for_every_line(&body);
    }

    /// Goal: what a line is read as does not depend on the lines before it, whose keys are guesses at
    /// its own. Method: few measurements, and keys that begin alike, so that guesses come close.
    #[test]
    fn a_body_is_read_as_its_lines_are(lines in prop::collection::vec(a_line_of_like_keys(), 1..30)) {
        let together = collect(lines.join("\n").as_bytes());
        let alone: Vec<_> = lines.iter().map(|line| collect(line.as_bytes())).collect();
        let refused: usize = alone.iter().map(|collector| collector.refused).sum();
        let alone: Vec<_> = alone.into_iter().flat_map(|collector| collector.lines).collect();
        prop_assert_eq!(together.lines, alone, "{}", lines.join("\n"));
        prop_assert_eq!(together.refused, refused);
    }

    /// Goal: on plain lines we agree with the parser of `InfluxDB` 3, which was written independently.
    #[test]
    fn plain_lines_are_read_as_influxdb_reads_them(
        lines in prop::collection::vec(a_plain_line(), 1..6)
    ) {
        let mut body = String::new();
        for line in &lines {
            line.write(&mut body);
            body.push('\n');
        }
        let theirs: Vec<Line> = influxdb_line_protocol::parse_lines(&body)
            .map(|line| their_line(&line.unwrap()))
            .collect();
        prop_assert_eq!(collect(body.as_bytes()).lines, theirs, "{}", body);
    }
}

/// A line whose keys are often those of another, or nearly; some repeat a key and some are broken.
fn a_line_of_like_keys() -> impl Strategy<Value = String> {
    let key = || {
        let keys = ["a", "ab", "a\\ b", "fourteen_bytes", "fifteen_bytes_x", "sixteen_bytes_xy"];
        let long = ["sixteen_bytes_xyz", "sixteen_bytes_xyza", "a long\\ key that goes on", ""];
        let keys: Vec<_> = keys.into_iter().chain(long).map(str::to_owned).collect();
        prop_oneof![3 => Just("a".to_owned()), 4 => prop::sample::select(keys)]
    };
    let tags = prop::collection::vec(key(), 0..4);
    let fields = prop::collection::vec(key(), 0..4);
    ("[mn]", tags, fields).prop_map(|(measurement, tags, fields)| {
        let tags = tags.iter().map(|key| format!("{key}=b"));
        let series: Vec<_> = std::iter::once(measurement).chain(tags).collect();
        let fields: Vec<_> = fields.iter().map(|key| format!("{key}=1i")).collect();
        format!("{} {}", series.join(","), fields.join(","))
    })
}

/// A line without anything that the two parsers are known to read in different ways.
fn a_plain_line() -> impl Strategy<Value = Line> {
    let name = || "[a-zA-Z_][a-zA-Z0-9_.-]{0,15}( [a-z]+)?";
    let value = prop_oneof![
        (-1_000_000_i32..1_000_000).prop_map(|value| Field::Double(f64::from(value) / 1000.0)),
        any::<i64>().prop_map(Field::Bigint),
        any::<bool>().prop_map(Field::Boolean),
        "[a-zA-Z0-9 ,=\"\\\\]{0,20}".prop_map(Field::Varchar),
    ];
    (name(), keyed(name(), 1), keyed(value, 1), 0..i64::MAX).prop_map(
        |(measurement, tags, fields, time_ns)| Line {
            measurement,
            tags,
            fields,
            time_ns: Some(time_ns),
        },
    )
}

fn their_line(line: &influxdb_line_protocol::ParsedLine<'_>) -> Line {
    use influxdb_line_protocol::FieldValue;

    let tags = line.series.tag_set.iter().flatten();
    let fields = line.field_set.iter().map(|(key, value)| {
        let value = match value {
            FieldValue::F64(value) => Field::Double(*value),
            FieldValue::I64(value) => Field::Bigint(*value),
            FieldValue::U64(value) => Field::Bigint((*value).try_into().unwrap()),
            FieldValue::Boolean(value) => Field::Boolean(*value),
            FieldValue::String(value) => Field::Varchar(value.to_string()),
        };
        (key.to_string(), value)
    });
    Line {
        measurement: line.series.measurement.to_string(),
        tags: tags.map(|(key, value)| (key.to_string(), value.to_string())).collect(),
        fields: fields.collect(),
        time_ns: line.timestamp,
    }
}
