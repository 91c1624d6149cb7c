//! Where `rejects ls` and `show` look: the sink itself, or a running server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::show::plain;
use super::{Remote, log};
use crate::api::rejects::executed::{self, Kept, Reach};
use crate::api::rejects::{PATH, RESUBMIT, query};
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::cli::client::{Address, Client, Reply, Secret};
use crate::cli::{Failure, SettingsArgs};
use crate::object::Store;
use crate::reject::Archive;
use crate::reject::archive::{self, Rejected};
use crate::reject::entry::Id;
use crate::reject::select::{LIMIT_MAX, Query};

/// Where rejections are looked up.
pub(super) enum Source {
    Sink(Box<Sink>),
    Server(Box<Server>),
}

/// The sink itself, and where the log is whose it is.
pub(super) struct Sink {
    archive: Archive,
    wal: PathBuf,
    keep_for: Span,
}

/// What is known of the frame that was asked for.
#[derive(Debug, Deserialize)]
pub(super) struct Frame {
    state: String,
    message: String,
}

impl Frame {
    /// Whether an end of the list is the end of what there is.
    pub(super) fn is_executed(&self) -> bool {
        self.state == Reach::Executed.name()
    }

    /// What that means, for people.
    pub(super) fn told(&self) -> String {
        plain(&self.message)
    }
}

/// One rejection, and the frame that it is under way in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    #[serde(flatten)]
    pub(super) rejected: Rejected,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) under_way: Option<Lsn>,
}

/// Some rejections, and where to go on.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) rejections: Vec<Rejected>,
    pub(super) next: Option<String>,
    /// Texts of no known table, where one of a table was asked for.
    #[serde(default)]
    pub(super) untold: u64,
    #[serde(default)]
    pub(super) unreadable: Vec<String>,
    /// Those that are in frames which are not executed; only a server knows them.
    #[serde(default)]
    pub(super) under_way: BTreeMap<Id, Lsn>,
    /// Where a frame was asked for.
    #[serde(default)]
    pub(super) frame: Option<Frame>,
}

impl Source {
    pub(super) fn open(settings: &SettingsArgs, remote: &Remote) -> Result<Self, Failure> {
        if let Some(url) = &remote.url {
            let address = Address::parse("--url", url, &remote.access.trust)?;
            return Ok(Self::Server(Box::new(Server::new(address, remote)?)));
        }
        let config = settings.load(Vec::new())?.placed();
        let url = &config.rejects.url;
        // To open a store makes its folder, and a wrong path should be told and not made.
        let folder = url.strip_prefix("file://").unwrap_or(url);
        if !folder.contains("://") && !Path::new(folder).is_dir() {
            return Err(no_sink(folder, &config.wal.dir));
        }
        let store = Store::open(url, &config.object).map_err(Failure::failed)?;
        let archive = Archive::new(Arc::new(store));
        let (wal, keep_for) = (config.wal.dir, config.rejects.keep_for);
        Ok(Self::Sink(Box::new(Sink { archive, wal, keep_for })))
    }

    /// Where it is, for people.
    pub(super) fn place(&self) -> &str {
        match self {
            Self::Sink(sink) => sink.archive.place(),
            Self::Server(server) => &server.url,
        }
    }

