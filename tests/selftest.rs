//! Promise: `tidegate selftest` proves the log on the operator's own disk, and finds a loss.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::process::Output;

use common::gateway::Place;
use common::tell;

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

#[test]
fn it_says_how_it_is_used() {
    let output = Place::new("").run("selftest", &["--help"]);
    let (said, _) = texts(&output);
    assert!(said.contains("Example:\n  tidegate selftest --data "), "{said}");
    assert!(!said.contains("plant-loss"), "what is for tests is hidden: {said}");
}
