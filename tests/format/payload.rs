//! The payload, as the codec writes it and as its tables describe it.

use std::collections::HashMap;

use tidegate::record::codec::{PAYLOAD_VERSION, PayloadBuilder};
use tidegate::record::{
    Attribute, Dimension, MeasureKind, Origin, Reason, Record, Refusal, TableId, Value,
};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::tables::{constant, hold, length, module_comment, table};
use super::wire::{Cell, Form, Shape, take};

const CODEC: &str = include_str!("../../src/record/codec/mod.rs");

const PARTS: [&str; 4] = ["part", "offset", "bytes", "content"];
const RECORD: [&str; 3] = ["field", "form", "meaning"];
const TYPES: [&str; 3] = ["type", "number", "form of a value"];

const RECEIVED_NS: i64 = 1_700_000_000_000_000_000;

const SECTIONS: usize = 3;

const READING: &str = r#"{"format":"line","precision":"ms"}"#;

/// A record as it is given to the builder, or as it is read by the tables.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    table: u32,
    measure: &'static str,
    /// Sorted by name.
    dimensions: Vec<(&'static str, String)>,
    kind: MeasureKind,
    attributes: Vec<(&'static str, Value<'static>)>,
    time_ns: i64,
    version: i64,
    number: u64,
}

/// Records of two families and two layouts, of every type, with series that are met again and deltas
/// of both signs.
fn known() -> Vec<Known> {
    let mut records = Vec::new();
    for number in 1..=40_u64 {
        let n = number.cast_signed();
        let host = format!("host-{}", number % 7);
        let time_ns = RECEIVED_NS - 1_000_000_007 * (n % 5) + n;
        let at_all = Known {
            table: 7,
            measure: "cpu",
            dimensions: vec![("dc", "é".repeat(70)), ("host", host.clone())],
            kind: MeasureKind::Multi,
            attributes: vec![
                ("load", Value::Double(-0.5 * f64::from(u32::try_from(number).unwrap()))),
                ("count", Value::Bigint(i64::MIN + n)),
                ("up", Value::Boolean(number.is_multiple_of(2))),
                ("note", Value::Varchar("grün")),
                ("since", Value::Timestamp(time_ns)),
            ],
            time_ns,
            version: 50 - n,
            number,
        };
        let scalar = Known {
            table: 300,
            measure: "wind speed",
            dimensions: vec![("mast", host)],
            kind: MeasureKind::Scalar,
            attributes: vec![("", Value::Bigint(-n))],
            ..at_all.clone()
        };
        records.push(if number.is_multiple_of(3) { scalar } else { at_all });
    }
    records
}

fn refusals() -> [Refusal<'static>; 2] {
    let refusal = |number, reason, text| Refusal {
        origin: Origin { number, text, ..Origin::default() },
        column: 1,
        reason,
        message: format!("line {number}"),
    };
    [
        refusal(300, Reason::InvalidUtf8, b"cpu \xff".as_slice()),
        refusal(301, Reason::NoMeasure, b"cpu,a=b"),
    ]
}

/// The payload of `records` and of [`refusals`].
fn build(records: &[Known]) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(SECTIONS);
    builder.start(RECEIVED_NS);
    for known in records {
        // In the other order, so that the builder has to sort them.
        let dimensions = known.dimensions.iter().rev();
        let record = Record {
            origin: Origin { number: known.number, text: b"", ..Origin::default() },
            measure_name: known.measure,
            dimensions: dimensions.map(|(name, value)| Dimension { name, value }).collect(),
            kind: known.kind,
            attributes: known
                .attributes
                .iter()
                .map(|&(name, value)| Attribute { name, value })
                .collect(),
            ..Record::default()
        };
        let (family, _) = builder.family(TableId(known.table), &record);
        let (layout, _) = builder.layout(&record);
        builder.push((family, layout), &record, known.time_ns, known.version);
    }
    for refusal in refusals() {
        builder.push_refused(("db", READING), &refusal);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// What the table says of a part behind the header.
fn described(part: &str) -> Shape {
    let table = table(&module_comment(CODEC), &PARTS).unwrap();
    let rows = table.columns(["part", "content"]);
    let row = rows.into_iter().find(|[name, _]| *name == part).expect("the part is in the table");
    Shape::described(row[1])
}

fn number(cell: &Cell) -> usize {
    match cell {
        Cell::Number(number) => usize::try_from(*number).unwrap(),
        Cell::Bytes(bytes) => bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)),
        other => panic!("{other:?} is no number"),
    }
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// A payload whose parts were read by the tables.
struct Parts {
    /// The bytes of each family, and how many dimensions it has.
    families: Vec<Vec<u8>>,
    /// The type of each attribute, by the layout.
    layouts: Vec<Vec<u8>>,
    /// The records' bytes of each section, and how many there are.
    sections: Vec<(Vec<u8>, usize)>,
}

