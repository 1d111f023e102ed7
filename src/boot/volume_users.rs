//! Which other node uses a volume: the rule against two writers on one disk.
//!
//! A one-time boot and a fallback may name any volume. The rule finds another node with the same volume:
//!
//! * by id: a volume target, a one-time boot, a fallback or an attachment of the other node has the same volume id;
//! * by path: one of those has a path with the same portal, target name and LUN.
//!
//! A new volume target gets the volume unless another node keeps it for itself: by a fallback or a one-time boot that is not
//! shared. Two volume targets may name one volume, as in Ironic.
//!
//! A one-time boot that has expired without being consumed counts only by its attachment. Volumes of the node itself
//! are no conflict.

use std::fmt;

use jiff::Timestamp;
use uuid::Uuid;

use super::Boot;
use crate::model::{
    Attachment, BootOnce, Connection, Fallback, FallbackSource, Node, OnceSource, Properties, SanUri,
    VolumeTarget,
};
use crate::store::StoreError;

/// Targets per read of the store.
const PAGE: usize = 256;

/// A volume that an operator names for a node.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedVolume {
    /// A Cinder volume.
    Id(String),
    /// The paths to a fixed target.
    Paths(Vec<SanUri>),
}

/// Another node that uses the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUser {
    /// The node.
    pub node: Uuid,
    /// The node's name, else its UUID.
    pub label: String,
    /// For what the node uses the volume.
    pub usage: VolumeUse,
}

/// The use of a volume by a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeUse {
    /// A volume target with this boot index.
    Target(i64),
    /// A one-time boot.
    BootOnce,
    /// The fallback.
    Fallback,
    /// An attachment in Cinder.
    Attachment,
}

impl VolumeUser {
    fn with_fallback(node: &Node) -> Self {
        Self { node: node.uuid, label: node.label(), usage: VolumeUse::Fallback }
    }
}

impl fmt::Display for VolumeUser {
    /// Describes the conflict, as a sentence without an end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = &self.label;
        match self.usage {
            VolumeUse::Target(0) => write!(f, "the volume is the boot volume of node {label}"),
            VolumeUse::Target(index) => {
                write!(f, "the volume is a volume of node {label} (boot index {index})")
            }
            VolumeUse::BootOnce => write!(f, "node {label} boots once from the volume"),
            VolumeUse::Fallback => write!(f, "the volume is the fallback of node {label}"),
            VolumeUse::Attachment => write!(f, "the volume is attached to node {label}"),
        }
    }
}

impl NamedVolume {
    /// The volume of a one-time boot; `None` for a source without a volume, or with an unreadable connection.
    pub fn of_once(source: &OnceSource) -> Option<Self> {
        match source {
            OnceSource::Volume { volume_id } => Some(Self::Id(volume_id.clone())),
            OnceSource::Target { properties } => {
                Connection::from_record(properties).ok().map(|connection| Self::Paths(connection.paths))
            }
            OnceSource::Url { .. } | OnceSource::Local | OnceSource::Shell => None,
        }
    }

    /// The volume of a fallback.
    pub fn of_fallback(source: &FallbackSource) -> Self {
        match source {
            FallbackSource::Volume(volume) => Self::Id(volume.clone()),
            FallbackSource::Target { paths, .. } => Self::Paths(paths.clone()),
        }
    }

    /// The volume of a volume target, by each of its names.
    fn of_target(target: &VolumeTarget) -> Vec<Self> {
        let paths = read_record(&target.properties).map(|connection| Self::Paths(connection.paths));
        [Self::Id(target.volume_id.clone())].into_iter().chain(paths).collect()
    }

    /// Whether a volume with this id and this connection is the same one.
    fn is(&self, id: Option<&str>, connection: impl FnOnce() -> Option<Connection>) -> bool {
        match self {
            Self::Id(named) => id == Some(named.as_str()),
            Self::Paths(paths) => connection()
                .is_some_and(|connection| connection.paths.iter().any(|path| paths.contains(path))),
        }
    }

    /// Whether it is the volume of this target.
    pub(super) fn is_target(&self, target: &VolumeTarget) -> bool {
        self.is(Some(&target.volume_id), || read_record(&target.properties))
    }

