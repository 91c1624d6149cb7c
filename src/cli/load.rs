//! `tidegate load`: a load generator.
//!
//! A simulated fleet: each connection owns some hosts and sends their records in time order, in
//! requests of a fixed number of lines. Requests are made before the clock starts, and only their
//! timestamps are written anew for each sending; a few threads drive all connections. So the generator
//! costs little beside the server on the same machine. Values differ between [`TEMPLATES`] requests in
//! turn, then repeat.

mod drive;
mod timestream;

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;

use super::client::{Access, Address, Client, Secret};
use super::progress::Progress;
use super::{Failure, out};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::thread::Thread;
use crate::ingest::Durability;
use crate::metrics::catalog::WAL_MARKS;
use crate::server::Interrupts;
use drive::Driver;

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wire {
    /// Line protocol, to `/api/v2/write`
    Line,
    /// Timestream's `WriteRecords`, unsigned, to a strict table that is made first
    Timestream,
}

/// Flags of `load`.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8086")]
    url: String,
    /// How records are sent.
    #[arg(long, value_enum, default_value = "line")]
    protocol: Wire,
    /// The database to write to.
    #[arg(long, value_name = "D", default_value = "load")]
    database: String,
    /// Simulated hosts: series of the table.
    #[arg(long, default_value_t = 4000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    series: u32,
    /// Tags a line, 1 to 10.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    tags: u8,
    /// Fields a line, 1 to 10.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=10))]
    fields: u8,
    /// Lines a request; Timestream takes up to 100.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// Connections, each with one request under way.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    connections: u32,
    /// Threads that drive them.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: u32,
    /// How long to send.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Stop after this many lines, if that is sooner.
    #[arg(long)]
    lines: Option<u64>,
    /// How durable an acknowledgement must be: memory, interval, sync or applied. Timestream's are
    /// always applied.
    #[arg(long, default_value = "sync")]
    durability: Durability,
    /// Path and query to send line protocol to, for a server that has another than `/api/v2/write`;
    /// times are in nanoseconds.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    access: Access,
    /// The server's process, to print what it costs in CPU seconds and memory.
    #[arg(long)]
    pid: Option<u32>,
}

/// Requests made beforehand for each connection.
const TEMPLATES: u32 = 8;

/// Digits of a timestamp in nanoseconds, until the year 2286.
const TIMESTAMP_DIGITS: usize = 19;

/// Digits of the number of a sending.
const CALL_DIGITS: usize = 20;

/// How long a connection rests after the server was busy.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// Longest latency told apart; a histogram that grows would clip to what it has.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// How long to wait at the end until all that was sent is in the engine.
const SETTLE_MAX: Duration = Duration::from_mins(2);

/// The time in a request that is not stamped yet; as many digits as any other.
const UNSTAMPED_NS: u64 = 1_767_225_600_000_000_000;

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
const REGIONS: [&str; 4] = ["eu-west-1", "us-east-1", "ap-southeast-2", "sa-east-1"];
const SYSTEMS: [&str; 3] = ["Ubuntu16.10", "Ubuntu15.10", "Ubuntu16.04LTS"];

impl Wire {
    /// Between two records of one host. Strict tables take no records of the far future, so theirs are
    /// no further apart than requests at most are.
    const fn step_ns(self) -> u64 {
        match self {
            Self::Line => 10_000_000_000,
            Self::Timestream => 1_000_000,
        }
    }
}

/// The server, and the header that says who sends.
#[derive(Clone)]
struct Target {
    address: Address,
    authorization: Secret,
}

/// A request, head and body, whose timestamps are written anew for each sending.
struct Template {
    bytes: Vec<u8>,
    /// Where they begin.
    timestamps: Vec<usize>,
    /// Where the head has the number of the sending, if it has one.
    call: Option<usize>,
}

/// The body of a request, and where its timestamps begin.
struct Body {
    text: String,
    timestamps: Vec<usize>,
}

/// What the connections of one thread did.
#[derive(Default)]
struct Tally {
    busy: u64,
    latency: Option<Histogram<u64>>,
    failed: Option<String>,
}

/// What the connections share.
struct Shared {
    args: LoadArgs,
    clock: SharedClock,
    end: Duration,
    /// The first record's time: the start of the run, so that a second run sends new records.
    begin_ns: u64,
    lines: AtomicU64,
    stop: AtomicBool,
}

