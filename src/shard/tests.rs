//! What happens when a thread on the way out ends: nothing goes on as if it were there.

mod queues;

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::*;
use crate::base::clock::SystemClock;
use crate::base::lsn::Lsn;
use crate::base::units::Bytes;
use crate::engine::catalog::{Profile, RejectLocation, Retention, TableSettings};
use crate::engine::{EngineError, EngineState, Row, Selection, TimeRange};
use crate::object::Store;
use crate::record::codec::{Bucket, CodecError, PayloadBuilder};
use crate::record::request::{Outcome, Rejection, WriteRequest};
use crate::record::{Attribute, Dimension, Reason, Record, TableId, Value};
use crate::reject::Claim;
use crate::wal::{Durability, Unobserved};

/// Longest time until a thread does what it must, on a busy machine.
const WAIT_MAX: Duration = Duration::from_mins(1);

type OnWrite = Box<dyn Fn(&WriteRequest<'_>) -> Result<Outcome, EngineError> + Send + Sync>;

/// An engine that does with every record of a batch what a test says, and remembers what it was given.
struct Scripted {
    on_write: OnWrite,
    /// What it has stored before it was started.
    stored: Lsn,
    committed: Mutex<Vec<Lsn>>,
    /// How many of the next commits undo their turn.
    undone: Mutex<u32>,
    /// Dropped when the engine is asked to flush.
    relieved: Mutex<Option<Sender<()>>>,
    /// What it was asked and told of a replay, in order.
    events: Mutex<Vec<&'static str>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Scripted")
    }
}

impl TableEngine for Scripted {
    fn write(
        &self,
        _shard: ShardId,
        request: &WriteRequest<'_>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        self.events.lock().unwrap().push("write");
        let outcome = (self.on_write)(request)?;
        outcomes.extend(std::iter::repeat_n(outcome, request.records.len()));
        Ok(())
    }

    fn commit(&self, _shard: ShardId, lsn: Lsn) -> Result<(), EngineError> {
        let mut undone = self.undone.lock().unwrap();
        if *undone > 0 {
            *undone -= 1;
            return Err(EngineError::Undone { what: "the test".to_owned() });
        }
        self.committed.lock().unwrap().push(lsn);
        Ok(())
    }

    fn applied(&self, _lsn: Lsn) {}

    fn replay_begins(&self, _end: Lsn) {
        self.events.lock().unwrap().push("begins");
    }

    fn replay_ended(&self) {
        self.events.lock().unwrap().push("ended");
    }

    fn checkpoint(&self) -> Lsn {
        Lsn::ZERO
    }

