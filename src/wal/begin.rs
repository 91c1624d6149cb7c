//! Beginning a new log where the old one is lost for good, behind what its frames were stored under.
//!
//! What stores the records counts by the numbers of frames and leaves out what it has already, so new
//! frames must not get numbers again. The new log is a segment whose first frame is the one wanted,
//! published whole, and a checkpoint before it. A crash before the segment has its name leaves no
//! frame and no log; one after it a log that begins where it should, whose checkpoint the next start
//! makes.

use std::cmp::Reverse;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, RealDisk};
use super::inspect::{Checkpoint, SegmentInfo, Verdict};
use super::segment::{self, Header};
use super::{Options, WalError, checkpoint};
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;

/// The number of the first segment.
const FIRST_SEGMENT: u64 = 1;

/// A log begins after a frame below this: half of all numbers are left to it, more than it ever gives.
pub const AFTER_LIMIT: Lsn = Lsn(Lsn::LIMIT.0 / 2);

/// A directory without a frame in it, held by its lock.
#[derive(Debug)]
pub struct Beginning {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    /// Files of a log without a frame, as a refused start leaves it: the checkpoint, which names
    /// segments, and then the newest first.
    in_the_way: Vec<String>,
    /// Its first frame would be the one behind.
    begun_after: Lsn,
    /// Frames up to this one may have been in it.
    given: Lsn,
}

impl Beginning {
    /// Takes the directory of `options` for a new log, and makes it if it is missing. Nothing else is
    /// changed.
    ///
    /// # Errors
    ///
    /// [`WalError::Locked`] while a server has it, [`WalError::FileSystem`], and [`WalError::Io`], also
    /// when a log is there that holds a frame, or could: such a log is moved away by hand or not at all.
    pub fn take(options: &Options) -> Result<Self, WalError> {
        Self::on(Arc::new(RealDisk::lock(&options.dir)?), options)
    }

    fn on(disk: Arc<dyn Disk>, options: &Options) -> Result<Self, WalError> {
        let dir = options.dir.as_path();
        let failed = |error| WalError::io("begin a log in", dir.to_owned(), error);
        let names = disk.list().map_err(failed)?;
        let of_log =
            |name: &&String| segment::number_in(name).is_some() || *name == checkpoint::NAME;
        let mut in_the_way: Vec<String> = names.iter().filter(of_log).cloned().collect();
        in_the_way
            .sort_unstable_by_key(|name| Reverse(segment::number_in(name).unwrap_or(u64::MAX)));
        let (mut begun_after, mut given) = (Lsn::ZERO, Lsn::ZERO);
        if !in_the_way.is_empty() {
            let verdict = Verdict::of(disk.as_ref(), &mut |_| {}).map_err(failed)?;
            begun_after = without_frames(&verdict).ok_or_else(|| failed(holds_something(dir)))?;
            // A log leaves its first segment with its first frames, and never has it again.
            let with_frames = |info: &&SegmentInfo| info.first() > Lsn::ZERO;
            let mut begun = verdict.overview.segments.iter().filter(with_frames);
            if !begun.all(|info| info.number == FIRST_SEGMENT) {
                given = begun_after;
            }
        }
        Ok(Self { disk, segment_bytes: options.segment_bytes.0, in_the_way, begun_after, given })
    }

    /// Frames up to this one may have had their numbers in this log; zero where it was begun, also
    /// behind a larger number, and has had no frame since.
    pub fn given(&self) -> Lsn {
        self.given
    }

    /// The log that is there begins behind this frame.
    pub fn begun_after(&self) -> Lsn {
        self.begun_after
    }

    /// Makes the log, whose first frame will be the one behind `after`.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]: no log was begun, or one behind `after`; a second call goes on.
    pub fn make(&self, after: Lsn) -> Result<(), WalError> {
        assert!(after >= self.given, "no number is given twice");
        assert!(after < AFTER_LIMIT, "there are numbers behind it");
        let path = self.disk.path(&segment::name(FIRST_SEGMENT));
        self.try_make(after).map_err(|error| WalError::io("make", path, error))
    }

    fn try_make(&self, after: Lsn) -> io::Result<()> {
        for name in &self.in_the_way {
            self.disk.remove(name)?;
            // One by one: what a power cut leaves must still be seen to hold no frame.
            self.disk.sync_names()?;
        }
        let (name, bytes) = (segment::name(FIRST_SEGMENT), self.segment_bytes);
        let temporary = name.clone() + TEMPORARY_SUFFIX;
        let generation = self.disk.random();
        let header = Header { number: FIRST_SEGMENT, generation, first: after.next(), bytes };
        let file = self.disk.create(&temporary)?;
        file.allocate(bytes)?;
        segment::fill_with_zeros(file.as_ref(), bytes)?;
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.disk.publish(&temporary, &name)?;
        let (turn, segment) = (0, FIRST_SEGMENT);
        let record = checkpoint::Record { turn, checkpoint: after, segment, durable: after };
        checkpoint::File::create(&self.disk, record)?;
        Ok(())
    }
}

