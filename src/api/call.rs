//! What an endpoint is given: the request's head, who sent it, and later its body.

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;

use super::params::Params;
use crate::ingest::Admission;

/// A request's head, after authentication. It holds credentials, so it does not print.
pub struct Call<'h> {
    /// The query string.
    pub params: Params,
    /// The headers.
    pub headers: &'h HeaderMap,
    /// Who sent it.
    pub caller: Arc<Caller>,
}

impl Call<'_> {
    /// A header's text; `None` when it is missing or not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A request's body, inflated, and the memory reserved for it.
#[derive(Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Bytes,
    /// Gives the memory back when dropped.
    pub admission: Admission,
}

/// Who sent a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name of the token or user, for replies and logs.
    pub name: String,
    /// The databases they may read.
    pub read: Scope,
    /// The databases they may write.
    pub write: Scope,
}

impl Caller {
    /// Whoever sends a request where nobody has to say who they are; may do everything.
    pub fn anonymous() -> Self {
        Self { name: "anonymous".into(), read: Scope::All, write: Scope::All }
    }

    /// Whoever has not proved yet who they are; may do nothing.
    pub fn nobody() -> Self {
        let nothing = || Scope::Named(Vec::new());
        Self { name: "nobody".into(), read: nothing(), write: nothing() }
    }
}

/// A set of databases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// These, and the retention policies under them: `db` covers `db/rp`.
    Named(Vec<String>),
}

impl Scope {
    /// Whether `database` is in it.
    pub fn covers(&self, database: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|name| {
                database
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_covers_its_databases_and_their_retention_policies_only() {
        let scope = Scope::Named(vec!["fleet".into()]);
        assert!(scope.covers("fleet") && scope.covers("fleet/weekly"));
        assert!(!scope.covers("fleet2") && !scope.covers("flee") && !scope.covers(""));
        assert!(Scope::All.covers("anything"));
        assert!(!Scope::Named(Vec::new()).covers("fleet"));
    }
}
