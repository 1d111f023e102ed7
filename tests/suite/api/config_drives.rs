//! Config drives: accepted at a deployment, checked, and not kept.

use axum::body::Body;
use serde_json::{Value, json};

use super::states::{create_bootable_node, create_target, set_provision_state};
use super::{Api, ApiResponse};

const HEADERS: [(&str, &str); 1] = [("x-openstack-ironic-api-version", super::LATEST)];

async fn deploy_with(api: &Api, node: &str, drive: &Value) -> ApiResponse {
    let body = json!({"target": "active", "configdrive": drive});
    api.put(&format!("/v1/nodes/{node}/states/provision"), body).await
}

async fn create_available_node(api: &Api) -> String {
    let node = create_bootable_node(api).await;
    for verb in ["manage", "provide"] {
        set_provision_state(api, &node, verb).await.expect(202);
    }
    node
}

#[tokio::test]
async fn only_the_fact_of_a_config_drive_is_kept() {
    let mut inventory = None;
    let api = Api::with(|operator| inventory = Some(operator.inventory.clone()));
    let inventory = inventory.expect("the API's inventory");
    let node = create_available_node(&api).await;
    let path = format!("/v1/nodes/{node}");
    let validate = async || api.get(&format!("{path}/validate")).await.expect(200)["deploy"].take();
    let notice = "A machine that boots from its volumes gets no config drive from volboot.";
    assert_eq!(validate().await, json!({"result": true, "reason": notice}));
    for (drive, shown) in [
        (Value::Null, json!({})),
        (json!(""), json!({})),
        (json!({}), json!({})),
        (json!("aHVudGVyMg==\n"), json!({"configdrive": "******"})),
        (json!("https://example.org/hunter2?a=%20"), json!({"configdrive": "******"})),
        (json!("aHVudGVyMg==".repeat(500_000)), json!({"configdrive": "******"})),
    ] {
        deploy_with(&api, &node, &drive).await.expect(202);
        assert_eq!(api.get(&path).await.expect(200)["instance_info"], shown);
        let record = inventory.get(node.parse().expect("a UUID")).await.expect("reads").expect("a node");
        let record: volboot::model::Node = record.value;
        assert_eq!(Value::Object(record.instance_info.reveal().clone()), shown, "the content is stored");
        if shown["configdrive"].is_string() {
            let reason = format!("{notice} The config drive of the deployment was discarded.");
            assert_eq!(validate().await["reason"], reason);
        }
        set_provision_state(&api, &node, "deleted").await.expect(202);
        assert_eq!(api.get(&path).await.expect(200)["instance_info"], json!({}));
        create_target(&api, &node).await;
    }
}

#[tokio::test]
async fn invalid_config_drives_are_rejected_without_their_content() {
    let api = Api::new();
    let node = create_available_node(&api).await;
    let malformed = "Invalid configdrive format: it is neither a JSON, nor a URL, nor a base64 string";
    let expected = "Expected types NoneType, dict, str for configdrive, got ";
    for (drive, message) in [
        (json!("hunter2!"), malformed.to_owned()),
        (json!("hunter2!".repeat(100_000)), malformed.to_owned()),
        (json!(["hunter2"]), format!("{expected}list")),
        (json!(1), format!("{expected}int")),
        (
            json!({"user_data": "hunter2"}),
            "Providing a JSON object for configdrive is only supported starting with API version 1.56".into(),
        ),
    ] {
        assert_eq!(deploy_with(&api, &node, &drive).await.expect_fault(400), message);
    }
    let path = format!("/v1/nodes/{node}/states/provision");
    let long = "A".repeat(2 << 20);
    let with = |target: &str| json!({"target": target, "configdrive": long});
    let only = "Adding a config drive is only supported when setting provision state to active, rebuild";
    assert_eq!(api.put(&path, with("manage")).await.expect_fault(400), only);
    api.put("/v1/nodes/missing/states/provision", with("active")).await.expect_fault(404);
    let state = api.get(&format!("/v1/nodes/{node}")).await.expect(200)["provision_state"].take();
    assert_eq!(state, "available");
}

#[tokio::test]
async fn sixty_four_mebibytes_are_the_limit_and_other_bodies_stay_small() {
    let api = Api::new();
    let node = create_available_node(&api).await;
    let path = format!("/v1/nodes/{node}/states/provision");
    let body = |length: usize| {
        let mut body = Vec::with_capacity(length + 64);
        body.extend_from_slice(br#"{"target": "active", "configdrive": ""#);
        body.resize(body.len() + length, b'A');
        body.extend_from_slice(br#""}"#);
        body
    };
    let too_large = |limit| format!("Request body is too large: the limit is {limit} MiB.");
    let response = api.send_raw("PUT", &path, &HEADERS, Body::from(body((64 << 20) + 1))).await;
    assert_eq!(response.expect_fault(413), too_large(64));
    // A longer body is rejected by its announced length, before it arrives.
    let length = (66 << 20).to_string();
    let headers = [HEADERS[0], ("content-length", &length)];
    let response = api.send_raw("PUT", &path, &headers, Body::from(body(10))).await;
    assert_eq!(response.expect_fault(413), too_large(64));
    api.send_raw("PUT", &path, &HEADERS, Body::from(body(64 << 20))).await.expect(202);
    for (method, path, body) in [
        ("PUT", path.clone(), json!({"target": "active", "clean_steps": "A".repeat(2 << 20)})),
        ("PUT", format!("/v1/nodes/{node}/states/power"), json!({"configdrive": "A".repeat(2 << 20)})),
        ("POST", "/v1/nodes".into(), json!({"driver": "A".repeat(2 << 20)})),
        ("PATCH", format!("/v1/nodes/{node}"), json!([{"value": "A".repeat(2 << 20)}])),
    ] {
        let response = api.send(method, &path, body).await;
        assert_eq!(response.expect_fault(413), too_large(1), "{method} {path}");
    }
}
