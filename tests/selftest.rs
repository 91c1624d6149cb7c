//! Promise: `tidegate selftest` proves the log on the operator's own disk, and finds a loss.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use common::gateway::{Place, files_below, without_settings};
use common::{tell, wait_for};

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_disk_is_tested_and_left_as_it_was() {
    let place = Place::new("");
    fs::create_dir(place.data()).unwrap();
    let output = place.run("selftest", &["--kills", "3"]);
    let (said, complaints) = texts(&output);
    assert!(output.status.success(), "{said}{complaints}");
    assert!(said.contains(" 0 lost, doubled or changed"), "{said}");
    for kind in ["sync of the log", "sync of the disk"] {
        let line = said.lines().find(|line| line.starts_with(kind)).expect(kind);
        assert!(line.contains("p50 ") && line.contains("p99.9 "), "{line}");
    }
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "nothing is left");
    tell(said);
}

/// The log's own lock is in its own folder: a server need not be stopped for it.
#[test]
fn a_disk_is_tested_beside_a_running_server() {
    let place = Place::new("");
    let server = place.start();
    server.write("fleet", "m i=1i 1");
    let output = place.run("selftest", &["--kills", "1"]);
    assert!(output.status.success(), "{:?}", texts(&output));
    server.write("fleet", "m i=2i 2");
    server.settle();
    assert_eq!(server.export("fleet", "m").len(), 2);
}

/// An upgrade takes it away: the children are started of what runs.
#[test]
fn a_program_whose_file_is_gone_tests_to_its_end() {
    let place = Place::new("");
    fs::create_dir(place.data()).unwrap();
    let copy = place.file("tidegate");
    fs::copy(place.command("selftest").get_program(), &copy).unwrap();
    let mut command = Command::new(&copy);
    without_settings(&mut command);
    command.args(["selftest", "--kills", "1", "--data"]).arg(place.data());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    fs::remove_file(&copy).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", texts(&output));
}

/// The control: an acknowledgement for a frame that never was.
#[test]
fn a_loss_is_found_and_its_folder_kept() {
    let place = Place::new("");
    fs::create_dir(place.data()).unwrap();
    let output = place.run("selftest", &["--kills", "1", "--plant-loss"]);
    let (said, complaints) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{complaints}");
    assert!(said.contains(" 1 lost, doubled or changed"), "{said}");
    assert!(complaints.contains("the promise is broken"), "{complaints}");
    assert_eq!(fs::read_dir(place.data()).unwrap().count(), 1, "its folder is kept");
}

/// To it alone, so that its child hears nothing.
#[test]
fn nothing_of_it_stays_behind_when_it_is_interrupted() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = Place::new("");
        fs::create_dir(place.data()).unwrap();
        let mut command = place.command("selftest");
        command.args(["--kills", "1000"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the binary starts");
        wait_for("a child to write", Duration::from_mins(1), || {
            (!files_below(&place.data(), "").is_empty()).then_some(())
        });
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a number");
        kill_process(pid, signal).expect("it is our child");
        let output = child.wait_with_output().expect("it is our child");
        let (said, complaints) = texts(&output);
        assert_eq!(output.status.code(), Some(code), "{said}{complaints}");
        assert!(complaints.contains("interrupted: nothing was proved"), "{complaints}");
        assert_eq!(fs::read_dir(place.data()).unwrap().count(), 0, "nothing is left");
    }
}

/// Killed without a chance to tidy up: who writes must not write on.
#[test]
fn its_child_does_not_outlive_it() {
    let place = Place::new("");
    fs::create_dir(place.data()).unwrap();
    let mut command = place.command("selftest");
    let child = command.args(["--kills", "1000"]).stdout(Stdio::null()).spawn();
    let mut child = child.expect("the binary starts");
    let children = format!("/proc/{}/task/{}/children", child.id(), child.id());
    let own = wait_for("a child", Duration::from_mins(1), || {
        fs::read_to_string(&children).ok()?.split_whitespace().next().map(str::to_owned)
    });
    child.kill().expect("it runs");
    child.wait().expect("it is our child");
    let proc = Path::new("/proc").join(own).join("exe");
    wait_for("it to be gone", Duration::from_mins(1), || (!proc.exists()).then_some(()));
}

#[test]
fn it_says_how_it_is_used() {
    let output = Place::new("").run("selftest", &["--help"]);
    let (said, _) = texts(&output);
    assert!(said.contains("Example:\n  tidegate selftest --data "), "{said}");
    assert!(!said.contains("plant-loss"), "what is for tests is hidden: {said}");
}
