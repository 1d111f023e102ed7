//! A Cinder in memory, as far as volboot asks it: what the attachments API does to volumes and attachments is what a
//! real one (28.0) was seen to do. It can be slow, fail, hang, and do what it is asked without ever answering.
#![allow(dead_code, reason = "each of the programs that include it uses its own part of it")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use volboot::listen::{Limits, Listener};

/// The project in its paths.
pub(crate) const PROJECT: &str = "13bf5aa8184c466e97f60b1b2a0d4c11";

/// What can be asked of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Ping,
    Volume,
    List,
    Show,
    Reserve,
    Export,
    Complete,
    Delete,
}

/// How a call goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is answered with this status, and not done.
    Status(u16),
    /// It is not done and never answered.
    Hang,
    /// It is done, and answered with 500.
    DoneButFailed,
    /// It is done after this long, and answered then.
    Slow(Duration),
}

#[derive(Debug, Clone)]
pub(crate) struct Volume {
    pub(crate) status: String,
    pub(crate) multiattach: bool,
    pub(crate) encrypted: bool,
    pub(crate) kind: &'static str,
    pub(crate) transport: &'static str,
}

#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    pub(crate) volume: String,
    pub(crate) status: &'static str,
    pub(crate) instance: Option<String>,
    pub(crate) connection: Value,
    pub(crate) connector: Value,
}

#[derive(Debug, Default)]
struct World {
    volumes: BTreeMap<String, Volume>,
    attachments: BTreeMap<String, Attachment>,
    calls: Vec<(Kind, String)>,
    faults: BTreeMap<Kind, (Fault, usize)>,
    portal: String,
    /// What `connection_info` says of encryption.
    encrypted_connections: bool,
    /// Calls it works on, and the most there ever were.
    at_once: (usize, usize),
}

#[derive(Debug)]
struct Inner {
    world: Mutex<World>,
    delay: Duration,
    at_once: Semaphore,
}

/// A running one. Stops when it is dropped.
#[derive(Debug)]
pub(crate) struct FakeCinder {
    inner: Arc<Inner>,
    address: std::net::SocketAddr,
    _stop: DropGuard,
}

impl FakeCinder {
    /// Answers at once.
    pub(crate) fn start() -> Self {
        Self::with(Duration::ZERO, Semaphore::MAX_PERMITS)
    }

    /// Takes `delay` for each call, and so many calls at once.
    pub(crate) fn with(delay: Duration, at_once: usize) -> Self {
        let world = World { portal: "192.0.2.1:3260".into(), ..World::default() };
        let inner = Arc::new(Inner { world: Mutex::new(world), delay, at_once: Semaphore::new(at_once) });
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = listener.local_addr();
        let stop = CancellationToken::new();
        // A call that hangs hangs for longer than anybody waits for it.
        let limits = Limits { request: Duration::from_secs(600), connections: 8192, ..Limits::default() };
        tokio::spawn(listener.serve(router(Arc::clone(&inner)), limits, stop.clone(), Duration::ZERO));
        Self { inner, address, _stop: stop.drop_guard() }
    }

