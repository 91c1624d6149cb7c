//! What the sink holds, read back: found, shown in pages, and marked once it was sent again.
//!
//! Rejections are shown by day of receipt and number, day after day ([`super::walk`]): what lies behind the
//! day that fills the page is not listed. Frames are looked for in the newest days first, and among all keys
//! where they are not there. A page is bounded in rejections, bytes and objects read; what is no report, or
//! cannot be read, is named and passed over.
//!
//! # Marks
//!
//! A rejection that was sent again is never deleted. The frame that carried it writes one mark into the folder of
//! each block of frames whose rejections it had, and one into the folder of its own block:
//!
//! ```text
//! resubmitted/<first>-<last>/<lsn>.json
//! {"lsn":99,"at":"..","by":"operator","stored":["42-57"],"again":false}
//! ```
//!
//! `stored` are the rejections whose records are in the engine since frame `lsn`. `again` says that whatever the
//! engine refused of frame `lsn` itself is there under its first number already. A crash between the write and
//! the mark leaves the rejection open; sending it again then is harmless, since the same record with the same
//! version changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Id, Moment, Sheet};
use super::key::{self, Block};
use super::select::{Cursor, Order, Query, Spot, State};
use super::walk::Walk;
use crate::base::lsn::Lsn;
use crate::object::{Object, ObjectError, Store, Trouble};
use crate::record::Reason;

/// Most bytes of an object that is read. A part of a report ends at the first rejection beyond a MiB, which as
/// JSON may take six times its bytes, and its last rejection may be as large as a record can be.
pub const OBJECT_BYTES_MAX: u64 = 64 << 20;

/// Bytes of a page, about, but for its first rejection.
pub const PAGE_BYTES_MAX: usize = 4 << 20;

/// Objects after which a page ends, whatever it has by then.
const OBJECTS_READ_MAX: usize = 2_000;

/// Objects that are remembered from a listing; the next page finds the others.
const LISTED_MAX: usize = 1 << 14;

/// Days that are looked through for frames before all keys are.
const RECENT_DAYS: usize = 2;

/// Blocks whose marks are asked for together.
const BLOCKS_AT_ONCE: usize = 64;

/// Marks that are listed at once, for these blocks; else each block's own are.
const MARKS_LISTED_MAX: usize = 1_000;

/// Keys that a page names because it could not read them.
const UNREADABLE_NAMED_MAX: usize = 20;

/// Reads what the sink holds.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<Store>,
}

/// A rejection as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// The database.
    pub database: String,
    /// The table; of a line the one that it names, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Whether it was sent again.
    pub state: State,
    /// What was sent again, and how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resubmitted: Option<Resubmitted>,
    /// The rejection.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Rejected {
    /// About how many bytes it takes.
    fn bytes(&self) -> usize {
        let entry = &self.entry;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let record = entry.record.as_ref().map_or(0, |record| {
            let measures = record.measure_values.iter().flatten();
            let values: usize = measures.map(|one| one.name.len() + one.value.len() + 48).sum();
            let names = record.dimensions.iter();
            values + names.map(|one| one.name.len() + one.value.len() + 24).sum::<usize>()
        });
        512 + entry.message.len() + text(&entry.line) + text(&entry.line_base64) + record
    }

    /// What to set so that it is taken as far as its reason goes; `None` where that is not known.
    pub fn suggested(&self) -> Option<String> {
        let is_version =
            matches!(self.entry.reason, Reason::VersionLower | Reason::VersionConflict);
        let stands = self.entry.existing_version.filter(|_| is_version)?;
        stands.checked_add(1).map(|next| format!("version={next}"))
    }

    /// The line as it came; `None` of a record.
    pub fn text(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let plain = self.entry.line.as_ref().map(|line| line.as_bytes().to_vec());
        plain.or_else(|| self.entry.line_base64.as_ref().and_then(decode))
    }
}

/// By whom and when a rejection was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resubmitted {
    /// The frame that holds it since.
    pub lsn: Lsn,
    /// When.
    pub at: Moment,
    /// Who, as the server knows them.
    pub by: String,
}

/// Some rejections in order, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The rejections.
    pub rejections: Vec<Rejected>,
    /// Where the next page begins; `None` behind the last one. A page may have none and a next one.
    pub next: Option<Cursor>,
    /// Keys that are no reports or cannot be read, and why; the first few.
    pub unreadable: Vec<String>,
}

/// A mark as it stands in its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(flatten)]
    resubmitted: Resubmitted,
    #[serde(default)]
    stored: BTreeSet<Id>,
    #[serde(default)]
    again: bool,
}

