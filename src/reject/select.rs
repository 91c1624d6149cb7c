//! Which rejections somebody asks for, and in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::archive::Rejected;
use super::entry::{Entry, Id};
use super::key::{self, Block, Day, Told};
use crate::base::lsn::Lsn;
use crate::record::{Reading, Reason};

/// Rejections of a page where nobody says how many, and at most.
pub const LIMIT: usize = 100;
/// See [`LIMIT`].
pub const LIMIT_MAX: usize = 1_000;

/// What was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A record, by the engine.
    Record,
    /// A line or JSON, before the log.
    Line,
}

impl Kind {
    /// What was rejected.
    pub const fn of(entry: &Entry) -> Self {
        if entry.record.is_some() { Self::Record } else { Self::Line }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "record" => Some(Self::Record),
            "line" => Some(Self::Line),
            _ => None,
        }
    }
}

/// What became of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing yet.
    Open,
    /// It was sent again, and taken.
    Resubmitted,
    /// It is the rejection of a record that was sent again; the one of the first time is still open.
    Again,
}

impl State {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Resubmitted => "resubmitted",
            Self::Again => "again",
        }
    }
}

/// Which end comes first. Order is that of days of receipt, then of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// The last one.
    #[default]
    Newest,
    /// The first one.
    Oldest,
}

/// Which rejections, in which order, how many of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Of this reason.
    pub reason: Option<Reason>,
    /// Of this database.
    pub database: Option<String>,
    /// Of this table.
    pub table: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Received at this time, ns, or later.
    pub from_ns: i64,
    /// Received before this time, ns.
    pub to_ns: i64,
    /// Of this frame.
    pub lsn: Option<Lsn>,
    /// One of these.
    pub ids: Option<BTreeSet<Id>>,
    /// In this state; `None` is any.
    pub state: Option<State>,
    /// Which come first.
    pub order: Order,
    /// Most of them on a page, at least 1.
    pub limit: usize,
    /// Where the page begins.
    pub after: Option<Cursor>,
}

impl Default for Query {
    /// The newest open ones.
    fn default() -> Self {
        Self { state: Some(State::Open), ..Self::all() }
    }
}

impl Query {
    /// All there are, the newest first.
    pub const fn all() -> Self {
        Self {
            reason: None,
            database: None,
            table: None,
            kind: None,
            from_ns: i64::MIN,
            to_ns: i64::MAX,
            lsn: None,
            ids: None,
            state: None,
            order: Order::Newest,
            limit: LIMIT,
            after: None,
        }
    }

    /// The days that any may be of: also those behind its cursor.
    pub(super) fn days(&self) -> RangeInclusive<Day> {
        let (from, to) = (Day::of(self.from_ns), Day::of(self.to_ns.saturating_sub(1)));
        match (self.after, self.order) {
            (None, _) => from..=to,
            (Some(after), Order::Newest) => from..=to.min(after.day),
            (Some(after), Order::Oldest) => from.max(after.day)..=to,
        }
    }

    /// Whether it asks for frames, by their numbers.
    pub(super) const fn is_of_frames(&self) -> bool {
        self.lsn.is_some() || self.ids.is_some()
    }

    /// The folders that may hold any.
    pub(super) fn folders(&self) -> Vec<String> {
        let days = Day::of(self.from_ns)..=Day::of(self.to_ns.saturating_sub(1));
        let days = key::days_in_common(&days);
        let mut folders = Vec::new();
        if self.kind != Some(Kind::Line) {
            folders.push(match (&self.database, &self.table) {
                (Some(database), Some(table)) => {
                    key::folder(key::RECORDS, &[database, table]) + &days
                }
                (Some(database), None) => key::folder(key::RECORDS, &[database]),
                (None, _) => key::RECORDS.to_owned(),
            });
        }
        if self.kind != Some(Kind::Record) {
            folders.push(match &self.database {
                Some(database) => key::folder(key::LINES, &[database]) + &days,
                None => key::LINES.to_owned(),
            });
        }
        folders
    }

    /// Whether the object of this key may hold any.
    pub(super) fn may_hold(&self, told: &Told) -> bool {
        let days = Day::of(self.from_ns)..=Day::of(self.to_ns.saturating_sub(1));
        let frames = told.first..=told.last;
        let has_id = |ids: &BTreeSet<Id>| {
            let first = Id { lsn: told.first, place: 0 };
            let last = Id { lsn: told.last, place: u64::MAX };
            ids.range(first..=last).next().is_some()
        };
        days.contains(&told.day)
            && self.lsn.is_none_or(|lsn| frames.contains(&lsn))
            && self.ids.as_ref().is_none_or(has_id)
    }

    /// Whether it may ask for any from `first` to `last`, received on `day`.
    pub(super) fn may_have(&self, day: Day, first: Id, last: Id) -> bool {
        let is_ahead = |after: Cursor| match self.order {
            Order::Newest => Cursor { day, id: first } < after,
            Order::Oldest => Cursor { day, id: last } > after,
        };
        self.after.is_none_or(is_ahead)
            && self.ids.as_ref().is_none_or(|ids| ids.range(first..=last).next().is_some())
    }

    /// Whether it asks for this one, received on `day`.
    pub(super) fn takes(&self, one: &Rejected, day: Day) -> bool {
        let is_of_table = self.table.as_ref().is_none_or(|table| Some(table) == one.table.as_ref());
        is_of_table && self.takes_but_for_table(one, day)
    }

