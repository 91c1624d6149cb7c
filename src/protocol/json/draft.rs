//! The record being filled, within its limits.

use bumpalo::Bump;
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::fault::{Excerpt, Fault};
use super::scalar;
use crate::record::limits::{
    ATTRIBUTES_MAX, DIMENSIONS_MAX, LINE_BYTES_MAX, NAME_BYTES_MAX, TABLE_NAME_BYTES_MAX,
    VARCHAR_BYTES_MAX,
};
use crate::record::{Attribute, Dimension, MeasureKind, Reason, Record, Value};

/// Up to this many names are compared one by one, which is quicker than hashing them.
const NAMES_COMPARED_MAX: usize = 16;

/// The record being filled. Used again for the next one.
pub(super) struct Draft<'a> {
    /// Where texts go that had to be unescaped.
    pub(super) arena: &'a Bump,
    pub(super) record: Record<'a>,
    dimension_names: Names<'a>,
    attribute_names: Names<'a>,
}

/// Where a record belongs, as far as it and its request say.
pub(super) struct Address<'a> {
    pub(super) database: Option<&'a str>,
    pub(super) table: Option<&'a str>,
    pub(super) measure_name: Option<&'a str>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(arena: &'a Bump) -> Self {
        Self {
            arena,
            record: Record::default(),
            dimension_names: Names::default(),
            attribute_names: Names::default(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.clear_dimensions();
        self.clear_attributes();
        self.record.kind = MeasureKind::Multi;
    }

    pub(super) fn clear_dimensions(&mut self) {
        self.record.dimensions.clear();
    }

    pub(super) fn clear_attributes(&mut self) {
        self.record.attributes.clear();
    }

    pub(super) fn address(&mut self, address: &Address<'a>) -> Result<(), Fault<'a>> {
        let Address { database, table, measure_name } = *address;
        self.record.database = addressed(database, "database")?;
        self.record.table = addressed(table, "table")?;
        for name in [self.record.database, self.record.table] {
            check_bytes(name, TABLE_NAME_BYTES_MAX, Reason::NameTooLong)?;
        }
        self.record.measure_name = addressed(measure_name, "measure name")?;
        check_name(self.record.measure_name)
    }

    /// Adds a tag as raw JSON; `null` is none.
    #[inline]
    pub(super) fn tag(&mut self, name: &'a str, raw: &'a str) -> Result<(), Fault<'a>> {
        let Some(value) = scalar::text(raw, self.arena)? else { return Ok(()) };
        self.dimension(Dimension { name, value })
    }

    #[inline]
    pub(super) fn dimension(&mut self, dimension: Dimension<'a>) -> Result<(), Fault<'a>> {
        let Dimension { name, value } = dimension;
        check_name(name)?;
        check_bytes(value, NAME_BYTES_MAX, Reason::ValueTooLong)?;
        let dimensions = &mut self.record.dimensions;
        if self.dimension_names.find(name, dimensions, |earlier| earlier.name).is_some() {
            let message = format!("dimension {} stands twice", Excerpt(name));
            return Err(Fault { at: name, reason: Reason::DuplicateDimension, message });
        }
        if dimensions.len() == DIMENSIONS_MAX {
            let message = format!("more than {DIMENSIONS_MAX} dimensions");
            return Err(Fault { at: name, reason: Reason::TooManyDimensions, message });
        }
        dimensions.push(dimension);
        Ok(())
    }

    /// Adds a field as raw JSON; `null` is none.
    #[inline]
    pub(super) fn field(&mut self, name: &'a str, raw: &'a str) -> Result<(), Fault<'a>> {
        let Some(value) = scalar::value(raw, self.arena)? else { return Ok(()) };
        self.attribute(Attribute { name, value })
    }

    /// Adds an attribute, in the place of an earlier one of its name and type.
    #[inline]
    pub(super) fn attribute(&mut self, attribute: Attribute<'a>) -> Result<(), Fault<'a>> {
        let Attribute { name, value } = attribute;
        check_name(name)?;
        check_value(value)?;
        let attributes = &mut self.record.attributes;
        let earlier = self.attribute_names.find(name, attributes, |earlier| earlier.name);
        if let Some(earlier) = earlier.and_then(|place| attributes.get_mut(place)) {
            let (was, is) = (earlier.value.value_type(), value.value_type());
            if was != is {
                let message = format!("{} stands twice, as {was} and as {is}", Excerpt(name));
                return Err(Fault { at: name, reason: Reason::TypeConflict, message });
            }
            *earlier = attribute;
            return Ok(());
        }
        if attributes.len() == ATTRIBUTES_MAX {
            let message = format!("more than {ATTRIBUTES_MAX} attributes");
            return Err(Fault { at: name, reason: Reason::TooManyMeasures, message });
        }
        attributes.push(attribute);
        Ok(())
    }

    /// Makes the record scalar, with this one value.
    pub(super) fn scalar(&mut self, value: Value<'a>) -> Result<(), Fault<'a>> {
        check_value(value)?;
        self.record.kind = MeasureKind::Scalar;
        self.record.attributes.push(Attribute { name: "", value });
        Ok(())
    }

    /// Checks what can be told at the end of a record only; `text` is its extent.
    pub(super) fn complete(
        &mut self,
        text: &'a str,
        default_dimension: Option<(&'a str, &'a str)>,
    ) -> Result<(), Fault<'a>> {
        let fault = |reason, message| Err(Fault { at: "", reason, message });
        if text.len() > LINE_BYTES_MAX {
            let message = format!("{} bytes, at most {LINE_BYTES_MAX} are taken", text.len());
            return fault(Reason::RecordTooLarge, message);
        }
        if self.record.attributes.is_empty() {
            let message = "no field and no measure value (one of null is none: write a number, a truth \
                           value or a text)";
            return fault(Reason::NoMeasure, message.to_owned());
        }
        if !self.record.dimensions.is_empty() {
            return Ok(());
        }
        match default_dimension {
            Some((name, value)) => self.dimension(Dimension { name, value }),
            None => fault(Reason::NoDimension, "no tag and no dimension".to_owned()),
        }
    }
}

fn addressed<'a>(name: Option<&'a str>, part: &'static str) -> Result<&'a str, Fault<'a>> {
    name.filter(|name| !name.is_empty()).ok_or_else(|| {
        let message = format!("neither the record nor its request names a {part}");
        Fault { at: "", reason: Reason::InvalidName, message }
    })
}

#[inline]
fn check_name(name: &str) -> Result<(), Fault<'_>> {
    if name.is_empty() {
        let message = "a name is empty".to_owned();
        return Err(Fault { at: name, reason: Reason::InvalidName, message });
    }
    check_bytes(name, NAME_BYTES_MAX, Reason::NameTooLong)
}

