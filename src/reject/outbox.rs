//! Reports on their way: gathered over a turn of a shard and written together.
//!
//! One report waits for the disk as long as sixteen do. A shard that wrote one after another spent its
//! time waiting, and what it executes next waited with it.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tracing::warn;

use super::{PAUSE_MAX, PAUSE_MIN, Report, Reporter, Unreported};

/// Reports that wait at most; with the last of them all are written.
pub const WAITING_REPORTS_MAX: usize = 256;

/// Bytes of reports that wait at most, but for the last report; with it all are written.
pub const WAITING_BYTES_MAX: usize = 8 << 20;

/// Reports of one shard that are not written yet. What is in here when it is dropped is lost, so its
/// frames must not be released before [`Reporter::write_out`] succeeded.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: Vec<Waiting>,
    bytes: usize,
}

#[derive(Debug)]
struct Waiting {
    key: String,
    bytes: Bytes,
}

impl Outbox {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_REPORTS_MAX || self.bytes >= WAITING_BYTES_MAX
    }
}

impl Reporter {
    /// Takes a report, and writes all that wait when they are many.
    ///
    /// # Errors
    ///
    /// As [`Self::write_out`].
    pub fn report(&self, outbox: &mut Outbox, report: &Report<'_>) -> Result<(), Unreported> {
        let bytes = Bytes::from(report.to_json());
        outbox.bytes += bytes.len();
        outbox.waiting.push(Waiting { key: report.key(), bytes });
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
            let waiting = outbox.waiting.len();
            warn!(waiting, %error, cause = cause.as_deref(), "reject sink is away; trying again");
            self.metrics.reject_retries.inc();
            let why = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
            self.set_trouble(Some(why));
            // Relaxed: a late look at the flag costs one more pause.
            if self.stopping.load(Ordering::Relaxed) {
                let key = outbox.waiting.first().map(|first| first.key.clone());
                return Err(Unreported { key: key.unwrap_or_default() });
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
    fn attempt(&self, outbox: &mut Outbox) -> Result<(), crate::object::ObjectError> {
        let objects: Vec<(&str, Bytes)> =
            outbox.waiting.iter().map(|one| (one.key.as_str(), one.bytes.clone())).collect();
        let mut is_written = vec![false; objects.len()];
        let result = self.store.put_all(&objects, |at| is_written[at] = true);
        let mut written = is_written.into_iter();
        outbox.waiting.retain(|_| {
            let is_written = written.next().unwrap_or(false);
            if is_written {
                self.metrics.reject_reports.inc();
            }
            !is_written
        });
        result
    }
}
