//! The log on the machine's own disk: what is appended is acknowledged, read, found again.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::base::class::Class;
use tidegate::base::clock::SystemClock;
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::base::units::Bytes;
use tidegate::wal::{
    Appender, Commit, CommitError, Durability, Observer, Options, PAYLOAD_BYTES_MAX, Unobserved,
    Wal, WalError, scan,
};

/// Longer than any of these operations takes; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(dir: &Path) -> Options {
    Options { dir: dir.to_owned(), ..Options::default() }
}

fn open(options: &Options) -> Wal {
    Wal::open(options, SystemClock::shared(), Poison::new(), Arc::new(Unobserved)).unwrap()
}

/// Appends and returns where the answer arrives.
fn append(
    wal: &Wal,
    payload: &[u8],
    durability: Durability,
) -> (Lsn, Receiver<Result<Lsn, CommitError>>) {
    let (sender, receiver) = mpsc::channel();
    let done = Box::new(move |result| sender.send(result).unwrap());
    (wal.append(payload, durability, done).unwrap(), receiver)
}

fn commit(wal: &Wal, payload: &[u8]) -> Lsn {
    let (lsn, answer) = append(wal, payload, Durability::Sync);
    assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), Ok(lsn));
    lsn
}

fn read_all(wal: &Wal, from: Lsn) -> Vec<(Lsn, Vec<u8>)> {
    let mut reader = wal.reader(from);
    let mut frames = Vec::new();
    while let Some(frame) = reader.next(Duration::ZERO).unwrap() {
        frames.push((frame.lsn(), frame.payload().to_vec()));
    }
    frames
}

fn payload(n: u64) -> Vec<u8> {
    let length = usize::try_from(n * 37 % 500).unwrap();
    let mut payload = vec![n.to_le_bytes()[0]; length];
    payload.extend_from_slice(&n.to_le_bytes());
    payload
}

#[test]
fn what_is_acknowledged_is_found_after_a_restart() {
    for appender in [Appender::Pwrite, Appender::Map] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { appender, ..options(dir.path()) };
        let wal = open(&options);
        let written: Vec<_> = (1..=50).map(|n| (commit(&wal, &payload(n)), payload(n))).collect();
        assert_eq!(
            written.iter().map(|(lsn, _)| lsn.0).collect::<Vec<_>>(),
            (1..=50).collect::<Vec<_>>()
        );
        assert_eq!(read_all(&wal, Lsn(1)), written);
        drop(wal);
        let wal = open(&options);
        let recovery = wal.recovery();
        assert_eq!((recovery.frames, recovery.first, recovery.last), (50, Lsn(1), Lsn(50)));
        assert_eq!(recovery.torn_bytes, 0);
        assert_eq!(read_all(&wal, Lsn(1)), written);
        assert_eq!(read_all(&wal, Lsn(20)), written[19..]);
        assert_eq!(commit(&wal, b"after"), Lsn(51));
        assert_eq!(read_all(&wal, Lsn(50)), [written[49].clone(), (Lsn(51), b"after".to_vec())]);
    }
}

#[test]
fn every_durability_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    for durability in [Durability::Memory, Durability::Interval, Durability::Sync] {
        let (lsn, answer) = append(&wal, b"x", durability);
        assert_eq!(answer.recv_timeout(PATIENCE).unwrap(), Ok(lsn), "{durability}");
    }
    // Nobody asks for a sync; the interval brings it.
    let (lsn, _answer) = append(&wal, b"x", Durability::Interval);
    let frame = wal.reader(lsn).next(PATIENCE).unwrap().expect("synced by itself");
    assert_eq!(frame.lsn(), lsn);
    assert_eq!(wal.marks().durable, lsn);
}

#[test]
fn closing_syncs_and_answers_all_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let answers: Vec<_> = (0..100).map(|n| append(&wal, &payload(n), Durability::Memory)).collect();
    let mut reader = wal.reader(Lsn(1));
    wal.close();
    wal.close();
    for (lsn, answer) in answers {
        assert_eq!(answer.recv().unwrap(), Ok(lsn));
        assert_eq!(reader.next(PATIENCE).unwrap().unwrap().lsn(), lsn);
    }
    assert!(reader.next(PATIENCE).unwrap().is_none(), "drained, and told at once");
    let refused = wal.append(b"x", Durability::Memory, Box::new(|_| unreachable!())).unwrap_err();
    assert!(matches!(refused, WalError::Closed));
    assert_eq!(refused.class(), Class::Busy);
    assert!(wal.state().closed);
    assert!(matches!(wal.checkpoint(Lsn(1)), Err(WalError::Closed)));
}

