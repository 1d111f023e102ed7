//! Authentication and authorization: HTTP basic, Keystone tokens and roles, and unauthenticated discovery.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::{Json, Router};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use volboot::auth::Auth;
use volboot::config::KeystoneConfig;
use volboot::keystone::Validator;
use volboot::listen::{HttpLimits, Listener};
use volboot::telemetry::Metrics;

use super::{Api, ApiResponse, LATEST};

#[tokio::test]
async fn http_basic_protects_all_paths_but_discovery() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let hash = bcrypt::hash("secret", 4).expect("bcrypt hashes the password");
    std::fs::write(file.path(), format!("ann:{hash}\n")).expect("the file is writable");
    let api = Api::with_auth(
        Auth::http_basic_blocking(file.path(), Metrics::new()).expect("the htpasswd file is valid"),
    );
    let get = async |path: &str, authorization: Option<&str>| {
        let header = authorization.map(|value| ("authorization", value));
        api.send_raw("GET", path, header.as_slice(), Body::empty()).await
    };
    for path in ["/", "/v1", "/v1/", "/openapi.json"] {
        assert_eq!(get(path, None).await.status, 200, "{path}");
    }
    let anonymous = get("/v1/nodes", None).await;
    assert_eq!(anonymous.header("www-authenticate"), "Basic realm=\"Baremetal API\"");
    assert_eq!(anonymous.header("x-openstack-ironic-api-maximum-version"), LATEST);
    assert_eq!(anonymous.expect_fault(401), "Authorization required");
    let wrong = "Basic YW5uOndyb25n"; // ann:wrong
    assert_eq!(get("/v1/nodes", Some(wrong)).await.expect_fault(401), "Incorrect username or password");
    assert_eq!(
        get("/v1/nodes", Some("Bearer x")).await.expect_fault(400),
        "Could not parse Authorization header"
    );
    get("/v1/nodes", Some("Basic YW5uOnNlY3JldA==")).await.expect(200); // ann:secret
}

/// A fake Keystone. A token's text is the name of its role, with system scope; `away` and `invalid` are errors.
pub(crate) fn fake_keystone() -> Auth {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let auth_url = Some(format!("http://{}", listener.local_addr()));
    let router = Router::new().fallback(async |headers: HeaderMap| {
        let role = headers["x-subject-token"].to_str().expect("text");
        match role {
            "away" => StatusCode::BAD_GATEWAY.into_response(),
            "invalid" => StatusCode::NOT_FOUND.into_response(),
            role => Json(json!({ "token": {
                "user": { "id": "u1" },
                "expires_at": "2999-01-01T00:00:00Z",
                "roles": [{ "id": "r1", "name": role }],
                "system": { "all": true },
            } }))
            .into_response(),
        }
    });
    tokio::spawn(listener.serve(router, HttpLimits::default(), CancellationToken::new(), Duration::ZERO));
    let config = KeystoneConfig { auth_url, cacert: None, verify: true };
    let validator = Validator::resolve_blocking(&config, None).expect("a valid configuration");
    Auth::keystone(validator, vec!["service".into()])
}

fn api_with_keystone() -> Api {
    Api::with_auth(fake_keystone())
}

async fn send_with_token(api: &Api, token: &str, method: &str, path: &str) -> ApiResponse {
    let headers = [("x-auth-token", token), ("x-openstack-ironic-api-version", LATEST)];
    api.send_raw(method, path, &headers, Body::empty()).await
}

