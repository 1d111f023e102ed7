//! Versions: discovery, agreement, and what every answer says of them.

use axum::body::Body;
use serde_json::{Value, json};

use super::{Answer, Api};

fn versions(answer: &Answer) -> [Option<&str>; 3] {
    ["", "minimum-", "maximum-"].map(|which| {
        answer
            .headers
            .get(format!("x-openstack-ironic-api-{which}version"))
            .map(|value| value.to_str().expect("text"))
    })
}

#[tokio::test]
async fn the_root_tells_the_versions_and_where_they_are() {
    let version = json!({
        "id": "v1",
        "status": "CURRENT",
        "min_version": "1.1",
        "version": "1.33",
        "links": [{"rel": "self", "href": "http://boot.example:6385/v1/"}],
    });
    let mut body = Api::new().at("1.1").get("/").await.expect(200);
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
async fn v1_names_the_resources_of_the_version() {
    let api = Api::new();
    let names = |body: &Value| body.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let always = ["chassis", "drivers", "id", "links", "media_types", "nodes", "ports"];
    assert_eq!(names(&api.at("1.1").get("/v1").await.expect(200)), [&always[..], &["version"]].concat());
    let latest = api.get("/v1/").await.expect(200);
    let later = [
        "chassis",
        "drivers",
        "id",
        "links",
        "media_types",
        "nodes",
        "portgroups",
        "ports",
        "version",
        "volume",
    ];
    assert_eq!(names(&latest), later);
    let nodes = json!([
        {"rel": "self", "href": "http://boot.example:6385/v1/nodes/"},
        {"rel": "bookmark", "href": "http://boot.example:6385/nodes/"},
    ]);
    assert_eq!(latest["nodes"], nodes);
}

#[tokio::test]
async fn every_answer_names_the_version_it_was_given_by() {
    let api = Api::new();
    let root = api.raw("GET", "/v1/nodes", &[], Body::empty()).await;
    assert_eq!((root.status, versions(&root)), (200, [Some("1.1"), Some("1.1"), Some("1.33")]));
    let missing = api.at("1.20").get("/v1/nodes/nobody").await;
    assert_eq!((missing.status, versions(&missing)), (404, [Some("1.20"), Some("1.1"), Some("1.33")]));
    let nowhere = api.at("latest").get("/v1/nowhere").await;
    assert_eq!((nowhere.status, versions(&nowhere)), (404, [Some("1.33"), Some("1.1"), Some("1.33")]));
    assert!(nowhere.header("openstack-request-id").starts_with("req-"));
}

#[tokio::test]
async fn a_client_that_is_too_new_learns_what_it_can_have() {
    let answer = Api::new().at("1.115").get("/v1").await;
    assert_eq!(versions(&answer), [None, Some("1.1"), Some("1.33")]);
    assert!(answer.fault(406).contains("[1.1, 1.33]"));
}

#[tokio::test]
async fn the_standard_header_counts_before_ironics_own() {
    let headers =
        [("openstack-api-version", "compute 2.1, baremetal 1.8"), ("x-openstack-ironic-api-version", "1.5")];
    let answer = Api::new().raw("GET", "/v1/nodes", &headers, Body::empty()).await;
    assert_eq!(versions(&answer)[0], Some("1.8"));
}

#[tokio::test]
async fn what_came_later_is_not_there_before() {
    let api = Api::new();
    let node = api.node(json!({"name": "n"})).await;
    let keys = |body: Value| body.as_object().expect("an object").len();
    let counts = [
        "1.1", "1.2", "1.3", "1.5", "1.6", "1.7", "1.12", "1.14", "1.20", "1.21", "1.24", "1.31", "1.32",
        "1.33",
    ];
    let mut grown = Vec::new();
    for version in counts {
        grown.push(keys(api.at(version).get(&format!("/v1/nodes/{node}")).await.expect(200)));
    }
    assert_eq!(grown, [22, 22, 23, 24, 26, 27, 29, 30, 31, 32, 33, 41, 42, 43]);
    assert_eq!(api.at("1.4").get("/v1/nodes/n").await.status, 404, "names came with 1.5");
    assert_eq!(api.at("1.31").get("/v1/volume/targets").await.status, 404);
    for query in
        ["fields=uuid&x", "provision_state=active", "driver=fake-hardware", "resource_class=x", "owner=x"]
    {
        let status = api.at("1.1").get(&format!("/v1/nodes?{query}")).await.status;
        assert!(status == 406 || status == 400, "{query}: {status}");
    }
    assert_eq!(api.at("1.7").get("/v1/nodes?fields=uuid").await.status, 406);
    assert_eq!(api.at("1.32").get("/v1/nodes?fields=storage_interface").await.status, 406);
    let body = json!({"driver": "fake-hardware", "storage_interface": "noop"});
    assert_eq!(api.at("1.32").post("/v1/nodes", body).await.status, 406);
}