impl Mark {
    /// When it was made.
    pub(super) const fn at(&self) -> Moment {
        self.resubmitted.at
    }
}

/// The marks of a block.
#[derive(Debug, Default)]
struct Marks {
    stored: BTreeMap<Id, Resubmitted>,
    again: BTreeMap<Lsn, Resubmitted>,
}

impl Marks {
    fn of(&self, id: Id) -> (State, Option<Resubmitted>) {
        if let Some(resubmitted) = self.stored.get(&id) {
            return (State::Resubmitted, Some(resubmitted.clone()));
        }
        match self.again.get(&id.lsn) {
            Some(resubmitted) => (State::Again, Some(resubmitted.clone())),
            None => (State::Open, None),
        }
    }
}

/// Objects of one day and block, whose rejections are put in order together.
type Groups = BTreeMap<Spot, Vec<String>>;

/// A page that is being filled.
struct Filling<'q> {
    query: &'q Query,
    may_see: &'q dyn Fn(&str) -> bool,
    page: Page,
    bytes: usize,
    read: usize,
}

impl Archive {
    /// Of the sink in `store`.
    pub const fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Where the sink is, for people.
    pub fn place(&self) -> &str {
        self.store.place()
    }

    /// The next rejections that `query` asks for, of databases that `may_see`.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the sink is away.
    pub fn page(&self, query: &Query, may_see: &dyn Fn(&str) -> bool) -> Result<Page, ObjectError> {
        let mut filling = Filling { query, may_see, page: Page::default(), bytes: 0, read: 0 };
        let mut walk = Walk::of(&self.store, query)?;
        let mut days = 0;
        while let Some(folders) = walk.next()? {
            if query.is_of_frames() && days == RECENT_DAYS {
                return self.among_all(query, may_see);
            }
            days += 1;
            filling.page.pass_over_all(walk.strays());
            let mut groups = Listed::new(query);
            for object in walk.objects(&folders)? {
                groups.add(object, &mut filling.page);
            }
            if self.fill_all(&mut filling, groups)? {
                return Ok(filling.page);
            }
            let found = filling.page.rejections.len();
            // A frame is of one day.
            let is_found = query.lsn.is_some() && found > 0
                || query.ids.as_ref().is_some_and(|ids| found >= ids.len());
            if is_found {
                return Ok(filling.page);
            }
            if filling.is_full() && !walk.is_done() {
                filling.page.next = Some(Cursor::behind_day(folders.day, query.order));
            }
            if filling.is_full() {
                return Ok(filling.page);
            }
        }
        filling.page.pass_over_all(walk.strays());
        Ok(filling.page)
    }

    /// The same by a look at every key.
    fn among_all(
        &self,
        query: &Query,
        may_see: &dyn Fn(&str) -> bool,
    ) -> Result<Page, ObjectError> {
        let mut filling = Filling { query, may_see, page: Page::default(), bytes: 0, read: 0 };
        let mut groups = Listed::new(query);
        for folder in query.folders() {
            self.store.each(&folder, |object| groups.add(object, &mut filling.page))?;
        }
        self.fill_all(&mut filling, groups)?;
        Ok(filling.page)
    }

    /// Fills a page from what was listed; whether it ends in there.
    fn fill_all(&self, filling: &mut Filling<'_>, listed: Listed<'_>) -> Result<bool, ObjectError> {
        let order = filling.query.order;
        let mut groups: Vec<(Spot, Vec<String>)> = listed.groups.into_iter().collect();
        if order == Order::Newest {
            groups.reverse();
        }
        let last = groups.last().map(|(spot, _)| *spot);
        for some in groups.chunks(BLOCKS_AT_ONCE) {
            let marked = self.marked(some)?;
            for (spot, keys) in some {
                let keys_of_marks = marked.as_ref().map(|marked| marked.of(spot.block));
                self.fill(filling, *spot, (keys, keys_of_marks))?;
                if filling.page.next.is_some() {
                    return Ok(true);
                }
                if filling.is_full() && Some(*spot) != last {
                    filling.page.next = Some(Cursor::behind(*spot, order));
                    return Ok(true);
                }
            }
        }
        if listed.is_cut {
            filling.page.next = last.map(|last| Cursor::behind(last, order));
        }
        Ok(listed.is_cut)
    }

