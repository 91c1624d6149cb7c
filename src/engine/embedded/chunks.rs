//! The chunks of a store: open ones, one a layout, and sealed ones.

use std::sync::Arc;

use super::column::{CHUNKS_MAX, Chunk};
use super::layout::Shape;
use super::store::index;

/// A place that stands for none.
const NONE: u32 = u32::MAX;

/// A chunk that rows are appended to, or one that never changes again.
#[derive(Debug)]
enum Slot {
    /// Rows are appended.
    Open(Box<Chunk>),
    /// It never changes again.
    Sealed(Arc<Chunk>),
}

impl Slot {
    #[inline]
    fn chunk(&self) -> &Chunk {
        match self {
            Self::Open(chunk) => chunk,
            Self::Sealed(chunk) => chunk,
        }
    }

    /// The chunk, if rows are appended to it.
    #[inline]
    fn open(&mut self) -> Option<&mut Chunk> {
        match self {
            Self::Open(chunk) => Some(chunk),
            Self::Sealed(_) => None,
        }
    }

    /// Seals an open chunk.
    fn seal(&mut self) {
        if let Self::Open(chunk) = self {
            let layout = chunk.layout;
            let chunk = std::mem::replace(&mut **chunk, Chunk::empty(layout));
            *self = Self::Sealed(Arc::new(chunk));
        }
    }

    /// The chunk as it stands: shared if it is sealed, copied if not.
    fn snapshot(&self) -> Arc<Chunk> {
        match self {
            Self::Open(chunk) => Arc::new((**chunk).clone()),
            Self::Sealed(chunk) => Arc::clone(chunk),
        }
    }
}

/// The chunks of a store, by their places.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    slots: Vec<Slot>,
    /// The open chunk of each layout, or [`NONE`].
    open: Vec<u32>,
}

impl Chunks {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.slots.iter().map(Slot::chunk)
    }

    /// Every chunk as it stands now; costs a copy of each open one.
    pub(super) fn snapshot(&self) -> Vec<Arc<Chunk>> {
        self.slots.iter().map(Slot::snapshot).collect()
    }

    /// Seals every chunk.
    pub(super) fn seal(&mut self) {
        self.slots.iter_mut().for_each(Slot::seal);
        self.open.fill(NONE);
    }

    /// Whether places run out.
    pub(super) const fn is_nearly_full(&self) -> bool {
        self.slots.len() >= CHUNKS_MAX / 2
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &Chunk {
        self.slots[at].chunk()
    }

    /// The layout's chunk with room for a row, and its place.
    #[inline]
    pub(super) fn with_room(&mut self, layout: u32, shapes: &[Arc<Shape>]) -> (usize, &mut Chunk) {
        let at = match self.open.get(layout as usize) {
            Some(&at) if at != NONE && !self.get(at as usize).is_full() => at,
            _ => self.open_one(layout, shapes),
        };
        let chunk = self.slots[at as usize].open().expect("the layout's chunk is open");
        (at as usize, chunk)
    }

    /// Seals the layout's open chunk, if it has one, and opens another.
    #[cold]
    fn open_one(&mut self, layout: u32, shapes: &[Arc<Shape>]) -> u32 {
        if self.open.len() < shapes.len() {
            self.open.resize(shapes.len(), NONE);
        }
        let full = self.open[layout as usize];
        if full != NONE {
            self.slots[full as usize].seal();
        }
        let types = shapes[layout as usize].attributes.iter().map(|(_, value_type)| *value_type);
        let at = index(self.slots.len());
        self.slots.push(Slot::Open(Box::new(Chunk::new(layout, types, full == NONE))));
        self.open[layout as usize] = at;
        at
    }
}
