//! Floor 9: start and stop.
//!
//! ```text
//! start   folder -> log (recovers) -> catalog -> engine -> reject sink -> shards (replay) -> way in -> socket
//! stop    socket (drains) -> shards -> engine (flushes) -> log
//! ```
//!
//! [`Core`] is everything but the socket, which commands that read a data folder use as well;
//! [`Server`] adds the socket. The socket answers from the first moment, but `/ready`
//! says so only when the shards have executed what the log held at the start.
//!
//! While it runs the main thread is in [`life`]: signals, [`reload`], the certificate's files, and what a
//! service manager is told ([`notify`]).

mod error;
mod fit;
pub mod interrupt;
mod life;
pub mod notify;
pub mod reload;
mod status;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tracing::{error, info, warn};

use crate::api::answers::{Answers, KEYED_LIMITS, SDK_LIMITS};
use crate::api::datazone::DataZone;
use crate::api::rejects::Desk;
use crate::api::{App, EXPORTS_MAX, Mapping};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::identity;
use crate::base::lsn::Lsn;
use crate::base::poison::Poison;
use crate::config::Config;
use crate::engine::catalog::Catalog;
use crate::engine::embedded::Embedded;
use crate::engine::postgres::Postgres;
use crate::engine::timestream::{self, Timestream};
use crate::engine::{self, LogEnds, TableEngine};
use crate::http::auth::Keyring;
use crate::http::service::Service;
use crate::http::tls::{self, Material};
use crate::ingest::Ingest;
use crate::load::{self, LoadError, Loads};
use crate::metrics::Metrics;
use crate::object::Store;
use crate::record::Reason;
use crate::reject::{Claim, Reporter, Sweeper};
use crate::shard::{self, Shards};
use crate::wal::Wal;
use crate::{http, ingest};

pub use error::StartError;
pub use interrupt::Interrupts;
pub use life::{End, Surroundings};
pub use notify::Notifier;
use status::{LogObserver, ServerStatus};

/// The folder of load tasks in the data folder.
const LOADS_DIR: &str = "batch-load";

/// What a data folder is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To take writes: everything must be there.
    Serve,
    /// To read what is in it, whoever has its reject sink by now.
    Read,
}

/// Log, engine and everything between them, running.
#[derive(Debug)]
pub struct Core {
    /// The names of databases and tables.
    pub catalog: Arc<Catalog>,
    /// The engine.
    pub engine: Arc<dyn TableEngine>,
    /// The way in.
    pub ingest: Ingest,
    /// Every metric.
    pub metrics: Metrics,
    wal: Wal,
    reporter: Reporter,
    sweeper: Option<Sweeper>,
    shards: Option<Shards>,
    clock: SharedClock,
    poison: Poison,
    stopping: Arc<AtomicBool>,
    /// The last frame that the log held at the start.
    replay_until: Lsn,
}

