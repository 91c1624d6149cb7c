//! The way in for threads that are not the runtime's: [`Ingest::submit`] appends and returns, so that the
//! next request can be made while this one is synced and executed; [`Pending::wait`] hears of it.
//!
//! Frames stand in the log in the order in which they were submitted.

use std::sync::Arc;
use std::time::Duration;

use super::{Ask, Ingest, IngestError, Protocol, Receipt, Shared, Waiting, committed};
use crate::record::RecordSink;

/// A request that was appended.
#[derive(Debug)]
#[must_use = "whether it is durable is not known before it was waited for"]
pub struct Pending {
    shared: Arc<Shared>,
    receipt: Receipt,
    /// `None` when there was nothing to store.
    waiting: Option<Waiting>,
    protocol: Protocol,
    started: Duration,
}

impl Ingest {
    /// Takes one request as [`Ingest::accept`] does, and does not wait. Its memory is the caller's to
    /// bound. For threads that are not the runtime's.
    ///
    /// # Errors
    ///
    /// [`IngestError`]: nothing was taken.
    pub fn submit<D>(&self, ask: &Ask<'_>, decode: D) -> Result<Pending, IngestError>
    where
        D: Fn(&mut dyn RecordSink),
    {
        let durability = ask.durability.unwrap_or(self.shared.durability);
        let started = self.shared.parts.clock.monotonic();
        let waits = (durability, ask.protocol.hearing());
        let (receipt, waiting) = self.shared.encode_counted(ask, waits, started, decode)?;
        let shared = Arc::clone(&self.shared);
        Ok(Pending { shared, receipt, waiting, protocol: ask.protocol, started })
    }
}

impl Pending {
    /// Waits until the request is as durable as it asked for. Not to be called on a thread of the
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`IngestError::Poisoned`]: whether it is stored is unknown. [`IngestError::Busy`]: it is durable,
    /// and will be executed at the next start; what the engine says of it is not known.
    pub fn wait(mut self) -> Result<Receipt, IngestError> {
        if let Some(waiting) = self.waiting.take() {
            self.receipt.lsn = Some(committed(waiting.committed.blocking_recv().ok())?);
            if let Some(applied) = waiting.applied {
                let heard = applied.blocking_recv();
                let verdicts = heard.map_err(|_gone| self.shared.busy("stopping"))?;
                self.receipt.take(verdicts, waiting.named_max);
            }
            let now = self.shared.parts.clock.monotonic();
            self.shared.parts.metrics.ingest_ack_duration.record(now.saturating_sub(self.started));
        }
        self.shared.tally.of(self.protocol).accepted(self.receipt.accepted);
        Ok(self.receipt)
    }
}
