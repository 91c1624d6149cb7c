//! `POST /api/v1/rejects/resubmit`: rejections sent again, as they are or mended.
//!
//! ```text
//! {"ids":["42-57"],                        these; or:
//!  "filter":{"reason":"version_conflict"}, the open ones that a list with these parts would show, oldest first
//!  "set":{"version":"next"},               what is set in each; see `mend`
//!  "line":"weather,site=a t=1 ..",         instead of the text or record, of the one id; or:
//!  "json":{"measurement":"weather",..},    the same as JSON
//!  "format":"line", "precision":"ns",      how texts are read, else as their requests said: [`super::text`]
//!  "again":true,                           those ids too that were taken before
//!  "dry_run":true}                         say what would become of them, and write nothing
//! ```
//!
//! ```text
//! {"stored":1,"refused":0,"already":0,"unknown":0,"not_sent":0,
//!  "results":[{"id":"42-57","outcome":"stored",..}],"next":null}
//! ```
//!
//! | outcome | is |
//! |---|---|
//! | `stored` | the engine has it; the rejection is marked, and no longer open |
//! | `refused` | it is still wrong, for `reason` and `message`; the rejection stays open, tells of this refusal, and there is no second one |
//! | `would_be_stored`, `would_be_refused` | the same of a dry run, held against what stands now: [`super::foresee`] |
//! | `resubmitted` | it was taken before, mended in the same way: it is done, and nothing was sent |
//! | `taken_otherwise` | it was taken before, mended in another way: nothing was sent, and what is asked for is not done; `"again":true` sends it |
//! | `under_way` | another request is sending it just now; nothing was sent |
//! | `not_found` | there is none, or the caller may not read its database |
//! | `forbidden` | the caller may not write to its database |
//! | `unknown` | it was not sent, as `message` says then, or the log or the engine did not answer: it stays open, and sent again as it is it changes nothing. Of a dry run: nobody can tell what the engine would say |
//!
//! Records are written at the durability `applied`, so that the engine's answer is known. Between that and the
//! mark a crash may come, or a stop for which `server.drain_timeout` is too short, or the sink may be away: the
//! rejection is then open although its record is stored. Sent again, the same record with the same version changes
//! nothing, and the mark is made. With `version=next` that is so only while nobody else has written there: what was
//! written in between would be replaced, so look first.
//!
//! Who breaks the connection, or waits for longer than `server.request_timeout`, does not hear the answer: what is in
//! the log is executed and marked all the same, what is not begun by then is not sent.
//!
//! What fails for some after others were sent is told of each: they are `unknown`.
//!
//! With `version=next` the version is looked up before the record is written: one above the one that stands, or that
//! one itself where the same values stand already. Who writes in between is met as a refusal; the same request again
//! looks again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio::sync::oneshot;
use tracing::error;

use super::choose::{Choice, Chosen, choose};
use super::foresee::{Asked, Foreseen, foresee};
use super::mend::{Mender, Set, Versions};
use super::outcome::{Outcome, Outcomes, refused, shown, tell, tell_unsent};
use super::text::{Given, Text};
use super::{RESUBMIT, correction};
use crate::api::App;
use crate::api::call::{Body, Caller};
use crate::api::fault::{Fault, Kind};
use crate::api::reply::Reply;
use crate::api::write::decode_for;
use crate::base::lsn::Lsn;
use crate::ingest::{Ask, IngestError, Receipt};
use crate::record::RecordSink;
use crate::record::limits::REFUSALS_NAMED_MAX;
use crate::reject::archive::Rejected;
use crate::reject::entry::{Id, Moment};
use crate::reject::mark::{Correction, Ended, Resubmitted, WhyAgain};
use crate::reject::select::LIMIT_MAX;

/// Bytes of rejections, about, that are sent together: they become one frame.
const SENT_BYTES_MAX: usize = 4 << 20;

