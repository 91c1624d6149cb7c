//! How durable a write is when it is acknowledged: the levels, and their names.

use std::fmt;
use std::str::FromStr;

/// How durable a write is when it is acknowledged.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the log's file: survives the end of the process, not a power cut.
    Memory,
    /// The same, and synced at the latest `wal.sync_interval` later.
    Interval,
    /// Synced: survives a power cut.
    Sync,
    /// Synced, and executed by the engine: readable.
    Applied,
}

impl Durability {
    const ALL: [Self; 4] = [Self::Memory, Self::Interval, Self::Sync, Self::Applied];

    /// Its name in headers, replies and settings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Interval => "interval",
            Self::Sync => "sync",
            Self::Applied => "applied",
        }
    }

    /// What the log must do for it.
    pub(super) const fn of_log(self) -> crate::wal::Durability {
        match self {
            Self::Memory => crate::wal::Durability::Memory,
            Self::Interval => crate::wal::Durability::Interval,
            Self::Sync | Self::Applied => crate::wal::Durability::Sync,
        }
    }
}

impl From<crate::wal::Durability> for Durability {
    fn from(of_log: crate::wal::Durability) -> Self {
        match of_log {
            crate::wal::Durability::Memory => Self::Memory,
            crate::wal::Durability::Interval => Self::Interval,
            crate::wal::Durability::Sync => Self::Sync,
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no durability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("durability {found:?}: write memory, interval, sync or applied")]
pub struct DurabilityError {
    found: String,
}

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        Self::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| DurabilityError { found: text.to_owned() })
    }
}
