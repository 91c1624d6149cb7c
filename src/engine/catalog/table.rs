//! Databases and tables as the catalog has them, and the columns and names that a table's records claim.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use foldhash::fast::RandomState;

use super::ClaimError;
use super::settings::{DatabaseSettings, Profile, Retention, TableSettings};
use crate::record::codec::Layout;
use crate::record::limits::{DIMENSIONS_PER_TABLE_MAX, MEASURE_NAMES_PER_TABLE_MAX};
use crate::record::{MeasureKind, TableId, ValueType};

type Map<K, V> = HashMap<K, V, RandomState>;
type Set<K> = HashSet<K, RandomState>;

/// A database: its name and its settings.
#[derive(Debug)]
pub struct Database {
    /// Its name.
    pub name: Box<str>,
    /// Replaced as a whole by an update.
    settings: RwLock<Arc<DatabaseSettings>>,
}

impl Database {
    pub(super) fn new(name: &str, settings: DatabaseSettings) -> Self {
        Self { name: name.into(), settings: RwLock::new(Arc::new(settings)) }
    }

    /// Its settings as they stand now.
    pub fn settings(&self) -> Arc<DatabaseSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, settings: DatabaseSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// A table: its names, its settings and what its records have claimed.
#[derive(Debug)]
pub struct Table {
    /// Its number, which payloads carry.
    pub id: TableId,
    /// The database it is in.
    pub database: Box<str>,
    /// Its name there.
    pub name: Box<str>,
    /// Replaced as a whole by an update.
    settings: RwLock<Arc<TableSettings>>,
    /// The type of each attribute, claimed by whoever writes it first.
    columns: RwLock<Map<Box<str>, ValueType>>,
    /// The names that a strict table counts. Locked alone, or after `columns`.
    names: RwLock<Names>,
}

/// Names of a strict table's dimensions and measures.
#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    dimensions: Set<Box<str>>,
    measures: Set<Box<str>>,
}

/// Names that a table does not have yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NewNames {
    pub(super) dimensions: Vec<Box<str>>,
    pub(super) measures: Vec<Box<str>>,
}

impl Table {
    pub(super) fn new(id: TableId, database: &str, name: &str, settings: TableSettings) -> Self {
        Self {
            id,
            database: database.into(),
            name: name.into(),
            settings: RwLock::new(Arc::new(settings)),
            columns: RwLock::default(),
            names: RwLock::default(),
        }
    }

    /// Its settings as they stand now. A request reads them once, so that all its records follow the
    /// same rules.
    pub fn settings(&self) -> Arc<TableSettings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set(&self, settings: TableSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Whose rules its records follow.
    pub fn profile(&self) -> Profile {
        self.settings().profile
    }

    /// How long its records live, as it stands now.
    pub fn retention(&self) -> Retention {
        self.settings().retention
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
        let columns_max = self.settings().columns_max;
        let room = columns_max.saturating_sub(columns.len());
        if missing <= room {
            return Ok(());
        }
        let new = attributes.iter().filter(|(name, _)| !columns.contains_key(*name)).nth(room);
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

    /// Whether somebody has claimed the attribute.
    pub fn has_column(&self, name: &str) -> bool {
        self.columns.read().unwrap_or_else(PoisonError::into_inner).contains_key(name)
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
        let columns_max = self.settings().columns_max;
        let mut columns = self.columns.write().unwrap_or_else(PoisonError::into_inner);
        // Between the two locks another may have claimed; and a layout may name one attribute
        // twice. Hence a copy that replaces the columns only as a whole.
        let mut claimed = columns.clone();
        for (found, name) in entries() {
            check_columns(&claimed, std::iter::once((found, name)))?;
            if claimed.len() >= columns_max && !claimed.contains_key(name) {
                return Err(ClaimError::Limit { attribute: name.to_owned(), columns_max });
            }
            claimed.insert(name.into(), found);
        }
        *columns = claimed;
        Ok(())
    }

    /// The table as it would be once a record had claimed these attributes and, in a strict table, these names;
    /// `None` where it has them all. Found out by the rules of a claim, in their order. What is returned is
    /// nobody else's, and no log has it. Costs a copy of the table's names where one is new.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]: the record's claims would be refused.
    pub fn with_claims<'n>(
        &self,
        attributes: &[(&str, ValueType)],
        counted: Option<(impl Iterator<Item = &'n str>, &str)>,
    ) -> Result<Option<Self>, ClaimError> {
        if counted.is_some() {
            self.check_twofold(attributes.iter().map(|(name, _)| *name))?;
        }
        self.fits(attributes)?;
        let counted = counted.map(|(dimensions, measure)| self.new_names(dimensions, measure));
        let new = counted.transpose()?.unwrap_or_default();
        if new.is_empty() && attributes.iter().all(|(name, _)| self.has_column(name)) {
            return Ok(None);
        }
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner).clone();
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner).clone();
        let table = Self {
            id: self.id,
            database: self.database.clone(),
            name: self.name.clone(),
            settings: RwLock::new(self.settings()),
            columns: RwLock::new(columns),
            names: RwLock::new(names),
        };
        table.claim_attributes(attributes)?;
        table.add_names(new);
        Ok(Some(table))
    }

