//! The operations on batch loads. What a task is and does: [`crate::load`].
//!
//! A task is made, and resumed, by whoever may write to its database, and shown to whoever may see it; to
//! others it is not there. Where its files are is for the server to reach, with the credentials of the
//! section `object`.
//!
//! Ten tasks may be active, and five of one table; more of either are throttled, since room comes by
//! itself. Source: Timestream developer guide, "Batch load", "Quotas".

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::batch_load_input::{Create, List, Named};
use super::exception::{Code, Exception};
use super::input::{Checks, read};
use super::{Context, page, seconds};
use crate::base::class::Class;
use crate::base::units::DAY_NS;
use crate::load::task::{ModelSource, Progress, ReportLocation, Spec, Status, Task, Token};
use crate::load::{LoadError, TOKEN_FOR_NS};

/// Most bytes of a request that makes a task: it is kept with the task, and so many are.
const CREATE_BYTES_MAX: usize = 256 << 10;

/// Most tasks of one part of a list. Source: Timestream API, `PageLimit`.
const ITEMS_MAX: i64 = 100;

const _: () = assert!(TOKEN_FOR_NS == DAY_NS);

/// `CreateBatchLoadTask`. The same `ClientToken` within 24 hours, also across a restart, is the same task.
///
/// # Errors
///
/// [`Exception`]: 400, 403, 404, 429 where too many are active, 409 where the token was given to
/// another request, 500.
pub fn create(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    if body.len() > CREATE_BYTES_MAX {
        let found = body.len();
        let message =
            format!("The request has {found} bytes, at most {CREATE_BYTES_MAX} are taken.");
        return Err(Exception::invalid(message));
    }
    let input: Create = read(body)?;
    let token = input.client_token.clone();
    let spec = input.spec()?;
    context.check_may_write(&spec.database)?;
    let token = token.map(|token| Token { caller: context.caller.name.clone(), token });
    let id = context.app.loads.create(spec, token)?;
    Ok(json!({ "TaskId": id }))
}

/// `DescribeBatchLoadTask`.
///
/// # Errors
///
/// [`Exception`]: 400 without a name, 404 where there is no such task, or none that the caller may see.
pub fn describe(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let id = read::<Named>(body)?.id()?;
    let task = context.app.loads.get(&id).filter(|task| context.may_see(&task.spec.database));
    let task = task.ok_or(LoadError::NoTask { id })?;
    Ok(json!({ "BatchLoadTaskDescription": described(&task) }))
}

/// `ListBatchLoadTasks`, in the order in which they were made.
///
/// # Errors
///
/// [`Exception`] 400.
pub fn list(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: List = read(body)?;
    let mut checks = Checks::default();
    let items = input.max_results.unwrap_or(ITEMS_MAX);
    checks.range("maxResults", items, &(1..=ITEMS_MAX));
    let names = Status::ALL.map(Status::name);
    let wanted = input.task_status.as_deref();
    if let Some(name) = wanted.filter(|name| !names.contains(name)) {
        checks.not_in("taskStatus", name, &names);
    }
    checks.finish()?;
    let after: Option<[String; 2]> = page::names(input.next_token.as_deref())?;
    let after = after.map(|[created, id]| (created.parse::<i64>().unwrap_or_default(), id));
    let is_wanted = |task: &Task| {
        context.may_see(&task.spec.database)
            && wanted.is_none_or(|name| task.status.name() == name)
            && after
                .as_ref()
                .is_none_or(|(created, id)| (task.created_ns, &task.id) > (*created, id))
    };
    let mut found: Vec<Task> = context.app.loads.all();
    found.retain(is_wanted);
    let items = usize::try_from(items).unwrap_or_default();
    let has_more = found.len() > items;
    found.truncate(items);
    let mut shown = json!({ "BatchLoadTasks": found.iter().map(listed).collect::<Vec<Value>>() });
    if let Some(last) = found.last().filter(|_| has_more) {
        shown["NextToken"] = page::token(&[&last.created_ns.to_string(), &last.id]).into();
    }
    Ok(shown)
}

