//! What the shards share: the marks, the bound of memory, and the thread that flushes.
//!
//! # Marks
//!
//! `stored` is, per bucket, the last frame whose records are all in files. It advances when a flush
//! has committed, to the frame up to which the flushed store had everything, and, while a shard has no
//! row that waits for a flush, with the mark `applied`: what was written up to there left no row
//! behind, since it was rejected or changed nothing, and would again. Only marks that a flush
//! commits are durable; the others are at worst forgotten, and such frames are executed again.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::engine::catalog::Catalog;
use crate::engine::{EngineError, EngineState, Flushed, ShardId};
use crate::record::codec::{BUCKETS, Bucket};

use super::commit::CommitError;
use super::disk::Disk;
use super::files::Files;
use super::flush::Flush;
use super::magnetic::Magnetic;
use super::manifest::Manifest;
use super::options::Options;
use super::order::Orders;
use super::recover;
use super::replay::Replay;
use super::runs::Runs;
use super::tidy::{Committing, Counts};
use super::write::{Frozen, Held, Remembered, ShardState};

/// How often the flush thread looks at the age of the stores, and how long it rests after a failure.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a flush waits for shards that are inside a frame, so that all go into the same files.
const GATHER_STEP: Duration = Duration::from_millis(5);
const GATHER_STEPS: usize = 20;

/// How long [`Inner::flush`] waits for a shard to end its frame and the disk to take the files.
const FLUSH_STEPS_MAX: usize = 240;

/// The part of all memory, one in so many, that series without rows may take.
const SERIES_PART: usize = 2;

/// The same for what is known of series that are not kept.
const HISTORY_PART: usize = 8;

/// What the shards and the flush thread share.
pub(super) struct Inner {
    pub(super) options: Options,
    pub(super) clock: SharedClock,
    pub(super) catalog: Arc<Catalog>,
    pub(super) magnetic: Magnetic,
    /// As the last commit left it; locked by whoever commits, from looking at the files on.
    pub(super) manifest: Mutex<Manifest>,
    /// Locked, before the manifest, by whoever tidies.
    pub(super) tidying: Mutex<()>,
    pub(super) counts: Counts,
    pub(super) shards: Box<[Mutex<ShardState>]>,
    /// Whether a shard has no row that waits for a flush. Stored with Release under the shard's
    /// lock, loaded with Acquire by [`Inner::applied`].
    pub(super) is_idle: Box<[AtomicBool]>,
    /// By bucket. Stored with Release (`fetch_max`), loaded with Acquire by the engine's callers.
    pub(super) stored: [AtomicU64; BUCKETS],
    /// Stored with Release by [`Inner::applied`], loaded with Acquire by the flush thread.
    applied: AtomicU64,
    /// Bytes of all active stores. Relaxed: a bound, not an order.
    active_bytes: AtomicUsize,
    /// Of these, what series take whether they have rows or not. Relaxed, likewise.
    series_bytes: AtomicUsize,
    pub(super) replay: Replay,
    /// Bytes of all frozen stores. Relaxed: a bound, not an order.
    frozen_bytes: AtomicUsize,
    /// Thrown when a flush may or may not have happened, or none will happen any more.
    pub(super) fault: Poison,
    pub(super) signal: Mutex<Signal>,
    /// Where rows of some dimensions stand in files.
    pub(super) runs: Runs,
    /// There is work for the flush thread.
    wake: Condvar,
    /// The thread that tidies shall end.
    pub(super) tidy_wake: Condvar,
    /// A flush has ended.
    room: Condvar,
}

/// How the flush thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With what it is at.
    AtOnce,
    /// When all that is committed was flushed.
    AfterFlush,
}

/// What threads tell each other.
#[derive(Debug, Default)]
pub(super) struct Signal {
    /// Somebody wants a flush.
    pub(super) is_flush_wanted: bool,
    /// Whether and how the flush thread shall end.
    pub(super) end: Option<End>,
    /// Whether the flush thread has ended.
    has_ended: bool,
    /// Stores flushed since start, by shard.
    flushed: Vec<u64>,
    /// Why the last flush failed, until one succeeds.
    failure: Option<EngineError>,
    /// What was flushed since the start.
    totals: Flushed,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}

