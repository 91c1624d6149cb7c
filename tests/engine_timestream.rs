//! Promise: with the engine `timestream` what was acknowledged reaches the upstream, once and in the
//! order of its series, whatever becomes of the upstream, the connection or this process; and what the
//! upstream refuses is refused as the embedded engine would.
//!
//! The upstream is Tidegate itself, whose API is stricter than other servers of it, behind a proxy that
//! fails on demand; moto's server is the second opinion, which `tests/run.sh` installs.
//!
//! `TIDEGATE_UPSTREAM_CYCLES` sets the number of kills, `TIDEGATE_UPSTREAM_SEED` repeats the choices of
//! a run (not its timing).

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of a test")]

#[path = "common/mod.rs"]
mod common;
#[path = "engine_timestream/proxy.rs"]
mod proxy;
#[path = "engine_timestream/tls.rs"]
mod tls;
#[path = "engine_timestream/waves.rs"]
mod waves;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value as Json, json};

use common::client::Client;
use common::gateway::{Gateway, Place};
use common::random::Random;
use common::rows::Value;
use common::{tell, wait_for};
use proxy::{Mode, Proxy};
use tidegate::base::clock::{Clock, SystemClock};

/// Longest time until something that goes on has happened, on a busy machine.
const LONG: Duration = Duration::from_mins(2);

/// Kills unless the environment says otherwise.
const CYCLES: u64 = 6;

/// Keys of one writer of the test that kills.
const KEYS: usize = 100;

/// Its pause between two requests: each version of a key takes a request of its own to the upstream.
const PAUSE: Duration = Duration::from_millis(15);

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// An upstream, the proxy before it, and the gateway that sends there.
struct House {
    upstream_place: Place,
    upstream: Option<Gateway>,
    proxy: Proxy,
    place: Place,
}

impl House {
    fn new(more: &str) -> Self {
        Self::with("", more)
    }

    /// With settings of the engine's, and others.
    fn with(engine: &str, more: &str) -> Self {
        let upstream_place = Place::new(&format!(
            "[[auth.access_keys]]\nid = \"AKIDEXAMPLE\"\nsecret = \"{SECRET}\"\nwrite = [\"*\"]\n\
             read = [\"*\"]\n[[auth.tokens]]\ntoken = \"reader\"\nread = [\"*\"]\nwrite = [\"*\"]\n\
             [ingest]\nversion = \"_version\"\n"
        ));
        let upstream = upstream_place.start();
        let proxy = Proxy::before(upstream.address);
        let place = gateway_place_at(&format!("http://{}", proxy.address), engine, more);
        Self { upstream_place, upstream: Some(upstream), proxy, place }
    }

    fn upstream(&self) -> &Gateway {
        self.upstream.as_ref().expect("it runs")
    }

    /// The upstream is killed and started again, on another port.
    fn restart_upstream(&mut self) {
        self.upstream.take().expect("it runs").kill();
        let again = self.upstream_place.start();
        self.proxy.lead_to(again.address);
        self.upstream = Some(again);
    }

    /// What the upstream has of a table: for each series and time its version and field `n`.
    fn stored(&self, table: &str) -> BTreeMap<(String, i64), (i64, i64)> {
        let target = format!("/api/v1/export?db=fleet&table={table}");
        let headers = [("Authorization", "Bearer reader")];
        let reply = self.upstream().client().request("GET", &target, &headers, b"").unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        let rows = common::rows::parse(&reply.body).expect("no row stands twice");
        let each = rows.into_iter().map(|(key, row)| {
            let n = match row.fields.get("n") {
                Some(Value::Bigint(n)) => *n,
                other => panic!("{key:?}: n is {other:?}"),
            };
            ((key.tags["host"].clone(), key.time_ns), (row.version, n))
        });
        each.collect()
    }
}

fn gateway_place(upstream: SocketAddr, more: &str) -> Place {
    gateway_place_at(&format!("http://{upstream}"), "", more)
}

