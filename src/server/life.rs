//! What the main thread does while the server runs: it hears signals, reads settings again, looks at
//! the certificate's files, tells the service manager, and bounds the stop.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::interrupt::is_asked_again;
use super::notify::Notifier;
use super::reload::{self, ReloadError};
use super::{Core, Server};
use crate::base::clock::{Clock, SystemClock};
use crate::base::thread::Thread;
use crate::config::{Config, ConfigError};
use crate::http::tls::{self, Material, Stamps};

/// How soon a poisoned log ends the process, and how often everything else is looked after.
const LOOK: Duration = Duration::from_millis(100);

/// How often a start that is still replaying says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How much longer the manager shall wait for a start that is still replaying.
const START_EXTENDED: &str = "EXTEND_TIMEOUT_USEC=60000000";

/// Longest time in which a task that does nothing must have run, or connections are not served.
const TASK_MAX: Duration = Duration::from_secs(1);

/// What a server finds around it.
pub struct Surroundings<'s> {
    /// Reads the settings again, from wherever they came.
    pub load: &'s dyn Fn() -> Result<Config, ConfigError>,
    /// Sets the level of the log, and says what is wrong with it.
    pub set_level: &'s dyn Fn(&str) -> Result<(), String>,
    /// The service manager.
    pub notifier: &'s Notifier,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("notifier", self.notifier).finish_non_exhaustive()
    }
}

/// Why the server stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Asked,
    /// The log failed.
    Poisoned,
}

/// A signal that is heard.
enum Heard {
    Stop(&'static str),
    Reload,
}

/// What is looked after from time to time.
struct Watch {
    /// The certificate's files as they were read.
    read: Stamps,
    /// The same as they were at the last look.
    seen: Stamps,
    look_at: Duration,
    tell_at: Duration,
    feed_at: Duration,
    is_ready: bool,
}

impl Server {
    /// Looks after the server until the process is asked to end (SIGTERM, SIGINT) or the log is
    /// poisoned. SIGHUP reads the settings again.
    ///
    /// # Errors
    ///
    /// When the signals cannot be listened for.
    pub fn wait(&mut self, around: &Surroundings<'_>) -> io::Result<End> {
        let mut watch = Watch {
            read: self.certificate.clone(),
            seen: self.certificate.clone(),
            look_at: Duration::ZERO,
            tell_at: Duration::ZERO,
            feed_at: Duration::ZERO,
            is_ready: false,
        };
        let Some(mut signals) = self.stop_signals()? else { return Ok(End::Asked) };
        loop {
            match self.next_signal(&mut signals) {
                Some(Heard::Stop(signal)) => {
                    info!(signal, "asked to stop");
                    return Ok(End::Asked);
                }
                Some(Heard::Reload) => self.reload(around, &mut watch),
                None => {}
            }
            let Some(core) = &self.core else { return Ok(End::Asked) };
            if let Some(reason) = core.poison.reason() {
                error!(
                    reason,
                    "the log failed; ending, so that the next start reads what is there"
                );
                return Ok(End::Poisoned);
            }
            let now = core.clock.monotonic();
            self.look_at_certificate(&mut watch, now);
            self.tell(around.notifier, &mut watch, now);
        }
    }

