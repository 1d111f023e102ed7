//! `/ui/machines/{machine}`: one machine: what happened to it, what it has, what it would be told now, and why.

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use super::draw::{Answer, Page, Trouble};
use super::enrol::Form;
use super::records::Records;
use super::{Shared, WebState, machines, words};
use crate::model::{Asker, Mac, Node, Port};
use crate::script;
use crate::telemetry::{Event, What};
use crate::timeline::{Entry, Key, Machine, words as in_words};

/// How much of a page is wanted.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// Only what changes while a machine boots: drawn again and again, so it asks nobody else.
    #[serde(default)]
    live: String,
}

#[derive(Template)]
#[template(path = "ui/machine.html")]
pub(super) struct MachinePage {
    here: &'static str,
    id: String,
    label: String,
    /// Where to hear that something happened.
    follow: String,
    verdict: Option<Shown>,
    facts: Vec<(&'static str, String)>,
    journey: Vec<Line>,
    earlier: Vec<Line>,
    records: Option<Records>,
    preview: Option<Preview>,
    form: Option<Form>,
}

/// A verdict, as it is shown.
struct Shown {
    mood: &'static str,
    state: &'static str,
    text: String,
    advice: Option<String>,
}

/// A line of the timeline.
struct Line {
    at: String,
    clock: String,
    after: String,
    mood: &'static str,
    text: String,
    advice: Option<String>,
}

/// What the machine would get now.
struct Preview {
    outcome: String,
    sources: Vec<String>,
    script: Option<String>,
}

/// `GET /ui/machines/{machine}`
pub(super) async fn show(
    State(state): State<Shared>,
    Path(id): Path<String>,
    Query(asked): Query<Asked>,
) -> Answer<MachinePage> {
    let key = key(&id)?;
    let page = if asked.live.is_empty() {
        draw(&state, key, Form::empty(key)).await?
    } else {
        draw_live(&state, key).await?
    };
    Ok(Page(StatusCode::OK, page))
}

/// By what a machine is known, out of an address.
pub(super) fn key(id: &str) -> Result<Key, Trouble> {
    id.parse().map_err(|error| Trouble::not_found(format!("\"{id}\" is no machine: {error}.")))
}

/// The whole page; `form` is shown if nobody has registered the machine.
pub(super) async fn draw(state: &WebState, key: Key, form: Form) -> Result<MachinePage, Trouble> {
    let mut page = draw_live(state, key).await?;
    let Key::Mac(mac) = key else { return Ok(page) };
    let machine = state.timeline.machine(key);
    let asker = asker(mac, machine.as_ref());
    match node(state, &asker.macs).await? {
        Some(node) => page.records = Some(Records::of(state, &node, Timestamp::now()).await?),
        None => page.form = Some(form),
    }
    page.preview = Some(preview(state, &asker).await);
    Ok(page)
}

/// What of the page changes while a machine boots.
async fn draw_live(state: &WebState, key: Key) -> Result<MachinePage, Trouble> {
    let machine = state.timeline.machine(key);
    let node = match key {
        Key::Mac(mac) => node(state, &asker(mac, machine.as_ref()).macs).await?,
        Key::Address(_) => None,
    };
    if machine.is_none() && node.is_none() {
        return Err(Trouble::not_found(format!("Nothing was ever heard of a machine {key}.")));
    }
    let (began, entries) = match &machine {
        Some(machine) => (machine.began, in_words(events(state, key).await?)),
        None => (Timestamp::now(), Vec::new()),
    };
    let (earlier, journey): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.event.at < began);
    let now = Timestamp::now();
    let mut journey: Vec<_> = journey.into_iter().map(|entry| line(entry, Some(began))).collect();
    // What is to be done stands above, and once is enough.
    let advice = machine.as_ref().and_then(|machine| machine.verdict.advice.as_ref());
    for line in &mut journey {
        line.advice = line.advice.take().filter(|text| Some(text) != advice);
    }
    Ok(MachinePage {
        here: "machine",
        id: key.to_string(),
        label: node.map_or_else(|| key.to_string(), |node| node.label()),
        follow: format!("/v1/events?machine={}", machines::encoded(&key.to_string())),
        verdict: machine.as_ref().map(shown),
        facts: machine.as_ref().map(|machine| facts(machine, now)).unwrap_or_default(),
        journey,
        earlier: earlier.into_iter().map(|entry| line(entry, None)).collect(),
        records: None,
        preview: None,
        form: None,
    })
}

