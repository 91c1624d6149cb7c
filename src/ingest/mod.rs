//! Floor 4: the way in. One function, [`Ingest::accept`]:
//!
//! admit -> encode -> append -> wait for commit -> receipt.
//!
//! [`Ingest::admit`] reserves memory before a body is read, so that overload ends in a "busy" and
//! never in growth. `accept` then runs the caller's decoder with a sink that resolves tables,
//! validates ([`Rules`]) and packs records into one payload, appends it to the log, and waits until it is as
//! durable as was asked. From there on the request is no longer needed: the shards read the frame out
//! of the log.

mod admission;
mod again;
mod blocking;
mod durability;
mod encoder;
mod options;
mod receipt;
mod rules;
mod tally;
mod trial;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::base::class::Class;
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::engine::catalog::Catalog;
use crate::metrics::Metrics;
use crate::record::codec::{PAYLOAD_BYTES_MAX, PayloadBuilder};
use crate::record::{Reading, RecordSink};
use crate::shard::marks::{Hearing, Marks, Verdicts};
use crate::wal::{CommitError, Wal, WalError};

pub use admission::Admission;
use admission::Memory;
pub use again::UnderWay;
pub use blocking::Pending;
pub use durability::{Durability, DurabilityError};
use encoder::{Encoder, Known, Outcome};
pub use options::{Options, VERSION_FIRST};
pub use receipt::{NamedRefusal, Receipt, quoted};
pub use rules::Rules;
use tally::{Follow, Tally};
pub use trial::Trial;

/// Which API a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Line protocol.
    Line,
    /// JSON.
    Json,
    /// Timestream's write API.
    Timestream,
    /// `DataZone`'s time series API.
    DataZone,
    /// A batch load, which hears of every record and keeps its own report.
    Batch,
}

impl Protocol {
    /// All of them, in the order of their declaration.
    const ALL: [Self; 5] = [Self::Line, Self::Json, Self::Timestream, Self::DataZone, Self::Batch];

    /// Its label in metrics.
    const fn label(self) -> &'static str {
        match self {
            Self::Line => "line",
            Self::Json => "json",
            Self::Timestream => "timestream",
            Self::DataZone => "datazone",
            Self::Batch => "batch",
        }
    }

    /// What its requests hear of what the engine refuses.
    const fn hearing(self) -> Hearing {
        match self {
            Self::Batch => Hearing::Everything,
            Self::Line | Self::Json | Self::Timestream | Self::DataZone => Hearing::ForReply,
        }
    }

    /// Whether its requests hold records of the gateway's own beside what the client sent. Who knows which
    /// are which counts them: [`Ingest::count_sent`].
    const fn has_own_records(self) -> bool {
        matches!(self, Self::DataZone)
    }

    /// Most refusals of one request that are named.
    const fn named_max(self) -> usize {
        self.hearing().named_max()
    }
}

/// What becomes of a request of which something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partial {
    /// The good records are taken.
    Accept,
    /// Nothing is taken.
    Refuse,
}

/// The database that is the gateway's own: only [`Protocol::DataZone`] writes there.
pub const SYSTEM_DATABASE: &str = "_datazone";

/// Whether a database is the gateway's own, or a retention policy under it.
pub fn is_system(database: &str) -> bool {
    let rest = database.strip_prefix(SYSTEM_DATABASE);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the caller of [`Ingest::accept`] wants.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Which API it came by.
    pub protocol: Protocol,
    /// The database of the request; records may name others.
    pub database: &'a str,
    /// How the texts of the request are to be read, for what is refused of them; `None` where it has none.
    pub reading: Option<&'a Reading<'a>>,
    /// When it was received, ns; [`Ingest::received_ns`].
    pub received_ns: i64,
    /// Bytes of the inflated body.
    pub body_bytes: usize,
    /// How durable it must be; `None` is the server's setting.
    pub durability: Option<Durability>,
    /// What becomes of it when something was refused.
    pub partial: Partial,
}

