//! The engine that keeps its tables in PostgreSQL, or in a database that speaks its protocol and has
//! `INSERT .. ON CONFLICT`, `unnest` of arrays and row locks: Timescale, Citus, CockroachDB, YugabyteDB.
//!
//! | file | what it holds |
//! |---|---|
//! | [`options`] | the settings |
//! | [`session`] [`tls`] [`error`] [`param`] | one connection behind blocking calls; what its errors mean; arrays on the wire |
//! | [`names`] [`schema`] | what tables and columns are called; making and dropping them |
//! | [`plan`] [`write`](mod@write) [`locked`] [`update`] | the records of a batch, and the statements that write them |
//! | [`copy`] [`guess`] | rows that are all new, and when to expect that |
//! | [`turn`] [`marks`] | a shard's transaction; how far each shard got |
//! | [`shared`] | what all of them know |
//! | [`keeper`] [`expire`] | the thread `engine-pg`: a database that is away at the start, deleted tables, retention |
//! | [`scan`] [`met`] | reading a table; what records would meet |
//! | [`ddl`] | the same tables as SQL, to be made by hand |
//!
//! # Exactly once
//!
//! A shard's turn is one transaction, and the last thing that it writes is the shard's mark: the frame up
//! to which the shard's records are in the database. Whatever breaks, rows and mark are there together or
//! not at all. A replay begins behind the marks. So a commit *is* the checkpoint, and there is nothing to
//! flush.
//!
//! # The database is away
//!
//! At the start: the gateway starts, accepts and acknowledges; the log keeps the records, and the shards
//! wait until the marks were read. `/ready` says 503 where the log had frames to replay; `/health` names
//! the engine, what failed and since when. Later: the same, turn by turn. When the log is full, writers
//! hear 503. What can succeed is never given up.
//!
//! A database that does not belong to the log is another matter: one without this gateway's marks while
//! the log says that frames are stored, or with marks beyond the log's end. That refuses the start; where
//! it is found out later, the server ends.
//!
//! # A table
//!
//! One row a record: `series` (128 bits of a hash that nobody can make collide), `time` (microseconds,
//! rounded down) and `ns` (the rest) are its key. `kind` is 0 for a MULTI record, or the number of the
//! value's type for a scalar. `writes` counts how often the row was written after the first time.
//! Dimensions and attributes are columns ([`names`]); TIMESTAMP attributes are `bigint`, in nanoseconds.
//!
//! # Many gateways
//!
//! may write into one database, the same tables and series too. Each has its name and its marks; the
//! version rule is the database's to hold, row by row. A table that one of them deletes is gone for all.

pub mod options;
mod session;
mod tls;
mod error;
mod param;
mod names;
mod schema;
mod plan;
mod guess;
mod write;
mod locked;
mod update;
mod copy;
mod turn;
mod marks;
mod shared;
mod keeper;
mod expire;
mod probe;
mod scan;
mod met;
pub mod ddl;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::base::clock::SharedClock;
use crate::base::identity;
use crate::base::lsn::Lsn;
use crate::base::thread::Thread;
use crate::record::codec::{Bucket, RecordView};
use crate::record::request::{Outcome, Rejection, WriteRequest};
use crate::record::{Reason, TableId};

use super::catalog::Catalog;
use super::standing::Met;
use super::{
    EngineError, EngineState, LogEnds, Remote, Row, Selection, ShardId, TableEngine, TimeRange,
};

pub use self::options::{Options, SslMode};
pub use self::probe::probe;
use self::session::{Connector, Purpose};
use self::shared::{Shared, lock};
use self::turn::Shard;

/// The engine that keeps its tables in PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
    shards: Vec<Mutex<Shard>>,
    keeper: Mutex<Option<Thread>>,
}

impl Postgres {
    /// Opens the engine for `shards` writer threads of the gateway whose data folder is `dir`, with a log
    /// that has the frames that `log` says. The database may be away.
    ///
    /// # Errors
    ///
    /// [`EngineError::Foreign`]: the database is there, and is not the one of this log.
    /// [`EngineError::Io`]: the gateway's name cannot be read or made, or there is no thread.
    pub fn open(
        options: Options,
        (dir, log): (&Path, LogEnds),
        shards: usize,
        catalog: Arc<Catalog>,
        clock: SharedClock,
    ) -> Result<Self, EngineError> {
        let io = |what: &'static str| {
            let path = dir.join(identity::FILE_NAME).display().to_string();
            move |error: std::io::Error| EngineError::Io { what, path, source: Arc::new(error) }
        };
        let gateway = identity::of_folder(dir, clock.wall_ns()).map_err(io("make"))?;
        let rows_max = options.statement_rows;
        let connector = Connector::new(options, clock);
        let shared = Arc::new(Shared::new(connector, catalog, (gateway, shards, log)));
        match shared.attach() {
            Err(error @ EngineError::Foreign { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the database is away; the log keeps all until it is back");
            }
            Ok(()) => {}
        }
        let of_keeper = Arc::clone(&shared);
        let keeper = Thread::spawn("engine-pg", move || keeper::run(&of_keeper));
        let keeper = Mutex::new(Some(keeper.map_err(io("start a thread for"))?));
        let shards = (0..shards).map(|at| Mutex::new(Shard::new(at, rows_max))).collect();
        Ok(Self { shared, shards, keeper })
    }

