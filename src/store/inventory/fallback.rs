//! The writes of a node's [`Fallback`](crate::model::Fallback): set, and promote. Each is one conditional batch.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::write::{ATTEMPTS, Original, conflict_limit_error, remove_record};
use super::{Inventory, InventoryError, UpdateError};
use crate::model::{Attachment, BootOnce, FallbackSecret, FallbackState, Node, Promotion, VolumeTarget};
use crate::store::attachment_keys;
use crate::store::encoding::{decode, encode, encode_update};
use crate::store::fallback::{secret_key, state_key};
use crate::store::keys::{FALLBACK_NODES, guard_key, index_keys, list_prefix, record_key};
use crate::store::resource::Resource as _;
use crate::store::{Batch, Condition, FallbackRecords, FallbackSnapshot, Revision, StoreError, WriteError};

/// Nodes per read.
const PAGE: usize = 256;

/// What a change of a node's fallback has been checked against. The change is written only if that is still so.
#[derive(Debug, Clone, Copy, Default)]
pub struct FallbackBasis<'a> {
    /// No volume target, one-time boot or fallback of any node was created or changed after this revision.
    pub since: Option<Revision>,
    /// The node and its fallback's state, from which the machine does not run: the old fallback may be taken away.
    pub idle: Option<&'a FallbackSnapshot>,
}

impl FallbackBasis<'_> {
    fn require(&self, mut batch: Batch) -> Batch {
        if let Some(since) = self.since {
            batch = batch
                .require_untouched(list_prefix::<VolumeTarget>(), since)
                .require_untouched(list_prefix::<BootOnce>(), since)
                .require_untouched(FALLBACK_NODES, since);
        }
        match self.idle {
            Some(idle) => idle.require_unchanged(batch),
            None => batch,
        }
    }
}

impl Inventory {
    /// The records of fallbacks in the same store.
    pub fn fallbacks(&self) -> FallbackRecords {
        FallbackRecords::new(Arc::clone(&self.store))
    }

    /// The first node with a fallback that fits. Reads one page after the other.
    pub async fn find_node_with_fallback(
        &self,
        fits: impl Fn(&Node) -> bool,
    ) -> Result<Option<Node>, StoreError> {
        let mut after: Option<String> = None;
        loop {
            let entries = self.store.list(FALLBACK_NODES, after.as_deref(), PAGE).await?;
            let Some(last) = entries.last().map(|entry| entry.key.clone()) else { return Ok(None) };
            let is_last_page = entries.len() < PAGE;
            let uuids =
                entries.iter().filter_map(|entry| entry.key.strip_prefix(FALLBACK_NODES)?.parse().ok());
            let found = self.get_all::<Node>(uuids).await?.into_iter().find(&fits);
            if found.is_some() || is_last_page {
                return Ok(found);
            }
            after = Some(last);
        }
    }