/// Why a request as a whole was not taken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngestError {
    /// Memory for requests, or the log, is full; or the server starts or stops.
    #[error("busy: {cause}; try again in {} s", retry_after.as_secs())]
    Busy {
        /// What is full, one of [`crate::metrics::catalog::BUSY_CAUSES`].
        cause: &'static str,
        /// When to try again.
        retry_after: Duration,
    },
    /// The request is larger than one frame of the log.
    #[error(
        "request takes {found} bytes in the log, at most {max} fit: send fewer records a request"
    )]
    TooLarge {
        /// Its bytes as a payload.
        found: usize,
        /// Most that fit.
        max: usize,
    },
    /// The request needs more memory than all requests may have together.
    #[error(
        "request needs {found} bytes of memory, all requests have {max} ({setting}): send less at once"
    )]
    MemoryTooSmall {
        /// Bytes that it needs so far.
        found: usize,
        /// Bytes that there are.
        max: usize,
        /// What sets them.
        setting: &'static str,
    },
    /// The database does not exist and must not be made.
    #[error("database not found: {database:?}")]
    DatabaseNotFound {
        /// The name asked for.
        database: String,
    },
    /// Something of ours failed before the request was appended.
    #[error("{reason}; the request is not stored")]
    Fault {
        /// What failed.
        reason: String,
    },
    /// The log failed; whether the request is stored is unknown.
    #[error("the log failed: {reason}; whether the request is stored is unknown")]
    Poisoned {
        /// What failed first.
        reason: String,
    },
}

impl IngestError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Busy { .. } => Class::Busy,
            Self::TooLarge { .. } | Self::MemoryTooSmall { .. } | Self::DatabaseNotFound { .. } => {
                Class::Refused
            }
            Self::Fault { .. } | Self::Poisoned { .. } => Class::Fault,
        }
    }
}

/// The way in, shared by all connections.
#[derive(Debug, Clone)]
pub struct Ingest {
    shared: Arc<Shared>,
}

/// What the way in works with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The log.
    pub wal: Wal,
    /// The names of databases and tables.
    pub catalog: Arc<Catalog>,
    /// How far the shards got.
    pub marks: Arc<Marks>,
    /// Every metric.
    pub metrics: Metrics,
    /// Time.
    pub clock: SharedClock,
    /// Set when the server stops.
    pub stopping: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Shared {
    parts: Parts,
    options: Options,
    durability: Durability,
    shards: usize,
    memory: Memory,
    tally: Tally,
    follow: Follow,
    /// The last version given out by the setting "arrival".
    arrival: AtomicI64,
    /// Builders and buffers, used again from request to request.
    workspaces: Mutex<Vec<Workspace>>,
}

#[derive(Debug)]
struct Workspace {
    builder: PayloadBuilder,
    known: Known,
    payload: Vec<u8>,
}

/// Workspaces kept for reuse: more requests than this are rarely encoded at once.
const WORKSPACES_MAX: usize = 16;

/// Largest buffer kept for reuse, so that one huge request does not hold its memory for ever.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What a client is told to wait before it tries again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Ingest {
    /// The way in for payloads of `shards` sections, at `durability` where a request asks for none.
    pub fn new(parts: Parts, options: Options, durability: Durability, shards: usize) -> Self {
        let memory = Memory::new(&options, &parts.metrics);
        let tally = Tally::new(&parts.metrics);
        let shared = Shared {
            parts,
            options,
            durability,
            shards,
            memory,
            tally,
            follow: Follow::default(),
            arrival: AtomicI64::new(0),
            workspaces: Mutex::new(Vec::new()),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The settings, which decoders follow.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Reserves memory for a body of `bytes`, waiting shortly where there is none.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when there still is none, or the server stops; [`IngestError::MemoryTooSmall`]
    /// when there never will be. Nothing is reserved.
    pub async fn admit(&self, bytes: usize) -> Result<Admission, IngestError> {
        // Relaxed: a request that slips past a stop is answered by the log.
        if self.shared.parts.stopping.load(Ordering::Relaxed) {
            return Err(self.shared.busy("stopping"));
        }
        let admitted = self.shared.memory.admit(bytes).await;
        admitted.map_err(|error| match error {
            // Counted.
            IngestError::Busy { cause, .. } => self.shared.busy(cause),
            other => other,
        })
    }

    /// The time of receipt for a request that arrives now, ns.
    pub fn received_ns(&self) -> i64 {
        self.shared.parts.clock.wall_ns()
    }

    /// The last frame that was appended.
    pub fn appended(&self) -> Lsn {
        self.shared.parts.wal.marks().appended
    }

    /// Takes one request: runs `decode`, appends what it shows, waits until that is durable. A request
    /// that is to be taken as a whole or not at all ([`Partial::Refuse`]) is decoded twice.
    ///
    /// # Errors
    ///
    /// [`IngestError`]: nothing was taken, except after [`IngestError::Poisoned`], where it is
    /// unknown.
    pub async fn accept<D>(&self, ask: &Ask<'_>, decode: D) -> Result<Receipt, IngestError>
    where
        D: Fn(&mut dyn RecordSink) + Send,
    {
        let shared = &self.shared;
        let durability = ask.durability.unwrap_or(shared.durability);
        let started = shared.parts.clock.monotonic();
        let waits = (durability, ask.protocol.hearing());
        let encode = || shared.encode_counted(ask, waits, started, decode);
        let (mut receipt, waiting) = in_place(ask.body_bytes, encode)?;
        if let Some(waiting) = waiting {
            shared.wait(waiting, &mut receipt).await?;
            let acknowledged = shared.parts.clock.monotonic();
            shared.parts.metrics.ingest_ack_duration.record(acknowledged.saturating_sub(started));
            shared.follow.until_visible(&shared.parts, &receipt, acknowledged);
        }
        if !ask.protocol.has_own_records() {
            shared.tally.of(ask.protocol).accepted(receipt.accepted);
        }
        Ok(receipt)
    }

    /// Counts what a client sent in a request that was taken and has records of the gateway's own too.
    pub fn count_sent(&self, protocol: Protocol, records: u64) {
        assert!(protocol.has_own_records(), "all others are counted as they are accepted");
        self.shared.tally.of(protocol).sent(records);
    }
}

/// Bodies from which on decoding would hold up the other requests of a runtime thread: about a
/// millisecond's work.
const LONG_BODY_BYTES: usize = 512 << 10;

/// Runs `work`, which decodes `body_bytes`; long work on a thread that the runtime then replaces.
fn in_place<T>(body_bytes: usize, work: impl FnOnce() -> T) -> T {
    if body_bytes >= LONG_BODY_BYTES { off_the_runtime(work) } else { work() }
}

/// Runs `work`, which takes its time; on a thread of a runtime that has others, the runtime replaces it.
fn off_the_runtime<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        return tokio::task::block_in_place(work);
    }
    work()
}

