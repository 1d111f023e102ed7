//! Who may: names and passwords, tokens and their roles, and what everybody may see.

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
use volboot::listen::{Limits, Listener};

use super::{Answer, Api};

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

/// A Keystone which knows tokens that are called like roles, for the whole system.
pub(crate) fn keystone() -> Auth {
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let auth_url = Some(format!("http://{}", listener.local_addr()));
    let router = Router::new().fallback(async |headers: HeaderMap| {
        let role = headers["x-subject-token"].to_str().expect("text");
        match role {
            "away" => StatusCode::BAD_GATEWAY.into_response(),
            "nonsense" => StatusCode::NOT_FOUND.into_response(),
            role => Json(json!({ "token": {
                "user": { "id": "u1" },
                "expires_at": "2999-01-01T00:00:00Z",
                "roles": [{ "id": "r1", "name": role }],
                "system": { "all": true },
            } }))
            .into_response(),
        }
    });
    tokio::spawn(listener.serve(router, Limits::default(), CancellationToken::new(), Duration::ZERO));
    let config = KeystoneConfig { auth_url, cacert: None, verify: true };
    let validator = Validator::resolve(&config, None).expect("is right");
    Auth::keystone(validator, vec!["service".into()])
}

fn with_keystone() -> Api {
    Api::with(|state| state.auth = keystone())
}

async fn asked_with(api: &Api, token: &str, method: &str, path: &str) -> Answer {
    let headers = [("x-auth-token", token), ("x-openstack-ironic-api-version", "1.33")];
    api.raw(method, path, &headers, Body::empty()).await
}

#[tokio::test]
async fn a_token_opens_the_door_and_without_one_it_is_told_where_tokens_are() {
    let api = with_keystone();
    for path in ["/", "/v1", "/openapi.json"] {
        assert_eq!(api.get(path).await.status, 200, "{path}");
    }
    asked_with(&api, "reader", "GET", "/v1/nodes").await.expect(200);
    let nobody = api.get("/v1/nodes").await;
    let challenge = nobody.header("www-authenticate");
    assert!(challenge.starts_with("Keystone uri=\"http://127.0.0.1:") && challenge.ends_with("/v3\""));
    assert_eq!(nobody.fault(401), "The request you have made requires authentication.");
    let nonsense = asked_with(&api, "nonsense", "GET", "/v1/nodes").await;
    assert_eq!(nonsense.fault(401), "The request you have made requires authentication.");
    let away = asked_with(&api, "away", "GET", "/v1/nodes").await;
    assert_eq!(away.fault(503), "Resource temporarily unavailable, please retry.");
    assert_eq!(
        asked_with(&api, "swiftoperator", "GET", "/v1/nodes").await.fault(403),
        "Access was denied: the token has no role for the system, nor in one of [api] projects."
    );
}

#[tokio::test]
async fn each_role_may_what_it_may_and_no_more() {
    let api = with_keystone();
    let document = api.document().await;
    let roles = ["reader", "member", "admin"];
    let mut counts = [0; 3];
    for (path, methods) in document["paths"].as_object().expect("an object") {
        if path == "/" || path == "/v1" {
            continue;
        }
        for (method, operation) in methods.as_object().expect("an object") {
            let method = method.to_uppercase();
            let told = operation["description"].as_str().expect("a text");
            let needed = roles.iter().position(|role| told.starts_with(&format!("Takes the role {role}.")));
            let needed = needed.unwrap_or_else(|| panic!("{method} {path} names no role: {told}"));
            counts[needed] += 1;
            let path = path.replace(['{', '}'], "");
            for (had, role) in roles.into_iter().enumerate() {
                let answer = asked_with(&api, role, &method, &path).await;
                if had < needed {
                    let text =
                        format!("Access was denied to {method} {path}: it takes the role {}.", roles[needed]);
                    assert_eq!(answer.fault(403), text);
                } else {
                    assert!(answer.status != 401 && answer.status != 403, "{role}: {method} {path}");
                }
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

/// Ironic's own rules (its `common/policy.py`), for what matters most.
#[tokio::test]
async fn the_roles_are_those_of_ironic() {
    let api = with_keystone();
    for (role, method, path) in [
        ("admin", "POST", "/v1/nodes"),
        ("admin", "DELETE", "/v1/nodes/a"),
        ("admin", "POST", "/v1/ports"),
        ("admin", "POST", "/v1/chassis"),
        // Not Ironic's, but it creates nodes and ports.
        ("admin", "POST", "/v1/enrollments"),
        ("member", "PATCH", "/v1/nodes/a"),
        ("member", "PUT", "/v1/nodes/a/states/provision"),
        ("member", "PUT", "/v1/nodes/a/states/power"),
        ("member", "PUT", "/v1/nodes/a/maintenance"),
        ("member", "GET", "/v1/nodes/a/validate"),
        ("member", "GET", "/v1/nodes/a/management/boot_device"),
        ("member", "POST", "/v1/volume/connectors"),
        ("member", "POST", "/v1/volume/targets"),
        ("member", "DELETE", "/v1/volume/targets/a"),
        ("reader", "GET", "/v1/volume/targets"),
        ("reader", "GET", "/v1/nodes/a/states"),
        ("reader", "GET", "/v1/drivers"),
    ] {
        let below = match role {
            "admin" => "member",
            "member" => "reader",
            _ => "nonsense",
        };
        let refused = asked_with(&api, below, method, path).await.status;
        assert!(refused == 401 || refused == 403, "{below}: {method} {path}: {refused}");
        let answer = asked_with(&api, role, method, path).await;
        assert!(answer.status != 401 && answer.status != 403, "{role}: {method} {path}: {}", answer.status);
    }
}
