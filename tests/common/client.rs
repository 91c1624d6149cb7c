//! A small blocking HTTP/1.1 client: keep-alive, bodies by length or in chunks.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for a byte; a server that needs longer is taken for dead.
const SILENCE_MAX: Duration = Duration::from_mins(1);

/// One connection, opened when it is needed.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address, stream: None }
    }

    pub(crate) fn get(&mut self, target: &str) -> io::Result<Reply> {
        self.request("GET", target, &[], b"")
    }

    pub(crate) fn post(
        &mut self,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.request("POST", target, headers, body)
    }

    /// Sends a request and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// When the connection broke; whether the request was taken is unknown. The next request opens a
    /// new connection.
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(self.connect()?),
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("a string takes all");
        }
        if method != "GET" {
            write!(head, "Content-Length: {}\r\n", body.len()).expect("a string takes all");
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        let sent = stream.get_mut().write_all(&bytes);
        // A server that takes no more may answer before it has read all, so a broken pipe is no
        // reason not to read.
        let reply = read_reply(&mut stream).map_err(|error| sent.err().unwrap_or(error))?;
        if reply.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(reply)
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(stream)
    }
}

impl Reply {
    /// A header by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_slice(&self.body);
        let problem = parsed.as_ref().err();
        assert!(problem.is_none(), "{problem:?} in {:?}", self.text());
        parsed.expect("looked at above")
    }
}

fn read_reply(stream: &mut impl BufRead) -> io::Result<Reply> {
    let status = loop {
        let status_line = line(stream)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        let status = status.ok_or_else(|| malformed(&status_line))?;
        if status != 100 {
            break status;
        }
        while !line(stream)?.is_empty() {}
    };
    let mut headers = Vec::new();
    loop {
        let header = line(stream)?;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut reply = Reply { status, headers, body: Vec::new() };
    if matches!(status, 204 | 304) {
        return Ok(reply);
    }
    if reply.header("transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        read_chunks(stream, &mut reply.body)?;
    } else if let Some(length) = reply.header("content-length") {
        let length = length.parse().map_err(|_no_number| malformed(length))?;
        read_exactly(stream, length, &mut reply.body)?;
    } else {
        stream.read_to_end(&mut reply.body)?;
    }
    Ok(reply)
}

fn read_chunks(stream: &mut impl BufRead, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let size = line(stream)?;
        let digits = size.split(';').next().unwrap_or_default().trim();
        let length = u64::from_str_radix(digits, 16).map_err(|_no_number| malformed(&size))?;
        read_exactly(stream, length, body)?;
        // The line's end behind a chunk, or the last of the trailers.
        while !line(stream)?.is_empty() {}
        if length == 0 {
            return Ok(());
        }
    }
}

fn read_exactly(stream: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = stream.take(length).read_to_end(body)?;
    if read as u64 == length { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

fn malformed(text: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("no HTTP: {text:?}"))
}
