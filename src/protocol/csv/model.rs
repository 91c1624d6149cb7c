//! Data models and the form of CSV files, as they are sent and as models lie in objects.

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
pub(super) const NAME_CHARS: std::ops::RangeInclusive<i64> = 1..=256;

const SEPARATORS: [&str; 5] = [",", "|", ";", "\t", " "];
const QUOTES: [&str; 2] = ["\"", "'"];
pub(super) const UNITS: [(&str, i64); 4] = [
    ("MILLISECONDS", 1_000_000),
    ("SECONDS", 1_000_000_000),
    ("MICROSECONDS", 1_000),
    ("NANOSECONDS", 1),
];
pub(super) const TYPES: [&str; 5] = ["DOUBLE", "BIGINT", "BOOLEAN", "VARCHAR", "TIMESTAMP"];
pub(super) const TYPES_OR_MULTI: [&str; 6] =
    ["BIGINT", "BOOLEAN", "DOUBLE", "MULTI", "TIMESTAMP", "VARCHAR"];

/// What a mixed mapping says that its records have several values.
pub(super) const MULTI: &str = "MULTI";

impl DimensionMapping {
    /// The dimension's name.
    pub(super) fn target(&self) -> Option<&str> {
        self.destination_column.as_deref().or(self.source_column.as_deref())
    }
}

impl AttributeMapping {
    /// The attribute's name.
    pub(super) fn target(&self) -> Option<&str> {
        self.target_multi_measure_attribute_name.as_deref().or(self.source_column.as_deref())
    }
}

impl MixedMeasureMapping {
    /// Whether its records have several values.
    pub(super) fn is_multi(&self) -> bool {
        self.measure_value_type.as_deref() == Some(MULTI)
    }

    /// The record's measure name.
    pub(super) fn target(&self) -> Option<&str> {
        let name = self.target_measure_name.as_deref().or(self.measure_name.as_deref());
        name.or(self.source_column.as_deref().filter(|_| !self.is_multi()))
    }
}

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
        if let Some(null) = &self.null_value {
            violations.length(format!("{at}.nullValue"), null, &NAME_CHARS);
        }
        let (separator, quote) = (separator.unwrap_or(b','), quote.unwrap_or(b'"'));
        if let Some(escape) = &self.escape_char {
            check_escape(escape, (separator, quote), &format!("{at}.escapeChar"), violations);
        }
        let escape = self.escape_char.as_ref().and_then(|text| text.bytes().next());
        Dialect {
            separator,
            quote,
            // A quote that escapes itself is what the parser does anyway.
            escape: escape.filter(|escape| *escape != quote),
            null: self.null_value.clone(),
            trims: self.trim_white_space.unwrap_or_default(),
        }
    }
}

/// Checks that a character can stand before a quote and be nothing else.
fn check_escape(escape: &str, (separator, quote): (u8, u8), at: &str, violations: &mut Violations) {
    violations.length(at, escape, &(1..=1));
    if !escape.is_ascii() {
        violations.no_match(at, escape, "[\\x00-\\x7F]");
    }
    let &[byte] = escape.as_bytes() else { return };
    let is_quote = QUOTES.iter().any(|other| other.as_bytes() == [byte]);
    let right = match byte {
        b'\r' | b'\n' => "Member must not end a line",
        _ if byte == separator => "Member must be another character than columnSeparator",
        // It would be taken out of every quoted text that has one, as an apostrophe.
        _ if is_quote && byte != quote => "Member must be quoteChar where it is a quote",
        _ => return,
    };
    violations.add(at, Some(escape), right);
}

impl DataModel {
    /// Nanoseconds of its unit.
    pub(super) fn unit_ns(&self) -> i64 {
        let named = UNITS.iter().find(|(name, _)| Some(*name) == self.time_unit.as_deref());
        named.map_or(UNITS[0].1, |(_, unit_ns)| *unit_ns)
    }
}

/// The type of a mapping that was checked.
pub(super) fn type_of(name: Option<&str>) -> ValueType {
    name.and_then(ValueType::from_name).unwrap_or(ValueType::Varchar)
}
