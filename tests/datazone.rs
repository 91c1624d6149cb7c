//! Promise: `DataZone`'s clients, unmodified, post, list, get and delete time series data points. What was
//! posted is durable, found at once and exported as every record is; what was deleted is gone from
//! everywhere, and a client token holds across `kill -9`.
//!
//! What clients see is asked by boto3, which `tests/run.sh` installs; the scripts are in
//! `tests/datazone`. Without it these tests fail.

#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::client::Reply;
use common::gateway::{Gateway, Place};
use common::random::Random;
use common::{tell, wait_for};
use tidegate::base::clock::{Clock, SystemClock};

/// The keys and tokens of `signed.py`.
const WHO: &str = r#"
[[auth.access_keys]]
id = "AKIDEXAMPLE"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
read = ["*"]
write = ["*"]

[[auth.access_keys]]
id = "AKIDWRITER"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
write = ["_datazone"]

[[auth.access_keys]]
id = "AKIDREADER"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
read = ["_datazone"]

[[auth.access_keys]]
id = "AKIDOTHER"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
read = ["fleet"]
write = ["fleet"]

[[auth.tokens]]
name = "reads"
token = "reads"
read = ["_datazone"]

[[auth.tokens]]
name = "elsewhere"
token = "elsewhere"
read = ["fleet"]
write = ["fleet"]
"#;

/// How often the server is killed amid posts and deletes.
const KILLS: u64 = 6;

/// Longest time until boto3 is loaded and has been answered, on a busy machine.
const SCRIPT_MAX: Duration = Duration::from_mins(2);

/// One of the scripts, as a command.
fn script(server: &Gateway, script: &str, more: &[&str]) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var_os("TIDEGATE_TEST_PYTHON")
        .map_or_else(|| top.join("tests/.tools/python/bin/python"), PathBuf::from);
    assert!(python.exists(), "there is no {}: tests/run.sh installs it", python.display());
    let mut command = Command::new(python);
    command.current_dir(top.join("tests/datazone"));
    // Settings of whoever runs the tests are not the clients' business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command.args([script, &format!("http://{}", server.address)]).args(more);
    command
}

