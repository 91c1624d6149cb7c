//! Writing records: one statement for those that are new or newer, which most are, and the version rule
//! for the others.
//!
//! | step | statement | for |
//! |---|---|---|
//! | 1 | `INSERT .. ON CONFLICT DO UPDATE .. WHERE excluded.version > version AND kind is the same` | the first record of each key |
//! | 2 | `SELECT .. FOR UPDATE` ([`super::locked`]) | keys that did not come back from 1, and updated ones with further records |
//! | 3 | `UPDATE` ([`super::update`]) | what [`decide`] makes of them |
//!
//! Step 1 does both, and costs more than either ([`super::guess`]): as long as a shard meets new rows only
//! it is a COPY ([`super::copy`]), and where nearly all rows stand it is an `UPDATE`, with step 1 as above
//! for those that this did not find.
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

use super::error::SqlError;
use super::guess::{Firsts, Met};
use super::names::{self, Role};
use super::param::{Array, Time, Uuid};
use super::plan::{Item, Key, value_type_of};
use super::schema::Relation;
use super::session::{Param, Session};
use super::{copy, locked, update};
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
pub(super) struct Standing<'s> {
    pub(super) version: i64,
    pub(super) kind: MeasureKind,
    pub(super) attributes: Attributes<'s>,
    is_changed: bool,
}

/// Of a row that step 1 has written whether it is new; `None` of one that it has not.
type Written = Option<bool>;

/// Writes `items`, in their order where they are of one key, and tells what became of each; returns what
/// step 1 met.
pub(super) fn write(
    session: &mut Session,
    relation: &Relation,
    (items, how): (&[Item<'_, '_>], Firsts),
    outcomes: &mut [Option<Outcome>],
) -> Result<Met, WriteError> {
    let used = used_columns(relation, items);
    let mut sorted: Vec<&Item<'_, '_>> = items.iter().collect();
    sorted.sort_by_key(|item| (item.key, item.at));
    let mut groups: Vec<&[&Item<'_, '_>]> = sorted.chunk_by(|a, b| a.key == b.key).collect();
    let mut met = Met::default();
    for _ in 0..VANISHED_MAX {
        groups = once(session, relation, (&groups, &used, how), (outcomes, &mut met))?;
        if groups.is_empty() {
            return Ok(met);
        }
    }
    Err(WriteError::Restless)
}

/// Steps 1 to 3. Returns the groups whose row vanished in between.
fn once<'g, 'i>(
    session: &mut Session,
    relation: &Relation,
    (groups, used, how): (&[&'g [&'i Item<'i, 'i>]], &[u16], Firsts),
    (outcomes, met): (&mut [Option<Outcome>], &mut Met),
) -> Result<Vec<&'g [&'i Item<'i, 'i>]>, WriteError> {
    let firsts: Vec<&Item<'_, '_>> = groups.iter().map(|group| group[0]).collect();
    let written = first(session, relation, (&firsts, used), how)?;
    assert_eq!(written.len(), groups.len(), "each first record is written, or known not to be");
    let mut open = Vec::new();
    for (group, written) in groups.iter().zip(written) {
        met.add(written);
        let Some(is_new) = written else {
            open.push((*group, 0));
            continue;
        };
        outcomes[group[0].at] = Some(if is_new { Outcome::Stored } else { Outcome::Updated });
        if group.len() > 1 {
            open.push((*group, 1));
        }
    }
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let columns: Vec<u16> = used.iter().copied().filter(|at| is_value(relation, *at)).collect();
    let keys: Vec<Key> = open.iter().map(|(group, _)| group[0].key).collect();
    let rows = locked::read(session, relation, &keys, &columns)?;
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
            update::changed(session, relation, &of_kind, (&columns, kind))?;
        }
    }
    Ok(vanished)
}

/// Step 1, in whatever way.
fn first(
    session: &mut Session,
    relation: &Relation,
    (firsts, used): (&[&Item<'_, '_>], &[u16]),
    how: Firsts,
) -> Result<Vec<Written>, WriteError> {
    match how {
        Firsts::Upserted => upsert(session, relation, firsts, used),
        Firsts::Copied => {
            copy::copy(session, relation, firsts, used)?;
            Ok(vec![Some(true); firsts.len()])
        }
        Firsts::Updated => {
            let values: Vec<u16> =
                used.iter().copied().filter(|at| is_value(relation, *at)).collect();
            let mut written = update::newer(session, relation, firsts, &values)?;
            let left: Vec<&Item<'_, '_>> =
                firsts.iter().zip(&written).filter(|(_, w)| w.is_none()).map(|(i, _)| *i).collect();
            if !left.is_empty() {
                let upserted = upsert(session, relation, &left, used)?;
                let open = written.iter_mut().filter(|written| written.is_none());
                open.zip(upserted).for_each(|(open, found)| *open = found);
            }
            Ok(written)
        }
    }
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

/// Step 1 in one statement, whatever stands.
fn upsert(
    session: &mut Session,
    relation: &Relation,
    firsts: &[&Item<'_, '_>],
    used: &[u16],
) -> Result<Vec<Written>, WriteError> {
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
    assert!(rows.len() <= firsts.len(), "each row comes back once");
    let returned: HashMap<Key, bool, RandomState> =
        rows.iter().map(|row| (key_of(row), row.get::<_, i32>(3) == 0)).collect();
    Ok(firsts.iter().map(|item| returned.get(&item.key).copied()).collect())
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

pub(super) fn standing_of<'s>(
    relation: &'s Relation,
    row: &'s Row,
    columns: &[u16],
) -> Standing<'s> {
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

pub(super) fn key_of(row: &Row) -> Key {
    Key { series: row.get(0), time_us: row.get::<_, Time>(1).0, ns: row.get(2) }
}

pub(super) fn arrays(relation: &Relation, columns: &[u16]) -> Vec<Array> {
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
pub(super) struct Keys {
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
    /// These.
    pub(super) fn of(keys: &[Key]) -> Self {
        let mut all = Self::default();
        for key in keys {
            all.push(key);
        }
        all
    }

    pub(super) fn push(&mut self, key: &Key) {
        let Uuid(series) = &key.series;
        self.series.push_uuid(series);
        self.times.push_time(key.time_us);
        self.ns.push_i16(key.ns);
    }

    pub(super) fn params(&self) -> [Param<'_>; 3] {
        [&self.series, &self.times, &self.ns]
    }
}
