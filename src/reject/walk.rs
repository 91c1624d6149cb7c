//! The days of a sink in their order, the folders of one after those of another.
//!
//! Keys begin with database and table, and days stand below them. To show the newest rejections of all
//! tables a walk opens only folders that may be of the day whose turn it is: of each table the years, of the newest year
//! the months, of the newest month the days. Folders of one step are asked for together, so what it
//! takes is a few round trips, whatever the days before hold.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::key::{Day, LINES, RECORDS};
use super::select::{Kind, Order, Query};
use crate::object::{Object, ObjectError, Store, encode};

/// The days of a sink.
#[derive(Debug)]
pub(super) struct Walk<'s> {
    store: &'s Store,
    order: Order,
    days: RangeInclusive<Day>,
    /// Folders that were not opened, by the days that they may be of.
    closed: BTreeMap<(Day, Day), Vec<Folder>>,
    /// What stood where no report does, as far as folders were opened.
    strays: Vec<String>,
}

/// A folder of a table, of one of its years, months or days.
#[derive(Debug)]
struct Folder {
    key: String,
    /// How many of its last parts are year, month and day.
    dated: usize,
}

/// Parts of a day in a key.
const DAY_PARTS: usize = 3;

/// The folders of a day.
#[derive(Debug)]
pub(super) struct DayFolders {
    pub(super) day: Day,
    pub(super) keys: Vec<String>,
}

impl<'s> Walk<'s> {
    /// The days of what a query asks for, in its order.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub(super) fn of(store: &'s Store, query: &Query) -> Result<Self, ObjectError> {
        let days = query.days();
        let mut walk =
            Self { store, order: query.order, days, closed: BTreeMap::new(), strays: Vec::new() };
        let mut roots = Vec::new();
        if query.kind != Some(Kind::Line) {
            let databases = walk.children(&[RECORDS.to_owned()], query.database.as_deref())?;
            roots = walk.children(&databases, query.table.as_deref())?;
        }
        if query.kind != Some(Kind::Record) {
            roots.extend(walk.children(&[LINES.to_owned()], query.database.as_deref())?);
        }
        for key in roots {
            walk.close(Folder { key, dated: 0 });
        }
        Ok(walk)
    }

    /// The folders of the next day that has any; `None` behind the last.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub(super) fn next(&mut self) -> Result<Option<DayFolders>, ObjectError> {
        loop {
            let next = match self.order {
                // By the last day that a folder may be of; the wider first, which may hold that day too.
                Order::Newest => self
                    .closed
                    .keys()
                    .max_by_key(|(first, last)| (*last, std::cmp::Reverse(*first))),
                Order::Oldest => self
                    .closed
                    .keys()
                    .min_by_key(|(first, last)| (*first, std::cmp::Reverse(*last))),
            };
            let Some(next) = next.copied() else { return Ok(None) };
            let folders = self.closed.remove(&next).unwrap_or_default();
            if folders.iter().all(|folder| folder.dated == DAY_PARTS) {
                let keys = folders.into_iter().map(|folder| folder.key).collect();
                return Ok(Some(DayFolders { day: next.0, keys }));
            }
            self.open(folders)?;
        }
    }

    /// What stood where no report does, since this was asked.
    pub(super) fn strays(&mut self) -> Vec<String> {
        std::mem::take(&mut self.strays)
    }

    /// Whether no folder is left that may be of another day.
    pub(super) fn is_done(&self) -> bool {
        self.closed.is_empty()
    }

    /// The objects of a day's folders.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the store cannot be listed.
    pub(super) fn objects(&self, folders: &DayFolders) -> Result<Vec<Object>, ObjectError> {
        let levels = self.store.levels(&folders.keys)?;
        Ok(levels.into_iter().flat_map(|level| level.objects).collect())
    }

    fn open(&mut self, folders: Vec<Folder>) -> Result<(), ObjectError> {
        let keys: Vec<String> = folders.iter().map(|folder| folder.key.clone()).collect();
        for (folder, level) in folders.into_iter().zip(self.store.levels(&keys)?) {
            self.strays.extend(level.objects.into_iter().map(|object| object.key));
            for name in level.folders {
                let key = format!("{}/{name}", folder.key);
                self.close(Folder { key, dated: folder.dated + 1 });
            }
        }
        Ok(())
    }

    /// Keeps a folder that may be of one of the days.
    fn close(&mut self, folder: Folder) {
        let parts: Vec<&str> = folder.key.rsplitn(folder.dated + 1, '/').collect();
        let dated: Vec<&str> = parts.iter().take(folder.dated).rev().copied().collect();
        // What is no day holds no report.
        let Some(range) = Day::range_of(&dated) else { return self.strays.push(folder.key) };
        if range.end() >= self.days.start() && range.start() <= self.days.end() {
            self.closed.entry(range.into_inner()).or_default().push(folder);
        }
    }

    /// The folders in these, or those of one name.
    fn children(
        &mut self,
        folders: &[String],
        name: Option<&str>,
    ) -> Result<Vec<String>, ObjectError> {
        if let Some(name) = name {
            return Ok(folders.iter().map(|folder| format!("{folder}/{}", encode(name))).collect());
        }
        let mut all = Vec::new();
        for (folder, level) in folders.iter().zip(self.store.levels(folders)?) {
            self.strays.extend(level.objects.into_iter().map(|object| object.key));
            all.extend(level.folders.iter().map(|name| format!("{folder}/{name}")));
        }
        Ok(all)
    }
}
