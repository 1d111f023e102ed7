//! Maintenance: a node in maintenance is not deployed, and its machine gets no volumes.

use jiff::Timestamp;
use uuid::Uuid;

use super::Operator;
use super::refusal::{OperationRefusal, check_unreserved};
use crate::model::Node;

/// A change of a node's maintenance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaintenanceChange {
    /// Sets it, with a reason or without.
    Set(Option<String>),
    /// Clears it, and the reason.
    Clear,
}

impl Operator {
    /// Sets or clears a node's maintenance.
    pub async fn change_maintenance(
        &self,
        node: Uuid,
        change: MaintenanceChange,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        let (maintenance, reason) = match change {
            MaintenanceChange::Set(reason) => (true, reason),
            MaintenanceChange::Clear => (false, None),
        };
        let change = |old: &Node, _: Option<&Node>| {
            check_unreserved(old)?;
            let maintenance_reason = reason.clone();
            Ok(Node { maintenance, maintenance_reason, updated_at: Some(now), ..old.clone() })
        };
        self.inventory.update(node, change).await.map(drop).map_err(OperationRefusal::from)
    }
}
