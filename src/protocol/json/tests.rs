//! What JSON becomes, and what becomes of what is no record.

#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic, and what it reads is its own"
)]

use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::limits::{
    ATTRIBUTES_MAX, DIMENSIONS_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, TABLE_NAME_BYTES_MAX,
    TIME_NS_MAX, VARCHAR_BYTES_MAX,
};
use crate::record::{MeasureKind, Reason, Record, Value};

/// A record that owns its texts.
#[derive(Debug, Clone, PartialEq, Default)]
struct Owned {
    database: String,
    table: String,
    measure_name: String,
    dimensions: Vec<(String, String)>,
    kind: MeasureKind,
    /// Names, and values as [`Value`] prints them.
    attributes: Vec<(String, String)>,
    time_ns: Option<i64>,
    version: Option<i64>,
}

impl Owned {
    fn dimension(mut self, name: &str, value: &str) -> Self {
        self.dimensions.push((name.to_owned(), value.to_owned()));
        self
    }

    fn attribute(mut self, name: &str, value: Value<'_>) -> Self {
        self.attributes.push((name.to_owned(), format!("{value:?}")));
        self
    }

    fn scalar(mut self, value: Value<'_>) -> Self {
        self.kind = MeasureKind::Scalar;
        self.attribute("", value)
    }

    fn at_ns(mut self, time_ns: i64) -> Self {
        self.time_ns = Some(time_ns);
        self
    }

    fn version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    fn within(mut self, database: &str, table: &str) -> Self {
        (self.database, self.table) = (database.to_owned(), table.to_owned());
        self
    }
}

impl From<&Record<'_>> for Owned {
    fn from(record: &Record<'_>) -> Self {
        let pair = |name: &str, value: String| (name.to_owned(), value);
        Self {
            database: record.database.to_owned(),
            table: record.table.to_owned(),
            measure_name: record.measure_name.to_owned(),
            dimensions: record
                .dimensions
                .iter()
                .map(|d| pair(d.name, d.value.to_owned()))
                .collect(),
            kind: record.kind,
            attributes: record
                .attributes
                .iter()
                .map(|a| pair(a.name, format!("{:?}", a.value)))
                .collect(),
            time_ns: record.time_ns,
            version: record.version,
        }
    }
}

/// A record of this measurement in the database that tests use.
fn record(measurement: &str) -> Owned {
    Owned { measure_name: measurement.to_owned(), ..Owned::default() }.within("d", measurement)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    number: u64,
    text: String,
    column: u64,
    reason: Reason,
    message: String,
}

#[derive(Default)]
struct Collected {
    records: Vec<Owned>,
    origins: Vec<(u64, String)>,
    refused: Vec<Refused>,
}

impl RecordSink for Collected {
    fn record(&mut self, record: &Record<'_>) {
        let text = String::from_utf8_lossy(record.origin.text).into_owned();
        self.origins.push((record.origin.number, text));
        self.records.push(record.into());
    }

    fn refuse(&mut self, refusal: Refusal<'_>) {
        assert!(!refusal.message.is_empty() && !refusal.message.contains('\n'), "{refusal:?}");
        assert!(refusal.column <= refusal.origin.text.len() as u64 + 1, "{refusal:?}");
        self.refused.push(Refused {
            number: refusal.origin.number,
            text: String::from_utf8_lossy(refusal.origin.text).into_owned(),
            column: refusal.column,
            reason: refusal.reason,
            message: refusal.message,
        });
    }
}

fn options() -> Options<'static> {
    Options { database: Some("d"), ..Options::default() }
}

fn lines() -> Options<'static> {
    Options { form: Form::Lines, ..options() }
}

fn collect(body: impl AsRef<[u8]>, options: &Options<'_>) -> Collected {
    let mut collected = Collected::default();
    decode(body.as_ref(), options, &mut collected);
    collected
}

fn at(number: u64, column: u64) -> (u64, u64) {
    (number, column)
}

macro_rules! decodes {
    ($name:ident, $options:expr, $body:expr, [$($record:expr),* $(,)?]) => {
        #[test]
        fn $name() {
            let found = collect($body, &$options);
            assert_eq!(found.refused, []);
            let expected: Vec<Owned> = vec![$($record),*];
            assert_eq!(found.records, expected);
        }
    };
}

/// One refusal and no record.
macro_rules! refuses {
    ($name:ident, $options:expr, $body:expr, $at:expr, $reason:expr) => {
        #[test]
        fn $name() {
            let found = collect($body, &$options);
            let refused: Vec<_> =
                found.refused.iter().map(|r| ((r.number, r.column), r.reason)).collect();
            assert_eq!(refused, [($at, $reason)], "{:?}", found.refused);
            assert_eq!(found.records, []);
        }
    };
}

const WEATHER: &str = r#"{"measurement":"weather","tags":{"site":"a"},"fields":{"t":21.5,"ok":true,"n":3},"timestamp":1700000000000,"version":2}"#;

fn weather() -> Owned {
    record("weather")
        .dimension("site", "a")
        .attribute("t", Value::Double(21.5))
        .attribute("ok", Value::Boolean(true))
        .attribute("n", Value::Bigint(3))
        .at_ns(1_700_000_000_000_000_000)
        .version(2)
}

