//! The promise: requests are answered as `InfluxDB` 1 and 2 answer them, but for the table below.
//!
//! Goal: no client of theirs notices the difference. Method: the cases of their own test suites, sent
//! over real sockets to a server that is set up as each case says. A case in [`DIFFERENT`] must differ,
//! so that the table cannot outlive its reasons.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with other tests")]
mod http_support;

use base64::Engine as _;
use serde_json::Value;
use tidegate::api::influx::Target;
use tidegate::base::units::Bytes;
use tidegate::config::Config;

use http_support::{Reply, Running, start};

/// Cases that are answered differently, each with the reason.
const DIFFERENT: &[(&str, &str)] = &[
    ("v1 /write?db=foo&precision=us", "taken: the Go client for version 1 sends it"),
    ("v2 &precision=n", "taken: QuestDB's clients send it to any server"),
    ("v2 &precision=u", "taken, as n"),
    ("v2 &precision=m", "refused in version 2's shape of an error, not version 1's"),
    ("v2 &precision=h", "refused in version 2's shape of an error, not version 1's"),
    ("ping with authentication on, user none", "probes need no credentials"),
    ("ping with authentication on, user user2", "probes need no credentials"),
    ("partial write error is unprocessable", "the case is about a store that fails on demand"),
    ("points writer error is an internal error", "the case is about a store that fails on demand"),
    ("org error returns 404 error", "there is one organisation, whatever it is called"),
    ("bucket error returns 404 error", "a database is made when it is first written to"),
    ("500 when bucket service returns internal error", "there is no such service"),
    ("invalid line protocol returns 400", "the error names lines and reasons as well"),
    ("large requests rejected", "the error names the limit"),
    ("v1 /write, partial write", "the case is about a store that fails on demand"),
    ("v1 /write, no permission", "refused in version 1's shape of an error, not version 2's"),
    ("v1 /write, no mapping", "a database is made when it is first written to"),
];

const FILES: [&str; 3] = [
    include_str!("data/http/http_influxdb1.json"),
    include_str!("data/http/http_influxdb2.json"),
    include_str!("data/http/http_other.json"),
];

/// The servers that the cases' setups need.
struct Servers {
    plain: Running,
    small_bodies: Running,
    strangers: Running,
    users: Running,
}

impl Servers {
    fn start() -> Self {
        Self {
            plain: start(|_| {}),
            small_bodies: start(|config| config.server.body_bytes_max = Bytes(1024)),
            strangers: start(|config| {
                add_auth(config, "[[tokens]]\nname = \"r\"\ntoken = \"t\"\nwrite = [\"other\"]");
            }),
            users: start(|config| {
                add_auth(
                    config,
                    "[[users]]\nname = \"admin\"\npassword = \"admin\"\n\
                     [[users]]\nname = \"user1\"\npassword = \"abcd\"",
                );
            }),
        }
    }

    /// The server for a case, and a header that it takes for granted.
    fn of(&self, setup: &str) -> (&Running, Option<(&'static str, &'static str)>) {
        let token = Some(("Authorization", "Token t"));
        match setup {
            _ if setup.contains("limit 5 bytes") || setup.contains("max body 5 bytes") => {
                (&self.small_bodies, None)
            }
            _ if setup.starts_with("authentication on") => (&self.users, None),
            _ if setup.starts_with("the token may write to another") => (&self.strangers, token),
            "token without write permission" => (&self.strangers, token),
            _ => (&self.plain, None),
        }
    }
}

fn add_auth(config: &mut Config, text: &str) {
    config.auth = toml::from_str(text).unwrap();
}

#[test]
fn requests_are_answered_as_other_servers_answer_them() {
    let servers = Servers::start();
    let mut seen = 0;
    let mut wrong = Vec::new();
    let mut listed = 0;
    for case in FILES.iter().flat_map(|file| serde_json::from_str::<Vec<Value>>(file).unwrap()) {
        let name = case["name"].as_str().unwrap().to_owned();
        seen += 1;
        let found = if case["bucket"].is_string() { bucket(&case) } else { run(&servers, &case) };
        let is_listed = DIFFERENT.iter().any(|(listed, _)| *listed == name);
        listed += usize::from(is_listed);
        match (found, is_listed) {
            (Ok(()), true) => wrong.push(format!("{name}: listed as different, and is the same")),
            (Err(how), false) => wrong.push(format!("{name}: {how}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!((seen, listed), (74, DIFFERENT.len()));
}

fn bucket(case: &Value) -> Result<(), String> {
    let expect = &case["expect"];
    match Target::from_bucket(case["bucket"].as_str().unwrap()) {
        None if expect["ok"] == false => Ok(()),
        Some(Target { database, retention_policy })
            if expect["db"] == database && expect["rp"] == retention_policy =>
        {
            Ok(())
        }
        found => Err(format!("{found:?}, expected {expect}")),
    }
}

fn run(servers: &Servers, case: &Value) -> Result<(), String> {
    let (server, granted) = servers.of(case["setup"].as_str().unwrap_or_default());
    let request = &case["request"];
    let headers: Vec<(&str, &str)> = request["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .chain(granted)
        .collect();
    let body = match (&request["body_utf8"], &request["body_base64"]) {
        (Value::String(text), _) => text.clone().into_bytes(),
        (_, Value::String(text)) => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        _ => Vec::new(),
    };
    // No server of ours has a limit of five bytes: it is 1 KiB, and the body as much too long.
    let is_too_long = case["setup"].as_str().is_some_and(|setup| setup.contains("5 bytes"));
    let body = if is_too_long { body.repeat(1 + 1024 / body.len()) } else { body };
    let path = our_path(request["path"].as_str().unwrap());
    let reply = server.send(request["method"].as_str().unwrap(), &path, &headers, &body);
    check(&case["expect"], &reply)
}

/// M3 and `GreptimeDB` have the endpoint of version 1 at paths of their own, and M3 has one database.
fn our_path(path: &str) -> String {
    match path.strip_prefix("/api/v1/influxdb/write") {
        Some(query) => format!("/write?db=m3&{}", query.trim_start_matches('?')),
        None => path.replacen("/v1/influxdb/write", "/write", 1),
    }
}

fn check(expect: &Value, reply: &Reply) -> Result<(), String> {
    let fail = |what: &str| {
        Err(format!(
            "{what}: expected {expect}, found {} {:?}",
            reply.status,
            String::from_utf8_lossy(&reply.body)
        ))
    };
    if expect["status"].is_number() && expect["status"] != reply.status {
        return fail("status");
    }
    if expect["body"].is_string() && expect["body"].as_str().unwrap().as_bytes() != reply.body {
        return fail("body");
    }
    if expect["body_json"].is_object()
        && (reply.body.is_empty() || reply.json() != expect["body_json"])
    {
        return fail("body");
    }
    for (key, value) in expect["body_json_subset"].as_object().into_iter().flatten() {
        if reply.json()[key] != *value {
            return fail(key);
        }
    }
    for key in expect["body_json_has"].as_array().into_iter().flatten() {
        if reply.json().get(key.as_str().unwrap()).is_none() {
            return fail("a missing key");
        }
    }
    for name in expect["headers_present"].as_array().into_iter().flatten() {
        if reply.header(name.as_str().unwrap()).is_none() {
            return fail("a missing header");
        }
    }
    for (name, value) in expect["header_values"].as_object().into_iter().flatten() {
        if reply.header(name) != value.as_str() {
            return fail(name);
        }
    }
    Ok(())
}
