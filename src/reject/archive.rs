//! What the sink holds, read back: found, shown in pages, and marked once it was sent again.
//!
//! Rejections are shown by day of receipt and number, day after day ([`super::walk`]): what lies behind the
//! day that fills the page is not listed. Frames are looked for in the newest days first, and among all keys
//! where they are not there. A page is bounded in rejections, bytes and objects read; what is no report, or
//! cannot be read, is named and passed over. Of objects that hardly change a reader remembers enough ([`super::seen`])
//! that going on from page to page reads each of them about once.
//! What became of rejections that were sent again, [marks](super::mark) say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claim::Claim;
use super::entry::{Entry, Id, Sheet};
use super::key::{self, Block};
use super::mark::{Fate, RefusedAgain, Resubmitted};
use super::seen::Seen;
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
pub(super) const BLOCKS_AT_ONCE: usize = 64;

/// Marks that are listed at once, for these blocks; else each block's own are.
const MARKS_LISTED_MAX: usize = 1_000;

/// Keys that a page names because it could not read them.
const UNREADABLE_NAMED_MAX: usize = 20;

/// Reads what the sink holds.
#[derive(Debug, Clone)]
pub struct Archive {
    store: Arc<Store>,
    seen: Seen,
    /// Whose it must be; of a look at the sink itself nobody's.
    claim: Option<Arc<Claim>>,
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
    /// Of one that is still open: that it was sent again and refused, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_again: Option<RefusedAgain>,
    /// The rejection.
    #[serde(flatten)]
    pub entry: Entry,
}

impl Rejected {
    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
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

    /// Why it is not stored: the reason of the last time.
    pub fn reason(&self) -> Reason {
        self.refused_again.as_ref().map_or(self.entry.reason, |again| again.why.reason)
    }

    /// Whether the last reason is of what was sent with another correction than a version: what stood there may
    /// be of another key.
    pub fn was_changed(&self) -> bool {
        let how = self.refused_again.as_ref().map(|again| again.sent.correction.as_ref());
        how.is_some_and(|how| how.is_none_or(|how| !how.is_of_version_alone()))
    }

    /// What to set so that it is taken as far as its last reason goes; `None` where that is not known.
    pub fn suggested(&self) -> Option<String> {
        let is_version = matches!(self.reason(), Reason::VersionLower | Reason::VersionConflict);
        let is_known = is_version && !self.was_changed();
        let stood = self.version_reported().filter(|_| is_known)?;
        stood.checked_add(1).map(|next| format!("version={next}"))
    }

    /// The highest version that is known to have stood where it was to go: that of the last time that it was
    /// refused. Another may stand by now.
    pub fn version_reported(&self) -> Option<i64> {
        let again = self.refused_again.as_ref().and_then(|again| again.why.existing_version);
        again.max(self.entry.existing_version)
    }

    /// The line as it came; `None` of a record.
    pub fn text(&self) -> Option<Vec<u8>> {
        use base64::Engine as _;
        let decode = |text: &String| base64::engine::general_purpose::STANDARD.decode(text).ok();
        let plain = self.entry.line.as_ref().map(|line| line.as_bytes().to_vec());
        plain.or_else(|| self.entry.line_base64.as_ref().and_then(decode))
    }
}

/// Some rejections in order, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The rejections.
    pub rejections: Vec<Rejected>,
    /// Where the next page begins; `None` behind the last one. A page may have none and a next one.
    pub next: Option<Cursor>,
    /// How many texts were passed over since nobody can tell their table, where one of a table is asked for, but
    /// that are what is asked for otherwise.
    pub untold: u64,
    /// Keys that are no reports or cannot be read, and why; the first few.
    pub unreadable: Vec<String>,
}

