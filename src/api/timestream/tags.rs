//! The operations on the tags of databases and tables.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::exception::Exception;
use super::input::{Checks, TagKeyList, TagList, read};
use super::{Context, arn};
use crate::engine::catalog::Resource;

/// Longest name of a resource, in characters. Source: Timestream API, `AmazonResourceName`.
const ARN_CHARS_MAX: i64 = 1011;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    #[serde(rename = "ResourceARN")]
    resource: Option<String>,
    tags: Option<TagList>,
    tag_keys: Option<TagKeyList>,
}

/// `TagResource`.
///
/// # Errors
///
/// [`Exception`]: 400 for what is no tag or no resource, 402 for too many, 403, 404, 500.
pub fn add(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checked_name(&mut checks, input.resource);
    if input.tags.is_none() {
        checks.missing("tags");
    }
    let tags = checks.tags(input.tags.unwrap_or_default());
    checks.finish()?;
    let resource = arn::parse(&name)?;
    context.check_may_write(database_of(resource))?;
    context.app.catalog.tag(resource, &tags)?;
    Ok(json!({}))
}

/// `UntagResource`; keys that it has not are no error.
///
/// # Errors
///
/// [`Exception`]: 400 for what is no key or no resource, 403, 404, 500.
pub fn remove(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checked_name(&mut checks, input.resource);
    if input.tag_keys.is_none() {
        checks.missing("tagKeys");
    }
    let keys = input.tag_keys.unwrap_or_default();
    checks.tag_keys(&keys);
    checks.finish()?;
    let resource = arn::parse(&name)?;
    context.check_may_write(database_of(resource))?;
    let keys: Vec<&str> = keys.items.iter().map(String::as_str).collect();
    context.app.catalog.untag(resource, &keys)?;
    Ok(json!({}))
}

/// `ListTagsForResource`.
///
/// # Errors
///
/// [`Exception`]: 400 for what is no resource, 403, 404.
pub fn list(context: &Context<'_>, body: &Bytes) -> Result<Value, Exception> {
    let input: Input = read(body)?;
    let mut checks = Checks::default();
    let name = checked_name(&mut checks, input.resource);
    checks.finish()?;
    let resource = arn::parse(&name)?;
    context.check_may_see(database_of(resource))?;
    let tags = context.app.catalog.tags(resource)?;
    let tags: Vec<Value> =
        tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(json!({ "Tags": tags }))
}

fn checked_name(checks: &mut Checks, name: Option<String>) -> String {
    if let Some(name) = &name {
        checks.length("resourceARN", name, &(1..=ARN_CHARS_MAX));
    }
    checks.required("resourceARN", name)
}

const fn database_of(resource: Resource<'_>) -> &str {
    match resource {
        Resource::Database(database) | Resource::Table { database, .. } => database,
    }
}