/// `engine` goes into the section of the engine.
fn gateway_place_at(endpoint: &str, engine: &str, more: &str) -> Place {
    let place = Place::new("");
    std::fs::write(place.file("secret"), format!("{SECRET}\n")).unwrap();
    place.configure(&format!(
        "[engine]\nkind = \"timestream\"\n[engine.timestream]\nendpoint = \"{endpoint}\"\n\
         region = \"eu-central-1\"\naccess_key = \"AKIDEXAMPLE\"\nsecret_key_file = '{}'\n\
         request_timeout = \"2s\"\n{engine}[ingest]\nversion = \"_version\"\n{more}",
        place.file("secret").display()
    ));
    place
}

/// A whole second, not long ago: tables are strict, and take no record that is older than six hours.
fn recent_ns() -> i64 {
    let now_ns = SystemClock::new().wall_ns();
    now_ns - now_ns % 1_000_000_000 - 60_000_000_000
}

/// Line protocol that the gateway answers once its engine has it.
fn write_applied(server: &Gateway, lines: &str) -> common::client::Reply {
    let headers = [("X-Tidegate-Durability", "applied")];
    server.client().post("/write?db=fleet&precision=ns", &headers, lines.as_bytes()).unwrap()
}

#[test]
fn records_reach_the_upstream_in_tables_made_there_and_are_metered() {
    let house = House::new("");
    let server = house.place.start();
    let time_ns = recent_ns();
    let line = |host: usize| format!("cpu,host=h{host:03},region=eu n={host}i {time_ns}");
    let lines: Vec<String> = (0..250).map(line).collect();
    assert_eq!(write_applied(&server, &lines.join("\n")).status, 204);
    let stored = house.stored("cpu");
    assert_eq!(stored.len(), 250);
    assert_eq!(stored[&("h007".to_owned(), time_ns)], (1, 7));
    // All that the gateway counted the proxy saw: requests of writes, and no other body than theirs.
    let metric = |name: &str| server.metric(&format!("tidegate_engine_upstream_{name}_total"));
    assert!((metric("records") - 250.0).abs() < 0.1);
    let requests = metric("requests");
    assert!((3.0..=8.0).contains(&requests), "{requests} requests");
    assert!(metric("saved_bytes") > 250.0 * 50.0, "the region, the name, the time and the type");
    let (metered, single) = (metric("metered_bytes"), metric("single_metered_bytes"));
    assert!((single - 250.0 * 1024.0).abs() < 0.1);
    assert!(metered <= 12.0 * 1024.0, "{metered}");
    assert!((metric("sent_bytes") - f64::from(house.proxy.bytes())).abs() < 2_000.0);
    tell(format!(
        "upstream: 250 records, {requests} requests, {} bytes of headers, {} bytes of bodies, {} KiB \
         metered",
        house.proxy.head_bytes(),
        metric("sent_bytes"),
        metered / 1024.0
    ));
    let health = server.client().get("/health").unwrap().text();
    assert!(health.contains("250 records in"), "{health}");
    let export = server.client().get("/api/v1/export?db=fleet&table=cpu").unwrap();
    assert_eq!(export.status, 422);
    let place = format!("the records are in http://{}", house.proxy.address);
    assert!(export.text().contains(&place), "{}", export.text());
    server.stop();
}

#[test]
fn what_the_upstream_would_refuse_is_refused_while_the_producer_listens() {
    let house = House::new("");
    let server = house.place.start();
    let now_ns = recent_ns();
    let long = "x".repeat(2049);
    for (line, status) in [
        (format!("t01,host=a text=\"{long}\" {now_ns}"), 422),
        (format!("t01,{}=a n=1i {now_ns}", "d".repeat(61)), 422),
        (format!("t01,host=a n=1u,big=18446744073709551615u {now_ns}"), 400),
        (format!("t01,host=a ts_n=1i {now_ns}"), 400),
        (format!("t01,host=a n=1i {}", now_ns - 7 * 3_600_000_000_000), 400),
        (format!("t01,host=a n=1i {now_ns}"), 204),
    ] {
        let reply = write_applied(&server, &line);
        assert_eq!(reply.status, status, "{}: {}", &line[..line.len().min(80)], reply.text());
    }
    server.stop();
}

