//! Rows of stores into a Parquet file.
//!
//! The columns of names, which repeat from row to row, are written by [`super::parquet_names`], the
//! others by the Arrow writer: dictionary encodings as the writer chooses them and zstd level 1: on 1 M rows of quantised sensor
//! values in order of series that took 0.97 bytes a value, encodings chosen by hand 1.24, at 9.0 and
//! 8.0 M rows/s. Where a dictionary grows too large, integers and times fall back to deltas; what that
//! saves was not measured. `benches/engine.rs` prints the size of a fleet as it is written here.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampNanosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnWriter, ArrowRowGroupWriterFactory, ArrowWriterOptions, compute_leaves,
};
use parquet::basic::Encoding;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use crate::record::{MeasureKind, Value, ValueType};

use super::column::{Chunk, Column, RowId};
use super::columns::{COLUMNS_KEY, ColumnSet, ColumnSpec, Role};
use super::names::SeriesNames;
use super::parquet_names::{NameRuns, Spare, compression};
use super::points::BLOCK_ROWS;
use super::store::{TableStore, index};

/// Rows of a row group: what a reader skips or decodes as one piece.
pub(super) const GROUP_ROWS: usize = 1 << 17;

/// A row to be written: which store has it and where.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    pub(super) source: u32,
    /// The place of its series among the names.
    pub(super) series: u32,
    pub(super) row: RowId,
}

/// A place that stands for none.
const NONE: u32 = u32::MAX;

/// A row of the row group in the making.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Among the chunks of the row group.
    chunk: u32,
    row: u32,
}

/// The rows of a row group in the making.
///
/// Neighbours in it lie in different chunks, so that every look at one waits for memory. A column is
/// gathered in two steps: its values' slice in each chunk, of which there are few, then row by row
/// from these slices, without a look at the chunks themselves.
#[derive(Debug)]
struct Rows<'s> {
    chunks: Vec<GroupChunk<'s>>,
    places: Vec<Place>,
}

/// A chunk that has rows of the row group.
#[derive(Debug)]
struct GroupChunk<'s> {
    chunk: &'s Chunk,
    /// For each value column of the file, the chunk's column, or [`NONE`].
    columns: &'s [u32],
}

impl<'s> Rows<'s> {
    /// `mappings` has, for each source and layout, the chunk's columns by the file's.
    fn new(sources: &[&'s TableStore], mappings: &'s [Vec<Box<[u32]>>], picks: &[Pick]) -> Self {
        let mut numbers: Vec<Vec<u32>> =
            sources.iter().map(|source| vec![NONE; source.chunks().count()]).collect();
        let mut chunks = Vec::new();
        let place = |pick: &Pick| {
            let source = pick.source as usize;
            let number = &mut numbers[source][pick.row.chunk()];
            if *number == NONE {
                *number = index(chunks.len());
                let chunk = sources[source].row(pick.row).chunk;
                let columns = &mappings[source][chunk.layout as usize];
                chunks.push(GroupChunk { chunk, columns });
            }
            Place { chunk: *number, row: index(pick.row.row()) }
        };
        let places: Vec<Place> = picks.iter().map(place).collect();
        assert_eq!(places.len(), picks.len(), "every row has its place");
        Self { chunks, places }
    }

    /// A column that every row has, in the memory of `values`.
    fn fixed(&self, mut values: Vec<i64>, of: impl Fn(&'s Chunk) -> &'s [i64]) -> Vec<i64> {
        let slices: Vec<&[i64]> = self.chunks.iter().map(|chunk| of(chunk.chunk)).collect();
        let value = |at: &Place| slices[at.chunk as usize][at.row as usize];
        values.clear();
        values.extend(self.places.iter().map(value));
        values
    }

    /// The values of the file's column `at`, in the memory of `values`, and which rows have one, unless
    /// all do.
    fn gather<T: Default + Copy + 's>(
        &self,
        at: usize,
        mut values: Vec<T>,
        of: impl Fn(&'s Column) -> &'s [T],
    ) -> (Vec<T>, Option<Vec<bool>>) {
        values.clear();
        let slice = |chunk: &GroupChunk<'s>| match chunk.columns[at] {
            NONE => None,
            column => Some(of(&chunk.chunk.columns[column as usize])),
        };
        let slices: Vec<Option<&[T]>> = self.chunks.iter().map(slice).collect();
        if slices.iter().all(Option::is_some) {
            let slices: Vec<&[T]> = slices.into_iter().flatten().collect();
            let value = |place: &Place| slices[place.chunk as usize][place.row as usize];
            values.extend(self.places.iter().map(value));
            return (values, None);
        }
        let value = |place: &Place| {
            slices[place.chunk as usize].map_or_else(T::default, |slice| slice[place.row as usize])
        };
        let has = |place: &Place| slices[place.chunk as usize].is_some();
        values.extend(self.places.iter().map(value));
        (values, Some(self.places.iter().map(has).collect()))
    }

    fn text(&self, place: Place, at: usize) -> Option<&'s str> {
        let GroupChunk { chunk, columns } = &self.chunks[place.chunk as usize];
        if columns[at] == NONE {
            return None;
        }
        match chunk.columns[columns[at] as usize].value(place.row as usize) {
            Value::Varchar(text) => Some(text),
            other => unreachable!("VARCHAR is {other:?}"),
        }
    }
}

