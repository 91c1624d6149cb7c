//! Floor 10: the commands. One file a command; this one reads the command line, and knows how an
//! error is shown and which exit code it has:
//!
//! | code | what |
//! |---|---|
//! | 0 | done |
//! | 1 | what was asked failed, what was checked is not well, or an output is not whole |
//! | 2 | usage or settings |
//! | 128 + N | ended by signal N: 130 by Ctrl-C, 143 by SIGTERM; 141 when nobody reads the output any more |

pub mod serve;
pub mod check;
pub mod export;
pub mod explain;
pub mod load;
pub mod batch_load;
pub mod client;
pub mod out;
pub mod progress;
pub mod wal;
pub mod rejects;
pub mod selftest;
pub mod schema;
pub mod cost;
pub mod doctor;
pub mod demo;
pub mod health;
pub mod completions;
pub mod man;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

pub use crate::base::class::chain;
use crate::base::near::nearest;
use crate::config::load::Override;
use crate::config::{self, Config, ConfigError};

/// A durable ingestion gateway for telemetry.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, after_help = EXAMPLES)]
// Options before a command would be read for `serve` and passed over: a server that its file locks would
// be open.
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::ServeArgs,
}

const EXAMPLES: &str = "Examples:
  tidegate demo  # 20 seconds: a fleet writes, the server is killed, every record is counted
  tidegate       # serve on 127.0.0.1:8086, data in ./tidegate-data
  tidegate serve --listen 127.0.0.1:9000 --data /var/lib/tidegate
  tidegate check --config /etc/tidegate/config.toml
  tidegate export --database iot --table weather --format csv
  tidegate explain 'weather,site=a t=21.5 1700000000000000000'
  tidegate wal verify --data /var/lib/tidegate
  tidegate rejects ls
  tidegate doctor --data /var/lib/tidegate
  tidegate selftest --data /var/lib/tidegate";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default).
    #[command(
        after_help = "Example:\n  tidegate serve --listen 127.0.0.1:8086 --data ./tidegate-data"
    )]
    Serve(serve::ServeArgs),
    /// Read the settings, report every contradiction, print what is in effect without secrets.
    #[command(after_help = "Example:\n  tidegate check --config config.toml")]
    Check(SettingsArgs),
    /// Write the records of a table in a data folder to standard output.
    #[command(
        after_help = "Example:\n  tidegate export --database iot --table weather --from 2026-01-01T00:00:00Z --format line\n\nExit code 1 when the records cannot be read to their end; the output then ends in the middle of a text,\nso that no reader takes it for all."
    )]
    Export(export::ExportArgs),
    /// Tell what would become of a line of line protocol, writing nothing.
    #[command(
        after_help = "Example:\n  tidegate explain 'weather,site=a t=21.5 1700000000000000000'\n  echo 'weather t=1' | tidegate explain -"
    )]
    Explain(explain::ExplainArgs),
    /// Send the load of a simulated fleet, print throughput and latency percentiles.
    #[command(
        after_help = "Example:\n  tidegate load --url http://127.0.0.1:8086 --series 4000 --batch 5000 --connections 8 --seconds 10"
    )]
    Load(load::LoadArgs),
    /// Load CSV files into a table: of a data folder, or of a running server.
    #[command(after_help = batch_load::EXAMPLES)]
    BatchLoad(batch_load::BatchLoadArgs),
    /// Look into the log: its segments, their soundness, the records in them.
    #[command(after_help = wal::EXAMPLES)]
    Wal(wal::WalArgs),
    /// Look at what was refused and why, and send it again once it is mended.
    #[command(after_help = rejects::EXAMPLES)]
    Rejects(rejects::RejectsArgs),
    /// Tell what Timestream would meter of the records in the log, beside what one record a request costs.
    #[command(
        after_help = "Example:\n  tidegate cost --since 24h --price 0.50\n\nReads what the log still has; wal.retain_for keeps more. Safe beside a running server."
    )]
    Cost(cost::CostArgs),
    /// Prove on this very disk that the log keeps what it acknowledged: write, kill -9, read back, count.
    #[command(
        after_help = "Example:\n  tidegate selftest --data /var/lib/tidegate --kills 20\n\nWrites some hundred MiB into a folder of its own beside the data, and removes it. Exit code 1 when\nanything acknowledged was lost."
    )]
    Selftest(selftest::SelftestArgs),
    /// Print the SQL of a table as the engine `postgres` makes it, distributed and partitioned where the
    /// server can.
    #[command(
        after_help = "Example:\n  tidegate schema postgres --for timescale --database iot --table weather | psql tidegate\n\nTried by our tests: postgresql and timescale. citus, cockroachdb and yugabytedb are written after\ntheir documentation and UNTESTED. Citus needs a replication factor of 1."
    )]
    Schema(schema::SchemaArgs),
    /// Look at disk, limits, clock, engine, sink and settings, and say what is not well.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::DoctorArgs),
    /// Run a server with a simulated fleet, kill it midway, recover, and count every record.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::DemoArgs),
    /// Ask a running server whether it is well; exit code 0 when it is.
    #[command(after_help = health::EXAMPLES)]
    Health(health::HealthArgs),
    /// Print the completions of these commands for a shell.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::CompletionsArgs),
    /// Print the manual page, or write those of all commands.
    #[command(after_help = man::EXAMPLES)]
    Man(man::ManArgs),
}

