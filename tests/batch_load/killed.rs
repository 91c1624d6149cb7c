//! A server killed again and again while it loads.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::base::clock::{Clock, SystemClock};

use super::common::gateway::{Gateway, Place};
use super::common::random::Random;
use super::common::{tell, wait_for};
use super::in_directory;

const ROWS: u64 = 400_000;

/// Every so many rows one cannot be read, one repeats a record with another value, one is too early.
const STRIDE: u64 = 1_000;

const KILLS: u64 = 4;

const END_MAX: Duration = Duration::from_mins(4);

pub(super) fn call(server: &Gateway, operation: &str, body: &Value) -> Value {
    let target = format!("Timestream_20181101.{operation}");
    let headers =
        [("X-Amz-Target", target.as_str()), ("Content-Type", "application/x-amz-json-1.0")];
    let reply = server.client().post("/", &headers, body.to_string().as_bytes());
    let reply = reply.expect("a request is answered");
    assert_eq!(reply.status, 200, "{operation}: {}", reply.text());
    serde_json::from_str(&reply.text()).expect("an answer is JSON")
}

fn source(now_ms: u64) -> String {
    let mut text = String::from("time,host,v\n");
    for at in 0..ROWS {
        let time = now_ms - ROWS + at - at % 2;
        let (time, host, value) = match at % STRIDE {
            // The same record as the row before, with another value.
            1 => (time.to_string(), 0, at + 1),
            501 => ("soon".to_owned(), 1, at),
            701 => ((now_ms + 86_400_000).to_string(), 1, at),
            _ => (time.to_string(), at % 2, at),
        };
        writeln!(text, "{time},h{host},{value}").expect("it is a String");
    }
    text
}

fn asked() -> Value {
    json!({
        "TargetDatabaseName": "loads", "TargetTableName": "rows",
        "DataSourceConfiguration": {"DataFormat": "CSV",
            "DataSourceS3Configuration": {"BucketName": "source", "ObjectKeyPrefix": "rows.csv"}},
        "DataModelConfiguration": {"DataModel": {
            "TimeColumn": "time", "DimensionMappings": [{"SourceColumn": "host"}],
            "MultiMeasureMappings": {"TargetMultiMeasureName": "rows", "MultiMeasureAttributeMappings": [
                {"SourceColumn": "v", "MeasureValueType": "BIGINT"}]}}},
        "ReportConfiguration": {"ReportS3Configuration": {"BucketName": "reports"}},
    })
}

/// Kills at seeded moments; the counts at the end are those of a load that nobody disturbed, and so are
/// the report and the records.
#[test]
fn a_load_killed_in_its_middle_counts_every_row_once() {
    let seed = 6;
    let mut random = Random::new(seed);
    tell(format!("batch load: {KILLS} kills, seed {seed}"));
    let place = Place::new("");
    let buckets = in_directory(&place);
    let now_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).expect("it is after 1970");
    fs::create_dir_all(format!("{buckets}/source")).expect("a folder can be made");
    fs::create_dir_all(format!("{buckets}/reports")).expect("a folder can be made");
    fs::write(format!("{buckets}/source/rows.csv"), source(now_ms)).expect("it can be written");
    let mut server = place.start();
    call(&server, "CreateDatabase", &json!({"DatabaseName": "loads"}));
    call(&server, "CreateTable", &json!({"DatabaseName": "loads", "TableName": "rows"}));
    let id = call(&server, "CreateBatchLoadTask", &asked())["TaskId"].clone();
    let describe = |server: &Gateway| {
        call(server, "DescribeBatchLoadTask", &json!({"TaskId": id}))["BatchLoadTaskDescription"]
            .take()
    };
    let mut killed_within = 0;
    for _ in 0..KILLS {
        let before = describe(&server)["ProgressReport"]["RecordsProcessed"].clone();
        // Some way into the next stretch: what was sent since the state was written is sent again.
        let log = server.log();
        SystemClock::new().sleep(Duration::from_millis(random.within(0..900)));
        let is_within = describe(&server)["TaskStatus"] == "IN_PROGRESS";
        killed_within += u32::from(is_within);
        server.kill();
        assert_eq!(log.count("panicked"), 0);
        server = place.start();
        let after = describe(&server)["ProgressReport"]["RecordsProcessed"].clone();
        assert!(after.as_u64() >= before.as_u64(), "counts never go back: {before}, {after}");
    }
    let found = wait_for("the load to end", END_MAX, || {
        let found = describe(&server);
        (found["TaskStatus"] == "FAILED").then_some(found)
    });
    let each = ROWS / STRIDE;
    let counts = &found["ProgressReport"];
    assert_eq!(counts["RecordsProcessed"], ROWS, "{found}");
    assert_eq!(counts["ParseFailures"], each, "{found}");
    assert_eq!(counts["RecordIngestionFailures"], 2 * each, "{found}");
    assert_eq!(counts["RecordsIngested"], ROWS - 3 * each, "{found}");
    let report = format!("{buckets}/reports/{}/error-report.json", id.as_str().unwrap_or_default());
    let report: Value = serde_json::from_slice(&fs::read(report).expect("there is a report"))
        .expect("a report is JSON");
    let each = usize::try_from(each).expect("it is small");
    assert_names_each_row_once(&report, each);
    assert_eq!(server.export("loads", "rows").len() as u64, ROWS - 3 * (each as u64));
    assert!(killed_within > 0, "no kill was within the load: the test shows nothing");
    tell(format!(
        "batch load: {killed_within} of {KILLS} kills were within it; nothing was counted twice"
    ));
}

fn assert_names_each_row_once(report: &Value, each: usize) {
    let errors = report["fileErrors"][0]["errors"].as_array().expect("the file has errors");
    let mut firsts: Vec<(u64, usize)> = errors
        .iter()
        .map(|error| {
            let ranges = error["lineRanges"].as_array().expect("an error has lines");
            for (at, range) in ranges.iter().enumerate() {
                let line = ranges[0][0].as_u64().expect("a number") + STRIDE * at as u64;
                assert_eq!(*range, json!([line, line]), "{}", error["reason"]);
            }
            (ranges[0][0].as_u64().expect("a number"), ranges.len())
        })
        .collect();
    firsts.sort_unstable();
    assert_eq!(firsts, [(3, each), (503, each), (703, each)], "the three kinds, each row once");
}
