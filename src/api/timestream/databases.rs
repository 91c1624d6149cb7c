//! The operations on databases.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Code, Exception};
use super::input::{Checks, TagList, read};
use super::{Context, arn, page, seconds};
use crate::engine::catalog::{Database, DatabaseSettings};

/// Longest name of a key, in characters. Source: Timestream API, `StringValue2048`.
const KMS_KEY_CHARS_MAX: i64 = 2048;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    database_name: Option<String>,
    kms_key_id: Option<String>,
    tags: Option<TagList>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct List {
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// `CreateDatabase`.
///
/// # Errors
///
/// [`Exception`]: 400 for what no database may have, 402 where there are too many, 403, 409 where
/// there is one of that name, 500.
pub fn create(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checks.new_name("databaseName", input.database_name);
    let kms_key = checked_key(&mut checks, input.kms_key_id);
    let tags = checks.tags(input.tags.unwrap_or_default());
    checks.finish()?;
    context.check_may_write(&name)?;
    let now_ns = context.now_ns();
    let settings = DatabaseSettings { kms_key, created_ns: now_ns, updated_ns: now_ns, tags };
    let database = context.app.catalog.create_database(&name, &settings)?;
    Ok(json!({ "Database": shown(context, &database) }))
}

/// `DescribeDatabase`.
///
/// # Errors
///
/// [`Exception`]: 400 without a name, 403, 404.
pub fn describe(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let name = named(body)?;
    context.check_may_see(&name)?;
    let database = context.app.catalog.database(&name).ok_or_else(|| not_found(&name))?;
    Ok(json!({ "Database": shown(context, &database) }))
}

/// `ListDatabases`: those that the caller may see.
///
/// # Errors
///
/// [`Exception`] 400 for a number or token out of its range.
pub fn list(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: List = read(body)?;
    let mut checks = Checks::default();
    let items = page::items(&mut checks, input.max_results);
    checks.finish()?;
    let after = page::names::<1>(input.next_token.as_deref())?.map(|[name]| name);
    let fetch = |last: Option<&Arc<Database>>| {
        let after = last.map(|database| &*database.name).or(after.as_deref());
        context.app.catalog.list_databases(after, items)
    };
    let is_visible = |database: &Arc<Database>| context.may_see(&database.name);
    let (databases, has_more) = page::collect(items, fetch, is_visible);
    let all: Vec<Value> = databases.iter().map(|database| shown(context, database)).collect();
    let mut answer = json!({ "Databases": all });
    if let Some(last) = databases.last().filter(|_| has_more) {
        answer["NextToken"] = page::token(&[&last.name]).into();
    }
    Ok(answer)
}

/// `UpdateDatabase`: another key, which is kept and shown.
///
/// # Errors
///
/// [`Exception`]: 400 without name or key, 403, 404, 500.
pub fn update(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checks.required("databaseName", input.database_name);
    if input.kms_key_id.is_none() {
        checks.missing("kmsKeyId");
    }
    let key = checked_key(&mut checks, input.kms_key_id).unwrap_or_default();
    checks.finish()?;
    context.check_may_write(&name)?;
    let database = context.app.catalog.update_database(&name, &key, context.now_ns())?;
    Ok(json!({ "Database": shown(context, &database) }))
}

/// `DeleteDatabase`.
///
/// # Errors
///
/// [`Exception`]: 400 without a name or while it has tables, 403, 404, 500.
pub fn delete(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let name = named(body)?;
    context.check_may_write(&name)?;
    context.app.catalog.delete_database(&name)?;
    Ok(json!({}))
}

fn named(body: &Bytes) -> Result<String, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checks.required("databaseName", input.database_name);
    checks.finish()?;
    Ok(name)
}

fn checked_key(checks: &mut Checks, key: Option<String>) -> Option<String> {
    if let Some(key) = &key {
        checks.length("kmsKeyId", key, &(1..=KMS_KEY_CHARS_MAX));
    }
    key
}

/// 404, in the words of the catalog.
pub(super) fn not_found(name: &str) -> Exception {
    Exception::new(Code::ResourceNotFound, format!("The database {name} does not exist."))
}

fn shown(context: &Context<'_>, database: &Database) -> Value {
    let settings = database.settings();
    let mut shown = json!({
        "Arn": arn::of_database(context.region, &database.name),
        "DatabaseName": &*database.name,
        "TableCount": context.app.catalog.table_count(&database.name).unwrap_or_default(),
        "CreationTime": seconds(settings.created_ns),
        "LastUpdatedTime": seconds(settings.updated_ns),
    });
    if let Some(key) = &settings.kms_key {
        shown["KmsKeyId"] = key.as_str().into();
    }
    shown
}
