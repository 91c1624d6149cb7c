//! A shard's turn is a transaction: opened by its first batch, ended by the commit, which sets the
//! shard's mark in it.
//!
//! # When something goes wrong in it
//!
//! All that the turn has written is undone, and [`EngineError::Undone`] asks the shard for all of it
//! again. What is different then depends on what went wrong ([`Cure`]): a new session, smaller
//! statements, a new look at the tables; or, where the server refuses a row, **careful** writing: a
//! savepoint before each statement, and what is refused is halved until single records stand alone. Those
//! are rejected with the server's words. Most turns have no such row, and pay for no savepoint.
//!
//! A rejection for a lower version or another type that an undone attempt has reported stays true: versions
//! only rise and the type of a column never changes. One for another value at the same version may not: where
//! another gateway's write, which it met, is undone as well, the record is stored after all, and its report
//! stands beside it. A report too many is better than one too few.
//!
//! # A COMMIT whose answer is lost
//!
//! may have been executed or not. The mark tells, once its row can be locked: the lost transaction
//! holds that lock from before its COMMIT to its end. Until then the shard asks again, and nothing of it
//! goes on.

use std::sync::Arc;

use super::copy;
use super::error::{Cure, SqlError};
use super::plan::{Item, Plan};
use super::schema::{self, Needs, Relation};
use super::session::{Purpose, Session};
use super::shared::Shared;
use super::write::{self, Firsts, WriteError};
use crate::base::lsn::Lsn;
use crate::engine::EngineError;
use crate::engine::catalog::Table;
use crate::record::Reason;
use crate::record::request::{Outcome, Rejection, WriteRequest};

/// Most bytes of values in one statement; one record may exceed it.
const STATEMENT_BYTES_MAX: usize = 4 << 20;

/// Most turns in a row without a COPY. One that meets a row which stands costs a turn, so at most one in so
/// many is lost where records are repeated all the time.
const COPY_REST_MAX: u32 = 256;

/// How often in a row a turn is undone before the engine's state says so.
const UNDONE_QUIETLY_MAX: u32 = 8;

/// One shard's connection and what it has open.
#[derive(Debug)]
pub(super) struct Shard {
    number: usize,
    session: Option<Session>,
    /// The drops that the open transaction believes in; `None` where there is none open.
    open: Option<i64>,
    /// A COMMIT up to here got no answer.
    doubt: Option<Lsn>,
    /// Whether the next turn's statements stand behind savepoints.
    is_careful: bool,
    /// Whether a constraint spoke up at the COMMIT only; behind a savepoint it has to say so at once.
    is_deferred: bool,
    rows_max: usize,
    /// How many turns must pass until rows are copied again, and after how many it was the last time.
    copy_rest: (u32, u32),
    /// How often in a row the turn was undone.
    undone_in_row: u32,
}

impl Shard {
    pub(super) fn new(number: usize, rows_max: usize) -> Self {
        Self {
            number,
            session: None,
            open: None,
            doubt: None,
            is_careful: false,
            is_deferred: false,
            rows_max,
            copy_rest: (0, 1),
            undone_in_row: 0,
        }
    }

    /// Writes a batch in the turn's transaction.
    pub(super) fn write(
        &mut self,
        shared: &Shared,
        table: &Table,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        assert!(self.doubt.is_none(), "a turn begins when the one before it is decided");
        shared.check()?;
        shared.attached()?;
        let columns_max = table.settings().columns_max;
        let (drops, relation) = shared.known(table.id);
        let relation = relation.unwrap_or_default();
        let plan = match Plan::of(&relation, columns_max, request.records) {
            Ok(plan) if !relation.quoted.is_empty() => plan,
            found => {
                self.make(shared, table, &found.err().unwrap_or_default())?;
                // The table is known now, and whether it has all.
                return self.write(shared, table, request, outcomes);
            }
        };
        if self.open.is_some_and(|open| open != drops) {
            return Err(self.undone(shared, "another table was dropped", None));
        }
        let alive_from_ns = table.retention().alive_from_ns(shared.clock.wall_ns());
        let mut found = vec![None; request.records.len()];
        let items = plan.items(request.records, alive_from_ns, &mut found)?;
        if !items.is_empty() {
            self.begin(shared, drops)?;
            for part in parts(&items, self.rows_max.min(shared.options.statement_rows)) {
                self.write_part(shared, &plan.relation, part, &mut found)?;
            }
        }
        outcomes.extend(found.into_iter().map(|outcome| outcome.expect("every record has one")));
        Ok(())
    }

