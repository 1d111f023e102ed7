//! Ports: creation, filters and updates.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn port_addresses_are_shown_in_ironics_format() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let body = json!({"node_uuid": node, "address": "52-54-00-AB-CD-EF", "extra": {"slot": 1}});
    let response = api.post("/v1/ports", body).await;
    let location = response.header("location").to_owned();
    let mut created = response.expect(201);
    let uuid = created["uuid"].as_str().expect("a UUID").to_owned();
    assert_eq!(location, format!("http://boot.example:6385/v1/ports/{uuid}"));
    assert!(created["created_at"].take().is_string());
    let expected = json!({
        "uuid": uuid,
        "node_uuid": node,
        "address": "52:54:00:ab:cd:ef",
        "extra": {"slot": 1},
        "internal_info": {},
        "local_link_connection": {},
        "pxe_enabled": true,
        "portgroup_uuid": null,
        "physical_network": null,
        "created_at": null,
        "updated_at": null,
        "links": [
            {"rel": "self", "href": format!("http://boot.example:6385/v1/ports/{uuid}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/ports/{uuid}")},
        ],
    });
    assert_eq!(created, expected);
    let body_at_1_1 = api.with_version("1.1").get(&format!("/v1/ports/{uuid}")).await.expect(200);
    assert_eq!(body_at_1_1.as_object().expect("an object").len(), 7);
}

#[tokio::test]
async fn port_addresses_are_unique() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let body = json!({"node_uuid": node, "address": "52:54:00:ab:cd:ef"});
    api.post("/v1/ports", body.clone()).await.expect(201);
    assert_eq!(
        api.post("/v1/ports", body).await.expect_fault(409),
        "A port with MAC address 52:54:00:ab:cd:ef already exists."
    );
}

#[tokio::test]
async fn ports_are_filtered_by_node_and_address() {
    let api = Api::new();
    let (one, two) =
        (api.create_node(json!({"name": "one"})).await, api.create_node(json!({"name": "two"})).await);
    for (node, last) in [(&one, "01"), (&two, "02"), (&one, "03")] {
        let port = json!({"node_uuid": node, "address": format!("52:54:00:00:00:{last}")});
        api.post("/v1/ports", port).await.expect(201);
    }
    let addresses = |body: Value| column(&body, "ports", "address");
    let ones = ["52:54:00:00:00:01", "52:54:00:00:00:03"];
    for path in [
        "/v1/ports?node=one",
        "/v1/nodes/one/ports",
        "/v1/nodes/one/ports/detail",
        "/v1/ports/detail?node=one",
    ] {
        assert_eq!(addresses(api.get(path).await.expect(200)), ones, "{path}");
    }
    assert_eq!(addresses(api.get(&format!("/v1/ports?node_uuid={one}")).await.expect(200)), ones);
    let page = api.get("/v1/ports?address=52:54:00:00:00:02").await.expect(200);
    assert_eq!(addresses(page), ["52:54:00:00:00:02"]);
    assert_eq!(api.get("/v1/ports?address=52:54:00:00:00:09").await.expect(200), json!({"ports": []}));
    assert_eq!(api.get("/v1/nodes/missing/ports").await.status, 404);
}

#[tokio::test]
async fn a_ports_address_cannot_change_while_the_machine_is_in_use() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let port =
        api.post("/v1/ports", json!({"node_uuid": node, "address": "52:54:00:ab:cd:ef"})).await.expect(201);
    let path = format!("/v1/ports/{}", port["uuid"].as_str().expect("a UUID"));
    let move_to = |address: &str| json!([{"op": "replace", "path": "/address", "value": address}]);
    let changed = api.patch(&path, move_to("52:54:00:AB:CD:00")).await.expect(200);
    assert_eq!(changed["address"], "52:54:00:ab:cd:00");
    api.patch(&path, json!([{"op": "remove", "path": "/address"}])).await.expect_fault(400);
    api.patch(&path, move_to("unknown")).await.expect_fault(400);
    let instance =
        json!([{"op": "add", "path": "/instance_uuid", "value": "7a5e2c0e-6a9c-4a53-b8a9-d3d6f3c9c0c1"}]);
    api.patch(&format!("/v1/nodes/{node}"), instance).await.expect(200);
    api.patch(&path, move_to("52:54:00:ab:cd:ef")).await.expect_fault(409);
    api.put(&format!("/v1/nodes/{node}/maintenance"), Value::Null).await.expect(202);
    api.patch(&path, move_to("52:54:00:ab:cd:ef")).await.expect(200);
    api.delete(&path).await.expect(204);
    api.delete(&path).await.expect_fault(404);
}

