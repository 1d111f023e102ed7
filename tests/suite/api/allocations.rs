//! Allocations: the reservation of available nodes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Api, column};

const LARGE: &str = "large";

/// Creates an available node of class `large`, switched off.
async fn create_available_node(api: &Api, name: &str) -> String {
    let node = api.create_node(json!({"name": name, "resource_class": LARGE})).await;
    for verb in ["manage", "provide"] {
        let path = format!("/v1/nodes/{node}/states/provision");
        api.put(&path, json!({"target": verb})).await.expect(202);
    }
    switch_off(api, &node).await;
    node
}

async fn switch_off(api: &Api, node: &str) {
    api.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": "power off"})).await.expect(202);
}

async fn set_provision_state(api: &Api, node: &str, verb: &str) -> u16 {
    api.put(&format!("/v1/nodes/{node}/states/provision"), json!({"target": verb})).await.status
}

/// Creates an allocation, and returns its state afterwards.
async fn allocate(api: &Api, body: Value) -> Value {
    let created = api.post("/v1/allocations", body).await.expect(201);
    api.get(&format!("/v1/allocations/{}", created["uuid"].as_str().expect("a UUID"))).await.expect(200)
}

#[tokio::test]
async fn an_allocation_reserves_a_node() {
    let api = Api::new();
    let node = create_available_node(&api, "n1").await;
    let uuid = "3bf138ba-6d71-44e7-b6a1-ca9cac17103e";
    let body = json!({
        "uuid": uuid,
        "name": "web",
        "resource_class": LARGE,
        "candidate_nodes": ["n1"],
        "extra": {"ticket": 7},
    });
    let response = api.post("/v1/allocations", body).await;
    assert_eq!(response.header("location"), format!("http://boot.example:6385/v1/allocations/{uuid}"));
    let mut created = response.expect(201);
    assert!(created["created_at"].take().is_string());
    let expected = json!({
        "uuid": uuid,
        "name": "web",
        "resource_class": LARGE,
        "candidate_nodes": [node],
        "traits": [],
        "extra": {"ticket": 7},
        "state": "allocating",
        "node_uuid": null,
        "last_error": null,
        "created_at": null,
        "updated_at": null,
        "links": [
            {"rel": "self", "href": format!("http://boot.example:6385/v1/allocations/{uuid}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/allocations/{uuid}")},
        ],
    });
    assert_eq!(created, expected, "without the result, as Ironic's");
    let mut active = api.get("/v1/allocations/web").await.expect(200);
    assert!(active["created_at"].take().is_string() && active["updated_at"].take().is_string());
    let mut expected = expected;
    (expected["state"], expected["node_uuid"]) = ("active".into(), node.clone().into());
    assert_eq!(active, expected);
    for path in [format!("/v1/nodes/{node}/allocation"), "/v1/nodes/n1/allocation?fields=uuid".into()] {
        assert_eq!(api.get(&path).await.expect(200)["uuid"], uuid, "{path}");
    }
    let shown = api.get("/v1/nodes/n1").await.expect(200);
    let values = ["instance_uuid", "allocation_uuid", "instance_info"].map(|key| &shown[key]);
    assert_eq!(json!(values), json!([uuid, uuid, {"traits": []}]));
    assert!(api.with_version("1.51").get("/v1/nodes/n1").await.expect(200).get("allocation_uuid").is_none());
    // The node is taken.
    let failed = allocate(&api, json!({"resource_class": LARGE})).await;
    assert_eq!((&failed["state"], &failed["node_uuid"]), (&json!("error"), &Value::Null));
    assert_eq!(
        failed["last_error"],
        format!(
            "Failed to process allocation {}: no available nodes match the resource class large.",
            failed["uuid"].as_str().expect("a UUID")
        )
    );
}