/// Holds everything but the records against its tables.
fn read_parts(payload: &[u8]) -> Parts {
    let table = table(&module_comment(CODEC), &PARTS).unwrap();
    let fields = table.fields("content");
    let header_bytes = length(&fields).unwrap();
    assert_eq!(header_bytes, constant(CODEC, "HEADER_BYTES"));
    let entry_bytes = constant(CODEC, "SECTION_ENTRY_BYTES");
    let places = table.columns(["part", "offset", "bytes"]);
    let order: Vec<_> = places[fields.len()..].to_vec();
    assert_eq!(order[0], ["section table", "32", format!("{entry_bytes} a section").as_str()]);
    assert_eq!(places.iter().filter(|row| row[0] == "header").count(), fields.len());
    let order: Vec<&str> = order.iter().map(|row| row[0]).collect();
    assert_eq!(order, ["section table", "families", "layouts", "refused lines", "sections"]);

    let mut rest = &payload[header_bytes..];
    let entry = described("section table");
    let sections: Vec<[usize; 2]> = (0..SECTIONS)
        .map(|_| entry.read(&mut rest))
        .map(|cells| [number(&cells[0].1), number(&cells[1].1)])
        .collect();
    assert_eq!(payload.len() - rest.len(), header_bytes + SECTIONS * entry_bytes);
    let before = rest;
    let families = read_families(&mut rest);
    let layouts = read_layouts(&mut rest);
    let dictionary_bytes = before.len() - rest.len();
    let before = rest;
    read_refused(&mut rest);
    let refused_bytes = before.len() - rest.len();
    let word = |value: usize| u32::try_from(value).unwrap().to_le_bytes().to_vec();
    let known = [
        ("format version, 2", vec![PAYLOAD_VERSION]),
        ("0, reserved", vec![0]),
        ("sections", vec![u8::try_from(SECTIONS).unwrap(), 0]),
        ("families", word(2)),
        ("layouts", word(2)),
        ("refused lines", word(2)),
        ("time of receipt, ns", RECEIVED_NS.to_le_bytes().to_vec()),
        ("bytes of families and layouts", word(dictionary_bytes)),
        ("bytes of refused lines", word(refused_bytes)),
    ];
    hold(&fields, payload, &known).unwrap();
    assert_eq!(PAYLOAD_VERSION, 2, "the version that the table is of");
    let sections = sections.iter().map(|[bytes, records]| (take(&mut rest, *bytes), *records));
    let sections = sections.collect();
    assert!(rest.is_empty(), "nothing stands behind the sections");
    Parts { families, layouts, sections }
}

fn read_families(rest: &mut &[u8]) -> Vec<Vec<u8>> {
    let shape = described("families");
    let expected: [&[(&str, Cell)]; 2] = [
        &[
            ("table", Cell::Number(7)),
            ("measure name", text("cpu")),
            ("dimensions", Cell::Number(2)),
            ("names", text("dc")),
            ("names", text("host")),
        ],
        &[
            ("table", Cell::Number(300)),
            ("measure name", text("wind speed")),
            ("dimensions", Cell::Number(1)),
            ("names", text("mast")),
        ],
    ];
    let mut families = Vec::new();
    for expected in expected {
        let begin = *rest;
        assert_eq!(shape.read(rest), expected);
        families.push(begin[..begin.len() - rest.len()].to_vec());
    }
    families
}

fn read_layouts(rest: &mut &[u8]) -> Vec<Vec<u8>> {
    let shape = described("layouts");
    let byte = |byte: u8| Cell::Bytes(vec![byte]);
    let types = types();
    let mut layouts = Vec::new();
    for (kind, known) in [(1, &known()[0]), (0, &known()[2])] {
        let mut expected =
            vec![("kind", byte(kind)), ("attributes", Cell::Number(known.attributes.len() as u64))];
        let mut numbers = Vec::new();
        for (name, value) in &known.attributes {
            let (number, _) = types[value.value_type().name()];
            expected.extend([("type", byte(number)), ("name", text(name))]);
            numbers.push(number);
        }
        assert_eq!(shape.read(rest), expected);
        layouts.push(numbers);
    }
    layouts
}

fn read_refused(rest: &mut &[u8]) {
    let shape = described("refused lines");
    for refusal in refusals() {
        let expected = [
            ("number", Cell::Number(refusal.origin.number)),
            ("reason", Cell::Bytes(vec![refusal.reason.number()])),
            ("database", text("db")),
            ("message", text(&refusal.message)),
            ("line", Cell::Bytes(refusal.origin.text.to_vec())),
            ("reading", text(READING)),
        ];
        assert_eq!(shape.read(rest), expected);
    }
}

