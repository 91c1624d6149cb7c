//! The catalog: which databases and tables there are, by name for requests and by number for payloads,
//! and how they are set.
//!
//! | file | what it holds |
//! |---|---|
//! | [`settings`] | what databases and tables are made with, and what may be changed |
//! | [`table`] | one database, one table, and what its records have claimed |
//! | [`error`] | why the catalog refuses or fails |
//! | [`state`] | what the log's entries amount to |
//! | [`log`] | the file |
//!
//! # `catalog.log`, version 2
//!
//! Append-only lines of text, so that an operator can read it and a crash can hurt the last line only:
//!
//! | part | form |
//! |---|---|
//! | checksum | CRC-32 of the entry's bytes, 8 lower-case hexadecimal digits |
//! | separator | one space |
//! | entry | JSON, one object, its `op` says what it is |
//! | end | `\n` |
//!
//! | `op` | says | since |
//! |---|---|---|
//! | `catalog` | `format`; the first line and no other | 1 |
//! | `create` | a table: `id`, `database`, `table`, `settings`; makes the database where there is none | 1 |
//! | `set_table` | `id`, `settings`: all settings of the table from now on | 2 |
//! | `names` | `id`, `dimensions`, `measures`: names that records of a strict table were the first to use | 2 |
//! | `delete_table` | `id` | 2 |
//! | `create_database` | `database`, `settings` | 2 |
//! | `set_database` | `database`, `settings`: all settings of the database from now on | 2 |
//! | `delete_database` | `database`, which has no tables any more | 2 |
//!
//! A log is valid if and only if every line's checksum is right, the first says the format, tables
//! are numbered 1, 2, 3 and so on, and every other entry is about what is there at that line. A log of
//! version 1 is written anew as version 2 when it is opened, in one replacement of the file.
//!
//! A change is known to nobody before its line is synced. A line that a crash cut short (no end, or
//! holes of zeros where its bytes should be) was therefore never acknowledged and is dropped at
//! start; anything else that is wrong is damage, and the start is refused with the line's number,
//! since a lost table would orphan every record that names its number.
//!
//! # Why a deleted table stays deleted
//!
//! A table's number is given once. Whoever makes the table anew gets another number, so a record in
//! the log, in memory or in a file, which names the number that it was written under, can never be
//! taken for one of the new table, in whatever order a crash and its replay meet them. What names a
//! deleted number is dropped where it is met: it was deleted with its table.

pub mod settings;
pub mod table;
pub mod error;
mod state;
mod log;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::checked;
use crate::record::TableId;
use crate::record::limits::{DATABASES_MAX, TABLE_NAME_BYTES_MAX, TABLES_MAX};

use log::{Entry, Log};
use settings::check_tags;
use state::State;

pub use error::{CatalogError, ClaimError};
pub use settings::{
    DatabaseSettings, Encryption, Enforcement, PartitionKey, Profile, RejectLocation, Retention,
    TableSettings, TableUpdate, Tags,
};
pub use table::{Database, Table};

/// Databases and tables, for every thread. What it answers is durable.
#[derive(Debug)]
pub struct Catalog {
    /// Read for every request, written by every change. Locked after `log`, never before.
    state: RwLock<State>,
    /// Held while a change is decided, written and executed, so that changes are in one order.
    log: Mutex<Log>,
}

/// What has tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The database of this name.
    Database(&'a str),
    /// The table of this name in a database.
    Table {
        /// The database.
        database: &'a str,
        /// The table.
        table: &'a str,
    },
}

/// A part of a list. To go on, ask for what comes after the name of its last item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of their names.
    pub items: Vec<T>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

impl<T> Page<T> {
    fn of(mut all: impl Iterator<Item = T>, max: usize) -> Self {
        let items = all.by_ref().take(max).collect();
        Self { items, has_more: all.next().is_some() }
    }
}

/// Reading: nothing in here waits for a disk.
impl Catalog {
    /// Opens the catalog in `dir`, or begins one there. Drops a line that a crash cut short.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: a line is not what was written; nothing was changed.
    /// [`CatalogError::Io`]: the log cannot be read, cut or begun.
    pub fn open(dir: &Path) -> Result<Self, CatalogError> {
        let (log, state) = Log::open(dir)?;
        Ok(Self { state: RwLock::new(state), log: Mutex::new(log) })
    }

    /// Every table that ever was in the catalog in `dir`, by number, deleted ones too since a log may
    /// name them still. Opens nothing: no lock, no write, so also beside the server that has it. None
    /// where there is no catalog.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: a line is not what was written. [`CatalogError::Io`].
    pub fn read_only(dir: &Path) -> Result<Vec<Arc<Table>>, CatalogError> {
        Ok(log::read_only(dir)?.all().map(Arc::clone).collect())
    }

