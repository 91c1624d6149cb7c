//! The settings of section `metrics`.

use serde::{Deserialize, Serialize};

/// Who may read the metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Whether `/metrics` is answered to whoever asks. `false`: to those that `auth` names, whatever they
    /// may read or write. What it shows has no name of a database or a table, but tells how busy the
    /// server is, and with what.
    pub anonymous: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { anonymous: true }
    }
}
