//! `POST /api/v1/rejects/resubmit`: rejections sent again, as they are or mended.
//!
//! ```text
//! {"ids":["42-57"],                        these; or:
//!  "filter":{"reason":"version_conflict"}, the open ones that a list with these parts would show, oldest first
//!  "set":{"version":"next"},               what is set in each; see `mend`
//!  "line":"weather,site=a t=1 ..",         instead of the text or record, of the one id; or:
//!  "json":{"measurement":"weather",..},    the same as JSON
//!  "format":"line", "precision":"ns",      how texts are read, else as their requests said: [`super::text`]
//!  "dry_run":true}                         say what would become of them, and write nothing
//! ```
//!
//! ```text
//! {"stored":1,"refused":0,"results":[{"id":"42-57","outcome":"stored",..}],"next":null}
//! ```
//!
//! | outcome | is |
//! |---|---|
//! | `stored` | the engine has it; the rejection is marked, and no longer open |
//! | `refused` | it is still wrong, for `reason` and `message`; the rejection stays open, and there is no second one |
//! | `would_be_stored`, `would_be_refused` | the same of a dry run; versions are compared with what stood then |
//! | `resubmitted` | it was sent again before; nothing was done |
//! | `not_found` | there is none, or the caller may not read its database |
//! | `forbidden` | the caller may not write to its database |
//! | `unknown` | the log or the engine did not answer; it stays open, and sending it again is harmless |
//!
//! Records are written at the durability `applied`, so that the engine's answer is known. Between that and the
//! mark a crash may come: the rejection is then open although its record is stored. Sent again, the same
//! record with the same version changes nothing, and the mark is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

use super::mend::{Mender, Seen, Set, Versions, Why};
use super::text::{Given, Text};
use super::{NAMES, RESUBMIT, query};
use crate::api::App;
use crate::api::call::{Body, Caller};
use crate::api::fault::{Family, Fault};
use crate::api::reply::Reply;
use crate::api::write::{Plan, decode_for};
use crate::base::lsn::Lsn;
use crate::ingest::{Ask, Durability, IngestError, Partial, Protocol, Receipt};
use crate::record::RecordSink;
use crate::record::limits::REFUSALS_NAMED_MAX;
use crate::reject::archive::{Rejected, Resubmitted};
use crate::reject::entry::{Id, Moment};
use crate::reject::select::{LIMIT_MAX, Order, State};

/// What is asked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    ids: Option<Vec<String>>,
    filter: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    set: BTreeMap<String, Json>,
    line: Option<String>,
    json: Option<Box<RawValue>>,
    precision: Option<String>,
    format: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

/// How it is done.
struct Work<'w> {
    caller: &'w Caller,
    set: Set,
    given: Given,
    is_dry: bool,
}

/// What became of one rejection.
#[derive(Debug)]
struct Outcome {
    name: &'static str,
    /// Members beside its id and outcome.
    more: Json,
}

/// Rejections that are sent, each under its number.
type Chosen = BTreeMap<u64, Rejected>;

/// Answers a request.
///
/// # Errors
///
/// [`Fault`] 400 for a request that is not understood, 503 while the sink is away.
pub async fn answer(app: &App, caller: &Caller, body: &Body) -> Result<Reply, Fault> {
    let request: Request = serde_json::from_slice(&body.bytes).map_err(|error| {
        let right = "send {\"ids\":[..]} or {\"filter\":{..}}, with set, line, dry_run as needed";
        Fault::invalid(format!("{RESUBMIT}: {error}; {right}"))
    })?;
    let (mut outcomes, chosen, next) = choose(app, caller, &request).await?;
    let work = Work {
        caller,
        set: Set::parse(&request.set).map_err(Fault::invalid)?,
        given: Given::new(request.line, request.json, (request.format, request.precision))?,
        is_dry: request.dry_run,
    };
    if work.given.has_text() && outcomes.len() > 1 {
        return Err(Fault::invalid("line or json stands for one rejection: name one id"));
    }
    let mut chosen = chosen;
    while !chosen.is_empty() {
        // As many as a receipt names.
        let last = chosen.keys().nth(REFUSALS_NAMED_MAX).copied();
        let rest = last.map(|last| chosen.split_off(&last)).unwrap_or_default();
        work.send(app, &chosen, &mut outcomes).await?;
        chosen = rest;
    }
    Ok(Reply::json(StatusCode::OK, &shown(&outcomes, next.as_deref())))
}

/// What became of each, by its place in the answer, with its id.
type Outcomes = BTreeMap<u64, (String, Option<Outcome>)>;

