//! Fields of nodes that came with microversions 1.39 to 1.51: their rules, filters and versions.

use serde_json::{Value, json};
use volboot::model::{Node, ProvisionState, StorageInterface};

use super::{Api, column};

const INSTANCE: &str = "7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1";

/// An API with a node in a state that no verb here leads to.
async fn with_node_in(provision_state: ProvisionState) -> Api {
    let mut inventory = None;
    let api = Api::with(|operator| inventory = Some(operator.inventory.clone()));
    let now = "2026-01-02T03:04:05Z".parse().expect("a time");
    let uuid = "00000000-0000-0000-0000-000000000001".parse().expect("a UUID");
    let node = Node {
        name: Some("n".into()),
        provision_state,
        target_provision_state: Some(ProvisionState::Manageable),
        ..Node::new(uuid, "fake-hardware", StorageInterface::Noop, now)
    };
    inventory.expect("the API's inventory").create(&node).await.expect("a node");
    api
}

async fn set_provision_state(api: &Api, target: &str) -> super::ApiResponse {
    api.put("/v1/nodes/n/states/provision", json!({"target": target})).await
}

async fn deploy(api: &Api) {
    for verb in ["manage", "provide", "active"] {
        set_provision_state(api, verb).await.expect(202);
    }
}

fn set(field: &str, value: impl Into<Value>) -> Value {
    json!([{"op": "add", "path": format!("/{field}"), "value": value.into()}])
}

#[tokio::test]
async fn inspect_wait_is_inspecting_to_older_clients() {
    let api = with_node_in(ProvisionState::InspectWait).await;
    for (version, shown) in [("1.38", "inspecting"), ("1.39", "inspect wait")] {
        let api = api.with_version(version);
        for path in ["/v1/nodes/n", "/v1/nodes/n/states"] {
            assert_eq!(api.get(path).await.expect(200)["provision_state"], shown, "{version} {path}");
        }
        let page = api.get("/v1/nodes?provision_state=inspect%20wait").await.expect(200);
        assert_eq!(column(&page, "nodes", "provision_state"), [shown]);
    }
    api.patch("/v1/nodes/n", set("extra", json!({"a": 1}))).await.expect(200);
}

#[tokio::test]
async fn a_node_in_inspection_is_patched_only_by_older_clients() {
    let api = with_node_in(ProvisionState::Inspecting).await;
    let change = set("extra", json!({"a": 1}));
    let refused = api.with_version("1.39").patch("/v1/nodes/n", change.clone()).await.expect_fault(409);
    assert!(refused.ends_with("while it is in state \"inspecting\"."), "{refused}");
    api.with_version("1.38").patch("/v1/nodes/n", change).await.expect(200);
}

#[tokio::test]
async fn a_wait_for_another_service_is_aborted() {
    for (state, end, error) in [
        (ProvisionState::CleanWait, "clean failed", "By request, the clean operation was aborted"),
        (ProvisionState::InspectWait, "inspect failed", "Inspection was aborted by request."),
        (ProvisionState::RescueWait, "rescue failed", "By request, the rescue operation was aborted."),
    ] {
        let api = with_node_in(state).await;
        let before_1_41 = set_provision_state(&api.with_version("1.40"), "abort").await;
        if state == ProvisionState::InspectWait {
            let text = before_1_41.expect_fault(406);
            assert_eq!(text, "Request not acceptable. The minimal required API version should be 1.41");
            set_provision_state(&api, "abort").await.expect(202);
        } else {
            before_1_41.expect(202);
        }
        let node = api.get("/v1/nodes/n").await.expect(200);
        assert_eq!(
            (&node["provision_state"], &node["last_error"], &node["target_provision_state"]),
            (&json!(end), &json!(error), &Value::Null)
        );
    }
}

