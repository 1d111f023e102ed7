//! [`MachineRecord`]: what the timeline keeps of a machine, beside its events.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::machine_id::MachineId;
use super::progress::BootProgress;
use crate::model::{CardSighting, DhcpStep, InstanceName, Mac, Platform};
use crate::telemetry::{DhcpEvent, Event, EventKind, PowerOnTimes};

/// Number of a machine record in the history file.
pub(super) type RecordId = u64;

/// Key of an event in the history file: machine record, and number within it.
pub(super) type EventKey = (RecordId, u64);

/// Bytes of a record beside its texts, in memory and in the history.
const BASE_SIZE: usize = 512;

/// The data of a machine, held in memory and in the history file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MachineRecord {
    pub(super) id: MachineId,
    /// Last source IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uuid: Option<Uuid>,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "Platform::deserialize_known"
    )]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) arch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_name_bytes: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) macs: Vec<Mac>,
    /// The node's card that the neighbour table last showed for the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sighting: Option<CardSighting>,
    /// Time of the last boot request for which the neighbour table of any instance showed a card of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) attached_at: Option<Timestamp>,
    /// Whether the last boot request claimed a machine against the requester's place in the network.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) is_rejected: bool,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Number of the next event.
    pub(super) next_event: u64,
    /// Number of stored events.
    pub(super) event_count: u64,
    /// About how many bytes they take; 0 in the file of a version that did not count them.
    #[serde(default)]
    pub(super) event_bytes: u64,
    /// Stored DHCP requests since the last event of another kind.
    #[serde(default)]
    pub(super) dhcp_run: u32,
    pub(super) progress: BootProgress,
}

/// The order in which a full history evicts machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionClass {
    /// An IP address that never became a machine.
    Address,
    /// A machine without a node.
    Unknown,
    /// A machine with a node.
    Node,
}

impl EvictionClass {
    /// Label for metrics.
    pub(super) fn as_label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Unknown => "unknown",
            Self::Node => "node",
        }
    }
}

impl MachineRecord {
    /// The record of a machine before its first event, which is given.
    pub(super) fn new(id: MachineId, first: &Event) -> Self {
        Self {
            id,
            address: first.address,
            node: None,
            name: None,
            uuid: None,
            platform: None,
            arch: None,
            host_name_bytes: None,
            macs: Vec::new(),
            sighting: None,
            attached_at: None,
            is_rejected: false,
            first_seen: first.at,
            last_seen: first.at,
            next_event: 0,
            event_count: 0,
            event_bytes: 0,
            dhcp_run: 0,
            progress: BootProgress::new(first),
        }
    }

    pub(super) fn class(&self) -> EvictionClass {
        match (self.id, self.node) {
            (MachineId::Address(_), _) => EvictionClass::Address,
            (MachineId::Mac(_), None) => EvictionClass::Unknown,
            (MachineId::Mac(_), Some(_)) => EvictionClass::Node,
        }
    }

    /// Sort key for eviction: by class, and the least recently seen first.
    pub(super) fn eviction_rank(&self, record_id: RecordId) -> (EvictionClass, Timestamp, RecordId) {
        (self.class(), self.last_seen, record_id)
    }

    /// About how many bytes the record and its events take in the history.
    pub(super) fn byte_size(&self) -> u64 {
        let words = [&self.name, &self.arch].into_iter().flatten().map(String::len).sum::<usize>();
        let own = BASE_SIZE + words + size_of_val(self.macs.as_slice()) + self.progress.texts_size();
        own as u64 + self.event_bytes
    }

    /// Rebuilds the state from the stored events, in the order of time.
    pub(super) fn replay(&mut self, events: &[Event], own: Option<&InstanceName>) {
        let Some(progress) = BootProgress::replay(events, &self.progress) else { return };
        self.progress = progress;
        for event in events {
            self.update(event, own);
        }
    }

