//! A proxy in front of the upstream that the test can make fail in every way.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate::base::clock::{Clock, SystemClock};
use tidegate::base::thread::Thread;

/// What the proxy does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Ends the connection before the upstream hears anything.
    Refuse,
    /// Lets the upstream do it and ends the connection before the answer.
    LoseAnswer,
    /// 429, and the upstream hears nothing.
    Throttle,
    /// 500, after the upstream has done it.
    FailAfter,
    /// The answer comes as much later.
    Slow(Duration),
    /// 403, and the upstream hears nothing.
    Forbid,
    /// 400 for every write that holds the word `poison`; all else passes.
    Poison,
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    listener: Option<Thread>,
}

#[derive(Debug)]
struct State {
    mode: Mutex<Mode>,
    upstream: Mutex<SocketAddr>,
    is_over: AtomicBool,
    requests: AtomicU64,
    /// Requests that wait for their answer, and the most that ever did.
    open: AtomicU64,
    most_open: AtomicU64,
    /// Bytes of what the upstream answered.
    bytes: AtomicU64,
    head_bytes: AtomicU64,
}

impl Proxy {
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let state = Arc::new(State {
            mode: Mutex::new(Mode::Pass),
            upstream: Mutex::new(upstream),
            is_over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            open: AtomicU64::new(0),
            most_open: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            head_bytes: AtomicU64::new(0),
        });
        let shared = Arc::clone(&state);
        let accept = move || {
            for stream in listener.incoming().flatten() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                let serve = move || drop(serve(&stream, &shared));
                // Ends with its connection.
                drop(Thread::spawn("proxied", serve));
            }
        };
        let listener = Thread::spawn("proxy", accept).expect("a thread");
        Self { address, state, listener: Some(listener) }
    }

    pub(crate) fn set(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        *self.state.upstream.lock().unwrap() = upstream;
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// The most requests that were under way at once.
    pub(crate) fn most_open(&self) -> u64 {
        self.state.most_open.load(Ordering::SeqCst)
    }

    /// Bytes of bodies that the upstream answered.
    pub(crate) fn bytes(&self) -> u32 {
        u32::try_from(self.state.bytes.load(Ordering::SeqCst)).expect("a test sends less")
    }

    /// Bytes of their headers.
    pub(crate) fn head_bytes(&self) -> u64 {
        self.state.head_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// Counts a request that was answered, or never will be.
struct Ended<'s>(&'s AtomicU64);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn serve(client: &TcpStream, state: &State) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut upstream: Option<BufReader<TcpStream>> = None;
    while let Some((head, body)) = message(&mut reader)? {
        state.requests.fetch_add(1, Ordering::SeqCst);
        let mode = *state.mode.lock().unwrap();
        match mode {
            Mode::Refuse => return client.shutdown(Shutdown::Both),
            Mode::Throttle => answer(client, 429, "ThrottlingException")?,
            Mode::Forbid => answer(client, 403, "AccessDeniedException")?,
            Mode::Poison if body.windows(6).any(|part| part == b"poison") => {
                answer(client, 400, "ValidationException")?;
            }
            _ => {
                let address = *state.upstream.lock().unwrap();
                let stream = match upstream.take() {
                    Some(stream) if stream.get_ref().peer_addr().ok() == Some(address) => stream,
                    _ => BufReader::new(TcpStream::connect(address)?),
                };
                let mut stream = stream;
                let open = state.open.fetch_add(1, Ordering::SeqCst) + 1;
                state.most_open.fetch_max(open, Ordering::SeqCst);
                let _ended = Ended(&state.open);
                stream.get_mut().write_all(&head)?;
                stream.get_mut().write_all(&body)?;
                let Some((reply, content)) = message(&mut stream)? else {
                    return client.shutdown(Shutdown::Both);
                };
                upstream = Some(stream);
                state.bytes.fetch_add(body.len() as u64, Ordering::SeqCst);
                state.head_bytes.fetch_add(head.len() as u64, Ordering::SeqCst);
                match mode {
                    Mode::LoseAnswer => return client.shutdown(Shutdown::Both),
                    Mode::FailAfter => {
                        answer(client, 500, "InternalServerException")?;
                        continue;
                    }
                    Mode::Slow(pause) => SystemClock::new().sleep(pause),
                    _ => {}
                }
                (&*client).write_all(&reply)?;
                (&*client).write_all(&content)?;
            }
        }
    }
    Ok(())
}

fn answer(mut client: &TcpStream, status: u16, code: &str) -> io::Result<()> {
    let body = format!(
        "{{\"__type\":\"com.amazonaws.timestream.v20181101#{code}\",\"Message\":\"by the test\"}}"
    );
    write!(
        client,
        "HTTP/1.1 {status} X\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Head and body of a request or an answer; `None` where the peer has ended.
fn message(stream: &mut impl BufRead) -> io::Result<Option<(Vec<u8>, Vec<u8>)>> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = Vec::new();
        if stream.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&line).to_ascii_lowercase();
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        head.extend_from_slice(&line);
        if line == b"\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
