//! The upstream's words for a refused record as one of our reasons.

use super::client::Refused;
use crate::record::Reason;
use crate::record::request::Rejection;

/// Parts of the words that tell one cause. Source: Timestream API, `RejectedRecord`, `Reason`, and what
/// its clients were seen to get; `but stands as` and `cannot replace it` are Tidegate's own.
const WORDS: [(&str, Reason); 9] = [
    ("A higher version is required to update the measure value", Reason::VersionLower),
    ("A higher record version must be specified", Reason::VersionConflict),
    ("timestamp is outside the time range", Reason::TimeOutsideWindow),
    ("but stands as", Reason::TypeConflict),
    ("cannot replace it", Reason::TypeConflict),
    ("partition key", Reason::PartitionKeyMissing),
    ("was deleted", Reason::TableDeleted),
    ("measures, at most", Reason::TooManyMeasures),
    ("type", Reason::TypeConflict),
];

/// What a refused record, sent with `version`, is reported as.
pub(super) fn rejection(refused: &Refused, version: i64) -> Rejection {
    let existing_version = refused.existing_version;
    let told = WORDS.iter().find(|(words, _)| refused.reason.contains(words));
    let reason = match (told, existing_version) {
        (Some((_, reason)), _) => *reason,
        (None, Some(existing)) if existing > version => Reason::VersionLower,
        (None, Some(_)) => Reason::VersionConflict,
        // What is left of the three causes that the API documents: limits of the table.
        (None, None) => Reason::TableLimit,
    };
    Rejection { reason, message: refused.reason.clone(), existing_version, stood: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_timestream_says_becomes_the_reason_that_embedded_would_give() {
        for (words, existing, reason) in [
            (
                "The record version 2 is lower than the existing version 200. A higher version is \
                 required to update the measure value.",
                Some(200),
                Reason::VersionLower,
            ),
            (crate::engine::upsert::VERSION_CONFLICT_MESSAGE, Some(2), Reason::VersionConflict),
            (
                "The record timestamp is outside the time range [2023-11-28T06:12:10.452Z, \
                 2023-11-28T18:52:10.452Z) of the memory store.",
                None,
                Reason::TimeOutsideWindow,
            ),
            ("attribute \"a\" is VARCHAR, but stands as BIGINT", Some(2), Reason::TypeConflict),
            ("a MULTI record cannot replace it", Some(2), Reason::TypeConflict),
            ("words that nobody knows", Some(3), Reason::VersionLower),
            ("words that nobody knows", Some(2), Reason::VersionConflict),
            ("words that nobody knows", None, Reason::TableLimit),
        ] {
            let refused =
                Refused { index: 0, reason: words.to_owned(), existing_version: existing };
            let found = rejection(&refused, 2);
            assert_eq!((found.reason, found.existing_version), (reason, existing), "{words}");
            assert_eq!(found.message, words);
        }
    }
}