#[tokio::test]
async fn no_node_has_a_fault_or_a_deploy_step() {
    let api = Api::new();
    api.create_node(json!({"name": "n"})).await;
    let node = api.get("/v1/nodes/n?fields=fault,deploy_step").await.expect(200);
    assert_eq!((&node["fault"], &node["deploy_step"]), (&Value::Null, &json!({})));
    assert_eq!(api.get("/v1/nodes?fault=power%20failure").await.expect(200), json!({"nodes": []}));
    let text = api.get("/v1/nodes?fault=fan").await.expect_fault(400);
    assert!(text.starts_with("Unrecognized fault \"fan\" is specified"), "{text}");
    assert_eq!(api.patch("/v1/nodes/n", set("fault", "clean failure")).await.status, 400);
    assert_eq!(api.get("/v1/nodes?sort_key=deploy_step").await.status, 400);
}

#[tokio::test]
async fn a_new_driver_may_reset_the_interfaces() {
    let api = Api::new();
    let node = json!({
        "name": "n", "boot_interface": "fake", "deploy_interface": "fake", "storage_interface": "external",
    });
    api.create_node(node).await;
    let driver = json!([{"op": "replace", "path": "/driver", "value": "manual-management"}]);
    api.patch("/v1/nodes/n", driver.clone()).await.expect_fault(400);
    api.patch("/v1/nodes/n?reset_interfaces=False", driver.clone()).await.expect_fault(400);
    assert_eq!(api.patch("/v1/nodes/n?reset_interfaces=perhaps", driver.clone()).await.status, 400);
    let before = api.with_version("1.44").patch("/v1/nodes/n?reset_interfaces=True", driver.clone()).await;
    assert!(before.expect_fault(406).ends_with("1.45"));
    assert_eq!(
        api.patch("/v1/nodes/n?reset_interfaces=True", set("extra", json!({}))).await.expect_fault(400),
        "The reset_interfaces parameter can only be used when changing the node's driver."
    );
    let changed = api.patch("/v1/nodes/n?reset_interfaces=True", driver).await.expect(200);
    let interfaces = ["driver", "boot_interface", "deploy_interface", "storage_interface"];
    assert_eq!(
        json!(interfaces.map(|name| &changed[name])),
        json!(["manual-management", "ipxe", "direct", "noop"])
    );
    // An interface of the same patch is no default.
    let both = json!([
        {"op": "replace", "path": "/driver", "value": "fake-hardware"},
        {"op": "replace", "path": "/boot_interface", "value": "fake"},
        {"op": "replace", "path": "/storage_interface", "value": "external"},
    ]);
    let changed = api.patch("/v1/nodes/n?reset_interfaces=True", both).await.expect(200);
    assert_eq!(
        json!(interfaces.map(|name| &changed[name])),
        json!(["fake-hardware", "fake", "fake", "external"])
    );
    // With the same driver, nothing is reset.
    let same = json!([{"op": "replace", "path": "/driver", "value": "fake-hardware"}]);
    let changed = api.patch("/v1/nodes/n?reset_interfaces=True", same).await.expect(200);
    assert_eq!(changed["storage_interface"], "external");
}

#[tokio::test]
async fn automated_clean_has_three_values() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let show = async || api.get(&format!("/v1/nodes/{node}")).await.expect(200)["automated_clean"].clone();
    assert_eq!(show().await, Value::Null);
    for (sent, shown) in
        [(json!("True"), json!(true)), (json!(false), json!(false)), (Value::Null, Value::Null)]
    {
        let changed = api.patch("/v1/nodes/n", set("automated_clean", sent)).await.expect(200);
        assert_eq!((changed["automated_clean"].clone(), show().await), (shown.clone(), shown));
    }
    assert_eq!(api.patch("/v1/nodes/n", set("automated_clean", "perhaps")).await.status, 400);
}

