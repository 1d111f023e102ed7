//! Damaged stores: the process ends with status 3, names the file and the remedy, and changes nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::daemon::{Daemon, LIMIT, site};

/// Runs `volboot serve`, which fails at once. If it does not, timeout(1) ends it with status 124.
fn serve(site: &Path) -> Output {
    let mut command = Command::new("timeout");
    command.arg(LIMIT.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_volboot"));
    command.args(["serve", "--config"]).arg(site.join("volboot.toml"));
    command.output().expect("the process runs")
}

/// Asserts the exit status and the message for a damaged store.
fn assert_refused(site: &Path) {
    let store = site.join("store.redb");
    let before = fs::read(&store).expect("reads");
    let output = serve(site);
    let errors = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(3), "{errors}");
    let message = format!("volboot: {} is damaged", store.display());
    assert!(errors.contains(&message) && errors.contains("volboot store import"), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(fs::read(&store).expect("reads") == before, "the file was changed");
}

#[tokio::test]
async fn a_damaged_store_ends_the_start_with_status_3() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    volboot::tls::install_provider();
    let client = reqwest::Client::builder().timeout(LIMIT).build().expect("a client");
    for n in 0..20 {
        let node = json!({"driver": "fake-hardware", "name": format!("node-{n}")});
        let url = format!("http://{}/v1/nodes", daemon.api);
        let request = client.post(url).header("X-OpenStack-Ironic-API-Version", "1.33").json(&node);
        let response = request.send().await.expect("answers");
        assert!(response.status().is_success());
    }
    daemon.stop();
    let store = site.path().join("store.redb");
    let intact = fs::read(&store).expect("reads");
    // All pages with a record, also those of older commits.
    let pages = intact.windows(7).enumerate().filter(|(_, window)| window == b"node-12").map(|(at, _)| at);
    let magic_number = (0..9).collect::<Vec<_>>();
    let commits = (64..320).collect();
    for positions in [pages.collect(), magic_number, commits] {
        let mut damaged = intact.clone();
        for at in positions {
            damaged[at] ^= 0xFF;
        }
        fs::write(&store, damaged).expect("writes");
        assert_refused(site.path());
    }
    fs::write(&store, &intact[..intact.len() / 2]).expect("writes");
    assert_refused(site.path());
    // Beside the history, an empty file is no new store.
    fs::write(&store, "").expect("writes");
    assert_refused(site.path());
    fs::write(&store, intact).expect("writes");
    Daemon::start(site.path()).stop();
}
