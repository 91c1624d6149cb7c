//! Timestream's shape: the members of a `WriteRecords` request, with any number of records.
//!
//! | member of a record | default | form |
//! |---|---|---|
//! | `Dimensions` | | `Name`, `Value`, `DimensionValueType` (`VARCHAR`) |
//! | `MeasureName` | [`super::Options::measure_name`] | text |
//! | `MeasureValueType` | `DOUBLE` | a type, or `MULTI` |
//! | `MeasureValue` | | a value as text; not with `MULTI` |
//! | `MeasureValues` | | `Name`, `Value`, `Type`; only with `MULTI` |
//! | `Time` | | an integer, as text |
//! | `TimeUnit` | `MILLISECONDS` | of `Time`, and of values of type `TIMESTAMP` |
//! | `Version` | left to the sink | an integer, at least 1 |
//!
//! `CommonAttributes` has the same members. Its dimensions are added to each record's, where none may
//! stand twice; any other member counts where the record has none. Values and times may be JSON
//! numbers and truth values instead of texts. Source: Timestream API, `WriteRecords`, `Record`.

use std::fmt;

use bumpalo::Bump;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Address, Draft};
use super::fault::{Excerpt, Fault};
use super::object::Members;
use super::walk::{Items, Key, Leaves};
use super::{Decoder, Precision, scalar};
use crate::record::{Attribute, Dimension, Reason, Value, ValueType};

/// Most bytes of `CommonAttributes` that the records of one body may repeat: a few bytes of record
/// may each stand for all of them, so the body's own size is no bound.
const COMMON_BYTES_REPEATED_MAX: usize = 64 << 20;

/// The members of a record.
#[derive(Default)]
struct Parts<'a> {
    dimensions: Vec<Named<'a>>,
    measure_values: Vec<Named<'a>>,
    scalars: Scalars<'a>,
}

/// A dimension or measure value, as raw JSON; empty where absent.
#[derive(Clone, Copy, Default)]
struct Named<'a> {
    name: &'a str,
    value: &'a str,
    value_type: &'a str,
}

/// The other members, as raw JSON; empty where absent.
#[derive(Clone, Copy, Default)]
struct Scalars<'a> {
    measure_name: &'a str,
    measure_value: &'a str,
    measure_value_type: &'a str,
    time: &'a str,
    time_unit: &'a str,
    version: &'a str,
}

/// What all records of a request share.
struct Common<'a> {
    parts: Parts<'a>,
    database: Option<&'a str>,
    table: Option<&'a str>,
    bytes: usize,
}

/// Takes the records of a request that has been read to its end.
pub(super) fn records<'a>(
    decoder: &mut Decoder<'a, '_>,
    request: &Members<'a>,
) -> Result<(), Fault<'a>> {
    let arena = decoder.draft.arena;
    let database = Asked { parameter: "db", name: decoder.options.database };
    let table = Asked { parameter: "table", name: decoder.options.table };
    let mut common = Common {
        parts: Parts::default(),
        database: agreed("DatabaseName", request.database, &database, arena)?,
        table: agreed("TableName", request.table, &table, arena)?,
        bytes: request.common.len(),
    };
    if !request.common.is_empty() {
        common.parts.read(request.common, arena)?;
    }
    let mut parts = Parts::default();
    decoder.within = around(request, arena);
    let each = |text| {
        if let Err(fault) = record(decoder, &common, &mut parts, text) {
            decoder.refuse(text, fault);
        }
    };
    let mut reader = serde_json::Deserializer::from_str(request.records);
    let read = Items(each).deserialize(&mut reader);
    decoder.within = "";
    read.map_err(|error| Fault::of(None, request.records, &error))
}

/// The request without its records, as far as it is part of their meaning.
fn around<'a>(request: &Members<'a>, arena: &'a Bump) -> &'a str {
    let mut text = bumpalo::collections::String::new_in(arena);
    let members = [
        ("DatabaseName", request.database),
        ("TableName", request.table),
        ("CommonAttributes", request.common),
    ];
    for (name, raw) in members.into_iter().filter(|(_, raw)| !raw.is_empty()) {
        text.push_str(if text.is_empty() { "{\"" } else { ",\"" });
        text.push_str(name);
        text.push_str("\":");
        text.push_str(raw);
    }
    text.push_str(if text.is_empty() { "{}" } else { "}" });
    text.into_bump_str()
}

