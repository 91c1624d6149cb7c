//! `/query`: what clients of `InfluxDB` 1 ask on connecting, and what its users expect for making and
//! deleting databases and measurements. Reading is [`super::export`]'s; every other query is an error
//! that says so.
//!
//! Clients that ask for `MessagePack` get it ([`msgpack`]): the one for Python asks by default and reads JSON as
//! well, the one for Java takes JSON for a result without rows.
//!
//! A retention policy other than the default is a database of its own here, `database/policy`; so
//! what drops a database or a measurement of it drops it there too, and `SHOW RETENTION POLICIES` lists them.

mod msgpack;
mod parse;

use std::borrow::Cow;
use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tracing::error;

use super::App;
use super::call::Call;
use super::fault::{Family, Fault, Kind};
use super::params::Params;
use super::reply::Reply;
use super::write::check_may_write;
use crate::ingest::is_system;
use parse::{On, Query};

/// The retention policy that every database has, as `InfluxDB` 1 names it.
const DEFAULT_POLICY: &str = "autogen";

/// What a request's method says about the changes that it may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// None: it is made all the same, as `InfluxDB` 1 does, and the reply warns of it. Clients that were
    /// written for its first versions change with `GET`.
    Read,
    /// Any.
    Change,
}

impl Intent {
    /// That of a method.
    pub fn of(method: &Method) -> Self {
        if *method == Method::POST { Self::Change } else { Self::Read }
    }
}

/// Answers `GET` and `POST /query?q=`; `form` is the body of a form, which may hold `q` and `db` too.
///
/// # Errors
///
/// [`Fault`] 400 for any other statement, or one without the database that it needs; 403 where the
/// caller may not do it: nothing is executed then. What the first statement fails for, 500 where the
/// catalog cannot be written.
pub fn answer(app: &App, call: &Call<'_>, intent: Intent, form: &[u8]) -> Result<Reply, Fault> {
    let form = Params::parse(&String::from_utf8_lossy(form)).unwrap_or_default();
    let parameter = |name| call.params.get(name).or_else(|| form.get(name));
    let text = parameter("q").ok_or_else(|| Fault::invalid(missing_query(call)))?;
    let mut all = Vec::new();
    for query in parse::statements(text)? {
        let step = Step::of(query, parameter("db"))?;
        step.check(call)?;
        all.push(step);
    }
    let answer = json!({ "results": execute(app, call, intent, &all)? });
    if msgpack::is_asked_for(call.header("accept").unwrap_or_default()) {
        return Ok(Reply::full(StatusCode::OK, msgpack::CONTENT_TYPE, msgpack::encode(&answer)));
    }
    Ok(Reply::json(StatusCode::OK, &answer))
}

