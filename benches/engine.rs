//! How many records a second does one shard of the embedded engine take, and how small do they get?
//!
//! Estimate: a record of 10 integers is about 60 bytes to decode and 10 pushes to columns that are in
//! the cache, plus one look-up of its series, 30 to 60 ns of it a cache miss: 250 ns, 4 M records/s.
//! An update adds a binary search and two lists of attributes: 1 us. A flush gathers and encodes
//! 22 columns at some 10 ns a value: 50 M values/s at best.
//!
//! `cargo bench --bench engine`: Criterion measures writes; the flush and the sizes, which are no
//! loops, are measured once and printed. Times are CPU time of all threads of the process, as the
//! kernel's scheduler counts it, so that a busy machine does not change them much: what is measured
//! runs on one thread at a time.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a bench that cannot go on ends, and prints what it measured"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::measurement::{Measurement, ValueFormatter, WallTime};
use criterion::{BatchSize, Criterion, Throughput};
use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::units::Bytes;
use tidegate::engine::catalog::{Catalog, TableSettings};
use tidegate::engine::embedded::{Embedded, Options};
use tidegate::engine::{ShardId, TableEngine};
use tidegate::record::codec::{Payload, PayloadBuilder, RecordView};
use tidegate::record::request::{CommonAttributes, WriteRequest};
use tidegate::record::{Attribute, Dimension, Origin, Record, TableId, Value};

const HOSTS: usize = 4_000;
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
const TAGS: [&str; 10] = [
    "hostname",
    "region",
    "datacenter",
    "rack",
    "os",
    "arch",
    "team",
    "service",
    "service_version",
    "service_environment",
];
const START_NS: i64 = 1_700_000_000_000_000_000;
const STEP_NS: i64 = 10_000_000_000;

/// A fleet as TSBS makes it: tags drawn once a host, fields as random walks from 0 to 100.
struct Fleet {
    tags: Vec<Vec<String>>,
    fields: Vec<[i64; 10]>,
    seed: u64,
}

impl Fleet {
    fn new() -> Self {
        let mut fleet = Self { tags: Vec::new(), fields: Vec::new(), seed: 7 };
        for host in 0..HOSTS {
            let region =
                ["us-east-1", "us-west-1", "eu-west-1", "eu-central-1", "ap-south-1"][host % 5];
            let tags = vec![
                format!("host_{host}"),
                region.to_owned(),
                format!("{region}{}", ["a", "b", "c"][fleet.below(3)]),
                fleet.below(100).to_string(),
                ["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"][fleet.below(3)].to_owned(),
                ["x64", "x86"][fleet.below(2)].to_owned(),
                ["SF", "NYC", "LON", "CHI"][fleet.below(4)].to_owned(),
                fleet.below(20).to_string(),
                fleet.below(2).to_string(),
                ["production", "test", "staging"][fleet.below(3)].to_owned(),
            ];
            let fields = std::array::from_fn(|_| i64::try_from(fleet.below(101)).unwrap());
            fleet.tags.push(tags);
            fleet.fields.push(fields);
        }
        fleet
    }

    fn below(&mut self, end: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from((self.seed >> 11) % end as u64).unwrap()
    }

    /// One payload with one record a host at step `step`.
    fn payload(&mut self, table: TableId, step: i64, version: i64) -> Vec<u8> {
        self.payload_of(table, step, version, &FIELDS)
    }

