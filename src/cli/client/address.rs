//! Where a server is, and the connections to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::tls::{Tls, Trust};
use crate::cli::Failure;

/// Longest wait for a byte of a reply: longer than a server takes for a request.
pub(super) const SILENCE_MAX: Duration = Duration::from_mins(1);

/// Ports where a URL names none. Source: RFC 9110, 4.2.
const PORT: u16 = 80;
const PORT_OF_TLS: u16 = 443;

/// Where a server is, and how it is spoken to. Shown as `HOST:PORT`.
#[derive(Debug, Clone)]
pub struct Address {
    /// `HOST:PORT`.
    place: String,
    /// `None`: in clear text.
    tls: Option<Tls>,
}

/// A connection, encrypted or not.
#[derive(Debug)]
pub enum Stream {
    /// In clear text.
    Plain(TcpStream),
    /// By TLS.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Address {
    /// Reads `http://HOST:PORT` or `https://HOST:PORT`; without a port it is 80 or 443. What the server of
    /// an https URL must show is up to `trust`.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`], naming `flag`, for anything else, and for files of `trust` that cannot be used.
    pub fn parse(flag: &str, url: &str, trust: &Trust) -> Result<Self, Failure> {
        let wrong =
            || Failure::usage(format!("{flag} {url}: write http://HOST:PORT or https://HOST:PORT"));
        let (rest, is_tls) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            _ => return Err(wrong()),
        };
        let rest = rest.trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
        if rest.is_empty() || !rest.chars().all(is_plain) {
            return Err(wrong());
        }
        let port =
            rest.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        let (host, place) = match port {
            Some((host, port)) if port.parse::<u16>().is_ok() => (host, rest.to_owned()),
            Some(_) => return Err(wrong()),
            None => (rest, format!("{rest}:{}", if is_tls { PORT_OF_TLS } else { PORT })),
        };
        if host.is_empty() {
            return Err(wrong());
        }
        let tls = if is_tls { Some(Tls::new(host, trust)?) } else { None };
        if tls.is_none() && !trust.is_default() {
            let why = "only https:// URLs have certificates; leave out --ca-file, --cert-file and --key-file";
            return Err(Failure::usage(format!("{flag} {url}: {why}")));
        }
        Ok(Self { place, tls })
    }

    /// A server in clear text.
    pub fn plain(at: SocketAddr) -> Self {
        Self { place: at.to_string(), tls: None }
    }

    /// A server on this machine that is sent no secret, whoever's certificate it shows.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] for files of `trust` that cannot be used.
    pub fn tls_of_anybody(at: SocketAddr, trust: &Trust) -> Result<Self, Failure> {
        let tls = Tls::of_anybody(&at.ip().to_string(), trust)?;
        Ok(Self { place: at.to_string(), tls: Some(tls) })
    }

    /// What its URLs begin with.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.place)
    }

    /// Whether it is spoken to by TLS.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens a connection, which waits for no byte longer than a server takes for a request. By TLS its
    /// handshake is done.
    ///
    /// # Errors
    ///
    /// When there is no server. `InvalidData` where another try would not help: the server speaks no TLS,
    /// or shows a certificate that is not trusted.
    pub fn connect(&self) -> io::Result<Stream> {
        self.connect_within(SILENCE_MAX)
    }

    pub(super) fn connect_within(&self, silence_max: Duration) -> io::Result<Stream> {
        let stream = TcpStream::connect(&self.place)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(silence_max))?;
        match &self.tls {
            None => Ok(Stream::Plain(stream)),
            Some(tls) => tls.handshake(stream, &self.place).map(Box::new).map(Stream::Tls),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Stream {
    /// Whether calls that would wait say so instead.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn set_nonblocking(&self, is_nonblocking: bool) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.set_nonblocking(is_nonblocking),
            Self::Tls(stream) => stream.sock.set_nonblocking(is_nonblocking),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_http_or_https_with_a_host_and_mostly_a_port() {
        let dir = tempfile::tempdir().unwrap();
        for (url, address) in [
            ("http://127.0.0.1:8086", "127.0.0.1:8086"),
            ("http://tide.example:8086/", "tide.example:8086"),
            ("http://tide.example", "tide.example:80"),
            ("http://[::1]:8086", "[::1]:8086"),
            ("http://[::1]", "[::1]:80"),
        ] {
            let parsed = Address::parse("--to", url, &Trust::default()).unwrap();
            assert_eq!(parsed.to_string(), address, "{url}");
            assert_eq!(parsed.url(), format!("http://{address}"));
        }
        for url in [
            "",
            "http://",
            "https://",
            "ftp://a:1",
            "a:1",
            "http://a:b",
            "http://a:1/x",
            "http://a b",
            "http://:80",
            "https://a:1/x",
        ] {
            let Err(Failure::Usage(error)) = Address::parse("--to", url, &Trust::default()) else {
                panic!("{url} was taken")
            };
            assert!(error.to_string().starts_with("--to "), "{error}");
        }
        let trust = Trust::of(&dir.path().join("ca.pem"));
        let Err(Failure::Usage(error)) = Address::parse("--to", "http://a:1", &trust) else {
            panic!("a file that nobody looks at was taken")
        };
        assert!(error.to_string().contains("--ca-file"), "{error}");
    }
}
