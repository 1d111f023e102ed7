//! [`DhcpProgress`]: the DHCP requests of a machine's boot session.
//!
//! A socket on port 67 receives the broadcasts of machines only. The rest is inferred: a DHCPREQUEST names the address and the
//! server that gave it, and a machine that comes back as iPXE has loaded one. With `[dhcp] watch_answers`, the replies of other
//! servers are known too.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::model::{DhcpAnswer, DhcpStep};
use crate::telemetry::DhcpEvent;

/// Most servers whose offers are kept: there may be forged ones.
const MAX_OFFERS: usize = 4;

/// The DHCP requests of a boot session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts, stored as fields of their own")]
pub struct DhcpProgress {
    /// The name of the firmware that sent the last request.
    #[serde(default)]
    pub firmware: String,
    /// Whether iPXE sent the last request.
    #[serde(default)]
    pub is_ipxe: bool,
    /// The last answer of volboot, or the reason why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<DhcpAnswer>,
    /// The boot file in that answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The address that the machine takes, and the server that gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<(IpAddr, Option<Ipv4Addr>)>,
    /// The relay that forwarded a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<Ipv4Addr>,
    /// Requests for an address.
    #[serde(default)]
    pub discovers: u32,
    /// Whether the machine asked the boot server at port 4011.
    #[serde(default)]
    pub used_boot_server: bool,
    /// Whether the machine came back as iPXE without having read a file of volboot.
    #[serde(default)]
    pub used_other_server: bool,
    /// Whether the replies of other servers to the last request are observed.
    #[serde(default)]
    pub is_watched: bool,
    /// The last offer of each other server.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<OtherOffer>,
    /// What the server said to the machine's request for the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<LeaseReply>,
}

/// An offer of another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherOffer {
    /// The server.
    pub server: Ipv4Addr,
    /// The address; absent in the offer of a ProxyDHCP server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The boot file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

/// A server's reply to the request for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseReply {
    /// DHCPACK of this server.
    Confirmed(Ipv4Addr),
    /// DHCPNAK of this server.
    Refused(Ipv4Addr),
}

impl DhcpProgress {
    /// Updates the state with the next request. `is_loaded`: whether the machine has read a file in this session.
    pub(super) fn apply(&mut self, dhcp: &DhcpEvent, address: Option<IpAddr>, is_loaded: bool) {
        if dhcp.step.is_reply() {
            return self.apply_reply(dhcp, address);
        }
        self.is_watched = match &dhcp.step {
            DhcpStep::Discover | DhcpStep::Request => dhcp.watched,
            _ => self.is_watched,
        };
        let was_firmware = self.discovers > 0 && !self.is_ipxe;
        self.relay = dhcp.relay.or(self.relay);
        // Files that a machine behind a relay reads are known by its address alone.
        self.used_other_server |= was_firmware && dhcp.ipxe && !is_loaded && self.relay.is_none();
        self.firmware.clone_from(&dhcp.firmware);
        self.is_ipxe = dhcp.ipxe;
        if dhcp.answer.is_some() {
            (self.answer, self.file) = (dhcp.answer.clone(), dhcp.file.clone());
        }
        match &dhcp.step {
            DhcpStep::Discover => self.discovers = self.discovers.saturating_add(1),
            DhcpStep::Request => {
                self.lease = address.map(|address| (address, dhcp.server)).or(self.lease);
                self.confirmation = None;
            }
            DhcpStep::BootServer => self.used_boot_server = true,
            DhcpStep::Offer | DhcpStep::ProxyOffer | DhcpStep::Ack | DhcpStep::Nak | DhcpStep::Other(_) => {}
        }
    }

    fn apply_reply(&mut self, dhcp: &DhcpEvent, address: Option<IpAddr>) {
        let Some(server) = dhcp.server else { return };
        match &dhcp.step {
            DhcpStep::Ack => self.confirmation = Some(LeaseReply::Confirmed(server)),
            DhcpStep::Nak => self.confirmation = Some(LeaseReply::Refused(server)),
            step => {
                let address = address.filter(|_| *step == DhcpStep::Offer);
                // A ProxyDHCP server may run beside a DHCP server on one host.
                self.offers
                    .retain(|offer| (offer.server, offer.address.is_some()) != (server, address.is_some()));
                self.offers.truncate(MAX_OFFERS - 1);
                self.offers.push(OtherOffer { server, address, file: dhcp.file.clone() });
            }
        }
    }

    /// The offer of a server that names a boot file of its own.
    pub(super) fn other_boot_file(&self) -> Option<(Ipv4Addr, &str)> {
        self.offers.iter().find_map(|offer| Some((offer.server, offer.file.as_deref()?)))
    }

    /// Whether an offer of this server was seen.
    pub(super) fn has_offer_of(&self, server: Ipv4Addr) -> bool {
        self.offers.iter().any(|offer| offer.server == server && offer.address.is_some())
    }

    /// The first offer of an address.
    pub(super) fn offered_address(&self) -> Option<(Ipv4Addr, IpAddr)> {
        self.offers.iter().find_map(|offer| Some((offer.server, offer.address?)))
    }

    /// Bytes of all texts.
    pub(super) fn texts_size(&self) -> usize {
        let files = self.offers.iter().filter_map(|offer| offer.file.as_ref()).chain(&self.file);
        self.firmware.len() + size_of_val(self.offers.as_slice()) + files.map(String::len).sum::<usize>()
    }

    /// "UEFI x86_64", or "UEFI x86_64, iPXE".
    pub(super) fn client(&self) -> String {
        name_client(&self.firmware, self.is_ipxe)
    }
}

/// The name of a client: its firmware, and whether it is iPXE.
pub(super) fn name_client(firmware: &str, is_ipxe: bool) -> String {
    if is_ipxe { format!("{firmware}, iPXE") } else { firmware.to_owned() }
}
