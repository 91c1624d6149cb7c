//! A socket that is read and written in one place and watched from another: while a request is being
//! answered nobody reads, and a client that is gone must not hold its memory until it would have been.

use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// What is read and written.
#[derive(Debug)]
pub(super) struct Socket {
    reader: OwnedReadHalf,
    /// Shared with the watch; written here only.
    writer: Arc<OwnedWriteHalf>,
}

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch(Arc<OwnedWriteHalf>);

/// What is left of a connection once its socket was let go of: the client hears nothing more, and may still
/// send.
#[derive(Debug)]
pub(super) struct Rest(OwnedWriteHalf);

/// Bytes that are dropped at once.
const DROPPED_BYTES: usize = 16 << 10;

impl Socket {
    /// `stream`, and its watch.
    pub(super) fn new(stream: TcpStream) -> (Self, Watch) {
        let (reader, writer) = stream.into_split();
        let writer = Arc::new(writer);
        (Self { reader, writer: Arc::clone(&writer) }, Watch(writer))
    }
}

impl Watch {
    /// Waits until the connection is broken: the client has reset it, or the system has given it up. A
    /// client that has closed its half alone waits for its answer.
    pub(super) async fn broken(&self) {
        let broken = self.0.ready(Interest::ERROR).await;
        if broken.is_err() {
            // The runtime ends, and everything with it.
            pending::<()>().await;
        }
    }

    /// Tells the client that nothing more comes. `None` where the socket is in use still, or the connection
    /// is gone.
    pub(super) async fn into_rest(self) -> Option<Rest> {
        let mut writer = Arc::into_inner(self.0)?;
        writer.shutdown().await.ok()?;
        Some(Rest(writer))
    }
}

impl Rest {
    /// Waits for bytes and drops them; how many there were, none at the end.
    pub(super) async fn drop_some(&self) -> io::Result<usize> {
        let stream: &TcpStream = self.0.as_ref();
        loop {
            stream.readable().await?;
            match drop_ready(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

/// Apart, so that the buffer is on the stack while it is filled and not in the task while it waits.
fn drop_ready(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; DROPPED_BYTES])
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, into)
    }
}

impl Socket {
    /// Writes when there is room.
    fn poll_room(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = (*self.writer).as_ref();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            match write(stream) {
                // Somebody was quicker, the system's own buffers: it says when there is room again.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_room(cx, |stream| stream.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is written is the system's already.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whoever lets go of it last ends it, which is next: hyper is done with the connection.
        Poll::Ready(Ok(()))
    }
}
