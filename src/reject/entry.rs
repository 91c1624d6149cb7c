//! One rejection as the sink keeps it, and the object that holds many.
//!
//! ```text
//! {"database":"iot","table":"weather","records":[      of lines: no table, and "lines"
//! {"id":"42-57","lsn":42,"received":"2026-11-22T10:00:00Z","number":3,"reason":"version_conflict", ..},
//! ..
//! ]}
//! ```
//!
//! One rejection a line, in the order of their numbers, so that the object reads well by eye, by `grep` and
//! by any JSON parser. What an object says of a rejection is never changed afterwards: an object that grows
//! gets lines, and a replay writes the same lines again.
//!
//! Reports of the first layout, one object a frame, said `lsn` and `received` once for all and gave no
//! numbers to their rejections; they are read as well. What a replay reports again after the change of layouts
//! stands in both, under two numbers.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;

use crate::base::lsn::Lsn;
use crate::record::request::Stood;
use crate::record::{Reading, Reason, Record, Value};

/// Places of rejections that a report of the first layout holds begin here, far behind the bytes of any
/// frame: all that is known of them is the number in the request.
const PLACE_OF_FIRST_LAYOUT: u64 = 1 << 32;

/// The number of a rejection: its frame, and the byte at which the record, or the line, stands in the
/// frame's payload. The log never changes a frame, so every replay, with any number of shards, finds the
/// same rejection under the same number; and no two records of a frame stand at one byte, whereas many may
/// have come in one line of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// The frame.
    pub lsn: Lsn,
    /// Where in it.
    pub place: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lsn, self.place)
    }
}

/// A text that is no rejection's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a rejection's number is LSN-PLACE, as in 42-57")]
pub struct NoId;

impl NoId {
    /// Always the client's.
    pub const fn class(self) -> crate::base::class::Class {
        crate::base::class::Class::Refused
    }
}

impl FromStr for Id {
    type Err = NoId;

    fn from_str(text: &str) -> Result<Self, NoId> {
        let (lsn, place) = text.split_once('-').ok_or(NoId)?;
        let number = |digits: &str| digits.parse::<u64>().map_err(|_no_number| NoId);
        let id = Self { lsn: Lsn(number(lsn)?), place: number(place)? };
        // One spelling each, since marks are kept by them.
        if id.to_string() == text && id.lsn < Lsn::LIMIT { Ok(id) } else { Err(NoId) }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A moment, ns since 1970, that is written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    pub(super) fn timestamp(self) -> Timestamp {
        // 64-bit nanoseconds reach from 1677 to 2262, well inside jiff's range.
        Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.timestamp().fmt(f)
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let moment: Timestamp = text.parse().map_err(de::Error::custom)?;
        i64::try_from(moment.as_nanosecond()).map(Self).map_err(de::Error::custom)
    }
}

/// One rejection as it stands in an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number.
    pub id: Id,
    /// The frame.
    pub lsn: Lsn,
    /// When its request was received.
    pub received: Moment,
    /// The line's number in the request, from 1, or the record's index, from 0.
    pub number: u64,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// The version of the record that stands, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_version: Option<i64>,
    /// What stands where the record has another value, as far as the engine knew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stood: Vec<MeasureJson>,
    /// The record, where it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<RecordJson>,
    /// The line or JSON that never was a record, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The same, where it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line_base64: Option<String>,
    /// How the line was to be read; absent of records, and where it was kept before this was.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading<'static>>,
}

/// A record in the shape of Timestream's `WriteRecords`, which the JSON endpoint takes as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RecordJson {
    /// What names the series.
    pub dimensions: Vec<DimensionJson>,
    /// The name of what was measured.
    pub measure_name: String,
    /// The type of the one value, or `MULTI`.
    pub measure_value_type: Cow<'static, str>,
    /// The one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure_value: Option<String>,
    /// The values of `MULTI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measure_values: Option<Vec<MeasureJson>>,
    /// When, in `time_unit`; absent where a line left it to the time of receipt.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub time: String,
    /// Always nanoseconds.
    pub time_unit: Cow<'static, str>,
    /// The version; absent where a line left it to the settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
}

/// One name and value of those that name a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DimensionJson {
    /// The name.
    pub name: String,
    /// The value.
    pub value: String,
}

/// One measured value with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MeasureJson {
    /// The name; empty for the one value of a scalar record.
    pub name: String,
    /// The value as text.
    pub value: String,
    /// Its type.
    pub r#type: Cow<'static, str>,
}