    /// The marks of these groups in one listing; `None` where they are too many for one, or quickly asked for
    /// one by one.
    fn marked(&self, groups: &[(Spot, Vec<String>)]) -> Result<Option<Marked>, ObjectError> {
        // Groups go by the day first, and a clock may have been set back.
        let blocks = || groups.iter().map(|(spot, _)| spot.block);
        let (Some(one), Some(other)) = (blocks().min(), blocks().max()) else { return Ok(None) };
        if !self.store.is_cloud() || groups.len() < 2 {
            return Ok(None);
        }
        let (one, other) = (one.to_string(), other.to_string());
        let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let prefix = format!("{}/{}", key::RESUBMITTED, &one[..same]);
        let found = self.store.objects(&prefix, MARKS_LISTED_MAX)?;
        let is_all = found.len() <= MARKS_LISTED_MAX;
        Ok(is_all.then(|| Marked(found.into_iter().map(|object| object.key).collect())))
    }

    /// These rejections, each with its number, whatever became of them; those that there are.
    ///
    /// # Errors
    ///
    /// [`ObjectError`] when the sink is away.
    pub fn find(
        &self,
        ids: &BTreeSet<Id>,
        may_see: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<Id, Rejected>, ObjectError> {
        let mut query = Query::all();
        query.ids = Some(ids.clone());
        query.limit = ids.len().max(1);
        let mut found = BTreeMap::new();
        loop {
            let page = self.page(&query, may_see)?;
            found.extend(page.rejections.into_iter().map(|one| (one.entry.id, one)));
            // A number stands in one day alone.
            if found.len() >= ids.len() || page.next.is_none() {
                return Ok(found);
            }
            query.after = page.next;
        }
    }

    /// Marks what became of rejections that were sent again in a frame: `stored` are in the engine; `again`
    /// says that some were refused again, and stand in the sink as the frame's own rejections too.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]: some may be marked; those that are not stay open.
    pub fn mark(
        &self,
        resubmitted: &Resubmitted,
        stored: &BTreeSet<Id>,
        again: bool,
    ) -> Result<(), ObjectError> {
        let mut marks: BTreeMap<Block, Mark> = BTreeMap::new();
        let empty =
            Mark { resubmitted: resubmitted.clone(), stored: BTreeSet::new(), again: false };
        for id in stored {
            let mark = marks.entry(Block::of(id.lsn)).or_insert_with(|| empty.clone());
            mark.stored.insert(*id);
        }
        if again {
            marks.entry(Block::of(resubmitted.lsn)).or_insert_with(|| empty.clone()).again = true;
        }
        let name = key::digits(resubmitted.lsn);
        let objects: Vec<(String, Vec<u8>)> = marks
            .into_iter()
            .map(|(block, mark)| {
                let json = serde_json::to_vec(&mark).expect("texts and numbers always serialise");
                (format!("{}/{block}/{name}.json", key::RESUBMITTED), json)
            })
            .collect();
        let objects: Vec<_> =
            objects.into_iter().map(|(key, json)| (key, bytes::Bytes::from(json))).collect();
        let borrowed: Vec<_> =
            objects.iter().map(|(key, json)| (key.as_str(), json.clone())).collect();
        self.store.put_all(&borrowed, |_| {})
    }

    /// Adds the rejections of one group that the query asks for.
    fn fill(
        &self,
        filling: &mut Filling<'_>,
        spot: Spot,
        (keys, marked): (&[String], Option<Vec<String>>),
    ) -> Result<(), ObjectError> {
        let marked = match marked {
            Some(marked) => marked,
            None => self.store.list(&format!("{}/{}", key::RESUBMITTED, spot.block))?,
        };
        let marks = self.marks(marked, &mut filling.page)?;
        let query = filling.query;
        let room = query.limit.saturating_sub(filling.page.rejections.len());
        assert!(room > 0, "a page that is full ends");
        let bytes_max = PAGE_BYTES_MAX.saturating_sub(filling.bytes);
        let mut kept = Kept { order: query.order, found: BTreeMap::new(), bytes: 0, cut: None };
        for key in keys {
            filling.read += 1;
            let bytes = match self.store.get(key) {
                // Removed since it was listed: it was too old to be kept.
                Err(error) if error.trouble() == Trouble::NotFound => continue,
                read => read?,
            };
            let sheet = match Sheet::parse(&bytes) {
                Ok(sheet) => sheet,
                Err(error) => {
                    filling.page.pass_over(key, &error.to_string());
                    continue;
                }
            };
            if !(filling.may_see)(&sheet.database) {
                continue;
            }
            for entry in sheet.entries {
                let (state, resubmitted) = marks.of(entry.id);
                let table = sheet.table.clone().or_else(|| super::select::table_of(&entry));
                let database = sheet.database.clone();
                let one = Rejected { database, table, state, resubmitted, entry };
                if !query.takes(&one, spot.day) {
                    continue;
                }
                kept.add(one, (room, bytes_max));
            }
        }
        let mut found: Vec<Rejected> = kept.found.into_values().collect();
        if query.order == Order::Newest {
            found.reverse();
        }
        filling.bytes += kept.bytes;
        filling.page.rejections.extend(found);
        if kept.cut.is_some() {
            let last = filling.page.rejections.last().expect("a page has room for one");
            filling.page.next = Some(Cursor::at(spot.day, last.entry.id));
        }
        Ok(())
    }

    fn marks(&self, names: Vec<String>, page: &mut Page) -> Result<Marks, ObjectError> {
        let mut marks = Marks::default();
        for name in names {
            let bytes = match self.store.get(&name) {
                Err(error) if error.trouble() == Trouble::NotFound => continue,
                read => read?,
            };
            match serde_json::from_slice::<Mark>(&bytes) {
                Ok(Mark { resubmitted, stored, again }) => {
                    if again {
                        marks.again.insert(resubmitted.lsn, resubmitted.clone());
                    }
                    marks.stored.extend(stored.into_iter().map(|id| (id, resubmitted.clone())));
                }
                Err(error) => page.pass_over(&name, &error.to_string()),
            }
        }
        Ok(marks)
    }
}

/// The keys of marks.
struct Marked(Vec<String>);

impl Marked {
    fn of(&self, block: Block) -> Vec<String> {
        let folder = format!("{}/{block}/", key::RESUBMITTED);
        self.0.iter().filter(|key| key.starts_with(&folder)).cloned().collect()
    }
}

/// What may hold rejections that a query asks for.
struct Listed<'q> {
    query: &'q Query,
    groups: Groups,
    count: usize,
    /// Whether there is more than is remembered.
    is_cut: bool,
}

