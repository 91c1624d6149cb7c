//! Where settings come from, the later winning: defaults, file, environment, flags.
//!
//! `TIDEGATE_WAL__DURABILITY=interval` is `durability` in section `wal`: two underscores go one level
//! down. What a value is follows from its setting and not from its looks: where that is a text, an access
//! key `1234567890` is one too. Where it is none, the value is read as TOML (`64`, `true`, `["a"]`).
//!
//! Kubernetes sets variables in every container of a namespace that has a service of our name:
//! `TIDEGATE_SERVICE_HOST`, `TIDEGATE_PORT=tcp://10.0.0.1:8086`. Those, and no others, are passed over by
//! their form. Any other unknown name is refused: a setting that is written wrong must not be lost in
//! silence, and `TIDEGATE_WAL_DURABILITY` is the likeliest way to write one wrong.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::de::DeTable;
use toml::{Table, Value};

use super::Config;
use super::keys::{Keys, Wrong};

/// What the names of our environment variables begin with.
const PREFIX: &str = "TIDEGATE_";

/// The file that is read where no other is named, if it exists.
pub const DEFAULT_FILE: &str = "config.toml";

/// Settings that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// Line, column, what was found and what would be right.
        message: String,
    },
    /// File, environment or flags name keys that there are not, or give some a value of another type.
    #[error("{}", told(problems))]
    Keys {
        /// Each with its place, what was found and what would be right; then what is out of its range.
        problems: Vec<String>,
    },
}

fn told(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        many => format!("{} problems:\n  {}", many.len(), many.join("\n  ")),
    }
}

/// One setting from outside the file.
#[derive(Debug, Clone)]
pub struct Override {
    /// Where it comes from, for errors: a variable or a flag.
    pub origin: String,
    /// The key, from the section down.
    pub path: Vec<String>,
    /// Its value.
    pub value: Value,
}

impl Override {
    /// A setting from a flag.
    pub fn flag(flag: &str, path: &[&str], value: impl Into<Value>) -> Self {
        let path = path.iter().map(|&part| part.to_owned()).collect();
        Self { origin: flag.to_owned(), path, value: value.into() }
    }
}

/// Reads the settings: `file`, or [`DEFAULT_FILE`] where it exists, or the defaults; then what
/// `variables` say; then `flags`.
///
/// # Errors
///
/// [`ConfigError`] names every place that cannot be read. Contradictions between settings that can be read
/// are [`Config::problems`].
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Config, ConfigError> {
    let path = file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_path_buf);
    let keys = Keys::new();
    let mut problems = Vec::new();
    let mut table = if file.is_some() || path.exists() {
        read(&path, &keys, &mut problems)?
    } else {
        Table::new()
    };
    let mut overrides: Vec<Override> =
        variables.filter_map(|(name, text)| variable(&keys, &name, &text)).collect();
    overrides.sort_by(|a, b| a.origin.cmp(&b.origin));
    overrides.extend_from_slice(flags);
    for one in overrides {
        let wrong = keys
            .of_one(&one.path, &one.value)
            .or_else(|| put(&mut table, &one.path, one.value.clone()).err());
        if let Some(what) = wrong {
            problems.push(format!("{}: {what}{}", one.origin, hint(&keys, &one)));
        }
    }
    let config = Config::deserialize(table).map_err(|error| {
        // What can be wrong with a key was looked at key by key.
        problems.push(format!("{}: {}", path.display(), error.message()));
        ConfigError::Keys { problems: problems.clone() }
    })?;
    if problems.is_empty() {
        return Ok(config);
    }
    problems.extend(config.problems_of_sections());
    Err(ConfigError::Keys { problems })
}

/// The keys of a file that can be read; what is wrong with the others is told.
fn read(path: &Path, keys: &Keys, problems: &mut Vec<String>) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let wrong = |error: toml::de::Error| ConfigError::File {
        path: path.to_owned(),
        message: without_secrets(&text, &error),
    };
    let spanned = DeTable::parse(&text).map_err(wrong)?;
    let mut table: Table = toml::from_str(&text).map_err(wrong)?;
    for Wrong { path: key, what, at } in keys.of_file(spanned.get_ref(), &table.clone()) {
        let line = text.get(..at.start).unwrap_or_default().matches('\n').count() + 1;
        problems.push(format!("{} line {line}: {what}", path.display()));
        leave_out(&mut table, &key);
    }
    Ok(table)
}

