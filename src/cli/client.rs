//! A blocking HTTP/1.1 client for the commands that talk to a server: one connection, kept alive, one
//! request at a time, in clear text or by TLS.

pub mod access;
pub mod address;
pub mod tls;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::time::Duration;

pub use access::{Access, Secret};
pub use address::{Address, Stream};
pub use tls::Trust;
use tokio_rustls::rustls;

use address::SILENCE_MAX;

/// Longest line of a reply's head, and most such lines.
const HEAD_LINE_BYTES_MAX: u64 = 16 << 10;
const HEAD_LINES_MAX: usize = 256;

/// Longest body of a reply.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// How what TLS says begins where it is spoken to in clear text: an alert. Source: RFC 8446, 5.1.
const TLS_ALERT: u8 = 21;

/// What a Tidegate says there; see [`crate::http::listener`].
const SPEAKS_TLS: &str = "this port speaks TLS";

/// One connection, opened when it is needed.
#[derive(Debug)]
pub struct Client {
    address: Address,
    stream: Option<BufReader<Stream>>,
    silence_max: Duration,
}

/// An answer, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// When to try again, where it says so in seconds.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Vec<u8>,
}

/// Most characters of a server's words that an error repeats.
const WORDS_CHARS_MAX: usize = 300;

/// What the head of a reply says of what follows it.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    retry_after: Option<Duration>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
}

impl Client {
    /// A client of the server at `address`; it is not connected yet.
    pub const fn new(address: Address) -> Self {
        Self { address, stream: None, silence_max: SILENCE_MAX }
    }

    /// The same for a server that must answer sooner, or may be none at all.
    pub const fn impatient(address: Address, silence_max: Duration) -> Self {
        Self { address, stream: None, silence_max }
    }

    /// Sends a `GET` and returns the answer.
    ///
    /// # Errors
    ///
    /// When the connection broke. The next request opens a new one.
    pub fn get(&mut self, target: &str) -> io::Result<Reply> {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        self.exchange(request.as_bytes())
    }

    /// Sends a whole request, head and body, and returns the answer.
    ///
    /// # Errors
    ///
    /// When the connection broke; whether the request was taken is unknown. The next one opens a new
    /// connection. `InvalidData` where another try would not help: encryption and its absence do not
    /// fit, or the server's certificate is not trusted.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(self.address.connect_within(self.silence_max)?),
        };
        // A server that takes no more may answer before it has read all, so a broken pipe is no
        // reason not to read.
        let sent = stream.get_mut().write_all(request).and_then(|()| stream.get_mut().flush());
        let read = self.speaks_tls(&mut stream).and_then(|()| read_reply(&mut stream));
        let (reply, closes) = read.map_err(|error| self.told(sent.err(), error))?;
        if !closes {
            self.stream = Some(stream);
        }
        if !self.address.is_tls() && reply.status == 400 && reply.says(SPEAKS_TLS) {
            return Err(self.should_be_tls());
        }
        Ok(reply)
    }

    /// Looks whether what answers in clear text means it.
    fn speaks_tls(&self, stream: &mut BufReader<Stream>) -> io::Result<()> {
        if self.address.is_tls() {
            return Ok(());
        }
        let first = loop {
            match stream.fill_buf() {
                // A signal that a command hears: a wait with a bound is not taken up again by the system.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?.first().copied(),
            }
        };
        if first == Some(TLS_ALERT) { Err(self.should_be_tls()) } else { Ok(()) }
    }

    fn should_be_tls(&self) -> io::Error {
        let place = &self.address;
        let what = format!("{place} speaks TLS: write https://{place}");
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// Why there is no answer: what was sent first may say more. With TLS 1.3 the client's side of a
    /// handshake is refused where the first answer should be.
    fn told(&self, sent: Option<io::Error>, read: io::Error) -> io::Error {
        let of_tls = |error: &io::Error| {
            let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
            Some(tls::of_handshake(inner, &self.address.to_string()))
        };
        match of_tls(&read).or_else(|| of_tls(sent.as_ref()?)) {
            Some(what) => io::Error::new(io::ErrorKind::InvalidData, what),
            None if read.kind() == io::ErrorKind::InvalidData => read,
            None => sent.unwrap_or(read),
        }
    }
}

