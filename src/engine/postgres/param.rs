//! Arrays on the wire, one a column of a statement, and what comes back in a row.
//!
//! The client's own types would take one allocation a value; here a row's values are appended to one
//! buffer a column. Layout of an array: dimensions (4 bytes, 1), whether there are nulls (4), type of
//! the elements (4), length (4), first index (4, 1), then each element: its bytes (4; -1 is null), they.
//! All big-endian. Source: PostgreSQL, `src/backend/utils/adt/arrayfuncs.c`, `array_recv`.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use crate::record::Value;

type Failed = Box<dyn std::error::Error + Sync + Send>;

/// Microseconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_US: i64 = 946_684_800_000_000;

/// A column's values.
#[derive(Debug)]
pub(super) struct Array {
    element: Type,
    bytes: BytesMut,
    count: i32,
    has_nulls: bool,
}

impl Array {
    pub(super) fn new(element: Type) -> Self {
        Self { element, bytes: BytesMut::new(), count: 0, has_nulls: false }
    }

    /// Whether a value is missing.
    pub(super) const fn has_nulls(&self) -> bool {
        self.has_nulls
    }

    pub(super) fn push_uuid(&mut self, uuid: &[u8; 16]) {
        self.push(uuid);
    }

    /// A time, in microseconds since 1970.
    pub(super) fn push_time(&mut self, time_us: i64) {
        self.push_i64(micros_of_postgres(time_us));
    }

    pub(super) fn push_i64(&mut self, value: i64) {
        self.begin(8);
        self.bytes.put_i64(value);
    }

    pub(super) fn push_i32(&mut self, value: i32) {
        self.begin(4);
        self.bytes.put_i32(value);
    }

    pub(super) fn push_i16(&mut self, value: i16) {
        self.begin(2);
        self.bytes.put_i16(value);
    }

    pub(super) fn push_text(&mut self, text: &str) {
        self.push(text.as_bytes());
    }

    pub(super) fn push_value(&mut self, value: Option<&Value<'_>>) {
        match value {
            None => {
                self.has_nulls = true;
                self.count += 1;
                self.bytes.put_i32(-1);
            }
            Some(Value::Double(value)) => {
                self.begin(8);
                self.bytes.put_f64(*value);
            }
            Some(Value::Bigint(value) | Value::Timestamp(value)) => self.push_i64(*value),
            Some(Value::Boolean(value)) => self.push(&[u8::from(*value)]),
            Some(Value::Varchar(text)) => self.push_text(text),
        }
    }

    fn push(&mut self, value: &[u8]) {
        self.begin(value.len());
        self.bytes.put_slice(value);
    }

    fn begin(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes.put_i32(i32::try_from(bytes).expect("a value is shorter than a record"));
    }
}

impl ToSql for Array {
    fn to_sql(&self, _type: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        assert!(self.count > 0, "a statement has rows");
        out.put_i32(1);
        out.put_i32(i32::from(self.has_nulls));
        out.put_u32(self.element.oid());
        out.put_i32(self.count);
        out.put_i32(1);
        out.put_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(_type: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A series in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Uuid(pub(super) [u8; 16]);

impl FromSql<'_> for Uuid {
    fn from_sql(_type: &Type, raw: &[u8]) -> Result<Self, Failed> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(found: &Type) -> bool {
        *found == Type::UUID
    }
}

impl ToSql for Uuid {
    fn to_sql(&self, _type: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.put_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(found: &Type) -> bool {
        *found == Type::UUID
    }

    to_sql_checked!();
}

/// A time, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Time(pub(super) i64);

impl FromSql<'_> for Time {
    #[expect(clippy::big_endian_bytes, reason = "the order of PostgreSQL's wire")]
    fn from_sql(_type: &Type, raw: &[u8]) -> Result<Self, Failed> {
        Ok(Self(i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_US)))
    }

    fn accepts(found: &Type) -> bool {
        *found == Type::TIMESTAMPTZ
    }
}

impl ToSql for Time {
    fn to_sql(&self, _type: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        out.put_i64(self.0 - EPOCH_US);
        Ok(IsNull::No)
    }

    fn accepts(found: &Type) -> bool {
        *found == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

/// A time as PostgreSQL counts, from one in microseconds since 1970.
pub(super) const fn micros_of_postgres(time_us: i64) -> i64 {
    time_us - EPOCH_US
}

/// The microsecond in which a time is, rounded down, and the nanoseconds behind it.
pub(super) fn split(time_ns: i64) -> (i64, i16) {
    let rest = i16::try_from(time_ns.rem_euclid(1_000)).expect("less than 1000");
    (time_ns.div_euclid(1_000), rest)
}

/// The time of a row. One that a table has from elsewhere may be beyond what nanoseconds hold.
pub(super) fn join(time_us: i64, ns: i16) -> i64 {
    let whole = i128::from(time_us) * 1_000 + i128::from(ns);
    let bounded = whole.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(bounded).expect("clamped to its bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_whole() {
        for time_ns in [i64::MIN + 2, i64::MIN + 1_000, -1_001, -1, 0, 1, 999, 1_000, i64::MAX - 1]
        {
            let (time_us, ns) = split(time_ns);
            assert!((0..1_000).contains(&ns));
            assert_eq!(join(time_us, ns), time_ns, "{time_us} {ns}");
        }
    }
}