    /// The table of this name.
    pub fn resolve(&self, database: &str, table: &str) -> Option<Arc<Table>> {
        self.state().find(database, table).map(Arc::clone)
    }

    /// Whether there is such a database.
    pub fn has_database(&self, database: &str) -> bool {
        self.state().home(database).is_some()
    }

    /// The database of this name.
    pub fn database(&self, database: &str) -> Option<Arc<Database>> {
        self.state().home(database).map(|home| Arc::clone(&home.database))
    }

    /// How many tables a database has; `None` where there is no such database.
    pub fn table_count(&self, database: &str) -> Option<usize> {
        self.state().home(database).map(|home| home.tables.len())
    }

    /// The table of this number, unless it is deleted.
    pub fn get(&self, id: TableId) -> Option<Arc<Table>> {
        self.state().get(id).map(Arc::clone)
    }

    /// The table of this number as it was, if it is deleted. Deleted for good: the number is not given
    /// again. A number that never was given is not deleted.
    pub fn deleted(&self, id: TableId) -> Option<Arc<Table>> {
        self.state().deleted(id).map(Arc::clone)
    }

    /// Whether the table of this number is deleted.
    pub fn is_deleted(&self, id: TableId) -> bool {
        self.state().deleted(id).is_some()
    }

    /// Every table, in the order in which they were made.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.state().tables().map(Arc::clone).collect()
    }

    /// Every deleted table, in the order in which they were made.
    pub fn deleted_tables(&self) -> Vec<Arc<Table>> {
        let state = self.state();
        state.all().filter(|table| state.deleted(table.id).is_some()).map(Arc::clone).collect()
    }

    /// At most `max` databases in the order of their names, those behind `after` where it is given;
    /// there need be none of that name any more.
    pub fn list_databases(&self, after: Option<&str>, max: usize) -> Page<Arc<Database>> {
        self.state().page_of_databases(after, max)
    }

    /// At most `max` tables in the order of their databases and names, those behind `after`, a
    /// database and a table, where it is given; of one database only, or of all.
    pub fn list_tables(
        &self,
        database: Option<&str>,
        after: Option<(&str, &str)>,
        max: usize,
    ) -> Page<Arc<Table>> {
        self.state().page_of_tables(database, after, max)
    }

    /// The tags of a database or table.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`].
    pub fn tags(&self, resource: Resource<'_>) -> Result<Tags, CatalogError> {
        match resource {
            Resource::Database(name) => self
                .database(name)
                .map(|database| database.settings().tags.clone())
                .ok_or_else(|| CatalogError::no_database(name)),
            Resource::Table { database, table } => self
                .resolve(database, table)
                .map(|table| table.settings().tags.clone())
                .ok_or_else(|| CatalogError::no_table(table)),
        }
    }

    // A panic elsewhere leaves a map whole: nothing in here panics between two changes.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changing: each change is one line of the log, and durable on return, which costs a sync. An error
