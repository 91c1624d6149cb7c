//! What a start finds, and what it makes of it.
//!
//! Every state of the directory is one [`Case`], and [`decide`] is the one place that says whether
//! the log goes on; both stand in [`super::cases`]. The rule behind the table: **a frame that is known
//! to be synced must be there; of the others, the ones before the first that is not valid are kept.**
//! Three witnesses know what is synced: the `first` of a later segment's header, the `durable` of a later valid frame or mark
//! of the same segment, and the `durable` of the checkpoint.
//!
//! # Damage below the checkpoint
//!
//! All frames up to the checkpoint are stored elsewhere, so no damage among them alone refuses a start.
//!
//! *In a segment wholly below it.* The last segment whose `first` is at most the checkpoint plus one
//! holds every frame beyond it, or the segments after it do. Nothing before that segment is needed,
//! whatever its files look like. Those that are sound are kept as long as `wal.retain_bytes` and
//! `wal.retain_for` ask; of one whose header or length is wrong no frame can be vouched for, and its
//! file is removed with a warning. Their frames are not read by a start: `tidegate wal verify` does.
//!
//! *In the checkpoint's own segment.* Behind a frame that is not valid the chain is found again at the
//! first sound frame, which names its own number. Is that number at most the checkpoint plus one, all
//! that is between is stored, all behind is walked as ever, and the log goes on with a warning. A
//! sound frame found so is the one appended under its number: its check is seeded with the segment's
//! number and generation, and within one generation a number is given once.
//!
//! *Across the checkpoint.* Where the first sound frame has a later number, or there is none, frames
//! beyond the checkpoint are gone with the damage. If a witness says that one of them was synced, the
//! start is refused as for any other. If none does, the log ends at the checkpoint, as it ends before
//! any frame that was never synced.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

pub use super::cases::{Case, Decision, decide};

use super::disk::{Disk, DiskFile};
use super::reclaim::{Begin, Live};
use super::retain::Sealed;
use super::scan::{self, End, Scan, Step};
use super::segment::{self, HEADER_PAGE_BYTES, Header, Segment};
use super::{Options, WalError, checkpoint, prepare};
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;

/// What [`super::Wal::open`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Frames beyond the checkpoint, to be replayed.
    pub frames: u64,
    /// The first of them; 0 when there is none.
    pub first: Lsn,
    /// The last frame of the log, replayed or not.
    pub last: Lsn,
    /// The last frame that is stored outside the log.
    pub checkpoint: Lsn,
    /// Segments that were read.
    pub segments: u64,
    /// Frames behind a gap, never acknowledged as synced, that were dropped.
    pub torn_frames: u64,
    /// Bytes dropped with them, from the first frame that was not valid to the last that was; 0 at a
    /// clean end.
    pub torn_bytes: u64,
}

impl Recovery {
    /// Says it in the log of the process, once a start.
    pub(super) fn report(&self, dir: &Path) {
        info!(
            dir = %dir.display(),
            frames = self.frames,
            first = self.first.0,
            last = self.last.0,
            checkpoint = self.checkpoint.0,
            segments = self.segments,
            torn_frames = self.torn_frames,
            torn_bytes = self.torn_bytes,
            "the log is open",
        );
    }
}

/// A log that was read and is ready to be written.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) found: Recovery,
    pub(super) checkpoint: checkpoint::File,
    /// Segments with the frames from the checkpoint on, in order, the one for new frames last.
    pub(super) live: Vec<Live>,
    /// Sound segments below, in order.
    pub(super) kept: Vec<Sealed>,
    /// Segments that hold nothing.
    pub(super) retired: Vec<Arc<Segment>>,
}

/// A segment's file with its header.
#[derive(Debug)]
struct Opened {
    file: Box<dyn DiskFile>,
    header: Header,
    /// When the file was last written.
    written_ns: i64,
}

/// Which frames need not be there, and which must be, by the checkpoint.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// Stored elsewhere, with all before it; 0 where no checkpoint says so.
    stored: Lsn,
    /// Synced, with all before it.
    synced: Lsn,
}

/// What was found in the segments.
#[derive(Debug)]
struct Read {
    found: Recovery,
    /// From where the oldest segment is sound.
    sound: Begin,
}

/// Everything found, before anything is changed.
#[derive(Debug)]
struct Survey {
    /// Segments that hold frames from the one with the first beyond the checkpoint on, in order.
    used: Vec<Opened>,
    /// Segments after them that do not.
    spares: Vec<Opened>,
    /// The numbers of segments below.
    reclaimed: Vec<u64>,
    leftovers: Vec<String>,
    checkpoint: Option<checkpoint::File>,
}

