//! `GET /api/v1/export?db=&table=&from=&to=&format=`: the records of a table as they stand, in time
//! order, streamed.
//!
//! A thread scans the engine and fills chunks; a bounded channel carries them to the socket. A client
//! that reads slowly slows the scan; one that hangs up ends it. When the engine fails midway the reply
//! is broken off, so that nobody takes the part for the whole.

pub mod format;
mod csv;
mod json;
mod lines;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::error;

use self::format::{Format, Writer};
use super::App;
use super::call::Call;
use super::fault::{Fault, Kind};
use super::reply::{Broken, Content, Reply};
use crate::engine::{EngineError, TableEngine, TimeRange};
use crate::record::TableId;

/// Bytes after which a chunk is sent.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Chunks that wait for the socket; the scan waits when there are as many.
const CHUNKS_WAITING_MAX: usize = 4;

/// When a client should ask again while too many exports run.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Answers an export.
///
/// # Errors
///
/// [`Fault`] when a parameter is missing or wrong, the caller may not read there, there is no such
/// table, or too many exports run.
pub fn answer(app: &App, call: &Call<'_>) -> Result<Reply, Fault> {
    let database = required(call, "db")?;
    let table = required(call, "table")?;
    if !call.caller.read.covers(database) {
        let message = format!("{:?} may not read database {database:?}", call.caller.name);
        return Err(Fault::new(Kind::Forbidden, message));
    }
    let format: Format = match call.params.text("format") {
        "" => Format::Json,
        // Needs a footer that is known at the end, so it cannot be written by a row's formatter.
        "parquet" => {
            let message = "format parquet cannot be streamed yet: use json, line or csv, or read the \
                           files of the magnetic store";
            return Err(Fault::new(Kind::NotImplemented, message));
        }
        name => name
            .parse()
            .map_err(|error: format::UnknownFormat| Fault::invalid(error.to_string()))?,
    };
    let range = range(call)?;
    let id = app.tables.find(database, table).ok_or_else(|| {
        Fault::new(Kind::NotFound, format!("table {table:?} not found in database {database:?}"))
    })?;
    let permit = Arc::clone(&app.exports).try_acquire_owned().map_err(|_none_left| {
        let kind = Kind::Busy { retry_after: RETRY_AFTER };
        Fault::new(kind, "too many exports run already; try again later")
    })?;
    let chunks =
        start(Arc::clone(&app.engine), Job { id, range, format, table: table.into() }, permit);
    let content_type = HeaderValue::from_static(format.content_type());
    Ok(Reply::empty(StatusCode::OK)
        .with(CONTENT_TYPE, content_type)
        .content(Content::Stream(chunks)))
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
    format: Format,
    table: String,
}

/// Starts the scan on a thread of the runtime's blocking pool; it ends when the receiver is dropped.
fn start(
    engine: Arc<dyn TableEngine>,
    job: Job,
    permit: OwnedSemaphorePermit,
) -> mpsc::Receiver<Result<Bytes, Broken>> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
    // Detached: it ends with the table or with its receiver, whichever is first, and the runtime's
    // shutdown waits for it.
    drop(tokio::task::spawn_blocking(move || {
        if let Err(error) = scan(&*engine, &job, &sender) {
            error!(table = job.table, %error, "export broken off");
            // Nobody listens: then nobody can be misled either.
            drop(sender.blocking_send(Err(Broken)));
        }
        drop(permit);
    }));
    receiver
}

fn scan(
    engine: &dyn TableEngine,
    job: &Job,
    sender: &mpsc::Sender<Result<Bytes, Broken>>,
) -> Result<(), EngineError> {
    let mut writer = Writer::new(job.format, &job.table);
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
    let mut is_wanted = true;
    writer.head(&mut chunk);
    engine.scan(job.id, job.range, &mut |row| {
        writer.row(row, &mut chunk);
        if chunk.len() >= CHUNK_BYTES {
            let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_BYTES * 5 / 4));
            is_wanted = sender.blocking_send(Ok(full.into())).is_ok();
        }
        if is_wanted { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if is_wanted {
        writer.tail(&mut chunk);
        // The client may have gone by now; nothing is left to do for it.
        drop(sender.blocking_send(Ok(chunk.into())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
