//! [`InterruptedOperations`]: ends the operations whose instance no longer performs them, as Ironic's conductors take over
//! the nodes of one that died.
//!
//! An operation is interrupted if its node is reserved, and its claim is free: its instance was restarted, was killed, or
//! has lost its session. Each instance ends the operations of its earlier runs, and of instances without a session. The
//! node stays reserved until then, so no further operation can begin before the interrupted one is ended.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::operation::try_claim;
use super::provision::interrupted_end;
use crate::model::Node;
use crate::store::{Freshness, Inventory, InventoryError, StoreError, UpdateError};

/// Nodes per read of the store.
const PAGE: usize = 200;
/// The pause before the next look at operations that could not be ended.
const RETRY_DELAY: Duration = Duration::from_secs(2);
/// The longest time between two looks at all nodes.
const INTERVAL: Duration = Duration::from_secs(60);

/// Ends interrupted operations.
#[derive(Debug)]
pub struct InterruptedOperations {
    inventory: Inventory,
    /// The name by which this instance reserves nodes.
    hostname: String,
    /// The sessions of all instances.
    sessions: watch::Receiver<BTreeSet<String>>,
}

/// A reserved node of this instance, or of an instance without a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    node: Uuid,
    /// The name of the instance.
    host: String,
}

impl InterruptedOperations {
    /// Ends operations that are found in these records. `sessions` are those of all instances: after each change, the
    /// operations are looked for.
    pub fn new(inventory: Inventory, hostname: String, sessions: watch::Receiver<BTreeSet<String>>) -> Self {
        Self { inventory, hostname, sessions }
    }

    /// Ends the interrupted operations of this moment. An outage of a shared store is not waited for.
    pub async fn end_now(&self) -> Result<(), StoreError> {
        let candidates = self.find().await?;
        self.end_each(candidates).await.map(drop)
    }

    /// Ends interrupted operations, whenever there are any. Does not return.
    pub async fn run(mut self) {
        // Another instance is ending them, or the store has not taken their claims back yet.
        let mut claimed = Vec::new();
        let mut is_due = true;
        loop {
            let candidates = if is_due { self.find().await } else { Ok(std::mem::take(&mut claimed)) };
            let result = match candidates {
                Ok(candidates) => self.end_each(candidates).await,
                Err(error) => Err(error),
            };
            let is_done = match result {
                Ok(left) => {
                    claimed = left;
                    true
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot end interrupted operations yet");
                    false
                }
            };
            is_due = self.wait(is_done, claimed.is_empty()).await || !is_done;
        }
    }

    /// Waits for the next look. Returns whether it is one at all nodes.
    async fn wait(&mut self, is_done: bool, is_empty: bool) -> bool {
        if is_done && is_empty {
            if let Ok(Err(_)) = timeout(INTERVAL, self.sessions.changed()).await {
                // The other instances are not listed any more: the process ends.
                sleep(INTERVAL).await;
            }
            return true;
        }
        sleep(RETRY_DELAY).await;
        let has_changed = self.sessions.has_changed().unwrap_or_default();
        if has_changed {
            self.sessions.mark_unchanged();
        }
        has_changed
    }

    /// The reserved nodes of this instance, and of instances without a session.
    async fn find(&self) -> Result<Vec<Candidate>, StoreError> {
        if let Freshness::Stale { reason, .. } = self.inventory.freshness() {
            return Err(StoreError::Unavailable(reason));
        }
        let instances = self.inventory.cluster().instances().await?;
        let others: Vec<_> = instances.into_iter().filter(|instance| !instance.is_self).collect();
        let is_left = |host: &str| host == self.hostname || others.iter().all(|other| other.name != host);
        let (mut found, mut marker) = (Vec::new(), None::<Node>);
        loop {
            let page = self.inventory.list::<Node>(marker.as_ref(), PAGE).await?;
            let reserved = page.iter().filter(|node| node.value.has_bmc()).filter_map(|node| {
                let host = node.value.reservation.clone().filter(|host| is_left(host))?;
                Some(Candidate { node: node.value.uuid, host })
            });
            found.extend(reserved);
            match page.last() {
                Some(last) if page.len() == PAGE => marker = Some(last.value.clone()),
                _ => return Ok(found),
            }
        }
    }

    /// Ends operations with a free claim, as failed. Returns the others of other instances. Claimed operations of this
    /// instance are under way; the next look at all nodes finds any exception.
    async fn end_each(&self, candidates: Vec<Candidate>) -> Result<Vec<Candidate>, StoreError> {
        let mut claimed = Vec::new();
        for candidate in candidates {
            let Some(claim) = try_claim(&self.inventory, candidate.node).await? else {
                if candidate.host != self.hostname {
                    claimed.push(candidate);
                }
                continue;
            };
            let Candidate { node, host } = candidate;
            let reason = self.describe(&host);
            // Deleted, or ended by another instance: nothing to do.
            let end = |old: &Node| interrupted_end(old, &host, &reason).ok_or(());
            match self.inventory.releasing(claim.id()).update(node, end).await {
                Ok(_) => {
                    drop(claim.into_id());
                    tracing::warn!(%node, host, "interrupted operation ended as failed");
                }
                Err(UpdateError::Inventory(InventoryError::Store(error))) => return Err(error),
                Err(_) => {}
            }
        }
        Ok(claimed)
    }

