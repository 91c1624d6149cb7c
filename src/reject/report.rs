//! Rejections of one frame on their way to the sink.

use crate::base::lsn::Lsn;
use crate::object::encode;
use crate::record::codec::{CodecError, RecordView, RefusedLine};
use crate::record::request::Rejection;
use crate::record::{MeasureKind, Reason, TableId};

use super::entry::{DimensionJson, Entry, Id, MeasureJson, Moment, RecordJson, sheet};
use super::key::{Block, Day, LINES, RECORDS, digits};
use super::late;

/// Rejections of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Report<'a> {
    /// The frame.
    pub lsn: Lsn,
    /// When its request was received, ns.
    pub received_ns: i64,
    /// The database.
    pub database: &'a str,
    /// From 0: a frame with many rejections is reported in parts.
    pub part: u32,
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
        /// The records.
        records: Vec<ReportedRecord>,
    },
    /// Lines that were never records, and where each stands in the frame.
    Lines(Vec<(u64, RefusedLine<'a>)>),
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedRecord {
    /// Where it stands in its frame.
    place: u64,
    number: u64,
    reason: Reason,
    pub(super) message: String,
    existing_version: Option<i64>,
    stood: Vec<MeasureJson>,
    pub(super) record: RecordJson,
    /// About how many bytes it takes.
    bytes: usize,
}

impl Report<'_> {
    /// The key of an object of its own: for a report that is large, or has a layout of its own.
    pub(super) fn own_key(&self) -> String {
        let (database, day) = (encode(self.database), Day::of(self.received_ns));
        let (lsn, part) = (digits(self.lsn), self.part);
        match &self.content {
            Content::Records { table, place: Place::Location { prefix, .. }, .. } => {
                let id = late::report_id(self);
                let parts = prefix.split('/').filter(|part| !part.is_empty());
                let prefix: String = parts.map(|part| encode(part) + "/").collect();
                format!("{prefix}{database}/{}/{day}/{id}.json", encode(table))
            }
            Content::Records { table, shard: (shard, shards), .. } => {
                let table = encode(table);
                format!("{RECORDS}/{database}/{table}/{day}/{lsn}-{shard}of{shards}-{part}.json")
            }
            Content::Lines(_) => format!("{LINES}/{database}/{day}/{lsn}-{part}.json"),
        }
    }

    /// The key of the object that it shares with small reports of the frames around it, without its
    /// ending.
    pub(super) fn shared_key(&self) -> String {
        let (database, day) = (encode(self.database), Day::of(self.received_ns));
        let block = Block::of(self.lsn);
        match &self.content {
            Content::Records { table, shard: (shard, shards), .. } => {
                format!("{RECORDS}/{database}/{}/{day}/{block}-{shard}of{shards}", encode(table))
            }
            Content::Lines(_) => format!("{LINES}/{database}/{day}/{block}"),
        }
    }

    /// Whether it has a layout of its own, which no object of many has.
    pub(super) fn is_late(&self) -> bool {
        matches!(self.content, Content::Records { place: Place::Location { .. }, .. })
    }

    /// The table; `None` for lines.
    pub(super) fn table(&self) -> Option<&str> {
        match self.content {
            Content::Records { table, .. } => Some(table),
            Content::Lines(_) => None,
        }
    }

    /// Each rejection with its number, as JSON.
    pub(super) fn entries(&self) -> Vec<(Id, Vec<u8>)> {
        let written = |entry: Entry| {
            let json = serde_json::to_vec(&entry).expect("strings and numbers always serialise");
            (entry.id, json)
        };
        match &self.content {
            Content::Records { records, .. } => {
                records.iter().map(|record| written(self.of_record(record))).collect()
            }
            Content::Lines(lines) => {
                lines.iter().map(|(place, line)| written(self.of_line(*place, line))).collect()
            }
        }
    }

    /// The object that it is by itself.
    pub(super) fn to_json(&self) -> Vec<u8> {
        if let Content::Records { place: Place::Location { .. }, records, .. } = &self.content {
            return late::to_json(self, records);
        }
        let entries = self.entries();
        sheet(self.database, self.table(), entries.iter().map(|(_, json)| &json[..]))
    }

    fn entry(&self, (place, number): (u64, u64), (reason, message): (Reason, &str)) -> Entry {
        Entry {
            id: Id { lsn: self.lsn, place },
            lsn: self.lsn,
            received: Moment(self.received_ns),
            number,
            reason,
            message: message.to_owned(),
            existing_version: None,
            stood: Vec::new(),
            record: None,
            line: None,
            line_base64: None,
            reading: None,
        }
    }

    fn of_record(&self, record: &ReportedRecord) -> Entry {
        Entry {
            existing_version: record.existing_version,
            stood: record.stood.clone(),
            record: Some(record.record.clone()),
            ..self.entry((record.place, record.number), (record.reason, &record.message))
        }
    }

    fn of_line(&self, place: u64, line: &RefusedLine<'_>) -> Entry {
        use base64::Engine as _;
        let utf8 = std::str::from_utf8(line.text).ok();
        let encoded = || base64::engine::general_purpose::STANDARD.encode(line.text);
        Entry {
            line: utf8.map(str::to_owned),
            line_base64: utf8.is_none().then(encoded),
            // What cannot be read was written by another version: the line is kept without it.
            reading: serde_json::from_str(line.reading).ok(),
            ..self.entry((place, line.number), (line.reason, line.message))
        }
    }
}

impl ReportedRecord {
    /// The record `view`, which stands at `place` in its frame, rejected for `rejection`.
    ///
    /// # Errors
    ///
    /// [`CodecError`] when its values cannot be read.
    pub fn new(
        view: &RecordView<'_>,
        place: u64,
        rejection: &Rejection,
    ) -> Result<Self, CodecError> {
        let names = view.layout.entries();
        let mut measures = Vec::with_capacity(view.layout.attributes);
        for ((_, name), value) in names.zip(view.values()) {
            measures.push(MeasureJson::new(name, &value?));
        }
        let is_scalar = view.layout.kind == MeasureKind::Scalar;
        let dimensions = view
            .dimensions()
            .map(|(name, value)| DimensionJson { name: name.into(), value: value.into() });
        let record = RecordJson {
            time: view.time_ns.to_string(),
            version: Some(view.version),
            ..RecordJson::new(dimensions.collect(), view.family.measure_name, (is_scalar, measures))
        };
        let stood: usize = rejection.stood.iter().map(|one| one.name.len() + one.value.len()).sum();
        Ok(Self {
            place,
            number: view.number,
            reason: rejection.reason,
            message: rejection.message.clone(),
            existing_version: rejection.existing_version,
            stood: rejection.stood.iter().map(MeasureJson::from).collect(),
            record,
            bytes: view.values.len() + view.series_values.len() + stood + rejection.message.len(),
        })
    }

    /// The same at another place.
    #[cfg(test)]
    pub(super) fn at(self, place: u64) -> Self {
        Self { place, ..self }
    }

    /// About how many bytes it takes, for whoever bounds a report.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Where `part` stands in `payload`, of which it is a slice.
///
/// # Panics
///
/// When it is none: its number would be another's.
pub fn place_in(payload: &[u8], part: &[u8]) -> u64 {
    let place = part.as_ptr().addr().checked_sub(payload.as_ptr().addr());
    let place = place.filter(|place| place + part.len() <= payload.len());
    place.expect("records and lines are read in place") as u64
}
