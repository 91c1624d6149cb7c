//! Which tables and columns there are, and making those that are missing.
//!
//! | table | holds |
//! |---|---|
//! | `tidegate.gateways`, `tidegate.marks` | how far each gateway got ([`super::marks`]) |
//! | `tidegate.tables` | which relation is which table of which database; its row is the lock of whoever changes the table |
//! | `tidegate.columns` | which column is what |
//! | `tidegate.lives` | under which number a gateway's catalog has the table: an older number is an earlier life |
//! | `tidegate.drops` | how many tables were ever dropped |
//!
//! A table only grows, in a transaction of its own that holds nothing else, while it lives; what a
//! gateway has read of it stays true, and another's additions need no news. A **drop** makes it untrue:
//! whoever writes in the belief that nothing was dropped looks at `tidegate.drops` behind its last
//! statement, and begins anew if that is not what it was. It cannot be missed: the drop waits for
//! whoever has written to the table and not committed yet, and whoever writes after the drop looks after
//! it.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::SqlError;
use super::names::{self, Role, quoted};
use super::options::FILLFACTOR_FULL;
use super::session::Session;
use crate::engine::catalog::{ClaimError, Table};
use crate::record::{TableId, ValueType};

/// How often a change is tried while others make the same.
const TRIES_MAX: u32 = 20;

/// Our own tables. `int4` by that name: CockroachDB's `int` has eight bytes. Source: its documentation,
/// "INT".
pub(super) const OWN_TABLES: &str = "
CREATE SCHEMA IF NOT EXISTS tidegate;
CREATE TABLE IF NOT EXISTS tidegate.gateways (
    gateway text PRIMARY KEY, epoch bigint NOT NULL, shards int4 NOT NULL, base bigint[] NOT NULL);
CREATE TABLE IF NOT EXISTS tidegate.marks (
    gateway text, shard int4, lsn bigint NOT NULL, epoch bigint NOT NULL, PRIMARY KEY (gateway, shard));
CREATE TABLE IF NOT EXISTS tidegate.tables (
    database text, name text, schema_name text NOT NULL, table_name text NOT NULL,
    PRIMARY KEY (database, name));
CREATE TABLE IF NOT EXISTS tidegate.columns (
    database text, table_name text, column_name text, role text NOT NULL, name text NOT NULL,
    value_type text NOT NULL, place int4 NOT NULL, PRIMARY KEY (database, table_name, column_name));
CREATE TABLE IF NOT EXISTS tidegate.lives (
    gateway text, database text, name text, number bigint NOT NULL,
    PRIMARY KEY (gateway, database, name));
CREATE TABLE IF NOT EXISTS tidegate.drops (one boolean PRIMARY KEY, number bigint NOT NULL);
INSERT INTO tidegate.drops VALUES (true, 0) ON CONFLICT (one) DO NOTHING";

/// A column of a table.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) quoted: Box<str>,
    pub(super) role: Role,
}

/// A table in the database, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Relation {
    /// Schema and table, quoted.
    pub(super) quoted: Box<str>,
    pub(super) columns: Vec<Column>,
    dimensions: HashMap<Box<str>, u16>,
    attributes: HashMap<Box<str>, (u16, ValueType)>,
    scalars: HashMap<ValueType, u16>,
    /// The server has no room for a column more.
    is_full: bool,
}

/// What records need of a table.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub(super) dimensions: Vec<Box<str>>,
    /// Of each layout the attributes; all of it is made, or nothing.
    pub(super) layouts: Vec<Vec<(Box<str>, ValueType)>>,
    pub(super) scalars: Vec<ValueType>,
}

/// Who makes a table, and how.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker<'m> {
    pub(super) gateway: &'m str,
    pub(super) fillfactor: u8,
}

/// Why a table cannot have what a record needs.
#[derive(Debug)]
pub(super) enum Unmet {
    /// It is not there yet.
    Missing,
    /// It never will be.
    Refused(ClaimError),
}

/// What is known of all tables.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// How many tables were dropped when this was true.
    pub(super) drops: i64,
    pub(super) relations: HashMap<TableId, Arc<Relation>>,
}

impl Needs {
    pub(super) fn is_empty(&self) -> bool {
        self.dimensions.is_empty() && self.layouts.is_empty() && self.scalars.is_empty()
    }
}

