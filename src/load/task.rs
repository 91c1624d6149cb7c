//! What a load task is: what was asked, how far it is, and what is kept of it on disk.

use serde::{Deserialize, Serialize};

use super::findings::Findings;
use crate::object::Object;
use crate::protocol::csv::model::{CsvConfiguration, DataModel};
use crate::record::TableId;

/// The state of a task. Source: Timestream API, `BatchLoadStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It waits for its turn.
    Created,
    /// It is being loaded.
    InProgress,
    /// It is done, and something was not taken.
    Failed,
    /// It is done, and all was taken.
    Succeeded,
    /// It stopped, since its source or the place of its report was away; it can be resumed.
    ProgressStopped,
    /// It was resumed, and waits for its turn.
    PendingResume,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::InProgress,
        Self::Failed,
        Self::Succeeded,
        Self::ProgressStopped,
        Self::PendingResume,
    ];

    /// Its name in Timestream's API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "CREATED",
            Self::InProgress => "IN_PROGRESS",
            Self::Failed => "FAILED",
            Self::Succeeded => "SUCCEEDED",
            Self::ProgressStopped => "PROGRESS_STOPPED",
            Self::PendingResume => "PENDING_RESUME",
        }
    }

    /// Whether a thread has it, or will.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Created | Self::InProgress | Self::PendingResume)
    }
}

/// Where objects are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// What their keys begin with.
    pub prefix: String,
}

/// Where a report goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLocation {
    /// The bucket, and what the key begins with.
    pub at: Location,
    /// The encryption that was asked for, as it was said.
    pub encryption: Option<String>,
    /// The key of it.
    pub kms_key: Option<String>,
}

/// Where the data model is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModelSource {
    /// In the request.
    Inline(DataModel),
    /// In an object.
    Object {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

/// What was asked. Two requests with equal ones ask for the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The files.
    pub source: Location,
    /// Whether the prefix of the source was said.
    pub has_prefix: bool,
    /// Whether only the object is meant whose whole key the prefix is.
    pub is_one: bool,
    /// Their form; `None` where nothing was said.
    pub csv: Option<CsvConfiguration>,
    /// What their rows become.
    pub model: ModelSource,
    /// Where what is not taken is reported.
    pub report: Option<ReportLocation>,
    /// The version of all records.
    pub version: i64,
    /// Where the buckets are, where it is not the setting `batch_load.url`: a load from the command line
    /// names its own.
    pub buckets: Option<String>,
}

/// The name that a client gave its request, so that it can repeat it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Who asked.
    pub caller: String,
    /// The name.
    pub token: String,
}

/// The counts of a task. Every record is in one of the three that add up to `records_processed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Records, and rows that could not be read.
    pub records_processed: u64,
    /// Records taken.
    pub records_ingested: u64,
    /// Rows that could not be read.
    pub parse_failures: u64,
    /// Records refused.
    pub record_ingestion_failures: u64,
    /// Files that could not be read, or not to their end.
    pub file_failures: u64,
    /// Bytes of the records that were taken, as [`crate::record::metered`] counts them.
    pub bytes_metered: u64,
    /// Bytes of the source that are done; of a compressed file, once it is.
    pub bytes_done: u64,
    /// Bytes of the source.
    pub bytes_total: u64,
}

/// A task as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name: 32 hexadecimal digits.
    pub id: String,
    /// What was asked.
    pub spec: Spec,
    /// The name of the request.
    pub token: Option<Token>,
    /// The table, which may be deleted meanwhile and another made of its name.
    pub table: TableId,
    /// Its state.
    pub status: Status,
    /// What is wrong with it.
    pub message: Option<String>,
    /// Its counts.
    pub progress: Progress,
    /// When it was made, ns.
    pub created_ns: i64,
    /// When it was changed, ns.
    pub updated_ns: i64,
    /// Until when it can be resumed, ns, where it stopped.
    pub resumable_until_ns: Option<i64>,
}

/// What a task needs to go on, beside what is shown of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// The data model, once it was read.
    pub model: Option<DataModel>,
    /// The files, once they were listed, with what tells that one is another by now.
    pub files: Option<Vec<Object>>,
    /// The file that is being read.
    pub file: usize,
    /// The next byte of it, uncompressed, and its line: between rows. All before it is counted, and
    /// nothing behind it.
    pub offset: u64,
    /// The line of that byte, from 1.
    pub line: u64,
    /// When what comes next is received, ns: the same if it has to be sent again.
    pub received_ns: i64,
    /// What was not taken.
    pub findings: Findings,
}

impl Work {
    /// The beginning of a task.
    pub fn new(received_ns: i64) -> Self {
        Self { line: 1, received_ns, ..Self::default() }
    }

    /// Goes to the next file.
    pub(super) fn next_file(&mut self) {
        (self.file, self.offset, self.line) = (self.file + 1, 0, 1);
    }
}
