//! How rejections are mended, as a mark remembers it: so that the same command, given once more, is known from
//! another one.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use xxhash_rust::xxh3::xxh3_128;

use super::resubmit::Request;
use super::shell;
use crate::reject::mark::{Correction, Resubmitted};

/// Most characters of a flag's value in the words of a correction.
const TEXT_CHARS_MAX: usize = 160;

/// How a request mends what it sends.
pub(super) fn of(request: &Request) -> Correction {
    // A number means the same as its text.
    let set: BTreeMap<&str, String> = request
        .set
        .iter()
        .map(|(name, value)| {
            (name.as_str(), value.as_str().map_or(value.to_string(), str::to_owned))
        })
        .collect();
    let json = request.json.as_ref().map(|json| json.get());
    let all = json!([set, request.line, json, request.format, request.precision]);
    let hash = format!("{:032x}", xxh3_128(all.to_string().as_bytes()));
    let mut said: Vec<String> =
        set.iter().map(|(name, value)| flag("set", &format!("{name}={value}"))).collect();
    // What is JSON says so by its flag.
    let format = request.format.as_deref().filter(|_| json.is_none());
    let flags = [
        ("line", request.line.as_deref()),
        ("json", json),
        ("text-format", format),
        ("precision", request.precision.as_deref()),
    ];
    let given = flags.iter().filter_map(|(name, text)| Some((name, (*text)?)));
    said.extend(given.map(|(name, text)| flag(name, text)));
    let said = if said.is_empty() { Correction::NONE.to_owned() } else { said.join(" ") };
    Correction { said, hash }
}

/// A flag that can be pasted. What is too long is cut off, and what is left then is no word that a shell takes: half
/// of a correction must not be given for all of it.
fn flag(name: &str, text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => {
            let chars = text.chars().count();
            format!("{}..({chars} characters)", shell::flag(name, &text[..end]))
        }
        None => shell::flag(name, text),
    }
}

/// Whether a rejection was taken as this request would mend it. Where nobody remembers, it was not.
pub(super) fn is_same(taken: Option<&Resubmitted>, correction: &Correction) -> bool {
    let known = taken.and_then(|taken| taken.correction.as_ref());
    known.is_some_and(|known| known.hash == correction.hash)
}

/// What whoever sends a rejection that was taken is told.
pub(super) fn taken_before(taken: &Resubmitted, is_same: bool) -> Json {
    let how = taken.correction.as_ref().map_or("a correction that was not kept", |how| &how.said);
    let (at, by) = (taken.at, &taken.by);
    let mut message = format!("already taken at {at} by {by}, {how}; nothing was sent");
    if !is_same {
        message.push_str(
            ". To change what was stored, write the record as any other, with a version above the one that \
             stands; or send the rejection once more with --again (\"again\": true)",
        );
    }
    json!({ "message": message, "resubmitted_lsn": taken.lsn })
}
