//! Typed columns and the chunks that they stand in.
//!
//! A chunk holds rows of one layout, every column dense: a layout has its attributes by definition,
//! so there are no nulls. A chunk that is full is sealed behind an `Arc` and never changes again:
//! growing a store never copies a chunk, and a snapshot copies pointers and one open chunk a layout.

use crate::record::varint::{take_bytes, take_signed};
use crate::record::{Value, ValueType};

/// Bits of a [`RowId`] that say which row of its chunk is meant.
const ROW_BITS: u32 = 10;

/// Most rows of a chunk. Small enough that the snapshot of an open chunk is cheap, large enough that
/// what a chunk costs beside its rows does not count.
pub(super) const CHUNK_ROWS: usize = 1 << ROW_BITS;

/// Text bytes at which a chunk is sealed before it is full, for the same reason.
const CHUNK_TEXT_BYTES: usize = 1 << 20;

/// Rows that the first chunk of a layout has room for at first: a fleet of odd layouts must not cost
/// a full chunk each.
const FIRST_ROWS: usize = 4;

/// Bytes that a row takes beside its values: series, time, version, arrival.
const ROW_BYTES: usize = 4 + 8 + 8 + 4;

/// Chunks that row ids can tell apart.
pub(super) const CHUNKS_MAX: usize = 1 << (u32::BITS - ROW_BITS);

/// A row of a store: its chunk and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RowId(pub(super) u32);

impl RowId {
    pub(super) fn new(chunk: usize, row: usize) -> Self {
        debug_assert!(row < CHUNK_ROWS, "a row stands inside its chunk");
        Self(
            u32::try_from(chunk << ROW_BITS | row)
                .expect("a store is frozen before it has CHUNKS_MAX"),
        )
    }

    pub(super) const fn chunk(self) -> usize {
        (self.0 >> ROW_BITS) as usize
    }

    pub(super) const fn row(self) -> usize {
        self.0 as usize & (CHUNK_ROWS - 1)
    }
}

/// Values of one attribute, in the order of the rows.
#[derive(Debug, Clone)]
pub(super) enum Column {
    /// DOUBLE.
    Double(Vec<f64>),
    /// BIGINT.
    Bigint(Vec<i64>),
    /// BOOLEAN.
    Boolean(Vec<bool>),
    /// VARCHAR.
    Varchar(Texts),
    /// TIMESTAMP.
    Timestamp(Vec<i64>),
}

/// Texts that stand one behind the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    /// Where each ends; it begins where the one before ends.
    ends: Vec<u32>,
    text: String,
}

impl Texts {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
        let end = u32::try_from(self.text.len());
        self.ends.push(end.expect("a chunk is sealed long before it holds 4 GiB of text"));
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> &str {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        &self.text[begin..self.ends[row] as usize]
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.text.truncate(self.ends.last().map_or(0, |&end| end as usize));
    }
}

impl Column {
    pub(super) fn new(value_type: ValueType) -> Self {
        match value_type {
            ValueType::Double => Self::Double(Vec::new()),
            ValueType::Bigint => Self::Bigint(Vec::new()),
            ValueType::Boolean => Self::Boolean(Vec::new()),
            ValueType::Varchar => Self::Varchar(Texts::default()),
            ValueType::Timestamp => Self::Timestamp(Vec::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Double(values) => values.len(),
            Self::Bigint(values) | Self::Timestamp(values) => values.len(),
            Self::Boolean(values) => values.len(),
            Self::Varchar(texts) => texts.len(),
        }
    }

    #[inline]
    pub(super) fn value(&self, row: usize) -> Value<'_> {
        match self {
            Self::Double(values) => Value::Double(values[row]),
            Self::Bigint(values) => Value::Bigint(values[row]),
            Self::Boolean(values) => Value::Boolean(values[row]),
            Self::Varchar(texts) => Value::Varchar(texts.get(row)),
            Self::Timestamp(values) => Value::Timestamp(values[row]),
        }
    }

