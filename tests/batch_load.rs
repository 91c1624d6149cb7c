//! Promise: batch loads. boto3 drives all four operations, with sources in a directory and in a server that
//! speaks S3's protocol; sources that are not well end in the right status, counts and report; a task that
//! is killed at any moment goes on, and every row is counted once.
//!
//! The clients are installed by `tests/run.sh`; their scripts are in `tests/batch_load`.

#[path = "common/mod.rs"]
mod common;
#[path = "batch_load/killed.rs"]
mod killed;
#[path = "batch_load/memory.rs"]
mod memory;

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use common::azurite::Azurite;
use common::gateway::{Gateway, Place};
use common::{tell, wait_for};

/// Longest time until the S3 server answers, on a busy machine.
const S3_START_MAX: Duration = Duration::from_mins(2);

fn python() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::var_os("TIDEGATE_TEST_PYTHON")
        .map_or_else(|| top.join("tests/.tools/python/bin/python"), PathBuf::from);
    assert!(program.exists(), "there is no {}: tests/run.sh installs it", program.display());
    program
}

/// Runs a script to its end, which must be good.
fn run(script: &str, server: &Gateway, buckets: &str) {
    run_on(script, &format!("http://{}", server.address), buckets);
}

fn run_on(script: &str, url: &str, place: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/batch_load");
    let mut command = Command::new(python());
    command.current_dir(folder).args([script, url, place]);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("an interpreter that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {}: {complaints}", output.status);
    tell(format!("batch load: {}", String::from_utf8_lossy(&output.stdout).trim_end()));
}

fn in_directory(place: &Place) -> String {
    let buckets = place.file("buckets").display().to_string();
    place.configure(&format!("[batch_load]\nurl = {buckets:?}\n"));
    buckets
}

/// A server that speaks S3's protocol. Killed when dropped.
struct S3 {
    child: Child,
    url: String,
}

impl S3 {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(environment: &[(&str, &str)]) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("there is a free port");
        let child = Command::new(python())
            .envs(environment.iter().copied())
            .args(["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto, which tests/run.sh installs");
        let s3 = Self { child, url: format!("http://{address}") };
        wait_for("the S3 server to answer", S3_START_MAX, || TcpStream::connect(address).ok());
        s3
    }

    /// Settings of a gateway whose buckets are there.
    fn configure(&self, place: &Place) {
        configure(place, &self.url);
    }
}

/// Settings of a gateway whose buckets are at `url`.
fn configure(place: &Place, url: &str) {
    let secret = place.file("secret");
    fs::write(&secret, "test\n").expect("a file can be written");
    let secret = secret.display().to_string();
    place.configure(&format!(
        "[batch_load]\nurl = \"s3://\"\nretry_for = \"100ms\"\n\
         [object]\nendpoint = {url:?}\naccess_key_id = \"test\"\nsecret_access_key_file = {secret:?}\n"
    ));
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn boto3_loads_from_a_directory_and_every_bad_source_ends_as_it_must() {
    let place = Place::new("");
    let buckets = in_directory(&place);
    run("operations.py", &place.start(), &buckets);
}

#[test]
fn boto3_loads_from_s3_and_every_bad_source_ends_as_it_must() {
    let (place, s3) = (Place::new(""), S3::start());
    s3.configure(&place);
    run("operations.py", &place.start(), &s3.url);
}

#[test]
fn a_source_that_is_away_stops_a_task_which_is_resumed() {
    let place = Place::new("");
    let mut s3 = S3::start();
    s3.configure(&place);
    let server = place.start();
    run("away.py", &server, &s3.url);
    s3.child.kill().expect("it runs");
    s3.child.wait().expect("it runs");
    run("stopped.py", &server, &s3.url);
}

/// The kernel takes the connections and the requests; nobody ever reads them.
#[test]
fn a_source_that_never_answers_stops_a_task_in_time() {
    let place = Place::new("");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = silent.local_addr().expect("it is bound");
    configure(&place, &format!("http://{address}"));
    run("silent.py", &place.start(), "-");
}

/// The server checks signatures and policies from the seventh request on; the gateway's key may use the
/// bucket of the reports alone.
#[test]
fn a_bucket_that_is_denied_fails_its_task_and_the_report_says_so() {
    let place = Place::new("");
    let s3 = S3::start_with(&[("INITIAL_NO_AUTH_ACTION_COUNT", "6")]);
    let folder = place.file("s3");
    fs::create_dir_all(&folder).expect("a folder can be made");
    let shown = folder.display().to_string();
    run_on("guard.py", &s3.url, &shown);
    let key = fs::read_to_string(folder.join("key")).expect("the script wrote it");
    let secret = folder.join("secret").display().to_string();
    place.configure(&format!(
        "[batch_load]\nurl = \"s3://\"\nretry_for = \"100ms\"\n\
         [object]\nendpoint = {:?}\naccess_key_id = {key:?}\nsecret_access_key_file = {secret:?}\n",
        s3.url
    ));
    run("denied.py", &place.start(), &shown);
}

#[test]
fn awswrangler_loads_what_it_has_put_into_s3() {
    let (place, s3) = (Place::new(""), S3::start());
    s3.configure(&place);
    run("wrangler.py", &place.start(), &s3.url);
}

#[test]
fn boto3_loads_from_azure_and_the_report_is_there_too() {
    let (place, azurite) = (Place::new(""), Azurite::start());
    let store = azurite.settings(&place);
    place.configure(&format!("[batch_load]\nurl = \"az://\"\nretry_for = \"100ms\"\n{store}"));
    run("in_azure.py", &place.start(), &format!("azure+{}", azurite.url));
}

#[test]
fn active_tasks_are_bounded_and_a_request_that_is_repeated_after_a_restart_is_the_same_task() {
    let place = Place::new("");
    let mut s3 = S3::start();
    s3.configure(&place);
    s3.child.kill().expect("it runs");
    s3.child.wait().expect("it runs");
    // Sources that are away hold the tasks up, so that they stay active.
    let settings = fs::read_to_string(place.file("config.toml")).expect("it was written");
    place.configure(&settings.replace("100ms", "1h"));
    let server = place.start();
    run("bounds.py", &server, &s3.url);
    server.kill();
    run("again.py", &place.start(), &s3.url);
}

/// A file of so many rows, and its model.
fn files(place: &Place, rows: u64) -> (String, String) {
    let mut text = String::from("time,host,v\n");
    for at in 0..rows {
        writeln!(text, "{},h{},{at}.5", 1_700_000_000_000 + at, at % 10).expect("it is a String");
    }
    let folder = place.file("in");
    fs::create_dir_all(&folder).expect("a folder can be made");
    fs::write(folder.join("rows.csv"), text).expect("a file can be written");
    let model = place.file("model.json");
    fs::write(
        &model,
        r#"{"TimeColumn":"time","DimensionMappings":[{"SourceColumn":"host"}],
            "MultiMeasureMappings":{"TargetMultiMeasureName":"rows","MultiMeasureAttributeMappings":[
                {"SourceColumn":"v","MeasureValueType":"DOUBLE"}]}}"#,
    )
    .expect("a file can be written");
    (folder.join("rows.csv").display().to_string(), model.display().to_string())
}

