//! From a line to a record.

use std::mem;

use super::raw::{Field, FieldValue, RawLine};
use super::reader::column;
use super::recover::{self, FieldPart};
use super::{MeasureName, Options, Precision, VersionField, Wrong};
use crate::record::{Attribute, MeasureKind, Origin, Reason, Record, Refusal, Value};

/// The key that stands for the time in every query language, so that no tag or field can have it.
const TIME_KEY: &str = "time";

/// Fills records with lines, for one request.
#[derive(Debug)]
pub(super) struct Mapper<'o> {
    options: &'o Options<'o>,
    /// The time of a line without a timestamp.
    default_time_ns: i64,
    /// Of the line at hand, which fields a later one with their key replaces; empty if none.
    replaced: Vec<bool>,
}

impl<'o> Mapper<'o> {
    pub(super) fn new(options: &'o Options<'o>) -> Self {
        Self {
            options,
            default_time_ns: options.precision.cut(options.received_ns),
            replaced: Vec::new(),
        }
    }

    /// Fills `record` with `line`, whose tags are gone after that.
    ///
    /// # Errors
    ///
    /// The line cannot be a record; `record` is in no useful state.
    #[inline]
    pub(super) fn fill<'a>(
        &mut self,
        record: &mut Record<'a>,
        line: &mut RawLine<'a>,
    ) -> Result<(), Refusal<'a>>
    where
        'o: 'a,
    {
        record.origin = Origin { number: line.number, text: line.text, ..Origin::default() };
        record.database = self.options.database;
        record.table = line.measurement;
        record.measure_name = match self.options.measure_name {
            MeasureName::Measurement => line.measurement,
            MeasureName::Fixed(name) => name,
        };
        record.kind = MeasureKind::Multi;
        record.version = None;
        self.fill_time(record, line)?;
        self.replaced.clear();
        if line.may_repeat_fields {
            self.replaced = replaced_fields(line)?;
        }
        self.fill_attributes(record, line)?;
        self.fill_dimensions(record, line)
    }

    #[inline]
    fn fill_time<'a>(
        &self,
        record: &mut Record<'a>,
        line: &RawLine<'a>,
    ) -> Result<(), Refusal<'a>> {
        record.time_ns = match line.timestamp {
            None => Some(self.default_time_ns),
            Some(timestamp) => self.options.precision.to_ns(timestamp),
        };
        if record.time_ns.is_none() {
            Err(refuse_time(line, self.options.precision))
        } else {
            Ok(())
        }
    }

    #[inline]
    fn fill_dimensions<'a>(
        &self,
        record: &mut Record<'a>,
        line: &mut RawLine<'a>,
    ) -> Result<(), Refusal<'a>>
    where
        'o: 'a,
    {
        if let Some(number) = line.tags.iter().position(|tag| tag.name == TIME_KEY) {
            return Err(refuse_time_tag(line, number));
        }
        // Not copied: the record's old dimensions are cleared before the next line is read.
        mem::swap(&mut record.dimensions, &mut line.tags);
        if record.dimensions.is_empty() {
            let Some(dimension) = self.options.default_dimension else {
                return Err(refuse_untagged(line));
            };
            record.dimensions.push(dimension);
        }
        Ok(())
    }

    #[inline]
    fn fill_attributes<'a>(
        &self,
        record: &mut Record<'a>,
        line: &RawLine<'a>,
    ) -> Result<(), Refusal<'a>> {
        record.attributes.clear();
        for (number, field) in line.fields.iter().enumerate() {
            if self.replaced.get(number) == Some(&true) {
                continue;
            }
            if self.is_version(field) {
                record.version = Some(version(line, number, field)?);
            } else if field.key != TIME_KEY {
                let value = match field.value {
                    FieldValue::Float(value) => Value::Double(value),
                    FieldValue::Integer(value) => Value::Bigint(value),
                    FieldValue::Boolean(value) => Value::Boolean(value),
                    FieldValue::String(value) => Value::Varchar(value),
                    FieldValue::Unsigned(value) => match i64::try_from(value) {
                        Ok(value) => Value::Bigint(value),
                        Err(_) => return Err(refuse_unsigned(line, number, value)),
                    },
                };
                record.attributes.push(Attribute { name: field.key, value });
            }
        }
        if record.attributes.is_empty() { Err(refuse_unmeasured(line)) } else { Ok(()) }
    }

    #[inline]
    fn is_version(&self, field: &Field<'_>) -> bool {
        match self.options.version {
            VersionField::None => false,
            VersionField::Field(key) => key == field.key,
        }
    }
}

