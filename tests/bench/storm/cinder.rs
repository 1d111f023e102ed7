//! A fake Keystone and Cinder, slow or hanging: the part of their APIs that a boot needs, with the states of a real
//! Cinder, and a record of the calls per volume.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// The duration of a call.
pub(crate) const CALL_DURATION: Duration = Duration::from_millis(300);
/// Concurrent calls; further calls queue.
pub(crate) const CONCURRENT_CALLS: usize = 8;

const TOKEN: &str = "a-token";

/// Both services.
pub(crate) struct Cinder {
    /// Their common address.
    pub(crate) address: SocketAddr,
    cloud: Cloud,
}

#[derive(Clone)]
struct Cloud {
    address: SocketAddr,
    permits: Arc<Semaphore>,
    hanging: tokio::sync::watch::Sender<bool>,
    state: Arc<Mutex<CloudState>>,
}

#[derive(Default)]
struct CloudState {
    /// Volume and status by attachment id.
    attachments: HashMap<String, (String, &'static str)>,
    calls: HashMap<String, Vec<&'static str>>,
}

impl Cinder {
    /// Starts both services on one port.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cloud = Cloud {
            address,
            permits: Arc::new(Semaphore::new(CONCURRENT_CALLS)),
            hanging: tokio::sync::watch::Sender::new(false),
            state: Arc::default(),
        };
        let router = Router::new()
            .route("/v3/auth/tokens", post(token))
            .route("/v3/boot/attachments", post(reserve))
            .route("/v3/boot/attachments/detail", get(list))
            .route("/v3/boot/attachments/{id}", put(export).get(show))
            .route("/v3/boot/attachments/{id}/action", post(complete))
            .route("/v3/boot/volumes", get(volumes))
            .route("/v3/boot/volumes/{id}", get(volume))
            .with_state(cloud.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the connection is accepted");
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, cloud }
    }

    /// From now on, no call returns.
    pub(crate) fn hang(&self) {
        self.cloud.hanging.send_replace(true);
    }

    /// The calls per volume since the previous take.
    pub(crate) fn take_calls(&self) -> HashMap<String, Vec<&'static str>> {
        std::mem::take(&mut self.cloud.lock_state().calls)
    }
}

impl Cloud {
    fn lock_state(&self) -> parking_lot::MutexGuard<'_, CloudState> {
        self.state.lock()
    }

    /// Records a call for a volume, and waits for a permit and the call's duration.
    async fn handle_call(&self, volume: &str, call: &'static str) {
        self.lock_state().calls.entry(volume.to_owned()).or_default().push(call);
        if *self.hanging.borrow() {
            std::future::pending::<()>().await;
        }
        let _permit = self.permits.acquire().await;
        tokio::time::sleep(CALL_DURATION).await;
    }

    fn find_volume(&self, attachment: &str) -> Option<String> {
        self.lock_state().attachments.get(attachment).map(|(volume, _)| volume.clone())
    }

    fn set_status(&self, attachment: &str, status: &'static str) {
        if let Some((_, old)) = self.lock_state().attachments.get_mut(attachment) {
            *old = status;
        }
    }
}

async fn token(State(cloud): State<Cloud>) -> Response {
    let url = format!("http://{}/v3", cloud.address);
    let token = json!({"token": {
        "expires_at": "2999-01-01T00:00:00.000000Z",
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "user": {"id": "volboot", "name": "volboot", "domain": {"id": "default", "name": "Default"}},
        "roles": [{"id": "member", "name": "member"}],
        "project": {"id": "boot", "name": "boot", "domain": {"id": "default", "name": "Default"}},
        "catalog": [{"type": "block-storage", "name": "cinder", "endpoints": [
            {"interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": url},
        ]}],
    }});
    (StatusCode::CREATED, [("X-Subject-Token", TOKEN)], Json(token)).into_response()
}

async fn list(State(cloud): State<Cloud>, Query(query): Query<HashMap<String, String>>) -> Json<Value> {
    let volume = query.get("volume_id").cloned().unwrap_or_default();
    cloud.handle_call(&volume, "list").await;
    let state = cloud.lock_state();
    let attachments = state.attachments.iter().filter(|(_, (held, _))| *held == volume);
    let attachments: Vec<_> =
        attachments.map(|(id, (volume, status))| attachment(id, volume, status, None)).collect();
    Json(json!({"attachments": attachments}))
}

async fn reserve(State(cloud): State<Cloud>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if headers.get("X-Auth-Token").is_none_or(|token| token != TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let volume = body["attachment"]["volume_uuid"].as_str().unwrap_or_default().to_owned();
    cloud.handle_call(&volume, "reserve").await;
    let id = Uuid::new_v4().to_string();
    let body = json!({"attachment": attachment(&id, &volume, "reserved", None)});
    cloud.lock_state().attachments.insert(id, (volume, "reserved"));
    Json(body).into_response()
}

async fn export(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.find_volume(&id) else { return not_found() };
    cloud.handle_call(&volume, "export").await;
    cloud.set_status(&id, "attaching");
    // A real Cinder's response has the previous status.
    Json(json!({"attachment": attachment(&id, &volume, "reserved", Some(connection(&volume)))}))
        .into_response()
}

async fn complete(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.find_volume(&id) else { return not_found() };
    cloud.handle_call(&volume, "complete").await;
    cloud.set_status(&id, "attached");
    StatusCode::NO_CONTENT.into_response()
}

async fn show(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.find_volume(&id) else { return not_found() };
    cloud.handle_call(&volume, "show").await;
    let status = cloud.lock_state().attachments.get(&id).map_or("deleted", |(_, status)| status);
    let connection = (status != "reserved").then(|| connection(&volume));
    Json(json!({"attachment": attachment(&id, &volume, status, connection)})).into_response()
}

async fn volume(State(cloud): State<Cloud>, Path(id): Path<String>) -> Json<Value> {
    cloud.handle_call(&id, "volume").await;
    let attached = cloud.lock_state().attachments.values().any(|(volume, _)| *volume == id);
    let status = if attached { "in-use" } else { "available" };
    Json(json!({"volume": {"id": id, "status": status, "volume_type": "slow", "attachments": []}}))
}

async fn volumes(State(cloud): State<Cloud>) -> Json<Value> {
    cloud.handle_call("all", "volumes").await;
    Json(json!({"volumes": []}))
}

fn not_found() -> Response {
    let body = json!({"itemNotFound": {"code": 404, "message": "Volume attachment could not be found."}});
    (StatusCode::NOT_FOUND, Json(body)).into_response()
}

fn attachment(id: &str, volume: &str, status: &str, connection: Option<Value>) -> Value {
    let connection = connection.unwrap_or_else(|| json!({}));
    json!({"id": id, "volume_id": volume, "status": status, "instance": null, "connection_info": connection})
}

fn connection(volume: &str) -> Value {
    json!({
        "driver_volume_type": "iscsi", "target_portal": "192.0.2.1:3260", "target_lun": 1,
        "target_iqn": format!("iqn.2010-10.org.openstack:volume-{volume}"),
        "auth_method": "CHAP", "auth_username": "eMY9hEM6Jyac77p8jNNf", "auth_password": "chapsecret000009",
        "encrypted": false, "access_mode": "rw",
    })
}
