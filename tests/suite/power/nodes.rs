//! Nodes with driver `redfish` through the API: power, boot device, validation, refusals.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::api::Api;
use crate::fake_bmc::{BmcCall, BmcTrouble, FakeBmc, PASSWORD, SYSTEM};
use crate::operator::build_operator;

/// The time limit of each step, even on a busy host.
const LIMIT: Duration = Duration::from_secs(60);

/// Creates a node with this BMC.
pub(super) async fn create_node(api: &Api, bmc: &FakeBmc, more: Value) -> String {
    let mut body = json!({"driver": "redfish", "driver_info": bmc.driver_info()});
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    api.create_node(body).await
}

/// Waits until no operation on the node is under way.
pub(super) async fn wait_until_idle(api: &Api, node: &str) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let node = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
        if node["reservation"].is_null() {
            return node;
        }
        assert!(Instant::now() < deadline, "{node}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sets the power state and waits for the end.
async fn set_power(api: &Api, node: &str, target: &str) -> Value {
    api.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": target})).await.expect(202);
    wait_until_idle(api, node).await
}

#[tokio::test]
async fn each_target_switches_the_machine() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({})).await;
    let reset = |kind: &str| format!("POST {SYSTEM}/Actions/ComputerSystem.Reset {kind}");
    for (target, state, commands) in [
        ("power on", "power on", &["On"][..]),
        ("power on", "power on", &[]),
        ("rebooting", "power on", &["ForceOff", "On"]),
        ("soft rebooting", "power on", &["GracefulRestart"]),
        ("soft power off", "power off", &["GracefulShutdown"]),
        ("rebooting", "power on", &["On"]),
        ("power off", "power off", &["ForceOff"]),
        ("soft rebooting", "power on", &["On"]),
    ] {
        let body = set_power(&api, &node, target).await;
        assert_eq!((&body["power_state"], &body["last_error"]), (&json!(state), &Value::Null), "{target}");
        assert_eq!(body["target_power_state"], Value::Null);
        assert_eq!(
            bmc.take_commands(),
            commands.iter().map(|kind| reset(kind)).collect::<Vec<_>>(),
            "{target}"
        );
    }
}

#[tokio::test]
async fn a_failure_is_the_last_error_and_keeps_the_state() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({})).await;
    set_power(&api, &node, "power on").await;
    let url = bmc.url();
    bmc.script(|state| state.obeys = false);
    let body = set_power(&api, &node, "power off").await;
    assert_eq!(body["power_state"], "power on");
    assert_eq!(
        body["last_error"],
        format!(
            "Failed to change power state to 'power off' by 'power off': BMC {url} accepted the command to switch off, but \
             the machine was still power on after 1 s"
        )
    );
    bmc.script(|state| (state.obeys, state.is_on, state.dies) = (true, false, true));
    let body = set_power(&api, &node, "power on").await;
    let expected = format!(
        "Failed to change power state to 'power on' by 'power on': BMC {url} switched the machine on, and it went off \
         again by itself"
    );
    assert_eq!(body["last_error"], expected);
    // A successful change clears the error.
    bmc.script(|state| state.dies = false);
    assert_eq!(set_power(&api, &node, "power off").await["last_error"], Value::Null);
}