#[tokio::test]
async fn traits_and_power_state_decide() {
    let api = Api::new();
    let plain = create_available_node(&api, "plain").await;
    let fast = create_available_node(&api, "fast").await;
    api.put("/v1/nodes/fast/traits", json!({"traits": ["CUSTOM_FAST", "HW_CPU_X86_VMX"]})).await.expect(204);
    let missing = allocate(&api, json!({"resource_class": LARGE, "traits": ["CUSTOM_SLOW"]})).await;
    let text = missing["last_error"].as_str().expect("a reason");
    assert!(text.ends_with("no suitable nodes have the requested traits CUSTOM_SLOW."), "{text}");
    let body = json!({"resource_class": LARGE, "traits": ["CUSTOM_FAST"], "candidate_nodes": [plain, fast]});
    let active = allocate(&api, body).await;
    assert_eq!((&active["node_uuid"], &active["traits"]), (&json!(fast), &json!(["CUSTOM_FAST"])));
    let info = api.get("/v1/nodes/fast?fields=instance_info").await.expect(200)["instance_info"].clone();
    assert_eq!(info, json!({"traits": ["CUSTOM_FAST"]}));
    let repeated = json!({
        "resource_class": "small", "traits": ["CUSTOM_B", "CUSTOM_A", "CUSTOM_B"], "candidate_nodes": [fast, fast],
    });
    let once = api.post("/v1/allocations", repeated).await.expect(201);
    assert_eq!(
        (&once["traits"], &once["candidate_nodes"]),
        (&json!(["CUSTOM_B", "CUSTOM_A"]), &json!([fast]))
    );
    let elsewhere = allocate(&api, json!({"resource_class": "small", "candidate_nodes": ["plain"]})).await;
    let text = elsewhere["last_error"].as_str().expect("a reason");
    assert!(text.contains("none of the requested nodes are available"), "{text}");
}

#[tokio::test]
async fn a_deletion_frees_the_node_unless_it_is_active() {
    let api = Api::new();
    let node = create_available_node(&api, "n1").await;
    let allocation = json!({"resource_class": LARGE, "name": "web"});
    for path in ["/v1/allocations/web", "/v1/nodes/n1/allocation"] {
        assert_eq!(allocate(&api, allocation.clone()).await["state"], "active");
        api.delete(path).await.expect(204);
        let free = api.get("/v1/nodes/n1?fields=instance_uuid,allocation_uuid").await.expect(200);
        assert_eq!((&free["instance_uuid"], &free["allocation_uuid"]), (&Value::Null, &Value::Null));
    }
    assert_eq!(
        api.delete("/v1/allocations/web").await.expect_fault(404),
        "Allocation web could not be found."
    );
    for (path, status) in [("/v1/nodes/n1/allocation", 404), ("/v1/nodes/none/allocation", 400)] {
        api.get(path).await.expect_fault(status);
        api.delete(path).await.expect_fault(404);
    }
    let uuid = allocate(&api, allocation.clone()).await["uuid"].as_str().expect("a UUID").to_owned();
    assert_eq!(set_provision_state(&api, &node, "active").await, 202);
    let refusal = format!(
        "Cannot remove allocation {uuid} for node {node}, because the node is active (and maintenance mode is off)"
    );
    for path in ["/v1/allocations/web", "/v1/nodes/n1/allocation"] {
        assert_eq!(api.delete(path).await.expect_fault(409), refusal);
    }
    let remove = json!([{"op": "remove", "path": "/instance_uuid"}]);
    let refusal = format!(
        "Node {node} with an allocation can not have instance_uuid removed unless it is in one of allowed (enroll, \
         inspecting, inspect wait, manageable, available) states or in maintenance mode. Current state is 'active'."
    );
    assert_eq!(api.patch("/v1/nodes/n1", remove.clone()).await.expect_fault(409), refusal);
    // The undeployment ends the allocation.
    assert_eq!(set_provision_state(&api, &node, "rebuild").await, 202);
    assert_eq!(api.get("/v1/nodes/n1/allocation").await.expect(200)["uuid"], uuid);
    assert_eq!(set_provision_state(&api, &node, "deleted").await, 202);
    assert_eq!(api.get("/v1/allocations/web").await.status, 404);
    // So does maintenance with a deletion, and the removal of the instance.
    switch_off(&api, &node).await;
    allocate(&api, allocation.clone()).await;
    assert_eq!(set_provision_state(&api, &node, "active").await, 202);
    api.put("/v1/nodes/n1/maintenance", json!({})).await.expect(202);
    api.delete("/v1/allocations/web").await.expect(204);
    api.delete("/v1/nodes/n1/maintenance").await.expect(202);
    assert_eq!(set_provision_state(&api, &node, "deleted").await, 202);
    switch_off(&api, &node).await;
    assert_eq!(allocate(&api, allocation.clone()).await["state"], "active");
    api.patch("/v1/nodes/n1", remove).await.expect(200);
    assert_eq!(api.get("/v1/allocations").await.expect(200), json!({"allocations": []}));
    // A deleted node takes its allocation along.
    assert_eq!(allocate(&api, allocation).await["state"], "active");
    assert_eq!(api.delete("/v1/nodes/n1").await.status, 409, "the node has an instance");
    api.put("/v1/nodes/n1/maintenance", json!({})).await.expect(202);
    api.delete("/v1/nodes/n1").await.expect(204);
    assert_eq!(api.get("/v1/allocations").await.expect(200), json!({"allocations": []}));
}

