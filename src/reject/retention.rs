//! How long rejections are kept: for ever, unless `rejects.keep_for` says otherwise.
//!
//! Once an hour the folders of days that are wholly older are emptied, the oldest first, and then the marks
//! that were made before. A mark is younger than every rejection that it is of, so it never goes before one
//! of them: none that was sent again is shown as open for the lack of its mark. Reports at a location that a
//! table names are not ours to remove.
//!
//! A round is bounded; the next one goes on a minute later. A sink that is away changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tracing::{info, warn};

use super::Reporter;
use super::key::{self, Day, RESUBMITTED};
use super::mark::Mark;
use super::select::{Order, Query};
use super::walk::Walk;
use crate::base::lsn::Lsn;
use crate::base::thread::Thread;
use crate::base::units::Span;
use crate::object::{ObjectError, Store};

/// Time between two rounds: days go by slowly.
const ROUND: Duration = Duration::from_hours(1);

/// The same where a round had to leave something.
const ROUND_OF_MANY: Duration = Duration::from_mins(1);

/// Objects that one round removes at most, about: those of a day's folder are removed together.
const REMOVED_MAX: u64 = 10_000;

/// Marks that one round reads at most.
const MARKS_READ_MAX: usize = 1_000;

/// Objects that are removed between two looks at whether the server stops.
const REMOVED_AT_ONCE: usize = 500;

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Objects that it removed.
    pub(super) removed: u64,
    /// Whether it left something that is old enough.
    pub(super) is_cut: bool,
}

/// Empties the days of a sink.
#[derive(Debug)]
pub(super) struct Sweep<'s> {
    pub(super) store: &'s Store,
    /// The first day that is kept.
    pub(super) keep_from: Day,
    pub(super) stopping: &'s AtomicBool,
    /// Where the marks are looked at next: behind this block.
    pub(super) marks_after: &'s mut String,
}

impl Sweep<'_> {
    /// One round; calls `removed` for each object that is gone.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the sink is away; what is removed by then is old enough.
    pub(super) fn round(&mut self, removed: &mut dyn FnMut()) -> Result<Swept, ObjectError> {
        let mut swept = Swept::default();
        let mut count = || {
            swept.removed += 1;
            removed();
        };
        let query = Query { order: Order::Oldest, ..Query::all() };
        let mut walk = Walk::of(self.store, &query)?;
        let mut left = REMOVED_MAX;
        while let Some(folders) = walk.next()?.filter(|folders| folders.day < self.keep_from) {
            // What is no report is not ours: others may have a place in the same bucket.
            let objects = walk.objects(&folders)?.into_iter().map(|object| object.key);
            let keys: Vec<String> = objects.filter(|key| key::read(key).is_some()).collect();
            left = left.saturating_sub(keys.len() as u64);
            for some in keys.chunks(REMOVED_AT_ONCE) {
                // Relaxed: a late look costs a few more that are old enough.
                if self.stopping.load(Ordering::Relaxed) {
                    swept.is_cut = true;
                    return Ok(swept);
                }
                self.store.delete_all(some, &mut count)?;
            }
            for folder in &folders.keys {
                let top = folder.split('/').next().unwrap_or_default();
                self.store.remove_empty(folder, top);
            }
            if left == 0 {
                swept.is_cut = true;
                return Ok(swept);
            }
        }
        // Only now: of an older mark nothing is left to be marked.
        self.marks(&mut count)?;
        Ok(swept)
    }

    fn marks(&mut self, removed: &mut dyn FnMut()) -> Result<(), ObjectError> {
        let blocks = self.store.levels(&[RESUBMITTED.to_owned()])?;
        let blocks: Vec<String> = blocks.into_iter().flat_map(|level| level.folders).collect();
        let mut read = 0;
        let after = self.marks_after.clone();
        for block in blocks.iter().filter(|block| **block > after) {
            if read >= MARKS_READ_MAX {
                return Ok(());
            }
            let folder = format!("{RESUBMITTED}/{block}");
            let mut old = Vec::new();
            for key in self.store.list(&folder)? {
                // Relaxed, as above.
                if self.stopping.load(Ordering::Relaxed) {
                    return Ok(());
                }
                read += 1;
                // One that cannot be read is left for somebody to look at.
                let mark = serde_json::from_slice::<Mark>(&self.store.get(&key)?).ok();
                let is_old = mark.is_some_and(|mark| Day::of(mark.at().0) < self.keep_from);
                old.extend(is_old.then_some(key));
            }
            self.store.delete_all(&old, &mut *removed)?;
            self.store.remove_empty(&folder, RESUBMITTED);
            self.marks_after.clone_from(block);
        }
        self.marks_after.clear();
        Ok(())
    }
}

/// The thread that empties old days. Dropping it ends it.
#[derive(Debug)]
pub struct Sweeper {
    stop: Option<Sender<()>>,
    thread: Option<Thread>,
}

impl Sweeper {
    /// Starts it for the sink of `reporter`; nothing, where rejections are kept for ever.
    ///
    /// # Errors
    ///
    /// When the system has no thread to give.
    pub fn start(
        reporter: &Reporter,
        keep_for: Span,
        stopping: Arc<AtomicBool>,
    ) -> std::io::Result<Option<Self>> {
        if keep_for.0.is_zero() {
            return Ok(None);
        }
        let reporter = reporter.clone();
        let (stop, stopped) = channel::<()>();
        let thread = Thread::spawn("reject-sweep", move || {
            let mut marks_after = String::new();
            loop {
                let is_cut = reporter.sweep(keep_for, &stopping, &mut marks_after);
                let pause = if is_cut { ROUND_OF_MANY } else { ROUND };
                if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(Err(error)) = self.thread.take().map(Thread::join) {
            warn!(%error, "old rejections were no longer removed");
        }
    }
}

impl Reporter {
    /// One round, told and counted; whether it left something.
    fn sweep(&self, keep_for: Span, stopping: &AtomicBool, marks_after: &mut String) -> bool {
        let keep_ns = i64::try_from(keep_for.0.as_nanos()).unwrap_or(i64::MAX);
        let keep_from = Day::of(self.clock.wall_ns().saturating_sub(keep_ns));
        let mut sweep = Sweep { store: &self.store, keep_from, stopping, marks_after };
        let removed = &mut || self.metrics.reject_removed.inc();
        match self.claim.hold(Lsn::ZERO).and_then(|()| sweep.round(removed)) {
            Ok(Swept { removed, is_cut }) => {
                if removed > 0 {
                    let keep_from = keep_from.to_string();
                    info!(
                        removed,
                        keep_from, "rejections older than rejects.keep_for were removed"
                    );
                }
                is_cut
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                warn!(%error, cause = cause.as_deref(), "old rejections could not be removed");
                self.metrics.reject_sweep_failures.inc();
                false
            }
        }
    }
}
