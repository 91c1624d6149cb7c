//! Whether a record may be stored: one function a rule, each with its source. What concerns names is
//! checked once a family or layout of a request, what concerns values once a record. These rules hold
//! in every table; strict tables have those of [`strict`] beside them.

pub mod strict;

use super::limits::{
    ATTRIBUTES_MAX, DIMENSIONS_MAX, NAME_BYTES_MAX, TABLE_NAME_BYTES_MAX, TEXT_BYTES_MAX,
    TIME_NS_MAX, TIME_NS_MIN,
};
use super::{MeasureKind, Reason, Record, Value};

/// A broken rule: why for programs, and why for people.
pub type Broken = (Reason, String);

/// Checks what all records of a family share: table, measure name and names of dimensions.
///
/// # Errors
///
/// The first broken rule.
pub fn family(record: &Record<'_>) -> Result<(), Broken> {
    table_name("database", record.database)?;
    table_name("table", record.table)?;
    name("measure name", record.measure_name)?;
    if record.dimensions.len() > DIMENSIONS_MAX {
        let found = record.dimensions.len();
        let message = format!("{found} dimensions, at most {DIMENSIONS_MAX} are taken");
        return Err((Reason::TooManyDimensions, message));
    }
    if record.dimensions.is_empty() {
        return Err((Reason::NoDimension, "at least one dimension is required".to_owned()));
    }
    for (at, dimension) in record.dimensions.iter().enumerate() {
        name("dimension name", dimension.name)?;
        // Quadratic in at most DIMENSIONS_MAX names, once a family.
        if record.dimensions[..at].iter().any(|other| other.name == dimension.name) {
            let message = format!("dimension {:?} stands twice", quoted(dimension.name));
            return Err((Reason::DuplicateDimension, message));
        }
    }
    Ok(())
}

/// Checks what all records of a layout share: the names of the attributes.
///
/// # Errors
///
/// The first broken rule.
pub fn layout(record: &Record<'_>) -> Result<(), Broken> {
    if record.attributes.is_empty() {
        return Err((Reason::NoMeasure, "nothing is measured: give at least one field".to_owned()));
    }
    if record.attributes.len() > ATTRIBUTES_MAX {
        let found = record.attributes.len();
        let message = format!("{found} measures, at most {ATTRIBUTES_MAX} are taken");
        return Err((Reason::TooManyMeasures, message));
    }
    if record.kind == MeasureKind::Multi {
        for attribute in &record.attributes {
            name("field name", attribute.name)?;
        }
    }
    Ok(())
}