    /// Ends the turn: sets the mark and commits.
    pub(super) fn commit(&mut self, shared: &Shared, lsn: Lsn) -> Result<(), EngineError> {
        shared.check()?;
        if let Some(doubt) = self.doubt {
            assert_eq!(doubt, lsn, "a turn is ended before the next begins");
            return self.resolve(shared, lsn);
        }
        // A turn that wrote nothing leaves no mark: to execute it again is harmless.
        let Some(drops) = self.open else { return Ok(()) };
        let epoch = shared.attached()?.epoch;
        let session = self.session.as_mut().expect("a transaction has a session");
        let (number, mark) = (shard_number(self.number), lsn.0.cast_signed());
        let rows = session.query(
            "UPDATE tidegate.marks SET lsn = $4 WHERE gateway = $1 AND shard = $2 AND epoch = $3 \
             RETURNING (SELECT number FROM tidegate.drops WHERE one)",
            &[&shared.gateway, &number, &epoch, &mark],
        );
        let rows = rows.map_err(|error| self.failed(shared, &error))?;
        let Some(row) = rows.first() else {
            self.abort();
            return Err(shared.fenced());
        };
        if row.get::<_, Option<i64>>(0) != Some(drops) {
            shared.forget_relations();
            return Err(self.undone(shared, "a table was dropped meanwhile", None));
        }
        let session = self.session.as_mut().expect("a transaction has a session");
        match session.batch("COMMIT") {
            Ok(()) => {
                self.done(shared, lsn);
                Ok(())
            }
            // Refused for what is in it.
            Err(error) if matches!(error.cure(), Cure::Again | Cure::Row(_)) => {
                self.is_deferred = matches!(error.cure(), Cure::Row(_));
                Err(self.failed(shared, &error))
            }
            // A server that is shut down says so behind a COMMIT that it has executed, too.
            Err(error) => {
                self.doubt = Some(lsn);
                self.session = None;
                Err(shared.away("COMMIT", &error))
            }
        }
    }

    /// Asks the mark whether a COMMIT without an answer was executed.
    fn resolve(&mut self, shared: &Shared, lsn: Lsn) -> Result<(), EngineError> {
        let number = shard_number(self.number);
        let epoch = shared.attached()?.epoch;
        let found = shared.connector.connect(Purpose::Work).and_then(|mut session| {
            // Waits for the lost transaction: it has the row.
            let rows = schema::in_transaction(&mut session, |session| {
                session.query(
                    "SELECT lsn, epoch FROM tidegate.marks WHERE gateway = $1 AND shard = $2 \
                     FOR UPDATE",
                    &[&shared.gateway, &number],
                )
            })?;
            Ok((session, rows.first().map(|row| (row.get::<_, i64>(0), row.get::<_, i64>(1)))))
        });
        let (session, mark) = found.map_err(|error| shared.away("read the mark", &error))?;
        self.session = Some(session);
        let Some((mark, _)) = mark.filter(|(_, found)| *found == epoch) else {
            return Err(shared.fenced());
        };
        self.doubt = None;
        if mark == lsn.0.cast_signed() {
            self.done(shared, lsn);
            return Ok(());
        }
        Err(self.undone(shared, "a COMMIT got no answer and was not executed", None))
    }

    fn done(&mut self, shared: &Shared, lsn: Lsn) {
        self.open = None;
        self.is_careful = false;
        self.is_deferred = false;
        self.undone_in_row = 0;
        self.copy_rest = match self.copy_rest {
            (0, pause) => (0, (pause - 1).max(1)),
            (left, pause) => (left - 1, pause),
        };
        self.rows_max = (self.rows_max * 2).min(shared.options.statement_rows);
        shared.committed(self.number, lsn);
    }

    fn begin(&mut self, shared: &Shared, drops: i64) -> Result<(), EngineError> {
        if self.open.is_some() {
            return Ok(());
        }
        if self.session.is_none() {
            let session = shared.connector.connect(Purpose::Work);
            self.session = Some(session.map_err(|error| shared.away("connect", &error))?);
        }
        self.open = Some(drops);
        let session = self.session.as_mut().expect("made above");
        session
            .batch("BEGIN ISOLATION LEVEL READ COMMITTED")
            .map_err(|error| self.failed(shared, &error))
    }

    /// Makes what the table lacks. Never while rows are locked: two shards that wait for each other's
    /// table would wait for ever, and the server could not see it.
    fn make(&mut self, shared: &Shared, table: &Table, needs: &Needs) -> Result<(), EngineError> {
        let was_open = self.open.is_some();
        self.abort();
        let made = shared.ensure(table, needs);
        if was_open {
            // Whatever became of the change: what the turn has written is gone.
            return Err(EngineError::Undone { what: "a table had to be changed".to_owned() });
        }
        made
    }

