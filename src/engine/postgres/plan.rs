//! What a batch needs of its table, and which of its records the table can have.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::names::{Role, series_of};
use super::param::{Uuid, split};
use super::schema::{Needs, Relation, Unmet};
use crate::engine::EngineError;
use crate::record::codec::{CodecError, Family, Layout, RecordView};
use crate::record::request::{Attributes, Outcome, Rejection};
use crate::record::{MeasureKind, Reason, Value, ValueType};

/// What a text of PostgreSQL cannot hold, whatever its encoding.
const NUL: char = '\0';

/// What names a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) series: Uuid,
    pub(super) time_us: i64,
    pub(super) ns: i16,
}

impl Key {
    /// The key of a record.
    pub(super) fn of(view: &RecordView<'_>) -> Self {
        let (time_us, ns) = split(view.time_ns);
        Self { series: Uuid(series_of(view)), time_us, ns }
    }
}

/// A record that can be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'p, 'a> {
    /// Its place in the batch.
    pub(super) at: usize,
    pub(super) key: Key,
    pub(super) view: &'p RecordView<'a>,
    /// Columns of its dimensions, in the order of the family's names.
    pub(super) dimensions: &'p [u16],
    /// Columns of its attributes, in the order of the layout.
    pub(super) attributes: &'p [u16],
}

impl<'a> Item<'_, 'a> {
    pub(super) const fn kind(&self) -> MeasureKind {
        self.view.layout.kind
    }

    /// The attributes, sorted by name; of one that is named twice the later counts.
    pub(super) fn sorted(&self) -> Result<Attributes<'a>, CodecError> {
        let mut attributes = Attributes::with_capacity(self.view.layout.attributes);
        for ((_, name), value) in self.view.layout.entries().zip(self.view.values()) {
            attributes.push((name, value?));
        }
        attributes.sort_by_key(|attribute| attribute.0);
        attributes.reverse();
        attributes.dedup_by_key(|attribute| attribute.0);
        attributes.reverse();
        Ok(attributes)
    }
}

type ByBytes<'a, T> = HashMap<&'a [u8], T, RandomState>;

/// The columns of a batch's families and layouts, or why the table has none for them.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) relation: Arc<Relation>,
    families: ByBytes<'a, Result<Vec<u16>, Rejection>>,
    layouts: ByBytes<'a, Result<Vec<u16>, Rejection>>,
}

