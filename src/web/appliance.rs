//! `/ui/appliance`: volboot itself: its doors, what it serves to firmware, how Cinder is, and what its files take.

use std::path::Path;
use std::time::Instant;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;

use super::draw::{Answer, Page};
use super::{Shared, words};
use crate::images::{Image, Missing};
use crate::model::Node;

#[derive(Template)]
#[template(path = "ui/appliance.html")]
pub(super) struct AppliancePage {
    here: &'static str,
    version: &'static str,
    started: String,
    doors: Vec<(&'static str, String)>,
    cinder: Health,
    store: Health,
    timelines: Health,
    files: Vec<File>,
    found: Vec<Found>,
    missing: Vec<Missing>,
}

/// How a part is, in a word and a line.
struct Health {
    mood: &'static str,
    word: &'static str,
    text: String,
}

struct File {
    what: &'static str,
    path: String,
    size: String,
}

struct Found {
    name: &'static str,
    firmware: &'static str,
    version: String,
    size: String,
    path: String,
}

/// `GET /ui/appliance`
pub(super) async fn show(State(state): State<Shared>) -> Answer<AppliancePage> {
    let now = Timestamp::now();
    let cinder = match state.attach.cinder_is_away() {
        _ if !state.attach.is_configured() => {
            health("calm", "not configured", "No volume is asked for there.")
        }
        None => health("good", "in use", "It answered when it was asked last."),
        Some(reason) => health("bad", "away", reason),
    };
    let began = Instant::now();
    let store = match state.inventory.list::<Node>(None, 1).await {
        Ok(_) => health("good", "answers", format!("in {:.1} ms", began.elapsed().as_secs_f64() * 1000.0)),
        Err(error) => health("bad", "fails", error.to_string()),
    };
    let timelines = match (state.timeline.is_kept(), state.timeline.lost()) {
        (false, _) => health("bad", "not kept", "The file cannot be written: the log says why."),
        (true, 0) => health("good", "kept", format!("of {} machines", words::number(state.timeline.len()))),
        (true, lost) => health("warn", "kept", format!("but for {lost} events that came too fast")),
    };
    let files = [("Records", &state.store), ("Timelines", &state.history)];
    let mut shown = Vec::new();
    for (what, path) in files {
        shown.push(File { what, path: path.display().to_string(), size: size(path).await });
    }
    let page = AppliancePage {
        here: "appliance",
        version: env!("CARGO_PKG_VERSION"),
        started: format!("{} ({})", words::moment(state.started), words::ago(state.started, now)),
        doors: state.doors.iter().map(|(door, address)| (name(door), address.to_string())).collect(),
        cinder,
        store,
        timelines,
        files: shown,
        found: state.images.found().iter().map(found).collect(),
        missing: state.images.missing().to_vec(),
    };
    Ok(Page(StatusCode::OK, page))
}

fn health(mood: &'static str, word: &'static str, text: impl Into<String>) -> Health {
    Health { mood, word, text: text.into() }
}

/// A door as people call it.
fn name(door: &'static str) -> &'static str {
    match door {
        "tftp" => "Firmware (TFTP)",
        "http" => "Machines (HTTP)",
        "api" => "People (API and this page)",
        other => other,
    }
}

/// The size of a file in words.
async fn size(path: &Path) -> String {
    let path = path.to_owned();
    let size = tokio::task::spawn_blocking(move || std::fs::metadata(path).map(|file| file.len()));
    match size.await {
        Ok(Ok(bytes)) => words::size(bytes),
        _ => "not there".to_owned(),
    }
}

fn found(image: &Image) -> Found {
    Found {
        name: image.name,
        firmware: image.firmware,
        version: image.version().unwrap_or_else(|| "compressed".to_owned()),
        size: words::size(image.content.len() as u64),
        path: image.path.display().to_string(),
    }
}
