//! Promise: who sends a rejection again is told of what stands now. What was taken is not sent once more in silence,
//! `version=next` is above what stands by then, a look for a table finds what would have been in it, and a request
//! that is refused as a whole is told so with every line.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::process::Output;
use std::thread;

use serde_json::{Value as Json, json};

use common::client::Reply;
use common::gateway::{Gateway, Place};

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

fn one(server: &Gateway, id: &str) -> Json {
    server.client().get(&format!("/api/v1/rejects/{id}")).expect("an answer").json()
}

/// The number of the only rejection of a table.
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

/// Values and versions of a table.
fn stored(server: &Gateway, table: &str) -> Vec<String> {
    let rows = server.export_any("iot", table);
    rows.values().map(|row| format!("{:?} version {}", row.fields, row.version)).collect()
}

fn appended(server: &Gateway) -> u64 {
    server.metric("tidegate_wal_appended_lsn").to_bits()
}

/// A record refused since another value stands at version 5.
fn conflict(server: &Gateway, table: &str) -> String {
    assert_eq!(apply(server, &format!("{table},site=a t=1,_version=5i {TIME_NS}")).status, 204);
    assert_eq!(apply(server, &format!("{table},site=a t=2,_version=5i {TIME_NS}")).status, 400);
    id_in(server, table)
}

#[test]
fn what_was_taken_is_not_sent_again_and_another_correction_is_told_how_to_be() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let id = conflict(&server, "taken");
    let url = format!("http://{}", server.address);
    let send = |arguments: &[&str]| {
        place.run("rejects", &[&["resubmit", "--url", &url, &id][..], arguments].concat())
    };
    let first = send(&["--set", "version=next"]);
    assert!(first.status.success() && text(&first).contains("1 stored, 0 not"), "{}", text(&first));
    let before = appended(&server);
    // By whoever did not hear the answer: it is done, and nothing is stored by it.
    for same in [&["--set", "version=next"][..], &["--set", "version=next", "--dry-run"]] {
        let same = send(same);
        let told = text(&same);
        assert!(same.status.success(), "{told}");
        for part in ["already taken at 2", "by anonymous", "--set version=next", "nothing was sent"]
        {
            assert!(told.contains(part), "{part:?}: {told}");
        }
        assert!(
            told.contains("0 stored, 0 not, 1 already")
                || told.contains("0 would be stored, 0 not, 1 already"),
            "{told}"
        );
    }
    // By whoever noticed a mistake in it.
    for other in [
        &["--set", "version=next", "--set", "measure.t=7"][..],
        &[],
        &["--set", "version=7", "--dry-run"],
    ] {
        let other = send(other);
        let told = text(&other);
        assert_eq!(other.status.code(), Some(1), "{told}");
        for part in
            ["taken_otherwise", "already taken at 2", "nothing was sent", "--again", "1 not"]
        {
            assert!(told.contains(part), "{part:?}: {told}");
        }
    }
    assert_eq!(
        (appended(&server), stored(&server, "taken")),
        (before, vec!["{\"t\": DOUBLE 2.0} version 6".into()])
    );
    let answer = resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}}));
    let counts = ["stored", "refused", "already", "unknown"].map(|name| answer[name].as_u64());
    assert_eq!((outcome(&answer), counts), ("resubmitted", [Some(0), Some(0), Some(1), Some(0)]));
    let answer = resubmit(&server, &json!({"ids": [id], "set": {"version": 6}}));
    assert_eq!((outcome(&answer), &answer["not_sent"]), ("taken_otherwise", &json!(1)), "{answer}");
    // What it is told to do works, both ways.
    let again = send(&["--again", "--set", "version=next", "--set", "measure.t=7"]);
    assert!(again.status.success() && text(&again).contains("1 stored, 0 not"), "{}", text(&again));
    assert_eq!(stored(&server, "taken"), ["{\"t\": DOUBLE 7.0} version 7"]);
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(
        shown.contains("resubmitted: sent again") && shown.contains("--set measure.t=7"),
        "{shown}"
    );
    assert_eq!(apply(&server, &format!("taken,site=a t=8,_version=8i {TIME_NS}")).status, 204);
    assert_eq!(stored(&server, "taken"), ["{\"t\": DOUBLE 8.0} version 8"]);
    server.stop();
}

