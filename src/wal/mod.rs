//! Floor 2: the write-ahead log.

pub mod disk;
pub mod scan;

mod appender;
mod checkpoint;
mod committer;
mod error;
mod frame;
mod map;
mod marks;
mod options;
mod prepare;
mod reader;
mod reclaim;
mod recovery;
mod segment;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::{Arc, Condvar, LockResult, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use tracing::{error, info, warn};

pub use error::{CommitError, FullCause, WalError};
pub use frame::PAYLOAD_BYTES_MAX;
pub use map::{Access, Map};
pub use marks::Marks;
pub use options::{Appender, Durability, DurabilityError, Options};
pub use reader::{Frame, Reader};
pub use recovery::{Case, Decision, Recovery, decide};

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::base::thread::Thread;

use appender::Tail;
use committer::Committer;
use disk::{Disk, RealDisk};
use marks::SharedMarks;
use reclaim::Stock;

/// Who is told what became of an appended frame. Called exactly once, on the commit thread, which
/// does nothing else meanwhile: it must not block.
pub type Done = Box<dyn FnOnce(Result<Lsn, CommitError>) + Send>;

/// Hears what the log does, for metrics. Called on the commit thread: it must not block.
pub trait Observer: Debug + Send + Sync {
    /// A group was written, or what was written was synced.
    fn committed(&self, commit: &Commit) {
        let _: &Commit = commit;
    }
}

/// Nobody hears what the log does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// One turn of the commit thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commit {
    /// Frames written.
    pub frames: u64,
    /// Bytes of them, headers and padding included.
    pub bytes: u64,
    /// How long the sync took; `None` when nothing was synced.
    pub sync: Option<Duration>,
}

/// How the log stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Segments that hold frames beyond the checkpoint, the one being written included.
    pub segments: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes of all segment files: also the spare and those that wait to be used again.
    pub bytes_total: u64,
    /// Most that `bytes_total` may be.
    pub bytes_max: u64,
    /// Bytes that wait for the commit thread.
    pub bytes_pending: u64,
    /// How far it got.
    pub marks: Marks,
    /// Why it takes nothing more.
    pub poison: Option<String>,
    /// Whether it was closed.
    pub closed: bool,
}

/// The log. Clones share it; the last one dropped closes it.
#[derive(Debug, Clone)]
pub struct Wal {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    log: Arc<Inner>,
    /// Taken by whoever closes.
    threads: Mutex<Vec<Thread>>,
}

/// What the handles, the readers and the two threads share.
///
/// Lock order: `checkpoint`, `tail`, `stock`, `progress`. Only `checkpoint` is held across a sync:
/// it guards nothing but the right to write that file, and only who would write it waits for it.
#[derive(Debug)]
struct Inner {
    options: Options,
    disk: Arc<dyn Disk>,
    clock: SharedClock,
    poison: Poison,
    observer: Arc<dyn Observer>,
    recovery: Recovery,
    marks: SharedMarks,
    checkpoint: Mutex<checkpoint::File>,
    tail: Mutex<Tail>,
    /// The commit thread waits for frames, with `tail`.
    work: Condvar,
    stock: Mutex<Stock>,
    /// The prepare thread waits for a segment to be wanted, with `stock`.
    wanted: Condvar,
    /// Whether nothing more becomes durable.
    progress: Mutex<bool>,
    /// Readers wait for the durable mark, with `progress`.
    moved: Condvar,
    commit_thread: OnceLock<ThreadId>,
}

impl Wal {
    /// Opens the log in `options.dir`, or makes one there, and starts its threads.
    ///
    /// Everything appended before and found is durable on return, and is served by [`Wal::reader`].
    ///
    /// # Errors
    ///
    /// [`WalError::Locked`], [`WalError::FileSystem`], [`WalError::Io`]: the directory cannot be
    /// used. [`WalError::Damaged`]: it holds a log from which a synced frame is missing; nothing was
    /// changed.
    pub fn open(
        options: &Options,
        clock: SharedClock,
        poison: Poison,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, WalError> {
        let disk = Arc::new(RealDisk::lock(&options.dir)?);
        let (log, committer) = Inner::open(options, disk, clock, poison, observer)?;
        let failed = |error| WalError::io("start a thread for", options.dir.clone(), error);
        let preparer = Arc::clone(&log);
        let owner = Owner { log, threads: Mutex::default() };
        let commit = Thread::spawn("wal-commit", move || committer.run()).map_err(failed)?;
        locked(&owner.threads).push(commit);
        let prepare = Thread::spawn("wal-prepare", move || prepare::run(&preparer));
        // Dropping the owner ends the thread that runs already.
        locked(&owner.threads).push(prepare.map_err(failed)?);
        Ok(Self { owner: Arc::new(owner) })
    }

    /// Appends a frame and returns its number, without waiting for the disk. `done` is called once
    /// the frame is as durable as asked.
    ///
    /// # Errors
    ///
    /// The frame was not appended and `done` is dropped without a call. [`WalError::Full`]: it may
    /// succeed later. [`WalError::TooLarge`]: it never does. [`WalError::Poisoned`],
    /// [`WalError::Closed`]: this log takes nothing more.
    pub fn append(
        &self,
        payload: &[u8],
        durability: Durability,
        done: Done,
    ) -> Result<Lsn, WalError> {
        appender::append(&self.owner.log, payload, durability, done)
    }

    /// Reads the durable frames from `from` on, as they become durable.
    pub fn reader(&self, from: Lsn) -> Reader {
        Reader::new(Arc::clone(&self.owner.log), from)
    }

    /// How far the log got.
    pub fn marks(&self) -> Marks {
        self.owner.log.marks.get()
    }

    /// Says that the engine has executed every frame up to `lsn`, which is durable. A lower number
    /// than the last is ignored.
    pub fn set_applied(&self, lsn: Lsn) {
        self.owner.log.marks.raise_applied(lsn);
    }

    /// Says that everything up to `lsn` is stored durably outside the log; its segments are given
    /// free. Durable on return. Costs a sync when `lsn` is beyond the last checkpoint, otherwise
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`WalError::Ahead`] when `lsn` is not durable here, [`WalError::Closed`]: nothing was changed.
    /// [`WalError::Poisoned`]: the checkpoint could not be written, and whether it was is unknown.
    pub fn checkpoint(&self, lsn: Lsn) -> Result<(), WalError> {
        self.owner.log.checkpoint(lsn)
    }

