//! What probes, metrics and clients that ask for databases are told.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{Counter, IntCounter};

use crate::api::fault::{Fault, Kind};
use crate::api::{Component, Health, Readiness, Status, Tables};
use crate::base::class::Class;
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::config::Config;
use crate::engine::catalog::{Catalog, CatalogError, DatabaseSettings};
use crate::engine::{Flushed, Remote, TableEngine, Tidied, UpstreamFigures};
use crate::metrics::Metrics;
use crate::metrics::catalog::FOLDERS;
use crate::record::codec::Payload;
use crate::record::{TableId, validate};
use crate::reject::Reporter;
use crate::shard::marks::Marks;
use crate::wal::{Commit, Observer, Wal};

use super::Core;

/// What a client is told to wait before it asks again for a change that found no room.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The state of a running server.
#[derive(Debug)]
pub(super) struct ServerStatus {
    wal: Wal,
    engine: Arc<dyn TableEngine>,
    catalog: Arc<Catalog>,
    metrics: Metrics,
    reporter: Reporter,
    poison: Poison,
    replay_until: Lsn,
    create_tables: bool,
    clock: SharedClock,
    marks: Option<Arc<Marks>>,
    /// The folders whose disks are looked at, in the order of [`FOLDERS`].
    folders: [PathBuf; FOLDERS.len()],
    /// Held while counters are brought to what the engine has counted.
    refreshing: Mutex<()>,
}

impl ServerStatus {
    pub(super) fn new(core: &Core, config: &Config) -> Self {
        let config = config.clone().placed();
        Self {
            wal: core.wal.clone(),
            engine: Arc::clone(&core.engine),
            catalog: Arc::clone(&core.catalog),
            metrics: core.metrics.clone(),
            reporter: core.reporter.clone(),
            poison: core.poison.clone(),
            replay_until: core.replay_until,
            create_tables: core.ingest.options().create_tables,
            clock: Arc::clone(&core.clock),
            marks: core.shards.as_ref().map(|shards| Arc::clone(shards.marks())),
            folders: [config.data_dir, config.wal.dir],
            refreshing: Mutex::default(),
        }
    }
}

impl Status for ServerStatus {
    fn readiness(&self) -> Readiness {
        if let Some(reason) = self.poison.reason() {
            return Readiness::NotReady { why: format!("the log failed: {reason}") };
        }
        let applied = self.wal.marks().applied;
        if applied < self.replay_until {
            let why = format!("replaying the log: frame {applied} of {}", self.replay_until);
            return Readiness::NotReady { why };
        }
        Readiness::Ready
    }

    fn components(&self) -> Vec<Component> {
        let state = self.wal.state();
        let marks = state.marks;
        let wal = match self.poison.reason() {
            Some(reason) => (Health::Fail, format!("poisoned: {reason}")),
            None => (
                Health::Pass,
                format!(
                    "appended {}, durable {}, applied {}, checkpoint {}; {} segments, {} of {} bytes",
                    marks.appended,
                    marks.durable,
                    marks.applied,
                    marks.checkpoint,
                    state.segments,
                    state.bytes,
                    state.bytes_max
                ),
            ),
        };
        let state = self.engine.state();
        let engine = match (state.fault, &state.upstream) {
            (Some(fault), _) => (Health::Fail, fault),
            (None, Some(upstream)) => (Health::Pass, told(upstream)),
            (None, None) if state.remote.is_some() => {
                (Health::Pass, remote_text(state.remote.as_ref()))
            }
            (None, None) => (
                Health::Pass,
                format!(
                    "{} rows in {} of {} bytes of memory; {} files, {} bytes",
                    state.memory_rows,
                    state.memory_bytes,
                    state.memory_bytes_max,
                    state.files,
                    state.file_bytes
                ),
            ),
        };
        let rejects = match self.reporter.trouble() {
            Some(why) => (Health::Warn, format!("takes no reports, so the log keeps them: {why}")),
            None => (Health::Pass, self.reporter.place().to_owned()),
        };
        [("wal", wal), ("engine", engine), ("rejects", rejects)]
            .map(|(name, (health, message))| Component { name, health, message })
            .into()
    }

    fn refresh_metrics(&self) {
        let metrics = &self.metrics;
        let state = self.wal.state();
        metrics.wal_appended_lsn.set(gauge(state.marks.appended.0));
        metrics.wal_durable_lsn.set(gauge(state.marks.durable.0));
        metrics.wal_applied_lsn.set(gauge(state.marks.applied.0));
        metrics.wal_checkpoint_lsn.set(gauge(state.marks.checkpoint.0));
        metrics.wal_size_bytes.set(gauge(state.bytes));
        metrics.wal_limit_bytes.set(gauge(state.bytes_max));
        metrics.wal_segments.set(gauge(state.segments));
        metrics.wal_retained_segments.set(gauge(state.segments_retained));
        metrics.wal_retained_bytes.set(gauge(state.bytes_retained));
        metrics.wal_pending_bytes.set(gauge(state.bytes_pending));
        metrics.wal_files_bytes.set(gauge(state.bytes_total));
        metrics.wal_poisoned.set(i64::from(self.poison.is_thrown()));
        let state = self.engine.state();
        metrics.engine_memory_bytes.set(gauge(state.memory_bytes));
        metrics.engine_memory_limit_bytes.set(gauge(state.memory_bytes_max));
        metrics.engine_memory_rows.set(gauge(state.memory_rows));
        metrics.engine_series.set(gauge(state.series));
        metrics.engine_files.set(gauge(state.files));
        metrics.engine_file_bytes.set(gauge(state.file_bytes));
        self.count_tidied(&state.tidied);
        self.count_flushed(&state.flushed);
        if let Some(remote) = &state.remote {
            self.count_remote(remote);
        }
        if let Some(upstream) = &state.upstream {
            self.count_upstream(upstream);
        }
        self.refresh_server();
    }
}

