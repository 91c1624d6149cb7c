//! Structures that are objects only, since what serde derives takes an array of their members as well;
//! and lists that keep no more than may be in them, since an item can take forty times its bytes in JSON.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A `T` that was written as an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(Only(PhantomData))
    }
}

/// For a member that may be missing: it is an object, or null.
///
/// # Errors
///
/// The reader's, for anything else.
pub fn option<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    reader: D,
) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(reader)?.map(|Object(inner)| inner))
}

/// For a member that is a list of objects.
///
/// # Errors
///
/// The reader's, for anything else.
pub fn all<'de, T: Deserialize<'de>, D: Deserializer<'de>>(reader: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::<Object<T>>::deserialize(reader)?;
    Ok(all.into_iter().map(|Object(inner)| inner).collect())
}

struct Only<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// A list of which the first `MAX` items are kept, and all are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<T, const MAX: usize> {
    /// The first items.
    pub items: Vec<T>,
    /// How many there were.
    pub count: usize,
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self { items: Vec::new(), count: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_seq(Counted(PhantomData))
    }
}

struct Counted<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Counted<T, MAX> {
    type Value = List<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut list = List::default();
        while list.count < MAX
            && let Some(item) = seq.next_element()?
        {
            list.items.push(item);
            list.count = list.items.len();
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            list.count = list.count.saturating_add(1);
        }
        Ok(list)
    }
}
