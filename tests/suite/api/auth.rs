//! Who may: names and passwords, and what everybody may see.

use axum::body::Body;
use volboot::auth::Auth;

use super::Api;

#[tokio::test]
async fn only_who_is_known_gets_beyond_discovery() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let hash = bcrypt::hash("secret", 4).expect("hashes");
    std::fs::write(file.path(), format!("ann:{hash}\n")).expect("is written");
    let api = Api::with(|state| state.auth = Auth::http_basic(file.path()).expect("is read"));
    let get = async |path: &str, authorization: Option<&str>| {
        let header = authorization.map(|value| ("authorization", value));
        api.raw("GET", path, header.as_slice(), Body::empty()).await
    };
    for path in ["/", "/v1", "/v1/", "/openapi.json"] {
        assert_eq!(get(path, None).await.status, 200, "{path}");
    }
    let nobody = get("/v1/nodes", None).await;
    assert_eq!(nobody.header("www-authenticate"), "Basic realm=\"Baremetal API\"");
    assert_eq!(nobody.header("x-openstack-ironic-api-maximum-version"), "1.33");
    assert_eq!(nobody.fault(401), "Authorization required");
    let wrong = "Basic YW5uOndyb25n"; // ann:wrong
    assert_eq!(get("/v1/nodes", Some(wrong)).await.fault(401), "Incorrect username or password");
    assert_eq!(get("/v1/nodes", Some("Bearer x")).await.fault(400), "Could not parse Authorization header");
    get("/v1/nodes", Some("Basic YW5uOnNlY3JldA==")).await.expect(200); // ann:secret
}
