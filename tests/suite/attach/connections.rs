//! Connections of Cinder's drivers: the shapes in `tests/golden/connections.txt`, and the boot script of each.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use volboot::config::{BootConfig, FailureAction, OutagePolicy, PreflightMode, StoreOutagePolicy};
use volboot::model::{BootRequest, Mac, Platform, StorageInterface};
use volboot::script;

use super::Site;

const CONFIG: BootConfig = BootConfig {
    unknown: FailureAction::Exit,
    refused: FailureAction::Exit,
    tries: 10,
    when_cinder_is_away: OutagePolicy::Wait,
    when_store_is_away: StoreOutagePolicy::Verify,
    preflight: PreflightMode::Portals,
    last_known_max_age: Duration::ZERO,
    fallback_after: 3,
    fallback_min_uptime: Duration::ZERO,
    window: None,
    window_reboot: false,
};

/// The part of a boot script that depends on the connection: the volume's paths, or the reason of a refusal.
fn summarize(script: &str) -> String {
    let find = |start: &str| script.lines().find_map(|line| line.strip_prefix(start));
    match find("sanhook --drive 0x80 ") {
        Some(hook) => {
            let chap = if find("set username:hex ").is_some() { ", with CHAP" } else { "" };
            format!("{}{chap}", hook.trim_end_matches(" || set rc ${errno}"))
        }
        None => find("echo volboot: node web-1: ").expect("a reason").to_owned(),
    }
}

/// The summary of the boot script for a node whose boot volume has this connection.
async fn boot(connection: Value) -> String {
    let site = Site::open();
    site.cinder.add_volume("root", |volume| volume.connection = Some(connection));
    let machine = site.add_machine("web-1", &["root"]).await;
    site.add_port(&machine, 1, true).await;
    let mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
    let request = BootRequest { platform: Some(Platform::Uefi), ..BootRequest::new(mac) };
    let decision = site.boot(&[StorageInterface::Cinder]).answer(&request).await;
    let script = script::build_script(&decision.answer, &request, CONFIG).expect("the script is built");
    summarize(&script.into_text())
}

#[tokio::test]
async fn connections_of_all_drivers_become_boot_scripts_or_reasons() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/connections.txt");
    let golden = std::fs::read_to_string(&path).expect("the golden file is readable");
    let mut actual = String::new();
    for line in golden.lines() {
        let mut columns = line.splitn(3, " | ");
        if let (Some(driver), Some(json), Some(_)) = (columns.next(), columns.next(), columns.next()) {
            let connection = serde_json::from_str(json).expect("the second column is JSON");
            writeln!(actual, "{driver} | {json} | {}", boot(connection).await).expect("a string");
        } else {
            writeln!(actual, "{line}").expect("a string");
        }
    }
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).expect("the golden file is written");
        return;
    }
    for (expected, actual) in golden.lines().zip(actual.lines()) {
        assert!(actual == expected, "expected {expected}\n     got {actual}");
    }
}
