//! The section `ingest` of the settings.

use crate::base::units::{Bytes, Span};
use crate::engine::catalog::Profile;

/// The version of a record that names none, where the settings give it none by its arrival.
pub const VERSION_FIRST: i64 = 1;

/// Settings of the section `ingest`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where a record's version comes from when it was sent without one: `"fixed"` is 1, so that a
    /// second value of the same record is refused; `"arrival"` is the time of receipt, so that the
    /// last write wins; any other text names a field of line protocol, such as `"_version"`, that
    /// holds it (a record without that field gets 1).
    pub version: String,
    /// Whether a database or table is made when it is written first. `false`: 404 for a database,
    /// and records of a table that there is not are refused.
    pub create_tables: bool,
    /// Whose rules the tables follow that a first write makes, for as long as they are there:
    /// `"relaxed"` has no limit of a record's size but the log's and takes any age; `"strict"` has
    /// Timestream's limits and time windows, with its default retention of 6 hours in the memory store.
    pub profile: Profile,
    /// The measure name of records of line protocol. Empty: the measurement's name. One name for all
    /// keeps tables narrow in Timestream.
    pub measure_name: String,
    /// A dimension, `"name=value"`, for records without a tag, since a record needs one. Empty: such
    /// records are refused.
    pub default_dimension: String,
    /// Memory for requests that are not yet acknowledged, 1 MiB or more. Reaching it is answered by
    /// 503. Less than the largest request refuses that one for ever; more than the machine has ends
    /// in the kernel's hands.
    pub memory_bytes_max: Bytes,
    /// How long a request waits for memory before it is answered by 503. 0ms to 60s.
    pub admit_wait: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: "fixed".to_owned(),
            create_tables: true,
            profile: Profile::Relaxed,
            measure_name: String::new(),
            default_dimension: "source=none".to_owned(),
            memory_bytes_max: Bytes::mib(256),
            admit_wait: Span::secs(1),
        }
    }
}

/// Least memory for requests, most that the semaphore behind it can count.
const MEMORY_BYTES_MIN: Bytes = Bytes::mib(1);
const MEMORY_BYTES_MAX: Bytes = Bytes(1 << 40);
/// Longest wait for memory.
const ADMIT_WAIT_MAX: Span = Span::secs(60);

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX).contains(&self.memory_bytes_max) {
            problems.push(format!(
                "ingest.memory_bytes_max: {} is not in {MEMORY_BYTES_MIN} to {MEMORY_BYTES_MAX}",
                self.memory_bytes_max
            ));
        }
        if self.admit_wait > ADMIT_WAIT_MAX {
            problems.push(format!(
                "ingest.admit_wait: {} is not in 0ms to {ADMIT_WAIT_MAX}",
                self.admit_wait
            ));
        }
        if self.version.is_empty() {
            problems.push(
                "ingest.version: write \"fixed\", \"arrival\" or the name of a field".to_owned(),
            );
        }
        if !self.default_dimension.is_empty() && self.default_dimension().is_none() {
            problems.push(format!(
                "ingest.default_dimension: {:?} is not of the form \"name=value\"",
                self.default_dimension
            ));
        }
        problems
    }

    /// The dimension for records that have none.
    pub fn default_dimension(&self) -> Option<(&str, &str)> {
        let (name, value) = self.default_dimension.split_once('=')?;
        (!name.is_empty() && !value.is_empty()).then_some((name, value))
    }

    /// The field that holds a record's version, where the settings name one.
    pub fn version_field(&self) -> Option<&str> {
        (!matches!(&*self.version, "fixed" | "arrival")).then_some(&*self.version)
    }
}