/// Sends load and prints what came of it.
///
/// # Errors
///
/// [`Failure::Usage`] for an address that is no `http://HOST:PORT` or https or more records a request than the
/// protocol has, [`Failure::Failed`] when a connection breaks or the server refuses lines.
pub fn run(args: &LoadArgs) -> Result<(), Failure> {
    let address = Address::parse("--url", &args.url, &args.access.trust)?;
    let target = Target { address, authorization: args.access.header()? };
    if args.protocol == Wire::Timestream {
        timestream::prepare(args, &target)?;
    }
    let clock = SystemClock::shared();
    let step_ns = args.protocol.step_ns();
    let begin_ns = clock.wall_ns().unsigned_abs() / step_ns * step_ns;
    let fleets = fleets(args, &target, begin_ns);
    let interrupts = Interrupts::listen("ending with the requests that are under way");
    let interrupts = interrupts.map_err(Failure::failed)?;
    let cpu_before = args.pid.and_then(cpu_seconds);
    let begin = clock.monotonic();
    let shared = Arc::new(Shared {
        args: args.clone(),
        clock: Arc::clone(&clock),
        end: begin + Duration::from_secs(args.seconds),
        begin_ns,
        lines: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    });
    let (sender, tallies) = crossbeam_channel::unbounded();
    let mut threads = Vec::new();
    for (at, own) in fleets.into_iter().enumerate() {
        let (shared, sender, target) = (Arc::clone(&shared), sender.clone(), target.clone());
        let thread = Thread::spawn(&format!("load-{at}"), move || {
            // The receiver lives until every thread is joined.
            drop(sender.send(send_all(&shared, &target.address, own)));
        });
        threads.push(thread.map_err(Failure::failed)?);
    }
    drop(sender);
    watch(&shared, &threads, &interrupts);
    for thread in threads {
        thread.join().map_err(Failure::failed)?;
    }
    let elapsed = clock.monotonic().saturating_sub(begin);
    let away = |error| Failure::failed(format!("{}: {error}", target.address.url()));
    let settled = settle(&target, &clock, &interrupts).map_err(away)?;
    let times = Times { elapsed, settled, cpu_before };
    report(&shared, &tallies.iter().collect::<Vec<_>>(), &times)?;
    match interrupts.heard() {
        None => Ok(()),
        Some(signal) => {
            let told = "the figures above are of what was sent until then".to_owned();
            Err(Failure::Interrupted { signal, told })
        }
    }
}

/// Tells how many lines are sent, until every connection has ended.
fn watch(shared: &Shared, threads: &[Thread], interrupts: &Interrupts) {
    // The run is measured to its end.
    const LOOK: Duration = Duration::from_millis(5);
    let mut progress = Progress::new("sending, lines", shared.args.lines.unwrap_or_default());
    while !threads.iter().all(Thread::is_finished) {
        // Relaxed: a count.
        progress.at(shared.lines.load(Ordering::Relaxed));
        if interrupts.heard().is_some() {
            // Relaxed: connections notice with their next request.
            shared.stop.store(true, Ordering::Relaxed);
        }
        shared.clock.sleep(LOOK);
    }
}

/// How long the run took, and what the server had spent before it.
struct Times {
    elapsed: Duration,
    /// From the last answer until everything was in the engine.
    settled: Duration,
    cpu_before: Option<f64>,
}

/// Waits until the engine has executed all that is durable, so that its work is counted too.
fn settle(target: &Target, clock: &SharedClock, interrupts: &Interrupts) -> io::Result<Duration> {
    const LOOK: Duration = Duration::from_millis(20);
    let begin = clock.monotonic();
    let mut client = Client::new(target.address.clone());
    let (address, Secret(authorization)) = (&target.address, &target.authorization);
    let ask = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
    loop {
        let waited = clock.monotonic().saturating_sub(begin);
        let metrics = client.exchange(ask.as_bytes())?.body;
        let metrics = String::from_utf8_lossy(&metrics);
        let [applied, durable] = WAL_MARKS.map(|name| {
            let mut of_it = metrics.lines().filter_map(|line| line.strip_prefix(name));
            of_it.next().and_then(|value| value.trim().parse::<u64>().ok())
        });
        // Another server has no such marks, and there is nothing to wait for.
        if applied == durable || waited > SETTLE_MAX || interrupts.heard().is_some() {
            return Ok(waited);
        }
        clock.sleep(LOOK);
    }
}