    /// Does at once what the thread `engine-pg` does once in a while.
    ///
    /// # Errors
    ///
    /// [`EngineError::Busy`]: the database is away; the rest is done another time.
    pub fn tidy(&self) -> Result<(), EngineError> {
        keeper::drop_deleted(&self.shared)?;
        expire::expire(&self.shared)
    }

    fn stop(&self) {
        self.shared.end();
        if let Some(keeper) = lock(&self.keeper).take()
            && let Err(error) = keeper.join()
        {
            tracing::error!(%error, "the log keeps what was not committed");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

impl TableEngine for Postgres {
    fn write(
        &self,
        shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        let Some(table) = self.shared.catalog.get(request.table) else {
            let outcome = Outcome::Rejected(Box::new(Rejection {
                reason: Reason::TableDeleted,
                message: format!("there is no table number {}", request.table),
                existing_version: None,
                stood: Vec::new(),
            }));
            outcomes.extend(std::iter::repeat_n(outcome, request.records.len()));
            return Ok(());
        };
        let before = outcomes.len();
        let result =
            lock(&self.shards[usize::from(shard.0)]).write(&self.shared, &table, request, outcomes);
        let expected = if result.is_ok() { request.records.len() } else { 0 };
        assert_eq!(
            outcomes.len(),
            before + expected,
            "a batch is written as a whole or not at all"
        );
        result
    }

    fn commit(&self, shard: ShardId, lsn: Lsn) -> Result<(), EngineError> {
        lock(&self.shards[usize::from(shard.0)]).commit(&self.shared, lsn)
    }

    fn applied(&self, lsn: Lsn) {
        self.shared.set_applied(lsn);
    }

    fn checkpoint(&self) -> Lsn {
        self.shared.applied()
    }

    fn stored(&self, bucket: Bucket) -> Lsn {
        self.shared.stored(bucket)
    }

    fn knows_stored(&self) -> bool {
        self.shared.is_attached()
    }

    fn batch_records(&self) -> usize {
        self.shared.options.statement_rows
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn relieve(&self) {}

    fn scan(
        &self,
        table: TableId,
        range: TimeRange,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let shared = &self.shared;
        let Some(known) = shared.catalog.get(table) else { return Ok(()) };
        let alive_from_ns = known.retention().alive_from_ns(shared.clock.wall_ns());
        let range = TimeRange { from_ns: range.from_ns.max(alive_from_ns), ..range };
        if range.from_ns >= range.to_ns && range.to_ns != i64::MAX {
            return Ok(());
        }
        let away =
            |error: error::SqlError| EngineError::Busy { what: format!("cannot read: {error}") };
        let mut session = shared.connector.connect(Purpose::Scan).map_err(away)?;
        let relation = schema::look(&mut session, &shared.gateway, &known).map_err(away)?;
        let Some(relation) = relation else { return Ok(()) };
        scan::scan(&mut session, &relation, range, each).map_err(away)
    }

    fn met(&self, records: &[RecordView<'_>]) -> Result<Vec<Met>, EngineError> {
        met::met(&self.shared, records)
    }

    fn newest(
        &self,
        _table: TableId,
        _selection: Selection<'_>,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        Err(EngineError::Elsewhere { place: self.shared.options.address() })
    }

    fn rows(&self, _table: TableId) -> u64 {
        0
    }

    fn state(&self) -> EngineState {
        let counts = &self.shared.connector.counts;
        let read = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
        let (transactions, undone) = self.shared.turns();
        EngineState {
            fault: self.shared.fault(),
            needs_restart: self.shared.needs_restart.load(Ordering::Acquire),
            remote: Some(Remote {
                address: self.shared.options.address(),
                sessions: read(&counts.open),
                sessions_made: read(&counts.connected),
                transactions,
                undone,
                statements: read(&counts.statements),
                statement_ns: read(&counts.statement_ns),
            }),
            ..EngineState::default()
        }
    }

    fn close(&self) {
        self.stop();
        for shard in &self.shards {
            lock(shard).abort();
        }
    }
}