    fn stop_signals(&self) -> io::Result<Option<[(Signal, &'static str); 2]>> {
        let Some(runtime) = &self.runtime else { return Ok(None) };
        let _inside = runtime.enter();
        Ok(Some([
            (signal(SignalKind::terminate())?, "SIGTERM"),
            (signal(SignalKind::interrupt())?, "SIGINT"),
        ]))
    }

    /// The next signal, if one comes soon.
    fn next_signal(&mut self, stops: &mut [(Signal, &'static str); 2]) -> Option<Heard> {
        let runtime = self.runtime.as_ref()?;
        let hang_up = &mut self.hang_up;
        let [(terminate, one), (interrupt, other)] = stops;
        let heard = async {
            tokio::select! {
                _ = terminate.recv() => Heard::Stop(one),
                _ = interrupt.recv() => Heard::Stop(other),
                _ = hang_up.recv() => Heard::Reload,
            }
        };
        runtime.block_on(async { tokio::time::timeout(LOOK, heard).await.ok() })
    }

    fn reload(&mut self, around: &Surroundings<'_>, watch: &mut Watch) {
        around.notifier.reloading();
        let (before, seen) = (self.config.server.tls.clone(), tls::stamps(&self.config.server.tls));
        let reloaded = (around.load)().map_err(ReloadError::from).and_then(|read| {
            reload::apply(&mut self.config, &read, &self.current, around.set_level)
        });
        let metrics = &self.current.service().app.metrics;
        match reloaded {
            Ok(reloaded) => {
                metrics.server_reloads.inc();
                // Taken before they were read: what changed meanwhile is looked at again.
                let tls = &self.config.server.tls;
                watch.read = if *tls == before { seen } else { tls::stamps(tls) };
                let (applied, waiting) = (reloaded.applied.join(", "), reloaded.waiting.join(", "));
                info!(applied, needs_restart = waiting, "settings reloaded");
            }
            Err(error) => {
                metrics.server_reload_failures.inc();
                let why = crate::base::class::chain(&error);
                warn!(why, "settings not reloaded: all stays as it was");
            }
        }
        if watch.is_ready {
            around.notifier.ready(&self.serving());
        }
    }

    /// Takes a certificate whose files have changed, and stood still between two looks: whoever renews
    /// writes one after the other.
    fn look_at_certificate(&self, watch: &mut Watch, now: Duration) {
        let options = &self.config.server.tls;
        if !options.is_on() || now < watch.look_at {
            return;
        }
        watch.look_at = now + options.look_interval.0;
        let found = tls::stamps(options);
        let is_still = found == watch.seen;
        watch.seen.clone_from(&found);
        if found == watch.read || !is_still {
            return;
        }
        // Whatever comes of it: the same files are not tried again.
        watch.read = found;
        let metrics = &self.current.service().app.metrics;
        match Material::load(options) {
            Ok(Some(material)) => {
                metrics.server_reloads.inc();
                info!(expires_seconds = material.expires_seconds, "certificate renewed");
                self.current.replace_certificate(material);
            }
            Ok(None) => {}
            Err(error) => {
                metrics.server_reload_failures.inc();
                let why = crate::base::class::chain(&error);
                warn!(why, "certificate not renewed: the one in use stays");
            }
        }
    }

    fn tell(&self, notifier: &Notifier, watch: &mut Watch, now: Duration) {
        let (Some(core), Some(runtime)) = (&self.core, &self.runtime) else { return };
        if !watch.is_ready && core.is_replayed() {
            watch.is_ready = true;
            notifier.ready(&self.serving());
        }
        if !watch.is_ready && now >= watch.tell_at {
            watch.tell_at = now + TELL_EVERY;
            notifier.say(&[&replaying(core), START_EXTENDED]);
        }
        let Some(pause) = notifier.watchdog().filter(|_| now >= watch.feed_at) else { return };
        watch.feed_at = now + pause;
        // A runtime whose threads are all held up serves nobody, and this thread would not notice.
        let ran = runtime.block_on(async {
            let task = tokio::spawn(async {});
            tokio::time::timeout(TASK_MAX, task).await
        });
        if let Ok(Ok(())) = ran {
            notifier.say(&["WATCHDOG=1"]);
        } else {
            error!(
                "no thread serves connections; the service manager is not told that all is well"
            );
        }
    }

    fn serving(&self) -> String {
        format!("serving on {}", self.local_addr)
    }

    /// Stops as [`Self::stop`] does, within `server.stop_timeout`: at its end, or when it is asked again, the
    /// process ends with exit code `code`. What was acknowledged is in the log.
    pub fn stop_in_time(self, notifier: &Notifier, code: i32) {
        notifier.say(&["STOPPING=1", "STATUS=stopping"]);
        let bound = bounded(self.config.server.stop_timeout.0, code);
        self.stop();
        match bound {
            Ok((done, thread)) => {
                drop(done);
                if let Err(error) = thread.join() {
                    error!(%error, "the stop was not bounded");
                }
            }
            Err(error) => warn!(%error, "the stop was not bounded"),
        }
    }
}

fn replaying(core: &Core) -> String {
    let (applied, until) = (core.wal.marks().applied, core.replay_until);
    format!("STATUS=replaying the log: frame {applied} of {until}")
}

/// Ends the process after `longest` or when it is asked again, unless what is returned is dropped before.
/// Whoever sends the first signal to process and group sends two of them: that asks once.
fn bounded(longest: Duration, code: i32) -> io::Result<(tokio::sync::oneshot::Sender<()>, Thread)> {
    let (done, mut is_done) = tokio::sync::oneshot::channel();
    let runtime: Runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let clock = SystemClock::new();
    let asked = clock.monotonic();
    let thread = Thread::spawn("stop-bound", move || {
        let why = runtime.block_on(async {
            let mut over = pin!(tokio::time::sleep(longest));
            loop {
                let again = tokio::select! {
                    _ = &mut is_done => return None,
                    () = &mut over => return Some("server.stop_timeout is over"),
                    _ = terminate.recv() => "a second SIGTERM",
                    _ = interrupt.recv() => "a second SIGINT",
                };
                if is_asked_again(asked, clock.monotonic()) {
                    return Some(again);
                }
            }
        });
        if let Some(why) = why {
            warn!(
                why,
                "ending at once: what was acknowledged is in the log, the next start replays it"
            );
            std::process::exit(code);
        }
    })?;
    Ok((done, thread))
}
