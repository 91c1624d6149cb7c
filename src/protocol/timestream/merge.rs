//! `CommonAttributes` and a record become one [`Record`].

use super::Invalid;
use super::coral::Quoted;
use super::object::Object;
use super::shape::{Attributes, Dimension as NamedDimension, MeasureValue, Request, Text, text};
use crate::record::limits::TIME_NS_MAX;
use crate::record::{Attribute, Dimension, MeasureKind, Origin, Record, Value};

/// The version of a record that names none. Source: Timestream API, `Record`, `Version`.
const VERSION_DEFAULT: i64 = 1;

/// Up to this many names are compared one by one; more are sorted.
const NAMES_COMPARED_MAX: usize = 16;

/// A member of a record that breaks a rule.
struct Wrong {
    /// The rule, in Timestream's words where it has any.
    rule: &'static str,
    member: &'static str,
    /// Of several, the name of the one.
    of: Option<String>,
    value: String,
    /// What would be right.
    hint: &'static str,
}

impl Request<'_> {
    /// The records, each whole, in the order in which they were sent.
    ///
    /// # Errors
    ///
    /// [`Invalid`] for the first record that breaks a rule: nothing of the request is to be taken.
    pub fn records(&self) -> Result<Vec<Record<'_>>, Invalid> {
        let mut all: Vec<Record<'_>> = Vec::with_capacity(self.records.len());
        for (index, (json, own)) in self.records.iter().enumerate() {
            let origin =
                Origin { number: index as u64, text: json.as_bytes(), ..Origin::default() };
            let record = self.record(own, origin, all.last());
            all.push(record.map_err(|wrong| wrong.of(index))?);
        }
        Ok(all)
    }

    fn record<'r>(
        &'r self,
        own: &'r Attributes<'r>,
        origin: Origin<'r>,
        before: Option<&Record<'_>>,
    ) -> Result<Record<'r>, Wrong> {
        let merged = Merged { own, common: &self.common, before };
        let measure_name = text(merged.text(|from| from.measure_name.as_ref()));
        if measure_name.is_empty() {
            return Err(Wrong::new("Measure name is required for a record.", "MeasureName", ""));
        }
        let unit_ns = unit_ns(text(merged.text(|from| from.time_unit.as_ref())));
        let time_ns = time(text(merged.text(|from| from.time.as_ref())), unit_ns)?;
        let (kind, attributes) = merged.measure(unit_ns)?;
        Ok(Record {
            origin,
            database: self.database.as_str(),
            table: self.table.as_str(),
            measure_name,
            dimensions: merged.dimensions()?,
            kind,
            attributes,
            time_ns: Some(time_ns),
            version: Some(version(own.version.or(self.common.version))?),
        })
    }
}

/// A record above what all records share.
struct Merged<'r, 'b> {
    own: &'r Attributes<'r>,
    common: &'r Attributes<'r>,
    /// The record before it. Names that are the same as there are unique as there, which is cheaper to
    /// find out than that they are unique.
    before: Option<&'b Record<'b>>,
}

