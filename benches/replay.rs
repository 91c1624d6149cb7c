//! How many records a second does the way out execute, from opening the log of a crashed server on,
//! when the engine costs nothing?
//!
//! Estimate: a record of ten tags and ten fields takes some 110 bytes of the log, read past the page
//! cache at 1 to 2 GB/s by the recovery, and 60 ns to be found in its frame and put into a batch, on
//! two shards: 8 million records a second once the log is open. The engine's own cost is the question
//! of `benches/engine.rs`.
//!
//! `cargo bench --bench replay`. The log is made by the way in, from line protocol; medians of
//! [`TURNS`] turns, each of which opens the log anew and waits until its last frame is executed.
//! Machine and figures: `benches/README.md`.

#[path = "common/lines.rs"]
mod lines;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidegate::base::clock::{SharedClock, SystemClock};
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::base::units::Bytes;
use tidegate::batch;
use tidegate::engine::catalog::Catalog;
use tidegate::engine::{EngineError, EngineState, Row, Selection, ShardId, TableEngine, TimeRange};
use tidegate::ingest::{self, Ask, Durability, Ingest, Partial, Protocol};
use tidegate::metrics::Metrics;
use tidegate::object::Store;
use tidegate::protocol::line;
use tidegate::record::TableId;
use tidegate::record::codec::Bucket;
use tidegate::record::request::{Outcome, WriteRequest};
use tidegate::reject::{Claim, Reporter};
use tidegate::shard::{self, Shards};
use tidegate::wal::{self, Unobserved, Wal};

const TURNS: usize = 5;
const SHARDS: usize = 2;
const LINES: u64 = 2_000_000;

/// Says "stored" to everything, and counts.
#[derive(Debug, Default)]
struct Null {
    records: AtomicU64,
}

impl TableEngine for Null {
    fn write(
        &self,
        _shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        outcomes.extend(std::iter::repeat_n(Outcome::Stored, request.records.len()));
        self.records.fetch_add(request.records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn commit(&self, _shard: ShardId, _lsn: Lsn) -> Result<(), EngineError> {
        Ok(())
    }

    fn applied(&self, _lsn: Lsn) {}

    /// Nothing is ever stored, so every turn finds the whole log.
    fn checkpoint(&self) -> Lsn {
        Lsn::ZERO
    }

    fn stored(&self, _bucket: Bucket) -> Lsn {
        Lsn::ZERO
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn relieve(&self) {}

    fn scan(
        &self,
        _table: TableId,
        _range: TimeRange,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn newest(
        &self,
        _table: TableId,
        _selection: Selection<'_>,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn rows(&self, _table: TableId) -> u64 {
        0
    }

    fn state(&self) -> EngineState {
        EngineState::default()
    }

    fn close(&self) {}
}

/// A log and the way out of it.
struct Way {
    wal: Wal,
    engine: Arc<Null>,
    shards: Shards,
    catalog: Arc<Catalog>,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
}

impl Way {
    fn open(dir: &Path, clock: &SharedClock) -> Self {
        let options = wal::Options {
            dir: dir.join("wal"),
            bytes_max: Bytes::mib(8192),
            ..wal::Options::default()
        };
        let poison = Poison::new();
        let wal = Wal::open(&options, Arc::clone(clock), poison.clone(), Arc::new(Unobserved))
            .expect("the log opens");
        let catalog = Arc::new(Catalog::open(dir).expect("the catalog opens"));
        let metrics = Metrics::new().expect("the metrics do not contradict each other");
        let stopping = Arc::new(AtomicBool::new(false));
        let store = Arc::new(Store::in_directory(&dir.join("rejects")).expect("a folder is made"));
        let engine = Arc::new(Null::default());
        let parts = shard::Parts {
            wal: wal.clone(),
            engine: Arc::clone(&engine) as Arc<dyn TableEngine>,
            catalog: Arc::clone(&catalog),
            reporter: Reporter::new(
                Claim::new(store, "one".to_owned(), Lsn(u64::MAX), SystemClock::shared()),
                Arc::clone(clock),
                metrics.clone(),
                Arc::clone(&stopping),
            ),
            metrics: metrics.clone(),
            clock: Arc::clone(clock),
            poison,
            stopping: Arc::clone(&stopping),
        };
        let shards =
            Shards::start(&parts, SHARDS, &batch::Options::default()).expect("there are threads");
        Self { wal, engine, shards, catalog, metrics, stopping }
    }

    /// Waits until every frame is executed; returns the records.
    fn drain(&self, clock: &SharedClock) -> u64 {
        while self.wal.marks().applied < self.wal.marks().appended {
            clock.sleep(Duration::from_micros(500));
        }
        self.engine.records.load(Ordering::Relaxed)
    }

    fn close(self) {
        self.shards.stop();
        self.wal.close();
    }
}

fn main() {
    // `cargo test --benches` passes this; a bench is no test.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let clock = SystemClock::shared();
    for lines_a_frame in [5_000, 100] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a folder on the target's disk");
        fill(dir.path(), &clock, lines_a_frame);
        let (mut opening, mut executing) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            let started = clock.monotonic();
            let way = Way::open(dir.path(), &clock);
            let opened = clock.monotonic();
            assert_eq!(way.drain(&clock), LINES, "every record, once");
            executing.push(clock.monotonic().saturating_sub(opened));
            opening.push(opened.saturating_sub(started));
            way.close();
        }
        report(lines_a_frame, &mut opening, &mut executing);
    }
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn report(lines_a_frame: u64, opening: &mut [Duration], executing: &mut [Duration]) {
    let (opening, executing) = (median(opening), median(executing));
    let millions = |took: Duration| LINES as f64 / took.as_secs_f64() / 1e6;
    println!(
        "{lines_a_frame} records a frame: opened in {opening:.2?}, executed in {executing:.2?}: \
         {:.2} million records/s, with the opening {:.2}",
        millions(executing),
        millions(opening + executing),
    );
}

/// Takes [`LINES`] lines into a new log.
fn fill(dir: &Path, clock: &SharedClock, lines_a_frame: u64) {
    let way = Way::open(dir, clock);
    let parts = ingest::Parts {
        wal: way.wal.clone(),
        catalog: Arc::clone(&way.catalog),
        marks: Arc::clone(way.shards.marks()),
        metrics: way.metrics.clone(),
        clock: Arc::clone(clock),
        stopping: Arc::clone(&way.stopping),
    };
    let ingest = Ingest::new(parts, ingest::Options::default(), Durability::Memory, SHARDS);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for request in 0..LINES / lines_a_frame {
        let text = lines::body(request, lines_a_frame);
        let ask = Ask {
            protocol: Protocol::Line,
            database: "bench",
            received_ns: ingest.received_ns(),
            body_bytes: text.len(),
            durability: None,
            partial: Partial::Accept,
            reading: None,
        };
        let options = line::Options::new("bench", ask.received_ns);
        let accepted = ingest.accept(&ask, |sink| line::decode(text.as_bytes(), &options, sink));
        let receipt = runtime.block_on(accepted).expect("the log takes it");
        assert_eq!((receipt.accepted, receipt.refused), (lines_a_frame, 0));
    }
    assert_eq!(way.drain(clock), LINES);
    way.close();
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
