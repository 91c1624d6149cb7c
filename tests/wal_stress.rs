//! Many threads on one log of small segments, and processes that are killed while they write.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use tidegate::base::class::Class;
use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::base::units::Bytes;
use tidegate::wal::{Appender, Durability, Frame, Options, Unobserved, Wal, scan};

const PATIENCE: Duration = Duration::from_mins(1);

/// Smaller than the settings allow, so that a short run rotates and recycles often.
fn options(dir: &Path, appender: Appender) -> Options {
    Options {
        dir: dir.to_owned(),
        segment_bytes: Bytes(64 << 10),
        bytes_max: Bytes(1 << 20),
        appender,
        ..Options::default()
    }
}

fn open(options: &Options) -> Wal {
    Wal::open(options, SystemClock::shared(), Poison::new(), Arc::new(Unobserved)).unwrap()
}

/// The payload of a number: any reader can tell whether it is whole.
fn payload(n: u64) -> Vec<u8> {
    let mut state = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 8 + usize::try_from(state >> 50).unwrap() % 6000;
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.resize_with(length, || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    });
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    let n = u64::from_le_bytes(*bytes.first_chunk().unwrap());
    assert_eq!(bytes, payload(n), "payload {n} is whole");
    n
}

/// Appends when there is room; waits for the answer. `None` once the log is closed.
fn commit(wal: &Wal, n: u64, durability: Durability) -> Option<Lsn> {
    loop {
        let (sender, answer) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        match wal.append(&payload(n), durability, done) {
            Ok(lsn) => {
                assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), Ok(lsn));
                return Some(lsn);
            }
            Err(_) if wal.state().closed => return None,
            Err(error) => assert_eq!(error.class(), Class::Busy, "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Reads all that is committed, holds some frames for a while, checkpoints what it let go.
fn consume(wal: &Wal, committed: u64, stop: &AtomicBool) -> BTreeMap<Lsn, u64> {
    let mut reader = wal.reader(Lsn(1));
    let mut held: VecDeque<Frame> = VecDeque::new();
    let mut seen = BTreeMap::new();
    while (seen.len() as u64) < committed {
        let frame = reader.next(PATIENCE).unwrap().expect("all arrive");
        seen.insert(frame.lsn(), number(frame.payload()));
        wal.set_applied(frame.lsn());
        held.push_back(frame);
        if held.len() > 100 {
            let first = held.pop_front().unwrap();
            // Still what it was, although segments before it were recycled.
            number(first.payload());
            if first.lsn().0.is_multiple_of(7) {
                wal.checkpoint(first.lsn()).unwrap();
            }
        }
    }
    // Relaxed: says only that it is over.
    stop.store(true, Ordering::Relaxed);
    seen
}

#[test]
fn many_threads_lose_and_invent_nothing() {
    const WRITERS: u64 = 12;
    const EACH: u64 = 250;
    for appender in [Appender::Pwrite, Appender::Map] {
        let dir = tempfile::tempdir().unwrap();
        let options = options(dir.path(), appender);
        let wal = open(&options);
        let stop = AtomicBool::new(false);
        let seen = std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                let wal = wal.clone();
                scope.spawn(move || {
                    for n in 0..EACH {
                        let durability =
                            [Durability::Sync, Durability::Memory, Durability::Interval]
                                [usize::try_from(n % 3).unwrap()];
                        commit(&wal, writer * EACH + n, durability).unwrap();
                    }
                });
            }
            scope.spawn(|| watch(&wal, dir.path(), &stop));
            consume(&wal, WRITERS * EACH, &stop)
        });
        assert!(seen.keys().map(|lsn| lsn.0).eq(1..=WRITERS * EACH), "numbers are dense");
        let mut numbers: Vec<_> = seen.into_values().collect();
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(0..WRITERS * EACH), "each payload once");
        let marks = wal.marks();
        drop(wal);
        let wal = open(&options);
        assert_eq!(wal.marks().durable, marks.appended);
        assert_eq!(wal.marks().checkpoint, marks.checkpoint);
        assert!(marks.checkpoint.0 > WRITERS * EACH / 2, "it was checkpointed: {marks:?}");
    }
}

