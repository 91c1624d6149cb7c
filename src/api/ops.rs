//! Probes, metrics, and the page that names the endpoints.

use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderValue, VARY};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::fault::{Fault, Kind};
use super::page;
use super::reply::{Reply, TEXT};
use super::{App, Component, Health, INFLUXDB_VERSION, Readiness};

/// The type of Prometheus' text format. Source: Prometheus documentation, "Exposition formats".
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

const INDEX: &str = concat!(
    "Tidegate ",
    env!("CARGO_PKG_VERSION"),
    "\n
POST /write?db=&rp=&precision=             InfluxDB v1 line protocol
POST /api/v2/write?bucket=&precision=      InfluxDB v2 line protocol
POST /api/v3/write_lp?db=&precision=       InfluxDB v3 line protocol
POST /api/v1/write?db=&table=&precision=   JSON, NDJSON or line protocol, by Content-Type
POST /  X-Amz-Target: Timestream_20181101.*  Amazon Timestream's Write API
/v2/domains/../time-series-data-points     Amazon DataZone's time series data points
GET  /api/v1/export?db=&table=&from=&to=&format=   json, line, csv or parquet
GET  /api/v1/rejects?db=&table=&reason=&from=&to=   what was refused, and why; /api/v1/rejects/ID
POST /api/v1/rejects/resubmit           what was refused, sent again
GET  /query?q=                             CREATE, DROP or SHOW databases and measurements
GET  /api/v1/status                        the state of the server; GET / in a browser shows it
GET  /ping  /health  /ready  /metrics
"
);

/// Answers `/ping`: 204, or 200 with the version for `verbose=true`.
///
/// # Errors
///
/// [`Fault`] 400 when `verbose` is neither true nor false.
pub fn ping(call: &Call<'_>) -> Result<Reply, Fault> {
    if call.params.flag("verbose", false)? {
        return Ok(Reply::json(StatusCode::OK, &json!({ "version": INFLUXDB_VERSION })));
    }
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Answers `/health` in the shape of `InfluxDB` 2: 503 when a part has failed, else 200.
///
/// A part that warns leaves the whole at `pass`, and is told in the message: a supervisor that asks
/// here would restart the server, which mends no sink that is away, and clients know only two words.
pub fn health(app: &App) -> Reply {
    health_of(&app.status.components())
}

fn health_of(components: &[Component]) -> Reply {
    let failed = components.iter().find(|component| component.health == Health::Fail);
    let checks: Vec<Value> = components
        .iter()
        .map(|component| {
            json!({
                "name": component.name,
                "status": name_of(component.health),
                "message": component.message,
            })
        })
        .collect();
    let warns = components.iter().find(|component| component.health == Health::Warn);
    let (status, health) = match failed {
        None => (StatusCode::OK, Health::Pass),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, Health::Fail),
    };
    let message = match failed.or(warns) {
        None => "ready for queries and writes".to_owned(),
        Some(part) => format!("{}: {}", part.name, part.message),
    };
    let body = json!({
        // Clients compare this name.
        "name": "influxdb",
        "message": message,
        "status": name_of(health),
        "checks": checks,
        "version": INFLUXDB_VERSION,
    });
    Reply::json(status, &body)
}

/// Answers `/ready`: 200 while writes can be taken, else 503 with the reason.
pub fn ready(app: &App) -> Reply {
    ready_of(app.status.readiness(), app.clock.wall_ns(), app.clock.monotonic())
}

/// With the members that clients of `InfluxDB` 2 have in their structures: since when, and for how long.
fn ready_of(readiness: Readiness, now_ns: i64, up: Duration) -> Reply {
    let started_ns = i128::from(now_ns) - i128::try_from(up.as_nanos()).unwrap_or_default();
    let started = Timestamp::from_nanosecond(started_ns).unwrap_or(Timestamp::UNIX_EPOCH);
    let (status, mut body) = match readiness {
        Readiness::Ready => (StatusCode::OK, json!({ "status": "ready" })),
        Readiness::NotReady { why } => {
            (StatusCode::SERVICE_UNAVAILABLE, json!({ "status": "not ready", "message": why }))
        }
    };
    body["started"] = started.to_string().into();
    body["up"] = in_gos_words(up).into();
    Reply::json(status, &body)
}