fn with(member: &str) -> String {
    format!(r#"{{"measurement":"m","tags":{{"a":"x"}},"fields":{{"v":1}},{member}}}"#)
}

fn with_fields(fields: &str) -> String {
    format!(r#"{{"measurement":"m","tags":{{"a":"x"}},"fields":{{{fields}}}}}"#)
}

fn with_tags(tags: &str) -> String {
    format!(r#"{{"measurement":"m","tags":{{{tags}}},"fields":{{"v":1}}}}"#)
}

fn plain() -> Owned {
    record("m").dimension("a", "x").attribute("v", Value::Bigint(1))
}

fn fields() -> Owned {
    record("m").dimension("a", "x")
}

/// A Timestream record of these members.
fn request(members: &str) -> String {
    format!(r#"{{"DatabaseName":"db","TableName":"tb","Records":[{{{members}}}]}}"#)
}

fn stream(measure_name: &str) -> Owned {
    Owned { measure_name: measure_name.to_owned(), ..Owned::default() }.within("db", "tb")
}

/// Options that name the database of those requests, too.
fn of_stream() -> Options<'static> {
    Options { database: Some("db"), ..options() }
}

const DIMENSION: &str = r#""Dimensions":[{"Name":"a","Value":"x"}]"#;

fn scalar_of(members: &str) -> String {
    request(&format!(r#"{DIMENSION},"MeasureName":"m","Time":"1",{members}"#))
}

fn multi_of(values: &str) -> String {
    scalar_of(&format!(r#""MeasureValueType":"MULTI","MeasureValues":[{values}]"#))
}

fn scalar_record() -> Owned {
    stream("m").dimension("a", "x").at_ns(1_000_000)
}

// Flat records.
decodes! { a_flat_record, options(), WEATHER, [weather()] }
decodes! { an_array, options(), format!("[{WEATHER}, {WEATHER}]"), [weather(), weather()] }
decodes! { lines_of_records, lines(), format!("{WEATHER}\r\n\n  \n{WEATHER}\n"), [weather(), weather()] }
decodes! { a_line_that_is_an_array, lines(), format!("[{WEATHER},{WEATHER}]\n{WEATHER}"), [weather(), weather(), weather()] }
decodes! { a_byte_order_mark_is_skipped, options(), format!("\u{feff}{WEATHER}"), [weather()] }
decodes! { blanks_around_a_document, options(), format!(" \r\n\t{WEATHER}\n "), [weather()] }
decodes! { members_in_another_order, options(), r#"{"version":3,"timestamp":1,"fields":{"v":1},"tags":{"a":"x"},"measurement":"m"}"#, [plain().at_ns(1_000_000).version(3)] }
decodes! { unknown_members_are_skipped, options(), with(r#""x":{"y":[1e999,{}]},"z":null"#), [plain()] }
decodes! { null_is_absence, options(), r#"{"measurement":"m","name":null,"table":null,"db":null,"tags":{"a":"x","b":null},"fields":{"v":1,"w":null},"timestamp":null,"version":null,"Records":null}"#, [plain()] }
decodes! { an_empty_array, options(), "[]", [] }
decodes! { no_metrics, options(), r#"{"metrics":[]}"#, [] }
decodes! { no_records, options(), r#"{"TableName":"t","Records":[]}"#, [] }
decodes! { no_lines, lines(), "", [] }
decodes! { blank_lines, lines(), "\n \r\n\n", [] }
decodes! { escaped_texts, options(), r#"{"measurement":"m","tags":{"\u0061":"\u0078"},"fi\u0065lds":{"\"q\\":"\ud83d\ude00\n"}}"#, [fields().attribute("\"q\\", Value::Varchar("😀\n"))] }
decodes! { utf8_texts, options(), with_fields(r#""größe":"käse😀""#), [fields().attribute("größe", Value::Varchar("käse😀"))] }
decodes! { an_empty_text_is_a_value, options(), with_fields(r#""s":"""#), [fields().attribute("s", Value::Varchar(""))] }
decodes! { tags_are_texts, options(), with_tags(r#""a":1.50,"b":-0,"c":true,"d":99999999999999999999,"e":1E2"#), [record("m").dimension("a", "1.50").dimension("b", "-0").dimension("c", "true").dimension("d", "99999999999999999999").dimension("e", "1E2").attribute("v", Value::Bigint(1))] }

// Numbers.
decodes! { integers_stay_integers, options(), with_fields(r#""a":9223372036854775807,"b":-9223372036854775808,"c":-0"#), [fields().attribute("a", Value::Bigint(i64::MAX)).attribute("b", Value::Bigint(i64::MIN)).attribute("c", Value::Bigint(0))] }
decodes! { fractions_and_exponents_are_floats, options(), with_fields(r#""a":1.0,"b":1e3,"c":-0.0,"d":5e-324,"e":1e-999,"f":1.7976931348623157e308"#), [fields().attribute("a", Value::Double(1.0)).attribute("b", Value::Double(1e3)).attribute("c", Value::Double(-0.0)).attribute("d", Value::Double(5e-324)).attribute("e", Value::Double(0.0)).attribute("f", Value::Double(f64::MAX))] }
decodes! { floats_are_rounded_right, options(), with_fields(r#""a":9007199254740993.0,"b":2.2250738585072011e-308,"c":0.500000000000000166533453693773481063544750213623046875"#), [fields().attribute("a", Value::Double(9_007_199_254_740_992.0)).attribute("b", Value::Double(2.225_073_858_507_201e-308)).attribute("c", Value::Double(0.500_000_000_000_000_2))] }
refuses! { an_integer_above_64_bits, options(), with_fields(r#""n":9223372036854775808"#), at(0, 51), Reason::InvalidValue }
refuses! { an_integer_below_64_bits, options(), with_fields(r#""n":-9223372036854775809"#), at(0, 51), Reason::InvalidValue }
refuses! { a_float_beyond_its_range, options(), with_fields(r#""n":1e999"#), at(0, 51), Reason::InvalidValue }
refuses! { an_object_as_field, options(), with_fields(r#""n":{}"#), at(0, 51), Reason::InvalidValue }
refuses! { an_array_as_field, options(), with_fields(r#""n":[1]"#), at(0, 51), Reason::InvalidValue }
refuses! { an_array_as_tag, options(), with_tags(r#""n":["x"]"#), at(0, 32), Reason::InvalidValue }
refuses! { half_a_surrogate_pair, options(), with_fields(r#""n":"\ud83d""#), at(0, 58), Reason::InvalidSyntax }

// Times.
decodes! { a_time_in_ns, Options { precision: Precision::Ns, ..options() }, with(r#""timestamp":1"#), [plain().at_ns(1)] }
decodes! { a_time_in_us, Options { precision: Precision::Us, ..options() }, with(r#""timestamp":1"#), [plain().at_ns(1_000)] }
decodes! { a_time_in_s, Options { precision: Precision::S, ..options() }, with(r#""timestamp":-1"#), [plain().at_ns(-1_000_000_000)] }
decodes! { an_rfc_3339_time, options(), with(r#""timestamp":"2023-11-14T22:13:20.123456789Z""#), [plain().at_ns(1_700_000_000_123_456_789)] }
decodes! { an_rfc_3339_time_with_offset, options(), with(r#""timestamp":"2023-11-14T23:13:20+01:00""#), [plain().at_ns(1_700_000_000_000_000_000)] }
decodes! { the_latest_time, Options { precision: Precision::Ns, ..options() }, with(&format!(r#""timestamp":{TIME_NS_MAX}"#)), [plain().at_ns(TIME_NS_MAX)] }
refuses! { a_time_past_the_latest, Options { precision: Precision::Ns, ..options() }, with(&format!(r#""timestamp":{}"#, TIME_NS_MAX + 1)), at(0, 66), Reason::InvalidTime }
refuses! { a_time_past_64_bits, options(), with(r#""timestamp":9300000000000"#), at(0, 66), Reason::InvalidTime }
refuses! { a_time_with_a_fraction, options(), with(r#""timestamp":1.5"#), at(0, 66), Reason::InvalidTime }
refuses! { a_time_in_words, options(), with(r#""timestamp":"today""#), at(0, 66), Reason::InvalidTime }
refuses! { a_time_in_the_year_9999, options(), with(r#""timestamp":"9999-01-01T00:00:00Z""#), at(0, 66), Reason::InvalidTime }
refuses! { a_time_as_truth, options(), with(r#""timestamp":true"#), at(0, 66), Reason::InvalidTime }

// Versions.
decodes! { the_highest_version, options(), with(r#""version":9223372036854775807"#), [plain().version(i64::MAX)] }
refuses! { version_zero, options(), with(r#""version":0"#), at(0, 64), Reason::InvalidVersion }
refuses! { a_version_with_a_fraction, options(), with(r#""version":1.0"#), at(0, 64), Reason::InvalidVersion }
refuses! { a_version_as_text, options(), with(r#""version":"1""#), at(0, 64), Reason::InvalidVersion }
refuses! { a_version_past_64_bits, options(), with(r#""version":9223372036854775808"#), at(0, 64), Reason::InvalidVersion }

// Names.
decodes! { a_table_of_the_request, Options { table: Some("t"), ..options() }, with(r#""x":1"#), [plain().within("d", "t")] }
decodes! { a_record_s_own_table_and_database, Options { table: Some("t"), ..options() }, with(r#""table":"own","db":"mine""#), [plain().within("mine", "own")] }
decodes! { one_measure_name_for_all, Options { measure_name: Some("all"), ..options() }, with(r#""x":1"#), [Owned { measure_name: "all".to_owned(), ..plain() }] }
decodes! { a_table_stands_in_for_a_measurement, Options { table: Some("m"), ..options() }, r#"{"tags":{"a":"x"},"fields":{"v":1}}"#, [plain()] }
decodes! { a_measurement_goes_before_a_name, options(), with(r#""name":"other""#), [plain()] }
refuses! { no_database, Options::default(), with(r#""x":1"#), at(0, 0), Reason::InvalidName }
refuses! { no_measurement, options(), r#"{"tags":{"a":"x"},"fields":{"v":1}}"#, at(0, 0), Reason::InvalidName }
refuses! { an_empty_measurement, options(), r#"{"measurement":"","tags":{"a":"x"},"fields":{"v":1}}"#, at(0, 16), Reason::InvalidName }
refuses! { a_number_as_measurement, options(), r#"{"measurement":5,"tags":{"a":"x"},"fields":{"v":1}}"#, at(0, 16), Reason::InvalidName }
refuses! { an_empty_tag_name, options(), with_tags(r#""":"x""#), at(0, 29), Reason::InvalidName }
refuses! { an_empty_field_name, options(), with_fields(r#""":1"#), at(0, 48), Reason::InvalidName }
refuses! { a_tag_twice, options(), with_tags(r#""a":"x","a":"x""#), at(0, 37), Reason::DuplicateDimension }
refuses! { a_tag_twice_once_escaped, options(), with_tags(r#""a":"x","\u0061":"x""#), at(0, 0), Reason::DuplicateDimension }
decodes! { the_last_of_a_field_counts, options(), with_fields(r#""v":1,"w":2,"v":3"#), [fields().attribute("v", Value::Bigint(3)).attribute("w", Value::Bigint(2))] }
refuses! { a_field_with_two_types, options(), with_fields(r#""v":1,"v":1.0"#), at(0, 54), Reason::TypeConflict }
decodes! { the_last_of_a_member_counts, options(), with(r#""fields":{"w":2},"measurement":"n""#), [record("n").dimension("a", "x").attribute("w", Value::Bigint(2))] }

// Shapes.
refuses! { no_measure, options(), r#"{"measurement":"m","tags":{"a":"x"}}"#, at(0, 0), Reason::NoMeasure }
refuses! { no_member, options(), "{}", at(0, 0), Reason::NoMeasure }
refuses! { empty_fields, options(), with_fields(""), at(0, 0), Reason::NoMeasure }
refuses! { null_fields, options(), r#"{"measurement":"m","tags":{"a":"x"},"fields":null}"#, at(0, 0), Reason::NoMeasure }
refuses! { only_null_fields, options(), with_fields(r#""a":null"#), at(0, 0), Reason::NoMeasure }
refuses! { no_dimension, options(), r#"{"measurement":"m","fields":{"v":1}}"#, at(0, 0), Reason::NoDimension }
decodes! { the_default_dimension, Options { default_dimension: Some(("source", "-")), ..options() }, format!(r#"[{{"measurement":"m","fields":{{"v":1}}}},{}]"#, with(r#""x":1"#)), [record("m").dimension("source", "-").attribute("v", Value::Bigint(1)), plain()] }
refuses! { tags_that_are_no_object, options(), r#"{"measurement":"m","tags":5,"fields":{"v":1}}"#, at(0, 27), Reason::InvalidSyntax }
refuses! { tags_that_are_an_array, options(), r#"{"measurement":"m","tags": ["a"],"fields":{"v":1}}"#, at(0, 28), Reason::InvalidSyntax }
refuses! { tags_that_are_text, options(), r#"{"measurement":"m","tags":"a\"b","fields":{"v":1}}"#, at(0, 27), Reason::InvalidSyntax }
refuses! { fields_that_are_false, options(), r#"{"measurement":"m","fields": false}"#, at(0, 30), Reason::InvalidSyntax }
refuses! { metrics_that_are_a_number, options(), r#"{"metrics":-1.5e3}"#, at(0, 12), Reason::InvalidSyntax }
refuses! { a_document_that_is_text, options(), r#""[]""#, at(0, 1), Reason::InvalidSyntax }
refuses! { a_document_that_is_a_number, options(), "5", at(0, 1), Reason::InvalidSyntax }
refuses! { two_shapes_in_one, options(), with(r#""Records":[]"#), at(0, 1), Reason::InvalidSyntax }
decodes! { telegraf, Options { precision: Precision::S, ..options() }, r#"{"metrics":[{"fields":{"f":null,"v":1},"name":"m","tags":{"a":"x"},"timestamp":1458229140},{"fields":{"v":1},"name":"m","tags":{"a":"x"},"timestamp":1458229140}]}"#, [plain().at_ns(1_458_229_140_000_000_000), plain().at_ns(1_458_229_140_000_000_000)] }
decodes! { shapes_mixed, options(), format!(r#"[{WEATHER},{{"metrics":[{}]}},{}]"#, with(r#""x":1"#), scalar_of(r#""MeasureValue":"1""#).replace("db", "d")), [weather(), plain(), scalar_record().within("d", "tb").scalar(Value::Double(1.0))] }
refuses! { metrics_in_metrics, options(), r#"{"metrics":[{"metrics":[]}]}"#, at(0, 0), Reason::InvalidSyntax }

// Timestream.
decodes! { a_double_by_default, of_stream(), scalar_of(r#""MeasureValue":"1.5""#), [scalar_record().scalar(Value::Double(1.5))] }
decodes! { a_bigint, of_stream(), scalar_of(r#""MeasureValue":"-7","MeasureValueType":"BIGINT""#), [scalar_record().scalar(Value::Bigint(-7))] }
decodes! { a_boolean_in_any_case, of_stream(), scalar_of(r#""MeasureValue":"True","MeasureValueType":"BOOLEAN""#), [scalar_record().scalar(Value::Boolean(true))] }
decodes! { a_varchar, of_stream(), scalar_of(r#""MeasureValue":"x","MeasureValueType":"VARCHAR""#), [scalar_record().scalar(Value::Varchar("x"))] }
decodes! { values_as_json_numbers, of_stream(), scalar_of(r#""MeasureValue":1.5,"Time":2,"Version":4"#), [scalar_record().scalar(Value::Double(1.5)).at_ns(2_000_000).version(4)] }
decodes! { a_multi_measure, of_stream(), multi_of(r#"{"Name":"d","Value":"1e3","Type":"DOUBLE"},{"Name":"t","Value":"5","Type":"TIMESTAMP"},{"Name":"b","Value":"FALSE","Type":"BOOLEAN"}"#), [scalar_record().attribute("d", Value::Double(1e3)).attribute("t", Value::Timestamp(5_000_000)).attribute("b", Value::Boolean(false))] }
decodes! { timestamps_in_the_record_s_unit, of_stream(), scalar_of(r#""TimeUnit":"SECONDS","MeasureValueType":"MULTI","MeasureValues":[{"Name":"t","Value":"5","Type":"TIMESTAMP"}]"#), [scalar_record().at_ns(1_000_000_000).attribute("t", Value::Timestamp(5_000_000_000))] }
decodes! { common_attributes_after_the_records, of_stream(), format!(r#"{{"Records":[{{"MeasureName":"m","MeasureValue":"1"}},{{"MeasureName":"n","MeasureValue":"2","Time":"2","Version":9,"Dimensions":[{{"Name":"b","Value":"y"}}]}}],"CommonAttributes":{{{DIMENSION},"Time":"1","Version":3,"MeasureValueType":"BIGINT"}},"TableName":"tb","DatabaseName":"db"}}"#), [scalar_record().scalar(Value::Bigint(1)).version(3), Owned { measure_name: "n".to_owned(), ..scalar_record() }.dimension("b", "y").scalar(Value::Bigint(2)).at_ns(2_000_000).version(9)] }
decodes! { all_but_the_time_in_common, of_stream(), format!(r#"{{"DatabaseName":"db","TableName":"tb","CommonAttributes":{{{DIMENSION},"MeasureName":"m","MeasureValueType":"MULTI","MeasureValues":[{{"Name":"v","Value":"1","Type":"BIGINT"}}],"TimeUnit":"MILLISECONDS"}},"Records":[{{"Time":"1"}}]}}"#), [scalar_record().attribute("v", Value::Bigint(1))] }
decodes! { names_of_the_request, Options { database: Some("db"), table: Some("tb"), measure_name: Some("m"), ..Options::default() }, format!(r#"{{"Records":[{{{DIMENSION},"Time":"1","MeasureValue":"1"}}]}}"#), [scalar_record().scalar(Value::Double(1.0))] }
decodes! { the_last_of_a_measure_value_counts, of_stream(), multi_of(r#"{"Name":"v","Value":"1","Type":"BIGINT"},{"Name":"v","Value":"2","Type":"BIGINT"}"#), [scalar_record().attribute("v", Value::Bigint(2))] }
refuses! { a_measure_value_with_two_types, of_stream(), multi_of(r#"{"Name":"v","Value":"1","Type":"BIGINT"},{"Name":"v","Value":"1","Type":"DOUBLE"}"#), at(0, 165), Reason::TypeConflict }
decodes! { a_table_of_the_request_that_is_the_body_s, Options { table: Some("tb"), ..of_stream() }, scalar_of(r#""MeasureValue":"1""#), [scalar_record().scalar(Value::Double(1.0))] }
refuses! { a_table_of_the_request_that_contradicts_the_body, Options { table: Some("t"), ..of_stream() }, scalar_of(r#""MeasureValue":"1""#), at(0, 34), Reason::InvalidName }
refuses! { a_database_of_the_request_that_contradicts_the_body, options(), scalar_of(r#""MeasureValue":"1""#), at(0, 17), Reason::InvalidName }
refuses! { overlapping_dimensions, of_stream(), format!(r#"{{"DatabaseName":"db","TableName":"tb","CommonAttributes":{{{DIMENSION}}},"Records":[{{{DIMENSION},"MeasureName":"m","MeasureValue":"1","Time":"1"}}]}}"#), at(0, 25), Reason::DuplicateDimension }
refuses! { nan, of_stream(), scalar_of(r#""MeasureValue":"NaN""#), at(0, 86), Reason::InvalidValue }
refuses! { infinity, of_stream(), scalar_of(r#""MeasureValue":"-Infinity""#), at(0, 86), Reason::InvalidValue }
refuses! { a_bigint_with_a_fraction, of_stream(), scalar_of(r#""MeasureValue":"1.0","MeasureValueType":"BIGINT""#), at(0, 86), Reason::InvalidValue }
refuses! { neither_true_nor_false, of_stream(), scalar_of(r#""MeasureValue":"yes","MeasureValueType":"BOOLEAN""#), at(0, 86), Reason::InvalidValue }
refuses! { an_unknown_type, of_stream(), scalar_of(r#""MeasureValue":"1","MeasureValueType":"FLOAT""#), at(0, 109), Reason::InvalidValue }
refuses! { a_scalar_timestamp, of_stream(), scalar_of(r#""MeasureValue":"1","MeasureValueType":"TIMESTAMP""#), at(0, 109), Reason::InvalidValue }
refuses! { multi_in_multi, of_stream(), multi_of(r#"{"Name":"v","Value":"1","Type":"MULTI"}"#), at(0, 146), Reason::InvalidValue }
refuses! { measure_values_without_multi, of_stream(), scalar_of(r#""MeasureValue":"1","MeasureValues":[{"Name":"v"}]"#), at(0, 115), Reason::InvalidValue }
refuses! { a_measure_value_with_multi, of_stream(), scalar_of(r#""MeasureValue":"1","MeasureValueType":"MULTI""#), at(0, 86), Reason::InvalidValue }
refuses! { a_measure_value_without_type, of_stream(), multi_of(r#"{"Name":"v","Value":"1"}"#), at(0, 0), Reason::InvalidValue }
refuses! { a_measure_value_without_name, of_stream(), multi_of(r#"{"Value":"1","Type":"BIGINT"}"#), at(0, 124), Reason::InvalidName }
refuses! { a_measure_value_without_value, of_stream(), multi_of(r#"{"Name":"v","Type":"BIGINT"}"#), at(0, 123), Reason::InvalidValue }
refuses! { no_measure_value, of_stream(), scalar_of(r#""Version":1"#), at(0, 0), Reason::NoMeasure }
refuses! { no_measure_values, of_stream(), multi_of(""), at(0, 0), Reason::NoMeasure }
refuses! { no_measure_name, of_stream(), request(&format!(r#"{DIMENSION},"Time":"1","MeasureValue":"1""#)), at(0, 0), Reason::InvalidName }
refuses! { no_time, of_stream(), request(&format!(r#"{DIMENSION},"MeasureName":"m","MeasureValue":"1""#)), at(0, 0), Reason::InvalidTime }
refuses! { a_time_that_is_no_integer, of_stream(), scalar_of(r#""MeasureValue":"1","Time":"1.5""#), at(0, 97), Reason::InvalidTime }
refuses! { an_unknown_time_unit, of_stream(), scalar_of(r#""MeasureValue":"1","TimeUnit":"HOURS""#), at(0, 101), Reason::InvalidTime }
refuses! { a_version_below_one, of_stream(), scalar_of(r#""MeasureValue":"1","Version":-1"#), at(0, 100), Reason::InvalidVersion }
refuses! { no_dimensions, of_stream(), request(r#""MeasureName":"m","MeasureValue":"1","Time":"1""#), at(0, 0), Reason::NoDimension }
refuses! { a_dimension_of_another_type, of_stream(), request(r#""Dimensions":[{"Name":"a","Value":"x","DimensionValueType":"BIGINT"}]"#), at(0, 61), Reason::InvalidValue }
refuses! { dimensions_that_are_no_array, of_stream(), request(r#""Dimensions":{}"#), at(0, 15), Reason::InvalidSyntax }
refuses! { records_that_are_no_array, options(), r#"{"Records":{"a":1}}"#, at(0, 12), Reason::InvalidSyntax }
refuses! { common_attributes_that_are_no_object, options(), r#"{"CommonAttributes":[],"Records":[{}]}"#, at(0, 21), Reason::InvalidSyntax }

// Broken documents.
refuses! { an_empty_document, options(), "", at(0, 1), Reason::InvalidSyntax }
refuses! { a_cut_record, options(), &WEATHER[..60], at(0, 61), Reason::InvalidSyntax }
refuses! { a_cut_array, options(), "[", at(0, 2), Reason::InvalidSyntax }
refuses! { a_control_character, options(), "{\"measurement\":\"a\nb\"}", at(0, 18), Reason::InvalidSyntax }
refuses! { a_control_character_in_a_name, options(), "{\"measure\nment\":\"a\"}", at(0, 10), Reason::InvalidSyntax }
refuses! { a_control_character_in_an_array, options(), "[{\"measurement\":\"a\tb\"}]", at(0, 19), Reason::InvalidSyntax }
refuses! { a_single_quote, options(), "{'a':1}", at(0, 2), Reason::InvalidSyntax }
refuses! { bytes_that_are_no_text, options(), b"{\"measurement\":\"a\xff\"}", at(0, 18), Reason::InvalidUtf8 }

/// Reasons of what was refused, with numbers and texts.
fn refusals(found: &Collected) -> Vec<(u64, Reason, &str)> {
    found.refused.iter().map(|r| (r.number, r.reason, r.text.as_str())).collect()
}

#[test]
fn a_bad_element_costs_itself_only() {
    let bad = r#"{"measurement":"m","tags":{"a":"x"},"fields":{"n":[1]}}"#;
    let found = collect(format!("[{WEATHER},{bad},7,null,[],{WEATHER}]"), &options());
    assert_eq!(found.records, [weather(), weather()]);
    assert_eq!(found.origins, [(0, WEATHER.to_owned()), (5, WEATHER.to_owned())]);
    let expected = [
        (1, Reason::InvalidValue, bad),
        (2, Reason::InvalidSyntax, "7"),
        (3, Reason::InvalidSyntax, "null"),
        (4, Reason::InvalidSyntax, "[]"),
    ];
    assert_eq!(refusals(&found), expected);
}

#[test]
fn a_bad_record_of_a_request_costs_itself_only() {
    let good = format!(r#"{{{DIMENSION},"MeasureName":"m","MeasureValue":"1","Time":"1"}}"#);
    let body =
        format!(r#"{{"DatabaseName":"db","TableName":"tb","Records":[{good},{{}},{good}]}}"#);
    let found = collect(body, &of_stream());
    assert_eq!(found.origins, [(0, good.clone()), (2, good.clone())]);
    assert_eq!(refusals(&found), [(1, Reason::InvalidName, "{}")]);
}

#[test]
fn a_bad_line_costs_itself_only() {
    let mut body = format!("{WEATHER}\n\n{{\"a\":\n").into_bytes();
    body.extend_from_slice(b"\"\xff\"\n");
    body.extend_from_slice(WEATHER.as_bytes());
    let found = collect(&body, &lines());
    assert_eq!(found.origins, [(1, WEATHER.to_owned()), (5, WEATHER.to_owned())]);
    let expected =
        [(3, Reason::InvalidSyntax, "{\"a\":"), (4, Reason::InvalidUtf8, "\"\u{fffd}\"")];
    assert_eq!(refusals(&found), expected);
    assert!(found.refused[0].message.ends_with("at line 3 column 6"), "{:?}", found.refused);
}

#[test]
fn where_an_array_breaks_the_elements_before_stay_taken_and_the_rest_is_refused_once() {
    for (open, close) in [("[", "]"), (r#"{"metrics":["#, "]}")] {
        let body = format!("{open}{WEATHER},\n{WEATHER},\n  {{\"a\":tru}},{WEATHER}{close}");
        let found = collect(&body, &options());
        assert_eq!(found.records, [weather(), weather()]);
        let rest = format!("{{\"a\":tru}},{WEATHER}{close}");
        assert_eq!(refusals(&found), [(2, Reason::InvalidSyntax, rest.as_str())]);
        let refused = &found.refused[0];
        assert_eq!(refused.column, 9);
        assert!(refused.message.ends_with("at line 3 column 11"), "{refused:?}");
    }
}

#[test]
fn where_text_stops_being_text_the_elements_before_stay_taken() {
    for tail in [&b"\xff]"[..], b",\"\xff\"]", b"]\xff", b"] \xff"] {
        let body = [b"[", WEATHER.as_bytes(), tail].concat();
        let found = collect(&body, &options());
        assert_eq!(found.records, [weather()]);
        assert_eq!(found.refused.len(), 1);
        assert_eq!(found.refused[0].reason, Reason::InvalidUtf8, "{:?}", found.refused);
    }
}

#[test]
fn what_follows_a_document_is_refused_once() {
    for body in [format!("{WEATHER}\n{WEATHER}"), format!("[{WEATHER}]\n{WEATHER}")] {
        let found = collect(&body, &options());
        assert_eq!(found.records, [weather()]);
        assert_eq!(refusals(&found), [(1, Reason::InvalidSyntax, WEATHER)]);
        assert!(found.refused[0].message.ends_with("at line 2 column 1"), "{:?}", found.refused);
    }
    let bad = r#"{"measurement":5,"fields":{"v":1}}"#;
    let found = collect(format!("{bad} {WEATHER}"), &options());
    assert_eq!(found.records, []);
    let expected = [(0, Reason::InvalidName, bad), (1, Reason::InvalidSyntax, WEATHER)];
    assert_eq!(refusals(&found), expected);
}

#[test]
fn a_time_in_the_wrong_precision_names_the_right_one() {
    let options = Options { received_ns: 1_700_000_000_000_000_000, ..options() };
    let found = collect(with(r#""timestamp":1700000000000000000"#), &options);
    assert!(found.refused[0].message.ends_with("; is precision=ns meant?"), "{:?}", found.refused);
    let found = collect(with(r#""timestamp":99000000000000000"#), &options);
    assert!(!found.refused[0].message.contains("meant"), "{:?}", found.refused);
}

#[test]
fn a_message_quotes_little_of_a_long_text() {
    let long = "x at line ".repeat(1_000);
    let tags = format!(r#"{{"measurement":"m","tags":"{long}","fields":{{"v":1}}}}"#);
    let number = with_fields(&format!(r#""v":{}"#, "9".repeat(10_000)));
    for body in [tags, number, with_tags(&format!(r#""{long}":1,"{long}":1"#))] {
        let found = collect(body, &options());
        assert!(found.refused[0].message.len() < 256, "{:?}", found.refused);
    }
}

#[test]
fn precisions_are_known_by_name() {
    for precision in Precision::ALL {
        assert_eq!(precision.name().parse(), Ok(precision));
    }
    assert_eq!("m".parse::<Precision>(), Err(UnknownPrecision));
    assert_eq!(UnknownPrecision.class(), crate::base::class::Class::Refused);
}

/// Members `"k0":1`, `"k1":1` and so on.
fn numbered(count: usize) -> String {
    (0..count).fold(String::new(), |mut members, number| {
        let comma = if number == 0 { "" } else { "," };
        write!(members, r#"{comma}"k{number}":1"#).unwrap();
        members
    })
}

/// Makes a body whose limited part has this size.
type Body<'a> = &'a dyn Fn(usize) -> String;

#[test]
fn each_limit_holds_at_and_gives_way_past() {
    let text = |bytes: usize| "x".repeat(bytes);
    let measurement = |name: &str| with("\"x\":1").replace("\"m\"", &format!("\"{name}\""));
    let tabled = |name: &str| with(&format!(r#""table":"{name}""#));
    let based = |name: &str| with(&format!(r#""database":"{name}""#));
    let named = |name: &str| with(&format!(r#""table":"t","measurement":"{name}""#));
    let field = |name: &str| with_fields(&format!(r#""{name}":1"#));
    let varchar = |value: &str| with_fields(&format!(r#""v":"{value}""#));
    let tag = |name: &str| with_tags(&format!(r#""{name}":"x""#));
    let tag_value = |value: &str| with_tags(&format!(r#""a":"{value}""#));
    let padded =
        |bytes: usize| with(&format!(r#""pad":"{}""#, text(bytes - with(r#""pad":"""#).len())));
    let table: [(Body<'_>, usize, Reason); 11] = [
        (&|n| measurement(&text(n)), TABLE_NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| tabled(&text(n)), TABLE_NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| based(&text(n)), TABLE_NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| named(&text(n)), NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| field(&text(n)), NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| tag(&text(n)), NAME_BYTES_MAX, Reason::NameTooLong),
        (&|n| tag_value(&text(n)), NAME_BYTES_MAX, Reason::ValueTooLong),
        (&|n| varchar(&text(n)), VARCHAR_BYTES_MAX, Reason::ValueTooLong),
        (&|n| with_tags(&numbered(n)), DIMENSIONS_MAX, Reason::TooManyDimensions),
        (&|n| with_fields(&numbered(n)), ATTRIBUTES_MAX, Reason::TooManyMeasures),
        (&padded, LINE_BYTES_MAX, Reason::RecordTooLarge),
    ];
    for (body, limit, reason) in table {
        for (size, is_taken) in [(limit - 1, true), (limit, true), (limit + 1, false)] {
            let found = collect(body(size), &options());
            let refused: Vec<_> = found.refused.iter().map(|refused| refused.reason).collect();
            assert_eq!(found.records.len(), usize::from(is_taken), "{reason} {size} {refused:?}");
            assert_eq!(refused, vec![reason; usize::from(!is_taken)], "{size}");
        }
    }
}

#[test]
fn names_past_those_compared_one_by_one_are_found_too() {
    let members = numbered(40);
    for name in ["k0", "k15", "k16", "k17", "k39"] {
        let found = collect(with_tags(&format!(r#"{members},"{name}":1"#)), &options());
        assert_eq!(found.refused[0].reason, Reason::DuplicateDimension, "{name}");
        let found = collect(with_fields(&format!(r#"{members},"{name}":2,"last":3"#)), &options());
        let attributes = &found.records[0].attributes;
        let place: usize = name[1..].parse().unwrap();
        assert_eq!(attributes.len(), 41);
        assert_eq!(attributes[place], (name.to_owned(), "Bigint(2)".to_owned()));
    }
}

#[test]
fn common_attributes_are_not_repeated_without_bound() {
    let padding = "x".repeat(1 << 20);
    let records = vec![r#"{"Time":"1"}"#; 70].join(",");
    let body = format!(
        r#"{{"DatabaseName":"db","TableName":"tb","CommonAttributes":{{{DIMENSION},"MeasureName":"m","MeasureValueType":"VARCHAR","MeasureValue":"{padding}"}},"Records":[{records}]}}"#
    );
    let found = collect(body, &of_stream());
    assert_eq!(found.records.len(), 63);
    assert_eq!(found.refused.len(), 7);
    assert!(found.refused.iter().all(|refused| refused.reason == Reason::RecordTooLarge));
}

/// A nest as deep as a body allows must not take a stack frame a level.
#[test]
fn nests_of_any_depth_are_read() {
    let depth = 1 << 20;
    let nest = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(collect(with(&format!(r#""x":{nest}"#)), &options()).records, [plain()]);
    let batches = r#"{"metrics":["#.repeat(depth) + &"]}".repeat(depth);
    for body in [nest.clone(), "[".repeat(depth), batches, with_fields(&format!(r#""v":{nest}"#))] {
        let found = collect(body, &options());
        assert_eq!((found.records.len(), found.refused.len()), (0, 1));
    }
}

fn field_value() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        any::<i64>().prop_map(|value| json!(value)),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| json!(value)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ]
}

fn printed(value: &serde_json::Value) -> String {
    let value = match value {
        serde_json::Value::Bool(value) => Value::Boolean(*value),
        serde_json::Value::String(value) => Value::Varchar(value),
        serde_json::Value::Number(value) if value.is_f64() => {
            Value::Double(value.as_f64().unwrap())
        }
        serde_json::Value::Number(value) => Value::Bigint(value.as_i64().unwrap()),
        _ => unreachable!("no field is made of anything else"),
    };
    format!("{value:?}")
}

fn any_record() -> impl Strategy<Value = (serde_json::Value, Owned)> {
    let tags = prop::collection::btree_map(".{1,9}", any::<String>(), 1..20);
    let fields = prop::collection::btree_map(".{1,9}", field_value(), 1..20);
    let time = any::<Option<i32>>();
    ("\\PC{1,20}", tags, fields, time, prop::option::of(1..i64::MAX)).prop_map(
        |(measurement, tags, fields, time, version)| {
            let written = json!({"measurement": measurement, "tags": tags, "fields": fields,
                "timestamp": time, "version": version});
            let attributes = fields.iter().map(|(name, value)| (name.clone(), printed(value)));
            let mut expected = record(&measurement);
            expected.attributes = attributes.collect();
            expected.dimensions = tags.into_iter().collect();
            expected.time_ns = time.map(|time| i64::from(time) * 1_000_000);
            expected.version = version;
            (written, expected)
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(records in prop::collection::vec(any_record(), 0..4)) {
        let (written, expected): (Vec<_>, Vec<_>) = records.into_iter().unzip();
        let lines_body: String = written.iter().flat_map(|record| [record.to_string(), "\n".to_owned()]).collect();
        let pretty = serde_json::to_string_pretty(&written).unwrap();
        for (body, options) in [
            (json!(written).to_string(), options()),
            (pretty, options()),
            (json!({"metrics": written}).to_string(), options()),
            (lines_body, lines()),
        ] {
            let found = collect(body, &options);
            prop_assert_eq!(&found.refused, &[]);
            prop_assert_eq!(&found.records, &expected);
        }
    }

    #[test]
    fn any_bytes_are_answered(body in prop::collection::vec(any::<u8>(), 0..200)) {
        for options in [options(), lines()] {
            let found = collect(&body, &options);
            prop_assert!(found.records.is_empty());
        }
    }

    /// Every element of a sound array is taken or refused; a body that is no JSON is refused somewhere.
    #[test]
    fn mutated_bodies_lose_nothing_in_silence(
        edits in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![
            any::<u8>(), prop::sample::select(&br#"{}[],:"\0e.-"#[..])
        ]), 1..4),
    ) {
        let request = scalar_of(r#""MeasureValue":"1""#);
        let mut body = format!("[{WEATHER},{},{request}]", with(r#""x":"\u0041""#)).into_bytes();
        for (place, byte) in edits {
            let place = place.index(body.len());
            body[place] = byte;
        }
        let found = collect(&body, &options());
        let taken = found.records.len() + found.refused.len();
        match serde_json::from_slice::<Vec<Box<serde_json::value::RawValue>>>(&body) {
            Ok(elements) => prop_assert!(taken >= elements.len(), "{:?}", found.refused),
            Err(_) => prop_assert!(!found.refused.is_empty()),
        }
    }
}
