//! Release rules: which attachments a node loses when a record changes or goes, and which it still calls for.
//!
//! Only a node whose storage interface uses attachments has any. A node that is undeployed loses all of them; its
//! targets stay. A borrowed attachment also ends with the node's instance.

use uuid::Uuid;

use super::{Attachment, BootOnce, Fallback, Node, Ownership, VolumeTarget};

/// The volumes that a node loses by the change or deletion of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// No volume.
    Nothing,
    /// This node's attachment to this volume.
    Volume(Uuid, String),
    /// The volumes that this node has through borrowed attachments.
    Borrowed(Uuid),
    /// This node's attachment to the volume of its fallback; and its borrowed attachments, if it loses its instance too.
    Fallback {
        /// The node.
        node: Uuid,
        /// The volume.
        volume: String,
        /// Whether the borrowed attachments end too.
        with_borrowed: bool,
    },
    /// All volumes of this node.
    All(Uuid),
}

impl Node {
    /// The volumes that the node loses when its record is replaced by `new`, or deleted.
    pub fn releases(&self, new: Option<&Self>) -> Released {
        let is_lost = new.is_none_or(|new| {
            let loses_interface =
                self.storage_interface.uses_attachments() && !new.storage_interface.uses_attachments();
            loses_interface || (new.undeployed && !self.undeployed)
        });
        let loses_instance =
            self.instance_uuid.is_some() && new.is_none_or(|new| new.instance_uuid != self.instance_uuid);
        let fallback = self.fallback_volume();
        let lost_fallback =
            fallback.filter(|volume| new.and_then(Self::fallback_volume).as_ref() != Some(volume));
        match (is_lost, lost_fallback, loses_instance) {
            (true, ..) => Released::All(self.uuid),
            (false, Some(volume), with_borrowed) => {
                Released::Fallback { node: self.uuid, volume, with_borrowed }
            }
            (false, None, true) => Released::Borrowed(self.uuid),
            (false, None, false) => Released::Nothing,
        }
    }

    /// The Cinder volume of the node's fallback.
    pub fn fallback_volume(&self) -> Option<String> {
        Fallback::of(self).ok()??.source.cinder_volume().map(str::to_owned)
    }

    /// Whether the fallback's count and the fallback in force end when the record is replaced by `new`: with the
    /// deployment, and with the fallback's volume.
    pub fn ends_fallback(&self, new: &Self) -> bool {
        let source = |node: &Self| Some(Fallback::of(node).ok()??.source);
        new.undeployed && !self.undeployed || source(self) != source(new)
    }
}

impl VolumeTarget {
    /// The volume that the node loses when its target is replaced by `new`, or deleted.
    pub fn releases(&self, new: Option<&Self>) -> Released {
        if new.is_some_and(|new| (new.node_uuid, &new.volume_id) == (self.node_uuid, &self.volume_id)) {
            return Released::Nothing;
        }
        Released::Volume(self.node_uuid, self.volume_id.clone())
    }
}

impl Attachment {
    /// Whether node and target still call for the attachment.
    pub fn is_wanted(&self, node: &Node, target: &VolumeTarget) -> bool {
        node.storage_interface.uses_attachments()
            && self.suits(node)
            && (target.node_uuid, &target.volume_id) == (self.node, &self.volume)
    }

    /// Whether a one-time boot of the node still calls for the attachment, whatever the node's storage interface.
    pub fn is_wanted_once(&self, node: &Node, once: &BootOnce) -> bool {
        self.suits(node) && once.node_uuid == self.node && once.cinder_volume() == Some(self.volume.as_str())
    }

    /// Whether the node's fallback still calls for the attachment, whatever the node's storage interface.
    pub fn is_wanted_as_fallback(&self, node: &Node) -> bool {
        self.suits(node) && node.uuid == self.node && node.fallback_volume().as_ref() == Some(&self.volume)
    }

