//! Accepts connections, at most so many, and drains them at the end.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::crowd::{Crowd, Ear, Seat, Told};
use super::current::Current;
use super::guard::{Guarded, Phase};
use super::hush::Deaf;
use super::linger;
use super::socket::{Socket, Watch};
use super::tls::Tls;
use crate::metrics::Metrics;

/// Most headers of one request. Source: hyper's default, spelled out.
const HEADERS_MAX: usize = 100;

/// Most bytes of one request's header.
const HEADER_BYTES_MAX: usize = 32 << 10;

/// How long to wait when no connection can be accepted, at first; doubles up to a second.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LAST: Duration = Duration::from_secs(1);

/// How often the log is told that connections cannot be accepted.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How often an idle connection is asked to end while a newcomer waits.
const MAKE_ROOM_EVERY: Duration = Duration::from_millis(100);

/// The first byte of a handshake. Source: RFC 8446, 5.1, the type of a record.
const HANDSHAKE: u8 = 22;

/// What tells the endpoints that the client speaks TLS, as a proxy before us would.
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What clients are told that speak clear text where TLS is spoken. It ends with the connection.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n\
    Connection: close\r\n\r\n\
    {\"error\":\"this port speaks TLS: write https:// in place of http://\"}";

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
    current: Arc<Current>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    // Fixed for the life of the server, whatever a reload says.
    let connections_max = current.service().options.connections_max;
    let permits = Arc::new(Semaphore::new(connections_max));
    let crowd = Arc::new(Crowd::new());
    let accepting = accept_all(listener, &current, &permits, &crowd);
    // Ends by the shutdown only; the listener is closed with it.
    first(pin!(accepting), pin!(shutdown)).await;
    crowd.tell_all(Told::End);
    let open = connections_max - permits.available_permits();
    info!(open, "draining connections");
    let count = u32::try_from(connections_max).expect("bounded by its setting");
    let all_closed = permits.acquire_many(count);
    let drain_timeout = current.service().options.drain_timeout.0;
    if tokio::time::timeout(drain_timeout, all_closed).await.is_ok() {
        return Drained { cut: 0 };
    }
    let cut = connections_max - permits.available_permits();
    warn!(cut, "connections cut off: their requests took longer than server.drain_timeout");
    crowd.tell_all(Told::Cut);
    drop(permits.acquire_many(count).await);
    Drained { cut }
}

async fn accept_all(
    listener: TcpListener,
    current: &Arc<Current>,
    permits: &Arc<Semaphore>,
    crowd: &Arc<Crowd>,
) {
    let mut back_off = BACK_OFF_FIRST;
    let app = Arc::clone(&current.service().app);
    let mut told_again = Duration::ZERO;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                back_off = BACK_OFF_FIRST;
                // One too many waits here, the others in the system's backlog, not in our memory.
                let permit = room(permits, crowd, &app.metrics).await;
                // Detached: it holds a permit, and `serve` waits for all permits.
                let served = connection(stream, Arc::clone(current), crowd.seat(), permit);
                drop(tokio::spawn(served));
            }
            Err(error) if is_of_the_client(&error) => debug!(%error, "connection lost"),
            Err(error) => {
                // Without descriptors the listener stays readable: to try again at once is to spin.
                // Every connection that ends frees a descriptor for one more: told each time, it would
                // be told a hundred times a second.
                if app.clock.monotonic() >= told_again {
                    warn!(%error, "cannot accept connections; trying again");
                    told_again = app.clock.monotonic() + TELL_EVERY;
                }
                tokio::time::sleep(back_off).await;
                back_off = (back_off * 2).min(BACK_OFF_LAST);
            }
        }
    }
}

