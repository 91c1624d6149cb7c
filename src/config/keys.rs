//! The keys that there are, and what is wrong with those of a file: unknown ones, and values of another
//! type. All of them at once, each with its line; a key is always named, a value that may be a secret
//! never.

use std::ops::Range;

use serde::Deserialize;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, words};
use crate::base::near::nearest;
use crate::http::auth::{AccessKey, Secret, Token, User};

/// Every key with a value of its type; lists of sections have one.
pub(super) struct Keys(Table);

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// From the section down.
    pub(super) path: Vec<String>,
    /// What was found, and what would be right.
    pub(super) what: String,
    /// Where the key stands in its text.
    pub(super) at: Range<usize>,
}

/// A place in a file, in both forms in which it was read: one knows where it stands.
struct Place<'a, 'i> {
    spanned: &'a DeTable<'i>,
    values: &'a Table,
}

impl Keys {
    /// The keys of [`Config`].
    pub(super) fn new() -> Self {
        let of = |all: Result<Table, toml::ser::Error>| all.expect("settings are a table of TOML");
        let (file, secret) = (Some("f".into()), Some(Secret::new(String::new())));
        let mut config = Config::default();
        config.auth.tokens =
            vec![Token { token: secret.clone(), token_file: file.clone(), ..Token::default() }];
        config.auth.users =
            vec![User { password: secret.clone(), password_file: file.clone(), ..User::default() }];
        config.auth.access_keys =
            vec![AccessKey { secret, secret_file: file, ..AccessKey::default() }];
        Self(of(Table::try_from(config)))
    }

    /// What is wrong in a file, whose text is given in both forms.
    pub(super) fn of_file(&self, spanned: &DeTable<'_>, values: &Table) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        self.section(&Place { spanned, values }, (&self.0, &mut Vec::new()), &mut wrong);
        wrong.sort_by_key(|one| one.at.start);
        wrong
    }

    fn section(
        &self,
        place: &Place<'_, '_>,
        (keys, path): (&Table, &mut Vec<String>),
        all: &mut Vec<Wrong>,
    ) {
        for (key, value) in place.spanned {
            let Some(plain) = place.values.get(key.get_ref().as_ref()) else { continue };
            path.push(key.get_ref().to_string());
            let mut wrong = |what| all.push(Wrong { path: path.clone(), what, at: key.span() });
            match (keys.get(key.get_ref().as_ref()), value.get_ref(), plain) {
                (None, ..) => wrong(self.unknown(path)),
                (Some(Value::Table(keys)), DeValue::Table(spanned), Value::Table(values)) => {
                    self.section(&Place { spanned, values }, (keys, path), all);
                }
                (Some(Value::Array(form)), DeValue::Array(spanned), Value::Array(values))
                    if form.first().is_some_and(Value::is_table) =>
                {
                    for (spanned, values) in spanned.iter().zip(values) {
                        let known = form.first().and_then(Value::as_table);
                        if let (Some(keys), DeValue::Table(spanned), Value::Table(values)) =
                            (known, spanned.get_ref(), values)
                        {
                            self.section_of_list(&Place { spanned, values }, (keys, path), all);
                        }
                    }
                    // Unknown keys in it were told one by one.
                    if !all.iter().any(|one| one.path.starts_with(path)) {
                        all.extend(mistyped(path, plain).map(|what| Wrong {
                            path: path.clone(),
                            what,
                            at: key.span(),
                        }));
                    }
                }
                (Some(_), _, plain) => {
                    if let Some(what) = mistyped(path, plain) {
                        wrong(what);
                    }
                }
            }
            path.pop();
        }
    }

