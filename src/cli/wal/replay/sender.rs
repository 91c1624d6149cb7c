//! Sending: one request after the other, at the rate, tried again while the server is busy or away.
//!
//! | answer | what follows |
//! |---|---|
//! | a receipt of Tidegate's for exactly the records that were sent | the request is acknowledged |
//! | 408, 429, 5xx, a broken connection | the same request again, after `Retry-After`, or after a pause that doubles |
//! | any other 2xx | the replay ends: whatever answered is no Tidegate, and may have thrown all away |
//! | anything else | the replay ends with the server's words |
//!
//! A receipt is of durability `applied`, so that it counts what the target's engine refused. Refused
//! because a higher version stands, or another record of an equal one: such records are counted and the
//! replay goes on, since the target has what is newer. For any other reason: the replay ends.
//!
//! To send a request twice is harmless: its records are what they are. No line is taken where one is
//! invalid (`accept_partial=false`).
//!
//! The rate holds from each request to the next one. Time that a server was busy or away is not caught
//! up: it comes back to the rate and not to a flood.

use std::io::{self, Write as _};
use std::time::Duration;

use super::super::super::Failure;
use super::super::super::client::{Address, Client, Reply, Secret};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::lsn::Lsn;
use crate::record::Reason;

/// The pause before the second try, and the longest that it grows to.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Most characters of a server's words that an error repeats.
const WORDS_CHARS_MAX: usize = 2000;

/// Records that a target's engine refused because of the versions that stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Refused {
    pub(super) records: u64,
    /// Of them those that no receipt named: a receipt names the first hundred.
    pub(super) unnamed: u64,
}

/// Longest rest without a look whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// Sends requests.
pub(super) struct Sender<'a> {
    client: Client,
    clock: SharedClock,
    /// The request up to the length of its body.
    head: Secret,
    rate: u64,
    patience: Duration,
    /// When the next request may be sent.
    due: Duration,
    records: u64,
    refused: Refused,
    requests: u64,
    retries: u64,
    /// The signal that asked for the end, if one did.
    halts: &'a dyn Fn() -> Option<i32>,
}

impl<'a> Sender<'a> {
    pub(super) fn new(
        address: Address,
        authorization: &Secret,
        rate: u64,
        patience: Duration,
    ) -> Self {
        let authorization = &authorization.0;
        let head = format!(
            "POST /api/v1/write?precision=ns&accept_partial=false HTTP/1.1\r\nHost: {address}\r\n\
             Content-Type: application/x-ndjson\r\nX-Tidegate-Durability: applied\r\n{authorization}\
             Content-Length: "
        );
        Self {
            client: Client::new(address),
            clock: SystemClock::shared(),
            head: Secret(head),
            rate,
            patience,
            due: Duration::ZERO,
            records: 0,
            refused: Refused::default(),
            requests: 0,
            retries: 0,
            halts: &|| None,
        }
    }

    /// The same, which sends nothing more once `halts` names a signal.
    pub(super) fn until(self, halts: &'a dyn Fn() -> Option<i32>) -> Self {
        Self { halts, ..self }
    }

    /// Rests, unless a signal asks for the end.
    fn rest(&self, how_long: Duration, first: Lsn) -> Result<(), Failure> {
        let mut left = how_long;
        loop {
            if let Some(signal) = (self.halts)() {
                let (records, requests) = (self.records, self.requests);
                let told = format!(
                    "{records} records in {requests} requests were acknowledged; go on with --from {first}, \
                     or the same --position"
                );
                return Err(Failure::Interrupted { signal, told });
            }
            if left.is_zero() {
                return Ok(());
            }
            let slice = left.min(LOOK);
            self.clock.sleep(slice);
            left -= slice;
        }
    }

