//! Provision verbs that work on the machine of a node with a BMC: verify, deploy, undeploy.
//!
//! | task | steps | after a failure |
//! |---|---|---|
//! | verify | read the power state with the node's credentials | `enroll` |
//! | deploy | power off, attach the volumes, boot device PXE, power on | `deploy failed` |
//! | undeploy | power off, then release the volumes | `error`; attachments and targets stay |
//!
//! A volume is never detached while its machine may run: without an answer of the BMC, the attachments stay. A task runs
//! in the background. After a crash, [`recover_interrupted`] ends the tasks of the last run as failed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Operator;
use crate::model::{Node, PowerState, Properties, ProvisionState, StorageInterface, VolumeTarget};
use crate::power::{BootDevice, PowerAction, PowerError};
use crate::store::{Inventory, StoreError, UpdateError};

/// How long a deployment waits for Cinder.
const ATTACH_TIME: Duration = Duration::from_secs(120);
/// Nodes per read of the store.
const PAGE: usize = 200;

/// A task of a provision verb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProvisionTask {
    /// `manage` of an enrolled node.
    Verify,
    /// `active` and `rebuild`.
    Deploy,
    /// `deleted`.
    Undeploy,
}

impl ProvisionTask {
    /// The provision state during the task.
    const fn state(self) -> ProvisionState {
        match self {
            Self::Verify => ProvisionState::Verifying,
            Self::Deploy => ProvisionState::Deploying,
            Self::Undeploy => ProvisionState::Deleting,
        }
    }

    /// The provision state after a failure.
    const fn failed_state(self) -> ProvisionState {
        match self {
            Self::Verify => ProvisionState::Enroll,
            Self::Deploy => ProvisionState::DeployFailed,
            Self::Undeploy => ProvisionState::Error,
        }
    }

    /// The beginning of `last_error` after a failure.
    fn describe_failure(self, node: &Node, reason: &str) -> String {
        match self {
            Self::Verify => format!("Failed to get power state for node {}. Error: {reason}", node.uuid),
            Self::Deploy => format!("Failed to deploy. Error: {reason}"),
            Self::Undeploy => {
                format!(
                    "Failed to tear down: the volumes stay attached, because the machine may be on. Error: {reason}"
                )
            }
        }
    }

    /// The node at the beginning of the task. `end` is the provision state after its success.
    pub fn begin(self, node: Node, end: ProvisionState, host: &str, now: Timestamp) -> Node {
        Node {
            provision_state: self.state(),
            target_provision_state: Some(end),
            provision_updated_at: Some(now),
            reservation: Some(host.to_owned()),
            last_error: None,
            // The machine boots from its volumes as soon as it is on.
            undeployed: node.undeployed && self != Self::Deploy,
            updated_at: Some(now),
            ..node
        }
    }

    /// The node after a failure. A deployment of an undeployed node leaves it deployed: its volumes may be attached.
    fn fail(self, node: Node, reason: &str) -> Node {
        Node {
            provision_state: self.failed_state(),
            target_provision_state: None,
            provision_updated_at: Some(Timestamp::now()),
            target_power_state: None,
            reservation: None,
            last_error: Some(self.describe_failure(&node, reason)),
            ..node
        }
    }

    /// The node after a success.
    fn succeed(self, node: Node, end: ProvisionState, power: Option<PowerState>, keep_targets: bool) -> Node {
        let now = Timestamp::now();
        let node = Node {
            provision_state: end,
            target_provision_state: None,
            provision_updated_at: Some(now),
            target_power_state: None,
            reservation: None,
            ..node
        };
        let node = match power {
            Some(power) => node.with_power_state(power, now),
            None => node,
        };
        match self {
            Self::Verify | Self::Deploy => node,
            Self::Undeploy => undeploy(node, keep_targets),
        }
    }
}

