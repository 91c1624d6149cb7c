//! What Timestream would meter of a write, whatever engine it goes to.
//!
//! | part | bytes |
//! |---|---|
//! | time | 8 |
//! | a dimension | its name and its value, UTF-8 |
//! | measure name | UTF-8 |
//! | a value | BOOLEAN 1, VARCHAR its UTF-8, the others 8 |
//! | the name of one of several values | UTF-8 |
//!
//! What is said once for all records of a request is metered once. The sum of a request is rounded up
//! to whole KiB; of a batch load, which is no request of writes, the bytes are told as they are. A version is not metered. Source: Timestream developer guide, "Metering and pricing",
//! "Writes"; for names of several values, the size model of Amazon's own sink for Flink.
//!
//! The guide's example of common attributes says 52 and 27 bytes for parts whose sum it gives as 83
//! elsewhere, where the formula says 49 and 34; this file follows the formula.

use super::codec::RecordView;
use super::request::CommonAttributes;
use super::{MeasureKind, Record, Value};

/// What one write is counted in, bytes.
const UNIT_BYTES: u64 = 1024;

/// Bytes of a time.
const TIME_BYTES: u64 = 8;

/// What some requests are metered as, beside what they would be if each carried one record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metered {
    /// Requests.
    pub requests: u64,
    /// Records in them.
    pub records: u64,
    /// KiB that are metered.
    pub kib: u64,
    /// KiB of one request for each record.
    pub kib_single: u64,
}

impl Metered {
    /// Adds a request.
    pub fn add(&mut self, common: &CommonAttributes<'_>, records: &[RecordView<'_>]) {
        let each = records.iter().map(record_bytes);
        let said_once = common_bytes(common);
        let repeated = said_once * (records.len() as u64).saturating_sub(1);
        let bytes = each.clone().sum::<u64>();
        assert!(bytes >= repeated, "what is common to all records stands in each");
        self.requests += 1;
        self.records += records.len() as u64;
        self.kib += kib(bytes - repeated);
        self.kib_single += each.map(kib).sum::<u64>();
    }
}

/// Whole KiB that a request of so many bytes is counted as.
pub const fn kib(bytes: u64) -> u64 {
    if bytes == 0 { 1 } else { bytes.div_ceil(UNIT_BYTES) }
}

/// Bytes of one record by itself. What cannot be read counts nothing; whoever sends it hears of it.
pub fn record_bytes(record: &RecordView<'_>) -> u64 {
    let dimensions: usize = record.dimensions().map(|(name, value)| name.len() + value.len()).sum();
    let names: usize = match record.layout.kind {
        MeasureKind::Scalar => 0,
        MeasureKind::Multi => record.layout.entries().map(|(_, name)| name.len()).sum(),
    };
    let values: u64 = record.values().flatten().map(|value| value_bytes(&value)).sum();
    TIME_BYTES + (dimensions + names + record.family.measure_name.len()) as u64 + values
}

/// The same for a record that is not packed yet.
pub fn bytes_of(record: &Record<'_>) -> u64 {
    let dimensions: usize = record.dimensions.iter().map(|d| d.name.len() + d.value.len()).sum();
    let names: usize = match record.kind {
        MeasureKind::Scalar => 0,
        MeasureKind::Multi => record.attributes.iter().map(|attribute| attribute.name.len()).sum(),
    };
    let values: u64 = record.attributes.iter().map(|attribute| value_bytes(&attribute.value)).sum();
    TIME_BYTES + (dimensions + names + record.measure_name.len()) as u64 + values
}

/// Bytes of what is said once for all records.
pub fn common_bytes(common: &CommonAttributes<'_>) -> u64 {
    let dimensions: usize = common.dimensions.iter().map(|(n, v)| n.len() + v.len()).sum();
    let name = common.measure_name.map_or(0, str::len);
    (dimensions + name) as u64 + common.time_ns.map_or(0, |_| TIME_BYTES)
}

const fn value_bytes(value: &Value<'_>) -> u64 {
    match value {
        Value::Boolean(_) => 1,
        Value::Varchar(text) => text.len() as u64,
        Value::Double(_) | Value::Bigint(_) | Value::Timestamp(_) => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::codec::{Payload, PayloadBuilder};
    use crate::record::{Attribute, Dimension, TableId};

    /// The guide's EC2 instances.
    fn instances(count: usize) -> Vec<u8> {
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        for host in 0..count {
            let host = format!("host-{host:05}");
            let dimensions = [
                ("region", "us-east-1"),
                ("az", "1d"),
                ("vpc", "vpc-1a2b3c4d"),
                ("hostname", host.as_str()),
            ];
            let record = Record {
                measure_name: "cpu_utilization",
                dimensions: dimensions.map(|(name, value)| Dimension { name, value }).to_vec(),
                kind: MeasureKind::Scalar,
                attributes: vec![Attribute { name: "", value: Value::Double(35.0) }],
                ..Record::default()
            };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, 1_602_983_435_238_563_000, 1);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        bytes
    }

    fn metered(count: usize, common: &CommonAttributes<'_>) -> (Metered, u64) {
        let bytes = instances(count);
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let records: Vec<_> =
            payload.section(0, &families, &layouts).collect::<Result<_, _>>().unwrap();
        let mut metered = Metered::default();
        metered.add(common, &records);
        (metered, record_bytes(&records[0]))
    }

    /// "Write size of the time series event = 83 bytes", and 12 of them fit one write.
    #[test]
    fn the_documented_example_is_metered_as_documented() {
        let nothing = CommonAttributes::default();
        assert_eq!(metered(1, &nothing).1, 83);
        assert_eq!(metered(12, &nothing).0.kib, 1);
        assert_eq!(metered(13, &nothing).0.kib, 2);
        assert_eq!(metered(100, &nothing).0.kib_single, 100);
        // Its own numbers of the third example: 52 bytes once and 36 times 27 are one write.
        assert_eq!((kib(52 + 36 * 27), kib(52 + 37 * 27)), (1, 2));
    }

    /// The same record, packed and not.
    #[test]
    fn a_record_that_is_not_packed_is_metered_alike() {
        let attributes = vec![
            Attribute { name: "ok", value: Value::Boolean(true) },
            Attribute { name: "text", value: Value::Varchar("abc") },
        ];
        let dimensions = vec![Dimension { name: "host", value: "a" }];
        let record = Record { measure_name: "m", dimensions, attributes, ..Record::default() };
        assert_eq!(bytes_of(&record), 8 + 5 + 1 + (2 + 1) + (4 + 3));
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
        builder.push(ids, &record, 1, 1);
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let packed = payload.section(0, &families, &layouts).next().unwrap().unwrap();
        assert_eq!(record_bytes(&packed), bytes_of(&record));
    }

    #[test]
    fn what_is_common_is_metered_once() {
        let common = CommonAttributes {
            dimensions: vec![("az", "1d"), ("region", "us-east-1"), ("vpc", "vpc-1a2b3c4d")],
            measure_name: Some("cpu_utilization"),
            ..CommonAttributes::default()
        };
        assert_eq!(common_bytes(&common), 49);
        // 49 + 34 n: 28 are 1,001 bytes.
        assert_eq!(metered(28, &common).0.kib, 1);
        assert_eq!(metered(29, &common).0.kib, 2);
        let found = metered(100, &common).0;
        assert_eq!((found.requests, found.records), (1, 100));
        assert_eq!((found.kib, found.kib_single), (4, 100));
    }

    #[test]
    fn an_empty_request_would_be_one_write_all_the_same() {
        assert_eq!((kib(0), kib(1), kib(1024), kib(1025)), (1, 1, 1, 2));
    }
}
