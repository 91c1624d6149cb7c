//! What a reader of the sink remembers of objects that never change, so that whoever goes through many pages does
//! not read all of a block for each of them: which rejections an object has, and what a mark says.
//!
//! A report with an object of its own, and a mark, are written once; a replay writes the same again. An object of
//! many reports grows, and is read each time. What is remembered is of a key, and keys come from listings: of an
//! object that was removed nothing is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::entry::Id;
use super::mark::Mark;

/// Objects whose rejections are known by their first and last.
const RANGES_MAX: usize = 1 << 14;

/// Marks that are remembered: of a hundred rejections each, a few MiB.
const MARKS_MAX: usize = 2_000;

/// What is remembered, for all who read one sink.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    ranges: HashMap<String, (Id, Id)>,
    marks: HashMap<String, Arc<Mark>>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // A panic elsewhere leaves less than there could be.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first and the last rejection of an object.
    pub(super) fn range(&self, key: &str) -> Option<(Id, Id)> {
        self.lock().ranges.get(key).copied()
    }

    pub(super) fn note_range(&self, key: &str, range: (Id, Id)) {
        let mut known = self.lock();
        // Whoever goes on has read most of what comes next; what is forgotten is read once more.
        if known.ranges.len() >= RANGES_MAX {
            known.ranges.clear();
        }
        known.ranges.insert(key.to_owned(), range);
    }

    pub(super) fn mark(&self, key: &str) -> Option<Arc<Mark>> {
        self.lock().marks.get(key).map(Arc::clone)
    }

    pub(super) fn note_mark(&self, key: &str, mark: &Arc<Mark>) {
        let mut known = self.lock();
        if known.marks.len() >= MARKS_MAX {
            known.marks.clear();
        }
        known.marks.insert(key.to_owned(), Arc::clone(mark));
    }
}
