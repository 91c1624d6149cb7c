//! Promise: a write that comes again under its `Idempotency-Key` gets the first answer and is executed
//! once, on every path; a key that comes with another request is refused.

#[path = "common/mod.rs"]
mod common;

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use common::client::Reply;
use common::gateway::{Gateway, Place};
use common::wait_for;
use tidegate::base::clock::{Clock, SystemClock};

const KEY: &str = "Idempotency-Key";

/// Each way in, with a record that has no time, so that a second execution is a second record.
const WAYS: [(&str, &str, &str); 4] = [
    ("/write?db=d", "text/plain", "v1,h=a v=1"),
    ("/api/v2/write?bucket=d", "text/plain", "v2,h=a v=1"),
    ("/api/v3/write_lp?db=d", "text/plain", "v3,h=a v=1"),
    (
        "/api/v1/write?db=d",
        "application/json",
        r#"{"measurement":"native","tags":{"h":"a"},"fields":{"v":1.5}}"#,
    ),
];
const TABLES: [&str; 4] = ["v1", "v2", "v3", "native"];

fn write(server: &Gateway, way: usize, key: &str) -> Reply {
    let (path, content_type, body) = WAYS[way];
    send(server, path, &[("Content-Type", content_type), (KEY, key)], body)
}

fn send(server: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    server.client().post(path, headers, body.as_bytes()).expect("it is answered")
}

fn rows(server: &Gateway, table: &str) -> usize {
    server.settle();
    server.export("d", table).len()
}

fn is_replayed(reply: &Reply) -> bool {
    reply.header("idempotent-replayed") == Some("true")
}

#[test]
fn every_way_in_answers_a_repetition_as_the_first_and_executes_it_once() {
    let place = Place::new("");
    let server = place.start();
    for (way, table) in TABLES.iter().enumerate() {
        let key = format!("key-{way}");
        let first = write(&server, way, &key);
        assert!(matches!(first.status, 200 | 204) && !is_replayed(&first), "{}", first.text());
        for _ in 0..3 {
            let again = write(&server, way, &key);
            assert!(is_replayed(&again));
            assert_eq!((again.status, again.text()), (first.status, first.text()));
            for header in ["x-tidegate-lsn", "x-tidegate-durability"] {
                assert_eq!(again.header(header), first.header(header));
            }
        }
        assert_eq!(rows(&server, table), 1, "{table}");
        assert!(!is_replayed(&write(&server, way, &format!("{key}'"))));
        assert_eq!(rows(&server, table), 2, "{table}: another key is another write");
    }
    assert!((server.metric("tidegate_api_repeated_writes_total") - 12.0).abs() < 0.5);
}

#[test]
fn a_key_with_another_request_is_refused_in_the_words_of_its_family() {
    let place = Place::new("");
    let server = place.start();
    assert_eq!(write(&server, 0, "k").status, 204);
    let text = ("Content-Type", "text/plain");
    for (path, more, body, member) in [
        ("/write?db=d", None, "v1,h=a v=2", "error"),
        ("/write?db=e", None, WAYS[0].2, "error"),
        ("/write?db=d&precision=s", None, WAYS[0].2, "error"),
        ("/write?db=d&org=o", None, WAYS[0].2, "error"),
        ("/write?db=d", Some(("X-Tidegate-Durability", "applied")), WAYS[0].2, "error"),
        ("/api/v2/write?bucket=d", None, WAYS[0].2, "message"),
        ("/api/v3/write_lp?db=d", None, WAYS[0].2, "error"),
        ("/api/v1/write?db=d", None, WAYS[0].2, "error"),
    ] {
        let headers: Vec<_> = [text, (KEY, "k")].into_iter().chain(more).collect();
        let reply = send(&server, path, &headers, body);
        assert_eq!(reply.status, 422, "{path} {body}: {}", reply.text());
        let message = reply.json()[member].as_str().expect("a message").to_owned();
        assert!(message.contains("\"k\" was sent before with another body"), "{message}");
    }
    for wrong in ["", " ", &"k".repeat(256)] {
        let reply = send(&server, WAYS[0].0, &[(KEY, wrong)], WAYS[0].2);
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    let twice = send(&server, WAYS[0].0, &[(KEY, "a"), (KEY, "a")], WAYS[0].2);
    assert_eq!(twice.status, 400);
    assert_eq!(send(&server, WAYS[0].0, &[(KEY, &"k".repeat(255))], WAYS[0].2).status, 204);
    assert_eq!(rows(&server, "v1"), 2, "nothing of what was refused is stored");
}

#[test]
fn what_was_refused_in_part_is_told_again_and_refused_once() {
    let place = Place::new("");
    let server = place.start();
    let body = "v1,h=a v=1\nv1,h=a v=\nv1,h=b v=2";
    let headers = [("Content-Type", "text/plain"), (KEY, "k")];
    let first = send(&server, "/write?db=d", &headers, body);
    let again = send(&server, "/write?db=d", &headers, body);
    assert!(first.text().contains("partial write"), "{}", first.text());
    assert_eq!((again.status, again.text()), (400, first.text()));
    assert_eq!(rows(&server, "v1"), 2);
    let refused = server.metric("tidegate_ingest_refused_records_total");
    assert!((refused - 1.0).abs() < 0.5, "{refused}");
}

#[test]
fn repetitions_while_the_first_is_executed_wait_for_its_answer() {
    const EACH: usize = 8;
    const ROUNDS: usize = 10;
    let place = Place::new("");
    let server = place.start();
    for round in 0..ROUNDS {
        let barrier = Barrier::new(EACH);
        let replies: Vec<Reply> = thread::scope(|scope| {
            let each = || {
                barrier.wait();
                write(&server, 0, &round.to_string())
            };
            let all: Vec<_> = (0..EACH).map(|_| scope.spawn(each)).collect();
            all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
        });
        let lsn = replies[0].header("x-tidegate-lsn").map(str::to_owned);
        assert!(lsn.is_some());
        for reply in &replies {
            assert_eq!((reply.status, reply.header("x-tidegate-lsn")), (204, lsn.as_deref()));
        }
        assert_eq!(replies.iter().filter(|reply| is_replayed(reply)).count(), EACH - 1);
    }
    assert_eq!(rows(&server, "v1"), ROUNDS);
}

#[test]
fn the_first_goes_on_when_its_connection_breaks() {
    let place = Place::new("");
    let server = place.start();
    for round in 0..10 {
        let (key, body) = (format!("broken-{round}"), WAYS[0].2);
        let mut broken = TcpStream::connect(server.address).unwrap();
        let length = body.len();
        let request = format!(
            "POST /write?db=d HTTP/1.1\r\nHost: t\r\nContent-Type: text/plain\r\n{KEY}: {key}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        broken.write_all(request.as_bytes()).unwrap();
        drop(broken);
        let all = f64::from(round) + 1.0;
        // Whichever of the two is first: one of them is executed, the other is not.
        assert_eq!(write(&server, 0, &key).status, 204);
        wait_for("one record a key", Duration::from_mins(1), || {
            (server.metric("tidegate_ingest_records_total") >= all).then_some(())
        });
    }
    assert_eq!(rows(&server, "v1"), 10);
}

#[test]
fn keys_are_each_callers_own() {
    let tokens = ["ann", "bob"].map(|name| {
        format!("[[auth.tokens]]\nname = \"{name}\"\ntoken = \"{name}\"\nwrite = [\"*\"]\nread = [\"*\"]\n")
    });
    let place = Place::new(&tokens.concat());
    let server = place.start();
    for (token, replayed) in [("ann", false), ("bob", false), ("ann", true), ("bob", true)] {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &*bearer), (KEY, "k"), ("Content-Type", "text/plain")];
        let reply = send(&server, WAYS[0].0, &headers, WAYS[0].2);
        assert_eq!((reply.status, is_replayed(&reply)), (204, replayed), "{token}");
    }
    let nobody = send(&server, WAYS[0].0, &[(KEY, "k")], WAYS[0].2);
    assert_eq!(nobody.status, 401, "a key lets nobody in");
}

