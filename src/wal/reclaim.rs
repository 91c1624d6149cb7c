//! Which segments there are: those that hold frames, the one ready to be next, those whose frames are
//! all stored elsewhere and that are kept for a while all the same ([`super::retain`]), and those whose
//! files are used again.
//!
//! A segment is recycled or removed only when nothing but the stock holds it: a
//! [`super::Frame`] or a [`super::Reader`] that does keeps its bytes as they are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use super::retain::{Kept, Retention, Sealed};
use super::segment::{HEADER_PAGE_BYTES, Segment};
use super::{FullCause, Log, segment};
use crate::base::lsn::Lsn;

/// The share of `bytes_max` that retired files may take, waiting to be used again. More would keep
/// disk that is not needed; fewer, and a flush that frees many segments at once is followed by
/// filling as many anew.
const RETIRED_SHARE: u64 = 4;

/// All segments.
#[derive(Debug)]
pub(super) struct Stock {
    /// Segments that hold frames beyond the checkpoint, in order; the last is being written. A
    /// segment is here only once its header is synced.
    live: VecDeque<Live>,
    /// The segment after the last one given out, when there is one.
    next: Option<Arc<Segment>>,
    /// Segments below the checkpoint whose frames are still wanted.
    kept: Kept,
    /// Segments below the checkpoint, to be used again.
    retired: Vec<Arc<Segment>>,
    /// Bytes of all files, those being made included.
    bytes: u64,
    /// The number of the next segment that is made.
    number: u64,
    /// Why there is no next segment, once that is known.
    full: Option<FullCause>,
    limits: Limits,
    /// The log is closed.
    pub(super) closed: bool,
}

/// How large the stock may become.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of a new segment.
    pub(super) segment_bytes: u64,
    /// Most bytes of all files.
    pub(super) bytes_max: u64,
    /// What is kept below the checkpoint.
    pub(super) retention: Retention,
}

/// A segment that holds frames beyond the checkpoint, or will.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) segment: Arc<Segment>,
    /// Its first frame.
    pub(super) first: Lsn,
    /// From where its frames are sound: behind damage below the checkpoint that recovery passed over,
    /// else from its first frame on.
    pub(super) sound: Begin,
    /// The wall time of its last frame, once it is complete.
    pub(super) written_ns: i64,
}

/// A frame, and where it begins in its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    pub(super) lsn: Lsn,
    pub(super) offset: u64,
}

impl Begin {
    /// The first frame of a segment.
    pub(super) const fn of_segment(first: Lsn) -> Self {
        Self { lsn: first, offset: HEADER_PAGE_BYTES }
    }
}

impl Live {
    /// A segment that has just begun.
    pub(super) const fn begun(segment: Arc<Segment>, first: Lsn, now_ns: i64) -> Self {
        Self { segment, first, sound: Begin::of_segment(first), written_ns: now_ns }
    }
}

/// What the prepare thread does next.
#[derive(Debug)]
pub(super) enum Plan {
    /// Nothing: the next segment is there.
    Rest,
    /// Nothing: there is no room for one.
    Full,
    /// Uses a retired file again, under this number.
    Recycle(Arc<Segment>, u64),
    /// Makes a file, of this number.
    Create(u64),
    /// Removes a file, which was of another size than new ones are, and asks again.
    Remove(Arc<Segment>),
}

/// What a kept segment that gave way is good for.
#[derive(Debug)]
pub(super) enum GivenUp {
    /// It was retired, to be used again.
    Retired,
    /// Its size is another: its file is to be removed.
    Remove(Arc<Segment>),
}

/// Where a frame is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    /// From where to walk to it.
    pub(super) from: Begin,
    /// The first frame of the segment after it, when there is one.
    pub(super) until: Option<Lsn>,
}

impl Stock {
    /// An empty stock; the next segment made is `number`.
    pub(super) fn new(number: u64, limits: Limits) -> Self {
        Self {
            live: VecDeque::new(),
            next: None,
            kept: Kept::new(limits.retention),
            retired: Vec::new(),
            bytes: 0,
            number,
            full: None,
            limits,
            closed: false,
        }
    }

    fn add_live(&mut self, live: Live) {
        if let Some(last) = self.live.back() {
            assert!(
                last.segment.number() < live.segment.number(),
                "segments are numbered in order"
            );
            assert!(last.first <= live.first, "frames are numbered in order");
        }
        assert!(live.first <= live.sound.lsn, "a segment's frames begin with its first");
        self.live.push_back(live);
    }

