//! The engine of one machine: a memory store of typed columns over a magnetic store of Parquet files.
//!
//! | file | what it holds |
//! |---|---|
//! | [`options`] | the settings |
//! | [`column`] [`chunks`] [`layout`] [`series`] [`standing`] [`store`] | rows of one table: columns, layouts, keys, index |
//! | [`directory`] [`keys`] | the series that a store knows, and passes on to the store after it |
//! | [`names`] | names of many series as numbers, and so their order |
//! | [`write`] | what becomes of one record; freezing |
//! | [`flusher`] [`replay`] | the thread `engine-flush`, marks and bounds |
//! | [`order`] [`flush`] [`file_out`] [`partition`] | frozen stores into files |
//! | [`compact`] [`tidy`] [`folders`] | the thread `engine-compact`: small files into one, expired days, deleted tables, empty folders |
//! | [`rewrite`] | a file anew, without some rows |
//! | [`erase`] | erased rows, out of the files |
//! | [`commit`] [`manifest`] [`recover`] [`disk`] | when files count, and what a crash leaves |
//! | [`magnetic`] [`files`] | the files that count, and looking things up in them |
//! | [`index`] [`cache`] [`points`] | where the rows of a file are, and what was read of them |
//! | [`columns`] [`parquet_write`] [`parquet_names`] [`parquet_head`] [`parquet_read`] | what a file looks like |
//! | [`scan`] [`export`] | reading a table; a table as one Parquet stream |
//! | [`met`] | what records would meet, before they are written |
//! | [`select`] [`runs`] | reading the newest rows of some dimensions; where those stand in files |
//!
//! # Threads and locks
//!
//! Each shard's stores stand behind a mutex of their own, which its thread takes once a batch. The
//! thread `engine-flush` takes it to freeze and to let go of what was flushed, a scan takes all of
//! them for the moment of its snapshot. Nothing is written to a disk under such a lock; a late record
//! may read from one. The manifest's lock is that of whoever commits; the thread `engine-compact`
//! takes it for as long as a few syncs, the thread `engine-flush` while it writes files and lets them
//! count; no look-up and no write waits for it. The orders of series are the flush thread's own.
//! Order: tidying, manifest, shards by number, then files, cache, a file's path; the signal and the
//! disk's hook are taken alone.

pub mod options;
mod column;
mod chunks;
mod layout;
mod series;
mod keys;
mod directory;
mod standing;
mod names;
mod store;
mod write;
mod flusher;
mod order;
mod flush;
mod disk;
mod file_out;
mod commit;
mod manifest;
mod recover;
mod replay;
mod compact;
mod tidy;
mod folders;
mod rewrite;
mod erase;
mod partition;
mod magnetic;
mod files;
mod index;
mod cache;
mod points;
mod columns;
mod parquet_write;
mod parquet_names;
mod parquet_head;
mod parquet_read;
mod runs;
mod scan;
mod select;
mod met;
pub mod export;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::thread::Thread;
use crate::record::codec::{Bucket, RecordView};
use crate::record::request::{Outcome, Rejection, WriteRequest};
use crate::record::{Reason, TableId};

use self::disk::Disk;
use self::flusher::{End, Inner};
use self::scan::{Snapshot, Source};
use self::select::Search;
use self::store::TableStore;
use self::write::{Below, ShardState};
use super::catalog::Catalog;
use super::standing::Met;
use super::{EngineError, EngineState, Row, Selection, ShardId, TableEngine, TimeRange};

pub use self::columns::ColumnSet;
pub use self::disk::FileStep;
pub use self::options::{Options, OptionsError};

/// The engine of one machine. Dropping it without [`TableEngine::close`] ends its thread and writes
/// nothing more, as a crash would; the log has what the files have not.
#[derive(Debug)]
pub struct Embedded {
    inner: Arc<Inner>,
    /// `engine-flush` and `engine-compact`.
    threads: Mutex<Vec<Thread>>,
}

impl Embedded {
    /// Opens the engine for `shards` writer threads. Completes or undoes what a crash interrupted.
    ///
    /// # Errors
    ///
    /// [`EngineError::Corrupt`]: a file is not what was written, or an option is out of its range.
    /// [`EngineError::Io`]: a file cannot be read, deleted or renamed, or there is no thread.
    pub fn open(
        options: Options,
        shards: usize,
        catalog: Arc<Catalog>,
        clock: SharedClock,
    ) -> Result<Self, EngineError> {
        Self::open_on(Disk::default(), options, shards, catalog, clock)
    }

