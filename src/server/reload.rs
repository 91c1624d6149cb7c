//! What a reload takes over, and what waits for a restart.
//!
//! | settings | on SIGHUP |
//! |---|---|
//! | `server.tls` | certificate, key and authorities are read again; whether there is TLS at all waits |
//! | `auth` | tokens, users and keys are read again, from their files too |
//! | `server` limits and times | hold for the next request; those of idle time for the next connection |
//! | `log.level` | holds at once |
//! | `server.listen`, `server.connections_max`, all others | wait for a restart, and are named in the log |
//!
//! All or nothing: what was read must be sound by itself, and what it makes of the running settings
//! until the restart as well. Else nothing changes.

use toml::{Table, Value};

use crate::config::{Config, ConfigError};
use crate::http::auth::{AuthError, Keyring};
use crate::http::tls::{Material, TlsError};
use crate::http::{self, Current};

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The settings cannot be read.
    #[error("the settings cannot be read")]
    Read(#[from] ConfigError),
    /// They contradict themselves.
    #[error("the settings cannot work: {}", problems.join("; "))]
    Config {
        /// Every contradiction.
        problems: Vec<String>,
    },
    /// They contradict what holds until the restart.
    #[error("the settings cannot work before a restart: {}", problems.join("; "))]
    Until {
        /// Every contradiction.
        problems: Vec<String>,
    },
    /// A secret.
    #[error("the credentials cannot be read")]
    Auth(#[from] AuthError),
    /// The certificate.
    #[error("the certificate cannot be used")]
    Tls(#[from] TlsError),
    /// The level of the log.
    #[error("log.level cannot be set: {what}")]
    Level {
        /// What the logger says.
        what: String,
    },
}

/// What a reload came to. Names of settings, no values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Settings that changed and hold now.
    pub applied: Vec<String>,
    /// Settings that changed and wait for a restart.
    pub waiting: Vec<String>,
}

/// Takes from `read` what can be taken while the server runs.
///
/// # Errors
///
/// [`ReloadError`]; nothing has changed.
pub(super) fn apply(
    running: &mut Config,
    read: &Config,
    current: &Current,
    set_level: &dyn Fn(&str) -> Result<(), String>,
) -> Result<Reloaded, ReloadError> {
    let problems = read.clone().placed().problems();
    if !problems.is_empty() {
        return Err(ReloadError::Config { problems });
    }
    let merged = merged(running, read);
    let problems = merged.clone().placed().problems();
    if !problems.is_empty() {
        return Err(ReloadError::Until { problems });
    }
    let keyring = Keyring::load(&merged.auth)?.guarding(&merged.metrics);
    let material = Material::load(&merged.server.tls)?;
    if running.log.level != merged.log.level {
        set_level(&merged.log.level).map_err(|what| ReloadError::Level { what })?;
    }
    // Nothing fails from here on.
    current.replace(merged.server.clone(), keyring);
    if let Some(material) = material {
        current.replace_certificate(material);
    }
    let reloaded =
        Reloaded { applied: differences(running, &merged), waiting: differences(&merged, read) };
    *running = merged;
    Ok(reloaded)
}

/// The running settings with all that can be taken from those that were read.
fn merged(running: &Config, read: &Config) -> Config {
    let mut merged = running.clone();
    merged.auth.clone_from(&read.auth);
    merged.metrics.clone_from(&read.metrics);
    merged.log.level.clone_from(&read.log.level);
    let is_as_before = running.server.tls.is_on() == read.server.tls.is_on();
    let tls = if is_as_before { &read.server.tls } else { &running.server.tls };
    merged.server = http::Options {
        listen: running.server.listen,
        connections_max: running.server.connections_max,
        tls: tls.clone(),
        ..read.server.clone()
    };
    merged
}

/// The names of the settings that differ.
fn differences(one: &Config, other: &Config) -> Vec<String> {
    let mut names = Vec::new();
    if let (Ok(one), Ok(other)) = (Table::try_from(one), Table::try_from(other)) {
        compare(&one, &other, "", &mut names);
    }
    // Secrets are written as "***", so a change of one alone is not seen above.
    if one.auth != other.auth && !names.iter().any(|name| name.starts_with("auth.")) {
        names.push("auth".to_owned());
    }
    names
}

fn compare(one: &Table, other: &Table, prefix: &str, names: &mut Vec<String>) {
    for (key, value) in one {
        let name = format!("{prefix}{key}");
        match (value, other.get(key)) {
            (Value::Table(one), Some(Value::Table(other))) => {
                compare(one, other, &format!("{name}."), names);
            }
            (value, found) if found != Some(value) => names.push(name),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::units::{Bytes, Span};

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_can_change_is_taken_and_what_cannot_is_named() {
        let running = config("");
        let read = config(
            "[server]\nlisten = \"127.0.0.1:1\"\nconnections_max = 7\nbody_bytes_max = \"1 MiB\"\n\
             [server.tls]\ncert_file = \"a\"\nkey_file = \"b\"\n\
             [log]\nlevel = \"debug\"\nformat = \"json\"\n[wal]\nbytes_max = \"1 GiB\"\n\
             [[auth.tokens]]\nname = \"a\"\ntoken = \"secret\"",
        );
        let merged = merged(&running, &read);
        assert_eq!(merged.server.body_bytes_max, Bytes::mib(1));
        assert_eq!(merged.server.connections_max, running.server.connections_max);
        assert!(!merged.server.tls.is_on());
        assert_eq!(merged.auth, read.auth);
        assert_eq!(
            differences(&running, &merged),
            ["auth.tokens", "log.level", "server.body_bytes_max"]
        );
        assert_eq!(
            differences(&merged, &read),
            [
                "log.format",
                "server.connections_max",
                "server.listen",
                "server.tls.cert_file",
                "server.tls.key_file",
                "wal.bytes_max"
            ]
        );
    }

    #[test]
    fn a_secret_that_changed_is_a_change_without_a_value() {
        let token = |text| config(&format!("[[auth.tokens]]\nname = \"a\"\ntoken = \"{text}\""));
        assert_eq!(differences(&token("one"), &token("two")), ["auth"]);
        assert!(differences(&token("one"), &token("one")).is_empty());
    }

    #[test]
    fn a_renewed_certificate_is_taken_where_there_was_one() {
        let tls = |cert| {
            config(&format!(
                "[server.tls]\ncert_file = \"{cert}\"\nkey_file = \"k\"\nlook_interval = \"1s\""
            ))
        };
        let merged = merged(&tls("one"), &tls("two"));
        assert_eq!(merged.server.tls, tls("two").server.tls);
        assert_eq!(merged.server.tls.look_interval, Span::secs(1));
        assert_eq!(differences(&tls("one"), &merged), ["server.tls.cert_file"]);
    }
}
