//! Floor 2: the table engine, which holds the records and the version rule.
//!
//! A shard gives its engine one [`WriteRequest`] after another and hears one [`Outcome`] a record.
//! [`embedded`] is the engine of one machine: a memory store of typed columns over a magnetic store
//! of Parquet files; [`postgres`] keeps its tables in a database elsewhere. The [`catalog`] of databases and tables serves every engine, since payloads name
//! tables by its numbers; [`upsert`] is the version rule, one pure function for all of them.
//!
//! # How far an engine got
//!
//! The log keeps a frame until every record in it is stored outside the log. An engine says how far
//! that is with [`TableEngine::checkpoint`]. It remembers durably, per [`Bucket`], the last frame
//! whose records are all in its own files, and says so with [`TableEngine::stored`]; a replay skips
//! those, since executing a frame twice is not harmless: an old version that was once stored would
//! be rejected the second time.

mod checked;
pub mod upsert;
pub mod standing;
pub mod catalog;
pub mod embedded;
pub mod postgres;
pub mod timestream;

use std::fmt::Debug;
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::base::class::Class;
use crate::base::lsn::Lsn;
use crate::record::codec::{Bucket, CodecError, RecordView};
use crate::record::limits::RECORDS_PER_REQUEST_MAX;
use crate::record::metered::Metered;
use crate::record::request::{Outcome, WriteRequest};
use crate::record::{MeasureKind, TableId, Value};

use standing::Met;

/// One writer thread's number, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

