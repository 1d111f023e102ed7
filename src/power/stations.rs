//! [`Stations`]: the client of each node's BMC, with its session.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

use crate::redfish::{Bmc, BmcAccess, CallLimits, RedfishError};

/// The time limit for all logouts at shutdown.
const LOGOUT_TIME: Duration = Duration::from_secs(2);

/// The clients by node. A node has one client, so the number of nodes bounds them.
#[derive(Debug)]
pub(super) struct Stations {
    permits: Arc<Semaphore>,
    at_once: usize,
    limits: CallLimits,
    clients: Mutex<HashMap<Uuid, Arc<Bmc>>>,
}

impl Stations {
    /// Clients that send at most `at_once` requests at the same time.
    pub(super) fn new(at_once: usize, limits: CallLimits) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once)), at_once, limits, clients: Mutex::default() }
    }

    /// The requests that are under way.
    pub(super) fn requests_in_flight(&self) -> usize {
        self.at_once.saturating_sub(self.permits.available_permits())
    }

    /// Finds the client of a node's BMC. Changed settings replace it.
    pub(super) async fn find(&self, node: Uuid, access: BmcAccess) -> Result<Arc<Bmc>, RedfishError> {
        let known = self.clients.lock().get(&node).cloned();
        if let Some(bmc) = known.filter(|bmc| *bmc.access() == access) {
            return Ok(bmc);
        }
        let bmc = Arc::new(Bmc::new(access, self.limits, Arc::clone(&self.permits)).await?);
        let old = self.clients.lock().insert(node, Arc::clone(&bmc));
        if let Some(old) = old {
            tokio::spawn(async move { old.log_out().await });
        }
        Ok(bmc)
    }

    /// Forgets the clients of all other nodes, and ends their sessions.
    pub(super) fn retain(&self, is_node: impl Fn(Uuid) -> bool) {
        let mut clients = self.clients.lock();
        let gone: Vec<_> = clients.extract_if(|node, _| !is_node(*node)).collect();
        drop(clients);
        for (_, bmc) in gone {
            tokio::spawn(async move { bmc.log_out().await });
        }
    }

    /// Ends all sessions.
    pub(super) async fn close(&self) {
        let clients: Vec<_> = self.clients.lock().drain().collect();
        let logouts = clients.iter().map(|(_, bmc)| bmc.log_out());
        drop(timeout(LOGOUT_TIME, futures_util::future::join_all(logouts)).await);
    }
}
