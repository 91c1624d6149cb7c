//! The unit of the timestamps of a request, and how the three endpoints name it.

use crate::record::limits::{TIME_NS_MAX, TIME_NS_MIN};

/// The unit of the timestamps of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// Told from the size of each timestamp. Source: `InfluxDB` 3, `guess_precision`.
    Auto,
}

/// A precision that an endpoint does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid precision {found:?} (use {right})")]
pub struct PrecisionError {
    /// What the client sent.
    pub found: String,
    /// What the endpoint takes, in words.
    pub right: &'static str,
}

/// Below this, `Auto` reads seconds: until the year 2128.
const AUTO_SECONDS_END: u64 = 5_000_000_000;
/// Below this, `Auto` reads milliseconds.
const AUTO_MILLISECONDS_END: u64 = 5_000_000_000_000;
/// Below this, `Auto` reads microseconds.
const AUTO_MICROSECONDS_END: u64 = 5_000_000_000_000_000;

impl Precision {
    /// The precision that `/write` calls `name`; empty is nanoseconds.
    ///
    /// # Errors
    ///
    /// [`PrecisionError`]: the endpoint knows no such name.
    pub fn from_v1(name: &str) -> Result<Self, PrecisionError> {
        match name {
            "m" => Ok(Self::Minutes),
            "h" => Ok(Self::Hours),
            "\u{b5}" | "\u{3bc}" => Ok(Self::Microseconds),
            _ => from_short(name).ok_or_else(|| PrecisionError::new(name, "n, u, ms, s, m or h")),
        }
    }

    /// The precision that `/api/v2/write` calls `name`; empty is nanoseconds.
    ///
    /// # Errors
    ///
    /// [`PrecisionError`]: the endpoint knows no such name.
    pub fn from_v2(name: &str) -> Result<Self, PrecisionError> {
        from_short(name).ok_or_else(|| PrecisionError::new(name, "ns, us, ms or s"))
    }

    /// The precision that `/api/v3/write_lp` calls `name`; empty is `auto`.
    ///
    /// # Errors
    ///
    /// [`PrecisionError`]: the endpoint knows no such name.
    pub fn from_v3(name: &str) -> Result<Self, PrecisionError> {
        match name {
            "" | "auto" => Ok(Self::Auto),
            "second" => Ok(Self::Seconds),
            "millisecond" => Ok(Self::Milliseconds),
            "microsecond" => Ok(Self::Microseconds),
            "nanosecond" => Ok(Self::Nanoseconds),
            _ => from_short(name).ok_or_else(|| {
                PrecisionError::new(name, "auto, second, millisecond, microsecond or nanosecond")
            }),
        }
    }

    /// Its name, which [`Self::from_name`] knows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "us",
            Self::Milliseconds => "ms",
            Self::Seconds => "s",
            Self::Minutes => "m",
            Self::Hours => "h",
            Self::Auto => "auto",
        }
    }

    /// The precision that any of the endpoints calls `name`; empty is nanoseconds.
    ///
    /// # Errors
    ///
    /// [`PrecisionError`]: none knows such a name.
    pub fn from_name(name: &str) -> Result<Self, PrecisionError> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let right = "n, u, ms, s, m, h or auto";
        Self::from_v1(name).map_err(|error| PrecisionError { right, ..error })
    }

    /// `timestamp`, in this unit, as nanoseconds; `None` if no record can have that time.
    #[inline]
    pub fn to_ns(self, timestamp: i64) -> Option<i64> {
        let unit_ns = match self {
            Self::Auto => guess(timestamp).unit_ns(),
            _ => self.unit_ns(),
        };
        timestamp.checked_mul(unit_ns).filter(|ns| (TIME_NS_MIN..=TIME_NS_MAX).contains(ns))
    }

    /// `time_ns` cut down to a whole number of units, as the time of a line that has none.
    pub fn cut(self, time_ns: i64) -> i64 {
        time_ns.saturating_sub(time_ns.rem_euclid(self.unit_ns()))
    }

    /// The unit, in nanoseconds; one for `Auto`, which does not cut.
    const fn unit_ns(self) -> i64 {
        match self {
            Self::Nanoseconds | Self::Auto => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
        }
    }
}

/// The names that all three endpoints know. `us` and `n` go to every one of them, since clients of one
/// are pointed at another. Source: the Go client for v1, `QuestDB` clients.
fn from_short(name: &str) -> Option<Precision> {
    match name {
        "" | "n" | "ns" => Some(Precision::Nanoseconds),
        "u" | "us" => Some(Precision::Microseconds),
        "ms" => Some(Precision::Milliseconds),
        "s" => Some(Precision::Seconds),
        _ => None,
    }
}

const fn guess(timestamp: i64) -> Precision {
    match timestamp.unsigned_abs() {
        0..AUTO_SECONDS_END => Precision::Seconds,
        AUTO_SECONDS_END..AUTO_MILLISECONDS_END => Precision::Milliseconds,
        AUTO_MILLISECONDS_END..AUTO_MICROSECONDS_END => Precision::Microseconds,
        _ => Precision::Nanoseconds,
    }
}

impl PrecisionError {
    fn new(found: &str, right: &'static str) -> Self {
        Self { found: found.to_owned(), right }
    }