/// One `WriteRecords`, unsigned.
fn write_records(server: &Gateway, record: &Json) -> Json {
    let body = json!({"DatabaseName": "truth", "TableName": "rows", "Records": [record]});
    let headers = [
        ("X-Amz-Target", "Timestream_20181101.WriteRecords"),
        ("Content-Type", "application/x-amz-json-1.0"),
    ];
    let reply = server.client().post("/", &headers, body.to_string().as_bytes()).unwrap();
    let mut told = reply.json();
    told["status"] = reply.status.into();
    told
}

fn make_truth(server: &Gateway) {
    for (operation, body) in [
        ("CreateDatabase", json!({"DatabaseName": "truth"})),
        ("CreateTable", json!({"DatabaseName": "truth", "TableName": "rows"})),
    ] {
        let target = format!("Timestream_20181101.{operation}");
        let headers = [("X-Amz-Target", &*target), ("Content-Type", "application/x-amz-json-1.0")];
        let reply = server.client().post("/", &headers, body.to_string().as_bytes()).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// The rows of `src/engine/upsert.rs`: version, and attributes or one value.
type Said = (i64, &'static [(&'static str, &'static str, &'static str)]);

#[test]
fn the_truth_table_gives_the_same_answers_as_the_embedded_engine() {
    const A1: &[(&str, &str, &str)] = &[("a", "1", "BIGINT")];
    const A2: &[(&str, &str, &str)] = &[("a", "2", "BIGINT")];
    const A1_B1: &[(&str, &str, &str)] = &[("a", "1", "BIGINT"), ("b", "1", "BIGINT")];
    const A2_B1: &[(&str, &str, &str)] = &[("a", "2", "BIGINT"), ("b", "1", "BIGINT")];
    const B1: &[(&str, &str, &str)] = &[("b", "1", "BIGINT")];
    const B1_C1: &[(&str, &str, &str)] = &[("b", "1", "BIGINT"), ("c", "true", "BOOLEAN")];
    const A_TEXT: &[(&str, &str, &str)] = &[("a", "1", "VARCHAR")];
    const ZERO: &[(&str, &str, &str)] = &[("", "0.0", "DOUBLE")];
    const MINUS: &[(&str, &str, &str)] = &[("", "-0.0", "DOUBLE")];
    const INT: &[(&str, &str, &str)] = &[("", "0", "BIGINT")];
    #[rustfmt::skip]
    let table: &[(Said, Said)] = &[
        ((1, A1), (2, A2)), ((1, A1), (2, A1)), ((1, A1), (2, B1)), ((1, A1_B1), (2, A2)),
        ((1, A1), (i64::MAX, A2)), ((2, A1), (2, A1)), ((2, A1_B1), (2, B1)), ((2, A1), (2, B1)),
        ((2, A1), (2, A1_B1)), ((2, A1), (2, A2)), ((2, A1), (2, A2_B1)), ((2, A1), (1, A2)),
        ((2, A1), (1, A1)), ((2, A1), (1, B1)), ((1, ZERO), (2, MINUS)), ((1, ZERO), (2, ZERO)),
        ((1, ZERO), (2, INT)), ((1, ZERO), (1, ZERO)), ((1, ZERO), (1, MINUS)), ((1, ZERO), (1, INT)),
        ((2, ZERO), (1, ZERO)), ((1, ZERO), (2, A1)), ((1, A1), (2, ZERO)), ((1, ZERO), (1, A1)),
        ((2, A1), (1, ZERO)), ((1, A1), (2, B1_C1)), ((1, A1), (2, A_TEXT)), ((2, A1), (2, A_TEXT)),
        ((2, A1), (1, A_TEXT)),
    ];
    let house = House::new("");
    let embedded_place = Place::new("");
    let (server, embedded) = (house.place.start(), embedded_place.start());
    make_truth(&server);
    make_truth(&embedded);
    let time_ms = recent_ns() / 1_000_000;
    let mut refused = 0;
    for (at, said) in table.iter().enumerate() {
        for (version, attributes) in [said.0, said.1] {
            let mut record = json!({
                "Dimensions": [{"Name": "row", "Value": at.to_string()}],
                "MeasureName": "m", "Time": time_ms.to_string(), "Version": version,
            });
            if attributes[0].0.is_empty() {
                record["MeasureValue"] = attributes[0].1.into();
                record["MeasureValueType"] = attributes[0].2.into();
            } else {
                let value =
                    |&(n, v, t): &(&str, &str, &str)| json!({"Name": n, "Value": v, "Type": t});
                record["MeasureValueType"] = "MULTI".into();
                record["MeasureValues"] = attributes.iter().map(value).collect();
            }
            let (found, expected) =
                (write_records(&server, &record), write_records(&embedded, &record));
            assert_eq!(found, expected, "row {at}: {record}");
            refused += u32::from(found["status"] == 419);
        }
    }
    assert_eq!(refused, 15, "as many as the table refuses");
    server.stop();
}

