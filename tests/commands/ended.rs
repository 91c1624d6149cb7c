//! Commands whose reader goes away, or who are told to end: no word in the one case, what was done and how
//! to go on in the other, and never a part that looks like the whole.

use std::fs;
use std::io::{BufRead, BufReader, Read, pipe};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use tidegate::base::clock::{Clock as _, SystemClock};

use super::common::gateway::{Gateway, Place, files_below, without_settings};
use super::common::wait_for;

/// What a shell says of a process that SIGPIPE, SIGINT or SIGTERM ended.
const UNREAD: i32 = 141;
const INTERRUPTED: i32 = 130;
const TERMINATED: i32 = 143;

const LONG: Duration = Duration::from_mins(1);

/// The binary without a folder of its own, whose words are kept apart.
fn plain(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new(place.command("check").get_program());
    without_settings(&mut command);
    command.current_dir(place.file(".")).args(words).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a number");
    kill_process(pid, signal).expect("it is our child");
}

/// Reads standard error until a line says `words`, and goes on reading it.
fn hear(child: &mut Child, words: &'static str) -> thread::JoinHandle<String> {
    let mut said = BufReader::new(child.stderr.take().expect("it was asked for"));
    let mut heard = String::new();
    while !heard.contains(words) {
        let read = said.read_line(&mut heard).expect("it can be read");
        assert!(read > 0, "it ends without {words:?}: {heard}");
    }
    thread::Builder::new()
        .spawn(move || {
            said.read_to_string(&mut heard).expect("it can be read");
            heard
        })
        .expect("a thread")
}

fn code(child: &mut Child) -> i32 {
    let status = wait_for("the command to end", LONG, || child.try_wait().expect("our child"));
    assert_eq!(status.signal(), None, "it ends itself");
    status.code().expect("a code")
}

/// A folder with records, a conflict in the reject sink, and no server.
fn filled() -> Place {
    let place = Place::new("");
    let server = place.start();
    for batch in 0..20 {
        let lines: Vec<String> =
            (0..500).map(|n| format!("m,site=a n={n}i {}", batch * 500 + n + 1)).collect();
        server.write("fleet", &lines.join("\n"));
    }
    let headers = [("X-Tidegate-Durability", "applied")];
    let reply = server.client().post("/write?db=fleet", &headers, b"m,site=a n=7i 1");
    assert_eq!(reply.expect("an answer").status, 400);
    server.stop();
    place
}

/// Every command that prints something of a folder, or of nothing, and ends by itself.
fn printing(data: &str) -> Vec<Vec<&str>> {
    let table = ["--database", "fleet", "--table", "m"];
    let export = |format| [&["export", "--data", data, "--format", format], &table[..]].concat();
    vec![
        vec!["--help"],
        vec!["--version"],
        vec!["help", "wal"],
        vec!["wal", "replay", "--help"],
        vec!["check"],
        vec!["completions", "bash"],
        vec!["man"],
        vec!["explain", "weather t=1"],
        vec!["schema", "postgres", "--database", "d", "--table", "t"],
        vec!["doctor", "--data", data],
        vec!["doctor", "--data", data, "--json"],
        vec!["cost", "--data", data],
        vec!["wal", "ls", "--data", data],
        vec!["wal", "verify", "--data", data],
        vec!["wal", "dump", "--from", "1", "--data", data],
        vec!["wal", "replay", "--to", "http://127.0.0.1:1", "--dry-run", "--data", data],
        vec!["rejects", "ls", "--data", data],
        vec!["rejects", "ls", "--format", "json", "--data", data],
        vec!["selftest", "--kills", "1", "--data", data],
        export("json"),
        export("line"),
        export("csv"),
        export("parquet"),
    ]
}

fn scratch_left(place: &Place) -> bool {
    let left = fs::read_dir(place.data()).expect("a folder").flatten();
    left.into_iter().any(|one| one.file_name().to_string_lossy().contains("selftest"))
}

#[test]
fn nobody_who_reads_no_further_hears_a_complaint_and_none_is_told_that_all_is_well() {
    let place = filled();
    let data = place.data().display().to_string();
    for words in printing(&data) {
        let (reader, writer) = pipe().expect("a pipe");
        drop(reader);
        let output = plain(&place, &words).stdout(writer).output().expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        // A log line of the folder's opening is no complaint.
        let complaint = said.lines().find(|line| line.starts_with("tidegate:"));
        assert_eq!((output.status.code(), complaint), (Some(UNREAD), None), "{words:?}: {said}");
    }
    assert!(!scratch_left(&place));
}

