//! `/ui/appliance`: status of volboot: store, history, Cinder, listeners, iPXE binaries, storage used.

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;

use super::format::{InstanceRow, Severity};
use super::page::{Page, PageResult};
use super::{SharedState, format};
use crate::images::{Image, MissingImage};
use crate::operator::CinderStatus;
use crate::store::StoreAccess;

#[derive(Template)]
#[template(path = "ui/appliance.html")]
pub(super) struct AppliancePage {
    section: &'static str,
    version: &'static str,
    started: String,
    listeners: Vec<(&'static str, String)>,
    /// The instances on the store; empty if there is one.
    instances: Vec<InstanceRow>,
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
pub(super) async fn show(State(operator): State<SharedState>) -> PageResult<AppliancePage> {
    let now = Timestamp::now();
    let cinder = match operator.cinder_status() {
        CinderStatus::NotConfigured => {
            status(Severity::Neutral, "not configured", "Nodes cannot boot from Cinder volumes.")
        }
        CinderStatus::Available => status(Severity::Success, "available", "The circuit breaker is closed."),
        CinderStatus::Unavailable(reason) => status(Severity::Error, "unavailable", reason),
    };
    let store = match (operator.check_store().await, operator.store_access()) {
        (Ok(_), StoreAccess::ReadOnly(reason)) => status(
            Severity::Error,
            "read-only",
            format!("Changes are refused, and no Cinder volume is attached or detached: {reason}"),
        ),
        (Ok(latency), StoreAccess::ReadWrite) => {
            let latency = latency.as_secs_f64() * 1000.0;
            status(Severity::Success, "ok", format!("read in {latency:.1} ms"))
        }
        (Err(error), _) => status(Severity::Error, "error", error.to_string()),
    };
    let history = match (operator.timeline.is_recording(), operator.timeline.dropped_events()) {
        (false, _) => {
            status(Severity::Error, "not recording", "The file is not writable. See the log for the cause.")
        }
        (true, 0) => {
            let machines = format::grouped_number(operator.timeline.len());
            status(Severity::Success, "recording", format!("{machines} machines"))
        }
        (true, dropped) => status(Severity::Warning, "recording", format!("{dropped} events dropped")),
    };
    let appliance = &operator.appliance;
    let (store_location, store_bytes) =
        operator.store_info().await.map(|info| (info.location, info.bytes)).unwrap_or_default();
    let history_path = appliance.history_path.display().to_string();
    let files = vec![
        file_row("Store", store_location, store_bytes, "unknown"),
        file_row("History", history_path, operator.history_bytes().await, "no file"),
    ];
    let started = format!(
        "{} ({})",
        format::date_time(appliance.started_at),
        format::time_ago(appliance.started_at, now)
    );
    let listeners =
        appliance.listeners.iter().map(|(name, address)| (listener_label(name), address.to_string()));
    let page = AppliancePage {
        section: "appliance",
        version: env!("CARGO_PKG_VERSION"),
        started,
        listeners: listeners.collect(),
        instances: format::instance_rows(&operator.membership.instances()),
        cinder,
        store,
        history,
        files,
        images: operator.images.available().iter().map(image_row).collect(),
        missing_images: operator.images.missing().to_vec(),
    };
    Ok(Page(StatusCode::OK, page))
}

fn status(severity: Severity, label: &'static str, text: impl Into<String>) -> ComponentStatus {
    ComponentStatus { severity, label, text: text.into() }
}

fn listener_label(name: &'static str) -> &'static str {
    match name {
        "tftp" => "TFTP server",
        "dhcp" => "ProxyDHCP server",
        "http" => "Boot listener (HTTP)",
        "cluster" => "Cluster listener (other instances)",
        "api" => "Operator listener (API and web pages)",
        other => other,
    }
}

/// `missing`: the text for a size that is not known.
fn file_row(name: &'static str, path: String, bytes: Option<u64>, missing: &str) -> FileRow {
    FileRow { name, path, size: bytes.map_or_else(|| missing.to_owned(), format::byte_size) }
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