/// Nothing is lost and nothing reported while each of these goes on.
#[test]
fn an_upstream_that_is_away_throttles_or_loses_answers_costs_time_only() {
    let mut house = House::new("[shards]\ncount = 3\n");
    let server = house.place.start();
    let time_ns = recent_ns();
    let modes = [
        Mode::Refuse,
        Mode::Throttle,
        Mode::LoseAnswer,
        Mode::FailAfter,
        Mode::Slow(Duration::from_millis(2500)),
        Mode::Forbid,
    ];
    for (round, mode) in (1_i64..).zip(modes) {
        house.proxy.set(mode);
        let before = house.proxy.requests();
        let line = |host: usize| format!("cpu,host=h{host} n={round}i,_version={round}i {time_ns}");
        let lines: Vec<String> = (0..20).map(line).collect();
        server.write("fleet", &lines.join("\n"));
        wait_for("a few tries", LONG, || (house.proxy.requests() > before + 3).then_some(()));
        let health = wait_for("the trouble to be told", LONG, || {
            let reply = server.client().get("/health").unwrap();
            let text = reply.text();
            (text.contains("nothing is stored since 20") && text.contains("127.0.0.1"))
                .then_some(text)
        });
        let word = match mode {
            Mode::Throttle => "ThrottlingException: by the test",
            Mode::Forbid => "AccessDeniedException: by the test",
            Mode::FailAfter => "InternalServerException: by the test",
            _ => "",
        };
        assert!(health.contains(word), "{mode:?}: {health}");
        house.proxy.set(Mode::Pass);
        wait_for("the records to arrive", LONG, || {
            let all = house.stored_or_none("cpu")?;
            all.values().all(|stored| *stored == (round, round)).then_some(())
        });
        if mode == Mode::FailAfter {
            house.restart_upstream();
        }
    }
    assert_eq!(house.stored("cpu").len(), 20);
    let rejected = server.metric("tidegate_reject_records_total");
    assert!(rejected < 0.5, "{rejected} rejections were reported, and nothing was wrong");
    server.stop();
}

impl House {
    fn stored_or_none(&self, table: &str) -> Option<BTreeMap<(String, i64), (i64, i64)>> {
        let target = format!("/api/v1/export?db=fleet&table={table}");
        let headers = [("Authorization", "Bearer reader")];
        let reply = self.upstream().client().request("GET", &target, &headers, b"").ok()?;
        (reply.status == 200).then(|| self.stored(table))
    }
}