/// Writes rows of stores to one file.
pub(super) struct GroupWriter<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Row groups that were written.
    groups: usize,
    specs: Vec<ColumnSpec>,
    /// Names of the dimensions, in the order of their columns.
    dimensions: Vec<Box<str>>,
    /// Kind, name and type of the value columns, in their order.
    values: Vec<(MeasureKind, Box<str>, ValueType)>,
    spare: Spare,
    /// Memory of a column of integers that was written.
    integers: Vec<i64>,
}

impl<W: Write + Send> fmt::Debug for GroupWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWriter").field("groups", &self.groups).finish_non_exhaustive()
    }
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
        let (writer, factory) = writer.into_serialized_writer()?;
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
        let (spare, integers) = (Spare::default(), Vec::new());
        Ok(Self { writer, factory, schema, groups: 0, specs, dimensions, values, spare, integers })
    }

    /// Writes a row group: the rows of `sources` that `picks` names, in that order; `names` has the
    /// names of all their series. Returns the rows' times.
    pub(super) fn write(
        &mut self,
        sources: &[&TableStore],
        names: &SeriesNames,
        picks: &[Pick],
    ) -> Result<Vec<i64>, ParquetError> {
        assert!(!picks.is_empty(), "a row group has rows");
        let mut spare = std::mem::take(&mut self.spare);
        let mut of_names = self.names(names, picks, &mut spare).into_iter();
        let mappings: Vec<Vec<Box<[u32]>>> =
            sources.iter().map(|source| self.map(source)).collect();
        let rows = Rows::new(sources, &mappings, picks);
        let times = rows.fixed(Vec::new(), |chunk| &chunk.times);
        let columns = self.writer.schema_descr().columns().to_vec();
        let writers = self.factory.create_column_writers(self.groups)?;
        assert_eq!(writers.len(), self.specs.len(), "every column is a leaf");
        let mut group = self.writer.next_row_group()?;
        let mut value_columns = (0..).zip(&self.values);
        for ((at, spec), writer) in self.specs.iter().enumerate().zip(writers) {
            let array: ArrayRef = match &spec.role {
                Role::Time => {
                    let mut copy = std::mem::take(&mut self.integers);
                    copy.clone_from(&times);
                    let times = TimestampNanosecondArray::from(copy);
                    Arc::new(times.with_timezone("UTC"))
                }
                Role::Version => {
                    let spare = std::mem::take(&mut self.integers);
                    Arc::new(Int64Array::from(rows.fixed(spare, |chunk| &chunk.versions)))
                }
                Role::MeasureName | Role::Dimension { .. } => {
                    let names = of_names.next().expect("one a measure name and dimension");
                    if names.has_dictionary() {
                        names.write(Arc::clone(&columns[at]), &mut group, &mut spare)?;
                        continue;
                    }
                    names.into_array()?
                }
                Role::Attribute { .. } | Role::Scalar { .. } => {
                    let (at, (_, _, value_type)) = value_columns.next().expect("one an attribute");
                    values_of(&rows, at, *value_type, &mut self.integers)
                }
            };
            write_column(self.schema.field(at), &array, writer, &mut group)?;
            if let Some(integers) = integers_again(array) {
                self.integers = integers;
            }
        }
        group.close()?;
        self.spare = spare;
        self.groups += 1;
        assert_eq!(times.len(), picks.len(), "every row is written once");
        Ok(times)
    }

    /// Ends the file and gives back what it was written to.
    pub(super) fn finish(self) -> Result<W, ParquetError> {
        self.writer.into_inner()
    }

    /// The measure name's column and one a dimension.
    fn names<'n>(
        &self,
        names: &'n SeriesNames,
        picks: &[Pick],
        spare: &mut Spare,
    ) -> Vec<NameRuns<'n>> {
        let known = names.dimensions();
        let place = |name: &str| known.binary_search_by_key(&name, |(known, _)| &**known).ok();
        let mut columns = vec![NameRuns::new(Some(names.measures()), 0, spare)];
        // For each dimension of the series, its column.
        let mut targets = vec![NONE; known.len()];
        for name in &self.dimensions {
            let place = place(name);
            if let Some(place) = place {
                targets[place] = index(columns.len());
            }
            let names = place.map(|place| &known[place].1);
            columns.push(NameRuns::new(names, columns.len(), spare));
        }
        let mut row = 0;
        for run in picks.chunk_by(|a, b| a.series == b.series) {
            let series = run[0].series as usize;
            columns[0].push(names.measure(series), row, run.len());
            for (dimension, number) in names.values(series) {
                let target = targets[dimension as usize];
                assert_ne!(target, NONE, "the file has a column for each dimension");
                columns[target as usize].push(number, row, run.len());
            }
            row += run.len();
        }
        for column in &mut columns {
            column.fill(row);
        }
        columns
    }

    /// For each layout of a store and each value column of the file, the layout's column.
    fn map(&self, source: &TableStore) -> Vec<Box<[u32]>> {
        let shapes = source.shapes().iter();
        shapes
            .map(|shape| {
                let mut columns = vec![NONE; self.values.len()].into_boxed_slice();
                for (from, (name, value_type)) in (0..).zip(&shape.attributes) {
                    let to = self
                        .values
                        .iter()
                        .position(|(k, n, t)| *k == shape.kind && n == name && t == value_type);
                    columns[to.expect("the file has a column for each attribute")] = from;
                }
                columns
            })
            .collect()
    }
}