/// Holds records and the version rule.
pub trait TableEngine: Debug + Send + Sync {
    /// Writes a batch for `shard` and appends one outcome a record, in order, to `outcomes`.
    ///
    /// A shard calls this from its own thread only, with records of its own buckets. May block while
    /// the engine pushes back.
    ///
    /// # Errors
    ///
    /// [`EngineError`]: the records that have an outcome were written, the others were not. The caller
    /// gives the others again. But after [`EngineError::Undone`] nothing of the turn was written, whatever
    /// outcome it had: the caller gives all that it has written since the last commit again.
    fn write(
        &self,
        shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError>;

    /// How many batches the engine takes at once ([`Self::write_all`]).
    fn batches_max(&self) -> usize {
        1
    }

    /// Writes batches as [`Self::write`] does, in an order in which each series keeps its own; appends the
    /// outcomes of each to its list. What a list holds already was written before.
    ///
    /// # Errors
    ///
    /// As of [`Self::write`], for all of them: records with an outcome were written, the others not.
    fn write_all(
        &self,
        shard: ShardId,
        requests: &[WriteRequest<'_>],
        outcomes: &mut [Vec<Outcome>],
    ) -> Result<(), EngineError> {
        assert_eq!(requests.len(), outcomes.len(), "a list a batch");
        for (request, outcomes) in requests.iter().zip(outcomes) {
            let records = &request.records[outcomes.len()..];
            if !records.is_empty() {
                self.write(shard, &WriteRequest { records, ..*request }, outcomes)?;
            }
        }
        Ok(())
    }

    /// Hears that `shard` has written everything of its own up to frame `lsn`, and that what was
    /// rejected is in the reject sink. The engine may begin a flush here.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when the engine cannot go on; the caller commits again. But after
    /// [`EngineError::Undone`] it gives all that it has written since the last commit again.
    fn commit(&self, shard: ShardId, lsn: Lsn) -> Result<(), EngineError>;

    /// Hears that all shards have written everything up to frame `lsn`; an idle shard's part of the
    /// checkpoint follows it.
    fn applied(&self, lsn: Lsn);

    /// The last frame up to which every record is stored durably outside the log.
    fn checkpoint(&self) -> Lsn;

    /// The last frame up to which every record of `bucket` is stored durably outside the log.
    fn stored(&self, bucket: Bucket) -> Lsn;

    /// Whether [`Self::stored`] can be answered. An engine whose database is elsewhere learns it when it
    /// gets there, and until then no frame may be executed.
    fn knows_stored(&self) -> bool {
        true
    }

    /// How many records the engine would like in a batch, where the settings do not ask for fewer than
    /// Timestream takes.
    fn batch_records(&self) -> usize {
        RECORDS_PER_REQUEST_MAX
    }

    /// Stores everything committed so far durably outside the log, and waits for it.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when it could not; nothing is lost, the log still has it.
    fn flush(&self) -> Result<(), EngineError>;

    /// Asks for such a flush soon, without waiting: the log is short of room, and what is not stored
    /// holds it.
    fn relieve(&self);

    /// Whether [`Self::scan`] can show anything, asked before somebody begins an answer with it.
    ///
    /// # Errors
    ///
    /// [`EngineError::Elsewhere`].
    fn readable(&self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Shows the records of a table that were measured from `range.from_ns` to before
    /// `range.to_ns`, in order of time and, at one time, of series; one visible row a key, as they
    /// stood at one moment after the call. Ends early when `each` breaks.
    ///
    /// # Errors
    ///
    /// [`EngineError`] when a file cannot be read; `each` may have seen records by then.
    fn scan(
        &self,
        table: TableId,
        range: TimeRange,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;

    /// Tells what records would meet if they were written now, one answer a record, in order. Writes, locks
    /// and makes nothing; tables that the catalog does not have hold nothing. Costs a look-up a record.
    ///
    /// # Errors
    ///
    /// [`EngineError::Elsewhere`] where nobody can tell but whoever writes; another one where it cannot be
    /// told now.
    fn met(&self, _records: &[RecordView<'_>]) -> Result<Vec<Met>, EngineError> {
        self.readable()?;
        Err(EngineError::Elsewhere { place: "this engine".to_owned() })
    }

    /// Whether the engine wants the records of a shard's turn in batches of what is alike, so that
    /// fewer bytes are sent. Costs the shard a sort.
    fn groups(&self) -> bool {
        false
    }

    /// Shows the newest rows that a selection takes, the newest first, as they stood at one moment
    /// after the call. Ends early when `each` breaks.
    ///
    /// # Errors
    ///
    /// As of [`Self::scan`].
    fn newest(
        &self,
        table: TableId,
        selection: Selection<'_>,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError>;

    /// About how many rows a table has: such as were written again or erased count until the engine
    /// has let go of them.
    fn rows(&self, table: TableId) -> u64;

    /// Hears that frames up to `end` follow which the log held at the start, and that nobody is served before they
    /// are executed: what can wait until [`Self::replay_ended`] should.
    fn replay_begins(&self, end: Lsn) {
        let _: Lsn = end;
    }

    /// Hears that all of them are executed.
    fn replay_ended(&self) {}

    /// Whether erasures of the catalog are carried out here, and [`Self::newest`] can be asked.
    fn erases(&self) -> bool {
        false
    }

    /// What the engine holds, for `/health` and metrics.
    fn state(&self) -> EngineState;

    /// Flushes and ends the engine's threads. Nothing may be written afterwards.
    fn close(&self);
}

/// A half-open stretch of time, ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// The first nanosecond in it.
    pub from_ns: i64,
    /// The first nanosecond after it; `i64::MAX` for no end, then included.
    pub to_ns: i64,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { from_ns: i64::MIN, to_ns: i64::MAX };
}

/// Which rows of a table [`TableEngine::newest`] shows.
#[derive(Debug, Clone, Copy)]
pub struct Selection<'s> {
    /// Dimensions and values that the rows have, sorted by name. Rows are found fast where these are
    /// the first of all their dimensions.
    pub dimensions: &'s [(&'s str, &'s str)],
    /// When they were measured.
    pub range: TimeRange,
    /// The dimension that orders rows of one time, the greatest value first. Of rows with equal times
    /// and values one is shown.
    pub tie: &'s str,
    /// Where to go on: only rows that come after this time and value of `tie` are shown.
    pub before: Option<(i64, &'s str)>,
    /// The most rows that are shown.
    pub rows_max: usize,
}

/// One record as it stands in the engine.
#[derive(Debug, Clone)]
pub struct Row<'a> {
    /// The name of what was measured.
    pub measure_name: &'a str,
    /// The dimensions, sorted by name.
    pub dimensions: &'a [(&'a str, &'a str)],
    /// Whether it is one value or several.
    pub kind: MeasureKind,
    /// The attributes, sorted by name.
    pub attributes: &'a [(&'a str, Value<'a>)],
    /// When it was measured, ns.
    pub time_ns: i64,
    /// Its version.
    pub version: i64,
}

/// What an engine holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineState {
    /// Series known in memory.
    pub series: u64,
    /// Rows in memory.
    pub memory_rows: u64,
    /// Bytes of memory that the rows and series take.
    pub memory_bytes: u64,
    /// Bytes of memory that it may take.
    pub memory_bytes_max: u64,
    /// Files of the magnetic store.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// What became of files in the background since the start.
    pub tidied: Tidied,
    /// What left memory for files since the start.
    pub flushed: Flushed,
    /// What was sent to another server since the start, where the engine is one.
    pub upstream: Option<UpstreamFigures>,
    /// What is wrong, if anything.
    pub fault: Option<String>,
    /// Whether only a restart mends that: a flush broke off between two files, or a database elsewhere is
    /// not, or no longer, this log's.
    pub needs_restart: bool,
    /// What an engine elsewhere was asked.
    pub remote: Option<Remote>,
}

/// What an engine that keeps its tables elsewhere has asked there since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remote {
    /// Where.
    pub address: String,
    /// Open connections.
    pub sessions: u64,
    /// Connections that were made.
    pub sessions_made: u64,
    /// Transactions that were committed.
    pub transactions: u64,
    /// Turns that were undone and done again.
    pub undone: u64,
    /// Statements that were sent.
    pub statements: u64,
    /// How long their answers took altogether, ns.
    pub statement_ns: u64,
}

/// How far the log of a data folder got, as the start found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The last frame that it says is stored outside it.
    pub checkpoint: Lsn,
    /// Its last frame.
    pub durable: Lsn,
}

/// What was sent to another server since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UpstreamFigures {
    /// Which server.
    pub place: String,
    /// Requests and records that it took, and what Timestream would meter of them.
    pub metered: Metered,
    /// Bytes of request bodies, those sent again too.
    pub sent_bytes: u64,
    /// Bytes that were not sent because they were common to all records of a request.
    pub saved_bytes: u64,
}