    /// The next rejections, `left` at most.
    pub(super) fn page(
        &mut self,
        parts: &[(&'static str, String)],
        left: usize,
        after: Option<String>,
    ) -> Result<Page, Failure> {
        let mut parts = parts.to_vec();
        parts.push(("limit", left.min(LIMIT_MAX).to_string()));
        parts.extend(after.map(|after| ("after", after)));
        match self {
            Self::Server(server) => server.page(&parts),
            Self::Sink(sink) => sink.page(&parts),
        }
    }

    /// One rejection, whatever became of it.
    pub(super) fn find(&mut self, id: Id) -> Result<Option<Found>, Failure> {
        match self {
            Self::Sink(sink) => {
                let found = sink.archive.find(&BTreeSet::from([id]), &|_database| true);
                let found = found.map_err(Failure::failed)?.remove(&id);
                Ok(found.map(|rejected| Found { rejected, under_way: None }))
            }
            Self::Server(server) => server.find(id),
        }
    }
}

impl Sink {
    fn page(&self, parts: &[(&'static str, String)]) -> Result<Page, Failure> {
        let get = |name: &str| {
            parts.iter().find(|(known, _)| *known == name).map(|(_, part)| part.clone())
        };
        let query = query(&get).map_err(|fault| Failure::usage(fault.message))?;
        // Before the list: what is executed in between is listed, or not called executed.
        let reach = query.lsn.and_then(|lsn| Some((lsn, log::reach(&self.wal, lsn)?)));
        let page = self.read(&query)?;
        let frame = match reach {
            None => None,
            Some((lsn, reach)) => Some(self.frame((lsn, reach), page.rejections.is_empty())?),
        };
        Ok(Page {
            rejections: page.rejections,
            next: page.next.map(|next| next.to_string()),
            untold: page.untold,
            unreadable: page.unreadable,
            under_way: BTreeMap::new(),
            frame,
        })
    }

    fn frame(&self, (lsn, reach): (Lsn, Reach), is_empty: bool) -> Result<Frame, Failure> {
        let all = || Query { lsn: Some(lsn), limit: 1, ..Query::all() };
        let kept = if !is_empty {
            Kept::Shown
        } else if self.read(&all())?.rejections.is_empty() {
            Kept::Nothing
        } else {
            Kept::PassedOver
        };
        let message = executed::told(lsn, reach, (kept, self.keep_for));
        // What is listed of a frame is executed, whatever the log's files say.
        let state = if kept == Kept::Nothing { reach } else { Reach::Executed };
        Ok(Frame { state: state.name().to_owned(), message })
    }

    fn read(&self, query: &Query) -> Result<archive::Page, Failure> {
        self.archive.page(query, &|_database| true).map_err(Failure::failed)
    }
}

/// That there is no folder where the sink should be.
fn no_sink(folder: &str, wal: &Path) -> Failure {
    // A server makes it when it starts.
    if wal.is_dir() {
        return Failure::failed(format!(
            "the reject sink {folder} cannot be read: its folder is gone: put it back, or mount it again"
        ));
    }
    Failure::failed(format!(
        "there is no reject sink at {folder}: --data or --config name another, --url a server"
    ))
}

/// A running server.
pub(super) struct Server {
    url: String,
    address: Address,
    client: Client,
    /// The header that says who asks, or nothing.
    token: String,
}

impl Server {
    pub(super) fn new(address: Address, remote: &Remote) -> Result<Self, Failure> {
        let Secret(token) = remote.access.header()?;
        let client = Client::new(address.clone());
        Ok(Self { url: address.url(), address, client, token })
    }

    fn page(&mut self, parts: &[(&'static str, String)]) -> Result<Page, Failure> {
        let query: Vec<String> =
            parts.iter().map(|(name, part)| format!("{name}={}", escaped(part))).collect();
        let reply = self.get(&format!("{PATH}?{}", query.join("&")))?;
        serde_json::from_slice(&self.well(reply)?.body).map_err(Failure::failed)
    }

    fn find(&mut self, id: Id) -> Result<Option<Found>, Failure> {
        let reply = self.get(&format!("{PATH}/{id}"))?;
        if reply.status == 404 {
            return Ok(None);
        }
        serde_json::from_slice(&self.well(reply)?.body).map(Some).map_err(Failure::failed)
    }

    fn get(&mut self, target: &str) -> Result<Reply, Failure> {
        let (address, token) = (&self.address, &self.token);
        let request = format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n{token}\r\n");
        self.exchange(&request)
    }

    /// Sends rejections again.
    pub(super) fn resubmit(&mut self, request: &Map<String, Value>) -> Result<Value, Failure> {
        let body = Value::from(request.clone()).to_string();
        let (address, token, length) = (&self.address, &self.token, body.len());
        let request = format!(
            "POST {RESUBMIT} HTTP/1.1\r\nHost: {address}\r\n{token}\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let reply = self.exchange(&request)?;
        serde_json::from_slice(&self.well(reply)?.body).map_err(Failure::failed)
    }

    fn exchange(&mut self, request: &str) -> Result<Reply, Failure> {
        let url = &self.url;
        let told = |error| Failure::failed(format!("{url} does not answer: {error}"));
        self.client.exchange(request.as_bytes()).map_err(told)
    }

    /// A reply that is 200.
    fn well(&self, reply: Reply) -> Result<Reply, Failure> {
        if reply.status == 200 {
            return Ok(reply);
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let error = answer["error"].as_str().unwrap_or("it is no Tidegate, or one without rejects");
        let told = format!("{} answers {}: {error}", self.url, reply.status);
        Err(if reply.status == 400 { Failure::usage(told) } else { Failure::failed(told) })
    }
}

/// A text as a value of a query string.
fn escaped(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a string takes everything");
        }
        escaped
    })
}
