//! Room in a JSON record for what is set in it: a flat one, or one of Timestream's shape.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::settle::{Draft, Why};
use super::{Measure, Set};
use crate::record::ValueType;

/// The members of an object in their order, one that stands twice included, values as they stand there.
#[derive(Debug, Clone, Default)]
struct Members(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Members, M::Error> {
                let mut members = Members::default();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    members.0.push((name, value.get().to_owned()));
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(All)
    }
}

impl Members {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The members of the last one of this name that is an object; none where it is absent.
    fn of(&self, name: &str) -> Self {
        self.get(name).and_then(Self::read).unwrap_or_default()
    }

    /// The last member of this name, `null` too.
    fn raw(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(own, _)| own == name);
        found.map(|(_, raw)| raw.as_str())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|raw| *raw != "null")
    }

    /// The text in the last member of this name.
    fn text(&self, name: &str) -> Option<String> {
        self.get(name).and_then(|raw| serde_json::from_str(raw).ok())
    }

    /// The elements of the last member of this name.
    fn list(&self, name: &str) -> Vec<Self> {
        self.get(name).and_then(|raw| serde_json::from_str(raw).ok()).unwrap_or_default()
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| own != name);
    }

    fn put(&mut self, name: &str, raw: String) {
        self.remove(name);
        self.0.push((name.to_owned(), raw));
    }

    fn put_text(&mut self, name: &str, text: &str) {
        self.put(name, quoted(text));
    }

    fn put_list(&mut self, name: &str, list: &[Self]) {
        let all: Vec<String> = list.iter().map(Self::to_json).collect();
        self.put(name, format!("[{}]", all.join(",")));
    }

    fn to_json(&self) -> String {
        let one = |(name, raw): &(String, String)| format!("{}:{raw}", quoted(name));
        let all: Vec<String> = self.0.iter().map(one).collect();
        format!("{{{}}}", all.join(","))
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text always serialises")
}

/// Makes room in a record, and in what stands around it. A document of several is left as it is.
pub(super) fn make_room(draft: &mut Draft, set: &mut Set) -> Result<(), Why> {
    let text = std::str::from_utf8(&draft.text).unwrap_or_default();
    let Some(mut record) = Members::read(text) else { return Ok(()) };
    if let Some(within) = &draft.within {
        let mut around = Members::read(within).unwrap_or_default();
        let mut common = around.of("CommonAttributes");
        in_parts(&mut record, &mut common, set)?;
        if !common.0.is_empty() {
            around.put("CommonAttributes", common.to_json());
            draft.within = Some(around.to_json());
        }
    } else if ["Records", "metrics"].iter().all(|name| record.get(name).is_none()) {
        in_flat(&mut record, set)?;
    }
    draft.text = record.to_json().into_bytes();
    Ok(())
}

fn in_flat(record: &mut Members, set: &mut Set) -> Result<(), Why> {
    if !set.dimensions.is_empty() {
        let mut tags = record.of("tags");
        for (name, _) in &set.dimensions {
            tags.put_text(name, "x");
        }
        record.put("tags", tags.to_json());
    }
    if !set.measures.is_empty() {
        let mut fields = record.of("fields");
        for measure in &mut set.measures {
            // A null is there, of no type.
            let found = fields.raw(&measure.name).map(shape);
            if found.is_none() && measure.value_type.is_none() {
                continue;
            }
            let value_type = measure.settle(found.flatten(), literal)?;
            fields.put(&measure.name, room(value_type).to_owned());
        }
        record.put("fields", fields.to_json());
    }
    if set.version.is_some() {
        record.remove("version");
    }
    if set.time_ns.is_some() {
        record.remove("timestamp");
    }
    Ok(())
}

/// Room in a record of Timestream's shape and in its common attributes.
fn in_parts(record: &mut Members, common: &mut Members, set: &mut Set) -> Result<(), Why> {
    in_dimensions(record, common, set);
    for measure in &mut set.measures {
        in_measure(record, common, measure)?;
    }
    if set.version.is_some() {
        record.remove("Version");
        common.remove("Version");
    }
    if set.time_ns.is_some() {
        record.put_text("Time", "0");
        let unit = record.text("TimeUnit").or_else(|| common.text("TimeUnit"));
        let is_unit = |unit: &str| unit.ends_with("SECONDS");
        // Values of the type TIMESTAMP are of the unit too: it stays where it may be one.
        if unit.is_none_or(|unit| !is_unit(&unit)) {
            record.put_text("TimeUnit", "NANOSECONDS");
        }
    }
    Ok(())
}

