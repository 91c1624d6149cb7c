//! What records would meet, for whoever asks before they are written: rows by their keys, not locked.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use tokio_postgres::Row;

use super::error::SqlError;
use super::names::Role;
use super::plan::{Key, Plan, unstorable};
use super::schema::{self, Relation};
use super::session::{Purpose, Session};
use super::shared::Shared;
use super::write::{Keys, key_of, standing_of};
use crate::engine::EngineError;
use crate::engine::standing::{Met, Standing};
use crate::engine::upsert::Candidate;
use crate::record::TableId;
use crate::record::codec::RecordView;
use crate::record::request::{Outcome, Rejection};

/// What a table says of its records.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// A record from before does not live.
    alive_from_ns: i64,
    columns_max: usize,
}

/// What the records would meet, an answer a record.
pub(super) fn met(shared: &Shared, records: &[RecordView<'_>]) -> Result<Vec<Met>, EngineError> {
    let away = |error: SqlError| EngineError::Busy { what: format!("cannot read: {error}") };
    let mut session = shared.connector.connect(Purpose::Work).map_err(away)?;
    // A table or a column that is missing is made for a record: what no table can have is known before.
    let refused =
        records.iter().map(|record| Ok(unstorable(record)?.map_or(Met::Nothing, Met::Refused)));
    let mut all = refused.collect::<Result<Vec<Met>, EngineError>>()?;
    let mut by_table: HashMap<TableId, Vec<usize>, RandomState> = HashMap::default();
    for (at, record) in records.iter().enumerate() {
        by_table.entry(record.family.table).or_default().push(at);
    }
    for (id, places) in by_table {
        let Some(table) = shared.catalog.get(id) else { continue };
        let relation = schema::look(&mut session, &shared.gateway, &table).map_err(away)?;
        let Some(relation) = relation.map(Arc::new) else { continue };
        let of_table: Vec<RecordView<'_>> = places.iter().map(|at| records[*at]).collect();
        let rules = Rules {
            alive_from_ns: table.retention().alive_from_ns(shared.clock.wall_ns()),
            columns_max: table.settings().columns_max,
        };
        let found = of_relation(&mut session, &relation, (&of_table, rules))?;
        for (at, met) in places.into_iter().zip(found) {
            all[at] = met;
        }
    }
    assert_eq!(all.len(), records.len(), "an answer a record");
    Ok(all)
}

fn of_relation(
    session: &mut Session,
    relation: &Arc<Relation>,
    (records, table): (&[RecordView<'_>], Rules),
) -> Result<Vec<Met>, EngineError> {
    let (mut met, mut keys) = (Vec::with_capacity(records.len()), Vec::new());
    for record in records {
        let refused = refusal(relation, record, table)?;
        met.push(refused.map_or(Met::Nothing, Met::Refused));
        keys.push(Key::of(record));
    }
    let columns: Vec<u16> = (0_u16..)
        .zip(&relation.columns)
        .filter(|(_, column)| !matches!(column.role, Role::Dimension(_)))
        .map(|(at, _)| at)
        .collect();
    let rows = read(session, relation, (&keys, &columns))
        .map_err(|error| EngineError::Busy { what: format!("cannot read: {error}") })?;
    let by_key: HashMap<Key, &Row, RandomState> =
        rows.iter().map(|row| (key_of(row), row)).collect();
    for ((met, key), record) in met.iter_mut().zip(&keys).zip(records) {
        // A record that is too old is taken and forgotten, whatever stands.
        let is_open = *met == Met::Nothing && record.time_ns >= table.alive_from_ns;
        let Some(row) = by_key.get(key).filter(|_| is_open) else { continue };
        let standing = standing_of(relation, row, &columns);
        *met = Met::Row(Standing::of(&Candidate {
            version: standing.version,
            kind: standing.kind,
            attributes: &standing.attributes,
        }));
    }
    assert_eq!(met.len(), records.len(), "an answer a record");
    Ok(met)
}

/// Why the table cannot have a record, if it cannot. Columns that are missing are made when it is written.
fn refusal(
    relation: &Arc<Relation>,
    record: &RecordView<'_>,
    table: Rules,
) -> Result<Option<Box<Rejection>>, EngineError> {
    let records = std::slice::from_ref(record);
    let Ok(plan) = Plan::of(relation, table.columns_max, records) else {
        return Ok(unstorable(record)?);
    };
    let mut outcomes = [None];
    plan.items(records, table.alive_from_ns, &mut outcomes)?;
    let [outcome] = outcomes;
    Ok(match outcome {
        Some(Outcome::Rejected(why)) => Some(why),
        _ => None,
    })
}

/// The rows of `keys` that there are, as [`super::locked::read`] gives them, and not locked.
fn read(
    session: &mut Session,
    relation: &Relation,
    (keys, columns): (&[Key], &[u16]),
) -> Result<Vec<Row>, SqlError> {
    let mut list = "t.series, t.time, t.ns, t.version, t.kind".to_owned();
    for column in columns {
        list.push_str(", t.");
        list.push_str(&relation.columns[usize::from(*column)].quoted);
    }
    let sql = format!(
        "SELECT {list} FROM {} AS t JOIN \
         unnest($1::uuid[], $2::timestamptz[], $3::smallint[]) AS k(series, time, ns) \
         ON t.series = k.series AND t.time = k.time AND t.ns = k.ns",
        relation.quoted
    );
    session.query(&sql, &Keys::of(keys).params())
}