impl MeasureJson {
    /// A value under a name.
    pub fn new(name: &str, value: &Value<'_>) -> Self {
        let r#type = Cow::Borrowed(value.value_type().name());
        Self { name: name.to_owned(), value: value.to_text(), r#type }
    }
}

impl From<&Stood> for MeasureJson {
    fn from(stood: &Stood) -> Self {
        let r#type = Cow::Borrowed(stood.value_type.name());
        Self { name: stood.name.clone(), value: stood.value.clone(), r#type }
    }
}

/// A record with its database and table, as a whole document that the JSON endpoint takes as it is.
pub fn document(record: &Record<'_>) -> String {
    let document = serde_json::json!({
        "DatabaseName": record.database,
        "TableName": record.table,
        "Records": [RecordJson::from(record)],
    });
    document.to_string()
}

/// The unit of every time in a report.
pub(super) const NANOSECONDS: Cow<'static, str> = Cow::Borrowed("NANOSECONDS");

impl From<&Record<'_>> for RecordJson {
    fn from(record: &Record<'_>) -> Self {
        let dimensions = record.dimensions.iter().map(|dimension| DimensionJson {
            name: dimension.name.to_owned(),
            value: dimension.value.to_owned(),
        });
        let measures = record.attributes.iter();
        let measures =
            measures.map(|attribute| MeasureJson::new(attribute.name, &attribute.value)).collect();
        let is_scalar = record.kind == crate::record::MeasureKind::Scalar;
        let time = record.time_ns.map(|time_ns| time_ns.to_string()).unwrap_or_default();
        Self {
            time,
            version: record.version,
            ..Self::new(dimensions.collect(), record.measure_name, (is_scalar, measures))
        }
    }
}

impl RecordJson {
    /// A record without time and version.
    pub(super) fn new(
        dimensions: Vec<DimensionJson>,
        measure_name: &str,
        (is_scalar, mut measures): (bool, Vec<MeasureJson>),
    ) -> Self {
        let first = if is_scalar { measures.pop() } else { None };
        Self {
            dimensions,
            measure_name: measure_name.to_owned(),
            measure_value_type: first.as_ref().map_or("MULTI".into(), |one| one.r#type.clone()),
            measure_value: first.map(|measure| measure.value),
            measure_values: (!is_scalar).then_some(measures),
            time: String::new(),
            time_unit: NANOSECONDS,
            version: None,
        }
    }
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// The database of all of them.
    pub database: String,
    /// The table of all of them; `None` for lines.
    pub table: Option<String>,
    /// The rejections.
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct SheetJson<'a> {
    database: String,
    table: Option<String>,
    lsn: Option<Lsn>,
    received: Option<Moment>,
    #[serde(borrow)]
    records: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    lines: Option<Vec<&'a RawValue>>,
}

/// A rejection of the first layout.
#[derive(Deserialize)]
struct OldEntry {
    number: u64,
    reason: Reason,
    message: String,
    existing_version: Option<i64>,
    record: Option<RecordJson>,
    line: Option<String>,
    line_base64: Option<String>,
}

impl Sheet {
    /// Reads an object, of this layout or the first.
    ///
    /// # Errors
    ///
    /// What serde says of bytes that are neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let SheetJson { database, table, lsn, received, records, lines } =
            serde_json::from_slice(bytes)?;
        let raw = records.or(lines).ok_or_else(|| de::Error::missing_field("records"))?;
        let entries = raw.into_iter().map(|raw| match (lsn, received) {
            (Some(lsn), Some(received)) => old_entry(raw, lsn, received),
            _ => serde_json::from_str(raw.get()),
        });
        Ok(Self { entries: entries.collect::<Result<_, _>>()?, database, table })
    }
}

fn old_entry(raw: &RawValue, lsn: Lsn, received: Moment) -> Result<Entry, serde_json::Error> {
    let old: OldEntry = serde_json::from_str(raw.get())?;
    Ok(Entry {
        id: Id { lsn, place: PLACE_OF_FIRST_LAYOUT + old.number },
        lsn,
        received,
        number: old.number,
        reason: old.reason,
        message: old.message,
        existing_version: old.existing_version,
        stood: Vec::new(),
        record: old.record,
        line: old.line,
        line_base64: old.line_base64,
        reading: None,
    })
}

/// An object's text around its entries, each given as its own JSON.
pub(super) fn sheet<'e>(
    database: &str,
    table: Option<&str>,
    entries: impl Iterator<Item = &'e [u8]>,
) -> Vec<u8> {
    let quoted = |text: &str| serde_json::to_string(text).expect("a text always serialises");
    let mut json = match table {
        Some(table) => {
            format!("{{\"database\":{},\"table\":{},\"records\":[", quoted(database), quoted(table))
        }
        None => format!("{{\"database\":{},\"lines\":[", quoted(database)),
    }
    .into_bytes();
    let mut separator: &[u8] = b"\n";
    for entry in entries {
        json.extend_from_slice(separator);
        json.extend_from_slice(entry);
        separator = b",\n";
    }
    json.extend_from_slice(b"\n]}\n");
    json
}
