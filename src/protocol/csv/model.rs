//! Data models and the form of CSV files, as they are sent and as models lie in objects.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::protocol::timestream::coral::Violations;
use crate::protocol::timestream::object;
use crate::record::ValueType;

/// How the columns of a file become records. Source: Timestream API, `DataModel`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DataModel {
    /// The column of the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_column: Option<String>,
    /// The unit of times; milliseconds where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_unit: Option<String>,
    /// The columns of dimensions.
    #[serde(deserialize_with = "object::all")]
    pub dimension_mappings: Vec<DimensionMapping>,
    /// One MULTI record a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(deserialize_with = "object::option")]
    pub multi_measure_mappings: Option<MultiMeasureMappings>,
    /// Records of several kinds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "object::all")]
    pub mixed_measure_mappings: Vec<MixedMeasureMapping>,
    /// The column of the measure name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_name_column: Option<String>,
}

/// A column that is a dimension.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DimensionMapping {
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// The dimension's name; the column's where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_column: Option<String>,
}

/// The columns of one MULTI record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MultiMeasureMappings {
    /// Its measure name, where no column has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_multi_measure_name: Option<String>,
    /// Its attributes.
    #[serde(deserialize_with = "object::all")]
    pub multi_measure_attribute_mappings: Vec<AttributeMapping>,
}

/// A column that is an attribute of a MULTI record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct AttributeMapping {
    /// The column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// The attribute's name; the column's where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_multi_measure_attribute_name: Option<String>,
    /// Its type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_value_type: Option<String>,
}

/// One kind of records among several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MixedMeasureMapping {
    /// What the column of the measure name has in rows of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_name: Option<String>,
    /// The column of the one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_column: Option<String>,
    /// The record's measure name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_measure_name: Option<String>,
    /// The value's type, or MULTI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measure_value_type: Option<String>,
    /// The attributes of a MULTI record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[serde(deserialize_with = "object::all")]
    pub multi_measure_attribute_mappings: Vec<AttributeMapping>,
}

/// The form of a file, as it is sent. Source: Timestream API, `CsvConfiguration`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CsvConfiguration {
    /// Between fields; a comma where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column_separator: Option<String>,
    /// Before a quote that is text; a quote written twice is one as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escape_char: Option<String>,
    /// Around fields; `"` where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quote_char: Option<String>,
    /// A text that is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub null_value: Option<String>,
    /// Whether white space around fields is no part of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trim_white_space: Option<bool>,
}

/// The form of a file, for the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    pub(super) separator: u8,
    pub(super) quote: u8,
    pub(super) escape: Option<u8>,
    pub(super) null: Option<String>,
    pub(super) trims: bool,
}

/// Lengths of a column's name. Source: Timestream API, `StringValue256`.
const NAME_CHARS: std::ops::RangeInclusive<i64> = 1..=256;

const SEPARATORS: [&str; 5] = [",", "|", ";", "\t", " "];
const QUOTES: [&str; 2] = ["\"", "'"];
const UNITS: [(&str, i64); 4] = [
    ("MILLISECONDS", 1_000_000),
    ("SECONDS", 1_000_000_000),
    ("MICROSECONDS", 1_000),
    ("NANOSECONDS", 1),
];
const TYPES: [&str; 5] = ["DOUBLE", "BIGINT", "BOOLEAN", "VARCHAR", "TIMESTAMP"];
const TYPES_OR_MULTI: [&str; 6] = ["BIGINT", "BOOLEAN", "DOUBLE", "MULTI", "TIMESTAMP", "VARCHAR"];

/// What a mixed mapping says that its records have several values.
pub(super) const MULTI: &str = "MULTI";

