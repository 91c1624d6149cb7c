//! Promise: any stretch of the log's past can be sent again, to any server, at a bounded rate, resumably;
//! nothing about a record is changed by it, and what is not there is told.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use common::gateway::{Gateway, Place};
use common::wait_for;
use tidegate::base::clock::{Clock, SystemClock};

/// Settings of a server that keeps its past.
const RETAINING: &str = "[wal]\nretain_for = \"1h\"\n";

/// Bytes before the first frame of a segment.
const HEADER_PAGE_BYTES: u64 = 4096;

/// Bytes of a frame's header.
const FRAME_HEADER_BYTES: u64 = 32;

const TIME_NS: u64 = 1_700_000_000_000_000_000;

/// Longest time until a replay has sent its first request, on a busy machine.
const REPLAY_MAX: Duration = Duration::from_mins(1);

fn replay(place: &Place, to: &str, arguments: &[&str]) -> Output {
    let mut all = vec!["replay", "--to", to];
    all.extend(arguments);
    place.run("wal", &all)
}

fn url(server: &Gateway) -> String {
    format!("http://{}", server.address)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_code(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
}

/// A table as it stands, byte for byte.
fn exported(server: &Gateway, database: &str, table: &str) -> String {
    let target = format!("/api/v1/export?db={database}&table={table}");
    let reply = server.client().get(&target).expect("an export is answered");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

/// `count` requests of one line each, so as many frames.
fn send(server: &Gateway, begin: u64, count: u64) {
    for n in begin..begin + count {
        server.write("iot", &format!("weather,site=a t={n}.5,n={n}i {}", TIME_NS + n));
    }
}

/// A folder whose log is stored in the tables, and kept: LSN 1 to `frames`.
fn stored(frames: u64) -> Place {
    let place = Place::new(RETAINING);
    let server = place.start();
    send(&server, 1, frames);
    server.stop();
    place
}

/// Flips a bit `inside` the frame that is `behind` frames after the first of segment 1.
fn damage_frame(place: &Place, behind: u64, inside: u64) {
    let path = &place.files("wal", ".wal")[0];
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("the segment can be written");
    let mut offset = HEADER_PAGE_BYTES;
    for _ in 0..behind {
        let mut length = [0; 4];
        file.read_exact_at(&mut length, offset + 4).expect("a frame has a header");
        offset += FRAME_HEADER_BYTES + u64::from(u32::from_le_bytes(length)).next_multiple_of(8);
    }
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset + inside).expect("a frame has this byte");
    file.write_all_at(&[byte[0] ^ 1], offset + inside).expect("the segment can be written");
}

/// Records that only Timestream's shape says whole, and what line protocol and flat JSON can say.
fn send_every_kind(server: &Gateway) {
    server.write(
        "iot",
        "weather,site=a\\ b,p=x\\=y t=-0.0,n=-9223372036854775808i,ok=true,s=\"a \\\"b\\\" \\\\ é\" 1700000000000000001",
    );
    let json = "application/json";
    let bodies = [
        r#"{"database":"iot","measurement":"weather","tags":{"site":""},"fields":{"t":1e-300},"timestamp":7,"version":9}"#,
        r#"{"DatabaseName":"iot","TableName":"scalars","CommonAttributes":{"Dimensions":[{"Name":"d","Value":"1"}],"TimeUnit":"NANOSECONDS"},"Records":[
            {"MeasureName":"cpu","MeasureValue":"13.5","Time":"1","Version":3},
            {"MeasureName":"word","MeasureValueType":"VARCHAR","MeasureValue":"a\nb\u0001","Time":"2"},
            {"MeasureName":"count","MeasureValueType":"BIGINT","MeasureValue":"5","Time":"3"},
            {"MeasureName":"truth","MeasureValueType":"BOOLEAN","MeasureValue":"true","Time":"4"}]}"#,
        r#"{"DatabaseName":"iot","TableName":"multi","Records":[{"Dimensions":[{"Name":"d","Value":"1"}],"MeasureName":"own name","MeasureValueType":"MULTI","MeasureValues":[{"Name":"at","Type":"TIMESTAMP","Value":"1700000000000"},{"Name":"v","Type":"DOUBLE","Value":"2"}],"Time":"1700000000000"}]}"#,
    ];
    for body in bodies {
        let headers = [("Content-Type", json)];
        let reply = server.client().post("/api/v1/write?precision=ns", &headers, body.as_bytes());
        let reply = reply.expect("a write is answered");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let reply =
        server.client().post("/api/v2/write?bucket=iot", &[], b"cpu broken\ncpu,a=b u=1i 9");
    assert_eq!(reply.expect("a write is answered").status, 400, "a part of it is refused");
}

