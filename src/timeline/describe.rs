//! [`describe`]: events as lines of text for the operator, with advice.

use std::net::IpAddr;

use serde::Serialize;

use super::boot_state::in_words;
use super::dhcp_progress::name_client;
use super::no_network_boot::{ADVICE, describe_missing_boot};
use super::verdict::{describe_error, describe_step};
use crate::model::{
    BootOutcome, BootStep, DhcpAnswer, DhcpStep, InstanceServer, Platform, SourceKind, TransferOutcome,
};
use crate::telemetry::{BootRequestEvent, DhcpEvent, Event, EventKind, ResolutionEvent, TftpTransfer};

/// An event with its description.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelineEntry {
    /// Description in one line.
    pub text: String,
    /// Advice for the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Describes the events of a timeline.
pub fn describe(events: impl IntoIterator<Item = Event>) -> Vec<TimelineEntry> {
    let mut hooks = Vec::new();
    let entries = events.into_iter().map(|event| {
        if let EventKind::BootRequest(request) = &event.kind
            && !request.hooks.is_empty()
        {
            hooks.clone_from(&request.hooks);
        }
        describe_event(event, &hooks)
    });
    entries.collect()
}

/// Describes one event. `hooks`: the volume ids of the machine's last boot script.
pub(super) fn describe_event(event: Event, hooks: &[String]) -> TimelineEntry {
    let (mut text, advice) = describe_kind(&event.kind, event.address, hooks);
    if event.count > 1 {
        text.push_str(&format!(" ({} times)", event.count));
    }
    TimelineEntry { text, advice, event }
}

fn describe_kind(kind: &EventKind, address: Option<IpAddr>, hooks: &[String]) -> (String, Option<String>) {
    match kind {
        EventKind::Dhcp(dhcp) => (describe_dhcp(dhcp, address), None),
        EventKind::TftpTransfer(transfer) => (describe_transfer(transfer), None),
        EventKind::HttpFetch { file, size: Some(size) } => {
            (format!("requested {file} over HTTP: {size} bytes"), None)
        }
        EventKind::HttpFetch { file, size: None } => {
            (format!("requested {file} over HTTP: file not found"), None)
        }
        EventKind::SessionStarted => ("read /boot.ipxe".to_owned(), None),
        EventKind::BootRequest(request) => (describe_boot_request(request), None),
        EventKind::BootReport { step, rc, attempt } => {
            describe_report(step.as_ref(), rc.as_deref(), *attempt, hooks)
        }
        EventKind::NoNetworkBoot { seconds, .. } => {
            (describe_missing_boot(*seconds), Some(ADVICE.to_owned()))
        }
        EventKind::LoopDelay { journeys, seconds } => {
            (format!("delayed by {seconds} s: {journeys} boot sessions without a hooked volume"), None)
        }
    }
}

fn describe_dhcp(dhcp: &DhcpEvent, address: Option<IpAddr>) -> String {
    if dhcp.step.is_reply() {
        return describe_reply(dhcp, address);
    }
    let client = name_client(&dhcp.firmware, dhcp.ipxe);
    let address = address.map_or_else(|| "an address".to_owned(), |address| address.to_string());
    let relay = dhcp.relay.map(|relay| format!(" by relay {relay}")).unwrap_or_default();
    let request = match &dhcp.step {
        DhcpStep::Discover => format!("asked for an address ({client}){relay}"),
        DhcpStep::Request => match dhcp.server {
            Some(server) => format!("asks for {address} of {server} ({client})"),
            None => format!("asks for {address} ({client})"),
        },
        DhcpStep::BootServer => format!("asked for the boot file at port 4011 ({client})"),
        step @ (DhcpStep::Offer
        | DhcpStep::ProxyOffer
        | DhcpStep::Ack
        | DhcpStep::Nak
        | DhcpStep::Other(_)) => {
            format!("DHCP request ({client}): {}", in_words(step.as_str()))
        }
    };
    match (&dhcp.answer, &dhcp.file) {
        (None, _) => request,
        (Some(DhcpAnswer::Sent), Some(file)) => format!("{request}; answered with {file}"),
        (Some(DhcpAnswer::Sent), None) => format!("{request}; answered"),
        (Some(answer), _) => format!("{request}; no answer: {}", explain_silence(answer)),
    }
}