/// Goal: what is told to be done about a correction that was refused keeps what it corrected. Method: a record
/// that was meant for another site, where something stands by then.
#[test]
fn a_correction_that_was_refused_is_not_dropped_by_what_is_told() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    assert_eq!(apply(&server, &format!("tank,site=b t=20,_version=1i {TIME_NS}")).status, 204);
    let id = conflict(&server, "tank");
    let moved = json!({"ids": [id], "set": {"dimension.site": "b", "version": 1}});
    assert_eq!(outcome(&resubmit(&server, &moved)), "refused");
    assert!(one(&server, &id)["suggested"].is_null(), "2 would be the version of another key");
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(!shown.contains("tidegate rejects resubmit"), "{shown}");
    assert!(shown.contains("--set dimension.site=b") && shown.contains("give it again"), "{shown}");
    let again = json!({"ids": [id], "set": {"dimension.site": "b", "version": "next"}});
    assert_eq!(outcome(&resubmit(&server, &again)), "stored");
    let found = BTreeSet::from_iter(stored(&server, "tank"));
    let expected = ["{\"t\": DOUBLE 1.0} version 5", "{\"t\": DOUBLE 2.0} version 2"];
    assert_eq!(found, BTreeSet::from(expected.map(str::to_owned)));
    server.stop();
}

/// Each pair comes together; whichever is first is taken, and the other one is told.
#[test]
fn of_two_corrections_that_come_together_one_is_taken() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    for round in 0..15 {
        let table = format!("race{round}");
        let id = conflict(&server, &table);
        let answers: Vec<Json> = thread::scope(|scope| {
            let send = |value: u32| {
                let set = json!({"version": "next", "measure.t": value});
                resubmit(&server, &json!({"ids": [id], "set": set}))
            };
            let all: Vec<_> =
                (10..14).map(|value| scope.spawn(move || (value, send(value)))).collect();
            all.into_iter().map(|one| one.join().expect("it is answered").1).collect()
        });
        let stored_by = answers.iter().filter(|answer| outcome(answer) == "stored").count();
        assert_eq!(stored_by, 1, "{answers:?}");
        let told = |answer: &&Json| matches!(outcome(answer), "taken_otherwise" | "under_way");
        assert_eq!(answers.iter().filter(told).count(), 3, "{answers:?}");
        let rows = stored(&server, &table);
        assert!(rows.len() == 1 && rows[0].ends_with("version 6"), "{rows:?}");
    }
    server.stop();
}

#[test]
fn next_is_above_what_stands_by_then_and_the_same_command_gets_there() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let id = conflict(&server, "next");
    // Somebody writes on.
    assert_eq!(apply(&server, &format!("next,site=a t=3,_version=40i {TIME_NS}")).status, 204);
    let request = json!({"ids": [id], "set": {"version": "next"}});
    let mut dry = request.clone();
    dry["dry_run"] = json!(true);
    let answer = resubmit(&server, &dry);
    assert_eq!(
        (outcome(&answer), &answer["results"][0]["sent"]["Version"]),
        ("would_be_stored", &json!(41))
    );
    // As it was when it was refused it is too low by now, and the rejection remembers that.
    assert_eq!(
        outcome(&resubmit(&server, &json!({"ids": [id], "set": {"version": 6}}))),
        "refused"
    );
    let shown = text(&place.run("rejects", &["show", &id]));
    for part in [
        "sent again in frame",
        "--set version=6",
        "refused once more: version_lower",
        "stood 40",
        "--set version=41",
    ] {
        assert!(shown.contains(part), "{part:?}: {shown}");
    }
    let again = &one(&server, &id)["refused_again"];
    assert_eq!(
        (&again["reason"], &again["existing_version"]),
        (&json!("version_lower"), &json!(40))
    );
    // A writer that is always quicker raises the version between two of them.
    for round in 0..3 {
        let version = 100 + round;
        assert_eq!(
            apply(&server, &format!("next,site=a t=9,_version={version}i {TIME_NS}")).status,
            204
        );
        let lower = json!({"ids": [id], "set": {"version": version}});
        assert_eq!(outcome(&resubmit(&server, &lower)), "refused", "another value stands there");
    }
    assert_eq!(outcome(&resubmit(&server, &request)), "stored");
    assert_eq!(stored(&server, "next"), ["{\"t\": DOUBLE 2.0} version 103"]);
    server.stop();
}