/// Finds the rejections that are asked for. Those that are not sent have their outcome already.
async fn choose(
    app: &App,
    caller: &Caller,
    request: &Request,
) -> Result<(Outcomes, Chosen, Option<String>), Fault> {
    let (mut outcomes, mut chosen) = (Outcomes::new(), Chosen::new());
    let mut take = |number: u64, id: String, found: Option<Rejected>| {
        let said = match &found {
            None => Some(Outcome::of("not_found")),
            Some(one) if one.state == State::Resubmitted => Some(Outcome::of("resubmitted")),
            Some(one) if !caller.write.covers(&one.database) => Some(Outcome::of("forbidden")),
            Some(_) => None,
        };
        if let (None, Some(one)) = (&said, found) {
            chosen.insert(number, one);
        }
        outcomes.insert(number, (id, said));
    };
    let next = match (&request.ids, &request.filter) {
        (Some(texts), None) => {
            if texts.is_empty() || texts.len() > LIMIT_MAX {
                return Err(Fault::invalid(format!("name 1 to {LIMIT_MAX} ids a request")));
            }
            let wanted: BTreeSet<Id> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            let mut found = app.rejects.find(wanted, caller).await?;
            let mut seen = BTreeSet::new();
            for (number, text) in texts.iter().filter(|text| seen.insert(text.as_str())).enumerate()
            {
                let one = text.parse().ok().and_then(|id: Id| found.remove(&id));
                take(number as u64, text.clone(), one);
            }
            None
        }
        (None, Some(filter)) => {
            let page = app.rejects.page(filtered(filter, caller)?, caller).await?;
            for (number, one) in page.rejections.into_iter().enumerate() {
                take(number as u64, one.entry.id.to_string(), Some(one));
            }
            page.next.map(|next| next.to_string())
        }
        _ => return Err(Fault::invalid("send either ids or filter; {} is every open one")),
    };
    Ok((outcomes, chosen, next))
}

/// The query of a filter: open ones, the oldest first, so that they are sent in the order in which they came.
fn filtered(
    filter: &BTreeMap<String, Json>,
    caller: &Caller,
) -> Result<crate::reject::select::Query, Fault> {
    let known = |name: &str| NAMES.contains(&name) && !matches!(name, "state" | "order");
    if let Some(name) = filter.keys().find(|name| !known(name)) {
        return Err(Fault::invalid(format!(
            "filter {name:?}: there are reason, db, table, kind, from, to, lsn, limit and after"
        )));
    }
    let mut query = query(&|name| match filter.get(name)? {
        Json::String(text) => Some(text.clone()),
        Json::Null => None,
        other => Some(other.to_string()),
    })?;
    query.order = Order::Oldest;
    super::check_may_read(caller, query.database.as_deref())?;
    Ok(query)
}

impl Work<'_> {
    /// Sends some, no more than a receipt names, and says what became of each.
    async fn send(&self, app: &App, chosen: &Chosen, outcomes: &mut Outcomes) -> Result<(), Fault> {
        let mut said = BTreeMap::new();
        let mut texts = BTreeMap::new();
        for (number, one) in chosen {
            match self.given.text(one, &self.set, app.mapping.version_field.as_deref()) {
                Ok(text) => drop(texts.insert(*number, text)),
                Err(why) => drop(said.insert(*number, Outcome::refused(why))),
            }
        }
        let bytes = texts.values().map(|text| text.bytes.len()).sum();
        let Some(first) = chosen.values().next() else { return Ok(()) };
        let ask = Ask {
            protocol: Protocol::Json,
            database: &first.database,
            // What is refused before the log is told, and not sent.
            reading: None,
            received_ns: app.ingest.received_ns(),
            body_bytes: bytes,
            durability: Some(Durability::Applied),
            partial: Partial::Accept,
        };
        let _memory = app.ingest.admit(bytes).await?;
        let versions = versions(app);
        let seen = Mutex::new(BTreeMap::new());
        let show = |sink: &mut dyn RecordSink, numbers: &BTreeSet<u64>, seen: Option<&_>| {
            for number in numbers {
                let (rejected, text, number) = (&chosen[number], &texts[number], *number);
                let mut mender = Mender { sink, set: &text.set, rejected, versions, number, seen };
                let plan = plan(rejected, text);
                // A text that left its time to the receipt means the first one.
                let from = (&plan, &app.mapping, rejected.entry.received.0);
                decode_for(from, &text.bytes, self.caller, &mut mender);
            }
        };
        let all: BTreeSet<u64> = texts.keys().copied().collect();
        // What would be refused before the log is not sent: the log would keep it as one rejection more.
        let judged = app.ingest.judge(&ask, |sink| show(sink, &all, Some(&seen)));
        let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        said.extend(refused(&judged));
        if self.is_dry {
            dry(&mut said, &seen, chosen);
            tell(outcomes, said);
            return Ok(());
        }
        for number in all.iter().filter(|number| !seen.contains_key(number)) {
            let nothing = || Outcome::why("refused", "there is no record in it");
            said.entry(*number).or_insert_with(nothing);
        }
        let good: BTreeSet<u64> =
            all.into_iter().filter(|number| !said.contains_key(number)).collect();
        if !good.is_empty() {
            match app.ingest.accept(&ask, |sink| show(sink, &good, None)).await {
                Ok(receipt) => self.taken(app, (chosen, &good), &receipt, &mut said).await,
                Err(error) => unheard(&good, &error, &mut said),
            }
        }
        tell(outcomes, said);
        Ok(())
    }

    /// Marks what the engine has taken.
    async fn taken(
        &self,
        app: &App,
        (chosen, sent): (&Chosen, &BTreeSet<u64>),
        receipt: &Receipt,
        said: &mut BTreeMap<u64, Outcome>,
    ) {
        let again = refused(receipt);
        // A text of several records may have more refusals than are named: what is not named is not known.
        let is_named = receipt.refused == receipt.named.len() as u64;
        let stored: BTreeSet<u64> =
            sent.iter().filter(|number| is_named && !again.contains_key(number)).copied().collect();
        let lsn = receipt.lsn.unwrap_or(Lsn::ZERO);
        let ids: BTreeSet<Id> = stored.iter().map(|number| chosen[number].entry.id).collect();
        let resubmitted =
            Resubmitted { lsn, at: Moment(app.clock.wall_ns()), by: self.caller.name.clone() };
        let was_refused = receipt.refused > 0;
        let marked =
            app.rejects.ask(move |archive| archive.mark(&resubmitted, &ids, was_refused)).await;
        let unmarked = marked.err().map(|fault| {
            let why = fault.message;
            format!("it is not marked, and stays open; sending it again is harmless: {why}")
        });
        for number in sent {
            let outcome = if stored.contains(number) {
                let more = json!({ "resubmitted_lsn": lsn, "message": unmarked });
                Outcome { name: "stored", more }
            } else {
                Outcome::why("unknown", "more was refused than is named")
            };
            said.insert(*number, outcome);
        }
        said.extend(again);
    }
}