#[test]
fn a_payload_that_fits_no_frame_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let largest = vec![7; PAYLOAD_BYTES_MAX];
    assert_eq!(commit(&wal, &largest), Lsn(1));
    let too_large = vec![7; PAYLOAD_BYTES_MAX + 1];
    let refused =
        wal.append(&too_large, Durability::Sync, Box::new(|_| unreachable!())).unwrap_err();
    assert_eq!(refused.class(), Class::Refused);
    assert!(matches!(refused, WalError::TooLarge { max: PAYLOAD_BYTES_MAX, .. }), "{refused}");
    assert_eq!(wal.reader(Lsn(1)).next(PATIENCE).unwrap().unwrap().payload(), largest);
}

#[test]
fn a_second_log_in_the_same_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let second =
        Wal::open(&options(dir.path()), SystemClock::shared(), Poison::new(), Arc::new(Unobserved));
    let refused = second.unwrap_err().to_string();
    assert!(refused.contains(&dir.path().join("lock").display().to_string()), "{refused}");
    assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    drop(wal);
    open(&options(dir.path()));
}

#[test]
fn a_file_system_that_cannot_keep_the_promise_is_refused() {
    let refused = Wal::open(
        &options(Path::new("/proc/self/fd")),
        SystemClock::shared(),
        Poison::new(),
        Arc::new(Unobserved),
    );
    let refused = refused.unwrap_err();
    assert!(matches!(refused, WalError::FileSystem { .. }), "{refused}");
    assert!(refused.to_string().contains("ext4"), "{refused}");
}

#[test]
fn a_poisoned_log_takes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let poison = Poison::new();
    let options = options(dir.path());
    let wal =
        Wal::open(&options, SystemClock::shared(), poison.clone(), Arc::new(Unobserved)).unwrap();
    commit(&wal, b"before");
    poison.throw("a test");
    let refused = wal.append(b"x", Durability::Sync, Box::new(|_| unreachable!())).unwrap_err();
    assert_eq!(refused.class(), Class::Fault);
    assert_eq!(wal.state().poison.as_deref(), Some("a test"));
    assert!(matches!(wal.checkpoint(Lsn(1)), Err(WalError::Poisoned { .. })));
}

#[test]
fn a_checkpoint_frees_segments_and_holds_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: Bytes::mib(49), ..options(dir.path()) };
    assert_eq!(options.problems(), Vec::<String>::new());
    let wal = open(&options);
    let large = vec![1; 20 << 20];
    let last = (0..6).fold(Lsn::ZERO, |_, _| append_when_there_is_room(&wal, &large));
    assert_eq!(wal.state().segments, 3);
    wal.set_applied(last);
    wal.checkpoint(Lsn(4)).unwrap();
    assert_eq!(wal.state().segments, 1);
    wal.checkpoint(Lsn(2)).unwrap();
    assert_eq!(wal.marks().checkpoint, Lsn(4), "a lower checkpoint is ignored");
    assert!(matches!(wal.reader(Lsn(1)).next(PATIENCE), Err(WalError::Reclaimed { .. })));
    assert!(matches!(wal.checkpoint(last.next()), Err(WalError::Ahead { .. })));
    drop(wal);
    let wal = open(&options);
    assert_eq!(wal.marks().checkpoint, Lsn(4));
    let found: Vec<_> = read_all(&wal, Lsn(5)).into_iter().map(|(lsn, _)| lsn.0).collect();
    assert_eq!(found, [5, 6]);
}

/// Appends a frame; the next segment may not be there yet, which is answered "full".
fn append_when_there_is_room(wal: &Wal, payload: &[u8]) -> Lsn {
    loop {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        match wal.append(payload, Durability::Sync, done) {
            Ok(lsn) => {
                assert_eq!(receiver.recv_timeout(PATIENCE).unwrap(), Ok(lsn));
                return lsn;
            }
            Err(error) => assert_eq!(error.class(), Class::Busy, "{error}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_frame_that_is_held_keeps_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: Bytes::mib(49), ..options(dir.path()) };
    let wal = open(&options);
    let held_payload = vec![0xaa; 40 << 20];
    append_when_there_is_room(&wal, &held_payload);
    let held = wal.reader(Lsn(1)).next(PATIENCE).unwrap().unwrap();
    for n in 2..=8_u8 {
        let lsn = append_when_there_is_room(&wal, &vec![n; 40 << 20]);
        wal.set_applied(lsn);
        wal.checkpoint(lsn).unwrap();
    }
    assert_eq!(held.payload(), held_payload);
}

#[test]
fn tools_read_beside_the_server_without_a_lock() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let written: Vec<_> = (1..=20).map(|n| (commit(&wal, &payload(n)), payload(n))).collect();
    let read: Result<Vec<_>, _> = scan::read_only(dir.path()).unwrap().collect();
    assert_eq!(read.unwrap(), written);
    drop(wal);
    let wal = open(&options(dir.path()));
    commit(&wal, b"in the next segment");
    let read: Result<Vec<_>, _> = scan::read_only(dir.path()).unwrap().collect();
    assert_eq!(read.unwrap().len(), 21);
    assert_eq!(wal.marks().durable, Lsn(21));
}

#[test]
fn tools_name_the_frame_that_is_not_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: Bytes(64 << 10), ..options(dir.path()) };
    let wal = open(&options);
    for n in 1..=10 {
        append_when_there_is_room(&wal, &vec![n; 20_000]);
    }
    drop(wal);
    // Three frames a segment: the second of the second segment.
    let path = dir.path().join("00000000000000000002.wal");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 20_032 + 1000] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let read: Vec<_> = scan::read_only(dir.path()).unwrap().collect();
    assert_eq!(read.iter().filter(|frame| frame.is_ok()).count(), 4);
    let error = read.last().unwrap().as_ref().unwrap_err();
    assert!(
        matches!(error, WalError::Corrupt { segment: 2, offset: 24_128, lsn: Lsn(5) }),
        "{error}",
    );
    std::fs::remove_file(&path).unwrap();
    let read: Vec<_> = scan::read_only(dir.path()).unwrap().collect();
    assert!(matches!(read.last(), Some(Err(WalError::Corrupt { lsn: Lsn(4), .. }))), "{read:?}");
}

