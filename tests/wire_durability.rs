//! Promise: every answer to a write says how durable it is and where it is in the log, and a request
//! may ask for more or less. What was acknowledged at any level survives the end of the process.

#[path = "common/mod.rs"]
mod common;

use common::client::Reply;
use common::gateway::{Gateway, Place};

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
    lsn.expect("looked at above")
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
