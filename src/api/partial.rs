//! A receipt as a reply: 204 where everything was taken, else one body that the clients of all
//! families read.
//!
//! ```text
//! {"code":"invalid",                        InfluxDB 2
//!  "error":"partial write: ..",             InfluxDB 1 and 3
//!  "message":"partial write: ..",           InfluxDB 2
//!  "line":17,                               InfluxDB Cloud
//!  "data":[{"line_number":17,"column":4,"original_line":"..","error_message":"..","reason":"type_conflict"}],
//!  "rejections":{"count":2,"stored":4998},  how many were refused, how many taken
//!  "rejects":"/api/v1/rejects?lsn=42",      where they are kept; the header `X-Tidegate-Rejects` too
//!  "durability":"sync","lsn":42}
//! ```
//!
//! Only the wording differs. Clients search it: Telegraf for `partial write` and `unable to parse
//! '<line>': <reason>`, `influxdb3-python` for `partial write of line protocol occurred`. Where nothing
//! was taken, nothing says "partial write".
//!
//! The status is 400, or 422 where one of the named refusals is a limit
//! ([`Reason::is_limit`]); both make a client drop what it sent, which is right, since the good lines
//! are stored and the bad ones stay bad.
//!
//! `/api/v1/write` answers with a receipt of its own instead, 200 as long as anything was taken:
//! `{"accepted":2,"rejected":[{"index":1,"reason":"invalid_value","message":".."}],"rejected_count":1,
//! "lsn":42,"durability":"sync"}`, with `line` for `index` where lines are counted. When all was
//! refused it is 400, or 422 as above, and `code` and `error` join in.

use std::fmt::Write as _;

use hyper::StatusCode;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::fault::{Family, error_headers};
use super::rejects;
use super::reply::Reply;
use super::write::{Form, Plan};
use crate::base::lsn::Lsn;
use crate::ingest::{NamedRefusal, Receipt};
use crate::record::Reason;

/// Most refusals that the text of an error names; `data` names up to a hundred.
const REFUSALS_IN_TEXT_MAX: usize = 10;

const X_TIDEGATE_DURABILITY: HeaderName = HeaderName::from_static("x-tidegate-durability");
const X_TIDEGATE_LSN: HeaderName = HeaderName::from_static("x-tidegate-lsn");

/// Where what was refused of a request is found: a path of this server.
pub const X_TIDEGATE_REJECTS: HeaderName = HeaderName::from_static("x-tidegate-rejects");

/// Answers a write by its receipt.
pub fn reply(plan: &Plan, receipt: &Receipt) -> Reply {
    let reply = match plan.family {
        Family::Native => native(plan, receipt),
        _ if receipt.refused == 0 => Reply::empty(StatusCode::NO_CONTENT),
        _ => refused(plan, receipt),
    };
    let reply =
        reply.with(X_TIDEGATE_DURABILITY, HeaderValue::from_static(receipt.durability.name()));
    let reply = match receipt.lsn {
        Some(lsn) => reply.with(X_TIDEGATE_LSN, HeaderValue::from(lsn.0)),
        None => reply,
    };
    match kept_in(receipt) {
        Some(lsn) => reply.with(X_TIDEGATE_REJECTS, link(lsn)),
        None => reply,
    }
}

/// The link to what was refused of a frame.
pub fn link(lsn: Lsn) -> HeaderValue {
    HeaderValue::from_str(&rejects::link(lsn)).expect("a path and digits are visible ASCII")
}

/// The frame with which what was refused is kept. A request that was refused as a whole on purpose is not
/// kept at all: its sender has it.
fn kept_in(receipt: &Receipt) -> Option<Lsn> {
    receipt.lsn.filter(|_| receipt.refused > 0)
}

fn refused(plan: &Plan, receipt: &Receipt) -> Reply {
    let (status, code) = status_of(receipt);
    let (error, message) = words(plan, receipt);
    let data: Vec<Value> = receipt.named.iter().map(|refusal| line_of(plan, refusal)).collect();
    let mut body = json!({
        "code": code,
        "error": error,
        "message": message,
        "data": data,
        "rejections": { "count": receipt.refused, "stored": receipt.accepted },
        "durability": receipt.durability.name(),
        "lsn": receipt.lsn,
    });
    if let Some(lsn) = kept_in(receipt) {
        body["rejects"] = rejects::link(lsn).into();
    }
    if let Some(first) = causes(receipt).next() {
        body["line"] = first.number.into();
    }
    error_headers(Reply::json(status, &body), plan.family, code, &error)
}

