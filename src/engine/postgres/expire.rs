//! Deletes what is older than a table's retention, without an index on the time and without reading whole
//! tables.
//!
//! Rows that have expired are seen by no scan from that moment on, as with the embedded engine; they are
//! deleted some time later.
//!
//! The key begins with the series and the time, so a table's primary key leads to the oldest row of each
//! series. A pass walks from series to series, [`SERIES_MAX`] in a statement, and deletes where the oldest
//! has expired, [`ROWS_MAX`] rows in a statement; none holds its locks for long. A series costs the server
//! 8 us a pass, however many rows it has, and what is written nothing.
//!
//! What else was considered (figures: 200,000 rows of 4,000 series, PostgreSQL 15): an index on the time costs
//! each row that is written 0.7 us and 8 bytes. A BRIN index costs 0.3 us, and after one retention finds
//! nothing any more: the room of deleted rows is used again, so that each of its ranges has seen old and
//! new times. Partitions by time would do
//! it for nothing, but cannot be made by a table that also has to work on Citus and CockroachDB; whoever
//! has Timescale lets that drop its chunks, and there is nothing left to delete here.
//!
//! A server that cannot walk so is asked for any rows that have expired, and reads the table to find them:
//! Citus has no recursive queries over shards, and YugabyteDB keeps series by their hash, in no order of
//! theirs. Source: their documentation, "SQL Support and Workarounds" and "Data sharding".

use std::sync::atomic::Ordering;

use super::error::SqlError;
use super::param::{Array, Time, Uuid, split};
use super::schema::{self, Relation};
use super::session::{Purpose, Session};
use super::shared::Shared;
use crate::engine::EngineError;
use crate::engine::catalog::Table;

/// Series that one statement looks at.
const SERIES_MAX: usize = 1_000;
/// Rows of one deleting statement.
const ROWS_MAX: u64 = 5_000;

/// Before every series: a hash that is all zeros is met by nobody.
const BEFORE_ALL: Uuid = Uuid([0; 16]);

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
                // No timeout: where a table must be read as a whole, that takes its time.
                let connected = shared.connector.connect(Purpose::Scan);
                none.insert(connected.map_err(|error| shared.away("connect", &error))?)
            }
        };
        let deleted = of_table(shared, session, &table, alive_from_ns);
        deleted.map_err(|error| shared.away("delete expired rows", &error))?;
    }
    Ok(())
}

fn of_table(
    shared: &Shared,
    session: &mut Session,
    table: &Table,
    alive_from_ns: i64,
) -> Result<(), SqlError> {
    let Some(relation) = schema::look(session, &shared.gateway, table)? else { return Ok(()) };
    let alive_from = split(alive_from_ns);
    if is_hashed(session)? {
        return anywhere(shared, session, &relation, alive_from);
    }
    match walk(shared, session, &relation, alive_from) {
        Err(error) if error.is_unsupported() => anywhere(shared, session, &relation, alive_from),
        result => result,
    }
}

/// Whether the server is YugabyteDB, whose version names both.
fn is_hashed(session: &mut Session) -> Result<bool, SqlError> {
    let rows = session.query("SELECT version()", &[])?;
    Ok(rows.first().is_some_and(|row| row.get::<_, &str>(0).contains("-YB-")))
}

/// Goes through the series.
fn walk(
    shared: &Shared,
    session: &mut Session,
    relation: &Relation,
    alive_from: (i64, i16),
) -> Result<(), SqlError> {
    let mut after = BEFORE_ALL;
    while !is_ending(shared) {
        let series = next_series(session, relation, after, alive_from)?;
        assert!(series.len() <= SERIES_MAX && series.is_sorted(), "a walk goes one way");
        let Some((last, _)) = series.last() else { return Ok(()) };
        after = *last;
        let expired: Vec<Uuid> = series.iter().filter(|(_, is)| *is).map(|(one, _)| *one).collect();
        while !expired.is_empty()
            && delete(session, relation, &expired, alive_from)? == ROWS_MAX
            && !is_ending(shared)
        {}
        if series.len() < SERIES_MAX {
            return Ok(());
        }
    }
    Ok(())
}

/// The series after one, in their order, each with whether its oldest row has expired.
fn next_series(
    session: &mut Session,
    relation: &Relation,
    after: Uuid,
    (time_us, ns): (i64, i16),
) -> Result<Vec<(Uuid, bool)>, SqlError> {
    let sql = format!(
        "WITH RECURSIVE walk(step, series, time, ns) AS ( \
         (SELECT 1, series, time, ns FROM {0} WHERE series > $1 ORDER BY series, time, ns LIMIT 1) \
         UNION ALL SELECT walk.step + 1, t.series, t.time, t.ns FROM walk, LATERAL ( \
         SELECT series, time, ns FROM {0} WHERE series > walk.series \
         ORDER BY series, time, ns LIMIT 1) AS t WHERE walk.step < {SERIES_MAX}) \
         SELECT series, (time, ns) < ($2, $3) FROM walk ORDER BY step",
        relation.quoted
    );
    let rows = session.query(&sql, &[&after, &Time(time_us), &ns])?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Deletes rows of these series, [`ROWS_MAX`] at most, and returns how many.
fn delete(
    session: &mut Session,
    relation: &Relation,
    expired: &[Uuid],
    (time_us, ns): (i64, i16),
) -> Result<u64, SqlError> {
    let sql = format!(
        "DELETE FROM {0} WHERE (series, time, ns) IN (SELECT t.series, t.time, t.ns \
         FROM unnest($1::uuid[]) AS k(series), LATERAL (SELECT series, time, ns FROM {0} AS a \
         WHERE a.series = k.series AND (a.time, a.ns) < ($2, $3) \
         ORDER BY a.time, a.ns LIMIT {ROWS_MAX}) AS t LIMIT {ROWS_MAX})",
        relation.quoted
    );
    let mut series = Array::new(tokio_postgres::types::Type::UUID);
    for Uuid(one) in expired {
        series.push_uuid(one);
    }
    session.execute(&sql, &[&series, &Time(time_us), &ns])
}

/// Deletes what has expired wherever it is.
fn anywhere(
    shared: &Shared,
    session: &mut Session,
    relation: &Relation,
    (time_us, ns): (i64, i16),
) -> Result<(), SqlError> {
    let sql = format!(
        "DELETE FROM {0} WHERE (series, time, ns) IN (SELECT series, time, ns FROM {0} \
         WHERE (time, ns) < ($1, $2) LIMIT {ROWS_MAX})",
        relation.quoted
    );
    while !is_ending(shared) && session.execute(&sql, &[&Time(time_us), &ns])? == ROWS_MAX {}
    Ok(())
}

fn is_ending(shared: &Shared) -> bool {
    // Acquire: pairs with the Release of the end.
    shared.is_ending.load(Ordering::Acquire)
}
