//! What a session does with each answer, and how often it asks.

use std::time::Duration;

use axum::http::{HeaderValue, Method, Response, StatusCode};
use futures_util::FutureExt;
use futures_util::future::join_all;
use secrecy::ExposeSecret;

use super::super::{Authorization, Credentials, Identity, Interface, KeystoneError, Session};
use super::{Fake, answer, answer_with, exchange};

const BLOCK_STORAGE: [&str; 4] = ["block-storage", "block-store", "volumev3", "volume"];

fn text(authorization: &Authorization) -> &str {
    authorization.token().expect("a token").expose_secret()
}

#[tokio::test]
async fn a_password_becomes_a_token_with_a_project_and_a_catalogue() {
    let keystone = Fake::start([answer("token-password")]);
    let session = keystone.cloud().session();
    assert_eq!(keystone.asked(), 0, "nothing is asked before there is need");
    let authorization = session.authorization().await.expect("is granted");
    assert_eq!(text(&authorization), "TOKEN-1");
    assert!(authorization.header().is_sensitive());
    assert_eq!(authorization.header(), "TOKEN-1");
    assert_eq!(authorization.project_id(), Some("13bf5aa8184c466e97f60b1b2a0d4c11"));
    let endpoint = |types, region| authorization.endpoint(types, region, Interface::Public);
    assert_eq!(endpoint(&BLOCK_STORAGE, None).as_deref(), Some("http://127.0.0.1:18776/v3"));
    assert_eq!(
        endpoint(&["volumev3"], Some("RegionOne")).as_deref(),
        Some("http://127.0.0.1:18776/v3/13bf5aa8184c466e97f60b1b2a0d4c11")
    );
    assert_eq!(endpoint(&BLOCK_STORAGE, Some("RegionTwo")), None);
    assert_eq!(endpoint(&["baremetal"], None), None);
    let asked = keystone.asked.lock().expect("works");
    assert_eq!((&asked[0].method, asked[0].path.as_str()), (&Method::POST, "/v3/auth/tokens"));
    assert_eq!(asked[0].body, exchange("token-password")["request_body"]);
}

#[tokio::test]
async fn an_application_credential_becomes_a_token() {
    let keystone = Fake::start([answer("token-appcred")]);
    let credentials = Credentials::ApplicationCredential {
        auth_url: format!("{}/v3", keystone.url),
        credential: (Identity::Id("40e2c9222abe4dcebdf0aa6b56f4dda2".into()), None),
        secret: "APPLICATION-CREDENTIAL-SECRET".into(),
    };
    let session = Session::new(credentials, keystone.cloud().http);
    assert_eq!(text(&session.authorization().await.expect("is granted")), "TOKEN-4");
    assert_eq!(keystone.asked.lock().expect("works")[0].body, exchange("token-appcred")["request_body"]);
}

#[tokio::test]
async fn without_keystone_a_user_and_a_project_are_told() {
    let http = Fake::start([]).cloud().http;
    let credentials = Credentials::None { user: "volboot".into(), project: "abc".into() };
    let session = Session::new(credentials, http);
    let authorization = session.authorization().await.expect("needs nobody");
    assert!(authorization.token().is_none());
    assert_eq!(authorization.header(), "volboot:abc");
    assert_eq!(authorization.project_id(), Some("abc"));
    let error = session.renewed(&authorization).await.expect_err("there is nobody to ask");
    assert_eq!(error.to_string(), "Keystone refuses: the service wants a token, but auth_type is none");
}

/// An answer of something that is no Keystone.
fn other(status: u16, body: &str) -> Response<String> {
    let mut response = Response::new(body.to_owned());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    response
}