impl Reply {
    /// Whether a text is in the body.
    fn says(&self, text: &str) -> bool {
        memchr::memmem::find(&self.body, text.as_bytes()).is_some()
    }

    /// What it says, for people: the error of a body that is JSON, else the begin of the body.
    pub fn words(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let known = ["error", "message", "Message"].iter().find_map(|key| json[key].as_str());
        let text = String::from_utf8_lossy(&self.body);
        known.unwrap_or(text.trim()).chars().take(WORDS_CHARS_MAX).collect()
    }
}

/// Reads a reply, and whether the connection ends with it.
///
/// # Errors
///
/// `UnexpectedEof` where it ends too early; anything else is no reply.
pub(super) fn read_reply(stream: &mut impl BufRead) -> io::Result<(Reply, bool)> {
    let mut head = read_head(stream)?;
    // "Continue" and its kind announce the reply.
    while (100..200).contains(&head.status) {
        head = read_head(stream)?;
    }
    let mut body = Vec::new();
    if head.is_chunked {
        read_chunks(stream, &mut body)?;
    } else if let Some(length) = head.length {
        read_exactly(stream, length, &mut body)?;
    } else if !matches!(head.status, 204 | 304) {
        stream.take(BODY_BYTES_MAX).read_to_end(&mut body)?;
        head.closes = true;
    }
    Ok((Reply { status: head.status, retry_after: head.retry_after, body }, head.closes))
}

fn read_head(stream: &mut impl BufRead) -> io::Result<Head> {
    let line = read_line(stream)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status in {line:?}")))?;
    let mut head = Head { status, ..Head::default() };
    for _ in 0..HEAD_LINES_MAX {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Ok(head);
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = value.parse().ok(),
            "transfer-encoding" => head.is_chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => head.closes = value.eq_ignore_ascii_case("close"),
            "retry-after" => head.retry_after = value.parse().ok().map(Duration::from_secs),
            _ => {}
        }
    }
    Err(io::Error::other("the head of the reply does not end"))
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.take(HEAD_LINE_BYTES_MAX).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn read_exactly(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    if length.saturating_add(body.len() as u64) > BODY_BYTES_MAX {
        return Err(io::Error::other(format!("a reply of {length} bytes is too long")));
    }
    let read = stream.take(length).read_to_end(body)?;
    if (read as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let length = line.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(length, 16);
        let length =
            length.map_err(|error| io::Error::other(format!("no length in {line:?}: {error}")))?;
        if length == 0 {
            // Trailers may stand here, to an empty line.
            while !read_line(stream)?.is_empty() {}
            return Ok(());
        }
        read_exactly(stream, length, body)?;
        read_line(stream)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Reply, bool) {
        read_reply(&mut text.as_bytes()).unwrap()
    }

    #[test]
    fn replies_are_read_by_length_in_chunks_and_to_the_end() {
        let (reply, closes) =
            read("HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 2\r\n\r\nno");
        assert_eq!((reply.status, reply.retry_after), (503, Some(Duration::from_secs(7))));
        assert_eq!((reply.body.as_slice(), closes), (&b"no"[..], false));
        let (reply, closes) = read(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\n\r\n",
        );
        assert_eq!((reply.body.as_slice(), closes), (&b"abc0123456789"[..], false));
        let (reply, closes) = read("HTTP/1.1 200 OK\r\n\r\nall of it");
        assert_eq!((reply.body.as_slice(), closes), (&b"all of it"[..], true));
        assert_eq!(read("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").0.status, 204);
    }

    #[test]
    fn a_reply_that_is_cut_off_is_an_error() {
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na",
            "nonsense\r\n\r\n",
        ] {
            assert!(read_reply(&mut text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