#[test]
fn a_record_that_spoils_its_request_is_found_and_the_others_are_stored() {
    let house = House::new("");
    let server = house.place.start();
    let time_ns = recent_ns();
    // The table first: what spoils requests shall find one.
    assert_eq!(write_applied(&server, &format!("cpu,host=first n=1i {time_ns}")).status, 204);
    house.proxy.set(Mode::Poison);
    let line = |host: usize| {
        let text = if host % 40 == 3 { "poison" } else { "fine" };
        format!("cpu,host=h{host} n=1i,text=\"{text}\" {time_ns}")
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    let reply = write_applied(&server, &lines.join("\n"));
    assert!(reply.status == 400 || reply.status == 422, "{}: {}", reply.status, reply.text());
    assert!(reply.text().contains("by the test"), "the upstream's words: {}", reply.text());
    let stored = house.stored("cpu");
    assert_eq!(stored.len(), 1 + 97, "h3, h43 and h83 are refused");
    assert!(!stored.contains_key(&("h43".to_owned(), time_ns)));
    let rejected = server.metric("tidegate_reject_records_total");
    assert!((rejected - 3.0).abs() < 0.1, "{rejected}");
    server.stop();
}

#[test]
fn the_cost_is_told_from_the_log_beside_a_running_server_whatever_the_engine() {
    let place = Place::new("[shards]\ncount = 1\n");
    let server = place.start();
    let time_ns = recent_ns();
    // Documented as 83 bytes of a single value; the attribute's name makes it 88.
    let line = |host: usize| {
        format!(
            "cpu_utilization,region=us-east-1,az=1d,vpc=vpc-1a2b3c4d,hostname=host-{host:05} \
             value=35.0 {time_ns}"
        )
    };
    let lines: Vec<String> = (0..100).map(line).collect();
    assert_eq!(write_applied(&server, &lines.join("\n")).status, 204);
    let told = |arguments: &[&str]| {
        let output = place.run("cost", arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = told(&["--since", "24h", "--price", "0.5"]);
    let figures = |name: &str| -> Vec<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().map(|word| word.parse().unwrap()).collect()
    };
    assert!(text.starts_with("100 records, received from 20"), "{text}");
    // 40 bytes of dimensions, 15 of the name and 8 of the time are said once; 34 - 8 + 5 by each.
    assert_eq!(figures("one record a request")[..2], [100.0, 100.0], "{text}");
    assert_eq!(figures("as they came")[..2], [1.0, 4.0], "{text}");
    assert_eq!(figures("put together by likeness")[..2], [1.0, 4.0], "{text}");
    clock_rests();
    assert_eq!(told(&["--since", "1ms"]), "no records\n");
    server.stop();
}

fn clock_rests() {
    SystemClock::new().sleep(Duration::from_millis(2));
}

/// moto's server, which keeps everything in memory and forgets it with its end.
struct Moto(Child, SocketAddr);

impl Moto {
    fn start(address: SocketAddr) -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("TIDEGATE_TEST_PYTHON")
            .map_or_else(|| top.join("tests/.tools/python/bin/python"), PathBuf::from);
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("tests/run.sh installs Python and moto");
        let moto = Self(child, address);
        wait_for("moto to listen", LONG, || TcpStream::connect(address).ok());
        moto
    }

    /// The values of `n` in the table `cpu`.
    fn numbers(&self) -> BTreeSet<String> {
        let data = Client::new(self.1).get("/moto-api/data.json").unwrap().json();
        let tables = data["timestreamwrite"]["TimestreamTable"].as_array().cloned();
        let records = tables.unwrap_or_default().into_iter().flat_map(|table| {
            assert_eq!(table["name"], "cpu");
            assert_eq!(table["retention_properties"]["MemoryStoreRetentionPeriodInHours"], 6);
            table["records"].as_array().cloned().unwrap_or_default()
        });
        let number =
            |record: Json| record["MeasureValues"][0]["Value"].as_str().unwrap().to_owned();
        records.map(number).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        common::gateway::kill(&mut self.0);
    }
}

#[test]
fn another_server_of_the_api_gets_the_records_and_a_table_that_vanished_is_made_again() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    // One shard: of two that find no table, the second would have moto make it anew and empty.
    let place = gateway_place(address, "[shards]\ncount = 1\n");
    let time_ns = recent_ns();
    let write = |server: &Gateway, from: i64| {
        let line = |n: i64| format!("cpu,host=h{n} n={n}i {time_ns}");
        let lines: Vec<String> = (from..from + 50).map(line).collect();
        assert_eq!(write_applied(server, &lines.join("\n")).status, 204);
    };
    let numbers = |from: i64| (from..from + 50).map(|n| n.to_string()).collect::<BTreeSet<_>>();
    let moto = Moto::start(address);
    let server = place.start();
    write(&server, 0);
    assert_eq!(moto.numbers(), numbers(0));
    drop(moto);
    let moto = Moto::start(address);
    write(&server, 50);
    assert_eq!(moto.numbers(), numbers(50));
    server.stop();
}

