//! Rejections of a request on their way: foreseen, sent frame by frame, and told of.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::choose::{Chosen, Hold};
use super::foresee::{Asked, Foreseen, foresee};
use super::frame::Frame;
use super::mend::{Mender, Set, Versions};
use super::outcome::{Outcome, Outcomes, tell};
use super::patience::{Patience, not_serving};
use super::text::{Given, Text};
use crate::api::App;
use crate::api::call::Caller;
use crate::api::fault::Fault;
use crate::api::write::decode_for;
use crate::base::lsn::Lsn;
use crate::ingest::{Ask, IngestError, UnderWay};
use crate::record::RecordSink;
use crate::record::limits::REFUSALS_NAMED_MAX;
use crate::reject::archive::Rejected;
use crate::reject::mark::Correction;
use crate::reject::select::LIMIT_MAX;

/// Bytes of rejections, about, that are sent together: they become one frame.
const SENT_BYTES_MAX: usize = 4 << 20;

/// Most bytes that are set in all rejections of a request together.
const SET_BYTES_MAX: usize = 64 << 20;

/// How many rejections, and about how many bytes of them, are dealt with together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    count: usize,
    pub(super) bytes: usize,
}

impl Bounds {
    /// As many as a receipt names, and not too many bytes for a frame.
    pub(super) const FRAME: Self = Self { count: REFUSALS_NAMED_MAX, bytes: SENT_BYTES_MAX };

    /// What a dry run holds against each other: all of a request, unless it is too large for the memory.
    pub(super) const DRY: Self = Self { count: LIMIT_MAX, bytes: 8 * SENT_BYTES_MAX };

    /// Splits off what is beyond, but never the first.
    pub(super) fn split(
        self,
        chosen: &mut Chosen,
        bytes_of: impl Fn(&Rejected) -> usize,
    ) -> Chosen {
        let (mut bytes, mut first_beyond) = (0, None);
        for (count, (number, one)) in chosen.iter().enumerate() {
            bytes += bytes_of(one);
            if count == self.count || count > 0 && bytes > self.bytes {
                first_beyond = Some(*number);
                break;
            }
        }
        first_beyond.map(|number| chosen.split_off(&number)).unwrap_or_default()
    }
}

/// How a request is done.
pub(super) struct Work<'w> {
    pub(super) app: &'w Arc<App>,
    pub(super) caller: &'w Caller,
    pub(super) set: Set,
    pub(super) given: Given,
    pub(super) correction: Correction,
    pub(super) is_dry: bool,
    /// Closed once nobody waits for the answer.
    pub(super) asker: &'w oneshot::Sender<()>,
    pub(super) patience: Patience,
    /// The rejections that nobody else sends meanwhile; a dry run holds none.
    pub(super) hold: Option<Hold>,
}

/// What is ready to be sent, or is not: texts by number, and what would become of them.
struct Ready {
    chosen: Chosen,
    texts: BTreeMap<u64, Text>,
    foreseen: BTreeMap<u64, Foreseen>,
    /// Why the engine cannot be asked just now.
    away: Option<String>,
}

/// Whether what is left of a request is sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// It is.
    GoOn,
    /// It is not, and for what reason.
    Stop(String),
}

