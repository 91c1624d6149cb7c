//! The commit thread: takes the pending group, writes it, syncs it, tells its waiters, begins again.
//!
//! The thread waits for nothing but work: while one group is synced the next one gathers, so the
//! size of a group follows from the load and the device, and no timer is involved. Only frames that
//! were written and that nobody waits to see synced set a timer, `sync_interval` after the write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info};

use super::appender::{Group, Run};
use super::frame::{self, HEADER_BYTES, HeaderBytes};
use super::segment::{HEADER_PAGE_BYTES, Segment};
use super::{Appender, Commit, CommitError, Durability, Log};
use crate::base::lsn::Lsn;

/// A group is written in whole pages of this: the kernel would otherwise have to read the last page
/// of a recycled file before it could change a part of it.
const PAGE_BYTES: u64 = 4096;

/// The poison's reason when the thread panics.
const PANICKED: &str = "the commit thread panicked";

/// What is written and synced, as only the commit thread sees it.
#[derive(Debug)]
pub(super) struct Committer {
    log: Arc<Log>,
    /// The segment being written. Its header is synced.
    segment: Arc<Segment>,
    /// Offset in `segment` behind the last frame written.
    end: u64,
    /// The last frame written.
    written: Lsn,
    /// When the first frame was written that is not synced yet; monotonic.
    unsynced_since: Option<Duration>,
    /// Whether the mark behind the last frame says that all is durable.
    marked: bool,
    /// The group being committed. Exchanged with the pending one, so that both keep their memory.
    group: Group,
}

/// What a failed operation was, for the poison's reason.
type Failure = String;

impl Committer {
    /// Starts behind `written`, at the begin of `segment`.
    pub(super) fn new(log: Arc<Log>, segment: Arc<Segment>, written: Lsn) -> Self {
        Self {
            log,
            segment,
            end: HEADER_PAGE_BYTES,
            written,
            unsynced_since: None,
            marked: true,
            group: Group::default(),
        }
    }

    /// The thread: commits until the log is closed and nothing is left.
    pub(super) fn run(mut self) {
        let _last = LastWords(Arc::clone(&self.log));
        let here = std::thread::current().id();
        assert!(self.log.commit_thread.set(here).is_ok(), "a log has one commit thread");
        while self.wait() {
            self.commit();
        }
        self.commit();
        assert!(self.group.is_empty(), "nothing is left behind");
    }

    /// Waits for frames or for the time to sync; takes the frames. `false` once the log is closed
    /// and no frame is left.
    fn wait(&mut self) -> bool {
        let log = Arc::clone(&self.log);
        let mut tail = super::locked(&log.tail);
        loop {
            if !tail.pending.is_empty() {
                assert!(self.group.is_empty(), "one group at a time");
                std::mem::swap(&mut tail.pending, &mut self.group);
                return true;
            }
            if tail.closed {
                return false;
            }
            tail.is_waited_for = true;
            match self.until_sync() {
                None => tail = super::waited(log.work.wait(tail)),
                Some(Duration::ZERO) => return true,
                Some(rest) => tail = super::waited(log.work.wait_timeout(tail, rest)).0,
            }
        }
    }

    /// Takes what is pending and commits it, without waiting: the thread's loop for tests that
    /// decide themselves when something happens.
    #[cfg(test)]
    pub(super) fn step(&mut self) {
        std::mem::swap(&mut super::locked(&self.log.tail).pending, &mut self.group);
        self.commit();
    }

    /// The segment being written.
    #[cfg(test)]
    pub(super) fn segment_number(&self) -> u64 {
        self.segment.number()
    }

    /// How long what is written may stay unsynced; `None` when all is synced.
    fn until_sync(&self) -> Option<Duration> {
        let due = self.unsynced_since? + self.log.options.sync_interval();
        // A poisoned log syncs nothing any more.
        (!self.log.poison.is_thrown()).then(|| due.saturating_sub(self.log.clock.monotonic()))
    }