/// A name that the request has beside its body.
struct Asked<'a> {
    parameter: &'static str,
    name: Option<&'a str>,
}

/// The name that the body's `member`, which is `raw`, or the request has. Where both do and differ, either
/// may be the mistake, and records in the wrong place are found late.
fn agreed<'a>(
    member: &'static str,
    raw: &'a str,
    asked: &Asked<'a>,
    arena: &'a Bump,
) -> Result<Option<&'a str>, Fault<'a>> {
    let named = scalar::name(raw, member, arena)?;
    match (named, asked.name) {
        (Some(named), Some(name)) if named != name => {
            let message = format!(
                "{member} is \"{}\" and the parameter {} is \"{}\": leave one of them out",
                Excerpt(named),
                asked.parameter,
                Excerpt(name)
            );
            Err(Fault { at: raw, reason: Reason::InvalidName, message })
        }
        _ => Ok(named.or(asked.name)),
    }
}

/// Takes the record that is `text`; `own` is used again for each.
fn record<'a>(
    decoder: &mut Decoder<'a, '_>,
    common: &Common<'a>,
    own: &mut Parts<'a>,
    text: &'a str,
) -> Result<(), Fault<'a>> {
    decoder.repeated_bytes = decoder.repeated_bytes.saturating_add(common.bytes);
    if decoder.repeated_bytes > COMMON_BYTES_REPEATED_MAX {
        // Kept with none of them either: a body of some MiB would become reports of many GiB.
        decoder.within = "";
        let message = format!(
            "CommonAttributes repeated by every record come to more than {COMMON_BYTES_REPEATED_MAX} bytes"
        );
        return Err(Fault { at: "", reason: Reason::RecordTooLarge, message });
    }
    let draft = &mut decoder.draft;
    draft.clear();
    own.read(text, draft.arena)?;
    for named in common.parts.dimensions.iter().chain(&own.dimensions) {
        draft.dimension(named.dimension(draft.arena)?)?;
    }
    let scalars = own.scalars.or(&common.parts.scalars);
    let measure_name = scalar::name(scalars.measure_name, "MeasureName", draft.arena)?;
    draft.address(&Address {
        database: common.database,
        table: common.table,
        measure_name: measure_name.or(decoder.options.measure_name),
    })?;
    let unit = time_unit(scalars.time_unit, draft.arena)?;
    draft.record.time_ns = Some(time(&scalars, unit, draft.arena)?);
    draft.record.version = scalar::version(scalars.version)?;
    let lists = [&own.measure_values, &common.parts.measure_values];
    let measure_values = lists.into_iter().find(|list| !list.is_empty());
    measure(draft, &scalars, measure_values.map_or(&[][..], Vec::as_slice), unit)?;
    decoder.show(text)
}

impl<'a> Parts<'a> {
    /// Reads the object that is `text` in the place of what was here.
    fn read(&mut self, text: &'a str, arena: &'a Bump) -> Result<(), Fault<'a>> {
        self.dimensions.clear();
        self.measure_values.clear();
        self.scalars = Scalars::default();
        let mut reader = serde_json::Deserializer::from_str(text);
        let read = reader.deserialize_map(Object { arena, parts: self });
        read.map_err(|error| Fault::of(None, text, &error))
    }
}

impl<'a> Scalars<'a> {
    /// These, and `common`'s where one is absent.
    fn or(&self, common: &Self) -> Self {
        let or = |own: &'a str, common: &'a str| if own.is_empty() { common } else { own };
        Self {
            measure_name: or(self.measure_name, common.measure_name),
            measure_value: or(self.measure_value, common.measure_value),
            measure_value_type: or(self.measure_value_type, common.measure_value_type),
            time: or(self.time, common.time),
            time_unit: or(self.time_unit, common.time_unit),
            version: or(self.version, common.version),
        }
    }
}

