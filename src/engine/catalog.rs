//! The catalog: which databases and tables there are, by name for requests and by number for payloads.
//!
//! # `catalog.log`, version 1
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
//! The first entry is `{"op":"catalog","format":1}`; each later one is `{"op":"create",..}` with the
//! table's number, names and settings. A log is valid if and only if every line's checksum is right,
//! the first says the format, and tables are numbered 1, 2, 3 and so on.
//!
//! A table is known to nobody before its line is synced. A line that a crash cut short (no end, or
//! holes of zeros where its bytes should be) was therefore never acknowledged and is dropped at
//! start; anything else that is wrong is damage, and the start is refused with the line's number,
//! since a lost table would orphan every record that names its number.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::checked;
use crate::base;
use crate::base::class::Class;
use crate::base::poison::Poison;
use crate::record::codec::Layout;
use crate::record::limits::{
    COLUMNS_PER_TABLE_MAX, DATABASES_MAX, MAGNETIC_RETENTION_DAYS_MAX,
    MEMORY_RETENTION_HOURS_DEFAULT, TABLE_NAME_BYTES_MAX, TABLES_MAX,
};
use crate::record::{MeasureKind, Reason, TableId, ValueType};

const FILE_NAME: &str = "catalog.log";
const FORMAT: u32 = 1;

type Map<K, V> = HashMap<K, V, RandomState>;

/// Databases and tables, for every thread. What it answers is durable.
#[derive(Debug)]
pub struct Catalog {
    /// Read for every request, written when a table is made. Locked after `log`, never before.
    state: RwLock<State>,
    /// Held while a table is made, so that two makers of one table make one.
    log: Mutex<File>,
    path: PathBuf,
    poison: Poison,
}

#[derive(Debug, Default)]
struct State {
    by_name: Map<Box<str>, Map<Box<str>, Arc<Table>>>,
    /// Table `id` stands at `id - 1`.
    by_id: Vec<Arc<Table>>,
}

/// A table: its names, its settings and the types of its columns.
#[derive(Debug)]
pub struct Table {
    /// Its number, which payloads carry.
    pub id: TableId,
    /// The database it is in.
    pub database: Box<str>,
    /// Its name there.
    pub name: Box<str>,
    /// How it was made.
    pub settings: TableSettings,
    /// The type of each attribute, claimed by whoever writes it first.
    columns: RwLock<Map<Box<str>, ValueType>>,
}

/// How a table is made. A setting that an older catalog does not name has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableSettings {
    /// Whose rules its records follow.
    pub profile: Profile,
    /// Most attribute columns it may have.
    pub columns_max: usize,
    /// When it was made, ns.
    pub created_ns: i64,
    /// How long its records live.
    pub retention: Retention,
}

impl Default for TableSettings {
    fn default() -> Self {
        Self {
            profile: Profile::Relaxed,
            columns_max: COLUMNS_PER_TABLE_MAX,
            created_ns: 0,
            retention: Retention::default(),
        }
    }
}

/// How long the records of a table live, from the time that they bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// Hours in the memory store. 1 to 8,766.
    pub memory_hours: u32,
    /// Days in the magnetic store, after those hours. 1 to 73,000.
    pub magnetic_days: u32,
    /// Whether a strict table takes records that are too old for its memory store.
    pub magnetic_writes: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            memory_hours: MEMORY_RETENTION_HOURS_DEFAULT,
            magnetic_days: MAGNETIC_RETENTION_DAYS_MAX,
            magnetic_writes: false,
        }
    }
}

impl Retention {
    /// The earliest time of a record that lives at `now_ns`, ns; one before it is gone.
    pub const fn alive_from_ns(&self, now_ns: i64) -> i64 {
        let memory_ns = self.memory_hours as i64 * NS_PER_HOUR;
        // Two hundred years of days are more nanoseconds than there are: then nothing is gone.
        let magnetic_ns = (self.magnetic_days as i64).saturating_mul(24 * NS_PER_HOUR);
        now_ns.saturating_sub(memory_ns).saturating_sub(magnetic_ns)
    }
}

const NS_PER_HOUR: i64 = 3_600_000_000_000;

