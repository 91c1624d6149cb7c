//! A rejection made into a record again, with what was asked to be set.
//!
//! | set | does |
//! |---|---|
//! | `version=N`, `version=next` | the version; `next` is one above the one that stands when it is sent, at the key that is sent, or what a record without a version gets where nothing stands |
//! | `time=TIME` | the time: RFC 3339, or nanoseconds |
//! | `measure.NAME=VALUE` | the value of a measure, the one of a scalar record by the measure's name or as `measure.value`, of the type that it has; where what stands there has none, of the type that the value has in the words of the text's protocol |
//! | `measure.NAME:TYPE=VALUE` | the same with another type, or a measure more |
//! | `dimension.NAME=VALUE` | a dimension's value, or a dimension more |

mod json;
mod line;
mod settle;

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::shell::word;
use crate::api::export::time_ns;
use crate::record::{
    Attribute, Dimension, MeasureKind, Reason, Record, RecordSink, Refusal, Value, ValueType,
};
use crate::reject::archive::Rejected;
use crate::reject::entry::Entry;

pub(super) use self::settle::{Draft, Why};

/// What is set in each record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Set {
    version: Option<Version>,
    time_ns: Option<i64>,
    measures: Vec<Measure>,
    dimensions: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Fixed(i64),
    Next,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Measure {
    name: String,
    value_type: Option<ValueType>,
    value: String,
}

/// How the one value of a scalar record may be called, beside the name of its measure.
const SCALAR: &str = "value";

/// The names of types, as people write them.
const TYPES: &str = "DOUBLE, BIGINT, BOOLEAN, VARCHAR, TIMESTAMP";

/// Integers below are no likely nanoseconds, but a time in another unit: it would be stored, in 1970.
/// 1973-03-03 as nanoseconds.
const TIME_NS_LIKELY: i64 = 100_000_000_000_000_000;

/// The time of `time=`: RFC 3339, an integer with its unit, or one of nanoseconds that can be nothing else.
fn time_set(text: &str) -> Option<i64> {
    // The longer names first: each ends in an `s`.
    for (unit, ns) in [("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)] {
        if let Some(number) = text.strip_suffix(unit) {
            return number.parse::<i64>().ok()?.checked_mul(ns);
        }
    }
    let is_plain = text.parse::<i64>().is_ok_and(|time| time < TIME_NS_LIKELY);
    if is_plain { None } else { time_ns(text) }
}

impl Set {
    /// Reads what is to be set: texts, numbers and truth values by name.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub(super) fn parse(members: &BTreeMap<String, Json>) -> Result<Self, String> {
        let mut set = Self::default();
        for (name, value) in members {
            let value = match value {
                Json::String(text) => text.clone(),
                Json::Number(number) => number.to_string(),
                Json::Bool(flag) => flag.to_string(),
                other => {
                    return Err(format!("set {name}: {other} is no text, number or truth value"));
                }
            };
            set.add(name, value)?;
        }
        Ok(set)
    }

    fn add(&mut self, name: &str, value: String) -> Result<(), String> {
        match (name, name.split_once('.')) {
            ("version", _) if value == "next" => self.version = Some(Version::Next),
            ("version", _) => {
                let version = value.parse().ok().filter(|version| *version >= 1);
                let right = || format!("set version={value}: write an integer from 1 on, or next");
                self.version = Some(Version::Fixed(version.ok_or_else(right)?));
            }
            ("time", _) => {
                let right = || {
                    format!(
                        "set time={value}: write RFC 3339, or an integer with its unit, such as \
                         1767225600s (s, ms, us, ns); one without is nanoseconds since 1970, and \
                         from 1973 on"
                    )
                };
                self.time_ns = Some(time_set(&value).ok_or_else(right)?);
            }
            (_, Some(("measure", rest))) => {
                // A name may have colons itself: only a type's name behind the last one is a type.
                let typed = rest.rsplit_once(':');
                let typed = typed.and_then(|(name, of)| Some((name, ValueType::from_name(of)?)));
                let (name, value_type) = typed.map_or((rest, None), |(name, of)| (name, Some(of)));
                self.measures.push(Measure { name: name.to_owned(), value_type, value });
            }
            (_, Some(("dimension", rest))) if !rest.is_empty() => {
                self.dimensions.push((rest.to_owned(), value));
            }
            _ => {
                return Err(format!(
                    "set {name}: there are version, time, measure.NAME and dimension.NAME"
                ));
            }
        }
        Ok(())
    }

    /// Bytes of what is set in each record.
    pub(super) fn bytes(&self) -> usize {
        let measures = self.measures.iter().map(|measure| measure.name.len() + measure.value.len());
        let dimensions = self.dimensions.iter().map(|(name, value)| name.len() + value.len());
        measures.chain(dimensions).sum()
    }

    /// Whether the version is to be the one above what stands.
    pub(super) fn wants_next(&self) -> bool {
        self.version == Some(Version::Next)
    }

    /// The record with all of it set.
    fn apply<'r>(
        &'r self,
        record: &Record<'r>,
        (entry, versions): (&Entry, Versions),
    ) -> Result<Record<'r>, Why> {
        let mut mended = record.clone();
        // A line that left its time to the receipt means the first one.
        mended.time_ns = self.time_ns.or(record.time_ns).or(Some(entry.received.0));
        match self.version {
            None => mended.version = record.version.or(versions.of(entry)),
            Some(Version::Fixed(version)) => mended.version = Some(version),
            // Whoever knows what stands sets it; this is for where nothing does.
            Some(Version::Next) => mended.version = versions.of(entry),
        }
        for (name, value) in &self.dimensions {
            match mended.dimensions.iter_mut().find(|dimension| dimension.name == name) {
                Some(dimension) => dimension.value = value,
                None => mended.dimensions.push(Dimension { name, value }),
            }
        }
        for measure in &self.measures {
            measure.apply(&mut mended)?;
        }
        Ok(mended)
    }
}