    /// Writes the group, syncs when it is time, tells the waiters.
    fn commit(&mut self) {
        let mut group = std::mem::take(&mut self.group);
        // Dropped before the group: its waiters must not be told of a panic before the poison.
        let _panic = self.log.poison.on_panic(PANICKED);
        if let Err(failure) = self.try_commit(&mut group) {
            // The poison first: who is told of the failure must not find a log that takes more.
            if self.log.poison.throw(failure.clone()) {
                error!(reason = failure, "the log is poisoned; it takes nothing more");
            }
        }
        if let Some(reason) = self.log.poison.reason() {
            let failed = Err(CommitError::Poisoned { reason: reason.to_owned() });
            tell(&self.log, &mut group, Durability::Sync, &failed);
        }
        group.clear();
        self.group = group;
    }

    fn try_commit(&mut self, group: &mut Group) -> Result<(), Failure> {
        if self.log.poison.is_thrown() {
            return Ok(());
        }
        let mut commit = Commit {
            frames: group.waiters.len() as u64,
            bytes: group.buffer.len() as u64,
            sync: None,
        };
        self.write(group)?;
        tell(&self.log, group, Durability::Interval, &Ok(()));
        if self.must_sync(group) {
            commit.sync = self.sync()?;
            tell(&self.log, group, Durability::Sync, &Ok(()));
        }
        if commit.frames > 0 || commit.sync.is_some() {
            self.log.observer.committed(&commit);
        }
        self.mark_when_idle()
    }

    fn must_sync(&self, group: &Group) -> bool {
        let asked = group.waiters.iter().any(|w| w.durability == Durability::Sync);
        asked || self.until_sync().is_some_and(|rest| rest.is_zero()) || self.log.is_closed()
    }

    /// Writes the group's frames, one write a segment.
    fn write(&mut self, group: &mut Group) -> Result<(), Failure> {
        let Group { buffer, runs, .. } = group;
        let mut start = 0;
        for (index, run) in runs.iter().enumerate() {
            if !Arc::ptr_eq(&run.segment, &self.segment) {
                self.rotate(run)?;
            }
            assert_eq!(run.offset, self.end, "frames are neighbours");
            assert_eq!(run.first, self.written.next(), "numbers are dense");
            let end = start + run.bytes;
            seal(&mut buffer[start..end], run, self.log.marks.durable());
            let mut padded = end;
            if index + 1 == runs.len() {
                padded += self.padding(run);
                buffer.resize(padded, 0);
            }
            self.write_at(run.offset, &buffer[start..padded])?;
            self.end = run.offset + run.bytes as u64;
            self.written = run.last;
            self.marked = false;
            self.unsynced_since.get_or_insert_with(|| self.log.clock.monotonic());
            start = end;
        }
        Ok(())
    }

    /// Bytes from the run's end to the end of its page.
    fn padding(&self, run: &Run) -> usize {
        let end = run.offset + run.bytes as u64;
        let page_end = end.next_multiple_of(PAGE_BYTES).min(self.segment.bytes());
        usize::try_from(page_end - end).expect("less than a page")
    }

    /// Goes over to the segment of `run`. Everything in the one before is synced first, then the
    /// header that says so, and only then a frame is written.
    fn rotate(&mut self, run: &Run) -> Result<(), Failure> {
        let sealed = self.sync()?;
        assert_eq!(self.log.marks.durable(), self.written, "a sealed segment is durable");
        if !run.segment.wait_made() {
            return Err(format!("segment {} could not be made", run.segment.number()));
        }
        let started = self.log.clock.monotonic();
        run.segment.begin(run.first).map_err(|e| self.failure("begin", &run.segment, &e))?;
        let begun = self.log.clock.monotonic().saturating_sub(started);
        for sync in sealed.into_iter().chain([begun]) {
            self.log.observer.committed(&Commit { frames: 0, bytes: 0, sync: Some(sync) });
        }
        self.log.add_live(&run.segment, run.first);
        info!(
            segment = run.segment.number(),
            first = run.first.0,
            "the log goes on in a new segment"
        );
        self.segment = Arc::clone(&run.segment);
        self.end = HEADER_PAGE_BYTES;
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let map = match self.log.options.appender {
            Appender::Pwrite => None,
            Appender::Map => self
                .segment
                .map(self.log.access())
                .map_err(|e| self.failure("map", &self.segment, &e))?,
        };
        let written = match map {
            Some(map) => map.write(offset, bytes),
            None => self.segment.file().write_at(offset, bytes),
        };
        written.map_err(|error| self.failure("write", &self.segment, &error))
    }

