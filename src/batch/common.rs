//! What all records of a batch share, found in one pass as they are pushed.

use crate::record::codec::RecordView;
use crate::record::request::CommonAttributes;

/// Bytes of a time as Timestream's API writes it, 19 digits, that saying it once saves.
const TIME_BYTES: usize = 19;

/// The attributes that every record pushed so far shares.
#[derive(Debug, Default)]
pub struct Common<'a> {
    shared: CommonAttributes<'a>,
    first: Option<RecordView<'a>>,
    /// The record before, whose series need not be compared again when it comes twice in a row.
    last_series: Option<(u64, &'a [u8])>,
}

impl<'a> Common<'a> {
    /// Strikes out what `record` does not share; the first record sets the candidates.
    #[inline]
    pub fn narrow(&mut self, record: &RecordView<'a>) {
        let series = (record.series_hash, record.series_values);
        let Some(first) = &self.first else {
            self.shared.dimensions.extend(record.dimensions());
            self.shared.measure_name = Some(record.family.measure_name);
            self.shared.time_ns = Some(record.time_ns);
            self.shared.version = Some(record.version);
            self.first = Some(*record);
            self.last_series = Some(series);
            return;
        };
        if self.shared.time_ns != Some(record.time_ns) {
            self.shared.time_ns = None;
        }
        if self.shared.version != Some(record.version) {
            self.shared.version = None;
        }
        if self.last_series == Some(series) {
            return;
        }
        self.last_series = Some(series);
        if self.shared.measure_name.is_some_and(|name| name != record.family.measure_name) {
            self.shared.measure_name = None;
        }
        if self.shared.dimensions.is_empty() {
            return;
        }
        if first.family.bytes == record.family.bytes {
            narrow_sorted(&mut self.shared.dimensions, record.dimensions());
        } else {
            let theirs: Vec<_> = record.dimensions().collect();
            self.shared.dimensions.retain(|ours| theirs.contains(ours));
        }
    }

    /// The shared attributes of a batch of `records`.
    pub fn finish(&mut self, records: usize) -> &CommonAttributes<'a> {
        assert!(records == 0 || self.first.is_some(), "what records share was looked for in them");
        let shared = &mut self.shared;
        let mut bytes: usize = shared.dimensions.iter().map(|(n, v)| n.len() + v.len()).sum();
        bytes += shared.measure_name.map_or(0, str::len);
        bytes += shared.time_ns.map_or(0, |_| TIME_BYTES);
        bytes += shared.version.map_or(0, |version| version.to_string().len());
        shared.saved_bytes = (bytes * records.saturating_sub(1)) as u64;
        shared
    }

    /// Forgets the batch.
    pub fn clear(&mut self) {
        self.shared.dimensions.clear();
        self.first = None;
        self.last_series = None;
    }
}

/// Keeps of `ours` what `theirs` has too; both are sorted by name, and `theirs` has every name.
#[inline]
fn narrow_sorted<'a>(
    ours: &mut Vec<(&'a str, &'a str)>,
    mut theirs: impl Iterator<Item = (&'a str, &'a str)>,
) {
    ours.retain(|(name, value)| {
        theirs.by_ref().find(|(their_name, _)| their_name == name).is_some_and(|(_, v)| v == *value)
    });
}

#[cfg(test)]
mod tests {
    use super::super::{Batches, Order};
    use crate::base::lsn::Lsn;
    use crate::record::codec::{Payload, PayloadBuilder};
    use crate::record::{Attribute, Dimension, Record, TableId, Value};

    type Tags<'a> = &'a [(&'a str, &'a str)];

    /// Packs records of table 1, `(dimensions, time, version)` each.
    fn payload(records: &[(Tags<'_>, i64, i64)]) -> Vec<u8> {
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        for (dimensions, time_ns, version) in records {
            let record = Record {
                measure_name: "cpu",
                dimensions: dimensions
                    .iter()
                    .map(|(name, value)| Dimension { name, value })
                    .collect(),
                attributes: vec![Attribute { name: "v", value: Value::Bigint(*time_ns) }],
                ..Record::default()
            };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, *time_ns, *version);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        bytes
    }

    /// The common attributes of each batch that comes of `bytes`, as (dimensions, time, saved).
    fn batches(bytes: &[u8], max: usize) -> Vec<(String, Option<i64>, u64, usize)> {
        let payload = Payload::open(bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let mut batches = Batches::new(max, Order::Arrival);
        let mut found = Vec::new();
        let mut write = |batch: &mut super::super::Batch<'_>| {
            let request = batch.request();
            let dimensions: Vec<String> =
                request.common.dimensions.iter().map(|(n, v)| format!("{n}={v}")).collect();
            let entry = (
                dimensions.join(","),
                request.common.time_ns,
                request.common.saved_bytes,
                request.records.len(),
            );
            found.push(entry);
            Ok::<(), ()>(())
        };
        for record in payload.section(0, &families, &layouts) {
            batches.push(record.unwrap(), Lsn(1), &mut write).unwrap();
        }
        batches.drain(&mut write).unwrap();
        found
    }

    #[test]
    fn what_all_records_share_is_said_once() {
        let bytes = payload(&[
            (&[("dc", "x"), ("host", "a")], 5, 1),
            (&[("dc", "x"), ("host", "b")], 5, 1),
            (&[("dc", "x"), ("host", "c")], 5, 1),
        ]);
        // dc=x is 3 bytes, cpu 3, the time 19, the version 1; two of three records need not say it.
        assert_eq!(batches(&bytes, 100), [("dc=x".to_owned(), Some(5), 2 * 26, 3)]);
    }

    #[test]
    fn records_with_other_names_share_what_is_equal_all_the_same() {
        let bytes = payload(&[
            (&[("dc", "x"), ("host", "a"), ("rack", "1")], 5, 1),
            (&[("rack", "1"), ("zone", "z"), ("dc", "y")], 6, 1),
        ]);
        assert_eq!(batches(&bytes, 100), [("rack=1".to_owned(), None, 5 + 3 + 1, 2)]);
    }

    #[test]
    fn a_full_batch_is_written_and_the_next_starts_anew() {
        let same: Tags<'_> = &[("host", "a")];
        let bytes = payload(&[(same, 1, 1), (same, 2, 1), (same, 3, 1)]);
        let found = batches(&bytes, 2);
        assert_eq!(found.iter().map(|b| b.3).collect::<Vec<_>>(), [2, 1]);
        assert_eq!(found[1], ("host=a".to_owned(), Some(3), 0, 1));
    }
}