#[tokio::test]
async fn a_node_is_reserved_during_a_change() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({"name": "web-1"})).await;
    bmc.fail(BmcCall::Reset, 1, BmcTrouble::Hang);
    let path = format!("/v1/nodes/{node}/states/power");
    api.put(&path, json!({"target": "power on"})).await.expect(202);
    let during = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
    assert_eq!(
        (&during["reservation"], &during["target_power_state"]),
        (&json!("boot-1"), &json!("power on"))
    );
    let locked = format!(
        "Node {node} is locked by host boot-1, please retry after the current operation is completed."
    );
    assert_eq!(api.put(&path, json!({"target": "power off"})).await.expect_fault(409), locked);
    let rename = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    assert_eq!(api.patch(&format!("/v1/nodes/{node}"), rename).await.expect_fault(409), locked);
    assert_eq!(api.delete(&format!("/v1/nodes/{node}")).await.expect_fault(409), locked);
    for (path, body) in [
        ("states/provision", json!({"target": "manage"})),
        ("management/boot_device", json!({"boot_device": "pxe"})),
        ("maintenance", json!({})),
    ] {
        let response = api.put(&format!("/v1/nodes/{node}/{path}"), body).await;
        assert_eq!(response.expect_fault(409), locked, "{path}");
    }
    let body = wait_until_idle(&api, &node).await;
    let error = body["last_error"].as_str().expect("an error");
    assert!(error.ends_with("did not answer within 3 s"), "{error}");
}

#[tokio::test]
async fn a_hanging_bmc_delays_no_other_node() {
    let (api, hanging, bmc) = (Api::new(), FakeBmc::start(), FakeBmc::start());
    let stuck = create_node(&api, &hanging, json!({})).await;
    let node = create_node(&api, &bmc, json!({})).await;
    hanging.fail(BmcCall::Login, 99, BmcTrouble::Hang);
    api.put(&format!("/v1/nodes/{stuck}/states/power"), json!({"target": "power on"})).await.expect(202);
    assert_eq!(set_power(&api, &node, "power on").await["power_state"], "power on");
    assert!(!api.get(&format!("/v1/nodes/{stuck}")).await.expect(200)["reservation"].is_null());
    wait_until_idle(&api, &stuck).await;
}

#[tokio::test]
async fn calls_are_limited_over_all_nodes_and_to_one_per_node() {
    let bmc = FakeBmc::start();
    bmc.script(|state| state.delay = Duration::from_millis(5));
    let mut operator = build_operator();
    operator.power = volboot::power::Power::new(operator.inventory.clone(), 2, crate::operator::POWER_LIMITS);
    let api = Api::with(|built| *built = operator);
    let mut nodes = Vec::new();
    for _ in 0..6 {
        nodes.push(create_node(&api, &bmc, json!({})).await);
    }
    for node in &nodes {
        api.put(&format!("/v1/nodes/{node}/states/power"), json!({"target": "power on"})).await.expect(202);
    }
    for node in &nodes {
        wait_until_idle(&api, node).await;
    }
    assert_eq!(bmc.script(|state| state.concurrent.1), 2);
}

#[tokio::test]
async fn secrets_are_masked_and_kept() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({})).await;
    let body = api.get(&format!("/v1/nodes/{node}")).await.expect(200);
    assert_eq!(body["driver_info"]["redfish_password"], "******");
    assert_eq!(body["driver_info"]["redfish_username"], "root");
    assert!(!body.to_string().contains(PASSWORD));
    let patch = json!([{"op": "add", "path": "/driver_info/redfish_auth_type", "value": "session"}]);
    api.patch(&format!("/v1/nodes/{node}"), patch).await.expect(200);
    assert_eq!(set_power(&api, &node, "power on").await["last_error"], Value::Null);
}

