//! Which rejections a request sends, and that no two requests send one at the same time.
//!
//! Two corrections of one rejection that came together would both be taken, and the last one would stand without
//! anybody having said so. So who sends a rejection holds its number until its mark is made, also when nobody waits
//! for the answer any more; whoever comes meanwhile is told, and finds it marked afterwards. What an engine that is
//! away has not executed is held in the same way, with its frame, until that is executed or the server ends.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value as Json;

use super::asked::{NAMES, query, unknown};
use super::outcome::{Outcome, Outcomes};
use super::patience::not_serving;
use super::resubmit::Request;
use super::{correction, load};
use crate::api::App;
use crate::api::call::Caller;
use crate::api::fault::{Fault, Kind};
use crate::base::lsn::Lsn;
use crate::ingest::Admission;
use crate::reject::archive::Rejected;
use crate::reject::entry::Id;
use crate::reject::mark::Correction;
use crate::reject::select::{LIMIT_MAX, Order, Query, State};

/// The rejections that are being sent.
#[derive(Debug, Clone, Default)]
pub(super) struct Sending(Arc<Mutex<Held>>);

/// Most rejections that are held at once: each takes some memory for as long as an engine is away.
const HELD_MAX: usize = 20_000;

#[derive(Debug, Default)]
struct Held {
    /// Each with the frame that has it, once one does.
    ids: BTreeMap<Id, Option<Lsn>>,
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

    /// The frame that a rejection is in which the engine has not executed, if somebody waits for that.
    pub(super) fn frame_of(&self, id: Id) -> Option<Lsn> {
        self.lock().ids.get(&id).copied().flatten()
    }