    /// Says that the last segment is complete.
    fn seal(&mut self, now_ns: i64) {
        if let Some(last) = self.live.back_mut() {
            last.written_ns = now_ns;
        }
    }

    /// Takes what recovery found: segments that are needed, those below the checkpoint in order, which
    /// [`Self::expire`] judges, and those that hold nothing.
    pub(super) fn fill(&mut self, live: Vec<Live>, kept: Vec<Sealed>, retired: Vec<Arc<Segment>>) {
        let files = live.iter().map(|live| &live.segment);
        let files = files.chain(kept.iter().map(|sealed| &sealed.segment)).chain(&retired);
        self.bytes += files.map(|segment| segment.bytes()).sum::<u64>();
        for live in live {
            self.add_live(live);
        }
        for sealed in kept {
            self.kept.push(sealed);
        }
        self.retired.extend(retired);
        assert!(!self.live.is_empty(), "there is a segment for new frames");
    }

    /// Retires the kept segments that nothing asks to keep any more.
    pub(super) fn expire(&mut self, now_ns: i64) {
        self.retired.extend(self.kept.expired(now_ns));
    }

    /// How long until a kept segment expires by time alone.
    pub(super) fn expires_in(&self, now_ns: i64) -> Option<Duration> {
        self.kept.oldest_until(now_ns)
    }

    /// Segments that are kept below the checkpoint, and their bytes.
    pub(super) fn kept_size(&self) -> (u64, u64) {
        self.kept.size()
    }

    /// Their numbers.
    #[cfg(test)]
    pub(super) fn kept_numbers(&self) -> Vec<u64> {
        self.kept.numbers()
    }

    /// The segment that holds frame `lsn` or will; `None` when it was reclaimed.
    pub(super) fn find(&self, lsn: Lsn) -> Option<Found> {
        let after = self.live.partition_point(|live| live.first <= lsn);
        let live = self.live.get(after.checked_sub(1)?)?;
        let until = self.live.get(after).map(|next| next.first);
        let is_sound = live.sound.lsn <= lsn;
        let from = if is_sound { live.sound } else { Begin::of_segment(live.first) };
        Some(Found { segment: Arc::clone(&live.segment), from, until })
    }

    /// The first frame of the oldest segment.
    pub(super) fn oldest(&self) -> Lsn {
        self.live.front().map_or(Lsn::ZERO, |live| live.first)
    }

    /// Segments that hold frames beyond the checkpoint, and their bytes.
    pub(super) fn live_size(&self) -> (u64, u64) {
        (self.live.len() as u64, self.live.iter().map(|live| live.segment.bytes()).sum())
    }

    /// Bytes of all files.
    pub(super) fn total_size(&self) -> u64 {
        self.bytes
    }

    /// What the prepare thread does next; a file that it makes or uses is its own from here on.
    pub(super) fn plan(&mut self) -> Plan {
        let Limits { segment_bytes, bytes_max, .. } = self.limits;
        if self.next.is_some() || self.closed {
            return Plan::Rest;
        }
        let number = self.number;
        loop {
            if let Some(free) = self.free_retired() {
                self.number += 1;
                return Plan::Recycle(self.retired.swap_remove(free), number);
            }
            if self.bytes + segment_bytes <= bytes_max {
                self.bytes += segment_bytes;
                self.number += 1;
                return Plan::Create(number);
            }
            match self.give_way() {
                Some(GivenUp::Retired) => {}
                Some(GivenUp::Remove(segment)) => return Plan::Remove(segment),
                None => {
                    self.full = Some(FullCause::BytesMax);
                    return Plan::Full;
                }
            }
        }
    }

    /// Gives up the oldest segment that is kept, because writes need its room; `None` when nothing is
    /// kept.
    pub(super) fn give_way(&mut self) -> Option<GivenUp> {
        let segment = self.kept.give_up()?;
        if segment.bytes() == self.limits.segment_bytes {
            self.retired.push(segment);
            return Some(GivenUp::Retired);
        }
        assert!(segment.bytes() <= self.bytes, "only what was counted is taken off");
        self.bytes -= segment.bytes();
        Some(GivenUp::Remove(segment))
    }

