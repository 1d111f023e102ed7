//! [`BootStage`]: how far a machine has come in its boot session, and the stage after each event.

use serde::{Deserialize, Serialize};

use crate::model::{BootOutcome, BootStep, DhcpStep, TransferOutcome};
use crate::telemetry::{BootRequestEvent, DhcpEvent, EventKind, TftpTransfer};

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
    /// The machine was switched on to boot from the network, and has sent nothing.
    NoNetworkBoot {
        /// Time since it was switched on, in seconds.
        seconds: u32,
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

impl BootStage {
    /// The stage after an event; `before` is `None` for a machine's first event.
    pub(super) fn after(before: Option<&Self>, kind: &EventKind) -> Self {
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
            EventKind::NoNetworkBoot { seconds, .. } => Self::NoNetworkBoot { seconds: *seconds },
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
            | BootOutcome::Url
            | BootOutcome::Shell
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

    /// Whether the machine is up, as far as is known: in its operating system, or about to start it.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Hooked | Self::Up) || self.is_without_volume()
    }

    /// Whether the machine was sent to something other than a volume.
    pub(super) fn is_without_volume(&self) -> bool {
        matches!(self, Self::NoBoot { outcome, .. } if outcome.is_without_volume())
    }
}

/// Whether a DHCP request starts a boot session. `is_recent`: whether the stage was reached a short time ago.
///
/// Firmware asks for an address once in a session. iPXE asks again after it was loaded, and may do so between two tries.
pub(super) fn dhcp_starts_session(dhcp: &DhcpEvent, stage: &BootStage, is_recent: bool) -> bool {
    dhcp.step == DhcpStep::Discover
        && match stage {
            BootStage::DhcpRequested => !is_recent,
            // Complete boots: see `DhcpAfterBoot`.
            BootStage::Hooked | BootStage::Up => false,
            BootStage::Loaded { .. }
            | BootStage::LoadRefused { .. }
            | BootStage::LoadFailed { .. }
            | BootStage::NoNetworkBoot { .. }
            | BootStage::SessionStarted
            | BootStage::NoBoot { .. }
            | BootStage::ScriptSent { .. }
            | BootStage::Failed => !dhcp.ipxe || !is_recent,
        }
}
