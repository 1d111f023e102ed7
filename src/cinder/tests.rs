//! What a real Cinder has answered (28.0, captured in `tests/exchanges/cinder`), and what is made of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::keystone::Credentials;
use crate::listen::{Limits, Listener};
use crate::model::Connection;

const PROJECT: &str = "13bf5aa8184c466e97f60b1b2a0d4c11";

/// A captured exchange.
fn exchange(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/exchanges/cinder/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Answers every request as a real one once was answered, and keeps the last request.
struct Replay {
    cinder: Cinder,
    seen: Arc<Mutex<Option<(String, Value)>>>,
    _stop: DropGuard,
}

fn replay(name: &str) -> Replay {
    let answer = exchange(name);
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    let router = Router::new().fallback(move |request: Request| {
        let (answer, told) = (answer.clone(), Arc::clone(&told));
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = to_bytes(request.into_body(), 1 << 20).await.expect("a body");
            let body = serde_json::from_slice(&body).unwrap_or_default();
            *told.lock().expect("whole") = Some((line, body));
            let status = answer["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let status = StatusCode::from_u16(status.expect("a status")).expect("a status");
            let body = match &answer["response_body"] {
                Value::Null => Body::empty(),
                body => Body::from(body.to_string()),
            };
            Response::builder().status(status).body(body).expect("an answer")
        }
    });
    crate::tls::install_provider();
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let url = format!("http://{}/v3/", listener.local_addr());
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(router, Limits::default(), stop.clone(), Duration::ZERO));
    Replay { cinder: cinder_at(&url), seen, _stop: stop.drop_guard() }
}

fn cinder_at(url: &str) -> Cinder {
    let credentials = Credentials::None { user: "u".into(), project: PROJECT.into() };
    let http = reqwest::Client::new();
    let endpoint = Endpoint { url: Some(url.into()), ..Endpoint::default() };
    let patience = Patience { read: Duration::from_secs(10), work: Duration::from_secs(10) };
    Cinder::new(Session::new(credentials, http.clone()), http, endpoint, patience, Metrics::new())
}

impl Replay {
    /// The last request: its line without the project, and its body.
    fn asked(&self) -> (String, Value) {
        let (line, body) = self.seen.lock().expect("whole").take().expect("was asked");
        (line.replace(&format!("/v3/{PROJECT}"), ""), body)
    }
}

fn connector() -> Connector {
    Connector {
        initiator: "iqn.2026-01.org.example:boot1".into(),
        host: "boot1".into(),
        ip: Some("127.0.0.1".into()),
        multipath: true,
    }
}

#[tokio::test]
async fn a_volume_and_who_holds_it() {
    let volume = replay("vol-show-multiattach-in-use").cinder.volume("v").await.expect("is there");
    assert_eq!((volume.status.as_str(), volume.multiattach, volume.encrypted), ("in-use", true, false));
    assert_eq!(volume.volume_type.as_deref(), Some("multiattach"));
    let first = Holder {
        attachment_id: "66195e3b-f97d-4455-b09e-d498d74616d6".into(),
        server_id: None,
        host_name: None,
    };
    assert_eq!((volume.attachments.len(), &volume.attachments[0]), (2, &first));
    let volume = replay("vol-show-available").cinder.volume("v").await.expect("is there");
    assert_eq!(
        (volume.status.as_str(), volume.multiattach, volume.attachments.len()),
        ("available", false, 0)
    );
}

#[tokio::test]
async fn the_steps_of_an_attachment() {
    let cinder = replay("att-create-reserve-3.27");
    let id = cinder.cinder.reserve("vol", false).await.expect("reserves");
    assert_eq!(id, "c3774a7f-8cf5-44c7-bbaa-05c4a1a4732e");
    assert_eq!(cinder.asked(), ("POST /attachments".into(), json!({"attachment": {"volume_uuid": "vol"}})));
    let cinder = replay("att-create-ro");
    cinder.cinder.reserve("vol", true).await.expect("reserves");
    assert_eq!(cinder.asked().1["attachment"]["mode"], "ro");

    let cinder = replay("att-update-with-connector");
    let exported = cinder.cinder.export(&id, &connector()).await.expect("exports");
    let expected = json!({"attachment": {"connector": {
        "initiator": "iqn.2026-01.org.example:boot1", "host": "boot1", "ip": "127.0.0.1", "multipath": true,
    }}});
    assert_eq!(cinder.asked(), (format!("PUT /attachments/{id}"), expected));
    let connection = exported.connection.expect("a connection");
    let read = Connection::try_from(&connection).expect("is read");
    let path =
        "iscsi:127.0.0.1::13260:1:iqn.2010-10.org.openstack:volume-1498598a-0b2e-49a1-86c9-a2eb7f6448e2";
    assert_eq!(read.paths.iter().map(ToString::to_string).collect::<Vec<_>>(), [path]);
    assert!(!format!("{connection:?}").contains("chapsecret"), "{connection:?}");

    let cinder = replay("att-complete");
    cinder.cinder.complete(&id).await.expect("completes");
    let line = format!("POST /attachments/{id}/action");
    assert_eq!(cinder.asked(), (line, json!({"os-complete": {}})));
    replay("att-complete-again").cinder.complete(&id).await.expect("is no error");
    replay("att-delete").cinder.delete(&id).await.expect("deletes");
}

