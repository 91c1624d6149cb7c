//! `GET /api/v1/export?db=&table=&from=&to=&format=`: the records of a table as they stand, in time
//! order, streamed.
//!
//! [`format`](mod@format) has the texts, [`parquet`] the file. A thread scans the engine and fills chunks; a bounded channel carries them to the socket. A client
//! that reads slowly slows the scan; one that hangs up ends it. A reply that was not written to its end,
//! because the engine failed or panicked midway, is broken off: the connection closes without the last
//! chunk, so that nobody takes the part for the whole.

pub mod format;
mod csv;
mod json;
mod lines;
pub mod parquet;

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{self, OwnedPermit};
use tracing::error;

use self::format::{Format, Writer};
use super::call::Call;
use super::fault::{Fault, Kind};
use super::reply::{Broken, Content, Reply};
use super::{App, Readiness};
use crate::engine::{TableEngine, TimeRange};
use crate::record::TableId;

/// Bytes after which a chunk is sent.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that wait for the socket; the scan waits when there are as many.
const CHUNKS_WAITING_MAX: usize = 4;

/// Room beside them for what ends the stream, which never waits.
const END: usize = 1;

/// When a client should ask again while too many exports run.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What may be asked of it.
const PARAMETERS: [&str; 5] = ["db", "table", "from", "to", "format"];

/// Answers an export.
///
/// # Errors
///
/// [`Fault`] when a parameter is missing, unknown or wrong, the caller may not read there, there is no such
/// table, the engine cannot be read, the log is not replayed yet, or too many exports run.
pub fn answer(app: &App, call: &Call<'_>) -> Result<Reply, Fault> {
    call.params.only(&PARAMETERS)?;
    let database = required(call, "db")?;
    let table = required(call, "table")?;
    if !call.caller.read.covers(database) {
        let message = format!("{:?} may not read database {database:?}", call.caller.name);
        return Err(Fault::new(Kind::Forbidden, message));
    }
    let output = output(call.params.text("format"))?;
    let range = range(call)?;
    app.engine.readable().map_err(|error| Fault::new(Kind::Unprocessable, error.to_string()))?;
    let id = app.tables.find(database, table).ok_or_else(|| {
        Fault::new(Kind::NotFound, format!("table {table:?} not found in database {database:?}"))
    })?;
    check_replayed(app)?;
    let permit = Arc::clone(&app.exports).try_acquire_owned().map_err(|_none_left| {
        let kind = Kind::Busy { retry_after: RETRY_AFTER };
        Fault::new(kind, "too many exports run already; try again later")
    })?;
    let content_type = HeaderValue::from_static(output.content_type());
    let job = Job { id, range, output, table: table.into() };
    let chunks = start(Arc::clone(&app.engine), job, permit);
    Ok(Reply::empty(StatusCode::OK)
        .with(CONTENT_TYPE, content_type)
        .content(Content::Stream(chunks)))
}

/// After a crash the engine gets back what the log has, record by record: an answer from before that
/// is done would be a part that looks like the whole.
fn check_replayed(app: &App) -> Result<(), Fault> {
    match app.status.readiness() {
        Readiness::Ready => Ok(()),
        Readiness::NotReady { why } => {
            let kind = Kind::Busy { retry_after: RETRY_AFTER };
            Err(Fault::new(kind, format!("not all records can be read yet: {why}")))
        }
    }
}

/// What an export is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    /// A text, row by row.
    Rows(Format),
    /// A Parquet file.
    Parquet,
}

impl Output {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Rows(format) => format.content_type(),
            Self::Parquet => parquet::CONTENT_TYPE,
        }
    }
}

fn output(name: &str) -> Result<Output, Fault> {
    match name {
        "" => Ok(Output::Rows(Format::default())),
        "parquet" => Ok(Output::Parquet),
        name => name
            .parse()
            .map(Output::Rows)
            .map_err(|error: format::UnknownFormat| Fault::invalid(error.to_string())),
    }
}

