//! One writer thread: receive -> batch -> engine.write -> reject -> mark applied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use prometheus::{Counter, IntCounter, IntGauge};
use tracing::{error, warn};

use super::feeder::{Filter, Work};
use super::marks::{AbandonOnPanic, Marks};
use super::queue::Receiver;
use super::retry::Backoff;
use super::{Ended, Parts};
use crate::base::class::Class;
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::batch::{self, Batch, Batches, Order};
use crate::engine::catalog::{Catalog, Profile, TableSettings};
use crate::engine::{EngineError, ShardId, TableEngine};
use crate::metrics::Metrics;
use crate::metrics::catalog::{BATCH_CAUSES, OUTCOMES};
use crate::record::codec::{Bucket, Family, Layout, Payload, RecordView, RefusedLine};
use crate::record::limits::RECORDS_PER_REQUEST_MAX;
use crate::record::request::{Outcome, Rejection, WriteRequest};
use crate::record::window::Store;
use crate::record::{Reason, TableId};
use crate::reject::report::{Content, Place, place_in};
use crate::reject::{Outbox, Report, ReportedRecord, Reporter};

/// Frames executed together at most, so that marks move on and the stop is noticed.
const GATHERED_FRAMES_MAX: usize = 256;

/// Bytes of payload beyond which a turn gathers no further frame. The engine may exceed its memory by
/// what a turn holds, and the rejections of a turn wait in memory for its end: hundreds of large
/// frames executed together would take all there is.
pub(super) const GATHERED_BYTES_MAX: usize = 8 << 20;

/// Bytes of payload that are worth a turn: with as many, a shard waits for no more.
const LINGERED_BYTES_MAX: usize = 4 << 10;

/// Rejections in one report at most; a frame with more is reported in parts.
pub const REPORTED_RECORDS_MAX: usize = 1_000;

/// Bytes in one report from which on the frame's next rejection begins another part, so that whoever reads
/// reports can bound what one takes.
const REPORTED_BYTES_MAX: usize = 1 << 20;

/// The state of one writer thread.
#[derive(Debug)]
pub struct Worker {
    id: ShardId,
    shards: usize,
    queue: Receiver,
    marks: Arc<Marks>,
    engine: Arc<dyn TableEngine>,
    catalog: Arc<Catalog>,
    reporter: Reporter,
    metrics: Metrics,
    counters: Counters,
    clock: SharedClock,
    poison: Poison,
    stopping: Arc<AtomicBool>,
    batch: batch::Options,
}

/// Metrics with their labels looked up, since a look-up takes a lock.
#[derive(Debug)]
struct Counters {
    queue: IntGauge,
    records: IntCounter,
    turns: IntCounter,
    busy_seconds: Counter,
    /// In the order of [`OUTCOMES`].
    outcomes: [IntCounter; 4],
    /// In the order of [`BATCH_CAUSES`].
    batches: [IntCounter; 2],
}

/// Dictionaries of one frame, which its records borrow.
type Dictionary<'a> = (Vec<Family<'a>>, Vec<Layout<'a>>);

/// Why a batch is written.
#[derive(Debug, Clone, Copy)]
enum Cause {
    Full = 0,
    Drained = 1,
}

/// Executes frames until the queue is closed and empty, or the server stops in the middle of a retry.
/// A frame that cannot be executed throws the poison, as a panic does: without this thread its part
/// of what is acknowledged would stay in the log, unseen.
pub fn run(mut worker: Worker) {
    let _abandoned = AbandonOnPanic(Arc::clone(&worker.marks));
    let _panic = worker.poison.on_panic("a shard panicked");
    while let Some(work) = worker.receive() {
        let started = worker.clock.monotonic();
        let executed = worker.execute(&work);
        worker.counters.turn(worker.clock.monotonic().saturating_sub(started));
        match executed {
            Ok(()) => {}
            Err(Ended::Stopping | Ended::Unreported(_)) => return,
            Err(cause) => {
                error!(%cause, "a frame cannot be executed; nothing more is accepted");
                worker.poison.throw(cause.to_string());
                worker.marks.abandon();
                return;
            }
        }
    }
}

