//! The Timestream Write API: `POST /` with `X-Amz-Target: Timestream_20181101.<operation>`, as the
//! unmodified SDKs of Amazon speak it.
//!
//! | operation | does | file |
//! |---|---|---|
//! | `DescribeEndpoints` | where to send all others: here, in the form that the asking SDK can use | [`endpoints`] |
//! | `CreateDatabase` `DescribeDatabase` `ListDatabases` `UpdateDatabase` `DeleteDatabase` | the catalog's databases | [`databases`] |
//! | `CreateTable` `DescribeTable` `ListTables` `UpdateTable` `DeleteTable` | its tables, which are strict | [`tables`] |
//! | `TagResource` `UntagResource` `ListTagsForResource` | their labels | [`tags`] |
//! | `WriteRecords` | records, durable and judged by the engine before the answer | [`write`](mod@write) |
//! | `CreateBatchLoadTask` `DescribeBatchLoadTask` `ListBatchLoadTasks` `ResumeBatchLoadTask` | batch loads | [`batch_load`] |
//!
//! Beside them: [`exception`] (errors), [`arn`] (names of resources), [`page`] (lists in parts),
//! [`input`] (bodies and their constraints), [`settings`] (what a table is made with), [`once`] (calls
//! that SDKs repeat).
//!
//! # What differs from Amazon
//!
//! - Every operation is answered on one address, and nobody is throttled while there is room.
//! - The account is [`arn::ACCOUNT`], the region the one that the client signed for; any account and
//!   region is taken in an ARN.
//! - No `KmsKeyId` is shown for a database that was made without one: nothing is encrypted here.
//! - A message of `WriteRecords` names the record's index, the member and its value; the body of a
//!   `RejectedRecordsException` also has `RecordsIngested`.
//! - A change of a table's settings that names nothing is taken and changes nothing.
//!
//! A change of the catalog is durable before it is answered. It waits for the disk, so it runs on the
//! runtime's threads for blocking work.
//!
//! Source: Timestream API (service model 2018-11-01), and what its clients were seen to send and read.

pub mod exception;
pub mod arn;
pub mod page;
pub mod input;
pub mod endpoints;
pub mod databases;
pub mod tables;
pub mod settings;
pub mod tags;
pub mod write;
pub mod once;
pub mod batch_load;
mod batch_load_input;

use std::sync::Arc;

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::Value;
use tracing::error;

use super::App;
use super::call::{Body, Caller};
use super::fault::Fault;
use super::keyed::key_in;
use super::reply::Reply;
use crate::ingest::is_system;
use exception::{Code, Exception};

/// What `X-Amz-Target` begins with.
const TARGET_PREFIX: &str = "Timestream_20181101.";

/// The service that clients sign for.
pub const SERVICE: &str = "timestream";

/// The header that names the operation.
pub const X_AMZ_TARGET: &str = "x-amz-target";

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Where to send all others.
    DescribeEndpoints,
    /// Makes a database.
    CreateDatabase,
    /// Shows a database.
    DescribeDatabase,
    /// Shows databases.
    ListDatabases,
    /// Gives a database another key.
    UpdateDatabase,
    /// Deletes a database without tables.
    DeleteDatabase,
    /// Makes a table.
    CreateTable,
    /// Shows a table.
    DescribeTable,
    /// Shows tables.
    ListTables,
    /// Changes a table.
    UpdateTable,
    /// Deletes a table.
    DeleteTable,
    /// Adds tags.
    TagResource,
    /// Takes tags away.
    UntagResource,
    /// Shows tags.
    ListTagsForResource,
    /// Takes records.
    WriteRecords,
    /// Makes a batch load.
    CreateBatchLoadTask,
    /// Shows a batch load.
    DescribeBatchLoadTask,
    /// Shows batch loads.
    ListBatchLoadTasks,
    /// Lets a batch load that stopped go on.
    ResumeBatchLoadTask,
}

