//! A point: its time, its id, and the record that it becomes.
//!
//! # The id
//!
//! 26 digits of base 36, of which the model's pattern has room for 36: 13 for the time in microseconds,
//! counted from the earliest that there is so that ids are in order of time, and 13 for a number of 64
//! bits that the request's seed and the form's place in the request give. Whoever knows the seed can
//! say all ids of a Post again: that is what a token remembers.

use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::engine::Row;
use crate::record::limits::{TIME_NS_MAX, TIME_NS_MIN};

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Digits of 64 bits.
const HALF: usize = 13;

const NS_PER_US: i64 = 1_000;
const US_PER_SECOND: i64 = 1_000_000;

/// A time as this API knows it, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(i64);

impl Time {
    /// The earliest and the latest that a record can have.
    const MIN: Self = Self(TIME_NS_MIN / NS_PER_US);
    const MAX: Self = Self(TIME_NS_MAX / NS_PER_US);

    /// Of seconds since 1970, rounded to microseconds.
    #[expect(clippy::cast_possible_truncation, reason = "what is out of range is refused")]
    pub fn of_seconds(seconds: f64) -> Option<Self> {
        let us = (seconds * 1e6).round();
        // As numbers with 53 bits, both bounds are further apart than the times between them.
        (us.is_finite() && us.abs() < 9.3e15).then_some(Self(us as i64))?.in_range()
    }

    /// Of whole nanoseconds, rounded down to microseconds.
    pub fn of_ns(ns: i64) -> Self {
        Self(ns.div_euclid(NS_PER_US))
    }

    /// Of a number of seconds or a text of ISO 8601.
    pub fn of_text(text: &str) -> Option<Self> {
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            let us = (time.as_nanosecond() + 500).div_euclid(1_000);
            return Self(i64::try_from(us).ok()?).in_range();
        }
        Self::of_seconds(text.parse().ok()?)
    }

    fn of_whole_seconds(seconds: i64) -> Option<Self> {
        Self(seconds.checked_mul(US_PER_SECOND)?).in_range()
    }

    fn in_range(self) -> Option<Self> {
        (Self::MIN..=Self::MAX).contains(&self).then_some(self)
    }

    /// In nanoseconds.
    pub const fn ns(self) -> i64 {
        self.0 * NS_PER_US
    }

    /// As replies have it: seconds, whole ones without a point.
    #[expect(clippy::cast_precision_loss, reason = "microseconds of this age have 51 bits of 53")]
    pub fn shown(self) -> Value {
        if self.0 % US_PER_SECOND == 0 {
            return (self.0 / US_PER_SECOND).into();
        }
        (self.0 as f64 / 1e6).into()
    }
}

impl fmt::Display for Time {
    /// As ISO 8601.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => time.fmt(f),
            // No record has a time that jiff does not know.
            Err(_unknown) => write!(f, "{} us", self.0),
        }
    }
}

/// A time as a JSON body has it. No list and no object is kept, however large: it is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Stamp {
    /// Whole seconds since 1970.
    Whole(i64),
    /// Seconds since 1970.
    Seconds(f64),
    /// A text.
    Text(String),
}

impl Stamp {
    /// The time; `None` where it is none, or out of range.
    pub fn time(&self) -> Option<Time> {
        match self {
            Self::Whole(seconds) => Time::of_whole_seconds(*seconds),
            Self::Seconds(seconds) => Time::of_seconds(*seconds),
            Self::Text(text) => Time::of_text(text),
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(seconds) => write!(f, "{seconds}"),
            Self::Seconds(seconds) => write!(f, "{seconds}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Stamp {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_any(OfStamp)
    }
}

struct OfStamp;

impl Visitor<'_> for OfStamp {
    type Value = Stamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a timestamp, which is a number of seconds or a text")
    }

    fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Stamp, E> {
        Ok(Stamp::Whole(seconds))
    }

    fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Stamp, E> {
        // What is no i64 is out of range in any case.
        Ok(Stamp::Whole(i64::try_from(seconds).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Stamp, E> {
        Ok(Stamp::Seconds(seconds))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Stamp, E> {
        Ok(Stamp::Text(text.to_owned()))
    }
}

/// Makes the seeds of ids.
#[derive(Debug, Default)]
pub struct Ids {
    /// Tells this process from others.
    process: RandomState,
    next: AtomicU64,
}

impl Ids {
    /// A seed that nobody has, in all likelihood.
    pub fn seed(&self, now_ns: i64) -> u64 {
        // Relaxed: each number is given once; nothing else hangs on it.
        self.process.hash_one((self.next.fetch_add(1, Ordering::Relaxed), now_ns))
    }
}

/// The id of the form at place `at` of a Post.
pub fn id(time: Time, seed: u64, at: usize) -> String {
    let mut text = String::with_capacity(2 * HALF);
    push(&mut text, time.0.cast_unsigned() ^ 1 << 63);
    push(&mut text, xxh3_64_with_seed(&(at as u64).to_le_bytes(), seed));
    text
}

fn push(text: &mut String, mut number: u64) {
    let mut digits = [0; HALF];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 36) as usize];
        number /= 36;
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
}

/// The time in an id; `None` where we cannot have made it.
pub fn time_of(id: &str) -> Option<Time> {
    let is_ours = id.len() == 2 * HALF && id.bytes().all(|digit| DIGITS.contains(&digit));
    let number = u64::from_str_radix(id.get(..HALF).filter(|_| is_ours)?, 36).ok()?;
    Time((number ^ 1 << 63).cast_signed()).in_range()
}

/// A point as a reply shows it, without its content.
pub fn shown(form: &str, kind: &str, revision: &str, time: Time, id: &str) -> Map<String, Value> {
    let shown = json!({
        "formName": form,
        "typeIdentifier": kind,
        "typeRevision": revision,
        "timestamp": time.shown(),
        "id": id,
    });
    match shown {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A stored point as a reply shows it, with its content under `name`, cut after `chars_max`.
pub fn of_row(form: &str, row: &Row<'_>, name: &str, chars_max: usize) -> Map<String, Value> {
    let text = |wanted: &str| {
        row.attributes.iter().find_map(|(name, value)| match value {
            crate::record::Value::Varchar(text) if *name == wanted => Some(*text),
            _ => None,
        })
    };
    let (kind, revision) = (text("type").unwrap_or(""), text("revision").unwrap_or(""));
    let mut members = shown(form, kind, revision, Time::of_ns(row.time_ns), id_of(row));
    if let Some(content) = text("content") {
        let end = content.char_indices().nth(chars_max).map_or(content.len(), |(at, _)| at);
        members.insert(name.to_owned(), content[..end].into());
    }
    members
}

/// The id of a stored point.
pub fn id_of<'r>(row: &Row<'r>) -> &'r str {
    let id = row.dimensions.iter().find(|(name, _)| *name == "id");
    id.map_or("", |(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rounded_to_microseconds_and_shown_as_they_came() {
        for (sent, shown) in [
            ("1704164645.678901", "1704164645.678901"),
            ("1704164645", "1704164645"),
            ("1.704164645E9", "1704164645"),
            ("1704164645.6789011", "1704164645.678901"),
            ("-0.5", "-0.5"),
            ("0", "0"),
            ("9223372035", "9223372035"),
            ("-9223372035", "-9223372035"),
            ("\"2024-01-02T03:04:05.678901Z\"", "1704164645.678901"),
            ("\"2024-01-02T03:04:05Z\"", "1704164645"),
        ] {
            let stamp: Stamp = serde_json::from_str(sent).unwrap();
            assert_eq!(stamp.time().unwrap().shown().to_string(), shown, "{sent}");
        }
        for odd in
            ["9223372037", "-9223372037", "18446744073709551615", "1e300", "\"soon\"", "\"NaN\""]
        {
            let stamp: Stamp = serde_json::from_str(odd).unwrap();
            assert_eq!(stamp.time(), None, "{odd}");
        }
        for odd in ["true", "null", "[]", "[1]", "{}"] {
            assert!(serde_json::from_str::<Stamp>(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn an_id_tells_its_time_and_ids_are_in_order_of_time() {
        let times = [Time::MIN, Time(-1), Time(0), Time(1_704_164_645_678_901), Time::MAX];
        let ids: Vec<String> = times.iter().map(|time| id(*time, 7, 3)).collect();
        assert!(ids.is_sorted(), "{ids:?}");
        for (time, id) in times.iter().zip(&ids) {
            assert_eq!((time_of(id), id.len()), (Some(*time), 26));
        }
        assert_ne!(id(Time(0), 7, 0), id(Time(0), 7, 1));
        assert_ne!(id(Time(0), 7, 0), id(Time(0), 8, 0));
        for odd in ["", "x", "A0000000000000000000000000", "zzzzzzzzzzzzzzzzzzzzzzzzzz"] {
            assert_eq!(time_of(odd), None, "{odd}");
        }
    }
}
