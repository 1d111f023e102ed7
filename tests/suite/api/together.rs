//! Many clients at once: none loses what another wrote, and none sees half of anything.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Api;

/// Clients that write, and how often each does.
const WRITERS: usize = 8;
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_want_the_same_exactly_one_gets_it() {
    let api = Arc::new(Api::new());
    let node = Arc::new(api.node(json!({})).await);
    let mut clients = JoinSet::new();
    for _ in 0..WRITERS {
        let (api, node) = (Arc::clone(&api), Arc::clone(&node));
        clients.spawn(async move {
            let mut got = 0;
            for index in 0..ROUNDS {
                let target =
                    json!({"node_uuid": *node, "volume_type": "iscsi", "volume_id": "v", "boot_index": index});
                match api.post("/v1/volume/targets", target).await.status {
                    201 => got += 1,
                    409 => {}
                    other => panic!("{other}"),
                }
            }
            got
        });
    }
    let got: Vec<usize> = clients.join_all().await;
    assert_eq!(got.iter().sum::<usize>(), ROUNDS);
    let all = api.get("/v1/volume/targets").await.expect(200);
    assert_eq!(all["targets"].as_array().expect("a list").len(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lists_while_others_write_sees_each_record_once_and_whole() {
    let api = Arc::new(Api::new());
    let mut staying = BTreeSet::new();
    for n in 0..30 {
        staying.insert(api.node(json!({"name": format!("stays-{n}"), "extra": {"a": 0, "b": 0}})).await);
    }
    let mut clients = JoinSet::new();
    for writer in 0..WRITERS {
        let (api, mine) = (Arc::clone(&api), staying.iter().nth(writer).expect("a node").clone());
        clients.spawn(async move {
            for round in 1..=ROUNDS {
                let passing = api.node(json!({"name": format!("passes-{writer}-{round}")})).await;
                // Both or none.
                let both = json!([
                    {"op": "replace", "path": "/extra/a", "value": round},
                    {"op": "replace", "path": "/extra/b", "value": round},
                ]);
                api.patch(&format!("/v1/nodes/{mine}"), both).await.expect(200);
                api.delete(&format!("/v1/nodes/{passing}")).await.expect(204);
            }
        });
    }
    for sort_key in ["id", "name"] {
        let (api, staying) = (Arc::clone(&api), staying.clone());
        clients.spawn(async move {
            for _ in 0..ROUNDS {
                let seen =
                    walk(&api, &format!("/v1/nodes?limit=7&sort_key={sort_key}&fields=uuid,extra")).await;
                let uuids: BTreeSet<_> =
                    seen.iter().map(|node| node["uuid"].as_str().expect("a UUID").to_owned()).collect();
                assert_eq!(uuids.len(), seen.len(), "one was seen twice");
                assert!(uuids.is_superset(&staying), "one was not seen");
                assert!(
                    seen.iter().all(|node| node["extra"]["a"] == node["extra"]["b"]),
                    "half a change was seen"
                );
            }
        });
    }
    clients.join_all().await;
    assert_eq!(walk(&api, "/v1/nodes").await.len(), staying.len());
}

/// All items of a list, page by page. A marker that was deleted in the meantime is a reason to begin anew.
async fn walk(api: &Api, first: &str) -> Vec<Value> {
    'anew: loop {
        let (mut seen, mut next) = (Vec::new(), Some(first.to_owned()));
        while let Some(path) = next {
            let answer = api.get(&path).await;
            if answer.status == 404 {
                continue 'anew;
            }
            let page = answer.expect(200);
            seen.extend_from_slice(page["nodes"].as_array().expect("a list"));
            next = page["next"].as_str().map(|url| url.replace("http://boot.example:6385", ""));
        }
        return seen;
    }
}
