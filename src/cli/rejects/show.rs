//! Rejections as people read them on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::Value;

use crate::api::rejects::shell;
use crate::api::rejects::told::{key, remedy};
use crate::base::lsn::Lsn;
use crate::reject::archive::Rejected;
use crate::reject::entry::{Entry, MeasureJson, RecordJson};
use crate::reject::mark::{RefusedAgain, Resubmitted};
use crate::reject::select::State;

/// The head of a list.
pub(super) const HEAD: &str = "ID\tRECEIVED\tDATABASE\tTABLE\tREASON\tSTATE\tMESSAGE\n";

/// Characters of a message in a list.
const MESSAGE_CHARS_MAX: usize = 100;

/// A text without the characters that a terminal would obey: names and lines are whatever a client sent.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        if shell::is_obeyed(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
        plain
    })
}

/// One line of a list.
pub(super) fn row(one: &Rejected, is_under_way: bool) -> String {
    let entry = &one.entry;
    let table = one.table.as_deref().unwrap_or("-");
    let message: String = plain(&entry.message).chars().take(MESSAGE_CHARS_MAX).collect();
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{message}\n",
        entry.id,
        entry.received,
        plain(&one.database),
        plain(table),
        entry.reason,
        if is_under_way { "under_way" } else { one.state.name() },
    )
}

/// A text under a name, as `show` tells it.
fn line(out: &mut String, name: &str, text: &str) {
    pasted(out, name, &plain(text));
}

/// The same of a text that commands no terminal as it is, and is to be pasted so.
fn pasted(out: &mut String, name: &str, text: &str) {
    writeln!(out, "{name:<10}{text}").expect("a string takes everything");
}

/// All about one, which may be under way in a frame.
pub(super) fn explained(one: &Rejected, under_way: Option<Lsn>) -> String {
    let entry = &one.entry;
    let out = &mut String::new();
    line(out, "id", &entry.id.to_string());
    let state = one.state.name();
    match (&one.resubmitted, under_way) {
        (Some(sent), _) => pasted(out, "state", &format!("{state}: sent again {}", how(sent))),
        (None, Some(lsn)) => {
            line(
                out,
                "state",
                &format!("{state}: sent again in frame {lsn}, which is not executed yet"),
            );
        }
        (None, None) => line(out, "state", state),
    }
    let table = one.table.as_deref().unwrap_or("(not told)");
    line(out, "table", &format!("{table} in {}", one.database));
    let Entry { received, lsn, number, .. } = entry;
    line(out, "received", &format!("{received}, frame {lsn}, line or record {number}"));
    line(out, "reason", &format!("{}: {}", entry.reason, entry.reason.meaning()));
    line(out, "", &entry.message);
    if let Some(stood) = entry.existing_version {
        let sent = entry.record.as_ref().and_then(|record| record.version);
        let sent = sent.map_or(String::new(), |sent| format!(", sent {sent}"));
        line(out, "version", &format!("stood {stood}{sent}"));
    }
    if let Some(again) = &one.refused_again {
        refused_again(out, again);
    }
    if let Some(record) = &entry.record {
        line(out, "key", &key(record));
        for measure in measures(record) {
            line(out, "", &compared(&measure, (&entry.stood, &record.measure_name)));
        }
    }
    refused_text(out, entry);
    line(out, "fix", &remedy(one));
    if let Some(what) = command(one) {
        line(out, "", &what);
    }
    out.push('\n');
    std::mem::take(out)
}

/// That it was sent again and refused once more, the last time.
fn refused_again(out: &mut String, again: &RefusedAgain) {
    let why = &again.why;
    pasted(out, "again", &format!("sent again {}", how(&again.sent)));
    line(out, "", &format!("refused once more: {}: {}", why.reason, why.message));
    let Some(stood) = why.existing_version else { return };
    let at = why.key.as_ref().map(|key| format!(", at the key that it was sent to: {key}"));
    line(out, "", &format!("stood {stood} by then{}", at.unwrap_or_default()));
}

