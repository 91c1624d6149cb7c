//! Promise: what the pages in `docs` print works as it is printed.
//!
//! Blocks are taken out of the text and run by the real thing: curl, Telegraf, Python, `MicroPython`, boto3,
//! Node.js; the port of a test's server stands in place of the default one. Then the records must be in
//! that server. What Arduino's library would send is sent byte by byte; no test compiles its sketch.

#[path = "common/mod.rs"]
mod common;
mod docs_support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::gateway::{Gateway, Place};
use docs_support::{Block, blocks, interpret, links, run, tool};

const HOWTO: &str = include_str!("../docs/howto.md");
const OPERATING: &str = include_str!("../docs/operating.md");
const NOT_PROMISED: &str = include_str!("../docs/not-promised.md");

/// The blocks below a heading, with the address of a server in them.
fn section(heading: &str, server: &Gateway) -> Vec<Block> {
    let mut section = blocks(HOWTO);
    section.retain(|block| block.heading == heading);
    for block in &mut section {
        block.text = block.text.replace("127.0.0.1:8086", &server.address.to_string());
    }
    assert!(!section.is_empty(), "no blocks below {heading:?}");
    section
}

/// The export of a table, sorted by line.
fn exported(server: &Gateway, database: &str, table: &str) -> String {
    server.settle();
    let target = format!("/api/v1/export?db={database}&table={table}");
    let reply = server.client().get(&target).expect("an export is answered");
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.text()
}

#[test]
fn curl() {
    let place = Place::new("");
    let server = place.start();
    for block in section("curl", &server) {
        if block.language == "sh" {
            interpret("sh", &block.text);
        } else {
            assert_eq!(exported(&server, "curl", "weather"), block.text);
        }
    }
}

#[test]
fn python_keeps_what_was_not_acknowledged() {
    let place = Place::new("");
    let server = place.start();
    interpret("python", &section("Python", &server)[0].text);
    assert!(exported(&server, "python", "weather").contains("\"temperature\":21.4"));
}

#[test]
fn micropython() {
    let place = Place::new("");
    let server = place.start();
    interpret("micropython", &section("MicroPython", &server)[0].text);
    let stored = exported(&server, "micropython", "weather");
    assert_eq!(stored.lines().count(), 2, "{stored}");
    assert!(stored.contains("\"temperature\":21.5"), "{stored}");
}

/// One of each output plugin, by a real Telegraf that reads one file once.
#[test]
fn telegraf() {
    let place = Place::new("");
    let server = place.start();
    fs::write(place.file("metrics.lp"), line_of_now()).expect("it can be written");
    let outputs = section("Telegraf", &server);
    assert_eq!(outputs.len(), 4);
    for (at, output) in outputs.into_iter().enumerate() {
        let database = format!("telegraf{at}");
        let text = output.text.replace("\"telegraf\"", &format!("{database:?}"));
        let text = text.replace("db=telegraf", &format!("db={database}"));
        // Metrics without the host that Telegraf adds, so that every machine sends the same.
        let input = "[agent]\n  omit_hostname = true\n[[inputs.file]]\n  files = [\"metrics.lp\"]\n  data_format = \"influx\"\n";
        fs::write(place.file("telegraf.conf"), format!("{input}{text}"))
            .expect("it can be written");
        let mut telegraf = Command::new(tool("telegraf"));
        telegraf.args(["--config", "telegraf.conf", "--once"]).env("TIDEGATE_TOKEN", "any");
        if text.contains("outputs.timestream") {
            // The plugin makes tables, not databases.
            interpret(
                "python",
                &format!(
                    "import boto3; boto3.client('timestream-write', endpoint_url='http://{}')\
                 .create_database(DatabaseName='{database}')",
                    server.address
                ),
            );
        }
        telegraf.current_dir(place.file("."));
        run(telegraf);
        let stored = exported(&server, &database, "weather");
        assert_eq!(stored.lines().count(), 1, "{text}: {stored}");
        for part in ["\"device\":\"d-17\"", "\"temperature\":21.4", "67"] {
            assert!(stored.contains(part), "{part} by {text}: {stored}");
        }
    }
}

/// Strict tables, which Timestream's plugin makes, take the present only.
fn line_of_now() -> String {
    use tidegate::base::clock::{Clock, SystemClock};
    let now_ns = SystemClock::new().wall_ns();
    format!("weather,device=d-17 temperature=21.4,rssi=-67i {now_ns}\n")
}

#[test]
fn arduino_gets_exactly_what_it_waits_for() {
    let place = Place::new("");
    let server = place.start();
    let section = section("Arduino and ESP32", &server);
    assert!(section[0].language == "cpp" && section[1].language == "http");
    let (head, body) = section[1].text.trim_end().split_once("\n\n").expect("head and body");
    let length: usize =
        head.rsplit(' ').next().and_then(|text| text.parse().ok()).expect("a length");
    assert_eq!(length, body.len(), "Content-Length is last, and that of the body");
    let mut stream = TcpStream::connect(server.address).expect("the server listens");
    // Twice on one connection, as the library keeps it.
    for _ in 0..2 {
        let request = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
        stream.write_all(request.as_bytes()).expect("it is read");
        let mut reply = Vec::new();
        while !reply.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            reply.extend_from_slice(&byte);
        }
        let reply = String::from_utf8_lossy(&reply).into_owned();
        assert!(reply.starts_with("HTTP/1.1 204 "), "{reply}");
    }
    let stored = exported(&server, "arduino", "weather");
    assert_eq!(stored.lines().count(), 1, "sent twice, stored once: {stored}");
    assert!(stored.contains("\"temperature\":21.4"), "{stored}");
}