fn in_dimensions(record: &mut Members, common: &mut Members, set: &Set) {
    if set.dimensions.is_empty() {
        return;
    }
    let is_set = |one: &Members| {
        let name = one.text("Name");
        set.dimensions.iter().any(|(set, _)| Some(set) == name.as_ref())
    };
    let mut own = record.list("Dimensions");
    own.retain(|one| !is_set(one));
    for (name, _) in &set.dimensions {
        own.push(Members(vec![
            ("Name".to_owned(), quoted(name)),
            ("Value".to_owned(), quoted("x")),
        ]));
    }
    record.put_list("Dimensions", &own);
    let mut shared = common.list("Dimensions");
    if shared.iter().any(is_set) {
        shared.retain(|one| !is_set(one));
        common.put_list("Dimensions", &shared);
    }
}

fn in_measure(
    record: &mut Members,
    common: &mut Members,
    measure: &mut Measure,
) -> Result<(), Why> {
    let either = |name: &str| record.text(name).or_else(|| common.text(name));
    let (type_name, name) = (either("MeasureValueType"), either("MeasureName"));
    let type_of = |name: Option<String>| name.and_then(|name| ValueType::from_name(&name));
    if type_name.as_deref() != Some("MULTI") {
        if name.as_ref().is_some_and(|name| !measure.is_of_scalar(name)) {
            return Ok(());
        }
        let default = type_name.is_none().then_some(ValueType::Double);
        let value_type = measure.settle(type_of(type_name).or(default), literal)?;
        record.put_text("MeasureValueType", value_type.name());
        record.put_text("MeasureValue", room_text(value_type));
        return Ok(());
    }
    let own = record.list("MeasureValues");
    let mut values = if own.is_empty() { common.list("MeasureValues") } else { own };
    let is_it = |one: &Members| one.text("Name").as_ref() == Some(&measure.name);
    let found = values.iter().rev().find(|one| is_it(one)).map(|one| one.text("Type"));
    if found.is_none() && measure.value_type.is_none() {
        return Ok(());
    }
    values.retain(|one| !is_it(one));
    let value_type = measure.settle(found.and_then(type_of), literal)?;
    values.push(Members(vec![
        ("Name".to_owned(), quoted(&measure.name)),
        ("Value".to_owned(), quoted(room_text(value_type))),
        ("Type".to_owned(), quoted(value_type.name())),
    ]));
    record.put_list("MeasureValues", &values);
    Ok(())
}

/// The type that a JSON value is of, in range or not; `None` of what is no value.
fn shape(raw: &str) -> Option<ValueType> {
    match raw.bytes().next()? {
        b'"' => Some(ValueType::Varchar),
        b't' | b'f' => Some(ValueType::Boolean),
        b'{' | b'[' | b'n' => None,
        _ if raw.contains(['.', 'e', 'E']) => Some(ValueType::Double),
        _ => Some(ValueType::Bigint),
    }
}

/// A value that is JSON by itself.
fn literal(value: &str) -> Option<(ValueType, String)> {
    let raw: &RawValue = serde_json::from_str(value).ok()?;
    let value_type = shape(raw.get())?;
    let text = match value_type {
        ValueType::Varchar => serde_json::from_str(raw.get()).ok()?,
        _ => raw.get().to_owned(),
    };
    Some((value_type, text))
}

/// A JSON value of this type.
const fn room(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Double => "0.5",
        ValueType::Bigint | ValueType::Timestamp => "0",
        ValueType::Boolean => "true",
        ValueType::Varchar => "\"x\"",
    }
}

/// The same as Timestream's shape has it.
const fn room_text(value_type: ValueType) -> &'static str {
    match value_type {
        ValueType::Boolean => "true",
        ValueType::Varchar => "x",
        ValueType::Double | ValueType::Bigint | ValueType::Timestamp => "0",
    }
}
