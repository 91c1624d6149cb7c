//! Where a refused line ends, and where things stand in it. Read only after something went wrong.
//!
//! A newline ends a refused line unless it stands inside a string that is opened as a value of a field
//! (`="`) and closed before something that may follow a value. So the text of a log message that a
//! broken line carries is never taken for lines of its own. A quote that is never closed like that is
//! part of what is broken, and the next newline ends the line; only a line whose sole fault is a
//! string without an end reaches to the end of the body.

use super::grammar;
use super::syntax::Wanted;
use super::text::Kind;

/// How many bytes of `start`, the body from the refused line on, belong to that line. The error lies
/// `place` bytes behind its start.
pub(super) fn refused_bytes(start: &str, place: usize, wanted: Wanted) -> usize {
    if wanted == Wanted::ClosingQuote {
        return start.len();
    }
    let bytes = start.as_bytes();
    let mut in_fields = !wanted.is_before_fields();
    let mut previous = place.checked_sub(1).and_then(|before| bytes.get(before)).copied();
    let mut at = place;
    while let Some(rest @ [byte, ..]) = bytes.get(at..) {
        let step = match byte {
            b'\n' => break,
            b'\\' if rest.get(1).is_some_and(|next| Kind::Name.escapes(*next)) => 2,
            b'"' if in_fields && previous == Some(b'=') => string_bytes(rest).unwrap_or(1),
            _ => 1,
        };
        in_fields |= *byte == b' ';
        previous = Some(*byte).filter(|_| step == 1);
        at = at.wrapping_add(step);
    }
    let ends_in_return = at > place && bytes.get(at.wrapping_sub(1)) == Some(&b'\r');
    at.wrapping_sub(usize::from(ends_in_return))
}

/// The length of the string at the start of `bytes`, quotes and all, if something that may follow a
/// value follows it.
fn string_bytes(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes.get(1..)?;
    loop {
        rest = match rest {
            [b'\\', next, after @ ..] if Kind::String.escapes(*next) => after,
            [b'"', after @ ..] => {
                let ends = matches!(after, [] | [b',' | b' ' | b'\n' | b'\r', ..]);
                return ends.then_some(bytes.len().wrapping_sub(after.len()));
            }
            [_, after @ ..] => after,
            [] => return None,
        };
    }
}

/// Which part of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldPart {
    Key,
    Value,
}

/// How many bytes into `line`, which keeps the grammar, its tag `number` begins.
pub(super) fn tag_place(line: &str, number: usize) -> usize {
    let before = (0..number).fold(after_measurement(line), |rest, _| after_tag(rest));
    line.len().wrapping_sub(before.len()).wrapping_add(1)
}

/// How many bytes into `line`, which keeps the grammar, a part of its field `number` begins.
pub(super) fn field_place(line: &str, number: usize, part: FieldPart) -> usize {
    let mut rest = after_measurement(line);
    while rest.starts_with(',') {
        rest = after_tag(rest);
    }
    let field = (0..number).fold(grammar::spaces(rest), |rest, _| after_field(rest));
    let place = line.len().wrapping_sub(field.len());
    match part {
        FieldPart::Key => place,
        FieldPart::Value => line.len().wrapping_sub(after_field_key(field).len()),
    }
}

fn after_measurement(line: &str) -> &str {
    grammar::measurement(grammar::spaces(line)).map(|(rest, _)| rest).unwrap_or_default()
}

/// What follows the tag behind the comma that `rest` starts with.
fn after_tag(rest: &str) -> &str {
    let tag = rest.get(1..).unwrap_or_default();
    let value = grammar::tag_key(tag).map(|(value, _)| value).unwrap_or_default();
    grammar::tag_value(value).map(|(rest, _)| rest).unwrap_or_default()
}

fn after_field_key(field: &str) -> &str {
    grammar::field_key(field).map(|(rest, _)| rest).unwrap_or_default()
}

/// What follows the field that `rest` starts with, and the comma behind it.
fn after_field(field: &str) -> &str {
    let value = after_field_key(field);
    let after = match grammar::string(value) {
        Ok((after, _)) if value.starts_with('"') => after,
        _ => value.trim_start_matches(|byte| byte != ','),
    };
    after.get(1..).unwrap_or_default()
}

/// How many bytes into `line` its tags begin, or would.
pub(super) fn tags_place(line: &str) -> usize {
    line.len().wrapping_sub(after_measurement(line).len())
}

/// How many bytes into `line` its timestamp begins: its last word.
pub(super) fn timestamp_place(line: &[u8]) -> usize {
    let words = line.trim_ascii_end();
    let timestamp = words.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    words.len().wrapping_sub(timestamp.len())
}
