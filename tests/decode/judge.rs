//! Judges the decoder by one case. What the members of a case mean stands beside the cases.
#![expect(clippy::unwrap_used, reason = "a case that cannot be read fails the test that reads it")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bumpalo::Bump;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate::protocol::line::{FieldValue, Limits, Precision, RawLine, Reader};

/// The time of lines without one, where a case does not name it.
const DEFAULT_TIME_NS: i64 = 1_700_000_000_123_456_789;

#[derive(Deserialize)]
pub(crate) struct Case {
    name: String,
    input_utf8: Option<String>,
    input_base64: Option<String>,
    default_time: Option<i64>,
    precision: Option<String>,
    expect: Option<Outcome>,
    expect_per_line: Option<Outcome>,
    #[serde(default)]
    recommended: String,
    recommended_expect: Option<Outcome>,
    #[serde(default)]
    judge: String,
    #[serde(default)]
    untyped_values: bool,
}

#[derive(Deserialize)]
struct Outcome {
    ok: bool,
    points: Option<Vec<Point>>,
    point_count: Option<usize>,
    #[serde(default)]
    whole_document: bool,
}

#[derive(Deserialize)]
struct Point {
    measurement: Text,
    tags: Vec<(Text, Text)>,
    fields: Vec<(Text, TypedValue)>,
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes { base64: String },
}

/// The value as it is written, since numbers up to 2^64-1 and floats to the last bit are compared.
#[derive(Deserialize)]
struct TypedValue {
    r#type: String,
    value: Box<RawValue>,
}

/// A point in the form in which two are compared.
#[derive(Debug, PartialEq)]
struct Canonical {
    measurement: Vec<u8>,
    tags: Vec<(Vec<u8>, Vec<u8>)>,
    fields: Vec<(Vec<u8>, Scalar)>,
    /// `None` is the default time, cut to the precision.
    time_ns: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Scalar {
    Float(f64),
    Integer(i64),
    Unsigned(u64),
    Boolean(bool),
    String(Vec<u8>),
}

/// The cases of a file that have a decode outcome.
pub(crate) fn cases(json: &str) -> Vec<Case> {
    let all: Vec<Case> = serde_json::from_str(json).unwrap();
    all.into_iter().filter(|case| case.expect.is_some()).collect()
}

impl Case {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the decoder's answer is right; the error says what it was.
    pub(crate) fn judge(&self) -> Result<(), String> {
        let (points, errors) = self.answer();
        let is_right = self.outcomes().iter().any(|right| self.is_met(right, &points, &errors));
        if is_right { Ok(()) } else { Err(format!("points {points:?}, errors {errors:?}")) }
    }

    fn precision(&self) -> Precision {
        Precision::from_v1(self.precision.as_deref().unwrap_or_default()).unwrap()
    }

    fn default_time_ns(&self) -> i64 {
        self.precision().cut(self.default_time.unwrap_or(DEFAULT_TIME_NS))
    }

    fn answer(&self) -> (Vec<Canonical>, Vec<String>) {
        let body = match (&self.input_utf8, &self.input_base64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, base64) => STANDARD.decode(base64.as_ref().unwrap()).unwrap(),
        };
        let arena = Bump::new();
        let limits = Limits { tags: usize::MAX, fields: usize::MAX, ..Limits::default() };
        let mut reader = Reader::new(&body, limits, &arena);
        let (mut points, mut errors) = (Vec::new(), Vec::new());
        while let Some(read) = reader.read() {
            match read {
                Ok(line) => match self.canonical_line(line) {
                    Some(point) => points.push(point),
                    None => errors.push("timestamp out of range".to_owned()),
                },
                Err(refusal) => errors.push(refusal.message),
            }
        }
        (points, errors)
    }

