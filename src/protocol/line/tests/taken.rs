//! What is taken, and as what.

use super::*;

fn f(number: u64) -> Owned {
    record("m").line(number).untagged().double("f", 1.0)
}

decodes!(
    a_whole_line,
    r#"cpu,host=a,region=eu usage=12.5,cores=8i,big=7u,up=true,state="ok" 1700000000000000000"#,
    [record("cpu")
        .dimension("host", "a")
        .dimension("region", "eu")
        .double("usage", 12.5)
        .bigint("cores", 8)
        .bigint("big", 7)
        .attribute("up", Value::Boolean(true))
        .varchar("state", "ok")
        .at(1_700_000_000_000_000_000)]
);
decodes!(an_empty_body, "", []);
decodes!(r4_blank_lines, "\n  \n\r\n \r\n\nm f=1\n\n  ", [f(6)]);
decodes!(r1_crlf, "m f=1\r\nm f=1 1\r\nm f=1 1 \r\n", [f(1), f(2).at(1), f(3).at(1)]);
decodes!(r1b_cr_at_the_end, "m f=1 1\r", [f(1).at(1)]);
decodes!(r1b_a_lone_cr, "\r", []);
decodes!(r2_leading_spaces, "   m f=1", [f(1)]);
decodes!(r3_comments, "# a\nm f=1\n  # \"b\n#\nm f=1\n# c", [f(2), f(5)]);
decodes!(r3b_comment_with_control_characters, "#\x01\t\r\x7f\nm f=1", [f(2)]);
decodes!(r3c_comment_ending_in_a_backslash, "# a\\\nm f=1", [f(2)]);
decodes!(r3d_comment_that_is_not_utf8, b"# \xff\xc3\nm f=1\n#\xfe", [f(2)]);
decodes!(
    r5_measurement_escapes,
    r"a\,b\ c\=d\x\\e f=1",
    [record(r"a,b c\=d\x\\e").untagged().double("f", 1.0)]
);
decodes!(r5_measurement_with_equals, "a=b f=1", [record("a=b").untagged().double("f", 1.0)]);
decodes!(
    tag_with_escaped_comma,
    r"cpu,a=x\,y v=1",
    [record("cpu").dimension("a", "x,y").double("v", 1.0)]
);
decodes!(
    r6_key_and_value_escapes,
    r"m,a\,b\=c\ d=\,\=\ \\\n f\,\=\ \q=1",
    [record("m").dimension("a,b=c d", r",= \\\n").double(r"f,= \q", 1.0)]
);
decodes!(
    r6b_two_backslashes_before_a_delimiter,
    r"m,a=b\\,c f=1",
    [record("m").dimension("a", r"b\,c").double("f", 1.0)]
);
decodes!(
    r6_backslashes_that_escape_nothing,
    r"m\,a=\b f\g=1",
    [record(r"m,a=\b").untagged().double(r"f\g", 1.0)]
);
decodes!(
    r8_string_escapes,
    r#"m s="a\nb\tc\"d\\e\\\"f\,",t="\\""#,
    [record("m").untagged().varchar("s", r#"a\nb\tc"d\e\"f\,"#).varchar("t", r"\")]
);
decodes!(
    r9_newline_in_a_string,
    "m s=\"a\nb\r\n\",f=1 5\nm f=1",
    [record("m").untagged().varchar("s", "a\nb\r\n").double("f", 1.0).at(5), f(4),]
);
decodes!(
    r9b_control_characters_in_a_string,
    "m s=\"\0\x01\t\x7f\"",
    [record("m").untagged().varchar("s", "\0\x01\t\x7f")]
);
decodes!(empty_string, r#"m s="",f=1"#, [record("m").untagged().varchar("s", "").double("f", 1.0)]);
decodes!(
    delimiters_in_a_string,
    r#"m s="a,b=c d#" 7"#,
    [record("m").untagged().varchar("s", "a,b=c d#").at(7)]
);
decodes!(
    r11_the_last_of_repeated_fields,
    "m f=2,g=1,f=3,f=1",
    [record("m").untagged().double("g", 1.0).double("f", 1.0)]
);
decodes!(
    r17_many_spaces,
    "m   f=1   5   \nm,a=b   f=1 ",
    [f(1).at(5), record("m").line(2).dimension("a", "b").double("f", 1.0),]
);
decodes!(
    r18_times_at_the_limits,
    "m f=1 9223372036854775806\nm f=1 -9223372036854775806\nm f=1 -0",
    [f(1).at(i64::MAX - 1), f(2).at(i64::MIN + 2), f(3).at(0),]
);
decodes!(r18_leading_zeros_in_a_time, "m f=1 00000000000000000000000000005", [f(1).at(5)]);
decodes!(
    r21b_odd_unicode,
    "m\u{a0},a\u{85}=\u{2028} \u{fffd}=1\n\u{feff}m f=1",
    [
        record("m\u{a0}").dimension("a\u{85}", "\u{2028}").double("\u{fffd}", 1.0),
        record("\u{feff}m").line(2).untagged().double("f", 1.0),
    ]
);
decodes!(
    names_with_rare_marks,
    "m!\"#$%&'()*+,a!b=\"c d\"=1,-./:;<>?@[]^_`{|}~=2",
    [record("m!\"#$%&'()*+")
        .dimension("a!b", "\"c")
        .double("d\"", 1.0)
        .double("-./:;<>?@[]^_`{|}~", 2.0)]
);
decodes!(
    names_of_every_alphabet,
    "温度,城市=北京,ciudad=Málaga größe=1,🌡=2i",
    [record("温度")
        .dimension("城市", "北京")
        .dimension("ciudad", "Málaga")
        .double("größe", 1.0)
        .bigint("🌡", 2)]
);
decodes!(
    r25_time_is_no_attribute,
    "m,_field=x,_measurement=y time=5,f=1",
    [record("m").dimension("_field", "x").dimension("_measurement", "y").double("f", 1.0)]
);
decodes!(
    r26_quotes_in_names,
    "\"m\",\"a\"='b' \"f\"=1",
    [record("\"m\"").dimension("\"a\"", "'b'").double("\"f\"", 1.0)]
);
decodes!(
    r28_tag_and_field_of_one_name,
    "m,a=b a=1",
    [record("m").dimension("a", "b").double("a", 1.0)]
);

/// The field `f` of `m f=<value>`.
fn only_value(value: &str) -> Shown {
    let body = format!("m f={value}");
    let collector = collect(body.as_bytes(), &options());
    assert_eq!(collector.refusals, [], "{body}: {:?}", collector.messages);
    collector.records[0].attributes[0].1.clone()
}

#[test]
fn r14_booleans_in_ten_spellings() {
    for (truth, spellings) in
        [(true, ["t", "T", "true", "True", "TRUE"]), (false, ["f", "F", "false", "False", "FALSE"])]
    {
        for spelling in spellings {
            assert_eq!(only_value(spelling), Shown::Boolean(truth), "{spelling}");
        }
    }
}

#[test]
fn r15_integers_up_to_their_limits() {
    let table = [
        ("0i", 0),
        ("-0i", 0),
        ("7i", 7),
        ("007i", 7),
        ("12345678i", 12_345_678),
        ("123456789i", 123_456_789),
        ("1234567812345678i", 1_234_567_812_345_678),
        ("9223372036854775807i", i64::MAX),
        ("-9223372036854775808i", i64::MIN),
        ("-00000000000000000000000000000001i", -1),
        ("0u", 0),
        ("9223372036854775807u", i64::MAX),
    ];
    for (text, value) in table {
        assert_eq!(only_value(text), Shown::Bigint(value), "{text}");
    }
}

#[test]
fn r16_floats_in_every_form() {
    let table = [
        ("1", 1.0),
        ("-1", -1.0),
        ("0", 0.0),
        ("-0", -0.0),
        ("-0.0", -0.0),
        (".5", 0.5),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("1.e3", 1000.0),
        (".5e3", 500.0),
        ("007", 7.0),
        ("0.1", 0.1),
        ("1.e+78", 1e78),
        ("1E-5", 1e-5),
        ("1e0", 1.0),
        ("1e-400", 0.0),
        ("-1e-400", -0.0),
        ("0e999999999999", 0.0),
        ("1.7976931348623157e308", f64::MAX),
        ("5e-324", 5e-324),
        ("9007199254740992", 9_007_199_254_740_992.0),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("0.3333333333333333333333333", 1.0 / 3.0),
        ("123456789012345678901234567890", 123_456_789_012_345_678_901_234_567_890.0),
        ("1234567.8901234", 1_234_567.890_123_4),
        ("0.00000000000000000000000001", 1e-26),
    ];
    for (text, value) in table {
        assert_eq!(only_value(text), Shown::Double(f64::to_bits(value)), "{text}");
    }
}

/// Goal: the quick way to read a float gives what the standard library gives, to the last bit.
#[test]
fn floats_are_read_to_the_last_bit() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let digits = (state % 1_000_000_007 * 1_000_003 + state % 977).to_string();
        let point = usize::try_from(state >> 32).unwrap() % (digits.len() + 1);
        let (whole, fraction) = digits.split_at(point);
        let text = format!("{whole}.{fraction}");
        let value: f64 = text.parse().unwrap();
        assert_eq!(only_value(&text), Shown::Double(value.to_bits()), "{text}");
    }
}

#[test]
fn r19_one_time_for_all_lines_without_one() {
    let options = Options { precision: Precision::Seconds, ..options() };
    let collector = collect(b"m f=1\nm f=1 5\nm f=1", &options);
    let times: Vec<_> = collector.records.iter().filter_map(|record| record.time_ns).collect();
    assert_eq!(times, [1_700_000_000_000_000_000, 5_000_000_000, 1_700_000_000_000_000_000]);
}

#[test]
fn the_measure_name_is_the_one_of_the_settings() {
    let options = Options { measure_name: MeasureName::Fixed("metrics"), ..options() };
    let collector = collect(b"cpu,a=b f=1", &options);
    assert_eq!(collector.records[0].table, "cpu");
    assert_eq!(collector.records[0].measure_name, "metrics");
}

#[test]
fn the_version_field_is_the_version_and_no_attribute() {
    let options = Options { version: VersionField::Field("_version"), ..options() };
    for (value, version) in [
        ("1i", 1),
        ("7u", 7),
        ("3", 3),
        ("3.0", 3),
        ("9223372036854775807i", i64::MAX),
        ("9007199254740992", 1 << 53),
    ] {
        let body = format!("m f=1,_version={value}");
        let collector = collect(body.as_bytes(), &options);
        let record = super::record("m").untagged().double("f", 1.0);
        assert_eq!(collector.records, [Owned { version: Some(version), ..record }], "{body}");
    }
    assert_eq!(collect(b"m f=1", &options).records[0].version, None);
    assert_eq!(collect(b"m _version=1i", &super::options()).records[0].version, None);
}

/// Goal: the record that is used again holds nothing of the line before.
#[test]
fn a_record_keeps_nothing_of_the_line_before() {
    let options = Options { version: VersionField::Field("v"), ..options() };
    let collector = collect(b"m,a=b,c=d f=1,g=2,v=3i 5\nn x=1i", &options);
    let expected = record("n").line(2).untagged().bigint("x", 1);
    assert_eq!(collector.records[1], expected);
}

/// Goal: good lines beside lines that are no UTF-8 are read as if those were not there.
#[test]
fn r20_one_line_that_is_not_utf8_harms_no_other() {
    let body = b"m,a=\xc3\xa9 f=1\nm,a=\xc3 f=1\n# \xff\nm,a=\xc3\xa9 s=\"\xe2\x82\xac\\\"\"\n\xff";
    let collector = collect(body, &options());
    let records = [
        record("m").dimension("a", "é").double("f", 1.0),
        record("m").line(4).dimension("a", "é").varchar("s", "€\""),
    ];
    assert_eq!(collector.records, records);
    let refused = |number, column, text: &[u8]| Refused {
        number,
        column,
        reason: Reason::InvalidUtf8,
        text: text.to_vec(),
    };
    assert_eq!(collector.refusals, [refused(2, 5, b"m,a=\xc3 f=1"), refused(5, 1, b"\xff")]);
}
