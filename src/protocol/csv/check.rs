//! What is wrong with a data model, before a row was seen.

use std::collections::HashSet;

use super::model::{
    AttributeMapping, DataModel, DimensionMapping, MULTI, MixedMeasureMapping, NAME_CHARS, TYPES,
    TYPES_OR_MULTI, UNITS,
};
use crate::protocol::timestream::coral::Violations;
use crate::record::Reason;
use crate::record::limits::{ATTRIBUTES_MAX, DIMENSIONS_MAX, MEASURES_PER_RECORD_MAX};
use crate::record::validate::{Broken, strict};

const TIMESTAMP: &str = "TIMESTAMP";

/// Columns that every table has. Source: Timestream developer guide, "Data modeling".
const OWN_COLUMNS: [&str; 3] = ["time", "measure_name", "measure_value"];

/// What those begin with that hold the one value of a record.
const OWN_PREFIX: &str = "measure_value::";

const ATTRIBUTE: &str = "targetMultiMeasureAttributeName";

impl DataModel {
    /// Adds what is wrong with it to `violations`, in the words of the framework.
    pub fn check(&self, at: &str, violations: &mut Violations) {
        let mut name = |member: String, text: &Option<String>| {
            if let Some(text) = text {
                violations.length(format!("{at}.{member}"), text, &NAME_CHARS);
            }
        };
        name("timeColumn".to_owned(), &self.time_column);
        name("measureNameColumn".to_owned(), &self.measure_name_column);
        for (index, mapping) in self.dimension_mappings.iter().enumerate() {
            let at = format!("dimensionMappings.{}.member", index.saturating_add(1));
            name(format!("{at}.sourceColumn"), &mapping.source_column);
            name(format!("{at}.destinationColumn"), &mapping.destination_column);
        }
        if self.time_column.is_none() {
            violations.required(format!("{at}.timeColumn"));
        }
        let found = self.dimension_mappings.len();
        check_count(found, DIMENSIONS_MAX, &format!("{at}.dimensionMappings"), violations);
        for (index, mapping) in self.dimension_mappings.iter().enumerate() {
            if mapping.source_column.is_none() {
                let index = index.saturating_add(1);
                violations.required(format!("{at}.dimensionMappings.{index}.member.sourceColumn"));
            }
        }
        let names = self.dimension_mappings.iter().map(DimensionMapping::target);
        let targets =
            Targets { list: &format!("{at}.dimensionMappings"), member: "destinationColumn" };
        targets.check(names, violations);
        if let Some(unit) = &self.time_unit
            && !UNITS.iter().any(|(name, _)| name == unit)
        {
            violations.not_in(format!("{at}.timeUnit"), unit, &UNITS.map(|(name, _)| name));
        }
        self.check_measures(at, violations);
    }

    fn check_measures(&self, at: &str, violations: &mut Violations) {
        match &self.multi_measure_mappings {
            Some(multi) => {
                let at = format!("{at}.multiMeasureMappings");
                check_attributes(&multi.multi_measure_attribute_mappings, &at, violations);
                if multi.target_multi_measure_name.is_none() && self.measure_name_column.is_none() {
                    violations.required(format!("{at}.targetMultiMeasureName"));
                }
                if !self.mixed_measure_mappings.is_empty() {
                    let right = "Member must be null where mixedMeasureMappings are there";
                    violations.add(&at, Some(""), right);
                }
            }
            None if self.mixed_measure_mappings.is_empty() => {
                violations.required(format!("{at}.multiMeasureMappings"));
            }
            None => {}
        }
        for (index, mapping) in self.mixed_measure_mappings.iter().enumerate() {
            let index = index.saturating_add(1);
            let at = format!("{at}.mixedMeasureMappings.{index}.member");
            self.check_mixed(mapping, &at, violations);
        }
        self.check_mixed_targets(at, violations);
    }

