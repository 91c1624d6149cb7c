//! The file systems of log and tables.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::selftest;
use super::{Finding, Mark, size};
use crate::base;
use crate::config::Config;
use crate::engine::Kind;

/// Above this at p99, whoever writes feels the disk.
const SYNC_SLOW: Duration = Duration::from_millis(100);

/// Days, tables and segments are files; with fewer left than this they end before the space does.
const FILES_MIN: u64 = 10_000;

/// A start makes this many segments.
const SEGMENTS_AT_START: u64 = 3;

/// What a mount says of itself. Source: proc(5), `/proc/self/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    kind: String,
    source: String,
    at: PathBuf,
    is_read_only: bool,
    /// Whether a sync ends at the disk's cache, which a power cut empties.
    is_unsafe: bool,
}

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut devices = Vec::new();
    let tables = (config.engine.kind == Kind::Embedded).then_some(&config.engine.embedded.dir);
    // The log first: it asks more of a file system than the others.
    let dirs =
        [("log", Some(&config.wal.dir)), ("data", Some(&config.data_dir)), ("tables", tables)];
    for (check, dir) in dirs {
        let Some(dir) = dir else { continue };
        let base = selftest::existing(dir);
        let device = fs::metadata(base).map(|metadata| metadata.dev()).ok();
        if devices.contains(&device) {
            continue;
        }
        devices.push(device);
        findings.extend(of_folder(config, check, (dir, base)));
    }
    findings
}

fn of_folder(config: &Config, check: &'static str, (dir, base): (&Path, &Path)) -> Vec<Finding> {
    if let Some(file) = selftest::in_the_way(dir) {
        let found = format!("{}: {} is a file and no folder", dir.display(), file.display());
        return vec![Finding::fault(
            check,
            (found, "name a folder in the settings, or move the file away"),
        )];
    }
    let mount = mount_of(base);
    let mut findings = vec![file_system(check, (dir, base), mount.as_ref())];
    let scratch = base.join(format!("tidegate-doctor-{}", std::process::id()));
    let made = base::fs::create_dir_all(&scratch);
    let probed = made.and_then(|()| selftest::measure(&scratch));
    match probed {
        Ok(syncs) if check == "log" => findings.push(sync(&syncs, &scratch)),
        Ok(_) => {}
        Err(error) => findings.push(unwritable(base, &error)),
    }
    if scratch.exists()
        && let Err(error) = fs::remove_dir_all(&scratch)
    {
        let found = format!("{} cannot be removed: {error}", scratch.display());
        findings.push(Finding::warning(check, (found, "remove it")));
    }
    findings.push(space(config, check, (dir, base)));
    findings
}

fn file_system(check: &'static str, (dir, base): (&Path, &Path), mount: Option<&Mount>) -> Finding {
    let place = dir.display();
    let Some(mount) = mount else {
        let found = format!("{place}: no mount in /proc/self/mountinfo has {}", base.display());
        return Finding::warning(check, (found, "make sure that it lies on ext4 or XFS"));
    };
    let Mount { kind, source, at, .. } = mount;
    let found = format!("{place} on {kind}, {source}, mounted at {}", at.display());
    match (check, kind.as_str()) {
        ("log", "tmpfs") => Finding::warning(
            check,
            (
                format!(
                    "{found}: in memory, so nothing outlives a power cut or a restart of the machine"
                ),
                "put wal.dir on ext4 or XFS",
            ),
        ),
        ("log", kind) if !matches!(kind, "ext4" | "xfs") => {
            let found = format!("{found}: a start refuses it");
            Finding::fault(check, (found, "put wal.dir (or data_dir) on ext4 or XFS"))
        }
        _ if mount.is_read_only => {
            Finding::fault(check, (format!("{found}, read-only"), "mount it read-write"))
        }
        _ if mount.is_unsafe => {
            let found = format!("{found}, without barriers: a power cut takes what was synced");
            Finding::warning(check, (found, "mount it without nobarrier or barrier=0"))
        }
        _ => Finding::ok(check, found),
    }
}

fn unwritable(base: &Path, error: &io::Error) -> Finding {
    let found = format!("{} cannot be written: {error}", base.display());
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => "free some space: a start needs room for its log",
        io::ErrorKind::ReadOnlyFilesystem => "mount it read-write",
        _ => "give the user that runs Tidegate the right to write there",
    };
    Finding::fault("writable", (found, remedy))
}