    /// [`Embedded::open`], and calls `hook` after each step of the work on files, those of the start
    /// too.
    ///
    /// # Errors
    ///
    /// As [`Embedded::open`].
    #[doc(hidden)]
    pub fn open_watched(
        options: Options,
        shards: usize,
        catalog: Arc<Catalog>,
        clock: SharedClock,
        hook: impl Fn(FileStep, &Path) + Send + Sync + 'static,
    ) -> Result<Self, EngineError> {
        let disk = Disk::default();
        disk.set_hook(Box::new(hook));
        Self::open_on(disk, options, shards, catalog, clock)
    }

    fn open_on(
        disk: Disk,
        options: Options,
        shards: usize,
        catalog: Arc<Catalog>,
        clock: SharedClock,
    ) -> Result<Self, EngineError> {
        let dir = options.dir.clone();
        if let Some(error) = options.validate().into_iter().next() {
            return Err(EngineError::Corrupt {
                path: dir.display().to_string(),
                what: error.to_string(),
            });
        }
        let inner = Arc::new(Inner::open(options, shards, catalog, clock, Arc::new(disk))?);
        let engine = Self { inner, threads: Mutex::default() };
        engine.start("engine-flush", flusher::run)?;
        engine.start("engine-compact", tidy::run)?;
        Ok(engine)
    }

    fn start(&self, name: &str, run: fn(&Inner)) -> Result<(), EngineError> {
        let inner = Arc::clone(&self.inner);
        let thread = Thread::spawn(name, move || run(&inner));
        let dir = &self.inner.options.dir;
        let thread = thread.map_err(|error| io_error("start a thread for", dir, error))?;
        flusher::lock(&self.threads).push(thread);
        Ok(())
    }

    /// Calls `hook` after each step of the work on files.
    #[doc(hidden)]
    pub fn on_file_step(&self, hook: impl Fn(FileStep, &Path) + Send + Sync + 'static) {
        self.inner.magnetic.disk().set_hook(Box::new(hook));
    }

    /// Does at once what the thread `engine-compact` does once in a while.
    ///
    /// # Errors
    ///
    /// [`EngineError`]: what the files hold is as it was.
    pub fn tidy(&self) -> Result<(), EngineError> {
        self.inner.tidy()
    }

    fn stop(&self) {
        for thread in std::mem::take(&mut *flusher::lock(&self.threads)) {
            if let Err(error) = thread.join() {
                tracing::error!(%error, "the log keeps what was not flushed");
            }
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.inner.end(End::AtOnce);
        self.stop();
    }
}

impl TableEngine for Embedded {
    fn write(
        &self,
        shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        let inner = &self.inner;
        inner.wait_for_room()?;
        let Some(table) = inner.catalog.get(request.table) else {
            let outcome = Outcome::Rejected(Box::new(Rejection {
                reason: Reason::TableDeleted,
                message: format!("there is no table number {}", request.table),
                existing_version: None,
                stood: Vec::new(),
            }));
            outcomes.extend(std::iter::repeat_n(outcome, request.records.len()));
            return Ok(());
        };
        let mut state = inner.shard(shard);
        inner.is_idle[shard.0 as usize].store(false, Ordering::Release);
        state.first_write.get_or_insert_with(|| inner.clock.monotonic());
        let before = state.held();
        let alive_from_ns = table.retention().alive_from_ns(inner.clock.wall_ns());
        let below = Below { table: &table, magnetic: &inner.magnetic, alive_from_ns };
        let result = state.write(&below, request, outcomes);
        inner.account_active(before, state.held());
        result
    }

    fn commit(&self, shard: ShardId, lsn: Lsn) -> Result<(), EngineError> {
        self.inner.commit(shard, lsn);
        Ok(())
    }

    fn applied(&self, lsn: Lsn) {
        self.inner.applied(lsn);
    }

    fn checkpoint(&self) -> Lsn {
        self.inner.stored_in_all()
    }

    fn stored(&self, bucket: Bucket) -> Lsn {
        Lsn(self.inner.stored[bucket.0 as usize].load(Ordering::Acquire))
    }

