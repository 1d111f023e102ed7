//! [`BootProgress`]: the state of a machine's current boot session, updated event by event.
//!
//! A boot session starts when the machine asks for an address by DHCP, reads a file over TFTP or HTTP, or reads
//! `/boot.ipxe`. It lasts until the next one starts. This module reads no clock; [`super::verdict`] judges the state at a given time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::boot_stage::{BootStage, dhcp_starts_session};
use super::dhcp_after_boot::DhcpAfterBoot;
use super::dhcp_progress::DhcpProgress;
use super::milestones::BootMilestones;
use crate::model::{BootOutcome, BootStep};
use crate::telemetry::{Event, EventKind};

/// Maximum time within one boot session between two files, or between a file and the boot request.
pub(super) const SESSION_GAP: SignedDuration = SignedDuration::from_mins(5);

/// The state of a machine's current boot session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootProgress {
    /// Start of the boot session.
    pub journey_started_at: Timestamp,
    /// Time of the last event.
    pub updated_at: Timestamp,
    /// Current stage.
    pub stage: BootStage,
    /// Boot sessions in a row without a hooked volume, including this one.
    #[serde(default)]
    pub journeys_without_hook: u32,
    /// Whether the loop detector has delayed the machine since its last hooked volume.
    #[serde(default)]
    pub is_delayed: bool,
    /// How often in a row the machine has read the same file completely, and nothing else.
    #[serde(default)]
    pub repeated_loads: u32,
    /// The DHCP requests of this boot session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpProgress>,
    /// The DHCP requests since the boot was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_after_boot: Option<DhcpAfterBoot>,
    /// Permitted tries in a boot session.
    #[serde(default)]
    pub tries: u32,
    /// Volume ids of the steps `hook-0`, `hook-1`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<String>,
    /// Last failed step in this boot session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<StepFailure>,
    /// Time at which the volumes were hooked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooked_at: Option<Timestamp>,
    /// Server of the volumes in the last boot script, if another client attached them for the node's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Uuid>,
    /// Source of the one-time boot that the last boot request got.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// The milestones of the boot session.
    #[serde(default)]
    pub milestones: BootMilestones,
}

/// A failed step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFailure {
    /// The step.
    pub step: BootStep,
    /// iPXE's error number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<String>,
    /// Number of the try.
    pub attempt: u32,
}

impl BootProgress {
    /// The state after a machine's first event.
    pub fn new(first: &Event) -> Self {
        let mut progress = Self {
            journey_started_at: first.at,
            updated_at: first.at,
            stage: BootStage::after(None, &first.kind),
            journeys_without_hook: 1,
            is_delayed: false,
            repeated_loads: 0,
            dhcp: None,
            dhcp_after_boot: None,
            tries: 0,
            hooks: Vec::new(),
            failure: None,
            hooked_at: None,
            server: None,
            once: None,
            milestones: BootMilestones::new(first),
        };
        progress.count_load(&first.kind);
        progress.record_facts(first);
        progress
    }

    /// Updates the state with the next event.
    pub fn apply(&mut self, event: &Event) {
        if let EventKind::Dhcp(dhcp) = &event.kind
            && self.stage.is_complete()
        {
            self.dhcp_after_boot = DhcpAfterBoot::after(self.dhcp_after_boot.take(), dhcp, event);
            return;
        }
        let requests = self.dhcp_after_boot.take().filter(|requests| requests.precedes(event.at));
        if self.starts_session(event) {
            // A machine that boots without a volume hooks none; its sessions are no loop.
            let succeeded = self.hooked_at.is_some() || self.stage.is_without_volume();
            // A boot request without a preceding file does not count: other clients may repeat it at will.
            let has_read_file =
                !matches!(event.kind, EventKind::BootRequest(_) | EventKind::NoNetworkBoot { .. });
            let increment = u32::from(has_read_file);
            self.journeys_without_hook =
                if succeeded { 1 } else { self.journeys_without_hook.saturating_add(increment) };
            self.is_delayed &= !succeeded;
            let started_at = requests.as_ref().map(|requests| requests.started_at.min(event.at));
            self.journey_started_at = started_at.unwrap_or(event.at);
            self.milestones = BootMilestones::new(event);
            if let Some(requests) = &requests {
                self.milestones =
                    BootMilestones::default().with_address(requests.started_at, requests.updated_at);
            }
            (self.failure, self.hooked_at, self.server, self.once) = (None, None, None, None);
            (self.repeated_loads, self.dhcp) = (0, requests.map(|requests| requests.requests));
            if matches!(event.kind, EventKind::Dhcp(_)) {
                self.stage = BootStage::DhcpRequested;
            }
        }
        self.count_load(&event.kind);
        self.stage = BootStage::after(Some(&self.stage), &event.kind);
        self.record_facts(event);
        self.milestones.apply(event, self.journey_started_at);
        self.updated_at = event.at;
    }