/// Standard output on a disk that is full.
#[test]
fn an_output_that_takes_no_more_is_told_by_word_and_code() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    let is_told = |words: &[&str], output: &Output| {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {said}");
        let complaint = said.lines().find(|line| line.starts_with("tidegate:")).unwrap_or_default();
        assert!(complaint.contains("standard output: No space left"), "{words:?}: {said}");
        assert!(!said.contains("panicked"), "{words:?}: {said}");
    };
    let place = filled();
    let data = place.data().display().to_string();
    for words in printing(&data) {
        let output = plain(&place, &words).stdout(full()).output().expect("the binary starts");
        is_told(&words, &output);
    }
    assert!(!scratch_left(&place));
    // Those of a server.
    let server = place.start();
    let url = format!("http://{}", server.address);
    for words in [
        vec!["health", "--url", &url],
        vec!["rejects", "ls", "--url", &url],
        vec!["load", "--url", &url, "--seconds", "1", "--batch", "10"],
        vec!["wal", "replay", "--to", &url, "--data", &data],
    ] {
        let output = plain(&place, &words).stdout(full()).output().expect("the binary starts");
        is_told(&words, &output);
    }
    server.stop();
}

/// Goal: a server whose log file is on a disk that is full serves. Method: one that has nothing else, which is
/// asked, refused and stopped.
#[test]
fn a_server_whose_words_nobody_takes_serves() {
    let place = Place::new("[log]\nlevel = \"trace\"\n");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("bound").to_string();
    drop(free);
    let mut serve = place.command("serve");
    let mut child = serve.args(["--listen", &address]).stderr(full).spawn().expect("it starts");
    let written = || {
        let words = ["health", "--url", &format!("http://{address}"), "--ready"];
        plain(&place, &words).output().expect("the binary starts").status.success().then_some(())
    };
    wait_for("the server to be ready", LONG, written);
    assert!(child.try_wait().expect("our child").is_none(), "it serves");
    signal(&child, Signal::TERM);
    assert_eq!(code(&mut child), 0);
}

#[test]
fn an_export_that_is_interrupted_does_not_look_whole() {
    let place = filled();
    let data = place.data().display().to_string();
    for (format, asks, expected) in
        [("json", Signal::INT, INTERRUPTED), ("csv", Signal::TERM, TERMINATED)]
    {
        let words = ["export", "--data", &data, "--database", "fleet", "--table", "m"];
        let mut child =
            plain(&place, &[&words[..], &["--format", format]].concat()).spawn().expect("started");
        let mut out = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut written = String::new();
        // Its pipe is full by then: it waits for us.
        out.read_line(&mut written).expect("it can be read");
        signal(&child, asks);
        let said = hear(&mut child, "ending the export");
        out.read_to_string(&mut written).expect("it can be read");
        assert_eq!(code(&mut child), expected, "{format}");
        let said = said.join().expect("it reads");
        assert!(said.contains("interrupted: the export is not whole"), "{said}");
        assert!(written.lines().count() < 10_000, "{format} was whole before it was asked");
        let last = written.lines().next_back().unwrap_or_default();
        match format {
            "json" => assert!(serde_json::from_str::<serde_json::Value>(last).is_err(), "{last}"),
            _ => assert!(!written.ends_with('\n') || last.matches(',').count() != 4, "{last}"),
        }
    }
}

#[test]
fn a_load_that_is_interrupted_counts_what_it_sent() {
    let place = Place::new("");
    let server = place.start();
    let url = format!("http://{}", server.address);
    let words = ["load", "--url", &url, "--batch", "50", "--connections", "3", "--seconds", "600"];
    let mut child = plain(&place, &words).spawn().expect("the binary starts");
    wait_for("some lines", LONG, || {
        (server.metric("tidegate_ingest_records_total") > 500.0).then_some(())
    });
    signal(&child, Signal::INT);
    let said = hear(&mut child, "ending with the requests").join().expect("it reads");
    let mut figures = String::new();
    let out = child.stdout.as_mut().expect("it was asked for");
    out.read_to_string(&mut figures).expect("it can be read");
    assert_eq!(code(&mut child), INTERRUPTED, "{said}");
    let lines = figures.lines().find_map(|line| line.strip_prefix("lines "));
    let lines = lines.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    server.settle();
    assert_eq!(lines, Some(server.export("load", "cpu").len()), "{figures}");
    server.stop();
}

/// A server that takes connections and never answers.
#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new("");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", silent.local_addr().expect("bound"));
    let mut child = plain(&place, &["load", "--url", &url]).spawn().expect("the binary starts");
    let _open = silent.accept().expect("a client");
    signal(&child, Signal::INT);
    let said = hear(&mut child, "again: at once");
    let clock = SystemClock::new();
    // A script that hands on what its terminal has sent to both; that is no second time.
    signal(&child, Signal::INT);
    wait_for("a second to be over", LONG, || {
        (clock.monotonic() > Duration::from_millis(1100)).then_some(())
    });
    assert!(child.try_wait().expect("our child").is_none(), "it waits for what is under way");
    signal(&child, Signal::INT);
    assert_eq!(code(&mut child), INTERRUPTED);
    said.join().expect("it reads");
}