    /// Who must act on it.
    pub const fn class(&self) -> crate::base::class::Class {
        crate::base::class::Class::Refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_endpoint_knows_its_names_and_no_others() {
        use Precision::{Auto, Hours, Microseconds, Milliseconds, Minutes, Nanoseconds, Seconds};
        // name, v1, v2, v3
        let table = [
            ("", Some(Nanoseconds), Some(Nanoseconds), Some(Auto)),
            ("n", Some(Nanoseconds), Some(Nanoseconds), Some(Nanoseconds)),
            ("ns", Some(Nanoseconds), Some(Nanoseconds), Some(Nanoseconds)),
            ("u", Some(Microseconds), Some(Microseconds), Some(Microseconds)),
            ("us", Some(Microseconds), Some(Microseconds), Some(Microseconds)),
            ("\u{b5}", Some(Microseconds), None, None),
            ("ms", Some(Milliseconds), Some(Milliseconds), Some(Milliseconds)),
            ("s", Some(Seconds), Some(Seconds), Some(Seconds)),
            ("m", Some(Minutes), None, None),
            ("h", Some(Hours), None, None),
            ("auto", None, None, Some(Auto)),
            ("second", None, None, Some(Seconds)),
            ("millisecond", None, None, Some(Milliseconds)),
            ("microsecond", None, None, Some(Microseconds)),
            ("nanosecond", None, None, Some(Nanoseconds)),
            ("S", None, None, None),
            ("d", None, None, None),
        ];
        for (name, v1, v2, v3) in table {
            assert_eq!(Precision::from_v1(name).ok(), v1, "v1 {name:?}");
            assert_eq!(Precision::from_v2(name).ok(), v2, "v2 {name:?}");
            assert_eq!(Precision::from_v3(name).ok(), v3, "v3 {name:?}");
        }
    }

    #[test]
    fn every_unit_is_found_by_its_name() {
        use Precision::{Auto, Hours, Microseconds, Milliseconds, Minutes, Nanoseconds, Seconds};
        for unit in [Nanoseconds, Microseconds, Milliseconds, Seconds, Minutes, Hours, Auto] {
            assert_eq!(Precision::from_name(unit.name()), Ok(unit));
        }
        assert!(Precision::from_name("day").unwrap_err().to_string().contains("h or auto"));
    }

    #[test]
    fn an_unknown_precision_is_named_with_the_known_ones() {
        let error = Precision::from_v1("x").unwrap_err();
        assert_eq!(error.to_string(), "invalid precision \"x\" (use n, u, ms, s, m or h)");
        let error = Precision::from_v2("m").unwrap_err();
        assert_eq!(error.to_string(), "invalid precision \"m\" (use ns, us, ms or s)");
    }

    #[test]
    fn timestamps_are_scaled_up_to_the_last_one_that_fits() {
        let table = [
            (Precision::Nanoseconds, i64::MAX - 1, Some(i64::MAX - 1)),
            (Precision::Nanoseconds, i64::MAX, None),
            (Precision::Nanoseconds, i64::MIN + 2, Some(i64::MIN + 2)),
            (Precision::Nanoseconds, i64::MIN + 1, None),
            (Precision::Microseconds, 9_223_372_036_854_775, Some(9_223_372_036_854_775_000)),
            (Precision::Microseconds, 9_223_372_036_854_776, None),
            (Precision::Seconds, 9_223_372_036, Some(9_223_372_036_000_000_000)),
            (Precision::Seconds, 9_223_372_037, None),
            (Precision::Seconds, -9_223_372_037, None),
            (Precision::Minutes, 2, Some(120_000_000_000)),
            (Precision::Hours, -1, Some(-3_600_000_000_000)),
            (Precision::Hours, i64::MAX, None),
        ];
        for (precision, timestamp, ns) in table {
            assert_eq!(precision.to_ns(timestamp), ns, "{precision:?} {timestamp}");
        }
    }

    #[test]
    fn auto_tells_the_unit_from_the_size() {
        let table = [
            (0, 0),
            (4_999_999_999, 4_999_999_999_000_000_000),
            (-4_999_999_999, -4_999_999_999_000_000_000),
            (5_000_000_000, 5_000_000_000_000_000),
            (4_999_999_999_999, 4_999_999_999_999_000_000),
            (5_000_000_000_000, 5_000_000_000_000_000),
            (4_999_999_999_999_999, 4_999_999_999_999_999_000),
            (5_000_000_000_000_000, 5_000_000_000_000_000),
            (i64::MAX - 1, i64::MAX - 1),
        ];
        for (timestamp, ns) in table {
            assert_eq!(Precision::Auto.to_ns(timestamp), Some(ns), "{timestamp}");
        }
        assert_eq!(Precision::Auto.to_ns(i64::MIN), None);
    }

    #[test]
    fn a_missing_timestamp_is_cut_towards_the_past() {
        let now_ns = 1_700_000_000_123_456_789;
        assert_eq!(Precision::Nanoseconds.cut(now_ns), now_ns);
        assert_eq!(Precision::Auto.cut(now_ns), now_ns);
        assert_eq!(Precision::Milliseconds.cut(now_ns), 1_700_000_000_123_000_000);
        assert_eq!(Precision::Hours.cut(now_ns) % 3_600_000_000_000, 0);
        assert_eq!(Precision::Seconds.cut(-1), -1_000_000_000);
        assert_eq!(Precision::Hours.cut(i64::MIN), i64::MIN);
    }
}
