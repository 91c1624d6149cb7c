//! Promise: what real clients write reads back equal: every record, every value with its type, every
//! nanosecond; through the server, through the command line, and with other readers of the files.
//!
//! The Python client and the readers of Parquet are installed by `tests/run.sh`;
//! `TIDEGATE_TEST_PYTHON` names the interpreter that has them. Without them these tests fail: a test
//! that is skipped proves nothing.

#[path = "clients/fleet.rs"]
mod fleet;
#[path = "common/mod.rs"]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use common::gateway::{Gateway, Place};
use common::rows::{Key, Row, Rows, differences};
use common::{tell, wait_for};
use fleet::{as_lines, as_ndjson, figures, fleet};

/// Lines that the Python client writes, a quarter in each of its modes.
const PYTHON_LINES: usize = 100_000;

/// Lines that curl writes, a quarter on each of its ways.
const CURL_LINES: usize = 20_000;

/// Lines of one request of curl.
const CURL_LINES_PER_REQUEST: usize = 2_500;

/// Longest time until a flush or a compaction, on a busy machine.
const FLUSH_MAX: Duration = Duration::from_mins(1);

const DATABASE: &str = "tsbs";

fn python(script: &str) -> Command {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let interpreter = std::env::var_os("TIDEGATE_TEST_PYTHON")
        .map_or_else(|| top.join("tests/.tools/python/bin/python"), PathBuf::from);
    assert!(
        interpreter.exists(),
        "there is no {}: tests/run.sh installs what this test needs",
        interpreter.display()
    );
    let mut command = Command::new(interpreter);
    command.arg(top.join("tests/clients").join(script));
    command
}

/// What a command prints; it must succeed.
fn printed(command: &mut Command) -> String {
    let output: Output = command.output().expect("a command that tests/run.sh installs");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {complaints}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn rows(records: &[(Key, Row)]) -> Rows {
    let rows: Rows = records.iter().cloned().collect();
    assert_eq!(rows.len(), records.len(), "every record has a key of its own");
    rows
}

/// Reads a table back on every way there is, the server being stopped in between.
fn assert_reads_back(place: &Place, server: Gateway, expected: &[(&str, Rows)]) {
    server.settle();
    for (table, rows) in expected {
        let wrong = differences(rows, &server.export(DATABASE, table));
        assert!(wrong.is_empty(), "GET /api/v1/export, {table}:\n{}", wrong.join("\n"));
    }
    server.stop();
    for (table, rows) in expected {
        let found = parquet(place, table);
        let wanted = figures(rows);
        for reader in ["pyarrow", "duckdb"] {
            assert_eq!(found[reader], wanted, "{reader}, {table}");
        }
        let wrong = differences(rows, &place.exported(DATABASE, table));
        assert!(wrong.is_empty(), "tidegate export, {table}:\n{}", wrong.join("\n"));
    }
}

/// What other readers find in the files of a table.
fn parquet(place: &Place, table: &str) -> serde_json::Value {
    let mut files = place.files("tables", ".parquet");
    let folder = format!("/{DATABASE}/{table}-");
    files.retain(|path| path.to_string_lossy().contains(&folder));
    assert!(!files.is_empty(), "a stop leaves every record in files");
    let text = printed(python("parquet.py").args(files));
    serde_json::from_str(&text).expect("parquet.py prints JSON")
}

#[test]
fn the_python_client_writes_a_fleet_and_every_record_reads_back_equal() {
    let records = fleet("cpu", PYTHON_LINES, 1);
    let place = Place::new("");
    let file = place.file("fleet.ndjson");
    std::fs::write(&file, as_ndjson(&records)).unwrap();
    let server = place.start();
    let url = format!("http://{}", server.address);
    let told = printed(python("write.py").args([&url, DATABASE]).arg(&file));
    tell(format!("clients: influxdb-client\n{}", told.trim_end()));
    assert_reads_back(&place, server, &[("cpu", rows(&records))]);
}

#[test]
fn curl_writes_a_fleet_and_every_record_reads_back_equal() {
    let records = fleet("cpu", CURL_LINES, 2);
    // Many small files, which become few while other readers are none the wiser.
    let place = Place::new("[engine.embedded]\nflush_interval = \"100ms\"\ncompact_files = 2\n");
    let server = place.start();
    let ways = [
        ("/write?db=tsbs&precision=ns", ""),
        ("/api/v2/write?bucket=tsbs&org=o&precision=ns", "gzip"),
        ("/api/v3/write_lp?db=tsbs&precision=nanosecond", "zstd"),
        ("/api/v1/write?db=tsbs&precision=ns", "deflate"),
    ];
    for (at, part) in records.chunks(CURL_LINES_PER_REQUEST).enumerate() {
        let (target, encoding) = ways[at % ways.len()];
        let file = place.file("body");
        std::fs::write(&file, encoded(encoding, &as_lines(part))).unwrap();
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail-with-body"]);
        curl.args(["--header", "Content-Type: text/plain"]);
        if !encoding.is_empty() {
            curl.args(["--header", &format!("Content-Encoding: {encoding}")]);
        }
        curl.arg("--data-binary").arg(format!("@{}", file.display()));
        printed(curl.arg(format!("http://{}{target}", server.address)));
        // One file a request, so that there is something to merge.
        let files = wait_for("a flush", FLUSH_MAX, || {
            let rows = server.metric("tidegate_engine_memory_rows");
            (rows < 1.0).then(|| server.metric("tidegate_engine_files"))
        });
        assert!(files > 0.0);
    }
    wait_for("a compaction", FLUSH_MAX, || {
        (server.metric("tidegate_engine_compactions_total") > 0.0).then_some(())
    });
    assert_reads_back(&place, server, &[("cpu", rows(&records))]);
}

/// The body as `Content-Encoding` names it.
fn encoded(encoding: &str, text: &str) -> Vec<u8> {
    use flate2::Compression;
    use flate2::read::{GzEncoder, ZlibEncoder};
    use std::io::Read;
    let mut bytes = Vec::new();
    match encoding {
        "gzip" => GzEncoder::new(text.as_bytes(), Compression::fast()).read_to_end(&mut bytes),
        "deflate" => ZlibEncoder::new(text.as_bytes(), Compression::fast()).read_to_end(&mut bytes),
        "zstd" => zstd::encode_all(text.as_bytes(), 1).map(|all| {
            bytes = all;
            bytes.len()
        }),
        _ => text.as_bytes().read_to_end(&mut bytes),
    }
    .expect("memory takes all");
    bytes
}
