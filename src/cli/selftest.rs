//! `tidegate selftest`: does the log keep its promise on this very disk?
//!
//! In a scratch folder beside the data, a child process writes through the real log and reports every
//! acknowledgement; it is killed by SIGKILL at a moment of chance, the log is opened again, and every
//! frame is compared with what was acknowledged. Then the disk itself is asked how fast it syncs: one
//! that is faster than any device can be keeps its promises in memory.
//!
//! A kill leaves the system's page cache in place. What a power cut takes, only a power cut shows.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;

use super::out::{self, say};
use super::{Broken, Failure, SettingsArgs, demo, interrupted};
use crate::base;
use crate::base::clock::{Clock, SystemClock};
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::base::thread::Thread;
use crate::server::Interrupts;
use crate::wal::{Commit, Durability, Observer, Options, Unobserved, Wal, WalError};

/// Frames that wait for a sync at once, as they would under load.
const IN_FLIGHT: usize = 64;

/// Payloads are from 16 bytes to this much longer, so that frames begin and end anywhere.
const FILL_BYTES_MAX: u64 = 4096;

/// Longest time until a child has opened the log, on a busy machine.
const START_MAX: Duration = Duration::from_mins(1);

/// How often somebody who waits looks whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// Longest life of a child from its first report on, ms.
const LIFE_MS_MAX: u64 = 500;

/// Syncs of the bare disk that are measured, and the bytes before each.
const SYNCS: u64 = 200;
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// No device answers a flush sooner: the fastest, with their own power for their memory, take twice
/// as long from one end of the bus to the other.
const SYNC_MIN: Duration = Duration::from_micros(8);

/// A disk that turns 15,000 times a minute, the fastest ever sold, needs this for half a turn.
const HALF_TURN: Duration = Duration::from_millis(2);

/// Longest sync told apart, ns.
const SYNC_NS_MAX: u64 = 60_000_000_000;

/// Flags of `selftest`.
#[derive(Debug, Args)]
pub struct SelftestArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// How often the writing process is killed, 1 to 1000.
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=1000))]
    kills: u64,
    /// The child: writes into this folder until it is killed.
    #[arg(long, hide = true, requires = "round")]
    write: Option<PathBuf>,
    /// The child's number.
    #[arg(long, hide = true)]
    round: Option<u64>,
    /// Reports an acknowledgement that never was, to show that a loss is found.
    #[arg(long, hide = true)]
    plant_loss: bool,
}

/// What the children acknowledged, and what became of it.
#[derive(Debug, Default)]
struct Tally {
    acknowledged: u64,
    found: u64,
    problems: Vec<String>,
}

/// What a child reports, one line each: `a <number> <lsn>` or `s <ns>`.
#[derive(Debug)]
enum Report {
    Acknowledged { number: u64, lsn: Lsn },
    Synced { ns: u64 },
}

/// Tells standard output how long each sync of the log took.
#[derive(Debug)]
struct SyncReporter;

impl Observer for SyncReporter {
    fn committed(&self, commit: &Commit) {
        if let Some(sync) = commit.sync {
            tell(&format!("s {}", sync.as_nanos()));
        }
    }
}

/// Writes, kills, reads back, counts, measures.
///
/// # Errors
///
/// [`Failure::Usage`] for settings that cannot be read, [`Failure::Failed`] when the disk cannot be
/// written, or when something acknowledged was lost, doubled or changed.
pub fn run(args: &SelftestArgs) -> Result<(), Failure> {
    let config = args.settings.load(Vec::new())?.placed();
    if let (Some(dir), Some(round)) = (&args.write, args.round) {
        demo::die_with_parent().map_err(Failure::failed)?;
        return write(&options(&config.wal, dir), round, args.plant_loss).map_err(Failure::failed);
    }
    if let Some(file) = in_the_way(&config.data_dir) {
        let (data, file) = (config.data_dir.display(), file.display());
        return Err(Failure::usage(format!("data_dir {data}: {file} is a file and no folder")));
    }
    let scratch = existing(&config.data_dir).join(format!("selftest-{}", std::process::id()));
    let io_failed = |error| Failure::failed(format!("{}: {error}", scratch.display()));
    let interrupts = Interrupts::listen("ending, and tidying up").map_err(Failure::failed)?;
    base::fs::create_dir_all(&scratch).map_err(io_failed)?;
    let result = test(args, &options(&config.wal, &scratch.join("wal")), (&scratch, &interrupts));
    match interrupted(result, interrupts.heard(), "nothing was proved") {
        Err(failure @ (Failure::Failed(_) | Failure::Usage(_))) => {
            out::say_somewhere(&format!("kept for a look: {}", scratch.display()));
            Err(failure)
        }
        // Who interrupts it, or reads no further, would not look.
        result => fs::remove_dir_all(&scratch).map_err(io_failed).and(result),
    }
}

