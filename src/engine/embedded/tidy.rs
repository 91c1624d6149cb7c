//! The thread `engine-compact`: small files become one, expired days and deleted tables go.
//!
//! # Retention
//!
//! A row lives until its time is before [`Retention::alive_from_ns`](crate::engine::catalog::Retention::alive_from_ns)
//! of its table; with the longest retention that a table can have, for ever. **A row that does not
//! live does not exist**: from that moment no scan shows it, whatever it still stands in. It needs no
//! version rule: whatever could meet it has its key, and so its time, and does not live either. Such
//! a record is answered as stored and leaves no row, so that no file is made only to be dropped; what
//! a caller should be told of it is decided before it reaches the engine.
//!
//! On the disk a day goes as a whole, when its last nanosecond does not live: first the manifest
//! without its files, then the files. So a reader of the folder sees rows up to a day longer than
//! `/export` does. Where a table's retention becomes longer, what has not gone by then is seen again.
//! The clock is the machine's and not the record's receipt: a replay may find that a record has
//! expired meanwhile, and then leaves no row, which nobody could see anyway.
//!
//! # Deleted tables
//!
//! A table that the catalog does not know any more is shown by no scan. Its stores are let go, its
//! files go with the manifest that does not name them, and its folders when they are empty
//! ([`super::folders`]); what a crash leaves of them goes at the next start ([`super::recover`]).
//!
//! # Erased rows
//!
//! See [`super::erase`].
//!
//! # When
//!
//! Once in [`TIDY_EVERY`]. A pass that finds nothing looks at the days whose files have changed since the
//! last one, and at the first day of each table. After a failure the
//! next pass comes after [`REST`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::engine::{EngineError, Tidied};
use crate::record::TableId;

use super::commit::{Changes, CommitError};
use super::compact::{CONFLICTS_MAX, Job, choose};
use super::flusher::{Inner, lock};
use super::magnetic::MagneticFile;
use super::manifest::Manifest;
use super::partition::day_end;

/// How often the thread looks for work.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// How often it looks at the clock.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long it rests after a failure: a disk that is full or a file that is damaged does not become
/// well by being tried again at once.
const REST: Duration = Duration::from_mins(1);

/// What was tidied since the start. Relaxed: each is a count and orders nothing.
#[derive(Debug, Default)]
pub(super) struct Counts {
    compactions: AtomicU64,
    compacted_files: AtomicU64,
    compacted_bytes: AtomicU64,
    expired_files: AtomicU64,
    expired_rows: AtomicU64,
    expired_bytes: AtomicU64,
    deleted_files: AtomicU64,
    compaction_ns: AtomicU64,
}

impl Counts {
    pub(super) fn read(&self) -> Tidied {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Tidied {
            compactions: read(&self.compactions),
            compacted_files: read(&self.compacted_files),
            compacted_bytes: read(&self.compacted_bytes),
            expired_files: read(&self.expired_files),
            expired_rows: read(&self.expired_rows),
            expired_bytes: read(&self.expired_bytes),
            deleted_files: read(&self.deleted_files),
            compaction_ns: read(&self.compaction_ns),
        }
    }
}

/// A commit that panics leaves it open what counts. Made behind the lock of the manifest, so that it is
/// dropped before it: whoever waits for that lock finds the fault.
pub(super) struct Committing<'i>(pub(super) &'i Inner);

impl Drop for Committing<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fault.throw("a commit of files panicked");
        }
    }
}

impl Inner {
    /// Does all there is to do, now. Returns early when the engine ends.
    pub(super) fn tidy(&self) -> Result<(), EngineError> {
        let _one_at_a_time = lock(&self.tidying);
        self.check_fault()?;
        self.forget_deleted()?;
        self.drop_expired()?;
        self.erase(self.stored_in_all())?;
        self.compact()?;
        self.remove_empty_folders()
    }

