//! What a start finds, and what it makes of it.
//!
//! Every state of the directory is one [`Case`], and [`decide`] is the one place that says whether
//! the log goes on. The rule behind the table: **a frame that is known to be synced must be there;
//! of the others, the ones before the first that is not valid are kept.** Three witnesses know what
//! is synced: the `first` of a later segment's header, the `durable` of a later valid frame or mark
//! of the same segment, and the `durable` of the checkpoint.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use super::disk::{Disk, DiskFile};
use super::scan::{self, End, Scan, Step};
use super::segment::{self, HEADER_PAGE_BYTES, Header, Segment};
use super::{Options, WalError, checkpoint, prepare};
use crate::base::fs::TEMPORARY_SUFFIX;
use crate::base::lsn::Lsn;

/// One state of a part of the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// No file of a log.
    New,
    /// A file that was being made.
    Leftover,
    /// A segment below the checkpoint's.
    Reclaimed,
    /// A segment without frames, made ahead of need.
    Spare,
    /// The last segment ends with a valid frame; nothing later was begun.
    CleanEnd,
    /// The last segment ends with a frame written in part, or with later frames behind a gap, none
    /// of which was known to be synced.
    TornTail,
    /// The checkpoint file is not there, but segments are.
    CheckpointMissing,
    /// Both records of the checkpoint file are invalid.
    CheckpointDamaged,
    /// A segment that is needed is not there.
    SegmentMissing,
    /// A segment's header is invalid.
    HeaderDamaged,
    /// A segment is shorter or longer than its header says.
    LengthWrong,
    /// Segments whose headers contradict each other.
    OrderWrong,
    /// A frame that is known to be synced is not valid.
    FrameDamaged,
}

/// What becomes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on.
    Resume,
    /// It ends, and nothing is changed.
    Refuse,
}

/// The table: which cases a start survives.
pub const fn decide(case: Case) -> Decision {
    match case {
        Case::New
        | Case::Leftover
        | Case::Reclaimed
        | Case::Spare
        | Case::CleanEnd
        | Case::TornTail
        | Case::CheckpointMissing => Decision::Resume,
        Case::CheckpointDamaged
        | Case::SegmentMissing
        | Case::HeaderDamaged
        | Case::LengthWrong
        | Case::OrderWrong
        | Case::FrameDamaged => Decision::Refuse,
    }
}

impl Case {
    /// What it is called in messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "no log",
            Self::Leftover => "a leftover",
            Self::Reclaimed => "a reclaimed segment",
            Self::Spare => "a spare segment",
            Self::CleanEnd => "a clean end",
            Self::TornTail => "a torn tail",
            Self::CheckpointMissing => "the checkpoint is missing",
            Self::CheckpointDamaged => "the checkpoint is damaged",
            Self::SegmentMissing => "a segment is missing",
            Self::HeaderDamaged => "a segment's header is damaged",
            Self::LengthWrong => "a segment has the wrong length",
            Self::OrderWrong => "the segments contradict each other",
            Self::FrameDamaged => "a synced frame is damaged",
        }
    }

    /// What an operator does about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::SegmentMissing => {
                "restore the file; or run `tidegate wal verify` to see what is lost, and `tidegate wal \
                 salvage --to DIR` to start with the rest"
            }
            Self::OrderWrong => {
                "restore the files from one copy, and run `tidegate wal verify` to see what is readable"
            }
            Self::CheckpointDamaged
            | Self::HeaderDamaged
            | Self::LengthWrong
            | Self::FrameDamaged => {
                "restore the file from a copy, or run `tidegate wal verify` to see what is damaged, and \
                 `tidegate wal salvage --to DIR` to start with the rest"
            }
            Self::New
            | Self::Leftover
            | Self::Reclaimed
            | Self::Spare
            | Self::CleanEnd
            | Self::TornTail
            | Self::CheckpointMissing => "nothing is to be done",
        }
    }
}

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
    pub(super) live: Vec<(Arc<Segment>, Lsn)>,
    /// Segments that hold nothing that is needed.
    pub(super) retired: Vec<Arc<Segment>>,
}

/// A segment's file with its header.
#[derive(Debug)]
struct Opened {
    file: Box<dyn DiskFile>,
    header: Header,
}

/// Everything found, before anything is changed.
#[derive(Debug)]
struct Survey {
    /// Segments from the checkpoint's on that hold frames, in order.
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
    let recovery = Run { disk, segment_bytes: options.segment_bytes.0 };
    let survey = recovery.survey()?;
    let found = recovery.read_frames(&survey)?;
    recovery.make_ready(survey, found)
}

struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    segment_bytes: u64,
}