    fn describe(&self, host: &str) -> String {
        if self.inventory.shared_status().is_none() {
            return "volboot was restarted meanwhile".into();
        }
        format!("{host} has ended, or has lost its session in the store, meanwhile")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{ProvisionState, StorageInterface};
    use crate::operator::ProvisionTask;
    use crate::store::{MemoryStore, Store};

    const NAMES: [&str; 2] = ["boot-1", "boot-2"];

    async fn begin(inventory: &Inventory, hostname: &str) -> Uuid {
        let node = Node::new(Uuid::new_v4(), "redfish", StorageInterface::Noop, Timestamp::now());
        let node = ProvisionTask::Deploy.begin(node, ProvisionState::Active, hostname, Timestamp::now());
        inventory.create(&node).await.expect("is created");
        node.uuid
    }

    async fn state(inventory: &Inventory, node: Uuid) -> (ProvisionState, Option<String>) {
        let node = inventory.get::<Node>(node).await.expect("reads").expect("exists").value;
        (node.provision_state, node.reservation)
    }

    fn failed() -> (ProvisionState, Option<String>) {
        (ProvisionState::DeployFailed, None)
    }

    fn deploying(host: &str) -> (ProvisionState, Option<String>) {
        (ProvisionState::Deploying, Some(host.into()))
    }

    /// Two instances on one store, announced.
    async fn two_instances() -> [Arc<MemoryStore>; 2] {
        let one = Arc::new(MemoryStore::default());
        let stores = [Arc::clone(&one), Arc::new(one.join())];
        for (store, name) in stores.iter().zip(NAMES) {
            store.cluster().announce(name, b"{}".to_vec()).await.expect("announces");
        }
        stores
    }

    fn interrupted(
        store: &Arc<MemoryStore>,
        name: &str,
    ) -> (InterruptedOperations, watch::Sender<BTreeSet<String>>) {
        let (sender, sessions) = watch::channel(BTreeSet::new());
        let inventory = Inventory::new(Arc::clone(store) as _);
        (InterruptedOperations::new(inventory, name.into(), sessions), sender)
    }

    #[tokio::test]
    async fn operations_of_the_last_run_and_of_dead_instances_are_ended() {
        let [one, two] = two_instances().await;
        let inventory = Inventory::new(Arc::clone(&one) as _);
        let (last, foreign) = (begin(&inventory, "boot-1").await, begin(&inventory, "boot-2").await);
        let (dead, running) = (begin(&inventory, "boot-3").await, begin(&inventory, "boot-1").await);
        let claim = try_claim(&inventory, running).await.expect("responds").expect("is free");
        let (operations, _sessions) = interrupted(&one, "boot-1");
        operations.end_now().await.expect("ends");
        assert_eq!(state(&inventory, last).await, failed());
        assert_eq!(state(&inventory, foreign).await, deploying("boot-2"), "that one ends its own");
        assert_eq!(state(&inventory, dead).await, failed());
        assert_eq!(state(&inventory, running).await, deploying("boot-1"));
        // The instance has lost its session, and with it the claim.
        drop(claim);
        two.close().await.expect("closes");
        operations.end_now().await.expect("ends");
        assert_eq!(state(&inventory, foreign).await, failed());
        assert_eq!(state(&inventory, running).await, failed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_and_a_late_claim_delay_the_end() {
        let [one, two] = two_instances().await;
        let inventory = Inventory::new(Arc::clone(&one) as _);
        let node = begin(&inventory, "boot-2").await;
        let claim = two.cluster().claim(&format!("operation/{node}"), b"").await.expect("responds");
        let (operations, sessions) = interrupted(&one, "boot-1");
        one.set_outage(Some("no answer"));
        assert!(operations.end_now().await.is_err(), "the store is away");
        let run = tokio::spawn(operations.run());
        sleep(RETRY_DELAY * 2).await;
        one.set_outage(None);
        sleep(RETRY_DELAY * 2).await;
        assert_eq!(state(&inventory, node).await, deploying("boot-2"), "it has a session");
        // The session ends first, and its claims after it.
        two.cluster().release(claim.expect("is free")).await.expect("releases");
        let claim = try_claim(&inventory, node).await.expect("responds").expect("is free");
        two.close().await.expect("closes");
        sessions.send_replace(BTreeSet::from(["1".to_owned()]));
        sleep(RETRY_DELAY * 2).await;
        assert_eq!(state(&inventory, node).await, deploying("boot-2"), "it is claimed");
        drop(claim);
        sleep(RETRY_DELAY * 2).await;
        assert_eq!(state(&inventory, node).await, failed());
        run.abort();
    }
}
