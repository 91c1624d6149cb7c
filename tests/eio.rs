//! Promise: when the disk fails to take what the page cache holds, nothing more is acknowledged, the
//! server ends and says so, and a new one never serves what is not on the disk.
//!
//! The device under the file system is a file behind nbdkit's error filter: while a trigger file
//! exists, every write to it fails with EIO, at write-back, as a dying disk does. Afterwards the page
//! cache shows bytes that the device never got, also to the next process; so what a restarted server
//! serves is compared with what is served once the power of the file system was cut, which leaves
//! nothing but the device. `TIDEGATE_EIO_ROUNDS` is how often each disk is broken, each time at another
//! moment of the load. Needs root, loop devices and FUSE, and fails without.

#[path = "common/mod.rs"]
mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use tempfile::TempDir;

use common::count::{self, Count, Counter};
use common::gateway::{self, Place};
use common::volume::{Kind, Volume};
use common::{tell, wait_for};

/// Connections that write at once.
const WRITERS: u64 = 6;

/// Acknowledged before the disk breaks; less proves little.
const ACKNOWLEDGED_MIN: u64 = 200;

/// How soon a server on a broken disk must have ended, and any tool must have done its work.
const END_MAX: Duration = Duration::from_mins(1);

/// What a file holds before the disk breaks, and what is written into it afterwards.
const OLD: &[u8] = b"old";
const NEW: &[u8] = b"new";

const VOLUME_BYTES: u64 = 1 << 30;

/// Nothing but the log writes while the test looks, so that the first that fails is a sync of the log.
const SETTINGS: &str = r#"
    [wal]
    segment_bytes = "49 MiB"
    bytes_max = "245 MiB"

    [engine.embedded]
    flush_interval = "1h"
"#;

/// A file as a block device whose writes can be made to fail.
struct BadDisk {
    dir: PathBuf,
    tools: Vec<Child>,
}

impl BadDisk {
    fn new(dir: &TempDir, bytes: u64) -> Self {
        let dir = dir.path().to_owned();
        let image = File::create(dir.join("image")).expect("the build folder can be written");
        image.set_len(bytes).expect("a sparse file takes no space");
        File::create(dir.join("device")).expect("the build folder can be written");
        let mut disk = Self { dir, tools: Vec::new() };
        disk.tool(
            "nbdkit",
            &[
                "--foreground",
                "--unix",
                "socket",
                "--filter=error",
                "file",
                "image",
                "error=EIO",
                "error-pwrite-rate=100%",
                &format!("error-file={}", disk.trigger().display()),
            ],
        );
        let socket = disk.dir.join("socket");
        // The file of a socket is there before anybody listens, and nbdfuse asks only once.
        wait_for("nbdkit's socket", END_MAX, || UnixStream::connect(&socket).ok().map(drop));
        disk.tool("nbdfuse", &["device", "--unix", "socket"]);
        let device = disk.device();
        wait_for("nbdfuse's file", END_MAX, || {
            let length = fs::metadata(&device).ok()?.len();
            (length == bytes).then_some(())
        });
        disk
    }

    fn tool(&mut self, name: &str, arguments: &[&str]) {
        let log = File::create(self.dir.join(format!("{name}.log")));
        let child = Command::new(name)
            .current_dir(&self.dir)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("the build folder can be written"))
            .spawn();
        self.tools.push(child.expect("the tool is there; tests/run.sh installs it"));
    }

    fn device(&self) -> PathBuf {
        self.dir.join("device")
    }

    fn trigger(&self) -> PathBuf {
        self.dir.join("broken")
    }

    /// From now on every write fails.
    fn break_down(&self) {
        File::create(self.trigger()).expect("the build folder can be written");
    }

    fn repair(&self) {
        fs::remove_file(self.trigger()).expect("it is broken");
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        // Fails where it never was mounted; then there is nothing to take off.
        drop(Command::new("fusermount3").arg("-uz").arg(self.device()).status());
        self.tools.iter_mut().for_each(gateway::kill);
    }
}

/// How long the disk is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outage {
    /// Until the server has ended. The file system gives up as well, as its journal cannot be written.
    Lasting,
    /// Until the first request has failed. The file system goes on, and so does a page cache with bytes
    /// that the disk never got.
    Passing,
}

/// Loads the server, breaks the disk, waits for the server's end; counted in `count`.
fn break_under_load(
    disk: &BadDisk,
    volume: &Volume,
    outage: Outage,
    place: &Place,
) -> Vec<Counter> {
    let probe = volume.root().join("probe");
    fs::write(&probe, OLD).expect("a sound disk");
    let mut server = place.start();
    let mut counters: Vec<Counter> = (0..WRITERS).map(|name| Counter::new(name, 100)).collect();
    let (count, address) = (Count::default(), server.address);
    let end = std::thread::scope(|scope| {
        for counter in &mut counters {
            scope.spawn(|| counter.run(address, &count));
        }
        wait_for("the load", END_MAX, || {
            (count.acknowledged.load(Ordering::SeqCst) >= ACKNOWLEDGED_MIN).then_some(())
        });
        volume.settle();
        disk.break_down();
        // Only now: what was sent before may still have got through.
        count.is_broken.store(true, Ordering::SeqCst);
        wait_for("a request to fail", END_MAX, || {
            (count.failed.load(Ordering::SeqCst) > 0).then_some(())
        });
        if outage == Outage::Passing {
            the_cache_lies(&probe);
            disk.repair();
        }
        server.wait_end(END_MAX)
    });
    assert_eq!(end.code(), Some(1), "a server whose disk failed says so");
    assert_eq!(count.acknowledged_broken.load(Ordering::SeqCst), 0, "acknowledged after the error");
    assert!(place.logged("the log is poisoned") > 0, "it was the log that failed");
    tell(format!(
        "eio: {outage:?}: {} acknowledged before the error, 0 after it, {} requests failed, exit code 1",
        count.acknowledged.load(Ordering::SeqCst),
        count.failed.load(Ordering::SeqCst),
    ));
    counters
}

