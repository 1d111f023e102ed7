//! Limits on concurrent transfers, in total and per client address.
//!
//! Shared by the workers of all listen addresses. A [`Permit`] belongs to one running transfer and is released when
//! the transfer ends, for any reason.
//!
//! Invariant: the counts equal the number of live permits, and a client without a permit takes no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

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
}

impl Admission {
    pub(super) fn new(max_total: usize, max_per_client: usize) -> Arc<Self> {
        Arc::new(Self { max_total, max_per_client, running: Mutex::default() })
    }

    /// Returns a permit, or `None` if a limit is reached.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let mut running = self.running.lock();
        let client_count = running.by_client.get(&client).copied().unwrap_or_default();
        if running.total >= self.max_total || client_count >= self.max_per_client {
            return None;
        }
        running.total += 1;
        running.by_client.insert(client, client_count + 1);
        Some(Permit { admission: Arc::clone(self), client })
    }
}

/// Admits one running transfer.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.admission.running.lock();
        running.total -= 1;
        if let Some(client_count) = running.by_client.get_mut(&self.client) {
            *client_count -= 1;
            if *client_count == 0 {
                running.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_limited_in_total_and_per_client_and_released_on_drop() {
        let admission = Admission::new(3, 2);
        let (client, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = admission.admit(client);
        let second = admission.admit(client);
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(client).is_none(), "two per client");
        let third = admission.admit(other);
        assert!(third.is_some());
        assert!(admission.admit(other).is_none(), "three in total");
        drop(first);
        assert!(admission.admit(other).is_some());
        drop((second, third));
        assert!(admission.running.lock().by_client.is_empty());
    }
}
