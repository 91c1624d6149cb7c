//! `/api/v1/status`: the state of the server in one JSON document, for the status page and for people with
//! `curl`. Whoever stores figures asks `/metrics`, which has all of these and more.
//!
//! | member | what |
//! |---|---|
//! | `name`, `version`, `time` | `tidegate`, its version, the wall time in RFC 3339 |
//! | `uptime_seconds` | since the start; the clock by which rates between two answers are right |
//! | `ready`, `message` | as `/ready` says |
//! | `parts` | each part that can fail: `name`, `status` (`pass`, `warn`, `fail`), `message` |
//! | `log` | the marks `checkpoint` <= `applied` <= `durable` <= `appended`; bytes in use and their limit; `oldest_unapplied_seconds` |
//! | `records` | since the start: `accepted` by protocol, `outcomes` of the engine, `refused` (before the log) and `reported` (kept in the reject sink) by reason; reasons without any are left out |
//! | `requests` | answered by status, `busy` (503) by cause, those under way and the memory that they take |
//! | `shards` | each shard's queue, records and busy seconds since the start |
//! | `latency` | `ack`, `sync`, `visible_after_ack`, `http`: `count`, `p50`, `p99`, `p999` and `max` in seconds (`null` without any), of the last `window_seconds` (`null`: since the start) |
//! | `engine`, `process`, `disks` | what they hold and take |
//!
//! Members may be added; none changes its meaning.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use jiff::Timestamp;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use serde_json::{Value, json};

use super::call::Call;
use super::fault::Fault;
use super::ops::name_of;
use super::reply::Reply;
use super::{App, Readiness};
use crate::metrics::Latency;
use crate::metrics::Metrics;

