//! How databases and tables are set: what they are made with, what may be changed, what may not be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::CatalogError;
use crate::record::limits::{
    COLUMNS_PER_TABLE_MAX, MAGNETIC_RETENTION_DAYS_MAX, MEMORY_RETENTION_HOURS_DEFAULT,
    MEMORY_RETENTION_HOURS_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_PER_RESOURCE_MAX,
};
use crate::record::window::Window;

/// Labels of a database or table, by key; nothing in here looks at them.
pub type Tags = BTreeMap<String, String>;

/// How a table is made. A setting that an older catalog does not name has its default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableSettings {
    /// Whose rules its records follow. Stays as it was made.
    pub profile: Profile,
    /// Most attribute columns it may have. Stays as it was made.
    pub columns_max: usize,
    /// When it was made, ns. Stays.
    pub created_ns: i64,
    /// When its settings were last changed, ns.
    pub updated_ns: i64,
    /// How long its records live.
    pub retention: Retention,
    /// Where conflicts of the magnetic store are reported; none: to the reject sink, like all others.
    pub rejected_data: Option<RejectLocation>,
    /// What its records are partitioned by. Only how strictly it is asked for may be changed.
    pub partition_key: PartitionKey,
    /// Its labels.
    pub tags: Tags,
}

impl Default for TableSettings {
    fn default() -> Self {
        Self {
            profile: Profile::Relaxed,
            columns_max: COLUMNS_PER_TABLE_MAX,
            created_ns: 0,
            updated_ns: 0,
            retention: Retention::default(),
            rejected_data: None,
            partition_key: PartitionKey::Measure,
            tags: Tags::new(),
        }
    }
}

/// What [`super::Catalog::update_table`] changes; `None` leaves a setting as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableUpdate {
    /// Hours in the memory store.
    pub memory_hours: Option<u32>,
    /// Days in the magnetic store.
    pub magnetic_days: Option<u32>,
    /// Whether a strict table takes late records.
    pub magnetic_writes: Option<bool>,
    /// Where conflicts of the magnetic store are reported; `Some(None)` takes the place away.
    pub rejected_data: Option<Option<RejectLocation>>,
    /// The key as it is, with another enforcement or the same.
    pub partition_key: Option<PartitionKey>,
}

/// How a database is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// The key that its data shall be encrypted with, as the client named it. Kept and shown; the
    /// engine does not encrypt.
    pub kms_key: Option<String>,
    /// When it was made, ns. Stays.
    pub created_ns: i64,
    /// When its settings were last changed, ns.
    pub updated_ns: i64,
    /// Its labels.
    pub tags: Tags,
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
    /// The earliest time of a record that lives at `now_ns`, ns; one before it is gone. With the
    /// longest retention that there is, which is also the default, nothing ever is: who asked for no
    /// end must not lose what was measured in 1820.
    pub const fn alive_from_ns(&self, now_ns: i64) -> i64 {
        if self.magnetic_days >= MAGNETIC_RETENTION_DAYS_MAX {
            return i64::MIN;
        }
        let memory_ns = self.memory_hours as i64 * NS_PER_HOUR;
        let magnetic_ns = self.magnetic_days as i64 * 24 * NS_PER_HOUR;
        now_ns.saturating_sub(memory_ns).saturating_sub(magnetic_ns)
    }

    /// The times that a strict table takes in a request that was received at `received_ns`.
    pub fn window(&self, received_ns: i64) -> Window {
        let magnetic_days = self.magnetic_writes.then_some(self.magnetic_days);
        Window::new(received_ns, self.memory_hours, magnetic_days)
    }

    fn check(&self) -> Result<(), CatalogError> {
        if !(1..=MEMORY_RETENTION_HOURS_MAX).contains(&self.memory_hours) {
            let found = self.memory_hours;
            let right = format!("1 to {MEMORY_RETENTION_HOURS_MAX} hours");
            return Err(wrong("retention of the memory store", format!("{found} is not {right}")));
        }
        if !(1..=MAGNETIC_RETENTION_DAYS_MAX).contains(&self.magnetic_days) {
            let found = self.magnetic_days;
            let right = format!("1 to {MAGNETIC_RETENTION_DAYS_MAX} days");
            return Err(wrong(
                "retention of the magnetic store",
                format!("{found} is not {right}"),
            ));
        }
        Ok(())
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

/// What the records of a table are partitioned by.
/// Source: Timestream API, `PartitionKey`; a composite key has one part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum PartitionKey {
    /// Their measure name.
    #[default]
    Measure,
    /// The value of a dimension.
    Dimension {
        /// Its name.
        name: String,
        /// Whether a record may be without it.
        enforcement: Enforcement,
    },
}

