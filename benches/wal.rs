//! What does the log cost beyond the disk itself?
//!
//! Estimate: a 1 MiB group costs one copy (60 us), two checksums (20 us) and the device's own write
//! and sync (370 us on the quiet machine), so append + commit should reach 80 % of a plain
//! zero-filled `pwrite` + `fdatasync`. With 64 writers one sync carries all that arrived during the
//! one before, so a writer waits for one to two syncs: p99 below three times the device's.
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

/// Append + commit at 1 MiB groups against the disk itself.
fn throughput(dir: &Path) {
    let clock = SystemClock::shared();
    let device = ZeroFilled::new(dir, TURN_BYTES);
    let mut rows =
        [Row::new("device pwrite+fdatasync"), Row::new("log, pwrite"), Row::new("log, map")];
    let logs = [Appender::Pwrite, Appender::Map].map(|appender| open(dir, appender, &clock));
    for turn in 0..=TURNS {
        for (index, row) in rows.iter_mut().enumerate() {
            let (took, cpu) = measured(&clock, || match index {
                0 => device.write_groups(),
                _ => write_groups(&logs[index - 1]),
            });
            // The first turn makes the segments that later ones recycle.
            if turn > 0 {
                row.took.push(took);
                row.cpu.push(cpu);
            }
        }
    }
    say("\n1 MiB groups, one writer, each synced");
    for row in &mut rows {
        let took = median(&mut row.took).as_secs_f64();
        let cpu = median(&mut row.cpu).as_secs_f64() / f64::from(GROUPS) * 1e6;
        let speed = f64::from(GROUPS) * 1.048_576 / took;
        say(&format!("  {:24} {speed:8.0} MB/s  {cpu:8.0} us CPU a group", row.name));
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

fn open(dir: &Path, appender: Appender, clock: &SharedClock) -> Wal {
    let dir = dir.join(format!("{appender:?}"));
    let options = Options { dir, appender, ..Options::default() };
    Wal::open(&options, Arc::clone(clock), Poison::new(), Arc::new(Unobserved))
        .expect("the log opens")
}

/// Writes 1 MiB in eight frames at a time, waits until they are synced, and gives the space back.
fn write_groups(wal: &Wal) {
    const FRAMES: usize = 8;
    let frame = payload(MIB / FRAMES);
    let (sender, answers) = mpsc::channel();
    for _ in 0..TURN_BYTES / MIB {
        let mut last = None;
        for _ in 0..FRAMES {
            last = Some(append(wal, &frame, &sender));
        }
        for _ in 0..FRAMES {
            answers.recv().expect("the log answers").expect("the log syncs");
        }
        let last = last.expect("frames were appended");
        // Every 64 MiB, as a server would.
        if last.0.is_multiple_of(512) {
            wal.checkpoint(last).expect("the log gives space back");
        }
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

/// One record a commit, 64 writers, each waiting for its own.
fn latency(dir: &Path) {
    let clock = SystemClock::shared();
    let device = ZeroFilled::new(dir, 64 * MIB);
    let logs = [Appender::Pwrite, Appender::Map].map(|appender| open(dir, appender, &clock));
    let mut waits = [Vec::new(), Vec::new(), Vec::new()];
    let mut cpu = [Duration::ZERO; 3];
    for _ in 0..TURNS {
        for (index, waits) in waits.iter_mut().enumerate() {
            let (_, spent) = measured(&clock, || match index {
                0 => waits.extend(device.sync_pages(&clock, COMMITS * 4)),
                _ => waits.extend(commit_from_many(&logs[index - 1], &clock)),
            });
            cpu[index] += spent;
        }
    }
    say(&format!(
        "\n{RECORD_BYTES}-byte frames, each synced; the device: 4 KiB + fdatasync, one thread"
    ));
    let names = ["device pwrite+fdatasync", "log, pwrite, 64 writers", "log, map, 64 writers"];
    for ((name, waits), cpu) in names.iter().zip(&mut waits).zip(cpu) {
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

fn commit_from_many(wal: &Wal, clock: &SharedClock) -> Vec<Duration> {
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
