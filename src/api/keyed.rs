//! Writes with an `Idempotency-Key`: the same key again within a day gets the first answer.
//!
//! A key stands for one request of one caller: path, database and other parameters, and the inflated
//! body. With another of these it is 422, since the client took one key for two requests. A repetition
//! of a request that is still under way waits for its answer; the first goes on when its connection
//! breaks. What was answered as an error as a whole (busy, too large, ours) is executed again.
//!
//! The answers are kept in memory ([`super::answers`]): for 24 hours, while there is room, and not beyond
//! a restart. Then a repetition is executed again; that is no second record as long as its records have
//! times of their own and the setting `ingest.version` is not `arrival`, since the same record with the
//! same version changes nothing.
//!
//! Source: IETF draft "The Idempotency-Key HTTP Header Field", for the header, 422 and the fingerprint.

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::answers::{Answer, Begin, Call as Repeatable};
use super::call::{Body, Call, Caller};
use super::fault::{Fault, Kind};
use super::reply::Reply;
use super::write::{self, Plan};
use super::{App, partial};
use crate::ingest::{NamedRefusal, RETRY_AFTER, Receipt};

/// The header that names a request.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Longest key, in bytes: four times what a UUID in quotes takes, and more.
pub const KEY_BYTES_MAX: usize = 255;

/// Says that an answer is that of an earlier request.
pub const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl Answer for Receipt {
    fn bytes(&self) -> usize {
        let texts = |refusal: &NamedRefusal| refusal.message.len() + refusal.text.len();
        self.named.iter().map(|refusal| size_of::<NamedRefusal>() + texts(refusal)).sum()
    }
}

/// The key that a request names, and what its parameters ask: also those that no plan holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    text: String,
    parameters: String,
}

/// The key that a request names, if it names one.
///
/// # Errors
///
/// [`Fault`] 400 when it is empty, too long, no visible ASCII, or there are several.
pub fn key_asked(call: &Call<'_>) -> Result<Option<Key>, Fault> {
    let text = key_in(call.headers)?;
    Ok(text.map(|text| Key { text, parameters: call.params.asked() }))
}

/// The text of the key that a head names, if it names one.
///
/// # Errors
///
/// As [`key_asked`].
pub fn key_in(headers: &HeaderMap) -> Result<Option<String>, Fault> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(first) = all.next() else { return Ok(None) };
    let key = first.to_str().unwrap_or_default().trim();
    if key.is_empty() || key.len() > KEY_BYTES_MAX || all.next().is_some() {
        let message =
            format!("Idempotency-Key must be one text of 1 to {KEY_BYTES_MAX} characters");
        return Err(Fault::invalid(message));
    }
    Ok(Some(key.to_owned()))
}

/// Takes a write that names a key, or answers it as the first with this key was.
///
/// # Errors
///
/// [`Fault`]: those of [`write::run`]; 422 where the key is that of another request; 503 where the
/// first request with this key ended in an error while this one waited for it.
pub(super) async fn run(
    app: &Arc<App>,
    caller: &Arc<Caller>,
    plan: &Plan,
    (key, body): (&Key, Body),
) -> Result<Reply, Fault> {
    let text = key.text.as_str();
    let id = app.keyed.digest(&[caller.name.as_bytes(), text.as_bytes()]);
    // A plan prints all that it is, and with its key what the parameters ask.
    let content = app.keyed.digest(&[format!("{plan:?}").as_bytes(), &body.bytes]);
    match app.keyed.begin(Repeatable { id, content }) {
        Begin::Other => Err(Fault::new(
            Kind::Unprocessable,
            format!(
                "Idempotency-Key {text:?} was sent before with another body, path or parameters: \
                 repeat that request, or take a new key"
            ),
        )),
        Begin::Answered(receipt) => {
            app.metrics.repeated_writes.inc();
            Ok(repeated(plan, &receipt))
        }
        Begin::Running(mut running) => {
            app.metrics.repeated_writes.inc();
            let heard =
                running.wait_for(Option::is_some).await.ok().and_then(|heard| heard.clone());
            let failed = || {
                let message = "the first request with this Idempotency-Key failed: send it again";
                Fault::new(Kind::Busy { retry_after: RETRY_AFTER }, message)
            };
            heard.map(|receipt| repeated(plan, &receipt)).ok_or_else(failed)
        }
        Begin::First(ticket) => {
            let (app, caller, owned) = (Arc::clone(app), Arc::clone(caller), plan.clone());
            // A task of its own: it goes on when the connection breaks, so that a repetition finds it.
            let task = tokio::spawn(async move {
                let receipt = Arc::new(write::accept(&app, &caller, &owned, body).await?);
                ticket.answered(&receipt);
                Ok(receipt)
            });
            let receipt: Result<Arc<Receipt>, Fault> = task.await.unwrap_or_else(|ended| {
                Err(Fault::new(Kind::Internal, format!("the write ended early: {ended}")))
            });
            Ok(partial::reply(plan, &*receipt?))
        }
    }
}

fn repeated(plan: &Plan, receipt: &Receipt) -> Reply {
    partial::reply(plan, receipt).with(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"))
}
