//! Every documented key with a value of every type that TOML has, from a file and from the environment. What
//! is refused says of which key, what was found, and what would be right.

use toml::Value;

use super::table::{CASES, TEXTS, at};
use super::{Config, from_text, load};

/// A value of each type, as a file has it.
const VALUES: [&str; 13] = [
    "7",
    "-7",
    "1.5",
    "inf",
    "true",
    "2026-01-31",
    "[]",
    "[7]",
    "[\"x\"]",
    "{}",
    "{ a = 1 }",
    "\"\"",
    "\"nonsense\"",
];

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Flag,
    List,
    /// Any text.
    Text,
    /// A size, a time, an address, or one of a few words.
    Form,
}

fn kind_of(key: &str) -> Kind {
    let path: Vec<&str> = key.split('.').collect();
    match at(&Config::default(), &path) {
        Value::Integer(_) => Kind::Number,
        Value::Boolean(_) => Kind::Flag,
        Value::Array(_) => Kind::List,
        Value::String(_) if TEXTS.contains(&key) => Kind::Text,
        Value::String(_) => Kind::Form,
        other => unreachable!("{key} is {other}"),
    }
}

/// Whether the value may be one of the key, by its type alone. Whether it is in range is told elsewhere.
fn fits(kind: Kind, value: &Value) -> bool {
    match (kind, value) {
        // A size is a count of bytes, too.
        (Kind::Number | Kind::Form, Value::Integer(number)) => *number >= 0,
        (Kind::Flag, Value::Boolean(_)) | (Kind::Text, Value::String(_) | Value::Datetime(_)) => {
            true
        }
        (Kind::List, Value::Array(list)) => list.iter().all(Value::is_str),
        _ => false,
    }
}

/// What is missing in what is said of a value.
fn missing(said: &str, key: &str, value: &Value) -> Vec<String> {
    let is_hidden = said.contains("it may hold a secret, so it is not shown");
    let found = value.to_string();
    // Of a list one part may be wrong, and it is that which is shown.
    let part = value.as_array().and_then(|list| list.first()).map(Value::to_string);
    let is_shown = said.contains(&found) || part.is_some_and(|part| said.contains(&part));
    let mut missing = Vec::new();
    for (what, is_there) in [
        (key, said.contains(key)),
        ("what was found", is_shown || is_hidden),
        ("what would be right", said.contains("write ")),
        (
            "the words of people",
            !["struct", "variant", "expected", "usize"].iter().any(|word| said.contains(word)),
        ),
    ] {
        if !is_there {
            missing.push(what.to_owned());
        }
    }
    missing
}

#[test]
fn a_value_of_another_type_is_told_with_its_key_and_what_would_be_right() {
    let mut faults = Vec::new();
    for (key, _) in CASES {
        for text in VALUES {
            let value = toml::from_str::<toml::Table>(&format!("v = {text}")).unwrap()["v"].clone();
            match from_text(&format!("{key} = {text}\n")) {
                Ok(_) if fits(kind_of(key), &value) => {}
                Ok(_) => faults.push(format!("{key} = {text} is taken")),
                Err(error) => {
                    let said = error.to_string();
                    let missing = missing(&said, key, &value);
                    if !missing.is_empty() {
                        faults.push(format!("{key} = {text}: no {missing:?} in {said:?}"));
                    }
                }
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_variable_of_another_type_is_told_with_its_name_and_what_would_be_right() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut faults = Vec::new();
    for (key, _) in CASES {
        let name = format!("TIDEGATE_{}", key.replace('.', "__").to_ascii_uppercase());
        // As a shell has them: a text has no quotation marks there.
        for text in VALUES.map(|text| text.trim_matches('"')) {
            let kind = kind_of(key);
            let value = toml::from_str::<toml::Table>(&format!("v = {text}"));
            let value = value.map_or_else(|_| Value::from(text), |table| table["v"].clone());
            let variable = [(name.clone(), text.to_owned())].into_iter();
            let Err(error) = load(Some(file.path()), variable, &[]) else {
                if kind != Kind::Text && !fits(kind, &value) {
                    faults.push(format!("{name}={text} is taken"));
                }
                continue;
            };
            let said = error.to_string();
            // What is for a text is one, whatever it looks like.
            let found = if said.contains(&format!("{text:?}")) { Value::from(text) } else { value };
            let missing = missing(&said, key, &found);
            if !said.starts_with(&name) || !missing.is_empty() {
                faults.push(format!("{name}={text}: no {missing:?} in {said:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn a_key_that_is_taken_for_a_section_is_told_to_be_none() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, key) in [
        ("TIDEGATE_WAL__DIR__X", "wal.dir"),
        ("TIDEGATE_DATA_DIR__X", "data_dir"),
        ("TIDEGATE_AUTH__TOKENS__NAME", "auth.tokens"),
    ] {
        let variable = [(name.to_owned(), "1".to_owned())].into_iter();
        let said = load(Some(file.path()), variable, &[]).unwrap_err().to_string();
        let right = format!("{key} is a key and no section");
        assert!(said.starts_with(name) && said.contains(&right), "{said}");
    }
}
