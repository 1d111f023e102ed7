//! Actions on nodes: provision verbs, power, validation, boot devices, and unsupported features.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::Api;

/// Creates a node with all records for a boot from its volume.
pub(super) async fn create_bootable_node(api: &Api) -> String {
    let capable = json!({"storage_interface": "external", "properties": {"capabilities": "iscsi_boot:True"}});
    let node = api.create_node(capable).await;
    let iqn = format!("iqn.2017-08.org.openstack.{node}");
    let connector = json!({"node_uuid": node, "type": "iqn", "connector_id": iqn});
    api.post("/v1/volume/connectors", connector).await.expect(201);
    create_target(api, &node).await;
    node
}

/// Creates the boot volume of a node.
pub(crate) async fn create_target(api: &Api, node: &str) {
    let target = json!({
        "node_uuid": node,
        "volume_type": "iscsi",
        "volume_id": "v",
        "boot_index": 0,
        "properties": {"target_portal": "192.0.2.1", "target_iqn": "iqn.2010-10.org.openstack:v", "target_lun": 0},
    });
    api.post("/v1/volume/targets", target).await.expect(201);
}

pub(crate) async fn set_provision_state(api: &Api, node: &str, target: &str) -> super::ApiResponse {
    api.put(&format!("/v1/nodes/{node}/states/provision"), json!({"target": target})).await
}

async fn get_provision_state(api: &Api, node: &str) -> Value {
    api.get(&format!("/v1/nodes/{node}")).await.expect(200)["provision_state"].clone()
}

