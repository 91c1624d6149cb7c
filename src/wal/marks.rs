//! How far the log got, as four marks.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::lsn::Lsn;

/// How far the log got: `checkpoint <= applied <= durable <= appended`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks {
    /// The last frame that was given a number.
    pub appended: Lsn,
    /// The last frame that is synced, with all before it.
    pub durable: Lsn,
    /// The last frame that the engine has executed, with all before it.
    pub applied: Lsn,
    /// The last frame that is stored outside the log, with all before it.
    pub checkpoint: Lsn,
}

impl Marks {
    pub(super) fn assert_order(self) {
        assert!(self.checkpoint <= self.applied, "checkpoint passed applied: {self:?}");
        assert!(self.applied <= self.durable, "applied passed durable: {self:?}");
        assert!(self.durable <= self.appended, "durable passed appended: {self:?}");
    }
}

/// The marks, moved forward by several threads.
#[derive(Debug)]
pub(super) struct SharedMarks {
    appended: AtomicU64,
    durable: AtomicU64,
    applied: AtomicU64,
    checkpoint: AtomicU64,
}

impl SharedMarks {
    pub(super) fn new(marks: Marks) -> Self {
        marks.assert_order();
        Self {
            appended: AtomicU64::new(marks.appended.0),
            durable: AtomicU64::new(marks.durable.0),
            applied: AtomicU64::new(marks.applied.0),
            checkpoint: AtomicU64::new(marks.checkpoint.0),
        }
    }

    /// All four, in order. Each only grows, and the smaller is read before the larger, so the order
    /// holds although other threads move them meanwhile.
    pub(super) fn get(&self) -> Marks {
        let checkpoint = Lsn(self.checkpoint.load(Ordering::Acquire));
        let applied = Lsn(self.applied.load(Ordering::Acquire));
        let durable = Lsn(self.durable.load(Ordering::Acquire));
        let appended = Lsn(self.appended.load(Ordering::Acquire));
        let marks = Marks { appended, durable, applied, checkpoint };
        marks.assert_order();
        marks
    }

    /// Acquire: pairs with the release in [`Self::set_durable`], so that who sees the mark sees the
    /// frames up to it.
    pub(super) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// Called under the tail's lock.
    pub(super) fn set_appended(&self, lsn: Lsn) {
        // Release: pairs with the acquire in `get`.
        let before = self.appended.swap(lsn.0, Ordering::Release);
        assert!(before < lsn.0, "numbers of frames only grow");
    }

    /// Called by the commit thread.
    pub(super) fn set_durable(&self, lsn: Lsn) {
        assert!(lsn.0 <= self.appended.load(Ordering::Acquire), "durable passed appended");
        // Release: pairs with the acquire in `durable` and `get`.
        let before = self.durable.swap(lsn.0, Ordering::Release);
        assert!(before <= lsn.0, "what is durable stays durable");
    }

    /// Raises the applied mark; a lower one is ignored.
    pub(super) fn raise_applied(&self, lsn: Lsn) {
        assert!(lsn <= self.durable(), "applied passed durable");
        // Release: pairs with the acquire in `get`.
        self.applied.fetch_max(lsn.0, Ordering::Release);
    }

    /// Raises the checkpoint, and with it the applied mark: what is stored was executed.
    pub(super) fn raise_checkpoint(&self, lsn: Lsn) {
        self.raise_applied(lsn);
        // Release: pairs with the acquire in `get`.
        self.checkpoint.fetch_max(lsn.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_only_move_forward() {
        let marks = SharedMarks::new(Marks::default());
        marks.set_appended(Lsn(3));
        marks.set_durable(Lsn(2));
        marks.raise_checkpoint(Lsn(2));
        marks.raise_applied(Lsn(1));
        let expected =
            Marks { appended: Lsn(3), durable: Lsn(2), applied: Lsn(2), checkpoint: Lsn(2) };
        assert_eq!(marks.get(), expected);
    }

    #[test]
    #[should_panic(expected = "applied passed durable")]
    fn what_is_not_durable_cannot_be_applied() {
        SharedMarks::new(Marks::default()).raise_applied(Lsn(1));
    }
}
