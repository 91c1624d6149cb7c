//! Promise: `tidegate demo` tells the truth: what it counts is what is there, a loss is found, and
//! nothing of it stays behind.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tidegate::base::clock::{Clock as _, SystemClock};

use common::gateway::{Place, files_below, without_settings};
use common::{rows, wait_for};

/// Longest time until a process is gone.
const END_MAX: Duration = Duration::from_secs(30);

/// A short run, whose folder is made in that of the test.
fn demo(place: &Place, arguments: &[&str]) -> Command {
    let mut command = place.command("demo");
    // The demo has settings and data of its own.
    let binary = command.get_program().to_owned();
    command = Command::new(binary);
    command.args(["demo", "--seconds", "4", "--devices", "200"]).args(arguments);
    command.env("TMPDIR", folder(place)).stdin(Stdio::null()).stdout(Stdio::piped());
    // A setting of the user's own server, which the demo's must not take.
    command.env("TIDEGATE_SERVER__LISTEN", "127.0.0.1:1");
    command
}

fn folder(place: &Place) -> PathBuf {
    let dir = place.file("tmp");
    fs::create_dir_all(&dir).expect("it can be made");
    dir
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// The number before ` {what}` in a text, whose thousands are grouped.
fn number(text: &str, what: &str) -> usize {
    let (before, _) = text.split_once(&format!(" {what}")).expect(what);
    let word = before.rsplit(|c: char| !c.is_ascii_digit() && c != ',').next().unwrap_or_default();
    word.replace(',', "").parse().expect(what)
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("it is a folder").next().is_none()
}

/// An upgrade takes it away: the server is started of what runs.
#[test]
fn a_program_whose_file_is_gone_tells_its_story_to_the_end() {
    let place = Place::new("");
    let whole = demo(&place, &[]);
    let copy = place.file("tidegate");
    fs::copy(whole.get_program(), &copy).expect("it can be copied");
    let mut command = Command::new(&copy);
    command.args(whole.get_args()).env("TMPDIR", folder(&place)).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    fs::remove_file(&copy).expect("it was copied");
    let output = child.expect("it starts").wait_with_output().expect("it ends");
    let (said, complaints) = texts(&output);
    assert!(output.status.success(), "{said}{complaints}");
}

#[test]
fn what_it_counts_is_what_is_in_the_folder_it_keeps() {
    let place = Place::new("");
    let output = demo(&place, &["--keep"]).output().expect("the binary starts");
    let (said, complaints) = texts(&output);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(!said.contains('\x1b') && !said.contains('\r'), "a pipe is no terminal: {said}");
    let (_, counted) = said.split_once("4. Every record").expect("it counts");
    assert!(counted.contains(": 0 lost, 0 doubled, 0 changed"), "{said}");
    let (acknowledged, found) = (number(counted, "acknowledged, "), number(counted, "found: "));
    assert!(acknowledged == found && acknowledged >= 1000, "{said}");
    let (_, killed) = said.split_once("dead, with ").expect("it kills");
    let before = number(&format!("dead, with {killed}"), "records acknowledged");
    assert!(before > 0 && before < acknowledged, "in the middle of it: {said}");
    assert!(number(&said, "requests in its log") > 0, "{said}");

    // Counted again by another process, from the files.
    let (_, kept) = said.split_once("kept for a look: ").expect("it is kept");
    let dir = PathBuf::from(kept.lines().next().unwrap_or_default());
    let export = |table: &str| {
        let mut command = Command::new(place.command("export").get_program());
        without_settings(&mut command);
        command.arg("export").arg("--config").arg(dir.join("config.toml"));
        command.arg("--data").arg(dir.join("data")).args(["--database", "demo", "--table", table]);
        let output = command.output().expect("the binary starts");
        let (exported, complaints) = texts(&output);
        assert!(output.status.success(), "{complaints}");
        exported
    };
    let exported = export("weather");
    assert_eq!(exported.lines().count(), acknowledged);
    let distinct = rows::parse(exported.as_bytes()).expect("it can be read back");
    assert_eq!(distinct.len(), acknowledged, "each of them once");

    // What was refused is kept, and mended.
    let reports = files_below(&dir.join("data/rejects/records"), ".json");
    assert_eq!(reports.len(), 1, "{reports:?}");
    let report = fs::read_to_string(&reports[0]).expect("a report can be read");
    assert!(report.contains("version_conflict"), "{report}");
    assert!(
        said.contains("$ tidegate rejects show ") && said.contains("1 stored, 0 not"),
        "{said}"
    );
    let mended = export("maintenance");
    assert!(mended.contains("\"firmware\":2") && mended.contains("\"version\":2"), "{mended}");
}

/// On a terminal, where a line is written over.
#[test]
fn nothing_of_it_stays_behind() {
    let place = Place::new("");
    let inner = demo(&place, &[]);
    let words: Vec<_> = [inner.get_program()].into_iter().chain(inner.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    terminal.env("TMPDIR", folder(&place)).stdin(Stdio::null());
    let output = terminal.output().expect("script, of util-linux");
    let (said, complaints) = texts(&output);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(said.contains("\r\x1b[K"), "a line is written over: {said:?}");
    assert!(said.contains("Nothing was lost"), "{said}");
    assert!(is_empty(&folder(&place)), "its folder is gone");
}

/// The terminal itself goes: it and its server hear SIGHUP, and whatever it writes from then on fails.
#[test]
fn nothing_of_it_stays_behind_when_its_terminal_is_closed() {
    let place = Place::new("");
    let inner = demo(&place, &[]);
    let words: Vec<_> = [inner.get_program()].into_iter().chain(inner.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let line = format!("exec {}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    terminal.env("TMPDIR", folder(&place)).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut terminal = terminal.spawn().expect("script, of util-linux");
    let mut said = BufReader::new(terminal.stdout.take().expect("it was asked for"));
    let mut heard = String::new();
    while !heard.contains(" acknowledged ") {
        let mut bytes = Vec::new();
        assert!(said.read_until(b' ', &mut bytes).expect("it can be read") > 0, "{heard}");
        heard.push_str(&String::from_utf8_lossy(&bytes));
    }
    assert!(!is_empty(&folder(&place)), "it has one");
    // Whoever holds the terminal's other end dies, as the window of one does.
    terminal.kill().expect("it runs");
    terminal.wait().expect("it is our child");
    wait_for("its folder to be gone", END_MAX, || is_empty(&folder(&place)).then_some(()));
}

/// The control: an acknowledgement that never was.
#[test]
fn a_loss_is_found_and_its_folder_kept() {
    let place = Place::new("");
    let output = demo(&place, &["--plant-loss"]).output().expect("the binary starts");
    let (said, complaints) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{complaints}");
    assert!(said.contains(": 1 lost, 0 doubled, 0 changed"), "{said}");
    assert!(complaints.contains("the promise is broken"), "{complaints}");
    assert!(!is_empty(&folder(&place)), "its folder is kept");
}

#[test]
fn nothing_of_it_stays_behind_either_when_nobody_reads_to_its_end() {
    let place = Place::new("");
    let mut child = demo(&place, &[]).stderr(Stdio::null()).spawn().expect("the binary starts");
    let mut said = BufReader::new(child.stdout.take().expect("it was asked for")).lines();
    said.next().expect("a line").expect("it can be read");
    drop(said);
    let status = child.wait().expect("it is our child");
    assert_eq!(status.code(), Some(141));
    assert!(is_empty(&folder(&place)), "its folder is gone");
}

/// SIGINT and SIGQUIT as from a terminal, SIGTERM, and SIGHUP as from one that is closed; to it alone, so
/// that its server hears nothing.
#[test]
fn nothing_of_it_stays_behind_when_it_is_interrupted() {
    for (signal, code) in
        [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)]
    {
        for until in [" is process ", "2. kill -9", "4. Every record"] {
            let place = Place::new("");
            let mut command = demo(&place, &[]);
            let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
            let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
            let (mut heard, mut server) = (String::new(), None);
            while !heard.contains(until) {
                let begin = heard.len();
                assert!(said.read_line(&mut heard).expect("it can be read") > 0, "{heard}");
                let process = heard[begin..].split_once(" is process ");
                server = process
                    .and_then(|(_, rest)| rest.split(';').next())
                    .or(server.as_deref())
                    .map(str::to_owned);
            }
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a number");
            kill_process(pid, signal).expect("it is our child");
            said.read_to_string(&mut heard).expect("it can be read");
            let output = child.wait_with_output().expect("it is our child");
            let complaints = texts(&output).1;
            assert_eq!(output.status.code(), Some(code), "{until}: {heard}{complaints}");
            assert!(complaints.contains("ending, and tidying up"), "{complaints}");
            assert!(is_empty(&folder(&place)), "{until}: its folder is gone");
            let proc = PathBuf::from(format!("/proc/{}", server.expect("it names its process")));
            assert!(!proc.exists(), "its server is gone");
        }
    }
}

/// Goal: who ends it with its group, and so twice, does not end the tidying up. Method: two real signals, as far
/// apart as programs send them, to a process that leads its group; and GNU `timeout` itself.
#[test]
fn nothing_of_it_stays_behind_when_it_is_interrupted_twice_at_once() {
    let clock = SystemClock::new();
    for (run, gap_ms) in
        [0, 0, 1, 2, 5, 10, 20, 50, 100, 300].into_iter().cycle().take(20).enumerate()
    {
        let place = Place::new("");
        let mut child = demo(&place, &[]);
        let mut child =
            child.process_group(0).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut heard = String::new();
        while !heard.contains(" is process ") {
            assert!(said.read_line(&mut heard).expect("it can be read") > 0, "{heard}");
        }
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a number");
        kill_process(pid, Signal::TERM).expect("it is our child");
        clock.sleep(Duration::from_millis(gap_ms));
        // It may be gone by then.
        let second = if run % 4 == 3 { Signal::HUP } else { Signal::TERM };
        kill_process_group(pid, second).unwrap_or_default();
        let output = child.wait_with_output().expect("it is our child");
        let complaints = texts(&output).1;
        assert!(matches!(output.status.code(), Some(143 | 129)), "{gap_ms} ms: {complaints}");
        assert!(complaints.contains("nothing was counted"), "{gap_ms} ms: {complaints}");
        assert!(is_empty(&folder(&place)), "{gap_ms} ms: its folder is gone");
    }
    for _ in 0..4 {
        let place = Place::new("");
        let inner = demo(&place, &[]);
        let mut timeout = Command::new("timeout");
        timeout.arg("1.5").arg(inner.get_program()).args(inner.get_args());
        timeout.env("TMPDIR", folder(&place)).stdin(Stdio::null());
        let output = timeout.output().expect("timeout, of coreutils");
        assert_eq!(output.status.code(), Some(124), "{output:?}");
        assert!(is_empty(&folder(&place)), "its folder is gone");
    }
}

/// A full disk under its output is no reason to lose what shows a loss, and to leave what shows nothing.
#[test]
fn an_output_that_takes_no_more_is_told_and_takes_no_evidence_along() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
    for (arguments, has_folder, told) in [
        (&[][..], false, "its folder"),
        (&["--plant-loss"], false, "its folder"),
        (&["--keep"], true, "kept for a look"),
    ] {
        let place = Place::new("");
        let output = demo(&place, arguments).stdout(full()).output().expect("the binary starts");
        let complaints = texts(&output).1;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complaints}");
        assert!(complaints.contains("standard output: "), "{arguments:?}: {complaints}");
        assert!(complaints.contains(told) && !complaints.contains("panicked"), "{complaints}");
        assert_eq!(!is_empty(&folder(&place)), has_folder, "{arguments:?}");
    }
    // Full from the count on: nobody hears what is lost but standard error.
    let place = Place::new("");
    let mut child = demo(&place, &["--plant-loss"]);
    let mut child = child.stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut said = BufReader::new(child.stdout.take().expect("it was asked for"));
    let mut heard = String::new();
    while !heard.contains("4. Every record") {
        assert!(said.read_line(&mut heard).expect("it can be read") > 0, "{heard}");
    }
    drop(said);
    let output = child.wait_with_output().expect("it is our child");
    let complaints = texts(&output).1;
    assert_eq!(output.status.code(), Some(1), "{complaints}");
    assert!(complaints.contains("the promise is broken"), "{complaints}");
    let (_, kept) = complaints.split_once("kept for a look: ").expect("it says where");
    let kept = kept.lines().next().unwrap_or_default();
    assert!(Path::new(kept).join("data").is_dir(), "{complaints}");
}

#[test]
fn its_server_does_not_outlive_it() {
    let place = Place::new("");
    let mut child = demo(&place, &[]).spawn().expect("the binary starts");
    let said = BufReader::new(child.stdout.take().expect("it was asked for"));
    let server = said.lines().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once(" is process ")?;
        rest.split(';').next()?.parse::<u32>().ok()
    });
    let proc = PathBuf::from(format!("/proc/{}", server.expect("it names its server's process")));
    assert!(proc.exists(), "the server runs");
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
    wait_for("the server to be gone", END_MAX, || (!proc.exists()).then_some(()));
}
