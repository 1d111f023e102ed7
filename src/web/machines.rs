//! `/ui/`: all machines with what became of their last boots; those that begin again and again come first.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Shared;
use super::draw::{Answer, Page};
use super::words;
use crate::model::{Node, Port};
use crate::store::Unique;
use crate::timeline::{Key, Machine, State as BootState};

/// Machines on one page.
const PAGE: usize = 100;

/// What can be asked of the list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Asked {
    /// A text that a machine mentions.
    #[serde(default)]
    q: String,
    /// Only machines in this state.
    #[serde(default)]
    state: String,
    /// Which page, from 1.
    #[serde(default)]
    page: String,
}

#[derive(Template)]
#[template(path = "ui/machines.html")]
pub(super) struct MachinesPage {
    here: &'static str,
    asked: String,
    state: String,
    choices: Vec<Choice>,
    looping: usize,
    loops: String,
    rows: Vec<Row>,
    /// What was found in words.
    found: String,
    pages: usize,
    page: usize,
    previous: Option<String>,
    next: Option<String>,
    /// A node that was asked for by its name and was never heard of.
    silent: Option<Silent>,
}

/// A state that can be chosen.
struct Choice {
    label: &'static str,
    count: String,
    link: String,
    chosen: bool,
}

struct Row {
    link: String,
    label: String,
    /// By what it is known, if it has a name besides.
    id: Option<String>,
    address: String,
    mood: &'static str,
    state: &'static str,
    looping: bool,
    text: String,
    enrol: bool,
    seen: String,
    seen_at: String,
    moment: String,
}

struct Silent {
    label: String,
    link: String,
}

/// `GET /ui/`
pub(super) async fn list(State(state): State<Shared>, Query(asked): Query<Asked>) -> Answer<MachinesPage> {
    let text = asked.q.trim().to_lowercase();
    let chosen = BootState::ALL.into_iter().find(|state| state.as_str() == asked.state);
    let mut machines = state.timeline.machines(|machine| text.is_empty() || machine.mentions(&text));
    let count = |of: BootState| machines.iter().filter(|machine| machine.verdict.state == of).count();
    let query = Asking { text: asked.q.trim(), state: chosen };
    let mut choices = vec![Choice {
        label: "all",
        count: words::number(machines.len()),
        link: Asking { state: None, ..query }.page(1),
        chosen: chosen.is_none(),
    }];
    choices.extend(BootState::ALL.into_iter().filter_map(|of| {
        let count = count(of);
        (count > 0 || chosen == Some(of)).then(|| Choice {
            label: words::state(of),
            count: words::number(count),
            link: Asking { state: Some(of), ..query }.page(1),
            chosen: chosen == Some(of),
        })
    }));
    let looping = count(BootState::Looping);
    machines.retain(|machine| chosen.is_none_or(|state| machine.verdict.state == state));
    // Stable: within each part, the one last heard of stays first.
    machines.sort_by_key(|machine| machine.verdict.state != BootState::Looping);
    let pages = machines.len().div_ceil(PAGE).max(1);
    let page = asked.page.parse::<usize>().unwrap_or(1).clamp(1, pages);
    let now = Timestamp::now();
    let rows = machines.iter().skip((page - 1) * PAGE).take(PAGE).map(|machine| row(machine, now)).collect();
    let silent = if machines.is_empty() { silent(&state, asked.q.trim()).await? } else { None };
    let found = match machines.len() {
        0 => "No machine".to_owned(),
        1 => "1 machine".to_owned(),
        many => format!("{} machines", words::number(many)),
    };
    let shown = MachinesPage {
        here: "machines",
        asked: query.text.to_owned(),
        state: chosen.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        choices,
        looping: if chosen == Some(BootState::Looping) { 0 } else { looping },
        loops: Asking { text: "", state: Some(BootState::Looping) }.page(1),
        rows,
        found,
        pages,
        page,
        previous: (page > 1).then(|| query.page(page - 1)),
        next: (page < pages).then(|| query.page(page + 1)),
        silent,
    };
    Ok(Page(StatusCode::OK, shown))
}

/// What was asked for, to be asked for again.
#[derive(Clone, Copy)]
struct Asking<'a> {
    text: &'a str,
    state: Option<BootState>,
}

impl Asking<'_> {
    /// Where the same is found on another page.
    fn page(self, page: usize) -> String {
        let mut parts = Vec::new();
        if !self.text.is_empty() {
            parts.push(format!("q={}", encoded(self.text)));
        }
        if let Some(state) = self.state {
            parts.push(format!("state={state}"));
        }
        if page > 1 {
            parts.push(format!("page={page}"));
        }
        if parts.is_empty() { "/ui/".to_owned() } else { format!("/ui/?{}", parts.join("&")) }
    }
}

fn row(machine: &Machine, now: Timestamp) -> Row {
    let id = machine.id.to_string();
    let state = machine.verdict.state;
    Row {
        link: link(machine.id),
        label: machine.name.clone().unwrap_or_else(|| id.clone()),
        id: machine.name.is_some().then_some(id),
        address: machine.address.map(|address| address.to_string()).unwrap_or_default(),
        mood: words::mood(state),
        state: words::state(state),
        looping: state == BootState::Looping,
        text: machine.verdict.text.clone(),
        enrol: state == BootState::Unknown && matches!(machine.id, Key::Mac(_)),
        seen: words::ago(machine.last_seen, now),
        seen_at: words::machine_readable(machine.last_seen),
        moment: words::moment(machine.last_seen),
    }
}

/// Where a machine's own page is.
pub(super) fn link(id: Key) -> String {
    format!("/ui/machines/{}", encoded(&id.to_string()).replace("%3A", ":"))
}

/// A text as it may stand in an address.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A node that is called so, or has this card, and whose machine was never heard of.
async fn silent(state: &Shared, text: &str) -> Result<Option<Silent>, super::draw::Trouble> {
    let node = match (text.parse(), text.parse()) {
        _ if text.is_empty() => None,
        (Ok(uuid), _) => state.inventory.get::<Node>(uuid).await?,
        (_, Ok(mac)) => match state.inventory.find::<Port>(&Unique::Address(mac)).await? {
            Some(port) => state.inventory.get::<Node>(port.value.node_uuid).await?,
            None => None,
        },
        _ => state.inventory.find::<Node>(&Unique::NodeName(text.to_owned())).await?,
    };
    Ok(node.map(|node| Silent { label: node.value.label(), link: format!("/ui/nodes/{}", node.value.uuid) }))
}
