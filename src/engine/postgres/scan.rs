//! Reading a table: one query whose rows are shown as they come.
//!
//! The server orders by time; rows of one nanosecond are put into the order of their series here, by
//! bytes, as every engine shows them, whatever collation the database has. So memory holds the rows of
//! one nanosecond, at most one a series.

use std::ops::ControlFlow;

use tokio_postgres::Row as SqlRow;

use super::error::SqlError;
use super::names::Role;
use super::param::{Time, join, split};
use super::plan::value_type_of;
use super::schema::Relation;
use super::session::Session;
use super::write::{is_of_kind, kind_of, name_of, value_of};
use crate::engine::{Row, TimeRange};
use crate::record::Value;

/// Columns of the query before those of the table's own.
const FIXED: usize = 5;

/// Whoever hears the rows.
pub(super) type Each<'e> = dyn FnMut(&Row<'_>) -> ControlFlow<()> + 'e;

/// Shows the rows in `range`.
pub(super) fn scan(
    session: &mut Session,
    relation: &Relation,
    range: TimeRange,
    each: &mut Each<'_>,
) -> Result<(), SqlError> {
    let mut list = String::new();
    for column in &relation.columns {
        list.push_str(", ");
        list.push_str(&column.quoted);
    }
    let end = if range.to_ns == i64::MAX { "<=" } else { "<" };
    let sql = format!(
        "SELECT time, ns, version, kind, measure_name{list} FROM {} \
         WHERE (time, ns) >= ($1, $2) AND (time, ns) {end} ($3, $4) ORDER BY time, ns",
        relation.quoted
    );
    let ((from_us, from), (to_us, to)) = (split(range.from_ns), split(range.to_ns));
    let mut moment = Moment { relation, rows: Vec::new(), time_ns: i64::MIN };
    let mut is_over = false;
    session.stream(&sql, &[&Time(from_us), &from, &Time(to_us), &to], &mut |row| {
        let flow = moment.take(row, each);
        is_over |= flow.is_break();
        flow
    })?;
    if !is_over && moment.show(each).is_break() {
        return Ok(());
    }
    Ok(())
}

/// Measure name, dimensions, and the row.
type Keyed<'r> = (&'r str, Vec<(&'r str, &'r str)>, &'r SqlRow);

/// The rows of one nanosecond.
struct Moment<'r> {
    relation: &'r Relation,
    rows: Vec<SqlRow>,
    time_ns: i64,
}

impl Moment<'_> {
    fn take(&mut self, row: SqlRow, each: &mut Each<'_>) -> ControlFlow<()> {
        let time_ns = join(row.get::<_, Time>(0).0, row.get(1));
        if time_ns != self.time_ns {
            self.show(each)?;
            self.time_ns = time_ns;
        }
        self.rows.push(row);
        ControlFlow::Continue(())
    }

    fn show(&mut self, each: &mut Each<'_>) -> ControlFlow<()> {
        let rows = std::mem::take(&mut self.rows);
        let mut keyed: Vec<Keyed<'_>> =
            rows.iter().map(|row| (row.get(FIXED - 1), self.dimensions(row), row)).collect();
        keyed.sort_unstable_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (measure_name, dimensions, row) in &keyed {
            let number: i16 = row.get(3);
            let mut attributes: Vec<(&str, Value<'_>)> = Vec::new();
            for (at, column) in self.relation.columns.iter().enumerate() {
                if is_of_kind(&column.role, number)
                    && let Some(value) = value_of(row, FIXED + at, value_type_of(&column.role))
                {
                    attributes.push((name_of(&column.role), value));
                }
            }
            attributes.sort_unstable_by_key(|attribute| attribute.0);
            each(&Row {
                measure_name,
                dimensions,
                kind: kind_of(number),
                attributes: &attributes,
                time_ns: self.time_ns,
                version: row.get(2),
            })?;
        }
        ControlFlow::Continue(())
    }

    fn dimensions<'s>(&'s self, row: &'s SqlRow) -> Vec<(&'s str, &'s str)> {
        let mut dimensions = Vec::new();
        for (at, column) in self.relation.columns.iter().enumerate() {
            if let Role::Dimension(name) = &column.role
                && let Some(value) = row.get::<_, Option<&str>>(FIXED + at)
            {
                dimensions.push((&**name, value));
            }
        }
        dimensions.sort_unstable();
        dimensions
    }
}
