//! `tidegate export`: the records of a table in a data folder, to standard output.
//!
//! Opens the folder as a server would, replays what the log holds, and writes what the engine then
//! shows. A folder that a server has open is refused by its lock: ask that server instead.
//!
//! Where the records cannot be read to their end the exit code is 1, where Ctrl-C ended it 130, and the output ends so that no
//! reader takes the part for the whole: a text in a line that its format does not have, Parquet without
//! the end that makes it a file.

use std::error::Error;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::Args;

use super::progress::Progress;
use super::{Failure, SettingsArgs, out, serve};
use crate::api::export::format::{Format, UnknownFormat, Writer};
use crate::api::export::{parquet, time_ns};
use crate::config::Config;
use crate::engine::TimeRange;
use crate::engine::catalog::{Catalog, Table};
use crate::server::{Core, Interrupts, Purpose, StartError};
use crate::wal::WalError;

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The database.
    #[arg(long, value_name = "D")]
    database: String,
    /// The table.
    #[arg(long, value_name = "T")]
    table: String,
    /// Leave out records before this time: RFC 3339, or nanoseconds since 1970.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    from: Option<String>,
    /// Leave out records at or after this time.
    #[arg(long, value_name = "TIME", allow_negative_numbers = true)]
    to: Option<String>,
    /// json (one object a line), line, csv or parquet.
    #[arg(long, default_value = "json")]
    format: String,
}

/// Writes the records.
///
/// # Errors
///
/// [`Failure::Usage`] for an unknown format or time, or times in the wrong order, [`Failure::Failed`] when the folder does not
/// open or has no such table: nothing was written. [`Failure::Failed`] too when the records cannot be
/// read to their end: what was written is not all.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let config = args.settings.load(Vec::new())?;
    serve::log_to_stderr(&config.log);
    let range = range(args)?;
    let format: Option<Format> = match args.format.as_str() {
        "parquet" => None,
        name => Some(
            name.parse()
                .map_err(|error: UnknownFormat| Failure::usage(format!("--format: {error}")))?,
        ),
    };
    let folder = config.data_dir.display();
    if !config.data_dir.is_dir() {
        return Err(Failure::failed(format!("there is no data folder {folder}")));
    }
    // To open one that is none would make it one.
    if !Catalog::is_begun(&config.data_dir).map_err(Failure::failed)? {
        let what = "is no data folder: it has no catalog.log; name another by --data or --config";
        return Err(Failure::failed(format!("{folder} {what}")));
    }
    let core = opened((&config, Purpose::Read), &at_server(args, &config))?;
    if !core.wait_replayed() {
        return Err(Failure::failed("the log could not be replayed; see the log above"));
    }
    let table = core.catalog.resolve(&args.database, &args.table).ok_or_else(|| {
        Failure::failed(format!("{folder} has no table {:?} in {:?}", args.table, args.database))
    })?;
    // From here on: nothing that is half an export may look whole.
    let interrupts = Interrupts::listen("ending the export").map_err(Failure::failed)?;
    let job = Job { core: &core, table: &table, range, interrupts: &interrupts };
    let mut out = BufWriter::new(Stdout { interrupts: &interrupts, refused: None });
    // A panic has told what it is on standard error. Nothing is used afterwards that it may have left
    // half done, but for the output, whose end says so.
    let scan = AssertUnwindSafe(|| match format {
        None => job.parquet(&mut out),
        Some(format) => job.text(format, &mut out),
    });
    let done = catch_unwind(scan).unwrap_or_else(|_panic| Err(Stop::Broken("it panicked".into())));
    let done = done.and_then(|()| out.flush().map_err(Stop::Output));
    // Whoever writes Parquet says only that it cannot be written.
    if let Some(code) = out.get_ref().refused {
        return out::written(Err(io::Error::from_raw_os_error(code)));
    }
    let error = match done {
        Ok(()) => return Ok(()),
        Err(Stop::Output(error)) if interrupts.heard().is_none() => {
            return out::written(Err(error));
        }
        Err(Stop::Output(error)) => error.into(),
        Err(Stop::Broken(error)) => error,
    };
    // A file of Parquet has no end, which is where its readers begin.
    if format.is_some() {
        out::written(break_off(out))?;
    }
    Err(match interrupts.heard() {
        Some(signal) => Failure::Interrupted { signal, told: "the export is not whole".into() },
        None => Failure::failed(error),
    })
}

