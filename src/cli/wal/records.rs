//! The records in a frame as rows, with the names of their tables.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Failure;
use crate::base::lsn::Lsn;
use crate::engine::Row;
use crate::engine::catalog::{Catalog, Table};
use crate::record::TableId;
use crate::record::codec::{CodecError, Payload, RecordView, RefusedLine};

/// The names of tables, read from the catalog of a data folder without opening it.
#[derive(Debug)]
pub(super) struct Names {
    dir: PathBuf,
    tables: HashMap<TableId, Arc<Table>>,
    /// Tables that the catalog did not have when it was read after their frame.
    unknown: HashSet<TableId>,
}

/// What a frame holds.
pub(super) enum Held<'a> {
    /// A record of a table.
    Record(&'a Table, &'a Row<'a>),
    /// A record of a table that the catalog does not have.
    Unknown(TableId),
    /// A line that was refused when it came.
    Refused(RefusedLine<'a>),
}

impl Names {
    pub(super) fn read(dir: &Path) -> Result<Self, Failure> {
        let mut names =
            Self { dir: dir.to_owned(), tables: HashMap::new(), unknown: HashSet::new() };
        names.refresh()?;
        Ok(names)
    }

    /// Ends the command where there is no catalog at all, so that no record has a name.
    pub(super) fn need_catalog(&self) -> Result<(), Failure> {
        if Catalog::is_begun(&self.dir).map_err(Failure::failed)? {
            return Ok(());
        }
        Err(Failure::failed(format!(
            "catalog.log in {} is missing or empty: without it no record has the name of its table; \
             put it back first",
            self.dir.display()
        )))
    }

    fn refresh(&mut self) -> Result<(), Failure> {
        let tables = Catalog::read_only(&self.dir).map_err(Failure::failed)?;
        self.tables = tables.into_iter().map(|table| (table.id, table)).collect();
        Ok(())
    }

    fn find(&mut self, id: TableId) -> Result<Option<Arc<Table>>, Failure> {
        if !self.tables.contains_key(&id) && !self.unknown.contains(&id) {
            // A server may have made it since: always before a record of it is in the log. So one that
            // is not there now never will be.
            self.refresh()?;
            if !self.tables.contains_key(&id) {
                self.unknown.insert(id);
            }
        }
        Ok(self.tables.get(&id).map(Arc::clone))
    }

    /// What is wrong where records of a table have no name.
    pub(super) fn no_table(&self, id: TableId) -> Failure {
        Failure::failed(format!(
            "the catalog in {} has no table {id}: catalog.log is missing or lost its end, or the table \
             was deleted so long ago that its name is forgotten",
            self.dir.display()
        ))
    }

    /// Hands everything in the frame to `each`, which ends it with an error.
    pub(super) fn each(
        &mut self,
        lsn: Lsn,
        payload: &[u8],
        each: &mut dyn FnMut(Held<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let unreadable =
            |error: CodecError| Failure::failed(format!("the frame of LSN {lsn}: {error}"));
        let payload = Payload::open(payload).map_err(unreadable)?;
        let (mut families, mut layouts) = (Vec::new(), Vec::new());
        payload.dictionary(&mut families, &mut layouts).map_err(unreadable)?;
        for section in 0..payload.sections() {
            for view in payload.section(section, &families, &layouts) {
                let view = view.map_err(unreadable)?;
                let Some(table) = self.find(view.family.table)? else {
                    each(Held::Unknown(view.family.table))?;
                    continue;
                };
                with_row(&view, &mut |row| each(Held::Record(&table, row)))
                    .map_err(unreadable)??;
            }
        }
        for line in payload.refused_lines() {
            each(Held::Refused(line.map_err(unreadable)?))?;
        }
        Ok(())
    }
}

/// Whether a payload holds what `wal salvage` puts in the place of a lost frame: nothing, received at
/// no time. A request always has a time of receipt.
pub(super) fn is_filler(payload: &[u8]) -> bool {
    Payload::open(payload).is_ok_and(|payload| {
        payload.records() == 0 && payload.refused_count() == 0 && payload.received_ns() == 0
    })
}

fn with_row<T>(
    view: &RecordView<'_>,
    with: &mut dyn FnMut(&Row<'_>) -> T,
) -> Result<T, CodecError> {
    let dimensions: Vec<_> = view.dimensions().collect();
    let mut attributes = Vec::with_capacity(view.layout.attributes);
    for ((_, name), value) in view.layout.entries().zip(view.values()) {
        attributes.push((name, value?));
    }
    // As an export has them; a request may name them in any order.
    attributes.sort_by_key(|(name, _)| *name);
    Ok(with(&Row {
        measure_name: view.family.measure_name,
        dimensions: &dimensions,
        kind: view.layout.kind,
        attributes: &attributes,
        time_ns: view.time_ns,
        version: view.version,
    }))
}
