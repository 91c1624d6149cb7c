//! Reads durable frames and hands them to the shards, in the order of the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::IntGauge;
use tracing::{error, warn};

use super::marks::{AbandonOnPanic, Fed, Marks};
use super::queue::Sender;
use super::{Ended, Parts};
use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::engine::TableEngine;
use crate::record::codec::{Bucket, Payload};
use crate::wal::{Frame, Reader, Wal};

/// A frame for one shard.
#[derive(Debug)]
pub struct Work {
    /// The frame.
    pub frame: Frame,
    /// Whether some of its records may be stored already, or be another shard's.
    pub filter: Filter,
}

/// Whether a worker must look at each record's bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// The shard's section holds exactly what it has to write.
    None,
    /// Written by another number of shards, or before the engine's last flush.
    Buckets,
}

/// How long the feeder waits for a frame, or for room in a queue, before it looks after the
/// checkpoint and the stop.
const TURN: Duration = Duration::from_millis(100);

/// Frames that are handed out together at most, of those that are durable already.
const GATHERED_FRAMES_MAX: usize = 256;

/// Bytes of payload from which on nothing more is gathered, so that the shards can begin.
const GATHERED_BYTES_MAX: usize = 1 << 20;

/// How often the log is told the engine's checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The engine is asked to flush when the log has filled one part in so many of its bound.
const RELIEVED_SHARE: u64 = 2;

/// What an engine has stored of the buckets of a shard.
#[derive(Debug, Clone, Copy, Default)]
struct Stored {
    /// All of the frames up to here, so that the shard needs none of them.
    min: Lsn,
    /// Nothing of later frames, so that their buckets need no look.
    max: Lsn,
}

impl Stored {
    /// What shard `at` of `shards` has to look at of a frame; `None` where that is nothing.
    fn filter(
        self,
        lsn: Lsn,
        payload: &Payload<'_>,
        (at, shards): (usize, usize),
    ) -> Option<Filter> {
        if lsn <= self.min {
            return None;
        }
        if payload.sections() != shards {
            return Some(Filter::Buckets);
        }
        // Refused lines are the first shard's to report.
        let has_any = payload.records_in(at) > 0 || (at == 0 && payload.refused_count() > 0);
        has_any.then_some(if lsn > self.max { Filter::None } else { Filter::Buckets })
    }
}

/// The state of the feeding thread.
#[derive(Debug)]
pub struct Feeder {
    reader: Reader,
    queues: Vec<Sender>,
    /// What is to be handed out, a list a shard.
    gathered: Vec<VecDeque<Work>>,
    /// The same frames, as the marks are told of them.
    fed: Vec<Fed>,
    marks: Arc<Marks>,
    wal: Wal,
    engine: Arc<dyn TableEngine>,
    clock: SharedClock,
    poison: Poison,
    stopping: Arc<AtomicBool>,
    /// What the engine had stored of each shard's buckets at the start.
    stored: Vec<Stored>,
    checkpoint_due: Duration,
    /// The last frame that the log held at the start; `None` once the engine has heard that it is
    /// executed.
    replay_end: Option<Lsn>,
    /// Frames waiting for each shard. Set here now and then: a worker sets its own between two turns, and
    /// one that is stuck in a turn has the queue that matters.
    waiting: Vec<IntGauge>,
}

impl Feeder {
    /// A feeder of `queues`, one a shard, with what `reader` gives.
    pub fn new(parts: &Parts, reader: Reader, queues: Vec<Sender>, marks: Arc<Marks>) -> Self {
        let gauge =
            |at: usize| parts.metrics.shard_queue_frames.with_label_values(&[&at.to_string()]);
        let waiting = (0..queues.len()).map(gauge).collect();
        Self {
            stored: vec![Stored::default(); queues.len()],
            waiting,
            reader,
            gathered: queues.iter().map(|_| VecDeque::new()).collect(),
            fed: Vec::new(),
            queues,
            marks,
            wal: parts.wal.clone(),
            engine: Arc::clone(&parts.engine),
            clock: Arc::clone(&parts.clock),
            poison: parts.poison.clone(),
            stopping: Arc::clone(&parts.stopping),
            checkpoint_due: parts.clock.monotonic() + CHECKPOINT_INTERVAL,
            replay_end: Some(parts.wal.marks().durable),
        }
    }

