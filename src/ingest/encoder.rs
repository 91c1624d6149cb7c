//! The sink that decoders show their records to: resolves tables, validates, packs.

use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::rules::{Rules, broken};
use super::{
    Ask, Durability, NamedRefusal, Options, Protocol, Receipt, is_system, off_the_runtime, quoted,
};
use crate::base::class::Class;
use crate::engine::catalog::{Catalog, CatalogError, Drafting, Table, TableSettings};
use crate::record::codec::{FamilyId, LayoutId, PAYLOAD_BYTES_MAX, PayloadBuilder};
use crate::record::validate::Broken;
use crate::record::window::Store;
use crate::record::{MeasureKind, Reason, Record, RecordSink, Refusal, ValueType};
use crate::reject::entry::document;

/// Most bytes that are kept of what stands around the refused texts of one request.
const WITHIN_BYTES_MAX: usize = PAYLOAD_BYTES_MAX / 8;

/// Packs the records of one request.
pub(super) struct Encoder<'e> {
    catalog: &'e Catalog,
    options: &'e Options,
    builder: &'e mut PayloadBuilder,
    ask: &'e Ask<'e>,
    /// The version for the next record without one, and the step to the one after.
    versions: (i64, i64),
    known: &'e mut Known,
    /// The table of the last record: lines of one table come in runs.
    table_hint: usize,
    /// The last pair that was found good.
    good: Option<(FamilyId, LayoutId)>,
    /// Bytes that stood around what was refused so far.
    within_bytes: usize,
    /// The tables and names of this request that the catalog's log may not have yet.
    drafting: Drafting,
    outcome: Outcome,
}

/// What was found out about the names of one request. Used again from request to request, so that its
/// tables are allocated once.
#[derive(Debug, Default)]
pub(super) struct Known {
    tables: Vec<Resolved>,
    /// Places in `tables`, by the names: a request may name as many tables as there are.
    tables_by_name: HashTable<usize>,
    hasher: RandomState,
    /// The verdict on each family, once a request.
    families: Vec<Result<(), Broken>>,
    /// The verdict on each family with each layout, once a request.
    layouts: HashMap<(FamilyId, LayoutId), Result<(), Broken>>,
}

impl Known {
    pub(super) fn clear(&mut self) {
        let Self { tables, tables_by_name, hasher: _, families, layouts } = self;
        tables.clear();
        tables_by_name.clear();
        families.clear();
        layouts.clear();
    }

    /// Bytes that it holds, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.tables.capacity() * size_of::<Resolved>()
            + self.families.capacity() * size_of::<Result<(), Broken>>()
            + self.layouts.capacity() * size_of::<(FamilyId, LayoutId, Broken)>()
    }
}

/// A table that the request has named.
#[derive(Debug)]
struct Resolved {
    database: String,
    name: String,
    table: Result<Found, Broken>,
}

/// A table and its rules, the same for all records of a request.
#[derive(Debug, Clone)]
struct Found {
    table: Arc<Table>,
    rules: Rules,
}

/// What became of the records of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) accepted: u64,
    magnetic: u64,
    refused: u64,
    named: Vec<NamedRefusal>,
    /// How many were refused for which reason.
    pub(super) reasons: BTreeMap<Reason, u64>,
    /// Set when the request's own database does not exist and must not be made.
    pub(super) database_not_found: Option<String>,
    /// Set when the catalog could not be changed through no fault of the request: who must act, and why.
    pub(super) fault: Option<(Class, String)>,
}

impl<'e> Encoder<'e> {
    pub(super) fn new(
        catalog: &'e Catalog,
        options: &'e Options,
        (builder, known): (&'e mut PayloadBuilder, &'e mut Known),
        ask: &'e Ask<'e>,
        versions: (i64, i64),
    ) -> Self {
        assert!(known.tables.is_empty(), "what is known is of one request");
        Self {
            catalog,
            options,
            builder,
            ask,
            versions,
            known,
            table_hint: 0,
            good: None,
            within_bytes: 0,
            drafting: Drafting::default(),
            outcome: Outcome::default(),
        }
    }

