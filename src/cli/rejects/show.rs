//! Rejections as people read them on a terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::Value;

use crate::reject::archive::Rejected;
use crate::reject::entry::{MeasureJson, Moment, RecordJson};
use crate::reject::mark::Resubmitted;
use crate::reject::select::State;

/// The head of a list.
pub(super) const HEAD: &str = "ID\tRECEIVED\tDATABASE\tTABLE\tREASON\tSTATE\tMESSAGE\n";

/// Characters of a message in a list.
const MESSAGE_CHARS_MAX: usize = 100;

/// A text without the characters that a terminal would obey: names and lines are whatever a client sent.
pub(super) fn plain(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut plain, c| {
        // Marks of direction turn the order of what follows around, without being control characters.
        let is_mark = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || is_mark {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
        plain
    })
}

/// One line of a list.
pub(super) fn row(one: &Rejected) -> String {
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
        one.state.name(),
    )
}

/// All about one.
pub(super) fn explained(one: &Rejected) -> String {
    let entry = &one.entry;
    let mut out = String::new();
    let mut line = |name: &str, text: &str| {
        writeln!(out, "{name:<10}{}", plain(text)).expect("a string takes everything");
    };
    line("id", &entry.id.to_string());
    match &one.resubmitted {
        Some(sent) => line("state", &format!("{}: sent again {}", one.state.name(), how(sent))),
        None => line("state", one.state.name()),
    }
    line("table", &format!("{} in {}", one.table.as_deref().unwrap_or("(not told)"), one.database));
    line(
        "received",
        &format!("{}, frame {}, line or record {}", entry.received, entry.lsn, entry.number),
    );
    line("reason", &format!("{}: {}", entry.reason, entry.reason.meaning()));
    line("", &entry.message);
    if let Some(stood) = entry.existing_version {
        let sent = entry.record.as_ref().and_then(|record| record.version);
        let sent = sent.map_or(String::new(), |sent| format!(", sent {sent}"));
        line("version", &format!("stood {stood}{sent}"));
    }
    if let Some(again) = &one.refused_again {
        let why = &again.why;
        line("again", &format!("sent again {}", how(&again.sent)));
        line("", &format!("refused once more: {}: {}", why.reason, why.message));
        if let Some(stood) = why.existing_version {
            line("", &format!("stood {stood} by then"));
        }
    }
    if let Some(record) = &entry.record {
        line("key", &key(record));
        for measure in measures(record) {
            line("", &compared(&measure, (&entry.stood, &record.measure_name)));
        }
    }
    match (&entry.line, &entry.line_base64) {
        (Some(text), _) => line("text", text),
        (None, Some(text)) => line("base64", text),
        (None, None) => {}
    }
    if let Some(reading) = &entry.reading {
        let format = if reading.is_json() { "JSON" } else { "line protocol" };
        let table = reading.table.as_ref().map(|table| format!(", table {table}"));
        let unit = &reading.precision;
        line("as", &format!("{format}, timestamps in {unit}{}", table.unwrap_or_default()));
        if let Some(within) = &reading.within {
            line("within", within);
        }
    }
    line("fix", one.reason().remedy());
    if let Some(what) = command(one) {
        line("", &what);
    }
    out + "\n"
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

/// By whom, when and how it was sent again.
fn how(sent: &Resubmitted) -> String {
    let mended = sent.correction.as_ref().map(|how| format!(", {}", how.said));
    format!("in frame {} at {} by {}{}", sent.lsn, sent.at, sent.by, mended.unwrap_or_default())
}

/// What names the record, and when it was measured.
fn key(record: &RecordJson) -> String {
    let names: Vec<String> =
        record.dimensions.iter().map(|one| format!("{}={}", one.name, one.value)).collect();
    let time =
        record.time.parse().map_or_else(|_| record.time.clone(), |ns| Moment(ns).to_string());
    format!("{} / {} / {time}", names.join(", "), record.measure_name)
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
            write!(out, "\t{}", plain(text(member))).expect("a string takes everything");
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
