//! What goes into a payload comes out of it, and bytes that are no payload are refused.

use proptest::prelude::*;

use super::super::{Attribute, Dimension, MeasureKind, Origin, Record, Refusal, TableId, Value};
use super::*;

/// A record without borrowed texts, as tests build and compare it.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    table: u32,
    measure: String,
    dimensions: Vec<(String, String)>,
    kind: MeasureKind,
    attributes: Vec<(String, OwnedValue)>,
    time_ns: i64,
    version: i64,
    number: u64,
}

#[derive(Debug, Clone, PartialEq)]
enum OwnedValue {
    Double(u64),
    Bigint(i64),
    Boolean(bool),
    Varchar(String),
    Timestamp(i64),
}

impl OwnedValue {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Double(v) => Self::Double(v.to_bits()),
            Value::Bigint(v) => Self::Bigint(*v),
            Value::Boolean(v) => Self::Boolean(*v),
            Value::Varchar(v) => Self::Varchar((*v).to_owned()),
            Value::Timestamp(v) => Self::Timestamp(*v),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Double(v) => Value::Double(f64::from_bits(*v)),
            Self::Bigint(v) => Value::Bigint(*v),
            Self::Boolean(v) => Value::Boolean(*v),
            Self::Varchar(v) => Value::Varchar(v),
            Self::Timestamp(v) => Value::Timestamp(*v),
        }
    }
}

fn push(builder: &mut PayloadBuilder, owned: &Owned) {
    let record = Record {
        origin: Origin { number: owned.number, text: b"", ..Origin::default() },
        database: "d",
        table: "t",
        measure_name: &owned.measure,
        dimensions: owned
            .dimensions
            .iter()
            .map(|(name, value)| Dimension { name, value })
            .collect(),
        kind: owned.kind,
        attributes: owned
            .attributes
            .iter()
            .map(|(name, value)| Attribute { name, value: value.value() })
            .collect(),
        time_ns: None,
        version: None,
    };
    let (family, _) = builder.family(TableId(owned.table), &record);
    let (layout, _) = builder.layout(&record);
    builder.push((family, layout), &record, owned.time_ns, owned.version);
}

/// Every record of a payload, with its section, dimensions sorted.
fn read(bytes: &[u8]) -> Result<Vec<(usize, Owned)>, CodecError> {
    let payload = Payload::open(bytes)?;
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts)?;
    let mut all = Vec::new();
    for at in 0..payload.sections() {
        for view in payload.section(at, &families, &layouts) {
            let view = view?;
            if Bucket::of(view.series_hash).shard(payload.sections()) != at {
                return Err(CodecError::Malformed { part: "sections" });
            }
            let names = view.layout.entries().map(|(_, name)| name.to_owned());
            let values = view.values().collect::<Result<Vec<_>, _>>()?;
            let owned = Owned {
                table: view.family.table.0,
                measure: view.family.measure_name.to_owned(),
                dimensions: view.dimensions().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                kind: view.layout.kind,
                attributes: names.zip(values.iter().map(OwnedValue::of)).collect(),
                time_ns: view.time_ns,
                version: view.version,
                number: view.number,
            };
            all.push((at, owned));
        }
    }
    for line in payload.refused_lines() {
        line?;
    }
    Ok(all)
}

fn value() -> impl Strategy<Value = OwnedValue> {
    prop_oneof![
        any::<u64>().prop_map(OwnedValue::Double),
        any::<i64>().prop_map(OwnedValue::Bigint),
        any::<bool>().prop_map(OwnedValue::Boolean),
        ".{0,20}".prop_map(OwnedValue::Varchar),
        any::<i64>().prop_map(OwnedValue::Timestamp),
    ]
}

fn owned() -> impl Strategy<Value = Owned> {
    let dimensions = proptest::collection::hash_map("[a-d]", "[x-z]{0,2}", 0..4);
    let attributes = proptest::collection::vec(("[f-h]", value()), 1..4);
    (0..3_u32, "[m-n]", dimensions, any::<bool>(), attributes, any::<(i64, i64, u64)>()).prop_map(
        |(table, measure, dimensions, multi, attributes, (time_ns, version, number))| Owned {
            table,
            measure,
            dimensions: dimensions.into_iter().collect(),
            kind: if multi { MeasureKind::Multi } else { MeasureKind::Scalar },
            attributes,
            time_ns,
            version,
            number,
        },
    )
}

