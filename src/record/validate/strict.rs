//! The rules that records of strict tables follow beside those of all: Timestream's. Which of them
//! refuse a whole request there and which one record: [`Reason::refuses_request`].

use super::super::limits::{
    DIMENSION_NAME_BYTES_MAX, MEASURE_NAME_BYTES_MAX, MEASURES_PER_RECORD_MAX,
    RECORD_VALUE_BYTES_MAX, RESOURCE_NAME_BYTES_MIN, SERIES_BYTES_MAX, TABLE_NAME_BYTES_MAX,
    VALUE_BYTES_MAX,
};
use super::super::{MeasureKind, Reason, Record, Value};
use super::{Broken, quoted, too_long};

/// Names that no dimension or measure may have. Source: Timestream developer guide, "Naming
/// constraints"; `IoT` Core API, `TimestreamDimension`.
const RESERVED: [&str; 3] = ["measure_value", "time", "ts_non_existent_col"];

/// What no such name may begin with. Source: the same; the guide names `measure_name` today and named
/// `measure_value` before.
const RESERVED_PREFIXES: [&str; 3] = ["ts_", "measure_name", "measure_value"];

/// Checks what all records of a family share.
///
/// # Errors
///
/// The first broken rule.
pub fn family(record: &Record<'_>) -> Result<(), Broken> {
    measure_name("measure name", record.measure_name)?;
    record.dimensions.iter().try_for_each(|dimension| dimension_name(dimension.name))
}

/// Checks what all records of a layout share.
///
/// # Errors
///
/// The first broken rule.
pub fn layout(record: &Record<'_>) -> Result<(), Broken> {
    match record.kind {
        MeasureKind::Scalar => scalar_type(record),
        MeasureKind::Multi => {
            measures(record)?;
            let mut names = record.attributes.iter().map(|attribute| attribute.name);
            names.try_for_each(|name| measure_name("attribute name", name))?;
            one_column(record)
        }
    }
}

/// No attribute has the name of a dimension of its record; that of another record is the table's to
/// tell, which refuses it for the same reason. Source: Timestream developer guide, "Naming constraints":
/// "column names can not be duplicated".
fn one_column(record: &Record<'_>) -> Result<(), Broken> {
    // Quadratic in at most MEASURES_PER_RECORD_MAX and DIMENSIONS_MAX names, once a family and layout.
    let is_dimension = |name: &str| record.dimensions.iter().any(|other| other.name == name);
    let mut names = record.attributes.iter().map(|attribute| attribute.name);
    let Some(name) = names.find(|name| is_dimension(name)) else { return Ok(()) };
    let message = format!(
        "{:?} would be both a dimension and an attribute: a table has one column of a name",
        quoted(name)
    );
    Err((Reason::TableLimit, message))
}

/// Checks the values of one record.
///
/// # Errors
///
/// The first broken rule.
pub fn values(record: &Record<'_>) -> Result<(), Broken> {
    for attribute in &record.attributes {
        value(attribute.name, &attribute.value)?;
    }
    record_bytes(record)?;
    series_bytes(record)
}

/// A time is not before 1970. Source: none for the limit; the words are those of Timestream for a time
/// that is none.
///
/// # Errors
///
/// [`Reason::InvalidTime`].
pub fn time(time_ns: i64) -> Result<(), Broken> {
    if time_ns >= 0 {
        return Ok(());
    }
    Err((Reason::InvalidTime, "Invalid time for record.".to_owned()))
}

/// A record has the dimension that its table's partition key requires. Source: Timestream developer
/// guide, "Customer-defined partition keys".
///
/// # Errors
///
/// [`Reason::PartitionKeyMissing`].
pub fn partition_key(record: &Record<'_>, required: &str) -> Result<(), Broken> {
    if record.dimensions.iter().any(|dimension| dimension.name == required) {
        return Ok(());
    }
    let message = format!(
        "the dimension {:?} is missing, which the table's partition key requires",
        quoted(required)
    );
    Err((Reason::PartitionKeyMissing, message))
}

