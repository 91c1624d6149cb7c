//! `/api/v1/rejects`: what was refused, found, shown, and sent again once it is mended.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/rejects?reason=&db=&table=&kind=&from=&to=&lsn=&state=&order=&limit=&after=` | `{"rejections":[..],"next":".."}`: the newest open ones, unless asked otherwise; `next` is given back as `after`; `untold` counts texts that `table` passed over because nobody can tell theirs |
//! | `GET /api/v1/rejects/ID` | one, with what its reason means and what to do about it |
//! | `POST /api/v1/rejects/resubmit` | [`resubmit`] |
//!
//! A caller sees the databases that it may read, and sends again into those that it may write too.

pub mod resubmit;
mod choose;
mod correction;
mod foresee;
mod outcome;
mod mend;
mod text;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::choose::Sending;
use super::App;
use super::call::{Call, Caller, Scope};
use super::export::time_ns;
use super::fault::{Fault, Kind};
use super::reply::Reply;
use crate::base::lsn::Lsn;
use crate::object::ObjectError;
use crate::record::Reason;
use crate::reject::Archive;
use crate::reject::archive::{Page, Rejected};
use crate::reject::entry::Id;
use crate::reject::mark::{Ended, Resubmitted};
use crate::reject::select::{self, LIMIT_MAX, Order, Query, State};

/// The path of the list.
pub const PATH: &str = "/api/v1/rejects";

/// The path that sends again.
pub const RESUBMIT: &str = "/api/v1/rejects/resubmit";

/// Most requests that read the sink at once: each holds a thread and a page.
pub const READERS_MAX: usize = 4;

/// Most that ask the engine at once what stands: each holds a thread, and may hold a session with a database.
const LOOKS_MAX: usize = 2;

/// When to come back while the sink is away or others read it.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The sink, for the endpoints.
#[derive(Debug, Clone)]
pub struct Desk {
    archive: Archive,
    readers: Arc<Semaphore>,
    looks: Arc<Semaphore>,
    sending: Sending,
}

/// What a `GET` asks.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A page.
    Page(Query),
    /// One rejection.
    One(Id),
}

impl Desk {
    /// Of the sink that `archive` reads.
    pub fn new(archive: Archive) -> Self {
        let [readers, looks] = [READERS_MAX, LOOKS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { archive, readers, looks, sending: Sending::default() }
    }

    /// Runs `read` on a thread that may wait for the sink.
    async fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Archive) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, Fault> {
        let permit = Arc::clone(&self.readers).try_acquire_owned().map_err(|_none_left| {
            let kind = Kind::Busy { retry_after: RETRY_AFTER };
            Fault::new(kind, "too many requests look into the reject sink; try again later")
        })?;
        let archive = self.archive.clone();
        let ours = move || archive.check_owner().and_then(|()| read(&archive));
        apart(permit, ours).await?.map_err(|error| away(&error))
    }

    /// Marks what was sent, whoever reads meanwhile: it is done already, so it is not turned away but waits.
    async fn mark(&self, resubmitted: Resubmitted, ended: Ended) -> Result<(), Fault> {
        let permit = free(&self.readers).await;
        let archive = self.archive.clone();
        let mark = move || archive.mark(&resubmitted, &ended);
        apart(permit, mark).await?.map_err(|error| away(&error))
    }

    /// Runs `look`, which asks the engine, when not too many others do.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Fault> {
        apart(free(&self.looks).await, look).await
    }

    /// A page of what `caller` may read.
    async fn page(&self, query: Query, caller: &Caller) -> Result<Page, Fault> {
        let scope = caller.read.clone();
        self.ask(move |archive| archive.page(&query, &|database| scope.covers(database))).await
    }

    async fn find(
        &self,
        ids: BTreeSet<Id>,
        caller: &Caller,
    ) -> Result<std::collections::BTreeMap<Id, Rejected>, Fault> {
        let scope = caller.read.clone();
        self.ask(move |archive| archive.find(&ids, &|database| scope.covers(database))).await
    }
}

