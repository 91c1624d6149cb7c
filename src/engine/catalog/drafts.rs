//! Tables and names on their way into the log: what requests need is drafted while they are read, and
//! all that was drafted by then, whoever did, becomes one line with one sync.
//!
//! A draft is decided by what there is and by what was drafted before it, so that limits hold to the last
//! of them. It is seen by those alone who draft; nobody else hears of it before its line is synced. A
//! request whose frame would name it waits for that by [`Catalog::settle`](super::Catalog::settle), **before
//! the frame is appended**: no start finds a frame of a table that the catalog does not have.
//!
//! While one line is written and synced, others draft. The line after it has what they drafted, so that a
//! request waits for two such lines at most, however many come at once. Where a line is not written, all drafts
//! are taken back with it: those after it follow its numbers. Whoever has looked at drafts since then
//! hears of that instead of going on.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::change::{Others, check_name, check_room_for_table};
use super::log::Entry;
use super::settings::TableSettings;
use super::state::State;
use super::table::{Names, NewNames, Table};
use super::{Catalog, CatalogError, ClaimError};
use crate::record::TableId;

/// By name.
type Map<V> = HashMap<Box<str>, V, RandomState>;

/// What a request has to wait for before it may name what it drafted.
#[derive(Debug, Default)]
pub struct Drafting {
    needs: Option<Needs>,
}

#[derive(Debug, Clone, Copy)]
struct Needs {
    /// The last draft that it may go by.
    upto: u64,
    /// How often drafts had been taken back when it first looked at them.
    taken_back: u64,
}

/// How far a request's drafts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// In the log, or there are none.
    Settled,
    /// Not in the log.
    Waiting,
    /// Gone.
    TakenBack,
}

/// Tables and names that the log does not have yet.
#[derive(Debug, Default)]
pub(super) struct Drafts {
    /// By number; these follow on those that were given. Bounded as tables are.
    tables: VecDeque<Arc<Table>>,
    /// The same by database and name.
    by_name: Map<Map<Arc<Table>>>,
    /// Names that strict tables do not have yet, drafted ones too. Bounded as the names of tables are.
    names: BTreeMap<TableId, Names>,
    /// Changes drafted since the start.
    drafted: u64,
    /// How many of these are in the log or were taken back.
    settled: u64,
    /// How often drafts were taken back.
    taken_back: u64,
}

/// Drafts that are written together.
#[derive(Debug)]
pub(super) struct Group {
    tables: Vec<Arc<Table>>,
    names: Vec<(TableId, NewNames)>,
    /// How many changes were drafted up to the last of them.
    drafted: u64,
}

