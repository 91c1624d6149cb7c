//! A request's body: read within bounds of bytes and time, decompressed as it arrives.
//!
//! Memory is reserved with the way in before it is used: as many bytes as `Content-Length` says before
//! the first is read, and more as a chunked or compressed body grows. So overload ends in 503, and a
//! small body that inflates without end in 413.

use std::future::{Future as _, poll_fn};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::header::{CONTENT_ENCODING, EXPECT};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep_until};

use super::auth::sigv4::BodyDigest;
use super::guard::Phase;
use super::hush;
use super::inflate::{Encoding, Inflate, InflateError, Reserve};
use super::options::Options;
use crate::api::App;
use crate::api::call::Body;
use crate::api::fault::{Fault, Kind};
use crate::ingest::{Admission, IngestError};

/// Bytes that are reserved for a body that does not tell its size, to begin with.
const FIRST_BYTES: usize = 64 << 10;

/// Most bytes of a body that nobody wants, read away before the answer so that its sender can use the
/// connection again. What is longer ends the connection ([`super::linger`]).
const DISCARDED_BYTES_MAX: u64 = 64 << 10;

/// The same for a body that was too large or came when there was no memory, in bodies of the largest
/// size: a client that sees the connection break instead of 413 does not split its batch, and instead
/// of 503 does not wait.
const DISCARDED_BODIES_MAX: u64 = 4;

/// How long a body is awaited whose sender is not known: as a rule it came with its header, and nobody
/// unknown shall make us wait.
const STRANGER_WAIT: Duration = Duration::from_millis(100);

