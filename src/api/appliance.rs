//! `/v1/appliance`: volboot itself: its doors, its iPXE binaries, its files, and how Cinder is.
//!
//! An extension of ours: Ironic has no such path.

use serde_json::{Value, json};

use super::call::{Arguments, Call};
use super::fault::Fault;
use super::reply::{Answer, Reply};
use crate::model::LogFilterError;
use crate::telemetry::log;
use crate::timeline::State;

/// `GET /v1/appliance`
pub(super) async fn get(call: Call) -> Answer {
    call.query.only(&[])?;
    let watch = &call.state.watch;
    let reading = watch.reading(&call.state).await;
    let doors: Vec<_> =
        watch.doors.iter().map(|(door, address)| json!({"door": door, "address": address})).collect();
    let found = watch.images.found().iter().map(|image| {
        json!({
            "name": image.name, "firmware": image.firmware, "path": image.path, "bytes": image.content.len(),
            "version": image.version(),
        })
    });
    let missing = watch.images.missing().iter().map(
        |missing| json!({"name": missing.name, "firmware": missing.firmware, "install": missing.packages}),
    );
    let states = watch.timeline.count().into_iter().map(|(state, count)| (State::to_string(&state), count));
    let micros = reading.store.map(|took| took.as_micros() as u64);
    Ok(Reply::Shown(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": watch.started,
        "doors": doors,
        "images": found.collect::<Vec<_>>(),
        "missing_images": missing.collect::<Vec<_>>(),
        "store": {"path": watch.store, "bytes": reading.store_bytes, "answers_in_micros": micros},
        "history": {
            "path": watch.history, "bytes": reading.history_bytes, "kept": watch.timeline.is_kept(),
            "waiting": reading.queue, "lost": reading.lost,
        },
        "log": log::filter(),
        "cinder": watch.cinder(),
        "machines": states.map(|(state, count)| (state, Value::from(count))).collect::<serde_json::Map<_, _>>(),
    })))
}

/// `PUT /v1/appliance/log`: holds until the next reload or restart.
pub(super) async fn set_log(told: Arguments) -> Answer {
    told.only(&["filter"])?;
    let filter = told.required_text("filter")?;
    let fault = |error| Fault::Invalid(format!("filter: {error}"));
    let filter = filter.parse().map_err(|error: LogFilterError| fault(error.to_string()))?;
    log::set_filter(&filter).map_err(fault)?;
    Ok(Reply::Done)
}
