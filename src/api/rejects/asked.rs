//! What a `GET` asks: its parameters, each known, each once, each right.
//!
//! A parameter that is passed over is taken for granted by whoever wrote it: a list of all databases for one of
//! `database=iot`. So what there is not is refused, with what may have been meant.

use std::fmt::Write as _;

use super::PATH;
use crate::api::call::Call;
use crate::api::export::time_ns;
use crate::api::fault::Fault;
use crate::api::params::Params;
use crate::base::lsn::Lsn;
use crate::record::Reason;
use crate::reject::select::{self, LIMIT_MAX, Order, Query, State};

/// What says who asks, on any path: it is no part of what is asked.
const OF_THE_CALLER: [&str; 2] = ["u", "p"];

/// Names that other commands, endpoints and databases have for a part, and how it is written here.
const OTHER_NAMES: [(&str, &str); 22] = [
    ("database", "db"),
    ("bucket", "db"),
    ("measurement", "table"),
    ("code", "reason"),
    ("type", "kind"),
    ("since", "from"),
    ("start", "from"),
    ("begin", "from"),
    ("until", "to"),
    ("end", "to"),
    ("stop", "to"),
    ("frame", "lsn"),
    ("open", "state=open"),
    ("resubmitted", "state=resubmitted"),
    ("oldest", "order=oldest"),
    ("newest", "order=newest"),
    ("sort", "order"),
    ("count", "limit"),
    ("max", "limit"),
    ("next", "after"),
    ("cursor", "after"),
    ("id", "/api/v1/rejects/ID"),
];

/// The first parameter that is part of what is asked.
pub(super) fn first_parameter(params: &Params) -> Option<&str> {
    params.names().find(|name| !OF_THE_CALLER.contains(name))
}

/// The query of a list.
///
/// # Errors
///
/// [`Fault`] 400 for a parameter that there is not, stands twice, or is wrong.
pub(super) fn of_list(call: &Call<'_>) -> Result<Query, Fault> {
    let names: Vec<&str> =
        call.params.names().filter(|name| !OF_THE_CALLER.contains(name)).collect();
    for (at, name) in names.iter().enumerate() {
        if !NAMES.contains(name) {
            return Err(Fault::invalid(format!("{PATH}: {}", unknown("parameter", name, &NAMES))));
        }
        if names[..at].contains(name) {
            return Err(Fault::invalid(format!(
                "{PATH}: the parameter {name} stands twice: give it once"
            )));
        }
    }
    query(&|name| call.params.get(name).map(str::to_owned))
}

/// Checks that what asks for one rejection, by its path, asks for nothing else.
///
/// # Errors
///
/// [`Fault`] 400 for a parameter.
pub(super) fn of_one(call: &Call<'_>) -> Result<(), Fault> {
    first_parameter(&call.params).map_or(Ok(()), |name| {
        let why = "the path says all, and there are no parameters";
        Err(Fault::invalid(format!("{PATH}/ID: there is no parameter {name:?}: {why}")))
    })
}

/// That there is no part of this name, which may have been meant, and which there are.
pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> String {
    let mut told = format!("there is no {what} {name:?}");
    let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, here)| *here);
    let is_here = |here: &&str| known.contains(&here.split('=').next().unwrap_or(here));
    let near = || {
        let near = known.iter().map(|known| (slips(name, known), *known)).min();
        near.filter(|(slips, known)| *slips <= 2 && *slips < known.len()).map(|(_, known)| known)
    };
    let other = other.filter(|here| is_here(here) || here.starts_with('/'));
    let all = known.join(", ");
    match other.or_else(near) {
        Some(meant) => write!(told, "; did you mean {meant}? There are {all}"),
        None => write!(told, ": there are {all}"),
    }
    .expect("a string takes everything");
    told
}

/// In how many letters two names differ: the least number of letters to put in, leave out or change.
fn slips(a: &str, b: &str) -> usize {
    let mut before: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.chars().enumerate() {
            row.push((before[j] + usize::from(x != y)).min(before[j + 1] + 1).min(row[j] + 1));
        }
        before = row;
    }
    before.last().copied().unwrap_or_default()
}

/// The names of a query's parts, as parameters and in a body.
pub(super) const NAMES: [&str; 12] = [
    "reason", "db", "table", "kind", "from", "to", "lsn", "state", "all", "order", "limit", "after",
];

/// Reads a query by the names of its parts.
///
/// # Errors
///
/// [`Fault`] 400 for a part that is wrong.
pub fn query(get: &dyn Fn(&str) -> Option<String>) -> Result<Query, Fault> {
    let part = |name: &str| get(name).filter(|text| !text.is_empty());
    let wrong = |name: &str, found: &str, right: &str| {
        Fault::invalid(format!("invalid {name} {found:?} (use {right})"))
    };
    let mut query = Query { database: part("db"), table: part("table"), ..Query::default() };
    if let Some(code) = part("reason") {
        let known = Reason::ALL.iter().find(|reason| reason.code() == code);
        let codes = || Reason::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>();
        query.reason =
            Some(*known.ok_or_else(|| {
                wrong("reason", &code, &format!("one of {}", codes().join(", ")))
            })?);
    }
    if let Some(name) = part("kind") {
        let kind = select::Kind::from_name(&name);
        query.kind = Some(kind.ok_or_else(|| wrong("kind", &name, "record or line"))?);
    }
    for (name, end) in [("from", &mut query.from_ns), ("to", &mut query.to_ns)] {
        if let Some(text) = part(name) {
            let right = "nanoseconds since 1970, or RFC 3339 as in 2026-01-31T12:00:00Z";
            *end = time_ns(&text).ok_or_else(|| wrong(name, &text, right))?;
        }
    }
    if query.from_ns > query.to_ns {
        return Err(Fault::invalid("from lies after to"));
    }
    if let Some(text) = part("lsn") {
        let lsn = text.parse().ok().map(Lsn).filter(|lsn| *lsn < Lsn::LIMIT);
        query.lsn = Some(lsn.ok_or_else(|| wrong("lsn", &text, "the number of a frame"))?);
    }
    query.state = state(&part)?;
    paged(query, &part)
}

