//! The client against responses of a real Cinder 28.0, captured in `tests/exchanges/cinder`.

mod endpoints;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::{Json, Router};
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::keystone::Credentials;
use crate::listen::{HttpLimits, Listener};
use crate::model::Connection;

const PROJECT: &str = "13bf5aa8184c466e97f60b1b2a0d4c11";

/// A captured exchange.
fn exchange(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/exchanges/cinder/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// A server that answers every request with one captured response and records the last request.
struct Replay {
    cinder: Cinder,
    /// Its endpoint in error messages.
    endpoint: String,
    last_request: Arc<Mutex<Option<(String, Value)>>>,
    _stop: DropGuard,
}

fn replay(name: &str) -> Replay {
    let response = exchange(name);
    let last_request = Arc::new(Mutex::new(None));
    let recorder = Arc::clone(&last_request);
    let router = Router::new().fallback(move |request: Request| {
        let (response, recorder) = (response.clone(), Arc::clone(&recorder));
        async move {
            let line = format!("{} {}", request.method(), request.uri());
            let body = to_bytes(request.into_body(), 1 << 20).await.expect("the body is complete");
            let body = serde_json::from_slice(&body).unwrap_or_default();
            *recorder.lock() = Some((line, body));
            let status = response["status"].as_u64().and_then(|status| u16::try_from(status).ok());
            let status = StatusCode::from_u16(status.expect("a status code")).expect("a valid status code");
            let body = match &response["response_body"] {
                Value::Null => Body::empty(),
                body => Body::from(body.to_string()),
            };
            Response::builder().status(status).body(body).expect("a valid response")
        }
    });
    let (url, stop) = serve(router);
    let endpoint = format!("{url}/v3 (endpoint_override)");
    Replay { cinder: cinder_at(&format!("{url}/v3/")), endpoint, last_request, _stop: stop }
}

/// Serves a router, and returns its URL without a path.
fn serve(router: Router) -> (String, DropGuard) {
    crate::tls::install_provider();
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let url = format!("http://{}", listener.local_addr());
    let stop = CancellationToken::new();
    tokio::spawn(listener.serve(router, HttpLimits::default(), stop.clone(), Duration::ZERO));
    (url, stop.drop_guard())
}

fn cinder_at(url: &str) -> Cinder {
    let credentials = Credentials::None { user: "u".into(), project: PROJECT.into() };
    let http = reqwest::Client::new();
    let endpoint = CinderEndpoint { url: Some(url.into()), ..CinderEndpoint::default() };
    let timeouts = Timeouts { read: Duration::from_secs(10), backend: Duration::from_secs(10) };
    Cinder::new(Session::new(credentials, http.clone()), http, endpoint, timeouts, Metrics::new())
}

impl Replay {
    /// The last request: its line without the project, and its body.
    fn take_request(&self) -> (String, Value) {
        let (line, body) = self.last_request.lock().take().expect("a request was sent");
        (line.replace(&format!("/v3/{PROJECT}"), ""), body)
    }
}

fn connector() -> ConnectorProperties {
    ConnectorProperties {
        initiator: "iqn.2026-01.org.example:boot1".into(),
        host: "boot1".into(),
        ip: Some("127.0.0.1".into()),
        multipath: true,
        mountpoint: None,
    }
}

#[tokio::test]
async fn volume_response_with_its_holders() {
    let volume = replay("vol-show-multiattach-in-use").cinder.volume("v").await.expect("the volume exists");
    assert_eq!((volume.status.as_str(), volume.multiattach, volume.encrypted), ("in-use", true, false));
    assert_eq!(volume.volume_type.as_deref(), Some("multiattach"));
    let first = VolumeHolder {
        attachment_id: "66195e3b-f97d-4455-b09e-d498d74616d6".into(),
        server_id: None,
        host_name: None,
        device: Some("na".into()),
    };
    assert_eq!((volume.attachments.len(), &volume.attachments[0]), (2, &first));
    let volume = replay("vol-show-available").cinder.volume("v").await.expect("the volume exists");
    assert_eq!(
        (volume.status.as_str(), volume.multiattach, volume.attachments.len()),
        ("available", false, 0)
    );
}

#[tokio::test]
async fn each_step_of_an_attachment_sends_its_request() {
    let cinder = replay("att-create-reserve-3.27");
    let id = cinder.cinder.reserve("vol", false).await.expect("the reservation succeeds");
    assert_eq!(id, "c3774a7f-8cf5-44c7-bbaa-05c4a1a4732e");
    assert_eq!(
        cinder.take_request(),
        ("POST /attachments".into(), json!({"attachment": {"volume_uuid": "vol"}}))
    );
    let cinder = replay("att-create-ro");
    cinder.cinder.reserve("vol", true).await.expect("the reservation succeeds");
    assert_eq!(cinder.take_request().1["attachment"]["mode"], "ro");

    let cinder = replay("att-update-with-connector");
    let exported = cinder.cinder.export(&id, &connector()).await.expect("the export succeeds");
    let expected = json!({"attachment": {"connector": {
        "initiator": "iqn.2026-01.org.example:boot1", "host": "boot1", "ip": "127.0.0.1", "multipath": true,
    }}});
    assert_eq!(cinder.take_request(), (format!("PUT /attachments/{id}"), expected));
    let connection = exported.connection.expect("the response has a connection");
    let read = Connection::from_cinder(&connection).expect("the connection is valid");
    let path =
        "iscsi:127.0.0.1::13260:1:iqn.2010-10.org.openstack:volume-1498598a-0b2e-49a1-86c9-a2eb7f6448e2";
    assert_eq!(read.paths.iter().map(ToString::to_string).collect::<Vec<_>>(), [path]);
    assert!(!format!("{connection:?}").contains("chapsecret"), "{connection:?}");

    let cinder = replay("att-complete");
    cinder.cinder.complete(&id).await.expect("the completion succeeds");
    let line = format!("POST /attachments/{id}/action");
    assert_eq!(cinder.take_request(), (line, json!({"os-complete": {}})));
    replay("att-complete-again").cinder.complete(&id).await.expect("completion is idempotent");
    replay("att-delete").cinder.delete(&id).await.expect("the deletion succeeds");
}

#[tokio::test]
async fn multipath_connections_keep_the_order_of_their_paths() {
    let exported =
        replay("att-create-mpath").cinder.export("a", &connector()).await.expect("the export succeeds");
    let read = Connection::from_cinder(&exported.connection.expect("the response has a connection"))
        .expect("the connection is valid");
    let portals: Vec<_> = read.paths.iter().map(|path| path.portal.to_string()).collect();
    assert_eq!(portals, ["127.0.0.1:13260", "127.0.0.2:13260"]);
}

#[tokio::test]
async fn attachments_are_listed_by_volume() {
    let replayed = replay("att-list-detail");
    let all = replayed.cinder.list_attachments("a b").await.expect("the list is valid");
    assert_eq!(replayed.take_request().0, "GET /attachments/detail?volume_id=a%20b&all_tenants=1");
    assert_eq!((all.len(), all[0].status.as_str()), (1, "attached"));
    assert!(all[0].connection.is_some());
    let all =
        replay("down-volume-att-list-after").cinder.list_attachments("v").await.expect("the list is valid");
    assert_eq!((all[0].status.as_str(), all[0].connection.as_ref()), ("reserved", None));
    let reserved = replay("att-show-reserved").cinder.attachment("a").await.expect("the attachment exists");
    assert_eq!((reserved.status.as_str(), reserved.connection), ("reserved", None));
}

#[tokio::test]
async fn a_cinder_that_refuses_the_filter_all_tenants_is_asked_without() {
    let router = Router::new().fallback(async |uri: Uri| {
        if uri.query().unwrap_or_default().contains("all_tenants") {
            let refusal =
                json!({"badRequest": {"code": 400, "message": "Invalid filters all_tenants are found"}});
            (StatusCode::BAD_REQUEST, Json(refusal))
        } else {
            (StatusCode::OK, Json(json!({"attachments": [{"id": uri.query()}]})))
        }
    });
    let (url, _stop) = serve(router);
    let all = cinder_at(&format!("{url}/v3/")).list_attachments("root").await.expect("the list is valid");
    assert_eq!(all[0].id, "volume_id=root");
}

#[tokio::test]
async fn errors_are_refusals_or_outages_and_never_confused() {
    let not_found = |text: &str| CinderError::NotFound(text.into());
    let refused = |status, text: &str| CinderError::Refused { status, message: text.into() };
    let unavailable = |text: &str| CinderError::Unavailable(text.into());
    let failed =
        |property: Option<&str>| CinderError::Failed { missing_property: property.map(str::to_owned) };
    let cases = [
        ("err-vol-not-found", not_found("Volume a6deb9c4-d9e3-4d4e-a188-e4a6eda57848 could not be found")),
        (
            "err-att-show-not-found",
            not_found(
                "Volume attachment could not be found with filter: attachment_id = 5a64a8d8-492d-4469-ad24-665dbc71bbcf",
            ),
        ),
        (
            "err-att-show-other-project",
            not_found(
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
        ("down-keystone-vol-show", unavailable("Cinder returned 503 Service Unavailable")),
        ("down-volume-att-create-with-connector", failed(None)),
        ("down-volume-att-delete-attached", failed(None)),
        ("err-att-create-missing-initiator", failed(Some("initiator"))),
        // Another server at the endpoint.
        ("err-path-unknown", unavailable("the server at ENDPOINT is not Cinder (404)")),
        // Without Keystone there is no other token for a retry.
        (
            "err-invalid-token",
            unavailable("authorization refused: the service requires a token, but auth_type is none"),
        ),
        (
            "err-revoked-token",
            unavailable("authorization refused: the service requires a token, but auth_type is none"),
        ),
    ];
    for (name, expected) in cases {
        let replayed = replay(name);
        let mut error = replayed.cinder.volume("v").await.expect_err(name);
        if let CinderError::Unavailable(message) = &mut error {
            *message = message.replace(&replayed.endpoint, "ENDPOINT");
        }
        assert_eq!(error, expected, "{name}");
    }
}

#[tokio::test]
async fn every_captured_error_maps_to_an_error() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exchanges/cinder");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the directory exists") {
        let name = entry.expect("the entry is readable").file_name().into_string().expect("UTF-8");
        let name = name.trim_end_matches(".json");
        let status = exchange(name)["status"].as_u64().expect("a status");
        if status < 400 {
            continue;
        }
        count += 1;
        let error = replay(name).cinder.attachment("a").await.expect_err(name);
        match status {
            404 => assert!(
                matches!(error, CinderError::NotFound(_) | CinderError::Unavailable(_)),
                "{name}: {error:?}"
            ),
            500 => assert!(matches!(error, CinderError::Failed { .. }), "{name}: {error:?}"),
            401 | 501.. => assert!(matches!(error, CinderError::Unavailable(_)), "{name}: {error:?}"),
            _ => assert!(matches!(error, CinderError::Refused { .. }), "{name}: {error:?}"),
        }
    }
    assert!(count > 20, "{count} errors");
}

#[tokio::test]
async fn any_text_as_an_id_is_one_segment_of_the_path() {
    let replayed = replay("vol-show-available");
    replayed.cinder.volume("a/../b?c=%41 ä").await.expect("the volume exists");
    assert_eq!(replayed.take_request().0, "GET /volumes/a%2F..%2Fb%3Fc%3D%2541%20%C3%A4");
}
