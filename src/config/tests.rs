//! The file in the repository says what the code does; errors name the place.

mod table;
mod types;

use std::path::Path;

use super::load::{ConfigError, Override, load};
use super::*;

const SHIPPED: &str = include_str!("../../config.toml");

fn no_variables() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

fn from_text(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), no_variables(), &[])
}

#[test]
fn the_shipped_file_is_the_defaults() {
    assert_eq!(from_text(SHIPPED).unwrap(), Config::default());
}

/// Every key of the defaults stands in the shipped file, with a comment above it.
#[test]
fn the_shipped_file_explains_every_key() {
    let all = toml::Table::try_from(Config::default()).unwrap();
    let shipped: toml::Table = toml::from_str(SHIPPED).unwrap();
    let mut missing = Vec::new();
    compare(&all, &shipped, "", &mut missing);
    assert!(missing.is_empty(), "config.toml lacks {missing:?}");
    let lines: Vec<&str> = SHIPPED.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(at > 0 && lines[at - 1].starts_with('#'), "no comment above: {line}");
        }
    }
}

fn compare(all: &toml::Table, shipped: &toml::Table, prefix: &str, missing: &mut Vec<String>) {
    for (key, value) in all {
        let path = format!("{prefix}{key}");
        match (value, shipped.get(key)) {
            (_, None) => missing.push(path),
            (toml::Value::Table(inner), Some(toml::Value::Table(theirs))) => {
                compare(inner, theirs, &format!("{path}."), missing);
            }
            _ => {}
        }
    }
}

#[test]
fn the_defaults_contradict_nothing() {
    assert_eq!(Config::default().problems(), Vec::<String>::new());
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = from_text("[wal]\nsegmnt_bytes = 1\n").unwrap_err().to_string();
    assert!(error.contains("segmnt_bytes") && error.contains("line 2"), "{error}");
}

#[test]
fn an_unknown_section_is_named_and_no_secret_beside_it_is_shown() {
    let text = "[metric]\nport = 1\n[[auth.tokens]]\nname = \"a\"\ntokn = \"s3cret\"\n[auth.x]\ny = \"s3cret\"\n";
    let error = from_text(text).unwrap_err().to_string();
    for named in ["line 1", "\"metric\"", "did you mean metrics?", "line 5", "\"tokn\"", "\"x\""] {
        assert!(error.contains(named), "{named} in {error}");
    }
    assert!(!error.contains("s3cret"), "{error}");
}

#[test]
fn a_variable_with_one_underscore_too_few_is_told_how_it_is_written() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, meant) in [
        ("TIDEGATE_BATCH_RECORDS_MAX", "TIDEGATE_BATCH__RECORDS_MAX"),
        ("TIDEGATE_BATCH_LOAD_URL", "TIDEGATE_BATCH_LOAD__URL"),
    ] {
        let variables = [(name.to_owned(), "1".to_owned())].into_iter();
        let error = load(Some(file.path()), variables, &[]).unwrap_err().to_string();
        assert!(error.contains(meant), "{error}");
    }
}

#[test]
fn the_environment_beats_the_file_and_a_flag_beats_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "[batch]\nrecords_max = 10\nlinger = \"3ms\"\n").unwrap();
    let variables = || {
        [("TIDEGATE_BATCH__RECORDS_MAX", "20"), ("TIDEGATE_WAL__BYTES_MAX", "2 GiB"), ("HOME", "/")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
    };
    let config = load(Some(&path), variables(), &[]).unwrap();
    assert_eq!(config.batch.records_max, 20);
    assert_eq!(config.batch.linger, crate::base::units::Span::ms(3));
    assert_eq!(config.wal.bytes_max, crate::base::units::Bytes::mib(2048));
    let flags = [Override::flag("--data", &["data_dir"], "elsewhere")];
    let config = load(Some(&path), variables(), &flags).unwrap();
    assert_eq!(config.data_dir, Path::new("elsewhere"));
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value) in [("TIDEGATE_BATCH__NOPE", "1"), ("TIDEGATE_WAL__BYTES_MAX", "2 gigs")] {
        let variables = [(name.to_owned(), value.to_owned())].into_iter();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "").unwrap();
        let error = load(Some(&path), variables, &[]).unwrap_err().to_string();
        assert!(error.starts_with(name), "{error}");
    }
}

