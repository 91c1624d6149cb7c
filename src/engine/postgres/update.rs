//! Rows that stand, changed: step 3 of [`super::write`](mod@super::write), and its step 1 where nearly all
//! rows stand with a lower version.
//!
//! An `UPDATE` takes two thirds of the server's time that `ON CONFLICT DO UPDATE` takes for the same rows:
//! that tries an insertion, locks the row it met, which is a record in the server's log, and changes it
//! then. It also gets no dimensions, which are the same as before.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::names::{self, Role};
use super::param::Array;
use super::plan::{Item, Key};
use super::schema::Relation;
use super::session::{Param, Session};
use super::write::{Keys, Standing, WriteError, arrays, kind_number};
use crate::record::{MeasureKind, Value};

/// Which rows a statement changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// All of them: they are locked, and it is decided what becomes of them.
    Decided,
    /// Those with a lower version, of the same kind; the statement tells the places of those.
    Older,
}

/// Whether rows keep attributes that their records do not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Each names all columns of the statement, so there is nothing to keep: a choice less a value.
    All,
    Some,
}

impl Named {
    fn of(columns: &[Array]) -> Self {
        if columns.iter().any(Array::has_nulls) { Self::Some } else { Self::All }
    }
}

/// Writes those of `firsts` whose row stands with a lower version; `columns` are those that hold values.
/// Of each that was written the answer is `Some(false)`: it is not new.
pub(super) fn newer(
    session: &mut Session,
    relation: &Relation,
    firsts: &[&Item<'_, '_>],
    columns: &[u16],
) -> Result<Vec<Option<bool>>, WriteError> {
    let mut places = Array::new(Type::INT4);
    let (mut keys, mut versions, mut kinds) =
        (Keys::default(), Array::new(Type::INT8), Array::new(Type::INT2));
    let mut arrays = arrays(relation, columns);
    let mut place_of = vec![usize::MAX; relation.columns.len()];
    for (at, column) in columns.iter().enumerate() {
        place_of[usize::from(*column)] = at;
    }
    let mut values: Vec<Option<Value<'_>>> = vec![None; columns.len()];
    for (item, place) in firsts.iter().zip(0..) {
        places.push_i32(place);
        keys.push(&item.key);
        versions.push_i64(item.view.version);
        kinds.push_i16(kind_number(
            item.view.layout.entries().next().map(|(found, _)| found),
            item.kind(),
        ));
        values.fill(None);
        for (column, value) in item.attributes.iter().zip(item.view.values()) {
            values[place_of[usize::from(*column)]] = Some(value?);
        }
        for (array, value) in arrays.iter_mut().zip(&values) {
            array.push_value(value.as_ref());
        }
    }
    let sql = statement(relation, columns, Which::Older, Named::of(&arrays));
    let [series, times, ns] = keys.params();
    let mut params: Vec<Param<'_>> = vec![series, times, ns, &versions, &kinds, &places];
    params.extend(arrays.iter().map(|array| array as Param<'_>));
    let mut written = vec![None; firsts.len()];
    for row in session.query(&sql, &params)? {
        let place = usize::try_from(row.get::<_, i32>(0)).expect("counted up from 0");
        assert!(written[place].is_none(), "each row comes back once");
        written[place] = Some(false);
    }
    Ok(written)
}

/// Writes what is decided of `rows`, all of `kind`.
pub(super) fn changed(
    session: &mut Session,
    relation: &Relation,
    rows: &[&(Key, Standing<'_>)],
    (columns, kind): (&[u16], MeasureKind),
) -> Result<(), WriteError> {
    let of_kind = |at: &u16| {
        let is_scalar = matches!(relation.columns[usize::from(*at)].role, Role::Scalar(_));
        is_scalar == (kind == MeasureKind::Scalar)
    };
    let columns: Vec<u16> = columns.iter().copied().filter(of_kind).collect();
    let mut keys = Keys::default();
    let mut versions = Array::new(Type::INT8);
    let mut kinds = Array::new(Type::INT2);
    let mut arrays = arrays(relation, &columns);
    for (key, standing) in rows {
        keys.push(key);
        versions.push_i64(standing.version);
        let first = standing.attributes.first().map(|(_, value)| value.value_type());
        kinds.push_i16(kind_number(first, standing.kind));
        for (array, column) in arrays.iter_mut().zip(&columns) {
            array.push_value(value_in(standing, &relation.columns[usize::from(*column)].role));
        }
    }
    let sql = statement(relation, &columns, Which::Decided, Named::of(&arrays));
    let [series, times, ns] = keys.params();
    let mut params: Vec<Param<'_>> = vec![series, times, ns, &versions, &kinds];
    params.extend(arrays.iter().map(|array| array as Param<'_>));
    let updated = session.execute(&sql, &params)?;
    assert_eq!(updated, rows.len() as u64, "the rows are locked, so all are there");
    Ok(())
}

/// A MULTI record keeps the attributes that are not named; a scalar's value replaces what there was. A row
/// has nothing in the columns of the other kind, so one statement is right for both.
fn statement(relation: &Relation, columns: &[u16], which: Which, given: Named) -> String {
    let (fixed, place, place_type, end) = match which {
        Which::Decided => (5, "", "", ""),
        Which::Older => (
            6,
            ", place",
            ", $6::int4[]",
            " AND v.version > t.version AND (v.kind = 0) = (t.kind = 0) RETURNING v.place",
        ),
    };
    let (mut names, mut types, mut sets) = (String::new(), String::new(), String::new());
    for (at, column) in columns.iter().enumerate() {
        let column = &relation.columns[usize::from(*column)];
        let quoted = &column.quoted;
        let type_name = names::type_of(&column.role);
        let parts = (
            write!(names, ", c{at}"),
            write!(types, ", ${}::{type_name}[]", at + fixed + 1),
            match (&column.role, given) {
                (Role::Attribute(..), Named::Some) => {
                    write!(sets, ", {quoted} = COALESCE(v.c{at}, t.{quoted})")
                }
                _ => write!(sets, ", {quoted} = v.c{at}"),
            },
        );
        assert!(matches!(parts, (Ok(()), Ok(()), Ok(()))), "a string takes all");
    }
    format!(
        "UPDATE {} AS t SET version = v.version, kind = v.kind, writes = t.writes + 1{sets} FROM \
         unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::bigint[], \
         $5::smallint[]{place_type}{types}) AS v(series, time, ns, version, kind{place}{names}) \
         WHERE t.series = v.series AND t.time = v.time AND t.ns = v.ns{end}",
        relation.quoted
    )
}

fn value_in<'s>(standing: &'s Standing<'_>, role: &Role) -> Option<&'s Value<'s>> {
    match role {
        Role::Dimension(_) => None,
        Role::Attribute(name, _) => {
            let at = standing.attributes.binary_search_by(|(found, _)| (*found).cmp(name)).ok()?;
            Some(&standing.attributes[at].1)
        }
        Role::Scalar(value_type) => standing
            .attributes
            .iter()
            .map(|(_, value)| value)
            .find(|v| v.value_type() == *value_type),
    }
}
