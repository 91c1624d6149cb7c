//! What a load itself takes of a server's memory: private pages without the engine's records, which stay
//! the same few, since every row repeats one of them.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::json;
use tidegate::base::clock::{Clock, SystemClock};

use super::common::gateway::{Gateway, Place};
use super::common::tell;
use super::{in_directory, killed};

/// Rows of the smaller file, and how many times as many the larger one has.
const ROWS: u64 = 20_000;
const TIMES: u64 = 10;

/// Bytes of each row that nothing maps: the larger file has 80 MiB.
const FILLING: usize = 400;

/// What a load may take, and how much more of the larger file: half of what it is longer by.
const OWN_MAX: u64 = 64 << 20;
const GROWTH_MAX: u64 = (TIMES - 1) * ROWS * FILLING as u64 / 2;

const LOOK: Duration = Duration::from_millis(20);

fn source(now_ms: u64, rows: u64) -> String {
    let filling = "x".repeat(FILLING);
    let mut text = String::from("time,host,v,filling\n");
    for at in (0..rows).map(|at| at % 1_000) {
        writeln!(text, "{},h{},{at}.5,{filling}", now_ms - at, at % 10).expect("it is a String");
    }
    text
}

/// Most that the server has beside the engine's records while it loads a file.
fn own_bytes(server: &Gateway, clock: &SystemClock, prefix: &str) -> u64 {
    let model = json!({"TimeColumn": "time", "DimensionMappings": [{"SourceColumn": "host"}],
        "MultiMeasureMappings": {"TargetMultiMeasureName": "rows", "MultiMeasureAttributeMappings": [
            {"SourceColumn": "v", "MeasureValueType": "DOUBLE"}]}});
    let asked = json!({"TargetDatabaseName": "hist", "TargetTableName": "rows",
        "DataModelConfiguration": {"DataModel": model}, "ReportConfiguration": {},
        "DataSourceConfiguration": {"DataFormat": "CSV",
            "DataSourceS3Configuration": {"BucketName": "source", "ObjectKeyPrefix": prefix}}});
    let id = killed::call(server, "CreateBatchLoadTask", &asked)["TaskId"].clone();
    let mut most = 0;
    loop {
        let told = killed::call(server, "DescribeBatchLoadTask", &json!({ "TaskId": id }));
        let task = &told["BatchLoadTaskDescription"];
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is a size")]
        let engine = server.metric("tidegate_engine_memory_bytes") as u64;
        most = most.max(server.private_bytes().saturating_sub(engine));
        match task["TaskStatus"].as_str() {
            Some("CREATED" | "IN_PROGRESS") => clock.sleep(LOOK),
            status => {
                assert_eq!(status, Some("SUCCEEDED"), "{task}");
                return most;
            }
        }
    }
}

#[test]
fn the_memory_of_a_load_does_not_grow_with_its_file() {
    let place = Place::new("");
    let buckets = std::path::PathBuf::from(in_directory(&place));
    let clock = SystemClock::new();
    let now_ms = u64::try_from(clock.wall_ns()).expect("it is after 1970") / 1_000_000;
    fs::create_dir_all(buckets.join("source")).expect("a folder can be made");
    for (name, rows) in [("small", ROWS), ("large", TIMES * ROWS)] {
        fs::write(buckets.join("source").join(name), source(now_ms, rows))
            .expect("a file is written");
    }
    let server = place.start();
    server.write("hist", "rows,host=a v=1 1");
    let [small, large] = ["small", "large"].map(|name| own_bytes(&server, &clock, name));
    tell(format!("a load takes {} KiB, ten times as large {} KiB", small >> 10, large >> 10));
    assert!(large < OWN_MAX, "{large}");
    assert!(large < small + GROWTH_MAX, "{small} {large}");
}