/// Runs one of the scripts to its end, which must be good, and tells what it told.
fn run(server: &Gateway, name: &str, more: &[&str]) {
    let mut command = script(server, name, more);
    let output = command.output().expect("a command that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    tell(format!("datazone: {}", String::from_utf8_lossy(&output.stdout).trim_end()));
}

#[test]
fn boto3_runs_every_operation_and_meets_every_constraint_at_its_bounds() {
    let place = Place::new("");
    run(&place.start(), "operations.py", &[]);
}

#[test]
fn signatures_are_verified_and_scopes_hold() {
    let place = Place::new(WHO);
    run(&place.start(), "signed.py", &[]);
}

#[test]
fn entities_points_and_tokens_are_those_that_the_settings_allow() {
    let settings =
        "[datazone]\nentities = [\"dzd_3xyz-ABC/ASSET/listed\"]\npoints_max = 3\ntokens_max = 3";
    let place = Place::new(settings);
    run(&place.start(), "settings.py", &[]);
}

#[test]
fn tokens_points_and_deletes_survive_kill_9() {
    let place = Place::new("");
    let ledger = place.file("answers.json");
    let ledger = ledger.to_str().expect("the build folder has a name in UTF-8");
    let server = place.start();
    run(&server, "crash.py", &["before", ledger]);
    server.kill();
    // Once from the log, and once from files and log, since nothing is written between the two.
    let server = place.start();
    run(&server, "crash.py", &["after", ledger]);
    server.stop();
    let server = place.start();
    run(&server, "crash.py", &["after", ledger]);
    server.kill();
    run(&place.start(), "crash.py", &["after", ledger]);
}

/// Goal: whenever the process dies, each answered Post is there, whole and once, and nothing of what an
/// answered Delete removed. Method: four clients post and delete in forms of their own, with small
/// flushes and compactions beside them; after each kill all forms are held against what was answered,
/// what was under way is done again with its token, and the storm goes on.
#[test]
fn answered_posts_and_deletes_hold_whenever_the_process_is_killed() {
    let seed = Random::seed_from("TIDEGATE_TEST_SEED");
    tell(format!("TIDEGATE_TEST_SEED={seed}"));
    let mut random = Random::new(seed);
    let place = Place::new(
        "[engine.embedded]\nflush_bytes = \"1 MiB\"\nflush_interval = \"500ms\"\ncompact_files = 2",
    );
    let ledger = place.file("ledger.json");
    let path = ledger.to_str().expect("the build folder has a name in UTF-8");
    std::fs::write(&ledger, "").expect("the test's folder can be written");
    let answered = || {
        let text = std::fs::read(&ledger).expect("the ledger is there");
        memchr::memmem::find_iter(&text, "\"ids\"").count() as u64
    };
    for round in 0..KILLS {
        let server = place.start();
        let before = answered();
        let mut storm = script(&server, "storm.py", &["storm", path, &format!("{seed}.{round}")]);
        let mut storm = storm.spawn().expect("a command that tests/run.sh installs");
        let until = before + random.within(20..400);
        wait_for("clients to be answered", SCRIPT_MAX, || {
            let ended = storm.try_wait().expect("it is our child");
            assert!(ended.is_none(), "round {round}: {ended:?}");
            (answered() >= until).then_some(())
        });
        server.kill();
        let ended = storm.wait().expect("it is our child");
        assert!(ended.success(), "round {round}: {ended}");
    }
    run(&place.start(), "storm.py", &["check", path, &format!("{seed}.end")]);
}

#[test]
fn ten_thousand_points_are_listed_without_gap_or_double_while_others_post() {
    // Small flushes, so that the list crosses memory, files and compactions.
    let place = Place::new("[engine.embedded]\nflush_bytes = \"1 MiB\"\nflush_interval = \"1s\"");
    run(&place.start(), "pages.py", &[]);
}

fn export(server: &Gateway, table: &str) -> String {
    let path = format!("/api/v1/export?db=_datazone&table={table}&format=json");
    let reply = server.client().get(&path).expect("an export is answered");
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    reply.text()
}

#[test]
fn a_delete_leaves_nothing_of_the_form_and_nothing_else_touched() {
    let place = Place::new("[engine.embedded]\nflush_interval = \"500ms\"\ncompact_files = 2");
    let server = place.start();
    // A part of it in files, a part in memory.
    run(&server, "erased.py", &["post", "20"]);
    let files_have = |text: &str| {
        let has = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            memchr::memmem::find(&bytes, text.as_bytes()).is_some()
        };
        place.files("tables", ".parquet").iter().any(has)
    };
    // Statistics of a column are not compressed: the least form and the greatest are seen in any file.
    wait_for("the first flush", Duration::from_mins(1), || files_have("goes-away").then_some(()));
    run(&server, "erased.py", &["delete", "40"]);
    let rows = export(&server, "points");
    let of = |begin: &str| rows.lines().filter(|line| line.contains(begin)).count();
    assert_eq!(of("left.goes-away."), 0, "{rows}");
    let others = ["left.stays-here.", "right.goes-away.", "right.stays-here."];
    assert_eq!(others.map(of), [40; 3], "{rows}");
    let erased = "end an erasure";
    assert_eq!(server.log().count(erased), 0);
    wait_for("the erasure to be carried out", Duration::from_mins(1), || {
        (server.log().count("erased") > 0).then_some(())
    });
    assert_eq!(export(&server, "points"), rows);
    server.kill();
    let server = place.start();
    assert_eq!(export(&server, "points"), rows);
}