impl Core {
    /// Opens a data folder: recovers the log and starts to replay it into the engine.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what does not open and why.
    pub fn open(config: &Config, purpose: Purpose) -> Result<Self, StartError> {
        let config = config.clone().placed();
        refuse(config.problems_of_data())?;
        make_folder(&config.data_dir)?;
        let clock = SystemClock::shared();
        let poison = Poison::new();
        let metrics = Metrics::new()?;
        metrics.start_reasons_at_zero(Reason::ALL.iter().map(|reason| reason.code()));
        metrics.start_time_seconds.set(clock.wall_ns() / 1_000_000_000);
        let stopping = Arc::new(AtomicBool::new(false));
        // Before a log is made where one is missing.
        fit::check_log_is_there(&config)?;
        // The log first: its lock keeps a second process out of the whole folder.
        let observer = Arc::new(LogObserver::new(metrics.clone()));
        let wal = Wal::open(&config.wal, Arc::clone(&clock), poison.clone(), observer)?;
        let count = config.shards.effective_count();
        let (catalog, engine) = open_tables(&config, count, &wal, &clock, &stopping)?;
        let store = Arc::new(Store::open(&config.rejects.url, &config.object)?);
        let (gateway, replay_until) = (name_of(&config.data_dir, &clock)?, wal.marks().durable);
        let claim = Claim::new(store, gateway, replay_until, Arc::clone(&clock));
        if purpose == Purpose::Serve {
            claim.check()?;
        }
        let reporter =
            Reporter::new(claim, Arc::clone(&clock), metrics.clone(), Arc::clone(&stopping));
        let parts = shard::Parts {
            wal: wal.clone(),
            engine: Arc::clone(&engine),
            catalog: Arc::clone(&catalog),
            reporter: reporter.clone(),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            poison: poison.clone(),
            stopping: Arc::clone(&stopping),
        };
        let shards = Shards::start(&parts, count, &config.batch).map_err(StartError::Thread)?;
        let way_in = ingest::Parts {
            wal: wal.clone(),
            catalog: Arc::clone(&catalog),
            marks: Arc::clone(shards.marks()),
            metrics: metrics.clone(),
            clock: Arc::clone(&clock),
            stopping: Arc::clone(&stopping),
        };
        let durability = config.wal.durability.into();
        let ingest = Ingest::new(way_in, config.ingest.clone(), durability, count);
        let shards = Some(shards);
        Ok(Self {
            catalog,
            engine,
            ingest,
            metrics,
            wal,
            reporter,
            sweeper: None,
            shards,
            clock,
            poison,
            stopping,
            replay_until,
        })
    }

    /// Starts the batch loads of the data folder, which go on where they stood. To be stopped before this
    /// is closed, and joined afterwards.
    ///
    /// # Errors
    ///
    /// [`LoadError`]; nothing was started.
    pub fn start_loads(&self, config: &Config) -> Result<Arc<Loads>, LoadError> {
        let config = config.clone().placed();
        let parts = load::Parts {
            ingest: self.ingest.clone(),
            catalog: Arc::clone(&self.catalog),
            metrics: self.metrics.clone(),
            clock: Arc::clone(&self.clock),
        };
        let dir = config.data_dir.join(LOADS_DIR);
        Ok(Arc::new(Loads::start(&dir, parts, config.batch_load, config.object)?))
    }

    /// Begins to remove the rejections that are older than the settings keep them. Of a server only: a
    /// command that opens a folder to read it must not remove anything.
    ///
    /// # Errors
    ///
    /// [`StartError::Thread`] when the system has no thread to give.
    pub fn start_sweeper(&mut self, config: &Config) -> Result<(), StartError> {
        let stopping = Arc::clone(&self.stopping);
        let sweeper = Sweeper::start(&self.reporter, config.rejects.keep_for, stopping);
        self.sweeper = sweeper.map_err(StartError::Thread)?;
        Ok(())
    }

    /// Whether everything that the log held at the start is executed.
    pub fn is_replayed(&self) -> bool {
        self.wal.marks().applied >= self.replay_until
    }

    /// Waits until [`Self::is_replayed`], or until the log is poisoned; returns whether it is replayed.
    pub fn wait_replayed(&self) -> bool {
        const LOOK: Duration = Duration::from_millis(2);
        while !self.is_replayed() {
            if self.poison.is_thrown() {
                return false;
            }
            self.clock.sleep(LOOK);
        }
        true
    }

