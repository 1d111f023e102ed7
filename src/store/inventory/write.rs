//! How records are created, changed and deleted: the batches that keep a record and what is derived from it together.

use uuid::Uuid;

use super::{Inventory, InventoryError, UpdateError, list_prefix, node_prefix, record_key};
use crate::model::{Node, Port, PortGroup, VolumeConnector, VolumeTarget};
use crate::store::attachments;
use crate::store::resource::{Kind, LetGo, Resource, Unique, Versioned};
use crate::store::{Batch, Condition, StoreError, WriteError};

/// How often a change is tried again after others were quicker. Each time somebody got on, so this many losses in
/// a row mean that something is wrong.
const ATTEMPTS: usize = 100;

impl Inventory {
    /// Adds a record.
    pub async fn create<R: Resource>(&self, record: &R) -> Result<(), InventoryError> {
        for _ in 0..ATTEMPTS {
            let mut batch = Batch::default().absent(record_key::<R>(record.uuid()));
            batch = match record.node() {
                Some(node) => self.guarded(batch, node).await?.put(guard_key(node), ""),
                None => batch.put(guard_key(record.uuid()), ""),
            };
            for unique in record.uniques() {
                batch = batch.absent(unique.key());
            }
            if self.written(put(batch, record)?, record).await? {
                return Ok(());
            }
        }
        Err(too_busy().into())
    }

    /// Replaces a record by what `change` makes of it, given also the node it belongs to (`None` for a node
    /// itself). Neither has changed in the meantime when the new record is written.
    pub async fn update<R: Resource, E>(
        &self,
        uuid: Uuid,
        mut change: impl FnMut(&R, Option<&Node>) -> Result<R, E>,
    ) -> Result<R, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let (old, node, mut batch) = self.present::<R, E>(uuid).await?;
            let new = change(&old, node.as_ref()).map_err(UpdateError::Refused)?;
            debug_assert_eq!(old.place(), new.place(), "identity and age never change");
            if new.node() != old.node() {
                // Neither may be deleted in the moment in which the record goes from one to the other.
                for node in [old.node(), new.node()].into_iter().flatten() {
                    batch = self.guarded(batch, node).await?.put(guard_key(node), "");
                }
            }
            let kept = old.uniques();
            for unique in new.uniques().into_iter().filter(|unique| !kept.contains(unique)) {
                batch = batch.absent(unique.key());
            }
            let gone = old.lets_go(Some(&new));
            batch = self.let_go(batch, &gone).await?;
            if let LetGo::All(node) = gone {
                batch = batch.put(guard_key(node), "");
            }
            if self.written(put(remove(batch, &old), &new)?, &new).await? {
                return Ok(new);
            }
        }
        Err(too_busy().into())
    }

    /// Changes a node as [`Inventory::update`] does, and in the same batch deletes all its records of the kind `R`.
    pub async fn update_without<R: Resource, E>(
        &self,
        node: Uuid,
        mut change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Node, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let (old, _, batch) = self.present::<Node, E>(node).await?;
            let new = change(&old).map_err(UpdateError::Refused)?;
            // Read before the records, so that none can come after they were listed.
            let batch = self.guarded(batch, node).await?.put(guard_key(node), "");
            let batch = self.remove_all::<R>(batch, node).await?;
            let batch = self.let_go(batch, &old.lets_go(Some(&new))).await?;
            if self.written(put(remove(batch, &old), &new)?, &new).await? {
                return Ok(new);
            }
        }
        Err(too_busy().into())
    }

    /// Deletes a record if `allowed` says so, asked as in [`Inventory::update`]. A node takes all that belongs to
    /// it along.
    pub async fn delete<R: Resource, E>(
        &self,
        uuid: Uuid,
        mut allowed: impl FnMut(&R, Option<&Node>) -> Result<(), E>,
    ) -> Result<R, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let (old, node, batch) = self.present::<R, E>(uuid).await?;
            allowed(&old, node.as_ref()).map_err(UpdateError::Refused)?;
            let mut batch = self.let_go(remove(batch, &old), &old.lets_go(None)).await?;
            if R::KIND == Kind::Node {
                // Read before the children, so that none can come after they were listed.
                batch = self.guarded(batch, uuid).await?.delete(guard_key(uuid));
                batch = self.remove_all::<Port>(batch, uuid).await?;
                batch = self.remove_all::<PortGroup>(batch, uuid).await?;
                batch = self.remove_all::<VolumeConnector>(batch, uuid).await?;
                batch = self.remove_all::<VolumeTarget>(batch, uuid).await?;
            }
            if self.written(batch, &old).await? {
                return Ok(old);
            }
        }
        Err(too_busy().into())
    }

    /// A record, the node it belongs to, and a batch that requires both to be as they were read.
    async fn present<R: Resource, E>(&self, uuid: Uuid) -> Result<(R, Option<Node>, Batch), UpdateError<E>> {
        let Versioned { value, revision } = self.get::<R>(uuid).await?.ok_or(UpdateError::NotFound)?;
        let batch = Batch::default().unchanged(record_key::<R>(uuid), revision);
        let Some(node) = value.node() else { return Ok((value, None, batch)) };
        match self.get::<Node>(node).await? {
            Some(node) => {
                let batch = batch.unchanged(record_key::<Node>(node.value.uuid), node.revision);
                Ok((value, Some(node.value), batch))
            }
            // Deleted between the two reads, and the record with it.
            None => Err(UpdateError::NotFound),
        }
    }

    /// Requires that the node exists and that its guard is not touched at the same time.
    async fn guarded(&self, batch: Batch, node: Uuid) -> Result<Batch, InventoryError> {
        let key = guard_key(node);
        let guard = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten();
        let guard = guard.ok_or(InventoryError::NoNode(node))?;
        Ok(batch.unchanged(key, guard.revision))
    }

    async fn remove_all<R: Resource>(&self, mut batch: Batch, node: Uuid) -> Result<Batch, InventoryError> {
        for child in self.versions_of::<R>(node).await? {
            batch = batch.unchanged(record_key::<R>(child.value.uuid()), child.revision);
            batch = remove(batch, &child.value);
            if let LetGo::Volume(node, volume) = child.value.lets_go(None) {
                batch = attachments::detach(&*self.store, batch, node, Some(&volume)).await?;
            }
        }
        Ok(batch)
    }

    /// How many targets of a node name a volume.
    async fn names(&self, node: Uuid, volume: &str) -> Result<usize, StoreError> {
        let targets = self.all_of::<VolumeTarget>(node).await?;
        Ok(targets.iter().filter(|target| target.volume_id == volume).count())
    }

    /// Has the attachments of volumes that a node loses detached.
    async fn let_go(&self, batch: Batch, what: &LetGo) -> Result<Batch, InventoryError> {
        match what {
            LetGo::Nothing => Ok(batch),
            // Another target may name the same volume.
            LetGo::Volume(node, volume) if self.names(*node, volume).await? > 1 => Ok(batch),
            LetGo::Volume(node, volume) => {
                Ok(attachments::detach(&*self.store, batch, *node, Some(volume)).await?)
            }
            LetGo::All(node) => {
                // Read before the attachments, so that none can come after they were listed.
                let batch = self.guarded(batch, *node).await?;
                Ok(attachments::detach(&*self.store, batch, *node, None).await?)
            }
        }
    }

    /// Whether a batch was written. `false`: another was quicker, read again.
    async fn written<R: Resource>(&self, batch: Batch, record: &R) -> Result<bool, InventoryError> {
        match self.store.write(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(condition)) => match taken(record, &condition) {
                Some(unique) => Err(InventoryError::Duplicate(unique)),
                None => Ok(false),
            },
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }
}