/// Whether a record may be without the dimension of its table's partition key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Enforcement {
    /// It is refused.
    Required,
    /// It is taken.
    #[default]
    Optional,
}

impl PartitionKey {
    /// The dimension that every record must have, if there is one.
    pub fn required(&self) -> Option<&str> {
        match self {
            Self::Dimension { name, enforcement: Enforcement::Required } => Some(name),
            Self::Dimension { .. } | Self::Measure => None,
        }
    }

    /// Whether both name the same thing, however strictly.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Measure, Self::Measure) => true,
            (Self::Dimension { name, .. }, Self::Dimension { name: other, .. }) => name == other,
            _ => false,
        }
    }
}

/// Where conflicts of a table's magnetic store are reported.
/// Source: Timestream API, `S3Configuration` of `MagneticStoreRejectedDataLocation`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RejectLocation {
    /// The bucket, kept and shown; reports go to the store of the section `rejects`.
    pub bucket: String,
    /// What the reports' keys begin with.
    #[serde(default)]
    pub key_prefix: Option<String>,
    /// How the client wants them encrypted; kept and shown.
    #[serde(default)]
    pub encryption: Option<Encryption>,
    /// The key for that; kept and shown.
    #[serde(default)]
    pub kms_key: Option<String>,
}

/// How a client wants its reports encrypted. Source: Timestream API, `S3EncryptionOption`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Encryption {
    /// With keys of the object store.
    SseS3,
    /// With a key of the client's.
    SseKms,
}

impl TableSettings {
    /// What a table may not be made with.
    pub(super) fn check(&self) -> Result<(), CatalogError> {
        self.retention.check()?;
        check_tags(&self.tags)?;
        match &self.partition_key {
            PartitionKey::Dimension { name, .. } if name.is_empty() => {
                Err(wrong("partition key", "its dimension has no name".to_owned()))
            }
            PartitionKey::Dimension { .. } | PartitionKey::Measure => Ok(()),
        }
    }

    /// The settings after `update`, which happens at `now_ns`.
    pub(super) fn updated(&self, update: &TableUpdate, now_ns: i64) -> Result<Self, CatalogError> {
        let mut next = self.clone();
        if let Some(key) = &update.partition_key {
            if !key.is_like(&self.partition_key) {
                let problem = "type and name of a partition key stay as they were made; only \
                               enforcement may be changed";
                return Err(wrong("partition key", problem.to_owned()));
            }
            next.partition_key.clone_from(key);
        }
        next.retention = Retention {
            memory_hours: update.memory_hours.unwrap_or(self.retention.memory_hours),
            magnetic_days: update.magnetic_days.unwrap_or(self.retention.magnetic_days),
            magnetic_writes: update.magnetic_writes.unwrap_or(self.retention.magnetic_writes),
        };
        if let Some(location) = &update.rejected_data {
            next.rejected_data.clone_from(location);
        }
        next.updated_ns = now_ns;
        next.check()?;
        Ok(next)
    }
}

/// Checks a resource's tags. Source: Timestream API, `Tag`, `TagList`.
pub(super) fn check_tags(tags: &Tags) -> Result<(), CatalogError> {
    if tags.len() > TAGS_PER_RESOURCE_MAX {
        return Err(CatalogError::Limit { what: "tags", max: TAGS_PER_RESOURCE_MAX });
    }
    for (key, value) in tags {
        let keys = 1..=TAG_KEY_CHARS_MAX;
        if !keys.contains(&key.chars().count()) {
            let problem = format!("a key has 1 to {TAG_KEY_CHARS_MAX} characters, not {key:?}");
            return Err(wrong("tags", problem));
        }
        if value.chars().count() > TAG_VALUE_CHARS_MAX {
            let most = format!("{TAG_VALUE_CHARS_MAX} characters");
            return Err(wrong("tags", format!("the value of {key:?} has more than {most}")));
        }
    }
    Ok(())
}

const fn wrong(what: &'static str, problem: String) -> CatalogError {
    CatalogError::Setting { what, problem }
}
