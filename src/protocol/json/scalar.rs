//! Leaves: what the raw JSON of a single value means.

use bumpalo::Bump;
use serde::de::DeserializeSeed;

use super::fault::{Excerpt, Fault};
use super::walk::Key;
use super::{Options, Precision};
use crate::record::limits::{TIME_NS_MAX, TIME_NS_MIN};
use crate::record::{Reason, Value};

/// Within this many ns of the receipt a time read in another precision looks like the one meant.
const PRECISION_HINT_NS: u64 = 366 * 24 * 3_600 * 1_000_000_000;

/// `raw`, or nothing for `null`.
pub(super) fn present(raw: &str) -> &str {
    if raw == "null" { "" } else { raw }
}

/// The text of a string; `None` for any other value.
#[inline]
pub(super) fn string<'a>(raw: &'a str, arena: &'a Bump) -> Result<Option<&'a str>, Fault<'a>> {
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Ok(None);
    };
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(Some(inner));
    }
    unescape(raw, arena).map(Some)
}

#[cold]
fn unescape<'a>(raw: &'a str, arena: &'a Bump) -> Result<&'a str, Fault<'a>> {
    let mut reader = serde_json::Deserializer::from_str(raw);
    // Half a surrogate pair passes the grammar, but is no text.
    Key(arena).deserialize(&mut reader).map_err(|error| Fault::of(None, raw, &error))
}

/// The text of a string, number or truth value; `None` for `null`.
#[inline]
pub(super) fn text<'a>(raw: &'a str, arena: &'a Bump) -> Result<Option<&'a str>, Fault<'a>> {
    match raw.as_bytes().first() {
        Some(b'"') => string(raw, arena),
        Some(b'{' | b'[') => {
            let message = format!("{} is not a text", Excerpt(raw));
            Err(Fault { at: raw, reason: Reason::InvalidValue, message })
        }
        Some(b'n') | None => Ok(None),
        _ => Ok(Some(raw)),
    }
}

/// The name in the member `member`; `None` where it is absent.
pub(super) fn name<'a>(
    raw: &'a str,
    member: &'static str,
    arena: &'a Bump,
) -> Result<Option<&'a str>, Fault<'a>> {
    if raw.is_empty() {
        return Ok(None);
    }
    let found = string(raw, arena)?.filter(|name| !name.is_empty());
    found.map(Some).ok_or_else(|| {
        let message = format!("{member} is {}, not a text with a character in it", Excerpt(raw));
        Fault { at: raw, reason: Reason::InvalidName, message }
    })
}

/// The value of a field; `None` for `null`.
#[inline]
pub(super) fn value<'a>(raw: &'a str, arena: &'a Bump) -> Result<Option<Value<'a>>, Fault<'a>> {
    let value = match raw.as_bytes().first() {
        Some(b'"') => string(raw, arena)?.map(Value::Varchar),
        Some(b't') => Some(Value::Boolean(true)),
        Some(b'f') => Some(Value::Boolean(false)),
        Some(b'n') | None => None,
        Some(b'{' | b'[') => {
            let message = format!("{} is not a number, text or truth value", Excerpt(raw));
            return Err(Fault { at: raw, reason: Reason::InvalidValue, message });
        }
        Some(_) if is_integer(raw) => Some(Value::Bigint(bigint(raw, raw)?)),
        Some(_) => Some(Value::Double(double(raw, raw)?)),
    };
    Ok(value)
}

/// Whether a JSON number has neither fraction nor exponent.
fn is_integer(raw: &str) -> bool {
    !raw.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// The integer that is `text`, which stands as `raw` in the record.
pub(super) fn bigint<'a>(text: &str, raw: &'a str) -> Result<i64, Fault<'a>> {
    text.parse().map_err(|_error| {
        let message = format!("{} is not an integer of 64 bits (BIGINT)", Excerpt(raw));
        Fault { at: raw, reason: Reason::InvalidValue, message }
    })
}

/// The finite float that is `text`, which stands as `raw` in the record.
pub(super) fn double<'a>(text: &str, raw: &'a str) -> Result<f64, Fault<'a>> {
    let value = fast_float2::parse(text).ok().filter(|value: &f64| value.is_finite());
    value.ok_or_else(|| {
        let message = format!("{} is not a finite float of 64 bits (DOUBLE)", Excerpt(raw));
        Fault { at: raw, reason: Reason::InvalidValue, message }
    })
}

/// The version in `raw`; `None` where it is absent.
pub(super) fn version(raw: &str) -> Result<Option<i64>, Fault<'_>> {
    if raw.is_empty() {
        return Ok(None);
    }
    let version = raw.parse().ok().filter(|version| *version >= 1);
    version.map(Some).ok_or_else(|| {
        let message = format!("version {} is not an integer from 1 to {}", Excerpt(raw), i64::MAX);
        Fault { at: raw, reason: Reason::InvalidVersion, message }
    })
}

/// The time of a flat record in ns; `None` where it is absent.
pub(super) fn time<'a>(
    raw: &'a str,
    options: &Options<'_>,
    arena: &'a Bump,
) -> Result<Option<i64>, Fault<'a>> {
    if raw.is_empty() {
        return Ok(None);
    }
    if let Some(text) = string(raw, arena)? {
        return rfc3339(text, raw).map(Some);
    }
    let Ok(count) = raw.parse::<i64>() else {
        let unit = options.precision.name();
        let message =
            format!("timestamp {} is not an integer in {unit} or an RFC 3339 text", Excerpt(raw));
        return Err(Fault { at: raw, reason: Reason::InvalidTime, message });
    };
    let time_ns = moment(count, options.precision, raw);
    time_ns.map(Some).map_err(|fault| with_hint(fault, count, options))
}

/// `count` units since 1970 in ns, for the number that stands as `raw` in the record.
pub(super) fn moment(count: i64, unit: Precision, raw: &str) -> Result<i64, Fault<'_>> {
    let time_ns = unit.to_ns(count).filter(|time| (TIME_NS_MIN..=TIME_NS_MAX).contains(time));
    time_ns.ok_or_else(|| {
        let message = format!(
            "{count} {} since 1970 is beyond what 64 bits of nanoseconds hold, 1677 to 2262",
            unit.name()
        );
        Fault { at: raw, reason: Reason::InvalidTime, message }
    })
}

/// Adds which precision may have been meant.
#[cold]
fn with_hint<'a>(mut fault: Fault<'a>, count: i64, options: &Options<'_>) -> Fault<'a> {
    let is_near = |unit: &Precision| {
        unit.to_ns(count).is_some_and(|time| time.abs_diff(options.received_ns) < PRECISION_HINT_NS)
    };
    if let Some(unit) = Precision::ALL.into_iter().find(is_near) {
        fault.message.push_str("; is precision=");
        fault.message.push_str(unit.name());
        fault.message.push_str(" meant?");
    }
    fault
}

fn rfc3339<'a>(text: &str, raw: &'a str) -> Result<i64, Fault<'a>> {
    let time = text.parse::<jiff::Timestamp>().ok();
    let time_ns = time.and_then(|time| i64::try_from(time.as_nanosecond()).ok());
    time_ns.filter(|time| (TIME_NS_MIN..=TIME_NS_MAX).contains(time)).ok_or_else(|| {
        let message = format!(
            "timestamp {} is not an RFC 3339 text from 1677 to 2262, such as 2026-01-31T12:00:00.5Z",
            Excerpt(raw)
        );
        Fault { at: raw, reason: Reason::InvalidTime, message }
    })
}
