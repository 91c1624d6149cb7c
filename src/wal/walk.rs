//! Walking over a segment's frames from outside, beyond those that are not sound: what is there, what
//! was synced and is not, and where a frame was being written.

use std::io;

use super::disk::{Disk, DiskFile};
use super::inspect::{Overview, SegmentInfo, SegmentState};
use super::scan::{End, Scan, Step};
use super::segment::{HEADER_PAGE_BYTES, Header};
use crate::base::lsn::Lsn;

/// What a walk over a segment's frames found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// Sound frames.
    pub frames: u64,
    /// The first sound frame, 0 when there is none.
    pub first: Lsn,
    /// The last sound frame, 0 when there is none.
    pub last: Lsn,
    /// The last frame that a sound frame or the mark behind them knows to be synced.
    pub durable: Lsn,
    /// Bytes of a frame written in part behind the last, which nobody knows to be synced.
    pub torn_bytes: u64,
    /// Frames that were synced and are not sound: where, the first, the last.
    pub gaps: Vec<(u64, Lsn, Lsn)>,
}

impl Walked {
    /// The last frame that the segment is known to have held, sound or not.
    pub(super) fn end(&self) -> Lsn {
        self.gaps.iter().map(|(_, _, last)| *last).fold(self.last, Lsn::max)
    }
}

/// Hears of each sound frame; an error ends the walk.
pub type Visit<'a> = dyn FnMut(Lsn, &[u8]) -> io::Result<()> + 'a;

/// Walks over a segment's frames, beyond those that are not sound.
pub(super) fn walk_segment(
    disk: &dyn Disk,
    overview: &Overview,
    segment: &SegmentInfo,
    visit: &mut Visit<'_>,
) -> io::Result<Walked> {
    let Some(header) = segment.header.filter(|header| header.first > Lsn::ZERO) else {
        return Ok(Walked::default());
    };
    let file = disk.open(&segment.file)?;
    // The checkpoint vouches for the last segment only: a later frame of an earlier one may lie in a
    // file that was used again.
    let synced = match segment.state {
        SegmentState::Last => overview.checkpoint.durable(),
        _ => segment.until.unwrap_or_default(),
    };
    // Not beyond the end of a file that was cut: each look there would read in vain.
    let readable = Header { bytes: header.bytes.min(segment.bytes), ..header };
    let mut walk = Walk { file: file.as_ref(), scan: Scan::new(&readable), synced, visit };
    let mut walked = Walked::default();
    while segment.until.is_none_or(|until| walk.scan.expected() <= until) {
        if walk.frame(&mut walked)? {
            continue;
        }
        match walk.gap(segment.until, &mut walked)? {
            After::Goes => {}
            After::Ends => break,
        }
    }
    Ok(walked)
}

/// A walk under way.
struct Walk<'a, 'v> {
    file: &'a dyn DiskFile,
    scan: Scan,
    /// Frames up to here are known to be synced.
    synced: Lsn,
    visit: &'a mut Visit<'v>,
}

/// What comes after a place without a sound frame.
enum After {
    /// Another frame.
    Goes,
    /// Nothing.
    Ends,
}

impl Walk<'_, '_> {
    /// Goes over the next frame; `false` when there is no sound one.
    fn frame(&mut self, walked: &mut Walked) -> io::Result<bool> {
        let header = match self.scan.step(self.file)? {
            Step::Frame(header) => header,
            Step::End(End::Mark) => {
                walked.durable = walked.durable.max(self.scan.expected().previous());
                return Ok(false);
            }
            Step::End(_) => return Ok(false),
        };
        (self.visit)(header.lsn, self.scan.payload(self.file, &header)?)?;
        if walked.frames == 0 {
            walked.first = header.lsn;
        }
        walked.frames += 1;
        walked.last = header.lsn;
        walked.durable = walked.durable.max(header.durable);
        Ok(true)
    }

    /// Judges the place where there is no sound frame.
    fn gap(&mut self, until: Option<Lsn>, walked: &mut Walked) -> io::Result<After> {
        let mut torn_bytes = 0;
        if self.scan.expected() > self.synced {
            let behind = self.scan.behind(self.file)?;
            self.synced = self.synced.max(behind.durable);
            torn_bytes = behind.end.saturating_sub(self.scan.offset());
        }
        // Whoever says that the frame was synced was written after it: what is seen now counts.
        self.scan.refresh();
        if self.frame(walked)? {
            return Ok(After::Goes);
        }
        let (offset, first) = (self.scan.offset(), self.scan.expected());
        assert!(offset >= HEADER_PAGE_BYTES, "frames begin behind the header");
        if first > self.synced {
            walked.torn_bytes = torn_bytes;
            return Ok(After::Ends);
        }
        let goes = self.scan.skip(self.file, until)?;
        let last = if goes { self.scan.expected().previous() } else { self.synced };
        assert!(first <= last, "a gap has a frame");
        walked.gaps.push((offset, first, last));
        Ok(if goes { After::Goes } else { After::Ends })
    }
}