#[tokio::test]
async fn provision_verbs_lead_through_the_node_lifecycle() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    for (verb, end) in [
        ("manage", "manageable"),
        ("provide", "available"),
        ("active", "active"),
        ("rebuild", "active"),
        ("deleted", "available"),
        ("manage", "manageable"),
        ("adopt", "active"),
    ] {
        let response = set_provision_state(&api, &node, verb).await;
        assert_eq!(response.header("location"), format!("http://boot.example:6385/v1/nodes/{node}/states"));
        assert_eq!(response.headers.get("content-type"), None, "or clients try to read a body");
        assert_eq!(response.expect(202), Value::Null);
        assert_eq!(get_provision_state(&api, &node).await, end, "{verb}");
    }
    let mut states = api.get(&format!("/v1/nodes/{node}/states")).await.expect(200);
    assert!(states["provision_updated_at"].take().is_string());
    let expected = json!({
        "console_enabled": false,
        "last_error": null,
        "power_state": "power on",
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
async fn undeploying_deletes_targets_and_keeps_connectors() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    for verb in ["manage", "provide", "active"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    let instance = json!([
        {"op": "add", "path": "/instance_uuid", "value": "7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1"},
        {"op": "add", "path": "/instance_info/a", "value": 1},
    ]);
    api.patch(&format!("/v1/nodes/{node}"), instance).await.expect(200);
    set_provision_state(&api, &node, "deleted").await.expect(202);
    let body = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
    assert_eq!((&body["instance_uuid"], &body["instance_info"]), (&Value::Null, &json!({})));
    assert_eq!(api.get("/v1/volume/targets").await.expect(200), json!({"targets": []}));
    let connectors = api.get("/v1/volume/connectors").await.expect(200);
    assert_eq!(connectors["connectors"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn undeploying_keeps_targets_if_configured() {
    let api = Api::with(|operator| operator.keep_targets_on_undeploy = true);
    let node = create_bootable_node(&api).await;
    for verb in ["manage", "provide", "active", "deleted"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    let targets = api.get("/v1/volume/targets").await.expect(200);
    assert_eq!(targets["targets"].as_array().expect("a list").len(), 1);
}

#[tokio::test]
async fn invalid_verbs_are_rejected_with_ironics_messages() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    let message = |verb: &str, state: &str| {
        format!(
            "The requested action \"{verb}\" can not be performed on node \"{node}\" while it is in state \"{state}\"."
        )
    };
    for verb in ["provide", "active", "deleted", "adopt", "rebuild", "abort", "inspect", "clean", "invalid"] {
        assert_eq!(set_provision_state(&api, &node, verb).await.expect_fault(400), message(verb, "enroll"));
    }
    for (later, since) in [("deploy", 73), ("undeploy", 73), ("service", 87), ("unhold", 85)] {
        assert_eq!(
            set_provision_state(&api, &node, later).await.expect_fault(406),
            format!("Request not acceptable. The minimal required API version should be 1.{since}")
        );
    }
    assert_eq!(set_provision_state(&api.with_version("1.3"), &node, "manage").await.status, 406);
    set_provision_state(&api, &node, "manage").await.expect(202);
    assert_eq!(
        set_provision_state(&api, &node, "inspect").await.expect_fault(400),
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
        (json!({"target": "provide", "unknown": 1}), 400),
        (json!([]), 400),
    ] {
        assert_eq!(api.put(&path, body.clone()).await.status, status, "{body}");
    }
    assert_eq!(get_provision_state(&api, &node).await, "manageable");
    set_provision_state(&api, &node, "provide").await.expect(202);
    api.put(&format!("/v1/nodes/{node}/maintenance"), json!({})).await.expect(202);
    assert_eq!(
        set_provision_state(&api, &node, "active").await.expect_fault(400),
        format!(
            "The provisioning operation can't be performed on node {node} because it's in maintenance mode."
        )
    );
}

#[tokio::test]
async fn rescue_is_refused_as_unsupported() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    let path = format!("/v1/nodes/{node}/states/provision");
    for verb in ["manage", "provide"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    let rescue = json!({"target": "rescue", "rescue_password": "hunter2"});
    let unavailable = api.put(&path, rescue.clone()).await.expect_fault(400);
    assert!(unavailable.contains("can not be performed"), "{unavailable}");
    set_provision_state(&api, &node, "active").await.expect(202);
    assert_eq!(api.with_version("1.37").put(&path, rescue.clone()).await.status, 406);
    for password in [Value::Null, json!(""), json!(" ")] {
        let body = json!({"target": "rescue", "rescue_password": password});
        assert_eq!(
            api.put(&path, body).await.expect_fault(400),
            "A non-empty \"rescue_password\" is required when setting target provision state to rescue"
        );
    }
    assert_eq!(
        api.put(&path, rescue.clone()).await.expect_fault(400),
        "Driver fake-hardware does not support rescue (disabled or not implemented)."
    );
    let unrescue = set_provision_state(&api, &node, "unrescue").await.expect_fault(400);
    assert!(unrescue.contains("while it is in state \"active\""), "{unrescue}");
    api.put(&format!("/v1/nodes/{node}/maintenance"), json!({})).await.expect(202);
    assert_eq!(
        api.put(&path, rescue).await.expect_fault(400),
        format!("The rescuing operation can't be performed on node {node} because it's in maintenance mode.")
    );
    assert_eq!(get_provision_state(&api, &node).await, "active");
    let body = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
    assert_eq!((&body["rescue_interface"], &body["instance_info"]), (&json!("no-rescue"), &json!({})));
}

#[tokio::test]
async fn a_config_drive_is_accepted_at_deployment_and_rebuild() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    for verb in ["manage", "provide"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    let path = format!("/v1/nodes/{node}/states/provision");
    let with_drive = |target: &str| json!({"target": target, "configdrive": "aGVsbG8="});
    api.put(&path, with_drive("active")).await.expect(202);
    assert_eq!(
        api.with_version("1.34").put(&path, with_drive("rebuild")).await.expect_fault(400),
        "Adding a config drive is only supported when setting provision state to active"
    );
    api.put(&path, with_drive("rebuild")).await.expect(202);
    assert_eq!(
        api.put(&path, with_drive("deleted")).await.expect_fault(400),
        "Adding a config drive is only supported when setting provision state to active, rebuild"
    );
}

#[tokio::test]
async fn an_unbootable_node_is_not_deployed_and_validate_reports_the_reason() {
    let api = Api::new();
    let node = api.create_node(json!({"storage_interface": "cinder"})).await;
    let missing = "there is no boot volume: no volume target has boot index 0; \
                   capability iscsi_boot is missing: set properties/capabilities to iscsi_boot:True; \
                   there is no initiator name: no volume connector has type iqn";
    for path in [format!("/v1/nodes/{node}/validate"), format!("/v1/nodes/validate?node={node}")] {
        let report = api.get(&path).await.expect(200);
        let storage = &report["storage"];
        let reason = format!("Failed to validate cinder storage interface for node {node}: {missing}");
        assert_eq!(storage, &json!({"result": false, "reason": reason}));
        assert_eq!(report["boot"], json!({"result": true}));
        assert_eq!(report.as_object().expect("an object").len(), 12);
    }
    for verb in ["manage", "provide"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    assert_eq!(
        set_provision_state(&api, &node, "active").await.expect_fault(400),
        format!("Failed to validate deploy or power info for node {node}. Error: {missing}")
    );
    assert_eq!(get_provision_state(&api, &node).await, "available");
}

#[tokio::test]
async fn the_power_state_is_recorded() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let path = "/v1/nodes/n/states/power";
    for (target, end) in [
        ("power on", "power on"),
        ("power off", "power off"),
        ("rebooting", "power on"),
        ("soft power off", "power off"),
        ("soft rebooting", "power on"),
    ] {
        let response = api.put(path, json!({"target": target, "timeout": 5})).await;
        assert_eq!(response.header("location"), "http://boot.example:6385/v1/nodes/n/states");
        response.expect(202);
        let body = api.get("/v1/nodes/n").await.expect(200);
        assert_eq!((&body["power_state"], &body["target_power_state"]), (&json!(end), &Value::Null));
    }
    let message =
        "The requested action \"up\" can not be performed on node \"n\" while it is in state \"power on\".";
    assert_eq!(api.put(path, json!({"target": "up"})).await.expect_fault(400), message);
    assert_eq!(api.put(path, json!({"target": "power on", "timeout": 0})).await.status, 400);
    assert_eq!(api.put(path, json!({})).await.expect_fault(400), "Missing mandatory parameter: target");
    let api_at_1_26 = api.with_version("1.26");
    let path = format!("/v1/nodes/{node}/states/power");
    assert_eq!(api_at_1_26.put(&path, json!({"target": "soft power off"})).await.status, 406);
    assert_eq!(api_at_1_26.put(&path, json!({"target": "power off", "timeout": 5})).await.status, 406);
}

#[tokio::test]
async fn provision_verbs_record_the_power_state() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    let power = async || api.get(&format!("/v1/nodes/{node}/states")).await.expect(200)["power_state"].take();
    assert_eq!(power().await, Value::Null, "before the first verb");
    for (verb, state) in [
        ("manage", "power off"),
        ("provide", "power off"),
        ("active", "power on"),
        ("rebuild", "power on"),
        ("deleted", "power off"),
        ("manage", "power off"),
        ("adopt", "power on"),
    ] {
        if verb == "rebuild" {
            let off = json!({"target": "power off"});
            api.put(&format!("/v1/nodes/{node}/states/power"), off).await.expect(202);
        }
        set_provision_state(&api, &node, verb).await.expect(202);
        assert_eq!(power().await, state, "{verb}");
    }
    let on = json!({"target": "power on"});
    let other = api.create_node(json!({})).await;
    api.put(&format!("/v1/nodes/{other}/states/power"), on).await.expect(202);
    set_provision_state(&api, &other, "manage").await.expect(202);
    let shown = api.get(&format!("/v1/nodes/{other}")).await.expect(200);
    assert_eq!(shown["power_state"], "power on", "`manage` keeps a state that a client recorded");
}

#[tokio::test]
async fn volumes_change_only_while_the_machine_is_off() {
    let api = Api::new();
    let node = create_bootable_node(&api).await;
    let targets = api.get("/v1/volume/targets").await.expect(200);
    let path = format!("/v1/volume/targets/{}", targets["targets"][0]["uuid"].as_str().expect("a UUID"));
    let power = format!("/v1/nodes/{node}/states/power");
    for verb in ["manage", "provide"] {
        set_provision_state(&api, &node, verb).await.expect(202);
    }
    let add = json!([{"op": "add", "path": "/properties/auth_password", "value": "hunter2"}]);
    let message = |action: &str| {
        format!(
            "The requested action \"volume target {action}\" can not be performed on node \"{node}\" while it is in state \"power on\"."
        )
    };
    api.put(&power, json!({"target": "power on"})).await.expect(202);
    assert_eq!(api.patch(&path, add.clone()).await.expect_fault(400), message("update"));
    assert_eq!(api.delete(&path).await.expect_fault(400), message("deletion"));
    api.put(&power, json!({"target": "power off"})).await.expect(202);
    assert_eq!(api.patch(&path, add).await.expect(200)["properties"]["auth_password"], "******");
    let other = api.create_node(json!({})).await;
    api.put(&format!("/v1/nodes/{other}/states/power"), json!({"target": "power off"})).await.expect(202);
    let moved = |node: &str| json!([{"op": "replace", "path": "/node_uuid", "value": node}]);
    assert_eq!(api.patch(&path, moved(&other)).await.expect(200)["node_uuid"], other);
    api.patch(&path, moved("missing")).await.expect_fault(400);
    api.delete(&path).await.expect(204);
}

#[tokio::test]
async fn the_boot_device_is_pxe_and_vifs_are_accepted() {
    let api = Api::new();
    let node = api.create_node(json!({"driver": "manual-management"})).await;
    let device = format!("/v1/nodes/{node}/management/boot_device");
    let expected = json!({"boot_device": "pxe", "persistent": true});
    assert_eq!(api.get(&device).await.expect(200), expected);
    api.put(&device, json!({"boot_device": "pxe", "persistent": "yes"})).await.expect(204);
    assert_eq!(
        api.put(&device, json!({"boot_device": "cdrom"})).await.expect_fault(400),
        "Invalid boot device cdrom specified, supported are pxe, disk."
    );
    api.put(&device, json!({"boot_device": "disk", "persistent": true})).await.expect(204);
    assert_eq!(api.get(&device).await.expect(200), expected, "the operator sets the boot order");
    // For one boot, it is a one-time boot from the local disk.
    api.put(&device, json!({"boot_device": "disk"})).await.expect(204);
    assert_eq!(api.get(&device).await.expect(200), json!({"boot_device": "disk", "persistent": false}));
    api.put(&device, json!({"boot_device": "pxe"})).await.expect(204);
    assert_eq!(api.get(&device).await.expect(200), expected);
    let supported = api.get(&format!("{device}/supported")).await.expect(200);
    assert_eq!(supported, json!({"supported_boot_devices": ["pxe", "disk"]}));
    let fake = format!("/v1/nodes/{}/management/boot_device", api.create_node(json!({})).await);
    assert_eq!(api.get(&fake).await.expect(200), json!({"boot_device": "pxe", "persistent": false}));
    let supported = api.get(&format!("{fake}/supported")).await.expect(200);
    assert_eq!(supported, json!({"supported_boot_devices": ["pxe"]}));
    api.put(&fake, json!({"boot_device": "disk"})).await.expect_fault(400);
    let vifs = format!("/v1/nodes/{node}/vifs");
    api.post(&vifs, json!({"id": "04452bed-5367-4202-8bf5-de4335ac56d2"})).await.expect(204);
    assert_eq!(api.get(&vifs).await.expect(200), json!({"vifs": []}));
    api.delete(&format!("{vifs}/04452bed-5367-4202-8bf5-de4335ac56d2")).await.expect(204);
    api.post(&vifs, json!({})).await.expect_fault(400);
    assert_eq!(api.with_version("1.27").get(&vifs).await.status, 404);
}

#[tokio::test]
async fn a_node_may_come_last_in_the_path() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "web-1"})).await;
    let disabled = json!({"console_enabled": false, "console_info": null});
    // The OpenAPI document has only the usual paths.
    let send = async |method: &str, path: String, body: Value| {
        let request = Request::builder().method(method).uri(path).header("host", "boot.example:6385");
        let request = request.header("x-openstack-ironic-api-version", api.version);
        api.call_router(request.body(Body::from(body.to_string())).expect("a request")).await
    };
    for ident in [&node, "web-1"] {
        let console = send("GET", format!("/v1/nodes/states/console/{ident}"), json!({})).await;
        assert_eq!(console.expect(200), disabled);
        let power = format!("/v1/nodes/states/power/{ident}");
        send("PUT", power, json!({"target": "power off"})).await.expect(202);
        let states = send("GET", format!("/v1/nodes/states/{ident}"), json!({})).await.expect(200);
        assert_eq!(states["power_state"], "power off");
    }
    let missing = send("GET", "/v1/nodes/states/console/web-2".into(), json!({})).await.expect_fault(404);
    assert_eq!(missing, "Node web-2 could not be found.");
}

