//! The queries of the dashboard, and what stands in them.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::server::in_repository;

/// One panel of the dashboard.
pub(crate) struct Panel {
    pub(crate) title: String,
    pub(crate) expressions: Vec<String>,
}

/// All panels that ask something. Each must be one that Grafana can show: a place, a unit, a text, and the data
/// source that the reader has chosen.
pub(crate) fn panels() -> Vec<Panel> {
    let text = fs::read_to_string(in_repository("grafana/tidegate.json")).expect("it can be read");
    let dashboard: Value = serde_json::from_str(&text).expect("the dashboard is JSON");
    // What Grafana writes when a dashboard is exported for others cannot be provisioned.
    assert!(dashboard.get("__inputs").is_none() && dashboard["id"].is_null(), "not provisionable");
    assert_eq!(dashboard["uid"], "tidegate");
    let variables = dashboard["templating"]["list"].as_array().expect("it has variables");
    let kinds: Vec<_> = variables.iter().map(|v| (&v["name"], &v["type"])).collect();
    assert!(kinds.contains(&(&"datasource".into(), &"datasource".into())), "{kinds:?}");
    assert!(kinds.contains(&(&"instance".into(), &"query".into())), "{kinds:?}");
    let all = dashboard["panels"].as_array().expect("it has panels");
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), all.len(), "two panels have one id");
    all.iter().filter(|panel| panel["type"] != "row").map(panel).collect()
}

fn panel(panel: &Value) -> Panel {
    let title = panel["title"].as_str().expect("a panel has a title").to_owned();
    assert!(panel["description"].as_str().is_some_and(|text| text.len() > 8), "{title}: no text");
    assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: no unit");
    let place = &panel["gridPos"];
    let at = |key: &str| place[key].as_u64().unwrap_or_else(|| panic!("{title}: no {key}"));
    assert!(at("w") > 0 && at("h") > 0 && at("x") + at("w") <= 24, "{title}: {place}");
    let targets = panel["targets"].as_array().expect("a panel asks something");
    for target in targets {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
        let query = target["expr"].as_str().unwrap_or_default();
        assert!(query.contains("$instance"), "{title} asks all instances: {query}");
    }
    let query = |target: &Value| target["expr"].as_str().map(str::to_owned);
    let expressions: Vec<String> = targets.iter().filter_map(query).collect();
    assert!(!expressions.is_empty(), "{title} asks nothing");
    Panel { title, expressions }
}

/// The families of our metrics that a query names.
pub(crate) fn metrics_in(query: &str) -> BTreeSet<String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !is_of_name(c));
    let ours = words.filter(|word| word.starts_with("tidegate_") || word.starts_with("process_"));
    let family = |word: &str| {
        let ends = ["_bucket", "_sum", "_count"];
        let bare =
            ends.iter().find_map(|end| word.strip_suffix(end).filter(|b| b.ends_with("_seconds")));
        bare.unwrap_or(word).to_owned()
    };
    ours.map(family).collect()
}

/// What an alert compares: the part before its last comparison.
pub(crate) fn split_comparison(query: &str) -> &str {
    let at = [" > ", " < ", " == "].iter().filter_map(|operator| query.rfind(operator)).max();
    &query[..at.unwrap_or_else(|| panic!("compares nothing: {query}"))]
}

#[test]
fn a_query_is_taken_apart() {
    let names: Vec<_> = metrics_in("a(tidegate_x_seconds_bucket{b=\"c\"}[1s]) / process_y_total")
        .into_iter()
        .collect();
    assert_eq!(names, ["process_y_total", "tidegate_x_seconds"]);
    assert_eq!(split_comparison("rate(a[5m]) / (b > 0) > 0.1"), "rate(a[5m]) / (b > 0)");
}
