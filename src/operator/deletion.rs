//! Deletion of a node, with Ironic's conditions.

use uuid::Uuid;

use super::Operator;
use super::refusal::{OperationRefusal, check_unprotected, check_unreserved};
use crate::model::{Node, ProvisionState};

impl Operator {
    /// Deletes a node with its ports, connectors and volume targets.
    pub async fn delete_node(&self, node: Uuid) -> Result<(), OperationRefusal> {
        let deleted = self.inventory.delete(node, |node: &Node, _| check_deletable(node)).await;
        deleted.map(drop).map_err(OperationRefusal::from)
    }
}

/// Refuses the deletion of a node that is in use.
pub fn check_deletable(node: &Node) -> Result<(), OperationRefusal> {
    use ProvisionState::{AdoptFailed, Available, Enroll, Manageable};
    if let Some(instance) = node.instance_uuid.filter(|_| !node.maintenance) {
        let text = format!("Node {} is associated with instance {instance}.", node.uuid);
        return Err(OperationRefusal::Conflict(text));
    }
    check_unreserved(node)?;
    check_unprotected(node)?;
    if node.maintenance || matches!(node.provision_state, Available | AdoptFailed | Enroll | Manageable) {
        return Ok(());
    }
    Err(OperationRefusal::Conflict(format!(
        "Can not delete node \"{}\" while it is in provision state \"{}\". Valid provision states to perform deletion \
         are: \"adopt failed, available, enroll, manageable\", or maintenance mode.",
        node.uuid,
        node.provision_state.as_str()
    )))
}
