//! A write request in the SDK's types: what all records share said once, and the coarsest time unit.

use aws_sdk_timestreamwrite::types::{
    Dimension, MeasureValue, MeasureValueType, Record, TimeUnit, builders::RecordBuilder,
};

use crate::record::codec::{CodecError, RecordView};
use crate::record::request::{CommonAttributes, WriteRequest};
use crate::record::{MeasureKind, Value, ValueType};

/// The version of a record that names none. Source: Timestream API, `Record`, `Version`.
const VERSION_DEFAULT: i64 = 1;

/// Bytes of JSON around a dimension, a measure name, a time, a version and a type, with the comma.
const DIMENSION_JSON_BYTES: usize = r#"{"Name":"","Value":""},"#.len();
const NAME_JSON_BYTES: usize = r#""MeasureName":"","#.len();
const TIME_JSON_BYTES: usize = r#""Time":"","#.len();
const VERSION_JSON_BYTES: usize = r#""Version":,"#.len();
const TYPE_JSON_BYTES: usize = r#""MeasureValueType":"","#.len();

/// A request in the SDK's types.
#[derive(Debug, Clone)]
pub(super) struct Encoded {
    /// What all records share.
    pub(super) common: Record,
    /// What each has of its own.
    pub(super) records: Vec<Record>,
    /// Bytes of JSON that saying it once saves.
    pub(super) saved_bytes: u64,
}

/// Encodes a request.
///
/// # Errors
///
/// [`CodecError`]: a record cannot be read.
pub(super) fn encode(request: &WriteRequest<'_>) -> Result<Encoded, CodecError> {
    assert!(!request.records.is_empty(), "a request has a record");
    let unit = Unit::of(request.records)?;
    let measure_type = shared_type(request.records);
    let shared = request.common;
    let mut common = Record::builder().time_unit(unit.name());
    for (name, value) in &shared.dimensions {
        common = common.dimensions(dimension(name, value));
    }
    common = common.set_measure_name(shared.measure_name.map(str::to_owned));
    common = common.set_measure_value_type(measure_type.clone());
    common = common.set_time(shared.time_ns.map(|time_ns| unit.text(time_ns)));
    common = common.set_version(shared.version.filter(|version| *version != VERSION_DEFAULT));
    let common = common.build();
    let records = request.records.iter().map(|record| own(record, shared, &common, unit));
    let records = records.collect::<Result<Vec<_>, _>>()?;
    let repeats = request.records.len() - 1;
    let saved_bytes = (said_once(shared, &common) * repeats) as u64;
    Ok(Encoded { common, records, saved_bytes })
}

/// What a record has beside what all share.
fn own(
    record: &RecordView<'_>,
    shared: &CommonAttributes<'_>,
    common: &Record,
    unit: Unit,
) -> Result<Record, CodecError> {
    let mut own = Record::builder();
    // Both are sorted by name.
    let mut said = shared.dimensions.iter().peekable();
    for (name, value) in record.dimensions() {
        if said.next_if(|(common, _)| *common == name).is_none() {
            own = own.dimensions(dimension(name, value));
        }
    }
    assert!(said.peek().is_none(), "what is common stands in every record");
    if shared.measure_name.is_none() {
        own = own.measure_name(record.family.measure_name);
    }
    if shared.time_ns.is_none() {
        own = own.time(unit.text(record.time_ns));
    }
    if shared.version.is_none() {
        own = own.version(record.version);
    }
    if common.measure_value_type().is_none() {
        own = own.set_measure_value_type(measure_type(record));
    }
    Ok(values(own, record, unit)?.build())
}

fn values(
    own: RecordBuilder,
    record: &RecordView<'_>,
    unit: Unit,
) -> Result<RecordBuilder, CodecError> {
    let mut own = own;
    for ((value_type, name), value) in record.layout.entries().zip(record.values()) {
        let text = unit.value(&value?);
        own = match record.layout.kind {
            MeasureKind::Scalar => own.measure_value(text),
            MeasureKind::Multi => {
                let value =
                    MeasureValue::builder().name(name).value(text).r#type(named(value_type));
                own.measure_values(value.build().expect("name, value and type are given"))
            }
        };
    }
    Ok(own)
}

