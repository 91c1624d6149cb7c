//! Promise: ten thousand connections that say nothing cost little memory, slow down nobody, and keep
//! nobody out, even where no more are allowed. In a process of its own, since it needs the descriptors.

#[path = "common/mod.rs"]
mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tidegate::base::clock::{Clock as _, SystemClock};

use common::gateway::{Gateway, Place};
use common::{tell, wait_for};

const IDLE: usize = 10_000;

const LONG: Duration = Duration::from_mins(1);

/// Writes whose latency is measured.
const WRITES: usize = 400;

/// Most private memory of the server for an idle connection.
const IDLE_BYTES_MAX: u64 = 16 << 10;

/// Lets this process and the server, which inherits it, have a descriptor for each connection.
fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("it is allowed");
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= IDLE as u64 + 1000, "only {most} descriptors are allowed here: ulimit -Hn");
}

/// Connections that stay open; every second has had a request before.
fn crowd(server: &Gateway, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect(server.address).expect("it listens");
            stream.set_read_timeout(Some(LONG)).expect("it is a socket");
            if number % 2 == 0 {
                stream.write_all(b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n").expect("it is open");
                let mut start = [0; 12];
                stream.read_exact(&mut start).expect("it is answered");
                assert_eq!(&start, b"HTTP/1.1 204");
            }
            stream
        })
        .collect()
}

/// Median and 99th percentile of synced writes on one connection.
fn latencies(server: &Gateway) -> [Duration; 2] {
    let clock = SystemClock::new();
    let mut client = server.client();
    let mut all: Vec<Duration> = (0..WRITES)
        .map(|n| {
            let before = clock.monotonic();
            let line = format!("m,s=a v=1i {n}");
            let reply = client.post("/write?db=d", &[], line.as_bytes()).expect("it is answered");
            assert_eq!(reply.status, 204);
            clock.monotonic().checked_sub(before).expect("time goes on")
        })
        .collect();
    all.sort_unstable();
    [all[WRITES / 2], all[WRITES * 99 / 100]]
}

fn connections(server: &Gateway) -> f64 {
    server.metric("tidegate_http_connections")
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_keep_nobody_out() {
    raise_limit();
    // The limit is the default's: ten thousand, all of which are taken below.
    let place = Place::new("[server]\nidle_timeout = \"10min\"");
    let server = place.start();
    latencies(&server);
    let [median_before, last_before] = latencies(&server);
    let before = server.private_bytes();
    let clock = SystemClock::new();
    let mut idle = crowd(&server, IDLE - 100);
    let count = f64::from(u32::try_from(IDLE - 100).expect("small"));
    wait_for("all to be accepted", LONG, || (connections(&server) >= count).then_some(()));
    let opened = clock.monotonic();
    let each = server.private_bytes().saturating_sub(before) / idle.len() as u64;
    let [median, last] = latencies(&server);
    tell(format!(
        "idle connections: {} opened in {opened:?}, {each} bytes each; synced writes p50 {median_before:?} \
         -> {median:?}, p99 {last_before:?} -> {last:?}",
        idle.len()
    ));
    assert!(each < IDLE_BYTES_MAX, "{each} bytes each");
    assert!(median < median_before * 3 + Duration::from_millis(5));
    assert!(last < last_before * 5 + Duration::from_millis(50));

    // All are taken now, and more want in: who has been idle for longest gives way.
    idle.extend(crowd(&server, 200));
    let clock = SystemClock::new();
    server.write("d", "m,s=b v=1i 1");
    let waited = clock.monotonic();
    let displaced = server.metric("tidegate_http_displaced_connections_total");
    tell(format!(
        "newcomer where all connections are taken: served after {waited:?}, {displaced} gave way"
    ));
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    assert!(displaced >= 100.0);
    assert!(connections(&server) <= 10_000.0);
    // The first to come has been idle for longest, the last has its connection still.
    idle[0].set_read_timeout(Some(LONG)).expect("it is a socket");
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).expect("an end, not an error");
    let mut last = idle.pop().expect("there are some");
    last.write_all(b"GET /ping HTTP/1.1\r\nHost: t\r\n\r\n").expect("it is open");
    last.read_exact(&mut [0; 12]).expect("it is answered");

    drop(idle);
    wait_for("all to be closed", LONG, || (connections(&server) < 5.0).then_some(()));
    let after = server.private_bytes();
    tell(format!("private memory: {before} bytes before, {after} when they are gone"));
    server.stop();
}
