//! Which rejections a request sends, and that no two requests send one at the same time.
//!
//! Two corrections of one rejection that came together would both be taken, and the last one would stand without
//! anybody having said so. So who sends a rejection holds its number until its mark is made, also when nobody waits
//! for the answer any more; whoever comes meanwhile is told, and finds it marked afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value as Json;

use super::correction;
use super::outcome::{Outcome, Outcomes};
use super::resubmit::Request;
use super::{NAMES, query};
use crate::api::App;
use crate::api::call::Caller;
use crate::api::fault::Fault;
use crate::reject::archive::Rejected;
use crate::reject::entry::Id;
use crate::reject::mark::Correction;
use crate::reject::select::{LIMIT_MAX, Order, Query, State};

/// The rejections that are being sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Sending(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
struct Held {
    ids: BTreeSet<Id>,
    /// How many requests have let go of theirs: who read the marks before the last one did must read again.
    ended: u64,
}

impl Sending {
    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere leaves a number held at worst, and none is lost by it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ended(&self) -> u64 {
        self.lock().ended
    }

    /// Holds those of `ids` that nobody else holds.
    fn hold(&self, ids: impl Iterator<Item = Id>) -> Hold {
        let mut held = self.lock();
        let ids = ids.filter(|id| held.ids.insert(*id)).collect();
        Hold { sending: self.clone(), ids, ended: held.ended }
    }
}

/// Numbers that are held until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    sending: Sending,
    ids: BTreeSet<Id>,
    /// How many requests had ended by then.
    ended: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.sending.lock();
        held.ids.retain(|id| !self.ids.contains(id));
        held.ended += 1;
    }
}

/// Rejections that are sent, each under its number.
pub(super) type Chosen = BTreeMap<u64, Rejected>;

/// What a request sends.
#[derive(Debug)]
pub(super) struct Choice {
    /// All that it asks for. Those that are not sent have their outcome already.
    pub(super) outcomes: Outcomes,
    pub(super) chosen: Chosen,
    pub(super) next: Option<String>,
    /// Texts that were passed over because nobody can tell their table.
    pub(super) untold: u64,
    /// Nobody else sends these meanwhile; a dry run holds none.
    pub(super) _hold: Option<Hold>,
}

/// What was asked for, in its order, with its id as it was written.
type Found = Vec<(String, Option<Rejected>)>;

/// Finds the rejections that are asked for.
///
/// # Errors
///
/// [`Fault`] 400 for a request that is not understood, 503 while the sink is away.
pub(super) async fn choose(
    app: &App,
    caller: &Caller,
    (request, correction): (&Request, &Correction),
) -> Result<Choice, Fault> {
    let sending = &app.rejects.sending;
    let before = sending.ended();
    let (mut found, next, untold) = find(app, caller, request).await?;
    let ids = || found.iter().filter_map(|(_, one)| one.as_ref()).map(|one| one.entry.id);
    let hold = (!request.dry_run).then(|| sending.hold(ids()));
    if let Some(hold) = hold.as_ref().filter(|hold| hold.ended != before && !hold.ids.is_empty()) {
        // Somebody has marked something since these were read.
        let mut again = app.rejects.find(hold.ids.clone(), caller).await?;
        for one in found.iter_mut().filter_map(|(_, one)| one.as_mut()) {
            if let Some(now) = again.remove(&one.entry.id) {
                *one = now;
            }
        }
    }
    let (mut outcomes, mut chosen) = (Outcomes::new(), Chosen::new());
    for (number, (id, one)) in (0..).zip(found) {
        let is_held =
            |one: &Rejected| hold.as_ref().is_none_or(|hold| hold.ids.contains(&one.entry.id));
        let said = match &one {
            None => Some(Outcome::of("not_found")),
            Some(one) if !is_held(one) => {
                let message =
                    "another request is sending it just now; ask again when that has ended";
                Some(Outcome::why("under_way", message))
            }
            Some(one) if one.state == State::Resubmitted && !request.again => {
                Some(taken_before(one, correction))
            }
            Some(one) if !caller.write.covers(&one.database) => Some(Outcome::of("forbidden")),
            Some(_) => None,
        };
        if let (None, Some(one)) = (&said, one) {
            chosen.insert(number, one);
        }
        outcomes.insert(number, (id, said));
    }
    Ok(Choice { outcomes, chosen, next, untold, _hold: hold })
}

/// Of one that was taken before: whether as it would be now.
fn taken_before(one: &Rejected, correction: &Correction) -> Outcome {
    let is_same = correction::is_same(one.resubmitted.as_ref(), correction);
    let name = if is_same { "resubmitted" } else { "taken_otherwise" };
    let taken = one.resubmitted.as_ref().expect("what was sent again says when");
    Outcome { name, more: correction::taken_before(taken, is_same) }
}

async fn find(
    app: &App,
    caller: &Caller,
    request: &Request,
) -> Result<(Found, Option<String>, u64), Fault> {
    match (&request.ids, &request.filter) {
        (Some(texts), None) => {
            if texts.is_empty() || texts.len() > LIMIT_MAX {
                return Err(Fault::invalid(format!("name 1 to {LIMIT_MAX} ids a request")));
            }
            let wanted: BTreeSet<Id> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            let mut found = app.rejects.find(wanted, caller).await?;
            let mut seen = BTreeSet::new();
            let texts = texts.iter().filter(|text| seen.insert(text.as_str()));
            let mut of_text =
                |text: &String| text.parse().ok().and_then(|id: Id| found.remove(&id));
            Ok((texts.map(|text| (text.clone(), of_text(text))).collect(), None, 0))
        }
        (None, Some(filter)) => {
            let page = app.rejects.page(filtered(filter, caller)?, caller).await?;
            let found = page.rejections.into_iter();
            let found = found.map(|one| (one.entry.id.to_string(), Some(one))).collect();
            Ok((found, page.next.map(|next| next.to_string()), page.untold))
        }
        _ => Err(Fault::invalid("send either ids or filter; {} is every open one")),
    }
}

/// The query of a filter: open ones, the oldest first, so that they are sent in the order in which they came.
fn filtered(filter: &BTreeMap<String, Json>, caller: &Caller) -> Result<Query, Fault> {
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
