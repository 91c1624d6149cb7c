//! Rows by COPY: about half the server's work for rows that are all new, since it writes them to the table
//! a page at a time and looks for no conflict before it meets one. It cannot say which row stands already:
//! one is enough, and all that the transaction has written is undone.
//!
//! Layout: a signature (11 bytes), flags (4, 0), length of an extension (4, 0); each row the number of its
//! columns (2) and each column its bytes (4; -1 is null), they; at the end -1 (2). All big-endian. Source:
//! PostgreSQL documentation, "COPY", binary format.

use bytes::{BufMut, BytesMut};

use super::error::SqlError;
use super::param::micros_of_postgres;
use super::plan::Item;
use super::schema::Relation;
use super::session::Session;
use super::write::{WriteError, kind_number};
use crate::record::Value;

const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// Columns before those of the table's own.
const FIXED: usize = 6;

/// Writes rows that are new, or fails: [`SqlError::is_duplicate`] where one is not.
pub(super) fn copy(
    session: &mut Session,
    relation: &Relation,
    firsts: &[&Item<'_, '_>],
    used: &[u16],
) -> Result<(), WriteError> {
    let mut place = vec![usize::MAX; relation.columns.len()];
    let mut names = String::new();
    for (at, column) in used.iter().enumerate() {
        place[usize::from(*column)] = at;
        names.push_str(", ");
        names.push_str(&relation.columns[usize::from(*column)].quoted);
    }
    let columns = i16::try_from(FIXED + used.len()).expect("a table has fewer columns");
    let mut out = BytesMut::with_capacity(firsts.len() * 256);
    out.put_slice(SIGNATURE);
    out.put_i64(0);
    let mut values: Vec<Option<Value<'_>>> = vec![None; used.len()];
    for item in firsts {
        values.fill(None);
        for (column, (_, value)) in item.dimensions.iter().zip(item.view.dimensions()) {
            values[place[usize::from(*column)]] = Some(Value::Varchar(value));
        }
        for (column, value) in item.attributes.iter().zip(item.view.values()) {
            values[place[usize::from(*column)]] = Some(value?);
        }
        out.put_i16(columns);
        put(&mut out, &item.key.series.0);
        put_i64(&mut out, micros_of_postgres(item.key.time_us));
        put_i64(&mut out, item.view.version);
        put_i16(&mut out, item.key.ns);
        let first = item.view.layout.entries().next().map(|(found, _)| found);
        put_i16(&mut out, kind_number(first, item.kind()));
        put(&mut out, item.view.family.measure_name.as_bytes());
        for value in &values {
            put_value(&mut out, value.as_ref());
        }
    }
    out.put_i16(-1);
    let sql = format!(
        "COPY {} (series, time, version, ns, kind, measure_name{names}) FROM STDIN WITH (FORMAT binary)",
        relation.quoted
    );
    let copied = session.copy(&sql, out.freeze())?;
    assert_eq!(copied, firsts.len() as u64, "every row is copied, or none");
    Ok(())
}

fn put_value(out: &mut BytesMut, value: Option<&Value<'_>>) {
    match value {
        None => out.put_i32(-1),
        Some(Value::Double(value)) => {
            out.put_i32(8);
            out.put_f64(*value);
        }
        Some(Value::Bigint(value) | Value::Timestamp(value)) => put_i64(out, *value),
        Some(Value::Boolean(value)) => put(out, &[u8::from(*value)]),
        Some(Value::Varchar(text)) => put(out, text.as_bytes()),
    }
}

fn put_i64(out: &mut BytesMut, value: i64) {
    out.put_i32(8);
    out.put_i64(value);
}

fn put_i16(out: &mut BytesMut, value: i16) {
    out.put_i32(2);
    out.put_i16(value);
}

fn put(out: &mut BytesMut, value: &[u8]) {
    out.put_i32(i32::try_from(value.len()).expect("a value is shorter than a record"));
    out.put_slice(value);
}

/// Whether a statement failed because a row stands already.
pub(super) fn met_duplicate(error: &WriteError) -> bool {
    matches!(error, WriteError::Sql(error @ SqlError::Server { .. }) if error.is_duplicate())
}
