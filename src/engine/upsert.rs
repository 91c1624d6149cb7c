//! The version rule: what becomes of a record where one with the same key may stand already. One pure
//! function, for every engine.
//!
//! The key of a record is its series (table, measure name, dimensions) and its time. Every record
//! carries a version; **E** is the version that stands, **N** the one that arrives.
//!
//! | stands | arrives | becomes |
//! |---|---|---|
//! | nothing | N | `Stored` |
//! | E | N > E, whatever its values | `Updated`: named attributes replaced, others kept, version N |
//! | E | N = E, every named attribute stands with the same value | `Unchanged` |
//! | E | N = E, some named attributes are absent, the others the same | `Updated`: the absent are added |
//! | E | N = E, a named attribute stands with another value | `Rejected`, [`Reason::VersionConflict`] |
//! | E | N < E, whatever its values | `Rejected`, [`Reason::VersionLower`] |
//! | E | N >= E, a named attribute stands with another type | `Rejected`, [`Reason::TypeConflict`] |
//! | scalar, E | MULTI, N > E, or the reverse | `Rejected`, [`Reason::TypeConflict`] |
//! | scalar, E | MULTI, N = E, or the reverse | `Rejected`, [`Reason::VersionConflict`] |
//!
//! # Why attributes merge
//!
//! Timestream documents that a higher version overwrites the value and says nothing of one attribute
//! among several. Agents that send line protocol spread the fields of one moment over several lines,
//! and whoever overwrites the whole record loses the fields of all lines but the last. So a write
//! never erases an attribute that it does not name, and two writes at one version that name
//! different attributes both succeed.
//!
//! A scalar record has one value, whose columns are typed (`measure_value::double` and so on) and
//! never conflict across types: a scalar of another type is another value, nothing more. A record
//! cannot be scalar and MULTI at once, and neither can replace the other without erasing what it does
//! not name; so the later is refused and goes where an operator sees it.
//!
//! Lower is decided before types are looked at: whatever an outdated write holds, the answer that its
//! sender can use is the version that stands.
//!
//! Values are the same if [`Value::is_same`] says so. Source of the table and of the two messages:
//! Timestream API, `WriteRecords`, `Version` and `RejectedRecord`.

use std::cmp::Ordering;

use crate::record::request::{Attributes, Rejection, Stood};
use crate::record::{MeasureKind, Reason, Value};

/// Timestream's words for [`Reason::VersionConflict`]; its clients look for parts of them.
pub const VERSION_CONFLICT_MESSAGE: &str = "A record already exists with the same time, \
     dimensions, measure name, and record version. A higher record version must be specified in \
     order to update the measure value. Specifying record version is supported by the latest SDKs.";

/// Values of a standing record that are told to one of the other kind, which shares no name with it: a few
/// to recognise it by.
const STOOD_OF_ANOTHER_KIND_MAX: usize = 16;

/// A record as the rule sees it: the one that stands or the one that arrives.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'s, 'a> {
    /// Its version.
    pub version: i64,
    /// Whether it has one value or several.
    pub kind: MeasureKind,
    /// Its attributes, sorted by name, each name once.
    pub attributes: &'s [(&'a str, Value<'a>)],
}

/// What becomes of the record that arrives.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<'a> {
    /// It is the first of its key.
    Stored,
    /// It stands from now on with its own version and these attributes, sorted by name.
    Updated(Attributes<'a>),
    /// It says nothing new.
    Unchanged,
    /// It is refused; what stood stands.
    Rejected(Box<Rejection>),
}