#[test]
fn a_replay_makes_an_equal_server_whatever_its_settings() {
    let place = Place::new(RETAINING);
    let server = place.start();
    send_every_kind(&server);
    server.stop();
    let server = place.start();
    assert!(server.metric("tidegate_wal_retained_segments") >= 1.0);
    assert!(server.metric("tidegate_wal_retained_bytes") >= 1.0);
    let listed = place.run("wal", &["ls"]);
    assert!(out(&listed).contains("\nretained   1 segments, "), "{}", out(&listed));
    assert!(out(&listed).contains(", LSN 1-5 (wal.retain_bytes is 0 B, wal.retain_for 1h)"));
    // Settings that would change a record which leaves something unsaid.
    let other = Place::new("[ingest]\nmeasure_name = \"metrics\"\nversion = \"arrival\"\n");
    let target = other.start();
    let replayed = replay(&place, &url(&target), &[]);
    assert_code(&replayed, 0);
    let text = out(&replayed);
    assert!(text.contains("LSN        1 to 5 of a log that ends at 5\n"), "{text}");
    assert!(text.contains("left out   1 lines that were refused when they came"), "{text}");
    assert!(text.contains("sent       8 records of 5 frames in 1 requests, 0 of them"), "{text}");
    target.settle();
    for table in ["weather", "scalars", "multi", "cpu"] {
        let (was, is) = (exported(&server, "iot", table), exported(&target, "iot", table));
        assert!(!was.is_empty() && was == is, "{table}:\n{was}\n{is}");
    }
    server.stop();
    target.stop();
}

/// Goal: a replay goes over the borders of segments, kept and needed ones. Method: records of a
/// megabyte, so that a few dozen of them rotate the log.
#[test]
fn a_replay_goes_over_several_segments_and_requests() {
    const RECORDS: u64 = 70;
    let settings =
        "[wal]\nsegment_bytes = \"49 MiB\"\nbytes_max = \"400 MiB\"\nretain_bytes = \"200 MiB\"\n";
    let place = Place::new(settings);
    let server = place.start();
    for n in 0..RECORDS {
        let text = format!("{n:07}").repeat(140_000);
        server.write("iot", &format!("large,site=a s=\"{text}\" {}", TIME_NS + n));
    }
    server.stop();
    let server = place.start();
    server.write("iot", &format!("large,site=a s=\"not stored yet\" {}", TIME_NS + RECORDS));
    let retained = server.metric("tidegate_wal_retained_bytes");
    assert!(retained >= f64::from(98_u32 << 20), "two segments are kept: {retained}");
    let other = Place::new("");
    let target = other.start();
    let replayed = replay(&place, &url(&target), &["--from", "1"]);
    assert_code(&replayed, 0);
    let acknowledged = out(&replayed).matches("go on from LSN").count() as u64;
    assert!(acknowledged > RECORDS / 4, "many requests: {}", out(&replayed));
    target.settle();
    let (was, is) = (exported(&server, "iot", "large"), exported(&target, "iot", "large"));
    assert_eq!(was.lines().count() as u64, RECORDS + 1);
    assert!(was == is, "{} bytes, {} bytes", was.len(), is.len());
    target.stop();
    server.stop();
}

