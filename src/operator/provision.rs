//! Provision verbs that work on the machine of a node with a BMC: verify, deploy, undeploy.
//!
//! | task | steps | after a failure |
//! |---|---|---|
//! | verify | read the power state with the node's credentials | `enroll` |
//! | deploy | power off, attach the volumes, boot device PXE, power on | `deploy failed` |
//! | undeploy | power off, then release the volumes | `error`; attachments and targets stay |
//!
//! A volume is never detached while its machine may run: without an answer of the BMC, the attachments stay. A task runs
//! in the background. After a crash, [`super::InterruptedOperations`] ends it as failed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Operator;
use super::operation::NodeOperation;
use crate::model::{Fallback, Node, PowerState, Properties, ProvisionState, StorageInterface};
use crate::power::{BootDevice, PowerAction, PowerError};
use crate::store::UpdateError;

/// How long a deployment waits for Cinder.
const ATTACH_TIME: Duration = Duration::from_secs(120);

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

/// Takes a node's instance from it. The fallback goes with the volume targets: it holds the disk of the same tenant.
pub(super) fn undeploy(node: Node, keep_targets: bool) -> Node {
    let node = if keep_targets { node } else { Fallback::write(None, node) };
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
    pub(super) fn spawn_provision(self: &Arc<Self>, task: ProvisionTask, operation: NodeOperation) {
        let operator = Arc::clone(self);
        tokio::spawn(async move { operator.provision(task, operation).await });
    }

    async fn provision(&self, task: ProvisionTask, operation: NodeOperation) {
        let Some(end) = operation.node.target_provision_state else { return };
        let result = match task {
            ProvisionTask::Verify => self.verify(&operation).await,
            ProvisionTask::Deploy => self.deploy(&operation).await.map(|()| Some(PowerState::On)),
            ProvisionTask::Undeploy => self.switch_off(&operation).await.map(|()| Some(PowerState::Off)),
        };
        let keep_targets = self.keep_targets_on_undeploy;
        match result {
            Ok(power) if task == ProvisionTask::Undeploy && !keep_targets => {
                let finish = |old: &Node| Ok::<_, ()>(task.succeed(old.clone(), end, power, keep_targets));
                let inventory = self.inventory.releasing(operation.claim().id());
                let released = inventory.undeploy_without_targets(operation.node.uuid, finish).await;
                if let Err(UpdateError::Inventory(error)) = released {
                    let reason = format!("cannot delete the volume targets: {error}");
                    self.record_end(operation, |old| task.fail(old.clone(), &reason)).await;
                }
            }
            Ok(power) => {
                self.record_end(operation, |old| task.succeed(old.clone(), end, power, keep_targets)).await;
            }
            Err(reason) => {
                tracing::warn!(node = %operation.node.uuid, ?task, reason, "provisioning failed");
                self.record_end(operation, |old| task.fail(old.clone(), &reason)).await;
            }
        }
    }

    async fn verify(&self, operation: &NodeOperation) -> Result<Option<PowerState>, String> {
        let read = async {
            let claim = self.claim_bmc(operation).await?;
            self.power.read_state(&operation.node, &claim).await
        };
        read.await.map_err(|error: PowerError| error.to_string())
    }

    async fn switch_off(&self, operation: &NodeOperation) -> Result<(), String> {
        let switch = async {
            let claim = self.claim_bmc(operation).await?;
            self.power.change(&operation.node, &claim, PowerAction::Off, None).await
        };
        switch.await.map(drop).map_err(|error| error.to_string())
    }

    /// Attaches the volumes while the machine is off: its old operating system must not meet a volume of another node.
    async fn deploy(&self, operation: &NodeOperation) -> Result<(), String> {
        self.switch_off(operation).await?;
        let switched_off = |old: &Node| old.clone().with_power_state(PowerState::Off, Timestamp::now());
        self.record_step(operation, switched_off).await;
        self.boot.attach_volumes(&operation.node, ATTACH_TIME).await?;
        let claim = self.claim_bmc(operation).await.map_err(|error| error.to_string())?;
        let mut node = operation.node.clone();
        if node.has_managed_boot_device() && node.storage_interface != StorageInterface::Noop {
            let set = self.power.set_boot_device(&node, &claim, BootDevice::Pxe, true).await;
            let boot_note = set.map_err(|error| error.to_string())?;
            self.record_step(operation, |old| boot_note.write(old.clone())).await;
            node = boot_note.write(node);
        }
        let switched = self.power.change(&node, &claim, PowerAction::On, None).await;
        switched.map_err(|error| error.to_string())?;
        self.watch_network_boot(node.uuid);
        Ok(())
    }
}

/// The node at the end of the operation that this host was performing; `None` if there was none.
pub(super) fn interrupted_end(node: &Node, host: &str, reason: &str) -> Option<Node> {
    if !node.has_bmc() || node.reservation.as_deref() != Some(host) {
        return None;
    }
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
    fn an_operation_of_this_host_is_ended() {
        let deploying =
            ProvisionTask::Deploy.begin(node(), ProvisionState::Active, "boot-1", Timestamp::UNIX_EPOCH);
        let end = |node: &Node, host: &str| interrupted_end(node, host, "volboot was restarted meanwhile");
        assert_eq!(end(&deploying, "boot-2"), None);
        let ended = end(&deploying, "boot-1").expect("is ended");
        assert_eq!(ended.provision_state, ProvisionState::DeployFailed);
        let switched =
            Node { reservation: Some("boot-1".into()), target_power_state: Some(PowerState::On), ..node() };
        let ended = end(&switched, "boot-1").expect("is ended");
        assert_eq!((ended.reservation, ended.target_power_state), (None, None));
        assert!(ended.last_error.expect("an error").contains("not completed"));
        assert_eq!(end(&node(), "boot-1"), None);
    }
}