/// A panic elsewhere poisons a mutex; what it guards stays whole, since rows are appended before they
/// are indexed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what took `before` bytes and takes `after`.
fn account(bytes: &AtomicUsize, before: usize, after: usize) {
    if after >= before {
        bytes.fetch_add(after - before, Ordering::Relaxed);
    } else {
        bytes.fetch_sub(before - after, Ordering::Relaxed);
    }
}

impl Inner {
    pub(super) fn open(
        options: Options,
        shards: usize,
        catalog: Arc<Catalog>,
        clock: SharedClock,
        disk: Arc<Disk>,
    ) -> Result<Self, EngineError> {
        assert!((1..=BUCKETS).contains(&shards), "a shard owns at least one bucket");
        let cache_bytes_max = options.cache_bytes_max.as_usize();
        let (magnetic, manifest) = recover::open(&options.dir, cache_bytes_max, &catalog, disk)?;
        let marks = &manifest.stored;
        Ok(Self {
            clock,
            catalog,
            magnetic,
            shards: std::iter::repeat_with(Mutex::default).take(shards).collect(),
            is_idle: std::iter::repeat_with(|| AtomicBool::new(true)).take(shards).collect(),
            stored: std::array::from_fn(|at| AtomicU64::new(marks[at].0)),
            applied: AtomicU64::new(0),
            active_bytes: AtomicUsize::new(0),
            series_bytes: AtomicUsize::new(0),
            replay: Replay::default(),
            frozen_bytes: AtomicUsize::new(0),
            fault: Poison::new(),
            signal: Mutex::new(Signal { flushed: vec![0; shards], ..Signal::default() }),
            runs: Runs::default(),
            wake: Condvar::new(),
            tidy_wake: Condvar::new(),
            room: Condvar::new(),
            manifest: Mutex::new(manifest),
            tidying: Mutex::new(()),
            counts: Counts::default(),
            options,
        })
    }