/// Reads the log on `disk` and makes it ready for new frames, or refuses and changes nothing.
pub(super) fn recover(disk: &Arc<dyn Disk>, options: &Options) -> Result<Recovered, WalError> {
    let is_retaining = options.retention().is_on();
    let recovery = Run { disk, segment_bytes: options.segment_bytes.0, is_retaining };
    let survey = recovery.survey()?;
    let read = recovery.read_frames(&survey)?;
    recovery.make_ready(survey, &read)
}

struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    segment_bytes: u64,
    is_retaining: bool,
}

/// The segment from which on a start needs the log: the last one that begins with the first frame
/// beyond the checkpoint or before it. Where none is known to, the one that the checkpoint names.
fn begin_of(opened: &[(u64, Result<Opened, WalError>)], record: &checkpoint::Record) -> u64 {
    let (mut begin, mut before) = (record.segment, Lsn::ZERO);
    for (number, header) in
        opened.iter().filter_map(|(number, o)| Some((*number, o.as_ref().ok()?.header)))
    {
        // Behind a spare, or a segment that contradicts the one before it, nothing is believed.
        if header.first <= before || header.first > record.checkpoint.next() {
            break;
        }
        (begin, before) = (number, header.first);
    }
    assert!(begin >= record.segment, "what was given up stays given up");
    begin
}

