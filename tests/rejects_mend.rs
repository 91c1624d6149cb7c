//! Promise: every reason for which something is refused has a remedy that works as it is told, whichever way the
//! record came; and what is sent again means what it meant: its unit, its table, its time of receipt.
#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "rejects_mend/cases.rs"]
mod cases;
#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value as Json, json};

use cases::{Way, beyond_limits, case, flat, refused_by_tables, text, undecodable};
use common::client::Reply;
use common::gateway::{Gateway, Place};
use tidegate::record::Reason;

/// The time of every record that has one, in seconds and in nanoseconds.
const TIME_S: i64 = 1_793_491_200;
const TIME_NS: i64 = TIME_S * 1_000_000_000;

/// Nothing gives the one today, but payloads of the log may hold it; the other is given where a table is deleted
/// between the look at its name and at its columns, which no request can bring about.
const UNUSED: [Reason; 2] = [Reason::NotTaken, Reason::TableDeleted];

fn listed(server: &Gateway, query: &str, token: Option<&str>) -> Vec<Json> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    let path = format!("/api/v1/rejects?{query}");
    let reply = server.client().request("GET", &path, &headers, b"").expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["rejections"].as_array().expect("a list").clone()
}

fn call(server: &Gateway, operation: &str, body: &Json) -> Reply {
    let target = format!("Timestream_20181101.{operation}");
    let headers = [("X-Amz-Target", target.as_str())];
    let reply = server.client().post("/", &headers, body.to_string().as_bytes()).expect("answered");
    assert_eq!(reply.status, 200, "{operation}: {}", reply.text());
    reply
}

#[test]
fn every_reason_has_a_remedy_that_works_as_it_is_told() {
    let place = Place::new(
        "[ingest]\ndefault_dimension = \"\"\nversion = \"_version\"\n[shards]\ncount = 1\n",
    );
    let server = place.start();
    let cases = [undecodable(), beyond_limits(&place), refused_by_tables(&server)];
    let mut shown: BTreeSet<Reason> = cases.iter().flatten().map(|case| case.reason).collect();
    for case in cases.iter().flatten() {
        let id = case.refused(&server, None);
        let told = text(&place.run("rejects", &["show", &id]));
        assert!(told.contains(case.reason.remedy()), "{told:.2000}");
        case.mend(&place, &server, &id);
    }
    assert!(listed(&server, "", None).is_empty(), "all are mended");
    server.stop();
    // Each of these has a test of its own below.
    shown.extend([Reason::TableNotFound, Reason::Forbidden]);
    let all: BTreeSet<Reason> = Reason::ALL.iter().copied().collect();
    let missing: BTreeSet<Reason> = all.difference(&shown).copied().collect();
    assert_eq!(missing, BTreeSet::from(UNUSED), "a reason without a case");
}

#[test]
fn a_table_that_was_missing_is_made_and_the_record_sent_again_as_it_is() {
    let place = Place::new("[ingest]\ncreate_tables = false\n");
    let server = place.start();
    call(&server, "CreateDatabase", &json!({"DatabaseName": "iot"}));
    for (way, table, body) in [
        (Way::Line, "t_line", "t_line,site=a t=1.5".to_owned()),
        (Way::Json, "t_json", flat("t_json", &json!({"timestamp": null}))),
    ] {
        let case = case((Reason::TableNotFound, way), table, body, &[]).untimed();
        let id = case.refused(&server, None);
        call(&server, "CreateTable", &json!({"DatabaseName": "iot", "TableName": table}));
        case.mend(&place, &server, &id);
    }
    server.stop();
}

#[test]
fn what_its_sender_may_not_write_somebody_else_may() {
    let token = |name: &str, scope: &str| {
        format!(
            "[[auth.tokens]]\nname = {name:?}\ntoken = {name:?}\nread = [{scope:?}]\nwrite = [{scope:?}]\n"
        )
    };
    let place = Place::new(&[token("root", "*"), token("mine", "iot")].concat());
    let server = place.start();
    let theirs = flat("f1", &json!({"database": "theirs"}));
    let case = case((Reason::Forbidden, Way::Json), "f1", theirs, &[]);
    let id = case.refused(&server, Some("mine"));
    let url = format!("http://{}", server.address);
    let send =
        |token: &str| place.run("rejects", &["resubmit", "--url", &url, "--token", token, &id]);
    assert!(text(&send("mine")).contains("forbidden"), "the sender still may not");
    let by_root = send("root");
    assert!(by_root.status.success(), "{}", text(&by_root));
    server.stop();
    assert_eq!(place.exported("theirs", "f1").keys().next().map(|key| key.time_ns), Some(TIME_NS));
}

