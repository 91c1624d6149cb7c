//! What became of each rejection that somebody sent, as an answer shows it.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use super::mend::Why;
use crate::base::lsn::Lsn;
use crate::ingest::{NamedRefusal, Receipt};

/// What became of one rejection.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    /// Members beside its id and outcome.
    pub(super) more: Json,
}

/// What became of each, by its place in the answer, with its id.
pub(super) type Outcomes = BTreeMap<u64, (String, Option<Outcome>)>;

impl Outcome {
    pub(super) fn of(name: &'static str) -> Self {
        Self { name, more: json!({}) }
    }

    pub(super) fn refused((reason, message): &Why) -> Self {
        let more = json!({ "reason": reason.code(), "message": message });
        Self { name: "refused", more }
    }

    pub(super) fn why(name: &'static str, message: &str) -> Self {
        Self { name, more: json!({ "message": message }) }
    }

    /// The same of what is in this frame.
    pub(super) fn in_frame(mut self, lsn: Lsn) -> Self {
        self.more["resubmitted_lsn"] = json!(lsn);
        self
    }

    /// The same, and beside what it says `more` for people.
    pub(super) fn and(mut self, more: &str) -> Self {
        let said = self.more["message"].as_str().map(|message| format!("{message}; {more}"));
        self.more["message"] = said.unwrap_or_else(|| more.to_owned()).into();
        self
    }

    /// The same of a dry run.
    pub(super) fn would_be(mut self) -> Self {
        self.name = match self.name {
            "stored" => "would_be_stored",
            "refused" => "would_be_refused",
            other => other,
        };
        self
    }
}

/// What a receipt says of those that were refused.
pub(super) fn refused(receipt: &Receipt) -> BTreeMap<u64, Outcome> {
    let outcome = |refusal: &NamedRefusal| {
        let more = json!({
            "reason": refusal.reason.code(),
            "message": refusal.message,
            "existing_version": refusal.existing_version,
        });
        (refusal.number, Outcome { name: "refused", more })
    };
    receipt.named.iter().map(outcome).collect()
}

pub(super) fn tell(outcomes: &mut Outcomes, said: BTreeMap<u64, Outcome>) {
    for (number, outcome) in said {
        let (_, of) = outcomes.get_mut(&number).expect("what is sent was chosen");
        *of = Some(outcome);
    }
}

/// Tells those that have no outcome, since nothing of theirs was sent; of a dry run, since nobody looked.
pub(super) fn tell_unsent(outcomes: &mut Outcomes, (is_dry, why): (bool, &str)) {
    let (name, message) = if is_dry {
        ("unknown", format!("not looked at: {why}"))
    } else {
        ("not_sent", format!("not sent: {why}"))
    };
    for (_, outcome) in outcomes.values_mut().filter(|(_, outcome)| outcome.is_none()) {
        *outcome = Some(Outcome::why(name, &message));
    }
}

/// What an answer says beside what became of each.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// Where the next page begins.
    pub(super) next: Option<String>,
    /// Texts that were passed over because nobody can tell their table.
    pub(super) untold: u64,
    /// Why nothing more was sent, and why whoever goes on page by page should not for now.
    pub(super) stopped: Option<String>,
}

/// The answer.
pub(super) fn shown(outcomes: &Outcomes, ending: &Ending) -> Json {
    let count = |names: &[&str]| {
        let all = outcomes.values().filter_map(|(_, outcome)| outcome.as_ref());
        all.filter(|outcome| names.contains(&outcome.name)).count()
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
    let mut answer = json!({
        "stored": count(&["stored", "would_be_stored"]),
        "refused": count(&["refused", "would_be_refused"]),
        "already": count(&["resubmitted"]),
        "under_way": count(&["under_way"]),
        "unknown": count(&["unknown"]),
        "not_sent": count(&["not_sent", "taken_otherwise", "not_found", "forbidden"]),
        "results": results,
        "next": ending.next,
    });
    if ending.untold > 0 {
        answer["untold"] = ending.untold.into();
    }
    if let Some(why) = &ending.stopped {
        answer["stopped"] = why.as_str().into();
    }
    answer
}