#[tokio::test]
async fn driver_info_is_validated_as_in_ironic() {
    let api = Api::new();
    let node = api.create_node(json!({"driver": "redfish"})).await;
    let missing =
        format!("Missing the following Redfish properties in node {node} driver_info: ['redfish_address']");
    let report = api.get(&format!("/v1/nodes/{node}/validate")).await.expect(200);
    for interface in ["power", "management"] {
        assert_eq!(report[interface], json!({"result": false, "reason": missing}));
    }
    assert_eq!(report["boot"], json!({"result": true}));
    let path = format!("/v1/nodes/{node}");
    let power = api.put(&format!("{path}/states/power"), json!({"target": "power on"})).await;
    assert_eq!(power.expect_fault(400), missing);
    assert_eq!(api.get(&format!("{path}/management/boot_device")).await.expect_fault(400), missing);
    let address =
        json!([{"op": "add", "path": "/driver_info/redfish_address", "value": "https://192.0.2.5"}]);
    api.patch(&path, address).await.expect(200);
    let report = api.get(&format!("{path}/validate")).await.expect(200);
    assert_eq!(
        (&report["power"], &report["management"]),
        (&json!({"result": true}), &json!({"result": true}))
    );
    let properties = api.get("/v1/drivers/redfish/properties").await.expect(200);
    assert_eq!(properties.as_object().expect("an object").len(), 6);
    let driver = api.get("/v1/drivers/redfish").await.expect(200);
    assert_eq!(driver["enabled_management_interfaces"], json!(["redfish", "noop"]));
    assert_eq!(
        (&driver["default_power_interface"], &driver["default_boot_interface"]),
        (&json!("redfish"), &json!("ipxe"))
    );
}

#[tokio::test]
async fn the_boot_device_is_that_of_the_bmc() {
    let (api, bmc) = (Api::new(), FakeBmc::start());
    let node = create_node(&api, &bmc, json!({"properties": {"capabilities": "boot_mode:uefi"}})).await;
    let path = format!("/v1/nodes/{node}/management/boot_device");
    assert_eq!(api.get(&path).await.expect(200), json!({"boot_device": null, "persistent": null}));
    let supported = api.get(&format!("{path}/supported")).await.expect(200);
    assert_eq!(supported, json!({"supported_boot_devices": ["pxe", "disk", "cdrom", "bios", "uefihttp"]}));
    api.put(&path, json!({"boot_device": "pxe", "persistent": true})).await.expect(204);
    assert_eq!(bmc.take_commands(), [format!("PATCH {SYSTEM} Pxe Continuous UEFI")]);
    assert_eq!(api.get(&path).await.expect(200), json!({"boot_device": "pxe", "persistent": true}));
    api.put(&path, json!({"boot_device": "disk"})).await.expect(204);
    assert_eq!(api.get(&path).await.expect(200), json!({"boot_device": "disk", "persistent": false}));
    assert_eq!(api.put(&path, json!({"boot_device": "wanboot"})).await.status, 400);
    bmc.fail(BmcCall::Read, 1, BmcTrouble::Body("<html>".into()));
    let error = api.get(&path).await.expect_fault(500);
    assert!(
        error.starts_with(&format!("Redfish exception occurred. Error: BMC {} gave no valid", bmc.url())),
        "{error}"
    );
    // Without an override for all boots, the device is set again before each boot.
    bmc.script(|state| state.refuses_continuous = true);
    api.put(&path, json!({"boot_device": "pxe", "persistent": true})).await.expect(204);
    assert_eq!(api.get(&path).await.expect(200), json!({"boot_device": "pxe", "persistent": true}));
    bmc.script(|state| drop(state.boot.insert("BootSourceOverrideEnabled".into(), "Disabled".into())));
    bmc.take_commands();
    set_power(&api, &node, "rebooting").await;
    assert_eq!(bmc.take_commands()[0], format!("PATCH {SYSTEM} Pxe Once UEFI"));
}

#[tokio::test]
async fn the_round_reads_what_was_switched_by_others() {
    let bmc = FakeBmc::start();
    let operator = build_operator();
    let power = operator.power.clone();
    let api = Api::with(|built| *built = operator);
    let node = create_node(&api, &bmc, json!({})).await;
    super::provision::set_provision(&api, &node, "manage").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let rounds = tokio::spawn(power.run_rounds(stop.clone()));
    for (is_on, state) in [(true, "power on"), (false, "power off")] {
        bmc.script(|bmc| bmc.is_on = is_on);
        let deadline = Instant::now() + LIMIT;
        while api.get(&format!("/v1/nodes/{node}")).await.expect(200)["power_state"] != state {
            assert!(Instant::now() < deadline, "{state}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    stop.cancel();
    rounds.await.expect("ends");
}