/// Each unit of each endpoint: what was refused for something else is stored at the time that was meant.
#[test]
fn what_is_sent_again_has_the_time_that_was_meant() {
    let place = Place::new("");
    let server = place.start();
    let hour_ns = 3_600_000_000_000_i64;
    let time_ns = TIME_NS / hour_ns * hour_ns;
    let units = |names: &[&'static str]| -> Vec<(&'static str, i64)> {
        let unit = |name: &str| match name {
            "h" => hour_ns,
            "m" => 60_000_000_000,
            "s" | "second" => 1_000_000_000,
            "ms" | "millisecond" => 1_000_000,
            "us" | "u" | "microsecond" => 1_000,
            _ => 1,
        };
        names.iter().map(|name| (*name, time_ns / unit(name))).collect()
    };
    let mut number = 0;
    for (path, kind, names) in [
        (
            "/write?db=iot&rp=weekly",
            "text/plain",
            units(&["", "n", "ns", "u", "ms", "s", "m", "h"]),
        ),
        ("/api/v2/write?bucket=iot/weekly", "text/plain", units(&["", "ns", "us", "ms", "s"])),
        (
            "/api/v3/write_lp?db=iot/weekly",
            "text/plain",
            units(&["", "auto", "nanosecond", "microsecond", "millisecond", "second"]),
        ),
        ("/api/v1/write?db=iot/weekly", "text/plain", units(&["ns", "us", "ms", "s", "m", "h"])),
        ("/api/v1/write?db=iot/weekly", "application/json", units(&["ns", "us", "ms", "s"])),
        ("/api/v1/write?db=iot/weekly", "application/x-ndjson", units(&["ns", "us", "ms", "s"])),
        ("/api/v1/write?db=iot/weekly&table=named", "application/json", units(&["s"])),
    ] {
        for (unit, time) in names {
            number += 1;
            let site = format!("s{number}");
            let body = if kind == "text/plain" {
                format!("weather,site={site} t=abc {time}")
            } else {
                json!({"measurement": "weather", "tags": {"site": site}, "fields": {"t": []}, "timestamp": time}).to_string()
            };
            let headers = [("X-Tidegate-Durability", "applied"), ("Content-Type", kind)];
            let target = format!("{path}&precision={unit}");
            let reply = server.client().post(&target, &headers, body.as_bytes()).expect("answered");
            assert_eq!(reply.status, 400, "{target}: {}", reply.text());
            let link = reply.header("x-tidegate-rejects").expect("a link").to_owned();
            let found = listed(&server, link.split_once('?').expect("a query").1, None);
            let request = json!({"ids": [found[0]["id"]], "set": {"measure.t": 2.5}});
            let sent = resubmit(&server, &request);
            assert_eq!(sent["stored"], 1, "{target}: {sent}");
            let table = if path.ends_with("named") { "named" } else { "weather" };
            let rows = server.export_any("iot%2Fweekly", table);
            let stored = rows.keys().find(|key| key.tags.get("site") == Some(&site));
            assert_eq!(stored.map(|key| key.time_ns), Some(time_ns), "{target} {kind}");
        }
    }
    server.stop();
}

