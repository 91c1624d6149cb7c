//! Exported records with their types: the flat JSON shape, one object a line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;

/// What identifies a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) measurement: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) time_ns: i64,
}

/// What stands for a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) version: i64,
    pub(crate) fields: BTreeMap<String, Value>,
}

/// A value with its type. Floats are equal when their bits are.
#[derive(Clone)]
pub(crate) enum Value {
    Double(f64),
    Bigint(i64),
    Boolean(bool),
    Varchar(String),
}

/// All rows of a table.
pub(crate) type Rows = HashMap<Key, Row>;

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bigint(a), Self::Bigint(b)) => a == b,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Varchar(a), Self::Varchar(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longer texts are cut, so that a failure can be read.
        const SHOWN_CHARS: usize = 60;
        match self {
            Self::Double(value) => write!(f, "DOUBLE {value:?}"),
            Self::Bigint(value) => write!(f, "BIGINT {value}"),
            Self::Boolean(value) => write!(f, "BOOLEAN {value}"),
            Self::Varchar(text) => {
                let shown: String = text.chars().take(SHOWN_CHARS).collect();
                write!(f, "VARCHAR[{}] {shown:?}", text.len())
            }
        }
    }
}

/// An exported line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    measurement: String,
    #[serde(default)]
    measure_name: Option<String>,
    tags: BTreeMap<String, String>,
    /// As text: a parsed number no longer tells 1 from 1.0, or -0 from 0.
    #[serde(default)]
    fields: BTreeMap<String, Box<RawValue>>,
    /// Of a record of one value, in place of the fields.
    #[serde(default)]
    measure_value: Option<Box<RawValue>>,
    timestamp: i64,
    version: i64,
}

/// Reads an export.
///
/// # Errors
///
/// A line that is not a record in the flat shape, or a key that stands twice.
pub(crate) fn parse(ndjson: &[u8]) -> Result<Rows, String> {
    parse_named(ndjson, false)
}

/// The same where measure names of their own were sent: the value of a record of one has it for a name.
///
/// # Errors
///
/// As [`parse`].
pub(crate) fn parse_any(ndjson: &[u8]) -> Result<Rows, String> {
    parse_named(ndjson, true)
}

fn parse_named(ndjson: &[u8], is_named: bool) -> Result<Rows, String> {
    let mut rows = Rows::new();
    for line in ndjson.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = || String::from_utf8_lossy(line).into_owned();
        let mut parsed: Line =
            serde_json::from_slice(line).map_err(|error| format!("{error} in {}", text()))?;
        if let (Some(name), Some(only)) = (&parsed.measure_name, parsed.measure_value.take()) {
            parsed.fields.insert(name.clone(), only);
        }
        if let Some(name) = parsed.measure_name.filter(|_| !is_named) {
            return Err(format!("measure name {name:?}, which nobody sent, in {}", text()));
        }
        let mut fields = BTreeMap::new();
        for (name, raw) in parsed.fields {
            let value = value(raw.get()).ok_or_else(|| format!("{raw} is no value"))?;
            fields.insert(name, value);
        }
        let key =
            Key { measurement: parsed.measurement, tags: parsed.tags, time_ns: parsed.timestamp };
        let row = Row { version: parsed.version, fields };
        if rows.insert(key, row).is_some() {
            return Err(format!("stands twice: {}", text()));
        }
    }
    Ok(rows)
}

fn value(raw: &str) -> Option<Value> {
    match raw.as_bytes().first()? {
        b'"' => serde_json::from_str(raw).ok().map(Value::Varchar),
        b't' | b'f' => raw.parse().ok().map(Value::Boolean),
        // `parse` rounds correctly, which `serde_json` does not promise.
        _ if raw.contains(['.', 'e', 'E']) => raw.parse().ok().map(Value::Double),
        _ => raw.parse().ok().map(Value::Bigint),
    }
}

/// Every difference between what `expected` says and what was `found`, at most a few of them.
pub(crate) fn differences(expected: &Rows, found: &Rows) -> Vec<String> {
    const SHOWN: usize = 5;
    let mut wrong = Vec::new();
    if expected.len() != found.len() {
        wrong.push(format!("{} records expected, {} found", expected.len(), found.len()));
    }
    for (key, row) in expected {
        match found.get(key) {
            None => wrong.push(format!("lost: {key:?}")),
            Some(other) if other != row => {
                wrong.push(format!("differs: {key:?}\n  expected {row:?}\n  found    {other:?}"));
            }
            Some(_) => {}
        }
    }
    let invented = found.keys().filter(|key| !expected.contains_key(key));
    wrong.extend(invented.map(|key| format!("nobody sent: {key:?}")));
    wrong.truncate(SHOWN);
    wrong
}