impl Drafts {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.names.is_empty()
    }

    pub(super) fn find(&self, database: &str, table: &str) -> Option<&Arc<Table>> {
        self.by_name.get(database)?.get(table)
    }

    /// The number of the next table, behind those in `state` and the drafted ones.
    pub(super) fn next_id(&self, state: &State) -> TableId {
        let drafted = u32::try_from(self.tables.len()).expect("tables are limited");
        let next = state.next_id().0.checked_add(drafted);
        TableId(next.expect("nobody makes four billion tables"))
    }

    /// What would be made before a table of this database.
    pub(super) fn others(&self, state: &State, database: &str) -> Others {
        let is_unmade = |name: &str| state.home(name).is_none();
        let databases = if is_unmade(database) {
            self.by_name.keys().filter(|name| is_unmade(name)).count()
        } else {
            0
        };
        let has_database = self.by_name.contains_key(database);
        Others { tables: self.tables.len(), databases, has_database }
    }

    pub(super) fn has_table(&self, id: TableId) -> bool {
        let first = self.tables.front().map(|first| first.id);
        first.is_some_and(|first| first <= id) && self.tables.back().is_some_and(|t| id <= t.id)
    }

    /// Names that were drafted for a table.
    pub(super) fn names(&self, id: TableId) -> Option<&Names> {
        self.names.get(&id)
    }

    pub(super) fn add_table(&mut self, table: &Arc<Table>) {
        assert!(self.tables.back().is_none_or(|last| last.id < table.id), "numbers ascend");
        self.tables.push_back(Arc::clone(table));
        let of_database = self.by_name.entry(table.database.clone()).or_default();
        let before = of_database.insert(table.name.clone(), Arc::clone(table));
        assert!(before.is_none(), "a table is drafted once");
        self.drafted += 1;
    }

    pub(super) fn add_names(&mut self, id: TableId, new: NewNames) {
        assert!(!new.is_empty(), "nothing is drafted for nothing");
        self.names.entry(id).or_default().add(new);
        self.drafted += 1;
    }

    /// Hears that a request goes by what is drafted as it stands now.
    pub(super) fn note(&self, drafting: &mut Drafting) {
        // Where nothing is drafted there is nothing that could be taken back.
        if !self.is_empty() {
            let taken_back = drafting.needs.map_or(self.taken_back, |needs| needs.taken_back);
            drafting.needs = Some(Needs { upto: self.drafted, taken_back });
        }
    }

    /// How far the drafts that a request goes by are.
    pub(super) fn progress(&self, drafting: &Drafting) -> Progress {
        match drafting.needs {
            Some(needs) if needs.taken_back != self.taken_back => Progress::TakenBack,
            Some(needs) if needs.upto > self.settled => Progress::Waiting,
            Some(_) | None => Progress::Settled,
        }
    }

    /// All that is drafted now, to be written.
    pub(super) fn group(&self) -> Group {
        assert!(!self.is_empty(), "a group has changes");
        let tables = self.tables.iter().map(Arc::clone).collect();
        let names = self.names.iter().map(|(&id, names)| (id, names.sorted())).collect();
        Group { tables, names, drafted: self.drafted }
    }

    /// Hears that a group is in the log and in the state; what was drafted since stays.
    pub(super) fn settle(&mut self, group: Group) {
        assert!(self.settled < group.drafted, "a group is settled once");
        for written in group.tables {
            let first = self.tables.pop_front();
            assert!(
                first.is_some_and(|first| first.id == written.id),
                "the first are written first"
            );
            if let Some(of_database) = self.by_name.get_mut(&written.database) {
                of_database.remove(&written.name);
                if of_database.is_empty() {
                    self.by_name.remove(&written.database);
                }
            }
        }
        for (id, written) in group.names {
            let names = self.names.get_mut(&id).expect("names are drafted until they are written");
            names.remove(&written);
            if names.is_empty() {
                self.names.remove(&id);
            }
        }
        self.settled = group.drafted;
    }

    /// Takes back all that is drafted.
    pub(super) fn take_back(&mut self) {
        self.tables.clear();
        self.by_name.clear();
        self.names.clear();
        self.settled = self.drafted;
        self.taken_back += 1;
    }
}

impl Group {
    /// The line's entry: one of many where they are more than one, so that a crash leaves all or none.
    pub(super) fn entry(&self) -> Entry {
        let create = |table: &Arc<Table>| Entry::Create {
            id: table.id,
            database: table.database.clone(),
            table: table.name.clone(),
            settings: (*table.settings()).clone(),
        };
        let names = |(id, new): &(TableId, NewNames)| {
            let NewNames { dimensions, measures } = new.clone();
            Entry::Names { id: *id, dimensions, measures }
        };
        let creates = self.tables.iter().map(create);
        let mut changes: Vec<Entry> = creates.chain(self.names.iter().map(names)).collect();
        match changes.pop() {
            Some(only) if changes.is_empty() => only,
            last => {
                changes.extend(last);
                Entry::Together { changes }
            }
        }
    }

    /// Executes what the entry says: the tables are those that were drafted, with what records have claimed
    /// of them meanwhile.
    ///
    /// # Errors
    ///
    /// What makes no sense in that state, for people.
    pub(super) fn execute(&self, state: &mut State) -> Result<(), String> {
        for table in &self.tables {
            state.add_table(table)?;
        }
        self.names.iter().try_for_each(|(id, new)| state.add_names(*id, new.clone()))
    }
}

impl Catalog {
    /// The table of this name, drafted with `settings` if there is none, and its database as well; an
    /// existing one keeps its own. It may be used at once, and named to others after [`Self::settle`].
    ///
    /// # Errors
    ///
    /// [`CatalogError::Name`], [`CatalogError::Limit`], [`CatalogError::Setting`]: nothing was drafted. What a
    /// limit says may go by drafts, and is to be told after [`Self::settle`] too.
    pub fn draft_table(
        &self,
        drafting: &mut Drafting,
        [database, table]: [&str; 2],
        settings: &TableSettings,
    ) -> Result<Arc<Table>, CatalogError> {
        if let Some(table) = self.resolve(database, table) {
            return Ok(table);
        }
        check_name("database", database)?;
        check_name("table", table)?;
        settings.check()?;
        let mut drafts = self.drafts();
        let state = self.state();
        // Whoever held the lock before may have made or drafted it.
        if let Some(table) = state.find(database, table) {
            return Ok(Arc::clone(table));
        }
        drafts.note(drafting);
        if let Some(table) = drafts.find(database, table) {
            return Ok(Arc::clone(table));
        }
        check_room_for_table(&state, (database, drafts.others(&state, database)))?;
        let id = drafts.next_id(&state);
        drop(state);
        let updated_ns = settings.updated_ns.max(settings.created_ns);
        let settings = TableSettings { updated_ns, ..settings.clone() };
        let table = Arc::new(Table::new(id, database, table, settings));
        drafts.add_table(&table);
        self.drafted(&drafts, drafting);
        Ok(table)
    }

