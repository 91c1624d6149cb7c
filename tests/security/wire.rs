//! Bytes on a socket as a hostile client would send them, and signatures of Amazon's kind.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use tidegate::base::clock::{Clock as _, SystemClock};

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that waits no longer than a test may.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    stream
}

/// Sends bytes as they are, and reads all that comes until the connection ends; once something came and
/// nothing follows it, this side ends it.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    const QUIET: Duration = Duration::from_millis(300);
    let mut stream = connect(address);
    // A server that has heard enough may close before all is sent.
    drop(stream.write_all(bytes));
    let clock = SystemClock::new();
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    stream.set_read_timeout(Some(QUIET)).expect("it is a socket");
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => all.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                assert!(clock.monotonic() < PATIENCE, "no answer");
                if !all.is_empty() {
                    break;
                }
            }
            Err(_broken) => break,
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// Sends bytes as they are and says at once that this is all; whatever is answered before the end.
pub(crate) fn blurt(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = connect(address);
    drop(stream.write_all(bytes));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all));
    String::from_utf8_lossy(&all).into_owned()
}

/// The statuses of all answers in `text`.
pub(crate) fn statuses(text: &str) -> Vec<u16> {
    let codes = text.split("HTTP/1.1 ").skip(1);
    codes.filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

/// Percent-encodes everything but letters and digits.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
    }
    encoded
}

/// A request to be signed.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) key: String,
    pub(crate) secret: String,
    pub(crate) region: String,
    pub(crate) service: String,
    /// Seconds from now.
    pub(crate) skew_seconds: i64,
    pub(crate) target: String,
    pub(crate) body: String,
}

impl Signed {
    /// A call of Timestream.
    pub(crate) fn call(operation: &str, body: &str) -> Self {
        Self {
            key: "AKIDFLEET".to_owned(),
            secret: "signing-secret".to_owned(),
            region: "eu-west-1".to_owned(),
            service: "timestream".to_owned(),
            skew_seconds: 0,
            target: format!("Timestream_20181101.{operation}"),
            body: body.to_owned(),
        }
    }

    /// Its headers, with the signature. Source: AWS documentation, "Create a signed AWS API request".
    pub(crate) fn headers(&self) -> Vec<(String, String)> {
        let seconds = SystemClock::new().wall_ns() / 1_000_000_000 + self.skew_seconds;
        let time = jiff::Timestamp::from_second(seconds).expect("a time");
        let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let date = &time[..8];
        let names = "host;x-amz-date;x-amz-target";
        let canonical = format!(
            "POST\n/\n\nhost:t\nx-amz-date:{time}\nx-amz-target:{}\n\n{names}\n{}",
            self.target,
            hex(&Sha256::digest(self.body.as_bytes()))
        );
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let hashed = hex(&Sha256::digest(canonical.as_bytes()));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{hashed}");
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in [date, &self.region, &self.service, "aws4_request", &text] {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("any length");
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            self.key,
            hex(&key)
        );
        vec![
            ("Host".to_owned(), "t".to_owned()),
            ("X-Amz-Date".to_owned(), time),
            ("X-Amz-Target".to_owned(), self.target.clone()),
            ("Authorization".to_owned(), authorization),
        ]
    }

    /// Sends it as `change` makes it; status and body of the answer.
    pub(crate) fn send_changed(
        &self,
        address: SocketAddr,
        change: impl FnOnce(&mut Vec<(String, String)>, &mut String),
    ) -> (u16, String) {
        let (mut headers, mut body) = (self.headers(), self.body.clone());
        change(&mut headers, &mut body);
        let mut text = "POST / HTTP/1.1\r\nConnection: close\r\n".to_owned();
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").expect("a string takes all");
        }
        write!(text, "Content-Length: {}\r\n\r\n{body}", body.len()).expect("a string takes all");
        let answer = exchange(address, text.as_bytes());
        let status = statuses(&answer).first().copied().unwrap_or_default();
        (status, answer)
    }

    /// Sends it as it is; its status.
    pub(crate) fn send(&self, address: SocketAddr) -> u16 {
        self.send_changed(address, |_, _| {}).0
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}
