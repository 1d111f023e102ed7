//! `/ui/`: the list of machines with the verdicts on their last boots. Machines in a boot loop come first.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use form_urlencoded::Serializer;
use jiff::Timestamp;
use serde::Deserialize;

use super::charts::{BootsChart, StormChart};
use super::format::{InstanceRow, Severity};
use super::page::{ErrorPage, Page, PageResult};
use super::{SharedState, format};
use crate::operator::Operator;
use crate::timeline::{BootState, Machine, MachineId};

/// Machines per page.
const PAGE_SIZE: usize = 100;

/// The query of the list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ListQuery {
    /// Search text.
    #[serde(default)]
    q: String,
    /// Only machines in this state.
    #[serde(default)]
    state: String,
    /// Page number, from 1.
    #[serde(default)]
    page: String,
}

#[derive(Template)]
#[template(path = "ui/machines.html")]
pub(super) struct MachinesPage {
    section: &'static str,
    search: String,
    state: String,
    filters: Vec<FilterLink>,
    looping: usize,
    looping_link: String,
    /// The instances on the store; empty if there is one.
    instances: Vec<InstanceRow>,
    /// What all timelines lack.
    missing: Vec<String>,
    /// The boots by result, and a storm as it runs: on the first page of the whole list.
    boots: Option<BootsChart>,
    storm: Option<StormChart>,
    rows: Vec<MachineRow>,
    /// The number of matches, as a phrase.
    total: String,
    pages: usize,
    page: usize,
    previous: Option<String>,
    next: Option<String>,
    /// The registered node that matches the search, if no machine does.
    unseen_node: Option<NodeLink>,
}

/// A link that filters the list by state.
struct FilterLink {
    label: &'static str,
    count: String,
    link: String,
    is_active: bool,
}

struct MachineRow {
    link: String,
    label: String,
    /// The machine's id, if the label is a node's name.
    id: Option<String>,
    address: String,
    severity: Severity,
    state: &'static str,
    is_looping: bool,
    text: String,
    can_enroll: bool,
    last_seen_ago: String,
    last_seen_rfc3339: String,
    last_seen: String,
}

struct NodeLink {
    label: String,
    link: String,
}

/// `GET /ui/`
pub(super) async fn list(
    State(operator): State<SharedState>,
    Query(query): Query<ListQuery>,
) -> PageResult<MachinesPage> {
    let search = query.q.trim();
    let needle = search.to_lowercase();
    let selected = BootState::ALL.into_iter().find(|state| state.as_str() == query.state);
    let mut machines =
        operator.timeline.machines(|machine| needle.is_empty() || machine.matches_text(&needle));
    let count = |state: BootState| machines.iter().filter(|machine| machine.verdict.state == state).count();
    let filter = Filter { search, state: selected };
    let mut filters = vec![FilterLink {
        label: "all",
        count: format::grouped_number(machines.len()),
        link: Filter { state: None, ..filter }.link(1),
        is_active: selected.is_none(),
    }];
    filters.extend(BootState::ALL.into_iter().filter_map(|state| {
        let count = count(state);
        (count > 0 || selected == Some(state)).then(|| FilterLink {
            label: format::state_label(state),
            count: format::grouped_number(count),
            link: Filter { state: Some(state), ..filter }.link(1),
            is_active: selected == Some(state),
        })
    }));
    let looping = count(BootState::Looping);
    machines.retain(|machine| selected.is_none_or(|state| machine.verdict.state == state));
    // A stable sort: within each group, the most recently seen machine stays first.
    machines.sort_by_key(|machine| machine.verdict.state != BootState::Looping);
    let pages = machines.len().div_ceil(PAGE_SIZE).max(1);
    let page = query.page.parse::<usize>().unwrap_or(1).clamp(1, pages);
    let now = Timestamp::now();
    let visible = machines.iter().skip((page - 1) * PAGE_SIZE).take(PAGE_SIZE);
    let rows = visible.map(|machine| machine_row(machine, now)).collect();
    let unseen_node = if machines.is_empty() { find_unseen_node(&operator, search).await? } else { None };
    let total = match machines.len() {
        0 => "No machines".to_owned(),
        1 => "1 machine".to_owned(),
        many => format!("{} machines", format::grouped_number(many)),
    };
    let overview =
        (search.is_empty() && selected.is_none() && page == 1).then(|| operator.timeline.summarize_boots());
    let template = MachinesPage {
        section: "machines",
        search: search.to_owned(),
        state: selected.map(|state| state.as_str().to_owned()).unwrap_or_default(),
        filters,
        looping: if selected == Some(BootState::Looping) { 0 } else { looping },
        looping_link: Filter { search: "", state: Some(BootState::Looping) }.link(1),
        instances: format::instance_rows(&operator.membership.instances()),
        missing: operator.membership.missing_events().iter().map(format::missing_events).collect(),
        boots: overview.as_ref().and_then(|overview| BootsChart::new(&overview.windows)),
        storm: overview.as_ref().and_then(|overview| StormChart::new(&overview.now)),
        rows,
        total,
        pages,
        page,
        previous: (page > 1).then(|| filter.link(page - 1)),
        next: (page < pages).then(|| filter.link(page + 1)),
        unseen_node,
    };
    Ok(Page(StatusCode::OK, template))
}

/// Search text and state, preserved in links.
#[derive(Clone, Copy)]
struct Filter<'a> {
    search: &'a str,
    state: Option<BootState>,
}

impl Filter<'_> {
    /// The link to a page of the filtered list.
    fn link(self, page: usize) -> String {
        let mut query = Serializer::new(String::new());
        if !self.search.is_empty() {
            query.append_pair("q", self.search);
        }
        if let Some(state) = self.state {
            query.append_pair("state", state.as_str());
        }
        if page > 1 {
            query.append_pair("page", &page.to_string());
        }
        let query = query.finish();
        if query.is_empty() { "/ui/".to_owned() } else { format!("/ui/?{query}") }
    }
}

fn machine_row(machine: &Machine, now: Timestamp) -> MachineRow {
    let id = machine.id.to_string();
    let state = machine.verdict.state;
    MachineRow {
        link: machine_link(machine.id),
        label: machine.name.clone().unwrap_or_else(|| id.clone()),
        id: machine.name.is_some().then_some(id),
        address: machine.address.map(|address| address.to_string()).unwrap_or_default(),
        severity: format::state_severity(state),
        state: format::state_label(state),
        is_looping: state == BootState::Looping,
        text: machine.verdict.text.clone(),
        can_enroll: state == BootState::Unknown && matches!(machine.id, MachineId::Mac(_)),
        last_seen_ago: format::time_ago(machine.last_seen, now),
        last_seen_rfc3339: format::rfc3339(machine.last_seen),
        last_seen: format::date_time(machine.last_seen),
    }
}

/// The link to a machine's page. An id, a MAC or IP address, needs no encoding.
pub(super) fn machine_link(id: MachineId) -> String {
    format!("/ui/machines/{id}")
}

/// Finds a node by UUID, MAC address or name, for a search that matches no machine.
async fn find_unseen_node(operator: &Operator, text: &str) -> Result<Option<NodeLink>, ErrorPage> {
    let node = match text.parse() {
        _ if text.is_empty() => None,
        Ok(mac) => operator.boot.find_node(&[mac]).await?,
        Err(_) => operator.find_node(text).await?,
    };
    Ok(node.map(|node| NodeLink { label: node.label(), link: format!("/ui/nodes/{}", node.uuid) }))
}