    /// Appends `value`, which is of the column's type.
    #[inline]
    pub(super) fn push(&mut self, value: &Value<'_>) {
        match (self, value) {
            (Self::Double(values), Value::Double(value)) => values.push(*value),
            (Self::Bigint(values), Value::Bigint(value))
            | (Self::Timestamp(values), Value::Timestamp(value)) => values.push(*value),
            (Self::Boolean(values), Value::Boolean(value)) => values.push(*value),
            (Self::Varchar(texts), Value::Varchar(value)) => texts.push(value),
            (column, value) => unreachable!("{value:?} into {column:?}"),
        }
    }

    /// Reads a value as payloads encode it at the front of `bytes`, appends it and moves past it.
    /// `None`, and nothing appended, where the bytes are no such value.
    #[inline]
    fn take(&mut self, bytes: &mut &[u8]) -> Option<()> {
        match self {
            Self::Double(values) => {
                let (bits, rest) = bytes.split_first_chunk::<8>()?;
                *bytes = rest;
                values.push(f64::from_bits(u64::from_le_bytes(*bits)));
            }
            Self::Bigint(values) | Self::Timestamp(values) => values.push(take_signed(bytes)?),
            Self::Boolean(values) => {
                let (&byte, rest) = bytes.split_first()?;
                *bytes = rest;
                values.push(byte != 0);
            }
            Self::Varchar(texts) => texts.push(std::str::from_utf8(take_bytes(bytes)?).ok()?),
        }
        Some(())
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Double(values) => values.truncate(rows),
            Self::Bigint(values) | Self::Timestamp(values) => values.truncate(rows),
            Self::Boolean(values) => values.truncate(rows),
            Self::Varchar(texts) => texts.truncate(rows),
        }
    }

    /// Makes room for `rows` rows in all.
    fn reserve_to(&mut self, rows: usize) {
        let more = rows - self.len();
        match self {
            Self::Double(values) => values.reserve_exact(more),
            Self::Bigint(values) | Self::Timestamp(values) => values.reserve_exact(more),
            Self::Boolean(values) => values.reserve_exact(more),
            Self::Varchar(texts) => texts.ends.reserve_exact(more),
        }
    }

    /// Bytes that one value takes, but for text.
    const fn value_bytes(&self) -> usize {
        match self {
            Self::Double(_) | Self::Bigint(_) | Self::Timestamp(_) => 8,
            Self::Boolean(_) => 1,
            Self::Varchar(_) => 4,
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Self::Varchar(texts) => texts.text.capacity(),
            _ => 0,
        }
    }
}

/// Rows of one layout.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    /// The layout's place in its store.
    pub(super) layout: u32,
    /// Each row's series, by its place in the store.
    pub(super) series: Vec<u32>,
    /// Each row's time, ns.
    pub(super) times: Vec<i64>,
    /// Each row's version.
    pub(super) versions: Vec<i64>,
    /// The store's count of rows when each arrived: of two rows with one key the later stands.
    pub(super) arrivals: Vec<u32>,
    /// One column an attribute, in the order of the layout.
    pub(super) columns: Vec<Column>,
    /// The earliest time of a row, ns.
    pub(super) time_ns_min: i64,
    /// The latest time of a row, ns.
    pub(super) time_ns_max: i64,
    /// Rows that there is room for.
    rows_max: usize,
    /// Whether a column holds text, so that sealing must look at bytes.
    has_text: bool,
    /// Bytes that were reported to the store already.
    reported_bytes: usize,
}

/// What a row says beside its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowHead {
    pub(super) series: u32,
    pub(super) time_ns: i64,
    pub(super) version: i64,
    pub(super) arrival: u32,
}

impl Chunk {
    /// An empty chunk; with room for all its rows unless it is the layout's first.
    pub(super) fn new(layout: u32, types: impl Iterator<Item = ValueType>, is_first: bool) -> Self {
        let columns: Vec<Column> = types.map(Column::new).collect();
        let has_text = columns.iter().any(|column| matches!(column, Column::Varchar(_)));
        let mut chunk = Self {
            layout,
            series: Vec::new(),
            times: Vec::new(),
            versions: Vec::new(),
            arrivals: Vec::new(),
            columns,
            time_ns_min: i64::MAX,
            time_ns_max: i64::MIN,
            rows_max: 0,
            has_text,
            reported_bytes: 0,
        };
        chunk.reserve_to(if is_first { FIRST_ROWS } else { CHUNK_ROWS });
        chunk
    }

