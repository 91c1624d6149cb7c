//! Promise: what the commands and the endpoint of rejections say can be taken at its word: a command that is shown can
//! be pasted, a parameter that is passed over there is none, what was done is counted however it ends.

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use common::client::Reply;
use common::gateway::{Gateway, Place, without_settings};

const TIME_NS: i64 = 1_793_491_200_000_000_001;
const APPLIED: (&str, &str) = ("X-Tidegate-Durability", "applied");
const JSON: (&str, &str) = ("Content-Type", "application/json");
const SETTINGS: &str = "[ingest]\nversion = \"_version\"\n";

fn post(server: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    server.client().post(path, headers, body.as_bytes()).expect("a request is answered")
}

fn apply(server: &Gateway, lines: &str) -> Reply {
    post(server, "/api/v2/write?bucket=iot&precision=ns", &[APPLIED], lines)
}

fn listed(server: &Gateway, query: &str) -> Vec<Json> {
    let reply = server.client().get(&format!("/api/v1/rejects?{query}")).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["rejections"].as_array().expect("a list").clone()
}

fn id_in(server: &Gateway, table: &str) -> String {
    let found = listed(server, &format!("table={table}"));
    assert_eq!(found.len(), 1, "{table}: {found:?}");
    found[0]["id"].as_str().expect("a number").to_owned()
}

fn resubmit(server: &Gateway, request: &Json) -> Json {
    let reply = post(server, "/api/v1/rejects/resubmit", &[JSON], &request.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn outcome(answer: &Json) -> &str {
    answer["results"][0]["outcome"].as_str().expect("an outcome")
}

fn message(answer: &Json) -> &str {
    answer["results"][0]["message"].as_str().unwrap_or_default()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// A record refused since another value stands at this version.
fn conflict(server: &Gateway, table: &str, version: i64) -> String {
    let line = |t: i32| format!("{table},site=a t={t},_version={version}i {TIME_NS}");
    assert_eq!((apply(server, &line(1)).status, apply(server, &line(2)).status), (204, 400));
    id_in(server, table)
}

fn call(server: &Gateway, operation: &str, body: &Json) -> Reply {
    let target = format!("Timestream_20181101.{operation}");
    post(server, "/", &[("X-Amz-Target", &target)], &body.to_string())
}

/// What `show` and an answer say of a correction is given to a shell as it is, and is known as the same correction.
#[test]
fn a_correction_is_shown_as_it_can_be_pasted() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let url = format!("http://{}", server.address);
    let values = [
        "two words",
        "it's \"so\" $HOME `id` \\n %s !",
        "lines\nof\n\ttext\n",
        "\u{1b}[2Jred\u{202e}",
        "Grüße; rm -rf *",
        "",
    ];
    for (at, value) in values.into_iter().enumerate() {
        let table = format!("pasted{at}");
        assert_eq!(apply(&server, &format!("{table},site=a t=abc {TIME_NS}")).status, 400);
        let id = id_in(&server, &table);
        let name = "measure.a note:VARCHAR";
        let set = [format!("{name}={value}"), "measure.t=1.5".to_owned()];
        let mut arguments = vec!["resubmit", "--url", &url, &id];
        for one in &set {
            arguments.extend(["--set", one]);
        }
        let first = place.run("rejects", &arguments);
        assert!(first.status.success(), "{value:?}: {}", text(&first));
        let shown = text(&place.run("rejects", &["show", &id]));
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'), "{shown:?}");
        let begin = shown.find("--set 'measure.a note").or_else(|| shown.find("--set \"$(printf"));
        let rest = &shown[begin.expect("the correction is shown")..];
        let pasted = &rest[..rest.find("\ntable ").expect("a line behind it")];
        // The command itself stands in the place of its name.
        let command = place.command("rejects");
        let words: Vec<String> = std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let script = format!("{} resubmit --url {url} {id} {pasted}", words.join(" "));
        let directory = command.get_current_dir().expect("it has one");
        let mut shell = Command::new("sh");
        without_settings(shell.args(["-c", &script]).current_dir(directory));
        let again = shell.output().expect("a shell runs");
        assert!(
            again.status.success() && text(&again).contains("1 already taken"),
            "{script}: {}",
            text(&again)
        );
    }
    server.stop();
}

#[test]
fn what_stood_by_then_is_told_with_its_key_and_no_version_is_above_the_highest() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    assert_eq!(apply(&server, &format!("tank,site=b t=20,_version=7i {TIME_NS}")).status, 204);
    let id = conflict(&server, "tank", 5);
    let moved = json!({"ids": [id], "set": {"dimension.site": "b", "version": 1}});
    assert_eq!(outcome(&resubmit(&server, &moved)), "refused");
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(
        shown.contains("stood 7 by then, at the key that it was sent to: site=b / tank / 2026-"),
        "{shown}"
    );
    // At its own key that needs no word.
    assert_eq!(
        outcome(&resubmit(&server, &json!({"ids": [id], "set": {"version": 4}}))),
        "refused"
    );
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(shown.contains("stood 5 by then\n"), "{shown}");
    let id = conflict(&server, "top", i64::MAX);
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(
        !shown.contains("version=next") && shown.contains("there is no version above it"),
        "{shown}"
    );
    let one = server.client().get(&format!("/api/v1/rejects/{id}")).expect("an answer").json();
    assert!(one["remedy"].as_str().is_some_and(|told| told.contains("--set time=TIME")), "{one}");
    let next = resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}}));
    assert!(
        outcome(&next) == "refused" && message(&next).contains("no version above it"),
        "{next}"
    );
    // What it is told to do works.
    let own = json!({"ids": [id], "set": {"dimension.site": "other"}});
    assert_eq!(outcome(&resubmit(&server, &own)), "stored");
    server.stop();
}

