//! What would be refused of a request before the log, found out without a trace: no table is made, no column claimed.
//!
//! A trial keeps the tables that its records have changed as they would be by then, so that a record meets what those
//! before it would leave: types, the room for columns, names and tables. A record that is refused leaves nothing, and
//! who does not send what was tried takes it back: [`Trial::keep`], [`Trial::take_back`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::encoder::{Outcome, check_not_system, column_to_blame, columns, new_table, not_found};
use super::rules::{Rules, broken};
use super::{Ask, Options};
use crate::engine::catalog::{Catalog, Others, Table};
use crate::record::validate::Broken;
use crate::record::{Reason, Record, RecordSink, Refusal, TableId, ValueType};

/// Finds out what would be refused of a request before the log, and leaves no trace: no table, no column.
#[derive(Debug)]
pub struct Trial<'e> {
    catalog: &'e Catalog,
    options: &'e Options,
    ask: &'e Ask<'e>,
    ahead: Ahead,
    outcome: Outcome,
}

/// Tables as the records of a trial would have changed them.
#[derive(Debug, Default)]
struct Ahead {
    /// By database and name.
    tables: HashMap<String, HashMap<String, Changed, RandomState>, RandomState>,
    /// How many of them would have to be made.
    unmade: usize,
    /// What stood where something was changed since the last [`Trial::keep`].
    before: BTreeMap<(String, String), Option<Changed>>,
}

#[derive(Debug, Clone)]
struct Changed {
    table: Arc<Table>,
    /// Whether it would have to be made.
    is_unmade: bool,
}

impl Ahead {
    fn get(&self, database: &str, table: &str) -> Option<&Changed> {
        self.tables.get(database)?.get(table)
    }

    fn put(&mut self, [database, table]: [&str; 2], changed: Changed) {
        self.unmade += usize::from(changed.is_unmade);
        let of_database = self.tables.entry(database.to_owned()).or_default();
        let before = of_database.insert(table.to_owned(), changed);
        self.unmade -= before.as_ref().map_or(0, |before| usize::from(before.is_unmade));
        // The first change since then tells what to go back to.
        self.before.entry((database.to_owned(), table.to_owned())).or_insert(before);
    }

    fn take_back(&mut self) {
        for ((database, table), before) in std::mem::take(&mut self.before) {
            let of_database = self.tables.entry(database.clone()).or_default();
            let undone = match before {
                // Being unmade is a table's from its first change on.
                Some(before) => of_database.insert(table, before).and(None),
                None => of_database.remove(&table),
            };
            self.unmade -= undone.map_or(0, |undone: Changed| usize::from(undone.is_unmade));
            if of_database.is_empty() {
                self.tables.remove(&database);
            }
        }
    }

    /// What would be made before a table of this database.
    fn others(&self, catalog: &Catalog, database: &str) -> Others {
        let is_unmade = |name: &str| !catalog.has_database(name);
        // Most tables are made in a database that there is, whose limit is no matter.
        let databases = if is_unmade(database) {
            self.tables.keys().filter(|name| is_unmade(name)).count()
        } else {
            0
        };
        let has_database = self.tables.contains_key(database);
        Others { tables: self.unmade, databases, has_database }
    }
}

impl<'e> Trial<'e> {
    pub(super) fn new(catalog: &'e Catalog, options: &'e Options, ask: &'e Ask<'e>) -> Self {
        Self { catalog, options, ask, ahead: Ahead::default(), outcome: Outcome::default() }
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    /// Whether the way in would take the record behind those that were checked before it and were not taken back.
    /// Tells its table; `None` where that would have to be made.
    ///
    /// # Errors
    ///
    /// The first broken rule; the record leaves nothing.
    pub fn check(&mut self, record: &Record<'_>) -> Result<Option<TableId>, Broken> {
        let time_ns = record.time_ns.unwrap_or(self.ask.received_ns);
        Rules::plain(record, time_ns)?;
        check_not_system(record, self.ask)?;
        let made = self.catalog.resolve(record.database, record.table);
        let known = self.ahead.get(record.database, record.table).cloned();
        let known = known.or_else(|| {
            made.as_ref().map(|table| Changed { table: Arc::clone(table), is_unmade: false })
        });
        let settings = match &known {
            Some(known) => known.table.settings(),
            None if self.options.create_tables => Arc::new(new_table(self.options, self.ask)),
            None => return Err(not_found(record)),
        };
        let rules = Rules::new(Arc::clone(&settings), self.ask.received_ns);
        rules.all(record, time_ns)?;
        let names = [record.database, record.table];
        let tried = if let Some(known) = &known {
            known.clone()
        } else {
            let others = self.ahead.others(self.catalog, record.database);
            let table = self.catalog.would_create(names, &settings, others);
            let table = Arc::new(table.map_err(|error| broken(&error))?);
            Changed { table, is_unmade: true }
        };
        let dimensions = record.dimensions.iter().map(|dimension| dimension.name);
        let counted = rules.is_strict().then_some((dimensions, record.measure_name));
        let changed = tried.table.with_claims(&columns(record), counted);
        match changed.map_err(|error| broken(&error.into()))? {
            Some(table) => {
                self.ahead.put(names, Changed { table: Arc::new(table), ..tried });
            }
            None if known.is_none() => self.ahead.put(names, tried),
            None => {}
        }
        Ok(made.map(|table| table.id))
    }

    /// As the encoder's; here the table is one that may have changed ahead of it.
    fn column_to_blame(&self, record: &Record<'_>, reason: Reason) -> u64 {
        if reason != Reason::TypeConflict {
            return 0;
        }
        let ahead =
            self.ahead.get(record.database, record.table).map(|known| Arc::clone(&known.table));
        let table = ahead.or_else(|| self.catalog.resolve(record.database, record.table));
        let fits = |column: (&str, ValueType)| {
            table.as_ref().is_none_or(|table| table.fits(&[column]).is_ok())
        };
        column_to_blame(self.ask, record, fits)
    }

    /// Whether the record's table keeps records of its time. One that does not takes them and forgets them.
    ///
    /// # Errors
    ///
    /// [`Reason::TimeOutsideWindow`].
    pub fn check_kept(&self, record: &Record<'_>) -> Result<(), Broken> {
        let time_ns = record.time_ns.unwrap_or(self.ask.received_ns);
        let Some(table) = self.catalog.resolve(record.database, record.table) else {
            // Made by a write, a table keeps what is in its window, or all.
            return Ok(());
        };
        let retention = table.retention();
        if time_ns >= retention.alive_from_ns(self.ask.received_ns) {
            return Ok(());
        }
        let (hours, days) = (retention.memory_hours, retention.magnetic_days);
        let message = format!(
            "the time {time_ns} ns is older than the table keeps records for, {hours} h and {days} d: nothing would \
             be left of it; set another time, or a longer retention"
        );
        Err((Reason::TimeOutsideWindow, message))
    }

    /// What was checked so far is to be sent: it stays.
    pub fn keep(&mut self) {
        self.ahead.before.clear();
    }

    /// What was checked since the last [`Self::keep`] is not to be sent: it leaves nothing for what comes.
    pub fn take_back(&mut self) {
        self.ahead.take_back();
    }
}

impl RecordSink for Trial<'_> {
    fn record(&mut self, record: &Record<'_>) {
        match self.check(record) {
            Ok(_table) => {
                self.keep();
                self.outcome.accepted += 1;
            }
            Err((reason, message)) => {
                let column = self.column_to_blame(record, reason);
                self.refuse(Refusal { origin: record.origin, column, reason, message });
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.outcome.refuse(&refusal, self.ask.protocol.named_max());
    }
}