#[tokio::test]
async fn a_protected_node_keeps_its_instance() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let path = "/v1/nodes/n";
    assert_eq!(
        api.post("/v1/nodes", json!({"driver": "fake-hardware", "protected": true})).await.status,
        400
    );
    assert_eq!(
        api.patch(path, set("protected", true)).await.expect_fault(409),
        format!(
            "Node {node} can only be made protected in provision states 'active' or 'rescue', the current state is \
             'enroll'"
        )
    );
    deploy(&api).await;
    assert_eq!(
        api.patch(path, set("protected_reason", "why")).await.expect_fault(400),
        "The protected_reason field can only be set when protected is True"
    );
    let protect = json!([
        {"op": "add", "path": "/protected", "value": "True"},
        {"op": "add", "path": "/protected_reason", "value": "a database"},
    ]);
    assert_eq!(api.with_version("1.47").patch(path, protect.clone()).await.status, 406);
    let protected = api.patch(path, protect).await.expect(200);
    assert_eq!(
        (&protected["protected"], &protected["protected_reason"]),
        (&json!(true), &json!("a database"))
    );
    let refusal = format!("Node {node} is protected and cannot be undeployed, rebuilt or deleted");
    // The version of the request makes no difference.
    for api in [&api, &api.with_version("1.33")] {
        assert_eq!(set_provision_state(api, "deleted").await.expect_fault(403), refusal);
        assert_eq!(set_provision_state(api, "rebuild").await.expect_fault(403), refusal);
    }
    assert!(set_provision_state(&api, "provide").await.expect_fault(400).contains("can not be performed"));
    api.patch(path, set("instance_uuid", INSTANCE)).await.expect(200);
    assert!(api.delete(path).await.expect_fault(409).contains("is associated with instance"));
    api.put("/v1/nodes/n/maintenance", json!({})).await.expect(202);
    assert_eq!(api.delete(path).await.expect_fault(403), refusal);
    // The loss of the storage interface detaches all volumes.
    api.patch(path, set("storage_interface", "cinder")).await.expect(200);
    assert_eq!(api.patch(path, set("storage_interface", "noop")).await.expect_fault(403), refusal);
    let free = json!([{"op": "remove", "path": "/protected"}]);
    let freed = api.patch(path, free).await.expect(200);
    assert_eq!((&freed["protected"], &freed["protected_reason"]), (&json!(false), &Value::Null));
    set_provision_state(&api, "deleted").await.expect(202);
    api.delete(path).await.expect(204);
}

#[tokio::test]
async fn nodes_are_found_by_owner_and_description() {
    let api = Api::new();
    for (name, owner, description) in [
        ("a", json!("red"), json!("The WEB server")),
        ("b", json!("blue"), json!("a db")),
        ("c", Value::Null, Value::Null),
    ] {
        api.create_node(json!({"name": name, "owner": owner, "description": description})).await;
    }
    for (query, found) in [
        ("owner=red", vec!["a"]),
        ("owner=none", vec![]),
        ("description_contains=web", vec!["a"]),
        ("description_contains=e", vec!["a"]),
        ("description_contains=", vec!["a", "b"]),
        ("owner=blue&description_contains=web", vec![]),
        ("sort_key=owner", vec!["c", "b", "a"]),
        ("sort_key=description&sort_dir=desc", vec!["b", "a", "c"]),
    ] {
        for path in ["/v1/nodes", "/v1/nodes/detail"] {
            let page = api.get(&format!("{path}?{query}")).await.expect(200);
            assert_eq!(column(&page, "nodes", "name"), found, "{path}?{query}");
        }
    }
    let text = |length| "x".repeat(length);
    api.patch("/v1/nodes/c", set("description", text(4096))).await.expect(200);
    assert_eq!(api.patch("/v1/nodes/c", set("description", text(4097))).await.status, 400);
    assert_eq!(api.patch("/v1/nodes/c", set("owner", text(256))).await.status, 400);
    let freed = api.patch("/v1/nodes/a", json!([{"op": "remove", "path": "/owner"}])).await.expect(200);
    assert_eq!((&freed["owner"], &freed["description"]), (&Value::Null, &json!("The WEB server")));
}

