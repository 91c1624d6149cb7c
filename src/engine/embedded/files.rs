//! The files that count, by table and day.
//!
//! A commit changes the lists of the days that it touches and no other, whatever there is besides: a
//! list that somebody reads is copied first, and who reads holds a table's or a day's list, never all.
//! Days whose files have changed are remembered for the compaction, so that a pass looks at these.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::engine::TimeRange;
use crate::record::TableId;

use super::magnetic::MagneticFile;
use super::partition::day_of;

/// The files of one day of a table.
pub(super) type DayFiles = Arc<Vec<Arc<MagneticFile>>>;

/// The files of one table.
#[derive(Debug, Clone, Default)]
pub(super) struct TableFiles {
    days: BTreeMap<i32, DayFiles>,
    rows: u64,
}

/// All files that count.
#[derive(Debug, Default)]
pub(super) struct Files {
    tables: HashMap<TableId, Arc<TableFiles>, RandomState>,
    count: u64,
    bytes: u64,
    /// Days whose files have changed since the compaction found nothing to do there.
    changed: BTreeSet<(TableId, i32)>,
}

impl TableFiles {
    /// The days and their files, in order.
    pub(super) const fn days(&self) -> &BTreeMap<i32, DayFiles> {
        &self.days
    }

    /// Every file.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<MagneticFile>> {
        self.days.values().flat_map(|files| &**files)
    }

    /// The files of the days that a stretch of time touches.
    pub(super) fn in_range(&self, range: TimeRange) -> impl Iterator<Item = &Arc<MagneticFile>> {
        let (first, last) = (day_of(range.from_ns), day_of(range.to_ns));
        // What ends before it begins touches no day.
        let days = (first <= last).then(|| self.days.range(first..=last));
        days.into_iter().flatten().flat_map(|(_, files)| &**files)
    }

    /// Rows of all files.
    pub(super) const fn rows(&self) -> u64 {
        self.rows
    }
}

impl Files {
    pub(super) fn table(&self, table: TableId) -> Option<Arc<TableFiles>> {
        self.tables.get(&table).map(Arc::clone)
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = (TableId, &Arc<TableFiles>)> {
        self.tables.iter().map(|(&table, files)| (table, files))
    }

    pub(super) fn day(&self, table: TableId, day: i32) -> Option<DayFiles> {
        self.tables.get(&table)?.days.get(&day).map(Arc::clone)
    }

    /// How many files there are, and their bytes.
    pub(super) const fn totals(&self) -> (u64, u64) {
        (self.count, self.bytes)
    }

    /// Lets `file` count, in place of its generation before if there is one.
    pub(super) fn put(&mut self, file: Arc<MagneticFile>) {
        let (table, meta) = (file.table, &file.meta);
        self.remove(table, meta.day, meta.number);
        self.count += 1;
        self.bytes += meta.bytes;
        self.changed.insert((table, meta.day));
        let of_table = Arc::make_mut(self.tables.entry(table).or_default());
        of_table.rows += meta.rows;
        Arc::make_mut(of_table.days.entry(meta.day).or_default()).push(file);
    }

    /// Lets the file of this number count no more. Returns whether it did.
    pub(super) fn remove(&mut self, table: TableId, day: i32, number: u64) -> bool {
        let Some(of_table) = self.tables.get_mut(&table) else { return false };
        let of_table = Arc::make_mut(of_table);
        let Some(of_day) = of_table.days.get_mut(&day) else { return false };
        let of_day = Arc::make_mut(of_day);
        let Some(at) = of_day.iter().position(|file| file.meta.number == number) else {
            return false;
        };
        let removed = of_day.remove(at);
        if of_day.is_empty() {
            of_table.days.remove(&day);
        }
        of_table.rows -= removed.meta.rows;
        self.count -= 1;
        self.bytes -= removed.meta.bytes;
        self.changed.insert((table, day));
        true
    }

    /// Lets go of a table that has no files any more.
    pub(super) fn forget(&mut self, table: TableId) {
        let files = self.tables.remove(&table);
        assert!(files.is_none_or(|files| files.days.is_empty()), "its files were removed");
    }

    /// Asks `choose` about each day that has changed until it takes one; what it does not take is not
    /// asked about again before it changes.
    pub(super) fn choose<T>(
        &mut self,
        mut choose: impl FnMut(TableId, i32, &[Arc<MagneticFile>]) -> Option<T>,
    ) -> Option<T> {
        while let Some(&(table, day)) = self.changed.first() {
            let files = self.day(table, day);
            let chosen = files.and_then(|files| choose(table, day, &files));
            if chosen.is_some() {
                return chosen;
            }
            self.changed.remove(&(table, day));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::disk::Disk;
    use super::super::manifest::FileMeta;
    use super::*;

    const TABLE: TableId = TableId(1);

    fn file(number: u64, generation: u32, day: i32) -> Arc<MagneticFile> {
        let meta = FileMeta {
            number,
            generation,
            day,
            rows: 10 + u64::from(generation),
            bytes: 100,
            time_ns_min: 0,
            time_ns_max: 0,
            hash_min: 0,
            hash_max: 0,
        };
        Arc::new(MagneticFile::new(TABLE, &meta, PathBuf::new(), &Arc::new(Disk::default())))
    }

    #[test]
    fn who_reads_a_list_sees_it_as_it_was_and_totals_follow_every_change() {
        let mut files = Files::default();
        files.put(file(1, 0, 0));
        files.put(file(2, 0, 0));
        files.put(file(3, 0, 7));
        let (before, day) = (files.table(TABLE).unwrap(), files.day(TABLE, 0).unwrap());
        files.put(file(2, 1, 0));
        assert!(files.remove(TABLE, 7, 3) && !files.remove(TABLE, 7, 3));
        assert_eq!((before.iter().count(), before.rows(), day.len()), (3, 30, 2));
        assert_eq!(day[1].meta.generation, 0, "the list is as it was when it was asked for");
        let after = files.table(TABLE).unwrap();
        assert_eq!((after.iter().count(), after.rows(), files.totals()), (2, 21, (2, 200)));
        assert!(!after.days().contains_key(&7), "a day without files is none");
        let range = |from_ns, to_ns| after.in_range(TimeRange { from_ns, to_ns }).count();
        assert_eq!(
            (range(i64::MIN, -1), range(0, 0), range(-1, i64::MAX), range(5, 4)),
            (0, 2, 2, 2)
        );
        assert_eq!(range(i64::MAX, i64::MIN), 0);
    }

    #[test]
    fn a_day_is_asked_about_until_nothing_is_taken_and_again_when_it_changes() {
        let mut files = Files::default();
        files.put(file(1, 0, 0));
        files.put(file(2, 0, 3));
        let asked = |files: &mut Files, takes: i32| {
            let mut days = Vec::new();
            let chosen = files.choose(|_, day, _| {
                days.push(day);
                (day == takes).then_some(day)
            });
            (days, chosen)
        };
        assert_eq!(asked(&mut files, 3), (vec![0, 3], Some(3)));
        assert_eq!(
            asked(&mut files, 3),
            (vec![3], Some(3)),
            "it was taken and has not changed yet"
        );
        assert_eq!(asked(&mut files, 9), (vec![3], None));
        assert_eq!(asked(&mut files, 9), (vec![], None));
        files.put(file(4, 0, 0));
        assert_eq!(asked(&mut files, 9), (vec![0], None));
    }
}
