//! What dashboards and alerts ask for is there: every name in them is one that volboot tells.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use volboot::telemetry::{Metrics, Reading};

/// The names that a scrape has, once everything was counted at least once.
fn told() -> BTreeSet<String> {
    let (metrics, took) = (Metrics::new(), Duration::from_millis(1));
    metrics.transfer("complete", 1, 1, took);
    metrics.boot_request("boot", took);
    metrics.resolution("cinder", took);
    metrics.report("hooked");
    metrics.cinder_call("export", "ok", took);
    metrics.history_commit();
    let reading = Reading { machines: vec![("booted", 1)], ..Reading::default() };
    let text = metrics.text(&reading);
    let names = text.lines().filter(|line| !line.starts_with('#'));
    names.map(|line| line.split(['{', ' ']).next().expect("a name").to_owned()).collect()
}

/// The names that a text asks for.
fn asked(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("volboot_").map(|(at, _)| at);
    let whole = starts.filter(|at| !text[..*at].ends_with(is_part));
    whole.map(|at| text[at..].chars().take_while(|c| is_part(*c)).collect()).collect()
}

#[test]
fn dashboards_and_alerts_ask_for_what_is_told() {
    let told = told();
    for file in ["packaging/grafana/volboot.json", "packaging/prometheus/volboot.rules.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).expect("a text");
        let asked = asked(&text);
        assert!(asked.len() > 5, "{file}: {asked:?}");
        let missing: Vec<_> = asked.difference(&told).collect();
        assert!(missing.is_empty(), "{file} asks for {missing:?}, of\n{told:#?}");
    }
}

#[test]
fn the_dashboard_is_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/volboot.json");
    let text = fs::read_to_string(path).expect("a text");
    let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(board["title"], "volboot");
    assert!(board["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}
