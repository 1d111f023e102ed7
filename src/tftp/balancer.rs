//! Assigns clients to workers.
//!
//! One busy worker costs less than two that invalidate each other's caches. So the first worker takes all clients
//! until it is full, then the next; when all are full, the least loaded one. During a transfer, further requests of
//! the same client go to the same worker.
//!
//! Invariant: a client without an [`Assignment`] takes no memory, and a worker's load is the number of its
//! assignments.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// Transfers of a worker before the next worker takes clients. One core serves some 400 000 blocks a second, several
/// times the capacity of a 1 Gbit/s network; a client in lockstep on such a network requests a thousand.
const FULL_LOAD: usize = 256;

/// Balancer for the workers of one listen address.
#[derive(Debug)]
pub(super) struct Balancer(Mutex<State>);

#[derive(Debug)]
struct State {
    loads: Vec<usize>,
    clients: HashMap<SocketAddr, ClientAssignment>,
}

#[derive(Debug)]
struct ClientAssignment {
    worker: usize,
    assignments: usize,
}

impl Balancer {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { loads: vec![0; workers.max(1)], clients: HashMap::new() })))
    }

    /// Assigns a request of this client to a worker.
    pub(super) fn assign(self: &Arc<Self>, client: SocketAddr) -> Assignment {
        let mut state = self.0.lock();
        let State { loads, clients } = &mut *state;
        let entry = clients
            .entry(client)
            .or_insert_with(|| ClientAssignment { worker: pick_worker(loads), assignments: 0 });
        entry.assignments += 1;
        let worker = entry.worker;
        if let Some(load) = loads.get_mut(worker) {
            *load += 1;
        }
        Assignment { balancer: Arc::clone(self), client, worker }
    }
}

fn pick_worker(loads: &[usize]) -> usize {
    let with_room = loads.iter().position(|&load| load < FULL_LOAD);
    with_room.or_else(|| (0..loads.len()).min_by_key(|&worker| loads.get(worker))).unwrap_or_default()
}

/// A request or transfer at its worker. Dropping the assignment lowers the worker's load.
#[derive(Debug)]
pub(super) struct Assignment {
    balancer: Arc<Balancer>,
    client: SocketAddr,
    worker: usize,
}

impl Assignment {
    /// Index of the worker.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Assignment {
    fn drop(&mut self) {
        let mut state = self.balancer.0.lock();
        if let Some(load) = state.loads.get_mut(self.worker) {
            *load -= 1;
        }
        if let Some(client) = state.clients.get_mut(&self.client) {
            client.assignments -= 1;
            if client.assignments == 0 {
                state.clients.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: usize) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], number as u16))
    }

    #[test]
    fn workers_are_filled_in_order_and_then_evenly() {
        let balancer = Balancer::new(2);
        let assignments: Vec<_> = (0..FULL_LOAD * 3).map(|number| balancer.assign(client(number))).collect();
        let workers: Vec<_> = assignments.iter().map(Assignment::worker).collect();
        assert!(workers[..FULL_LOAD].iter().all(|&worker| worker == 0));
        assert!(workers[FULL_LOAD..FULL_LOAD * 2].iter().all(|&worker| worker == 1));
        assert_eq!(workers.iter().filter(|&&worker| worker == 0).count(), FULL_LOAD * 3 / 2);
        drop(assignments);
        let state = balancer.0.lock();
        assert!(state.clients.is_empty() && state.loads == [0, 0]);
    }

    #[test]
    fn a_client_with_a_running_transfer_keeps_its_worker() {
        let balancer = Balancer::new(2);
        let mut first: Vec<_> = (0..FULL_LOAD).map(|number| balancer.assign(client(number))).collect();
        let late = balancer.assign(client(FULL_LOAD));
        assert_eq!(late.worker(), 1);
        first.clear();
        assert_eq!(
            balancer.assign(client(FULL_LOAD)).worker(),
            1,
            "worker 0 has room, but no transfer of this client"
        );
        drop(late);
        assert_eq!(balancer.assign(client(FULL_LOAD)).worker(), 0);
    }
}