/// Answers `/api/v1/status`.
///
/// # Errors
///
/// [`Fault`] 400 for a parameter, of which it has none.
pub fn answer(app: &App, call: &Call<'_>) -> Result<Reply, Fault> {
    call.params.only(&[])?;
    app.status.refresh_metrics();
    let metrics = &app.metrics;
    metrics.read_process();
    let (ready, message) = match app.status.readiness() {
        Readiness::Ready => (true, "ready".to_owned()),
        Readiness::NotReady { why } => (false, why),
    };
    let parts: Vec<Value> = app
        .status
        .components()
        .into_iter()
        .map(|part| {
            json!({ "name": part.name, "status": name_of(part.health), "message": part.message })
        })
        .collect();
    let (wall_ns, now) = (app.clock.wall_ns(), app.clock.monotonic());
    let time = Timestamp::from_nanosecond(i128::from(wall_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    let body = json!({
        "name": "tidegate",
        "version": env!("CARGO_PKG_VERSION"),
        "time": time.to_string(),
        "uptime_seconds": now.as_secs_f64(),
        "ready": ready,
        "message": message,
        "parts": parts,
        "log": log(metrics),
        "records": records(metrics),
        "requests": requests(metrics),
        "shards": shards(metrics),
        "latency": {
            "ack": latency(&metrics.ingest_ack_duration, now),
            "sync": latency(&metrics.wal_sync_duration, now),
            "visible_after_ack": latency(&metrics.shard_visible_after_ack, now),
            "http": latency(&metrics.http_request_duration, now),
        },
        "engine": engine(metrics, wall_ns),
        "process": process(metrics),
        "disks": disks(metrics),
    });
    Ok(Reply::json(StatusCode::OK, &body))
}

fn log(metrics: &Metrics) -> Value {
    json!({
        "checkpoint": metrics.wal_checkpoint_lsn.get(),
        "applied": metrics.wal_applied_lsn.get(),
        "durable": metrics.wal_durable_lsn.get(),
        "appended": metrics.wal_appended_lsn.get(),
        "bytes": metrics.wal_size_bytes.get(),
        "bytes_max": metrics.wal_limit_bytes.get(),
        "segments": metrics.wal_segments.get(),
        "retained_bytes": metrics.wal_retained_bytes.get(),
        "pending_bytes": metrics.wal_pending_bytes.get(),
        "frames": metrics.wal_frames.get(),
        "frame_bytes": metrics.wal_frame_bytes.get(),
        "syncs": metrics.wal_syncs.get(),
        "poisoned": metrics.wal_poisoned.get() != 0,
        "oldest_unapplied_seconds": metrics.shard_oldest_unapplied_age.get(),
    })
}

fn records(metrics: &Metrics) -> Value {
    json!({
        "accepted": by_label(&metrics.ingest_records, "protocol"),
        "outcomes": by_label(&metrics.engine_outcomes, "outcome"),
        "refused": without_none(by_label(&metrics.ingest_refused, "reason")),
        "reported": without_none(by_label(&metrics.reject_records, "reason")),
    })
}

fn requests(metrics: &Metrics) -> Value {
    json!({
        "answered": by_label(&metrics.http_requests, "code"),
        "busy": without_none(by_label(&metrics.ingest_busy, "cause")),
        "connections": metrics.http_connections.get(),
        "in_flight": metrics.http_in_flight.get(),
        "in_flight_bytes": metrics.ingest_in_flight_bytes.get(),
        "in_flight_bytes_max": metrics.ingest_memory_limit_bytes.get(),
    })
}

fn shards(metrics: &Metrics) -> Vec<Value> {
    let busy = numbers(&metrics.shard_busy_seconds, "shard");
    let records = by_label(&metrics.shard_records, "shard");
    let mut queues: Vec<(String, u64)> =
        by_label(&metrics.shard_queue_frames, "shard").into_iter().collect();
    // By number, where the map has them by name: 10 behind 9, not behind 1.
    queues.sort_by_key(|(shard, _)| shard.parse::<u64>().unwrap_or(u64::MAX));
    let shown = queues.into_iter().map(|(shard, queue)| {
        json!({
            "queue_frames": queue,
            "queue_frames_max": metrics.shard_queue_limit_frames.get(),
            "records": records.get(&shard).copied().unwrap_or_default(),
            "busy_seconds": busy.get(&shard).copied().unwrap_or_default(),
            "shard": shard,
        })
    });
    shown.collect()
}

fn latency(latency: &Latency, now: Duration) -> Value {
    let recent = latency.recent(now);
    let at = |quantile: f64| recent.quantile(quantile).map(|duration| duration.as_secs_f64());
    json!({
        "count": recent.count(),
        "p50": at(0.5),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": at(1.0),
        "window_seconds": recent.window.map(|window| window.as_secs_f64()),
    })
}

fn engine(metrics: &Metrics, wall_ns: i64) -> Value {
    #[expect(clippy::cast_precision_loss, reason = "an age to the microsecond will do")]
    let now = wall_ns as f64 / 1e9;
    let last_flush = (metrics.engine_flushes.get() > 0).then(|| {
        json!({
            "ago_seconds": now - metrics.engine_last_flush_timestamp.get(),
            "seconds": metrics.engine_last_flush_duration.get(),
            "rows": metrics.engine_last_flush_rows.get(),
        })
    });
    json!({
        "memory_bytes": metrics.engine_memory_bytes.get(),
        "memory_bytes_max": metrics.engine_memory_limit_bytes.get(),
        "memory_rows": metrics.engine_memory_rows.get(),
        "series": metrics.engine_series.get(),
        "files": metrics.engine_files.get(),
        "file_bytes": metrics.engine_file_bytes.get(),
        "flushes": metrics.engine_flushes.get(),
        "flush_failures": metrics.engine_flush_failures.get(),
        "compactions": metrics.engine_compactions.get(),
        "last_flush": last_flush,
    })
}

fn process(metrics: &Metrics) -> Value {
    json!({
        "cpu_seconds": metrics.process_cpu_seconds.get(),
        "resident_bytes": metrics.process_resident_memory_bytes.get(),
        "private_bytes": metrics.server_private_memory_bytes.get(),
        "open_fds": metrics.process_open_fds.get(),
        "max_fds": metrics.process_max_fds.get(),
        "threads": metrics.process_threads.get(),
    })
}

fn disks(metrics: &Metrics) -> Vec<Value> {
    let sizes = by_label(&metrics.server_disk_size_bytes, "folder");
    let free = by_label(&metrics.server_disk_free_bytes, "folder");
    let shown = free.into_iter().map(|(folder, free)| {
        let size = sizes.get(&folder).copied().unwrap_or_default();
        json!({ "folder": folder, "free_bytes": free, "size_bytes": size })
    });
    shown.collect()
}

/// The values of a family by one of its labels; those that differ in another are added up.
fn numbers(family: &impl Collector, label: &str) -> BTreeMap<String, f64> {
    let mut numbers = BTreeMap::new();
    for metric in family.collect().iter().flat_map(MetricFamily::get_metric) {
        let pair = metric.get_label().iter().find(|pair| pair.name() == label);
        let name = pair.map(|pair| pair.value().to_owned()).unwrap_or_default();
        // One of the two is there, the other is 0.
        let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
        *numbers.entry(name).or_insert(0.0) += value;
    }
    numbers
}

/// The same of a family of whole numbers.
fn by_label(family: &impl Collector, label: &str) -> BTreeMap<String, u64> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts and sizes, shown to the 53rd bit"
    )]
    let whole = |(name, value): (String, f64)| (name, value.max(0.0) as u64);
    numbers(family, label).into_iter().map(whole).collect()
}

fn without_none(mut counts: BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    counts.retain(|_, count| *count > 0);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_added_up_by_a_label() {
        let metrics = Metrics::new().unwrap();
        for (endpoint, code, count) in
            [("ping", "204", 2), ("write", "204", 3), ("write", "400", 1)]
        {
            metrics.http_requests.with_label_values(&[endpoint, code]).inc_by(count);
        }
        let by_code = by_label(&metrics.http_requests, "code");
        assert_eq!((by_code["204"], by_code["400"], by_code.len()), (5, 1, 2));
        metrics.shard_busy_seconds.with_label_values(&["0"]).inc_by(0.25);
        assert!((numbers(&metrics.shard_busy_seconds, "shard")["0"] - 0.25).abs() < 1e-9);
        metrics.shard_queue_frames.with_label_values(&["1"]).set(7);
        assert_eq!(by_label(&metrics.shard_queue_frames, "shard")["1"], 7);
        metrics.start_reasons_at_zero(["version_lower"]);
        assert!(without_none(by_label(&metrics.reject_records, "reason")).is_empty());
    }

    #[test]
    fn shards_stand_in_the_order_of_their_numbers() {
        let metrics = Metrics::new().unwrap();
        for shard in ["10", "9", "1"] {
            metrics.shard_queue_frames.with_label_values(&[shard]).set(1);
        }
        let shards = shards(&metrics);
        let names: Vec<&str> = shards.iter().filter_map(|shard| shard["shard"].as_str()).collect();
        assert_eq!(names, ["1", "9", "10"]);
    }
}
