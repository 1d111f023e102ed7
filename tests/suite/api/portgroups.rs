//! Port groups and their ports.

use serde_json::json;

use super::{Api, column};

#[tokio::test]
async fn a_port_group_contains_only_ports_of_its_node() {
    let api = Api::new();
    let (node, other) = (api.create_node(json!({"name": "n"})).await, api.create_node(json!({})).await);
    let body = json!({"node_uuid": node, "name": "bond0", "address": "52:54:00:AB:CD:00"});
    let created = api.post("/v1/portgroups", body.clone()).await.expect(201);
    let group = created["uuid"].as_str().expect("a UUID");
    let facts = ["address", "mode", "standalone_ports_supported", "properties"].map(|key| &created[key]);
    assert_eq!(json!(facts), json!(["52:54:00:ab:cd:00", "active-backup", true, {}]));
    assert_eq!(
        api.post("/v1/portgroups", body).await.expect_fault(409),
        "A portgroup with name bond0 already exists."
    );
    let port = |node: &str, last: u8| json!({"node_uuid": node, "address": format!("52:54:00:00:00:{last:02x}"), "portgroup_uuid": group});
    let port_created = api.post("/v1/ports", port(&node, 1)).await.expect(201);
    api.post("/v1/ports", port(&other, 2)).await.expect_fault(400);
    for path in
        ["/v1/portgroups/bond0/ports", "/v1/ports?portgroup=bond0", "/v1/portgroups/bond0/ports/detail"]
    {
        assert_eq!(
            column(&api.get(path).await.expect(200), "ports", "uuid"),
            [port_created["uuid"].clone()],
            "{path}"
        );
    }
    assert_eq!(api.get("/v1/ports?portgroup=bond0&node=n").await.status, 403);
    for path in ["/v1/portgroups", "/v1/nodes/n/portgroups", "/v1/portgroups?address=52:54:00:ab:cd:00"] {
        assert_eq!(column(&api.get(path).await.expect(200), "portgroups", "name"), ["bond0"], "{path}");
    }
    assert!(api.delete("/v1/portgroups/bond0").await.expect_fault(400).ends_with("contains ports."));
    api.delete(&format!("/v1/nodes/{node}")).await.expect(204);
    assert_eq!(api.get("/v1/portgroups").await.expect(200), json!({"portgroups": []}));
    assert_eq!(api.with_version("1.22").get("/v1/portgroups").await.status, 404);
}
