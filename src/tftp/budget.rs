//! Byte budget of addresses that may be forged.
//!
//! Until a client responds, its request may be forged, and every byte goes to a victim. An address therefore gets at most
//! [`MAX_BYTES`] in [`PERIOD`] from such transfers, packet headers included. A client that responds on a port that cannot
//! be guessed, or acknowledges DATA on any port, returns the bytes of its transfer: many machines behind one address do
//! not use up the budget.
//!
//! Forged requests can keep an address at its limit. Two rules let its genuine clients through nevertheless. The OACK
//! that answers a request is never charged: it is no longer than the request, so nothing is amplified. After a response
//! on a port that cannot be guessed, the transfer has a budget of its own, until the client acknowledges DATA. Clients that
//! request no options, and those of guessable ports, wait as long as the attack lasts.
//!
//! Addresses share a fixed number of buckets by a keyed hash: a flood of forged addresses takes no memory. Two addresses
//! in one bucket share a budget.
//!
//! Invariant: a bucket counts the bytes of the current slot and of those before it that reach into the last
//! [`PERIOD`], so no period exceeds the budget.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Most bytes for an address without acknowledged DATA, per [`PERIOD`].
pub(super) const MAX_BYTES: usize = 256_000;
pub(super) const PERIOD: Duration = Duration::from_secs(20);
const SLOT: Duration = Duration::from_secs(5);
/// Slots that cover any [`PERIOD`]: one more than fit into it.
const SLOTS: usize = (PERIOD.as_secs() / SLOT.as_secs()) as usize + 1;
const BUCKETS: usize = 1 << 14;
/// IP and UDP headers of a datagram.
const HEADERS_V4: usize = 28;
const HEADERS_V6: usize = 48;

/// Bytes for addresses without acknowledged DATA.
#[derive(Debug)]
pub(super) struct UnprovenBudget {
    state: Mutex<BucketTable>,
    hasher: RandomState,
    /// Slots are numbered from this time.
    start: Instant,
}

/// Per bucket: the number of the newest slot, then the bytes of each slot. Untouched buckets take no memory.
#[derive(Debug)]
struct BucketTable(Vec<[u32; 1 + SLOTS]>);

/// Bytes that a transfer has taken from the budget in its latest slot.
#[derive(Debug, Default)]
pub(super) struct BudgetCharge {
    slot: u32,
    bytes: u32,
}

/// The budget of one transfer: bytes for a client that has responded, but has acknowledged no DATA.
#[derive(Debug, Default)]
pub(super) struct TransferBudget {
    used: usize,
}

impl TransferBudget {
    /// Takes a burst of datagrams from the budget; false if the budget does not suffice.
    pub(super) fn charge(&mut self, address: IpAddr, burst: (usize, usize)) -> bool {
        let total = self.used.saturating_add(wire_bytes(address, burst));
        if total <= MAX_BYTES {
            self.used = total;
        }
        total <= MAX_BYTES
    }
}

/// The size of datagrams with the headers of IP and UDP.
fn wire_bytes(address: IpAddr, (datagrams, bytes): (usize, usize)) -> usize {
    let headers = if address.to_canonical().is_ipv4() { HEADERS_V4 } else { HEADERS_V6 };
    bytes.saturating_add(datagrams * headers)
}

impl Default for UnprovenBudget {
    fn default() -> Self {
        let state = Mutex::new(BucketTable(vec![[0; 1 + SLOTS]; BUCKETS]));
        Self { state, hasher: RandomState::new(), start: Instant::now() }
    }
}

impl UnprovenBudget {
    /// Takes a burst of datagrams from the budget of an address; false if the budget does not suffice.
    pub(super) fn charge(
        &self,
        address: IpAddr,
        burst: (usize, usize),
        charge: &mut BudgetCharge,
        now: Instant,
    ) -> bool {
        let total = wire_bytes(address, burst);
        let (slot, mut table) = (self.slot(now), self.state.lock());
        let Some(bucket) = table.bucket(self.index(address), slot) else { return true };
        let used: u32 = bucket.iter().sum();
        if used as usize + total > MAX_BYTES {
            return false;
        }
        let Some(current) = bucket.get_mut(slot as usize % SLOTS) else { return true };
        *current += total as u32;
        if charge.slot != slot {
            *charge = BudgetCharge { slot, bytes: 0 };
        }
        charge.bytes += total as u32;
        true
    }

    /// Returns the bytes of a transfer whose client is genuine. Bytes of earlier slots than its latest stay charged.
    pub(super) fn refund(&self, address: IpAddr, charge: &mut BudgetCharge, now: Instant) {
        let BudgetCharge { slot, bytes } = std::mem::take(charge);
        // Nearly every packet: the lock is for others.
        if bytes == 0 {
            return;
        }
        let (current, mut table) = (self.slot(now), self.state.lock());
        if current >= slot + SLOTS as u32 {
            return;
        }
        let bucket = table.bucket(self.index(address), current);
        if let Some(used) = bucket.and_then(|bucket| bucket.get_mut(slot as usize % SLOTS)) {
            *used = used.saturating_sub(bytes);
        }
    }

    fn slot(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.start).as_secs() / SLOT.as_secs()) as u32
    }

    fn index(&self, address: IpAddr) -> usize {
        self.hasher.hash_one(address.to_canonical()) as usize % BUCKETS
    }
}

impl BucketTable {
    /// The slots of a bucket, without those that have expired.
    fn bucket(&mut self, index: usize, slot: u32) -> Option<&mut [u32]> {
        let (newest, slots) = self.0.get_mut(index)?.split_first_mut()?;
        // Workers read the clock at different times: a slot never goes back.
        for expired in (*newest + 1..=slot).rev().take(SLOTS) {
            if let Some(bytes) = slots.get_mut(expired as usize % SLOTS) {
                *bytes = 0;
            }
        }
        *newest = slot.max(*newest);
        Some(slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VICTIM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const STEP: Duration = Duration::from_millis(100);

    #[test]
    fn no_period_exceeds_the_budget_and_the_budget_comes_back() {
        let budget = UnprovenBudget::default();
        let mut sent: Vec<(Instant, usize)> = Vec::new();
        for step in 0..1200 {
            let now = budget.start + STEP * step;
            if budget.charge(VICTIM, (1, 20_000 - HEADERS_V4), &mut BudgetCharge::default(), now) {
                sent.push((now, 20_000));
            }
        }
        for (start, _) in &sent {
            let period = sent.iter().filter(|(at, _)| at >= start && *at < *start + PERIOD);
            let total: usize = period.map(|(_, bytes)| bytes).sum();
            assert!(total <= MAX_BYTES, "{total}");
        }
        let total: usize = sent.iter().map(|(_, bytes)| bytes).sum();
        assert!(total > 3 * MAX_BYTES, "{total} in two minutes");
    }

    #[test]
    fn a_proven_transfer_returns_its_bytes() {
        let (budget, now) = (UnprovenBudget::default(), Instant::now());
        for _ in 0..100 {
            let mut charge = BudgetCharge::default();
            assert!(budget.charge(VICTIM, (16, 200_000), &mut charge, now));
            assert!(!budget.charge(VICTIM, (16, 200_000), &mut BudgetCharge::default(), now));
            budget.refund(VICTIM, &mut charge, now + SLOT);
        }
    }
}