    /// Stops the shards, flushes the engine, closes the log. What could not be flushed stays in the
    /// log, and the engine says why.
    pub fn close(&mut self) {
        let Some(shards) = self.shards.take() else { return };
        shards.stop();
        // Closing flushes what is committed. An explicit flush would wait for a shard that stopped in
        // the middle of a turn, because engine or sink were away, to end it: minutes, for nothing.
        self.engine.close();
        let checkpoint = self.engine.checkpoint().min(self.wal.marks().applied);
        if let Err(error) = self.wal.checkpoint(checkpoint) {
            error!(%error, "the checkpoint could not be written; the next start replays more");
        }
        self.wal.close();
        // Last: it may wait for a sink that is slow, and nothing of what is stored waits for it.
        drop(self.sweeper.take());
        self.reporter.tell_owner();
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.close();
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Server {
    core: Option<Core>,
    loads: Arc<Loads>,
    runtime: Option<Runtime>,
    local_addr: SocketAddr,
    /// The settings as they hold now, the reloaded ones too.
    config: Config,
    /// What connections ask for service and certificate.
    current: Arc<http::Current>,
    /// The certificate's files as they were before they were read.
    certificate: tls::Stamps,
    /// Heard from the start on: a reload that is asked for meanwhile must not end the process.
    hang_up: Signal,
    stop: watch::Sender<bool>,
    socket: Option<tokio::task::JoinHandle<http::Drained>>,
}

/// Whether the settings can work.
fn refuse(problems: Vec<String>) -> Result<(), StartError> {
    if problems.is_empty() { Ok(()) } else { Err(StartError::Config { problems }) }
}

impl Server {
    /// Starts a gateway. It answers on return; `/ready` says when it is replayed.
    ///
    /// # Errors
    ///
    /// [`StartError`] names what does not start and why.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        refuse(config.clone().placed().problems())?;
        let listen = |source| StartError::Listen { address: config.server.listen, source };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("http")
            .build()
            .map_err(StartError::Thread)?;
        runtime.block_on(async { outlive_file_size_limit() }).map_err(StartError::Thread)?;
        let hang_up = runtime.block_on(async { signal(SignalKind::hangup()) });
        let hang_up = hang_up.map_err(StartError::Thread)?;
        let mut core = Core::open(config, Purpose::Serve)?;
        // After the folder's lock: two servers on one folder must fail for the folder, not the port.
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind(config.server.listen))
            .map_err(listen)?;
        let local_addr = listener.local_addr().map_err(listen)?;
        let keyring = Keyring::load(&config.auth)?.guarding(&config.metrics);
        let certificate = tls::stamps(&config.server.tls);
        let material = Material::load(&config.server.tls)?;
        tell_expiry(&core, material.as_ref());
        core.start_sweeper(config)?;
        let loads = core.start_loads(config)?;
        let app = Arc::new(app(&core, config, &loads));
        let service = Service::new(app, config.server.clone(), keyring);
        let current = Arc::new(http::Current::new(service, material));
        let (stop, mut stopped) = watch::channel(false);
        // The sender lives as long as the server, so an error here is a stop as well.
        let shutdown = async move { drop(stopped.wait_for(|stop| *stop).await) };
        let socket = runtime.spawn(http::serve(listener, Arc::clone(&current), shutdown));
        let version = env!("CARGO_PKG_VERSION");
        let is_tls = config.server.tls.is_on();
        info!(version, %local_addr, tls = is_tls, data = %config.data_dir.display(), "listening");
        Ok(Self {
            core: Some(core),
            loads,
            runtime: Some(runtime),
            local_addr,
            config: config.clone(),
            current,
            certificate,
            hang_up,
            stop,
            socket: Some(socket),
        })
    }

    /// Where it listens.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Waits until everything that the log held at the start is executed.
    pub fn wait_replayed(&self) -> bool {
        self.core.as_ref().is_some_and(Core::wait_replayed)
    }

