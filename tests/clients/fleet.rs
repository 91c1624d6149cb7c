//! A fleet as the Time Series Benchmark Suite has it: hosts with ten tags, ten fields of every type,
//! times in nanoseconds; and what a reader of all of it must find.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;

use crate::common::random::Random;
use crate::common::rows::{Key, Row, Rows, Value};

/// Readings of one host.
const READINGS: usize = 100;

/// 2026-11-01T23:59:00Z: the readings of a host go over midnight, so that two days have files.
const TIME_BASE_NS: i64 = 1_793_577_540_000_000_000;

/// Time between two readings of a host, not a round number of anything.
const STEP_NS: i64 = 1_250_000_007;

const REGIONS: [&str; 5] = ["eu-central-1", "us-west-2", "ap südost", "sa=east,1", "af \"south\""];

/// `lines` records of the table `measurement`.
pub(crate) fn fleet(measurement: &str, lines: usize, seed: u64) -> Vec<(Key, Row)> {
    let mut random = Random::new(seed);
    (0..lines)
        .map(|at| {
            let (host, reading) = (at / READINGS, at % READINGS);
            let time_ns = TIME_BASE_NS + STEP_NS * i64::try_from(reading).expect("small");
            let key = Key { measurement: measurement.to_owned(), tags: tags(host), time_ns };
            (key, Row { version: 1, fields: fields(&mut random) })
        })
        .collect()
}

fn tags(host: usize) -> BTreeMap<String, String> {
    let region = REGIONS[host % REGIONS.len()];
    [
        ("hostname", format!("host_{host}")),
        ("region", region.to_owned()),
        ("datacenter", format!("{region}{}", host % 3)),
        ("rack", format!("{}", host % 100)),
        ("os", "Ubuntu 16.04 LTS".to_owned()),
        ("arch", ["x64", "x86", "arm"][host % 3].to_owned()),
        ("team", ["SF", "NYC", "LON", "CHI"][host % 4].to_owned()),
        ("service", format!("{}", host % 20)),
        ("service_version", format!("v{}.{}", host % 2, host % 7)),
        ("service_environment", ["production", "staging", "test"][host % 3].to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn fields(random: &mut Random) -> BTreeMap<String, Value> {
    let states = ["ok", "", "a \"quoted\" state", "C:\\temp", "über 90 %, x=1", "two\nlines"];
    // Every bit of a float counts, so these are no round numbers.
    let unit = |random: &mut Random| {
        let bits = u32::try_from(random.next() >> 32).expect("32 bits");
        f64::from(bits) / f64::from(u32::MAX) * 100.0
    };
    [
        ("usage_user", Value::Double(unit(random))),
        ("usage_system", Value::Double(unit(random))),
        ("usage_idle", Value::Double(-unit(random))),
        ("load", Value::Double(*random.pick(&[0.0, 1.0, 1e-9, 6.02e23, -273.15, f64::MAX]))),
        ("reads", Value::Bigint(random.next().cast_signed())),
        ("writes", Value::Bigint(*random.pick(&[0, -1, i64::MIN, i64::MAX, 1 << 53, 42]))),
        ("uptime", Value::Bigint(i64::try_from(random.within(0..1 << 40)).expect("40 bits"))),
        ("healthy", Value::Boolean(random.is_one_of(50))),
        ("state", Value::Varchar((*random.pick(&states)).to_owned())),
        ("build", Value::Varchar(format!("{:x}", random.next()))),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The records for the Python client, one JSON object a line.
pub(crate) fn as_ndjson(records: &[(Key, Row)]) -> String {
    let mut text = String::new();
    for (key, row) in records {
        let fields = row.fields.iter().map(|(name, value)| {
            let value = match value {
                Value::Double(value) => json!(value),
                Value::Bigint(value) => json!(value),
                Value::Boolean(value) => json!(value),
                Value::Varchar(text) => json!(text),
            };
            (name.clone(), value)
        });
        let fields: serde_json::Map<_, _> = fields.collect();
        let line = json!({
            "measurement": key.measurement,
            "tags": key.tags,
            "fields": fields,
            "time": key.time_ns,
        });
        writeln!(text, "{line}").expect("a string takes all");
    }
    text
}

/// The records as line protocol, for curl.
pub(crate) fn as_lines(records: &[(Key, Row)]) -> String {
    let mut text = String::new();
    for (key, row) in records {
        text.push_str(&key.measurement);
        for (name, value) in &key.tags {
            let value = value.replace(' ', "\\ ").replace(',', "\\,").replace('=', "\\=");
            write!(text, ",{name}={value}").expect("a string takes all");
        }
        let mut separator = ' ';
        for (name, value) in &row.fields {
            write!(text, "{separator}{name}=").expect("a string takes all");
            separator = ',';
            match value {
                Value::Double(value) => write!(text, "{value:?}"),
                Value::Bigint(value) => write!(text, "{value}i"),
                Value::Boolean(value) => write!(text, "{value}"),
                Value::Varchar(value) => {
                    write!(text, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                }
            }
            .expect("a string takes all");
        }
        writeln!(text, " {}", key.time_ns).expect("a string takes all");
    }
    text
}

/// What `clients/parquet.py` must find in the files of a table with these rows.
pub(crate) fn figures(rows: &Rows) -> serde_json::Value {
    let mut columns: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |name: &str, figure: u64| {
        let sum = columns.entry(name.to_owned()).or_default();
        *sum = sum.wrapping_add(figure);
    };
    let mut time = 0_u64;
    for (key, row) in rows {
        time = time.wrapping_add(key.time_ns.cast_unsigned());
        add("measure_name", figure_of_text(&key.measurement));
        add("version", row.version.cast_unsigned());
        key.tags.iter().for_each(|(name, value)| add(name, figure_of_text(value)));
        for (name, value) in &row.fields {
            add(
                name,
                match value {
                    Value::Double(value) => value.to_bits(),
                    Value::Bigint(value) => value.cast_unsigned(),
                    Value::Boolean(value) => u64::from(*value),
                    Value::Varchar(text) => figure_of_text(text),
                },
            );
        }
    }
    json!({
        "rows": rows.len(),
        "time_min": rows.keys().map(|key| key.time_ns).min(),
        "time_max": rows.keys().map(|key| key.time_ns).max(),
        "time": time,
        "columns": columns,
    })
}

fn figure_of_text(text: &str) -> u64 {
    text.bytes().fold(text.len() as u64 * 1_000_003, |sum, byte| sum + u64::from(byte))
}