/// Where the version of a record comes from that names none.
fn versions(app: &App) -> Versions {
    if app.ingest.options().version == "arrival" { Versions::Arrival } else { Versions::Settings }
}

fn plan(one: &Rejected, text: &Text) -> Plan {
    Plan {
        family: Family::Native,
        database: one.database.clone(),
        table: text.table.clone(),
        form: text.form,
        durability: None,
        partial: Partial::Accept,
        key: None,
    }
}

/// What a receipt says of those that were refused.
fn refused(receipt: &Receipt) -> BTreeMap<u64, Outcome> {
    let outcome = |refusal: &crate::ingest::NamedRefusal| {
        let more = json!({
            "reason": refusal.reason.code(),
            "message": refusal.message,
            "existing_version": refusal.existing_version,
        });
        (refusal.number, Outcome { name: "refused", more })
    };
    receipt.named.iter().map(outcome).collect()
}

/// What a dry run says: what was sent, and what would become of it.
fn dry(said: &mut BTreeMap<u64, Outcome>, seen: &BTreeMap<u64, Seen>, all: &Chosen) {
    for number in all.keys() {
        let sent = seen.get(number);
        let outcome = said.entry(*number).or_insert_with(|| match sent.map(|sent| &sent.too_low) {
            Some(None) => Outcome::of("would_be_stored"),
            Some(Some(why)) => Outcome::why("would_be_refused", why),
            None => Outcome::why("would_be_refused", "there is no record in it"),
        });
        if outcome.name == "refused" {
            outcome.name = "would_be_refused";
        }
        outcome.more["sent"] = json!(sent.map(|sent| &sent.record));
    }
}

fn unheard(sent: &BTreeSet<u64>, error: &IngestError, said: &mut BTreeMap<u64, Outcome>) {
    for number in sent {
        said.insert(*number, Outcome::why("unknown", &error.to_string()));
    }
}

fn tell(outcomes: &mut Outcomes, said: BTreeMap<u64, Outcome>) {
    for (number, outcome) in said {
        let (_, of) = outcomes.get_mut(&number).expect("what is sent was chosen");
        *of = Some(outcome);
    }
}

fn shown(outcomes: &Outcomes, next: Option<&str>) -> Json {
    let is_named = |name: &str| {
        let all = outcomes.values().filter_map(|(_, outcome)| outcome.as_ref());
        all.filter(|outcome| {
            outcome.name == name || outcome.name.strip_prefix("would_be_") == Some(name)
        })
        .count()
    };
    let results: Vec<Json> = outcomes
        .values()
        .map(|(id, outcome)| {
            let outcome = outcome.as_ref().expect("each has its outcome");
            let mut result = outcome.more.clone();
            result["id"] = json!(id);
            result["outcome"] = json!(outcome.name);
            result
        })
        .collect();
    let (stored, refused) = (is_named("stored"), is_named("refused"));
    json!({ "stored": stored, "refused": refused, "results": results, "next": next })
}

impl Outcome {
    fn of(name: &'static str) -> Self {
        Self { name, more: json!({}) }
    }

    fn refused((reason, message): Why) -> Self {
        let more = json!({ "reason": reason.code(), "message": message });
        Self { name: "refused", more }
    }

    fn why(name: &'static str, message: &str) -> Self {
        Self { name, more: json!({ "message": message }) }
    }
}