    /// What became of the records, once the catalog's log has what they go by.
    pub(super) fn finish(mut self) -> Outcome {
        // A line of the catalog's log waits for the disk, and the runtime's thread has others to serve.
        let settle = || self.catalog.settle(&self.drafting);
        let settled = if self.drafting.is_empty() { Ok(()) } else { off_the_runtime(settle) };
        if let Err(error) = settled {
            assert_ne!(error.class(), Class::Refused, "what is drafted was decided before");
            self.outcome.fault = Some((error.class(), error.to_string()));
        }
        let Outcome { accepted, magnetic, refused, reasons, .. } = &self.outcome;
        assert!(magnetic <= accepted, "what is late is of what was accepted");
        assert_eq!(*refused, reasons.values().sum::<u64>(), "what is refused has a reason each");
        self.outcome
    }

    fn take(&mut self, record: &Record<'_>) -> Result<(), Broken> {
        // What a record alone can break comes first: one that is refused must leave no table behind,
        // and no column whose type it has chosen for all that follow.
        let time_ns = record.time_ns.unwrap_or(self.ask.received_ns);
        Rules::plain(record, time_ns)?;
        check_not_system(record, self.ask)?;
        let at = self.resolve(record, time_ns)?;
        let found = match &self.known.tables[at].table {
            Ok(found) => found,
            Err(broken) => return Err(broken.clone()),
        };
        let store = found.rules.record(record, time_ns)?;
        let (family, is_new) = self.builder.family(found.table.id, record);
        if is_new {
            self.known.families.push(found.rules.family(record));
            let verdicts = self.known.families.len();
            assert_eq!(verdicts, family.0 as usize + 1, "one verdict a family");
        }
        let (layout, _) = self.builder.layout(record);
        if self.good != Some((family, layout)) {
            let found = found.clone();
            self.judge(&found, (family, layout), record)?;
        }
        let version = record.version.unwrap_or_else(|| self.next_version());
        // Past the bound the request is refused as a whole; packing on would only take memory.
        if self.builder.bytes() <= PAYLOAD_BYTES_MAX {
            self.builder.push((family, layout), record, time_ns, version);
        }
        self.outcome.accepted += 1;
        self.outcome.magnetic += u64::from(store == Store::Magnetic);
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
        found: &Found,
        pair: (FamilyId, LayoutId),
        record: &Record<'_>,
    ) -> Result<(), Broken> {
        self.known.families[pair.0.0 as usize].clone()?;
        if let Some(verdict) = self.known.layouts.get(&pair) {
            verdict.clone()?;
        } else {
            let verdict = found.rules.layout(record).and_then(|()| self.claim(found, record));
            self.known.layouts.insert(pair, verdict.clone());
            verdict?;
        }
        self.good = Some(pair);
        Ok(())
    }

    /// Claims the record's attributes as columns of the table, and in a strict table its names, or
    /// finds that they do not fit. Names that are new are drafted.
    fn claim(&mut self, found: &Found, record: &Record<'_>) -> Result<(), Broken> {
        let columns = columns(record);
        if found.rules.is_strict() {
            let attributes = columns.iter().map(|(name, _)| *name);
            let (table, drafting) = (&*found.table, &mut self.drafting);
            let twofold = self.catalog.check_twofold(drafting, table, attributes);
            twofold.map_err(|error| broken(&error.into()))?;
            table.fits(&columns).map_err(|error| broken(&error.into()))?;
            let (names, measure) = (record.dimensions.iter().map(|d| d.name), record.measure_name);
            let claimed = self.catalog.draft_names(drafting, table, names, measure);
            claimed.map_err(|error| broken(&error))?;
        }
        found.table.claim_attributes(&columns).map_err(|error| broken(&error.into()))
    }

