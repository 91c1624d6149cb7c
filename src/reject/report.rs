//! What a report says.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::base::lsn::Lsn;
use crate::object::encode;
use crate::record::codec::{CodecError, RecordView, RefusedLine};
use crate::record::request::Rejection;
use crate::record::{MeasureKind, Reason, TableId, Value};

use super::late;

/// What the keys of reports on records and on lines begin with.
pub(super) const RECORDS: &str = "records";
pub(super) const LINES: &str = "lines";

/// Digits of a frame's number in a key.
const LSN_DIGITS: usize = 20;

/// The frame that the report under this key is of; `None` for a key that is no report's.
pub(super) fn lsn_in(key: &str) -> Option<Lsn> {
    let name = key.rsplit('/').next()?.strip_suffix(".json")?;
    let (digits, rest) = name.split_at_checked(LSN_DIGITS)?;
    let is_ours = rest.is_empty() || rest.starts_with('-');
    digits.parse().ok().filter(|_| is_ours).map(Lsn)
}

/// Rejections of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Report<'a> {
    /// The frame.
    pub lsn: Lsn,
    /// When its request was received, ns.
    pub received_ns: i64,
    /// The database.
    pub database: &'a str,
    /// What was rejected.
    pub content: Content<'a>,
}

/// What was rejected: records by the engine, or lines before the log.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<'a> {
    /// Records of one table.
    Records {
        /// The table.
        table: &'a str,
        /// Where they are reported, which decides the layout.
        place: Place<'a>,
        /// The shard that found them, and how many shards there were.
        shard: (u16, usize),
        /// From 0: a frame with many rejections is reported in parts.
        part: u32,
        /// The records.
        records: Vec<ReportedRecord>,
    },
    /// Lines that were never records.
    Lines(Vec<RefusedLine<'a>>),
}

/// Where records are reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// In the reject sink, as this gateway does.
    Sink,
    /// At the location that the table names for conflicts of its magnetic store, as Timestream does.
    Location {
        /// The table's number.
        id: TableId,
        /// What keys begin with, as the table names it; may be empty.
        prefix: &'a str,
    },
}

/// One rejected record, with everything needed to send it again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReportedRecord {
    number: u64,
    reason: Reason,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    existing_version: Option<i64>,
    pub(super) record: RecordJson,
}

/// A record in the shape of Timestream's `WriteRecords`, which the JSON endpoint takes as it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordJson {
    pub(super) dimensions: Vec<DimensionJson>,
    pub(super) measure_name: String,
    pub(super) measure_value_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measure_value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) measure_values: Option<Vec<MeasureJson>>,
    pub(super) time: String,
    pub(super) time_unit: &'static str,
    pub(super) version: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DimensionJson {
    pub(super) name: String,
    pub(super) value: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MeasureJson {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) r#type: &'static str,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    lsn: Lsn,
    received: String,
    database: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    table: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<&'a [ReportedRecord]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<LineJson<'a>>>,
}

#[derive(Serialize)]
struct LineJson<'a> {
    number: u64,
    reason: Reason,
    message: &'a str,
    /// The line, where it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<&'a str>,
    /// The line, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    line_base64: Option<String>,
}

impl Report<'_> {
    /// The report's key in the object store.
    pub fn key(&self) -> String {
        let day =
            timestamp(self.received_ns).to_zoned(TimeZone::UTC).strftime("%Y/%m/%d").to_string();
        let database = encode(self.database);
        match &self.content {
            Content::Records { table, place: Place::Location { prefix, .. }, .. } => {
                let id = late::report_id(self);
                let parts = prefix.split('/').filter(|part| !part.is_empty());
                let prefix: String = parts.map(|part| encode(part) + "/").collect();
                format!("{prefix}{database}/{}/{day}/{id}.json", encode(table))
            }
            Content::Records { table, shard: (shard, shards), part, .. } => {
                let table = encode(table);
                let lsn = self.lsn.0;
                format!(
                    "{RECORDS}/{database}/{table}/{day}/{lsn:0LSN_DIGITS$}-{shard}of{shards}-{part}.json"
                )
            }
            Content::Lines(_) => {
                format!("{LINES}/{database}/{day}/{:0LSN_DIGITS$}.json", self.lsn.0)
            }
        }
    }

    /// The report as JSON.
    pub fn to_json(&self) -> Vec<u8> {
        if let Content::Records { place: Place::Location { .. }, records, .. } = &self.content {
            return late::to_json(self, records);
        }
        let (table, records, lines) = match &self.content {
            Content::Records { table, records, .. } => (Some(*table), Some(&records[..]), None),
            Content::Lines(lines) => (None, None, Some(lines.iter().map(LineJson::of).collect())),
        };
        let report = ReportJson {
            lsn: self.lsn,
            received: timestamp(self.received_ns).to_string(),
            database: self.database,
            table,
            records,
            lines,
        };
        serde_json::to_vec_pretty(&report).expect("strings and numbers always serialise")
    }
}

impl ReportedRecord {
    /// The record `view`, rejected for `rejection`.
    ///
    /// # Errors
    ///
    /// [`CodecError`] when its values cannot be read.
    pub fn new(view: &RecordView<'_>, rejection: &Rejection) -> Result<Self, CodecError> {
        let names = view.layout.entries();
        let mut measures = Vec::with_capacity(view.layout.attributes);
        for ((value_type, name), value) in names.zip(view.values()) {
            measures.push(MeasureJson {
                name: name.to_owned(),
                value: text(&value?),
                r#type: value_type.name(),
            });
        }
        let scalar = view.layout.kind == MeasureKind::Scalar;
        let first = if scalar { measures.pop() } else { None };
        let record = RecordJson {
            dimensions: view
                .dimensions()
                .map(|(name, value)| DimensionJson { name: name.into(), value: value.into() })
                .collect(),
            measure_name: view.family.measure_name.to_owned(),
            measure_value_type: first.as_ref().map_or("MULTI", |measure| measure.r#type),
            measure_value: first.map(|measure| measure.value),
            measure_values: (!scalar).then_some(measures),
            time: view.time_ns.to_string(),
            time_unit: "NANOSECONDS",
            version: view.version,
        };
        Ok(Self {
            number: view.number,
            reason: rejection.reason,
            message: rejection.message.clone(),
            existing_version: rejection.existing_version,
            record,
        })
    }
}

impl<'a> LineJson<'a> {
    fn of(line: &RefusedLine<'a>) -> Self {
        use base64::Engine as _;
        let utf8 = std::str::from_utf8(line.text).ok();
        let line_base64 =
            utf8.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(line.text));
        Self {
            number: line.number,
            reason: line.reason,
            message: line.message,
            line: utf8,
            line_base64,
        }
    }
}

/// A value as text that reads back as the same value.
fn text(value: &Value<'_>) -> String {
    match value {
        Value::Double(value) => zmij::Buffer::new().format(*value).to_owned(),
        Value::Bigint(value) | Value::Timestamp(value) => value.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Varchar(value) => (*value).to_owned(),
    }
}

fn timestamp(ns: i64) -> Timestamp {
    // 64-bit nanoseconds reach from 1677 to 2262, well inside jiff's range.
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}
