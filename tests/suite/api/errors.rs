//! Errors: Ironic's form everywhere, and never the server's fault for what a client did.

use axum::body::Body;
use serde_json::{Value, json};

use super::Api;

#[tokio::test]
async fn routing_answers_in_the_same_form() {
    let api = Api::new();
    assert_eq!(api.get("/v1/nowhere").await.fault(404), "The resource could not be found.");
    assert_eq!(api.delete("/").await.fault(405), "The method is not allowed for this resource.");
    assert_eq!(api.delete("/v1/nodes").await.status, 405);
}

#[tokio::test]
async fn a_body_that_makes_no_sense_is_the_clients_fault() {
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
        let headers = [("x-openstack-ironic-api-version", "1.33")];
        let answer = api.raw("POST", "/v1/nodes", &headers, Body::from(body.to_owned())).await;
        assert!(!answer.fault(status).is_empty(), "{body:.30}");
    }
    let headers = [("x-openstack-ironic-api-version", "1.33")];
    let answer = api.raw("POST", "/v1/nodes", &headers, Body::from(&b"\xff{}"[..])).await;
    answer.fault(400);
}

#[tokio::test]
async fn addresses_that_make_no_sense_are_the_clients_fault() {
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
        "/v1/nodes?marker=nobody",
        "/v1/nodes?sort_key=extra",
        "/v1/nodes?sort_key=nothing",
        "/v1/nodes?sort_dir=up",
        "/v1/nodes?maintenance=perhaps",
        "/v1/nodes?provision_state=lost",
        "/v1/nodes?fields=uuid,nothing",
        "/v1/nodes?nothing=1",
        "/v1/nodes?limit=1&limit=2",
        "/v1/nodes?detail=True",
        "/v1/nodes?instance_uuid=%ff",
        "/v1/volume/targets?detail=True&fields=uuid",
        "/v1/ports?address=nothing",
    ] {
        assert_eq!(api.get(path).await.status, 400, "{path}");
    }
    let nobody = "00000000-0000-0000-0000-000000000001";
    for path in ["nodes", "ports", "volume/connectors", "volume/targets"] {
        assert_eq!(api.get(&format!("/v1/{path}?marker={nobody}")).await.status, 404, "{path}");
        assert_eq!(api.get(&format!("/v1/{path}/{nobody}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn messages_are_ironics_where_clients_look_for_them() {
    let api = Api::new();
    let node = api.node(json!({"name": "n"})).await;
    let missing = "00000000-0000-0000-0000-000000000001";
    let create = |more: Value| {
        let mut body = json!({"driver": "fake-hardware"});
        for (key, value) in more.as_object().expect("an object") {
            body[key] = value.clone();
        }
        api.post("/v1/nodes", body)
    };
    for (answer, status, expected) in [
        (api.get("/v1/nodes/nobody").await, 404, "Node nobody could not be found.".to_owned()),
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
            create(json!({"nothing": 1})).await,
            400,
            "Schema error for node: Additional properties are not allowed ('nothing' was unexpected)".into(),
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
        (create(json!({"owner": "me"})).await, 406, "Request not acceptable.".into()),
    ] {
        assert_eq!(answer.fault(status), expected);
    }
}