#[test]
fn other_ways_in_are_kept_out_of_the_gateways_own_database() {
    let place = Place::new("");
    let server = place.start();
    run(&server, "erased.py", &["post", "20"]);
    let before = export(&server, "points");
    let send = |target: &str, headers: &[(&str, &str)], body: &str| {
        let reply = server.client().post(target, headers, body.as_bytes());
        reply.expect("every request is answered")
    };
    let point = "points,domain=d,entity=e,entity_type=ASSET,form=f,id=i content=\"x\" 1";
    for path in
        ["/write?db=_datazone", "/api/v2/write?bucket=_datazone", "/api/v3/write_lp?db=_datazone"]
    {
        let reply = send(path, &[], point);
        assert_eq!(reply.status, 403, "{path}");
        assert!(reply.text().contains("gateway's own"), "{path}: {}", reply.text());
    }
    let json = r#"{"DatabaseName":"_datazone","TableName":"points","Records":[{"Dimensions":[{"Name":"id","Value":"i"}],"MeasureName":"m","MeasureValue":"1","Time":"1"}]}"#;
    let reply = send("/api/v1/write", &[("Content-Type", "application/json")], json);
    assert!(reply.text().contains("gateway's own"), "{}", reply.text());
    for query in ["DROP DATABASE _datazone", "CREATE DATABASE _datazone", "DROP MEASUREMENT points"]
    {
        let path = format!("/query?db=_datazone&q={}", query.replace(' ', "%20"));
        assert_eq!(send(&path, &[], "").status, 403, "{query}");
    }
    for (operation, body) in [
        ("WriteRecords", json),
        ("DeleteTable", r#"{"DatabaseName":"_datazone","TableName":"points"}"#),
        ("UpdateTable", r#"{"DatabaseName":"_datazone","TableName":"points"}"#),
        ("CreateTable", r#"{"DatabaseName":"_datazone","TableName":"mine"}"#),
        ("DeleteDatabase", r#"{"DatabaseName":"_datazone"}"#),
    ] {
        let target = format!("Timestream_20181101.{operation}");
        let reply = send("/", &[("X-Amz-Target", &target)], body);
        assert_eq!(reply.status, 403, "{operation}: {}", reply.text());
        assert!(reply.text().contains("gateway's own"), "{operation}: {}", reply.text());
    }
    assert_eq!(export(&server, "points"), before);
}

const POINTS: &str = "/v2/domains/dzd_a/entities/ASSET/e/time-series-data-points";

/// Posts what no SDK would send, or faster than one would.
fn post(server: &Gateway, body: &str) -> Reply {
    let reply = server.client().post(POINTS, &[], body.as_bytes());
    reply.expect("every request is answered")
}

/// The body of a Post of forms at these times.
fn forms(times: impl Iterator<Item = i64>) -> String {
    let form = |time| {
        format!(r#"{{"formName":"f","typeIdentifier":"t","timestamp":{time},"content":""}}"#)
    };
    format!(r#"{{"forms":[{}]}}"#, times.map(form).collect::<Vec<_>>().join(","))
}

#[test]
fn metrics_count_the_points_that_were_posted_and_not_what_is_kept_beside_them() {
    let place = Place::new("");
    let server = place.start();
    let body = forms(1_700_000_000..1_700_000_005).replacen('{', r#"{"clientToken":"once","#, 1);
    for _ in 0..2 {
        let reply = post(&server, &body);
        assert_eq!(reply.status, 201, "{}", reply.text());
    }
    for name in ["tidegate_ingest_records_total", "tidegate_ingest_decoded_records_total"] {
        assert_eq!(server.metric(name).to_string(), "5", "{name}");
    }
    server.stop();
}

fn assert_invalid(reply: &Reply, word: &str) {
    let kind = reply.header("x-amzn-errortype");
    assert_eq!((reply.status, kind), (400, Some("ValidationException")), "{}", reply.text());
    assert!(reply.text().contains(word), "{}", reply.text());
}

/// Goal: memory is bounded by what was admitted, whatever a body is made of. Method: bodies of many times
/// more members than are taken, which would be a gigabyte once read; the peak of the process.
#[test]
fn a_body_of_any_shape_takes_bounded_memory() {
    let place = Place::new("");
    let server = place.start();
    assert_eq!(post(&server, &forms(0..1_000)).status, 201);
    assert_invalid(&post(&server, &forms(0..1_001)), "less than or equal to 1000");
    let before = server.peak_bytes() >> 20;
    assert_invalid(&post(&server, &forms(0..300_000)), "[300000 forms]");
    let numbers = vec!["0"; 5_000_000].join(",");
    let odd = r#"{"forms":[{"formName":"f","typeIdentifier":"t","timestamp":["#;
    assert_invalid(&post(&server, &format!("{odd}{numbers}]}}]}}")), "timestamp");
    let grown = (server.peak_bytes() >> 20).saturating_sub(before);
    tell(format!("datazone: {grown} MiB more for bodies of 20 MB and 10 MB"));
    assert!(grown < 150, "{grown} MiB");
}

#[test]
fn posts_at_the_same_time_store_no_more_points_than_there_may_be() {
    const MAX: usize = 100;
    let place = Place::new(&format!("[datazone]\npoints_max = {MAX}"));
    let server = place.start();
    let body = forms(0..3);
    let one = || {
        let statuses: Vec<u16> = (0..8).map(|_| post(&server, &body).status).collect();
        assert!(statuses.iter().all(|status| matches!(status, 201 | 402)), "{statuses:?}");
        statuses.iter().filter(|status| **status == 201).count()
    };
    let taken: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..24).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().expect("no thread panics")).sum()
    });
    assert_eq!(taken, MAX / 3, "each of 3 points");
    assert_eq!(export(&server, "points").lines().count(), taken * 3);
    assert_eq!(post(&server, &forms(0..2)).status, 402);
    assert_eq!(post(&server, &forms(0..1)).status, 201);
}

#[test]
fn a_point_that_is_older_than_points_are_kept_is_refused() {
    let place = Place::new("[datazone]\nretention_days = 30");
    let server = place.start();
    let now_s = SystemClock::new().wall_ns() / 1_000_000_000;
    let day = 24 * 3600;
    for (days, is_alive) in [(0, true), (29, true), (30, false), (10_000, false), (-1, true)] {
        let reply = post(&server, &forms([now_s, now_s - days * day].into_iter()));
        if is_alive {
            assert_eq!(reply.status, 201, "{days}: {}", reply.text());
        } else {
            assert_invalid(&reply, "'forms.2.member.timestamp'");
            assert_invalid(&reply, "datazone.retention_days");
        }
    }
    let path = format!("{POINTS}?formName=f");
    let listed = server.client().get(&path).expect("a list is answered").json();
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(6), "{listed}");
}

/// Two databases in one log: what a client of `DataZone` posted is told and left out, the rest is sent.
#[test]
fn a_replay_leaves_out_points_and_sends_the_rest() {
    let source = Place::new("[wal]\nretain_for = \"1h\"");
    let server = source.start();
    server.write("iot", "weather,site=a t=1.5 1700000000000000001");
    assert_eq!(post(&server, &forms(0..5)).status, 201);
    server.write("iot", "weather,site=a t=2.5 1700000000000000002");
    server.settle();
    let rows = server.export("iot", "weather");
    server.stop();
    let place = Place::new("");
    let target = place.start();
    let url = format!("http://{}", target.address);
    // Five points and the entity; no token was sent.
    let told = "left out   6 records of the gateway's own database";
    for more in [&["--dry-run"][..], &[]] {
        let output = source.run("wal", &[&["replay", "--to", &url][..], more].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{more:?}: {text}{complaints}");
        assert!(text.contains(told) && text.contains("3 records"), "{more:?}: {text}");
    }
    assert_eq!(target.export("iot", "weather"), rows);
}

/// Goal: what an export or a compaction takes is bounded by bytes and not by rows. Method: rows of a
/// megabyte, many times what is decoded at a time; the peak of a process that reads them only.
#[test]
fn long_texts_are_compacted_and_exported_in_bounded_memory() {
    const POSTS: usize = 28;
    const EACH: usize = 28;
    let settings = |compact_files: usize| {
        format!(
            "[engine.embedded]\nflush_bytes = \"64 MiB\"\nflush_interval = \"500ms\"\n\
             compact_files = {compact_files}"
        )
    };
    let place = Place::new(&settings(64));
    let server = place.start();
    // As many as a content may have, of two bytes each.
    let filler = "\u{e9}".repeat(499_990);
    for number in 0..POSTS {
        let form = |at| {
            format!(
                r#"{{"formName":"f","typeIdentifier":"t","timestamp":{at},"content":"{at:010}{filler}"}}"#
            )
        };
        let all: Vec<_> = (0..EACH).map(|at| form(number * EACH + at)).collect();
        let reply = post(&server, &format!(r#"{{"forms":[{}]}}"#, all.join(",")));
        assert_eq!(reply.status, 201, "{}", String::from_utf8_lossy(&reply.body[..200]));
    }
    server.stop();
    let files = || place.files("tables", ".parquet").len();
    let before = files();
    assert!(before > 3, "there are files to compact");
    place.configure(&settings(2));
    let server = place.start();
    let begun = server.peak_bytes() >> 20;
    wait_for("a compaction", Duration::from_mins(1), || (files() < before).then_some(()));
    let compacted = (server.peak_bytes() >> 20).saturating_sub(begun);
    let target = "/api/v1/export?db=_datazone&table=points&format=json";
    let bytes = server.client().get(target).expect("an export is answered").body.len();
    assert!(bytes > POSTS * EACH * 999_990, "all of it: {bytes}");
    let exported = (server.peak_bytes() >> 20).saturating_sub(begun);
    tell(format!(
        "of {} MiB of texts a compaction takes {compacted} MiB, and an export after it {exported}",
        bytes >> 20
    ));
    // In a debug build a compaction takes 170 to 550 MiB, and half as many texts cost an export as much, 450 to
    // 630 MiB; with windows counted by bytes on the disk it took 1,160 MiB.
    assert!(compacted < 720 && exported < 900, "{compacted} MiB, {exported} MiB");
}
