//! Making a log that refuses to start startable again, with everything in it that is sound.
//!
//! Frames are numbered without a gap, and what stores the records counts by these numbers. So a lost
//! frame is not left out: a frame without records, the **filler**, takes its number. Only segments in
//! which something is broken are written anew, each under a temporary name that replaces the broken
//! file once it is whole and synced; that file was copied before, and the copy synced and compared. A
//! crash at any step leaves each file broken or mended, and a second run mends the rest.
//!
//! | what is broken | what is made of it |
//! |---|---|
//! | frames | the same segment, the sound frames, fillers for the others |
//! | a segment's length | the same, at the length that its header says |
//! | a segment's header, or the file is missing | fillers from the end of the segment before to the begin of the one behind; where nothing is behind, to the last frame that the checkpoint knows |
//! | the checkpoint | one from before the oldest segment: everything that is there is replayed, which what stores the records takes as repeated |

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, RealDisk};
use super::frame::{self, HEADER_BYTES, Seed};
use super::inspect::{Checkpoint, Damage, Hurts, MISSING_MAX, SegmentInfo, Verdict, Walked};
use super::segment::{self, HEADER_PAGE_BYTES, Header};
use super::walk::walk_segment;
use super::{Case, Options, WalError, checkpoint};
use crate::base::fs::{TEMPORARY_SUFFIX, create_dir_all, sync_dir};
use crate::base::lsn::Lsn;

/// A broken log, held by its lock, and what is going to be made of it.
#[derive(Debug)]
pub struct Salvage {
    disk: Arc<dyn Disk>,
    verdict: Verdict,
    mends: Vec<Mend>,
    lost: Vec<(Lsn, Lsn)>,
    /// The checkpoint to be made, where the old one is broken.
    checkpoint: Option<checkpoint::Record>,
}

/// A segment that is written anew.
#[derive(Debug)]
struct Mend {
    header: Header,
    /// Its last frame.
    last: Lsn,
    /// Where its sound frames are.
    source: Option<SegmentInfo>,
}

