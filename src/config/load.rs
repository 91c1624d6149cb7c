//! Where settings come from, the later winning: defaults, file, environment, flags.
//!
//! `TIDEGATE_WAL__DURABILITY=interval` is `durability` in section `wal`: two underscores go one level
//! down. A value is read as TOML where it is TOML (`64`, `true`, `["a"]`), else as text.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use super::Config;

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
    /// The file is not TOML, names a key that there is not, or gives one a value of another type.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: PathBuf,
        /// Line, column, what was found and what would be right.
        message: String,
    },
    /// The same, of an environment variable or flag.
    #[error("{origin}: {message}")]
    Override {
        /// The variable or flag.
        origin: String,
        /// What was found and what would be right.
        message: String,
    },
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
/// [`ConfigError`] names the first place that cannot be read. Contradictions between settings that
/// can be read are [`Config::problems`].
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Config, ConfigError> {
    let path = file.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_path_buf);
    let mut table = if file.is_some() || path.exists() { read(&path)? } else { Table::new() };
    let mut overrides: Vec<Override> =
        variables.filter_map(|(name, text)| variable(&name, &text)).collect();
    overrides.sort_by(|a, b| a.origin.cmp(&b.origin));
    overrides.extend_from_slice(flags);
    let mut config = parse(&table).map_err(|message| ConfigError::File { path, message })?;
    // One at a time, so that an error can name its origin.
    for one in overrides {
        let wrong = |message| ConfigError::Override { origin: one.origin.clone(), message };
        put(&mut table, &one.path, one.value.clone()).map_err(wrong)?;
        config = parse(&table).map_err(wrong)?;
    }
    Ok(config)
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let wrong = |error: toml::de::Error| ConfigError::File {
        path: path.to_owned(),
        message: error.to_string(),
    };
    // Read as settings first: its errors know line and column, those of a table do not.
    toml::from_str::<Config>(&text).map_err(wrong)?;
    toml::from_str(&text).map_err(wrong)
}

fn parse(table: &Table) -> Result<Config, String> {
    Config::deserialize(table.clone()).map_err(|error| error.to_string().trim().to_owned())
}

fn variable(name: &str, text: &str) -> Option<Override> {
    let key = name.strip_prefix(PREFIX)?;
    let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
    // "x = 64 MiB" is no TOML, so the text is what was meant.
    let value = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()));
    Some(Override { origin: name.to_owned(), path, value })
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