/// How long writes that were acknowledged before may take to be executed, so that what stands can be told.
const SETTLED_MAX: Duration = Duration::from_secs(5);

/// Most bytes that are set in all rejections of a request together.
const SET_BYTES_MAX: usize = 64 << 20;

/// What is told of a rejection that was sent and could not be marked.
const UNMARKED: &str = "it is not marked, and stays open as it was; sent again as it is it changes nothing, but with \
                        version=next look first at what stands";

/// What is told beside it where it was refused once more.
const UNMARKED_REFUSAL: &str = "; this refusal is listed as a rejection of its own";

/// How many rejections, and about how many bytes of them, are dealt with together.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    count: usize,
    bytes: usize,
}

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) ids: Option<Vec<String>>,
    pub(super) filter: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    pub(super) set: BTreeMap<String, Json>,
    pub(super) line: Option<String>,
    pub(super) json: Option<Box<RawValue>>,
    pub(super) precision: Option<String>,
    pub(super) format: Option<String>,
    #[serde(default)]
    pub(super) dry_run: bool,
    /// Those too that were taken before.
    #[serde(default)]
    pub(super) again: bool,
}

/// How it is done.
struct Work<'w> {
    caller: &'w Caller,
    set: Set,
    given: Given,
    correction: Correction,
    is_dry: bool,
    /// Closed once nobody waits for the answer.
    asker: &'w oneshot::Sender<()>,
}

/// Answers a request. Who stops waiting for the answer ends nothing that is under way: what is in the log gets its
/// mark, and is held until then. What is not begun by then is not sent.
///
/// # Errors
///
/// [`Fault`] 400 for a request that is not understood, or sets too much in too many; 503 while the sink is away;
/// 500 where our work ends early. Nothing was sent then, except at 500, where it is unknown.
pub async fn answer(app: Arc<App>, caller: Arc<Caller>, body: Body) -> Result<Reply, Fault> {
    let request: Request = serde_json::from_slice(&body.bytes).map_err(|error| {
        let right = "send {\"ids\":[..]} or {\"filter\":{..}}, with set, line, dry_run as needed";
        Fault::invalid(format!("{RESUBMIT}: {error}; {right}"))
    })?;
    // The other end is dropped with this future, which tells the task.
    let (asker, _waits) = oneshot::channel::<()>();
    if request.dry_run {
        // Nobody misses anything of it.
        return run(&app, &caller, (request, &asker)).await;
    }
    let task = tokio::spawn(async move {
        // What the request was read from counts for the memory that it takes itself.
        let _memory = body.admission;
        run(&app, &caller, (request, &asker)).await
    });
    task.await.unwrap_or_else(|ended| {
        let message = format!("the resubmission ended early: {ended}; look at what stands");
        Err(Fault::new(Kind::Internal, message))
    })
}

/// Does what is asked, as long as the asker waits.
async fn run(
    app: &App,
    caller: &Caller,
    (request, asker): (Request, &oneshot::Sender<()>),
) -> Result<Reply, Fault> {
    if request.again && request.filter.is_some() {
        return Err(Fault::invalid("again is for ids: a filter finds what is open"));
    }
    let correction = correction::of(&request);
    let set = Set::parse(&request.set).map_err(Fault::invalid)?;
    let choice = choose(app, caller, (&request, &correction)).await?;
    let Choice { mut outcomes, mut chosen, next, untold, _hold } = choice;
    let given = Given::new(request.line, request.json, (request.format, request.precision))?;
    let work = Work { caller, set, given, correction, is_dry: request.dry_run, asker };
    if work.given.has_text() && outcomes.len() > 1 {
        return Err(Fault::invalid("line or json stands for one rejection: name one id"));
    }
    work.check_bytes(chosen.len())?;
    let mut bounds = if work.is_dry { Bounds::DRY } else { Bounds::FRAME };
    // The body, and what others send, take from that memory as well.
    bounds.bytes = bounds.bytes.min(app.ingest.options().memory_bytes_max.as_usize() / 4);
    let mut is_first = true;
    while !chosen.is_empty() && !asker.is_closed() {
        let rest = bounds.split(&mut chosen, |one| work.given.bytes(one, &work.set));
        match work.send(app, chosen, &mut outcomes).await {
            Err(fault) if is_first => return Err(fault),
            // What was done before is told all the same.
            Err(fault) => {
                if fault.status() == StatusCode::INTERNAL_SERVER_ERROR {
                    error!(fault = fault.message, "a resubmission ended early");
                }
                tell_unsent(&mut outcomes, &fault.message);
                break;
            }
            Ok(()) => {}
        }
        (chosen, is_first) = (rest, false);
    }
    tell_unsent(&mut outcomes, "who asked has gone");
    Ok(Reply::json(StatusCode::OK, &shown(&outcomes, next.as_deref(), untold)))
}