impl Salvage {
    /// Takes the log of `options` and judges it; `None` when a start would not refuse it. Nothing is
    /// changed. `filler` is the payload of a frame without records.
    ///
    /// # Errors
    ///
    /// [`WalError::Locked`] while a server has it. [`WalError::Damaged`]: nothing in it is sound, its
    /// segments contradict each other, or too many are missing. [`WalError::Io`].
    pub fn plan(options: &Options, filler: &[u8]) -> Result<Option<Self>, WalError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk::lock(&options.dir)?);
        let failed = |error| WalError::io("read the log in", options.dir.clone(), error);
        let verdict = Verdict::of(disk.as_ref(), &mut |_| {}).map_err(failed)?;
        if !verdict.damage.iter().any(|damage| damage.hurts == Hurts::Start) {
            return Ok(None);
        }
        if let Some(damage) = verdict.damage.iter().find(|d| d.case == Case::OrderWrong) {
            return Err(hopeless(disk.as_ref(), damage, damage.to_string()));
        }
        let mut missing = verdict.damage.iter().filter(|d| d.case == Case::SegmentMissing);
        if let Some(damage) = missing.nth(MISSING_MAX - 1) {
            // A file under a number far from the others: filling up to it would fill the disk.
            let detail = format!("{MISSING_MAX} segments or more are missing in a row");
            return Err(hopeless(disk.as_ref(), damage, detail));
        }
        let (mends, lost) = (Vec::new(), Vec::new());
        let mut salvage = Self { disk, verdict, mends, lost, checkpoint: None };
        salvage.plan_mends(options.segment_bytes.0, frame::frame_bytes(filler.len()) as u64)?;
        Ok(Some(salvage))
    }

    /// All that is broken.
    pub fn damage(&self) -> &[Damage] {
        &self.verdict.damage
    }

    /// The frames that are lost: the first and the last of each stretch.
    pub fn lost(&self) -> &[(Lsn, Lsn)] {
        &self.lost
    }

    /// Sound frames in the log.
    pub fn frames(&self) -> u64 {
        self.verdict.frames()
    }

    /// Copies the broken files that are there to `to`, an empty folder or none yet, and returns their
    /// names. The copies are durable and equal on return.
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]; the log was not changed.
    pub fn copy_broken(&self, to: &Path) -> Result<Vec<String>, WalError> {
        let failed = |error| WalError::io("copy the broken files to", to.to_owned(), error);
        create_dir_all(to).map_err(failed)?;
        if to.read_dir().map_err(failed)?.next().is_some() {
            return Err(failed(io::Error::other("the folder is not empty")));
        }
        let broken: BTreeSet<&str> = self.damage().iter().map(|d| d.file.as_str()).collect();
        let mut copied = Vec::new();
        for name in broken.into_iter().chain([checkpoint::NAME]) {
            let from = self.disk.path(name);
            if from.exists() && !copied.iter().any(|copied| copied == name) {
                copy(&from, &to.join(name)).map_err(failed)?;
                copied.push(name.to_owned());
            }
        }
        sync_dir(to).map_err(failed)?;
        Ok(copied)
    }

    /// Writes the broken segments anew, and the checkpoint. Only after [`Salvage::copy_broken`].
    ///
    /// # Errors
    ///
    /// [`WalError::Io`]: the segments that were written are mended, the others are as they were; a
    /// second run mends them.
    pub fn mend(self, filler: &[u8]) -> Result<(), WalError> {
        for mend in &self.mends {
            let name = segment::name(mend.header.number);
            let failed = |error| WalError::io("mend", self.disk.path(&name), error);
            self.write(mend, filler).map_err(failed)?;
        }
        if let Some(record) = self.checkpoint {
            let failed = |error| WalError::io("make", self.disk.path(checkpoint::NAME), error);
            checkpoint::File::create(&self.disk, record).map_err(failed)?;
        }
        Ok(())
    }

    fn plan_mends(&mut self, segment_bytes: u64, filler_bytes: u64) -> Result<(), WalError> {
        let segments = self.verdict.overview.segments.clone();
        let known = self.verdict.overview.checkpoint;
        let sound = segments.iter().find(|s| s.number >= known.segment() && s.first() > Lsn::ZERO);
        // Without a checkpoint the oldest segment with a header is where the log begins.
        let (begin, before) = match (known, sound) {
            (Checkpoint::Sound { segment, checkpoint, .. }, _) => (segment, checkpoint),
            (_, Some(sound)) => (sound.number, sound.first().previous()),
            (_, None) => {
                let detail = "no segment has a valid header".to_owned();
                return Err(hopeless(self.disk.as_ref(), &self.damage()[0], detail));
            }
        };
        let end = segments.last().map_or(begin, |last| last.number.max(begin));
        let mut last = before;
        for number in begin..=end {
            let source = segments.iter().find(|segment| segment.number == number);
            let of_it = |d: &&Damage| d.segment == Some(number) && d.hurts == Hurts::Start;
            if !self.damage().iter().any(|damage| of_it(&damage)) {
                last = last.max(self.verdict.walked.get(&number).map_or(last, Walked::end));
                continue;
            }
            let mut behind = segments.iter().filter(|s| s.number > number).map(SegmentInfo::first);
            let until = behind.find(|first| *first > Lsn::ZERO).map(Lsn::previous);
            let bytes = source.and_then(|s| s.header).map_or(segment_bytes, |h| h.bytes);
            let room = (bytes - HEADER_PAGE_BYTES) / filler_bytes;
            last = self.plan_mend((number, bytes), source, (last, until), room);
        }
        if !matches!(known, Checkpoint::Sound { .. }) {
            let record =
                checkpoint::Record { turn: 0, checkpoint: before, segment: begin, durable: last };
            self.checkpoint = Some(record);
        }
        Ok(())
    }

    /// Plans one segment behind frame `before` and up to `until`, as the next one says; returns its
    /// last frame.
    fn plan_mend(
        &mut self,
        (number, bytes): (u64, u64),
        source: Option<&SegmentInfo>,
        (before, until): (Lsn, Option<Lsn>),
        room: u64,
    ) -> Lsn {
        let generation = self.disk.random();
        let source = source.filter(|source| source.first() > Lsn::ZERO);
        let walked = source.and_then(|source| self.verdict.walked.get(&source.number));
        let synced = self.verdict.overview.checkpoint.durable();
        let end = until.unwrap_or_else(|| walked.map_or(synced, |w| w.end().max(synced)));
        let first = source.map_or(before.next(), SegmentInfo::first);
        let mut last = end.max(first.previous());
        if let Some(walked) = walked {
            let gaps = walked.gaps.iter().map(|(_, first, last)| (*first, *last));
            self.lost.extend(gaps.chain([(walked.end().next(), last)]).filter(|(a, b)| a <= b));
        } else {
            last = last.min(Lsn(before.0.saturating_add(room)));
            self.lost.extend(Some((first, last)).filter(|(a, b)| a <= b));
        }
        // Behind the last frame a segment without frames is a spare; but the one that the checkpoint
        // names has begun.
        let named = self.verdict.overview.checkpoint.segment();
        let is_spare = source.is_none() && until.is_none() && last < first && number > named;
        let begins = if is_spare { Lsn::ZERO } else { first };
        let header = Header { number, generation, first: begins, bytes };
        self.mends.push(Mend { header, last, source: source.cloned() });
        last
    }

    fn write(&self, mend: &Mend, filler: &[u8]) -> io::Result<()> {
        let Mend { header, last, source } = mend;
        let name = segment::name(header.number);
        let temporary = name.clone() + TEMPORARY_SUFFIX;
        let file = self.disk.create(&temporary)?;
        file.allocate(header.bytes)?;
        segment::fill_with_zeros(file.as_ref(), header.bytes)?;
        if header.first > Lsn::ZERO {
            let mut out = Out {
                file: file.as_ref(),
                seed: header.seed(),
                bytes: header.bytes,
                offset: HEADER_PAGE_BYTES,
                next: header.first,
            };
            if let Some(source) = source {
                let overview = &self.verdict.overview;
                walk_segment(self.disk.as_ref(), overview, source, &mut |lsn, payload| {
                    out.fill(lsn, filler)?;
                    out.put(payload)
                })?;
            }
            out.fill(last.next(), filler)?;
            assert!(out.next > *last, "every number has its frame");
        }
        file.write_at(0, &header.encode())?;
        file.sync()?;
        self.disk.publish(&temporary, &name)
    }
}

