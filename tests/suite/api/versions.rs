//! Microversions: discovery, negotiation, and the headers of every response.

use std::collections::BTreeSet;

use axum::body::Body;
use serde_json::{Value, json};

use super::{Api, ApiResponse, LATEST};

fn versions(response: &ApiResponse) -> [Option<&str>; 3] {
    ["", "minimum-", "maximum-"].map(|infix| {
        response
            .headers
            .get(format!("x-openstack-ironic-api-{infix}version"))
            .map(|value| value.to_str().expect("text"))
    })
}

#[tokio::test]
async fn the_root_lists_versions_and_links() {
    let version = json!({
        "id": "v1",
        "status": "CURRENT",
        "min_version": "1.1",
        "version": LATEST,
        "links": [{"rel": "self", "href": "http://boot.example:6385/v1/"}],
    });
    let mut body = Api::new().with_version("1.1").get("/").await.expect(200);
    assert!(body["description"].take().is_string());
    let expected = json!({
        "name": "OpenStack Ironic API",
        "description": null,
        "default_version": version,
        "versions": [version],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn v1_lists_the_resources_of_the_microversion() {
    let api = Api::new();
    let mut expected = BTreeSet::from(
        ["chassis", "drivers", "id", "links", "media_types", "nodes", "ports", "version"].map(str::to_owned),
    );
    let versions: [(_, &[&str]); 9] = [
        ("1.1", &[]),
        ("1.21", &[]),
        ("1.22", &["lookup", "heartbeat"]),
        ("1.23", &["portgroups"]),
        ("1.31", &[]),
        ("1.32", &["volume"]),
        ("1.49", &["conductors"]),
        ("1.52", &["allocations"]),
        (LATEST, &[]),
    ];
    for (version, added) in versions {
        expected.extend(added.iter().map(|name| (*name).to_owned()));
        for path in ["/v1", "/v1/"] {
            let body = api.with_version(version).get(path).await.expect(200);
            let names: BTreeSet<_> = body.as_object().expect("an object").keys().cloned().collect();
            assert_eq!(names, expected, "{version} {path}");
        }
    }
    let latest = api.get("/v1/").await.expect(200);
    let nodes = json!([
        {"rel": "self", "href": "http://boot.example:6385/v1/nodes/"},
        {"rel": "bookmark", "href": "http://boot.example:6385/nodes/"},
    ]);
    assert_eq!(latest["nodes"], nodes);
}

#[tokio::test]
async fn every_response_states_its_microversion() {
    let api = Api::new();
    let root = api.send_raw("GET", "/v1/nodes", &[], Body::empty()).await;
    assert_eq!((root.status, versions(&root)), (200, [Some("1.1"), Some("1.1"), Some(LATEST)]));
    let missing = api.with_version("1.20").get("/v1/nodes/missing").await;
    assert_eq!((missing.status, versions(&missing)), (404, [Some("1.20"), Some("1.1"), Some(LATEST)]));
    let unknown_path = api.with_version("latest").get("/v1/nowhere").await;
    assert_eq!(
        (unknown_path.status, versions(&unknown_path)),
        (404, [Some(LATEST), Some("1.1"), Some(LATEST)])
    );
    assert!(unknown_path.header("openstack-request-id").starts_with("req-"));
}

#[tokio::test]
async fn an_unsupported_microversion_is_rejected_with_the_supported_range() {
    let response = Api::new().with_version("1.115").get("/v1").await;
    assert_eq!(versions(&response), [None, Some("1.1"), Some(LATEST)]);
    assert!(response.expect_fault(406).contains(&format!("[1.1, {LATEST}]")));
}

#[tokio::test]
async fn the_standard_header_overrides_ironics() {
    let headers =
        [("openstack-api-version", "compute 2.1, baremetal 1.8"), ("x-openstack-ironic-api-version", "1.5")];
    let response = Api::new().send_raw("GET", "/v1/nodes", &headers, Body::empty()).await;
    assert_eq!(versions(&response)[0], Some("1.8"));
}

#[tokio::test]
async fn features_are_absent_before_their_microversion() {
    let api = Api::new();
    let node = api.create_node(json!({"name": "n"})).await;
    let keys = |body: Value| body.as_object().expect("an object").len();
    let counts = [
        "1.1", "1.2", "1.3", "1.5", "1.6", "1.7", "1.12", "1.14", "1.20", "1.21", "1.24", "1.31", "1.32",
        "1.33", "1.36", "1.37", "1.38", "1.39", "1.40", "1.42", "1.44", "1.46", "1.47", "1.48", "1.49",
        "1.50", "1.51", "1.52",
    ];
    let mut grown = Vec::new();
    for version in counts {
        grown.push(keys(api.with_version(version).get(&format!("/v1/nodes/{node}")).await.expect(200)));
    }
    assert_eq!(
        grown,
        [
            22, 22, 23, 24, 26, 27, 29, 30, 31, 32, 33, 41, 42, 43, 43, 44, 45, 45, 46, 47, 48, 49, 50, 52,
            53, 54, 55, 56
        ]
    );
    assert_eq!(api.with_version("1.4").get("/v1/nodes/n").await.status, 404, "names came with 1.5");
    assert_eq!(api.with_version("1.31").get("/v1/volume/targets").await.status, 404);
    for query in
        ["fields=uuid&x", "provision_state=active", "driver=fake-hardware", "resource_class=x", "owner=x"]
    {
        let status = api.with_version("1.1").get(&format!("/v1/nodes?{query}")).await.status;
        assert!(status == 406 || status == 400, "{query}: {status}");
    }
    assert_eq!(api.with_version("1.7").get("/v1/nodes?fields=uuid").await.status, 406);
    assert_eq!(api.with_version("1.32").get("/v1/nodes?fields=storage_interface").await.status, 406);
    for (version, field, value) in
        [("1.32", "storage_interface", json!("noop")), ("1.37", "rescue_interface", json!("no-rescue"))]
    {
        let old = api.with_version(version);
        assert_eq!(old.get(&format!("/v1/nodes?fields={field}")).await.status, 406, "{field}");
        assert_eq!(old.get(&format!("/v1/nodes?sort_key={field}")).await.status, 406, "{field}");
        let body = json!({"driver": "fake-hardware", field: value});
        assert_eq!(old.post("/v1/nodes", body.clone()).await.status, 406, "{field}");
        let patch = json!([{"op": "add", "path": format!("/{field}"), "value": value}]);
        assert_eq!(old.patch("/v1/nodes/n", patch.clone()).await.status, 406, "{field}");
        api.post("/v1/nodes", body).await.expect(201);
        api.patch("/v1/nodes/n", patch).await.expect(200);
    }
    let body = json!({"driver": "fake-hardware", "storage_interface": "noop"});
    assert_eq!(api.with_version("1.32").post("/v1/nodes", body).await.status, 406);
}
