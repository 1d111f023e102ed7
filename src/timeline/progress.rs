//! [`BootProgress`]: the state of a machine's current boot session, updated event by event.
//!
//! A boot session starts when the machine asks for an address by DHCP, reads a file over TFTP or HTTP, or reads
//! `/boot.ipxe`. It lasts until the next one starts. This module reads no clock; [`super::verdict`] judges the state at a given time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::dhcp_progress::DhcpProgress;
use crate::model::{BootOutcome, BootStep, DhcpStep, TransferOutcome, excerpt};
use crate::telemetry::{BootRequestEvent, DhcpEvent, Event, EventKind, TftpTransfer};

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
}

/// The stages of a boot session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum BootStage {
    /// The machine has sent DHCP requests.
    DhcpRequested,
    /// The machine has read a file, or queried its size.
    Loaded {
        /// File name.
        file: String,
        /// Whether over HTTP instead of TFTP.
        #[serde(default)]
        http: bool,
    },
    /// The machine has read a script that ends the boot, instead of the file.
    LoadRefused {
        /// The reason in the script.
        reason: String,
    },
    /// The machine did not get a file.
    LoadFailed {
        /// File name.
        file: String,
        /// Outcome of the transfer.
        outcome: TransferOutcome,
        /// Whether over HTTP instead of TFTP.
        #[serde(default)]
        http: bool,
    },
    /// The machine has read `/boot.ipxe`.
    SessionStarted,
    /// The machine's boot request had an outcome other than `boot`.
    NoBoot {
        /// Outcome of the request.
        outcome: BootOutcome,
        /// Reason of the outcome.
        reason: String,
        /// Whether the machine could boot, but is held back as a boot loop.
        #[serde(default)]
        held: bool,
    },
    /// The machine has its boot script.
    ScriptSent {
        /// Number of the try.
        attempt: u32,
    },
    /// The machine has logged in at its targets and found the disks.
    Hooked,
    /// The machine reported a failed step.
    Failed,
    /// The operating system reported `up`.
    Up,
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
            tries: 0,
            hooks: Vec::new(),
            failure: None,
            hooked_at: None,
            server: None,
        };
        progress.count_load(&first.kind);
        progress.record_facts(first);
        progress
    }

    /// Updates the state with the next event.
    pub fn apply(&mut self, event: &Event) {
        if self.starts_session(event) {
            // A machine that boots from its local disk hooks no volume; its sessions are no loop.
            let succeeded = self.hooked_at.is_some() || self.stage.is_local_disk();
            // A boot request without a preceding file does not count: other clients may repeat it at will.
            let increment = u32::from(!matches!(event.kind, EventKind::BootRequest(_)));
            self.journeys_without_hook =
                if succeeded { 1 } else { self.journeys_without_hook.saturating_add(increment) };
            self.is_delayed &= !succeeded;
            (self.journey_started_at, self.failure, self.hooked_at) = (event.at, None, None);
            self.server = None;
            (self.repeated_loads, self.dhcp) = (0, None);
            if matches!(event.kind, EventKind::Dhcp(_)) {
                self.stage = BootStage::DhcpRequested;
            }
        }
        self.count_load(&event.kind);
        self.stage = BootStage::after(Some(&self.stage), &event.kind);
        self.record_facts(event);
        self.updated_at = event.at;
    }

    /// Corrects times after `now`, which a wrong clock has left.
    pub(super) fn correct_times(&mut self, now: Timestamp) {
        self.updated_at = self.updated_at.min(now);
        self.journey_started_at = self.journey_started_at.min(now);
        self.hooked_at = self.hooked_at.map(|at| at.min(now));
    }

    /// Cuts the texts that a version without this rule has stored.
    pub(super) fn cut_texts(&mut self) {
        match &mut self.stage {
            BootStage::Loaded { file, .. } | BootStage::LoadFailed { file, .. } => *file = excerpt(file),
            BootStage::DhcpRequested
            | BootStage::SessionStarted
            | BootStage::LoadRefused { .. }
            | BootStage::NoBoot { .. }
            | BootStage::ScriptSent { .. }
            | BootStage::Hooked
            | BootStage::Failed
            | BootStage::Up => {}
        }
    }

    /// Bytes of all texts.
    pub(super) fn texts_size(&self) -> usize {
        let stage = match &self.stage {
            BootStage::Loaded { file, .. } | BootStage::LoadFailed { file, .. } => file.len(),
            BootStage::LoadRefused { reason } | BootStage::NoBoot { reason, .. } => reason.len(),
            BootStage::DhcpRequested
            | BootStage::SessionStarted
            | BootStage::ScriptSent { .. }
            | BootStage::Hooked
            | BootStage::Failed
            | BootStage::Up => 0,
        };
        let dhcp = self.dhcp.as_ref().map_or(0, DhcpProgress::texts_size);
        stage + dhcp + self.hooks.iter().map(String::len).sum::<usize>()
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
    fn starts_session(&self, event: &Event) -> bool {
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
            EventKind::TftpTransfer(_) | EventKind::HttpFetch { .. } | EventKind::SessionStarted => {}
        }
    }
}