fn test(
    args: &SelftestArgs,
    options: &Options,
    (scratch, interrupts): (&Path, &Interrupts),
) -> Result<(), Failure> {
    say(&format!("testing {} with {} kills", scratch.display(), args.kills))?;
    let mut syncs = new_histogram();
    let mut tally = Tally::default();
    for round in 1..=args.kills {
        let acknowledged = write_and_kill(args, (&options.dir, round), &mut syncs, interrupts)?;
        if interrupts.heard().is_some() {
            return Err(Failure::failed("interrupted"));
        }
        check(options, round, &acknowledged, &mut tally).map_err(Failure::failed)?;
    }
    let told = tell_all(&tally, &syncs, scratch);
    if let Some(first) = tally.problems.first() {
        // Whatever became of the words: the evidence is to be kept.
        return Err(Failure::failed(Broken(first.clone())));
    }
    told?;
    if tally.acknowledged == 0 {
        return Err(Failure::failed("nothing was acknowledged, so nothing was proved"));
    }
    Ok(())
}

/// Tells what was counted, and how fast log and disk are.
fn tell_all(tally: &Tally, syncs: &Histogram<u64>, scratch: &Path) -> Result<(), Failure> {
    let Tally { acknowledged, found, problems } = tally;
    say(&format!(
        "{acknowledged} frames acknowledged, {found} found, {} lost, doubled or changed",
        problems.len()
    ))?;
    say(&format!("sync of the log    {}", percentiles(syncs)))?;
    let bare = measure(scratch).map_err(Failure::failed)?;
    say(&format!("sync of the disk   {}", percentiles(&bare)))?;
    let median = Duration::from_nanos(bare.value_at_quantile(0.5));
    say(verdict(median, is_rotational(scratch)))
}

/// The log as it is set, in another folder.
fn options(wal: &Options, dir: &Path) -> Options {
    Options { dir: dir.to_owned(), ..wal.clone() }
}

/// The file that stands where the folder, or one above it, is to be.
pub(super) fn in_the_way(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|ancestor| ancestor.exists()).filter(|there| !there.is_dir())
}

/// The folder, or the nearest above it that is there: on the same disk.
pub(super) fn existing(dir: &Path) -> &Path {
    dir.ancestors().find(|ancestor| ancestor.is_dir()).unwrap_or_else(|| Path::new("."))
}

/// The child: appends frames and reports what the log says of them, until it is killed.
fn write(options: &Options, round: u64, plants_loss: bool) -> Result<(), WalError> {
    let clock = SystemClock::shared();
    let wal = Wal::open(options, Arc::clone(&clock), Poison::new(), Arc::new(SyncReporter))?;
    let (free, freed) = mpsc::sync_channel(IN_FLIGHT);
    for number in 0.. {
        // A slot for each of the first frames; then each waits for one before it.
        if number >= IN_FLIGHT as u64 && freed.recv().is_err() {
            break;
        }
        loop {
            let free = free.clone();
            let done = Box::new(move |result: Result<Lsn, _>| {
                if let Ok(lsn) = result {
                    report(number, lsn);
                    // There is room, as no more are taken; and nobody minds once the loop has ended.
                    free.try_send(()).unwrap_or_default();
                }
            });
            match wal.append(&payload(round, number), Durability::Sync, done) {
                Ok(lsn) if plants_loss && number == 0 => report(u64::MAX, Lsn(lsn.0 + (1 << 40))),
                Ok(_) => {}
                Err(WalError::Full { .. }) => {
                    clock.sleep(Duration::from_millis(1));
                    continue;
                }
                Err(error) => return Err(error),
            }
            break;
        }
    }
    Ok(())
}

fn report(number: u64, lsn: Lsn) {
    tell(&format!("a {number} {}", lsn.0));
}

/// Tells the parent. One that is gone does not hear: then nobody would ever stop this process, and it ends.
fn tell(line: &str) {
    if writeln!(io::stdout(), "{line}").is_err() {
        std::process::exit(1);
    }
}