/// The permit for one more connection; where there is none, those that are idle give way.
async fn room(permits: &Arc<Semaphore>, crowd: &Crowd, metrics: &Metrics) -> OwnedSemaphorePermit {
    let mut free = pin!(Arc::clone(permits).acquire_owned());
    let mut wait = Duration::ZERO;
    loop {
        if let First::Left(permit) = first(free.as_mut(), pin!(tokio::time::sleep(wait))).await {
            return permit.expect("the semaphore is never closed");
        }
        if crowd.ask_one_to_leave() {
            metrics.http_displaced.inc();
        }
        wait = MAKE_ROOM_EVERY;
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Serves one connection; `_permit` counts it.
async fn connection(
    stream: TcpStream,
    current: Arc<Current>,
    seat: Seat,
    _permit: OwnedSemaphorePermit,
) {
    let service = current.service();
    let metrics = &service.app.metrics;
    let _open = Open::new(&metrics.http_connections);
    // Small replies must not wait for acknowledgements of earlier ones.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "connection lost");
    }
    let Some(tls) = current.tls() else {
        let (socket, watch) = Socket::new(stream);
        return serve_http(socket, watch, &current, seat).await;
    };
    let timeout = service.options.tls.handshake_timeout.0;
    // Boxed: a connection in clear text would pay for its size as well.
    let mut shaken = Box::pin(tokio::time::timeout(timeout, handshake(stream, tls)));
    let mut ear = seat.ear();
    let next = first(shaken.as_mut(), pin!(told(&mut ear))).await;
    let error = match next {
        First::Left(Ok(Ok((stream, watch)))) => {
            return Box::pin(serve_http(stream, watch, &current, seat)).await;
        }
        First::Left(Ok(Err(error))) => error,
        First::Left(Err(_elapsed)) => io::ErrorKind::TimedOut.into(),
        // Nothing was asked yet, so there is nothing to answer.
        First::Right(_stopping) => return,
    };
    metrics.http_handshake_failures.inc();
    debug!(%error, "no handshake");
}

/// Agrees with the client on encryption. One that speaks clear text is told so in clear text.
async fn handshake(mut stream: TcpStream, tls: &Tls) -> io::Result<(TlsStream<Socket>, Watch)> {
    let mut start = [0];
    if stream.peek(&mut start).await? == 1 && start[0] != HANDSHAKE {
        stream.write_all(SPEAK_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "clear text"));
    }
    let (socket, watch) = Socket::new(stream);
    Ok((TlsAcceptor::from(tls.config()).accept(socket).await?, watch))
}

async fn serve_http<S>(stream: S, watch: Watch, current: &Current, seat: Seat)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut ear = seat.ear();
    let phase = Phase::new(seat, &current.service().app.metrics);
    let ended = serve_requests(stream, &watch, current, (&phase, &mut ear)).await;
    if ended == Ended::Answered
        && phase.is_unread()
        && let Some(_leave) = phase.lingering()
    {
        // Boxed: few connections come here, and all would have room for it.
        let lingering = Box::pin(linger::linger(watch));
        first(pin!(lingering), pin!(told(&mut ear))).await;
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// With a whole answer, or between two requests.
    Answered,
    /// It broke, or was cut.
    Broken,
}

async fn serve_requests<S>(
    stream: S,
    watch: &Watch,
    current: &Current,
    (phase, ear): (&Phase, &mut Ear),
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = TokioIo::new(Guarded::new(stream, phase.clone(), &current.service().options));
    let is_encrypted = current.tls().is_some();
    let answer = service_fn(|request| {
        let (service, phase) = (current.service(), phase.clone());
        let (mut head, body) = hyper::Request::into_parts(request);
        if is_encrypted {
            head.headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        }
        // Boxed: hyper keeps room for it as long as the connection is open, idle or not.
        Box::pin(async move { Ok::<_, Infallible>(service.answer(&head, body, phase).await) })
    });
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            // Whoever has sent all, and says so by closing that half, still waits for the answer; and hyper
            // need not make room for what could follow a request before it is answered.
            .half_close(true)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEADER_BYTES_MAX)
            .serve_connection(io, answer)
    );
    let mut deaf = Deaf::default();
    // Nobody reads while a request is being answered, so nobody else hears that its client is gone, and
    // what it holds would be held until it is answered. Between two requests hyper reads.
    let mut broken = pin!(watch.broken());
    let mut gone = pin!(poll_fn(|cx| {
        if phase.is_answering() { broken.as_mut().poll(cx) } else { Poll::Pending }
    }));
    loop {
        // hyper first: the poll that begins a request is the one in which its client is begun to be watched.
        let mut told = pin!(told(ear));
        let others = pin!(first(gone.as_mut(), told.as_mut()));
        let next = first(pin!(deaf.poll(served.as_mut())), others).await;
        match next {
            First::Left(Ok(())) => return Ended::Answered,
            First::Right(First::Right(Told::Cut)) => return Ended::Broken,
            First::Right(First::Left(())) => {
                debug!("connection reset");
                return Ended::Broken;
            }
            First::Left(Err(error)) => {
                debug!(%error, "connection lost");
                return Ended::Broken;
            }
            // A request that has begun meanwhile is answered first.
            First::Right(First::Right(Told::End | Told::Nothing)) => {
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn told(ear: &mut Ear) -> Told {
    poll_fn(|cx| ear.poll(cx)).await
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
