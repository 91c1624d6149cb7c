//! A line as it was sent, before it becomes a record.

use bumpalo::Bump;

use super::shape::{Missed, Shapes};
use super::text::{Kind, Token};
use super::{Limits, Wrong};
use crate::record::{Dimension, Reason};

/// For how many tags, and fields, there is room from the start: few lines have more, and growing step by
/// step costs a request of one line more than reading it.
pub(super) const KEYS_EXPECTED: usize = 16;

/// A field's value, in the types of line protocol.
// With a tag of one byte, to copy a value is to load eight bytes of which one was just stored, and the
// processor waits for that store. Measured: 379 -> 367 ns a line of ten integers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u64)]
pub enum FieldValue<'a> {
    /// `1.5`
    Float(f64),
    /// `1i`
    Integer(i64),
    /// `1u`
    Unsigned(u64),
    /// `true`
    Boolean(bool),
    /// `"text"`
    String(&'a str),
}

/// A field: a key and a value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Field<'a> {
    /// The key, without its escapes.
    pub key: &'a str,
    /// The value.
    pub value: FieldValue<'a>,
}

/// A line as it was sent: nothing is scaled, filled in, renamed or left out. Filled anew for each line.
#[derive(Debug)]
pub struct RawLine<'a> {
    /// The number of the physical line it begins on, from 1.
    pub number: u64,
    /// The whole line, without its end.
    pub text: &'a [u8],
    /// The measurement.
    pub measurement: &'a str,
    /// The tags, in the order of arrival; no key stands twice.
    pub tags: Vec<Dimension<'a>>,
    /// The fields, in the order of arrival; at least one; a key may stand twice.
    pub fields: Vec<Field<'a>>,
    /// The timestamp, in whatever unit the client meant.
    pub timestamp: Option<i64>,
    /// Whether a field key may stand twice; `false` is certain.
    pub(super) may_repeat_fields: bool,
    missed: Missed,
    shapes: Shapes<'a>,
    /// Whether a string holds newlines.
    pub(super) multi_line: bool,
    /// The first thing that is wrong though the grammar is kept, and the body from there on.
    pub(super) wrong: Option<(&'a str, Wrong)>,
    limits: Limits,
    arena: &'a Bump,
}

impl<'a> RawLine<'a> {
    pub(super) fn new(limits: Limits, arena: &'a Bump) -> Self {
        Self {
            number: 0,
            text: &[],
            measurement: "",
            tags: Vec::with_capacity(KEYS_EXPECTED),
            fields: Vec::with_capacity(KEYS_EXPECTED),
            timestamp: None,
            may_repeat_fields: false,
            missed: Missed::default(),
            shapes: Shapes::default(),
            multi_line: false,
            wrong: None,
            limits,
            arena,
        }
    }

    #[inline]
    pub(super) fn clear(&mut self) {
        self.tags.clear();
        self.fields.clear();
        self.timestamp = None;
        self.multi_line = false;
        self.missed = Missed::default();
        self.wrong = None;
    }

    /// Whether the tag keys are all different; `false` may be wrong. Looks at the fields as well.
    #[inline]
    pub(super) fn check_keys(&mut self) -> bool {
        let Self { tags, fields, shapes, missed, .. } = self;
        self.may_repeat_fields =
            missed.fields && !shapes.are_different(fields.iter().map(|field| field.key));
        missed.fields &= !self.may_repeat_fields;
        let tags_differ = !missed.tags || shapes.are_different(tags.iter().map(|tag| tag.name));
        missed.tags &= tags_differ;
        tags_differ
    }

    /// Makes the keys the guess for the next line; after [`Self::check_keys`].
    #[inline]
    pub(super) fn learn_keys(&mut self) {
        if self.missed.tags {
            self.shapes.learn_tags(&self.tags);
        }
        if self.missed.fields {
            self.shapes.learn_fields(&self.fields);
        }
    }

    /// `at` is the body from the measurement on, as in the two functions below.
    #[inline]
    pub(super) fn set_measurement(&mut self, token: Token<'a>, at: &'a str) {
        self.measurement = self.name(token, Kind::Measurement, "measurement", at);
        self.shapes.select(self.measurement);
    }

    /// The key of the next tag and what follows its `=`, if it is the one that was guessed.
    #[inline]
    pub(super) fn guess_tag_key(&self, input: &'a str) -> Option<(&'a str, &'a str)> {
        self.shapes.current()?.tags.guess(self.tags.len(), input)
    }

    /// The same for the next field.
    #[inline]
    pub(super) fn guess_field_key(&self, input: &'a str) -> Option<(&'a str, &'a str)> {
        self.shapes.current()?.fields.guess(self.fields.len(), input)
    }

    /// A tag key that was not guessed.
    pub(super) fn new_tag_key(&mut self, key: Token<'a>, at: &'a str) -> &'a str {
        self.missed.tags = true;
        self.name(key, Kind::Name, "tag key", at)
    }

    /// A field key that was not guessed.
    pub(super) fn new_field_key(&mut self, key: Token<'a>, at: &'a str) -> &'a str {
        self.missed.fields = true;
        self.name(key, Kind::Name, "field key", at)
    }

    #[inline]
    pub(super) fn push_tag(&mut self, name: &'a str, value: Token<'a>, at: &'a str) {
        let value = self.name(value, Kind::Name, "tag value", at);
        if self.tags.len() < self.limits.tags {
            self.tags.push(Dimension { name, value });
        } else {
            let limit = self.limits.tags;
            self.note(at, Reason::TooManyDimensions, || {
                format!("more tags than {limit}, the limit")
            });
        }
    }

    #[inline]
    pub(super) fn push_field(&mut self, key: &'a str, value: FieldValue<'a>, at: &'a str) {
        if self.fields.len() < self.limits.fields {
            self.fields.push(Field { key, value });
        } else {
            let limit = self.limits.fields;
            self.note(at, Reason::TooManyMeasures, || {
                format!("more fields than {limit}, the limit")
            });
        }
    }

    pub(super) fn push_string(&mut self, key: &'a str, token: Token<'a>, at: &'a str) {
        self.multi_line |= token.multi_line;
        let string = token.text(Kind::String, self.arena);
        let limit = self.limits.string_bytes;
        if string.len() > limit {
            self.note(at, Reason::ValueTooLong, || {
                format!("a string of {} bytes, more than {limit}, the limit", string.len())
            });
        }
        self.push_field(key, FieldValue::String(string), at);
    }

    #[inline]
    fn name(&mut self, token: Token<'a>, kind: Kind, what: &str, at: &'a str) -> &'a str {
        let name = token.text(kind, self.arena);
        let limit = self.limits.name_bytes;
        if name.len() > limit {
            self.note(at, Reason::NameTooLong, || {
                format!("a {what} of {} bytes, more than {limit}, the limit", name.len())
            });
        }
        name
    }

    #[cold]
    fn note(&mut self, at: &'a str, reason: Reason, message: impl FnOnce() -> String) {
        if self.wrong.is_none() {
            self.wrong = Some((at, Wrong { reason, message: message() }));
        }
    }
}
