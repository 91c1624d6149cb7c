//! A frame with rejections that were sent again: what became of them once the engine has executed it, and the marks
//! that say so, whether somebody still waits for the answer or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;
use tracing::warn;

use super::choose::Hold;
use super::outcome::{Outcome, refused};
use crate::api::App;
use crate::base::lsn::Lsn;
use crate::ingest::{Receipt, UnderWay};
use crate::reject::entry::{Id, Moment};
use crate::reject::mark::{Correction, Ended, Resubmitted, WhyAgain};

/// What is told of a rejection that was sent and could not be marked.
const UNMARKED: &str = "it is not marked, and stays open as it was; sent again as it is it changes nothing, but with \
                        version=next look first at what stands";

/// What is told beside it where it was refused once more.
const UNMARKED_REFUSAL: &str = "; this refusal is listed as a rejection of its own";

/// What a frame carries.
#[derive(Debug)]
pub(super) struct Frame {
    /// The rejections, by their numbers in the request.
    pub(super) ids: BTreeMap<u64, Id>,
    /// Who has sent them, as the server knows them.
    pub(super) by: String,
    /// How they were mended.
    pub(super) correction: Correction,
    /// The keys that records go to whose correction moves them, by their numbers.
    pub(super) keys: BTreeMap<u64, String>,
}

impl Frame {
    /// Marks what the engine has taken, and what it has refused once more; and tells it.
    pub(super) async fn close(&self, app: &App, receipt: &Receipt) -> BTreeMap<u64, Outcome> {
        let (mut again, stored) = (refused(receipt), self.stored(receipt));
        let lsn = receipt.lsn.unwrap_or(Lsn::ZERO);
        let marked = self.mark(app, &stored, receipt).await;
        let mut said = BTreeMap::new();
        for number in self.ids.keys() {
            let outcome = if stored.contains(number) {
                Outcome { name: "stored", more: json!({ "message": null }) }.in_frame(lsn)
            } else {
                let unnamed = || Outcome::why("unknown", "more was refused than is named");
                again.remove(number).unwrap_or_else(unnamed)
            };
            let outcome = match &marked {
                Ok(()) => outcome,
                Err(why) => {
                    let own = if stored.contains(number) { "" } else { UNMARKED_REFUSAL };
                    outcome.and(&format!("{UNMARKED}{own}: {why}"))
                }
            };
            said.insert(*number, outcome);
        }
        said
    }

    /// Those whose records the engine has.
    fn stored(&self, receipt: &Receipt) -> BTreeSet<u64> {
        // A text of several records may have more refusals than are named: what is not named is not known.
        if receipt.refused != receipt.named.len() as u64 {
            return BTreeSet::new();
        }
        let refused: BTreeSet<u64> = receipt.named.iter().map(|refusal| refusal.number).collect();
        self.ids.keys().filter(|number| !refused.contains(number)).copied().collect()
    }

    async fn mark(
        &self,
        app: &App,
        stored: &BTreeSet<u64>,
        receipt: &Receipt,
    ) -> Result<(), String> {
        let ended = Ended {
            stored: stored.iter().map(|number| self.ids[number]).collect(),
            refused: self.refused(receipt),
            again: receipt.refused > 0,
        };
        let resubmitted = Resubmitted {
            lsn: receipt.lsn.unwrap_or(Lsn::ZERO),
            at: Moment(app.clock.wall_ns()),
            by: self.by.clone(),
            correction: Some(self.correction.clone()),
        };
        app.rejects.mark(resubmitted, ended).await.map_err(|fault| fault.message)
    }

    /// What the engine refused, by the rejections that were sent; of each the first.
    fn refused(&self, receipt: &Receipt) -> BTreeMap<Id, WhyAgain> {
        let mut all = BTreeMap::new();
        for refusal in &receipt.named {
            let Some(id) = self.ids.get(&refusal.number) else { continue };
            all.entry(*id).or_insert_with(|| WhyAgain {
                reason: refusal.reason,
                message: refusal.message.clone(),
                existing_version: refusal.existing_version,
                key: self.keys.get(&refusal.number).cloned(),
            });
        }
        all
    }

    /// Tells each that it waits for the engine, in the log.
    pub(super) fn waits(&self, lsn: Lsn, why: &str) -> BTreeMap<u64, Outcome> {
        let of = |(number, id): (&u64, &Id)| {
            let message = format!(
                "in the log as frame {lsn}, and not executed yet: {why}. It is taken or refused once the engine \
                 executes it, and `tidegate rejects show {id}` tells then; until then nobody can send it again"
            );
            (*number, Outcome::why("under_way", &message).in_frame(lsn))
        };
        self.ids.iter().map(of).collect()
    }

    /// Closes it whenever the engine has executed it, as long as the server runs.
    pub(super) fn close_later(self, app: &Arc<App>, (under_way, hold): (UnderWay, Option<Hold>)) {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            // A server that stops leaves them open: the next start executes them, and nobody hears of it.
            if let Ok(receipt) = under_way.executed().await
                && let Err(why) = self.mark(&app, &self.stored(&receipt), &receipt).await
            {
                let lsn = receipt.lsn.unwrap_or_default().0;
                warn!(lsn, why, "rejections that were sent again are not marked, and stay open");
            }
            drop(hold);
        });
    }
}
