//! Promise: the dashboard and the alerts are true. A real Prometheus scrapes a server under load, and
//! every query of `grafana/` is asked of it: each has an answer, and the key ones have the answer that
//! the test knows, since it has sent the records.
//!
//! `tests/run.sh` unpacks Prometheus into `tests/.tools`; without it these tests fail.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]
#![expect(clippy::panic, reason = "helpers of tests")]

#[path = "common/mod.rs"]
mod common;
#[path = "prometheus/grafana.rs"]
mod grafana;
#[path = "prometheus/load.rs"]
mod load;
#[path = "prometheus/queries.rs"]
mod queries;
#[path = "prometheus/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::gateway::{Gateway, Place};
use common::{tell, wait_for};
use load::Load;
use queries::{Panel, metrics_in, panels, split_comparison};
use server::{Prometheus, in_repository, promtool};

/// What a panel's rates look back on: several scrapes.
const RATE_INTERVAL: &str = "10s";

/// How long the load lasts before it is looked at: longer than [`RATE_INTERVAL`].
const LOAD_LASTS: Duration = Duration::from_secs(14);

/// Longest time until a change of the server is seen by Prometheus, on a busy machine.
const SEEN_MAX: Duration = Duration::from_mins(1);

/// Protocols that the load uses; ratios of the others have nothing to divide.
const USED: [&str; 3] = ["line", "json", "timestream"];

/// Flushes every second, so that their panels have something to show.
const SETTINGS: &str = "[engine.embedded]\nflush_interval = \"1s\"\n";

#[test]
fn the_rules_are_sound_and_each_alert_fires_when_it_should_and_only_then() {
    let checked =
        promtool(&["check", "config", &in_repository("grafana/prometheus/prometheus.yml")]);
    assert!(checked.contains("is valid prometheus config file syntax"), "{checked}");
    let tested = promtool(&["test", "rules", &in_repository("tests/prometheus/alerts.yml")]);
    assert!(tested.contains("SUCCESS"), "{tested}");
    // The test above compares all that fires, so an alert that it never expects is not tested.
    let tests = fs::read_to_string(in_repository("tests/prometheus/alerts.yml")).unwrap();
    let readme = fs::read_to_string(in_repository("README.md")).unwrap();
    let rules = fs::read_to_string(in_repository("grafana/prometheus/alerts.yml")).unwrap();
    let names: Vec<&str> =
        rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in names {
        assert!(tests.contains(&format!("alertname=\"{name}\", instance=\"sick\"")), "{name}");
        assert!(
            readme.contains(&format!("\n### {name}\n")),
            "README does not tell what {name} means"
        );
        assert!(rules.contains(&format!("runbook: README.md#{}", name.to_lowercase())), "{name}");
    }
}

#[test]
fn every_query_of_dashboard_and_alerts_is_answered_and_right() {
    let place = Place::new(SETTINGS);
    let gateway = place.start();
    let prometheus = Prometheus::start(&place, gateway.address);
    let load = Load::start(gateway.address);
    load.run_for(LOAD_LASTS);
    every_panel_has_data(&prometheus, &gateway);
    rates_are_those_of_the_load(&prometheus, &gateway, &load);
    every_alert_can_be_asked(&prometheus);
    let sent = load.stop();
    tell(format!("sent: {sent:?}"));
    assert!(sent.requests > 100, "too little to prove anything: {sent:?}");
    gateway.settle();
    totals_are_what_was_sent(&prometheus, &gateway, &sent);
    every_metric_of_the_catalog_is_there(&gateway);
    promtool_finds_nothing_to_blame(&gateway);
    a_sink_that_is_away_is_alerted(&prometheus, &place, &gateway);
    gateway.stop();
    wait_for("the alert for a server that is gone", SEEN_MAX, || {
        prometheus.alerts().contains("TidegateDown").then_some(())
    });
}

/// Nothing is handed to a shard before the engine says where to begin, so nobody but the log knows the age.
#[test]
fn what_waits_for_an_engine_that_never_came_grows_old() {
    // Nobody listens on port 1.
    let settings =
        "[engine]\nkind = \"postgres\"\n[engine.postgres]\nhost = \"127.0.0.1\"\nport = 1\n";
    let place = Place::new(settings);
    let gateway = place.start();
    let age = |gateway: &Gateway| gateway.metric("tidegate_shard_oldest_unapplied_age_seconds");
    assert!(age(&gateway).abs() < f64::EPSILON, "nothing waits");
    gateway.write("fleet", "cpu,host=a usage=1 1");
    let first = wait_for("the age", SEEN_MAX, || Some(age(&gateway)).filter(|age| *age > 0.0));
    gateway.write("fleet", "cpu,host=a usage=2 2");
    wait_for("the age to be that of the first", SEEN_MAX, || {
        (age(&gateway) > first + 1.0).then_some(())
    });
    let shown = gateway.client().get("/metrics").unwrap().text();
    assert!(shown.contains("tidegate_server_component_up{component=\"engine\"} 0\n"), "{shown}");
    assert!(shown.contains("tidegate_server_component_up{component=\"wal\"} 1\n"), "{shown}");
}