/// What to ask of the server that has the folder.
fn at_server(args: &ExportArgs, config: &Config) -> String {
    let scheme = if config.server.tls.is_on() { "https" } else { "http" };
    let (listen, ExportArgs { database, table, .. }) = (config.server.listen, args);
    format!("ask it, as by curl '{scheme}://{listen}/api/v1/export?db={database}&table={table}'")
}

/// Opens a data folder for a purpose. Of one that a server has, says what to do `instead` of stopping it.
///
/// # Errors
///
/// [`Failure::Failed`] when it does not open.
pub(super) fn opened(
    (config, purpose): (&Config, Purpose),
    instead: &str,
) -> Result<Core, Failure> {
    Core::open(config, purpose).map_err(|error| match error {
        StartError::Wal(WalError::Locked { holder, .. }) => {
            let folder = config.data_dir.display();
            Failure::failed(format!("{folder} is in use by {holder}: {instead}, or stop it"))
        }
        error => Failure::failed(error),
    })
}

/// Writes what is buffered, and behind it that it is not all.
fn break_off(out: BufWriter<Stdout<'_>>) -> io::Result<()> {
    let mut end = Vec::new();
    Writer::broken_off(&mut end);
    // Taken apart, since what is buffered would be written once more when it is dropped.
    let (_stdout, buffered) = out.into_parts();
    let mut stdout = io::stdout();
    stdout.write_all(&buffered.unwrap_or_else(io::WriterPanicked::into_inner))?;
    stdout.write_all(&end)?;
    stdout.flush()
}

/// Standard output until a signal asks for the end.
struct Stdout<'a> {
    interrupts: &'a Interrupts,
    /// What the system said when it took no more: nobody reads any more, as in `| head`, or the disk is full.
    refused: Option<i32>,
}

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.interrupts.heard().is_some() {
            return Err(io::Error::other("interrupted"));
        }
        let written = io::stdout().write(bytes);
        if let Err(error) = &written
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.refused = self.refused.or(error.raw_os_error());
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush()
    }
}

/// What is written.
struct Job<'a> {
    core: &'a Core,
    table: &'a Table,
    range: TimeRange,
    interrupts: &'a Interrupts,
}

/// Why not all was written.
enum Stop {
    /// Standard output takes no more.
    Output(io::Error),
    /// The records cannot be read to their end.
    Broken(Box<dyn Error>),
}

impl Job<'_> {
    fn parquet(&self, out: &mut (impl Write + Send)) -> Result<(), Stop> {
        let written = parquet::write(&*self.core.engine, (self.table.id, self.range), out);
        written.map(drop).map_err(|error| Stop::Broken(error.into()))
    }

    fn text(&self, format: Format, out: &mut impl Write) -> Result<(), Stop> {
        let mut writer = Writer::new(format, &self.table.name);
        let mut line = Vec::new();
        let mut full = Ok(());
        // A range is a part of them that nobody knows beforehand.
        let is_all = self.range == TimeRange::ALL;
        let total = if is_all { self.core.engine.rows(self.table.id) } else { 0 };
        let mut progress = Progress::new("exporting, records", total);
        let mut done = 0;
        writer.head(&mut line);
        let scanned = self.core.engine.scan(self.table.id, self.range, &mut |row| {
            writer.row(row, &mut line);
            done += 1;
            progress.at(done);
            full = out.write_all(&line);
            line.clear();
            let goes_on = full.is_ok() && self.interrupts.heard().is_none();
            if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        full.map_err(Stop::Output)?;
        if self.interrupts.heard().is_some() {
            return Err(Stop::Broken("interrupted".into()));
        }
        scanned.map_err(|error| Stop::Broken(error.into()))?;
        writer.tail(&mut line);
        out.write_all(&line).map_err(Stop::Output)
    }
}

fn range(args: &ExportArgs) -> Result<TimeRange, Failure> {
    let time = |text: &Option<String>, otherwise| match text.as_deref() {
        None => Ok(otherwise),
        Some(text) => time_ns(text).ok_or_else(|| {
            let right = "write RFC 3339, as in 2026-01-31T12:00:00Z, or nanoseconds since 1970";
            Failure::usage(format!("time {text:?}: {right}"))
        }),
    };
    let all = TimeRange::ALL;
    let range =
        TimeRange { from_ns: time(&args.from, all.from_ns)?, to_ns: time(&args.to, all.to_ns)? };
    if range.from_ns > range.to_ns {
        let [from, to] = [&args.from, &args.to].map(|time| time.as_deref().unwrap_or_default());
        return Err(Failure::usage(format!("--from {from} lies after --to {to}")));
    }
    Ok(range)
}
