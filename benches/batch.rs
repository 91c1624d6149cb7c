//! What does it cost to bring a record from a payload into a batch, common attributes factored out? And
//! how many bytes of Timestream's JSON does a record take, by the way in which records make requests?
//!
//! Estimate: reading a record is ten varints and three texts, about 40 ns; comparing it with the
//! candidates of its batch is next to nothing once a few unlike hosts have struck most of them out:
//! 60 ns a record. Putting alike records together is a hash and a sort a record, estimated at
//! 300 ns. Of the 900 bytes of a record with ten tags and ten fields the fields are half and stay; the
//! tags that a group shares, the name, the time and the request's own header go: half. Machine and figures:
//! `benches/README.md`.

#![expect(clippy::print_stderr, clippy::cast_precision_loss, reason = "figures for people")]

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tidegate::base::lsn::Lsn;
use tidegate::batch::{Batch, Batches, Order};
use tidegate::record::codec::{Payload, PayloadBuilder, RecordView};
use tidegate::record::metered::Metered;
use tidegate::record::request::{CommonAttributes, WriteRequest};
use tidegate::record::{Attribute, Dimension, Record, TableId, Value};

const RECORDS: usize = 5_000;

const NOW_NS: i64 = 1_700_000_000_000_000_000;

/// Bytes of the header of a request that the AWS SDK sends, about: what a proxy counted beyond the bodies of
/// a few requests.
const HEAD_BYTES: usize = 800;