#[test]
fn without_a_catalog_nothing_is_sent() {
    let place = stored(3);
    let catalog = &place.files("", "catalog.log")[0];
    let whole = fs::read(catalog).expect("it is there");
    for rest in [None, Some(&whole[..0]), Some(b"garbage"), Some(b"garbage\n")] {
        match rest {
            Some(rest) => fs::write(catalog, rest).expect("it can be written"),
            None => fs::remove_file(catalog).expect("it is there"),
        }
        let position = place.file("position.json");
        let replayed = replay(&place, "http://127.0.0.1:9", &["--position", path(&position)]);
        assert_code(&replayed, 1);
        assert!(err(&replayed).contains("catalog.log"), "{}", err(&replayed));
        assert!(!position.exists(), "nothing was acknowledged");
    }
}

/// Goal: a catalog that lost its last table is no deleted table. Method: the line of the second table
/// is cut off; the first is sent, and the position stays before the first record without a name.
#[test]
fn a_catalog_that_lost_its_end_holds_the_position_back() {
    let place = Place::new(RETAINING);
    let server = place.start();
    send(&server, 1, 2);
    let catalog = place.files("", "catalog.log")[0].clone();
    let before = fs::metadata(&catalog).expect("it is there").len();
    server.write("iot", &format!("late,site=a t=1.5 {TIME_NS}"));
    send(&server, 4, 1);
    server.stop();
    let file = fs::OpenOptions::new().write(true).open(&catalog).expect("it can be written");
    file.set_len(before).expect("it can be cut");
    let other = Place::new("");
    let target = other.start();
    let position = place.file("position.json");
    let replayed = replay(&place, &url(&target), &["--position", path(&position)]);
    assert_code(&replayed, 1);
    let text = out(&replayed);
    assert!(
        text.contains("left out   1 records of tables that the catalog does not have"),
        "{text}"
    );
    assert!(err(&replayed).contains("catalog.log lost its end"), "{}", err(&replayed));
    let written = fs::read_to_string(&position).expect("two were acknowledged");
    assert!(written.contains("\"next_lsn\":3"), "{written}");
    target.settle();
    assert_eq!(target.export("iot", "weather").len(), 3);
    target.stop();
}

#[test]
fn a_lost_end_and_a_lost_begin_are_holes_and_so_is_what_lies_beyond() {
    let place = stored(6);
    let dead = "http://127.0.0.1:9";
    let planned = replay(&place, dead, &["--dry-run", "--to-lsn", "500"]);
    assert_code(&planned, 1);
    let beyond = "hole       LSN 7 to 500: behind the end of the log\n";
    assert!(out(&planned).contains(beyond), "{}", out(&planned));
    let planned = replay(&place, dead, &["--dry-run", "--from", "9"]);
    assert_code(&planned, 1);
    assert!(out(&planned).contains("LSN 9 to 9: behind the end"), "{}", out(&planned));
    let files = place.files("wal", ".wal");
    for file in &files {
        fs::remove_file(file).expect("it is there");
    }
    let planned = replay(&place, dead, &["--dry-run", "--from", "1"]);
    assert_code(&planned, 1);
    assert!(out(&planned).contains("hole       LSN 1 to 6: "), "{}", out(&planned));
}

