//! Promise: what was refused is found where the answer says, mended, and sent again; what was taken is no longer
//! open, what was not stays open once, and nobody sees or sends what is not theirs.

#[path = "common/mod.rs"]
mod common;

use std::process::Output;
use std::time::Duration;

use serde_json::{Value as Json, json};

use common::client::Reply;
use common::gateway::{Gateway, Place};
use common::rows::Value;
use common::wait_for;
use tidegate::record::Reason;

const REPORT_MAX: Duration = Duration::from_secs(30);
const TIME_NS: i64 = 1_793_491_200_000_000_001;
const APPLIED: (&str, &str) = ("X-Tidegate-Durability", "applied");
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn apply(server: &Gateway, database: &str, lines: &str) -> Reply {
    let path = format!("/api/v2/write?bucket={database}&precision=ns");
    server.client().post(&path, &[APPLIED], lines.as_bytes()).expect("a write is answered")
}

/// What a list shows.
fn listed(server: &Gateway, query: &str) -> Vec<Json> {
    let reply = server.client().get(&format!("/api/v1/rejects?{query}")).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()["rejections"].as_array().expect("a list").clone()
}

fn ids(found: &[Json]) -> Vec<String> {
    found.iter().map(|one| one["id"].as_str().expect("a number").to_owned()).collect()
}

fn resubmit(server: &Gateway, request: &Json) -> Json {
    let body = request.to_string();
    let reply = server
        .client()
        .post("/api/v1/rejects/resubmit", &[JSON], body.as_bytes())
        .expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// A conflict of two values of one record, refused by the engine; its number.
fn conflict(server: &Gateway, site: &str) -> String {
    assert_eq!(apply(server, "iot", &format!("weather,site={site} t=21.5 {TIME_NS}")).status, 204);
    let reply = apply(server, "iot", &format!("weather,site={site} t=22.5 {TIME_NS}"));
    let link = reply.header("x-tidegate-rejects").expect("a refusal carries its link").to_owned();
    assert_eq!(reply.json()["rejects"], link, "{}", reply.text());
    let found = server.client().get(&link).expect("an answer").json();
    let found = found["rejections"].as_array().expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]["id"].as_str().expect("a number").to_owned()
}

fn text(output: &Output) -> String {
    let all = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy);
    all.concat()
}

fn values(server: &Gateway, table: &str) -> Vec<String> {
    server.export("iot", table).values().map(|row| format!("{:?}", row.fields)).collect()
}

#[test]
fn a_conflict_is_found_by_its_link_mended_and_stored() {
    let place = Place::new("");
    let server = place.start();
    let id = conflict(&server, "a");
    let one = server.client().get(&format!("/api/v1/rejects/{id}")).unwrap().json();
    assert_eq!((&one["reason"], &one["state"]), (&json!("version_conflict"), &json!("open")));
    assert_eq!(one["stood"], json!([{"Name": "t", "Value": "21.5", "Type": "DOUBLE"}]));
    assert_eq!(one["record"]["MeasureValues"][0]["Value"], "22.5");
    assert_eq!((&one["suggested"], &one["existing_version"]), (&json!("version=2"), &json!(1)));
    let answer = resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}}));
    assert_eq!((&answer["stored"], &answer["refused"]), (&json!(1), &json!(0)), "{answer}");
    assert!(values(&server, "weather")[0].contains("22.5"), "{:?}", values(&server, "weather"));
    assert!(listed(&server, "").is_empty());
    let all = listed(&server, "state=all");
    assert_eq!((ids(&all), &all[0]["state"]), (vec![id.clone()], &json!("resubmitted")));
    // Again, by whoever did not hear the answer.
    let answer = resubmit(&server, &json!({"ids": [id], "set": {"version": "next"}}));
    assert_eq!(answer["results"][0]["outcome"], "resubmitted");
    server.stop();
}

/// What a crash between the write and the mark leaves: the record is stored, the rejection open.
#[test]
fn a_crash_before_the_mark_leaves_it_open_and_sending_it_again_is_harmless() {
    let place = Place::new("");
    let server = place.start();
    let id = conflict(&server, "a");
    let request = json!({"ids": [id], "set": {"version": 2}});
    assert_eq!(resubmit(&server, &request)["stored"], 1);
    let before = values(&server, "weather");
    server.kill();
    let marks = place.files("rejects/resubmitted", ".json");
    assert_eq!(marks.len(), 1);
    std::fs::remove_file(&marks[0]).unwrap();
    let server = place.start();
    assert_eq!(ids(&listed(&server, "")), [id]);
    assert_eq!(resubmit(&server, &request)["stored"], 1);
    assert_eq!(values(&server, "weather"), before);
    assert!(listed(&server, "").is_empty());
    assert_eq!(place.files("rejects/resubmitted", ".json").len(), 1);
    server.stop();
}

