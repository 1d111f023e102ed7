//! [`BootProgress`]: the state of a machine's current boot session, updated event by event.
//!
//! A boot session starts when the machine reads a file over TFTP or HTTP, or reads `/boot.ipxe`. It lasts until the
//! next one starts. This module reads no clock; [`super::verdict`] judges the state at a given time.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::telemetry::{BootRequestEvent, Event, EventKind};

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
}

/// The stages of a boot session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum BootStage {
    /// The machine has read a file, or queried its size.
    Loaded {
        /// File name.
        file: String,
        /// Whether over HTTP instead of TFTP.
        #[serde(default)]
        http: bool,
    },
    /// The machine did not get a file.
    LoadFailed {
        /// File name.
        file: String,
        /// Outcome of the transfer.
        outcome: String,
        /// Whether over HTTP instead of TFTP.
        #[serde(default)]
        http: bool,
    },
    /// The machine has read `/boot.ipxe`.
    SessionStarted,
    /// The machine's boot request had an outcome other than `boot`.
    NoBoot {
        /// Outcome: `wait`, `local_disk`, `unknown` or `refused`.
        outcome: String,
        /// Reason of the outcome.
        reason: String,
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
    /// Name of the step.
    pub step: String,
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
            // Placeholder: the first event of any kind belongs to this session.
            stage: BootStage::LoadFailed { file: String::new(), outcome: String::new(), http: false },
            journeys_without_hook: 1,
            is_delayed: false,
            repeated_loads: 0,
            tries: 0,
            hooks: Vec::new(),
            failure: None,
            hooked_at: None,
        };
        progress.apply(first);
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
            self.repeated_loads = 0;
        }
        self.count_load(&event.kind);
        self.stage = match &event.kind {
            EventKind::TftpTransfer(transfer) => match transfer.outcome.as_ref() {
                "complete" | "unconfirmed" | "probe" | "replaced" => {
                    BootStage::Loaded { file: transfer.file.clone(), http: false }
                }
                // Recent iPXE looks for an optional script beside its own binary.
                "not_found" if self.stage.is_past_load() => self.stage.clone(),
                outcome => BootStage::LoadFailed {
                    file: transfer.file.clone(),
                    outcome: outcome.to_owned(),
                    http: false,
                },
            },
            EventKind::HttpFetch { file, size: Some(_) } => {
                BootStage::Loaded { file: file.clone(), http: true }
            }
            EventKind::HttpFetch { .. } if self.stage.is_past_load() => self.stage.clone(),
            EventKind::HttpFetch { file, size: None } => {
                BootStage::LoadFailed { file: file.clone(), outcome: "not_found".into(), http: true }
            }
            EventKind::SessionStarted => BootStage::SessionStarted,
            EventKind::BootRequest(request) => self.apply_boot_request(request),
            EventKind::LoopDelay { journeys, .. } => {
                self.is_delayed = true;
                self.journeys_without_hook = self.journeys_without_hook.max(*journeys);
                self.stage.clone()
            }
            EventKind::BootReport { step, rc, attempt } => {
                self.apply_report(event.at, step.as_deref(), rc.as_ref(), *attempt)
            }
        };
        self.updated_at = event.at;
    }

    /// Counts complete loads of one file in a row. iPXE that gets itself instead of a script loads itself endlessly.
    fn count_load(&mut self, kind: &EventKind) {
        let loaded = match kind {
            EventKind::TftpTransfer(transfer) => {
                matches!(transfer.outcome.as_ref(), "complete" | "unconfirmed").then_some(&transfer.file)
            }
            EventKind::HttpFetch { file, size } => size.and(Some(file)),
            _ => {
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
            BootStage::Loaded { .. } | BootStage::LoadFailed { .. } | BootStage::SessionStarted
        ) && event.at.duration_since(self.updated_at) < SESSION_GAP;
        match &event.kind {
            EventKind::TftpTransfer(_) | EventKind::HttpFetch { .. } | EventKind::SessionStarted => {
                !is_loading || self.stage == BootStage::SessionStarted
            }
            // A machine that waits or was refused repeats its request with the same try number.
            EventKind::BootRequest(request) => {
                request.attempt == 1
                    && matches!(self.stage, BootStage::Hooked | BootStage::Up | BootStage::Failed)
            }
            EventKind::LoopDelay { .. } | EventKind::BootReport { .. } => false,
        }
    }

    fn apply_boot_request(&mut self, request: &BootRequestEvent) -> BootStage {
        self.tries = request.tries;
        if request.outcome == "boot" {
            self.hooks.clone_from(&request.hooks);
            return BootStage::ScriptSent { attempt: request.attempt };
        }
        BootStage::NoBoot {
            outcome: request.outcome.clone().into_owned(),
            reason: request.reason.clone().unwrap_or_default(),
        }
    }

    fn apply_report(
        &mut self,
        at: Timestamp,
        step: Option<&str>,
        rc: Option<&String>,
        attempt: u32,
    ) -> BootStage {
        match (step, rc) {
            (Some("hooked"), None) => {
                (self.failure, self.hooked_at) = (None, Some(at));
                (self.journeys_without_hook, self.is_delayed) = (1, false);
                BootStage::Hooked
            }
            (Some("up"), _) => {
                self.failure = None;
                self.hooked_at.get_or_insert(at);
                (self.journeys_without_hook, self.is_delayed) = (1, false);
                BootStage::Up
            }
            (step, _) => {
                let step = step.unwrap_or("unnamed step").to_owned();
                self.failure = Some(StepFailure { step, rc: rc.cloned(), attempt });
                BootStage::Failed
            }
        }
    }
}

impl BootStage {
    fn is_local_disk(&self) -> bool {
        matches!(self, Self::NoBoot { outcome, .. } if outcome == "local_disk")
    }

    /// Whether a file was loaded, so that a missing further file is no failure.
    fn is_past_load(&self) -> bool {
        matches!(self, Self::Loaded { .. } | Self::SessionStarted)
    }
}
