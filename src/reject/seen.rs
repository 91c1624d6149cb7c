//! What a reader of the sink remembers, so that whoever goes through many pages does not read all of a block for each
//! of them: which rejections an object has, and what a mark says.
//!
//! A mark is written once. A report with an object of its own is written again, under the same key, where the engine
//! undid the turn that it was of, and may have other rejections then; an object of many reports grows, and is read each
//! time. So what is remembered of a report is remembered of the object as it was listed: by its size and its tag. Keys
//! come from listings: of an object that was removed nothing is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::entry::Id;
use super::mark::Mark;
use crate::object::Object;

/// Bytes, about, of what is remembered of objects.
const RANGES_BYTES_MAX: usize = 4 << 20;

/// Bytes, about, of marks that are remembered.
const MARKS_BYTES_MAX: usize = 16 << 20;

/// What one that is remembered costs beside its own bytes.
const PLACE_BYTES: usize = 96;

/// What is remembered, for all who read one sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    ranges: Cache<Range>,
    marks: Cache<Arc<Mark>>,
}

/// The first and the last rejection of an object that was listed with this size and tag.
#[derive(Debug, Clone)]
struct Range {
    bytes: u64,
    tag: String,
    ids: (Id, Id),
}

impl Default for Known {
    fn default() -> Self {
        Self { ranges: Cache::of(RANGES_BYTES_MAX), marks: Cache::of(MARKS_BYTES_MAX) }
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves less than there could be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first and the last rejection of an object, if it is the one that was read.
    pub(super) fn range(&self, object: &Object) -> Option<(Id, Id)> {
        let known = self.lock().ranges.get(&object.key)?;
        (known.bytes == object.bytes && known.tag == object.tag).then_some(known.ids)
    }

    /// Remembers what an object had that was read after it was listed: if it was replaced in between, the next
    /// listing tells.
    pub(super) fn note_range(&self, object: &Object, ids: (Id, Id)) {
        let (bytes, tag) = (object.bytes, object.tag.clone());
        let cost = tag.len() + size_of::<Range>();
        self.lock().ranges.put(object.key.clone(), Range { bytes, tag, ids }, cost);
    }

    pub(super) fn mark(&self, key: &str) -> Option<Arc<Mark>> {
        self.lock().marks.get(key)
    }

    pub(super) fn note_mark(&self, key: &str, mark: &Arc<Mark>) {
        self.lock().marks.put(key.to_owned(), Arc::clone(mark), mark.bytes());
    }
}

/// What is remembered under keys, within a bound. Two generations: what is asked for goes to the young one, and when
/// that has half of the room, the old one is forgotten and the young one becomes old.
#[derive(Debug)]
struct Cache<T> {
    bytes_max: usize,
    young: HashMap<String, (T, usize)>,
    young_bytes: usize,
    old: HashMap<String, (T, usize)>,
}

impl<T: Clone> Cache<T> {
    fn of(bytes_max: usize) -> Self {
        Self { bytes_max, young: HashMap::new(), young_bytes: 0, old: HashMap::new() }
    }

    fn get(&mut self, key: &str) -> Option<T> {
        if let Some((known, _)) = self.young.get(key) {
            return Some(known.clone());
        }
        let (key, (known, bytes)) = self.old.remove_entry(key)?;
        self.put_young(key, (known.clone(), bytes));
        Some(known)
    }

    fn put(&mut self, key: String, what: T, bytes: usize) {
        self.old.remove(&key);
        let bytes = key.len() + bytes + PLACE_BYTES;
        self.put_young(key, (what, bytes));
    }

    fn put_young(&mut self, key: String, (what, bytes): (T, usize)) {
        let half = self.bytes_max / 2;
        if let Some((_, before)) = self.young.remove(&key) {
            self.young_bytes -= before;
        }
        // It alone would take the room of all others.
        if bytes > half {
            return;
        }
        if self.young_bytes + bytes > half {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, (what, bytes));
        assert!(self.young_bytes <= half, "each generation has half of the room");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_keeps_within_its_bytes_what_was_asked_for_last() {
        let mut cache = Cache::of(20_000);
        let key = |at: usize| format!("{at:04}");
        let cost = 900 + 4 + PLACE_BYTES;
        let held = |cache: &Cache<usize>| {
            cache.young.values().chain(cache.old.values()).map(|(_, bytes)| bytes).sum::<usize>()
        };
        for at in 0..1_000 {
            cache.put(key(at), at, 900);
            assert_eq!(cache.get("0000"), Some(0), "what is asked for stays: {at}");
            assert!(held(&cache) <= 20_000, "{}", held(&cache));
        }
        assert!(held(&cache) >= 10_000 - cost, "{}", held(&cache));
        assert_eq!(cache.get(&key(999)), Some(999));
        assert_eq!(cache.get(&key(500)), None);
        cache.put(key(999), 1, 900);
        assert_eq!(cache.get(&key(999)), Some(1), "the last word counts");
        cache.put(key(999), 2, 10_000);
        assert_eq!(cache.get(&key(999)), None, "one that takes all the room is not remembered");
    }
}