/// The reply of another server.
fn describe_reply(dhcp: &DhcpEvent, address: Option<IpAddr>) -> String {
    let server = dhcp.server.map_or_else(|| "a server".to_owned(), |server| server.to_string());
    let address = address.map_or_else(|| "an address".to_owned(), |address| address.to_string());
    let file = dhcp.file.as_ref().map(|file| format!(" with the boot file {file}")).unwrap_or_default();
    match &dhcp.step {
        DhcpStep::Ack => format!("{server} confirmed {address}{file}"),
        DhcpStep::Nak => format!("{server} refused the requested address"),
        DhcpStep::ProxyOffer => format!("{server}, another ProxyDHCP server, answered{file}"),
        _ => format!("{server} offered {address}{file}"),
    }
}

/// The reason for no answer.
fn explain_silence(answer: &DhcpAnswer) -> String {
    let reason = match answer {
        DhcpAnswer::UnknownMachine => "no node has a port with this address",
        DhcpAnswer::NetbootOff => "the node's property netboot is false",
        DhcpAnswer::PortDisabled => "the port has pxe_enabled false",
        DhcpAnswer::NoFile => "no boot file for this firmware",
        DhcpAnswer::MissingImage => "this host lacks the iPXE binary",
        DhcpAnswer::RelayNotNamed => "the relay is not in [dhcp] relays",
        DhcpAnswer::RateLimited => "too many requests",
        DhcpAnswer::StoreUnavailable => "the store did not answer",
        DhcpAnswer::Failed => "the answer could not be sent",
        DhcpAnswer::Sent | DhcpAnswer::Other(_) => return in_words(answer.as_str()),
    };
    reason.to_owned()
}

fn describe_transfer(transfer: &TftpTransfer) -> String {
    let TftpTransfer { file, size, block_size, window_size, blocks, retransmissions, duration_ms, .. } =
        transfer;
    let retransmissions = match retransmissions {
        0 => String::new(),
        1 => ", 1 retransmission".to_owned(),
        n => format!(", {n} retransmissions"),
    };
    let details = format!("{blocks} × {block_size} bytes, window {window_size}{retransmissions}");
    if let Some(reason) = transfer.refusal.as_ref().filter(|_| transfer.outcome.is_whole_file()) {
        return format!("requested {file} over TFTP, and got a script that ends the boot: {reason}");
    }
    match &transfer.outcome {
        TransferOutcome::Complete => {
            format!("read {file} over TFTP: {size} bytes in {duration_ms} ms ({details})")
        }
        TransferOutcome::Unconfirmed => {
            format!("read {file} over TFTP without acknowledging the last block: {size} bytes ({details})")
        }
        TransferOutcome::Probe => format!("queried the size of {file} over TFTP: {size} bytes"),
        TransferOutcome::NotFound => format!("requested {file} over TFTP: file not found"),
        TransferOutcome::Aborted => {
            let message = transfer.client_message.as_deref().filter(|message| !message.is_empty());
            let message = message.map(|message| format!(": \"{message}\"")).unwrap_or_default();
            format!("aborted reading {file} over TFTP after {blocks} blocks{message}")
        }
        outcome @ (TransferOutcome::Replaced
        | TransferOutcome::TimedOut
        | TransferOutcome::Stopped
        | TransferOutcome::Busy
        | TransferOutcome::Refused
        | TransferOutcome::Other(_)) => {
            let outcome = in_words(outcome.as_str());
            format!("failed to read {file} over TFTP: {outcome} after {duration_ms} ms ({details})")
        }
    }
}

