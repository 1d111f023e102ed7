//! Allocations: reserves a node for a client, and ends reservations.
//!
//! One batch creates an allocation and changes its node, so no node is reserved twice and none without an allocation. A
//! node that loses its instance, or its record, loses its allocation in the same batch.

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use uuid::Uuid;

use super::enroll::add_record;
use super::write::{ATTEMPTS, Original, conflict_limit_error, find_duplicate, remove_record};
use super::{Inventory, InventoryError, UpdateError};
use crate::model::{Allocation, AllocationError, Node, NodeSelection, Suitability};
use crate::store::encoding::{Versioned, decode};
use crate::store::keys::record_key;
use crate::store::resource::UniqueKey;
use crate::store::{Batch, StoreError, WriteError};

/// Nodes per read when looking for suitable ones.
const PAGE: usize = 256;

impl Inventory {
    /// Creates an allocation and reserves a suitable node. Without such a node, the created allocation has failed, with
    /// the reason.
    pub async fn allocate(&self, new: &Allocation, now: Timestamp) -> Result<Allocation, InventoryError> {
        let reason = match self.select_nodes(new).await? {
            Err(reason) => reason,
            Ok(nodes) => match self.reserve_one(new, nodes, now).await? {
                Ok(allocation) => return Ok(allocation),
                Err(reason) => reason,
            },
        };
        let failed = new.fail(&reason, now);
        self.create(&failed).await?;
        Ok(failed)
    }

    /// Lists the suitable nodes, in the order of attempts.
    async fn select_nodes(
        &self,
        allocation: &Allocation,
    ) -> Result<Result<Vec<Uuid>, AllocationError>, StoreError> {
        let mut selection = NodeSelection::new(allocation);
        if !allocation.candidate_nodes.is_empty() {
            let nodes: Vec<Node> = self.get_all(allocation.candidate_nodes.iter().copied()).await?;
            for node in &nodes {
                selection.consider(node);
            }
            return Ok(selection.finish());
        }
        let mut last: Option<Node> = None;
        loop {
            let mut page = self.list::<Node>(last.as_ref(), PAGE).await?;
            for node in &page {
                selection.consider(&node.value);
            }
            match page.pop() {
                Some(node) if page.len() + 1 == PAGE => last = Some(node.value),
                _ => return Ok(selection.finish()),
            }
        }
    }

    /// Creates the allocation with the first of these nodes that is still suitable.
    async fn reserve_one(
        &self,
        new: &Allocation,
        nodes: Vec<Uuid>,
        now: Timestamp,
    ) -> Result<Result<Allocation, AllocationError>, InventoryError> {
        for node in nodes {
            match self.try_reserve(new, node, now).await {
                Ok(Some(allocation)) => return Ok(Ok(allocation)),
                Ok(None) => {}
                Err(InventoryError::Duplicate(UniqueKey::Instance(instance))) => {
                    return Ok(Err(AllocationError::InstanceInUse(instance)));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Err(AllocationError::AllTaken))
    }

    /// Creates the allocation with this node; `None` if the node is not suitable any more.
    async fn try_reserve(
        &self,
        new: &Allocation,
        node: Uuid,
        now: Timestamp,
    ) -> Result<Option<Allocation>, InventoryError> {
        for _ in 0..ATTEMPTS {
            let key = record_key::<Node>(node);
            let Some(record) = self.store.get(&[key]).await?.pop().flatten() else { return Ok(None) };
            let old: Node = decode(&record)?.value;
            if new.assess(&old) != Suitability::Suitable {
                return Ok(None);
            }
            let (allocation, reserved) = new.reserve(&old, now);
            let batch = Batch::default().require_unchanged(&record.key, record.revision);
            let batch = self.replace_record(batch, &record, &old, &reserved).await?;
            let batch = add_record(batch, &allocation)?;
            match self.store.write(batch).await {
                Ok(_) => return Ok(Some(allocation)),
                Err(WriteError::Conflict(condition)) => {
                    let duplicate = find_duplicate(&allocation, &condition)
                        .or_else(|| find_duplicate(&reserved, &condition));
                    if let Some(key) = duplicate {
                        return Err(InventoryError::Duplicate(key));
                    }
                }
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Deletes an allocation unless `check` refuses, and frees its node.
    pub async fn deallocate<E>(
        &self,
        allocation: Uuid,
        now: Timestamp,
        mut check: impl FnMut(&Allocation, Option<&Node>) -> Result<(), E>,
    ) -> Result<(), UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { old, node, mut batch, .. } =
                self.read_original::<Allocation, E>(allocation).await?;
            // A node with another instance has no part in the allocation any more.
            let node = node.filter(|node| node.allocation() == Some(allocation));
            check(&old, node.as_ref()).map_err(UpdateError::Refused)?;
            batch = match node {
                None => remove_record(batch, &old),
                Some(node) => {
                    let key = record_key::<Node>(node.uuid);
                    let record =
                        self.store.get(&[key]).await?.pop().flatten().ok_or(UpdateError::NotFound)?;
                    // The batch requires that the node is unchanged, and its new record ends the allocation.
                    self.replace_record(batch, &record, &node, &node.release_allocation(now)).await?
                }
            };
            if self.try_write(batch, &old).await? {
                return Ok(());
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Adds the deletion of an allocation whose node is lost.
    pub(super) async fn end_allocation(
        &self,
        batch: Batch,
        allocation: Option<Uuid>,
    ) -> Result<Batch, InventoryError> {
        let Some(uuid) = allocation else { return Ok(batch) };
        match self.get::<Allocation>(uuid).await? {
            Some(Versioned { value, revision }) => {
                let batch = batch.require_unchanged(record_key::<Allocation>(uuid), revision);
                Ok(remove_record(batch, &value))
            }
            None => Ok(batch.require_absent(record_key::<Allocation>(uuid))),
        }
    }
}
