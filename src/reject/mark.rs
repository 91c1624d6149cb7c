//! Marks: what became of rejections that were sent again.
//!
//! A rejection that was sent again is never deleted. The frame that carried it writes one mark into the folder of
//! each block of frames whose rejections it had, and one into the folder of its own block:
//!
//! ```text
//! resubmitted/<first>-<last>/<lsn>.json
//! {"lsn":99,"at":"..","by":"operator","correction":{"said":"--set version=2","hash":".."},
//!  "stored":["42-57"],"refused":{"42-80":{"reason":"version_lower","message":"..","existing_version":7}},
//!  "again":true}
//! ```
//!
//! `stored` are the rejections whose records are in the engine since frame `lsn`; `refused` those that the engine
//! refused once more, and why, unless the last mark of the rejection says the same of the same correction: who sends
//! what stays refused every hour adds nothing to what each reader of the block reads. `again` says that whatever the
//! engine refused of frame `lsn` itself is there under its first number already. A crash between the write and the
//! mark leaves the rejection open; sending it again then is harmless, since the same record with the same version
//! changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::archive::{Archive, BLOCKS_AT_ONCE, Page};
use super::entry::{Id, Moment};
use super::key::{self, Block};
use super::select::State;
use crate::base::lsn::Lsn;
use crate::object::{ObjectError, Trouble};
use crate::record::Reason;

/// By whom and when a rejection was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resubmitted {
    /// The frame that holds it since.
    pub lsn: Lsn,
    /// When.
    pub at: Moment,
    /// Who, as the server knows them.
    pub by: String,
    /// How it was mended; absent where the mark was made before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<Correction>,
}

/// How rejections were mended when they were sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Correction {
    /// In words, as flags of the command; long texts are cut.
    pub said: String,
    /// Of all that was asked: corrections with equal hashes are the same.
    pub hash: String,
}

impl Correction {
    /// Whether it changes nothing, or the version alone.
    pub fn is_of_version_alone(&self) -> bool {
        let set = self.said.strip_prefix("--set version=");
        self.said == Self::NONE || set.is_some_and(|version| !version.contains(' '))
    }

    /// What is said of one that changes nothing.
    pub const NONE: &str = "as it was";
}

/// That the engine refused a rejection once more when it was sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedAgain {
    /// Who sent it, when and how, and the frame that it came in.
    #[serde(flatten)]
    pub sent: Resubmitted,
    /// Why it was refused.
    #[serde(flatten)]
    pub why: WhyAgain,
}

/// Why the engine refused a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyAgain {
    /// For programs.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// The version that stood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_version: Option<i64>,
    /// The key at which it stood, for people, where that is not the rejection's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What became of the rejections that one frame carried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ended {
    /// Those whose records are in the engine.
    pub stored: BTreeSet<Id>,
    /// Those that it refused once more.
    pub refused: BTreeMap<Id, WhyAgain>,
    /// Whether the sink has rejections of the frame itself, which are those of `refused` under other numbers.
    pub again: bool,
}

/// A mark as it stands in its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    #[serde(flatten)]
    resubmitted: Resubmitted,
    #[serde(default)]
    stored: BTreeSet<Id>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refused: BTreeMap<Id, WhyAgain>,
    #[serde(default)]
    again: bool,
}

impl Mark {
    /// When it was made.
    pub(super) const fn at(&self) -> Moment {
        self.resubmitted.at
    }

    /// Bytes that it holds, about.
    pub(super) fn bytes(&self) -> usize {
        let Self { resubmitted, stored, refused, again: _ } = self;
        let correction = resubmitted.correction.as_ref();
        let said = correction.map_or(0, |how| how.said.len() + how.hash.len());
        let ids = (stored.len() + refused.len()) * 2 * size_of::<Id>();
        let key = |why: &WhyAgain| why.key.as_ref().map_or(0, String::len);
        let why = |why: &WhyAgain| why.message.len() + key(why) + 2 * size_of::<WhyAgain>();
        size_of::<Self>()
            + resubmitted.by.len()
            + said
            + ids
            + refused.values().map(why).sum::<usize>()
    }
}

/// What the marks of a block say of one rejection.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) state: State,
    pub(super) resubmitted: Option<Resubmitted>,
    pub(super) refused_again: Option<RefusedAgain>,
}

/// The marks of a block: of each rejection the last one.
#[derive(Debug, Default)]
pub(super) struct Marks {
    stored: BTreeMap<Id, Arc<Mark>>,
    refused: BTreeMap<Id, Arc<Mark>>,
    again: BTreeMap<Lsn, Arc<Mark>>,
}

impl Marks {
    pub(super) fn of(&self, id: Id) -> Fate {
        let (stored, refused) = (self.stored.get(&id), self.refused.get(&id));
        let (state, mark) = match (stored, self.again.get(&id.lsn)) {
            (Some(mark), _) => (State::Resubmitted, Some(mark)),
            (None, Some(mark)) => (State::Again, Some(mark)),
            (None, None) => (State::Open, None),
        };
        // What was taken has nothing left to say of why it was not.
        let refused = refused.filter(|_| stored.is_none());
        Fate {
            state,
            resubmitted: mark.map(|mark| mark.resubmitted.clone()),
            refused_again: refused.and_then(|mark| {
                let why = mark.refused.get(&id)?.clone();
                Some(RefusedAgain { sent: mark.resubmitted.clone(), why })
            }),
        }
    }