/// A segment that is being written.
struct Out<'a> {
    file: &'a dyn DiskFile,
    seed: Seed,
    bytes: u64,
    offset: u64,
    next: Lsn,
}

impl Out<'_> {
    /// Fillers for the numbers before `until`.
    fn fill(&mut self, until: Lsn, filler: &[u8]) -> io::Result<()> {
        while self.next < until {
            self.put(filler)?;
        }
        Ok(())
    }

    fn put(&mut self, payload: &[u8]) -> io::Result<()> {
        let header = frame::Header::of_payload(payload).numbered(self.next);
        if self.offset + header.frame_bytes() > self.bytes {
            return Err(io::Error::other("the frames do not fit the segment"));
        }
        let mut bytes = header.encode(self.seed).to_vec();
        bytes.extend_from_slice(payload);
        bytes.resize(HEADER_BYTES + header.body_bytes(), 0);
        self.file.write_at(self.offset, &bytes)?;
        self.offset += header.frame_bytes();
        self.next = self.next.next();
        Ok(())
    }
}

fn hopeless(disk: &dyn Disk, damage: &Damage, detail: String) -> WalError {
    WalError::Damaged { case: damage.case, path: disk.path(&damage.file), detail }
}

/// Copies a file, syncs the copy, and reads both to compare.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut copy = File::create_new(to)?;
    io::copy(&mut source, &mut copy)?;
    copy.sync_all()?;
    if check_of(from)? == check_of(to)? {
        return Ok(());
    }
    Err(io::Error::other(format!("{} is not equal to what it was copied from", to.display())))
}

/// Length and checksum of a file.
fn check_of(path: &Path) -> io::Result<(u64, u32)> {
    /// Bytes read at once.
    const PART_BYTES: usize = 1 << 20;
    let (mut file, mut part) = (File::open(path)?, vec![0; PART_BYTES]);
    let (mut bytes, mut hasher) = (0, crc32fast::Hasher::new());
    loop {
        let read = file.read(&mut part)?;
        if read == 0 {
            return Ok((bytes, hasher.finalize()));
        }
        hasher.update(&part[..read]);
        bytes += read as u64;
    }
}