/// Objects of one day and block, whose rejections are put in order together.
type Groups = BTreeMap<Spot, Vec<Object>>;

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
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, seen: Seen::default(), claim: None }
    }

    /// Of the sink in `store`, which is read and marked only while it is that of `claim`.
    pub(super) fn of(store: Arc<Store>, claim: Arc<Claim>) -> Self {
        Self { claim: Some(claim), ..Self::new(store) }
    }

    /// Sees that the sink is not another gateway's.
    ///
    /// # Errors
    ///
    /// [`Trouble::Taken`] where it is.
    pub fn check_owner(&self) -> Result<(), ObjectError> {
        self.claim.as_ref().map_or(Ok(()), |claim| claim.check_read())
    }

    /// Sees that the sink may be written, as of frame `lsn`.
    pub(super) fn hold(&self, lsn: Lsn) -> Result<(), ObjectError> {
        self.claim.as_ref().map_or(Ok(()), |claim| claim.hold(lsn))
    }

    pub(super) const fn seen(&self) -> &Seen {
        &self.seen
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
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
        let mut groups: Vec<(Spot, Vec<Object>)> = listed.groups.into_iter().collect();
        if order == Order::Newest {
            groups.reverse();
        }
        let last = groups.last().map(|(spot, _)| *spot);
        for some in groups.chunks(BLOCKS_AT_ONCE) {
            let marked = self.marked(some.iter().map(|(spot, _)| spot.block))?;
            for (spot, objects) in some {
                let names = self.marks_of(spot.block, marked.as_ref())?;
                self.fill(filling, *spot, (objects, names))?;
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

    /// The marks of these blocks in one listing; `None` where they are too many for one, or quickly asked for
    /// one by one.
    pub(super) fn marked(
        &self,
        blocks: impl ExactSizeIterator<Item = Block> + Clone,
    ) -> Result<Option<Marked>, ObjectError> {
        let count = blocks.len();
        // Groups go by the day first, and a clock may have been set back.
        let (Some(one), Some(other)) = (blocks.clone().min(), blocks.max()) else {
            return Ok(None);
        };
        if !self.store.is_cloud() || count < 2 {
            return Ok(None);
        }
        let (one, other) = (one.to_string(), other.to_string());
        let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        let prefix = format!("{}/{}", key::RESUBMITTED, &one[..same]);
        let found = self.store.objects(&prefix, MARKS_LISTED_MAX)?;
        let is_all = found.len() <= MARKS_LISTED_MAX;
        Ok(is_all.then(|| Marked(found.into_iter().map(|object| object.key).collect())))
    }

    /// The names of a block's marks, out of what was listed, or listed now.
    pub(super) fn marks_of(
        &self,
        block: Block,
        marked: Option<&Marked>,
    ) -> Result<Vec<String>, ObjectError> {
        match marked {
            Some(marked) => Ok(marked.of(block)),
            None => self.store.list(&format!("{}/{block}", key::RESUBMITTED)),
        }
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

    /// Reads an object; `None` of what is gone, or is no report.
    fn sheet(&self, object: &Object, page: &mut Page) -> Result<Option<Sheet>, ObjectError> {
        let bytes = match self.store.get(&object.key) {
            // Removed since it was listed: it was too old to be kept.
            Err(error) if error.trouble() == Trouble::NotFound => return Ok(None),
            read => read?,
        };
        match Sheet::parse(&bytes) {
            Ok(sheet) => {
                self.note(object, &sheet);
                Ok(Some(sheet))
            }
            Err(error) => {
                page.pass_over(&object.key, &error.to_string());
                Ok(None)
            }
        }
    }

    /// Remembers which rejections an object has that hardly changes: one of a single frame.
    fn note(&self, object: &Object, sheet: &Sheet) {
        let ids = || sheet.entries.iter().map(|entry| entry.id);
        let is_own = key::read(&object.key).is_some_and(|told| told.first == told.last);
        if let (true, Some(first), Some(last)) = (is_own, ids().min(), ids().max()) {
            self.seen.note_range(object, (first, last));
        }
    }

    /// Adds the rejections of one group that the query asks for.
    fn fill(
        &self,
        filling: &mut Filling<'_>,
        spot: Spot,
        (objects, marked): (&[Object], Vec<String>),
    ) -> Result<(), ObjectError> {
        let marks = self.marks(marked, &mut filling.page)?;
        let query = filling.query;
        let room = query.limit.saturating_sub(filling.page.rejections.len());
        assert!(room > 0, "a page that is full ends");
        let bytes_max = PAGE_BYTES_MAX.saturating_sub(filling.bytes);
        let mut kept = Kept::new(query.order);
        for object in in_order(objects, query.order) {
            let range = self.seen.range(object).or_else(|| frames_of(&object.key));
            let is_wanted = |(first, last)| {
                query.may_have(spot.day, first, last) && !kept.is_cut_before(first, last)
            };
            if range.is_some_and(|range| !is_wanted(range)) {
                continue;
            }
            filling.read += 1;
            let Some(sheet) = self.sheet(object, &mut filling.page)? else { continue };
            if !(filling.may_see)(&sheet.database) {
                continue;
            }
            for entry in sheet.entries {
                let Fate { state, resubmitted, refused_again } = marks.of(entry.id);
                let table = sheet.table.clone().or_else(|| super::select::table_of(&entry));
                let database = sheet.database.clone();
                let one = Rejected { database, table, state, resubmitted, refused_again, entry };
                if query.takes(&one, spot.day) {
                    kept.add(one, (room, bytes_max));
                } else if one.table.is_none() && query.takes_but_for_table(&one, spot.day) {
                    kept.untold.insert(one.entry.id);
                }
            }
        }
        filling.take(kept, spot);
        Ok(())
    }
}

/// A group's objects, by the frames that they begin with.
fn in_order(objects: &[Object], order: Order) -> Vec<&Object> {
    let mut objects: Vec<&Object> = objects.iter().collect();
    objects.sort_by_key(|object| frames_of(&object.key));
    if order == Order::Newest {
        objects.reverse();
    }
    objects
}

/// The first and the last number that a rejection in this object may have.
fn frames_of(key: &str) -> Option<(Id, Id)> {
    let told = key::read(key)?;
    Some((Id { lsn: told.first, place: 0 }, Id { lsn: told.last, place: u64::MAX }))
}

/// The keys of marks.
pub(super) struct Marked(Vec<String>);

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
        self.groups.entry(spot).or_default().push(object);
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
    /// Texts that were passed over since nobody can tell their table.
    untold: BTreeSet<Id>,
}

impl Kept {
    const fn new(order: Order) -> Self {
        Self { order, found: BTreeMap::new(), bytes: 0, cut: None, untold: BTreeSet::new() }
    }

    /// Whether a page has this one, which was passed over: those behind its last come again with the next.
    fn is_here(&self, id: &Id) -> bool {
        match (self.order, self.found.first_key_value(), self.cut) {
            (Order::Newest, Some((last, _)), Some(_)) => id > last,
            (Order::Oldest, _, Some(_)) => {
                self.found.last_key_value().is_none_or(|(last, _)| id < last)
            }
            _ => true,
        }
    }

    /// Whether nothing from `first` to `last` has room any more.
    fn is_cut_before(&self, first: Id, last: Id) -> bool {
        self.cut.is_some_and(|cut| match self.order {
            Order::Newest => last <= cut,
            Order::Oldest => first >= cut,
        })
    }

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

    /// Adds what was kept of a group to the page, which ends there if there was no room for all.
    fn take(&mut self, kept: Kept, spot: Spot) {
        self.page.untold += kept.untold.iter().filter(|id| kept.is_here(id)).count() as u64;
        let mut found: Vec<Rejected> = kept.found.into_values().collect();
        if kept.order == Order::Newest {
            found.reverse();
        }
        self.bytes += kept.bytes;
        self.page.rejections.extend(found);
        if kept.cut.is_some() {
            let last = self.page.rejections.last().expect("a page has room for one");
            self.page.next = Some(Cursor::at(spot.day, last.entry.id));
        }
    }
}

impl Page {
    fn pass_over_all(&mut self, keys: Vec<String>) {
        for key in keys {
            self.pass_over(&key, "is no report's name");
        }
    }

    pub(super) fn pass_over(&mut self, key: &str, why: &str) {
        if self.unreadable.len() < UNREADABLE_NAMED_MAX {
            self.unreadable.push(format!("{key}: {why}"));
        }
    }
}
