//! The table of paths: one place that says what there is, who may ask, and whose shape an error has.

use hyper::Method;

use crate::api::fault::{Family, Fault, Kind};
use crate::api::{datazone, rejects};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `InfluxDB` 1 line protocol.
    WriteV1,
    /// `InfluxDB` 2 line protocol.
    WriteV2,
    /// `InfluxDB` 3 line protocol.
    WriteV3,
    /// JSON or line protocol, with a receipt.
    WriteNative,
    /// The records of a table.
    Export,
    /// What was refused.
    Rejects,
    /// What was refused, sent again.
    Resubmit,
    /// What `InfluxDB` 1 clients ask on connecting.
    Query,
    /// Whether somebody is there.
    Ping,
    /// Whether all is well.
    Health,
    /// Whether writes can be taken.
    Ready,
    /// The metrics.
    Metrics,
    /// The state of the server.
    Status,
    /// The status page, or the list of the endpoints.
    Index,
    /// The Timestream Write API.
    Timestream,
    /// `DataZone`'s time series data points.
    DataZone,
    /// Which methods a path has. The last one, by which they are counted.
    Options,
}

/// Whether an endpoint must know who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody: probes and metrics, which name no database; metrics unless `metrics.anonymous` is false.
    Open,
    /// Whoever has a token or password, where there are any.
    Known,
    /// Whoever has signed the request, where there are access keys. The signature is over the body, so
    /// who asks is known only after it was read.
    Signed,
}

/// One path.
#[derive(Debug)]
struct Route {
    path: &'static str,
    methods: &'static [Method],
    /// The methods as the `Allow` header lists them.
    allow: &'static str,
    endpoint: Endpoint,
    family: Family,
}

const POST: &[Method] = &[Method::POST];
const GET: &[Method] = &[Method::GET];
const PROBE: &[Method] = &[Method::GET, Method::HEAD];
const QUERY: &[Method] = &[Method::GET, Method::POST];

/// A page for people, and the one path of Amazon's JSON protocol.
const TOP: &str = "/";
const TOP_METHODS: &[Method] = &[Method::GET, Method::HEAD, Method::POST];

const ALLOW_TOP: &str = "GET, HEAD, OPTIONS, POST";
const ALLOW_POST: &str = "OPTIONS, POST";
const ALLOW_GET: &str = "GET, OPTIONS";
const ALLOW_PROBE: &str = "GET, HEAD, OPTIONS";
const ALLOW_QUERY: &str = "GET, OPTIONS, POST";

const ROUTES: [Route; 15] = [
    route("/write", POST, ALLOW_POST, Endpoint::WriteV1, Family::V1),
    route("/api/v2/write", POST, ALLOW_POST, Endpoint::WriteV2, Family::V2),
    route("/api/v3/write_lp", POST, ALLOW_POST, Endpoint::WriteV3, Family::V3),
    route("/api/v1/write", POST, ALLOW_POST, Endpoint::WriteNative, Family::Native),
    route("/api/v1/export", GET, ALLOW_GET, Endpoint::Export, Family::Native),
    route(rejects::PATH, GET, ALLOW_GET, Endpoint::Rejects, Family::Native),
    route(rejects::RESUBMIT, POST, ALLOW_POST, Endpoint::Resubmit, Family::Native),
    route("/api/v1/status", PROBE, ALLOW_PROBE, Endpoint::Status, Family::Native),
    route("/query", QUERY, ALLOW_QUERY, Endpoint::Query, Family::V1),
    route("/ping", PROBE, ALLOW_PROBE, Endpoint::Ping, Family::V1),
    // InfluxDB 1 answers it as it does /ping.
    route("/status", PROBE, ALLOW_PROBE, Endpoint::Ping, Family::V1),
    route("/health", PROBE, ALLOW_PROBE, Endpoint::Health, Family::V2),
    route("/ready", PROBE, ALLOW_PROBE, Endpoint::Ready, Family::V2),
    route("/metrics", PROBE, ALLOW_PROBE, Endpoint::Metrics, Family::Native),
    route(TOP, TOP_METHODS, ALLOW_TOP, Endpoint::Index, Family::Native),
];

const fn route(
    path: &'static str,
    methods: &'static [Method],
    allow: &'static str,
    endpoint: Endpoint,
    family: Family,
) -> Route {
    Route { path, methods, allow, endpoint, family }
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// To this endpoint.
    pub endpoint: Endpoint,
    /// Whose methods are these, as the `Allow` header lists them.
    pub allow: &'static str,
}

/// The label of requests that lead nowhere.
pub const NOWHERE: &str = "none";

impl Endpoint {
    /// How many there are.
    pub const COUNT: usize = Self::Options as usize + 1;

    /// Its label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::WriteV1 => "write_v1",
            Self::WriteV2 => "write_v2",
            Self::WriteV3 => "write_v3",
            Self::WriteNative => "write",
            Self::Export => "export",
            Self::Rejects => "rejects",
            Self::Resubmit => "rejects_resubmit",
            Self::Query => "query",
            Self::Ping => "ping",
            Self::Health => "health",
            Self::Ready => "ready",
            Self::Metrics => "metrics",
            Self::Status => "status",
            Self::Index => "index",
            Self::Timestream => "timestream",
            Self::DataZone => "datazone",
            Self::Options => "options",
        }
    }

    /// Whether it must know who asks.
    pub const fn access(self) -> Access {
        match self {
            Self::Ping
            | Self::Health
            | Self::Ready
            | Self::Metrics
            | Self::Index
            | Self::Options => Access::Open,
            Self::WriteV1
            | Self::WriteV2
            | Self::WriteV3
            | Self::WriteNative
            | Self::Export
            | Self::Rejects
            | Self::Resubmit
            | Self::Status
            | Self::Query => Access::Known,
            Self::Timestream | Self::DataZone => Access::Signed,
        }
    }
}

