//! Single rows of a file, for look-ups: the times and versions of a row group, the values of a block.
//!
//! A **block** is [`BLOCK_ROWS`] rows of a row group. Pages of values are written with as many rows,
//! so that reading a block decodes no others; of files with longer pages it decodes what stands
//! before it in its page as well.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampNanosecondType};
use arrow_array::{Array, RecordBatch};

use crate::record::MeasureKind;
use crate::record::request::Attributes;

use super::columns::{ColumnSpec, Role};
use super::parquet_read::Values;

/// Rows whose values are decoded together.
pub(super) const BLOCK_ROWS: usize = 1 << 13;

/// Times and versions of a row group's rows.
#[derive(Debug)]
pub(super) struct Stamps {
    times: Box<[i64]>,
    versions: Versions,
}

/// Most row groups have one version only, and half the bytes are saved.
#[derive(Debug)]
enum Versions {
    Same(i64),
    Each(Box<[i64]>),
}

impl Stamps {
    /// Of the columns in `batch`, which `specs` describe; `None` if they are others.
    pub(super) fn of(batch: &RecordBatch, specs: &[ColumnSpec]) -> Option<Self> {
        let at = |role: &Role| specs.iter().position(|spec| spec.role == *role);
        let times = batch.column(at(&Role::Time)?).as_primitive_opt::<TimestampNanosecondType>()?;
        let versions = batch.column(at(&Role::Version)?).as_primitive_opt::<Int64Type>()?.values();
        let first = *versions.first()?;
        let versions = if versions.iter().all(|version| *version == first) {
            Versions::Same(first)
        } else {
            Versions::Each(versions.to_vec().into_boxed_slice())
        };
        Some(Self { times: times.values().to_vec().into_boxed_slice(), versions })
    }

    /// The row at `time_ns` among `rows` from `begin` on, which are in order of time, and its version.
    pub(super) fn find(&self, begin: u32, rows: u32, time_ns: i64) -> Option<(usize, i64)> {
        let begin = begin as usize;
        let times = self.times.get(begin..begin + rows as usize)?;
        let row = begin + times.binary_search(&time_ns).ok()?;
        let version = match &self.versions {
            Versions::Same(version) => *version,
            Versions::Each(versions) => versions[row],
        };
        Some((row, version))
    }

    pub(super) fn bytes(&self) -> usize {
        let versions = match &self.versions {
            Versions::Same(_) => 0,
            Versions::Each(versions) => std::mem::size_of_val(&**versions),
        };
        size_of::<Self>() + std::mem::size_of_val(&*self.times) + versions
    }
}

/// Values of neighbouring rows.
#[derive(Debug)]
pub(super) struct Block {
    batch: RecordBatch,
    /// What the batch's columns mean.
    specs: Vec<ColumnSpec>,
    /// The columns in the order of a row's attributes: scalars, then by name.
    order: Vec<usize>,
}

impl Block {
    /// Of the value columns in `batch`, which `specs` describe; `None` if they are others.
    pub(super) fn of(batch: RecordBatch, specs: Vec<ColumnSpec>) -> Option<Self> {
        assert_eq!(batch.num_columns(), specs.len(), "one description a column");
        let mut order: Vec<usize> = (0..specs.len()).collect();
        order.sort_by_key(|&at| match &specs[at].role {
            Role::Attribute { name, .. } => (1, &**name),
            _ => (0, ""),
        });
        for (array, spec) in batch.columns().iter().zip(&specs) {
            Values::of_role(array, &spec.role)?;
        }
        Some(Self { batch, specs, order })
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    /// The kind of a row; appends its attributes, sorted by name.
    pub(super) fn row<'b>(&'b self, row: usize, out: &mut Attributes<'b>) -> MeasureKind {
        let mut kind = MeasureKind::Multi;
        for &at in &self.order {
            let array = self.batch.column(at);
            if array.is_null(row) {
                continue;
            }
            let values = Values::of_role(array, &self.specs[at].role);
            let values = values.expect("looked at when the block was made");
            kind = values.kind;
            out.push((values.name, values.get(row)));
        }
        kind
    }

    pub(super) fn bytes(&self) -> usize {
        let specs = self.specs.len() * (size_of::<ColumnSpec>() + size_of::<usize>());
        size_of::<Self>() + self.batch.get_array_memory_size() + specs
    }
}
