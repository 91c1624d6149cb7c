//! Each rule of a request, in the order in which they are looked at.

use super::shape::{self, Problem};
use super::usual;
use crate::record::{MeasureKind, Value};

/// A request of one record with these members, beside these that all share.
fn request(common: &str, record: &str) -> String {
    format!(
        r#"{{"DatabaseName":"db1","TableName":"t1","CommonAttributes":{{{common}}},"Records":[{{{record}}}]}}"#
    )
}

/// What the records are, in short; or the message.
fn shown(body: &str) -> Result<Vec<String>, String> {
    let request = shape::read(body.as_bytes()).map_err(|problem| match problem {
        Problem::Malformed(malformed) => format!("malformed: {malformed}"),
        Problem::Invalid(invalid) => invalid.to_string(),
    })?;
    let records = request.records().map_err(|invalid| invalid.to_string())?;
    let each = records.iter().map(|record| {
        let dimensions: Vec<_> =
            record.dimensions.iter().map(|d| format!("{}={}", d.name, d.value)).collect();
        let kind = if record.kind == MeasureKind::Multi { "multi" } else { "one" };
        let values: Vec<_> = record
            .attributes
            .iter()
            .map(|attribute| match attribute.value {
                Value::Double(number) => format!("{}:{number:?}", attribute.name),
                Value::Bigint(number) => format!("{}:{number}i", attribute.name),
                Value::Boolean(truth) => format!("{}:{truth}", attribute.name),
                Value::Varchar(text) => format!("{}:{text:?}", attribute.name),
                Value::Timestamp(time) => format!("{}:{time}t", attribute.name),
            })
            .collect();
        let (name, time, version) = (record.measure_name, record.time_ns, record.version);
        let (dimensions, values) = (dimensions.join(","), values.join(","));
        let (time, version) = (time.unwrap_or(-1), version.unwrap_or(-1));
        format!("{name} {dimensions} {kind} {values} {time} v{version}")
    });
    Ok(each.collect())
}

const FULL: &str = r#""Dimensions":[{"Name":"h","Value":"1"}],"MeasureName":"cpu","MeasureValue":"1.5","Time":"1700000000000""#;

#[test]
fn a_member_stands_in_the_record_or_in_common_attributes_and_the_records_goes_first() {
    for (common, record, expected) in [
        ("", FULL, "cpu h=1 one :1.5 1700000000000000000 v1"),
        (FULL, "", "cpu h=1 one :1.5 1700000000000000000 v1"),
        (
            r#""Dimensions":[{"Name":"r","Value":"eu","DimensionValueType":"VARCHAR"}],"Version":3,"MeasureName":"mem","TimeUnit":"NANOSECONDS""#,
            FULL,
            "cpu r=eu,h=1 one :1.5 1700000000000 v3",
        ),
        (
            r#""TimeUnit":"SECONDS","Version":3"#,
            r#""Dimensions":[{"Name":"h","Value":""}],"MeasureName":"cpu","MeasureValue":"7","MeasureValueType":"BIGINT","Time":"17","Version":9223372036854775807"#,
            "cpu h= one :7i 17000000000 v9223372036854775807",
        ),
        (
            r#""MeasureValues":[{"Name":"a","Value":"True","Type":"BOOLEAN"},{"Name":"b","Value":"5","Type":"TIMESTAMP"}],"MeasureValueType":"MULTI""#,
            r#""Dimensions":[{"Name":"h","Value":"1"}],"MeasureName":"cpu","Time":"1","TimeUnit":"MICROSECONDS","MeasureValues":null"#,
            "cpu h=1 multi a:true,b:5000t 1000 v1",
        ),
        (
            r#""Future":{"x":[1]},"MeasureValueType":"VARCHAR""#,
            r#""Dimensions":[{"Name":"h","Value":"\u00e9\u2603"}],"MeasureName":"c","MeasureValue":"a\"b","Time":"3","Version":null"#,
            "c h=é☃ one :\"a\\\"b\" 3000000 v1",
        ),
    ] {
        let found = shown(&request(common, record));
        assert_eq!(found.as_deref(), Ok(&[expected.to_owned()][..]));
    }
}

/// The members of `FULL` but for one.
fn without(member: &str) -> String {
    let parts = [
        r#""Dimensions":[{"Name":"h","Value":"1"}]"#,
        r#""MeasureName":"cpu""#,
        r#""MeasureValue":"1.5""#,
        r#""Time":"1""#,
    ];
    parts.into_iter().filter(|part| !part.contains(member)).collect::<Vec<_>>().join(",")
}

