//! What does the log cost beyond the disk itself?
//!
//! Estimate: a 1 MiB group costs a copy and a checksum (60 us each) beside the device's own write and
//! sync (350 us on the quiet machine), so append + commit should reach 75 % of a plain zero-filled
//! `pwrite` + `fdatasync` when they take turns, and nearly all of it when they overlap. With 64
//! writers one sync carries all that arrived during the one before, so a writer waits for one to two
//! syncs: p99 below three times the device's.
//!
//! Everything is measured in turns in one run, because the disk of a shared machine changes by the
//! minute. Run: `cargo bench --bench wal`; the directory is `WAL_BENCH_DIR`, else one in the target
//! directory, which is to be ext4 or XFS.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use tidegate::base::clock::{SharedClock, SystemClock};
use tidegate::base::lsn::Lsn;
use tidegate::base::poison::Poison;
use tidegate::wal::{Appender, CommitError, Durability, Options, Unobserved, Wal, WalError};

/// Turns of each measurement; medians are printed.
const TURNS: usize = 5;
const MIB: usize = 1 << 20;
/// Groups of 1 MiB written by one turn of the throughput bench.
const GROUPS: u32 = 256;
const TURN_BYTES: usize = GROUPS as usize * MIB;
const WRITERS: usize = 64;
/// Commits of each writer, a turn.
const COMMITS: usize = 150;
/// Bytes of a small frame: one record.
const RECORD_BYTES: usize = 120;

fn main() {
    // `cargo test --benches` passes this; a bench is no test.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let dir = bench_dir();
    say(&format!("directory {}, median of {TURNS} turns", dir.display()));
    throughput(&dir);
    latency(&dir);
    replay(&dir);
    std::fs::remove_dir_all(&dir).expect("the bench's own directory");
}

#[expect(clippy::print_stdout, reason = "a bench prints what it measured")]
fn say(line: &str) {
    println!("{line}");
}

