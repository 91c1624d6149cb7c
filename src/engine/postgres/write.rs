//! Writing records: one statement for those that are new or newer, which most are, and the version rule
//! for the others.
//!
//! | step | statement | for |
//! |---|---|---|
//! | 1 | `INSERT .. ON CONFLICT DO UPDATE .. WHERE excluded.version > version AND kind is the same` | the first record of each key |
//! | 2 | `SELECT .. FOR UPDATE` | keys that did not come back from 1, and updated ones with further records |
//! | 3 | `UPDATE` | what [`decide`] makes of them |
//!
//! As long as a shard meets new rows only, step 1 is a COPY ([`super::copy`]).
//!
//! A row that comes back from 1 with `writes = 0` is new; the column counts how often the row was written
//! since. Rows are sorted by key in every statement, so that two gateways with the same rows wait for
//! each other and do not deadlock within a statement. Between 1 and 2 a row can vanish (retention); its
//! records then begin again at 1.

use std::collections::HashMap;
use std::fmt::Write as _;

use foldhash::fast::RandomState;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::copy;
use super::error::SqlError;
use super::names::{self, Role};
use super::param::{Array, Time, Uuid};
use super::plan::{Item, Key, value_type_of};
use super::schema::Relation;
use super::session::{Param, Session};
use crate::engine::upsert::{Candidate, Verdict, decide};
use crate::record::codec::CodecError;
use crate::record::request::{Attributes, Outcome};
use crate::record::{MeasureKind, Value, ValueType};

/// How often rows may vanish between being met and being read.
const VANISHED_MAX: usize = 8;

/// Why a statement's records were not written.
#[derive(Debug)]
pub(super) enum WriteError {
    Sql(SqlError),
    Codec(CodecError),
    /// Rows come and go faster than they can be read.
    Restless,
}

impl From<SqlError> for WriteError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<CodecError> for WriteError {
    fn from(error: CodecError) -> Self {
        Self::Codec(error)
    }
}

/// What stands for a key, as far as the statement's records name it.
#[derive(Debug)]
struct Standing<'s> {
    version: i64,
    kind: MeasureKind,
    attributes: Attributes<'s>,
    is_changed: bool,
}

/// How rows are written that nobody has met yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Firsts {
    /// By COPY, in the hope that all are new; [`copy::met_duplicate`] tells that one was not, and that the
    /// transaction is undone.
    Copied,
    /// By a statement that says which were.
    Upserted,
}

/// Writes `items`, in their order where they are of one key, and tells what became of each.
pub(super) fn write(
    session: &mut Session,
    relation: &Relation,
    (items, how): (&[Item<'_, '_>], Firsts),
    outcomes: &mut [Option<Outcome>],
) -> Result<(), WriteError> {
    let used = used_columns(relation, items);
    let mut sorted: Vec<&Item<'_, '_>> = items.iter().collect();
    sorted.sort_by_key(|item| (item.key, item.at));
    let mut groups: Vec<&[&Item<'_, '_>]> = sorted.chunk_by(|a, b| a.key == b.key).collect();
    for _ in 0..VANISHED_MAX {
        groups = once(session, relation, (&groups, &used, how), outcomes)?;
        if groups.is_empty() {
            return Ok(());
        }
    }
    Err(WriteError::Restless)
}

