//! What is judged how. That each fault is found on a real machine, `tests/doctor.rs` shows.

use std::path::Path;

use super::disk::{mount_in, sync, with_files};
use super::process::{judge_clock, judge_memory, judge_open_files, judge_swap};
use super::room::{Disk, Held, judge};
use super::*;

#[test]
fn the_defaults_have_nothing_to_be_told() {
    let findings = settings(&Config::default());
    let marks: Vec<Mark> = findings.iter().map(|finding| finding.mark).collect();
    assert_eq!(marks, [Mark::Ok], "{findings:?}");
}

#[test]
fn what_is_not_the_default_is_listed_and_secrets_are_not() {
    let text = "[wal]\ndurability = \"interval\"\n[auth]\ntokens = [{ name = \"f\", token = \"geheim\", \
                read = [], write = [\"iot\"] }]\n";
    let changed = changed(&toml::from_str(text).unwrap()).join("\n");
    assert!(changed.contains("wal.durability = \"interval\""), "{changed}");
    assert!(changed.contains("auth.tokens") && !changed.contains("geheim"), "{changed}");
}

#[test]
fn what_an_operator_will_regret_is_a_warning() {
    for (text, key) in [
        ("[wal]\ndurability = \"memory\"", "wal.durability"),
        ("[wal]\nbytes_max = \"200 MiB\"", "wal.bytes_max"),
        ("[server]\nlisten = \"0.0.0.0:1\"\n[auth]\nanonymous = true", "everybody"),
    ] {
        let findings = settings(&toml::from_str(text).unwrap());
        let warned = findings.iter().filter(|finding| finding.mark == Mark::Warning);
        let warned: Vec<&str> = warned.map(|finding| &*finding.found).collect();
        assert!(matches!(*warned, [found] if found.contains(key)), "{text}: {findings:?}");
    }
}

#[test]
fn limits_are_judged_at_their_bounds() {
    for (limit, mark) in [
        (Some(255), Mark::Fault),
        (Some(256), Mark::Warning),
        (Some(10_255), Mark::Warning),
        (Some(10_256), Mark::Ok),
        (None, Mark::Ok),
    ] {
        assert_eq!(judge_open_files(limit, 10_000).mark, mark, "{limit:?}");
    }
    for (asked, available, mark) in [
        (101, Some(100), Mark::Fault),
        (100, Some(100), Mark::Warning),
        (80, Some(100), Mark::Ok),
        (80, None, Mark::Ok),
    ] {
        assert_eq!(judge_memory(asked, available).mark, mark, "{asked} of {available:?}");
    }
}

/// That there is swap, or none, is no fault: that the engine's memory lies in it is.
#[test]
fn swap_that_is_in_use_is_a_warning_that_says_whose_memory_matters() {
    for (of, mark, part) in [
        (None, Mark::Ok, "does not say"),
        (Some((0, 0)), Mark::Ok, "none"),
        (Some((1 << 30, 1 << 30)), Mark::Ok, "0 B of 1.0 GiB"),
        (Some((1 << 30, 3 << 28)), Mark::Ok, "256.0 MiB of"),
        (Some((1 << 30, (3 << 28) - 1)), Mark::Warning, "the log does not"),
    ] {
        let finding = judge_swap(of);
        assert!(finding.mark == mark && finding.found.contains(part), "{of:?}: {finding:?}");
    }
}

/// Each part would fit alone.
#[test]
fn what_lies_on_one_disk_is_added_up() {
    let held = |of_a_day| Held { bytes: 1000, of_a_day };
    for (log, tables, rejections, mark, part) in [
        (Some(60), Some((held(0), 40)), Some(held(0)), Mark::Ok, "free for all of it"),
        (Some(61), Some((held(0), 40)), None, Mark::Warning, "together that is more"),
        (Some(51), Some((held(4), 0)), Some(held(3)), Mark::Ok, "free for all of it"),
        (Some(52), Some((held(4), 0)), Some(held(3)), Mark::Warning, "room for 6 days"),
        (None, None, Some(held(60)), Mark::Warning, "room for 1 day like"),
        (None, Some((held(14), 0)), None, Mark::Ok, "tables hold 1000 B (14 B of the last day)"),
    ] {
        let disk = Disk { free: 100, log, tables, rejections };
        let finding = judge(&disk);
        assert!(finding.mark == mark && finding.found.contains(part), "{disk:?}: {finding:?}");
    }
}

