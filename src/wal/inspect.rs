//! Looking at a log without having it: what its files say, and whether every frame is sound.
//!
//! Nothing is locked and nothing written, so all of this is safe beside the server that has the log.
//! Such a server moves on meanwhile, and three looks are taken twice so that its work is not taken
//! for damage: the checkpoint, which says what files are needed; a frame that is not valid, which may
//! be the one being written; and the header of a segment in which damage was found, whose file may
//! have been used again.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use super::disk::{Disk, RealDisk};
use super::scan;
use super::segment::{self, Header};
use super::walk::walk_segment;
use super::{Case, WalError, checkpoint};
use crate::base::lsn::Lsn;

pub use super::walk::{Visit, Walked};

/// How often the files are looked at anew because a server gave segments free in between.
const LOOKS_MAX: u32 = 16;

/// Most missing segments in a row that are named one by one.
pub(super) const MISSING_MAX: usize = 1024;

/// What the files of a log say of themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// What the checkpoint file says.
    pub checkpoint: Checkpoint,
    /// Every segment, in the order of numbers.
    pub segments: Vec<SegmentInfo>,
    /// The oldest segment that a start reads: the checkpoint's, or one behind it that begins with the
    /// first frame beyond it.
    begin: u64,
}

/// Whether a log was ever begun in `dir`: it has a segment or a checkpoint, sound or not.
///
/// # Errors
///
/// [`WalError::Io`]: the directory cannot be listed. That there is none is no error.
pub fn has_log(dir: &Path) -> Result<bool, WalError> {
    let names = match RealDisk::read_only(dir).list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        names => names.map_err(failed(dir))?,
    };
    let of_log = |name: &String| segment::number_in(name).is_some() || name == checkpoint::NAME;
    Ok(names.iter().any(of_log))
}

/// What the checkpoint file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checkpoint {
    /// There is none.
    Missing,
    /// Neither of its records is valid.
    Damaged,
    /// The record that counts.
    Sound {
        /// The last frame that is stored outside the log.
        checkpoint: Lsn,
        /// The oldest segment that is still needed.
        segment: u64,
        /// The last frame known to be synced when it was written.
        durable: Lsn,
    },
}

/// A segment as its header says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file.
    pub file: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// What it is for.
    pub state: SegmentState,
    /// `None` when neither copy is valid.
    pub(super) header: Option<Header>,
    /// The last frame, where the segment after it begins at the next one.
    pub(super) until: Option<Lsn>,
}

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentState {
    /// All its frames are stored outside the log; the file is kept, or waits to be used again.
    Stored,
    /// It is needed, and a later one was begun.
    Full,
    /// It takes the newest frames.
    Last,
    /// It was made ahead of need and holds nothing.
    Spare,
    /// Its header is not valid.
    Damaged,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which of the cases of recovery.
    pub case: Case,
    /// The file.
    pub file: String,
    /// The segment's number; `None` for the checkpoint.
    pub segment: Option<u64>,
    /// Where in the file.
    pub offset: Option<u64>,
    /// The first and the last frame that are lost by it, where that is known.
    pub frames: Option<(Lsn, Lsn)>,
    /// Whether a start needs what is damaged.
    pub hurts: Hurts,
}

/// Whom damage hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurts {
    /// The server refuses to start on it.
    Start,
    /// Only who reads the past: the frames are stored outside the log.
    Past,
}

/// Every frame of a log, judged.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The files.
    pub overview: Overview,
    /// What was found in each segment with frames, by its number.
    pub walked: BTreeMap<u64, Walked>,
    /// All that is wrong, in the order of the files.
    pub damage: Vec<Damage>,
}

/// Reads the headers of the log in `dir`.
///
/// # Errors
///
/// [`WalError::Io`] when the directory or a file in it cannot be read.
pub fn overview(dir: &Path) -> Result<Overview, WalError> {
    Overview::of(&RealDisk::read_only(dir)).map_err(failed(dir))
}

