//! What an operator may choose about the PostgreSQL engine.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::units::Span;

const TIMEOUT_MIN: Span = Span::ms(100);
const TIMEOUT_MAX: Span = Span::secs(24 * 3600);

/// Most rows that one statement may be asked to carry.
pub(super) const STATEMENT_ROWS_MAX: usize = 10_000;

/// Pages with no room left. Source: PostgreSQL documentation, "CREATE TABLE", storage parameters.
pub(super) const FILLFACTOR_FULL: u8 = 100;
const FILLFACTOR_MIN: u8 = 10;

/// Section `engine.postgres`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Name or address of the server, or the folder of its Unix socket where it begins with `/`.
    pub host: String,
    /// Its port, 1 to 65535.
    pub port: u16,
    /// The database, which must be there.
    pub database: String,
    /// Who connects. Must be allowed to make schemas in the database.
    pub user: String,
    /// A file with the password; empty: the environment variable `PGPASSWORD`, or none.
    pub password_file: PathBuf,
    /// Whether the connection is encrypted, and whose server it must be.
    pub sslmode: SslMode,
    /// Certificate authorities, PEM, that the server's certificate must come from; empty: those of the
    /// system.
    pub ca_file: PathBuf,
    /// Longest wait for a connection. 100 ms to 1 d.
    pub connect_timeout: Span,
    /// Longest time that a statement may take. 100 ms to 1 d. Too short: a slow server is asked for the
    /// same in smaller and smaller parts. Long: a hanging connection is noticed late.
    pub statement_timeout: Span,
    /// Longest wait for a lock of another session. 100 ms to 1 d.
    pub lock_timeout: Span,
    /// After how long the server ends a transaction whose gateway is silent, and lets go of its locks.
    /// 100 ms to 1 d. Shorter than a slow reject sink takes: turns are undone and done again.
    pub idle_timeout: Span,
    /// Most rows a statement, 1 to 10000. Few: more statements. Many: more memory for each. Only COPY
    /// carries more than 1,000.
    pub statement_rows: usize,
    /// How full, in percent, the server makes the pages of tables that are made from now on, 10 to 100.
    /// Below 100 there is room left for rows that are written again: at 50 such a row costs the server a
    /// third less, and a table takes twice the space.
    pub fillfactor: u8,
}

/// How the connection to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Not at all: password and data are readable on the way.
    #[default]
    Disable,
    /// Encrypted, or no connection. Without `ca_file` the server may be anybody, so this keeps out
    /// listeners but nobody who answers in its place; with it, the certificate must come from there.
    Require,
    /// Encrypted, the certificate comes from `ca_file` or the system's authorities, and names `host`.
    VerifyFull,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            database: "tidegate".to_owned(),
            user: "tidegate".to_owned(),
            password_file: PathBuf::new(),
            sslmode: SslMode::Disable,
            ca_file: PathBuf::new(),
            connect_timeout: Span::secs(5),
            statement_timeout: Span::secs(30),
            lock_timeout: Span::secs(5),
            idle_timeout: Span::secs(60),
            statement_rows: 5_000,
            fillfactor: FILLFACTOR_FULL,
        }
    }
}

impl Options {
    /// Every setting that cannot work, as `key: what is wrong`.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, text) in
            [("host", &self.host), ("database", &self.database), ("user", &self.user)]
        {
            if text.is_empty() || text.contains('\0') {
                problems.push(format!("{key}: {text:?} names nothing"));
            }
        }
        for (key, span) in [
            ("connect_timeout", self.connect_timeout),
            ("statement_timeout", self.statement_timeout),
            ("lock_timeout", self.lock_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&span) {
                problems.push(format!("{key}: {span} is not in {TIMEOUT_MIN} to {TIMEOUT_MAX}"));
            }
        }
        if self.port == 0 {
            problems.push("port: 0 is not in 1 to 65535".to_owned());
        }
        if !(1..=STATEMENT_ROWS_MAX).contains(&self.statement_rows) {
            let found = self.statement_rows;
            problems.push(format!("statement_rows: {found} is not in 1 to {STATEMENT_ROWS_MAX}"));
        }
        if !(FILLFACTOR_MIN..=FILLFACTOR_FULL).contains(&self.fillfactor) {
            let found = self.fillfactor;
            problems.push(format!(
                "fillfactor: {found} is not in {FILLFACTOR_MIN} to {FILLFACTOR_FULL}"
            ));
        }
        if !self.ca_file.as_os_str().is_empty() && self.sslmode == SslMode::Disable {
            problems.push("ca_file: sslmode is \"disable\", so nobody looks at it".to_owned());
        }
        problems
    }

    /// Where the server is, for people.
    pub fn address(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }

    /// How long a call waits for its answer before the connection is taken for lost: the server ends a
    /// statement itself a little earlier.
    pub(super) fn answer_timeout(&self) -> Duration {
        const MARGIN: Duration = Duration::from_secs(2);
        self.statement_timeout.0 + MARGIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_what_is_not_is_named() {
        assert_eq!(Options::default().problems(), Vec::<String>::new());
        let wrong = Options {
            host: String::new(),
            lock_timeout: Span::ms(1),
            statement_rows: 0,
            fillfactor: 101,
            ca_file: PathBuf::from("ca.pem"),
            ..Options::default()
        };
        let problems = wrong.problems();
        for (problem, key) in
            problems.iter().zip(["host", "lock_timeout", "statement_rows", "fillfactor", "ca_file"])
        {
            assert!(problem.starts_with(key), "{problem}");
        }
        assert_eq!(problems.len(), 5);
    }
}
