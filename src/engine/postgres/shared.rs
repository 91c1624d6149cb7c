//! What all shards of the engine share: who they write for, what is known of the tables, and what is
//! wrong.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use super::error::SqlError;
use super::marks::Marks;
use super::options::Options;
use super::schema::{self, Known, Maker, Needs, Relation};
use super::session::{Connector, Purpose, Session};
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::engine::catalog::{Catalog, Table};
use crate::engine::{EngineError, LogEnds};
use crate::record::TableId;
use crate::record::codec::Bucket;

/// What went wrong last, and since when.
#[derive(Debug)]
struct Fault {
    what: String,
    since_ns: i64,
}

/// The part of the engine that all threads have.
///
/// Lock order: a shard, then the session for changes, then the tables; the fault is taken alone.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) connector: Connector,
    pub(super) clock: SharedClock,
    pub(super) catalog: Arc<Catalog>,
    pub(super) gateway: String,
    pub(super) shards: usize,
    log: LogEnds,
    marks: OnceLock<Marks>,
    known: RwLock<Known>,
    /// The session in which tables are changed.
    changes: Mutex<Option<Session>>,
    fault: Mutex<Option<Fault>>,
    pub(super) needs_restart: AtomicBool,
    pub(super) is_ending: AtomicBool,
    /// Everything up to here is in the database, or was there at the start. Relaxed, as a count.
    applied: AtomicU64,
    transactions: AtomicU64,
    undone: AtomicU64,
}

impl Shared {
    pub(super) fn new(
        connector: Connector,
        catalog: Arc<Catalog>,
        (gateway, shards, log): (String, usize, LogEnds),
    ) -> Self {
        Self {
            options: connector.options.clone(),
            clock: Arc::clone(&connector.clock),
            connector,
            catalog,
            gateway,
            shards,
            log,
            marks: OnceLock::new(),
            known: RwLock::default(),
            changes: Mutex::default(),
            fault: Mutex::default(),
            needs_restart: AtomicBool::new(false),
            is_ending: AtomicBool::new(false),
            applied: AtomicU64::new(log.checkpoint.0),
            transactions: AtomicU64::new(0),
            undone: AtomicU64::new(0),
        }
    }

    /// The marks, once the database was reached.
    pub(super) fn attached(&self) -> Result<&Marks, EngineError> {
        self.marks.get().ok_or_else(|| EngineError::Busy { what: self.fault_text() })
    }

    pub(super) fn is_attached(&self) -> bool {
        self.marks.get().is_some()
    }

    /// Takes over the gateway's marks in the database, if that has them.
    ///
    /// # Errors
    ///
    /// [`EngineError::Busy`]: it is away; nothing was changed that matters. [`EngineError::Foreign`]: it
    /// is not the database of this log.
    pub(super) fn attach(&self) -> Result<(), EngineError> {
        if self.is_attached() {
            return Ok(());
        }
        let taken = self.connector.connect(Purpose::Work).and_then(|mut session| {
            schema::make_own(&mut session)?;
            let drops = schema::drops(&mut session)?;
            Ok((Marks::take(&mut session, &self.gateway, self.shards)?, drops, session))
        });
        let (marks, drops, session) = taken.map_err(|error| self.away("connect", &error))?;
        self.check_marks(&marks)?;
        *lock(&self.changes) = Some(session);
        self.known.write().unwrap_or_else(PoisonError::into_inner).drops = drops;
        assert!(self.marks.set(marks).is_ok(), "one thread attaches");
        self.clear_fault();
        tracing::info!(address = self.options.address(), gateway = self.gateway, "attached");
        Ok(())
    }

