//! Sizes and times as people write them in settings: `"64 MiB"`, `"250ms"`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds of a day.
pub const DAY_NS: i64 = 86_400_000_000_000;

/// A size in bytes, written `"64 MiB"`; a bare integer counts bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

/// A length of time, written `"250ms"`; a unit is required, since a bare number is a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

/// A size or time that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}: write a number and a unit, {units}, as in {example:?}")]
pub struct UnitError {
    found: String,
    what: &'static str,
    units: &'static str,
    example: &'static str,
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

const SPANS: [(&str, u64); 7] = [
    ("d", DAY_NS.unsigned_abs()),
    ("h", 3_600_000_000_000),
    ("min", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Bytes {
    /// `n` MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// The size as a count of bytes in memory.
    pub fn as_usize(self) -> usize {
        // Wider than the address space means "no limit" there.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Span {
    /// `n` milliseconds.
    pub const fn ms(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

/// Splits `text` into its number and its unit, exactly: `"1.5 MiB"` is 1.5 and `MiB`.
fn scaled(text: &str, table: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| c != '.' && c != '_' && !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let unit = unit.trim();
    let scale = table.iter().find(|(name, _)| *name == unit)?.1;
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    // A fraction is taken exactly, digit by digit: "0.1" of a unit must not become a float.
    let (whole, fraction) = number.split_once('.')?;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()? };
    if fraction.is_empty() || fraction.len() > 9 {
        return None;
    }
    let parts = fraction.parse::<u64>().ok()?.checked_mul(scale)?;
    let divisor = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(scale)?.checked_add(parts / divisor)
}

impl FromStr for Bytes {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        if let Ok(bytes) = text.trim().parse() {
            return Ok(Self(bytes));
        }
        scaled(text, &SIZES).map(Self).ok_or_else(|| UnitError {
            found: text.to_owned(),
            what: "size",
            units: "B kB KiB MB MiB GB GiB TB TiB",
            example: "64 MiB",
        })
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        scaled(text, &SPANS).map(Duration::from_nanos).map(Self).ok_or_else(|| UnitError {
            found: text.to_owned(),
            what: "time",
            units: "ns us ms s min h d",
            example: "250ms",
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) = SIZES[..4]
            .iter()
            .find(|(_, scale)| self.0 != 0 && self.0.is_multiple_of(*scale))
            .unwrap_or(&("B", 1));
        write!(f, "{} {unit}", self.0 / scale)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let (unit, scale) = SPANS
            .iter()
            .find(|(_, scale)| ns != 0 && ns.is_multiple_of(*scale))
            .unwrap_or(&("s", 1_000_000_000));
        write!(f, "{}{unit}", ns / scale)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(PhantomData))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written(PhantomData))
    }
}

/// Reads a size or a time in each way in which it may be written.
struct Written<T>(PhantomData<T>);

/// What may be written without a unit.
trait Countable: FromStr<Err = UnitError> {
    const EXPECTED: &'static str;

    /// What a bare integer means, if anything.
    fn of_count(count: u64) -> Option<Self>;
}

impl Countable for Bytes {
    const EXPECTED: &'static str = "a size, as in \"64 MiB\"";

    fn of_count(count: u64) -> Option<Self> {
        Some(Self(count))
    }
}

impl Countable for Span {
    const EXPECTED: &'static str = "a time with its unit, as in \"250ms\"";

    fn of_count(_count: u64) -> Option<Self> {
        None
    }
}

impl<T: Countable> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, count: u64) -> Result<T, E> {
        T::of_count(count).ok_or_else(|| E::invalid_type(Unexpected::Unsigned(count), &self))
    }

    fn visit_i64<E: de::Error>(self, count: i64) -> Result<T, E> {
        let known = u64::try_from(count).ok().and_then(T::of_count);
        known.ok_or_else(|| E::invalid_value(Unexpected::Signed(count), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("64 MiB", 64 << 20),
            ("64MiB", 64 << 20),
            ("1.5 KiB", 1536),
            ("10", 10),
            ("1_000 kB", 1_000_000),
            ("0 B", 0),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "MiB", "64 mib", "-1 MiB", "1.5", "99999999999 TiB", "1. MiB", "1,5 MiB"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!("250ms".parse(), Ok(Span::ms(250)));
        assert_eq!("1.5 s".parse(), Ok(Span::ms(1500)));
        assert_eq!("2h".parse(), Ok(Span::secs(7200)));
        for text in ["250", "", "ms", "1 week", "-1s"] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains("250ms"), "{error}");
        }
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bytes in [Bytes(0), Bytes(1), Bytes(1536), Bytes::mib(64), Bytes(10_000_001)] {
            assert_eq!(bytes.to_string().parse(), Ok(bytes));
        }
        for span in [Span::ms(0), Span::ms(1), Span::ms(90_000), Span::secs(86_400)] {
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
