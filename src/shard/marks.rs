//! How far the shards got: the mark below which every frame was executed by all of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::lsn::Lsn;
use crate::engine::TableEngine;
use crate::wal::Wal;

/// Called once the frame it waits for is applied.
pub type Applied = Box<dyn FnOnce() + Send>;

/// The applied mark, shared by feeder, workers and those who wait for it.
///
/// Lock order: this lock, then nothing; log and engine take their news as atomics.
pub struct Marks {
    inner: Mutex<Inner>,
    wal: Wal,
    engine: Arc<dyn TableEngine>,
}

struct Inner {
    /// Every frame up to here was executed by all shards that have a part in it.
    applied: Lsn,
    /// For each frame behind `applied`, in order, how many shards still have it.
    open: VecDeque<u32>,
    waiting: BTreeMap<Lsn, Vec<Applied>>,
    /// Nobody executes frames any more.
    is_abandoned: bool,
}

impl Marks {
    /// Marks that begin behind `checkpoint`.
    pub fn new(checkpoint: Lsn, wal: Wal, engine: Arc<dyn TableEngine>) -> Self {
        let inner = Inner {
            applied: checkpoint,
            open: VecDeque::new(),
            waiting: BTreeMap::new(),
            is_abandoned: false,
        };
        Self { inner: Mutex::new(inner), wal, engine }
    }

    /// Every frame up to here was executed.
    pub fn applied(&self) -> Lsn {
        self.lock().applied
    }

    /// The feeder hands frame `lsn`, the one behind the last, to `parts` shards.
    pub fn fed(&self, lsn: Lsn, parts: u32) {
        let mut inner = self.lock();
        assert_eq!(inner.applied.0 + inner.open.len() as u64 + 1, lsn.0, "frames come in order");
        inner.open.push_back(parts);
        self.advance(inner);
    }

    /// One shard has executed its part of frame `lsn`.
    pub fn executed(&self, lsn: Lsn) {
        let mut inner = self.lock();
        assert!(lsn > inner.applied, "a frame is executed once by each of its shards");
        let at = usize::try_from(lsn.0 - inner.applied.0 - 1).expect("open frames fit memory");
        let parts = inner.open.get_mut(at).expect("a frame is fed before it is executed");
        *parts = parts.checked_sub(1).expect("a frame is executed once by each of its shards");
        self.advance(inner);
    }

    /// Calls `then` once frame `lsn` is applied; at once if it is. Drops it without a call once the
    /// marks are [abandoned](Self::abandon).
    pub fn when_applied(&self, lsn: Lsn, then: Applied) {
        let mut inner = self.lock();
        if lsn <= inner.applied {
            drop(inner);
            then();
        } else if !inner.is_abandoned {
            inner.waiting.entry(lsn).or_default().push(then);
        }
    }

    /// Tells those who wait that the mark will not come to them: feeder and workers have ended, or
    /// one of them for good. Their frames stay in the log and are executed at the next start.
    pub fn abandon(&self) {
        let mut inner = self.lock();
        inner.is_abandoned = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        // Outside the lock: dropping one wakes whoever waits.
        drop(waiting);
    }

    /// Moves the mark over every frame that all shards have executed, and tells log, engine and those
    /// who wait.
    fn advance(&self, mut inner: std::sync::MutexGuard<'_, Inner>) {
        let before = inner.applied;
        while inner.open.front() == Some(&0) {
            inner.open.pop_front();
            inner.applied = inner.applied.next();
        }
        let applied = inner.applied;
        if applied == before {
            return;
        }
        // Under the lock, so that two workers cannot tell their news in the wrong order.
        self.wal.set_applied(applied);
        self.engine.applied(applied);
        if inner.waiting.is_empty() {
            return;
        }
        let still = inner.waiting.split_off(&applied.next());
        let done = std::mem::replace(&mut inner.waiting, still);
        drop(inner);
        for then in done.into_values().flatten() {
            then();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // A panic under this lock is a broken invariant; the mark it leaves is at worst too low.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// [Abandons](Marks::abandon) the marks when it is dropped by a panic. To be made before what throws
/// the poison, so that it is dropped after it: who is told must not find a server that takes more.
pub(super) struct AbandonOnPanic(pub(super) Arc<Marks>);

impl Drop for AbandonOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
    }
}

impl fmt::Debug for Marks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.lock();
        f.debug_struct("Marks")
            .field("applied", &inner.applied)
            .field("open", &inner.open.len())
            .field("waiting", &inner.waiting.len())
            .finish_non_exhaustive()
    }
}