/// Reads and decompresses `body`.
///
/// # Errors
///
/// [`Fault`]: 413 too large, 415 unknown encoding, 400 not what its encoding says or broken off, 408
/// too slow, 503 no memory.
pub async fn read(
    app: &App,
    (options, phase): (&Options, &Phase),
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Body, Fault> {
    read_frames(app, options, headers, &mut Frames::new(body, headers, (options, phase))).await
}

async fn read_frames(
    app: &App,
    options: &Options,
    headers: &HeaderMap,
    frames: &mut Frames<'_>,
) -> Result<Body, Fault> {
    let read = collect(app, options, headers, frames).await;
    app.metrics.http_body_bytes.inc_by(frames.received);
    match &read {
        Ok(body) => app.metrics.http_inflated_bytes.inc_by(body.bytes.len() as u64),
        Err(Fault { kind: Kind::TooLarge | Kind::Busy { .. }, .. }) => {
            Box::pin(frames.discard(options.body_bytes_max.0 * DISCARDED_BODIES_MAX)).await;
        }
        Err(_) => Box::pin(frames.discard(DISCARDED_BYTES_MAX)).await,
    }
    read
}

/// The same, and the SHA-256 of the body as it came, before inflation.
///
/// # Errors
///
/// As [`read`].
pub async fn read_digested(
    app: &App,
    (options, phase): (&Options, &Phase),
    headers: &HeaderMap,
    body: Incoming,
) -> Result<(Body, BodyDigest), Fault> {
    let mut frames = Frames::new(body, headers, (options, phase));
    frames.digest = Some(Sha256::new());
    let body = read_frames(app, options, headers, &mut frames).await?;
    let digest = frames.digest.take().expect("nobody else takes it");
    Ok((body, digest.finalize().into()))
}

/// Reads `body` away where it is small, after an answer was found without it.
pub async fn discard(watched: (&Options, &Phase), headers: &HeaderMap, body: Incoming) {
    Frames::new(body, headers, watched).discard(DISCARDED_BYTES_MAX).await;
}

/// The same where nobody knows who sends it, without waiting for it.
pub async fn discard_of_stranger(watched: (&Options, &Phase), headers: &HeaderMap, body: Incoming) {
    let discarded = tokio::time::timeout(STRANGER_WAIT, discard(watched, headers, body)).await;
    // What did not come in time is what the connection ends with.
    drop(discarded);
}

async fn collect(
    app: &App,
    options: &Options,
    headers: &HeaderMap,
    frames: &mut Frames<'_>,
) -> Result<Body, Fault> {
    let encoding = encoding_of(headers)?;
    let size = frames.body.size_hint().exact();
    if let Some(size) = size.filter(|size| *size > options.body_bytes_max.0) {
        return Err(too_large(options, &format!("it has {size} bytes")));
    }
    let size = size.map(|size| usize::try_from(size).expect("bounded by a setting that fits"));
    let first = size.unwrap_or(FIRST_BYTES);
    let admission = app.ingest.admit(first).await?;
    let mut memory = Memory { admission, credit_bytes: first };
    let bytes = match encoding {
        None => plain(frames, (size, options.body_bytes_max.as_usize()), &mut memory).await?,
        Some(encoding) => Box::pin(inflated(frames, encoding, options, &mut memory)).await?,
    };
    Ok(Body { bytes, admission: memory.admission })
}

/// A body that came as it is, of the size that it told, or at most so many bytes. One that arrived in one
/// piece is not copied.
async fn plain(
    frames: &mut Frames<'_>,
    (size, bytes_max): (Option<usize>, usize),
    memory: &mut Memory,
) -> Result<Bytes, Fault> {
    let Some(first) = frames.next().await? else { return Ok(Bytes::new()) };
    if size == Some(first.len()) {
        return Ok(first);
    }
    let mut all = Vec::new();
    let mut next = Some(first);
    if let Some(size) = size {
        memory.reserve(size)?;
        all.reserve_exact(size);
    }
    while let Some(frame) = next {
        if all.capacity() - all.len() < frame.len() {
            // Never beyond the largest body, for which there is memory: the double of what is there may be
            // more than all requests have together.
            let doubled = all.capacity().saturating_mul(2).max(FIRST_BYTES).min(bytes_max);
            let wanted = doubled.max(all.len() + frame.len());
            memory.reserve(wanted - all.capacity())?;
            all.reserve_exact(wanted - all.len());
        }
        all.extend_from_slice(&frame);
        next = frames.next().await?;
    }
    Ok(all.into())
}

async fn inflated(
    frames: &mut Frames<'_>,
    encoding: Encoding,
    options: &Options,
    memory: &mut Memory,
) -> Result<Bytes, Fault> {
    let mut inflate = Inflate::new(encoding, options.inflated_bytes_max.as_usize())
        .map_err(|error| Fault::new(Kind::Internal, error.to_string()))?;
    while let Some(frame) = frames.next().await? {
        inflate.push(&frame, memory).map_err(in_words)?;
    }
    Ok(inflate.finish().map_err(in_words)?.into())
}

fn in_words(error: InflateError<IngestError>) -> Fault {
    match error {
        InflateError::Refused(busy) => busy.into(),
        InflateError::TooLarge { .. } => Fault::new(Kind::TooLarge, error.to_string()),
        InflateError::Malformed { .. } | InflateError::CutOff { .. } => {
            Fault::invalid(error.to_string())
        }
    }
}

/// The encoding of the body; `None` where it came as it is.
///
/// `InfluxDB` 1 takes an unknown encoding for none and parses the bytes, which can only end in errors
/// about lines that nobody wrote; here it is 415 on every path.
fn encoding_of(headers: &HeaderMap) -> Result<Option<Encoding>, Fault> {
    let mut found = None;
    for header in headers.get_all(CONTENT_ENCODING) {
        let names = String::from_utf8_lossy(header.as_bytes());
        for name in names.split(',').map(str::trim) {
            if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                continue;
            }
            let encoding = Encoding::from_name(name).ok_or_else(|| {
                let rule = "use gzip, deflate, zstd or identity";
                Fault::new(Kind::MediaType, format!("unknown Content-Encoding {name:?} ({rule})"))
            })?;
            if found.replace(encoding).is_some() {
                let message = "more than one Content-Encoding: send one of gzip, deflate, zstd";
                return Err(Fault::new(Kind::MediaType, message));
            }
        }
    }
    Ok(found)
}

fn too_large(options: &Options, found: &str) -> Fault {
    let message = format!(
        "Request Entity Too Large: the body is larger than {} bytes (server.body_bytes_max): {found}",
        options.body_bytes_max.0
    );
    Fault::new(Kind::TooLarge, message)
}

/// The memory reserved for one body. What was admitted at first is used up before more is asked for.
struct Memory {
    admission: Admission,
    credit_bytes: usize,
}

impl Reserve for Memory {
    type Error = IngestError;

    fn reserve(&mut self, bytes: usize) -> Result<(), IngestError> {
        let from_credit = bytes.min(self.credit_bytes);
        if bytes > from_credit {
            self.admission.grow(bytes - from_credit)?;
        }
        self.credit_bytes -= from_credit;
        Ok(())
    }
}