/// `ResumeBatchLoadTask`.
///
/// # Errors
///
/// [`Exception`]: 400 for one that did not stop, 403, 404, 429 where too many are active, 500.
pub fn resume(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let id = read::<Named>(body)?.id()?;
    let task = context.app.loads.get(&id).filter(|task| context.may_see(&task.spec.database));
    let task = task.ok_or_else(|| LoadError::NoTask { id: id.clone() })?;
    context.check_may_write(&task.spec.database)?;
    context.app.loads.resume(&id)?;
    Ok(json!({}))
}

impl From<LoadError> for Exception {
    fn from(error: LoadError) -> Self {
        let message = format!("{error}.");
        let (code, message) = match &error {
            LoadError::NoTable { database, table } => {
                let message =
                    format!("The table {table} in the database {database} does not exist.");
                (Code::ResourceNotFound, message)
            }
            LoadError::NoTask { id } => {
                (Code::ResourceNotFound, format!("The batch load task {id} does not exist."))
            }
            LoadError::Model(violations) => (Code::Validation, violations.clone()),
            LoadError::OtherRequest { .. } => (Code::Conflict, message),
            LoadError::NotResumable { .. } => (Code::Validation, message),
            _ if error.class() == Class::Busy => (Code::Throttling, message),
            _ => (Code::InternalServer, message),
        };
        Self::new(code, message)
    }
}

fn listed(task: &Task) -> Value {
    let mut shown = stated(task);
    shown.insert("DatabaseName".into(), task.spec.database.as_str().into());
    shown.insert("TableName".into(), task.spec.table.as_str().into());
    shown.into()
}

fn described(task: &Task) -> Value {
    let spec = &task.spec;
    let mut shown = stated(task);
    shown.extend(
        [
            ("TargetDatabaseName", spec.database.as_str().into()),
            ("TargetTableName", spec.table.as_str().into()),
            ("RecordVersion", spec.version.into()),
            ("DataSourceConfiguration", source(spec)),
            ("DataModelConfiguration", model(&spec.model)),
            ("ReportConfiguration", report(spec.report.as_ref())),
            ("ProgressReport", progress(&task.progress)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Some(message) = &task.message {
        shown.insert("ErrorMessage".into(), message.as_str().into());
    }
    shown.into()
}

fn stated(task: &Task) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("TaskId".into(), task.id.as_str().into());
    shown.insert("TaskStatus".into(), task.status.name().into());
    shown.insert("CreationTime".into(), seconds(task.created_ns));
    shown.insert("LastUpdatedTime".into(), seconds(task.updated_ns));
    if let Some(until_ns) = task.resumable_until_ns {
        shown.insert("ResumableUntil".into(), seconds(until_ns));
    }
    shown
}

fn source(spec: &Spec) -> Value {
    let mut s3 = json!({ "BucketName": spec.source.bucket });
    if spec.has_prefix {
        s3["ObjectKeyPrefix"] = spec.source.prefix.as_str().into();
    }
    let mut shown = json!({ "DataFormat": "CSV", "DataSourceS3Configuration": s3 });
    if let Some(csv) = &spec.csv {
        shown["CsvConfiguration"] = json!(csv);
    }
    shown
}

fn model(model: &ModelSource) -> Value {
    match model {
        ModelSource::Inline(model) => json!({ "DataModel": model }),
        ModelSource::Object { bucket, key } => {
            json!({ "DataModelS3Configuration": { "BucketName": bucket, "ObjectKey": key } })
        }
    }
}

fn report(report: Option<&ReportLocation>) -> Value {
    let Some(report) = report else { return json!({}) };
    let mut s3 = json!({ "BucketName": report.at.bucket });
    if !report.at.prefix.is_empty() {
        s3["ObjectKeyPrefix"] = report.at.prefix.as_str().into();
    }
    if let Some(encryption) = &report.encryption {
        s3["EncryptionOption"] = encryption.as_str().into();
    }
    if let Some(key) = &report.kms_key {
        s3["KmsKeyId"] = key.as_str().into();
    }
    json!({ "ReportS3Configuration": s3 })
}

fn progress(progress: &Progress) -> Value {
    json!({
        "RecordsProcessed": progress.records_processed,
        "RecordsIngested": progress.records_ingested,
        "ParseFailures": progress.parse_failures,
        "RecordIngestionFailures": progress.record_ingestion_failures,
        "FileFailures": progress.file_failures,
        "BytesMetered": progress.bytes_metered,
    })
}
