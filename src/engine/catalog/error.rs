//! Why the catalog refuses or fails.

use std::path::PathBuf;

use super::TableId;
use crate::base::class::Class;
use crate::record::{Reason, ValueType};

/// Why the catalog could not be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A name that no database or table may have.
    #[error("{what} name {name:?} {problem}")]
    Name {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {max} {what} already, the most there may be")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A setting that a database or table may not have.
    #[error("{what}: {problem}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// What was found, and what would be right.
        problem: String,
    },
    /// There is one of that name.
    #[error("{what} {name:?} already exists")]
    Exists {
        /// A database or a table.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There is none of that name, or none any more.
    #[error("{what} {name:?} does not exist")]
    NotFound {
        /// A database or a table.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A database with tables is not deleted.
    #[error("database {database:?} has {tables} tables: delete them first")]
    NotEmpty {
        /// Its name.
        database: String,
        /// How many tables it has.
        tables: usize,
    },
    /// A record does not fit its table.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// The log could not be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log took no line, most likely since the disk is full; the same can be tried again.
    #[error("cannot append to {}; nothing was changed", path.display())]
    Unwritten {
        /// The log.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The log is not what was written.
    #[error("{} line {line}: {what}", path.display())]
    Damaged {
        /// The log.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        what: String,
    },
    /// A write or sync failed earlier; whether its change was made is known after a restart only.
    #[error("the catalog takes no more changes until a restart: {reason}")]
    Poisoned {
        /// What failed.
        reason: String,
    },
}

impl CatalogError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Name { .. }
            | Self::Limit { .. }
            | Self::Setting { .. }
            | Self::Exists { .. }
            | Self::NotFound { .. }
            | Self::NotEmpty { .. }
            | Self::Claim(_) => Class::Refused,
            Self::Unwritten { .. } => Class::Busy,
            Self::Io { .. } | Self::Damaged { .. } | Self::Poisoned { .. } => Class::Fault,
        }
    }

    pub(super) fn no_database(name: &str) -> Self {
        Self::NotFound { what: "database", name: name.to_owned() }
    }

    pub(super) fn no_table(name: &str) -> Self {
        Self::NotFound { what: "table", name: name.to_owned() }
    }
}

/// Why a record does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// An attribute came with another type than its column has.
    #[error("attribute {attribute:?} is {found}, but its column is {existing}")]
    Type {
        /// The attribute.
        attribute: String,
        /// The type it came with.
        found: ValueType,
        /// The type of its column.
        existing: ValueType,
    },
    /// The table has no room for a column more.
    #[error(
        "attribute {attribute:?} would be a new column, and the table has {columns_max} already"
    )]
    Limit {
        /// The first attribute that found no room.
        attribute: String,
        /// How many columns the table may have.
        columns_max: usize,
    },
    /// The table has no room for a name more.
    #[error("{what} {name:?} would be new, and the table has {max} already")]
    Names {
        /// A dimension or a measure name.
        what: &'static str,
        /// The name that found no room.
        name: String,
        /// How many the table may have.
        max: usize,
    },
    /// A dimension and an attribute of one table have one name.
    #[error("{name:?} is a dimension and an attribute, and a table has one column of a name")]
    Twofold {
        /// The name.
        name: String,
    },
    /// The table was deleted while the record was on its way.
    #[error("table {id} was deleted while the record was on its way")]
    Deleted {
        /// Its number.
        id: TableId,
    },
}

impl ClaimError {
    /// Why a record of the layout is refused, for programs.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Type { .. } => Reason::TypeConflict,
            Self::Limit { .. } | Self::Names { .. } | Self::Twofold { .. } => Reason::TableLimit,
            Self::Deleted { .. } => Reason::TableDeleted,
        }
    }

    /// Always the client's: other types or fewer columns would be taken.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}
