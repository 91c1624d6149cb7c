//! `tidegate doctor`: is this machine fit for these settings?
//!
//! Everything that would go wrong at the start or in the first night is looked at, one line each:
//!
//! | file | what is looked at |
//! |---|---|
//! | `disk` | the file systems of log and tables: kind, writable, how fast and whether truly they sync, space |
//! | `room` | whether log, tables and rejections fit on their disk together |
//! | `process` | open files, memory, swap, clock |
//! | `parts` | files with secrets and certificates, engine, reject sink, port |
//! | this one | the settings: read, free of contradictions, which are not the defaults, which do not fit |
//!
//! Nothing is left behind: probes of disk and sink are removed. Safe beside a running server.

mod bundle;
pub(super) mod disk;
mod parts;
mod process;
mod room;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::client::Access;
use super::{Failure, SettingsArgs, chain, out};
use crate::base::units::Bytes;
use crate::config::Config;
use crate::wal::Durability;

/// What stands below `doctor --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate doctor --config /etc/tidegate/config.toml
  tidegate doctor --data /var/lib/tidegate --json
  tidegate doctor --data /var/lib/tidegate --bundle doctor.tar.gz --token-file token

Limits are those of this shell; run it as the user, and with the limits, of the service. Exit code 1 when
there is a fault; warnings are none.";

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// One JSON object instead of lines.
    #[arg(long)]
    json: bool,
    /// Write a file for whoever helps: what was found, the settings, the segments, and what the running
    /// server says of itself; no secret is in it.
    #[arg(long, value_name = "FILE.tar.gz")]
    bundle: Option<PathBuf>,
    /// How the running server is asked for the bundle.
    #[command(flatten)]
    access: Access,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    Warning,
    Fault,
}

/// One thing that was looked at.
#[derive(Debug, Clone)]
struct Finding {
    check: &'static str,
    mark: Mark,
    found: String,
    /// What to do; empty where nothing is to be done.
    remedy: String,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, mark: Mark::Ok, found: found.into(), remedy: String::new() }
    }

    fn warning(
        check: &'static str,
        (found, remedy): (impl Into<String>, impl Into<String>),
    ) -> Self {
        Self { check, mark: Mark::Warning, found: found.into(), remedy: remedy.into() }
    }

    fn fault(check: &'static str, (found, remedy): (impl Into<String>, impl Into<String>)) -> Self {
        Self { check, mark: Mark::Fault, found: found.into(), remedy: remedy.into() }
    }
}

/// What was found so far; shown as it is found, unless all of it becomes one object.
struct Report {
    findings: Vec<Finding>,
    is_json: bool,
    look: Look,
}

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// For files and other programs: words.
    Plain,
    /// For a terminal: signs.
    Signs,
    /// The same with colours.
    Colours,
}

/// Looks at everything.
///
/// # Errors
///
/// [`Failure::Usage`] for settings that cannot be read, [`Failure::Failed`] when there is a fault.
pub fn run(args: &DoctorArgs) -> Result<(), Failure> {
    if let Some(path) = &args.bundle {
        bundle::is_place(path)?;
    }
    let is_terminal = io::stdout().is_terminal();
    let look = match (is_terminal && out::has_signs(), out::has_colours(is_terminal)) {
        (false, _) => Look::Plain,
        (true, false) => Look::Signs,
        (true, true) => Look::Colours,
    };
    let mut report = Report { findings: Vec::new(), is_json: args.json, look };
    let config = match args.settings.load(Vec::new()) {
        Ok(config) => config,
        Err(failure) => {
            let error = failure.into_error();
            let remedy = "mend the settings; nothing else was looked at";
            report.add([Finding::fault("settings", (chain(&*error), remedy))])?;
            report.end()?;
            return Err(Failure::usage("the settings cannot be read"));
        }
    };
    report.add(settings(&config))?;
    let config = config.placed();
    report.add(disk::findings(&config))?;
    report.add(room::findings(&config))?;
    report.add(process::findings(&config))?;
    report.add(parts::files(&config))?;
    report.add([parts::engine(&config)])?;
    report.add([parts::sink(&config)])?;
    report.add([parts::port(&config.server)])?;
    let faults = report.end()?;
    if let Some(path) = &args.bundle {
        bundle::write(path, &config, report.as_json(), &args.access)?;
        report.note(&format!("written: {}\n", path.display()))?;
    }
    match faults {
        0 => Ok(()),
        faults => Err(Failure::failed(format!("{}; see above", counted((faults, "fault"))))),
    }
}

impl Report {
    fn add(&mut self, findings: impl IntoIterator<Item = Finding>) -> Result<(), Failure> {
        for finding in findings {
            if !self.is_json {
                out::print(&told(&finding, self.look))?;
            }
            self.findings.push(finding);
        }
        Ok(())
    }

    /// Shows what is left to show, and returns the number of faults.
    fn end(&self) -> Result<usize, Failure> {
        let count = |mark| self.findings.iter().filter(|finding| finding.mark == mark).count();
        let [ok, warnings, faults] = [Mark::Ok, Mark::Warning, Mark::Fault].map(count);
        let text = if self.is_json {
            self.as_json()
        } else {
            let [warnings, faults] = [(warnings, "warning"), (faults, "fault")].map(counted);
            format!("{ok} ok, {warnings}, {faults}\n")
        };
        out::print(&text)?;
        Ok(faults)
    }