    /// The place in `tables` of the record's table, which is drafted where the settings allow it.
    ///
    /// # Errors
    ///
    /// What keeps this record from being the one for whose sake a table is made.
    fn resolve(&mut self, record: &Record<'_>, time_ns: i64) -> Result<usize, Broken> {
        let is_it =
            |known: &Resolved| known.name == record.table && known.database == record.database;
        let Known { tables, tables_by_name, hasher, .. } = &*self.known;
        if tables.get(self.table_hint).is_some_and(is_it) {
            return Ok(self.table_hint);
        }
        let hash = hasher.hash_one((record.database, record.table));
        let known = tables_by_name.find(hash, |&at| is_it(&tables[at])).copied();
        self.table_hint = match known {
            Some(at) => at,
            None => self.add_table(record, (time_ns, hash))?,
        };
        Ok(self.table_hint)
    }

    fn add_table(
        &mut self,
        record: &Record<'_>,
        (time_ns, hash): (i64, u64),
    ) -> Result<usize, Broken> {
        let received_ns = self.ask.received_ns;
        let table = if let Some(table) = self.catalog.resolve(record.database, record.table) {
            Ok(table)
        } else {
            let settings = Arc::new(new_table(self.options, self.ask));
            Rules::new(Arc::clone(&settings), received_ns).all(record, time_ns)?;
            self.create(record, &settings)
        };
        let table = table.map(|table| {
            let rules = match self.ask.protocol {
                Protocol::Batch => Rules::of_batch_load(table.settings(), received_ns),
                _ => Rules::new(table.settings(), received_ns),
            };
            Found { table, rules }
        });
        let (database, name) = (record.database.to_owned(), record.table.to_owned());
        let Known { tables, tables_by_name, hasher, .. } = &mut *self.known;
        tables.push(Resolved { database, name, table });
        let at = tables.len() - 1;
        tables_by_name.insert_unique(hash, at, |&at| {
            hasher.hash_one((&*tables[at].database, &*tables[at].name))
        });
        assert_eq!(tables.len(), tables_by_name.len(), "each table is found by its name, once");
        Ok(at)
    }

    /// Makes the table of `record`, which there is not yet.
    fn create(
        &mut self,
        record: &Record<'_>,
        settings: &TableSettings,
    ) -> Result<Arc<Table>, Broken> {
        // Clients of Timestream make their tables themselves; one that is missing was just deleted.
        let makes_none = matches!(self.ask.protocol, Protocol::Timestream | Protocol::Batch);
        if !self.options.create_tables || makes_none {
            let is_own = record.database == self.ask.database;
            if is_own && !self.catalog.has_database(record.database) {
                self.outcome.database_not_found = Some(record.database.to_owned());
            }
            return Err(not_found(record));
        }
        let names = [record.database, record.table];
        let made = self.catalog.draft_table(&mut self.drafting, names, settings);
        made.map_err(|error: CatalogError| broken(&error))
    }

    /// Where in its line the value stands whose type the table's column does not have; 0 where it is not
    /// known. Looked for again, since the verdict on a layout is one for many lines.
    fn column_to_blame(&self, record: &Record<'_>, reason: Reason) -> u64 {
        let resolved = self.known.tables.get(self.table_hint).map(|resolved| &resolved.table);
        match resolved {
            Some(Ok(found)) if reason == Reason::TypeConflict => {
                let fits = |column: (&str, ValueType)| found.table.fits(&[column]).is_ok();
                column_to_blame(self.ask, record, fits)
            }
            _ => 0,
        }
    }

    fn refuse_named(&mut self, database: &str, refusal: &Refusal<'_>) {
        self.outcome.refuse(refusal, self.ask.protocol.named_max());
        // A batch load reports what was refused by the lines of its files.
        let is_kept = self.ask.protocol != Protocol::Batch;
        if is_kept && self.builder.bytes() <= PAYLOAD_BYTES_MAX {
            let within = refusal.origin.within;
            // What stands around all of them would be kept with each: beyond a share of the payload it is
            // left out, so that the good records beside them still fit.
            self.within_bytes = self.within_bytes.saturating_add(within.len());
            let within = if self.within_bytes <= WITHIN_BYTES_MAX { within } else { "" };
            let reading = self.ask.reading.map(|reading| reading.to_json(within));
            let reading = reading.as_deref().unwrap_or_default();
            self.builder.push_refused((database, reading), refusal);
        }
    }
}

