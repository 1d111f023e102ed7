//! Power changes and boot devices of nodes with a BMC.
//!
//! A power change runs in the background, as in Ironic's conductor. Meanwhile the node's record shows the target state
//! and the reservation, and other changes of the node are refused.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::operation::NodeOperation;
use super::refusal::{OperationRefusal, check_unreserved};
use super::{NetworkBootWatch, Operator};
use crate::model::{Node, PowerState, ProvisionState};
use crate::power::{BmcClaim, BootDevice, BootDeviceState, PowerAction, PowerError, parse_driver_info};
use crate::store::UpdateError;

/// What volboot does to a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PowerTask {
    Change(PowerAction),
    /// Boots from the network: sets the boot device, then switches off and on.
    Boot,
}

impl PowerTask {
    const fn action(self) -> PowerAction {
        match self {
            Self::Change(action) => action,
            Self::Boot => PowerAction::Reboot,
        }
    }
}

/// Checks that a power change exists and that the node's state allows it. `ident` is the node as the client named it.
fn check_power_change(node: &Node, ident: &str, target: &str) -> Result<PowerAction, OperationRefusal> {
    let action = PowerAction::parse(target).ok_or_else(|| {
        let state = node.recorded_power_state().map_or("None", PowerState::as_str);
        OperationRefusal::wrong_state(target, ident, state)
    })?;
    match node.provision_state {
        state @ (ProvisionState::Cleaning | ProvisionState::CleanWait) => {
            Err(OperationRefusal::wrong_state(target, ident, state.as_str()))
        }
        _ => Ok(action),
    }
}

/// Why volboot cannot switch a node's machine; `None` if it can.
pub fn find_power_obstacle(node: &Node) -> Option<String> {
    if !node.has_bmc() {
        let driver = &node.driver;
        return Some(format!(
            "driver {driver} has no BMC; with driver redfish, volboot switches the machine"
        ));
    }
    parse_driver_info(node).err().map(|error| error.to_string())
}

impl Operator {
    /// Switches a machine with a BMC; for others, records the state that an operator has switched to by hand. `target` is
    /// Ironic's name of the change, and `ident` the node as the client named it.
    pub async fn set_power(
        self: &Arc<Self>,
        node: &Node,
        ident: &str,
        target: &str,
        timeout: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        if node.has_bmc() {
            let action = check_power_change(node, ident, target)?;
            return self.start_power_task(node.uuid, PowerTask::Change(action), timeout, now).await;
        }
        let change = |old: &Node, _: Option<&Node>| {
            let power = check_power_change(old, ident, target)?.end_state();
            let node = Node { last_error: None, updated_at: Some(now), ..old.clone() };
            Ok(node.with_power_state(power, now))
        };
        self.inventory.update(node.uuid, change).await.map(drop).map_err(OperationRefusal::from)
    }

    /// Starts a boot from the network: sets the boot device, then switches the machine off and on.
    pub async fn start_boot(self: &Arc<Self>, node: &Node, now: Timestamp) -> Result<(), OperationRefusal> {
        if let Some(obstacle) = find_power_obstacle(node) {
            return Err(OperationRefusal::Invalid(format!("node {}: {obstacle}", node.label())));
        }
        check_power_change(node, &node.label(), PowerAction::Reboot.as_str())?;
        self.start_power_task(node.uuid, PowerTask::Boot, None, now).await
    }

    /// Starts a task for a node with a BMC. Returns once the node is reserved for it.
    async fn start_power_task(
        self: &Arc<Self>,
        node: Uuid,
        task: PowerTask,
        timeout: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        let action = task.action();
        let reserve = |old: &Node| {
            parse_driver_info(old)?;
            Ok(Node {
                target_power_state: Some(action.end_state()),
                reservation: Some(self.conductor.hostname.clone()),
                last_error: None,
                updated_at: Some(now),
                ..old.clone()
            })
        };
        let operation = self.begin_operation(node, reserve).await?;
        let operator = Arc::clone(self);
        tokio::spawn(async move {
            let result = match task {
                PowerTask::Change(action) => operator.change_power(&operation, action, timeout).await,
                PowerTask::Boot => operator.boot_from_network(&operation).await,
            };
            operator.finish_power_change(operation, action, result).await;
        });
        Ok(())
    }

