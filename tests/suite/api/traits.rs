//! Traits of nodes: replaced, added, removed, and compared with the traits that an instance requests.

use serde_json::{Value, json};
use volboot::model::{Node, ProvisionState, StorageInterface};

use super::states::create_bootable_node;
use super::{Api, LATEST};

async fn traits(api: &Api) -> Value {
    let alone = api.get("/v1/nodes/n/traits").await.expect(200)["traits"].clone();
    let fields = api.get("/v1/nodes/n?fields=traits").await.expect(200);
    assert_eq!(fields["traits"], alone);
    alone
}

#[tokio::test]
async fn traits_are_replaced_added_and_removed() {
    let api = Api::new();
    api.create_node(json!({"name": "n"})).await;
    assert_eq!(traits(&api).await, json!([]));
    let all = json!({"traits": ["HW_CPU_X86_VMX", "CUSTOM_B", "CUSTOM_B"]});
    let replaced = api.put("/v1/nodes/n/traits", all).await;
    assert_eq!((replaced.headers.get("location"), replaced.headers.get("content-type")), (None, None));
    replaced.expect(204);
    assert_eq!(traits(&api).await, json!(["CUSTOM_B", "HW_CPU_X86_VMX"]));
    for _ in 0..2 {
        let added = api.put("/v1/nodes/n/traits/CUSTOM_A", Value::Null).await;
        assert_eq!(added.header("location"), "http://boot.example:6385/v1/nodes/n/traits/CUSTOM_A");
        added.expect(204);
    }
    assert_eq!(traits(&api).await, json!(["CUSTOM_A", "CUSTOM_B", "HW_CPU_X86_VMX"]));
    api.delete("/v1/nodes/n/traits/CUSTOM_B").await.expect(204);
    let node = api.get("/v1/nodes/n").await.expect(200);
    assert_eq!(
        (&node["traits"], &node["updated_at"]),
        (&json!(["CUSTOM_A", "HW_CPU_X86_VMX"]), &Value::Null)
    );
    assert_eq!(
        api.delete("/v1/nodes/n/traits/CUSTOM_B").await.expect_fault(404),
        format!("Node {} doesn't have a trait 'CUSTOM_B'", node["uuid"].as_str().expect("a UUID"))
    );
    let page = api.get("/v1/nodes?fields=uuid,traits").await.expect(200);
    assert_eq!(page["nodes"][0]["traits"], node["traits"]);
    api.delete("/v1/nodes/n/traits").await.expect(204);
    api.delete("/v1/nodes/n/traits").await.expect(204);
    assert_eq!(traits(&api).await, json!([]));
}

#[tokio::test]
async fn invalid_traits_change_nothing() {
    let api = Api::new();
    api.create_node(json!({"name": "n"})).await;
    api.put("/v1/nodes/n/traits/CUSTOM_A", json!({})).await.expect(204);
    for name in ["CUSTOM_a", "CUSTOM_", "RACK", "HW_", "CUSTOM_%C3%84", "a"] {
        let text = api.put(&format!("/v1/nodes/n/traits/{name}"), Value::Null).await.expect_fault(400);
        assert!(text.contains("is no trait"), "{text}");
    }
    for body in [
        json!({}),
        json!({"traits": null}),
        json!({"traits": "CUSTOM_B"}),
        json!({"traits": [1]}),
        json!({"traits": ["CUSTOM_B", "b"]}),
        json!({"traits": ["CUSTOM_B"], "more": 1}),
        json!(["CUSTOM_B"]),
    ] {
        assert_eq!(api.put("/v1/nodes/n/traits", body.clone()).await.status, 400, "{body}");
    }
    for body in [json!({"traits": ["CUSTOM_B"]}), json!({"x": 1}), json!([1])] {
        assert_eq!(api.put("/v1/nodes/n/traits/CUSTOM_B", body.clone()).await.status, 400, "{body}");
    }
    let patch = json!([{"op": "add", "path": "/traits", "value": ["CUSTOM_B"]}]);
    api.patch("/v1/nodes/n", patch).await.expect_fault(400);
    api.post("/v1/nodes", json!({"driver": "fake-hardware", "traits": []})).await.expect_fault(400);
    api.get("/v1/nodes?sort_key=traits").await.expect_fault(400);
    for (method, path, status_before) in [
        ("GET", "/v1/nodes/missing/traits", 406),
        ("PUT", "/v1/nodes/missing/traits", 405),
        ("DELETE", "/v1/nodes/missing/traits", 404),
        ("PUT", "/v1/nodes/missing/traits/CUSTOM_A", 405),
        ("DELETE", "/v1/nodes/missing/traits/CUSTOM_A", 404),
    ] {
        let body = if path.ends_with("traits") { json!({"traits": []}) } else { Value::Null };
        api.send(method, path, body).await.expect_fault(404);
        let earlier = api.with_version("1.36").send(method, path, Value::Null).await;
        let text = earlier.expect_fault(status_before);
        assert!(status_before == 405 || text.ends_with("should be 1.37"), "{text}");
    }
    assert_eq!(traits(&api).await, json!(["CUSTOM_A"]));
    assert_eq!(api.with_version("1.36").get("/v1/nodes/n?fields=traits").await.status, 406);
    assert_eq!(api.with_version("1.36").get("/v1/nodes/n").await.expect(200).get("traits"), None);
}

