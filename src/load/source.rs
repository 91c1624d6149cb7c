//! A file of a source as a stream of bytes: fetched in blocks, so that no connection is held open while
//! the log is full, and inflated where it is compressed.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;

use crate::base::clock::SharedClock;
use crate::metrics::Metrics;
use crate::object::{Object, ObjectError, Store, Trouble};

/// Bytes that are fetched at once.
const BLOCK_BYTES: u64 = 4 << 20;

/// Bytes that are read at once.
const PIECE_BYTES: usize = 256 << 10;

/// What a compressed file begins with.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// First pause after a failed try; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How soon a pause ends when the server stops.
const STOP_LOOK: Duration = Duration::from_millis(50);

/// Why an object store was given up.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum GivenUp {
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// It was away for longer than the settings allow.
    #[error("{0}")]
    Away(String),
    /// It says no.
    #[error("{0}")]
    Refused(String),
}

/// Tries again while a store is away.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    pub(super) clock: SharedClock,
    pub(super) stopping: Arc<AtomicBool>,
    pub(super) retry_for: Duration,
    pub(super) metrics: Metrics,
}

impl Patience {
    pub(super) fn is_stopping(&self) -> bool {
        // Relaxed: a late look costs one more chunk or pause.
        self.stopping.load(Ordering::Relaxed)
    }

    /// Rests, but not beyond a stop.
    pub(super) fn rest(&self, pause: Duration) {
        let end = self.clock.monotonic() + pause;
        while !self.is_stopping() {
            let left = end.saturating_sub(self.clock.monotonic());
            if left.is_zero() {
                return;
            }
            self.clock.sleep(left.min(STOP_LOOK));
        }
    }

    /// Calls until it succeeds, is refused, or was away for too long.
    pub(super) fn until_done<T>(
        &self,
        call: impl Fn() -> Result<T, ObjectError>,
    ) -> Result<T, GivenUp> {
        let end = self.clock.monotonic() + self.retry_for;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match call() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error.trouble() != Trouble::Away {
                return Err(GivenUp::Refused(in_words(&error)));
            }
            if self.is_stopping() {
                return Err(GivenUp::Stopping);
            }
            if self.clock.monotonic() >= end {
                return Err(GivenUp::Away(in_words(&error)));
            }
            self.metrics.load_source_retries.inc();
            self.rest(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// An error and its causes.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // The crate repeats the inner text in the outer one.
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// The bytes of one file, from some byte on.
pub(super) struct Source {
    input: Input,
    piece: Vec<u8>,
    filled: usize,
    taken: usize,
}

enum Input {
    Plain(Box<Blocks>),
    Gzip(Box<MultiGzDecoder<Blocks>>),
}

impl Source {
    /// Opens a file at its beginning.
    pub(super) fn open(
        store: &Arc<Store>,
        object: &Object,
        patience: &Patience,
    ) -> io::Result<Self> {
        let mut blocks = Blocks::new(store, object, patience);
        let head = blocks.fill()?;
        let is_gzip = head.starts_with(&GZIP_MAGIC)
            || std::path::Path::new(&object.key).extension().is_some_and(|ending| ending == "gz");
        let input = if is_gzip {
            Input::Gzip(Box::new(MultiGzDecoder::new(blocks)))
        } else {
            Input::Plain(Box::new(blocks))
        };
        Ok(Self::over(input))
    }

    fn over(input: Input) -> Self {
        Self { input, piece: vec![0; PIECE_BYTES], filled: 0, taken: 0 }
    }

    /// Whether bytes of it are bytes of the object.
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self.input, Input::Plain(_))
    }

    /// Goes to a byte, of which `at` is where it stands now; not back. Costs inflating what is between.
    pub(super) fn skip_to(&mut self, at: u64, offset: u64) -> io::Result<()> {
        if let Input::Plain(blocks) = &mut self.input {
            (self.filled, self.taken) = (0, 0);
            blocks.seek(offset);
            return Ok(());
        }
        let mut left = offset.saturating_sub(at);
        while left > 0 {
            let there = self.fill()?.len();
            if there == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let passed = there.min(usize::try_from(left).unwrap_or(usize::MAX));
            self.consume(passed);
            left -= passed as u64;
        }
        Ok(())
    }

    /// What comes next; empty at the end.
    pub(super) fn fill(&mut self) -> io::Result<&[u8]> {
        if self.taken == self.filled {
            self.taken = 0;
            self.filled = match &mut self.input {
                Input::Plain(blocks) => blocks.read(&mut self.piece)?,
                Input::Gzip(inflated) => inflated.read(&mut self.piece)?,
            };
        }
        Ok(&self.piece[self.taken..self.filled])
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        assert!(self.taken + bytes <= self.filled, "no more is consumed than there was");
        self.taken += bytes;
    }
}

/// The bytes of an object, block by block.
struct Blocks {
    store: Arc<Store>,
    object: Object,
    patience: Patience,
    block: Bytes,
    next: u64,
}

impl Blocks {
    fn new(store: &Arc<Store>, object: &Object, patience: &Patience) -> Self {
        let (store, object, patience) = (Arc::clone(store), object.clone(), patience.clone());
        Self { store, object, patience, block: Bytes::new(), next: 0 }
    }

    fn seek(&mut self, offset: u64) {
        (self.block, self.next) = (Bytes::new(), offset);
    }

    fn fill(&mut self) -> io::Result<&[u8]> {
        if self.block.is_empty() && self.next < self.object.bytes {
            if self.patience.is_stopping() {
                return Err(io::Error::other(GivenUp::Stopping));
            }
            let end = self.object.bytes.min(self.next + BLOCK_BYTES);
            let range = self.next..end;
            let fetch = || self.store.get_range(&self.object, range.clone());
            self.block = self.patience.until_done(fetch).map_err(io::Error::other)?;
            self.next = end;
        }
        Ok(&self.block)
    }
}

impl Read for Blocks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill()?.len().min(out.len());
        self.block.copy_to_slice(&mut out[..bytes]);
        Ok(bytes)
    }
}
