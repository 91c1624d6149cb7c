//! The keys of the sink, made and read back. The module's page has the table.

use std::fmt;
use std::ops::RangeInclusive;

use jiff::tz::TimeZone;

use super::entry::Moment;
use crate::base::lsn::Lsn;
use crate::object::encode;

/// What the keys of reports on records and on lines begin with.
pub(super) const RECORDS: &str = "records";
pub(super) const LINES: &str = "lines";

/// What the keys of marks begin with: what became of rejections that were sent again.
pub(super) const RESUBMITTED: &str = "resubmitted";

/// Frames whose small reports of one table share an object: as many as a shard executes in one turn at
/// most, so that a busy shard writes an object once or twice, and an idle one a small object a frame.
pub const BLOCK_FRAMES: u64 = 256;

/// Digits of a frame's number in a key.
const LSN_DIGITS: usize = 20;

/// The block that a frame belongs to: blocks are aligned, so that every replay finds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Block(u64);

impl Block {
    pub(super) const fn of(lsn: Lsn) -> Self {
        Self(lsn.0 / BLOCK_FRAMES)
    }

    pub(super) const fn first(self) -> Lsn {
        Lsn(self.0 * BLOCK_FRAMES)
    }

    pub(super) const fn last(self) -> Lsn {
        Lsn(self.0 * BLOCK_FRAMES + (BLOCK_FRAMES - 1))
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0LSN_DIGITS$}-{:0LSN_DIGITS$}", self.first().0, self.last().0)
    }
}

/// A day, UTC, ordered as days are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day {
    year: i16,
    month: i8,
    date: i8,
}

impl Day {
    pub(super) fn of(ns: i64) -> Self {
        let date = Moment(ns).timestamp().to_zoned(TimeZone::UTC).date();
        Self { year: date.year(), month: date.month(), date: date.day() }
    }

    /// The first and the last day that a folder may be of, by the names below its table's: all of them, a year's,
    /// a month's, or the day itself. `None` where they are no year, month and day.
    pub(super) fn range_of(parts: &[&str]) -> Option<RangeInclusive<Self>> {
        let first = Self { year: 0, month: 0, date: 0 };
        let last = Self { year: i16::MAX, month: i8::MAX, date: i8::MAX };
        let [year, rest @ ..] = parts else { return Some(first..=last) };
        let [month, rest @ ..] = rest else {
            let day = Self::parse(&[year, "00", "00"])?;
            return Some(day..=Self { year: day.year, ..last });
        };
        let [date, ..] = rest else {
            let day = Self::parse(&[year, month, "00"])?;
            return Some(day..=Self { date: i8::MAX, ..day });
        };
        let day = Self::parse(&[year, month, date])?;
        Some(day..=day)
    }

    /// Reads `yyyy`, `mm`, `dd`.
    fn parse(parts: &[&str]) -> Option<Self> {
        let [year, month, day] = parts else { return None };
        let is_padded = year.len() == 4 && month.len() == 2 && day.len() == 2;
        let day =
            Self { year: year.parse().ok()?, month: month.parse().ok()?, date: day.parse().ok()? };
        is_padded.then_some(day)
    }

    /// As eight digits.
    pub(super) fn digits(self) -> String {
        format!("{:04}{:02}{:02}", self.year, self.month, self.date)
    }

    /// Reads what [`Self::digits`] gives.
    pub(super) fn from_digits(text: &str) -> Option<Self> {
        let is_digits = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_digits.then(|| Self::parse(&[&text[..4], &text[4..6], &text[6..]])).flatten()
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}/{:02}/{:02}", self.year, self.month, self.date)
    }
}

/// The folder of a database's reports, or of one table's.
pub(super) fn folder(kind: &str, names: &[&str]) -> String {
    names.iter().fold(kind.to_owned(), |folder, name| folder + "/" + &encode(name))
}

/// The longest folder that the days of a stretch of time have in common, as a key's part with its `/`;
/// empty where the years differ.
pub(super) fn days_in_common(range: &RangeInclusive<Day>) -> String {
    let (from, to) = (range.start().to_string(), range.end().to_string());
    let mut folder = String::new();
    for (one, other) in from.split('/').zip(to.split('/')) {
        if one != other {
            break;
        }
        folder = folder + "/" + one;
    }
    folder
}

