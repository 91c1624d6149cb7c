//! A file of a source as a stream of bytes: fetched in blocks, so that no connection is held open while
//! the log is full, and inflated where it is compressed.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes};
use flate2::read::MultiGzDecoder;
use tracing::warn;

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

/// Shortest time that a call is given, however little of `batch_load.retry_for` is left: a store that is well
/// answers in it, and one that never does holds its task up no longer than this.
pub(super) const CALL_MIN: Duration = Duration::from_secs(3);

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

    /// Calls until it succeeds, is refused, or was away for too long. A call is told how long it may take,
    /// so that a store which takes a request and never answers is as good as one that is not there.
    pub(super) fn until_done<T>(
        &self,
        call: impl Fn(Duration) -> Result<T, ObjectError>,
    ) -> Result<T, GivenUp> {
        let end = self.clock.monotonic() + self.retry_for;
        let mut pause = PAUSE_MIN;
        loop {
            let left = end.saturating_sub(self.clock.monotonic());
            let error = match call(left.max(CALL_MIN)) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if error.trouble() != Trouble::Away {
                warn!(error = in_words(&error), "an object store refuses a load");
                return Err(GivenUp::Refused(error.plain()));
            }
            if self.is_stopping() {
                return Err(GivenUp::Stopping);
            }
            if self.clock.monotonic() >= end {
                warn!(error = in_words(&error), "an object store is away for too long for a load");
                return Err(GivenUp::Away(error.plain()));
            }
            self.metrics.load_source_retries.inc();
            self.rest(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// An error and its causes, for the log.
fn in_words(error: &dyn std::error::Error) -> String {
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
            let fetch = |most| self.store.within(most).get_range(&self.object, range.clone());
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::base::clock::SystemClock;
    use crate::base::thread::Thread;
    use crate::object::{Buckets, Options};

    /// A server that takes connections and requests, and says nothing for as long as it is asked.
    #[test]
    fn a_store_that_never_answers_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let held = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&held);
        let silent = Thread::spawn("silent", move || {
            let mut open = Vec::new();
            for stream in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                open.push(stream);
            }
        });
        let mut secret = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut secret, b"secret").unwrap();
        let options = Options {
            endpoint: endpoint.clone(),
            access_key_id: "key".to_owned(),
            secret_access_key_file: secret.path().to_owned(),
            ..Options::default()
        };
        let store = Buckets::open("s3://", &options).unwrap().bucket("mine", None).unwrap();
        let clock: SharedClock = Arc::new(SystemClock::new());
        let retry_for = Duration::from_millis(500);
        let (stopping, metrics) = (Arc::default(), Metrics::new().unwrap());
        let patience = Patience { clock: Arc::clone(&clock), stopping, retry_for, metrics };
        let begin = clock.monotonic();
        let given_up = patience.until_done(|most| store.within(most).objects("a", 1)).unwrap_err();
        let took = clock.monotonic().saturating_sub(begin);
        let told = "cannot list s3://mine/a: it did not answer in time";
        assert_eq!(given_up.to_string(), told);
        assert!(matches!(given_up, GivenUp::Away(_)));
        assert!(took >= CALL_MIN && took < retry_for + CALL_MIN * 2, "it took {took:?}");
        held.store(true, Ordering::Relaxed);
        drop(std::net::TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap());
        silent.unwrap().join().unwrap();
    }
}