/// Takes a node's instance from it.
pub fn undeploy(node: Node, keep_targets: bool) -> Node {
    Node {
        instance_uuid: None,
        allocation_uuid: None,
        instance_info: Properties::default(),
        undeployed: keep_targets,
        ..node
    }
}

impl Operator {
    /// Runs a task on a node that [`ProvisionTask::begin`] has reserved, in the background.
    pub fn spawn_provision(self: &Arc<Self>, task: ProvisionTask, node: Node) {
        let operator = Arc::clone(self);
        tokio::spawn(async move { operator.provision(task, node).await });
    }

    async fn provision(&self, task: ProvisionTask, node: Node) {
        let Some(end) = node.target_provision_state else { return };
        let result = match task {
            ProvisionTask::Verify => self.verify(&node).await,
            ProvisionTask::Deploy => self.deploy(&node).await.map(|()| Some(PowerState::On)),
            ProvisionTask::Undeploy => self.switch_off(&node).await.map(|()| Some(PowerState::Off)),
        };
        let keep_targets = self.keep_targets_on_undeploy;
        match result {
            Ok(power) if task == ProvisionTask::Undeploy && !keep_targets => {
                let finish = |old: &Node| Ok::<_, ()>(task.succeed(old.clone(), end, power, keep_targets));
                let released = self.inventory.update_without::<VolumeTarget, _>(node.uuid, finish).await;
                if let Err(UpdateError::Inventory(error)) = released {
                    let reason = format!("cannot delete the volume targets: {error}");
                    self.record_end(node.uuid, |old| task.fail(old.clone(), &reason)).await;
                }
            }
            Ok(power) => {
                self.record_end(node.uuid, |old| task.succeed(old.clone(), end, power, keep_targets)).await;
            }
            Err(reason) => {
                tracing::warn!(node = %node.uuid, ?task, reason, "provisioning failed");
                self.record_end(node.uuid, |old| task.fail(old.clone(), &reason)).await;
            }
        }
    }

    async fn verify(&self, node: &Node) -> Result<Option<PowerState>, String> {
        let read = async {
            let claim = self.power.claim(node).await?;
            self.power.read_state(node, &claim).await
        };
        read.await.map_err(|error: PowerError| error.to_string())
    }

    async fn switch_off(&self, node: &Node) -> Result<(), String> {
        let switch = async {
            let claim = self.power.claim(node).await?;
            self.power.change(node, &claim, PowerAction::Off, None).await
        };
        switch.await.map(drop).map_err(|error| error.to_string())
    }

    /// Attaches the volumes while the machine is off: its old operating system must not meet a volume of another node.
    async fn deploy(&self, node: &Node) -> Result<(), String> {
        self.switch_off(node).await?;
        self.record_end(node.uuid, |old| old.clone().with_power_state(PowerState::Off, Timestamp::now()))
            .await;
        self.boot.attach_volumes(node, ATTACH_TIME).await?;
        let claim = self.power.claim(node).await.map_err(|error| error.to_string())?;
        let mut node = node.clone();
        if node.has_managed_boot_device() && node.storage_interface != StorageInterface::Noop {
            let set = self.power.set_boot_device(&node, &claim, BootDevice::Pxe, true).await;
            let boot_note = set.map_err(|error| error.to_string())?;
            self.record_end(node.uuid, |old| boot_note.write(old.clone())).await;
            node = boot_note.write(node);
        }
        let switched = self.power.change(&node, &claim, PowerAction::On, None).await;
        switched.map(drop).map_err(|error| error.to_string())
    }
}

/// Ends the operations that the last run of this process left behind, as failed. Runs before the API is served.
pub async fn recover_interrupted(inventory: &Inventory, host: &str) -> Result<(), StoreError> {
    let mut marker: Option<Node> = None;
    loop {
        let page = inventory.list::<Node>(marker.as_ref(), PAGE).await?;
        for node in &page {
            if interrupted_end(&node.value, host).is_some() {
                let change = |old: &Node, _: Option<&Node>| interrupted_end(old, host).ok_or(());
                if let Err(UpdateError::Inventory(error)) = inventory.update(node.value.uuid, change).await {
                    tracing::error!(node = %node.value.uuid, %error, "cannot end an interrupted operation");
                }
            }
        }
        match page.last() {
            Some(last) if page.len() == PAGE => marker = Some(last.value.clone()),
            _ => return Ok(()),
        }
    }
}

