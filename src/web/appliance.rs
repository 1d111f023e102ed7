//! `/ui/appliance`: status of volboot: store, history, Cinder, listeners, iPXE binaries, storage used.

use std::path::Path;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;

use super::format::Severity;
use super::page::{Page, PageResult};
use super::{SharedState, format};
use crate::images::{Image, MissingImage};
use crate::model::Node;

#[derive(Template)]
#[template(path = "ui/appliance.html")]
pub(super) struct AppliancePage {
    section: &'static str,
    version: &'static str,
    started: String,
    listeners: Vec<(&'static str, String)>,
    cinder: ComponentStatus,
    store: ComponentStatus,
    history: ComponentStatus,
    files: Vec<FileRow>,
    images: Vec<ImageRow>,
    missing_images: Vec<MissingImage>,
}

/// The status of a component: a label and an explanation.
struct ComponentStatus {
    severity: Severity,
    label: &'static str,
    text: String,
}

struct FileRow {
    name: &'static str,
    path: String,
    size: String,
}

struct ImageRow {
    name: &'static str,
    firmware: &'static str,
    version: String,
    size: String,
    path: String,
}

/// `GET /ui/appliance`
pub(super) async fn show(State(state): State<SharedState>) -> PageResult<AppliancePage> {
    let now = Timestamp::now();
    let cinder = match state.attach.cinder_outage() {
        _ if !state.attach.is_configured() => {
            status(Severity::Neutral, "not configured", "Nodes cannot boot from Cinder volumes.")
        }
        None => status(Severity::Success, "available", "The circuit breaker is closed."),
        Some(reason) => status(Severity::Error, "unavailable", reason),
    };
    let start = Instant::now();
    let store = match state.inventory.list::<Node>(None, 1).await {
        Ok(_) => {
            let latency = start.elapsed().as_secs_f64() * 1000.0;
            status(Severity::Success, "ok", format!("read in {latency:.1} ms"))
        }
        Err(error) => status(Severity::Error, "error", error.to_string()),
    };
    let history = match (state.timeline.is_recording(), state.timeline.dropped_events()) {
        (false, _) => {
            status(Severity::Error, "not recording", "The file is not writable. See the log for the cause.")
        }
        (true, 0) => {
            let machines = format::grouped_number(state.timeline.len());
            status(Severity::Success, "recording", format!("{machines} machines"))
        }
        (true, dropped) => status(Severity::Warning, "recording", format!("{dropped} events dropped")),
    };
    let mut files = Vec::new();
    for (name, path) in [("Store", &state.store_path), ("History", &state.history_path)] {
        files.push(FileRow { name, path: path.display().to_string(), size: file_size(path).await });
    }
    let started =
        format!("{} ({})", format::date_time(state.started_at), format::time_ago(state.started_at, now));
    let listeners = state.listeners.iter().map(|(name, address)| (listener_label(name), address.to_string()));
    let page = AppliancePage {
        section: "appliance",
        version: env!("CARGO_PKG_VERSION"),
        started,
        listeners: listeners.collect(),
        cinder,
        store,
        history,
        files,
        images: state.images.available().iter().map(image_row).collect(),
        missing_images: state.images.missing().to_vec(),
    };
    Ok(Page(StatusCode::OK, page))
}

fn status(severity: Severity, label: &'static str, text: impl Into<String>) -> ComponentStatus {
    ComponentStatus { severity, label, text: text.into() }
}

fn listener_label(name: &'static str) -> &'static str {
    match name {
        "tftp" => "TFTP server",
        "http" => "Boot listener (HTTP)",
        "api" => "Operator listener (API and web pages)",
        other => other,
    }
}

async fn file_size(path: &Path) -> String {
    let path = path.to_owned();
    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
    match size.await {
        Ok(Ok(bytes)) => format::byte_size(bytes),
        _ => "no file".to_owned(),
    }
}

fn image_row(image: &Image) -> ImageRow {
    ImageRow {
        name: image.name,
        firmware: image.firmware,
        version: image.version().unwrap_or_else(|| "compressed".to_owned()),
        size: format::byte_size(image.content.len() as u64),
        path: image.path.display().to_string(),
    }
}
