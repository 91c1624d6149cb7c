//! A row as lines of CSV, one an attribute. Source: RFC 4180.

use super::json;
use crate::engine::Row;
use crate::record::Value;

/// The first line.
pub(super) const HEAD: &str = "time,measure_name,version,dimensions,name,type,value\r\n";

/// Appends `row`.
pub(super) fn row(row: &Row<'_>, out: &mut Vec<u8>) {
    let mut prefix = Vec::new();
    cell(time(row.time_ns).as_bytes(), &mut prefix);
    cell(row.measure_name.as_bytes(), &mut prefix);
    json::integer(row.version, &mut prefix);
    prefix.push(b',');
    let mut dimensions = Vec::new();
    json::dimensions(row.dimensions, &mut dimensions);
    cell(&dimensions, &mut prefix);
    for (name, value) in row.attributes {
        out.extend_from_slice(&prefix);
        cell(name.as_bytes(), out);
        cell(value.value_type().name().as_bytes(), out);
        text_of(value, out);
        out.extend_from_slice(b"\r\n");
    }
}

fn text_of(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Double(float) => json::double(*float, out),
        Value::Bigint(count) => json::integer(*count, out),
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Varchar(words) => quoted_if_needed(words.as_bytes(), out),
        Value::Timestamp(ns) => out.extend_from_slice(time(*ns).as_bytes()),
    }
}

/// Appends a cell and the comma behind it.
fn cell(text: &[u8], out: &mut Vec<u8>) {
    quoted_if_needed(text, out);
    out.push(b',');
}

fn quoted_if_needed(text: &[u8], out: &mut Vec<u8>) {
    // An empty text is quoted, so that readers can tell it from a missing one.
    let is_plain =
        !text.is_empty() && !text.iter().any(|byte| matches!(byte, b'"' | b',' | b'\n' | b'\r'));
    if is_plain {
        return out.extend_from_slice(text);
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

/// RFC 3339 with all nine digits, so that the text sorts as the time does.
fn time(ns: i64) -> String {
    let moment = jiff::Timestamp::from_nanosecond(ns.into())
        .expect("64 bits of nanoseconds reach from 1677 to 2262");
    format!("{moment:.9}")
}
