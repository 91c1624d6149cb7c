//! `tidegate serve`: the gateway.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;

use clap::Args;
use tracing_subscriber::EnvFilter;

use super::{Failure, SettingsArgs};
use crate::config::load::Override;
use crate::config::{Config, LogFormat, LogOptions};
use crate::server::{Server, StartError};

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
}

impl ServeArgs {
    /// The flags of a server with these settings at this address.
    pub(super) const fn new(settings: SettingsArgs, listen: SocketAddr) -> Self {
        Self { settings, listen: Some(listen) }
    }
}

/// Serves until the process is asked to end.
///
/// # Errors
///
/// [`Failure::Usage`] for settings that cannot work, [`Failure::Failed`] when something does not
/// start, or the log failed while serving.
pub fn run(args: &ServeArgs) -> Result<(), Failure> {
    let mut flags = Vec::new();
    if let Some(listen) = args.listen {
        flags.push(Override::flag("--listen", &["server", "listen"], listen.to_string()));
    }
    let config = args.settings.load(flags)?;
    log_to_stderr(&config.log);
    let server = Server::start(&config).map_err(|error| match error {
        StartError::Config { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    })?;
    if io::stdout().is_terminal() {
        banner(&config, server.local_addr()).map_err(Failure::failed)?;
    }
    let was_well = server.wait().map_err(Failure::failed)?;
    server.stop();
    if was_well { Ok(()) } else { Err(Failure::failed("the log failed; see the log above")) }
}

/// Sends log events to standard error, as the settings say. Only the first call of a process counts.
pub fn log_to_stderr(options: &LogOptions) {
    let filter = EnvFilter::try_new(&options.level).unwrap_or_else(|_wrong| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // An error here says that a logger is there already.
    drop(match options.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
}

fn banner(config: &Config, at: SocketAddr) -> io::Result<()> {
    let data = config.data_dir.display();
    let durability = crate::ingest::Durability::from(config.wal.durability);
    writeln!(
        io::stdout(),
        "Tidegate listens on http://{at}
  data        {data}
  durability  {durability} unless a request asks for another
  first write curl -i 'http://{at}/api/v2/write?bucket=demo' --data-binary 'weather,site=a t=21.5'
  read it     curl 'http://{at}/api/v1/export?db=demo&table=weather'"
    )
}