/// Whose rules the records of a table follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Timestream's limits and time windows.
    Strict,
    /// No limit of a record's size but the log's, and any age.
    #[default]
    Relaxed,
}

/// Why the catalog could not be opened or a table not be made.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A name that no database or table may have.
    #[error("{what} name {name:?} {problem}")]
    Name {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {max} {what} already, the most there may be")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The log could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log is not what was written.
    #[error("{} line {line}: {what}", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A write or sync failed earlier; whether its table was made is known after a restart only.
    #[error("the catalog takes no more tables until a restart: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
}

impl CatalogError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Name { .. } | Self::Limit { .. } => Class::Refused,
            Self::Io { .. } | Self::Damaged { .. } | Self::Poisoned { .. } => Class::Fault,
        }
    }
}

/// Why a layout does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// An attribute came with another type than its column has.
    #[error("attribute {attribute:?} is {found}, but its column is {existing}")]
    Type {
        /// The attribute.
        attribute: String,
        /// The type it came with.
        found: ValueType,
        /// The type of its column.
        existing: ValueType,
    },
    /// The table has no room for a column more.
    #[error(
        "attribute {attribute:?} would be a new column, and the table has {columns_max} already"
    )]
    Limit {
        /// The first attribute that found no room.
        attribute: String,
        /// How many columns the table may have.
        columns_max: usize,
    },
}

impl ClaimError {
    /// Why a record of the layout is refused, for programs.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Type { .. } => Reason::TypeConflict,
            Self::Limit { .. } => Reason::TableLimit,
        }
    }

    /// Always the client's: other types or fewer columns would be taken.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}

/// One line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Entry {
    Catalog { format: u32 },
    Create { id: TableId, database: Box<str>, table: Box<str>, settings: TableSettings },
}

