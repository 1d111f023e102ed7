//! The volumes of a node: when they may change, and the changes that the pages offer.
//!
//! A volume under a running machine is not exchanged: changes need the recorded power state `power off`.

use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Operator;
use super::enroll::{Refusal, VolumeText, build_chap_properties};
use super::refusal::{OperationRefusal, check_unreserved};
use crate::model::{Node, PowerState, ProvisionState, StorageInterface, VolumeTarget};

/// The values of a volume, as a form sends them.
#[derive(Debug)]
pub struct VolumeValues<'a> {
    /// The UUID of a Cinder volume, or a SAN URI.
    pub volume: &'a str,
    /// The CHAP user at the target; empty without CHAP.
    pub chap_user: &'a str,
    /// The CHAP secret of that user.
    pub chap_secret: SecretString,
}

/// A volume was not added or changed.
#[derive(Debug)]
pub enum VolumeError {
    /// A value is refused.
    Value(Refusal),
    /// The volume is of the other kind: the node's storage interface takes only one.
    Storage(StorageInterface),
    /// The node does not allow the change.
    Refused(OperationRefusal),
}

impl From<OperationRefusal> for VolumeError {
    fn from(refusal: OperationRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Refuses changes of a node's volumes unless its recorded power state is `power off`; an unknown state is not enough.
/// The inferred state has no say: a machine that keeps trying to boot from a wrong target could not be mended.
pub fn check_power_off(action: &str, node: Option<&Node>) -> Result<(), OperationRefusal> {
    node.map_or(Ok(()), check_unreserved)?;
    match node {
        Some(node) if node.recorded_power_state() != Some(PowerState::Off) => {
            let state = node.recorded_power_state().map_or("None", PowerState::as_str);
            Err(OperationRefusal::wrong_state(action, node.uuid, state))
        }
        _ => Ok(()),
    }
}

/// Refuses the removal of a volume unless the machine is off or its provision state rules out that the volume is in use.
pub fn check_volume_removal(action: &str, node: Option<&Node>) -> Result<(), OperationRefusal> {
    use ProvisionState::{AdoptFailed, Enroll, Manageable};
    node.map_or(Ok(()), check_unreserved)?;
    match node {
        Some(node) if matches!(node.provision_state, Enroll | Manageable | AdoptFailed) => Ok(()),
        node => check_power_off(action, node),
    }
}

impl VolumeValues<'_> {
    /// The volume id and the properties of a target of this node.
    fn parse(&self, node: &Node) -> Result<(String, Map<String, Value>), VolumeError> {
        let volume = VolumeText::from_either(self.volume);
        let (id, mut properties) = volume.parse().map_err(VolumeError::Value)?;
        let chap = build_chap_properties(volume, self.chap_user, &self.chap_secret);
        properties.extend(chap.map_err(VolumeError::Value)?);
        if node.storage_interface != volume.storage_interface() {
            return Err(VolumeError::Storage(node.storage_interface.clone()));
        }
        Ok((id, properties))
    }
}

impl Operator {
    /// Refuses a volume target whose volume another node keeps for itself, as its fallback or for a one-time boot. What
    /// names the volume after this check is refused by its own rule, or at its boot.
    pub async fn check_volume_target(
        &self,
        target: &VolumeTarget,
        now: Timestamp,
    ) -> Result<(), OperationRefusal> {
        match self.boot.find_keeper(target, now).await? {
            None => Ok(()),
            Some(user) => Err(OperationRefusal::Conflict(format!(
                "Volume {} cannot be a volume target of node {}: {user}.",
                target.volume_id, target.node_uuid
            ))),
        }
    }

    /// Adds a volume to a node, with the next free boot index: 0 is the boot volume.
    pub async fn add_volume(
        &self,
        node: &Node,
        values: &VolumeValues<'_>,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        let (id, properties) = values.parse(node)?;
        let targets: Vec<VolumeTarget> =
            self.inventory.list_all_of(node.uuid).await.map_err(OperationRefusal::from)?;
        let is_free = |index: &i64| targets.iter().all(|target| target.boot_index != *index);
        let highest = i64::try_from(targets.len()).unwrap_or(i64::MAX);
        let index = (0..=highest).find(is_free).unwrap_or_default();
        let target = VolumeTarget::new(Uuid::new_v4(), node.uuid, index, &id, now);
        let target = VolumeTarget { properties: properties.into(), ..target };
        self.check_volume_target(&target, now).await?;
        self.inventory.create(&target).await.map_err(|error| OperationRefusal::from(error).into())
    }

    /// Replaces the volume of a target of a node. The machine must be off.
    pub async fn change_volume(
        &self,
        node: &Node,
        target: Uuid,
        values: &VolumeValues<'_>,
        now: Timestamp,
    ) -> Result<(), VolumeError> {
        let (id, properties) = values.parse(node)?;
        let new = VolumeTarget::new(target, node.uuid, 0, &id, now);
        let new = VolumeTarget { properties: properties.clone().into(), ..new };
        self.check_volume_target(&new, now).await?;
        let change = |old: &VolumeTarget, node: Option<&Node>| {
            check_power_off("volume target update", node)?;
            let properties = properties.clone().into();
            Ok(VolumeTarget { volume_id: id.clone(), properties, updated_at: Some(now), ..old.clone() })
        };
        let changed = self.inventory.update(target, change).await;
        changed.map(drop).map_err(|error| OperationRefusal::from(error).into())
    }

    /// Removes a volume target.
    pub async fn remove_volume(&self, target: Uuid) -> Result<(), OperationRefusal> {
        let check =
            |_: &VolumeTarget, node: Option<&Node>| check_volume_removal("volume target deletion", node);
        self.inventory.delete(target, check).await.map(drop).map_err(OperationRefusal::from)
    }
}
