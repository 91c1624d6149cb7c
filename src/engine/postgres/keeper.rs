//! The thread `engine-pg`: reaches the database when it was away at the start, drops deleted tables,
//! and deletes what is older than a table's retention ([`super::expire`]).
//!
//! A deleted table goes from the database with its rows, those of other gateways too: it is one table.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::expire::expire;
use super::schema;
use super::shared::Shared;
use crate::engine::EngineError;

/// How often the thread looks for work.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often it tries to reach a database that is away.
const ATTACH_EVERY: Duration = Duration::from_secs(1);
/// How often it tidies.
const TIDY_EVERY: Duration = Duration::from_secs(5);
/// How often it looks for expired rows.
const EXPIRE_EVERY: Duration = Duration::from_mins(10);

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
