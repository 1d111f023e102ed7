//! Release rules: which attachments a node loses when a record changes or goes, and which it still calls for.
//!
//! Only a node whose storage interface uses attachments has any. A node that is undeployed loses all of them; its
//! targets stay. A borrowed attachment also ends with the node's instance.

use uuid::Uuid;

use super::{Attachment, Node, Ownership, VolumeTarget};

/// The volumes that a node loses by the change or deletion of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Released {
    /// No volume.
    Nothing,
    /// This node's attachment to this volume.
    Volume(Uuid, String),
    /// The volumes that this node has through borrowed attachments.
    Borrowed(Uuid),
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
        match (is_lost, loses_instance) {
            (true, _) => Released::All(self.uuid),
            (false, true) => Released::Borrowed(self.uuid),
            (false, false) => Released::Nothing,
        }
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
        let has_instance = match self.ownership {
            Ownership::Own | Ownership::Adopted => true,
            Ownership::Borrowed(server) => node.instance_uuid == Some(server),
        };
        node.storage_interface.uses_attachments()
            && !node.undeployed
            && has_instance
            && (target.node_uuid, &target.volume_id) == (self.node, &self.volume)
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
}
