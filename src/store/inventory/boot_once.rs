//! The writes of a [`BootOnce`]: set, consume, expire, end. Each is one conditional batch.
//!
//! The Cinder volume of a one-time boot has an attachment without a volume target. So the batch in which the record
//! ends, or is replaced, also releases the volume, unless a volume target of the node has it too.

use jiff::Timestamp;
use uuid::Uuid;

use super::write::{ATTEMPTS, conflict_limit_error, put_record, remove_record};
use super::{Inventory, InventoryError};
use crate::model::{BootOnce, Node, VolumeTarget};
use crate::store::encoding::{Versioned, decode, encode_update};
use crate::store::keys::{FALLBACK_NODES, guard_key, list_prefix, record_key};
use crate::store::lost_volumes::{self, LostVolumes};
use crate::store::resource::UniqueKey;
use crate::store::{Batch, Condition, Revision, StoreError, WriteError};

/// Records per read.
const PAGE: usize = 256;

impl Inventory {
    /// The one-time boot of a node.
    pub async fn find_boot_once(&self, node: Uuid) -> Result<Option<BootOnce>, StoreError> {
        Ok(self.find_versioned_once(node).await?.map(|once| once.value))
    }

    /// The first one-time boot of any node that fits. Reads one page after the other.
    pub async fn find_boot_once_with(
        &self,
        fits: impl Fn(&BootOnce) -> bool,
    ) -> Result<Option<BootOnce>, StoreError> {
        let mut last: Option<BootOnce> = None;
        loop {
            let page: Vec<Versioned<BootOnce>> = self.list(last.as_ref(), PAGE).await?;
            let is_last_page = page.len() < PAGE;
            last = page.last().map(|once| once.value.clone());
            let found = page.into_iter().map(|once| once.value).find(&fits);
            if found.is_some() || is_last_page {
                return Ok(found);
            }
        }
    }