#[test]
fn who_waits_and_panics_poisons_the_log_and_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    wal.append(b"x", Durability::Sync, Box::new(|_| panic!("a waiter"))).unwrap();
    let (sender, receiver) = mpsc::channel();
    // Appended or refused, depending on who is faster; told in any case.
    match wal.append(b"y", Durability::Sync, Box::new(move |r| sender.send(r).unwrap())) {
        Ok(_) => drop(receiver.recv_timeout(PATIENCE).unwrap()),
        Err(error) => assert_eq!(error.class(), Class::Fault),
    }
    wal.close();
    assert!(wal.state().poison.is_some());
}

/// A bug in who listens.
#[derive(Debug)]
struct Panics;

impl Observer for Panics {
    fn committed(&self, _commit: &Commit) {
        unreachable!("an observer that panics");
    }
}

#[test]
fn a_commit_thread_that_panics_poisons_the_log_and_leaves_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let observer = Arc::new(Panics);
    let poison = Poison::new();
    let wal =
        Wal::open(&options(dir.path()), SystemClock::shared(), poison.clone(), observer).unwrap();
    let mut answers = Vec::new();
    loop {
        let (sender, receiver) = mpsc::channel();
        let done = Box::new(move |result| sender.send(result).unwrap());
        match wal.append(b"x", Durability::Sync, done) {
            Ok(_) => answers.push(receiver),
            Err(error) => {
                assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
                break;
            }
        }
    }
    for answer in answers {
        if answer.recv_timeout(PATIENCE).unwrap().is_err() {
            assert!(poison.is_thrown());
        }
    }
    assert!(wal.reader(wal.marks().appended.next()).next(PATIENCE).unwrap().is_none());
}

#[test]
fn the_last_handle_may_go_with_a_waiter() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let mut reader = wal.reader(Lsn(1));
    let last = wal.clone();
    wal.append(b"x", Durability::Sync, Box::new(move |_| drop(last))).unwrap();
    drop(wal);
    assert_eq!(reader.next(PATIENCE).unwrap().unwrap().payload(), b"x");
    assert!(reader.next(PATIENCE).unwrap().is_none());
}

/// Counts what it hears.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<Commit>>);

impl Observer for Heard {
    fn committed(&self, commit: &Commit) {
        self.0.lock().unwrap().push(*commit);
    }
}

#[test]
fn an_observer_hears_of_every_frame_and_sync() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = Arc::<Heard>::clone(&heard);
    let wal =
        Wal::open(&options(dir.path()), SystemClock::shared(), Poison::new(), observer).unwrap();
    for n in 1..=10 {
        commit(&wal, &payload(n));
    }
    wal.close();
    let commits = heard.0.lock().unwrap();
    assert_eq!(commits.iter().map(|c| c.frames).sum::<u64>(), 10);
    assert!(commits.iter().all(|c| c.sync.is_some()));
    assert!(commits.iter().all(|c| c.bytes % 8 == 0));
}

#[test]
fn many_writers_get_numbers_of_their_own_and_a_reader_sees_all() {
    const WRITERS: u64 = 16;
    const EACH: u64 = 200;
    let dir = tempfile::tempdir().unwrap();
    let wal = open(&options(dir.path()));
    let mut reader = wal.reader(Lsn(1));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let wal = wal.clone();
            scope.spawn(move || {
                for n in 0..EACH {
                    commit(&wal, &payload(writer * EACH + n));
                }
            });
        }
        let mut seen = Vec::new();
        for expected in 1..=WRITERS * EACH {
            let frame = reader.next(PATIENCE).unwrap().expect("all arrive");
            assert_eq!(frame.lsn(), Lsn(expected));
            let tail = frame.payload().last_chunk::<8>().unwrap();
            seen.push(u64::from_le_bytes(*tail));
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..WRITERS * EACH).collect::<Vec<_>>());
    });
}
