//! The line-protocol writes of `InfluxDB` 1, 2 and 3: what their parameters mean.
//!
//! The rules, and which implementation each of them follows, stand with the cases in
//! `tests/data/http`. `org` and `orgID` are not looked at: there is one organisation.

use super::call::Call;
use super::fault::{Family, Fault, Kind};
use super::keyed::key_asked;
use super::write::{Form, Plan, check_may_write, durability_asked, partial_asked};
use crate::ingest::Durability;
use crate::protocol::line::{Precision, PrecisionError};

/// Names of a retention policy that mean the database itself. Source: `InfluxDB` 3, `/write`.
const DEFAULT_POLICIES: [&str; 4] = ["", "autogen", "default", "''"];

/// A database and a retention policy under it, as `InfluxDB` 1 names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// The database.
    pub database: &'a str,
    /// The retention policy; empty for the default one.
    pub retention_policy: &'a str,
}

impl<'a> Target<'a> {
    /// Reads a bucket's name: `db/rp`, or `db`. `None` where it names no database.
    /// Source: `InfluxDB` 1.12, `services/httpd`, `bucket2dbrp`.
    pub fn from_bucket(bucket: &'a str) -> Option<Self> {
        let (database, retention_policy) = bucket.split_once('/').unwrap_or((bucket, ""));
        (!database.is_empty()).then_some(Self { database, retention_policy })
    }

    /// The name of the database here: `db`, or `db/rp` for any but the default policy.
    pub fn name(self) -> String {
        if DEFAULT_POLICIES.contains(&self.retention_policy) {
            return self.database.to_owned();
        }
        format!("{}/{}", self.database, self.retention_policy)
    }
}

/// Plans `POST /write?db=&rp=&precision=&consistency=`.
///
/// # Errors
///
/// [`Fault`] when a parameter is missing or wrong, or the caller may not write there.
pub fn plan_v1(call: &Call<'_>) -> Result<Plan, Fault> {
    let params = &call.params;
    let database = required(params.text("db"))?;
    let target = Target { database, retention_policy: params.text("rp") };
    // There are no other nodes to agree with: the value is checked, since a client that misspells it
    // relies on it, and then has nothing to say.
    if !matches!(params.text("consistency"), "" | "any" | "one" | "quorum" | "all") {
        let found = params.text("consistency");
        return Err(Fault::invalid(format!(
            "invalid consistency level {found:?} (use any, one, quorum or all)"
        )));
    }
    let precision = Precision::from_v1(params.text("precision"));
    plan(call, Family::V1, target.name(), precision)
}

/// Plans `POST /api/v2/write?bucket=&precision=`.
///
/// # Errors
///
/// As [`plan_v1`].
pub fn plan_v2(call: &Call<'_>) -> Result<Plan, Fault> {
    let target = Target::from_bucket(call.params.text("bucket"))
        .ok_or_else(|| Fault::new(Kind::NotFound, "bucket not found"))?;
    let precision = Precision::from_v2(call.params.text("precision"));
    plan(call, Family::V2, target.name(), precision)
}

/// Plans `POST /api/v3/write_lp?db=&precision=&accept_partial=&no_sync=`.
///
/// # Errors
///
/// As [`plan_v1`].
pub fn plan_v3(call: &Call<'_>) -> Result<Plan, Fault> {
    let database = required(call.params.text("db"))?.to_owned();
    let precision = Precision::from_v3(call.params.text("precision"));
    let no_sync = call.params.flag("no_sync", false)?;
    let mut plan = plan(call, Family::V3, database, precision)?;
    // The header is the more precise of the two, so it wins.
    if no_sync && plan.durability.is_none() {
        plan.durability = Some(Durability::Memory);
    }
    Ok(plan)
}

fn required(database: &str) -> Result<&str, Fault> {
    if database.is_empty() { Err(Fault::invalid("database is required")) } else { Ok(database) }
}