/// of class `Refused` changed nothing. After [`CatalogError::Io`] whether the change is there after a
/// restart is unknown, until then it is not; from then on every change is [`CatalogError::Poisoned`].
impl Catalog {
    /// The table of this name, made with `settings` if there is none, and its database as well; an
    /// existing one keeps its own.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Name`], [`CatalogError::Limit`], [`CatalogError::Setting`];
    /// [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn create(
        &self,
        database: &str,
        table: &str,
        settings: &TableSettings,
    ) -> Result<Arc<Table>, CatalogError> {
        if let Some(table) = self.resolve(database, table) {
            return Ok(table);
        }
        check_name("database", database)?;
        check_name("table", table)?;
        self.change(|state| match state.find(database, table) {
            // Whoever held the lock before may have made it.
            Some(_) => Ok(None),
            None => entry_of_table(state, [database, table], settings).map(Some),
        })?;
        self.resolve(database, table).ok_or_else(|| CatalogError::no_table(table))
    }

    /// Makes a table in a database that there is.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] without that database, [`CatalogError::Exists`] with that table;
    /// and as [`Self::create`].
    pub fn create_table(
        &self,
        database: &str,
        table: &str,
        settings: &TableSettings,
    ) -> Result<Arc<Table>, CatalogError> {
        check_name("table", table)?;
        self.change(|state| {
            let home = state.home(database).ok_or_else(|| CatalogError::no_database(database))?;
            if home.tables.contains_key(table) {
                return Err(CatalogError::Exists { what: "table", name: table.to_owned() });
            }
            entry_of_table(state, [database, table], settings).map(Some)
        })?;
        self.resolve(database, table).ok_or_else(|| CatalogError::no_table(table))
    }

    /// Makes a database.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Exists`]; and as [`Self::create`].
    pub fn create_database(
        &self,
        name: &str,
        settings: &DatabaseSettings,
    ) -> Result<Arc<Database>, CatalogError> {
        check_name("database", name)?;
        check_tags(&settings.tags)?;
        self.change(|state| {
            if state.home(name).is_some() {
                return Err(CatalogError::Exists { what: "database", name: name.to_owned() });
            }
            check_room_for_database(state)?;
            let updated_ns = settings.updated_ns.max(settings.created_ns);
            let settings = DatabaseSettings { updated_ns, ..settings.clone() };
            Ok(Some(Entry::CreateDatabase { database: name.into(), settings }))
        })?;
        self.database(name).ok_or_else(|| CatalogError::no_database(name))
    }

    /// Gives a database another key, at `now_ns`; the same key again changes nothing.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`]; [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn update_database(
        &self,
        name: &str,
        kms_key: &str,
        now_ns: i64,
    ) -> Result<Arc<Database>, CatalogError> {
        self.set_database(name, |settings| {
            if settings.kms_key.as_deref() != Some(kms_key) {
                settings.kms_key = Some(kms_key.to_owned());
                settings.updated_ns = now_ns;
            }
            Ok(())
        })
    }

    /// Changes a table's settings, at `now_ns`. What `update` does not name stays.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`], [`CatalogError::Setting`]; [`CatalogError::Io`],
    /// [`CatalogError::Poisoned`].
    pub fn update_table(
        &self,
        database: &str,
        table: &str,
        update: &TableUpdate,
        now_ns: i64,
    ) -> Result<Arc<Table>, CatalogError> {
        self.set_table([database, table], |settings| {
            *settings = settings.updated(update, now_ns)?;
            Ok(())
        })
    }

    /// Deletes a table. From now on nothing is taken under its number; what is stored under it is let
    /// go of by the engine, which has to be told ([`crate::engine::TableEngine::table_deleted`]).
    /// Returns the table as it was.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`]; [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn delete_table(&self, database: &str, table: &str) -> Result<Arc<Table>, CatalogError> {
        let mut found = None;
        self.change(|state| {
            let table = known_table(state, [database, table])?;
            found = Some(Arc::clone(table));
            Ok(Some(Entry::DeleteTable { id: table.id }))
        })?;
        found.ok_or_else(|| CatalogError::no_table(table))
    }

    /// Deletes a database, which must have no tables. Source: Timestream API, `DeleteDatabase`.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`], [`CatalogError::NotEmpty`]; [`CatalogError::Io`],
    /// [`CatalogError::Poisoned`].
    pub fn delete_database(&self, name: &str) -> Result<(), CatalogError> {
        self.change(|state| {
            let home = state.home(name).ok_or_else(|| CatalogError::no_database(name))?;
            match home.tables.len() {
                0 => Ok(Some(Entry::DeleteDatabase { database: name.into() })),
                tables => Err(CatalogError::NotEmpty { database: name.to_owned(), tables }),
            }
        })
    }

    /// Gives a database or table these tags, beside those that it has; a key that it has gets the new
    /// value.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`], [`CatalogError::Limit`], [`CatalogError::Setting`];
    /// [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn tag(&self, resource: Resource<'_>, tags: &Tags) -> Result<(), CatalogError> {
        self.set_tags(resource, |all| {
            all.extend(tags.iter().map(|(key, value)| (key.clone(), value.clone())));
        })
    }

    /// Takes the tags of these keys away, where it has them.
    ///
    /// # Errors
    ///
    /// As [`Self::tag`].
    pub fn untag(&self, resource: Resource<'_>, keys: &[&str]) -> Result<(), CatalogError> {
        self.set_tags(resource, |all| all.retain(|key, _| !keys.contains(&&**key)))
    }

    /// Counts the names of a strict table's record among those of its table. Costs a sync where one of
    /// them is new, which happens a bounded number of times in a table's life.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Claim`]: the table has no room for them, or is deleted; nothing was counted.
    /// [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn claim_names<'n>(
        &self,
        table: &Table,
        dimensions: impl Iterator<Item = &'n str> + Clone,
        measure: &str,
    ) -> Result<(), CatalogError> {
        if table.new_names(dimensions.clone(), measure)?.is_empty() {
            return Ok(());
        }
        self.change(|state| {
            let id = table.id;
            let table = state.get(id).ok_or(ClaimError::Deleted { id })?;
            let new = table.new_names(dimensions, measure)?;
            // Another may have counted them between the two looks.
            let (dimensions, measures) = (new.dimensions, new.measures);
            let is_new = !dimensions.is_empty() || !measures.is_empty();
            Ok(is_new.then_some(Entry::Names { id, dimensions, measures }))
        })
    }

    fn set_tags(
        &self,
        resource: Resource<'_>,
        change: impl FnOnce(&mut Tags),
    ) -> Result<(), CatalogError> {
        let change = |tags: &mut Tags| {
            change(tags);
            check_tags(tags)
        };
        match resource {
            Resource::Database(name) => {
                self.set_database(name, |settings| change(&mut settings.tags)).map(drop)
            }
            Resource::Table { database, table } => {
                self.set_table([database, table], |settings| change(&mut settings.tags)).map(drop)
            }
        }
    }

    /// Changes a database's settings as a whole; what stays as it was is not written.
    fn set_database(
        &self,
        name: &str,
        change: impl FnOnce(&mut DatabaseSettings) -> Result<(), CatalogError>,
    ) -> Result<Arc<Database>, CatalogError> {
        self.change(|state| {
            let home = state.home(name).ok_or_else(|| CatalogError::no_database(name))?;
            let before = home.database.settings();
            let mut settings = (*before).clone();
            change(&mut settings)?;
            let is_changed = settings != *before;
            Ok(is_changed.then(|| Entry::SetDatabase { database: name.into(), settings }))
        })?;
        self.database(name).ok_or_else(|| CatalogError::no_database(name))
    }

    /// Changes a table's settings as a whole; what stays as it was is not written.
    fn set_table(
        &self,
        names: [&str; 2],
        change: impl FnOnce(&mut TableSettings) -> Result<(), CatalogError>,
    ) -> Result<Arc<Table>, CatalogError> {
        let mut found = None;
        self.change(|state| {
            let table = known_table(state, names)?;
            found = Some(Arc::clone(table));
            let before = table.settings();
            let mut settings = (*before).clone();
            change(&mut settings)?;
            let is_changed = settings != *before;
            Ok(is_changed.then(|| Entry::SetTable { id: table.id, settings }))
        })?;
        found.ok_or_else(|| CatalogError::no_table(names[1]))
    }

    /// Decides on a change, writes it and executes it; `None` is no change. What `decide` saw holds
    /// until the end: nobody else changes anything meanwhile.
    fn change(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Entry>, CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut log = self.log();
        let Some(entry) = decide(&self.state())? else { return Ok(()) };
        log.append(&entry)?;
        let executed = self.state.write().unwrap_or_else(PoisonError::into_inner).execute(entry);
        assert_eq!(executed, Ok(()), "what was decided can be executed, now and by a replay");
        Ok(())
    }
}