fn every_panel_has_data(prometheus: &Prometheus, gateway: &Gateway) {
    let instance = gateway.address.to_string();
    let shown = gateway.client().get("/metrics").unwrap().text();
    let panels = panels();
    assert!(panels.len() > 40, "the dashboard has {} panels", panels.len());
    let mut asked = 0;
    for Panel { title, expressions, .. } in &panels {
        for expression in expressions {
            for name in metrics_in(expression) {
                assert!(shown.contains(&format!("# TYPE {name} ")), "{title}: no metric {name}");
            }
            let variants: &[&str] = if expression.contains("$protocol") {
                &["line", "json", "timestream", "datazone", "batch"]
            } else {
                &[""]
            };
            for protocol in variants {
                let query = expression
                    .replace("$__rate_interval", RATE_INTERVAL)
                    .replace("$instance", &instance)
                    .replace("$protocol", protocol);
                assert!(!query.contains('$'), "{title}: an unknown variable in {query}");
                let values = prometheus.ask(&query);
                assert!(!values.is_empty(), "{title}: no data: {query}");
                if protocol.is_empty() || USED.contains(protocol) {
                    let is_number = values.iter().all(|value| value.is_finite());
                    assert!(is_number, "{title}: {values:?}: {query}");
                }
                asked += 1;
            }
        }
    }
    tell(format!("{} panels, {asked} queries", panels.len()));
}

/// The stat panels and others that have one true value.
fn rates_are_those_of_the_load(prometheus: &Prometheus, gateway: &Gateway, load: &Load) {
    let panels = panels();
    let instance = gateway.address.to_string();
    let of = |title: &str| {
        let panel = panels.iter().find(|panel| panel.title == title);
        let expression = &panel.unwrap_or_else(|| panic!("no panel {title}")).expressions[0];
        let query =
            expression.replace("$__rate_interval", RATE_INTERVAL).replace("$instance", &instance);
        prometheus.ask(&query).iter().sum::<f64>()
    };
    let near = |title: &str, expected: f64, off: f64| {
        let found = of(title);
        let is_near = (found - expected).abs() <= expected * off;
        assert!(is_near, "{title}: {found}, expected about {expected}");
        tell(format!("{title}: {found:.4}, expected about {expected:.4}"));
    };
    let rates = load.rates();
    near("Ready", 1.0, 0.0);
    near("Records in", rates.accepted, 0.35);
    near("Records in, by protocol", rates.accepted, 0.35);
    near("Records applied, by outcome", rates.accepted, 0.35);
    near("Rejected", rates.rejected / rates.decoded, 0.1);
    near("Share that is rejected", rates.rejected / rates.decoded, 0.1);
    let [size, limit] =
        ["size", "limit"].map(|of| gateway.metric(&format!("tidegate_wal_{of}_bytes")));
    near("Log in use", size / limit, 0.0);
    // The disk's syncs are in every acknowledgement, and a second is an age.
    let ack = of("Acknowledged within (p99)");
    assert!(ack > 0.0 && ack < 10.0, "{ack}");
    let age = of("Oldest not applied");
    assert!((0.0..60.0).contains(&age), "{age}");
}

/// Each expression is one of our metrics, compared: the left side has data whether or not it fires.
fn every_alert_can_be_asked(prometheus: &Prometheus) {
    let rules = prometheus.rules();
    assert!(rules.len() >= 8, "{} rules", rules.len());
    for (name, query) in &rules {
        let asked = split_comparison(query);
        let values = prometheus.ask(asked);
        assert!(!values.is_empty(), "{name}: no data: {asked}");
        // The load is refused in part, and nothing else is wrong, but that the disk is whose it is.
        if name != "TidegateDiskSpace" {
            let fires = !prometheus.ask(query).is_empty();
            assert_eq!(fires, name == "TidegateRejects", "{name}: {query}");
        }
    }
}

