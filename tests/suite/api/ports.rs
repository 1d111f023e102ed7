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