#[test]
fn next_is_told_by_the_key_that_is_sent_and_by_what_is_there_already() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    // Where the same stands already, as after a crash before the mark, nothing is to be above it.
    let id = conflict(&server, "there");
    let same = format!("there,site=a t=2,_version=9i {TIME_NS}");
    assert_eq!(apply(&server, &same).status, 204);
    let sent = resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}}));
    assert_eq!(outcome(&sent), "stored", "{sent}");
    assert_eq!(stored(&server, "there"), ["{\"t\": DOUBLE 2.0} version 9"]);
    // Where nothing stands at the key that is sent, it gets what a record without a version gets.
    let id = conflict(&server, "elsewhere");
    let away = json!({"ids": [id], "set": {"version": "next", "dimension.site": "b"}});
    assert_eq!(outcome(&resubmit(&server, &away)), "stored");
    let rows = stored(&server, "elsewhere");
    assert!(rows.contains(&"{\"t\": DOUBLE 2.0} version 1".to_owned()), "{rows:?}");
    // A text that was refused before it was a record knows nothing of versions itself.
    assert_eq!(apply(&server, &format!("texts,site=a t=1,_version=9i {TIME_NS}")).status, 204);
    assert_eq!(apply(&server, &format!("texts,site=a t=abc,_version=2i {TIME_NS}")).status, 400);
    let id = id_in(&server, "texts");
    let mended = json!({"ids": [id], "set": {"measure.t": 4.5}});
    assert_eq!(outcome(&resubmit(&server, &mended)), "refused");
    assert_eq!(one(&server, &id)["refused_again"]["reason"], "version_lower");
    let next = json!({"ids": [id], "set": {"measure.t": 4.5, "version": "next"}});
    assert_eq!(outcome(&resubmit(&server, &next)), "stored");
    assert_eq!(stored(&server, "texts"), ["{\"t\": DOUBLE 4.5} version 10"]);
    server.stop();
}

/// Two rejections of one key in one request: the second meets what the first leaves.
#[test]
fn several_of_one_key_are_sent_one_above_the_other() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    assert_eq!(apply(&server, &format!("many,site=a t=0,_version=5i {TIME_NS}")).status, 204);
    for value in 1..=5 {
        let line = format!("many,site=a t={value},_version=5i {TIME_NS}");
        assert_eq!(apply(&server, &line).status, 400);
    }
    let all = |set: Json, is_dry: bool| json!({"filter": {"table": "many"}, "set": set, "dry_run": is_dry});
    for (set, stored_by) in [(json!({"version": 6}), 1), (json!({"version": "next"}), 4)] {
        let dry = resubmit(&server, &all(set.clone(), true));
        let real = resubmit(&server, &all(set, false));
        assert_eq!(
            (&dry["stored"], &dry["refused"]),
            (&real["stored"], &real["refused"]),
            "{dry} {real}"
        );
        assert_eq!(real["stored"], stored_by, "{real}");
    }
    assert_eq!(stored(&server, "many"), ["{\"t\": DOUBLE 5.0} version 10"]);
    server.stop();
}

