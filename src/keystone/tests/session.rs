//! Tests of sessions: the outcome of each response, and the number of requests.

use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode};
use futures_util::FutureExt;
use futures_util::future::join_all;
use secrecy::ExposeSecret;

use super::super::{Authorization, Credentials, IdOrName, Interfaces, KeystoneError, Session};
use super::{ReplayKeystone, exchange, response, response_with};

const BLOCK_STORAGE: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];

fn text(authorization: &Authorization) -> &str {
    authorization.token().expect("a token").expose_secret()
}

#[tokio::test]
async fn password_yields_a_token_with_project_and_catalogue() {
    let keystone = ReplayKeystone::start([response("token-password")]);
    let session = keystone.cloud().session();
    assert_eq!(keystone.request_count(), 0, "no request before the first use");
    let authorization = session.authorization().await.expect("authorizes");
    assert_eq!(text(&authorization), "TOKEN-1");
    assert!(authorization.header().is_sensitive());
    assert_eq!(authorization.header(), "TOKEN-1");
    assert_eq!(authorization.project_id(), Some("13bf5aa8184c466e97f60b1b2a0d4c11"));
    let endpoint = |types, region| authorization.endpoint(types, region, &Interfaces::default());
    assert_eq!(endpoint(&BLOCK_STORAGE, None).as_deref(), Some("http://127.0.0.1:18776/v3"));
    assert_eq!(
        endpoint(&["volumev3"], Some("RegionOne")).as_deref(),
        Some("http://127.0.0.1:18776/v3/13bf5aa8184c466e97f60b1b2a0d4c11")
    );
    assert_eq!(endpoint(&BLOCK_STORAGE, Some("RegionTwo")), None);
    assert_eq!(endpoint(&["baremetal"], None), None);
    let requests = keystone.requests.lock();
    assert_eq!((&requests[0].method, requests[0].path.as_str()), (&Method::POST, "/v3/auth/tokens"));
    assert_eq!(requests[0].body, exchange("token-password")["request_body"]);
}

#[tokio::test]
async fn times_without_a_zone_are_utc() {
    let without_zone = response_with("token-password", "TOKEN-1", ":34.000000Z", ":34.000000");
    let keystone = ReplayKeystone::start([without_zone, foreign_response(503, "")]);
    let session = keystone.cloud().session();
    session.authorization().await.expect("authorizes");
    advance(Duration::from_secs(3600 - 121)).await;
    session.authorization().await.expect("is valid");
    assert_eq!(keystone.request_count(), 1, "the token lives for an hour");
}

#[tokio::test]
async fn application_credential_yields_a_token() {
    let keystone = ReplayKeystone::start([response("token-appcred")]);
    let credentials = Credentials::ApplicationCredential {
        auth_url: format!("{}/v3", keystone.url),
        credential: (IdOrName::Id("40e2c9222abe4dcebdf0aa6b56f4dda2".into()), None),
        secret: "APPLICATION-CREDENTIAL-SECRET".into(),
    };
    let session = Session::new(credentials, keystone.cloud().http);
    assert_eq!(text(&session.authorization().await.expect("authorizes")), "TOKEN-4");
    assert_eq!(keystone.requests.lock()[0].body, exchange("token-appcred")["request_body"]);
}

#[tokio::test]
async fn noauth_sends_user_and_project() {
    let http = ReplayKeystone::start([]).cloud().http;
    let credentials = Credentials::None { user: "volboot".into(), project: "abc".into() };
    let session = Session::new(credentials, http);
    let authorization = session.authorization().await.expect("needs no request");
    assert!(authorization.token().is_none());
    assert_eq!(authorization.header(), "volboot:abc");
    assert_eq!(authorization.project_id(), Some("abc"));
    let error = session.reauthorize(&authorization).await.expect_err("has no Keystone");
    assert_eq!(
        error.to_string(),
        "authorization refused: the service requires a token, but auth_type is none"
    );
}

/// A response that is not Keystone's.
fn foreign_response(status: u16, body: &str) -> Response<String> {
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = StatusCode::from_u16(status).expect("is a status");
    response
}

