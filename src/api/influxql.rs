//! `/query`: what clients of `InfluxDB` 1 ask on connecting, and what its users expect for making and
//! deleting databases and measurements. Reading is [`super::export`]'s; every other query is an error
//! that says so.
//!
//! A retention policy other than the default is a database of its own here, `database/policy`; so
//! what drops a database or a measurement of it drops it there too, and `SHOW RETENTION POLICIES` lists them.

use std::borrow::Cow;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::App;
use super::call::Call;
use super::fault::{Family, Fault, Kind};
use super::params::Params;
use super::reply::Reply;
use super::write::check_may_write;

/// The retention policy that every database has, as `InfluxDB` 1 names it.
const DEFAULT_POLICY: &str = "autogen";

/// A query that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Query {
    CreateDatabase(String),
    DropDatabase(String),
    DropMeasurement(String),
    ShowDatabases,
    ShowMeasurements(On),
    ShowRetentionPolicies(On),
}

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

/// The database that a query is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum On {
    /// That of the parameter `db`.
    Parameter,
    /// The one that it names.
    Named(String),
}

/// Answers `GET` and `POST /query?q=`; `form` is the body of a form, which may hold `q` and `db` too.
///
/// # Errors
///
/// [`Fault`] 400 for any other query, or one without the database that it needs; 403 where the caller
/// may not do it; 500 where the catalog cannot be written.
pub fn answer(app: &App, call: &Call<'_>, intent: Intent, form: &[u8]) -> Result<Reply, Fault> {
    let form = Params::parse(&String::from_utf8_lossy(form)).unwrap_or_default();
    let parameter = |name| call.params.get(name).or_else(|| form.get(name));
    let text = parameter("q").ok_or_else(|| Fault::invalid("missing required parameter \"q\""))?;
    let database = |on: On| {
        let name = match on {
            On::Named(name) => Some(name),
            On::Parameter => parameter("db").map(str::to_owned),
        };
        name.filter(|name| !name.is_empty()).ok_or_else(|| Fault::invalid("database name required"))
    };
    let result = match parse(text)? {
        Query::ShowDatabases => show_databases(app, call),
        Query::ShowMeasurements(on) => show_measurements(app, call, &database(on)?)?,
        Query::ShowRetentionPolicies(on) => show_policies(app, call, &database(on)?)?,
        Query::CreateDatabase(name) => {
            check_may_write(&call.caller, &name, Family::V1)?;
            app.tables.create_database(&name)?;
            changed(intent, "CREATE DATABASE", &name)
        }
        Query::DropDatabase(name) => {
            check_may_write(&call.caller, &name, Family::V1)?;
            drop_database(app, &name)?;
            changed(intent, "DROP DATABASE", &name)
        }
        Query::DropMeasurement(name) => {
            let database = database(On::Parameter)?;
            check_may_write(&call.caller, &database, Family::V1)?;
            app.tables.drop_table(&database, &name)?;
            for policy in policies_of(app, &database) {
                app.tables.drop_table(&format!("{database}/{policy}"), &name)?;
            }
            changed(intent, "DROP MEASUREMENT", &name)
        }
    };
    Ok(Reply::json(StatusCode::OK, &json!({ "results": [result] })))
}

fn done() -> Value {
    json!({ "statement_id": 0 })
}

/// The result of a change. Source: `InfluxDB` 1.8, `query/result.go`, `ReadOnlyWarning`.
fn changed(intent: Intent, verb: &str, name: &str) -> Value {
    if intent == Intent::Change {
        return done();
    }
    let text = format!(
        "deprecated use of '{verb} {}' in a read only context, please use a POST request instead",
        quoted(name)
    );
    json!({ "statement_id": 0, "messages": [{ "level": "warning", "text": text }] })
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
    let names = app.tables.databases().into_iter().filter(|name| is_visible(call, name));
    let names: Vec<[String; 1]> = names.map(|name| [name]).collect();
    json!({
        "statement_id": 0,
        "series": [{ "name": "databases", "columns": ["name"], "values": names }],
    })
}

/// The tables of a database; without any, `InfluxDB` 1 answers without a series.
fn show_measurements(app: &App, call: &Call<'_>, database: &str) -> Result<Value, Fault> {
    check_visible(call, database)?;
    let names: Vec<[String; 1]> =
        app.tables.tables_in(database).into_iter().map(|name| [name]).collect();
    if names.is_empty() {
        return Ok(done());
    }
    let series = json!({ "name": "measurements", "columns": ["name"], "values": names });
    Ok(json!({ "statement_id": 0, "series": [series] }))
}

fn show_policies(app: &App, call: &Call<'_>, database: &str) -> Result<Value, Fault> {
    check_visible(call, database)?;
    let row = |name: &str| json!([name, "0s", "0s", 1, name == DEFAULT_POLICY]);
    let mut rows = vec![row(DEFAULT_POLICY)];
    rows.extend(policies_of(app, database).iter().map(|name| row(name)));
    let columns = ["name", "duration", "shardGroupDuration", "replicaN", "default"];
    Ok(json!({ "statement_id": 0, "series": [{ "columns": columns, "values": rows }] }))
}

fn check_visible(call: &Call<'_>, database: &str) -> Result<(), Fault> {
    if is_visible(call, database) {
        return Ok(());
    }
    let message = format!("{:?} user is not authorized to read {database:?}", call.caller.name);
    Err(Fault::new(Kind::Forbidden, message))
}

