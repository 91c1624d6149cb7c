//! The engine `timestream`: records go on to Amazon Timestream, or to whatever speaks its API.
//!
//! ```text
//!  shard --(<= 100 records)--> encode --> client --> upstream
//!            turn ends         marks <-- answered     (200, or 419 with what it refused)
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`options`] | settings |
//! | [`encode`] | a request in the SDK's types, what all records share said once |
//! | [`client`] | the SDK, its runtime hidden |
//! | [`verdict`] | the upstream's words as our reasons |
//! | [`marks`] | how far everything is known to be upstream, durable |
//! | [`journal`] | what was overtaken within a turn, durable |
//! | [`trouble`] | what is wrong and since when; pauses |
//!
//! # What a crash can do
//!
//! A frame is released by the log once all of it was answered: from then on the upstream has it. A
//! crash in the middle of a turn sends the turn again. That loses nothing and doubles nothing: a record
//! has a key, and an equal version with an equal value is welcome a second time.
//!
//! A *lower* version is not. A record that the upstream had stored, and that was overtaken before it was
//! sent again, comes back as rejected, which it was not. Three things keep that from being reported:
//!
//! - After each turn of a shard a mark is durable before the next one sends anything, so only the turn
//!   under way is sent again.
//! - A turn that overtakes its own record writes the overtaken version to the [`journal`] first. So
//!   no record that this gateway itself overtook is ever reported.
//! - A request that was not answered is sent again before anything that comes after it in its series.
//!
//! What remains: *another* writer overtakes, between answer and replay, a record of the one turn that a
//! crash cut off. The upstream's answer is then the same as for a record that came too late from the
//! start, and that one must be reported: a report too many can be thrown away, one too few is a record
//! lost in silence. So it is reported, and says that it was sent again after a crash. Where the folder
//! `upstream` is lost the same holds for everything behind the log's checkpoint.
//!
//! # What is tried again, and what is not
//!
//! | answer | what follows |
//! |---|---|
//! | 200 | stored |
//! | 419 | the records it names are rejected, the others stored |
//! | 400 `ValidationException` | the request is halved until the guilty records stand alone; those are rejected |
//! | 404 | database and table are made, with the catalog's settings, and the request is sent again; where they can never be made, its records are rejected |
//! | 429, 5xx, timeout, no connection | sent again for ever, pauses doubled up to a bound, with jitter |
//! | 403 and what is not listed | the same, slowly: an operator must act; `/health` says so |
//!
//! While nothing gets through the log grows to its bound, and then producers are told to wait.
//!
//! # What this engine cannot do
//!
//! Whether a record was new, newer or a repeat is not in the upstream's answer: what is not rejected is
//! [`Outcome::Stored`]. The API reads nothing back, so there is no scan, and data points cannot be
//! listed. A table that is deleted here
//! stays upstream with all that is in it: several gateways may write there, and an upstream's history is
//! not one gateway's to throw away. A table of the same name made here afterwards goes on in it; whoever
//! wants it empty deletes it there, and it is made again with the next record. Settings that are changed
//! after the table was made upstream are not carried there.

mod client;
mod encode;
mod journal;
mod marks;
mod options;
mod trouble;
mod verdict;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::record::codec::{Bucket, RecordView};
use crate::record::metered::Metered;
use crate::record::request::{Outcome, Rejection, WriteRequest};
use crate::record::{Reason, TableId};

use super::catalog::{Catalog, Table};
use super::{
    EngineError, EngineState, Row, Selection, ShardId, TableEngine, TimeRange, UpstreamFigures,
};
use client::{Failure, Upstream};
use journal::{Journal, Key};
use marks::Marks;
use trouble::Trouble;

pub use options::Options;

/// What a report says of a record that a crash may have sent twice.
const SENT_AGAIN: &str = " (sent again after a crash: it may have been stored before another writer \
     overtook it)";

/// What the engine works with.
#[derive(Debug)]
pub struct Parts {
    /// The names of databases and tables.
    pub catalog: Arc<Catalog>,
    /// Time.
    pub clock: SharedClock,
    /// Set when the server stops.
    pub stopping: Arc<AtomicBool>,
    /// The last frame that the log held at the start: up to there records may have been sent before.
    pub replay_until: Lsn,
}

/// The engine.
#[derive(Debug)]
pub struct Timestream {
    parts: Parts,
    upstream: Upstream,
    marks: Marks,
    journal: Journal,
    trouble: Trouble,
    /// Locked alone, and for no longer than a sum takes.
    metered: Mutex<Metered>,
    /// Relaxed: a count, which orders nothing.
    saved_bytes: AtomicU64,
}