proptest! {
    #[test]
    fn what_goes_in_comes_out(records in proptest::collection::vec(owned(), 0..40), shards in 1..9_usize) {
        let mut builder = PayloadBuilder::new(shards);
        let mut bytes = Vec::new();
        // Twice: a builder that is used again must not remember.
        for _ in 0..2 {
            builder.start(17);
            for record in &records {
                push(&mut builder, record);
            }
            builder.finish(&mut bytes);
        }
        let mut expected = records.clone();
        for record in &mut expected {
            record.dimensions.sort();
        }
        let found = read(&bytes).unwrap();
        for shard in 0..shards {
            // In a section, records stand in the order in which they were sent.
            let mut sent = expected.iter();
            for (_, record) in found.iter().filter(|(at, _)| *at == shard) {
                prop_assert!(sent.any(|candidate| candidate == record), "{record:?}");
            }
        }
        prop_assert_eq!(found.len(), expected.len());
    }

    #[test]
    fn bytes_that_are_no_payload_never_panic(
        records in proptest::collection::vec(owned(), 1..8),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let mut builder = PayloadBuilder::new(3);
        builder.start(17);
        for record in &records {
            push(&mut builder, record);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
        let at = flip.index(bytes.len());
        bytes[at] ^= 1 << bit;
        // A flipped bit may still be a payload; the frame's checksum is what finds it.
        drop(read(&bytes));
    }
}

#[test]
fn the_order_of_dimensions_makes_no_difference_to_the_series() {
    let mut builder = PayloadBuilder::new(64);
    builder.start(0);
    let dimension = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    for dimensions in [
        vec![dimension("a", "1"), dimension("b", "2")],
        vec![dimension("b", "2"), dimension("a", "1")],
    ] {
        push(
            &mut builder,
            &Owned {
                table: 1,
                measure: "m".into(),
                dimensions,
                kind: MeasureKind::Scalar,
                attributes: vec![(String::new(), OwnedValue::Bigint(1))],
                time_ns: 1,
                version: 1,
                number: 0,
            },
        );
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let payload = Payload::open(&bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    assert_eq!(families[0].bytes, families[1].bytes);
    let hashes: std::collections::HashSet<u64> = (0..64)
        .flat_map(|at| payload.section(at, &families, &layouts))
        .map(|view| view.unwrap().series_hash)
        .collect();
    assert_eq!(hashes.len(), 1);
}

#[test]
fn refused_lines_travel_with_the_records() {
    let mut builder = PayloadBuilder::new(2);
    builder.start(5);
    let refusal = Refusal {
        origin: Origin { number: 7, text: b"cpu \xff", ..Origin::default() },
        column: 5,
        reason: super::super::Reason::InvalidUtf8,
        message: "found byte 0xff".into(),
    };
    builder.push_refused(("db", ""), &refusal);
    assert!(!builder.is_empty());
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let payload = Payload::open(&bytes).unwrap();
    let lines: Vec<_> = payload.refused_lines().collect::<Result<_, _>>().unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].number, lines[0].text), (7, &b"cpu \xff"[..]));
    assert_eq!((lines[0].database, lines[0].message), ("db", "found byte 0xff"));
}

/// Fewer dimensions than the family has names would be another series.
#[test]
fn a_series_with_a_value_missing_or_no_text_is_an_error() {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    let dimensions = ["a", "b"].map(|name| (name.to_owned(), "xyz".to_owned())).to_vec();
    let known = Owned {
        table: 1,
        measure: "m".into(),
        dimensions,
        kind: MeasureKind::Scalar,
        attributes: vec![(String::new(), OwnedValue::Bigint(1))],
        time_ns: 1,
        version: 1,
        number: 0,
    };
    push(&mut builder, &known);
    let mut sound = Vec::new();
    builder.finish(&mut sound);
    assert_eq!(read(&sound), Ok(vec![(0, known)]));
    let values = b"\x03xyz\x03xyz";
    let at = sound.windows(values.len()).position(|window| window == values).unwrap();
    for (offset, byte, what) in [
        (1, 0xff, "the first is no text"),
        (7, 0xff, "the second is no text"),
        (0, 7, "one text instead of two"),
        (4, 2, "a byte is left over"),
        (4, 4, "the second is longer than its part"),
    ] {
        let mut bytes = sound.clone();
        bytes[at + offset] = byte;
        assert_eq!(read(&bytes), Err(CodecError::Malformed { part: "sections" }), "{what}");
    }
}

#[test]
fn another_version_is_named() {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes[0] = 9;
    assert_eq!(Payload::open(&bytes).unwrap_err(), CodecError::Version { found: 9 });
}

/// The bucket decides what replay skips, so the hash may never change under a data folder.
#[test]
fn the_hash_of_a_series_is_part_of_the_format() {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    push(
        &mut builder,
        &Owned {
            table: 7,
            measure: "cpu".into(),
            dimensions: vec![("host".into(), "h1".into()), ("dc".into(), "x".into())],
            kind: MeasureKind::Scalar,
            attributes: vec![(String::new(), OwnedValue::Bigint(1))],
            time_ns: 1,
            version: 1,
            number: 0,
        },
    );
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    let payload = Payload::open(&bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let view = payload.section(0, &families, &layouts).next().unwrap().unwrap();
    let family = xxhash_rust::xxh3::xxh3_64(b"\x07\x03cpu\x02\x02dc\x04host");
    assert_eq!(view.series_hash, xxhash_rust::xxh3::xxh3_64_with_seed(b"\x01x\x02h1", family));
}
