//! [`DhcpAfterBoot`]: DHCP requests of a machine whose boot is complete.
//!
//! Anyone on the link can forge a DHCP request with any MAC address. Such a request alone neither ends nor replaces the
//! boot session of a machine that is up: the verdict shows it beside. It belongs to a new session only if a file or a boot
//! request follows.
//!
//! A machine that was reset and gets no address sends nothing else. Its ROM asks several times, and waits longer each time
//! (PXE 2.1: 4, 8, 16, 32 s). Requests in this pattern are judged as a boot that stopped before TFTP. The session stays.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::boot_state::Verdict;
use super::dhcp_progress::DhcpProgress;
use super::dhcp_verdict::judge_dhcp;
use crate::model::DhcpStep;
use crate::telemetry::{DhcpEvent, Event};

/// Maximum time between two requests of one boot.
const MAX_GAP: SignedDuration = SignedDuration::from_mins(5);
/// A ROM without an offer has sent at least this many requests, over at least this time.
const ROM_REQUESTS: u32 = 3;
const ROM_DURATION: SignedDuration = SignedDuration::from_secs(10);

/// DHCP requests since the last event of another kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DhcpAfterBoot {
    /// Time of the first request.
    pub started_at: Timestamp,
    /// Time of the last request.
    pub updated_at: Timestamp,
    /// The requests.
    pub requests: DhcpProgress,
}

impl DhcpAfterBoot {
    /// The state after the next request. A boot begins with a DHCPDISCOVER: other requests alone are no sign of one.
    pub(super) fn after(before: Option<Self>, dhcp: &DhcpEvent, event: &Event) -> Option<Self> {
        let mut state = match before.filter(|before| before.precedes(event.at)) {
            Some(before) => before,
            None if dhcp.step == DhcpStep::Discover => {
                Self { started_at: event.at, updated_at: event.at, requests: DhcpProgress::default() }
            }
            None => return None,
        };
        state.requests.apply(dhcp, event.address, false);
        state.updated_at = event.at;
        Some(state)
    }

    /// Whether the requests may belong to the same boot as an event at this time.
    pub(super) fn precedes(&self, at: Timestamp) -> bool {
        at.duration_since(self.updated_at).abs() < MAX_GAP
    }

    /// Corrects times after `now`, which a wrong clock has left.
    pub(super) fn correct_times(&mut self, now: Timestamp) {
        self.started_at = self.started_at.min(now);
        self.updated_at = self.updated_at.min(now);
    }

    /// The verdict, given that on the boot before these requests. `is_recent`: whether a file may still follow.
    pub(super) fn judge(&self, boot: Verdict, is_recent: bool) -> Verdict {
        if self.is_of_rom() {
            let verdict = judge_dhcp(&self.requests, is_recent);
            let text = format!("{}; its last boot: {}", verdict.text, boot.text);
            return Verdict { text, ..verdict };
        }
        let (at, client) = (self.started_at, self.requests.client());
        let nothing = if is_recent { "" } else { ", and nothing followed" };
        let text = format!("{}; asked for an address again at {at:.0} ({client}){nothing}", boot.text);
        Verdict { text, ..boot }
    }

    /// Whether a ROM has most likely sent the requests.
    fn is_of_rom(&self) -> bool {
        self.requests.discovers >= ROM_REQUESTS
            && self.updated_at.duration_since(self.started_at) >= ROM_DURATION
    }
}