    /// Records acknowledged, those that were refused because of their versions included.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Records that were refused because of their versions.
    pub(super) fn refused(&self) -> Refused {
        self.refused
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
        self.rest(self.due.saturating_sub(self.clock.monotonic()), first)?;
        let mut request = Vec::with_capacity(self.head.0.len() + 32 + body.len());
        write!(request, "{}{}\r\n\r\n", self.head.0, body.len()).expect("memory takes all");
        request.extend_from_slice(body);
        let until = self.clock.monotonic().saturating_add(self.patience);
        let mut longest = PAUSE_MIN;
        let refused = loop {
            self.due = self.clock.monotonic().saturating_add(time_for(records, self.rate));
            let wait = match self.client.exchange(&request) {
                Ok(reply) if is_temporary(reply.status) => {
                    let asked = reply.retry_after.unwrap_or(longest).max(PAUSE_MIN);
                    Wait { asked, why: words(&reply) }
                }
                Ok(reply) => match judge(&reply, records) {
                    Ok(refused) => break refused,
                    Err(what) => {
                        return Err(Failure::failed(format!(
                            "{what} what begins with LSN {first}: {}; all before is acknowledged, \
                             go on with --from {first} once that is mended",
                            words(&reply)
                        )));
                    }
                },
                // Encryption that does not fit, or a certificate: waiting mends neither.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(Failure::failed(format!("{error}; go on with --from {first}")));
                }
                Err(error) => Wait { asked: longest, why: error.to_string() },
            };
            self.retries += 1;
            if self.clock.monotonic().saturating_add(wait.asked) > until {
                return Err(Failure::failed(format!(
                    "the server takes nothing: {}; go on with --from {first}",
                    wait.why
                )));
            }
            self.rest(wait.asked, first)?;
            longest = (longest * 2).min(PAUSE_MAX);
        };
        assert!(first <= next, "an acknowledgement goes forward");
        assert!(refused.records <= records, "no more are refused than were sent");
        self.records += records;
        self.refused.records += refused.records;
        self.refused.unnamed += refused.unnamed;
        self.requests += 1;
        Ok(())
    }
}

/// Why and how long to wait.
struct Wait {
    asked: Duration,
    why: String,
}

/// How long a request of so many records holds back the one after it.
fn time_for(records: u64, rate: u64) -> Duration {
    let due_ns = u128::from(records) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(due_ns).unwrap_or(u64::MAX))
}

/// A receipt of `/api/v1/write`; see [`crate::api::partial`]. All of it must be there: other servers
/// answer 200 too, and take nothing.
#[derive(serde::Deserialize)]
struct Receipt {
    accepted: u64,
    rejected_count: u64,
    #[serde(default)]
    rejected: Vec<Named>,
}

/// A refusal that a receipt names.
#[derive(serde::Deserialize)]
struct Named {
    reason: String,
}

