//! The sink that decoders show their records to: resolves tables, validates, packs.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{Ask, Durability, NamedRefusal, Options, Receipt};
use crate::base::class::Class;
use crate::engine::catalog::{Catalog, Table, TableSettings};
use crate::record::codec::{FamilyId, LayoutId, PAYLOAD_BYTES_MAX, PayloadBuilder};
use crate::record::limits::{REFUSALS_NAMED_MAX, REFUSED_TEXT_QUOTED_BYTES_MAX};
use crate::record::validate::{self, Broken};
use crate::record::{MeasureKind, Reason, Record, RecordSink, Refusal, ValueType};

/// Packs the records of one request.
pub(super) struct Encoder<'e> {
    catalog: &'e Catalog,
    options: &'e Options,
    builder: &'e mut PayloadBuilder,
    ask: &'e Ask<'e>,
    /// The version for the next record without one, and the step to the one after.
    versions: (i64, i64),
    tables: Vec<Resolved>,
    /// Places in `tables`, by the names: a request may name as many tables as there are.
    tables_by_name: HashTable<usize>,
    hasher: RandomState,
    /// The table of the last record: lines of one table come in runs.
    table_hint: usize,
    /// The verdict on each family, once a request.
    families: Vec<Result<(), Broken>>,
    /// The verdict on each family with each layout, once a request.
    layouts: HashMap<(FamilyId, LayoutId), Result<(), Broken>>,
    /// The last pair that was found good.
    good: Option<(FamilyId, LayoutId)>,
    outcome: Outcome,
}

/// A table that the request has named.
struct Resolved {
    database: String,
    name: String,
    table: Result<Arc<Table>, Broken>,
}

/// What became of the records of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    accepted: u64,
    refused: u64,
    named: Vec<NamedRefusal>,
    /// How many were refused for which reason.
    pub(super) reasons: BTreeMap<Reason, u64>,
    /// Set when the request's own database does not exist and must not be made.
    pub(super) database_not_found: Option<String>,
    /// Set when a table could not be made through no fault of the request.
    pub(super) fault: Option<String>,
}

impl<'e> Encoder<'e> {
    pub(super) fn new(
        catalog: &'e Catalog,
        options: &'e Options,
        builder: &'e mut PayloadBuilder,
        ask: &'e Ask<'e>,
        versions: (i64, i64),
    ) -> Self {
        Self {
            catalog,
            options,
            builder,
            ask,
            versions,
            tables: Vec::new(),
            tables_by_name: HashTable::new(),
            hasher: RandomState::default(),
            table_hint: 0,
            families: Vec::new(),
            layouts: HashMap::new(),
            good: None,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), Broken> {
        // What a record alone can break comes first: one that is refused must leave no table behind,
        // and no column whose type it has chosen for all that follow.
        validate::values(record)?;
        let time_ns = record.time_ns.unwrap_or(self.ask.received_ns);
        validate::time(time_ns)?;
        record.version.map_or(Ok(()), validate::version)?;
        let at = self.resolve(record)?;
        let table = match &self.tables[at].table {
            Ok(table) => table,
            Err(broken) => return Err(broken.clone()),
        };
        let (family, is_new) = self.builder.family(table.id, record);
        if is_new {
            self.families.push(validate::family(record));
            assert_eq!(self.families.len(), family.0 as usize + 1, "one verdict a family");
        }
        let (layout, _) = self.builder.layout(record);
        if self.good != Some((family, layout)) {
            let table = Arc::clone(table);
            self.judge(&table, (family, layout), record)?;
        }
        let version = record.version.unwrap_or_else(|| self.next_version());
        // Past the bound the request is refused as a whole; packing on would only take memory.
        if self.builder.bytes() <= PAYLOAD_BYTES_MAX {
            self.builder.push((family, layout), record, time_ns, version);
        }
        self.outcome.accepted += 1;
        Ok(())
    }

    /// The version for a record without one.
    fn next_version(&mut self) -> i64 {
        let (next, step) = self.versions;
        self.versions.0 = next.saturating_add(step);
        next
    }

    /// The verdict on a family with a layout: names, and types against the table's columns.
    fn judge(
        &mut self,
        table: &Table,
        pair: (FamilyId, LayoutId),
        record: &Record<'_>,
    ) -> Result<(), Broken> {
        self.families[pair.0.0 as usize].clone()?;
        let verdict = self
            .layouts
            .entry(pair)
            .or_insert_with(|| validate::layout(record).and_then(|()| claim(table, record)));
        verdict.clone()?;
        self.good = Some(pair);
        Ok(())
    }

    /// The place in `tables` of the record's table, which is made where the settings allow it.
    ///
    /// # Errors
    ///
    /// What keeps this record from being the one for whose sake a table is made.
    fn resolve(&mut self, record: &Record<'_>) -> Result<usize, Broken> {
        let is_it =
            |known: &Resolved| known.name == record.table && known.database == record.database;
        if self.tables.get(self.table_hint).is_some_and(is_it) {
            return Ok(self.table_hint);
        }
        let hash = self.hasher.hash_one((record.database, record.table));
        let known = self.tables_by_name.find(hash, |&at| is_it(&self.tables[at])).copied();
        self.table_hint = match known {
            Some(at) => at,
            None => self.add_table(record, hash)?,
        };
        Ok(self.table_hint)
    }

    fn add_table(&mut self, record: &Record<'_>, hash: u64) -> Result<usize, Broken> {
        let table = if let Some(table) = self.catalog.resolve(record.database, record.table) {
            Ok(table)
        } else {
            validate::family(record)?;
            validate::layout(record)?;
            self.create(record)
        };
        let (database, name) = (record.database.to_owned(), record.table.to_owned());
        self.tables.push(Resolved { database, name, table });
        let at = self.tables.len() - 1;
        let (tables, hasher) = (&self.tables, &self.hasher);
        self.tables_by_name.insert_unique(hash, at, |&at| {
            hasher.hash_one((&*tables[at].database, &*tables[at].name))
        });
        Ok(at)
    }

    /// Makes the table of `record`, which there is not yet.
    fn create(&mut self, record: &Record<'_>) -> Result<Arc<Table>, Broken> {
        if !self.options.create_tables {
            let is_own = record.database == self.ask.database;
            if is_own && !self.catalog.has_database(record.database) {
                self.outcome.database_not_found = Some(record.database.to_owned());
            }
            return Err(not_found(record));
        }
        let settings =
            TableSettings { created_ns: self.ask.received_ns, ..TableSettings::default() };
        self.catalog.create(record.database, record.table, &settings).map_err(|error| {
            if error.class() != Class::Refused {
                self.outcome.fault = Some(error.to_string());
            }
            (Reason::TableLimit, error.to_string())
        })
    }

    fn refuse_named(&mut self, refusal: &Refusal<'_>) {
        self.outcome.refuse(refusal);
        if self.builder.bytes() <= PAYLOAD_BYTES_MAX {
            self.builder.push_refused(self.ask.database, refusal);
        }
    }
}

/// Claims the record's attributes as columns of the table, or finds that they do not fit.
fn claim(table: &Table, record: &Record<'_>) -> Result<(), Broken> {
    let claimed = table.claim_attributes(&columns(record));
    claimed.map_err(|error| (error.reason(), error.to_string()))
}

/// The columns that the record needs. The one value of a scalar needs none: its columns are typed.
fn columns<'r>(record: &Record<'r>) -> Vec<(&'r str, ValueType)> {
    match record.kind {
        MeasureKind::Scalar => Vec::new(),
        MeasureKind::Multi => {
            record.attributes.iter().map(|a| (a.name, a.value.value_type())).collect()
        }
    }
}