impl<'q> Listed<'q> {
    const fn new(query: &'q Query) -> Self {
        Self { query, groups: Groups::new(), count: 0, is_cut: false }
    }

    fn add(&mut self, object: Object, page: &mut Page) {
        let query = self.query;
        let Some(told) = key::read(&object.key) else {
            return page.pass_over(&object.key, "is no report's name");
        };
        let spot = Spot { day: told.day, block: Block::of(told.first) };
        let is_past = query.after.is_some_and(|at| at.is_past(spot, query.order));
        if !query.may_hold(&told) || is_past {
            return;
        }
        if object.bytes > OBJECT_BYTES_MAX {
            return page.pass_over(&object.key, "is too large to be read here");
        }
        self.groups.entry(spot).or_default().push(object.key);
        self.count += 1;
        // Those that come last are for another page; the first group alone may be larger.
        while self.count > LISTED_MAX && self.groups.len() > 1 {
            let far = match query.order {
                Order::Newest => self.groups.pop_first(),
                Order::Oldest => self.groups.pop_last(),
            };
            self.count -= far.map_or(0, |(_, keys)| keys.len());
            self.is_cut = true;
        }
    }
}

/// What a page keeps of a group, whose objects are read in no order: the next page reads the rest again.
struct Kept {
    order: Order,
    found: BTreeMap<Id, Rejected>,
    bytes: usize,
    /// The first that there was no room for. What comes behind it is not kept either, although there may be
    /// room, since the next page begins behind the last that is.
    cut: Option<Id>,
}

impl Kept {
    /// Keeps a rejection if it belongs to the first `room` of at most `bytes_max`, or is the first of all.
    fn add(&mut self, one: Rejected, (room, bytes_max): (usize, usize)) {
        let id = one.entry.id;
        let is_behind = |cut| match self.order {
            Order::Newest => id <= cut,
            Order::Oldest => id >= cut,
        };
        if self.cut.is_some_and(is_behind) {
            return;
        }
        self.bytes += one.bytes();
        if let Some(twin) = self.found.insert(id, one) {
            self.bytes -= twin.bytes();
        }
        while self.found.len() > room || self.found.len() > 1 && self.bytes > bytes_max {
            let last = match self.order {
                Order::Newest => self.found.pop_first(),
                Order::Oldest => self.found.pop_last(),
            };
            let (last, one) = last.expect("there is more than one, or than there is room for");
            self.bytes -= one.bytes();
            self.cut = Some(last);
        }
    }
}

impl Filling<'_> {
    fn is_full(&self) -> bool {
        self.page.rejections.len() >= self.query.limit
            || self.bytes >= PAGE_BYTES_MAX
            || self.read >= OBJECTS_READ_MAX
    }
}

impl Page {
    fn pass_over_all(&mut self, keys: Vec<String>) {
        for key in keys {
            self.pass_over(&key, "is no report's name");
        }
    }

    fn pass_over(&mut self, key: &str, why: &str) {
        if self.unreadable.len() < UNREADABLE_NAMED_MAX {
            self.unreadable.push(format!("{key}: {why}"));
        }
    }
}