/// What is said of a request without a query.
fn missing_query(call: &Call<'_>) -> &'static str {
    if call.header("content-type").is_some_and(|found| found.starts_with("multipart/form-data")) {
        return "missing required parameter \"q\": found a form of multipart/form-data, which is not read; \
                send q in the URL, or the form as application/x-www-form-urlencoded";
    }
    "missing required parameter \"q\""
}

/// Executes all, in their order. Source: `InfluxDB` 1.8, `query/executor.go`, for what follows an error.
fn execute(app: &App, call: &Call<'_>, intent: Intent, all: &[Step]) -> Result<Vec<Value>, Fault> {
    let mut results = Vec::with_capacity(all.len());
    let mut has_failed = false;
    for (at, step) in all.iter().enumerate() {
        let mut result = if has_failed {
            json!({ "error": "not executed" })
        } else {
            match step.execute(app, call, intent) {
                Ok(result) => result,
                // Nothing was executed before it: the status can say so.
                Err(fault) if at == 0 => return Err(fault),
                Err(fault) => {
                    has_failed = true;
                    if matches!(fault.kind, Kind::Internal) {
                        error!(statement = at, fault = fault.message, "statement failed");
                    }
                    json!({ "error": fault.message })
                }
            }
        };
        result["statement_id"] = at.into();
        results.push(result);
    }
    Ok(results)
}

/// A statement with the database that it is about.
#[derive(Debug)]
struct Step {
    query: Query,
    /// Empty where it is about none.
    database: String,
}

impl Step {
    /// # Errors
    ///
    /// [`Fault`] 400 without the database that it needs.
    fn of(query: Query, parameter: Option<&str>) -> Result<Self, Fault> {
        let database = match &query {
            Query::ShowDatabases => return Ok(Self { query, database: String::new() }),
            Query::CreateDatabase(name)
            | Query::DropDatabase(name)
            | Query::ShowMeasurements(On::Named(name))
            | Query::ShowRetentionPolicies(On::Named(name)) => name.clone(),
            Query::DropMeasurement(_)
            | Query::ShowMeasurements(On::Parameter)
            | Query::ShowRetentionPolicies(On::Parameter) => {
                parameter.unwrap_or_default().to_owned()
            }
        };
        if database.is_empty() {
            return Err(Fault::invalid("database name required"));
        }
        Ok(Self { query, database })
    }

    /// # Errors
    ///
    /// [`Fault`] 403 where the caller may not do it.
    fn check(&self, call: &Call<'_>) -> Result<(), Fault> {
        match self.query {
            Query::ShowDatabases => Ok(()),
            Query::ShowMeasurements(_) | Query::ShowRetentionPolicies(_) => {
                check_visible(call, &self.database)
            }
            Query::CreateDatabase(_) | Query::DropDatabase(_) | Query::DropMeasurement(_) => {
                check_may_write(&call.caller, &self.database, Family::V1)
            }
        }
    }

    /// # Errors
    ///
    /// [`Fault`] 400 for what there is not, 500 where the catalog cannot be written.
    fn execute(&self, app: &App, call: &Call<'_>, intent: Intent) -> Result<Value, Fault> {
        let database = self.database.as_str();
        Ok(match &self.query {
            Query::ShowDatabases => show_databases(app, call),
            Query::ShowMeasurements(_) => show_measurements(app, database),
            Query::ShowRetentionPolicies(_) => show_policies(app, database),
            Query::CreateDatabase(name) => {
                app.tables.create_database(name)?;
                changed(intent, "CREATE DATABASE", name)
            }
            Query::DropDatabase(name) => {
                drop_database(app, name)?;
                changed(intent, "DROP DATABASE", name)
            }
            Query::DropMeasurement(name) => {
                app.tables.drop_table(database, name)?;
                for policy in policies_of(app, database) {
                    app.tables.drop_table(&format!("{database}/{policy}"), name)?;
                }
                changed(intent, "DROP MEASUREMENT", name)
            }
        })
    }
}

/// The result of a change. Source: `InfluxDB` 1.8, `query/result.go`, `ReadOnlyWarning`.
fn changed(intent: Intent, verb: &str, name: &str) -> Value {
    if intent == Intent::Change {
        return json!({});
    }
    let text = format!(
        "deprecated use of '{verb} {}' in a read only context, please use a POST request instead",
        quoted(name)
    );
    json!({ "messages": [{ "level": "warning", "text": text }] })
}

/// A name as it stands in a query.
fn quoted(name: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.chars().all(is_plain) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        return name.into();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"").into()
}

/// Deletes the database and those of its retention policies; as in `InfluxDB` 1, one that there is not
/// is no error.
fn drop_database(app: &App, name: &str) -> Result<(), Fault> {
    let policies = policies_of(app, name);
    let all = policies.iter().map(|policy| format!("{name}/{policy}"));
    all.chain([name.to_owned()]).try_for_each(|database| app.tables.drop_database(&database))
}

/// The names of the retention policies that have a database of their own.
fn policies_of(app: &App, database: &str) -> Vec<String> {
    let all = app.tables.databases();
    let of_it = all.iter().filter_map(|name| name.strip_prefix(database)?.strip_prefix('/'));
    of_it.map(str::to_owned).collect()
}

fn is_visible(call: &Call<'_>, database: &str) -> bool {
    call.caller.read.covers(database) || call.caller.write.covers(database)
}

fn show_databases(app: &App, call: &Call<'_>) -> Value {
    let all = app.tables.databases();
    let visible = all.iter().filter(|name| is_visible(call, name) && !is_system(name));
    // A policy is no database to its clients; one whose database has nothing else names it.
    let names: BTreeSet<&str> = visible.map(|name| without_policy(name)).collect();
    let names: Vec<[&str; 1]> = names.into_iter().map(|name| [name]).collect();
    json!({
        "series": [{ "name": "databases", "columns": ["name"], "values": names }],
    })
}

/// The database that a name is about, with or without a retention policy.
fn without_policy(name: &str) -> &str {
    name.split_once('/').map_or(name, |(database, _)| database)
}

/// The tables of a database; without any, `InfluxDB` 1 answers without a series.
fn show_measurements(app: &App, database: &str) -> Value {
    let names: Vec<[String; 1]> =
        app.tables.tables_in(database).into_iter().map(|name| [name]).collect();
    if names.is_empty() {
        return json!({});
    }
    let series = json!({ "name": "measurements", "columns": ["name"], "values": names });
    json!({ "series": [series] })
}

fn show_policies(app: &App, database: &str) -> Value {
    let row = |name: &str| json!([name, "0s", "0s", 1, name == DEFAULT_POLICY]);
    let mut rows = vec![row(DEFAULT_POLICY)];
    rows.extend(policies_of(app, database).iter().map(|name| row(name)));
    let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
    json!({ "series": [{ "columns": columns, "values": rows }] })
}

fn check_visible(call: &Call<'_>, database: &str) -> Result<(), Fault> {
    if is_visible(call, database) {
        return Ok(());
    }
    let message = format!("{:?} user is not authorized to read {database:?}", call.caller.name);
    Err(Fault::new(Kind::Forbidden, message))
}