    /// Whether the last refusal that is known of a rejection is this one, of an earlier frame.
    fn tells(&self, id: Id, sent: &Resubmitted, why: &WhyAgain) -> bool {
        self.refused.get(&id).is_some_and(|mark| {
            let known = &mark.resubmitted;
            // The mark of the frame itself is written over, and must say no less.
            let is_earlier = known.lsn < sent.lsn;
            is_earlier && known.correction == sent.correction && mark.refused.get(&id) == Some(why)
        })
    }

    /// Adds a mark; where several tell of one rejection, that of the last frame counts.
    fn add(&mut self, mark: &Arc<Mark>) {
        let lsn = mark.resubmitted.lsn;
        let keep = |known: &mut BTreeMap<Id, Arc<Mark>>, id: Id| {
            let last = known.entry(id).or_insert_with(|| Arc::clone(mark));
            if last.resubmitted.lsn < lsn {
                *last = Arc::clone(mark);
            }
        };
        mark.stored.iter().for_each(|id| keep(&mut self.stored, *id));
        mark.refused.keys().for_each(|id| keep(&mut self.refused, *id));
        if mark.again {
            self.again.insert(lsn, Arc::clone(mark));
        }
    }
}

/// Refusals with their rejections.
fn all_of(refused: &BTreeMap<Id, WhyAgain>) -> Vec<(Id, &WhyAgain)> {
    refused.iter().map(|(id, why)| (*id, why)).collect()
}

impl Archive {
    /// Marks what became of rejections that were sent again in a frame; of refusals only what is new.
    ///
    /// # Errors
    ///
    /// [`ObjectError`]: some may be marked; those that are not stay open.
    pub fn mark(&self, resubmitted: &Resubmitted, ended: &Ended) -> Result<(), ObjectError> {
        self.hold(resubmitted.lsn)?;
        let mut marks: BTreeMap<Block, Mark> = BTreeMap::new();
        let empty = Mark {
            resubmitted: resubmitted.clone(),
            stored: BTreeSet::new(),
            refused: BTreeMap::new(),
            again: false,
        };
        for id in &ended.stored {
            let mark = marks.entry(Block::of(id.lsn)).or_insert_with(|| empty.clone());
            mark.stored.insert(*id);
        }
        // What cannot be looked up is said once more; a sink that is away says so where the marks are written.
        let news = self.news(resubmitted, &ended.refused);
        for (id, why) in news.unwrap_or_else(|_away| all_of(&ended.refused)) {
            let mark = marks.entry(Block::of(id.lsn)).or_insert_with(|| empty.clone());
            mark.refused.insert(id, why.clone());
        }
        if ended.again {
            marks.entry(Block::of(resubmitted.lsn)).or_insert_with(|| empty.clone()).again = true;
        }
        let name = key::digits(resubmitted.lsn);
        let objects: Vec<(String, bytes::Bytes)> = marks
            .into_iter()
            .map(|(block, mark)| {
                let json = serde_json::to_vec(&mark).expect("texts and numbers always serialise");
                (format!("{}/{block}/{name}.json", key::RESUBMITTED), json.into())
            })
            .collect();
        let borrowed: Vec<_> =
            objects.iter().map(|(key, json)| (key.as_str(), json.clone())).collect();
        self.store().put_all(&borrowed, |_| {})
    }

    /// The refusals that no mark tells of yet.
    fn news<'r>(
        &self,
        sent: &Resubmitted,
        refused: &'r BTreeMap<Id, WhyAgain>,
    ) -> Result<Vec<(Id, &'r WhyAgain)>, ObjectError> {
        let mut by_block: BTreeMap<Block, Vec<(Id, &WhyAgain)>> = BTreeMap::new();
        for (id, why) in all_of(refused) {
            by_block.entry(Block::of(id.lsn)).or_default().push((id, why));
        }
        let by_block: Vec<_> = by_block.into_iter().collect();
        let mut news = Vec::with_capacity(refused.len());
        for some in by_block.chunks(BLOCKS_AT_ONCE) {
            let marked = self.marked(some.iter().map(|(block, _)| *block))?;
            for (block, refused) in some {
                let names = self.marks_of(*block, marked.as_ref())?;
                // One that cannot be read tells nobody anything.
                let known = self.marks(names, &mut Page::default())?;
                news.extend(refused.iter().filter(|(id, why)| !known.tells(*id, sent, why)));
            }
        }
        Ok(news)
    }

    /// Reads the marks of these names.
    pub(super) fn marks(&self, names: Vec<String>, page: &mut Page) -> Result<Marks, ObjectError> {
        let mut marks = Marks::default();
        for name in names {
            if let Some(known) = self.seen().mark(&name) {
                marks.add(&known);
                continue;
            }
            let bytes = match self.store().get(&name) {
                Err(error) if error.trouble() == Trouble::NotFound => continue,
                read => read?,
            };
            match serde_json::from_slice::<Mark>(&bytes).map(Arc::new) {
                Ok(mark) => {
                    self.seen().note_mark(&name, &mark);
                    marks.add(&mark);
                }
                Err(error) => page.pass_over(&name, &error.to_string()),
            }
        }
        Ok(marks)
    }
}