    /// Checks that no row gives two records of one measure name, which would be one record.
    fn check_mixed_targets(&self, at: &str, violations: &mut Violations) {
        let mut seen = HashSet::new();
        for (index, mapping) in (1_usize..).zip(&self.mixed_measure_mappings) {
            let Some(target) = mapping.target() else { continue };
            // Without the column every mapping is for every row.
            let of = mapping.measure_name.as_deref().filter(|_| self.measure_name_column.is_some());
            if !seen.insert((of, target)) {
                let right = "Member must not name the target of another mapping of the same rows: they \
                             would be one record";
                let at = format!("{at}.mixedMeasureMappings.{index}.member.targetMeasureName");
                violations.add(at, Some(target), right);
            }
        }
    }

    fn check_mixed(&self, mapping: &MixedMeasureMapping, at: &str, violations: &mut Violations) {
        if self.measure_name_column.is_some() && mapping.measure_name.is_none() {
            violations.required(format!("{at}.measureName"));
        }
        match mapping.measure_value_type.as_deref() {
            None => violations.required(format!("{at}.measureValueType")),
            Some(MULTI) => {
                check_attributes(&mapping.multi_measure_attribute_mappings, at, violations);
                let names = [&mapping.target_measure_name, &mapping.measure_name];
                if names.iter().all(|name| name.is_none()) {
                    violations.required(format!("{at}.targetMeasureName"));
                }
            }
            Some(TIMESTAMP) => {
                let right = "Member must not be TIMESTAMP for a single value: only an attribute of a MULTI \
                             mapping is one";
                violations.add(format!("{at}.measureValueType"), Some(TIMESTAMP), right);
            }
            Some(other) if !TYPES_OR_MULTI.contains(&other) => {
                violations.not_in(format!("{at}.measureValueType"), other, &TYPES_OR_MULTI);
            }
            Some(_) if mapping.source_column.is_none() => {
                violations.required(format!("{at}.sourceColumn"));
            }
            Some(_) => {}
        }
        let is_scalar = mapping.measure_value_type.as_deref().is_some_and(|name| name != MULTI);
        let attributes = mapping.multi_measure_attribute_mappings.len();
        if is_scalar && attributes > 0 {
            let right = "Member must be null where measureValueType is not MULTI: the one value is that \
                         of sourceColumn";
            let at = format!("{at}.multiMeasureAttributeMappings");
            violations.add(at, Some(&in_short(attributes)), right);
        }
    }

    /// Adds the names that a strict table would refuse in every row. Source: see [`strict`].
    pub fn check_strict(&self, at: &str, violations: &mut Violations) {
        let mut rule = |path: String, name: &str, result: Result<(), Broken>| {
            if let Err((_, message)) = result {
                violations.add(format!("{at}.{path}"), Some(name), message);
            }
        };
        let mut dimensions = HashSet::new();
        for (index, mapping) in (1_usize..).zip(&self.dimension_mappings) {
            let Some(name) = mapping.target() else { continue };
            dimensions.insert(name);
            let path = format!("dimensionMappings.{index}.member.destinationColumn");
            rule(path, name, strict::dimension_name(name));
        }
        let mut attributes = |list: &str, mappings: &[AttributeMapping]| {
            let list = format!("{list}.multiMeasureAttributeMappings");
            rule(list.clone(), &in_short(mappings.len()), few(mappings));
            for (index, mapping) in (1_usize..).zip(mappings) {
                let Some(name) = mapping.target() else { continue };
                let path = format!("{list}.{index}.member.{ATTRIBUTE}");
                let is_free =
                    || if dimensions.contains(name) { Err(twofold(name)) } else { Ok(()) };
                let result = strict::measure_name("attribute name", name).and_then(|()| is_free());
                rule(path, name, result);
            }
        };
        if let Some(multi) = &self.multi_measure_mappings {
            attributes("multiMeasureMappings", &multi.multi_measure_attribute_mappings);
        }
        for (index, mapping) in (1_usize..).zip(&self.mixed_measure_mappings) {
            let list = format!("mixedMeasureMappings.{index}.member");
            attributes(&list, &mapping.multi_measure_attribute_mappings);
        }
        self.check_strict_measures(&mut rule);
    }

