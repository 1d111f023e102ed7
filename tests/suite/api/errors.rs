//! Error responses: always in Ironic's form, and a client's error is never a 5xx.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Api, LATEST};

#[tokio::test]
async fn routing_errors_have_ironics_form() {
    let api = Api::new();
    assert_eq!(api.get("/v1/nowhere").await.expect_fault(404), "The resource could not be found.");
    for (version, path, since) in [
        (LATEST, "/v1/deploy_templates", "1.55"),
        (LATEST, "/v1/nodes/n/history", "1.78"),
        ("1.31", "/v1/volume/targets", "1.32"),
    ] {
        let text =
            format!("The resource could not be found. The minimal required API version should be {since}");
        assert_eq!(api.with_version(version).get(path).await.expect_fault(404), text, "{path}");
    }
    assert_eq!(api.delete("/").await.expect_fault(405), "The method is not allowed for this resource.");
    assert_eq!(api.delete("/v1/nodes").await.status, 405);
}

#[tokio::test]
async fn invalid_bodies_are_client_errors() {
    let api = Api::new();
    let long = format!("{{\"driver\": \"{}\"}}", "x".repeat(1 << 20));
    let deep = format!(
        "{{\"driver\": \"fake-hardware\", \"extra\": {}1{}}}",
        "{\"a\":".repeat(100),
        "}".repeat(100)
    );
    for (body, status) in [
        ("{", 400),
        ("[]", 400),
        ("\"driver\"", 400),
        ("null", 400),
        ("", 400),
        ("{\"driver\": 1e999}", 400),
        ("{\"driver\": \"\\ud800\"}", 400),
        (&long, 413),
        (&deep, 400),
        (&"[".repeat(100_000), 400),
    ] {
        let headers = [("x-openstack-ironic-api-version", LATEST)];
        let response = api.send_raw("POST", "/v1/nodes", &headers, Body::from(body.to_owned())).await;
        assert!(!response.expect_fault(status).is_empty(), "{body:.30}");
    }
    let headers = [("x-openstack-ironic-api-version", LATEST)];
    let response = api.send_raw("POST", "/v1/nodes", &headers, Body::from(&b"\xff{}"[..])).await;
    response.expect_fault(400);
}

#[tokio::test]
async fn invalid_urls_are_client_errors() {
    let api = Api::new();
    for path in [
        "/v1/nodes/%ff",
        "/v1/nodes/a%20b",
        "/v1/nodes/%2e%2e%2f",
        "/v1/ports/52:54:00:ab:cd:ef",
        "/v1/volume/targets/detail",
        "/v1/nodes?limit=0",
        "/v1/nodes?limit=-5",
        "/v1/nodes?limit=many",
        "/v1/nodes?marker=missing",
        "/v1/nodes?sort_key=extra",
        "/v1/nodes?sort_key=unknown",
        "/v1/nodes?sort_dir=up",
        "/v1/nodes?maintenance=perhaps",
        "/v1/nodes?provision_state=lost",
        "/v1/nodes?fields=uuid,unknown",
        "/v1/nodes?unknown=1",
        "/v1/nodes?limit=1&limit=2",
        "/v1/nodes?detail=True&fields=uuid",
        "/v1/nodes?instance_uuid=%ff",
        "/v1/volume/targets?detail=True&fields=uuid",
        "/v1/ports?address=unknown",
    ] {
        assert_eq!(api.get(path).await.status, 400, "{path}");
    }
    let missing = "00000000-0000-0000-0000-000000000001";
    for path in ["nodes", "ports", "volume/connectors", "volume/targets"] {
        assert_eq!(api.get(&format!("/v1/{path}?marker={missing}")).await.status, 404, "{path}");
        assert_eq!(api.get(&format!("/v1/{path}/{missing}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_unknown_argument_of_a_list_is_reported_before_other_errors() {
    let api = Api::new().with_version("1.32");
    for list in ["nodes", "ports", "portgroups", "chassis", "volume/connectors", "volume/targets"] {
        // Each of the other arguments is an error by itself.
        let path = format!("/v1/{list}?unknown=1&fields=unknown&detail=perhaps&marker=missing");
        assert_eq!(api.get(&path).await.expect_fault(400), "Unexpected arguments: unknown", "{path}");
    }
    for list in ["ports", "portgroups", "volume/connectors", "volume/targets"] {
        let path = format!("/v1/{list}?unknown=1&node=missing");
        assert_eq!(api.get(&path).await.expect_fault(400), "Unexpected arguments: unknown", "{path}");
    }
}

#[tokio::test]
async fn error_messages_match_ironics() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let missing = "00000000-0000-0000-0000-000000000001";
    let create = |more: Value| {
        let mut body = json!({"driver": "fake-hardware"});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        api.post("/v1/nodes", body)
    };
    for (response, status, expected) in [
        (api.get("/v1/nodes/missing").await, 404, "Node missing could not be found.".to_owned()),
        (api.get(&format!("/v1/ports/{missing}")).await, 404, format!("Port {missing} could not be found.")),
        (
            api.get(&format!("/v1/volume/targets/{missing}")).await,
            404,
            format!("Volume target {missing} could not be found."),
        ),
        (create(json!({"name": "n"})).await, 409, "A node with name n already exists.".into()),
        (create(json!({"uuid": node})).await, 409, format!("A node with UUID {node} already exists.")),
        (create(json!({"name": "a b"})).await, 400, "Cannot create node with invalid name 'a b'".into()),
        (
            create(json!({"unknown": 1})).await,
            400,
            "Schema error for node: Additional properties are not allowed ('unknown' was unexpected)".into(),
        ),
        (create(json!({"name": 1})).await, 400, "Schema error for node: 1 is not of type 'string', 'null'".into()),
        (api.post("/v1/nodes", json!({})).await, 400, "Schema error for node: 'driver' is a required property".into()),
        (
            create(json!({"driver": "none"})).await,
            400,
            "No valid host was found. Reason: No conductor service registered which supports driver none.".into(),
        ),
        (
            create(json!({"storage_interface": "none"})).await,
            400,
            "Could not find the following interface in the 'ironic.hardware.interfaces.storage' entrypoint: none. \
             Valid interfaces are ['noop', 'external', 'cinder']."
                .into(),
        ),
        (
            create(json!({"shard": "a"})).await,
            406,
            "Request not acceptable. The minimal required API version should be 1.82".into(),
        ),
    ] {
        assert_eq!(response.expect_fault(status), expected);
    }
}