    /// Feeds until the server stops. A frame that cannot be read back throws the poison, as a panic
    /// does: what it holds was acknowledged, so going on without it would lose it in silence.
    pub fn run(mut self) {
        let _abandoned = AbandonOnPanic(Arc::clone(&self.marks));
        let _panic = self.poison.on_panic("the feeder of the shards panicked");
        match self.feed() {
            Err(Ended::Stopping) | Ok(()) => {}
            Err(cause) => {
                let source = std::error::Error::source(&cause).map(ToString::to_string);
                error!(%cause, source, "the log cannot be read back; nothing more is accepted");
                self.poison.throw(format!("{cause}: {}", source.unwrap_or_default()));
                self.marks.abandon();
            }
        }
    }

    fn feed(&mut self) -> Result<(), Ended> {
        // What was stored before must be known before the first frame: executing one twice would reject
        // what it has stored itself.
        while !self.engine.knows_stored() {
            self.look_after()?;
            self.clock.sleep(TURN);
        }
        self.stored = (0..self.queues.len()).map(|at| self.stored_of(at)).collect();
        if let Some(end) = self.replay_end.filter(|end| self.marks.applied() < *end) {
            self.engine.replay_begins(end);
        }
        loop {
            self.look_after()?;
            let gathered = self.gather();
            // What came before a frame that cannot be read is executed all the same.
            self.hand_out()?;
            gathered?;
        }
    }