#[tokio::test]
async fn each_answer_that_is_no_token_is_told_for_what_it_is() {
    let mut moved = other(302, "");
    moved.headers_mut().insert("location", HeaderValue::from_static("https://192.0.2.2/v3"));
    let mut without_body = other(201, "{}");
    without_body.headers_mut().insert("x-subject-token", HeaderValue::from_static("TOKEN-1"));
    let mut repeats = answer("token-wrong-password");
    *repeats.body_mut() = r#"{"error": {"message": "no lab-secret here"}}"#.into();
    let no = "answers 401: The request you have made requires authentication.";
    let refused = format!("Keystone refuses: URL {no}");
    let senseless =
        |status| format!("Keystone's answer makes no sense: URL answers {status} without a token");
    for (answer, expected) in [
        (answer("token-wrong-password"), refused.clone()),
        (answer("token-unknown-user"), refused.clone()),
        (answer("token-no-such-project"), refused.clone()),
        (answer("token-appcred-wrong-secret"), refused),
        (answer("token-malformed"), "Keystone refuses: URL answers 400: Bad Request".into()),
        (repeats, "Keystone refuses: URL answers 401: Unauthorized".into()),
        (other(404, "nginx"), "Keystone refuses: URL answers 404: Not Found".into()),
        (
            other(503, r#"{"message": "<br />", "code": "503 Service Unavailable"}"#),
            "Keystone does not answer: URL answers 503: Service Unavailable".into(),
        ),
        (other(429, ""), "Keystone does not answer: URL answers 429: Too Many Requests".into()),
        (
            moved,
            "Keystone's answer makes no sense: URL sends us to https://192.0.2.2/v3: is auth_url right?"
                .into(),
        ),
        (other(200, "<html>"), senseless(200)),
        (without_body, senseless(201)),
        (
            other(200, &"x".repeat((4 << 20) + 1)),
            "Keystone's answer makes no sense: URL answers with more than 4194304 bytes".into(),
        ),
    ] {
        let keystone = Fake::start([answer]);
        let error = keystone.cloud().session().authorization().await.expect_err("is no token");
        let told = error.to_string().replace(&format!("{}/v3/auth/tokens", keystone.url), "URL");
        assert_eq!(told, expected);
    }
}

#[tokio::test]
async fn who_does_not_answer_is_away() {
    let keystone = Fake::start([]);
    let mut cloud = keystone.cloud();
    let Credentials::Password { auth_url, .. } = &mut cloud.credentials else { panic!("a password") };
    // Port 1 of loopback: nobody is there.
    *auth_url = "http://127.0.0.1:1/v3".into();
    let error = cloud.session().authorization().await.expect_err("nobody answers");
    assert!(matches!(error, KeystoneError::Away(_)), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn all_who_ask_together_share_one_request_and_one_who_leaves_halves_nothing() {
    let keystone = Fake::start([answer("token-password")]);
    keystone.gate.forget_permits(1000);
    let session = keystone.cloud().session();
    assert!(session.authorization().now_or_never().is_none(), "it is asked, and the caller leaves");
    let all = join_all((0..50).map(|_| session.authorization()));
    let release = async { keystone.gate.add_permits(1) };
    let (all, ()) = tokio::join!(all, release);
    assert!(all.iter().all(|one| one.as_ref().is_ok_and(|one| text(one) == "TOKEN-1")));
    assert_eq!(keystone.asked(), 1);
}

/// Lets time pass without waiting for it.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_token_is_renewed_before_its_end_while_it_is_used() {
    let second = answer_with("token-password", "TOKEN-2", "", "");
    let keystone = Fake::start([answer("token-password"), other(503, ""), second]);
    let session = keystone.cloud().session();
    session.authorization().await.expect("is granted");
    pass(Duration::from_secs(3600 - 121)).await;
    session.authorization().await.expect("is there");
    assert_eq!(keystone.asked(), 1, "two minutes before its end are early enough");
    pass(Duration::from_secs(2)).await;
    keystone.gate.forget_permits(999);
    assert_eq!(text(&session.authorization().await.expect("is there")), "TOKEN-1");
    keystone.gate.add_permits(1);
    settled(&session).await;
    assert_eq!(keystone.asked(), 2);
    // That failed: the old token lives on, and Keystone is left in peace for a while.
    assert_eq!(text(&session.authorization().await.expect("is there")), "TOKEN-1");
    assert_eq!(keystone.asked(), 2);
    pass(Duration::from_secs(6)).await;
    keystone.gate.add_permits(1);
    assert_eq!(text(&session.authorization().await.expect("is there")), "TOKEN-1");
    settled(&session).await;
    assert_eq!(text(&session.authorization().await.expect("is there")), "TOKEN-2");
    assert_eq!(keystone.asked(), 3);
}

/// Waits for the request that runs.
async fn settled(session: &Session) {
    let renewal = session.running();
    if let Some(renewal) = renewal {
        let _ = renewal.await;
    }
}

#[tokio::test]
async fn a_token_that_ended_is_not_used() {
    let second = answer_with("token-password", "TOKEN-2", "", "");
    let keystone = Fake::start([answer("token-password"), second, other(503, "")]);
    let session = keystone.cloud().session();
    session.authorization().await.expect("is granted");
    pass(Duration::from_secs(3600)).await;
    assert_eq!(text(&session.authorization().await.expect("is granted")), "TOKEN-2");
    pass(Duration::from_secs(3600)).await;
    assert!(matches!(session.authorization().await, Err(KeystoneError::Away(_))));
}

#[tokio::test]
async fn a_rejected_token_is_exchanged_once_whoever_finds_out() {
    let second = answer_with("token-password", "TOKEN-2", "", "");
    let keystone = Fake::start([answer("token-password"), second]);
    let session = keystone.cloud().session();
    let first = session.authorization().await.expect("is granted");
    let all = join_all((0..20).map(|_| session.renewed(&first))).await;
    assert!(all.iter().all(|one| one.as_ref().is_ok_and(|one| text(one) == "TOKEN-2")));
    assert_eq!(text(&session.renewed(&first).await.expect("is there")), "TOKEN-2");
    assert_eq!(keystone.asked(), 2);
}

#[tokio::test]
async fn a_no_stands_for_a_while_so_that_nobody_is_locked_out() {
    let keystone = Fake::start([answer("token-wrong-password"), answer("token-password")]);
    let session = keystone.cloud().session();
    for _ in 0..10 {
        assert!(matches!(session.authorization().await, Err(KeystoneError::Refused(_))));
    }
    assert_eq!(keystone.asked(), 1);
    pass(Duration::from_secs(11)).await;
    session.authorization().await.expect("is granted");
}

#[tokio::test]
async fn nothing_shows_a_secret() {
    let keystone = Fake::start([answer("token-password")]);
    let cloud = keystone.cloud();
    let session = cloud.session();
    let authorization = session.authorization().await.expect("is granted");
    let shown = format!("{cloud:?} {session:?} {authorization:?}");
    assert!(shown.contains("bootapp"), "{shown}");
    assert!(!shown.contains("lab-secret") && !shown.contains("TOKEN-1"), "{shown}");
}