/// What a report's key says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) day: Day,
    /// The frames that it may be of.
    pub(super) first: Lsn,
    pub(super) last: Lsn,
}

/// Reads a report's key; `None` for a key that is no report's.
pub(super) fn read(key: &str) -> Option<Told> {
    let parts: Vec<&str> = key.split('/').collect();
    let names = match *parts.first()? {
        RECORDS => 2,
        LINES => 1,
        _ => return None,
    };
    let [day @ .., name] = parts.get(1 + names..)? else { return None };
    let day = Day::parse(day)?;
    let (first, last) = lsns_in(name)?;
    Some(Told { day, first, last })
}

/// The frames that a report or mark of this file name is of.
pub(super) fn lsns_in(name: &str) -> Option<(Lsn, Lsn)> {
    let stem = name.strip_suffix(".json")?;
    let (first, rest) = lsn_at_front(stem)?;
    let second = rest.strip_prefix('-').and_then(lsn_at_front);
    match second {
        Some((last, rest)) if is_end(rest) && first <= last => Some((first, last)),
        Some(_) => None,
        None => is_end(rest).then_some((first, first)),
    }
}

fn is_end(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('-')
}

fn lsn_at_front(text: &str) -> Option<(Lsn, &str)> {
    let (digits, rest) = text.split_at_checked(LSN_DIGITS)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let lsn = digits.parse().ok().filter(|_| is_number).map(Lsn)?;
    (lsn < Lsn::LIMIT).then_some((lsn, rest))
}

/// A frame's number as keys have it.
pub(super) fn digits(lsn: Lsn) -> String {
    format!("{:0LSN_DIGITS$}", lsn.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_day_and_frames_and_others_are_no_reports() {
        let told = |day: (i16, i8, i8), first, last| {
            let day = Day { year: day.0, month: day.1, date: day.2 };
            Some(Told { day, first: Lsn(first), last: Lsn(last) })
        };
        let zeros = "0000000000000000";
        for (key, expected) in [
            (format!("lines/d/2026/11/22/{zeros}0042.json"), told((2026, 11, 22), 42, 42)),
            (format!("lines/d/2026/11/22/{zeros}0042-1.json"), told((2026, 11, 22), 42, 42)),
            (
                format!("records/d/t/2026/01/02/{zeros}0256-{zeros}0511-0of2.json"),
                told((2026, 1, 2), 256, 511),
            ),
            (
                format!("records/d/t/2026/01/02/{zeros}0256-{zeros}0511-0of2-x1.json"),
                told((2026, 1, 2), 256, 511),
            ),
            (
                format!("records/d/t/2026/01/02/{zeros}0300-0of2-0.json"),
                told((2026, 1, 2), 300, 300),
            ),
            (format!("records/d/2026/01/02/{zeros}0300-0of2-0.json"), None),
            (format!("records/d/t/2026/1/2/{zeros}0300-0of2-0.json"), None),
            (format!("records/d/t/2026/01/02/{zeros}0300x.json"), None),
            (format!("records/d/t/2026/01/02/{zeros}0300.txt"), None),
            ("records/d/t/2026/01/02/99999999999999999999.json".to_owned(), None),
            ("records/d/t/2026/01/02/+0000000000000000042.json".to_owned(), None),
            (format!("records/d/t/2026/01/02/{zeros}0511-{zeros}0256-0of2.json"), None),
            (format!("other/d/2026/01/02/{zeros}0300.json"), None),
            (String::new(), None),
            ("records".to_owned(), None),
        ] {
            assert_eq!(read(&key), expected, "{key}");
        }
    }

    #[test]
    fn blocks_are_aligned_and_days_prune() {
        assert_eq!(Block::of(Lsn(255)).last(), Lsn(255));
        assert_eq!(Block::of(Lsn(256)).to_string(), "00000000000000000256-00000000000000000511");
        let day = |text| Day::from_digits(text).unwrap();
        assert_eq!(days_in_common(&(day("20260101")..=day("20260101"))), "/2026/01/01");
        assert_eq!(days_in_common(&(day("20260101")..=day("20260131"))), "/2026/01");
        assert_eq!(days_in_common(&(day("20260101")..=day("20261231"))), "/2026");
        assert_eq!(days_in_common(&(day("20251231")..=day("20260101"))), "");
        assert_eq!(Day::from_digits("2026-1-1"), None);
        assert_eq!(Day::of(0).digits(), "19700101");
    }
}