fn native(plan: &Plan, receipt: &Receipt) -> Reply {
    let place = if plan.form.counts_lines() { "line" } else { "index" };
    let rejected: Vec<Value> = receipt
        .named
        .iter()
        .map(|refusal| {
            let mut named = json!({
                place: refusal.number,
                "reason": refusal.reason.code(),
                "message": refusal.message,
                "text": refusal.text,
            });
            put_column(&mut named, refusal);
            if let Some(version) = refusal.existing_version {
                named["existing_version"] = version.into();
            }
            named
        })
        .collect();
    let mut body = json!({
        "accepted": receipt.accepted,
        "rejected": rejected,
        "rejected_count": receipt.refused,
        "lsn": receipt.lsn,
        "durability": receipt.durability.name(),
    });
    if let Some(lsn) = kept_in(receipt) {
        body["rejects"] = rejects::link(lsn).into();
    }
    if receipt.refused == 0 || receipt.accepted > 0 {
        return Reply::json(StatusCode::OK, &body);
    }
    let (status, code) = status_of(receipt);
    body["code"] = code.into();
    body["error"] = summary(plan, receipt).into();
    Reply::json(status, &body)
}

fn status_of(receipt: &Receipt) -> (StatusCode, &'static str) {
    if receipt.named.iter().any(|refusal| refusal.reason.is_limit()) {
        (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable entity")
    } else {
        (StatusCode::BAD_REQUEST, "invalid")
    }
}

/// What stands as `error` and as `message`.
fn words(plan: &Plan, receipt: &Receipt) -> (String, String) {
    let (summary, texts) = (summary(plan, receipt), texts(plan, receipt));
    let is_partial = receipt.accepted > 0;
    match plan.family {
        Family::V3 if is_partial => ("partial write of line protocol occurred".into(), summary),
        Family::V3 => ("line protocol parsing error".into(), summary),
        Family::V2 if is_partial => (summary.clone(), summary),
        Family::V2 => (texts.clone(), texts),
        Family::V1 | Family::Native | Family::Timestream | Family::DataZone if is_partial => {
            (format!("partial write: {texts} dropped={}", receipt.refused), summary)
        }
        Family::V1 | Family::Native | Family::Timestream | Family::DataZone => (texts, summary),
    }
}

/// One line: how many were refused, and the first of them.
fn summary(plan: &Plan, receipt: &Receipt) -> String {
    let all = receipt.all();
    let things = if plan.form.counts_lines() { "line" } else { "record" };
    let mut text = if receipt.accepted > 0 { "partial write: ".to_owned() } else { String::new() };
    write!(text, "{} of {all} {things}s rejected", receipt.refused).expect("a String takes all");
    if let Some(first) = causes(receipt).next() {
        write!(text, "; first at {things} {}", first.number).expect("a String takes all");
        if first.column > 0 {
            write!(text, ", column {}", first.column).expect("a String takes all");
        }
        write!(text, ": {} {}", first.reason, text_of(plan, first)).expect("a String takes all");
    }
    if receipt.untaken > 0 {
        text.push_str("; nothing of the request is stored, as accept_partial=false asks");
    }
    write!(text, "; dropped={}", receipt.refused + receipt.untaken).expect("a String takes all");
    text
}

/// The first refusals in the words of `InfluxDB` 1, one a line.
fn texts(plan: &Plan, receipt: &Receipt) -> String {
    let texts: Vec<String> =
        causes(receipt).take(REFUSALS_IN_TEXT_MAX).map(|refusal| text_of(plan, refusal)).collect();
    texts.join("\n")
}

/// The refusals that are to blame: not those that share a refused request with them, unless there
/// are no others.
fn causes(receipt: &Receipt) -> impl Iterator<Item = &NamedRefusal> {
    let is_cause = |refusal: &NamedRefusal| refusal.reason != Reason::NotTaken;
    let only_others = !receipt.named.iter().any(is_cause);
    receipt.named.iter().filter(move |refusal| only_others || is_cause(refusal))
}

/// One refusal in the words of `InfluxDB` 1.
fn text_of(plan: &Plan, refusal: &NamedRefusal) -> String {
    let NamedRefusal { reason, message, text, .. } = refusal;
    match reason {
        Reason::TypeConflict => format!("field type conflict: {message}"),
        Reason::NoMeasure if matches!(plan.form, Form::Line(_)) => {
            format!("unable to parse '{text}': missing fields: {message}")
        }
        Reason::TableNotFound
        | Reason::NotTaken
        | Reason::Forbidden
        // The engine's: the line could be parsed well enough.
        | Reason::VersionLower
        | Reason::VersionConflict
        | Reason::TableDeleted => message.clone(),
        _ if text.is_empty() => message.clone(),
        _ => format!("unable to parse '{text}': {message}"),
    }
}

fn line_of(plan: &Plan, refusal: &NamedRefusal) -> Value {
    let mut line = json!({
        "line_number": refusal.number,
        "original_line": refusal.text,
        "error_message": match plan.family {
            Family::V3 => refusal.message.clone(),
            _ => text_of(plan, refusal),
        },
        "reason": refusal.reason.code(),
    });
    put_column(&mut line, refusal);
    line
}

/// Names the column, where one is to blame.
fn put_column(of: &mut Value, refusal: &NamedRefusal) {
    if refusal.column > 0 {
        of["column"] = refusal.column.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::Content;
    use crate::ingest::Durability;
    use crate::ingest::Partial;
    use crate::protocol::{json, line};

    fn plan(family: Family) -> Plan {
        Plan {
            family,
            database: "fleet".into(),
            table: None,
            form: Form::Line(line::Precision::Nanoseconds),
            durability: None,
            partial: Partial::Accept,
            key: None,
        }
    }

    fn refusal(number: u64, reason: Reason, text: &str, message: &str) -> NamedRefusal {
        let (message, text) = (message.into(), text.into());
        NamedRefusal { number, column: 4, reason, message, text, existing_version: None }
    }

    fn receipt(accepted: u64, named: Vec<NamedRefusal>) -> Receipt {
        let lsn = (accepted > 0).then_some(Lsn(42));
        let refused = named.len() as u64;
        Receipt {
            lsn,
            durability: Durability::Sync,
            accepted,
            magnetic: 0,
            refused,
            untaken: 0,
            named,
        }
    }

    fn shown(plan: &Plan, receipt: &Receipt) -> (Reply, Value) {
        let reply = reply(plan, receipt);
        let body = match &reply.content {
            Content::Full(bytes) => serde_json::from_slice(bytes).unwrap(),
            _ => Value::Null,
        };
        (reply, body)
    }

    #[test]
    fn a_whole_write_is_204_and_says_how_durable_it_is_and_where() {
        for family in [Family::V1, Family::V2, Family::V3] {
            let (reply, body) = shown(&plan(family), &receipt(3, Vec::new()));
            assert_eq!((reply.status.as_u16(), body), (204, Value::Null));
            assert_eq!(reply.headers["x-tidegate-durability"], "sync");
            assert_eq!(reply.headers["x-tidegate-lsn"], "42");
        }
        let (reply, _) = shown(&plan(Family::V1), &receipt(0, Vec::new()));
        assert_eq!(reply.status, 204);
        assert!(!reply.headers.contains_key("x-tidegate-lsn"));
    }

    #[test]
    fn one_body_holds_what_the_clients_of_all_families_look_for() {
        let some = receipt(2, vec![refusal(2, Reason::InvalidValue, "bad f=x", "no number")]);
        for (family, error) in [
            (Family::V1, "partial write: unable to parse 'bad f=x': no number dropped=1"),
            (
                Family::V2,
                "partial write: 1 of 3 lines rejected; first at line 2, column 4: invalid_value \
                 unable to parse 'bad f=x': no number; dropped=1",
            ),
            (Family::V3, "partial write of line protocol occurred"),
        ] {
            let (reply, body) = shown(&plan(family), &some);
            assert_eq!((reply.status.as_u16(), &body["error"]), (400, &Value::from(error)));
            assert!(body["message"].as_str().unwrap().starts_with("partial write: 1 of 3"));
            assert_eq!((&body["code"], &body["line"]), (&"invalid".into(), &2.into()));
            assert_eq!(body["data"][0]["line_number"], 2);
            assert_eq!(body["data"][0]["original_line"], "bad f=x");
            assert_eq!(body["data"][0]["reason"], "invalid_value");
            assert_eq!(body["rejections"], json!({ "count": 1, "stored": 2 }));
            assert_eq!((&body["durability"], &body["lsn"]), (&"sync".into(), &42.into()));
        }
    }

    #[test]
    fn a_refusal_that_is_kept_is_linked_in_header_and_body() {
        let some = receipt(2, vec![refusal(2, Reason::InvalidValue, "bad f=x", "no number")]);
        let none = receipt(0, vec![refusal(1, Reason::NotTaken, "bad f=x", "no number")]);
        for family in [Family::V1, Family::V2, Family::V3, Family::Native] {
            let (reply, body) = shown(&plan(family), &some);
            assert_eq!(reply.headers["x-tidegate-rejects"], "/api/v1/rejects?lsn=42");
            assert_eq!(body["rejects"], "/api/v1/rejects?lsn=42");
            let (reply, body) = shown(&plan(family), &none);
            assert!(!reply.headers.contains_key("x-tidegate-rejects"), "nothing was kept");
            assert_eq!(body.get("rejects"), None);
            let (reply, _) = shown(&plan(family), &receipt(2, Vec::new()));
            assert!(!reply.headers.contains_key("x-tidegate-rejects"), "nothing was refused");
        }
    }

    #[test]
    fn nothing_says_partial_write_where_nothing_was_taken() {
        let none = receipt(0, vec![refusal(1, Reason::NoMeasure, "bad", "no field")]);
        for family in [Family::V1, Family::V2, Family::V3, Family::Native] {
            let (reply, body) = shown(&plan(family), &none);
            assert_eq!(reply.status, 400);
            assert!(!body.to_string().contains("partial write"), "{body}");
        }
        let (_, body) = shown(&plan(Family::V2), &none);
        assert_eq!(body["message"], "unable to parse 'bad': missing fields: no field");
    }

    #[test]
    fn a_limit_is_422_and_a_type_conflict_is_400() {
        let wide = receipt(1, vec![refusal(2, Reason::TooManyMeasures, "m ..", "1025 fields")]);
        assert_eq!(shown(&plan(Family::V1), &wide).0.status, 422);
        let mixed = receipt(1, vec![refusal(2, Reason::TypeConflict, "m f=1", "f is BIGINT")]);
        let (reply, body) = shown(&plan(Family::V1), &mixed);
        assert_eq!(reply.status, 400);
        assert_eq!(body["error"], "partial write: field type conflict: f is BIGINT dropped=1");
    }

    #[test]
    fn a_refused_request_blames_its_bad_lines_and_not_the_good_ones_beside_them() {
        let all = receipt(
            0,
            vec![
                refusal(1, Reason::NotTaken, "good f=1", "refused with line 2"),
                refusal(2, Reason::InvalidValue, "bad f=x", "no number"),
            ],
        );
        let (_, body) = shown(&plan(Family::V1), &all);
        assert_eq!(body["error"], "unable to parse 'bad f=x': no number");
        assert_eq!(body["line"], 2);
        assert_eq!(body["data"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn the_native_receipt_is_200_while_anything_was_taken() {
        let mut plan = plan(Family::Native);
        plan.form = Form::Json(json::Form::Document, json::Precision::Ms);
        let (reply, body) = shown(&plan, &receipt(0, Vec::new()));
        assert_eq!((reply.status.as_u16(), &body["accepted"]), (200, &0.into()));
        let bad = || vec![refusal(1, Reason::InvalidTime, "{}", "no time")];
        let (reply, body) = shown(&plan, &receipt(5, bad()));
        assert_eq!((reply.status.as_u16(), &body["rejected_count"]), (200, &1.into()));
        assert_eq!(body["rejected"][0]["index"], 1);
        assert_eq!(body["rejected"][0]["reason"], "invalid_time");
        let (reply, body) = shown(&plan, &receipt(0, bad()));
        assert_eq!((reply.status.as_u16(), &body["code"]), (400, &"invalid".into()));
        assert!(body["error"].as_str().unwrap().contains("record 1"));
    }
}
