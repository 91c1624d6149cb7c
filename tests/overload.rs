//! Promise: memory stays bounded. Overload ends in 503 with a `Retry-After` of whole seconds, never
//! in growth; afterwards the server takes writes again, and what it acknowledged meanwhile is there.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

use common::client::{Client, Reply};
use common::gateway::{Gateway, Place};
use common::{tell, wait_for};

const MIB: u64 = 1 << 20;

/// How long the overload lasts unless the environment says otherwise.
const OVERLOAD_SECONDS: u64 = 6;

/// Longest time until the server takes writes again.
const RECOVERY_MAX: Duration = Duration::from_mins(1);

/// Connections that send as fast as they can.
const CONNECTIONS: usize = 32;

/// Each connection has a stretch of time of its own, this many bits of nanoseconds.
const CONNECTION_BITS: u32 = 40;

/// Memory for requests, as set below.
const REQUESTS_BYTES: u64 = 16 * MIB;

/// Memory for records, as set below.
const RECORDS_BYTES: u64 = 32 * MIB;

/// What the process may take beside what its settings allow: a flush (about 100 MiB by the engine's own
/// word), payloads being packed, stacks, and what the allocator keeps for each thread. Measured, with
/// 19 GiB sent in 40 s: 307 MiB in all, the same in both halves; 219 MiB with one arena of the
/// allocator.
const BESIDE_BYTES: u64 = 384 * MIB;

/// Least that must be sent, several times of what the process may ever take.
const SENT_BYTES_MIN: u64 = 4 * (REQUESTS_BYTES + RECORDS_BYTES + BESIDE_BYTES);

/// Longest overload, however slow the machine is.
const OVERLOAD_MAX: Duration = Duration::from_mins(3);

const SMALL_MEMORY: &str = r#"
    [server]
    body_bytes_max = "8 MiB"
    inflated_bytes_max = "8 MiB"

    [ingest]
    memory_bytes_max = "16 MiB"
    admit_wait = "50ms"

    [wal]
    segment_bytes = "49 MiB"
    bytes_max = "147 MiB"

    [engine.embedded]
    memory_bytes_max = "32 MiB"
    flush_bytes = "8 MiB"
    flush_interval = "1s"
    cache_bytes_max = "8 MiB"
"#;

/// What a load came to.
#[derive(Debug, Default)]
struct Tally {
    taken: AtomicU64,
    busy: AtomicU64,
    broken: AtomicU64,
    sent_bytes: AtomicU64,
    /// First and last time of each acknowledged request, ns.
    acknowledged: Mutex<Vec<(i64, i64)>>,
}

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Taken,
    Busy,
    Broken,
}

impl Tally {
    /// Sends one body of records from `first_ns` on, and notes what became of it.
    fn send(&self, client: &mut Client, first_ns: i64, (text, records): &(String, i64)) -> Sent {
        let sent = client.post("/write?db=load", &[], text.as_bytes());
        self.sent_bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
        match sent {
            Ok(reply) if reply.status == 204 => {
                self.taken.fetch_add(1, Ordering::Relaxed);
                let range = (first_ns, first_ns + records - 1);
                self.acknowledged.lock().expect("nobody panicked").push(range);
                Sent::Taken
            }
            Ok(reply) => {
                assert_busy(&reply);
                self.busy.fetch_add(1, Ordering::Relaxed);
                Sent::Busy
            }
            // A server that answers before it has read the body may close on who still sends.
            Err(_broken) => {
                self.broken.fetch_add(1, Ordering::Relaxed);
                Sent::Broken
            }
        }
    }
}

fn assert_busy(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    let retry_after = reply.header("retry-after").unwrap_or_default();
    let seconds: u64 = retry_after.parse().unwrap_or_default();
    assert!(seconds >= 1, "Retry-After: {retry_after:?}");
}