#[tokio::test]
async fn several_paths_are_read_as_they_come() {
    let exported = replay("att-create-mpath").cinder.export("a", &connector()).await.expect("exports");
    let read = Connection::try_from(&exported.connection.expect("a connection")).expect("is read");
    let portals: Vec<_> = read.paths.iter().map(|path| path.portal.to_string()).collect();
    assert_eq!(portals, ["127.0.0.1:13260", "127.0.0.2:13260"]);
}

#[tokio::test]
async fn attachments_of_a_volume() {
    let found = replay("att-list-detail");
    let all = found.cinder.attachments_of("a b").await.expect("lists");
    assert_eq!(found.asked().0, "GET /attachments/detail?volume_id=a%20b");
    assert_eq!((all.len(), all[0].status.as_str()), (1, "attached"));
    assert!(all[0].connection.is_some());
    let all = replay("down-volume-att-list-after").cinder.attachments_of("v").await.expect("lists");
    assert_eq!((all[0].status.as_str(), all[0].connection.as_ref()), ("reserved", None));
    let reserved = replay("att-show-reserved").cinder.attachment("a").await.expect("is there");
    assert_eq!((reserved.status.as_str(), reserved.connection), ("reserved", None));
}

#[tokio::test]
async fn cinder_says_no_or_is_away_and_never_the_one_for_the_other() {
    let missing = |text: &str| CinderError::Missing(text.into());
    let refused = |status, text: &str| CinderError::Refused { status, message: text.into() };
    let away = |text: &str| CinderError::Away(text.into());
    let cases = [
        ("err-vol-not-found", missing("Volume a6deb9c4-d9e3-4d4e-a188-e4a6eda57848 could not be found")),
        (
            "err-att-show-not-found",
            missing(
                "Volume attachment could not be found with filter: attachment_id = 5a64a8d8-492d-4469-ad24-665dbc71bbcf",
            ),
        ),
        (
            "err-att-show-other-project",
            missing(
                "Volume attachment could not be found with filter: attachment_id = 5a64a8d8-492d-4469-ad24-665dbc71bbcf",
            ),
        ),
        (
            "err-att-create-in-use",
            refused(
                400,
                "Invalid volume: Volume 1498598a-0b2e-49a1-86c9-a2eb7f6448e2 status must be available or downloading to reserve, but the current status is attaching",
            ),
        ),
        ("err-wrong-project-in-path", refused(400, "Malformed request url")),
        (
            "err-microversion-too-new",
            refused(406, "Version 3.999 is not supported by the API. Minimum is 3.0 and maximum is 3.71"),
        ),
        ("down-keystone-vol-show", away("Cinder answers 503 Service Unavailable")),
        ("down-volume-att-create-with-connector", away("Cinder answers 500 Internal Server Error")),
        ("down-volume-att-delete-attached", away("Cinder answers 500 Internal Server Error")),
        ("err-att-create-missing-initiator", away("Cinder answers 500 Internal Server Error")),
        // What stands at the address is something else.
        ("err-path-unknown", away("what answers at Cinder's address is not Cinder (404)")),
        // Without Keystone there is no other token to try.
        ("err-invalid-token", away("Keystone refuses: the service wants a token, but auth_type is none")),
        ("err-revoked-token", away("Keystone refuses: the service wants a token, but auth_type is none")),
    ];
    for (name, expected) in cases {
        let got = replay(name).cinder.volume("v").await.expect_err(name);
        assert_eq!(got, expected, "{name}");
    }
}

#[tokio::test]
async fn every_error_that_was_captured_is_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges/cinder");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let name = name.trim_end_matches(".json");
        let status = exchange(name)["status"].as_u64().expect("a status");
        if status < 400 {
            continue;
        }
        count += 1;
        let got = replay(name).cinder.attachment("a").await.expect_err(name);
        match status {
            404 => assert!(matches!(got, CinderError::Missing(_) | CinderError::Away(_)), "{name}: {got:?}"),
            401 | 500.. => assert!(matches!(got, CinderError::Away(_)), "{name}: {got:?}"),
            _ => assert!(matches!(got, CinderError::Refused { .. }), "{name}: {got:?}"),
        }
    }
    assert!(count > 20, "{count} errors");
}

#[tokio::test]
async fn nobody_there_is_away() {
    crate::tls::install_provider();
    // A port that was just free.
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let url = format!("http://{}/v3", listener.local_addr());
    drop(listener);
    let got = cinder_at(&url).ping().await.expect_err("nobody is there");
    assert_eq!(got, CinderError::Away("Cinder cannot be reached".into()));
}
