//! The log on the simulated disk: crashes, failing operations, damage.
//!
//! Everything runs on one thread, a step at a time, so a seed is the whole story of a run.

mod crash;
mod damage;
mod faults;
mod observe;
mod recovery;
mod retain;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::committer::Committer;
use super::disk::sim::{Random, SimDisk};
use super::reader::Reader;
use super::{
    CommitError, Durability, Log, Observer, Options, Unobserved, WalError, appender, locked,
    prepare,
};
use crate::base::clock::ManualClock;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::base::units::Bytes;

/// Small segments, so that a short run rotates and recycles.
pub(super) const SEGMENT_BYTES: u64 = 3 * 4096;

/// A figure or a setting from the environment.
pub(super) fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number: {text:?}")))
}

/// Tells whoever runs the tests a figure or a seed, also when the test passes.
#[expect(clippy::print_stderr, reason = "a figure is there to be read")]
pub(super) fn tell(what: &str) {
    eprintln!("{what}");
}

/// What was answered to whom.
pub(super) type Answers = Arc<Mutex<Vec<(Lsn, Durability, Result<Lsn, CommitError>)>>>;

/// A log on a simulated disk, with its threads' work done when the test says so.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) log: Arc<Log>,
    pub(super) committer: Committer,
    pub(super) clock: Arc<ManualClock>,
    pub(super) answers: Answers,
}

impl Machine {
    pub(super) fn start(disk: &SimDisk) -> Result<Self, WalError> {
        Self::start_with(disk, SEGMENT_BYTES, 6 * SEGMENT_BYTES)
    }

    pub(super) fn start_with(
        disk: &SimDisk,
        segment_bytes: u64,
        bytes_max: u64,
    ) -> Result<Self, WalError> {
        let (segment_bytes, bytes_max) = (Bytes(segment_bytes), Bytes(bytes_max));
        Self::start_as(disk, &Options { segment_bytes, bytes_max, ..Options::default() })
    }

    pub(super) fn start_as(disk: &SimDisk, options: &Options) -> Result<Self, WalError> {
        Self::open(disk, options, 0)
    }

    pub(super) fn start_observed(
        disk: &SimDisk,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, WalError> {
        let (segment_bytes, bytes_max) = (Bytes(SEGMENT_BYTES), Bytes(6 * SEGMENT_BYTES));
        let options = Options { segment_bytes, bytes_max, ..Options::default() };
        Self::open_observed(disk, &options, 0, observer)
    }

    pub(super) fn open(disk: &SimDisk, options: &Options, now_ns: i64) -> Result<Self, WalError> {
        Self::open_observed(disk, options, now_ns, Arc::new(Unobserved))
    }

    fn open_observed(
        disk: &SimDisk,
        options: &Options,
        now_ns: i64,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, WalError> {
        let clock = ManualClock::at(now_ns);
        let shared = Arc::<ManualClock>::clone(&clock);
        let (log, committer) = Log::open(options, disk.shared(), shared, Poison::new(), observer)?;
        Ok(Self { log, committer, clock, answers: Answers::default() })
    }

    pub(super) fn append(&self, payload: &[u8], durability: Durability) -> Result<Lsn, WalError> {
        append(&self.log, &self.answers, payload, durability)
    }

    /// Appends and commits, with a next segment made when it is needed.
    pub(super) fn commit(&mut self, payload: &[u8]) -> Lsn {
        prepare::step(&self.log);
        let lsn = self.append(payload, Durability::Sync).unwrap();
        self.committer.step();
        let last = locked(&self.answers).last().cloned();
        assert_eq!(last, Some((lsn, Durability::Sync, Ok(lsn))));
        lsn
    }

    pub(super) fn close(mut self) {
        locked(&self.log.tail).closed = true;
        self.committer.step();
        self.log.finish();
    }

    /// All frames from `from` on.
    pub(super) fn read(&self, from: Lsn) -> Result<BTreeMap<Lsn, Vec<u8>>, WalError> {
        let mut reader = Reader::new(Arc::clone(&self.log), from);
        let mut frames = BTreeMap::new();
        while let Some(frame) = reader.next(Duration::ZERO)? {
            frames.insert(frame.lsn(), frame.payload().to_vec());
        }
        Ok(frames)
    }
}

/// Appends, and notes the answer.
pub(super) fn append(
    log: &Log,
    answers: &Answers,
    payload: &[u8],
    durability: Durability,
) -> Result<Lsn, WalError> {
    let answers = Arc::clone(answers);
    // The number is known only after the call, which is before the commit.
    let lsn = Arc::new(Mutex::new(Lsn::ZERO));
    let told = Arc::clone(&lsn);
    let done = Box::new(move |result| {
        let lsn = *locked(&told);
        locked(&answers).push((lsn, durability, result));
    });
    let appended = appender::append(log, payload, durability, |_| {}, done)?;
    *locked(&lsn) = appended;
    Ok(appended)
}

/// A payload whose bytes tell which it is.
pub(super) fn payload(random: &mut Random, longest: u64) -> Vec<u8> {
    let length = random.below(longest + 1);
    let mut bytes: Vec<u8> = (0..length).map(|_| random.next().to_le_bytes()[0]).collect();
    // Half of them are mostly zeros: like a gap.
    if random.chance(50) {
        bytes.iter_mut().skip(8).for_each(|b| *b = 0);
    }
    bytes
}
