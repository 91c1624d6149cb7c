//! Rows as one Parquet stream, in the order in which they come; its columns are those of the magnetic
//! store's files.

use std::io::Write;

use parquet::errors::ParquetError;

use crate::base::class::Class;
use crate::engine::Row;
use crate::record::{TableId, varint};

use super::columns::ColumnSet;
use super::names::SeriesNames;
use super::parquet_write::{GROUP_ROWS, GroupWriter, Pick};
use super::series::{FamilyKey, SeriesKey};
use super::store::{Stamp, TableStore};

/// Rows of one stream, its column set known beforehand: Parquet says what columns there are before it
/// says what is in them. Find them with [`ColumnSet::see`] in a first pass.
#[derive(Debug)]
pub struct ParquetExport<W: Write + Send> {
    writer: GroupWriter<W>,
    columns: ColumnSet,
    /// The rows of the row group in the making.
    store: TableStore,
    picks: Vec<Pick>,
}

/// Why a stream could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The stream could not be written.
    #[error("cannot write Parquet")]
    Parquet(#[from] ParquetError),
    /// A row has a column that the first pass did not see: it was written between the passes.
    #[error("the table got new columns meanwhile")]
    NewColumn,
}

impl ExportError {
    /// Who must act.
    pub const fn class(&self) -> Class {
        match self {
            Self::Parquet(_) => Class::Fault,
            Self::NewColumn => Class::Busy,
        }
    }
}

impl<W: Write + Send> ParquetExport<W> {
    /// Begins a stream with these columns.
    ///
    /// # Errors
    ///
    /// [`ExportError::Parquet`]: nothing but a part of the head was written.
    pub fn new(out: W, columns: ColumnSet) -> Result<Self, ExportError> {
        let writer = GroupWriter::new(out, &columns, &[])?;
        Ok(Self { writer, columns, store: TableStore::default(), picks: Vec::new() })
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// [`ExportError::NewColumn`]: this row was not added. [`ExportError::Parquet`]: the stream is of
    /// no use any more.
    pub fn push(&mut self, row: &Row<'_>) -> Result<(), ExportError> {
        if !self.columns.has(row) {
            return Err(ExportError::NewColumn);
        }
        let names = row.dimensions.iter().map(|dimension| dimension.0);
        let family = FamilyKey::of(TableId(0), row.measure_name, names);
        let mut values = Vec::new();
        for (_, value) in row.dimensions {
            varint::put_bytes(&mut values, value.as_bytes());
        }
        let key = SeriesKey::of(family.into(), &values);
        let series = self.store.series(&key.wanted(), || i64::MIN);
        let stamp = Stamp { time_ns: row.time_ns, version: row.version };
        let row = self.store.append(series, stamp, row.kind, row.attributes);
        self.picks.push(Pick { source: 0, series: series.0, row });
        if self.picks.len() < GROUP_ROWS { Ok(()) } else { self.write_group() }
    }

    /// Ends the stream and gives back what it was written to.
    ///
    /// # Errors
    ///
    /// [`ExportError::Parquet`]: the stream is of no use.
    pub fn finish(mut self) -> Result<W, ExportError> {
        if !self.picks.is_empty() {
            self.write_group()?;
        }
        Ok(self.writer.finish()?)
    }

    fn write_group(&mut self) -> Result<(), ExportError> {
        let sources = [&self.store];
        self.writer.write(&sources, &SeriesNames::of(&self.store), &self.picks)?;
        self.store = TableStore::default();
        self.picks.clear();
        Ok(())
    }
}