fn assert_refused(common: &str, record: &str, expected: &str) {
    let found = shown(&request(common, record)).unwrap_err();
    assert!(found.starts_with(expected), "{record}\n{found}\n{expected}");
}

const VALUE: &str = "\"MeasureValue\"";

#[test]
fn what_breaks_a_rule_fails_the_request_and_is_named_with_index_member_and_value() {
    let with = |member: &str| format!("{FULL},{member}");
    for (common, record, expected) in [
        (
            "",
            without("Dimensions"),
            "At least one dimension is required for a record. RecordIndex 0",
        ),
        ("", without("MeasureName"), "Measure name is required for a record. RecordIndex 0"),
        ("", without("Time"), "Invalid time for record. RecordIndex 0: Time is missing"),
        (
            r#""Time":"12.5""#,
            without("Time"),
            "Invalid time for record. RecordIndex 0: Time is '12.5'",
        ),
        (r#""Time":"-1""#, without("Time"), "Invalid time for record."),
        (r#""Time":"9223372036855""#, without("Time"), "Invalid time for record."),
        ("", with(r#""Version":0"#), "Invalid version for record. RecordIndex 0: Version is '0'"),
        (r#""Version":-1"#, FULL.to_owned(), "Invalid version for record."),
        (
            r#""Dimensions":[{"Name":"h","Value":"2"}]"#,
            FULL.to_owned(),
            "Dimension names must be unique in a record. RecordIndex 0: Dimensions is 'h'",
        ),
    ] {
        assert_refused(common, &record, expected);
    }
}

#[test]
fn a_record_has_one_value_or_is_multi_and_has_several() {
    let several = |of: &str| format!(r#""MeasureValues":[{{"Name":"a","Value":"1","Type":{of}}}]"#);
    let (value, multi) = (without(VALUE), r#""MeasureValueType":"MULTI""#);
    let twice = r#""MeasureValueType":"MULTI","MeasureValues":[{"Name":"a","Value":"1","Type":"BIGINT"},{"Name":"a","Value":"2","Type":"BIGINT"}]"#;
    let nested = format!("{multi},{}", several(r#""MULTI""#));
    let plain = several(r#""BIGINT""#);
    for (common, record, expected) in [
        ("", without(VALUE), "A measure value is required for a record."),
        (multi, FULL.to_owned(), "MeasureValue is not taken in a record of type"),
        (plain.as_str(), FULL.to_owned(), "MeasureValue and MeasureValues exclude each other"),
        (&plain, value.clone(), "MeasureValues are taken in a record of type MULTI only."),
        (multi, value.clone(), "MeasureValues are required for a record of type MULTI."),
        (&nested, value.clone(), "MULTI is no type of one of the MeasureValues."),
        (twice, value.clone(), "Measure value names must be unique in a record."),
    ] {
        assert_refused(common, &record, expected);
    }
}

#[test]
fn a_value_that_is_not_of_its_type_fails_the_request() {
    for (text, name, expected) in [
        ("1", "TIMESTAMP", "TIMESTAMP is not taken as the type of a single measure value."),
        (
            "NaN",
            "DOUBLE",
            "Invalid DOUBLE value. RecordIndex 0: MeasureValue is 'NaN': NaN and Infinity cannot be stored.",
        ),
        ("-Infinity", "DOUBLE", "Invalid DOUBLE value."),
        ("1e999", "DOUBLE", "Invalid DOUBLE value."),
        (" 1", "DOUBLE", "Invalid DOUBLE value."),
        ("0x10", "DOUBLE", "Invalid DOUBLE value."),
        ("1.0", "BIGINT", "Invalid BIGINT value."),
        ("9223372036854775808", "BIGINT", "Invalid BIGINT value."),
        ("yes", "BOOLEAN", "Invalid BOOLEAN value."),
    ] {
        let value = format!(r#""MeasureValue":"{text}","MeasureValueType":"{name}""#);
        assert_refused(&value, &without(VALUE), expected);
    }
}

#[test]
fn constraints_of_the_model_are_told_all_at_once_with_their_paths() {
    let long = "x".repeat(2049);
    for (record, expected) in [
        (
            r#""Dimensions":[{"Name":"h","Value":"1","DimensionValueType":"X"}]"#.to_owned(),
            "1 validation error detected: Value 'X' at 'records.1.member.dimensions.1.member.dimensionValueType' failed to satisfy constraint: Member must satisfy enum value set: [VARCHAR]",
        ),
        (
            r#""Dimensions":[{"Name":"","Value":null}],"MeasureName":"""#.to_owned(),
            "3 validation errors detected: Value '' at 'records.1.member.measureName' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'records.1.member.dimensions.1.member.name' failed to satisfy constraint: Member must have length greater than or equal to 1; Value null at 'records.1.member.dimensions.1.member.value' failed to satisfy constraint: Member must not be null",
        ),
        (format!(r#""MeasureValue":"{long}""#), "1 validation error detected: Value 'xxx"),
        (r#""MeasureValue":"""#.to_owned(), "1 validation error detected: Value '' at"),
        (r#""Time":"""#.to_owned(), "1 validation error detected: Value '' at"),
        (r#""TimeUnit":"HOURS""#.to_owned(), "1 validation error detected: Value 'HOURS' at"),
        (
            r#""MeasureValueType":"FLOAT""#.to_owned(),
            "1 validation error detected: Value 'FLOAT' at",
        ),
        (
            r#""MeasureValues":[{}]"#.to_owned(),
            "3 validation errors detected: Value null at 'records.1.member.measureValues.1.member.name'",
        ),
    ] {
        let found = shown(&request("", &record)).unwrap_err();
        assert!(found.starts_with(expected), "{record}\n{found}");
    }
    let at = shown(&request("", &format!(r#"{FULL},"MeasureValueType":"VARCHAR""#)));
    assert!(at.is_ok(), "{at:?}");
}

#[test]
fn a_request_has_a_hundred_records_at_most_and_one_at_least() {
    let with = |count: usize| {
        let records = vec![format!("{{{FULL}}}"); count].join(",");
        format!(r#"{{"DatabaseName":"d","TableName":"t","Records":[{records}]}}"#)
    };
    assert_eq!(shown(&with(100)).unwrap().len(), 100);
    assert_eq!(
        shown(&with(101)).unwrap_err(),
        "1 validation error detected: Value '[101 records]' at 'records' failed to satisfy \
         constraint: Member must have length less than or equal to 100"
    );
    let found = shown(&with(200_000)).unwrap_err();
    assert!(found.contains("'[200000 records]'"), "{found}");
    assert!(shown(&with(0)).unwrap_err().contains("greater than or equal to 1"));
    let found = shown("{}").unwrap_err();
    assert!(found.starts_with("3 validation errors detected"), "{found}");
    for missing in ["", r#","Records":null"#] {
        let found = shown(&format!(r#"{{"DatabaseName":"d","TableName":"t"{missing}}}"#));
        assert_eq!(
            found.unwrap_err(),
            "1 validation error detected: Value null at 'records' failed to satisfy constraint: \
             Member must not be null"
        );
    }
}

#[test]
fn a_bad_value_and_a_name_that_stands_twice_are_told_where_they_stand() {
    let twice = r#""Dimensions":[{"Name":"h","Value":"1"},{"Name":"h","Value":"2"}]"#;
    for (common, record, expected) in [
        (FULL, FULL, "CommonAttributes and the record may not both name it"),
        (
            "",
            &*FULL.replacen(r#""Dimensions":[{"Name":"h","Value":"1"}]"#, twice, 1),
            "the record names it twice",
        ),
        (
            twice,
            r#""MeasureName":"cpu","MeasureValue":"1","Time":"1""#,
            "CommonAttributes name it twice",
        ),
        (
            "",
            r#""Dimensions":[{"Name":"h","Value":"1"}],"MeasureName":"m","MeasureValueType":"MULTI","Time":"1","MeasureValues":[{"Name":"good","Type":"BIGINT","Value":"1"},{"Name":"bad","Type":"BIGINT","Value":"x"}]"#,
            "MeasureValues 'bad' is 'x': it must be an integer of 64 bits",
        ),
    ] {
        let found = shown(&request(common, record)).unwrap_err();
        assert!(found.contains("RecordIndex 0: ") && found.contains(expected), "{found}");
    }
}

#[test]
fn what_is_no_json_of_a_request_is_malformed_and_the_record_is_named() {
    for (body, expected) in [
        ("", "malformed: the body: EOF"),
        ("[]", "malformed: the body: "),
        (
            &request("", r#""Dimensions":[["h","1"]]"#),
            "malformed: record 0: invalid type: sequence",
        ),
        (r#"{"Records":{}}"#, "malformed: the body: "),
        (&request("", r#""MeasureValue":1.5"#), "malformed: record 0: invalid type"),
        (&request("", r#""Version":9223372036854775808"#), "malformed: record 0: "),
        (&request(r#""Version":"1""#, FULL), "malformed: CommonAttributes: invalid type"),
    ] {
        let found = shown(body).unwrap_err();
        assert!(found.starts_with(expected), "{body}\n{found}");
    }
}

#[test]
fn a_list_beyond_its_bound_is_counted_and_not_kept() {
    let many = vec!["{}"; 200_000].join(",");
    let found = shown(&request("", &format!(r#""Dimensions":[{many}]"#))).unwrap_err();
    assert!(found.contains("'[200000 dimensions]' at 'records.1.member.dimensions'"), "{found}");
    let read = |count: usize| {
        let value = r#"{"Name":"a","Value":"1","Type":"BIGINT"}"#;
        let values = vec![value; count].join(",");
        let body = request("", &format!(r#""MeasureValues":[{values}]"#));
        shape::read(body.as_bytes()).unwrap().records.first().unwrap().1.values().len()
    };
    assert_eq!((read(1025), read(1026), read(100_000)), (1025, 1025, 1025));
}

/// Bodies as SDKs write them, in both ways of setting blanks.
fn usual_bodies() -> Vec<String> {
    let multi = r#""Dimensions":[{"Name":"h","Value":"1","DimensionValueType":"VARCHAR"},{"Name":"r","Value":"e\u00e9\"\\"}],"MeasureName":"cpu","MeasureValueType":"MULTI","MeasureValues":[{"Name":"a","Value":"1.25","Type":"DOUBLE"},{"Name":"b","Value":"café ☃ and more","Type":"VARCHAR"}],"Time":"1700000000000","TimeUnit":"MILLISECONDS","Version":12"#;
    let both = format!(
        r#"{{"Records":[{{{FULL}}},{{{multi}}},{{{FULL},"Version":0}}],"TableName":"t1","DatabaseName":"db1"}}"#
    );
    let of_python = both.replace(r#"":"#, r#"": "#).replace(',', ", ");
    vec![request(multi, FULL), request(FULL, multi), both, of_python]
}

#[test]
fn what_sdks_write_is_read_in_one_pass_and_what_is_unusual_is_left_to_the_general_reader() {
    for body in usual_bodies() {
        let read = usual::read(body.as_bytes()).expect("it is in the usual form");
        assert_eq!(Ok(read), shape::general(body.as_bytes()), "{body}");
    }
    let with = |member: &str| request("\"Version\":1", &format!("{FULL},{member}"));
    let unusual = [
        request("", FULL),
        with(r#""Future":1"#),
        with(r#""Version":null"#),
        with(r#""Version":01"#),
        with(r#""Version":1.0"#),
        with(r#""Version":"#),
        with(r#""Version":-1"#),
        with(r#""Version":9223372036854775808"#),
        with(FULL),
        with(""),
        format!("{}x", with(r#""Version":1"#)),
        request(FULL, &FULL.replace("cpu", "c\npu")),
        request(FULL, &FULL.replace("cpu", r"c\npu\x")),
        request(FULL, &FULL.replace("cpu", r"c\ud800pu")),
    ];
    for body in unusual {
        assert_eq!(usual::read(body.as_bytes()), None, "{body}");
    }
}

/// Changes, drops and doubles bytes anywhere: whatever the one pass takes, the general reader takes for
/// the same, so that no body means something else for the way it was read.
#[expect(clippy::indexing_slicing, reason = "places are chosen within what they are places of")]
#[test]
fn what_is_read_in_one_pass_reads_the_same_in_general() {
    let mut state = 0x7469_6465_6761_7465_u64;
    let mut below = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % bound as u64).unwrap()
    };
    let bodies = usual_bodies();
    let alphabet = b"{}[]:,\"\\ \n\x00\x1f0123456789-+.eEnulltruefNameValueTypeu\xc3\xa9";
    let (mut taken, mut left) = (0, 0);
    for _ in 0..60_000 {
        let mut body = bodies[below(bodies.len())].clone().into_bytes();
        for _ in 0..=below(3) {
            let at = below(body.len());
            match below(4) {
                0 => body[at] = alphabet[below(alphabet.len())],
                1 => body.insert(at, alphabet[below(alphabet.len())]),
                2 => drop(body.remove(at)),
                _ => {
                    let piece = body[at..(at + below(40)).min(body.len())].to_vec();
                    let to = below(body.len());
                    body.splice(to..to, piece);
                }
            }
        }
        match usual::read(&body) {
            None => left += 1,
            Some(read) => {
                taken += 1;
                assert_eq!(Ok(read), shape::general(&body), "{}", String::from_utf8_lossy(&body));
            }
        }
    }
    assert!(taken > 3_000 && left > 3_000, "{taken} taken, {left} left to the general reader");
}
