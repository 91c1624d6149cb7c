//! Promise: while the engine is away, whoever sends rejections again is told so soon, of each and in figures that
//! add up; what is in the log by then is executed and marked when the engine is back, and an empty list says whether
//! it is the last word.
//!
//! Method: a real PostgreSQL behind the gateway that is stopped, frozen and started again.

#[path = "common/mod.rs"]
mod common;
#[path = "postgres/server.rs"]
#[expect(dead_code, reason = "other tests encrypt it, crash it and read its log")]
mod server;

use std::process::Output;
use std::time::Duration;

use serde_json::{Value as Json, json};

use common::client::Reply;
use common::gateway::{Gateway, Place};
use common::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use tidegate::base::clock::{Clock, SystemClock};

const TIME_NS: i64 = 1_793_491_200_000_000_001;
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// Rejections of a run: one frame takes a hundred.
const COUNT: usize = 150;

/// What a request may take while the engine is away, on a busy machine: far less than `server.request_timeout`.
const SOON: Duration = Duration::from_secs(15);

/// How soon what is in the log is executed once the engine is back, on a busy machine too.
const BACK_MAX: Duration = Duration::from_mins(1);

fn before_postgres(database: &server::Server, settings: &str) -> Place {
    let address = database.address();
    Place::new(&format!(
        "{settings}[ingest]\nversion = \"_version\"\n[engine]\nkind = \"postgres\"\n[engine.postgres]\n\
         host = \"{}\"\nport = {}\n",
        address.ip(),
        address.port()
    ))
}

fn write(server: &Gateway, lines: &str, durability: &str) -> Reply {
    let headers = [("X-Tidegate-Durability", durability)];
    let path = "/api/v2/write?bucket=iot&precision=ns";
    server.client().post(path, &headers, lines.as_bytes()).expect("a write is answered")
}

/// So many lines that never were records.
fn refuse(server: &Gateway, count: usize) {
    let lines: Vec<String> =
        (0..count).map(|at| format!("cells,site=s{at} t=abc,_version=5i {TIME_NS}")).collect();
    assert_eq!(write(server, &lines.join("\n"), "applied").status, 400);
}

