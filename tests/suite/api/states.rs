//! What is done with nodes: provision verbs, power, validation, and what cannot be done.

use serde_json::{Value, json};

use super::Api;

/// Creates a node that lacks nothing to boot from its volume.
async fn bootable(api: &Api) -> String {
    let capable = json!({"storage_interface": "external", "properties": {"capabilities": "iscsi_boot:True"}});
    let node = api.node(capable).await;
    let iqn = format!("iqn.2017-08.org.openstack.{node}");
    let connector = json!({"node_uuid": node, "type": "iqn", "connector_id": iqn});
    api.post("/v1/volume/connectors", connector).await.expect(201);
    let target = json!({
        "node_uuid": node,
        "volume_type": "iscsi",
        "volume_id": "v",
        "boot_index": 0,
        "properties": {"target_portal": "192.0.2.1", "target_iqn": "iqn.2010-10.org.openstack:v", "target_lun": 0},
    });
    api.post("/v1/volume/targets", target).await.expect(201);
    node
}

async fn provision(api: &Api, node: &str, target: &str) -> super::Answer {
    api.put(&format!("/v1/nodes/{node}/states/provision"), json!({"target": target})).await
}

async fn state(api: &Api, node: &str) -> Value {
    api.get(&format!("/v1/nodes/{node}")).await.expect(200)["provision_state"].clone()
}

#[tokio::test]
async fn a_node_goes_through_its_life_by_verbs() {
    let api = Api::new();
    let node = bootable(&api).await;
    for (verb, end) in [
        ("manage", "manageable"),
        ("provide", "available"),
        ("active", "active"),
        ("rebuild", "active"),
        ("deleted", "available"),
        ("manage", "manageable"),
        ("adopt", "active"),
    ] {
        let answer = provision(&api, &node, verb).await;
        assert_eq!(answer.header("location"), format!("http://boot.example:6385/v1/nodes/{node}/states"));
        assert_eq!(answer.headers.get("content-type"), None, "or clients try to read a body");
        assert_eq!(answer.expect(202), Value::Null);
        assert_eq!(state(&api, &node).await, end, "{verb}");
    }
    let mut states = api.get(&format!("/v1/nodes/{node}/states")).await.expect(200);
    assert!(states["provision_updated_at"].take().is_string());
    let expected = json!({
        "console_enabled": false,
        "last_error": null,
        "power_state": null,
        "provision_state": "active",
        "provision_updated_at": null,
        "target_power_state": null,
        "target_provision_state": null,
        "raid_config": {},
        "target_raid_config": {},
    });
    assert_eq!(states, expected);
}