    /// Fails once this process must write nothing more.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        // Acquire: pairs with the Release of whoever found it out.
        if self.needs_restart.load(Ordering::Acquire) {
            return Err(EngineError::Foreign { what: self.fault_text() });
        }
        Ok(())
    }

    fn check_marks(&self, marks: &Marks) -> Result<(), EngineError> {
        let stored = Bucket::all().map(|bucket| marks.stored(bucket)).max().unwrap_or_default();
        if stored == Lsn::ZERO && !marks.is_known && self.log.checkpoint > Lsn::ZERO {
            return Err(self.foreign(format!(
                "the log says that frames up to {} are stored, but the database {} has no marks of this \
                 gateway ({}): it is another database, or an older copy of it; point engine.postgres at \
                 the right one, or restore it",
                self.log.checkpoint,
                self.options.address(),
                self.gateway,
            )));
        }
        if stored > self.log.durable {
            return Err(self.foreign(format!(
                "the database {} has frames up to {stored} of this gateway ({}), but its log ended at {}: \
                 it is not the log of these tables, or lost its end; put the right one back",
                self.options.address(),
                self.gateway,
                self.log.durable,
            )));
        }
        Ok(())
    }

    fn foreign(&self, what: String) -> EngineError {
        self.needs_restart.store(true, Ordering::Release);
        self.note_fault(&what);
        EngineError::Foreign { what }
    }

    /// What is known of a table, and the drops that this believes in.
    pub(super) fn known(&self, table: TableId) -> (i64, Option<Arc<Relation>>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        (known.drops, known.relations.get(&table).map(Arc::clone))
    }

    /// Makes what a table lacks, in a transaction that holds nothing else.
    pub(super) fn ensure(&self, table: &Table, needs: &Needs) -> Result<(), EngineError> {
        self.change(|session| {
            let maker = Maker { gateway: &self.gateway, fillfactor: self.options.fillfactor };
            let relation = schema::ensure(session, maker, table, needs)?;
            let drops = schema::drops(session)?;
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.drops != drops {
                *known = Known { drops, relations: HashMap::new() };
            }
            known.relations.insert(table.id, Arc::new(relation));
            Ok(())
        })
    }

    /// Executes a change of tables in the session for them.
    pub(super) fn change<T>(
        &self,
        change: impl FnOnce(&mut Session) -> Result<T, SqlError>,
    ) -> Result<T, EngineError> {
        let mut changes = lock(&self.changes);
        let mut session = match changes.take() {
            Some(session) => session,
            None => self
                .connector
                .connect(Purpose::Work)
                .map_err(|error| self.away("connect", &error))?,
        };
        let result = change(&mut session);
        if result.is_ok() {
            *changes = Some(session);
        }
        result.map_err(|error| self.away("change a table", &error))
    }

    /// Forgets what is known of the tables: one was dropped, or is not as it was.
    pub(super) fn forget_relations(&self) {
        let drops = self.change(schema::drops);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let drops = drops.unwrap_or(known.drops);
        *known = Known { drops, relations: HashMap::new() };
    }

    pub(super) fn committed(&self, shard: usize, lsn: Lsn) {
        self.transactions.fetch_add(1, Ordering::Relaxed);
        if let Some(marks) = self.marks.get() {
            marks.set(shard, lsn);
        }
        self.clear_fault();
    }

    pub(super) fn stored(&self, bucket: Bucket) -> Lsn {
        self.marks.get().map_or(Lsn::ZERO, |marks| marks.stored(bucket))
    }

    pub(super) fn set_applied(&self, lsn: Lsn) {
        self.applied.fetch_max(lsn.0, Ordering::Relaxed);
    }

    pub(super) fn applied(&self) -> Lsn {
        Lsn(self.applied.load(Ordering::Relaxed))
    }

    pub(super) fn count_undone(&self) {
        self.undone.fetch_add(1, Ordering::Relaxed);
    }

    /// Transactions that were committed, and turns that were undone.
    pub(super) fn turns(&self) -> (u64, u64) {
        (self.transactions.load(Ordering::Relaxed), self.undone.load(Ordering::Relaxed))
    }

    /// Another process writes for this gateway.
    pub(super) fn fenced(&self) -> EngineError {
        let what = format!(
            "another process has taken over the marks of this gateway ({}) in the database {}: a copy of \
             this data folder runs elsewhere; nothing more is written here",
            self.gateway,
            self.options.address()
        );
        self.foreign(what)
    }

    /// The server cannot be reached, or refuses what it must not.
    pub(super) fn away(&self, doing: &str, error: &SqlError) -> EngineError {
        let what = format!("cannot {doing}: {error}");
        self.note_fault(&what);
        EngineError::Busy { what }
    }

    pub(super) fn note_fault(&self, what: &str) {
        let mut fault = lock(&self.fault);
        let since_ns = fault.as_ref().map_or_else(|| self.clock.wall_ns(), |fault| fault.since_ns);
        let is_final = fault.is_some() && self.needs_restart.load(Ordering::Acquire);
        if fault.is_none() {
            tracing::warn!(address = self.options.address(), what, "PostgreSQL does not serve");
        }
        if !is_final {
            *fault = Some(Fault { what: what.to_owned(), since_ns });
        }
    }

    fn clear_fault(&self) {
        if !self.needs_restart.load(Ordering::Acquire) && lock(&self.fault).take().is_some() {
            tracing::info!(address = self.options.address(), "PostgreSQL serves again");
        }
    }

    /// What is wrong, for people.
    pub(super) fn fault(&self) -> Option<String> {
        let fault = lock(&self.fault);
        fault.as_ref().map(|fault| {
            let since = jiff::Timestamp::from_nanosecond(i128::from(fault.since_ns))
                .map_or_else(|_beyond| "?".to_owned(), |time| time.to_string());
            format!("PostgreSQL {} since {since}: {}", self.options.address(), fault.what)
        })
    }

    fn fault_text(&self) -> String {
        self.fault().unwrap_or_else(|| format!("PostgreSQL {}", self.options.address()))
    }

    pub(super) fn end(&self) {
        // Release: pairs with the keeper's Acquire.
        self.is_ending.store(true, Ordering::Release);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic under the lock ended its shard, which has thrown the poison; what is here is torn down.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
