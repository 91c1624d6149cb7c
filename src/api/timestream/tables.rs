//! The operations on tables. Those made here are strict: they follow Timestream's limits and windows.

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::{Code, Exception};
use super::input::{Checks, TagList, read};
use super::settings::{MagneticStore, RetentionProperties, Schema};
use super::{Context, arn, databases, page, seconds, settings};
use crate::engine::catalog::{
    Catalog, PartitionKey, Profile, Retention, Table, TableSettings, TableUpdate,
};
use crate::protocol::timestream::object;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    database_name: Option<String>,
    table_name: Option<String>,
    #[serde(deserialize_with = "object::option")]
    retention_properties: Option<RetentionProperties>,
    #[serde(deserialize_with = "object::option")]
    magnetic_store_write_properties: Option<MagneticStore>,
    #[serde(deserialize_with = "object::option")]
    schema: Option<Schema>,
    tags: Option<TagList>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct List {
    database_name: Option<String>,
    next_token: Option<String>,
    max_results: Option<i64>,
}

/// `CreateTable`.
///
/// # Errors
///
/// [`Exception`]: 400 for what no table may have, 402 where there are too many, 403, 404 without its
/// database, 409 where there is one of that name, 500.
pub fn create(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let database = checks.required("databaseName", input.database_name);
    let name = checks.new_name("tableName", input.table_name);
    let tags = checks.tags(input.tags.unwrap_or_default());
    let mut update = Update::read(
        &mut checks,
        input.retention_properties,
        input.magnetic_store_write_properties,
        input.schema,
    );
    checks.finish()?;
    context.check_may_write(&database)?;
    let now_ns = context.now_ns();
    let table = TableSettings {
        profile: Profile::Strict,
        created_ns: now_ns,
        updated_ns: now_ns,
        retention: update.retention(),
        rejected_data: update.magnetic.take().and_then(|store| store.rejected),
        partition_key: update.partition_key()?.unwrap_or_default(),
        tags,
        ..TableSettings::default()
    };
    let table = context.app.catalog.create_table(&database, &name, &table)?;
    Ok(json!({ "Table": shown(context, &table) }))
}

/// `DescribeTable`.
///
/// # Errors
///
/// [`Exception`]: 400 without names, 403, 404.
pub fn describe(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let (database, name) = named(body)?;
    context.check_may_see(&database)?;
    let table = find(context, &database, &name)?;
    Ok(json!({ "Table": shown(context, &table) }))
}

/// `ListTables`: those that the caller may see, of one database or of all.
///
/// # Errors
///
/// [`Exception`]: 400 for a number or token out of its range, 403, 404 without the database.
pub fn list(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: List = read(body)?;
    let mut checks = Checks::default();
    let items = page::items(&mut checks, input.max_results);
    checks.finish()?;
    let catalog = &context.app.catalog;
    if let Some(database) = &input.database_name {
        context.check_may_see(database)?;
        if !catalog.has_database(database) {
            return Err(databases::not_found(database));
        }
    }
    let after = page::names::<2>(input.next_token.as_deref())?;
    let after = after.as_ref().map(|[database, table]| (database.as_str(), table.as_str()));
    let fetch = |last: Option<&Arc<Table>>| {
        let after = last.map(|table| (&*table.database, &*table.name)).or(after);
        catalog.list_tables(input.database_name.as_deref(), after, items)
    };
    let is_visible = |table: &Arc<Table>| context.may_see(&table.database);
    let (tables, has_more) = page::collect(items, fetch, is_visible);
    let all: Vec<Value> = tables.iter().map(|table| shown(context, table)).collect();
    let mut answer = json!({ "Tables": all });
    if let Some(last) = tables.last().filter(|_| has_more) {
        answer["NextToken"] = page::token(&[&last.database, &last.name]).into();
    }
    Ok(answer)
}

