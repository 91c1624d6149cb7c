//! The frames of a stretch of LSNs, and the holes in it.
//!
//! The files are looked at once, at the begin. A server beside may use the oldest again while they are
//! read: then what was not read yet is a hole, told like any other. What it has written and not synced
//! yet is shown too, but a power cut can take it and its LSNs can be given again, so nobody may take it
//! for done: [`Past::durable`]. A frame is shown only when its
//! check holds under its segment's number and generation, so a file's new life is never taken for its
//! old one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::super::super::Failure;
use super::super::records::is_filler;
use super::position::Life;
use crate::base::lsn::Lsn;
use crate::wal::inspect::{self, Overview, SegmentInfo};

/// A stretch of the log.
#[derive(Debug)]
pub(super) struct Past {
    dir: PathBuf,
    overview: Overview,
    from: Lsn,
    to: Lsn,
    /// The last frame of the log.
    last: Lsn,
    /// The last frame that is known to be synced.
    durable: Lsn,
    /// What was asked for behind the last frame.
    beyond: Option<Hole>,
}

/// What stands at the next LSN.
#[derive(Debug)]
pub(super) enum Event<'a> {
    /// A frame and its payload.
    Frame(Lsn, &'a [u8]),
    /// LSNs that are not there.
    Hole(Hole),
}

/// LSNs that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    why: Why,
}

/// Why LSNs are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Their file was used again, or is missing.
    Gone,
    /// What is there fails its check.
    Damaged,
    /// `wal salvage` put fillers in their places.
    Salvaged,
    /// The log never got there.
    Beyond,
}

/// The first LSN of each segment, and its life.
#[derive(Debug)]
pub(super) struct Lives(Vec<(Lsn, Life)>);

impl Lives {
    /// That of the segment with this frame, if it is there.
    pub(super) fn of(&self, lsn: Lsn) -> Option<Life> {
        self.0.iter().rfind(|(first, _)| *first <= lsn).map(|(_, life)| *life)
    }
}

/// Hears of what there is, in the order of LSNs; an error ends it.
pub(super) type Each<'a> = dyn FnMut(Event<'_>) -> Result<(), Failure> + 'a;

impl Hole {
    /// Whether `next` is its neighbour, for the same reason.
    pub(super) fn is_followed_by(&self, next: &Self) -> bool {
        self.last.next() == next.first && self.why == next.why
    }

    /// How many LSNs it has.
    pub(super) fn count(&self) -> u64 {
        self.last.0.saturating_sub(self.first.0).saturating_add(1)
    }
}

impl fmt::Display for Hole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.why {
            Why::Gone => "their file was used again or is missing",
            Why::Damaged => "damaged; run `tidegate wal verify`",
            Why::Beyond => "behind the end of the log",
            Why::Salvaged => "lost before, and left out by `tidegate wal salvage`",
        };
        write!(f, "LSN {} to {}: {why}", self.first, self.last)
    }
}

impl Past {
    /// Looks at the log in `dir`, whose frames from `from` on (the oldest, where that is not said) up to
    /// `to` are meant; `is_owed` says whether all up to `to` must be there.
    pub(super) fn open(
        dir: &Path,
        from: Option<Lsn>,
        to: Lsn,
        is_owed: bool,
    ) -> Result<Self, Failure> {
        let overview = inspect::overview(dir).map_err(Failure::failed)?;
        let used = || overview.segments.iter().filter(|segment| segment.first() > Lsn::ZERO);
        // What the tables do not have yet must be there, whatever files are left.
        let needed = overview.checkpoint.stored().next();
        let oldest = used().next().map_or(needed, |segment| segment.first().min(needed));
        // A frame is stored or synced before the checkpoint says so.
        let (mut last, mut durable) = (Lsn::ZERO, overview.checkpoint.durable());
        if let Some(newest) = used().next_back() {
            let walked = inspect::walk(dir, &overview, newest, &mut |_, _| Ok(()));
            let walked = walked.map_err(Failure::failed)?;
            // A segment begins only when all before it is synced.
            last = walked.last.max(newest.first().previous());
            durable = durable.max(walked.durable).max(newest.first().previous());
        }
        let last = last.max(durable);
        let from = from.unwrap_or(oldest).max(Lsn(1));
        // To begin right behind the end is to wait for what comes.
        let is_beyond = from > last.next() || (is_owed && to > last);
        let beyond = is_beyond.then(|| {
            let first = from.max(last.next());
            Hole { first, last: if is_owed { to.max(first) } else { first }, why: Why::Beyond }
        });
        Ok(Self { dir: dir.to_owned(), from, to: to.min(last), last, durable, beyond, overview })
    }