#[test]
fn boto3() {
    let place = Place::new("");
    let server = place.start();
    let section = section("boto3", &server);
    let printed = interpret("python", &section[0].text);
    assert_eq!(printed, section[1].text);
    let stored = exported(&server, "boto3", "weather");
    assert!(stored.contains("22.4") && stored.contains("\"version\":2"), "{stored}");
}

#[test]
fn node() {
    let place = Place::new("");
    let server = place.start();
    for block in section("Node.js", &server) {
        interpret("javascript", &block.text);
    }
    for database in ["node", "sdk"] {
        let stored = exported(&server, database, "weather");
        assert!(stored.contains("21.4"), "{database}: {stored}");
    }
}

/// A block that no test above runs would be a promise of nobody.
#[test]
fn every_block_has_its_test() {
    let run: BTreeSet<String> = blocks(HOWTO)
        .into_iter()
        .filter(|block| block.language != "cpp")
        .map(|block| format!("{} {}", block.heading, block.language))
        .collect();
    let expected = [
        "Arduino and ESP32 http",
        "MicroPython python",
        "Node.js javascript",
        "Python python",
        "Telegraf toml",
        "boto3 python",
        "boto3 text",
        "curl json",
        "curl sh",
    ];
    assert_eq!(run.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn every_file_that_a_page_names_is_there() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for page in [HOWTO, OPERATING, NOT_PROMISED] {
        let links = links(page);
        assert!(links.len() >= 3, "a page names its proofs");
        for link in links {
            assert!(docs.join(link).exists(), "docs/*.md names {link}, which is not there");
        }
    }
    // Each row of what is not promised has its test.
    let rows: Vec<&str> =
        NOT_PROMISED.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() >= 10);
    for row in rows {
        assert!(row.contains("tests"), "no test beside: {row}");
    }
}

/// A figure that nobody measured, or that a later measurement replaced, misleads whoever buys a machine by it.
#[test]
fn the_figures_of_sizing_are_those_that_were_measured() {
    let measured = include_str!("../benches/README.md");
    let (_, table) = OPERATING.split_once("## Sizing").expect("the section");
    let (table, _) = table.split_once("\n## ").expect("another one behind it");
    // As they stand in both; the rates are rounded here.
    let figures =
        ["0.92", "1.26", "15.3", "1.2", "3.5", "852 MiB", "0.79 bytes a value", "652 MiB"];
    for figure in figures {
        let [here, there] = [table, measured].map(|page| page.contains(figure));
        assert!(
            here && there,
            "{figure} does not stand in docs/operating.md and benches/README.md"
        );
    }
    for (rounded, exact) in [("1.88 M", "1,877,251"), ("1.18 M", "1,175,121"), ("0.07 M", "69,720")]
    {
        assert!(table.contains(rounded) && measured.contains(exact), "{rounded} for {exact}");
    }
}

/// All code, each text as the program has it: a line that goes on in the next is one.
fn code() -> String {
    fn put(dir: &Path, code: &mut String) {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(dir).expect("a folder").flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                put(&path, code);
            } else {
                code.push_str(&fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    let mut code = String::new();
    put(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut code);
    let mut joined = String::new();
    let mut is_begun = true;
    for line in code.lines() {
        joined.push_str(if is_begun { line } else { line.trim_start() });
        is_begun = !joined.ends_with('\\');
        if is_begun {
            joined.push('\n');
        } else {
            joined.pop();
        }
    }
    joined
}

/// What the table of refused starts says of messages: each is one, and none is missing.
#[test]
fn every_refusal_of_a_start_is_told_with_its_remedy() {
    let (_, table) = OPERATING.split_once("## It refuses to start").expect("the section");
    let (table, _) = table.split_once("\n## ").expect("another one behind it");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells: Vec<&str> = rows.filter_map(|row| row.split('|').nth(1)).collect();
    let phrases: Vec<&str> =
        cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    let code = code();
    // Said by the system, and by a library.
    let foreign = ["No space left on device", "Permission denied", "unknown field"];
    for phrase in &phrases {
        assert!(foreign.contains(phrase) || code.contains(phrase), "nobody says {phrase:?}");
    }
    let (_, start) = code.split_once("pub enum StartError").expect("the errors of a start");
    let (start, _) = start.split_once("\n}\n").expect("their end");
    let mut messages: Vec<&str> = start.split("#[error(").skip(1).collect();
    let labels = code.split_once("pub const fn label").expect("the cases of a log").1;
    let refused = ["SegmentMissing", "HeaderDamaged", "LengthWrong", "OrderWrong", "FrameDamaged"];
    let of_log = |case: &&str| labels.split_once(&format!("Self::{case} => ")).expect("a label").1;
    messages.extend(refused.iter().map(of_log).chain([of_log(&"CheckpointDamaged")]));
    for message in messages {
        let text = message.split('"').nth(1).unwrap_or_default();
        let is_told = phrases.iter().any(|phrase| text.contains(phrase));
        assert!(is_told, "docs/operating.md does not tell what to do about {text:?}");
    }
}