/// As a pod has them beside a service that is called `tidegate`, or `tidegate-wal`.
#[test]
fn links_to_services_are_no_settings_and_what_looks_like_a_setting_is_not_passed_over() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let load_with = |name: &str, value: &str| {
        let variables = [(name.to_owned(), value.to_owned())].into_iter();
        load(Some(file.path()), variables, &[])
    };
    for (name, value) in [
        ("TIDEGATE_SERVICE_HOST", "10.96.0.7"),
        ("TIDEGATE_SERVICE_PORT", "8086"),
        ("TIDEGATE_SERVICE_PORT_HTTP", "8086"),
        ("TIDEGATE_PORT", "tcp://10.96.0.7:8086"),
        ("TIDEGATE_PORT_8086_TCP", "tcp://10.96.0.7:8086"),
        ("TIDEGATE_PORT_8086_TCP_PROTO", "tcp"),
        ("TIDEGATE_PORT_8086_TCP_PORT", "8086"),
        ("TIDEGATE_PORT_8086_TCP_ADDR", "10.96.0.7"),
        ("TIDEGATE_WAL_SERVICE_HOST", "10.96.0.8"),
        ("TIDEGATE_WAL_PORT", "udp://10.96.0.8:1"),
        ("TIDEGATE_WAL_PORT_1_UDP_ADDR", "10.96.0.8"),
    ] {
        let loaded = load_with(name, value);
        assert_eq!(loaded.unwrap(), Config::default(), "{name}");
    }
    for (name, value) in [
        ("TIDEGATE_PORT", "9000"),
        ("TIDEGATE_WAL_DURABILITY", "interval"),
        ("TIDEGATE_PORT_X_TCP", "1"),
        ("TIDEGATE_PORT_8086_TCP_NAME", "1"),
        ("TIDEGATE_HOST", "10.96.0.7"),
    ] {
        let error = load_with(name, value).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains("two underscores"), "{error}");
    }
    let error = load_with("TIDEGATE_WAL__SERVICE_HOST", "1").unwrap_err().to_string();
    assert!(error.contains("TIDEGATE_WAL__SERVICE_HOST"), "{error}");
    let moved = load_with("TIDEGATE_DATA_DIR", "elsewhere").unwrap();
    assert_eq!(moved.data_dir, Path::new("elsewhere"));
}

#[test]
fn a_missing_file_is_an_error_only_when_it_was_asked_for() {
    let error = load(Some(Path::new("/nonexistent/c.toml")), no_variables(), &[]).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/c.toml"));
}

#[test]
fn every_contradiction_is_reported_at_once() {
    let config = from_text(
        "[server]\nlisten = \"0.0.0.0:8086\"\n[batch]\nrecords_max = 101\n[shards]\ncount = 65\n\
         [ingest]\nmemory_bytes_max = \"2 MiB\"\n[log]\nlevel = \"tidegate=loud\"\n",
    )
    .unwrap();
    let problems = config.problems().join("\n");
    for key in ["server.listen", "batch.records_max", "shards.count", "ingest.memory", "log.level"]
    {
        assert!(problems.contains(key), "{key} in {problems}");
    }
}

#[test]
fn a_level_that_there_is_not_is_no_way_to_log_nothing() {
    for level in [
        "loud",
        "warning",
        "verbose",
        "",
        "info,loud",
        "tidegate::wal",
        "warn,foo=loud",
        "=info",
        "a=",
        "[x",
    ] {
        let text = format!("[log]\nlevel = {level:?}\n");
        let problems = from_text(&text).unwrap().problems();
        assert!(problems[0].starts_with("log.level: "), "{level:?}: {problems:?}");
        for part in ["off, error, warn, info, debug and trace", "\"info,tidegate::wal=debug\""] {
            assert!(problems[0].contains(part), "{level:?}: {problems:?}");
        }
    }
    for level in ["info", "WARN", "off", "info,tidegate::wal=debug", "tidegate=trace, error"] {
        let text = format!("[log]\nlevel = {level:?}\n");
        assert_eq!(from_text(&text).unwrap().problems(), Vec::<String>::new(), "{level:?}");
    }
}
