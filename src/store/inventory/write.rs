//! Creates, changes and deletes records: the batches that keep a record and its index entries consistent.

use uuid::Uuid;

use super::claimed::ClaimFence;
use super::{Inventory, InventoryError, PAGE, UpdateError};
use crate::model::{BootOnce, Node, Port, PortGroup, Released, VolumeConnector, VolumeTarget};
use crate::store::encoding::{decode, encode, encode_update};
use crate::store::fallback;
use crate::store::keys::{guard_key, index_keys, node_prefix, record_key, window_key};
use crate::store::lost_volumes::{self, LostVolumes};
use crate::store::resource::{Resource, ResourceKind, UniqueKey};
use crate::store::{Batch, Condition, Record, StoreError, WriteError};

/// Attempts at a write before giving up after write conflicts. Each conflict means progress elsewhere, so this many
/// in a row indicate a fault.
pub(super) const ATTEMPTS: usize = 100;

/// A record to change or delete.
pub(super) struct Original<R> {
    /// The record as stored.
    pub(super) record: Record,
    /// The decoded record.
    pub(super) old: R,
    /// The record's node; `None` for a node itself.
    pub(super) node: Option<Node>,
    /// Requires that record and node are unchanged.
    pub(super) batch: Batch,
}

impl Inventory {
    /// Creates a record.
    pub async fn create<R: Resource>(&self, record: &R) -> Result<(), InventoryError> {
        if record.has_fallback() {
            self.check_all_upgraded()?;
        }
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::default().require_absent(record_key::<R>(record.uuid()));
            batch = match record.node() {
                Some(node) => self.require_guard(batch, node).await?.put(guard_key(node), ""),
                None if R::KIND == ResourceKind::Node => batch.put(guard_key(record.uuid()), ""),
                None => batch,
            };
            for key in record.unique_keys() {
                batch = batch.require_absent(key.key());
            }
            if self.try_write(put_record(batch, record)?, record).await? {
                return Ok(());
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Replaces a record by the result of `change`, which receives the record and its node (`None` for a node
    /// itself). The write fails if either has changed in the meantime; then `change` is called again.
    pub async fn update<R: Resource, E>(
        &self,
        uuid: Uuid,
        change: impl FnMut(&R, Option<&Node>) -> Result<R, E>,
    ) -> Result<R, UpdateError<E>> {
        self.update_in(&ClaimFence::None, uuid, change).await
    }

    /// Like [`Inventory::update`], behind a fence.
    pub(super) async fn update_in<R: Resource, E>(
        &self,
        fence: &ClaimFence,
        uuid: Uuid,
        mut change: impl FnMut(&R, Option<&Node>) -> Result<R, E>,
    ) -> Result<R, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { record, old, node, batch } = self.read_original::<R, E>(uuid).await?;
            let mut batch = fence.apply(batch);
            let new = change(&old, node.as_ref()).map_err(UpdateError::Refused)?;
            if new.node() != old.node() {
                // Both guards change, so that a concurrent deletion of either node conflicts.
                for node in [old.node(), new.node()].into_iter().flatten() {
                    batch = self.require_guard(batch, node).await?.put(guard_key(node), "");
                }
            }
            let batch = self.replace_record(batch, &record, &old, &new).await?;
            if self.try_write(batch, &new).await? {
                return Ok(new);
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Undeploys a node together with its volume targets: changes the node like [`Inventory::update`], and in the same
    /// batch ends everything that its machine could boot from. The next deployment must meet no volume of this one: the
    /// volume targets, the one-time boot, and the records of its fallback are deleted, and all its volumes are detached.
    pub async fn undeploy_without_targets<E>(
        &self,
        node: Uuid,
        change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Node, UpdateError<E>> {
        self.undeploy_without_targets_in(&ClaimFence::None, node, change).await
    }

    /// Like [`Inventory::undeploy_without_targets`], behind a fence.
    pub(super) async fn undeploy_without_targets_in<E>(
        &self,
        fence: &ClaimFence,
        node: Uuid,
        mut change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Node, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { record, old, batch, .. } = self.read_original::<Node, E>(node).await?;
            let batch = fence.apply(batch);
            let new = change(&old).map_err(UpdateError::Refused)?;
            // The guard is read before the list, so a later new record conflicts.
            let batch = self.require_guard(batch, node).await?.put(guard_key(node), "");
            let batch = self.remove_all_of::<VolumeTarget>(batch, node).await?;
            let batch = self.remove_all_of::<BootOnce>(batch, node).await?;
            let batch = self.replace_record(batch, &record, &old, &new).await?;
            let batch = lost_volumes::detach(&*self.store, batch, node, LostVolumes::All).await?;
            let batch = fallback::remove_all(batch, node);
            if self.try_write(batch, &new).await? {
                return Ok(new);
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Deletes a record unless `check` refuses, which is called as in [`Inventory::update`]. All records of a deleted
    /// node are deleted with the node.
    pub async fn delete<R: Resource, E>(
        &self,
        uuid: Uuid,
        mut check: impl FnMut(&R, Option<&Node>) -> Result<(), E>,
    ) -> Result<R, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { old, node, batch, .. } = self.read_original::<R, E>(uuid).await?;
            check(&old, node.as_ref()).map_err(UpdateError::Refused)?;
            let mut batch =
                self.detach_released(remove_record(batch, &old), &old.find_released(None)).await?;
            batch = self.end_allocation(batch, old.find_ended_allocation(None)).await?;
            if let Some(node) = &node {
                // A concurrent deletion of the node must not delete unique keys that another record takes next.
                batch = batch.put(guard_key(node.uuid), "");
            }
            if R::KIND == ResourceKind::Node {
                // The guard is read before the lists, so a later new record conflicts.
                batch = self.require_guard(batch, uuid).await?.delete(guard_key(uuid));
                batch = self.remove_all_of::<Port>(batch, uuid).await?;
                batch = self.remove_all_of::<PortGroup>(batch, uuid).await?;
                batch = self.remove_all_of::<VolumeConnector>(batch, uuid).await?;
                batch = self.remove_all_of::<VolumeTarget>(batch, uuid).await?;
                batch = self.remove_all_of::<BootOnce>(batch, uuid).await?;
                batch = fallback::remove_all(batch, uuid);
                batch = batch.delete(window_key(uuid));
            }
            if self.try_write(batch, &old).await? {
                return Ok(old);
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Adds the replacement of a record: the new record, and the end of everything that the old one alone called for.
    pub(super) async fn replace_record<R: Resource>(
        &self,
        mut batch: Batch,
        record: &Record,
        old: &R,
        new: &R,
    ) -> Result<Batch, InventoryError> {
        debug_assert_eq!(old.sort_key(), new.sort_key(), "UUID and creation time never change");
        let old_keys = old.unique_keys();
        for key in new.unique_keys().into_iter().filter(|key| !old_keys.contains(key)) {
            batch = batch.require_absent(key.key());
        }
        let released = old.find_released(Some(new));
        batch = self.detach_released(batch, &released).await?;
        if old.ends_fallback(new) {
            batch = fallback::remove_state(batch, old.uuid());
        }
        if let Released::All(node) | Released::Borrowed(node) | Released::Fallback { node, .. } = released {
            batch = batch.put(guard_key(node), "");
        }
        if let Released::All(node) = released {
            batch = self.remove_all_of::<BootOnce>(batch, node).await?;
        }
        batch = self.end_allocation(batch, old.find_ended_allocation(Some(new))).await?;
        Ok(put_encoded(remove_record(batch, old), new, encode_update(record, new)?))
    }

    /// Reads a record and its node, to change or delete the record.
    pub(super) async fn read_original<R: Resource, E>(
        &self,
        uuid: Uuid,
    ) -> Result<Original<R>, UpdateError<E>> {
        let record = self.store.get(&[record_key::<R>(uuid)]).await?.pop().flatten();
        let record = record.ok_or(UpdateError::NotFound)?;
        let old: R = decode(&record)?.value;
        let batch = Batch::default().require_unchanged(&record.key, record.revision);
        let Some(node) = old.node() else { return Ok(Original { record, old, node: None, batch }) };
        // Without the node, it was deleted between the two reads, and with it the record.
        let node = self.get::<Node>(node).await?.ok_or(UpdateError::NotFound)?;
        let batch = batch.require_unchanged(record_key::<Node>(node.value.uuid), node.revision);
        Ok(Original { record, old, node: Some(node.value), batch })
    }

    /// Requires that the node exists with an unchanged guard.
    pub(super) async fn require_guard(&self, batch: Batch, node: Uuid) -> Result<Batch, InventoryError> {
        let key = guard_key(node);
        let guard = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten();
        let guard = guard.ok_or(InventoryError::NodeNotFound(node))?;
        Ok(batch.require_unchanged(key, guard.revision))
    }

    /// Adds the deletion of all of a node's records of one type. The batch must require the node's guard.
    ///
    /// One condition covers them all, whatever their number: every write of a record also writes its entry in the node's
    /// list, and the guard changes with every new or deleted record.
    async fn remove_all_of<R: Resource>(
        &self,
        mut batch: Batch,
        node: Uuid,
    ) -> Result<Batch, InventoryError> {
        let prefix = node_prefix::<R>(node);
        let (mut latest, mut after) = (0, None::<String>);
        loop {
            let page = self.store.list(&prefix, after.as_deref(), PAGE).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            latest = page.iter().map(|entry| entry.revision).fold(latest, u64::max);
        }
        batch = batch.require_untouched(prefix, latest);
        for child in self.list_all_of::<R>(node).await? {
            batch = remove_record(batch, &child);
            if let Released::Volume(node, volume) = child.find_released(None) {
                batch = lost_volumes::detach(&*self.store, batch, node, LostVolumes::One(&volume)).await?;
            }
        }
        Ok(batch)
    }

    /// Adds the detachment of the volumes that a node loses.
    async fn detach_released(&self, batch: Batch, released: &Released) -> Result<Batch, InventoryError> {
        match released {
            Released::Nothing => Ok(batch),
            Released::Volume(node, volume) => Ok(self.release_volume(batch, *node, volume).await?),
            Released::Fallback { node, volume, with_borrowed } => {
                let batch = self.require_guard(batch, *node).await?;
                let batch = self.release_volume(batch, *node, volume).await?;
                match with_borrowed {
                    true => {
                        Ok(lost_volumes::detach(&*self.store, batch, *node, LostVolumes::Borrowed).await?)
                    }
                    false => Ok(batch),
                }
            }
            Released::All(node) => self.detach_listed(batch, *node, LostVolumes::All).await,
            Released::Borrowed(node) => self.detach_listed(batch, *node, LostVolumes::Borrowed).await,
        }
    }

    async fn detach_listed(
        &self,
        batch: Batch,
        node: Uuid,
        lost: LostVolumes<'_>,
    ) -> Result<Batch, InventoryError> {
        // The guard is read before the list, so a later `intend` conflicts.
        let batch = self.require_guard(batch, node).await?;
        Ok(lost_volumes::detach(&*self.store, batch, node, lost).await?)
    }

    /// Writes a batch. `false` means a write conflict: read again and retry.
    pub(super) async fn try_write<R: Resource>(
        &self,
        batch: Batch,
        record: &R,
    ) -> Result<bool, InventoryError> {
        match self.store.write(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(Condition::Held(claim))) => Err(InventoryError::ClaimEnded(claim.work)),
            Err(WriteError::Conflict(condition)) => match find_duplicate(record, &condition) {
                Some(key) => Err(InventoryError::Duplicate(key)),
                None => Ok(false),
            },
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}

/// Finds the record's unique value that another record already has, if the failed condition is about one.
pub(super) fn find_duplicate<R: Resource>(record: &R, condition: &Condition) -> Option<UniqueKey> {
    let Condition::Absent(key) = condition else { return None };
    let uuid = UniqueKey::Uuid(R::KIND, record.uuid());
    std::iter::once(uuid).chain(record.unique_keys()).find(|unique_key| unique_key.key() == *key)
}

/// Adds a new record and its index entries to a batch.
pub(super) fn put_record<R: Resource>(batch: Batch, record: &R) -> Result<Batch, StoreError> {
    Ok(put_encoded(batch, record, encode(record)?))
}

/// Adds an encoded record and its index entries to a batch.
fn put_encoded<R: Resource>(batch: Batch, record: &R, value: Vec<u8>) -> Batch {
    let batch = batch.put(record_key::<R>(record.uuid()), value);
    index_keys(record).fold(batch, |batch, key| batch.put(key, record.uuid().as_bytes()))
}

/// Removes a record and its index entries.
pub(super) fn remove_record<R: Resource>(batch: Batch, record: &R) -> Batch {
    let batch = batch.delete(record_key::<R>(record.uuid()));
    index_keys(record).fold(batch, Batch::delete)
}

pub(super) fn conflict_limit_error() -> StoreError {
    StoreError::Unavailable(format!("gave up after {ATTEMPTS} write conflicts"))
}
