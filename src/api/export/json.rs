//! A row as a line of JSON.

use crate::engine::Row;
use crate::record::{MeasureKind, Value, ValueType};

/// Appends `row` of `table`.
pub(super) fn row(table: &str, row: &Row<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"measurement\":");
    text(table, out);
    if row.measure_name != table {
        out.extend_from_slice(b",\"measure_name\":");
        text(row.measure_name, out);
    }
    out.extend_from_slice(b",\"tags\":");
    dimensions(row.dimensions, out);
    match (row.kind, row.attributes) {
        (MeasureKind::Scalar, [(_, only)]) => {
            out.extend_from_slice(b",\"measure_value\":");
            value(only, out);
            if only.value_type() == ValueType::Timestamp {
                out.extend_from_slice(b",\"measure_value_type\":\"TIMESTAMP\"");
            }
        }
        (_, attributes) => fields(attributes, out),
    }
    out.extend_from_slice(b",\"timestamp\":");
    integer(row.time_ns, out);
    out.extend_from_slice(b",\"version\":");
    integer(row.version, out);
    out.extend_from_slice(b"}\n");
}

/// Appends dimensions as an object.
pub(super) fn dimensions(dimensions: &[(&str, &str)], out: &mut Vec<u8>) {
    object(dimensions.iter(), out, |(name, value), out| {
        text(name, out);
        out.push(b':');
        text(value, out);
    });
}

fn fields(attributes: &[(&str, Value<'_>)], out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"fields\":");
    object(attributes.iter(), out, |(name, field), out| {
        text(name, out);
        out.push(b':');
        value(field, out);
    });
    let is_timestamp = |(_, value): &&(&str, Value<'_>)| value.value_type() == ValueType::Timestamp;
    if attributes.iter().any(|attribute| is_timestamp(&attribute)) {
        out.extend_from_slice(b",\"types\":");
        object(attributes.iter().filter(is_timestamp), out, |(name, _), out| {
            text(name, out);
            out.extend_from_slice(b":\"TIMESTAMP\"");
        });
    }
}

fn object<T>(
    members: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut member: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'{');
    for (place, one) in members.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        member(one, out);
    }
    out.push(b'}');
}

fn value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Double(float) => double(*float, out),
        Value::Bigint(count) | Value::Timestamp(count) => integer(*count, out),
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Varchar(words) => text(words, out),
    }
}

/// Appends a float so that it reads back equal, and as a float: with a fraction or an exponent.
pub(super) fn double(float: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(float).as_bytes());
}

/// Appends an integer.
pub(super) fn integer(count: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}

fn text(words: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, words).expect("a text is written to memory");
}
