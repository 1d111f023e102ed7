//! Volume connectors and targets: creation, lists, uniqueness and validation.

use serde_json::{Value, json};

use super::{Api, column};

const IQN: &str = "iqn.2017-08.org.openstack.n1";

async fn create_target(api: &Api, node: &str, boot_index: i64) -> Value {
    let body = json!({
        "node_uuid": node,
        "volume_type": "iscsi",
        "volume_id": "04452bed-5367-4202-8bf5-de4335ac56d2",
        "boot_index": boot_index,
        "properties": {"target_iqn": "iqn.2010-10.org.openstack:v", "auth_username": "u", "auth_password": "hunter2"},
    });
    api.post("/v1/volume/targets", body).await.expect(201)
}

#[tokio::test]
async fn targets_are_shown_with_masked_secrets() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let mut created = create_target(&api, &node, 0).await;
    let uuid = created["uuid"].as_str().expect("a UUID").to_owned();
    assert!(created["created_at"].take().is_string());
    let expected = json!({
        "uuid": uuid,
        "node_uuid": node,
        "volume_type": "iscsi",
        "volume_id": "04452bed-5367-4202-8bf5-de4335ac56d2",
        "boot_index": 0,
        "properties": {"target_iqn": "iqn.2010-10.org.openstack:v", "auth_username": "u", "auth_password": "******"},
        "extra": {},
        "created_at": null,
        "updated_at": null,
        "links": [
            {"rel": "self", "href": format!("http://boot.example:6385/v1/volume/targets/{uuid}")},
            {"rel": "bookmark", "href": format!("http://boot.example:6385/volume/targets/{uuid}")},
        ],
    });
    assert_eq!(created, expected);
    let target = format!("/v1/volume/targets/{uuid}");
    let patch = json!([{"op": "add", "path": "/extra/a", "value": 1}]);
    let message = api.patch(&target, patch).await.expect_fault(400);
    let expected = format!(
        "The requested action \"volume target update\" can not be performed on node \"{node}\" while it is in state \"None\"."
    );
    assert_eq!(message, expected);
    for target in
        [&target, "/v1/volume/targets?detail=True", &format!("/v1/nodes/{node}/volume/targets?detail=True")]
    {
        assert!(!api.get(target).await.body.to_string().contains("hunter"), "{target}");
    }
}

#[tokio::test]
async fn connectors_are_unique_across_nodes() {
    let api = Api::new();
    let (one, two) = (api.create_node(json!({})).await, api.create_node(json!({})).await);
    let body = |node: &str| json!({"node_uuid": node, "type": "iqn", "connector_id": IQN});
    let created = api.post("/v1/volume/connectors", body(&one)).await.expect(201);
    assert_eq!(
        (&created["type"], &created["connector_id"], &created["extra"]),
        (&json!("iqn"), &json!(IQN), &json!({}))
    );
    assert_eq!(
        api.post("/v1/volume/connectors", body(&two)).await.expect_fault(409),
        format!("A volume connector with type iqn and connector ID {IQN} already exists.")
    );
}

#[tokio::test]
async fn boot_indexes_are_unique_per_node() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    create_target(&api, &node, 0).await;
    let body = json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0});
    assert_eq!(
        api.post("/v1/volume/targets", body).await.expect_fault(409),
        "A volume target with boot index '0' for the same node already exists."
    );
    let other = api.create_node(json!({})).await;
    create_target(&api, &other, 0).await;
}

#[tokio::test]
async fn targets_are_listed_by_node_uuid_or_name() {
    let api = Api::new();
    let (one, two) =
        (api.create_node(json!({"name": "one"})).await, api.create_node(json!({"name": "two"})).await);
    for (node, index) in [(&one, 0), (&two, 0), (&one, 1)] {
        create_target(&api, node, index).await;
    }
    let indexes = |body: &Value| column(body, "targets", "boot_index");
    assert_eq!(indexes(&api.get("/v1/volume/targets").await.expect(200)), [0, 0, 1]);
    let paths = [
        "/v1/volume/targets?node=one".to_owned(),
        "/v1/nodes/one/volume/targets".into(),
        format!("/v1/nodes/{one}/volume/targets"),
    ];
    for path in paths {
        let body = api.get(&path).await.expect(200);
        assert_eq!(indexes(&body), [0, 1], "{path}");
        assert_eq!(body["targets"][0].as_object().expect("an object").len(), 6, "{path}");
    }
    let page = api.get("/v1/nodes/one/volume/targets?limit=1").await.expect(200);
    let next = page["next"].as_str().expect("a page");
    assert!(next.starts_with(&format!("http://boot.example:6385/v1/nodes/{one}/volume/targets?")), "{next}");
    let rest = api
        .get(next.strip_prefix("http://boot.example:6385").expect("a link with the request's host"))
        .await
        .expect(200);
    assert_eq!(indexes(&rest), [1]);
}

#[tokio::test]
async fn the_volume_index_links_connectors_and_targets() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let index = api.get("/v1/volume").await.expect(200);
    assert_eq!(index["targets"][0]["href"], "http://boot.example:6385/v1/volume/targets");
    let index = api.get("/v1/nodes/n/volume").await.expect(200);
    assert_eq!(
        index["connectors"][0]["href"],
        format!("http://boot.example:6385/v1/nodes/{node}/volume/connectors")
    );
}

#[tokio::test]
async fn invalid_fields_are_reported_by_name() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    let whole = json!({"node_uuid": node, "volume_type": "iscsi", "volume_id": "v", "boot_index": 0});
    for (key, value, expected) in [
        ("volume_id", None, "'volume_id' is a required property"),
        ("boot_index", Some(json!("0")), "'0' is not of type 'integer'"),
        ("boot_index", Some(json!(0.5)), "0.5 is not of type 'integer'"),
        ("boot_index", Some(json!(1e300)), "1e+300 is not of type 'integer'"),
        ("boot_index", Some(Value::Null), "null is not of type 'integer'"),
        ("volume_type", Some(json!(1)), "1 is not of type 'string'"),
        ("properties", Some(json!(1)), "1 is not of type 'object', 'null'"),
        ("node_uuid", Some(json!("n")), "Expected UUID for node_uuid: n"),
        (
            "node_uuid",
            Some(json!("00000000-0000-0000-0000-000000000001")),
            "Invalid input for field/attribute node_uuid.",
        ),
        ("unknown", Some(json!(1)), "Additional properties are not allowed ('unknown' was unexpected)"),
    ] {
        let mut body = whole.clone();
        match value {
            Some(value) => body[key] = value,
            None => drop(body.as_object_mut().expect("an object").remove(key)),
        }
        let fault = api.post("/v1/volume/targets", body).await.expect_fault(400);
        assert!(fault.contains(expected), "{fault}");
    }
}

#[tokio::test]
async fn creation_below_a_nodes_path_is_rejected() {
    let api = Api::new();
    let node = api.create_node(json!({})).await;
    assert_eq!(
        api.post(&format!("/v1/nodes/{node}/volume/targets"), json!({})).await.expect_fault(400),
        "Malformed request URI."
    );
}
