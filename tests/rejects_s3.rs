//! Promise: a reject sink in S3 that goes away, and comes back, loses no report. While it is away the log holds
//! what was refused, writes are taken, and `/health` names it. Days that are not kept any more are let go of.
//!
//! The S3 server is moto's, which `tests/run.sh` installs. It keeps its objects in memory and forgets them
//! with its end, so what it must have afterwards is what was refused since. A sink in Azure Blob Storage, which
//! is Azurite's, keeps reports and marks in the same way. A sink is one gateway's, which another finds out before it
//! writes anything.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;
use tidegate::base::thread::Thread;

use common::azurite::Azurite;
use common::client::Client;
use common::gateway::{Gateway, Place};
use common::{tell, wait_for};

/// Longest time until the S3 server answers, on a busy machine.
const S3_START_MAX: Duration = Duration::from_mins(2);

/// Longest time until what waited is written: pauses between attempts double up to seconds.
const RELEASE_MAX: Duration = Duration::from_mins(2);

const BUCKET: &str = "/refused";

fn python() -> PathBuf {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = std::env::var_os("TIDEGATE_TEST_PYTHON")
        .map_or_else(|| top.join("tests/.tools/python/bin/python"), PathBuf::from);
    assert!(program.exists(), "there is no {}: tests/run.sh installs it", program.display());
    program
}

/// A server that speaks S3's protocol, with one bucket. Killed when dropped.
struct S3(Child);

impl S3 {
    fn start(address: SocketAddr) -> Self {
        let child = Command::new(python())
            .args(["-c", "from moto.server import main; main()", "-H", "127.0.0.1", "-p"])
            .arg(address.port().to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto, which tests/run.sh installs");
        let s3 = Self(child);
        wait_for("the S3 server to answer", S3_START_MAX, || TcpStream::connect(address).ok());
        let made = Client::new(address).request("PUT", BUCKET, &[], b"").expect("a bucket is made");
        assert_eq!(made.status, 200, "{}", made.text());
        s3
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The lines whose rejections the gateway's list shows.
fn listed(server: &Gateway) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut after = String::new();
    loop {
        let target = format!("/api/v1/rejects?state=all&limit=1000&after={after}");
        let reply = server.client().get(&target).expect("a list is answered");
        assert_eq!(reply.status, 200, "{}", reply.text());
        let page: Json = reply.json();
        for one in page["rejections"].as_array().expect("a list") {
            let line = one["line"].as_str().expect("only lines were refused").to_owned();
            assert!(lines.insert(line.clone()), "{line} is there twice");
        }
        match page["next"].as_str() {
            Some(next) => next.clone_into(&mut after),
            None => return lines,
        }
    }
}

fn refuse(server: &Gateway, lines: std::ops::Range<u32>) {
    let mut client = server.client();
    for number in lines {
        let line = format!("weather,site=s{number}");
        let reply = client.post("/write?db=iot", &[], line.as_bytes()).expect("it is answered");
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.header("x-tidegate-lsn").is_some(), "the log has it");
    }
}

fn expected(lines: std::ops::Range<u32>) -> BTreeSet<String> {
    lines.map(|number| format!("weather,site=s{number}")).collect()
}

fn marks(server: &Gateway) -> (f64, f64) {
    let at = |name: &str| server.metric(&format!("tidegate_wal_{name}_lsn"));
    (at("applied"), at("durable"))
}

/// Settings of a sink in the server's bucket.
fn settings(place: &Place, address: SocketAddr, more: &str) -> String {
    let secret = place.file("secret");
    std::fs::write(&secret, "test\n").expect("a file can be written");
    let secret = secret.display().to_string();
    format!(
        "[rejects]\nurl = \"s3:/{BUCKET}/eu/reports\"\n{more}[object]\nendpoint = \"http://{address}\"\n\
         access_key_id = \"test\"\nsecret_access_key_file = {secret:?}\n"
    )
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    free.expect("there is a free port")
}

/// Whole days that are older than they are kept go, with their marks; younger ones stay, and so does what others
/// have put into the bucket.
#[test]
fn a_sink_in_s3_lets_go_of_the_days_that_are_not_kept() {
    let address = free_address();
    let _s3 = S3::start(address);
    let mut bucket = Client::new(address);
    let frame = |lsn: u64| format!("{lsn:020}");
    let report = |day: &str, lsn: u64| {
        let body = format!(
            r#"{{"database":"iot","lines":[
{{"id":"{lsn}-9","lsn":{lsn},"received":"{}T01:00:00Z","number":1,"reason":"invalid_value","message":"m","line":"x"}}
]}}"#,
            day.replace('/', "-")
        );
        (format!("lines/iot/{day}/{}.json", frame(lsn)), body)
    };
    let place = Place::new("");
    place.configure(&settings(&place, address, "keep_for = \"3d\"\n"));
    // It has the sink from now on, and what is put there is as if it had written it.
    place.start().stop();
    let block = format!("{}-{}", frame(0), frame(255));
    let mark = |at: &str, lsn: u64| {
        let body =
            format!(r#"{{"lsn":{lsn},"at":"{at}","by":"me","stored":["1-9"],"again":false}}"#);
        (format!("resubmitted/{block}/{}.json", frame(lsn)), body)
    };
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    let old = [
        report("2024/02/28", 1),
        report("2024/02/29", 2),
        report("2025/12/31", 3),
        mark("2024-03-01T00:00:00Z", 50),
    ];
    let kept = [
        report(&yesterday.strftime("%Y/%m/%d").to_string(), 4),
        mark(&yesterday.to_string(), 51),
        ("lines/iot/2024/02/28/notes.txt".to_owned(), "mine".to_owned()),
    ];
    for (key, body) in old.iter().chain(&kept) {
        // Else nobody could look without a signature.
        let public = [("x-amz-acl", "public-read")];
        let target = format!("{BUCKET}/eu/reports/{key}");
        let put = bucket.request("PUT", &target, &public, body.as_bytes());
        assert_eq!(put.expect("it is put").status, 200, "{key}");
    }
    let server = place.start();
    refuse(&server, 0..5);
    server.settle();
    wait_for("the old days to go", RELEASE_MAX, || {
        let removed = server.metric("tidegate_reject_removed_objects_total");
        (removed >= 4.0).then_some(())
    });
    let mut is_there = |key: &str| {
        bucket.get(&format!("{BUCKET}/eu/reports/{key}")).expect("it answers").status == 200
    };
    let still: Vec<_> = old.iter().filter(|(key, _)| is_there(key)).collect();
    let gone: Vec<_> = kept.iter().filter(|(key, _)| !is_there(key)).collect();
    assert!(still.is_empty() && gone.is_empty(), "still there: {still:?}; gone: {gone:?}");
    let mut lines = expected(0..5);
    lines.insert("x".to_owned());
    assert_eq!(listed(&server), lines, "yesterday's and today's");
    assert!(server.metric("tidegate_reject_sweep_failures_total").abs() < 0.5);
    server.stop();
}