/// Checks the values of one record.
///
/// # Errors
///
/// The first broken rule.
#[inline]
pub fn values(record: &Record<'_>) -> Result<(), Broken> {
    for dimension in &record.dimensions {
        if dimension.value.len() > NAME_BYTES_MAX {
            return Err(too_long("value of dimension", dimension.name, NAME_BYTES_MAX));
        }
    }
    for attribute in &record.attributes {
        match attribute.value {
            Value::Varchar(text) if text.len() > TEXT_BYTES_MAX => {
                return Err(too_long("value of field", attribute.name, TEXT_BYTES_MAX));
            }
            Value::Double(number) if !number.is_finite() => {
                let message =
                    format!("{number} in {:?}: a float must be finite", quoted(attribute.name));
                return Err((Reason::InvalidValue, message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks a record's time.
///
/// # Errors
///
/// When it is beyond what every protocol can say.
#[inline]
pub fn time(time_ns: i64) -> Result<(), Broken> {
    if (TIME_NS_MIN..=TIME_NS_MAX).contains(&time_ns) {
        return Ok(());
    }
    let message = format!("time {time_ns} ns is not in {TIME_NS_MIN} to {TIME_NS_MAX}");
    Err((Reason::InvalidTime, message))
}

/// Checks a record's version. Source: Timestream API, `Record`, `Version`.
///
/// # Errors
///
/// When it is below 1.
#[inline]
pub fn version(version: i64) -> Result<(), Broken> {
    if version >= 1 {
        return Ok(());
    }
    let message = format!("version {version}: it must be 1 or higher");
    Err((Reason::InvalidVersion, message))
}

/// Checks the name of a database or table.
///
/// # Errors
///
/// When it is empty, too long, or holds control characters.
pub fn table_name(what: &str, text: &str) -> Result<(), Broken> {
    name(what, text)?;
    if text.len() > TABLE_NAME_BYTES_MAX {
        return Err(too_long(what, text, TABLE_NAME_BYTES_MAX));
    }
    Ok(())
}

fn name(what: &str, text: &str) -> Result<(), Broken> {
    if text.is_empty() {
        return Err((Reason::InvalidName, format!("the {what} is empty")));
    }
    if text.len() > NAME_BYTES_MAX {
        return Err(too_long(what, text, NAME_BYTES_MAX));
    }
    if let Some(found) = text.chars().find(char::is_ascii_control) {
        let message = format!("{what} {:?} holds control character {found:?}", quoted(text));
        return Err((Reason::InvalidName, message));
    }
    Ok(())
}

fn too_long(what: &str, text: &str, max: usize) -> Broken {
    let reason = if what.starts_with("value") { Reason::ValueTooLong } else { Reason::NameTooLong };
    (reason, format!("{what} {:?} is longer than {max} bytes", quoted(text)))
}

/// The beginning of a name, short enough for a message.
fn quoted(text: &str) -> &str {
    const QUOTED_BYTES_MAX: usize = 64;
    let mut end = text.len().min(QUOTED_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::{Attribute, Dimension};
    use super::*;

    pub(super) fn record<'a>(
        dimensions: &[(&'a str, &'a str)],
        fields: &[(&'a str, Value<'a>)],
    ) -> Record<'a> {
        Record {
            database: "d",
            table: "t",
            measure_name: "m",
            dimensions: dimensions.iter().map(|&(name, value)| Dimension { name, value }).collect(),
            attributes: fields.iter().map(|&(name, value)| Attribute { name, value }).collect(),
            ..Record::default()
        }
    }

    fn reason(result: Result<(), Broken>) -> Option<Reason> {
        result.err().map(|(reason, _)| reason)
    }

    #[test]
    fn a_plain_record_breaks_no_rule() {
        let plain = record(&[("host", "a")], &[("v", Value::Double(1.0))]);
        assert_eq!(reason(family(&plain)), None);
        assert_eq!(reason(layout(&plain)), None);
        assert_eq!(reason(values(&plain)), None);
    }

    #[test]
    fn each_limit_holds_at_its_bound_and_not_above() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let name_at = |bytes: usize| reason(table_name("table", &long[..bytes]));
        assert_eq!(name_at(TABLE_NAME_BYTES_MAX), None);
        assert_eq!(name_at(TABLE_NAME_BYTES_MAX + 1), Some(Reason::NameTooLong));
        for (bytes, expected) in
            [(NAME_BYTES_MAX, None), (NAME_BYTES_MAX + 1, Some(Reason::ValueTooLong))]
        {
            let found = reason(values(&record(&[("h", &long[..bytes])], &[])));
            assert_eq!(found, expected);
        }
        for (bytes, expected) in
            [(TEXT_BYTES_MAX, None), (TEXT_BYTES_MAX + 1, Some(Reason::ValueTooLong))]
        {
            let found = reason(values(&record(&[], &[("f", Value::Varchar(&long[..bytes]))])));
            assert_eq!(found, expected);
        }
        let names: Vec<String> = (0..=ATTRIBUTES_MAX).map(|at| format!("n{at}")).collect();
        let dimensions: Vec<_> = names.iter().map(|name| (&**name, "v")).collect();
        assert_eq!(reason(family(&record(&dimensions[..DIMENSIONS_MAX], &[]))), None);
        let found = reason(family(&record(&dimensions[..=DIMENSIONS_MAX], &[])));
        assert_eq!(found, Some(Reason::TooManyDimensions));
        let fields: Vec<_> = names.iter().map(|name| (&**name, Value::Bigint(1))).collect();
        assert_eq!(reason(layout(&record(&[], &fields[..ATTRIBUTES_MAX]))), None);
        assert_eq!(reason(layout(&record(&[], &fields))), Some(Reason::TooManyMeasures));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (found, expected) in [
            (family(&record(&[], &[])), Reason::NoDimension),
            (family(&record(&[("a", "1"), ("a", "2")], &[])), Reason::DuplicateDimension),
            (family(&record(&[("", "1")], &[])), Reason::InvalidName),
            (family(&record(&[("a\u{1}", "1")], &[])), Reason::InvalidName),
            (layout(&record(&[], &[])), Reason::NoMeasure),
            (values(&record(&[], &[("f", Value::Double(f64::NAN))])), Reason::InvalidValue),
            (time(i64::MIN), Reason::InvalidTime),
            (time(i64::MAX), Reason::InvalidTime),
            (version(0), Reason::InvalidVersion),
        ] {
            assert_eq!(reason(found), Some(expected));
        }
        assert_eq!(reason(time(TIME_NS_MIN)), None);
        assert_eq!(reason(time(TIME_NS_MAX)), None);
        assert_eq!(reason(version(1)), None);
    }
}
