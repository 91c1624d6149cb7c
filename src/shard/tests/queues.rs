//! Who sleeps at a queue is woken, and what came before a frame that cannot be read is not lost by it.

use super::*;

/// Waits until `is` holds, as long as a busy machine may need.
fn until(parts: &Parts, what: &str, is: impl Fn() -> bool) {
    let end = parts.clock.monotonic() + WAIT_MAX;
    while !is() {
        assert!(parts.clock.monotonic() < end, "waited for {what}");
        parts.clock.sleep(Duration::from_millis(1));
    }
}

/// Whether the only thread of this process with that name waits for another: it sleeps in a futex.
fn is_asleep(name: &str) -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let text = |thread: &std::fs::DirEntry, file: &str| {
        std::fs::read_to_string(thread.path().join(file)).unwrap_or_default()
    };
    let own = threads.filter(|thread| text(thread, "comm").trim() == name).collect::<Vec<_>>();
    assert!(own.len() <= 1, "{name} is a name of one thread");
    // State S: it waits, and not for the processor. Source: proc(5).
    own.first().is_some_and(|thread| text(thread, "stat").contains(") S "))
}

/// Goal: a wake-up that is left out holds a shard for ever. Method: the worker is seen to sleep before
/// each frame is sent, and nobody sends another or closes the queue until it has taken that one.
#[test]
fn a_worker_that_sleeps_is_woken_by_each_frame() {
    let house = House::new(|_| Ok(Outcome::Stored));
    house.shards.stop();
    for _ in 0..20 {
        append_odd(&house.parts, b"1234");
    }
    let (sender, queue) = queue::bounded(4);
    let (told, taken) = channel();
    let worker = Thread::spawn("sleeps-empty", move || {
        while queue.wait().is_some() {
            let (work, _stay) = queue.take(usize::MAX, usize::MAX);
            let lsns: Vec<u64> = work.iter().map(|one| one.frame.lsn().0).collect();
            told.send(lsns).expect("the test listens");
        }
    });
    for one in works(&house.parts) {
        until(&house.parts, "the worker to sleep", || is_asleep("sleeps-empty"));
        let lsn = one.frame.lsn().0;
        sender.send(&mut VecDeque::from([one]), Duration::ZERO).unwrap();
        assert_eq!(taken.recv_timeout(WAIT_MAX), Ok(vec![lsn]));
    }
    drop(sender);
    worker.unwrap().join().unwrap();
}

/// The same of a feeder that waits for room, of which it is told when something is taken out of a queue
/// that was full, however much.
#[test]
fn a_sender_that_waits_for_room_is_woken_by_each_take() {
    let house = House::new(|_| Ok(Outcome::Stored));
    house.shards.stop();
    for _ in 0..20 {
        append_odd(&house.parts, b"1234");
    }
    let (sender, queue) = queue::bounded(3);
    let mut work = works(&house.parts);
    let (told, sent) = channel();
    let feeder = Thread::spawn("sleeps-full", move || {
        while !work.is_empty() {
            // Far longer than the test may take: a wake-up that is left out is seen.
            sender.send(&mut work, WAIT_MAX * 10).expect("the test has the other end");
            told.send(work.len()).expect("the test listens");
        }
    });
    assert_eq!(sent.recv_timeout(WAIT_MAX), Ok(17), "as many as there is room for");
    let (mut seen, mut left) = (Vec::new(), 17);
    for room in [1, 2, 3].into_iter().cycle() {
        if left == 0 {
            break;
        }
        until(&house.parts, "the feeder to sleep", || is_asleep("sleeps-full"));
        let (work, _stay) = queue.take(room, usize::MAX);
        seen.extend(work.iter().map(|one| one.frame.lsn().0));
        left -= left.min(room);
        assert_eq!(sent.recv_timeout(WAIT_MAX), Ok(left));
    }
    feeder.unwrap().join().unwrap();
    let (last, stay) = queue.take(usize::MAX, usize::MAX);
    seen.extend(last.iter().map(|one| one.frame.lsn().0));
    assert_eq!((seen, stay), ((1..=20).collect(), 0), "each once, in order");
}

impl House {
    /// Ends the shards, and gives what others may be started with behind the same log.
    fn halted(self) -> (Parts, Arc<Scripted>, TableId, tempfile::TempDir) {
        self.shards.stop();
        let stopping = Arc::new(AtomicBool::new(false));
        self.engine.events.lock().unwrap().clear();
        (Parts { stopping, ..self.parts }, self.engine, self.table, self.dir)
    }
}

/// Goal: of frames that are gathered at once, one that cannot be read neither takes those before it along
/// nor is passed over. Method: all are in the log before the feeder begins, so it gathers them together.
#[test]
fn frames_before_one_that_cannot_be_read_are_executed_and_none_behind_it() {
    let house = House::new(|_| Ok(Outcome::Stored));
    let (parts, engine, table, _dir) = house.halted();
    for time_ns in 1..=3 {
        append_odd(&parts, &payload(table, time_ns, "good"));
    }
    append_odd(&parts, b"no payload");
    append_odd(&parts, &payload(table, 5, "good"));
    let shards = Shards::start(&parts, 1, &batch::Options::default()).unwrap();
    until(&parts, "the poison", || parts.poison.is_thrown());
    shards.stop();
    assert_eq!(engine.committed.lock().unwrap().last(), Some(&Lsn(3)), "and no further");
    let written = engine.events.lock().unwrap().iter().filter(|e| **e == "write").count();
    assert!((1..=3).contains(&written), "{written} batches");
    assert_eq!(parts.wal.marks().applied, Lsn(3), "the log keeps the others");
    assert!(parts.poison.reason().unwrap().contains("cannot be read"));
}

/// An engine puts off what would take a processor from a start, until it hears that the start is over.
#[test]
fn the_engine_hears_when_a_replay_begins_and_once_when_it_has_ended() {
    let house = House::new(|_| Ok(Outcome::Stored));
    for time_ns in 1..=3 {
        house.append(time_ns).recv_timeout(WAIT_MAX).unwrap();
    }
    let begun = house.engine.events.lock().unwrap().contains(&"begins");
    assert!(!begun, "an empty log is not replayed");
    let (parts, engine, table, _dir) = house.halted();
    let shards = Shards::start(&parts, 1, &batch::Options::default()).unwrap();
    let events = || engine.events.lock().unwrap().clone();
    until(&parts, "the end of the replay", || events().contains(&"ended"));
    assert_eq!(events().first(), Some(&"begins"), "before the first frame");
    assert_eq!(events().last(), Some(&"ended"), "behind the last");
    assert_eq!(shards.marks().applied(), Lsn(3));
    append_odd(&parts, &payload(table, 4, "later"));
    until(&parts, "another frame", || shards.marks().applied() == Lsn(4));
    shards.stop();
    let told: Vec<_> = events().into_iter().filter(|event| *event != "write").collect();
    assert_eq!(told, ["begins", "ended"], "once each");
}
