//! Floor 2: the reject sink. What cannot be stored is kept here, with the reason, as it came.
//!
//! A report is one JSON object in the [object store](crate::object) ([`entry`] has its layout). Small reports of
//! the frames of a block share one ([`shared`]); a large one has its own. Keys are made of the frames' numbers, so
//! that a replay which finds the same rejections again writes the same objects:
//!
//! | key | what |
//! |---|---|
//! | `records/<database>/<table>/<yyyy>/<mm>/<dd>/<first>-<last>-<shard>of<shards>.json` | records that the engine refused, of one table and up to 256 frames |
//! | `records/<database>/<table>/<yyyy>/<mm>/<dd>/<lsn>-<shard>of<shards>-<part>.json` | the same, of one frame with many |
//! | `lines/<database>/<yyyy>/<mm>/<dd>/<first>-<last>.json` | lines that could not be decoded or did not pass validation |
//! | `lines/<database>/<yyyy>/<mm>/<dd>/<lsn>-<part>.json` | the same, of one frame with many |
//! | `<prefix>/<database>/<table>/<yyyy>/<mm>/<dd>/<number>.json` | conflicts of versions in the magnetic store of a strict table that names a prefix for them |
//! | `resubmitted/<first>-<last>/<lsn>.json` | marks: what was sent again, in frame `lsn`, of the rejections of these frames ([`mark`]) |
//! | `.owner.json` | the gateway whose sink it is ([`claim`]) |
//!
//! The day is that of receipt, UTC; names are encoded ([`crate::object::encode`]). With another number
//! of shards after a crash a rejection may stand twice under two keys, with one number: who reads
//! ([`archive`]) shows it once. None is lost.
//!
//! A frame is released from the log only when its reports are durable, so a sink that is away holds
//! the log and loses nothing: [`Reporter::write_out`] tries until it succeeds or the server stops. The
//! reports of a turn of a shard are written together ([`outbox`]), since each waits for the disk.

pub mod entry;
pub mod key;
pub mod report;
pub mod shared;
pub mod outbox;
pub mod select;
pub mod archive;
pub mod mark;
pub mod retention;
pub mod claim;
mod walk;
mod seen;
mod late;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::clock::SharedClock;
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::metrics::Metrics;
use crate::object::{ObjectError, Store};

pub use archive::Archive;
pub use claim::Claim;
pub use outbox::Outbox;
pub use report::{Report, ReportedRecord};
pub use retention::Sweeper;

/// Settings of the section `rejects`.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where reports go: a directory, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix` (see the section `object`). Empty: `rejects` in the data directory. It must
    /// be writable and durable; while it is not, the log keeps what was refused and grows.
    pub url: String,
    /// How long rejections are kept, by the day of their receipt: `"0s"` for ever, else 1 d to 73000 d, such
    /// as `"30d"`. Whatever nobody has mended by then is gone, and is nowhere else.
    pub keep_for: Span,
}

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(what) = (!self.url.is_empty()).then(|| Store::problem(&self.url)).flatten() {
            problems.push(format!("rejects.url: {what}"));
        }
        let found = self.keep_for;
        if !found.0.is_zero() && !(KEEP_FOR_MIN..=KEEP_FOR_MAX).contains(&found) {
            let rule = format!("neither 0s, for ever, nor {KEEP_FOR_MIN} to {KEEP_FOR_MAX}");
            problems.push(format!("rejects.keep_for: {found} is {rule}"));
        }
        problems
    }
}

/// Rejections are kept by whole days.
const KEEP_FOR_MIN: Span = Span::secs(86_400);

/// Longer is for ever. As long as a table of Timestream keeps its records.
const KEEP_FOR_MAX: Span = Span::secs(73_000 * 86_400);

/// First pause after a failed attempt; doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Writes reports, shared by the shards.
#[derive(Debug, Clone)]
pub struct Reporter {
    store: Arc<Store>,
    claim: Arc<Claim>,
    clock: SharedClock,
    metrics: Metrics,
    stopping: Arc<AtomicBool>,
    /// Why the last attempt failed; `None` when it did not.
    trouble: Arc<Mutex<Option<String>>>,
    shared: Arc<shared::Kept>,
}

/// The last frame that has a report, or a mark, in `store`; 0 when there is none. Looks at every key.
///
/// # Errors
///
/// [`ObjectError`] when the store cannot be listed, or the last object cannot be read.
pub fn last_reported(store: &Store) -> Result<Lsn, ObjectError> {
    let mut last = (Lsn::ZERO, Lsn::ZERO);
    let mut blocks = Vec::new();
    for prefix in [key::RECORDS, key::LINES, key::RESUBMITTED] {
        for name in store.list(prefix)? {
            let file = name.rsplit('/').next().unwrap_or_default();
            let Some((first, end)) = key::lsns_in(file) else { continue };
            if first == end {
                last.0 = last.0.max(first);
            } else {
                last.1 = last.1.max(end);
                blocks.push((end, name));
            }
        }
    }
    // Which frames of its block an object is of, only itself says.
    blocks.retain(|(end, _)| *end == last.1 && *end > last.0);
    let mut found = last.0;
    for (end, name) in blocks {
        let sheet = entry::Sheet::parse(&store.get(&name)?);
        let of_sheet = sheet.map(|sheet| sheet.entries.iter().map(|entry| entry.lsn).max());
        found = found.max(of_sheet.ok().flatten().unwrap_or(end));
    }
    Ok(found)
}

/// The server stops before the report could be written; its frame stays in the log.
#[derive(Debug, thiserror::Error)]
#[error("stopping before report {key} could be written; its frame stays in the log")]
pub struct Unreported {
    key: String,
}

impl Reporter {
    /// The reporter to the sink of `claim`, which gives up only when `stopping` says so.
    pub fn new(
        claim: Claim,
        clock: SharedClock,
        metrics: Metrics,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let (store, claim) = (Arc::clone(claim.store()), Arc::new(claim));
        let (trouble, shared) = (Arc::default(), Arc::default());
        Self { store, claim, clock, metrics, stopping, trouble, shared }
    }

    /// Who reads what it has written.
    pub fn archive(&self) -> Archive {
        Archive::of(Arc::clone(&self.store), Arc::clone(&self.claim))
    }

    /// Why the sink takes no reports; `None` while it does.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the sink at an orderly stop how far its reports go.
    pub fn tell_owner(&self) {
        self.claim.tell();
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
