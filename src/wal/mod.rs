//! Floor 2: the write-ahead log, which holds every acknowledged write until it is stored elsewhere.
//!
//! A caller appends a payload and is told when it is as durable as it asked. Readers get the frames
//! back in order, live and after a crash alike. What is stored elsewhere is checkpointed, and its
//! segments are used again.
//!
//! # What is promised
//!
//! | acknowledged as | survives | does not survive |
//! |---|---|---|
//! | [`Durability::Memory`] | the end of the process, `kill -9` included | a power cut, a kernel panic |
//! | [`Durability::Interval`] | the same; a power cut once `sync_interval` has passed | a power cut before that |
//! | [`Durability::Sync`] | a power cut, on a disk that honours a flush | the loss of the disk |
//!
//! A frame is served to a [`Reader`] only once it is synced, so nothing downstream knows a frame that
//! a power cut can take. Damage to what was synced and is not stored elsewhere yet is detected and
//! refused, not repaired: there is one copy. A frame that was appended and not acknowledged may be found after a crash or not; who sends
//! it again must expect both.
//!
//! # What lies in the directory
//!
//! | file | bytes | content | layout |
//! |---|---:|---|---|
//! | `00000000000000000001.wal` | `segment_bytes` | segment 1: a header page, then frames | [`segment`], [`frame`] |
//! | `checkpoint` | 8192 | up to where everything is stored elsewhere | [`checkpoint`] |
//! | `lock` | a few | who has the directory | a process number |
//! | `*.tmp` | any | something that was being made | removed at the next start |
//!
//! **A frame is valid if and only if** its header's check holds under the number and generation of its
//! segment, its payload's check holds, it ends within the segment, and its LSN is the one expected:
//! the segment's `first`, or that of the frame before it plus one.
//!
//! # How it works
//!
//! | step | thread | what | then |
//! |---|---|---|---|
//! | append | the caller's | checks the payload, takes a number and a place, copies into the pending group | returns |
//! | write | `wal-commit` | takes the whole group, completes the headers, one write a segment | tells `memory`, `interval` |
//! | sync | `wal-commit` | one `fdatasync`, if somebody waits for it or the interval is over | durable mark; tells `sync` |
//! | rotate | `wal-commit` | syncs the full segment; writes and syncs the header of the next | goes on there |
//! | prepare | `wal-prepare` | recycles or makes the next segment ahead of need | |
//! | checkpoint | the caller's | writes and syncs the checkpoint, keeps or gives free segments | |
//! | retain | the caller's, `wal-prepare` | gives free, oldest first, what `wal.retain` keeps no longer | |
//!
//! While one group is synced the next gathers: no timer decides the size of a group, and an idle log
//! sleeps. A frame lies in one segment; what is left of a segment when the next frame does not fit
//! stays as it is. Nobody waits for ever: memory, disk and the queue between are bounded, and a full
//! one answers [`WalError::Full`]. Segments below the checkpoint may be kept for a while, to be sent again; they take
//! room that writes do not need, and give way before the log is full.
//!
//! **A failed write or sync is never tried again.** The kernel may have dropped the pages and report
//! success next time, and a read would show bytes that the device does not have. The poison is thrown
//! first, then who waits is told. The next start syncs each segment, drops its page cache, and reads
//! what the device has. Only a shortage of space while making a *new* segment is no fault: the log is
//! full until there is space.
//!
//! # Why a crash at any byte is safe
//!
//! The device may have any part of what was not synced, in any order, torn at 512 bytes.
//!
//! *What was synced is found.* Frames are found by walking from a segment's first. All before a synced
//! frame in its segment are synced by the same or an earlier sync of the same file. The segment's own
//! header was synced before its first frame was written, its name before that, and all frames of the
//! segments before were synced before that header was written. The checkpoint that gives a segment
//! free is synced before the file is renamed or removed.
//!
//! *What was not synced is told from damage.* A frame that is not valid was either never synced (drop
//! it and all behind it) or damaged (refuse). There are three witnesses of what was synced: the
//! `first` of a later segment; `durable` in the header of any later frame or mark of the segment, the
//! commit thread's knowledge when it wrote them; `durable` in the checkpoint. The frame was synced if
//! a witness says so. It need not be asked whether valid frames lie behind the gap: after a power cut
//! they may, un-synced pages arrive in any order, and all of them then carry a `durable` before the
//! gap. What no witness knows is dropped although it may have been acknowledged only if the last
//! synced group was damaged and nothing was written after it: no frame, no mark, no clean close. A
//! power cut that strikes then leaves a frame that nobody can tell from a torn one.
//!
//! *What was dropped never comes back.* Frames behind a gap stay in their file, valid under its
//! generation. Recovery puts new frames into another segment, or into the same under a new generation
//! if it holds none, and the later segment's `first` ends the older one. So does recycling: the
//! header with the new number and generation is synced, under a temporary name, before the file has
//! its new name. Equal bytes under different seeds have different checks.
//!
//! *What is stored elsewhere is not needed.* Nothing below the checkpoint is applied again: readers
//! begin behind it, whatever segments are kept. So damage below it, in kept segments or in the
//! checkpoint's own, is told and passed over. Only where the chain of frames cannot be found again
//! before the first frame beyond the checkpoint is a start refused, if a witness knows such a frame:
//! [`recovery`] has the argument.
//!
//! *A crash while recovering* changes nothing: recovery first reads and judges everything, and only
//! then removes leftovers, begins a segment, and writes the checkpoint, each harmless to repeat.
//!
//! # Where to read on
//!
//! [`frame`] and [`segment`] have the layouts; [`appender`], [`committer`], [`prepare`] and
//! [`reclaim`] the algorithms in the order a frame meets them, and [`retain`] what is kept beyond them;
//! [`recovery`] tells the [`cases`] apart;
//! [`inspect`] how a log is judged beside its server, [`salvage`] what is made of a broken one, and
//! [`begin`] of one that is gone;
//! [`map`] why lending mapped bytes is sound; [`disk`] the seam by which tests lose power and fail any
//! operation.

