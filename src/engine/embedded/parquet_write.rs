//! Rows of stores into a Parquet file.
//!
//! Dictionary encodings as the writer chooses them, zstd level 1: on telemetry that is smaller than
//! the tuned encodings and nothing but a plain copy is faster (measured, see `benches/engine.rs`).
//! Where a dictionary grows too large the integers and times fall back to deltas.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use foldhash::fast::RandomState;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::record::{MeasureKind, ValueType};

use super::column::{Column, RowId};
use super::columns::{COLUMNS_KEY, ColumnSet, ColumnSpec, Role};
use super::store::{SeriesId, TableStore};

/// Rows of a row group: what a reader skips or decodes as one piece.
pub(super) const GROUP_ROWS: usize = 1 << 17;

/// A row to be written: which store has it and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    pub(super) source: u32,
    pub(super) series: SeriesId,
    pub(super) row: RowId,
}

/// Where a layout's columns go, and which columns of the file it lacks.
#[derive(Debug, Default)]
struct Mapping {
    targets: Vec<usize>,
    absent: Vec<usize>,
}

/// A column of values while a row group is put together.
#[derive(Debug)]
struct Values {
    column: Column,
    /// Whether each row has one.
    present: Vec<bool>,
    absent: usize,
}

/// A column of names while a row group is put together.
#[derive(Debug, Default)]
struct Names<'s> {
    distinct: Vec<&'s str>,
    by_name: HashMap<&'s str, i32, RandomState>,
    codes: Vec<i32>,
    present: Vec<bool>,
    absent: usize,
}

/// Writes rows of stores to one file.
#[derive(Debug)]
pub(super) struct GroupWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    specs: Vec<ColumnSpec>,
    /// Names of the dimensions, in the order of their columns.
    dimensions: Vec<Box<str>>,
    /// Kind, name and type of the value columns, in their order.
    values: Vec<(MeasureKind, Box<str>, ValueType)>,
}

impl<W: Write + Send> GroupWriter<W> {
    /// Begins a file with the columns of `set`; `metadata` stands beside what the columns mean.
    pub(super) fn new(
        out: W,
        set: &ColumnSet,
        metadata: &[(&str, &str)],
    ) -> Result<Self, ParquetError> {
        let specs = set.specs();
        let fields: Vec<Field> = specs.iter().map(field_of).collect();
        let schema = Arc::new(Schema::new(fields));
        let json = serde_json::to_string(&specs).expect("names become JSON");
        let mut pairs = vec![KeyValue::new(COLUMNS_KEY.to_owned(), json)];
        pairs.extend(metadata.iter().map(|(k, v)| KeyValue::new((*k).to_owned(), (*v).to_owned())));
        let options = ArrowWriterOptions::new()
            .with_properties(properties(&specs, pairs))
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(out, Arc::clone(&schema), options)?;
        let mut dimensions = Vec::new();
        let mut values = Vec::new();
        for spec in &specs {
            match &spec.role {
                Role::Time | Role::MeasureName | Role::Version => {}
                Role::Dimension { name } => dimensions.push(name.clone()),
                Role::Attribute { name, value_type } => {
                    values.push((MeasureKind::Multi, name.clone(), type_of(*value_type)));
                }
                Role::Scalar { value_type } => {
                    values.push((MeasureKind::Scalar, "".into(), type_of(*value_type)));
                }
            }
        }
        Ok(Self { writer, schema, specs, dimensions, values })
    }

    /// Writes a row group: the rows of `sources` that `picks` names, in that order.
    pub(super) fn write(
        &mut self,
        sources: &[&TableStore],
        picks: &[Pick],
    ) -> Result<(), ParquetError> {
        assert!(!picks.is_empty(), "a row group has rows");
        let names = self.names(sources, picks);
        let mut names = names.into_iter();
        let mut values = self.values(sources, picks).into_iter();
        let head = |pick: &Pick| sources[pick.source as usize].row(pick.row);
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.specs.len());
        for spec in &self.specs {
            arrays.push(match &spec.role {
                Role::Time => {
                    let times: Vec<i64> = picks.iter().map(|pick| head(pick).time_ns()).collect();
                    Arc::new(TimestampNanosecondArray::from(times).with_timezone("UTC"))
                }
                Role::Version => {
                    let versions: Vec<i64> =
                        picks.iter().map(|pick| head(pick).version()).collect();
                    Arc::new(Int64Array::from(versions))
                }
                Role::MeasureName | Role::Dimension { .. } => {
                    names.next().expect("one a measure name and dimension").into_array()?
                }
                Role::Attribute { .. } | Role::Scalar { .. } => {
                    values.next().expect("one an attribute").into_array()
                }
            });
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays)?;
        assert_eq!(batch.num_rows(), picks.len(), "every row is written once");
        self.writer.write(&batch)?;
        self.writer.flush()
    }

    /// Ends the file and gives back what it was written to.
    pub(super) fn finish(self) -> Result<W, ParquetError> {
        self.writer.into_inner()
    }

    /// The measure name's column and one a dimension.
    fn names<'s>(&self, sources: &[&'s TableStore], picks: &[Pick]) -> Vec<Names<'s>> {
        let mut columns: Vec<Names<'s>> =
            std::iter::repeat_with(Names::default).take(self.dimensions.len() + 1).collect();
        for run in picks.chunk_by(|a, b| (a.source, a.series) == (b.source, b.series)) {
            let key = &sources[run[0].source as usize].keys()[run[0].series.0 as usize];
            columns[0].push(Some(key.family.family().measure_name), run.len());
            let mut dimensions = key.dimensions().peekable();
            for (column, wanted) in columns[1..].iter_mut().zip(&self.dimensions) {
                let value = dimensions.next_if(|(name, _)| *name == &**wanted);
                column.push(value.map(|(_, value)| value), run.len());
            }
            assert!(dimensions.next().is_none(), "the file has a column for each dimension");
        }
        columns
    }

    fn values(&self, sources: &[&TableStore], picks: &[Pick]) -> Vec<Values> {
        let mappings: Vec<Vec<Mapping>> = sources.iter().map(|source| self.map(source)).collect();
        let mut columns: Vec<Values> =
            self.values.iter().map(|(_, _, t)| Values::new(*t, picks.len())).collect();
        for pick in picks {
            let row = sources[pick.source as usize].row(pick.row);
            let mapping = &mappings[pick.source as usize][row.chunk.layout as usize];
            for (from, &to) in row.chunk.columns.iter().zip(&mapping.targets) {
                columns[to].push_from(from, row.row);
            }
            for &to in &mapping.absent {
                columns[to].push_absent();
            }
        }
        columns
    }

    /// For each layout of a store, where its columns go.
    fn map(&self, source: &TableStore) -> Vec<Mapping> {
        let place = |kind, name: &str, value_type| {
            self.values
                .iter()
                .position(|(k, n, t)| *k == kind && **n == *name && *t == value_type)
                .expect("the file has a column for each attribute")
        };
        let shapes = source.shapes().iter();
        shapes
            .map(|shape| {
                let attributes = shape.attributes.iter();
                let targets: Vec<usize> =
                    attributes.map(|(name, t)| place(shape.kind, name, *t)).collect();
                let absent = (0..self.values.len()).filter(|at| !targets.contains(at)).collect();
                Mapping { targets, absent }
            })
            .collect()
    }
}