    /// The same with the first of the fields only, those of `names`.
    fn payload_of(
        &mut self,
        table: TableId,
        step: i64,
        version: i64,
        names: &[&'static str],
    ) -> Vec<u8> {
        let mut builder = PayloadBuilder::new(1);
        builder.start(START_NS + step * STEP_NS);
        for host in 0..HOSTS {
            for field in 0..10 {
                let change = i64::try_from(self.below(3)).unwrap() - 1;
                self.fields[host][field] = (self.fields[host][field] + change).clamp(0, 100);
            }
            let record = Record {
                origin: Origin { number: host as u64, text: b"", ..Origin::default() },
                measure_name: "cpu",
                dimensions: TAGS
                    .iter()
                    .zip(&self.tags[host])
                    .map(|(name, value)| Dimension { name, value })
                    .collect(),
                attributes: names
                    .iter()
                    .zip(self.fields[host])
                    .map(|(name, value)| Attribute { name, value: Value::Bigint(value) })
                    .collect(),
                ..Record::default()
            };
            let ids = (builder.family(table, &record).0, builder.layout(&record).0);
            builder.push(ids, &record, START_NS + step * STEP_NS, version);
        }
        let mut bytes = Vec::new();
        builder.finish(&mut bytes);
        bytes
    }
}

/// CPU time of all threads since they began, ns. Threads that end take theirs along.
fn cpu_ns() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::fs::DirEntry| -> Option<u64> {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse().ok()
    };
    tasks.filter_map(|task| of_task(task.unwrap())).sum()
}

struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = u64;
    type Value = Duration;

    fn start(&self) -> u64 {
        cpu_ns()
    }

    fn end(&self, begin: u64) -> Duration {
        Duration::from_nanos(cpu_ns().saturating_sub(begin))
    }

    fn add(&self, a: &Duration, b: &Duration) -> Duration {
        *a + *b
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

struct Bench {
    dir: tempfile::TempDir,
    engine: Embedded,
    table: TableId,
}

impl Bench {
    fn new(memory: Bytes) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let table = catalog.create("d", "cpu", &TableSettings::default()).unwrap().id;
        let engine = Self::open(&dir, catalog, memory, Options::default().cache_bytes_max);
        Self { dir, engine, table }
    }

    fn open(dir: &tempfile::TempDir, catalog: Catalog, memory: Bytes, cache: Bytes) -> Embedded {
        let options = Options {
            dir: dir.path().to_owned(),
            memory_bytes_max: memory,
            flush_bytes: Bytes(memory.0 / 4 * 3),
            cache_bytes_max: cache,
            ..Options::default()
        };
        Embedded::open(options, 1, Arc::new(catalog), SystemClock::shared()).unwrap()
    }

    /// Starts the engine anew, with everything in files, and this cache.
    fn restarted(self, cache: Bytes) -> Self {
        let Self { dir, engine, table } = self;
        engine.flush().unwrap();
        drop(engine);
        let catalog = Catalog::open(dir.path()).unwrap();
        let engine = Self::open(&dir, catalog, Bytes::mib(4096), cache);
        Self { dir, engine, table }
    }

    /// Writes frames whose records meet rows in files, and prints how fast.
    fn late(&self, what: &str, lsn: &mut u64, frames: &[Vec<u8>]) {
        let begin = CpuTime.start();
        for frame in frames {
            *lsn += 1;
            self.write(*lsn, frame);
        }
        let took = CpuTime.end(begin);
        #[expect(clippy::cast_precision_loss, reason = "a ratio to read")]
        let records = (frames.len() * HOSTS) as f64;
        eprintln!("{what}: {:.0} records/s", records / took.as_secs_f64());
    }

    fn write(&self, lsn: u64, bytes: &[u8]) {
        let payload = Payload::open(bytes).unwrap();
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).unwrap();
        let common = CommonAttributes::default();
        let mut outcomes = Vec::with_capacity(100);
        let mut views: Vec<RecordView<'_>> = Vec::with_capacity(100);
        let mut records = payload.section(0, &families, &layouts);
        loop {
            views.clear();
            views.extend(records.by_ref().take(100).map(Result::unwrap));
            if views.is_empty() {
                break;
            }
            outcomes.clear();
            let request = WriteRequest { table: self.table, common: &common, records: &views };
            self.engine.write(ShardId(0), &request, &mut outcomes).unwrap();
            black_box(&outcomes);
        }
        self.engine.commit(ShardId(0), Lsn(lsn)).unwrap();
    }
}