fn parse(text: &str) -> Result<Query, Fault> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let mut words = text.splitn(3, char::is_whitespace);
    let verb = words.next().unwrap_or_default().to_ascii_uppercase();
    let object = words.next().unwrap_or_default().to_ascii_uppercase();
    let rest = words.next().map(str::trim_start);
    let unknown = || {
        Fault::invalid(
            "error parsing query: only CREATE DATABASE, DROP DATABASE, DROP MEASUREMENT, SHOW \
             DATABASES, SHOW MEASUREMENTS and SHOW RETENTION POLICIES are known here; read records \
             with GET /api/v1/export?db=&table=",
        )
    };
    let nameless = || {
        Fault::invalid(format!(
            "error parsing query: {verb} {object} needs one name, as in \"a b\""
        ))
    };
    match (verb.as_str(), object.as_str(), rest) {
        ("SHOW", "DATABASES", None) => Ok(Query::ShowDatabases),
        ("SHOW", "MEASUREMENTS", rest) => {
            on_database(rest.unwrap_or_default()).map(Query::ShowMeasurements).ok_or_else(unknown)
        }
        ("SHOW", "RETENTION", Some(rest)) => {
            let (policies, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            if !policies.eq_ignore_ascii_case("POLICIES") {
                return Err(unknown());
            }
            on_database(rest.trim_start()).map(Query::ShowRetentionPolicies).ok_or_else(unknown)
        }
        // What follows the name, a retention policy, has its place in the table's own settings.
        ("CREATE", "DATABASE", rest) => {
            let name = rest.and_then(identifier).map(|(name, _)| name);
            name.map(Query::CreateDatabase).ok_or_else(nameless)
        }
        ("DROP", "DATABASE", rest) => {
            rest.and_then(only_identifier).map(Query::DropDatabase).ok_or_else(nameless)
        }
        ("DROP", "MEASUREMENT", rest) => {
            rest.and_then(only_identifier).map(Query::DropMeasurement).ok_or_else(nameless)
        }
        _ => Err(unknown()),
    }
}

/// What follows `SHOW MEASUREMENTS`: nothing, or `ON` and a name.
fn on_database(rest: &str) -> Option<On> {
    if rest.is_empty() {
        return Some(On::Parameter);
    }
    let (on, name) = rest.split_once(char::is_whitespace)?;
    let name = only_identifier(name.trim_start()).filter(|_| on.eq_ignore_ascii_case("ON"));
    name.map(On::Named)
}

/// The name that `text` is. What deletes must not guess what else it was meant to say.
fn only_identifier(text: &str) -> Option<String> {
    let (name, rest) = identifier(text)?;
    rest.trim().is_empty().then_some(name)
}

/// The name at the start of `text`, in double quotes with `\"` for a quote, or a bare word; and what
/// follows it.
fn identifier(text: &str) -> Option<(String, &str)> {
    let (name, rest) = match text.strip_prefix('"') {
        None => {
            let end = text.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(text.len());
            (text[..end].to_owned(), &text[end..])
        }
        Some(quoted) => {
            let mut name = String::new();
            let mut letters = quoted.chars();
            loop {
                match letters.next()? {
                    '"' => break,
                    '\\' => name.push(letters.next()?),
                    letter => name.push(letter),
                }
            }
            (name, letters.as_str())
        }
    };
    (!name.is_empty()).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_ask_on_connecting_is_understood() {
        let create = |name: &str| Some(Query::CreateDatabase(name.to_owned()));
        for (text, query) in [
            ("SHOW DATABASES", Some(Query::ShowDatabases)),
            (" show databases; ", Some(Query::ShowDatabases)),
            ("CREATE DATABASE telegraf", create("telegraf")),
            ("CREATE DATABASE \"tele graf\"", create("tele graf")),
            (r#"CREATE DATABASE "a\"b""#, create("a\"b")),
            ("create database \"x\" WITH DURATION 30d", create("x")),
            ("CREATE DATABASE", None),
            ("CREATE DATABASE \"\"", None),
            ("CREATE DATABASE \"x", None),
            ("DROP DATABASE x", Some(Query::DropDatabase("x".to_owned()))),
            ("drop database \"x y\" ;", Some(Query::DropDatabase("x y".to_owned()))),
            ("DROP DATABASE x y", None),
            ("DROP DATABASE x; DROP DATABASE y", None),
            ("DROP DATABASE \"x\"y", None),
            ("DROP DATABASE", None),
            ("DROP MEASUREMENT \"m\"", Some(Query::DropMeasurement("m".to_owned()))),
            ("DROP MEASUREMENT m WHERE x = 1", None),
            ("DROP SERIES FROM m", None),
            ("SHOW MEASUREMENTS", Some(Query::ShowMeasurements(On::Parameter))),
            (
                "show measurements on \"d\"",
                Some(Query::ShowMeasurements(On::Named("d".to_owned()))),
            ),
            ("SHOW MEASUREMENTS WITH MEASUREMENT = m", None),
            ("SHOW RETENTION POLICIES", Some(Query::ShowRetentionPolicies(On::Parameter))),
            (
                "SHOW RETENTION POLICIES ON d",
                Some(Query::ShowRetentionPolicies(On::Named("d".to_owned()))),
            ),
            ("SHOW RETENTION", None),
            ("SHOW DATABASES; DROP DATABASE x", None),
            ("SELECT * FROM m", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok(), query, "{text}");
        }
    }
}
