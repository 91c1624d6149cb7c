//! Which Parquet columns a file has and what they are called.
//!
//! | column | Parquet type | holds |
//! |---|---|---|
//! | `time` | INT64, TIMESTAMP ns UTC | when it was measured |
//! | `measure_name` | UTF8 | what was measured |
//! | a dimension's name | UTF8, null where a series has no such dimension | its value |
//! | an attribute's name | DOUBLE, INT64, BOOLEAN, UTF8 or TIMESTAMP ns UTC, null where absent | its value |
//! | `measure_value::double` and so on | the same types | the value of scalar records |
//! | `version` | INT64 | the record's version |
//!
//! A name that another column has already gets a prefix: `dimension::` or `attribute::`. That is so
//! for a dimension whose name is empty, reserved (the names above, and `date`, by which readers call
//! the folder) or begins with one of the prefixes (`measure_value::` too), and for an attribute of
//! the same kind or with the name of a dimension of the file. What each column means stands in the
//! file's key-value metadata under `tidegate.columns`, so reading back never guesses from a name.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::record::{MeasureKind, ValueType};

use super::store::TableStore;

/// Key of the metadata that says what each column means.
pub(super) const COLUMNS_KEY: &str = "tidegate.columns";

const RESERVED: [&str; 4] = ["time", "measure_name", "version", "date"];
const PREFIXES: [&str; 3] = ["dimension::", "attribute::", "measure_value::"];

/// Everything that rows of a file may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSet {
    dimensions: BTreeSet<Box<str>>,
    scalars: BTreeSet<ValueType>,
    attributes: BTreeMap<Box<str>, ValueType>,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Role {
    Time,
    MeasureName,
    Version,
    Dimension { name: Box<str> },
    Attribute { name: Box<str>, value_type: u8 },
    Scalar { value_type: u8 },
}

/// A column: its name and what it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnSpec {
    pub(super) column: String,
    #[serde(flatten)]
    pub(super) role: Role,
}

impl ColumnSet {
    /// Adds what `row` has.
    pub fn see(&mut self, row: &crate::engine::Row<'_>) {
        for (name, _) in row.dimensions {
            self.see_dimension(name);
        }
        for (name, value) in row.attributes {
            self.see_attribute(row.kind, name, value.value_type());
        }
    }

    /// Whether the columns have room for all that `row` has.
    pub(super) fn has(&self, row: &crate::engine::Row<'_>) -> bool {
        row.dimensions.iter().all(|(name, _)| self.dimensions.contains(*name))
            && row.attributes.iter().all(|(name, value)| match row.kind {
                MeasureKind::Scalar => self.scalars.contains(&value.value_type()),
                MeasureKind::Multi => self.attributes.get(*name) == Some(&value.value_type()),
            })
    }

    /// Adds what any row of `store` may have.
    pub(super) fn see_store(&mut self, store: &TableStore) {
        for family in store.families() {
            for name in family.family().names() {
                self.see_dimension(name);
            }
        }
        for shape in store.shapes() {
            for (name, value_type) in &shape.attributes {
                self.see_attribute(shape.kind, name, *value_type);
            }
        }
    }

    /// Adds the columns of a file.
    pub(super) fn see_specs(&mut self, specs: &[ColumnSpec]) {
        let type_of =
            |number| ValueType::from_number(number).expect("checked when the file was opened");
        for spec in specs {
            match &spec.role {
                Role::Time | Role::MeasureName | Role::Version => {}
                Role::Dimension { name } => self.see_dimension(name),
                Role::Attribute { name, value_type } => {
                    self.see_attribute(MeasureKind::Multi, name, type_of(*value_type));
                }
                Role::Scalar { value_type } => {
                    self.see_attribute(MeasureKind::Scalar, "", type_of(*value_type));
                }
            }
        }
    }

    fn see_dimension(&mut self, name: &str) {
        if !self.dimensions.contains(name) {
            self.dimensions.insert(name.into());
        }
    }

    fn see_attribute(&mut self, kind: MeasureKind, name: &str, value_type: ValueType) {
        match kind {
            MeasureKind::Scalar => {
                self.scalars.insert(value_type);
            }
            MeasureKind::Multi if !self.attributes.contains_key(name) => {
                self.attributes.insert(name.into(), value_type);
            }
            MeasureKind::Multi => {}
        }
    }

    /// Whether there are scalar rows.
    pub(super) fn has_scalars(&self) -> bool {
        !self.scalars.is_empty()
    }

    /// Names and types of the attributes, sorted by name.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (&str, ValueType)> {
        self.attributes.iter().map(|(name, value_type)| (&**name, *value_type))
    }

    /// The columns in the order in which they stand in a file.
    pub(super) fn specs(&self) -> Vec<ColumnSpec> {
        let fixed = |column: &str, role| ColumnSpec { column: column.to_owned(), role };
        let mut specs = vec![fixed("time", Role::Time), fixed("measure_name", Role::MeasureName)];
        for name in &self.dimensions {
            let column =
                if is_free(name) { name.to_string() } else { format!("dimension::{name}") };
            specs.push(ColumnSpec { column, role: Role::Dimension { name: name.clone() } });
        }
        for (name, value_type) in &self.attributes {
            let is_own = is_free(name) && !self.dimensions.contains(name);
            let column = if is_own { name.to_string() } else { format!("attribute::{name}") };
            let role = Role::Attribute { name: name.clone(), value_type: value_type.number() };
            specs.push(ColumnSpec { column, role });
        }
        for value_type in &self.scalars {
            let column = format!("measure_value::{}", value_type.name().to_ascii_lowercase());
            specs.push(ColumnSpec {
                column,
                role: Role::Scalar { value_type: value_type.number() },
            });
        }
        specs.push(fixed("version", Role::Version));
        let distinct: BTreeSet<&str> = specs.iter().map(|spec| &*spec.column).collect();
        assert_eq!(distinct.len(), specs.len(), "the prefixes keep columns apart");
        specs
    }
}

/// Whether a name may be a column's as it is.
fn is_free(name: &str) -> bool {
    !name.is_empty()
        && !RESERVED.contains(&name)
        && !PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_name_of_its_own_and_says_what_it_is() {
        let mut set = ColumnSet::default();
        for name in ["", "a", "time", "date", "attribute::a", "dimension::time", "measure_value::x"]
        {
            set.see_dimension(name);
            set.see_attribute(MeasureKind::Multi, name, ValueType::Double);
        }
        set.see_attribute(MeasureKind::Multi, "b", ValueType::Varchar);
        for value_type in ValueType::ALL {
            set.see_attribute(MeasureKind::Scalar, "", value_type);
        }
        let specs = set.specs();
        assert_eq!(specs.len(), 3 + 7 + 8 + 5);
        let column = |wanted: Role| &*specs.iter().find(|spec| spec.role == wanted).unwrap().column;
        assert_eq!(column(Role::Dimension { name: "a".into() }), "a");
        assert_eq!(column(Role::Dimension { name: "date".into() }), "dimension::date");
        assert_eq!(column(Role::Attribute { name: "a".into(), value_type: 1 }), "attribute::a");
        assert_eq!(column(Role::Attribute { name: "b".into(), value_type: 4 }), "b");
        assert_eq!(column(Role::Scalar { value_type: 2 }), "measure_value::bigint");
        let json = serde_json::to_string(&specs).unwrap();
        assert_eq!(serde_json::from_str::<Vec<ColumnSpec>>(&json).unwrap(), specs);
    }
}