fn writes(criterion: &mut Criterion<CpuTime>) {
    let steps = 50;
    let mut group = criterion.benchmark_group("engine");
    group.sample_size(10);
    group.throughput(Throughput::Elements(steps * HOSTS as u64));
    let table = TableId(1);
    let mut fleet = Fleet::new();
    let frames = |fleet: &mut Fleet, version| -> Vec<Vec<u8>> {
        (0..steps).map(|step| fleet.payload(table, i64::try_from(step).unwrap(), version)).collect()
    };
    let first = frames(&mut fleet, 1);
    let second = frames(&mut fleet, 2);
    group.bench_function("write in order, 10 attributes", |bencher| {
        bencher.iter_batched(
            || Bench::new(Bytes::mib(1024)),
            |bench| {
                for (lsn, frame) in (1..).zip(&first) {
                    bench.write(lsn, frame);
                }
                bench
            },
            BatchSize::PerIteration,
        );
    });
    let before = || {
        let bench = Bench::new(Bytes::mib(1024));
        for (lsn, frame) in (1..).zip(&first) {
            bench.write(lsn, frame);
        }
        bench
    };
    for (name, frames) in [("update with higher versions", &second), ("repeat the same", &first)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                before,
                |bench| {
                    for (lsn, frame) in (1 + steps..).zip(frames) {
                        bench.write(lsn, frame);
                    }
                    bench
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Printed once: bytes a value in memory and on disk, flush speed, and updates of what is in files.
fn sizes() {
    let steps = 500;
    let bench = Bench::new(Bytes::mib(4096));
    let mut fleet = Fleet::new();
    let mut again = Vec::new();
    for step in 0..steps {
        let frame = fleet.payload(bench.table, step, 1);
        bench.write(u64::try_from(step).unwrap() + 1, &frame);
        if step % 100 == 50 {
            again.push(frame);
        }
    }
    let state = bench.engine.state();
    #[expect(clippy::cast_precision_loss, reason = "a ratio to read")]
    let ratio = |bytes: u64, values: u64| bytes as f64 / values as f64;
    let values = state.memory_rows * 10;
    eprintln!(
        "memory: {} rows, {:.2} bytes a value",
        state.memory_rows,
        ratio(state.memory_bytes, values)
    );
    let begin = CpuTime.start();
    bench.engine.flush().unwrap();
    let took = CpuTime.end(begin);
    let state = bench.engine.state();
    eprintln!(
        "files: {} files, {:.3} bytes a field value",
        state.files,
        ratio(state.file_bytes, values)
    );
    let per_second = |values: u64| ratio(values, 1) / took.as_secs_f64() / 1e6;
    eprintln!(
        "flush: {took:?}, {:.1} M field values/s, {:.1} M column values/s",
        per_second(values),
        per_second(values / 10 * 23)
    );
    let mut lsn = u64::try_from(steps).unwrap();
    let table = bench.table;
    let mut frames = |fields: &[&'static str], first: i64| -> Vec<Vec<u8>> {
        (0..5).map(|at| fleet.payload_of(table, first + at * 100, 2, fields)).collect()
    };
    bench.late("update what is in files", &mut lsn, &frames(&FIELDS, 0));
    bench.late("… again, what was read is cached", &mut lsn, &frames(&FIELDS, 1));
    bench.late("repeat what is in files", &mut lsn, &again);
    bench.late("update one attribute of ten", &mut lsn, &frames(&FIELDS[..1], 70));
    let begin = CpuTime.start();
    let mut rows = 0_u64;
    bench
        .engine
        .scan(bench.table, tidegate::engine::TimeRange::ALL, &mut |row| {
            rows += black_box(row).attributes.len() as u64 / 10;
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let took = CpuTime.end(begin);
    eprintln!("scan: {rows} rows, {:.2} M rows/s", ratio(rows, 1) / took.as_secs_f64() / 1e6);
    let bench = bench.restarted(Options::default().cache_bytes_max);
    bench.late("update after a restart", &mut lsn, &frames(&FIELDS, 3));
    let bench = bench.restarted(Bytes::mib(16));
    bench.late("… with a cache of 16 MiB", &mut lsn, &frames(&FIELDS, 4));
    bench.late("… one attribute of ten", &mut lsn, &frames(&FIELDS[..1], 75)[..1]);
}

/// One row a day, for each of these days before the start of the fleet.
fn rows_of_days(table: TableId, days: std::ops::Range<i64>, version: i64) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(1);
    builder.start(START_NS);
    for day in days {
        let attributes = vec![Attribute { name: "v", value: Value::Bigint(day) }];
        let record = Record { measure_name: "cpu", attributes, ..Record::default() };
        let ids = (builder.family(table, &record).0, builder.layout(&record).0);
        builder.push(ids, &record, START_NS - day * 86_400_000_000_000, version);
    }
    let mut bytes = Vec::new();
    builder.finish(&mut bytes);
    bytes
}

/// The median of some runs, by the clock.
fn median(mut run: impl FnMut(i64)) -> Duration {
    let clock = SystemClock::shared();
    let mut took: Vec<Duration> = (0..9)
        .map(|at| {
            let begin = clock.monotonic();
            run(at);
            clock.monotonic().saturating_sub(begin)
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

/// Printed once: what a flush, a look, an update and a start cost where there are many files already, of
/// a row each. By the clock and not by CPU time: most of it is waiting for the disk.
fn many_files(files: i64) {
    let bench = Bench::new(Bytes::mib(1024));
    let mut lsn = 1;
    bench.write(lsn, &rows_of_days(bench.table, 0..files, 1));
    bench.engine.flush().unwrap();
    let flush = median(|at| {
        lsn += 1;
        bench.write(lsn, &rows_of_days(bench.table, files + at..files + at + 1, 1));
        bench.engine.flush().unwrap();
    });
    let hour =
        tidegate::engine::TimeRange { from_ns: START_NS - 3_600_000_000_000, to_ns: i64::MAX };
    let scan = median(|_| {
        let mut rows = 0;
        let each = &mut |_: &tidegate::engine::Row<'_>| {
            rows += 1;
            std::ops::ControlFlow::Continue(())
        };
        bench.engine.scan(bench.table, hour, each).unwrap();
        assert_eq!(rows, 1, "the newest hour has one row");
    });
    let late = median(|at| {
        lsn += 1;
        bench.write(lsn, &rows_of_days(bench.table, at + 1..at + 2, 1));
    });
    let state = median(|_| drop(black_box(bench.engine.state())));
    let counted = bench.engine.state().files;
    let size = |entry: std::fs::DirEntry| entry.metadata().unwrap().len();
    let manifests: u64 = std::fs::read_dir(bench.dir.path())
        .unwrap()
        .map(Result::unwrap)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("manifest"))
        .map(size)
        .sum();
    let before = resident_bytes();
    let clock = SystemClock::shared();
    let begin = clock.monotonic();
    let bench = bench.restarted(Bytes::mib(256));
    let start = clock.monotonic().saturating_sub(begin);
    eprintln!(
        "{counted} files: flush of a row {flush:?}, newest hour {scan:?}, repeat of a row in files \
         {late:?}, state {state:?}, stop and start {start:?}, manifest {manifests} bytes, \
         resident {} MiB, after the start {} MiB",
        before >> 20,
        resident_bytes() >> 20
    );
    drop(bench);
}

/// Memory that the process has, as the kernel counts it.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn main() {
    if std::env::args().any(|arg| arg == "files") {
        for files in std::env::args().filter_map(|arg| arg.parse().ok()) {
            many_files(files);
        }
        return;
    }
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    writes(&mut criterion);
    criterion.final_summary();
    sizes();
}
