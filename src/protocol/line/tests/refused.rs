//! What is refused, where and why.

use super::*;
use crate::record::Reason::{
    DuplicateDimension, InvalidName, InvalidSyntax, InvalidTime, InvalidUtf8, InvalidValue,
    NoMeasure, TypeConflict,
};

refuses!(no_field, "cpu,a=x", at(1, 8), NoMeasure);
refuses!(no_field_after_a_space, "cpu,a=x ", at(1, 9), NoMeasure);
refuses!(measurement_only, "cpu", at(1, 4), NoMeasure);
refuses!(r2b_leading_tab, "\tm f=1", at(1, 1), InvalidSyntax);
refuses!(r1_cr_inside, "m\rf=1", at(1, 2), InvalidSyntax);
refuses!(r1_cr_after_a_value, "m f=1\r1", at(1, 6), InvalidSyntax);
refuses!(r1_two_crs, "m f=1 1\r\r1", at(1, 8), InvalidTime);
refuses!(r3e_comment_behind_a_line, "m f=1 1 # c", at(1, 9), InvalidTime);
refuses!(r10_repeated_tag, "m,a=1,b=2,a=1 f=1", at(1, 11), DuplicateDimension);
refuses!(r10_repeated_tag_by_escapes, r"m,a\ b=1,a\ b=2 f=1", at(1, 10), DuplicateDimension);
refuses!(r11_two_types, "m f=1,g=1,f=1i", at(1, 13), TypeConflict);
refuses!(r12_empty_tag_value, "m,a= f=1", at(1, 5), InvalidSyntax);
refuses!(r12_empty_tag_key, "m,=b f=1", at(1, 3), InvalidSyntax);
refuses!(r12b_comma_behind_the_tags, "m,a=b, f=1", at(1, 7), InvalidSyntax);
refuses!(r12b_comma_and_no_tag, "m, f=1", at(1, 3), InvalidSyntax);
refuses!(r12b_tag_without_equals, "m,a f=1", at(1, 4), InvalidSyntax);
refuses!(r12c_two_commas, "m,a=b,,c=d f=1", at(1, 7), InvalidSyntax);
refuses!(r13_equals_in_a_tag_value, "m,a=b=c f=1", at(1, 6), InvalidSyntax);
refuses!(r14_misspelt_boolean, "m f=tRUE", at(1, 5), InvalidValue);
refuses!(r14_boolean_and_more, "m f=trueX", at(1, 5), InvalidValue);
refuses!(r14_yes, "m f=yes", at(1, 5), InvalidValue);
refuses!(r15_integer_too_large, "m f=9223372036854775808i", at(1, 5), InvalidValue);
refuses!(r15_integer_too_small, "m f=1,g=-9223372036854775809i", at(1, 9), InvalidValue);
refuses!(r15b_negative_unsigned, "m f=-1u", at(1, 5), InvalidValue);
refuses!(r15b_unsigned_too_large, "m f=18446744073709551616u", at(1, 5), InvalidValue);
refuses!(unsigned_above_bigint, "m e=1,f=9223372036854775808u", at(1, 9), InvalidValue);
refuses!(r16c_plus, "m f=+1", at(1, 5), InvalidValue);
refuses!(r16c_suffix, "m f=1f", at(1, 6), InvalidSyntax);
refuses!(r16c_hexadecimal, "m f=0x1f", at(1, 6), InvalidSyntax);
refuses!(r16c_exponent_without_digits, "m f=1e", at(1, 7), InvalidValue);
refuses!(r16c_exponent_of_a_sign, "m f=1e+,g=1", at(1, 8), InvalidValue);
refuses!(r16c_point, "m f=.", at(1, 6), InvalidValue);
refuses!(r16c_minus, "m f=-", at(1, 6), InvalidValue);
refuses!(r16c_minus_and_suffix, "m f=-i", at(1, 6), InvalidValue);
refuses!(r16d_underscore, "m f=1_0", at(1, 6), InvalidSyntax);
refuses!(r16e_nan, "m f=NaN", at(1, 5), InvalidValue);
refuses!(r16e_infinity, "m f=-Inf", at(1, 6), InvalidValue);
refuses!(r16f_float_overflow, "m f=1e400", at(1, 5), InvalidValue);
refuses!(float_integer, "m f=1.5i", at(1, 8), InvalidSyntax);
refuses!(r17c_tab, "m\tf=1", at(1, 2), InvalidSyntax);
refuses!(r17d_space_behind_the_comma, "m f=1, g=2", at(1, 7), InvalidSyntax);
refuses!(r17d_space_before_equals, "m f =1", at(1, 4), InvalidSyntax);
refuses!(r17d_space_behind_equals, "m f= 1", at(1, 5), InvalidValue);
refuses!(r18_time_at_the_end_of_i64, "m f=1 9223372036854775807", at(1, 7), InvalidTime);
refuses!(r18_time_beyond_i64, "m f=1 9223372036854775808 ", at(1, 7), InvalidTime);
refuses!(r18c_fraction, "m f=1 1.5", at(1, 8), InvalidTime);
refuses!(r18c_exponent, "m f=1 1e9", at(1, 8), InvalidTime);
refuses!(r18c_unit, "m f=1 1s", at(1, 8), InvalidTime);
refuses!(r18c_plus, "m f=1 +1", at(1, 7), InvalidTime);
refuses!(r18c_quotes, "m f=1 \"1\"", at(1, 7), InvalidTime);
refuses!(r18c_two_times, "m f=1 1 2", at(1, 9), InvalidTime);
refuses!(r18c_rfc_3339, "m f=1 2023-01-01T00:00:00Z", at(1, 11), InvalidTime);
refuses!(r20_measurement, b"m\xff f=1", at(1, 2), InvalidUtf8);
refuses!(r20_string, b"m s=\"a\nb\xc3\" 1", at(1, 9), InvalidUtf8);
refuses!(r20_before_another_error, b"m,\xffa f=1", at(1, 3), InvalidUtf8);
refuses!(r20_behind_another_error, b"m,a f=\xff", at(1, 4), InvalidSyntax);
refuses!(r21_nul_in_the_measurement, "m\0 f=1", at(1, 2), InvalidSyntax);
refuses!(r21_control_in_a_tag_value, "m,a=b\x01 f=1", at(1, 6), InvalidSyntax);
refuses!(r21_del_in_a_key, "m f\x7f=1", at(1, 4), InvalidSyntax);
refuses!(r23_text_behind_a_string, r#"m s="a"b"#, at(1, 8), InvalidSyntax);
refuses!(r24_comma_at_the_end, "m f=1,", at(1, 7), InvalidSyntax);
refuses!(r24_comma_at_the_start, "m ,f=1", at(1, 3), InvalidSyntax);
refuses!(r24_two_commas, "m f=1,,g=2", at(1, 7), InvalidSyntax);
refuses!(r24b_no_value, "m f=", at(1, 5), InvalidValue);
refuses!(r24b_key_only, "m f", at(1, 4), InvalidSyntax);
refuses!(r24b_no_key, "m =1", at(1, 3), InvalidSyntax);
refuses!(r24c_two_equals, "m f=1=2", at(1, 6), InvalidSyntax);
refuses!(r24c_word, "m f=abc", at(1, 5), InvalidValue);
refuses!(r24c_single_quotes, "m f='a'", at(1, 5), InvalidValue);
refuses!(r25_time_as_tag, "m,a=b,time=1 f=1", at(1, 7), InvalidName);
refuses!(r25b_time_as_only_field, "m,a=b time=1", at(1, 7), NoMeasure);
refuses!(r26_space_in_quotes, r#"m,a="b c" f=1"#, at(1, 10), InvalidSyntax);
refuses!(r27_no_measurement, ",a=b f=1", at(1, 1), InvalidSyntax);
refuses!(columns_count_leading_spaces, "  m f=x", at(1, 7), InvalidValue);
refuses!(columns_count_bytes, "é,ü=ö f=x", at(1, 12), InvalidValue);
refuses!(columns_run_on_over_newlines, "m f=\"a\nb\",g=x", at(1, 13), InvalidValue);
refuses!(string_behind_the_error, "m f=x,s=\"a\nb c=1\nd\" 5", at(1, 5), InvalidValue);
refuses!(string_with_escapes_behind_the_error, "m f=x,s=\"\\\"\n\\\\\"", at(1, 5), InvalidValue);
refuses!(string_behind_an_error_in_the_tags, "m,a f=1,s=\"a\nb c=1\nd\"", at(1, 4), InvalidSyntax);
refuses!(quotes_in_tags_are_no_string, "m,a=,b=\"c", at(1, 5), InvalidSyntax);
refuses!(string_that_is_never_closed_behind_the_error, "m f=x,s=\"a", at(1, 5), InvalidValue);

/// The refusals, by number, column and reason, and the numbers of the lines taken.
type Answer = (Vec<(u64, u64, Reason)>, Vec<u64>);

fn answer(body: &str, options: &Options<'_>) -> Answer {
    let collector = collect(body.as_bytes(), options);
    let refusals = collector.refusals.iter().map(|r| (r.number, r.column, r.reason)).collect();
    (refusals, collector.records.iter().map(|record| record.number).collect())
}

#[test]
fn r29_a_string_without_end_swallows_the_rest_and_nothing_before() {
    let body = "m f=1\n\nm s=\"a\\\"\nm f=1\nm f=2";
    assert_eq!(answer(body, &options()), (vec![(3, 5, InvalidSyntax)], vec![1]));
    let text = collect(body.as_bytes(), &options()).refusals.remove(0).text;
    assert_eq!(text, b"m s=\"a\\\"\nm f=1\nm f=2");
}

#[test]
fn line_numbers_are_physical() {
    let body =
        "# c\r\n\r\nm s=\"\n\n\"\nbad\n\nm f=x,s=\"\n\"\nm,a=b,a=c s=\"\n\"\nm f=1\nbad\r\nm f=1";
    let refusals = vec![
        (6, 4, NoMeasure),
        (8, 5, InvalidValue),
        (10, 7, DuplicateDimension),
        (13, 4, NoMeasure),
    ];
    assert_eq!(answer(body, &options()), (refusals, vec![3, 12, 14]));
}

#[test]
fn the_text_of_a_refused_line_ends_before_its_line_end() {
    let body = "bad\r\n  worse\nm f=1";
    let texts: Vec<_> =
        collect(body.as_bytes(), &options()).refusals.into_iter().map(|r| r.text).collect();
    assert_eq!(texts, [&b"bad"[..], b"  worse"]);
}

#[test]
fn r18b_a_time_that_overflows_by_its_precision() {
    let seconds = Options { precision: Precision::Seconds, ..options() };
    let body = "m f=1 9223372036\nm f=1 9223372037 \nm f=1 -9223372037";
    let refusals = vec![(2, 7, InvalidTime), (3, 7, InvalidTime)];
    assert_eq!(answer(body, &seconds), (refusals, vec![1]));
}

#[test]
fn a_line_without_a_tag_is_refused_unless_a_dimension_is_given() {
    let strict = Options { default_dimension: None, ..options() };
    let refusals = vec![(2, 5, Reason::NoDimension)];
    assert_eq!(answer("m,a=b f=1\ncpu1 f=1", &strict), (refusals, vec![1]));
}

#[test]
fn a_version_that_is_none_refuses_the_line() {
    let options = Options { version: VersionField::Field("v"), ..options() };
    for value in ["0i", "-1i", "0", "1.5", "-1", "1e300", "9223372036854775808u", "true", "\"1\""] {
        let body = format!("m f=1,v={value}");
        let refusals = vec![(1, 9, Reason::InvalidVersion)];
        assert_eq!(answer(&body, &options), (refusals, vec![]), "{body}");
    }
    assert_eq!(answer("m v=1i", &options), (vec![(1, 3, NoMeasure)], vec![]));
}

#[test]
fn a_message_says_what_was_found_and_what_would_be_right() {
    let table = [
        ("m,a= f=1", "found a space, but a tag has a value that is not empty"),
        ("m,a", "found the end of the body, but a tag key is followed by '=' and a value"),
        ("m,a\n", "found the end of the line, but a tag key is followed by '=' and a value"),
        (
            "m f=é",
            "found 'é', but a field value is a number, true, false or a string in double quotes",
        ),
        (
            "m\t f=1",
            "found the control character 0x09, but a measurement is followed by ',' and a tag, or by a space and a field",
        ),
        ("m f=\"", "found a string that never ends, but a string ends with a double quote"),
        (
            "m f=99999999999999999999i,g=1",
            "found 99999999999999999999i, but an integer lies between -9223372036854775808 and 9223372036854775807",
        ),
        ("m,a=1,a=2 f=1", "the tag key \"a\" stands twice, but a tag key stands once in a line"),
    ];
    for (body, message) in table {
        assert_eq!(collect(body.as_bytes(), &options()).messages, [message], "{body}");
    }
}