impl Relation {
    fn add(&mut self, column: &str, role: Role) {
        let place = u16::try_from(self.columns.len()).expect("a table has fewer columns");
        match &role {
            Role::Dimension(name) => drop(self.dimensions.insert(name.clone(), place)),
            Role::Attribute(name, value_type) => {
                self.attributes.insert(name.clone(), (place, *value_type));
            }
            Role::Scalar(value_type) => drop(self.scalars.insert(*value_type, place)),
        }
        self.columns.push(Column { quoted: quoted(column).into(), role });
    }

    fn has(&self, role: &Role) -> bool {
        match role {
            Role::Dimension(name) => self.dimensions.contains_key(name),
            Role::Attribute(name, _) => self.attributes.contains_key(name),
            Role::Scalar(value_type) => self.scalars.contains_key(value_type),
        }
    }

    /// The column of a dimension.
    pub(super) fn dimension(&self, name: &str) -> Result<u16, Unmet> {
        self.dimensions.get(name).copied().ok_or_else(|| self.lack(name))
    }

    /// The columns of a MULTI record's attributes, in the order of the layout.
    pub(super) fn layout(
        &self,
        entries: impl Iterator<Item = (ValueType, impl AsRef<str>)>,
        columns_max: usize,
    ) -> Result<Vec<u16>, Unmet> {
        let mut places = Vec::new();
        let mut missing: Vec<String> = Vec::new();
        for (found, name) in entries {
            let name = name.as_ref();
            match self.attributes.get(name) {
                Some((place, existing)) if *existing == found => places.push(*place),
                Some((_, existing)) => {
                    let (attribute, existing) = (name.to_owned(), *existing);
                    return Err(Unmet::Refused(ClaimError::Type { attribute, found, existing }));
                }
                None => missing.push(name.to_owned()),
            }
        }
        let Some(attribute) = missing.first().cloned() else { return Ok(places) };
        if self.attributes.len() + missing.len() > columns_max {
            return Err(Unmet::Refused(ClaimError::Limit { attribute, columns_max }));
        }
        Err(self.lack(&attribute))
    }

    /// The column of a scalar's value.
    pub(super) fn scalar(&self, value_type: ValueType) -> Result<u16, Unmet> {
        self.scalars.get(&value_type).copied().ok_or_else(|| self.lack(value_type.name()))
    }

    /// The columns of all scalars' values.
    pub(super) fn scalars(&self) -> impl Iterator<Item = u16> {
        self.scalars.values().copied()
    }

    fn lack(&self, name: &str) -> Unmet {
        if !self.is_full {
            return Unmet::Missing;
        }
        let (attribute, columns_max) = (name.to_owned(), self.columns.len());
        Unmet::Refused(ClaimError::Limit { attribute, columns_max })
    }
}

/// Makes our own tables where they are missing.
pub(super) fn make_own(session: &mut Session) -> Result<(), SqlError> {
    until_alone(|| session.batch(OWN_TABLES))
}

