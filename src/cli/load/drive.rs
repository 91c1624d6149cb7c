//! The connections of one thread: each has one request under way, and whichever socket can go on does.
//!
//! A thread for each connection would do as well, and cost the server dear: on the same machine each
//! answer would wake a thread, which takes the processor away from the server in the middle of its
//! work. A few threads that wait for all their sockets at once find most answers there when they look.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::{BUSY_PAUSE, Shared, TEMPLATES, Tally, Template};
use crate::cli::client::{self, Address, Stream};

/// Longest wait for any of the sockets: longer than a server takes for a request.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Read at once; an answer to a write is far shorter.
const READ_BYTES: usize = 16 << 10;

/// How an answer without a body begins, and how its head ends.
const NO_CONTENT: &[u8] = b"HTTP/1.1 204 ";
const HEAD_END: &[u8] = b"\r\n\r\n";
const CONNECTION: &[u8] = b"onnection:";

/// Some connections, driven by one thread.
pub(super) struct Driver<'s> {
    shared: &'s Shared,
    address: &'s Address,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    read: Vec<u8>,
}

/// One connection and the request that is under way on it.
struct Connection {
    templates: Vec<Template>,
    /// Requests answered so far.
    round: u64,
    /// `None` until it is opened, and when it is done.
    stream: Option<Stream>,
    /// Bytes of the request that were sent.
    sent: usize,
    /// When the first of them was.
    begun: Duration,
    /// The beginning of an answer that did not come in one piece.
    answer: Vec<u8>,
    /// When it goes on, after the server was busy.
    rests_until: Option<Duration>,
}

/// An answer, as far as the generator looks at it.
struct Answer {
    status: u16,
    closes: bool,
    /// What it says, where it is no success.
    words: String,
}

impl<'s> Driver<'s> {
    /// A driver of the connections that send `templates`, none of them open yet.
    pub(super) fn new(
        shared: &'s Shared,
        address: &'s Address,
        templates: Vec<Vec<Template>>,
    ) -> io::Result<Self> {
        let connections = templates.into_iter().map(Connection::new).collect();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { shared, address, epoll, connections, read: vec![0; READ_BYTES] })
    }

    /// Sends until the run is over, and until what was begun is answered.
    pub(super) fn run(&mut self, tally: &mut Tally) -> io::Result<()> {
        for at in 0..self.connections.len() {
            self.begin(at)?;
        }
        let mut events = Vec::with_capacity(self.connections.len());
        loop {
            self.wake_rested()?;
            if !self.is_under_way() {
                return Ok(());
            }
            let wait = self.wait();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)) {
                Ok(0) if self.is_silent() => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                let at = usize::try_from(event.data.u64()).unwrap_or_default();
                self.go_on(at, tally)?;
            }
        }
    }

    fn is_under_way(&self) -> bool {
        self.connections.iter().any(|one| one.stream.is_some() || one.rests_until.is_some())
    }

    /// Whether nobody rests, so that a wait without an event was one for the server.
    fn is_silent(&self) -> bool {
        self.connections.iter().all(|one| one.rests_until.is_none())
    }

    fn wait(&self) -> Timespec {
        let now = self.shared.clock.monotonic();
        let rests = self.connections.iter().filter_map(|one| one.rests_until);
        let wait = rests.min().map_or(SILENCE_MAX, |until| until.saturating_sub(now));
        Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or_default(),
            tv_nsec: wait.subsec_nanos().into(),
        }
    }

    fn wake_rested(&mut self) -> io::Result<()> {
        let now = self.shared.clock.monotonic();
        for at in 0..self.connections.len() {
            if self.connections[at].rests_until.is_some_and(|until| until <= now) {
                self.connections[at].rests_until = None;
                self.begin(at)?;
            }
        }
        Ok(())
    }

    /// Begins the next request of a connection, and opens it where it is closed.
    fn begin(&mut self, at: usize) -> io::Result<()> {
        let one = &mut self.connections[at];
        if self.shared.is_over() {
            one.stream = None;
            return Ok(());
        }
        let stream = match one.stream.take() {
            Some(stream) => stream,
            None => open(self.address, &self.epoll, at)?,
        };
        one.stamp(self.shared);
        (one.sent, one.begun) = (0, self.shared.clock.monotonic());
        one.stream = Some(stream);
        one.send()
    }

    /// Sends and reads what the socket of a connection has room and bytes for.
    fn go_on(&mut self, at: usize, tally: &mut Tally) -> io::Result<()> {
        loop {
            let one = &mut self.connections[at];
            if one.rests_until.is_some() {
                // Nothing was asked, so all that can have come is the end of the connection; or news of
                // bytes that were read already.
                if one.has_ended(&mut self.read) {
                    one.stream = None;
                }
                return Ok(());
            }
            one.send()?;
            let Some(answer) = one.receive(&mut self.read)? else { return Ok(()) };
            // The rest of a request that was answered early would be read as the next one.
            if answer.closes || !one.is_sent() {
                one.stream = None;
            }
            let waited = self.shared.clock.monotonic().saturating_sub(one.begun);
            match answer.status {
                200..=299 => {
                    one.round += 1;
                    tally.count(self.shared, waited);
                    self.begin(at)?;
                }
                429 | 503 => {
                    tally.busy += 1;
                    let now = self.shared.clock.monotonic();
                    one.rests_until = Some(now + BUSY_PAUSE);
                    return Ok(());
                }
                status => {
                    let words = answer.words;
                    return Err(io::Error::other(format!("the server answered {status} {words}")));
                }
            }
            // A request that went out whole is answered later, and then the socket says so.
            if self.connections[at].is_sent() {
                return Ok(());
            }
        }
    }
}