impl Bounds {
    /// As many as a receipt names, and not too many bytes for a frame.
    const FRAME: Self = Self { count: REFUSALS_NAMED_MAX, bytes: SENT_BYTES_MAX };

    /// What a dry run holds against each other: all of a request, unless it is too large for the memory.
    const DRY: Self = Self { count: LIMIT_MAX, bytes: 8 * SENT_BYTES_MAX };

    /// Splits off what is beyond, but never the first.
    fn split(self, chosen: &mut Chosen, bytes_of: impl Fn(&Rejected) -> usize) -> Chosen {
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

/// What is ready to be sent, or is not: texts by number, and what would become of them.
struct Ready {
    chosen: Chosen,
    texts: BTreeMap<u64, Text>,
    foreseen: BTreeMap<u64, Foreseen>,
}

impl Work<'_> {
    /// Checks that what is set in each is not too much for all: it stands in each text, and in what a dry run shows.
    fn check_bytes(&self, count: usize) -> Result<(), Fault> {
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
    async fn send(&self, app: &App, chosen: Chosen, outcomes: &mut Outcomes) -> Result<(), Fault> {
        // Before their texts are made.
        let reserved = chosen.values().map(|one| self.given.bytes(one, &self.set)).sum();
        let _memory = app.ingest.admit(reserved).await?;
        let mut said = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for (number, one) in &chosen {
            match self.given.text(one, &self.set, app.mapping.version_field.as_deref()) {
                Ok(text) => drop(texts.insert(*number, text)),
                Err(why) => drop(said.insert(*number, Outcome::refused(&why))),
            }
        }
        let bytes: usize = texts.values().map(|text| text.bytes.len()).sum();
        let received_ns = app.ingest.received_ns();
        let Ready { chosen, texts, mut foreseen } =
            self.foreseen(app, received_ns, (chosen, texts)).await?;
        if self.is_dry {
            let refused = said.into_iter().map(|(number, outcome)| (number, outcome.would_be()));
            let foreseen = foreseen.into_iter().map(|(number, one)| (number, one.told()));
            tell(outcomes, foreseen.chain(refused).collect());
            return Ok(());
        }
        if self.asker.is_closed() {
            return Ok(());
        }
        // What would be refused before the log is not sent: the log would keep it as one rejection more.
        foreseen.retain(|number, one| {
            let unsent = one.unsent();
            unsent.map(|outcome| said.insert(*number, outcome)).is_none()
        });
        if let Some(first) = foreseen.keys().next().map(|number| &chosen[number]) {
            let ask = Ask::of_rejections(&first.database, received_ns, bytes);
            let versions = versions(app);
            let show = |sink: &mut dyn RecordSink| {
                for (number, one) in &foreseen {
                    let (rejected, text) = (&chosen[number], &texts[number]);
                    let mender = Mender::new(sink, (&text.set, versions), (rejected, *number));
                    let from = (&text.plan(rejected), &app.mapping, rejected.entry.received.0);
                    decode_for(from, &text.bytes, self.caller, &mut mender.with(&one.versions));
                }
            };
            let sent: BTreeSet<u64> = foreseen.keys().copied().collect();
            match app.ingest.accept_again(&ask, show).await {
                Ok(receipt) => self.taken(app, (&chosen, &sent), &receipt, &mut said).await,
                Err(error) => unheard(&sent, &error, &mut said),
            }
        }
        tell(outcomes, said);
        Ok(())
    }

    /// Finds out what would become of them, on a thread that may wait for the engine.
    async fn foreseen(
        &self,
        app: &App,
        received_ns: i64,
        (chosen, texts): (Chosen, BTreeMap<u64, Text>),
    ) -> Result<Ready, Fault> {
        let asked = Asked {
            engine: Arc::clone(&app.engine),
            ingest: app.ingest.clone(),
            mapping: app.mapping.clone(),
            caller: self.caller.clone(),
            versions: versions(app),
            received_ns,
            is_settled: app.ingest.settled(SETTLED_MAX).await,
        };
        let look = move || {
            let foreseen = foresee(&asked, &chosen, &texts);
            Ready { chosen, texts, foreseen }
        };
        app.rejects.look(look).await
    }

    /// Marks what the engine has taken, and what it has refused once more.
    async fn taken(
        &self,
        app: &App,
        (chosen, sent): (&Chosen, &BTreeSet<u64>),
        receipt: &Receipt,
        said: &mut BTreeMap<u64, Outcome>,
    ) {
        let mut again = refused(receipt);
        // A text of several records may have more refusals than are named: what is not named is not known.
        let is_named = receipt.refused == receipt.named.len() as u64;
        let stored: BTreeSet<u64> =
            sent.iter().filter(|number| is_named && !again.contains_key(number)).copied().collect();
        let lsn = receipt.lsn.unwrap_or(Lsn::ZERO);
        let ended = Ended {
            stored: stored.iter().map(|number| chosen[number].entry.id).collect(),
            refused: refused_of(chosen, receipt),
            again: receipt.refused > 0,
        };
        let resubmitted = Resubmitted {
            lsn,
            at: Moment(app.clock.wall_ns()),
            by: self.caller.name.clone(),
            correction: Some(self.correction.clone()),
        };
        let marked = app.rejects.mark(resubmitted, ended).await;
        for number in sent {
            let outcome = if stored.contains(number) {
                let more = json!({ "resubmitted_lsn": lsn, "message": null });
                Outcome { name: "stored", more }
            } else {
                let unnamed = || Outcome::why("unknown", "more was refused than is named");
                again.remove(number).unwrap_or_else(unnamed)
            };
            let outcome = match &marked {
                Ok(()) => outcome,
                Err(fault) => {
                    let own = if stored.contains(number) { "" } else { UNMARKED_REFUSAL };
                    outcome.and(&format!("{UNMARKED}{own}: {}", fault.message))
                }
            };
            said.insert(*number, outcome);
        }
    }
}

/// What the engine refused, by the rejections that were sent; of each the first.
fn refused_of(chosen: &Chosen, receipt: &Receipt) -> BTreeMap<Id, WhyAgain> {
    let mut all = BTreeMap::new();
    for refusal in &receipt.named {
        let Some(one) = chosen.get(&refusal.number) else { continue };
        let (reason, message) = (refusal.reason, refusal.message.clone());
        let existing_version = refusal.existing_version;
        all.entry(one.entry.id).or_insert(WhyAgain { reason, message, existing_version });
    }
    all
}

/// Where the version of a record comes from that names none.
fn versions(app: &App) -> Versions {
    if app.ingest.options().version == "arrival" { Versions::Arrival } else { Versions::Settings }
}

fn unheard(sent: &BTreeSet<u64>, error: &IngestError, said: &mut BTreeMap<u64, Outcome>) {
    for number in sent {
        said.insert(*number, Outcome::why("unknown", &error.to_string()));
    }
}
