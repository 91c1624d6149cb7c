//! `tidegate serve`: the gateway.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::reload::Handle;

use super::{Failure, SettingsArgs, out};
use crate::config::load::Override;
use crate::config::{Config, LogFormat, LogOptions};
use crate::server::{End, Notifier, Server, StartError, Surroundings};

/// Flags of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// The address to listen on.
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse().ok().ok_or("write an address and a port, as in 127.0.0.1:8086")
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
    let settings = args.settings.pinned();
    let flags = settings.flags(flags)?;
    let load = || settings.load_with(&flags);
    let config = load().map_err(Failure::usage)?;
    let set_level = log_with_level(&config.log);
    let notifier = Notifier::from_environment();
    notifier.status("recovering the log");
    let mut server = Server::start(&config).map_err(|error| match error {
        StartError::Config { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    })?;
    if io::stdout().is_terminal() {
        banner(&config, server.local_addr()).map_err(Failure::failed)?;
    }
    let around = Surroundings { load: &load, set_level: &*set_level, notifier: &notifier };
    match server.wait(&around).map_err(Failure::failed)? {
        End::Asked => {
            server.stop_in_time(&notifier, 0);
            Ok(())
        }
        End::Poisoned => {
            server.stop_in_time(&notifier, 1);
            Err(Failure::failed("the log failed; see the log above"))
        }
    }
}

/// Sets the level of the log, and says what is wrong with it.
type SetLevel = Box<dyn Fn(&str) -> Result<(), String>>;

/// Sends log events to standard error, as the settings say. Only the first call of a process counts.
pub fn log_to_stderr(options: &LogOptions) {
    drop(log_with_level(options));
}

/// The same, with the level to be set later.
fn log_with_level(options: &LogOptions) -> SetLevel {
    let filter = EnvFilter::try_new(&options.level).unwrap_or_else(|_wrong| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would tell standard error that standard error takes no more, and panic when it does not: a full
        // disk under the log file would end the thread that has something to say.
        .log_internal_errors(false);
    // An error here says that a logger is there already.
    match options.format {
        LogFormat::Text if is_journal(io::stderr(), std::env::var_os(JOURNAL_VARIABLE)) => {
            // The journal gives each line its time itself.
            let builder = builder.without_time().with_ansi(false).with_filter_reloading();
            let set_level = set_level(builder.reload_handle());
            drop(builder.try_init());
            set_level
        }
        LogFormat::Text => {
            let builder = builder
                .with_ansi(out::has_colours(io::stderr().is_terminal()))
                .with_filter_reloading();
            let set_level = set_level(builder.reload_handle());
            drop(builder.try_init());
            set_level
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let set_level = set_level(builder.reload_handle());
            drop(builder.try_init());
            set_level
        }
    }
}

/// Which stream is the journal's, as device and inode. Source: systemd.exec(5), "`$JOURNAL_STREAM`".
const JOURNAL_VARIABLE: &str = "JOURNAL_STREAM";

/// Whether a file is the journal's stream. The variable alone does not say so: whoever starts us may have
/// sent standard error elsewhere.
fn is_journal(file: impl AsFd, variable: Option<OsString>) -> bool {
    let named = variable.and_then(|text| text.into_string().ok());
    let stat = rustix::fs::fstat(file).ok();
    named.zip(stat).is_some_and(|(named, stat)| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}

fn set_level<S: 'static>(handle: Handle<EnvFilter, S>) -> SetLevel {
    Box::new(move |level| {
        let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
        handle.reload(filter).map_err(|error| error.to_string())
    })
}

fn banner(config: &Config, at: SocketAddr) -> io::Result<()> {
    let data = config.data_dir.display();
    let durability = crate::ingest::Durability::from(config.wal.durability);
    let scheme = if config.server.tls.is_on() { "https" } else { "http" };
    writeln!(
        io::stdout(),
        "Tidegate listens on {scheme}://{at}
  data        {data}
  durability  {durability} unless a request asks for another
  first write curl -i '{scheme}://{at}/api/v2/write?bucket=demo' --data-binary 'weather,site=a t=21.5'
  read it     curl '{scheme}://{at}/api/v1/export?db=demo&table=weather'"
    )
}
