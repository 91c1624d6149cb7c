//! The section `[wal]` of the settings.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::frame::{self, PAYLOAD_BYTES_MAX};
use super::retain::Retention;
use super::segment::HEADER_PAGE_BYTES;
use crate::base::units::{Bytes, Span};

/// Smallest segment: one frame of the largest payload must fit.
const SEGMENT_BYTES_MIN: u64 = {
    let least = HEADER_PAGE_BYTES + frame::frame_bytes(PAYLOAD_BYTES_MAX) as u64;
    least.next_multiple_of(HEADER_PAGE_BYTES)
};

/// Largest segment: offsets in a segment stay far from the limits of 32-bit arithmetic.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Fewest segments in `bytes_max`: one being read, one being written, one being made.
const SEGMENTS_MIN: u64 = 3;

/// Longest `sync_interval`.
const SYNC_INTERVAL_MAX: Span = Span::secs(60);

/// Shortest `sync_interval`.
const SYNC_INTERVAL_MIN: Span = Span::ms(1);

/// Longest `retain_for`: ten years.
const RETAIN_FOR_MAX: Span = Span::secs(3650 * 86_400);

const _: () = assert!(SEGMENT_BYTES_MIN <= Bytes::mib(64).0);

/// How the log works.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The log's directory, on ext4 or XFS, used by one server at a time. Set by the settings as
    /// `<data>/wal` where it is empty.
    pub dir: PathBuf,

    /// When a write is acknowledged that does not say how durable it must be.
    pub durability: Durability,

    /// Bytes of one segment file, 49 MiB to 1 GiB, a multiple of 4 KiB. Smaller: more rotations,
    /// each of them three syncs. Larger: space is given back in larger steps, and a start has to
    /// scan more. A log keeps the segments it has when this changes.
    pub segment_bytes: Bytes,

    /// How long after the write a frame of durability `interval` is synced at the latest; 1 ms to
    /// 60 s. Shorter: more syncs. Longer: a power cut takes more of what was acknowledged.
    pub sync_interval: Span,

    /// Most bytes that all segment files together may take; at least three segments. Smaller: the
    /// log is full, and writes are answered "busy", after a shorter outage of what stores the
    /// records. Larger: more disk.
    pub bytes_max: Bytes,

    /// How frames get into the segment file.
    pub appender: Appender,

    /// Most bytes of segments that are kept although all in them is stored in the tables, so that it
    /// can be sent again; 0 B to [`Self::bytes_max`] less three segments. What is kept gives way when
    /// writes need the room. Smaller: the past is gone sooner. Larger: more disk.
    pub retain_bytes: Bytes,

    /// How long such segments are kept, however many they are; 0s to 3650d. A segment is kept as long
    /// as this or [`Self::retain_bytes`] asks for it. Shorter: the past is gone sooner. Longer: the
    /// log grows to [`Self::bytes_max`] and stays there.
    pub retain_for: Span,
}

/// How frames get into the segment file; what is promised is the same.
///
/// `cargo bench --bench wal`, medians of four runs on a shared machine of two cores: a synced group of
/// 1 MiB costs 410 us CPU by `pwrite` and 780 by the map (215 the bare disk); a synced commit of one
/// record among 64 writers 17 and 18 us CPU, p99 8 to 20 and 9 to 16 ms (bare disk: 8 to 12 ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Appender {
    /// One `pwrite` a group.
    #[default]
    Pwrite,
    /// Stores through the map; needs Linux 5.14. Dearer in CPU, and on kernels with large folios in
    /// bytes written.
    Map,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            durability: Durability::Sync,
            segment_bytes: Bytes::mib(64),
            sync_interval: Span::ms(200),
            bytes_max: Bytes::mib(8 << 10),
            appender: Appender::Pwrite,
            retain_bytes: Bytes(0),
            retain_for: Span::secs(0),
        }
    }
}

