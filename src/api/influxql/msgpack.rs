//! An answer as `MessagePack`. Answers here are small trees of texts, whole numbers and truth values, so the
//! widest form of each is used. Source: the `MessagePack` specification, "Formats".

use serde_json::Value;

/// The content type, by which clients tell it from JSON.
pub(super) const CONTENT_TYPE: &str = "application/x-msgpack";

/// What is preferred where a client takes both.
const JSON: &str = "application/json";

/// Whether `accept` asks for it and does not take JSON as well.
pub(super) fn is_asked_for(accept: &str) -> bool {
    let mut asked =
        accept.split(',').map(|range| range.split(';').next().unwrap_or_default().trim());
    let takes_other = asked.clone().any(|range| range.eq_ignore_ascii_case(JSON));
    !takes_other && asked.any(|range| range.eq_ignore_ascii_case(CONTENT_TYPE))
}

/// `value` as bytes.
pub(super) fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    put(&mut bytes, value);
    bytes
}

#[expect(clippy::big_endian_bytes, reason = "the order of the specification")]
fn put(bytes: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => bytes.push(0xc0),
        Value::Bool(false) => bytes.push(0xc2),
        Value::Bool(true) => bytes.push(0xc3),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => put_with(bytes, 0xd3, &whole.to_be_bytes()),
            (None, float) => put_with(bytes, 0xcb, &float.unwrap_or_default().to_be_bytes()),
        },
        Value::String(text) => put_text(bytes, text),
        Value::Array(items) => {
            put_with(bytes, 0xdd, &count(items.len()));
            for item in items {
                put(bytes, item);
            }
        }
        Value::Object(members) => {
            put_with(bytes, 0xdf, &count(members.len()));
            for (name, member) in members {
                put_text(bytes, name);
                put(bytes, member);
            }
        }
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_with(bytes, 0xdb, &count(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

fn put_with(bytes: &mut Vec<u8>, format: u8, what: &[u8]) {
    bytes.push(format);
    bytes.extend_from_slice(what);
}

#[expect(clippy::big_endian_bytes, reason = "the order of the specification")]
fn count(items: usize) -> [u8; 4] {
    u32::try_from(items).expect("an answer is smaller than 4 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_value_is_written_as_the_specification_says() {
        let cases: [(Value, &[u8]); 8] = [
            (Value::Null, b"\xc0"),
            (json!(false), b"\xc2"),
            (json!(true), b"\xc3"),
            (json!(-2), b"\xd3\xff\xff\xff\xff\xff\xff\xff\xfe"),
            (json!(1.5), b"\xcb\x3f\xf8\0\0\0\0\0\0"),
            (json!("a\u{e4}"), b"\xdb\0\0\0\x03a\xc3\xa4"),
            (json!([null, true]), b"\xdd\0\0\0\x02\xc0\xc3"),
            (json!({ "k": [] }), b"\xdf\0\0\0\x01\xdb\0\0\0\x01k\xdd\0\0\0\0"),
        ];
        for (value, bytes) in cases {
            assert_eq!(encode(&value), bytes, "{value}");
        }
    }

    #[test]
    fn who_takes_json_as_well_gets_json() {
        for (accept, is_asked) in [
            ("", false),
            ("*/*", false),
            ("application/json", false),
            ("application/x-msgpack", true),
            ("Application/X-MsgPack;q=1, */*;q=0.1", true),
            ("application/x-msgpack, application/json", false),
            ("application/x-msgpacked", false),
        ] {
            assert_eq!(is_asked_for(accept), is_asked, "{accept}");
        }
    }
}
