//! Floor 3: the way out, from the log to the engine.
//!
//! ```text
//!            frames in LSN order             bounded queue a shard
//!  wal::Reader -----> feeder ---------------> worker 0: receive -> batch -> engine.write -> reject -> mark applied
//!  (durable only)        \-------------------> worker 1: ...
//! ```
//!
//! One **feeder** reads durable frames out of the mapped log and hands each to the shards that have
//! records in it; a **worker** a shard writes its records in the order of the log. A series always
//! belongs to the same shard, so two records of one series cannot overtake each other.
//!
//! Nothing depends on how a frame got into the log, so replay after a crash is the same loop: the
//! feeder starts behind the checkpoint, and a worker leaves out what the engine has
//! [stored](crate::engine::TableEngine::stored) already. And since a queue holds references into the
//! log and never bytes, an engine that is away for hours costs disk, not memory: the queues fill, the
//! feeder waits, the log grows to its bound, and the way in answers "busy".

pub mod marks;
pub mod queue;
pub mod feeder;
pub mod retry;
pub mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::clock::SharedClock;
use crate::base::poison::Poison;
use crate::base::thread::Thread;
use crate::engine::catalog::Catalog;
use crate::engine::{ShardId, TableEngine};
use crate::metrics::Metrics;
use crate::record::codec::BUCKETS;
use crate::reject::Reporter;
use crate::wal::Wal;
use crate::{batch, wal};

use feeder::Feeder;
use marks::Marks;
use worker::Worker;

/// Settings of the section `shards`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Writer threads, 1 to 64; 0 is one for each processor. More than processors gains nothing with
    /// the embedded engine. May change between starts.
    pub count: usize,
}

/// Frames that may wait for a shard. They are references into the log, so a long queue costs no
/// memory; it only has to cover the pauses between two turns of the feeder.
pub const QUEUE_FRAMES_MAX: usize = 1024;

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        if self.count <= BUCKETS {
            return Vec::new();
        }
        vec![format!("shards.count: {} is not in 0 to {BUCKETS}", self.count)]
    }

    /// The number of writer threads on this machine.
    pub fn effective_count(&self) -> usize {
        match self.count {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(BUCKETS),
            count => count,
        }
    }
}

/// What the shards work with.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The log.
    pub wal: Wal,
    /// The engine.
    pub engine: Arc<dyn TableEngine>,
    /// The names of databases and tables.
    pub catalog: Arc<Catalog>,
    /// The reject sink.
    pub reporter: Reporter,
    /// Every metric.
    pub metrics: Metrics,
    /// Time.
    pub clock: SharedClock,
    /// Thrown when a frame cannot be read back.
    pub poison: Poison,
    /// Set when the server stops; the same flag that the reporter watches.
    pub stopping: Arc<AtomicBool>,
}

/// The running feeder and workers.
#[derive(Debug)]
pub struct Shards {
    threads: Vec<Thread>,
    marks: Arc<Marks>,
    stopping: Arc<AtomicBool>,
}

impl Shards {
    /// Starts the feeder behind the log's checkpoint, and `count` workers.
    ///
    /// # Errors
    ///
    /// When the system has no thread to give; threads already started end by themselves once the
    /// feeder's end of their queue is gone.
    pub fn start(parts: &Parts, count: usize, batch: &batch::Options) -> io::Result<Self> {
        assert!((1..=BUCKETS).contains(&count), "checked with the settings");
        let checkpoint = parts.wal.marks().checkpoint;
        let most = i64::try_from(QUEUE_FRAMES_MAX).expect("a constant that fits");
        parts.metrics.shard_queue_limit_frames.set(most);
        let marks = Arc::new(Marks::new(checkpoint, parts.wal.clone(), Arc::clone(&parts.engine)));
        let mut threads = Vec::with_capacity(count + 1);
        let mut queues = Vec::with_capacity(count);
        for at in 0..count {
            let (sender, receiver) = queue::bounded(QUEUE_FRAMES_MAX);
            let id = ShardId(u16::try_from(at).expect("at most BUCKETS shards"));
            let worker = Worker::new(parts, id, count, receiver, Arc::clone(&marks), batch);
            threads.push(Thread::spawn(&format!("shard-{at}"), move || worker::run(worker))?);
            queues.push(sender);
        }
        let reader = parts.wal.reader(checkpoint.next());
        let feeder = Feeder::new(parts, reader, queues, Arc::clone(&marks));
        threads.push(Thread::spawn("shard-feeder", move || feeder.run())?);
        Ok(Self { threads, marks, stopping: Arc::clone(&parts.stopping) })
    }

    /// How far the shards got.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// Ends feeder and workers: what is in the queues is still written, the rest stays in the log.
    pub fn stop(self) {
        // Release: pairs with the Acquire loads of feeder and workers.
        self.stopping.store(true, Ordering::Release);
        for thread in self.threads {
            if let Err(panicked) = thread.join() {
                tracing::error!(%panicked, "a shard ended by a panic; the log keeps what it had not applied");
            }
        }
        self.marks.abandon();
    }
}

/// Why a loop of this module ends.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The engine has undone what the turn has written: all of it is executed again.
    #[error("the turn is undone")]
    Undone,
    /// A frame cannot be read.
    #[error("a frame cannot be read")]
    Codec(#[from] crate::record::codec::CodecError),
    /// A frame has records of a table that the catalog never had, so the two do not belong together.
    #[error("frame {lsn} has records of table number {table}, which the catalog never gave")]
    NeverNumbered {
        /// The frame.
        lsn: crate::base::lsn::Lsn,
        /// The number.
        table: crate::record::TableId,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Wal(#[from] wal::WalError),
    /// A report could not be written before the stop.
    #[error(transparent)]
    Unreported(#[from] crate::reject::Unreported),
}

#[cfg(test)]
mod tests;