    /// Makes durable what is written, and says so. The time it took, if there was anything.
    fn sync(&mut self) -> Result<Option<Duration>, Failure> {
        if self.unsynced_since.is_none() {
            return Ok(None);
        }
        let started = self.log.clock.monotonic();
        self.segment.file().sync().map_err(|e| self.failure("sync", &self.segment, &e))?;
        let took = self.log.clock.monotonic().saturating_sub(started);
        self.unsynced_since = None;
        self.log.publish_durable(self.written);
        Ok(Some(took))
    }

    /// Writes the mark behind the last frame when there is nothing else to do. It is not synced:
    /// it is a witness for the case that nothing follows, not a promise.
    fn mark_when_idle(&mut self) -> Result<(), Failure> {
        let idle = || super::locked(&self.log.tail).pending.is_empty();
        let room = self.end + HEADER_BYTES as u64 <= self.segment.bytes();
        if self.marked || self.unsynced_since.is_some() || !room || !idle() {
            return Ok(());
        }
        assert_eq!(self.written, self.log.marks.durable(), "a mark tells what is durable");
        let mark = frame::Header::mark(self.written).encode(self.segment.seed());
        self.write_at(self.end, &mark)?;
        self.marked = true;
        Ok(())
    }

    fn failure(&self, what: &str, segment: &Segment, error: &std::io::Error) -> Failure {
        let path = self.log.disk.path(&super::segment::name(segment.number()));
        format!("cannot {what} {}: {error}", path.display())
    }
}

/// Completes the headers of a run's frames.
fn seal(buffer: &mut [u8], run: &Run, durable: Lsn) {
    let mut at = 0;
    let mut frames = 0;
    while at < buffer.len() {
        let header: &mut HeaderBytes =
            (&mut buffer[at..at + HEADER_BYTES]).try_into().expect("as long as a header");
        frame::seal(header, run.segment.seed(), durable);
        at += frame::frame_bytes(frame::length_of(header));
        frames += 1;
    }
    assert_eq!(at, buffer.len(), "a run ends with a frame");
    assert_eq!(run.first.0 + frames, run.last.0 + 1, "a run holds the frames it says");
}

/// Tells the waiters of a group that asked for `durability` or less and were not told yet.
fn tell(log: &Log, group: &mut Group, durability: Durability, result: &Result<(), CommitError>) {
    for waiter in &mut group.waiters {
        if waiter.durability > durability {
            continue;
        }
        let Some(done) = waiter.done.take() else { continue };
        let lsn = waiter.lsn;
        let result = result.clone().map(|()| lsn);
        // The others must be told, whatever this one does.
        if catch_unwind(AssertUnwindSafe(|| done(result))).is_err() {
            log.poison.throw(format!("who waited for frame {lsn} panicked"));
        }
    }
}

/// Ends the log with its commit thread. When that panicked, throws the poison and tells who waits:
/// nobody else would.
struct LastWords(Arc<Log>);

impl Drop for LastWords {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.poison.throw(PANICKED);
            let pending = std::mem::take(&mut super::locked(&self.0.tail).pending);
            // Dropped here, outside the lock: each waiter is told.
            drop(pending);
        }
        self.0.finish();
    }
}