/// A part of a request on its way.
struct Part<'r> {
    table: &'r Table,
    request: WriteRequest<'r>,
    /// Key and version of each of its records.
    keys: &'r [(Key, i64)],
}

/// Asks the upstream whether it is there and knows us, and changes nothing; returns its name. Waits as
/// long as the settings say.
///
/// # Errors
///
/// [`EngineError::Io`]: the secret cannot be read. [`EngineError::Busy`]: the upstream is away, or refuses us.
pub fn probe(options: &Options) -> Result<String, EngineError> {
    let upstream = Upstream::open(options, Arc::default())
        .map_err(|source| marks::failed("read", &options.secret_key_file, source))?;
    let asked = upstream.probe();
    upstream.close();
    match asked {
        Ok(()) => Ok(upstream.place().to_owned()),
        Err(failure) => Err(EngineError::Busy { what: format!("{}: {failure}", upstream.place()) }),
    }
}

impl Timestream {
    /// Opens the engine for `shards` writer threads. Asks nothing of the upstream, which may be away.
    ///
    /// # Errors
    ///
    /// [`EngineError::Io`]: the marks or the secret cannot be read.
    pub fn open(options: &Options, shards: usize, parts: Parts) -> Result<Self, EngineError> {
        let dir = &options.dir;
        crate::base::fs::create_dir_all(dir)
            .map_err(|source| marks::failed("make", dir, source))?;
        let marks = Marks::open(dir, shards)?;
        let journal = Journal::open(dir, shards)?;
        let upstream = Upstream::open(options, Arc::clone(&parts.stopping))
            .map_err(|source| marks::failed("read", &options.secret_key_file, source))?;
        let trouble = Trouble::new(shards, Arc::clone(&parts.clock), Arc::clone(&parts.stopping));
        Ok(Self {
            parts,
            upstream,
            marks,
            journal,
            trouble,
            metered: Mutex::default(),
            saved_bytes: AtomicU64::new(0),
        })
    }

    /// Sends a part, and halves it where the upstream finds it wrong as a whole. `outcomes` gets those
    /// of its records that are decided, in order.
    fn send(
        &self,
        shard: ShardId,
        part: &Part<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        assert_eq!(part.request.records.len(), part.keys.len(), "each record has its key");
        match self.ask(part)? {
            Ok(()) => self.answered(shard, part, Vec::new(), outcomes),
            Err(Failure::Refused(refused)) => {
                // One that is none of these would otherwise be taken for stored.
                if let Some(one) = refused.iter().find(|one| one.index >= part.keys.len()) {
                    let what = format!("record {} of {} is refused", one.index, part.keys.len());
                    return Err(self.failed(shard, &Failure::Operator(what)));
                }
                let each = refused.into_iter().map(|refused| {
                    let (_, version) = part.keys[refused.index];
                    (refused.index, verdict::rejection(&refused, version))
                });
                self.answered(shard, part, each.collect(), outcomes);
            }
            Err(Failure::Invalid(message)) if part.keys.len() == 1 => {
                self.refuse(shard, part, (Reason::InvalidValue, message), outcomes);
            }
            Err(Failure::Unmakable(message)) => {
                self.refuse(shard, part, (Reason::TableNotFound, message), outcomes);
            }
            Err(Failure::Invalid(_)) => {
                let (first, second) = part.halves();
                self.send(shard, &first, outcomes)?;
                return self.send(shard, &second, outcomes);
            }
            Err(failure) => return Err(self.failed(shard, &failure)),
        }
        self.trouble.mended(shard);
        Ok(())
    }

    /// Asks the upstream, which makes the table where it has none.
    fn ask(&self, part: &Part<'_>) -> Result<Result<(), Failure>, EngineError> {
        let encoded = encode::encode(&part.request)?;
        let saved = encoded.saved_bytes;
        let answer = match self.upstream.write(part.table, encoded.clone()) {
            Err(Failure::Missing(_)) => match self.make(part.table) {
                Ok(()) => self.upstream.write(part.table, encoded),
                Err(failure) => Err(failure),
            },
            answer => answer,
        };
        if matches!(answer, Ok(()) | Err(Failure::Refused(_))) {
            let mut metered = self.metered.lock().unwrap_or_else(PoisonError::into_inner);
            metered.add(part.request.common, part.request.records);
            self.saved_bytes.fetch_add(saved, Ordering::Relaxed);
        }
        Ok(answer)
    }

    fn make(&self, table: &Table) -> Result<(), Failure> {
        self.upstream.create(table, &table.settings())?;
        tracing::info!(database = %table.database, table = %table.name, "made upstream");
        Ok(())
    }