#[tokio::test]
async fn records_move_only_between_nodes_of_one_owner() {
    let api = Api::new();
    let red = api.create_node(json!({"owner": "red"})).await;
    let red_too = api.create_node(json!({"owner": "red"})).await;
    let blue = api.create_node(json!({"owner": "blue"})).await;
    for node in [&red, &red_too, &blue] {
        api.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": "power off"})).await.expect(202);
    }
    for (path, more) in [
        ("/v1/ports", json!({"address": "52:54:00:00:00:01"})),
        ("/v1/portgroups", json!({"name": "g"})),
        ("/v1/volume/connectors", json!({"type": "iqn", "connector_id": "iqn.2026-01.example:a"})),
        ("/v1/volume/targets", json!({"volume_type": "iscsi", "volume_id": "v", "boot_index": 0})),
    ] {
        let mut body = more;
        body["node_uuid"] = red.clone().into();
        let record = api.post(path, body).await.expect(201);
        let path = format!("{path}/{}", record["uuid"].as_str().expect("a UUID"));
        let missing = "00000000-0000-0000-0000-000000000009";
        for node in [blue.as_str(), missing] {
            assert_eq!(
                api.patch(&path, set("node_uuid", node)).await.expect_fault(400),
                format!("Unable to apply the requested node_uuid '{node}'. Requested value was invalid."),
                "{path}"
            );
        }
        let moved = api.patch(&path, set("node_uuid", red_too.clone())).await.expect(200);
        assert_eq!(moved["node_uuid"], red_too, "{path}");
    }
}

#[tokio::test]
async fn the_resource_class_of_a_node_in_use_stays() {
    let api = Api::new();
    api.create_node(json!({"name": "n", "resource_class": "x"})).await;
    api.patch("/v1/nodes/n", set("resource_class", "y")).await.expect(200);
    deploy(&api).await;
    api.put("/v1/nodes/n/maintenance", json!({})).await.expect(202);
    let text = api.patch("/v1/nodes/n", set("resource_class", "z")).await.expect_fault(409);
    assert!(text.ends_with("Current state is 'active'."), "{text}");
    api.patch("/v1/nodes/n", set("resource_class", "y")).await.expect(200);
}

#[tokio::test]
async fn later_fields_and_filters_are_absent_below_their_version() {
    let api = Api::new();
    api.create_node(json!({"name": "n"})).await;
    for (field, since, value) in [
        ("fault", 42, None),
        ("deploy_step", 44, None),
        ("automated_clean", 47, Some(json!(true))),
        ("protected", 48, Some(json!(false))),
        ("protected_reason", 48, Some(json!(""))),
        ("owner", 50, Some(json!("me"))),
        ("description", 51, Some(json!("a node"))),
    ] {
        let (below, at) = (format!("1.{}", since - 1), format!("1.{since}"));
        let (below, at) = (api.with_version(below.leak()), api.with_version(at.leak()));
        let shown = async |api: &Api| api.get("/v1/nodes/n").await.expect(200).get(field).is_some();
        assert_eq!((shown(&below).await, shown(&at).await), (false, true), "{field}");
        let named = format!("/v1/nodes?fields={field}");
        let text = below.get(&named).await.expect_fault(406);
        assert!(text.ends_with(&format!("should be 1.{since}")), "{text}");
        at.get(&named).await.expect(200);
        if let Some(value) = value {
            assert_eq!(below.patch("/v1/nodes/n", set(field, value.clone())).await.status, 406, "{field}");
            at.patch("/v1/nodes/n", set(field, value)).await.expect(200);
        }
    }
    for (filter, since) in [("fault=power%20failure", 42), ("owner=x", 50)] {
        let below = api.with_version(format!("1.{}", since - 1).leak());
        let text = below.get(&format!("/v1/nodes?{filter}")).await.expect_fault(406);
        assert_eq!(
            text,
            format!("Request not acceptable. The minimal required API version should be 1.{since}")
        );
        api.get(&format!("/v1/nodes?{filter}")).await.expect(200);
    }
    // As in Ironic, this filter has no version.
    api.with_version("1.1").get("/v1/nodes?description_contains=x").await.expect(200);
    for (field, value) in
        [("automated_clean", json!(true)), ("owner", json!("x")), ("description", json!("x"))]
    {
        let body = json!({"driver": "fake-hardware", field: value});
        assert_eq!(api.with_version("1.46").post("/v1/nodes", body.clone()).await.status, 406, "{field}");
        assert_eq!(api.post("/v1/nodes", body).await.expect(201)[field], value);
    }
}