pub mod begin;
pub mod bytes;
pub mod disk;
pub mod inspect;
pub mod salvage;
pub mod scan;

mod appender;
mod cases;
mod checkpoint;
mod committer;
mod error;
mod frame;
mod log;
mod map;
mod marks;
mod options;
mod prepare;
mod reader;
mod reclaim;
mod recovery;
mod retain;
mod segment;
mod walk;

#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::error;

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

use disk::RealDisk;
use log::Log;

/// Who is told what became of an appended frame. Called exactly once, on the commit thread, which
/// does nothing else meanwhile: it must not block.
pub type Done = Box<dyn FnOnce(Result<Lsn, CommitError>) + Send>;

/// Hears what the log does, for metrics. Called on the commit thread: it must not block.
pub trait Observer: Debug + Send + Sync {
    /// A group was written, or what was written was synced; of a rotation, which a group may wait
    /// for, each sync is told by itself.
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
    /// Segments below the checkpoint that `wal.retain_bytes` or `wal.retain_for` keeps.
    pub segments_retained: u64,
    /// Bytes of them.
    pub bytes_retained: u64,
    /// Bytes of all segment files: also the kept ones, the spare, and those that wait to be used again.
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
    log: Arc<Log>,
    /// Taken by whoever closes.
    threads: Mutex<Vec<Thread>>,
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
        let (log, committer) = Log::open(options, disk, clock, poison, observer)?;
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
    /// [`WalError::Closed`], [`WalError::Exhausted`]: this log takes nothing more.
    pub fn append(
        &self,
        payload: &[u8],
        durability: Durability,
        done: Done,
    ) -> Result<Lsn, WalError> {
        appender::append(&self.owner.log, payload, durability, |_| {}, done)
    }

    /// Appends like [`Wal::append`], and calls `numbered` with the frame's number before any reader
    /// can meet it: whoever wants to hear of the frame registers there. It runs under the log's lock,
    /// so it must be short and may not call the log.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`]; `numbered` was not called.
    pub fn append_numbered(
        &self,
        payload: &[u8],
        durability: Durability,
        numbered: impl FnOnce(Lsn),
        done: Done,
    ) -> Result<Lsn, WalError> {
        appender::append(&self.owner.log, payload, durability, numbered, done)
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

/// Locks, also after a thread panicked with the lock: what such a thread leaves is covered by the
/// poison, and what waits must still be answered.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same for a wait.
fn waited<T>(wait: LockResult<T>) -> T {
    wait.unwrap_or_else(PoisonError::into_inner)
}
