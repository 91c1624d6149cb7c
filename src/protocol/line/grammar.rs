//! The grammar, as nom parsers over the body.
//!
//! ```text
//! line        = measurement *( "," tag ) 1*SP field *( "," field ) [ 1*SP [ timestamp *SP ] ]
//! tag         = name "=" name
//! field       = name "=" ( number / boolean / string )
//! measurement = 1*( any byte but control, "," SP / "\" byte )
//! name        = 1*( any byte but control, "," "=" SP / "\" byte )
//! string      = %x22 *( any byte but %x22 / "\" byte ) %x22          ; may hold newlines
//! ends with     [ CR ] LF, or [ CR ] and the end of the body
//! ```
//!
//! Source: `InfluxDB` documentation, "Line protocol"; where it is silent, the line-protocol v2 corpus.
//!
//! The parsers take `&str` and cut it at ASCII bytes only, so that every text they give out is UTF-8
//! without being looked at again. A parser names in its error what it wanted; nothing is tried twice.

use memchr::memchr3;
use nom::Parser;
use nom::branch::alt;
use nom::bytes::complete::tag as literal;
use nom::combinator::value;

use super::number;
use super::scan;
use super::syntax::{Parsed, SyntaxError, Wanted};
use super::text::{Kind, Token};
use super::{FieldValue, RawLine};

/// A whole line, up to its end, which is left for [`end_of_line`].
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
pub(super) fn line<'a>(input: &'a str, line: &mut RawLine<'a>) -> Parsed<'a, ()> {
    let (rest, name) = measurement(input)?;
    line.set_measurement(name, input);
    let (rest, ()) = tags(rest, line)?;
    let (rest, ()) = before_fields(rest, line.tags.is_empty())?;
    let (rest, ()) = fields(rest, line)?;
    let rest = spaces(rest);
    let (rest, time) = optional_timestamp(rest)?;
    line.timestamp = time;
    Ok((rest, ()))
}

/// The measurement's name.
#[inline]
pub(super) fn measurement(input: &str) -> Parsed<'_, Token<'_>> {
    let (rest, token) = token(input, Kind::Measurement);
    if token.raw.is_empty() {
        return Err(SyntaxError::new(input, Wanted::Measurement));
    }
    Ok((rest, token))
}

#[inline]
fn tags<'a>(input: &'a str, line: &mut RawLine<'a>) -> Parsed<'a, ()> {
    let mut rest = input;
    while let Some(start) = rest.strip_prefix(',') {
        let (value, key) = match line.guess_tag_key(start) {
            Some(guessed) => guessed,
            None => tag_key(start).map(|(value, key)| (value, line.new_tag_key(key, start)))?,
        };
        let (after, value) = tag_value(value)?;
        line.push_tag(key, value, start);
        rest = after;
    }
    Ok((rest, ()))
}

/// The key of a tag, up to its value.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
pub(super) fn tag_key(input: &str) -> Parsed<'_, Token<'_>> {
    let (rest, key) = name(input, Wanted::TagKey)?;
    let (rest, ()) = equals(rest, Wanted::TagEquals)?;
    Ok((rest, key))
}

/// The value of a tag, not empty.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
pub(super) fn tag_value(input: &str) -> Parsed<'_, Token<'_>> {
    name(input, Wanted::TagValue)
}

/// The spaces between the tags and the fields.
#[inline]
fn before_fields(input: &str, is_untagged: bool) -> Parsed<'_, ()> {
    let rest = spaces(input);
    if is_end_of_line(rest) {
        return Err(SyntaxError::new(rest, Wanted::Fields));
    }
    if rest.len() == input.len() {
        let wanted = if is_untagged { Wanted::AfterMeasurement } else { Wanted::AfterTag };
        return Err(SyntaxError::new(rest, wanted));
    }
    Ok((rest, ()))
}

#[inline]
fn fields<'a>(input: &'a str, line: &mut RawLine<'a>) -> Parsed<'a, ()> {
    let mut start = input;
    loop {
        let (rest, ()) = field(start, line)?;
        match rest.as_bytes().first() {
            Some(b',') => start = rest.strip_prefix(',').unwrap_or_default(),
            Some(b' ' | b'\n') | None => return Ok((rest, ())),
            Some(_) if is_end_of_line(rest) => return Ok((rest, ())),
            Some(_) => return Err(SyntaxError::new(rest, Wanted::AfterField)),
        }
    }
}

// Each kind of value goes to the line by itself: an enum of all of them would travel through memory.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn field<'a>(input: &'a str, line: &mut RawLine<'a>) -> Parsed<'a, ()> {
    let (value, key) = match line.guess_field_key(input) {
        Some(guessed) => guessed,
        None => field_key(input).map(|(value, key)| (value, line.new_field_key(key, input)))?,
    };
    match value.as_bytes().first() {
        Some(b'0'..=b'9' | b'-' | b'.') => {
            let (rest, number) = number::number(value)?;
            line.push_field(key, number, input);
            Ok((rest, ()))
        }
        Some(b'"') => {
            let (rest, text) = string(value)?;
            line.push_string(key, text, input);
            Ok((rest, ()))
        }
        Some(b't' | b'T' | b'f' | b'F') => {
            let (rest, truth) = boolean(value)?;
            line.push_field(key, FieldValue::Boolean(truth), input);
            Ok((rest, ()))
        }
        _ => Err(SyntaxError::new(value, Wanted::FieldValue)),
    }
}

/// The key of a field, up to its value.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
pub(super) fn field_key(input: &str) -> Parsed<'_, Token<'_>> {
    let (rest, key) = name(input, Wanted::FieldKey)?;
    let (rest, ()) = equals(rest, Wanted::FieldEquals)?;
    Ok((rest, key))
}