impl CsvConfiguration {
    /// The form that this says. What is wrong with it is added to `violations`, in the words of the
    /// framework; what is returned then counts for nothing.
    pub fn dialect(&self, at: &str, violations: &mut Violations) -> Dialect {
        let mut one_of = |member: &str, text: &Option<String>, all: &[&str]| match text {
            Some(text) if !all.contains(&text.as_str()) => {
                violations.not_in(format!("{at}.{member}"), text, all);
                None
            }
            text => text.as_ref().and_then(|text| text.bytes().next()),
        };
        let separator = one_of("columnSeparator", &self.column_separator, &SEPARATORS);
        let quote = one_of("quoteChar", &self.quote_char, &QUOTES);
        if let Some(escape) = &self.escape_char {
            violations.length(format!("{at}.escapeChar"), escape, &(1..=1));
            if !escape.is_ascii() {
                violations.no_match(format!("{at}.escapeChar"), escape, "[\\x00-\\x7F]");
            }
        }
        if let Some(null) = &self.null_value {
            violations.length(format!("{at}.nullValue"), null, &NAME_CHARS);
        }
        let quote = quote.unwrap_or(b'"');
        let escape = self.escape_char.as_ref().and_then(|text| text.bytes().next());
        Dialect {
            separator: separator.unwrap_or(b','),
            quote,
            // A quote that escapes itself is what the parser does anyway.
            escape: escape.filter(|escape| *escape != quote),
            null: self.null_value.clone(),
            trims: self.trim_white_space.unwrap_or_default(),
        }
    }
}

impl DataModel {
    /// Adds what is wrong with it to `violations`, in the words of the framework.
    pub fn check(&self, at: &str, violations: &mut Violations) {
        let mut name = |member: String, text: &Option<String>| {
            if let Some(text) = text {
                violations.length(format!("{at}.{member}"), text, &NAME_CHARS);
            }
        };
        name("timeColumn".to_owned(), &self.time_column);
        name("measureNameColumn".to_owned(), &self.measure_name_column);
        for (index, mapping) in self.dimension_mappings.iter().enumerate() {
            let at = format!("dimensionMappings.{}.member", index.saturating_add(1));
            name(format!("{at}.sourceColumn"), &mapping.source_column);
            name(format!("{at}.destinationColumn"), &mapping.destination_column);
        }
        if self.time_column.is_none() {
            violations.required(format!("{at}.timeColumn"));
        }
        if self.dimension_mappings.is_empty() {
            violations.range(format!("{at}.dimensionMappings"), 0, &(1..=i64::MAX), Some("[]"));
        }
        for (index, mapping) in self.dimension_mappings.iter().enumerate() {
            if mapping.source_column.is_none() {
                let index = index.saturating_add(1);
                violations.required(format!("{at}.dimensionMappings.{index}.member.sourceColumn"));
            }
        }
        let target = |mapping: &DimensionMapping| {
            mapping.destination_column.clone().or_else(|| mapping.source_column.clone())
        };
        let path = |at: &str| format!("{at}.destinationColumn");
        let names = self.dimension_mappings.iter().map(target);
        check_unique(names, &format!("{at}.dimensionMappings"), &path, violations);
        if let Some(unit) = &self.time_unit
            && !UNITS.iter().any(|(name, _)| name == unit)
        {
            violations.not_in(format!("{at}.timeUnit"), unit, &UNITS.map(|(name, _)| name));
        }
        self.check_measures(at, violations);
    }

    fn check_measures(&self, at: &str, violations: &mut Violations) {
        match &self.multi_measure_mappings {
            Some(multi) => {
                let at = format!("{at}.multiMeasureMappings");
                check_attributes(&multi.multi_measure_attribute_mappings, &at, violations);
                if multi.target_multi_measure_name.is_none() && self.measure_name_column.is_none() {
                    violations.required(format!("{at}.targetMultiMeasureName"));
                }
                if !self.mixed_measure_mappings.is_empty() {
                    let right = "Member must be null where mixedMeasureMappings are there";
                    violations.add(&at, Some(""), right);
                }
            }
            None if self.mixed_measure_mappings.is_empty() => {
                violations.required(format!("{at}.multiMeasureMappings"));
            }
            None => {}
        }
        for (index, mapping) in self.mixed_measure_mappings.iter().enumerate() {
            let index = index.saturating_add(1);
            let at = format!("{at}.mixedMeasureMappings.{index}.member");
            self.check_mixed(mapping, &at, violations);
        }
    }

