//! [`ConnectionCounters`]: what became of a listener's connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// The refused clients that are kept until they are taken.
const MAX_REFUSED_CLIENTS: usize = 64;

/// Counts of a listener's connections; clones of the `Arc` are for metrics.
#[derive(Debug, Default)]
pub struct ConnectionCounters {
    open: AtomicU64,
    displaced: AtomicU64,
    refused: AtomicU64,
    refused_clients: Mutex<KeptClients>,
}

#[derive(Debug, Default)]
struct KeptClients {
    clients: BTreeSet<SocketAddr>,
    has_more: bool,
}

/// Clients whose connections were refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedClients {
    /// Their addresses, without ports.
    pub clients: BTreeSet<SocketAddr>,
    /// Whether these are all of them; otherwise there were too many.
    pub are_all: bool,
}

impl ConnectionCounters {
    /// Open connections.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Idle connections that were closed for a newer one, since the start.
    pub fn displaced(&self) -> u64 {
        self.displaced.load(Ordering::Relaxed)
    }

    /// Connections that were refused because all others of the client were busy, since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The clients of the connections that were refused since the last time.
    pub fn take_refused_clients(&self) -> RefusedClients {
        let KeptClients { clients, has_more } = std::mem::take(&mut *self.refused_clients.lock());
        RefusedClients { clients, are_all: !has_more }
    }

    pub(super) fn set_open(&self, open: usize) {
        self.open.store(open as u64, Ordering::Relaxed);
    }

    pub(super) fn count_displaced(&self) {
        self.displaced.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, mut client: SocketAddr) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        client.set_port(0);
        let mut kept = self.refused_clients.lock();
        if kept.clients.len() < MAX_REFUSED_CLIENTS {
            kept.clients.insert(client);
        } else if !kept.clients.contains(&client) {
            kept.has_more = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u16, port: u16) -> SocketAddr {
        format!("[2001:db8::{number:x}]:{port}").parse().expect("an address")
    }

    #[test]
    fn the_refused_clients_are_bounded_and_taken_once() {
        let counters = ConnectionCounters::default();
        for number in 0..64 {
            counters.count_refused(client(number, 1000));
            counters.count_refused(client(number, 1001));
        }
        let taken = counters.take_refused_clients();
        assert_eq!((taken.clients.len(), taken.are_all), (64, true));
        for number in 0..65 {
            counters.count_refused(client(number, 1000));
        }
        let taken = counters.take_refused_clients();
        assert_eq!((taken.clients.len(), taken.are_all), (64, false));
        assert!(taken.clients.contains(&client(0, 0)) && counters.refused() == 193);
        assert_eq!(
            counters.take_refused_clients(),
            RefusedClients { clients: BTreeSet::new(), are_all: true }
        );
    }
}