#[test]
fn room_for_few_files_is_a_warning_and_hides_no_other() {
    let ok = || Finding::ok("space", "1 GiB free");
    for (files, mark) in
        [((0, 0), Mark::Ok), ((1 << 20, 10_000), Mark::Ok), ((1 << 20, 9_999), Mark::Warning)]
    {
        assert_eq!(with_files(ok(), files).mark, mark, "{files:?}");
    }
    let full = Finding::fault("space", ("0 B free", "free some"));
    assert_eq!(with_files(full, (1 << 20, 0)).found, "0 B free");
}

#[test]
fn a_slow_disk_is_a_warning_by_its_slowest_syncs() {
    for (slowest_ms, mark) in [(90, Mark::Ok), (110, Mark::Warning)] {
        let mut syncs = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        syncs.record_n(20_000_000, 95).unwrap();
        syncs.record_n(slowest_ms * 1_000_000, 5).unwrap();
        let finding = sync(&syncs, Path::new("/"));
        assert_eq!(finding.mark, mark, "{slowest_ms} ms: {finding:?}");
    }
}

#[test]
fn a_clock_of_another_age_is_a_fault() {
    const NOW_NS: i64 = 1_795_000_000_000_000_000;
    for (now_ns, kept, mark) in [
        (0, Some(true), Mark::Fault),
        (NOW_NS, Some(true), Mark::Ok),
        (NOW_NS, None, Mark::Ok),
        (NOW_NS, Some(false), Mark::Warning),
        (i64::MAX, Some(true), Mark::Fault),
    ] {
        assert_eq!(judge_clock(now_ns, kept).mark, mark, "{now_ns} {kept:?}");
    }
}

#[test]
fn a_certificate_is_renewed_in_time() {
    const NOW_SECONDS: i64 = 1_795_000_000;
    for (days, mark) in [(-1, Mark::Fault), (0, Mark::Warning), (13, Mark::Warning), (14, Mark::Ok)]
    {
        let expires = NOW_SECONDS + days * 86_400;
        let finding = parts::certificate(expires, NOW_SECONDS * 1_000_000_000);
        assert_eq!(finding.mark, mark, "{days}: {finding:?}");
    }
}

#[test]
fn the_deepest_mount_is_that_of_a_folder() {
    let table = "1 0 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n\
                 2 1 8:2 / /var/lib rw - xfs /dev/sdb1 rw\n\
                 3 1 8:3 / /var/lib/old\\040one ro - ext4 /dev/sdc1 rw,nobarrier\n";
    for (dir, expected) in [
        (
            "/home",
            "Some(Mount { kind: \"ext4\", source: \"/dev/sda1\", at: \"/\", is_read_only: false, is_unsafe: false })",
        ),
        (
            "/var/library",
            "Some(Mount { kind: \"ext4\", source: \"/dev/sda1\", at: \"/\", is_read_only: false, is_unsafe: false })",
        ),
        (
            "/var/lib/x",
            "Some(Mount { kind: \"xfs\", source: \"/dev/sdb1\", at: \"/var/lib\", is_read_only: false, is_unsafe: false })",
        ),
        (
            "/var/lib/old one/x",
            "Some(Mount { kind: \"ext4\", source: \"/dev/sdc1\", at: \"/var/lib/old one\", is_read_only: true, is_unsafe: true })",
        ),
    ] {
        assert_eq!(format!("{:?}", mount_in(table, Path::new(dir))), expected, "{dir}");
    }
}

#[test]
fn a_finding_is_a_line_with_its_remedy_below() {
    let finding = Finding::fault("port", ("taken", "stop it"));
    let text = told(&finding, Look::Plain);
    assert_eq!(text, "fault    port         taken\n                      to do: stop it\n");
    assert!(told(&finding, Look::Colours).starts_with("\x1b[31m✗\x1b[0m port "));
    assert!(told(&finding, Look::Signs).starts_with("✗ port "));
    assert_eq!(size(1536), "1.5 KiB");
    assert_eq!(
        [0, 1, 2].map(|count| counted((count, "fault"))),
        ["0 faults", "1 fault", "2 faults"]
    );
}
