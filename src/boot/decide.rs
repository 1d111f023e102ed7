//! May it boot? A pure function of the records; each row of its table is a test below.

use crate::model::{Answer, Node, ProvisionState, StorageInterface, VolumeConnector, VolumeTarget};

use super::{fitness, name};

/// Decides for a node with these connectors (the oldest first) and targets.
pub(super) fn decide(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
    enabled: &[StorageInterface],
) -> Answer {
    if node.storage_interface == StorageInterface::Noop {
        return Answer::LocalDisk { reason: format!("{}: storage interface is noop", name(node)) };
    }
    let plan = may(node, enabled)
        .and_then(|()| fitness::plan(node, connectors, targets).map_err(|faults| faults.join("; ")));
    match plan {
        Ok(plan) => Answer::Boot(Box::new(plan)),
        Err(reason) => Answer::Refuse { reason: format!("{} {reason}", name(node)) },
    }
}

/// Whether the node may boot at all, whatever its volumes. The reason goes on after its name.
fn may(node: &Node, enabled: &[StorageInterface]) -> Result<(), String> {
    if node.maintenance {
        let reason = node.maintenance_reason.as_deref().filter(|reason| !reason.is_empty());
        return Err(format!(
            "is in maintenance{}",
            reason.map(|reason| format!(": {reason}")).unwrap_or_default()
        ));
    }
    if !node.provision_state.may_boot() {
        return Err(format!("may not boot in provision state \"{}\"", node.provision_state.as_str()));
    }
    if node.undeployed && node.provision_state == ProvisionState::Available {
        return Err("was undeployed: it may not boot before it is deployed again".into());
    }
    match &node.storage_interface {
        StorageInterface::Other(other) => Err(fitness::unknown_interface(other)),
        known if !enabled.contains(known) => {
            Err(format!("has storage interface {known}, which is not enabled"))
        }
        StorageInterface::Cinder => Err("has storage interface cinder, but Cinder is not configured".into()),
        StorageInterface::External | StorageInterface::Noop => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::model::{BootPlan, Properties};

    const ALL: [StorageInterface; 3] =
        [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];

    fn properties(value: Value) -> Properties {
        serde_json::from_value(value).expect("an object")
    }

    fn node() -> Node {
        Node {
            name: Some("web-1".into()),
            properties: properties(json!({"capabilities": "iscsi_boot:True"})),
            ..Node::new(Uuid::nil(), "manual-management", StorageInterface::External, Timestamp::UNIX_EPOCH)
        }
    }

    fn connector(kind: &str, id: &str) -> VolumeConnector {
        VolumeConnector::new(Uuid::nil(), Uuid::nil(), kind, id, Timestamp::UNIX_EPOCH)
    }

    fn connectors() -> Vec<VolumeConnector> {
        vec![
            connector("ip", "192.0.2.7"),
            connector("iqn", "iqn.2017-08.org.openstack.oldest"),
            connector("iqn", "iqn.2017-08.org.openstack.later"),
        ]
    }

    fn target(boot_index: i64, id: &str) -> VolumeTarget {
        let uuid = Uuid::from_u128(boot_index.unsigned_abs().into());
        VolumeTarget {
            properties: properties(json!({
                "target_portal": "192.0.2.1:3260",
                "target_iqn": format!("iqn.2010-10.org.openstack:{id}"),
                "target_lun": 1,
            })),
            ..VolumeTarget::new(uuid, Uuid::nil(), boot_index, id, Timestamp::UNIX_EPOCH)
        }
    }

    fn with(mut target: VolumeTarget, key: &str, value: Value) -> VolumeTarget {
        let mut all = target.properties.reveal().clone();
        all.insert(key.into(), value);
        target.properties = all.into();
        target
    }

    fn booted(answer: Answer) -> BootPlan {
        match answer {
            Answer::Boot(plan) => *plan,
            other => panic!("expected a boot, got {other:?}"),
        }
    }

    fn refused(answer: Answer) -> String {
        match answer {
            Answer::Refuse { reason } => reason,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_node_that_fits_boots_as_its_oldest_initiator_with_its_volumes_in_order() {
        let targets = vec![target(5, "logs"), target(0, "root"), target(2, "data")];
        let plan = booted(decide(&node(), &connectors(), &targets, &ALL));
        assert_eq!(plan.initiator.as_str(), "iqn.2017-08.org.openstack.oldest");
        assert_eq!(plan.label, "web-1");
        assert_eq!(plan.boot.id, "root");
        assert_eq!(plan.data.iter().map(|volume| volume.id.as_str()).collect::<Vec<_>>(), ["data", "logs"]);
        assert_eq!(plan.loader, None);
    }

    #[test]
    fn the_boot_targets_loader_goes_before_the_nodes() {
        let mut with_loader = node();
        with_loader.properties =
            properties(json!({"capabilities": "iscsi_boot:1", "uefi_loader": "/EFI/node.efi"}));
        let plan = booted(decide(&with_loader, &connectors(), &[target(0, "root")], &ALL));
        assert_eq!(plan.loader.map(|loader| loader.to_string()), Some(r"\EFI\node.efi".to_owned()));
        let own = with(target(0, "root"), "uefi_loader", json!(r"\EFI\target.efi"));
        let plan = booted(decide(&with_loader, &connectors(), &[own], &ALL));
        assert_eq!(plan.loader.map(|loader| loader.to_string()), Some(r"\EFI\target.efi".to_owned()));
    }

    #[test]
    fn noop_means_the_local_disk_whatever_else_is_recorded() {
        let node = Node { storage_interface: StorageInterface::Noop, maintenance: true, ..node() };
        let answer = decide(&node, &connectors(), &[target(0, "root")], &ALL);
        assert_eq!(answer, Answer::LocalDisk { reason: "node web-1: storage interface is noop".into() });
    }

    #[test]
    fn every_refusal_names_what_is_in_the_way() {
        let maintenance = Node { maintenance: true, ..node() };
        let explained = Node { maintenance_reason: Some("new disk".into()), ..maintenance.clone() };
        let state = |provision_state| Node { provision_state, ..node() };
        let storage = |storage_interface| Node { storage_interface, ..node() };
        let incapable = Node { properties: properties(json!({"capabilities": "boot_mode:uefi"})), ..node() };
        let root = || vec![target(0, "root")];
        let fibre = VolumeTarget { volume_type: "fibre_channel".into(), ..target(1, "fc") };
        let uuid = Uuid::nil();
        let undeployed = Node { undeployed: true, ..state(ProvisionState::Available) };
        let cases = [
            (undeployed, connectors(), root(), "was undeployed: it may not boot before it is deployed again".to_owned()),
            (maintenance, connectors(), root(), "is in maintenance".into()),
            (explained, connectors(), root(), "is in maintenance: new disk".into()),
            (
                state(ProvisionState::Cleaning),
                connectors(),
                root(),
                "may not boot in provision state \"cleaning\"".into(),
            ),
            (
                state(ProvisionState::Error),
                connectors(),
                root(),
                "may not boot in provision state \"error\"".into(),
            ),
            (
                storage(StorageInterface::Other("ceph".into())),
                connectors(),
                root(),
                "has the unknown storage interface \"ceph\"".into(),
            ),
            (
                storage(StorageInterface::Cinder),
                connectors(),
                root(),
                "has storage interface cinder, but Cinder is not configured".into(),
            ),
            (
                incapable.clone(),
                vec![],
                vec![],
                "has no boot volume: no volume target with boot index 0; lacks the capability iscsi_boot: set \
                 properties/capabilities to iscsi_boot:True; has no initiator name: no volume connector of type iqn"
                    .into(),
            ),
            (node(), connectors(), vec![], "has no boot volume: no volume target with boot index 0".into()),
            (
                node(),
                connectors(),
                vec![target(1, "data")],
                "has no boot volume: no volume target with boot index 0".into(),
            ),
            (
                node(),
                connectors(),
                vec![target(0, "root"), fibre],
                "has volume fc of type \"fibre_channel\": only iscsi can be booted".into(),
            ),
            (
                incapable,
                connectors(),
                root(),
                "lacks the capability iscsi_boot: set properties/capabilities to iscsi_boot:True".into(),
            ),
            (
                node(),
                vec![connector("ip", "192.0.2.7")],
                root(),
                "has no initiator name: no volume connector of type iqn".into(),
            ),
            (
                node(),
                vec![connector("iqn", "iqn.2017-08.org x")],
                root(),
                format!(
                    "has volume connector {uuid} whose connector_id is wrong: an iSCSI name may not contain ' '"
                ),
            ),
            (
                node(),
                connectors(),
                vec![with(target(0, "root"), "target_portal", Value::Null)],
                format!("has volume target {uuid} (boot index 0) with properties/target_portal: missing"),
            ),
            (
                node(),
                connectors(),
                vec![with(target(0, "root"), "uefi_loader", json!("a b"))],
                format!(
                    "has volume target {uuid} (boot index 0) with properties/uefi_loader: \
                     expected the path of an EFI program without spaces, such as \\EFI\\debian\\shimx64.efi"
                ),
            ),
        ];
        for (node, connectors, targets, reason) in cases {
            let got = refused(decide(&node, &connectors, &targets, &ALL));
            assert_eq!(got, format!("node web-1 {reason}"));
        }
    }

    #[test]
    fn a_storage_interface_that_is_not_enabled_is_refused() {
        let got = refused(decide(&node(), &connectors(), &[target(0, "root")], &[StorageInterface::Noop]));
        assert_eq!(got, "node web-1 has storage interface external, which is not enabled");
    }

    #[test]
    fn a_node_boots_in_every_state_in_which_its_volumes_are_its_own() {
        for provision_state in ProvisionState::ALL {
            let node = Node { provision_state, ..node() };
            let answer = decide(&node, &connectors(), &[target(0, "root")], &ALL);
            assert_eq!(matches!(answer, Answer::Boot(_)), provision_state.may_boot(), "{provision_state:?}");
        }
    }
}