fn plan(
    call: &Call<'_>,
    family: Family,
    database: String,
    precision: Result<Precision, PrecisionError>,
) -> Result<Plan, Fault> {
    check_may_write(&call.caller, &database, family)?;
    let precision = precision.map_err(|error| Fault::invalid(error.to_string()))?;
    Ok(Plan {
        family,
        database,
        table: None,
        form: Form::Line(precision),
        durability: durability_asked(call)?,
        partial: partial_asked(call)?,
        key: key_asked(call)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hyper::HeaderMap;

    use super::*;
    use crate::api::call::{Caller, Scope};
    use crate::api::params::Params;
    use crate::ingest::Partial;

    fn call(query: &str) -> Call<'static> {
        with_headers(query, Box::leak(Box::default()))
    }

    fn with_headers<'h>(query: &str, headers: &'h HeaderMap) -> Call<'h> {
        Call {
            params: Params::parse(query).unwrap(),
            headers,
            caller: Arc::new(Caller::anonymous()),
        }
    }

    #[test]
    fn a_retention_policy_is_a_database_of_its_own_unless_it_is_the_default() {
        for (query, name) in [
            ("db=fleet", "fleet"),
            ("db=fleet&rp=", "fleet"),
            ("db=fleet&rp=autogen", "fleet"),
            ("db=fleet&rp=default", "fleet"),
            ("db=fleet&rp=''", "fleet"),
            ("db=fleet&rp=weekly", "fleet/weekly"),
        ] {
            assert_eq!(plan_v1(&call(query)).unwrap().database, name, "{query}");
        }
        for (bucket, name) in
            [("fleet", "fleet"), ("fleet/", "fleet"), ("fleet/autogen", "fleet"), ("a/b", "a/b")]
        {
            let query = format!("bucket={bucket}");
            assert_eq!(plan_v2(&call(&query)).unwrap().database, name);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (fault, message) in [
            (plan_v1(&call("")), "database is required"),
            (plan_v1(&call("db=")), "database is required"),
            (
                plan_v1(&call("db=a&consistency=most")),
                "invalid consistency level \"most\" (use any, one, quorum or all)",
            ),
            (
                plan_v1(&call("db=a&precision=x")),
                "invalid precision \"x\" (use n, u, ms, s, m or h)",
            ),
            (plan_v2(&call("bucket=/rp")), "bucket not found"),
            (plan_v3(&call("")), "database is required"),
            (
                plan_v3(&call("db=a&accept_partial=maybe")),
                "invalid accept_partial \"maybe\" (use true or false)",
            ),
        ] {
            assert_eq!(fault.unwrap_err().message, message);
        }
    }

    #[test]
    fn durability_comes_from_the_header_first_and_from_no_sync_second() {
        assert_eq!(plan_v3(&call("db=a")).unwrap().durability, None);
        let query = "db=a&no_sync=true&accept_partial=false";
        let plan = plan_v3(&call(query)).unwrap();
        assert_eq!((plan.durability, plan.partial), (Some(Durability::Memory), Partial::Refuse));
        let mut headers = HeaderMap::new();
        headers.insert("x-tidegate-durability", "applied".parse().unwrap());
        let plan = plan_v3(&with_headers(query, &headers)).unwrap();
        assert_eq!(plan.durability, Some(Durability::Applied));
        headers.insert("x-tidegate-durability", "twice".parse().unwrap());
        let fault = plan_v3(&with_headers(query, &headers)).unwrap_err();
        assert!(fault.message.contains("memory, interval, sync or applied"));
    }

    #[test]
    fn who_may_not_write_is_told_so_before_the_body_is_read() {
        let mut call = call("db=theirs&bucket=theirs");
        let write = Scope::Named(vec!["mine".into()]);
        call.caller = Arc::new(Caller { name: "r".into(), read: Scope::All, write });
        for plan in [plan_v1, plan_v2, plan_v3] {
            assert_eq!(plan(&call).unwrap_err().status(), 403);
        }
        let message = plan_v1(&call).unwrap_err().message;
        assert_eq!(message, r#""r" user is not authorized to write to database "theirs""#);
    }
}