    /// Where it is, without the project.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/v3", self.address)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.inner.world()
    }

    /// Makes a volume that is available.
    pub(crate) fn volume(&self, id: &str, change: impl FnOnce(&mut Volume)) {
        let status = "available".to_owned();
        let mut volume =
            Volume { status, multiattach: false, encrypted: false, kind: "chap", transport: "iscsi" };
        change(&mut volume);
        self.world().volumes.insert(id.to_owned(), volume);
    }

    /// Has somebody else reserve a volume; returns the attachment.
    pub(crate) fn reserve_for_another(&self, volume: &str, instance: Option<&str>) -> String {
        let id = Uuid::new_v4().to_string();
        let instance = instance.map(str::to_owned);
        let mut world = self.world();
        let attachment = Attachment {
            volume: volume.into(),
            status: "reserved",
            instance,
            connection: Value::Null,
            connector: Value::Null,
        };
        world.attachments.insert(id.clone(), attachment);
        world.settle(volume);
        id
    }

    /// Has who reserved a volume use it.
    pub(crate) fn attach_for_another(&self, attachment: &str) {
        let mut world = self.world();
        let held = world.attachments.get_mut(attachment).expect("an attachment");
        held.status = "attached";
        let volume = held.volume.clone();
        world.settle(&volume);
    }

    /// Takes an attachment away, as an operator may.
    pub(crate) fn detach_by_hand(&self, id: &str) {
        let mut world = self.world();
        if let Some(gone) = world.attachments.remove(id) {
            world.settle(&gone.volume);
        }
    }

    /// The next `times` calls of a kind go wrong.
    pub(crate) fn fault(&self, kind: Kind, fault: Fault, times: usize) {
        self.world().faults.insert(kind, (fault, times));
    }

    /// All calls go wrong from now on.
    pub(crate) fn fault_all(&self, fault: Fault) {
        for kind in [
            Kind::Ping,
            Kind::Volume,
            Kind::List,
            Kind::Show,
            Kind::Reserve,
            Kind::Export,
            Kind::Complete,
            Kind::Delete,
        ] {
            self.fault(kind, fault, usize::MAX);
        }
    }

    /// It works again.
    pub(crate) fn mend(&self) {
        self.world().faults.clear();
    }

    /// The most calls that it worked on at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.world().at_once.1
    }

    /// From now on connections say that what they lead to is encrypted.
    pub(crate) fn encrypt_connections(&self) {
        self.world().encrypted_connections = true;
    }

    /// From now on volumes are reached here.
    pub(crate) fn move_portal(&self, portal: &str) {
        portal.clone_into(&mut self.world().portal);
    }

    /// The calls since this was asked last.
    pub(crate) fn calls(&self) -> Vec<Kind> {
        std::mem::take(&mut self.world().calls).into_iter().map(|(kind, _)| kind).collect()
    }

    pub(crate) fn status(&self, volume: &str) -> String {
        self.world().volumes.get(volume).map(|volume| volume.status.clone()).unwrap_or_default()
    }

    /// Ids and statuses of a volume's attachments.
    pub(crate) fn attachments(&self, volume: &str) -> Vec<(String, &'static str)> {
        let world = self.world();
        let of_volume = world.attachments.iter().filter(|(_, attachment)| attachment.volume == volume);
        of_volume.map(|(id, attachment)| (id.clone(), attachment.status)).collect()
    }

    /// What was told of the machine that has an attachment.
    pub(crate) fn connector(&self, id: &str) -> Value {
        self.world().attachments.get(id).map(|attachment| attachment.connector.clone()).unwrap_or_default()
    }
}

impl Inner {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn begins(&mut self) {
        let (now, most) = self.at_once;
        self.at_once = (now + 1, most.max(now + 1));
    }

    /// A volume's status follows from its attachments.
    fn settle(&mut self, volume: &str) {
        let statuses: Vec<_> = self
            .attachments
            .values()
            .filter(|attachment| attachment.volume == volume)
            .map(|attachment| attachment.status)
            .collect();
        let status =
            ["attaching", "attached", "reserved"].into_iter().find(|status| statuses.contains(status));
        if let Some(volume) = self.volumes.get_mut(volume) {
            volume.status = match status {
                None => "available",
                Some("attached") => "in-use",
                Some(status) => status,
            }
            .into();
        }
    }

    fn shown(&self, id: &str) -> Option<Value> {
        let attachment = self.attachments.get(id)?;
        Some(json!({
            "id": id, "status": attachment.status, "instance": attachment.instance,
            "volume_id": attachment.volume, "attached_at": "", "detached_at": "", "attach_mode": "rw",
            "connection_info": attachment.connection,
        }))
    }
}

type Shared = State<Arc<Inner>>;

fn router(inner: Arc<Inner>) -> Router {
    let project = Router::new()
        .route("/volumes", get(|| async { Json(json!({"volumes": []})) }))
        .route("/volumes/{id}", get(volume))
        .route("/attachments", post(reserve))
        .route("/attachments/detail", get(list))
        .route("/attachments/{id}", get(show).put(export).delete(delete))
        .route("/attachments/{id}/action", post(complete));
    Router::new()
        .nest(&format!("/v3/{PROJECT}"), project)
        .layer(middleware::from_fn_with_state(Arc::clone(&inner), misbehave))
        .with_state(inner)
}

fn kind(method: &Method, path: &str) -> Kind {
    let rest = path.rsplit_once(PROJECT).map_or("", |(_, rest)| rest);
    match (method.as_str(), rest) {
        (_, "/volumes") => Kind::Ping,
        (_, "/attachments/detail") => Kind::List,
        ("POST", "/attachments") => Kind::Reserve,
        ("POST", _) => Kind::Complete,
        ("PUT", _) => Kind::Export,
        ("DELETE", _) => Kind::Delete,
        (_, rest) if rest.starts_with("/volumes/") => Kind::Volume,
        _ => Kind::Show,
    }
}

async fn misbehave(State(inner): Shared, request: Request, next: Next) -> Response {
    let kind = kind(request.method(), request.uri().path());
    let fault = {
        let mut world = inner.world();
        world.calls.push((kind, request.uri().path().to_owned()));
        match world.faults.get_mut(&kind) {
            Some((fault, left)) if *left > 0 => {
                *left -= 1;
                Some(*fault)
            }
            _ => None,
        }
    };
    let _turn = inner.at_once.acquire().await;
    if !inner.delay.is_zero() {
        inner.world().begins();
        tokio::time::sleep(inner.delay).await;
        inner.world().at_once.0 -= 1;
    }
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(404)) => missing("What it was told to lose"),
        Some(Fault::Status(status)) => {
            failed(StatusCode::from_u16(status).expect("a status"), "computeFault", "as it was told to")
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::DoneButFailed) => {
            next.run(request).await;
            failed(StatusCode::INTERNAL_SERVER_ERROR, "computeFault", "nobody will know")
        }
        // The work goes on even if nobody waits for its answer.
        Some(Fault::Slow(pause)) => tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            next.run(request).await
        })
        .await
        .expect("runs"),
    }
}