/// Shows the sound frames of one segment of an overview to `visit`, to its end. A file that was used
/// again meanwhile has no more frames, and no gaps.
///
/// # Errors
///
/// [`WalError::Io`] when the file cannot be read, or of `visit`, whose error ends the walk.
pub fn walk(
    dir: &Path,
    overview: &Overview,
    segment: &SegmentInfo,
    visit: &mut Visit<'_>,
) -> Result<Walked, WalError> {
    let disk = RealDisk::read_only(dir);
    let mut walked = match walk_segment(&disk, overview, segment, visit) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Walked::default()),
        walked => walked.map_err(failed(dir))?,
    };
    if !walked.gaps.is_empty() && !is_same(&disk, segment).map_err(failed(dir))? {
        walked.gaps.clear();
    }
    Ok(walked)
}

/// Whether the file of a segment still has the life that the overview saw.
///
/// # Errors
///
/// [`WalError::Io`] when the file cannot be read.
pub fn is_unchanged(dir: &Path, segment: &SegmentInfo) -> Result<bool, WalError> {
    is_same(&RealDisk::read_only(dir), segment).map_err(failed(dir))
}

/// Reads every frame of the log in `dir` and judges it. `progress` is called before each segment.
///
/// # Errors
///
/// [`WalError::Io`] when a file cannot be read.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(&SegmentInfo)) -> Result<Verdict, WalError> {
    Verdict::of(&RealDisk::read_only(dir), progress).map_err(failed(dir))
}

fn failed(dir: &Path) -> impl Fn(io::Error) -> WalError {
    move |error| WalError::io("read the log in", dir.to_owned(), error)
}

impl Overview {
    /// Looks until the checkpoint stood still meanwhile.
    pub(super) fn of(disk: &dyn Disk) -> io::Result<Self> {
        let mut before = look_at_checkpoint(disk)?;
        let mut overview = look(disk, before)?;
        for _ in 0..LOOKS_MAX {
            let after = look_at_checkpoint(disk)?;
            if after.segment() == before.segment() {
                break;
            }
            before = after;
            overview = look(disk, before)?;
        }
        Ok(overview)
    }

    /// Segments that a start reads, in order, those with damaged headers included.
    pub(super) fn needed(&self) -> impl Iterator<Item = &SegmentInfo> {
        self.segments.iter().filter(|segment| segment.state != SegmentState::Stored)
    }

    /// What is wrong with the files themselves.
    fn damage(&self) -> Vec<Damage> {
        let mut damage = Vec::new();
        let file = |case, file: &str, segment| Damage {
            case,
            file: file.to_owned(),
            segment,
            offset: None,
            frames: None,
            hurts: Hurts::Start,
        };
        if self.checkpoint == Checkpoint::Damaged {
            damage.push(file(Case::CheckpointDamaged, checkpoint::NAME, None));
        }
        let stored = self.segments.iter().filter(|segment| segment.state == SegmentState::Stored);
        damage.extend(stored.filter_map(|segment| {
            let found = file(segment.wrong()?, &segment.file, Some(segment.number));
            Some(Damage { hurts: Hurts::Past, ..found })
        }));
        let mut expected = Some(self.begin).filter(|begin| *begin > 0);
        let (mut before, mut spare) = (Lsn::ZERO, false);
        for segment in self.needed() {
            let missing = expected.unwrap_or(segment.number)..segment.number;
            for missing in missing.take(MISSING_MAX) {
                damage.push(file(Case::SegmentMissing, &segment::name(missing), Some(missing)));
            }
            expected = segment.number.checked_add(1);
            let contradicts = segment.first() > Lsn::ZERO && (spare || segment.first() < before);
            let wrong = segment.wrong().or(contradicts.then_some(Case::OrderWrong));
            damage.extend(wrong.map(|case| file(case, &segment.file, Some(segment.number))));
            spare |= segment.state == SegmentState::Spare;
            before = before.max(segment.first());
        }
        if let Some(missing) = expected.filter(|_| self.needed().next().is_none()) {
            damage.push(file(Case::SegmentMissing, &segment::name(missing), Some(missing)));
        }
        damage
    }
}

impl Checkpoint {
    /// The oldest segment that is needed, 0 when that is not known.
    pub const fn segment(self) -> u64 {
        match self {
            Self::Sound { segment, .. } => segment,
            Self::Missing | Self::Damaged => 0,
        }
    }

