//! Sending: one request after the other, at the rate, tried again while the server is busy or away.
//!
//! | answer | what follows |
//! |---|---|
//! | 2xx, nothing refused | the request is acknowledged |
//! | 408, 429, 5xx, a broken connection | the same request again, after `Retry-After`, or after a pause that doubles |
//! | anything else | the replay ends with the server's words |
//!
//! To send a request twice is harmless: its records are what they are. None is taken where one is
//! refused (`accept_partial=false`), so what is acknowledged is whole.

use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::super::super::Failure;
use super::super::super::client::{Address, Client, Reply};
use super::pause;
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::lsn::Lsn;

/// The environment variable that clients of `InfluxDB` keep their token in.
const TOKEN_VARIABLE: &str = "INFLUX_TOKEN";

/// The pause before the second try, and the longest that it grows to.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Most characters of a server's words that an error repeats.
const WORDS_CHARS_MAX: usize = 2000;

/// Who sends. Without any of them, nobody.
#[derive(Debug, Args)]
pub(super) struct Credentials {
    /// A file that holds the token. Without it and --token: the variable `INFLUX_TOKEN`.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    token_file: Option<PathBuf>,
    /// The token itself; other users of the machine can see it in the list of processes.
    #[arg(long, value_name = "TOKEN")]
    token: Option<Secret>,
}

/// A text that is never shown.
#[derive(Clone)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl Credentials {
    /// The token, wherever it is.
    fn token(&self) -> Result<Option<Secret>, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    Failure::usage(format!("--token-file {}: {error}", file.display()))
                })?;
                Some(Secret(text.trim().to_owned()))
            }
            (None, None) => std::env::var(TOKEN_VARIABLE).ok().map(Secret),
        };
        let token = token.filter(|token| !token.0.is_empty());
        match &token {
            // It goes into a line of the head, which it must not end.
            Some(Secret(text)) if !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(Failure::usage("the token holds characters that no token has"))
            }
            _ => Ok(token),
        }
    }
}

/// Sends requests.
pub(super) struct Sender {
    client: Client,
    clock: SharedClock,
    /// The request up to the length of its body.
    head: Secret,
    rate: u64,
    patience: Duration,
    /// When the first request was sent.
    begun: Option<Duration>,
    records: u64,
    requests: u64,
    retries: u64,
}

impl Sender {
    pub(super) fn new(
        address: Address,
        credentials: &Credentials,
        rate: u64,
        patience: Duration,
    ) -> Result<Self, Failure> {
        let token = credentials.token()?;
        let token =
            token.map_or(String::new(), |token| format!("Authorization: Token {}\r\n", token.0));
        let head = format!(
            "POST /api/v1/write?precision=ns&accept_partial=false HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/x-ndjson\r\nX-Tidegate-Durability: sync\r\n{token}\
             Content-Length: "
        );
        Ok(Self {
            client: Client::new(address),
            clock: SystemClock::shared(),
            head: Secret(head),
            rate,
            patience,
            begun: None,
            records: 0,
            requests: 0,
            retries: 0,
        })
    }

    /// Records acknowledged.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Requests acknowledged.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Tries that were not.
    pub(super) fn retries(&self) -> u64 {
        self.retries
    }

    /// Sends a body, when its time has come, until it is acknowledged. Its records are of the LSNs from
    /// the first of `range` on; the second is the one to go on from, once it is.
    pub(super) fn send(
        &mut self,
        body: &[u8],
        records: u64,
        (first, next): (Lsn, Lsn),
    ) -> Result<(), Failure> {
        let now = self.clock.monotonic();
        let begun = *self.begun.get_or_insert(now);
        self.clock.sleep(pause(self.records, self.rate, now.saturating_sub(begun)));
        let mut request = Vec::with_capacity(self.head.0.len() + 32 + body.len());
        write!(request, "{}{}\r\n\r\n", self.head.0, body.len()).expect("memory takes all");
        request.extend_from_slice(body);
        let until = self.clock.monotonic() + self.patience;
        let mut longest = PAUSE_MIN;
        loop {
            let wait = match self.client.exchange(&request) {
                Ok(reply) if is_acknowledged(&reply) => break,
                Ok(reply) if is_temporary(reply.status) => {
                    let asked = reply.retry_after.unwrap_or(longest);
                    Wait { asked, why: words(&reply) }
                }
                Ok(reply) => {
                    return Err(Failure::failed(format!(
                        "the server refuses what begins with LSN {first}: {}; all before is \
                         acknowledged, go on with --from {first} once that is mended",
                        words(&reply)
                    )));
                }
                Err(error) => Wait { asked: longest, why: error.to_string() },
            };
            self.retries += 1;
            if self.clock.monotonic() + wait.asked > until {
                return Err(Failure::failed(format!(
                    "the server takes nothing: {}; go on with --from {first}",
                    wait.why
                )));
            }
            self.clock.sleep(wait.asked);
            longest = (longest * 2).min(PAUSE_MAX);
        }
        assert!(first <= next, "an acknowledgement goes forward");
        self.records += records;
        self.requests += 1;
        Ok(())
    }
}

/// Why and how long to wait.
struct Wait {
    asked: Duration,
    why: String,
}

/// Whether everything in the request was taken.
fn is_acknowledged(reply: &Reply) -> bool {
    /// What of a receipt counts here.
    #[derive(serde::Deserialize)]
    struct Receipt {
        #[serde(default)]
        rejected_count: u64,
    }
    let receipt: Option<Receipt> = serde_json::from_slice(&reply.body).ok();
    (200..300).contains(&reply.status) && receipt.is_none_or(|receipt| receipt.rejected_count == 0)
}

/// Whether the same request may be taken later.
const fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}

/// What a server says, for people.
fn words(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let text: String = text.trim().chars().take(WORDS_CHARS_MAX).collect();
    format!("{} {text}", reply.status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_ever_shown_and_none_breaks_the_head() {
        let of =
            |token: &str| Credentials { token: Some(Secret(token.to_owned())), token_file: None };
        let address = || Address::parse("--to", "http://a:1").unwrap();
        assert!(!format!("{:?}", of("s3cret")).contains("s3cret"));
        assert!(Sender::new(address(), &of("s3cret"), 1, PAUSE_MIN).is_ok());
        let Err(Failure::Usage(error)) =
            Sender::new(address(), &of("s3cret\r\nX: y"), 1, PAUSE_MIN)
        else {
            panic!("taken")
        };
        assert!(!error.to_string().contains("s3cret"));
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_temporary(status), "{status}");
        }
        for status in [200, 204, 301, 400, 401, 403, 404, 413, 415, 422] {
            assert!(!is_temporary(status), "{status}");
        }
        let reply = |status, body: &str| Reply {
            status,
            retry_after: None,
            body: body.as_bytes().to_vec(),
        };
        assert!(is_acknowledged(&reply(200, r#"{"accepted":2,"rejected_count":0}"#)));
        assert!(is_acknowledged(&reply(204, "")));
        assert!(!is_acknowledged(&reply(200, r#"{"accepted":1,"rejected_count":1}"#)));
        assert!(!is_acknowledged(&reply(503, "")));
    }
}
