//! Damaged stores: the process ends with status 3, names the file and the remedy, and changes nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use reqwest::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, LIMIT, site};

const NODES: usize = 20;

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

fn client() -> reqwest::Client {
    volboot::tls::install_provider();
    reqwest::Client::builder().timeout(LIMIT).build().expect("a client")
}

fn request(daemon: &Daemon, method: Method) -> reqwest::RequestBuilder {
    let url = format!("http://{}/v1/nodes", daemon.api);
    client().request(method, url).header("X-OpenStack-Ironic-API-Version", "1.33")
}

/// Creates the nodes, each with an acknowledged write.
async fn create_nodes(daemon: &Daemon) {
    for n in 0..NODES {
        let node = json!({"driver": "fake-hardware", "name": format!("node-{n}")});
        let response = request(daemon, Method::POST).json(&node).send().await.expect("answers");
        assert!(response.status().is_success());
    }
}

/// Starts the daemon, and checks that all nodes are there.
async fn assert_whole(site: &Path) {
    let mut daemon = Daemon::start(site);
    let body: Value =
        request(&daemon, Method::GET).send().await.expect("answers").json().await.expect("JSON");
    assert_eq!(body["nodes"].as_array().map(Vec::len), Some(NODES), "{body}");
    daemon.stop();
}

/// Damages the store of a stopped daemon in several ways. Then the intact file is served whole.
async fn check_damage(site: &Path) {
    let store = site.join("store.redb");
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
        assert_refused(site);
    }
    fs::write(&store, &intact[..intact.len() / 2]).expect("writes");
    assert_refused(site);
    // Beside the history, an empty file is no new store.
    fs::write(&store, "").expect("writes");
    assert_refused(site);
    fs::write(&store, intact).expect("writes");
    assert_whole(site).await;
}

#[tokio::test]
async fn a_damaged_store_ends_the_start_with_status_3() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    create_nodes(&daemon).await;
    daemon.stop();
    check_damage(site.path()).await;
}

/// After `kill -9`, redb recovers. A repair of damage could take acknowledged writes away, so there is none.
#[tokio::test]
async fn a_store_that_was_damaged_after_a_kill_ends_the_start_with_status_3() {
    let site = site("");
    let mut daemon = Daemon::start(site.path());
    create_nodes(&daemon).await;
    daemon.kill();
    check_damage(site.path()).await;
}