/// The text that never was a record, and how it was to be read.
fn refused_text(out: &mut String, entry: &Entry) {
    match (&entry.line, &entry.line_base64) {
        (Some(text), _) => line(out, "text", text),
        (None, Some(text)) => line(out, "base64", text),
        (None, None) => {}
    }
    let Some(reading) = &entry.reading else { return };
    let format = if reading.is_json() { "JSON" } else { "line protocol" };
    let table = reading.table.as_ref().map(|table| format!(", table {table}"));
    let unit = &reading.precision;
    line(out, "as", &format!("{format}, timestamps in {unit}{}", table.unwrap_or_default()));
    if let Some(within) = &reading.within {
        line(out, "within", within);
    }
}

/// What to type, or to do, of one that is still open; `None` where nobody knows.
fn command(one: &Rejected) -> Option<String> {
    if one.state != State::Open {
        return None;
    }
    let typed = one
        .suggested()
        .map(|set| format!("tidegate rejects resubmit {} --set {set}", one.entry.id));
    let told =
        "this is of what was sent with that correction: give it again, changed as told above";
    typed.or_else(|| one.was_changed().then(|| told.to_owned()))
}

/// By whom, when and how it was sent again; the how can be pasted.
fn how(sent: &Resubmitted) -> String {
    let mended = sent.correction.as_ref().map(|how| format!(", {}", shell::shown(&how.said)));
    let by = plain(&sent.by);
    format!("in frame {} at {} by {by}{}", sent.lsn, sent.at, mended.unwrap_or_default())
}

/// The values of a record, the one of a scalar too.
fn measures(record: &RecordJson) -> Vec<MeasureJson> {
    let scalar = record.measure_value.as_ref().map(|value| MeasureJson {
        name: String::new(),
        value: value.clone(),
        r#type: record.measure_value_type.clone(),
    });
    record.measure_values.iter().flatten().cloned().chain(scalar).collect()
}

/// What was sent, beside what stood; under the name by which it is set.
fn compared(sent: &MeasureJson, (stood, measure_name): (&[MeasureJson], &str)) -> String {
    let name = if sent.name.is_empty() { measure_name } else { &sent.name };
    let stood = stood.iter().find(|one| one.name == sent.name);
    let stood =
        stood.map_or(String::new(), |one| format!("   stood {} ({})", one.value, one.r#type));
    format!("{name}   sent {} ({}){stood}", sent.value, sent.r#type)
}

/// Says how many texts a look for a table has passed over.
pub(super) fn untold(count: u64) {
    if count > 0 {
        let why = "since nobody can tell their table: leave out --table to have them too";
        // Standard error may be closed; the list is what was asked for.
        drop(writeln!(io::stderr(), "refused texts that were passed over: {count}, {why}"));
    }
}

/// What became of one that was sent again.
pub(super) fn outcome(result: &Value, outcome: &str) -> String {
    let text = |member: &str| result[member].as_str().unwrap_or_default();
    let mut out = format!("{}\t{outcome}", plain(text("id")));
    for member in ["reason", "message"] {
        if !text(member).is_empty() {
            // A message may tell of a correction, which can be pasted.
            write!(out, "\t{}", shell::shown(text(member))).expect("a string takes everything");
        }
    }
    if !result["sent"].is_null() {
        write!(out, "\t{}", plain(&result["sent"].to_string())).expect("a string takes everything");
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_client_sent_commands_the_terminal() {
        let hostile = "a\u{1b}[2J\n\u{202e}b\u{9b}\u{7f}\t";
        let shown = plain(hostile);
        assert!(!shown.chars().any(|c| c.is_control() || c == '\u{202e}'), "{shown:?}");
        assert!(shown.starts_with("a\\u{1b}[2J\\u{a}") && shown.contains('b'));
        assert_eq!(plain("Grüße, 温"), "Grüße, 温");
    }
}