const OPERATIONS: [(&str, Operation); 19] = [
    ("WriteRecords", Operation::WriteRecords),
    ("DescribeEndpoints", Operation::DescribeEndpoints),
    ("CreateDatabase", Operation::CreateDatabase),
    ("DescribeDatabase", Operation::DescribeDatabase),
    ("ListDatabases", Operation::ListDatabases),
    ("UpdateDatabase", Operation::UpdateDatabase),
    ("DeleteDatabase", Operation::DeleteDatabase),
    ("CreateTable", Operation::CreateTable),
    ("DescribeTable", Operation::DescribeTable),
    ("ListTables", Operation::ListTables),
    ("UpdateTable", Operation::UpdateTable),
    ("DeleteTable", Operation::DeleteTable),
    ("TagResource", Operation::TagResource),
    ("UntagResource", Operation::UntagResource),
    ("ListTagsForResource", Operation::ListTagsForResource),
    ("CreateBatchLoadTask", Operation::CreateBatchLoadTask),
    ("DescribeBatchLoadTask", Operation::DescribeBatchLoadTask),
    ("ListBatchLoadTasks", Operation::ListBatchLoadTasks),
    ("ResumeBatchLoadTask", Operation::ResumeBatchLoadTask),
];

impl Operation {
    /// The operation that a request's head names.
    ///
    /// # Errors
    ///
    /// [`Exception`] 404: it names none, or one that is not of this API.
    pub fn of(headers: &HeaderMap) -> Result<Self, Exception> {
        let target = headers.get(X_AMZ_TARGET).and_then(|target| target.to_str().ok());
        let name = target.unwrap_or_default().strip_prefix(TARGET_PREFIX);
        let known = OPERATIONS.iter().find(|(known, _)| Some(*known) == name);
        known.map(|(_, operation)| *operation).ok_or_else(|| {
            let message = match target {
                None => "POST / takes the Timestream Write API: X-Amz-Target is missing; \
                         GET / names the other paths"
                    .to_owned(),
                Some(target) => format!("{target:?} is not an operation of Timestream_20181101"),
            };
            Exception::new(Code::UnknownOperation, message)
        })
    }

    /// Its name, in messages and in the actions of a policy.
    pub fn name(self) -> &'static str {
        let known = OPERATIONS.iter().find(|(_, operation)| *operation == self);
        known.map_or("", |(name, _)| name)
    }

    /// Whether it changes something, so that a second execution is not answered as the first was.
    pub const fn is_change(self) -> bool {
        match self {
            Self::CreateDatabase
            | Self::UpdateDatabase
            | Self::DeleteDatabase
            | Self::CreateTable
            | Self::UpdateTable
            | Self::DeleteTable
            | Self::TagResource
            | Self::UntagResource
            | Self::WriteRecords
            | Self::CreateBatchLoadTask
            | Self::ResumeBatchLoadTask => true,
            Self::DescribeEndpoints
            | Self::DescribeDatabase
            | Self::ListDatabases
            | Self::DescribeTable
            | Self::ListTables
            | Self::ListTagsForResource
            | Self::DescribeBatchLoadTask
            | Self::ListBatchLoadTasks => false,
        }
    }
}

/// A request whose sender is known.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// Who asks.
    pub caller: Arc<Caller>,
    /// The region that they signed for.
    pub region: String,
    /// How the client speaks to us.
    pub client: endpoints::Client,
    /// The client's own name for a call and its repetitions.
    pub invocation: Option<String>,
    /// The caller's own name for a change and its repetitions, or what is wrong with it.
    pub key: Result<Option<String>, Fault>,
    /// The body.
    pub body: Body,
}

/// The header by which SDKs tell the repetitions of a call from other calls.
const INVOCATION_ID: &str = "amz-sdk-invocation-id";

impl Request {
    /// A request with this head and body.
    pub fn new(operation: Operation, head: &HeaderMap, caller: Arc<Caller>, body: Body) -> Self {
        let text = |name: &str| head.get(name).and_then(|value| value.to_str().ok());
        let region = text("authorization").and_then(arn::region_of);
        Self {
            operation,
            caller,
            region: region.unwrap_or(arn::REGION_DEFAULT).to_owned(),
            client: endpoints::Client::of(head),
            invocation: text(INVOCATION_ID).map(str::to_owned),
            key: key_in(head),
            body,
        }
    }
}

