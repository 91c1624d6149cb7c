//! A Parquet file of ours back into a store.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use foldhash::fast::RandomState;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{ColumnChunkMetaData, PageIndexPolicy};
use parquet::file::statistics::Statistics;

use crate::engine::{EngineError, TimeRange};
use crate::record::{MeasureKind, TableId, Value, ValueType, varint};

use super::columns::{ColumnSpec, Role};
use super::io_error;
use super::parquet_head::Head;
use super::points::{BLOCK_ROWS, Block, Stamps};
use super::series::{FamilyKey, SeriesKey};
use super::store::{Stamp, TableStore};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;

/// Bytes of row groups, as they are in memory, that are decoded at a time: rows of long texts.
const BATCH_BYTES: u64 = 32 << 20;

/// What of the rows is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything.
    Whole,
    /// Series, times and versions; the rows have no attributes then.
    Keys,
    /// Times and versions.
    Stamps,
    /// Attributes and scalars.
    Values,
}

/// An open file of ours.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    head: Arc<Head>,
    table: TableId,
    path: String,
}

impl Reader {
    /// Reads the metadata of a file.
    pub(super) fn open(file: File, path: &Path, table: TableId) -> Result<Self, EngineError> {
        let head = Head::read(&file, path, PageIndexPolicy::Skip)?;
        Ok(Self::with_head(file, path, table, Arc::new(head)))
    }

    /// A file whose metadata was read before.
    pub(super) fn with_head(file: File, path: &Path, table: TableId, head: Arc<Head>) -> Self {
        Self { file, head, table, path: path.display().to_string() }
    }

    /// How many row groups it has.
    pub(super) fn groups(&self) -> usize {
        self.head.metadata.metadata().num_row_groups()
    }

    /// How many rows a group has, and the times of its first and last, ns.
    pub(super) fn group(&self, group: usize) -> (u64, TimeRange) {
        let group = self.head.metadata.metadata().row_group(group);
        let rows = group.num_rows().unsigned_abs();
        let range = match group.column(0).statistics() {
            Some(Statistics::Int64(times)) => match (times.min_opt(), times.max_opt()) {
                (Some(&min), Some(&max)) => {
                    TimeRange { from_ns: min, to_ns: max.saturating_add(1) }
                }
                _ => TimeRange::ALL,
            },
            _ => TimeRange::ALL,
        };
        (rows, range)
    }

    /// About how many bytes the values of a group take in memory. What they take in the file tells nothing of
    /// it: texts that are alike are a thousandth of themselves there.
    pub(super) fn group_bytes(&self, group: usize) -> u64 {
        let of_column = |column: &ColumnChunkMetaData| {
            let texts = column.unencoded_byte_array_data_bytes().unwrap_or(0);
            texts.max(column.uncompressed_size()).unsigned_abs()
        };
        self.head.metadata.metadata().row_group(group).columns().iter().map(of_column).sum()
    }

    /// What the columns of the file mean.
    pub(super) fn specs(&self) -> &[ColumnSpec] {
        &self.head.specs
    }

    /// Adds the rows of these groups that are in `range` to `store`.
    pub(super) fn read(
        &self,
        groups: Vec<usize>,
        part: Part,
        range: TimeRange,
        store: &mut TableStore,
    ) -> Result<(), EngineError> {
        let mut batches = self.batches(groups, part, BATCH_ROWS)?;
        while batches.next(range, store)? {}
        Ok(())
    }

    /// The rows of these groups, `batch_rows` at a time.
    pub(super) fn batches(
        &self,
        groups: Vec<usize>,
        part: Part,
        batch_rows: usize,
    ) -> Result<Batches, EngineError> {
        let batch_rows = batch_rows.min(self.rows_at_once(&groups));
        let (builder, specs) = self.builder(self.head.metadata.clone(), groups, part)?;
        self.batches_of(builder.with_batch_size(batch_rows), specs)
    }

    fn batches_of(
        &self,
        builder: ParquetRecordBatchReaderBuilder<File>,
        specs: Vec<ColumnSpec>,
    ) -> Result<Batches, EngineError> {
        let reader = builder.build();
        let reader = reader.map_err(|error| io_error("read", Path::new(&self.path), error))?;
        Ok(Batches { reader, specs, table: self.table, path: self.path.clone() })
    }

