//! Some rows of a file on their way through `ingest`, and what became of them.

use std::cell::RefCell;

use crate::ingest::{Ask, Durability, Ingest, IngestError, Partial, Pending, Protocol, Receipt};
use crate::protocol::csv::plan::{Plan, Problem, Row};
use crate::protocol::csv::rows::Rows;
use crate::record::metered::bytes_of;
use crate::record::{Origin, Reason, Record, RecordSink};

use super::findings::Findings;
use super::task::{Progress, Spec};

/// Rows of a chunk: enough that its frame is worth a sync, few enough that several are under way.
const ROWS_MAX: usize = 8_192;

/// Bytes of a chunk, but for its last row.
const BYTES_MAX: usize = 1 << 20;

/// Rows that were read, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    text: Vec<u8>,
    /// Where each field ends in its row.
    ends: Vec<u32>,
    rows: Vec<RowAt>,
    /// Where the file goes on behind them: byte and line.
    after: (u64, u64),
}

#[derive(Debug, Clone, Copy)]
struct RowAt {
    text_end: usize,
    ends_end: usize,
    lines: (u64, u64),
}

/// A chunk that was appended, without its text.
#[derive(Debug)]
pub(super) struct Flight {
    pending: Pending,
    rows: Vec<RowAt>,
    shown: Shown,
    after: (u64, u64),
}

/// What the rows of a chunk became.
#[derive(Debug, Default)]
struct Shown {
    /// The records, in the order of their numbers: a row may have several, each with its own verdict.
    records: Vec<Shape>,
    /// The rows that became none, and why.
    problems: Vec<(usize, Problem)>,
}

/// What is kept of a record while it is on its way.
#[derive(Debug, Clone, Copy)]
struct Shape {
    row: u32,
    /// What it is metered as. A record has fewer bytes than its frame.
    bytes: u32,
}

/// What all chunks of a file share.
#[derive(Debug)]
pub(super) struct Road<'l> {
    pub(super) ingest: &'l Ingest,
    pub(super) spec: &'l Spec,
    pub(super) plan: &'l Plan,
    /// When they are received: part of what decides whether a row is taken, so it is kept with the
    /// position that they begin at.
    pub(super) received_ns: i64,
}

impl Chunk {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= ROWS_MAX || self.text.len() >= BYTES_MAX
    }

    /// Adds the row that was just read.
    pub(super) fn push(&mut self, rows: &Rows) {
        self.text.extend_from_slice(rows.text());
        let ends = rows.ends().iter().map(|end| u32::try_from(*end).expect("a row is bounded"));
        self.ends.extend(ends);
        let (text_end, ends_end) = (self.text.len(), self.ends.len());
        self.rows.push(RowAt { text_end, ends_end, lines: rows.lines() });
        self.after = rows.position();
    }

    /// Makes records of the rows and appends them. The chunk is empty afterwards, unless it failed.
    ///
    /// # Errors
    ///
    /// [`IngestError`]: nothing was taken.
    pub(super) fn submit(&mut self, road: &Road<'_>) -> Result<Flight, IngestError> {
        assert!(!self.is_empty(), "a chunk has rows");
        let shown = RefCell::new(Shown::default());
        let decode = |sink: &mut dyn RecordSink| {
            let mut shown = shown.borrow_mut();
            shown.records.clear();
            shown.problems.clear();
            self.show(road, sink, &mut shown);
        };
        let ask = Ask {
            protocol: Protocol::Batch,
            database: &road.spec.database,
            reading: None,
            received_ns: road.received_ns,
            body_bytes: self.text.len(),
            durability: Some(Durability::Applied),
            partial: Partial::Accept,
        };
        let pending = road.ingest.submit(&ask, decode)?;
        let shown = shown.into_inner();
        let rows = std::mem::take(&mut self.rows);
        self.text.clear();
        self.ends.clear();
        Ok(Flight { pending, rows, shown, after: self.after })
    }

    fn show(&self, road: &Road<'_>, sink: &mut dyn RecordSink, shown: &mut Shown) {
        let mut record = Record {
            database: &road.spec.database,
            table: &road.spec.table,
            version: Some(road.spec.version),
            ..Record::default()
        };
        let (mut text_at, mut ends_at) = (0, 0);
        for (number, row) in self.rows.iter().enumerate() {
            let text = &self.text[text_at..row.text_end];
            let fields = Row { text, ends: &self.ends[ends_at..row.ends_end] };
            (text_at, ends_at) = (row.text_end, row.ends_end);
            let row = u32::try_from(number).expect("a chunk has few rows");
            let mut take = |record: &mut Record<'_>| {
                record.origin =
                    Origin { number: shown.records.len() as u64, text: b"", ..Origin::default() };
                let bytes = u32::try_from(bytes_of(record)).unwrap_or(u32::MAX);
                shown.records.push(Shape { row, bytes });
                sink.record(record);
            };
            if let Err(problem) = road.plan.records(fields, &mut record, &mut take) {
                shown.problems.push((number, problem));
            }
        }
    }

    /// Gives up the rows: all of them are refused for `reason`.
    pub(super) fn refuse(&mut self, tally: &mut Tally<'_>, reason: &str) -> (u64, u64) {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            tally.findings.add((tally.file, "chunk"), row.lines, reason);
        }
        tally.progress.records_processed += rows.len() as u64;
        tally.progress.record_ingestion_failures += rows.len() as u64;
        self.text.clear();
        self.ends.clear();
        self.after
    }
}

