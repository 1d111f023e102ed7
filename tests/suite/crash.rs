//! Durability: `kill -9` at any moment loses no acknowledged write, and leaves no partial one.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::daemon::{Daemon, LIMIT, site};

const WRITERS: u32 = 8;

fn client() -> Client {
    volboot::tls::install_provider();
    Client::builder().timeout(LIMIT).build().expect("a client")
}

/// Creates nodes, each with a port, until the server is killed; returns the acknowledged ones, and signals each on
/// `progress`.
async fn create_nodes(
    api: String,
    round: u32,
    writer: u32,
    progress: mpsc::Sender<()>,
) -> Vec<(String, String)> {
    let client = client();
    let mut acknowledged = Vec::new();
    for n in 0u16.. {
        let name = format!("node-{round}-{writer}-{n}");
        let [high, low] = n.to_be_bytes();
        let address = format!("52:54:{round:02x}:{writer:02x}:{high:02x}:{low:02x}");
        let node = json!({"driver": "fake-hardware", "name": name});
        let Some(node) = create(&client, &format!("{api}/v1/nodes"), &node).await else { break };
        let port = json!({"node_uuid": node["uuid"], "address": address});
        if create(&client, &format!("{api}/v1/ports"), &port).await.is_none() {
            break;
        }
        acknowledged.push((name, address));
        // After the kill, the receiver is dropped.
        progress.send(()).await.ok();
    }
    acknowledged
}

async fn create(client: &Client, url: &str, body: &Value) -> Option<Value> {
    let request = client.post(url).header("X-OpenStack-Ironic-API-Version", "1.33").json(body);
    let response = request.send().await.ok()?;
    assert_eq!(response.status(), StatusCode::CREATED);
    response.json().await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_a_kill_at_any_moment() {
    let site = site("");
    let mut all: Vec<(String, String)> = Vec::new();
    for round in 0..4 {
        let mut daemon = Daemon::start(site.path());
        let api = format!("http://{}", daemon.api);
        check(&api, &all).await;
        let (progress, mut acknowledgements) = mpsc::channel(1);
        let writers = (0..WRITERS)
            .map(|writer| tokio::spawn(create_nodes(api.clone(), round, writer, progress.clone())));
        let writers: Vec<_> = writers.collect();
        // At a different moment in each round, in the middle of the writes.
        for _ in 0..7 + round * 5 {
            timeout(LIMIT, acknowledgements.recv()).await.expect("in time").expect("a writer is running");
        }
        daemon.kill();
        drop(acknowledgements);
        for writer in writers {
            all.extend(writer.await.expect("runs"));
        }
    }
    assert!(all.len() > 20, "only {} were acknowledged", all.len());
    let daemon = Daemon::start(site.path());
    check(&format!("http://{}", daemon.api), &all).await;
}

/// Checks that all acknowledged records exist, and that every port has its node.
async fn check(api: &str, acknowledged: &[(String, String)]) {
    let nodes = list(api, "nodes").await;
    let ports = list(api, "ports").await;
    for (name, address) in acknowledged {
        let node =
            nodes.iter().find(|node| node["name"] == **name).unwrap_or_else(|| panic!("{name} is lost"));
        let port = ports.iter().find(|port| port["address"] == **address);
        assert_eq!(port.unwrap_or_else(|| panic!("{address} is lost"))["node_uuid"], node["uuid"]);
    }
    for port in &ports {
        assert!(nodes.iter().any(|node| node["uuid"] == port["node_uuid"]), "{port} belongs to no node");
    }
}

/// Lists all records of a type, page by page.
async fn list(api: &str, kind: &str) -> Vec<Value> {
    let client = client();
    let mut all = Vec::new();
    let mut next = Some(format!("{api}/v1/{kind}/detail?limit=1000"));
    while let Some(url) = next {
        let request = client.get(url).header("X-OpenStack-Ironic-API-Version", "1.33");
        let page: Value = request.send().await.expect("answers").json().await.expect("JSON");
        all.extend(page[kind].as_array().expect("a list").iter().cloned());
        next = page["next"].as_str().map(str::to_owned);
    }
    all
}
