//! Concurrent clients: no lost updates and no partial reads.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Api;

/// The number of writing clients, and of rounds of each client.
const WRITERS: usize = 8;
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creations_of_one_boot_index_succeed_once() {
    let api = Arc::new(Api::new());
    let node = Arc::new(api.create_node(json!({})).await);
    let mut clients = JoinSet::new();
    for _ in 0..WRITERS {
        let (api, node) = (Arc::clone(&api), Arc::clone(&node));
        clients.spawn(async move {
            let mut created = 0;
            for index in 0..ROUNDS {
                let target =
                    json!({"node_uuid": *node, "volume_type": "iscsi", "volume_id": "v", "boot_index": index});
                match api.post("/v1/volume/targets", target).await.status {
                    201 => created += 1,
                    409 => {}
                    other => panic!("{other}"),
                }
            }
            created
        });
    }
    let created: Vec<usize> = clients.join_all().await;
    assert_eq!(created.iter().sum::<usize>(), ROUNDS);
    let all = api.get("/v1/volume/targets").await.expect(200);
    assert_eq!(all["targets"].as_array().expect("a list").len(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_during_writes_contain_each_record_once_and_complete() {
    let api = Arc::new(Api::new());
    let mut permanent = BTreeSet::new();
    for n in 0..30 {
        permanent
            .insert(api.create_node(json!({"name": format!("stays-{n}"), "extra": {"a": 0, "b": 0}})).await);
    }
    let mut clients = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, node) = (Arc::clone(&api), permanent.iter().nth(writer).expect("a node").clone());
        clients.spawn(async move {
            for round in 1..=ROUNDS {
                let temporary = api.create_node(json!({"name": format!("passes-{writer}-{round}")})).await;
                // Readers must see both changes or neither.
                let both = json!([
                    {"op": "replace", "path": "/extra/a", "value": round},
                    {"op": "replace", "path": "/extra/b", "value": round},
                ]);
                api.patch(&format!("/v1/nodes/{node}"), both).await.expect(200);
                api.delete(&format!("/v1/nodes/{temporary}")).await.expect(204);
            }
        });
    }
    for sort_key in ["id", "name"] {
        let (api, permanent) = (Arc::clone(&api), permanent.clone());
        clients.spawn(async move {
            for _ in 0..ROUNDS {
                let nodes =
                    list_all_pages(&api, &format!("/v1/nodes?limit=7&sort_key={sort_key}&fields=uuid,extra"))
                        .await;
                let uuids: BTreeSet<_> =
                    nodes.iter().map(|node| node["uuid"].as_str().expect("a UUID").to_owned()).collect();
                assert_eq!(uuids.len(), nodes.len(), "a node is listed twice");
                assert!(uuids.is_superset(&permanent), "a permanent node is missing");
                assert!(
                    nodes.iter().all(|node| node["extra"]["a"] == node["extra"]["b"]),
                    "a patch is visible in part"
                );
            }
        });
    }
    clients.join_all().await;
    assert_eq!(list_all_pages(&api, "/v1/nodes").await.len(), permanent.len());
}

/// Lists all items page by page; restarts if the marker was deleted meanwhile.
async fn list_all_pages(api: &Api, first: &str) -> Vec<Value> {
    'restart: loop {
        let (mut nodes, mut next) = (Vec::new(), Some(first.to_owned()));
        while let Some(path) = next {
            let response = api.get(&path).await;
            if response.status == 404 {
                continue 'restart;
            }
            let page = response.expect(200);
            nodes.extend_from_slice(page["nodes"].as_array().expect("a list"));
            next = page["next"].as_str().map(|url| url.replace("http://boot.example:6385", ""));
        }
        return nodes;
    }
}
