//! Carrying out erasures: files that hold rows which are erased are written anew without them.
//!
//! What an erasure means, and why its rows are seen by nobody from the moment it is durable, stands in
//! [`crate::engine::catalog::erasure`]. Here its rows leave the disk:
//!
//! 1. Nothing is done before everything up to the erasure's last frame is in files: from then on no
//!    replay and no flush can bring one of its rows.
//! 2. Each file of the table whose runs ([`super::runs`]) have the erasure's values is written anew
//!    without the rows, by the commit of all files ([`super::magnetic`]); one that has no others goes.
//! 3. The catalog hears that the erasure was carried out.
//!
//! A crash before 3 repeats 2, which then finds nothing. Where a flush has replaced a file meanwhile,
//! what was written is thrown away, and the erasure stays in force until the next pass. Merges cannot
//! interfere: the same thread does them.
//!
//! The thread `engine-compact` does it once a pass, so **an erased row has left the files one pass after
//! the flush of the last frame that could hold it**: `flush_interval` and two seconds or so. Until then it
//! stands in files that other programs read, in the memory store or in the log; the log's own copy goes
//! when its segment is written over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::lsn::Lsn;
use crate::engine::catalog::erasure::hash_of;
use crate::engine::catalog::{Erasure, Hidden, Table};
use crate::engine::{EngineError, TimeRange};
use crate::record::TableId;

use super::columns::ColumnSet;
use super::commit::{Changes, Written};
use super::compact::GROUP_BYTES;
use super::file_out::{FileOut, Finished, Target};
use super::flusher::{Inner, lock};
use super::io_error;
use super::magnetic::MagneticFile;
use super::names::SeriesNames;
use super::parquet_read::Part;
use super::parquet_write::{GROUP_ROWS, Pick};
use super::store::{SeriesId, Stamp, TableStore};

/// Rows that are read at a time: some of them may be long texts.
const BATCH_ROWS: usize = 1024;

impl Inner {
    /// Carries out the erasures that can be, now.
    pub(super) fn erase(&self, stored: Lsn) -> Result<(), EngineError> {
        let mut due: BTreeMap<TableId, Vec<Arc<Erasure>>> = BTreeMap::new();
        for erasure in self.catalog.erasures_due(stored) {
            due.entry(erasure.table).or_default().push(erasure);
        }
        for (id, erasures) in due {
            let Some(table) = self.catalog.get(id) else { continue };
            let Some(rows) = self.erase_in_table(&table, &erasures)? else { continue };
            let ended = self.catalog.carried_out(&erasures);
            ended.map_err(|error| io_error("end an erasure of", &self.options.dir, error))?;
            tracing::info!(erasures = erasures.len(), rows, table = %table.name, "erased");
        }
        Ok(())
    }

    /// Writes the table's files anew where they must be. Returns how many rows are gone; `None` where
    /// it could not look at all of them.
    fn erase_in_table(
        &self,
        table: &Table,
        erasures: &[Arc<Erasure>],
    ) -> Result<Option<u64>, EngineError> {
        let hidden = Hidden::of(erasures.iter().map(Arc::clone));
        let files = self.magnetic.files(|files| files.table(table.id));
        let mut rows = 0;
        for file in files.iter().flat_map(|files| files.iter()) {
            if self.is_ending() {
                return Ok(None);
            }
            if !self.may_have(file, erasures)? {
                continue;
            }
            match self.erase_in_file(table, file, &hidden)? {
                Some(gone) => rows += gone,
                None => return Ok(None),
            }
        }
        Ok(Some(rows))
    }

