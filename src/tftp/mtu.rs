//! The MTU of the interface a request came through.
//!
//! The kernel names the interface by number with each datagram. Its MTU is what the way back to the client has, and is
//! kept for a while, as an operator may change it. What cannot be told bounds nothing: then the configured block size
//! stands alone.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Mtus {
    known: HashMap<u32, (Option<u32>, Instant)>,
}

impl Mtus {
    pub(super) fn of(&mut self, interface: u32, client: SocketAddr, now: Instant) -> Option<u32> {
        match self.known.get(&interface) {
            Some((mtu, at)) if now < *at + FRESH => *mtu,
            _ => {
                let mtu = ask(client).ok();
                self.known.insert(interface, (mtu, now));
                mtu
            }
        }
    }
}

/// Asks the kernel which way a datagram would take. Files under /sys would be another network's in some containers.
fn ask(client: SocketAddr) -> io::Result<u32> {
    if client.is_ipv4() {
        let trial = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        trial.connect(client)?;
        Ok(ip_mtu(&trial)?)
    } else {
        let trial = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        trial.connect(client)?;
        Ok(ipv6_mtu(&trial)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_an_mtu_and_what_leads_nowhere_has_none() {
        let (now, mut mtus) = (Instant::now(), Mtus::default());
        for (interface, client) in [(1, "127.0.0.1:69"), (2, "[::1]:69")] {
            let mtu = mtus.of(interface, client.parse().expect("an address"), now);
            assert!(mtu.is_some_and(|mtu| mtu >= 1280), "{client}: {mtu:?}");
        }
        assert_eq!(mtus.of(3, "[fe80::1]:69".parse().expect("an address"), now), None);
        assert!(mtus.of(1, "[fe80::1]:69".parse().expect("an address"), now).is_some(), "it is remembered");
    }
}