/// What a request that was appended waits for.
#[derive(Debug)]
struct Waiting {
    committed: oneshot::Receiver<Result<Lsn, CommitError>>,
    named_max: usize,
    /// With [`Durability::Applied`].
    applied: Option<oneshot::Receiver<Verdicts>>,
}

impl Shared {
    /// The same as [`Self::encode`], begun at `started`, and counted.
    fn encode_counted<D>(
        &self,
        ask: &Ask<'_>,
        waits: (Durability, Hearing),
        started: Duration,
        decode: D,
    ) -> Result<(Receipt, Option<Waiting>), IngestError>
    where
        D: Fn(&mut dyn RecordSink),
    {
        let encoded = self.encode(ask, waits, decode);
        let took = self.parts.clock.monotonic().saturating_sub(started);
        let receipt = encoded.as_ref().ok().map(|(receipt, _)| receipt);
        let receipt = receipt.filter(|_| !ask.protocol.has_own_records());
        self.tally.of(ask.protocol).decoded(ask.body_bytes, took, receipt);
        encoded
    }

    /// Decodes and appends; nothing in here waits but for the catalog's line of what is new.
    fn encode<D>(
        &self,
        ask: &Ask<'_>,
        (durability, hearing): (Durability, Hearing),
        decode: D,
    ) -> Result<(Receipt, Option<Waiting>), IngestError>
    where
        D: Fn(&mut dyn RecordSink),
    {
        if ask.partial == Partial::Refuse {
            let mut trial = Trial::new(&self.parts.catalog, &self.options, ask);
            decode(&mut trial);
            let outcome = trial.finish();
            if outcome.is_refusing() {
                self.count_refused(&outcome);
                let mut receipt = outcome.receipt(durability);
                receipt.take_none();
                return Ok((receipt, None));
            }
        }
        let mut workspace = self.workspace();
        workspace.builder.start(ask.received_ns);
        let versions = self.versions(ask);
        let kept = (&mut workspace.builder, &mut workspace.known);
        let mut encoder = Encoder::new(&self.parts.catalog, &self.options, kept, ask, versions);
        decode(&mut encoder);
        let outcome = encoder.finish();
        self.count_refused(&outcome);
        let mut receipt = outcome.receipt(durability);
        match outcome.fault {
            Some((Class::Busy, _full)) => return Err(self.busy("catalog")),
            Some((_, reason)) => return Err(IngestError::Fault { reason }),
            None => {}
        }
        if let Some(database) = outcome.database_not_found {
            return Err(IngestError::DatabaseNotFound { database });
        }
        if ask.partial == Partial::Refuse && receipt.refused > 0 {
            receipt.take_none();
            self.give_back(workspace);
            return Ok((receipt, None));
        }
        let found = workspace.builder.bytes();
        if found > PAYLOAD_BYTES_MAX {
            return Err(IngestError::TooLarge { found, max: PAYLOAD_BYTES_MAX });
        }
        if workspace.builder.is_empty() {
            self.give_back(workspace);
            return Ok((receipt, None));
        }
        assert!(receipt.accepted + receipt.refused > 0, "what is appended was counted");
        workspace.builder.finish(&mut workspace.payload);
        assert_eq!(workspace.payload.len(), found, "a payload is as long as was bounded");
        let appended = self.append(&workspace.payload, durability, hearing);
        self.give_back(workspace);
        Ok((receipt, Some(appended.map_err(|error| self.refusal(&error))?)))
    }