/// Steps 1 to 3. Returns the groups whose row vanished in between.
fn once<'g, 'i>(
    session: &mut Session,
    relation: &Relation,
    (groups, used, how): (&[&'g [&'i Item<'i, 'i>]], &[u16], Firsts),
    outcomes: &mut [Option<Outcome>],
) -> Result<Vec<&'g [&'i Item<'i, 'i>]>, WriteError> {
    let firsts: Vec<&Item<'_, '_>> = groups.iter().map(|group| group[0]).collect();
    let returned = match how {
        Firsts::Upserted => upsert(session, relation, &firsts, used)?,
        Firsts::Copied => {
            copy::copy(session, relation, &firsts, used)?;
            firsts.iter().map(|item| (item.key, true)).collect()
        }
    };
    assert!(returned.len() <= firsts.len(), "each row comes back once");
    let mut open = Vec::new();
    for group in groups {
        match returned.get(&group[0].key) {
            Some(is_new) => {
                let outcome = if *is_new { Outcome::Stored } else { Outcome::Updated };
                outcomes[group[0].at] = Some(outcome);
                if group.len() > 1 {
                    open.push((*group, 1));
                }
            }
            None => open.push((*group, 0)),
        }
    }
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Vec<u16> = used.iter().copied().filter(|at| is_value(relation, *at)).collect();
    let keys: Vec<Key> = open.iter().map(|(group, _)| group[0].key).collect();
    let rows = read(session, relation, &keys, &columns)?;
    let by_key: HashMap<Key, &Row, RandomState> =
        rows.iter().map(|row| (key_of(row), row)).collect();
    let (mut changed, mut vanished) = (Vec::new(), Vec::new());
    for (group, done) in open {
        let Some(row) = by_key.get(&group[0].key) else {
            // Of one that was just written nothing can vanish: its row is locked.
            vanished.push(group);
            continue;
        };
        let mut standing = standing_of(relation, row, &columns);
        for item in &group[done..] {
            outcomes[item.at] = Some(apply(&mut standing, item)?);
        }
        if standing.is_changed {
            changed.push((group[0].key, standing));
        }
    }
    for kind in [MeasureKind::Multi, MeasureKind::Scalar] {
        let of_kind: Vec<_> = changed.iter().filter(|(_, row)| row.kind == kind).collect();
        if !of_kind.is_empty() {
            update(session, relation, &of_kind, (&columns, kind))?;
        }
    }
    Ok(vanished)
}

/// Asks the version rule, and changes what stands.
fn apply<'s>(standing: &mut Standing<'s>, item: &Item<'_, 's>) -> Result<Outcome, CodecError> {
    let incoming = item.sorted()?;
    let verdict = decide(
        Some(&Candidate {
            version: standing.version,
            kind: standing.kind,
            attributes: &standing.attributes,
        }),
        &Candidate { version: item.view.version, kind: item.kind(), attributes: &incoming },
    );
    Ok(match verdict {
        Verdict::Stored => unreachable!("a row stands"),
        Verdict::Unchanged => Outcome::Unchanged,
        Verdict::Rejected(rejection) => Outcome::Rejected(rejection),
        Verdict::Updated(merged) => {
            standing.version = item.view.version;
            standing.attributes = merged;
            standing.is_changed = true;
            Outcome::Updated
        }
    })
}

/// The columns besides the fixed ones that one of the records has. Where one is a scalar, those of all
/// scalars: a new value of another type replaces the old.
fn used_columns(relation: &Relation, items: &[Item<'_, '_>]) -> Vec<u16> {
    let mut is_used = vec![false; relation.columns.len()];
    let (mut dimensions, mut attributes): (&[u16], &[u16]) = (&[], &[]);
    for item in items {
        if !std::ptr::eq(item.dimensions, dimensions) {
            dimensions = item.dimensions;
            for at in dimensions {
                is_used[usize::from(*at)] = true;
            }
        }
        if !std::ptr::eq(item.attributes, attributes) {
            attributes = item.attributes;
            for at in attributes {
                is_used[usize::from(*at)] = true;
            }
            if item.kind() == MeasureKind::Scalar {
                for at in relation.scalars() {
                    is_used[usize::from(at)] = true;
                }
            }
        }
    }
    (0_u16..).zip(is_used).filter(|(_, used)| *used).map(|(at, _)| at).collect()
}

fn is_value(relation: &Relation, at: u16) -> bool {
    !matches!(relation.columns[usize::from(at)].role, Role::Dimension(_))
}