    /// How the log stands.
    pub fn state(&self) -> State {
        self.owner.log.state()
    }

    /// What [`Wal::open`] found.
    pub fn recovery(&self) -> Recovery {
        self.owner.log.recovery
    }

    /// Syncs what is appended, tells all who wait, and ends the threads. Later appends are answered
    /// [`WalError::Closed`]. A second call changes nothing, and returns without waiting for the first.
    ///
    /// The directory stays locked until the last clone, reader and frame is dropped.
    pub fn close(&self) {
        self.owner.close();
    }
}

impl Owner {
    fn close(&self) {
        locked(&self.log.tail).closed = true;
        self.log.work.notify_one();
        locked(&self.log.stock).closed = true;
        self.log.wanted.notify_one();
        let threads = std::mem::take(&mut *locked(&self.threads));
        if self.log.commit_thread.get() == Some(&std::thread::current().id()) {
            // The last handle went with a waiter. The thread cannot wait for itself; it ends after
            // this call, and finds the log closed.
            return;
        }
        for thread in threads {
            if let Err(panicked) = thread.join() {
                error!(error = %panicked, "a thread of the log panicked");
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

impl Inner {
    /// Recovers the log on `disk`. The caller runs the committer and [`prepare::run`].
    fn open(
        options: &Options,
        disk: Arc<dyn Disk>,
        clock: SharedClock,
        poison: Poison,
        observer: Arc<dyn Observer>,
    ) -> Result<(Arc<Self>, Committer), WalError> {
        let recovered = recovery::recover(&disk, options)?;
        let found = recovered.found;
        let (last, checkpoint) = (found.last, found.checkpoint);
        let (segment, first) = recovered.live.last().expect("recovery makes a segment").clone();
        assert_eq!(first, last.next(), "new frames go into a segment of their own");
        let mut stock = Stock::new(segment.number() + 1);
        for (segment, first) in recovered.live {
            stock.add_bytes(segment.bytes());
            stock.add_live(segment, first);
        }
        for segment in recovered.retired {
            stock.add_bytes(segment.bytes());
            stock.add_retired(segment);
        }
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
    fn access(&self) -> Access {
        match self.options.appender {
            Appender::Pwrite => Access::Read,
            Appender::Map => Access::Write,
        }
    }

    fn is_closed(&self) -> bool {
        locked(&self.tail).closed
    }

    /// Moves the durable mark and wakes the readers. Called by the commit thread.
    fn publish_durable(&self, lsn: Lsn) {
        self.marks.set_durable(lsn);
        // The lock orders this with a reader between its look and its wait.
        drop(locked(&self.progress));
        self.moved.notify_all();
    }

    /// Waits up to `wait` until frame `lsn` is durable; whether it is.
    fn wait_durable(&self, lsn: Lsn, wait: Duration) -> bool {
        let durable = || self.marks.durable() >= lsn;
        if durable() {
            return true;
        }
        let waits = |ended: &mut bool| !*ended && !durable();
        drop(waited(self.moved.wait_timeout_while(locked(&self.progress), wait, waits)));
        durable()
    }

    fn checkpoint(&self, lsn: Lsn) -> Result<(), WalError> {
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
        let (segment_bytes, bytes_max) = (self.options.segment_bytes.0, self.options.bytes_max.0);
        let surplus = locked(&self.stock).retire(lsn, segment_bytes, bytes_max);
        self.wanted.notify_one();
        for segment in surplus {
            let name = segment::name(segment.number());
            if let Err(error) = self.disk.remove(&name) {
                warn!(file = name, %error, "a segment that is no longer needed stays on the disk");
            }
        }
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

    fn state(&self) -> State {
        let tail = locked(&self.tail);
        let (bytes_pending, closed) = (tail.pending.buffer.len() as u64, tail.closed);
        drop(tail);
        let stock = locked(&self.stock);
        let ((segments, bytes), bytes_total) = (stock.live_size(), stock.total_size());
        drop(stock);
        State {
            segments,
            bytes,
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
    fn finish(&self) {
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

/// Locks, also after a thread panicked with the lock: what such a thread leaves is covered by the
/// poison, and what waits must still be answered.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a wait.
fn waited<T>(wait: LockResult<T>) -> T {
    wait.unwrap_or_else(PoisonError::into_inner)
}
