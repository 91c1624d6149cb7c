//! What a request is told of itself.

use super::Durability;
use crate::base::lsn::Lsn;
use crate::record::Reason;
use crate::record::limits::REFUSED_TEXT_QUOTED_BYTES_MAX;
use crate::record::request::Rejection;
use crate::shard::marks::{Verdict, Verdicts};

/// What was done with a request.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The frame that holds it; `None` when there was nothing to store.
    pub lsn: Option<Lsn>,
    /// How durable it is.
    pub durability: Durability,
    /// Records taken. With [`Durability::Applied`], records that the engine has taken.
    pub accepted: u64,
    /// How many of them belong to the magnetic store by their time; the others to the memory store.
    /// Counted at receipt, before the engine's verdicts.
    pub magnetic: u64,
    /// Lines or records refused. With [`Durability::Applied`], those that the engine refused too.
    pub refused: u64,
    /// Good lines or records that were not taken, since others were refused and the request was to be taken as
    /// a whole or not at all ([`super::Partial::Refuse`]).
    pub untaken: u64,
    /// The first of those refused, at most [`crate::record::limits::REFUSALS_NAMED_MAX`]; all, for a batch load.
    pub named: Vec<NamedRefusal>,
}

impl Receipt {
    /// Lines or records of the request, whatever became of them.
    pub const fn all(&self) -> u64 {
        self.accepted + self.refused + self.untaken
    }

    /// Says that nothing of the request is taken.
    pub(super) const fn take_none(&mut self) {
        self.untaken += self.accepted;
        (self.accepted, self.magnetic) = (0, 0);
    }

    /// Counts what the engine refused among what was refused.
    pub(super) fn take(&mut self, verdicts: Verdicts, named_max: usize) {
        assert!(verdicts.rejected <= self.accepted, "the engine has what was appended, no more");
        self.accepted -= verdicts.rejected;
        self.refused += verdicts.rejected;
        let room = named_max.saturating_sub(self.named.len());
        self.named.extend(verdicts.named.into_iter().take(room).map(NamedRefusal::from));
        // Shards answer in no order.
        self.named.sort_by_key(|refusal| refusal.number);
    }
}

impl From<Verdict> for NamedRefusal {
    fn from(verdict: Verdict) -> Self {
        let Verdict { number, rejection } = verdict;
        let Rejection { reason, message, existing_version, .. } = rejection;
        Self { number, column: 0, reason, message, text: String::new(), existing_version }
    }
}

/// One refused line or record, as a reply names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedRefusal {
    /// Line number from 1, or index from 0.
    pub number: u64,
    /// Column from 1 in bytes; 0 where none is to blame.
    pub column: u64,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
    /// The beginning of the line, at most
    /// [`crate::record::limits::REFUSED_TEXT_QUOTED_BYTES_MAX`] bytes, what is not UTF-8 replaced.
    /// Empty for what the engine refused: it has the record, not the line, and whoever has the body
    /// finds it there by its number.
    pub text: String,
    /// The version of the record that stands, where the engine refused one for it.
    pub existing_version: Option<i64>,
}

/// A text as replies quote it: see [`NamedRefusal::text`].
pub fn quoted(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(REFUSED_TEXT_QUOTED_BYTES_MAX)]).into_owned()
}
