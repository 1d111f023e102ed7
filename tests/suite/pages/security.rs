//! Security of the pages: response headers, cross-site requests, authentication, roles.

use super::*;
use crate::api::auth::fake_keystone;

#[tokio::test]
async fn every_response_has_security_headers() {
    let site = Site::with_auth(Auth::NoAuth);
    for path in ["/ui", "/ui/", "/ui/appliance", "/ui/nothing", "/ui/style.css", "/ui/live.js", "/elsewhere"]
    {
        let response = site.get(path).await;
        let policy = response.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && policy.ends_with("frame-ancestors 'none'"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"), "{path}");
        assert_eq!(response.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(response.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(response.header("referrer-policy"), "same-origin", "{path}");
        assert_eq!(response.header("cache-control"), "no-store", "{path}");
        assert_eq!(response.header("cross-origin-resource-policy"), "same-origin", "{path}");
        // The policy blocks inline styles and handlers, so pages must not contain any.
        assert!(!response.body.contains("style=") && !response.body.contains(" onclick="), "{path}");
    }
}

#[tokio::test]
async fn cross_site_requests_are_rejected() {
    let site = Site::new();
    site.record(
        mac(1),
        boot_request(None, None, BootOutcome::Unknown, "no node has a port with the address"),
    )
    .await;
    let rebound = site.request("GET", "/ui/", &[("host", "evil.example:6385")], "").await;
    assert_eq!(rebound.status, 403);
    assert!(
        rebound.body.contains("[api] hosts") && rebound.body.contains("evil.example"),
        "{}",
        rebound.body
    );
    let enroll = "/ui/machines/52:54:00:00:00:01/enroll";
    let form = "name=web-1&iqn=iqn.2017-08.org.openstack.web-1&volume=0b1d4a52-6d5f-4d21-9a7e-0e8a4d0a6a11";
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    for headers in [
        &[form_type][..],
        &[form_type, ("origin", "null")],
        &[form_type, ("origin", "http://evil.example")],
        &[form_type, ("origin", "http://192.0.2.1:6385"), ("sec-fetch-site", "cross-site")],
    ] {
        assert_eq!(site.request("POST", enroll, headers, form).await.status, 403, "{headers:?}");
    }
    assert_eq!(site.inventory.find_ports(&[mac(1)]).await.expect("read succeeds"), []);
    let link =
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    assert_eq!(site.request("GET", "/ui/", &link, "").await.status, 200);
    assert_eq!(site.post(enroll, form).await.status, 303);
}

#[tokio::test]
async fn pages_require_the_same_credentials_as_the_api() {
    let file = tempfile::NamedTempFile::new().expect("temporary file");
    std::fs::write(file.path(), format!("ann:{}\n", bcrypt::hash("secret", 4).expect("bcrypt hash")))
        .expect("write succeeds");
    let site = Site::with_auth(
        Auth::http_basic_blocking(file.path(), volboot::telemetry::Metrics::new()).expect("valid file"),
    );
    for path in ["/ui/", "/ui/appliance", "/ui/machines/52:54:00:00:00:01", "/ui/nothing"] {
        let response = site.get(path).await;
        assert_eq!(
            (response.status, response.header("www-authenticate")),
            (401, "Basic realm=\"Baremetal API\"")
        );
        assert!(response.body.contains("htpasswd"), "{}", response.body);
    }
    assert_eq!(
        site.request("GET", "/ui/", &[("authorization", "Basic YW5uOnNlY3JldA==")], "").await.status,
        200
    );
    assert_eq!(site.get("/ui/style.css").await.status, 200);
}

#[tokio::test]
async fn with_keystone_a_browser_without_a_token_is_rejected() {
    let site = Site::with_auth(fake_keystone());
    site.record(
        mac(1),
        boot_request(None, None, BootOutcome::Unknown, "no node has a port with the address"),
    )
    .await;
    let response = site.get("/ui/").await;
    assert_eq!(response.status, 401);
    assert!(response.header("www-authenticate").starts_with("Keystone uri="));
    assert!(response.body.contains("browsers do not send one"), "{}", response.body);
    assert_eq!(site.request("GET", "/ui/", &[("x-auth-token", "reader")], "").await.status, 200);
    let origin = ("origin", "http://192.0.2.1:6385");
    let form_type = ("content-type", "application/x-www-form-urlencoded");
    let enroll = "/ui/machines/52:54:00:00:00:01/enroll";
    for (token, status) in [("reader", 403), ("member", 403), ("admin", 422)] {
        let headers = [origin, form_type, ("x-auth-token", token)];
        assert_eq!(site.request("POST", enroll, &headers, "name=x").await.status, status, "{token}");
    }
}
