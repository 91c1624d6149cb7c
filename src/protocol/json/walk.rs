//! Walks over what `serde_json` reads. A closure sees each member or element as raw JSON, which is
//! sound by then; only its meaning is open.

use std::fmt;

use bumpalo::Bump;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;

/// Walks an object's members, or none where `null` stands instead, until the closure refuses one.
pub(super) struct Leaves<'s, 'a, F> {
    /// Where the names that have escapes go.
    pub(super) arena: &'a Bump,
    /// Why the closure refused; the walk's own error is then without meaning.
    pub(super) fault: &'s mut Option<Fault<'a>>,
    /// Sees each name and value.
    pub(super) each: F,
}

/// Walks an array's elements with a closure.
pub(super) struct Items<F>(pub(super) F);

/// Reads a member's name.
pub(super) struct Key<'a>(pub(super) &'a Bump);

impl<'a, F> DeserializeSeed<'a> for Leaves<'_, 'a, F>
where
    F: FnMut(&'a str, &'a str) -> Result<(), Fault<'a>>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_option(self)
    }
}

impl<'a, F> Visitor<'a> for Leaves<'_, 'a, F>
where
    F: FnMut(&'a str, &'a str) -> Result<(), Fault<'a>>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_map(self)
    }

    fn visit_map<M: MapAccess<'a>>(mut self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key_seed(Key(self.arena))? {
            let value: &RawValue = map.next_value()?;
            if let Err(fault) = (self.each)(name, value.get()) {
                *self.fault = Some(fault);
                return Err(M::Error::custom(""));
            }
        }
        Ok(())
    }
}

impl<'a, F: FnMut(&'a str)> DeserializeSeed<'a> for Items<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'a, F: FnMut(&'a str)> Visitor<'a> for Items<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<S: SeqAccess<'a>>(mut self, mut seq: S) -> Result<(), S::Error> {
        while let Some(item) = seq.next_element::<&RawValue>()? {
            (self.0)(item.get());
        }
        Ok(())
    }
}

impl<'a> DeserializeSeed<'a> for Key<'a> {
    type Value = &'a str;

    fn deserialize<D: Deserializer<'a>>(self, reader: D) -> Result<&'a str, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Key<'a> {
    type Value = &'a str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'a str) -> Result<&'a str, E> {
        Ok(name)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<&'a str, E> {
        Ok(self.0.alloc_str(name))
    }
}