/// What an engine has done to its files in the background since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tidied {
    /// How often small files became one.
    pub compactions: u64,
    /// Files that did.
    pub compacted_files: u64,
    /// Bytes that were written for it.
    pub compacted_bytes: u64,
    /// Files that were dropped because all their rows had expired.
    pub expired_files: u64,
    /// Their rows.
    pub expired_rows: u64,
    /// Their bytes.
    pub expired_bytes: u64,
    /// Files of deleted tables that were dropped.
    pub deleted_files: u64,
    /// How long compactions took altogether, ns.
    pub compaction_ns: u64,
}

/// What an engine has written from memory to files since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// How often.
    pub flushes: u64,
    /// How often it failed; nothing was lost.
    pub failures: u64,
    /// Rows that left memory.
    pub rows: u64,
    /// Bytes of the files that were written for them.
    pub bytes: u64,
    /// How long it took altogether.
    pub took: std::time::Duration,
    /// When the last one ended well, ns since 1970; 0 before the first.
    pub last_ns: i64,
    /// How long it took.
    pub last_took: std::time::Duration,
    /// Its rows.
    pub last_rows: u64,
}

/// Why an engine could not do what it was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    /// It cannot take more now; the same call succeeds later.
    #[error("the engine is busy: {what}")]
    Busy {
        /// With what.
        what: String,
    },
    /// All that was written since the last commit was undone.
    #[error("the turn is undone: {what}")]
    Undone {
        /// Why.
        what: String,
    },
    /// The tables are not those of this log, or not this process's to write.
    #[error("{what}")]
    Foreign {
        /// What was found, and what to do.
        what: String,
    },
    /// A file could not be written or read.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A record could not be read out of its payload.
    #[error("a record cannot be read")]
    Codec(#[from] CodecError),
    /// The records are not here to be read.
    #[error("the records are in {place} and cannot be read back through here: query them there")]
    Elsewhere {
        /// Where they are.
        place: String,
    },
    /// What is on disk is not what was written.
    #[error("{path} is damaged: {what}")]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

impl EngineError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Busy { .. } | Self::Undone { .. } => Class::Busy,
            Self::Elsewhere { .. } => Class::Refused,
            Self::Foreign { .. } | Self::Io { .. } | Self::Codec(_) | Self::Corrupt { .. } => {
                Class::Fault
            }
        }
    }
}

/// Settings of the section `engine`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Which engine holds the tables. `embedded`: this process, in the data folder. `postgres`: a database
    /// that speaks PostgreSQL's protocol. `timestream`: Amazon Timestream, or another server that speaks
    /// its API.
    pub kind: Kind,
    /// Settings of the embedded engine.
    pub embedded: embedded::Options,
    /// Settings of the PostgreSQL engine.
    pub postgres: postgres::Options,
    /// Settings of the engine `timestream`.
    pub timestream: timestream::Options,
}

/// The engines that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One machine, no other service.
    #[default]
    Embedded,
    /// A database elsewhere, which many gateways may share.
    Postgres,
    /// A server that speaks Timestream's API.
    Timestream,
}

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let embedded = self.embedded.validate().iter().map(ToString::to_string).collect();
        // Those of the other engines too: whoever writes them means them, and would find out too late.
        let sections: [(&str, Vec<String>); 3] = [
            ("embedded", embedded),
            ("postgres", self.postgres.problems()),
            ("timestream", self.timestream.problems()),
        ];
        let all = sections.into_iter().flat_map(|(section, problems)| {
            problems.into_iter().map(move |problem| format!("engine.{section}.{problem}"))
        });
        all.collect()
    }
}