    /// Changes a node like [`Inventory::update`]. Returns `None`, and changes nothing, if what the change was checked
    /// against is no longer so.
    pub async fn update_checked<E>(
        &self,
        node: Uuid,
        basis: FallbackBasis<'_>,
        change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Option<Node>, UpdateError<E>> {
        self.update_on(node, basis, change, Ok).await
    }

    /// Like [`Inventory::update_checked`], and in the same batch replaces the secret of the node's fallback.
    pub async fn set_fallback<E>(
        &self,
        node: Uuid,
        basis: FallbackBasis<'_>,
        secret: Option<&FallbackSecret>,
        change: impl FnMut(&Node) -> Result<Node, E>,
    ) -> Result<Option<Node>, UpdateError<E>> {
        let put_secret = |batch: Batch| match secret {
            Some(secret) => Ok(batch.put(secret_key(node), encode(&secret.to_record())?)),
            None => Ok(batch.delete(secret_key(node))),
        };
        self.update_on(node, basis, change, put_secret).await
    }

    async fn update_on<E>(
        &self,
        node: Uuid,
        basis: FallbackBasis<'_>,
        mut change: impl FnMut(&Node) -> Result<Node, E>,
        extend: impl Fn(Batch) -> Result<Batch, StoreError>,
    ) -> Result<Option<Node>, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { record, old, batch, .. } = self.read_original::<Node, E>(node).await?;
            let new = change(&old).map_err(UpdateError::Refused)?;
            if new.has_fallback() && !old.has_fallback() {
                self.check_all_upgraded()?;
            }
            let batch = basis.require(batch);
            let batch = extend(self.replace_record(batch, &record, &old, &new).await?)?;
            match self.store.write(batch).await {
                Ok(_) => return Ok(Some(new)),
                Err(WriteError::Conflict(Condition::Untouched(..))) => return Ok(None),
                Err(WriteError::Conflict(_)) if basis.idle.is_some() => return Ok(None),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Lets a node's boot volume and its fallback change places, by a function that is called again after a write conflict.
    /// The count of failed boots and the fallback in force end. Both attachments stay: each is for its new place.
    pub async fn promote_fallback<E>(
        &self,
        node: Uuid,
        now: Timestamp,
        promote: impl Fn(&Node, &VolumeTarget, Option<&FallbackSecret>) -> Result<Promotion, E>,
        without_target: impl Fn() -> E,
    ) -> Result<Node, UpdateError<E>> {
        for _ in 0..ATTEMPTS {
            let Original { record, old, batch, .. } = self.read_original::<Node, E>(node).await?;
            // The guard is read before the records, so a new record of the node conflicts.
            let batch = self.require_guard(batch, node).await?.put(guard_key(node), "");
            let targets = self.list_versioned_of::<VolumeTarget>(node).await?;
            let target = targets.into_iter().find(|target| target.value.boot_index == 0);
            let target = target.ok_or_else(|| UpdateError::Refused(without_target()))?;
            let keys = [secret_key(node), state_key(node), record_key::<VolumeTarget>(target.value.uuid)];
            let [secret, state, Some(target_record)] = &self.store.get(&keys).await?[..] else { continue };
            let stored = secret.as_ref().map(decode::<serde_json::Value>).transpose()?;
            let stored = stored.and_then(|stored| FallbackSecret::from_record(&stored.value));
            let target: VolumeTarget = decode(target_record)?.value;
            let Promotion { node: new_node, target: new_target, secret: new_secret } =
                promote(&old, &target, stored.as_ref()).map_err(UpdateError::Refused)?;
            let new_node = Node { updated_at: Some(now), ..new_node };
            let new_target = VolumeTarget { updated_at: Some(now), ..new_target };
            let mut batch = batch.require_unchanged(&target_record.key, target_record.revision);
            batch = match secret {
                Some(secret) => batch.require_unchanged(&secret.key, secret.revision),
                None => batch.require_absent(secret_key(node)),
            };
            batch = match new_secret {
                Some(secret) => batch.put(secret_key(node), encode(&secret.to_record())?),
                None => batch.delete(secret_key(node)),
            };
            let old_state = state.as_ref().map(decode::<FallbackState>).transpose()?;
            let new_state = old_state.map(|state| state.value).unwrap_or_default().promoted();
            batch = match state {
                Some(state) => batch.require_unchanged(&state.key, state.revision),
                None => batch.require_absent(state_key(node)),
            };
            batch = batch.put(state_key(node), encode(&new_state)?);
            for (volume, place) in [(&target.volume_id, node), (&new_target.volume_id, target.uuid)] {
                batch = self.move_attachment(batch, node, volume, place).await?;
            }
            batch = remove_record(remove_record(batch, &old), &target);
            batch = batch.put(&record.key, encode_update(&record, &new_node)?);
            batch = batch.put(&target_record.key, encode_update(target_record, &new_target)?);
            batch = index_keys(&new_node).fold(batch, |batch, key| batch.put(key, node.as_bytes()));
            batch = index_keys(&new_target).fold(batch, |batch, key| batch.put(key, target.uuid.as_bytes()));
            match self.store.write(batch).await {
                Ok(_) => return Ok(new_node),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Adds that a node's attachment to a volume is for another place: a volume target, or the fallback.
    async fn move_attachment(
        &self,
        batch: Batch,
        node: Uuid,
        volume: &str,
        place: Uuid,
    ) -> Result<Batch, InventoryError> {
        let key = attachment_keys::key(node, volume);
        let Some(record) = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
            return Ok(batch.require_absent(key));
        };
        let attachment = Attachment { target: place, ..decode::<Attachment>(&record)?.value };
        Ok(batch.require_unchanged(&key, record.revision).put(&key, encode_update(&record, &attachment)?))
    }
}
