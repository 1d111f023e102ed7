//! Which worker a client's transfers belong to.
//!
//! One worker at work costs less than two that wake each other's caches, so the first takes all until it has enough,
//! then the next; beyond that the one with the fewest. A client that asks again before its transfer has ended gets
//! the worker that knows it.
//!
//! Invariant: a client without a [`Place`] takes no memory, and a worker's load is the number of places it has.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Transfers one worker is given before the next one gets any. One core serves some 400 000 blocks a second, which is
/// several times what a network of 1 Gbit/s takes; clients in lockstep on such a network ask for a thousand each.
const ENOUGH: usize = 256;

#[derive(Debug)]
pub(super) struct Spread(Mutex<State>);

#[derive(Debug)]
struct State {
    loads: Vec<usize>,
    clients: HashMap<SocketAddr, Client>,
}

#[derive(Debug)]
struct Client {
    worker: usize,
    places: usize,
}

impl Spread {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { loads: vec![0; workers.max(1)], clients: HashMap::new() })))
    }

    /// A place for a request of this client.
    pub(super) fn take(self: &Arc<Self>, client: SocketAddr) -> Place {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { loads, clients } = &mut *state;
        let known = clients.entry(client).or_insert_with(|| Client { worker: lightest(loads), places: 0 });
        known.places += 1;
        let worker = known.worker;
        if let Some(load) = loads.get_mut(worker) {
            *load += 1;
        }
        Place { spread: Arc::clone(self), client, worker }
    }
}

fn lightest(loads: &[usize]) -> usize {
    let roomy = loads.iter().position(|&load| load < ENOUGH);
    roomy.or_else(|| (0..loads.len()).min_by_key(|&worker| loads.get(worker))).unwrap_or_default()
}

/// One request or transfer at its worker; gives the place back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    spread: Arc<Spread>,
    client: SocketAddr,
    worker: usize,
}

impl Place {
    /// The number of the worker.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.spread.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(load) = state.loads.get_mut(self.worker) {
            *load -= 1;
        }
        if let Some(client) = state.clients.get_mut(&self.client) {
            client.places -= 1;
            if client.places == 0 {
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
    fn workers_are_filled_one_after_the_other_and_then_evenly() {
        let spread = Spread::new(2);
        let places: Vec<_> = (0..ENOUGH * 3).map(|number| spread.take(client(number))).collect();
        let workers: Vec<_> = places.iter().map(Place::worker).collect();
        assert!(workers[..ENOUGH].iter().all(|&worker| worker == 0));
        assert!(workers[ENOUGH..ENOUGH * 2].iter().all(|&worker| worker == 1));
        assert_eq!(workers.iter().filter(|&&worker| worker == 0).count(), ENOUGH * 3 / 2);
        drop(places);
        let state = spread.0.lock().expect("not poisoned");
        assert!(state.clients.is_empty() && state.loads == [0, 0]);
    }

    #[test]
    fn a_client_that_asks_again_gets_the_worker_that_knows_it() {
        let spread = Spread::new(2);
        let mut first: Vec<_> = (0..ENOUGH).map(|number| spread.take(client(number))).collect();
        let late = spread.take(client(ENOUGH));
        assert_eq!(late.worker(), 1);
        first.clear();
        assert_eq!(spread.take(client(ENOUGH)).worker(), 1, "the other one has room, but does not know it");
        drop(late);
        assert_eq!(spread.take(client(ENOUGH)).worker(), 0);
    }
}