#[test]
fn a_look_for_a_table_finds_what_would_have_been_in_it() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let ndjson = ("Content-Type", "application/x-ndjson");
    let metric = |value: &str| {
        format!(r#"{{"name":"cpu","tags":{{"h":"a"}},"fields":{{"t":{value}}},"timestamp":1}}"#)
    };
    let shaped = |table: &str, value: &str| {
        json!({"DatabaseName": "iot", "TableName": table, "Records": [{
            "Dimensions": [{"Name": "h", "Value": "a"}], "MeasureName": "m", "MeasureValue": value,
            "MeasureValueType": "DOUBLE", "Time": "1", "TimeUnit": "SECONDS"}]})
        .to_string()
    };
    let write = "/api/v1/write?db=iot&precision=s";
    let telegraf = format!(r#"{{"metrics":[{},{}]}}"#, metric("[]"), metric("1"));
    for (table, path, kind, body) in [
        ("telegraf", format!("{write}&table=telegraf"), JSON, telegraf),
        ("flat", format!("{write}&table=flat"), JSON, metric("1e999")),
        (
            "own",
            format!("{write}&table=other"),
            JSON,
            metric("[]").replace("\"name\"", "\"table\":\"own\",\"name\""),
        ),
        ("cpu", write.to_owned(), ndjson, format!("{}\n{}\n", metric("1e999"), metric("2"))),
        ("lines_table", format!("{write}&table=lines_table"), ndjson, metric("[]")),
        ("shaped", write.to_owned(), JSON, shaped("shaped", "abc")),
        ("a b", write.to_owned(), ("Content-Type", "text/plain"), "a\\ b,h=a t=abc 1".to_owned()),
        ("cut", format!("{write}&table=cut"), JSON, "{\"name\":\"x\",".to_owned()),
    ] {
        let reply = post(&server, &path, &[APPLIED, kind], &body);
        assert!(reply.text().contains("\"rejected_count\":1"), "{table}: {}", reply.text());
        let found = listed(&server, &format!("table={}", table.replace(' ', "%20")));
        assert_eq!((found.len(), &found[0]["table"]), (1, &json!(table)), "{table}: {found:?}");
    }
    // Not UTF-8, and its measurement is.
    let path = "/api/v2/write?bucket=iot&precision=s";
    let reply = server.client().post(path, &[APPLIED], b"bytes,h=\xff t=1 1").expect("answered");
    assert_eq!((reply.status, listed(&server, "table=bytes").len()), (400, 1));
    // Of no table that anybody could tell: not shown, and not kept quiet about.
    let reply = post(&server, write, &[APPLIED, JSON], "{\"name\":\"x\",");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let found = server.client().get("/api/v1/rejects?table=shaped").unwrap().json();
    assert_eq!(
        (found["rejections"].as_array().unwrap().len(), &found["untold"]),
        (1, &json!(1)),
        "{found}"
    );
    let told = text(&place.run("rejects", &["ls", "--table", "shaped"]));
    assert!(
        told.contains("passed over: 1, since nobody") && told.contains("leave out --table"),
        "{told}"
    );
    let told = text(&place.run("rejects", &["ls"]));
    assert!(!told.contains("passed over"), "{told}");
    server.stop();
}

#[test]
fn the_one_value_of_a_scalar_is_shown_and_set_by_one_name() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let record = |value: &str, kind: &str| {
        json!({"DatabaseName": "iot", "TableName": "scalars", "Records": [{
            "Dimensions": [{"Name": "h", "Value": "a"}], "MeasureName": "heat", "MeasureValue": value,
            "MeasureValueType": kind, "Time": "1", "TimeUnit": "SECONDS", "Version": 1}]}).to_string()
    };
    let path = "/api/v1/write?db=iot";
    assert_eq!(post(&server, path, &[APPLIED, JSON], &record("1.5", "DOUBLE")).status, 200);
    assert_eq!(post(&server, path, &[APPLIED, JSON], &record("2.5", "DOUBLE")).status, 400);
    let id = id_in(&server, "scalars");
    let shown = text(&place.run("rejects", &["show", &id]));
    assert!(shown.contains("heat   sent 2.5 (DOUBLE)   stood 1.5 (DOUBLE)"), "{shown}");
    let wrong = resubmit(&server, &json!({"ids": [id], "set": {"measure.cold": 3}}));
    assert!(message(&wrong).contains("write measure.heat=VALUE"), "{wrong}");
    for (name, value) in [("measure.heat", 3.5), ("measure.value", 4.5)] {
        let set = json!({name: value, "version": "next"});
        let answer = resubmit(&server, &json!({"ids": [id], "set": set, "again": true}));
        assert_eq!(outcome(&answer), "stored", "{name}: {answer}");
        assert!(stored(&server, "scalars")[0].contains(&value.to_string()), "{name}");
    }
    // The same of a text that never was a record.
    for (table, name) in [("by_name", "measure.heat"), ("by_value", "measure.value")] {
        let body = record("warm", "DOUBLE").replace("scalars", table);
        assert_eq!(post(&server, path, &[APPLIED, JSON], &body).status, 400);
        let answer =
            resubmit(&server, &json!({"ids": [id_in(&server, table)], "set": {name: 5.5}}));
        assert_eq!(outcome(&answer), "stored", "{name}: {answer}");
        assert!(stored(&server, table)[0].contains("5.5"), "{name}");
    }
    server.stop();
}

