//! What the handles, the readers and the two threads of one log share.

use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::ThreadId;
use std::time::Duration;

use tracing::{error, info};

use super::appender::Tail;
use super::committer::Committer;
use super::disk::Disk;
use super::marks::{Marks, SharedMarks};
use super::reclaim::{Limits, Stock};
use super::{Access, Appender, Observer, Options, Recovery, State, WalError, locked, waited};
use super::{checkpoint, recovery};
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;

/// What the handles, the readers and the two threads share.
///
/// Lock order: `checkpoint`, `tail`, `stock`, `progress`. Only `checkpoint` is held across a sync:
/// it guards nothing but the right to write that file, and only who would write it waits for it.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) options: Options,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) clock: SharedClock,
    pub(super) poison: Poison,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) recovery: Recovery,
    pub(super) marks: SharedMarks,
    pub(super) checkpoint: Mutex<checkpoint::File>,
    pub(super) tail: Mutex<Tail>,
    /// The commit thread waits for frames, with `tail`.
    pub(super) work: Condvar,
    pub(super) stock: Mutex<Stock>,
    /// The prepare thread waits for a segment to be wanted, with `stock`.
    pub(super) wanted: Condvar,
    /// Whether nothing more becomes durable.
    pub(super) progress: Mutex<bool>,
    /// Readers wait for the durable mark, with `progress`.
    pub(super) moved: Condvar,
    pub(super) commit_thread: OnceLock<ThreadId>,
}

impl Log {
    /// Recovers the log on `disk`. The caller runs the committer and [`prepare::run`].
    pub(super) fn open(
        options: &Options,
        disk: Arc<dyn Disk>,
        clock: SharedClock,
        poison: Poison,
        observer: Arc<dyn Observer>,
    ) -> Result<(Arc<Self>, Committer), WalError> {
        let recovered = recovery::recover(&disk, options)?;
        let found = recovered.found;
        let (last, checkpoint) = (found.last, found.checkpoint);
        let end = recovered.live.last().expect("recovery makes a segment");
        assert_eq!(end.first, last.next(), "new frames go into a segment of their own");
        let segment = Arc::clone(&end.segment);
        let limits = Limits {
            segment_bytes: options.segment_bytes.0,
            bytes_max: options.bytes_max.0,
            retention: options.retention(),
        };
        let mut stock = Stock::new(segment.number() + 1, limits);
        stock.fill(recovered.live, recovered.kept, recovered.retired);
        stock.expire(clock.wall_ns());
        let marks = Marks { appended: last, durable: last, applied: checkpoint, checkpoint };
        let log = Arc::new(Self {
            options: options.clone(),
            disk,
            clock,
            poison,
            observer,
            recovery: found,
            marks: SharedMarks::new(marks),
            checkpoint: Mutex::new(recovered.checkpoint),
            tail: Mutex::new(Tail::new(Arc::clone(&segment), last)),
            work: Condvar::new(),
            stock: Mutex::new(stock),
            wanted: Condvar::new(),
            progress: Mutex::new(false),
            moved: Condvar::new(),
            commit_thread: OnceLock::new(),
        });
        found.report(&log.options.dir);
        let committer = Committer::new(Arc::clone(&log), segment, last);
        Ok((log, committer))
    }

    /// What maps are used for.
    pub(super) fn access(&self) -> Access {
        match self.options.appender {
            Appender::Pwrite => Access::Read,
            Appender::Map => Access::Write,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        locked(&self.tail).closed
    }

    /// Moves the durable mark and wakes the readers. Called by the commit thread.
    pub(super) fn publish_durable(&self, lsn: Lsn) {
        self.marks.set_durable(lsn);
        // The lock orders this with a reader between its look and its wait.
        drop(locked(&self.progress));
        self.moved.notify_all();
    }

    /// Waits up to `wait` until frame `lsn` is durable; whether it is.
    pub(super) fn wait_durable(&self, lsn: Lsn, wait: Duration) -> bool {
        let durable = || self.marks.durable() >= lsn;
        if durable() {
            return true;
        }
        if wait.is_zero() {
            return false;
        }
        let waits = |ended: &mut bool| !*ended && !durable();
        drop(waited(self.moved.wait_timeout_while(locked(&self.progress), wait, waits)));
        durable()
    }

    pub(super) fn checkpoint(&self, lsn: Lsn) -> Result<(), WalError> {
        let mut file = locked(&self.checkpoint);
        if let Some(reason) = self.poison.reason() {
            return Err(WalError::Poisoned { reason: reason.to_owned() });
        }
        let marks = self.marks.get();
        if lsn <= marks.checkpoint {
            return Ok(());
        }
        if lsn > marks.durable {
            return Err(WalError::Ahead { lsn, durable: marks.durable });
        }
        if self.is_closed() {
            return Err(WalError::Closed);
        }
        let segment = locked(&self.stock).needed_from(lsn);
        self.write_checkpoint(&mut file, lsn, segment)?;
        self.marks.raise_checkpoint(lsn);
        let surplus = locked(&self.stock).retire(lsn, self.clock.wall_ns());
        self.wanted.notify_one();
        self.remove(&surplus);
        Ok(())
    }

    fn write_checkpoint(
        &self,
        file: &mut checkpoint::File,
        lsn: Lsn,
        segment: u64,
    ) -> Result<(), WalError> {
        file.write(lsn, segment, self.marks.durable()).map_err(|error| {
            let path = self.disk.path(checkpoint::NAME);
            let reason = format!("cannot write {}: {error}", path.display());
            if self.poison.throw(reason.clone()) {
                error!(reason, "the log is poisoned; it takes nothing more");
            }
            WalError::Poisoned { reason }
        })
    }

    pub(super) fn state(&self) -> State {
        let tail = locked(&self.tail);
        let (bytes_pending, closed) = (tail.pending.buffer.len() as u64, tail.closed);
        drop(tail);
        let stock = locked(&self.stock);
        let ((segments, bytes), bytes_total) = (stock.live_size(), stock.total_size());
        let (segments_retained, bytes_retained) = stock.kept_size();
        drop(stock);
        State {
            segments,
            bytes,
            segments_retained,
            bytes_retained,
            bytes_total,
            bytes_max: self.options.bytes_max.0,
            bytes_pending,
            marks: self.marks.get(),
            poison: self.poison.reason().map(str::to_owned),
            closed,
        }
    }

    /// Ends the log, as the last act of the commit thread: readers learn that nothing follows, and the
    /// checkpoint that everything is synced, so that the next start knows what must be there.
    pub(super) fn finish(&self) {
        let ended = std::mem::replace(&mut *locked(&self.progress), true);
        self.moved.notify_all();
        if ended || self.poison.is_thrown() {
            return;
        }
        let mut file = locked(&self.checkpoint);
        let record = file.record();
        // A failure throws the poison and is logged there; the frames are safe without this.
        if self.write_checkpoint(&mut file, record.checkpoint, record.segment).is_ok() {
            info!(durable = self.marks.durable().0, "the log is closed");
        }
    }
}