/// The name of a database or table: letters, digits, `_`, `.` and `-`. Source: Timestream API,
/// `ResourceCreateAPIName`; `CloudFormation`, `AWS::Timestream::Table`, for its length.
///
/// # Errors
///
/// [`Reason::InvalidName`], [`Reason::NameTooLong`].
pub fn resource_name(what: &str, text: &str) -> Result<(), Broken> {
    if text.len() > TABLE_NAME_BYTES_MAX {
        return Err(too_long(what, text, TABLE_NAME_BYTES_MAX));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if text.len() < RESOURCE_NAME_BYTES_MIN || !text.bytes().all(is_plain) {
        let right =
            format!("letters, digits, _ . - and at least {RESOURCE_NAME_BYTES_MIN} of them");
        return Err((Reason::InvalidName, format!("the {what} {:?} is not {right}", quoted(text))));
    }
    Ok(())
}

/// The name of a dimension. Source: Timestream developer guide, "Quotas", "Dimension name length" and
/// "Naming constraints"; `IoT` Core API, `TimestreamDimension`, for the colon. What may not stand in a
/// name today is lost in every copy of the guide; a quote would break the SQL that reads it.
///
/// # Errors
///
/// [`Reason::InvalidName`], [`Reason::NameTooLong`].
pub fn dimension_name(name: &str) -> Result<(), Broken> {
    if name.len() > DIMENSION_NAME_BYTES_MAX {
        return Err(too_long("dimension name", name, DIMENSION_NAME_BYTES_MAX));
    }
    characters("dimension name", name, &[':', '"'])?;
    reserved("dimension name", name)
}

/// The name of a measure. Source: Timestream developer guide, "Quotas", "Measure name length" and
/// "Naming constraints".
///
/// # Errors
///
/// [`Reason::InvalidName`], [`Reason::NameTooLong`].
pub fn measure_name(what: &str, name: &str) -> Result<(), Broken> {
    if name.len() > MEASURE_NAME_BYTES_MAX {
        return Err(too_long(what, name, MEASURE_NAME_BYTES_MAX));
    }
    characters(what, name, &[':'])?;
    reserved(what, name)
}

fn characters(what: &str, name: &str, forbidden: &[char]) -> Result<(), Broken> {
    let found = name.chars().find(|c| c.is_control() || forbidden.contains(c));
    let Some(found) = found else { return Ok(()) };
    Err((Reason::InvalidName, format!("{what} {:?} holds {found:?}", quoted(name))))
}

fn reserved(what: &str, name: &str) -> Result<(), Broken> {
    let prefix = RESERVED_PREFIXES.iter().find(|prefix| name.starts_with(**prefix));
    let rule = match prefix {
        Some(prefix) => format!("begins with {prefix:?}, which is reserved"),
        None if RESERVED.contains(&name) => "is reserved".to_owned(),
        None => return Ok(()),
    };
    Err((Reason::InvalidName, format!("{what} {:?} {rule}", quoted(name))))
}

/// How many measures a MULTI record has. Source: Timestream developer guide, "Quotas".
fn measures(record: &Record<'_>) -> Result<(), Broken> {
    let found = record.attributes.len();
    if found <= MEASURES_PER_RECORD_MAX {
        return Ok(());
    }
    let message = format!("{found} measures, at most {MEASURES_PER_RECORD_MAX} are taken");
    Err((Reason::TooManyMeasures, message))
}

/// A single value is no TIMESTAMP. Source: Timestream API, `MeasureValueType`; a public report of the
/// refusal.
fn scalar_type(record: &Record<'_>) -> Result<(), Broken> {
    match record.attributes.first().map(|attribute| attribute.value) {
        Some(Value::Timestamp(_)) => {
            let message = "a single value cannot be a TIMESTAMP: send it in a MULTI record";
            Err((Reason::InvalidValue, message.to_owned()))
        }
        _ => Ok(()),
    }
}

/// One value. Source: Timestream API, `MeasureValue` (1 to 2048 bytes); developer guide, "Data types",
/// for the first moment of a TIMESTAMP. That a DOUBLE is finite is a rule of all tables.
fn value(name: &str, value: &Value<'_>) -> Result<(), Broken> {
    match value {
        Value::Varchar("") => {
            Err((Reason::InvalidValue, format!("the value of {:?} is empty", quoted(name))))
        }
        Value::Varchar(text) if text.len() > VALUE_BYTES_MAX => {
            Err(too_long("value of", name, VALUE_BYTES_MAX))
        }
        Value::Timestamp(time_ns) if *time_ns < 0 => {
            Err((Reason::InvalidValue, format!("the TIMESTAMP {:?} is before 1970", quoted(name))))
        }
        _ => Ok(()),
    }
}

/// The bytes of a record's values. Source: Timestream developer guide, "Quotas", "Measure value size
/// per multi-measure record"; the sizes of types from its connector for Flink. The guide's "record
/// size" of 2 KB is no sum of names and values: the service takes a name of 256 bytes with a value of
/// 2,048 and refuses a value of 2,049, which is what this rule and [`series_bytes`] do together.
fn record_bytes(record: &Record<'_>) -> Result<(), Broken> {
    let found: usize = record.attributes.iter().map(|a| value_bytes(&a.value)).sum();
    if found <= RECORD_VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!(
        "the record's values have {found} bytes, at most {RECORD_VALUE_BYTES_MAX} are taken"
    );
    Err((Reason::RecordTooLarge, message))
}

const fn value_bytes(value: &Value<'_>) -> usize {
    match value {
        Value::Double(_) | Value::Bigint(_) | Value::Timestamp(_) => 8,
        Value::Boolean(_) => 1,
        Value::Varchar(text) => text.len(),
    }
}

/// The bytes of a series' names and values. Source: Timestream developer guide, "Quotas", "Dimension
/// name dimension value pair size per series".
fn series_bytes(record: &Record<'_>) -> Result<(), Broken> {
    let found: usize = record.dimensions.iter().map(|d| d.name.len() + d.value.len()).sum();
    if found <= SERIES_BYTES_MAX {
        return Ok(());
    }
    let message =
        format!("the dimensions have {found} bytes, at most {SERIES_BYTES_MAX} are taken");
    Err((Reason::RecordTooLarge, message))
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    fn reason(result: Result<(), Broken>) -> Option<Reason> {
        result.err().map(|(reason, _)| reason)
    }

    type Check<'c> = &'c dyn Fn(usize) -> Option<Reason>;

    /// Each limit one under, at, and one over.
    #[test]
    fn each_limit_holds_at_its_bound_and_not_above() {
        let text = "x".repeat(VALUE_BYTES_MAX + 1);
        let dimension = |bytes| reason(family(&record(&[(&text[..bytes], "v")], &[])));
        let attribute = |bytes| reason(layout(&record(&[], &[(&text[..bytes], Value::Bigint(1))])));
        let measure =
            |bytes| reason(family(&Record { measure_name: &text[..bytes], ..record(&[], &[]) }));
        let varchar =
            |bytes| reason(values(&record(&[], &[("f", Value::Varchar(&text[..bytes]))])));
        let sum = |bytes: usize| {
            let fields = [
                ("a", Value::Varchar(&text[..bytes - 9])),
                ("b", Value::Bigint(1)),
                ("c", Value::Boolean(true)),
            ];
            reason(values(&record(&[], &fields)))
        };
        let series = |bytes: usize| {
            reason(values(&record(&[("a", &text[..1_000]), ("b", &text[..bytes - 1_002])], &[])))
        };
        let names: Vec<String> = (0..=MEASURES_PER_RECORD_MAX).map(|at| format!("n{at}")).collect();
        let count = |count: usize| {
            let fields: Vec<_> =
                names[..count].iter().map(|name| (&**name, Value::Bigint(1))).collect();
            reason(layout(&record(&[], &fields)))
        };
        let table = |bytes: usize| reason(resource_name("table name", &text[..bytes]));
        let limits: [(Check<'_>, usize, Reason); 8] = [
            (&dimension, 60, Reason::NameTooLong),
            (&attribute, 256, Reason::NameTooLong),
            (&measure, 256, Reason::NameTooLong),
            (&varchar, 2_048, Reason::ValueTooLong),
            (&sum, 2_048, Reason::RecordTooLarge),
            (&series, 2_048, Reason::RecordTooLarge),
            (&count, 256, Reason::TooManyMeasures),
            (&table, 256, Reason::NameTooLong),
        ];
        for (at, (check, max, expected)) in limits.into_iter().enumerate() {
            let found = [max - 1, max, max + 1].map(check);
            assert_eq!(found, [None, None, Some(expected)], "limit {at}");
        }
        assert_eq!(table(RESOURCE_NAME_BYTES_MIN), None);
        assert_eq!(table(RESOURCE_NAME_BYTES_MIN - 1), Some(Reason::InvalidName));
    }

    #[test]
    fn an_attribute_with_the_name_of_a_dimension_is_refused() {
        let fields = [("v", Value::Bigint(1)), ("host", Value::Bigint(1))];
        assert_eq!(reason(layout(&record(&[("host", "a")], &fields))), Some(Reason::TableLimit));
        assert_eq!(reason(layout(&record(&[("Host", "a")], &fields))), None);
        let scalar = [("host", Value::Bigint(1))];
        let scalar = Record { kind: MeasureKind::Scalar, ..record(&[("host", "a")], &scalar) };
        assert_eq!(reason(layout(&scalar)), None, "the one value of a scalar has no column");
    }

    /// What the service was seen to take although it is larger than its "record size".
    #[test]
    fn names_do_not_count_among_the_bytes_of_values() {
        let (name, text) = ("n".repeat(256), "x".repeat(2_048));
        let record = record(&[("host", "a")], &[(&name, Value::Varchar(&text))]);
        assert_eq!((reason(layout(&record)), reason(values(&record))), (None, None));
    }

    #[test]
    fn reserved_names_and_characters_are_refused() {
        for (name, is_dimension, is_measure) in [
            ("host", true, true),
            ("time", false, false),
            ("times", true, true),
            ("Time", true, true),
            ("ts_", false, false),
            ("ts_non_existent_col", false, false),
            ("ts", true, true),
            ("measure_name", false, false),
            ("measure_value::double", false, false),
            ("a:b", false, false),
            ("a\"b", false, true),
            ("a\u{85}b", false, false),
            ("\u{6e29}", true, true),
            ("1", true, true),
        ] {
            assert_eq!(dimension_name(name).is_ok(), is_dimension, "{name:?}");
            assert_eq!(measure_name("measure name", name).is_ok(), is_measure, "{name:?}");
        }
        for (name, is_good) in [("a.b-c_1", true), ("a b", false), ("a/b", false), ("äöü", false)]
        {
            assert_eq!(resource_name("table name", name).is_ok(), is_good, "{name:?}");
        }
    }

    #[test]
    fn values_and_times_that_timestream_does_not_know_are_refused() {
        let scalar = |value| {
            let record = Record { kind: MeasureKind::Scalar, ..record(&[], &[("", value)]) };
            layout(&record).and_then(|()| values(&record))
        };
        let multi = |value| {
            let record = record(&[], &[("f", value)]);
            layout(&record).and_then(|()| values(&record))
        };
        assert_eq!(reason(scalar(Value::Timestamp(1))), Some(Reason::InvalidValue));
        assert_eq!(reason(scalar(Value::Varchar("x"))), None);
        assert_eq!(reason(multi(Value::Timestamp(0))), None);
        assert_eq!(reason(multi(Value::Timestamp(-1))), Some(Reason::InvalidValue));
        assert_eq!(reason(multi(Value::Varchar(""))), Some(Reason::InvalidValue));
        assert_eq!(reason(time(0)), None);
        assert_eq!(time(-1), Err((Reason::InvalidTime, "Invalid time for record.".to_owned())));
    }

    #[test]
    fn a_required_dimension_must_be_there() {
        let record = record(&[("host", "a")], &[]);
        assert_eq!(reason(partition_key(&record, "host")), None);
        assert_eq!(reason(partition_key(&record, "Host")), Some(Reason::PartitionKeyMissing));
    }
}
