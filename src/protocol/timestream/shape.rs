//! The members of a `WriteRecords` request, and the constraints that its model sets on each.
//!
//! Members of other names are skipped and `null` is as if the member were absent, as in all of
//! Amazon's JSON protocols.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::coral::Violations;
use super::object::{List, Object};
use super::{Invalid, Malformed, usual};
use crate::record::limits::{ATTRIBUTES_MAX, DIMENSIONS_MAX, RECORDS_PER_REQUEST_MAX};

/// Longest measure value in characters. Source: Timestream API, `StringValue2048`.
const VALUE_CHARS_MAX: i64 = 2048;

/// Longest text of a time in characters. Source: Timestream API, `StringValue256`.
const TIME_CHARS_MAX: i64 = 256;

const DIMENSION_TYPES: [&str; 1] = ["VARCHAR"];
const MEASURE_TYPES: [&str; 6] = ["DOUBLE", "BIGINT", "VARCHAR", "BOOLEAN", "TIMESTAMP", "MULTI"];
const TIME_UNITS: [&str; 4] = ["MILLISECONDS", "SECONDS", "MICROSECONDS", "NANOSECONDS"];

/// A text, borrowed from the body unless something in it was escaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

type Dimensions<'a> = List<Object<Dimension<'a>>, DIMENSIONS_MAX>;

/// One more than any table takes: that there are too many is for the record's table to say.
pub(super) type MeasureValues<'a> = List<Object<MeasureValue<'a>>, { ATTRIBUTES_MAX + 1 }>;

/// A request, its records still as JSON.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    #[serde(borrow, default)]
    database_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    table_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    common_attributes: Option<&'a RawValue>,
    #[serde(borrow, default)]
    records: Option<List<&'a RawValue, RECORDS_PER_REQUEST_MAX>>,
}

/// A request whose members are within their constraints.
#[derive(Debug)]
pub struct Request<'a> {
    /// The database.
    pub database: Text<'a>,
    /// The table.
    pub table: Text<'a>,
    /// What all records share.
    pub(super) common: Attributes<'a>,
    /// The records, each with its own JSON.
    pub(super) records: Vec<(&'a str, Attributes<'a>)>,
}

/// The members of a record, or of `CommonAttributes`.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Attributes<'a> {
    #[serde(borrow, default)]
    pub(super) dimensions: Option<Dimensions<'a>>,
    #[serde(borrow, default)]
    pub(super) measure_name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) measure_value: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) measure_value_type: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) measure_values: Option<MeasureValues<'a>>,
    #[serde(borrow, default)]
    pub(super) time: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) time_unit: Option<Text<'a>>,
    #[serde(default)]
    pub(super) version: Option<i64>,
}

/// A dimension; both texts are there once the constraints were checked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Dimension<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) value: Option<Text<'a>>,
    #[serde(rename = "DimensionValueType", borrow, default)]
    pub(super) value_type: Option<Text<'a>>,
}

/// One of several values; all three are there once the constraints were checked.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MeasureValue<'a> {
    #[serde(borrow, default)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub(super) value: Option<Text<'a>>,
    #[serde(rename = "Type", borrow, default)]
    pub(super) value_type: Option<Text<'a>>,
}

/// Why a body is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is not the JSON of one.
    Malformed(Malformed),
    /// Members are beyond their constraints.
    Invalid(Invalid),
}

impl Text<'_> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text, or nothing where there is none.
pub(super) fn text<'t>(text: Option<&'t Text<'_>>) -> &'t str {
    text.map_or("", |text| &text.0)
}

/// A body's members, before anything but their types was looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed<'a> {
    pub(super) database: Option<Text<'a>>,
    pub(super) table: Option<Text<'a>>,
    pub(super) common: Attributes<'a>,
    pub(super) records: Vec<(&'a str, Attributes<'a>)>,
    /// How many records there are, if there is a list; no more than are taken were kept.
    pub(super) count: Option<usize>,
}

/// Reads a body.
///
/// # Errors
///
/// [`Problem`]: nothing of it is to be taken.
pub fn read(body: &[u8]) -> Result<Request<'_>, Problem> {
    let parsed = match usual::read(body) {
        Some(parsed) => parsed,
        None => general(body)?,
    };
    parsed.checked()
}

/// Reads a body in any form that it may have.
pub(super) fn general(body: &[u8]) -> Result<Parsed<'_>, Problem> {
    let Object(envelope): Object<Envelope<'_>> =
        serde_json::from_slice(body).map_err(|error| malformed(&"the body", &error))?;
    let common = match envelope.common_attributes {
        None => Attributes::default(),
        Some(raw) => attributes(&"CommonAttributes", raw)?,
    };
    let count = envelope.records.as_ref().map(|raws| raws.count);
    let raws = envelope.records.unwrap_or_default();
    let mut records = Vec::with_capacity(raws.items.len());
    for (index, raw) in raws.items.iter().enumerate() {
        records.push((raw.get(), attributes(&format_args!("record {index}"), raw)?));
    }
    let (database, table) = (envelope.database_name, envelope.table_name);
    Ok(Parsed { database, table, common, records, count })
}

