//! Promise: what a dry run says of a rejection is what becomes of it, for every state of the key that it would go to
//! and everything that can be set, whatever was acknowledged a moment before and wherever the engine keeps it.
//!
//! Method: many rejections of four kinds, each with a key of its own; before each its target key is brought into a
//! random state: absent, or with a lower, an equal or a higher version, with the same or another value, with
//! another attribute, or as a single value. Then each is asked about and sent with the same random corrections,
//! and outcome, reason and the version that stood are compared. `TIDEGATE_TEST_SEED` repeats a run.

#[path = "common/mod.rs"]
mod common;
#[path = "rejects_foreseen/limits.rs"]
mod limits;
#[path = "postgres/server.rs"]
#[expect(dead_code, reason = "other tests encrypt it, crash it and read its log")]
mod server;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use common::gateway::{Gateway, Place};
use common::random::Random;
use common::{tell, wait_for};

const TIME_NS: i64 = 1_793_491_200_000_000_001;
const JSON: (&str, &str) = ("Content-Type", "application/json");
const SETTINGS: &str = "[ingest]\nversion = \"_version\"\n[shards]\ncount = 2\n";

/// How soon a mark must stand once the engine is back, on a busy machine too.
const MARKED_MAX: Duration = Duration::from_mins(1);

/// Rejections of a round.
const CELLS: usize = 150;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A line that never was a record.
    Line,
    /// The same as JSON.
    Json,
    /// A record at version 5, where another value stands at 5.
    Record,
    /// The same of one value.
    Scalar,
}

/// One rejection, and what is done with it.
#[derive(Debug)]
struct Cell {
    kind: Kind,
    site: String,
    /// What is written to the key that it will go to: line protocol, or a scalar.
    state: Option<State>,
    set: Map<String, Json>,
}

#[derive(Debug)]
struct State {
    /// Another time, or another site, than the rejection's own.
    time_ns: i64,
    site: String,
    version: i64,
    value: Stands,
}