impl<'s> Names<'s> {
    fn push(&mut self, name: Option<&'s str>, times: usize) {
        let code = name.map(|name| {
            *self.by_name.entry(name).or_insert_with(|| {
                self.distinct.push(name);
                i32::try_from(self.distinct.len() - 1).expect("a row group has fewer names")
            })
        });
        self.codes.extend(std::iter::repeat_n(code.unwrap_or(0), times));
        self.present.extend(std::iter::repeat_n(code.is_some(), times));
        if code.is_none() {
            self.absent += times;
        }
    }

    fn into_array(self) -> Result<ArrayRef, ParquetError> {
        let nulls = (self.absent > 0).then(|| self.present.into());
        let codes = Int32Array::new(self.codes.into(), nulls);
        let distinct = if self.distinct.is_empty() { vec![""] } else { self.distinct };
        let names = Arc::new(StringArray::from(distinct));
        Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(codes, names)?))
    }
}

impl Values {
    fn new(value_type: ValueType, rows: usize) -> Self {
        let present = Vec::with_capacity(rows);
        Self { column: Column::with_room(value_type, rows), present, absent: 0 }
    }

    #[inline]
    fn push_from(&mut self, from: &Column, row: usize) {
        self.column.push(&from.value(row));
        self.present.push(true);
    }

    fn push_absent(&mut self) {
        self.column.push_absent();
        self.present.push(false);
        self.absent += 1;
    }

    fn into_array(self) -> ArrayRef {
        let nulls = (self.absent > 0).then(|| self.present.clone().into());
        match self.column {
            Column::Double(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Column::Bigint(values) => Arc::new(Int64Array::new(values.into(), nulls)),
            Column::Timestamp(values) => {
                Arc::new(TimestampNanosecondArray::new(values.into(), nulls).with_timezone("UTC"))
            }
            Column::Boolean(values) => {
                let rows = values.into_iter().zip(self.present);
                Arc::new(
                    rows.map(|(value, present)| present.then_some(value)).collect::<BooleanArray>(),
                )
            }
            Column::Varchar(texts) => {
                let rows = self.present.iter().enumerate();
                let values = rows.map(|(row, &present)| present.then(|| texts.get(row)));
                Arc::new(values.collect::<StringArray>())
            }
        }
    }
}

/// The Arrow field of a column: names of series as dictionaries, which changes nothing in the file.
pub(super) fn field_of(spec: &ColumnSpec) -> Field {
    let time = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
    let name = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let (data_type, nullable) = match &spec.role {
        Role::Time => (time, false),
        Role::MeasureName => (name, false),
        Role::Version => (DataType::Int64, false),
        Role::Dimension { .. } => (name, true),
        Role::Attribute { value_type, .. } | Role::Scalar { value_type } => {
            let data_type = match type_of(*value_type) {
                ValueType::Double => DataType::Float64,
                ValueType::Bigint => DataType::Int64,
                ValueType::Boolean => DataType::Boolean,
                ValueType::Varchar => DataType::Utf8,
                ValueType::Timestamp => time,
            };
            (data_type, true)
        }
    };
    Field::new(&spec.column, data_type, nullable)
}

fn type_of(number: u8) -> ValueType {
    ValueType::from_number(number).expect("checked when the metadata was read")
}

fn properties(specs: &[ColumnSpec], metadata: Vec<KeyValue>) -> WriterProperties {
    let level = ZstdLevel::try_new(1).expect("1 is a level of zstd");
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(None)
        .set_key_value_metadata(Some(metadata));
    for spec in specs {
        let is_integer = match &spec.role {
            Role::Time | Role::Version => true,
            Role::MeasureName | Role::Dimension { .. } => false,
            Role::Attribute { value_type, .. } | Role::Scalar { value_type } => {
                matches!(type_of(*value_type), ValueType::Bigint | ValueType::Timestamp)
            }
        };
        if is_integer {
            let path = ColumnPath::new(vec![spec.column.clone()]);
            builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}