    /// How many rows of these groups have about [`BATCH_BYTES`]; at least one. No more than a whole group
    /// has, so that a batch is never of many: rows may have their texts unevenly, and a group was in memory
    /// as a whole when it was written.
    fn rows_at_once(&self, groups: &[usize]) -> usize {
        let of_group = |group: &usize| {
            let (rows, bytes) = (self.group(*group).0.max(1), self.group_bytes(*group).max(1));
            rows.min(rows.saturating_mul(BATCH_BYTES) / bytes).max(1)
        };
        // The last group has what was left over.
        let counted = if groups.len() > 1 { &groups[..groups.len() - 1] } else { groups };
        let rows = counted.iter().map(of_group).min().unwrap_or(1);
        usize::try_from(rows).unwrap_or(usize::MAX)
    }

    /// Times and versions of a row group.
    pub(super) fn stamps(&self, group: usize) -> Result<Stamps, EngineError> {
        let rows = self.rows(group);
        let (batch, specs) = self.one_batch(group, Part::Stamps, 0..rows)?;
        let stamps = Stamps::of(&batch, &specs);
        stamps.ok_or_else(|| self.corrupt("a column has another type"))
    }

    /// A block of the values of a row group.
    pub(super) fn block(&self, group: usize, block: usize) -> Result<Block, EngineError> {
        let begin = block * BLOCK_ROWS;
        let end = self.rows(group).min(begin + BLOCK_ROWS);
        let (batch, specs) = self.one_batch(group, Part::Values, begin..end)?;
        Block::of(batch, specs).ok_or_else(|| self.corrupt("a column has another type"))
    }

    fn rows(&self, group: usize) -> usize {
        let rows = self.head.metadata.metadata().row_group(group).num_rows();
        usize::try_from(rows).expect("rows were counted when they were written")
    }

    /// Some rows of a group in one piece.
    fn one_batch(
        &self,
        group: usize,
        part: Part,
        rows: Range<usize>,
    ) -> Result<(RecordBatch, Vec<ColumnSpec>), EngineError> {
        assert!(!rows.is_empty(), "rows are wanted");
        let (builder, specs) = self.builder(self.head.metadata.clone(), vec![group], part)?;
        let selection =
            vec![RowSelector::skip(rows.start), RowSelector::select(rows.end - rows.start)];
        let error = |error| io_error("read", Path::new(&self.path), error);
        let mut reader = builder
            .with_batch_size(rows.len())
            .with_row_selection(RowSelection::from(selection))
            .build()
            .map_err(error)?;
        let batch = reader.next().ok_or_else(|| self.corrupt("has fewer rows than it says"))?;
        let batch = batch.map_err(|error| io_error("read", Path::new(&self.path), error))?;
        if batch.num_rows() != rows.len() {
            return Err(self.corrupt("has fewer rows than it says"));
        }
        Ok((batch, specs))
    }

    /// A reader of a part of these groups, and what its columns mean.
    fn builder(
        &self,
        metadata: ArrowReaderMetadata,
        groups: Vec<usize>,
        part: Part,
    ) -> Result<(ParquetRecordBatchReaderBuilder<File>, Vec<ColumnSpec>), EngineError> {
        let path = Path::new(&self.path);
        let file = self.file.try_clone().map_err(|error| io_error("read", path, error))?;
        let head = &*self.head;
        let wanted: Vec<usize> =
            (0..head.specs.len()).filter(|&at| part.has(&head.specs[at].role)).collect();
        let schema = head.metadata.metadata().file_metadata().schema_descr();
        let mask = ProjectionMask::roots(schema, wanted.iter().copied());
        let specs = wanted.iter().map(|&at| head.specs[at].clone()).collect();
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_row_groups(groups)
            .with_projection(mask);
        Ok((builder, specs))
    }

    /// The error that says what is wrong with the file.
    fn corrupt(&self, what: &str) -> EngineError {
        EngineError::Corrupt { path: self.path.clone(), what: what.to_owned() }
    }
}