#[test]
fn a_sink_in_s3_that_goes_away_and_comes_back_loses_no_report() {
    let address = free_address();
    let s3 = S3::start(address);
    let place = Place::new("");
    place.configure(&settings(&place, address, ""));
    let server = place.start();
    refuse(&server, 0..20);
    server.settle();
    assert_eq!(listed(&server), expected(0..20));

    // Away: writes go on, the log holds what was refused, and the health says so.
    drop(s3);
    refuse(&server, 20..60);
    server.write("iot", "weather,site=good t=1 1793491200000000001");
    let mut client = server.client();
    let health = wait_for("the sink to be missed", RELEASE_MAX, || {
        client
            .get("/health")
            .ok()
            .filter(|reply| reply.text().contains("rejects: takes no reports"))
    });
    assert_eq!(health.status, 200, "a restart would not help: {}", health.text());
    let (applied, durable) = marks(&server);
    assert!(applied < durable, "the log holds frames {applied} to {durable}");
    let reply = client.get("/api/v1/rejects").expect("a list is answered");
    assert!(reply.status == 503 && reply.header("retry-after").is_some(), "{}", reply.text());

    // A crash while it is away, and more behind it.
    server.kill();
    let (mut child, log) = place.spawn();
    let address_of = wait_for("the server to listen", RELEASE_MAX, || {
        assert!(
            child.try_wait().expect("it is our child").is_none(),
            "it started without its sink"
        );
        common::gateway::address_in(&log)
    });
    assert_eq!(Client::new(address_of).get("/ping").expect("it answers").status, 204);
    common::gateway::kill(&mut child);

    let _s3 = S3::start(address);
    let server = place.start();
    refuse(&server, 60..70);
    wait_for("the log to be released", RELEASE_MAX, || {
        let (applied, durable) = marks(&server);
        (applied >= durable).then_some(())
    });
    let found = listed(&server);
    let missing: Vec<_> = expected(20..70).difference(&found).cloned().collect();
    assert!(missing.is_empty(), "lost: {missing:?}");
    let health = server.client().get("/health").expect("it answers").text();
    assert!(!health.contains("takes no reports"), "{health}");
    tell(format!("sink in S3: {} rejections after an outage and a crash", found.len()));
    let listed = place.run("rejects", &["ls", "--format", "json", "--limit", "1000"]);
    let lines = String::from_utf8_lossy(&listed.stdout).lines().count();
    assert_eq!(lines, found.len(), "{}", String::from_utf8_lossy(&listed.stderr));
    server.stop();
}

