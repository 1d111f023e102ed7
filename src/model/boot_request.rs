//! [`BootRequest`]: a machine's request for its boot script, with the facts that iPXE sent.

use uuid::Uuid;

use super::{Mac, NeighbourCheck, Platform};

/// The most network cards of one machine that are considered; `/boot.ipxe` collects as many.
pub const MAX_MACS: usize = 8;

/// One boot request; a machine retries with the same facts and a higher attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootRequest {
    /// The MAC address of the boot card, then of the machine's other cards, without duplicates.
    pub macs: Vec<Mac>,
    /// Whether the machine has more cards than these.
    pub has_more_cards: bool,
    /// The firmware; `None` if iPXE named none or an unsupported one.
    pub platform: Option<Platform>,
    /// iPXE's build architecture, such as `x86_64`, for display. Implausible values are dropped.
    pub arch: Option<String>,
    /// The machine's SMBIOS UUID: for the timeline only, since boards in the field share UUIDs.
    pub uuid: Option<Uuid>,
    /// The boot-session id, issued with `/boot.ipxe`. A request outside a boot session has none.
    pub journey: Option<String>,
    /// The number of this request within the boot session, from 1.
    pub attempt: u32,
    /// Bytes of the host name that iPXE writes into the iBFT; 0 without a host name, `None` if not reported.
    pub host_name_bytes: Option<usize>,
    /// The most entries for the iBFT, after a try that failed with more. `None`: no failed try.
    pub max_ibft_entries: Option<usize>,
    /// The result of the neighbour check, which the requester cannot forge.
    pub neighbour_check: NeighbourCheck,
}

impl BootRequest {
    /// The first request of a machine with this boot card.
    pub fn new(mac: Mac) -> Self {
        Self {
            macs: vec![mac],
            has_more_cards: false,
            platform: None,
            arch: None,
            uuid: None,
            journey: None,
            attempt: 1,
            host_name_bytes: None,
            max_ibft_entries: None,
            neighbour_check: NeighbourCheck::Unchecked,
        }
    }

    /// The MAC address of the boot card.
    pub fn mac(&self) -> Mac {
        self.macs[0]
    }

    /// Adds the machine's other cards; skips duplicates and cards beyond the limit.
    pub fn with_macs(mut self, macs: impl IntoIterator<Item = Mac>) -> Self {
        for mac in macs {
            if self.macs.len() <= MAX_MACS && !self.macs.contains(&mac) {
                self.macs.push(mac);
            }
        }
        self
    }
}
