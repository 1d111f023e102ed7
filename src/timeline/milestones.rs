//! [`BootMilestones`]: when a boot session reached each milestone, and the phases between them.
//!
//! | phase | ends when | seen by |
//! |---|---|---|
//! | address | the last DHCP request before the first file | the ProxyDHCP server |
//! | files | the last file was sent | TFTP server, boot listener |
//! | script | `/boot.ipxe` was sent | boot listener |
//! | volumes | the boot script was sent: all volumes were found and exported | boot listener |
//! | login | the machine reported `hooked` | report |
//! | system | the operating system reported `up`: loader, kernel and services | report |
//!
//! A phase without a milestone is part of the next one.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{BootOutcome, BootStep, TransferOutcome};
use crate::telemetry::{Event, EventKind};

/// The phases of a boot, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BootPhase {
    /// DHCP.
    Address,
    /// Files over TFTP or HTTP.
    Files,
    /// iPXE's start, and the script that gathers the machine's facts.
    Script,
    /// The boot request, until the boot script was sent: waits and earlier tries included.
    Volumes,
    /// Login at the targets.
    Login,
    /// Loader, kernel and services.
    System,
}

impl BootPhase {
    /// All phases.
    pub const ALL: [Self; 6] =
        [Self::Address, Self::Files, Self::Script, Self::Volumes, Self::Login, Self::System];

    /// Label for JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Files => "files",
            Self::Script => "script",
            Self::Volumes => "volumes",
            Self::Login => "login",
            Self::System => "system",
        }
    }
}

/// The milestones of a boot session, in milliseconds since its first event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMilestones {
    /// Milliseconds before the first event at which volboot switched the machine on, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub powered_on_before: Option<u32>,
    /// The duration of the first transfer, which began before its event.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lead: u32,
    /// The last DHCP request before the first file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<u32>,
    /// The last file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u32>,
    /// `/boot.ipxe`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<u32>,
    /// The last boot script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volumes: Option<u32>,
    /// The report `hooked`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<u32>,
    /// The report `up`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up: Option<u32>,
}

/// A phase of a boot, in milliseconds since the start of the boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PhaseSpan {
    /// The phase.
    pub phase: BootPhase,
    /// Its start.
    pub start_ms: u32,
    /// Its end.
    pub end_ms: u32,
}

impl PhaseSpan {
    /// The duration in milliseconds.
    pub const fn duration_ms(&self) -> u32 {
        self.end_ms.saturating_sub(self.start_ms)
    }
}

impl BootMilestones {
    /// The milestones of a session after its first event.
    pub(super) fn new(first: &Event) -> Self {
        let lead = match &first.kind {
            EventKind::TftpTransfer(transfer) => u32::try_from(transfer.duration_ms).unwrap_or(0),
            _ => 0,
        };
        let mut milestones = Self { lead, ..Self::default() };
        milestones.apply(first, first.at);
        milestones
    }

    /// Notes the milestone of an event of a session that started at `started_at`.
    pub(super) fn apply(&mut self, event: &Event, started_at: Timestamp) {
        let offset = Some(offset_ms(started_at, event.at));
        match &event.kind {
            EventKind::Dhcp(_) if self.files.is_none() && self.script.is_none() => self.address = offset,
            EventKind::TftpTransfer(transfer)
                if self.script.is_none() && transfer.outcome == TransferOutcome::Complete =>
            {
                self.files = offset;
            }
            EventKind::HttpFetch { size: Some(_), .. } if self.script.is_none() => self.files = offset,
            EventKind::SessionStarted => self.script = offset,
            EventKind::BootRequest(request) if request.outcome == BootOutcome::Boot => {
                // A machine may keep a script of its own, and read none.
                let request_ms = u32::try_from(request.duration_us / 1000).unwrap_or(u32::MAX);
                self.script = self.script.or(offset.map(|offset| offset.saturating_sub(request_ms)));
                (self.volumes, self.login) = (offset, None);
            }
            EventKind::BootReport { step: Some(step), rc, .. } if step.is_success(rc.as_deref()) => {
                match step {
                    BootStep::Hooked => self.login = self.login.or(offset),
                    BootStep::Up => self.up = self.up.or(offset),
                    BootStep::Hook(_) | BootStep::Boot | BootStep::Other(_) => {}
                }
            }
            EventKind::Dhcp(_)
            | EventKind::TftpTransfer(_)
            | EventKind::HttpFetch { .. }
            | EventKind::BootRequest(_)
            | EventKind::BootReport { .. }
            | EventKind::NoNetworkBoot { .. }
            | EventKind::LoopDelay { .. } => {}
        }
    }

    /// Notes the DHCP requests with which the session began, before its first other event.
    pub(super) fn with_address(self, started_at: Timestamp, requested_at: Timestamp) -> Self {
        Self { address: Some(offset_ms(started_at, requested_at)), ..self }
    }

    /// Notes when volboot switched the machine on.
    pub(super) fn note_power_on(&mut self, started_at: Timestamp, power_on_at: Timestamp) {
        self.powered_on_before = Some(offset_ms(power_on_at, started_at));
    }

    /// The phases that have ended, in their order.
    pub fn phases(&self) -> Vec<PhaseSpan> {
        let ends = [self.address, self.files, self.script, self.volumes, self.login, self.up];
        let mut start_ms = 0;
        let span = |(phase, end): (BootPhase, Option<u32>)| {
            let end_ms = end?.saturating_add(self.lead).max(start_ms);
            let span = PhaseSpan { phase, start_ms, end_ms };
            start_ms = end_ms;
            Some(span)
        };
        BootPhase::ALL.into_iter().zip(ends).filter_map(span).collect()
    }

    /// The milliseconds until the machine was up: since volboot switched it on, or else since the first sign of the boot.
    /// `true`: since it was switched on.
    pub fn up_after_ms(&self) -> Option<(u32, bool)> {
        let up = self.up?;
        Some(match self.powered_on_before {
            Some(before) => (up.saturating_add(before), true),
            None => (up.saturating_add(self.lead), false),
        })
    }
}

fn offset_ms(start: Timestamp, at: Timestamp) -> u32 {
    u32::try_from(at.duration_since(start).as_millis().max(0)).unwrap_or(u32::MAX)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "signature required by serde's skip_serializing_if")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