/// `UpdateTable`. What it does not name stays.
///
/// # Errors
///
/// [`Exception`]: 400 for what no table may have, or another partition key, 403, 404, 500.
pub fn update(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let database = checks.required("databaseName", input.database_name);
    let name = checks.required("tableName", input.table_name);
    let asked = Update::read(
        &mut checks,
        input.retention_properties,
        input.magnetic_store_write_properties,
        input.schema,
    );
    checks.finish()?;
    context.check_may_write(&database)?;
    find(context, &database, &name)?;
    let retention = asked.retention.as_ref();
    let update = TableUpdate {
        memory_hours: retention.and_then(RetentionProperties::hours),
        magnetic_days: retention.and_then(RetentionProperties::days),
        magnetic_writes: asked.magnetic.as_ref().map(|store| store.is_enabled),
        partition_key: asked.partition_key()?,
        rejected_data: asked.magnetic.map(|store| store.rejected),
    };
    let table = context.app.catalog.update_table(&database, &name, &update, context.now_ns())?;
    Ok(json!({ "Table": shown(context, &table) }))
}

/// `DeleteTable`, with all its records.
///
/// # Errors
///
/// [`Exception`]: 400 without names, 403, 404, 500.
pub fn delete(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let (database, name) = named(body)?;
    context.check_may_write(&database)?;
    if !context.app.catalog.has_database(&database) {
        return Err(databases::not_found(&database));
    }
    context.app.catalog.delete_table(&database, &name)?;
    Ok(json!({}))
}

/// What a request says about a table, checked.
struct Update {
    retention: Option<RetentionProperties>,
    magnetic: Option<settings::Magnetic>,
    schema: Option<Schema>,
}

impl Update {
    fn read(
        checks: &mut Checks,
        retention: Option<RetentionProperties>,
        magnetic: Option<MagneticStore>,
        schema: Option<Schema>,
    ) -> Self {
        if let Some(retention) = &retention {
            retention.check(checks);
        }
        if let Some(schema) = &schema {
            schema.check(checks);
        }
        Self { retention, magnetic: magnetic.map(|store| store.checked(checks)), schema }
    }

    /// The retention of a table that is made.
    fn retention(&self) -> Retention {
        let asked = self.retention.as_ref();
        let default = Retention::default();
        Retention {
            memory_hours: asked
                .and_then(RetentionProperties::hours)
                .unwrap_or(default.memory_hours),
            magnetic_days: asked
                .and_then(RetentionProperties::days)
                .unwrap_or(default.magnetic_days),
            magnetic_writes: self.magnetic.as_ref().is_some_and(|store| store.is_enabled),
        }
    }

    fn partition_key(&self) -> Result<Option<PartitionKey>, Exception> {
        self.schema.as_ref().map_or(Ok(None), Schema::key)
    }
}

fn named(body: &Bytes) -> Result<(String, String), Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let database = checks.required("databaseName", input.database_name);
    let name = checks.required("tableName", input.table_name);
    checks.finish()?;
    Ok((database, name))
}

fn find(context: &Context<'_>, database: &str, name: &str) -> Result<Arc<Table>, Exception> {
    let catalog = &context.app.catalog;
    catalog.resolve(database, name).ok_or_else(|| not_found(catalog, database, name))
}

/// 404, for the one of the two that there is not.
pub(super) fn not_found(catalog: &Catalog, database: &str, name: &str) -> Exception {
    if !catalog.has_database(database) {
        return databases::not_found(database);
    }
    Exception::new(Code::ResourceNotFound, format!("The table {name} does not exist."))
}

fn shown(context: &Context<'_>, table: &Table) -> Value {
    let settings = table.settings();
    json!({
        "Arn": arn::of_table(context.region, &table.database, &table.name),
        "DatabaseName": &*table.database,
        "TableName": &*table.name,
        // One that is being deleted is not shown any more, and none is made slowly.
        "TableStatus": "ACTIVE",
        "RetentionProperties": settings::shown_retention(settings.retention),
        "MagneticStoreWriteProperties": settings::shown_magnetic(&settings),
        "Schema": settings::shown_schema(&settings.partition_key),
        "CreationTime": seconds(settings.created_ns),
        "LastUpdatedTime": seconds(settings.updated_ns),
    })
}
