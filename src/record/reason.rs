//! Why a record was refused: a closed list, for programs. The code of a reason stands in replies,
//! rejection reports, logs and metric labels and never changes its meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $code:literal, $remedy:literal;)+) => {
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
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What whoever wants the record stored can do about it, one sentence.
            pub const fn remedy(self) -> &'static str {
                match self { $(Self::$name => $remedy,)+ }
            }
        }
    };
}

reasons! {
    /// The text does not follow the protocol's grammar.
    InvalidSyntax = 1, "invalid_syntax",
        "Mend the text at the column that the message names, and send it with `--line` or `--json`.";
    /// The text is not UTF-8.
    InvalidUtf8 = 2, "invalid_utf8",
        "Encode the text as UTF-8, and send it with `--line` or `--json`.";
    /// The record measures nothing: no field, no measure value.
    NoMeasure = 3, "no_measure",
        "Add a field or measure value: `--set measure.NAME:TYPE=VALUE`, or `--line`, `--json`.";
    /// A value is malformed, does not fit its type, or is not finite.
    InvalidValue = 4, "invalid_value",
        "Correct the value that the message names: `--set measure.NAME=VALUE`, `--set dimension.NAME=VALUE`, or `--line`, `--json`.";
    /// The time is malformed or beyond what 64-bit nanoseconds hold.
    InvalidTime = 5, "invalid_time",
        "Correct the time: `--set time=TIME` (RFC 3339, or an integer with its unit, as `1767225600s`), or `--line`, `--json`; or say the unit that was meant with `--precision`.";
    /// The version is not an integer from 1 to 2^63-1.
    InvalidVersion = 6, "invalid_version",
        "Send it with a version from 1 on: `--set version=N`, or `--line`, `--json`.";
    /// One dimension name stands twice in a record.
    DuplicateDimension = 7, "duplicate_dimension",
        "Say which one is right: `--set dimension.NAME=VALUE`; or leave the other out with `--line`, `--json`.";
    /// The record has no dimension, and the settings ask to refuse that.
    NoDimension = 8, "no_dimension",
        "Add one with `--set dimension.NAME=VALUE`, or give all records a default (`ingest.default_dimension`).";
    /// A name is reserved or holds characters that it must not.
    InvalidName = 9, "invalid_name",
        "Choose another name with `--line` or `--json`; the message says what a name may hold.";
    /// A name is longer than its limit.
    NameTooLong = 10, "name_too_long",
        "Shorten the name with `--line` or `--json`.";
    /// A value is longer than its limit.
    ValueTooLong = 11, "value_too_long",
        "Shorten the value: `--set measure.NAME=VALUE`, `--set dimension.NAME=VALUE`, or `--line`, `--json`.";
    /// The record has more dimensions than its limit.
    TooManyDimensions = 12, "too_many_dimensions",
        "Leave dimensions out with `--line` or `--json`; what changes with every record is a measure.";
    /// The record has more measures than its limit.
    TooManyMeasures = 13, "too_many_measures",
        "Split the record into several of fewer measures, of the same time and dimensions, and send them together with `--line-file`.";
    /// The record or its line is larger than its limit.
    RecordTooLarge = 14, "record_too_large",
        "Shorten its values with `--set measure.NAME=VALUE`, or split it, and send the parts together with `--line-file`.";
    /// An attribute came with another type than its column has.
    TypeConflict = 15, "type_conflict",
        "Send the type that the column has: `--set measure.NAME:TYPE=VALUE`; or give the new type another name with `--line` or `--json`.";
    /// The table would exceed a limit of its own: columns, measure names.
    TableLimit = 16, "table_limit",
        "Write to another table, or let go of names that change with every record, with `--line` or `--json`.";
    /// The database or table does not exist, and is not made.
    TableNotFound = 17, "table_not_found",
        "Make the database or table, or allow that it is made (`ingest.create_tables`), and send it again as it is.";
    /// The table was deleted while the record was on its way.
    TableDeleted = 18, "table_deleted",
        "Make the table again, and send it again as it is; or leave it, since the table was deleted on purpose.";
    /// The stored record has a higher version.
    VersionLower = 19, "version_lower",
        "Nothing, if the newer record is right; else send it with a version above the one that stands: `--set version=next`.";
    /// The stored record has the same version and another value.
    VersionConflict = 20, "version_conflict",
        "Compare it with the value that stood; if this one is right, send it with a higher version: `--set version=next`.";
    /// The time is outside the table's retention window.
    TimeOutsideWindow = 21, "time_outside_window",
        "Lengthen the table's retention or allow late writes, or correct the time: `--set time=TIME`.";
    /// The record lacks the dimension that the table's partition key requires.
    PartitionKeyMissing = 22, "partition_key_missing",
        "Add the dimension that the message names: `--set dimension.NAME=VALUE`.";
    /// The request was refused as a whole because of another record in it.
    NotTaken = 23, "not_taken",
        "Mend the other record that the message names; this one is sent again as it is.";
    /// The sender may not write to the database that the record names.
    Forbidden = 24, "forbidden",
        "Give the sender's token the right to write to that database, and send it again as it is.";
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
            assert!(reason.meaning().ends_with('.') && reason.remedy().ends_with('.'));
        }
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert_eq!(Reason::from_number(0), None);
    }
}