#[tokio::test]
async fn error_message_describes_each_response_without_a_token() {
    let mut redirect = foreign_response(302, "");
    redirect.headers_mut().insert("location", HeaderValue::from_static("https://192.0.2.2/v3"));
    let mut without_body = foreign_response(201, "{}");
    without_body.headers_mut().insert("x-subject-token", HeaderValue::from_static("TOKEN-1"));
    let mut without_header = response("token-password");
    without_header.headers_mut().remove("x-subject-token");
    let odd_time = response_with("token-password", "TOKEN-1", "2026-11-22T08:51:34.000000Z", "secret");
    let mut quotes_secret = response("token-wrong-password");
    *quotes_secret.body_mut() = r#"{"error": {"message": "no lab-secret here"}}"#.into();
    let unauthorized = "answered 401: The request you have made requires authentication.";
    let refused = format!("authorization refused: URL {unauthorized}");
    let without_token =
        |status| format!("invalid response from Keystone: URL answered {status} without a token");
    for (response, expected) in [
        (response("token-wrong-password"), refused.clone()),
        (response("token-unknown-user"), refused.clone()),
        (response("token-no-such-project"), refused.clone()),
        (response("token-appcred-wrong-secret"), refused),
        (response("token-malformed"), "authorization refused: URL answered 400: Bad Request".into()),
        (quotes_secret, "authorization refused: URL answered 401: Unauthorized".into()),
        (foreign_response(404, "nginx"), "authorization refused: URL answered 404: Not Found".into()),
        (
            foreign_response(503, r#"{"message": "<br />", "code": "503 Service Unavailable"}"#),
            "Keystone is unavailable: URL answered 503: Service Unavailable".into(),
        ),
        (foreign_response(429, ""), "Keystone is unavailable: URL answered 429: Too Many Requests".into()),
        (
            redirect,
            "invalid response from Keystone: URL redirects to https://192.0.2.2/v3; check auth_url".into(),
        ),
        (foreign_response(200, "<html>"), without_token(200)),
        (without_body, without_token(201)),
        (
            without_header,
            "invalid response from Keystone: URL answered 201 without the header X-Subject-Token".into(),
        ),
        (
            odd_time,
            "invalid response from Keystone: URL answered 201 with a token whose expires_at is not a time"
                .into(),
        ),
        (
            foreign_response(200, &"x".repeat((4 << 20) + 1)),
            "invalid response from Keystone: URL answered with more than 4194304 bytes".into(),
        ),
    ] {
        let keystone = ReplayKeystone::start([response]);
        let error = keystone.cloud().session().authorization().await.expect_err("has no token");
        let message = error.to_string().replace(&format!("{}/v3/auth/tokens", keystone.url), "URL");
        assert_eq!(message, expected);
    }
}

#[tokio::test]
async fn refused_connection_is_unavailable() {
    let keystone = ReplayKeystone::start([]);
    let mut cloud = keystone.cloud();
    let Credentials::Password { auth_url, .. } = &mut cloud.credentials else { panic!("a password") };
    // No process listens on port 1 of loopback.
    *auth_url = "http://127.0.0.1:1/v3".into();
    let error = cloud.session().authorization().await.expect_err("refuses the connection");
    assert!(matches!(error, KeystoneError::Unavailable(_)), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn concurrent_callers_share_one_request_and_cancellation_does_not_abort_it() {
    let keystone = ReplayKeystone::start([response("token-password")]);
    keystone.gate.forget_permits(1000);
    let session = keystone.cloud().session();
    assert!(
        session.authorization().now_or_never().is_none(),
        "the request is sent, and the caller is cancelled"
    );
    let all = join_all((0..50).map(|_| session.authorization()));
    let release = async { keystone.gate.add_permits(1) };
    let (all, ()) = tokio::join!(all, release);
    assert!(
        all.iter().all(|result| result.as_ref().is_ok_and(|authorization| text(authorization) == "TOKEN-1"))
    );
    assert_eq!(keystone.request_count(), 1);
}

/// Advances the clock of tokio.
async fn advance(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn token_is_renewed_before_it_expires_and_stays_in_use() {
    let second = response_with("token-password", "TOKEN-2", "", "");
    let keystone = ReplayKeystone::start([response("token-password"), foreign_response(503, ""), second]);
    let session = keystone.cloud().session();
    session.authorization().await.expect("authorizes");
    advance(Duration::from_secs(3600 - 121)).await;
    session.authorization().await.expect("is valid");
    assert_eq!(keystone.request_count(), 1, "renewal begins two minutes before the token expires");
    advance(Duration::from_secs(2)).await;
    keystone.gate.forget_permits(999);
    assert_eq!(text(&session.authorization().await.expect("is valid")), "TOKEN-1");
    keystone.gate.add_permits(1);
    wait_for_renewal(&session).await;
    assert_eq!(keystone.request_count(), 2);
    // The renewal failed: the old token stays in use, and the next renewal waits for the back-off.
    assert_eq!(text(&session.authorization().await.expect("is valid")), "TOKEN-1");
    assert_eq!(keystone.request_count(), 2);
    advance(Duration::from_secs(6)).await;
    keystone.gate.add_permits(1);
    assert_eq!(text(&session.authorization().await.expect("is valid")), "TOKEN-1");
    wait_for_renewal(&session).await;
    assert_eq!(text(&session.authorization().await.expect("is valid")), "TOKEN-2");
    assert_eq!(keystone.request_count(), 3);
}

/// Waits for the request in flight.
async fn wait_for_renewal(session: &Session) {
    let renewal = session.renewal();
    if let Some(renewal) = renewal {
        let _ = renewal.await;
    }
}

#[tokio::test]
async fn expired_token_is_not_used() {
    let second = response_with("token-password", "TOKEN-2", "", "");
    let keystone = ReplayKeystone::start([response("token-password"), second, foreign_response(503, "")]);
    let session = keystone.cloud().session();
    session.authorization().await.expect("authorizes");
    advance(Duration::from_secs(3600)).await;
    assert_eq!(text(&session.authorization().await.expect("authorizes")), "TOKEN-2");
    advance(Duration::from_secs(3600)).await;
    assert!(matches!(session.authorization().await, Err(KeystoneError::Unavailable(_))));
}

#[tokio::test]
async fn rejected_token_is_replaced_once_for_all_callers() {
    let second = response_with("token-password", "TOKEN-2", "", "");
    let keystone = ReplayKeystone::start([response("token-password"), second]);
    let session = keystone.cloud().session();
    let first = session.authorization().await.expect("authorizes");
    let all = join_all((0..20).map(|_| session.reauthorize(&first))).await;
    assert!(
        all.iter().all(|result| result.as_ref().is_ok_and(|authorization| text(authorization) == "TOKEN-2"))
    );
    assert_eq!(text(&session.reauthorize(&first).await.expect("is valid")), "TOKEN-2");
    assert_eq!(keystone.request_count(), 2);
}

#[tokio::test]
async fn refusal_is_cached_so_that_the_user_is_not_locked_out() {
    let keystone = ReplayKeystone::start([response("token-wrong-password"), response("token-password")]);
    let session = keystone.cloud().session();
    for _ in 0..10 {
        assert!(matches!(session.authorization().await, Err(KeystoneError::Refused(_))));
    }
    assert_eq!(keystone.request_count(), 1);
    advance(Duration::from_secs(11)).await;
    session.authorization().await.expect("authorizes");
}

#[tokio::test]
async fn debug_output_redacts_secrets() {
    let keystone = ReplayKeystone::start([response("token-password")]);
    let cloud = keystone.cloud();
    let session = cloud.session();
    let authorization = session.authorization().await.expect("authorizes");
    let debug = format!("{cloud:?} {session:?} {authorization:?}");
    assert!(debug.contains("bootapp"), "{debug}");
    assert!(!debug.contains("lab-secret") && !debug.contains("TOKEN-1"), "{debug}");
}