/// Lines of one series a connection, one a nanosecond from `first_ns` on; their number behind them.
fn lines(connection: usize, first_ns: i64, bytes: usize) -> (String, i64) {
    let mut text = String::with_capacity(bytes + 256);
    let mut time_ns = first_ns;
    while text.len() < bytes {
        let value = time_ns.wrapping_mul(7_919);
        writeln!(text, "load,connection=c{connection} a={value}i,s=\"{value:0>200}\" {time_ns}")
            .expect("a string takes all");
        time_ns += 1;
    }
    (text, time_ns - first_ns)
}

fn lasts() -> Duration {
    let given = std::env::var("TIDEGATE_OVERLOAD_SECONDS").ok();
    let seconds = given.map(|text| text.parse().expect("TIDEGATE_OVERLOAD_SECONDS is a number"));
    Duration::from_secs(seconds.unwrap_or(OVERLOAD_SECONDS))
}

/// Loads the server from many connections; returns the most private memory that was seen in the
/// first and in the second half.
fn overload(server: &Gateway, tally: &Tally) -> [u64; 2] {
    let clock = SystemClock::new();
    let lasts = lasts();
    let is_over = AtomicBool::new(false);
    let mut most = [0, 0];
    std::thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut client = server.client();
                let number = i64::try_from(connection).expect("small");
                let mut first_ns = number << CONNECTION_BITS;
                let mut body = lines(connection, first_ns, 3 << 20);
                while !is_over.load(Ordering::Relaxed) {
                    // What was not taken is sent again at once: a client that does not behave.
                    if tally.send(&mut client, first_ns, &body) == Sent::Taken {
                        first_ns += body.1;
                        body = lines(connection, first_ns, 3 << 20);
                    }
                }
            });
        }
        let is_enough = || tally.sent_bytes.load(Ordering::Relaxed) >= SENT_BYTES_MIN;
        while clock.monotonic() < lasts || !is_enough() && clock.monotonic() < OVERLOAD_MAX {
            let half = usize::from(tally.sent_bytes.load(Ordering::Relaxed) > SENT_BYTES_MIN / 2);
            most[half] = most[half].max(server.private_bytes());
            clock.sleep(Duration::from_millis(10));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    most
}

/// Waits until a small write is taken, and reads it back.
fn assert_recovers(server: &Gateway) {
    let headers = [("X-Tidegate-Durability", "applied")];
    wait_for("a write to be taken again", RECOVERY_MAX, || {
        let reply = server.client().post("/write?db=after", &headers, b"calm,site=a t=1 1").ok()?;
        if reply.status != 204 {
            assert_busy(&reply);
        }
        (reply.status == 204).then_some(())
    });
    assert_eq!(server.export("after", "calm").len(), 1);
}

/// Every acknowledged record stands. Counts the lines of each connection's stretch of time, which has
/// no holes: what was not taken was sent again, until the end.
fn assert_all_there(server: &Gateway, tally: &Tally) -> i64 {
    let mut client = server.client();
    let mut stretches: BTreeMap<i64, i64> = BTreeMap::new();
    for (first_ns, last_ns) in tally.acknowledged.lock().expect("nobody panicked").iter() {
        let end = stretches.entry(first_ns >> CONNECTION_BITS).or_default();
        *end = (*end).max(last_ns + 1);
    }
    let mut records = 0;
    for (connection, to) in stretches {
        let from = connection << CONNECTION_BITS;
        let target = format!("/api/v1/export?db=load&table=load&from={from}&to={to}&format=line");
        let reply = client.get(&target).expect("an export is answered");
        let found = memchr::memchr_iter(b'\n', &reply.body).count();
        assert_eq!(i64::try_from(found), Ok(to - from), "records of connection {connection}");
        records += to - from;
    }
    records
}