impl Worker {
    /// The worker of shard `id`, one of `shards`.
    pub fn new(
        parts: &Parts,
        id: ShardId,
        shards: usize,
        queue: Receiver,
        marks: Arc<Marks>,
        batch: &batch::Options,
    ) -> Self {
        Self {
            id,
            shards,
            queue,
            marks,
            engine: Arc::clone(&parts.engine),
            catalog: Arc::clone(&parts.catalog),
            reporter: parts.reporter.clone(),
            metrics: parts.metrics.clone(),
            counters: Counters::new(&parts.metrics, id),
            clock: Arc::clone(&parts.clock),
            poison: parts.poison.clone(),
            stopping: Arc::clone(&parts.stopping),
            batch: batch.clone(),
        }
    }

    /// Waits for a frame, and takes what else is there by then. `None` when the queue is closed.
    pub(super) fn receive(&mut self) -> Option<Vec<Work>> {
        let waiting_bytes = self.queue.wait()?;
        // A shard that has caught up lets a few frames come together: fewer, fuller batches, and
        // fewer wake-ups. Nobody waits for it: the frames are acknowledged.
        if waiting_bytes < LINGERED_BYTES_MAX && self.batch.linger.0 > Duration::ZERO {
            self.clock.sleep(self.batch.linger.0);
        }
        let (work, stay) = self.queue.take(GATHERED_FRAMES_MAX, GATHERED_BYTES_MAX);
        self.counters.queue.set(i64::try_from(stay).unwrap_or(i64::MAX));
        Some(work)
    }

    fn execute(&mut self, work: &[Work]) -> Result<(), Ended> {
        assert!(!work.is_empty(), "a turn has a frame");
        let is_before = |a: &Work, b: &Work| a.frame.lsn() < b.frame.lsn();
        assert!(work.is_sorted_by(is_before), "frames come in the order of the log, each once");
        let payloads =
            work.iter().map(|w| Payload::open(w.frame.payload())).collect::<Result<Vec<_>, _>>()?;
        let mut dictionaries: Vec<Dictionary<'_>> = vec![Dictionary::default(); work.len()];
        for (payload, (families, layouts)) in payloads.iter().zip(&mut dictionaries) {
            payload.dictionary(families, layouts)?;
        }
        let seed = self.clock.wall_ns().cast_unsigned() ^ u64::from(self.id.0);
        let mut backoff = Backoff::new(&self.clock, &self.stopping).with_jitter(seed);
        loop {
            match self.attempt(work, &payloads, &dictionaries) {
                Err(Ended::Undone) => backoff.rest()?,
                Err(cause) => return Err(cause),
                Ok(tally) => {
                    self.finish(work, &payloads, &tally);
                    return Ok(());
                }
            }
        }
    }