    /// Sets the one-time boot of a node, in place of an earlier one. Returns the written record; `None` if a volume
    /// target, a one-time boot or a fallback of any node was created or changed after the revision `since`.
    pub async fn set_boot_once(
        &self,
        new: &BootOnce,
        since: Option<Revision>,
    ) -> Result<Option<BootOnce>, InventoryError> {
        self.check_all_upgraded()?;
        let node = new.node_uuid;
        for _ in 0..ATTEMPTS {
            // The guard is read before the records, so a new record of the node conflicts.
            let batch = self.require_guard(Batch::default(), node).await?.put(guard_key(node), "");
            let mut batch = batch.require_absent(record_key::<BootOnce>(new.uuid));
            let mut record = new.clone();
            match self.find_versioned_once(node).await? {
                Some(old) => {
                    record = record.replacing(&old.value);
                    batch = batch.require_unchanged(record_key::<BootOnce>(old.value.uuid), old.revision);
                    for volume in [old.value.cinder_volume(), old.value.earlier_volume.as_deref()] {
                        if let Some(volume) = volume.filter(|volume| !record.holds_volume(volume)) {
                            batch = self.release_volume(batch, node, volume).await?;
                        }
                    }
                    batch = remove_record(batch, &old.value);
                }
                None => batch = batch.require_absent(UniqueKey::BootOnceNode(node).key()),
            }
            if let Some(since) = since {
                // Each creation and each update of a record writes its entry in the list.
                batch = batch
                    .require_untouched(list_prefix::<VolumeTarget>(), since)
                    .require_untouched(list_prefix::<BootOnce>(), since)
                    .require_untouched(FALLBACK_NODES, since);
            }
            match self.store.write(put_record(batch, &record)?).await {
                Ok(_) => return Ok(Some(record)),
                Err(WriteError::Conflict(Condition::Untouched(..))) => return Ok(None),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Marks a one-time boot as consumed by a journey, if the record is still the same. Returns whether it was written.
    pub async fn consume_boot_once(
        &self,
        once: &BootOnce,
        journey: &str,
        now: Timestamp,
    ) -> Result<bool, InventoryError> {
        let key = record_key::<BootOnce>(once.uuid);
        let Some(record) = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
            return Ok(false);
        };
        let present: BootOnce = decode(&record)?.value;
        if present != *once {
            return Ok(false);
        }
        let consumed = once.consumed_by(journey, now);
        let mut batch = Batch::default();
        if let Some(volume) = &once.earlier_volume {
            batch = self.require_guard(batch, once.node_uuid).await?;
            batch = self.release_volume(batch, once.node_uuid, volume).await?;
        }
        let batch =
            batch.require_unchanged(&key, record.revision).put(&key, encode_update(&record, &consumed)?);
        match self.store.write(batch).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    /// Lets an armed one-time boot expire now. Nothing happens if the node has another one by now, or if a journey has
    /// consumed it meanwhile. Returns whether it was written.
    pub async fn expire_boot_once(&self, once: &BootOnce, now: Timestamp) -> Result<bool, InventoryError> {
        let key = record_key::<BootOnce>(once.uuid);
        let Some(record) = self.store.get(std::slice::from_ref(&key)).await?.pop().flatten() else {
            return Ok(false);
        };
        let present: BootOnce = decode(&record)?.value;
        if present.journey.is_some() {
            return Ok(false);
        }
        let expired = BootOnce { expires_at: now, ..present };
        let batch = Batch::default().require_unchanged(&key, record.revision);
        match self.store.write(batch.put(&key, encode_update(&record, &expired)?)).await {
            Ok(_) => Ok(true),
            Err(WriteError::Conflict(_)) => Ok(false),
            Err(WriteError::Store(error)) => Err(error.into()),
        }
    }

    /// Ends a one-time boot: deletes the record and releases its volumes. Nothing happens if the node has another one
    /// by now, or if a journey has consumed it meanwhile.
    pub async fn end_boot_once(&self, once: &BootOnce) -> Result<(), InventoryError> {
        for _ in 0..ATTEMPTS {
            let node = once.node_uuid;
            let batch = match self.require_guard(Batch::default(), node).await {
                Ok(batch) => batch,
                // The record went with the node.
                Err(InventoryError::NodeNotFound(_)) => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(present) = self.find_versioned_once(node).await? else { return Ok(()) };
            let Versioned { value: present, revision } = present;
            if (present.uuid, &present.journey) != (once.uuid, &once.journey) {
                return Ok(());
            }
            let mut batch = batch.require_unchanged(record_key::<BootOnce>(once.uuid), revision);
            for volume in present.cinder_volume().into_iter().chain(present.earlier_volume.as_deref()) {
                batch = self.release_volume(batch, node, volume).await?;
            }
            match self.store.write(remove_record(batch, &present)).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict(_)) => {}
                Err(WriteError::Store(error)) => return Err(error.into()),
            }
        }
        Err(conflict_limit_error().into())
    }

    /// Adds that one record of a node no longer calls for a volume. The volume is detached unless another volume target
    /// of the node, its one-time boot or its fallback has it: then these must stay unchanged.
    pub(super) async fn release_volume(
        &self,
        mut batch: Batch,
        node: Uuid,
        volume: &str,
    ) -> Result<Batch, StoreError> {
        let targets = self.list_versioned_of::<VolumeTarget>(node).await?;
        let targets = targets.iter().filter(|target| target.value.volume_id == volume);
        let mut users: Vec<_> =
            targets.map(|target| (record_key::<VolumeTarget>(target.value.uuid), target.revision)).collect();
        let once = self.find_versioned_once(node).await?;
        users.extend(
            once.filter(|once| once.value.holds_volume(volume))
                .map(|once| (record_key::<BootOnce>(once.value.uuid), once.revision)),
        );
        if let Some(node) = self.get::<Node>(node).await?
            && node.value.fallback_volume().as_deref() == Some(volume)
        {
            users.push((record_key::<Node>(node.value.uuid), node.revision));
        }
        // The record that lets go of the volume is one of them.
        if users.len() > 1 {
            for (key, revision) in users {
                batch = batch.require_unchanged(key, revision);
            }
            return Ok(batch);
        }
        lost_volumes::detach(&*self.store, batch, node, LostVolumes::One(volume)).await
    }

    async fn find_versioned_once(&self, node: Uuid) -> Result<Option<Versioned<BootOnce>>, StoreError> {
        self.find(&UniqueKey::BootOnceNode(node)).await
    }
}