fn totals_are_what_was_sent(prometheus: &Prometheus, gateway: &Gateway, sent: &load::Sent) {
    let known: Vec<(String, u64)> = vec![
        (r#"sum(tidegate_ingest_records_total{protocol="line"})"#.into(), sent.line + 1),
        (r#"sum(tidegate_ingest_records_total{protocol="json"})"#.into(), sent.json),
        (r#"sum(tidegate_ingest_records_total{protocol="timestream"})"#.into(), sent.timestream),
        (
            r#"sum(tidegate_ingest_refused_records_total{reason="no_measure"})"#.into(),
            sent.bad_lines,
        ),
        (r#"sum(tidegate_reject_records_total{reason="no_measure"})"#.into(), sent.bad_lines),
        (r#"sum(tidegate_reject_records_total{reason="version_conflict"})"#.into(), sent.conflicts),
        ("sum(tidegate_reject_records_total)".into(), sent.bad_lines + sent.conflicts),
        (r#"sum(tidegate_engine_outcomes_total{outcome="rejected"})"#.into(), sent.conflicts),
        ("sum(tidegate_ingest_decoded_records_total)".into(), sent.decoded() + 1),
        ("sum(tidegate_ingest_requests_total)".into(), sent.requests + 1),
        ("tidegate_wal_frames_total".into(), sent.requests + 1),
        ("tidegate_wal_appended_lsn".into(), sent.requests + 1),
        ("tidegate_wal_applied_lsn".into(), sent.requests + 1),
        ("sum(tidegate_shard_records_total)".into(), sent.accepted() + 1),
        ("tidegate_ingest_ack_duration_seconds_count".into(), sent.requests + 1),
        ("tidegate_shard_oldest_unapplied_age_seconds".into(), 0),
    ];
    for (query, expected) in &known {
        let expected = expected.to_string();
        // A scrape a second: the last one is not of now.
        wait_for(
            &format!("{query} to be {expected}, which {:?} is not", prometheus.ask(query)),
            SEEN_MAX,
            || {
                let found = prometheus.ask(query);
                (found.len() == 1 && found[0].to_string() == expected).then_some(())
            },
        );
    }
    // All bodies that were read are writes, but for those that made the table.
    let others =
        "sum(tidegate_http_inflated_body_bytes_total) - sum(tidegate_ingest_body_bytes_total)";
    assert_eq!(prometheus.ask(others)[0].to_string(), sent.other_bytes.to_string());
    // Flushed, by files that are there.
    assert!(prometheus.ask("tidegate_engine_flushed_rows_total")[0] > 0.0);
    assert!(prometheus.ask("time() - tidegate_engine_last_flush_timestamp_seconds")[0] < 120.0);
    assert!(prometheus.ask("tidegate_engine_flush_seconds_total")[0] > 0.0);
    // What the system says of the process from outside.
    let private = prometheus.ask("tidegate_server_private_memory_bytes")[0];
    #[expect(clippy::cast_precision_loss, reason = "compared by halves")]
    let outside = gateway.private_bytes() as f64;
    assert!(private > outside / 2.0 && private < outside * 2.0, "{private} and {outside}");
}

fn every_metric_of_the_catalog_is_there(gateway: &Gateway) {
    let shown = gateway.client().get("/metrics").unwrap().text();
    let catalog = fs::read_to_string(in_repository("src/metrics/catalog.rs")).unwrap();
    let named = |line: &str| {
        let (_, rest) = line.split_once(" = \"")?;
        let (name, help) = rest.split_once("\", \"")?;
        let help = help.strip_suffix("\";")?;
        Some((name.to_owned(), help.to_owned()))
    };
    let metrics: Vec<(String, String)> = catalog.lines().filter_map(named).collect();
    assert!(metrics.len() > 80, "the catalog has {} metrics", metrics.len());
    for (name, help) in &metrics {
        let line = format!("# HELP {name} {help}\n");
        assert!(shown.contains(&line), "{name} is not in /metrics, or says something else");
        assert!(help.len() > 12 && !help.starts_with("Their "), "{name}: {help:?} tells nothing");
    }
    let in_catalog: BTreeSet<&str> = metrics.iter().map(|(name, _)| name.as_str()).collect();
    for name in shown.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(in_catalog.contains(name), "{name} is not in the catalog");
    }
}

fn promtool_finds_nothing_to_blame(gateway: &Gateway) {
    let shown = gateway.client().get("/metrics").unwrap().text();
    let blamed = server::promtool_reads(&["check", "metrics"], shown.as_bytes());
    assert_eq!(blamed, "", "promtool check metrics");
}

/// The folder of the reports becomes a file: nothing can be written there until it is a folder again.
fn a_sink_that_is_away_is_alerted(prometheus: &Prometheus, place: &Place, gateway: &Gateway) {
    let sink = place.data().join("rejects");
    let aside = place.data().join("rejects-aside");
    #[expect(clippy::disallowed_methods, reason = "nothing durable: a test hides a folder")]
    fs::rename(&sink, &aside).unwrap();
    fs::write(&sink, "in the way").unwrap();
    let reply = gateway.client().post("/write?db=away", &[], b"bad,line=here").unwrap();
    assert_eq!(reply.status, 400, "{}", reply.text());
    wait_for("the alert for the reject sink", SEEN_MAX, || {
        prometheus.alerts().contains("TidegateRejectSinkAway").then_some(())
    });
    wait_for("the frame to grow old", SEEN_MAX, || {
        let age = prometheus.ask("tidegate_shard_oldest_unapplied_age_seconds")[0];
        (age > 1.0).then_some(())
    });
    fs::remove_file(&sink).unwrap();
    #[expect(clippy::disallowed_methods, reason = "nothing durable: a test shows a folder again")]
    fs::rename(&aside, &sink).unwrap();
    wait_for("the alert to end", SEEN_MAX, || {
        let ends = !prometheus.alerts().contains("TidegateRejectSinkAway");
        (ends && prometheus.ask("tidegate_shard_oldest_unapplied_age_seconds") == [0.0])
            .then_some(())
    });
}