#[test]
fn a_parameter_that_there_is_not_is_refused_by_its_name() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let id = conflict(&server, "named", 5);
    let get = |target: &str| server.client().get(target).expect("an answer");
    for (target, told) in [
        ("/api/v1/rejects?database=iot", "no parameter \\\"database\\\"; did you mean db?"),
        ("/api/v1/rejects?db=iot&tabel=named", "did you mean table?"),
        ("/api/v1/rejects?db=iot&db=other", "db stands twice"),
        (&format!("/api/v1/rejects/{id}?db=iot"), "no parameter \\\"db\\\""),
    ] {
        let reply = get(target);
        assert!(reply.status == 400 && reply.text().contains(told), "{target}: {}", reply.text());
    }
    assert_eq!(
        get("/api/v1/rejects?all=true&u=me").json()["rejections"].as_array().map(Vec::len),
        Some(1)
    );
    // One that was passed over here would send in earnest.
    let body = json!({"ids": [id], "set": {"version": "next"}}).to_string();
    let reply = post(&server, "/api/v1/rejects/resubmit?dry_run=true", &[JSON], &body);
    assert!(reply.status == 400 && reply.text().contains("in its body"), "{}", reply.text());
    for (body, told) in [
        (r#"{"filter":{"database":"iot"}}"#, "did you mean db?"),
        (r#"{"filter":{"db":"iot","db":"other"}}"#, "stands twice"),
        (r#"{"filter":{"all":true}}"#, "no part"),
        (r#"{"ids":["1-2"],"set":{"version":1,"version":2}}"#, "stands twice"),
    ] {
        let reply = post(&server, "/api/v1/rejects/resubmit", &[JSON], body);
        assert!(reply.status == 400 && reply.text().contains(told), "{body}: {}", reply.text());
    }
    assert_eq!(listed(&server, "table=named").len(), 1, "nothing was sent");
    // The README's parameters are those that there are.
    let readme = include_str!("../README.md");
    let at = readme.find("`GET /api/v1/rejects?").expect("the README has them");
    let told = &readme[at..at + 200];
    for name in [
        "reason", "db", "table", "kind", "from", "to", "lsn", "state", "all", "order", "limit",
        "after",
    ] {
        assert!(told.contains(&format!("{name}=")), "{name}: {told}");
    }
    server.stop();
}

/// Moves a folder: nothing here has to outlive a power cut.
#[expect(clippy::disallowed_methods, reason = "its durability is no matter")]
fn moved(from: &Path, to: &Path) {
    std::fs::rename(from, to).expect("it can be moved");
}

#[test]
fn the_commands_say_what_is_missing_and_count_in_words_that_read() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let url = format!("http://{}", server.address);
    let id = conflict(&server, "worded", 5);
    let send = |arguments: &[&str]| {
        let all = [&["resubmit", "--url", &url][..], arguments].concat();
        let output = place.run("rejects", &all);
        (text(&output), output.status.code())
    };
    for (arguments, told) in [(&[][..], "or give --all"), (&["--table", "worded"], "add --all")] {
        let (said, code) = send(arguments);
        assert!(said.contains(told) && code == Some(2), "{arguments:?}: {said}");
    }
    let (said, code) = send(&["--dry-run", &id]);
    assert!(said.contains("1 would not be stored") && code == Some(1), "{said}");
    let (said, _) = send(&[&id]);
    assert!(
        said.contains("0 stored, 1 not (1 refused)") && said.contains("1 is not stored"),
        "{said}"
    );
    // The sink's folder goes away under the server, as when nothing is mounted there any more.
    let (sink, aside) = (place.data().join("rejects"), place.file("aside"));
    moved(&sink, &aside);
    for arguments in [
        &["ls"][..],
        &["show", &id],
        &["ls", "--url", &url],
        &["show", "--url", &url, &id],
        &["resubmit", "--url", &url, &id],
        &["resubmit", "--url", &url, "--all"],
    ] {
        let output = place.run("rejects", arguments);
        let said = text(&output);
        assert!(said.contains("its folder is gone: put it back"), "{arguments:?}: {said}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    }
    moved(&aside, &sink);
    let (said, code) = send(&[&id, "--set", "version=next"]);
    assert!(said.contains("1 stored, 0 not") && code == Some(0), "{said}");
    server.stop();
}

/// Reads one request to its end.
fn read_request(stream: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
            if body.len() >= length {
                return text;
            }
        }
        let count = stream.read(&mut buffer).expect("a request can be read");
        assert!(count > 0, "it breaks off: {text}");
        bytes.extend_from_slice(&buffer[..count]);
    }
}

fn answer(stream: &mut TcpStream, body: &Json) {
    let body = body.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).expect("an answer can be written");
}

fn page(next: Option<&str>) -> Json {
    let results =
        [json!({"id": "1-1", "outcome": "stored"}), json!({"id": "1-2", "outcome": "refused"})];
    json!({"results": results, "next": next})
}

/// A server that answers one page and is gone in the middle of the next one.
#[test]
fn what_was_done_is_counted_when_the_server_breaks_off() {
    let place = Place::new(SETTINGS);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    let output = thread::scope(|scope| {
        let server = scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("the command connects");
            read_request(&mut stream);
            answer(&mut stream, &page(Some("20261122.1-2")));
            let second = read_request(&mut stream);
            assert!(second.contains("20261122.1-2"), "it goes on behind the first page");
            drop(stream);
        });
        let output = place.run("rejects", &["resubmit", "--url", &url, "--all"]);
        server.join().expect("it has answered");
        output
    });
    let told = text(&output);
    assert!(
        told.contains("so far: 1 stored, 1 not (1 refused); what became of the last request"),
        "{told}"
    );
    assert!(output.status.code() == Some(1) && told.contains("does not answer"), "{told}");
}