/// One of the ten spellings. The long ones come first, since `t` would be content with `true`.
fn boolean(input: &str) -> Parsed<'_, bool> {
    let truth =
        alt((literal("true"), literal("True"), literal("TRUE"), literal("t"), literal("T")));
    let falsehood =
        alt((literal("false"), literal("False"), literal("FALSE"), literal("f"), literal("F")));
    let (rest, truth) = alt((value(true, truth), value(false, falsehood))).parse(input).map_err(
        |error: nom::Err<SyntaxError<'_>>| error.map(|error| error.wants(Wanted::Boolean)),
    )?;
    if matches!(rest.as_bytes().first(), None | Some(b',' | b' ' | b'\n' | b'\r')) {
        return Ok((rest, truth));
    }
    Err(SyntaxError::new(input, Wanted::Boolean))
}

/// A string, from quote to quote. One that never ends reaches to the end of the body.
pub(super) fn string(input: &str) -> Parsed<'_, Token<'_>> {
    let inside = advance(input, 1);
    let mut rest = inside;
    let (mut escaped, mut multi_line) = (false, false);
    loop {
        rest = advance(rest, plain_bytes(rest, Kind::String));
        match rest.as_bytes() {
            [b'"', ..] => break,
            [b'\n', ..] => {
                multi_line = true;
                rest = advance(rest, 1);
            }
            [b'\\', next, ..] if Kind::String.escapes(*next) => {
                escaped = true;
                rest = advance(rest, 2);
            }
            [b'\\', ..] => rest = advance(rest, 1),
            _ => return Err(SyntaxError::new(input, Wanted::ClosingQuote)),
        }
    }
    let token = Token { raw: before(inside, rest), escaped, multi_line };
    Ok((advance(rest, 1), token))
}

#[inline]
fn optional_timestamp(input: &str) -> Parsed<'_, Option<i64>> {
    if is_end_of_line(input) {
        return Ok((input, None));
    }
    let (rest, time) = number::timestamp(input)?;
    if is_end_of_line(rest) {
        return Ok((rest, Some(time)));
    }
    let after = spaces(rest);
    if is_end_of_line(after) {
        return Ok((after, Some(time)));
    }
    let wanted = if after.len() == rest.len() { Wanted::Time } else { Wanted::AfterTime };
    Err(SyntaxError::new(after, wanted))
}

/// What follows the end of the line that `input` starts with.
#[inline]
pub(super) fn end_of_line(input: &str) -> &str {
    let rest = input.strip_prefix('\r').unwrap_or(input);
    rest.strip_prefix('\n').unwrap_or(rest)
}

/// Whether a line ends here. A carriage return ends it only before a newline or the end of the body.
#[inline]
pub(super) fn is_end_of_line(input: &str) -> bool {
    matches!(input.as_bytes(), [] | [b'\n', ..] | [b'\r'] | [b'\r', b'\n', ..])
}

/// What follows the spaces at the start of `input`.
#[inline]
pub(super) fn spaces(input: &str) -> &str {
    let mut rest = input;
    while let Some(after) = rest.strip_prefix(' ') {
        rest = after;
    }
    rest
}

/// A key or tag value, not empty.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn name(input: &str, wanted: Wanted) -> Parsed<'_, Token<'_>> {
    let (rest, token) = token(input, Kind::Name);
    if token.raw.is_empty() {
        return Err(SyntaxError::new(input, wanted));
    }
    Ok((rest, token))
}

#[inline]
fn equals(input: &str, wanted: Wanted) -> Parsed<'_, ()> {
    match input.strip_prefix('=') {
        Some(rest) => Ok((rest, ())),
        None => Err(SyntaxError::new(input, wanted)),
    }
}

/// The longest text of a kind outside strings; may be empty.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn token(input: &str, kind: Kind) -> (&str, Token<'_>) {
    let (raw, rest) = input.split_at_checked(plain_bytes(input, kind)).unwrap_or((input, ""));
    match rest.as_bytes().first() {
        Some(byte) if !kind.is_ended_by(*byte) => closer_token(input, rest, kind),
        _ => (rest, Token { raw, escaped: false, multi_line: false }),
    }
}

/// A text that holds something that may be an escape, or a mark that is rare in names, at `rest`.
#[cold]
fn closer_token<'a>(input: &'a str, mut rest: &'a str, kind: Kind) -> (&'a str, Token<'a>) {
    let mut escaped = false;
    loop {
        match rest.as_bytes() {
            [b'\\', next, ..] if kind.escapes(*next) => {
                escaped = true;
                rest = advance(rest, 2);
            }
            [byte, ..] if !kind.is_ended_by(*byte) => rest = advance(rest, 1),
            _ => return (rest, Token { raw: before(input, rest), escaped, multi_line: false }),
        }
        rest = advance(rest, plain_bytes(rest, kind));
    }
}

/// How many bytes from the start of `input` need no closer look.
#[inline]
fn plain_bytes(input: &str, kind: Kind) -> usize {
    let bytes = input.as_bytes();
    match kind {
        Kind::Measurement => scan::MEASUREMENT_STOPS.find(bytes),
        Kind::Name => scan::NAME_STOPS.find(bytes),
        Kind::String => memchr3(b'"', b'\\', b'\n', bytes).unwrap_or(bytes.len()),
    }
}

/// `input` from `bytes` on; `bytes` is the place of an ASCII byte or the end.
#[inline]
fn advance(input: &str, bytes: usize) -> &str {
    input.get(bytes..).unwrap_or_default()
}

/// The part of `input` before `rest`, which is its end.
#[inline]
fn before<'a>(input: &'a str, rest: &str) -> &'a str {
    input.get(..input.len().wrapping_sub(rest.len())).unwrap_or_default()
}
