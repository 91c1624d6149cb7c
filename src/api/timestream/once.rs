//! What changes something is executed once for a call that an SDK repeats, and every repetition hears the
//! first answer: of a second `CreateTable` it would be told that there is such a table, of a second
//! `DeleteTable` that there is none, and take its own success for a failure.
//!
//! A repetition has the invocation id, the operation and the body of the first. How long answers are
//! kept, and how many: [`crate::api::answers`].

use std::sync::Arc;

use bytes::Bytes;

use super::exception::{Code, Exception, ok_with_text};
use super::write::{self, Written};
use super::{Operation, Request, catalog};
use crate::api::App;
use crate::api::answers::{Answer, Begin, Call};
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
    let Some(call) = repeatable(app, &request) else {
        return execute(app, request).await?.reply();
    };
    match app.answers.begin(call) {
        Begin::Other => Err(Exception::new(Code::InternalServer, "one call has two contents")),
        Begin::Answered(outcome) => {
            app.metrics.repeated_writes.inc();
            outcome.reply()
        }
        Begin::Running(mut running) => {
            app.metrics.repeated_writes.inc();
            let heard =
                running.wait_for(Option::is_some).await.ok().and_then(|heard| heard.clone());
            heard.ok_or_else(not_heard)?.reply()
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