#[tokio::test]
async fn a_node_has_at_most_50_traits() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let names = |count| (0..count).map(|number| format!("CUSTOM_{number}")).collect::<Vec<_>>();
    let refusal = format!(
        "Could not modify traits for node {node} as it would exceed the maximum number of traits per node (51 vs. 50)"
    );
    let refused = api.put("/v1/nodes/n/traits", json!({"traits": names(51)})).await;
    assert_eq!(refused.expect_fault(400), refusal);
    api.put("/v1/nodes/n/traits", json!({"traits": names(50)})).await.expect(204);
    api.put("/v1/nodes/n/traits/CUSTOM_7", Value::Null).await.expect(204);
    assert_eq!(api.put("/v1/nodes/n/traits/CUSTOM_A", Value::Null).await.expect_fault(400), refusal);
    assert_eq!(traits(&api).await.as_array().expect("a list").len(), 50);
}

#[tokio::test]
async fn traits_of_a_locked_node_stay() {
    let mut inventory = None;
    let api = Api::with(|operator| inventory = Some(operator.inventory.clone()));
    let inventory = inventory.expect("the API's inventory");
    let uuid = "00000000-0000-0000-0000-000000000001".parse().expect("a UUID");
    let now = "2026-01-02T03:04:05Z".parse().expect("a time");
    let node = Node {
        name: Some("n".into()),
        traits: ["CUSTOM_A".parse().expect("a trait")].into(),
        provision_state: ProvisionState::Deploying,
        ..Node::new(uuid, "fake-hardware", StorageInterface::Noop, now)
    };
    inventory.create(&node).await.expect("a node");
    for (method, path, body) in [
        ("PUT", "/v1/nodes/n/traits", json!({"traits": []})),
        ("PUT", "/v1/nodes/n/traits/CUSTOM_B", Value::Null),
        ("DELETE", "/v1/nodes/n/traits", Value::Null),
        ("DELETE", "/v1/nodes/n/traits/CUSTOM_A", Value::Null),
    ] {
        assert_eq!(
            api.send(method, path, body).await.expect_fault(409),
            format!(
                "Node {uuid} is locked by host volboot, please retry after the current operation is completed."
            )
        );
    }
    assert_eq!(traits(&api).await, json!(["CUSTOM_A"]));
}

#[tokio::test]
async fn an_instance_may_request_only_traits_of_the_node() {
    for storage in ["noop", "external"] {
        expect_traits_of_the_node(storage).await;
    }
}

async fn expect_traits_of_the_node(storage: &str) {
    let api = Api::new().with_version(LATEST);
    let node = create_bootable_node(&api).await;
    let patch = json!([
        {"op": "add", "path": "/name", "value": "n"},
        {"op": "add", "path": "/storage_interface", "value": storage},
    ]);
    api.patch(&format!("/v1/nodes/{node}"), patch).await.expect(200);
    for verb in ["manage", "provide"] {
        api.put("/v1/nodes/n/states/provision", json!({"target": verb})).await.expect(202);
    }
    let request =
        json!([{"op": "add", "path": "/instance_info", "value": {"traits": ["CUSTOM_A", "CUSTOM_B"]}}]);
    api.patch("/v1/nodes/n", request).await.expect(200);
    api.put("/v1/nodes/n/traits/CUSTOM_B", Value::Null).await.expect(204);
    let missing = format!(
        "Cannot specify instance traits that are not also set on the node. Node {node} is missing traits CUSTOM_A"
    );
    let report = api.get("/v1/nodes/n/validate").await.expect(200);
    assert_eq!(report["deploy"], json!({"result": false, "reason": missing}));
    let deploy = json!({"target": "active"});
    let refused = api.put("/v1/nodes/n/states/provision", deploy.clone()).await.expect_fault(400);
    assert!(refused.ends_with(&missing), "{refused}");
    api.put("/v1/nodes/n/traits/CUSTOM_A", Value::Null).await.expect(204);
    let report = api.get("/v1/nodes/n/validate").await.expect(200);
    assert_eq!(report["deploy"]["result"], true);
    api.put("/v1/nodes/n/states/provision", deploy).await.expect(202);
}