impl BootStage {
    /// The stage after an event; `before` is `None` for a machine's first event.
    fn after(before: Option<&Self>, kind: &EventKind) -> Self {
        match kind {
            EventKind::Dhcp(_) => before.cloned().unwrap_or(Self::DhcpRequested),
            EventKind::TftpTransfer(TftpTransfer { outcome, refusal: Some(reason), .. })
                if outcome.is_whole_file() =>
            {
                Self::LoadRefused { reason: reason.clone() }
            }
            EventKind::TftpTransfer(TftpTransfer { file, outcome, .. }) => match outcome {
                TransferOutcome::Complete
                | TransferOutcome::Unconfirmed
                | TransferOutcome::Probe
                | TransferOutcome::Replaced => Self::Loaded { file: file.clone(), http: false },
                TransferOutcome::NotFound => Self::after_missing_file(before, file, false),
                TransferOutcome::Aborted
                | TransferOutcome::TimedOut
                | TransferOutcome::Stopped
                | TransferOutcome::Busy
                | TransferOutcome::Refused
                | TransferOutcome::Other(_) => {
                    Self::LoadFailed { file: file.clone(), outcome: outcome.clone(), http: false }
                }
            },
            EventKind::HttpFetch { file, size: Some(_) } => Self::Loaded { file: file.clone(), http: true },
            EventKind::HttpFetch { file, size: None } => Self::after_missing_file(before, file, true),
            EventKind::SessionStarted => Self::SessionStarted,
            EventKind::BootRequest(request) => Self::after_boot_request(request),
            // The earlier events are gone; the machine has read a script with its journey.
            EventKind::LoopDelay { .. } => before.cloned().unwrap_or(Self::SessionStarted),
            EventKind::BootReport { step, rc, .. } => {
                match step.as_ref().filter(|step| step.is_success(rc.as_deref())) {
                    Some(BootStep::Hooked) => Self::Hooked,
                    Some(BootStep::Up) => Self::Up,
                    Some(BootStep::Hook(_) | BootStep::Boot | BootStep::Other(_)) | None => Self::Failed,
                }
            }
        }
    }

    /// After a load, a missing file is no failure: recent iPXE looks for an optional script beside its own binary.
    fn after_missing_file(before: Option<&Self>, file: &str, http: bool) -> Self {
        let past_load = before.filter(|stage| matches!(stage, Self::Loaded { .. } | Self::SessionStarted));
        past_load.cloned().unwrap_or_else(|| Self::LoadFailed {
            file: file.to_owned(),
            outcome: TransferOutcome::NotFound,
            http,
        })
    }

    fn after_boot_request(request: &BootRequestEvent) -> Self {
        match &request.outcome {
            BootOutcome::Boot => Self::ScriptSent { attempt: request.attempt },
            outcome @ (BootOutcome::Wait
            | BootOutcome::LocalDisk
            | BootOutcome::Unknown
            | BootOutcome::Refused
            | BootOutcome::Other(_)) => Self::NoBoot {
                outcome: outcome.clone(),
                reason: request.reason.clone().unwrap_or_default(),
                held: request.held,
            },
        }
    }

    /// Whether the machine waits because of a boot loop.
    pub(super) fn is_held(&self) -> bool {
        matches!(self, Self::NoBoot { held: true, .. })
    }

    fn is_local_disk(&self) -> bool {
        matches!(self, Self::NoBoot { outcome: BootOutcome::LocalDisk, .. })
    }
}

/// Whether a DHCP request starts a boot session. `is_recent`: whether the stage was reached a short time ago.
///
/// Firmware asks for an address once in a session. iPXE asks again after it was loaded, and may do so between two tries.
fn dhcp_starts_session(dhcp: &DhcpEvent, stage: &BootStage, is_recent: bool) -> bool {
    dhcp.step == DhcpStep::Discover
        && match stage {
            BootStage::DhcpRequested => !is_recent,
            BootStage::Hooked | BootStage::Up | BootStage::NoBoot { outcome: BootOutcome::LocalDisk, .. } => {
                true
            }
            BootStage::Loaded { .. }
            | BootStage::LoadRefused { .. }
            | BootStage::LoadFailed { .. }
            | BootStage::SessionStarted
            | BootStage::NoBoot { .. }
            | BootStage::ScriptSent { .. }
            | BootStage::Failed => !dhcp.ipxe || !is_recent,
        }
}
