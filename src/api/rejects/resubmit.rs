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
//! {"stored":1,"refused":0,"already":0,"under_way":0,"unknown":0,"not_sent":0,
//!  "results":[{"id":"42-57","outcome":"stored",..}],"next":null,
//!  "stopped":"the engine does not serve: .."}
//! ```
//!
//! | outcome | is |
//! |---|---|
//! | `stored` | the engine has it; the rejection is marked, and no longer open |
//! | `refused` | it is still wrong, for `reason` and `message`; the rejection stays open, tells of this refusal, and there is no second one |
//! | `would_be_stored`, `would_be_refused` | the same of a dry run, held against what stands now: [`super::foresee`] |
//! | `resubmitted` | it was taken before, mended in the same way: it is done, and nothing was sent |
//! | `taken_otherwise` | it was taken before, mended in another way: nothing was sent, and what is asked for is not done; `"again":true` sends it |
//! | `under_way` | it is in the log, as frame `resubmitted_lsn`, and not executed, by this request or an earlier one; or another request is sending it just now. It is marked once the engine has executed it |
//! | `not_sent` | nothing of it was sent, as `message` says; it stays open |
//! | `not_found` | there is none, or the caller may not read its database |
//! | `forbidden` | the caller may not write to its database |
//! | `unknown` | the log failed, or the server stops: it stays open, and sent again as it is it changes nothing. Of a dry run: nobody can tell what the engine would say |
//!
//! Records are written at the durability `applied`, so that the engine's answer is known. Between that and the
//! mark a crash may come, or a stop for which `server.drain_timeout` is too short, or the sink may be away: the
//! rejection is then open although its record is stored. Sent again, the same record with the same version changes
//! nothing, and the mark is made. With `version=next` that is so only while nobody else has written there: what was
//! written in between would be replaced, so look first.
//!
//! # While the engine is away
//!
//! What is in the log by then is told as `under_way` as soon as the engine has said for a few seconds that it does
//! not serve, or three quarters of `server.request_timeout` are over ([`super::patience`]); it is held until it is
//! executed and marked, though nobody waits for the answer any more. Nothing behind it is sent, and `stopped` says
//! why: nothing can be held against what stands, and a longer log helps nobody. With `version=next` nothing is sent
//! at all.
//!
//! Who breaks the connection does not hear the answer: what is in the log is executed and marked all the same, what
//! is not begun by then is not sent. What fails for some after others were sent is told of each.
//!
//! With `version=next` the version is looked up before the record is written: one above the one that stands, or that
//! one itself where the same values stand already. Who writes in between is met as a refusal; the same request again
//! looks again.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tracing::error;

use super::choose::{Choice, choose};
use super::members::Members;
use super::mend::Set;
use super::outcome::{Ending, shown, tell_unsent};
use super::patience::Patience;
use super::text::Given;
use super::work::{Bounds, Then, Work};
use super::{RESUBMIT, asked, correction};
use crate::api::App;
use crate::api::call::{Body, Call, Caller};
use crate::api::fault::{Fault, Kind};
use crate::api::reply::Reply;

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) ids: Option<Vec<String>>,
    pub(super) filter: Option<Members>,
    #[serde(default)]
    pub(super) set: Members,
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

/// Checks the head of a request: all that it asks stands in its body.
///
/// # Errors
///
/// [`Fault`] 400 for a parameter: one such as `dry_run` that was passed over would be taken for granted.
pub fn plan(call: &Call<'_>) -> Result<(), Fault> {
    match asked::first_parameter(&call.params) {
        None => Ok(()),
        Some(name) => Err(Fault::invalid(format!(
            "there is no parameter {name:?} of {RESUBMIT}: all that it takes stands in its body, which is JSON; \
             nothing was sent"
        ))),
    }
}

/// Answers a request within `longest`. Who stops waiting for the answer ends nothing that is under way: what is in
/// the log gets its mark, and is held until then. What is not begun by then is not sent.
///
/// # Errors
///
/// [`Fault`] 400 for a request that is not understood, or sets too much in too many; 503 while the sink is away;
/// 500 where our work ends early. Nothing was sent then, except at 500, where it is unknown.
pub async fn answer(
    app: Arc<App>,
    caller: Arc<Caller>,
    body: Body,
    longest: Duration,
) -> Result<Reply, Fault> {
    let request: Request = serde_json::from_slice(&body.bytes).map_err(|error| {
        let right = "send {\"ids\":[..]} or {\"filter\":{..}}, with set, line, dry_run as needed";
        Fault::invalid(format!("{RESUBMIT}: {error}; {right}"))
    })?;
    let patience = Patience::new(&app, longest);
    // The other end is dropped with this future, which tells the task.
    let (asker, _waits) = oneshot::channel::<()>();
    if request.dry_run {
        // Nobody misses anything of it.
        return run(&app, &caller, (request, patience), &asker).await;
    }
    let task = tokio::spawn(async move {
        // What the request was read from counts for the memory that it takes itself.
        let _memory = body.admission;
        run(&app, &caller, (request, patience), &asker).await
    });
    task.await.unwrap_or_else(|ended| {
        let message = format!("the resubmission ended early: {ended}; look at what stands");
        Err(Fault::new(Kind::Internal, message))
    })
}

/// Does what is asked, as long as the asker waits.
async fn run(
    app: &Arc<App>,
    caller: &Caller,
    (request, patience): (Request, Patience),
    asker: &oneshot::Sender<()>,
) -> Result<Reply, Fault> {
    if request.again && request.filter.is_some() {
        return Err(Fault::invalid("again is for ids: a filter finds what is open"));
    }
    let correction = correction::of(&request);
    let set = Set::parse(&request.set).map_err(Fault::invalid)?;
    let choice = choose(app, caller, (&request, &correction)).await?;
    let Choice { mut outcomes, mut chosen, next, untold, hold, memory: _memory } = choice;
    let given = Given::new(request.line, request.json, (request.format, request.precision))?;
    let is_dry = request.dry_run;
    let mut work = Work { app, caller, set, given, correction, is_dry, asker, patience, hold };
    if work.given.has_text() && outcomes.len() > 1 {
        return Err(Fault::invalid("line or json stands for one rejection: name one id"));
    }
    work.check_bytes(chosen.len())?;
    let mut bounds = if is_dry { Bounds::DRY } else { Bounds::FRAME };
    // The body, and what others send, take from that memory as well.
    bounds.bytes = bounds.bytes.min(app.ingest.options().memory_bytes_max.as_usize() / 4);
    let mut ending = Ending { next, untold, stopped: None };
    let mut is_first = true;
    while !chosen.is_empty() && !asker.is_closed() {
        let rest = bounds.split(&mut chosen, |one| work.given.bytes(one, &work.set));
        match work.send(chosen, &mut outcomes).await {
            Err(fault) if is_first => return Err(fault),
            // What was done before is told all the same.
            Err(fault) => {
                if fault.status() == StatusCode::INTERNAL_SERVER_ERROR {
                    error!(fault = fault.message, "a resubmission ended early");
                }
                tell_unsent(&mut outcomes, (is_dry, &fault.message));
                break;
            }
            Ok(Then::Stop(why)) => {
                tell_unsent(&mut outcomes, (is_dry, &why));
                ending.stopped = Some(why);
                break;
            }
            Ok(Then::GoOn) => {}
        }
        (chosen, is_first) = (rest, false);
    }
    tell_unsent(&mut outcomes, (is_dry, "who asked has gone"));
    Ok(Reply::json(StatusCode::OK, &shown(&outcomes, &ending)))
}