    /// Counts the names of a strict table's record among those of its table, drafted or not. Costs a lock
    /// where one of them is new, which happens a bounded number of times in a table's life.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Claim`]: the table has no room for them, or is deleted; nothing was counted. What a
    /// limit says may go by drafts, and is to be told after [`Self::settle`] too.
    pub fn draft_names<'n>(
        &self,
        drafting: &mut Drafting,
        table: &Table,
        dimensions: impl Iterator<Item = &'n str> + Clone,
        measure: &str,
    ) -> Result<(), CatalogError> {
        if table.new_names(dimensions.clone(), measure)?.is_empty() {
            return Ok(());
        }
        let (id, none) = (table.id, Names::default());
        let mut drafts = self.drafts();
        drafts.note(drafting);
        if !drafts.has_table(id) && self.state().get(id).is_none() {
            return Err(ClaimError::Deleted { id }.into());
        }
        // Another may have counted them between the two looks.
        let drafted = drafts.names(id).unwrap_or(&none);
        let new = table.new_names_beside(drafted, dimensions, measure)?;
        if !new.is_empty() {
            drafts.add_names(id, new);
            self.drafted(&drafts, drafting);
        }
        Ok(())
    }

    /// Whether an attribute has the name of one of the table's dimensions, drafted or not.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Twofold`] names the first; as a limit of [`Self::draft_names`] it may go by drafts.
    pub fn check_twofold<'n>(
        &self,
        drafting: &mut Drafting,
        table: &Table,
        attributes: impl Iterator<Item = &'n str> + Clone,
    ) -> Result<(), ClaimError> {
        table.check_twofold(attributes.clone())?;
        if !self.has_drafts.load(Ordering::Acquire) {
            return Ok(());
        }
        let drafts = self.drafts();
        let Some(names) = drafts.names(table.id) else { return Ok(()) };
        drafts.note(drafting);
        names.check_twofold(attributes)
    }

    /// Waits until all that a request goes by is in the log, and synced. To be called before anything
    /// that it drafted, or that others did, is named in a frame or told to anybody.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Unwritten`], [`CatalogError::Io`], [`CatalogError::Poisoned`]: what was drafted is
    /// taken back, after [`CatalogError::Unwritten`] for good, else until a restart, which tells.
    pub fn settle(&self, drafting: &Drafting) -> Result<(), CatalogError> {
        if drafting.needs.is_none() || self.drafts().progress(drafting) == Progress::Settled {
            return Ok(());
        }
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let drafts = self.drafts();
        match drafts.progress(drafting) {
            Progress::Waiting => {}
            // Whoever had the log before has written them too.
            Progress::Settled => return Ok(()),
            Progress::TakenBack => return Err(log.taken_back()),
        }
        let group = drafts.group();
        // Meanwhile others draft what the next group has.
        drop(drafts);
        let appended = log.append(&group.entry());
        self.finish(&mut self.drafts(), group, appended)?;
        self.renew_if_large(&mut log);
        Ok(())
    }

    /// Executes a group that was appended; one that was not is taken back, with all that was drafted since.
    /// Whoever holds the log calls it, so that nobody changed anything meanwhile.
    pub(super) fn finish(
        &self,
        drafts: &mut Drafts,
        group: Group,
        appended: Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        if appended.is_ok() {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let executed = group.execute(&mut state);
            assert_eq!(executed, Ok(()), "what was drafted can be executed, now and by a replay");
            drafts.settle(group);
        } else {
            drafts.take_back();
        }
        self.has_drafts.store(!drafts.is_empty(), Ordering::Release);
        appended
    }

    pub(super) fn drafts(&self) -> MutexGuard<'_, Drafts> {
        // Nothing in here panics between two changes.
        self.drafts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears that something was drafted.
    fn drafted(&self, drafts: &Drafts, drafting: &mut Drafting) {
        drafts.note(drafting);
        self.has_drafts.store(true, Ordering::Release);
    }
}