    fn is_once(&self, once: &BootOnce, now: Timestamp) -> bool {
        let is_current = once.journey.is_some() || now < once.expires_at;
        let holds = once.earlier_volume.as_deref();
        is_current
            && match &once.source {
                OnceSource::Target { properties } => self.is(None, || read_record(properties)),
                _ => self.is(once.cinder_volume(), || None),
            }
            || self.is(holds, || None)
    }

    /// Whether the volume is that of a node's fallback.
    fn is_fallback(&self, node: &Node) -> bool {
        let Ok(Some(fallback)) = Fallback::of(node) else { return false };
        match (self, &fallback.source) {
            (Self::Id(named), FallbackSource::Volume(volume)) => named == volume,
            (Self::Paths(named), FallbackSource::Target { paths, .. }) => {
                paths.iter().any(|path| named.contains(path))
            }
            (Self::Id(_), FallbackSource::Target { .. }) | (Self::Paths(_), FallbackSource::Volume(_)) => {
                false
            }
        }
    }

    fn is_attachment(&self, attachment: &Attachment) -> bool {
        let connection = || Connection::from_cinder(attachment.connection.as_ref()?).ok();
        self.is(Some(&attachment.volume), connection)
    }
}

fn read_record(properties: &Properties) -> Option<Connection> {
    Connection::from_record(properties).ok()
}

impl Boot {
    /// Finds another node that uses the volume, in the records as they are. Reads all volume targets: for rare
    /// operations only.
    pub async fn find_other_user(
        &self,
        node: Uuid,
        volume: &NamedVolume,
        now: Timestamp,
    ) -> Result<Option<VolumeUser>, StoreError> {
        let mut last: Option<VolumeTarget> = None;
        loop {
            let page = self.inventory.list::<VolumeTarget>(last.as_ref(), PAGE).await?;
            for target in page.iter().map(|target| &target.value) {
                if target.node_uuid != node && volume.is_target(target) {
                    let usage = VolumeUse::Target(target.boot_index);
                    return self.name_user(target.node_uuid, usage).await.map(Some);
                }
            }
            match page.into_iter().nth(PAGE - 1) {
                Some(target) => last = Some(target.value),
                None => break,
            }
        }
        let is_other = |once: &BootOnce| once.node_uuid != node && volume.is_once(once, now);
        if let Some(once) = self.inventory.find_boot_once_with(is_other).await? {
            return self.name_user(once.node_uuid, VolumeUse::BootOnce).await.map(Some);
        }
        let is_other = |other: &Node| other.uuid != node && volume.is_fallback(other);
        if let Some(other) = self.inventory.find_node_with_fallback(is_other).await? {
            return Ok(Some(VolumeUser::with_fallback(&other)));
        }
        let is_other = |other: &Attachment| other.node != node && volume.is_attachment(other);
        match self.attach.find_attachment(is_other).await? {
            Some(other) => self.name_user(other.node, VolumeUse::Attachment).await.map(Some),
            None => Ok(None),
        }
    }

    /// Finds another node that keeps the volume of a volume target for itself.
    pub async fn find_keeper(
        &self,
        target: &VolumeTarget,
        now: Timestamp,
    ) -> Result<Option<VolumeUser>, StoreError> {
        let names = NamedVolume::of_target(target);
        let keeps_once = |once: &BootOnce| {
            let is_kept = once.node_uuid != target.node_uuid && !once.shared;
            is_kept && names.iter().any(|volume| volume.is_once(once, now))
        };
        if let Some(once) = self.inventory.find_boot_once_with(keeps_once).await? {
            return self.name_user(once.node_uuid, VolumeUse::BootOnce).await.map(Some);
        }
        let keeps_fallback = |other: &Node| {
            let is_shared = || matches!(Fallback::of(other), Ok(Some(fallback)) if fallback.shared);
            other.uuid != target.node_uuid
                && names.iter().any(|volume| volume.is_fallback(other))
                && !is_shared()
        };
        let keeper = self.inventory.find_node_with_fallback(keeps_fallback).await?;
        Ok(keeper.as_ref().map(VolumeUser::with_fallback))
    }