/// Where the version of a record comes from that has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Versions {
    /// The way in.
    Settings,
    /// The arrival of the first request: what was written since must not give way to it.
    Arrival,
}

impl Versions {
    fn of(self, entry: &Entry) -> Option<i64> {
        // Numbers keep the order of a request's lines, as at its first arrival.
        let number = i64::try_from(entry.number).unwrap_or(i64::MAX);
        let arrival = entry.received.0.max(0).saturating_add(1).saturating_add(number);
        (self == Self::Arrival).then_some(arrival)
    }
}

impl Measure {
    /// Whether it means the one value of a scalar record of this measure name.
    fn is_of_scalar(&self, measure_name: &str) -> bool {
        self.name == measure_name || self.name == SCALAR
    }

    fn apply<'r>(&'r self, record: &mut Record<'r>) -> Result<(), Why> {
        if record.kind == MeasureKind::Scalar && !self.is_of_scalar(record.measure_name) {
            let (name, own) = (&self.name, record.measure_name);
            let right = word(&format!("measure.{own}=VALUE"));
            let message = format!(
                "the record has one value, that of {own:?}, and no {name:?}: write {right}; or give the whole record \
                 with --json to make it one of several"
            );
            return Err((Reason::InvalidValue, message));
        }
        let is_it = |attribute: &Attribute<'_>| {
            attribute.name == self.name || record.kind == MeasureKind::Scalar
        };
        let at = record.attributes.iter().position(is_it);
        let of = at.map(|at| record.attributes[at].value.value_type());
        let Some(value_type) = self.value_type.or(of) else { return Err(self.untyped()) };
        let value = value(value_type, &self.value).ok_or_else(|| {
            let message = format!("{:?} is no {value_type} for {:?}", self.value, self.name);
            (Reason::InvalidValue, message)
        })?;
        match at {
            Some(at) => record.attributes[at].value = value,
            None => record.attributes.push(Attribute { name: &self.name, value }),
        }
        Ok(())
    }

    /// Nothing of the name is there, so nothing says of which type it is to be.
    fn untyped(&self) -> Why {
        let name = &self.name;
        let right = word(&format!("measure.{name}:TYPE=VALUE"));
        let message = format!(
            "the record measures no {name:?}: write {right} to add it, TYPE being one of {TYPES}"
        );
        (Reason::InvalidValue, message)
    }
}