    /// The oldest retired file that can be used again.
    fn free_retired(&self) -> Option<usize> {
        let segment_bytes = self.limits.segment_bytes;
        // A count of one is final: only the stock could hand the segment out again, and it does not.
        let free = |s: &Arc<Segment>| s.bytes() == segment_bytes && Arc::strong_count(s) == 1;
        let free = self.retired.iter().enumerate().filter(|(_, segment)| free(segment));
        free.min_by_key(|(_, segment)| segment.number()).map(|(at, _)| at)
    }

    /// Whether there is no next segment.
    pub(super) fn wants_next(&self) -> bool {
        self.next.is_none()
    }

    /// Puts up the next segment.
    pub(super) fn offer(&mut self, segment: Arc<Segment>) {
        assert!(self.next.is_none(), "one next segment at a time");
        self.full = None;
        self.next = Some(segment);
    }

    /// Takes back what [`Stock::offer`] put up; `false` when somebody took it already.
    pub(super) fn withdraw(&mut self, segment: &Arc<Segment>) -> bool {
        let here = self.next.as_ref().is_some_and(|next| Arc::ptr_eq(next, segment));
        if here {
            self.next = None;
        }
        here
    }

    /// Gives a number back for which no segment was made, and says why. Whether that is news.
    pub(super) fn give_back(&mut self, number: u64, cause: FullCause) -> bool {
        assert_eq!(self.number, number + 1, "the last number given out comes back");
        self.number = number;
        assert!(self.limits.segment_bytes <= self.bytes, "only what was counted is taken off");
        self.bytes -= self.limits.segment_bytes;
        self.full.replace(cause) != Some(cause)
    }

    /// Keeps or retires the segments whose frames are all up to `checkpoint`, and takes out the files
    /// that are too many to wait for their use.
    pub(super) fn retire(&mut self, checkpoint: Lsn, now_ns: i64) -> Vec<Arc<Segment>> {
        while self.live.get(1).is_some_and(|second| second.first <= checkpoint.next()) {
            if let Some(Live { segment, written_ns, .. }) = self.live.pop_front() {
                self.kept.push(Sealed { segment, written_ns });
            }
        }
        assert!(!self.live.is_empty(), "the segment being written stays");
        self.expire(now_ns);
        self.take_surplus()
    }

    /// Takes out the retired files that are too many to wait for their use.
    pub(super) fn take_surplus(&mut self) -> Vec<Arc<Segment>> {
        let Limits { segment_bytes, bytes_max, .. } = self.limits;
        let kept_max = (bytes_max / RETIRED_SHARE / segment_bytes).max(1);
        let mut kept = 0;
        let mut surplus = Vec::new();
        self.retired.retain(|segment| {
            let keep = Arc::strong_count(segment) > 1
                || (segment.bytes() == segment_bytes && kept < kept_max);
            if keep {
                kept += 1;
            } else {
                surplus.push(Arc::clone(segment));
            }
            keep
        });
        self.bytes -= surplus.iter().map(|segment| segment.bytes()).sum::<u64>();
        surplus
    }

    /// The oldest segment that is needed once all up to `checkpoint` is stored elsewhere.
    pub(super) fn needed_from(&self, checkpoint: Lsn) -> u64 {
        let found = self.find(checkpoint.next()).expect("the frame after the checkpoint is here");
        found.segment.number()
    }
}

impl Log {
    /// The segment after the last one given out, for the appender.
    pub(super) fn take_next(&self) -> Result<Arc<Segment>, FullCause> {
        let mut stock = super::locked(&self.stock);
        let taken = stock.next.take().ok_or(stock.full.unwrap_or(FullCause::Preparing));
        drop(stock);
        // Only then: a log that is full would otherwise wake the thread at each refused append.
        if taken.is_ok() {
            self.wanted.notify_one();
        }
        taken
    }

    /// Adds a segment whose header is synced; the one before it is complete.
    pub(super) fn add_live(&self, segment: &Arc<Segment>, first: Lsn) {
        let now_ns = self.clock.wall_ns();
        let mut stock = super::locked(&self.stock);
        stock.seal(now_ns);
        stock.add_live(Live::begun(Arc::clone(segment), first, now_ns));
    }

    /// Removes the files of segments that the stock no longer has.
    pub(super) fn remove(&self, surplus: &[Arc<Segment>]) {
        for segment in surplus {
            let name = segment::name(segment.number());
            if let Err(error) = self.disk.remove(&name) {
                warn!(file = name, %error, "a segment that is no longer needed stays on the disk");
            }
        }
    }
}