    fn check_mixed(&self, mapping: &MixedMeasureMapping, at: &str, violations: &mut Violations) {
        if self.measure_name_column.is_some() && mapping.measure_name.is_none() {
            violations.required(format!("{at}.measureName"));
        }
        match mapping.measure_value_type.as_deref() {
            None => violations.required(format!("{at}.measureValueType")),
            Some(MULTI) => {
                check_attributes(&mapping.multi_measure_attribute_mappings, at, violations);
                let names = [&mapping.target_measure_name, &mapping.measure_name];
                if names.iter().all(|name| name.is_none()) {
                    violations.required(format!("{at}.targetMeasureName"));
                }
            }
            Some(other) if !TYPES_OR_MULTI.contains(&other) => {
                violations.not_in(format!("{at}.measureValueType"), other, &TYPES_OR_MULTI);
            }
            Some(_) if mapping.source_column.is_none() => {
                violations.required(format!("{at}.sourceColumn"));
            }
            Some(_) => {}
        }
    }

    /// Nanoseconds of its unit.
    pub(super) fn unit_ns(&self) -> i64 {
        let named = UNITS.iter().find(|(name, _)| Some(*name) == self.time_unit.as_deref());
        named.map_or(UNITS[0].1, |(_, unit_ns)| *unit_ns)
    }
}

fn check_attributes(mappings: &[AttributeMapping], at: &str, violations: &mut Violations) {
    let at = format!("{at}.multiMeasureAttributeMappings");
    if mappings.is_empty() {
        violations.range(&at, 0, &(1..=i64::MAX), Some("[]"));
    }
    let target = |mapping: &AttributeMapping| {
        let target = mapping.target_multi_measure_attribute_name.clone();
        target.or_else(|| mapping.source_column.clone())
    };
    let path = |at: &str| format!("{at}.targetMultiMeasureAttributeName");
    check_unique(mappings.iter().map(target), &at, &path, violations);
    for (index, mapping) in mappings.iter().enumerate() {
        let at = format!("{at}.{}.member", index.saturating_add(1));
        match &mapping.source_column {
            None => violations.required(format!("{at}.sourceColumn")),
            Some(name) => violations.length(format!("{at}.sourceColumn"), name, &NAME_CHARS),
        }
        if let Some(name) = &mapping.target_multi_measure_attribute_name {
            let at = format!("{at}.targetMultiMeasureAttributeName");
            violations.length(at, name, &NAME_CHARS);
        }
        match mapping.measure_value_type.as_deref() {
            // A type that is guessed is a column that the next file does not fit.
            None => violations.required(format!("{at}.measureValueType")),
            Some(name) if !TYPES.contains(&name) => {
                violations.not_in(format!("{at}.measureValueType"), name, &TYPES);
            }
            Some(_) => {}
        }
    }
}

/// Checks that no two mappings have one target: all but the last value of a row would be lost.
fn check_unique(
    names: impl Iterator<Item = Option<String>>,
    at: &str,
    path: &dyn Fn(&str) -> String,
    violations: &mut Violations,
) {
    let mut seen = HashSet::new();
    for (index, name) in (1_usize..).zip(names) {
        let Some(name) = name else { continue };
        if seen.contains(&name) {
            let right = "Member must not name the target of another mapping";
            violations.add(path(&format!("{at}.{index}.member")), Some(&name), right);
        }
        seen.insert(name);
    }
}

/// The type of a mapping that was checked.
pub(super) fn type_of(name: Option<&str>) -> ValueType {
    name.and_then(ValueType::from_name).unwrap_or(ValueType::Varchar)
}