/// A permit, once there is one.
async fn free(permits: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(permits).acquire_owned().await.expect("nobody closes it")
}

/// Runs `work` on a thread that may wait. The permit is given back when it has ended, also where nobody waits
/// for it any more.
async fn apart<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let task = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    });
    let early = |ended| Fault::new(Kind::Internal, format!("the look ended early: {ended}"));
    task.await.map_err(early)
}

fn away(error: &ObjectError) -> Fault {
    let kind = Kind::Busy { retry_after: RETRY_AFTER };
    Fault::new(kind, format!("the reject sink cannot be read: {}", error.plain()))
}

/// The number that a path ends in, if it is that of one rejection.
pub fn number_in(path: &str) -> Option<&str> {
    let number = path.strip_prefix(PATH)?.strip_prefix('/')?;
    (!number.is_empty() && !number.contains('/')).then_some(number)
}

/// The path under which the rejections of a frame are found.
pub fn link(lsn: Lsn) -> String {
    format!("{PATH}?lsn={lsn}")
}

/// What a `GET` of `path` asks.
///
/// # Errors
///
/// [`Fault`] 400 for a parameter that is wrong, 403 for a database that the caller may not read, 404 for what
/// is no rejection's number.
pub fn plan(call: &Call<'_>, path: &str) -> Result<Asked, Fault> {
    if let Some(number) = number_in(path) {
        let id = number.parse().map_err(|wrong: crate::reject::entry::NoId| {
            Fault::new(Kind::NotFound, format!("no rejection {number:?}: {wrong}"))
        })?;
        return Ok(Asked::One(id));
    }
    let query = query(&|name| call.params.get(name).map(str::to_owned))?;
    check_may_read(&call.caller, query.database.as_deref())?;
    Ok(Asked::Page(query))
}

fn check_may_read(caller: &Caller, database: Option<&str>) -> Result<(), Fault> {
    match database {
        Some(database) if !caller.read.covers(database) => {
            let message = format!("{:?} may not read database {database:?}", caller.name);
            Err(Fault::new(Kind::Forbidden, message))
        }
        _ => Ok(()),
    }
}