#[test]
fn a_field_of_null_says_what_could_stand_there_and_is_mended() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let body = r#"{"measurement":"nulls","tags":{"h":"a"},"fields":{"u":null},"timestamp":1}"#;
    let reply = post(&server, "/api/v1/write?db=iot&precision=s", &[APPLIED, JSON], body);
    assert!(reply.status == 400 && reply.text().contains("null is none"), "{}", reply.text());
    let id = id_in(&server, "nulls");
    let send = |set: Json| resubmit(&server, &json!({"ids": [id], "set": set}));
    let open = send(json!({"measure.u": "warm"}));
    for name in ["DOUBLE", "BIGINT", "BOOLEAN", "VARCHAR", "TIMESTAMP"] {
        assert!(message(&open).contains(name), "{name}: {open}");
    }
    assert_eq!(outcome(&send(json!({"measure.u": 7}))), "stored");
    assert_eq!(stored(&server, "nulls"), ["{\"u\": BIGINT 7} version 1"]);
    server.stop();
}

/// All or nothing: the sender is told every line that is wrong and how many there were, nothing is stored, and
/// nothing is kept, since the sender has it.
#[test]
fn a_request_that_is_refused_as_a_whole_is_told_so_and_nothing_of_it_is_kept() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let lines = "all,site=a t=1 1\nall,site=b t=abc 1\nall,site=c t=1 1";
    let path = "/api/v3/write_lp?db=iot&precision=second&accept_partial=false";
    let before = appended(&server);
    let reply = post(&server, path, &[APPLIED], lines);
    let body = reply.json();
    assert_eq!((reply.status, reply.header("x-tidegate-rejects")), (400, None), "{}", reply.text());
    let message = body["message"].as_str().expect("a message");
    for part in [
        "1 of 3 lines rejected",
        "first at line 2",
        "nothing of the request is stored",
        "dropped=3",
    ] {
        assert!(message.contains(part), "{part:?}: {message}");
    }
    assert_eq!(body["rejections"], json!({"count": 1, "stored": 0}), "{body}");
    assert_eq!(body["data"][0]["original_line"], "all,site=b t=abc 1", "{body}");
    // Two lines that contradict each other, each good by itself.
    let reply = post(&server, path, &[APPLIED], "all,site=a u=1 1\nall,site=b u=\"x\" 1");
    assert!(
        reply.status == 400 && reply.text().contains("1 of 2 lines rejected"),
        "{}",
        reply.text()
    );
    // Amazon's requests are refused as a whole too where one record is no record.
    let record = |value: &str| {
        json!({"Dimensions": [{"Name": "h", "Value": "a"}], "MeasureName": "m",
        "MeasureValue": value, "MeasureValueType": "DOUBLE", "Time": TIME_NS.to_string(), "TimeUnit": "NANOSECONDS"})
    };
    for (operation, body) in [
        ("CreateDatabase", json!({"DatabaseName": "iot"})),
        ("CreateTable", json!({"DatabaseName": "iot", "TableName": "amazon"})),
        (
            "WriteRecords",
            json!({"DatabaseName": "iot", "TableName": "amazon", "Records": [record("1"), record("abc")]}),
        ),
    ] {
        let target = format!("Timestream_20181101.{operation}");
        let reply = post(&server, "/", &[("X-Amz-Target", &target)], &body.to_string());
        let status = if operation == "WriteRecords" { 400 } else { 200 };
        assert_eq!(reply.status, status, "{operation}: {}", reply.text());
        if status == 400 {
            assert!(reply.text().contains("ValidationException"), "{}", reply.text());
            assert_eq!(reply.header("x-tidegate-rejects"), None);
        }
    }
    assert_eq!(appended(&server), before, "nothing of them is in the log");
    assert!(listed(&server, "state=all").is_empty());
    for table in ["all", "amazon"] {
        let reply = server.client().get(&format!("/api/v1/export?db=iot&table={table}")).unwrap();
        assert!(reply.status == 404 || reply.text().trim().is_empty(), "{table}: {}", reply.text());
    }
    let told = include_str!("../docs/not-promised.md");
    assert!(told.contains("accept_partial=false") && told.contains("ValidationException"));
    server.stop();
}

