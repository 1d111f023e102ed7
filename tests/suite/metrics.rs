//! Checks that every metric in the dashboard and the alert rules exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use volboot::model::{
    BootOutcome, BootStep, DhcpAnswer, DhcpStep, RequesterFault, SourceKind, TransferOutcome,
};
use volboot::telemetry::{ConnectionReading, DhcpReading, Metrics, Reading};

/// Names of all metrics in a scrape, each counted at least once.
fn exported_names() -> BTreeSet<String> {
    let (metrics, duration) = (Metrics::new(), Duration::from_millis(1));
    metrics.count_transfer(&TransferOutcome::Complete, 1, 1, duration);
    metrics.count_dhcp_request(&DhcpStep::Discover, Some(&DhcpAnswer::Sent));
    metrics.count_boot_request(&BootOutcome::Boot, duration);
    metrics.count_resolution(&SourceKind::Cinder, duration);
    metrics.count_requester_fault(&RequesterFault::Inconclusive(String::new()));
    metrics.count_boot_report(Some(&BootStep::Hooked));
    metrics.count_cinder_call("export", "ok", duration);
    metrics.count_history_commit();
    metrics.count_history_eviction("address");
    metrics.count_http_rejection("rate_limit");
    metrics.count_login("limited");
    let connections = vec![ConnectionReading { listener: "http", open: 1, displaced: 1, refused: 1 }];
    let dhcp = Some(DhcpReading { discovery: false, events_dropped: 1 });
    let reading = Reading { machines: vec![("booted", 1)], connections, dhcp, ..Reading::default() };
    let text = metrics.encode(&reading);
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().expect("a name").to_owned()).collect()
}

/// Names of all metrics in a query or rule file.
fn queried_names(text: &str) -> BTreeSet<String> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts = text.match_indices("volboot_").map(|(at, _)| at);
    let word_starts = starts.filter(|at| !text[..*at].ends_with(is_name_char));
    word_starts.map(|at| text[at..].chars().take_while(|c| is_name_char(*c)).collect()).collect()
}

#[test]
fn dashboard_and_alerts_query_existing_metrics() {
    let exported = exported_names();
    for file in ["packaging/grafana/volboot.json", "packaging/prometheus/volboot.rules.yml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).expect("a text file");
        let queried = queried_names(&text);
        assert!(queried.len() > 5, "{file}: {queried:?}");
        let missing: Vec<_> = queried.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} queries {missing:?}, not exported by volboot:\n{exported:#?}");
    }
}

#[test]
fn the_dashboard_is_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/grafana/volboot.json");
    let text = fs::read_to_string(path).expect("a text file");
    let board: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(board["title"], "volboot");
    assert!(board["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}
