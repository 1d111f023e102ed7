//! A node and all it needs to boot, created in one batch: there is no half of a machine, whatever happens.

use super::write::{guard_key, put, taken, too_busy};
use super::{Inventory, InventoryError, record_key};
use crate::model::{Node, Port, VolumeConnector, VolumeTarget};
use crate::store::resource::Resource;
use crate::store::{Batch, StoreError, WriteError};

/// A new node, and what makes it boot.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The node.
    pub node: Node,
    /// The card it boots through.
    pub port: Port,
    /// The name it logs in with.
    pub connector: VolumeConnector,
    /// The volume it boots from.
    pub target: VolumeTarget,
}

impl Inventory {
    /// Creates all of it, or nothing.
    pub async fn enrol(&self, new: &Enrolment) -> Result<(), InventoryError> {
        let batch = Batch::default().put(guard_key(new.node.uuid), "");
        let batch = added(batch, &new.node)?;
        let batch = added(batch, &new.port)?;
        let batch = added(batch, &new.connector)?;
        let batch = added(batch, &new.target)?;
        match self.store.write(batch).await {
            Ok(_) => Ok(()),
            Err(WriteError::Conflict(condition)) => {
                let unique = taken(&new.node, &condition)
                    .or_else(|| taken(&new.port, &condition))
                    .or_else(|| taken(&new.connector, &condition))
                    .or_else(|| taken(&new.target, &condition));
                // All conditions are of these four: nothing else can have failed.
                Err(unique.map_or_else(|| too_busy().into(), InventoryError::Duplicate))
            }
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}

/// A batch that also creates this record, which nobody may have.
fn added<R: Resource>(batch: Batch, record: &R) -> Result<Batch, StoreError> {
    let batch = batch.absent(record_key::<R>(record.uuid()));
    let batch = record.uniques().into_iter().fold(batch, |batch, unique| batch.absent(unique.key()));
    put(batch, record)
}