    /// Holds those of `ids` that nobody else holds.
    ///
    /// # Errors
    ///
    /// [`Fault`] 503 where too many are held; none of these is then.
    fn hold(&self, ids: impl Iterator<Item = Id>) -> Result<Hold, Fault> {
        let mut held = self.lock();
        let free: BTreeSet<Id> = ids.filter(|id| !held.ids.contains_key(id)).collect();
        if held.ids.len() + free.len() > HELD_MAX {
            let message = format!(
                "{} rejections are under way, and there may be {HELD_MAX}: the engine has to execute some first; \
                 nothing was sent",
                held.ids.len()
            );
            return Err(Fault::new(Kind::Busy { retry_after: super::RETRY_AFTER }, message));
        }
        held.ids.extend(free.iter().map(|id| (*id, None)));
        Ok(Hold { sending: self.clone(), ids: free, ended: held.ended })
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

impl Hold {
    /// Splits off what a frame has that is not executed yet.
    pub(super) fn split_off(&mut self, ids: impl Iterator<Item = Id>, lsn: Option<Lsn>) -> Self {
        let ids: BTreeSet<Id> = ids.filter(|id| self.ids.remove(id)).collect();
        let mut held = self.sending.lock();
        for id in &ids {
            held.ids.insert(*id, lsn);
        }
        drop(held);
        Self { sending: self.sending.clone(), ids, ended: self.ended }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut held = self.sending.lock();
        held.ids.retain(|id, _| !self.ids.contains(id));
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
    pub(super) hold: Option<Hold>,
    /// What the chosen ones take.
    pub(super) memory: Vec<Admission>,
}

/// What was asked for, in its order, with its id as it was written; where to go on, texts of no known table, and the
/// memory that all of it takes.
type Found = (Vec<(String, Option<Rejected>)>, Option<String>, u64, Vec<Admission>);

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
    let (mut found, next, untold, memory) = find(app, caller, request).await?;
    let ids = || found.iter().filter_map(|(_, one)| one.as_ref()).map(|one| one.entry.id);
    let hold = if request.dry_run { None } else { Some(sending.hold(ids())?) };
    if let Some(hold) = hold.as_ref().filter(|hold| hold.ended != before && !hold.ids.is_empty()) {
        // Somebody has marked something since these were read.
        let (mut again, _memory) = load::find(app, caller, hold.ids.clone()).await?;
        for one in found.iter_mut().filter_map(|(_, one)| one.as_mut()) {
            if let Some(now) = again.remove(&one.entry.id) {
                *one = now;
            }
        }
    }
    let (mut outcomes, mut chosen) = (Outcomes::new(), Chosen::new());
    let fault = LazyCell::new(|| app.engine.state().fault);
    for (number, (id, one)) in (0..).zip(found) {
        let is_held = |one: &Rejected| match &hold {
            Some(hold) => hold.ids.contains(&one.entry.id),
            None => sending.frame_of(one.entry.id).is_none(),
        };
        let said = match &one {
            None => Some(Outcome::of("not_found")),
            Some(one) if !is_held(one) => {
                Some(under_way(sending.frame_of(one.entry.id), fault.as_ref()))
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
    Ok(Choice { outcomes, chosen, next, untold, hold, memory })
}

/// Of one that another request sends, in this frame if it came so far.
fn under_way(frame: Option<Lsn>, fault: Option<&String>) -> Outcome {
    let Some(lsn) = frame else {
        let message = "another request is sending it just now; ask again when that has ended";
        return Outcome::why("under_way", message);
    };
    let message = format!(
        "an earlier request has put it into the log as frame {lsn}, which the engine has not executed yet: it is taken \
         or refused then; nothing was sent now"
    );
    let outcome = Outcome::why("under_way", &message).in_frame(lsn);
    match fault {
        Some(fault) => outcome.and(&not_serving(fault)),
        None => outcome,
    }
}

/// Of one that was taken before: whether as it would be now.
fn taken_before(one: &Rejected, correction: &Correction) -> Outcome {
    let is_same = correction::is_same(one.resubmitted.as_ref(), correction);
    let name = if is_same { "resubmitted" } else { "taken_otherwise" };
    let taken = one.resubmitted.as_ref().expect("what was sent again says when");
    Outcome { name, more: correction::taken_before(taken, is_same) }
}

async fn find(app: &App, caller: &Caller, request: &Request) -> Result<Found, Fault> {
    match (&request.ids, &request.filter) {
        (Some(texts), None) => {
            if texts.is_empty() || texts.len() > LIMIT_MAX {
                return Err(Fault::invalid(format!("name 1 to {LIMIT_MAX} ids a request")));
            }
            let wanted: BTreeSet<Id> = texts.iter().filter_map(|text| text.parse().ok()).collect();
            let (mut found, memory) = load::find(app, caller, wanted).await?;
            let mut seen = BTreeSet::new();
            let texts = texts.iter().filter(|text| seen.insert(text.as_str()));
            let mut of_text =
                |text: &String| text.parse().ok().and_then(|id: Id| found.remove(&id));
            let found = texts.map(|text| (text.clone(), of_text(text))).collect();
            Ok((found, None, 0, memory))
        }
        (None, Some(filter)) => {
            let (page, memory) = load::page(app, caller, filtered(filter, caller)?).await?;
            let found = page.rejections.into_iter();
            let found = found.map(|one| (one.entry.id.to_string(), Some(one))).collect();
            Ok((found, page.next.map(|next| next.to_string()), page.untold, vec![memory]))
        }
        _ => Err(Fault::invalid("send either ids or filter; {} is every open one")),
    }
}

/// The query of a filter: open ones, the oldest first, so that they are sent in the order in which they came.
fn filtered(filter: &BTreeMap<String, Json>, caller: &Caller) -> Result<Query, Fault> {
    let known: Vec<&str> =
        NAMES.into_iter().filter(|name| !matches!(*name, "state" | "all" | "order")).collect();
    if let Some(name) = filter.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Fault::invalid(format!("filter: {}", unknown("part", name, &known))));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: u64) -> impl Iterator<Item = Id> {
        (0..count).map(|place| Id { lsn: Lsn(1), place })
    }

    #[test]
    fn a_hold_is_let_go_by_whoever_has_it_in_the_end() {
        let sending = Sending::default();
        let mut first = sending.hold(ids(3)).unwrap();
        assert!(sending.hold(ids(3)).unwrap().ids.is_empty(), "somebody holds them");
        let one = Id { lsn: Lsn(1), place: 1 };
        let later = first.split_off([one].into_iter(), Some(Lsn(9)));
        drop(first);
        assert_eq!(sending.hold(ids(3)).unwrap().ids.len(), 2, "all but what is in the frame");
        assert_eq!(sending.frame_of(one), Some(Lsn(9)));
        drop(later);
        assert_eq!((sending.frame_of(one), sending.hold(ids(3)).unwrap().ids.len()), (None, 3));
    }

    #[test]
    fn no_more_are_held_than_there_is_room_for() {
        let sending = Sending::default();
        let most = sending.hold(ids(HELD_MAX as u64)).unwrap();
        let more = || sending.hold([Id { lsn: Lsn(2), place: 0 }].into_iter());
        let fault = more().unwrap_err();
        assert!(fault.status() == 503 && fault.message.contains("nothing was sent"));
        assert_eq!(sending.hold(ids(5)).unwrap().ids.len(), 0, "what is held is told so");
        drop(most);
        assert_eq!(more().unwrap().ids.len(), 1);
    }
}
