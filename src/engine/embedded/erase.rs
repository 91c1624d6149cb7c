//! Carrying out erasures: files that hold rows which are erased are written anew without them.
//!
//! What an erasure means, and why its rows are seen by nobody from the moment it is durable, stands in
//! [`crate::engine::catalog::erasure`]. Here its rows leave the disk:
//!
//! 1. Nothing is done before everything up to the erasure's last frame is in files: from then on no
//!    replay and no flush can bring one of its rows.
//! 2. Each file of the table whose runs ([`super::runs`]) have the erasure's values is written anew
//!    without the rows ([`super::rewrite`]), by the commit of all files ([`super::magnetic`]); one that has
//!    no others goes.
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
use crate::engine::EngineError;
use crate::engine::catalog::erasure::hash_of;
use crate::engine::catalog::{Erasure, Hidden, Table};
use crate::record::TableId;

use super::column::RowId;
use super::commit::{Changes, Written};
use super::flusher::{Inner, lock};
use super::io_error;
use super::magnetic::MagneticFile;
use super::rewrite;

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
        let written =
            rewrite::copy(file, &target, self.magnetic.disk(), &mut |key, batch, rows, staying| {
                let dimensions: Vec<_> = key.dimensions().collect();
                let is_hidden = |row: &RowId| hidden.hides(&dimensions, batch.row(*row).version());
                staying.extend(rows.iter().copied().filter(|row| !is_hidden(row)));
            });
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
}