    fn compact(&self) -> Result<(), EngineError> {
        let mut conflicts = 0;
        while let Some(job) = self.next_job() {
            let number = {
                let mut manifest = lock(&self.manifest);
                manifest.next_file += 1;
                manifest.next_file - 1
            };
            let started = self.clock.monotonic();
            let is_over = || self.is_ending();
            let Some(changes) = job.run(&self.magnetic, number, &is_over)? else { return Ok(()) };
            let mut manifest = lock(&self.manifest);
            if !job.is_current(&self.magnetic) {
                drop(manifest);
                changes.discard();
                conflicts += 1;
                if conflicts == CONFLICTS_MAX {
                    return Ok(());
                }
                continue;
            }
            let bytes = changes.written.iter().map(|written| written.file.meta.bytes).sum();
            self.commit_tidied(&changes, &mut manifest)?;
            let took = self.clock.monotonic().saturating_sub(started).as_nanos();
            let took = u64::try_from(took).unwrap_or(u64::MAX);
            self.counts.compaction_ns.fetch_add(took, Ordering::Relaxed);
            self.counts.compactions.fetch_add(1, Ordering::Relaxed);
            self.counts.compacted_files.fetch_add(job.files.len() as u64, Ordering::Relaxed);
            self.counts.compacted_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn next_job(&self) -> Option<Job> {
        let count = self.options.compact_files as usize;
        self.magnetic.change(|files| {
            files.choose(|id, day, of_day| {
                let table = self.catalog.get(id)?;
                choose(of_day, count).map(|files| Job { table, day, files })
            })
        })
    }

    fn drop_expired(&self) -> Result<(), EngineError> {
        let now_ns = self.clock.wall_ns();
        let mut manifest = lock(&self.manifest);
        let mut expired: Vec<Arc<MagneticFile>> = Vec::new();
        self.magnetic.files(|files| {
            for (id, of_table) in files.tables() {
                let Some(table) = self.catalog.get(id) else { continue };
                let alive_from_ns = table.retention().alive_from_ns(now_ns);
                let days = of_table.days().iter();
                let gone = days.take_while(|(day, _)| day_end(**day) <= alive_from_ns);
                expired.extend(gone.flat_map(|(_, files)| &**files).map(Arc::clone));
            }
        });
        if expired.is_empty() {
            return Ok(());
        }
        let count = expired.len() as u64;
        let rows = expired.iter().map(|file| file.meta.rows).sum();
        let bytes = expired.iter().map(|file| file.meta.bytes).sum();
        let changes = Changes { removed: expired, ..Changes::default() };
        self.commit_tidied(&changes, &mut manifest)?;
        self.counts.expired_files.fetch_add(count, Ordering::Relaxed);
        self.counts.expired_rows.fetch_add(rows, Ordering::Relaxed);
        self.counts.expired_bytes.fetch_add(bytes, Ordering::Relaxed);
        tracing::info!(files = count, rows, bytes, "expired days dropped");
        Ok(())
    }

    /// Lets go of the stores and files of tables that the catalog does not know any more.
    fn forget_deleted(&self) -> Result<(), EngineError> {
        let is_known = |id: TableId| self.catalog.get(id).is_some();
        for shard in &self.shards {
            let mut state = lock(shard);
            let before = state.held();
            let let_go = state.retain_tables(is_known);
            self.account_active(before, state.held());
            drop(state);
            drop(let_go);
        }
        let mut manifest = lock(&self.manifest);
        let forgotten: Vec<TableId> =
            manifest.tables.keys().copied().filter(|&id| !is_known(id)).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        let removed: Vec<_> = self.magnetic.files(|files| {
            let of_tables = forgotten.iter().filter_map(|&id| files.table(id));
            of_tables.flat_map(|files| files.iter().map(Arc::clone).collect::<Vec<_>>()).collect()
        });
        let count = removed.len() as u64;
        let changes = Changes { removed, forgotten, ..Changes::default() };
        self.commit_tidied(&changes, &mut manifest)?;
        self.counts.deleted_files.fetch_add(count, Ordering::Relaxed);
        tracing::info!(files = count, "files of deleted tables dropped");
        Ok(())
    }

    pub(super) fn commit_tidied(
        &self,
        changes: &Changes,
        manifest: &mut Manifest,
    ) -> Result<(), EngineError> {
        // The lock was waited for, and whoever had it may have failed.
        if let Err(error) = self.check_fault() {
            changes.discard();
            return Err(error);
        }
        let _guard = Committing(self);
        match changes.commit(&self.magnetic, manifest, None) {
            Ok(()) => Ok(()),
            Err(CommitError::Before(error)) => {
                changes.discard();
                Err(error)
            }
            Err(CommitError::During(error)) => {
                self.fault.throw(error.to_string());
                Err(error)
            }
        }
    }

    pub(super) fn is_ending(&self) -> bool {
        lock(&self.signal).end.is_some()
    }

    /// Waits a moment. Returns whether to go on.
    fn rest(&self) -> bool {
        let signal = lock(&self.signal);
        let rested = self.tidy_wake.wait_timeout_while(signal, LOOK_EVERY, |s| s.end.is_none());
        rested.unwrap_or_else(PoisonError::into_inner).0.end.is_none()
    }
}

/// The loop of the thread `engine-compact`.
pub(super) fn run(inner: &Inner) {
    let mut due = inner.clock.monotonic() + TIDY_EVERY;
    while inner.rest() {
        // A fault is told by whoever met it, and nothing is done before the restart that mends it.
        if inner.clock.monotonic() < due || inner.fault.is_thrown() {
            continue;
        }
        let result = inner.tidy();
        due = inner.clock.monotonic() + if result.is_ok() { TIDY_EVERY } else { REST };
        if let Err(error) = result {
            tracing::error!(%error, "files could not be tidied; what they hold is as it was");
        }
    }
}