/// Opens connection `at` and has `epoll` say whenever it can go on.
fn open(address: &Address, epoll: &OwnedFd, at: usize) -> io::Result<Stream> {
    use epoll::EventFlags;
    let stream = address.connect()?;
    stream.set_nonblocking(true)?;
    // By edges: no call is needed to say what it waits for, whether it sends or reads.
    let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
    epoll::add(epoll, &stream, epoll::EventData::new_u64(at as u64), flags)?;
    Ok(stream)
}

impl Connection {
    fn new(templates: Vec<Template>) -> Self {
        Self {
            templates,
            round: 0,
            stream: None,
            sent: 0,
            begun: Duration::ZERO,
            answer: Vec::new(),
            rests_until: None,
        }
    }

    /// Which of its requests is under way.
    fn turn(&self) -> usize {
        usize::try_from(self.round % u64::from(TEMPLATES)).unwrap_or_default()
    }

    fn stamp(&mut self, shared: &Shared) {
        let (turn, round) = (self.turn(), self.round);
        self.templates[turn].stamp(round, |line| shared.time_ns(round, line));
    }

    fn is_sent(&self) -> bool {
        self.sent == self.templates[self.turn()].bytes.len()
    }

    fn send(&mut self) -> io::Result<()> {
        let turn = self.turn();
        let (Some(stream), bytes) = (&mut self.stream, &self.templates[turn].bytes) else {
            return Ok(());
        };
        while self.sent < bytes.len() {
            match stream.write(&bytes[self.sent..]) {
                // Encrypted bytes wait for room in the socket.
                Ok(0) => break,
                Ok(more) => self.sent += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A server that takes no more may answer before it has read all, so a broken pipe is
                // no reason not to read.
                Err(error) if is_later(&error) || is_broken(&error) => break,
                Err(error) => return Err(error),
            }
        }
        match stream.flush() {
            Err(error) if !is_later(&error) && !is_broken(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether a connection of which nothing is asked is over, or has bytes that are no answer.
    fn has_ended(&mut self, buffer: &mut [u8]) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        !stream.read(buffer).is_err_and(|error| is_later(&error))
    }

    /// The answer, once it is there.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<Answer>> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            let read = match stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => &buffer[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_later(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            if self.answer.is_empty()
                && let Some(answer) = no_content(read)
            {
                return Ok(Some(answer));
            }
            self.answer.extend_from_slice(read);
            match client::read_reply(&mut self.answer.as_slice()) {
                Ok((reply, closes)) => {
                    self.answer.clear();
                    let status = reply.status;
                    let words = if status < 300 { String::new() } else { reply.words() };
                    return Ok(Some(Answer { status, closes, words }));
                }
                // Not all of it is there.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The usual answer to a write, known without a look at its headers.
fn no_content(bytes: &[u8]) -> Option<Answer> {
    let is_whole = bytes.starts_with(NO_CONTENT) && bytes.ends_with(HEAD_END);
    let is_plain = is_whole && memchr::memmem::find(bytes, CONNECTION).is_none();
    is_plain.then_some(Answer { status: 204, closes: false, words: String::new() })
}

fn is_later(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

fn is_broken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
