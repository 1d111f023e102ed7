//! Nodes: creation, lists, patches, deletion and maintenance.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn a_new_node_has_all_fields() {
    let api = Api::new();
    let uuid = "be53f1ae-0b38-4a6b-9d09-7e5a0bd9e0a9";
    let body = json!({
        "uuid": uuid,
        "name": "n1",
        "driver": "fake-hardware",
        "driver_info": {"ipmi_password": "hunter2", "ipmi_username": "root"},
        "properties": {"capabilities": "iscsi_boot:True"},
        "maintenance": "False",
        "storage_interface": "cinder",
    });
    let response = api.post("/v1/nodes", body).await;
    assert_eq!(response.header("location"), format!("http://boot.example:6385/v1/nodes/{uuid}"));
    let mut created = response.expect(201);
    let links = |below: &str| {
        json!([
            {"rel": "self", "href": format!("http://boot.example:6385/v1/nodes/{uuid}{below}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/nodes/{uuid}{below}")},
        ])
    };
    assert!(created["created_at"].take().as_str().expect("a time").ends_with("+00:00"));
    let expected = json!({
        "uuid": uuid,
        "name": "n1",
        "driver": "fake-hardware",
        "driver_info": {"ipmi_password": "******", "ipmi_username": "root"},
        "driver_internal_info": {},
        "properties": {"capabilities": "iscsi_boot:True"},
        "extra": {},
        "instance_info": {},
        "instance_uuid": null,
        "allocation_uuid": null,
        "chassis_uuid": null,
        "conductor_group": "",
        "conductor": "boot-1",
        "owner": null,
        "description": null,
        "automated_clean": null,
        "protected": false,
        "protected_reason": null,
        "fault": null,
        "deploy_step": {},
        "resource_class": null,
        "traits": [],
        "bios_interface": "no-bios",
        "boot_interface": "fake",
        "console_interface": "no-console",
        "deploy_interface": "fake",
        "inspect_interface": "no-inspect",
        "management_interface": "fake",
        "network_interface": "noop",
        "power_interface": "fake",
        "raid_interface": "no-raid",
        "rescue_interface": "no-rescue",
        "storage_interface": "cinder",
        "vendor_interface": "no-vendor",
        "maintenance": false,
        "maintenance_reason": null,
        "console_enabled": false,
        "power_state": null,
        "target_power_state": null,
        "provision_state": "enroll",
        "target_provision_state": null,
        "provision_updated_at": null,
        "last_error": null,
        "reservation": null,
        "inspection_started_at": null,
        "inspection_finished_at": null,
        "clean_step": {},
        "raid_config": {},
        "target_raid_config": {},
        "created_at": null,
        "updated_at": null,
        "links": links(""),
        "ports": links("/ports"),
        "states": links("/states"),
        "portgroups": links("/portgroups"),
        "volume": links("/volume"),
    });
    assert_eq!(created, expected);
    for ident in [uuid, &uuid.to_uppercase(), "n1", "n1/"] {
        assert_eq!(api.get(&format!("/nodes/{ident}")).await.expect(200)["uuid"], uuid, "{ident}");
    }
}

#[tokio::test]
async fn nodes_of_old_clients_start_as_available_shown_as_null() {
    let api = Api::new();
    let node = api.with_version("1.1").create_node(json!({})).await;
    assert_eq!(
        api.with_version("1.1").get(&format!("/v1/nodes/{node}")).await.expect(200)["provision_state"],
        Value::Null
    );
    assert_eq!(api.get(&format!("/v1/nodes/{node}")).await.expect(200)["provision_state"], "available");
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let api = Api::new();
    for (name, class) in [("a", "x"), ("c", "y"), ("b", "x"), ("e", "x"), ("d", "x")] {
        api.create_node(json!({"name": name, "resource_class": class})).await;
    }
    let all = api.get("/v1/nodes").await.expect(200);
    assert_eq!(column(&all, "nodes", "name"), ["a", "c", "b", "e", "d"]);
    assert_eq!(all.get("next"), None);
    let mut keys =
        all["nodes"][0].as_object().expect("a node").keys().map(String::as_str).collect::<Vec<_>>();
    keys.sort_unstable();
    let listed = ["instance_uuid", "links", "maintenance", "name", "power_state", "provision_state", "uuid"];
    assert_eq!(keys, listed);
    let mut path = "/v1/nodes?resource_class=x&sort_key=name&sort_dir=desc&limit=2&fields=name".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = api.get(&path).await.expect(200);
        pages.push(column(&page, "nodes", "name"));
        let Some(next) = page["next"].as_str() else { break };
        assert!(next.contains("resource_class=x") && next.contains("fields=name"), "{next}");
        path =
            next.strip_prefix("http://boot.example:6385").expect("a link with the request's host").to_owned();
    }
    assert_eq!(pages, [vec!["e", "d"], vec!["b", "a"], vec![]]);
    let detailed = api.get("/v1/nodes/detail?limit=1").await.expect(200);
    assert_eq!(detailed["nodes"][0]["driver"], "fake-hardware");
    assert!(detailed["next"].as_str().expect("a page").contains("/v1/nodes/detail?"));
}