/// The control: bytes that a failed sync left in the page cache are read back by whoever asks, so a
/// recovery that trusts what it reads would serve them.
fn the_cache_lies(probe: &Path) {
    let mut file = File::options().write(true).open(probe).expect("it was written before");
    // Not the file's times: they would go into the journal.
    let written = file.write_all(NEW).and_then(|()| file.sync_data());
    assert!(written.is_err(), "a broken disk took something");
    assert_eq!(fs::read(probe).ok().as_deref(), Some(NEW), "the cache shows what the disk has not");
}

fn a_write_back_error(kind: Kind, outage: Outage) {
    let dir = Volume::folder();
    let disk = BadDisk::new(&dir, VOLUME_BYTES);
    let volume = Volume::in_file(kind, dir, &disk.device());
    let place = Place::on(&volume, SETTINGS);
    let counters = break_under_load(&disk, &volume, outage, &place);
    if outage == Outage::Lasting {
        disk.repair();
        volume.remount();
    }
    let server = place.start();
    let shown = count::served(&server);
    let wrong = count::wrong(&counters, &shown);
    assert!(wrong.is_empty(), "{kind:?}: {}", wrong.join("\n"));
    server.end(|child| {
        gateway::freeze(child);
        volume.cut();
        gateway::kill(child);
    });
    volume.remount();
    let probe = fs::read(volume.root().join("probe"));
    assert_eq!(probe.ok().as_deref(), Some(OLD), "the cut shows what the disk has");
    let server = place.start();
    let on_disk = count::served(&server);
    let not_on_disk: Vec<_> = shown.difference(&on_disk).collect();
    assert!(not_on_disk.is_empty(), "{kind:?}: served, but not on the disk: {not_on_disk:?}");
    assert_eq!(shown, on_disk, "{kind:?}: a restart without writes invents nothing");
    tell(format!("eio: {kind:?}: {} served by the next server, all on the disk", shown.len()));
}

/// As often as is asked for, once otherwise.
fn write_back_errors(outage: Outage) {
    let rounds = std::env::var("TIDEGATE_EIO_ROUNDS").ok();
    let rounds = rounds.map_or(1, |text| text.parse().expect("TIDEGATE_EIO_ROUNDS is a number"));
    for round in 1..=rounds {
        tell(format!("eio: {outage:?}, round {round} of {rounds}"));
        a_write_back_error(Kind::Ext4, outage);
        a_write_back_error(Kind::Xfs, outage);
    }
}

#[test]
fn after_a_lasting_error_nothing_is_acknowledged_or_invented() {
    write_back_errors(Outage::Lasting);
}

/// The disk is well again when the next server starts, and when the old one still runs; neither may
/// believe the page cache.
#[test]
fn after_a_passing_error_nothing_is_acknowledged_or_invented() {
    write_back_errors(Outage::Passing);
}

fn databases(server: &gateway::Gateway) -> String {
    server.client().get("/query?q=SHOW%20DATABASES").expect("it is answered").text()
}

/// The same of the catalog, which the next server reads as a file: a change whose sync failed is in the
/// page cache, and a sync alone would say that it is on the disk.
#[test]
fn what_the_next_server_reads_of_the_catalog_is_on_the_disk() {
    for kind in [Kind::Ext4, Kind::Xfs] {
        let dir = Volume::folder();
        let disk = BadDisk::new(&dir, VOLUME_BYTES);
        let volume = Volume::in_file(kind, dir, &disk.device());
        let place = Place::on(&volume, SETTINGS);
        let server = place.start();
        server.write("kept", "m,s=a v=1 1");
        volume.settle();
        disk.break_down();
        let made = server.client().get("/query?q=CREATE%20DATABASE%20unsure");
        disk.repair();
        let made = made.expect("it is answered");
        assert_eq!(made.status, 500, "{kind:?}: {}", made.text());
        server.kill();
        let server = place.start();
        let shown = databases(&server);
        assert!(
            shown.contains("unsure"),
            "{kind:?}: the cache shows what the disk has not: {shown}"
        );
        server.end(|child| {
            gateway::freeze(child);
            volume.cut();
            gateway::kill(child);
        });
        volume.remount();
        let server = place.start();
        assert_eq!(databases(&server), shown, "{kind:?}");
        server.kill();
        tell(format!("eio: {kind:?}: the catalog that was served is on the disk"));
    }
}
