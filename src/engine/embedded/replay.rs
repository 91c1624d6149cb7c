//! Whether a flush can wait until the log is replayed.
//!
//! A start waits for the replay, and a flush takes a processor from it. As long as all that is replayed has room
//! in memory, none begins. Where it has not, to wait is the worst that can be done: the flush thread rests while
//! memory fills, and then the shards rest until everything in it is written. So when there is enough for a flush,
//! the part of the frames that is executed tells what all of them will take.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::lsn::Lsn;

/// The frames that are replayed. All Relaxed: they choose between two bounds of memory.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The frame before the first that is executed.
    begin: AtomicU64,
    /// The last; 0 while flushes do not wait.
    end: AtomicU64,
}

impl Replay {
    /// Frames behind `begin` follow, up to `end`.
    pub(super) fn begins(&self, begin: Lsn, end: Lsn) {
        self.begin.store(begin.0, Ordering::Relaxed);
        self.end.store(end.0, Ordering::Relaxed);
    }

    /// Flushes wait no longer.
    pub(super) fn ended(&self) {
        self.end.store(0, Ordering::Relaxed);
    }

    /// Whether a flush can wait: what is executed, up to `applied`, has taken `bytes`, and all of it will
    /// take `bytes_max` at most. Once it can not, it will not: a flush makes room, and the next is due the sooner.
    pub(super) fn puts_off(&self, applied: Lsn, bytes: usize, bytes_max: usize) -> bool {
        let (begin, end) = (self.begin.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        if end == 0 {
            return false;
        }
        let (done, all) = (applied.0.saturating_sub(begin), end.saturating_sub(begin));
        // Without a frame nothing can be told, and what has no room is flushed in any case.
        let has_room = bytes as u128 * u128::from(all) <= bytes_max as u128 * u128::from(done);
        if done > 0 && !has_room {
            self.ended();
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_waits_only_while_all_has_room() {
        let replay = Replay::default();
        assert!(!replay.puts_off(Lsn(5), 0, 100), "no replay");
        replay.begins(Lsn(100), Lsn(200));
        assert!(replay.puts_off(Lsn(0), 50, 100), "nothing is known yet");
        assert!(replay.puts_off(Lsn(150), 50, 100), "half of the frames take half of the room");
        assert!(!replay.puts_off(Lsn(150), 51, 100));
        assert!(!replay.puts_off(Lsn(190), 1, 100), "and it stays so");
        replay.begins(Lsn(100), Lsn(200));
        replay.ended();
        assert!(!replay.puts_off(Lsn(150), 1, 100));
        // No number is too large to be counted with.
        replay.begins(Lsn::ZERO, Lsn(u64::MAX));
        assert!(!replay.puts_off(Lsn(1), usize::MAX, usize::MAX));
    }
}