impl Catalog {
    /// Opens the catalog in `dir`, or begins one there. Drops a line that a crash cut short.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: a line is not what was written; nothing was changed.
    /// [`CatalogError::Io`]: the log cannot be read, cut or begun.
    pub fn open(dir: &Path) -> Result<Self, CatalogError> {
        let path = dir.join(FILE_NAME);
        let io = |what| {
            let path = path.clone();
            move |source| CatalogError::Io { what, path, source }
        };
        base::fs::create_dir_all(dir).map_err(io("make the folder of"))?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(io("open"))?;
        base::fs::sync_dir(dir).map_err(io("sync the folder of"))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io("read"))?;
        let sound = sound_length(&bytes);
        if sound < bytes.len() {
            tracing::warn!(dropped_bytes = bytes.len() - sound, "torn catalog line dropped");
            file.set_len(sound as u64).map_err(io("cut the torn end of"))?;
            file.sync_all().map_err(io("sync"))?;
        }
        let state = replay(&path, &bytes[..sound])?;
        if sound == 0 {
            file.write_all(&line_of(&Entry::Catalog { format: FORMAT })).map_err(io("begin"))?;
            file.sync_all().map_err(io("sync"))?;
        }
        let poison = Poison::new();
        Ok(Self { state: RwLock::new(state), log: Mutex::new(file), path, poison })
    }

    /// The tables of the catalog in `dir`, in the order of their numbers, without opening it: nothing
    /// is locked or written, so also beside the server that has it. None where there is no catalog.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Damaged`]: a line is not what was written. [`CatalogError::Io`].
    pub fn read_only(dir: &Path) -> Result<Vec<Arc<Table>>, CatalogError> {
        let path = dir.join(FILE_NAME);
        match std::fs::read(&path) {
            // What has no end may be a line that is being written.
            Ok(bytes) => Ok(replay(&path, &bytes[..sound_length(&bytes)])?.by_id),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(CatalogError::Io { what: "read", path, source }),
        }
    }

    /// The table of this name.
    pub fn resolve(&self, database: &str, table: &str) -> Option<Arc<Table>> {
        self.state().by_name.get(database)?.get(table).map(Arc::clone)
    }

    /// Whether there is a table in this database.
    pub fn has_database(&self, database: &str) -> bool {
        self.state().by_name.contains_key(database)
    }

    /// The table of this number.
    pub fn get(&self, id: TableId) -> Option<Arc<Table>> {
        let at = (id.0 as usize).checked_sub(1)?;
        self.state().by_id.get(at).map(Arc::clone)
    }

    /// Every table, in the order in which they were made.
    pub fn tables(&self) -> Vec<Arc<Table>> {
        self.state().by_id.clone()
    }

    /// The table of this name, made with `settings` if there is none; an existing one keeps its own.
    /// It is durable on return, which costs a sync if it was made.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Name`], [`CatalogError::Limit`]: nothing was made. [`CatalogError::Io`],
    /// [`CatalogError::Poisoned`]: a write or sync failed, now or before; whether the table is there
    /// after a restart is unknown, until then it is not.
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
        let mut log = self.log();
        // Whoever held the lock before may have made it.
        if let Some(table) = self.resolve(database, table) {
            return Ok(table);
        }
        if let Some(reason) = self.poison.reason() {
            return Err(CatalogError::Poisoned { reason: reason.to_owned() });
        }
        let id = self.next_id(database)?;
        let entry = Entry::Create {
            id,
            database: database.into(),
            table: table.into(),
            settings: settings.clone(),
        };
        let written = log.write_all(&line_of(&entry)).and_then(|()| log.sync_data());
        written.map_err(|source| {
            self.poison.throw(source.to_string());
            CatalogError::Io { what: "append to", path: self.path.clone(), source }
        })?;
        let made = Arc::new(Table::new(id, database, table, settings.clone()));
        self.state.write().unwrap_or_else(PoisonError::into_inner).add(Arc::clone(&made));
        Ok(made)
    }

    /// The number of the next table, if one more may be made in `database`.
    fn next_id(&self, database: &str) -> Result<TableId, CatalogError> {
        let state = self.state();
        if state.by_id.len() >= TABLES_MAX {
            return Err(CatalogError::Limit { what: "tables", max: TABLES_MAX });
        }
        if !state.by_name.contains_key(database) && state.by_name.len() >= DATABASES_MAX {
            return Err(CatalogError::Limit { what: "databases", max: DATABASES_MAX });
        }
        Ok(state.next_id())
    }

    // A panic elsewhere leaves a map whole: nothing in here panics between two changes.
    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self) -> MutexGuard<'_, File> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&self) -> TableId {
        TableId(u32::try_from(self.by_id.len() + 1).expect("tables are limited"))
    }

    fn add(&mut self, table: Arc<Table>) {
        assert_eq!(table.id, self.next_id(), "tables are numbered in order");
        let tables = self.by_name.entry(table.database.clone()).or_default();
        let before = tables.insert(table.name.clone(), Arc::clone(&table));
        assert!(before.is_none(), "a table is made once");
        self.by_id.push(table);
    }
}

impl Table {
    fn new(id: TableId, database: &str, name: &str, settings: TableSettings) -> Self {
        let columns = RwLock::default();
        Self { id, database: database.into(), name: name.into(), settings, columns }
    }

    /// Whose rules its records follow.
    pub const fn profile(&self) -> Profile {
        self.settings.profile
    }

    /// How long its records live, as it stands now.
    pub const fn retention(&self) -> Retention {
        self.settings.retention
    }

    /// Claims the layout's attributes, each with its type; those that nobody claimed before are
    /// this layout's from now on. The one value of a scalar claims nothing: its columns are typed.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]: the layout does not fit; nothing was claimed.
    pub fn claim(&self, layout: &Layout<'_>) -> Result<(), ClaimError> {
        match layout.kind {
            MeasureKind::Scalar => Ok(()),
            MeasureKind::Multi => self.claim_all(&|| layout.entries()),
        }
    }

