//! Rows as one Parquet file. Its columns must be known before its first row, so the table is scanned
//! twice: once to see what columns there are, once to write them.

use std::io::Write;
use std::ops::ControlFlow;

use crate::engine::embedded::ColumnSet;
use crate::engine::embedded::export::{ExportError, ParquetExport};
use crate::engine::{EngineError, TableEngine, TimeRange};
use crate::record::TableId;

/// Its media type. Source: IANA, `application/vnd.apache.parquet`.
pub const CONTENT_TYPE: &str = "application/vnd.apache.parquet";

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The engine cannot be read.
    #[error("the table cannot be read")]
    Engine(#[from] EngineError),
    /// The file cannot be written, or the table got new columns between the scans.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Writes the rows of `table` in `range` to `out`.
///
/// # Errors
///
/// [`ParquetError`]; what was written until then is no file.
pub fn write<W: Write + Send>(
    engine: &dyn TableEngine,
    (table, range): (TableId, TimeRange),
    out: W,
) -> Result<W, ParquetError> {
    let mut columns = ColumnSet::default();
    engine.scan(table, range, &mut |row| {
        columns.see(row);
        ControlFlow::Continue(())
    })?;
    let mut file = ParquetExport::new(out, columns)?;
    let mut failed = None;
    engine.scan(table, range, &mut |row| match file.push(row) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failed {
        None => Ok(file.finish()?),
        Some(error) => Err(error.into()),
    }
}
