//! A way to the server that can be cut, slowed and watched: it breaks connections when the test says so,
//! or in front of or behind a COMMIT.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};

/// What a connection does with a COMMIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commits {
    Pass = 0,
    /// The server never gets it.
    CutBefore = 1,
    /// The server executes it, and nobody hears the answer.
    CutBehind = 2,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    /// Of the next so many COMMITs each is cut so.
    commits: AtomicU32,
    commits_left: AtomicU32,
    /// COMMITs that were cut.
    cut: AtomicU32,
    delay_ms: AtomicU64,
    /// Whether locks of many series are refused, and how many were.
    refuses_locks: AtomicBool,
    locks_refused: AtomicU32,
    is_open: AtomicBool,
    is_over: AtomicBool,
    streams: Mutex<Vec<TcpStream>>,
}

/// A listener whose connections go on to the server.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) fn new(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it has one");
        let state = Arc::new(State {
            server,
            commits: AtomicU32::new(0),
            commits_left: AtomicU32::new(0),
            cut: AtomicU32::new(0),
            delay_ms: AtomicU64::new(0),
            refuses_locks: AtomicBool::new(false),
            locks_refused: AtomicU32::new(0),
            is_open: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            streams: Mutex::default(),
        });
        let of_thread = Arc::clone(&state);
        spawn(move || {
            for client in listener.incoming().flatten() {
                if of_thread.is_over.load(Ordering::SeqCst) {
                    return;
                }
                connect(&of_thread, client);
            }
        });
        Self { address, state }
    }

    /// Breaks every connection that there is.
    pub(crate) fn cut(&self) {
        for stream in self.state.streams.lock().expect("no panic").drain(..) {
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// Lets connections through, or none.
    pub(crate) fn open(&self, is_open: bool) {
        self.state.is_open.store(is_open, Ordering::SeqCst);
        if !is_open {
            self.cut();
        }
    }

    /// How long each piece of an answer is held back.
    pub(crate) fn slow(&self, delay: Duration) {
        let ms = u64::try_from(delay.as_millis()).expect("a short time");
        self.state.delay_ms.store(ms, Ordering::SeqCst);
    }

    /// What becomes of the next `count` COMMITs.
    pub(crate) fn on_commit(&self, what: Commits, count: u32) {
        self.state.commits.store(what as u32, Ordering::SeqCst);
        self.state.commits_left.store(count, Ordering::SeqCst);
    }

    /// From now on a statement that locks rows of many series gets the error of the function `refuse`.
    pub(crate) fn refuse_wide_locks(&self) {
        self.state.refuses_locks.store(true, Ordering::SeqCst);
    }

    /// How many such statements there were.
    pub(crate) fn locks_refused(&self) -> u32 {
        self.state.locks_refused.load(Ordering::SeqCst)
    }

    /// How many COMMITs were cut.
    pub(crate) fn commits_cut(&self) -> u32 {
        self.state.cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The last but the thread's own.
        if Arc::strong_count(&self.state) <= 2 {
            self.state.is_over.store(true, Ordering::SeqCst);
            drop(TcpStream::connect(self.address));
        }
    }
}

fn connect(state: &Arc<State>, client: TcpStream) {
    if !state.is_open.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(state.server) else { return };
    let pair = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let (Some((from, to)), Some((back, answers))) = (pair(), pair()) else { return };
    drop((client.set_nodelay(true), server.set_nodelay(true)));
    // A COMMIT whose answer nobody shall hear.
    let is_deaf = Arc::new(AtomicBool::new(false));
    let deaf = Arc::clone(&is_deaf);
    let of_requests = Arc::clone(state);
    spawn(move || requests(&of_requests, from, to, &deaf));
    let of_answers = Arc::clone(state);
    spawn(move || answers_back(&of_answers, answers, back, &is_deaf));
    state.streams.lock().expect("no panic").extend([client, server]);
}

fn requests(state: &State, mut from: TcpStream, mut to: TcpStream, is_deaf: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        if state.refuses_locks.load(Ordering::SeqCst) && refuse_lock(bytes) {
            state.locks_refused.fetch_add(1, Ordering::SeqCst);
        }
        if bytes.windows(7).any(|part| part == b"COMMIT\0") && takes_one(state) {
            state.cut.fetch_add(1, Ordering::SeqCst);
            if state.commits.load(Ordering::SeqCst) == Commits::CutBefore as u32 {
                break;
            }
            is_deaf.store(true, Ordering::SeqCst);
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

/// Writes a refusal over a statement that would lock, of the same length, so that no message changes its
/// own. So short a message comes in one piece.
fn refuse_lock(bytes: &mut [u8]) -> bool {
    const REFUSAL: &[u8] = b"SELECT refuse($1, $2, $3)";
    let find = |what: &[u8]| bytes.windows(what.len()).position(|part| part == what);
    let (Some(begin), Some(end)) = (find(b"SELECT t.series, t.time"), find(b"FOR UPDATE OF t\0"))
    else {
        return false;
    };
    let statement = &mut bytes[begin..end + b"FOR UPDATE OF t".len()];
    statement.fill(b' ');
    statement[..REFUSAL.len()].copy_from_slice(REFUSAL);
    true
}

fn takes_one(state: &State) -> bool {
    let left = &state.commits_left;
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

fn answers_back(state: &State, mut from: TcpStream, mut to: TcpStream, is_deaf: &AtomicBool) {
    let clock = SystemClock::new();
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let delay = state.delay_ms.load(Ordering::SeqCst);
        if delay > 0 {
            clock.sleep(Duration::from_millis(delay));
        }
        if is_deaf.load(Ordering::SeqCst) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop((from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both)));
}

#[expect(clippy::disallowed_methods, reason = "ends with its connection; nothing waits for it")]
fn spawn(run: impl FnOnce() + Send + 'static) {
    drop(std::thread::spawn(run));
}