/// The node at the end of the operation that this host was performing; `None` if there was none.
fn interrupted_end(node: &Node, host: &str) -> Option<Node> {
    if !node.has_bmc() || node.reservation.as_deref() != Some(host) {
        return None;
    }
    let reason = "volboot was restarted meanwhile";
    let tasks = [ProvisionTask::Verify, ProvisionTask::Deploy, ProvisionTask::Undeploy];
    Some(match tasks.into_iter().find(|task| task.state() == node.provision_state) {
        Some(task) => task.fail(node.clone(), reason),
        None => Node {
            reservation: None,
            target_power_state: None,
            last_error: Some(format!("The power change was not completed: {reason}")),
            ..node.clone()
        },
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn node() -> Node {
        let node = Node::new(Uuid::nil(), "redfish", StorageInterface::Cinder, Timestamp::UNIX_EPOCH);
        Node { undeployed: true, instance_uuid: Some(Uuid::nil()), ..node }
    }

    #[test]
    fn each_task_has_its_states() {
        use ProvisionState::{
            Active, Available, Deleting, DeployFailed, Deploying, Enroll, Error, Manageable, Verifying,
        };
        for (task, during, end, failed) in [
            (ProvisionTask::Verify, Verifying, Manageable, Enroll),
            (ProvisionTask::Deploy, Deploying, Active, DeployFailed),
            (ProvisionTask::Undeploy, Deleting, Available, Error),
        ] {
            let begun = task.begin(node(), end, "boot-1", Timestamp::UNIX_EPOCH);
            assert_eq!((begun.provision_state, begun.target_provision_state), (during, Some(end)));
            assert_eq!(begun.reservation.as_deref(), Some("boot-1"));
            assert!(check_locked(&begun), "{task:?}");
            let ended = task.succeed(begun.clone(), end, Some(PowerState::On), false);
            assert_eq!((ended.provision_state, ended.target_provision_state), (end, None));
            assert_eq!((ended.reservation, ended.power_state), (None, Some(PowerState::On)));
            assert_eq!(ended.instance_uuid.is_none(), task == ProvisionTask::Undeploy);
            let failed_node = task.fail(begun, "BMC https://192.0.2.5 did not answer within 20 s");
            assert_eq!((failed_node.provision_state, failed_node.reservation), (failed, None));
            assert!(
                failed_node.last_error.expect("an error").contains("BMC https://192.0.2.5 did not answer")
            );
            assert!(failed_node.instance_uuid.is_some(), "{task:?}");
        }
    }

    fn check_locked(node: &Node) -> bool {
        super::super::check_unreserved(node).is_err() && node.provision_state.is_locked()
    }

    #[test]
    fn only_operations_of_this_host_are_ended_at_the_start() {
        let deploying =
            ProvisionTask::Deploy.begin(node(), ProvisionState::Active, "boot-1", Timestamp::UNIX_EPOCH);
        assert_eq!(interrupted_end(&deploying, "boot-2"), None);
        let ended = interrupted_end(&deploying, "boot-1").expect("is ended");
        assert_eq!(ended.provision_state, ProvisionState::DeployFailed);
        let switched =
            Node { reservation: Some("boot-1".into()), target_power_state: Some(PowerState::On), ..node() };
        let ended = interrupted_end(&switched, "boot-1").expect("is ended");
        assert_eq!((ended.reservation, ended.target_power_state), (None, None));
        assert!(ended.last_error.expect("an error").contains("not completed"));
        assert_eq!(interrupted_end(&node(), "boot-1"), None);
    }
}