    pub(super) fn shard(&self, shard: ShardId) -> MutexGuard<'_, ShardState> {
        lock(&self.shards[shard.0 as usize])
    }

    /// Changes the signal and wakes the flush thread.
    pub(super) fn signal(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut lock(&self.signal));
        self.wake.notify_all();
    }

    /// Tells both threads to end.
    pub(super) fn end(&self, how: End) {
        self.signal(|signal| signal.end = Some(how));
        self.tidy_wake.notify_all();
    }

    /// Hears that a shard's active stores took `before` and take `after`.
    pub(super) fn account_active(&self, before: Held, after: Held) {
        account(&self.active_bytes, before.bytes, after.bytes);
        account(&self.series_bytes, before.series_bytes, after.series_bytes);
    }

    /// Whether the active stores have grown to where they are flushed: to `flush_bytes` without what
    /// series take. Counted with it, a million series would leave room for one row of each, and a
    /// flush that writes the names of each for one row costs three times as much a row.
    pub(super) fn is_full(&self) -> bool {
        let bytes = self.active_bytes.load(Ordering::Relaxed);
        if bytes >= self.options.flush_bytes_most().as_usize() {
            return true;
        }
        let of_rows = bytes.saturating_sub(self.series_bytes.load(Ordering::Relaxed));
        let most = self.options.flush_bytes_most().as_usize();
        of_rows >= self.options.flush_bytes.as_usize()
            && !self.replay.puts_off(Lsn(self.applied.load(Ordering::Relaxed)), of_rows, most)
    }

    /// The last frame up to which every record is in files.
    pub(super) fn stored_in_all(&self) -> Lsn {
        let marks = self.stored.iter().map(|mark| Lsn(mark.load(Ordering::Acquire)));
        marks.min().unwrap_or_default()
    }

    fn memory_bytes(&self) -> usize {
        self.active_bytes.load(Ordering::Relaxed) + self.frozen_bytes.load(Ordering::Relaxed)
    }

    /// Waits until there is memory for a batch. Where every row belongs to a frame that is not
    /// committed yet, waiting would never end, and the batch may exceed the bound: by the frames that
    /// each shard executes together at most.
    pub(super) fn wait_for_room(&self) -> Result<(), EngineError> {
        let bytes_max = self.options.memory_bytes_max.as_usize();
        while self.memory_bytes() >= bytes_max {
            self.check_fault()?;
            self.freeze_ready();
            if self.frozen_bytes.load(Ordering::Relaxed) == 0 {
                return Ok(());
            }
            let mut signal = lock(&self.signal);
            if let Some(failure) = &signal.failure {
                return Err(EngineError::Busy { what: format!("memory is full: {failure}") });
            }
            if signal.has_ended {
                return Err(EngineError::Busy { what: "the engine is closed".to_owned() });
            }
            signal.is_flush_wanted = true;
            self.wake.notify_all();
            let woken = self.room.wait_timeout(signal, LOOK_EVERY);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
        Ok(())
    }

    pub(super) fn check_fault(&self) -> Result<(), EngineError> {
        match self.fault.reason() {
            None => Ok(()),
            Some(reason) => Err(EngineError::Corrupt {
                path: self.options.dir.display().to_string(),
                what: format!("a flush was interrupted, a restart completes it: {reason}"),
            }),
        }
    }

    pub(super) fn commit(&self, shard: ShardId, lsn: Lsn) {
        let mut state = self.shard(shard);
        assert!(state.committed <= lsn, "a shard commits its frames in order");
        state.committed = lsn;
        state.is_mid_frame = false;
        if state.is_freeze_wanted || state.is_nearly_full() {
            self.freeze(&mut state);
        }
        self.note_idle(shard.0 as usize, &state);
        drop(state);
        let is_full = self.is_full();
        if is_full || self.frozen_bytes.load(Ordering::Relaxed) > 0 {
            self.signal(|signal| signal.is_flush_wanted |= is_full);
        }
    }

    /// Freezes what the shard has; it is between frames.
    fn freeze(&self, state: &mut ShardState) {
        let of_shard = self.options.memory_bytes_max.as_usize() / self.shards.len();
        let bounds = Remembered {
            series_bytes_max: of_shard / SERIES_PART,
            history_bytes_max: of_shard / HISTORY_PART,
        };
        let before = state.held();
        let has_frozen = state.freeze(bounds);
        self.account_active(before, state.held());
        if has_frozen {
            let bytes = state.frozen.last().expect("just frozen").bytes;
            self.frozen_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Freezes every shard that is between frames, and asks the others to freeze at their commit.
    /// Returns, for each shard, how many stores it will have frozen then.
    fn freeze_ready(&self) -> Vec<u64> {
        let freeze = |shard: &Mutex<ShardState>| {
            let mut state = lock(shard);
            if state.active_rows() == 0 {
                return state.frozen_count;
            }
            if state.is_mid_frame {
                state.is_freeze_wanted = true;
                return state.frozen_count + 1;
            }
            self.freeze(&mut state);
            state.frozen_count
        };
        self.shards.iter().map(freeze).collect()
    }

    /// Whether a shard was asked to freeze and has not yet.
    fn is_freeze_pending(&self) -> bool {
        self.shards.iter().any(|shard| lock(shard).is_freeze_wanted)
    }

    fn note_idle(&self, shard: usize, state: &ShardState) {
        self.is_idle[shard].store(state.is_empty(), Ordering::Release);
    }

    pub(super) fn applied(&self, lsn: Lsn) {
        let before = self.applied.fetch_max(lsn.0, Ordering::AcqRel);
        assert!(before <= lsn.0, "the mark of what was applied never goes back");
        for shard in 0..self.shards.len() {
            // Every write up to `lsn` came before this call: a shard that is idle now has none of it.
            if self.is_idle[shard].load(Ordering::Acquire) {
                self.advance(shard, lsn);
            }
        }
    }

    /// Advances the marks of a shard's buckets to `lsn`, where they are not further already.
    fn advance(&self, shard: usize, lsn: Lsn) {
        for bucket in self.buckets_of(shard) {
            self.stored[bucket].fetch_max(lsn.0, Ordering::AcqRel);
        }
    }

    fn buckets_of(&self, shard: usize) -> impl Iterator<Item = usize> {
        let shards = self.shards.len();
        (0..BUCKETS).filter(move |&bucket| {
            let bucket = Bucket(u8::try_from(bucket).expect("there are 64 buckets"));
            bucket.shard(shards) == shard
        })
    }

    /// Flushes what is committed, and waits for it.
    pub(super) fn flush(&self) -> Result<(), EngineError> {
        self.check_fault()?;
        let wanted = self.freeze_ready();
        let mut signal = lock(&self.signal);
        signal.failure = None;
        for _ in 0..FLUSH_STEPS_MAX {
            if signal.flushed.iter().zip(&wanted).all(|(flushed, wanted)| flushed >= wanted) {
                return Ok(());
            }
            if let Some(failure) = &signal.failure {
                return Err(failure.clone());
            }
            if signal.has_ended {
                return Err(EngineError::Busy { what: "the engine is closed".to_owned() });
            }
            signal.is_flush_wanted = true;
            self.wake.notify_all();
            let woken = self.room.wait_timeout(signal, LOOK_EVERY);
            signal = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        Err(EngineError::Busy { what: "a shard does not end its frame".to_owned() })
    }

    pub(super) fn state(&self) -> EngineState {
        let mut state = EngineState {
            memory_bytes: self.memory_bytes() as u64,
            memory_bytes_max: self.options.memory_bytes_max.0,
            tidied: self.counts.read(),
            ..EngineState::default()
        };
        for shard in &self.shards {
            let shard = lock(shard);
            state.memory_rows += shard.active_rows();
            state.memory_rows += shard.frozen.iter().map(|frozen| frozen.rows).sum::<u64>();
            let frozen = shard.frozen.iter().flat_map(|frozen| frozen.tables.values());
            // Whoever was passed a directory counts its series.
            let frozen = frozen.filter(|store| !store.directory().is_passed_on());
            let stores = shard.active.values().chain(frozen);
            state.series += stores.map(|store| store.keys().len() as u64).sum::<u64>();
        }
        (state.files, state.file_bytes) = self.magnetic.files(Files::totals);
        let signal = lock(&self.signal);
        state.flushed = signal.totals;
        let failure = signal.failure.as_ref().map(ToString::to_string);
        drop(signal);
        state.needs_restart = self.fault.is_thrown();
        state.fault = self.fault.reason().map(str::to_owned).or(failure);
        state
    }

    /// Flushes all frozen stores. Returns whether there were any.
    fn flush_frozen(&self, orders: &mut Orders) -> Result<bool, EngineError> {
        self.check_fault()?;
        let of_shards: Vec<Vec<Arc<Frozen>>> =
            self.shards.iter().map(|shard| lock(shard).frozen.clone()).collect();
        let frozen: Vec<Arc<Frozen>> = of_shards.iter().flatten().map(Arc::clone).collect();
        if frozen.is_empty() {
            return Ok(false);
        }
        let started = self.clock.monotonic();
        let mut manifest = lock(&self.manifest);
        // Again: whoever had the lock may have left a manifest of which nobody knows how it is found.
        self.check_fault()?;
        let mut marks: Vec<Lsn> =
            self.stored.iter().map(|mark| Lsn(mark.load(Ordering::Acquire))).collect();
        for (shard, frozen) in of_shards.iter().enumerate() {
            let Some(last) = frozen.last() else { continue };
            for bucket in self.buckets_of(shard) {
                marks[bucket] = marks[bucket].max(last.lsn);
            }
        }
        let (magnetic, catalog) = (&self.magnetic, &*self.catalog);
        let guard = Committing(self);
        let mut flush = Flush { magnetic, catalog, manifest: &mut manifest, orders };
        let bytes = match flush.run(&frozen, &marks) {
            Ok(bytes) => bytes,
            Err(CommitError::Before(error)) => return Err(error),
            Err(CommitError::During(error)) => {
                self.fault.throw(error.to_string());
                return Err(error);
            }
        };
        drop(guard);
        drop(manifest);
        let rows = frozen.iter().map(|frozen| frozen.rows).sum();
        drop(frozen);
        self.let_go(&of_shards);
        self.count_flush(rows, bytes, self.clock.monotonic().saturating_sub(started));
        Ok(true)
    }

    fn count_flush(&self, rows: u64, bytes: u64, took: Duration) {
        let last_ns = self.clock.wall_ns();
        let totals = &mut lock(&self.signal).totals;
        *totals = Flushed {
            flushes: totals.flushes + 1,
            failures: totals.failures,
            rows: totals.rows + rows,
            bytes: totals.bytes + bytes,
            took: totals.took + took,
            last_ns,
            last_took: took,
            last_rows: rows,
        };
    }

    /// Lets go of stores whose rows are in files that count, and advances the marks.
    fn let_go(&self, of_shards: &[Vec<Arc<Frozen>>]) {
        // Before the stores are looked at: see `applied`.
        let applied = Lsn(self.applied.load(Ordering::Acquire));
        for (shard, flushed) in of_shards.iter().enumerate() {
            let mut state = lock(&self.shards[shard]);
            for (flushed, kept) in flushed.iter().zip(&state.frozen) {
                assert!(Arc::ptr_eq(flushed, kept), "the oldest stores are flushed first");
            }
            state.frozen.drain(..flushed.len());
            if let Some(last) = flushed.last() {
                self.advance(shard, last.lsn);
            }
            if !state.is_mid_frame {
                self.note_idle(shard, &state);
                if state.is_empty() {
                    self.advance(shard, applied);
                }
            }
            drop(state);
            let bytes = flushed.iter().map(|frozen| frozen.bytes).sum();
            self.frozen_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        let mut signal = lock(&self.signal);
        for (count, flushed) in signal.flushed.iter_mut().zip(of_shards) {
            *count += flushed.len() as u64;
        }
        signal.failure = None;
    }

    /// Whether the oldest row of an active store is older than it may become.
    fn is_due(&self) -> bool {
        let now = self.clock.monotonic();
        let interval = self.options.flush_interval.0;
        self.shards.iter().any(|shard| {
            let state = lock(shard);
            state.active_rows() > 0
                && state.first_write.is_some_and(|first| now.saturating_sub(first) >= interval)
        })
    }

    /// Waits for work. Returns whether a flush is wanted and whether the thread shall end.
    fn wait_for_work(&self) -> (bool, Option<End>) {
        let mut signal = lock(&self.signal);
        // After a failure the wish stands already, and trying again at once would only spin.
        let is_quiet = !signal.is_flush_wanted || signal.failure.is_some();
        if is_quiet && signal.end.is_none() {
            let woken = self.wake.wait_timeout(signal, LOOK_EVERY);
            signal = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        (std::mem::take(&mut signal.is_flush_wanted), signal.end)
    }

    /// Gives shards that are inside a frame a moment to freeze, so that one file has all rows.
    fn gather(&self) {
        for _ in 0..GATHER_STEPS {
            // Where memory is full, the shards that are waited for may wait for this flush.
            let is_full = self.memory_bytes() >= self.options.memory_bytes_max.as_usize();
            if is_full || !self.is_freeze_pending() {
                return;
            }
            let signal = lock(&self.signal);
            if signal.end.is_some() {
                return;
            }
            let woken = self.wake.wait_timeout(signal, GATHER_STEP);
            drop(woken.unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Tells whoever waits for the flush thread that it has ended, also when it panicked: a shard would
/// otherwise wait for room for ever.
struct LastWords<'i>(&'i Inner);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fault.throw("the flush thread panicked");
        }
        lock(&self.0.signal).has_ended = true;
        self.0.room.notify_all();
    }
}

/// The loop of the thread `engine-flush`.
pub(super) fn run(inner: &Inner) {
    let _last = LastWords(inner);
    // Nobody else's: whoever looks things up or writes needs no order, and waits for none.
    let mut orders = Orders::default();
    loop {
        let (is_wanted, end) = inner.wait_for_work();
        if end == Some(End::AtOnce) {
            break;
        }
        if is_wanted || end.is_some() || inner.is_due() {
            inner.freeze_ready();
            inner.gather();
        }
        match inner.flush_frozen(&mut orders) {
            Ok(_) => {}
            Err(error) => {
                let mut signal = lock(&inner.signal);
                if signal.failure.is_none() {
                    tracing::error!(%error, "flush failed; memory and log keep the records");
                }
                signal.totals.failures += 1;
                signal.failure = Some(error);
            }
        }
        inner.room.notify_all();
        if end.is_some() {
            break;
        }
    }
}