    /// Whether the attributes could be claimed now, claiming none.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] as [`Self::claim`].
    pub fn fits(&self, attributes: &[(&str, ValueType)]) -> Result<(), ClaimError> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        let entries = attributes.iter().map(|&(name, value_type)| (value_type, name));
        let missing = check_columns(&columns, entries)?;
        let columns_max = self.settings.columns_max;
        if columns.len() + missing <= columns_max {
            return Ok(());
        }
        let new = attributes.iter().find(|(name, _)| !columns.contains_key(*name));
        let attribute = new.map_or("", |(name, _)| name).to_owned();
        Err(ClaimError::Limit { attribute, columns_max })
    }

    /// Claims attributes that are known already: those of files found at start.
    ///
    /// # Errors
    ///
    /// [`ClaimError`] as [`Self::claim`].
    pub fn claim_attributes(&self, attributes: &[(&str, ValueType)]) -> Result<(), ClaimError> {
        self.claim_all(&|| attributes.iter().map(|&(name, value_type)| (value_type, name)))
    }

    /// The attributes claimed so far, sorted by name.
    pub fn columns(&self) -> Vec<(Box<str>, ValueType)> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = columns.iter().map(|(name, t)| (name.clone(), *t)).collect();
        all.sort_unstable();
        all
    }

    fn claim_all<'n, I: Iterator<Item = (ValueType, &'n str)>>(
        &self,
        entries: &dyn Fn() -> I,
    ) -> Result<(), ClaimError> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        if check_columns(&columns, entries())? == 0 {
            return Ok(());
        }
        drop(columns);
        let mut columns = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        // Between the two locks another may have claimed; and a layout may name one attribute
        // twice. Hence a copy that replaces the columns only as a whole.
        let mut claimed = columns.clone();
        for (found, name) in entries() {
            check_columns(&claimed, std::iter::once((found, name)))?;
            if claimed.len() >= self.settings.columns_max && !claimed.contains_key(name) {
                let columns_max = self.settings.columns_max;
                return Err(ClaimError::Limit { attribute: name.to_owned(), columns_max });
            }
            claimed.insert(name.into(), found);
        }
        *columns = claimed;
        Ok(())
    }
}

/// How many of the attributes have no column yet.
fn check_columns<'n>(
    columns: &Map<Box<str>, ValueType>,
    entries: impl Iterator<Item = (ValueType, &'n str)>,
) -> Result<usize, ClaimError> {
    let mut missing = 0;
    for (found, name) in entries {
        match columns.get(name) {
            Some(&existing) if existing != found => {
                return Err(ClaimError::Type { attribute: name.to_owned(), found, existing });
            }
            Some(_) => {}
            None => missing += 1,
        }
    }
    Ok(missing)
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

fn line_of(entry: &Entry) -> Vec<u8> {
    let json = serde_json::to_string(entry).expect("names and numbers become JSON");
    checked::line_of(&json)
}

/// The bytes before a last line that a crash cut short: one without an end, or one with zeros, which
/// is how a file system shows bytes that it never wrote.
fn sound_length(bytes: &[u8]) -> usize {
    let ended = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    if ended < bytes.len() {
        return ended;
    }
    let begin = bytes[..ended.saturating_sub(1)]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .map_or(0, |at| at + 1);
    if bytes[begin..ended].contains(&0) { begin } else { ended }
}

fn replay(path: &Path, bytes: &[u8]) -> Result<State, CatalogError> {
    let mut state = State::default();
    for (at, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let damaged = |what| CatalogError::Damaged { path: path.to_owned(), line: at + 1, what };
        let entry = parse_line(line).map_err(damaged)?;
        execute(&mut state, at, entry).map_err(damaged)?;
    }
    Ok(state)
}

fn execute(state: &mut State, at: usize, entry: Entry) -> Result<(), String> {
    match entry {
        Entry::Catalog { format: FORMAT } if at == 0 => Ok(()),
        Entry::Catalog { format } if at == 0 => {
            Err(format!("catalog format {format}, this build reads {FORMAT}"))
        }
        Entry::Create { id, database, table, settings } if at > 0 => {
            let expected = state.next_id();
            if id != expected {
                return Err(format!("table number {id}, expected {expected}"));
            }
            if state.by_name.get(&database).is_some_and(|tables| tables.contains_key(&table)) {
                return Err(format!("table {database:?}.{table:?} is made a second time"));
            }
            state.add(Arc::new(Table::new(id, &database, &table, settings)));
            Ok(())
        }
        entry => Err(format!("{entry:?} is out of place")),
    }
}

fn parse_line(line: &[u8]) -> Result<Entry, String> {
    serde_json::from_slice(checked::json_of(line)?).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "catalog_tests.rs"]
mod tests;
