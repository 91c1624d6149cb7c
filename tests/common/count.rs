//! Writers that count: each record is one request, its number is its time. For tests in which requests
//! are refused: every answer is taken, and only what was acknowledged is owed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidegate::base::clock::{Clock, SystemClock};

use super::client::Client;
use super::gateway::Gateway;
use super::rows::Value;

pub(crate) const DATABASE: &str = "fleet";
const TABLE: &str = "counted";

/// Pause after an answer that was no success.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

/// Numbers of one writer are below this, and so are the writers.
const NUMBERS: u64 = 1 << 32;

/// What all writers of a test know.
#[derive(Debug, Default)]
pub(crate) struct Count {
    /// Set by the test when something breaks: what is sent from then on is counted on its own.
    pub(crate) is_broken: AtomicBool,
    /// Set by the test to end the writers.
    pub(crate) is_over: AtomicBool,
    /// Acknowledged of what was sent before something broke, and after.
    pub(crate) acknowledged: AtomicU64,
    pub(crate) acknowledged_broken: AtomicU64,
    /// Answered 503 with `Retry-After`.
    pub(crate) busy: AtomicU64,
    /// Answered 500, or not at all.
    pub(crate) failed: AtomicU64,
}

/// One writer. Its records are numbered on without end, a number that was refused is sent again.
#[derive(Debug)]
pub(crate) struct Counter {
    name: u64,
    text: String,
    next: u64,
    sent: BTreeSet<u64>,
    owed: BTreeSet<u64>,
}

impl Counter {
    /// A writer whose records carry a text of `bytes`.
    pub(crate) fn new(name: u64, bytes: usize) -> Self {
        Self {
            name,
            text: "x".repeat(bytes),
            next: 0,
            sent: BTreeSet::new(),
            owed: BTreeSet::new(),
        }
    }

    /// Writes until the test says that it is over, or the server is gone.
    pub(crate) fn run(&mut self, address: SocketAddr, count: &Count) {
        let clock = SystemClock::new();
        let mut client = Client::new(address);
        while !count.is_over.load(Ordering::SeqCst) {
            let time = self.name * NUMBERS + self.next;
            let line = format!("{TABLE} n={}i,text=\"{}\" {time}", self.next, self.text);
            let broken = count.is_broken.load(Ordering::SeqCst);
            self.sent.insert(time);
            let target = format!("/write?db={DATABASE}&precision=n");
            let Ok(reply) = client.post(&target, &[], line.as_bytes()) else {
                count.failed.fetch_add(1, Ordering::SeqCst);
                return;
            };
            match reply.status {
                204 => {
                    self.owed.insert(time);
                    self.next += 1;
                    let sum = if broken { &count.acknowledged_broken } else { &count.acknowledged };
                    sum.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                503 => {
                    assert!(reply.header("retry-after").is_some(), "{}", reply.text());
                    count.busy.fetch_add(1, Ordering::SeqCst);
                }
                500 => {
                    count.failed.fetch_add(1, Ordering::SeqCst);
                }
                other => assert_eq!(other, 204, "{}", reply.text()),
            }
            clock.sleep(PAUSE);
        }
    }
}

/// The numbers that a server serves.
pub(crate) fn served(server: &Gateway) -> BTreeSet<u64> {
    let rows = server.export(DATABASE, TABLE);
    let number = |time_ns: i64| u64::try_from(time_ns).expect("as it was sent");
    for (key, row) in &rows {
        let n = i64::try_from(number(key.time_ns) % NUMBERS).expect("a small number");
        assert_eq!(row.fields.get("n"), Some(&Value::Bigint(n)), "{key:?} is as it was sent");
    }
    rows.keys().map(|key| number(key.time_ns)).collect()
}

/// What is owed and not served, and what is served and was never sent; empty when all is well.
pub(crate) fn wrong(counters: &[Counter], served: &BTreeSet<u64>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut sent = BTreeSet::new();
    for counter in counters {
        sent.extend(&counter.sent);
        wrong.extend(counter.owed.difference(served).map(|lost| format!("lost: {lost}")));
    }
    wrong.extend(served.difference(&sent).map(|number| format!("nobody sent: {number}")));
    wrong
}
