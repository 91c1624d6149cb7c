//! A file of the magnetic store in the making: row groups, their index, what the manifest says of it.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::EngineError;
use crate::record::TableId;

use super::columns::ColumnSet;
use super::disk::{Disk, DiskFile};
use super::index::{FileIndex, IndexBuilder, IndexEntry};
use super::io_error;
use super::manifest::FileMeta;
use super::names::SeriesNames;
use super::parquet_write::{GroupWriter, Pick};
use super::partition::day_of;
use super::store::{TableStore, index};

/// Where a file goes.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) table: TableId,
    /// Of the database and the table.
    pub(super) names: [String; 2],
    pub(super) day: i32,
    pub(super) number: u64,
    pub(super) generation: u32,
    /// Its name while no reader shall find it.
    pub(super) path: PathBuf,
    /// Most bytes that the keys of its index may take.
    pub(super) key_bytes_max: usize,
}

/// A file being written. It is there from the first row group on.
#[derive(Debug)]
pub(super) struct FileOut<'t> {
    target: &'t Target,
    columns: ColumnSet,
    disk: &'t Arc<Disk>,
    writer: Option<GroupWriter<DiskFile>>,
    index: IndexBuilder,
    groups: u32,
    rows: u64,
}

impl<'t> FileOut<'t> {
    /// A file with these columns, which are those of all rows that will be written.
    pub(super) fn new(target: &'t Target, columns: ColumnSet, disk: &'t Arc<Disk>) -> Self {
        let index = IndexBuilder::new(target.key_bytes_max);
        Self { target, columns, disk, writer: None, index, groups: 0, rows: 0 }
    }

    /// Writes a row group: rows sorted by series and time, after those of the groups before.
    pub(super) fn write_group(
        &mut self,
        sources: &[&TableStore],
        names: &SeriesNames,
        picks: &[Pick],
    ) -> Result<(), EngineError> {
        assert!(!picks.is_empty(), "a row group has rows");
        let path = &self.target.path;
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.begin()?,
        };
        let written = writer.write(sources, names, picks);
        let times = written.map_err(|error| io_error("write", path, error))?;
        self.writer = Some(writer);
        let mut row = 0;
        for run in picks.chunk_by(|a, b| a.series == b.series) {
            let source = sources[run[0].source as usize];
            let end = row + run.len();
            let entry = IndexEntry {
                hash: names.hash(run[0].series as usize),
                time_ns_min: times[row],
                time_ns_max: times[end - 1],
                group: self.groups,
                row: index(row),
                rows: index(run.len()),
            };
            self.index.push(entry, || source.key_of(run[0].row));
            row = end;
        }
        self.groups += 1;
        self.rows += picks.len() as u64;
        Ok(())
    }

    fn begin(&self) -> Result<GroupWriter<DiskFile>, EngineError> {
        let path = &self.target.path;
        let file = self.disk.create(path).map_err(|error| io_error("create", path, error))?;
        let [database, table] = &self.target.names;
        let metadata = [("tidegate.database", &**database), ("tidegate.table", &**table)];
        GroupWriter::new(file, &self.columns, &metadata)
            .map_err(|error| io_error("begin", path, error))
    }

    /// Ends and syncs the file. `None` if it had no rows; then there is no file.
    pub(super) fn finish(self) -> Result<Option<Finished>, EngineError> {
        let path = &self.target.path;
        let Some(writer) = self.writer else { return Ok(None) };
        let file = writer.finish().map_err(|error| io_error("end", path, error))?;
        let bytes = file.sync().map_err(|error| io_error("sync", path, error))?;
        let entries = self.index.entries();
        let times_min = entries.iter().map(|entry| entry.time_ns_min).min();
        let times_max = entries.iter().map(|entry| entry.time_ns_max).max();
        let hashes = entries.iter().map(|entry| entry.hash);
        let meta = FileMeta {
            number: self.target.number,
            generation: self.target.generation,
            day: self.target.day,
            rows: self.rows,
            bytes,
            time_ns_min: times_min.expect("a file has rows"),
            time_ns_max: times_max.expect("a file has rows"),
            hash_min: hashes.clone().min().expect("a file has rows"),
            hash_max: hashes.max().expect("a file has rows"),
        };
        assert_eq!(day_of(meta.time_ns_min), meta.day, "a file's rows are of its day");
        assert_eq!(day_of(meta.time_ns_max), meta.day, "a file's rows are of its day");
        let index = self.index.finish(&self.columns);
        Ok(Some(Finished { meta, index, columns: self.columns }))
    }
}

/// A file that was written and synced.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) meta: FileMeta,
    pub(super) index: FileIndex,
    pub(super) columns: ColumnSet,
}
