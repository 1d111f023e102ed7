//! Power changes and boot devices of nodes with a BMC.
//!
//! A power change runs in the background, as in Ironic's conductor. Meanwhile the node's record shows the target state
//! and the reservation, and other changes of the node are refused.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::Operator;
use crate::model::{Node, PowerState};
use crate::power::{
    BootDevice, BootDeviceState, DriverInfoError, PowerAction, PowerError, parse_driver_info,
};
use crate::store::{InventoryError, UpdateError};

/// The pause between attempts to record the end of an operation.
const RECORD_INTERVAL: Duration = Duration::from_secs(5);
/// Attempts to record the end of an operation. After them, the node stays reserved until the next start.
const RECORD_ATTEMPTS: u32 = 120;

/// An operation on a node was refused before it began.
#[derive(Debug, thiserror::Error)]
pub enum OperationRefusal {
    /// Another operation is under way.
    #[error("Node {node} is locked by host {host}, please retry after the current operation is completed.")]
    Reserved {
        /// The node.
        node: Uuid,
        /// The host of the conductor that works on the node.
        host: String,
    },
    /// The node's `driver_info` is invalid.
    #[error(transparent)]
    DriverInfo(#[from] DriverInfoError),
    /// The BMC failed.
    #[error("{0}")]
    Failed(PowerError),
    /// The node does not exist any more.
    #[error("the node does not exist any more")]
    NotFound,
    /// The records cannot be written.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
}

/// Refuses an operation on a node that is reserved for another.
pub fn check_unreserved(node: &Node) -> Result<(), OperationRefusal> {
    match &node.reservation {
        Some(host) => Err(OperationRefusal::Reserved { node: node.uuid, host: host.clone() }),
        None => Ok(()),
    }
}

impl From<UpdateError<Self>> for OperationRefusal {
    fn from(error: UpdateError<Self>) -> Self {
        match error {
            UpdateError::NotFound => Self::NotFound,
            UpdateError::Refused(refusal) => refusal,
            UpdateError::Inventory(error) => Self::Inventory(error),
        }
    }
}

impl Operator {
    /// Starts a power change of a node with a BMC. Returns once the node is reserved for it.
    pub async fn start_power_change(
        self: &Arc<Self>,
        node: Uuid,
        action: PowerAction,
        timeout: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        let reserve = |old: &Node, _: Option<&Node>| {
            check_unreserved(old)?;
            parse_driver_info(old)?;
            Ok(Node {
                target_power_state: Some(action.end_state()),
                reservation: Some(self.conductor.hostname.clone()),
                last_error: None,
                updated_at: Some(now),
                ..old.clone()
            })
        };
        let node = self.inventory.update(node, reserve).await?;
        let operator = Arc::clone(self);
        tokio::spawn(async move {
            let result = operator.change_power(&node, action, timeout).await;
            operator.finish_power_change(node.uuid, action, result).await;
        });
        Ok(())
    }

    async fn change_power(
        &self,
        node: &Node,
        action: PowerAction,
        timeout: Option<Duration>,
    ) -> Result<PowerState, PowerError> {
        let claim = self.power.claim(node).await?;
        self.power.change(node, &claim, action, timeout).await
    }

    async fn finish_power_change(
        &self,
        node: Uuid,
        action: PowerAction,
        result: Result<PowerState, PowerError>,
    ) {
        if let Err(error) = &result {
            tracing::warn!(%node, action = action.as_str(), %error, "power change failed");
        }
        self.record_end(node, |old| {
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

    /// Records the end of an operation, whatever the store says at first.
    pub(super) async fn record_end(&self, node: Uuid, change: impl Fn(&Node) -> Node) {
        for _ in 0..RECORD_ATTEMPTS {
            let written = self.inventory.update(node, |old: &Node, _| Ok::<_, ()>(change(old))).await;
            match written {
                Ok(_) | Err(UpdateError::NotFound | UpdateError::Refused(())) => return,
                Err(UpdateError::Inventory(error)) => {
                    tracing::error!(%node, %error, "cannot record the end of an operation");
                    tokio::time::sleep(RECORD_INTERVAL).await;
                }
            }
        }
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