/// Goal: where no mark can be made, whoever sends is told so, of what was refused too. Method: a folder has the name
/// that the next mark would have.
#[test]
fn what_cannot_be_marked_is_told_so_and_stays_open() {
    let place = Place::new("");
    let server = place.start();
    let id = conflict(&server, "a");
    let send = |version: u64| {
        let set = json!({"version": version, "measure.t": 7.5});
        resubmit(&server, &json!({"ids": [id], "set": set}))["results"][0].clone()
    };
    assert_eq!(send(1)["outcome"], "refused");
    let first = place.files("rejects/resubmitted", ".json").remove(0);
    let name = first.file_stem().and_then(|name| name.to_str()).expect("a number");
    let lsn: u64 = name.parse().expect("a number");
    let width = name.len();
    for at in 1..=2 {
        let next = first.with_file_name(format!("{:0width$}.json", lsn + at));
        std::fs::create_dir_all(next.join("in the way")).unwrap();
    }
    for (version, outcome) in [(1, "refused"), (2, "stored")] {
        let told = send(version);
        assert_eq!(told["outcome"], outcome, "{told}");
        let message = told["message"].as_str().expect("a message");
        for part in ["not marked", "changes nothing", "version=next"] {
            assert!(message.contains(part), "{part:?}: {message}");
        }
        // The refusal of the other frame is one of its own, as it says.
        assert_eq!(message.contains("listed as a rejection of its own"), outcome == "refused");
        assert!(ids(&listed(&server, "")).contains(&id), "it stays open");
    }
    assert_eq!(listed(&server, "").len(), 2);
    let before = values(&server, "weather");
    assert_eq!(
        (&send(2)["outcome"], &send(2)["outcome"]),
        (&json!("stored"), &json!("resubmitted"))
    );
    assert_eq!(values(&server, "weather"), before);
    assert!(!ids(&listed(&server, "")).contains(&id), "it is marked by now");
    server.stop();
}

/// The frames are executed again by others, who report them under other names.
#[test]
fn another_number_of_shards_after_a_crash_shows_each_rejection_once() {
    let place = Place::new("[shards]\ncount = 1\n");
    let server = place.start();
    for site in 0..20 {
        conflict(&server, &format!("s{site}"));
    }
    let before = ids(&listed(&server, "limit=1000"));
    assert_eq!(before.len(), 20);
    server.kill();
    place.configure("[shards]\ncount = 3\n");
    let server = place.start();
    server.settle();
    assert_eq!(ids(&listed(&server, "limit=1000")), before);
    let objects = place.files("rejects/records", ".json").len();
    assert!(objects > 1, "the replay reported some again, under other names: {objects}");
    server.stop();
}

#[test]
fn what_is_refused_again_stays_open_once() {
    let place = Place::new("");
    let server = place.start();
    let id = conflict(&server, "a");
    for _ in 0..3 {
        let answer = resubmit(&server, &json!({"ids": [id]}));
        let result = &answer["results"][0];
        assert_eq!((&answer["refused"], &result["outcome"]), (&json!(1), &json!("refused")));
        assert_eq!(result["reason"], "version_conflict", "{answer}");
    }
    assert_eq!(ids(&listed(&server, "")), [&*id]);
    let again = listed(&server, "state=again");
    assert_eq!(again.len(), 3, "kept with their own frames: {again:?}");
    // What the way in refuses is not written at all.
    let request = json!({"ids": [id], "set": {"measure.t": "warm"}});
    let before = server.metric("tidegate_wal_appended_lsn").to_bits();
    assert_eq!(resubmit(&server, &request)["refused"], 1);
    assert_eq!(server.metric("tidegate_wal_appended_lsn").to_bits(), before);
    server.stop();
}

