//! Promise: a reject sink in S3 that goes away, and comes back, loses no report. While it is away the log holds
//! what was refused, writes are taken, and `/health` names it.
//!
//! The S3 server is moto's, which `tests/run.sh` installs. It keeps its objects in memory and forgets them
//! with its end, so what it must have afterwards is what was refused since.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value as Json;

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

#[test]
fn a_sink_in_s3_that_goes_away_and_comes_back_loses_no_report() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("there is a free port");
    let s3 = S3::start(address);
    let place = Place::new("");
    let secret = place.file("secret");
    std::fs::write(&secret, "test\n").expect("a file can be written");
    let secret = secret.display().to_string();
    place.configure(&format!(
        "[rejects]\nurl = \"s3:/{BUCKET}/eu/reports\"\n[object]\nendpoint = \"http://{address}\"\n\
         access_key_id = \"test\"\nsecret_access_key_file = {secret:?}\n"
    ));
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
