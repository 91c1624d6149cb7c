//! Promise: a start that would lose something is refused.
//!
//! Log, catalog and tables are three folders or files that can be lost, emptied or left unmounted one
//! by one. Whatever of them is not there, the start says which it is and makes nothing in its place;
//! once it is put back, every record is there.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::gateway::{Gateway, Place};

fn send(server: &Gateway, database: &str, times: std::ops::Range<u64>) {
    for n in times {
        server.write(database, &format!("weather,site=a n={n}i {}", 1_700_000_000 + n));
    }
}

/// What a start says that ends with 1 instead of serving.
fn refused(place: &Place) -> String {
    let (mut child, log) = place.spawn();
    let status = child.wait().expect("it is our child");
    let said = fs::read_to_string(log).expect("a log was written");
    assert_eq!(status.code(), Some(1), "the start is refused: {said}");
    said
}

fn wal(place: &Place, arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = place.run("wal", arguments);
    let said = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (status.code(), said.concat())
}

/// Takes a folder of the data away, to be put back.
fn away(place: &Place, name: &str) -> (PathBuf, PathBuf) {
    let (from, to) = (place.data().join(name), place.file(&format!("{name}-away")));
    rename(&from, &to);
    (from, to)
}

fn put_back((from, to): &(PathBuf, PathBuf)) {
    if from.is_dir() {
        // A command that was refused leaves its lock file in the log's folder.
        fs::remove_dir_all(from).expect("it can be removed");
    }
    rename(to, from);
}

#[expect(clippy::disallowed_methods, reason = "no power is cut here")]
fn rename(from: &Path, to: &Path) {
    fs::rename(from, to).expect("it can be moved");
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).expect("it is a folder").next().is_none()
}

#[test]
fn tables_that_are_not_mounted_are_not_begun_anew() {
    let place = Place::new("");
    let server = place.start();
    send(&server, "iot", 0..4);
    server.settle();
    server.stop();
    let tables = away(&place, "tables");
    // The place of a mount is an empty folder.
    fs::create_dir(&tables.0).expect("it can be made");
    let said = refused(&place);
    assert!(
        said.contains("has no manifest.json") && said.contains("engine.embedded.dir"),
        "{said}"
    );
    assert!(is_empty(&tables.0), "nothing is made below a mount that is away");
    let log = away(&place, "wal");
    let (code, said) = wal(&place, &["begin"]);
    assert!(code == Some(1) && said.contains("has no manifest.json"), "{said}");
    assert!(is_empty(&tables.0), "nor by the command");
    put_back(&log);
    put_back(&tables);
    assert_eq!(place.exported("iot", "weather").len(), 4);
    place.start().stop();
}

/// Numbers would be given again, and one database's records appear in another one's table.
#[test]
fn a_catalog_that_lost_tables_of_the_log_is_refused() {
    let place = Place::new("");
    let server = place.start();
    send(&server, "one", 0..2);
    send(&server, "two", 2..5);
    server.kill();
    let path = place.data().join("catalog.log");
    let whole = fs::read(&path).expect("there is a catalog");
    let ends = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let mut cuts: Vec<usize> = ends.collect();
    assert_eq!(cuts.pop(), Some(whole.len()), "the last line is whole");
    assert!(cuts.len() >= 2, "a header and a line for each table");
    for cut in [0].into_iter().chain(cuts) {
        fs::write(&path, &whole[..cut]).expect("it can be cut");
        let said = refused(&place);
        assert!(said.contains("restore the catalog.log"), "cut at {cut}: {said}");
    }
    fs::remove_file(&path).expect("it can be lost");
    assert!(refused(&place).contains("restore the catalog.log"));
    fs::write(&path, &whole).expect("it can be restored");
    let counts = ["one", "two"].map(|database| place.exported(database, "weather").len());
    assert_eq!(counts, [2, 3]);
}

