//! `/ui/machines/{machine}`: a machine's verdict, timeline, records and boot preview.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;

use super::actions::{self, ActionGroup};
use super::charts::Waterfall;
use super::check_view::CheckView;
use super::enroll_form::EnrollForm;
use super::format::Severity;
use super::page::{ErrorPage, Page, PageResult};
use super::records::NodeDetails;
use super::{SharedState, format};
use crate::boot::VolumeResolution;
use crate::model::{BootAnswer, BootOutcome, DhcpAnswer, InstanceServer, Node, NodePower, TransferOutcome};
use crate::operator::{BootPreview, Operator, Requester};
use crate::telemetry::EventKind;
use crate::timeline::{Machine, MachineId, TimelineEntry, trace_boots};

/// The query of a machine's page.
#[derive(Debug, Default, Deserialize)]
pub(super) struct MachineQuery {
    /// Non-empty: only the live parts. Polled often, so Cinder is not queried.
    #[serde(default)]
    live: String,
}

#[derive(Template)]
#[template(path = "ui/machine.html")]
pub(super) struct MachinePage {
    section: &'static str,
    id: String,
    label: String,
    /// The event stream of this machine.
    events_url: String,
    verdict: Option<VerdictView>,
    /// What the timeline lacks.
    missing: Vec<String>,
    /// The phases of the last boot.
    waterfall: Option<Waterfall>,
    /// The controls of the node.
    actions: Vec<ActionGroup>,
    facts: Vec<(&'static str, String)>,
    journey: Vec<TimelineRow>,
    earlier: Vec<TimelineRow>,
    records: Option<NodeDetails>,
    /// The last check of the node's volumes.
    check: Option<CheckView>,
    preview: Option<PreviewView>,
    form: Option<EnrollForm>,
}

/// A verdict, formatted for the page.
struct VerdictView {
    severity: Severity,
    state: &'static str,
    text: String,
    advice: Option<String>,
}

/// A timeline entry, formatted for the page.
struct TimelineRow {
    at: String,
    time: String,
    offset: String,
    severity: Severity,
    /// The instance of the step, if there are several.
    instance: Option<String>,
    text: String,
    advice: Option<String>,
}

/// A boot preview, formatted for the page.
struct PreviewView {
    outcome: String,
    sources: Vec<String>,
    script: Option<String>,
}

/// `GET /ui/machines/{machine}`
pub(super) async fn show(
    State(operator): State<SharedState>,
    Path(id): Path<String>,
    Query(query): Query<MachineQuery>,
) -> PageResult<MachinePage> {
    let id = parse_machine_id(&id)?;
    let page = if query.live.is_empty() {
        build_page(&operator, id, EnrollForm::empty(id)).await?
    } else {
        build_live_page(&operator, id).await?
    };
    Ok(Page(StatusCode::OK, page))
}

/// Parses the path segment of a machine's page.
pub(super) fn parse_machine_id(id: &str) -> Result<MachineId, ErrorPage> {
    id.parse().map_err(|error| ErrorPage::not_found(format!("\"{id}\" is not a machine: {error}.")))
}

/// The whole page. It contains `form` if no node has a port with the machine's MAC address.
pub(super) async fn build_page(
    operator: &Operator,
    id: MachineId,
    form: EnrollForm,
) -> Result<MachinePage, ErrorPage> {
    let MachineId::Mac(mac) = id else { return build_live_page(operator, id).await };
    let Requester { machine, node, request } = operator.find_requester(mac).await?;
    let mut page = build_live_parts(operator, id, machine, node.as_ref()).await?;
    match node {
        Some(node) => {
            let now = Timestamp::now();
            page.records = Some(NodeDetails::load(operator, &node, now).await?);
            page.check = operator.last_volume_check(&node).map(|report| CheckView::new(&report, now));
        }
        None => page.form = Some(form),
    }
    page.preview = Some(preview_view(operator.preview(&request).await));
    Ok(page)
}

/// The page without records, preview and form: only the parts that change during a boot.
async fn build_live_page(operator: &Operator, id: MachineId) -> Result<MachinePage, ErrorPage> {
    match id {
        MachineId::Mac(mac) => {
            let Requester { machine, node, .. } = operator.find_requester(mac).await?;
            build_live_parts(operator, id, machine, node.as_ref()).await
        }
        MachineId::Address(_) => build_live_parts(operator, id, operator.timeline.machine(id), None).await,
    }
}

/// The live parts of a machine, seen or not, with its node, registered or not.
async fn build_live_parts(
    operator: &Operator,
    id: MachineId,
    machine: Option<Machine>,
    node: Option<&Node>,
) -> Result<MachinePage, ErrorPage> {
    if machine.is_none() && node.is_none() {
        return Err(ErrorPage::not_found(format!("No machine {id} has been seen.")));
    }
    let (start, entries) = match &machine {
        Some(machine) => (machine.journey_started_at, read_timeline(operator, id).await?),
        None => (Timestamp::now(), Vec::new()),
    };
    let waterfall = machine.as_ref().and_then(|machine| draw_last_boot(machine, &entries));
    let names: BTreeSet<_> = entries.iter().map(|entry| &entry.event.instance).collect();
    let has_several_instances = names.len() > 1;
    let (earlier, journey): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.event.at < start);
    let now = Timestamp::now();
    let row = |entry, start| {
        let row = timeline_row(entry, start);
        TimelineRow { instance: row.instance.filter(|_| has_several_instances), ..row }
    };
    let mut journey: Vec<_> = journey.into_iter().map(|entry| row(entry, Some(start))).collect();
    // The verdict above already contains its advice, so the timeline does not repeat it.
    let advice = machine.as_ref().and_then(|machine| machine.verdict.advice.as_ref());
    for row in &mut journey {
        row.advice = row.advice.take().filter(|text| Some(text) != advice);
    }
    let actions = match node {
        Some(node) => {
            let once = operator.find_boot_once(node).await?;
            let fallback = operator.fallback_status(node).await?;
            actions::list_groups(node, once.as_ref(), &fallback, now)
        }
        None => Vec::new(),
    };
    Ok(MachinePage {
        section: "machine",
        id: id.to_string(),
        label: node.map_or_else(|| id.to_string(), Node::label),
        events_url: format!("/v1/events?machine={id}"),
        verdict: machine.as_ref().map(verdict_view),
        missing: operator.membership.missing_events().iter().map(format::missing_events).collect(),
        waterfall,
        actions,
        facts: machine.as_ref().map(|machine| machine_facts(machine, node, now)).unwrap_or_default(),
        journey,
        earlier: earlier.into_iter().map(|entry| row(entry, None)).collect(),
        records: None,
        check: None,
        preview: None,
        form: None,
    })
}