fn value(value_type: ValueType, text: &str) -> Option<Value<'_>> {
    match value_type {
        ValueType::Double => text.parse().ok().map(Value::Double),
        ValueType::Bigint => text.parse().ok().map(Value::Bigint),
        ValueType::Boolean => text.parse().ok().map(Value::Boolean),
        ValueType::Varchar => Some(Value::Varchar(text)),
        ValueType::Timestamp => time_ns(text).map(Value::Timestamp),
    }
}

/// Sets what is to be set in the records of one rejection, and hands them on under its number.
pub(super) struct Mender<'m> {
    sink: &'m mut dyn RecordSink,
    set: &'m Set,
    /// Where versions come from.
    versions: Versions,
    rejected: &'m Rejected,
    /// The rejection's place among those that are sent together.
    number: u64,
    /// The version of each record in its order, where they are known.
    known: &'m [i64],
    /// Records that were handed on.
    count: usize,
}

impl<'m> Mender<'m> {
    /// Mends the records of a rejection, the one with `number` among those that are sent together.
    pub(super) fn new(
        sink: &'m mut dyn RecordSink,
        (set, versions): (&'m Set, Versions),
        (rejected, number): (&'m Rejected, u64),
    ) -> Self {
        Self { sink, set, versions, rejected, number, known: &[], count: 0 }
    }

    /// The same with these versions, record by record, whatever is to be set.
    pub(super) fn with(self, known: &'m [i64]) -> Self {
        Self { known, ..self }
    }
}

impl RecordSink for Mender<'_> {
    fn record(&mut self, record: &Record<'_>) {
        let mut origin = record.origin;
        origin.number = self.number;
        match self.set.apply(record, (&self.rejected.entry, self.versions)) {
            Ok(mut mended) => {
                mended.origin = origin;
                mended.version = self.known.get(self.count).copied().or(mended.version);
                self.count += 1;
                self.sink.record(&mended);
            }
            Err((reason, message)) => {
                self.sink.refuse(Refusal { origin, column: 0, reason, message });
            }
        }
    }

    fn refuse(&mut self, mut refusal: Refusal<'_>) {
        refusal.origin.number = self.number;
        self.sink.refuse(refusal);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::base::lsn::Lsn;
    use crate::reject::entry::{Id, Moment};

    fn entry(existing_version: Option<i64>) -> Entry {
        Entry {
            id: Id { lsn: Lsn(1), place: 2 },
            lsn: Lsn(1),
            received: Moment(7),
            number: 0,
            reason: Reason::VersionConflict,
            message: String::new(),
            existing_version,
            stood: Vec::new(),
            record: None,
            line: None,
            line_base64: None,
            reading: None,
        }
    }

    fn apply<'r>(
        set: &'r Set,
        record: &Record<'r>,
        existing_version: Option<i64>,
    ) -> Result<Record<'r>, Why> {
        set.apply(record, (&entry(existing_version), Versions::Settings))
    }

    fn record<'r>() -> Record<'r> {
        Record {
            measure_name: "m",
            dimensions: vec![Dimension { name: "site", value: "a" }],
            attributes: vec![Attribute { name: "t", value: Value::Bigint(1) }],
            version: Some(3),
            ..Record::default()
        }
    }

    fn set(members: &Json) -> Result<Set, String> {
        Set::parse(&serde_json::from_value(members.clone()).unwrap())
    }

