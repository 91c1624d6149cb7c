//! Numbers of line protocol, eight digits at a time.
//!
//! | form | type |
//! |---|---|
//! | `-?[0-9]+i` | integer, -2^63 to 2^63-1 |
//! | `[0-9]+u` | unsigned integer, 0 to 2^64-1 |
//! | `-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?` | float, finite; what is too small becomes zero |
//!
//! No leading `+`, no `NaN`, no infinity, no hexadecimal, no `_`.

use nom::Parser;
use nom::character::complete::{digit1, one_of};
use nom::combinator::{opt, recognize};

use super::FieldValue;
use super::syntax::{Parsed, SyntaxError, Wanted};

/// The digits at the start of a text.
#[derive(Debug, Clone, Copy)]
struct Digits {
    /// Their value; `None` if it is above `u64::MAX`.
    value: Option<u64>,
    /// How many they are.
    count: usize,
}

/// How many digits one step reads.
const STEP_DIGITS: usize = 8;

/// The powers of ten that a `f64` holds exactly.
const EXACT_POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The powers of ten that a `u64` holds.
const POWERS: [u64; 20] = {
    let mut powers = [1; 20];
    let mut rest: &mut [u64] = &mut powers;
    while let [power, next, ..] = rest {
        *next = power.wrapping_mul(10);
        let Some((_, after)) = rest.split_first_mut() else { break };
        rest = after;
    }
    powers
};

/// Largest integer up to which a `f64` holds every integer.
const MANTISSA_MAX: u64 = 1 << f64::MANTISSA_DIGITS;

/// A field value that starts with a digit, `-` or `.`.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
pub(super) fn number(input: &str) -> Parsed<'_, FieldValue<'_>> {
    let (unsigned, negative) = sign(input);
    let (rest, whole) = digits(unsigned);
    match rest.as_bytes().first() {
        Some(b'i') if whole.count > 0 => {
            let value = signed(negative, whole.value)
                .ok_or_else(|| SyntaxError::new(input, Wanted::IntegerInRange))?;
            Ok((rest.get(1..).unwrap_or_default(), FieldValue::Integer(value)))
        }
        Some(b'u') if whole.count > 0 => {
            let value = whole
                .value
                .filter(|_| !negative)
                .ok_or_else(|| SyntaxError::new(input, Wanted::UnsignedInRange))?;
            Ok((rest.get(1..).unwrap_or_default(), FieldValue::Unsigned(value)))
        }
        _ => float(input, negative, whole, rest),
    }
}

/// A timestamp: an integer that fits into 64 bits.
#[inline]
pub(super) fn timestamp(input: &str) -> Parsed<'_, i64> {
    let (unsigned, negative) = sign(input);
    let (rest, whole) = digits(unsigned);
    if whole.count == 0 {
        return Err(SyntaxError::new(rest, Wanted::Time));
    }
    let value = signed(negative, whole.value)
        .ok_or_else(|| SyntaxError::new(input, Wanted::TimeInRange))?;
    Ok((rest, value))
}

/// The rest of a float after its `whole` digits; `input` is all of it, `rest` what follows them.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn float<'a>(
    input: &'a str,
    negative: bool,
    whole: Digits,
    rest: &'a str,
) -> Parsed<'a, FieldValue<'a>> {
    let (rest, fraction) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => (rest, Digits { value: Some(0), count: 0 }),
    };
    if whole.count == 0 && fraction.count == 0 {
        return Err(SyntaxError::new(rest, Wanted::Digits));
    }
    if !matches!(rest.as_bytes().first(), Some(b'e' | b'E'))
        && let Some(magnitude) = short_decimal(whole, fraction)
    {
        let value = if negative { -magnitude } else { magnitude };
        return Ok((rest, FieldValue::Float(value)));
    }
    long_float(input, rest)
}

