//! The catalog: which databases and tables there are, by name for requests and by number for payloads,
//! and how they are set.
//!
//! | file | what it holds |
//! |---|---|
//! | [`settings`] | what databases and tables are made with, and what may be changed |
//! | [`table`] | one database, one table, and what its records have claimed |
//! | [`erasure`] | rows that are no more, although their table goes on |
//! | [`error`] | why the catalog refuses or fails |
//! | [`state`] | what the log's entries amount to |
//! | [`log`] | the file |
//! | [`drafts`] | tables and names that requests need, on their way into the log |
//! | [`change`] | the changes that there are |
//!
//! # `catalog.log`, version 4
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
//! | `deleted` | `id`, `database`, `table`: a number that was given to a table that is deleted | 3 |
//! | `forgotten` | `to`: every number up to it was given, and the tables of those that no line gives are deleted | 3 |
//! | `erase` | an `erasure`: see [`erasure`] | 3 |
//! | `erased` | `numbers` of erasures in force that were carried out | 3 |
//! | `kept_erasure` | an `erasure` with a number above all before; whether it is `in_force`, and `noted` | 3 |
//! | `given_erasures` | `to`: every number of an erasure up to it was given | 3 |
//! | `together` | `changes`: entries `create` and `names` in their order, which took one sync | 4 |
//!
//! A log is valid if and only if every line's checksum is right, the first says the format, tables
//! and erasures are numbered 1, 2, 3 and so on, but for those that lines say were forgotten, and every
//! other entry is about what is there at that line. A log of an older version is written anew as this
//! one when it is opened, in one replacement of the file.
//!
//! A log that has grown to a MiB, and to twice what it had when it was last written anew, is written
//! anew as what it amounts to: databases, tables, erasures that are in force or have a note, and the
//! names of the last 16,384 tables that were deleted; older ones are forgotten but for their numbers.
//! So a client that makes and drops tables for ever fills no disk. The new log is written and synced
//! beside the old one and takes its name by one rename: a crash leaves one or the other, which amount to
//! the same. A change is appended to the new one after that name is durable.
//!
//! A change is known to nobody before its line is synced, but to requests that need it and wait for that
//! before anything of theirs is written ([`drafts`]). A line that a crash cut short (no end, or
//! holes of zeros where its bytes should be) was therefore never acknowledged and is dropped at
//! start; anything else that is wrong is damage, and the start is refused with the line's number,
//! since a lost table would orphan every record that names its number.
//!
//! A write that fails is taken back and may be tried again. After a sync that failed nothing is known
//! of its change, and no further change is taken until a restart. A table whose delete is in doubt is
//! found by nobody from then on: what was acknowledged for it afterwards could be gone after the
//! restart. What was acknowledged before still reaches it.
//!
//! # Why a deleted table stays deleted
//!
//! A table's number is given once. Whoever makes the table anew gets another number, so a record in
//! the log, in memory or in a file, which names the number that it was written under, can never be
//! taken for one of the new table, in whatever order a crash and its replay meet them. What names a
//! deleted number is dropped where it is met: it was deleted with its table.

pub mod settings;
pub mod table;
pub mod erasure;
pub mod error;
mod state;
mod log;
mod drafts;
mod change;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::checked;
use crate::base::lsn::Lsn;
use crate::record::TableId;

use drafts::Drafts;
use log::Log;
use state::State;

pub use change::Others;
pub use drafts::Drafting;
pub use erasure::{Erasure, Hidden};
pub use error::{CatalogError, ClaimError};
pub use log::FILE_NAME;
pub use settings::{
    DatabaseSettings, Encryption, Enforcement, PartitionKey, Profile, RejectLocation, Retention,
    TableSettings, TableUpdate, Tags,
};
pub use table::{Database, Table};

