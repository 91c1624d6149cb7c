//! Writes the fixture of the format's current version. Run once, when a version is new:
//!
//! ```sh
//! cargo test --test format_versions -- --ignored write_the_fixture_of_the_current_version
//! ```
//!
//! It refuses to replace a fixture that is there: what an earlier program wrote cannot be written by
//! a later one.

use std::fs;
use std::path::Path;

use tidegate::base::lsn::Lsn;
use tidegate::record::codec::PayloadBuilder;
use tidegate::record::{
    Attribute, Dimension, MeasureKind, Origin, Reason, Record, Refusal, TableId, Value,
};

use super::{CURRENT, DATA, LISTING, LOG, append, described, frames, open};

/// Frames of the log.
pub(crate) const FRAMES: u64 = 24;

/// The checkpoint of the log: in the middle of a segment, with one before it given free.
pub(crate) const STORED: u64 = 9;

/// What the listing must have: a frame's record of each kind, a refused line, the last of all.
pub(crate) const EXPECTED: [&str; 4] = [
    r#"record 2: table 7 "cpu""#,
    r#"[("dc", "münchen"), ("host", "h-1")] multi ["load" DOUBLE bfe0000000000000, "count" BIGINT -9223372036854775808, "up" BOOLEAN true, "note" VARCHAR "a \"text\"", "since" TIMESTAMP 1700000000000000001]"#,
    r#"[("mast", "m")] scalar ["" DOUBLE 4038400000000000]"#,
    r#"refused 300: invalid_utf8 "db" "found byte 0xff" "cpu \xff" as {"format":"line","precision":"ms"}"#,
];

const RECEIVED_NS: i64 = 1_700_000_000_000_000_000;

/// A payload with both kinds of records, every type of value and a refused line.
fn payload(n: u64) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(3);
    let received_ns = RECEIVED_NS + n.cast_signed();
    builder.start(received_ns);
    for number in 1..=6_u64 {
        let host = format!("h-{}", number % 3);
        let mut record = Record {
            origin: Origin { number, text: b"", ..Origin::default() },
            measure_name: "cpu",
            dimensions: vec![
                Dimension { name: "host", value: &host },
                Dimension { name: "dc", value: "münchen" },
            ],
            attributes: multi(),
            ..Record::default()
        };
        let mut table = TableId(7);
        if number == 6 {
            let load = 0.25 + f64::from(u32::try_from(n).unwrap());
            table = TableId(300);
            record.measure_name = "wind";
            record.kind = MeasureKind::Scalar;
            record.dimensions = vec![Dimension { name: "mast", value: "m" }];
            record.attributes = vec![Attribute { name: "", value: Value::Double(load) }];
        }
        let (family, _) = builder.family(table, &record);
        let (layout, _) = builder.layout(&record);
        let step = number.cast_signed() * 1_000_000;
        builder.push((family, layout), &record, received_ns - step, 10 - step);
    }
    builder.push_refused(
        ("db", r#"{"format":"line","precision":"ms"}"#),
        &Refusal {
            origin: Origin { number: 300, text: b"cpu \xff", ..Origin::default() },
            column: 5,
            reason: Reason::InvalidUtf8,
            message: "found byte 0xff".to_owned(),
        },
    );
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

fn multi() -> Vec<Attribute<'static>> {
    let attribute = |name, value| Attribute { name, value };
    vec![
        attribute("load", Value::Double(-0.5)),
        attribute("count", Value::Bigint(i64::MIN)),
        attribute("up", Value::Boolean(true)),
        attribute("note", Value::Varchar("a \"text\"")),
        attribute("since", Value::Timestamp(RECEIVED_NS + 1)),
    ]
}

#[test]
#[ignore = "writes the fixture of a new version into tests/data"]
fn write_the_fixture_of_the_current_version() {
    let fixture = Path::new(DATA).join(CURRENT);
    assert!(!fixture.exists(), "a fixture is never written again");
    let log = fixture.join(LOG);
    let written = tempfile::tempdir().unwrap();
    let wal = open(written.path());
    for n in 1..=FRAMES {
        assert_eq!(append(&wal, &payload(n)), Lsn(n));
    }
    wal.checkpoint(Lsn(STORED)).unwrap();
    let listing = described(&frames(&wal, Lsn(STORED).next()));
    wal.close();
    drop(wal);
    fs::create_dir_all(&log).unwrap();
    for entry in fs::read_dir(written.path()).unwrap() {
        let entry = entry.unwrap();
        // The lock names a process of the machine that wrote it.
        if entry.file_name() != "lock" {
            fs::copy(entry.path(), log.join(entry.file_name())).unwrap();
        }
    }
    fs::write(fixture.join(LISTING), listing).unwrap();
}
