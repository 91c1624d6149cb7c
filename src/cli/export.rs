//! `tidegate export`: the records of a table in a data folder, to standard output.
//!
//! Opens the folder as a server would, replays what the log holds, and writes what the engine then
//! shows. A folder that a server has open is refused by its lock: ask that server instead.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use clap::Args;

use super::progress::Progress;
use super::{Failure, SettingsArgs, serve};
use crate::api::export::format::{Format, Writer};
use crate::api::export::{parquet, time_ns};
use crate::engine::TimeRange;
use crate::server::Core;

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
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Leave out records at or after this time.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// json (one object a line), line, csv or parquet.
    #[arg(long, default_value = "json")]
    format: String,
}

/// Writes the records.
///
/// # Errors
///
/// [`Failure::Usage`] for an unknown format or time, [`Failure::Failed`] when the folder does not
/// open, has no such table, or cannot be read.
pub fn run(args: &ExportArgs) -> Result<(), Failure> {
    let config = args.settings.load(Vec::new())?;
    serve::log_to_stderr(&config.log);
    let range = range(args)?;
    let folder = config.data_dir.display();
    if !config.data_dir.is_dir() {
        return Err(Failure::failed(format!("there is no data folder {folder}")));
    }
    let core = Core::open(&config).map_err(Failure::failed)?;
    if !core.wait_replayed() {
        return Err(Failure::failed("the log could not be replayed; see the log above"));
    }
    let table = core.catalog.resolve(&args.database, &args.table).ok_or_else(|| {
        Failure::failed(format!("{folder} has no table {:?} in {:?}", args.table, args.database))
    })?;
    let out = BufWriter::new(io::stdout());
    if args.format == "parquet" {
        let out = parquet::write(&*core.engine, (table.id, range), out).map_err(Failure::failed)?;
        return out.into_inner().map(drop).map_err(|error| Failure::failed(error.into_error()));
    }
    let format: Format = args.format.parse().map_err(Failure::usage)?;
    text(&core, &table, (range, format), out)
}

fn text(
    core: &Core,
    table: &crate::engine::catalog::Table,
    (range, format): (TimeRange, Format),
    mut out: impl Write,
) -> Result<(), Failure> {
    let mut writer = Writer::new(format, &table.name);
    let mut line = Vec::new();
    let mut failed = None;
    // A range is a part of them that nobody knows beforehand.
    let total = if range == TimeRange::ALL { core.engine.rows(table.id) } else { 0 };
    let mut progress = Progress::new("exporting, records", total);
    let mut done = 0;
    writer.head(&mut line);
    core.engine
        .scan(table.id, range, &mut |row| {
            writer.row(row, &mut line);
            done += 1;
            progress.at(done);
            let written = out.write_all(&line);
            line.clear();
            match written {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
        .map_err(Failure::failed)?;
    writer.tail(&mut line);
    match failed {
        // Whoever reads has enough: `| head`.
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        Some(error) => return Err(Failure::failed(error)),
        None => {}
    }
    out.write_all(&line).and_then(|()| out.flush()).map_err(Failure::failed)
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
    Ok(TimeRange { from_ns: time(&args.from, all.from_ns)?, to_ns: time(&args.to, all.to_ns)? })
}
