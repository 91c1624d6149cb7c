//! Promise: what cannot be stored is kept in the reject sink, with its reason, as it came, and where
//! it came from; once, whatever crashes. What says nothing new is a success, and makes no report.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value as Json, json};

use common::gateway::{Gateway, Place, address_in, kill};
use common::rows::{Key, Row, Value};
use common::wait_for;

/// Longest time until a report is written, on a busy machine.
const REPORT_MAX: Duration = Duration::from_secs(30);

const TIME_NS: i64 = 1_793_491_200_000_000_001;

/// All reports in the sink, by path.
fn reports(place: &Place, kind: &str) -> BTreeMap<PathBuf, Json> {
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).expect("a report can be read");
        let report = serde_json::from_slice(&bytes).expect("a report is JSON");
        (path, report)
    };
    place.files(&format!("rejects/{kind}"), ".json").into_iter().map(read).collect()
}

/// The rejections of all reports of a kind, by number. Each stands once.
fn rejections(place: &Place, kind: &str) -> BTreeMap<String, Json> {
    let mut found = BTreeMap::new();
    for report in reports(place, kind).into_values() {
        for entry in report[kind].as_array().expect("a report lists rejections") {
            let mut entry = entry.clone();
            entry["database"] = report["database"].clone();
            entry["table"] = report["table"].clone();
            let id = entry["id"].as_str().expect("a rejection has a number").to_owned();
            assert!(found.insert(id, entry).is_none(), "twice in the sink: {report}");
        }
    }
    found
}

/// Waits until there are as many rejections, and returns them in the order of the log.
fn wait_for_rejections(place: &Place, kind: &str, count: usize) -> Vec<Json> {
    let what = format!("{count} rejected {kind}");
    let mut found: Vec<Json> = wait_for(&what, REPORT_MAX, || {
        let found = rejections(place, kind);
        (found.len() >= count).then(|| found.into_values().collect())
    });
    found.sort_by_key(|one| (one["lsn"].as_u64(), one["number"].as_u64()));
    found
}

/// Writes a line that is executed by the engine when this returns; gives its LSN.
fn apply(server: &Gateway, line: &str) -> u64 {
    let headers = [("X-Tidegate-Durability", "applied")];
    let mut client = server.client();
    let reply = client.post("/api/v2/write?bucket=iot&precision=ns", &headers, line.as_bytes());
    let reply = reply.expect("a write is answered");
    // 400: the engine refused the line, and said so.
    assert!([204, 400].contains(&reply.status), "{}", reply.text());
    reply.header("x-tidegate-lsn").and_then(|lsn| lsn.parse().ok()).expect("an LSN")
}

fn now_ns() -> i64 {
    use tidegate::base::clock::{Clock, SystemClock};
    SystemClock::new().wall_ns()
}

#[test]
fn another_value_at_the_same_version_is_kept_as_it_came() {
    let place = Place::new("");
    let server = place.start();
    let begin_ns = now_ns();
    apply(&server, &format!("weather,site=a,hall=7 t=21.5,n=3i {TIME_NS}"));
    let lsn = apply(&server, &format!("weather,site=a,hall=7 t=22.5,n=3i {TIME_NS}"));
    let found = wait_for_rejections(&place, "records", 1);
    let rejected = &found[0];
    assert_eq!((&rejected["database"], &rejected["table"]), (&json!("iot"), &json!("weather")));
    assert_eq!(rejected["lsn"], lsn);
    let received = rejected["received"].as_str().unwrap();
    let received_ns = received.parse::<jiff::Timestamp>().unwrap().as_nanosecond();
    assert!((i128::from(begin_ns)..=i128::from(now_ns())).contains(&received_ns), "{received}");
    assert_eq!(found.len(), 1);
    assert_eq!(rejected["reason"], "version_conflict");
    let stood = json!([
        {"Name": "n", "Value": "3", "Type": "BIGINT"},
        {"Name": "t", "Value": "21.5", "Type": "DOUBLE"},
    ]);
    assert_eq!(rejected["stood"], stood, "the values that it met stand beside it");
    assert_eq!(rejected["existing_version"], 1);
    assert!(rejected["message"].as_str().unwrap().contains("higher record version"), "{rejected}");
    let record = json!({
        "Dimensions": [{"Name": "hall", "Value": "7"}, {"Name": "site", "Value": "a"}],
        "MeasureName": "weather",
        "MeasureValueType": "MULTI",
        "MeasureValues": [
            {"Name": "t", "Value": "22.5", "Type": "DOUBLE"},
            {"Name": "n", "Value": "3", "Type": "BIGINT"},
        ],
        "Time": TIME_NS.to_string(),
        "TimeUnit": "NANOSECONDS",
        "Version": 1,
    });
    assert_eq!(rejected["record"], record);
    let key = Key {
        measurement: "weather".to_owned(),
        tags: [("hall".to_owned(), "7".to_owned()), ("site".to_owned(), "a".to_owned())].into(),
        time_ns: TIME_NS,
    };
    let fields = [("n".to_owned(), Value::Bigint(3)), ("t".to_owned(), Value::Double(21.5))].into();
    assert_eq!(server.export("iot", "weather"), [(key, Row { version: 1, fields })].into());
}