/// What frame `number` of a round holds: both numbers, and a fill that follows from them.
fn payload(round: u64, number: u64) -> Vec<u8> {
    let mixed = (round << 32 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let fill = usize::try_from((mixed >> 32) % FILL_BYTES_MAX).expect("a small number");
    let mut payload = Vec::with_capacity(16 + fill);
    payload.extend_from_slice(&round.to_le_bytes());
    payload.extend_from_slice(&number.to_le_bytes());
    payload.resize(16 + fill, mixed.to_le_bytes()[7]);
    payload
}

/// Runs a child for a while and kills it; what it reported as acknowledged.
fn write_and_kill(
    args: &SelftestArgs,
    (dir, round): (&Path, u64),
    syncs: &mut Histogram<u64>,
    interrupts: &Interrupts,
) -> Result<Vec<(u64, Lsn)>, Failure> {
    let clock = SystemClock::new();
    let mut child = spawn(args, dir, round).map_err(Failure::failed)?;
    let (thread, reports) = listen(&mut child).map_err(Failure::failed)?;
    let first = first_of(&reports, &clock, interrupts);
    // Not until something happens: the moment of the kill is what is random here.
    let life = Duration::from_millis(clock.wall_ns().unsigned_abs() / 1000 % LIFE_MS_MAX);
    interrupts.sleep(&clock, life);
    let ended = child.try_wait().map_err(Failure::failed)?;
    child.kill().and_then(|()| child.wait()).map_err(Failure::failed)?;
    thread.join().map_err(Failure::failed)?;
    if let Some(status) = ended {
        return Err(Failure::failed(format!("the writing process ended by itself: {status}")));
    }
    let mut acknowledged = Vec::new();
    for report in first.into_iter().chain(reports.try_iter()) {
        match report {
            Report::Acknowledged { number, lsn } => acknowledged.push((number, lsn)),
            Report::Synced { ns } => syncs.saturating_record(ns),
        }
    }
    Ok(acknowledged)
}

/// The first report, once the child has opened the log.
fn first_of(
    reports: &Receiver<Report>,
    clock: &SystemClock,
    interrupts: &Interrupts,
) -> Option<Report> {
    let until = clock.monotonic() + START_MAX;
    while clock.monotonic() < until && interrupts.heard().is_none() {
        match reports.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            heard => return heard.ok(),
        }
    }
    None
}

