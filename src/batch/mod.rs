//! Floor 2: records on their way to the engine, up to
//! [`crate::record::limits::RECORDS_PER_REQUEST_MAX`] of one table at a time, or what else the engine
//! would like.
//!
//! A shard pushes records into its [`Batches`], one batch a table, and writes a batch when it is full
//! or when nothing more is waiting. What all records of a batch share is factored out as they are
//! pushed ([`common`]), in one pass: the candidates are the first record's attributes, and each
//! further record strikes out those in which it differs. With fleets of unlike devices few candidates
//! are left after two records, so the pass costs next to nothing.
//!
//! An engine that sends its batches elsewhere pays for every byte. For it a shard's records wait until the
//! turn is over and are put together by what they share ([`group`]).

pub mod common;
mod group;

use std::collections::HashMap;

use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::record::TableId;
use crate::record::codec::RecordView;
use crate::record::limits::RECORDS_PER_REQUEST_MAX;
use crate::record::request::WriteRequest;

use common::Common;

/// Settings of the section `batch`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Most records a batch. 1 to 100. Fewer costs more calls of the engine; Timestream takes no more. 100
    /// leaves it to the engine, and that for PostgreSQL takes more.
    pub records_max: usize,
    /// How long a shard that has caught up waits for more records before it writes an unfilled batch.
    /// 0ms to 10s. Longer fills batches and delays visibility; it never delays an acknowledgement.
    pub linger: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self { records_max: RECORDS_PER_REQUEST_MAX, linger: Span::ms(1) }
    }
}

/// Longest linger.
const LINGER_MAX: Span = Span::secs(10);

impl Options {
    /// Every contradiction in the section, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=RECORDS_PER_REQUEST_MAX).contains(&self.records_max) {
            problems.push(format!(
                "batch.records_max: {} is not in 1 to {RECORDS_PER_REQUEST_MAX}",
                self.records_max
            ));
        }
        if self.linger > LINGER_MAX {
            problems.push(format!("batch.linger: {} is not in 0ms to {LINGER_MAX}", self.linger));
        }
        problems
    }
}

/// A write request being filled.
#[derive(Debug)]
pub struct Batch<'a> {
    table: TableId,
    common: Common<'a>,
    records: Vec<RecordView<'a>>,
    /// The frame of each record, to name it when it is rejected.
    frames: Vec<Lsn>,
}

impl<'a> Batch<'a> {
    fn new(table: TableId) -> Self {
        Self { table, common: Common::default(), records: Vec::new(), frames: Vec::new() }
    }

    fn push(&mut self, record: RecordView<'a>, frame: Lsn) {
        debug_assert_eq!(record.family.table, self.table, "a batch is of one table");
        self.common.narrow(&record);
        self.records.push(record);
        self.frames.push(frame);
    }

    /// Keeps a record that waits to be put together with others.
    fn keep(&mut self, record: RecordView<'a>, frame: Lsn) {
        self.records.push(record);
        self.frames.push(frame);
    }

    /// A batch of some of the records that wait.
    fn part(&self, places: &[usize]) -> Self {
        let mut part = Self::new(self.table);
        for at in places {
            part.push(self.records[*at], self.frames[*at]);
        }
        part
    }

    /// The request for the engine.
    pub fn request(&mut self) -> WriteRequest<'_> {
        assert_eq!(self.records.len(), self.frames.len(), "each record has its frame");
        let common = self.common.finish(self.records.len());
        WriteRequest { table: self.table, common, records: &self.records }
    }

    /// The frame that record `at` came in.
    pub fn frame(&self, at: usize) -> Lsn {
        self.frames[at]
    }

    /// The records.
    pub fn records(&self) -> &[RecordView<'a>] {
        &self.records
    }

    fn clear(&mut self) {
        self.common.clear();
        self.records.clear();
        self.frames.clear();
    }
}

/// In which order records make batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they come.
    Arrival,
    /// What is alike together; records of one series as they come.
    Alike,
}