/// The first signal comes while the second page is under way: that is ended, counted, and no third one is begun.
#[test]
fn what_was_done_is_counted_when_a_signal_asks_for_the_end() {
    let place = Place::new(SETTINGS);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    let mut command = place.command("rejects");
    command.args(["resubmit", "--url", &url, "--all"]);
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    let (mut stream, _) = listener.accept().expect("the command connects");
    read_request(&mut stream);
    answer(&mut stream, &page(Some("20261122.1-2")));
    read_request(&mut stream);
    kill_process(pid, Signal::INT).expect("it is our child");
    // It says that it has heard; what it says beside that fits into the pipe.
    let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut heard = String::new();
    while !heard.contains("ending with the request under way") {
        assert!(said.read_line(&mut heard).expect("it can be read") > 0, "it ended: {heard}");
    }
    answer(&mut stream, &page(Some("20261122.1-3")));
    said.read_to_string(&mut heard).expect("it can be read");
    let output = child.wait_with_output().expect("it ends");
    let told = "interrupted: 2 stored, 2 not (2 refused); the others were not sent";
    assert!(heard.contains(told), "{heard}");
    assert_eq!(output.status.code(), Some(130), "{heard}");
}

/// A table that Timestream's clients had made and deleted is not made again by a resubmission, and as another kind.
#[test]
fn a_strict_table_that_was_deleted_is_not_made_again_as_another() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let now = jiff::Timestamp::now().as_millisecond();
    let record = |value: &str, version: i64| {
        json!({"Dimensions": [{"Name": "h", "Value": "a"}], "MeasureName": "m", "MeasureValue": value,
            "MeasureValueType": "DOUBLE", "Time": now.to_string(), "TimeUnit": "MILLISECONDS", "Version": version})
    };
    let made = json!({"DatabaseName": "iot", "TableName": "strict"});
    let write = |value: &str| {
        let mut body = made.clone();
        body["Records"] = json!([record(value, 1)]);
        call(&server, "WriteRecords", &body).status
    };
    assert_eq!(call(&server, "CreateDatabase", &json!({"DatabaseName": "iot"})).status, 200);
    assert_eq!(call(&server, "CreateTable", &made).status, 200);
    assert_eq!((write("1"), write("2")), (200, 419), "another value at its version");
    let id = id_in(&server, "strict");
    assert_eq!(call(&server, "DeleteTable", &made).status, 200);
    assert_eq!(write("3"), 404, "so does Timestream answer");
    let appended = server.metric("tidegate_wal_appended_lsn").to_bits();
    for is_dry in [true, false] {
        let answer =
            resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}, "dry_run": is_dry}));
        let reason = &answer["results"][0]["reason"];
        assert_eq!(
            (&answer["refused"], reason),
            (&json!(1), &json!("table_not_found")),
            "{answer}"
        );
        for part in ["ResourceNotFound", "was deleted", "CreateTable"] {
            assert!(message(&answer).contains(part), "{part:?}: {answer}");
        }
    }
    assert_eq!(server.metric("tidegate_wal_appended_lsn").to_bits(), appended);
    let reply = server.client().get("/api/v1/export?db=iot&table=strict").expect("an answer");
    assert_eq!(reply.status, 404, "no table was made: {}", reply.text());
    // It is what it is told to be: made again, it takes the record as it is.
    assert_eq!(call(&server, "CreateTable", &made).status, 200);
    assert_eq!(outcome(&resubmit(&server, &json!({"ids": [id]}))), "stored");
    // One that plain writes make is made by a plain write again; but not what was made of it since.
    for (table, settings, told) in [
        ("relaxed", None, "stored"),
        (
            "kept_long",
            Some(json!({
            "MemoryStoreRetentionPeriodInHours": 24, "MagneticStoreRetentionPeriodInDays": 70_000})),
            "refused",
        ),
    ] {
        let id = conflict(&server, table, 5);
        if let Some(retention) = settings {
            let body = json!({"DatabaseName": "iot", "TableName": table, "RetentionProperties": retention});
            let reply = call(&server, "UpdateTable", &body);
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        let drop = format!("/query?db=iot&q=DROP%20MEASUREMENT%20{table}");
        assert_eq!(post(&server, &drop, &[], "").status, 200);
        let answer = resubmit(&server, &json!({"ids": [id]}));
        assert_eq!(outcome(&answer), told, "{table}: {answer}");
        assert!(told == "stored" || message(&answer).contains("settings of its own"), "{answer}");
    }
    server.stop();
}

