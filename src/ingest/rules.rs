//! The rules of one table, as they stood when a request met it: what may be stored there, and where it
//! belongs. Decided by the record, the table's settings and the time of receipt alone, all of which the
//! log keeps or does not need: a record that was taken is never judged again.

use std::sync::Arc;

use crate::engine::catalog::{Profile, Retention, TableSettings};
use crate::record::validate::{self, Broken, strict};
use crate::record::window::{Store, Window};
use crate::record::{Reason, Record};

/// The rules of one table for one request.
#[derive(Debug, Clone)]
pub struct Rules {
    settings: Arc<TableSettings>,
    /// The times that a strict table takes; a relaxed one takes every time.
    window: Option<Window>,
}

impl Rules {
    /// The rules of a table with these settings for a request that was received at `received_ns`.
    pub fn new(settings: Arc<TableSettings>, received_ns: i64) -> Self {
        let window = match settings.profile {
            Profile::Strict => Some(settings.retention.window(received_ns)),
            Profile::Relaxed => None,
        };
        Self { settings, window }
    }

    /// The same for a batch load, which goes to both stores of a strict table, whether its writers may
    /// send late records or not. Source: Timestream developer guide, "Batch load", error reports, whose
    /// window is that of data ingestion.
    pub fn of_batch_load(settings: Arc<TableSettings>, received_ns: i64) -> Self {
        let retention = Retention { magnetic_writes: true, ..settings.retention };
        let rules = Self::new(settings, received_ns);
        let window = rules.window.map(|_| retention.window(received_ns));
        Self { window, ..rules }
    }

    /// Whether the table follows Timestream's rules.
    pub const fn is_strict(&self) -> bool {
        self.window.is_some()
    }

    /// Checks what a record alone can break in any table.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn plain(record: &Record<'_>, time_ns: i64) -> Result<(), Broken> {
        validate::values(record)?;
        validate::time(time_ns)?;
        record.version.map_or(Ok(()), validate::version)
    }

    /// Checks what all records of a family share: names, and the partition key.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn family(&self, record: &Record<'_>) -> Result<(), Broken> {
        validate::family(record)?;
        if self.is_strict() {
            strict::family(record)?;
        }
        match self.settings.partition_key.required() {
            Some(required) => strict::partition_key(record, required),
            None => Ok(()),
        }
    }

    /// Checks what all records of a layout share: the names of the attributes.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn layout(&self, record: &Record<'_>) -> Result<(), Broken> {
        validate::layout(record)?;
        if self.is_strict() { strict::layout(record) } else { Ok(()) }
    }

    /// Checks one record's values and time, and says which store it belongs to. In a strict table the
    /// time decides that; a relaxed one keeps in its memory store what has just arrived.
    ///
    /// # Errors
    ///
    /// The first broken rule; [`Reason::TimeOutsideWindow`] is the last one looked at.
    #[inline]
    pub fn record(&self, record: &Record<'_>, time_ns: i64) -> Result<Store, Broken> {
        let Some(window) = &self.window else { return Ok(Store::Memory) };
        strict::values(record)?;
        strict::time(time_ns)?;
        window.store_of(time_ns)
    }

    /// All of the above, for a record whose table must not be made in vain.
    ///
    /// # Errors
    ///
    /// The first broken rule.
    pub fn all(&self, record: &Record<'_>, time_ns: i64) -> Result<Store, Broken> {
        self.family(record)?;
        self.layout(record)?;
        self.record(record, time_ns)
    }
}

/// A table's own limits, as a reason to refuse a record.
pub(super) fn broken(error: &crate::engine::catalog::CatalogError) -> Broken {
    use crate::engine::catalog::CatalogError;
    let reason = match error {
        CatalogError::Claim(claim) => claim.reason(),
        _ => Reason::TableLimit,
    };
    (reason, error.to_string())
}