    #[test]
    fn what_is_set_is_set_and_all_else_stays() {
        let all = json!({"version": "next", "time": "1970-01-01T00:00:01Z", "measure.t": 5,
            "measure.a:b:DOUBLE": "1.5", "dimension.site": "b", "dimension.hall": true});
        let set = set(&all).unwrap();
        let mended = apply(&set, &record(), Some(8)).unwrap();
        assert!(set.wants_next(), "whoever knows what stands sets it");
        assert_eq!((mended.version, mended.time_ns), (None, Some(1_000_000_000)));
        let values = [("t", Value::Bigint(5)), ("a:b", Value::Double(1.5))];
        assert_eq!(mended.attributes, values.map(|(name, value)| Attribute { name, value }));
        let names = [("site", "b"), ("hall", "true")];
        // In the order of the names in the map.
        for (name, value) in names {
            assert!(mended.dimensions.contains(&Dimension { name, value }), "{name}");
        }
        let mended = apply(&Set::default(), &record(), None).unwrap().version;
        assert_eq!(mended, Some(3));
        let untimed = Set::default();
        assert_eq!(apply(&untimed, &record(), None).unwrap().time_ns, Some(7));
        let unversioned = Record { version: None, ..record() };
        assert_eq!(apply(&untimed, &unversioned, None).unwrap().version, None);
        let arrived = untimed.apply(&unversioned, (&entry(None), Versions::Arrival));
        assert_eq!(arrived.unwrap().version, Some(8), "that of the first arrival");
    }

    #[test]
    fn the_one_value_of_a_scalar_is_set_by_the_name_of_the_measure_or_as_value() {
        let set = set(&json!({"measure.m:VARCHAR": "x"})).unwrap();
        let attributes = vec![Attribute { name: "", value: Value::Bigint(1) }];
        let scalar = Record { kind: MeasureKind::Scalar, attributes, ..record() };
        let mended = apply(&set, &scalar, None).unwrap();
        assert_eq!(mended.attributes, [Attribute { name: "", value: Value::Varchar("x") }]);
        let other = self::set(&json!({"measure.other:BIGINT": 1})).unwrap();
        let (_, message) = apply(&other, &scalar, None).unwrap_err();
        assert!(message.contains("write measure.m=VALUE"), "a scalar has one value: {message}");
        let alike = self::set(&json!({"measure.value": 7})).unwrap();
        let mended = apply(&alike, &scalar, None).unwrap();
        assert_eq!(mended.attributes, [Attribute { name: "", value: Value::Bigint(7) }]);
    }

    #[test]
    fn a_time_says_its_unit_and_seconds_are_not_taken_for_nanoseconds() {
        for (text, ns) in [
            ("1767225600s", Some(1_767_225_600_000_000_000)),
            ("1767225600123ms", Some(1_767_225_600_123_000_000)),
            ("1767225600000001us", Some(1_767_225_600_000_001_000)),
            ("-1s", Some(-1_000_000_000)),
            ("7ns", Some(7)),
            ("1767225600000000001", Some(1_767_225_600_000_000_001)),
            ("2026-01-01T00:00:00Z", Some(1_767_225_600_000_000_000)),
            ("1767225600", None),
            ("1767225600123", None),
            ("1767225600123456", None),
            ("9223372037s", None),
            ("s", None),
            ("1.5s", None),
        ] {
            assert_eq!(time_set(text), ns, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_set_says_why() {
        for (members, word) in [
            (json!({"version": 0}), "from 1"),
            (json!({"version": "higher"}), "next"),
            (json!({"time": "noon"}), "RFC 3339"),
            (json!({"table": "t"}), "there are version"),
            (json!({"dimension.": "t"}), "there are version"),
            (json!({"version": [1]}), "no text"),
        ] {
            let error = set(&members).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for (members, word) in [
            (json!({"measure.t": "1.5"}), "no BIGINT"),
            (json!({"measure.new": 1}), ":TYPE=VALUE"),
            (json!({"measure.new": 1}), "BIGINT"),
        ] {
            let set = set(&members).unwrap();
            let (_, message) = apply(&set, &record(), None).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
    }
}