impl ServerStatus {
    fn count_tidied(&self, tidied: &Tidied) {
        let metrics = &self.metrics;
        self.bring_to(&[
            (&metrics.engine_compactions, tidied.compactions),
            (&metrics.engine_compacted_files, tidied.compacted_files),
            (&metrics.engine_compacted_bytes, tidied.compacted_bytes),
            (&metrics.engine_expired_files, tidied.expired_files),
            (&metrics.engine_expired_rows, tidied.expired_rows),
            (&metrics.engine_expired_bytes, tidied.expired_bytes),
            (&metrics.engine_deleted_files, tidied.deleted_files),
        ]);
        let took = Duration::from_nanos(tidied.compaction_ns);
        self.bring_to_seconds(&metrics.engine_compaction_seconds, took);
    }

    fn count_flushed(&self, flushed: &Flushed) {
        let metrics = &self.metrics;
        self.bring_to(&[
            (&metrics.engine_flushes, flushed.flushes),
            (&metrics.engine_flush_failures, flushed.failures),
            (&metrics.engine_flushed_rows, flushed.rows),
            (&metrics.engine_flushed_bytes, flushed.bytes),
        ]);
        self.bring_to_seconds(&metrics.engine_flush_seconds, flushed.took);
        #[expect(clippy::cast_precision_loss, reason = "a time of day to the microsecond will do")]
        metrics.engine_last_flush_timestamp.set(flushed.last_ns as f64 / 1e9);
        metrics.engine_last_flush_duration.set(flushed.last_took.as_secs_f64());
        metrics.engine_last_flush_rows.set(gauge(flushed.last_rows));
    }

    /// Brings a counter of seconds to what the engine has counted itself.
    fn bring_to_seconds(&self, counter: &Counter, total: Duration) {
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        counter.inc_by((total.as_secs_f64() - counter.get()).max(0.0));
    }

    /// What is not of one part: whether writes are taken, how old what waits is, the disks.
    fn refresh_server(&self) {
        let metrics = &self.metrics;
        metrics.server_ready.set(i64::from(self.readiness() == Readiness::Ready));
        for part in self.components() {
            let is_well = part.health == Health::Pass;
            metrics.server_component_up.with_label_values(&[part.name]).set(i64::from(is_well));
        }
        let age_ns = self
            .oldest_unapplied_ns()
            .map_or(0, |received_ns| self.clock.wall_ns().saturating_sub(received_ns).max(0));
        let age = Duration::from_nanos(age_ns.unsigned_abs());
        metrics.shard_oldest_unapplied_age.set(age.as_secs_f64());
        for (label, folder) in FOLDERS.into_iter().zip(&self.folders) {
            // A disk that does not answer keeps its last figures; the log says what is wrong with it.
            let Ok(stat) = rustix::fs::statvfs(folder) else { continue };
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let size = stat.f_blocks.saturating_mul(stat.f_frsize);
            metrics.server_disk_free_bytes.with_label_values(&[label]).set(gauge(free));
            metrics.server_disk_size_bytes.with_label_values(&[label]).set(gauge(size));
        }
    }

    /// When the oldest durable request was received that the engine has not executed.
    fn oldest_unapplied_ns(&self) -> Option<i64> {
        if let Some(received_ns) = self.marks.as_ref().and_then(|marks| marks.oldest_received_ns())
        {
            return Some(received_ns);
        }
        // Nothing was handed to a shard: all is executed, or the engine does not say yet where to begin,
        // and the oldest frame is still in the log.
        let marks = self.wal.marks();
        if marks.applied >= marks.durable {
            return None;
        }
        // A frame that is executed and let go meanwhile is no longer the oldest.
        let frame = self.wal.reader(marks.applied.next()).next(Duration::ZERO).ok()??;
        Payload::open(frame.payload()).ok().map(|payload| payload.received_ns())
    }

    fn count_upstream(&self, upstream: &UpstreamFigures) {
        let (metrics, metered) = (&self.metrics, &upstream.metered);
        self.bring_to(&[
            (&metrics.upstream_requests, metered.requests),
            (&metrics.upstream_records, metered.records),
            (&metrics.upstream_sent_bytes, upstream.sent_bytes),
            (&metrics.upstream_saved_bytes, upstream.saved_bytes),
            (&metrics.upstream_metered_bytes, metered.kib * 1024),
            (&metrics.upstream_single_bytes, metered.kib_single * 1024),
        ]);
    }

