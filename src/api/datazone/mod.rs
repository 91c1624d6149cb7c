//! `DataZone`'s time series data points: Post, List, Get and Delete, as the unmodified SDKs of Amazon
//! speak them.
//!
//! | request | does | answer |
//! |---|---|---|
//! | `POST /v2/domains/D/entities/T/E/time-series-data-points` | takes points of one or more forms | 201 |
//! | `GET` the same `?formName=` | the points of a form, the newest first, in pages | 200 |
//! | `GET` the same `/ID?formName=` | one point | 200 |
//! | `DELETE` the same `?formName=` | removes every point of the form | 204 |
//!
//! | file | what it holds |
//! |---|---|
//! | [`path`] [`input`] | what is asked, held against the model's constraints |
//! | [`point`] | a point as a record, and its id and time |
//! | [`store`](mod@store) | the gateway's own database; which entities are known |
//! | [`write`](mod@write) | Post and Delete |
//! | [`quota`] | room for points, of which Posts at the same time have their own each |
//! | [`tokens`] | client tokens, and what they were first used for |
//! | [`read`](mod@read) | List and Get |
//! | [`exception`] | errors |
//!
//! # Where points live
//!
//! In the database [`crate::ingest::SYSTEM_DATABASE`], which is the gateway's own: other APIs can read and
//! export it, with a scope that covers it, and cannot write, change or drop it. A point takes the road of
//! every record: through the log, into the engine, into Parquet.
//!
//! | table | dimensions | attributes | time |
//! |---|---|---|---|
//! | `points` | `domain` `entity` `entity_type` `form` `id` | `type` `revision` `content` | the point's |
//! | `entities` | `domain` `entity` `entity_type` | `known` | 1970 |
//! | `tokens` | `token` | `digest` `seed` | when it was used |
//!
//! **Two points of one form and one time are two points**, so the id is a part of the key. It is a
//! dimension and not the measure name: names of measures are told in every payload and stand in a list of
//! their own in each store, while a dimension's value costs its bytes. Each point is a series of its
//! own, some 250 bytes beside the content while it is in memory; in a file, where series stand sorted by
//! their dimensions, the points of a form stand one behind the other, and `id`, the last dimension by
//! name, begins with the time. So a form's points are found as one run of rows
//! ([`crate::engine::TableEngine::newest`]), and Get knows from the id when to look.
//!
//! # What is promised
//!
//! - A Post or Delete is answered when it is durable and executed: whoever is told of it sees it.
//! - List is newest first, points of one time by id. A page goes on behind the last point of the page
//!   before, and not at a count: what is posted or deleted meanwhile moves nothing twice and skips
//!   nothing that was there.
//! - **Delete** is an erasure ([`crate::engine::catalog::erasure`]). Points have the number of the next
//!   erasure as their version, read while no Delete of the entity is under way; a Delete means all up to
//!   its own number. So a Post that was answered before never comes back, in whatever order a crash
//!   brings frames, and one that came afterwards stays. It is hidden everywhere when it is answered, and
//!   out of the files one pass after their next flush.
//! - **A client token** makes a repetition hear the first answer, for 24 h and across crashes: a record
//!   with its digest and the seed of the ids stands in the frame of the points; that of a Delete is a
//!   note of the erasure. The same token with other parameters is `ConflictException`, and with a Delete
//!   `ValidationException`, since the model has no conflict there. Tokens are told apart by entity.
//!
//! # What the model leaves open
//!
//! - `contentSummary` is the first [`SUMMARY_CHARS_MAX`] characters of the content.
//! - Without a `typeRevision` a point gets [`TYPE_REVISION_DEFAULT`]: there are no form types here.
//! - Timestamps are rounded to microseconds, as SDKs send them, and answered as numbers of seconds,
//!   whole ones without a point. `startedAt` and `endedAt` are included.
//! - An entity is known once something was posted to it, also when that was deleted since; with the
//!   setting `datazone.entities` those are known that it lists. Any other is `ResourceNotFoundException`.
//!   A form without points is an empty list.
//! - A Post has at most [`input::FORMS_MAX`] forms.
//! - A point that is older than `datazone.retention_days` when it is posted is refused. One that was younger
//!   then is kept at least as long, and gone some hours later: the days are counted behind those hours.
//! - What cannot be taken now is `ThrottlingException`, which every SDK repeats. Without credentials the
//!   answer is `UnauthorizedException`; what is wrong with a signature has the names that all of
//!   Amazon's services use, and 403.
//!
//! Source: Amazon `DataZone` API (service model 2018-05-10), and what boto3 was seen to send and read.

pub mod path;
pub mod input;
pub mod point;
pub mod store;
pub mod quota;
pub mod tokens;
pub mod write;
pub mod read;
pub mod exception;
mod options;

use std::sync::Arc;

use hyper::Method;
use tokio::sync::{Mutex, OnceCell, RwLock, Semaphore};
use tracing::error;

use super::call::{Body, Caller};
use super::fault::{Fault, Kind};
use super::params::Params;
use super::reply::Reply;
use super::timestream::exception::{Code, Exception};
use super::{App, Readiness};
use crate::ingest::SYSTEM_DATABASE;

pub use options::Options;
use path::Shape;
use point::Ids;
use quota::Quota;
use store::Known;
use tokens::Tokens;

/// The service that clients sign for.
pub const SERVICE: &str = "datazone";

/// Most characters of a content's summary. Source: `DataZone` API, `TimeSeriesDataPointSummaryFormOutput`.
pub const SUMMARY_CHARS_MAX: usize = 20_000;

/// The revision of a point that was posted without one.
pub const TYPE_REVISION_DEFAULT: &str = "1";

/// Most lists and gets that read at once, each with a page of contents at most; the next one waits.
const READS_MAX: usize = 8;