/// Number and form of each type.
fn types() -> HashMap<String, (u8, Form)> {
    let table = table(&module_comment(CODEC), &TYPES).unwrap();
    let rows = table.columns(TYPES).into_iter();
    rows.map(|[name, number, form]| (name.to_owned(), (number.parse().unwrap(), Form::named(form))))
        .collect()
}

/// A record as its fields stand there.
type Cells = HashMap<String, Cell>;

/// Reads a record by its table.
fn read_record(rest: &mut &[u8]) -> Cells {
    let table = table(&module_comment(CODEC), &RECORD).unwrap();
    let mut cells = Cells::new();
    for [field, form, meaning] in table.columns(RECORD) {
        let is_new = cells.get("series") == Some(&Cell::Number(0));
        if is_new || !meaning.starts_with("only if new") {
            cells.insert(field.to_owned(), Form::named(form).read(rest));
        }
    }
    cells
}

fn bytes<'c>(cells: &'c Cells, name: &str) -> &'c [u8] {
    let Cell::Bytes(bytes) = &cells[name] else { panic!("{name} is {:?}", cells[name]) };
    bytes
}

fn signed(cells: &Cells, name: &str) -> i64 {
    let Cell::Signed(value) = cells[name] else { panic!("{name} is {:?}", cells[name]) };
    value
}

/// The attributes' bytes that `known` must have.
fn holds_attributes(mut rest: &[u8], layout: &[u8], known: &Known) {
    let types = types();
    for (number, (name, value)) in layout.iter().zip(&known.attributes) {
        let (_, form) = types.values().find(|(n, _)| n == number).expect("a type of the table");
        let expected = match *value {
            Value::Double(value) => Cell::Bytes(value.to_bits().to_le_bytes().to_vec()),
            Value::Bigint(value) | Value::Timestamp(value) => Cell::Signed(value),
            Value::Boolean(value) => Cell::Bytes(vec![u8::from(value)]),
            Value::Varchar(value) => text(value),
        };
        assert_eq!(form.read(&mut rest), expected, "{name}");
    }
    assert!(rest.is_empty(), "nothing stands behind the last value");
}

/// Goal: every part of a payload is where and what the tables say. Method: reads it with nothing but
/// the tables, the forms and the hash that the comment describes.
#[test]
fn a_payload_is_as_its_tables_say() {
    let known = known();
    let parts = read_parts(&build(&known));
    let mut found = 0;
    for (at, (section, records)) in parts.sections.iter().enumerate() {
        let mut rest = section.as_slice();
        let mut series: Vec<(usize, Vec<u8>)> = Vec::new();
        let (mut time_ns, mut version, mut line) = (RECEIVED_NS, 0_i64, 0_i64);
        for _ in 0..*records {
            let cells = read_record(&mut rest);
            if cells["series"] == Cell::Number(0) {
                let family = number(&cells["family"]);
                let values = bytes(&cells, "values").to_vec();
                let hash = xxh3_64_with_seed(&values, xxh3_64(&parts.families[family]));
                assert_eq!(bytes(&cells, "hash"), hash.to_le_bytes());
                let bucket = usize::try_from(hash >> 58).unwrap();
                assert_eq!(bucket * SECTIONS / 64, at, "the section of the bucket");
                series.push((family, values));
            }
            let which = number(&cells["series"]);
            let (family, values) = &series[which.checked_sub(1).unwrap_or(series.len() - 1)];
            time_ns = time_ns.wrapping_add(signed(&cells, "time"));
            version = version.wrapping_add(signed(&cells, "version"));
            line = line.wrapping_add(signed(&cells, "number"));
            let record = &known[usize::try_from(line).unwrap() - 1];
            assert_eq!((time_ns, version), (record.time_ns, record.version));
            assert_eq!(*family, usize::from(record.table == 300));
            let mut values = values.as_slice();
            for (_, value) in &record.dimensions {
                assert_eq!(Form::Text.read(&mut values), text(value));
            }
            assert!(values.is_empty(), "nothing stands behind the last dimension");
            let layout = &parts.layouts[number(&cells["layout"])];
            assert_eq!(layout.len(), record.attributes.len());
            holds_attributes(bytes(&cells, "attributes"), layout, record);
            found += 1;
        }
        assert!(rest.is_empty(), "nothing stands behind a section's last record");
        assert!(*records > 0, "every section has records, or the test shows too little");
    }
    assert_eq!(found, known.len());
}
