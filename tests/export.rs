//! Promise: an export that cannot be read to its end does not end as a whole one, whoever reads it.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::gateway::{Gateway, Place};

/// Rows of a day. Two days of them are more than a scan takes at a time, so that the rows of the first
/// are on their way when those of the second turn out to be unreadable.
const ROWS: u64 = 640;

const ROW_BYTES: usize = 60_000;

const DAY_NS: u64 = 86_400_000_000_000;

/// What the command writes behind a part.
const MARK: &[u8] = b"\"broken off: not all records could be read\n";

const EXPORT: &str = "/api/v1/export?db=d&table=big";

/// Two days, each in a file of its own, of a server that was started anew. Nothing touches the files. A day
/// is so many rows of so many bytes.
fn two_days(days: [(u64, usize); 2]) -> (Place, Gateway) {
    let place = Place::new("");
    let server = place.start();
    for (day, (rows, row_bytes)) in (0..).zip(days) {
        let text = "x".repeat(row_bytes);
        for begin in (0..rows).step_by(160) {
            let time = |n| 1_700_000_000_000_000_000 + day * DAY_NS + n;
            let lines: Vec<String> = (begin..rows.min(begin + 160))
                .map(|n| format!("big,host=a s=\"{text}\" {}\n", time(n)))
                .collect();
            server.write("d", &lines.concat());
        }
    }
    server.stop();
    let server = place.start();
    (place, server)
}

/// Writes over all that a Parquet file holds in front of its footer.
fn damage(file: &Path) {
    let mut bytes = fs::read(file).expect("the file can be read");
    let end = bytes.len() - 8;
    let footer: [u8; 4] = bytes[end..end + 4].try_into().expect("four bytes");
    let pages = 4..end - u32::from_le_bytes(footer) as usize;
    bytes[pages].fill(0xff);
    fs::write(file, bytes).expect("the file can be written");
}

/// All that a client gets until the connection ends.
fn raw(server: &Gateway, query: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout can be set");
    let head = format!("GET {EXPORT}{query} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a request can be sent");
    let mut all = Vec::new();
    // By an end or by an error; what matters is that the last chunk is missing.
    drop(stream.read_to_end(&mut all));
    all
}

/// Goal: neither a client of the server nor a file of the command takes a part for the whole. Method: the
/// pages of the later of two files are overwritten under the running server, its footer is not.
#[test]
fn an_export_of_a_damaged_file_is_broken_off_for_every_reader() {
    let (place, server) = two_days([(ROWS, ROW_BYTES); 2]);
    assert!(
        raw(&server, "").ends_with(b"\r\n0\r\n\r\n"),
        "a whole export ends with the last chunk"
    );
    let files = place.files("tables", ".parquet");
    assert_eq!(files.len(), 2, "{files:?}");
    damage(files.iter().max().expect("two"));
    for format in ["json", "line", "csv", "parquet"] {
        let part = raw(&server, &format!("&format={format}"));
        assert!(!part.ends_with(b"0\r\n\r\n"), "{format}: {} bytes end as a whole", part.len());
        let url = format!("http://{}{EXPORT}&format={format}", server.address);
        let curl = Command::new("curl").args(["-s", "-S", "-o", "/dev/null", &url]).output();
        let curl = curl.expect("curl runs");
        assert!(!curl.status.success(), "{format}: {curl:?}");
    }
    let part = raw(&server, "");
    assert!(part.len() > 100 * ROW_BYTES, "only {} bytes: not in the middle", part.len());
    assert!(server.log().count("export broken off") >= 8);
    server.stop();
    for format in ["json", "line", "csv", "parquet"] {
        let flags = ["--database", "d", "--table", "big", "--format", format];
        let exported = place.run("export", &flags);
        let said = String::from_utf8_lossy(&exported.stderr);
        assert_eq!(exported.status.code(), Some(1), "{format}: {said}");
        let is_marked = exported.stdout.ends_with(MARK);
        assert_eq!(is_marked, format != "parquet", "{format}");
        assert!(!exported.stdout.ends_with(b"PAR1"), "{format}");
    }
}

/// Goal: the mark is the last that is written, also where all before it still waits to be: a few short
/// rows fill no buffer. Method: the day behind them is so large that a scan takes it by itself.
#[test]
fn an_export_that_breaks_off_behind_a_few_short_rows_ends_with_its_mark() {
    let (place, server) = two_days([(5, 1), (2 * ROWS, ROW_BYTES)]);
    server.stop();
    let files = place.files("tables", ".parquet");
    damage(files.iter().max().expect("two"));
    for (format, lines) in [("json", 5), ("line", 5), ("csv", 6)] {
        let flags = ["--database", "d", "--table", "big", "--format", format];
        let exported = place.run("export", &flags);
        let said = String::from_utf8_lossy(&exported.stderr);
        assert_eq!(exported.status.code(), Some(1), "{format}: {said}");
        let rows = exported.stdout.strip_suffix(MARK);
        let rows = String::from_utf8_lossy(rows.expect("the mark is the last"));
        assert_eq!(rows.lines().count(), lines, "{format}: each once: {rows}");
        assert!(rows.len() < 8 << 10 && !rows.contains("broken off"), "{format}");
    }
}
