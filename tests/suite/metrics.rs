//! Checks that every metric in the dashboard and the alert rules exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use volboot::model::{
    BootOutcome, BootStep, BootWindowRefusal, DhcpAnswer, DhcpStep, RequesterFault, SourceKind,
    TransferOutcome,
};
use volboot::telemetry::{BootCount, ConnectionReading, DhcpReading, Metrics, Reading};

/// Names of all metrics in a scrape, each counted at least once.
fn exported_names() -> BTreeSet<String> {
    let (metrics, duration) = (Metrics::new(), Duration::from_millis(1));
    metrics.count_transfer(&TransferOutcome::Complete, 1, 1, duration);
    metrics.count_dhcp_request(&DhcpStep::Discover, Some(&DhcpAnswer::Sent));
    metrics.count_boot_request(&BootOutcome::Boot, duration);
    metrics.count_resolution(&SourceKind::Cinder, duration);
    metrics.count_requester_fault(&RequesterFault::Inconclusive(String::new()));
    metrics.count_neighbour_change();
    metrics.count_window_refusal(BootWindowRefusal::OtherSession);
    metrics.count_boot_report(Some(&BootStep::Hooked));
    metrics.count_cinder_call("export", "ok", duration);
    metrics.count_power_call("read", "ok", duration);
    metrics.observe_boot_phase("files", duration);
    metrics.observe_boot_up(false, duration);
    metrics.count_history_commit();
    metrics.count_history_eviction("address");
    metrics.count_http_rejection("rate_limit");
    metrics.count_login("limited");
    let connections = vec![ConnectionReading { listener: "http", open: 1, displaced: 1, refused: 1 }];
    let dhcp = Some(DhcpReading { discovery: false, events_dropped: 1 });
    let boots = vec![BootCount { window: "1h", result: "up", count: 1 }];
    let reading = Reading { machines: vec![("booted", 1)], boots, connections, dhcp, ..Reading::default() };
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

const DASHBOARD: &str = "packaging/grafana/volboot.json";
const ALERTS: &str = "packaging/prometheus/volboot.rules.yml";

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a text file")
}

#[test]
fn dashboard_and_alerts_query_existing_metrics() {
    let exported = exported_names();
    for file in [DASHBOARD, ALERTS] {
        let queried = queried_names(&read(file));
        assert!(queried.len() > 5, "{file}: {queried:?}");
        let missing: Vec<_> = queried.difference(&exported).collect();
        assert!(missing.is_empty(), "{file} queries {missing:?}, not exported by volboot:\n{exported:#?}");
    }
}

/// An operator who gets an alert looks at the dashboard.
#[test]
fn every_alert_has_a_panel() {
    let (shown, alerted) = (queried_names(&read(DASHBOARD)), queried_names(&read(ALERTS)));
    let missing: Vec<_> = alerted.difference(&shown).collect();
    assert!(missing.is_empty(), "{DASHBOARD} has no panel for {missing:?}");
    // What is dropped has a panel, although one of the three has no alert.
    for name in
        ["volboot_tftp_requests_dropped", "volboot_tftp_events_dropped", "volboot_history_events_dropped"]
    {
        assert!(shown.contains(name), "{DASHBOARD} has no panel for {name}");
    }
}

#[test]
fn the_dashboard_is_valid() {
    let board: serde_json::Value = serde_json::from_str(&read(DASHBOARD)).expect("JSON");
    assert_eq!(board["title"], "volboot");
    let panels = board["panels"].as_array().expect("panels");
    assert!(panels.len() > 20);
    let numbers: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("a number")).collect();
    assert_eq!(numbers.len(), panels.len(), "two panels have the same number");
    let place = |panel: &serde_json::Value| {
        ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"))
    };
    for (at, panel) in panels.iter().enumerate() {
        let [x, y, w, h] = place(panel);
        assert!(x + w <= 24, "{panel}");
        let is_beside = |other: &serde_json::Value| {
            let [ox, oy, ow, oh] = place(other);
            ox + ow <= x || x + w <= ox || oy + oh <= y || y + h <= oy
        };
        assert!(panels[..at].iter().all(is_beside), "{panel} covers another panel");
    }
}