/// Most records of a table that wait to be put together: what a turn holds of small ones. They are
/// references into the log, so the bound is for the sort's time and memory.
const ALIKE_RECORDS_MAX: usize = 65_536;

/// The batches that a shard is filling, one a table.
#[derive(Debug)]
pub struct Batches<'a> {
    records_max: usize,
    order: Order,
    open: Vec<Batch<'a>>,
    /// Places in `open`.
    by_table: HashMap<TableId, usize, foldhash::fast::RandomState>,
    /// Where the last record went: lines of one table come in runs.
    hint: usize,
}

impl<'a> Batches<'a> {
    /// Batches of at most `records_max` records, which is at least 1.
    pub fn new(records_max: usize, order: Order) -> Self {
        assert!(records_max > 0, "checked with the settings");
        Self { records_max, order, open: Vec::new(), by_table: HashMap::default(), hint: 0 }
    }

    /// Adds a record of `frame`; when that fills its batch, gives the batch to `write` and empties it.
    /// Where what is alike goes together, all waits for [`Self::drain`], within bounds.
    ///
    /// # Errors
    ///
    /// What `write` answers; the batch keeps its records.
    pub fn push<E>(
        &mut self,
        record: RecordView<'a>,
        frame: Lsn,
        write: impl FnMut(&mut Batch<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let at = self.place(record.family.table);
        let batch = &mut self.open[at];
        let max = match self.order {
            Order::Arrival => {
                batch.push(record, frame);
                self.records_max
            }
            Order::Alike => {
                batch.keep(record, frame);
                ALIKE_RECORDS_MAX
            }
        };
        debug_assert!(batch.records.len() <= max, "one that is full is written before the next");
        if batch.records.len() >= max { self.write_out(at, write) } else { Ok(()) }
    }

    /// Gives every batch that holds records to `write` and empties it.
    ///
    /// # Errors
    ///
    /// The first that `write` answers; that batch and those behind it keep their records.
    pub fn drain<E>(
        &mut self,
        mut write: impl FnMut(&mut Batch<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        for at in 0..self.open.len() {
            self.write_out(at, &mut write)?;
        }
        Ok(())
    }

    /// As [`Self::drain`], and gives as many as `max` of a table's batches at once.
    ///
    /// # Errors
    ///
    /// As of [`Self::drain`].
    pub fn drain_many<E>(
        &mut self,
        max: usize,
        mut write: impl FnMut(&mut [Batch<'a>]) -> Result<(), E>,
    ) -> Result<(), E> {
        assert!(max > 0, "an engine takes a batch");
        for batch in &mut self.open {
            if batch.records.is_empty() {
                continue;
            }
            assert!(
                batch.records.len() <= ALIKE_RECORDS_MAX,
                "what is full is not left to the end"
            );
            match self.order {
                Order::Arrival => write(std::slice::from_mut(batch))?,
                Order::Alike => {
                    let parts = group::groups(&batch.records, self.records_max);
                    for parts in parts.chunks(max) {
                        let mut many: Vec<Batch<'a>> =
                            parts.iter().map(|part| batch.part(part)).collect();
                        write(&mut many)?;
                    }
                }
            }
            batch.clear();
        }
        Ok(())
    }

    fn write_out<E>(
        &mut self,
        at: usize,
        mut write: impl FnMut(&mut Batch<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let batch = &mut self.open[at];
        if batch.records.is_empty() {
            return Ok(());
        }
        match self.order {
            Order::Arrival => write(batch)?,
            Order::Alike => {
                for part in group::groups(&batch.records, self.records_max) {
                    write(&mut batch.part(&part))?;
                }
            }
        }
        batch.clear();
        Ok(())
    }

    fn place(&mut self, table: TableId) -> usize {
        if self.open.get(self.hint).is_none_or(|batch| batch.table != table) {
            let open = &mut self.open;
            self.hint = *self.by_table.entry(table).or_insert_with(|| {
                open.push(Batch::new(table));
                open.len() - 1
            });
        }
        self.hint
    }
}
