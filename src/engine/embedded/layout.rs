//! The layouts of a store: as payloads encode them, and as columns.

use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::catalog::Table;
use crate::record::codec::{CodecError, Layout, RecordView};
use crate::record::request::{Attributes, Rejection};
use crate::record::{MeasureKind, Value, ValueType};

use super::store::{MAP_ENTRY_BYTES, index};

/// Kind, names and types of a row's attributes, sorted by name, each name once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) kind: MeasureKind,
    pub(super) attributes: Vec<(Box<str>, ValueType)>,
}

impl Shape {
    fn hash(kind: MeasureKind, attributes: &[(&str, ValueType)]) -> u64 {
        let mut bytes = vec![u8::from(kind == MeasureKind::Multi)];
        for (name, value_type) in attributes {
            bytes.push(value_type.number());
            crate::record::varint::put_bytes(&mut bytes, name.as_bytes());
        }
        xxh3_64(&bytes)
    }

    pub(super) fn borrowed(&self) -> Vec<(&str, ValueType)> {
        self.attributes.iter().map(|(name, value_type)| (&**name, *value_type)).collect()
    }

    fn is(&self, kind: MeasureKind, attributes: &[(&str, ValueType)]) -> bool {
        self.kind == kind
            && self.attributes.len() == attributes.len()
            && self.attributes.iter().zip(attributes).all(|(a, b)| *a.0 == *b.0 && a.1 == b.1)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self
                .attributes
                .iter()
                .map(|(name, _)| size_of::<(Box<str>, ValueType)>() + name.len())
                .sum::<usize>()
    }
}

/// A layout as payloads encode it, and what it means here.
#[derive(Debug)]
struct Wire {
    bytes: Box<[u8]>,
    target: WireTarget,
}

/// What a layout of a payload means.
#[derive(Debug)]
pub(super) enum WireTarget {
    /// `columns[i]` is the column of the payload's i-th value.
    Columns { layout: u32, columns: Box<[u32]> },
    /// It names an attribute twice: its rows are taken apart and put together.
    Repeats,
    /// It does not fit its table.
    Refused(Box<Rejection>),
}

/// A layout's place in a store, as [`TableStore::wire`] finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WireId(u32);

/// The layouts of a store.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    shapes: Vec<Arc<Shape>>,
    shapes_by_hash: HashTable<u32>,
    wires: Vec<Wire>,
    wires_by_hash: HashTable<u32>,
    /// The wire that was asked for last: records of one layout come in runs.
    wire_hint: usize,
    /// Bytes of memory that they take.
    bytes: usize,
}

impl Layouts {
    /// Bytes of memory that they take.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The layouts as columns, by their places.
    pub(super) fn shapes(&self) -> &[Arc<Shape>] {
        &self.shapes
    }

    /// What records of this layout become.
    #[inline]
    pub(super) fn target(&self, wire: WireId) -> &WireTarget {
        &self.wires[wire.0 as usize].target
    }

    /// What the payload's layout means here; a layout that is new claims its columns of `table`.
    #[inline]
    pub(super) fn wire(&mut self, layout: &Layout<'_>, table: &Table) -> WireId {
        let hint = self.wire_hint;
        if self.wires.get(hint).is_some_and(|wire| *wire.bytes == *layout.bytes) {
            return WireId(index(hint));
        }
        self.find_wire(layout, table)
    }

    fn find_wire(&mut self, layout: &Layout<'_>, table: &Table) -> WireId {
        let hash = xxh3_64(layout.bytes);
        let wires = &self.wires;
        let found = self.wires_by_hash.find(hash, |&at| *wires[at as usize].bytes == *layout.bytes);
        let at = if let Some(&at) = found {
            at
        } else {
            let target = self.wire_target(layout, table);
            let at = index(self.wires.len());
            self.bytes +=
                layout.bytes.len() + size_of::<Wire>() + layout.attributes * 4 + MAP_ENTRY_BYTES;
            self.wires.push(Wire { bytes: layout.bytes.into(), target });
            let wires = &self.wires;
            self.wires_by_hash.insert_unique(hash, at, |&at| xxh3_64(&wires[at as usize].bytes));
            at
        };
        self.wire_hint = at as usize;
        WireId(at)
    }

