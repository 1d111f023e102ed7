//! A running transfer with its request, its port and its permits.
//!
//! Invariant: bytes for a client that has acknowledged no DATA come from a budget, except the OACK that answers a request.
//! The budget is that of the address, or the transfer's own once the address is known to be genuine. If it does not
//! suffice for a window, the first block alone is sent, or nothing: the timer tries again.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::admission::Permit;
use super::balancer::Assignment;
use super::budget::{BudgetCharge, TransferBudget, UnprovenBudget};
use super::burst::{Burst, Step};
use super::transfer::Transfer;
use super::transmit::Transmit;
use super::{TransferEnd, TransferEvent};

/// A running transfer. Its port of type `P` is opaque here.
pub(super) struct ActiveTransfer<P> {
    pub(super) transfer: Transfer,
    pub(super) client: SocketAddr,
    /// The whole request, to recognize duplicates.
    pub(super) request: Box<[u8]>,
    pub(super) name: Box<[u8]>,
    pub(super) local_ip: Option<IpAddr>,
    /// Source address to set on the socket. `None` until the first retransmission if the kernel's default was right:
    /// a missing response may mean that routes have changed.
    pub(super) source_ip: Option<IpAddr>,
    pub(super) started_at: Instant,
    /// Time of the valid entry in the table's timers; other entries are stale.
    pub(super) timer_at: Option<Instant>,
    pub(super) port: P,
    pub(super) permit: Permit,
    pub(super) charge: BudgetCharge,
    pub(super) own_budget: TransferBudget,
    pub(super) _assignment: Option<Assignment>,
}

impl<P> ActiveTransfer<P> {
    /// Handles a packet of the client. An answer protects the transfer from eviction. The answer of a genuine address
    /// returns the bytes of the transfer to the budget of the address.
    pub(super) fn handle_packet(&mut self, packet: &[u8], budget: &UnprovenBudget, now: Instant) -> Step {
        let step = self.transfer.handle_packet(packet, now);
        if self.transfer.has_response() && !self.permit.confirm() {
            // The table ends an evicted transfer in its turn.
            return Step::Wait;
        }
        if self.transfer.is_proven() || self.transfer.is_address_genuine() {
            budget.refund(self.client.ip(), &mut self.charge, now);
        }
        step
    }

    /// Writes a burst to `transmit`, within the budget of an unproven client.
    pub(super) fn write(
        &mut self,
        burst: Burst,
        budget: &UnprovenBudget,
        now: Instant,
        transmit: &mut Transmit,
    ) {
        transmit.set_addresses(self.client, self.source_ip);
        self.transfer.write(burst, transmit);
        if self.transfer.is_proven() || burst == Burst::Oack {
            return;
        }
        let (address, is_genuine) = (self.client.ip(), self.transfer.is_address_genuine());
        let (charge, own_budget) = (&mut self.charge, &mut self.own_budget);
        let mut has_budget = |transmit: &Transmit| match transmit.datagrams_and_bytes() {
            burst if is_genuine => own_budget.charge(address, burst),
            burst => budget.charge(address, burst, charge, now),
        };
        if has_budget(transmit) {
            return;
        }
        if matches!(burst, Burst::Blocks { .. }) {
            self.transfer.write(Burst::FIRST_BLOCK, transmit);
            if has_budget(transmit) {
                return;
            }
        }
        transmit.clear();
    }

    /// The event of the transfer's end.
    pub(super) fn end_event(&self, outcome: TransferEnd, now: Instant) -> TransferEvent {
        TransferEvent {
            client: self.client,
            local_ip: self.local_ip,
            name: String::from_utf8_lossy(&self.name).into_owned(),
            outcome,
            is_answered: self.transfer.has_response(),
            size: self.transfer.size(),
            options: self.transfer.options(),
            blocks: self.transfer.acked_blocks(),
            retransmissions: self.transfer.retransmissions(),
            duration: now.saturating_duration_since(self.started_at),
        }
    }
}