    /// Waits for a frame, and takes along what else is durable by then.
    fn gather(&mut self) -> Result<(), Ended> {
        assert!(self.fed.is_empty(), "what was gathered before is handed out");
        let mut wait = TURN;
        let mut bytes = 0;
        while self.fed.len() < GATHERED_FRAMES_MAX && bytes < GATHERED_BYTES_MAX {
            let Some(frame) = self.reader.next(wait)? else { break };
            bytes += frame.payload().len();
            wait = Duration::ZERO;
            self.take(&frame)?;
        }
        Ok(())
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Ended> {
        // The log's checkpoint lags behind the engine's by a second, and that may be a million records:
        // a start after a crash has better to do than to look at each of them twice.
        if self.stored.iter().all(|stored| frame.lsn() <= stored.min) {
            // Executed already, so nobody asks for its age.
            self.fed.push(Fed { lsn: frame.lsn(), parts: 0, received_ns: 0 });
            return Ok(());
        }
        let payload = Payload::open(frame.payload())?;
        let shards = self.queues.len();
        let mut parts = 0;
        for (at, gathered) in self.gathered.iter_mut().enumerate() {
            let filter = self.stored[at].filter(frame.lsn(), &payload, (at, shards));
            if let Some(filter) = filter {
                parts += 1;
                gathered.push_back(Work { frame: frame.clone(), filter });
            }
        }
        self.fed.push(Fed { lsn: frame.lsn(), parts, received_ns: payload.received_ns() });
        Ok(())
    }

    fn hand_out(&mut self) -> Result<(), Ended> {
        let parts: usize = self.fed.iter().map(|fed| fed.parts as usize).sum();
        let gathered: usize = self.gathered.iter().map(VecDeque::len).sum();
        assert_eq!(parts, gathered, "the marks wait for each part, and for no other");
        // Before the first is sent: a worker may be done before the second.
        self.marks.fed(&self.fed);
        self.fed.clear();
        for at in 0..self.queues.len() {
            self.send(at)?;
        }
        Ok(())
    }

    fn stored_of(&self, shard: usize) -> Stored {
        let own = Bucket::all().filter(|bucket| bucket.shard(self.queues.len()) == shard);
        let marks: Vec<Lsn> = own.map(|bucket| self.engine.stored(bucket)).collect();
        let min = *marks.iter().min().expect("a shard owns at least one bucket");
        let max = *marks.iter().max().expect("a shard owns at least one bucket");
        assert!(min <= max, "of the same buckets");
        Stored { min, max }
    }

    /// Waits for room in the queue of shard `at`; a full one is how a slow engine holds the log.
    fn send(&mut self, at: usize) -> Result<(), Ended> {
        while !self.gathered[at].is_empty() {
            // A worker that ended was told to stop, or has thrown the poison.
            let sent = self.queues[at].send(&mut self.gathered[at], TURN);
            sent.map_err(|_abandoned| Ended::Stopping)?;
            if !self.gathered[at].is_empty() {
                self.look_after()?;
            }
        }
        Ok(())
    }

    /// What must go on even when there is nothing to feed, or no room.
    fn look_after(&mut self) -> Result<(), Ended> {
        // Acquire: pairs with the Release store of the stop.
        if self.stopping.load(Ordering::Acquire) {
            return Err(Ended::Stopping);
        }
        if self.replay_end.is_some_and(|end| self.marks.applied() >= end) {
            self.replay_end = None;
            self.engine.replay_ended();
        }
        let now = self.clock.monotonic();
        if now >= self.checkpoint_due {
            self.checkpoint_due = now + CHECKPOINT_INTERVAL;
            self.checkpoint();
            for (queue, gauge) in self.queues.iter().zip(&self.waiting) {
                gauge.set(i64::try_from(queue.waiting()).unwrap_or(i64::MAX));
            }
            self.check_engine()?;
        }
        Ok(())
    }

    /// An engine that only a restart mends ends the server: going on would fill the log for nothing.
    fn check_engine(&self) -> Result<(), Ended> {
        let state = self.engine.state();
        if !state.needs_restart {
            return Ok(());
        }
        let fault = state.fault.unwrap_or_default();
        error!(fault, "the engine needs a restart; nothing more is accepted");
        self.poison.throw(format!("the engine needs a restart: {fault}"));
        self.marks.abandon();
        Err(Ended::Stopping)
    }

    /// Tells the log what is stored outside it, and the engine when the log runs out of room.
    fn checkpoint(&self) {
        // Not past the applied mark: a frame still in a queue must be found again.
        let applied = self.marks.applied();
        let checkpoint = self.engine.checkpoint().min(applied);
        if let Err(error) = self.wal.checkpoint(checkpoint) {
            warn!(%error, %checkpoint, "checkpoint not written; the log keeps more than it must");
        }
        // One row in memory holds the log, however many frames after it left none: repeats, and what
        // was refused. Left to its interval, the engine would flush it long after the log is full.
        let log = self.wal.state();
        if checkpoint < applied && log.bytes > log.bytes_max / RELIEVED_SHARE {
            self.engine.relieve();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::record::codec::PayloadBuilder;
    use crate::record::{Attribute, Origin, Reason, Record, Refusal, TableId, Value};

    use super::*;

    /// A frame of two shards whose one record is the second's; with a refused line if `is_refusing`.
    fn frame(is_refusing: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for measure in (0..).map(|at| format!("m{at}")) {
            let mut builder = PayloadBuilder::new(2);
            builder.start(0);
            let attributes = vec![Attribute { name: "a", value: Value::Bigint(1) }];
            let record = Record { measure_name: &measure, attributes, ..Record::default() };
            let ids = (builder.family(TableId(1), &record).0, builder.layout(&record).0);
            builder.push(ids, &record, 0, 1);
            if is_refusing {
                let origin = Origin { number: 1, text: b"?", ..Origin::default() };
                let (reason, message) = (Reason::Forbidden, String::new());
                builder.push_refused(("d", ""), &Refusal { origin, column: 0, reason, message });
            }
            builder.finish(&mut bytes);
            if Payload::open(&bytes).unwrap().records_in(1) == 1 {
                break;
            }
        }
        bytes
    }

    #[test]
    fn a_shard_looks_at_what_may_be_its_own_and_not_stored_yet() {
        let (plain, refusing) = (frame(false), frame(true));
        let stored = |min, max| Stored { min: Lsn(min), max: Lsn(max) };
        let (buckets, all) = (Some(Filter::Buckets), Some(Filter::None));
        for (bytes, stored, lsn, (at, shards), expected) in [
            (&plain, stored(5, 5), 6, (1, 2), all),
            (&plain, stored(5, 5), 5, (1, 2), None),
            (&plain, stored(4, 6), 5, (1, 2), buckets),
            (&plain, stored(4, 6), 7, (1, 2), all),
            (&plain, stored(0, 0), 1, (0, 2), None),
            (&refusing, stored(0, 0), 1, (0, 2), all),
            (&refusing, stored(0, 3), 1, (0, 2), buckets),
            (&refusing, stored(1, 3), 1, (0, 2), None),
            (&plain, stored(0, 0), 1, (0, 3), buckets),
            (&plain, stored(0, 0), 1, (2, 3), buckets),
            (&plain, stored(1, 1), 1, (2, 3), None),
        ] {
            let payload = Payload::open(bytes).unwrap();
            let found = stored.filter(Lsn(lsn), &payload, (at, shards));
            assert_eq!(found, expected, "{stored:?}, frame {lsn}, shard {at} of {shards}");
        }
    }
}
