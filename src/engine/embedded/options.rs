//! What an operator may choose about the embedded engine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::base::class::Class;
use crate::base::units::{Bytes, Span};

const MEMORY_BYTES_MIN: Bytes = Bytes::mib(1);
const MEMORY_BYTES_LIMIT: Bytes = Bytes(1 << 44);
const FLUSH_INTERVAL_MIN: Span = Span::ms(100);
const FLUSH_INTERVAL_MAX: Span = Span::secs(24 * 3600);
const COMPACT_FILES: (&u32, &u32) = (&2, &64);

/// Section `engine.embedded`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The folder of the Parquet files; empty: `tables` in the data folder. Moving it moves all stored
    /// records.
    pub dir: PathBuf,
    /// Most memory that records may take before they are written to files. 1 MiB to 16 TiB. Too
    /// little: many small files, and writers that wait for the disk. Too much: the system runs out of
    /// memory and kills the process; a restart then replays as much from the log. Beside it, a flush
    /// takes about 100 MiB and 120 bytes a series, which stay until the next, and a scan as much for its
    /// window; a late record that belongs into a file takes some row groups of 64 MiB while that file is
    /// written anew, whatever it has; one frame of the log may exceed it.
    pub memory_bytes_max: Bytes,
    /// Memory at which records are written to files; what series take besides is not counted until
    /// all takes three quarters of `memory_bytes_max`. Series stay when their records are written, up to
    /// half of `memory_bytes_max`. 64 KiB up to these quarters. Too little: many small
    /// files. Too near to the most: writers wait.
    pub flush_bytes: Bytes,
    /// Longest time that a record waits in memory for its file. 100 ms to 24 h. Short: many small
    /// files. Long: readers of the folder see new records late, and the log, which keeps a record
    /// until its file is written, grows.
    pub flush_interval: Span,
    /// Most memory for what was read back from files, to look up records that are late or written
    /// again; beside `memory_bytes_max`. Up to 16 TiB. Of it, one sixteenth is the most that the series
    /// of one file may take, some 150 bytes each. Too little: such records become slow.
    pub cache_bytes_max: Bytes,
    /// How many small files of about one size make a day of a table worth merging into one. 2 to 64.
    /// Few: rows are written again more often, 2 up to seventeen times. Many: more small files stay,
    /// which make scans and look-ups of late records slower. See [`super::compact`].
    pub compact_files: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            memory_bytes_max: Bytes::mib(1024),
            flush_bytes: Bytes::mib(384),
            flush_interval: Span::secs(600),
            cache_bytes_max: Bytes::mib(256),
            compact_files: 8,
        }
    }
}

/// A setting out of its range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {found}, but must be from {min} to {max}")]
pub struct OptionsError {
    /// The setting.
    pub key: &'static str,
    /// What it is.
    pub found: String,
    /// The least that it may be.
    pub min: String,
    /// The most that it may be.
    pub max: String,
}

impl OptionsError {
    /// Always the operator's.
    pub const fn class(&self) -> Class {
        Class::Fault
    }
}

impl Options {
    /// Memory at which records are written to files whatever takes it.
    pub(super) const fn flush_bytes_most(&self) -> Bytes {
        Bytes(self.memory_bytes_max.0 / 4 * 3)
    }

    /// Every setting that is out of its range.
    pub fn validate(&self) -> Vec<OptionsError> {
        let flush_max = self.flush_bytes_most();
        let mut errors = Vec::new();
        check(
            &mut errors,
            "memory_bytes_max",
            &self.memory_bytes_max,
            (&MEMORY_BYTES_MIN, &MEMORY_BYTES_LIMIT),
        );
        check(&mut errors, "flush_bytes", &self.flush_bytes, (&Bytes(1 << 16), &flush_max));
        check(
            &mut errors,
            "flush_interval",
            &self.flush_interval,
            (&FLUSH_INTERVAL_MIN, &FLUSH_INTERVAL_MAX),
        );
        check(
            &mut errors,
            "cache_bytes_max",
            &self.cache_bytes_max,
            (&Bytes(0), &MEMORY_BYTES_LIMIT),
        );
        check(&mut errors, "compact_files", &self.compact_files, COMPACT_FILES);
        errors
    }
}

fn check<T: PartialOrd + std::fmt::Display>(
    errors: &mut Vec<OptionsError>,
    key: &'static str,
    found: &T,
    (min, max): (&T, &T),
) {
    if found < min || found > max {
        errors.push(OptionsError {
            key,
            found: found.to_string(),
            min: min.to_string(),
            max: max.to_string(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_what_is_not_is_named() {
        assert_eq!(Options::default().validate(), []);
        let wrong = Options {
            memory_bytes_max: Bytes(1),
            flush_bytes: Bytes(0),
            flush_interval: Span::ms(0),
            cache_bytes_max: Bytes(u64::MAX),
            compact_files: 1,
            ..Options::default()
        };
        let keys: Vec<&str> = wrong.validate().iter().map(|error| error.key).collect();
        let expected = [
            "memory_bytes_max",
            "flush_bytes",
            "flush_interval",
            "cache_bytes_max",
            "compact_files",
        ];
        assert_eq!(keys, expected);
        let text = wrong.validate()[2].to_string();
        assert_eq!(text, "flush_interval is 0s, but must be from 100ms to 1d");
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Options>("memory_bytes = 1").is_err());
        let options: Options = toml::from_str("memory_bytes_max = \"64 MiB\"").unwrap();
        assert_eq!(options.memory_bytes_max, Bytes::mib(64));
    }
}
