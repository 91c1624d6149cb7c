//! Names of databases, tables, buckets and keys are the clients'. Whatever they are, they lead to no file
//! outside the data folder, and to none inside it that is not theirs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::common::gateway::{Gateway, Place};
use super::common::{tell, wait_for};
use super::wire::{Signed, encode, exchange, statuses};

const LONG: Duration = Duration::from_mins(1);

/// What a file would hold that a name has led to.
const CANARY: &str = "canary,that,nobody,may,read";

fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        "..",
        ".",
        "../../outside",
        "../outside",
        "/etc/passwd",
        "a/../../outside",
        "..\\..\\outside",
        "%2e%2e",
        "%2e%2e%2foutside",
        "..%2Foutside",
        "%252e%252e%252foutside",
        "a\0b",
        "\0",
        "a\nb",
        "a\r\nX-Injected: b",
        "\u{202e}txt.exe",
        "\u{200b}",
        "\u{feff}",
        "\u{ff0e}\u{ff0e}\u{ff0f}outside",
        "C:\\outside",
        "file:///etc/passwd",
        "-rf",
        "*",
        "~",
        "$(touch outside)",
        "`touch outside`",
        "'; DROP TABLE m; --",
        "manifest.json",
        "catalog.log",
        "_datazone",
        "con",
        "day=2026-01-01",
        "__HIVE_DEFAULT_PARTITION__",
        " ",
        "\u{1f4a5}",
    ]
    .map(str::to_owned)
    .into();
    names.extend([255, 256, 4096, 20_000].map(|length| "n".repeat(length)));
    // Longer than the name of any file, and shorter than the limit of a name.
    names.push("\u{202e}".repeat(80));
    names
}

/// Every file and folder below `dir`.
fn tree(dir: &Path) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.extend(tree(&path));
        }
        all.insert(path);
    }
    all
}

/// Line protocol's measurement.
fn measurement(name: &str) -> String {
    name.replace('\\', "\\\\").replace([',', ' ', '=', '\n', '\r'], "\\_")
}

/// Sends each name by each way in, as database and as table; the second value is refused, so that a
/// report is written as well. Returns how many answers were good, and how many refusals.
fn send_everywhere(server: &Gateway, name: &str) -> [usize; 2] {
    let (encoded, quoted) = (encode(name), json!(name));
    let line = |v: u8| format!("{},s=a v={v}i 1", measurement(name));
    let flat = |v: u8, table: &Value| {
        json!({ "db": name, "measurement": table, "tags": { "s": "a" }, "fields": { "v": v }, "timestamp": 1 })
            .to_string()
    };
    let mut requests = Vec::new();
    for value in [1, 2] {
        for (path, body) in [
            (format!("/write?db={encoded}"), "m,s=a v=1i 1".to_owned()),
            (format!("/write?db=d&rp={encoded}"), line(value)),
            (format!("/write?db={encoded}"), line(value)),
            (format!("/api/v2/write?bucket={encoded}"), line(value)),
            (format!("/api/v3/write_lp?db={encoded}"), line(value)),
            (format!("/api/v1/write?db={encoded}&table={encoded}"), line(value)),
        ] {
            requests.push(("POST", path, "text/plain", body));
        }
        for (path, table) in [
            ("/api/v1/write".to_owned(), &quoted),
            (format!("/api/v1/write?db={encoded}"), &quoted),
        ] {
            requests.push(("POST", path, "application/json", flat(value, table)));
        }
    }
    for path in [
        format!("/api/v1/export?db={encoded}&table={encoded}"),
        format!("/api/v1/export?db=d&table={encoded}"),
        format!(
            "/v2/domains/{encoded}/entities/ASSET/{encoded}/time-series-data-points?formName=a"
        ),
        format!("/v2/domains/dzd-a/entities/{encoded}/e/time-series-data-points/{encoded}"),
        format!("/query?q={}", encode(&format!("CREATE DATABASE {quoted}"))),
        format!("/query?db={encoded}&q={}", encode(&format!("DROP MEASUREMENT {quoted}"))),
        format!("/{encoded}"),
    ] {
        requests.push(("GET", path, "text/plain", String::new()));
    }
    let mut counts = [0, 0];
    for (method, path, kind, body) in requests {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        let answer = exchange(server.address, request.as_bytes());
        let all = statuses(&answer);
        assert!(all.len() == 1 && all[0] < 500, "{name:?} at {path:.200}: {answer:.400}");
        assert!(!answer.contains("\r\nX-Injected"), "{name:?} at {path:.200}");
        assert!(!answer.contains(CANARY), "{name:?} at {path:.200}");
        counts[usize::from(all[0] >= 400)] += 1;
    }
    counts
}

fn call(server: &Gateway, operation: &str, body: &Value) -> (u16, String) {
    let (status, answer) =
        Signed::call(operation, &body.to_string()).send_changed(server.address, |_, _| {});
    assert!((200..500).contains(&status), "{operation} {body}: {answer}");
    assert!(!answer.contains(CANARY));
    (status, answer)
}

