//! Which member of a body a reader's error is about. Readers say line and column, which nobody sees who
//! has an SDK write the body.

use std::fmt::Write as _;

/// Most containers in each other whose members are named; what lies deeper has the name of the deepest.
const DEPTH_MAX: usize = 16;

/// Most characters of a reader's message, which quotes texts in full.
const MESSAGE_CHARS_MAX: usize = 256;

/// A container that is not closed yet.
enum Level<'a> {
    /// An object, and the key whose value is read; with its quotes.
    Object(&'a str),
    /// An array, and the place of the item that is read.
    Array(usize),
}

/// What is wrong with `text` and in which member of it, for a message:
/// `Records.3.Time: invalid type: integer 5, expected a string`. Places in lists count from 0, as
/// `RecordIndex` does.
///
/// Cost: reads the text up to the error once more.
#[cold]
pub fn told(text: &[u8], error: &serde_json::Error) -> String {
    let message: String = error.to_string().chars().take(MESSAGE_CHARS_MAX).collect();
    let whole = std::str::from_utf8(text).ok();
    let before = whole.and_then(|text| text.get(..end_of(text, error)));
    // In JSON that breaks, where it broke says more.
    let path = before.filter(|_| error.is_data()).map(path).unwrap_or_default();
    if path.is_empty() { message } else { format!("{path}: {message}") }
}

/// Where the reader stood: behind a text or number that it refused, before an object or array.
fn end_of(text: &str, error: &serde_json::Error) -> usize {
    let lines = error.line().saturating_sub(1);
    let begin: usize = text.split_inclusive('\n').take(lines).map(str::len).sum();
    begin.saturating_add(error.column()).min(text.len())
}

/// The path of the value at whose end, or before which, `before` ends.
fn path(before: &str) -> String {
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut deeper = 0_usize;
    let (mut text_begin, mut is_escaped) = (None, false);
    for (at, byte) in before.bytes().enumerate() {
        if let Some(begin) = text_begin {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => {
                    text_begin = None;
                    // A key, or a value; of the two only a key finds its place empty.
                    if let Some(Level::Object(key @ "")) = levels.last_mut().filter(|_| deeper == 0)
                    {
                        *key = before.get(begin..=at).unwrap_or_default();
                    }
                }
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => text_begin = Some(at),
            b'{' | b'[' if levels.len() == DEPTH_MAX => deeper = deeper.saturating_add(1),
            b'{' => levels.push(Level::Object("")),
            b'[' => levels.push(Level::Array(0)),
            b'}' | b']' if deeper > 0 => deeper = deeper.saturating_sub(1),
            b'}' | b']' => drop(levels.pop()),
            b',' if deeper == 0 => match levels.last_mut() {
                Some(Level::Object(key)) => *key = "",
                Some(Level::Array(place)) => *place = place.saturating_add(1),
                None => {}
            },
            _ => {}
        }
    }
    shown(&levels)
}

fn shown(levels: &[Level<'_>]) -> String {
    let mut path = String::new();
    for level in levels {
        let separator = if path.is_empty() { "" } else { "." };
        match level {
            Level::Object("") => Ok(()),
            Level::Object(key) => write!(path, "{separator}{}", key.trim_matches('"')),
            Level::Array(place) => write!(path, "{separator}{place}"),
        }
        .expect("a String takes all");
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "Name")]
        _name: Option<String>,
        #[serde(rename = "Count")]
        _count: Option<i64>,
    }

    type Outer = BTreeMap<String, Vec<Inner>>;

    #[test]
    fn the_member_of_a_wrong_type_is_named_whatever_stands_around_it() {
        for (text, expected) in [
            (r#"{"a":[{"Name":5}]}"#, "a.0.Name: invalid type: integer `5`, expected a string"),
            ("{\"a\":[{},\n {\"Name\":[1]}]}", "a.1.Name: invalid type: sequence, expected a"),
            (r#"{"a":[{"Name":{"Count":1}}]}"#, "a.0.Name: invalid type: map, expected a string"),
            (r#"{"a":[{"Count":1.5}]}"#, "a.0.Count: invalid type: floating point `1.5`"),
            (r#"{"a":[{"Count":"é,\"]}"}]}"#, "a.0.Count: invalid type: string"),
            (r#"{"a":[{"x":[{"y":1}],"Name":true}]}"#, "a.0.Name: invalid type: boolean `true`"),
            (r#"{"a":[{"Name":"n","Count":false}]}"#, "a.0.Count: invalid type: boolean"),
            (r#"{"a":[],"b":{}}"#, "b: invalid type: map, expected a sequence"),
            (r#"{"a":[{},7]}"#, "a.1: invalid type: integer `7`"),
            ("[]", "invalid type: sequence, expected a map"),
        ] {
            let error = serde_json::from_str::<Outer>(text).unwrap_err();
            let found = told(text.as_bytes(), &error);
            assert!(found.starts_with(expected), "{text}: {found}");
        }
    }

    #[test]
    fn what_breaks_as_json_is_told_by_its_place() {
        let text = r#"{"a":[{"Name":}]}"#;
        let error = serde_json::from_str::<Outer>(text).unwrap_err();
        assert_eq!(told(text.as_bytes(), &error), "expected value at line 1 column 15");
    }

    #[test]
    fn neither_depth_nor_length_makes_a_message_long() {
        let deep = format!(r#"{{"a":[{{"x":{}{},"Name":1}}]}}"#, "[".repeat(90), "]".repeat(90));
        let error = serde_json::from_str::<Outer>(&deep).unwrap_err();
        assert!(told(deep.as_bytes(), &error).starts_with("a.0.Name: "));
        let long = format!(r#"{{"a":[{{"Count":"{}"}}]}}"#, "é".repeat(9000));
        let error = serde_json::from_str::<Outer>(&long).unwrap_err();
        let found = told(long.as_bytes(), &error);
        assert!(found.starts_with("a.0.Count: ") && found.chars().count() < 300, "{found}");
    }
}