impl Run<'_> {
    /// Opens everything and holds the headers against each other.
    fn survey(&self) -> Result<Survey, WalError> {
        let names = self.disk.list().map_err(|e| self.failed("list", ".", e))?;
        let numbers = scan::numbers(&names);
        let checkpoint = self.find_checkpoint(&numbers)?;
        let from = checkpoint.as_ref().map_or(0, |file| file.record().segment);
        let mut survey = Survey {
            used: Vec::new(),
            spares: Vec::new(),
            reclaimed: numbers.keys().copied().filter(|number| *number < from).collect(),
            leftovers: Vec::new(),
            checkpoint,
        };
        let leftover = |name: &&String| name.ends_with(TEMPORARY_SUFFIX);
        survey.leftovers.extend(names.iter().filter(leftover).cloned());
        let mut expected = if from > 0 { Some(from) } else { None };
        for number in numbers.into_keys().filter(|number| *number >= from) {
            if let Some(missing) = expected.filter(|expected| *expected != number) {
                return Err(self.missing(missing));
            }
            expected = number.checked_add(1);
            let opened = self.open(number)?;
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
        if from > 0 && survey.used.is_empty() {
            return Err(self.missing(from));
        }
        Ok(survey)
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
        Ok(Opened { file, header })
    }

    /// Walks over all frames.
    fn read_frames(&self, survey: &Survey) -> Result<Recovery, WalError> {
        let record = survey.checkpoint.as_ref().map(checkpoint::File::record);
        let oldest = survey.used.first().map_or(Lsn::ZERO, |s| s.header.first.previous());
        let checkpoint = record.map_or(oldest, |record| record.checkpoint);
        let mut found = Recovery { checkpoint, last: oldest, ..Recovery::default() };
        if oldest > checkpoint {
            let detail = format!("the oldest segment begins after frame {oldest}");
            let name = survey.used.first().map_or(0, |s| s.header.number);
            return Err(self.refuse(Case::OrderWrong, &segment::name(name), detail));
        }
        for (index, opened) in survey.used.iter().enumerate() {
            let next = survey.used.get(index + 1).map(|next| next.header.first.previous());
            let synced = record.map_or(Lsn::ZERO, |record| record.durable);
            self.read_segment(opened, next, synced, &mut found)?;
        }
        found.segments = survey.used.len() as u64;
        found.frames = found.last.0.saturating_sub(checkpoint.0);
        if found.frames > 0 {
            found.first = checkpoint.next();
        }
        assert!(found.checkpoint <= found.last, "what is stored elsewhere was read or refused");
        Ok(found)
    }

    /// Walks over a segment's frames: exactly to frame `until` where a later segment says so, else to
    /// the first that is not valid. Frames up to `synced` are known to be synced.
    fn read_segment(
        &self,
        opened: &Opened,
        until: Option<Lsn>,
        synced: Lsn,
        found: &mut Recovery,
    ) -> Result<(), WalError> {
        let Opened { file, header } = opened;
        let name = segment::name(header.number);
        let failed = |error| self.failed("read", &name, error);
        let mut scan = Scan::new(header);
        let end = loop {
            if until.is_some_and(|until| scan.expected() > until) {
                found.last = scan.expected().previous();
                return Ok(());
            }
            match scan.step(file.as_ref()).map_err(failed)? {
                Step::Frame(_) => {}
                Step::End(end) => break end,
            }
        };
        let behind = scan.behind(file.as_ref()).map_err(failed)?;
        let synced = until.unwrap_or_default().max(synced).max(behind.durable);
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
        Ok(())
    }

    /// Removes what is left over, and makes a segment for new frames and the checkpoint that knows
    /// what was found. Only now is anything changed, and a crash in between is found as the same log.
    fn make_ready(&self, survey: Survey, found: Recovery) -> Result<Recovered, WalError> {
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
        let mut live: Vec<_> = used
            .into_iter()
            .map(|o| (Arc::new(Segment::ready(self.disk, o.header, o.file)), o.header.first))
            .collect();
        live.push((segment, next));
        let needed = |pair: &[(Arc<Segment>, Lsn)]| pair[1].1 > found.checkpoint.next();
        let stored = live.windows(2).position(needed).unwrap_or(live.len() - 1);
        let stored: Vec<_> = live.drain(..stored).map(|(segment, _)| segment).collect();
        let checkpoint = self.keep_checkpoint(survey.checkpoint, &found, &live)?;
        let mut retired = self.open_reclaimed(survey.reclaimed)?;
        retired.extend(stored);
        Ok(Recovered { found, checkpoint, live, retired })
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
        live: &[(Arc<Segment>, Lsn)],
    ) -> Result<checkpoint::File, WalError> {
        let failed = |error| self.failed("write", checkpoint::NAME, error);
        let oldest = live.first().expect("there is a segment for new frames").0.number();
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

    /// Opens segments below the checkpoint, to be used again. What cannot be is removed.
    fn open_reclaimed(&self, numbers: Vec<u64>) -> Result<Vec<Arc<Segment>>, WalError> {
        let mut retired = Vec::new();
        for number in numbers {
            let name = segment::name(number);
            let usable = |file: &dyn DiskFile| -> io::Result<Option<Header>> {
                let header = scan::read_header(file, number)?;
                let bytes = file.bytes()?;
                Ok(header.filter(|h| h.bytes == bytes && bytes == self.segment_bytes))
            };
            let file = self.disk.open(&name).map_err(|e| self.failed("open", &name, e))?;
            match usable(file.as_ref()).map_err(|e| self.failed("read", &name, e))? {
                Some(header) => retired.push(Arc::new(Segment::ready(self.disk, header, file))),
                None => self.remove(&name)?,
            }
        }
        Ok(retired)
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
