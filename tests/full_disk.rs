//! Promise: a full disk is "busy", not the end: writes are answered 503 with `Retry-After`, the server
//! lives, nothing acknowledged is lost, and it goes on by itself when there is space again.
//!
//! A small file system of the test's own, filled by a ballast file while the server is loaded. In
//! between the server is killed and its power cut, so that it also has to start on a full disk. Needs
//! root and loop devices, and fails without.

#[path = "common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use common::count::{self, Count, Counter};
use common::gateway::{self, Gateway, Place};
use common::volume::{Kind, Volume};
use common::{tell, wait_for};

/// Connections that write at once, and bytes of a record: a segment is full within seconds.
const WRITERS: u64 = 4;
const TEXT_BYTES: usize = 256 << 10;

/// How soon the server must be busy, and how soon well again.
const CHANGE_MAX: Duration = Duration::from_mins(1);

/// Answers that are waited for in each state.
const ANSWERS_MIN: u64 = 20;

/// Room for a few segments.
const VOLUME_BYTES: u64 = 640 << 20;

/// The log could take more than the disk has: it is the disk that ends it.
const SETTINGS: &str = r#"
    [wal]
    segment_bytes = "49 MiB"
    bytes_max = "8 GiB"

    [engine.embedded]
    memory_bytes_max = "16 MiB"
    flush_bytes = "2 MiB"
    flush_interval = "300ms"
"#;

/// What a server logs once it has started.
const LISTENING: &str = " listening ";

/// Takes all the space that is left, in steps down to a block.
fn fill(ballast: &Path) -> u64 {
    let file = File::create(ballast).expect("there is space for a name");
    let mut bytes = 0;
    for step in [1 << 26, 1 << 20, 1 << 16, 1 << 12] {
        while fallocate(&file, FallocateFlags::empty(), bytes, step).is_ok() {
            bytes += step;
        }
    }
    file.sync_all().expect("the space is taken already");
    bytes
}

fn wait_for_more(of: &AtomicU64, server: &mut Gateway, what: &str) {
    let before = of.load(Ordering::SeqCst);
    wait_for(what, CHANGE_MAX, || {
        assert!(server.runs(), "the server ended");
        (of.load(Ordering::SeqCst) >= before + ANSWERS_MIN).then_some(())
    });
}

/// Everything that is owed is there, as it was sent.
fn check(server: &Gateway, counters: &[Counter]) -> usize {
    let found = count::served(server);
    let wrong = count::wrong(counters, &found);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    found.len()
}

/// Loads the server while `test` looks; no request may be answered with a fault.
fn load(server: &mut Gateway, counters: &mut [Counter], test: impl FnOnce(&mut Gateway, &Count)) {
    let count = Count::default();
    let address = server.address;
    std::thread::scope(|scope| {
        for counter in counters {
            scope.spawn(|| counter.run(address, &count));
        }
        test(server, &count);
        count.is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(count.failed.load(Ordering::SeqCst), 0, "a full disk is no fault of the server");
}

/// A start makes a segment for what comes. Where there is neither a spare one nor space, it ends,
/// leaves everything as it is, and says what is missing.
fn starts_or_names_the_shortage(place: &Place) -> bool {
    let (mut child, _) = place.spawn();
    let before = place.logged(LISTENING);
    let ended = wait_for("a start on a full disk", CHANGE_MAX, || {
        let ended = child.try_wait().expect("it is our child");
        (ended.is_some() || place.logged(LISTENING) > before).then_some(ended)
    });
    gateway::kill(&mut child);
    if let Some(status) = ended {
        assert_eq!(status.code(), Some(1), "a start that fails says so");
        assert!(place.logged("No space left on device") > 0, "it does not say what is missing");
    }
    ended.is_none()
}

fn a_full_disk(kind: Kind) {
    let volume = Volume::new(kind, VOLUME_BYTES);
    let place = Place::on(&volume, SETTINGS);
    let ballast = volume.root().join("ballast");
    let mut counters: Vec<Counter> =
        (0..WRITERS).map(|name| Counter::new(name, TEXT_BYTES)).collect();
    let mut server = place.start();
    load(&mut server, &mut counters, |server, count| {
        wait_for_more(&count.acknowledged, server, "acknowledgements");
        fill(&ballast);
        wait_for_more(&count.busy, server, "503 on a full disk");
        fs::remove_file(&ballast).expect("it was made");
        wait_for_more(&count.acknowledged, server, "acknowledgements again, without a restart");
        fill(&ballast);
        wait_for_more(&count.busy, server, "503 on a disk that is full again");
    });
    // The power goes while the disk is full; what is there must start without new space.
    server.end(|child| {
        gateway::freeze(child);
        volume.cut();
        gateway::kill(child);
    });
    volume.remount();
    let started = starts_or_names_the_shortage(&place);
    fs::remove_file(&ballast).expect("it was made");
    let mut server = place.start();
    check(&server, &counters);
    load(&mut server, &mut counters, |server, count| {
        wait_for_more(&count.acknowledged, server, "acknowledgements after the restart");
    });
    let mut client = server.client();
    let applied = [("X-Tidegate-Durability", "applied")];
    wait_for("everything to be executed", CHANGE_MAX, || {
        let reply =
            client.post("/write?db=settled", &applied, b"settled,by=test is=true 1").ok()?;
        // A small engine behind a backlog of segments may need longer than a request may wait.
        (reply.status == 204).then_some(())
    });
    let records = check(&server, &counters);
    server.stop();
    let start = if started { "went well" } else { "named the shortage" };
    tell(format!(
        "full_disk: {kind:?}: full twice, cut once, {records} records, lost 0; a start on it {start}"
    ));
}

#[test]
fn a_full_disk_is_busy_and_loses_nothing_on_ext4() {
    a_full_disk(Kind::Ext4);
}

#[test]
fn a_full_disk_is_busy_and_loses_nothing_on_xfs() {
    a_full_disk(Kind::Xfs);
}
