//! A row as a line of line protocol, escaped as `protocol::line` reads it.

use std::fmt;

use super::json::{double, integer};
use crate::engine::Row;
use crate::record::{MeasureKind, Value};

/// Why a row cannot be said in line protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inexpressible {
    what: &'static str,
    time_ns: i64,
}

impl fmt::Display for Inexpressible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the record at {}: {}", self.time_ns, self.what)
    }
}

/// Appends `row` of `table`; nothing of it where the grammar has no words for it.
pub(super) fn row(table: &str, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), Inexpressible> {
    let start = out.len();
    match line(table, row, out) {
        Ok(()) => Ok(()),
        Err(what) => {
            out.truncate(start);
            Err(Inexpressible { what, time_ns: row.time_ns })
        }
    }
}

fn line(table: &str, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), &'static str> {
    if table.starts_with('#') {
        return Err("a line that begins with # is a comment");
    }
    name(table, b", ", out)?;
    for (key, value) in row.dimensions {
        out.push(b',');
        name(key, b",= ", out)?;
        out.push(b'=');
        name(value, b",= ", out)?;
    }
    for (place, (key, value)) in row.attributes.iter().enumerate() {
        out.push(if place == 0 { b' ' } else { b',' });
        let key = if row.kind == MeasureKind::Scalar { row.measure_name } else { key };
        name(key, b",= ", out)?;
        out.push(b'=');
        field(value, out);
    }
    out.push(b' ');
    integer(row.time_ns, out);
    out.push(b'\n');
    Ok(())
}

/// Appends a name with a backslash before each of `special`.
fn name(text: &str, special: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("a name or value is empty");
    }
    // It would escape the delimiter behind it, and a backslash does not escape a backslash.
    if text.ends_with('\\') {
        return Err("a name or value ends with a backslash");
    }
    for byte in text.bytes() {
        if byte.is_ascii_control() {
            return Err("a name or value holds a control character");
        }
        if special.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
    Ok(())
}

fn field(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Double(float) => double(*float, out),
        Value::Bigint(count) | Value::Timestamp(count) => {
            integer(*count, out);
            out.push(b'i');
        }
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Varchar(text) => {
            out.push(b'"');
            for byte in text.bytes() {
                if matches!(byte, b'"' | b'\\') {
                    out.push(b'\\');
                }
                out.push(byte);
            }
            out.push(b'"');
        }
    }
}
