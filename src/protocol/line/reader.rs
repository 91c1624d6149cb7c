//! Line by line through a body: blank lines, comments, line numbers, and how to go on after a line
//! that is refused.

use bumpalo::Bump;
use memchr::{memchr, memchr_iter};

use super::grammar;
use super::raw::RawLine;
use super::recover;
use super::shape;
use super::syntax::SyntaxError;
use super::{Limits, Wrong};
use crate::record::{Origin, Reason, Refusal};

/// What stands in for a byte that is not UTF-8 while its line is read; no rule of the grammar knows it.
const STAND_IN: u8 = b'?';

/// Reads the lines of one body.
#[derive(Debug)]
pub struct Reader<'a> {
    /// The body as it was sent.
    body: &'a [u8],
    /// The body as text, byte for byte, with stand-ins.
    text: &'a str,
    /// What of `text` has not been read.
    rest: &'a str,
    /// The number of the physical line at `rest`, from 1.
    number: u64,
    /// The places of the stand-ins that have not been read.
    spoiled: &'a [usize],
    line: RawLine<'a>,
    limits: Limits,
}

impl<'a> Reader<'a> {
    /// A reader of `body`. Texts that hold escapes, and a body that is not UTF-8, are copied to `arena`.
    pub fn new(body: &'a [u8], limits: Limits, arena: &'a Bump) -> Self {
        let (text, spoiled) = match std::str::from_utf8(body) {
            Ok(text) => (text, &[][..]),
            Err(_) => with_stand_ins(body, arena),
        };
        Self {
            body,
            text,
            rest: text,
            number: 1,
            spoiled,
            line: RawLine::new(limits, arena),
            limits,
        }
    }

    /// The next line that is neither blank nor comment; `None` at the end of the body.
    ///
    /// # Errors
    ///
    /// The line is refused: the grammar is not kept, a tag key stands twice, a limit is exceeded, or
    /// it is not UTF-8. The next call goes on behind it.
    pub fn read(&mut self) -> Option<Result<&mut RawLine<'a>, Refusal<'a>>> {
        let (start, input) = self.next_line()?;
        self.line.clear();
        self.line.number = self.number;
        match grammar::line(input, &mut self.line) {
            Ok((end, ())) => {
                self.take(start, end);
                Some(match self.wrong_line(start) {
                    None => Ok(&mut self.line),
                    Some((column, wrong)) => Err(wrong.refuse(&self.line, column)),
                })
            }
            Err(error) => {
                Some(Err(self.refuse_syntax(start, SyntaxError::from_nom(&error, input))))
            }
        }
    }

    /// Skips blank lines and comments; gives the next line from its first byte and from its first
    /// byte that is no space.
    #[inline]
    fn next_line(&mut self) -> Option<(&'a str, &'a str)> {
        loop {
            let start = self.rest;
            let input = grammar::spaces(start);
            match input.as_bytes().first()? {
                b'#' => {
                    let bytes = memchr(b'\n', input.as_bytes()).unwrap_or(input.len());
                    self.skip(input.get(bytes..).unwrap_or_default());
                }
                _ if grammar::is_end_of_line(input) => self.skip(input),
                _ => return Some((start, input)),
            }
        }
    }

    /// Goes on behind the end of a line that holds nothing.
    fn skip(&mut self, end: &'a str) {
        self.rest = grammar::end_of_line(end);
        self.number = self.number.wrapping_add(1);
    }

    /// Goes on behind the line from `start` to `end`.
    #[inline]
    fn take(&mut self, start: &'a str, end: &'a str) {
        let from = self.place(start);
        self.line.text = self.body.get(from..self.place(end)).unwrap_or_default();
        self.rest = grammar::end_of_line(end);
        let newlines = if self.line.multi_line { count_newlines(self.line.text) } else { 0 };
        self.number = self.number.wrapping_add(newlines).wrapping_add(1);
    }

    /// What is wrong with a line that keeps the grammar, and in which column.
    #[inline]
    fn wrong_line(&mut self, start: &'a str) -> Option<(u64, Wrong)> {
        let tags_differ = self.line.check_keys();
        if !self.rest.is_empty() {
            self.line.learn_keys();
        }
        let line = &self.line;
        let is_short = line.text.len() <= self.limits.line_bytes;
        if tags_differ && is_short && line.wrong.is_none() && self.spoiled.is_empty() {
            return None;
        }
        self.look_closer(start)
    }