    /// Updates the facts with the next event. An event of the past, moved here from an IP address, is not the last one.
    /// `own`: this instance of a cluster.
    pub(super) fn update(&mut self, event: &Event, own: Option<&InstanceName>) {
        self.last_seen = self.last_seen.max(event.at);
        self.first_seen = self.first_seen.min(event.at);
        // A DHCP request may be forged: it moves no machine that is up to another address.
        // An offered address is not the machine's yet.
        let is_doubtful = match &event.kind {
            EventKind::Dhcp(dhcp) => dhcp.step == DhcpStep::Offer || self.progress.stage.is_complete(),
            _ => false,
        };
        self.address = event.address.filter(|_| !is_doubtful).or(self.address);
        if let EventKind::Dhcp(DhcpEvent { node: Some(node), name, .. }) = &event.kind {
            self.node = Some(*node);
            self.name.clone_from(name);
        }
        if let EventKind::NoNetworkBoot { node, .. } = &event.kind {
            self.node = Some(*node);
        }
        if let EventKind::BootRequest(request) = &event.kind {
            self.is_rejected = request.claimed_mac.is_some();
            if self.is_rejected {
                // The claim says nothing about the requester's own hardware and node.
                return;
            }
            self.node = request.node;
            self.name.clone_from(&request.name);
            self.macs.clone_from(&request.macs);
            self.uuid = request.uuid.or(self.uuid);
            self.platform = request.platform.or(self.platform);
            self.arch = request.arch.clone().or(self.arch.take());
            if request.attached_card.is_some() {
                self.attached_at = self.attached_at.max(Some(event.at));
            }
            let is_joined = event.instance.as_ref().is_some_and(|instance| Some(instance) != own);
            // The neighbour table of another instance shows its networks, not those of this host.
            let own_card = request.attached_card.filter(|_| !is_joined);
            let sighting = own_card.map(|mac| CardSighting { mac, at: event.at });
            self.sighting = sighting.or(self.sighting);
            self.host_name_bytes = request.host_name_bytes.or(self.host_name_bytes);
        }
    }

    /// Finds out at the boot request, which names the node, whether volboot switched the machine on for this session.
    pub(super) fn find_power_on(&mut self, event: &Event, times: &PowerOnTimes) {
        let (EventKind::BootRequest(_), Some(node)) = (&event.kind, self.node) else { return };
        let started_at = self.progress.journey_started_at;
        if let Some(at) = times.take(node, started_at) {
            self.progress.milestones.note_power_on(started_at, at);
        }
    }

    /// Whether a time of the record is after `now`.
    pub(super) fn is_after(&self, now: Timestamp) -> bool {
        self.last_seen > now || self.progress.updated_at > now
    }

    /// Corrects times after `now`, which a wrong clock has left.
    pub(super) fn correct_times(&mut self, now: Timestamp) {
        self.first_seen = self.first_seen.min(now);
        self.last_seen = self.last_seen.min(now);
        if let Some(sighting) = &mut self.sighting {
            sighting.at = sighting.at.min(now);
        }
        self.attached_at = self.attached_at.map(|at| at.min(now));
        self.progress.correct_times(now);
    }

    /// Adds a stored event to the counts.
    pub(super) fn count_event(&mut self, event: &Event) {
        let is_dhcp = matches!(event.kind, EventKind::Dhcp(_));
        self.dhcp_run = if is_dhcp { self.dhcp_run + 1 } else { 0 };
        self.event_count += 1;
        self.event_bytes += event.byte_size() as u64;
    }

    /// Removes a stored event from the counts; its size is taken as the mean.
    pub(super) fn discount_oldest_event(&mut self) {
        self.event_bytes -= self.event_bytes.checked_div(self.event_count).unwrap_or_default();
        self.event_count = self.event_count.saturating_sub(1);
    }

    /// Removes stored events from the counts.
    pub(super) fn discount_events(&mut self, events: &[(u64, Event)]) {
        let bytes: usize = events.iter().map(|(_, event)| event.byte_size()).sum();
        self.event_count = self.event_count.saturating_sub(events.len() as u64);
        self.event_bytes = self.event_bytes.saturating_sub(bytes as u64);
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde's skip_serializing_if")]
fn is_false(flag: &bool) -> bool {
    !flag
}
