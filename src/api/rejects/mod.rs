//! `/api/v1/rejects`: what was refused, found, shown, and sent again once it is mended.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/rejects?reason=&db=&table=&kind=&from=&to=&lsn=&state=&all=&order=&limit=&after=` | `{"rejections":[..],"next":".."}`: the newest open ones, unless asked otherwise; `next` is given back as `after`; `untold` counts texts that `table` passed over because nobody can tell theirs; `frame` says of `lsn` whether that is executed, and what an empty list means; `under_way` which of the list are in frames that are not executed |
//! | `GET /api/v1/rejects/ID` | one, with what its reason means and what to do about it |
//! | `POST /api/v1/rejects/resubmit` | [`resubmit`] |
//!
//! A caller sees the databases that it may read, and sends again into those that it may write too.

pub mod resubmit;
pub mod executed;
pub mod shell;
pub mod told;
mod asked;
mod choose;
mod correction;
mod foresee;
mod frame;
mod load;
mod members;
mod outcome;
mod patience;
mod mend;
mod text;
mod unmade;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::choose::Sending;
use super::App;
use super::call::{Call, Caller, Scope};
use super::fault::{Fault, Kind};
use super::reply::Reply;
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::object::ObjectError;
use crate::reject::Archive;
use crate::reject::archive::{Page, Rejected};
use crate::reject::entry::Id;
use crate::reject::mark::{Ended, Resubmitted};
use crate::reject::select::{Query, State};

pub use self::asked::query;

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
    /// How long the sink keeps a day; zero for ever.
    keep_for: Span,
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
        Self { archive, readers, looks, sending: Sending::default(), keep_for: Span::secs(0) }
    }

    /// The same of a sink that keeps each day so long.
    #[must_use]
    pub fn keeping(self, keep_for: Span) -> Self {
        Self { keep_for, ..self }
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

    /// The frames that the open ones of these are in which the engine has not executed.
    fn under_way(&self, rejections: &[Rejected]) -> BTreeMap<Id, Lsn> {
        let open = rejections.iter().filter(|one| one.state == State::Open);
        let ids = open.map(|one| one.entry.id);
        ids.filter_map(|id| Some((id, self.sending.frame_of(id)?))).collect()
    }

    /// One of those that `caller` may read.
    async fn find(&self, id: Id, caller: &Caller) -> Result<Option<Rejected>, Fault> {
        let scope = caller.read.clone();
        let ids = BTreeSet::from([id]);
        let found = self.ask(move |archive| archive.find(&ids, &|database| scope.covers(database)));
        Ok(found.await?.remove(&id))
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
        asked::of_one(call)?;
        return Ok(Asked::One(id));
    }
    let query = asked::of_list(call)?;
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
            // The first page says it: another one may be empty since that had all.
            let lsn = query.lsn.filter(|_| query.after.is_none());
            let frame = lsn.map(|lsn| (lsn, executed::reach(app, lsn)));
            let page = app.rejects.page(query, caller).await?;
            let is_empty = page.rejections.is_empty();
            let under_way = app.rejects.under_way(&page.rejections);
            let mut body = json!({
                "rejections": page.rejections,
                "next": page.next.map(|next| next.to_string()),
            });
            if page.untold > 0 {
                body["untold"] = page.untold.into();
            }
            if !under_way.is_empty() {
                body["under_way"] = json!(under_way);
            }
            if let Some(frame) = frame {
                body["frame"] = executed::of_frame(app, caller, frame, is_empty).await?;
            }
            // Keys name databases.
            if caller.read == Scope::All && !page.unreadable.is_empty() {
                body["unreadable"] = page.unreadable.into();
            }
            Ok(Reply::json(StatusCode::OK, &body))
        }
        Asked::One(id) => {
            let found = app.rejects.find(id, caller).await?.ok_or_else(|| {
                let message = format!(
                    "no rejection {id}: it is of no report, not reported yet, or of a database that \
                     {:?} may not read",
                    caller.name
                );
                Fault::new(Kind::NotFound, message)
            })?;
            let mut body = explained(&found);
            if let Some(lsn) =
                app.rejects.sending.frame_of(id).filter(|_| found.state == State::Open)
            {
                body["under_way"] = json!(lsn);
            }
            Ok(Reply::json(StatusCode::OK, &body))
        }
    }
}

/// A rejection with what its reason means.
fn explained(one: &Rejected) -> Value {
    let mut body = serde_json::to_value(one).expect("texts and numbers always serialise");
    body["meaning"] = one.entry.reason.meaning().into();
    body["remedy"] = told::remedy(one).into();
    body["suggested"] = one.suggested().into();
    body
}

#[cfg(test)]
mod tests {
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
}
