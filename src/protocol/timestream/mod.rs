//! The body of Timestream's `WriteRecords` to records, by Timestream's own rules: what is malformed
//! fails the whole request, and only what depends on the table is left to be refused record by record.
//!
//! | file | does |
//! |---|---|
//! | [`shape`] | JSON to the members of the request, borrowed from the body |
//! | [`usual`] | the same in one pass, for the form that SDKs write |
//! | [`merge`] | `CommonAttributes` and a record to one [`crate::record::Record`] |
//! | [`object`] | structures that are objects only |
//! | [`member`] | which member a reader's error is about |
//! | [`coral`] | violated constraints in the words that clients of Timestream know |
//!
//! Steps, each for the whole request before the next one begins:
//!
//! 1. **JSON** ([`shape::read`]): grammar and JSON types. Numbers are not taken for texts, an integer
//!    beyond 64 bits is none. [`Malformed`].
//! 2. **Constraints** of the service's model: members that must be there, lengths, lists of values;
//!    all that are violated are told at once. [`Invalid`].
//! 3. **Merge**: `CommonAttributes` under each record. Dimensions are added up, and none may stand
//!    twice; of every other member the record's own goes first. [`Invalid`] names the record's index
//!    (from 0, as `RejectedRecords` counts), the member and its value.
//!
//! This decoder is stricter than [`crate::protocol::json`] on the same shape, on purpose: there a bad
//! record costs only itself, here clients were written against a service that refuses the request.
//!
//! Source: Timestream API, `WriteRecords`, `Record`; its developer guide, "Writes".

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod coral;
pub mod member;
pub mod object;
pub mod shape;
mod usual;
mod merge;
#[cfg(test)]
mod tests;

use crate::base::class::Class;

pub use shape::Request;

/// A body that is not the JSON of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Malformed {
    /// What was found, and where.
    pub problem: String,
}

/// A request that breaks a rule, as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Invalid {
    /// Which rule, with the record's index, the member and its value.
    pub problem: String,
}

impl Malformed {
    /// Always the client's.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}

impl Invalid {
    /// Always the client's.
    pub const fn class(&self) -> Class {
        Class::Refused
    }
}