/// One record to pack: dimensions, values, time.
type Point = (Vec<(&'static str, String)>, Vec<(&'static str, Value<'static>)>, i64);

fn pack(points: &[Point]) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    for (dimensions, attributes, time_ns) in points {
        let record = Record {
            measure_name: "cpu",
            dimensions: dimensions.iter().map(|(name, value)| Dimension { name, value }).collect(),
            attributes: attributes.iter().map(|&(name, value)| Attribute { name, value }).collect(),
            ..Record::default()
        };
        let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
        builder.push(ids, &record, *time_ns, 1);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

const TAGS: [&str; 10] =
    ["tag_0", "tag_1", "tag_2", "tag_3", "tag_4", "tag_5", "tag_6", "tag_7", "tag_8", "tag_9"];
const FIELDS: [&str; 10] = [
    "usage_user",
    "usage_system",
    "usage_idle",
    "usage_nice",
    "usage_iowait",
    "usage_irq",
    "usage_softirq",
    "usage_steal",
    "usage_guest",
    "usage_guest_nice",
];

/// A request of one record a host: ten tags, of which `shared` are the same everywhere, ten fields.
fn payload(shared: usize) -> Vec<u8> {
    let point = |host: usize| {
        let value = |tag: usize| {
            if tag < shared { "same".to_owned() } else { format!("v{}", host / (tag + 1)) }
        };
        let tags = TAGS.iter().zip(0..).map(|(&name, tag)| (name, value(tag))).collect();
        (tags, fields(host), NOW_NS)
    };
    pack(&(0..RECORDS).map(point).collect::<Vec<_>>())
}

fn fields(seed: usize) -> Vec<(&'static str, Value<'static>)> {
    let value = |at: usize| Value::Bigint(i64::try_from((seed * 31 + at * 17) % 100).unwrap_or(0));
    FIELDS.iter().enumerate().map(|(at, &name)| (name, value(at))).collect()
}

/// A host of the fleet that TSBS calls `devops`.
fn host(host: usize, round: usize) -> Point {
    // A fixed shuffle of what TSBS draws: every host its own mixture.
    let draw = |salt: usize, of: usize| {
        host.wrapping_mul(2_654_435_761).rotate_right(7 + 3 * u32::try_from(salt).unwrap_or(0)) % of
    };
    let region = draw(0, 9);
    let tags = vec![
        ("arch", ["x64", "x86"][draw(1, 2)].to_owned()),
        ("datacenter", format!("eu-central-{region}{}", ["a", "b", "c"][draw(2, 3)])),
        ("hostname", format!("host_{host}")),
        ("os", ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][draw(3, 3)].to_owned()),
        ("rack", draw(4, 100).to_string()),
        ("region", format!("eu-central-{region}")),
        ("service", draw(5, 20).to_string()),
        ("service_environment", ["production", "staging", "test"][draw(6, 3)].to_owned()),
        ("service_version", draw(7, 2).to_string()),
        ("team", ["SF", "NYC", "LON", "CHI"][draw(8, 4)].to_owned()),
    ];
    let round = i64::try_from(round).unwrap_or(0);
    (tags, fields(host), NOW_NS + round * 10_000_000_000)
}

/// A truck of the one that it calls `iot`; each reports in its own moment.
fn truck(truck: usize, round: usize) -> Point {
    let tags = vec![
        ("device_version", format!("v{}.{}", truck % 3, truck % 2)),
        ("driver", ["Derek", "Rodney", "Albert", "Andy", "Seth", "Trish"][truck % 6].to_owned()),
        ("fleet", ["East", "West", "North", "South"][truck / 3 % 4].to_owned()),
        ("model", ["F-150", "G-2000", "H-2"][truck / 5 % 3].to_owned()),
        ("name", format!("truck_{truck}")),
    ];
    let late = i64::try_from(truck * 7_919 % 10_000).unwrap_or(0) * 1_000_000;
    let values = ["latitude", "longitude", "elevation", "velocity", "heading", "grade"];
    let number = |at: usize| Value::Double((truck * 13 + at * 71 + round) as f64 / 64.0);
    let values = values.iter().enumerate().map(|(at, &name)| (name, number(at))).collect();
    (tags, values, NOW_NS + i64::try_from(round).unwrap_or(0) * 10_000_000_000 + late)
}

/// Points in rounds, as a fleet sends them; hosts of one round in an order of chance.
fn fleet(size: usize, rounds: usize, point: fn(usize, usize) -> Point) -> Vec<u8> {
    let mixed = |at: usize| (at * 7_919 + 13) % size;
    let rounds = (0..rounds).flat_map(|round| (0..size).map(move |at| point(mixed(at), round)));
    pack(&rounds.collect::<Vec<_>>())
}

/// Bytes of a record's JSON, beside what `common` says for it.
fn record_bytes(record: &RecordView<'_>, common: &CommonAttributes<'_>) -> usize {
    let dimensions = record.dimensions().filter(|own| !common.dimensions.contains(own));
    let mut bytes = r#"{"Dimensions":[],"MeasureValues":[]},"#.len();
    bytes += dimensions
        .map(|(n, v)| r#"{"Name":"","Value":""},"#.len() + n.len() + v.len())
        .sum::<usize>();
    for ((value_type, name), value) in record.layout.entries().zip(record.values().flatten()) {
        bytes +=
            r#"{"Name":"","Value":"","Type":""},"#.len() + name.len() + value_type.name().len();
        bytes += match value {
            Value::Double(number) => number.to_string().len(),
            Value::Bigint(number) => number.to_string().len(),
            _ => 4,
        };
    }
    if common.measure_name.is_none() {
        bytes += r#""MeasureName":"","#.len() + record.family.measure_name.len();
    }
    // Milliseconds hold every time of these fleets.
    bytes + if common.time_ns.is_none() { r#""Time":"1700000000000","#.len() } else { 0 }
}

/// Bytes of a request, its header too.
fn request_bytes(request: &WriteRequest<'_>) -> usize {
    let common = request.common;
    let mut bytes = HEAD_BYTES + r#"{"DatabaseName":"tsbs","TableName":"cpu","Records":[]}"#.len();
    bytes += r#""CommonAttributes":{"Dimensions":[],"MeasureValueType":"MULTI","TimeUnit":"MILLISECONDS"},"#.len();
    let dimension = |(n, v): &(&str, &str)| r#"{"Name":"","Value":""},"#.len() + n.len() + v.len();
    bytes += common.dimensions.iter().map(dimension).sum::<usize>();
    bytes += common.measure_name.map_or(0, |name| r#""MeasureName":"","#.len() + name.len());
    bytes += common.time_ns.map_or(0, |_| r#""Time":"1700000000000","#.len());
    bytes + request.records.iter().map(|record| record_bytes(record, common)).sum::<usize>()
}

/// Calls `each` with every request that the records of a payload make.
fn requests(bytes: &[u8], order: Order, mut each: impl FnMut(&WriteRequest<'_>)) {
    let payload = Payload::open(bytes).expect("just built");
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).expect("just built");
    let mut batches = Batches::new(100, order);
    let mut write = |batch: &mut Batch<'_>| {
        each(&batch.request());
        Ok::<(), ()>(())
    };
    for record in payload.section(0, &families, &layouts) {
        batches.push(record.expect("just built"), Lsn(1), &mut write).expect("never fails");
    }
    batches.drain(&mut write).expect("never fails");
}

/// Prints bytes and KiB metered a record, for each way of making requests.
fn bytes_a_record() {
    eprintln!("bytes a record (KiB metered): one a request, as they came, alike together");
    for (name, bytes) in [
        ("DevOps, 2,000 hosts, one round", fleet(2_000, 1, host)),
        ("DevOps, 2,000 hosts, 4 rounds", fleet(2_000, 4, host)),
        ("DevOps, 100 hosts, 100 rounds", fleet(100, 100, host)),
        ("DevOps, 10 hosts, 360 rounds", fleet(10, 360, host)),
        ("IoT, 1,000 trucks, 4 rounds", fleet(1_000, 4, truck)),
    ] {
        let (mut single, mut records) = (0, 0_usize);
        let mut line = String::new();
        for order in [Order::Arrival, Order::Alike] {
            let (mut total, mut metered) = (0, Metered::default());
            (single, records) = (0, 0);
            requests(&bytes, order, |request| {
                total += request_bytes(request);
                metered.add(request.common, request.records);
                records += request.records.len();
                for record in request.records {
                    let (common, records) = (&CommonAttributes::default(), &[*record]);
                    single += request_bytes(&WriteRequest { table: TableId(1), common, records });
                }
            });
            let each = |sum: usize| sum as f64 / records as f64;
            let kib = metered.kib as f64 / records as f64;
            let requests = metered.requests;
            write!(line, ", {:.0} ({kib:.3}, {requests} requests)", each(total))
                .expect("a string takes all");
        }
        eprintln!("  {name}: {:.0} (1){line}", single as f64 / records as f64);
    }
}

fn batch(c: &mut Criterion) {
    bytes_a_record();
    let mut group = c.benchmark_group("batch");
    let saved = |bytes: &[u8], order| {
        let mut saved = 0;
        requests(bytes, order, |request| saved += request.common.saved_bytes);
        saved
    };
    for shared in [0, 5, 10] {
        let bytes = payload(shared);
        assert!(saved(&bytes, Order::Arrival) > 0, "time and version are shared at least");
        group.throughput(Throughput::Elements(RECORDS as u64));
        group.bench_with_input(BenchmarkId::new("shared_tags", shared), &bytes, |b, bytes| {
            b.iter(|| black_box(saved(black_box(bytes), Order::Arrival)));
        });
        group.bench_with_input(BenchmarkId::new("alike", shared), &bytes, |b, bytes| {
            b.iter(|| black_box(saved(black_box(bytes), Order::Alike)));
        });
    }
    group.finish();
}

criterion_group!(benches, batch);
criterion_main!(benches);