    fn may_have(
        &self,
        file: &MagneticFile,
        erasures: &[Arc<Erasure>],
    ) -> Result<bool, EngineError> {
        let names_of = |erasure: &Arc<Erasure>| -> Vec<Box<str>> {
            erasure.dimensions.iter().map(|(name, _)| name.clone()).collect()
        };
        let lists: BTreeSet<Vec<Box<str>>> = erasures.iter().map(names_of).collect();
        for names in &lists {
            let borrowed: Vec<&str> = names.iter().map(|name| &**name).collect();
            let runs = self.runs.of(file, &borrowed)?;
            let of_names = erasures.iter().filter(|erasure| names_of(erasure) == *names);
            let mut hashes =
                of_names.map(|erasure| hash_of(erasure.dimensions.iter().map(|(_, v)| &**v)));
            if hashes.any(|hash| !runs.of(hash).is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes one file anew, if it has erased rows. Returns how many; `None` where a flush was faster.
    fn erase_in_file(
        &self,
        table: &Table,
        file: &Arc<MagneticFile>,
        hidden: &Hidden,
    ) -> Result<Option<u64>, EngineError> {
        let meta = &file.meta;
        let target = self.magnetic.target(table, meta.day, meta.number, meta.generation + 1)?;
        let written = self.write_without(&target, file, hidden);
        let is_needed = matches!(&written, Ok((_, gone)) if *gone > 0);
        if !is_needed && target.path.exists() {
            let removed = self.magnetic.disk().remove(&target.path);
            removed.map_err(|error| io_error("delete", &target.path, error))?;
        }
        let (finished, gone) = written?;
        if gone == 0 {
            return Ok(Some(0));
        }
        let left = finished.as_ref().map_or(0, |finished| finished.meta.rows);
        assert_eq!(left + gone, meta.rows, "every other row was written again");
        let mut changes = Changes::default();
        match finished {
            Some(finished) => {
                let replaces = Some(Arc::clone(file));
                let written = Written::new(&self.magnetic, &target, replaces, finished);
                changes.written.push(written);
            }
            None => changes.removed.push(Arc::clone(file)),
        }
        let mut manifest = lock(&self.manifest);
        let of_day = self.magnetic.files(|files| files.day(table.id, meta.day));
        if !of_day.is_some_and(|day| day.iter().any(|counted| Arc::ptr_eq(counted, file))) {
            drop(manifest);
            changes.discard();
            return Ok(None);
        }
        self.commit_tidied(&changes, &mut manifest)?;
        Ok(Some(gone))
    }

    /// Writes the rows of a file that are not erased. Returns what was written, and how many were not.
    fn write_without(
        &self,
        target: &Target,
        file: &MagneticFile,
        hidden: &Hidden,
    ) -> Result<(Option<Finished>, u64), EngineError> {
        let reader = file.open()?;
        let mut columns = ColumnSet::default();
        columns.see_specs(reader.specs());
        let mut out = FileOut::new(target, columns, self.magnetic.disk());
        let (mut group, mut picks, mut gone) = (TableStore::default(), Vec::new(), 0);
        let groups = (0..reader.groups()).collect();
        let mut batches = reader.batches(groups, Part::Whole, BATCH_ROWS)?;
        loop {
            let mut batch = TableStore::default();
            if !batches.next(TimeRange::ALL, &mut batch)? {
                break;
            }
            for (at, key) in (0..).map(SeriesId).zip(batch.keys().iter()) {
                let dimensions: Vec<_> = key.dimensions().collect();
                for &id in batch.rows_of(at) {
                    let row = batch.row(id);
                    if hidden.hides(&dimensions, row.version()) {
                        gone += 1;
                        continue;
                    }
                    if picks.len() == GROUP_ROWS || group.bytes() >= GROUP_BYTES {
                        out.write_group(&[&group], &SeriesNames::of(&group), &picks)?;
                        (group, picks) = (TableStore::default(), Vec::new());
                    }
                    let series = group.series(&key.wanted(), || i64::MIN);
                    let layout = group.layout(row.shape.kind, &row.shape.borrowed());
                    let stamp = Stamp { time_ns: row.time_ns(), version: row.version() };
                    let values = row.chunk.columns.iter().map(|column| column.value(row.row));
                    let row = group.append_values(series, stamp, layout, values);
                    picks.push(Pick { source: 0, series: series.0, row });
                }
            }
        }
        if !picks.is_empty() {
            out.write_group(&[&group], &SeriesNames::of(&group), &picks)?;
        }
        Ok((out.finish()?, gone))
    }
}