    fn stored(&self, _bucket: Bucket) -> Lsn {
        self.stored
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn relieve(&self) {
        // Asked every second; the test listens for the first time.
        drop(self.relieved.lock().unwrap().take());
    }

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

/// A log, one shard and a scripted engine in a folder of their own.
struct House {
    dir: tempfile::TempDir,
    parts: Parts,
    shards: Shards,
    engine: Arc<Scripted>,
    table: TableId,
}

impl House {
    fn new(
        on_write: impl Fn(&WriteRequest<'_>) -> Result<Outcome, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self::over(Lsn::ZERO, on_write)
    }

    /// The same with an engine that has stored the frames up to `stored` already.
    fn over(
        stored: Lsn,
        on_write: impl Fn(&WriteRequest<'_>) -> Result<Outcome, EngineError> + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = SystemClock::shared();
        let (poison, metrics) = (Poison::new(), Metrics::new().unwrap());
        let options = wal::Options {
            dir: dir.path().join("wal"),
            bytes_max: Bytes::mib(3 * 64),
            ..wal::Options::default()
        };
        let unobserved = Arc::new(Unobserved);
        let wal = Wal::open(&options, Arc::clone(&clock), poison.clone(), unobserved).unwrap();
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        let table = catalog.create("d", "t", &TableSettings::default()).unwrap().id;
        let (committed, undone, relieved, events) = Default::default();
        let on_write = Box::new(on_write);
        let engine = Arc::new(Scripted { on_write, stored, committed, undone, relieved, events });
        let stopping = Arc::new(AtomicBool::new(false));
        let store = Arc::new(Store::in_directory(&dir.path().join("rejects")).unwrap());
        let reporter = Reporter::new(
            Claim::new(store, "one".to_owned(), Lsn(u64::MAX), SystemClock::shared()),
            Arc::clone(&clock),
            metrics.clone(),
            Arc::clone(&stopping),
        );
        let of_shards = Arc::clone(&engine) as Arc<dyn TableEngine>;
        let parts =
            Parts { wal, engine: of_shards, catalog, reporter, metrics, clock, poison, stopping };
        let shards = Shards::start(&parts, 1, &batch::Options::default()).unwrap();
        Self { dir, parts, shards, engine, table }
    }

    /// Appends a frame with one record; the receiver hears when it is applied, or that it never is.
    fn append(&self, time_ns: i64) -> Receiver<Lsn> {
        self.append_text(time_ns, "a text")
    }

    fn append_text(&self, time_ns: i64, text: &str) -> Receiver<Lsn> {
        let payload = payload(self.table, time_ns, text);
        let done = Box::new(|_committed| {});
        let lsn = self.parts.wal.append(&payload, Durability::Sync, done).unwrap();
        let (sender, receiver) = channel();
        let told = Box::new(move |_| sender.send(lsn).expect("the test listens"));
        self.shards.marks().when_applied(lsn, told);
        receiver
    }
}

/// A payload of one record.
fn payload(table: TableId, time_ns: i64, text: &str) -> Vec<u8> {
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    let record = Record {
        measure_name: "m",
        dimensions: vec![Dimension { name: "site", value: "a" }],
        attributes: vec![Attribute { name: "v", value: Value::Varchar(text) }],
        ..Record::default()
    };
    let ids = (builder.family(table, &record).0, builder.layout(&record).0);
    builder.push(ids, &record, time_ns, 1);
    let mut payload = Vec::new();
    builder.finish(&mut payload);
    payload
}

#[test]
fn a_turn_gathers_small_frames_and_no_more_bytes_than_its_bound() {
    let house = House::new(|_| Ok(Outcome::Stored));
    let marks = Arc::clone(house.shards.marks());
    // What is appended here is no payload, and nobody shall look.
    house.shards.stop();
    let half = vec![0; worker::GATHERED_BYTES_MAX / 2];
    for payload in [&half[..], &half, &half, b"small", b"small"] {
        append_odd(&house.parts, payload);
    }
    let (sender, queue) = queue::bounded(QUEUE_FRAMES_MAX);
    sender.send(&mut works(&house.parts), Duration::ZERO).unwrap();
    drop(sender);
    let options = batch::Options::default();
    let mut worker = Worker::new(&house.parts, ShardId(0), 1, queue, marks, &options);
    let turns: Vec<usize> =
        std::iter::from_fn(|| worker.receive()).map(|work| work.len()).collect();
    assert_eq!(turns, [2, 3]);
}

/// All frames of the log, as they go into a queue.
fn works(parts: &Parts) -> VecDeque<feeder::Work> {
    let mut reader = parts.wal.reader(Lsn(1));
    std::iter::from_fn(|| reader.next(Duration::ZERO).unwrap())
        .map(|frame| feeder::Work { frame, filter: feeder::Filter::None })
        .collect()
}

/// Waits for a frame that is no payload to be durable.
fn append_odd(parts: &Parts, payload: &[u8]) {
    let (sender, committed) = channel();
    let done = Box::new(move |result| sender.send(result).expect("the test listens"));
    parts.wal.append(payload, Durability::Sync, done).unwrap();
    committed.recv_timeout(WAIT_MAX).unwrap().unwrap();
}

#[test]
fn a_queue_takes_what_it_has_room_for_and_gives_it_in_order() {
    let house = House::new(|_| Ok(Outcome::Stored));
    house.shards.stop();
    for _ in 0..5 {
        append_odd(&house.parts, b"1234");
    }
    let lsns = |work: &[feeder::Work]| work.iter().map(|one| one.frame.lsn().0).collect::<Vec<_>>();
    let (sender, queue) = queue::bounded(3);
    let mut work = works(&house.parts);
    sender.send(&mut work, Duration::ZERO).unwrap();
    assert_eq!((sender.waiting(), work.len(), queue.wait()), (3, 2, Some(12)));
    // Full: what is not taken stays with the sender.
    sender.send(&mut work, Duration::from_millis(1)).unwrap();
    assert_eq!((sender.waiting(), work.len()), (3, 2));
    let (first, stay) = queue.take(2, usize::MAX);
    assert_eq!(stay, 1);
    sender.send(&mut work, Duration::ZERO).unwrap();
    assert_eq!((queue.wait(), work.len()), (Some(12), 0));
    // The second brings it to the bound.
    let (second, stay) = queue.take(usize::MAX, 5);
    assert_eq!(stay, 1);
    drop(sender);
    assert_eq!(queue.wait(), Some(4), "what waits is still given");
    let (last, stay) = queue.take(1, 1);
    assert_eq!((stay, queue.wait()), (0, None));
    assert_eq!([lsns(&first), lsns(&second), lsns(&last)], [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn each_end_of_a_queue_hears_when_the_other_is_gone() {
    let house = House::new(|_| Ok(Outcome::Stored));
    house.shards.stop();
    append_odd(&house.parts, b"1234");
    let (sender, queue) = queue::bounded(1);
    let mut work = works(&house.parts);
    sender.send(&mut work, Duration::ZERO).unwrap();
    let mut more = works(&house.parts);
    // A sender that waits for room, far longer than the test may take.
    let (told, sent) = channel();
    let blocked = Thread::spawn("sender", move || {
        told.send(sender.send(&mut more, WAIT_MAX * 10)).expect("the test listens");
    });
    std::thread::yield_now();
    drop(queue);
    assert_eq!(sent.recv_timeout(WAIT_MAX), Ok(Err(queue::Abandoned)));
    blocked.unwrap().join().unwrap();
    let (sender, queue) = queue::bounded(1);
    let (told, waited) = channel();
    let waits = Thread::spawn("worker", move || told.send(queue.wait()).expect("the test listens"));
    drop(sender);
    assert_eq!(waited.recv_timeout(WAIT_MAX), Ok(None));
    waits.unwrap().join().unwrap();
}

#[test]
fn what_the_engine_took_is_applied() {
    let house = House::new(|_| Ok(Outcome::Stored));
    assert_eq!(house.append(1).recv_timeout(WAIT_MAX), Ok(Lsn(1)));
    assert_eq!(house.append(2).recv_timeout(WAIT_MAX), Ok(Lsn(2)));
    assert_eq!(house.parts.wal.marks().applied, Lsn(2));
    house.shards.stop();
    assert_eq!(*house.engine.committed.lock().unwrap(), [Lsn(1), Lsn(2)]);
}

#[test]
fn the_age_of_what_waits_is_known_until_it_is_applied() {
    let (open, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let house = House::new(move |_| {
        gate.lock().unwrap().recv_timeout(WAIT_MAX).expect("the test opens the gate");
        Ok(Outcome::Stored)
    });
    let marks = Arc::clone(house.shards.marks());
    assert_eq!(marks.oldest_received_ns(), None);
    let applied = house.append(1);
    let until = house.parts.clock.monotonic() + WAIT_MAX;
    while marks.oldest_received_ns().is_none() {
        assert!(house.parts.clock.monotonic() < until, "the frame is fed");
        std::thread::yield_now();
    }
    // As the payload says, not as the clock does: after a restart the time before it counts.
    assert_eq!(marks.oldest_received_ns(), Some(0));
    open.send(()).unwrap();
    applied.recv_timeout(WAIT_MAX).unwrap();
    assert_eq!(marks.oldest_received_ns(), None);
    house.shards.stop();
    let turns = house.parts.metrics.shard_turns.with_label_values(&["0"]).get();
    let busy = house.parts.metrics.shard_busy_seconds.with_label_values(&["0"]).get();
    assert!(turns == 1 && busy > 0.0, "{turns} turns, {busy} s");
}

/// The server must not acknowledge for hours what nobody executes any more.
#[test]
fn a_shard_that_panics_throws_the_poison_and_tells_who_waits() {
    let house = House::new(|_| panic!("as the test wants"));
    let never = Err(RecvTimeoutError::Disconnected);
    assert_eq!(house.append(1).recv_timeout(WAIT_MAX), never);
    assert!(house.parts.poison.reason().unwrap().contains("panicked"));
    // Whoever comes later waits no longer.
    let (sender, receiver) = channel();
    let told = Box::new(move |_| sender.send(Lsn(1)).expect("the test listens"));
    house.shards.marks().when_applied(Lsn(1), told);
    assert_eq!(receiver.recv_timeout(WAIT_MAX), never);
    house.shards.stop();
}

#[test]
fn the_engine_is_asked_to_flush_when_the_log_runs_out_of_room() {
    let house = House::new(|_| Ok(Outcome::Unchanged));
    let (sender, relieved) = channel();
    *house.engine.relieved.lock().unwrap() = Some(sender);
    house.append(1).recv_timeout(WAIT_MAX).unwrap();
    let large = "x".repeat(40 << 20);
    for time_ns in [2, 3] {
        house.append_text(time_ns, &large).recv_timeout(WAIT_MAX).unwrap();
    }
    assert_eq!(relieved.recv_timeout(WAIT_MAX), Err(RecvTimeoutError::Disconnected));
    house.shards.stop();
}

#[test]
fn a_frame_that_is_no_payload_throws_the_poison() {
    let house = House::new(|_| Ok(Outcome::Stored));
    house.parts.wal.append(b"no payload", Durability::Sync, Box::new(|_committed| {})).unwrap();
    let (sender, receiver) = channel();
    let told = Box::new(move |_| sender.send(Lsn(1)).expect("the test listens"));
    house.shards.marks().when_applied(Lsn(1), told);
    assert_eq!(receiver.recv_timeout(WAIT_MAX), Err(RecvTimeoutError::Disconnected));
    assert!(house.parts.poison.reason().unwrap().contains("cannot be read"));
}

/// Frames that are no payloads show that nobody looks: whoever did would throw the poison.
#[test]
fn a_frame_that_is_stored_whole_is_not_looked_at() {
    let house = House::over(Lsn(2), |_| Ok(Outcome::Stored));
    for _ in 1..=2 {
        let done = Box::new(|_committed| {});
        house.parts.wal.append(b"no payload", Durability::Sync, done).unwrap();
    }
    assert_eq!(house.append(1).recv_timeout(WAIT_MAX), Ok(Lsn(3)));
    assert!(!house.parts.poison.is_thrown());
    house.shards.stop();
    assert_eq!(*house.engine.committed.lock().unwrap(), [Lsn(3)]);
}

/// To try again would only hold the shard, and with it the log, without a word to anybody.
#[test]
fn a_record_that_the_engine_cannot_read_throws_the_poison() {
    let unreadable = CodecError::Malformed { part: "attributes" };
    let house = House::new(move |_| Err(EngineError::Codec(unreadable.clone())));
    assert_eq!(house.append(1).recv_timeout(WAIT_MAX), Err(RecvTimeoutError::Disconnected));
    assert!(house.parts.poison.is_thrown());
    house.shards.stop();
}

#[test]
fn who_waits_when_the_shards_stop_is_told_that_it_will_not_be() {
    let house = House::new(|_| Err(EngineError::Busy { what: "the test".to_owned() }));
    let waits = house.append(1);
    house.shards.stop();
    assert_eq!(waits.recv_timeout(WAIT_MAX), Err(RecvTimeoutError::Disconnected));
    assert!(!house.parts.poison.is_thrown());
    assert_eq!(*house.engine.committed.lock().unwrap(), []);
}

impl House {
    /// The keys of all reports.
    fn reports(&self) -> Vec<String> {
        let store = Store::in_directory(&self.dir.path().join("rejects")).unwrap();
        ["late", "records"].iter().flat_map(|below| store.list(below).unwrap()).collect()
    }
}

fn conflict() -> Outcome {
    Outcome::Rejected(Box::new(Rejection {
        reason: Reason::VersionConflict,
        message: "another value stands".to_owned(),
        existing_version: Some(1),
        stood: Vec::new(),
    }))
}

/// Also what a replay finds, whatever the table is called now.
#[test]
fn frames_of_a_deleted_table_are_dropped_without_a_report() {
    let house = House::new(|_| Ok(conflict()));
    house.parts.catalog.delete_table("d", "t").unwrap();
    assert!(house.parts.catalog.create("d", "t", &TableSettings::default()).is_ok());
    assert_eq!(house.append(1).recv_timeout(WAIT_MAX), Ok(Lsn(1)));
    assert_eq!(house.reports(), [""; 0]);
    assert_eq!(house.parts.metrics.shard_dropped_records.get(), 1);
    house.shards.stop();
}

/// A log beside another catalog: the next table that is made would get the records.
#[test]
fn a_frame_of_a_table_that_never_was_ends_the_server() {
    let mut house = House::new(|_| Ok(Outcome::Stored));
    house.table = TableId(77);
    assert!(house.append(1).recv_timeout(WAIT_MAX).is_err(), "nobody is told that it is applied");
    let reason = house.parts.poison.reason().expect("the poison is thrown").to_owned();
    assert!(reason.contains("frame 1 ") && reason.contains("table number 77"), "{reason}");
    assert_eq!(house.reports(), [""; 0]);
    house.shards.stop();
    assert_eq!(house.parts.wal.marks().applied, Lsn::ZERO, "the log keeps it");
}

#[test]
fn conflicts_of_the_magnetic_store_go_to_the_place_that_the_table_names() {
    const HOUR_NS: i64 = 3_600_000_000_000;
    let mut house = House::new(|_| Ok(conflict()));
    let bucket = "reports".to_owned();
    let key_prefix = Some("late/fleet".to_owned());
    let rejected_data =
        Some(RejectLocation { bucket, key_prefix, encryption: None, kms_key: None });
    let retention = Retention { memory_hours: 6, magnetic_days: 1, magnetic_writes: true };
    let strict = TableSettings {
        profile: Profile::Strict,
        retention,
        rejected_data: rejected_data.clone(),
        ..TableSettings::default()
    };
    let relaxed = TableSettings { profile: Profile::Relaxed, ..strict.clone() };
    let nowhere = TableSettings { rejected_data: None, ..strict.clone() };
    // All are received at 0.
    for (name, settings, time_ns, begin) in [
        ("a", &strict, -10 * HOUR_NS, "late/fleet/d/a/1970/01/01/"),
        ("b", &strict, -5 * HOUR_NS, "records/d/b/"),
        ("c", &relaxed, -10 * HOUR_NS, "records/d/c/"),
        ("d", &nowhere, -10 * HOUR_NS, "records/d/d/"),
    ] {
        let before = house.reports();
        house.table = house.parts.catalog.create("d", name, settings).unwrap().id;
        house.append(time_ns).recv_timeout(WAIT_MAX).unwrap();
        let mut made = house.reports();
        made.retain(|key| !before.contains(key));
        assert!(made.len() == 1 && made[0].starts_with(begin), "{name}: {made:?}");
    }
    house.shards.stop();
}

/// Whoever waits hears of each rejection once, and the metrics count each record once, however often the
/// turn was undone: in the middle of it, and at its end.
#[test]
fn a_turn_that_is_undone_is_executed_again_from_its_first_frame_and_told_once() {
    let undone = || EngineError::Undone { what: "the test".to_owned() };
    let attempts = Arc::new(Mutex::new(Vec::new()));
    let of_engine = Arc::clone(&attempts);
    let house = House::new(move |request| {
        let mut attempts = of_engine.lock().unwrap();
        attempts.push(request.records.iter().map(|view| view.time_ns).collect::<Vec<_>>());
        let rejection = Rejection {
            reason: Reason::VersionLower,
            message: "as the test wants".to_owned(),
            existing_version: Some(2),
            stood: Vec::new(),
        };
        if attempts.len() == 2 { Err(undone()) } else { Ok(Outcome::Rejected(Box::new(rejection))) }
    });
    *house.engine.undone.lock().unwrap() = 1;
    let mut builder = PayloadBuilder::new(1);
    builder.start(0);
    for time_ns in [1, 2] {
        let record = Record {
            measure_name: "m",
            dimensions: vec![Dimension { name: "site", value: "a" }],
            attributes: vec![Attribute { name: "v", value: Value::Bigint(time_ns) }],
            ..Record::default()
        };
        let ids = (builder.family(house.table, &record).0, builder.layout(&record).0);
        builder.push(ids, &record, time_ns, 1);
    }
    let mut payload = Vec::new();
    builder.finish(&mut payload);
    let (sender, receiver) = channel();
    let marks = Arc::clone(house.shards.marks());
    let done = Box::new(move |_committed| {
        let told = Box::new(move |verdicts| sender.send(verdicts).expect("the test listens"));
        marks.when_applied(Lsn(1), told);
    });
    house.parts.wal.append(&payload, Durability::Sync, done).unwrap();
    let verdicts: marks::Verdicts = receiver.recv_timeout(WAIT_MAX).unwrap();
    assert_eq!((verdicts.rejected, verdicts.named.len()), (2, 2));
    assert_eq!(*attempts.lock().unwrap(), [[1, 2], [1, 2], [1, 2]], "written, undone, and again");
    let rejected = house.parts.metrics.engine_outcomes.with_label_values(&["rejected"]);
    assert_eq!(rejected.get(), 2);
    let reported = house.parts.metrics.reject_records.with_label_values(&["version_lower"]);
    assert_eq!(reported.get(), 2, "once each, though their report was written twice");
    let reports = house.reports();
    let store = Store::in_directory(&house.dir.path().join("rejects")).unwrap();
    let sheet = crate::reject::entry::Sheet::parse(&store.get(&reports[0]).unwrap()).unwrap();
    assert_eq!((reports.len(), sheet.entries.len()), (1, 2), "reported once, each with its number");
    house.shards.stop();
    assert_eq!(*house.engine.committed.lock().unwrap(), [Lsn(1)]);
}