#[tokio::test]
async fn an_undeployment_that_keeps_the_targets_ends_the_allocation_too() {
    let api = Api::with(|operator| operator.keep_targets_on_undeploy = true);
    let node = create_available_node(&api, "n1").await;
    allocate(&api, json!({"resource_class": LARGE})).await;
    for verb in ["active", "deleted"] {
        assert_eq!(set_provision_state(&api, &node, verb).await, 202);
    }
    assert_eq!(api.get("/v1/allocations").await.expect(200), json!({"allocations": []}));
}

#[tokio::test]
async fn the_instance_of_an_allocated_node_is_the_allocation() {
    let api = Api::new();
    create_available_node(&api, "n1").await;
    let allocation = allocate(&api, json!({"resource_class": LARGE})).await;
    let uuid = allocation["uuid"].as_str().expect("a UUID");
    let patch = |path: &str| json!([{"op": "replace", "path": path, "value": "8f3a7d2e-1c4b-4f5a-9e6d-7c8b9a0f1e2d"}]);
    assert_eq!(api.patch("/v1/nodes/n1", patch("/instance_uuid")).await.status, 409);
    assert_eq!(api.patch("/v1/nodes/n1", patch("/allocation_uuid")).await.status, 400);
    api.patch("/v1/nodes/n1", json!([{"op": "add", "path": "/extra/a", "value": 1}])).await.expect(200);
    assert_eq!(api.get("/v1/nodes/n1").await.expect(200)["allocation_uuid"], uuid);
    // Without the allocation, the same instance is any instance.
    api.patch("/v1/nodes/n1", json!([{"op": "remove", "path": "/instance_uuid"}])).await.expect(200);
    let again = json!([{"op": "add", "path": "/instance_uuid", "value": uuid}]);
    let node = api.patch("/v1/nodes/n1", again).await.expect(200);
    assert_eq!((&node["instance_uuid"], &node["allocation_uuid"]), (&json!(uuid), &Value::Null));
}

#[tokio::test]
async fn lists_are_filtered() {
    let api = Api::new();
    let node = create_available_node(&api, "n1").await;
    for (name, class) in [("one", LARGE), ("two", LARGE), ("three", "small")] {
        allocate(&api, json!({"name": name, "resource_class": class})).await;
    }
    for (query, expected) in [
        ("", &["one", "two", "three"][..]),
        ("?state=active", &["one"]),
        ("?state=error", &["two", "three"]),
        ("?state=allocating", &[]),
        ("?state=nonsense", &[]),
        ("?resource_class=small", &["three"]),
        ("?node=n1", &["one"]),
        (&format!("?node={node}&state=error"), &[]),
        ("?sort_key=name&limit=2", &["one", "three"]),
        ("?fields=name", &["one", "two", "three"]),
    ] {
        let page = api.get(&format!("/v1/allocations{query}")).await.expect(200);
        assert_eq!(column(&page, "allocations", "name"), expected, "{query}");
    }
    let keys = |body: &Value| body["allocations"][0].as_object().expect("an object").len();
    assert_eq!(keys(&api.get("/v1/allocations").await.expect(200)), 12, "lists have all fields");
    for (query, status) in [
        ("?node=none", 400),
        ("?detail=True", 400),
        ("?fields=nothing", 400),
        ("?fields=owner", 406),
        ("?owner=me", 406),
        ("?sort_key=traits", 400),
        ("?sort_key=node_uuid", 400),
        ("?marker=x", 400),
        ("?nothing=1", 400),
    ] {
        assert_eq!(api.get(&format!("/v1/allocations{query}")).await.status, status, "{query}");
    }
}

#[tokio::test]
async fn the_document_has_the_states_of_allocations() {
    let document = Api::new().get("/openapi.json").await.expect(200);
    let parameters = &document["paths"]["/v1/allocations"]["get"]["parameters"];
    let state = parameters.as_array().expect("a list").iter().find(|argument| argument["name"] == "state");
    assert_eq!(state.expect("an argument")["schema"]["enum"], json!(["allocating", "active", "error"]));
}