impl<'r> Merged<'r, '_> {
    fn text(
        &self,
        member: impl Fn(&'r Attributes<'r>) -> Option<&'r Text<'r>>,
    ) -> Option<&'r Text<'r>> {
        member(self.own).or_else(|| member(self.common))
    }

    fn dimensions(&self) -> Result<Vec<Dimension<'r>>, Wrong> {
        let lists = [self.common.dimensions(), self.own.dimensions()];
        let mut all = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
        for list in lists {
            all.extend(list.iter().map(|Object(named)| Dimension {
                name: text(named.name.as_ref()),
                value: text(named.value.as_ref()),
            }));
        }
        if all.is_empty() {
            let rule = "At least one dimension is required for a record.";
            return Err(Wrong::new(rule, "Dimensions", ""));
        }
        let before = self.before.map_or(&[][..], |before| &before.dimensions);
        if all.iter().map(|named| named.name).eq(before.iter().map(|named| named.name)) {
            return Ok(all);
        }
        match twice(all.iter().map(|dimension| dimension.name)) {
            None => Ok(all),
            Some(name) => {
                let named = |list: &[Object<NamedDimension<'_>>]| {
                    list.iter().filter(|Object(found)| text(found.name.as_ref()) == name).count()
                };
                let hint = match lists.map(named) {
                    [(2..), _] => "CommonAttributes name it twice",
                    [_, (2..)] => "the record names it twice",
                    _ => "CommonAttributes and the record may not both name it",
                };
                let rule = "Dimension names must be unique in a record.";
                Err(Wrong { hint, ..Wrong::new(rule, "Dimensions", name) })
            }
        }
    }

    /// The one value or the several.
    fn measure(&self, unit_ns: i64) -> Result<(MeasureKind, Vec<Attribute<'r>>), Wrong> {
        let type_name = text(self.text(|from| from.measure_value_type.as_ref()));
        let value = self.text(|from| from.measure_value.as_ref());
        let lists = [self.own.values(), self.common.values()];
        let values = lists.into_iter().find(|list| !list.is_empty());
        match (type_name, value, values) {
            ("MULTI", None, Some(values)) => {
                let before = self.before.map_or(&[][..], |before| &before.attributes);
                Ok((MeasureKind::Multi, several(values, unit_ns, before)?))
            }
            ("MULTI", None, None) => {
                let rule = "MeasureValues are required for a record of type MULTI.";
                Err(Wrong::new(rule, "MeasureValues", ""))
            }
            (_, Some(value), Some(_)) => {
                let rule = "MeasureValue and MeasureValues exclude each other in a record.";
                Err(Wrong::new(rule, "MeasureValue", value.as_str()))
            }
            ("MULTI", Some(value), None) => {
                let rule = "MeasureValue is not taken in a record of type MULTI.";
                Err(Wrong::new(rule, "MeasureValue", value.as_str()))
            }
            (_, None, Some(_)) => {
                let rule = "MeasureValues are taken in a record of type MULTI only.";
                Err(Wrong::new(rule, "MeasureValueType", type_name))
            }
            (_, None, None) => {
                Err(Wrong::new("A measure value is required for a record.", "MeasureValue", ""))
            }
            ("TIMESTAMP", Some(value), None) => Err(Wrong {
                hint: "send it as one of the MeasureValues of a record of type MULTI",
                ..Wrong::new(
                    "TIMESTAMP is not taken as the type of a single measure value.",
                    "MeasureValue",
                    value.as_str(),
                )
            }),
            (type_name, Some(text), None) => {
                let value = scalar(text.as_str(), type_name, unit_ns, "MeasureValue")?;
                Ok((MeasureKind::Scalar, vec![Attribute { name: "", value }]))
            }
        }
    }
}

fn several<'r>(
    values: &'r [Object<MeasureValue<'r>>],
    unit_ns: i64,
    before: &[Attribute<'_>],
) -> Result<Vec<Attribute<'r>>, Wrong> {
    let mut all = Vec::with_capacity(values.len());
    for Object(named) in values {
        let type_name = text(named.value_type.as_ref());
        let name = text(named.name.as_ref());
        let value = scalar(text(named.value.as_ref()), type_name, unit_ns, "MeasureValues");
        let value = value.map_err(|wrong| Wrong { of: Some(name.to_owned()), ..wrong })?;
        all.push(Attribute { name, value });
    }
    if all.iter().map(|named| named.name).eq(before.iter().map(|named| named.name)) {
        return Ok(all);
    }
    match twice(all.iter().map(|attribute| attribute.name)) {
        None => Ok(all),
        Some(name) => Err(Wrong::new(
            "Measure value names must be unique in a record.",
            "MeasureValues",
            name,
        )),
    }
}

/// A name that is there twice, if there is one.
fn twice<'n>(names: impl ExactSizeIterator<Item = &'n str> + Clone) -> Option<&'n str> {
    if names.len() <= NAMES_COMPARED_MAX {
        let mut earlier = names.clone().enumerate();
        return earlier.find_map(|(at, name)| {
            names.clone().take(at).any(|other| other == name).then_some(name)
        });
    }
    let mut sorted: Vec<_> = names.collect();
    sorted.sort_unstable();
    let mut pairs = sorted.iter().zip(sorted.iter().skip(1));
    pairs.find(|(name, next)| name == next).map(|(name, _)| *name)
}