/// A duration as Go writes it, in whole seconds: `1h2m3s`. Source: Go, `time.Duration.String`.
fn in_gos_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// Answers `/metrics`.
///
/// # Errors
///
/// [`Fault`] 500 when metrics contradict each other, which the catalog's test excludes.
pub fn metrics(app: &App) -> Result<Reply, Fault> {
    app.status.refresh_metrics();
    let text = app.metrics.text().map_err(|error| Fault::new(Kind::Internal, error.to_string()))?;
    Ok(Reply::full(StatusCode::OK, PROMETHEUS, text))
}

/// Answers `/`: the status page to a browser, the paths that there are to everybody else.
pub fn index(call: &Call<'_>) -> Reply {
    if page::is_asked_for(call.headers) {
        return page::answer();
    }
    Reply::full(StatusCode::OK, TEXT, INDEX).with(VARY, HeaderValue::from_static("Accept"))
}

pub(super) const fn name_of(health: Health) -> &'static str {
    match health {
        Health::Pass => "pass",
        Health::Warn => "warn",
        Health::Fail => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reply::Content;

    fn shown(reply: &Reply) -> (u16, Value) {
        let Content::Full(bytes) = &reply.content else { panic!("a probe is answered in words") };
        (reply.status.as_u16(), serde_json::from_slice(bytes).unwrap())
    }

    #[test]
    fn one_part_that_fails_fails_the_whole_and_is_named() {
        let part =
            |name, health, message: &str| Component { name, health, message: message.into() };
        let wal = part("wal", Health::Pass, "42 frames");
        let (status, body) = shown(&health_of(std::slice::from_ref(&wal)));
        assert_eq!(
            (status, &body["status"], &body["name"]),
            (200, &"pass".into(), &"influxdb".into())
        );
        let engine = part("engine", Health::Fail, "cannot write");
        let (status, body) = shown(&health_of(&[wal, engine]));
        assert_eq!((status, &body["status"]), (503, &"fail".into()));
        assert_eq!(body["message"], "engine: cannot write");
        assert_eq!(body["checks"][0]["status"], "pass");
    }

    #[test]
    fn a_part_that_warns_is_told_and_fails_nothing() {
        let rejects = Component {
            name: "rejects",
            health: Health::Warn,
            message: "takes no reports".to_owned(),
        };
        let (status, body) = shown(&health_of(&[rejects]));
        assert_eq!((status, &body["status"]), (200, &"pass".into()));
        assert_eq!(body["message"], "rejects: takes no reports");
        assert_eq!(body["checks"][0]["status"], "warn");
    }

    #[test]
    fn who_is_not_ready_says_why() {
        let (now_ns, up) = (1_700_000_003_000_000_000, Duration::from_millis(3500));
        let (status, body) = shown(&ready_of(Readiness::Ready, now_ns, up));
        let expected =
            json!({ "status": "ready", "started": "2023-11-14T22:13:19.5Z", "up": "3s" });
        assert_eq!((status, body), (200, expected));
        let not_ready = Readiness::NotReady { why: "replaying".into() };
        let (status, body) = shown(&ready_of(not_ready, now_ns, up));
        assert_eq!((status, &body["message"]), (503, &"replaying".into()));
        assert_eq!((&body["status"], &body["up"]), (&"not ready".into(), &"3s".into()));
    }

    #[test]
    fn a_duration_is_written_as_go_does_it() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m0s"),
            (3599, "59m59s"),
            (3723, "1h2m3s"),
            (360_000, "100h0m0s"),
        ] {
            assert_eq!(in_gos_words(Duration::from_secs(seconds)), text);
        }
    }
}