    fn flush(&self) -> Result<(), EngineError> {
        self.inner.flush()
    }

    fn relieve(&self) {
        self.inner.signal(|signal| signal.is_flush_wanted = true);
    }

    fn scan(
        &self,
        table: TableId,
        range: TimeRange,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let Some(known) = self.inner.catalog.get(table) else { return Ok(()) };
        // Before any row: an erasure ends only after its last row has.
        let hidden = self.inner.catalog.hidden(table);
        let alive_from_ns = known.retention().alive_from_ns(self.inner.clock.wall_ns());
        let range = TimeRange { from_ns: range.from_ns.max(alive_from_ns), ..range };
        if range.from_ns >= range.to_ns && range.to_ns != i64::MAX {
            return Ok(());
        }
        let mut snapshot = Snapshot::default();
        let guards: Vec<_> = self.inner.shards.iter().map(flusher::lock).collect();
        for state in &guards {
            let frozen = state.frozen.iter().filter_map(|frozen| frozen.tables.get(&table));
            let stores = frozen.chain(state.active.get(&table));
            snapshot.memory.extend(stores.map(Source::of));
        }
        let files = self.inner.magnetic.files(|files| files.table(table));
        drop(guards);
        let in_range = files.iter().flat_map(|files| files.in_range(range));
        snapshot.files = in_range.map(Arc::clone).collect();
        drop(files);
        if hidden.is_empty() {
            return snapshot.scan(range, each);
        }
        snapshot.scan(range, &mut |row| {
            if hidden.hides(row.dimensions, row.version) {
                return ControlFlow::Continue(());
            }
            each(row)
        })
    }

    fn met(&self, records: &[RecordView<'_>]) -> Result<Vec<Met>, EngineError> {
        records.iter().map(|record| self.inner.met(record)).collect()
    }

    fn newest(
        &self,
        table: TableId,
        selection: Selection<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let inner = &*self.inner;
        let Some(known) = inner.catalog.get(table) else { return Ok(()) };
        let hidden = inner.catalog.hidden(table);
        let alive_from_ns = known.retention().alive_from_ns(inner.clock.wall_ns());
        let range = selection.range;
        let range = TimeRange { from_ns: range.from_ns.max(alive_from_ns), ..range };
        let search = Search { table, selection: Selection { range, ..selection }, hidden };
        let files = || inner.magnetic.files(|files| files.table(table));
        search.run(&inner.shards, files, &inner.runs, each)
    }

    fn rows(&self, table: TableId) -> u64 {
        let stores = |shard: &Mutex<ShardState>| {
            let state = flusher::lock(shard);
            let frozen = state.frozen.iter().filter_map(|frozen| frozen.tables.get(&table));
            let rows = |store: &TableStore| u64::from(store.rows());
            frozen.chain(state.active.get(&table)).map(rows).sum::<u64>()
        };
        let memory: u64 = self.inner.shards.iter().map(stores).sum();
        let files = self.inner.magnetic.files(|files| files.table(table));
        memory + files.map_or(0, |files| files.rows())
    }

    fn replay_begins(&self, end: Lsn) {
        self.inner.replay.begins(self.inner.stored_in_all(), end);
    }

    fn replay_ended(&self) {
        self.inner.replay.ended();
        if self.inner.is_full() {
            self.relieve();
        }
    }

    fn erases(&self) -> bool {
        true
    }

    fn state(&self) -> EngineState {
        self.inner.state()
    }

    fn close(&self) {
        self.inner.end(End::AfterFlush);
        self.stop();
    }
}

/// The last frame that the tables in `dir` have stored of any bucket; `None` where no engine ever
/// began. Opens nothing and makes nothing, so also beside the server that has the folder.
///
/// # Errors
///
/// [`EngineError`]: the manifest cannot be read, or is not what was written.
pub fn stored_in(dir: &Path) -> Result<Option<Lsn>, EngineError> {
    let manifest = manifest::Manifest::load(dir)?;
    Ok(manifest.map(|manifest| manifest.stored.into_iter().max().unwrap_or_default()))
}

/// An error of the system, or of a library that met one, on a file.
fn io_error(
    what: &'static str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> EngineError {
    EngineError::Io { what, path: path.display().to_string(), source: Arc::new(error) }
}