/// The requests of each connection, dealt out to the threads.
fn fleets(args: &LoadArgs, target: &Target, begin_ns: u64) -> Vec<Vec<Vec<Template>>> {
    let mut fleets: Vec<Vec<Vec<Template>>> = Vec::new();
    fleets.resize_with(args.threads.min(args.connections) as usize, Vec::new);
    let count = fleets.len();
    for at in 0..args.connections {
        fleets[at as usize % count].push(templates(args, (target, begin_ns), at));
    }
    fleets
}

fn send_all(shared: &Shared, address: &Address, own: Vec<Vec<Template>>) -> Tally {
    let mut tally =
        Tally { latency: Histogram::new_with_max(LATENCY_NS_MAX, 3).ok(), ..Tally::default() };
    let sent = Driver::new(shared, address, own).and_then(|mut driver| driver.run(&mut tally));
    if let Err(error) = sent {
        tally.failed = Some(format!("{}: {error}", address.url()));
        // Relaxed: the others notice with their next request.
        shared.stop.store(true, Ordering::Relaxed);
    }
    tally
}

impl Tally {
    /// Counts a request that was answered well after `waited`.
    fn count(&mut self, shared: &Shared, waited: Duration) {
        // Relaxed: a count.
        shared.lines.fetch_add(u64::from(shared.args.batch), Ordering::Relaxed);
        if let Some(latency) = &mut self.latency {
            latency.saturating_record(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        // Relaxed: counts and a flag that order nothing.
        self.stop.load(Ordering::Relaxed)
            || self.clock.monotonic() >= self.end
            || self.args.lines.is_some_and(|max| self.lines.load(Ordering::Relaxed) >= max)
    }

    /// The time of a line of a connection's request number `round`. Every request is later than the one
    /// before, and so is a host's second line in one request: no record is sent twice.
    fn time_ns(&self, round: u64, line: u64) -> u64 {
        let own = u64::from(own_hosts(&self.args));
        let steps = u64::from(self.args.batch).div_ceil(own);
        self.begin_ns + (round * steps + line / own) * self.args.protocol.step_ns()
    }
}

impl Template {
    fn new(head: &str, body: Body, call: Option<usize>) -> Self {
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.text.len());
        let timestamps = body.timestamps.into_iter().map(|at| head.len() + at).collect();
        Self { bytes: [head.as_bytes(), body.text.as_bytes()].concat(), timestamps, call }
    }

    /// Writes the time of each line, and the number of the sending.
    fn stamp(&mut self, round: u64, time_ns: impl Fn(u64) -> u64) {
        let mut digits = itoa::Buffer::new();
        for (line, at) in self.timestamps.iter().enumerate() {
            let text = digits.format(time_ns(line as u64));
            self.bytes[*at..*at + TIMESTAMP_DIGITS].copy_from_slice(text.as_bytes());
        }
        if let Some(at) = self.call {
            let text = format!("{round:0CALL_DIGITS$}");
            self.bytes[at..at + CALL_DIGITS].copy_from_slice(text.as_bytes());
        }
    }
}

/// Hosts of one connection: a request never holds one host twice, unless it has more lines than hosts.
fn own_hosts(args: &LoadArgs) -> u32 {
    args.series.div_ceil(args.connections).max(1)
}

fn templates(
    args: &LoadArgs,
    (target, begin_ns): (&Target, u64),
    connection: u32,
) -> Vec<Template> {
    let own = own_hosts(args);
    // A fixed seed: two runs send the same.
    let mut random = u64::from(connection) + 1;
    let head = head(args, target);
    (0..TEMPLATES)
        .map(|at| {
            let hosts =
                (0..args.batch).map(|line| connection * own + (at * args.batch + line) % own);
            // Writing to a string cannot fail.
            let made = match args.protocol {
                Wire::Line => {
                    put_lines(args, hosts, &mut random).map(|body| Template::new(&head, body, None))
                }
                Wire::Timestream => {
                    let (head, call) = timestream::named_call(&head, (begin_ns, connection));
                    timestream::put_records(args, hosts, &mut random)
                        .map(|body| Template::new(&head, body, Some(call)))
                }
            };
            made.expect("a string takes everything")
        })
        .collect()
}

fn put_lines(
    args: &LoadArgs,
    hosts: impl Iterator<Item = u32>,
    random: &mut u64,
) -> Result<Body, std::fmt::Error> {
    let (mut out, mut timestamps) = (String::new(), Vec::new());
    for host in hosts {
        out.push_str("cpu");
        for (n, tag) in TAGS.iter().take(usize::from(args.tags)).enumerate() {
            write!(out, ",{tag}=")?;
            put_tag(&mut out, n, host)?;
        }
        for (n, field) in FIELDS.iter().take(usize::from(args.fields)).enumerate() {
            write!(out, "{}{field}={}i", if n == 0 { ' ' } else { ',' }, next_value(random))?;
        }
        out.push(' ');
        timestamps.push(out.len());
        writeln!(out, "{UNSTAMPED_NS}")?;
    }
    Ok(Body { text: out, timestamps })
}

/// Writes the value that a host has for the tag of this number.
fn put_tag(out: &mut String, n: usize, host: u32) -> std::fmt::Result {
    let at = |n: u32, of: u32| (host.wrapping_mul(2_654_435_761) >> (n % 16)) % of;
    let region = REGIONS[at(1, 4) as usize];
    match n {
        0 => write!(out, "host_{host}"),
        1 => write!(out, "{region}"),
        2 => write!(out, "{region}{}", ['a', 'b', 'c'][at(2, 3) as usize]),
        3 => write!(out, "{}", at(3, 100)),
        4 => write!(out, "{}", SYSTEMS[at(4, 3) as usize]),
        5 => write!(out, "{}", if at(5, 2) == 0 { "x64" } else { "x86" }),
        6 => write!(out, "{}", ["SF", "NYC", "LON", "CHI"][at(6, 4) as usize]),
        7 => write!(out, "{}", at(7, 20)),
        8 => write!(out, "{}", at(8, 2)),
        _ => write!(out, "{}", ["production", "staging", "test"][at(9, 3) as usize]),
    }
}

/// A value from 0 to 99, by xorshift64: good enough for them.
const fn next_value(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random % 100
}

/// What a request begins with, up to its length.
fn head(args: &LoadArgs, target: &Target) -> String {
    if args.protocol == Wire::Timestream {
        return timestream::head("WriteRecords", target);
    }
    let Target { address, authorization: Secret(authorization) } = target;
    let usual = || format!("/api/v2/write?bucket={}&precision=ns", args.database);
    let path = args.path.clone().unwrap_or_else(usual);
    format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}X-Tidegate-Durability: {}\r\n",
        args.durability
    )
}

