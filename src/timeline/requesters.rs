//! [`Requesters`]: which machine last requested its boot script from an IP address.
//!
//! Only for a cluster. A machine may read a file at one instance and request its script at another. The event of the file
//! shows an address only, and may arrive after the boot request that would have named the machine.

use std::collections::HashMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::machine_id::MachineId;
use super::progress::SESSION_GAP;
use crate::telemetry::{Event, EventKind};

/// The memory of a full table, beside the free part of its buckets.
const BYTES: usize = 16 << 20;
/// Maximum number of addresses: above 100,000. Above it, those that are too old to matter leave; if there are none, all
/// do.
const CAPACITY: usize = BYTES / size_of::<(IpAddr, (MachineId, Timestamp))>();

/// The last requester of each address.
#[derive(Debug, Default)]
pub(super) struct Requesters(HashMap<IpAddr, (MachineId, Timestamp)>);

impl Requesters {
    /// Notes a boot request. An older one than the last changes nothing.
    pub(super) fn note(&mut self, address: IpAddr, machine: MachineId, at: Timestamp) {
        if self.0.len() >= CAPACITY && !self.0.contains_key(&address) {
            self.0.retain(|_, (_, last)| at.duration_since(*last).abs() < SESSION_GAP);
            if self.0.len() >= CAPACITY {
                self.0.clear();
            }
        }
        let last = self.0.entry(address).or_insert((machine, at));
        if at >= last.1 {
            *last = (machine, at);
        }
    }

    /// The last requester of an address, and the time of its request.
    pub(super) fn find(&self, address: IpAddr) -> Option<(MachineId, Timestamp)> {
        self.0.get(&address).copied()
    }
}

/// Whether an event of an IP address is one of the machine that uses the address now: not if it claims to be another.
pub(super) fn is_of_machine(event: &Event, machine: MachineId) -> bool {
    match &event.kind {
        EventKind::BootRequest(request) => {
            request.claimed_mac.is_none_or(|claimed| MachineId::Mac(claimed) == machine)
        }
        EventKind::Dhcp(_)
        | EventKind::TftpTransfer(_)
        | EventKind::HttpFetch { .. }
        | EventKind::SessionStarted
        | EventKind::BootReport { .. }
        | EventKind::NoNetworkBoot { .. }
        | EventKind::LoopDelay { .. } => true,
    }
}
