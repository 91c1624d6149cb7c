//! A connection's waker, deaf to what hyper says to itself.
//!
//! hyper passes the body of a request from the connection to its handler through a channel, and both ends of
//! it live in the connection's task. To take a piece out wakes the end that put it in: the very task that is
//! running. It then goes through the runtime's queue once more, hyper, guard and handler are asked how far
//! they are, and have nothing to say: of the three times that a task was polled for a small write, one.
//!
//! That word is needed where more of the body is to come, since its other end waits for room. With the last
//! piece there is nobody left who waits: hyper lets go of its end as soon as it has put in as many bytes as
//! `Content-Length` says. So the connection is polled with a waker of ours ([`Deaf`]), and a body is read by
//! [`poll_frame`], which keeps the word back while it takes a piece and passes it on where the piece was not
//! the last. Nobody else is woken in between: what wakes the task from another thread is never held back.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming};

thread_local! {
    /// While a piece is taken on this thread: the connection that was to be woken.
    static KEPT_BACK: RefCell<Keeping> = const { RefCell::new(Keeping::Nothing) };
}

/// What is kept back.
#[derive(Debug)]
enum Keeping {
    /// No piece is being taken: whoever is to be woken is woken.
    Nothing,
    /// One is being taken, and this was to be woken by it.
    Word(Option<Waker>),
}

/// The waker to poll a connection with.
#[derive(Debug, Default)]
pub struct Deaf {
    /// The task's waker, and ours around it.
    wakers: Option<(Waker, Waker)>,
}

#[derive(Debug)]
struct Muffled(Waker);

impl Wake for Muffled {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let is_kept_back = KEPT_BACK.with_borrow_mut(|keeping| match keeping {
            Keeping::Nothing => false,
            Keeping::Word(word) => {
                *word = Some(self.0.clone());
                true
            }
        });
        if !is_kept_back {
            self.0.wake_by_ref();
        }
    }
}

impl Deaf {
    /// `connection`, polled with our waker.
    pub async fn poll<F: Future>(&mut self, mut connection: Pin<&mut F>) -> F::Output {
        let polled = poll_fn(|cx| {
            connection.as_mut().poll(&mut Context::from_waker(self.waker(cx.waker())))
        });
        polled.await
    }

    /// Wakes what `task` wakes. The same from poll to poll, so that nobody need take down a new one.
    fn waker(&mut self, task: &Waker) -> &Waker {
        if self.wakers.as_ref().is_none_or(|(known, _)| !known.will_wake(task)) {
            self.wakers = Some((task.clone(), Arc::new(Muffled(task.clone())).into()));
        }
        let (_, ours) = self.wakers.as_ref().expect("just made");
        ours
    }
}

/// Ends the keeping back, even if hyper panics.
struct KeepingBack;

impl KeepingBack {
    fn begin() -> Self {
        KEPT_BACK.set(Keeping::Word(None));
        Self
    }

    /// Who was to be woken so far.
    fn word() -> Option<Waker> {
        match KEPT_BACK.replace(Keeping::Nothing) {
            Keeping::Word(word) => word,
            Keeping::Nothing => None,
        }
    }
}

impl Drop for KeepingBack {
    fn drop(&mut self) {
        KEPT_BACK.set(Keeping::Nothing);
    }
}

/// Takes the next piece of `body`, and wakes the connection for it only where there may be another.
pub fn poll_frame(
    cx: &mut Context<'_>,
    body: &mut Incoming,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let _keeping = KeepingBack::begin();
    let polled = Pin::new(&mut *body).poll_frame(cx);
    let word = KeepingBack::word();
    if let Some(connection) = word.filter(|_| !body.is_end_stream()) {
        connection.wake();
    }
    polled
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use hyper::Response;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::base::thread::Thread;

    #[derive(Debug, Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_wake_is_kept_back_on_the_thread_that_takes_a_piece_and_on_no_other() {
        let count = Arc::new(Count::default());
        let task = Waker::from(Arc::clone(&count));
        let mut deaf = Deaf::default();
        let waker = deaf.waker(&task).clone();
        assert!(waker.will_wake(deaf.waker(&task)), "the same at the next poll");
        let _keeping = KeepingBack::begin();
        waker.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        let elsewhere = waker.clone();
        Thread::spawn("elsewhere", move || elsewhere.wake()).unwrap().join().unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(KeepingBack::word().is_some_and(|word| word.will_wake(&task)));
        waker.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 2, "nothing is kept back behind it");
    }

    #[test]
    fn a_panic_ends_the_keeping_back() {
        let panicked = std::panic::catch_unwind(|| {
            let _keeping = KeepingBack::begin();
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(panicked.is_err());
        KEPT_BACK.with_borrow(|keeping| assert!(matches!(keeping, Keeping::Nothing)));
    }

    async fn read(request: hyper::Request<Incoming>) -> Result<Response<String>, hyper::Error> {
        let mut body = request.into_body();
        while !body.is_end_stream() {
            let Some(frame) = poll_fn(|cx| poll_frame(cx, &mut body)).await else { break };
            drop(frame?);
        }
        Ok(Response::new(String::new()))
    }

    /// How often the task of a connection is polled that gets `pieces` one after the other, has read the
    /// whole body, and answered.
    async fn polls_for(pieces: &[&str]) -> usize {
        let (mut client, socket) = tokio::io::duplex(4096);
        let polls = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&polls);
        let serving = tokio::spawn(async move {
            let mut builder = http1::Builder::new();
            builder.half_close(true);
            let mut served = pin!(builder.serve_connection(TokioIo::new(socket), service_fn(read)));
            let mut deaf = Deaf::default();
            let mut polled = pin!(deaf.poll(served.as_mut()));
            poll_fn(|cx| {
                counter.fetch_add(1, Ordering::Relaxed);
                polled.as_mut().poll(cx)
            })
            .await
        });
        for piece in pieces {
            // The runtime has one thread: the connection has its turns, until it waits.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        let mut answer = String::new();
        while !answer.ends_with("content-length: 0\r\n\r\n") && !answer.contains("GMT\r\n\r\n") {
            let mut some = [0; 256];
            let read = client.read(&mut some).await.unwrap();
            assert!(read > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&some[..read]).unwrap());
        }
        assert!(answer.contains("HTTP/1.1 200 OK"), "{answer}");
        drop(client);
        serving.await.unwrap().unwrap();
        polls.load(Ordering::Relaxed)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let within = async { tokio::time::timeout(Duration::from_secs(20), future).await };
        runtime.block_on(within).expect("a word was lost: nobody goes on")
    }

    #[test]
    fn a_request_in_one_piece_takes_one_poll() {
        let request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
        assert_eq!(run(polls_for(&[request])), 3, "to begin, for the request, to end");
    }

    #[test]
    fn a_body_in_pieces_goes_on_to_its_end() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\n";
        let sized = format!("{head}Content-Length: 4\r\n\r\n");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        let asking = format!("{head}Expect: 100-continue\r\nContent-Length: 4\r\n\r\n");
        for pieces in [
            &[sized.as_str(), "abcd"][..],
            &[&sized, "a", "bc", "d"],
            &[&format!("{sized}ab"), "cd"],
            &[&chunked, "4\r\nabcd\r\n", "0\r\n\r\n"],
            &[&format!("{chunked}2\r\nab\r\n2\r\ncd\r\n0\r\n\r\n")],
            &[&format!("{chunked}2\r\nab\r\n2\r"), "\ncd\r\n0\r\n", "\r\n"],
            &[&asking, "ab", "cd"],
            &[&format!("{asking}abcd")],
        ] {
            run(polls_for(pieces));
        }
    }
}
