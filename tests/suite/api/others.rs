//! Drivers, chassis and port groups.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn drivers_tell_their_interfaces() {
    let api = Api::new();
    let list = api.get("/v1/drivers").await.expect(200);
    assert_eq!(column(&list, "drivers", "name"), ["fake-hardware", "manual-management"]);
    assert_eq!(list["drivers"][0]["default_boot_interface"], Value::Null);
    let detailed = api.get("/v1/drivers?detail=True").await.expect(200);
    let one = api.get("/v1/drivers/manual-management").await.expect(200);
    assert_eq!(detailed["drivers"][1], one);
    let link = |path: &str| {
        json!([
            {"rel": "self", "href": format!("http://boot.example:6385/v1/drivers/{path}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/drivers/{path}")},
        ])
    };
    let expected = json!({
        "name": "manual-management",
        "type": "dynamic",
        "hosts": ["volboot"],
        "links": link("manual-management"),
        "properties": link("manual-management/properties"),
        "default_boot_interface": "ipxe",
        "enabled_boot_interfaces": ["ipxe"],
        "default_console_interface": "no-console",
        "enabled_console_interfaces": ["no-console"],
        "default_deploy_interface": "direct",
        "enabled_deploy_interfaces": ["direct"],
        "default_inspect_interface": "no-inspect",
        "enabled_inspect_interfaces": ["no-inspect"],
        "default_management_interface": "noop",
        "enabled_management_interfaces": ["noop"],
        "default_network_interface": "noop",
        "enabled_network_interfaces": ["noop"],
        "default_power_interface": "fake",
        "enabled_power_interfaces": ["fake"],
        "default_raid_interface": "no-raid",
        "enabled_raid_interfaces": ["no-raid"],
        "default_storage_interface": "noop",
        "enabled_storage_interfaces": ["noop", "external", "cinder"],
        "default_vendor_interface": "no-vendor",
        "enabled_vendor_interfaces": ["no-vendor"],
    });
    assert_eq!(one, expected);
    let old = api.at("1.1").get("/v1/drivers/fake-hardware").await.expect(200);
    assert_eq!(old.as_object().expect("an object").len(), 3);
    assert_eq!(
        api.get("/v1/drivers/none").await.fault(404),
        "Could not find the following driver(s) or hardware type(s): none."
    );
    assert_eq!(api.get("/v1/drivers?type=classic").await.expect(200), json!({"drivers": []}));
    assert_eq!(api.get("/v1/drivers?type=other").await.status, 400);
    assert_eq!(api.at("1.29").get("/v1/drivers?type=dynamic").await.status, 406);
    for path in ["/v1/drivers/fake-hardware/properties", "/v1/drivers/properties?driver_name=fake-hardware"] {
        assert_eq!(api.get(path).await.expect(200), json!({}), "{path}");
    }
}

#[tokio::test]
async fn a_chassis_holds_nodes_and_is_not_deleted_with_them() {
    let api = Api::new();
    let created =
        api.post("/v1/chassis", json!({"description": "rack", "extra": {"row": 1}})).await.expect(201);
    let chassis = created["uuid"].as_str().expect("a UUID");
    let nodes = format!("http://boot.example:6385/v1/chassis/{chassis}/nodes");
    assert_eq!(created["nodes"][0][0]["href"], nodes);
    let node = api.node(json!({"chassis_uuid": chassis})).await;
    api.node(json!({})).await;
    for path in [format!("/v1/chassis/{chassis}/nodes"), format!("/v1/nodes?chassis_uuid={chassis}")] {
        assert_eq!(column(&api.get(&path).await.expect(200), "nodes", "uuid"), [node.as_str()], "{path}");
    }
    let path = format!("/v1/chassis/{chassis}");
    assert_eq!(
        api.delete(&path).await.fault(400),
        format!("Cannot complete the requested action because chassis {chassis} contains nodes.")
    );
    let remove = json!([{"op": "remove", "path": "/chassis_uuid"}]);
    assert_eq!(api.at("1.24").patch(&format!("/v1/nodes/{node}"), remove.clone()).await.status, 406);
    api.patch(&format!("/v1/nodes/{node}"), remove).await.expect(200);
    let rename = json!([{"op": "replace", "path": "/description", "value": "row"}]);
    assert_eq!(api.patch(&path, rename).await.expect(200)["description"], "row");
    assert_eq!(column(&api.get("/v1/chassis").await.expect(200), "chassis", "extra"), [Value::Null]);
    assert_eq!(
        column(&api.get("/v1/chassis/detail").await.expect(200), "chassis", "extra"),
        [json!({"row": 1})]
    );
    api.delete(&path).await.expect(204);
    let nowhere = json!([{"op": "add", "path": "/chassis_uuid", "value": chassis}]);
    assert_eq!(
        api.patch(&format!("/v1/nodes/{node}"), nowhere).await.fault(400),
        format!("Chassis {chassis} could not be found.")
    );
}

#[tokio::test]
async fn a_port_group_holds_ports_of_its_node() {
    let api = Api::new();
    let (node, other) = (api.node(json!({"name": "n"})).await, api.node(json!({})).await);
    let asked = json!({"node_uuid": node, "name": "bond0", "address": "52:54:00:AB:CD:00"});
    let created = api.post("/v1/portgroups", asked.clone()).await.expect(201);
    let group = created["uuid"].as_str().expect("a UUID");
    let facts = ["address", "mode", "standalone_ports_supported", "properties"].map(|key| &created[key]);
    assert_eq!(json!(facts), json!(["52:54:00:ab:cd:00", "active-backup", true, {}]));
    assert_eq!(
        api.post("/v1/portgroups", asked).await.fault(409),
        "A portgroup with name bond0 already exists."
    );
    let port = |node: &str, last: u8| json!({"node_uuid": node, "address": format!("52:54:00:00:00:{last:02x}"), "portgroup_uuid": group});
    let made = api.post("/v1/ports", port(&node, 1)).await.expect(201);
    api.post("/v1/ports", port(&other, 2)).await.fault(400);
    for path in
        ["/v1/portgroups/bond0/ports", "/v1/ports?portgroup=bond0", "/v1/portgroups/bond0/ports/detail"]
    {
        assert_eq!(
            column(&api.get(path).await.expect(200), "ports", "uuid"),
            [made["uuid"].clone()],
            "{path}"
        );
    }
    assert_eq!(api.get("/v1/ports?portgroup=bond0&node=n").await.status, 403);
    for path in ["/v1/portgroups", "/v1/nodes/n/portgroups", "/v1/portgroups?address=52:54:00:ab:cd:00"] {
        assert_eq!(column(&api.get(path).await.expect(200), "portgroups", "name"), ["bond0"], "{path}");
    }
    assert!(api.delete("/v1/portgroups/bond0").await.fault(400).ends_with("contains ports."));
    api.delete(&format!("/v1/nodes/{node}")).await.expect(204);
    assert_eq!(api.get("/v1/portgroups").await.expect(200), json!({"portgroups": []}));
    assert_eq!(api.at("1.22").get("/v1/portgroups").await.status, 404);
}