#[test]
fn a_position_never_says_more_than_was_sent_and_is_of_its_log() {
    let place = stored(6);
    let position = place.file("position.json");
    let (to, server) = answering(vec![
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 33\r\n\r\n{\"accepted\":3,\"rejected_count\":0}",
    ]);
    let position = path(&position);
    assert_code(&replay(&place, &to, &["--to-lsn", "3", "--position", position]), 0);
    server.join().expect("it answered");
    let before = fs::read_to_string(position).expect("three were acknowledged");
    let leap = replay(&place, &to, &["--from", "5", "--position", position]);
    assert_code(&leap, 2);
    assert!(err(&leap).contains("--from 5 is behind LSN 4"), "{}", err(&leap));
    assert_eq!(fs::read_to_string(position).expect("it stands"), before);
    let mut other: serde_json::Value = serde_json::from_str(&before).expect("it is JSON");
    other["segment"]["generation"] = 1.into();
    fs::write(position, other.to_string()).expect("it can be written");
    let foreign = replay(&place, &to, &["--position", position]);
    assert_code(&foreign, 1);
    assert!(err(&foreign).contains("another log"), "{}", err(&foreign));
    let later = before.replace("\"next_lsn\":4", "\"next_lsn\":9");
    fs::write(position, later).expect("it can be written");
    let foreign = replay(&place, &to, &["--position", position]);
    assert_code(&foreign, 1);
    assert!(err(&foreign).contains("the log ends at 6"), "{}", err(&foreign));
}

#[test]
fn the_same_server_again_changes_nothing() {
    let place = stored(40);
    let server = place.start();
    let before = exported(&server, "iot", "weather");
    for _ in 0..2 {
        assert_code(&replay(&place, &url(&server), &["--to-lsn", "40"]), 0);
    }
    server.settle();
    assert_eq!(exported(&server, "iot", "weather"), before);
    assert!(server.metric("tidegate_engine_outcomes_total") >= 80.0, "they were sent");
    assert!(server.metric("tidegate_reject_records_total") < 1.0, "and taken as what they are");
    server.stop();
    assert_eq!(place.exported("iot", "weather").len(), 40);
}

#[test]
fn a_dry_run_tells_the_plan_and_sends_nothing() {
    let place = stored(9);
    let dead = "http://127.0.0.1:9";
    let planned = replay(&place, dead, &["--dry-run", "--from", "3", "--to-lsn", "7"]);
    assert_code(&planned, 0);
    let text = out(&planned);
    assert!(text.contains("LSN        3 to 7 of a log that ends at 9\n"), "{text}");
    assert!(text.contains("frames     5, 5 records, "), "{text}");
    let behind = replay(&place, dead, &["--from", "10"]);
    assert_code(&behind, 0);
    assert!(out(&behind).contains("none from 10 on: the log ends at 9"), "{}", out(&behind));
}

#[test]
fn a_replay_holds_its_rate_and_goes_on_after_it_was_killed() {
    const RATE: u64 = 100;
    const FRAMES: u64 = 500;
    let place = stored(FRAMES);
    let other = Place::new("");
    let target = other.start();
    let position = place.file("position.json");
    let position = position.to_str().expect("a plain name");
    let clock = SystemClock::new();
    let mut child = place
        .command("wal")
        .args(["replay", "--to", &url(&target), "--rate", "100", "--position", position])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let next = || {
        let text = fs::read_to_string(position).ok()?;
        let position: serde_json::Value = serde_json::from_str(&text).expect("it is never torn");
        position["next_lsn"].as_u64()
    };
    wait_for("the second request", REPLAY_MAX, || next().filter(|next| *next > RATE + 1));
    child.kill().expect("it is our child");
    child.wait().expect("it is our child");
    let elapsed = clock.monotonic();
    let reached = next().expect("the position stands");
    assert!(elapsed >= Duration::from_secs(1), "{reached} LSNs in {elapsed:?}");
    assert!(reached > RATE && reached <= FRAMES, "killed midway: {reached}");
    // The same command goes on.
    let replayed = replay(&place, &url(&target), &["--position", position]);
    assert_code(&replayed, 0);
    let rest = format!("LSN        {reached} to {FRAMES} of a log");
    assert!(out(&replayed).contains(&rest), "{}", out(&replayed));
    assert_eq!(next(), Some(FRAMES + 1));
    target.settle();
    assert_eq!(target.export("iot", "weather").len() as u64, FRAMES);
    let records = target.metric("tidegate_ingest_records_total");
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let most = (FRAMES + RATE + 1) as f64;
    assert!(records <= most, "one request at most was sent twice: {records}");
    let again = replay(&place, &url(&target), &["--position", position, "--to-lsn", "500"]);
    assert_code(&again, 0);
    assert!(out(&again).contains("nothing to send"), "{}", out(&again));
    target.stop();
    let server = place.start();
    let differences = common::rows::differences(
        &server.export("iot", "weather"),
        &other.exported("iot", "weather"),
    );
    assert!(differences.is_empty(), "{differences:?}");
    server.stop();
}

#[test]
fn a_hole_that_salvage_left_is_told_and_the_rest_is_sent() {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, 8);
    server.kill();
    damage_frame(&place, 2, FRAME_HEADER_BYTES);
    let to = place.file("broken");
    let salvaged = place.run("wal", &["salvage", "--to", to.to_str().expect("a plain name")]);
    assert_code(&salvaged, 0);
    let other = Place::new("");
    let target = other.start();
    let replayed = replay(&place, &url(&target), &[]);
    assert_code(&replayed, 1);
    let hole = "hole       LSN 3 to 3: lost before, and left out by `tidegate wal salvage`\n";
    assert!(out(&replayed).contains(hole), "{}", out(&replayed));
    assert!(err(&replayed).contains("1 LSNs that were asked for"), "{}", err(&replayed));
    target.settle();
    assert_eq!(target.export("iot", "weather").len(), 7);
    target.stop();
}