    /// Looks for unknown keys only: whether a part of a list is of its type shows when all of it is read.
    fn section_of_list(
        &self,
        place: &Place<'_, '_>,
        (keys, path): (&Table, &mut Vec<String>),
        all: &mut Vec<Wrong>,
    ) {
        for (key, _) in place.spanned {
            if !keys.contains_key(key.get_ref().as_ref()) {
                path.push(key.get_ref().to_string());
                let what = self.unknown(path);
                all.push(Wrong { path: path.clone(), what, at: key.span() });
                path.pop();
            }
        }
    }

    /// What is wrong with one key from elsewhere.
    pub(super) fn of_one(&self, path: &[String], value: &Value) -> Option<String> {
        let mut known = &self.0;
        let (last, sections) = path.split_last()?;
        for (depth, section) in sections.iter().enumerate() {
            match known.get(section) {
                Some(Value::Table(inner)) => known = inner,
                Some(_) => {
                    let key = path[..=depth].join(".");
                    return Some(format!(
                        "{key} is a key and no section: write its value to {key}"
                    ));
                }
                None => return Some(self.unknown(&path[..=depth])),
            }
        }
        if known.contains_key(last) { mistyped(path, value) } else { Some(self.unknown(path)) }
    }

    /// Whether there is a setting of this name.
    pub(super) fn has(&self, path: &[String]) -> bool {
        self.at(path).is_some()
    }

    /// What a text from elsewhere is for a key: for one that holds a text, that very text, whatever it
    /// looks like. One in quotation marks, which Docker hands on from its files, what cannot be that text, and
    /// what is for a key of another type is read as TOML.
    pub(super) fn value_of(&self, path: &[String], text: &str) -> Value {
        let as_text = Value::String(text.to_owned());
        let holds_text = self.at(path).is_some_and(Value::is_str);
        let is_quoted = ['"', '\'']
            .iter()
            .any(|&mark| text.strip_prefix(mark).is_some_and(|rest| rest.ends_with(mark)));
        if holds_text && !is_quoted && mistyped(path, &as_text).is_none() {
            return as_text;
        }
        let as_toml = toml::from_str::<Table>(&format!("value = {text}"))
            .ok()
            .filter(|table| table.len() == 1)
            .and_then(|mut table| table.remove("value"));
        let as_toml = as_toml.filter(|value| !holds_text || mistyped(path, value).is_none());
        as_toml.unwrap_or(as_text)
    }

    fn at(&self, path: &[String]) -> Option<&Value> {
        let (last, sections) = path.split_last()?;
        let mut known = &self.0;
        for section in sections {
            known = inside(known.get(section)?)?;
        }
        known.get(last)
    }

    /// That there is no such key, and which may have been meant.
    fn unknown(&self, path: &[String]) -> String {
        let (last, sections) = path.split_last().expect("a key has a name");
        let beside = match sections {
            [] => Some(&self.0),
            sections => self.at(sections).and_then(inside),
        };
        let beside: Vec<&String> = beside.into_iter().flat_map(Table::keys).collect();
        let what = if sections.is_empty() {
            format!("there is no section or key {last:?}")
        } else {
            format!("there is no key {last:?} in [{}]", sections.join("."))
        };
        if let Some(known) = nearest(last, beside.iter().map(|known| known.as_str())) {
            return format!("{what}; did you mean {known}?");
        }
        let elsewhere = elsewhere(&self.0, last, &mut Vec::new());
        if let Some(found) = elsewhere.first() {
            return format!("{what}; did you mean {found}?");
        }
        let all: Vec<&str> = beside.iter().map(|known| known.as_str()).collect();
        format!("{what}; there are {}", all.join(", "))
    }
}

/// The keys of a section, or of a part of a list.
fn inside(value: &Value) -> Option<&Table> {
    match value {
        Value::Table(table) => Some(table),
        Value::Array(list) => list.first().and_then(Value::as_table),
        _ => None,
    }
}

/// Where else a key of this name stands.
fn elsewhere(keys: &Table, name: &str, path: &mut Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in keys {
        path.push(key.clone());
        if key == name && path.len() > 1 {
            found.push(path.join("."));
        }
        if let Value::Table(inner) = value {
            found.extend(elsewhere(inner, name, path));
        }
        path.pop();
    }
    found
}