/// The frame before the first that could be in this log, if it is sound and holds none.
fn without_frames(verdict: &Verdict) -> Option<Lsn> {
    let torn = verdict.walked.values().any(|walked| walked.torn_bytes > 0);
    if !verdict.damage.is_empty() || verdict.frames() > 0 || torn {
        return None;
    }
    let checkpoint = match verdict.overview.checkpoint {
        Checkpoint::Sound { durable, .. } => durable,
        Checkpoint::Missing | Checkpoint::Damaged => Lsn::ZERO,
    };
    let firsts = verdict.overview.segments.iter().map(|segment| segment.first().previous());
    firsts.chain([checkpoint]).max()
}

fn holds_something(dir: &Path) -> io::Error {
    let text = format!(
        "there is a log already, with frames in it or with damage; if it is really to be given up, \
         move {} away first",
        dir.display()
    );
    io::Error::new(io::ErrorKind::AlreadyExists, text)
}

#[cfg(test)]
mod tests {
    use super::super::Durability;
    use super::super::disk::sim::{Fault, Random, SimDisk};
    use super::super::tests::{Machine, SEGMENT_BYTES};
    use super::*;
    use crate::base::units::Bytes;

    const AFTER: Lsn = Lsn(500);

    fn beginning(disk: &SimDisk) -> Result<Beginning, WalError> {
        let options = Options { segment_bytes: Bytes(SEGMENT_BYTES), ..Options::default() };
        Beginning::on(disk.shared(), &options)
    }

    /// What a refused start leaves.
    fn empty_log(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        Machine::start(&disk).unwrap().close();
        disk
    }

    #[test]
    fn the_first_frame_is_the_one_behind() {
        for disk in [SimDisk::new(1), empty_log(1)] {
            beginning(&disk).unwrap().make(AFTER).unwrap();
            let mut machine = Machine::start(&disk).unwrap();
            assert_eq!(machine.log.marks.get().durable, AFTER);
            assert_eq!(machine.commit(b"first"), AFTER.next());
            drop(machine);
            assert!(beginning(&disk).is_err(), "a log with a frame is not given up");
        }
    }

    #[test]
    fn a_log_without_a_frame_may_begin_earlier() {
        let disk = SimDisk::new(1);
        beginning(&disk).unwrap().make(AFTER).unwrap();
        // Also when a server ran on it, which makes the next segment ahead of need.
        Machine::start(&disk).unwrap().close();
        let again = beginning(&disk).unwrap();
        assert_eq!((again.begun_after(), again.given()), (AFTER, Lsn::ZERO));
        again.make(Lsn(7)).unwrap();
        let mut machine = Machine::start(&disk).unwrap();
        assert_eq!(machine.commit(b"first"), Lsn(8));
    }

    /// A number beyond would be acknowledged, and dropped by the next start.
    #[test]
    fn no_frame_gets_a_number_that_is_not_read_back() {
        let disk = SimDisk::new(1);
        let last = Lsn(Lsn::LIMIT.0 - 2);
        // Not by way of `make`, which leaves more room.
        beginning(&disk).unwrap().try_make(last.previous()).unwrap();
        let mut machine = Machine::start(&disk).unwrap();
        assert_eq!(machine.commit(b"last"), last);
        for _ in 0..2 {
            let refused = machine.append(b"one more", Durability::Sync);
            assert!(matches!(refused, Err(WalError::Exhausted { last: of }) if of == last));
            machine.close();
            machine = Machine::start(&disk).unwrap();
            assert_eq!(machine.log.marks.get().durable, last, "it opens, with all that it has");
        }
    }

    #[test]
    fn damage_is_not_given_up() {
        let disk = empty_log(1);
        let mut bytes = disk.bytes_of(&segment::name(1));
        bytes[..4096].fill(7);
        disk.put(&segment::name(1), bytes);
        assert!(beginning(&disk).is_err());
    }

    #[test]
    fn after_a_power_cut_it_is_begun_or_can_be() {
        let operations = {
            let disk = empty_log(1);
            let before = disk.operations();
            beginning(&disk).unwrap().make(AFTER).unwrap();
            disk.operations() - before
        };
        let mut begun = 0;
        for (seed, n) in (0..20).flat_map(|seed| (0..operations).map(move |n| (seed, n))) {
            let disk = empty_log(seed);
            disk.fail_after(n, Fault::PowerCut);
            assert!(beginning(&disk).and_then(|beginning| beginning.make(AFTER)).is_err());
            let mut disk = disk.after_power_cut(&mut Random::new(seed));
            // A start in between may find it begun; otherwise it is refused above, or makes an empty log.
            if Machine::start(&disk.copy()).is_ok_and(|it| it.log.marks.get().durable == AFTER) {
                begun += 1;
            }
            disk = disk.after_kill();
            let again =
                beginning(&disk).unwrap_or_else(|e| panic!("seed {seed}, operation {n}: {e}"));
            assert!(again.begun_after() <= AFTER);
            again.make(AFTER).unwrap();
            let mut machine = Machine::start(&disk.after_kill()).unwrap();
            assert_eq!(machine.commit(b"first"), AFTER.next(), "seed {seed}, operation {n}");
        }
        assert!(begun > 10, "some cuts come after the log was begun: {begun}");
    }
}
