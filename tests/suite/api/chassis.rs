//! Chassis and their nodes.

use serde_json::{Value, json};

use super::{Api, column};

#[tokio::test]
async fn a_chassis_with_nodes_cannot_be_deleted() {
    let api = Api::new();
    let created =
        api.post("/v1/chassis", json!({"description": "rack", "extra": {"row": 1}})).await.expect(201);
    let chassis = created["uuid"].as_str().expect("a UUID");
    let nodes = format!("http://boot.example:6385/v1/chassis/{chassis}/nodes");
    assert_eq!(created["nodes"][0][0]["href"], nodes);
    let node = api.create_node(json!({"chassis_uuid": chassis})).await;
    api.create_node(json!({})).await;
    for path in [format!("/v1/chassis/{chassis}/nodes"), format!("/v1/nodes?chassis_uuid={chassis}")] {
        assert_eq!(column(&api.get(&path).await.expect(200), "nodes", "uuid"), [node.as_str()], "{path}");
    }
    let path = format!("/v1/chassis/{chassis}");
    assert_eq!(
        api.delete(&path).await.expect_fault(400),
        format!("Cannot complete the requested action because chassis {chassis} contains nodes.")
    );
    let remove = json!([{"op": "remove", "path": "/chassis_uuid"}]);
    assert_eq!(
        api.with_version("1.24").patch(&format!("/v1/nodes/{node}"), remove.clone()).await.status,
        406
    );
    api.patch(&format!("/v1/nodes/{node}"), remove).await.expect(200);
    let rename = json!([{"op": "replace", "path": "/description", "value": "row"}]);
    assert_eq!(api.patch(&path, rename).await.expect(200)["description"], "row");
    assert_eq!(column(&api.get("/v1/chassis").await.expect(200), "chassis", "extra"), [Value::Null]);
    assert_eq!(
        column(&api.get("/v1/chassis/detail").await.expect(200), "chassis", "extra"),
        [json!({"row": 1})]
    );
    api.delete(&path).await.expect(204);
    for list in ["/v1/nodes", "/v1/nodes/detail"] {
        let missing = api.get(&format!("{list}?chassis_uuid={chassis}")).await.expect_fault(404);
        assert_eq!(missing, format!("Chassis {chassis} could not be found."));
    }
    let missing_chassis = json!([{"op": "add", "path": "/chassis_uuid", "value": chassis}]);
    assert_eq!(
        api.patch(&format!("/v1/nodes/{node}"), missing_chassis).await.expect_fault(400),
        format!("Chassis {chassis} could not be found.")
    );
}