async fn events(state: &WebState, key: Key) -> Result<Vec<Event>, Trouble> {
    let timeline = state.timeline.clone();
    let read = tokio::task::spawn_blocking(move || timeline.events_blocking(key));
    read.await.map_err(|error| {
        tracing::error!(%error, "a timeline could not be read");
        Trouble::broken()
    })
}

/// The node to which one of these cards belongs.
async fn node(state: &WebState, macs: &[Mac]) -> Result<Option<Node>, Trouble> {
    let ports: Vec<Port> = state.inventory.ports(macs).await?;
    let Some(port) = ports.first() else { return Ok(None) };
    Ok(state.inventory.get::<Node>(port.node_uuid).await?.map(|node| node.value))
}

/// The machine, as it would ask: with the cards and on the firmware that it had last.
fn asker(mac: Mac, machine: Option<&Machine>) -> Asker {
    let mut asker = Asker::new(mac);
    if let Some(machine) = machine {
        asker = asker.with_macs(machine.macs.iter().copied());
        asker.platform = machine.platform.as_deref().and_then(|platform| platform.parse().ok());
    }
    asker
}

async fn preview(state: &WebState, asker: &Asker) -> Preview {
    let decision = state.boot.preview(asker).await;
    let source =
        |resolved: &crate::boot::Resolved| format!("{}: {}", resolved.volume, resolved.source.as_str());
    let outcome = match decision.answer.outcome() {
        "boot" => "It would boot from its volumes",
        "wait" => "It would have to wait",
        "local disk" => "It would be sent to its local disk",
        "unknown" => "It would be told that it is unknown",
        _ => "It would be refused",
    };
    let reason = decision.answer.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    Preview {
        outcome: format!("{outcome}{reason}."),
        sources: decision.resolved.iter().map(source).collect(),
        script: script::preview(&decision.answer, asker, state.scripts).ok(),
    }
}

fn shown(machine: &Machine) -> Shown {
    let verdict = &machine.verdict;
    Shown {
        mood: words::mood(verdict.state),
        state: words::state(verdict.state),
        text: verdict.text.clone(),
        advice: verdict.advice.clone(),
    }
}

fn facts(machine: &Machine, now: Timestamp) -> Vec<(&'static str, String)> {
    let firmware = machine.platform.as_deref().map(|platform| match platform {
        "pcbios" => "BIOS".to_owned(),
        "efi" => "UEFI".to_owned(),
        other => other.to_owned(),
    });
    let others = machine.macs.iter().filter(|mac| Key::Mac(**mac) != machine.id);
    let others: Vec<_> = others.map(ToString::to_string).collect();
    let facts = [
        ("Address", machine.address.map(|address| address.to_string())),
        ("Further cards", (!others.is_empty()).then(|| others.join(", "))),
        ("Firmware", firmware),
        ("iPXE built for", machine.arch.clone()),
        ("Its UUID", machine.uuid.map(|uuid| uuid.to_string())),
        ("Journeys without a volume", (machine.journeys > 1).then(|| machine.journeys.to_string())),
        ("First heard of", Some(words::moment(machine.first_seen))),
        ("Last heard of", Some(words::ago(machine.last_seen, now))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn line(entry: Entry, began: Option<Timestamp>) -> Line {
    let at = entry.event.at;
    Line {
        at: words::machine_readable(at),
        clock: if began.is_some() { words::clock(at) } else { words::moment(at) },
        after: began.map(|began| words::after(began, at)).unwrap_or_default(),
        mood: mood(&entry),
        text: entry.text,
        advice: entry.advice,
    }
}

/// How a line is to be taken.
fn mood(entry: &Entry) -> &'static str {
    match &entry.event.what {
        What::Reported { step, rc: None, .. } if matches!(step.as_deref(), Some("hooked" | "up")) => "good",
        What::Reported { .. } | What::Fetched { size: None, .. } => "bad",
        What::Answered(answered) => match answered.outcome.as_ref() {
            "boot" => "busy",
            "local disk" => "calm",
            "refuse" => "bad",
            _ => "warn",
        },
        What::Paced { .. } => "warn",
        What::Transfer(transfer) => match transfer.outcome.as_ref() {
            "complete" | "probe" | "unconfirmed" => "calm",
            "aborted" => "warn",
            _ => "bad",
        },
        What::Fetched { .. } | What::Gathered => "calm",
    }
}