#[test]
fn a_replay_that_is_interrupted_goes_on_where_it_ended() {
    let place = filled();
    let other = Place::new("");
    let server = other.start();
    let (to, data) = (format!("http://{}", server.address), place.data().display().to_string());
    let words = ["wal", "replay", "--data", &data, "--to", &to, "--position", "at.json"];
    let slow = [&words[..], &["--rate", "1000"]].concat();
    let mut child = plain(&place, &slow).spawn().expect("the binary starts");
    wait_for("the first request", LONG, || place.file("at.json").exists().then_some(()));
    signal(&child, Signal::INT);
    let said = hear(&mut child, "interrupted: ").join().expect("it reads");
    assert_eq!(code(&mut child), INTERRUPTED, "{said}");
    assert!(said.contains("were acknowledged; go on with --from "), "{said}");
    let before = server.metric("tidegate_ingest_records_total");
    assert!(before > 0.0 && before < 10_000.0, "in the middle of it: {before}");
    let rest = plain(&place, &words).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&rest.stdout);
    // The conflict is refused there too, or not: what counts are the records.
    assert!(said.contains("sent       "), "{said}");
    server.settle();
    assert_eq!(server.export("fleet", "m").len(), 10_000);
    server.stop();
}

/// Rows of the file that is loaded.
const ROWS: usize = 200_000;

fn rows() -> String {
    let rows = (0..ROWS).map(|n| format!("{},a,{n}", 1_700_000_000 + n));
    let lines: Vec<String> = ["time,site,t".to_owned()].into_iter().chain(rows).collect();
    lines.join("\n") + "\n"
}

#[test]
fn a_batch_load_that_is_interrupted_goes_on_with_the_same_command() {
    let place = Place::new("");
    fs::create_dir_all(place.data()).expect("a folder can be made");
    fs::write(place.file("a.csv"), rows()).expect("it can be written");
    fs::write(place.file("model.json"), MODEL).expect("it can be written");
    let data = place.data().display().to_string();
    let words = [
        "batch-load",
        "--data",
        &data,
        "--source",
        "a.csv",
        "--model",
        "model.json",
        "--database",
        "iot",
        "--table",
        "weather",
    ];
    let mut child = plain(&place, &words).spawn().expect("the binary starts");
    wait_for("the task", LONG, || has_begun(&place.data()).then_some(()));
    signal(&child, Signal::INT);
    let said = hear(&mut child, "interrupted: ").join().expect("it reads");
    assert_eq!(code(&mut child), INTERRUPTED, "{said}");
    assert!(said.contains("the same command goes on"), "{said}");
    let again = plain(&place, &words).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(said.contains(&format!("\"RecordsIngested\": {ROWS}")), "{said}");
    assert_eq!(place.exported("iot", "weather").len(), ROWS);
}

const MODEL: &str = r#"{"TimeColumn":"time","TimeUnit":"SECONDS",
  "DimensionMappings":[{"SourceColumn":"site"}],
  "MultiMeasureMappings":{"TargetMultiMeasureName":"weather","MultiMeasureAttributeMappings":[
    {"SourceColumn":"t","MeasureValueType":"DOUBLE"}]}}"#;

/// Whether the folder's log has something in it: the task runs.
fn has_begun(data: &Path) -> bool {
    let books = files_below(data, "").into_iter();
    books.into_iter().any(|path| path.to_string_lossy().contains("load"))
}

#[test]
fn a_server_that_is_asked_for_its_load_goes_on_with_it_when_who_asked_is_gone() {
    let place = Place::new("");
    let bucket = place.data().join("buckets/archive");
    fs::create_dir_all(&bucket).expect("a folder can be made");
    fs::write(bucket.join("a.csv"), rows()).expect("it can be written");
    fs::write(place.file("model.json"), MODEL).expect("it can be written");
    let server: Gateway = place.start();
    let url = format!("http://{}", server.address);
    let words = [
        "batch-load",
        "--url",
        &url,
        "--source",
        "archive/a.csv",
        "--model",
        "model.json",
        "--database",
        "iot",
        "--table",
        "weather",
    ];
    let mut child = plain(&place, &words).spawn().expect("the binary starts");
    wait_for("the first rows", LONG, || {
        let text = server.client().get("/metrics").expect("metrics are answered").text();
        let begun = text.lines().find_map(|line| {
            line.strip_prefix("tidegate_ingest_records_total{protocol=\"batch\"} ")
        });
        begun.and_then(|count| count.parse::<f64>().ok()).filter(|count| *count > 0.0).map(drop)
    });
    signal(&child, Signal::TERM);
    let said = hear(&mut child, "interrupted: ").join().expect("it reads");
    assert_eq!(code(&mut child), TERMINATED, "{said}");
    assert!(said.contains("the server goes on with task "), "{said}");
    wait_for("the last rows", 5 * LONG, || {
        (server.metric("tidegate_ingest_records_total") >= 200_000.0).then_some(())
    });
    server.stop();
}
