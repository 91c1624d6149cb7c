//! A Prometheus of the test's own, and promtool.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::common::client::Client;
use crate::common::gateway::{Place, kill};
use crate::common::wait_for;

/// Longest time until it answers, on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// A running Prometheus that scrapes one server every second. Killed when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
}

/// A file of the repository.
pub(crate) fn in_repository(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(in_repository("tests/.tools/prometheus/usr/bin")).join(name);
    assert!(path.exists(), "there is no {}: tests/run.sh unpacks it", path.display());
    path
}

/// What promtool says; it must succeed.
pub(crate) fn promtool(arguments: &[&str]) -> String {
    promtool_reads(arguments, b"")
}

/// The same, given something to read.
pub(crate) fn promtool_reads(arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(tool("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    // One that reads nothing closes its end; what it says tells why.
    drop(child.stdin.take().expect("it was asked for").write_all(input));
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {}: {said}", output.status);
    said
}

impl Prometheus {
    /// Starts one with the repository's own configuration, but for the server's address and the pace.
    pub(crate) fn start(place: &Place, scraped: SocketAddr) -> Self {
        let dir = place.file("prometheus");
        fs::create_dir(&dir).expect("a folder can be made");
        let settings = fs::read_to_string(in_repository("grafana/prometheus/prometheus.yml"));
        let settings = settings.expect("the example can be read");
        assert!(settings.contains("127.0.0.1:8086") && settings.contains("15s"), "{settings}");
        let settings =
            settings.replace("127.0.0.1:8086", &scraped.to_string()).replace("15s", "1s");
        fs::write(dir.join("prometheus.yml"), settings).expect("the settings can be written");
        let rules = in_repository("grafana/prometheus/alerts.yml");
        fs::copy(rules, dir.join("alerts.yml")).expect("the rules can be copied");
        let address = free_address();
        let log = File::create(dir.join("prometheus.log")).expect("a log file can be made");
        let child = Command::new(tool("prometheus"))
            .current_dir(&dir)
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=tsdb")
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let prometheus = Self { child, address };
        wait_for("Prometheus to have scraped", START_MAX, || {
            let reply = Client::new(address).get("/-/ready").ok()?;
            (reply.status == 200 && prometheus.ask("up") == [1.0]).then_some(())
        });
        prometheus
    }

    /// The values of a query as of now, in no order. It must be a query.
    pub(crate) fn ask(&self, query: &str) -> Vec<f64> {
        let data = self.api(&format!("query?query={}", encode(query)));
        let result = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}"));
        let value = |series: &Value| series["value"][1].as_str()?.parse().ok();
        result.iter().map(|series| value(series).unwrap_or(f64::NAN)).collect()
    }

    /// The names of its alerts, and their queries.
    pub(crate) fn rules(&self) -> Vec<(String, String)> {
        let groups = self.api("rules?type=alert");
        let groups = groups["groups"].as_array().cloned().unwrap_or_default();
        let rules =
            groups.iter().flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
    }

    /// The names of alerts that are pending or firing.
    pub(crate) fn alerts(&self) -> BTreeSet<String> {
        let alerts = self.api("alerts");
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let name = |alert: &Value| alert["labels"]["alertname"].as_str().map(str::to_owned);
        alerts.iter().filter_map(name).collect()
    }

    fn api(&self, target: &str) -> Value {
        let reply = Client::new(self.address).get(&format!("/api/v1/{target}"));
        let reply = reply.expect("Prometheus answers");
        assert_eq!(reply.status, 200, "{target}: {}", reply.text());
        reply.json()["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        kill(&mut self.child);
    }
}

/// An address that nobody listens on. Prometheus does not tell which port it was given.
fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it was bound")
}

fn encode(query: &str) -> String {
    query
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
