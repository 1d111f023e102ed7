//! The HTTP API of the scripted BMC: login, faults, system, reset.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::Engine as _;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{BmcCall, BmcState, BmcTrouble, PASSWORD, SYSTEM, USER};

type Shared = State<Arc<Mutex<BmcState>>>;

const RESET: &str = "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

pub(super) fn router(state: Arc<Mutex<BmcState>>) -> Router {
    Router::new().fallback(serve).with_state(state)
}

async fn serve(State(state): Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let (path, method) = (parts.uri.path().to_owned(), parts.method);
    let call = match (method.as_str(), path.as_str()) {
        ("POST", SESSIONS) => BmcCall::Login,
        (_, "/redfish/v1/Systems") => BmcCall::Systems,
        ("PATCH", _) => BmcCall::Change,
        ("POST", _) => BmcCall::Reset,
        _ => BmcCall::Read,
    };
    let (delay, trouble) = {
        let mut state = state.lock();
        let detail = body["ResetType"].as_str().map_or_else(|| describe_boot(&body["Boot"]), str::to_owned);
        state.calls.push(format!("{method} {path} {detail}").trim_end().to_owned());
        state.concurrent.0 += 1;
        state.concurrent.1 = state.concurrent.1.max(state.concurrent.0);
        (state.delay, state.faults.get_mut(&call).and_then(std::collections::VecDeque::pop_front))
    };
    tokio::time::sleep(delay).await;
    let response = match trouble {
        Some(BmcTrouble::Hang) => std::future::pending().await,
        Some(BmcTrouble::Status(status, id)) => fault(status, id),
        Some(BmcTrouble::Body(body)) => body.into_response(),
        Some(BmcTrouble::Redirect(url)) => {
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, url)]).into_response()
        }
        None => answer(&mut state.lock(), call, &method, &path, &parts.headers, &body),
    };
    state.lock().concurrent.0 -= 1;
    response
}

fn describe_boot(boot: &Value) -> String {
    let keys = ["BootSourceOverrideTarget", "BootSourceOverrideEnabled", "BootSourceOverrideMode"];
    keys.iter().filter_map(|key| boot[key].as_str()).collect::<Vec<_>>().join(" ")
}

/// An error response with a message id.
fn fault(status: u16, id: &str) -> Response {
    let info = json!({"MessageId": id, "Message": format!("This is {id}.")});
    let body = json!({"error": {"code": "Base.1.8.GeneralError", "@Message.ExtendedInfo": [info]}});
    (StatusCode::from_u16(status).expect("a status"), Json(body)).into_response()
}

fn answer(
    state: &mut BmcState,
    call: BmcCall,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
    body: &Value,
) -> Response {
    if call == BmcCall::Login {
        return open_session(state, body);
    }
    if !is_authorized(state, headers) {
        return fault(401, "Base.1.8.NoValidSession");
    }
    match (method.as_str(), path) {
        ("DELETE", _) => {
            state.sessions.clear();
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET", "/redfish/v1/Systems") => {
            let members =
                (1..=state.system_count).map(|at| json!({"@odata.id": format!("/redfish/v1/Systems/{at}")}));
            Json(json!({"Members": members.collect::<Vec<_>>()})).into_response()
        }
        ("GET", SYSTEM) => show_system(state),
        ("PATCH", SYSTEM) => change_boot(state, headers, &body["Boot"]),
        ("POST", RESET) => reset(state, body["ResetType"].as_str().unwrap_or_default()),
        _ => fault(404, "Base.1.8.ResourceMissingAtURI"),
    }
}

fn open_session(state: &mut BmcState, body: &Value) -> Response {
    if !state.has_sessions {
        return fault(404, "Base.1.8.ResourceMissingAtURI");
    }
    if body["UserName"] != USER || body["Password"] != PASSWORD {
        return fault(401, "Base.1.8.NoValidSession");
    }
    let token = format!("token-{}", state.calls.len());
    state.sessions.insert(token.clone());
    let headers = [("x-auth-token", token), ("location", format!("{SESSIONS}/1"))];
    (StatusCode::CREATED, headers, Json(json!({}))).into_response()
}

fn is_authorized(state: &BmcState, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    state.sessions.contains(text("x-auth-token")) || text("authorization") == format!("Basic {basic}")
}

fn etag(state: &BmcState) -> String {
    format!("\"{}-{}\"", state.is_on, describe_boot(&json!(state.boot)).replace(' ', "-"))
}

fn show_system(state: &mut BmcState) -> Response {
    let mut boot = json!(state.boot);
    boot["BootSourceOverrideTarget@Redfish.AllowableValues"] = json!(state.targets);
    let system = json!({
        "Manufacturer": "Scripted", "Model": "One", "PowerState": if state.is_on { "On" } else { "Off" }, "Boot": boot,
        "Actions": {"#ComputerSystem.Reset": {"target": RESET, "ResetType@Redfish.AllowableValues": state.resets}},
    });
    let response = ([(header::ETAG, etag(state))], Json(system)).into_response();
    if state.dies && state.is_on {
        state.is_on = false;
    }
    response
}

fn change_boot(state: &mut BmcState, headers: &HeaderMap, boot: &Value) -> Response {
    match headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) {
        None if state.requires_etag => return fault(428, "Ami.1.0.PreconditionHeaderMissing"),
        Some(tag) if tag != etag(state) && tag != "*" => return fault(412, "Base.1.8.PreconditionFailed"),
        _ => {}
    }
    if state.refuses_continuous && boot["BootSourceOverrideEnabled"] == "Continuous" {
        return fault(400, "Base.1.8.PropertyValueNotInList");
    }
    if state.forgets > 0 {
        state.forgets -= 1;
    } else {
        for (key, value) in boot.as_object().into_iter().flatten() {
            state.boot.insert(key.clone(), value.clone());
        }
    }
    Json(json!({})).into_response()
}

fn reset(state: &mut BmcState, kind: &str) -> Response {
    if !state.resets.contains(&kind) {
        return fault(400, "Base.1.8.ActionParameterNotSupported");
    }
    let is_on = match kind {
        "On" | "ForceOn" => true,
        "ForceOff" | "GracefulShutdown" => false,
        "PushPowerButton" => !state.is_on,
        _ => state.is_on,
    };
    if state.obeys {
        state.is_on = is_on;
    }
    StatusCode::NO_CONTENT.into_response()
}
