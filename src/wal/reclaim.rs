//! Which segments there are: those that hold frames, the one ready to be next, and those whose
//! frames are all stored elsewhere, whose files are used again.
//!
//! A segment is recycled or removed only when nothing but the stock holds it: a
//! [`super::Frame`] or a [`super::Reader`] that does keeps its bytes as they are.

use std::collections::VecDeque;
use std::sync::Arc;

use super::segment::Segment;
use super::{FullCause, Log};
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
    /// Segments below the checkpoint.
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
}

#[derive(Debug)]
struct Live {
    segment: Arc<Segment>,
    first: Lsn,
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
}

/// Where a frame is.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) segment: Arc<Segment>,
    /// The first frame of that segment.
    pub(super) first: Lsn,
    /// The first frame of the segment after it, when there is one.
    pub(super) until: Option<Lsn>,
}

impl Stock {
    /// An empty stock; the next segment made is `number`.
    pub(super) fn new(number: u64, limits: Limits) -> Self {
        Self {
            live: VecDeque::new(),
            next: None,
            retired: Vec::new(),
            bytes: 0,
            number,
            full: None,
            limits,
            closed: false,
        }
    }

    /// Adds a segment found by recovery, or begun, whose frames begin at `first`.
    pub(super) fn add_live(&mut self, segment: Arc<Segment>, first: Lsn) {
        if let Some(last) = self.live.back() {
            assert!(last.segment.number() < segment.number(), "segments are numbered in order");
            assert!(last.first <= first, "frames are numbered in order");
        }
        self.live.push_back(Live { segment, first });
    }

    /// Adds a segment found by recovery that holds nothing that is needed.
    pub(super) fn add_retired(&mut self, segment: Arc<Segment>) {
        self.retired.push(segment);
    }

    /// Counts a file.
    pub(super) fn add_bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The segment that holds frame `lsn` or will; `None` when it was reclaimed.
    pub(super) fn find(&self, lsn: Lsn) -> Option<Found> {
        let after = self.live.partition_point(|live| live.first <= lsn);
        let live = self.live.get(after.checked_sub(1)?)?;
        let until = self.live.get(after).map(|next| next.first);
        Some(Found { segment: Arc::clone(&live.segment), first: live.first, until })
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
        let Limits { segment_bytes, bytes_max } = self.limits;
        if self.next.is_some() || self.closed {
            return Plan::Rest;
        }
        let number = self.number;
        if let Some(free) = self.free_retired() {
            self.number += 1;
            return Plan::Recycle(self.retired.swap_remove(free), number);
        }
        if self.bytes + segment_bytes > bytes_max {
            self.full = Some(FullCause::BytesMax);
            return Plan::Full;
        }
        self.bytes += segment_bytes;
        self.number += 1;
        Plan::Create(number)
    }

    fn free_retired(&self) -> Option<usize> {
        let segment_bytes = self.limits.segment_bytes;
        // A count of one is final: only the stock could hand the segment out again, and it does not.
        let free = |s: &Arc<Segment>| s.bytes() == segment_bytes && Arc::strong_count(s) == 1;
        self.retired.iter().position(free)
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

    /// Retires the segments whose frames are all up to `checkpoint`, and takes out the files that are
    /// too many to be kept.
    pub(super) fn retire(&mut self, checkpoint: Lsn) -> Vec<Arc<Segment>> {
        let Limits { segment_bytes, bytes_max } = self.limits;
        while self.live.get(1).is_some_and(|second| second.first <= checkpoint.next()) {
            self.retired.extend(self.live.pop_front().map(|live| live.segment));
        }
        assert!(!self.live.is_empty(), "the segment being written stays");
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

    /// Adds a segment whose header is synced.
    pub(super) fn add_live(&self, segment: &Arc<Segment>, first: Lsn) {
        super::locked(&self.stock).add_live(Arc::clone(segment), first);
    }
}