    /// Stops: no new connections, the requests under way are answered, the shards end, the engine
    /// flushes, the log closes.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // Nobody listens any more when the socket has ended by itself.
        self.stop.send_replace(true);
        if let Some(socket) = self.socket.take()
            && let Err(panicked) = runtime.block_on(socket)
        {
            error!(%panicked, "the socket's task ended by a panic");
        }
        self.loads.stop();
        if let Some(core) = &self.core {
            // Relaxed: whoever misses it is answered by the log.
            core.stopping.store(true, Ordering::Relaxed);
        }
        // Off the runtime's threads: closing waits for threads and files.
        runtime.shutdown_timeout(Duration::from_secs(1));
        drop(self.core.take());
        self.loads.join();
        info!("stopped");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

fn app(core: &Core, config: &Config, loads: &Arc<Loads>) -> App {
    let options = core.ingest.options();
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let status = Arc::new(ServerStatus::new(core, config));
    let forgotten = || core.metrics.answers_forgotten.clone();
    App {
        ingest: core.ingest.clone(),
        engine: Arc::clone(&core.engine),
        catalog: Arc::clone(&core.catalog),
        tables: Arc::clone(&status) as Arc<dyn crate::api::Tables>,
        status,
        metrics: core.metrics.clone(),
        mapping: Mapping {
            measure_name: Some(options.measure_name.clone()).filter(|name| !name.is_empty()),
            default_dimension: options.default_dimension().map(owned),
            version_field: options.version_field().map(str::to_owned),
        },
        clock: Arc::clone(&core.clock),
        answers: Arc::new(Answers::new(Arc::clone(&core.clock), SDK_LIMITS, forgotten())),
        keyed: Arc::new(Answers::new(Arc::clone(&core.clock), KEYED_LIMITS, forgotten())),
        keyed_changes: Arc::new(Answers::new(Arc::clone(&core.clock), KEYED_LIMITS, forgotten())),
        datazone: Arc::new(DataZone::new(config.datazone.clone())),
        exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        loads: Arc::clone(loads),
        rejects: Desk::new(core.reporter.archive()).keeping(config.rejects.keep_for),
    }
}

/// Catalog and engine, once it is known that they are those of the log.
fn open_tables(
    config: &Config,
    shards: usize,
    wal: &Wal,
    clock: &SharedClock,
    stopping: &Arc<AtomicBool>,
) -> Result<(Arc<Catalog>, Arc<dyn TableEngine>), StartError> {
    let options = &config.engine;
    if options.kind == engine::Kind::Embedded {
        fit::check_tables_are_there(wal, &options.embedded.dir)?;
    }
    let catalog = Arc::new(Catalog::open(&config.data_dir)?);
    fit::check_catalog_of(wal, &catalog, &config.data_dir)?;
    let (of_engine, clock) = (Arc::clone(&catalog), Arc::clone(clock));
    let engine: Arc<dyn TableEngine> = match options.kind {
        engine::Kind::Embedded => {
            Arc::new(Embedded::open(options.embedded.clone(), shards, of_engine, clock)?)
        }
        engine::Kind::Postgres => {
            let log = LogEnds { checkpoint: wal.marks().checkpoint, durable: wal.marks().durable };
            let folder = (&*config.data_dir, log);
            Arc::new(Postgres::open(options.postgres.clone(), folder, shards, of_engine, clock)?)
        }
        engine::Kind::Timestream => {
            let (stopping, replay_until) = (Arc::clone(stopping), wal.marks().durable);
            let parts = timestream::Parts { catalog: of_engine, clock, stopping, replay_until };
            Arc::new(Timestream::open(&options.timestream, shards, parts)?)
        }
    };
    // What is away now is compared when it is back.
    fit::check_log_of(&*engine, wal, &config.wal.dir)?;
    Ok((catalog, engine))
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    crate::base::fs::create_dir_all(path)
        .map_err(|source| StartError::Folder { path: path.to_owned(), source })
}

/// The gateway's name, which its data folder keeps.
fn name_of(data: &Path, clock: &SharedClock) -> Result<String, StartError> {
    identity::of_folder(data, clock.wall_ns())
        .map_err(|source| StartError::Identity { path: data.join(identity::FILE_NAME), source })
}

/// Makes a write beyond the process's file size limit an error that can be told. Left alone, the
/// system ends the process for it, without a word in any log.
fn outlive_file_size_limit() -> std::io::Result<()> {
    let exceeded = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    // The handler stays when the listener goes; nobody needs to hear it.
    signal(exceeded).map(drop)
}

/// A certificate that has expired is told and used: clients that look refuse it, others still write.
fn tell_expiry(core: &Core, material: Option<&Material>) {
    let Some(Material { expires_seconds, .. }) = material else { return };
    if expires_seconds.saturating_mul(1_000_000_000) < core.clock.wall_ns() {
        warn!(expires_seconds, "the certificate has expired: clients that look will refuse it");
    }
}

#[cfg(test)]
mod tests;