/// What `WriteRecords` refused before the log is kept as a text, and makes no table either.
#[test]
fn a_text_of_timestreams_api_makes_no_table() {
    let place = Place::new("[ingest]\nprofile = \"strict\"\n");
    let server = place.start();
    let made = json!({"DatabaseName": "iot", "TableName": "windowed"});
    assert_eq!(call(&server, "CreateDatabase", &json!({"DatabaseName": "iot"})).status, 200);
    assert_eq!(call(&server, "CreateTable", &made).status, 200);
    let mut body = made.clone();
    body["Records"] = json!([{"Dimensions": [{"Name": "h", "Value": "a"}], "MeasureName": "m",
        "MeasureValue": "1", "MeasureValueType": "DOUBLE", "Time": "1000", "TimeUnit": "SECONDS"}]);
    assert_eq!(call(&server, "WriteRecords", &body).status, 419, "it is too old");
    let id = id_in(&server, "windowed");
    assert_eq!(call(&server, "DeleteTable", &made).status, 200);
    let now = jiff::Timestamp::now().to_string();
    let request = json!({"ids": [id], "set": {"time": now}});
    let answer = resubmit(&server, &request);
    assert!(
        outcome(&answer) == "refused" && message(&answer).contains("ResourceNotFound"),
        "{answer}"
    );
    assert_eq!(call(&server, "CreateTable", &made).status, 200);
    assert_eq!(outcome(&resubmit(&server, &request)), "stored");
    server.stop();
}