/// Where the verdicts on a file's rows are counted.
#[derive(Debug)]
pub(super) struct Tally<'w> {
    pub(super) file: usize,
    pub(super) progress: &'w mut Progress,
    pub(super) findings: &'w mut Findings,
}

impl Flight {
    /// Waits for the verdicts and counts them; returns where the file goes on.
    ///
    /// # Errors
    ///
    /// [`IngestError`]: nothing is counted, and what became of the rows is unknown.
    pub(super) fn land(self, tally: &mut Tally<'_>) -> Result<(u64, u64), IngestError> {
        let receipt = self.pending.wait()?;
        assert_eq!(
            receipt.refused,
            receipt.named.len() as u64,
            "a batch load hears of every record"
        );
        let Shown { records, problems } = &self.shown;
        for (number, problem) in problems {
            let code = format!("parse:{}", problem.code);
            tally.findings.add((tally.file, &code), self.rows[*number].lines, &problem.message);
        }
        let mut bytes: u64 = records.iter().map(|record| u64::from(record.bytes)).sum();
        for refusal in &receipt.named {
            let number = usize::try_from(refusal.number).expect("it is one of the records");
            let Shape { row, bytes: refused } = records[number];
            bytes -= u64::from(refused);
            let words = words(&refusal.message, refusal.reason);
            let code = (tally.file, refusal.reason.code());
            tally.findings.add(code, self.rows[row as usize].lines, words);
        }
        tally.count(&receipt, problems.len() as u64, bytes);
        Ok(self.after)
    }
}

impl Tally<'_> {
    fn count(&mut self, receipt: &Receipt, problems: u64, bytes: u64) {
        let progress = &mut *self.progress;
        progress.records_processed += receipt.accepted + receipt.refused + problems;
        progress.records_ingested += receipt.accepted;
        progress.parse_failures += problems;
        progress.record_ingestion_failures += receipt.refused;
        progress.bytes_metered += bytes;
        let Progress { records_processed, records_ingested, .. } = *progress;
        let failures = progress.parse_failures + progress.record_ingestion_failures;
        assert_eq!(records_processed, records_ingested + failures, "every record is counted once");
    }
}

/// The reason as reports say it: for all rows that have it, not for the first.
fn words(message: &str, reason: Reason) -> &str {
    match reason {
        Reason::TimeOutsideWindow => {
            "The record timestamp is outside the time range of the data ingestion window."
        }
        _ => message,
    }
}