    /// `None` if the line has a time beyond the range.
    fn canonical_line(&self, line: &RawLine<'_>) -> Option<Canonical> {
        let time_ns = match line.timestamp {
            None => None,
            Some(timestamp) => Some(self.precision().to_ns(timestamp)?),
        };
        let bytes = |text: &str| text.as_bytes().to_vec();
        let value = |value: FieldValue<'_>| match value {
            FieldValue::Float(value) => Scalar::Float(value),
            FieldValue::Integer(value) => Scalar::Integer(value),
            FieldValue::Unsigned(value) => Scalar::Unsigned(value),
            FieldValue::Boolean(value) => Scalar::Boolean(value),
            FieldValue::String(value) => Scalar::String(bytes(value)),
        };
        Some(self.canonical(
            bytes(line.measurement),
            line.tags.iter().map(|tag| (bytes(tag.name), bytes(tag.value))).collect(),
            line.fields.iter().map(|field| (bytes(field.key), value(field.value))).collect(),
            time_ns,
        ))
    }

    fn canonical_point(&self, point: &Point) -> Canonical {
        self.canonical(
            point.measurement.bytes(),
            point.tags.iter().map(|(key, value)| (key.bytes(), value.bytes())).collect(),
            point.fields.iter().map(|(key, value)| (key.bytes(), value.scalar())).collect(),
            point.timestamp,
        )
    }

    /// Tags and fields are compared as multisets.
    fn canonical(
        &self,
        measurement: Vec<u8>,
        mut tags: Vec<(Vec<u8>, Vec<u8>)>,
        mut fields: Vec<(Vec<u8>, Scalar)>,
        time_ns: Option<i64>,
    ) -> Canonical {
        if self.untyped_values && self.recommended != "other" {
            for (_, value) in &mut fields {
                *value = value.untyped();
            }
        }
        tags.sort();
        fields.sort_by(|a, b| a.partial_cmp(b).unwrap());
        let time_ns = time_ns.filter(|time_ns| *time_ns != self.default_time_ns());
        Canonical { measurement, tags, fields, time_ns }
    }

    /// The outcomes that are right.
    fn outcomes(&self) -> Vec<&Outcome> {
        let source = self.expect.as_ref().unwrap();
        let ours = match self.recommended.as_str() {
            "other" => self.recommended_expect.as_ref().unwrap(),
            _ => self.expect_per_line.as_ref().unwrap_or(source),
        };
        let is_open = self.judge == "either" && !self.untyped_values;
        if is_open { vec![ours, source] } else { vec![ours] }
    }

    fn is_met(&self, right: &Outcome, points: &[Canonical], errors: &[String]) -> bool {
        if errors.is_empty() != right.ok {
            return false;
        }
        if let Some(count) = right.point_count {
            return points.len() == count;
        }
        match &right.points {
            Some(expected) if !right.whole_document => {
                let expected: Vec<_> =
                    expected.iter().map(|point| self.canonical_point(point)).collect();
                expected == points
            }
            _ => true,
        }
    }
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Utf8(text) => text.clone().into_bytes(),
            Self::Bytes { base64 } => STANDARD.decode(base64).unwrap(),
        }
    }
}

impl TypedValue {
    fn scalar(&self) -> Scalar {
        let value = self.value.get();
        match self.r#type.as_str() {
            "float" => Scalar::Float(value.trim_matches('"').parse().unwrap()),
            "int" => Scalar::Integer(value.parse().unwrap()),
            "uint" => Scalar::Unsigned(value.parse().unwrap()),
            "bool" => Scalar::Boolean(value.parse().unwrap()),
            _ => Scalar::String(serde_json::from_str::<Text>(value).unwrap().bytes()),
        }
    }
}

impl Scalar {
    /// The value as a source sees it that stores floats only.
    #[expect(clippy::cast_precision_loss, reason = "that is what such a source does")]
    fn untyped(&self) -> Self {
        Self::Float(match self {
            Self::Float(value) => *value,
            Self::Integer(value) => *value as f64,
            Self::Unsigned(value) => *value as f64,
            Self::Boolean(value) => f64::from(*value),
            Self::String(value) => {
                std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0)
            }
        })
    }
}