#[tokio::test]
async fn undeploying_takes_the_volumes_away_and_keeps_the_initiator() {
    let api = Api::new();
    let node = bootable(&api).await;
    for verb in ["manage", "provide", "active"] {
        provision(&api, &node, verb).await.expect(202);
    }
    let instance = json!([
        {"op": "add", "path": "/instance_uuid", "value": "7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1"},
        {"op": "add", "path": "/instance_info/a", "value": 1},
    ]);
    api.patch(&format!("/v1/nodes/{node}"), instance).await.expect(200);
    provision(&api, &node, "deleted").await.expect(202);
    let shown = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
    assert_eq!((&shown["instance_uuid"], &shown["instance_info"]), (&Value::Null, &json!({})));
    assert_eq!(api.get("/v1/volume/targets").await.expect(200), json!({"targets": []}));
    let connectors = api.get("/v1/volume/connectors").await.expect(200);
    assert_eq!(connectors["connectors"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn undeploying_leaves_the_volumes_where_the_operator_says_so() {
    let api = Api::with(|state| state.keep_targets_on_undeploy = true);
    let node = bootable(&api).await;
    for verb in ["manage", "provide", "active", "deleted"] {
        provision(&api, &node, verb).await.expect(202);
    }
    let targets = api.get("/v1/volume/targets").await.expect(200);
    assert_eq!(targets["targets"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn a_verb_that_does_not_fit_is_refused_in_ironics_words() {
    let api = Api::new();
    let node = bootable(&api).await;
    let refusal = |verb: &str, state: &str| {
        format!(
            "The requested action \"{verb}\" can not be performed on node \"{node}\" while it is in state \"{state}\"."
        )
    };
    for verb in ["provide", "active", "deleted", "adopt", "rebuild", "abort", "inspect", "clean", "nonsense"]
    {
        assert_eq!(provision(&api, &node, verb).await.fault(400), refusal(verb, "enroll"));
    }
    for later in ["deploy", "undeploy", "rescue", "service", "unhold"] {
        assert_eq!(provision(&api, &node, later).await.fault(406), "Request not acceptable.");
    }
    assert_eq!(provision(&api.at("1.3"), &node, "manage").await.status, 406);
    provision(&api, &node, "manage").await.expect(202);
    assert_eq!(
        provision(&api, &node, "inspect").await.fault(400),
        "Driver fake-hardware does not support inspect (disabled or not implemented)."
    );
    let path = format!("/v1/nodes/{node}/states/provision");
    for (body, status) in [
        (json!({}), 400),
        (json!({"target": 1}), 400),
        (json!({"target": "clean"}), 400),
        (json!({"target": "clean", "clean_steps": [{"interface": "deploy", "step": "x"}]}), 400),
        (json!({"target": "provide", "clean_steps": [{}]}), 400),
        (json!({"target": "provide", "configdrive": "x"}), 400),
        (json!({"target": "provide", "nothing": 1}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(api.put(&path, body.clone()).await.status, status, "{body}");
    }
    assert_eq!(state(&api, &node).await, "manageable");
    provision(&api, &node, "provide").await.expect(202);
    api.put(&format!("/v1/nodes/{node}/maintenance"), json!({})).await.expect(202);
    assert_eq!(
        provision(&api, &node, "active").await.fault(400),
        format!(
            "The provisioning operation can't be performed on node {node} because it's in maintenance mode."
        )
    );
}

#[tokio::test]
async fn a_node_that_could_not_boot_is_not_deployed_and_validate_says_why() {
    let api = Api::new();
    let node = api.node(json!({"storage_interface": "cinder"})).await;
    let missing = "has no boot volume: no volume target with boot index 0; \
                   lacks the capability iscsi_boot: set properties/capabilities to iscsi_boot:True; \
                   has no initiator name: no volume connector of type iqn";
    for path in [format!("/v1/nodes/{node}/validate"), format!("/v1/nodes/validate?node={node}")] {
        let report = api.get(&path).await.expect(200);
        let storage = &report["storage"];
        let reason = format!("Failed to validate cinder storage interface for node {node}: {missing}");
        assert_eq!(storage, &json!({"result": false, "reason": reason}));
        assert_eq!(report["boot"], json!({"result": true}));
        assert_eq!(report.as_object().expect("an object").len(), 12);
    }
    for verb in ["manage", "provide"] {
        provision(&api, &node, verb).await.expect(202);
    }
    assert_eq!(
        provision(&api, &node, "active").await.fault(400),
        format!("Failed to validate deploy or power info for node {node}. Error: {missing}")
    );
    assert_eq!(state(&api, &node).await, "available");
}

#[tokio::test]
async fn power_is_recorded() {
    let api = Api::new();
    let node = api.node(json!({"name": "n"})).await;
    let path = "/v1/nodes/n/states/power";
    for (target, end) in [
        ("power on", "power on"),
        ("power off", "power off"),
        ("rebooting", "power on"),
        ("soft power off", "power off"),
        ("soft rebooting", "power on"),
    ] {
        let answer = api.put(path, json!({"target": target, "timeout": 5})).await;
        assert_eq!(answer.header("location"), "http://boot.example:6385/v1/nodes/n/states");
        answer.expect(202);
        let shown = api.get("/v1/nodes/n").await.expect(200);
        assert_eq!((&shown["power_state"], &shown["target_power_state"]), (&json!(end), &Value::Null));
    }
    let refusal =
        "The requested action \"up\" can not be performed on node \"n\" while it is in state \"power on\".";
    assert_eq!(api.put(path, json!({"target": "up"})).await.fault(400), refusal);
    assert_eq!(api.put(path, json!({"target": "power on", "timeout": 0})).await.status, 400);
    assert_eq!(api.put(path, json!({})).await.fault(400), "Missing mandatory parameter: target");
    let old = api.at("1.26");
    let path = format!("/v1/nodes/{node}/states/power");
    assert_eq!(old.put(&path, json!({"target": "soft power off"})).await.status, 406);
    assert_eq!(old.put(&path, json!({"target": "power off", "timeout": 5})).await.status, 406);
}

#[tokio::test]
async fn volumes_change_while_the_machine_is_off() {
    let api = Api::new();
    let node = bootable(&api).await;
    let targets = api.get("/v1/volume/targets").await.expect(200);
    let path = format!("/v1/volume/targets/{}", targets["targets"][0]["uuid"].as_str().expect("a UUID"));
    let power = format!("/v1/nodes/{node}/states/power");
    for verb in ["manage", "provide"] {
        provision(&api, &node, verb).await.expect(202);
    }
    let add = json!([{"op": "add", "path": "/properties/auth_password", "value": "hunter2"}]);
    let refusal = |action: &str| {
        format!(
            "The requested action \"volume target {action}\" can not be performed on node \"{node}\" while it is in state \"power on\"."
        )
    };
    api.put(&power, json!({"target": "power on"})).await.expect(202);
    assert_eq!(api.patch(&path, add.clone()).await.fault(400), refusal("update"));
    assert_eq!(api.delete(&path).await.fault(400), refusal("deletion"));
    api.put(&power, json!({"target": "power off"})).await.expect(202);
    assert_eq!(api.patch(&path, add).await.expect(200)["properties"]["auth_password"], "******");
    let other = api.node(json!({})).await;
    api.put(&format!("/v1/nodes/{other}/states/power"), json!({"target": "power off"})).await.expect(202);
    let moved = |node: &str| json!([{"op": "replace", "path": "/node_uuid", "value": node}]);
    assert_eq!(api.patch(&path, moved(&other)).await.expect(200)["node_uuid"], other);
    api.patch(&path, moved("nobody")).await.fault(400);
    api.delete(&path).await.expect(204);
}

#[tokio::test]
async fn a_machine_boots_from_the_network_and_takes_virtual_interfaces() {
    let api = Api::new();
    let node = api.node(json!({})).await;
    let device = format!("/v1/nodes/{node}/management/boot_device");
    let expected = json!({"boot_device": "pxe", "persistent": true});
    assert_eq!(api.get(&device).await.expect(200), expected);
    api.put(&device, json!({"boot_device": "pxe", "persistent": "yes"})).await.expect(204);
    assert_eq!(
        api.put(&device, json!({"boot_device": "disk"})).await.fault(400),
        "Invalid boot device disk specified."
    );
    let supported = api.get(&format!("{device}/supported")).await.expect(200);
    assert_eq!(supported, json!({"supported_boot_devices": ["pxe"]}));
    let vifs = format!("/v1/nodes/{node}/vifs");
    api.post(&vifs, json!({"id": "04452bed-5367-4202-8bf5-de4335ac56d2"})).await.expect(204);
    assert_eq!(api.get(&vifs).await.expect(200), json!({"vifs": []}));
    api.delete(&format!("{vifs}/04452bed-5367-4202-8bf5-de4335ac56d2")).await.expect(204);
    api.post(&vifs, json!({})).await.fault(400);
    assert_eq!(api.at("1.27").get(&vifs).await.status, 404);
}

#[tokio::test]
async fn what_the_interfaces_cannot_do_is_refused_as_ironic_refuses_it() {
    let api = Api::new();
    let node = api.node(json!({})).await;
    let of_node = |what: &str| format!("/v1/nodes/{node}/{what}");
    let unsupported =
        |what: &str| format!("Driver fake-hardware does not support {what} (disabled or not implemented).");
    let on = json!({"enabled": true});
    assert_eq!(api.put(&of_node("states/console"), on).await.fault(400), unsupported("console"));
    assert_eq!(
        api.put(&of_node("states/raid"), json!({"logical_disks": []})).await.fault(404),
        unsupported("raid")
    );
    assert_eq!(
        api.put(&of_node("management/inject_nmi"), json!({})).await.fault(400),
        unsupported("inject_nmi")
    );
    assert_eq!(
        api.post(&of_node("vendor_passthru/x"), json!({})).await.fault(400),
        "No handler for method x"
    );
    assert_eq!(api.get(&of_node("vendor_passthru/methods")).await.expect(200), json!({}));
    assert_eq!(
        api.get("/v1/lookup?addresses=52:54:00:ab:cd:ef").await.fault(404),
        "Resource could not be found."
    );
    assert_eq!(api.get(&of_node("traits")).await.status, 404);
}
