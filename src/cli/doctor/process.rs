//! What the system gives a process: open files, memory, the time.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, getrlimit};

use super::{Finding, size};
use crate::base::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::engine::Kind;

/// Descriptors besides connections: segments of the log, files of the tables, the engine's connections.
const DESCRIPTORS_OWN: u64 = 256;

/// Years in which a clock is believed: from this code's own on.
const YEARS: std::ops::Range<i16> = 2025..2100;

pub(super) fn findings(config: &Config) -> Vec<Finding> {
    vec![open_files(config), memory(config), swap(), clock()]
}

fn open_files(config: &Config) -> Finding {
    let connections = config.server.connections_max as u64;
    judge_open_files(getrlimit(Resource::Nofile).current, connections)
}

/// `None` is no limit.
pub(super) fn judge_open_files(limit: Option<u64>, connections: u64) -> Finding {
    let wanted = connections.saturating_add(DESCRIPTORS_OWN);
    let Some(limit) = limit else { return Finding::ok("open files", "no limit") };
    let found = format!(
        "at most {limit}; server.connections_max = {connections} and the files of log and tables take up to \
         {wanted}"
    );
    let remedy =
        format!("raise the limit (LimitNOFILE={wanted}, ulimit -n) or lower connections_max");
    match limit {
        limit if limit < DESCRIPTORS_OWN => Finding::fault("open files", (found, remedy)),
        limit if limit < wanted => Finding::warning("open files", (found, remedy)),
        _ => Finding::ok("open files", found),
    }
}

fn memory(config: &Config) -> Finding {
    let embedded = &config.engine.embedded;
    let of_engine = match config.engine.kind {
        Kind::Embedded => embedded.memory_bytes_max.0.saturating_add(embedded.cache_bytes_max.0),
        Kind::Postgres | Kind::Timestream => 0,
    };
    let asked = config.ingest.memory_bytes_max.0.saturating_add(of_engine);
    judge_memory(asked, available())
}

pub(super) fn judge_memory(asked: u64, available: Option<u64>) -> Finding {
    let asked_text = size(asked);
    let Some(available) = available else {
        let found =
            format!("the settings allow {asked_text}; the system does not say what there is");
        return Finding::ok("memory", found);
    };
    let found = format!("the settings allow {asked_text} of {}", size(available));
    let remedy = "lower engine.embedded.memory_bytes_max, cache_bytes_max or ingest.memory_bytes_max, or give \
                  it more";
    if asked > available {
        return Finding::fault("memory", (found, remedy));
    }
    // The log's pages want room too; the system takes them back, but then reads them again.
    if asked > available / 5 * 4 {
        return Finding::warning("memory", (found, remedy));
    }
    Finding::ok("memory", found)
}

/// Memory of the machine, or what its container may have of it.
fn available() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    let limits = cgroup_limits();
    Some(limits.into_iter().chain([kib.saturating_mul(1024)]).min().unwrap_or_default())
}

fn swap() -> Finding {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    judge_swap(bytes("SwapTotal:").zip(bytes("SwapFree:")))
}

/// Of how much there is, and how much of it is free; `None` where the system does not say.
pub(super) fn judge_swap(of: Option<(u64, u64)>) -> Finding {
    let Some((total, free)) = of else {
        return Finding::ok("swap", "the system does not say whether there is any");
    };
    if total == 0 {
        return Finding::ok("swap", "none: what the settings allow must fit into memory");
    }
    let used = total.saturating_sub(free);
    let found = format!("{} of {} in use", size(used), size(total));
    // A little of what never runs is always there.
    if used <= total / 4 {
        return Finding::ok("swap", found);
    }
    let what = "the engine's rows in memory may lie there, and each write to their series then waits for \
                the disk; the log does not, its pages are those of its files";
    let remedy = "lower engine.embedded.memory_bytes_max, give the machine more memory, or set \
                  vm.swappiness=1 (MemorySwapMax=0 in the unit keeps the service out of it)";
    Finding::warning("swap", (format!("{found}: {what}"), remedy))
}

/// Limits of our control group and of those above it. Source: Linux documentation, "Control Group v2".
fn cgroup_limits() -> Vec<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let top = Path::new("/sys/fs/cgroup");
    let own = top.join(path);
    let groups = own.ancestors().take_while(|group| group.starts_with(top));
    let files = groups.map(|group| group.join("memory.max"));
    let first_version = top.join("memory/memory.limit_in_bytes");
    let texts = files.chain([first_version]).filter_map(|file| fs::read_to_string(file).ok());
    texts.filter_map(|text| text.trim().parse().ok()).collect()
}

fn clock() -> Finding {
    let now_ns = SystemClock::new().wall_ns();
    judge_clock(now_ns, is_synchronised())
}

pub(super) fn judge_clock(now_ns: i64, is_synchronised: Option<bool>) -> Finding {
    let now = jiff::Timestamp::from_nanosecond(now_ns.into()).unwrap_or_default();
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let found = format!("{now:.0}");
    let remedy = "set the clock and let chrony or systemd-timesyncd keep it: records without a time of their \
                  own get it, and windows and signatures are judged by it";
    if !YEARS.contains(&year) {
        return Finding::fault("clock", (format!("{found}: that year cannot be"), remedy));
    }
    match is_synchronised {
        Some(false) => {
            Finding::warning("clock", (format!("{found}, kept by no time server"), remedy))
        }
        Some(true) => Finding::ok("clock", format!("{found}, kept by a time server")),
        None => Finding::ok("clock", format!("{found}; nobody here says who keeps it")),
    }
}

/// Asked of systemd, which asks the kernel whoever keeps the clock; `None` where it is not there.
fn is_synchronised() -> Option<bool> {
    let mut ask = Command::new("timedatectl");
    ask.args(["show", "--property=NTPSynchronized", "--value"]);
    let said = ask.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    match String::from_utf8_lossy(&said.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}