/// Reading some rows only.
impl Reader {
    /// These rows, counted through the whole file and sorted, `batch_rows` at a time. With the file's
    /// page index only the pages that hold them are read.
    pub(super) fn selected(
        &self,
        rows: &[Range<u64>],
        part: Part,
        batch_rows: usize,
    ) -> Result<Batches, EngineError> {
        assert!(rows.is_sorted_by_key(|range| range.start), "rows are read as they stand");
        let (mut groups, mut ranges) = (Vec::new(), Vec::new());
        // `first` counts through the file, `taken` through the groups that are read.
        let (mut first, mut taken) = (0, 0);
        for group in 0..self.groups() {
            let end = first + self.group(group).0;
            let inside = rows.iter().filter(|range| range.start < end && range.end > first);
            let before = ranges.len();
            ranges.extend(inside.map(|range| {
                let (from, to) = (range.start.max(first), range.end.min(end));
                index(from - first + taken)..index(to - first + taken)
            }));
            if ranges.len() > before {
                groups.push(group);
                taken += end - first;
            }
            first = end;
        }
        let options = ArrowReaderOptions::new()
            .with_schema(Arc::clone(self.head.metadata.schema()))
            .with_page_index_policy(PageIndexPolicy::Optional);
        let error = |error| io_error("read", Path::new(&self.path), error);
        let metadata = ArrowReaderMetadata::load(&self.file, options).map_err(error)?;
        let selection = RowSelection::from_consecutive_ranges(ranges.into_iter(), index(taken));
        let (builder, specs) = self.builder(metadata, groups, part)?;
        self.batches_of(builder.with_batch_size(batch_rows).with_row_selection(selection), specs)
    }
}

fn index(row: u64) -> usize {
    usize::try_from(row).expect("a file's rows are counted in 32 bits")
}

/// Rows of a file, some at a time.
#[derive(Debug)]
pub(super) struct Batches {
    reader: ParquetRecordBatchReader,
    specs: Vec<ColumnSpec>,
    table: TableId,
    path: String,
}

impl Batches {
    /// Adds the rows of the next batch that are in `range` to `store`. Returns whether there was one.
    pub(super) fn next(
        &mut self,
        range: TimeRange,
        store: &mut TableStore,
    ) -> Result<bool, EngineError> {
        let Some(batch) = self.reader.next() else { return Ok(false) };
        let error = |error| io_error("read", Path::new(&self.path), error);
        let batch = batch.map_err(error)?;
        let columns = Columns::of(&batch, &self.specs)
            .ok_or_else(|| self.corrupt("a column has another type"))?;
        let loaded = columns.load(self.table, range, store);
        loaded.ok_or_else(|| self.corrupt("a row is out of place"))?;
        Ok(true)
    }

    /// The error that says what is wrong with the file.
    pub(super) fn corrupt(&self, what: &str) -> EngineError {
        EngineError::Corrupt { path: self.path.clone(), what: what.to_owned() }
    }
}

impl Part {
    fn has(self, role: &Role) -> bool {
        match role {
            Role::Time | Role::Version => self != Self::Values,
            Role::MeasureName | Role::Dimension { .. } => {
                matches!(self, Self::Whole | Self::Keys)
            }
            Role::Attribute { .. } | Role::Scalar { .. } => {
                matches!(self, Self::Whole | Self::Values)
            }
        }
    }
}

/// A column of names: their codes and what these stand for.
struct Names<'b> {
    name: Option<&'b str>,
    codes: &'b [i32],
    array: &'b ArrayRef,
    values: &'b arrow_array::StringArray,
}

impl<'b> Names<'b> {
    fn of(array: &'b ArrayRef, name: Option<&'b str>) -> Option<Self> {
        let dictionary = array.as_dictionary_opt::<Int32Type>()?;
        let values = dictionary.values().as_string_opt::<i32>()?;
        Some(Self { name, codes: dictionary.keys().values(), array, values })
    }