    /// All that was found, as one object.
    fn as_json(&self) -> String {
        let is_well = self.findings.iter().all(|finding| finding.mark != Mark::Fault);
        let findings: Vec<_> = self.findings.iter().map(as_json).collect();
        format!("{:#}\n", json!({ "well": is_well, "findings": findings }))
    }

    /// Says something beside what was found, which would not be one object any more.
    fn note(&self, text: &str) -> Result<(), Failure> {
        if self.is_json { Ok(()) } else { out::print(text) }
    }
}

impl Mark {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Fault => "fault",
        }
    }

    /// For a terminal: green, yellow, red.
    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Fault => "\x1b[31m",
        }
    }

    /// For a terminal.
    const fn sign(self) -> &'static str {
        match self {
            Self::Ok => "✓",
            Self::Warning => "!",
            Self::Fault => "✗",
        }
    }
}

fn told(finding: &Finding, look: Look) -> String {
    let Finding { check, mark, found, remedy } = finding;
    let begin = match look {
        Look::Plain => format!("{:<8} {check:<12}", mark.word()),
        Look::Signs => format!("{} {check:<12}", mark.sign()),
        Look::Colours => format!("{}{}\x1b[0m {check:<12}", mark.colour(), mark.sign()),
    };
    // What goes on over several lines stands below its begin.
    let indent = match look {
        Look::Plain => "\n                      ",
        Look::Signs | Look::Colours => "\n               ",
    };
    let mut text = format!("{begin} {}", found.trim_end().replace('\n', indent));
    if !remedy.is_empty() {
        text.push_str(indent);
        text.push_str("to do: ");
        text.push_str(remedy);
    }
    text.push('\n');
    text
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let Finding { check, mark, found, remedy } = finding;
    json!({ "check": check, "mark": mark.word(), "found": found, "remedy": remedy })
}

fn settings(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for problem in config.problems() {
        findings
            .push(Finding::fault("settings", (problem, "change the setting; a start refuses it")));
    }
    let changed = changed(config);
    if findings.is_empty() {
        let found = match changed.len() {
            0 => "all are the defaults".to_owned(),
            1 => format!("they can be read; one is not the default:\n{}", changed[0]),
            many => {
                format!("they can be read; {many} are not the defaults:\n{}", changed.join("\n"))
            }
        };
        findings.push(Finding::ok("settings", found));
    }
    findings.extend(misfits(config));
    findings
}

/// What is set to something else than the default, as `section.key = value`; secrets as `***`.
fn changed(config: &Config) -> Vec<String> {
    let tables = [config, &Config::default()].map(toml::Table::try_from);
    let [Ok(ours), Ok(defaults)] = tables else { return Vec::new() };
    let mut changed = Vec::new();
    compare(&ours, &defaults, "", &mut changed);
    changed
}

fn compare(ours: &toml::Table, defaults: &toml::Table, prefix: &str, changed: &mut Vec<String>) {
    for (key, value) in ours {
        match (value, defaults.get(key)) {
            (toml::Value::Table(inner), Some(toml::Value::Table(theirs))) => {
                compare(inner, theirs, &format!("{prefix}{key}."), changed);
            }
            (value, other) if other != Some(value) => {
                changed.push(format!("{prefix}{key} = {value}"));
            }
            _ => {}
        }
    }
}

/// Settings that a start takes, and that an operator will regret.
fn misfits(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |found: String, remedy: &str| {
        findings.push(Finding::warning("settings", (found, remedy)));
    };
    if config.wal.durability == Durability::Memory {
        let found = "wal.durability = \"memory\": a power cut takes what was acknowledged";
        warn(found.to_owned(), "set \"sync\", or \"interval\", unless that is meant");
    }
    let listen = config.server.listen;
    if config.auth.anonymous && !listen.ip().is_loopback() {
        let found = format!("everybody who reaches {listen} may read, write and delete");
        warn(found, "name tokens, users or access keys in [auth], and set auth.anonymous = false");
    }
    let embedded = &config.engine.embedded;
    if config.engine.kind == crate::engine::Kind::Embedded
        && config.wal.bytes_max < embedded.flush_bytes
    {
        let found = format!(
            "wal.bytes_max {} is less than engine.embedded.flush_bytes {}: the log may be full before \
             what it holds is written to files",
            config.wal.bytes_max, embedded.flush_bytes
        );
        warn(found, "raise wal.bytes_max, or lower flush_bytes");
    }
    findings
}

/// Whether a store is a folder of this machine, and which.
fn folder_of(url: &str) -> Option<&Path> {
    let path = url.strip_prefix("file://").unwrap_or(url);
    (!path.contains("://")).then(|| Path::new(path))
}

fn counted((count, what): (usize, &str)) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// A size for people.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, unit)| bytes >= *unit) {
        None => Bytes(bytes).to_string(),
        Some((name, unit)) => {
            let tenths = bytes.saturating_mul(10) / unit;
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests;