fn describe_boot_request(request: &BootRequestEvent) -> String {
    let firmware = request.platform.map(Platform::firmware);
    let firmware = firmware.map(|firmware| format!(" ({firmware})")).unwrap_or_default();
    let volumes: Vec<_> = request.resolutions.iter().map(describe_resolution).collect();
    let volumes = if volumes.is_empty() { String::new() } else { format!("; {}", volumes.join("; ")) };
    let reason = request.reason.as_deref().unwrap_or_default();
    let once = request.once.as_ref().map(|source| format!(" for a one-time boot from {source}"));
    let once = once.unwrap_or_default();
    let outcome = match &request.outcome {
        BootOutcome::Boot if request.warnings.is_empty() => format!("boot script sent{once}"),
        BootOutcome::Boot => {
            format!("boot script sent{once} with a warning: {}", request.warnings.join("; "))
        }
        BootOutcome::Wait => format!("must wait: {reason}"),
        BootOutcome::LocalDisk => format!("sent to the local disk: {reason}"),
        BootOutcome::Url => format!("sent to a URL: {reason}"),
        BootOutcome::Shell => format!("iPXE shell: {reason}"),
        BootOutcome::Unknown => format!("unknown machine: {reason}"),
        BootOutcome::Refused => format!("refused: {reason}"),
        BootOutcome::Other(outcome) => format!("{}: {reason}", in_words(outcome)),
    };
    let claim = request.claimed_mac.map(|mac| format!(" for {mac}")).unwrap_or_default();
    format!("boot request{claim}{firmware}, try {}{volumes}; {outcome}", request.attempt)
}

fn describe_resolution(resolution: &ResolutionEvent) -> String {
    let source = describe_source(resolution);
    match resolution.server {
        Some(server) => format!("{source}, attached by {}", InstanceServer(server)),
        None => source,
    }
}

fn describe_source(resolution: &ResolutionEvent) -> String {
    let ResolutionEvent { volume, source, duration_ms, error, server: _ } = resolution;
    match (source, error) {
        (SourceKind::Records, _) => format!("volume {volume} from the node's records"),
        (SourceKind::Cinder, _) => format!("volume {volume} from Cinder in {duration_ms} ms"),
        (SourceKind::LastKnown, Some(error)) => {
            format!("volume {volume} from its last known connection in {duration_ms} ms (Cinder: {error})")
        }
        (SourceKind::LastKnown, None) => {
            format!("volume {volume} from its last known connection in {duration_ms} ms")
        }
        (SourceKind::Existing, error) => {
            let error = error.as_deref().unwrap_or_default();
            format!("volume {volume} from its attachment as it is, in {duration_ms} ms (Cinder: {error})")
        }
        (SourceKind::Confirmed, error) => {
            let error = error.as_deref().unwrap_or_default();
            format!(
                "volume {volume} from its record, confirmed by Cinder in {duration_ms} ms (store: {error})"
            )
        }
        (SourceKind::Other(_), Some(error)) => {
            format!("volume {volume} not resolved in {duration_ms} ms: {error}")
        }
        (SourceKind::Other(source), None) => {
            format!("volume {volume}: {} in {duration_ms} ms", in_words(source))
        }
    }
}

fn describe_report(
    step: Option<&BootStep>,
    rc: Option<&str>,
    attempt: u32,
    hooks: &[String],
) -> (String, Option<String>) {
    match step.filter(|step| step.is_success(rc)) {
        Some(BootStep::Hooked) => ("volumes hooked: login succeeded, disks found".into(), None),
        Some(BootStep::Up) => ("operating system is up".into(), None),
        Some(BootStep::Hook(_) | BootStep::Boot | BootStep::Other(_)) | None => {
            let step = describe_step(step.unwrap_or(&BootStep::unnamed()), hooks);
            let Some(rc) = rc else { return (format!("try {attempt}: {step} failed"), None) };
            let (cause, advice) = describe_error(rc);
            (format!("try {attempt}: {step} failed: {cause}"), Some(advice))
        }
    }
}