/// What was refused of a request of `sent` records because of versions, if all others were taken; else
/// the begin of a sentence about what the server did to it.
fn judge(reply: &Reply, sent: u64) -> Result<Refused, &'static str> {
    const REFUSES: &str = "the server refuses";
    const FOREIGN: &str = "the target must be a Tidegate, and this is no receipt of one for";
    let is_success = (200..300).contains(&reply.status);
    let receipt: Option<Receipt> = serde_json::from_slice(&reply.body).ok();
    let Some(receipt) = receipt else {
        return Err(if is_success { FOREIGN } else { REFUSES });
    };
    let is_of_versions = |named: &Named| {
        [Reason::VersionLower, Reason::VersionConflict].iter().any(|r| r.code() == named.reason)
    };
    let named = receipt.rejected.len() as u64;
    let is_named = named > 0 && receipt.rejected.iter().all(is_of_versions);
    if receipt.rejected_count > 0 && !is_named {
        return Err(REFUSES);
    }
    // All of them refused is a 400.
    let is_status_right = is_success || (reply.status == 400 && receipt.accepted == 0 && named > 0);
    let counted = receipt.accepted.checked_add(receipt.rejected_count);
    match receipt.rejected_count.checked_sub(named) {
        Some(unnamed) if is_status_right && counted == Some(sent) => {
            Ok(Refused { records: receipt.rejected_count, unnamed })
        }
        _ if is_success => Err(FOREIGN),
        _ => Err(REFUSES),
    }
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
    use crate::base::clock::{Clock as _, ManualClock};
    use crate::cli::client::Trust;

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(is_temporary(status), "{status}");
        }
        for status in [200, 204, 301, 400, 401, 403, 404, 413, 415, 422] {
            assert!(!is_temporary(status), "{status}");
        }
    }

    #[test]
    fn only_a_receipt_for_exactly_these_records_acknowledges_them() {
        let judged = |status, body: &str| {
            judge(&Reply { status, retry_after: None, body: body.as_bytes().to_vec() }, 2)
        };
        let refused = |records, unnamed| Ok(Refused { records, unnamed });
        let lower = r#"{"reason":"version_lower","existing_version":7}"#;
        let conflict = r#"{"reason":"version_conflict"}"#;
        let of = |accepted: u64, count: u64, named: &[&str]| {
            let named = named.join(",");
            format!(r#"{{"accepted":{accepted},"rejected_count":{count},"rejected":[{named}]}}"#)
        };
        assert_eq!(judged(200, &of(2, 0, &[])), refused(0, 0));
        assert_eq!(judged(200, &of(1, 1, &[lower])), refused(1, 0));
        assert_eq!(judged(400, &of(0, 2, &[lower, conflict])), refused(2, 0));
        assert_eq!(judged(400, &of(0, 2, &[conflict])), refused(2, 1));
        for (status, body) in [
            (200, of(1, 0, &[])),
            (200, of(3, 0, &[])),
            (200, of(0, 0, &[])),
            (200, r#"{"accepted":2}"#.to_owned()),
            (200, "<html>please log in</html>".to_owned()),
            (200, "{}".to_owned()),
            (204, String::new()),
        ] {
            let found = judged(status, &body);
            assert!(found.is_err_and(|what| what.contains("must be a Tidegate")), "{body}");
        }
        for (status, body) in [
            (200, of(1, 1, &[r#"{"reason":"type_conflict"}"#])),
            (400, of(0, 2, &[lower, r#"{"reason":"not_taken"}"#])),
            (400, of(0, 2, &[])),
            (400, of(2, 0, &[])),
            (403, of(0, 2, &[lower, lower])),
            (302, String::new()),
        ] {
            assert_eq!(judged(status, &body), Err("the server refuses"), "{status} {body}");
        }
    }

    #[test]
    fn a_request_holds_back_the_next_as_long_as_its_records_take_at_the_rate() {
        for (records, rate, ms) in [(0, 100, 0), (100, 100, 1000), (5000, 50_000, 100)] {
            assert_eq!(time_for(records, rate), Duration::from_millis(ms), "{records} at {rate}");
        }
        assert_eq!(time_for(u64::MAX, 1), Duration::from_nanos(u64::MAX));
    }

    /// Answers each request of one connection a time with the next of `answers`.
    fn answering(answers: Vec<String>) -> (Address, std::thread::JoinHandle<()>) {
        use std::io::{BufRead, BufReader, Read};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serve = move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    reader.read_line(&mut line).unwrap();
                    let value = line.strip_prefix("Content-Length: ");
                    length = value.map_or(length, |value| value.trim().parse().unwrap());
                }
                reader.read_exact(&mut vec![0; length]).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            }
        };
        let server = std::thread::Builder::new().spawn(serve).unwrap();
        (Address::parse("--to", &url, &Trust::default()).unwrap(), server)
    }

    /// Goal: an outage is not caught up, and a server that asks for no pause gets one. Method: a clock
    /// that only sleeping moves, so the times are exact.
    #[test]
    fn an_outage_is_not_caught_up_and_no_pause_is_shorter_than_the_least() {
        let of = |head: &str, body: &str| {
            let length = body.len();
            format!(
                "HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let taken = of("200 OK", r#"{"accepted":100,"rejected_count":0}"#);
        let away = of("503 Busy\r\nRetry-After: 60", "");
        let hasty = of("503 Busy\r\nRetry-After: 0", "");
        let answers = vec![taken.clone(), away, hasty, taken.clone(), taken.clone(), taken];
        let (address, server) = answering(answers);
        let patience = Duration::from_mins(10);
        let mut sender = Sender::new(address, &Secret(String::new()), 100, patience);
        let clock = ManualClock::at(0);
        sender.clock = std::sync::Arc::<ManualClock>::clone(&clock);
        let mut sent_at = Vec::new();
        for lsn in 1..5 {
            sender.send(b"{}", 100, (Lsn(lsn), Lsn(lsn + 1))).unwrap();
            sent_at.push(clock.monotonic());
        }
        server.join().unwrap();
        let after = Duration::from_secs(61) + PAUSE_MIN;
        let second = Duration::from_secs(1);
        assert_eq!(sent_at, [Duration::ZERO, after, after + second, after + 2 * second]);
    }
}