    /// Brings counters to what the engine has counted itself.
    fn bring_to(&self, counters: &[(&IntCounter, u64)]) {
        // Two who refresh at once would both add what is missing.
        let _one_at_a_time = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, total) in counters {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    fn count_remote(&self, remote: &Remote) {
        let metrics = &self.metrics;
        metrics.engine_remote_sessions.set(gauge(remote.sessions));
        self.bring_to(&[
            (&metrics.engine_remote_sessions_made, remote.sessions_made),
            (&metrics.engine_remote_transactions, remote.transactions),
            (&metrics.engine_remote_undone, remote.undone),
            (&metrics.engine_remote_statements, remote.statements),
        ]);
        let took = Duration::from_nanos(remote.statement_ns);
        self.bring_to_seconds(&metrics.engine_remote_statement_seconds, took);
    }
}

fn remote_text(remote: Option<&Remote>) -> String {
    remote.map_or_else(String::new, |remote| {
        let Remote { address, sessions, transactions, undone, .. } = remote;
        format!(
            "{address}: {sessions} connections, {transactions} transactions, {undone} turns undone"
        )
    })
}

/// What `/health` says of a server behind the engine that is well.
fn told(upstream: &UpstreamFigures) -> String {
    let metered = &upstream.metered;
    format!(
        "{}: {} records in {} requests, {} bytes sent, {} saved by common attributes; {} KiB metered, \
         {} KiB if each record had a request",
        upstream.place,
        metered.records,
        metered.requests,
        upstream.sent_bytes,
        upstream.saved_bytes,
        metered.kib,
        metered.kib_single
    )
}

impl Tables for ServerStatus {
    fn find(&self, database: &str, table: &str) -> Option<TableId> {
        self.catalog.resolve(database, table).map(|table| table.id)
    }

    fn databases(&self) -> Vec<String> {
        let all = self.catalog.list_databases(None, usize::MAX).items;
        all.iter().map(|database| database.name.to_string()).collect()
    }

    fn tables_in(&self, database: &str) -> Vec<String> {
        let all = self.catalog.list_tables(Some(database), None, usize::MAX).items;
        all.iter().map(|table| table.name.to_string()).collect()
    }

    fn create_database(&self, database: &str) -> Result<(), Fault> {
        validate::table_name("database", database)
            .map_err(|(_, message)| Fault::invalid(message))?;
        if self.catalog.has_database(database) {
            return Ok(());
        }
        if !self.create_tables {
            let why = "is not there, and ingest.create_tables is false";
            return Err(Fault::invalid(format!("database {database:?} {why}")));
        }
        let (created_ns, updated_ns) = (self.clock.wall_ns(), 0);
        let settings = DatabaseSettings { created_ns, updated_ns, ..DatabaseSettings::default() };
        match self.catalog.create_database(database, &settings) {
            // Somebody was faster.
            Ok(_) | Err(CatalogError::Exists { .. }) => Ok(()),
            Err(error) => Err(fault(&error)),
        }
    }

    fn drop_database(&self, database: &str) -> Result<(), Fault> {
        loop {
            for table in self.tables_in(database) {
                gone(self.catalog.delete_table(database, &table).map(drop))?;
            }
            match self.catalog.delete_database(database) {
                // A write has made a table meanwhile.
                Err(CatalogError::NotEmpty { .. }) => {}
                result => return gone(result),
            }
        }
    }

    fn drop_table(&self, database: &str, table: &str) -> Result<(), Fault> {
        if !self.catalog.has_database(database) {
            return Err(Fault::invalid(format!("database not found: {database}")));
        }
        gone(self.catalog.delete_table(database, table).map(drop))
    }
}

/// What is not there any more needs no deleting.
fn gone(result: Result<(), CatalogError>) -> Result<(), Fault> {
    match result {
        Ok(()) | Err(CatalogError::NotFound { .. }) => Ok(()),
        Err(error) => Err(fault(&error)),
    }
}

fn fault(error: &CatalogError) -> Fault {
    match error.class() {
        Class::Refused => Fault::invalid(error.to_string()),
        Class::Busy => Fault::new(Kind::Busy { retry_after: RETRY_AFTER }, error.to_string()),
        Class::Fault => Fault::new(Kind::Internal, error.to_string()),
    }
}

/// Counts what the log commits.
#[derive(Debug)]
pub(super) struct LogObserver {
    metrics: Metrics,
}

impl LogObserver {
    pub(super) const fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }
}

impl Observer for LogObserver {
    fn committed(&self, commit: &Commit) {
        self.metrics.wal_frames.inc_by(commit.frames);
        self.metrics.wal_frame_bytes.inc_by(commit.bytes);
        if let Some(sync) = commit.sync {
            self.metrics.wal_syncs.inc();
            self.metrics.wal_sync_duration.record(sync);
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
