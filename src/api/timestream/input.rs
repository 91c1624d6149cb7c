//! The bodies of the operations on the catalog: read, and held against the constraints of the model.

use std::ops::RangeInclusive;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::exception::{Code, Exception};
use crate::engine::catalog::Tags;
use crate::protocol::timestream::coral::{NAME_PATTERN, Violations};
use crate::protocol::timestream::member;
use crate::protocol::timestream::object::{List, Object};
use crate::record::limits::{
    TABLE_NAME_BYTES_MAX, TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_PER_RESOURCE_MAX,
};

/// Fewest bytes of a name. Source: `CloudFormation`, `AWS::Timestream::Table`, `TableName`.
const NAME_BYTES_MIN: i64 = 3;

/// Most bytes of a name.
const NAME_BYTES_MAX: i64 = 256;

const _: () = assert!(NAME_BYTES_MAX == 256 && TABLE_NAME_BYTES_MAX == 256);

/// Most tags in a request.
const TAGS_MAX: i64 = 200;

const _: () = assert!(TAGS_MAX == 200 && TAGS_PER_RESOURCE_MAX == 200);

const TAG_KEY_MAX: i64 = 128;
const TAG_VALUE_MAX: i64 = 256;

const _: () = assert!(TAG_KEY_MAX == 128 && TAG_KEY_CHARS_MAX == 128);
const _: () = assert!(TAG_VALUE_MAX == 256 && TAG_VALUE_CHARS_MAX == 256);

/// A tag.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Tag {
    key: Option<String>,
    value: Option<String>,
}

/// The tags of a request.
pub type TagList = List<Object<Tag>, TAGS_PER_RESOURCE_MAX>;

/// The keys of tags of a request.
pub type TagKeyList = List<String, TAGS_PER_RESOURCE_MAX>;

/// Reads a body; an empty one is an object without members.
///
/// # Errors
///
/// [`Exception`] 400 where it is not the JSON of a `T`.
pub fn read<T: DeserializeOwned + Default>(body: &Bytes) -> Result<T, Exception> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let read = serde_json::from_slice::<Object<T>>(body);
    read.map(|Object(input)| input).map_err(|error| {
        let told = member::told(body, &error);
        Exception::new(Code::Serialization, format!("the body is not what is expected: {told}"))
    })
}

/// The violations of one request.
#[derive(Debug, Default)]
pub struct Checks(Violations);

impl Checks {
    /// A text that must be there; an empty one where it is not.
    pub fn required(&mut self, path: &str, text: Option<String>) -> String {
        text.unwrap_or_else(|| {
            self.0.required(path);
            String::new()
        })
    }

    /// A member that must be there.
    pub fn missing(&mut self, path: &str) {
        self.0.required(path);
    }

    /// The name of something that is to be made.
    pub fn new_name(&mut self, path: &str, name: Option<String>) -> String {
        if name.is_none() {
            return self.required(path, name);
        }
        let name = name.unwrap_or_default();
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if name.is_empty() || !name.bytes().all(is_allowed) {
            self.0.no_match(path, &name, NAME_PATTERN);
        }
        let bytes = i64::try_from(name.len()).unwrap_or(i64::MAX);
        self.0.range(path, bytes, &(NAME_BYTES_MIN..=NAME_BYTES_MAX), Some(&name));
        name
    }

    /// A number.
    pub fn range(&mut self, path: &str, found: i64, range: &RangeInclusive<i64>) {
        self.0.range(path, found, range, None);
    }

    /// A text's length.
    pub fn length(&mut self, path: &str, text: &str, range: &RangeInclusive<i64>) {
        self.0.length(path, text, range);
    }

    /// A text that does not have the form that it must have.
    pub fn no_match(&mut self, path: &str, text: &str, pattern: &str) {
        self.0.no_match(path, text, pattern);
    }

    /// A text that is none of a list's.
    pub fn not_in(&mut self, path: &str, value: &str, all: &[&str]) {
        self.0.not_in(path, value, all);
    }

    /// A list's length.
    pub fn count(&mut self, path: &str, what: &str, found: usize, range: &RangeInclusive<i64>) {
        let found = i64::try_from(found).unwrap_or(i64::MAX);
        self.0.range(path, found, range, Some(&format!("[{found} {what}]")));
    }

    /// A list of tags.
    pub fn tags(&mut self, list: TagList) -> Tags {
        self.count("tags", "tags", list.count, &(0..=TAGS_MAX));
        let mut tags = Tags::new();
        for (at, Object(tag)) in list.items.into_iter().enumerate() {
            let at = format!("tags.{}.member", at + 1);
            let (key_at, value_at) = (format!("{at}.key"), format!("{at}.value"));
            match tag.key {
                None => self.0.required(&key_at),
                Some(ref key) => self.0.length(&key_at, key, &(1..=TAG_KEY_MAX)),
            }
            match tag.value {
                None => self.0.required(&value_at),
                Some(ref value) => self.0.length(&value_at, value, &(0..=TAG_VALUE_MAX)),
            }
            tags.insert(tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        }
        tags
    }

    /// A list of the keys of tags.
    pub fn tag_keys(&mut self, keys: &TagKeyList) {
        self.count("tagKeys", "keys", keys.count, &(0..=TAGS_MAX));
        for (at, key) in keys.items.iter().enumerate() {
            self.0.length(format!("tagKeys.{}.member", at + 1), key, &(1..=TAG_KEY_MAX));
        }
    }

    /// Ends the checks.
    ///
    /// # Errors
    ///
    /// [`Exception`] 400 names every violation.
    pub fn finish(self) -> Result<(), Exception> {
        self.0.finish().map_err(Exception::invalid)
    }
}
