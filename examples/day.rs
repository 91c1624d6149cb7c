//! Does a day of a fleet stream through the table engine without memory beyond its setting?
//!
//! `cargo run --release --example day -- [DEVICES] [STEPS] [FOLDER]`: as many devices (10,000), each
//! with a record of ten integers every 10 s, as many times (8,640: a day), in order, into an engine with
//! its default settings. No log and no socket: what is measured is the engine. Prints a row of a table
//! for each twentieth of the day.
//!
//! Estimate: 86.4 M records at 1.5 M/s, generator included, are a minute; at 8.5 bytes a record the
//! files take 730 MiB; memory is the store's 1 GiB, what a flush takes beside it, and the process.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "an example that cannot go on ends, and prints what it measured"
)]

use std::path::Path;
use std::sync::Arc;

use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::embedded::{Embedded, Options};
use tidegate::engine::{ShardId, TableEngine};
use tidegate::record::codec::{Bucket, Payload, PayloadBuilder, RecordView};
use tidegate::record::request::{CommonAttributes, WriteRequest};
use tidegate::record::{Attribute, Dimension, Origin, Record, TableId, Value};

const START_NS: i64 = 1_700_006_400_000_000_000;
const STEP_NS: i64 = 10_000_000_000;
const SHARDS: usize = 2;
const RECORDS_PER_BATCH: usize = 100;
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

/// Devices whose values walk from 0 to 100.
struct Fleet {
    names: Vec<String>,
    values: Vec<[i64; 10]>,
    seed: u64,
}

impl Fleet {
    fn new(devices: usize) -> Self {
        let names = (0..devices).map(|device| format!("device_{device}")).collect();
        Self { names, values: vec![[50; 10]; devices], seed: 7 }
    }

    /// One record a device.
    fn payload(&mut self, table: TableId, step: i64) -> Vec<u8> {
        let time_ns = START_NS + step * STEP_NS;
        let mut builder = PayloadBuilder::new(SHARDS);
        builder.start(time_ns);
        for (number, name) in (0..).zip(&self.names) {
            let values = &mut self.values[usize::try_from(number).unwrap()];
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            let mut bits = self.seed;
            for value in values.iter_mut() {
                let change = [-1, 0, 1, 0][usize::try_from(bits & 3).unwrap()];
                bits >>= 2;
                *value = (*value + change).clamp(0, 100);
            }
            let record = Record {
                origin: Origin { number, text: b"", within: "" },
                measure_name: "cpu",
                dimensions: [Dimension { name: "hostname", value: name }].into_iter().collect(),
                attributes: FIELDS
                    .iter()
                    .zip(values.iter())
                    .map(|(name, value)| Attribute { name, value: Value::Bigint(*value) })
                    .collect(),
                ..Record::default()
            };
            let ids = (builder.family(table, &record).0, builder.layout(&record).0);
            builder.push(ids, &record, time_ns, 1);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        bytes
    }
}

fn write(engine: &Embedded, table: TableId, lsn: Lsn, bytes: &[u8]) {
    let payload = Payload::open(bytes).unwrap();
    let (mut families, mut layouts) = (Vec::new(), Vec::new());
    payload.dictionary(&mut families, &mut layouts).unwrap();
    let common = CommonAttributes::default();
    let mut outcomes = Vec::with_capacity(RECORDS_PER_BATCH);
    let mut of_shards: [Vec<RecordView<'_>>; SHARDS] = Default::default();
    for section in 0..payload.sections() {
        for view in payload.section(section, &families, &layouts).map(Result::unwrap) {
            of_shards[Bucket::of(view.series_hash).shard(SHARDS)].push(view);
        }
    }
    for (shard, views) in (0..).map(ShardId).zip(&of_shards) {
        for records in views.chunks(RECORDS_PER_BATCH) {
            outcomes.clear();
            let request = WriteRequest { table, common: &common, records };
            engine.write(shard, &request, &mut outcomes).unwrap();
        }
        engine.commit(shard, lsn).unwrap();
    }
    engine.applied(lsn);
}

/// A figure of the process, MiB.
fn status_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let devices: usize = arguments.next().map_or(10_000, |text| text.parse().unwrap());
    let steps: i64 = arguments.next().map_or(8_640, |text| text.parse().unwrap());
    let folder = arguments.next().unwrap_or_else(|| "day-data".to_owned());
    let dir = Path::new(&folder).to_owned();
    let catalog = Arc::new(Catalog::open(&dir).unwrap());
    let table = catalog.create("fleet", "cpu", &TableSettings::default()).unwrap().id;
    let options = Options { dir, ..Options::default() };
    let clock = SystemClock::shared();
    let engine = Embedded::open(options, SHARDS, catalog, Arc::clone(&clock)).unwrap();
    let mut fleet = Fleet::new(devices);
    println!("| s | M records | records/s | RSS MiB | at most | store MiB | files | MiB on disk |");
    println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
    let begin = clock.monotonic();
    let tell = |records: u64| {
        let took = clock.monotonic().saturating_sub(begin).as_millis().max(1);
        let state = engine.state();
        println!(
            "| {}.{} | {:.1} | {} | {} | {} | {} | {} | {} |",
            took / 1000,
            took / 100 % 10,
            f64::from(u32::try_from(records).unwrap()) / 1e6,
            u128::from(records) * 1000 / took,
            status_mib("VmRSS"),
            status_mib("VmHWM"),
            state.memory_bytes >> 20,
            state.files,
            state.file_bytes >> 20,
        );
    };
    let mut records = 0;
    for step in 0..steps {
        let bytes = fleet.payload(table, step);
        write(&engine, table, Lsn(u64::try_from(step).unwrap() + 1), &bytes);
        records += devices as u64;
        if (step + 1) % (steps / 20).max(1) == 0 {
            tell(records);
        }
    }
    engine.flush().unwrap();
    tell(records);
    engine.close();
}
