//! Tests of token validation: user, roles, scope and lifetime.

use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::super::{Bearer, KeystoneError, TokenScope, Validator, check_blocking};
use super::{Environment, ReplayKeystone, exchange, response};
use crate::config::{Config, KeystoneConfig};

const TOKEN: HeaderValue = HeaderValue::from_static("TOKEN-4");

fn validator(keystone: &ReplayKeystone) -> Validator {
    let config = KeystoneConfig { auth_url: Some(keystone.url.clone()), cacert: None, verify: true };
    Validator::resolve_blocking(&config, None).expect("is valid")
}

/// The captured validation response, with a changed token.
fn validation_response(change: impl FnOnce(&mut Value)) -> Response<String> {
    let mut body = exchange("token-validate")["response_body"].clone();
    change(&mut body["token"]);
    let mut response = response("token-validate");
    *response.body_mut() = body.to_string();
    response
}

async fn validate(response: Response<String>) -> Bearer {
    let keystone = ReplayKeystone::start([response]);
    validator(&keystone).validate(&TOKEN).await.expect("responds").expect("token is known")
}

#[tokio::test]
async fn token_authorizes_its_own_validation() {
    let keystone = ReplayKeystone::start([response("token-validate")]);
    let bearer = validator(&keystone).validate(&TOKEN).await.expect("responds").expect("token is known");
    let expected = Bearer {
        user: "8d467a82732f4ec8913a1afe55bad815".into(),
        roles: vec!["reader".into(), "member".into()],
        scope: TokenScope::Project {
            id: "13bf5aa8184c466e97f60b1b2a0d4c11".into(),
            name: "boot".into(),
            domain: "default".into(),
        },
        lifetime: Duration::ZERO, // the captured token expired long ago
    };
    assert_eq!(bearer, expected);
    let requests = keystone.requests.lock();
    assert_eq!((&requests[0].method, requests[0].path.as_str()), (&Method::GET, "/v3/auth/tokens"));
    for name in ["x-auth-token", "x-subject-token"] {
        assert_eq!(requests[0].headers[name], "TOKEN-4");
    }
}

#[tokio::test]
async fn scope_and_lifetime_are_read() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(100);
    let system = validate(validation_response(|token| {
        token.as_object_mut().expect("an object").remove("project");
        token["system"] = json!({ "all": true });
        token["expires_at"] = soon.to_string().into();
    }));
    let system = system.await;
    assert_eq!(system.scope, TokenScope::System);
    assert!((90..=100).contains(&system.lifetime.as_secs()), "{:?}", system.lifetime);
    assert_eq!(validate(response("token-unscoped")).await.scope, TokenScope::Other);
}

#[tokio::test]
async fn unknown_token_is_rejected() {
    for name in ["expired-token", "invalid-token"] {
        let keystone = ReplayKeystone::start([response(name)]);
        assert_eq!(validator(&keystone).validate(&TOKEN).await, Ok(None), "{name}");
    }
    let mut bad_gateway = response("expired-token");
    *bad_gateway.status_mut() = StatusCode::BAD_GATEWAY;
    let keystone = ReplayKeystone::start([bad_gateway]);
    assert!(matches!(validator(&keystone).validate(&TOKEN).await, Err(KeystoneError::Unavailable(_))));
}

#[test]
fn keystone_auth_requires_a_keystone() {
    let errors_of = |text: &str| {
        let config = Config::parse(&format!("[api]\nauth = \"keystone\"\n{text}")).expect("parses");
        let errors = check_blocking(&config, &Environment::default());
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let required =
        "keystone.auth_url: is required: api.auth is \"keystone\", and [cinder] configures no Keystone";
    assert_eq!(errors_of(""), [required]);
    assert_eq!(
        errors_of("[cinder]\nauth_type = \"none\"\nendpoint_override = \"http://192.0.2.3:8776/v3\""),
        [required]
    );
    assert_eq!(errors_of("[keystone]\nauth_url = \"http://192.0.2.2:5000\""), [] as [&str; 0]);
    assert_eq!(
        errors_of("[keystone]\nauth_url = \"192.0.2.2\"\ncacert = \"/not/there\""),
        ["keystone.auth_url: expected a URL such as https://192.0.2.2:5000/v3"]
    );
    assert_eq!(
        errors_of("[keystone]\nauth_url = \"https://192.0.2.2\"\ncacert = \"/not/there\""),
        ["keystone.cacert: cannot use /not/there: No such file or directory (os error 2)"]
    );
}