impl<'a> Plan<'a> {
    /// The plan for `records`, or what the table lacks for them.
    pub(super) fn of(
        relation: &Arc<Relation>,
        columns_max: usize,
        records: &[RecordView<'a>],
    ) -> Result<Self, Needs> {
        let mut needs = Needs::default();
        let mut plan = Self {
            relation: Arc::clone(relation),
            families: HashMap::default(),
            layouts: HashMap::default(),
        };
        let (mut last_family, mut last_layout): (&[u8], &[u8]) = (&[], &[]);
        for record in records {
            let (family, layout) = (record.family, record.layout);
            if !std::ptr::eq(family.bytes, last_family) {
                last_family = family.bytes;
                if !plan.families.contains_key(family.bytes) {
                    let columns = plan.family(family, &mut needs);
                    plan.families.insert(family.bytes, columns);
                }
            }
            if !std::ptr::eq(layout.bytes, last_layout) {
                last_layout = layout.bytes;
                if !plan.layouts.contains_key(layout.bytes) {
                    let columns = plan.layout(layout, columns_max, &mut needs);
                    plan.layouts.insert(layout.bytes, columns);
                }
            }
        }
        if needs.is_empty() { Ok(plan) } else { Err(needs) }
    }

    fn family(&self, family: &Family<'a>, needs: &mut Needs) -> Result<Vec<u16>, Rejection> {
        if family.measure_name.contains(NUL) || family.names().any(|name| name.contains(NUL)) {
            return Err(nul(Reason::InvalidName, "a name"));
        }
        let mut columns = Vec::with_capacity(family.dimensions);
        for name in family.names() {
            match self.relation.dimension(name) {
                Ok(column) => columns.push(column),
                Err(Unmet::Missing) => needs.dimensions.push(name.into()),
                Err(Unmet::Refused(error)) => return Err(refused(&error)),
            }
        }
        Ok(columns)
    }

    fn layout(
        &self,
        layout: &Layout<'a>,
        columns_max: usize,
        needs: &mut Needs,
    ) -> Result<Vec<u16>, Rejection> {
        if layout.entries().any(|(_, name)| name.contains(NUL)) {
            return Err(nul(Reason::InvalidName, "a name"));
        }
        let columns = match layout.kind {
            MeasureKind::Multi => self.relation.layout(layout.entries(), columns_max),
            MeasureKind::Scalar => {
                layout.entries().map(|(value_type, _)| self.relation.scalar(value_type)).collect()
            }
        };
        match columns {
            Ok(columns) => Ok(columns),
            Err(Unmet::Refused(error)) => Err(refused(&error)),
            Err(Unmet::Missing) => {
                match layout.kind {
                    MeasureKind::Multi => needs.layouts.push(
                        layout
                            .entries()
                            .map(|(value_type, name)| (name.into(), value_type))
                            .collect(),
                    ),
                    MeasureKind::Scalar => {
                        needs.scalars.extend(layout.entries().map(|(value_type, _)| value_type));
                    }
                }
                Ok(Vec::new())
            }
        }
    }

    /// The records that can be written, and in `outcomes` what became of the others.
    pub(super) fn items<'p>(
        &'p self,
        records: &'p [RecordView<'a>],
        alive_from_ns: i64,
        outcomes: &mut [Option<Outcome>],
    ) -> Result<Vec<Item<'p, 'a>>, EngineError> {
        assert_eq!(records.len(), outcomes.len(), "one outcome a record");
        let mut items = Vec::with_capacity(records.len());
        for (at, view) in records.iter().enumerate() {
            let of_family = &self.families[view.family.bytes];
            let of_layout = &self.layouts[view.layout.bytes];
            // As the embedded engine decides it: the layout, then the retention, then the rest.
            let columns = match (of_layout, of_family) {
                (Err(rejection), _) => Err(rejection.clone()),
                _ if view.time_ns < alive_from_ns => {
                    outcomes[at] = Some(Outcome::Stored);
                    continue;
                }
                (_, Err(rejection)) => Err(rejection.clone()),
                (Ok(attributes), Ok(dimensions)) if !has_nul(view)? => Ok((dimensions, attributes)),
                _ => Err(nul(Reason::InvalidValue, "a value")),
            };
            match columns {
                Err(rejection) => outcomes[at] = Some(Outcome::Rejected(Box::new(rejection))),
                Ok((dimensions, attributes)) => {
                    items.push(Item { at, key: Key::of(view), view, dimensions, attributes });
                }
            }
        }
        Ok(items)
    }
}

/// Why no table can have the record, whatever its columns are, if none can.
pub(super) fn unstorable(view: &RecordView<'_>) -> Result<Option<Box<Rejection>>, CodecError> {
    let family = view.family;
    let mut names = family.names().chain(view.layout.entries().map(|(_, name)| name));
    if family.measure_name.contains(NUL) || names.any(|name| name.contains(NUL)) {
        return Ok(Some(Box::new(nul(Reason::InvalidName, "a name"))));
    }
    Ok(has_nul(view)?.then(|| Box::new(nul(Reason::InvalidValue, "a value"))))
}

/// Whether one of the record's texts has a character that PostgreSQL cannot store.
fn has_nul(view: &RecordView<'_>) -> Result<bool, CodecError> {
    // Most records have no such byte at all, be it in a number.
    if memchr::memchr(0, view.series_values).is_none() && memchr::memchr(0, view.values).is_none() {
        return Ok(false);
    }
    if view.dimensions().any(|(_, value)| value.contains(NUL)) {
        return Ok(true);
    }
    for value in view.values() {
        if let Value::Varchar(text) = value?
            && text.contains(NUL)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn nul(reason: Reason, what: &str) -> Rejection {
    let message = format!("{what} has the character U+0000, which PostgreSQL cannot store");
    Rejection { reason, message, existing_version: None, stood: Vec::new() }
}

fn refused(error: &crate::engine::catalog::ClaimError) -> Rejection {
    let (reason, message) = (error.reason(), error.to_string());
    Rejection { reason, message, existing_version: None, stood: Vec::new() }
}

/// The type of a column's values.
pub(super) fn value_type_of(role: &Role) -> ValueType {
    match role {
        Role::Dimension(_) => ValueType::Varchar,
        Role::Attribute(_, value_type) | Role::Scalar(value_type) => *value_type,
    }
}
