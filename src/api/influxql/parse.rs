//! The statements of a query, as text.
//!
//! All of a query is read before any of it is executed, as `InfluxDB` 1 does: what is not understood
//! costs all of it.

use super::DEFAULT_POLICY;
use crate::api::fault::Fault;

/// Most statements of one query.
const STATEMENTS_MAX: usize = 100;

/// A statement that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Query {
    CreateDatabase(String),
    DropDatabase(String),
    DropMeasurement(String),
    ShowDatabases,
    ShowMeasurements(On),
    ShowRetentionPolicies(On),
}

/// The database that a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum On {
    /// That of the parameter `db`.
    Parameter,
    /// The one that it names.
    Named(String),
}

/// The statements of a query, between semicolons.
///
/// # Errors
///
/// [`Fault`] 400 for one that is not understood, none, or too many.
pub(super) fn statements(text: &str) -> Result<Vec<Query>, Fault> {
    let mut all = Vec::new();
    let mut rest = Some(text);
    while let Some(text) = rest {
        let (statement, after) = split(text);
        rest = after;
        if statement.is_empty() {
            continue;
        }
        if all.len() == STATEMENTS_MAX {
            let message = format!("error parsing query: more than {STATEMENTS_MAX} statements");
            return Err(Fault::invalid(message));
        }
        all.push(parse(statement)?);
    }
    if all.is_empty() { Err(unknown()) } else { Ok(all) }
}

/// The first statement, and what follows its semicolon, if it has one; none within quotes counts.
fn split(text: &str) -> (&str, Option<&str>) {
    let (mut quote, mut is_escaped) = (None, false);
    for (at, letter) in text.char_indices() {
        match (quote, letter) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), _) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, ';') => return (text[..at].trim(), Some(&text[at + 1..])),
            _ => {}
        }
    }
    (text.trim(), None)
}

fn unknown() -> Fault {
    Fault::invalid(
        "error parsing query: only CREATE DATABASE, DROP DATABASE, DROP MEASUREMENT, SHOW \
         DATABASES, SHOW MEASUREMENTS and SHOW RETENTION POLICIES are known here; read records \
         with GET /api/v1/export?db=&table=",
    )
}