    /// Corrects times after `now`, which a wrong clock has left.
    pub(super) fn correct_times(&mut self, now: Timestamp) {
        self.updated_at = self.updated_at.min(now);
        self.journey_started_at = self.journey_started_at.min(now);
        self.hooked_at = self.hooked_at.map(|at| at.min(now));
        if let Some(requests) = &mut self.dhcp_after_boot {
            requests.correct_times(now);
        }
    }

    /// Counts complete loads of one file in a row. iPXE that gets itself instead of a script loads itself endlessly.
    fn count_load(&mut self, kind: &EventKind) {
        let loaded = match kind {
            EventKind::TftpTransfer(transfer) if transfer.refusal.is_some() => None,
            EventKind::TftpTransfer(transfer) => transfer.outcome.is_whole_file().then_some(&transfer.file),
            EventKind::HttpFetch { file, size } => size.and(Some(file)),
            // A loop of loads has DHCP requests between them.
            EventKind::Dhcp(_) => None,
            EventKind::SessionStarted
            | EventKind::BootRequest(_)
            | EventKind::BootReport { .. }
            | EventKind::NoNetworkBoot { .. }
            | EventKind::LoopDelay { .. } => {
                self.repeated_loads = 0;
                None
            }
        };
        let Some(loaded) = loaded else { return };
        let is_repeated = matches!(&self.stage, BootStage::Loaded { file, .. } if file == loaded);
        self.repeated_loads = if is_repeated { self.repeated_loads.saturating_add(1) } else { 1 };
    }

    /// Whether an event starts a new boot session.
    pub(super) fn starts_session(&self, event: &Event) -> bool {
        let is_loading = matches!(
            self.stage,
            BootStage::DhcpRequested
                | BootStage::Loaded { .. }
                | BootStage::LoadFailed { .. }
                | BootStage::SessionStarted
        ) && event.at.duration_since(self.updated_at).abs() < SESSION_GAP;
        match &event.kind {
            EventKind::TftpTransfer(_) | EventKind::HttpFetch { .. } | EventKind::SessionStarted => {
                !is_loading || self.stage == BootStage::SessionStarted
            }
            EventKind::Dhcp(dhcp) => {
                let is_recent = event.at.duration_since(self.updated_at).abs() < SESSION_GAP;
                dhcp_starts_session(dhcp, &self.stage, is_recent)
            }
            // A machine that waits or was refused repeats its request with the same try number.
            EventKind::BootRequest(request) => {
                request.attempt == 1
                    && matches!(self.stage, BootStage::Hooked | BootStage::Up | BootStage::Failed)
            }
            EventKind::NoNetworkBoot { .. } => true,
            EventKind::LoopDelay { .. } | EventKind::BootReport { .. } => false,
        }
    }

    /// Records the facts of an event beyond the stage.
    fn record_facts(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Dhcp(dhcp) => {
                let is_loaded = self.stage != BootStage::DhcpRequested;
                self.dhcp.get_or_insert_default().apply(dhcp, event.address, is_loaded);
            }
            EventKind::BootRequest(request) => {
                self.tries = request.tries;
                self.once.clone_from(&request.once);
                self.server = request.resolutions.iter().find_map(|resolution| resolution.server);
                if request.outcome == BootOutcome::Boot {
                    self.hooks.clone_from(&request.hooks);
                }
            }
            EventKind::BootReport { step, rc, attempt } if self.stage == BootStage::Failed => {
                let step = step.clone().unwrap_or_else(BootStep::unnamed);
                self.failure = Some(StepFailure { step, rc: rc.clone(), attempt: *attempt });
            }
            EventKind::BootReport { .. } => {
                // `up` keeps the time of `hooked`.
                self.hooked_at = self.hooked_at.filter(|_| self.stage == BootStage::Up).or(Some(event.at));
                self.failure = None;
                (self.journeys_without_hook, self.is_delayed) = (1, false);
            }
            EventKind::LoopDelay { journeys, .. } => {
                self.is_delayed = true;
                self.journeys_without_hook = self.journeys_without_hook.max(*journeys);
            }
            EventKind::TftpTransfer(_)
            | EventKind::HttpFetch { .. }
            | EventKind::SessionStarted
            | EventKind::NoNetworkBoot { .. } => {}
        }
    }
}
