//! A blocking HTTP/1.1 client for the commands that talk to a server: one connection, kept alive, one
//! request at a time. It knows `http` only: a server behind TLS is reached through a tunnel or a proxy.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::Failure;

/// Longest wait for a byte of a reply: longer than a server takes for a request.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Longest line of a reply's head, and most such lines.
const HEAD_LINE_BYTES_MAX: u64 = 16 << 10;
const HEAD_LINES_MAX: usize = 256;

/// Longest body of a reply.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

/// One connection, opened when it is needed.
#[derive(Debug)]
pub struct Client {
    address: Address,
    stream: Option<BufReader<TcpStream>>,
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

/// What the head of a reply says of what follows it.
#[derive(Debug, Default)]
struct Head {
    status: u16,
    retry_after: Option<Duration>,
    length: Option<u64>,
    is_chunked: bool,
    closes: bool,
}

impl Address {
    /// Reads `http://HOST:PORT`; without a port it is 80.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`], naming `flag`, for anything else.
    pub fn parse(flag: &str, url: &str) -> Result<Self, Failure> {
        let wrong = || Failure::usage(format!("{flag} {url}: write http://HOST:PORT"));
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if rest.is_empty() || !rest.chars().all(is_plain) {
            return Err(wrong());
        }
        let port =
            rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        match port {
            Some((_, port)) if port.parse::<u16>().is_ok() => Ok(Self(rest.to_owned())),
            Some(_) => Err(wrong()),
            None => Ok(Self(format!("{rest}:80"))),
        }
    }

    /// Opens a connection, which waits for no byte longer than a server takes for a request.
    ///
    /// # Errors
    ///
    /// When there is no server.
    pub(super) fn connect(&self) -> io::Result<TcpStream> {
        self.connect_within(SILENCE_MAX)
    }

    fn connect_within(&self, silence_max: Duration) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.0)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        Ok(stream)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
    /// connection.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Reply> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(self.address.connect_within(self.silence_max)?),
        };
        // A server that takes no more may answer before it has read all, so a broken pipe is no
        // reason not to read.
        let sent = stream.get_mut().write_all(request);
        let (reply, closes) =
            read_reply(&mut stream).map_err(|error| sent.err().unwrap_or(error))?;
        if !closes {
            self.stream = Some(stream);
        }
        Ok(reply)
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
    fn addresses_are_http_with_a_host_and_mostly_a_port() {
        for (url, address) in [
            ("http://127.0.0.1:8086", "127.0.0.1:8086"),
            ("http://tide.example:8086/", "tide.example:8086"),
            ("http://tide.example", "tide.example:80"),
            ("http://[::1]:8086", "[::1]:8086"),
            ("http://[::1]", "[::1]:80"),
        ] {
            assert_eq!(Address::parse("--to", url).unwrap().to_string(), address, "{url}");
        }
        for url in ["", "http://", "https://a:1", "a:1", "http://a:b", "http://a:1/x", "http://a b"]
        {
            let Err(Failure::Usage(error)) = Address::parse("--to", url) else {
                panic!("{url} was taken")
            };
            assert!(error.to_string().starts_with("--to "), "{error}");
        }
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