/// The version that `field` holds, from 1 on.
fn version<'a>(line: &RawLine<'a>, number: usize, field: &Field<'a>) -> Result<i64, Refusal<'a>> {
    let version = match field.value {
        FieldValue::Integer(value) => Some(value),
        FieldValue::Unsigned(value) => i64::try_from(value).ok(),
        FieldValue::Float(value) => integral(value),
        FieldValue::Boolean(_) | FieldValue::String(_) => None,
    };
    version.filter(|version| *version >= 1).ok_or_else(|| {
        let place = field_place(line, number, FieldPart::Value);
        let message = format!(
            "the version field {:?} is no version, but a version is an integer from 1 to {}",
            field.key,
            i64::MAX
        );
        Wrong { reason: Reason::InvalidVersion, message }.refuse(line, column(place))
    })
}

/// `value` as the integer that it is, if it is one that a float tells from its neighbours.
fn integral(value: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    let is_exact = value.trunc().to_bits() == value.to_bits() && value.abs() <= EXACT_MAX;
    #[expect(clippy::cast_possible_truncation, reason = "integral and within the range of i64")]
    is_exact.then_some(value as i64)
}

/// Which fields of the line a later one with their key replaces.
#[cold]
fn replaced_fields<'a>(line: &RawLine<'a>) -> Result<Vec<bool>, Refusal<'a>> {
    let mut sorted: Vec<(usize, &Field<'a>)> = line.fields.iter().enumerate().collect();
    // Stable, so that fields with one key keep their order.
    sorted.sort_by_key(|(_, field)| field.key);
    let mut replaced = vec![false; line.fields.len()];
    for pair in sorted.windows(2) {
        let [(number, before), (next, after)] = pair else { continue };
        if before.key != after.key {
            continue;
        }
        if mem::discriminant(&before.value) != mem::discriminant(&after.value) {
            return Err(refuse_types(line, *next, after.key));
        }
        if let Some(replaced) = replaced.get_mut(*number) {
            *replaced = true;
        }
    }
    Ok(replaced)
}

/// Where in its line a part of the field `number` stands.
fn field_place(line: &RawLine<'_>, number: usize, part: FieldPart) -> usize {
    let text = std::str::from_utf8(line.text).unwrap_or_default();
    recover::field_place(text, number, part)
}

#[cold]
fn refuse_types<'a>(line: &RawLine<'a>, number: usize, key: &str) -> Refusal<'a> {
    let place = field_place(line, number, FieldPart::Value);
    let message = format!(
        "the field {key:?} stands twice with values of two types, but a field has one type"
    );
    Wrong { reason: Reason::TypeConflict, message }.refuse(line, column(place))
}

#[cold]
fn refuse_unsigned<'a>(line: &RawLine<'a>, number: usize, value: u64) -> Refusal<'a> {
    let place = field_place(line, number, FieldPart::Value);
    let message = format!("found {value}u, but the largest integer that is stored is {}", i64::MAX);
    Wrong { reason: Reason::InvalidValue, message }.refuse(line, column(place))
}

#[cold]
fn refuse_time<'a>(line: &RawLine<'a>, precision: Precision) -> Refusal<'a> {
    let place = recover::timestamp_place(line.text);
    let timestamp = line.timestamp.unwrap_or_default();
    let mut message = format!(
        "found the timestamp {timestamp}, but in the precision of the request ({}) it is no time between \
         the years 1677 and 2262",
        precision.name()
    );
    // The Go client for InfluxDB 1 says `precision=us` of nanoseconds.
    if precision != Precision::Nanoseconds && Precision::Nanoseconds.to_ns(timestamp).is_some() {
        message.push_str("; if it counts nanoseconds, send precision=ns");
    }
    Wrong { reason: Reason::InvalidTime, message }.refuse(line, column(place))
}

#[cold]
fn refuse_time_tag<'a>(line: &RawLine<'a>, number: usize) -> Refusal<'a> {
    let text = std::str::from_utf8(line.text).unwrap_or_default();
    let message = "found a tag with the key 'time', but that name is kept for the time of a record";
    let wrong = Wrong { reason: Reason::InvalidName, message: message.to_owned() };
    wrong.refuse(line, column(recover::tag_place(text, number)))
}

#[cold]
fn refuse_untagged<'a>(line: &RawLine<'a>) -> Refusal<'a> {
    let text = std::str::from_utf8(line.text).unwrap_or_default();
    let message = "found no tag, but a record needs at least one dimension; the settings can name one \
                   for lines without";
    let wrong = Wrong { reason: Reason::NoDimension, message: message.to_owned() };
    wrong.refuse(line, column(recover::tags_place(text)))
}

#[cold]
fn refuse_unmeasured<'a>(line: &RawLine<'a>) -> Refusal<'a> {
    let place = field_place(line, 0, FieldPart::Key);
    let message = "found no field that can be stored, but a record needs at least one; a field 'time' \
                   and the version field do not count";
    let wrong = Wrong { reason: Reason::NoMeasure, message: message.to_owned() };
    wrong.refuse(line, column(place))
}
