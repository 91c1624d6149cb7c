//! A record as a line of JSON from which exactly this record is read back.
//!
//! Timestream's shape, one object a line, for every record. The flat shape would be shorter, but a
//! server's setting `ingest.measure_name` goes before what it says, and it has no words for a SCALAR, a
//! TIMESTAMP or a measure name of its own. Here each record says all of it, so that no setting of the
//! server it is sent to can change one.

use serde_json::ser::to_writer;

use crate::engine::Row;
use crate::engine::catalog::Table;
use crate::record::{MeasureKind, Value, ValueType};

/// A record that the shape has no words for.
#[derive(Debug, thiserror::Error)]
#[error("a record that is one value of type TIMESTAMP cannot be sent")]
pub(super) struct Inexpressible;

/// Appends a record of `table`, with its end of line. On failure nothing is appended.
pub(super) fn put(table: &Table, row: &Row<'_>, out: &mut Vec<u8>) -> Result<(), Inexpressible> {
    let scalar = match (row.kind, row.attributes) {
        (MeasureKind::Scalar, [(_, only)]) if only.value_type() == ValueType::Timestamp => {
            return Err(Inexpressible);
        }
        (MeasureKind::Scalar, [(_, only)]) => Some(only),
        _ => None,
    };
    member(b"{\"DatabaseName\":", &table.database, out);
    member(b",\"TableName\":", &table.name, out);
    member(b",\"Records\":[{\"MeasureName\":", row.measure_name, out);
    out.extend_from_slice(b",\"Dimensions\":[");
    for (at, (name, value)) in row.dimensions.iter().enumerate() {
        member(if at == 0 { b"{\"Name\":" } else { b",{\"Name\":" }, name, out);
        member(b",\"Value\":", value, out);
        out.push(b'}');
    }
    out.push(b']');
    if let Some(only) = scalar {
        member(b",\"MeasureValueType\":", only.value_type().name(), out);
        out.extend_from_slice(b",\"MeasureValue\":");
        value(only, out);
    } else {
        out.extend_from_slice(b",\"MeasureValueType\":\"MULTI\",\"MeasureValues\":[");
        for (at, (name, one)) in row.attributes.iter().enumerate() {
            member(if at == 0 { b"{\"Name\":" } else { b",{\"Name\":" }, name, out);
            member(b",\"Type\":", one.value_type().name(), out);
            out.extend_from_slice(b",\"Value\":");
            value(one, out);
            out.push(b'}');
        }
        out.push(b']');
    }
    out.extend_from_slice(b",\"TimeUnit\":\"NANOSECONDS\",\"Time\":");
    integer(row.time_ns, out);
    out.extend_from_slice(b",\"Version\":");
    integer(row.version, out);
    out.extend_from_slice(b"}]}\n");
    Ok(())
}

fn member(head: &[u8], words: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(head);
    to_writer(out, words).expect("a text is written to memory");
}

fn value(value: &Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Double(float) => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(*float).as_bytes());
        }
        Value::Bigint(count) | Value::Timestamp(count) => integer(*count, out),
        Value::Boolean(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
        Value::Varchar(words) => to_writer(out, words).expect("a text is written to memory"),
    }
}

fn integer(count: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
}