fn listed(server: &Gateway, query: &str) -> Json {
    let reply = server.client().get(&format!("/api/v1/rejects?{query}")).expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn open(server: &Gateway) -> Vec<String> {
    let found = listed(server, "order=oldest&limit=1000");
    let found = found["rejections"].as_array().expect("a list");
    found.iter().map(|one| one["id"].as_str().expect("a number").to_owned()).collect()
}

fn resubmit(server: &Gateway, request: &Json) -> Json {
    let body = request.to_string();
    let reply = server.client().post("/api/v1/rejects/resubmit", &[JSON], body.as_bytes());
    let reply = reply.expect("an answer");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}

/// What a command says, and its exit code; it must have come soon.
fn soon(place: &Place, arguments: &[&str]) -> (String, Option<i32>) {
    // It begins at zero.
    let clock = SystemClock::new();
    let output = place.run("rejects", arguments);
    let took = clock.monotonic();
    assert!(took < SOON, "{took:?}: {}", text(&output));
    (text(&output), output.status.code())
}

fn lines_with(told: &str, part: &str) -> usize {
    told.lines().filter(|line| line.contains(part)).count()
}

/// Nobody can send what is under way, in whatever way, and a dry run says so too.
fn is_held(server: &Gateway, id: &str) {
    let appended = server.metric("tidegate_wal_appended_lsn").to_bits();
    let other = json!({"ids": [id], "set": {"measure.t": 7}});
    for is_dry in [true, false] {
        let mut request = other.clone();
        request["dry_run"] = json!(is_dry);
        let answer = resubmit(server, &request);
        assert_eq!(
            (&answer["results"][0]["outcome"], &answer["under_way"]),
            (&json!("under_way"), &json!(1)),
            "{answer}"
        );
        assert!(answer["results"][0]["resubmitted_lsn"].is_u64(), "{answer}");
    }
    assert_eq!(
        server.metric("tidegate_wal_appended_lsn").to_bits(),
        appended,
        "nothing is sent twice"
    );
}

#[test]
fn what_is_in_the_log_is_told_of_each_and_is_marked_when_the_engine_is_back() {
    let mut database = server::Server::new();
    let place = before_postgres(&database, "");
    let server = place.start();
    refuse(&server, COUNT);
    let ids = open(&server);
    assert_eq!(ids.len(), COUNT);
    database.stop();
    let url = format!("http://{}", server.address);
    let all = ["resubmit", "--url", &url, "--all", "--set", "measure.t=2.5"];
    let (told, code) = soon(&place, &all);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("0 stored, 150 not (50 not sent, 100 under way)\n"), "{told}");
    assert_eq!(lines_with(&told, "\tunder_way\t"), 100, "{told}");
    for part in [
        "in the log as frame ",
        "and not executed yet: the engine does not serve: PostgreSQL",
        " since 20",
        &format!("`tidegate rejects show {}` tells then", ids[0]),
        "not_sent\tnot sent: the engine does not serve",
        "150 are not stored",
        "Nothing more was sent",
        "Give the same command again",
    ] {
        assert!(told.contains(part), "{part:?}: {told}");
    }
    // Once more: what is under way is told with its frame and not sent again, what was not sent comes behind it.
    let (told, code) = soon(&place, &all);
    assert!(told.contains("0 stored, 150 not (150 under way)\n"), "{told}");
    assert_eq!(
        (code, lines_with(&told, "an earlier request has put it into the log")),
        (Some(1), 100)
    );
    is_held(&server, &ids[0]);
    let page = listed(&server, "limit=1000");
    assert_eq!(page["under_way"].as_object().map(serde_json::Map::len), Some(COUNT), "{page}");
    let (list, _) = soon(&place, &["ls", "--url", &url, "--limit", "1000"]);
    assert_eq!(lines_with(&list, "\tunder_way\t"), COUNT, "{list}");
    let (shown, _) = soon(&place, &["show", "--url", &url, &ids[0]]);
    assert!(shown.contains("open: sent again in frame"), "{shown}");
    database.start();
    wait_for("the marks", BACK_MAX, || open(&server).is_empty().then_some(()));
    assert_eq!(database.sql("SELECT count(*) || ' ' || min(t) FROM iot.cells"), "150 2.5");
    let shown = text(&place.run("rejects", &["show", &ids[0]]));
    assert!(shown.contains("resubmitted: sent again in frame"), "{shown}");
    let (told, code) = soon(&place, &[&all[..3], &[&ids[0], "--set", "measure.t=2.5"]].concat());
    assert!(told.contains("0 stored, 0 not, 1 already taken") && code == Some(0), "{told}");
    server.stop();
}

#[test]
fn what_asks_for_the_next_version_is_not_sent_and_a_dry_run_says_that_nobody_knows() {
    let mut database = server::Server::new();
    let place = before_postgres(&database, "");
    let server = place.start();
    refuse(&server, COUNT);
    database.stop();
    let appended = server.metric("tidegate_wal_appended_lsn").to_bits();
    let url = format!("http://{}", server.address);
    let next =
        ["resubmit", "--url", &url, "--all", "--set", "measure.t=2.5", "--set", "version=next"];
    let (told, code) = soon(&place, &next);
    assert!(told.contains("0 stored, 150 not (150 not sent)\n") && code == Some(1), "{told}");
    assert!(told.contains("the engine cannot be asked just now"), "{told}");
    let (told, code) = soon(&place, &[&next[..], &["--dry-run"]].concat());
    assert!(told.contains("0 would be stored, 0 not, 150 unknown") && code == Some(1), "{told}");
    assert_eq!(server.metric("tidegate_wal_appended_lsn").to_bits(), appended);
    database.start();
    let (told, code) = soon(&place, &next);
    assert!(told.contains("150 stored, 0 not") && code == Some(0), "{told}");
    server.stop();
}

/// An engine that says nothing at all, not even that it is away.
#[test]
fn an_engine_that_does_not_answer_is_not_waited_for_until_nobody_waits_for_the_answer() {
    let mut database = server::Server::new();
    let place = before_postgres(&database, "[server]\nrequest_timeout = \"4s\"\n");
    let server = place.start();
    refuse(&server, 3);
    let freeze = |signal| {
        let pid = i32::try_from(database.pid()).ok().and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it is our child");
    };
    freeze(Signal::STOP);
    let url = format!("http://{}", server.address);
    let (told, code) =
        soon(&place, &["resubmit", "--url", &url, "--all", "--set", "measure.t=2.5"]);
    freeze(Signal::CONT);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("0 stored, 3 not (3 ") && told.contains("Nothing more was sent"),
        "{told}"
    );
    wait_for("the rest", BACK_MAX, || {
        let (told, code) =
            soon(&place, &["resubmit", "--url", &url, "--all", "--set", "measure.t=2.5"]);
        (code == Some(0)).then_some(told)
    });
    assert_eq!(database.sql("SELECT count(*) || ' ' || min(t) FROM iot.cells"), "3 2.5");
    database.stop();
    server.stop();
}

