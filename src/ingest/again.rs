//! The way in for rejections that are sent again: what would be refused of them is found out before, and all that
//! is refused of them is told.

use std::time::Duration;

use super::{Ask, Durability, Hearing, Ingest, IngestError, Partial, Protocol, Receipt, Trial};
use crate::record::RecordSink;

/// How often it is looked whether what is in the log is executed: about the time that a sync takes.
const SETTLED_LOOK: Duration = Duration::from_millis(5);

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

impl Ingest {
    /// Finds out, record by record, what would be refused of a request before it came into the log; writes
    /// nothing and makes no table. What the engine would say is not known here. Counts in no metric.
    pub fn trial<'e>(&'e self, ask: &'e Ask<'e>) -> Trial<'e> {
        Trial::new(&self.shared.parts.catalog, &self.shared.options, ask)
    }

    /// Waits until what is in the log now is executed, so that the engine can be asked what stands; not for
    /// ever: whether it is.
    pub async fn settled(&self, longest: Duration) -> bool {
        let (marks, appended) = (&self.shared.parts.marks, self.appended());
        // Looks, and registers nothing: a frame has one who waits, and that is the request whose it is.
        let executed = async {
            while marks.applied() < appended {
                tokio::time::sleep(SETTLED_LOOK).await;
            }
        };
        tokio::time::timeout(longest, executed).await.is_ok()
    }

    /// [`Self::accept`] for rejections that are sent again: all that the engine refuses is told, also what its table
    /// reports elsewhere, since what is not refused is closed.
    ///
    /// # Errors
    ///
    /// As [`Self::accept`].
    pub async fn accept_again<D>(&self, ask: &Ask<'_>, decode: D) -> Result<Receipt, IngestError>
    where
        D: Fn(&mut dyn RecordSink) + Send,
    {
        self.accept_heard(ask, Hearing::Everything, decode).await
    }
}