#[test]
fn an_identical_repeat_is_a_success_and_makes_no_report() {
    let place = Place::new("");
    let server = place.start();
    for _ in 0..3 {
        apply(&server, &format!("weather,site=a t=21.5,n=3i {TIME_NS}"));
    }
    // Another attribute at the same version is not another value.
    apply(&server, &format!("weather,site=a humidity=55i {TIME_NS}"));
    let rows = server.export("iot", "weather");
    assert_eq!(rows.values().map(|row| row.fields.len()).collect::<Vec<_>>(), [3]);
    assert_eq!(server.metric("tidegate_reject_records_total").to_bits(), 0.0_f64.to_bits());
    server.stop();
    assert!(["records", "lines"].iter().all(|kind| reports(&place, kind).is_empty()));
}

#[test]
fn refused_lines_are_kept_with_their_reasons_beside_the_good_ones() {
    let place = Place::new("");
    let server = place.start();
    let body = format!("weather,site=a t=1 {TIME_NS}\nweather,site=a\nweather t=abc {TIME_NS}\n");
    let mut client = server.client();
    let reply = client.post("/write?db=iot", &[], body.as_bytes()).unwrap();
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(server.metric("tidegate_ingest_records_total").to_bits(), 1.0_f64.to_bits());
    let lines = wait_for_rejections(&place, "lines", 2);
    let lsn = reply.header("x-tidegate-lsn").unwrap().parse::<u64>().unwrap();
    for line in &lines {
        assert_eq!((&line["database"], &line["lsn"]), (&json!("iot"), &json!(lsn)));
        assert!(line["received"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    }
    let told: Vec<_> = lines.iter().map(|line| (&line["number"], &line["line"])).collect();
    let bad = [(2, "weather,site=a".to_owned()), (3, format!("weather t=abc {TIME_NS}"))];
    let bad = bad.map(|(number, line)| (json!(number), json!(line)));
    assert_eq!(told, [(&bad[0].0, &bad[0].1), (&bad[1].0, &bad[1].1)]);
    assert_eq!(lines[0]["reason"], "no_measure");
    assert!(lines.iter().all(|line| !line["message"].as_str().unwrap().is_empty()));
}

#[test]
fn a_crash_loses_no_report_and_doubles_none() {
    let place = Place::new("[shards]\ncount = 2");
    let server = place.start();
    for site in 0..20 {
        apply(&server, &format!("weather,site={site} t=1 {TIME_NS}"));
        apply(&server, &format!("weather,site={site} t=2 {TIME_NS}"));
    }
    let reply = server.client().post("/write?db=iot", &[], b"broken").unwrap();
    assert_eq!(reply.status, 400);
    // The last conflict is acknowledged by the log alone: nothing waits for its report.
    server.write("iot", &format!("weather,site=0 t=3 {TIME_NS}"));
    server.kill();
    let server = place.start();
    assert_eq!(wait_for_rejections(&place, "records", 21).len(), 21);
    assert_eq!(wait_for_rejections(&place, "lines", 1).len(), 1);
    let before = reports(&place, "");
    // An object of each shard, and one of lines; of two days each when the test runs at midnight.
    assert!((3..=6).contains(&before.len()), "{before:?}");
    server.kill();
    let server = place.start();
    assert_eq!(server.export("iot", "weather").len(), 20);
    server.stop();
    assert_eq!(reports(&place, ""), before, "a replay writes the same reports again, or none");
}

/// A name may be longer than a file system takes, and every byte of it may need three.
#[test]
fn names_of_any_length_are_reported_and_hold_up_nobody() {
    let place = Place::new("[shards]\ncount = 1\n");
    let server = place.start();
    let database = "x".repeat(256);
    let mut client = server.client();
    let path = format!("/api/v2/write?bucket={database}");
    assert_eq!(client.post(&path, &[], b"bad").unwrap().status, 400);
    let table = "\u{6e29}".repeat(85);
    apply(&server, &format!("{table},site=a t=1 {TIME_NS}"));
    apply(&server, &format!("{table},site=a t=2 {TIME_NS}"));
    assert_eq!(wait_for_rejections(&place, "lines", 1)[0]["database"], database);
    assert_eq!(wait_for_rejections(&place, "records", 1)[0]["table"], table);
    server.stop();
}

#[test]
fn who_waits_for_the_engine_hears_what_it_refused() {
    let place = Place::new("");
    let server = place.start();
    let mut client = server.client();
    let applied = [("X-Tidegate-Durability", "applied"), ("Content-Type", "application/json")];
    let body = json!([
        {"measurement": "t", "tags": {"site": "a"}, "fields": {"x": 1}, "timestamp": 1, "version": 7},
        {"measurement": "t", "tags": {"site": "b"}, "fields": {"x": 1}, "timestamp": 1, "version": 7},
    ]);
    let first = client.post("/api/v1/write?db=iot", &applied, body.to_string().as_bytes()).unwrap();
    assert_eq!((first.status, &first.json()["accepted"]), (200, &json!(2)), "{}", first.text());
    let body = json!([
        {"measurement": "t", "tags": {"site": "a"}, "fields": {"x": 2}, "timestamp": 1, "version": 6},
        {"measurement": "t", "tags": {"site": "b"}, "fields": {"x": 2}, "timestamp": 1, "version": 8},
        {"measurement": "t", "tags": {"site": "a"}, "fields": {"x": 3}, "timestamp": 1, "version": 7},
    ]);
    let path = "/api/v1/write?db=iot";
    let reply = client.post(path, &applied, body.to_string().as_bytes()).unwrap();
    let receipt = reply.json();
    assert_eq!((reply.status, &receipt["accepted"]), (200, &json!(1)), "{}", reply.text());
    assert_eq!(receipt["rejected_count"], 2);
    for (at, index) in [(0, 0), (1, 2)] {
        let rejected = &receipt["rejected"][at];
        assert_eq!((&rejected["index"], &rejected["existing_version"]), (&json!(index), &json!(7)));
    }
    assert_eq!(receipt["rejected"][0]["reason"], "version_lower");
    assert_eq!(receipt["rejected"][1]["reason"], "version_conflict");
    // Line protocol in the words of its own family; what is only synced is not asked.
    let line = b"t,site=a x=9i 1";
    let reply = client.post("/api/v2/write?bucket=iot&precision=ms", &applied, line).unwrap();
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["rejections"], json!({ "count": 1, "stored": 0 }));
    assert_eq!(reply.json()["line"], 1);
    let reply = client.post("/api/v2/write?bucket=iot&precision=ms", &[], line).unwrap();
    assert_eq!(reply.status, 204, "{}", reply.text());
    assert_eq!(wait_for_rejections(&place, "records", 4).len(), 4, "told or not, they are kept");
    server.stop();
}

#[test]
fn a_sink_that_is_away_is_told_and_comes_back() {
    let place = Place::new("");
    let server = place.start();
    let sink = place.data().join("rejects");
    std::fs::remove_dir_all(&sink).unwrap();
    std::fs::write(&sink, b"in the way").unwrap();
    let mut client = server.client();
    assert_eq!(client.post("/api/v2/write?bucket=iot", &[], b"bad").unwrap().status, 400);
    let health = wait_for("the sink to be missed", REPORT_MAX, || {
        client.get("/health").ok().filter(|reply| reply.text().contains(r#""warn""#))
    });
    assert_eq!(health.status, 200, "a restart would not help: {}", health.text());
    assert!(health.text().contains("rejects: takes no reports"), "{}", health.text());
    std::fs::remove_file(&sink).unwrap();
    std::fs::create_dir(&sink).unwrap();
    wait_for_rejections(&place, "lines", 1);
    wait_for("the sink to be well", REPORT_MAX, || {
        client.get("/health").ok().filter(|reply| !reply.text().contains(r#""warn""#))
    });
}

fn refuse(server: &Gateway, line: &str) {
    let reply = server.client().post("/api/v2/write?bucket=iot", &[], line.as_bytes());
    assert_eq!(reply.expect("it is answered").status, 400);
    server.settle();
}

/// What a start that is refused says.
fn refusal(place: &Place) -> String {
    let (mut child, log) = place.spawn();
    let said = || std::fs::read_to_string(&log).expect("a log was written");
    let status = wait_for("the start to be refused", REPORT_MAX, || {
        if address_in(&log).is_some() {
            kill(&mut child);
            unreachable!("it starts: {}", said());
        }
        child.try_wait().expect("it is our child")
    });
    assert_eq!(status.code(), Some(1), "{}", said());
    said()
}

/// Reports are named by the numbers of their log, and every log begins with 1.
#[test]
fn a_sink_is_one_gateways_and_another_is_refused_until_it_takes_it_over() {
    let (place, other) = (Place::new(""), Place::new(""));
    let sink = place.data().join("rejects");
    other.configure(&format!("[rejects]\nurl = {:?}\n", sink.display().to_string()));
    let lines = || -> Vec<String> {
        let found = rejections(&place, "lines");
        found.values().map(|one| one["line"].as_str().expect("a line").to_owned()).collect()
    };
    let server = place.start();
    refuse(&server, "first");
    server.stop();
    for _ in 0..2 {
        let told = refusal(&other);
        for part in ["it is the reject sink of gateway ", "prefix of its own", "--take-rejects"] {
            assert!(told.contains(part), "{told}");
        }
    }
    // Without the word it is not taken either, nor where the gateway has it already.
    let done = other.run("wal", &["begin"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && told.contains("it is the reject sink of gateway "), "{told}");
    assert_eq!(lines(), ["first"]);

    let done = other.run("wal", &["begin", "--take-rejects"]);
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(
        told.contains("The reject sink was gateway ")
            && told.contains("'s, and is this one's now."),
        "{told}"
    );
    let server = other.start();
    refuse(&server, "second");
    let reply = server.client().get("/api/v1/rejects").expect("a list is answered");
    assert_eq!(reply.json()["rejections"].as_array().map(Vec::len), Some(2), "{}", reply.text());
    server.stop();
    assert_eq!(lines(), ["first", "second"]);
    assert!(refusal(&place).contains("it is the reject sink of gateway "));
}

/// A machine is lost with its disk, and another takes its place.
#[test]
fn a_sink_outlives_the_data_folder_and_its_numbers_go_on() {
    let (place, other) = (Place::new(""), Place::new(""));
    let sink = place.data().join("rejects");
    other.configure(&format!("[rejects]\nurl = {:?}\n", sink.display().to_string()));
    let server = place.start();
    for number in 0..5 {
        refuse(&server, &format!("line{number}"));
    }
    server.stop();
    // Nothing was ever started on the new folder.
    let done = other.run("wal", &["begin", "--take-rejects"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = other.start();
    refuse(&server, "behind");
    server.stop();
    assert_eq!(wait_for_rejections(&place, "lines", 6).len(), 6);
}

/// The log is gone and its folder stayed; or the folder was put back as it was before.
#[test]
fn a_log_that_lost_what_is_reported_does_not_write_over_it() {
    let place = Place::new("");
    let server = place.start();
    refuse(&server, "first");
    server.stop();
    let copy = place.file("copy");
    copy_folder(&place.data().join("wal"), &copy);
    let server = place.start();
    for number in 0..3 {
        refuse(&server, &format!("later{number}"));
    }
    // Told to the sink with the first write after a minute at the latest, and at a start.
    server.stop();
    place.start().stop();
    let wal = place.data().join("wal");
    std::fs::remove_dir_all(&wal).unwrap();
    let told = refusal(&place);
    assert!(told.contains("but there is no log in"), "the catalog misses it already: {told}");
    copy_folder(&copy, &wal);
    let told = refusal(&place);
    assert!(told.contains("at least, and the log ends at 2: the log lost its end"), "{told}");
    assert_eq!(wait_for_rejections(&place, "lines", 4).len(), 4);

    std::fs::remove_dir_all(&wal).unwrap();
    let done = place.run("wal", &["begin"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let server = place.start();
    refuse(&server, "behind");
    server.stop();
    assert_eq!(wait_for_rejections(&place, "lines", 5).len(), 5);
}

/// A copy of a running gateway's log, put back after a crash: the sink was not told of what was reported since.
#[test]
fn an_older_copy_meets_what_was_reported_and_does_not_write_over_it() {
    let place = Place::new("");
    let server = place.start();
    refuse(&server, "first");
    let copy = place.file("copy");
    copy_folder(&place.data().join("wal"), &copy);
    refuse(&server, "second");
    refuse(&server, "third");
    server.kill();
    let wal = place.data().join("wal");
    std::fs::remove_dir_all(&wal).unwrap();
    copy_folder(&copy, &wal);
    let server = place.start();
    let reply = server.client().post("/api/v2/write?bucket=iot", &[], b"another");
    assert_eq!(reply.expect("it is answered").status, 400);
    let health = wait_for("the reports to be met", REPORT_MAX, || {
        let health = server.client().get("/health").ok()?.text();
        health.contains("the log lost its end, or is an older copy").then_some(health)
    });
    assert!(health.contains("it has reports of frames up to "), "{health}");
    let lines: Vec<Json> =
        rejections(&place, "lines").into_values().map(|one| one["line"].clone()).collect();
    assert_eq!(lines, ["first", "second", "third"]);
    server.kill();

    // As the message says.
    place.configure(&format!("[rejects]\nurl = {:?}\n", place.file("own").display().to_string()));
    let server = place.start();
    server.settle();
    let reply = server.client().get("/api/v1/rejects").expect("a list is answered");
    assert!(reply.text().contains("another"), "nothing is lost: {}", reply.text());
    server.stop();
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder can be made");
    for entry in std::fs::read_dir(from).expect("a folder can be read") {
        let entry = entry.expect("a folder can be read");
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("a file can be copied");
    }
}

#[test]
fn what_only_reads_a_folder_does_not_need_its_sink() {
    let (place, other) = (Place::new(""), Place::new(""));
    let server = place.start();
    apply(&server, "weather,site=a t=1");
    refuse(&server, "bad");
    server.stop();
    other.configure(&format!(
        "[rejects]\nurl = {:?}\n",
        place.data().join("rejects").display().to_string()
    ));
    let done = other.run("wal", &["begin", "--take-rejects"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(refusal(&place).contains("it is the reject sink of gateway "));
    let done = place.run("export", &["--database", "iot", "--table", "weather"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(String::from_utf8_lossy(&done.stdout).contains("weather"));
}

#[test]
fn a_sink_that_is_not_there_is_not_taken_and_a_name_that_is_lost_is_asked_for() {
    let place = Place::new("");
    let done = place.run("wal", &["begin", "--take-rejects"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && told.contains("there is no reject sink at "), "{told}");
    place.start().stop();
    let name = place.data().join("gateway-id");
    let text = std::fs::read_to_string(&name).unwrap();
    std::fs::write(&name, "").unwrap();
    let told = refusal(&place);
    assert!(told.contains("gateway-id") && told.contains("it is empty"), "{told}");
    std::fs::remove_file(&name).unwrap();
    let told = refusal(&place);
    assert!(told.contains(&format!("the reject sink of gateway {text}")), "{told}");
    assert!(told.contains("write that name into it"), "{told}");
    std::fs::write(&name, text + "\n").unwrap();
    place.start().stop();
}