#[test]
fn sustained_overload_ends_in_503_and_never_in_growth() {
    let place = Place::new(SMALL_MEMORY);
    let server = place.start();
    let before = server.private_bytes();
    let tally = Tally::default();
    let [first, second] = overload(&server, &tally);
    assert_recovers(&server);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (taken, busy, broken) = (count(&tally.taken), count(&tally.busy), count(&tally.broken));
    let sent = count(&tally.sent_bytes);
    let records = assert_all_there(&server, &tally);
    tell(format!(
        "overload: {} MiB sent on {CONNECTIONS} connections, {taken} requests taken ({records} \
         records read back), {busy} busy, {broken} broken off; private memory {} MiB idle, at most \
         {} and {} MiB in the halves of the load, peak with the mapped log {} MiB",
        sent / MIB,
        before / MIB,
        first / MIB,
        second / MIB,
        server.peak_bytes() / MIB
    ));
    assert!(taken > 0, "nothing was taken, so nothing was proved");
    assert!(busy > 0, "the load was too small to prove anything");
    let bound = REQUESTS_BYTES + RECORDS_BYTES + BESIDE_BYTES;
    assert!(sent > SENT_BYTES_MIN, "the load was too small to prove anything: {sent} bytes");
    assert!(first.max(second) < bound, "{} bytes of memory, bound {bound}", first.max(second));
    server.stop();
}

#[test]
fn a_full_log_is_503_until_the_sink_is_back_and_loses_nothing() {
    let place = Place::new(SMALL_MEMORY);
    let server = place.start();
    let mut client = server.client();
    let headers = [("X-Tidegate-Durability", "applied")];
    let reply = client.post("/write?db=load", &headers, b"load,connection=c a=1i -1").unwrap();
    assert_eq!(reply.status, 204);
    // The sink is away: a file is where its folder has to be. A conflict then holds the log.
    let sink = place.data().join("rejects/records");
    std::fs::create_dir_all(sink.parent().unwrap()).unwrap();
    std::fs::write(&sink, b"").unwrap();
    server.write("load", "load,connection=c a=2i -1");
    let tally = Tally::default();
    let mut first_ns = 0;
    wait_for("the log to be full", RECOVERY_MAX, || {
        let body = lines(0, first_ns, 3 << 20);
        if tally.send(&mut client, first_ns, &body) == Sent::Taken {
            first_ns += body.1;
        }
        (tally.busy.load(Ordering::Relaxed) > 0).then_some(())
    });
    let taken = tally.taken.load(Ordering::Relaxed);
    assert!(taken > 0, "the log was full before anything was in it");
    assert_eq!(client.get("/health").unwrap().status, 200, "a full log is no fault");
    std::fs::remove_file(&sink).unwrap();
    assert_recovers(&server);
    let records = assert_all_there(&server, &tally);
    assert_eq!(place.files("rejects/records", ".json").len(), 1, "the conflict was reported");
    tell(format!("full log: {taken} requests, {records} records, all there after the sink was"));
    server.stop();
}

#[test]
fn a_request_larger_than_all_memory_is_refused_and_not_kept_waiting() {
    let place = Place::new(SMALL_MEMORY);
    let server = place.start();
    let (text, _) = lines(0, 0, 9 << 20);
    // The answer may come before the body was sent, and the connection end with it.
    if let Ok(reply) = server.client().post("/write?db=load", &[], text.as_bytes()) {
        assert_eq!(reply.status, 413, "{}", reply.text());
    }
    assert_recovers(&server);
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_kills_nobody() {
    let place = Place::new(SMALL_MEMORY);
    let serve = place.command("serve");
    // Less than one segment of the log. The shell counts in units of 512 or 1,024 bytes.
    let output = std::process::Command::new("sh")
        .args(["-c", r#"ulimit -f 16384; exec "$0" "$@""#])
        .arg(serve.get_program())
        .args(serve.get_args())
        .args(["--listen", "127.0.0.1:0"])
        .current_dir(place.file("."))
        // Settings of the tests themselves would be taken for the server's, and refused.
        .env_clear()
        .output()
        .expect("there is a shell");
    assert_eq!(output.status.code(), Some(1), "the process was not ended by a signal");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("File too large"), "{told}");
    // Nothing that is left keeps it from starting without the limit.
    place.start().stop();
}