/// What the operations on the catalog are given.
#[derive(Debug)]
pub struct Context<'r> {
    app: &'r App,
    operation: Operation,
    caller: &'r Caller,
    region: &'r str,
}

/// Answers a request.
pub async fn answer(app: &Arc<App>, request: Request) -> Reply {
    once::run(app, request).await.unwrap_or_else(|exception| {
        if exception.code == Code::InternalServer {
            error!(fault = exception.message, "request failed");
        }
        exception.reply()
    })
}

/// Answers a request on the catalog with the body of its reply.
async fn catalog(app: Arc<App>, request: Request) -> Result<Bytes, Exception> {
    let answered = tokio::task::spawn_blocking(move || {
        let context = Context {
            app: &app,
            operation: request.operation,
            caller: &request.caller,
            region: &request.region,
        };
        context.answer(&request)
    });
    let answered = answered.await.unwrap_or_else(|panicked| {
        Err(Exception::new(Code::InternalServer, format!("the operation ended early: {panicked}")))
    });
    answered.map(|body| body.to_string().into())
}

impl Context<'_> {
    fn answer(&self, request: &Request) -> Result<Value, Exception> {
        let body = &request.body.bytes;
        match self.operation {
            Operation::DescribeEndpoints => endpoints::describe(&request.client),
            Operation::CreateDatabase => databases::create(self, body),
            Operation::DescribeDatabase => databases::describe(self, body),
            Operation::ListDatabases => databases::list(self, body),
            Operation::UpdateDatabase => databases::update(self, body),
            Operation::DeleteDatabase => databases::delete(self, body),
            Operation::CreateTable => tables::create(self, body),
            Operation::DescribeTable => tables::describe(self, body),
            Operation::ListTables => tables::list(self, body),
            Operation::UpdateTable => tables::update(self, body),
            Operation::DeleteTable => tables::delete(self, body),
            Operation::TagResource => tags::add(self, body),
            Operation::UntagResource => tags::remove(self, body),
            Operation::ListTagsForResource => tags::list(self, body),
            Operation::CreateBatchLoadTask => batch_load::create(self, body),
            Operation::DescribeBatchLoadTask => batch_load::describe(self, body),
            Operation::ListBatchLoadTasks => batch_load::list(self, body),
            Operation::ResumeBatchLoadTask => batch_load::resume(self, body),
            Operation::WriteRecords => {
                Err(Exception::new(Code::UnknownOperation, "not an operation on the catalog"))
            }
        }
    }

    fn check_may_write(&self, database: &str) -> Result<(), Exception> {
        check_not_system(database)?;
        check_access(self.caller.write.covers(database), self.caller, self.operation, || {
            arn::of_database(self.region, database)
        })
    }

    fn check_may_see(&self, database: &str) -> Result<(), Exception> {
        check_access(self.may_see(database), self.caller, self.operation, || {
            arn::of_database(self.region, database)
        })
    }

    fn may_see(&self, database: &str) -> bool {
        self.caller.read.covers(database) || self.caller.write.covers(database)
    }

    fn now_ns(&self) -> i64 {
        self.app.clock.wall_ns()
    }
}

fn check_not_system(database: &str) -> Result<(), Exception> {
    if !is_system(database) {
        return Ok(());
    }
    let message = format!(
        "database {database:?} is the gateway's own: DataZone's API alone changes it, and exports and \
         Parquet files show it"
    );
    Err(Exception::new(Code::AccessDenied, message))
}

fn check_access(
    may: bool,
    caller: &Caller,
    operation: Operation,
    resource: impl FnOnce() -> String,
) -> Result<(), Exception> {
    if may {
        return Ok(());
    }
    let message = format!(
        "User: {} is not authorized to perform: {SERVICE}:{} on resource: {}",
        caller.name,
        operation.name(),
        resource()
    );
    Err(Exception::new(Code::AccessDenied, message))
}

/// A time as these clients read it: seconds since 1970 with milliseconds behind the point.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of this age have 41 bits of 53")]
fn seconds(time_ns: i64) -> Value {
    ((time_ns / 1_000_000) as f64 / 1000.0).into()
}