    /// The last frame known to be synced, 0 when that is not known.
    pub const fn durable(self) -> Lsn {
        match self {
            Self::Sound { durable, .. } => durable,
            Self::Missing | Self::Damaged => Lsn::ZERO,
        }
    }

    /// The last frame that is stored elsewhere, 0 when that is not known.
    pub const fn stored(self) -> Lsn {
        match self {
            Self::Sound { checkpoint, .. } => checkpoint,
            Self::Missing | Self::Damaged => Lsn::ZERO,
        }
    }
}

impl SegmentInfo {
    /// The first frame, 0 when it holds none or that is not known.
    pub fn first(&self) -> Lsn {
        self.header.map_or(Lsn::ZERO, |header| header.first)
    }

    /// The random number of its present life; `None` when the header is damaged.
    pub fn generation(&self) -> Option<u64> {
        self.header.map(|header| header.generation)
    }

    /// The last frame, as the segment after it says; `None` where only a walk can tell.
    pub const fn until(&self) -> Option<Lsn> {
        self.until
    }

    /// What is wrong with the file itself.
    fn wrong(&self) -> Option<Case> {
        match self.header {
            None => Some(Case::HeaderDamaged),
            Some(header) if header.bytes != self.bytes => Some(Case::LengthWrong),
            Some(_) => None,
        }
    }

    fn opened(disk: &dyn Disk, number: u64, from: u64) -> io::Result<Self> {
        let name = segment::name(number);
        let mut file = disk.open(&name)?;
        let mut header = scan::read_header(file.as_ref(), number)?;
        if header.is_none() {
            // A server may have been writing it, or have given the file another name.
            file = disk.open(&name)?;
            header = scan::read_header(file.as_ref(), number)?;
        }
        let state = match header {
            None if number < from => SegmentState::Stored,
            None => SegmentState::Damaged,
            Some(header) if header.first == Lsn::ZERO => SegmentState::Spare,
            Some(_) if number < from => SegmentState::Stored,
            Some(_) => SegmentState::Full,
        };
        Ok(Self { number, file: name, bytes: file.bytes()?, state, header, until: None })
    }
}

impl SegmentState {
    /// What it is called.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Full => "full",
            Self::Last => "last",
            Self::Spare => "spare",
            Self::Damaged => "damaged",
        }
    }
}

impl Damage {
    /// What an operator does about it.
    pub const fn advice(&self) -> &'static str {
        match self.hurts {
            Hurts::Start => self.case.advice(),
            Hurts::Past => "nothing is to be done: its frames are stored in the tables",
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.case.label())?;
        if let Some(number) = self.segment {
            write!(f, ", segment {number}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        match self.frames {
            Some((first, last)) if first == last => write!(f, ", LSN {first}"),
            Some((first, last)) => write!(f, ", LSN {first} to {last}"),
            None => Ok(()),
        }
    }
}

