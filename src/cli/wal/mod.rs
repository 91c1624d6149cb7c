//! `tidegate wal ..`: the log's own commands, a file each. Those that read take no lock and write
//! nothing, so they are safe beside a running server.

mod begin;
mod dump;
mod ls;
mod records;
mod replay;
mod salvage;
mod verify;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::out::print;
use super::{Failure, SettingsArgs};
use crate::base::lsn::Lsn;
use crate::config::Config;
use crate::engine::{Kind, embedded};

/// Flags of `wal`.
#[derive(Debug, Args)]
pub struct WalArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

/// What stands below `wal --help`.
pub const EXAMPLES: &str = "Examples:
  tidegate wal ls --data /var/lib/tidegate
  tidegate wal verify
  tidegate wal dump --from 100 --to 200 --format line
  tidegate wal replay --to http://127.0.0.1:8087 --dry-run
  tidegate wal salvage --to ./broken-log
  tidegate wal begin --data ./tidegate-data";

#[derive(Debug, Subcommand)]
enum Command {
    /// List the segments: number, state, frames, LSNs, bytes; and how far the log got.
    #[command(after_help = "Example:\n  tidegate wal ls --data ./tidegate-data")]
    Ls(ls::LsArgs),
    /// Check every frame; exit code 1 when one is damaged, or the tables have frames beyond the last.
    #[command(after_help = "Example:\n  tidegate wal verify --data ./tidegate-data")]
    Verify(verify::VerifyArgs),
    /// Write the records in the frames to standard output; exit code 1 when frames that were asked for
    /// are not in the log, told on standard error.
    #[command(
        after_help = "Example:\n  tidegate wal dump --from 100 --to 200 --format line > lines.txt"
    )]
    Dump(dump::DumpArgs),
    /// Send the records in the frames again, to this or another Tidegate, at a bounded rate.
    #[command(after_help = replay::EXAMPLES)]
    Replay(Box<replay::ReplayArgs>),
    /// Make a log that refuses to start startable, with everything sound in it; nothing is deleted.
    #[command(
        after_help = "Example:\n  tidegate wal salvage --data ./tidegate-data --to ./broken-log"
    )]
    Salvage(salvage::SalvageArgs),
    /// Begin a new, empty log for tables whose log is lost for good.
    #[command(after_help = "Example:\n  tidegate wal begin --data ./tidegate-data --after 1500000")]
    Begin(begin::BeginArgs),
}

/// Runs one of the commands.
///
/// # Errors
///
/// [`Failure`] as of the command.
pub fn run(args: &WalArgs) -> Result<(), Failure> {
    match &args.command {
        Command::Ls(own) => ls::run(own, &args.settings),
        Command::Verify(own) => verify::run(own, &args.settings),
        Command::Dump(own) => dump::run(own, &args.settings),
        Command::Replay(own) => replay::run(own, &args.settings),
        Command::Salvage(own) => salvage::run(own, &args.settings),
        Command::Begin(own) => begin::run(own, &args.settings),
    }
}

/// What `wal ls` prints of the log of these settings.
///
/// # Errors
///
/// [`Failure::Failed`] when there is no log, or it cannot be read.
pub(super) fn segments(config: &Config) -> Result<String, Failure> {
    ls::text(&with_log(config.clone())?)
}

/// The settings, with every place in the data folder, whose log must be there.
fn settings(own: &SettingsArgs, of_wal: &SettingsArgs) -> Result<Config, Failure> {
    with_log(own.or(of_wal).load(Vec::new())?.placed())
}

fn with_log(config: Config) -> Result<Config, Failure> {
    let dir: &PathBuf = &config.wal.dir;
    if dir.is_dir() {
        return Ok(config);
    }
    Err(Failure::failed(format!("there is no log in {}", dir.display())))
}

/// The last frame that the tables have, asked of their files alone. Before the log is looked at: beside
/// a running server, the log then has every such frame.
fn stored(config: &Config) -> Result<Lsn, Failure> {
    if config.engine.kind != Kind::Embedded {
        // A database elsewhere: nobody asks it for a look into the log.
        return Ok(Lsn::ZERO);
    }
    let stored = embedded::stored_in(&config.engine.embedded.dir).map_err(Failure::failed)?;
    Ok(stored.unwrap_or_default())
}

/// Why a start refuses a log that is sound and ends at `end`, if the tables have frames beyond.
fn behind(config: &Config, stored: Lsn, end: Lsn) -> Option<String> {
    let dir = config.wal.dir.display();
    (stored > end).then(|| {
        format!(
            "the tables hold frames up to {stored}, but the log in {dir} ends at {end}: a start refuses \
             it, and nothing in it mends that; put the right log back, or, where it is lost for good, \
             move this one away and run `tidegate wal begin`"
        )
    })
}