/// What Timestream reports and does not answer, whoever sends a rejection again is told all the same: else it
/// would be closed, and its record nowhere.
#[test]
fn what_the_engine_refuses_of_the_magnetic_store_is_told_and_stays_open() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let location = json!({"S3Configuration": {"BucketName": "reports", "ObjectKeyPrefix": "late"}});
    for (operation, body) in [
        ("CreateDatabase", json!({"DatabaseName": "iot"})),
        (
            "CreateTable",
            json!({"DatabaseName": "iot", "TableName": "magnetic",
                "RetentionProperties": {
                    "MemoryStoreRetentionPeriodInHours": 6, "MagneticStoreRetentionPeriodInDays": 10},
                "MagneticStoreWriteProperties": {
                    "EnableMagneticStoreWrites": true, "MagneticStoreRejectedDataLocation": location}}),
        ),
    ] {
        let target = format!("Timestream_20181101.{operation}");
        let reply = post(&server, "/", &[("X-Amz-Target", &target)], &body.to_string());
        assert_eq!(reply.status, 200, "{operation}: {}", reply.text());
    }
    let time_ns = (jiff::Timestamp::now().as_second() - 36_000) * 1_000_000_000;
    let line = |fields: &str| format!("magnetic,site=a {fields},_version=5i {time_ns}");
    assert_eq!(apply(&server, &line("t=1")).status, 204);
    assert_eq!(apply(&server, &line("t=abc")).status, 400);
    let id = id_in(&server, "magnetic");
    let request = json!({"ids": [id], "set": {"measure.t": 2.5, "version": 5}});
    let mut dry = request.clone();
    dry["dry_run"] = json!(true);
    assert_eq!(outcome(&resubmit(&server, &dry)), "would_be_refused");
    let answer = resubmit(&server, &request);
    let told = &answer["results"][0];
    assert_eq!(
        (outcome(&answer), &told["reason"]),
        ("refused", &json!("version_conflict")),
        "{answer}"
    );
    assert_eq!(told["existing_version"], 5, "{answer}");
    assert_eq!(
        (&one(&server, &id)["state"], stored(&server, "magnetic").len()),
        (&json!("open"), 1)
    );
    let higher = json!({"ids": [id], "set": {"measure.t": 2.5, "version": "next"}});
    assert_eq!(outcome(&resubmit(&server, &higher)), "stored");
    assert_eq!(stored(&server, "magnetic"), ["{\"t\": DOUBLE 2.5} version 6"]);
    server.stop();
}