/// Whose clients ask for `path` with `method`, whether or not it exists.
pub fn family_of(method: &Method, path: &str) -> Family {
    if path == TOP && method == Method::POST {
        return Family::Timestream;
    }
    if datazone::path::is_inside(path) {
        return Family::DataZone;
    }
    let known = ROUTES.iter().find(|route| route.path == path).map(|route| route.family);
    known.unwrap_or_else(|| match path.get(..8) {
        Some("/api/v1/") => Family::Native,
        Some("/api/v2/") => Family::V2,
        Some("/api/v3/") => Family::V3,
        _ => Family::V1,
    })
}

/// Finds where a request goes.
///
/// # Errors
///
/// [`Fault`] 404 where there is no such path, 405 where it has other methods.
pub fn find(method: &Method, path: &str) -> Result<Way, Fault> {
    if datazone::path::is_inside(path) {
        return find_in_datazone(method, path);
    }
    // One rejection by its number.
    let of_rejects = || ROUTES.iter().find(|route| route.path == rejects::PATH);
    let one = || rejects::number_in(path).and_then(|_| of_rejects());
    let route = ROUTES.iter().find(|route| route.path == path).or_else(one).ok_or_else(|| {
        Fault::new(Kind::NotFound, "not found: GET / names the paths that there are")
    })?;
    if path == TOP && method == Method::POST {
        return Ok(Way { endpoint: Endpoint::Timestream, allow: route.allow });
    }
    if route.methods.contains(method) {
        return Ok(Way { endpoint: route.endpoint, allow: route.allow });
    }
    if method == Method::OPTIONS {
        return Ok(Way { endpoint: Endpoint::Options, allow: route.allow });
    }
    Err(not_allowed(method, route.allow))
}

fn not_allowed(method: &Method, allow: &'static str) -> Fault {
    let message = format!("method {method} is not allowed here: use {allow}");
    Fault::new(Kind::MethodNotAllowed { allow }, message)
}

/// The paths of `DataZone` hold the names of things.
fn find_in_datazone(method: &Method, path: &str) -> Result<Way, Fault> {
    let shape = datazone::path::Shape::of(path).ok_or_else(|| {
        let message = format!(
            "no operation at {method} {path}: of DataZone's API, PostTimeSeriesDataPoints, \
             ListTimeSeriesDataPoints, GetTimeSeriesDataPoint and DeleteTimeSeriesDataPoints are here"
        );
        Fault::new(Kind::NotFound, message)
    })?;
    let allow = shape.allow();
    if *method == Method::OPTIONS {
        return Ok(Way { endpoint: Endpoint::Options, allow });
    }
    match datazone::Operation::of(method, shape) {
        Some(_) => Ok(Way { endpoint: Endpoint::DataZone, allow }),
        None => Err(not_allowed(method, allow)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_its_methods_and_says_so() {
        let endpoint = |method: Method, path| find(&method, path).map(|way| way.endpoint);
        assert_eq!(endpoint(Method::POST, "/write"), Ok(Endpoint::WriteV1));
        assert_eq!(endpoint(Method::HEAD, "/ping"), Ok(Endpoint::Ping));
        assert_eq!(endpoint(Method::OPTIONS, "/write"), Ok(Endpoint::Options));
        assert_eq!(endpoint(Method::POST, "/"), Ok(Endpoint::Timestream));
        assert_eq!(endpoint(Method::GET, "/"), Ok(Endpoint::Index));
        let fault = endpoint(Method::GET, "/write").unwrap_err();
        assert_eq!(fault.kind, Kind::MethodNotAllowed { allow: "OPTIONS, POST" });
        assert_eq!(endpoint(Method::POST, "/write/").unwrap_err().status(), 404);
    }

    #[test]
    fn errors_have_the_shape_of_the_paths_family_even_where_the_path_is_unknown() {
        for (path, family) in [
            ("/write", Family::V1),
            ("/nowhere", Family::V1),
            ("/api/v2/query", Family::V2),
            ("/api/v3/query_sql", Family::V3),
            ("/api/v1/nothing", Family::Native),
            ("/api/v1", Family::V1),
            ("/äöü/äöü", Family::V1),
            ("/", Family::Timestream),
            ("/v2/domains", Family::DataZone),
            ("/v2/domains/dzd_a/projects", Family::DataZone),
            ("/v2/domainsx", Family::V1),
        ] {
            assert_eq!(family_of(&Method::POST, path), family, "{path}");
        }
    }

    #[test]
    fn allow_lists_the_methods_of_its_path() {
        for route in &ROUTES {
            let mut methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
            methods.push("OPTIONS");
            methods.sort_unstable();
            assert_eq!(methods.join(", "), route.allow, "{}", route.path);
        }
    }
}
