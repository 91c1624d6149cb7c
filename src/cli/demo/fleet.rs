//! The devices: each sends a record every tenth of a second, and again until it is answered, as a
//! device with a little memory does. What each was told is the ledger that is counted against.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Receiver;
use hdrhistogram::Histogram;

use super::super::client::{Address, Client};
use crate::base::clock::{Clock, SystemClock};
use crate::base::thread::{Panicked, Thread};

/// Between two records of a device.
pub(super) const STEP_NS: u64 = 100_000_000;

/// Connections, each with its share of the devices; and records a request.
const CONNECTIONS: u32 = 4;
const LINES: usize = 100;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// After so long a device gives up, and the demo with it.
const SILENCE_MAX: Duration = Duration::from_mins(2);

/// Longest latency told apart, ns.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// The devices, sending. They end when it is dropped, whatever they wait for.
pub(super) struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<Thread>,
    ledgers: Receiver<Part>,
}

/// What the connections share. Relaxed everywhere: counts, and a flag that orders nothing.
struct Shared {
    begin_ns: u64,
    acknowledged: AtomicU64,
    repeated: AtomicU64,
    is_over: AtomicBool,
    /// Nobody asks what they were told any more.
    is_abandoned: AtomicBool,
    latency: Mutex<Histogram<u64>>,
}

/// What every device was told.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The time of each device's first record.
    pub(super) begin_ns: u64,
    /// Of each device, how many records were acknowledged: its first ones.
    pub(super) acknowledged: Vec<u64>,
    /// Requests that were sent more than once.
    pub(super) repeated: u64,
}

/// What the devices of one connection were told: the first of them, the count of each; or why it ended.
type Part = (u32, Result<Vec<u64>, String>);

/// The temperature that a device measures, in tenths of a degree.
pub(super) const fn tenths(device: u64, number: u64) -> u64 {
    100 + (device * 31 + number * 7) % 200
}

impl Fleet {
    /// Starts to send.
    pub(super) fn start(devices: u32, address: &Address, clock: &SystemClock) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            begin_ns: clock.wall_ns().unsigned_abs() / STEP_NS * STEP_NS,
            acknowledged: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            latency: Mutex::new(new_histogram()),
        });
        let (sender, ledgers) = crossbeam_channel::unbounded();
        let mut threads = Vec::new();
        for at in 0..CONNECTIONS {
            let own = devices * at / CONNECTIONS..devices * (at + 1) / CONNECTIONS;
            let (shared, address, sender) = (Arc::clone(&shared), address.clone(), sender.clone());
            threads.push(Thread::spawn(&format!("devices-{at}"), move || {
                let first = own.start;
                // The receiver lives until every thread is joined.
                drop(sender.send((first, send(&shared, &address, own))));
            })?);
        }
        Ok(Self { shared, threads, ledgers })
    }

    /// Records that were acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// How long acknowledgements took since this was last asked, for people.
    pub(super) fn latency(&self) -> String {
        let mut latency = self.shared.latency.lock().unwrap_or_else(PoisonError::into_inner);
        let ms = |quantile| super::as_f64(latency.value_at_quantile(quantile)) / 1e6;
        let text = if latency.is_empty() {
            "nobody answers".to_owned()
        } else {
            format!("p50 {:.1} ms, p99 {:.1} ms", ms(0.5), ms(0.99))
        };
        latency.reset();
        text
    }

    /// Lets each connection end its request, and returns what the devices were told.
    ///
    /// # Errors
    ///
    /// When a device was refused, or a thread panicked.
    pub(super) fn end(mut self) -> Result<Ledger, String> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|panicked: Panicked| panicked.to_string())?;
        }
        let mut parts: Vec<Part> = self.ledgers.try_iter().collect();
        parts.sort_by_key(|(first, _)| *first);
        let mut acknowledged = Vec::new();
        for (_, counts) in parts {
            acknowledged.extend(counts?);
        }
        let repeated = self.shared.repeated.load(Ordering::Relaxed);
        Ok(Ledger { begin_ns: self.shared.begin_ns, acknowledged, repeated })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.shared.is_abandoned.store(true, Ordering::Relaxed);
        self.shared.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has told what it is, and there is a reason already.
            drop(thread.join());
        }
    }
}

/// One connection: rounds of its devices, until it is over.
fn send(shared: &Shared, address: &Address, own: std::ops::Range<u32>) -> Result<Vec<u64>, String> {
    let clock = SystemClock::new();
    let mut client = Client::new(address.clone());
    let devices: Vec<u64> = own.map(u64::from).collect();
    let mut counts = vec![0; devices.len()];
    let mut due = Duration::ZERO;
    let batches = devices.len().div_ceil(LINES).max(1) as u64;
    let pause = Duration::from_nanos(STEP_NS / batches);
    for number in 0.. {
        for (at, batch) in devices.chunks(LINES).enumerate() {
            if shared.is_over.load(Ordering::Relaxed) {
                return Ok(counts);
            }
            shared.post(&mut client, &request(address, batch, (shared.begin_ns, number)))?;
            shared.acknowledged.fetch_add(batch.len() as u64, Ordering::Relaxed);
            counts[at * LINES..][..batch.len()].fill(number + 1);
            // Spread over the step, so that a kill always finds somebody under way. Who is late does not
            // hurry: a device measures when it is time.
            due = (due + pause).max(clock.monotonic());
            clock.sleep(due.saturating_sub(clock.monotonic()));
        }
    }
    Ok(counts)
}

impl Shared {
    /// Sends a request until it is acknowledged.
    fn post(&self, client: &mut Client, request: &[u8]) -> Result<(), String> {
        let clock = SystemClock::new();
        for attempt in 0.. {
            let sent = clock.monotonic();
            let failed = match client.exchange(request) {
                Ok(reply) if reply.status == 204 => {
                    let took = clock.monotonic().saturating_sub(sent).as_nanos();
                    let mut latency = self.latency.lock().unwrap_or_else(PoisonError::into_inner);
                    latency.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                    return Ok(());
                }
                Ok(reply) if matches!(reply.status, 429 | 503) => reply.status.to_string(),
                Ok(reply) => {
                    let said = String::from_utf8_lossy(&reply.body).into_owned();
                    return Err(format!("a device was answered {}: {said}", reply.status));
                }
                Err(error) => error.to_string(),
            };
            if attempt == 0 {
                self.repeated.fetch_add(1, Ordering::Relaxed);
            }
            if self.is_abandoned.load(Ordering::Relaxed) {
                return Err("interrupted".to_owned());
            }
            if clock.monotonic() > SILENCE_MAX {
                return Err(format!("a device hears nothing for {SILENCE_MAX:?}: {failed}"));
            }
            clock.sleep(PAUSE);
        }
        Ok(())
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_NS_MAX, 3).expect("constant bounds are valid")
}

/// A request with a record of each of these devices.
fn request(address: &Address, devices: &[u64], (begin_ns, number): (u64, u64)) -> Vec<u8> {
    let mut body = String::new();
    let time_ns = begin_ns + number * STEP_NS;
    for device in devices {
        let (site, tenths) = (device % 16, tenths(*device, number));
        let (whole, tenth, battery) = (tenths / 10, tenths % 10, 100 - number / 1000 % 100);
        writeln!(
            body,
            "weather,device=d{device},site=s{site} temperature={whole}.{tenth},battery={battery}i {time_ns}"
        )
        .expect("a string takes all");
    }
    let length = body.len();
    let head = format!(
        "POST /api/v2/write?bucket=demo&precision=ns HTTP/1.1\r\nHost: {address}\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    (head + &body).into_bytes()
}