/// Step 1. Returns the keys that were written, each with whether its row is new.
fn upsert(
    session: &mut Session,
    relation: &Relation,
    firsts: &[&Item<'_, '_>],
    used: &[u16],
) -> Result<HashMap<Key, bool, RandomState>, WriteError> {
    let sql = upsert_statement(relation, used);
    let mut keys = Keys::default();
    let mut versions = Array::new(Type::INT8);
    let mut kinds = Array::new(Type::INT2);
    let mut names = Array::new(Type::TEXT);
    let mut columns = arrays(relation, used);
    let mut place = vec![usize::MAX; relation.columns.len()];
    for (at, column) in used.iter().enumerate() {
        place[usize::from(*column)] = at;
    }
    let mut values: Vec<Option<Value<'_>>> = vec![None; used.len()];
    for item in firsts {
        keys.push(&item.key);
        versions.push_i64(item.view.version);
        kinds.push_i16(kind_number(
            item.view.layout.entries().next().map(|(found, _)| found),
            item.kind(),
        ));
        names.push_text(item.view.family.measure_name);
        values.fill(None);
        for (column, (_, value)) in item.dimensions.iter().zip(item.view.dimensions()) {
            values[place[usize::from(*column)]] = Some(Value::Varchar(value));
        }
        for (column, value) in item.attributes.iter().zip(item.view.values()) {
            values[place[usize::from(*column)]] = Some(value?);
        }
        for (column, value) in columns.iter_mut().zip(&values) {
            column.push_value(value.as_ref());
        }
    }
    let [series, times, ns] = keys.params();
    let mut params: Vec<Param<'_>> = vec![series, times, &versions, ns, &kinds, &names];
    params.extend(columns.iter().map(|column| column as Param<'_>));
    let rows = session.query(&sql, &params)?;
    Ok(rows.iter().map(|row| (key_of(row), row.get::<_, i32>(3) == 0)).collect())
}

fn upsert_statement(relation: &Relation, used: &[u16]) -> String {
    let (mut names, mut types, mut sets) = (String::new(), String::new(), String::new());
    for (at, column) in used.iter().enumerate() {
        let column = &relation.columns[usize::from(*column)];
        let quoted = &column.quoted;
        let parts = (
            write!(names, ", {quoted}"),
            write!(types, ", ${}::{}[]", at + 7, names::type_of(&column.role)),
            match &column.role {
                Role::Dimension(_) => Ok(()),
                Role::Attribute(..) => {
                    write!(sets, ", {quoted} = COALESCE(excluded.{quoted}, t.{quoted})")
                }
                Role::Scalar(_) => write!(sets, ", {quoted} = excluded.{quoted}"),
            },
        );
        assert!(matches!(parts, (Ok(()), Ok(()), Ok(()))), "a string takes all");
    }
    format!(
        "INSERT INTO {} AS t (series, time, version, ns, kind, measure_name{names}) \
         SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::smallint[], \
         $5::smallint[], $6::text[]{types}) \
         ON CONFLICT (series, time, ns) DO UPDATE SET version = excluded.version, \
         kind = excluded.kind, writes = t.writes + 1{sets} WHERE excluded.version > t.version \
         AND (excluded.kind = 0) = (t.kind = 0) RETURNING t.series, t.time, t.ns, t.writes",
        relation.quoted
    )
}

/// Step 2.
fn read(
    session: &mut Session,
    relation: &Relation,
    keys: &[Key],
    columns: &[u16],
) -> Result<Vec<Row>, SqlError> {
    let mut list = String::new();
    for column in columns {
        list.push_str(", t.");
        list.push_str(&relation.columns[usize::from(*column)].quoted);
    }
    let sql = format!(
        "SELECT t.series, t.time, t.ns, t.version, t.kind{list} FROM {} AS t JOIN \
         unnest($1::uuid[], $2::timestamptz[], $3::smallint[]) AS k(series, time, ns) \
         ON t.series = k.series AND t.time = k.time AND t.ns = k.ns \
         ORDER BY t.series, t.time, t.ns FOR UPDATE OF t",
        relation.quoted
    );
    let mut arrays = Keys::default();
    for key in keys {
        arrays.push(key);
    }
    session.query(&sql, &arrays.params())
}

/// Step 3.
fn update(
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
    let (mut names, mut types, mut sets) = (String::new(), String::new(), String::new());
    for (at, column) in columns.iter().enumerate() {
        let column = &relation.columns[usize::from(*column)];
        let quoted = &column.quoted;
        let type_name = names::type_of(&column.role);
        let parts = (
            write!(names, ", c{at}"),
            write!(types, ", ${}::{type_name}[]", at + 6),
            match kind {
                MeasureKind::Multi => write!(sets, ", {quoted} = COALESCE(v.c{at}, t.{quoted})"),
                MeasureKind::Scalar => write!(sets, ", {quoted} = v.c{at}"),
            },
        );
        assert!(matches!(parts, (Ok(()), Ok(()), Ok(()))), "a string takes all");
    }
    let sql = format!(
        "UPDATE {} AS t SET version = v.version, kind = v.kind, writes = t.writes + 1{sets} FROM \
         unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::bigint[], $5::smallint[]{types}) \
         AS v(series, time, ns, version, kind{names}) \
         WHERE t.series = v.series AND t.time = v.time AND t.ns = v.ns",
        relation.quoted
    );
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
    let [series, times, ns] = keys.params();
    let mut params: Vec<Param<'_>> = vec![series, times, ns, &versions, &kinds];
    params.extend(arrays.iter().map(|array| array as Param<'_>));
    let updated = session.execute(&sql, &params)?;
    assert_eq!(updated, rows.len() as u64, "the rows are locked, so all are there");
    Ok(())
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

fn standing_of<'s>(relation: &'s Relation, row: &'s Row, columns: &[u16]) -> Standing<'s> {
    let number: i16 = row.get(4);
    let mut attributes = Attributes::new();
    for (at, column) in columns.iter().enumerate() {
        let role = &relation.columns[usize::from(*column)].role;
        if is_of_kind(role, number)
            && let Some(value) = value_of(row, 5 + at, value_type_of(role))
        {
            attributes.push((name_of(role), value));
        }
    }
    attributes.sort_unstable_by_key(|attribute| attribute.0);
    Standing { version: row.get(3), kind: kind_of(number), attributes, is_changed: false }
}

/// The name of the attribute that a column holds; a scalar's has none.
pub(super) fn name_of(role: &Role) -> &str {
    match role {
        Role::Dimension(name) | Role::Attribute(name, _) => name,
        Role::Scalar(_) => "",
    }
}

/// The value of a column.
pub(super) fn value_of(row: &Row, at: usize, value_type: ValueType) -> Option<Value<'_>> {
    match value_type {
        ValueType::Double => row.get::<_, Option<f64>>(at).map(Value::Double),
        ValueType::Bigint => row.get::<_, Option<i64>>(at).map(Value::Bigint),
        ValueType::Timestamp => row.get::<_, Option<i64>>(at).map(Value::Timestamp),
        ValueType::Boolean => row.get::<_, Option<bool>>(at).map(Value::Boolean),
        ValueType::Varchar => row.get::<_, Option<&str>>(at).map(Value::Varchar),
    }
}

/// The number of a kind in a row: 0, or the number of the type of a scalar's value. So a column that
/// another gateway has made, and this one does not know yet, is never taken for the value.
pub(super) fn kind_number(first: Option<ValueType>, kind: MeasureKind) -> i16 {
    match kind {
        MeasureKind::Multi => 0,
        MeasureKind::Scalar => i16::from(first.map_or(0, ValueType::number)),
    }
}

/// The kind with this number in a row.
pub(super) const fn kind_of(number: i16) -> MeasureKind {
    if number == 0 { MeasureKind::Multi } else { MeasureKind::Scalar }
}

/// Whether a row of the kind with this number has its values in columns of this role.
pub(super) fn is_of_kind(role: &Role, number: i16) -> bool {
    match role {
        Role::Dimension(_) => false,
        Role::Attribute(..) => number == 0,
        Role::Scalar(value_type) => i16::from(value_type.number()) == number,
    }
}

fn key_of(row: &Row) -> Key {
    Key { series: row.get(0), time_us: row.get::<_, Time>(1).0, ns: row.get(2) }
}

fn arrays(relation: &Relation, columns: &[u16]) -> Vec<Array> {
    let type_of = |at: &u16| match value_type_of(&relation.columns[usize::from(*at)].role) {
        ValueType::Double => Type::FLOAT8,
        ValueType::Bigint | ValueType::Timestamp => Type::INT8,
        ValueType::Boolean => Type::BOOL,
        ValueType::Varchar => Type::TEXT,
    };
    columns.iter().map(|at| Array::new(type_of(at))).collect()
}

/// The keys of a statement's rows.
#[derive(Debug)]
struct Keys {
    series: Array,
    times: Array,
    ns: Array,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            series: Array::new(Type::UUID),
            times: Array::new(Type::TIMESTAMPTZ),
            ns: Array::new(Type::INT2),
        }
    }
}

impl Keys {
    fn push(&mut self, key: &Key) {
        let Uuid(series) = &key.series;
        self.series.push_uuid(series);
        self.times.push_time(key.time_us);
        self.ns.push_i16(key.ns);
    }

    fn params(&self) -> [Param<'_>; 3] {
        [&self.series, &self.times, &self.ns]
    }
}
