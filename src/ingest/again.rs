//! The way in for rejections that are sent again: what would be refused of them is found out before, and all that
//! is refused of them is told, to whoever waits for as long as that takes.

use std::time::Duration;

use tokio::sync::oneshot;

use super::{
    Ask, Durability, Hearing, Ingest, IngestError, Partial, Protocol, Receipt, Trial, Waiting,
    committed, in_place,
};
use crate::base::lsn::Lsn;
use crate::record::RecordSink;
use crate::shard::marks::Verdicts;

/// How often it is looked whether what is in the log is executed: about the time that a sync takes.
const SETTLED_LOOK: Duration = Duration::from_millis(5);

/// How long [`UnderWay::executed`] waits at a time.
const WAIT: Duration = Duration::from_hours(1);

impl<'a> Ask<'a> {
    /// That of rejections that are sent again, the first of this database: what is refused of them before the
    /// log is told and not kept once more, and the engine's answer is waited for.
    pub const fn of_rejections(database: &'a str, received_ns: i64, body_bytes: usize) -> Self {
        Self {
            protocol: Protocol::Json,
            database,
            reading: None,
            received_ns,
            body_bytes,
            durability: Some(Durability::Applied),
            partial: Partial::Accept,
        }
    }
}

/// A request that is in the log, durably, and that the engine executes sooner or later: what it says then is for
/// whoever still has this.
#[derive(Debug)]
pub struct UnderWay {
    ingest: Ingest,
    receipt: Receipt,
    /// `None` where nothing of it is in the log, and once it is executed.
    applied: Option<oneshot::Receiver<Verdicts>>,
    named_max: usize,
    /// When its request began.
    started: Duration,
}

impl UnderWay {
    /// Its frame; `None` where there was nothing to store.
    pub const fn lsn(&self) -> Option<Lsn> {
        self.receipt.lsn
    }

    /// Waits until it is executed, `longest` at most: whether it is.
    ///
    /// # Errors
    ///
    /// [`IngestError::Busy`] when the server stops before: the next start executes it, and nobody hears of it.
    pub async fn is_executed(&mut self, longest: Duration) -> Result<bool, IngestError> {
        let Some(applied) = &mut self.applied else { return Ok(true) };
        let Ok(heard) = tokio::time::timeout(longest, applied).await else { return Ok(false) };
        self.applied = None;
        let shared = &self.ingest.shared;
        let verdicts = heard.map_err(|_gone| shared.busy("stopping"))?;
        self.receipt.take(verdicts, self.named_max);
        let took = shared.parts.clock.monotonic().saturating_sub(self.started);
        shared.parts.metrics.ingest_ack_duration.record(took);
        shared.tally.of(Protocol::Json).accepted(self.receipt.accepted);
        Ok(true)
    }

    /// Waits until it is executed, and says what was done with it.
    ///
    /// # Errors
    ///
    /// As of [`Self::is_executed`].
    pub async fn executed(mut self) -> Result<Receipt, IngestError> {
        while !self.is_executed(WAIT).await? {}
        Ok(self.receipt)
    }
}

impl Ingest {
    /// Finds out, record by record, what would be refused of a request before it came into the log; writes
    /// nothing and makes no table. What the engine would say is not known here. Counts in no metric.
    pub fn trial<'e>(&'e self, ask: &'e Ask<'e>) -> Trial<'e> {
        Trial::new(&self.shared.parts.catalog, &self.shared.options, ask)
    }

    /// The last frame up to which the engine has executed all.
    pub fn applied(&self) -> Lsn {
        self.shared.parts.marks.applied()
    }

    /// Waits until the log is executed up to this frame, `longest` at most: whether it is.
    pub async fn settled(&self, upto: Lsn, longest: Duration) -> bool {
        // Looks, and registers nothing: a frame has one who waits, and that is the request whose it is.
        let executed = async {
            while self.applied() < upto {
                tokio::time::sleep(SETTLED_LOOK).await;
            }
        };
        tokio::time::timeout(longest, executed).await.is_ok()
    }

    /// [`Self::accept`] for rejections that are sent again, as far as into the log: all that the engine refuses is
    /// told then, also what its table reports elsewhere, since what is not refused is closed.
    ///
    /// # Errors
    ///
    /// As [`Self::accept`].
    pub async fn accept_again<D>(&self, ask: &Ask<'_>, decode: D) -> Result<UnderWay, IngestError>
    where
        D: Fn(&mut dyn RecordSink) + Send,
    {
        assert!(ask.durability == Some(Durability::Applied), "its execution is waited for");
        let shared = &self.shared;
        let started = shared.parts.clock.monotonic();
        let waits = (Durability::Applied, Hearing::Everything);
        let encode = || shared.encode_counted(ask, waits, started, decode);
        let (mut receipt, waiting) = in_place(ask.body_bytes, encode)?;
        let under_way = |receipt, (applied, named_max)| UnderWay {
            ingest: self.clone(),
            receipt,
            applied,
            named_max,
            started,
        };
        let Some(Waiting { committed: heard, named_max, applied }) = waiting else {
            return Ok(under_way(receipt, (None, 0)));
        };
        receipt.lsn = Some(committed(heard.await.ok())?);
        Ok(under_way(receipt, (applied, named_max)))
    }
}