#[tokio::test]
async fn a_port_requires_an_existing_node_and_an_address() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    for body in [
        json!({"node_uuid": "00000000-0000-0000-0000-000000000001", "address": "52:54:00:ab:cd:ef"}),
        json!({"node_uuid": "missing", "address": "52:54:00:ab:cd:ef"}),
        json!({"address": "52:54:00:ab:cd:ef"}),
        json!({"node_uuid": node}),
        json!({"node_uuid": node, "address": "52:54:00:ab:cd"}),
        json!({"node_uuid": node, "address": 1}),
        json!({"node_uuid": node, "address": null}),
        json!({"node_uuid": node, "address": "52:54:00:ab:cd:ef", "extra": 1}),
    ] {
        assert_eq!(api.post("/v1/ports", body.clone()).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn a_physical_network_is_stored_and_the_same_for_all_ports_of_a_group() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let group = api.post("/v1/portgroups", json!({"node_uuid": node})).await.expect(201);
    let group = group["uuid"].clone();
    let new_port = |last: &str, more: Value| {
        let mut body = json!({"node_uuid": node, "address": format!("52:54:00:00:00:{last}")});
        more.as_object().expect("an object").iter().for_each(|(key, value)| body[key] = value.clone());
        body
    };
    let member = json!({"portgroup_uuid": group, "physical_network": "physnet1"});
    let first = api.post("/v1/ports", new_port("01", member.clone())).await.expect(201);
    assert_eq!(first["physical_network"], "physnet1");
    let path = format!("/v1/ports/{}", first["uuid"].as_str().expect("a UUID"));
    let at_1_33 = api.with_version("1.33");
    assert_eq!(at_1_33.get(&path).await.expect(200).get("physical_network"), None);
    assert_eq!(at_1_33.post("/v1/ports", new_port("02", member.clone())).await.status, 406);
    assert_eq!(at_1_33.get("/v1/ports?fields=physical_network").await.status, 406);
    let rename = |name: &str| json!([{"op": "add", "path": "/physical_network", "value": name}]);
    assert_eq!(at_1_33.patch(&path, rename("physnet2")).await.status, 406);
    let removal = json!([{"op": "remove", "path": "/physical_network"}]);
    assert_eq!(at_1_33.patch(&path, removal).await.status, 406);
    for empty in [
        api.post("/v1/ports", new_port("02", json!({"physical_network": ""}))).await,
        api.patch(&path, rename("")).await,
    ] {
        assert_eq!(empty.expect_fault(400), "A non-empty value is required when setting physical_network");
    }
    assert_eq!(api.patch(&path, rename(&"x".repeat(65))).await.status, 400);
    // A second member of the group must have the same network; a single member may change.
    for (network, shown) in [(json!("physnet2"), "physnet2"), (Value::Null, "None")] {
        let other = json!({"portgroup_uuid": group, "physical_network": network});
        assert_eq!(
            api.post("/v1/ports", new_port("02", other)).await.expect_fault(409),
            format!(
                "Port with physical network {shown} cannot become a member of port group {} which has ports in \
                 physical network physnet1.",
                group.as_str().expect("a UUID")
            )
        );
    }
    api.patch(&path, rename("physnet2")).await.expect(200);
    api.patch(&path, rename("physnet1")).await.expect(200);
    let second = api.post("/v1/ports", new_port("02", member)).await.expect(201);
    let second = format!("/v1/ports/{}", second["uuid"].as_str().expect("a UUID"));
    api.patch(&second, rename("physnet2")).await.expect_fault(409);
    let both = json!([
        {"op": "remove", "path": "/portgroup_uuid"},
        {"op": "add", "path": "/physical_network", "value": "physnet2"},
    ]);
    assert_eq!(api.patch(&second, both).await.expect(200)["physical_network"], "physnet2");
    let join = json!([{"op": "add", "path": "/portgroup_uuid", "value": group}]);
    api.patch(&second, join).await.expect_fault(409);
    // As the other attributes of connectivity, the network stays while the node is deployable.
    let provision = format!("/v1/nodes/{node}/states/provision");
    for verb in ["manage", "provide"] {
        api.put(&provision, json!({"target": verb})).await.expect(202);
    }
    api.patch(&path, rename("physnet3")).await.expect_fault(409);
    api.put(&format!("/v1/nodes/{node}/maintenance"), Value::Null).await.expect(202);
    assert_eq!(api.patch(&path, rename("physnet3")).await.expect(200)["physical_network"], "physnet3");
}
