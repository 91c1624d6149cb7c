//! Erasures: which rows of a table are no more, although the table goes on.
//!
//! An erasure names dimensions with their values, and has a **number**: 1, 2, 3 and so on over all
//! tables. It means every row of its table that has all of these dimensions and a version of at most
//! this number. A caller who erases gives its records the version [`super::Catalog::next_erasure`],
//! read before they are appended. So what is erased is told from the row alone, and not from the order
//! in which anything happens: a record that was written before can be replayed after a crash, flushed
//! or merged at any time, and stays erased; one that was written afterwards has a greater version, and
//! no erasure that there was means it. It is the same thought as that of a table's number.
//!
//! An erasure is **in force** from the moment when its line is durable: no scan shows what it means.
//! `lsn` is the last frame that may hold such a record. Once everything up to it is in files, and the
//! files are written anew without those rows, the engine says so ([`super::Catalog::carried_out`]) and
//! the erasure is in force no longer, since there is nothing left that it means. What is in force is
//! therefore bounded by what was erased since the last flush, and a second erasure of the same takes
//! the place of the first.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::log::Entry;
use crate::base::lsn::Lsn;
use crate::record::TableId;

/// How long an erasure's note is kept after the erasure was carried out, ns. Notes older than the
/// newest by more are forgotten.
pub const NOTE_KEPT_NS: i64 = 25 * 3_600 * 1_000_000_000;

/// Which rows of a table are no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erasure {
    /// Its number, from 1; the greatest version that it means.
    pub number: i64,
    /// The table.
    pub table: TableId,
    /// What the rows have: names and values of dimensions, sorted by name.
    pub dimensions: Vec<(Box<str>, Box<str>)>,
    /// The last frame that may hold such a record.
    pub lsn: Lsn,
    /// When it was asked for, ns.
    pub at_ns: i64,
    /// Whatever the caller wants to find again after a restart, for [`NOTE_KEPT_NS`].
    pub note: Box<str>,
}

impl Erasure {
    fn is_of(&self, dimensions: &[(&str, &str)]) -> bool {
        self.dimensions.iter().all(|(name, value)| value_of(dimensions, name) == Some(value))
    }
}

fn value_of<'d>(dimensions: &[(&'d str, &'d str)], name: &str) -> Option<&'d str> {
    dimensions.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The erasures of one table that are in force, as they stood at one moment.
#[derive(Debug, Default)]
pub struct Hidden {
    /// The lists of names that they have.
    names: Vec<Vec<Box<str>>>,
    /// By the hash of the values.
    by_hash: HashMap<u64, Vec<Arc<Erasure>>, RandomState>,
    number_max: i64,
}

impl Hidden {
    /// What these erasures hide.
    pub fn of(erasures: impl Iterator<Item = Arc<Erasure>>) -> Self {
        let mut hidden = Self::default();
        for erasure in erasures {
            let names = erasure.dimensions.iter().map(|(name, _)| name);
            if !hidden.names.iter().any(|known| known.iter().eq(names.clone())) {
                hidden.names.push(names.cloned().collect());
            }
            let hash = hash_of(erasure.dimensions.iter().map(|(_, value)| &**value));
            hidden.number_max = hidden.number_max.max(erasure.number);
            hidden.by_hash.entry(hash).or_default().push(erasure);
        }
        hidden
    }

    /// Whether nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The greatest version of a hidden row.
    pub const fn number_max(&self) -> i64 {
        self.number_max
    }

    /// Whether a row with these dimensions and this version is erased.
    pub fn hides(&self, dimensions: &[(&str, &str)], version: i64) -> bool {
        // Most rows are told by their version: they were written since.
        version <= self.number_max
            && self.number_of(dimensions).is_some_and(|number| version <= number)
    }

    /// The greatest version of a row with these dimensions that is erased, if any is.
    fn number_of(&self, dimensions: &[(&str, &str)]) -> Option<i64> {
        let of_names = |names: &Vec<Box<str>>| {
            let values = names.iter().map(|name| value_of(dimensions, name));
            let values: Option<Vec<&str>> = values.collect();
            let found = self.by_hash.get(&hash_of(values?.into_iter()))?;
            let meant = found.iter().filter(|erasure| erasure.is_of(dimensions));
            meant.map(|erasure| erasure.number).max()
        };
        self.names.iter().filter_map(of_names).max()
    }
}

/// The hash of the values of some dimensions, in the order of their names.
pub fn hash_of<'v>(values: impl Iterator<Item = &'v str>) -> u64 {
    let mut hasher = Xxh3Default::new();
    for value in values {
        hasher.update(&(value.len() as u64).to_le_bytes());
        hasher.update(value.as_bytes());
    }
    hasher.digest()
}