impl<'a> Named<'a> {
    fn dimension(&self, arena: &'a Bump) -> Result<Dimension<'a>, Fault<'a>> {
        if !self.value_type.is_empty() && type_name(self.value_type, arena)? != "VARCHAR" {
            let message = format!("dimensions are VARCHAR, not {}", Excerpt(self.value_type));
            return Err(Fault { at: self.value_type, reason: Reason::InvalidValue, message });
        }
        Ok(Dimension { name: self.name(arena)?, value: self.value(arena)? })
    }

    fn attribute(&self, unit: Precision, arena: &'a Bump) -> Result<Attribute<'a>, Fault<'a>> {
        let value_type = value_type(type_name(self.value_type, arena)?, self.value_type)?;
        let value = value(self.value(arena)?, value_type, unit, self.value)?;
        Ok(Attribute { name: self.name(arena)?, value })
    }

    fn name(&self, arena: &'a Bump) -> Result<&'a str, Fault<'a>> {
        scalar::name(self.name, "Name", arena)?.ok_or_else(|| Fault {
            at: self.value,
            reason: Reason::InvalidName,
            message: "a dimension or measure value has no Name".to_owned(),
        })
    }

    fn value(&self, arena: &'a Bump) -> Result<&'a str, Fault<'a>> {
        scalar::text(self.value, arena)?.ok_or_else(|| Fault {
            at: self.name,
            reason: Reason::InvalidValue,
            message: "a dimension or measure value has no Value".to_owned(),
        })
    }
}

/// Walks a record's object.
struct Object<'p, 'a> {
    arena: &'a Bump,
    parts: &'p mut Parts<'a>,
}

impl<'a> Visitor<'a> for Object<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record as an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<(), M::Error> {
        let Self { arena, parts } = self;
        let Parts { dimensions, measure_values, scalars } = parts;
        while let Some(key) = map.next_key_seed(Key(arena))? {
            let slot = match key {
                "Dimensions" => {
                    map.next_value_seed(List { arena, list: dimensions })?;
                    continue;
                }
                "MeasureValues" => {
                    map.next_value_seed(List { arena, list: measure_values })?;
                    continue;
                }
                "MeasureName" => &mut scalars.measure_name,
                "MeasureValue" => &mut scalars.measure_value,
                "MeasureValueType" => &mut scalars.measure_value_type,
                "Time" => &mut scalars.time,
                "TimeUnit" => &mut scalars.time_unit,
                "Version" => &mut scalars.version,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *slot = scalar::present(map.next_value::<&RawValue>()?.get());
        }
        Ok(())
    }
}

/// Walks the array of a record's dimensions or measure values, or none where `null` stands instead.
struct List<'p, 'a> {
    arena: &'a Bump,
    list: &'p mut Vec<Named<'a>>,
}

impl<'a> DeserializeSeed<'a> for List<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        self.list.clear();
        reader.deserialize_option(self)
    }
}

impl<'a> Visitor<'a> for List<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }

    fn visit_seq<S: SeqAccess<'a>>(self, mut seq: S) -> Result<(), S::Error> {
        loop {
            let mut named = Named::default();
            let each = |name: &'a str, raw: &'a str| {
                match name {
                    "Name" => named.name = scalar::present(raw),
                    "Value" => named.value = scalar::present(raw),
                    "Type" | "DimensionValueType" => named.value_type = scalar::present(raw),
                    _ => {}
                }
                Ok(())
            };
            let arena = self.arena;
            if seq.next_element_seed(Leaves { arena, fault: &mut None, each })?.is_none() {
                return Ok(());
            }
            self.list.push(named);
        }
    }
}

