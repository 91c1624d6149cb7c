//! What a service manager is told: systemd's protocol, lines of text in a datagram to the socket that
//! `NOTIFY_SOCKET` names. Without one nobody is told.
//!
//! | line | when |
//! |---|---|
//! | `READY=1` | the log is replayed; after a reload |
//! | `STATUS=` | what the server is doing, for people |
//! | `EXTEND_TIMEOUT_USEC=` | while it replays: it has not got stuck |
//! | `RELOADING=1`, `MONOTONIC_USEC=` | settings are being read again |
//! | `WATCHDOG=1` | every half of `WATCHDOG_USEC`, while connections could be served |
//! | `STOPPING=1` | it stops |
//!
//! Source: `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tracing::warn;

use crate::base::clock::machine_monotonic;

/// Longest that a manager which does not read may hold us up.
const SEND_MAX: Duration = Duration::from_secs(1);

/// Who is told.
#[derive(Debug, Default)]
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often the manager wants to hear that all is well.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// Tells nobody.
    pub fn silent() -> Self {
        Self::default()
    }

    /// Tells whom the process's environment names.
    pub fn from_environment() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::silent();
        };
        let opened = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(SEND_MAX))?;
            Ok((socket, address))
        });
        let socket = opened
            .inspect_err(|error| {
                warn!(%error, socket = ?name, "the service manager cannot be told anything");
            })
            .ok();
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // A process that was started by the one that is watched is not watched itself.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0);
        // Half of it: one late word shall not end the process.
        Self { socket, watchdog: watchdog.map(|usec| Duration::from_micros(usec / 2)) }
    }

    /// How often `WATCHDOG=1` is to be said; `None`: never.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.socket.is_some())
    }

    /// Says these lines. A manager that cannot be told is no reason to stop.
    pub fn say(&self, lines: &[&str]) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(lines.join("\n").as_bytes(), address) {
            warn!(%error, "the service manager was not told");
        }
    }

    /// Says what the server is doing.
    pub fn status(&self, what: &str) {
        self.say(&[&format!("STATUS={what}")]);
    }

    /// Says that settings are being read again; to be ended by [`Self::ready`].
    pub fn reloading(&self) {
        let now = format!("MONOTONIC_USEC={}", machine_monotonic().as_micros());
        self.say(&["RELOADING=1", &now, "STATUS=reading the settings again"]);
    }

    /// Says that the server serves.
    pub fn ready(&self, status: &str) {
        self.say(&["READY=1", &format!("STATUS={status}")]);
    }
}

/// A path, or behind an `@` a name that is in no file system.
fn address(name: &OsString) -> std::io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => {
            let what = "NOTIFY_SOCKET is neither a path nor begins with @";
            Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(variables: &[(&str, &str)]) -> Notifier {
        Notifier::from_variables(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_socket_in_a_file_or_in_none_hears_what_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        notifier(&[("NOTIFY_SOCKET", path.to_str().unwrap())]).ready("well");
        assert_eq!(heard(&listener), "READY=1\nSTATUS=well");
        let name = format!("tidegate-test-{}", std::process::id());
        let listener =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        notifier(&[("NOTIFY_SOCKET", &format!("@{name}"))]).reloading();
        let text = heard(&listener);
        let (_, usec) = text.split_once("\nMONOTONIC_USEC=").unwrap();
        let usec: u128 = usec.split_once('\n').unwrap().0.parse().unwrap();
        let now = machine_monotonic().as_micros();
        assert!(usec <= now && usec + 60_000_000 > now, "{text}, and it is {now}");
    }

    #[test]
    fn nobody_is_told_where_nobody_listens_and_nothing_fails() {
        for name in ["", "/nonexistent/notify", "vsock:2:1", "relative"] {
            notifier(&[("NOTIFY_SOCKET", name)]).ready("well");
        }
        notifier(&[]).ready("well");
    }

    #[test]
    fn the_watchdog_is_fed_twice_as_often_as_it_asks_and_by_whom_it_asks() {
        let own = std::process::id().to_string();
        let socket = ("NOTIFY_SOCKET", "/nonexistent/notify");
        for (variables, expected) in [
            (&[socket, ("WATCHDOG_USEC", "30000000")][..], Some(Duration::from_secs(15))),
            (
                &[socket, ("WATCHDOG_USEC", "30"), ("WATCHDOG_PID", &own)],
                Some(Duration::from_micros(15)),
            ),
            (&[socket, ("WATCHDOG_USEC", "30"), ("WATCHDOG_PID", "1")], None),
            (&[socket, ("WATCHDOG_USEC", "0")], None),
            (&[socket, ("WATCHDOG_USEC", "often")], None),
            (&[socket], None),
            (&[("WATCHDOG_USEC", "30")], None),
        ] {
            assert_eq!(notifier(variables).watchdog(), expected, "{variables:?}");
        }
    }
}