#[tokio::test]
async fn unsupported_features_are_rejected_as_in_ironic() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let of_node = |what: &str| format!("/v1/nodes/{node}/{what}");
    let unsupported =
        |what: &str| format!("Driver fake-hardware does not support {what} (disabled or not implemented).");
    let on = json!({"enabled": true});
    assert_eq!(api.put(&of_node("states/console"), on).await.expect_fault(400), unsupported("console"));
    assert_eq!(
        api.put(&of_node("states/raid"), json!({"logical_disks": []})).await.expect_fault(404),
        unsupported("raid")
    );
    // `openstack baremetal node unset --target-raid-config`
    api.put(&of_node("states/raid"), json!({})).await.expect(204);
    assert_eq!(
        api.put(&of_node("states/raid"), json!([])).await.expect_fault(400),
        "Expected types dict for target_raid_config, got list"
    );
    assert_eq!(api.with_version("1.11").put(&of_node("states/raid"), json!({})).await.status, 406);
    assert_eq!(
        api.put(&of_node("management/inject_nmi"), json!({})).await.expect_fault(400),
        unsupported("inject_nmi")
    );
    assert_eq!(
        api.post(&of_node("vendor_passthru/x"), json!({})).await.expect_fault(400),
        "No handler for method x"
    );
    assert_eq!(api.get(&of_node("vendor_passthru/methods")).await.expect(200), json!({}));
    assert_eq!(
        api.get("/v1/lookup?addresses=52:54:00:ab:cd:ef").await.expect_fault(404),
        "Resource could not be found."
    );
    let heartbeat = json!({"callback_url": "http://192.0.2.1:9999", "agent_version": "11.0"});
    let path = format!("/v1/heartbeat/{node}");
    assert_eq!(
        api.with_version("1.35").post(&path, heartbeat.clone()).await.expect_fault(400),
        "Field \"agent_version\" not recognised"
    );
    assert_eq!(api.post(&path, heartbeat).await.expect_fault(400), unsupported("heartbeat"));
    assert_eq!(api.get(&of_node("history")).await.status, 404);
}