    async fn name_user(&self, node: Uuid, usage: VolumeUse) -> Result<VolumeUser, StoreError> {
        let found = self.inventory.get::<Node>(node).await?;
        // The attachment of a deleted node stays until Cinder has agreed to its end.
        let label = found.map_or_else(|| node.to_string(), |node| node.value.label());
        Ok(VolumeUser { node, label, usage })
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const PATH: &str = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-1";

    fn paths(text: &str) -> NamedVolume {
        NamedVolume::Paths(vec![text.parse().expect("a path")])
    }

    fn properties(value: serde_json::Value) -> Properties {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_path_is_portal_name_and_lun() {
        let mut target = VolumeTarget::new(Uuid::from_u128(2), Uuid::from_u128(1), 0, "disk", NOW);
        target.properties = properties(json!({
            "target_portals": ["192.0.2.9:3260", "192.0.2.1:3260"], "target_iqn": "iqn.2010-10.org.example:disk-1",
            "target_lun": 1,
        }));
        for (path, is_same) in [
            (PATH, true),
            ("iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:disk-1", true),
            ("iscsi:192.0.2.1::3261:1:iqn.2010-10.org.example:disk-1", false),
            ("iscsi:192.0.2.2::3260:1:iqn.2010-10.org.example:disk-1", false),
            ("iscsi:192.0.2.1::3260:2:iqn.2010-10.org.example:disk-1", false),
            ("iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:disk-2", false),
        ] {
            assert_eq!(paths(path).is_target(&target), is_same, "{path}");
        }
        assert!(NamedVolume::Id("disk".into()).is_target(&target));
        assert!(!NamedVolume::Id("other".into()).is_target(&target));
        // The connection of a Cinder volume is in its attachment.
        let mut attachment = Attachment::new(Uuid::from_u128(1), "v", Uuid::from_u128(2), Vec::new(), NOW);
        assert!(!paths(PATH).is_attachment(&attachment));
        attachment.connection = Some(target.properties);
        assert!(
            paths(PATH).is_attachment(&attachment) && NamedVolume::Id("v".into()).is_attachment(&attachment)
        );
    }

    #[test]
    fn an_expired_boot_is_no_user_unless_a_journey_consumed_it() {
        let late = NOW + SignedDuration::from_hours(2);
        let once = |source| BootOnce {
            uuid: Uuid::from_u128(7),
            created_at: NOW,
            node_uuid: Uuid::from_u128(1),
            source,
            with_volumes: false,
            shared: false,
            expires_at: NOW + SignedDuration::from_hours(1),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        let target = OnceSource::from_target(&PATH.parse().expect("a path"), None);
        for (source, named) in [
            (OnceSource::Volume { volume_id: "v".into() }, NamedVolume::Id("v".into())),
            (target.clone(), paths(PATH)),
        ] {
            let armed = once(source);
            assert!(named.is_once(&armed, NOW) && !named.is_once(&armed, late), "{named:?}");
            assert!(named.is_once(&armed.consumed_by("a", NOW), late), "{named:?}");
            assert!(!NamedVolume::Id("other".into()).is_once(&armed, NOW));
            assert_eq!(NamedVolume::of_once(&armed.source), Some(named));
        }
        let earlier = BootOnce { earlier_volume: Some("v".into()), ..once(OnceSource::Local) };
        assert!(NamedVolume::Id("v".into()).is_once(&earlier, late));
        assert_eq!(NamedVolume::of_once(&OnceSource::Local), None);
    }

    #[test]
    fn a_fallback_of_another_node_uses_its_volume() {
        let node = Node::new(Uuid::from_u128(1), "d", crate::model::StorageInterface::External, NOW);
        for (source, other) in [
            (FallbackSource::Volume("v".into()), FallbackSource::Volume("w".into())),
            (
                FallbackSource::Target { name: Some("v".into()), paths: vec![PATH.parse().expect("a path")] },
                FallbackSource::Volume("v".into()),
            ),
        ] {
            let with_fallback = Fallback::write(Some(&Fallback::new(source.clone())), node.clone());
            assert!(NamedVolume::of_fallback(&source).is_fallback(&with_fallback));
            assert!(!NamedVolume::of_fallback(&other).is_fallback(&with_fallback));
            assert!(!NamedVolume::of_fallback(&source).is_fallback(&node));
        }
    }
}
