//! Reports on their way: gathered over a turn of a shard and written together.
//!
//! One report waits for the disk as long as sixteen do. A shard that wrote one after another spent its
//! time waiting, and what it executes next waited with it. And an object a frame is too many: small
//! reports of the frames of a [block](super::shared) become one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::{error, warn};

use super::shared::{Key, Shared};
use super::{PAUSE_MAX, PAUSE_MIN, Report, Reporter, Unreported};
use crate::base::lsn::Lsn;
use crate::object::{ObjectError, Trouble};

/// Objects that wait at most; with the last of them all are written.
pub const WAITING_REPORTS_MAX: usize = 256;

/// Bytes of reports that wait at most, but for the last report; with it all are written.
pub const WAITING_BYTES_MAX: usize = 8 << 20;

/// A report of more bytes has an object of its own. An object that is shared is written again whenever a
/// frame of its block brings a rejection, so what is large must not be in it: with this bound a block takes
/// 2 MiB at most, and a frame's report is written again at the price of a few hundred times its size at the
/// very worst, frame by frame.
pub const SHARED_REPORT_BYTES_MAX: usize = 8 << 10;

/// Reports of one shard that are not written yet. What is in here when it is dropped is lost, so its
/// frames must not be released before [`Reporter::write_out`] succeeded.
#[derive(Debug, Default)]
pub struct Outbox {
    own: Vec<Own>,
    /// What waits for objects of many.
    shared: BTreeMap<Key, Shared>,
    bytes: usize,
    /// The last frame that had a report in here.
    last: Lsn,
}

/// An object of one report.
#[derive(Debug)]
struct Own {
    key: String,
    bytes: Bytes,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    fn len(&self) -> usize {
        self.own.len() + self.shared.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= WAITING_REPORTS_MAX || self.bytes >= WAITING_BYTES_MAX
    }

    fn first_key(&self) -> String {
        let shared = || self.shared.keys().next().map(|key| key.base.clone());
        self.own.first().map(|own| own.key.clone()).or_else(shared).unwrap_or_default()
    }

    fn add(&mut self, report: &Report<'_>) {
        self.last = self.last.max(report.lsn);
        let entries = report.entries();
        let bytes: usize = entries.iter().map(|(_, json)| json.len()).sum();
        self.bytes += bytes;
        if report.is_late() || bytes > SHARED_REPORT_BYTES_MAX {
            let bytes = Bytes::from(report.to_json());
            self.own.push(Own { key: report.own_key(), bytes });
            return;
        }
        let waiting = match self.shared.entry(Key::of(report)) {
            Entry::Occupied(waiting) => waiting.into_mut(),
            Entry::Vacant(place) => {
                let added = Shared::new(place.key());
                place.insert(added)
            }
        };
        waiting.extend(entries.into_iter());
    }
}

impl Reporter {
    /// Takes a report, and writes all that wait when they are many.
    ///
    /// # Errors
    ///
    /// As [`Self::write_out`].
    pub fn report(&self, outbox: &mut Outbox, report: &Report<'_>) -> Result<(), Unreported> {
        outbox.add(report);
        if outbox.is_full() { self.write_out(outbox) } else { Ok(()) }
    }

    /// Writes what waits, in no order. All of it is durable on return.
    ///
    /// # Errors
    ///
    /// [`Unreported`] when the server stops while the sink is away; the frames of what waits must then
    /// not be released, so that the next start reports them.
    pub fn write_out(&self, outbox: &mut Outbox) -> Result<(), Unreported> {
        let mut pause = PAUSE_MIN;
        while !outbox.is_empty() {
            let Err(error) = self.attempt(outbox) else { break };
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let waiting = outbox.len();
            let cause_text = cause.as_deref();
            if error.trouble() == Trouble::Taken {
                error!(waiting, %error, cause = cause_text, "the log keeps what was refused");
            } else {
                warn!(waiting, %error, cause = cause_text, "reject sink is away; trying again");
            }
            self.metrics.reject_retries.inc();
            let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            self.set_trouble(Some(why));
            // Relaxed: a late look at the flag costs one more pause.
            if self.stopping.load(Ordering::Relaxed) {
                return Err(Unreported { key: outbox.first_key() });
            }
            self.clock.sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        }
        assert!(outbox.is_empty(), "an attempt without an error wrote everything");
        outbox.bytes = 0;
        self.set_trouble(None);
        Ok(())
    }

    /// Writes what waits, and forgets what is durable by now.
    fn attempt(&self, outbox: &mut Outbox) -> Result<(), ObjectError> {
        self.claim.hold(outbox.last)?;
        let mut grown = Vec::with_capacity(outbox.shared.len());
        for (key, waiting) in &outbox.shared {
            let mut shared = self.shared.take(&self.store, key)?;
            if let Some(id) = shared.contradicts(waiting, self.claim.ended()) {
                return Err(self.claim.ahead(id.lsn));
            }
            shared.merge(waiting);
            grown.push((key.clone(), shared));
        }
        let texts: Vec<(String, Bytes)> =
            grown.iter().map(|(key, shared)| (shared.key(key), shared.to_json().into())).collect();
        let own = outbox.own.iter().map(|own| (own.key.as_str(), own.bytes.clone()));
        let shared = texts.iter().map(|(key, bytes)| (key.as_str(), bytes.clone()));
        let objects: Vec<(&str, Bytes)> = own.chain(shared).collect();
        let mut is_written = vec![false; objects.len()];
        let result = self.store.put_all(&objects, |at| is_written[at] = true);
        let (of_own, of_shared) = is_written.split_at(outbox.own.len());
        let mut of_own = of_own.iter();
        outbox.own.retain(|_| {
            let is_written = of_own.next().copied().unwrap_or(false);
            if is_written {
                self.metrics.reject_reports.inc();
            }
            !is_written
        });
        for ((key, shared), _) in grown.into_iter().zip(of_shared).filter(|(_, written)| **written)
        {
            if outbox.shared.remove(&key).is_some() {
                self.metrics.reject_reports.inc();
            }
            // Only what is durable: what is in here is taken for what the object says.
            self.shared.put_back(key, shared);
        }
        result
    }
}
