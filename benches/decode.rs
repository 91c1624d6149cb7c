//! How many lines a second does one core turn into records?
//!
//! Estimate: a line of 350 bytes has about 40 tokens; finding the end of one and keeping it is some 30
//! instructions, so 1,500 with the values and the record, 300 to 400 ns at four a cycle and 4 GHz: about
//! 1 GB/s, a fifth of what `memchr` could do if it were called once a token. Machine: 2 cores of a Zen 5
//! server, virtual. Beside it, `influxdb-line-protocol` reads the same lines and keeps nothing.

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::protocol::line::{Options, decode};
use tidegate::record::{Record, RecordSink, Refusal, Value};

/// Lines a body; with a timestamp each, ten seconds apart as TSBS has them.
const LINES: u64 = 5_000;
const START_NS: u64 = 1_451_606_400_000_000_000;
const STEP_NS: u64 = 10_000_000_000;
const SEED: u64 = 0x7469_6465_6761_7465;

const CPU_FIELDS: [&str; 10] = [
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

/// Uses every value, so that none is left unread.
#[derive(Default)]
struct Sum {
    records: u64,
    sum: u64,
}

impl RecordSink for Sum {
    fn record(&mut self, record: &Record<'_>) {
        self.records += 1;
        self.sum ^= record.time_ns.unwrap_or_default().cast_unsigned();
        self.sum = self.sum.wrapping_add(record.dimensions.len() as u64);
        for attribute in &record.attributes {
            self.sum = self.sum.wrapping_add(match attribute.value {
                Value::Double(value) => value.to_bits(),
                Value::Bigint(value) | Value::Timestamp(value) => value.cast_unsigned(),
                Value::Boolean(value) => u64::from(value),
                Value::Varchar(value) => value.len() as u64,
            });
        }
        black_box(self.sum);
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        unreachable!("a line of the bench is refused: {refusal:?}");
    }
}

/// xorshift64, so that the bodies are the same on every machine and with every version of a crate.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let place = usize::try_from(self.below(words.len() as u64)).unwrap_or_default();
        words.get(place).copied().unwrap_or_default()
    }

    /// A number with up to `decimals` decimals, as a client prints it.
    fn decimal(&mut self, end: u32, decimals: u32) -> f64 {
        let steps = 10_u32.pow(decimals);
        let value = self.below(u64::from(end) * u64::from(steps));
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let value = value as f64;
        value / f64::from(steps)
    }
}

fn cpu_tags(random: &mut Random, body: &mut String) {
    let region =
        random.pick(&["eu-central-1", "us-west-2", "ap-southeast-1", "us-east-1", "sa-east-1"]);
    let zone = random.pick(&["a", "b", "c"]);
    _ = write!(
        body,
        "cpu,hostname=host_{},region={region},datacenter={region}{zone},rack={},os={},arch={},team={},\
         service={},service_version={},service_environment={} ",
        random.below(4000),
        random.below(100),
        random.pick(&["Ubuntu16.10", "Ubuntu16.04LTS", "Ubuntu15.10"]),
        random.pick(&["x64", "x86"]),
        random.pick(&["SF", "NYC", "LON", "CHI"]),
        random.below(20),
        random.below(2),
        random.pick(&["production", "staging", "test"]),
    );
}

/// Ten tags and ten integers.
fn cpu_line(random: &mut Random, body: &mut String) {
    cpu_tags(random, body);
    for (number, field) in CPU_FIELDS.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        _ = write!(body, "{comma}{field}={}i", random.below(101));
    }
}

/// Ten tags and five floats of up to ten digits.
fn float_line(random: &mut Random, body: &mut String) {
    cpu_tags(random, body);
    for (number, field) in CPU_FIELDS.iter().take(5).enumerate() {
        let comma = if number == 0 { "" } else { "," };
        _ = write!(body, "{comma}{field}={}", random.decimal(100, 7));
    }
}

/// Two to four tags, two to five fields, two measurements in turn.
fn iot_line(random: &mut Random, body: &mut String) {
    let truck = random.below(1000);
    let fleet = random.pick(&["South", "West", "East", "North"]);
    if truck.is_multiple_of(2) {
        _ = write!(
            body,
            "readings,name=truck_{truck},fleet={fleet} latitude={},longitude={},elevation={}i,\
             velocity={}i,heading={}",
            random.decimal(90, 5),
            random.decimal(180, 5),
            random.below(500),
            random.below(100),
            random.decimal(360, 2),
        );
    } else {
        _ = write!(
            body,
            "diagnostics,name=truck_{truck},fleet={fleet},driver={},model={} fuel_state={},status={}i",
            random.pick(&["Trish", "Andy", "Rodney", "Albert"]),
            random.pick(&["H-2", "F-150", "G-2000"]),
            random.decimal(1, 2),
            random.below(5),
        );
    }
}

fn body(line: impl Fn(&mut Random, &mut String)) -> String {
    let (mut random, mut body) = (Random(SEED), String::new());
    for number in 0..LINES {
        line(&mut random, &mut body);
        _ = writeln!(body, " {}", START_NS + number * STEP_NS);
    }
    body
}

fn ours(body: &str) -> u64 {
    let mut sink = Sum::default();
    decode(body.as_bytes(), &Options::new("bench", 0), &mut sink);
    sink.records
}

fn theirs(body: &str) -> u64 {
    influxdb_line_protocol::parse_lines(body).map(|line| u64::from(black_box(line).is_ok())).sum()
}

fn decode_lines(criterion: &mut Criterion) {
    let bodies =
        [("cpu", body(cpu_line)), ("cpu, 5 floats", body(float_line)), ("iot", body(iot_line))];
    for (name, body) in &bodies {
        assert_eq!(ours(body), LINES);
        assert_eq!(theirs(body), LINES);
        let mut group = criterion.benchmark_group(format!("decode/{name}"));
        group
            .throughput(Throughput::ElementsAndBytes { elements: LINES, bytes: body.len() as u64 });
        group.bench_function("tidegate", |bencher| bencher.iter(|| ours(black_box(body))));
        group.bench_function("influxdb-line-protocol", |bencher| {
            bencher.iter(|| theirs(black_box(body)));
        });
        group.finish();
    }
}

criterion_group!(benches, decode_lines);
criterion_main!(benches);
