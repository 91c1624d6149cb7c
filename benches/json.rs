//! How fast does JSON become records, and what of it is `serde_json`'s grammar alone?
//!
//! Estimate: finding the extent of a record runs at 1.5 GB/s, reading its 42 texts and 11 numbers as
//! raw leaves at 0.55 GB/s; both after one another at 0.4 GB/s.
//!
//! Machine: 2 vCPU AMD EPYC (family 26), Linux, Rust 1.95, one thread.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench has no callers, and stops where its data is not what it expects"
)]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde::de::IgnoredAny;
use tidegate::protocol::json::{Form, Options, decode};
use tidegate::record::{Record, RecordSink, Refusal};

const RECORDS: u64 = 2_000;
const SEED: u64 = 0x7469_6465_6761_7465;

/// Looks at what a sink must look at, and keeps nothing.
#[derive(Default)]
struct Tally {
    records: u64,
    parts: usize,
}

impl RecordSink for Tally {
    fn record(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.parts += black_box(record).dimensions.len() + record.attributes.len();
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        panic!("{refusal:?}");
    }
}

/// Xorshift: the same records on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A flat record of 10 tags and 10 fields: 5 floats, 2 integers, 2 texts, 1 truth value.
fn flat(random: &mut Random, number: u64) -> String {
    let mut text = String::from(r#"{"measurement":"cpu","tags":{"#);
    for tag in 0..10 {
        let comma = if tag == 0 { "" } else { "," };
        write!(text, r#"{comma}"tag_key{tag}":"value-{}""#, random.below(1_000)).unwrap();
    }
    text.push_str(r#"},"fields":{"#);
    for field in 0..10 {
        let comma = if field == 0 { "" } else { "," };
        write!(text, r#"{comma}"field{field}":"#).unwrap();
        match field {
            0..5 => write!(text, "{}.{:04}", random.below(100), random.below(10_000)).unwrap(),
            5 | 6 => write!(text, "{}", random.below(1_000_000)).unwrap(),
            7 | 8 => write!(text, r#""text{}""#, random.below(1_000)).unwrap(),
            _ => text.push_str("true"),
        }
    }
    write!(text, r#"}},"timestamp":{}}}"#, 1_700_000_000_000 + number).unwrap();
    text
}

/// The same as one record of Timestream, MULTI; the dimensions stand in the record.
fn timestream(random: &mut Random, number: u64) -> String {
    let mut text = String::from(r#"{"Dimensions":["#);
    for tag in 0..10 {
        let comma = if tag == 0 { "" } else { "," };
        let value = random.below(1_000);
        write!(text, r#"{comma}{{"Name":"tag_key{tag}","Value":"value-{value}"}}"#).unwrap();
    }
    text.push_str(r#"],"MeasureName":"cpu","MeasureValueType":"MULTI","MeasureValues":["#);
    for field in 0..10 {
        let comma = if field == 0 { "" } else { "," };
        let value = random.below(1_000_000);
        write!(text, r#"{comma}{{"Name":"field{field}","Value":"{value}.5","Type":"DOUBLE"}}"#)
            .unwrap();
    }
    write!(text, r#"],"Time":"{}"}}"#, 1_700_000_000_000 + number).unwrap();
    text
}

fn records(one: fn(&mut Random, u64) -> String) -> Vec<String> {
    let mut random = Random(SEED);
    (0..RECORDS).map(|number| one(&mut random, number)).collect()
}

fn decoded(body: &str, form: Form) -> usize {
    let options = Options { database: Some("db"), table: Some("cpu"), form, ..Options::default() };
    let mut tally = Tally::default();
    decode(black_box(body.as_bytes()), &options, &mut tally);
    assert_eq!(tally.records, RECORDS);
    tally.parts
}

fn json(criterion: &mut Criterion) {
    let flat_array = format!("[{}]", records(flat).join(","));
    let escaped_array = flat_array.replace("value-", r"value\u002d");
    let batch = format!(r#"{{"metrics":{flat_array}}}"#);
    let requests = records(timestream).join(",");
    let request = format!(r#"{{"DatabaseName":"d","TableName":"t","Records":[{requests}]}}"#);
    let lines = records(flat).join("\n");

    let mut group = criterion.benchmark_group("json");
    for (name, body, form) in [
        ("flat_array", &flat_array, Form::Document),
        ("flat_array_escaped", &escaped_array, Form::Document),
        ("metrics", &batch, Form::Document),
        ("lines", &lines, Form::Lines),
        ("timestream", &request, Form::Document),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| decoded(body, form)));
    }
    // What no decoder on serde_json can be faster than.
    group.throughput(Throughput::Bytes(flat_array.len() as u64));
    group.bench_function("serde_json_grammar_only", |bencher| {
        bencher.iter(|| serde_json::from_str::<IgnoredAny>(black_box(&flat_array)).is_ok());
    });
    group.finish();
}

criterion_group!(benches, json);
criterion_main!(benches);
