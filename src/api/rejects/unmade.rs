//! Tables that a resubmission does not make again.
//!
//! A rejection that is sent again goes in as a plain write does, which makes a table that is missing. Timestream's
//! clients make their tables themselves, and are told `ResourceNotFound` by a write to one that is missing; so is
//! whoever sends again what they have sent. How a rejection came its report does not say; this tells it:
//!
//! | what | means |
//! |---|---|
//! | the text of a whole document, read as JSON in nanoseconds | it came by `WriteRecords` |
//! | the table is deleted, and a write would make another one: of the other profile, without its retention or partition key | `CreateTable` had made it, or somebody has changed it since |
//! | the table is deleted, and its settings are forgotten | nobody knows: it is not guessed |

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::engine::catalog::{Catalog, Profile, Table, TableSettings};
use crate::record::{Reading, Reason, Record};
use crate::reject::archive::Rejected;

use super::mend::Why;

/// Says of tables that are missing whether they are made.
#[derive(Debug)]
pub(super) struct Unmade<'c> {
    catalog: &'c Catalog,
    /// What a write makes a table of, but for when.
    made: TableSettings,
    /// What is known of deleted tables, the last of each name; once somebody asks.
    deleted: Option<HashMap<String, HashMap<String, Last, RandomState>, RandomState>>,
}

/// What the last table of a name was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// As a write would make it again.
    Same,
    /// Of the same profile, with settings that a write would not make again.
    Other,
    /// Strict, where a write would make a relaxed one.
    Strict,
    /// Nobody knows.
    Forgotten,
}

impl Last {
    fn of(table: &Table, made: &TableSettings) -> Self {
        let settings = table.settings();
        // Every table was made at some time.
        if settings.created_ns == 0 {
            return Self::Forgotten;
        }
        if (settings.profile, made.profile) == (Profile::Strict, Profile::Relaxed) {
            return Self::Strict;
        }
        let alike = TableSettings {
            created_ns: made.created_ns,
            updated_ns: made.updated_ns,
            // They say nothing of what it holds.
            tags: made.tags.clone(),
            ..(*settings).clone()
        };
        if alike == *made { Self::Same } else { Self::Other }
    }
}

impl<'c> Unmade<'c> {
    pub(super) fn new(catalog: &'c Catalog, profile: Profile) -> Self {
        let made = TableSettings { profile, ..TableSettings::default() };
        Self { catalog, made, deleted: None }
    }

    /// Checks that the record's table is there, or that a write would make such a one.
    ///
    /// # Errors
    ///
    /// [`Why`]: it is missing, and is not made for this rejection.
    pub(super) fn check(&mut self, record: &Record<'_>, rejected: &Rejected) -> Result<(), Why> {
        let (database, table) = (record.database, record.table);
        if self.catalog.resolve(database, table).is_some() {
            return Ok(());
        }
        let why = match self.last(database, table) {
            Some(Last::Forgotten) => {
                "it was deleted, and which rules it followed is forgotten, so none is made in its place"
            }
            Some(Last::Other) => {
                "it was deleted, and had settings of its own, while a write would make one without them"
            }
            Some(Last::Strict) => {
                "it was deleted, and followed Timestream's rules, while a write would make one without them"
            }
            Some(Last::Same) | None if is_of_write_records(rejected) => {
                "the record came by Timestream's API, whose writes make no table"
            }
            Some(Last::Same) | None => return Ok(()),
        };
        let message = format!(
            "table not found (ResourceNotFound): {table:?} in {database:?}: {why}. Make it with CreateTable, and send \
             this again as it is; or leave it"
        );
        Err((Reason::TableNotFound, message))
    }

    fn last(&mut self, database: &str, table: &str) -> Option<Last> {
        let deleted = self.deleted.get_or_insert_with(|| {
            let mut deleted: HashMap<String, HashMap<String, Last, _>, _> = HashMap::default();
            // In the order in which they were made: the last one of a name counts.
            for table in self.catalog.deleted_tables() {
                let of_database = deleted.entry(table.database.to_string()).or_default();
                of_database.insert(table.name.to_string(), Last::of(&table, &self.made));
            }
            deleted
        });
        deleted.get(database)?.get(table).copied()
    }
}

/// Whether a text was refused of `WriteRecords`, whose records are kept as documents of their own.
fn is_of_write_records(rejected: &Rejected) -> bool {
    let Some(Reading { precision, table: None, within: None, .. }) =
        rejected.entry.reading.as_ref().filter(|reading| reading.is_json())
    else {
        return false;
    };
    let is_whole = |text: &String| {
        let json: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        json["Records"].as_array().is_some_and(|records| records.len() == 1)
            && json["TableName"].is_string()
    };
    precision == "ns" && rejected.entry.line.as_ref().is_some_and(is_whole)
}
