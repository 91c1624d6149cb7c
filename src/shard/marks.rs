//! How far the shards got: the mark below which every frame was executed by all of them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::lsn::Lsn;
use crate::engine::TableEngine;
use crate::record::limits::REFUSALS_NAMED_MAX;
use crate::record::request::Rejection;
use crate::wal::Wal;

/// Called once the frame it waits for is applied, with what the engine refused of it.
pub type Applied = Box<dyn FnOnce(Verdicts) + Send>;

/// What the engine refused of one frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// Records refused.
    pub rejected: u64,
    /// The first of them to be met, at most [`Hearing::named_max`], in no order.
    pub named: Vec<Verdict>,
}

/// One record that the engine refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Its line or index in the request.
    pub number: u64,
    /// Why.
    pub rejection: Rejection,
}

/// What somebody who waits for a frame hears of what the engine refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// What a reply can name; and not the conflicts of late records, which their table has reported
    /// elsewhere.
    ForReply,
    /// Every record, by name.
    Everything,
}

impl Hearing {
    /// Most refusals that are named.
    pub const fn named_max(self) -> usize {
        match self {
            Self::ForReply => REFUSALS_NAMED_MAX,
            Self::Everything => usize::MAX,
        }
    }
}

/// Somebody who wants to know what became of a frame.
struct Waiting {
    then: Applied,
    hearing: Hearing,
    verdicts: Verdicts,
}

/// The applied mark, shared by feeder, workers and those who wait for it.
///
/// Lock order: the log's lock, under which a frame's waiter is registered, then this one, then
/// nothing; log and engine take their news as atomics.
pub struct Marks {
    inner: Mutex<Inner>,
    wal: Wal,
    engine: Arc<dyn TableEngine>,
}

/// A frame on its way to the shards.
#[derive(Debug, Clone, Copy)]
pub struct Fed {
    /// Its number.
    pub lsn: Lsn,
    /// How many shards have a part in it.
    pub parts: u32,
    /// When its request was received.
    pub received_ns: i64,
}

/// A frame that is not executed by all of its shards.
struct Open {
    /// How many of them still have it.
    parts: u32,
    /// When its request was received.
    received_ns: i64,
}

struct Inner {
    /// Every frame up to here was executed by all shards that have a part in it.
    applied: Lsn,
    /// The frames behind `applied`, in order.
    open: VecDeque<Open>,
    waiting: BTreeMap<Lsn, Waiting>,
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

    /// When the request of the oldest frame was received that the shards have and not all have executed;
    /// `None` where they have none.
    pub fn oldest_received_ns(&self) -> Option<i64> {
        self.lock().open.front().map(|open| open.received_ns)
    }

    /// The feeder hands out `frames`, those behind the last.
    pub fn fed(&self, frames: &[Fed]) {
        let mut inner = self.lock();
        for &Fed { lsn, parts, received_ns } in frames {
            let next = inner.applied.0 + inner.open.len() as u64 + 1;
            assert_eq!(next, lsn.0, "frames come in order");
            inner.open.push_back(Open { parts, received_ns });
        }
        self.advance(inner);
    }

    /// One shard has executed its part of these frames.
    pub fn executed(&self, frames: impl IntoIterator<Item = Lsn>) {
        let mut inner = self.lock();
        for lsn in frames {
            assert!(lsn > inner.applied, "a frame is executed once by each of its shards");
            let at = usize::try_from(lsn.0 - inner.applied.0 - 1).expect("open frames fit memory");
            let open = inner.open.get_mut(at).expect("a frame is fed before it is executed");
            open.parts =
                open.parts.checked_sub(1).expect("a frame is executed once by each of its shards");
        }
        self.advance(inner);
    }

    /// Calls `then` once frame `lsn` is applied, with what was refused of it from now on: to hear all,
    /// register before the frame is durable. At once if it is applied. Drops it without a call once
    /// the marks are [abandoned](Self::abandon). A frame has one that waits.
    pub fn when_applied(&self, lsn: Lsn, then: Applied) {
        self.when_heard(lsn, Hearing::ForReply, then);
    }

    /// The same, for somebody who says what to hear.
    pub fn when_heard(&self, lsn: Lsn, hearing: Hearing, then: Applied) {
        let mut inner = self.lock();
        if lsn <= inner.applied {
            drop(inner);
            then(Verdicts::default());
        } else if !inner.is_abandoned {
            // Before anything is changed: whoever waits goes on waiting.
            let waits = inner.waiting.contains_key(&lsn);
            assert!(!waits, "a frame is one request, and that waits once");
            inner.waiting.insert(lsn, Waiting { then, hearing, verdicts: Verdicts::default() });
        }
    }

    /// The engine has refused a record of frame `lsn`, which is not applied yet.
    pub fn rejected(&self, lsn: Lsn, number: u64, rejection: &Rejection) {
        self.tell(lsn, (number, rejection), |_hearing| true);
    }

    /// The same of a late record, whose conflict is reported where its table says.
    pub fn rejected_late(&self, lsn: Lsn, number: u64, rejection: &Rejection) {
        self.tell(lsn, (number, rejection), |hearing| hearing == Hearing::Everything);
    }

    fn tell(
        &self,
        lsn: Lsn,
        (number, rejection): (u64, &Rejection),
        hears: impl Fn(Hearing) -> bool,
    ) {
        let mut inner = self.lock();
        assert!(lsn > inner.applied, "a frame is executed before it is applied");
        let Some(waiting) = inner.waiting.get_mut(&lsn) else { return };
        if !hears(waiting.hearing) {
            return;
        }
        waiting.verdicts.rejected += 1;
        if waiting.verdicts.named.len() < waiting.hearing.named_max() {
            waiting.verdicts.named.push(Verdict { number, rejection: rejection.clone() });
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
        while inner.open.front().is_some_and(|open| open.parts == 0) {
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
        for waiting in done.into_values() {
            (waiting.then)(waiting.verdicts);
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