/// How many tables were dropped so far.
pub(super) fn drops(session: &mut Session) -> Result<i64, SqlError> {
    let rows = session.query("SELECT number FROM tidegate.drops WHERE one", &[])?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// The table, with all in it that records need and it can have. What the gateway had under this name in
/// an earlier life is dropped before.
pub(super) fn ensure(
    session: &mut Session,
    maker: Maker<'_>,
    table: &Table,
    needs: &Needs,
) -> Result<Relation, SqlError> {
    until_alone(|| {
        let mut is_full = false;
        loop {
            let result = in_transaction(session, |session| {
                let mut relation = enter(session, maker, table)?;
                relation.is_full = is_full;
                grow(session, table, needs, &mut relation)?;
                Ok(relation)
            });
            match result {
                Err(error) if error.is_full() && !is_full => is_full = true,
                result => return result,
            }
        }
    })
}

/// Drops what the gateway has under this name, if that is still the table of this number. Returns whether
/// it was.
pub(super) fn forget(
    session: &mut Session,
    gateway: &str,
    (database, name, number): (&str, &str, i64),
) -> Result<bool, SqlError> {
    in_transaction(session, |session| {
        let lock = "SELECT 1 FROM tidegate.tables WHERE database = $1 AND name = $2 FOR UPDATE";
        session.query(lock, &[&database, &name])?;
        let forgotten = session.execute(
            "DELETE FROM tidegate.lives WHERE gateway = $1 AND database = $2 AND name = $3 \
             AND number = $4",
            &[&gateway, &database, &name, &number],
        )?;
        if forgotten > 0 {
            drop_relation(session, database, name)?;
        }
        Ok(forgotten > 0)
    })
}

/// The table as it is, without making anything; `None` where there is none, or only one of an earlier
/// life.
pub(super) fn look(
    session: &mut Session,
    gateway: &str,
    table: &Table,
) -> Result<Option<Relation>, SqlError> {
    let (database, name) = (&*table.database, &*table.name);
    let found = session.query(
        "SELECT t.schema_name, t.table_name, l.number FROM tidegate.tables t LEFT JOIN \
         tidegate.lives l ON l.database = t.database AND l.name = t.name AND l.gateway = $3 \
         WHERE t.database = $1 AND t.name = $2",
        &[&database, &name, &gateway],
    )?;
    let Some(row) = found.first() else { return Ok(None) };
    if row.get::<_, Option<i64>>(2).is_some_and(|number| number != i64::from(table.id.0)) {
        return Ok(None);
    }
    let mut relation =
        Relation { quoted: relation_of(row.get(0), row.get(1)), ..Relation::default() };
    read_columns(session, table, &mut relation)?;
    Ok(Some(relation))
}

fn relation_of(schema: &str, table: &str) -> Box<str> {
    format!("{}.{}", quoted(schema), quoted(table)).into()
}

/// Takes the lock of the table and reads it; begins it where it is new, or was another life's.
fn enter(session: &mut Session, maker: Maker<'_>, table: &Table) -> Result<Relation, SqlError> {
    let gateway = maker.gateway;
    let (database, name) = (&*table.database, &*table.name);
    let (schema, relation) = (names::schema(database), names::table(name));
    session.execute(
        "INSERT INTO tidegate.tables VALUES ($1, $2, $3, $4) ON CONFLICT (database, name) DO NOTHING",
        &[&database, &name, &schema, &relation],
    )?;
    let lock = "SELECT 1 FROM tidegate.tables WHERE database = $1 AND name = $2 FOR UPDATE";
    session.query(lock, &[&database, &name])?;
    let number = i64::from(table.id.0);
    let lives = session.query(
        "SELECT number FROM tidegate.lives WHERE gateway = $1 AND database = $2 AND name = $3",
        &[&gateway, &database, &name],
    )?;
    if lives.first().is_some_and(|row| row.get::<_, i64>(0) < number) {
        drop_relation(session, database, name)?;
        session.execute(
            "INSERT INTO tidegate.tables VALUES ($1, $2, $3, $4)",
            &[&database, &name, &schema, &relation],
        )?;
    }
    session.execute(
        "INSERT INTO tidegate.lives VALUES ($1, $2, $3, $4) ON CONFLICT (gateway, database, name) \
         DO UPDATE SET number = excluded.number WHERE lives.number < excluded.number",
        &[&gateway, &database, &name, &number],
    )?;
    session.batch(&format!(
        "CREATE SCHEMA IF NOT EXISTS {}; {}",
        quoted(&schema),
        create_statement(&schema, &relation, maker.fillfactor)
    ))?;
    let mut known = Relation { quoted: relation_of(&schema, &relation), ..Relation::default() };
    read_columns(session, table, &mut known)?;
    Ok(known)
}

/// The statement that makes a table with its fixed columns. The order leaves no gaps in a row.
pub(super) fn create_statement(schema: &str, table: &str, fillfactor: u8) -> String {
    // Not every server knows it.
    let storage = if fillfactor == FILLFACTOR_FULL {
        String::new()
    } else {
        format!(" WITH (fillfactor = {fillfactor})")
    };
    format!(
        "CREATE TABLE IF NOT EXISTS {} (series uuid NOT NULL, time timestamptz NOT NULL, \
         version bigint NOT NULL, ns smallint NOT NULL, kind smallint NOT NULL, \
         writes int4 NOT NULL DEFAULT 0, measure_name text NOT NULL, \
         CONSTRAINT {} PRIMARY KEY (series, time, ns)){storage}",
        relation_of(schema, table),
        quoted(&names::key_of(schema, table)),
    )
}

fn read_columns(
    session: &mut Session,
    table: &Table,
    relation: &mut Relation,
) -> Result<(), SqlError> {
    let rows = session.query(
        "SELECT column_name, role, name, value_type FROM tidegate.columns \
         WHERE database = $1 AND table_name = $2 ORDER BY place",
        &[&&*table.database, &&*table.name],
    )?;
    for row in rows {
        let (role, name): (&str, &str) = (row.get(1), row.get(2));
        let value_type = ValueType::from_name(row.get(3)).unwrap_or(ValueType::Varchar);
        let role = match role {
            "dimension" => Role::Dimension(name.into()),
            "attribute" => Role::Attribute(name.into(), value_type),
            _ => Role::Scalar(value_type),
        };
        relation.add(row.get(0), role);
    }
    Ok(())
}

/// Makes the columns that are needed and missing.
fn grow(
    session: &mut Session,
    table: &Table,
    needs: &Needs,
    relation: &mut Relation,
) -> Result<(), SqlError> {
    let before = relation.columns.len();
    if !relation.is_full {
        for name in &needs.dimensions {
            claim(relation, Role::Dimension(name.clone()));
        }
        for value_type in &needs.scalars {
            claim(relation, Role::Scalar(*value_type));
        }
        let columns_max = table.settings().columns_max;
        for layout in &needs.layouts {
            claim_layout(relation, layout, columns_max);
        }
    }
    // All of them, known ones too: somebody may have put back an older copy of the table.
    let mut statement = String::new();
    for (place, column) in relation.columns.iter().enumerate() {
        let type_name = names::type_of(&column.role);
        statement.push_str(if statement.is_empty() { "" } else { ", " });
        for part in ["ADD COLUMN IF NOT EXISTS ", &*column.quoted, " ", type_name] {
            statement.push_str(part);
        }
        if place >= before {
            write_column(session, table, column, place)?;
        }
    }
    if statement.is_empty() {
        return Ok(());
    }
    session.batch(&format!("ALTER TABLE {} {statement}", relation.quoted))
}

/// Claims all attributes of a layout, or none where one does not fit.
fn claim_layout(relation: &mut Relation, layout: &[(Box<str>, ValueType)], columns_max: usize) {
    let mut missing = 0;
    for (name, value_type) in layout {
        match relation.attributes.get(name) {
            Some((_, existing)) if existing != value_type => return,
            Some(_) => {}
            None => missing += 1,
        }
    }
    if relation.attributes.len() + missing <= columns_max {
        for (name, value_type) in layout {
            claim(relation, Role::Attribute(name.clone(), *value_type));
        }
    }
}

fn claim(relation: &mut Relation, role: Role) {
    if relation.has(&role) {
        return;
    }
    let name = names::column(&role, |name| {
        let name = quoted(name);
        relation.columns.iter().any(|column| *column.quoted == *name)
    });
    relation.add(&name, role);
}

fn write_column(
    session: &mut Session,
    table: &Table,
    column: &Column,
    place: usize,
) -> Result<(), SqlError> {
    let (role, name, value_type) = match &column.role {
        Role::Dimension(name) => ("dimension", &**name, ValueType::Varchar),
        Role::Attribute(name, value_type) => ("attribute", &**name, *value_type),
        Role::Scalar(value_type) => ("scalar", "", *value_type),
    };
    let place = i32::try_from(place).expect("a table has fewer columns");
    let quotes = column.quoted.len() - 1;
    let column_name = column.quoted[1..quotes].replace("\"\"", "\"");
    session.execute(
        "INSERT INTO tidegate.columns VALUES ($1, $2, $3, $4, $5, $6, $7)",
        &[&&*table.database, &&*table.name, &column_name, &role, &name, &value_type.name(), &place],
    )?;
    Ok(())
}

fn drop_relation(session: &mut Session, database: &str, name: &str) -> Result<(), SqlError> {
    // First: whoever looks at it behind a write to the dropped table must find it changed.
    session.execute("UPDATE tidegate.drops SET number = number + 1 WHERE one", &[])?;
    let relation = relation_of(&names::schema(database), &names::table(name));
    session.batch(&format!("DROP TABLE IF EXISTS {relation}"))?;
    for own in [
        "columns WHERE database = $1 AND table_name = $2",
        "tables WHERE database = $1 AND name = $2",
    ] {
        session.execute(&format!("DELETE FROM tidegate.{own}"), &[&database, &name])?;
    }
    Ok(())
}

/// Executes `work` in a transaction of its own.
pub(super) fn in_transaction<T>(
    session: &mut Session,
    work: impl FnOnce(&mut Session) -> Result<T, SqlError>,
) -> Result<T, SqlError> {
    session.batch("BEGIN ISOLATION LEVEL READ COMMITTED")?;
    let result = work(session);
    let end = session.batch(if result.is_ok() { "COMMIT" } else { "ROLLBACK" });
    let value = result?;
    end.map(|()| value)
}

/// Tries again while somebody else makes the same at the same time.
fn until_alone<T>(mut change: impl FnMut() -> Result<T, SqlError>) -> Result<T, SqlError> {
    let mut tries = 0;
    loop {
        match change() {
            Err(error) if error.is_made_already() && tries < TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}