/// The frames of a body, each awaited no longer than the body's pace allows.
struct Frames<'o> {
    body: Incoming,
    options: &'o Options,
    /// Of the connection, which must know whether the body was read to its end.
    phase: &'o Phase,
    /// When the first frame was waited for, if it was.
    started: Option<Instant>,
    /// Bytes so far, on the wire.
    received: u64,
    /// Whether the sender waits for a "100 Continue", which the first look at the body sends.
    is_awaited: bool,
    /// Whether the body ended or broke off.
    is_over: bool,
    /// Of what was received so far, where somebody wants to know.
    digest: Option<Sha256>,
}

impl<'o> Frames<'o> {
    fn new(
        body: Incoming,
        headers: &HeaderMap,
        (options, phase): (&'o Options, &'o Phase),
    ) -> Self {
        let is_over = body.is_end_stream();
        let is_awaited = headers.contains_key(EXPECT);
        Self { body, options, phase, started: None, received: 0, is_awaited, is_over, digest: None }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.is_awaited = false;
        loop {
            let Some(frame) = self.frame_in_time().await else {
                self.is_over = true;
                let message = format!("the body came too slowly: {} bytes", self.received);
                return Err(Fault::new(Kind::Timeout, message));
            };
            let Some(frame) = frame else {
                self.is_over = true;
                return Ok(None);
            };
            let frame = frame.map_err(|error| {
                self.is_over = true;
                Fault::invalid(format!("the body broke off: {error}"))
            })?;
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            self.received += data.len() as u64;
            if self.received > self.options.body_bytes_max.0 {
                return Err(too_large(
                    self.options,
                    &format!("{} bytes came so far", self.received),
                ));
            }
            if let Some(digest) = &mut self.digest {
                digest.update(&data);
            }
            if !data.is_empty() {
                return Ok(Some(data));
            }
        }
    }

    /// The next frame; `None` where it does not come in time. What is there already needs no timer.
    async fn frame_in_time(&mut self) -> Option<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut timer = None;
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = hush::poll_frame(cx, &mut self.body) {
                let is_broken = matches!(frame, Some(Err(_)));
                if frame.is_none() || (!is_broken && self.body.is_end_stream()) {
                    self.phase.body_read();
                }
                return Poll::Ready(Some(frame));
            }
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(self.deadline())));
            timer.as_mut().poll(cx).map(|()| None)
        });
        frame.await
    }

    /// Until when the next frame must come: the average so far, or the whole body's time, from the first
    /// time on that one was waited for.
    fn deadline(&mut self) -> Instant {
        let started = *self.started.get_or_insert_with(Instant::now);
        let last = started + self.options.body_timeout.0;
        let bytes_per_second = self.options.body_bytes_per_second_min.0;
        let Some(seconds) = self.received.checked_div(bytes_per_second) else { return last };
        let paced = self.options.body_grace.0 + Duration::from_secs(seconds);
        last.min(started + paced)
    }

    /// Reads on without keeping anything, until the end or `bytes_max`.
    async fn discard(&mut self, bytes_max: u64) {
        // Who waits for permission to send the body needs no "go on" to learn that it is not wanted.
        if self.is_awaited || self.body.size_hint().lower() > bytes_max {
            return;
        }
        let mut discarded = 0;
        while !self.is_over && discarded <= bytes_max {
            match self.frame_in_time().await {
                Some(Some(Ok(frame))) => {
                    discarded += frame.data_ref().map_or(0, |data| data.len() as u64);
                }
                _ => self.is_over = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn one_known_encoding_is_taken_in_any_spelling() {
        for (values, encoding) in [
            (&[][..], None),
            (&[""], None),
            (&["identity"], None),
            (&["GZIP"], Some(Encoding::Gzip)),
            (&["x-gzip"], Some(Encoding::Gzip)),
            (&["identity, deflate"], Some(Encoding::Deflate)),
            (&["zstd"], Some(Encoding::Zstd)),
        ] {
            assert_eq!(encoding_of(&headers(values)).ok(), Some(encoding), "{values:?}");
        }
    }

    #[test]
    fn several_or_unknown_encodings_are_415() {
        for values in [&["gzip, gzip"][..], &["gzip", "zstd"], &["br"], &["snappy"]] {
            assert_eq!(encoding_of(&headers(values)).unwrap_err().status(), 415, "{values:?}");
        }
    }
}