    /// Sets the boot device to the network for the next boot, unless it is set for all boots; then switches off and on.
    async fn boot_from_network(&self, operation: &NodeOperation) -> Result<PowerState, PowerError> {
        let claim = self.claim_bmc(operation).await?;
        let mut node = operation.node.clone();
        if node.has_managed_boot_device() {
            let now = self.power.read_boot_device(&node, &claim).await?;
            let is_network = matches!(now.device, Some(BootDevice::Pxe | BootDevice::UefiHttp));
            if !is_network || now.persistent != Some(true) {
                let boot_note = self.power.set_boot_device(&node, &claim, BootDevice::Pxe, false).await?;
                self.record_step(operation, |old| boot_note.write(old.clone())).await;
                node = boot_note.write(node);
            }
        }
        self.switch(&node, &claim, PowerAction::Reboot, None).await
    }

    async fn change_power(
        &self,
        operation: &NodeOperation,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let claim = self.claim_bmc(operation).await?;
        self.switch(&operation.node, &claim, action, timeout).await
    }

    async fn switch(
        &self,
        node: &Node,
        claim: &BmcClaim<'_>,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let state = self.power.change(node, claim, action, timeout).await?;
        if state == PowerState::On {
            self.watch_network_boot(node.uuid);
        }
        Ok(state)
    }

    /// Watches whether a machine that was just switched on boots from the network.
    pub(super) fn watch_network_boot(&self, node: Uuid) {
        let limit = self.power.limits().first_request;
        NetworkBootWatch::new(self.inventory.clone(), self.timeline.clone(), limit).spawn(node);
    }

    async fn finish_power_change(
        &self,
        operation: NodeOperation,
        action: PowerAction,
        result: Result<PowerState, PowerError>,
    ) {
        if let Err(error) = &result {
            let node = operation.node.uuid;
            tracing::warn!(%node, action = action.as_str(), %error, "power change failed");
        }
        self.record_end(operation, |old| {
            let node = Node { target_power_state: None, reservation: None, ..old.clone() };
            match &result {
                Ok(state) => node.with_power_state(*state, Timestamp::now()),
                Err(error) => Node {
                    last_error: Some(format!(
                        "Failed to change power state to '{}' by '{}': {error}",
                        action.end_state().as_str(),
                        action.as_str()
                    )),
                    ..node
                },
            }
        })
        .await;
    }

    /// Reads a node's boot device from its BMC.
    pub async fn read_boot_device(&self, node: &Node) -> Result<BootDeviceState, OperationRefusal> {
        check_unreserved(node)?;
        parse_driver_info(node)?;
        let read = async {
            let claim = self.power.claim(node).await?;
            self.power.read_boot_device(node, &claim).await
        };
        read.await.map_err(|error| self.refuse(node, error))
    }

    /// Sets a node's boot device through its BMC.
    pub async fn set_boot_device(
        &self,
        node: &Node,
        device: BootDevice,
        persistent: bool,
    ) -> Result<(), OperationRefusal> {
        check_unreserved(node)?;
        parse_driver_info(node)?;
        let set = async {
            let claim = self.power.claim(node).await?;
            self.power.set_boot_device(node, &claim, device, persistent).await
        };
        let boot_note = set.await.map_err(|error| self.refuse(node, error))?;
        self.inventory
            .update(node.uuid, |old: &Node, _| Ok(boot_note.write(old.clone())))
            .await
            .map(drop)
            .map_err(|error: UpdateError<OperationRefusal>| error.into())
    }

    fn refuse(&self, node: &Node, error: PowerError) -> OperationRefusal {
        match error {
            PowerError::Busy => {
                OperationRefusal::Reserved { node: node.uuid, host: self.conductor.hostname.clone() }
            }
            error => OperationRefusal::Failed(error),
        }
    }
}