#[inline]
fn check_bytes(text: &str, bytes_max: usize, reason: Reason) -> Result<(), Fault<'_>> {
    if text.len() > bytes_max {
        let message =
            format!("{} has {} bytes, at most {bytes_max} are taken", Excerpt(text), text.len());
        return Err(Fault { at: text, reason, message });
    }
    Ok(())
}

#[inline]
fn check_value(value: Value<'_>) -> Result<(), Fault<'_>> {
    match value {
        Value::Varchar(text) => check_bytes(text, VARCHAR_BYTES_MAX, Reason::ValueTooLong),
        _ => Ok(()),
    }
}

/// Finds names that a record has already. Hashes with a seed, since clients choose them.
#[derive(Default)]
struct Names<'a> {
    /// The places of the names, once they are too many to be compared.
    places: HashMap<&'a str, usize, RandomState>,
}

impl<'a> Names<'a> {
    /// The place of `name` among `earlier`; where it is none of them, it must be appended next.
    #[inline]
    fn find<T>(
        &mut self,
        name: &'a str,
        earlier: &[T],
        name_of: impl Fn(&T) -> &'a str,
    ) -> Option<usize> {
        if earlier.len() < NAMES_COMPARED_MAX {
            return earlier.iter().position(|earlier| is_same(name_of(earlier), name));
        }
        if earlier.len() == NAMES_COMPARED_MAX {
            self.places.clear();
            let names = earlier.iter().map(name_of);
            self.places.extend(names.enumerate().map(|(place, name)| (name, place)));
        }
        match self.places.entry(name) {
            Entry::Occupied(place) => Some(*place.get()),
            Entry::Vacant(free) => {
                free.insert(earlier.len());
                None
            }
        }
    }
}

/// Equality that looks at the last byte first: names of one length mostly differ there, and a call
/// to compare the rest is saved.
#[inline]
fn is_same(a: &str, b: &str) -> bool {
    a.len() == b.len() && a.as_bytes().last() == b.as_bytes().last() && a == b
}