#[test]
fn a_refused_line_is_mended_as_a_line_and_keeps_its_time_of_receipt() {
    let place = Place::new("");
    let server = place.start();
    let reply = apply(&server, "iot", "weather,site=a t=abc\nweather,site=b t=1");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let open = wait_for("the line", REPORT_MAX, || {
        let open = listed(&server, "kind=line&table=weather&db=iot");
        (!open.is_empty()).then_some(open)
    });
    let (id, received) = (&open[0]["id"], open[0]["received"].as_str().unwrap().to_owned());
    let dry = json!({"ids": [id], "line": "weather,site=a t=1.5", "dry_run": true});
    let answer = resubmit(&server, &dry);
    assert_eq!(answer["results"][0]["outcome"], "would_be_stored", "{answer}");
    assert_eq!(answer["results"][0]["sent"]["MeasureValues"][0]["Value"], "1.5");
    assert_eq!(server.export("iot", "weather").len(), 1, "a dry run writes nothing");
    assert_eq!(
        resubmit(&server, &json!({"ids": [id]}))["refused"],
        1,
        "as it is it is wrong still"
    );
    let answer = resubmit(&server, &json!({"ids": [id], "line": "weather,site=a t=1.5"}));
    assert_eq!(answer["stored"], 1, "{answer}");
    let rows = server.export("iot", "weather");
    let key = rows.keys().find(|key| key.tags["site"] == "a").expect("it is stored");
    let received: jiff::Timestamp = received.parse().unwrap();
    assert_eq!(i128::from(key.time_ns), received.as_nanosecond());
    // JSON in the words that it came in.
    let body = json!({"measurement": "weather", "tags": {"site": "c"}, "fields": {"t": []}, "timestamp": 1});
    let reply =
        server.client().post("/api/v1/write?db=iot", &[JSON, APPLIED], body.to_string().as_bytes());
    assert_eq!(reply.unwrap().status, 400);
    let id = ids(&listed(&server, "kind=line"))[0].clone();
    let mended = body.to_string().replace("[]", "7.5");
    let answer = resubmit(&server, &json!({"ids": [id], "line": mended, "precision": "s"}));
    assert_eq!(answer["stored"], 1, "{answer}");
    assert!(server.export("iot", "weather").keys().any(|key| key.time_ns == 1_000_000_000));
    server.stop();
}