    /// What its segments are known by.
    pub(super) fn lives(&self) -> Lives {
        let used = self.overview.segments.iter().filter(|segment| segment.first() > Lsn::ZERO);
        let life = |segment: &SegmentInfo| {
            let generation = segment.generation()?;
            Some((segment.first(), Life { number: segment.number, generation }))
        };
        Lives(used.filter_map(life).collect())
    }

    /// Whether the segment of this number has another life, so that this is another log: no number is
    /// given twice in one.
    pub(super) fn contradicts(&self, life: Life) -> bool {
        self.lives().0.iter().any(|(_, own)| own.number == life.number && *own != life)
    }

    /// What was asked for behind the last frame.
    pub(super) fn beyond(&self) -> Option<Hole> {
        self.beyond
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from > self.to
    }

    pub(super) fn from(&self) -> Lsn {
        self.from
    }

    pub(super) fn to(&self) -> Lsn {
        self.to
    }

    pub(super) fn last(&self) -> Lsn {
        self.last
    }

    /// The last frame that is known to be synced, so that its LSN is never given again.
    pub(super) fn durable(&self) -> Lsn {
        self.durable
    }

    /// Shows every frame and every hole of the stretch to `each`, once and in order.
    pub(super) fn each(&self, each: &mut Each<'_>) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let mut place =
            Place { expected: self.from, to: self.to, each, dir: &self.dir, failed: None };
        let used: Vec<_> =
            self.overview.segments.iter().filter(|s| s.first() > Lsn::ZERO).collect();
        for (at, segment) in used.iter().enumerate() {
            if segment.first() > self.to {
                break;
            }
            // Frames behind it were never synced, and their numbers given again.
            let until =
                used.get(at + 1).map_or(self.to, |next| next.first().previous()).min(self.to);
            if until < place.expected {
                continue;
            }
            // A file whose header is not valid is there and damaged, whatever it held.
            let after = at.checked_sub(1).map_or(0, |before| used[before].number);
            let is_between = |s: &SegmentInfo| (after..segment.number).contains(&s.number);
            let is_broken = |s: &SegmentInfo| is_between(s) && s.generation().is_none();
            let is_damaged = self.overview.segments.iter().any(is_broken);
            let why = if is_damaged { Why::Damaged } else { Why::Gone };
            place.hole_before(segment.first(), why)?;
            let walked = inspect::walk(&self.dir, &self.overview, segment, &mut |lsn, payload| {
                if lsn < place.expected || lsn > until {
                    return Ok(());
                }
                place.frame(segment, lsn, payload).map_err(|failure| {
                    place.failed = Some(failure);
                    io::Error::other("whoever reads wants no more")
                })
            });
            if let Some(failure) = place.failed.take() {
                return Err(failure);
            }
            let walked = walked.map_err(Failure::failed)?;
            let ends_damaged = !walked.gaps.is_empty();
            let why = if ends_damaged { Why::Damaged } else { Why::Gone };
            place.hole_before(until.next(), why)?;
        }
        place.hole_before(self.to.next(), Why::Gone)
    }
}

/// How far [`Past::each`] got.
struct Place<'a, 'e> {
    expected: Lsn,
    to: Lsn,
    each: &'a mut Each<'e>,
    dir: &'a Path,
    failed: Option<Failure>,
}

impl Place<'_, '_> {
    /// Shows a hole if the next LSN is before `until`.
    fn hole_before(&mut self, until: Lsn, why: Why) -> Result<(), Failure> {
        let until = until.min(self.to.next());
        if self.expected >= until {
            return Ok(());
        }
        let (first, last) = (self.expected, until.previous());
        self.expected = until;
        (self.each)(Event::Hole(Hole { first, last, why }))
    }

    fn frame(&mut self, of: &SegmentInfo, lsn: Lsn, payload: &[u8]) -> Result<(), Failure> {
        if self.expected < lsn {
            // A new life overwrites the old from its begin, so the old one's later frames stand still.
            let is_same = inspect::is_unchanged(self.dir, of).map_err(Failure::failed)?;
            self.hole_before(lsn, if is_same { Why::Damaged } else { Why::Gone })?;
        }
        assert_eq!(self.expected, lsn, "every LSN is shown once");
        self.expected = lsn.next();
        if is_filler(payload) {
            return (self.each)(Event::Hole(Hole { first: lsn, last: lsn, why: Why::Salvaged }));
        }
        (self.each)(Event::Frame(lsn, payload))
    }
}