impl<'a> Parsed<'a> {
    /// The request, if every member is within its constraints.
    fn checked(self) -> Result<Request<'a>, Problem> {
        let Self { database, table, common, records, count: found } = self;
        let mut violations = Violations::default();
        common.check(&"commonAttributes", &mut violations);
        match found {
            Some(found) => count(found, &mut violations),
            None => violations.required("records"),
        }
        for (index, (_, record)) in records.iter().enumerate() {
            record.check(&Member("records", index), &mut violations);
        }
        for (path, name) in [("databaseName", &database), ("tableName", &table)] {
            if name.is_none() {
                violations.required(path);
            }
        }
        violations.finish().map_err(|problem| Problem::Invalid(Invalid { problem }))?;
        let (database, table) = (database.unwrap_or_default(), table.unwrap_or_default());
        Ok(Request { database, table, common, records })
    }
}

fn attributes<'a>(what: &dyn Display, raw: &'a RawValue) -> Result<Attributes<'a>, Problem> {
    let read = serde_json::from_str(raw.get());
    read.map(|Object(members)| members).map_err(|error| malformed(what, &error))
}

fn malformed(what: &dyn Display, error: &serde_json::Error) -> Problem {
    Problem::Malformed(Malformed { problem: format!("{what}: {error}") })
}

fn count(records: usize, violations: &mut Violations) {
    let found = i64::try_from(records).unwrap_or(i64::MAX);
    let max = i64::try_from(RECORDS_PER_REQUEST_MAX).unwrap_or(i64::MAX);
    violations.range("records", found, &(1..=max), Some(&format!("[{found} records]")));
}

/// The path of a list's member: `records.1.member` is the first.
struct Member<P>(P, usize);

impl<P: Display> Display for Member<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.member", self.0, self.1.saturating_add(1))
    }
}

/// The path of a member of what is at another path.
struct Of<'p>(&'p dyn Display, &'static str);

impl Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl<'a> Attributes<'a> {
    /// The dimensions; none where there are none.
    pub(super) fn dimensions(&self) -> &[Object<Dimension<'a>>] {
        self.dimensions.as_ref().map_or(&[], |dimensions| &dimensions.items)
    }

    /// The several values; none where there are none.
    pub(super) fn values(&self) -> &[Object<MeasureValue<'a>>] {
        self.measure_values.as_ref().map_or(&[], |values| &values.items)
    }

    fn check(&self, at: &dyn Display, violations: &mut Violations) {
        for (member, text, range) in [
            ("measureName", &self.measure_name, 1..=i64::MAX),
            ("measureValue", &self.measure_value, 1..=VALUE_CHARS_MAX),
            ("time", &self.time, 1..=TIME_CHARS_MAX),
        ] {
            if let Some(text) = text {
                violations.length(Of(at, member), text.as_str(), &range);
            }
        }
        for (member, text, all) in [
            ("measureValueType", &self.measure_value_type, &MEASURE_TYPES[..]),
            ("timeUnit", &self.time_unit, &TIME_UNITS),
        ] {
            listed(&Of(at, member), text.as_ref(), all, violations);
        }
        if let Some(dimensions) = &self.dimensions {
            let found = i64::try_from(dimensions.count).unwrap_or(i64::MAX);
            let max = i64::try_from(DIMENSIONS_MAX).unwrap_or(i64::MAX);
            if found > max {
                let shown = format!("[{found} dimensions]");
                violations.range(Of(at, "dimensions"), found, &(0..=max), Some(&shown));
            }
            for (index, Object(dimension)) in dimensions.items.iter().enumerate() {
                dimension.check(&Member(Of(at, "dimensions"), index), violations);
            }
        }
        for (index, Object(value)) in self.values().iter().enumerate() {
            value.check(&Member(Of(at, "measureValues"), index), violations);
        }
    }
}

impl Dimension<'_> {
    fn check(&self, at: &dyn Display, violations: &mut Violations) {
        required(&Of(at, "name"), self.name.as_ref(), i64::MAX, violations);
        if self.value.is_none() {
            violations.required(Of(at, "value"));
        }
        let value_type = self.value_type.as_ref();
        listed(&Of(at, "dimensionValueType"), value_type, &DIMENSION_TYPES, violations);
    }
}

impl MeasureValue<'_> {
    fn check(&self, at: &dyn Display, violations: &mut Violations) {
        required(&Of(at, "name"), self.name.as_ref(), i64::MAX, violations);
        required(&Of(at, "value"), self.value.as_ref(), VALUE_CHARS_MAX, violations);
        match &self.value_type {
            None => violations.required(Of(at, "type")),
            found => listed(&Of(at, "type"), found.as_ref(), &MEASURE_TYPES, violations),
        }
    }
}

fn required(path: &Of<'_>, found: Option<&Text<'_>>, max: i64, violations: &mut Violations) {
    match found {
        None => violations.required(path),
        Some(text) => violations.length(path, text.as_str(), &(1..=max)),
    }
}

fn listed(path: &Of<'_>, found: Option<&Text<'_>>, all: &[&str], violations: &mut Violations) {
    if let Some(text) = found.filter(|text| !all.contains(&text.as_str())) {
        violations.not_in(path, text.as_str(), all);
    }
}