    #[cold]
    fn look_closer(&mut self, start: &'a str) -> Option<(u64, Wrong)> {
        if let Some((place, wrong)) = self.spoiled_line(start) {
            return Some((place, wrong));
        }
        let limit = self.limits.line_bytes;
        if self.line.text.len() > limit {
            let found = self.line.text.len();
            let message = format!("a line of {found} bytes, more than {limit}, the limit");
            return Some((column(limit), Wrong { reason: Reason::RecordTooLarge, message }));
        }
        if let Some((at, wrong)) = self.line.wrong.take() {
            return Some((column(start.len().wrapping_sub(at.len())), wrong));
        }
        let repeated = shape::first_repeated(self.line.tags.iter().map(|tag| tag.name))?;
        let key = self.line.tags.get(repeated).map(|tag| tag.name).unwrap_or_default();
        let message =
            format!("the tag key {key:?} stands twice, but a tag key stands once in a line");
        let place = recover::tag_place(start, repeated);
        Some((column(place), Wrong { reason: Reason::DuplicateDimension, message }))
    }

    /// The column of the first byte of the line that is not UTF-8.
    fn spoiled_line(&mut self, start: &'a str) -> Option<(u64, Wrong)> {
        let from = self.place(start);
        let to = from.wrapping_add(self.line.text.len());
        // Those before belong to comments and to lines that were refused.
        let passed = self.spoiled.partition_point(|place| *place < from);
        self.spoiled = self.spoiled.get(passed..).unwrap_or_default();
        let place = *self.spoiled.first().filter(|place| **place < to)?;
        let byte = self.body.get(place).copied().unwrap_or_default();
        let message =
            format!("found the byte {byte:#04x} where it is not UTF-8, but a line is UTF-8");
        let column = column(place.wrapping_sub(from));
        Some((column, Wrong { reason: Reason::InvalidUtf8, message }))
    }

    #[cold]
    fn refuse_syntax(&mut self, start: &'a str, error: SyntaxError<'a>) -> Refusal<'a> {
        let place = start.len().wrapping_sub(error.at.len());
        let bytes = recover::refused_bytes(start, place, error.wanted);
        let end = start.get(bytes..).unwrap_or_default();
        self.line.multi_line = true;
        self.take(start, end);
        let syntax = Wrong { reason: error.reason(), message: error.message() };
        let (column, wrong) = match self.spoiled_line(start) {
            Some((spoiled, wrong)) if spoiled <= column(place) => (spoiled, wrong),
            _ => (column(place), syntax),
        };
        wrong.refuse(&self.line, column)
    }

    /// Where in the body `rest` begins.
    #[inline]
    fn place(&self, rest: &str) -> usize {
        self.text.len().wrapping_sub(rest.len())
    }
}

impl Wrong {
    /// The refusal of `line` for this.
    pub(super) fn refuse<'a>(self, line: &RawLine<'a>, column: u64) -> Refusal<'a> {
        let origin = Origin { number: line.number, text: line.text, ..Origin::default() };
        Refusal { origin, column, reason: self.reason, message: self.message }
    }
}

/// The column, from 1, of a byte that stands `place` bytes behind the start of its line.
pub(super) const fn column(place: usize) -> u64 {
    (place as u64).wrapping_add(1)
}

fn count_newlines(text: &[u8]) -> u64 {
    memchr_iter(b'\n', text).count() as u64
}

/// The body as text with a stand-in for each byte that is not UTF-8, and their places.
#[cold]
fn with_stand_ins<'a>(body: &[u8], arena: &'a Bump) -> (&'a str, &'a [usize]) {
    let mut text = bumpalo::collections::String::with_capacity_in(body.len(), arena);
    let mut places = bumpalo::collections::Vec::new_in(arena);
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        for _ in chunk.invalid() {
            places.push(text.len());
            text.push(char::from(STAND_IN));
        }
    }
    (text.into_bump_str(), places.into_bump_slice())
}