#[test]
fn damage_below_the_checkpoint_refuses_no_start_and_is_named() {
    for inside in [8, FRAME_HEADER_BYTES + 2] {
        let place = stored(6);
        damage_frame(&place, 2, inside);
        let server = place.start();
        assert_eq!(server.export("iot", "weather").len(), 6, "all is in the tables");
        let verified = place.run("wal", &["verify"]);
        assert_code(&verified, 1);
        let text = out(&verified);
        assert!(text.contains("a synced frame is damaged, segment 1 at byte"), "{text}");
        assert!(text.contains(", LSN 3\n") && text.contains("nothing is to be done"), "{text}");
        let other = Place::new("");
        let target = other.start();
        let replayed = replay(&place, &url(&target), &[]);
        assert_code(&replayed, 1);
        assert!(out(&replayed).contains("hole       LSN 3 to 3: damaged"), "{}", out(&replayed));
        target.settle();
        assert_eq!(target.export("iot", "weather").len(), 5);
        target.stop();
        send(&server, 7, 1);
        server.stop();
    }
}

#[test]
fn a_file_without_a_header_is_damaged_and_not_used_again() {
    let place = stored(3);
    let server = place.start();
    send(&server, 4, 2);
    server.stop();
    let file = fs::OpenOptions::new().write(true).open(&place.files("wal", ".wal")[0]);
    let zeros = [0; 4096];
    file.expect("it is there").write_all_at(&zeros, 0).expect("it can be written");
    let planned = replay(&place, "http://127.0.0.1:9", &["--dry-run", "--from", "1"]);
    assert_code(&planned, 1);
    let hole = "hole       LSN 1 to 3: damaged";
    assert!(out(&planned).contains(hole), "{}", out(&planned));
}

#[test]
fn what_was_used_again_is_a_hole_where_it_was_asked_for() {
    let place = Place::new("");
    let server = place.start();
    send(&server, 1, 3);
    server.stop();
    // Without retention the next two starts use the first segment again.
    place.start().stop();
    let server = place.start();
    send(&server, 4, 2);
    let files = place.files("wal", ".wal");
    assert!(!files.iter().any(|file| file.ends_with("00000000000000000001.wal")), "{files:?}");
    let planned = replay(&place, &url(&server), &["--from", "1", "--dry-run"]);
    assert_code(&planned, 1);
    let hole = "hole       LSN 1 to 3: their file was used again or is missing\n";
    assert!(out(&planned).contains(hole), "{}", out(&planned));
    let planned = replay(&place, &url(&server), &["--dry-run"]);
    assert_code(&planned, 0);
    server.stop();
}