    #[inline]
    pub(super) fn rows(&self) -> usize {
        self.series.len()
    }

    /// Whether the next row belongs into another chunk.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.rows() >= CHUNK_ROWS || self.has_text && self.text_bytes() >= CHUNK_TEXT_BYTES
    }

    /// Bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.columns.iter().map(Column::value_bytes).sum();
        size_of::<Self>()
            + self.columns.capacity() * size_of::<Column>()
            + self.rows_max * (ROW_BYTES + values)
            + self.text_bytes()
    }

    fn text_bytes(&self) -> usize {
        self.columns.iter().map(Column::text_bytes).sum()
    }

    /// Bytes of memory that it takes and has not reported yet.
    pub(super) fn unreported_bytes(&mut self) -> usize {
        let bytes = self.bytes();
        assert!(bytes >= self.reported_bytes, "an open chunk only grows");
        bytes - std::mem::replace(&mut self.reported_bytes, bytes)
    }

    /// Makes room for one row; returns whether the chunk may take more memory than it reported.
    #[inline]
    fn make_room(&mut self) -> bool {
        if self.rows() < self.rows_max {
            // What a new chunk has reserved is reported with its first row.
            return self.has_text || self.rows() == 0;
        }
        self.reserve_to((self.rows_max * 2).min(CHUNK_ROWS));
        true
    }

    fn reserve_to(&mut self, rows: usize) {
        assert!(rows > self.rows(), "a chunk only grows");
        let more = rows - self.rows();
        self.series.reserve_exact(more);
        self.times.reserve_exact(more);
        self.versions.reserve_exact(more);
        self.arrivals.reserve_exact(more);
        for column in &mut self.columns {
            column.reserve_to(rows);
        }
        self.rows_max = rows;
    }

    /// Appends a row whose values stand encoded in `values`; `columns[i]` is the column of the i-th
    /// of them. Returns the bytes of memory that it takes more than before, or `None`, and nothing
    /// appended, where the values' bytes are no such values.
    #[inline]
    pub(super) fn take_row(
        &mut self,
        head: &RowHead,
        columns: &[u32],
        values: &[u8],
    ) -> Option<usize> {
        let has_grown = self.make_room();
        let mut rest = values;
        let rows = self.rows();
        for &at in columns {
            if self.columns[at as usize].take(&mut rest).is_none() {
                self.undo(rows);
                return None;
            }
        }
        if !rest.is_empty() {
            self.undo(rows);
            return None;
        }
        self.push_head(head);
        Some(if has_grown { self.unreported_bytes() } else { 0 })
    }

    /// Appends a row with a value for each column, in their order. Returns the bytes of memory that
    /// it takes more than before.
    pub(super) fn push_row<'v>(
        &mut self,
        head: &RowHead,
        values: impl Iterator<Item = Value<'v>>,
    ) -> usize {
        let has_grown = self.make_room();
        let mut pushed = 0;
        for (column, value) in self.columns.iter_mut().zip(values) {
            column.push(&value);
            pushed += 1;
        }
        assert_eq!(pushed, self.columns.len(), "a row has a value for each column");
        self.push_head(head);
        if has_grown { self.unreported_bytes() } else { 0 }
    }

    #[inline]
    fn push_head(&mut self, head: &RowHead) {
        self.series.push(head.series);
        self.times.push(head.time_ns);
        self.versions.push(head.version);
        self.arrivals.push(head.arrival);
        self.time_ns_min = self.time_ns_min.min(head.time_ns);
        self.time_ns_max = self.time_ns_max.max(head.time_ns);
    }

    #[cold]
    fn undo(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }
}

impl Chunk {
    /// What stands for a moment where a chunk was taken out.
    pub(super) const fn empty(layout: u32) -> Self {
        Self {
            layout,
            series: Vec::new(),
            times: Vec::new(),
            versions: Vec::new(),
            arrivals: Vec::new(),
            columns: Vec::new(),
            time_ns_min: i64::MAX,
            time_ns_max: i64::MIN,
            rows_max: 0,
            has_text: false,
            reported_bytes: 0,
        }
    }
}
