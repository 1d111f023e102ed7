//! [`Machine`]: a machine as lists and details show it, with the verdict on its last boot.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::boot_state::Verdict;
use super::machine_id::MachineId;
use super::milestones::BootMilestones;
use super::record::MachineRecord;
use crate::model::{Mac, Platform};

/// A machine as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Id of the machine: the MAC address it boots with, or an IP address of an unidentified machine.
    pub id: MachineId,
    /// The node of the last boot request.
    pub node: Option<Uuid>,
    /// Name of that node at the time.
    pub name: Option<String>,
    /// Last source IP address.
    pub address: Option<IpAddr>,
    /// Firmware as reported by the machine.
    pub platform: Option<Platform>,
    /// iPXE's build architecture as reported by the machine.
    pub arch: Option<String>,
    /// Bytes of the machine's host name as reported by the machine. For predictions only.
    #[serde(skip)]
    pub host_name_bytes: Option<usize>,
    /// System UUID as reported by the machine.
    pub uuid: Option<Uuid>,
    /// All MAC addresses that the machine sent.
    pub macs: Vec<Mac>,
    /// Whether the neighbour table has shown one of the machine's cards on an attached network.
    #[serde(skip)]
    pub is_attached: bool,
    /// Whether the last boot request claimed another machine, against the requester's place in the network.
    #[serde(skip)]
    pub is_rejected: bool,
    /// Time of the last boot request for which the neighbour table showed a card of the node: the machine was on then.
    pub inferred_on_at: Option<Timestamp>,
    /// Time of the first event.
    pub first_seen: Timestamp,
    /// Time of the last event.
    pub last_seen: Timestamp,
    /// Start of the current boot session.
    pub journey_started_at: Timestamp,
    /// The milestones of that session.
    pub milestones: BootMilestones,
    /// Boot sessions in a row without a hooked volume.
    pub journeys_without_hook: u32,
    /// Result of the last boot.
    pub verdict: Verdict,
}

impl Machine {
    /// The machine of a record, with its verdict at a given time.
    pub(super) fn new(record: &MachineRecord, now: Timestamp) -> Self {
        Self {
            id: record.id,
            node: record.node,
            name: record.name.clone(),
            address: record.address,
            platform: record.platform,
            arch: record.arch.clone(),
            host_name_bytes: record.host_name_bytes,
            uuid: record.uuid,
            macs: record.macs.clone(),
            is_attached: record.sighting.is_some(),
            is_rejected: record.is_rejected,
            inferred_on_at: record.attached_at.max(record.sighting.map(|sighting| sighting.at)),
            first_seen: record.first_seen,
            last_seen: record.last_seen,
            journey_started_at: record.progress.journey_started_at,
            milestones: record.progress.milestones,
            journeys_without_hook: record.progress.journeys_without_hook,
            verdict: Verdict::new(&record.progress, now),
        }
    }

    /// Whether an id, the name, an address or the verdict contains `text`, which must be in lower case.
    pub fn matches_text(&self, text: &str) -> bool {
        let contains = |value: Option<String>| value.is_some_and(|value| value.to_lowercase().contains(text));
        contains(Some(self.id.to_string()))
            || contains(self.name.clone())
            || contains(self.node.map(|node| node.to_string()))
            || contains(self.address.map(|address| address.to_string()))
            || contains(self.uuid.map(|uuid| uuid.to_string()))
            || contains(Some(self.verdict.text.clone()))
            || self.macs.iter().any(|mac| mac.to_string().contains(text))
    }
}