/// Where settings come from.
#[derive(Debug, Clone, Args)]
pub struct SettingsArgs {
    /// The settings' file; without it config.toml in the current folder, if there is one.
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The data folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The command line or the settings are wrong: exit code 2.
    Usage(Box<dyn Error>),
    /// What was asked failed, or what was checked is not well: exit code 1.
    Failed(Box<dyn Error>),
    /// Standard output takes no more, as on a full disk: exit code 1.
    Unwritten(io::Error),
    /// Nobody reads standard output any more: no word, and the exit code of what the system ends for it.
    Unread,
    /// A signal asked for the end.
    Interrupted {
        /// Its number.
        signal: i32,
        /// What was done, and how to go on.
        told: String,
    },
}

/// What was acknowledged is not what was found.
#[derive(Debug, thiserror::Error)]
#[error("the promise is broken: {0}")]
struct Broken(String);

/// What a command ends with that has counted, where a signal may have ended it before: without a count there
/// is nothing to say but that, and a broken promise is said whatever came.
fn interrupted(
    result: Result<(), Failure>,
    heard: Option<i32>,
    told: &'static str,
) -> Result<(), Failure> {
    let is_broken = matches!(&result, Err(Failure::Failed(error)) if error.is::<Broken>());
    match heard.filter(|_| !is_broken) {
        Some(signal) => Err(Failure::Interrupted { signal, told: told.to_owned() }),
        None => result,
    }
}

/// The number of SIGPIPE. Source: signal(7).
const SIGPIPE: i32 = 13;

/// What a shell adds to the number of the signal that ended a process.
const EXIT_CODE_OF_SIGNALS: i32 = 128;

impl Failure {
    /// A failure of what was asked.
    pub fn failed(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Failed(error.into())
    }

    /// What is wrong, whatever it leads to.
    pub fn into_error(self) -> Box<dyn Error> {
        match self {
            Self::Usage(error) | Self::Failed(error) => error,
            Self::Unwritten(error) => unwritten(&error).into(),
            Self::Unread => "nobody reads standard output any more".into(),
            Self::Interrupted { told, .. } => told.into(),
        }
    }

    /// A wrong command line or settings.
    pub fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self::Usage(error.into())
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => ended(command_of(cli)),
        // Help and version go to standard output, where not all may have arrived.
        Err(asked) if !asked.use_stderr() => ended(out::written(asked.print())),
        Err(wrong) => {
            // Standard error may be closed; there is nobody left to tell.
            drop(wrong.print());
            if let Some(meant) = meant(&wrong) {
                drop(writeln!(io::stderr(), "Did you mean {meant}?"));
            }
            ExitCode::from(2)
        }
    }
}

