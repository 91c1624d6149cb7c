//! The dashboard against what Grafana says a dashboard is, and against the catalog of metrics.
//!
//! No registry that the tests reach has Grafana itself, so nothing here draws the page. Its types are there:
//! the dashboard is compiled as a constant of them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::Value;

use crate::common::gateway::Place;
use crate::queries::{metrics_in, panels};
use crate::server::in_repository;

const TYPES: &str = include_str!("grafana.ts");
const DASHBOARD: &str = include_str!("../../grafana/tidegate.json");

/// Metrics that neither the dashboard nor an alert shows, and why.
const UNSHOWN: [(&str, &str); 9] = [
    ("tidegate_start_time_seconds", "process_start_time_seconds says the same"),
    ("process_virtual_memory_bytes", "the log is mapped, so that it says nothing of memory"),
    ("tidegate_shard_turns_total", "for whoever works on the shards"),
    ("tidegate_engine_flushed_bytes_total", "rows are shown, and bytes of all files"),
    ("tidegate_engine_last_flush_rows", "the rate of rows is shown"),
    ("tidegate_engine_expired_bytes_total", "rows and files are shown"),
    ("tidegate_engine_deleted_files_total", "somebody deleted a table, and knows it"),
    ("tidegate_reject_removed_objects_total", "the settings say how long rejections are kept"),
    ("tidegate_reject_sweep_failures_total", "a sink that is away is shown by what it holds up"),
];

/// What the compiler of TypeScript has against each of some dashboards.
fn complaints(dashboards: &[&str]) -> Vec<String> {
    let place = Place::new("");
    let tools = in_repository("tests/.tools/grafana/node_modules");
    symlink(&tools, place.file("node_modules")).expect("a link can be made");
    let mut compiler = Command::new(in_repository("tests/.tools/node"));
    compiler.arg(format!("{tools}/typescript/bin/tsc")).current_dir(place.file("."));
    compiler.args(["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022"]);
    compiler.args(["--module", "esnext", "--moduleResolution", "bundler", "--pretty", "false"]);
    for (at, dashboard) in dashboards.iter().enumerate() {
        let file = format!("page{at}.ts");
        fs::write(place.file(&file), format!("{} =\n{dashboard}", TYPES.trim_end()))
            .expect("it can be written");
        compiler.arg(file);
    }
    let output = compiler.output().expect("node, which tests/run.sh installs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = String::from_utf8_lossy(&output.stderr);
    let of = |at| said.lines().filter(move |line| line.starts_with(&format!("page{at}.ts(")));
    let each: Vec<String> =
        (0..dashboards.len()).map(|at| of(at).collect::<Vec<_>>().join("\n")).collect();
    // 2: there are faults, each of a page; anything else says nothing of the pages.
    let is_judged = match output.status.code() {
        Some(0) => said.is_empty(),
        Some(2) => each.iter().any(|of_page| !of_page.is_empty()),
        _ => false,
    };
    assert!(is_judged, "{}: {said}{told}", output.status);
    each
}

#[test]
fn the_dashboard_is_one_by_grafanas_own_types() {
    let package = in_repository("tests/.tools/grafana/node_modules/@grafana/schema/package.json");
    let package = fs::read_to_string(package).expect("tests/run.sh installs it");
    let package: Value = serde_json::from_str(&package).expect("JSON");
    let compose = include_str!("../../packaging/docker/compose.yaml");
    let image = format!("image: grafana/grafana:{}\n", package["version"].as_str().unwrap());
    assert!(compose.contains(&image), "types of {image} are not those of compose.yaml's Grafana");

    let bent = [
        ("\"displayMode\": \"list\"", "\"displayMode\": \"lst\""),
        ("\"lineWidth\": 1", "\"lineWidht\": 1"),
        ("\"legendFormat\": ", "\"legend\": "),
        ("\"unit\": \"cps\"", "\"unit\": 7"),
        ("\"schemaVersion\": ", "\"schemaVersion\": \"\" + "),
    ];
    let bent = bent.map(|(right, wrong)| {
        assert!(DASHBOARD.contains(right), "{right}");
        DASHBOARD.replacen(right, wrong, 1)
    });
    let mut all = vec![DASHBOARD];
    all.extend(bent.iter().map(String::as_str));
    let complaints = complaints(&all);
    assert_eq!(complaints[0], "", "Grafana would not know grafana/tidegate.json");
    for (complaint, page) in complaints.iter().zip(&all).skip(1) {
        let (at, _) = page
            .lines()
            .zip(DASHBOARD.lines())
            .enumerate()
            .find(|(_, (a, b))| a != b)
            .expect("a line is bent");
        assert!(
            !complaint.is_empty(),
            "a bent line is not found: {}",
            page.lines().nth(at).unwrap()
        );
    }
}

#[test]
fn no_two_panels_lie_on_one_another() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} lies on another panel at {place:?}", panel["title"]);
        }
    }
}

/// What is measured and shown nowhere helps nobody at night.
#[test]
fn each_metric_is_shown_or_it_is_said_why_not() {
    let catalog = include_str!("../../src/metrics/catalog.rs");
    let named = |line: &str| Some(line.split_once(" = \"")?.1.split_once("\", \"")?.0.to_owned());
    let all: BTreeSet<String> = catalog.lines().filter_map(named).collect();
    assert!(all.len() > 80, "the catalog has {} metrics", all.len());
    let alerts = include_str!("../../grafana/prometheus/alerts.yml").lines();
    let of_alerts = alerts.filter_map(|line| Some(line.trim().strip_prefix("expr: ")?.to_owned()));
    let of_dashboard = panels().into_iter().flat_map(|panel| panel.expressions);
    let mut shown: BTreeSet<String> =
        of_dashboard.chain(of_alerts).flat_map(|expression| metrics_in(&expression)).collect();
    // The list of instances, and the marks of starts.
    shown.extend(["tidegate_build_info", "process_start_time_seconds"].map(str::to_owned));
    for name in &shown {
        assert!(all.contains(name), "{name} is asked for, and there is no such metric");
    }
    for name in &all {
        let is_excused = UNSHOWN.iter().any(|(unshown, _)| unshown == name);
        assert_ne!(shown.contains(name), is_excused, "{name}: shown, or in UNSHOWN, not both");
    }
    for (name, why) in UNSHOWN {
        assert!(all.contains(name) && why.len() > 12, "{name}: {why}");
    }
}