fn bench_dir() -> PathBuf {
    let base = std::env::var_os("WAL_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = base.join(format!("wal-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("the bench directory can be made");
    dir
}

/// How a log is written by the throughput bench: by which appender, and how many groups the writer
/// lets wait before it waits itself. With one, log and device take turns; with two, the next group is
/// checked and copied while the one before is synced, as in a server that is never without requests.
const WAYS: [(&str, Appender, usize); 3] = [
    ("log, pwrite, 1 group waits", Appender::Pwrite, 1),
    ("log, pwrite, 2 groups wait", Appender::Pwrite, 2),
    ("log, map, 2 groups wait", Appender::Map, 2),
];

/// Append + commit at 1 MiB groups against the disk itself.
fn throughput(dir: &Path) {
    let clock = SystemClock::shared();
    let device = ZeroFilled::new(dir, TURN_BYTES);
    let mut rows = vec![Row::new("device pwrite+fdatasync")];
    rows.extend(WAYS.map(|(name, ..)| Row::new(name)));
    let logs: Vec<Wal> =
        WAYS.iter().map(|(name, appender, _)| open(dir, name, *appender, &clock)).collect();
    for turn in 0..=TURNS {
        for (index, row) in rows.iter_mut().enumerate() {
            let (took, cpu) = measured(&clock, || match index {
                0 => device.write_groups(),
                _ => write_groups(&logs[index - 1], WAYS[index - 1].2),
            });
            // The first turn makes the segments that later ones recycle.
            if turn > 0 {
                row.took.push(took);
                row.cpu.push(cpu);
            }
        }
    }
    say("\n1 MiB groups, one writer, each synced");
    let device = median(&mut rows[0].took).as_secs_f64();
    for row in &mut rows {
        let took = median(&mut row.took).as_secs_f64();
        let cpu = median(&mut row.cpu).as_secs_f64() / f64::from(GROUPS) * 1e6;
        let speed = f64::from(GROUPS) * 1.048_576 / took;
        let share = device / took * 100.0;
        say(&format!(
            "  {:28} {speed:8.0} MB/s  {share:4.0} %  {cpu:8.0} us CPU a group",
            row.name
        ));
    }
}

struct Row {
    name: &'static str,
    took: Vec<Duration>,
    cpu: Vec<Duration>,
}

impl Row {
    fn new(name: &'static str) -> Self {
        Self { name, took: Vec::new(), cpu: Vec::new() }
    }
}

/// A file that was filled with zeros, as a segment is.
struct ZeroFilled {
    file: File,
    group: Vec<u8>,
    bytes: usize,
}

impl ZeroFilled {
    fn new(dir: &Path, bytes: usize) -> Self {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(dir.join("device")).expect("a file can be made");
        let zeros = vec![0; MIB];
        for offset in (0..bytes).step_by(MIB) {
            file.write_all_at(&zeros, offset as u64).expect("the disk has room");
        }
        file.sync_all().expect("the disk syncs");
        Self { file, group: payload(MIB), bytes }
    }

    fn write_groups(&self) {
        for offset in (0..self.bytes).step_by(MIB) {
            self.file.write_all_at(&self.group, offset as u64).expect("the disk writes");
            self.file.sync_data().expect("the disk syncs");
        }
    }

    /// One sync after 4 KiB, as often as the writers commit; the waits.
    fn sync_pages(&self, clock: &SharedClock, syncs: usize) -> Vec<Duration> {
        let mut waits = Vec::with_capacity(syncs);
        for n in 0..syncs {
            let started = clock.monotonic();
            let offset = (n * 4096 % self.bytes) as u64;
            self.file.write_all_at(&self.group[..4096], offset).expect("the disk writes");
            self.file.sync_data().expect("the disk syncs");
            waits.push(clock.monotonic().saturating_sub(started));
        }
        waits
    }
}

fn open(dir: &Path, name: &str, appender: Appender, clock: &SharedClock) -> Wal {
    let options = Options { dir: dir.join(name), appender, ..Options::default() };
    Wal::open(&options, Arc::clone(clock), Poison::new(), Arc::new(Unobserved))
        .expect("the log opens")
}

/// Writes frames of 1 MiB, each a group of its own, waits until they are synced, and gives the space
/// back.
fn write_groups(wal: &Wal, groups_waiting: usize) {
    let frame = payload(MIB);
    let (sender, answers) = mpsc::channel::<Answer>();
    let hear = || answers.recv().expect("the log answers").expect("the log syncs");
    for group in 0..TURN_BYTES / MIB {
        if group >= groups_waiting {
            let durable = hear();
            // Every 64 MiB, as a server would.
            if durable.0.is_multiple_of(64) {
                wal.checkpoint(durable).expect("the log gives space back");
            }
        }
        append(wal, &frame, &sender);
    }
    for _ in 0..groups_waiting {
        hear();
    }
    black_box(wal.marks());
}

/// What a writer hears.
type Answer = Result<Lsn, CommitError>;

fn append(wal: &Wal, payload: &[u8], sender: &mpsc::Sender<Answer>) -> Lsn {
    loop {
        let sender = sender.clone();
        let done = Box::new(move |answer| sender.send(answer).expect("the writer waits"));
        match wal.append(payload, Durability::Sync, done) {
            Ok(lsn) => return lsn,
            Err(error) => assert!(matches!(error, WalError::Full { .. }), "{error}"),
        }
        std::thread::yield_now();
    }
}

/// Who writes in the latency bench: 64 tasks of one thread, as the connections of a server are, or 64
/// threads, which the system has to wake one by one.
const WRITERS_ARE: [(&str, Appender, bool); 3] = [
    ("log, pwrite, 64 tasks", Appender::Pwrite, true),
    ("log, pwrite, 64 threads", Appender::Pwrite, false),
    ("log, map, 64 tasks", Appender::Map, true),
];

/// One record a commit, 64 writers, each waiting for its own.
fn latency(dir: &Path) {
    let clock = SystemClock::shared();
    let device = ZeroFilled::new(dir, 64 * MIB);
    let logs: Vec<Wal> =
        WRITERS_ARE.iter().map(|(name, appender, _)| open(dir, name, *appender, &clock)).collect();
    let mut waits = vec![Vec::new(); 1 + logs.len()];
    let mut cpu = vec![Duration::ZERO; 1 + logs.len()];
    for _ in 0..TURNS {
        for (index, waits) in waits.iter_mut().enumerate() {
            let (_, spent) = measured(&clock, || {
                waits.extend(match index {
                    0 => device.sync_pages(&clock, COMMITS * 4),
                    _ if WRITERS_ARE[index - 1].2 => commit_from_tasks(&logs[index - 1], &clock),
                    _ => commit_from_threads(&logs[index - 1], &clock),
                });
            });
            cpu[index] += spent;
        }
    }
    say(&format!(
        "\n{RECORD_BYTES}-byte frames, each synced; the device: 4 KiB + fdatasync, one thread"
    ));
    let names = ["device pwrite+fdatasync"].into_iter().chain(WRITERS_ARE.map(|(name, ..)| name));
    for ((name, waits), cpu) in names.zip(&mut waits).zip(cpu) {
        waits.sort_unstable();
        let at = |quantile: usize| waits[(waits.len() - 1) * quantile / 1000].as_secs_f64() * 1e6;
        let count = u32::try_from(waits.len()).expect("a bench is short");
        let each = cpu.as_secs_f64() / f64::from(count) * 1e6;
        say(&format!(
            "  {name:24} p50 {:7.0} us  p99 {:7.0} us  p99.9 {:7.0} us  {each:6.1} us CPU a commit",
            at(500),
            at(990),
            at(999),
        ));
    }
}

fn commit_from_threads(wal: &Wal, clock: &SharedClock) -> Vec<Duration> {
    let payload = payload(RECORD_BYTES);
    let waits = std::thread::scope(|scope| {
        let writers: Vec<_> =
            (0..WRITERS).map(|_| scope.spawn(|| commit_one_by_one(wal, clock, &payload))).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer ends")).collect()
    });
    wal.checkpoint(wal.marks().durable).expect("the log gives space back");
    waits
}

fn commit_one_by_one(wal: &Wal, clock: &SharedClock, payload: &[u8]) -> Vec<Duration> {
    let (sender, answers) = mpsc::channel();
    let mut waits = Vec::with_capacity(COMMITS);
    for _ in 0..COMMITS {
        let started = clock.monotonic();
        append(wal, payload, &sender);
        answers.recv().expect("the log answers").expect("the log syncs");
        waits.push(clock.monotonic().saturating_sub(started));
    }
    waits
}

fn commit_from_tasks(wal: &Wal, clock: &SharedClock) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let payload: Arc<[u8]> = payload(RECORD_BYTES).into();
    let waits = runtime.block_on(async {
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                let (wal, clock, payload) = (wal.clone(), Arc::clone(clock), Arc::clone(&payload));
                tokio::spawn(commit_in_task(wal, clock, payload))
            })
            .collect();
        let mut waits = Vec::with_capacity(WRITERS * COMMITS);
        for writer in writers {
            waits.extend(writer.await.expect("a writer ends"));
        }
        waits
    });
    wal.checkpoint(wal.marks().durable).expect("the log gives space back");
    waits
}

