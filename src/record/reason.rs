//! Why a record was refused: a closed list, for programs. The code of a reason stands in replies,
//! rejection reports, logs and metric labels and never changes its meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $code:literal;)+) => {
        /// Why a record was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ #[serde(rename = $code)] $name = $number,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason's code, as replies and reports print it.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }

            /// The reason with this number in a payload.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$name),)+ _ => None }
            }

            /// One sentence of what it means.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

reasons! {
    /// The text does not follow the protocol's grammar.
    InvalidSyntax = 1, "invalid_syntax";
    /// The text is not UTF-8.
    InvalidUtf8 = 2, "invalid_utf8";
    /// The record measures nothing: no field, no measure value.
    NoMeasure = 3, "no_measure";
    /// A value is malformed, does not fit its type, or is not finite.
    InvalidValue = 4, "invalid_value";
    /// The time is malformed or beyond what 64-bit nanoseconds hold.
    InvalidTime = 5, "invalid_time";
    /// The version is not an integer from 1 to 2^63-1.
    InvalidVersion = 6, "invalid_version";
    /// One dimension name stands twice in a record.
    DuplicateDimension = 7, "duplicate_dimension";
    /// The record has no dimension, and the settings ask to refuse that.
    NoDimension = 8, "no_dimension";
    /// A name is reserved or holds characters that it must not.
    InvalidName = 9, "invalid_name";
    /// A name is longer than its limit.
    NameTooLong = 10, "name_too_long";
    /// A value is longer than its limit.
    ValueTooLong = 11, "value_too_long";
    /// The record has more dimensions than its limit.
    TooManyDimensions = 12, "too_many_dimensions";
    /// The record has more measures than its limit.
    TooManyMeasures = 13, "too_many_measures";
    /// The record or its line is larger than its limit.
    RecordTooLarge = 14, "record_too_large";
    /// An attribute came with another type than its column has.
    TypeConflict = 15, "type_conflict";
    /// The table would exceed a limit of its own: columns, measure names.
    TableLimit = 16, "table_limit";
    /// The database or table does not exist, and is not made.
    TableNotFound = 17, "table_not_found";
    /// The table was deleted while the record was on its way.
    TableDeleted = 18, "table_deleted";
    /// The stored record has a higher version.
    VersionLower = 19, "version_lower";
    /// The stored record has the same version and another value.
    VersionConflict = 20, "version_conflict";
    /// The time is outside the table's retention window.
    TimeOutsideWindow = 21, "time_outside_window";
    /// The record lacks the dimension that the table's partition key requires.
    PartitionKeyMissing = 22, "partition_key_missing";
    /// The request was refused as a whole because of another record in it.
    NotTaken = 23, "not_taken";
    /// The sender may not write to the database that the record names.
    Forbidden = 24, "forbidden";
}

impl Reason {
    /// Its number in a payload.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Whether Timestream refuses a whole request for it, as opposed to the one record. Whoever decodes
    /// its API decides for the request; elsewhere every reason refuses one record.
    /// Source: Timestream API, `WriteRecords`, `ValidationException` and `RejectedRecordsException`.
    pub const fn refuses_request(self) -> bool {
        match self {
            Self::InvalidSyntax
            | Self::InvalidUtf8
            | Self::NoMeasure
            | Self::InvalidValue
            | Self::InvalidTime
            | Self::InvalidVersion
            | Self::DuplicateDimension
            | Self::NoDimension
            | Self::InvalidName
            | Self::NameTooLong
            | Self::ValueTooLong
            // The list of a record's dimensions is limited by the request's shape, the table's by none.
            | Self::TooManyDimensions
            | Self::TableNotFound
            | Self::NotTaken
            | Self::Forbidden => true,
            Self::TooManyMeasures
            | Self::RecordTooLarge
            | Self::TypeConflict
            | Self::TableLimit
            | Self::TableDeleted
            | Self::VersionLower
            | Self::VersionConflict
            | Self::TimeOutsideWindow
            | Self::PartitionKeyMissing => false,
        }
    }

    /// Whether a limit was reached, as opposed to data that is wrong in itself.
    pub const fn is_limit(self) -> bool {
        matches!(
            self,
            Self::NameTooLong
                | Self::ValueTooLong
                | Self::TooManyDimensions
                | Self::TooManyMeasures
                | Self::RecordTooLarge
                | Self::TableLimit
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Timestream was seen, or documents, to answer per record; all else fails the request.
    #[test]
    fn a_limit_of_the_table_a_time_and_a_version_refuse_the_record_alone() {
        let per_record: Vec<&str> = Reason::ALL
            .iter()
            .filter(|reason| !reason.refuses_request())
            .map(|reason| reason.code())
            .collect();
        assert_eq!(
            per_record,
            [
                "too_many_measures",
                "record_too_large",
                "type_conflict",
                "table_limit",
                "table_deleted",
                "version_lower",
                "version_conflict",
                "time_outside_window",
                "partition_key_missing",
            ]
        );
    }

    #[test]
    fn every_reason_is_found_by_its_number_and_has_a_code_of_its_own() {
        let mut codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        for reason in Reason::ALL {
            assert_eq!(Reason::from_number(reason.number()), Some(*reason));
            assert!(!reason.meaning().is_empty());
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert_eq!(Reason::from_number(0), None);
    }
}