/// Answers a `GET`.
///
/// # Errors
///
/// [`Fault`] 404 where there is no such rejection, 503 while the sink is away.
pub async fn answer(app: &App, caller: &Caller, asked: Asked) -> Result<Reply, Fault> {
    match asked {
        Asked::Page(query) => {
            let page = app.rejects.page(query, caller).await?;
            let mut body = json!({
                "rejections": page.rejections,
                "next": page.next.map(|next| next.to_string()),
            });
            if page.untold > 0 {
                body["untold"] = page.untold.into();
            }
            // Keys name databases.
            if caller.read == Scope::All && !page.unreadable.is_empty() {
                body["unreadable"] = page.unreadable.into();
            }
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Asked::One(id) => {
            let found = app.rejects.find(BTreeSet::from([id]), caller).await?.remove(&id);
            let found = found.ok_or_else(|| {
                let message = format!(
                    "no rejection {id}: it is of no report, not reported yet, or of a database that \
                     {:?} may not read",
                    caller.name
                );
                Fault::new(Kind::NotFound, message)
            })?;
            Ok(Reply::json(StatusCode::OK, &explained(&found)))
        }
    }
}

/// A rejection with what its reason means.
fn explained(one: &Rejected) -> Value {
    let mut body = serde_json::to_value(one).expect("texts and numbers always serialise");
    body["meaning"] = one.entry.reason.meaning().into();
    body["remedy"] = one.entry.reason.remedy().into();
    body["suggested"] = one.suggested().into();
    body
}

/// The names of a query's parts, as parameters and in a body.
const NAMES: [&str; 11] =
    ["reason", "db", "table", "kind", "from", "to", "lsn", "state", "order", "limit", "after"];

/// Reads a query by the names of its parts.
///
/// # Errors
///
/// [`Fault`] 400 for a part that is wrong.
pub fn query(get: &dyn Fn(&str) -> Option<String>) -> Result<Query, Fault> {
    let part = |name: &str| get(name).filter(|text| !text.is_empty());
    let wrong = |name: &str, found: &str, right: &str| {
        Fault::invalid(format!("invalid {name} {found:?} (use {right})"))
    };
    let mut query = Query { database: part("db"), table: part("table"), ..Query::default() };
    if let Some(code) = part("reason") {
        let known = Reason::ALL.iter().find(|reason| reason.code() == code);
        let codes = || Reason::ALL.iter().map(|reason| reason.code()).collect::<Vec<_>>();
        query.reason =
            Some(*known.ok_or_else(|| {
                wrong("reason", &code, &format!("one of {}", codes().join(", ")))
            })?);
    }
    if let Some(name) = part("kind") {
        let kind = select::Kind::from_name(&name);
        query.kind = Some(kind.ok_or_else(|| wrong("kind", &name, "record or line"))?);
    }
    for (name, end) in [("from", &mut query.from_ns), ("to", &mut query.to_ns)] {
        if let Some(text) = part(name) {
            let right = "nanoseconds since 1970, or RFC 3339 as in 2026-01-31T12:00:00Z";
            *end = time_ns(&text).ok_or_else(|| wrong(name, &text, right))?;
        }
    }
    if query.from_ns > query.to_ns {
        return Err(Fault::invalid("from lies after to"));
    }
    if let Some(text) = part("lsn") {
        let lsn = text.parse().ok().map(Lsn).filter(|lsn| *lsn < Lsn::LIMIT);
        query.lsn = Some(lsn.ok_or_else(|| wrong("lsn", &text, "the number of a frame"))?);
    }
    if let Some(text) = part("state") {
        let states = [State::Open, State::Resubmitted, State::Again];
        let known = states.into_iter().find(|state| state.name() == text);
        query.state = match text.as_str() {
            "all" => None,
            _ => Some(
                known.ok_or_else(|| wrong("state", &text, "open, resubmitted, again or all"))?,
            ),
        };
    }
    paged(query, &part)
}

/// The parts of a query that say how it is shown.
fn paged(mut query: Query, part: &dyn Fn(&str) -> Option<String>) -> Result<Query, Fault> {
    query.order = match part("order").as_deref() {
        None | Some("newest") => Order::Newest,
        Some("oldest") => Order::Oldest,
        Some(found) => {
            return Err(Fault::invalid(format!("invalid order {found:?} (use newest or oldest)")));
        }
    };
    if let Some(text) = part("limit") {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        query.limit = limit.ok_or_else(|| {
            Fault::invalid(format!("invalid limit {text:?} (use 1 to {LIMIT_MAX})"))
        })?;
    }
    if let Some(text) = part("after") {
        let cursor = text.parse().map_err(|wrong: select::NoCursor| {
            Fault::invalid(format!("invalid after {text:?}: {wrong}"))
        })?;
        query.after = Some(cursor);
    }
    Ok(query)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::poll_fn;
    use std::path::Path;
    use std::pin::{Pin, pin};
    use std::sync::Mutex;
    use std::sync::mpsc::channel;
    use std::task::Poll;

    use super::*;
    use crate::object::Store;
    use crate::reject::entry::Moment;

    fn desk(dir: &Path) -> Desk {
        Desk::new(Archive::new(Arc::new(Store::in_directory(dir).unwrap())))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(future)
    }

    /// Whether a future waits.
    async fn waits<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
        poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
    }

    #[test]
    fn a_mark_waits_for_those_who_read_and_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let desk = desk(dir.path());
        let (lsn, at, by) = (Lsn(7), Moment(0), "test".to_owned());
        let resubmitted = Resubmitted { lsn, at, by, correction: None };
        let stored = BTreeSet::from([Id { lsn: Lsn(1), place: 0 }]);
        let ended = Ended { stored, refused: BTreeMap::new(), again: false };
        run(async {
            let count = u32::try_from(READERS_MAX).unwrap();
            let readers = Arc::clone(&desk.readers).acquire_many_owned(count).await.unwrap();
            let mut mark = pin!(desk.mark(resubmitted, ended));
            assert!(waits(mark.as_mut()).await);
            assert_eq!(desk.ask(|_archive| Ok(())).await.unwrap_err().status(), 503);
            drop(readers);
            mark.await.unwrap();
        });
        let store = Store::in_directory(dir.path()).unwrap();
        assert_eq!(store.list("resubmitted").unwrap().len(), 1);
    }

    #[test]
    fn no_more_than_a_few_ask_the_engine_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let desk = &desk(dir.path());
        let ((go, gone), (begun, begins)) = (channel::<()>(), channel());
        let gone = Arc::new(Mutex::new(gone));
        let look = move || {
            let (gone, begun) = (Arc::clone(&gone), begun.clone());
            desk.look(move || {
                begun.send(()).unwrap();
                gone.lock().unwrap().recv().unwrap();
            })
        };
        // It owns `go`: where it fails, whoever waits for that ends as well.
        run(async move {
            let mut all: Vec<_> = (0..LOOKS_MAX + 2).map(|_| Box::pin(look())).collect();
            for one in &mut all {
                assert!(waits(one.as_mut()).await);
            }
            for _ in 0..LOOKS_MAX {
                begins.recv().unwrap();
            }
            let more = begins.recv_timeout(Duration::from_millis(100));
            assert!(more.is_err() && desk.looks.available_permits() == 0);
            for _ in &all {
                go.send(()).unwrap();
            }
            for one in all {
                one.await.unwrap();
            }
            assert_eq!(desk.looks.available_permits(), LOOKS_MAX);
        });
    }

    #[test]
    fn a_path_ends_in_a_number_or_is_none_of_ours() {
        assert_eq!(number_in("/api/v1/rejects/42-57"), Some("42-57"));
        for path in
            ["/api/v1/rejects", "/api/v1/rejects/", "/api/v1/rejects/a/b", "/api/v1/rejected"]
        {
            assert_eq!(number_in(path), None, "{path}");
        }
    }

    #[test]
    fn each_part_of_a_query_is_read_and_a_wrong_one_says_what_is_right() {
        let read = |name: &'static str, value: &'static str| {
            query(&move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(read("reason", "version_lower").unwrap().reason, Some(Reason::VersionLower));
        assert_eq!(read("state", "all").unwrap().state, None);
        assert_eq!(read("state", "").unwrap().state, Some(State::Open));
        assert_eq!(read("from", "1970-01-01T00:00:01Z").unwrap().from_ns, 1_000_000_000);
        assert_eq!(read("limit", "1000").unwrap().limit, 1_000);
        assert_eq!(
            read("after", "20261122.42-57").unwrap().after.unwrap().to_string(),
            "20261122.42-57"
        );
        for (name, value, right) in [
            ("reason", "none", "version_conflict"),
            ("kind", "row", "record or line"),
            ("from", "yesterday", "RFC 3339"),
            ("lsn", "-1", "number of a frame"),
            ("state", "shut", "open, resubmitted, again or all"),
            ("order", "up", "newest or oldest"),
            ("limit", "0", "1 to 1000"),
            ("limit", "1001", "1 to 1000"),
            ("after", "42-57", "next"),
        ] {
            let fault = read(name, value).unwrap_err();
            assert_eq!(fault.status(), 400);
            assert!(fault.message.contains(right), "{}", fault.message);
        }
        assert!(NAMES.contains(&"after") && NAMES.len() == 11);
    }
}