    /// Notes what became of each record of a part.
    fn answered(
        &self,
        shard: ShardId,
        part: &Part<'_>,
        rejected: Vec<(usize, Rejection)>,
        outcomes: &mut Vec<Outcome>,
    ) {
        let mut rejected: HashMap<usize, Rejection> = rejected.into_iter().collect();
        for (at, key) in part.keys.iter().enumerate() {
            let outcome = match rejected.remove(&at) {
                None => {
                    self.journal.stored(shard, key);
                    Outcome::Stored
                }
                Some(rejection) => self.judged(key, rejection),
            };
            outcomes.push(outcome);
        }
    }

    /// Rejects all records of a part for one reason.
    fn refuse(
        &self,
        shard: ShardId,
        part: &Part<'_>,
        (reason, message): (Reason, String),
        outcomes: &mut Vec<Outcome>,
    ) {
        let rejection = Rejection { reason, message, existing_version: None, stood: Vec::new() };
        let all = (0..part.keys.len()).map(|at| (at, rejection.clone()));
        self.answered(shard, part, all.collect(), outcomes);
    }

    /// A rejection, unless it is known to be of a record that was stored before a crash.
    fn judged(&self, key: &(Key, i64), mut rejection: Rejection) -> Outcome {
        if rejection.reason == Reason::VersionLower && !self.is_replayed() {
            if self.journal.was_stored(key) {
                return Outcome::Unchanged;
            }
            rejection.message.push_str(SENT_AGAIN);
        }
        Outcome::Rejected(Box::new(rejection))
    }

    fn failed(&self, shard: ShardId, failure: &Failure) -> EngineError {
        let what = format!("{}: {failure}", self.upstream.place());
        self.trouble.met(shard, failure, &what);
        EngineError::Busy { what }
    }

    fn is_replayed(&self) -> bool {
        self.marks.applied() >= self.parts.replay_until
    }
}

impl<'r> Part<'r> {
    fn halves(&self) -> (Self, Self) {
        let middle = self.keys.len() / 2;
        assert!(middle > 0, "one record cannot be halved");
        let (first, second) = self.request.records.split_at(middle);
        let of = |records: &'r [RecordView<'r>], keys| Self {
            table: self.table,
            request: WriteRequest { records, ..self.request },
            keys,
        };
        (of(first, &self.keys[..middle]), of(second, &self.keys[middle..]))
    }
}

impl TableEngine for Timestream {
    fn write(
        &self,
        shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        assert!(!request.records.is_empty(), "a batch has a record");
        // Deleted: its records went with it.
        let Some(table) = self.parts.catalog.get(request.table) else {
            outcomes.extend(request.records.iter().map(|_| Outcome::Stored));
            return Ok(());
        };
        let key = |record: &RecordView<'_>| (journal::key_of(table.id, record), record.version);
        let keys: Vec<(Key, i64)> = request.records.iter().map(key).collect();
        self.journal.before(shard, &keys)?;
        self.send(shard, &Part { table: &table, request: *request, keys: &keys }, outcomes)
    }

    fn commit(&self, shard: ShardId, lsn: Lsn) -> Result<(), EngineError> {
        self.marks.commit(shard, lsn)?;
        self.journal.commit(shard, self.is_replayed())
    }

    fn applied(&self, lsn: Lsn) {
        self.marks.set_applied(lsn);
        if self.is_replayed()
            && let Err(error) = self.journal.replayed()
        {
            // Nothing is wrong but a file too many, which the next start removes.
            tracing::warn!(%error, "what a crash left could not be removed");
        }
    }

    fn checkpoint(&self) -> Lsn {
        self.marks.applied()
    }

    fn stored(&self, bucket: Bucket) -> Lsn {
        self.marks.stored(bucket)
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn relieve(&self) {}

    fn readable(&self) -> Result<(), EngineError> {
        Err(EngineError::Elsewhere { place: self.upstream.place().to_owned() })
    }

    fn scan(
        &self,
        _table: TableId,
        _range: TimeRange,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.readable()
    }

    fn newest(
        &self,
        _table: TableId,
        _selection: Selection<'_>,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        self.readable()
    }

    fn rows(&self, _table: TableId) -> u64 {
        0
    }

    fn groups(&self) -> bool {
        true
    }

    fn state(&self) -> EngineState {
        let figures = UpstreamFigures {
            place: self.upstream.place().to_owned(),
            metered: *self.metered.lock().unwrap_or_else(PoisonError::into_inner),
            sent_bytes: self.upstream.sent_bytes(),
            saved_bytes: self.saved_bytes.load(Ordering::Relaxed),
        };
        EngineState {
            upstream: Some(figures),
            fault: self.trouble.told(),
            ..EngineState::default()
        }
    }

    fn close(&self) {
        self.upstream.close();
    }
}