    fn get(&self, row: usize) -> Option<&'b str> {
        if self.array.is_null(row) {
            return None;
        }
        Some(self.values.value(usize::try_from(self.codes[row]).ok()?))
    }

    fn is_same(&self, row: usize, other: usize) -> bool {
        self.codes[row] == self.codes[other] && self.array.is_null(row) == self.array.is_null(other)
    }
}

/// A column of values.
pub(super) struct Values<'b> {
    pub(super) kind: MeasureKind,
    pub(super) name: &'b str,
    value_type: ValueType,
    array: &'b ArrayRef,
    typed: Typed<'b>,
}

enum Typed<'b> {
    Double(&'b [f64]),
    Bigint(&'b [i64]),
    Boolean(&'b arrow_array::BooleanArray),
    Varchar(&'b arrow_array::StringArray),
    Timestamp(&'b [i64]),
}

impl<'b> Values<'b> {
    fn of(array: &'b ArrayRef, kind: MeasureKind, name: &'b str, number: u8) -> Option<Self> {
        let value_type = ValueType::from_number(number)?;
        let typed = match value_type {
            ValueType::Double => Typed::Double(array.as_primitive_opt::<Float64Type>()?.values()),
            ValueType::Bigint => Typed::Bigint(array.as_primitive_opt::<Int64Type>()?.values()),
            ValueType::Boolean => Typed::Boolean(array.as_boolean_opt()?),
            ValueType::Varchar => Typed::Varchar(array.as_string_opt()?),
            ValueType::Timestamp => {
                Typed::Timestamp(array.as_primitive_opt::<TimestampNanosecondType>()?.values())
            }
        };
        Some(Self { kind, name, value_type, array, typed })
    }

    /// A column of this role; `None` if it is none of values, or of another type.
    pub(super) fn of_role(array: &'b ArrayRef, role: &'b Role) -> Option<Self> {
        match role {
            Role::Attribute { name, value_type } => {
                Self::of(array, MeasureKind::Multi, name, *value_type)
            }
            Role::Scalar { value_type } => Self::of(array, MeasureKind::Scalar, "", *value_type),
            Role::Time | Role::MeasureName | Role::Version | Role::Dimension { .. } => None,
        }
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Value<'b> {
        match self.typed {
            Typed::Double(values) => Value::Double(values[row]),
            Typed::Bigint(values) => Value::Bigint(values[row]),
            Typed::Boolean(values) => Value::Boolean(values.value(row)),
            Typed::Varchar(values) => Value::Varchar(values.value(row)),
            Typed::Timestamp(values) => Value::Timestamp(values[row]),
        }
    }
}

/// The columns of a batch.
struct Columns<'b> {
    rows: usize,
    times: &'b [i64],
    versions: &'b [i64],
    measure_names: Names<'b>,
    dimensions: Vec<Names<'b>>,
    values: Vec<Values<'b>>,
}

impl<'b> Columns<'b> {
    fn of(batch: &'b RecordBatch, specs: &'b [ColumnSpec]) -> Option<Self> {
        let (mut times, mut versions, mut measure_names) = (None, None, None);
        let (mut dimensions, mut values) = (Vec::new(), Vec::new());
        for (array, spec) in batch.columns().iter().zip(specs) {
            match &spec.role {
                Role::Time => {
                    times = Some(array.as_primitive_opt::<TimestampNanosecondType>()?.values());
                }
                Role::Version => {
                    versions = Some(array.as_primitive_opt::<Int64Type>()?.values());
                }
                Role::MeasureName => measure_names = Some(Names::of(array, None)?),
                Role::Dimension { name } => dimensions.push(Names::of(array, Some(name))?),
                role @ (Role::Attribute { .. } | Role::Scalar { .. }) => {
                    values.push(Values::of_role(array, role)?);
                }
            }
        }
        // Sorted as a layout is: scalars, then attributes by name.
        values.sort_by_key(|column| (column.kind == MeasureKind::Multi, column.name));
        Some(Self {
            rows: batch.num_rows(),
            times: times?,
            versions: versions?,
            measure_names: measure_names?,
            dimensions,
            values,
        })
    }

    /// Adds the rows to `store`; `None` where they are not sorted by time inside their series.
    fn load(&self, table: TableId, range: TimeRange, store: &mut TableStore) -> Option<()> {
        let mut families = HashMap::with_hasher(RandomState::default());
        let mut layouts = Layouts::default();
        let mut last_series = None;
        for row in 0..self.rows {
            let time_ns = self.times[row];
            if !is_inside(range, time_ns) {
                continue;
            }
            let series = match last_series {
                Some((before, series)) if self.is_same_series(row, before) => series,
                _ => self.series(table, row, &mut families, store),
            };
            last_series = Some((row, series));
            if time_ns <= store.time_ns_last(series) {
                return None;
            }
            let layout = layouts.of(self, row, store);
            let stamp = Stamp { time_ns, version: self.versions[row] };
            let of_row = self.values.iter().zip(&layouts.present).filter(|(_, present)| **present);
            let values = of_row.map(|(column, _)| column.get(row));
            let id = store.append_values(series, stamp, layout, values);
            store.index_last(series, id, time_ns);
        }
        Some(())
    }

    fn is_same_series(&self, row: usize, other: usize) -> bool {
        self.measure_names.is_same(row, other)
            && self.dimensions.iter().all(|column| column.is_same(row, other))
    }

    fn has(&self, row: usize, present: &[bool]) -> bool {
        self.values
            .iter()
            .zip(present)
            .all(|(column, present)| column.array.is_null(row) != *present)
    }

    fn layout(&self, present: &[bool], store: &mut TableStore) -> u32 {
        let columns: Vec<&Values<'_>> = self
            .values
            .iter()
            .zip(present)
            .filter(|(_, present)| **present)
            .map(|(column, _)| column)
            .collect();
        let kind = columns.first().map_or(MeasureKind::Multi, |column| column.kind);
        let attributes: Vec<_> =
            columns.iter().map(|column| (column.name, column.value_type)).collect();
        store.layout(kind, &attributes)
    }

    fn series(
        &self,
        table: TableId,
        row: usize,
        families: &mut HashMap<Vec<bool>, HashMap<&'b str, Arc<FamilyKey>>, RandomState>,
        store: &mut TableStore,
    ) -> super::store::SeriesId {
        let measure_name = self.measure_names.get(row).unwrap_or("");
        let mut values = Vec::new();
        let mut has = Vec::with_capacity(self.dimensions.len());
        for column in &self.dimensions {
            let value = column.get(row);
            has.push(value.is_some());
            if let Some(value) = value {
                varint::put_bytes(&mut values, value.as_bytes());
            }
        }
        let by_measure = families.entry(has).or_default();
        let family = by_measure.entry(measure_name).or_insert_with(|| {
            let names: Vec<&str> = self
                .dimensions
                .iter()
                .filter(|column| !column.array.is_null(row))
                .filter_map(|column| column.name)
                .collect();
            Arc::new(FamilyKey::of(table, measure_name, names.into_iter()))
        });
        let key = SeriesKey::of(Arc::clone(family), &values);
        store.series(&key.wanted(), || i64::MIN)
    }
}

/// The layouts of a batch's rows in the store that they go to.
#[derive(Debug, Default)]
struct Layouts {
    /// Which columns the last row had.
    present: Vec<bool>,
    last: Option<u32>,
    known: HashMap<Vec<bool>, u32, RandomState>,
}

impl Layouts {
    /// The layout of a row: that of the row before, most of the time.
    fn of(&mut self, columns: &Columns<'_>, row: usize, store: &mut TableStore) -> u32 {
        if let Some(last) = self.last
            && columns.has(row, &self.present)
        {
            return last;
        }
        self.present = columns.values.iter().map(|column| !column.array.is_null(row)).collect();
        let layout = if let Some(&layout) = self.known.get(&self.present) {
            layout
        } else {
            let layout = columns.layout(&self.present, store);
            self.known.insert(self.present.clone(), layout);
            layout
        };
        self.last = Some(layout);
        layout
    }
}

/// Whether a time is in the range; the end of time is in every range without an end.
pub(super) const fn is_inside(range: TimeRange, time_ns: i64) -> bool {
    time_ns >= range.from_ns && (time_ns < range.to_ns || range.to_ns == i64::MAX)
}
