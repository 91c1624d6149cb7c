//! What a record would meet, for whoever asks before it is written: nothing is written, locked or made.
//!
//! An answer is true of the moment at which it was given. Whoever writes afterwards may meet something else,
//! since somebody else may have been quicker; the engine then decides by the same rule.

use super::upsert::{Candidate, Verdict, decide};
use crate::record::codec::{CodecError, RecordView};
use crate::record::request::{Attributes, Outcome, Rejection};
use crate::record::{MeasureKind, OwnedValue, Value};

/// What a record would meet at its key.
#[derive(Debug, Clone, PartialEq)]
pub enum Met {
    /// Nothing.
    Nothing,
    /// A record.
    Row(Standing),
    /// The engine refuses the record whatever stands.
    Refused(Box<Rejection>),
}

/// A record that stands, out of the engine's hands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its version.
    pub version: i64,
    kind: MeasureKind,
    /// Sorted by name, each name once.
    attributes: Vec<(Box<str>, OwnedValue)>,
}

impl Standing {
    /// A copy of what stands.
    pub fn of(candidate: &Candidate<'_, '_>) -> Self {
        let copied = |(name, value): &(&str, Value<'_>)| (Box::from(*name), OwnedValue::of(value));
        let attributes = candidate.attributes.iter().map(copied).collect();
        Self { version: candidate.version, kind: candidate.kind, attributes }
    }
}

impl Met {
    /// What would become of `record` with this version, and what would stand then. Whatever becomes of it, the
    /// next record of its key meets what is returned.
    ///
    /// # Errors
    ///
    /// [`CodecError`]: the record's values cannot be read.
    pub fn then(
        &self,
        record: &RecordView<'_>,
        version: i64,
    ) -> Result<(Outcome, Self), CodecError> {
        let (existing, kind) = match self {
            Self::Refused(why) => return Ok((Outcome::Rejected(why.clone()), self.clone())),
            Self::Nothing => (None, record.layout.kind),
            Self::Row(standing) => (Some(standing), record.layout.kind),
        };
        let incoming = attributes_of(record)?;
        let incoming = Candidate { version, kind, attributes: &incoming };
        let values: Attributes<'_> = existing
            .iter()
            .flat_map(|standing| &standing.attributes)
            .map(|(name, held)| (&**name, held.value()))
            .collect();
        let existing = existing.map(|standing| Candidate {
            version: standing.version,
            kind: standing.kind,
            attributes: &values,
        });
        Ok(match decide(existing.as_ref(), &incoming) {
            Verdict::Stored => (Outcome::Stored, Self::Row(Standing::of(&incoming))),
            Verdict::Updated(merged) => {
                let merged = Candidate { attributes: &merged, ..incoming };
                (Outcome::Updated, Self::Row(Standing::of(&merged)))
            }
            Verdict::Unchanged => (Outcome::Unchanged, self.clone()),
            Verdict::Rejected(rejection) => (Outcome::Rejected(rejection), self.clone()),
        })
    }
}

/// The attributes, sorted by name; of one that is named twice the later counts, as in every engine.
fn attributes_of<'a>(record: &RecordView<'a>) -> Result<Attributes<'a>, CodecError> {
    let mut attributes = Attributes::with_capacity(record.layout.attributes);
    for ((_, name), value) in record.layout.entries().zip(record.values()) {
        attributes.push((name, value?));
    }
    attributes.sort_by_key(|attribute| attribute.0);
    attributes.reverse();
    attributes.dedup_by_key(|attribute| attribute.0);
    attributes.reverse();
    assert!(attributes.is_sorted_by(|a, b| a.0 < b.0), "each name stands once");
    Ok(attributes)
}
