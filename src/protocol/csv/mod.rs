//! CSV: rows of text become records by a data model, as Timestream's batch load describes them.
//!
//! | file | does |
//! |---|---|
//! | [`rows`] | bytes to rows: bounded, with the exact lines of each |
//! | [`model`] | the data model and the form of the file, as they are sent |
//! | `check` | what is wrong with a model |
//! | `given` | models in files and objects |
//! | [`plan`] | a model and a header, compiled once: from a row to its records |
//!
//! # What a row becomes
//!
//! The first row is the header. A row has as many fields as it. An empty field, and one that is the
//! `NullValue`, is nothing: a dimension or a measure that the record does not have.
//!
//! | the model has | records of a row | measure name |
//! |---|---|---|
//! | `MultiMeasureMappings` | one MULTI record | the field of `MeasureNameColumn`, or `TargetMultiMeasureName` |
//! | `MixedMeasureMappings` and `MeasureNameColumn` | those whose `MeasureName` is the field | `TargetMeasureName`, or that field |
//! | `MixedMeasureMappings` alone | one of each | `TargetMeasureName`, or `MeasureName`, or `SourceColumn` |
//!
//! A row is taken with all of its records or not at all. Time and TIMESTAMP measures are integers in
//! the model's `TimeUnit`. Source: Timestream developer guide, "Batch load"; API, `DataModel`.

pub mod rows;
pub mod model;
mod check;
mod given;
pub mod plan;

#[cfg(test)]
mod tests;