/// The command or option that one was probably to be which there is not.
fn meant(wrong: &clap::Error) -> Option<String> {
    let kind = match wrong.kind() {
        ErrorKind::InvalidSubcommand => ContextKind::InvalidSubcommand,
        ErrorKind::UnknownArgument => ContextKind::InvalidArg,
        _ => return None,
    };
    let Some(ContextValue::String(found)) = wrong.get(kind) else { return None };
    let all = command();
    // The command that was typed, as far as there is one.
    let typed = std::env::args_os().skip(1).map_while(|word| word.into_string().ok());
    let mut asked = vec![&all];
    for word in typed {
        let Some(next) = asked.last().and_then(|last| last.find_subcommand(&word)) else { break };
        asked.push(next);
    }
    let options = asked.iter().flat_map(|command| command.get_arguments());
    let options = options.filter(|option| !option.is_hide_set());
    let options = options.filter_map(|option| option.get_long());
    let last = asked.last().into_iter().flat_map(|command| command.get_subcommands());
    let names: Vec<String> = match kind {
        ContextKind::InvalidSubcommand => last.map(|one| one.get_name().to_owned()).collect(),
        _ => options.map(str::to_owned).collect(),
    };
    let (dashes, found) = found.split_at(found.len() - found.trim_start_matches('-').len());
    let meant = nearest(found, names.iter().map(String::as_str))?;
    Some(format!("{dashes}{meant}"))
}

fn command_of(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(args)) => serve::run(&args),
        Some(Command::Check(args)) => check::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Explain(args)) => explain::run(&args),
        Some(Command::Load(args)) => load::run(&args),
        Some(Command::BatchLoad(args)) => batch_load::run(&args),
        Some(Command::Wal(args)) => wal::run(&args),
        Some(Command::Rejects(args)) => rejects::run(&args),
        Some(Command::Cost(args)) => cost::run(&args),
        Some(Command::Selftest(args)) => selftest::run(&args),
        Some(Command::Schema(args)) => schema::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Health(args)) => health::run(&args),
        Some(Command::Completions(args)) => completions::run(&args),
        Some(Command::Man(args)) => man::run(&args),
    }
}

/// Tells what is to be told of the end, and with which code it is.
fn ended(done: Result<(), Failure>) -> ExitCode {
    let (code, error) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => (1, error),
        Err(Failure::Unwritten(error)) => (1, unwritten(&error).into()),
        Err(Failure::Usage(error)) => (2, error),
        Err(Failure::Unread) => return ended_by(SIGPIPE),
        Err(Failure::Interrupted { signal, told }) => {
            drop(writeln!(io::stderr(), "tidegate: interrupted: {told}"));
            return ended_by(signal);
        }
    };
    // Standard error may be closed; there is nobody left to tell.
    drop(writeln!(io::stderr(), "tidegate: {}", chain(&*error)));
    ExitCode::from(code)
}

/// What is told of a standard output that takes no more.
fn unwritten(error: &io::Error) -> String {
    format!("standard output: {error}; what is written there is not all")
}

fn ended_by(signal: i32) -> ExitCode {
    u8::try_from(EXIT_CODE_OF_SIGNALS + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// All commands, for what is made of them.
fn command() -> clap::Command {
    Cli::command()
}

impl SettingsArgs {
    /// These, and where they say nothing, the `other` ones.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self {
            config: self.config.clone().or_else(|| other.config.clone()),
            data: self.data.clone().or_else(|| other.data.clone()),
        }
    }

    /// The settings in effect, with what the command line adds.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when they cannot be read.
    pub fn load(&self, flags: Vec<Override>) -> Result<Config, Failure> {
        let flags = self.flags(flags)?;
        self.load_with(&flags).map_err(Failure::usage)
    }

    /// The same with the file that is read by default named, where there is one: once it is gone, a reload
    /// must find it missing, and not take the defaults, which ask nobody who they are.
    #[must_use]
    pub fn pinned(&self) -> Self {
        let default = PathBuf::from(config::load::DEFAULT_FILE);
        let config = self.config.clone().or_else(|| default.exists().then_some(default));
        Self { config, ..self.clone() }
    }

    /// `others`, and what the command line says of settings itself.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] when the folder's name is no text.
    pub fn flags(&self, mut others: Vec<Override>) -> Result<Vec<Override>, Failure> {
        if let Some(data) = &self.data {
            let text = data.to_str().ok_or_else(|| {
                Failure::usage(format!("--data {}: the name is not UTF-8", data.display()))
            })?;
            others.push(Override::flag("--data", &["data_dir"], text));
        }
        Ok(others)
    }

    /// The settings in effect, with [`Self::flags`]; may be read again at any time.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when they cannot be read.
    pub fn load_with(&self, flags: &[Override]) -> Result<Config, ConfigError> {
        config::load(self.config.as_deref(), variables(), flags)
    }
}

/// Environment variables that are text; ours all are.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

#[cfg(test)]
mod tests;
