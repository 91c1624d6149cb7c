//! Reads durable frames and hands them to the shards, in the order of the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{SendTimeoutError, Sender};
use prometheus::IntGauge;
use tracing::{error, warn};

use super::marks::{AbandonOnPanic, Marks};
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

/// How often the log is told the engine's checkpoint.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);

/// The engine is asked to flush when the log has filled one part in so many of its bound.
const RELIEVED_SHARE: u64 = 2;

/// The state of the feeding thread.
#[derive(Debug)]
pub struct Feeder {
    reader: Reader,
    queues: Vec<Sender<Work>>,
    marks: Arc<Marks>,
    wal: Wal,
    engine: Arc<dyn TableEngine>,
    clock: SharedClock,
    poison: Poison,
    stopping: Arc<AtomicBool>,
    /// The engine has stored all of the frames up to here, so nobody needs to look at them.
    stored_min: Lsn,
    /// The engine has stored nothing of later frames, so their buckets need no look.
    stored_max: Lsn,
    checkpoint_due: Duration,
    /// Frames waiting for each shard. Set here now and then: a worker sets its own between two turns, and
    /// one that is stuck in a turn has the queue that matters.
    waiting: Vec<IntGauge>,
}

impl Feeder {
    /// A feeder of `queues`, one a shard, with what `reader` gives.
    pub fn new(
        parts: &Parts,
        reader: Reader,
        queues: Vec<Sender<Work>>,
        marks: Arc<Marks>,
    ) -> Self {
        let gauge =
            |at: usize| parts.metrics.shard_queue_frames.with_label_values(&[&at.to_string()]);
        let waiting = (0..queues.len()).map(gauge).collect();
        Self {
            waiting,
            reader,
            queues,
            marks,
            wal: parts.wal.clone(),
            engine: Arc::clone(&parts.engine),
            clock: Arc::clone(&parts.clock),
            poison: parts.poison.clone(),
            stopping: Arc::clone(&parts.stopping),
            stored_min: Lsn::ZERO,
            stored_max: Lsn::ZERO,
            checkpoint_due: parts.clock.monotonic() + CHECKPOINT_INTERVAL,
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
        let stored = || Bucket::all().map(|bucket| self.engine.stored(bucket));
        self.stored_min = stored().min().unwrap_or_default();
        self.stored_max = stored().max().unwrap_or_default();
        assert!(self.stored_min <= self.stored_max, "of the same buckets");
        loop {
            self.look_after()?;
            if let Some(frame) = self.reader.next(TURN)? {
                self.hand_out(&frame)?;
            }
        }
    }

    fn hand_out(&mut self, frame: &Frame) -> Result<(), Ended> {
        // The log's checkpoint lags behind the engine's by a second, and that may be a million records:
        // a start after a crash has better to do than to look at each of them twice.
        if frame.lsn() <= self.stored_min {
            // Executed already, so nobody asks for its age.
            self.marks.fed(frame.lsn(), 0, 0);
            return Ok(());
        }
        let payload = Payload::open(frame.payload())?;
        let filter = self.filter(frame.lsn(), &payload);
        let takers: Vec<usize> =
            (0..self.queues.len()).filter(|at| takes(&payload, *at, filter)).collect();
        let parts = u32::try_from(takers.len()).expect("at most BUCKETS shards");
        // Before the first send: a worker may be done before the second.
        self.marks.fed(frame.lsn(), parts, payload.received_ns());
        for at in takers {
            self.send(at, Work { frame: frame.clone(), filter })?;
        }
        Ok(())
    }

    fn filter(&self, lsn: Lsn, payload: &Payload<'_>) -> Filter {
        if payload.sections() == self.queues.len() && lsn > self.stored_max {
            Filter::None
        } else {
            Filter::Buckets
        }
    }

    /// Waits for room in the queue of shard `at`; a full one is how a slow engine holds the log.
    fn send(&mut self, at: usize, work: Work) -> Result<(), Ended> {
        let mut work = work;
        loop {
            match self.queues[at].send_timeout(work, TURN) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => work = back,
                // The worker ended: it was told to stop, or it has thrown the poison.
                Err(SendTimeoutError::Disconnected(_)) => return Err(Ended::Stopping),
            }
            self.look_after()?;
        }
    }

    /// What must go on even when there is nothing to feed, or no room.
    fn look_after(&mut self) -> Result<(), Ended> {
        // Acquire: pairs with the Release store of the stop.
        if self.stopping.load(Ordering::Acquire) {
            return Err(Ended::Stopping);
        }
        let now = self.clock.monotonic();
        if now >= self.checkpoint_due {
            self.checkpoint_due = now + CHECKPOINT_INTERVAL;
            self.checkpoint();
            for (queue, gauge) in self.queues.iter().zip(&self.waiting) {
                gauge.set(i64::try_from(queue.len()).unwrap_or(i64::MAX));
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

/// Whether shard `at` has to look at the frame.
fn takes(payload: &Payload<'_>, at: usize, filter: Filter) -> bool {
    match filter {
        // Refused lines are the first shard's to report.
        Filter::None => payload.records_in(at) > 0 || (at == 0 && payload.refused_count() > 0),
        Filter::Buckets => true,
    }
}