    /// Which of a record's names the table has not, if it has room for them. Between a dimension and
    /// an attribute the name may not be shared. Source: Timestream developer guide, "Quotas" (128
    /// dimensions and 8,192 measure names of a table) and "Naming constraints" (one column of a name).
    ///
    /// # Errors
    ///
    /// [`ClaimError::Names`], [`ClaimError::Twofold`].
    pub(super) fn new_names<'n>(
        &self,
        dimensions: impl Iterator<Item = &'n str>,
        measure: &str,
    ) -> Result<NewNames, ClaimError> {
        self.new_names_beside(&Names::default(), dimensions, measure)
    }

    /// The same for a table that will have `drafted` too, which it has not.
    ///
    /// # Errors
    ///
    /// As of [`Self::new_names`].
    pub(super) fn new_names_beside<'n>(
        &self,
        drafted: &Names,
        dimensions: impl Iterator<Item = &'n str>,
        measure: &str,
    ) -> Result<NewNames, ClaimError> {
        let columns = self.columns.read().unwrap_or_else(PoisonError::into_inner);
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let mut new = NewNames::default();
        let has = |name: &str| names.dimensions.contains(name) || drafted.dimensions.contains(name);
        let before = names.dimensions.len() + drafted.dimensions.len();
        for name in dimensions.filter(|name| !has(name)) {
            if columns.contains_key(name) {
                return Err(ClaimError::Twofold { name: name.to_owned() });
            }
            if before + new.dimensions.len() >= DIMENSIONS_PER_TABLE_MAX {
                let (what, max) = ("dimension", DIMENSIONS_PER_TABLE_MAX);
                return Err(ClaimError::Names { what, name: name.to_owned(), max });
            }
            new.dimensions.push(name.into());
        }
        if !names.measures.contains(measure) && !drafted.measures.contains(measure) {
            if names.measures.len() + drafted.measures.len() >= MEASURE_NAMES_PER_TABLE_MAX {
                let (what, max) = ("measure name", MEASURE_NAMES_PER_TABLE_MAX);
                return Err(ClaimError::Names { what, name: measure.to_owned(), max });
            }
            new.measures.push(measure.into());
        }
        Ok(new)
    }

    /// Whether an attribute has the name of one of the table's dimensions.
    ///
    /// # Errors
    ///
    /// [`ClaimError::Twofold`] names the first.
    pub fn check_twofold<'n>(
        &self,
        attributes: impl Iterator<Item = &'n str>,
    ) -> Result<(), ClaimError> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).check_twofold(attributes)
    }

    /// All names that were counted, sorted.
    pub(super) fn names(&self) -> NewNames {
        self.names.read().unwrap_or_else(PoisonError::into_inner).sorted()
    }

    pub(super) fn add_names(&self, new: NewNames) {
        self.names.write().unwrap_or_else(PoisonError::into_inner).add(new);
    }
}

impl Names {
    pub(super) fn is_empty(&self) -> bool {
        self.dimensions.is_empty() && self.measures.is_empty()
    }

    pub(super) fn add(&mut self, new: NewNames) {
        self.dimensions.extend(new.dimensions);
        self.measures.extend(new.measures);
    }

    pub(super) fn remove(&mut self, names: &NewNames) {
        for name in &names.dimensions {
            self.dimensions.remove(name);
        }
        for name in &names.measures {
            self.measures.remove(name);
        }
    }

    /// Whether an attribute has the name of one of these dimensions.
    pub(super) fn check_twofold<'n>(
        &self,
        mut attributes: impl Iterator<Item = &'n str>,
    ) -> Result<(), ClaimError> {
        let found = attributes.find(|name| self.dimensions.contains(*name));
        found.map_or(Ok(()), |name| Err(ClaimError::Twofold { name: name.to_owned() }))
    }

    pub(super) fn sorted(&self) -> NewNames {
        let sorted = |names: &Set<Box<str>>| {
            let mut all: Vec<Box<str>> = names.iter().cloned().collect();
            all.sort_unstable();
            all
        };
        NewNames { dimensions: sorted(&self.dimensions), measures: sorted(&self.measures) }
    }
}

impl NewNames {
    pub(super) const fn is_empty(&self) -> bool {
        self.dimensions.is_empty() && self.measures.is_empty()
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