/// The entry that makes a table, if one more may be made in its database, which there may not be.
fn entry_of_table(
    state: &State,
    [database, table]: [&str; 2],
    settings: &TableSettings,
) -> Result<Entry, CatalogError> {
    settings.check()?;
    if state.live() >= TABLES_MAX {
        return Err(CatalogError::Limit { what: "tables", max: TABLES_MAX });
    }
    if state.home(database).is_none() {
        check_room_for_database(state)?;
    }
    let (id, settings) = (state.next_id(), settings.clone());
    Ok(Entry::Create { id, database: database.into(), table: table.into(), settings })
}

fn check_room_for_database(state: &State) -> Result<(), CatalogError> {
    if state.databases() >= DATABASES_MAX {
        return Err(CatalogError::Limit { what: "databases", max: DATABASES_MAX });
    }
    Ok(())
}

fn known_table<'s>(
    state: &'s State,
    [database, table]: [&str; 2],
) -> Result<&'s Arc<Table>, CatalogError> {
    let home = state.home(database).ok_or_else(|| CatalogError::no_database(database))?;
    home.tables.get(table).ok_or_else(|| CatalogError::no_table(table))
}

fn check_name(what: &'static str, name: &str) -> Result<(), CatalogError> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.len() > TABLE_NAME_BYTES_MAX {
        "is longer than 256 bytes"
    } else if name.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(CatalogError::Name { what, name: name.to_owned(), problem })
}

const _: () = assert!(TABLE_NAME_BYTES_MAX == 256, "the message says so");

#[cfg(test)]
mod tests;