    /// Appends a payload. A client that goes away drops its ends; the frame is committed all the same.
    fn append(
        &self,
        payload: &[u8],
        durability: Durability,
        hearing: Hearing,
    ) -> Result<Waiting, WalError> {
        let named_max = hearing.named_max();
        let (sender, committed) = oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        if durability != Durability::Applied {
            self.parts.wal.append(payload, durability.of_log(), done)?;
            return Ok(Waiting { committed, named_max, applied: None });
        }
        let (sender, applied) = oneshot::channel();
        let then = Box::new(move |verdicts| drop(sender.send(verdicts)));
        let register = |lsn| self.parts.marks.when_heard(lsn, hearing, then);
        self.parts.wal.append_numbered(payload, durability.of_log(), register, done)?;
        Ok(Waiting { committed, named_max, applied: Some(applied) })
    }

    fn count_refused(&self, outcome: &Outcome) {
        for (reason, refused) in &outcome.reasons {
            let counter = self.parts.metrics.ingest_refused.with_label_values(&[reason.code()]);
            counter.inc_by(*refused);
        }
    }

    /// Waits until the frame is as durable as was asked, and completes the receipt.
    async fn wait(&self, waiting: Waiting, receipt: &mut Receipt) -> Result<(), IngestError> {
        receipt.lsn = Some(committed(waiting.committed.await.ok())?);
        if let Some(applied) = waiting.applied {
            // The marks drop a waiter only when the shards have ended: the frame is durable and
            // will be applied at the next start, which the caller must not take for now.
            let verdicts = applied.await.map_err(|_gone| self.busy("stopping"))?;
            receipt.take(verdicts, waiting.named_max);
        }
        Ok(())
    }

    fn refusal(&self, error: &WalError) -> IngestError {
        match error {
            WalError::TooLarge { found, max } => IngestError::TooLarge { found: *found, max: *max },
            _ if error.class() == Class::Busy => self.busy("wal"),
            _ => IngestError::Poisoned { reason: error.to_string() },
        }
    }

    fn busy(&self, cause: &'static str) -> IngestError {
        self.parts.metrics.ingest_busy.with_label_values(&[cause]).inc();
        IngestError::Busy { cause, retry_after: RETRY_AFTER }
    }

    /// The versions for records that were sent without one: the first, and whether they count up.
    fn versions(&self, ask: &Ask<'_>) -> (i64, i64) {
        if self.options.version != "arrival" {
            return (VERSION_FIRST, 0);
        }
        // A record takes at least one byte of the body, so the next request starts behind every
        // version that this one can give out, even when the clock stands still or goes back.
        let room = i64::try_from(ask.body_bytes).unwrap_or(i64::MAX);
        // Relaxed: the counter orders nothing but itself.
        let before = self
            .arrival
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(last.max(ask.received_ns).saturating_add(room).saturating_add(1))
            })
            .unwrap_or_else(|last| last);
        (before.max(ask.received_ns).saturating_add(1), 1)
    }

    fn workspace(&self) -> Workspace {
        let kept = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_else(|| Workspace {
            builder: PayloadBuilder::new(self.shards),
            known: Known::default(),
            payload: Vec::new(),
        })
    }

    fn give_back(&self, mut workspace: Workspace) {
        // A request that was refused as a whole has filled the builder only.
        let largest = workspace.payload.capacity().max(workspace.builder.bytes());
        if largest.max(workspace.known.bytes()) > KEPT_BYTES_MAX {
            return;
        }
        workspace.known.clear();
        let mut kept = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < WORKSPACES_MAX {
            kept.push(workspace);
        }
    }
}

/// The frame's number, once it is committed.
fn committed(heard: Option<Result<Lsn, CommitError>>) -> Result<Lsn, IngestError> {
    match heard {
        Some(Ok(lsn)) => Ok(lsn),
        Some(Err(error)) => Err(IngestError::Poisoned { reason: error.to_string() }),
        // The commit thread is gone without an answer, which only a panic of its own does.
        None => Err(IngestError::Poisoned { reason: "the log's thread ended".to_owned() }),
    }
}

#[cfg(test)]
mod tests;