/// A writer to the upstream that is not this gateway overtakes it: what comes too late is refused.
#[test]
fn what_another_writer_has_overtaken_is_reported_with_the_version_that_stands() {
    let house = House::new("");
    let server = house.place.start();
    let time_ns = recent_ns();
    let line = |version: i64| format!("cpu,host=h n={version}i,_version={version}i {time_ns}");
    assert_eq!(write_applied(&server, &line(5)).status, 204);
    let reply = write_applied(&server, &line(3));
    assert!(reply.status == 400 && reply.text().contains("existing version 5"), "{}", reply.text());
    assert!(!reply.text().contains("sent again"), "{}", reply.text());
    server.stop();
    let reports = house.place.files("rejects", ".json");
    assert_eq!(reports.len(), 1, "{reports:?}");
    let report = std::fs::read_to_string(&reports[0]).unwrap();
    assert!(report.contains("version_lower"), "{report}");
}

/// The gateway is killed between the upstream's answers and its own mark, so all is sent again. The
/// upstream refuses what was overtaken meanwhile: by the gateway itself, which is no news, or by another
/// writer, which nobody can tell from a record that came too late, and which is reported as such.
#[test]
fn what_was_stored_and_overtaken_before_a_crash_is_no_rejection_and_doubt_is_told() {
    let house = House::new("[shards]\ncount = 1\n");
    let server = house.place.start();
    let time_ns = recent_ns();
    let line = |host: &str, version: i64| {
        format!("cpu,host={host} n={version}i,_version={version}i {time_ns}")
    };
    // The table first, and its mark.
    assert_eq!(write_applied(&server, &line("first", 1)).status, 204);
    house.proxy.set(Mode::Slow(Duration::from_millis(1_500)));
    server.write("fleet", &[line("own", 1), line("other", 1), line("own", 2)].join("\n"));
    let stands = |host: &str, version: i64| {
        let key = (host.to_owned(), time_ns);
        wait_for("a version to stand upstream", LONG, || {
            (house.stored("cpu").get(&key) == Some(&(version, version))).then_some(())
        });
    };
    stands("own", 2);
    // Done upstream; the answer is still on its way.
    server.kill();
    let headers = [("Authorization", "Bearer reader"), ("X-Tidegate-Durability", "applied")];
    let target = "/write?db=fleet&precision=ns";
    let overtaken = line("other", 9);
    let reply = house.upstream().client().post(target, &headers, overtaken.as_bytes()).unwrap();
    assert_eq!(reply.status, 204, "{}", reply.text());
    house.proxy.set(Mode::Pass);
    let server = house.place.start();
    let reports = wait_for("the report", LONG, || {
        let reports = house.place.files("rejects", ".json");
        (!reports.is_empty()).then_some(reports)
    });
    server.stop();
    assert_eq!(reports.len(), 1, "{reports:?}");
    let report = std::fs::read_to_string(&reports[0]).unwrap();
    assert!(report.contains("sent again after a crash"), "{report}");
    let names = |host: &str| {
        report.contains(&format!("\"{host}\"")) || report.contains(&format!("host={host}"))
    };
    assert!(names("other") && !names("own"), "{report}");
    let refused = refused_upstream(&house);
    assert!(refused.ends_with(" 2"), "both were refused upstream: {refused}");
}