impl Options {
    /// What is wrong with the values, each as `wal.key: <value> is not in <range>`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let segment = self.segment_bytes.0;
        let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
        if !sizes.contains(&segment) || !segment.is_multiple_of(HEADER_PAGE_BYTES) {
            problems.push(format!(
                "wal.segment_bytes: {} is not in {} to {}, multiples of {HEADER_PAGE_BYTES}",
                self.segment_bytes,
                Bytes(SEGMENT_BYTES_MIN),
                Bytes(SEGMENT_BYTES_MAX),
            ));
        }
        if !(SYNC_INTERVAL_MIN..=SYNC_INTERVAL_MAX).contains(&self.sync_interval) {
            problems.push(format!(
                "wal.sync_interval: {} is not in {SYNC_INTERVAL_MIN} to {SYNC_INTERVAL_MAX}",
                self.sync_interval,
            ));
        }
        if self.bytes_max.0 < segment.saturating_mul(SEGMENTS_MIN) {
            problems.push(format!(
                "wal.bytes_max: {} is not in {} (three segments) and more",
                self.bytes_max,
                Bytes(segment.saturating_mul(SEGMENTS_MIN)),
            ));
        }
        problems.extend(self.retention_problems());
        problems
    }

    fn retention_problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let writing = self.segment_bytes.0.saturating_mul(SEGMENTS_MIN);
        let retained_max = Bytes(self.bytes_max.0.saturating_sub(writing));
        if self.retain_bytes > retained_max {
            problems.push(format!(
                "wal.retain_bytes: {} is not in 0 B to {retained_max} (wal.bytes_max less three segments)",
                self.retain_bytes,
            ));
        }
        if self.retain_for > RETAIN_FOR_MAX {
            problems.push(format!(
                "wal.retain_for: {} is not in 0s to {RETAIN_FOR_MAX}",
                self.retain_for,
            ));
        }
        problems
    }

    /// What is to be kept below the checkpoint.
    pub(super) fn retention(&self) -> Retention {
        Retention { bytes: self.retain_bytes.0, time: self.retain_for.0 }
    }

    /// [`Options::sync_interval`] as a duration.
    pub(super) fn sync_interval(&self) -> Duration {
        self.sync_interval.0
    }
}

/// When an appended frame counts as committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Its bytes are in the segment's file: it survives the end of the process, not a power cut.
    /// When it is synced is not promised.
    Memory,
    /// The same, and it is synced at the latest [`Options::sync_interval`] later.
    Interval,
    /// It was synced: it survives a power cut.
    Sync,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Interval => "interval",
            Self::Sync => "sync",
        })
    }
}

/// A durability that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a durability: memory, interval or sync")]
pub struct DurabilityError {
    found: String,
}

impl FromStr for Durability {
    type Err = DurabilityError;

    fn from_str(text: &str) -> Result<Self, DurabilityError> {
        match text {
            "memory" => Ok(Self::Memory),
            "interval" => Ok(Self::Interval),
            "sync" => Ok(Self::Sync),
            found => Err(DurabilityError { found: found.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_have_no_problem() {
        assert_eq!(Options::default().problems(), Vec::<String>::new());
    }

    #[test]
    fn each_value_out_of_range_is_named() {
        let good = Options::default();
        let cases = [
            (
                "wal.segment_bytes",
                Options { segment_bytes: Bytes(SEGMENT_BYTES_MIN - 1), ..good.clone() },
            ),
            (
                "wal.segment_bytes",
                Options { segment_bytes: Bytes(SEGMENT_BYTES_MAX + 1), ..good.clone() },
            ),
            ("wal.segment_bytes", Options { segment_bytes: Bytes((64 << 20) + 8), ..good.clone() }),
            ("wal.sync_interval", Options { sync_interval: Span::ms(0), ..good.clone() }),
            ("wal.sync_interval", Options { sync_interval: Span::secs(61), ..good.clone() }),
            ("wal.bytes_max", Options { bytes_max: Bytes::mib(191), ..good.clone() }),
            (
                "wal.retain_bytes",
                Options { retain_bytes: Bytes::mib((8 << 10) - 191), ..good.clone() },
            ),
            ("wal.retain_for", Options { retain_for: Span::secs(3651 * 86_400), ..good.clone() }),
        ];
        for (key, options) in cases {
            let problems = options.problems();
            assert!(
                problems.iter().any(|p| p.starts_with(key) && p.contains("is not in")),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_durability_reads_back_as_it_is_printed() {
        for durability in [Durability::Memory, Durability::Interval, Durability::Sync] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert!("SYNC".parse::<Durability>().is_err());
    }
}