/// Lets connections to `from` through to `to`, until the test ends.
fn lead(from: SocketAddr, to: SocketAddr) {
    let listener = TcpListener::bind(from).expect("it was free a moment ago");
    let forward = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(to) else { return };
            let ends = [(&stream, &server), (&server, &stream)]
                .map(|(one, other)| Some((one.try_clone().ok()?, other.try_clone().ok()?)));
            for (mut reader, mut writer) in ends.into_iter().flatten() {
                let copy = move || {
                    drop(std::io::copy(&mut reader, &mut writer));
                    drop(writer.shutdown(Shutdown::Write));
                };
                drop(Thread::spawn("copy", copy));
            }
        }
    };
    drop(Thread::spawn("lead", forward));
}

/// A gateway that could not see at its start whose sink it is writes nothing into it, and keeps what it has.
#[test]
fn a_sink_that_turns_out_to_be_anothers_is_left_alone_and_nothing_is_lost() {
    let (address, away) = (free_address(), free_address());
    let _s3 = S3::start(address);
    let (place, other) = (Place::new(""), Place::new(""));
    place.configure(&settings(&place, address, ""));
    other.configure(&settings(&other, away, ""));
    let owner = place.start();
    refuse(&owner, 0..3);
    owner.settle();

    let server = other.start();
    refuse(&server, 10..13);
    lead(away, address);
    let health = wait_for("the owner to be told", RELEASE_MAX, || {
        let health = server.client().get("/health").ok()?.text();
        health.contains("it is the reject sink of gateway ").then_some(health)
    });
    assert!(health.contains("rejects: takes no reports"), "{health}");
    let reply = server.client().get("/api/v1/rejects").expect("a list is answered");
    assert!(
        reply.status == 503 && reply.text().contains("it is another gateway's"),
        "{}",
        reply.text()
    );
    let (applied, durable) = marks(&server);
    assert!(applied < durable, "the log holds frames {applied} to {durable}");
    assert_eq!(listed(&owner), expected(0..3), "nothing of the other's is there");
    server.kill();

    // A prefix of its own.
    let own = settings(&other, address, "").replace("/eu/reports", "/us/reports");
    other.configure(&own);
    let server = other.start();
    server.settle();
    assert_eq!(listed(&server), expected(10..13));
    assert_eq!(listed(&owner), expected(0..3));
    server.stop();
    owner.stop();
}

/// Azure's own client makes the container, and counts what is in it.
const CONTAINER: &str = r#"
import sys
from azure.storage.blob import BlobServiceClient
container = BlobServiceClient(sys.argv[1], credential={
    "account_name": "devstoreaccount1", "account_key": open(sys.argv[2]).read(),
}).get_container_client("refused")
if sys.argv[3] == "make":
    container.create_container()
for blob in container.list_blobs():
    print(blob.name)
"#;

#[test]
fn a_sink_in_azure_keeps_reports_and_marks_across_a_crash() {
    let (place, azurite) = (Place::new(""), Azurite::start());
    let store = azurite.settings(&place);
    let container = |what: &str| {
        let mut command = Command::new(python());
        command.args(["-c", CONTAINER, &azurite.url]).arg(place.file("secret")).arg(what);
        let done = command.output().expect("python, which tests/run.sh installs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("names are texts")
    };
    assert_eq!(container("make"), "");
    place.configure(&format!("[rejects]\nurl = \"az://refused/eu/reports\"\n{store}"));
    let server = place.start();
    refuse(&server, 0..20);
    wait_for("the reports", RELEASE_MAX, || (listed(&server).len() == 20).then_some(()));
    let open = |server: &Gateway| -> Vec<String> {
        let page: Json = server.client().get("/api/v1/rejects").expect("it is answered").json();
        let all = page["rejections"].as_array().expect("a list");
        all.iter().map(|one| one["id"].as_str().expect("a number").to_owned()).collect()
    };
    let first = open(&server).pop().expect("there are twenty");
    let url = format!("http://{}", server.address);
    let line = "weather,site=mended t=1 1793491200000000001";
    let done = place.run("rejects", &["resubmit", &first, "--line", line, "--url", &url]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(open(&server).len(), 19, "it is marked");

    server.kill();
    let server = place.start();
    assert_eq!(listed(&server), expected(0..20));
    assert!(!open(&server).contains(&first) && open(&server).len() == 19, "and stays so");
    let names = container("list");
    let of = |part: &str| names.lines().filter(|name| name.starts_with(part)).count();
    assert!(of("eu/reports/lines/") > 0 && of("eu/reports/resubmitted/") > 0, "{names}");
    assert_eq!(of("eu/reports/"), names.lines().count(), "{names}");
    tell(format!("sink in Azure: {} blobs of 20 rejections", names.lines().count()));
    server.stop();
}