/// The settings of a table that a first write makes.
pub(super) fn new_table(options: &Options, ask: &Ask<'_>) -> TableSettings {
    let created_ns = ask.received_ns;
    let updated_ns = created_ns;
    TableSettings { profile: options.profile, created_ns, updated_ns, ..TableSettings::default() }
}

/// The columns that the record needs. The one value of a scalar needs none: its columns are typed.
pub(super) fn columns<'r>(record: &Record<'r>) -> Vec<(&'r str, ValueType)> {
    match record.kind {
        MeasureKind::Scalar => Vec::new(),
        MeasureKind::Multi => {
            record.attributes.iter().map(|a| (a.name, a.value.value_type())).collect()
        }
    }
}

/// Keeps records out of the gateway's own database.
pub(super) fn check_not_system(record: &Record<'_>, ask: &Ask<'_>) -> Result<(), Broken> {
    if ask.protocol == Protocol::DataZone || !is_system(record.database) {
        return Ok(());
    }
    let database = record.database;
    let message =
        format!("database {database:?} is the gateway's own: DataZone's API writes to it");
    Err((Reason::Forbidden, message))
}

/// The column of the first value of a line that does not fit, from 1; 0 where it is not known: a key with an
/// escape in it stands elsewhere.
pub(super) fn column_to_blame(
    ask: &Ask<'_>,
    record: &Record<'_>,
    fits: impl Fn((&str, ValueType)) -> bool,
) -> u64 {
    if ask.protocol != Protocol::Line {
        return 0;
    }
    let unfit = columns(record).into_iter().find(|column| !fits(*column));
    let place = unfit.and_then(|(key, _)| place_behind(record.origin.text, key.as_bytes()));
    // The value follows the equals sign behind its key; columns count from 1.
    let value = place.filter(|place| record.origin.text.get(*place) == Some(&b'='));
    value.map_or(0, |place| place as u64 + 2)
}

/// Where `text` goes on behind `part`, if that is a piece of it.
fn place_behind(text: &[u8], part: &[u8]) -> Option<usize> {
    let start = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(end)
}

pub(super) fn not_found(record: &Record<'_>) -> Broken {
    let message = format!("table not found: {:?} in {:?}", record.table, record.database);
    (Reason::TableNotFound, message)
}

impl RecordSink for Encoder<'_> {
    fn record(&mut self, record: &Record<'_>) {
        let Err((reason, message)) = self.take(record) else { return };
        // Whoever may not write to a database leaves nothing there.
        let is_theirs = reason != Reason::Forbidden;
        let database = if is_theirs { record.database } else { self.ask.database };
        let mut origin = record.origin;
        // Timestream's records are merged with what their request says of all: their own text is a part.
        let whole = (self.ask.protocol == Protocol::Timestream).then(|| document(record));
        if let Some(whole) = &whole {
            origin.text = whole.as_bytes();
        }
        let column = self.column_to_blame(record, reason);
        self.refuse_named(database, &Refusal { origin, column, reason, message });
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        self.refuse_named(self.ask.database, &refusal);
    }
}

impl Outcome {
    /// Whether anything was refused.
    pub(super) const fn is_refusing(&self) -> bool {
        self.refused > 0
    }

    /// Counts a refusal, and names it while there is room for names.
    pub(super) fn refuse(&mut self, refusal: &Refusal<'_>, named_max: usize) {
        self.refused += 1;
        *self.reasons.entry(refusal.reason).or_default() += 1;
        if self.named.len() < named_max {
            self.named.push(NamedRefusal {
                number: refusal.origin.number,
                column: refusal.column,
                reason: refusal.reason,
                message: refusal.message.clone(),
                text: quoted(refusal.origin.text),
                existing_version: None,
            });
        }
    }

    pub(super) fn receipt(&self, durability: Durability) -> Receipt {
        Receipt {
            lsn: None,
            durability,
            accepted: self.accepted,
            magnetic: self.magnetic,
            refused: self.refused,
            untaken: 0,
            named: self.named.clone(),
        }
    }
}