/// Applies the version rule; see the table of this module. Costs one walk over both lists.
#[must_use]
pub fn decide<'a>(
    existing: Option<&Candidate<'_, 'a>>,
    incoming: &Candidate<'_, 'a>,
) -> Verdict<'a> {
    let Some(existing) = existing else { return Verdict::Stored };
    debug_assert!(is_sorted(existing.attributes), "what stands is sorted by name");
    debug_assert!(is_sorted(incoming.attributes), "what arrives is sorted by name");
    if incoming.version < existing.version {
        return with_stood(lower(incoming.version, existing.version), existing, incoming);
    }
    let is_higher = incoming.version > existing.version;
    let verdict = match (existing.kind, incoming.kind) {
        (MeasureKind::Multi, MeasureKind::Multi) => merge(existing, incoming),
        (MeasureKind::Scalar, MeasureKind::Scalar) if is_higher => {
            Verdict::Updated(incoming.attributes.to_vec())
        }
        (MeasureKind::Scalar, MeasureKind::Scalar) => same_scalar(existing, incoming),
        _ if is_higher => kind_conflict(existing),
        _ => conflict(existing.version),
    };
    with_stood(verdict, existing, incoming)
}

/// A rejection with the values that stand under the names that the record has; where one is scalar and
/// the other is not, the first few that stand. Other verdicts as they are.
fn with_stood<'a>(
    mut verdict: Verdict<'a>,
    existing: &Candidate<'_, 'a>,
    incoming: &Candidate<'_, 'a>,
) -> Verdict<'a> {
    let Verdict::Rejected(rejection) = &mut verdict else { return verdict };
    let is_alike = existing.kind == incoming.kind;
    let is_named = |name: &str| {
        !is_alike || incoming.attributes.binary_search_by_key(&name, |(name, _)| name).is_ok()
    };
    let most = if is_alike { incoming.attributes.len() } else { STOOD_OF_ANOTHER_KIND_MAX };
    let stood = existing.attributes.iter().filter(|(name, _)| is_named(name)).take(most);
    rejection.stood = stood
        .map(|(name, value)| Stood {
            name: (*name).to_owned(),
            value: value.to_text(),
            value_type: value.value_type(),
        })
        .collect();
    verdict
}

/// Both are MULTI and the incoming version is not lower: walks the two sorted lists side by side.
fn merge<'a>(existing: &Candidate<'_, 'a>, incoming: &Candidate<'_, 'a>) -> Verdict<'a> {
    let is_higher = incoming.version > existing.version;
    let mut merged: Attributes<'a> =
        Vec::with_capacity(existing.attributes.len() + incoming.attributes.len());
    let mut is_changed = is_higher;
    let mut is_conflict = false;
    let mut old = existing.attributes.iter().peekable();
    for new in incoming.attributes {
        while let Some(kept) = old.next_if(|old| old.0 < new.0) {
            merged.push(*kept);
        }
        match old.next_if(|old| old.0 == new.0) {
            Some((name, value)) if value.value_type() != new.1.value_type() => {
                return type_conflict(name, value, &new.1, existing.version);
            }
            Some((_, value)) => is_conflict |= !is_higher && !value.is_same(&new.1),
            None => is_changed = true,
        }
        merged.push(*new);
    }
    merged.extend(old);
    match (is_conflict, is_changed) {
        (true, _) => conflict(existing.version),
        (false, true) => Verdict::Updated(merged),
        (false, false) => Verdict::Unchanged,
    }
}

fn same_scalar<'a>(existing: &Candidate<'_, 'a>, incoming: &Candidate<'_, 'a>) -> Verdict<'a> {
    let is_same = existing.attributes.len() == incoming.attributes.len()
        && existing
            .attributes
            .iter()
            .zip(incoming.attributes)
            .all(|((_, old), (_, new))| old.is_same(new));
    if is_same { Verdict::Unchanged } else { conflict(existing.version) }
}

fn lower<'a>(found: i64, existing: i64) -> Verdict<'a> {
    assert_eq!(found.cmp(&existing), Ordering::Less, "only a lower version is refused as lower");
    let message = format!(
        "The record version {found} is lower than the existing version {existing}. \
         A higher version is required to update the measure value."
    );
    rejected(Reason::VersionLower, message, existing)
}

