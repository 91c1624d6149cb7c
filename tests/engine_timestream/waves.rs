//! Several requests of one shard under way at once.

use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

use crate::common::tell;
use crate::proxy::Mode;
use crate::{House, recent_ns, write_applied};

/// How long the upstream takes to answer, at least.
const LATENCY: Duration = Duration::from_millis(50);

/// Records of a series each: 30 requests.
const SERIES: u32 = 3_000;

/// Seconds until the records were stored, and the most requests that were under way at once.
fn measured(requests_max: usize) -> (f64, u64) {
    let house = House::with(
        &format!("requests_max = {requests_max}\n"),
        "[shards]\ncount = 1\n[batch]\nlinger = \"0ms\"\n",
    );
    let server = house.place.start();
    let time_ns = recent_ns();
    // The table first: making it takes requests, too.
    assert_eq!(write_applied(&server, &format!("cpu,host=first n=1i {time_ns}")).status, 204);
    house.proxy.set(Mode::Slow(LATENCY));
    let line = |host: u32| format!("cpu,host=h{host} n={host}i {time_ns}");
    let lines: Vec<String> = (0..SERIES).map(line).collect();
    let clock = SystemClock::new();
    let begin = clock.monotonic();
    assert_eq!(write_applied(&server, &lines.join("\n")).status, 204);
    let took = clock.monotonic().saturating_sub(begin).as_secs_f64();
    assert_eq!(house.stored("cpu").len(), SERIES as usize + 1);
    server.stop();
    (took, house.proxy.most_open())
}

/// A distant upstream is waited for once a wave, and never asked for more at once than the setting says.
#[test]
fn as_many_requests_are_under_way_as_the_setting_says() {
    let (alone_seconds, alone) = measured(1);
    let (together_seconds, together) = measured(8);
    let rate = |seconds: f64| f64::from(SERIES) / seconds;
    tell(format!(
        "upstream: at {LATENCY:?} latency {:.0} records a second by one request at once, {:.0} by eight",
        rate(alone_seconds),
        rate(together_seconds)
    ));
    assert_eq!(alone, 1);
    assert_eq!(together, 8);
    let waited = LATENCY.as_secs_f64() * 30.0;
    assert!(alone_seconds >= waited, "{alone_seconds} s");
}

/// Whatever comes later in its series waits, so an upstream has a series up to some moment, or not.
#[test]
fn requests_that_share_a_series_wait_for_each_other() {
    let house = House::with("requests_max = 8\n", "[shards]\ncount = 1\n");
    let server = house.place.start();
    let time_ns = recent_ns();
    assert_eq!(write_applied(&server, &format!("cpu,host=first n=1i {time_ns}")).status, 204);
    house.proxy.set(Mode::Slow(LATENCY));
    // One series: each request has a part of it.
    let line = |at: i64| format!("cpu,host=h n={at}i {}", time_ns - at * 1_000_000);
    let lines: Vec<String> = (0..500).map(line).collect();
    assert_eq!(write_applied(&server, &lines.join("\n")).status, 204);
    assert_eq!(house.stored("cpu").len(), 501);
    assert_eq!(house.proxy.most_open(), 1);
    server.stop();
}
