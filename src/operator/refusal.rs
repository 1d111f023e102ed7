//! [`OperationRefusal`]: why an operation on a node did not begin. API and pages show the same sentence.

use std::fmt::Display;

use uuid::Uuid;

use crate::model::Node;
use crate::power::{DriverInfoError, PowerError};
use crate::store::{InventoryError, StoreError, UpdateError};

/// An operation on a node was refused before it began. The texts of rules that Ironic has are Ironic's.
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
    /// The node's state or records do not allow the operation.
    #[error("{0}")]
    Invalid(String),
    /// The node's state conflicts with the operation.
    #[error("{0}")]
    Conflict(String),
    /// The node is protected from the operation.
    #[error("{0}")]
    Protected(String),
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

impl OperationRefusal {
    /// The refusal of an action that the node's state does not allow.
    pub fn wrong_state(action: &str, node: impl Display, state: &str) -> Self {
        Self::Invalid(format!(
            "The requested action \"{action}\" can not be performed on node \"{node}\" while it is in state \
             \"{state}\"."
        ))
    }
}

/// Refuses an operation on a node that is reserved for another.
pub fn check_unreserved(node: &Node) -> Result<(), OperationRefusal> {
    match &node.reservation {
        Some(host) => Err(OperationRefusal::Reserved { node: node.uuid, host: host.clone() }),
        None => Ok(()),
    }
}

/// Refuses an operation that takes the instance from a protected node (1.48).
pub fn check_unprotected(node: &Node) -> Result<(), OperationRefusal> {
    if !node.protected {
        return Ok(());
    }
    let text = format!("Node {} is protected and cannot be undeployed, rebuilt or deleted", node.uuid);
    Err(OperationRefusal::Protected(text))
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

impl From<StoreError> for OperationRefusal {
    fn from(error: StoreError) -> Self {
        Self::Inventory(error.into())
    }
}