/// Databases and tables, for every thread. What it answers is durable.
#[derive(Debug)]
pub struct Catalog {
    /// Read for every request, written by every change. Locked after the other two, never before.
    state: RwLock<State>,
    /// Held while a change is decided, written and executed, so that changes are in one order. Also across
    /// its sync: that is what keeps the order, and nobody waits for it who changes nothing.
    log: Mutex<Log>,
    /// Locked after `log`, for a moment by whoever needs a table or name that there is not, and by a
    /// change of other things for as long as that holds `log`.
    drafts: Mutex<Drafts>,
    /// Whether `drafts` has any, so that nobody locks it for nothing. Stored with Release under its lock,
    /// loaded with Acquire by [`Catalog::check_twofold`].
    has_drafts: AtomicBool,
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
        let (state, log) = (RwLock::new(state), Mutex::new(log));
        Ok(Self { state, log, drafts: Mutex::default(), has_drafts: AtomicBool::new(false) })
    }

    /// Every table in the catalog in `dir`, by number, deleted ones too since a log may name them still
    /// (of these the last 16,384). Opens nothing: no lock, no write, so also beside the server that has it. None
    /// where there is no catalog.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: a line is not what was written. [`CatalogError::Io`].
    pub fn read_only(dir: &Path) -> Result<Vec<Arc<Table>>, CatalogError> {
        Ok(log::read_only(dir)?.all().map(Arc::clone).collect())
    }

    /// Whether there is a catalog in `dir`, be it without a table.
    ///
    /// # Errors
    ///
    /// As of [`Self::read_only`].
    pub fn is_begun(dir: &Path) -> Result<bool, CatalogError> {
        log::is_begun(dir)
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
    /// again. A number that never was given is not deleted. One whose names are forgotten is
    /// `deleted-<number>` of the database `deleted`.
    pub fn deleted(&self, id: TableId) -> Option<Arc<Table>> {
        let state = self.state();
        let forgotten = || {
            // Whoever reports on it needs some name.
            let name = format!("deleted-{id}");
            Arc::new(Table::new(id, "deleted", &name, TableSettings::default()))
        };
        let known = state.deleted(id).map(Arc::clone);
        known.or_else(|| state.is_deleted(id).then(forgotten))
    }

    /// Whether the table of this number is deleted.
    pub fn is_deleted(&self, id: TableId) -> bool {
        self.state().is_deleted(id)
    }

    /// Whether a table ever had this number, be it deleted since.
    pub fn has_numbered(&self, id: TableId) -> bool {
        id.0 > 0 && id < self.state().next_id()
    }

    /// Every table, in the order in which they were made.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.state().tables().map(Arc::clone).collect()
    }

    /// Every deleted table whose names are kept, in the order in which they were made.
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

    /// The number of the next erasure: the version of what shall outlive all erasures so far. `None`
    /// after an erasure whose write failed in the middle, until the restart that tells whether it is
    /// there: whatever was written with any number could be meant by it, or by none that follows.
    pub fn next_erasure(&self) -> Option<i64> {
        let state = self.state();
        (!state.erasures.is_in_doubt()).then(|| state.erasures.next())
    }

    /// What is erased of a table, as it stands now. A reader asks before it looks at any row: an
    /// erasure ends only after its last row has.
    pub fn hidden(&self, table: TableId) -> Arc<Hidden> {
        self.state().hidden(table)
    }

    /// The erasures in force of which no record is left in the log above `stored`.
    pub fn erasures_due(&self, stored: Lsn) -> Vec<Arc<Erasure>> {
        let state = self.state();
        state.erasures.in_force().filter(|e| e.lsn <= stored).map(Arc::clone).collect()
    }

    /// The erasures of the last [`erasure::NOTE_KEPT_NS`], in order, carried out or not.
    pub fn erasures_noted(&self) -> Vec<Arc<Erasure>> {
        self.state().erasures.noted().map(Arc::clone).collect()
    }

    /// Lets the log take no line more: `/dev/full` takes no byte.
    #[cfg(test)]
    pub(crate) fn break_log(&self) {
        let full = std::fs::OpenOptions::new().append(true).open("/dev/full");
        self.log.lock().unwrap_or_else(PoisonError::into_inner).file = full.expect("it is there");
    }

    // A panic elsewhere leaves a map whole: nothing in here panics between two changes.
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
