//! Who may begin: a cap on transfers, for all and for each client.
//!
//! Shared by the workers of all listen addresses. A [`Permit`] stands for one running transfer and gives its place back
//! when dropped, however the transfer ends.
//!
//! Invariant: the counts are those of the permits alive, and a client without one takes no memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub(super) struct Admission {
    all: usize,
    per_client: usize,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Admission {
    pub(super) fn new(all: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self { all, per_client, running: Mutex::default() })
    }

    /// A place, unless all are taken or all that one client may have.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = running.by_client.get(&client).copied().unwrap_or_default();
        if running.all >= self.all || of_client >= self.per_client {
            return None;
        }
        running.all += 1;
        running.by_client.insert(client, of_client + 1);
        Some(Permit { admission: Arc::clone(self), client })
    }
}

/// One place.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.admission.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.all -= 1;
        if let Some(of_client) = running.by_client.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                running.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_capped_for_all_and_for_each_client_and_given_back() {
        let admission = Admission::new(3, 2);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = admission.admit(one);
        let second = admission.admit(one);
        assert!(first.is_some() && second.is_some());
        assert!(admission.admit(one).is_none(), "a client has two places");
        let third = admission.admit(other);
        assert!(third.is_some());
        assert!(admission.admit(other).is_none(), "all have three");
        drop(first);
        assert!(admission.admit(other).is_some());
        drop((second, third));
        assert!(admission.running.lock().expect("not poisoned").by_client.is_empty());
    }
}