impl Work<'_> {
    /// Checks that what is set in each is not too much for all: it stands in each text, and in what a dry run shows.
    pub(super) fn check_bytes(&self, count: usize) -> Result<(), Fault> {
        let bytes = self.set.bytes();
        if bytes.saturating_mul(count) <= SET_BYTES_MAX {
            return Ok(());
        }
        Err(Fault::invalid(format!(
            "set: {bytes} bytes in each of {count} rejections; all of them may take {SET_BYTES_MAX}, so name fewer \
             rejections a request (limit of a filter), or set less; nothing was sent"
        )))
    }

    /// Sends some, within [`Bounds`], and says what became of each.
    ///
    /// # Errors
    ///
    /// [`Fault`] 503 where there is no memory for them, 500 where the look ahead ends early; nothing of these was
    /// sent.
    pub(super) async fn send(
        &mut self,
        chosen: Chosen,
        outcomes: &mut Outcomes,
    ) -> Result<Then, Fault> {
        // Before their texts are made.
        let reserved = chosen.values().map(|one| self.given.bytes(one, &self.set)).sum();
        let _memory = self.app.ingest.admit(reserved).await?;
        let mut said = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for (number, one) in &chosen {
            match self.given.text(one, &self.set, self.app.mapping.version_field.as_deref()) {
                Ok(text) => drop(texts.insert(*number, text)),
                Err(why) => drop(said.insert(*number, Outcome::refused(&why))),
            }
        }
        let received_ns = self.app.ingest.received_ns();
        let Some(ready) = self.foreseen(received_ns, (chosen, texts)).await? else {
            // Nobody has looked at any of them: they are told of with the others.
            return Ok(Then::Stop(self.patience.over()));
        };
        let then = self.carry_out(ready, received_ns, &mut said).await;
        tell(outcomes, said);
        Ok(then)
    }

    /// Sends what is foreseen to be taken; a dry run says what is foreseen.
    async fn carry_out(
        &mut self,
        ready: Ready,
        received_ns: i64,
        said: &mut BTreeMap<u64, Outcome>,
    ) -> Then {
        let Ready { chosen, texts, mut foreseen, away } = ready;
        let stop = away.map_or(Then::GoOn, |what| Then::Stop(not_serving(&what)));
        if self.is_dry {
            let refused = std::mem::take(said).into_iter();
            said.extend(refused.map(|(number, outcome)| (number, outcome.would_be())));
            said.extend(foreseen.into_iter().map(|(number, one)| (number, one.told())));
            return stop;
        }
        if self.asker.is_closed() {
            return Then::Stop("who asked has gone".to_owned());
        }
        // What would be refused before the log is not sent: the log would keep it as one rejection more.
        foreseen.retain(|number, one| {
            let unsent = one.unsent();
            unsent.map(|outcome| said.insert(*number, outcome)).is_none()
        });
        let Some(first) = foreseen.keys().next().map(|number| &chosen[number]) else { return stop };
        let bytes: usize = texts.values().map(|text| text.bytes.len()).sum();
        let ask = Ask::of_rejections(&first.database, received_ns, bytes);
        let (versions, frame) = (self.versions(), self.frame(&chosen, &foreseen));
        let show = |sink: &mut dyn RecordSink| {
            for (number, one) in &foreseen {
                let (rejected, text) = (&chosen[number], &texts[number]);
                let mender = Mender::new(sink, (&text.set, versions), (rejected, *number));
                let from = (&text.plan(rejected), &self.app.mapping, rejected.entry.received.0);
                decode_for(from, &text.bytes, self.caller, &mut mender.with(&one.versions));
            }
        };
        match self.app.ingest.accept_again(&ask, show).await {
            Ok(under_way) => self.hear(under_way, frame, said).await,
            Err(error) => {
                said.extend(unheard(&frame, &error));
                stop
            }
        }
    }

    fn frame(&self, chosen: &Chosen, foreseen: &BTreeMap<u64, Foreseen>) -> Frame {
        Frame {
            ids: foreseen.keys().map(|number| (*number, chosen[number].entry.id)).collect(),
            by: self.caller.name.clone(),
            correction: self.correction.clone(),
            keys: foreseen
                .iter()
                .filter_map(|(number, one)| Some((*number, one.key.clone()?)))
                .collect(),
        }
    }

    /// Waits for what the engine says of a frame, as long as there is patience for it.
    async fn hear(
        &mut self,
        mut under_way: UnderWay,
        frame: Frame,
        said: &mut BTreeMap<u64, Outcome>,
    ) -> Then {
        let lsn = under_way.lsn().unwrap_or_default();
        let why = match self.patience.executed(&mut under_way, self.asker).await {
            Ok(None) => match under_way.executed().await {
                Ok(receipt) => {
                    said.extend(frame.close(self.app, &receipt).await);
                    return Then::GoOn;
                }
                Err(stopping) => return stops(&frame, lsn, (&stopping, said)),
            },
            Err(stopping) => return stops(&frame, lsn, (&stopping, said)),
            Ok(Some(why)) => why,
        };
        said.extend(frame.waits(lsn, &why));
        let hold = self.hold.as_mut();
        let hold = hold.map(|hold| hold.split_off(frame.ids.values().copied(), Some(lsn)));
        frame.close_later(self.app, (under_way, hold));
        Then::Stop(why)
    }

    /// Finds out what would become of them, on a thread that may wait for the engine; `None` where there is no
    /// patience left for its answer.
    async fn foreseen(
        &self,
        received_ns: i64,
        (chosen, texts): (Chosen, BTreeMap<u64, Text>),
    ) -> Result<Option<Ready>, Fault> {
        let app = self.app;
        let asked = Asked {
            engine: Arc::clone(&app.engine),
            ingest: app.ingest.clone(),
            catalog: Arc::clone(&app.catalog),
            mapping: app.mapping.clone(),
            caller: self.caller.clone(),
            versions: self.versions(),
            received_ns,
            is_settled: self.patience.settled(&app.ingest).await,
            is_dry: self.is_dry,
        };
        let look = move || {
            let (foreseen, away) = foresee(&asked, &chosen, &texts);
            Ready { chosen, texts, foreseen, away }
        };
        let look = app.rejects.look(look);
        tokio::time::timeout(self.patience.left(), look).await.ok().transpose()
    }

    /// Where the version of a record comes from that names none.
    fn versions(&self) -> Versions {
        let is_arrival = self.app.ingest.options().version == "arrival";
        if is_arrival { Versions::Arrival } else { Versions::Settings }
    }
}

/// Tells of a frame that the server does not execute any more before it stops.
fn stops(
    frame: &Frame,
    lsn: Lsn,
    (stopping, said): (&IngestError, &mut BTreeMap<u64, Outcome>),
) -> Then {
    let why = format!(
        "in the log as frame {lsn}, and the server stops: the next start executes it, and nobody marks it then; sent \
         again as it is it changes nothing, but with version=next look first at what stands"
    );
    let of = |number: &u64| (*number, Outcome::why("unknown", &why).in_frame(lsn));
    said.extend(frame.ids.keys().map(of));
    Then::Stop(stopping.to_string())
}

/// What is told of a frame that the log has not taken.
fn unheard(frame: &Frame, error: &IngestError) -> BTreeMap<u64, Outcome> {
    // Of all others nothing was taken.
    let is_open = matches!(error, IngestError::Poisoned { .. });
    let name = if is_open { "unknown" } else { "not_sent" };
    let told = |number: &u64| (*number, Outcome::why(name, &error.to_string()));
    frame.ids.keys().map(told).collect()
}