/// The line of the upstream's metrics that counts the records that it refused.
fn refused_upstream(house: &House) -> String {
    let headers = [("Authorization", "Bearer reader")];
    let text = house.upstream().client().request("GET", "/metrics", &headers, b"").unwrap().text();
    let refused = "tidegate_engine_outcomes_total{outcome=\"rejected\"}";
    text.lines().find(|line| line.starts_with(refused)).unwrap_or_default().to_owned()
}

/// A gateway whose upstream is away starts, takes writes, and answers 503 once its log is full.
#[test]
fn an_upstream_that_is_away_costs_disk_until_the_log_is_full_and_heals_by_itself() {
    let house = House::new(
        "[wal]\nbytes_max = \"147 MiB\"\nsegment_bytes = \"49 MiB\"\n[batch]\nlinger = \"0ms\"\n",
    );
    house.proxy.set(Mode::Refuse);
    let server = house.place.start();
    let (mut client, text) = (server.client(), "x".repeat(1_500));
    let time_ns = recent_ns();
    let mut written = 0_i64;
    let status = loop {
        let lines: Vec<String> = (0..500_i64)
            .map(|at| {
                let time_ns = time_ns - (written + at) * 1_000_000;
                format!("cpu,host=h n={}i,text=\"{text}\" {time_ns}", written + at)
            })
            .collect();
        let target = "/write?db=fleet&precision=ns";
        let reply = client.post(target, &[], lines.join("\n").as_bytes()).unwrap();
        if reply.status != 204 {
            assert!(reply.header("retry-after").is_some(), "{}", reply.text());
            break reply.status;
        }
        written += 500;
    };
    assert_eq!(status, 503);
    assert!(written > 10_000, "{written} records fit the log");
    let memory = server.private_bytes() >> 20;
    assert!(memory < 256, "{memory} MiB");
    house.proxy.set(Mode::Pass);
    wait_for("all to arrive", LONG, || {
        let is_all =
            server.metric("tidegate_wal_applied_lsn") >= server.metric("tidegate_wal_durable_lsn");
        is_all.then_some(())
    });
    assert_eq!(house.stored("cpu").len(), usize::try_from(written).unwrap());
    tell(format!("upstream: {written} records in a full log, {memory} MiB of memory"));
    server.stop();
}

/// One writer: its keys are its own, and each is written again and again with the next version.
struct Writer {
    host: String,
    time_ns: i64,
    /// By time: the highest version that was sent, and the highest that was acknowledged.
    sent: BTreeMap<i64, i64>,
    acknowledged: BTreeMap<i64, i64>,
}

impl Writer {
    fn run(&mut self, address: SocketAddr, is_over: &AtomicBool, seed: u64) {
        let (mut random, clock) = (Random::new(seed), SystemClock::new());
        let mut client = Client::new(address);
        while !is_over.load(Ordering::SeqCst) {
            let mut lines = Vec::new();
            let mut now: BTreeMap<i64, i64> = BTreeMap::new();
            for _ in 0..=random.below(20) {
                // Few keys: many are overtaken in their own turn, in their own request even.
                let at = i64::try_from(random.below(KEYS)).unwrap();
                let time_ns = self.time_ns + at * 1_000_000;
                let version = self.sent.get(&time_ns).copied().unwrap_or(0) + 1;
                self.sent.insert(time_ns, version);
                now.insert(time_ns, version);
                lines.push(format!(
                    "cpu,host={} n={version}i,_version={version}i {time_ns}",
                    self.host
                ));
            }
            let target = "/write?db=fleet&precision=ns";
            let Ok(reply) = client.post(target, &[], lines.join("\n").as_bytes()) else { return };
            assert!(matches!(reply.status, 204 | 503), "{}", reply.text());
            if reply.status == 204 {
                self.acknowledged.extend(now);
            }
            clock.sleep(PAUSE);
        }
    }
}

