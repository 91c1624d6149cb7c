//! Promise: every answer to a write says how durable it is and where it is in the log, and a request
//! may ask for more or less. What was acknowledged at any level survives the end of the process.

#[path = "common/mod.rs"]
mod common;

use std::fmt::Write as _;
use std::time::Duration;

use common::client::{Client, Reply};
use common::gateway::{self, Gateway, Place};
use common::wait_for;

/// Longest time until a server has started and replayed, on a busy machine.
const START_MAX: Duration = Duration::from_mins(2);

const TIME_NS: i64 = 1_793_491_200_000_000_001;

/// The ways in, and what success is called there.
const WAYS: [(&str, &str, u16); 4] = [
    ("/write?db=iot", "text/plain", 204),
    ("/api/v2/write?bucket=iot", "text/plain", 204),
    ("/api/v3/write_lp?db=iot", "text/plain", 204),
    ("/api/v1/write?db=iot", "text/plain", 200),
];

fn post(server: &Gateway, target: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    server.client().post(target, headers, body.as_bytes()).expect("a write is answered")
}

fn lsn(reply: &Reply) -> u64 {
    let lsn = reply.header("x-tidegate-lsn").and_then(|lsn| lsn.parse().ok());
    assert!(lsn.is_some(), "no LSN: {}", reply.text());
    lsn.unwrap_or_default()
}

#[test]
fn every_answer_says_how_durable_and_where() {
    let place = Place::new("");
    let server = place.start();
    let mut last = 0;
    for (target, content_type, status) in WAYS {
        for level in [None, Some("memory"), Some("interval"), Some("sync"), Some("applied")] {
            let mut headers = vec![("Content-Type", content_type)];
            headers.extend(level.map(|level| ("X-Tidegate-Durability", level)));
            let line = format!("weather,site=a t=1 {}", TIME_NS + i64::try_from(last).unwrap());
            let reply = post(&server, target, &headers, &line);
            assert_eq!(reply.status, status, "{target}: {}", reply.text());
            let told = reply.header("x-tidegate-durability");
            assert_eq!(told, Some(level.unwrap_or("sync")), "{target}");
            assert_eq!(lsn(&reply), last + 1, "{target}: LSNs are dense, from 1");
            last = lsn(&reply);
        }
    }
}

#[test]
fn the_setting_is_what_a_request_gets_that_asks_for_nothing() {
    for level in ["memory", "interval", "sync"] {
        let place = Place::new(&format!("[wal]\ndurability = \"{level}\""));
        let server = place.start();
        let reply = post(&server, "/write?db=iot", &[], "weather,site=a t=1 1");
        assert_eq!(reply.header("x-tidegate-durability"), Some(level));
        let more = [("X-Tidegate-Durability", "sync")];
        let reply = post(&server, "/write?db=iot", &more, "weather,site=a t=1 2");
        assert_eq!(reply.header("x-tidegate-durability"), Some("sync"));
    }
}

#[test]
fn a_family_may_ask_in_its_own_words_and_a_wrong_word_is_refused() {
    let place = Place::new("");
    let server = place.start();
    let target = "/api/v3/write_lp?db=iot&no_sync=true";
    let reply = post(&server, target, &[], "weather,site=a t=1 1");
    assert_eq!(reply.header("x-tidegate-durability"), Some("memory"));
    let sync = [("X-Tidegate-Durability", "sync")];
    let reply = post(&server, target, &sync, "weather,site=a t=1 2");
    assert_eq!(reply.header("x-tidegate-durability"), Some("sync"));
    let wrong = [("X-Tidegate-Durability", "twice")];
    let reply = post(&server, "/write?db=iot", &wrong, "weather,site=a t=1 3");
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("memory, interval, sync or applied"), "{}", reply.text());
    server.settle();
    assert_eq!(server.export("iot", "weather").len(), 2, "the third was not taken");
}

#[test]
fn what_is_applied_can_be_read_at_once() {
    let place = Place::new("");
    let server = place.start();
    let applied = [("X-Tidegate-Durability", "applied")];
    for at in 0..100 {
        let reply = post(&server, "/write?db=iot", &applied, &format!("weather,site=a t=1 {at}"));
        assert_eq!(reply.status, 204);
        assert_eq!(server.export("iot", "weather").len(), at + 1, "not readable at once");
    }
}

/// Goal: after a crash nobody is shown a part of the records as if it were all.
#[test]
fn an_export_waits_until_the_log_is_replayed() {
    const LINES: usize = 5_000;
    const REQUESTS: usize = 24;
    let place = Place::new("");
    let server = place.start();
    for request in 0..REQUESTS {
        let lines = (0..LINES).fold(String::new(), |mut lines, host| {
            writeln!(lines, "weather,host=h{host} t=1 {request}").expect("a string takes all");
            lines
        });
        assert_eq!(post(&server, "/write?db=iot", &[], &lines).status, 204);
    }
    server.kill();
    let (mut child, log) = place.spawn();
    let address = wait_for("the server to listen", START_MAX, || gateway::address_in(&log));
    let mut client = Client::new(address);
    let mut waited = 0;
    let whole = wait_for("an export", START_MAX, || {
        let reply = client.get("/api/v1/export?db=iot&table=weather&format=line").ok()?;
        if reply.status == 200 {
            return Some(reply.text().lines().count());
        }
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.header("retry-after").is_some());
        waited += 1;
        None
    });
    assert_eq!(whole, LINES * REQUESTS, "a part was shown as if it were all");
    assert!(waited > 0, "the log was replayed before anybody could ask: give it more lines");
    gateway::kill(&mut child);
}

#[test]
fn what_was_acknowledged_at_any_level_survives_kill_9() {
    // An interval that never ends within the test: what survives does not owe it to a sync.
    let place = Place::new("[wal]\nsync_interval = \"60s\"");
    let mut written = 0;
    for level in ["memory", "interval", "sync", "applied"] {
        let server = place.start();
        for _ in 0..50 {
            let headers = [("X-Tidegate-Durability", level)];
            let line = format!("weather,site=a t=1 {written}");
            let reply = post(&server, "/write?db=iot", &headers, &line);
            assert_eq!(reply.status, 204);
            written += 1;
        }
        server.kill();
        let server = place.start();
        assert_eq!(server.export("iot", "weather").len(), written, "after {level}");
        server.kill();
    }
}
