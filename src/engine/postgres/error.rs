//! What a server's refusal means: shall the same be tried again, is a row to blame, or is the gateway's
//! picture of the tables out of date.

use std::time::Duration;

use crate::record::Reason;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SqlError {
    /// The connection is gone, and with it all that was not committed. Whether a COMMIT under way was
    /// executed is unknown.
    #[error("the connection is lost: {what}")]
    Lost { what: String },
    /// The server refuses a statement.
    #[error("the server says {code}: {message}")]
    Server { code: String, message: String },
    /// The settings cannot be used.
    #[error("{what}")]
    Unusable { what: String },
}

/// What is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cure {
    /// The turn again, in a new session.
    Reconnect,
    /// The turn again: it stood in another's way.
    Again,
    /// The turn again, in smaller statements: it took too long.
    Smaller,
    /// The turn again, once it is known anew which tables and columns there are.
    Reload,
    /// The turn again, locking the rows of one series at a time.
    BySeries,
    /// A row of the statement is to blame.
    Row(Reason),
}

impl SqlError {
    pub(super) fn lost(error: impl std::error::Error) -> Self {
        Self::Lost { what: chain(&error) }
    }

    pub(super) fn silent(limit: Duration) -> Self {
        Self::Lost { what: format!("no answer in {limit:?}") }
    }

    /// Classes of codes. Source: PostgreSQL documentation, appendix A.
    pub(super) fn cure(&self) -> Cure {
        let Self::Server { code, message } = self else { return Cure::Reconnect };
        match (&code[..2.min(code.len())], code.as_str()) {
            // "Statement completion unknown".
            (_, "40003") => Cure::Reconnect,
            // A lock that is not to be had, a deadlock, a failed serialization.
            ("40", _) | (_, "55P03") => Cure::Again,
            (_, "57014") => Cure::Smaller,
            // Citus, of a lock that more than one of its shards would have to give.
            (_, "0A000") if message.contains("FOR UPDATE") => Cure::BySeries,
            // No such table, column, schema; a cached plan or a type that does not fit any more.
            ("3F", _) | (_, "42P01" | "42703" | "42P10" | "42804" | "42809" | "0A000") => {
                Cure::Reload
            }
            ("22" | "23", _) => Cure::Row(Reason::InvalidValue),
            ("54", _) => Cure::Row(Reason::TableLimit),
            _ => Cure::Reconnect,
        }
    }

    /// Whether somebody else has made the same object at the same time.
    pub(super) fn is_made_already(&self) -> bool {
        let made = ["23505", "42P06", "42P07", "42701", "42710"];
        matches!(self, Self::Server { code, .. } if made.contains(&code.as_str()))
    }

    /// Whether a row stands already.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == "23505")
    }

    /// Whether the server cannot do this at all.
    pub(super) fn is_unsupported(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == "0A000")
    }

    /// Whether a table has no room for a column more.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Server { code, .. } if code == "54011")
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(said) => Self::Server {
                code: said.code().code().to_owned(),
                message: match said.detail() {
                    // A detail may quote a row: it is for whoever sent that, in the reject sink.
                    Some(detail) => format!("{} ({detail})", said.message()),
                    None => said.message().to_owned(),
                },
            },
            None => Self::lost(error),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_to_do() {
        let cure =
            |code: &str| SqlError::Server { code: code.to_owned(), message: String::new() }.cure();
        for (code, expected) in [
            ("40P01", Cure::Again),
            ("40001", Cure::Again),
            ("40003", Cure::Reconnect),
            ("55P03", Cure::Again),
            ("57014", Cure::Smaller),
            ("42P01", Cure::Reload),
            ("22021", Cure::Row(Reason::InvalidValue)),
            ("23514", Cure::Row(Reason::InvalidValue)),
            ("54000", Cure::Row(Reason::TableLimit)),
            ("57P01", Cure::Reconnect),
            ("53100", Cure::Reconnect),
            ("42501", Cure::Reconnect),
            ("", Cure::Reconnect),
        ] {
            assert_eq!(cure(code), expected, "{code}");
        }
        assert_eq!(SqlError::silent(Duration::ZERO).cure(), Cure::Reconnect);
        let unsupported = |message: &str| {
            SqlError::Server { code: "0A000".to_owned(), message: message.to_owned() }.cure()
        };
        let locks = "could not run distributed query with FOR UPDATE/SHARE commands";
        assert_eq!(unsupported(locks), Cure::BySeries);
        assert_eq!(unsupported("cached plan must not change result type"), Cure::Reload);
    }
}
