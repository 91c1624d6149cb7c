//! Room in a line for what is set in it.

use super::settle::Why;
use super::{Measure, Set};
use crate::protocol::line::loose::{Part, Parts, key, key_text};
use crate::record::ValueType;

/// The line with room for what is set; `None` where it does not fall into parts.
pub(super) fn make_room(
    text: &[u8],
    set: &mut Set,
    version_field: Option<&str>,
) -> Result<Option<Vec<u8>>, Why> {
    let Some(mut parts) = Parts::split(text) else { return Ok(None) };
    for (name, _) in &set.dimensions {
        replace(&mut parts.tags, name, b"x");
    }
    for measure in &mut set.measures {
        in_field(&mut parts, measure)?;
    }
    if let Some(field) = version_field.filter(|_| set.version.is_some()) {
        parts.fields.retain(|(key, _)| key_text(key) != field);
    }
    if set.time_ns.is_some() {
        parts.timestamp = Part::default();
    }
    Ok(Some(parts.join()))
}

/// One part of this name, in the place of all that there are.
fn replace(parts: &mut Vec<(Part<'_>, Part<'_>)>, name: &str, value: &'static [u8]) {
    let is_it = |(key, _): &(Part<'_>, Part<'_>)| key_text(key) == name;
    let at = parts.iter().position(is_it).unwrap_or(parts.len());
    parts.retain(|part| !is_it(part));
    parts.insert(at, (key(name).into(), value.into()));
}

fn in_field(parts: &mut Parts<'_>, measure: &mut Measure) -> Result<(), Why> {
    let mut of_name = parts.fields.iter().filter(|(key, _)| key_text(key) == measure.name);
    let found = of_name.next_back().map(|(_, value)| shape(value));
    // Nothing is there, and no type was named: it may be misspelt, and `apply` says so.
    if found.is_none() && measure.value_type.is_none() {
        return Ok(());
    }
    let value_type = measure.settle(found.flatten(), |value| {
        let value_type = shape(value.as_bytes())?;
        Some((value_type, plain(value, value_type).to_owned()))
    })?;
    measure.value = plain(&measure.value, value_type).to_owned();
    let room: &[u8] = match value_type {
        ValueType::Double => b"0",
        ValueType::Bigint | ValueType::Timestamp => b"0i",
        ValueType::Boolean => b"true",
        ValueType::Varchar => b"\"\"",
    };
    replace(&mut parts.fields, &measure.name, room);
    Ok(())
}

/// The type that a value is written as, be it one or not; `None` where it could be any.
fn shape(value: &[u8]) -> Option<ValueType> {
    let text = std::str::from_utf8(value).unwrap_or_default();
    let is_number = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    match value {
        [b'"', ..] => Some(ValueType::Varchar),
        b"t" | b"T" | b"true" | b"True" | b"TRUE" | b"f" | b"F" | b"false" | b"False"
        | b"FALSE" => Some(ValueType::Boolean),
        [.., b'i' | b'u'] if is_number(&text[..text.len().saturating_sub(1)]) => {
            Some(ValueType::Bigint)
        }
        _ => text.parse::<f64>().is_ok().then_some(ValueType::Double),
    }
}

/// A value without what line protocol writes around it.
fn plain(value: &str, value_type: ValueType) -> &str {
    match value_type {
        ValueType::Bigint => value.strip_suffix(['i', 'u']).unwrap_or(value),
        ValueType::Varchar => {
            let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            inner.unwrap_or(value)
        }
        ValueType::Boolean => match value {
            "t" | "T" | "True" | "TRUE" => "true",
            "f" | "F" | "False" | "FALSE" => "false",
            _ => value,
        },
        ValueType::Double | ValueType::Timestamp => value,
    }
}