/// What is wrong with a value that cannot be read, if it cannot.
fn mistyped(path: &[String], value: &Value) -> Option<String> {
    // A list would be read as the values of a section's keys, and one without any be taken.
    let is_section = !value.is_table() && refusal(path, Value::Table(Table::new())).is_none();
    let error = refusal(path, if is_section { Value::Boolean(false) } else { value.clone() })?;
    let key = path.join(".");
    if may_be_secret(path) {
        // Of a list of sections it is a part that is wrong, and nobody says which.
        let is_of_sections = value.is_array() && refusal(path, Value::Array(Vec::new())).is_none();
        let wanted = match words::wanted(&error) {
            _ if is_of_sections => format!(": write each part as [[{key}]] and its keys below"),
            Some(wanted) => format!(": write {wanted}"),
            None => String::new(),
        };
        return Some(format!(
            "{key}: its value is of another type{wanted}; it may hold a secret, so it is not shown"
        ));
    }
    // Of what is no text the reader says only that it is none; a text that is no word is told the words.
    let of_word = refusal(path, Value::String(String::new()));
    let of_word = of_word.filter(|message| message.starts_with(words::NO_SUCH_WORD));
    let right = words::right(of_word.as_ref().unwrap_or(&error));
    // The one level of durability that a request asks for, and no setting has.
    let is_of_requests = key == "wal.durability" && value.as_str() == Some("applied");
    let hint = if is_of_requests {
        "; a request asks for \"applied\" itself, by its header X-Tidegate-Durability"
    } else {
        ""
    };
    Some(format!("{key} = {value}: {right}{hint}"))
}

/// What the reader of TOML says of one value where it cannot be read.
fn refusal(path: &[String], mut value: Value) -> Option<String> {
    for name in path.iter().rev() {
        value = Value::Table(Table::from_iter([(name.clone(), value)]));
    }
    Config::deserialize(value).err().map(|error| error.message().to_owned())
}

/// Whether what stands there is not to be shown.
fn may_be_secret(path: &[String]) -> bool {
    let of_auth = path.first().is_some_and(|section| section == "auth");
    of_auth || path.last().is_some_and(|key| key.contains("secret") || key.contains("password"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let spanned = DeTable::parse(text).unwrap();
        let values: Table = toml::from_str(text).unwrap();
        let wrong = Keys::new().of_file(spanned.get_ref(), &values);
        wrong.into_iter().map(|one| one.what).collect()
    }

    #[test]
    fn what_was_meant_is_suggested() {
        for (text, what) in [
            (
                "[wal]\nsegmnt_bytes = 1",
                "no key \"segmnt_bytes\" in [wal]; did you mean segment_bytes?",
            ),
            ("[metric]\nx = 1", "no section or key \"metric\"; did you mean metrics?"),
            ("durability = \"sync\"", "did you mean wal.durability?"),
            ("[server.tsl]\ncert_file = \"a\"", "no key \"tsl\" in [server]; did you mean tls?"),
            (
                "[[auth.tokens]]\nname = \"a\"\ntokn = \"b\"",
                "in [auth.tokens]; did you mean token?",
            ),
            ("[shards]\nzzzzzzzz = 1", "there are count"),
        ] {
            let told = told(text);
            assert!(told.len() == 1 && told[0].contains(what), "{text}: {told:?}");
        }
    }

    #[test]
    fn everything_is_told_at_once_and_nothing_that_is_right() {
        let text =
            "x = 1\n[wal]\nbytes_max = \"2 gigs\"\ny = 2\n[log]\nlevel = 3\n[shards]\ncount = 1\n";
        assert_eq!(told(text).len(), 4, "{:?}", told(text));
        assert_eq!(told(include_str!("../../config.toml")), Vec::<String>::new());
    }
}
