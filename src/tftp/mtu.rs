//! MTU of the interface that a request arrived on.
//!
//! The kernel reports the interface's index with each datagram. The MTU of that interface bounds the block size,
//! since the response leaves through it. Entries expire, as an operator may change an MTU. An unknown MTU imposes no
//! bound: the configured block size then applies alone.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::sockopt::{ip_mtu, ipv6_mtu};

/// How long a cached MTU is valid.
const LIFETIME: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct MtuCache {
    entries: HashMap<u32, (Option<u32>, Instant)>,
}

impl MtuCache {
    pub(super) fn look_up(&mut self, interface: u32, client: SocketAddr, now: Instant) -> Option<u32> {
        match self.entries.get(&interface) {
            Some((mtu, queried_at)) if now < *queried_at + LIFETIME => *mtu,
            _ => {
                let mtu = query_mtu(client).ok();
                self.entries.insert(interface, (mtu, now));
                mtu
            }
        }
    }
}

/// Asks the kernel for the MTU of the route to the client. In some containers, the files under /sys show another
/// network namespace.
fn query_mtu(client: SocketAddr) -> io::Result<u32> {
    if client.is_ipv4() {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(client)?;
        Ok(ip_mtu(&socket)?)
    } else {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect(client)?;
        Ok(ipv6_mtu(&socket)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_an_mtu_and_an_unreachable_client_has_none() {
        let (now, mut cache) = (Instant::now(), MtuCache::default());
        for (interface, client) in [(1, "127.0.0.1:69"), (2, "[::1]:69")] {
            let mtu = cache.look_up(interface, client.parse().expect("an address"), now);
            assert!(mtu.is_some_and(|mtu| mtu >= 1280), "{client}: {mtu:?}");
        }
        assert_eq!(cache.look_up(3, "[fe80::1]:69".parse().expect("an address"), now), None);
        assert!(cache.look_up(1, "[fe80::1]:69".parse().expect("an address"), now).is_some(), "cached");
    }
}