/// What the catalog's log says of erasures.
#[derive(Debug, Default)]
pub(super) struct Erasures {
    /// The number of the last.
    last: i64,
    in_force: BTreeMap<i64, Arc<Erasure>>,
    /// Those whose notes are kept, in order.
    noted: VecDeque<Arc<Erasure>>,
    /// Whether one more may be found after a restart.
    is_in_doubt: bool,
}

impl Erasures {
    /// The number of the next.
    pub(super) const fn next(&self) -> i64 {
        self.last + 1
    }

    pub(super) const fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    pub(super) const fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    pub(super) fn in_force(&self) -> impl Iterator<Item = &Arc<Erasure>> {
        self.in_force.values()
    }

    pub(super) fn noted(&self) -> impl Iterator<Item = &Arc<Erasure>> {
        self.noted.iter()
    }

    pub(super) fn is_in_force(&self, number: i64) -> bool {
        self.in_force.contains_key(&number)
    }

    pub(super) fn add(&mut self, erasure: Erasure) -> Result<(), String> {
        let (found, expected) = (erasure.number, self.next());
        if found != expected {
            return Err(format!("erasure number {found}, expected {expected}"));
        }
        // Whatever an older one of the same means, this one means too.
        self.in_force
            .retain(|_, old| (old.table, &old.dimensions) != (erasure.table, &erasure.dimensions));
        let erasure = Arc::new(erasure);
        self.last = erasure.number;
        self.noted.push_back(Arc::clone(&erasure));
        let kept_from_ns = erasure.at_ns.saturating_sub(NOTE_KEPT_NS);
        while self.noted.front().is_some_and(|oldest| oldest.at_ns < kept_from_ns) {
            self.noted.pop_front();
        }
        self.in_force.insert(erasure.number, erasure);
        Ok(())
    }

