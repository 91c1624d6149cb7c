//! Retention: segments below the checkpoint that keep their frames for a while, so that the past can
//! be sent again.
//!
//! | a segment below the checkpoint is given up | when |
//! |---|---|
//! | in time | it was written longer ago than `wal.retain_for`, and with it the kept ones take more than `wal.retain_bytes` |
//! | before | a segment is needed for writes, and `wal.bytes_max` or the disk has no room for a new file |
//!
//! The oldest goes first, always. So retention takes room that nothing else needs: it never makes the
//! log full. What is given up is retired, and its file used again as any other.
//!
//! A segment's age counts from its last frame: the moment of the rotation, and after a restart the
//! time at which its file was last written. A copy that does not keep this time is as old as itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::segment::Segment;

/// What the settings ask to be kept. A segment is kept as long as one of the two asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retention {
    /// Most bytes of segments that are kept for their number's sake; 0 keeps none.
    pub(super) bytes: u64,
    /// How long each segment is kept; 0 keeps none.
    pub(super) time: Duration,
}

impl Retention {
    /// Whether anything is to be kept.
    pub(super) const fn is_on(self) -> bool {
        self.bytes > 0 || !self.time.is_zero()
    }
}

/// A segment that is complete, with the wall time at which it became so.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) segment: Arc<Segment>,
    pub(super) written_ns: i64,
}

impl Sealed {
    /// How long it has been complete; nothing, where the clock was set back since.
    fn age(&self, now_ns: i64) -> Duration {
        Duration::from_nanos(u64::try_from(now_ns.saturating_sub(self.written_ns)).unwrap_or(0))
    }
}

/// The segments that are kept, oldest first.
#[derive(Debug)]
pub(super) struct Kept {
    retention: Retention,
    queue: VecDeque<Sealed>,
    /// Bytes of them.
    bytes: u64,
}

impl Kept {
    /// Nothing yet.
    pub(super) const fn new(retention: Retention) -> Self {
        Self { retention, queue: VecDeque::new(), bytes: 0 }
    }

    /// Adds a segment, which is newer than all that are kept.
    pub(super) fn push(&mut self, sealed: Sealed) {
        if let Some(newest) = self.queue.back() {
            assert!(newest.segment.number() < sealed.segment.number(), "kept in order");
        }
        self.bytes += sealed.segment.bytes();
        self.queue.push_back(sealed);
    }

    /// Takes out the segments that nothing asks to keep any more, oldest first.
    pub(super) fn expired(&mut self, now_ns: i64) -> Vec<Arc<Segment>> {
        let mut expired = Vec::new();
        while self.oldest_until(now_ns) == Some(Duration::ZERO) {
            expired.extend(self.give_up());
        }
        expired
    }

    /// How long until the oldest is expired; `None` where time alone does not bring it about.
    pub(super) fn oldest_until(&self, now_ns: i64) -> Option<Duration> {
        let oldest = self.queue.front().filter(|_| self.bytes > self.retention.bytes)?;
        Some(self.retention.time.saturating_sub(oldest.age(now_ns)))
    }

    /// Takes out the oldest, expired or not; `None` when nothing is kept.
    pub(super) fn give_up(&mut self) -> Option<Arc<Segment>> {
        let Sealed { segment, .. } = self.queue.pop_front()?;
        assert!(segment.bytes() <= self.bytes, "only what was counted is taken off");
        self.bytes -= segment.bytes();
        Some(segment)
    }

    /// How many there are, and their bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.queue.len() as u64, self.bytes)
    }

    /// The numbers of the segments, oldest first.
    #[cfg(test)]
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.queue.iter().map(|sealed| sealed.segment.number()).collect()
    }
}
