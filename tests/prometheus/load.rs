//! A steady load over three protocols, some of it refused, whose every record is counted.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use serde_json::json;
use tidegate::base::clock::{Clock, SystemClock};

use crate::common::client::Client;

/// Good lines, bad lines, and conflicting lines of one request of line protocol.
const LINES: u64 = 36;
const BAD: u64 = 2;
const CONFLICTS: u64 = 2;

/// Records of one request of the others.
const JSON_RECORDS: u64 = 20;
const TIMESTREAM_RECORDS: u64 = 20;

/// Between two requests of a connection: the same pace whatever the machine does, so that rates are known.
const PAUSE: Duration = Duration::from_millis(100);

/// What was sent and answered.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sent {
    /// Records acknowledged, conflicts that the engine refused later included.
    pub(crate) line: u64,
    pub(crate) json: u64,
    pub(crate) timestream: u64,
    pub(crate) bad_lines: u64,
    pub(crate) conflicts: u64,
    pub(crate) requests: u64,
    /// Bytes of bodies that were no writes.
    pub(crate) other_bytes: usize,
}

impl Sent {
    pub(crate) const fn accepted(&self) -> u64 {
        self.line + self.json + self.timestream
    }

    pub(crate) const fn decoded(&self) -> u64 {
        self.accepted() + self.bad_lines
    }
}

/// What the load is a second.
pub(crate) struct Rates {
    pub(crate) accepted: f64,
    pub(crate) decoded: f64,
    pub(crate) rejected: f64,
}

/// Requests answered so far, by protocol.
#[derive(Default)]
struct Counts {
    stop: AtomicBool,
    line: AtomicU64,
    json: AtomicU64,
    timestream: AtomicU64,
}

/// A running load.
pub(crate) struct Load {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
    other_bytes: usize,
    clock: SystemClock,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let counts = Arc::new(Counts::default());
        let other_bytes = prepare(address);
        let mut threads = Vec::new();
        for kind in [line, json_records, timestream] {
            let counts = Arc::clone(&counts);
            #[expect(
                clippy::disallowed_methods,
                reason = "a test's own threads, joined at its end"
            )]
            threads.push(spawn(move || {
                let (clock, mut client) = (SystemClock::new(), Client::new(address));
                let mut round = 0;
                while !counts.stop.load(Ordering::Relaxed) {
                    kind(&mut client, round).fetch_into(&counts);
                    round += 1;
                    clock.sleep(PAUSE);
                }
            }));
        }
        Self { counts, threads, other_bytes, clock: SystemClock::new() }
    }

    /// Lets it run.
    pub(crate) fn run_for(&self, while_it: Duration) {
        self.clock.sleep(while_it);
    }

    /// Its rates from the start until now.
    pub(crate) fn rates(&self) -> Rates {
        let (sent, seconds) = (self.sent(), self.clock.monotonic().as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "counts of a test are small")]
        let rate = |count: u64| count as f64 / seconds;
        Rates {
            accepted: rate(sent.accepted()),
            decoded: rate(sent.decoded()),
            rejected: rate(sent.bad_lines + sent.conflicts),
        }
    }

    /// Ends it, and tells what was sent.
    pub(crate) fn stop(mut self) -> Sent {
        self.counts.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("every request was answered as it should be");
        }
        let mut sent = self.sent();
        // The record that the conflicts conflict with: see prepare.
        sent.line += 1;
        sent.requests += 1;
        sent
    }

    fn sent(&self) -> Sent {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let [line, json, timestream] =
            [&self.counts.line, &self.counts.json, &self.counts.timestream].map(of);
        Sent {
            line: line * (LINES + CONFLICTS),
            json: json * JSON_RECORDS,
            timestream: timestream * TIMESTREAM_RECORDS,
            bad_lines: line * BAD,
            conflicts: line * CONFLICTS,
            requests: line + json + timestream,
            other_bytes: self.other_bytes,
        }
    }
}

/// Whose request was answered.
enum Answered {
    Line,
    Json,
    Timestream,
}

impl Answered {
    fn fetch_into(&self, counts: &Counts) {
        let count = match self {
            Self::Line => &counts.line,
            Self::Json => &counts.json,
            Self::Timestream => &counts.timestream,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Makes what the load writes into. Returns how many bytes that took which are no write.
fn prepare(address: SocketAddr) -> usize {
    let mut bytes = 0;
    let mut client = Client::new(address);
    let reply = client.post("/write?db=fleet", &[], b"stand,site=a t=1 1").expect("answered");
    assert_eq!(reply.status, 204, "{}", reply.text());
    for (operation, body) in [
        ("CreateDatabase", json!({ "DatabaseName": "aws" })),
        ("CreateTable", json!({ "DatabaseName": "aws", "TableName": "cpu" })),
    ] {
        send_timestream(&mut client, operation, &body);
        bytes += body.to_string().len();
    }
    bytes
}

fn line(client: &mut Client, round: u64) -> Answered {
    let mut body = String::new();
    for at in 0..LINES {
        let time = 1_700_000_000_000_000_000 + round * LINES + at;
        writeln!(body, "cpu,host=h{} usage={at}.5,n={round}i {time}", at % 8)
            .expect("it takes all");
    }
    for at in 0..CONFLICTS {
        writeln!(body, "stand,site=a t={} 1", 2 + at + round).expect("it takes all");
    }
    for _ in 0..BAD {
        body.push_str("cpu,host=h1\n");
    }
    let reply = client.post("/api/v2/write?bucket=fleet", &[], body.as_bytes()).expect("answered");
    // The good lines are stored, and the answer names the bad ones.
    assert_eq!(reply.status, 400, "{}", reply.text());
    Answered::Line
}

fn json_records(client: &mut Client, round: u64) -> Answered {
    let record = |at: u64| {
        json!({ "measurement": "room", "tags": { "site": format!("s{at}") },
                "fields": { "t": at, "ok": true }, "timestamp": 1_700_000_000_000 + round })
    };
    let body =
        serde_json::Value::from((0..JSON_RECORDS).map(record).collect::<Vec<_>>()).to_string();
    let headers = [("Content-Type", "application/json")];
    let reply = client.post("/api/v1/write?db=fleet", &headers, body.as_bytes()).expect("answered");
    assert_eq!(reply.status, 200, "{}", reply.text());
    Answered::Json
}

fn timestream(client: &mut Client, round: u64) -> Answered {
    let now_ns = SystemClock::new().wall_ns();
    let record = |at: u64| {
        json!({ "Dimensions": [{ "Name": "host", "Value": format!("h{at}") }], "MeasureName": "load",
                "MeasureValue": round.to_string(), "MeasureValueType": "DOUBLE",
                "Time": now_ns.to_string(), "TimeUnit": "NANOSECONDS" })
    };
    let records: Vec<_> = (0..TIMESTREAM_RECORDS).map(record).collect();
    let body = json!({ "DatabaseName": "aws", "TableName": "cpu", "Records": records });
    send_timestream(client, "WriteRecords", &body);
    Answered::Timestream
}

fn send_timestream(client: &mut Client, operation: &str, body: &serde_json::Value) {
    let target = format!("Timestream_20181101.{operation}");
    let headers =
        [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.0")];
    let reply = client.post("/", &headers, body.to_string().as_bytes()).expect("answered");
    assert_eq!(reply.status, 200, "{operation}: {}", reply.text());
}
