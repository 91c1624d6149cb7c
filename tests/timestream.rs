//! Promise: clients of Amazon Timestream's write API, unmodified, cannot tell the difference: every
//! operation, the truth table of versions, what is refused and how, limits, signatures, repetitions; and
//! a catalog that survives `kill -9`.
//!
//! What clients see is asked by their own SDKs, boto3 of today and of 2023 and the SDK for JavaScript,
//! which `tests/run.sh` installs, and the one for Rust, which the test builds; the scripts are in
//! `tests/timestream`. Without them these tests fail.

#[path = "common/mod.rs"]
mod common;
#[path = "timestream/catalog.rs"]
mod catalog;
#[path = "timestream/many.rs"]
mod many;
#[path = "timestream/wire.rs"]
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::gateway::{Gateway, Place};
use common::tell;

/// The keys of `signed.py`.
const ACCESS_KEYS: &str = r#"
[[auth.access_keys]]
id = "AKIDEXAMPLE"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
read = ["*"]
write = ["*"]

[[auth.access_keys]]
id = "AKIDWRITER"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
write = ["mine"]

[[auth.access_keys]]
id = "AKIDREADER"
secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
read = ["mine"]
"#;

/// An interpreter that `tests/run.sh` installs, or the one that `variable` names.
fn interpreter(variable: &str, installed: &str) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::var_os(variable)
        .map_or_else(|| top.join("tests/.tools").join(installed), PathBuf::from);
    assert!(
        program.exists(),
        "there is no {}: tests/run.sh installs what this test needs",
        program.display()
    );
    let mut command = Command::new(program);
    command.current_dir(top.join("tests/timestream"));
    // Settings of whoever runs the tests are not the clients' business.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    command
}

fn python() -> Command {
    interpreter("TIDEGATE_TEST_PYTHON", "python/bin/python")
}

fn python_of_2023() -> Command {
    interpreter("TIDEGATE_TEST_PYTHON_2023", "python-2023/bin/python")
}

/// Runs a client to its end, which must be good, and tells what it told.
fn run(command: &mut Command) {
    let output = command.output().expect("a command that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    tell(format!("timestream: {}", String::from_utf8_lossy(&output.stdout).trim_end()));
}

fn url(server: &Gateway) -> String {
    format!("http://{}", server.address)
}

#[test]
fn boto3_of_today_and_of_2023_run_every_operation_by_url_and_by_discovery() {
    let place = Place::new("");
    let server = place.start();
    run(python().args(["operations.py", &url(&server), "today"]));
    run(python_of_2023().args(["operations.py", &url(&server), "past"]));
    let discover = |command: &mut Command, database| {
        run(command
            .args(["operations.py", "discover", database])
            .env("AWS_ENDPOINT_URL", url(&server)));
    };
    discover(&mut python(), "found");
    discover(&mut python_of_2023(), "found-2023");
}

#[test]
fn the_truth_table_of_versions_holds_and_repetitions_hear_the_first_answer() {
    let server = Place::new("[ingest]\nversion = \"arrival\"");
    let server = server.start();
    run(python().args(["truth.py", &url(&server)]));
}

#[test]
fn requests_and_records_are_refused_as_amazon_refuses_them_and_limits_hold_at_their_bounds() {
    let place = Place::new("");
    let server = place.start();
    run(python().args(["refusals.py", &url(&server)]));
    server.stop();
    let reports = place.files("rejects", ".json");
    let is_of_table = |path: &&PathBuf| path.to_string_lossy().contains("late-reports");
    assert!(
        reports.iter().any(|path| is_of_table(&path)),
        "the late conflict's report: {reports:?}"
    );
}

#[test]
fn awswrangler_writes_data_frames_and_reads_rejections() {
    let place = Place::new("");
    run(python().args(["wrangler.py", &url(&place.start())]));
}

#[test]
fn signatures_are_verified_and_scopes_hold() {
    let place = Place::new(ACCESS_KEYS);
    run(python().args(["signed.py", &url(&place.start())]));
}

#[test]
fn what_is_signed_for_a_foreign_region_or_service_is_refused() {
    let place = Place::new(&format!("[auth]\nregion = \"eu-west-1\"\n{ACCESS_KEYS}"));
    let server = place.start();
    run(python().args(["signed.py", &url(&server), "home"]));
    run(python_of_2023().args(["signed.py", &url(&server), "home-2023"]));
}

#[test]
fn sdks_whose_connections_break_hear_the_answer_of_the_first_attempt() {
    let place = Place::new("");
    let server = place.start();
    run(python().args(["again.py", &url(&server), "today"]));
    run(python_of_2023().args(["again.py", &url(&server), "past"]));
    let node = interpreter("TIDEGATE_TEST_NODE", "node").get_program().to_owned();
    run(python().args(["again.py", &url(&server), "javascript"]).arg(node).arg("again.mjs"));
    // Ten calls of each, of two records, every one of them repeated.
    let counted = ["tidegate_ingest_records_total", "tidegate_api_repeated_writes_total"];
    assert_eq!(counted.map(|name| server.metric(name).to_string()), ["60", "30"]);
}

#[test]
fn the_sdk_for_javascript_runs_every_operation_by_url_and_by_discovery() {
    let place = Place::new("");
    let server = place.start();
    let node = || {
        let mut command = interpreter("TIDEGATE_TEST_NODE", "node");
        command.arg("operations.mjs");
        command
    };
    run(node().args([&url(&server), "by-url"]));
    run(node().args(["discover", "found"]).env("AWS_ENDPOINT_URL_TIMESTREAM_WRITE", url(&server)));
}

#[test]
fn the_sdk_for_rust_runs_every_operation() {
    let place = Place::new("");
    let server = place.start();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/timestream/rust/Cargo.toml");
    // Beside the build that this test is of, not in the client's own folder, so that it is kept with it.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("timestream-rust");
    let mut build = Command::new(env!("CARGO"));
    build.args(["run", "--locked", "--quiet", "--manifest-path"]).arg(manifest);
    build.arg("--target-dir").arg(target).args(["--", &url(&server)]);
    run(&mut build);
}

#[test]
fn the_load_generators_records_are_all_taken() {
    let place = Place::new("");
    let server = place.start();
    let mut load = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    load.args(["load", "--url", &url(&server), "--protocol", "timestream", "--batch", "100"]);
    // It ends with 1 when a request is refused or a record rejected.
    run(load.args(["--connections", "2", "--series", "60", "--lines", "2000"]));
}