fn required<'c>(call: &'c Call<'_>, name: &str) -> Result<&'c str, Fault> {
    let missing =
        || Fault::invalid(format!("{name} is required: /api/v1/export?db=NAME&table=NAME"));
    call.params.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

fn range(call: &Call<'_>) -> Result<TimeRange, Fault> {
    let end = |name: &str, default: i64| match call.params.text(name) {
        "" => Ok(default),
        text => time_ns(text).ok_or_else(|| {
            Fault::invalid(format!(
                "invalid {name} {text:?} (use nanoseconds since 1970, or RFC 3339 as in \
                 2026-01-31T12:00:00Z)"
            ))
        }),
    };
    let range = TimeRange {
        from_ns: end("from", TimeRange::ALL.from_ns)?,
        to_ns: end("to", TimeRange::ALL.to_ns)?,
    };
    if range.from_ns > range.to_ns {
        return Err(Fault::invalid("from lies after to"));
    }
    Ok(range)
}

/// Reads a time: nanoseconds since 1970, or RFC 3339.
pub fn time_ns(text: &str) -> Option<i64> {
    if let Ok(ns) = text.parse() {
        return Some(ns);
    }
    let moment: jiff::Timestamp = text.parse().ok()?;
    i64::try_from(moment.as_nanosecond()).ok()
}

/// One export.
struct Job {
    id: TableId,
    range: TimeRange,
    output: Output,
    table: String,
}

/// Starts the scan on a thread of the runtime's blocking pool; it ends when the receiver is dropped.
fn start(
    engine: Arc<dyn TableEngine>,
    job: Job,
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<Result<Bytes, Broken>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX + END);
    // Made here: a pool that shuts down drops the job without running it, and the reply must not end
    // as an empty table's.
    let mut out = Chunks::new(sender, &job.table);
    // Detached: it ends with the table or with its receiver, whichever is first, and the runtime's
    // shutdown waits for it.
    drop(tokio::task::spawn_blocking(move || {
        let done = match job.output {
            Output::Rows(format) => rows(&*engine, &job, format, &mut out),
            Output::Parquet => parquet::write(&*engine, (job.id, job.range), &mut out)
                .map(drop)
                .map_err(|error| chain(&error)),
        };
        out.end(done);
        drop(permit);
    }));
    receiver
}

/// Writes the rows one by one; ends early when nobody reads them.
fn rows(
    engine: &dyn TableEngine,
    job: &Job,
    format: Format,
    out: &mut Chunks,
) -> Result<(), String> {
    let mut writer = Writer::new(format, &job.table);
    writer.head(&mut out.chunk);
    let scanned = engine.scan(job.id, job.range, &mut |row| {
        writer.row(row, &mut out.chunk);
        match out.send_full() {
            Ok(()) => ControlFlow::Continue(()),
            Err(_gone) => ControlFlow::Break(()),
        }
    });
    writer.tail(&mut out.chunk);
    scanned.map_err(|error| chain(&error))
}

/// An error and what caused it, as one line for the log.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What is written, on its way to the socket. Dropped before [`Chunks::end`], by a panic of the scan too,
/// it breaks the reply off: for whoever reads, a channel that merely closes is the end of the table.
struct Chunks {
    sender: mpsc::Sender<Result<Bytes, Broken>>,
    /// The room for what ends the stream, until it has ended. Kept from the start, since a drop cannot
    /// wait for it.
    end: Option<OwnedPermit<Result<Bytes, Broken>>>,
    chunk: Vec<u8>,
    table: String,
}

impl Chunks {
    fn new(sender: mpsc::Sender<Result<Bytes, Broken>>, table: &str) -> Self {
        let end = sender.clone().try_reserve_owned().expect("the channel is new and has room");
        let chunk = Vec::with_capacity(CHUNK_BYTES);
        Self { sender, end: Some(end), chunk, table: table.to_owned() }
    }

    /// Sends the chunk if it is full, waiting for room.
    ///
    /// # Errors
    ///
    /// When nobody reads any more.
    fn send_full(&mut self) -> io::Result<()> {
        if self.chunk.len() < CHUNK_BYTES {
            return Ok(());
        }
        let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let sent = self.sender.blocking_send(Ok(full.into()));
        sent.map_err(|_gone| io::ErrorKind::BrokenPipe.into())
    }

    /// Sends what is left, or breaks the reply off.
    fn end(mut self, done: Result<(), String>) {
        // A reader that is gone is why a file could not be written, and needs no log.
        if self.sender.is_closed() {
            return;
        }
        match done {
            Ok(()) => {
                let end = self.end.take().expect("a stream ends once");
                drop(end.send(Ok(std::mem::take(&mut self.chunk).into())));
            }
            Err(fault) => error!(table = self.table, fault, "export broken off"),
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let Some(end) = self.end.take() else { return };
        if std::thread::panicking() {
            error!(table = self.table, "export broken off: its scan panicked");
        }
        drop(end.send(Err(Broken)));
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.chunk.extend_from_slice(bytes);
        self.send_full()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
