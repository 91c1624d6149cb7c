//! The thread `engine-pg`: reaches the database when it was away at the start, drops deleted tables,
//! and deletes what is older than a table's retention.
//!
//! A deleted table goes from the database with its rows, those of other gateways too: it is one table.
//! Rows that have expired are seen by no scan from that moment on, as with the embedded engine; they are
//! deleted in statements of [`EXPIRED_ROWS_MAX`] rows, so that none holds its locks for long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::error::SqlError;
use super::param::{Time, split};
use super::schema;
use super::session::{Purpose, Session};
use super::shared::Shared;
use crate::engine::EngineError;

/// How often the thread looks for work.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it tries to reach a database that is away.
const ATTACH_EVERY: Duration = Duration::from_secs(1);
/// How often it tidies.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often it looks for expired rows: it reads whole tables where they have no index on the time.
const EXPIRE_EVERY: Duration = Duration::from_mins(10);
/// Rows of one deleting statement.
const EXPIRED_ROWS_MAX: i64 = 5_000;

/// The loop of the thread.
pub(super) fn run(shared: &Shared) {
    let (mut tidy_due, mut expire_due) = (Duration::ZERO, Duration::ZERO);
    // Acquire: pairs with the Release of the end.
    while !shared.is_ending.load(Ordering::Acquire) {
        shared.clock.sleep(LOOK_EVERY);
        let now = shared.clock.monotonic();
        if now < tidy_due || shared.needs_restart.load(Ordering::Acquire) {
            continue;
        }
        if !shared.is_attached() {
            tidy_due = now + ATTACH_EVERY;
            // What is wrong stands in the engine's state.
            if let Err(error) = shared.attach() {
                tracing::debug!(%error, "not attached");
            }
            continue;
        }
        tidy_due = now + TIDY_EVERY;
        if let Err(error) = drop_deleted(shared) {
            tracing::warn!(%error, "deleted tables stay in the database for now");
            continue;
        }
        if now >= expire_due {
            expire_due = now + EXPIRE_EVERY;
            if let Err(error) = expire(shared) {
                tracing::warn!(%error, "expired rows stay in the database for now");
            }
        }
    }
}

/// Drops the tables that the catalog has deleted.
pub(super) fn drop_deleted(shared: &Shared) -> Result<(), EngineError> {
    let deleted = shared.catalog.deleted_tables();
    if deleted.is_empty() {
        return Ok(());
    }
    let lives = shared.change(|session| {
        session.query(
            "SELECT database, name, number FROM tidegate.lives WHERE gateway = $1",
            &[&shared.gateway],
        )
    })?;
    for row in lives {
        let (database, name, number): (&str, &str, i64) = (row.get(0), row.get(1), row.get(2));
        if deleted.iter().any(|table| i64::from(table.id.0) == number) {
            let life = (database, name, number);
            if shared.change(|session| schema::forget(session, &shared.gateway, life))? {
                tracing::info!(database, table = name, "a deleted table is dropped");
            }
            shared.forget_relations();
        }
    }
    Ok(())
}

/// Deletes the rows that do not live any more.
pub(super) fn expire(shared: &Shared) -> Result<(), EngineError> {
    let mut session = None;
    for table in shared.catalog.tables() {
        let alive_from_ns = table.retention().alive_from_ns(shared.clock.wall_ns());
        if alive_from_ns == i64::MIN {
            continue;
        }
        let session = match &mut session {
            Some(session) => session,
            none => {
                let connected = shared.connector.connect(Purpose::Scan);
                none.insert(connected.map_err(|error| shared.away("connect", &error))?)
            }
        };
        let deleted = expire_table(shared, session, &table, alive_from_ns);
        deleted.map_err(|error| shared.away("delete expired rows", &error))?;
    }
    Ok(())
}

fn expire_table(
    shared: &Shared,
    session: &mut Session,
    table: &crate::engine::catalog::Table,
    alive_from_ns: i64,
) -> Result<(), SqlError> {
    let Some(relation) = schema::look(session, &shared.gateway, table)? else { return Ok(()) };
    let (time_us, ns) = split(alive_from_ns);
    let sql = format!(
        "DELETE FROM {0} WHERE (series, time, ns) IN (SELECT series, time, ns FROM {0} \
         WHERE (time, ns) < ($1, $2) LIMIT {EXPIRED_ROWS_MAX})",
        relation.quoted
    );
    while !shared.is_ending.load(Ordering::Acquire) {
        let deleted = session.execute(&sql, &[&Time(time_us), &ns])?;
        if deleted < EXPIRED_ROWS_MAX.cast_unsigned() {
            return Ok(());
        }
    }
    Ok(())
}
