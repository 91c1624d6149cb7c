//! A socket that does not wait for ever: for a request, for the rest of a header, or for a client that
//! does not read. hyper's own header timeout counts the idle time before a request as well, so it
//! would cut off every agent that sends less often than a header may take.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::crowd::{Lingering, Seat};
use super::options::Options;
use crate::metrics::Metrics;

const IDLE: u8 = 0;
const HEADER: u8 = 1;
const REQUEST: u8 = 2;

/// What a connection is doing; shared by its socket and its service.
#[derive(Debug, Clone)]
pub struct Phase(Arc<State>);

#[derive(Debug)]
struct State {
    /// Relaxed: socket and service run in the task of one connection, and the value orders nothing else.
    at: AtomicU8,
    /// Whether a request has a body of which something may still come. Relaxed, as `at`.
    is_unread: AtomicBool,
    seat: Seat,
    in_flight: IntGauge,
    /// The timer of [`Phase::within`], between two requests.
    timer: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Phase {
    /// The connection is open, and idle.
    pub fn new(seat: Seat, metrics: &Metrics) -> Self {
        seat.sit();
        Self(Arc::new(State {
            at: AtomicU8::new(IDLE),
            is_unread: AtomicBool::new(false),
            seat,
            in_flight: metrics.http_in_flight.clone(),
            timer: Mutex::default(),
        }))
    }

    /// A header has been read: the body reader and the request timeout watch from here.
    pub fn request(&self) {
        self.0.at.store(REQUEST, Ordering::Relaxed);
        self.0.seat.stand();
        self.0.in_flight.inc();
    }

    /// The reply has been handed over: the next request may come.
    pub fn idle(&self) {
        self.0.at.store(IDLE, Ordering::Relaxed);
        self.0.seat.sit();
        self.0.in_flight.dec();
    }

    /// The request has a body, which is to be read.
    pub fn body_begun(&self) {
        self.0.is_unread.store(true, Ordering::Relaxed);
    }

    /// The body was read to its end.
    pub fn body_read(&self) {
        self.0.is_unread.store(false, Ordering::Relaxed);
    }

    /// Whether something of a body was not read: nothing that follows it can be told from it, so the
    /// connection ends with the answer.
    pub fn is_unread(&self) -> bool {
        self.0.is_unread.load(Ordering::Relaxed)
    }

    /// Leave to linger, if there is any left; see [`super::linger`].
    pub fn lingering(&self) -> Option<Lingering> {
        self.0.seat.lingering()
    }

    /// Whether a request is being answered.
    pub fn is_answering(&self) -> bool {
        self.at() == REQUEST
    }

    /// What `work` gives, unless it takes longer than `limit`.
    ///
    /// The timer is the connection's, from request to request: to set one to a later moment costs
    /// nothing, to make one and take it away again takes the runtime's lock twice.
    pub async fn within<T>(
        &self,
        limit: Duration,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut timer = None;
        let done = poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let timer = timer.get_or_insert_with(|| self.timer(limit));
            timer.as_mut().poll(cx).map(|()| None)
        })
        .await;
        if timer.is_some() {
            *self.timers() = timer;
        }
        done
    }

    /// The connection's timer, set to go off after `limit`.
    fn timer(&self, limit: Duration) -> Pin<Box<Sleep>> {
        let deadline = Instant::now() + limit;
        match self.timers().take() {
            Some(mut timer) => {
                timer.as_mut().reset(deadline);
                timer
            }
            None => Box::pin(tokio::time::sleep_until(deadline)),
        }
    }

    fn timers(&self) -> MutexGuard<'_, Option<Pin<Box<Sleep>>>> {
        self.0.timer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first byte of a header has come, if it was awaited; returns whether it was.
    fn header(&self) -> bool {
        if self.at() != IDLE {
            return false;
        }
        self.0.at.store(HEADER, Ordering::Relaxed);
        self.0.seat.stand();
        true
    }

    fn at(&self) -> u8 {
        self.0.at.load(Ordering::Relaxed)
    }
}

/// A socket with limits on standing still.
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    phase: Phase,
    header_timeout: Duration,
    idle_timeout: Duration,
    reading: Alarm,
    writing: Alarm,
    /// Bytes that the client has taken since the alarm for writing was set.
    taken_bytes: u64,
    /// Bytes that it must take in `idle_timeout`: else one that reads a little now and then holds an
    /// export for ever.
    pace_bytes: u64,
}

/// A timer that is made when it is first needed.
#[derive(Debug, Default)]
struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    /// What it was set for; `None` while it is off.
    armed: Option<u8>,
}

impl Alarm {
    /// Sets the alarm for `what`, unless it is set for that already.
    fn arm(&mut self, what: u8, after: Duration) {
        if self.armed == Some(what) {
            return;
        }
        self.armed = Some(what);
        let deadline = Instant::now() + after;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(deadline),
            None => self.sleep = Some(Box::pin(tokio::time::sleep_until(deadline))),
        }
    }

    fn has_rung(&mut self, cx: &mut Context<'_>) -> bool {
        self.armed.is_some()
            && self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

impl<S> Guarded<S> {
    /// `stream`, watched.
    pub fn new(stream: S, phase: Phase, options: &Options) -> Self {
        Self {
            stream,
            phase,
            header_timeout: options.header_timeout.0,
            idle_timeout: options.idle_timeout.0,
            reading: Alarm::default(),
            writing: Alarm::default(),
            taken_bytes: 0,
            pace_bytes: options.body_bytes_per_second_min.0 * options.idle_timeout.0.as_secs(),
        }
    }

    /// Sets the alarm that fits the phase, and says whether it has rung.
    fn is_overdue(&mut self, cx: &mut Context<'_>) -> bool {
        match self.phase.at() {
            REQUEST => {
                self.reading.armed = None;
                return false;
            }
            HEADER => self.reading.arm(HEADER, self.header_timeout),
            _ => self.reading.arm(IDLE, self.idle_timeout),
        }
        self.reading.has_rung(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        if read.is_ready() {
            if into.filled().len() > before && self.phase.header() {
                self.reading.armed = None;
            }
            return read;
        }
        if !self.is_overdue(cx) {
            return Poll::Pending;
        }
        // Between requests a closed connection is nothing unusual, within one it is an error.
        if self.reading.armed == Some(IDLE) {
            return Poll::Ready(Ok(()));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Passes on what a write did, or an error where the client takes too little.
    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        wrote: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.taken_bytes += *bytes as u64;
            if self.taken_bytes >= self.pace_bytes {
                self.writing.armed = None;
            }
        }
        if wrote.is_ready() { wrote } else { self.stalled(cx) }
    }

    /// The same of what waits for all that was written.
    fn flushed(
        &mut self,
        cx: &mut Context<'_>,
        flushed: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if flushed.is_pending() {
            return self.stalled(cx);
        }
        self.writing.armed = None;
        // hyper does not look at the socket again once a reply is out, so nobody would set the alarm
        // for the next request.
        if self.is_overdue(cx) {
            cx.waker().wake_by_ref();
        }
        flushed
    }

    fn stalled<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.writing.armed.is_none() {
            self.taken_bytes = 0;
        }
        self.writing.arm(REQUEST, self.idle_timeout);
        if self.writing.has_rung(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.flushed(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.flushed(cx, shut)
    }
}