    fn write_part(
        &mut self,
        shared: &Shared,
        relation: &Arc<Relation>,
        items: &[Item<'_, '_>],
        outcomes: &mut [Option<Outcome>],
    ) -> Result<(), EngineError> {
        let session = self.session.as_mut().expect("a transaction has a session");
        if !self.is_careful {
            let how = if self.copy_rest.0 == 0 { Firsts::Copied } else { Firsts::Upserted };
            return match write::write(session, relation, (items, how), outcomes) {
                Ok(()) => Ok(()),
                Err(error) if how == Firsts::Copied && copy::met_duplicate(&error) => {
                    let pause = (self.copy_rest.1 * 2).min(COPY_REST_MAX);
                    self.copy_rest = (pause, pause);
                    Err(self.undone(shared, "a row that was copied stands already", None))
                }
                Err(error) => Err(self.write_failed(shared, error)),
            };
        }
        let at_once = if self.is_deferred { "SET CONSTRAINTS ALL IMMEDIATE; " } else { "" };
        let saved = session.batch(&format!("{at_once}SAVEPOINT tidegate"));
        saved.map_err(|error| self.failed(shared, &error))?;
        let session = self.session.as_mut().expect("a transaction has a session");
        let how = Firsts::Upserted;
        let error = match write::write(session, relation, (items, how), outcomes) {
            Ok(()) => {
                let released = session.batch("RELEASE SAVEPOINT tidegate");
                return released.map_err(|error| self.failed(shared, &error));
            }
            Err(error) => error,
        };
        let WriteError::Sql(error) = error else { return Err(self.write_failed(shared, error)) };
        let Cure::Row(reason) = error.cure() else { return Err(self.failed(shared, &error)) };
        let undone = session.batch("ROLLBACK TO SAVEPOINT tidegate; RELEASE SAVEPOINT tidegate");
        undone.map_err(|error| self.failed(shared, &error))?;
        if let [item] = items {
            outcomes[item.at] = Some(rejected(reason, &error));
            return Ok(());
        }
        let (first, second) = items.split_at(items.len() / 2);
        self.write_part(shared, relation, first, outcomes)?;
        self.write_part(shared, relation, second, outcomes)
    }

    fn write_failed(&mut self, shared: &Shared, error: WriteError) -> EngineError {
        match error {
            WriteError::Sql(error) => self.failed(shared, &error),
            WriteError::Restless => self.undone(shared, "rows came and went", None),
            WriteError::Codec(error) => {
                self.abort();
                error.into()
            }
        }
    }

    /// A statement of the transaction failed: all of it is undone.
    fn failed(&mut self, shared: &Shared, error: &SqlError) -> EngineError {
        match error.cure() {
            Cure::Reconnect => self.session = None,
            Cure::Again => {}
            Cure::Smaller => self.rows_max = (self.rows_max / 2).max(1),
            Cure::Reload => shared.forget_relations(),
            Cure::Row(_) => self.is_careful = true,
        }
        self.undone(shared, "a statement failed", Some(error))
    }

    fn undone(&mut self, shared: &Shared, what: &str, error: Option<&SqlError>) -> EngineError {
        self.abort();
        shared.count_undone();
        let what = error.map_or_else(|| what.to_owned(), |error| format!("{what}: {error}"));
        self.undone_in_row += 1;
        // Standing in each other's way passes; what does not is the operator's to see.
        let lasts = self.undone_in_row >= UNDONE_QUIETLY_MAX;
        if lasts || error.map(SqlError::cure) == Some(Cure::Reconnect) {
            shared.note_fault(&what);
        } else {
            tracing::debug!(shard = self.number, what, "a turn is undone");
        }
        EngineError::Undone { what }
    }

    /// Ends the transaction without its rows.
    pub(super) fn abort(&mut self) {
        if self.open.take().is_none() {
            return;
        }
        if let Some(session) = &mut self.session
            && session.batch("ROLLBACK").is_err()
        {
            self.session = None;
        }
    }
}

/// A shard's number as the database has it.
fn shard_number(number: usize) -> i32 {
    i32::try_from(number).expect("at most BUCKETS shards")
}

/// The items in parts that one statement can carry.
fn parts<'s, 'p, 'a>(
    items: &'s [Item<'p, 'a>],
    rows_max: usize,
) -> impl Iterator<Item = &'s [Item<'p, 'a>]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let (mut count, mut bytes) = (0, 0);
        while count < rest.len().min(rows_max.max(1)) {
            bytes += rest[count].view.values.len() + rest[count].view.series_values.len();
            if count > 0 && bytes > STATEMENT_BYTES_MAX {
                break;
            }
            count += 1;
        }
        let (part, after) = rest.split_at(count);
        rest = after;
        (!part.is_empty()).then_some(part)
    })
}

fn rejected(reason: Reason, error: &SqlError) -> Outcome {
    Outcome::Rejected(Box::new(Rejection {
        reason,
        message: error.to_string(),
        existing_version: None,
        stood: Vec::new(),
    }))
}