    /// The same, whatever its table is.
    pub(super) fn takes_but_for_table(&self, one: &Rejected, day: Day) -> bool {
        let entry = &one.entry;
        let (own, received) = (Cursor { day, id: entry.id }, entry.received.0);
        let is_ahead = |after: Cursor| match self.order {
            Order::Newest => own < after,
            Order::Oldest => own > after,
        };
        self.after.is_none_or(is_ahead)
            && self.state.is_none_or(|state| state == one.state)
            && self.reason.is_none_or(|reason| reason == entry.reason)
            && self.kind.is_none_or(|kind| kind == Kind::of(entry))
            && self.lsn.is_none_or(|lsn| lsn == entry.lsn)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&entry.id))
            && (self.from_ns <= received && (received < self.to_ns || self.to_ns == i64::MAX))
            && self.database.as_ref().is_none_or(|database| *database == one.database)
    }
}

/// A day and a block of frames, whose objects are read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) day: Day,
    pub(super) block: Block,
}

/// A place between two rejections, as whoever pages through them gives it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    day: Day,
    id: Id,
}

impl Cursor {
    /// Behind this one.
    pub(super) const fn at(day: Day, id: Id) -> Self {
        Self { day, id }
    }

    /// Behind all of a day.
    pub(super) const fn behind_day(day: Day, order: Order) -> Self {
        let id = match order {
            Order::Newest => Id { lsn: Lsn::ZERO, place: 0 },
            Order::Oldest => Id { lsn: Lsn(Lsn::LIMIT.0 - 1), place: u64::MAX },
        };
        Self { day, id }
    }

    /// Behind all of a group.
    pub(super) const fn behind(spot: Spot, order: Order) -> Self {
        let id = match order {
            Order::Newest => Id { lsn: spot.block.first(), place: 0 },
            Order::Oldest => Id { lsn: spot.block.last(), place: u64::MAX },
        };
        Self { day: spot.day, id }
    }

    /// Whether a group lies before it as a whole.
    pub(super) fn is_past(self, spot: Spot, order: Order) -> bool {
        match order {
            Order::Newest => Self::behind(spot, order) >= self,
            Order::Oldest => Self::behind(spot, order) <= self,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.day.digits(), self.id)
    }
}

/// A text that no page gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("give back what a page said as next")]
pub struct NoCursor;

impl NoCursor {
    /// Always the client's.
    pub const fn class(self) -> crate::base::class::Class {
        crate::base::class::Class::Refused
    }
}

impl FromStr for Cursor {
    type Err = NoCursor;

    fn from_str(text: &str) -> Result<Self, NoCursor> {
        let (day, id) = text.split_once('.').ok_or(NoCursor)?;
        let day = Day::from_digits(day).ok_or(NoCursor)?;
        Ok(Self { day, id: id.parse().map_err(|_no_id| NoCursor)? })
    }
}

/// The table that a refused text's record would have had, where that can be told: the one that it names, or that of
/// its request, in the order in which the decoders ask for them.
pub(super) fn table_of(entry: &Entry) -> Option<String> {
    let text = match (&entry.line, &entry.line_base64) {
        (Some(line), _) => line.clone().into_bytes(),
        (None, Some(encoded)) => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(encoded).ok()?
        }
        (None, None) => return None,
    };
    let reading = entry.reading.as_ref();
    let is_json = reading.map_or_else(
        || matches!(text.trim_ascii_start().first(), Some(b'{' | b'[')),
        Reading::is_json,
    );
    let table = if is_json { table_in_json(&text, reading) } else { measurement_of(&text) };
    table.filter(|table| !table.is_empty())
}

/// As the decoder of JSON asks: the record's table, the request's, the measurement. A text that is no object names
/// none: it may be a piece of many records.
fn table_in_json(text: &[u8], reading: Option<&Reading<'_>>) -> Option<String> {
    let of_request = || reading.and_then(|reading| reading.table.as_deref()).map(str::to_owned);
    let within = reading.and_then(|reading| reading.within.as_deref());
    let of_text = || Members::read(text);
    let around = within.map(|within| Members::read(within.as_bytes()));
    // Records that stand in others, as Timestream's do, have the table of those.
    let named =
        around.unwrap_or_else(of_text).and_then(|members| members.text(&["table", "TableName"]));
    named.or_else(of_request).or_else(|| of_text()?.text(&["measurement", "name"]))
}

/// The members of an object, values as they stand there: one of them is why the text was refused.
struct Members<'t>(BTreeMap<String, &'t RawValue>);

impl<'t> Members<'t> {
    fn read(text: &'t [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok().map(Self)
    }

    /// The first of these members that is a text.
    fn text(&self, names: &[&str]) -> Option<String> {
        let mut raw = names.iter().filter_map(|name| self.0.get(*name));
        raw.find_map(|raw| serde_json::from_str(raw.get()).ok())
    }
}

/// What a line begins with, up to the first comma or blank that is not escaped.
fn measurement_of(line: &[u8]) -> Option<String> {
    let mut table = Vec::new();
    let mut bytes = line.trim_ascii_start().iter().copied();
    loop {
        match bytes.next()? {
            b',' | b' ' => break,
            b'\\' => match bytes.next()? {
                escaped @ (b',' | b' ') => table.push(escaped),
                other => table.extend([b'\\', other]),
            },
            other => table.push(other),
        }
    }
    String::from_utf8(table).ok()
}