impl Verdict {
    pub(super) fn of(disk: &dyn Disk, progress: &mut dyn FnMut(&SegmentInfo)) -> io::Result<Self> {
        let overview = Overview::of(disk)?;
        let mut verdict = Self { damage: overview.damage(), walked: BTreeMap::new(), overview };
        let segments = std::mem::take(&mut verdict.overview.segments);
        for segment in segments.iter().filter(|segment| segment.first() > Lsn::ZERO) {
            progress(segment);
            match walk_segment(disk, &verdict.overview, segment, &mut |_, _| Ok(())) {
                Ok(walked) => verdict.judge(disk, segment, walked)?,
                // Used again since the files were looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        verdict.overview.segments = segments;
        verdict.add_lost_between();
        verdict.damage.sort_by_key(|damage| (damage.segment, damage.offset));
        Ok(verdict)
    }

    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// The last frame that a start finds or knows to have been there.
    pub fn end(&self) -> Lsn {
        let walked = self.walked.values().map(Walked::end);
        let begun = self.overview.segments.iter().map(|segment| segment.first().previous());
        walked.chain(begun).chain([self.overview.checkpoint.durable()]).max().unwrap_or_default()
    }

    /// Sound frames of all segments.
    pub fn frames(&self) -> u64 {
        self.walked.values().map(|walked| walked.frames).sum()
    }

    fn judge(&mut self, disk: &dyn Disk, segment: &SegmentInfo, walked: Walked) -> io::Result<()> {
        if !walked.gaps.is_empty() && !is_same(disk, segment)? {
            return Ok(());
        }
        let stored = self.overview.checkpoint.stored();
        let is_past = |last: &Lsn| segment.state == SegmentState::Stored || *last <= stored;
        self.damage.extend(walked.gaps.iter().map(|(offset, first, last)| Damage {
            case: Case::FrameDamaged,
            file: segment.file.clone(),
            segment: Some(segment.number),
            offset: Some(*offset),
            frames: Some((*first, *last)),
            hurts: if is_past(last) { Hurts::Past } else { Hurts::Start },
        }));
        self.walked.insert(segment.number, walked);
        Ok(())
    }

    /// Says of segments that are missing or have no header which frames went with them: those between
    /// the end of the one before and the begin of the one behind.
    fn add_lost_between(&mut self) {
        for damage in &mut self.damage {
            let from = if damage.hurts == Hurts::Past { 0 } else { self.overview.begin };
            let Some(number) = damage.segment.filter(|_| damage.frames.is_none()) else { continue };
            let before = self.walked.range(from..number).next_back();
            let checkpoint = self.overview.checkpoint;
            let last_before = before.map_or(checkpoint.stored(), |(_, walked)| walked.end());
            let behind = self.overview.segments.iter().filter(|s| s.number > number);
            let behind = behind.map(SegmentInfo::first).find(|first| *first > Lsn::ZERO);
            let until = behind.map_or(checkpoint.durable(), Lsn::previous);
            if damage.case != Case::LengthWrong && last_before < until {
                damage.frames = Some((last_before.next(), until));
            }
        }
    }
}

/// Whether the file still is the segment that it was.
fn is_same(disk: &dyn Disk, segment: &SegmentInfo) -> io::Result<bool> {
    match disk.open(&segment.file) {
        Ok(file) => Ok(scan::read_header(file.as_ref(), segment.number)? == segment.header),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn look_at_checkpoint(disk: &dyn Disk) -> io::Result<Checkpoint> {
    let file = match disk.open(checkpoint::NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Checkpoint::Missing),
        Err(error) => return Err(error),
    };
    let record = checkpoint::read(file.as_ref())?;
    Ok(record.map_or(Checkpoint::Damaged, |record| Checkpoint::Sound {
        checkpoint: record.checkpoint,
        segment: record.segment,
        durable: record.durable,
    }))
}

fn look(disk: &dyn Disk, checkpoint: Checkpoint) -> io::Result<Overview> {
    let names = disk.list()?;
    let mut segments = Vec::new();
    for number in scan::numbers(&names).into_keys() {
        match SegmentInfo::opened(disk, number, checkpoint.segment()) {
            Ok(segment) => segments.push(segment),
            // Used again since the names were listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    for at in 1..segments.len() {
        let (first, number) = (segments[at].first(), segments[at].number);
        let before = &mut segments[at - 1];
        if first > Lsn::ZERO && before.first() > Lsn::ZERO && before.number + 1 == number {
            before.until = Some(first.previous());
        }
    }
    let begin = begin_of(&segments, checkpoint);
    for segment in segments.iter_mut().filter(|segment| segment.number < begin) {
        segment.state = SegmentState::Stored;
    }
    if let Some(last) = segments.iter_mut().rfind(|s| s.state == SegmentState::Full) {
        last.state = SegmentState::Last;
    }
    Ok(Overview { checkpoint, segments, begin })
}

/// From which segment on a start needs the log; the same rule as recovery has.
fn begin_of(segments: &[SegmentInfo], checkpoint: Checkpoint) -> u64 {
    let (mut begin, mut before) = (checkpoint.segment(), Lsn::ZERO);
    let is_read = |s: &&SegmentInfo| s.number >= checkpoint.segment() && s.wrong().is_none();
    for segment in segments.iter().filter(is_read) {
        let first = segment.first();
        if begin == 0 || first <= before || first > checkpoint.stored().next() {
            break;
        }
        (begin, before) = (segment.number, first);
    }
    begin
}
