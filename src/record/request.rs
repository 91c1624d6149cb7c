//! A write request: records of one table with the attributes that all of them share taken out.
//! The batcher builds them; engines execute them. Beside it, what an engine answers.

use super::codec::RecordView;
use super::{Reason, TableId, Value, ValueType};

/// Records of one table, at most [`super::limits::RECORDS_PER_REQUEST_MAX`] unless the engine likes more,
/// for it to write.
#[derive(Debug, Clone, Copy)]
pub struct WriteRequest<'a> {
    /// The table.
    pub table: TableId,
    /// What all records share; an engine that sends requests elsewhere sends it once.
    pub common: &'a CommonAttributes<'a>,
    /// The records, whole, in the order in which they were acknowledged.
    pub records: &'a [RecordView<'a>],
}

/// What all records of a request share. Source: Timestream API, `WriteRecords`, `CommonAttributes`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommonAttributes<'a> {
    /// Dimensions with the same value in every record, sorted by name.
    pub dimensions: Vec<(&'a str, &'a str)>,
    /// The measure name, where it is the same.
    pub measure_name: Option<&'a str>,
    /// The time, where it is the same, ns.
    pub time_ns: Option<i64>,
    /// The version, where it is the same.
    pub version: Option<i64>,
    /// Bytes of names and values that a request saves by saying them once.
    pub saved_bytes: u64,
}

/// What an engine did with one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was new.
    Stored,
    /// It replaced, or added attributes to, one with a lower version or fewer attributes.
    Updated,
    /// It was there already, the same.
    Unchanged,
    /// It was refused.
    Rejected(Box<Rejection>),
}

/// One record refused by an engine, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people; Timestream's own words where it has any.
    pub message: String,
    /// The version of the record that stands, where one does.
    pub existing_version: Option<i64>,
    /// What stands where the record names another value, as far as the engine has read it to decide.
    pub stood: Vec<Stood>,
}

/// One value that stands, for whoever mends the record that it kept out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stood {
    /// The attribute's name; empty for the one value of a scalar record.
    pub name: String,
    /// The value as [`Value::to_text`] gives it.
    pub value: String,
    /// Its type.
    pub value_type: ValueType,
}

/// Attributes of one record that an engine reads back: names and values, sorted by name.
pub type Attributes<'a> = Vec<(&'a str, Value<'a>)>;
