//! The HTTP API of the fake Cinder: routes, fault injection and handlers.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Attachment, Fault, Inner, MEMBER, Operation, PROJECT, connection};

type Shared = State<Arc<Inner>>;

pub(super) fn router(inner: Arc<Inner>) -> Router {
    let project = Router::new()
        .route("/volumes", get(|| async { Json(json!({"volumes": []})) }))
        .route("/volumes/{id}", get(volume))
        .route("/attachments", post(reserve))
        .route("/attachments/detail", get(list))
        .route("/attachments/{id}", get(show).put(export).delete(delete))
        .route("/attachments/{id}/action", post(complete));
    Router::new()
        .nest(&format!("/v3/{PROJECT}"), project)
        .layer(middleware::from_fn_with_state(Arc::clone(&inner), apply_fault))
        .with_state(inner)
}

fn operation(method: &Method, path: &str) -> Operation {
    let rest = path.rsplit_once(PROJECT).map_or("", |(_, rest)| rest);
    match (method.as_str(), rest) {
        (_, "/volumes") => Operation::Ping,
        (_, "/attachments/detail") => Operation::List,
        ("POST", "/attachments") => Operation::Reserve,
        ("POST", _) => Operation::Complete,
        ("PUT", _) => Operation::Export,
        ("DELETE", _) => Operation::Delete,
        (_, rest) if rest.starts_with("/volumes/") => Operation::Volume,
        _ => Operation::Show,
    }
}

async fn apply_fault(state: Shared, request: Request, next: Next) -> Response {
    if state.0.delay.is_zero() {
        return delay_and_fail(state.0, request, next).await;
    }
    tokio::spawn(delay_and_fail(state.0, request, next)).await.expect("the call does not panic")
}

async fn delay_and_fail(inner: Arc<Inner>, request: Request, next: Next) -> Response {
    let operation = operation(request.method(), request.uri().path());
    let fault = {
        let mut state = inner.lock();
        state.calls.push((operation, request.uri().path().to_owned()));
        match state.faults.get_mut(&operation) {
            Some((fault, left)) if *left > 0 => {
                *left -= 1;
                Some(*fault)
            }
            _ => None,
        }
    };
    let _permit = inner.permits.acquire().await;
    if !inner.delay.is_zero() {
        inner.lock().start_call();
        tokio::time::sleep(inner.delay).await;
        inner.lock().concurrent_calls.0 -= 1;
    }
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(404)) => not_found("The resource of the injected fault"),
        Some(Fault::Status(status)) => error_response(
            StatusCode::from_u16(status).expect("a valid status code"),
            "computeFault",
            "injected fault",
        ),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::DoneButSilent) => {
            next.run(request).await;
            std::future::pending().await
        }
        Some(Fault::LateResponse(pause)) => {
            let response = next.run(request).await;
            tokio::time::sleep(pause).await;
            response
        }
        Some(Fault::DoneButFailed) => {
            next.run(request).await;
            error_response(StatusCode::INTERNAL_SERVER_ERROR, "computeFault", "injected fault")
        }
        // The call takes effect even if the client disconnects.
        Some(Fault::Slow(pause)) => tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            next.run(request).await
        })
        .await
        .expect("the call does not panic"),
    }
}

fn error_response(status: StatusCode, key: &str, message: &str) -> Response {
    (status, Json(json!({key: {"code": status.as_u16(), "message": message}}))).into_response()
}

fn not_found(what: &str) -> Response {
    error_response(StatusCode::NOT_FOUND, "itemNotFound", &format!("{what} could not be found."))
}

async fn volume(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut state = inner.lock();
    state.count_effect(&id, Operation::Volume);
    let rights = state.rights.unwrap_or(MEMBER);
    let Some(volume) = state.volumes.get(&id) else { return not_found(&format!("Volume {id}")) };
    let attachments = state
        .attachments
        .iter()
        .filter(|(_, attachment)| attachment.volume == id && attachment.status == "attached");
    let attachments: Vec<_> = attachments
        .map(|(attachment_id, attachment)| {
            json!({
                "id": id, "attachment_id": attachment_id, "server_id": attachment.instance,
                "host_name": attachment.host.as_ref().filter(|_| rights.sees_hosts), "device": attachment.device,
            })
        })
        .collect();
    Json(json!({"volume": {
        "id": id, "status": volume.status, "multiattach": volume.multiattach, "encrypted": volume.encrypted,
        "volume_type": volume.volume_type, "attachments": attachments,
        "updated_at": format!("2026-11-22T07:51:40.{:06}", volume.changes),
    }}))
    .into_response()
}

async fn list(State(inner): Shared, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let mut state = inner.lock();
    state.count_effect(query.get("volume_id").map_or("", String::as_str), Operation::List);
    let is_visible = state.rights.unwrap_or(MEMBER).owns_volumes || query.contains_key("all_tenants");
    let of_volume = state
        .attachments
        .iter()
        .filter(|(_, attachment)| is_visible && query.get("volume_id") == Some(&attachment.volume));
    let list: Vec<_> = of_volume.filter_map(|(id, _)| state.attachment_json(id)).collect();
    Json(json!({"attachments": list})).into_response()
}