/// Which of the record's unique things another has, if that is why a batch was refused.
pub(super) fn taken<R: Resource>(record: &R, condition: &Condition) -> Option<Unique> {
    let Condition::Absent(key) = condition else { return None };
    let uuid = Unique::Uuid(R::KIND, record.uuid());
    std::iter::once(uuid).chain(record.uniques()).find(|unique| unique.key() == *key)
}

/// The record that is touched whenever a node gets something, and is there as long as the node is.
pub(in crate::store) fn guard_key(node: Uuid) -> String {
    format!("node-guard/{node}")
}

/// Where everything derived from a record points to it.
fn place_holders<R: Resource>(record: &R) -> impl Iterator<Item = String> {
    let of_node = record.node().map(|node| format!("{}{}", node_prefix::<R>(node), record.place()));
    let in_list = format!("{}{}", list_prefix::<R>(), record.place());
    let uniques = record.uniques().into_iter().map(|unique| unique.key()).collect::<Vec<_>>();
    uniques.into_iter().chain(of_node).chain([in_list])
}

pub(super) fn put<R: Resource>(batch: Batch, record: &R) -> Result<Batch, StoreError> {
    let value = serde_json::to_vec(record).map_err(|error| StoreError::Damaged(error.to_string()))?;
    let batch = batch.put(record_key::<R>(record.uuid()), value);
    Ok(place_holders(record).fold(batch, |batch, key| batch.put(key, record.uuid().as_bytes())))
}

fn remove<R: Resource>(batch: Batch, record: &R) -> Batch {
    let batch = batch.delete(record_key::<R>(record.uuid()));
    place_holders(record).fold(batch, Batch::delete)
}

pub(super) fn too_busy() -> StoreError {
    StoreError::Unavailable(format!("others were quicker {ATTEMPTS} times in a row"))
}
