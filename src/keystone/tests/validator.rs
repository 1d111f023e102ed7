//! What a token is found to stand for.

use std::time::Duration;

use axum::http::{HeaderValue, Method, Response};
use serde_json::{Value, json};

use super::super::{Bearer, KeystoneError, Reach, Validator, faults};
use super::{Fake, Surroundings, answer, exchange};
use crate::config::{Config, KeystoneConfig};

const TOKEN: HeaderValue = HeaderValue::from_static("TOKEN-4");

fn validator(keystone: &Fake) -> Validator {
    let config = KeystoneConfig { auth_url: Some(keystone.url.clone()), cacert: None, verify: true };
    Validator::resolve(&config, None).expect("is right")
}

/// The captured validation, with something else in its token.
fn validation(change: impl FnOnce(&mut Value)) -> Response<String> {
    let mut body = exchange("token-validate")["response_body"].clone();
    change(&mut body["token"]);
    let mut response = answer("token-validate");
    *response.body_mut() = body.to_string();
    response
}

async fn bearer(answer: Response<String>) -> Bearer {
    let keystone = Fake::start([answer]);
    validator(&keystone).validate(&TOKEN).await.expect("is answered").expect("is known")
}

#[tokio::test]
async fn a_token_vouches_for_itself() {
    let keystone = Fake::start([answer("token-validate")]);
    let bearer = validator(&keystone).validate(&TOKEN).await.expect("is answered").expect("is known");
    let expected = Bearer {
        user: "8d467a82732f4ec8913a1afe55bad815".into(),
        roles: vec!["reader".into(), "member".into()],
        reach: Reach::Project {
            id: "13bf5aa8184c466e97f60b1b2a0d4c11".into(),
            name: "boot".into(),
            domain: "default".into(),
        },
        life: Duration::ZERO, // it was captured long ago
    };
    assert_eq!(bearer, expected);
    let asked = keystone.asked.lock().expect("works");
    assert_eq!((&asked[0].method, asked[0].path.as_str()), (&Method::GET, "/v3/auth/tokens"));
    for name in ["x-auth-token", "x-subject-token"] {
        assert_eq!(asked[0].headers[name], "TOKEN-4");
    }
}

#[tokio::test]
async fn its_scope_and_its_life_are_read() {
    let soon = jiff::Timestamp::now() + Duration::from_secs(100);
    let system = bearer(validation(|token| {
        token.as_object_mut().expect("an object").remove("project");
        token["system"] = json!({ "all": true });
        token["expires_at"] = soon.to_string().into();
    }));
    let system = system.await;
    assert_eq!(system.reach, Reach::System);
    assert!((90..=100).contains(&system.life.as_secs()), "{:?}", system.life);
    assert_eq!(bearer(answer("token-unscoped")).await.reach, Reach::Elsewhere);
}

#[tokio::test]
async fn a_token_that_is_not_known_is_nobodys() {
    for name in ["expired-token", "invalid-token"] {
        let keystone = Fake::start([answer(name)]);
        assert_eq!(validator(&keystone).validate(&TOKEN).await, Ok(None), "{name}");
    }
    let mut silent = answer("expired-token");
    *silent.status_mut() = axum::http::StatusCode::BAD_GATEWAY;
    let keystone = Fake::start([silent]);
    assert!(matches!(validator(&keystone).validate(&TOKEN).await, Err(KeystoneError::Away(_))));
}

#[test]
fn without_a_keystone_there_is_nobody_to_ask() {
    let told = |text: &str| {
        let config = Config::parse(&format!("[api]\nauth = \"keystone\"\n{text}")).expect("is read");
        let found = faults(&config, &Surroundings::default());
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let needed =
        "keystone.auth_url: is needed, since api.auth is \"keystone\" and [cinder] leads to no Keystone";
    assert_eq!(told(""), [needed]);
    assert_eq!(
        told("[cinder]\nauth_type = \"none\"\nendpoint_override = \"http://192.0.2.3:8776/v3\""),
        [needed]
    );
    assert_eq!(told("[keystone]\nauth_url = \"http://192.0.2.2:5000\""), [] as [&str; 0]);
    assert_eq!(
        told("[keystone]\nauth_url = \"192.0.2.2\"\ncacert = \"/not/there\""),
        ["keystone.auth_url: expected a URL such as https://192.0.2.2:5000/v3"]
    );
    assert_eq!(
        told("[keystone]\nauth_url = \"https://192.0.2.2\"\ncacert = \"/not/there\""),
        ["keystone.cacert: cannot use /not/there: No such file or directory (os error 2)"]
    );
}
