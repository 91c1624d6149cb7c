//! What the entries of the log amount to. The same function executes an entry that was read back and
//! one that was just written, so that a restart finds what was answered before it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use super::Page;
use super::erasure::{Erasures, Hidden};
use super::log::Entry;
use super::settings::{DatabaseSettings, TableSettings};
use super::table::{Database, NewNames, Table};
use crate::record::TableId;

/// Databases and tables by name and number.
#[derive(Debug, Default)]
pub(super) struct State {
    by_name: BTreeMap<Box<str>, Home>,
    /// Tables that are not deleted, and the last [`DELETED_KEPT`] that are.
    by_id: BTreeMap<TableId, Slot>,
    /// Every number up to this one was given.
    given: u32,
    /// The deleted tables in `by_id`, the first to be deleted first.
    deleted: VecDeque<TableId>,
    pub(super) erasures: Erasures,
    /// What was asked for since the last change of `erasures`.
    hidden: Mutex<HashMap<TableId, Arc<Hidden>>>,
}

/// Of how many deleted tables the names are kept: frames of the log, reports and folders may still be
/// about them. Of those before only the number is known, which is never given again.
pub(super) const DELETED_KEPT: usize = 1 << 14;

/// A database with its tables.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) database: Arc<Database>,
    pub(super) tables: BTreeMap<Box<str>, Arc<Table>>,
}

#[derive(Debug)]
struct Slot {
    table: Arc<Table>,
    is_deleted: bool,
}

impl State {
    pub(super) fn home(&self, database: &str) -> Option<&Home> {
        self.by_name.get(database)
    }

    pub(super) fn databases(&self) -> usize {
        self.by_name.len()
    }

    /// How many tables there are in all databases.
    pub(super) fn live(&self) -> usize {
        self.by_id.len() - self.deleted.len()
    }

    pub(super) fn find(&self, database: &str, table: &str) -> Option<&Arc<Table>> {
        self.home(database)?.tables.get(table)
    }

    pub(super) fn next_id(&self) -> TableId {
        TableId(self.given.checked_add(1).expect("nobody makes four billion tables"))
    }

    /// The table of this number, unless it is deleted.
    pub(super) fn get(&self, id: TableId) -> Option<&Arc<Table>> {
        self.slot(id).filter(|slot| !slot.is_deleted).map(|slot| &slot.table)
    }

    /// Whether the table of this number is deleted.
    pub(super) fn is_deleted(&self, id: TableId) -> bool {
        (1..=self.given).contains(&id.0) && self.get(id).is_none()
    }

    /// The table of this number, if it is deleted and its names are known still.
    pub(super) fn deleted(&self, id: TableId) -> Option<&Arc<Table>> {
        self.slot(id).filter(|slot| slot.is_deleted).map(|slot| &slot.table)
    }