fn dimension(name: &str, value: &str) -> Dimension {
    Dimension::builder().name(name).value(value).build().expect("name and value are given")
}

fn named(value_type: ValueType) -> MeasureValueType {
    MeasureValueType::from(value_type.name())
}

fn measure_type(record: &RecordView<'_>) -> Option<MeasureValueType> {
    match record.layout.kind {
        MeasureKind::Multi => Some(MeasureValueType::Multi),
        MeasureKind::Scalar => record.layout.entries().next().map(|(of, _)| named(of)),
    }
}

fn shared_type(records: &[RecordView<'_>]) -> Option<MeasureValueType> {
    let first = measure_type(records.first()?);
    records.iter().all(|record| measure_type(record) == first).then_some(first).flatten()
}

/// Bytes of JSON that each record would have to say.
fn said_once(shared: &CommonAttributes<'_>, common: &Record) -> usize {
    let dimensions: usize =
        shared.dimensions.iter().map(|(n, v)| DIMENSION_JSON_BYTES + n.len() + v.len()).sum();
    let text = |text: Option<&str>, around: usize| text.map_or(0, |text| around + text.len());
    let version = common.version().map(|version| version.to_string());
    dimensions
        + text(common.measure_name(), NAME_JSON_BYTES)
        + text(common.time(), TIME_JSON_BYTES)
        + text(version.as_deref(), VERSION_JSON_BYTES)
        + text(common.measure_value_type().map(MeasureValueType::as_str), TYPE_JSON_BYTES)
}

/// The unit of a request's times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit(i64);

impl Unit {
    /// The coarsest that holds every time of the records without loss. A TIMESTAMP is said in the unit
    /// of its record.
    fn of(records: &[RecordView<'_>]) -> Result<Self, CodecError> {
        let mut unit = Self(1_000_000_000);
        for record in records {
            unit.refine(record.time_ns);
            for value in record.values() {
                if let Value::Timestamp(time_ns) = value? {
                    unit.refine(time_ns);
                }
            }
        }
        Ok(unit)
    }

    const fn refine(&mut self, time_ns: i64) {
        while time_ns % self.0 != 0 {
            self.0 /= 1000;
        }
    }

    const fn name(self) -> TimeUnit {
        match self.0 {
            1_000_000_000 => TimeUnit::Seconds,
            1_000_000 => TimeUnit::Milliseconds,
            1_000 => TimeUnit::Microseconds,
            _ => TimeUnit::Nanoseconds,
        }
    }

    fn text(self, time_ns: i64) -> String {
        (time_ns / self.0).to_string()
    }

    fn value(self, value: &Value<'_>) -> String {
        match value {
            // Shortest that reads back.
            Value::Double(number) => zmij::Buffer::new().format(*number).to_owned(),
            Value::Bigint(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Varchar(text) => (*text).to_owned(),
            Value::Timestamp(time_ns) => self.text(*time_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::codec::{Payload, PayloadBuilder};
    use crate::record::{Attribute, TableId};

    type Tags = &'static [(&'static str, &'static str)];
    type Values<'s> = &'s [(&'s str, Value<'static>)];

    fn encoded(records: &[(Tags, Values<'_>, i64, i64)], common: &CommonAttributes<'_>) -> Encoded {
        let mut builder = PayloadBuilder::new(1);
        builder.start(0);
        for (tags, attributes, time_ns, version) in records {
            let dimension = |&(name, value): &(&'static str, &'static str)| {
                crate::record::Dimension { name, value }
            };
            let record = crate::record::Record {
                measure_name: "cpu",
                dimensions: tags.iter().map(dimension).collect(),
                kind: if attributes[0].0.is_empty() {
                    MeasureKind::Scalar
                } else {
                    MeasureKind::Multi
                },
                attributes: attributes
                    .iter()
                    .map(|&(name, value)| Attribute { name, value })
                    .collect(),
                ..crate::record::Record::default()
            };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, *time_ns, *version);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        let payload = Payload::open(&bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let views: Vec<_> =
            payload.section(0, &families, &layouts).collect::<Result<_, _>>().unwrap();
        encode(&WriteRequest { table: TableId(1), common, records: &views }).unwrap()
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn every_type_is_said_so_that_it_reads_back() {
        let values: &[(&str, Value<'static>)] = &[
            ("a", Value::Double(-0.0)),
            ("b", Value::Double(1e300)),
            ("c", Value::Bigint(i64::MIN)),
            ("d", Value::Boolean(true)),
            ("e", Value::Varchar("ä\"")),
            ("f", Value::Timestamp(7 * MS)),
        ];
        let found = encoded(&[(&[("h", "1")], values, 5 * MS, 1)], &CommonAttributes::default());
        let said: Vec<_> =
            found.records[0].measure_values().iter().map(MeasureValue::value).collect();
        assert_eq!(
            said[..2].iter().map(|v| v.parse().unwrap()).collect::<Vec<f64>>(),
            [-0.0, 1e300]
        );
        assert!(said[0].starts_with('-'));
        assert_eq!(said[2..], ["-9223372036854775808", "true", "ä\"", "7"]);
        assert_eq!(found.records[0].time(), Some("5"));
        assert_eq!(found.common.time_unit(), Some(&TimeUnit::Milliseconds));
        assert_eq!(found.common.measure_value_type(), Some(&MeasureValueType::Multi));
    }

    #[test]
    fn the_unit_is_the_coarsest_that_loses_nothing() {
        let value: &[(&str, Value<'static>)] = &[("a", Value::Bigint(1))];
        let late: &[(&str, Value<'static>)] = &[("a", Value::Timestamp(1_001))];
        for (time_ns, values, unit) in [
            (3_000 * MS, value, TimeUnit::Seconds),
            (3 * MS, value, TimeUnit::Milliseconds),
            (3_000, value, TimeUnit::Microseconds),
            (3, value, TimeUnit::Nanoseconds),
            (0, value, TimeUnit::Seconds),
            (3_000 * MS, late, TimeUnit::Nanoseconds),
        ] {
            let found =
                encoded(&[(&[("h", "1")], values, time_ns, 1)], &CommonAttributes::default());
            assert_eq!(found.common.time_unit(), Some(&unit), "{time_ns}");
        }
    }

    #[test]
    fn what_is_common_is_said_once_and_the_rest_by_each_record() {
        let value: &[(&str, Value<'static>)] = &[("a", Value::Bigint(1))];
        let common = CommonAttributes {
            dimensions: vec![("dc", "x")],
            measure_name: Some("cpu"),
            time_ns: Some(MS),
            ..CommonAttributes::default()
        };
        let found = encoded(
            &[
                (&[("dc", "x"), ("h", "1")], value, MS, 1),
                (&[("dc", "x"), ("h", "2")], value, MS, 2),
            ],
            &common,
        );
        assert_eq!(found.common.dimensions()[0].name(), "dc");
        assert_eq!((found.common.time(), found.common.version()), (Some("1"), None));
        assert_eq!(found.records[1].dimensions()[0].value(), "2");
        assert_eq!((found.records[1].version(), found.records[1].time()), (Some(2), None));
        // {"Name":"dc","Value":"x"}, "MeasureName":"cpu", "Time":"1", "MeasureValueType":"MULTI", once.
        assert_eq!(found.saved_bytes, 26 + 20 + 11 + 27);
    }

    #[test]
    fn a_single_value_of_another_type_says_its_own() {
        let (int, float): (Values<'_>, Values<'_>) =
            (&[("", Value::Bigint(1))], &[("", Value::Double(1.0))]);
        let found = encoded(
            &[(&[("h", "1")], int, MS, 1), (&[("h", "1")], float, 2 * MS, 1)],
            &CommonAttributes::default(),
        );
        assert_eq!(found.common.measure_value_type(), None);
        assert_eq!(found.records[0].measure_value_type(), Some(&MeasureValueType::Bigint));
        assert_eq!(found.records[1].measure_value_type(), Some(&MeasureValueType::Double));
        assert!(found.records[0].measure_values().is_empty());
    }
}
