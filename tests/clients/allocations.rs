//! Allocations, conductors and BIOS settings with the `openstack baremetal` command line.

use serde_json::{Value, json};

use crate::documents::block;
use crate::openstack::{OpenStackClient, text};

/// Creates an available node, switched off.
fn create_available_node(client: &OpenStackClient, name: &str) {
    client.run_ok(&format!("node create --driver fake-hardware --name {name} --resource-class large"));
    client.run_ok(&format!("node manage {name} --wait 30"));
    client.run_ok(&format!("node power off {name} --power-timeout 30"));
    client.run_ok(&format!("node provide {name} --wait 30"));
}

/// The commands of the guide `volumes.md`, and what follows a reservation.
#[test]
fn a_client_reserves_a_node_uses_and_frees_it() {
    let client = OpenStackClient::new(None);
    for name in ["n1", "n2"] {
        create_available_node(&client, name);
    }
    client.run_ok("node add trait n2 CUSTOM_SSD");
    let commands = block("allocation create --resource-class large");
    let commands =
        commands.iter().map(|command| command.strip_prefix("openstack baremetal ").expect("a command"));
    commands.for_each(|command| drop(client.run_ok(command)));

    let allocation = client.run_json("allocation show web");
    let uuid = text(&allocation["uuid"]);
    assert_eq!((&allocation["state"], &allocation["traits"]), (&json!("active"), &json!(["CUSTOM_SSD"])));
    let node = client.show_node("n2", "uuid instance_uuid allocation_uuid instance_info");
    assert_eq!(
        node,
        json!({
            "uuid": allocation["node_uuid"],
            "instance_uuid": uuid,
            "allocation_uuid": uuid,
            "instance_info": {"traits": ["CUSTOM_SSD"]},
        })
    );
    let listed = client.run_json("allocation list --node n2 --state active --resource-class large");
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["name"]), (Some(1), &json!("web")));
    assert_eq!(client.run_json("allocation list --long --sort name")[0]["extra"], json!({}));

    let stderr =
        client.run_error("allocation create --resource-class large --trait CUSTOM_SSD --name more --wait");
    assert!(stderr.contains("no suitable nodes have the requested traits CUSTOM_SSD"), "{stderr}");
    let stderr = client.run_error("allocation create --resource-class large --name web");
    assert!(stderr.contains("An allocation with name web already exists."), "{stderr}");
    let stderr = client.run_error("allocation create --resource-class large --candidate-node n3");
    assert!(stderr.contains("Nodes cannot be found: 'n3'"), "{stderr}");
    client.run_ok("allocation delete more");

    client.run_ok("node deploy n2 --wait 30");
    let stderr = client.run_error("allocation delete web");
    assert!(stderr.contains("because the node is active"), "{stderr}");
    client.run_ok("node undeploy n2 --wait 30");
    assert_eq!(client.run_json("allocation list"), json!([]), "the undeployment ends the allocation");
    client.run_ok("node power off n2 --power-timeout 30");
    client.run_ok("allocation create --resource-class large --candidate-node n2 --name web --wait");
    client.run_ok("allocation delete web");
    assert_eq!(client.show_node("n2", "instance_uuid"), json!({"instance_uuid": Value::Null}));
    for name in ["n1", "n2"] {
        client.run_ok(&format!("node delete {name}"));
    }
}

#[test]
fn volboot_is_a_conductor_and_nodes_have_no_bios_settings() {
    let client = OpenStackClient::new(Some("1.52"));
    let conductors = client.run_json("conductor list");
    let host = text(&conductors[0]["hostname"]);
    assert_eq!(conductors, json!([{"hostname": host, "conductor_group": "", "alive": true}]));
    let conductor = client.run_json(&format!("conductor show {host}"));
    assert_eq!(conductor["drivers"], json!(["fake-hardware", "manual-management", "redfish"]));
    assert!(client.run_error("conductor show none").contains("Conductor none could not be found."));
    assert_eq!(client.run_json("driver list")[0]["hosts"], host);

    client.run_ok("node create --driver fake-hardware --name n1 --bios-interface no-bios");
    let node = client.show_node("n1", "conductor conductor_group bios_interface");
    assert_eq!(node, json!({"conductor": host, "conductor_group": "", "bios_interface": "no-bios"}));
    let named = json!([{"name": "n1"}]);
    assert_eq!(client.run_json(&format!("node list --conductor {host} --fields name")), named);
    assert_eq!(client.run_json("node list --conductor-group rack --fields name"), json!([]));
    let stderr = client.run_error("node set n1 --conductor-group rack");
    assert!(stderr.contains("for conductor group \"rack\""), "{stderr}");
    client.run_ok("node unset n1 --conductor-group");
    assert_eq!(client.run_json("node bios setting list n1"), json!([]));
    let stderr = client.run_error("node bios setting show n1 boot_mode");
    assert!(stderr.contains("doesn't have a BIOS setting 'boot_mode'"), "{stderr}");
    client.run_ok("node delete n1");
}