/// What stands.
#[derive(Debug)]
enum Stands {
    Multi(&'static str),
    Scalar(&'static str),
}

impl Cell {
    fn random(random: &mut Random, at: usize) -> Self {
        let kind = *random.pick(&[Kind::Line, Kind::Json, Kind::Record, Kind::Scalar]);
        let site = format!("s{at}");
        let mut set = Map::new();
        let (mut time_ns, mut target) = (TIME_NS, site.clone());
        match random.below(4) {
            0 => {
                time_ns += 1_000;
                set.insert("time".into(), json!(time_ns));
            }
            1 => {
                target = format!("t{at}");
                set.insert("dimension.site".into(), json!(target));
            }
            _ => {}
        }
        let versions = [
            None,
            Some(json!("next")),
            Some(json!("next")),
            Some(json!(4)),
            Some(json!(5)),
            Some(json!(6)),
            Some(json!(9)),
        ];
        if let Some(version) = random.pick(&versions) {
            set.insert("version".into(), version.clone());
        }
        // Never a record before, so that it needs a value.
        if matches!(kind, Kind::Line | Kind::Json) || random.is_one_of(30) {
            let name = if kind == Kind::Scalar && random.is_one_of(50) { "value" } else { "t" };
            set.insert(format!("measure.{name}"), json!(random.pick(&[1.0, 2.0])));
        }
        if random.is_one_of(10) && kind != Kind::Scalar {
            set.insert("measure.t:VARCHAR".into(), json!("warm"));
            set.remove("measure.t");
        }
        let version = *random.pick(&[3, 5, 8]);
        let value = match random.below(5) {
            0 => Stands::Multi("u=1"),
            1 => Stands::Scalar("2"),
            2 => Stands::Multi("t=2,u=3"),
            3 => Stands::Multi("t=2"),
            _ => Stands::Multi("t=1"),
        };
        let state = State { time_ns, site: target, version, value };
        let state = random.is_one_of(80).then_some(state);
        Self { kind, site, state, set }
    }
}

fn line(site: &str, fields: &str, version: i64, time_ns: i64) -> String {
    format!("cells,site={site} {fields},_version={version}i {time_ns}\n")
}

fn scalar(site: &str, value: &str, version: i64, time_ns: i64) -> Json {
    json!({"Dimensions": [{"Name": "site", "Value": site}], "MeasureName": "t", "MeasureValue": value,
        "MeasureValueType": "DOUBLE", "Time": time_ns.to_string(), "TimeUnit": "NANOSECONDS", "Version": version})
}

fn post(server: &Gateway, path: &str, headers: &[(&str, &str)], body: &str) -> Json {
    let reply = server.client().post(path, headers, body.as_bytes()).expect("it is answered");
    assert!(matches!(reply.status, 200 | 204 | 400 | 422), "{}", reply.text());
    if reply.text().is_empty() { Json::Null } else { reply.json() }
}

fn lines(server: &Gateway, body: &str, durability: &str) {
    let headers = [("X-Tidegate-Durability", durability)];
    post(server, "/api/v2/write?bucket=iot&precision=ns", &headers, body);
}

fn records(server: &Gateway, all: &[Json], durability: &str) {
    if all.is_empty() {
        return;
    }
    let body = json!({"DatabaseName": "iot", "TableName": "cells", "Records": all}).to_string();
    post(server, "/api/v1/write?db=iot", &[("X-Tidegate-Durability", durability), JSON], &body);
}

/// Provokes the rejections; their numbers by site.
fn refuse(server: &Gateway, cells: &[Cell]) -> BTreeMap<String, String> {
    let (mut first, mut first_scalars) = (String::new(), Vec::new());
    let (mut second, mut second_scalars, mut texts) = (String::new(), Vec::new(), Vec::new());
    for cell in cells {
        let site = &cell.site;
        match cell.kind {
            Kind::Line => second += &line(site, "t=abc", 5, TIME_NS),
            Kind::Json => texts.push(json!({"measurement": "cells", "tags": {"site": site},
                "fields": {"t": []}, "version": 5, "timestamp": TIME_NS})),
            Kind::Record => {
                first += &line(site, "t=1", 5, TIME_NS);
                second += &line(site, "t=2", 5, TIME_NS);
            }
            Kind::Scalar => {
                first_scalars.push(scalar(site, "1", 5, TIME_NS));
                second_scalars.push(scalar(site, "2", 5, TIME_NS));
            }
        }
    }
    lines(server, &first, "applied");
    records(server, &first_scalars, "applied");
    lines(server, &second, "applied");
    records(server, &second_scalars, "applied");
    let texts = Json::from(texts).to_string();
    post(
        server,
        "/api/v1/write?db=iot&precision=ns",
        &[("X-Tidegate-Durability", "applied"), JSON],
        &texts,
    );
    let reply = server.client().get("/api/v1/rejects?limit=1000").expect("a list").json();
    let mut ids = BTreeMap::new();
    for one in reply["rejections"].as_array().expect("a list") {
        let text = one["line"]
            .as_str()
            .map_or_else(|| one["record"]["Dimensions"].to_string(), str::to_owned);
        let site = cells.iter().map(|cell| &cell.site).find(|site| {
            let ends = [
                format!("site={site} "),
                format!("\"site\":\"{site}\""),
                format!("\"Value\":\"{site}\""),
            ];
            ends.iter().any(|end| text.contains(end))
        });
        let site = site.expect("what was refused was sent");
        ids.insert(site.clone(), one["id"].as_str().expect("a number").to_owned());
    }
    assert_eq!(ids.len(), cells.len(), "each is refused");
    ids
}

/// Brings the keys that the rejections go to into their states.
fn stage(server: &Gateway, cells: &[Cell], durability: &str) {
    let (mut body, mut scalars) = (String::new(), Vec::new());
    for State { time_ns, site, version, value } in
        cells.iter().filter_map(|cell| cell.state.as_ref())
    {
        match value {
            Stands::Multi(fields) => body += &line(site, fields, *version, *time_ns),
            Stands::Scalar(value) => scalars.push(scalar(site, value, *version, *time_ns)),
        }
    }
    lines(server, &body, durability);
    records(server, &scalars, durability);
}

fn asked(server: &Gateway, ids: &[&str], set: &Map<String, Json>, is_dry: bool) -> Json {
    let body = json!({"ids": ids, "set": set, "dry_run": is_dry}).to_string();
    let reply = server.client().post("/api/v1/rejects/resubmit", &[JSON], body.as_bytes());
    let reply = reply.expect("it is answered");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// What is promised of a result: outcome, reason, and what stood.
fn verdict(result: &Json) -> (String, String, Json) {
    let outcome = result["outcome"].as_str().expect("an outcome");
    let outcome = outcome.strip_prefix("would_be_").unwrap_or(outcome).to_owned();
    (outcome, result["reason"].to_string(), result["existing_version"].clone())
}

/// One round; how many cells ended in each way.
fn round(
    place: &Place,
    seed: u64,
    (durability, is_in_files): (&str, bool),
) -> BTreeMap<String, usize> {
    let mut random = Random::new(seed);
    let cells: Vec<Cell> = (0..CELLS).map(|at| Cell::random(&mut random, at)).collect();
    let mut server = place.start();
    let ids = refuse(&server, &cells);
    stage(&server, &cells, durability);
    if is_in_files {
        // A stop writes all that memory has into files.
        server.stop();
        server = place.start();
    }
    let mut ended = BTreeMap::new();
    let mut wrong = String::new();
    for cell in &cells {
        let id = [&*ids[&cell.site]];
        let dry = asked(&server, &id, &cell.set, true)["results"][0].clone();
        let real = asked(&server, &id, &cell.set, false)["results"][0].clone();
        let (foreseen, became) = (verdict(&dry), verdict(&real));
        if foreseen != became {
            writeln!(wrong, "{cell:?}:\n  said {dry}\n  became {real}").expect("a text");
        }
        *ended.entry(format!("{} {}", became.0, became.1)).or_default() += 1;
    }
    assert!(wrong.is_empty(), "seed {seed}, {durability}, in files {is_in_files}:\n{wrong}");
    server.stop();
    ended
}

#[test]
fn a_dry_run_says_what_becomes_of_it_in_every_state_of_the_key() {
    let seed = Random::seed_from("TIDEGATE_TEST_SEED");
    for (at, how) in [("applied", false), ("sync", false), ("memory", false), ("sync", true)]
        .into_iter()
        .enumerate()
    {
        let place = Place::new(SETTINGS);
        let seed = seed.wrapping_add(at as u64);
        let ended = round(&place, seed, how);
        tell(format!("foreseen, seed {seed}, {how:?}: {ended:?}"));
        let ways = [
            "stored null",
            "refused \"version_lower\"",
            "refused \"version_conflict\"",
            "refused \"type_conflict\"",
        ];
        for way in ways {
            assert!(
                ended.get(way).is_some_and(|count| *count >= 2),
                "{way} is hardly tried: {ended:?}"
            );
        }
    }
}

/// The same where the engine is a database elsewhere, which is asked for rows that it does not lock.
#[test]
fn a_dry_run_says_the_same_of_a_database_elsewhere() {
    let database = server::Server::new();
    let seed = Random::seed_from("TIDEGATE_TEST_SEED");
    let address = database.address();
    let place = Place::new(&format!(
        "{SETTINGS}[engine]\nkind = \"postgres\"\n[engine.postgres]\nhost = \"{}\"\nport = {}\n",
        address.ip(),
        address.port()
    ));
    let ended = round(&place, seed, ("sync", false));
    tell(format!("foreseen in PostgreSQL, seed {seed}: {ended:?}"));
    assert!(ended.len() >= 4, "{ended:?}");
}

/// All of a table with one correction, in one request: each meets what those before it leave.
#[test]
fn a_dry_run_of_many_counts_as_many_as_become_of_it() {
    let seed = Random::seed_from("TIDEGATE_TEST_SEED");
    let mut random = Random::new(seed);
    let place = Place::new(SETTINGS);
    let server = place.start();
    for set in [
        json!({"version": "next"}),
        json!({"version": 7}),
        json!({"version": 7, "dimension.site": "all"}),
    ] {
        let mut first = String::new();
        let mut second = String::new();
        for at in 0..300 {
            let site = format!("s{}", random.below(60));
            if at < 60 {
                first += &line(&format!("s{at}"), "t=0", 5, TIME_NS);
            }
            second += &line(&site, &format!("t={}", random.below(3)), 5, TIME_NS);
        }
        lines(&server, &first, "sync");
        lines(&server, &second, "sync");
        server.settle();
        let reply = server.client().get("/api/v1/rejects?limit=1000&order=oldest").unwrap().json();
        let found = reply["rejections"].as_array().unwrap().clone();
        let ids: Vec<&str> = found.iter().map(|one| one["id"].as_str().unwrap()).collect();
        let set = set.as_object().unwrap();
        let dry = asked(&server, &ids, set, true);
        let real = asked(&server, &ids, set, false);
        let verdicts = |answer: &Json| -> Vec<(String, String, Json)> {
            answer["results"].as_array().unwrap().iter().map(verdict).collect()
        };
        // A dry run holds its own records against each other over all of the request's frames, or says otherwise.
        let (said, became) = (verdicts(&dry), verdicts(&real));
        let wrong: Vec<_> =
            said.iter().zip(&became).filter(|(said, became)| said != became).collect();
        assert!(
            wrong.is_empty(),
            "seed {seed}, {set:?}: {} of {}: {:?}",
            wrong.len(),
            said.len(),
            &wrong[..1]
        );
        assert!(!ids.is_empty() && real["stored"].as_u64() > Some(0), "{set:?}");
    }
    server.stop();
}

/// What a way in refuses by a table's settings is foreseen by the same rules.
#[test]
fn what_the_way_in_would_refuse_is_foreseen() {
    let place = Place::new("");
    let server = place.start();
    let call = |operation: &str, body: Json| {
        let target = format!("Timestream_20181101.{operation}");
        let reply =
            server.client().post("/", &[("X-Amz-Target", &target)], body.to_string().as_bytes());
        assert_eq!(reply.unwrap().status, 200, "{operation}");
    };
    call("CreateDatabase", json!({"DatabaseName": "iot"}));
    call("CreateTable", json!({"DatabaseName": "iot", "TableName": "cells"}));
    lines(
        &server,
        &format!("cells,site=a t=abc {TIME_NS}\ncells,site=b t=abc {TIME_NS}\n"),
        "applied",
    );
    let found = server.client().get("/api/v1/rejects?order=oldest").unwrap().json();
    let id = [found["rejections"][0]["id"].as_str().expect("a number")];
    let now = jiff::Timestamp::now().as_nanosecond();
    for (set, reason) in [
        (json!({"measure.t": 1.5, "time": "2001-01-01T00:00:00Z"}), "\"time_outside_window\""),
        (
            json!({"measure.t:VARCHAR": "x".repeat(3_000), "time": now.to_string()}),
            "\"value_too_long\"",
        ),
        (json!({"measure.t": 1.5, "time": now.to_string()}), "null"),
    ] {
        let set = set.as_object().unwrap();
        let dry = asked(&server, &id, set, true)["results"][0].clone();
        let real = asked(&server, &id, set, false)["results"][0].clone();
        assert_eq!((verdict(&dry), &*verdict(&dry).1), (verdict(&real), reason), "{dry} {real}");
    }
    server.stop();
}

/// What is in the log is marked once the engine has it, and nobody else sends it meanwhile, though whoever asked
/// has given up; what is not in the log by then is not sent.
#[test]
fn what_is_under_way_is_held_and_marked_though_nobody_waits_for_it() {
    let mut database = server::Server::new();
    let address = database.address();
    let place = Place::new(&format!(
        "{SETTINGS}[server]\nrequest_timeout = \"2s\"\n[engine]\nkind = \"postgres\"\n\
         [engine.postgres]\nhost = \"{}\"\nport = {}\n",
        address.ip(),
        address.port()
    ));
    let server = place.start();
    // One more than are sent together.
    let all: Vec<_> = (0..=100).map(|at| line(&format!("s{at}"), "t=abc", 5, TIME_NS)).collect();
    lines(&server, &all.concat(), "applied");
    let found = server.client().get("/api/v1/rejects?order=oldest&limit=1000").unwrap().json();
    let found = found["rejections"].as_array().unwrap();
    let ids: Vec<_> = found.iter().map(|one| one["id"].as_str().expect("a number")).collect();
    assert_eq!(ids.len(), 101);
    database.stop();
    let send = |ids: &[&str], value: f64| {
        let body = json!({"ids": ids, "set": {"measure.t": value}}).to_string();
        server.client().post("/api/v1/rejects/resubmit", &[JSON], body.as_bytes()).unwrap()
    };
    let outcome = |id: &str, value: f64| {
        let reply = send(&[id], value);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["results"][0]["outcome"].as_str().expect("an outcome").to_owned()
    };
    // Of each there is a word before the time for an answer is over.
    let late = send(&ids, 2.5);
    assert_eq!(late.status, 200, "{}", late.text());
    let late = late.json();
    let counts = ["stored", "under_way", "not_sent"].map(|name| late[name].as_u64());
    assert_eq!(counts, [Some(0), Some(100), Some(1)], "{late}");
    let outcome_at = |at: usize| late["results"][at]["outcome"].as_str();
    assert_eq!([0, 100].map(outcome_at), [Some("under_way"), Some("not_sent")]);
    let appended = server.metric("tidegate_wal_appended_lsn");
    assert_eq!(outcome(ids[0], 3.5), "under_way");
    assert_eq!(server.metric("tidegate_wal_appended_lsn").to_bits(), appended.to_bits());
    database.start();
    let taken = wait_for("the mark", MARKED_MAX, || {
        let told = outcome(ids[0], 3.5);
        (told != "under_way").then_some(told)
    });
    assert_eq!((&*taken, &*outcome(ids[0], 2.5)), ("taken_otherwise", "resubmitted"));
    assert_eq!(database.sql("SELECT count(*) || ' ' || min(t) FROM iot.cells"), "100 2.5");
    assert_eq!(outcome(ids[100], 3.5), "stored");
    assert_eq!(database.sql("SELECT count(*) || ' ' || max(t) FROM iot.cells"), "101 3.5");
    server.stop();
}

const SECRET: &str = "wJalrXUtnFEMI";

/// A gateway whose engine is another one's API of Timestream.
fn before_timestream() -> (Place, Gateway, Place) {
    let upstream_place = Place::new(&format!(
        "[[auth.access_keys]]\nid = \"AKIDEXAMPLE\"\nsecret = \"{SECRET}\"\nwrite = [\"*\"]\nread = [\"*\"]\n\
         [ingest]\nversion = \"_version\"\n"
    ));
    let upstream = upstream_place.start();
    let place = Place::new("");
    std::fs::write(place.file("secret"), format!("{SECRET}\n")).expect("a file can be written");
    place.configure(&format!(
        "[engine]\nkind = \"timestream\"\n[engine.timestream]\nendpoint = \"http://{}\"\n\
         region = \"eu-central-1\"\naccess_key = \"AKIDEXAMPLE\"\nsecret_key_file = '{}'\n\
         [ingest]\nversion = \"_version\"\n",
        upstream.address,
        place.file("secret").display()
    ));
    (upstream_place, upstream, place)
}

/// Behind Timestream's API nobody can ask what stands: nothing is guessed, and the refusals themselves tell.
#[test]
fn of_an_engine_that_cannot_be_asked_nothing_is_foretold_and_next_gets_there_by_its_refusals() {
    let (_upstream_place, upstream, place) = before_timestream();
    let server = place.start();
    let now = jiff::Timestamp::now().as_second() - 60;
    let time_ns = now * 1_000_000_000;
    lines(&server, &line("a", "t=1", 7, time_ns), "applied");
    let texts = line("a", "t=abc", 1, time_ns) + &line("b", "t=abc", 1, time_ns);
    lines(&server, &texts, "applied");
    let found = server.client().get("/api/v1/rejects?order=oldest").unwrap().json();
    let ids: Vec<&str> = found["rejections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{found}");
    let of = |set: &Json, id: &str, is_dry: bool| {
        asked(&server, &[id], set.as_object().unwrap(), is_dry)["results"][0].clone()
    };
    let plain = json!({"measure.t": 2.5});
    let dry = of(&plain, ids[0], true);
    assert_eq!(dry["outcome"], "unknown", "{dry}");
    assert!(dry["message"].as_str().unwrap().contains("cannot be asked"), "{dry}");
    // What the way in refuses is known all the same.
    assert_eq!(of(&json!({"measure.t": "warm"}), ids[0], true)["outcome"], "would_be_refused");
    let next = json!({"measure.t": 2.5, "version": "next"});
    for is_dry in [true, false] {
        let told = of(&next, ids[0], is_dry);
        assert!(told["message"].as_str().unwrap().contains("write a number"), "{told}");
    }
    let ended = place.run(
        "rejects",
        &[
            "resubmit",
            "--url",
            &format!("http://{}", server.address),
            "--dry-run",
            ids[1],
            "--set",
            "measure.t=2.5",
        ],
    );
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.code() == Some(1) && told.contains("0 would be stored, 0 not, 1 unknown"),
        "{told}"
    );
    // A refusal tells what stands, and next is above it.
    let refused = of(&plain, ids[0], false);
    assert_eq!(
        (&refused["outcome"], &refused["existing_version"]),
        (&json!("refused"), &json!(7)),
        "{refused}"
    );
    assert_eq!(of(&next, ids[0], true)["sent"]["Version"], 8);
    assert_eq!(of(&next, ids[0], false)["outcome"], "stored");
    assert_eq!(of(&plain, ids[1], false)["outcome"], "stored");
    server.stop();
    upstream.stop();
}