/// What was done before something failed is told, and what was not done is told beside it.
#[test]
fn what_fails_later_hides_nothing_of_what_was_done_before() {
    let small = "[server]\nbody_bytes_max = \"1 MiB\"\ninflated_bytes_max = \"1 MiB\"\n\
                 [ingest]\nversion = \"_version\"\nmemory_bytes_max = \"2 MiB\"\nadmit_wait = \"0ms\"\n";
    let place = Place::new(small);
    let server = place.start();
    // With what is set in each, the fourth needs more memory than there is.
    let long = "x".repeat(800 << 10);
    for (site, text) in [("a", ""), ("b", ""), ("c", ""), ("d", &*long), ("e", "")] {
        let line = format!("later,site={site} text=\"{text}\",t=abc {TIME_NS}");
        assert_eq!(apply(&server, &line).status, 400);
    }
    let set = json!({"measure.t": 1.5, "measure.more:VARCHAR": "y".repeat(300 << 10)});
    let answer = resubmit(&server, &json!({"filter": {"table": "later"}, "set": set}));
    let outcomes: Vec<&str> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|one| one["outcome"].as_str().expect("an outcome"))
        .collect();
    assert_eq!(outcomes, ["stored", "stored", "stored", "not_sent", "not_sent"]);
    assert_eq!((&answer["stored"], &answer["not_sent"]), (&json!(3), &json!(2)));
    for result in &answer["results"].as_array().expect("results")[3..] {
        let message = result["message"].as_str().expect("a message");
        assert!(message.contains("not sent") && message.contains("memory"), "{message}");
    }
    assert_eq!(listed(&server, "state=resubmitted").len(), 3);
    // What is left is sent by itself: with less to set there is room.
    let set = json!({"measure.t": 1.5});
    let answer = resubmit(&server, &json!({"filter": {"table": "later"}, "set": set}));
    assert_eq!((&answer["stored"], &answer["not_sent"]), (&json!(2), &json!(0)));
    server.stop();
}

#[test]
fn a_long_value_is_not_set_in_more_than_fit_into_memory() {
    let place = Place::new(SETTINGS);
    let server = place.start();
    let lines: Vec<String> =
        (0..400).map(|at| format!("wide,site=s{at} t=abc {TIME_NS}")).collect();
    assert_eq!(apply(&server, &lines.join("\n")).status, 400);
    let send = |bytes: usize, is_dry: bool| {
        let set = json!({"measure.t": 1.5, "measure.more:VARCHAR": "y".repeat(bytes)});
        let filter = json!({"table": "wide", "limit": 1000});
        let request = json!({"filter": filter, "set": set, "dry_run": is_dry}).to_string();
        post(&server, "/api/v1/rejects/resubmit", &[JSON], &request)
    };
    for is_dry in [true, false] {
        let reply = send(200 << 10, is_dry);
        assert_eq!(reply.status, 400, "{} bytes", reply.body.len());
        for part in ["400 rejections", "name fewer", "nothing was sent"] {
            assert!(reply.text().contains(part), "{part:?}: {}", reply.text());
        }
    }
    assert_eq!(listed(&server, "limit=1000").len(), 400);
    for (is_dry, outcome) in [(true, "would_be_stored"), (false, "stored")] {
        let answer = send(20 << 10, is_dry).json();
        assert_eq!(answer["stored"], 400, "{outcome}");
        assert_eq!(answer["results"][399]["outcome"], outcome);
    }
    server.stop();
}
