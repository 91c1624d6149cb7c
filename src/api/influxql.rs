//! `/query`: what clients of `InfluxDB` 1 ask on connecting, `CREATE DATABASE` and `SHOW DATABASES`.
//! Reading is [`super::export`]'s; every other query is an error that says so.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::App;
use super::call::Call;
use super::fault::{Family, Fault};
use super::params::Params;
use super::reply::Reply;
use super::write::check_may_write;

/// A query that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Query {
    CreateDatabase(String),
    ShowDatabases,
}

/// Answers `GET` and `POST /query?q=`; `form` is the body of a form, which may hold `q` too.
///
/// # Errors
///
/// [`Fault`] 400 for any other query, 403 where the caller may not make the database.
pub fn answer(app: &App, call: &Call<'_>, form: &[u8]) -> Result<Reply, Fault> {
    let form = Params::parse(&String::from_utf8_lossy(form)).unwrap_or_default();
    let text = call.params.get("q").or_else(|| form.get("q"));
    let text = text.ok_or_else(|| Fault::invalid("missing required parameter \"q\""))?;
    let result = match parse(text)? {
        Query::ShowDatabases => show_databases(app, call),
        Query::CreateDatabase(name) => {
            check_may_write(&call.caller, &name, Family::V1)?;
            app.tables.create_database(&name).map_err(Fault::invalid)?;
            json!({ "statement_id": 0 })
        }
    };
    Ok(Reply::json(StatusCode::OK, &json!({ "results": [result] })))
}

fn show_databases(app: &App, call: &Call<'_>) -> Value {
    let visible = |name: &String| call.caller.read.covers(name) || call.caller.write.covers(name);
    let names: Vec<[String; 1]> =
        app.tables.databases().into_iter().filter(visible).map(|name| [name]).collect();
    json!({
        "statement_id": 0,
        "series": [{ "name": "databases", "columns": ["name"], "values": names }],
    })
}

fn parse(text: &str) -> Result<Query, Fault> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let mut words = text.splitn(3, char::is_whitespace);
    let verb = words.next().unwrap_or_default().to_ascii_uppercase();
    let object = words.next().unwrap_or_default().to_ascii_uppercase();
    match (verb.as_str(), object.as_str(), words.next()) {
        ("SHOW", "DATABASES", None) => Ok(Query::ShowDatabases),
        // What follows the name, a retention policy, has its place in the table's own settings.
        ("CREATE", "DATABASE", Some(rest)) => identifier(rest.trim_start())
            .map(Query::CreateDatabase)
            .ok_or_else(|| Fault::invalid("error parsing query: CREATE DATABASE needs a name")),
        _ => Err(Fault::invalid(
            "error parsing query: only CREATE DATABASE and SHOW DATABASES are known here; \
             read records with GET /api/v1/export?db=&table=",
        )),
    }
}

/// The name at the start of `text`: in double quotes with `\"` for a quote, or a bare word.
fn identifier(text: &str) -> Option<String> {
    let name = match text.strip_prefix('"') {
        None => text.split(char::is_whitespace).next().unwrap_or_default().to_owned(),
        Some(quoted) => {
            let mut name = String::new();
            let mut letters = quoted.chars();
            loop {
                match letters.next()? {
                    '"' => break name,
                    '\\' => name.push(letters.next()?),
                    letter => name.push(letter),
                }
            }
        }
    };
    (!name.is_empty()).then_some(name)
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
            ("DROP DATABASE x", None),
            ("SHOW DATABASES; DROP DATABASE x", None),
            ("SELECT * FROM m", None),
            ("", None),
        ] {
            assert_eq!(parse(text).ok(), query, "{text}");
        }
    }
}