/// Locks among which entities and tokens are spread.
const STRIPES: usize = 64;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Takes points.
    Post,
    /// Shows points of a form.
    List,
    /// Shows one point.
    Get,
    /// Removes the points of a form.
    Delete,
}

impl Operation {
    /// What `method` does at a path of this shape.
    pub fn of(method: &Method, shape: Shape) -> Option<Self> {
        match (shape, method.as_str()) {
            (Shape::Points, "POST") => Some(Self::Post),
            (Shape::Points, "GET") => Some(Self::List),
            (Shape::Points, "DELETE") => Some(Self::Delete),
            (Shape::Point, "GET") => Some(Self::Get),
            _ => None,
        }
    }

    /// Its name, in messages and in the actions of a policy.
    const fn name(self) -> &'static str {
        match self {
            Self::Post => "PostTimeSeriesDataPoints",
            Self::List => "ListTimeSeriesDataPoints",
            Self::Get => "GetTimeSeriesDataPoint",
            Self::Delete => "DeleteTimeSeriesDataPoints",
        }
    }
}

/// A request whose sender is known.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: String,
    params: Query,
    caller: Arc<Caller>,
    body: Body,
}

/// The query string, which does not print.
struct Query(Params);

impl std::fmt::Debug for Query {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Query")
    }
}

impl Request {
    /// A request with this head and body.
    pub fn new(
        method: &Method,
        path: &str,
        params: Params,
        caller: Arc<Caller>,
        body: Body,
    ) -> Self {
        Self { method: method.clone(), path: path.to_owned(), params: Query(params), caller, body }
    }
}

/// What the API remembers beside the engine, shared by all requests.
#[derive(Debug)]
pub struct DataZone {
    options: Options,
    ids: Ids,
    known: Known,
    quota: Quota,
    /// Made by the first request that needs them, since the log is replayed by then.
    tokens: OnceCell<std::sync::Mutex<Tokens>>,
    /// Held by a request with a token, so that its repetition waits for its answer. Locked before
    /// `entities`.
    in_use: [Mutex<()>; STRIPES],
    /// Shared by Posts from reading their version until they are executed, held alone by a Delete.
    entities: [RwLock<()>; STRIPES],
    reads: Semaphore,
}

impl DataZone {
    /// An API that remembers nothing yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            ids: Ids::default(),
            known: Known::default(),
            quota: Quota::default(),
            tokens: OnceCell::new(),
            in_use: std::array::from_fn(|_| Mutex::new(())),
            entities: std::array::from_fn(|_| RwLock::new(())),
            reads: Semaphore::new(READS_MAX),
        }
    }
}

/// Answers a request.
pub async fn answer(app: &Arc<App>, request: Request) -> Reply {
    let result = run(app, request).await;
    result.unwrap_or_else(|exception| {
        if exception.code == Code::InternalServer {
            error!(fault = exception.message, "request failed");
        }
        exception::reply(&exception)
    })
}

async fn run(app: &Arc<App>, request: Request) -> Result<Reply, Exception> {
    let operation =
        Shape::of(&request.path).and_then(|shape| Operation::of(&request.method, shape));
    let operation = operation.ok_or_else(|| {
        Exception::new(Code::UnknownOperation, "no operation of this API has this path and method")
    })?;
    if !app.engine.erases() {
        let message = "this API keeps its points in the embedded engine, and the setting engine.kind \
                       of this gateway names another: send them to a gateway of their own with \
                       engine.kind = \"embedded\"";
        return Err(Exception::new(Code::AccessDenied, message));
    }
    check_access(&request.caller, operation)?;
    if let Readiness::NotReady { why } = app.status.readiness() {
        let kind = Kind::Busy { retry_after: std::time::Duration::from_secs(1) };
        return Err((&Fault::new(kind, format!("not ready yet: {why}"))).into());
    }
    let (entity, id) = path::parse(&request.path)?;
    let params = &request.params.0;
    match operation {
        Operation::List => read::list(app, input::List::read(entity, params)?).await,
        Operation::Get => read::get(app, input::Get::read(entity, id, params)?).await,
        Operation::Delete => {
            let delete = input::Delete::read(entity, params)?;
            detached(write::delete(Arc::clone(app), delete)).await
        }
        Operation::Post => {
            let post = input::Post::read(entity, &request.body.bytes)?;
            detached(write::post(Arc::clone(app), post, request.body)).await
        }
    }
}

/// Runs a change in a task of its own: it goes on when the connection breaks, so that a repetition
/// with its token finds it.
async fn detached(
    change: impl Future<Output = Result<Reply, Exception>> + Send + 'static,
) -> Result<Reply, Exception> {
    tokio::spawn(change).await.unwrap_or_else(|ended| {
        Err(Exception::new(Code::InternalServer, format!("the change ended early: {ended}")))
    })
}

fn check_access(caller: &Caller, operation: Operation) -> Result<(), Exception> {
    let scope = match operation {
        Operation::Post | Operation::Delete => &caller.write,
        Operation::List | Operation::Get => &caller.read,
    };
    if scope.covers(SYSTEM_DATABASE) {
        return Ok(());
    }
    let message = format!(
        "User: {} is not authorized to perform: {SERVICE}:{}",
        caller.name,
        operation.name()
    );
    Err(Exception::new(Code::AccessDenied, message))
}

/// Runs `work`, which waits for a disk, off the threads that answer.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Exception> + Send + 'static,
) -> Result<T, Exception> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panicked| {
        Err(Exception::new(Code::InternalServer, format!("the operation ended early: {panicked}")))
    })
}

/// The stripe of an entity or token.
const fn stripe(key: u128) -> usize {
    (key % STRIPES as u128) as usize
}