#[tokio::test]
async fn nodes_are_patched_as_in_ironic() {
    let api = Api::new();
    let node = api
        .create_node(json!({"extra": {"a": 1}, "driver_info": {"password": "hunter2", "user": "root"}}))
        .await;
    let path = format!("/v1/nodes/{node}");
    let changes = json!([
        {"op": "add", "path": "/name", "value": "n2"},
        {"op": "add", "path": "/storage_interface", "value": "external"},
        {"op": "add", "path": "/properties/capabilities", "value": "iscsi_boot:True"},
        {"op": "replace", "path": "/extra/a", "value": 2},
        {"op": "add", "path": "/maintenance", "value": "True"},
    ]);
    let patched = api.patch(&path, changes).await.expect(200);
    let expected = json!(["n2", "external", {"capabilities": "iscsi_boot:True"}, {"a": 2}, true]);
    let actual = ["name", "storage_interface", "properties", "extra", "maintenance"].map(|key| &patched[key]);
    assert_eq!(json!(actual), expected);
    assert!(patched["updated_at"].is_string());
    let changes = json!([{"op": "remove", "path": "/extra"}, {"op": "remove", "path": "/storage_interface"}]);
    let reset = api.patch(&path, changes).await.expect(200);
    assert_eq!((&reset["extra"], &reset["storage_interface"]), (&json!({}), &json!("noop")));
    assert_eq!(api.patch(&path, json!([])).await.status, 200);
}

#[tokio::test]
async fn rejected_patches_change_nothing() {
    let api = Api::new();
    let node = api.create_node(json!({"extra": {"a": 1}})).await;
    let path = format!("/v1/nodes/{node}");
    let before = api.get(&path).await.expect(200);
    for (patch, status) in [
        (json!({}), 400),
        (json!([1]), 400),
        (
            json!([{"op": "add", "path": "/extra/b", "value": 1}, {"op": "remove", "path": "/extra/none"}]),
            400,
        ),
        (json!([{"op": "replace", "path": "/extra/none", "value": 1}]), 400),
        (json!([{"op": "add", "path": "/extra/none/deeper", "value": 1}]), 400),
        (json!([{"op": "move", "from": "/extra/a", "path": "/extra/b"}]), 400),
        (json!([{"op": "test", "path": "/extra/a", "value": 1}]), 400),
        (json!([{"op": "add", "path": "/extra/b"}]), 400),
        (json!([{"op": "add", "path": "extra", "value": {}}]), 400),
        (json!([{"op": "add", "path": "/extra/a.b", "value": 1}]), 400),
        (json!([{"op": "add", "path": "/uuid", "value": node}]), 400),
        (json!([{"op": "add", "path": "/provision_state", "value": "active"}]), 400),
        (json!([{"op": "add", "path": "/unknown", "value": 1}]), 400),
        (json!([{"op": "remove", "path": "/driver"}]), 400),
        (json!([{"op": "replace", "path": "/driver", "value": null}]), 400),
        (json!([{"op": "replace", "path": "/driver", "value": "none"}]), 400),
        (json!([{"op": "replace", "path": "/extra", "value": []}]), 400),
        (json!([{"op": "add", "path": "/name", "value": "a b"}]), 400),
        (json!([{"op": "add", "path": "/boot_interface", "value": "none"}]), 400),
        (json!([{"op": "add", "path": "/shard", "value": "x"}]), 406),
        (json!([{"op": "add", "path": format!("/extra{}", "/a".repeat(30)), "value": 1}]), 400),
    ] {
        assert_eq!(api.patch(&path, patch.clone()).await.status, status, "{patch}");
    }
    assert_eq!(api.get(&path).await.expect(200), before);
}

