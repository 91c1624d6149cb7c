//! Every limit: at it, under it, over it.

use super::*;
use crate::record::limits::{
    ATTRIBUTES_MAX, DIMENSIONS_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, VARCHAR_BYTES_MAX,
};

/// One below the limit and the limit itself are taken, one above is refused with good neighbours left.
fn bites(limit: usize, reason: Reason, column: usize, line: impl Fn(usize) -> String) {
    for size in [limit - 1, limit] {
        let collector = collect(line(size).as_bytes(), &options());
        assert_eq!(collector.messages, Vec::<String>::new(), "{size} of {limit}");
        assert_eq!(collector.records.len(), 1);
    }
    let body = format!("{}\nx,y=z w=1", line(limit + 1));
    let collector = collect(body.as_bytes(), &options());
    let refusals: Vec<_> =
        collector.refusals.iter().map(|r| (r.number, r.column, r.reason)).collect();
    assert_eq!(refusals, [(1, column as u64, reason)], "{:?}", collector.messages);
    assert_eq!(collector.records.len(), 1);
    assert!(collector.messages[0].contains("the limit"), "{}", collector.messages[0]);
}

fn many(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(",")
}

#[test]
fn r22_a_measurement_has_a_longest_length() {
    bites(NAME_BYTES_MAX, Reason::NameTooLong, 1, |size| format!("{} f=1", "m".repeat(size)));
}

#[test]
fn r22_a_tag_key_has_a_longest_length() {
    bites(NAME_BYTES_MAX, Reason::NameTooLong, 3, |size| format!("m,{}=b f=1", "a".repeat(size)));
}

#[test]
fn r22_a_tag_value_has_a_longest_length() {
    bites(NAME_BYTES_MAX, Reason::NameTooLong, 3, |size| format!("m,a={} f=1", "b".repeat(size)));
}

#[test]
fn r22_a_field_key_has_a_longest_length() {
    bites(NAME_BYTES_MAX, Reason::NameTooLong, 3, |size| format!("m {}=1", "f".repeat(size)));
}

#[test]
fn r22_escapes_do_not_count() {
    bites(NAME_BYTES_MAX, Reason::NameTooLong, 3, |size| format!("m,a={} f=1", r"\,".repeat(size)));
}

#[test]
fn r22b_a_string_has_a_longest_length() {
    bites(VARCHAR_BYTES_MAX, Reason::ValueTooLong, 3, |size| {
        format!("m f=\"{}\"", "s".repeat(size))
    });
}

#[test]
fn r22b_escapes_do_not_count() {
    bites(VARCHAR_BYTES_MAX, Reason::ValueTooLong, 3, |size| {
        format!("m f=\"{}\"", r#"\""#.repeat(size))
    });
}

#[test]
fn a_line_has_a_longest_length() {
    bites(LINE_BYTES_MAX, Reason::RecordTooLarge, LINE_BYTES_MAX + 1, |size| {
        let string = format!("=\"{}\"", "s".repeat(VARCHAR_BYTES_MAX));
        let start = format!("m a{string},b{string},c{string},d=\"");
        format!("{start}{}\"", "s".repeat(size - start.len() - 1))
    });
}

#[test]
fn a_record_has_a_most_of_dimensions() {
    let start = format!("m,{}", many(DIMENSIONS_MAX, |n| format!("a{n}=b")));
    bites(DIMENSIONS_MAX, Reason::TooManyDimensions, start.len() + 2, |count| {
        format!("m,{} f=1", many(count, |n| format!("a{n}=b")))
    });
}

#[test]
fn a_record_has_a_most_of_attributes() {
    let start = format!("m {}", many(ATTRIBUTES_MAX, |n| format!("f{n}=1")));
    bites(ATTRIBUTES_MAX, Reason::TooManyMeasures, start.len() + 2, |count| {
        format!("m {}", many(count, |n| format!("f{n}=1")))
    });
}

#[test]
fn limits_are_those_of_the_options() {
    let limits = Limits { line_bytes: 30, name_bytes: 3, string_bytes: 4, tags: 1, fields: 2 };
    let options = Options { limits, ..options() };
    let table = [
        ("abc,a=b f=1,g=\"four\"", None),
        ("abc,a=b fff=1,g=\"four\" 12345678", Some(Reason::RecordTooLarge)),
        ("abcd f=1", Some(Reason::NameTooLong)),
        ("m f=\"fours\"", Some(Reason::ValueTooLong)),
        ("m,a=b,c=d f=1", Some(Reason::TooManyDimensions)),
        ("m f=1,g=2,h=3", Some(Reason::TooManyMeasures)),
    ];
    for (body, reason) in table {
        let collector = collect(body.as_bytes(), &options);
        assert_eq!(collector.refusals.first().map(|refused| refused.reason), reason, "{body}");
    }
}

/// Goal: a client cannot choose keys that make the search for repeated ones slow or wrong. Method: keys
/// that differ in the middle only, which the quick look cannot tell apart.
#[test]
fn keys_that_look_alike_are_told_apart() {
    let key = |n: usize| format!("prefix__{n:06}__suffix=1");
    let fields = many(ATTRIBUTES_MAX, key);
    let tags = many(DIMENSIONS_MAX, key);
    let collector = collect(format!("m,{tags} {fields}\nm,{tags} {fields}").as_bytes(), &options());
    assert_eq!(collector.messages, Vec::<String>::new());
    assert_eq!(collector.records.len(), 2);
    assert_eq!(collector.records[1].attributes.len(), ATTRIBUTES_MAX);

    let repeated = format!("m,{},{} f=1", many(100, key), key(50));
    let collector = collect(repeated.as_bytes(), &options());
    assert_eq!(collector.refusals[0].reason, Reason::DuplicateDimension);
}