/// Leaves out a key; one in a list leaves out the list.
fn leave_out(table: &mut Table, path: &[String]) {
    match path {
        [] => {}
        [last] => drop(table.remove(last)),
        [first, rest @ ..] => match table.get_mut(first) {
            Some(Value::Table(inner)) => leave_out(inner, rest),
            _ => drop(table.remove(first)),
        },
    }
}

/// What is wrong, with the line that it is in; without it where it may show a secret.
fn without_secrets(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let before = text.get(..at).unwrap_or_default();
    let header = |line: &&str| line.trim_start().starts_with('[') && line.contains(']');
    // The line itself may be the header, so it is looked at whole.
    let rest_of_line = text.get(at..).unwrap_or_default().lines().next().unwrap_or_default();
    let until_here = format!("{before}{rest_of_line}");
    let section = until_here.lines().rev().find(|line| header(line) && !line.contains('='));
    let is_secret = |text: &str| {
        let text = text.to_ascii_lowercase();
        ["auth", "token", "password", "secret"].iter().any(|word| text.contains(word))
    };
    let line = until_here.lines().next_back().unwrap_or_default();
    if !is_secret(line) && !section.is_some_and(is_secret) && !is_secret(error.message()) {
        return error.to_string();
    }
    let number = before.matches('\n').count() + 1;
    let of_auth = section.is_some_and(|section| section.contains("auth"));
    let hint = if of_auth { "; [auth] of the documented config.toml shows each key" } else { "" };
    format!("line {number} is not TOML; it may hold a secret, so it is not shown{hint}")
}

fn variable(keys: &Keys, name: &str, text: &str) -> Option<Override> {
    let key = name.strip_prefix(PREFIX).filter(|key| !is_service_link(key, text))?;
    let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
    let value = keys.value_of(&path, text);
    Some(Override { origin: name.to_owned(), path, value })
}

/// Whether Kubernetes sets a variable of this name and value for a service whose name begins with ours.
/// Source: Kubernetes documentation, "Service", "Environment variables"; Docker's legacy links.
fn is_service_link(key: &str, text: &str) -> bool {
    if key.contains("__") {
        return false;
    }
    let key = format!("_{key}");
    let is_service = key.ends_with("_SERVICE_HOST")
        || key.ends_with("_SERVICE_PORT")
        || key.contains("_SERVICE_PORT_");
    let is_address = key.ends_with("_PORT") && text.contains("://");
    is_service || is_address || key.rsplit_once("_PORT_").is_some_and(|(_, rest)| is_port(rest))
        // `.._PORT_8086_TCP_PORT` and its kin: what stands behind the last `_PORT_` is not the number.
        || ["_PROTO", "_PORT", "_ADDR"].iter().any(|ending| {
            let begin = key.strip_suffix(ending).and_then(|begin| begin.rsplit_once("_PORT_"));
            begin.is_some_and(|(_, rest)| is_port(rest))
        })
}

/// `8086_TCP`.
fn is_port(text: &str) -> bool {
    text.split_once('_').is_some_and(|(number, protocol)| {
        number.parse::<u16>().is_ok() && matches!(protocol, "TCP" | "UDP" | "SCTP")
    })
}

/// What is told beside an unknown name that has only single underscores.
fn hint(keys: &Keys, one: &Override) -> String {
    let Some(key) = one.origin.strip_prefix(PREFIX).filter(|key| !key.contains("__")) else {
        return String::new();
    };
    // With one of them doubled it may be the name of a setting.
    let meant = key.match_indices('_').find_map(|(at, _)| {
        let (section, key) = (&key[..at], &key[at + 1..]);
        let path = [section, key].map(str::to_ascii_lowercase);
        keys.has(&path).then(|| format!("{PREFIX}{section}__{key}"))
    });
    let example = meant.unwrap_or_else(|| format!("{PREFIX}WAL__DURABILITY"));
    format!(" (two underscores go one level down, as in {example})")
}

fn put(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    let (last, sections) = path.split_last().ok_or("names no key")?;
    let mut inner = table;
    for section in sections {
        let entry = inner.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
        inner = entry.as_table_mut().ok_or_else(|| format!("{section} is not a section"))?;
    }
    inner.insert(last.clone(), value);
    Ok(())
}