/// One column of values; `spare` is memory for it.
fn values_of(rows: &Rows<'_>, at: usize, value_type: ValueType, spare: &mut Vec<i64>) -> ArrayRef {
    match value_type {
        ValueType::Double => {
            let (values, present) = rows.gather(at, Vec::new(), |column| match column {
                Column::Double(values) => values,
                other => unreachable!("DOUBLE in {other:?}"),
            });
            Arc::new(Float64Array::new(values.into(), present.map(Into::into)))
        }
        ValueType::Bigint => {
            let (values, present) = rows.gather(at, std::mem::take(spare), integers);
            Arc::new(Int64Array::new(values.into(), present.map(Into::into)))
        }
        ValueType::Timestamp => {
            let (values, present) = rows.gather(at, std::mem::take(spare), integers);
            let array = TimestampNanosecondArray::new(values.into(), present.map(Into::into));
            Arc::new(array.with_timezone("UTC"))
        }
        ValueType::Boolean => {
            let (values, present) = rows.gather(at, Vec::new(), |column| match column {
                Column::Boolean(values) => values,
                other => unreachable!("BOOLEAN in {other:?}"),
            });
            Arc::new(BooleanArray::new(values.into(), present.map(Into::into)))
        }
        ValueType::Varchar => {
            let texts = rows.places.iter().map(|&place| rows.text(place, at));
            Arc::new(texts.collect::<StringArray>())
        }
    }
}

/// The memory of a column of integers that was written, for the next: what a row group gives back to the
/// allocator and takes again would be cleared by the system each time.
fn integers_again(array: ArrayRef) -> Option<Vec<i64>> {
    if !matches!(array.data_type(), DataType::Int64 | DataType::Timestamp(..)) {
        return None;
    }
    let data = array.to_data();
    drop(array);
    let values = data.buffers().first().cloned();
    drop(data);
    values?.into_vec().ok()
}

fn integers(column: &Column) -> &[i64] {
    match column {
        Column::Bigint(values) | Column::Timestamp(values) => values,
        other => unreachable!("an integer in {other:?}"),
    }
}

/// Writes the row group's next column by way of Arrow.
fn write_column<W: Write + Send>(
    field: &Field,
    array: &ArrayRef,
    mut writer: ArrowColumnWriter,
    group: &mut SerializedRowGroupWriter<'_, W>,
) -> Result<(), ParquetError> {
    for leaf in compute_leaves(field, array)? {
        writer.write(&leaf)?;
    }
    writer.close()?.append_to_row_group(group)
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
    let mut builder = WriterProperties::builder()
        .set_compression(compression())
        .set_created_by(concat!("tidegate ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(BLOCK_ROWS)
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
