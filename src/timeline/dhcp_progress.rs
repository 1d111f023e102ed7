//! [`DhcpProgress`]: the DHCP requests of a machine's boot session.
//!
//! A socket on port 67 receives the broadcasts of machines only, not the answers of other servers. The rest is inferred: a
//! DHCPREQUEST names the address and the server that gave it, and a machine that comes back as iPXE has loaded one.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::model::{DhcpAnswer, DhcpStep};
use crate::telemetry::DhcpEvent;

/// The DHCP requests of a boot session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl DhcpProgress {
    /// Updates the state with the next request. `is_loaded`: whether the machine has read a file in this session.
    pub(super) fn apply(&mut self, dhcp: &DhcpEvent, address: Option<IpAddr>, is_loaded: bool) {
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
            }
            DhcpStep::BootServer => self.used_boot_server = true,
            DhcpStep::Other(_) => {}
        }
    }

    /// Bytes of all texts.
    pub(super) fn texts_size(&self) -> usize {
        self.firmware.len() + self.file.as_ref().map_or(0, String::len)
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
