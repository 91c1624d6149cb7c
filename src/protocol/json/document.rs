//! Documents: where records stand in a body, and what is left where one breaks.

use serde::de::DeserializeSeed;
use serde_json::value::RawValue;

use super::fault::{self, Fault};
use super::walk::Items;
use super::{Decoder, Form};
use crate::record::{Reason, Refusal};

/// The bytes that JSON skips between values.
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The bytes of one value, and those that are text.
struct Document<'a> {
    bytes: &'a [u8],
    /// The bytes up to the first that are not UTF-8.
    text: &'a str,
    /// Whether `text` is less than all.
    broken: bool,
}

impl<'a> Document<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_else(|error| {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            std::str::from_utf8(valid).unwrap_or_default()
        });
        Self { bytes, text, broken: text.len() < bytes.len() }
    }

    /// The text that follows `part` of it; all of it where `part` is none.
    fn after(&self, part: &'a str) -> &'a str {
        let end = fault::offset_in(self.text, part).and_then(|at| at.checked_add(part.len()));
        end.and_then(|end| self.text.get(end..)).unwrap_or(self.text)
    }
}

impl<'a> Decoder<'a, '_> {
    pub(super) fn lines(&mut self, body: &'a [u8]) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
            let line = body.get(start..end).unwrap_or_default();
            start = end.saturating_add(1);
            self.number = self.number.saturating_add(1);
            if !line.trim_ascii().is_empty() {
                self.document(line);
            }
        }
    }

    /// One value: an object or an array of objects.
    pub(super) fn document(&mut self, bytes: &'a [u8]) {
        self.last = "";
        let document = Document::new(bytes);
        if document.text.trim_start_matches(BLANKS).starts_with('[') {
            self.array(&document);
        } else {
            self.lone_object(&document);
        }
    }

    fn array(&mut self, document: &Document<'a>) {
        let text = document.text;
        let mut reader = serde_json::Deserializer::from_str(text);
        if let Err(error) = self.elements().deserialize(&mut reader) {
            return self.refuse_rest(document, &error);
        }
        let array = match reader.end() {
            Ok(()) => Some(text),
            Err(error) => text.get(..fault::offset(text, &error)),
        };
        self.last = array.unwrap_or(text);
        self.refuse_trailing(document);
    }

    /// Takes each element of an array.
    pub(super) fn elements(&mut self) -> Items<impl FnMut(&'a str)> {
        Items(|item| {
            self.element(item);
            self.last = item;
        })
    }

    /// An element of an array: sound JSON, but perhaps no record.
    fn element(&mut self, text: &'a str) {
        let mut reader = serde_json::Deserializer::from_str(text);
        let done = match self.members(&mut reader) {
            Ok(members) => self.finish(text, &members),
            Err(error) => Err(Fault::of(self.fault.take(), text, &error)),
        };
        if let Err(fault) = done {
            self.refuse(text, fault);
        }
    }

    /// An object that is a whole document, or ought to be.
    fn lone_object(&mut self, document: &Document<'a>) {
        let mut reader = serde_json::Deserializer::from_str(document.text);
        let read = self.members(&mut reader);
        let ended = reader.end();
        let text = if read.is_ok() && ended.is_ok() {
            document.text.trim_matches(BLANKS)
        } else {
            // Read again to tell a bad record from broken JSON, and either from what follows it.
            match first_value(document.text) {
                Ok(text) => text,
                Err(error) => {
                    self.fault = None;
                    return self.refuse_rest(document, &error);
                }
            }
        };
        let done = match read {
            Ok(members) => self.finish(text, &members),
            Err(error) => Err(Fault::of(self.fault.take(), text, &error)),
        };
        if let Err(fault) = done {
            self.refuse(text, fault);
        }
        self.last = text;
        self.refuse_trailing(document);
    }

    /// Refuses all that follows the last good element, because the JSON breaks there.
    fn refuse_rest(&mut self, document: &Document<'a>, error: &serde_json::Error) {
        let is_cut = error.is_eof() && document.broken;
        let at = fault::offset(document.text, error);
        self.refuse_from(
            document,
            at,
            if is_cut {
                (Reason::InvalidUtf8, "the text is not UTF-8".to_owned())
            } else {
                (Reason::InvalidSyntax, fault::without_position(error))
            },
        );
    }

    /// Refuses what follows a document that has been read, if anything but blanks does.
    fn refuse_trailing(&mut self, document: &Document<'a>) {
        let rest = document.after(self.last).trim_start_matches(BLANKS);
        let why = if !rest.is_empty() {
            let hint = "another value follows the first: send values as an array, or one a line as \
                        application/x-ndjson";
            (Reason::InvalidSyntax, hint.to_owned())
        } else if document.broken {
            (Reason::InvalidUtf8, "the text is not UTF-8".to_owned())
        } else {
            return;
        };
        self.refuse_from(document, document.text.len().saturating_sub(rest.len()), why);
    }

    fn refuse_from(&mut self, document: &Document<'a>, at: usize, why: (Reason, String)) {
        let (reason, message) = why;
        let taken = document.text.len().saturating_sub(document.after(self.last).len());
        let rest = document.bytes.get(taken..).unwrap_or_default();
        let skipped = rest.iter().take_while(|byte| b" \t\r\n,".contains(byte)).count();
        let rest = rest.get(skipped..).unwrap_or_default();
        let start = taken.saturating_add(skipped);
        let (line, column) = self.position(document, at);
        self.sink.refuse(Refusal {
            origin: self.origin(rest),
            column: (at.saturating_sub(start) as u64).saturating_add(1),
            reason,
            message: format!("{message}, at line {line} column {column}"),
        });
        self.count();
    }

    /// Line and column, both from 1, of a byte of the body.
    fn position(&self, document: &Document<'a>, at: usize) -> (u64, u64) {
        let before = document.bytes.get(..at).unwrap_or(document.bytes);
        let line_start =
            memchr::memrchr(b'\n', before).map_or(0, |newline| newline.saturating_add(1));
        let column = (before.len().saturating_sub(line_start) as u64).saturating_add(1);
        let newlines = memchr::memchr_iter(b'\n', before).count() as u64;
        match self.options.form {
            Form::Document => (newlines.saturating_add(1), column),
            Form::Lines => (self.number, column),
        }
    }
}

/// The text of the value at the front of `text`.
fn first_value(text: &str) -> Result<&str, serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<&RawValue>();
    values.next().unwrap_or_else(|| serde_json::from_str(text)).map(RawValue::get)
}
