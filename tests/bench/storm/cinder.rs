//! A Keystone and a Cinder that are slow, or hang: as much of their APIs as a boot needs, with the states that a real
//! Cinder shows, and a list of what was asked about which volume.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use uuid::Uuid;

/// How long a call takes.
pub(crate) const EACH_CALL: Duration = Duration::from_millis(300);
/// How many are made at the same time; the others queue.
pub(crate) const AT_ONCE: usize = 8;

const TOKEN: &str = "a-token";

/// Both of them.
pub(crate) struct Cinder {
    /// Where they are.
    pub(crate) address: SocketAddr,
    cloud: Cloud,
}

#[derive(Clone)]
struct Cloud {
    address: SocketAddr,
    turns: Arc<Semaphore>,
    hangs: tokio::sync::watch::Sender<bool>,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
struct Kept {
    /// Volume and status of each attachment.
    attachments: HashMap<String, (String, &'static str)>,
    calls: HashMap<String, Vec<&'static str>>,
}

impl Cinder {
    /// Starts them on a port of their own.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let cloud = Cloud {
            address,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            hangs: tokio::sync::watch::Sender::new(false),
            kept: Arc::default(),
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
                let (stream, _) = listener.accept().await.expect("accepts");
                let service = TowerToHyperService::new(router.clone());
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, cloud }
    }

    /// From now on nobody gets an answer.
    pub(crate) fn hang(&self) {
        self.cloud.hangs.send_replace(true);
    }

    /// What was asked about each volume since this was asked last.
    pub(crate) fn take_calls(&self) -> HashMap<String, Vec<&'static str>> {
        std::mem::take(&mut self.cloud.kept().calls)
    }
}

impl Cloud {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call about a volume: written down, and as slow as they are.
    async fn work(&self, volume: &str, call: &'static str) {
        self.kept().calls.entry(volume.to_owned()).or_default().push(call);
        if *self.hangs.borrow() {
            std::future::pending::<()>().await;
        }
        let _turn = self.turns.acquire().await;
        tokio::time::sleep(EACH_CALL).await;
    }

    fn volume_of(&self, attachment: &str) -> Option<String> {
        self.kept().attachments.get(attachment).map(|(volume, _)| volume.clone())
    }

    fn turn_to(&self, attachment: &str, status: &'static str) {
        if let Some((_, old)) = self.kept().attachments.get_mut(attachment) {
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
    cloud.work(&volume, "list").await;
    let kept = cloud.kept();
    let of_it = kept.attachments.iter().filter(|(_, (held, _))| *held == volume);
    let all: Vec<_> = of_it.map(|(id, (volume, status))| attachment(id, volume, status, None)).collect();
    Json(json!({"attachments": all}))
}

async fn reserve(State(cloud): State<Cloud>, headers: HeaderMap, Json(body): Json<Value>) -> Response {
    if headers.get("X-Auth-Token").is_none_or(|token| token != TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let volume = body["attachment"]["volume_uuid"].as_str().unwrap_or_default().to_owned();
    cloud.work(&volume, "reserve").await;
    let id = Uuid::new_v4().to_string();
    let answer = json!({"attachment": attachment(&id, &volume, "reserved", None)});
    cloud.kept().attachments.insert(id, (volume, "reserved"));
    Json(answer).into_response()
}

async fn export(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.volume_of(&id) else { return missing() };
    cloud.work(&volume, "export").await;
    cloud.turn_to(&id, "attaching");
    // The real one shows the status of a moment ago.
    Json(json!({"attachment": attachment(&id, &volume, "reserved", Some(connection(&volume)))}))
        .into_response()
}

async fn complete(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.volume_of(&id) else { return missing() };
    cloud.work(&volume, "complete").await;
    cloud.turn_to(&id, "attached");
    StatusCode::NO_CONTENT.into_response()
}

async fn show(State(cloud): State<Cloud>, Path(id): Path<String>) -> Response {
    let Some(volume) = cloud.volume_of(&id) else { return missing() };
    cloud.work(&volume, "show").await;
    let status = cloud.kept().attachments.get(&id).map_or("deleted", |(_, status)| status);
    let told = (status != "reserved").then(|| connection(&volume));
    Json(json!({"attachment": attachment(&id, &volume, status, told)})).into_response()
}

async fn volume(State(cloud): State<Cloud>, Path(id): Path<String>) -> Json<Value> {
    cloud.work(&id, "volume").await;
    let held = cloud.kept().attachments.values().any(|(volume, _)| *volume == id);
    let status = if held { "in-use" } else { "available" };
    Json(json!({"volume": {"id": id, "status": status, "volume_type": "slow", "attachments": []}}))
}

async fn volumes(State(cloud): State<Cloud>) -> Json<Value> {
    cloud.work("all", "volumes").await;
    Json(json!({"volumes": []}))
}

fn missing() -> Response {
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