    fn wire_target(&mut self, layout: &Layout<'_>, table: &Table) -> WireTarget {
        if let Err(error) = table.claim(layout) {
            let (reason, message) = (error.reason(), error.to_string());
            return WireTarget::Refused(Box::new(Rejection {
                reason,
                message,
                existing_version: None,
                stood: Vec::new(),
            }));
        }
        let mut sorted: Vec<(&str, ValueType, u32)> = layout
            .entries()
            .enumerate()
            .map(|(at, (value_type, name))| (name, value_type, index(at)))
            .collect();
        sorted.sort_unstable_by_key(|entry| (entry.0, entry.2));
        if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return WireTarget::Repeats;
        }
        let attributes: Vec<_> = sorted.iter().map(|&(name, t, _)| (name, t)).collect();
        let layout = self.shape(layout.kind, &attributes);
        let mut columns = vec![0; sorted.len()].into_boxed_slice();
        for (column, entry) in sorted.iter().enumerate() {
            columns[entry.2 as usize] = index(column);
        }
        WireTarget::Columns { layout, columns }
    }

    /// The layout's place; `attributes` are sorted by name, each name once.
    pub(super) fn shape(&mut self, kind: MeasureKind, attributes: &[(&str, ValueType)]) -> u32 {
        let hash = Shape::hash(kind, attributes);
        let shapes = &self.shapes;
        if let Some(&at) =
            self.shapes_by_hash.find(hash, |&at| shapes[at as usize].is(kind, attributes))
        {
            return at;
        }
        let at = index(self.shapes.len());
        let owned = attributes.iter().map(|&(name, t)| (name.into(), t)).collect();
        let shape = Shape { kind, attributes: owned };
        self.bytes += shape.bytes() + MAP_ENTRY_BYTES;
        self.shapes.push(Arc::new(shape));
        let shapes = &self.shapes;
        self.shapes_by_hash.insert_unique(hash, at, |&at| {
            Shape::hash(shapes[at as usize].kind, &shapes[at as usize].borrowed())
        });
        at
    }
}

/// The record's attributes, sorted by name; `target` is what its layout means. Of an attribute that
/// is named twice the later value counts, as of a field in line protocol.
pub(super) fn attributes_of<'a>(
    view: &RecordView<'a>,
    target: &WireTarget,
) -> Result<Attributes<'a>, CodecError> {
    let WireTarget::Columns { columns, .. } = target else { return sorted_attributes_of(view) };
    let mut attributes: Attributes<'a> = vec![("", Value::Boolean(false)); columns.len()];
    let mut count = 0;
    for (((_, name), value), &column) in view.layout.entries().zip(view.values()).zip(columns) {
        attributes[column as usize] = (name, value?);
        count += 1;
    }
    if count == columns.len() {
        Ok(attributes)
    } else {
        Err(CodecError::Malformed { part: "attributes" })
    }
}

/// The same for a layout whose order is not known.
fn sorted_attributes_of<'a>(view: &RecordView<'a>) -> Result<Attributes<'a>, CodecError> {
    let mut attributes: Attributes<'a> = Vec::with_capacity(view.layout.attributes);
    for ((_, name), value) in view.layout.entries().zip(view.values()) {
        attributes.push((name, value?));
    }
    if attributes.len() != view.layout.attributes {
        return Err(CodecError::Malformed { part: "attributes" });
    }
    attributes.sort_by_key(|attribute| attribute.0);
    // Reversed, so that the later of two equal names is the one that stays.
    attributes.reverse();
    attributes.dedup_by_key(|attribute| attribute.0);
    attributes.reverse();
    Ok(attributes)
}
