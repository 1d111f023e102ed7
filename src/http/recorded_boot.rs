//! `/boot/<mac>/os`: what was recorded at a machine's boot, for the operating system on it.
//!
//! The requester passes by the rules of a boot report. The response has no secret, and a request changes nothing: no call
//! to Cinder, no event in the timeline.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::HttpState;
use super::origin::RequestOrigin;
use super::rate_limit::RateDecision;
use super::request::{RecordedBootFormat, RequestError, parse_recorded_boot_request};
use super::respond::NO_STORE;
use crate::boot::{RecordedBoot, RecordedBootError, RecordedVolume};
use crate::model::SanUri;

/// Responds with the records of the machine's own node.
pub(super) async fn respond_recorded_boot(
    state: &HttpState,
    origin: RequestOrigin,
    address: &str,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, RequestError> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let (mac, format) = parse_recorded_boot_request(address, query, accept)?;
    if state.rate_limiter.check_address(origin.peer.remote.ip().to_canonical()) != RateDecision::Allowed {
        state.count_rate_limited();
        return Ok((StatusCode::TOO_MANY_REQUESTS, "volboot: rate limit exceeded\n").into_response());
    }
    let check = state.check_requester(origin).await;
    if let Err(fault) = state.boot.verify_report(mac, &check).await {
        state.record_fault(origin, &format!("/boot/{mac}/os"), &fault);
        let status = if fault.is_unclear() { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::FORBIDDEN };
        return Ok((status, NO_STORE, format!("volboot: {mac}: {fault}\n")).into_response());
    }
    Ok(match state.boot.read_recorded(mac).await {
        Ok(recorded) => respond(&recorded, format),
        Err(error) => {
            let status = match &error {
                RecordedBootError::Unknown(_) | RecordedBootError::NotRecorded(_) => StatusCode::NOT_FOUND,
                RecordedBootError::Store(cause) => {
                    tracing::error!(error = %cause, %mac, "cannot read the records of a boot");
                    StatusCode::SERVICE_UNAVAILABLE
                }
            };
            (status, NO_STORE, format!("volboot: {error}\n")).into_response()
        }
    })
}

fn respond(recorded: &RecordedBoot, format: RecordedBootFormat) -> Response {
    let line = |text: String| (NO_STORE, text + "\n").into_response();
    match format {
        RecordedBootFormat::Json => (NO_STORE, axum::Json(to_json(recorded))).into_response(),
        RecordedBootFormat::Dracut => line(to_dracut(recorded)),
        RecordedBootFormat::InitramfsTools => line(to_initramfs_tools(recorded)),
    }
}

fn to_json(recorded: &RecordedBoot) -> Value {
    let RecordedBoot { node, initiator, volumes } = recorded;
    let to_path = |SanUri { portal, lun, target }: &SanUri| json!({ "portal": portal.to_string(), "target": target.as_str(), "lun": lun.number() });
    let to_volume = |volume: &RecordedVolume| {
        let RecordedVolume { id, boot_index, paths, requires_chap, resolved_at } = volume;
        json!({
            "volume_id": id,
            "boot_index": boot_index,
            "portals": paths.iter().map(to_path).collect::<Vec<_>>(),
            "chap": requires_chap,
            "resolved_at": resolved_at.map(|time| time.to_string()),
        })
    };
    json!({
        "node": node,
        "initiator": initiator.as_str(),
        "volumes": volumes.iter().map(to_volume).collect::<Vec<_>>(),
        "kernel_arguments": {
            "dracut": to_dracut(recorded),
            "initramfs-tools": to_initramfs_tools(recorded),
        },
    })
}

/// The arguments of dracut (`dracut.cmdline(7)`): a `netroot` for each path of each volume. The types of the values allow
/// no space and no quote.
fn to_dracut(RecordedBoot { initiator, volumes, .. }: &RecordedBoot) -> String {
    let mut arguments = vec![format!("rd.iscsi.initiator={initiator}"), "rd.neednet=1".to_owned()];
    for SanUri { portal, lun, target } in volumes.iter().flat_map(|volume| &volume.paths) {
        let (host, port, lun) = (portal.host(), portal.port(), lun.number());
        arguments.push(format!("netroot=iscsi:{host}::{port}:{lun}:{target}"));
    }
    arguments.join(" ")
}

/// The arguments of open-iscsi's script in initramfs-tools (`/usr/share/doc/open-iscsi/README.Debian.gz`), which has room
/// for one path: the first of the boot volume. It finds the LUN by the file system's UUID.
fn to_initramfs_tools(RecordedBoot { initiator, volumes, .. }: &RecordedBoot) -> String {
    let path = volumes.iter().find_map(|volume| volume.paths.first());
    path.map_or_else(String::new, |SanUri { portal, target, .. }| {
        let (host, port) = (portal.host(), portal.port());
        format!(
            "iscsi_initiator={initiator} iscsi_target_name={target} iscsi_target_ip={host} iscsi_target_port={port}"
        )
    })
}
