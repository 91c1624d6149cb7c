//! Probes, metrics, and the page that names the endpoints.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::call::Call;
use super::fault::{Fault, Kind};
use super::reply::{Reply, TEXT};
use super::{App, Health, INFLUXDB_VERSION, Readiness};

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
GET  /api/v1/export?db=&table=&from=&to=&format=   json, line, csv or parquet
GET  /query?q=                             CREATE DATABASE, SHOW DATABASES
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

/// Answers `/health`: 200 while every part is well, else 503, in the shape of `InfluxDB` 2.
pub fn health(app: &App) -> Reply {
    let components = app.status.components();
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
    let (status, health, message) = match failed {
        None => (StatusCode::OK, Health::Pass, "ready for queries and writes".to_owned()),
        Some(failed) => {
            let message = format!("{}: {}", failed.name, failed.message);
            (StatusCode::SERVICE_UNAVAILABLE, Health::Fail, message)
        }
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
    match app.status.readiness() {
        Readiness::Ready => Reply::json(StatusCode::OK, &json!({ "status": "ready" })),
        Readiness::NotReady { why } => Reply::json(
            StatusCode::SERVICE_UNAVAILABLE,
            &json!({ "status": "not ready", "message": why }),
        ),
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

/// Answers `/`.
pub fn index() -> Reply {
    Reply::full(StatusCode::OK, TEXT, INDEX)
}

const fn name_of(health: Health) -> &'static str {
    match health {
        Health::Pass => "pass",
        Health::Fail => "fail",
    }
}
