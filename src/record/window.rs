//! Which times a strict table takes, and which store a record of it belongs to: by the time of the
//! request's receipt, which its payload carries, so that a replay finds what the first run found.
//!
//! ```text
//!   magnetic retention          memory retention   25 min   receipt  15 min
//! [----------------------------[--------------------------------|--------)
//!  magnetic store, if enabled    memory store                             end, exclusive
//! ```
//!
//! Source: windows in refusals of Timestream, which are 40 minutes longer than the retentions; its
//! developer guide, "Quotas", "Future ingestion", gives 15 of them to the future.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Reason;
use super::limits::{FUTURE_INGESTION_NS_MAX, LATE_INGESTION_NS_MAX};
use super::validate::Broken;

const NS_PER_HOUR: i64 = 3_600_000_000_000;
const NS_PER_MS: i64 = 1_000_000;

/// Which store a record belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Recent records.
    Memory,
    /// Late ones.
    Magnetic,
}

/// The times that a strict table takes, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first nanosecond that the memory store takes.
    memory_from: i64,
    /// The first nanosecond that the magnetic store takes, where late records are taken.
    magnetic_from: Option<i64>,
    /// The first nanosecond that is too far ahead.
    to: i64,
}

impl Window {
    /// The window of a table whose records stay `memory_hours` in its memory store and, where late
    /// records are taken, `magnetic_days` more in its magnetic store.
    pub const fn new(received_ns: i64, memory_hours: u32, magnetic_days: Option<u32>) -> Self {
        // Whole milliseconds, as refusals print them: the range that a client reads is the true one.
        let now_ns = received_ns.saturating_sub(received_ns.rem_euclid(NS_PER_MS));
        let memory_ns = memory_hours as i64 * NS_PER_HOUR;
        let memory_from = now_ns.saturating_sub(memory_ns).saturating_sub(LATE_INGESTION_NS_MAX);
        let magnetic_from = match magnetic_days {
            None => None,
            Some(days) => {
                Some(memory_from.saturating_sub((days as i64).saturating_mul(24 * NS_PER_HOUR)))
            }
        };
        let to = now_ns.saturating_add(FUTURE_INGESTION_NS_MAX);
        Self { memory_from, magnetic_from, to }
    }

    /// The store that a record of this time belongs to.
    ///
    /// # Errors
    ///
    /// [`Reason::TimeOutsideWindow`], in Timestream's words, when none takes it.
    #[inline]
    pub fn store_of(&self, time_ns: i64) -> Result<Store, Broken> {
        if (self.memory_from..self.to).contains(&time_ns) {
            return Ok(Store::Memory);
        }
        match self.magnetic_from {
            Some(from_ns) if (from_ns..self.to).contains(&time_ns) => Ok(Store::Magnetic),
            _ => Err((Reason::TimeOutsideWindow, self.refusal())),
        }
    }

    /// Timestream's words; its clients look for the first half of them.
    fn refusal(&self) -> String {
        let (from_ns, of) = match self.magnetic_from {
            None => (self.memory_from, "memory store"),
            Some(from_ns) => (from_ns, "data ingestion window"),
        };
        let (from, to) = (printed(from_ns), printed(self.to));
        format!("The record timestamp is outside the time range [{from}, {to}) of the {of}.")
    }
}

/// As Timestream prints it: UTC, three digits of a second's fraction, `Z`.
fn printed(time_ns: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_NS: i64 = 60_000_000_000;

    /// 2023-11-28T18:37:10.452Z, and some of the millisecond after.
    const NOW_NS: i64 = 1_701_196_630_452_999_999;
    const NOW_MS_NS: i64 = 1_701_196_630_452_000_000;

    /// The two ranges that Timestream was seen to print, for the times of receipt that they imply.
    #[test]
    fn refusals_are_timestreams_own_words() {
        let memory = Window::new(NOW_NS, 12, None);
        assert_eq!(
            memory.store_of(0).unwrap_err(),
            (
                Reason::TimeOutsideWindow,
                "The record timestamp is outside the time range [2023-11-28T06:12:10.452Z, \
                 2023-11-28T18:52:10.452Z) of the memory store."
                    .to_owned()
            )
        );
        let received_ns = 1_701_198_639_648_000_000;
        let both = Window::new(received_ns, 12, Some(5));
        assert_eq!(
            both.store_of(0).unwrap_err().1,
            "The record timestamp is outside the time range [2023-11-23T06:45:39.648Z, \
             2023-11-28T19:25:39.648Z) of the data ingestion window."
        );
    }

    #[test]
    fn a_window_holds_its_first_nanosecond_and_not_its_last() {
        let hour_ns = 60 * MINUTE_NS;
        let memory_from = NOW_MS_NS - 12 * hour_ns - 25 * MINUTE_NS;
        let magnetic_from = memory_from - 5 * 24 * hour_ns;
        let to = NOW_MS_NS + 15 * MINUTE_NS;
        let (memory, magnetic) = (Some(Store::Memory), Some(Store::Magnetic));
        for (time_ns, without, with) in [
            (magnetic_from - 1, None, None),
            (magnetic_from, None, magnetic),
            (memory_from - 1, None, magnetic),
            (memory_from, memory, memory),
            (NOW_NS, memory, memory),
            (to - 1, memory, memory),
            (to, None, None),
        ] {
            let found = |days| Window::new(NOW_NS, 12, days).store_of(time_ns).ok();
            assert_eq!((found(None), found(Some(5))), (without, with), "{time_ns}");
        }
    }

    #[test]
    fn the_longest_window_does_not_wrap() {
        let window = Window::new(NOW_NS, 8_766, Some(73_000));
        assert_eq!(window.store_of(3), Ok(Store::Magnetic));
        assert_eq!(Window::new(i64::MIN, 1, Some(73_000)).store_of(i64::MIN), Ok(Store::Memory));
        assert!(Window::new(i64::MAX, 1, None).store_of(i64::MAX).is_err(), "the end is exclusive");
    }
}
