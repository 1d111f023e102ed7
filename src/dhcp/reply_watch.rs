//! [`ReplyWatch`]: selects the replies of other DHCP servers to network-boot clients.
//!
//! Most replies on a link are for clients that do not boot from the network: they matter to nobody here. A reply counts if
//! it answers a request that was received a moment ago: same machine, same transaction. So a forged reply needs a request of
//! its machine, and a machine has a limited number of replies in any case.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::server_reply::ServerReply;
use super::{NetbootClient, ObservedReply};

/// A client waits for offers less long than this: 32 seconds in its last try (PXE 2.1).
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Most machines in the table, about 3 MB.
const MAX_MACHINES: usize = 40_000;
/// Replies to one transaction.
pub(super) const REPLIES_PER_TRANSACTION: u32 = 8;

/// The transactions to which replies may arrive.
#[derive(Debug, Default)]
pub(super) struct ReplyWatch {
    by_machine: HashMap<[u8; 6], Transaction>,
    /// When expired transactions were last removed from a full table.
    swept_at: Option<Instant>,
}

/// The last transaction of a machine.
#[derive(Debug)]
struct Transaction {
    xid: u32,
    requested_at: Instant,
    replies: u32,
    architecture: Option<u16>,
    is_ipxe: bool,
}

impl ReplyWatch {
    /// Adds the transaction of a request. Returns whether replies to it will be observed.
    pub(super) fn add(&mut self, client: &NetbootClient, xid: u32, now: Instant) -> bool {
        // Replies to a relay are addressed to it.
        if client.relay.is_some() {
            return false;
        }
        let transaction = self.by_machine.get_mut(&client.mac);
        if let Some(transaction) = transaction.filter(|transaction| transaction.xid == xid) {
            transaction.requested_at = now;
            return true;
        }
        if self.by_machine.len() >= MAX_MACHINES && !self.by_machine.contains_key(&client.mac) {
            self.sweep(now);
            if self.by_machine.len() >= MAX_MACHINES {
                return false;
            }
        }
        let (architecture, is_ipxe) = (client.architecture(), client.ipxe.is_some());
        let transaction = Transaction { xid, requested_at: now, replies: 0, architecture, is_ipxe };
        self.by_machine.insert(client.mac, transaction);
        true
    }

    /// Removes expired transactions, once a second at most.
    fn sweep(&mut self, now: Instant) {
        let is_recent = |at: Instant| now.saturating_duration_since(at) < Duration::from_secs(1);
        if self.swept_at.is_some_and(is_recent) {
            return;
        }
        self.swept_at = Some(now);
        self.by_machine.retain(|_, transaction| transaction.is_open(now));
    }

    /// Reads an IPv4 packet; `None` if it is no reply to an open transaction.
    pub(super) fn receive(&mut self, packet: &[u8], now: Instant) -> Option<ObservedReply> {
        let ServerReply { xid, mac, kind, server, file } = ServerReply::parse(packet)?;
        let transaction = self.by_machine.get_mut(&mac)?;
        if transaction.xid != xid
            || !transaction.is_open(now)
            || transaction.replies >= REPLIES_PER_TRANSACTION
        {
            return None;
        }
        transaction.replies += 1;
        let Transaction { architecture, is_ipxe, .. } = *transaction;
        Some(ObservedReply { mac, architecture, is_ipxe, kind, server, file })
    }

    /// Machines in the table.
    #[cfg(test)]
    pub(super) fn machine_count(&self) -> usize {
        self.by_machine.len()
    }
}

impl Transaction {
    fn is_open(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.requested_at) < MAX_DELAY
    }
}