/// Answers each request with the next of `answers`, and returns heads and bodies.
fn answering(
    answers: Vec<&'static str>,
) -> (String, std::thread::JoinHandle<Vec<(String, String)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let server = std::thread::Builder::new().spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().expect("a replay connects");
                let request = read_request(&stream);
                stream.write_all(answer.as_bytes()).expect("a replay listens");
                request
            })
            .collect()
    });
    (format!("http://{address}"), server.expect("a thread starts"))
}

fn read_request(stream: &TcpStream) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a head ends");
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().expect("a length");
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("a body ends");
    (head, String::from_utf8(body).expect("text"))
}

fn token_file(place: &Place) -> String {
    let file = place.file("token");
    fs::write(&file, "s3cret-token\n").expect("a file can be written");
    path(&file).to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

#[test]
fn a_busy_server_and_a_broken_connection_are_tried_again_with_the_same_request() {
    let place = stored(3);
    let (to, server) = answering(vec![
        "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 429 Slow\r\nRetry-After: 0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 33\r\n\r\n{\"accepted\":3,\"rejected_count\":0}",
    ]);
    let clock = SystemClock::new();
    let token = token_file(&place);
    let replayed = replay(&place, &to, &["--token-file", &token]);
    assert_code(&replayed, 0);
    assert!(clock.monotonic() >= Duration::from_secs(1), "Retry-After is kept");
    let requests = server.join().expect("it answered");
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|request| request == &requests[0]), "the same each time");
    let (head, body) = &requests[0];
    assert!(head.contains("Authorization: Token s3cret-token\r\n"), "{head}");
    assert_eq!(body.lines().count(), 3, "{body}");
    let text = out(&replayed);
    assert!(text.contains("3 records of 3 frames in 1 requests, 3 of them"), "{text}");
    assert!(text.ends_with("go on from LSN 4\nsent       3 records of 3 frames in 1 requests, 3 of them tried again\n"), "{text}");
    assert!(!format!("{text}{}", err(&replayed)).contains("s3cret"), "no token is shown");
}

#[test]
fn a_refusal_ends_with_the_servers_words_and_the_lsn() {
    let place = stored(3);
    let position = place.file("position.json");
    let (to, server) = answering(vec![
        "HTTP/1.1 403 No\r\nConnection: close\r\nContent-Length: 25\r\n\r\n{\"error\":\"not your house\"}",
    ]);
    let refused = replay(&place, &to, &["--from", "2", "--position", path(&position)]);
    assert_code(&refused, 1);
    server.join().expect("it answered");
    let text = err(&refused);
    assert!(text.contains("LSN 2") && text.contains("403 {\"error\":\"not your house\""), "{text}");
    assert!(text.contains("--from 2"), "{text}");
    assert!(!position.exists(), "nothing was acknowledged");
}

#[test]
fn a_record_that_the_server_refuses_is_named_and_nothing_of_its_request_is_taken() {
    let place = stored(3);
    let other = Place::new("");
    let target = other.start();
    target.write("iot", "weather,site=z t=\"text\" 1");
    let refused = replay(&place, &url(&target), &["--from", "2"]);
    assert_code(&refused, 1);
    let text = err(&refused);
    assert!(text.contains("begins with LSN 2: 4") && text.contains("type_conflict"), "{text}");
    target.settle();
    assert_eq!(target.export("iot", "weather").len(), 1);
    target.stop();
}