/// Reads the measure that a record's members give.
fn measure<'a>(
    draft: &mut Draft<'a>,
    scalars: &Scalars<'a>,
    measure_values: &[Named<'a>],
    unit: Precision,
) -> Result<(), Fault<'a>> {
    let arena = draft.arena;
    let type_raw = scalars.measure_value_type;
    let type_name = if type_raw.is_empty() { "DOUBLE" } else { type_name(type_raw, arena)? };
    let is_multi = type_name == "MULTI";
    let foreign = match measure_values.first() {
        Some(first) if !is_multi => first.name,
        _ if is_multi => scalars.measure_value,
        _ => "",
    };
    if !foreign.is_empty() {
        let message = "MeasureValues is for the type MULTI, MeasureValue for all others".to_owned();
        return Err(Fault { at: foreign, reason: Reason::InvalidValue, message });
    }
    if is_multi {
        let mut attributes = measure_values.iter().map(|named| named.attribute(unit, arena));
        return attributes.try_for_each(|attribute| draft.attribute(attribute?));
    }
    let Some(text) = scalar::text(scalars.measure_value, arena)? else { return Ok(()) };
    let value_type = value_type(type_name, type_raw)?;
    if value_type == ValueType::Timestamp {
        let message = "TIMESTAMP is a type of MeasureValues only".to_owned();
        return Err(Fault { at: type_raw, reason: Reason::InvalidValue, message });
    }
    draft.scalar(value(text, value_type, unit, scalars.measure_value)?)
}

/// The value that is `text`, which stands as `raw` in the record.
fn value<'a>(
    text: &'a str,
    value_type: ValueType,
    unit: Precision,
    raw: &'a str,
) -> Result<Value<'a>, Fault<'a>> {
    Ok(match value_type {
        ValueType::Double => Value::Double(scalar::double(text, raw)?),
        ValueType::Bigint => Value::Bigint(scalar::bigint(text, raw)?),
        ValueType::Boolean => Value::Boolean(boolean(text, raw)?),
        ValueType::Varchar => Value::Varchar(text),
        ValueType::Timestamp => {
            Value::Timestamp(scalar::moment(scalar::bigint(text, raw)?, unit, raw)?)
        }
    })
}

/// In any case of letters: clients in Python write `True`.
fn boolean<'a>(text: &str, raw: &'a str) -> Result<bool, Fault<'a>> {
    if text.eq_ignore_ascii_case("true") {
        return Ok(true);
    }
    if text.eq_ignore_ascii_case("false") {
        return Ok(false);
    }
    let message = format!("{} is neither true nor false (BOOLEAN)", Excerpt(raw));
    Err(Fault { at: raw, reason: Reason::InvalidValue, message })
}

fn type_name<'a>(raw: &'a str, arena: &'a Bump) -> Result<&'a str, Fault<'a>> {
    Ok(scalar::string(raw, arena)?.unwrap_or(raw))
}

/// The type with this name, which stands as `raw` in the record.
fn value_type<'a>(name: &str, raw: &'a str) -> Result<ValueType, Fault<'a>> {
    ValueType::from_name(name).ok_or_else(|| {
        let message =
            format!("type {} is not DOUBLE, BIGINT, BOOLEAN, VARCHAR or TIMESTAMP", Excerpt(raw));
        Fault { at: raw, reason: Reason::InvalidValue, message }
    })
}

fn time_unit<'a>(raw: &'a str, arena: &'a Bump) -> Result<Precision, Fault<'a>> {
    match type_name(raw, arena)? {
        "" | "MILLISECONDS" => Ok(Precision::Ms),
        "SECONDS" => Ok(Precision::S),
        "MICROSECONDS" => Ok(Precision::Us),
        "NANOSECONDS" => Ok(Precision::Ns),
        _ => {
            let message = format!(
                "TimeUnit {} is not SECONDS, MILLISECONDS, MICROSECONDS or NANOSECONDS",
                Excerpt(raw)
            );
            Err(Fault { at: raw, reason: Reason::InvalidTime, message })
        }
    }
}

fn time<'a>(scalars: &Scalars<'a>, unit: Precision, arena: &'a Bump) -> Result<i64, Fault<'a>> {
    let text = scalar::text(scalars.time, arena)?.unwrap_or_default();
    let Ok(count) = text.parse() else {
        let message = format!("Time {} is not an integer", Excerpt(scalars.time));
        return Err(Fault { at: scalars.time, reason: Reason::InvalidTime, message });
    };
    scalar::moment(count, unit, scalars.time)
}
