//! What does it cost to bring a record from a payload into a batch, common attributes factored out?
//!
//! Estimate: reading a record is ten varints and three texts, about 40 ns; comparing it with the
//! candidates of its batch is next to nothing once a few unlike hosts have struck most of them out:
//! 60 ns a record. Machine and figures: `benches/README.md`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::base::lsn::Lsn;
use tidegate::batch::{Batch, Batches, Order};
use tidegate::record::codec::{Payload, PayloadBuilder};
use tidegate::record::{Attribute, Dimension, Record, TableId, Value};

const RECORDS: usize = 5_000;

/// A request of one record a host: ten tags, of which `shared` are the same everywhere, ten fields.
fn payload(shared: usize) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    for host in 0..RECORDS {
        let values: Vec<(String, String)> = (0..10)
            .map(|tag| {
                let value =
                    if tag < shared { "same".to_owned() } else { format!("v{}", host / (tag + 1)) };
                (format!("tag_{tag}"), value)
            })
            .collect();
        let names: Vec<String> = (0..10).map(|field| format!("field_{field}")).collect();
        let record = Record {
            measure_name: "cpu",
            dimensions: values.iter().map(|(name, value)| Dimension { name, value }).collect(),
            attributes: names
                .iter()
                .zip(0..)
                .map(|(name, n)| Attribute { name, value: Value::Bigint(n) })
                .collect(),
            ..Record::default()
        };
        let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
        builder.push(ids, &record, 1_700_000_000_000_000_000, 1);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// Batches all records of a payload; returns the bytes that common attributes save.
fn batch_all(bytes: &[u8]) -> u64 {
    let payload = Payload::open(bytes).expect("just built");
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).expect("just built");
    let mut batches = Batches::new(100, Order::Arrival);
    let mut saved = 0;
    let mut write = |batch: &mut Batch<'_>| {
        saved += batch.request().common.saved_bytes;
        Ok::<(), ()>(())
    };
    for record in payload.section(0, &families, &layouts) {
        batches.push(record.expect("just built"), Lsn(1), &mut write).expect("never fails");
    }
    batches.drain(&mut write).expect("never fails");
    saved
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for shared in [0, 5, 10] {
        let bytes = payload(shared);
        assert!(batch_all(&bytes) > 0, "time and version are shared at least");
        group.throughput(Throughput::Elements(RECORDS as u64));
        group.bench_with_input(BenchmarkId::new("shared_tags", shared), &bytes, |b, bytes| {
            b.iter(|| black_box(batch_all(black_box(bytes))));
        });
    }
    group.finish();
}

criterion_group!(benches, batch);
criterion_main!(benches);