async fn commit_in_task(wal: Wal, clock: SharedClock, payload: Arc<[u8]>) -> Vec<Duration> {
    let mut waits = Vec::with_capacity(COMMITS);
    for _ in 0..COMMITS {
        let started = clock.monotonic();
        let (sender, answer) = tokio::sync::oneshot::channel();
        let done = Box::new(move |result| drop(sender.send(result)));
        wal.append(&payload, Durability::Sync, done).expect("the log has room");
        answer.await.expect("the log answers").expect("the log syncs");
        waits.push(clock.monotonic().saturating_sub(started));
    }
    waits
}

/// Opening a log of 256 MiB and reading it back, from the page cache's or the device's speed.
fn replay(dir: &Path) {
    let clock = SystemClock::shared();
    let options = Options { dir: dir.join("replay"), ..Options::default() };
    let open = || {
        Wal::open(&options, Arc::clone(&clock), Poison::new(), Arc::new(Unobserved))
            .expect("the log opens")
    };
    let wal = open();
    let frame = payload(16 << 10);
    let (sender, answers) = mpsc::channel();
    for _ in 0..TURN_BYTES / frame.len() {
        append(&wal, &frame, &sender);
        answers.recv().expect("the log answers").expect("the log syncs");
    }
    drop(wal);
    let (mut opening, mut reading) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let started = clock.monotonic();
        let wal = open();
        let opened = clock.monotonic();
        let mut reader = wal.reader(Lsn(1));
        while let Some(frame) = reader.next(Duration::ZERO).expect("the log is whole") {
            black_box(frame.payload());
        }
        opening.push(opened.saturating_sub(started));
        reading.push(clock.monotonic().saturating_sub(opened));
    }
    say("\nA log of 256 MiB in frames of 16 KiB");
    for (what, took) in [("opening it, past the cache", opening), ("reading it, mapped", reading)] {
        let mut took = took;
        let speed = f64::from(GROUPS) * 1.048_576 / median(&mut took).as_secs_f64();
        say(&format!("  {what:24} {speed:8.0} MB/s"));
    }
}

/// Bytes that do not compress and are the same every time.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Time and CPU of the process that `work` took.
fn measured(clock: &SharedClock, work: impl FnOnce()) -> (Duration, Duration) {
    let (started, cpu) = (clock.monotonic(), cpu_time());
    work();
    (clock.monotonic().saturating_sub(started), cpu_time().saturating_sub(cpu))
}

/// CPU of the whole process, user and system.
fn cpu_time() -> Duration {
    // Fields 14 and 15 behind the name in parentheses, in ticks of 10 ms.
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let (_, fields) = stat.rsplit_once(')').expect("the name is in parentheses");
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).flat_map(str::parse::<u64>).sum();
    Duration::from_millis(ticks * 10)
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}
