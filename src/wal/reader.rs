//! Reading frames back, live and after a restart: the same way for both.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::frame::{HEADER_BYTES, Header, HeaderBytes, Kind};
use super::reclaim::{Begin, Found};
use super::segment::Segment;
use super::{Log, WalError};
use crate::base::lsn::Lsn;

/// Reads durable frames in the order of their numbers. Holds the segment it reads.
#[derive(Debug)]
pub struct Reader {
    log: Arc<Log>,
    /// The frame that comes next.
    next: Lsn,
    place: Option<Place>,
}

/// Where the next frame is.
#[derive(Debug)]
struct Place {
    segment: Arc<Segment>,
    offset: u64,
    /// The first frame that is not in `segment`; `None` while it is the last segment, and then the
    /// stock is asked again for each frame.
    until: Option<Lsn>,
}

/// One frame that was read. It lends its payload from the mapped segment, which is not recycled while
/// this lives: who keeps frames keeps disk.
#[derive(Clone)]
pub struct Frame {
    lsn: Lsn,
    body: Body,
}

#[derive(Clone)]
enum Body {
    /// In the segment's map.
    Mapped { segment: Arc<Segment>, offset: u64, length: usize },
    /// From a disk without maps.
    Copied(Arc<[u8]>),
}

impl Frame {
    /// Its number.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// What was appended.
    pub fn payload(&self) -> &[u8] {
        self.body.bytes()
    }
}

impl Body {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Copied(bytes) => bytes,
            Self::Mapped { segment, offset, length } => {
                segment.mapped(*offset, *length).expect("the map was asked for these bytes before")
            }
        }
    }

    /// The first `length` bytes only.
    fn cut(self, length: usize) -> Self {
        match self {
            Self::Copied(bytes) => Self::Copied(bytes[..length].into()),
            Self::Mapped { segment, offset, .. } => Self::Mapped { segment, offset, length },
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}, {} bytes)", self.lsn, self.payload().len())
    }
}

impl Reader {
    /// Reads from `from` on; 0 means from the first frame.
    pub(super) fn new(log: Arc<Log>, from: Lsn) -> Self {
        Self { log, next: from.max(Lsn(1)), place: None }
    }

    /// The next frame, once it is durable; waits for that up to `wait`. `None` when it was not, and
    /// after [`super::Wal::close`] when all durable frames were read.
    ///
    /// # Errors
    ///
    /// [`WalError::Corrupt`] when the frame is not what was written, [`WalError::Reclaimed`] when it
    /// is no longer there, [`WalError::Io`]. The reader stays where it is.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Frame>, WalError> {
        if !self.log.wait_durable(self.next, wait) {
            return Ok(None);
        }
        let (segment, offset) = self.find()?;
        let header = self.header(&segment, offset, self.next)?;
        let body = self.body(&segment, offset, &header)?;
        let frame = Frame { lsn: self.next, body };
        let place = self.place.as_mut().expect("the frame was found there");
        place.offset += header.frame_bytes();
        self.next = self.next.next();
        Ok(Some(frame))
    }

    /// Where the next frame begins.
    fn find(&mut self) -> Result<(Arc<Segment>, u64), WalError> {
        if let Some(place) = &self.place
            && place.until.is_some_and(|until| self.next < until)
        {
            return Ok((Arc::clone(&place.segment), place.offset));
        }
        let found = self.look_up()?;
        if let Some(place) = &mut self.place
            && Arc::ptr_eq(&place.segment, &found.segment)
        {
            place.until = found.until;
            return Ok((found.segment, place.offset));
        }
        let Begin { mut lsn, mut offset } = found.from;
        while lsn < self.next {
            offset += self.header(&found.segment, offset, lsn)?.frame_bytes();
            lsn = lsn.next();
        }
        assert_eq!(lsn, self.next, "the segment holds the frame");
        let segment = Arc::clone(&found.segment);
        self.place = Some(Place { segment: found.segment, offset, until: found.until });
        Ok((segment, offset))
    }

    fn look_up(&self) -> Result<Found, WalError> {
        let stock = super::locked(&self.log.stock);
        let found = stock.find(self.next);
        found.ok_or_else(|| WalError::Reclaimed { lsn: self.next, oldest: stock.oldest() })
    }

    /// The header of frame `lsn`, which is durable, at `offset`.
    fn header(&self, segment: &Arc<Segment>, offset: u64, lsn: Lsn) -> Result<Header, WalError> {
        let bytes: HeaderBytes = self
            .read(segment, offset, HEADER_BYTES)?
            .and_then(|read| read.bytes().try_into().ok())
            .ok_or_else(|| corrupt(segment, offset, lsn))?;
        Header::decode(&bytes, segment.seed())
            .filter(|h| h.kind == Kind::Frame && h.lsn == lsn)
            .filter(|h| offset + h.frame_bytes() <= segment.bytes())
            .ok_or_else(|| corrupt(segment, offset, lsn))
    }

    fn body(&self, segment: &Arc<Segment>, offset: u64, header: &Header) -> Result<Body, WalError> {
        let start = offset + HEADER_BYTES as u64;
        let read = self.read(segment, start, header.body_bytes())?;
        let sound = read.filter(|read| header.heads(read.bytes()));
        let sound = sound.ok_or_else(|| corrupt(segment, offset, header.lsn))?;
        Ok(sound.cut(header.length as usize))
    }

    /// Bytes of the segment; `None` when the file ends before.
    fn read(
        &self,
        segment: &Arc<Segment>,
        offset: u64,
        length: usize,
    ) -> Result<Option<Body>, WalError> {
        let failed = |error| {
            WalError::io("read", self.log.disk.path(&super::segment::name(segment.number())), error)
        };
        if segment.map(self.log.access()).map_err(failed)?.is_some() {
            let segment = Arc::clone(segment);
            if segment.mapped(offset, length).is_none() {
                return Ok(None);
            }
            Ok(Some(Body::Mapped { segment, offset, length }))
        } else {
            let mut bytes = vec![0; length];
            let read = segment.file().read_at(offset, &mut bytes).map_err(failed)?;
            if read < length {
                return Ok(None);
            }
            Ok(Some(Body::Copied(bytes.into())))
        }
    }
}

fn corrupt(segment: &Segment, offset: u64, lsn: Lsn) -> WalError {
    WalError::Corrupt { segment: segment.number(), offset, lsn }
}