/// The same by Timestream's API: names, places of reports, buckets and keys of batch loads. Returns how
/// many loads were begun.
fn call_everywhere(server: &Gateway, name: &str) -> usize {
    let mut loads = 0;
    call(server, "CreateDatabase", &json!({ "DatabaseName": name }));
    for (database, table) in [(name, name), ("home", name)] {
        let names = json!({ "DatabaseName": database, "TableName": table });
        call(server, "CreateTable", &names);
        let record = json!({
            "Dimensions": [{ "Name": "s", "Value": name }], "MeasureName": "m", "MeasureValue": "1",
            "Time": "1",
        });
        let write = json!({ "DatabaseName": database, "TableName": table, "Records": [record] });
        call(server, "WriteRecords", &write);
        call(server, "DescribeTable", &names);
    }
    let place = json!({ "BucketName": name, "ObjectKeyPrefix": name });
    call(
        server,
        "UpdateTable",
        &json!({
            "DatabaseName": "home", "TableName": "table", "MagneticStoreWriteProperties": {
                "EnableMagneticStoreWrites": true,
                "MagneticStoreRejectedDataLocation": { "S3Configuration": place },
            },
        }),
    );
    let mapping = json!({ "SourceColumn": "canary", "MeasureValueType": "VARCHAR" });
    for (bucket, key) in [(name, name), ("bucket", name), (name, "outside.csv")] {
        let source = json!({ "BucketName": bucket, "ObjectKeyPrefix": key });
        let (status, _) = call(
            server,
            "CreateBatchLoadTask",
            &json!({
                "TargetDatabaseName": "home", "TargetTableName": "table",
                "DataSourceConfiguration": {
                    "DataFormat": "CSV", "DataSourceS3Configuration": source,
                },
                "ReportConfiguration": { "ReportS3Configuration": source },
                "DataModelConfiguration": { "DataModel": {
                    "DimensionMappings": [{ "SourceColumn": "that" }],
                    "TimeColumn": "may",
                    "MultiMeasureMappings": {
                        "TargetMultiMeasureName": "m", "MultiMeasureAttributeMappings": [mapping],
                    },
                }},
            }),
        );
        loads += usize::from(status == 200);
    }
    loads
}

fn wait_for_loads(server: &Gateway) {
    wait_for("the batch loads to end", LONG, || {
        let text = server.client().get("/metrics").expect("it is answered").text();
        let of = |status: &str| {
            let name = format!("tidegate_load_tasks{{status=\"{status}\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.is_none_or(|value| value == "0")
        };
        (of("CREATED") && of("IN_PROGRESS")).then_some(())
    });
}

/// A file or folder of the data whose name says where it is, and that holds nothing from elsewhere.
fn assert_sound(place: &Place, path: &Path) {
    let below = path.strip_prefix(place.data()).expect("it is below");
    for part in below.components() {
        assert!(matches!(part, Component::Normal(_)), "{} leads elsewhere", path.display());
        let part = part.as_os_str().to_str().expect("names of files are text");
        assert!(!part.chars().any(char::is_control), "{part:?} in {}", path.display());
    }
    assert!(!path.is_symlink(), "{}", path.display());
    let is_planted = path.ends_with("data/outside.csv");
    if path.is_file() && !is_planted {
        let bytes = fs::read(path).expect("it can be read");
        let found = memchr::memmem::find(&bytes, CANARY.as_bytes());
        assert_eq!(found, None, "{} holds what was read elsewhere", path.display());
    }
}

#[test]
fn no_name_leads_out_of_the_data_folder_on_any_protocol() {
    // What names no place at all is tried again as a store that is away is.
    let place = Place::new("[batch_load]\nretry_for = \"0ms\"");
    fs::create_dir_all(place.data().join("buckets/bucket")).expect("it can be made");
    for outside in
        [place.file("outside"), place.file("outside.csv"), place.data().join("outside.csv")]
    {
        fs::write(outside, format!("{CANARY}\n")).expect("it can be written");
    }
    let top = place.file(".");
    let beside = |tree: BTreeSet<PathBuf>| -> BTreeSet<PathBuf> {
        let data = top.join("data");
        tree.into_iter().filter(|path| !path.starts_with(&data)).collect()
    };
    let before = beside(tree(&top));
    let server = place.start();
    call(&server, "CreateDatabase", &json!({ "DatabaseName": "home" }));
    call(&server, "CreateTable", &json!({ "DatabaseName": "home", "TableName": "table" }));
    let (mut counts, mut loads) = ([0, 0], 0);
    let names = names();
    for name in &names {
        let [good, refused] = send_everywhere(&server, name);
        counts = [counts[0] + good, counts[1] + refused];
        loads += call_everywhere(&server, name);
    }
    wait_for_loads(&server);
    server.settle();
    server.stop();
    let mut after = beside(tree(&top));
    after.retain(|path| path.extension().is_none_or(|extension| extension != "log"));
    assert_eq!(before, after, "something was made or removed beside the data folder");
    let inside = tree(&place.data());
    for path in &inside {
        assert_sound(&place, path);
    }
    let [good, refused] = counts;
    tell(format!(
        "hostile names: {} names, {good} requests answered well, {refused} refused, {loads} batch loads \
         begun; {} files, all below",
        names.len(),
        inside.len()
    ));
    assert!(good > 0 && refused > 0 && loads > 0, "nothing was proved");
    // They are names like others to whoever opens the folder next.
    place.start().stop();
}
