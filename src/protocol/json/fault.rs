//! Why a record is refused, while it is still being read.

use std::fmt;

use crate::record::Reason;

/// Most characters of a text that a message quotes.
const EXCERPT_CHARS_MAX: usize = 48;

/// Most characters of a message of the reader.
const READER_CHARS_MAX: usize = 160;

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault<'a> {
    /// The part of the record that is wrong; a text from elsewhere where none is to blame.
    pub(super) at: &'a str,
    pub(super) reason: Reason,
    pub(super) message: String,
}

impl<'a> Fault<'a> {
    /// What ended a walk over `text`: a fault that a record's own rules found, or else the reader's.
    #[cold]
    pub(super) fn of(found: Option<Self>, text: &'a str, error: &serde_json::Error) -> Self {
        found.unwrap_or_else(|| Self {
            at: text.get(offset(text, error)..).unwrap_or_default(),
            reason: Reason::InvalidSyntax,
            message: without_position(error),
        })
    }

    /// The column in `text`, from 1; 0 where nothing in it is to blame.
    pub(super) fn column_in(&self, text: &str) -> u64 {
        offset_in(text, self.at).map_or(0, |offset| (offset as u64).saturating_add(1))
    }
}

/// A text for a message: its first characters, on one line.
pub(super) struct Excerpt<'a>(pub(super) &'a str);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write as _;
        let mut chars = self.0.chars();
        for char in chars.by_ref().take(EXCERPT_CHARS_MAX) {
            f.write_char(if char.is_control() { ' ' } else { char })?;
        }
        f.write_str(if chars.as_str().is_empty() { "" } else { ".." })
    }
}

/// Where `part`, a part of `text`, begins in it; `None` where it is a text from elsewhere.
pub(super) fn offset_in(text: &str, part: &str) -> Option<usize> {
    let offset = part.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
    let end = offset.checked_add(part.len())?;
    (end <= text.len()).then_some(offset)
}

/// The offset of the first byte of `text` that made reading it fail.
pub(super) fn offset(text: &str, error: &serde_json::Error) -> usize {
    if error.is_eof() {
        return text.len();
    }
    let lines_before = error.line().saturating_sub(1);
    let line_start: usize = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    // A column counts the bytes of its line up to and with the one that is wrong, so it is 0 for the
    // newline before the line.
    let end = line_start.saturating_add(error.column());
    let at = end.saturating_sub(1);
    if error.is_data() {
        return value_start(text, end);
    }
    // In a string that it skips, the reader stops before a control character instead of on it.
    let is_control = |at| text.as_bytes().get(at).is_some_and(u8::is_ascii_control);
    let blames_control = error.to_string().starts_with("control character");
    if blames_control && !is_control(at) && is_control(end) { end } else { at }
}

/// Where a value of the wrong kind begins: the reader stops before an object or array, but behind
/// anything else.
fn value_start(text: &str, end: usize) -> usize {
    if matches!(text.as_bytes().get(end), Some(b'{' | b'[')) {
        return end;
    }
    let head = text.get(..end).unwrap_or_default();
    if let Some(string) = head.strip_suffix('"') {
        let is_open = |quote: &usize| !string.get(..*quote).is_some_and(|it| it.ends_with('\\'));
        let mut quotes = string.rmatch_indices('"').map(|(quote, _)| quote);
        return quotes.find(is_open).unwrap_or_default();
    }
    let is_inside = |char: char| char.is_ascii_alphanumeric() || matches!(char, '+' | '-' | '.');
    head.trim_end_matches(is_inside).len()
}

/// What the reader found, without its own words on where. It quotes texts in full.
pub(super) fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let found = message.rsplit_once(" at line ").map_or(message.as_str(), |(found, _)| found);
    found.chars().take(READER_CHARS_MAX).collect()
}