/// Looks at the log from outside and inside while it runs.
fn watch(wal: &Wal, dir: &Path, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let state = wal.state();
        assert!(state.bytes_total <= state.bytes_max, "{state:?}");
        assert_eq!(state.poison, None);
        let mut last = Lsn::ZERO;
        for frame in scan::read_only(dir).unwrap() {
            let (lsn, payload) = frame.unwrap();
            number(&payload);
            assert!(lsn > last, "frame {lsn} after {last}");
            last = lsn;
        }
    }
}

#[test]
fn closing_in_the_middle_answers_everybody() {
    for round in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let wal = open(&options(dir.path(), Appender::Pwrite));
        let committed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while let Some(lsn) = commit(&wal, 5, Durability::Sync) {
                        committed.fetch_max(lsn.0, Ordering::Relaxed);
                        if lsn.0 > 50 + round {
                            wal.close();
                        }
                        let applied = wal.marks().durable;
                        wal.set_applied(applied);
                        // Closed meanwhile, or not.
                        wal.checkpoint(applied).ok();
                    }
                });
            }
        });
        assert_eq!(wal.marks().durable, wal.marks().appended);
        assert!(committed.into_inner() <= wal.marks().durable.0);
    }
}

/// Where a child process of the test below writes; the test runs itself with this set.
const CHILD: &str = "TIDEGATE_WAL_CHILD";

/// The child: commits for ever and says what was acknowledged, one number a line.
#[test]
fn child_that_commits_until_it_is_killed() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let wal = open(&options(Path::new(&dir), Appender::Pwrite));
    let from = wal.marks().appended.0;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let wal = &wal;
            scope.spawn(move || {
                for turn in 0.. {
                    let durability =
                        if turn % 2 == 0 { Durability::Sync } else { Durability::Memory };
                    let n = from * 1000 + turn * 4 + writer;
                    let lsn = commit(wal, n, durability).unwrap();
                    let line = format!("\nack {} {n}\n", lsn.0);
                    std::io::stderr().write_all(line.as_bytes()).unwrap();
                    if lsn.0.is_multiple_of(20) {
                        wal.checkpoint(wal.marks().durable).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_it_acknowledged() {
    const ROUNDS: u64 = 10;
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_commits_until_it_is_killed", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let before = acknowledged.len();
        for line in lines.by_ref() {
            note(&line.unwrap(), &mut acknowledged);
            if acknowledged.len() - before > usize::try_from(100 + round * 37).unwrap() {
                break;
            }
        }
        child.kill().unwrap();
        // What it said before it died counts as well.
        lines.map_while(Result::ok).for_each(|line| note(&line, &mut acknowledged));
        child.wait().unwrap();
        assert!(acknowledged.len() > before + 100, "round {round} did something");
        let wal = open(&options(dir.path(), Appender::Pwrite));
        let recovery = wal.recovery();
        let (last, _) = acknowledged.last_key_value().unwrap();
        assert!(recovery.last >= *last, "round {round}: {recovery:?}, acknowledged {last}");
        let mut reader = wal.reader(recovery.checkpoint.next());
        while let Some(frame) = reader.next(Duration::ZERO).unwrap() {
            let n = number(frame.payload());
            assert_eq!(*acknowledged.get(&frame.lsn()).unwrap_or(&n), n, "round {round}");
        }
    }
}

fn note(line: &str, acknowledged: &mut BTreeMap<Lsn, u64>) {
    let mut words = line.split(' ');
    if words.next() != Some("ack") {
        return;
    }
    if let (Some(Ok(lsn)), Some(Ok(n))) =
        (words.next().map(str::parse), words.next().map(str::parse))
    {
        assert_eq!(acknowledged.insert(Lsn(lsn), n), None, "frame {lsn} was numbered twice");
    }
}
