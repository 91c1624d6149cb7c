//! Answers decode cases, one JSON object a line: `{"id", "b64", "prec", "now"}` on standard input,
//! `{"id", "points", "errors"}` on standard output. So the decoder can be judged by collections of
//! cases that are not part of this repository.
//!
//! The points are shown as they were sent: unsigned integers stay unsigned, a repeated field stands
//! twice. Only the timestamp is scaled, since that can refuse a line.

use std::io::{self, BufRead as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bumpalo::Bump;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tidegate::protocol::line::{FieldValue, Limits, Precision, RawLine, Reader};

/// A case to answer.
#[derive(Debug, Deserialize)]
struct Case {
    id: String,
    b64: String,
    prec: String,
}

fn main() -> io::Result<()> {
    let mut answers = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let case: Case = serde_json::from_str(&line?)?;
        let body = STANDARD.decode(&case.b64).map_err(io::Error::other)?;
        let precision = Precision::from_v1(&case.prec).map_err(io::Error::other)?;
        let mut answer = answer(&body, precision);
        answer.insert("id".to_owned(), Value::String(case.id));
        writeln!(answers, "{}", Value::Object(answer))?;
    }
    Ok(())
}

fn answer(body: &[u8], precision: Precision) -> Map<String, Value> {
    let arena = Bump::new();
    // The cases are about syntax; how many tags and fields a record may have is not.
    let limits = Limits { tags: usize::MAX, fields: usize::MAX, ..Limits::default() };
    let mut reader = Reader::new(body, limits, &arena);
    let (mut points, mut errors) = (Vec::new(), Vec::new());
    while let Some(read) = reader.read() {
        match read {
            Ok(line) => match line.timestamp.map(|timestamp| precision.to_ns(timestamp)) {
                Some(None) => errors.push(format!("{}: timestamp out of range", line.number)),
                Some(time) => points.push(point(line, time)),
                None => points.push(point(line, None)),
            },
            Err(refusal) => errors.push(format!(
                "{}:{}: {}: {}",
                refusal.origin.number, refusal.column, refusal.reason, refusal.message
            )),
        }
    }
    let mut answer = Map::new();
    answer.insert("points".to_owned(), Value::Array(points));
    answer.insert("errors".to_owned(), json!(errors));
    answer
}

fn point(line: &RawLine<'_>, time_ns: Option<i64>) -> Value {
    let tags: Vec<_> = line.tags.iter().map(|tag| json!([tag.name, tag.value])).collect();
    let fields: Vec<_> =
        line.fields.iter().map(|field| json!([field.key, value(field.value)])).collect();
    json!({ "measurement": line.measurement, "tags": tags, "fields": fields, "timestamp": time_ns })
}

fn value(value: FieldValue<'_>) -> Value {
    match value {
        FieldValue::Float(value) => json!({ "type": "float", "value": value }),
        FieldValue::Integer(value) => json!({ "type": "int", "value": value }),
        FieldValue::Unsigned(value) => json!({ "type": "uint", "value": value }),
        FieldValue::Boolean(value) => json!({ "type": "bool", "value": value }),
        FieldValue::String(value) => json!({ "type": "string", "value": value }),
    }
}
