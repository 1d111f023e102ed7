//! `/v1/appliance`: volboot's own status: instances, listeners, iPXE binaries, store, history, log
//! filter and Cinder.
//!
//! A volboot extension; Ironic has no such path.

use serde_json::{Value, json};

use super::fault::Fault;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, Arguments};
use crate::model::LogFilterError;
use crate::store::StoreAccess;
use crate::telemetry::log;
use crate::timeline::BootState;

/// `GET /v1/appliance`
pub(super) async fn get(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&[])?;
    let operator = &request.operator;
    let appliance = &operator.appliance;
    let reading = operator.measure().await;
    let listeners: Vec<_> =
        appliance.listeners.iter().map(|(name, address)| json!({"name": name, "address": address})).collect();
    let images = operator.images.available().iter().map(|image| {
        json!({
            "name": image.name, "firmware": image.firmware, "path": image.path, "bytes": image.content.len(),
            "version": image.version(),
        })
    });
    let missing_images = operator
        .images
        .missing()
        .iter()
        .map(|image| json!({"name": image.name, "firmware": image.firmware, "install": image.packages}));
    let states = operator
        .timeline
        .count_by_state()
        .into_iter()
        .map(|(state, count)| (BootState::to_string(&state), count));
    let power = reading.power;
    let location = operator.store_info().await.map(|info| info.location);
    let latency_us = reading.store.map(|latency| latency.as_micros() as u64);
    // The reason, or null.
    let read_only = match operator.store_access() {
        StoreAccess::ReadWrite => None,
        StoreAccess::ReadOnly(reason) => Some(reason),
    };
    Ok(Reply::Json(json!({
        "name": operator.membership.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": appliance.started_at,
        "instances": operator.membership.instances(),
        "missing_events": operator.membership.missing_events(),
        "listeners": listeners,
        "images": images.collect::<Vec<_>>(),
        "missing_images": missing_images.collect::<Vec<_>>(),
        "store": {
            "path": location, "bytes": reading.store_bytes, "latency_us": latency_us, "read_only": read_only,
        },
        "history": {
            "path": appliance.history_path, "bytes": reading.history_bytes,
            "recording": operator.timeline.is_recording(),
            "events_queued": reading.events_queued, "events_dropped": reading.events_dropped,
        },
        "log": log::filter(),
        "cinder": operator.cinder_status().to_string(),
        "boots": operator.timeline.summarize_boots(),
        "power": {
            "calls_in_flight": power.calls_in_flight, "on": power.on, "off": power.off, "unknown": power.unknown,
            "failing": power.failing,
        },
        "machines": states.map(|(state, count)| (state, Value::from(count))).collect::<serde_json::Map<_, _>>(),
    })))
}

/// `PUT /v1/appliance/log`: sets the log filter until the next reload or restart.
pub(super) async fn set_log(arguments: Arguments) -> HandlerResult {
    arguments.reject_unknown(&["filter"])?;
    let filter = arguments.required_text("filter")?;
    let fault = |error| Fault::Invalid(format!("filter: {error}"));
    let filter = filter.parse().map_err(|error: LogFilterError| fault(error.to_string()))?;
    log::set_filter(&filter).map_err(fault)?;
    Ok(Reply::NoContent)
}