fn resubmit(server: &Gateway, request: &Json) -> Json {
    let headers = [("Content-Type", "application/json")];
    let body = request.to_string();
    let path = "/api/v1/rejects/resubmit";
    let reply = server.client().post(path, &headers, body.as_bytes()).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Method: the report is rewritten as an earlier version wrote it.
#[test]
fn a_report_that_does_not_say_the_unit_asks_for_it() {
    let place = Place::new("");
    let server = place.start();
    let bad = format!("old,site=a t=abc {TIME_S}\nold,site=b t=abc\n");
    let reply = server.client().post("/write?db=iot&precision=s", &[], bad.as_bytes());
    assert_eq!(reply.expect("answered").status, 400);
    server.settle();
    server.stop();
    for path in place.files("rejects/lines", ".json") {
        let report = std::fs::read_to_string(&path).expect("a report can be read");
        let told = r#","as":{"format":"line","precision":"s"}"#;
        assert!(report.contains(told), "{report}");
        std::fs::write(&path, report.replace(told, "")).expect("it can be written");
    }
    let server = place.start();
    let found = listed(&server, "order=oldest", None);
    let ids: Vec<&Json> = found.iter().map(|one| &one["id"]).collect();
    let mut request = json!({"ids": ids, "set": {"measure.t": 1.5}});
    let sent = resubmit(&server, &request);
    let [timed, untimed] = &sent["results"].as_array().expect("results")[..] else {
        panic!("{sent}")
    };
    assert!(timed["message"].as_str().expect("why").contains("--precision"), "{sent}");
    assert_eq!((&timed["outcome"], &untimed["outcome"]), (&json!("refused"), &json!("stored")));
    request["precision"] = "s".into();
    assert_eq!(resubmit(&server, &request)["stored"], 1);
    let rows = server.export("iot", "old");
    let stored: BTreeMap<&str, i64> =
        rows.keys().map(|key| (key.tags["site"].as_str(), key.time_ns)).collect();
    assert_eq!(stored["a"], TIME_NS);
    let received: jiff::Timestamp =
        found[1]["received"].as_str().unwrap_or_default().parse().expect("a time");
    assert_eq!(i128::from(stored["b"]), received.as_nanosecond(), "it has its time of receipt");
    server.stop();
}

/// The last write wins: what was refused before it must not win when it is sent again after it.
#[test]
fn what_is_sent_again_arrives_when_it_arrived_first() {
    let place = Place::new("[ingest]\nversion = \"arrival\"\n");
    let server = place.start();
    let bad = format!("weather,site=a t=abc {TIME_NS}");
    assert_eq!(
        server.client().post("/write?db=iot", &[], bad.as_bytes()).expect("answered").status,
        400
    );
    server.write("iot", &format!("weather,site=a t=2.5 {TIME_NS}"));
    server.settle();
    let ids: Vec<Json> = listed(&server, "", None).iter().map(|one| one["id"].clone()).collect();
    let sent = resubmit(&server, &json!({"ids": ids, "set": {"measure.t": 1.5}}));
    assert_eq!(sent["results"][0]["reason"], "version_lower", "{sent}");
    let other = json!({"ids": ids, "line": format!("weather,site=b t=1.5 {TIME_NS}")});
    assert_eq!(resubmit(&server, &other)["stored"], 1);
    server.stop();
}

/// Who waits for the engine reads the line that it refused, as who is told by the parser does.
#[test]
fn an_answer_quotes_what_the_engine_refused() {
    let place = Place::new("");
    let server = place.start();
    let applied = [("X-Tidegate-Durability", "applied"), ("Content-Type", "text/plain")];
    let line = |value: u32| format!("weather,site=a t={value} {TIME_NS}");
    server.write("iot", &line(1));
    let bad = format!("# a comment\nweather,site=b t=abc\n{}\n", line(2));
    for path in [
        "/write?db=iot",
        "/api/v2/write?bucket=iot",
        "/api/v3/write_lp?db=iot",
        "/api/v1/write?db=iot",
    ] {
        let reply = server.client().post(path, &applied, bad.as_bytes()).expect("answered").json();
        let (told, number, text) = match path {
            "/api/v1/write?db=iot" => (&reply["rejected"], "line", "text"),
            _ => (&reply["data"], "line_number", "original_line"),
        };
        let told = told.as_array().expect("both are named");
        let lines: Vec<(&Json, &Json)> =
            told.iter().map(|one| (&one[number], &one[text])).collect();
        assert_eq!(lines[0], (&json!(2), &json!("weather,site=b t=abc")), "{path}: {reply}");
        assert_eq!(lines[1], (&json!(3), &json!(line(2))), "{path}: {reply}");
        let members =
            |one: &Json| one.as_object().expect("members").keys().cloned().collect::<BTreeSet<_>>();
        let (mut by_parser, mut by_engine) = (members(&told[0]), members(&told[1]));
        // Where in the line, the engine cannot know; which version stood, the parser.
        by_parser.remove("column");
        by_engine.remove("existing_version");
        assert_eq!(by_parser, by_engine, "{path}");
    }
    server.stop();
}
