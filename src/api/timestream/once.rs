//! What changes something is executed once for a call that an SDK repeats, and every repetition hears the
//! first answer: of a second `CreateTable` it would be told that there is such a table, of a second
//! `DeleteTable` that there is none, and take its own success for a failure.
//!
//! A repetition has the invocation id, the operation and the body of the first. Whoever calls may name a
//! call by an `Idempotency-Key` instead, which goes first, and holds for a day and for other SDKs' tries; the
//! same key with another operation or body is refused. How long answers are kept, and how many:
//! [`crate::api::answers`].

use std::sync::Arc;

use bytes::Bytes;
use hyper::header::HeaderValue;

use super::exception::{Code, Exception, ok_with_text};
use super::write::{self, Written};
use super::{Operation, Request, catalog};
use crate::api::App;
use crate::api::answers::{Answer, Begin, Call};
use crate::api::keyed::IDEMPOTENT_REPLAYED;
use crate::api::reply::Reply;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Of `WriteRecords`.
    Written(Written),
    /// Of any other operation: the body of its answer.
    Done(Bytes),
}

impl Outcome {
    /// # Errors
    ///
    /// [`Exception`] 419 where records were refused; the others are stored all the same.
    fn reply(&self) -> Result<Reply, Exception> {
        match self {
            Self::Written(written) => written.reply(),
            Self::Done(body) => Ok(ok_with_text(body)),
        }
    }
}

impl Answer for Outcome {
    fn bytes(&self) -> usize {
        match self {
            Self::Written(written) => written.bytes(),
            Self::Done(body) => body.len(),
        }
    }
}

/// Executes a request, or finds the answer that it has got before.
///
/// # Errors
///
/// [`Exception`]: nothing was taken, except after 429 and 500, where it is unknown.
pub(super) async fn run(app: &Arc<App>, request: Request) -> Result<Reply, Exception> {
    let key = request.key.as_ref().map_err(|fault| Exception::invalid(fault.message.as_str()))?;
    let (answers, call) = match (keyed(app, &request, key.as_deref()), repeatable(app, &request)) {
        (Some(call), _) => (&app.keyed_changes, call),
        (None, Some(call)) => (&app.answers, call),
        (None, None) => return execute(app, request).await?.reply(),
    };
    match answers.begin(call) {
        Begin::Other => {
            let message = "The Idempotency-Key was sent before with another operation or body: repeat \
                           that request, or take a new key";
            Err(Exception::invalid(message))
        }
        Begin::Answered(outcome) => {
            app.metrics.repeated_writes.inc();
            Ok(repeated(&outcome))
        }
        Begin::Running(mut running) => {
            app.metrics.repeated_writes.inc();
            let heard =
                running.wait_for(Option::is_some).await.ok().and_then(|heard| heard.clone());
            Ok(repeated(&*heard.ok_or_else(not_heard)?))
        }
        Begin::First(ticket) => {
            let app = Arc::clone(app);
            // A task of its own: it goes on when the connection breaks, so that a repetition finds it.
            let task = tokio::spawn(async move {
                let outcome = Arc::new(execute(&app, request).await?);
                ticket.answered(&outcome);
                Ok(outcome)
            });
            let outcome: Result<Arc<Outcome>, Exception> = task.await.unwrap_or_else(|ended| {
                let message = format!("the operation ended early: {ended}");
                Err(Exception::new(Code::InternalServer, message))
            });
            outcome?.reply()
        }
    }
}

/// The first answer, marked as such.
fn repeated(outcome: &Outcome) -> Reply {
    let reply = outcome.reply().unwrap_or_else(|exception| exception.reply());
    reply.with(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))
}

/// What repetitions of a request with a key are known by; `None` for what changes nothing.
fn keyed(app: &App, request: &Request, key: Option<&str>) -> Option<Call> {
    let key = key.filter(|_| request.operation.is_change())?;
    let operation = request.operation.name().as_bytes();
    Some(Call {
        id: app.keyed_changes.digest(&[request.caller.name.as_bytes(), key.as_bytes()]),
        content: app.keyed_changes.digest(&[
            operation,
            request.region.as_bytes(),
            &request.body.bytes,
        ]),
    })
}

/// What repetitions of a request are known by; `None` for what changes nothing, or names no call.
fn repeatable(app: &App, request: &Request) -> Option<Call> {
    let invocation = request.invocation.as_ref().filter(|_| request.operation.is_change())?;
    // With the body: what says something else is another call, whatever its id.
    let id = app.answers.digest(&[
        request.caller.name.as_bytes(),
        invocation.as_bytes(),
        request.operation.name().as_bytes(),
        request.region.as_bytes(),
        &request.body.bytes,
    ]);
    Some(Call { id, content: id })
}

/// The call that this one repeats ended in an error, which may pass.
fn not_heard() -> Exception {
    Exception::new(Code::Throttling, "the first of these requests failed: send it again")
}

async fn execute(app: &Arc<App>, request: Request) -> Result<Outcome, Exception> {
    if request.operation == Operation::WriteRecords {
        return write::execute(app, &request).await.map(Outcome::Written);
    }
    catalog(Arc::clone(app), request).await.map(Outcome::Done)
}