fn parse(text: &str) -> Result<Query, Fault> {
    let mut words = text.splitn(3, char::is_whitespace);
    let verb = words.next().unwrap_or_default().to_ascii_uppercase();
    let object = words.next().unwrap_or_default().to_ascii_uppercase();
    let rest = words.next().map(str::trim_start);
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
        ("CREATE", "DATABASE", rest) => {
            let (name, rest) = rest.and_then(identifier).ok_or_else(nameless)?;
            policy(rest)?;
            Ok(Query::CreateDatabase(name))
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

/// Checks what follows the name in `CREATE DATABASE`: nothing, or `WITH` and what its default retention
/// policy is to be. That keeps records until their table's own settings end them, under one name: what
/// says anything else is refused rather than passed over.
///
/// Source: `InfluxDB` 1.8, `influxql/parser.go`, `parseCreateDatabaseStatement`.
fn policy(text: &str) -> Result<(), Fault> {
    let wrong =
        |what: String| Fault::invalid(format!("error parsing query: CREATE DATABASE {what}"));
    let mut words = text.split_whitespace().peekable();
    match words.next() {
        None => return Ok(()),
        Some(with) if with.eq_ignore_ascii_case("WITH") && words.peek().is_some() => {}
        Some(_) => return Err(wrong(format!("has {:?} behind the name", text.trim()))),
    }
    while let Some(option) = words.next() {
        let option = option.to_ascii_uppercase();
        let is_shard = option == "SHARD";
        if is_shard && !words.next().is_some_and(|word| word.eq_ignore_ascii_case("DURATION")) {
            return Err(wrong("WITH SHARD needs DURATION".to_owned()));
        }
        let Some(value) = words.next() else {
            return Err(wrong(format!("WITH {option} has no value")));
        };
        let reason = match option.as_str() {
            // How records are cut into files shows nowhere.
            "SHARD" if is_duration(value) => continue,
            "DURATION" if is_endless(value) => continue,
            "REPLICATION" if value == "1" => continue,
            "NAME" if is_default_name(value) => continue,
            "DURATION" if is_duration(value) => {
                "records end by the settings of their table, not of their database: leave it out, or INF"
            }
            "REPLICATION" => "there is one copy of each record: leave it out, or 1",
            "NAME" => "the default retention policy is autogen: leave it out",
            "SHARD" | "DURATION" => "this is no duration",
            _ => "only DURATION, REPLICATION, SHARD DURATION and NAME are known",
        };
        return Err(wrong(format!("WITH {option} {value}: {reason}")));
    }
    Ok(())
}

fn is_default_name(text: &str) -> bool {
    only_identifier(text).is_some_and(|name| name == DEFAULT_POLICY)
}

/// `0s` is endless too, as `SHOW RETENTION POLICIES` shows it.
fn is_endless(text: &str) -> bool {
    text.eq_ignore_ascii_case("INF")
        || is_duration(text) && text.bytes().all(|byte| byte == b'0' || !byte.is_ascii_digit())
}

/// Numbers with units, as `1h30m`, or `INF`.
fn is_duration(text: &str) -> bool {
    if text.eq_ignore_ascii_case("INF") {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let end = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let known = ["ns", "u", "µ", "ms", "s", "m", "h", "d", "w"];
        if unit.len() == rest.len() || !known.contains(&&unit[..end]) {
            return false;
        }
        rest = &unit[end..];
    }
    !text.is_empty()
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
            let end = text.find(char::is_whitespace).unwrap_or(text.len());
            let (word, rest) = text.split_at(end);
            // Its author meant more than one name by them, or a text.
            if word.contains(['"', '\'', ',', ';', '(', ')', '=']) {
                return None;
            }
            (word.to_owned(), rest)
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
            ("create database \"x\" with duration inf", create("x")),
            (
                "CREATE DATABASE x WITH DURATION 0s REPLICATION 1 SHARD DURATION 1h30m NAME \"autogen\"",
                create("x"),
            ),
            ("CREATE DATABASE x WITH DURATION 30d", None),
            ("CREATE DATABASE x WITH REPLICATION 2", None),
            ("CREATE DATABASE x WITH SHARD DURATION soon", None),
            ("CREATE DATABASE x WITH SHARD 1h", None),
            ("CREATE DATABASE x WITH NAME \"rp\"", None),
            ("CREATE DATABASE x WITH NAME", None),
            ("CREATE DATABASE x WITH", None),
            ("CREATE DATABASE x WITHOUT DURATION INF", None),
            ("CREATE DATABASE x y", None),
            ("CREATE DATABASE \"x\"y", None),
            ("CREATE DATABASE x, y", None),
            ("CREATE DATABASE 'x'", None),
            ("CREATE DATABASE", None),
            ("CREATE DATABASE \"\"", None),
            ("CREATE DATABASE \"x", None),
            ("DROP DATABASE x", Some(Query::DropDatabase("x".to_owned()))),
            ("drop database \"x y\" ;", Some(Query::DropDatabase("x y".to_owned()))),
            ("DROP DATABASE x y", None),
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
            ("SELECT * FROM m", None),
            ("", None),
        ] {
            let expected = query.map(|query| vec![query]);
            assert_eq!(statements(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn each_statement_is_one_and_what_is_not_understood_costs_all() {
        let drop = |name: &str| Query::DropDatabase(name.to_owned());
        for (text, expected) in [
            ("DROP DATABASE x; SHOW DATABASES", Some(vec![drop("x"), Query::ShowDatabases])),
            (";;DROP DATABASE x ;\nDROP DATABASE y;", Some(vec![drop("x"), drop("y")])),
            (r#"DROP DATABASE "a;\";b"; drop database c"#, Some(vec![drop("a;\";b"), drop("c")])),
            ("DROP DATABASE x; SELECT * FROM m", None),
            ("DROP DATABASE x; \"", None),
            ("DROP DATABASE x SHOW DATABASES", None),
            (" ; ;", None),
        ] {
            assert_eq!(statements(text).ok(), expected, "{text}");
        }
        let many = |count| statements(&"SHOW DATABASES;".repeat(count));
        assert_eq!(many(STATEMENTS_MAX).unwrap().len(), STATEMENTS_MAX);
        assert!(many(STATEMENTS_MAX + 1).is_err());
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let text = "CREATE DATABASE x WITH DURATION 1h REPLICATION 1";
        let message = statements(text).unwrap_err().message;
        assert!(message.contains("WITH DURATION 1h: records end by the settings"), "{message}");
    }
}