    /// The entries of a log that amount to this.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut kept: BTreeMap<i64, &Arc<Erasure>> =
            self.in_force.iter().map(|(number, erasure)| (*number, erasure)).collect();
        kept.extend(self.noted.iter().map(|erasure| (erasure.number, erasure)));
        let noted_from = self.noted.front().map_or(i64::MAX, |oldest| oldest.number);
        let mut entries = Vec::with_capacity(kept.len() + 1);
        for (number, erasure) in kept {
            entries.push(Entry::KeptErasure {
                erasure: (**erasure).clone(),
                in_force: self.is_in_force(number),
                noted: number >= noted_from,
            });
        }
        if self.last > 0 {
            entries.push(Entry::GivenErasures { to: self.last });
        }
        entries
    }

    /// Takes an erasure of a log that was written anew.
    pub(super) fn keep(
        &mut self,
        erasure: Erasure,
        in_force: bool,
        noted: bool,
    ) -> Result<(), String> {
        if erasure.number <= self.last {
            return Err(format!("erasure number {} is given already", erasure.number));
        }
        self.last = erasure.number;
        let erasure = Arc::new(erasure);
        if noted {
            self.noted.push_back(Arc::clone(&erasure));
        }
        if in_force {
            self.in_force.insert(erasure.number, erasure);
        }
        Ok(())
    }

    /// Gives every number up to this one.
    pub(super) fn give(&mut self, to: i64) -> Result<(), String> {
        if to < self.last {
            return Err(format!("erasures up to {to} are given already"));
        }
        self.last = to;
        Ok(())
    }

    pub(super) fn end(&mut self, numbers: &[i64]) -> Result<(), String> {
        if let Some(number) = numbers.iter().find(|number| !self.is_in_force(**number)) {
            return Err(format!("erasure {number} is not in force"));
        }
        self.in_force.retain(|number, _| !numbers.contains(number));
        Ok(())
    }

    /// Nothing is left of a table that is deleted.
    pub(super) fn forget_table(&mut self, table: TableId) {
        self.in_force.retain(|_, erasure| erasure.table != table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erasure(number: i64, dimensions: &[(&str, &str)]) -> Erasure {
        let dimensions = dimensions.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        Erasure {
            number,
            table: TableId(1),
            dimensions,
            lsn: Lsn(1),
            at_ns: number,
            note: "".into(),
        }
    }

    #[test]
    fn it_means_all_rows_with_its_dimensions_up_to_its_number_and_no_other() {
        let all = [erasure(3, &[("a", "1"), ("b", "2")]), erasure(5, &[("a", "9")])];
        let hidden = Hidden::of(all.into_iter().map(Arc::new));
        let row = [("a", "1"), ("b", "2"), ("c", "3")];
        assert!(hidden.hides(&row, 1) && hidden.hides(&row, 3) && !hidden.hides(&row, 4));
        assert!(hidden.hides(&[("a", "9"), ("b", "2")], 5));
        for other in [&[("a", "1"), ("b", "3")][..], &[("a", "1")], &[("b", "9")], &[]] {
            assert!(!hidden.hides(other, 1), "{other:?}");
        }
        assert!(!Hidden::default().hides(&row, 0));
    }

    #[test]
    fn a_second_one_of_the_same_takes_the_place_of_the_first_and_old_notes_go() {
        let mut erasures = Erasures::default();
        for number in 1..=3 {
            erasures.add(erasure(number, &[("a", "1")])).unwrap();
        }
        assert_eq!(erasures.in_force().map(|e| e.number).collect::<Vec<_>>(), [3]);
        assert_eq!(erasures.noted().count(), 3);
        assert!(erasures.add(erasure(3, &[])).is_err() && erasures.end(&[1]).is_err());
        erasures.end(&[3]).unwrap();
        let late = Erasure { at_ns: NOTE_KEPT_NS + 3, ..erasure(4, &[]) };
        erasures.add(late).unwrap();
        assert_eq!(erasures.noted().map(|e| e.number).collect::<Vec<_>>(), [3, 4]);
    }

    #[test]
    fn the_entries_of_a_log_written_anew_amount_to_the_same() {
        let mut erasures = Erasures::default();
        for (number, name) in (1..).zip(["a", "b", "a", "c", "d"]) {
            erasures.add(erasure(number, &[(name, "1")])).unwrap();
        }
        erasures.end(&[2, 5]).unwrap();
        // One that is in force and whose note is forgotten, and one whose number alone is left.
        let late = Erasure { at_ns: NOTE_KEPT_NS + 5, ..erasure(6, &[("e", "1")]) };
        erasures.add(late).unwrap();
        erasures.end(&[6]).unwrap();
        let mut again = Erasures::default();
        for entry in erasures.entries() {
            match entry {
                Entry::KeptErasure { erasure, in_force, noted } => {
                    again.keep(erasure, in_force, noted).unwrap();
                }
                Entry::GivenErasures { to } => again.give(to).unwrap(),
                other => panic!("{other:?}"),
            }
        }
        let shown = |of: &Erasures| {
            (
                of.in_force().map(|e| e.number).collect::<Vec<_>>(),
                of.noted().map(|e| e.number).collect::<Vec<_>>(),
                of.next(),
            )
        };
        assert_eq!(shown(&again), (vec![3, 4], vec![5, 6], 7));
        assert_eq!(shown(&again), shown(&erasures));
        assert!(again.keep(erasure(6, &[]), true, true).is_err() && again.give(5).is_err());
    }
}