/// The gateway is killed at random moments, while the way to the upstream fails at random.
#[test]
fn what_was_acknowledged_reaches_the_upstream_whoever_is_killed() {
    let seed = Random::seed_from("TIDEGATE_UPSTREAM_SEED");
    let given = std::env::var("TIDEGATE_UPSTREAM_CYCLES").ok();
    let cycles = given.map_or(CYCLES, |text| text.parse().unwrap());
    tell(format!("upstream: {cycles} kills, TIDEGATE_UPSTREAM_SEED={seed}"));
    let mut random = Random::new(seed);
    let mut house = House::new("[shards]\ncount = 3\n");
    let (clock, time_ns) = (SystemClock::new(), recent_ns());
    let mut writers: Vec<Writer> = (0..4)
        .map(|at| Writer {
            host: format!("h{at}"),
            time_ns,
            sent: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
        })
        .collect();
    for cycle in 0..cycles {
        let server = house.place.start();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for (writer, seed) in writers.iter_mut().zip(seed + cycle * 10..) {
                let (address, is_over) = (server.address, &is_over);
                scope.spawn(move || writer.run(address, is_over, seed));
            }
            for _ in 0..4 {
                house.proxy.set(match random.below(6) {
                    0 => Mode::LoseAnswer,
                    1 => Mode::FailAfter,
                    2 => Mode::Slow(Duration::from_millis(random.within(0..300))),
                    3 => Mode::Throttle,
                    _ => Mode::Pass,
                });
                clock.sleep(Duration::from_millis(random.within(50..350)));
            }
            if cycle % 3 == 1 {
                house.restart_upstream();
            }
            server.kill();
            is_over.store(true, Ordering::SeqCst);
        });
        house.proxy.set(Mode::Pass);
    }
    let server = house.place.start();
    let marks = || {
        let at = |name: &str| server.metric(&format!("tidegate_wal_{name}_lsn"));
        (at("applied"), at("durable"))
    };
    wait_for("the log to be executed", LONG, || {
        let (applied, durable) = marks();
        (applied >= durable).then_some(())
    });
    let stored = house.stored("cpu");
    check(&writers, &stored);
    let text = house.place.files("rejects", ".json");
    assert!(text.is_empty(), "reported, and nothing was wrong: {text:?}");
    tell_all(&house, &writers);
    server.stop();
}

/// What the run was, and how many rejections of records sent again it kept from being reported.
fn tell_all(house: &House, writers: &[Writer]) {
    let acknowledged: usize = writers.iter().map(|writer| writer.acknowledged.len()).sum();
    let versions: i64 = writers.iter().flat_map(|writer| writer.sent.values()).sum();
    let refused = refused_upstream(house);
    tell(format!(
        "upstream: {acknowledged} keys acknowledged, {versions} versions sent; {refused} since the \
         upstream's last start, none reported"
    ));
}

fn check(writers: &[Writer], stored: &BTreeMap<(String, i64), (i64, i64)>) {
    let mut wrong = Vec::new();
    for writer in writers {
        for (time_ns, owed) in &writer.acknowledged {
            let highest = writer.sent[time_ns];
            match stored.get(&(writer.host.clone(), *time_ns)) {
                None => wrong.push(format!("lost: {} {time_ns}", writer.host)),
                Some((version, n)) if version < owed || version > &highest || n != version => {
                    wrong.push(format!("{} {time_ns}: {version}/{n}, owed {owed}", writer.host));
                }
                Some(_) => {}
            }
        }
    }
    let sent: usize = writers.iter().map(|writer| writer.sent.len()).sum();
    if stored.len() > sent {
        wrong.push(format!("{} stored, {sent} sent", stored.len()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(!stored.is_empty(), "nothing was stored, so nothing is proved");
}
