//! Appending: a frame gets its number and its place, and its bytes a place in the pending group.
//!
//! Everything here happens under the tail's lock and touches memory only, so an append costs a copy.
//! The payload's check is computed before the lock, by the thread that has the bytes in its cache;
//! the header's check by the commit thread, which alone knows the durable mark of that moment.

use std::fmt;
use std::sync::Arc;

use super::frame::{self, HEADER_BYTES, HeaderBytes, PAYLOAD_BYTES_MAX};
use super::segment::{HEADER_PAGE_BYTES, Segment};
use super::{CommitError, Done, Durability, FullCause, Log, WalError};
use crate::base::lsn::Lsn;

/// Most bytes that wait for the commit thread; the memory of a log is twice this. One frame of any
/// size fits.
pub(super) const PENDING_BYTES_MAX: usize = 64 << 20;

/// A buffer that has grown beyond this is given back when groups have become smaller: one large
/// request must not hold memory for ever.
const BUFFER_KEPT_BYTES: usize = 8 << 20;

/// Of what groups lately took, one part in so many is forgotten with each group that takes less. Groups
/// of 20 MB, given back each time, cost a fifth of the way in: the system clears each page anew.
const BUFFER_FORGOTTEN_PART: usize = 16;

const _: () = assert!(frame::frame_bytes(PAYLOAD_BYTES_MAX) <= PENDING_BYTES_MAX);

/// The end of the log, where frames are appended.
#[derive(Debug)]
pub(super) struct Tail {
    /// Frames that the commit thread has not taken yet.
    pub(super) pending: Group,
    /// Where the next frame goes, if it fits.
    segment: Arc<Segment>,
    /// Offset in `segment` behind the last frame.
    offset: u64,
    /// The last frame's number.
    last: Lsn,
    /// Nothing is appended any more.
    pub(super) closed: bool,
    /// The commit thread waits for frames and must be woken. Otherwise it looks by itself before it
    /// waits: waking who is awake costs a system call, and under load the thread always is.
    pub(super) is_waited_for: bool,
}

impl Tail {
    /// The end of a log whose last frame is `last` and whose next begins `segment`.
    pub(super) fn new(segment: Arc<Segment>, last: Lsn) -> Self {
        Self {
            pending: Group::default(),
            segment,
            offset: HEADER_PAGE_BYTES,
            last,
            closed: false,
            is_waited_for: false,
        }
    }
}

/// Frames that are written together.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The frames, headers not sealed yet, in order.
    pub(super) buffer: Vec<u8>,
    /// Where they go, in order: one run a segment.
    pub(super) runs: Vec<Run>,
    /// Who waits for them, in order.
    pub(super) waiters: Vec<Waiter>,
    /// Bytes that the last groups took, the largest of them weighed by its age.
    recent_bytes: usize,
}

/// Neighbouring frames of one segment.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) segment: Arc<Segment>,
    /// Where in the segment the first of them goes.
    pub(super) offset: u64,
    /// Bytes of them in the group's buffer.
    pub(super) bytes: usize,
    pub(super) first: Lsn,
    pub(super) last: Lsn,
}

/// Who is told what became of a frame.
pub(super) struct Waiter {
    pub(super) lsn: Lsn,
    pub(super) durability: Durability,
    /// `None` once it was told.
    pub(super) done: Option<Done>,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lsn, durability, done } = self;
        write!(f, "Waiter({lsn}, {durability}, waits: {})", done.is_some())
    }
}

impl Drop for Waiter {
    /// Nobody waits for ever: whoever is forgotten, because the commit thread panicked, hears that
    /// the outcome is unknown.
    fn drop(&mut self) {
        if let Some(done) = self.done.take() {
            done(Err(CommitError::Poisoned { reason: "the commit thread ended".to_owned() }));
        }
    }
}

impl Group {
    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Empties the group, whose waiters were told, for the next frames.
    pub(super) fn clear(&mut self) {
        assert!(self.waiters.iter().all(|w| w.done.is_none()), "a waiter was not told");
        let faded = self.recent_bytes - self.recent_bytes / BUFFER_FORGOTTEN_PART;
        self.recent_bytes = self.buffer.len().max(faded);
        self.buffer.clear();
        if self.buffer.capacity() / 2 > self.recent_bytes {
            self.buffer.shrink_to(self.recent_bytes.max(BUFFER_KEPT_BYTES));
        }
        self.runs.clear();
        self.waiters.clear();
    }

