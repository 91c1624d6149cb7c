//! Accepts connections, at most so many, and drains them at the end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, info, warn};

use super::guard::{Guarded, Phase};
use super::service::Service;

/// Most headers of one request. Source: hyper's default, spelled out.
const HEADERS_MAX: usize = 100;

/// Most bytes of one request's header.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// How long to wait when no connection can be accepted, at first; doubles up to a second.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LAST: Duration = Duration::from_secs(1);

/// How often the log is told that connections cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What all connections are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// Answer what was begun, then close.
    Draining,
    /// Close.
    Cutting,
}

/// How the end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut off while a request was being answered.
    pub cut: usize,
}

/// Serves `listener` until `shutdown` is done; then accepts nothing more, answers what was begun for
/// at most `drain_timeout`, and returns when the last connection is closed.
pub async fn serve(
    listener: TcpListener,
    service: Arc<Service>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let connections_max = service.options.connections_max;
    let permits = Arc::new(Semaphore::new(connections_max));
    let (stage, watched) = watch::channel(Stage::Serving);
    let accepting = accept_all(listener, Arc::clone(&service), Arc::clone(&permits), watched);
    // Ends by the shutdown only; the listener is closed with it.
    first(pin!(accepting), pin!(shutdown)).await;
    stage.send_replace(Stage::Draining);
    let open = connections_max - permits.available_permits();
    info!(open, "draining connections");
    let count = u32::try_from(connections_max).expect("bounded by its setting");
    let all_closed = permits.acquire_many(count);
    if tokio::time::timeout(service.options.drain_timeout.0, all_closed).await.is_ok() {
        return Drained { cut: 0 };
    }
    let cut = connections_max - permits.available_permits();
    warn!(cut, "connections cut off: their requests took longer than server.drain_timeout");
    stage.send_replace(Stage::Cutting);
    drop(permits.acquire_many(count).await);
    Drained { cut }
}

async fn accept_all(
    listener: TcpListener,
    service: Arc<Service>,
    permits: Arc<Semaphore>,
    stage: watch::Receiver<Stage>,
) {
    let mut back_off = BACK_OFF_FIRST;
    let clock = Arc::clone(&service.app.clock);
    let mut told_again = Duration::ZERO;
    loop {
        // The permit first: whoever is one too many waits in the system's backlog, not in our memory.
        let permit = Arc::clone(&permits).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _peer)) => {
                back_off = BACK_OFF_FIRST;
                let served = connection(stream, Arc::clone(&service), stage.clone(), permit);
                // Detached: it holds a permit, and `serve` waits for all permits.
                drop(tokio::spawn(served));
            }
            Err(error) if is_of_the_client(&error) => debug!(%error, "connection lost"),
            Err(error) => {
                // Without descriptors the listener stays readable: to try again at once is to spin.
                // Every connection that ends frees a descriptor for one more: told each time, it would
                // be told a hundred times a second.
                if clock.monotonic() >= told_again {
                    warn!(%error, "cannot accept connections; trying again");
                    told_again = clock.monotonic() + TELL_EVERY;
                }
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_LAST);
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Serves one connection; `_permit` counts it.
async fn connection(
    stream: TcpStream,
    service: Arc<Service>,
    mut stage: watch::Receiver<Stage>,
    _permit: OwnedSemaphorePermit,
) {
    let _open = Open::new(&service.app.metrics.http_connections);
    // Small replies must not wait for acknowledgements of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection lost");
    }
    let phase = Phase::default();
    let io = TokioIo::new(Guarded::new(stream, phase.clone(), &service.options));
    let answer = service_fn(|request| {
        let (service, phase) = (Arc::clone(&service), phase.clone());
        async move { Ok::<_, Infallible>(service.answer(request, phase).await) }
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEADER_BYTES_MAX)
            .serve_connection(io, answer)
    );
    loop {
        let next = first(served.as_mut(), pin!(stage.changed())).await;
        match next {
            First::Left(Ok(())) => break,
            First::Left(Err(error)) => {
                debug!(%error, "connection lost");
                break;
            }
            First::Right(Ok(())) if *stage.borrow() == Stage::Draining => {
                served.as_mut().graceful_shutdown();
            }
            First::Right(_cut) => break,
        }
    }
}

/// Counts a connection while it is open, even if its task panics.
struct Open<'m>(&'m IntGauge);

impl<'m> Open<'m> {
    fn new(connections: &'m IntGauge) -> Self {
        connections.inc();
        Self(connections)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Which of two was done first.
enum First<A, B> {
    Left(A),
    Right(B),
}

async fn first<A: Future, B: Future>(
    mut left: std::pin::Pin<&mut A>,
    mut right: std::pin::Pin<&mut B>,
) -> First<A::Output, B::Output> {
    poll_fn(|cx| {
        if let Poll::Ready(done) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(done));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
