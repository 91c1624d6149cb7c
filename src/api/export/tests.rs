//! An export that does not come to its end says so.

use std::fmt;

use tokio::sync::Semaphore;

use super::*;
use crate::base::lsn::Lsn;
use crate::engine::{EngineError, EngineState, Row, Selection, ShardId};
use crate::record::codec::Bucket;
use crate::record::request::{Outcome, WriteRequest};
use crate::record::{MeasureKind, Value};

/// Enough rows for more chunks than wait for the socket.
const ROWS: i64 = 40;

/// Shows rows of ten kilobytes, then ends the scan as a test says.
struct Scripted {
    end: fn() -> Result<(), EngineError>,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl TableEngine for Scripted {
    fn scan(
        &self,
        _table: TableId,
        _range: TimeRange,
        each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let text = "x".repeat(10_000);
        for time_ns in 0..ROWS {
            let attributes = [("s", Value::Varchar(&text))];
            let row = Row {
                measure_name: "m",
                dimensions: &[],
                kind: MeasureKind::Multi,
                attributes: &attributes,
                time_ns,
                version: 1,
            };
            if each(&row).is_break() {
                return Ok(());
            }
        }
        (self.end)()
    }

    fn write(
        &self,
        _shard: ShardId,
        _request: &WriteRequest<'_>,
        _outcomes: &mut Vec<Outcome>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn commit(&self, _shard: ShardId, _lsn: Lsn) -> Result<(), EngineError> {
        Ok(())
    }

    fn applied(&self, _lsn: Lsn) {}

    fn checkpoint(&self) -> Lsn {
        Lsn::ZERO
    }

    fn stored(&self, _bucket: Bucket) -> Lsn {
        Lsn::ZERO
    }

    fn flush(&self) -> Result<(), EngineError> {
        Ok(())
    }

    fn relieve(&self) {}

    fn newest(
        &self,
        _table: TableId,
        _selection: Selection<'_>,
        _each: &mut dyn FnMut(&Row<'_>) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn rows(&self, _table: TableId) -> u64 {
        0
    }

    fn state(&self) -> EngineState {
        EngineState::default()
    }

    fn close(&self) {}
}

fn damaged() -> Result<(), EngineError> {
    Err(EngineError::Corrupt { path: "a.parquet".to_owned(), what: "a test".to_owned() })
}

fn panics() -> Result<(), EngineError> {
    panic!("as a reader of a damaged file may")
}

/// Begins an export whose scan ends so.
fn export(
    output: Output,
    end: fn() -> Result<(), EngineError>,
) -> mpsc::Receiver<Result<Bytes, Broken>> {
    let exports = Arc::new(Semaphore::new(1));
    let permit = exports.try_acquire_owned().unwrap();
    let job = Job { id: TableId(1), range: TimeRange::ALL, output, table: "m".to_owned() };
    start(Arc::new(Scripted { end }), job, permit)
}

/// What a reader gets: the bytes, and whether the reply ends whole.
async fn read(mut chunks: mpsc::Receiver<Result<Bytes, Broken>>) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    while let Some(chunk) = chunks.recv().await {
        match chunk {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(Broken) => return (all, false),
        }
    }
    (all, true)
}

const JSON: Output = Output::Rows(Format::Json);

#[tokio::test]
async fn a_scan_that_fails_or_panics_breaks_the_reply_off_in_every_format() {
    let csv = Output::Rows(Format::Csv);
    for output in [JSON, Output::Rows(Format::Line), csv, Output::Parquet] {
        let (whole, ends) = read(export(output, || Ok(()))).await;
        // One text again and again is next to nothing in Parquet.
        assert!(ends && (whole.len() > CHUNK_BYTES || output == Output::Parquet), "{output:?}");
        for end in [damaged, panics] {
            let (part, ends) = read(export(output, end)).await;
            assert!(!ends, "{output:?}");
            assert!(part.len() < whole.len() && whole.starts_with(&part), "{output:?}");
        }
    }
}

#[test]
fn an_export_that_a_stop_keeps_from_running_does_not_end_as_an_empty_table() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    let within = handle.enter();
    let chunks = export(JSON, || Ok(()));
    drop(within);
    let reader = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (part, ends) = reader.block_on(read(chunks));
    assert!(part.is_empty() && !ends, "{} bytes", part.len());
}

#[test]
fn times_are_nanoseconds_or_rfc_3339() {
    for (text, ns) in [
        ("0", Some(0)),
        ("-5", Some(-5)),
        ("1700000000123456789", Some(1_700_000_000_123_456_789)),
        ("1970-01-01T00:00:01Z", Some(1_000_000_000)),
        ("1970-01-01T01:00:00.000000001+01:00", Some(1)),
        ("2500-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("1970-01-01", None),
    ] {
        assert_eq!(time_ns(text), ns, "{text}");
    }
}