fn report(shared: &Shared, tallies: &[Tally], times: &Times) -> Result<(), Failure> {
    // Relaxed: every thread is joined.
    let lines = shared.lines.load(Ordering::Relaxed);
    let mut latency = Histogram::<u64>::new_with_max(LATENCY_NS_MAX, 3).map_err(Failure::failed)?;
    for own in tallies.iter().filter_map(|tally| tally.latency.as_ref()) {
        latency.add(own).map_err(Failure::failed)?;
    }
    let busy: u64 = tallies.iter().map(|tally| tally.busy).sum();
    let text = summary(lines, &latency, (busy, times));
    out::print(&text)?;
    if let (Some(pid), Some(before)) = (shared.args.pid, times.cpu_before) {
        let spent = cpu_seconds(pid).unwrap_or(before) - before;
        let per_million = spent / (as_f64(lines) / 1e6);
        let memory = memory_mib(pid).unwrap_or_default();
        out::say(&format!(
            "server       {spent:.2} CPU-s, {per_million:.2} CPU-s a million lines, {memory} MiB at most"
        ))?;
    }
    match tallies.iter().find_map(|tally| tally.failed.clone()) {
        Some(failed) => Err(Failure::failed(failed)),
        None => Ok(()),
    }
}

fn summary(lines: u64, latency: &Histogram<u64>, (busy, times): (u64, &Times)) -> String {
    let seconds = times.elapsed.as_secs_f64();
    let ms = |quantile| as_f64(latency.value_at_quantile(quantile)) / 1e6;
    format!(
        "lines        {lines} in {seconds:.2} s, {:.0} lines/s\n\
         acknowledged p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, max {:.2} ms\n\
         applied      {:.2} s after the last acknowledgement\n\
         busy         {busy} answers of 503 or 429\n",
        as_f64(lines) / seconds,
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0),
        times.settled.as_secs_f64(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

/// CPU seconds that a process has spent so far, from `/proc`.
fn cpu_seconds(pid: u32) -> Option<f64> {
    /// Clock ticks a second; fixed at 100 in Linux' interface. Source: proc(5).
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold spaces; what follows it may not.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / TICKS_PER_SECOND)
}

/// The most memory that a process has held so far, MiB.
fn memory_mib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024)
}
