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

use common::gateway::{Gateway, Place};
use common::{tell, wait_for};

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

/// Runs one of the scripts to its end, which must be good, and tells what it told.
fn run(server: &Gateway, script: &str, more: &[&str]) {
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
        assert_eq!(send(path, &[], point).status, 403, "{path}");
    }
    let json = r#"{"DatabaseName":"_datazone","TableName":"points","Records":[{"Dimensions":[{"Name":"id","Value":"i"}],"MeasureName":"m","MeasureValue":"1","Time":"1"}]}"#;
    let reply = send("/api/v1/write?db=other", &[("Content-Type", "application/json")], json);
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
    }
    assert_eq!(export(&server, "points"), before);
}