fn conflict<'a>(existing: i64) -> Verdict<'a> {
    rejected(Reason::VersionConflict, VERSION_CONFLICT_MESSAGE.to_owned(), existing)
}

fn kind_conflict<'a>(existing: &Candidate<'_, 'a>) -> Verdict<'a> {
    let (stands, arrives) = match existing.kind {
        MeasureKind::Scalar => ("a single value", "a MULTI record"),
        MeasureKind::Multi => ("a MULTI record", "a single value"),
    };
    let message = format!(
        "the record that stands with the same time, dimensions and measure name is {stands}; \
         {arrives} cannot replace it"
    );
    rejected(Reason::TypeConflict, message, existing.version)
}

fn type_conflict<'a>(name: &str, old: &Value<'_>, new: &Value<'_>, existing: i64) -> Verdict<'a> {
    let (old, new) = (old.value_type(), new.value_type());
    let message = format!("attribute {name:?} is {new}, but stands as {old}");
    rejected(Reason::TypeConflict, message, existing)
}

fn rejected<'a>(reason: Reason, message: String, existing: i64) -> Verdict<'a> {
    let existing_version = Some(existing);
    Verdict::Rejected(Box::new(Rejection { reason, message, existing_version, stood: Vec::new() }))
}

fn is_sorted(attributes: &[(&str, Value<'_>)]) -> bool {
    attributes.is_sorted_by(|a, b| a.0 < b.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    use MeasureKind::{Multi, Scalar};
    use Reason::{TypeConflict, VersionConflict, VersionLower};
    use Value::{Bigint, Boolean, Double, Varchar};

    type Fields = &'static [(&'static str, Value<'static>)];

    /// What a row of the table expects.
    enum Expect {
        Updated(Fields),
        Unchanged,
        Rejected(Reason),
    }
    use Expect::{Rejected, Unchanged, Updated};

    fn candidate(
        (version, kind, attributes): (i64, MeasureKind, Fields),
    ) -> Candidate<'static, 'static> {
        Candidate { version, kind, attributes }
    }

    const A1: Fields = &[("a", Bigint(1))];
    const A2: Fields = &[("a", Bigint(2))];
    const A1_B1: Fields = &[("a", Bigint(1)), ("b", Bigint(1))];
    const A2_B1: Fields = &[("a", Bigint(2)), ("b", Bigint(1))];
    const A_TEXT: Fields = &[("a", Varchar("1"))];
    const B1: Fields = &[("b", Bigint(1))];
    const B1_C1: Fields = &[("b", Bigint(1)), ("c", Boolean(true))];
    const A1_B1_C1: Fields = &[("a", Bigint(1)), ("b", Bigint(1)), ("c", Boolean(true))];
    const ZERO: Fields = &[("", Double(0.0))];
    const MINUS_ZERO: Fields = &[("", Double(-0.0))];
    const SCALAR_INT: Fields = &[("", Bigint(0))];

    #[test]
    fn the_truth_table_holds() {
        #[rustfmt::skip]
        let table = [
            // MULTI: higher, with a value that differs, is equal, adds, leaves out
            ((1, Multi, A1), (2, Multi, A2), Updated(A2)),
            ((1, Multi, A1), (2, Multi, A1), Updated(A1)),
            ((1, Multi, A1), (2, Multi, B1), Updated(A1_B1)),
            ((1, Multi, A1_B1), (2, Multi, A2), Updated(A2_B1)),
            ((1, Multi, A1), (2, Multi, B1_C1), Updated(A1_B1_C1)),
            ((-5, Multi, A1), (i64::MAX, Multi, A2), Updated(A2)),
            // MULTI: equal
            ((2, Multi, A1), (2, Multi, A1), Unchanged),
            ((2, Multi, A1_B1), (2, Multi, B1), Unchanged),
            ((2, Multi, A1), (2, Multi, B1), Updated(A1_B1)),
            ((2, Multi, A1), (2, Multi, A1_B1), Updated(A1_B1)),
            ((2, Multi, A1), (2, Multi, A2), Rejected(VersionConflict)),
            ((2, Multi, A1), (2, Multi, A2_B1), Rejected(VersionConflict)),
            // MULTI: lower, even with the same value, even if it only adds
            ((2, Multi, A1), (1, Multi, A2), Rejected(VersionLower)),
            ((2, Multi, A1), (1, Multi, A1), Rejected(VersionLower)),
            ((2, Multi, A1), (1, Multi, B1), Rejected(VersionLower)),
            // another type for one attribute
            ((1, Multi, A1), (2, Multi, A_TEXT), Rejected(TypeConflict)),
            ((2, Multi, A1), (2, Multi, A_TEXT), Rejected(TypeConflict)),
            ((2, Multi, A1), (1, Multi, A_TEXT), Rejected(VersionLower)),
            // scalar: bits decide, and a type is a value like another
            ((1, Scalar, ZERO), (2, Scalar, MINUS_ZERO), Updated(MINUS_ZERO)),
            ((1, Scalar, ZERO), (2, Scalar, ZERO), Updated(ZERO)),
            ((1, Scalar, ZERO), (2, Scalar, SCALAR_INT), Updated(SCALAR_INT)),
            ((1, Scalar, ZERO), (1, Scalar, ZERO), Unchanged),
            ((1, Scalar, ZERO), (1, Scalar, MINUS_ZERO), Rejected(VersionConflict)),
            ((1, Scalar, ZERO), (1, Scalar, SCALAR_INT), Rejected(VersionConflict)),
            ((2, Scalar, ZERO), (1, Scalar, ZERO), Rejected(VersionLower)),
            // a scalar is no MULTI
            ((1, Scalar, ZERO), (2, Multi, A1), Rejected(TypeConflict)),
            ((1, Multi, A1), (2, Scalar, ZERO), Rejected(TypeConflict)),
            ((1, Scalar, ZERO), (1, Multi, A1), Rejected(VersionConflict)),
            ((2, Multi, A1), (1, Scalar, ZERO), Rejected(VersionLower)),
        ];
        for (at, (existing, incoming, expected)) in table.into_iter().enumerate() {
            let (existing, incoming) = (candidate(existing), candidate(incoming));
            match (decide(Some(&existing), &incoming), expected) {
                (Verdict::Updated(found), Updated(expected)) => {
                    assert_eq!(found, expected, "row {at}");
                    assert!(found.iter().zip(expected).all(|(a, b)| a.1.is_same(&b.1)));
                }
                (Verdict::Unchanged, Unchanged) => {}
                (Verdict::Rejected(found), Rejected(expected)) => {
                    assert_eq!(found.reason, expected, "row {at}");
                    assert_eq!(found.existing_version, Some(existing.version), "row {at}");
                }
                (found, _) => panic!("row {at}: {found:?}"),
            }
        }
    }

    #[test]
    fn what_meets_nothing_is_stored() {
        for version in [i64::MIN, 1, i64::MAX] {
            assert_eq!(decide(None, &candidate((version, Multi, A1))), Verdict::Stored);
        }
    }

    /// Clients look for these words.
    #[test]
    fn the_messages_are_timestreams_own() {
        let standing = candidate((200, Scalar, ZERO));
        let Verdict::Rejected(lower) = decide(Some(&standing), &candidate((2, Scalar, ZERO)))
        else {
            panic!("a lower version is refused")
        };
        assert_eq!(
            lower.message,
            "The record version 2 is lower than the existing version 200. A higher version is \
             required to update the measure value."
        );
        let Verdict::Rejected(same) =
            decide(Some(&standing), &candidate((200, Scalar, MINUS_ZERO)))
        else {
            panic!("another value at the same version is refused")
        };
        assert_eq!(
            same.message,
            "A record already exists with the same time, dimensions, measure name, and record \
             version. A higher record version must be specified in order to update the measure \
             value. Specifying record version is supported by the latest SDKs."
        );
    }
}