    /// Executes the turn's frames once, up to the engine's commit. What the engine undoes leaves nothing
    /// here either: outcomes and verdicts are told only once they are committed. Rejections are reported
    /// before, since nothing may be committed whose rejections nobody has; the same turn gives its reports
    /// the same names, so the next attempt writes over them.
    fn attempt<'a>(
        &self,
        work: &[Work],
        payloads: &[Payload<'a>],
        dictionaries: &'a [Dictionary<'a>],
    ) -> Result<Tally, Ended> {
        let mut turn = Turn {
            worker: self,
            work,
            outcomes: Vec::new(),
            rejected: Rejected::default(),
            tally: Tally::default(),
            outbox: Outbox::default(),
        };
        let order = if self.engine.groups() { Order::Alike } else { Order::Arrival };
        let mut batches = Batches::new(self.batch_records(), order);
        for (at, one) in work.iter().enumerate() {
            turn.frame(one, &payloads[at], &dictionaries[at], &mut batches)?;
        }
        let many = self.engine.batches_max();
        batches.drain_many(many, |batches| turn.write(batches, Cause::Drained))?;
        turn.report_rejected()?;
        let last = work.last().expect("a turn has a frame").frame.lsn();
        self.until_done("commit", || self.engine.commit(self.id, last))?;
        Ok(turn.tally)
    }

    /// Most records a batch: the settings', and where those ask for no fewer, the engine's.
    fn batch_records(&self) -> usize {
        let asked = self.batch.records_max;
        if asked < RECORDS_PER_REQUEST_MAX { asked } else { self.engine.batch_records() }
    }

    /// All frames of the turn are in engine or sink: the marks move.
    fn finish(&self, work: &[Work], payloads: &[Payload<'_>], tally: &Tally) {
        let told = tally.verdicts.len() as u64;
        assert_eq!(
            told, tally.outcomes[3],
            "whoever waits hears of every record that was rejected"
        );
        self.counters.count(tally);
        self.metrics.shard_dropped_records.inc_by(tally.dropped);
        let of_records = tally.verdicts.iter().map(|told| told.rejection.reason);
        for reason in of_records.chain(tally.lines.iter().copied()) {
            self.metrics.reject_records.with_label_values(&[reason.code()]).inc();
        }
        for Told { lsn, number, rejection, is_late } in &tally.verdicts {
            if *is_late {
                self.marks.rejected_late(*lsn, *number, rejection);
            } else {
                self.marks.rejected(*lsn, *number, rejection);
            }
        }
        self.marks.executed(work.iter().map(|one| one.frame.lsn()));
        let received = payloads.iter().map(Payload::received_ns).min().unwrap_or_default();
        let delay = self.clock.wall_ns().saturating_sub(received);
        let delay = Duration::from_nanos(u64::try_from(delay).unwrap_or_default());
        self.metrics.shard_visible_delay.record(delay);
    }

    /// Calls the engine until it succeeds: what the log holds is never given up. Only a record that
    /// cannot be read ends it, since it never can.
    fn until_done(
        &self,
        what: &'static str,
        mut call: impl FnMut() -> Result<(), EngineError>,
    ) -> Result<(), Ended> {
        let mut backoff = Backoff::new(&self.clock, &self.stopping);
        while let Err(error) = call() {
            if let EngineError::Codec(unreadable) = error {
                return Err(unreadable.into());
            }
            self.metrics.shard_retries.inc();
            if let EngineError::Undone { what } = &error {
                tracing::debug!(shard = self.id.0, what, "the turn is executed again");
                return Err(Ended::Undone);
            }
            if error.class() == Class::Fault {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                error!(shard = self.id.0, what, %error, source, "the engine failed; trying again");
            } else {
                warn!(shard = self.id.0, what, %error, "the engine is busy; trying again");
            }
            backoff.rest()?;
        }
        Ok(())
    }
}

/// One turn of a worker: some frames, executed together.
struct Turn<'w> {
    worker: &'w Worker,
    /// Its frames, in the order of the log.
    work: &'w [Work],
    /// Of the batches that are being written, a list each.
    outcomes: Vec<Vec<Outcome>>,
    rejected: Rejected,
    /// Reports that are not written yet; all are before the marks move.
    outbox: Outbox,
    tally: Tally,
}

/// What is told of a turn once it is committed.
#[derive(Debug, Default)]
struct Tally {
    /// Records by outcome, in the order of [`OUTCOMES`].
    outcomes: [u64; 4],
    /// Records of deleted tables.
    dropped: u64,
    /// What whoever waits for a frame is told.
    verdicts: Vec<Told>,
    /// Why lines were refused.
    lines: Vec<Reason>,
}

