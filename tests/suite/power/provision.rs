//! Provision verbs of nodes with a BMC.

use serde_json::{Value, json};

use super::nodes::{create_node, wait_until_idle};
use crate::api::{Api, states};
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc, SYSTEM};

/// Sends a verb that is accepted, and waits for its end.
pub(super) async fn set_provision(api: &Api, node: &str, verb: &str) -> Value {
    states::set_provision_state(api, node, verb).await.expect(202);
    wait_until_idle(api, node).await
}

/// A node with its boot volume, in state `available`.
async fn create_available(api: &Api, bmc: &FakeBmc) -> String {
    let more = json!({"storage_interface": "external", "properties": {"capabilities": "iscsi_boot:True"}});
    let node = create_node(api, bmc, more).await;
    let iqn = format!("iqn.2017-08.org.openstack.{node}");
    let connector = json!({"node_uuid": node, "type": "iqn", "connector_id": iqn});
    api.post("/v1/volume/connectors", connector).await.expect(201);
    states::create_target(api, &node).await;
    set_provision(api, &node, "manage").await;
    set_provision(api, &node, "provide").await;
    node
}

async fn count_targets(api: &Api) -> usize {
    api.get("/v1/volume/targets").await.expect(200)["targets"].as_array().expect("a list").len()
}

#[tokio::test]
async fn manage_verifies_the_credentials() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({})).await;
    bmc.fail(BmcCall::Login, 1, BmcTrouble::Status(401, "Base.1.8.NoValidSession"));
    bmc.fail(BmcCall::Systems, 1, BmcTrouble::Status(401, "Base.1.8.NoValidSession"));
    let body = set_provision(&api, &node, "manage").await;
    assert_eq!((&body["provision_state"], &body["target_provision_state"]), (&json!("enroll"), &Value::Null));
    assert_eq!(
        body["last_error"],
        format!(
            "Failed to get power state for node {node}. Error: BMC {} refused the login of user root: 401: This is \
             Base.1.8.NoValidSession.",
            bmc.url()
        )
    );
    bmc.script(|state| state.is_on = true);
    let body = set_provision(&api, &node, "manage").await;
    assert_eq!((&body["provision_state"], &body["power_state"]), (&json!("manageable"), &json!("power on")));
    assert_eq!(body["last_error"], Value::Null);
    assert_eq!(bmc.take_commands(), Vec::<String>::new(), "the machine is left as it is");
}

#[tokio::test]
async fn deployment_switches_the_machine_on_from_the_network() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_available(&api, &bmc).await;
    let reset = |kind: &str| format!("POST {SYSTEM}/Actions/ComputerSystem.Reset {kind}");
    let patch = format!("PATCH {SYSTEM} Pxe Continuous UEFI");
    let body = set_provision(&api, &node, "active").await;
    assert_eq!((&body["provision_state"], &body["power_state"]), (&json!("active"), &json!("power on")));
    assert_eq!(bmc.take_commands(), [patch.clone(), reset("On")]);
    let body = set_provision(&api, &node, "rebuild").await;
    assert_eq!((&body["provision_state"], &body["power_state"]), (&json!("active"), &json!("power on")));
    assert_eq!(bmc.take_commands(), [reset("ForceOff"), patch, reset("On")]);
    let body = set_provision(&api, &node, "deleted").await;
    assert_eq!((&body["provision_state"], &body["power_state"]), (&json!("available"), &json!("power off")));
    assert_eq!(bmc.take_commands(), [reset("ForceOff")]);
    assert_eq!(count_targets(&api).await, 0);
}

#[tokio::test]
async fn an_undeployment_leaves_no_volume_for_the_next_deployment() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_available(&api, &bmc).await;
    set_provision(&api, &node, "active").await;
    let target =
        |name: &str| json!({"target": format!("iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:{name}")});
    for (kind, name) in [("fallback", "spare"), ("boot-once", "rescue")] {
        api.put(&format!("/v1/nodes/{node}/{kind}"), target(name)).await.expect(200);
    }
    set_provision(&api, &node, "deleted").await;
    for (kind, key) in [("fallback", "fallback"), ("boot-once", "boot_once")] {
        let body = api.get(&format!("/v1/nodes/{node}/{kind}")).await.expect(200);
        assert_eq!(body[key], Value::Null, "{body}");
    }
}

#[tokio::test]
async fn a_failed_deployment_names_the_bmc() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_available(&api, &bmc).await;
    bmc.script(|state| state.forgets = 2);
    let body = set_provision(&api, &node, "active").await;
    assert_eq!(
        (&body["provision_state"], &body["power_state"]),
        (&json!("deploy failed"), &json!("power off"))
    );
    assert_eq!(
        body["last_error"],
        format!(
            "Failed to deploy. Error: BMC {} ignored the boot override: asked for Pxe Continuous, it has None Disabled UEFI",
            bmc.url()
        )
    );
    assert_eq!(set_provision(&api, &node, "active").await["provision_state"], "active");
}

#[tokio::test]
async fn no_volume_is_released_while_the_machine_may_run() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_available(&api, &bmc).await;
    set_provision(&api, &node, "active").await;
    bmc.script(|state| state.obeys = false);
    let body = set_provision(&api, &node, "deleted").await;
    assert_eq!((&body["provision_state"], &body["power_state"]), (&json!("error"), &json!("power on")));
    let error = body["last_error"].as_str().expect("an error");
    assert!(error.contains(&format!("BMC {} accepted the command to switch off", bmc.url())), "{error}");
    assert_eq!(count_targets(&api).await, 1);
    bmc.script(|state| state.obeys = true);
    assert_eq!(set_provision(&api, &node, "deleted").await["provision_state"], "available");
    assert_eq!(count_targets(&api).await, 0);
}

#[tokio::test]
async fn an_invalid_driver_info_refuses_the_deployment() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_available(&api, &bmc).await;
    let remove = json!([{"op": "remove", "path": "/driver_info/redfish_address"}]);
    api.patch(&format!("/v1/nodes/{node}"), remove).await.expect(200);
    let error = states::set_provision_state(&api, &node, "active").await.expect_fault(400);
    assert!(error.contains("Missing the following Redfish properties"), "{error}");
}
