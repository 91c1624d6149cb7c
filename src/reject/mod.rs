//! Floor 2: the reject sink. What cannot be stored is kept here, with the reason, as it came.
//!
//! A report is one JSON object in the [object store](crate::object): the rejections that one shard
//! found in one frame of the log. Its key is made of the frame's number, so that a replay which finds
//! the same rejections again overwrites the report instead of doubling it:
//!
//! | key | what |
//! |---|---|
//! | `records/<database>/<table>/<yyyy>/<mm>/<dd>/<lsn>-<shard>of<shards>-<part>.json` | records that the engine refused, of one table |
//! | `<prefix>/<database>/<table>/<yyyy>/<mm>/<dd>/<number>.json` | conflicts of versions in the magnetic store of a strict table that names a prefix for them |
//! | `lines/<database>/<yyyy>/<mm>/<dd>/<lsn>.json` | lines that could not be decoded or did not pass validation |
//!
//! The day is that of receipt, UTC; names are encoded ([`crate::object::encode`]). With another number
//! of shards after a crash a report may stand twice under two keys; none is lost.
//!
//! A frame is released from the log only when its reports are durable, so a sink that is away holds
//! the log and loses nothing: [`Reporter::write_out`] tries until it succeeds or the server stops. The
//! reports of a turn of a shard are written together ([`outbox`]), since each waits for the disk.

pub mod outbox;
pub mod report;
mod late;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::metrics::Metrics;
use crate::object::{ObjectError, Store};

pub use outbox::Outbox;
pub use report::{Report, ReportedRecord};

/// Settings of the section `rejects`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where reports go: a directory, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix` (see the section `object`). Empty: `rejects` in the data directory. It must
    /// be writable and durable; while it is not, the log keeps what was refused and grows.
    pub url: String,
}

/// First pause after a failed attempt; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Writes reports, shared by the shards.
#[derive(Debug, Clone)]
pub struct Reporter {
    store: Arc<Store>,
    clock: SharedClock,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
    /// Why the last attempt failed; `None` when it did not.
    trouble: Arc<Mutex<Option<String>>>,
}

/// The last frame that has a report in `store`; 0 when there is none. Looks at every key.
///
/// # Errors
///
/// [`ObjectError`] when the store cannot be listed.
pub fn last_reported(store: &Store) -> Result<Lsn, ObjectError> {
    let mut last = Lsn::ZERO;
    for prefix in [report::RECORDS, report::LINES] {
        for key in store.list(prefix)? {
            last = last.max(report::lsn_in(&key).unwrap_or_default());
        }
    }
    Ok(last)
}

/// The server stops before the report could be written; its frame stays in the log.
#[derive(Debug, thiserror::Error)]
#[error("stopping before report {key} could be written; its frame stays in the log")]
pub struct Unreported {
    key: String,
}

impl Reporter {
    /// A reporter that gives up only when `stopping` says so.
    pub fn new(
        store: Arc<Store>,
        clock: SharedClock,
        metrics: Metrics,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self { store, clock, metrics, stopping, trouble: Arc::default() }
    }

    /// Why the sink takes no reports; `None` while it does.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where reports go, for people.
    pub fn place(&self) -> &str {
        self.store.place()
    }

    fn set_trouble(&self, trouble: Option<String>) {
        // A panic elsewhere leaves an old text at worst.
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }
}

#[cfg(test)]
mod tests;