#[test]
fn all_that_a_filter_finds_is_sent_page_by_page_and_in_order() {
    let place = Place::new("");
    let server = place.start();
    let lines = |value: u32| -> String {
        let line = |site: u32| format!("weather,site=s{site} t={value} {TIME_NS}");
        (0..250).map(line).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(apply(&server, "iot", &lines(1)).status, 204);
    assert_eq!(apply(&server, "iot", &lines(2)).status, 400);
    assert_eq!(apply(&server, "iot", &lines(3)).status, 400);
    let mut request =
        json!({"filter": {"reason": "version_conflict", "limit": 120}, "set": {"version": "next"}});
    let (mut stored, mut refused, mut pages) = (0, 0, 0);
    loop {
        let answer = resubmit(&server, &request);
        stored += answer["stored"].as_u64().unwrap();
        refused += answer["refused"].as_u64().unwrap();
        pages += 1;
        if answer["next"].is_null() {
            break;
        }
        request["filter"]["after"] = answer["next"].clone();
    }
    // The first of each site is stored as version 2; the second comes behind it, and above it.
    assert_eq!((stored, refused), (500, 0), "in {pages} pages");
    assert!(pages >= 5);
    let rows = server.export("iot", "weather");
    assert!(rows.values().all(|row| row.version == 3 && row.fields["t"] == Value::Double(3.0)));
    assert!(listed(&server, "limit=1000").is_empty());
    server.stop();
}

#[test]
fn nobody_sees_or_sends_what_is_not_theirs() {
    let token = |name: &str, read: &str, write: &str| {
        format!(
            "[[auth.tokens]]\nname = {name:?}\ntoken = {name:?}\nread = [{read}]\nwrite = [{write}]\n"
        )
    };
    let settings = [
        token("root", "\"*\"", "\"*\""),
        token("reader", "\"iot\"", ""),
        token("other", "\"other\"", "\"other\", \"iot\""),
    ];
    let place = Place::new(&settings.concat());
    let server = place.start();
    let ask = |name: &str, method: &str, target: &str, body: &str| {
        let bearer = format!("Bearer {name}");
        let headers = [("Authorization", bearer.as_str()), APPLIED];
        server.client().request(method, target, &headers, body.as_bytes()).unwrap()
    };
    for (database, line) in [("iot", "weather t=abc"), ("other", "weather t=abc")] {
        let reply = ask("root", "POST", &format!("/write?db={database}"), line);
        assert_eq!(reply.status, 400);
    }
    let seen = |name: &str| -> Vec<String> {
        let all = ask(name, "GET", "/api/v1/rejects", "").json();
        let all = all["rejections"].as_array().unwrap().iter();
        all.map(|one| one["database"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen("root"), ["other", "iot"]);
    assert_eq!((seen("reader"), seen("other")), (vec!["iot".to_owned()], vec!["other".to_owned()]));
    assert_eq!(ask("reader", "GET", "/api/v1/rejects?db=other", "").status, 403);
    // What an empty list of a frame means is said of what they may read.
    let theirs = ask("root", "GET", "/api/v1/rejects?db=other", "").json();
    let lsn = &theirs["rejections"][0]["lsn"];
    let frame = ask("reader", "GET", &format!("/api/v1/rejects?lsn={lsn}"), "").json();
    let told = frame["frame"]["message"].as_str().unwrap();
    assert!(told.contains("nothing that you may read was refused"), "{frame}");
    assert_eq!(ask("nobody", "GET", "/api/v1/rejects", "").status, 401);
    let all = ask("root", "GET", "/api/v1/rejects?db=iot", "").json();
    let id = all["rejections"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(ask("other", "GET", &format!("/api/v1/rejects/{id}"), "").status, 404);
    let body = json!({"ids": [id], "line": "weather t=1"}).to_string();
    for (name, outcome) in [("other", "not_found"), ("reader", "forbidden"), ("root", "stored")] {
        let reply = ask(name, "POST", "/api/v1/rejects/resubmit", &body);
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["results"][0]["outcome"], outcome, "{name}");
    }
    // A mended text may not lead into another's database.
    let id = {
        let all = ask("root", "GET", "/api/v1/rejects?db=other", "").json();
        all["rejections"][0]["id"].as_str().unwrap().to_owned()
    };
    let elsewhere = json!({"database": "root", "measurement": "m", "fields": {"x": 1}});
    let body = json!({"ids": [id], "line": elsewhere.to_string()}).to_string();
    let reply = ask("other", "POST", "/api/v1/rejects/resubmit", &body);
    assert_eq!(reply.json()["results"][0]["reason"], "forbidden", "{}", reply.text());
    server.stop();
}

#[test]
fn every_way_in_links_what_it_refused() {
    let place = Place::new("");
    let server = place.start();
    let mut client = server.client();
    for path in [
        "/write?db=iot",
        "/api/v2/write?bucket=iot",
        "/api/v3/write_lp?db=iot",
        "/api/v1/write?db=iot",
    ] {
        let headers = [APPLIED, ("Content-Type", "text/plain")];
        let reply = client.post(path, &headers, b"weather,site=a t=abc").unwrap();
        let lsn = reply.header("x-tidegate-lsn").expect("a frame keeps it").to_owned();
        let link = format!("/api/v1/rejects?lsn={lsn}");
        assert_eq!(reply.header("x-tidegate-rejects"), Some(link.as_str()), "{path}");
        assert_eq!(reply.json()["rejects"], link, "{path}: {}", reply.text());
        let found = client.get(&link).unwrap().json();
        assert_eq!(found["rejections"][0]["lsn"].to_string(), lsn, "{path}: {found}");
    }
    // What the engine finds after the answer is found by the answer's LSN.
    assert_eq!(apply(&server, "iot", &format!("weather,site=b t=1 {TIME_NS}")).status, 204);
    let reply = server.write("iot", &format!("weather,site=b t=2 {TIME_NS}"));
    assert_eq!(reply.header("x-tidegate-rejects"), None);
    let lsn = reply.header("x-tidegate-lsn").unwrap().to_owned();
    server.settle();
    assert_eq!(listed(&server, &format!("lsn={lsn}"))[0]["reason"], "version_conflict");
    // Amazon's API, whose body is Amazon's.
    let target = |operation: &str| ("X-Amz-Target", format!("Timestream_20181101.{operation}"));
    let mut call = |operation: &str, body: &Json| {
        let (name, value) = target(operation);
        client.post("/", &[(name, value.as_str())], body.to_string().as_bytes()).unwrap()
    };
    let record = |value: &str| {
        json!({"DatabaseName": "iot", "TableName": "weather", "Records": [{
            "Dimensions": [{"Name": "site", "Value": "c"}], "MeasureName": "t", "MeasureValue": value,
            "MeasureValueType": "DOUBLE", "Time": TIME_NS.to_string(), "TimeUnit": "NANOSECONDS"}]})
    };
    assert_eq!(call("WriteRecords", &record("1")).status, 200);
    let reply = call("WriteRecords", &record("2"));
    assert_eq!(reply.status, 419, "{}", reply.text());
    let link = reply.header("x-tidegate-rejects").expect("a refusal carries its link").to_owned();
    let found = server.client().get(&link).unwrap().json();
    assert_eq!(found["rejections"][0]["record"]["MeasureValue"], "2.0", "{found}");
    server.stop();
}

#[test]
fn what_is_asked_wrongly_is_told_what_would_be_right() {
    let place = Place::new("");
    let server = place.start();
    let id = conflict(&server, "a");
    for (query, word) in
        [("reason=bad", "version_conflict"), ("limit=0", "1 to 1000"), ("after=x", "next")]
    {
        let reply = server.client().get(&format!("/api/v1/rejects?{query}")).unwrap();
        assert!(reply.status == 400 && reply.text().contains(word), "{}", reply.text());
    }
    for path in ["/api/v1/rejects/1-1", "/api/v1/rejects/none", "/api/v1/rejects/..%2f"] {
        assert_eq!(server.client().get(path).unwrap().status, 404, "{path}");
    }
    for (body, word) in [
        (json!({}), "ids or filter"),
        (json!({"ids": []}), "1 to 1000"),
        (json!({"ids": [id], "filter": {}}), "ids or filter"),
        (json!({"ids": [id], "sets": {}}), "unknown field"),
        (json!({"ids": [id], "set": {"vision": 1}}), "there are version"),
        (json!({"ids": [id], "format": "csv"}), "line or json"),
        (json!({"ids": [id], "precision": "days"}), "use n"),
        (json!({"filter": {"state": "all"}}), "there are reason"),
        (json!([1]), "send"),
    ] {
        let reply = server
            .client()
            .post("/api/v1/rejects/resubmit", &[JSON], body.to_string().as_bytes())
            .unwrap();
        assert!(reply.status == 400 && reply.text().contains(word), "{body}: {}", reply.text());
    }
    let answer = resubmit(&server, &json!({"ids": ["9-9", "x", id, id], "dry_run": true}));
    let outcomes: Vec<&Json> =
        answer["results"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["not_found", "not_found", "would_be_refused"], "{answer}");
    server.stop();
}

/// `ls` and `show`, beside the server or by it: an ordinary rejection, and one with a text that would turn
/// the terminal's line around.
fn lists_and_shows(place: &Place, from: &[&str], (id, hostile): (&str, &str)) {
    let listed = place.run("rejects", &[&["ls", "--table", "weather"][..], from].concat());
    let told = text(&listed);
    assert!(listed.status.success() && told.lines().count() == 3, "{told}");
    assert!(told.contains(id) && told.contains("version_conflict"), "{told}");
    let shown = place.run("rejects", &[&["show", id][..], from].concat());
    let told = text(&shown);
    for part in ["sent 22.5 (DOUBLE)   stood 21.5 (DOUBLE)", "stood 1, sent 1", "--set version=2"] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let all =
        place.run("rejects", &[&["ls", "--format", "json", "--limit", "1"][..], from].concat());
    let one: Json = serde_json::from_slice(&all.stdout).expect("one object");
    assert_eq!(one["record"]["Dimensions"][0]["Value"], "b\u{202e}x");
    assert!(!told.contains('\u{202e}') && told.contains("site=a"), "{told}");
    let other = place.run("rejects", &[&["show", hostile][..], from].concat());
    let told = text(&other);
    assert!(!told.contains('\u{202e}') && told.contains("site=b\\u{202e}x"), "{told}");
    let absent = place.run("rejects", &[&["show", "9-9"][..], from].concat());
    assert_eq!(absent.status.code(), Some(1), "{}", text(&absent));
    let wrong = place.run("rejects", &[&["ls", "--reason", "bad"][..], from].concat());
    assert!(
        wrong.status.code() == Some(2) && text(&wrong).contains("type_conflict"),
        "{}",
        text(&wrong)
    );
}

#[test]
fn the_commands_list_show_and_send_again() {
    let place = Place::new("");
    let none = place.run("rejects", &["ls"]);
    assert_eq!(none.status.code(), Some(1), "there is no sink: {}", text(&none));
    let server = place.start();
    let id = conflict(&server, "a");
    let hostile = conflict(&server, "b\u{202e}x");
    let url = format!("http://{}", server.address);
    // Beside the server, and by it.
    for from in [&[][..], &["--url", &url]] {
        lists_and_shows(&place, from, (&id, &hostile));
    }
    let send = |arguments: &[&str]| {
        place.run("rejects", &[&["resubmit", "--url", &url][..], arguments].concat())
    };
    let dry = send(&["--all", "--dry-run", "--set", "version=next"]);
    assert!(
        dry.status.success() && text(&dry).contains("2 would be stored, 0 not"),
        "{}",
        text(&dry)
    );
    let again = send(&[&id]);
    assert_eq!(again.status.code(), Some(1), "{}", text(&again));
    assert!(text(&again).contains("refused\tversion_conflict"), "{}", text(&again));
    let all = send(&["--all", "--reason", "version_conflict", "--set", "version=next"]);
    assert!(all.status.success() && text(&all).contains("2 stored, 0 not"), "{}", text(&all));
    for wrong in [&["--all", "--set", "version"][..], &[][..], &[&id, "--table", "t"], &["x"]] {
        assert_eq!(send(wrong).status.code(), Some(2), "{wrong:?}");
    }
    server.stop();
    let listed = place.run("rejects", &["ls"]);
    assert!(
        listed.status.success() && text(&listed).contains("nothing refused is open"),
        "{}",
        text(&listed)
    );
    let unreachable = send(&["--all"]);
    assert_eq!(unreachable.status.code(), Some(1), "{}", text(&unreachable));
}

/// Many that are named by their numbers are not loaded into memory that is not there.
#[test]
fn what_is_loaded_is_within_the_memory_for_requests() {
    let small = "[server]\nbody_bytes_max = \"1 MiB\"\ninflated_bytes_max = \"1 MiB\"\n\
                 [ingest]\nversion = \"_version\"\nmemory_bytes_max = \"2 MiB\"\nadmit_wait = \"0ms\"\n";
    let place = Place::new(small);
    let server = place.start();
    let long = "x".repeat(400 << 10);
    for site in 0..8 {
        let line = format!("large,site=s{site} text=\"{long}\",t=abc {TIME_NS}");
        assert_eq!(apply(&server, "iot", &line).status, 400);
    }
    let found = listed(&server, "order=oldest");
    let ids: Vec<&str> = found.iter().map(|one| one["id"].as_str().expect("a number")).collect();
    assert_eq!(ids.len(), 8);
    for is_dry in [true, false] {
        let request = json!({"ids": ids, "set": {"measure.t": 1.5}, "dry_run": is_dry});
        let path = "/api/v1/rejects/resubmit";
        let reply = server.client().post(path, &[JSON], request.to_string().as_bytes()).unwrap();
        // What can never be loaded is not to be tried again later.
        assert_eq!(reply.status, 413, "{:.300}", reply.text());
        assert!(reply.text().contains("(ingest.memory_bytes_max): send less at once"));
    }
    assert_eq!(listed(&server, "order=oldest").len(), 8, "nothing was sent");
    for some in ids.chunks(2) {
        let answer = resubmit(&server, &json!({"ids": some, "set": {"measure.t": 1.5}}));
        assert_eq!(answer["stored"], 2, "{answer}");
    }
    assert!(server.metric("tidegate_ingest_in_flight_bytes") < 1.0, "all of it is given back");
    server.stop();
}

/// The list is closed: code, meaning and remedy in the README are those of the code, and so are the labels of the
/// metric.
#[test]
fn the_readme_lists_every_reason_and_no_other() {
    let rows: Vec<String> = include_str!("../README.md")
        .lines()
        .skip_while(|line| !line.starts_with("| code | means"))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(str::to_owned)
        .collect();
    let expected: Vec<String> = Reason::ALL
        .iter()
        .map(|reason| {
            format!("| `{}` | {} | {} |", reason.code(), reason.meaning(), reason.remedy())
        })
        .collect();
    assert_eq!(rows, expected);
    let place = Place::new("");
    let metrics = place.start().client().get("/metrics").unwrap().text();
    for name in ["tidegate_reject_records_total", "tidegate_ingest_refused_records_total"] {
        let labels = metrics.lines().filter_map(|line| line.strip_prefix(name)?.split('"').nth(1));
        let mut labels: Vec<&str> = labels.collect();
        let mut codes: Vec<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        labels.sort_unstable();
        codes.sort_unstable();
        assert_eq!(labels, codes, "{name}");
    }
}