/// Finds out what would be refused of a request that is to be taken as a whole or not at all, and
/// leaves no trace: no table, no column. Each record is judged by itself, so that two records of one
/// request that contradict each other are found only when it is packed.
pub(super) struct Trial<'e> {
    catalog: &'e Catalog,
    options: &'e Options,
    ask: &'e Ask<'e>,
    outcome: Outcome,
}

impl<'e> Trial<'e> {
    pub(super) fn new(catalog: &'e Catalog, options: &'e Options, ask: &'e Ask<'e>) -> Self {
        Self { catalog, options, ask, outcome: Outcome::default() }
    }

    pub(super) fn finish(self) -> Outcome {
        self.outcome
    }

    fn try_record(&self, record: &Record<'_>) -> Result<(), Broken> {
        validate::values(record)?;
        validate::time(record.time_ns.unwrap_or(self.ask.received_ns))?;
        record.version.map_or(Ok(()), validate::version)?;
        validate::family(record)?;
        validate::layout(record)?;
        match self.catalog.resolve(record.database, record.table) {
            Some(table) => {
                table.fits(&columns(record)).map_err(|error| (error.reason(), error.to_string()))
            }
            None if self.options.create_tables => Ok(()),
            None => Err(not_found(record)),
        }
    }
}

impl RecordSink for Trial<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if let Err((reason, message)) = self.try_record(record) {
            self.refuse(Refusal { origin: record.origin, column: 0, reason, message });
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.outcome.refuse(&refusal);
    }
}

fn not_found(record: &Record<'_>) -> Broken {
    let message = format!("table not found: {:?} in {:?}", record.table, record.database);
    (Reason::TableNotFound, message)
}

impl RecordSink for Encoder<'_> {
    fn record(&mut self, record: &Record<'_>) {
        if let Err((reason, message)) = self.take(record) {
            self.refuse_named(&Refusal { origin: record.origin, column: 0, reason, message });
        }
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.refuse_named(&refusal);
    }
}

impl Outcome {
    /// Whether anything was refused.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refused > 0
    }

    /// Counts a refusal, and names it while there is room for names.
    fn refuse(&mut self, refusal: &Refusal<'_>) {
        self.refused += 1;
        *self.reasons.entry(refusal.reason).or_default() += 1;
        if self.named.len() < REFUSALS_NAMED_MAX {
            let text = refusal.origin.text;
            let quoted = &text[..text.len().min(REFUSED_TEXT_QUOTED_BYTES_MAX)];
            self.named.push(NamedRefusal {
                number: refusal.origin.number,
                column: refusal.column,
                reason: refusal.reason,
                message: refusal.message.clone(),
                text: String::from_utf8_lossy(quoted).into_owned(),
                existing_version: None,
            });
        }
    }

    pub(super) fn receipt(&self, durability: Durability) -> Receipt {
        Receipt {
            lsn: None,
            durability,
            accepted: self.accepted,
            refused: self.refused,
            named: self.named.clone(),
        }
    }
}
