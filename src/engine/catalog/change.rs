//! The changes of the catalog: each is decided, written as one line of its log, and executed, in one
//! order for all.

use std::sync::{Arc, PoisonError};

use super::drafts::Drafting;
use super::erasure::Erasure;
use super::log::{Entry, Log};
use super::settings::{DatabaseSettings, TableSettings, TableUpdate, Tags, check_tags};
use super::state::State;
use super::table::{Database, Table};
use super::{Catalog, CatalogError, Resource};
use crate::record::limits::{DATABASES_MAX, TABLE_NAME_BYTES_MAX, TABLES_MAX};

/// What would be made before a table that is not made either.
#[derive(Debug, Clone, Copy, Default)]
pub struct Others {
    /// Tables that there are not.
    pub tables: usize,
    /// Databases that there are not.
    pub databases: usize,
    /// Whether the table's own database is among them.
    pub has_database: bool,
}

/// Changing: each change is one line of the log, and durable on return, which costs a sync. An error
/// of class `Refused`, and [`CatalogError::Unwritten`], changed nothing. After [`CatalogError::Io`]
/// whether the change is there after a restart is unknown, until then it is not; from then on every
/// change is [`CatalogError::Poisoned`].
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
        let mut drafting = Drafting::default();
        let made = self.draft_table(&mut drafting, [database, table], settings);
        self.settle(&drafting)?;
        made
    }

    /// The table that [`Self::create`] would make now, were `others` made before it: databases and tables that
    /// there are not. It is made nowhere.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Name`], [`CatalogError::Limit`], [`CatalogError::Setting`] as [`Self::create`].
    pub fn would_create(
        &self,
        [database, table]: [&str; 2],
        settings: &TableSettings,
        others: Others,
    ) -> Result<Table, CatalogError> {
        check_name("database", database)?;
        check_name("table", table)?;
        settings.check()?;
        let state = self.state();
        check_room_for_table(&state, (database, others))?;
        Ok(Table::new(state.next_id(), database, table, settings.clone()))
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
            check_room_for_database(state, 0)?;
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

    /// Deletes a table. From now on nothing is taken under its number, and what is stored under it is
    /// shown to nobody; the engine, which asks, lets go of it in the background and at its next start.
    /// Returns the table as it was.
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`], [`CatalogError::Poisoned`]: the table stays. [`CatalogError::Io`]:
    /// it is found by nobody until the restart, which tells whether it is deleted.
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
    /// them is new; see [`Self::draft_names`].
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
        let mut drafting = Drafting::default();
        let drafted = self.draft_names(&mut drafting, table, dimensions, measure);
        self.settle(&drafting)?;
        drafted
    }

    /// Erases rows of a table: those with these dimensions, sorted by name, that were written with a
    /// version below [`Self::next_erasure`] as it stands now. No frame after `lsn` may hold any. In
    /// force on return. `note` is kept for whoever asks [`Self::erasures_noted`].
    ///
    /// # Errors
    ///
    /// [`CatalogError::NotFound`] without that table; [`CatalogError::Io`], [`CatalogError::Poisoned`].
    pub fn erase(&self, erasure: Erasure) -> Result<(), CatalogError> {
        assert!(erasure.dimensions.is_sorted(), "names are sorted, so that equal ones are found");
        self.change(|state| {
            if state.get(erasure.table).is_none() {
                return Err(CatalogError::no_table(&erasure.table.to_string()));
            }
            Ok(Some(Entry::Erase { erasure: Erasure { number: state.erasures.next(), ..erasure } }))
        })
    }

    /// Ends erasures: no row that they mean is left anywhere, and none can come any more. Those that
    /// others have taken the place of have ended already.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Io`], [`CatalogError::Poisoned`]: they stay in force, which hides nothing.
    pub fn carried_out(&self, erasures: &[Arc<Erasure>]) -> Result<(), CatalogError> {
        self.change(|state| {
            let numbers = erasures.iter().map(|erasure| erasure.number);
            let numbers: Vec<i64> = numbers.filter(|n| state.erasures.is_in_force(*n)).collect();
            Ok((!numbers.is_empty()).then_some(Entry::Erased { numbers }))
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
    /// until the end: nobody else changes anything meanwhile, nor drafts anything, and what was drafted
    /// before is written first.
    fn change(
        &self,
        decide: impl FnOnce(&State) -> Result<Option<Entry>, CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let mut drafts = self.drafts();
        if !drafts.is_empty() {
            let group = drafts.group();
            let appended = log.append(&group.entry());
            self.finish(&mut drafts, group, appended)?;
        }
        let Some(entry) = decide(&self.state())? else { return Ok(()) };
        let appended = log.append(&entry);
        if let Err(CatalogError::Io { .. }) = &appended {
            self.state.write().unwrap_or_else(PoisonError::into_inner).doubt(&entry);
        }
        appended?;
        let executed = self.state.write().unwrap_or_else(PoisonError::into_inner).execute(entry);
        assert_eq!(executed, Ok(()), "what was decided can be executed, now and by a replay");
        self.renew_if_large(&mut log);
        Ok(())
    }

    /// Writes the log anew, if it has become large. The change before it is durable already, so that its
    /// caller hears of success; the next one hears that the log takes no more.
    pub(super) fn renew_if_large(&self, log: &mut Log) {
        if let Err(error) = log.renew_if_large(&self.state()) {
            tracing::error!(%error, "the catalog takes no change until a restart");
        }
    }
}

/// The entry that makes a table, if one more may be made in its database, which there may not be.
fn entry_of_table(
    state: &State,
    [database, table]: [&str; 2],
    settings: &TableSettings,
) -> Result<Entry, CatalogError> {
    settings.check()?;
    check_room_for_table(state, (database, Others::default()))?;
    let (id, settings) = (state.next_id(), settings.clone());
    Ok(Entry::Create { id, database: database.into(), table: table.into(), settings })
}

pub(super) fn check_room_for_table(
    state: &State,
    (database, others): (&str, Others),
) -> Result<(), CatalogError> {
    if state.live() + others.tables >= TABLES_MAX {
        return Err(CatalogError::Limit { what: "tables", max: TABLES_MAX });
    }
    if state.home(database).is_some() || others.has_database {
        return Ok(());
    }
    check_room_for_database(state, others.databases)
}

fn check_room_for_database(state: &State, others: usize) -> Result<(), CatalogError> {
    if state.databases() + others >= DATABASES_MAX {
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

pub(super) fn check_name(what: &'static str, name: &str) -> Result<(), CatalogError> {
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
