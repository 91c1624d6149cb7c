//! The server of the demo: a child process of this binary, which dies with its parent.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::super::Failure;
use super::super::client::{Address, Client};
use crate::base::clock::{Clock, SystemClock};
use crate::metrics::catalog::WAL_MARKS;
use crate::server::Interrupts;

/// The child's settings, in the folder of the demo.
pub(super) const SETTINGS_FILE: &str = "config.toml";

/// Small segments, so that little disk is taken; else the defaults.
const SETTINGS: &str = "[wal]\nsegment_bytes = \"49 MiB\"\nbytes_max = \"2 GiB\"\n";

/// Longest wait for a start and for a stop, on a busy machine.
const CHANGE_MAX: Duration = Duration::from_mins(1);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A server that takes writes. Killed when dropped.
pub(super) struct Child {
    process: process::Child,
    pub(super) address: SocketAddr,
    /// The last frame that was in the log when it listened; a request is a frame.
    frames: Option<u64>,
}

/// Asks the system to kill this process when its parent ends, however that ends.
pub(in crate::cli) fn die_with_parent() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
}

impl Child {
    /// Starts a server in the folder and waits until it has replayed its log.
    pub(super) fn start(
        dir: &Path,
        listen: SocketAddr,
        interrupts: &Interrupts,
    ) -> Result<Self, Failure> {
        let failed = |error| Failure::failed(format!("{}: {error}", dir.display()));
        fs::write(dir.join(SETTINGS_FILE), SETTINGS).map_err(failed)?;
        let log = dir.join("server.log");
        // A second start must not find the address of the first.
        let said = File::create(&log).map_err(failed)?;
        let mut command = ours().map_err(failed)?;
        command.arg("demo").arg("--serve").arg(dir).args(["--listen", &listen.to_string()]);
        let spawned = command.stdout(Stdio::null()).stderr(said).spawn();
        let process = spawned.map_err(failed)?;
        let mut child = Self { process, address: listen, frames: None };
        child.wait_ready(&log, interrupts)?;
        Ok(child)
    }

    fn wait_ready(&mut self, log: &PathBuf, interrupts: &Interrupts) -> Result<(), Failure> {
        let clock = SystemClock::new();
        let mut client = None;
        while clock.monotonic() < CHANGE_MAX && interrupts.heard().is_none() {
            if let Some(status) = self.process.try_wait().map_err(Failure::failed)? {
                let said = fs::read_to_string(log).unwrap_or_default();
                return Err(Failure::failed(format!("the server ended with {status}: {said}")));
            }
            if client.is_none()
                && let Some(address) = address_in(log)
            {
                self.address = address;
                client = Some(Client::new(Address::plain(address)));
            }
            if let Some(client) = &mut client {
                self.frames = self.frames.or_else(|| frames(client));
                if client.get("/ready").is_ok_and(|reply| reply.status == 200) {
                    return Ok(());
                }
            }
            clock.sleep(LOOK);
        }
        Err(Failure::failed(format!("the server is not ready after {CHANGE_MAX:?}")))
    }

    /// Its process number.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Requests in its log when it listened.
    pub(super) fn frames(&self) -> u64 {
        self.frames.unwrap_or_default()
    }

    /// SIGKILL: not one more instruction of it runs.
    pub(super) fn kill(mut self) -> Result<(), Failure> {
        self.process.kill().and_then(|()| self.process.wait()).map_err(Failure::failed)?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        let clock = SystemClock::new();
        let pid = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).map_err(Failure::failed)?;
        }
        while clock.monotonic() < CHANGE_MAX {
            match self.process.try_wait().map_err(Failure::failed)? {
                None => clock.sleep(LOOK),
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(Failure::failed(format!("the server stopped with {status}")));
                }
            }
        }
        Err(Failure::failed(format!("the server has not stopped after {CHANGE_MAX:?}")))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Errors say that it has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// This program, to be started again.
pub(crate) fn program() -> io::Result<PathBuf> {
    let file = std::env::current_exe()?;
    // An upgrade or a build takes the file away under us; what runs can still be started by this name, by which
    // `ps` knows nobody.
    Ok(if file.exists() { file } else { "/proc/self/exe".into() })
}

/// A command of this binary, as a user types it who has set nothing.
pub(super) fn ours() -> io::Result<Command> {
    let mut command = Command::new(program()?);
    for (name, _) in std::env::vars_os() {
        // Settings of the user's own server are not the demo's.
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    // What is typed at the terminal is for the demo, which ends its children: a server would write out its
    // memory on SIGQUIT.
    command.process_group(0);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Where the server listens, once it says so.
fn address_in(log: &Path) -> Option<SocketAddr> {
    let text = fs::read_to_string(log).ok()?;
    let (_, rest) = text.split_once("local_addr=")?;
    // The line may be half written: an address ends in a blank.
    rest.split_once(' ')?.0.parse().ok()
}

/// The last durable frame.
fn frames(client: &mut Client) -> Option<u64> {
    let metrics = client.get("/metrics").ok()?.body;
    let metrics = String::from_utf8_lossy(&metrics).into_owned();
    let [_, durable] = WAL_MARKS;
    metrics.lines().find_map(|line| line.strip_prefix(durable))?.trim().parse().ok()
}