#[test]
fn a_log_that_is_gone_is_not_begun_in_silence() {
    let place = Place::new("");
    let server = place.start();
    send(&server, "iot", 0..3);
    // Killed: nothing is in the tables yet, so their marks tell nothing.
    server.kill();
    let log = away(&place, "wal");
    for _ in 0..2 {
        let said = refused(&place);
        assert!(said.contains("wal.dir") && said.contains("tidegate wal begin"), "{said}");
    }
    fs::create_dir_all(&log.0).expect("it can be made");
    assert!(refused(&place).contains("there is no log in"));
    assert!(is_empty(&log.0), "nothing is made in the place of a log");
    put_back(&log);
    assert_eq!(place.exported("iot", "weather").len(), 3);
    fs::remove_dir_all(&log.0).expect("it can be lost");
    let (code, said) = wal(&place, &["begin"]);
    assert_eq!(code, Some(0), "{said}");
    place.start().stop();
}

/// Both commands look at the log alone by their names; an operator asks them why a start is refused.
#[test]
fn verify_and_salvage_say_that_the_tables_are_ahead_of_the_log() {
    let place = Place::new("");
    let server = place.start();
    send(&server, "iot", 0..4);
    server.settle();
    server.stop();
    let other = Place::new("");
    other.start().stop();
    assert_eq!(wal(&place, &["verify"]).0, Some(0));
    fs::remove_dir_all(place.data().join("wal")).expect("it can be lost");
    rename(&other.data().join("wal"), &place.data().join("wal"));
    assert!(refused(&place).contains("the tables hold frames up to 5"));
    let to = place.file("broken");
    let salvage = ["salvage", "--to", to.to_str().expect("a plain path")];
    for arguments in [&["verify"][..], &salvage] {
        let (code, said) = wal(&place, arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("the tables hold frames up to 5"), "{said}");
        assert!(said.contains("tidegate wal begin"), "{said}");
    }
    let (code, said) = wal(&place, &["begin"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(wal(&place, &["verify"]).0, Some(0));
    assert_eq!(place.exported("iot", "weather").len(), 4);
}

#[test]
fn a_log_is_not_begun_where_no_numbers_are_left() {
    let place = Place::new("");
    place.start().stop();
    for after in [1_u64 << 62, (1 << 63) - 2, u64::MAX] {
        let (code, said) = wal(&place, &["begin", "--after", &after.to_string()]);
        assert_eq!(code, Some(2), "{said}");
    }
    let after = (1_u64 << 62) - 1;
    let (code, said) = wal(&place, &["begin", "--after", &after.to_string()]);
    assert_eq!(code, Some(0), "{said}");
    let server = place.start();
    send(&server, "iot", 0..2);
    server.kill();
    assert_eq!(place.exported("iot", "weather").len(), 2);
}

/// A start goes by the last change of the tables that counts, removes the files that it does not name, and
/// lets the log go: one that lacks nothing but its end was committed.
#[test]
fn the_last_change_of_the_tables_counts_without_its_end_and_that_is_told() {
    let place = Place::new("");
    let server = place.start();
    send(&server, "iot", 0..4);
    server.settle();
    server.stop();
    let changes = place.files("tables", ".log");
    assert_eq!(changes.len(), 1, "{changes:?}");
    let bytes = fs::read(&changes[0]).expect("it can be read");
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').collect::<Vec<_>>();
    assert!(lines.len() >= 2, "a head and a change");
    let kept: usize = lines[..lines.len() - 1].iter().map(|line| line.len()).sum();
    fs::write(&changes[0], &bytes[..bytes.len() - 1]).expect("it can be cut");
    let server = place.start();
    let said = server.log().text();
    let told = said.lines().find(|line| line.contains("the last line has no end")).expect("told");
    assert!(told.contains("WARN") && told.contains(&format!("kept_bytes={kept}")), "{told}");
    assert!(told.contains(&changes[0].display().to_string()), "{told}");
    assert_eq!(server.export("iot", "weather").len(), 4);
    server.stop();
    let said = place.start().log().text();
    assert!(!said.contains("the last line has no end"), "told once: it was written anew");
}