#[test]
fn a_success_that_is_no_receipt_ends_and_moves_no_position() {
    let place = stored(3);
    let position = place.file("position.json");
    for (answer, found) in [
        ("200 OK\r\nContent-Length: 6\r\n\r\n<html>", "<html>"),
        ("204 No Content\r\n\r\n", "204"),
        ("200 OK\r\nContent-Length: 14\r\n\r\n{\"accepted\":0}", "{\"accepted\":0}"),
        (
            "200 OK\r\nContent-Length: 33\r\n\r\n{\"accepted\":2,\"rejected_count\":0}",
            "{\"accepted\":2",
        ),
    ] {
        let answer =
            format!("HTTP/1.1 {}", answer.replacen("\r\n", "\r\nConnection: close\r\n", 1));
        let (to, server) = answering(vec![answer.leak()]);
        let replayed = replay(&place, &to, &["--position", path(&position)]);
        assert_code(&replayed, 1);
        server.join().expect("it answered");
        let text = err(&replayed);
        assert!(text.contains("the target must be a Tidegate") && text.contains(found), "{text}");
        assert!(text.contains("--from 1"), "{text}");
        assert!(!position.exists(), "nothing was acknowledged");
    }
}

#[test]
fn what_newer_versions_replaced_at_the_target_is_counted_and_the_rest_is_sent() {
    let place = stored(4);
    let other = Place::new("");
    let target = other.start();
    for (n, version) in [(2, 1), (3, i64::MAX)] {
        let body = format!(
            r#"{{"database":"iot","measurement":"weather","tags":{{"site":"a"}},"fields":{{"t":-1.0,"n":5}},"timestamp":{},"version":{version}}}"#,
            TIME_NS + n
        );
        let headers = [("Content-Type", "application/json")];
        let reply = target.client().post("/api/v1/write?precision=ns", &headers, body.as_bytes());
        let reply = reply.expect("a write is answered");
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let position = place.file("position.json");
    let replayed = replay(&place, &url(&target), &["--rate", "2", "--position", path(&position)]);
    assert_code(&replayed, 1);
    let text = out(&replayed);
    assert!(text.contains("sent       4 records of 4 frames in 2 requests, 0 of them"), "{text}");
    let refused = "refused    2 records were refused by the target: a higher or equal version \
                   stands there; they are in its reject sink\n";
    assert!(text.ends_with(refused), "{text}");
    assert!(err(&replayed).contains("2 records were refused by the target"), "{}", err(&replayed));
    let written = fs::read_to_string(&position).expect("it went on");
    assert!(written.contains("\"next_lsn\":5"), "{written}");
    target.settle();
    let stands = exported(&target, "iot", "weather");
    assert_eq!(stands.lines().count(), 4, "{stands}");
    assert!(target.metric("tidegate_reject_records_total") >= 2.0, "they are kept");
    target.stop();
}

#[test]
fn a_server_that_stays_away_ends_the_patience_and_says_where_to_go_on() {
    let place = stored(3);
    let away = replay(&place, "http://127.0.0.1:9", &["--patience", "300ms", "--from", "2"]);
    assert_code(&away, 1);
    assert!(err(&away).contains("go on with --from 2"), "{}", err(&away));
}

#[test]
fn a_wrong_command_line_is_a_usage_error_without_secrets() {
    let place = stored(1);
    for arguments in [
        &["--to", "ftp://127.0.0.1:1"][..],
        &["--to", "127.0.0.1:1"],
        &["--to", "http://127.0.0.1:1", "--from", "3", "--to-lsn", "2"],
        &["--to", "http://127.0.0.1:1", "--rate", "0"],
        &["--to", "http://127.0.0.1:1", "--token-file", "nowhere"],
        &["--to", "http://127.0.0.1:1", "--token", "s3cret\nX: y"],
        &[],
    ] {
        let mut all = vec!["replay"];
        all.extend(arguments);
        let output = place.run("wal", &all);
        assert_code(&output, 2);
        assert!(!err(&output).contains("s3cret"), "{}", err(&output));
    }
}
