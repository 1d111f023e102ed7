//! May it boot? A pure function of the records; each row of its table is a test below.

use crate::attach::{Found, Progress, Source};
use crate::model::{Answer, BootPlan, Iqn, Node, StorageInterface, Volume, VolumeConnector, VolumeTarget};

use super::{fitness, name};

/// What a node's records say of it.
#[derive(Debug)]
pub(super) struct Records {
    pub(super) node: Node,
    /// The oldest first.
    pub(super) connectors: Vec<VolumeConnector>,
    pub(super) targets: Vec<VolumeTarget>,
}

/// What follows from it.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// This.
    Answer(Answer),
    /// Cinder knows more: it is to be asked for the volumes of whoever logs in with this name.
    AskCinder(Iqn),
}

/// Decides what a node may do. `cinder`: what came of asking for its volumes, if that was done.
pub(super) fn decide(records: &Records, enabled: &[StorageInterface], cinder: Option<Progress>) -> Verdict {
    let Records { node, connectors, targets } = records;
    let refuse =
        |reason: String| Verdict::Answer(Answer::Refuse { reason: format!("{} {reason}", name(node)) });
    if node.storage_interface == StorageInterface::Noop {
        let reason = format!("{}: storage interface is noop", name(node));
        return Verdict::Answer(Answer::LocalDisk { reason });
    }
    if let Err(reason) = may(node, enabled) {
        return refuse(reason);
    }
    let plan = match (&node.storage_interface, cinder) {
        (StorageInterface::Cinder, None) => {
            return match fitness::initiator_of(node, connectors, targets) {
                Ok(initiator) => Verdict::AskCinder(initiator),
                Err(faults) => refuse(faults.join("; ")),
            };
        }
        (StorageInterface::Cinder, Some(Progress::Wait { reason, seconds })) => {
            return Verdict::Answer(Answer::Wait { reason: format!("{}: {reason}", name(node)), seconds });
        }
        (StorageInterface::Cinder, Some(Progress::Refused(reason))) => {
            let reason = format!("{}: {reason}", name(node));
            return Verdict::Answer(Answer::Refuse { reason });
        }
        (StorageInterface::Cinder, Some(Progress::Ready(found))) => {
            fitness::plan(node, connectors, targets, |target| located(target, found.get(&target.volume_id)))
                .map(|plan| BootPlan { notes: notes(found.values()), ..plan })
        }
        _ => fitness::plan(node, connectors, targets, fitness::recorded),
    };
    match plan {
        Ok(plan) => Verdict::Answer(Answer::Boot(Box::new(plan))),
        Err(faults) => refuse(faults.join("; ")),
    }
}

/// A volume where Cinder found it.
fn located(target: &VolumeTarget, found: Option<&Found>) -> Result<Volume, String> {
    let id = &target.volume_id;
    let Some(found) = found else { return Err(format!("has volume {id}, which Cinder was not asked for")) };
    let connection = found.connection.clone();
    Ok(Volume { id: id.clone(), paths: connection.paths, chap: connection.chap })
}

/// What was not asked anew, and why.
fn notes<'a>(found: impl Iterator<Item = &'a Found>) -> Vec<String> {
    let mut notes: Vec<_> = found
        .filter_map(|found| match &found.source {
            Source::LastKnown { learnt_at, away: Some(reason) } => {
                Some(format!("booting from the connection of {learnt_at:.0}: Cinder is away: {reason}"))
            }
            Source::LastKnown { away: None, .. } | Source::Records | Source::Cinder => None,
        })
        .collect();
    notes.sort();
    notes.dedup();
    notes
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
    if node.undeployed {
        return Err("was undeployed: it may not boot before it is deployed again".into());
    }
    match &node.storage_interface {
        StorageInterface::Other(other) => Err(fitness::unknown_interface(other)),
        known if !enabled.contains(known) => {
            Err(format!("has storage interface {known}, which is not enabled"))
        }
        StorageInterface::Cinder | StorageInterface::External | StorageInterface::Noop => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::model::{Connection, Properties, ProvisionState};

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

    /// Decides where Cinder has no say.
    fn decide(
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
        enabled: &[StorageInterface],
    ) -> Answer {
        match decided(node, connectors, targets, enabled, None) {
            Verdict::Answer(answer) => answer,
            Verdict::AskCinder(_) => panic!("Cinder has no say here"),
        }
    }

    fn decided(
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
        enabled: &[StorageInterface],
        cinder: Option<Progress>,
    ) -> Verdict {
        let (node, connectors, targets) = (node.clone(), connectors.to_vec(), targets.to_vec());
        super::decide(&Records { node, connectors, targets }, enabled, cinder)
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
                vec![],
                root(),
                "has no initiator name: no volume connector of type iqn".into(),
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
    fn what_cinder_says_decides_for_a_node_that_fits() {
        let node = Node { storage_interface: StorageInterface::Cinder, ..node() };
        let bare = |index, id| VolumeTarget { properties: Properties::default(), ..target(index, id) };
        let targets = [bare(0, "root"), bare(1, "data")];
        let decided = |cinder| decided(&node, &connectors(), &targets, &ALL, cinder);
        let initiator = "iqn.2017-08.org.openstack.oldest".parse().expect("a name");
        assert_eq!(decided(None), Verdict::AskCinder(initiator));
        let waits = decided(Some(Progress::Wait { reason: "asking".into(), seconds: 2 }));
        assert_eq!(waits, Verdict::Answer(Answer::Wait { reason: "node web-1: asking".into(), seconds: 2 }));
        let refused = decided(Some(Progress::Refused("volume root is in use by server 7".into())));
        let reason = "node web-1: volume root is in use by server 7".into();
        assert_eq!(refused, Verdict::Answer(Answer::Refuse { reason }));

        let found = |id: &str, source| {
            let connection = Connection::try_from(&target(0, id).properties).expect("a connection");
            (id.to_owned(), Found { connection, source, took: std::time::Duration::ZERO, held_by: None })
        };
        let last = Source::LastKnown { learnt_at: Timestamp::UNIX_EPOCH, away: Some("no answer".into()) };
        let ready = Progress::Ready([found("root", Source::Cinder), found("data", last)].into());
        let Verdict::Answer(answer) = decided(Some(ready)) else { panic!("it was asked") };
        let plan = booted(answer);
        assert_eq!(plan.boot.paths[0].target.as_str(), "iqn.2010-10.org.openstack:root");
        assert_eq!(plan.data[0].paths[0].target.as_str(), "iqn.2010-10.org.openstack:data");
        assert_eq!(
            plan.notes,
            ["booting from the connection of 1970-01-01T00:00:00Z: Cinder is away: no answer"]
        );
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