fn spawn(args: &SelftestArgs, dir: &Path, round: u64) -> io::Result<Child> {
    let mut command = Command::new(demo::program()?);
    command.arg("selftest").arg("--write").arg(dir).args(["--round", &round.to_string()]);
    if let Some(config) = &args.settings.config {
        command.arg("--config").arg(config);
    }
    if args.plant_loss {
        command.arg("--plant-loss");
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()
}

/// A thread that reads what the child says until it is dead, and its reports.
fn listen(child: &mut Child) -> io::Result<(Thread, Receiver<Report>)> {
    let said = BufReader::new(child.stdout.take().expect("it was asked for"));
    let (reports, heard) = mpsc::channel();
    let thread = Thread::spawn("selftest", move || {
        // A line that the kill cut off is no report.
        for report in said.split(b'\n').map_while(Result::ok).filter_map(|line| parse(&line)) {
            if reports.send(report).is_err() {
                return;
            }
        }
    })?;
    Ok((thread, heard))
}

fn parse(line: &[u8]) -> Option<Report> {
    let mut words = std::str::from_utf8(line).ok()?.split(' ');
    let kind = words.next()?;
    let mut number = || words.next()?.parse().ok();
    match kind {
        "a" => Some(Report::Acknowledged { number: number()?, lsn: Lsn(number()?) }),
        "s" => Some(Report::Synced { ns: number()? }),
        _ => None,
    }
}

/// Opens the log as the next start would, compares every frame of the round, and gives them free.
fn check(
    options: &Options,
    round: u64,
    acknowledged: &[(u64, Lsn)],
    tally: &mut Tally,
) -> Result<(), WalError> {
    let wal = Wal::open(options, SystemClock::shared(), Poison::new(), Arc::new(Unobserved))?;
    let recovery = wal.recovery();
    let mut reader = wal.reader(recovery.checkpoint.next());
    let mut found = std::collections::HashMap::new();
    while let Some(frame) = reader.next(Duration::ZERO)? {
        let (bytes, lsn) = (frame.payload(), frame.lsn());
        let number = bytes.get(8..16).and_then(|bytes| bytes.try_into().ok());
        match number.map(u64::from_le_bytes).filter(|number| bytes == payload(round, *number)) {
            None => tally.problems.push(format!("round {round}: frame {} is changed", lsn.0)),
            Some(number) if found.insert(number, lsn).is_some() => {
                tally.problems.push(format!("round {round}: number {number} is there twice"));
            }
            Some(_) => {}
        }
    }
    for (number, lsn) in acknowledged {
        if found.get(number) != Some(lsn) {
            let at = found.get(number).map(|lsn| lsn.0);
            tally.problems.push(format!(
                "round {round}: number {number} was acknowledged as frame {}, found {at:?}",
                lsn.0
            ));
        }
    }
    tally.acknowledged += acknowledged.len() as u64;
    tally.found += found.len() as u64;
    drop(reader);
    wal.checkpoint(recovery.last)?;
    wal.close();
    Ok(())
}

/// Times the syncs of the bare disk: a block, overwritten in a file that has its bytes already.
pub(super) fn measure(scratch: &Path) -> io::Result<Histogram<u64>> {
    let clock = SystemClock::new();
    let file = File::create(scratch.join("probe"))?;
    for at in 0..SYNCS {
        file.write_all_at(&BLOCK, at * BLOCK.len() as u64)?;
    }
    file.sync_all()?;
    let mut syncs = new_histogram();
    for at in 0..SYNCS {
        file.write_all_at(&BLOCK, at * BLOCK.len() as u64)?;
        let begin = clock.monotonic();
        file.sync_data()?;
        let took = clock.monotonic().saturating_sub(begin);
        syncs.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(syncs)
}

/// Whether the disk below a folder says that it turns; `None` where it does not say.
pub(super) fn is_rotational(dir: &Path) -> Option<bool> {
    let device = fs::metadata(dir).ok()?.dev();
    let name = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let block = fs::canonicalize(Path::new("/sys/dev/block").join(name)).ok()?;
    // Of a partition it is the disk that knows.
    let mut places =
        [block.join("queue/rotational"), block.join("../queue/rotational")].into_iter();
    let text = places.find_map(|path| fs::read_to_string(path).ok())?;
    Some(text.trim() == "1")
}

/// What the speed of a sync says about the disk. A hint: a slow liar is not told from an honest disk.
pub(super) fn verdict(median: Duration, is_rotational: Option<bool>) -> &'static str {
    if median < SYNC_MIN {
        "THE DISK LIES: no device syncs so fast; what it says is durable is in memory only"
    } else if is_rotational == Some(true) && median < HALF_TURN {
        "a cache answers: the disk says that it turns, and syncs sooner than it can turn; make sure \
         that the cache (a controller's, a hypervisor's) has power of its own"
    } else {
        "the speed is plausible for a disk that really syncs; only a power cut proves it"
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(SYNC_NS_MAX, 3).expect("constant bounds are valid")
}

pub(super) fn percentiles(syncs: &Histogram<u64>) -> String {
    let us = |quantile| syncs.value_at_quantile(quantile) / 1000;
    format!(
        "p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us of {}",
        us(0.5),
        us(0.9),
        us(0.99),
        us(0.999),
        syncs.max() / 1000,
        syncs.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_no_device_can_do_is_called_a_lie() {
        let lie = verdict(Duration::from_micros(1), None);
        assert!(lie.contains("LIES"), "{lie}");
        let cache = verdict(Duration::from_micros(300), Some(true));
        assert!(cache.contains("a cache answers"), "{cache}");
        for (median_us, turns) in [(300, Some(false)), (30, None), (8_000, Some(true))] {
            let well = verdict(Duration::from_micros(median_us), turns);
            assert!(well.contains("plausible"), "{median_us}: {well}");
        }
    }

    #[test]
    fn a_payload_is_told_from_every_other() {
        let all = (0..3).flat_map(|round| (0..300).map(move |number| payload(round, number)));
        let different: std::collections::HashSet<Vec<u8>> = all.collect();
        assert_eq!(different.len(), 900);
    }

    #[test]
    fn a_report_that_the_kill_cut_off_is_none() {
        assert!(matches!(parse(b"a 7 9"), Some(Report::Acknowledged { number: 7, lsn: Lsn(9) })));
        assert!(matches!(parse(b"s 120"), Some(Report::Synced { ns: 120 })));
        for cut in ["", "a", "a 7", "a 7 ", "s", "s x"] {
            assert!(parse(cut.as_bytes()).is_none(), "{cut:?}");
        }
    }
}