/// A rejection on its way to whoever waits for its frame.
#[derive(Debug)]
struct Told {
    lsn: Lsn,
    /// The record's number in its request.
    number: u64,
    rejection: Rejection,
    /// Whether it is reported where the table says, and not in the reject sink.
    is_late: bool,
}

/// Rejections of a turn by what they are of, and how many parts of each are reported already.
#[derive(Default)]
struct Rejected {
    open: BTreeMap<(Lsn, TableId, Sink), Pending>,
}

/// Where a rejection is reported.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sink {
    /// The reject sink.
    Ours,
    /// The location that the table names for conflicts of its magnetic store; what keys begin with.
    OfTable(String),
}

#[derive(Default)]
struct Pending {
    received_ns: i64,
    parts: u32,
    records: Vec<ReportedRecord>,
    bytes: usize,
}

impl Turn<'_> {
    /// Pushes the records of one frame, and reports its refused lines.
    fn frame<'a>(
        &mut self,
        work: &Work,
        payload: &Payload<'a>,
        (families, layouts): &'a Dictionary<'a>,
        batches: &mut Batches<'a>,
    ) -> Result<(), Ended> {
        let lsn = work.frame.lsn();
        let own = usize::from(self.worker.id.0);
        let is_routed = payload.sections() == self.worker.shards;
        assert!(
            is_routed || work.filter == Filter::Buckets,
            "another's section is not taken for ours"
        );
        let sections = match work.filter {
            Filter::None => own..own + 1,
            // Written by as many shards: no other section has a record of this one's buckets.
            Filter::Buckets if is_routed => own..own + 1,
            Filter::Buckets => 0..payload.sections(),
        };
        for section in sections {
            for record in payload.section(section, families, layouts) {
                let record = record?;
                if work.filter == Filter::None || self.is_mine(&record, lsn) {
                    let full = |batch: &mut Batch<'a>| {
                        self.write(std::slice::from_mut(batch), Cause::Full)
                    };
                    batches.push(record, lsn, full)?;
                }
            }
        }
        if own == 0 && payload.refused_count() > 0 && self.worker.engine.stored(Bucket(0)) < lsn {
            self.report_lines(lsn, payload)?;
        }
        Ok(())
    }

    /// Whether a record of a frame that was not routed for these shards is for this one, and not
    /// stored yet.
    fn is_mine(&self, record: &RecordView<'_>, lsn: Lsn) -> bool {
        let bucket = Bucket::of(record.series_hash);
        bucket.shard(self.worker.shards) == usize::from(self.worker.id.0)
            && self.worker.engine.stored(bucket) < lsn
    }

    /// Writes batches of one table, and gathers what was rejected.
    fn write(&mut self, batches: &mut [Batch<'_>], cause: Cause) -> Result<(), Ended> {
        let worker = self.worker;
        let mut outcomes = std::mem::take(&mut self.outcomes);
        outcomes.iter_mut().for_each(Vec::clear);
        outcomes.resize_with(batches.len(), Vec::new);
        let first = batches[0].frame(0);
        let requests: Vec<WriteRequest<'_>> = batches.iter_mut().map(Batch::request).collect();
        for request in &requests {
            worker.metrics.batch_saved_bytes.inc_by(request.common.saved_bytes);
            worker.metrics.batch_records.inc_by(request.records.len() as u64);
            worker.counters.batches[cause as usize].inc();
        }
        let table = requests[0].table;
        assert!(requests.iter().all(|request| request.table == table), "batches are of one table");
        // A start looks for this, and a way in resolves what it appends: no catalog lost it but while
        // the server ran. Whatever was done with the records, a table made later would get the number.
        if !worker.catalog.has_numbered(table) {
            return Err(Ended::NeverNumbered { lsn: first, table });
        }
        // What was written before a failure has its outcome; giving it again would find its own versions,
        // and reject them.
        worker
            .until_done("write", || worker.engine.write_all(worker.id, &requests, &mut outcomes))?;
        drop(requests);
        for (batch, outcomes) in batches.iter().zip(&outcomes) {
            self.written(table, batch, outcomes)?;
        }
        self.outcomes = outcomes;
        Ok(())
    }

    /// Counts what became of a batch's records, and gathers those that were rejected.
    fn written(
        &mut self,
        table: TableId,
        batch: &Batch<'_>,
        outcomes: &[Outcome],
    ) -> Result<(), Ended> {
        let worker = self.worker;
        let count = batch.records().len();
        assert_eq!(outcomes.len(), count, "an engine answers for every record");
        // Deleted, at the latest while the engine wrote: its records were deleted with it, as those
        // were that came before. There is nothing to report, and nobody whom it would concern.
        if worker.catalog.is_deleted(table) {
            self.tally.dropped += count as u64;
            return Ok(());
        }
        self.tally.count(outcomes);
        let is_rejected = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(_));
        if !outcomes.iter().any(is_rejected) {
            return Ok(());
        }
        let settings = worker.catalog.get(table).map(|table| table.settings());
        for (at, outcome) in outcomes.iter().enumerate() {
            if let Outcome::Rejected(rejection) = outcome {
                let (lsn, record) = (batch.frame(at), &batch.records()[at]);
                let place = self.place(lsn, record.values);
                let reported = ReportedRecord::new(record, place, rejection)?;
                let settings = settings.as_deref();
                let sink = settings.map_or(Sink::Ours, |of| sink_of(of, record, rejection.reason));
                self.tally.verdicts.push(Told {
                    lsn,
                    number: record.number,
                    rejection: (**rejection).clone(),
                    is_late: sink != Sink::Ours,
                });
                self.reject(&(lsn, table, sink), record.received_ns, reported)?;
            }
        }
        Ok(())
    }

    /// Where a part of a frame stands in it.
    fn place(&self, lsn: Lsn, part: &[u8]) -> u64 {
        let at = self.work.binary_search_by_key(&lsn, |work| work.frame.lsn());
        let work = &self.work[at.expect("what is rejected is of a frame of the turn")];
        place_in(work.frame.payload(), part)
    }

    fn reject(
        &mut self,
        of: &(Lsn, TableId, Sink),
        received_ns: i64,
        record: ReportedRecord,
    ) -> Result<(), Ended> {
        let pending = self.rejected.open.entry(of.clone()).or_default();
        pending.received_ns = received_ns;
        pending.bytes += record.bytes();
        pending.records.push(record);
        if pending.records.len() >= REPORTED_RECORDS_MAX || pending.bytes >= REPORTED_BYTES_MAX {
            let full = std::mem::take(&mut pending.records);
            pending.bytes = 0;
            let part = pending.parts;
            pending.parts += 1;
            self.report_records(of, (received_ns, part), full)?;
        }
        Ok(())
    }

    fn report_rejected(&mut self) -> Result<(), Ended> {
        for (of, pending) in std::mem::take(&mut self.rejected.open) {
            if !pending.records.is_empty() {
                self.report_records(&of, (pending.received_ns, pending.parts), pending.records)?;
            }
        }
        self.worker.reporter.write_out(&mut self.outbox)?;
        assert!(self.outbox.is_empty(), "a frame is released when its reports are durable");
        Ok(())
    }

    fn report_records(
        &mut self,
        (lsn, table, sink): &(Lsn, TableId, Sink),
        (received_ns, part): (i64, u32),
        records: Vec<ReportedRecord>,
    ) -> Result<(), Ended> {
        assert!(!records.is_empty(), "a report tells of a record");
        let catalog = &self.worker.catalog;
        // Deleted since its records were rejected: they are reported all the same.
        let named = catalog.get(*table).or_else(|| catalog.deleted(*table));
        let named = named.expect("a number that was never given ended the turn before the engine");
        let shard = (self.worker.id.0, self.worker.shards);
        let place = match sink {
            Sink::Ours => Place::Sink,
            Sink::OfTable(prefix) => Place::Location { id: *table, prefix },
        };
        let content = Content::Records { table: &named.name, place, shard, records };
        let report = Report { lsn: *lsn, received_ns, database: &named.database, part, content };
        Ok(self.worker.reporter.report(&mut self.outbox, &report)?)
    }

    fn report_lines(&mut self, lsn: Lsn, payload: &Payload<'_>) -> Result<(), Ended> {
        let received_ns = payload.received_ns();
        let (mut lines, mut bytes, mut part) = (Vec::new(), 0, 0);
        let mut rest = payload.refused_lines().peekable();
        while let Some(line) = rest.next() {
            let line: RefusedLine<'_> = line?;
            let database = line.database;
            bytes += line.text.len() + line.message.len() + line.reading.len();
            self.tally.lines.push(line.reason);
            lines.push((self.place(lsn, line.text), line));
            let is_full = lines.len() >= REPORTED_RECORDS_MAX || bytes >= REPORTED_BYTES_MAX;
            let is_last = |next: &Result<RefusedLine<'_>, _>| {
                next.as_ref().is_ok_and(|next| next.database != database)
            };
            if is_full || rest.peek().is_none_or(is_last) {
                let content = Content::Lines(std::mem::take(&mut lines));
                let report = Report { lsn, received_ns, database, part, content };
                self.worker.reporter.report(&mut self.outbox, &report)?;
                (bytes, part) = (0, part + 1);
            }
        }
        assert!(lines.is_empty(), "every refused line is in a report");
        Ok(())
    }
}

