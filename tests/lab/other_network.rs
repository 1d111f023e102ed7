//! [`OtherNetwork`]: a second network, for machines with two network cards. volboot is in it only if a test says so.
//!
//! Traps:
//! * Linux accepts a packet for any of its addresses on any interface. A gateway that does not exist keeps machines of
//!   this network from the site's addresses.
//! * The bridge has no carrier before the machine is on, and dnsmasq warns only.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::Lab;
use super::network::{OTHER_SERVER, OTHER_V6, add_other_network, other_bridge};
use super::process::Process;

/// A gateway without a host.
const NO_GATEWAY: &str = "10.98.0.254";
const START_LIMIT: Duration = Duration::from_secs(60);

/// The answers of the other network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtherService {
    /// Addresses by DHCP, and a gateway that does not exist.
    Dhcp,
    /// IPv6 router advertisements only.
    RouterAdvertisements,
    /// Addresses by DHCP and by router advertisements; the server is the gateway.
    Both,
}

/// A running second network.
pub(crate) struct OtherNetwork {
    _server: Process,
}

impl OtherNetwork {
    /// Creates the network, and starts its server.
    pub(crate) fn start(lab: &Lab, service: OtherService) -> Result<Self> {
        add_other_network()?;
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq
            .args(["--no-daemon", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--port=0"])
            .args(["--bind-interfaces", "--no-ping", &format!("--interface={}", other_bridge())])
            .arg(format!("--dhcp-leasefile={}", lab.path().join("other-leases").display()));
        let gateway = match service {
            OtherService::Dhcp => Some(NO_GATEWAY.to_owned()),
            OtherService::Both => Some(OTHER_SERVER.to_string()),
            OtherService::RouterAdvertisements => None,
        };
        if let Some(gateway) = gateway {
            dnsmasq.arg("--dhcp-range=10.98.0.50,10.98.0.99,255.255.255.0,1h");
            dnsmasq.arg(format!("--dhcp-option=3,{gateway}"));
        }
        let has_router = matches!(service, OtherService::RouterAdvertisements | OtherService::Both);
        if has_router {
            dnsmasq.args(["--enable-ra", &format!("--dhcp-range={OTHER_V6},ra-only")]);
        }
        let mut server = Process::start("the other network", &mut dnsmasq, None)?;
        server.wait_for(&[if has_router { "router advertisement" } else { "sockets bound" }], START_LIMIT)?;
        Ok(Self { _server: server })
    }
}