/// What is promised across a restart: no second record, where the record names its time.
#[test]
fn after_a_restart_a_repetition_is_executed_again_and_makes_no_second_record() {
    let place = Place::new("");
    let server = place.start();
    let body = "t,h=a v=1 1700000000000000000";
    let headers = [("Content-Type", "text/plain"), (KEY, "k")];
    assert_eq!(send(&server, "/write?db=d", &headers, body).status, 204);
    server.kill();
    let server = place.start();
    let again = send(&server, "/write?db=d", &headers, body);
    assert_eq!((again.status, is_replayed(&again)), (204, false));
    assert_eq!(rows(&server, "t"), 1);
}

/// `POST /` names operations in a header, and its answers to refused records are 419.
#[test]
fn timestreams_writes_with_a_key_are_executed_once_too() {
    let place = Place::new("");
    let server = place.start();
    let ask = |operation: &str, key: &str, body: &str| {
        let target = format!("Timestream_20181101.{operation}");
        send(&server, "/", &[("X-Amz-Target", &target), (KEY, key)], body)
    };
    let table = r#"{"DatabaseName":"aws","TableName":"once"}"#;
    assert_eq!(ask("CreateDatabase", "database", r#"{"DatabaseName":"aws"}"#).status, 200);
    for replayed in [false, true] {
        let reply = ask("CreateTable", "table", table);
        assert_eq!((reply.status, is_replayed(&reply)), (200, replayed), "{}", reply.text());
    }
    let body = |version: u32, value: u32| {
        format!(
            r#"{{"DatabaseName":"aws","TableName":"once","Records":[{{"Dimensions":[{{"Name":"h","Value":"a"}}],"MeasureName":"m","MeasureValue":"{value}","Time":"{}","TimeUnit":"NANOSECONDS","Version":{version}}}]}}"#,
            SystemClock::new().wall_ns() / 1_000_000_000 * 1_000_000_000
        )
    };
    let (first, lower) = (body(5, 1), body(4, 2));
    let lower = lower.replace(&time_of(&lower), &time_of(&first));
    for (key, body, status) in [("first", &first, 200), ("lower", &lower, 419)] {
        for replayed in [false, true, true] {
            let reply = ask("WriteRecords", key, body);
            assert_eq!((reply.status, is_replayed(&reply)), (status, replayed), "{}", reply.text());
        }
    }
    let other = ask("WriteRecords", "first", &lower);
    assert_eq!(other.status, 400, "{}", other.text());
    assert!(other.text().contains("ValidationException") && other.text().contains(KEY));
    for key in ["", &"k".repeat(256)] {
        assert_eq!(ask("WriteRecords", key, &first).status, 400, "{key:?}");
    }
    // What changes nothing is never repeated.
    for _ in 0..2 {
        assert!(!is_replayed(&ask("DescribeTable", "first", table)));
    }
}

fn time_of(body: &str) -> String {
    let begin = body.find("\"Time\":").expect("it has one");
    body[begin..].split(',').next().unwrap_or_default().to_owned()
}