/// In which state, by `state` or by `all`, which is the command's word for it.
fn state(part: &dyn Fn(&str) -> Option<String>) -> Result<Option<State>, Fault> {
    let wrong = |name: &str, found: &str, right: &str| {
        Fault::invalid(format!("invalid {name} {found:?} (use {right})"))
    };
    let is_all = match part("all").as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(found) => return Err(wrong("all", found, "true or false")),
    };
    let Some(text) = part("state") else {
        return Ok((!is_all).then_some(State::Open));
    };
    if is_all && text != "all" {
        return Err(Fault::invalid(format!("all=true and state={text} contradict each other")));
    }
    if text == "all" {
        return Ok(None);
    }
    let known = [State::Open, State::Resubmitted, State::Again].into_iter();
    let known = known.into_iter().find(|state| state.name() == text);
    known.map(Some).ok_or_else(|| wrong("state", &text, "open, resubmitted, again or all"))
}

/// The parts of a query that say how it is shown.
fn paged(mut query: Query, part: &dyn Fn(&str) -> Option<String>) -> Result<Query, Fault> {
    query.order = match part("order").as_deref() {
        None | Some("newest") => Order::Newest,
        Some("oldest") => Order::Oldest,
        Some(found) => {
            return Err(Fault::invalid(format!("invalid order {found:?} (use newest or oldest)")));
        }
    };
    if let Some(text) = part("limit") {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        query.limit = limit.ok_or_else(|| {
            Fault::invalid(format!("invalid limit {text:?} (use 1 to {LIMIT_MAX})"))
        })?;
    }
    if let Some(text) = part("after") {
        let cursor = text.parse().map_err(|wrong: select::NoCursor| {
            Fault::invalid(format!("invalid after {text:?}: {wrong}"))
        })?;
        query.after = Some(cursor);
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::call::Caller;

    #[test]
    fn each_part_of_a_query_is_read_and_a_wrong_one_says_what_is_right() {
        let read = |name: &'static str, value: &'static str| {
            query(&move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(read("reason", "version_lower").unwrap().reason, Some(Reason::VersionLower));
        assert_eq!(read("state", "all").unwrap().state, None);
        assert_eq!(read("state", "").unwrap().state, Some(State::Open));
        assert_eq!(read("from", "1970-01-01T00:00:01Z").unwrap().from_ns, 1_000_000_000);
        assert_eq!(read("limit", "1000").unwrap().limit, 1_000);
        assert_eq!(
            read("after", "20261122.42-57").unwrap().after.unwrap().to_string(),
            "20261122.42-57"
        );
        for (name, value, right) in [
            ("reason", "none", "version_conflict"),
            ("kind", "row", "record or line"),
            ("from", "yesterday", "RFC 3339"),
            ("lsn", "-1", "number of a frame"),
            ("state", "shut", "open, resubmitted, again or all"),
            ("order", "up", "newest or oldest"),
            ("limit", "0", "1 to 1000"),
            ("limit", "1001", "1 to 1000"),
            ("after", "42-57", "next"),
        ] {
            let fault = read(name, value).unwrap_err();
            assert_eq!(fault.status(), 400);
            assert!(fault.message.contains(right), "{}", fault.message);
        }
    }

    fn asked(query: &str) -> Result<Query, Fault> {
        let headers = hyper::HeaderMap::new();
        let caller = Arc::new(Caller::anonymous());
        of_list(&Call { params: Params::parse(query).unwrap(), headers: &headers, caller })
    }

    #[test]
    fn a_parameter_that_there_is_not_is_told_with_what_may_have_been_meant() {
        for (query, told) in [
            ("database=iot", "no parameter \"database\"; did you mean db? There are reason, db,"),
            ("db=iot&bucket=iot", "did you mean db?"),
            ("tabel=weather", "did you mean table?"),
            ("reasons=x", "did you mean reason?"),
            ("oldest=true", "did you mean order=oldest?"),
            ("since=1", "did you mean from?"),
            ("id=42-57", "did you mean /api/v1/rejects/ID?"),
            ("nonsense=1", "no parameter \"nonsense\": there are reason"),
            ("db=iot&table=a&db=iot", "the parameter db stands twice"),
            ("all=yes", "use true or false"),
            ("all=true&state=open", "contradict"),
        ] {
            let fault = asked(query).unwrap_err();
            assert_eq!(fault.status(), 400, "{query}");
            assert!(fault.message.contains(told), "{query}: {}", fault.message);
        }
        // Who asks is not what is asked.
        assert_eq!(asked("u=me&p=secret&db=iot").unwrap().database.as_deref(), Some("iot"));
        assert_eq!(asked("").unwrap(), Query::default());
        for all in ["all=true", "state=all", "state=all&all=true"] {
            assert_eq!(asked(all).unwrap().state, None, "{all}");
        }
        assert_eq!(asked("all=false").unwrap().state, Some(State::Open));
    }
}