    fn check_strict_measures(&self, rule: &mut Judge<'_>) {
        let mut measure = |path: String, name: &str| {
            rule(path, name, strict::measure_name("measure name", name));
        };
        // Where a column has the name, each row is judged by itself.
        let multi =
            self.multi_measure_mappings.as_ref().filter(|_| self.measure_name_column.is_none());
        if let Some(name) = multi.and_then(|multi| multi.target_multi_measure_name.as_deref()) {
            measure("multiMeasureMappings.targetMultiMeasureName".to_owned(), name);
        }
        for (index, mapping) in (1_usize..).zip(&self.mixed_measure_mappings) {
            let Some(name) = mapping.target() else { continue };
            measure(format!("mixedMeasureMappings.{index}.member.targetMeasureName"), name);
        }
    }
}

/// Takes where a name stands, the name, and what a rule says of it.
type Judge<'j> = dyn FnMut(String, &str, Result<(), Broken>) + 'j;

fn few(mappings: &[AttributeMapping]) -> Result<(), Broken> {
    if mappings.len() <= MEASURES_PER_RECORD_MAX {
        return Ok(());
    }
    let message =
        format!("Member must have length less than or equal to {MEASURES_PER_RECORD_MAX}");
    Err((Reason::TooManyMeasures, message))
}

fn twofold(name: &str) -> Broken {
    let message = format!("{name:?} is a dimension too: a table has one column of a name");
    (Reason::TableLimit, message)
}

/// Checks that a list has at least one mapping, and no more than a record can have.
fn check_count(found: usize, most: usize, at: &str, violations: &mut Violations) {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    violations.range(at, number(found), &(1..=number(most)), Some(&in_short(found)));
}

/// A list of mappings, by their number: a message has no room for them.
fn in_short(count: usize) -> String {
    if count == 0 { "[]".to_owned() } else { format!("[{count} mappings]") }
}

fn check_attributes(mappings: &[AttributeMapping], at: &str, violations: &mut Violations) {
    let at = format!("{at}.multiMeasureAttributeMappings");
    check_count(mappings.len(), ATTRIBUTES_MAX, &at, violations);
    let targets = Targets { list: &at, member: ATTRIBUTE };
    targets.check(mappings.iter().map(AttributeMapping::target), violations);
    for (index, mapping) in mappings.iter().enumerate() {
        let at = format!("{at}.{}.member", index.saturating_add(1));
        match &mapping.source_column {
            None => violations.required(format!("{at}.sourceColumn")),
            Some(name) => violations.length(format!("{at}.sourceColumn"), name, &NAME_CHARS),
        }
        if let Some(name) = &mapping.target_multi_measure_attribute_name {
            let at = format!("{at}.targetMultiMeasureAttributeName");
            violations.length(at, name, &NAME_CHARS);
        }
        match mapping.measure_value_type.as_deref() {
            // A type that is guessed is a column that the next file does not fit.
            None => violations.required(format!("{at}.measureValueType")),
            Some(name) if !TYPES.contains(&name) => {
                violations.not_in(format!("{at}.measureValueType"), name, &TYPES);
            }
            Some(_) => {}
        }
    }
}

/// A list of mappings that each make a column of the table.
struct Targets<'t> {
    list: &'t str,
    /// The member that names the target.
    member: &'t str,
}

impl Targets<'_> {
    /// Checks that no two have one target, since all but the last value of a row would be lost, and none
    /// that of a column which every table has.
    fn check<'m>(&self, names: impl Iterator<Item = Option<&'m str>>, violations: &mut Violations) {
        let Self { list, member } = self;
        let mut seen = HashSet::new();
        for (index, name) in (1_usize..).zip(names) {
            let Some(name) = name else { continue };
            let at = format!("{list}.{index}.member.{member}");
            if !seen.insert(name) {
                let right = "Member must not name the target of another mapping";
                violations.add(at, Some(name), right);
            } else if OWN_COLUMNS.contains(&name) || name.starts_with(OWN_PREFIX) {
                let right = "Member must be another name than time, measure_name and \
                             measure_value::TYPE, which are columns of every table";
                violations.add(at, Some(name), right);
            }
        }
    }
}