#[tokio::test]
async fn invalid_requests_create_nothing() {
    let api = Api::new();
    create_available_node(&api, "n1").await;
    let first =
        json!({"resource_class": "none", "name": "one", "uuid": "3bf138ba-6d71-44e7-b6a1-ca9cac17103e"});
    allocate(&api, first).await;
    for (body, status, text) in [
        (json!({}), 400, "The resource_class field is mandatory when not backfilling"),
        (json!({"resource_class": ""}), 400, "The resource_class field is mandatory when not backfilling"),
        (
            json!({"resource_class": LARGE, "name": "a b"}),
            400,
            "Cannot create allocation with invalid name 'a b'",
        ),
        (json!({"resource_class": LARGE, "name": "one"}), 409, "An allocation with name one already exists."),
        (
            json!({"resource_class": LARGE, "uuid": "3bf138ba-6d71-44e7-b6a1-ca9cac17103e"}),
            409,
            "An allocation with UUID 3bf138ba-6d71-44e7-b6a1-ca9cac17103e already exists.",
        ),
        (
            json!({"resource_class": LARGE, "candidate_nodes": ["n1", "n2"]}),
            400,
            "Nodes cannot be found: 'n2'",
        ),
        (json!({"resource_class": LARGE, "candidate_nodes": [7]}), 400, "7 is not of type 'string'"),
        (
            json!({"resource_class": LARGE, "traits": "CUSTOM_A"}),
            400,
            "'CUSTOM_A' is not of type 'array', 'null'",
        ),
        (json!({"resource_class": LARGE, "traits": ["nonsense"]}), 400, "'nonsense' is no trait"),
        (json!({"resource_class": LARGE, "uuid": "x"}), 400, "Expected UUID for uuid: x"),
        (json!({"resource_class": LARGE, "state": "active"}), 400, "'state' was unexpected"),
        (json!({"resource_class": 7}), 400, "7 is not of type 'string', 'null'"),
        (json!({"resource_class": LARGE, "node": "n1"}), 406, "1.58"),
        (json!({"resource_class": LARGE, "owner": "me"}), 406, "1.60"),
        (json!([]), 400, "is not of type 'object'"),
    ] {
        let fault = api.post("/v1/allocations", body.clone()).await.expect_fault(status);
        assert!(fault.contains(text), "{body}: {fault}");
    }
    assert_eq!(api.get("/v1/nodes/n1").await.expect(200)["instance_uuid"], Value::Null);
    let all = api.get("/v1/allocations").await.expect(200);
    assert_eq!(column(&all, "allocations", "name"), ["one"]);
    let ident = "Expected a logical name or UUID but received a b.";
    assert_eq!(api.get("/v1/allocations/a%20b").await.expect_fault(400), ident);
    assert_eq!(api.patch("/v1/allocations/one", json!([])).await.status, 405, "came with 1.57");
    for path in ["/v1/allocations", "/v1/allocations/one", "/v1/nodes/n1/allocation"] {
        let fault = api.with_version("1.51").get(path).await.expect_fault(404);
        assert!(fault.contains("1.52"), "{path}: {fault}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_clients_get_different_nodes() {
    const NODES: usize = 5;
    let api = Arc::new(Api::new());
    for n in 0..NODES {
        create_available_node(&api, &format!("n{n}")).await;
    }
    let mut clients = JoinSet::new();
    for _ in 0..2 * NODES {
        let api = Arc::clone(&api);
        clients.spawn(async move { allocate(&api, json!({"resource_class": LARGE})).await });
    }
    let all = clients.join_all().await;
    let (active, failed): (Vec<_>, Vec<_>) =
        all.iter().partition(|allocation| allocation["state"] == "active");
    let nodes: BTreeSet<_> = active.iter().map(|allocation| allocation["node_uuid"].to_string()).collect();
    assert_eq!((active.len(), nodes.len(), failed.len()), (NODES, NODES, NODES));
    for allocation in active {
        let node = api.get(&format!("/v1/nodes/{}", allocation["node_uuid"].as_str().expect("a UUID"))).await;
        assert_eq!(node.expect(200)["allocation_uuid"], allocation["uuid"]);
    }
}
