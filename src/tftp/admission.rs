//! Limits on concurrent transfers, in total and per client address.
//!
//! Shared by the workers of all listen addresses. A [`Permit`] belongs to one running transfer and is released when
//! the transfer ends, for any reason.
//!
//! A request may be forged: its transfer then never gets an answer. So at a limit, the oldest unanswered transfer gives
//! way (eviction), as half-open connections do in TCP. An answered transfer never gives way.
//!
//! Invariant: the counts equal the number of live permits without the evicted ones, and a client without a permit
//! takes no memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use super::transfer_id::TransferId;

/// Counts running transfers against the limits.
#[derive(Debug)]
pub(super) struct Admission {
    max_total: usize,
    max_per_client: usize,
    running: Mutex<RunningCounts>,
}

#[derive(Debug, Default)]
struct RunningCounts {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
    next_serial: u64,
    /// The unanswered transfers by age, and the same by client.
    unanswered: BTreeMap<u64, Unanswered>,
    unanswered_by_client: BTreeSet<(IpAddr, u64)>,
}

#[derive(Debug)]
struct Unanswered {
    client: IpAddr,
    transfer: TransferId,
    evictions: Arc<EvictionQueue>,
}

/// The evicted transfers of one table.
pub(super) struct EvictionQueue {
    transfers: Mutex<Vec<TransferId>>,
    /// Wakes the table's worker.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for EvictionQueue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("EvictionQueue").field(&self.transfers).finish()
    }
}

impl EvictionQueue {
    pub(super) fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { transfers: Mutex::default(), wake: Box::new(wake) })
    }

    /// Removes and returns the evicted transfers.
    pub(super) fn take(&self) -> Vec<TransferId> {
        std::mem::take(&mut *self.transfers.lock())
    }
}

impl Admission {
    pub(super) fn new(max_total: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_client, running: Mutex::default() })
    }

    /// Returns a permit, or `None` if a limit is reached and no unanswered transfer can give way. `evictions` belongs
    /// to the table of the new transfer.
    pub(super) fn admit(
        self: &Arc<Self>,
        client: IpAddr,
        transfer: TransferId,
        evictions: &Arc<EvictionQueue>,
    ) -> Option<Permit> {
        let mut running = self.running.lock();
        let client_count = running.by_client.get(&client).copied().unwrap_or_default();
        if client_count >= self.max_per_client {
            let oldest = running.unanswered_by_client.range((client, 0)..=(client, u64::MAX)).next();
            let (_, serial) = *oldest?;
            running.evict(serial, evictions);
        } else if running.total >= self.max_total {
            let (&serial, _) = running.unanswered.first_key_value()?;
            running.evict(serial, evictions);
        }
        running.total += 1;
        *running.by_client.entry(client).or_default() += 1;
        let serial = running.next_serial;
        running.next_serial += 1;
        running.unanswered.insert(serial, Unanswered { client, transfer, evictions: Arc::clone(evictions) });
        running.unanswered_by_client.insert((client, serial));
        Some(Permit { admission: Arc::clone(self), client, serial, is_answered: false })
    }
}

impl RunningCounts {
    fn evict(&mut self, serial: u64, own: &Arc<EvictionQueue>) {
        let Some(Unanswered { client, transfer, evictions }) = self.unanswered.remove(&serial) else {
            return;
        };
        self.unanswered_by_client.remove(&(client, serial));
        self.release(client);
        evictions.transfers.lock().push(transfer);
        if !Arc::ptr_eq(&evictions, own) {
            (evictions.wake)();
        }
    }

    fn release(&mut self, client: IpAddr) {
        self.total -= 1;
        if let Some(client_count) = self.by_client.get_mut(&client) {
            *client_count -= 1;
            if *client_count == 0 {
                self.by_client.remove(&client);
            }
        }
    }

    /// Removes an unanswered transfer from the lists; false if it was evicted.
    fn remove_unanswered(&mut self, client: IpAddr, serial: u64) -> bool {
        self.unanswered_by_client.remove(&(client, serial));
        self.unanswered.remove(&serial).is_some()
    }
}

/// Admits one running transfer.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
    serial: u64,
    is_answered: bool,
}

impl Permit {
    /// Records that the client has answered: the transfer gives way to no other. False if it was evicted already.
    pub(super) fn confirm(&mut self) -> bool {
        if !self.is_answered {
            self.is_answered = self.admission.running.lock().remove_unanswered(self.client, self.serial);
        }
        self.is_answered
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.admission.running.lock();
        if self.is_answered || running.remove_unanswered(self.client, self.serial) {
            running.release(self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    struct Tester {
        admission: Arc<Admission>,
        evictions: Arc<EvictionQueue>,
        next: u64,
    }

    impl Tester {
        fn new(max_total: usize, max_per_client: usize) -> Self {
            Self {
                admission: Admission::new(max_total, max_per_client),
                evictions: EvictionQueue::new(|| ()),
                next: 0,
            }
        }

        fn admit(&mut self, client: IpAddr) -> Option<Permit> {
            self.next += 1;
            self.admission.admit(client, TransferId(self.next), &self.evictions)
        }

        fn admit_answered(&mut self, client: IpAddr) -> Option<Permit> {
            let mut permit = self.admit(client)?;
            permit.confirm().then_some(permit)
        }
    }

    #[test]
    fn permits_are_limited_in_total_and_per_client_and_released_on_drop() {
        let mut tester = Tester::new(3, 2);
        let first = tester.admit_answered(CLIENT);
        let second = tester.admit_answered(CLIENT);
        assert!(first.is_some() && second.is_some());
        assert!(tester.admit(CLIENT).is_none(), "two per client");
        let third = tester.admit_answered(OTHER);
        assert!(third.is_some());
        assert!(tester.admit(OTHER).is_none(), "three in total");
        drop(first);
        assert!(tester.admit(OTHER).is_some());
        drop((second, third));
        let running = tester.admission.running.lock();
        assert!(running.by_client.is_empty() && running.unanswered.is_empty() && running.total == 0);
        assert!(running.unanswered_by_client.is_empty());
    }

    #[test]
    fn at_a_limit_the_oldest_unanswered_transfer_gives_way() {
        let mut tester = Tester::new(3, 2);
        let mut permits: Vec<_> = [CLIENT, OTHER, CLIENT].map(|client| tester.admit(client)).into();
        permits.push(tester.admit(OTHER));
        assert_eq!(tester.evictions.take(), [TransferId(1)], "the oldest in total");
        permits.push(tester.admit(OTHER));
        assert_eq!(tester.evictions.take(), [TransferId(2)], "the oldest of this client");
        assert!(permits.iter_mut().flatten().skip(2).all(Permit::confirm));
        assert!(!permits.iter_mut().flatten().take(2).any(Permit::confirm), "evicted");
        assert!(tester.admit(CLIENT).is_none(), "answered transfers stay");
        assert_eq!(tester.admission.running.lock().total, 3);
        drop(permits);
        assert_eq!(tester.admission.running.lock().total, 0);
    }
}