fn load(place: &Place, source: &str, model: &str, more: &[&str]) -> Output {
    let mut arguments = vec!["--source", source, "--model", model, "--database", "hist"];
    arguments.extend(["--table", "rows"]);
    arguments.extend(more);
    place.run("batch-load", &arguments)
}

#[test]
fn the_command_loads_into_a_folder_and_its_exit_code_tells_how_it_ended() {
    let place = Place::new("");
    let (source, model) = files(&place, 1_000);
    let loaded = load(&place, &source, &model, &[]);
    assert_eq!(loaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert!(String::from_utf8_lossy(&loaded.stdout).contains("\"RecordsIngested\": 1000"));
    assert_eq!(place.exported("hist", "rows").len(), 1_000);
    let bad = fs::read_to_string(&source).expect("it was written") + "x,h,1\n";
    fs::write(&source, bad).expect("a file can be written");
    let failed = load(&place, &source, &model, &["--record-version", "2"]);
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(told.contains("rows.csv line 1002: column \"time\" is no time"), "{told}");
    let misspelt = place.file("misspelt.json");
    let text =
        fs::read_to_string(&model).expect("it was written").replace("TimeColumn", "TimeColum");
    fs::write(&misspelt, text).expect("a file can be written");
    for (source, model, more) in [
        ("none.csv", model.as_str(), &[][..]),
        (&source, "none.json", &[]),
        (&source, &misspelt.display().to_string(), &[]),
        (&source, &model, &["--separator", "#"]),
    ] {
        assert_eq!(load(&place, source, model, more).status.code(), Some(2), "{source} {more:?}");
    }
}

#[test]
fn the_command_asks_a_running_server() {
    let place = Place::new("");
    let buckets = PathBuf::from(in_directory(&place));
    let (source, model) = files(&place, 500);
    fs::create_dir_all(buckets.join("source")).expect("a folder can be made");
    fs::copy(source, buckets.join("source/rows.csv")).expect("a file can be copied");
    let server = place.start();
    server.write("hist", "rows,host=a v=1 1");
    let url = format!("http://{}", server.address);
    let loaded = load(&place, "s3://source/rows", &model, &["--url", &url]);
    assert_eq!(loaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&loaded.stderr));
    assert_eq!(server.export("hist", "rows").len(), 501);
    let failed = load(&place, "s3://source/none", &model, &["--url", &url]);
    assert_eq!(failed.status.code(), Some(1));
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        told.contains("BUCKET/KEY of the server's batch_load.url: the bucket \"source\""),
        "{told}"
    );
}

#[test]
fn the_command_makes_the_table_that_a_server_lacks_and_takes_no_path_for_a_bucket() {
    let place = Place::new("");
    let buckets = PathBuf::from(in_directory(&place));
    let (source, model) = files(&place, 500);
    fs::create_dir_all(buckets.join("source")).expect("a folder can be made");
    fs::copy(&source, buckets.join("source/rows.csv")).expect("a file can be copied");
    let server = place.start();
    let url = format!("http://{}", server.address);
    for version in ["1", "2"] {
        let more = ["--url", &url, "--record-version", version];
        let loaded = load(&place, "source/rows.csv", &model, &more);
        assert_eq!(loaded.status.code(), Some(0), "{}", String::from_utf8_lossy(&loaded.stderr));
    }
    assert_eq!(server.export("hist", "rows").len(), 500);
    let refused = load(&place, &source, &model, &["--url", &url]);
    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("it is a path, and the server reads no files of this machine"), "{told}");
}
