//! A JSON object whose members stand in it once: of two of one name one would be passed over in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// The members of an object by their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Members(BTreeMap<String, Json>);

impl Deref for Members {
    type Target = BTreeMap<String, Json>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

struct Once;

impl<'de> Visitor<'de> for Once {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = BTreeMap::new();
        while let Some((name, value)) = map.next_entry::<String, Json>()? {
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("{name:?} stands twice in one object")));
            }
            members.insert(name, value);
        }
        Ok(Members(members))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_stands_twice_is_refused_by_its_name() {
        let read = |text: &str| serde_json::from_str::<Option<Members>>(text);
        assert_eq!(read("null").unwrap(), None);
        assert_eq!(read(r#"{"a":1,"b":2}"#).unwrap().unwrap().len(), 2);
        let twice = read(r#"{"a":1,"b":2,"a":1}"#).unwrap_err().to_string();
        assert!(twice.contains("\"a\" stands twice"), "{twice}");
    }
}