impl Run<'_> {
    /// Opens everything and holds the headers against each other.
    fn survey(&self) -> Result<Survey, WalError> {
        let names = self.disk.list().map_err(|e| self.failed("list", ".", e))?;
        let numbers = scan::numbers(&names);
        let checkpoint = self.find_checkpoint(&numbers)?;
        let from = checkpoint.as_ref().map_or(0, |file| file.record().segment);
        let mut opened: Vec<_> = numbers
            .keys()
            .filter(|number| **number >= from)
            .map(|number| (*number, self.open(*number)))
            .collect();
        let begin = checkpoint.as_ref().map_or(0, |file| begin_of(&opened, &file.record()));
        let below = opened.partition_point(|(number, _)| *number < begin);
        self.pass_stored(opened.drain(..below))?;
        let mut survey = Survey {
            used: Vec::new(),
            spares: Vec::new(),
            reclaimed: numbers.keys().copied().filter(|number| *number < begin).collect(),
            leftovers: Vec::new(),
            checkpoint,
        };
        let leftover = |name: &&String| name.ends_with(TEMPORARY_SUFFIX);
        survey.leftovers.extend(names.iter().filter(leftover).cloned());
        let mut expected = if begin > 0 { Some(begin) } else { None };
        for (number, opened) in opened {
            if let Some(missing) = expected.filter(|expected| *expected != number) {
                return Err(self.missing(missing));
            }
            expected = number.checked_add(1);
            let opened = opened?;
            if opened.header.first == Lsn::ZERO {
                survey.spares.push(opened);
                continue;
            }
            let before = survey.used.last().map_or(Lsn::ZERO, |last| last.header.first);
            if !survey.spares.is_empty() || opened.header.first < before {
                let detail = format!("segment {number} begins with frame {}", opened.header.first);
                return Err(self.refuse(Case::OrderWrong, &segment::name(number), detail));
            }
            survey.used.push(opened);
        }
        if begin > 0 && survey.used.is_empty() {
            return Err(self.missing(begin));
        }
        Ok(survey)
    }

    /// Passes over segments that turned out to be wholly below the checkpoint, and says what is wrong
    /// with them.
    fn pass_stored(
        &self,
        below: impl Iterator<Item = (u64, Result<Opened, WalError>)>,
    ) -> Result<(), WalError> {
        for (number, opened) in below {
            match opened {
                Ok(_) => {}
                Err(error @ WalError::Damaged { case, .. }) => {
                    assert_eq!(decide(case), Decision::Refuse, "it would be refused elsewhere");
                    self.tell_stored_damage(&segment::name(number), &error);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn tell_stored_damage(&self, name: &str, what: &dyn std::fmt::Display) {
        assert_eq!(decide(Case::StoredDamaged), Decision::Resume, "nothing of it is needed");
        let (file, label) = (self.disk.path(name), Case::StoredDamaged.label());
        warn!(file = %file.display(), %what, "{label}; its frames are stored in the tables");
    }

    fn find_checkpoint(
        &self,
        numbers: &BTreeMap<u64, &str>,
    ) -> Result<Option<checkpoint::File>, WalError> {
        match checkpoint::open(self.disk).map_err(|e| self.failed("read", checkpoint::NAME, e))? {
            checkpoint::Found::Sound(file) => Ok(Some(file)),
            checkpoint::Found::Missing => {
                if let Some(oldest) = numbers.keys().next() {
                    let label = Case::CheckpointMissing.label();
                    warn!(oldest, "{label}; every segment that is there is replayed");
                }
                Ok(None)
            }
            checkpoint::Found::Damaged => {
                let detail = "neither of its two records is valid".to_owned();
                Err(self.refuse(Case::CheckpointDamaged, checkpoint::NAME, detail))
            }
        }
    }

    /// Opens a segment and makes sure that what is read from here on is what the device has.
    fn open(&self, number: u64) -> Result<Opened, WalError> {
        let name = segment::name(number);
        let file = self.disk.open(&name).map_err(|e| self.failed("open", &name, e))?;
        // Pages of a killed process reach the device; then the page cache is dropped, because after a
        // failed write-back it holds bytes that the device never got.
        file.sync().map_err(|e| self.failed("sync", &name, e))?;
        file.forget_cached().map_err(|e| self.failed("read past the cache", &name, e))?;
        let header = scan::read_header(file.as_ref(), number);
        let Some(header) = header.map_err(|e| self.failed("read", &name, e))? else {
            let detail = format!("segment {number}: neither copy of the header is valid");
            return Err(self.refuse(Case::HeaderDamaged, &name, detail));
        };
        let bytes = file.bytes().map_err(|e| self.failed("read", &name, e))?;
        if bytes != header.bytes {
            let detail = format!("segment {number}: {bytes} bytes, not {}", header.bytes);
            return Err(self.refuse(Case::LengthWrong, &name, detail));
        }
        let written_ns = file.modified_ns().map_err(|e| self.failed("read", &name, e))?;
        Ok(Opened { file, header, written_ns })
    }

    /// Walks over all frames.
    fn read_frames(&self, survey: &Survey) -> Result<Read, WalError> {
        let record = survey.checkpoint.as_ref().map(checkpoint::File::record);
        let oldest = survey.used.first().map_or(Lsn::ZERO, |s| s.header.first.previous());
        let checkpoint = record.map_or(oldest, |record| record.checkpoint);
        let mut found = Recovery { checkpoint, last: oldest, ..Recovery::default() };
        if oldest > checkpoint {
            let detail = format!("the oldest segment begins after frame {oldest}");
            let name = survey.used.first().map_or(0, |s| s.header.number);
            return Err(self.refuse(Case::OrderWrong, &segment::name(name), detail));
        }
        let known = Known {
            stored: record.map_or(Lsn::ZERO, |record| record.checkpoint),
            synced: record.map_or(Lsn::ZERO, |record| record.durable),
        };
        let mut sound = Begin::of_segment(oldest.next());
        for (index, opened) in survey.used.iter().enumerate() {
            let next = survey.used.get(index + 1).map(|next| next.header.first.previous());
            let begin = self.read_segment(opened, next, known, &mut found)?;
            if index == 0 {
                sound = begin;
            }
        }
        found.segments = survey.used.len() as u64;
        found.frames = found.last.0.saturating_sub(checkpoint.0);
        if found.frames > 0 {
            found.first = checkpoint.next();
        }
        assert!(found.checkpoint <= found.last, "what is stored elsewhere was read or refused");
        Ok(Read { found, sound })
    }

    /// Walks over a segment's frames: exactly to frame `until` where a later segment says so, else to
    /// the first that is not valid and not stored elsewhere. From where the frames are sound.
    fn read_segment(
        &self,
        opened: &Opened,
        until: Option<Lsn>,
        known: Known,
        found: &mut Recovery,
    ) -> Result<Begin, WalError> {
        let Opened { file, header, .. } = opened;
        let name = segment::name(header.number);
        let failed = |error| self.failed("read", &name, error);
        let mut scan = Scan::new(header);
        let mut sound = Begin::of_segment(header.first);
        let end = loop {
            if until.is_some_and(|until| scan.expected() > until) {
                found.last = scan.expected().previous();
                return Ok(sound);
            }
            match scan.step(file.as_ref()).map_err(failed)? {
                Step::Frame(_) => {}
                Step::End(end) => {
                    let again = self.find_again(&name, &mut scan, file.as_ref(), known.stored);
                    match again.map_err(failed)? {
                        Some(begin) => sound = begin,
                        None => break end,
                    }
                }
            }
        };
        let behind = scan.behind(file.as_ref()).map_err(failed)?;
        let synced = until.unwrap_or_default().max(known.synced).max(behind.durable);
        if scan.expected() <= known.stored && synced <= known.stored {
            // Nobody knows of a frame beyond the checkpoint, so the log ends there.
            let what = format!("frames {} to {} are not valid", scan.expected(), known.stored);
            self.tell_stored_damage(&name, &what);
            found.last = known.stored;
            return Ok(sound);
        }
        if scan.expected() <= synced {
            let detail = format!(
                "segment {} at byte {}: frame {} is not valid, frames up to {synced} were synced",
                header.number,
                scan.offset(),
                scan.expected(),
            );
            return Err(self.refuse(Case::FrameDamaged, &name, detail));
        }
        found.last = scan.expected().previous();
        let torn_end = match end {
            End::Payload(header) => behind.end.max(scan.offset() + header.frame_bytes()),
            End::Room | End::Mark | End::Header => behind.end,
        };
        found.torn_frames = behind.frames;
        found.torn_bytes = torn_end.saturating_sub(scan.offset());
        let case = if found.torn_bytes > 0 { Case::TornTail } else { Case::CleanEnd };
        assert_eq!(decide(case), Decision::Resume, "what was not synced may be dropped");
        Ok(sound)
    }

    /// Finds the chain of frames again behind a place without a valid one, where all in between is
    /// stored elsewhere. `None` where it is not, or nothing sound follows; then the scan stays.
    fn find_again(
        &self,
        name: &str,
        scan: &mut Scan,
        file: &dyn DiskFile,
        stored: Lsn,
    ) -> io::Result<Option<Begin>> {
        let (lost, offset) = (scan.expected(), scan.offset());
        if lost > stored || !scan.skip(file, Some(stored.next()))? {
            return Ok(None);
        }
        let begin = Begin { lsn: scan.expected(), offset: scan.offset() };
        assert!(begin.lsn <= stored.next(), "every frame beyond the checkpoint is walked over");
        let until = begin.lsn.previous();
        let what = format!("frames {lost} to {until}, from byte {offset}, are not valid");
        self.tell_stored_damage(name, &what);
        Ok(Some(begin))
    }

    /// Removes what is left over, and makes a segment for new frames and the checkpoint that knows
    /// what was found. Only now is anything changed, and a crash in between is found as the same log.
    fn make_ready(&self, survey: Survey, read: &Read) -> Result<Recovered, WalError> {
        let Read { found, sound } = *read;
        self.remove_leftovers(&survey.leftovers)?;
        let mut used = survey.used;
        let mut spares = survey.spares.into_iter();
        let next = found.last.next();
        // A last segment without a frame is begun anew: a server that starts and dies again and again
        // must not use up the log.
        let empty = used.pop_if(|last| last.header.first == next);
        let after = used.last().map_or(0, |last| last.header.number) + 1;
        let reused = empty.or_else(|| spares.next());
        let segment = match reused {
            Some(opened) => self.begin_anew(opened, next)?,
            None => self.begin_new(after, next)?,
        };
        for spare in spares.rev() {
            self.remove(&segment::name(spare.header.number))?;
        }
        self.disk.sync_names().map_err(|e| self.failed("sync", ".", e))?;
        let mut live: Vec<Live> = used.into_iter().map(|opened| self.live(opened)).collect();
        if let Some(oldest) = live.first_mut() {
            oldest.sound = sound;
        }
        // It is not complete; when it is, it is told the time.
        live.push(Live::begun(segment, next, 0));
        let needed = |pair: &[Live]| pair[1].first > found.checkpoint.next();
        let stored = live.windows(2).position(needed).unwrap_or(live.len() - 1);
        let stored: Vec<_> = live.drain(..stored).collect();
        let checkpoint = self.keep_checkpoint(survey.checkpoint, &found, &live)?;
        let (mut kept, mut retired) = (Vec::new(), Vec::new());
        self.open_reclaimed(survey.reclaimed, &mut kept, &mut retired)?;
        kept.extend(
            stored.into_iter().map(|l| Sealed { segment: l.segment, written_ns: l.written_ns }),
        );
        Ok(Recovered { found, checkpoint, live, kept, retired })
    }

    fn live(&self, opened: Opened) -> Live {
        let Opened { file, header, written_ns } = opened;
        let segment = Arc::new(Segment::ready(self.disk, header, file));
        let sound = Begin::of_segment(header.first);
        Live { segment, first: header.first, sound, written_ns }
    }

    fn remove_leftovers(&self, names: &[String]) -> Result<(), WalError> {
        for name in names {
            info!(file = name, "removing a file that was being made");
            self.remove(name)?;
        }
        Ok(())
    }

    /// Gives a segment without frames a new generation, in place. Frames written into it and never
    /// synced may be there; under the new generation they cannot be read.
    fn begin_anew(&self, opened: Opened, first: Lsn) -> Result<Arc<Segment>, WalError> {
        let header = Header { generation: self.disk.random(), ..opened.header };
        assert!(header.bytes > HEADER_PAGE_BYTES, "a segment has room for frames");
        let segment = Segment::ready(self.disk, header, opened.file);
        self.begin(segment, first)
    }

    fn begin_new(&self, number: u64, first: Lsn) -> Result<Arc<Segment>, WalError> {
        let generation = self.disk.random();
        let header = Header { number, generation, first: Lsn::ZERO, bytes: self.segment_bytes };
        let segment = prepare::create(self.disk, header)
            .map_err(|e| self.failed("make", &segment::name(number), e))?;
        self.begin(segment, first)
    }

    fn begin(&self, segment: Segment, first: Lsn) -> Result<Arc<Segment>, WalError> {
        let name = segment::name(segment.number());
        segment.begin(first).map_err(|e| self.failed("begin", &name, e))?;
        Ok(Arc::new(segment))
    }

    /// Writes down that everything found is synced.
    fn keep_checkpoint(
        &self,
        file: Option<checkpoint::File>,
        found: &Recovery,
        live: &[Live],
    ) -> Result<checkpoint::File, WalError> {
        let failed = |error| self.failed("write", checkpoint::NAME, error);
        let oldest = live.first().expect("there is a segment for new frames").segment.number();
        let Some(mut file) = file else {
            let record = checkpoint::Record {
                turn: 0,
                checkpoint: found.checkpoint,
                segment: oldest,
                durable: found.last,
            };
            return checkpoint::File::create(self.disk, record).map_err(failed);
        };
        file.write(found.checkpoint, oldest, found.last).map_err(failed)?;
        Ok(file)
    }

    /// Opens segments below the checkpoint: those that hold frames for `kept`, those that can only be
    /// used again for `retired`. What is neither is removed.
    fn open_reclaimed(
        &self,
        numbers: Vec<u64>,
        kept: &mut Vec<Sealed>,
        retired: &mut Vec<Arc<Segment>>,
    ) -> Result<(), WalError> {
        for number in numbers {
            let name = segment::name(number);
            let file = self.disk.open(&name).map_err(|e| self.failed("open", &name, e))?;
            let failed = |error| self.failed("read", &name, error);
            let header = scan::read_header(file.as_ref(), number).map_err(failed)?;
            let (bytes, written_ns) =
                (file.bytes().map_err(failed)?, file.modified_ns().map_err(failed)?);
            let Some(header) = header.filter(|header| header.bytes == bytes) else {
                self.tell_stored_damage(&name, &"header or length is wrong; the file is removed");
                self.remove(&name)?;
                continue;
            };
            let holds_frames = header.first > Lsn::ZERO && self.is_retaining;
            if !holds_frames && bytes != self.segment_bytes {
                self.remove(&name)?;
                continue;
            }
            let segment = Arc::new(Segment::ready(self.disk, header, file));
            if holds_frames {
                kept.push(Sealed { segment, written_ns });
            } else {
                retired.push(segment);
            }
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), WalError> {
        self.disk.remove(name).map_err(|e| self.failed("remove", name, e))
    }

    fn missing(&self, number: u64) -> WalError {
        let detail = format!("segment {number} is needed");
        self.refuse(Case::SegmentMissing, &segment::name(number), detail)
    }

    fn refuse(&self, case: Case, name: &str, detail: String) -> WalError {
        assert_eq!(decide(case), Decision::Refuse, "the table says what is refused");
        WalError::Damaged { case, path: self.disk.path(name), detail }
    }

    fn failed(&self, what: &'static str, name: &str, error: io::Error) -> WalError {
        WalError::io(what, self.disk.path(name), error)
    }
}