fn failed(status: StatusCode, key: &str, message: &str) -> Response {
    (status, Json(json!({key: {"code": status.as_u16(), "message": message}}))).into_response()
}

fn missing(what: &str) -> Response {
    failed(StatusCode::NOT_FOUND, "itemNotFound", &format!("{what} could not be found."))
}

async fn volume(State(inner): Shared, Path(id): Path<String>) -> Response {
    let world = inner.world();
    let Some(volume) = world.volumes.get(&id) else { return missing(&format!("Volume {id}")) };
    let held = world.attachments.iter().filter(|(_, held)| held.volume == id && held.status == "attached");
    let held: Vec<_> = held
        .map(|(attachment, held)| {
            json!({"id": id, "attachment_id": attachment, "server_id": held.instance, "host_name": null})
        })
        .collect();
    Json(json!({"volume": {
        "id": id, "status": volume.status, "multiattach": volume.multiattach, "encrypted": volume.encrypted,
        "volume_type": volume.kind, "attachments": held,
    }}))
    .into_response()
}

async fn list(State(inner): Shared, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let world = inner.world();
    let of_volume = world.attachments.iter().filter(|(_, held)| query.get("volume_id") == Some(&held.volume));
    let shown: Vec<_> = of_volume.filter_map(|(id, _)| world.shown(id)).collect();
    Json(json!({"attachments": shown})).into_response()
}

async fn show(State(inner): Shared, Path(id): Path<String>) -> Response {
    match inner.world().shown(&id) {
        Some(attachment) => Json(json!({"attachment": attachment})).into_response(),
        None => missing(&format!("Volume attachment {id}")),
    }
}

async fn reserve(State(inner): Shared, Json(body): Json<Value>) -> Response {
    let id = body["attachment"]["volume_uuid"].as_str().expect("a volume").to_owned();
    let mut world = inner.world();
    let Some(volume) = world.volumes.get(&id) else { return missing(&format!("Volume {id}")) };
    let free = match volume.status.as_str() {
        "available" => true,
        "in-use" | "reserved" | "attaching" => volume.multiattach,
        _ => false,
    };
    if !free {
        let message = format!(
            "Invalid volume: Volume {id} status must be available or downloading to reserve, but the current status \
             is {}.",
            volume.status
        );
        return failed(StatusCode::BAD_REQUEST, "badRequest", &message);
    }
    let attachment = Uuid::new_v4().to_string();
    let held = Attachment {
        volume: id.clone(),
        status: "reserved",
        instance: None,
        connection: json!({}),
        connector: Value::Null,
    };
    world.attachments.insert(attachment.clone(), held);
    world.settle(&id);
    Json(json!({"attachment": world.shown(&attachment)})).into_response()
}

async fn export(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Response {
    let mut world = inner.world();
    let (portal, encrypted) = (world.portal.clone(), world.encrypted_connections);
    let Some(held) = world.attachments.get(&id).cloned() else {
        return missing(&format!("Volume attachment {id}"));
    };
    let transport = world.volumes[&held.volume].transport;
    let connection = json!({
        "driver_volume_type": transport, "target_portal": portal, "target_lun": 1,
        "target_iqn": format!("iqn.2010-10.org.openstack:volume-{}", held.volume), "encrypted": encrypted,
        "auth_method": "CHAP", "auth_username": "boot", "auth_password": "chapsecret000001",
    });
    let connector = body["attachment"]["connector"].clone();
    let changed = Attachment { status: "attaching", connection, connector, ..held.clone() };
    world.attachments.insert(id.clone(), changed);
    world.settle(&held.volume);
    // As a real one, it shows a status that is not true yet.
    let mut shown = world.shown(&id).expect("is there");
    shown["status"] = "reserved".into();
    Json(json!({"attachment": shown})).into_response()
}

async fn complete(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut world = inner.world();
    let Some(held) = world.attachments.get_mut(&id) else {
        return missing(&format!("Volume attachment {id}"));
    };
    held.status = "attached";
    let volume = held.volume.clone();
    world.settle(&volume);
    StatusCode::NO_CONTENT.into_response()
}

async fn delete(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut world = inner.world();
    let Some(gone) = world.attachments.remove(&id) else {
        return missing(&format!("Volume attachment {id}"));
    };
    world.settle(&gone.volume);
    Json(json!({"attachments": []})).into_response()
}