    fn push(&mut self, place: &Place, header: &HeaderBytes, payload: &[u8]) {
        let start = self.buffer.len();
        let frame_bytes = frame::frame_bytes(payload.len());
        self.buffer.extend_from_slice(header);
        self.buffer.extend_from_slice(payload);
        self.buffer.resize(start + frame_bytes, 0);
        match self.runs.last_mut() {
            Some(run) if Arc::ptr_eq(&run.segment, &place.segment) => {
                assert_eq!(run.offset + run.bytes as u64, place.offset, "frames are neighbours");
                assert_eq!(run.last.next(), place.lsn, "numbers are dense");
                run.bytes += frame_bytes;
                run.last = place.lsn;
            }
            _ => self.runs.push(Run {
                segment: Arc::clone(&place.segment),
                offset: place.offset,
                bytes: frame_bytes,
                first: place.lsn,
                last: place.lsn,
            }),
        }
    }
}

/// Where a frame goes.
struct Place {
    segment: Arc<Segment>,
    offset: u64,
    lsn: Lsn,
}

/// Appends a frame; see [`super::Wal::append`].
pub(super) fn append(
    log: &Log,
    payload: &[u8],
    durability: Durability,
    numbered: impl FnOnce(Lsn),
    done: Done,
) -> Result<Lsn, WalError> {
    let max = payload_bytes_max(log.options.segment_bytes.0);
    if payload.len() > max {
        return Err(WalError::TooLarge { found: payload.len(), max });
    }
    let header = frame::Header::of_payload(payload);
    let mut tail = super::locked(&log.tail);
    // Under the lock: whoever empties `pending` for the last time throws the poison or sets `closed`
    // first, so nothing is left behind.
    if let Some(reason) = log.poison.reason() {
        return Err(WalError::Poisoned { reason: reason.to_owned() });
    }
    if tail.closed {
        return Err(WalError::Closed);
    }
    let place = place(log, &mut tail, header.frame_bytes())?;
    let lsn = place.lsn;
    // Before anybody can meet the frame; from here on nothing fails.
    numbered(lsn);
    tail.pending.push(&place, &header.numbered(lsn).encode_open(), payload);
    tail.pending.waiters.push(Waiter { lsn, durability, done: Some(done) });
    log.marks.set_appended(lsn);
    let is_waited_for = std::mem::take(&mut tail.is_waited_for);
    drop(tail);
    if is_waited_for {
        log.work.notify_one();
    }
    Ok(lsn)
}

/// Most bytes of a payload in segments of this size.
pub(super) fn payload_bytes_max(segment_bytes: u64) -> usize {
    let room = segment_bytes.saturating_sub(HEADER_PAGE_BYTES + HEADER_BYTES as u64);
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    PAYLOAD_BYTES_MAX.min(room - room % frame::ALIGN)
}

/// Gives the next frame its place and its number, in the next segment when it does not fit this one.
fn place(log: &Log, tail: &mut Tail, frame_bytes: u64) -> Result<Place, WalError> {
    let waiting = tail.pending.buffer.len() as u64;
    if !tail.pending.is_empty() && waiting + frame_bytes > PENDING_BYTES_MAX as u64 {
        return Err(WalError::Full { cause: FullCause::Pending });
    }
    // The segment behind this frame must begin with a number too.
    if tail.last.next().next() >= Lsn::LIMIT {
        return Err(WalError::Exhausted { last: tail.last });
    }
    if tail.offset + frame_bytes > tail.segment.bytes() {
        tail.segment = log.take_next().map_err(|cause| WalError::Full { cause })?;
        tail.offset = HEADER_PAGE_BYTES;
    }
    assert!(tail.offset + frame_bytes <= tail.segment.bytes(), "a frame lies in one segment");
    let lsn = tail.last.next();
    let place = Place { segment: Arc::clone(&tail.segment), offset: tail.offset, lsn };
    tail.offset += frame_bytes;
    tail.last = lsn;
    Ok(place)
}