fn unit_ns(name: &str) -> i64 {
    match name {
        "SECONDS" => 1_000_000_000,
        "MICROSECONDS" => 1_000,
        "NANOSECONDS" => 1,
        // The others were refused by the constraints.
        _ => 1_000_000,
    }
}

fn time(text: &str, unit_ns: i64) -> Result<i64, Wrong> {
    let time_ns = text.parse::<i64>().ok().and_then(|count| count.checked_mul(unit_ns));
    let hint = if text.is_empty() {
        "give one to the record or to CommonAttributes"
    } else {
        "it must be an integer of the record's TimeUnit (MILLISECONDS where it names none), from \
         1970 to 2262"
    };
    time_ns
        .filter(|time_ns| (0..=TIME_NS_MAX).contains(time_ns))
        .ok_or_else(|| Wrong { hint, ..Wrong::new("Invalid time for record.", "Time", text) })
}

fn version(version: Option<i64>) -> Result<i64, Wrong> {
    let version = version.unwrap_or(VERSION_DEFAULT);
    if version >= 1 {
        return Ok(version);
    }
    let rule = "Invalid version for record.";
    Err(Wrong {
        hint: "it must be 1 or higher",
        ..Wrong::new(rule, "Version", &version.to_string())
    })
}

/// The value that is `text`, in the type of that name.
fn scalar<'t>(
    text: &'t str,
    type_name: &str,
    unit_ns: i64,
    member: &'static str,
) -> Result<Value<'t>, Wrong> {
    let wrong = |rule, hint| Err(Wrong { hint, ..Wrong::new(rule, member, text) });
    match type_name {
        "VARCHAR" => Ok(Value::Varchar(text)),
        "BIGINT" => match text.parse() {
            Ok(number) => Ok(Value::Bigint(number)),
            Err(_) => wrong("Invalid BIGINT value.", "it must be an integer of 64 bits"),
        },
        // Clients in Python write True.
        "BOOLEAN" if text.eq_ignore_ascii_case("true") => Ok(Value::Boolean(true)),
        "BOOLEAN" if text.eq_ignore_ascii_case("false") => Ok(Value::Boolean(false)),
        "BOOLEAN" => wrong("Invalid BOOLEAN value.", "it must be true or false"),
        "TIMESTAMP" => {
            let time_ns = text.parse::<i64>().ok().and_then(|count| count.checked_mul(unit_ns));
            match time_ns.filter(|time_ns| *time_ns >= 0) {
                Some(time_ns) => Ok(Value::Timestamp(time_ns)),
                None => wrong(
                    "Invalid TIMESTAMP value.",
                    "it must be an integer of the record's TimeUnit, from 1970 to 2262",
                ),
            }
        }
        "MULTI" => wrong("MULTI is no type of one of the MeasureValues.", "use a type of a value"),
        // None is DOUBLE; the others were refused by the constraints.
        _ => match fast_float2::parse::<f64, _>(text) {
            Ok(number) if number.is_finite() => Ok(Value::Double(number)),
            Ok(_) => wrong("Invalid DOUBLE value.", "NaN and Infinity cannot be stored"),
            Err(_) => wrong("Invalid DOUBLE value.", "it must be a decimal number"),
        },
    }
}

impl Wrong {
    fn new(rule: &'static str, member: &'static str, value: &str) -> Self {
        Self { rule, member, of: None, value: value.to_owned(), hint: "" }
    }

    /// The rule first: tools look for it at the beginning of the message.
    #[cold]
    fn of(&self, index: usize) -> Invalid {
        let Self { rule, member, of, value, hint } = self;
        let of = of.as_ref().map_or_else(String::new, |name| format!(" '{}'", Quoted(name)));
        let found = if value.is_empty() {
            "is missing".to_owned()
        } else {
            format!("is '{}'", Quoted(value))
        };
        let hint = if hint.is_empty() { String::new() } else { format!(": {hint}") };
        Invalid { problem: format!("{rule} RecordIndex {index}: {member}{of} {found}{hint}.") }
    }
}