#[test]
fn an_empty_list_of_a_frame_says_whether_it_is_the_last_word() {
    let mut database = server::Server::new();
    let place = before_postgres(&database, "");
    let server = place.start();
    let good = write(&server, &format!("cells,site=good t=1 {TIME_NS}"), "applied");
    let good = good.header("x-tidegate-lsn").expect("a frame").to_owned();
    database.stop();
    let lines = format!("cells,site=a t=abc {TIME_NS}\ncells,site=b t=1 {TIME_NS}");
    let reply = write(&server, &lines, "sync");
    assert_eq!(reply.status, 400, "{}", reply.text());
    let link = reply.header("x-tidegate-rejects").expect("a link").to_owned();
    let lsn: u64 = reply.json()["lsn"].as_u64().expect("a frame");
    let at = |path: &str| server.client().get(path).expect("an answer").json();
    // The engine finds out that it is away.
    let page = wait_for("the engine to be away", BACK_MAX, || {
        let page = at(&link);
        let message = page["frame"]["message"].as_str().expect("a message").to_owned();
        message.contains("PostgreSQL").then_some(page)
    });
    assert_eq!(
        (&page["rejections"], &page["frame"]["state"], &page["frame"]["lsn"]),
        (&json!([]), &json!("not_executed"), &json!(lsn))
    );
    let message = page["frame"]["message"].as_str().expect("a message");
    assert!(message.starts_with(&format!("frame {lsn} is not executed yet")), "{message}");
    let beyond = at(&format!("/api/v1/rejects?lsn={}", lsn + 100));
    assert_eq!(beyond["frame"]["state"], "not_given", "{beyond}");
    assert!(
        beyond["frame"]["message"].as_str().is_some_and(|told| told.contains("no such frame yet"))
    );
    let well = at(&format!("/api/v1/rejects?lsn={good}"));
    assert_eq!(well["frame"]["state"], "executed", "{well}");
    let told = well["frame"]["message"].as_str().expect("a message");
    assert_eq!(told, format!("frame {good} is executed, and nothing of it was refused"));
    let url = format!("http://{}", server.address);
    let number = lsn.to_string();
    let ls = |arguments: &[&str]| text(&place.run("rejects", &[&["ls"][..], arguments].concat()));
    assert!(ls(&["--lsn", &number, "--url", &url]).contains("is not executed yet"));
    assert!(ls(&["--lsn", &number]).contains("may not be executed yet"));
    let beyond = ls(&["--lsn", "4000"]);
    assert!(beyond.contains(&format!("no such frame yet: the last one is {lsn}")), "{beyond}");
    database.start();
    let page = wait_for("the refusal", BACK_MAX, || {
        Some(at(&link)).filter(|page| page["rejections"] != json!([]))
    });
    let id = page["rejections"][0]["id"].as_str().expect("a number").to_owned();
    // What was sent again is no longer in the list, and not nowhere.
    let stored = resubmit(&server, &json!({"ids": [id], "set": {"measure.t": 1.5}}));
    assert_eq!(stored["stored"], 1, "{stored}");
    let page = at(&link);
    assert_eq!((&page["rejections"], &page["frame"]["state"]), (&json!([]), &json!("executed")));
    assert!(
        page["frame"]["message"].as_str().is_some_and(|told| told.contains("state=all")),
        "{page}"
    );
    assert_eq!(at(&format!("{link}&state=all"))["rejections"][0]["id"], json!(id));
    assert!(ls(&["--lsn", &number]).contains("--all"));
    server.stop();
    assert!(ls(&["--lsn", &good]).contains("nothing of it was refused"));
    let none = ls(&["--lsn", "0"]);
    assert!(none.contains("counted from 1"), "{none}");
}
