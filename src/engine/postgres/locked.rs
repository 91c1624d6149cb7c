//! Step 2 of [`super::write`](mod@super::write): the rows that stand, locked until the turn ends.
//!
//! One statement for all of them, wherever the server can do that. Citus locks rows for a query of one
//! shard only, which it tells by an equality on the column of distribution: there it is a statement a
//! series. Source: Citus, `multi_logical_planner.c`, "could not run distributed query with FOR
//! UPDATE/SHARE commands".

use tokio_postgres::Row;

use super::error::SqlError;
use super::plan::Key;
use super::schema::Relation;
use super::session::Session;
use super::write::{Keys, key_of};

/// The rows of `keys` that there are: series, time, ns, version, kind, then `columns`. `keys` are sorted.
pub(super) fn read(
    session: &mut Session,
    relation: &Relation,
    keys: &[Key],
    columns: &[u16],
) -> Result<Vec<Row>, SqlError> {
    assert!(keys.is_sorted(), "locks are taken in one order everywhere");
    let mut list = "t.series, t.time, t.ns, t.version, t.kind".to_owned();
    for column in columns {
        list.push_str(", t.");
        list.push_str(&relation.columns[usize::from(*column)].quoted);
    }
    if session.locks_by_series {
        return by_series(session, relation, keys, &list);
    }
    let sql = format!(
        "SELECT {list} FROM {} AS t JOIN \
         unnest($1::uuid[], $2::timestamptz[], $3::smallint[]) AS k(series, time, ns) \
         ON t.series = k.series AND t.time = k.time AND t.ns = k.ns \
         ORDER BY t.series, t.time, t.ns FOR UPDATE OF t",
        relation.quoted
    );
    session.query(&sql, &Keys::of(keys).params())
}

fn by_series(
    session: &mut Session,
    relation: &Relation,
    keys: &[Key],
    list: &str,
) -> Result<Vec<Row>, SqlError> {
    let sql = format!(
        "SELECT {list} FROM {} AS t WHERE t.series = $1 AND t.time = ANY($2) \
         ORDER BY t.time, t.ns FOR UPDATE",
        relation.quoted
    );
    let mut rows = Vec::with_capacity(keys.len());
    for of_series in keys.chunk_by(|a, b| a.series == b.series) {
        let series = of_series[0].series;
        let of_keys = Keys::of(of_series);
        let [_, times, _] = of_keys.params();
        let found = session.query(&sql, &[&series, times])?;
        // Others of the same microsecond are locked too, and let go unread.
        rows.extend(found.into_iter().filter(|row| of_series.binary_search(&key_of(row)).is_ok()));
    }
    assert!(rows.len() <= keys.len(), "a key has one row");
    Ok(rows)
}