/// `whole.fraction` if one division of two exact numbers gives it, which rounds once, hence right.
/// Source: Clinger, "How to read floating point numbers accurately", 1990.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn short_decimal(whole: Digits, fraction: Digits) -> Option<f64> {
    if fraction.count == 0 {
        #[expect(clippy::cast_precision_loss, reason = "exact up to MANTISSA_MAX")]
        return whole.value.filter(|value| *value <= MANTISSA_MAX).map(|value| value as f64);
    }
    let power = POWERS.get(fraction.count)?;
    let mantissa = whole.value?.checked_mul(*power)?.checked_add(fraction.value?)?;
    #[expect(clippy::cast_precision_loss, reason = "exact up to MANTISSA_MAX")]
    (mantissa <= MANTISSA_MAX)
        .then_some(mantissa as f64)
        .zip(EXACT_POWERS.get(fraction.count))
        .map(|(mantissa, power)| mantissa / power)
}

/// A float of many digits or with an exponent; `rest` is what follows its mantissa.
fn long_float<'a>(input: &'a str, rest: &'a str) -> Parsed<'a, FieldValue<'a>> {
    let (rest, _) = match opt(one_of::<_, _, SyntaxError<'a>>("eE")).parse(rest)? {
        (rest, None) => (rest, ""),
        (rest, Some(_)) => recognize((opt(one_of("+-")), digit1))
            .parse(rest)
            .map_err(|error| error.map(|error: SyntaxError<'a>| error.wants(Wanted::Exponent)))?,
    };
    let text = input.get(..input.len().wrapping_sub(rest.len())).unwrap_or_default();
    let value = fast_float2::parse::<f64, _>(text).ok().filter(|value| value.is_finite());
    let value = value.ok_or_else(|| SyntaxError::new(input, Wanted::FloatInRange))?;
    Ok((rest, FieldValue::Float(value)))
}

#[inline]
fn sign(input: &str) -> (&str, bool) {
    match input.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (input, false),
    }
}

#[inline]
fn signed(negative: bool, magnitude: Option<u64>) -> Option<i64> {
    let magnitude = magnitude?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// Reads the digits at the start of `input`; none is not an error.
#[expect(clippy::inline_always, reason = "measured: its result would travel through memory")]
#[inline(always)]
fn digits(input: &str) -> (&str, Digits) {
    let (step, count) = step(input.as_bytes());
    let rest = input.get(count..).unwrap_or_default();
    if count < STEP_DIGITS {
        return (rest, Digits { value: Some(step), count });
    }
    more_digits(rest, step)
}

/// The digits after the first full step. Leading zeros may be many, so the count cannot tell the range.
fn more_digits(mut rest: &str, first: u64) -> (&str, Digits) {
    let mut all = Digits { value: Some(first), count: STEP_DIGITS };
    loop {
        let (value, count) = step(rest.as_bytes());
        rest = rest.get(count..).unwrap_or_default();
        all.count = all.count.wrapping_add(count);
        all.value =
            POWERS.get(count).and_then(|power| all.value?.checked_mul(*power)?.checked_add(value));
        if count < STEP_DIGITS {
            return (rest, all);
        }
    }
}

/// The value and number of the digits among the first eight bytes.
#[inline]
fn step(bytes: &[u8]) -> (u64, usize) {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const ABOVE_NINE: u64 = 0x7676_7676_7676_7676;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;

    let word = match bytes.first_chunk::<STEP_DIGITS>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => last_word(bytes),
    };
    let nibbles = word ^ ZEROS;
    // A high bit where a byte is no digit. A carry can only spoil bytes after the first of those.
    let no_digit = (nibbles.wrapping_add(ABOVE_NINE) | nibbles) & HIGH_BITS;
    let count = (no_digit.trailing_zeros() / u8::BITS) as usize;
    if count == 0 {
        return (0, 0);
    }
    // Zeros move in before the digits, and what follows them falls out.
    let unused_bits = u64::BITS.wrapping_sub(no_digit.trailing_zeros() & !7);
    (combine(nibbles.wrapping_shl(unused_bits)), count)
}

/// The value of eight digits, the first in the lowest byte.
/// Source: Lemire, "Quickly parsing eight digits", 2018.
#[inline]
const fn combine(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul((10 << 8) + 1) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul((100 << 16) + 1) >> 16;
    (fours & 0x0000_ffff_0000_ffff).wrapping_mul((10_000 << 32) + 1) >> 32
}

/// The last bytes of a body, fewer than eight; what is missing reads as no digit.
#[cold]
fn last_word(bytes: &[u8]) -> u64 {
    let mut word = [0; STEP_DIGITS];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(word)
}