/// The last boot beside the median of those before, as far as the history has them.
fn draw_last_boot(machine: &Machine, entries: &[TimelineEntry]) -> Option<Waterfall> {
    let events: Vec<_> = entries.iter().map(|entry| entry.event.clone()).collect();
    let boots = trace_boots(&events);
    let earlier = boots.split_last().map(|(_, earlier)| earlier).unwrap_or_default();
    Waterfall::new(&machine.milestones, earlier)
}

async fn read_timeline(operator: &Operator, id: MachineId) -> Result<Vec<TimelineEntry>, ErrorPage> {
    operator.read_timeline(vec![id]).await.map_err(|_| ErrorPage::internal())
}

fn preview_view(preview: BootPreview) -> PreviewView {
    let BootPreview { decision, script } = preview;
    let source = |resolution: &VolumeResolution| {
        let source = resolution.source.as_str().replace('_', " ");
        let server = resolution.server.map(|server| format!(", attached by {}", InstanceServer(server)));
        format!("{}: {source}{}", resolution.volume, server.unwrap_or_default())
    };
    let outcome = match decision.answer {
        BootAnswer::Boot(_) => "The machine would boot from its volumes",
        BootAnswer::Wait { .. } => "The machine would have to wait",
        BootAnswer::LocalDisk { .. } => "The machine would boot from its local disk",
        BootAnswer::Url { .. } => "The machine would boot from a URL",
        BootAnswer::Shell { .. } => "The machine would start the iPXE shell",
        BootAnswer::Unknown { .. } => "The machine is unknown",
        BootAnswer::Refused { .. } => "The boot request would be refused",
    };
    let reason = decision.answer.reason().map(|reason| format!(": {reason}")).unwrap_or_default();
    PreviewView {
        outcome: format!("{outcome}{reason}."),
        sources: decision.resolutions.iter().map(source).collect(),
        script,
    }
}

