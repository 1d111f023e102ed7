//! Enrollment: creates a node with port, connector and target in one batch, so no crash leaves a partial node.

use super::write::{conflict_limit_error, find_duplicate, put_record};
use super::{Inventory, InventoryError};
use crate::model::{Node, Port, VolumeConnector, VolumeTarget};
use crate::store::keys::{guard_key, record_key};
use crate::store::resource::Resource;
use crate::store::{Batch, StoreError, WriteError};

/// A new node with all records that a boot requires.
#[derive(Debug, Clone)]
pub struct Enrollment {
    /// The node.
    pub node: Node,
    /// The boot card.
    pub port: Port,
    /// The initiator name.
    pub connector: VolumeConnector,
    /// The boot volume.
    pub target: VolumeTarget,
}

impl Inventory {
    /// Creates all four records, or none.
    pub async fn enroll(&self, new: &Enrollment) -> Result<(), InventoryError> {
        let batch = Batch::default().put(guard_key(new.node.uuid), "");
        let batch = add_record(batch, &new.node)?;
        let batch = add_record(batch, &new.port)?;
        let batch = add_record(batch, &new.connector)?;
        let batch = add_record(batch, &new.target)?;
        match self.store.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Conflict(condition)) => {
                let duplicate = find_duplicate(&new.node, &condition)
                    .or_else(|| find_duplicate(&new.port, &condition))
                    .or_else(|| find_duplicate(&new.connector, &condition))
                    .or_else(|| find_duplicate(&new.target, &condition));
                // Every condition belongs to one of these four records.
                Err(duplicate.map_or_else(|| conflict_limit_error().into(), InventoryError::Duplicate))
            }
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}

/// Adds the creation of a record, and its uniqueness conditions.
pub(super) fn add_record<R: Resource>(batch: Batch, record: &R) -> Result<Batch, StoreError> {
    let batch = batch.require_absent(record_key::<R>(record.uuid()));
    let batch = record.unique_keys().into_iter().fold(batch, |batch, key| batch.require_absent(key.key()));
    put_record(batch, record)
}
