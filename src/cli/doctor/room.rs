//! Whether what lies on one disk has room on it together: each part may fit by itself and all of them not.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::super::selftest::existing;
use super::{Finding, folder_of, size};
use crate::base::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::engine::Kind;

const DAY: Duration = Duration::from_hours(24);

/// For so many days, each like the last, there should be room: a weekend, and time to get a disk.
const DAYS: u64 = 7;

/// What a folder has.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) bytes: u64,
    /// Of these, what was written within a day. Of tables that is more than they grow by: merged files are
    /// written anew, and what is too old is removed.
    pub(super) of_a_day: u64,
}

/// What lies on one disk.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) free: u64,
    /// What the log may still take, where it lies here.
    pub(super) log: Option<u64>,
    /// The tables, and what a flush of them takes at most.
    pub(super) tables: Option<(Held, u64)>,
    pub(super) rejections: Option<Held>,
}

/// Looks at each disk that has tables or rejections of ours.
pub(super) fn findings(config: &Config) -> Vec<Finding> {
    let log = config.wal.dir.as_path();
    let embedded = &config.engine.embedded;
    let tables = (config.engine.kind == Kind::Embedded).then_some(embedded.dir.as_path());
    let sink = folder_of(&config.rejects.url);
    let mut devices = Vec::new();
    for dir in [tables, sink].into_iter().flatten() {
        devices.extend(device(dir).filter(|device| !devices.contains(device)));
    }
    let is_on = |dir: &Path, at: u64| device(dir) == Some(at);
    let disks = devices.into_iter().filter_map(|at| {
        let any = [tables, sink].into_iter().flatten().find(|dir| is_on(dir, at))?;
        let stat = rustix::fs::statvfs(existing(any)).ok()?;
        let tables = tables.filter(|dir| is_on(dir, at));
        Some(Disk {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            log: is_on(log, at).then(|| config.wal.bytes_max.0.saturating_sub(held(log).bytes)),
            tables: tables.map(|dir| (held(dir), embedded.flush_bytes.0)),
            rejections: sink.filter(|dir| is_on(dir, at)).map(held),
        })
    });
    disks.map(|disk| judge(&disk)).collect()
}

/// The device that a folder lies on, or will.
fn device(dir: &Path) -> Option<u64> {
    fs::metadata(existing(dir)).map(|metadata| metadata.dev()).ok()
}

/// What the files below a folder have; of one that is not there, nothing.
fn held(dir: &Path) -> Held {
    let now = Duration::from_nanos(SystemClock::new().wall_ns().unsigned_abs());
    let mut held = Held::default();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is removed meanwhile is not there any more.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
                continue;
            }
            held.bytes = held.bytes.saturating_add(metadata.len());
            let written = metadata.modified().ok();
            let written = written.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
            if written.is_some_and(|at| now.saturating_sub(at) < DAY) {
                held.of_a_day = held.of_a_day.saturating_add(metadata.len());
            }
        }
    }
    held
}

pub(super) fn judge(disk: &Disk) -> Finding {
    let mut parts = Vec::new();
    if let Some(log) = disk.log {
        parts.push(format!("the log may take {} more", size(log)));
    }
    if let Some((tables, flush)) = &disk.tables {
        let (all, of_a_day) = (size(tables.bytes), size(tables.of_a_day));
        let flush = size(*flush);
        parts
            .push(format!("tables hold {all} ({of_a_day} of the last day), a flush takes {flush}"));
    }
    if let Some(rejections) = &disk.rejections {
        let (all, of_a_day) = (size(rejections.bytes), size(rejections.of_a_day));
        parts.push(format!("rejections hold {all} ({of_a_day} of the last day)"));
    }
    let found = format!("{} free for all of it: {}", size(disk.free), parts.join("; "));
    let of_a_day = [disk.tables.map(|(held, _)| held), disk.rejections];
    let of_a_day: u64 = of_a_day.into_iter().flatten().map(|held| held.of_a_day).sum();
    let flush = disk.tables.map_or(0, |(_, flush)| flush);
    let fixed = disk.log.unwrap_or_default().saturating_add(flush);
    let remedy = "get a larger disk, put wal.dir or rejects.url on another, lower wal.bytes_max, or keep less: \
                  the tables' retention, rejects.keep_for";
    let Some(left) = disk.free.checked_sub(fixed) else {
        let found = format!("{found}: together that is more");
        return Finding::warning("room", (found, remedy));
    };
    match left.checked_div(of_a_day) {
        Some(days) if days < DAYS => {
            let days = super::counted((usize::try_from(days).unwrap_or_default(), "day"));
            let found =
                format!("{found}: beside log and flush that is room for {days} like the last");
            Finding::warning("room", (found, remedy))
        }
        _ => Finding::ok("room", found),
    }
}