pub(super) fn sync(syncs: &hdrhistogram::Histogram<u64>, scratch: &Path) -> Finding {
    let median = Duration::from_nanos(syncs.value_at_quantile(0.5));
    let p99 = Duration::from_nanos(syncs.value_at_quantile(0.99));
    let verdict = selftest::verdict(median, selftest::is_rotational(scratch));
    let found = format!("{}; {verdict}", selftest::percentiles(syncs));
    if verdict.contains("LIES") {
        let remedy = "use a disk, or a driver of it, that honours flushes";
        return Finding::fault("sync", (found, remedy));
    }
    if verdict.contains("a cache answers") {
        return Finding::warning("sync", (found, "make sure of that power"));
    }
    if p99 > SYNC_SLOW {
        let remedy = "each acknowledgement waits for a sync: use a faster disk, or wal.durability = \
                      \"interval\" where that is enough";
        return Finding::warning("sync", (found, remedy));
    }
    Finding::ok("sync", found)
}

fn space(config: &Config, check: &'static str, (dir, base): (&Path, &Path)) -> Finding {
    let stat = match rustix::fs::statvfs(base) {
        Ok(stat) => stat,
        Err(error) => {
            let found = format!("{}: {error}", base.display());
            return Finding::fault("space", (found, "make the folder readable"));
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let finding = match check {
        "log" => space_of_log(config, (free, dir)),
        _ => space_of_tables(config, (free, dir)),
    };
    with_files(finding, (stat.f_files, stat.f_favail))
}

/// The same, unless a file system has room for few more files. Some have no fixed number of them, and say 0
/// of 0.
pub(super) fn with_files(finding: Finding, (all, free): (u64, u64)) -> Finding {
    if finding.mark != Mark::Ok || all == 0 || free >= FILES_MIN {
        return finding;
    }
    let found = format!("{}, but for {free} more files only", finding.found);
    Finding::warning("space", (found, "remove files, or make a file system with more inodes"))
}

fn space_of_log(config: &Config, (free, dir): (u64, &Path)) -> Finding {
    let free_text = size(free);
    let (own, bound) = (bytes_in(dir), config.wal.bytes_max.0);
    let (own_text, bound_text) = (size(own), size(bound));
    let found = format!("{free_text} free, and the log has {own_text} of at most {bound_text}");
    let needed = config.wal.segment_bytes.0.saturating_mul(SEGMENTS_AT_START);
    if free.saturating_add(own) < needed {
        let found = format!("{found}: a start needs {}", size(needed));
        return Finding::fault("space", (found, "free some space, or lower wal.segment_bytes"));
    }
    if free.saturating_add(own) < bound {
        let remedy = "lower wal.bytes_max or get a larger disk: it will be full before the log is, which \
                      loses nothing, but other programs feel it";
        return Finding::warning("space", (found, remedy));
    }
    Finding::ok("space", found)
}

/// Whether what is in memory has room in files. They are smaller, so it has if it would fit as it is.
fn space_of_tables(config: &Config, (free, dir): (u64, &Path)) -> Finding {
    let found = format!("{} free for {}", size(free), dir.display());
    let flush = config.engine.embedded.flush_bytes.0;
    let has_tables =
        config.engine.kind == Kind::Embedded && config.engine.embedded.dir.starts_with(dir);
    if has_tables && free < flush {
        let found = format!("{found}: less than one flush of {} may take", size(flush));
        let remedy = "free some space: tables that cannot be written stay in memory and in the log, until \
                      that is full";
        return Finding::warning("space", (found, remedy));
    }
    Finding::ok("space", found)
}

/// Bytes of the files in a folder.
fn bytes_in(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// The kind of the file system that a folder lies on, as mounts name it.
pub(in crate::cli) fn kind_of(dir: &Path) -> Option<String> {
    mount_of(dir).map(|mount| mount.kind)
}

fn mount_of(dir: &Path) -> Option<Mount> {
    let dir = dir.canonicalize().ok()?;
    mount_in(&fs::read_to_string("/proc/self/mountinfo").ok()?, &dir)
}

/// The last mount, of those at the deepest folder above `dir`: it hides the others.
pub(super) fn mount_in(table: &str, dir: &Path) -> Option<Mount> {
    let mounts = table.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let before: Vec<&str> = before.split(' ').collect();
        let mut after = after.split(' ');
        let at = PathBuf::from(before.get(4)?.replace("\\040", " "));
        let is_read_only = before.get(5)?.split(',').any(|option| option == "ro");
        let (kind, source) = (after.next()?.to_owned(), after.next()?.to_owned());
        let of_all: Vec<&str> = after.next()?.split(',').collect();
        let is_read_only = is_read_only || of_all.contains(&"ro");
        // ext4 says either; XFS has not had the choice since Linux 4.19.
        let is_unsafe = of_all.iter().any(|option| matches!(*option, "nobarrier" | "barrier=0"));
        dir.starts_with(&at).then_some(Mount { kind, source, at, is_read_only, is_unsafe })
    });
    mounts.max_by_key(|mount| mount.at.components().count())
}