async fn show(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut state = inner.lock();
    state.count_effect_on(&id, Operation::Show);
    match state.attachment_json(&id) {
        Some(attachment) => Json(json!({"attachment": attachment})).into_response(),
        None => not_found(&format!("Volume attachment {id}")),
    }
}

async fn reserve(State(inner): Shared, Json(body): Json<Value>) -> Response {
    let id = body["attachment"]["volume_uuid"].as_str().expect("the request names a volume").to_owned();
    let mut state = inner.lock();
    state.count_effect(&id, Operation::Reserve);
    let Some(volume) = state.volumes.get(&id) else { return not_found(&format!("Volume {id}")) };
    let is_free = match volume.status.as_str() {
        "available" => true,
        "in-use" | "reserved" | "attaching" => volume.multiattach,
        _ => false,
    };
    if !is_free {
        let message = format!(
            "Invalid volume: Volume {id} status must be available or downloading to reserve, but the current status \
             is {}.",
            volume.status
        );
        return error_response(StatusCode::BAD_REQUEST, "badRequest", &message);
    }
    let attachment_id = Uuid::new_v4().to_string();
    let attachment = Attachment {
        volume: id.clone(),
        status: "reserved",
        instance: None,
        connection: json!({}),
        connector: Value::Null,
        host: None,
        device: None,
    };
    state.attachments.insert(attachment_id.clone(), attachment);
    state.update_volume_status(&id);
    Json(json!({"attachment": state.attachment_json(&attachment_id)})).into_response()
}

async fn export(State(inner): Shared, Path(id): Path<String>, Json(body): Json<Value>) -> Response {
    let mut state = inner.lock();
    state.count_effect_on(&id, Operation::Export);
    let (portal, encrypted) = (state.portal.clone(), state.encrypted_connections);
    let Some(attachment) = state.attachments.get(&id).cloned() else {
        return not_found(&format!("Volume attachment {id}"));
    };
    let volume = &state.volumes[&attachment.volume];
    let mut of_volume = state.attachments.values().filter(|other| other.volume == attachment.volume);
    if !volume.multiattach
        && of_volume.clone().count() > 1
        && of_volume.any(|other| other.connection.get("target_iqn").is_some())
    {
        let message = format!("duplicate connectors detected on volume {}", attachment.volume);
        return error_response(StatusCode::CONFLICT, "conflictingRequest", &message);
    }
    if volume.needs_ip && body["attachment"]["connector"]["ip"].is_null() {
        let message = "Unable to update attachment.(Bad or unexpected response from the storage volume backend API: \
                       Driver initialize connection failed (error: 'ip').).";
        return error_response(StatusCode::INTERNAL_SERVER_ERROR, "computeFault", message);
    }
    let connection = volume
        .connection
        .clone()
        .unwrap_or_else(|| connection(&attachment.volume, volume.transport, &portal, encrypted));
    let connector = body["attachment"]["connector"].clone();
    let host = connector["host"].as_str().map(str::to_owned);
    // Cinder forgets a device name that the connector leaves out.
    let device = connector["mountpoint"].as_str().or(Some("na")).map(str::to_owned);
    let new_attachment =
        Attachment { status: "attaching", connection, connector, host, device, ..attachment.clone() };
    state.attachments.insert(id.clone(), new_attachment);
    state.update_volume_status(&attachment.volume);
    // A real Cinder also returns an outdated status here.
    let mut body = state.attachment_json(&id).expect("the attachment exists");
    body["status"] = "reserved".into();
    Json(json!({"attachment": body})).into_response()
}

async fn complete(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut state = inner.lock();
    state.count_effect_on(&id, Operation::Complete);
    let Some(attachment) = state.attachments.get_mut(&id) else {
        return not_found(&format!("Volume attachment {id}"));
    };
    attachment.status = "attached";
    let volume = attachment.volume.clone();
    state.update_volume_status(&volume);
    StatusCode::NO_CONTENT.into_response()
}

async fn delete(State(inner): Shared, Path(id): Path<String>) -> Response {
    let mut state = inner.lock();
    state.count_effect_on(&id, Operation::Delete);
    let is_of_server = state.attachments.get(&id).is_some_and(|attachment| {
        attachment.instance.is_some() && attachment.connection.get("target_iqn").is_some()
    });
    if is_of_server && state.nova_is_away {
        let message = "The server has either erred or is incapable of performing the requested operation.";
        return error_response(StatusCode::INTERNAL_SERVER_ERROR, "computeFault", message);
    }
    let Some(attachment) = state.attachments.remove(&id) else {
        return not_found(&format!("Volume attachment {id}"));
    };
    state.update_volume_status(&attachment.volume);
    Json(json!({"attachments": []})).into_response()
}