#[tokio::test]
async fn keystone_tokens_are_validated_and_the_challenge_names_keystone() {
    let api = api_with_keystone();
    for path in ["/", "/v1", "/openapi.json"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    send_with_token(&api, "reader", "GET", "/v1/nodes").await.expect(200);
    let anonymous = api.get("/v1/nodes").await;
    let challenge = anonymous.header("www-authenticate");
    assert!(challenge.starts_with("Keystone uri=\"http://127.0.0.1:") && challenge.ends_with("/v3\""));
    assert_eq!(anonymous.expect_fault(401), "The request you have made requires authentication.");
    let invalid = send_with_token(&api, "invalid", "GET", "/v1/nodes").await;
    assert_eq!(invalid.expect_fault(401), "The request you have made requires authentication.");
    let away = send_with_token(&api, "away", "GET", "/v1/nodes").await;
    assert_eq!(away.expect_fault(503), "Resource temporarily unavailable, please retry.");
    assert_eq!(
        send_with_token(&api, "swiftoperator", "GET", "/v1/nodes").await.expect_fault(403),
        "Access was denied: the token has no role for the system, nor in one of [api] projects."
    );
}

#[tokio::test]
async fn each_operation_requires_its_documented_role() {
    let api = api_with_keystone();
    let document = api.document().await;
    let roles = ["reader", "member", "admin"];
    let mut counts = [0; 3];
    for (path, methods) in document["paths"].as_object().expect("an object") {
        if path == "/" || path == "/v1" {
            continue;
        }
        for (method, operation) in methods.as_object().expect("an object") {
            let method = method.to_uppercase();
            let description = operation["description"].as_str().expect("a string");
            let required =
                roles.iter().position(|role| description.starts_with(&format!("Requires the role {role}.")));
            let required = required.unwrap_or_else(|| panic!("{method} {path} names no role: {description}"));
            counts[required] += 1;
            let path = path.replace(['{', '}'], "");
            for (role_index, role) in roles.into_iter().enumerate() {
                let response = send_with_token(&api, role, &method, &path).await;
                if role_index < required {
                    let text = format!(
                        "Access was denied to {method} {path}: the role {} is required.",
                        roles[required]
                    );
                    assert_eq!(response.expect_fault(403), text);
                } else {
                    assert!(response.status != 401 && response.status != 403, "{role}: {method} {path}");
                }
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

/// The most important rules of Ironic's policy (`common/policy.py`).
#[tokio::test]
async fn required_roles_match_ironics_policy() {
    let api = api_with_keystone();
    for (role, method, path) in [
        ("admin", "POST", "/v1/nodes"),
        ("admin", "DELETE", "/v1/nodes/a"),
        ("admin", "POST", "/v1/ports"),
        ("admin", "POST", "/v1/chassis"),
        // volboot's extension; creates nodes and ports.
        ("admin", "POST", "/v1/enrollments"),
        ("member", "PATCH", "/v1/nodes/a"),
        ("member", "PUT", "/v1/nodes/a/states/provision"),
        ("member", "PUT", "/v1/nodes/a/states/power"),
        ("member", "PUT", "/v1/nodes/a/maintenance"),
        ("member", "PUT", "/v1/nodes/a/traits"),
        ("member", "DELETE", "/v1/nodes/a/traits/CUSTOM_A"),
        ("reader", "GET", "/v1/nodes/a/traits"),
        ("member", "GET", "/v1/nodes/a/validate"),
        ("member", "GET", "/v1/nodes/a/management/boot_device"),
        ("member", "POST", "/v1/volume/connectors"),
        ("member", "POST", "/v1/volume/targets"),
        ("member", "DELETE", "/v1/volume/targets/a"),
        ("member", "POST", "/v1/allocations"),
        ("member", "DELETE", "/v1/allocations/a"),
        ("member", "DELETE", "/v1/nodes/a/allocation"),
        ("reader", "GET", "/v1/allocations"),
        ("reader", "GET", "/v1/conductors"),
        ("reader", "GET", "/v1/nodes/a/bios"),
        ("reader", "GET", "/v1/volume/targets"),
        ("reader", "GET", "/v1/nodes/a/states"),
        ("reader", "GET", "/v1/drivers"),
    ] {
        let below = match role {
            "admin" => "member",
            "member" => "reader",
            _ => "invalid",
        };
        let status = send_with_token(&api, below, method, path).await.status;
        assert!(status == 401 || status == 403, "{below}: {method} {path}: {status}");
        let response = send_with_token(&api, role, method, path).await;
        assert!(
            response.status != 401 && response.status != 403,
            "{role}: {method} {path}: {}",
            response.status
        );
    }
}