fn verdict_view(machine: &Machine) -> VerdictView {
    let verdict = &machine.verdict;
    VerdictView {
        severity: format::state_severity(verdict.state),
        state: format::state_label(verdict.state),
        text: verdict.text.clone(),
        advice: verdict.advice.clone(),
    }
}

fn machine_facts(machine: &Machine, node: Option<&Node>, now: Timestamp) -> Vec<(&'static str, String)> {
    let power = node.map(|node| NodePower::new(node, machine.inferred_on_at));
    let inferred_at = power.and_then(|power| power.inferred_at).map(|at| format::time_ago(at, now));
    let other_macs = machine.macs.iter().filter(|mac| MachineId::Mac(**mac) != machine.id);
    let other_macs: Vec<_> = other_macs.map(ToString::to_string).collect();
    let journeys = machine.journeys_without_hook;
    let facts = [
        ("IP address", machine.address.map(|address| address.to_string())),
        ("Other MACs", (!other_macs.is_empty()).then(|| other_macs.join(", "))),
        ("Firmware", machine.platform.map(|platform| platform.firmware().to_owned())),
        ("iPXE build", machine.arch.clone()),
        ("System UUID", machine.uuid.map(|uuid| uuid.to_string())),
        ("Power", inferred_at.map(|ago| format!("on, inferred from the boot request {ago}"))),
        ("Boot sessions", (journeys > 1).then(|| format!("{journeys} in a row without a hooked volume"))),
        ("First seen", Some(format::date_time(machine.first_seen))),
        ("Last seen", Some(format::time_ago(machine.last_seen, now))),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// A row with the time of day and the offset from the start of the session, else with the date.
fn timeline_row(entry: TimelineEntry, start: Option<Timestamp>) -> TimelineRow {
    let at = entry.event.at;
    TimelineRow {
        at: format::rfc3339(at),
        time: if start.is_some() { format::time_of_day(at) } else { format::date_time(at) },
        offset: start.map(|start| format::time_offset(start, at)).unwrap_or_default(),
        severity: event_severity(&entry),
        instance: entry.event.instance.as_ref().map(ToString::to_string),
        text: entry.text,
        advice: entry.advice,
    }
}

fn event_severity(entry: &TimelineEntry) -> Severity {
    match &entry.event.kind {
        EventKind::BootReport { step: Some(step), rc, .. } if step.is_success(rc.as_deref()) => {
            Severity::Success
        }
        EventKind::BootReport { .. }
        | EventKind::HttpFetch { size: None, .. }
        | EventKind::NoNetworkBoot { .. } => Severity::Error,
        EventKind::BootRequest(request) => match &request.outcome {
            BootOutcome::Boot => Severity::Info,
            BootOutcome::LocalDisk | BootOutcome::Url | BootOutcome::Shell => Severity::Neutral,
            BootOutcome::Refused => Severity::Error,
            BootOutcome::Wait | BootOutcome::Unknown | BootOutcome::Other(_) => Severity::Warning,
        },
        EventKind::Dhcp(dhcp) => match &dhcp.answer {
            None | Some(DhcpAnswer::Sent | DhcpAnswer::NetbootOff) => Severity::Neutral,
            Some(DhcpAnswer::UnknownMachine) => Severity::Warning,
            Some(_) => Severity::Error,
        },
        EventKind::LoopDelay { .. } => Severity::Warning,
        EventKind::TftpTransfer(transfer) if transfer.refusal.is_some() => Severity::Error,
        EventKind::TftpTransfer(transfer) => match &transfer.outcome {
            TransferOutcome::Complete | TransferOutcome::Probe | TransferOutcome::Unconfirmed => {
                Severity::Neutral
            }
            TransferOutcome::Aborted => Severity::Warning,
            TransferOutcome::Replaced
            | TransferOutcome::TimedOut
            | TransferOutcome::Stopped
            | TransferOutcome::NotFound
            | TransferOutcome::Busy
            | TransferOutcome::Refused
            | TransferOutcome::Other(_) => Severity::Error,
        },
        EventKind::HttpFetch { .. } | EventKind::SessionStarted => Severity::Neutral,
    }
}
