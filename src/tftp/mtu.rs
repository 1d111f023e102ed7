//! The MTU of the interface a request came through.
//!
//! The kernel names the interface by number with each datagram; its MTU is read where Linux shows it and
//! kept for a while, as an operator may change it. What cannot be read bounds nothing: then the configured
//! block size stands alone.

use std::collections::HashMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use rustix::net::netdevice::index_to_name;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(super) struct Mtus {
    known: HashMap<u32, (Option<u32>, Instant)>,
}

impl Mtus {
    pub(super) fn of(&mut self, interface: u32, now: Instant) -> Option<u32> {
        match self.known.get(&interface) {
            Some((mtu, at)) if now < *at + FRESH => *mtu,
            _ => {
                let mtu = read(interface);
                self.known.insert(interface, (mtu, now));
                mtu
            }
        }
    }
}

fn read(interface: u32) -> Option<u32> {
    let any = UdpSocket::bind("127.0.0.1:0").ok()?;
    let name = index_to_name(any, interface).ok()?;
    let mtu = std::fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok()?;
    mtu.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_has_an_mtu_and_an_unknown_one_has_none() {
        let now = Instant::now();
        let mut mtus = Mtus::default();
        assert!(mtus.of(1, now).is_some_and(|mtu| mtu >= 1280));
        assert_eq!(mtus.of(u32::MAX, now), None);
    }
}