impl Counters {
    fn new(metrics: &Metrics, id: ShardId) -> Self {
        let shard = id.0.to_string();
        Self {
            queue: metrics.shard_queue_frames.with_label_values(&[&shard]),
            records: metrics.shard_records.with_label_values(&[&shard]),
            turns: metrics.shard_turns.with_label_values(&[&shard]),
            busy_seconds: metrics.shard_busy_seconds.with_label_values(&[&shard]),
            outcomes: OUTCOMES.map(|label| metrics.engine_outcomes.with_label_values(&[label])),
            batches: BATCH_CAUSES.map(|label| metrics.batch_batches.with_label_values(&[label])),
        }
    }

    fn turn(&self, took: Duration) {
        self.turns.inc();
        self.busy_seconds.inc_by(took.as_secs_f64());
    }

    fn count(&self, tally: &Tally) {
        for (counter, count) in self.outcomes.iter().zip(tally.outcomes) {
            counter.inc_by(count);
        }
        self.records.inc_by(tally.outcomes.iter().sum());
    }
}

impl Tally {
    fn count(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            self.outcomes[match outcome {
                Outcome::Stored => 0,
                Outcome::Updated => 1,
                Outcome::Unchanged => 2,
                Outcome::Rejected(_) => 3,
            }] += 1;
        }
    }
}

/// Where a rejection is reported. A conflict of versions in the magnetic store of a strict table is what
/// Timestream does not answer but report. Source: its developer guide, "Writing data", late arrivals.
fn sink_of(settings: &TableSettings, record: &RecordView<'_>, reason: Reason) -> Sink {
    let is_conflict = matches!(reason, Reason::VersionLower | Reason::VersionConflict);
    let location = settings.rejected_data.as_ref().filter(|_| is_conflict);
    let Some(location) = location.filter(|_| settings.profile == Profile::Strict) else {
        return Sink::Ours;
    };
    match settings.retention.window(record.received_ns).store_of(record.time_ns) {
        Ok(Store::Magnetic) => Sink::OfTable(location.key_prefix.clone().unwrap_or_default()),
        // Outside, since the retention is another one now than when the record was received.
        Ok(Store::Memory) | Err(_) => Sink::Ours,
    }
}
