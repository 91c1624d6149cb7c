//! What a file says of itself, read once.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::Schema;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::PageIndexPolicy;

use crate::engine::EngineError;
use crate::record::ValueType;

use super::columns::{COLUMNS_KEY, ColumnSpec, Role};
use super::io_error;
use super::parquet_write::field_of;

/// What a file says of itself: what is needed to read any part of it.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) metadata: ArrowReaderMetadata,
    pub(super) specs: Vec<ColumnSpec>,
}

impl Head {
    /// Reads it; `pages` says whether with the places of the pages.
    pub(super) fn read(
        file: &File,
        path: &Path,
        pages: PageIndexPolicy,
    ) -> Result<Self, EngineError> {
        let error = |error| io_error("read", path, error);
        let options = ArrowReaderOptions::new().with_offset_index_policy(pages);
        let plain = ArrowReaderMetadata::load(file, options).map_err(error)?;
        let specs = specs_of(&plain)
            .map_err(|what| EngineError::Corrupt { path: path.display().to_string(), what })?;
        let fields: Vec<_> = specs.iter().map(field_of).collect();
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields)));
        let metadata =
            ArrowReaderMetadata::try_new(Arc::clone(plain.metadata()), options).map_err(error)?;
        Ok(Self { metadata, specs })
    }

    pub(super) fn bytes(&self) -> usize {
        // A field of the schema and a description a column, beside what the file says.
        let columns = self.specs.len() * (size_of::<ColumnSpec>() + 256);
        size_of::<Self>() + self.metadata.metadata().memory_size() + columns
    }
}

/// What the columns of the file mean, checked.
fn specs_of(metadata: &ArrowReaderMetadata) -> Result<Vec<ColumnSpec>, String> {
    let pairs = metadata.metadata().file_metadata().key_value_metadata();
    let json = pairs
        .and_then(|pairs| pairs.iter().find(|pair| pair.key == COLUMNS_KEY))
        .and_then(|pair| pair.value.as_deref())
        .ok_or_else(|| format!("has no {COLUMNS_KEY}"))?;
    let specs: Vec<ColumnSpec> = serde_json::from_str(json).map_err(|error| error.to_string())?;
    for spec in &specs {
        if let Role::Attribute { value_type, .. } | Role::Scalar { value_type } = spec.role
            && ValueType::from_number(value_type).is_none()
        {
            return Err(format!("column {:?} has the unknown type {value_type}", spec.column));
        }
    }
    let names = metadata.schema().fields().iter().map(|field| field.name());
    if !names.eq(specs.iter().map(|spec| &spec.column)) {
        return Err(format!("{COLUMNS_KEY} names other columns than the file has"));
    }
    Ok(specs)
}