#[tokio::test]
async fn writing_back_a_masked_secret_keeps_the_secret() {
    let api = Api::new();
    let node = api.create_node(json!({"driver_info": {"password": "hunter2", "user": "root"}})).await;
    let path = format!("/v1/nodes/{node}");
    let masked = api.get(&path).await.expect(200)["driver_info"].clone();
    assert_eq!(masked, json!({"password": "******", "user": "root"}));
    // Responses mask the secret; a successful removal shows that the value exists.
    let changes = json!([{"op": "add", "path": "/driver_info", "value": masked}]);
    api.patch(&path, changes).await.expect(200);
    api.patch(&path, json!([{"op": "remove", "path": "/driver_info/password"}])).await.expect(200);
}

#[tokio::test]
async fn deleting_a_node_deletes_its_records() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let port = json!({"node_uuid": node, "address": "52:54:00:ab:cd:ef"});
    api.post("/v1/ports", port.clone()).await.expect(201);
    let response = api.delete("/v1/nodes/n").await;
    assert_eq!(response.headers.get("content-type"), None);
    response.expect(204);
    assert_eq!(api.delete("/v1/nodes/n").await.status, 404);
    assert_eq!(api.get("/v1/ports").await.expect(200), json!({"ports": []}));
    api.post("/v1/ports", port).await.expect_fault(400);
}

#[tokio::test]
async fn a_node_with_an_instance_is_deleted_only_in_maintenance() {
    let api = Api::new();
    let node = api.create_node(json!({"instance_uuid": "7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1"})).await;
    let path = format!("/v1/nodes/{node}");
    assert_eq!(
        api.delete(&path).await.expect_fault(409),
        format!("Node {node} is associated with instance 7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1.")
    );
    api.put(&format!("{path}/maintenance"), json!({"reason": "gone"})).await.expect(202);
    api.delete(&path).await.expect(204);
}

#[tokio::test]
async fn maintenance_is_set_with_a_reason_and_cleared() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let path = format!("/v1/nodes/{node}");
    let state = |body: Value| (body["maintenance"].clone(), body["maintenance_reason"].clone());
    let response = api.put(&format!("{path}/maintenance"), json!({"reason": "disk"})).await;
    assert_eq!(response.headers.get("content-type"), None, "or clients try to read a body");
    response.expect(202);
    assert_eq!(state(api.get(&path).await.expect(200)), (json!(true), json!("disk")));
    api.delete(&format!("{path}/maintenance")).await.expect(202);
    assert_eq!(state(api.get(&path).await.expect(200)), (json!(false), Value::Null));
    api.put(&format!("{path}/maintenance"), Value::Null).await.expect(202);
    assert_eq!(state(api.get(&path).await.expect(200)), (json!(true), Value::Null));
    api.put(&format!("{path}/maintenance"), json!({"reason": 1})).await.expect_fault(400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_patches_are_all_applied() {
    let api = std::sync::Arc::new(Api::new());
    let node = api.create_node(json!({})).await;
    let patches = (0..20).map(|n| {
        let (api, path) = (std::sync::Arc::clone(&api), format!("/v1/nodes/{node}"));
        tokio::spawn(async move {
            let changes = json!([{"op": "add", "path": format!("/extra/k{n}"), "value": n}]);
            api.patch(&path, changes).await.expect(200);
            api.get("/v1/nodes/detail").await.expect(200);
        })
    });
    for patch in patches.collect::<Vec<_>>() {
        patch.await.expect("the task completes");
    }
    let extra = api.get(&format!("/v1/nodes/{node}")).await.expect(200)["extra"].clone();
    assert_eq!(extra.as_object().expect("an object").len(), 20);
}