    /// Every table whose names are known, by number, deleted ones too.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_id.values().map(|slot| &slot.table)
    }

    /// The entries, beside the first, of a log that amounts to this state.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(self.by_name.len() + self.by_id.len());
        for (name, home) in &self.by_name {
            let settings = (*home.database.settings()).clone();
            entries.push(Entry::CreateDatabase { database: name.clone(), settings });
        }
        let mut last = 0;
        for (&id, slot) in &self.by_id {
            if id.0 > last + 1 {
                entries.push(Entry::Forgotten { to: TableId(id.0 - 1) });
            }
            last = id.0;
            let (database, table) = (slot.table.database.clone(), slot.table.name.clone());
            if slot.is_deleted {
                entries.push(Entry::Deleted { id, database, table });
                continue;
            }
            let settings = (*slot.table.settings()).clone();
            entries.push(Entry::Create { id, database, table, settings });
            let NewNames { dimensions, measures } = slot.table.names();
            if !dimensions.is_empty() || !measures.is_empty() {
                entries.push(Entry::Names { id, dimensions, measures });
            }
        }
        if self.given > last {
            entries.push(Entry::Forgotten { to: TableId(self.given) });
        }
        entries.extend(self.erasures.entries());
        entries
    }

    /// Every table, by number.
    pub(super) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.by_id.values().filter(|slot| !slot.is_deleted).map(|slot| &slot.table)
    }

    /// The databases after the one named `after`, in the order of their names.
    pub(super) fn page_of_databases(&self, after: Option<&str>, max: usize) -> Page<Arc<Database>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let homes = self.by_name.range::<str, _>((from, Bound::Unbounded));
        Page::of(homes.map(|(_, home)| Arc::clone(&home.database)), max)
    }

    /// The tables after those names, in the order of databases and names; of `database` only where
    /// one is given.
    pub(super) fn page_of_tables(
        &self,
        database: Option<&str>,
        after: Option<(&str, &str)>,
        max: usize,
    ) -> Page<Arc<Table>> {
        let first = database.or(after.map(|(database, _)| database));
        let from = first.map_or(Bound::Unbounded, Bound::Included);
        let homes = self
            .by_name
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(name, _)| database.is_none_or(|database| database == &***name));
        let tables = homes.flat_map(|(name, home)| {
            let after = after.filter(|(database, _)| *database == &**name).map(|(_, table)| table);
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            home.tables.range::<str, _>((from, Bound::Unbounded)).map(|(_, table)| table)
        });
        Page::of(tables.map(Arc::clone), max)
    }

    /// Executes an entry.
    ///
    /// # Errors
    ///
    /// What makes no sense after the entries before it, for people; nothing was executed, of several
    /// changes together those before it were.
    pub(super) fn execute(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Catalog { .. } => Err("a second beginning".to_owned()),
            Entry::Create { id, database, table, settings } => {
                self.create(id, [database, table], settings)
            }
            Entry::SetTable { id, settings } => {
                self.live_table(id)?.set(settings);
                Ok(())
            }
            Entry::Names { id, dimensions, measures } => {
                self.add_names(id, NewNames { dimensions, measures })
            }
            Entry::Together { changes } => {
                changes.into_iter().try_for_each(|change| match change {
                    Entry::Create { .. } | Entry::Names { .. } => self.execute(change),
                    other => Err(format!("{other:?} is not written together with others")),
                })
            }
            Entry::DeleteTable { id } => self.delete_table(id),
            Entry::Deleted { id, database, table } => self.add_deleted(id, [&database, &table]),
            Entry::Forgotten { to } => self.forget(to),
            Entry::CreateDatabase { database, settings } => {
                if self.by_name.contains_key(&database) {
                    return Err(format!("database {database:?} is made a second time"));
                }
                self.add_database(&database, settings);
                Ok(())
            }
            Entry::Erase { .. }
            | Entry::Erased { .. }
            | Entry::KeptErasure { .. }
            | Entry::GivenErasures { .. } => self.execute_erasure(entry),
            Entry::SetDatabase { database, settings } => {
                self.known_home(&database)?.database.set(settings);
                Ok(())
            }
            Entry::DeleteDatabase { database } => {
                if !self.known_home(&database)?.tables.is_empty() {
                    return Err(format!("database {database:?} is deleted with tables in it"));
                }
                self.by_name.remove(&database);
                Ok(())
            }
        }
    }

    /// Executes an entry about erasures.
    fn execute_erasure(&mut self, entry: Entry) -> Result<(), String> {
        match entry {
            Entry::Erase { erasure } => {
                self.live_table(erasure.table)?;
                self.erasures.add(erasure)?;
            }
            Entry::Erased { numbers } => self.erasures.end(&numbers)?,
            Entry::KeptErasure { erasure, in_force, noted } => {
                if in_force {
                    self.live_table(erasure.table)?;
                }
                self.erasures.keep(erasure, in_force, noted)?;
            }
            Entry::GivenErasures { to } => self.erasures.give(to)?,
            other => return Err(format!("{other:?} is about no erasure")),
        }
        self.forget_hidden();
        Ok(())
    }

    /// Hears that an entry may or may not be found after a restart. A table that may be deleted by then
    /// is no longer found by its name; frames that name its number still reach it. After an erasure that
    /// may be found by then no number is given for records.
    pub(super) fn doubt(&mut self, entry: &Entry) {
        if let Entry::Erase { .. } = entry {
            self.erasures.doubt();
        }
        let Entry::DeleteTable { id } = entry else { return };
        let Some(table) = self.get(*id).map(Arc::clone) else { return };
        if let Some(home) = self.by_name.get_mut(&table.database) {
            home.tables.remove(&table.name);
        }
    }

    fn create(
        &mut self,
        id: TableId,
        [database, name]: [Box<str>; 2],
        mut settings: TableSettings,
    ) -> Result<(), String> {
        // Format 1 knew no time of an update.
        settings.updated_ns = settings.updated_ns.max(settings.created_ns);
        self.add_table(&Arc::new(Table::new(id, &database, &name, settings)))
    }

    /// Adds a table, and its database where there is none.
    ///
    /// # Errors
    ///
    /// What makes no sense, for people; nothing was added.
    pub(super) fn add_table(&mut self, table: &Arc<Table>) -> Result<(), String> {
        let Table { id, database, name, .. } = &**table;
        if *id != self.next_id() {
            return Err(format!("table number {id}, expected {}", self.next_id()));
        }
        if self.find(database, name).is_some() {
            return Err(format!("table {database:?}.{name:?} is made a second time"));
        }
        if !self.by_name.contains_key(database) {
            let created_ns = table.settings().created_ns;
            let (updated_ns, others) = (created_ns, DatabaseSettings::default());
            self.add_database(database, DatabaseSettings { created_ns, updated_ns, ..others });
        }
        let home = self.by_name.get_mut(database).expect("it was just made, or known before");
        home.tables.insert(name.clone(), Arc::clone(table));
        self.give(*id)?;
        self.by_id.insert(*id, Slot { table: Arc::clone(table), is_deleted: false });
        Ok(())
    }

    /// Counts names among those of a table.
    ///
    /// # Errors
    ///
    /// There is no such table.
    pub(super) fn add_names(&mut self, id: TableId, new: NewNames) -> Result<(), String> {
        self.live_table(id)?.add_names(new);
        Ok(())
    }

    fn add_deleted(&mut self, id: TableId, [database, table]: [&str; 2]) -> Result<(), String> {
        self.give(id)?;
        let table = Arc::new(Table::new(id, database, table, TableSettings::default()));
        self.by_id.insert(id, Slot { table, is_deleted: true });
        self.note_deleted(id);
        Ok(())
    }

    fn forget(&mut self, to: TableId) -> Result<(), String> {
        if to.0 <= self.given {
            return Err(format!("table number {to} is given already"));
        }
        self.given = to.0;
        Ok(())
    }

    /// Gives the next number, which is this one.
    fn give(&mut self, id: TableId) -> Result<(), String> {
        let expected = self.next_id();
        if id != expected {
            return Err(format!("table number {id}, expected {expected}"));
        }
        self.given = id.0;
        Ok(())
    }

    /// Hears that a table is deleted now, and forgets the names of one that was long ago.
    fn note_deleted(&mut self, id: TableId) {
        self.deleted.push_back(id);
        if self.deleted.len() > DELETED_KEPT
            && let Some(forgotten) = self.deleted.pop_front()
        {
            let slot = self.by_id.remove(&forgotten);
            assert!(slot.is_some_and(|slot| slot.is_deleted), "it was kept as deleted");
        }
    }

    fn add_database(&mut self, name: &str, settings: DatabaseSettings) {
        let database = Arc::new(Database::new(name, settings));
        let before = self.by_name.insert(name.into(), Home { database, tables: BTreeMap::new() });
        assert!(before.is_none(), "a database is made once");
    }

    fn delete_table(&mut self, id: TableId) -> Result<(), String> {
        let table = Arc::clone(self.live_table(id)?);
        let home = self.by_name.get_mut(&table.database).expect("a table's database is known");
        let removed = home.tables.remove(&table.name);
        assert!(removed.is_some_and(|removed| removed.id == id), "a name leads to one table");
        self.erasures.forget_table(id);
        self.forget_hidden();
        self.by_id.get_mut(&id).expect("it was just found").is_deleted = true;
        self.note_deleted(id);
        Ok(())
    }

    /// What is erased of a table.
    pub(super) fn hidden(&self, table: TableId) -> Arc<Hidden> {
        let mut hidden = self.hidden.lock().unwrap_or_else(PoisonError::into_inner);
        let made = hidden.entry(table).or_insert_with(|| {
            let of_table = self.erasures.in_force().filter(|erasure| erasure.table == table);
            Arc::new(Hidden::of(of_table.map(Arc::clone)))
        });
        Arc::clone(made)
    }

    fn forget_hidden(&mut self) {
        self.hidden.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn slot(&self, id: TableId) -> Option<&Slot> {
        self.by_id.get(&id)
    }

    fn live_table(&self, id: TableId) -> Result<&Arc<Table>, String> {
        self.get(id).ok_or_else(|| format!("table number {id} is not there"))
    }

    fn known_home(&self, database: &str) -> Result<&Home, String> {
        self.home(database).ok_or_else(|| format!("database {database:?} is not there"))
    }
}