    /// Whether the node may have the attachment: it is deployed, and has the instance of a borrowed one.
    fn suits(&self, node: &Node) -> bool {
        let has_instance = match self.ownership {
            Ownership::Own | Ownership::Adopted => true,
            Ownership::Borrowed(server) => node.instance_uuid == Some(server),
        };
        !node.undeployed && has_instance
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::StorageInterface;
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn node(storage: &str, undeployed: bool) -> Node {
        let storage = StorageInterface::from(storage.to_owned());
        Node { undeployed, ..Node::new(Uuid::from_u128(1), "manual-management", storage, NOW) }
    }

    fn target(node: u128, volume: &str) -> VolumeTarget {
        VolumeTarget::new(Uuid::from_u128(2), Uuid::from_u128(node), 0, volume, NOW)
    }

    #[test]
    fn a_node_loses_all_volumes_with_its_interface_its_deployment_or_its_record() {
        let all = Released::All(Uuid::from_u128(1));
        for (old, new, expected) in [
            (("cinder", false), ("cinder", false), Released::Nothing),
            (("cinder", false), ("external", false), all.clone()),
            (("cinder", false), ("noop", false), all.clone()),
            (("cinder", false), ("unheard-of", false), all.clone()),
            (("external", false), ("cinder", false), Released::Nothing),
            (("external", false), ("noop", false), Released::Nothing),
            (("cinder", false), ("cinder", true), all.clone()),
            (("external", false), ("external", true), all.clone()),
            (("cinder", true), ("cinder", true), Released::Nothing),
            (("cinder", true), ("cinder", false), Released::Nothing),
            (("cinder", true), ("external", true), all.clone()),
        ] {
            let released = node(old.0, old.1).releases(Some(&node(new.0, new.1)));
            assert_eq!(released, expected, "{old:?} to {new:?}");
        }
        for storage in ["cinder", "external", "noop"] {
            assert_eq!(node(storage, false).releases(None), all);
        }
    }

    #[test]
    fn a_node_loses_borrowed_volumes_with_its_instance() {
        let (one, two) = (Some(Uuid::from_u128(3)), Some(Uuid::from_u128(4)));
        let of_instance = |instance_uuid, undeployed| Node { instance_uuid, ..node("cinder", undeployed) };
        let borrowed = Released::Borrowed(Uuid::from_u128(1));
        for (old, new, expected) in [
            (None, one, Released::Nothing),
            (one, one, Released::Nothing),
            (one, None, borrowed.clone()),
            (one, two, borrowed),
        ] {
            let released = of_instance(old, false).releases(Some(&of_instance(new, false)));
            assert_eq!(released, expected, "{old:?} to {new:?}");
        }
        let released = of_instance(one, false).releases(Some(&of_instance(None, true)));
        assert_eq!(released, Released::All(Uuid::from_u128(1)), "the undeployment releases all");

        let attachment = Attachment::new(Uuid::from_u128(1), "v", Uuid::from_u128(2), Vec::new(), NOW);
        let wanted = |ownership, instance_uuid| {
            Attachment { ownership, ..attachment.clone() }
                .is_wanted(&of_instance(instance_uuid, false), &target(1, "v"))
        };
        assert!(wanted(Ownership::Borrowed(Uuid::from_u128(3)), one));
        assert!(!wanted(Ownership::Borrowed(Uuid::from_u128(3)), two));
        assert!(!wanted(Ownership::Borrowed(Uuid::from_u128(3)), None));
        assert!(wanted(Ownership::Own, None) && wanted(Ownership::Adopted, None));
    }

    #[test]
    fn a_target_releases_its_volume_when_volume_or_node_changes() {
        let old = target(1, "v");
        let volume = Released::Volume(Uuid::from_u128(1), "v".into());
        assert_eq!(old.releases(None), volume);
        assert_eq!(old.releases(Some(&target(1, "w"))), volume);
        assert_eq!(old.releases(Some(&target(9, "v"))), volume);
        let moved = VolumeTarget { boot_index: 5, ..old.clone() };
        assert_eq!(old.releases(Some(&moved)), Released::Nothing);
    }

    #[test]
    fn an_attachment_is_wanted_by_a_deployed_node_with_the_volume() {
        let attachment = Attachment::new(Uuid::from_u128(1), "v", Uuid::from_u128(2), Vec::new(), NOW);
        assert!(attachment.is_wanted(&node("cinder", false), &target(1, "v")));
        for (node, target) in [
            (node("external", false), target(1, "v")),
            (node("noop", false), target(1, "v")),
            (node("unheard-of", false), target(1, "v")),
            (node("cinder", true), target(1, "v")),
            (node("cinder", false), target(1, "w")),
            (node("cinder", false), target(9, "v")),
        ] {
            assert!(!attachment.is_wanted(&node, &target), "{node:?} {target:?}");
        }
    }

    #[test]
    fn a_node_loses_the_volume_of_its_fallback_with_the_fallback() {
        use super::super::{Fallback, FallbackSource};
        let with = |volume: Option<&str>, instance| {
            let fallback = volume.map(|id| Fallback::new(FallbackSource::Volume(id.into())));
            Node { instance_uuid: instance, ..Fallback::write(fallback.as_ref(), node("external", false)) }
        };
        let (uuid, instance) = (Uuid::from_u128(1), Some(Uuid::from_u128(3)));
        let lost = |with_borrowed| Released::Fallback { node: uuid, volume: "v".into(), with_borrowed };
        for (old, new, expected, ends) in [
            (with(None, None), with(Some("v"), None), Released::Nothing, true),
            (with(Some("v"), None), with(Some("v"), None), Released::Nothing, false),
            (with(Some("v"), None), with(Some("w"), None), lost(false), true),
            (with(Some("v"), None), with(None, None), lost(false), true),
            (with(Some("v"), instance), with(None, None), lost(true), true),
            (with(Some("v"), instance), with(Some("v"), None), Released::Borrowed(uuid), false),
            (
                with(Some("v"), None),
                Node { undeployed: true, ..with(Some("v"), None) },
                Released::All(uuid),
                true,
            ),
        ] {
            assert_eq!((old.releases(Some(&new)), old.ends_fallback(&new)), (expected, ends), "{old:?}");
        }
        let attachment = Attachment::new(uuid, "v", uuid, Vec::new(), NOW);
        assert!(attachment.is_wanted_as_fallback(&with(Some("v"), None)));
        assert!(!attachment.is_wanted_as_fallback(&with(Some("w"), None)));
        assert!(!attachment.is_wanted_as_fallback(&Node { undeployed: true, ..with(Some("v"), None) }));
    }
}
