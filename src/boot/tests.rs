//! Tests of the phases that need no store, from admission to plan: each rule, and the reasons of refusals.

mod settled;

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::admit::{AdmittedNode, admit};
use super::plan::plan;
use super::records::NodeRecords;
use super::*;
use crate::attach::Policy;
use crate::model::{BootPlan, Properties, ProvisionState};
use crate::model::{VolumeConnector, VolumeTarget};
use crate::store::{Attachments, MemoryStore};

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

fn with_property(mut target: VolumeTarget, key: &str, value: Value) -> VolumeTarget {
    let mut properties = target.properties.reveal().clone();
    properties.insert(key.into(), value);
    target.properties = properties.into();
    target
}

/// The answer without a Cinder.
async fn answer(
    node: &Node,
    connectors: &[VolumeConnector],
    targets: &[VolumeTarget],
    enabled: &[StorageInterface],
) -> BootAnswer {
    let policy = Policy { resolutions: 1, ..Policy::default() };
    let attach = Attach::new(Attachments::new(Arc::new(MemoryStore::default())), None, policy);
    let request = BootRequest::new(Mac::new([0x52, 0x54, 0, 0, 0, 1]));
    let (node, connectors, targets) = (node.clone(), connectors.to_vec(), targets.to_vec());
    let records = NodeRecords { node, connectors, targets };
    let decision = async {
        let AdmittedNode { locator, records } = admit(&records, enabled)?;
        let volumes = locator.locate(&attach, &records, &request, Mode::Boot, None).await?;
        Ok(plan(records, volumes))
    };
    match decision.await {
        Ok(decision) => decision.answer,
        Err(Stop::Decided(decision)) => decision.answer,
        Err(Stop::StoreError(error)) => panic!("{error}"),
    }
}

fn expect_boot(answer: BootAnswer) -> BootPlan {
    match answer {
        BootAnswer::Boot(plan) => *plan,
        other => panic!("expected a boot, got {other:?}"),
    }
}

fn expect_refusal(answer: BootAnswer) -> String {
    match answer {
        BootAnswer::Refused { reason } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn valid_node_boots_with_oldest_initiator_and_ordered_volumes() {
    let targets = vec![target(5, "logs"), target(0, "root"), target(2, "data")];
    let plan = expect_boot(answer(&node(), &connectors(), &targets, &ALL).await);
    assert_eq!(plan.initiator.as_str(), "iqn.2017-08.org.openstack.oldest");
    assert_eq!(plan.label, "web-1");
    assert_eq!(plan.boot.id, "root");
    assert_eq!(plan.data.iter().map(|volume| volume.id.as_str()).collect::<Vec<_>>(), ["data", "logs"]);
    assert_eq!(plan.loader, None);
}

#[tokio::test]
async fn loader_of_the_boot_target_overrides_the_nodes() {
    let mut with_loader = node();
    with_loader.properties =
        properties(json!({"capabilities": "iscsi_boot:1", "uefi_loader": "/EFI/node.efi"}));
    let plan = expect_boot(answer(&with_loader, &connectors(), &[target(0, "root")], &ALL).await);
    assert_eq!(plan.loader.map(|loader| loader.to_string()), Some(r"\EFI\node.efi".to_owned()));
    let own = with_property(target(0, "root"), "uefi_loader", json!(r"\EFI\target.efi"));
    let plan = expect_boot(answer(&with_loader, &connectors(), &[own], &ALL).await);
    assert_eq!(plan.loader.map(|loader| loader.to_string()), Some(r"\EFI\target.efi".to_owned()));
}

#[tokio::test]
async fn noop_boots_the_local_disk() {
    let node = Node { storage_interface: StorageInterface::Noop, maintenance: true, ..node() };
    let answer = answer(&node, &connectors(), &[target(0, "root")], &ALL).await;
    assert_eq!(answer, BootAnswer::LocalDisk { reason: "node web-1: storage interface is noop".into() });
}

#[tokio::test]
async fn every_refusal_states_its_reason() {
    let maintenance = Node { maintenance: true, ..node() };
    let explained = Node { maintenance_reason: Some("new disk".into()), ..maintenance.clone() };
    let state = |provision_state| Node { provision_state, ..node() };
    let storage = |storage_interface| Node { storage_interface, ..node() };
    let without_capability =
        Node { properties: properties(json!({"capabilities": "boot_mode:uefi"})), ..node() };
    let root = || vec![target(0, "root")];
    let fibre = VolumeTarget { volume_type: "fibre_channel".into(), ..target(1, "fc") };
    let uuid = Uuid::nil();
    let undeployed = Node { undeployed: true, ..state(ProvisionState::Available) };
    let cases = [
        (undeployed, connectors(), root(), "booting is not allowed after an undeployment; deploy the node again".to_owned()),
        (maintenance, connectors(), root(), "maintenance is set".into()),
        (explained, connectors(), root(), "maintenance is set (new disk)".into()),
        (
            state(ProvisionState::Cleaning),
            connectors(),
            root(),
            "provision state \"cleaning\" does not allow booting".into(),
        ),
        (
            state(ProvisionState::Error),
            connectors(),
            root(),
            "provision state \"error\" does not allow booting".into(),
        ),
        (
            storage(StorageInterface::Other("ceph".into())),
            connectors(),
            root(),
            "storage interface \"ceph\" is unknown".into(),
        ),
        (
            storage(StorageInterface::Cinder),
            vec![],
            root(),
            "there is no initiator name: no volume connector has type iqn".into(),
        ),
        (
            without_capability.clone(),
            vec![],
            vec![],
            "there is no boot volume: no volume target has boot index 0; capability iscsi_boot is missing: set \
             properties/capabilities to iscsi_boot:True; there is no initiator name: no volume connector has type iqn"
                .into(),
        ),
        (node(), connectors(), vec![], "there is no boot volume: no volume target has boot index 0".into()),
        (
            node(),
            connectors(),
            vec![target(1, "data")],
            "there is no boot volume: no volume target has boot index 0".into(),
        ),
        (
            node(),
            connectors(),
            vec![target(0, "root"), fibre],
            "volume fc has type \"fibre_channel\": only iscsi can be booted".into(),
        ),
        (
            without_capability,
            connectors(),
            root(),
            "capability iscsi_boot is missing: set properties/capabilities to iscsi_boot:True".into(),
        ),
        (
            node(),
            vec![connector("ip", "192.0.2.7")],
            root(),
            "there is no initiator name: no volume connector has type iqn".into(),
        ),
        (
            node(),
            vec![connector("iqn", "iqn.2017-08.org x")],
            root(),
            format!(
                "volume connector {uuid} has an invalid connector_id: an iSCSI name may not contain ' '"
            ),
        ),
        (
            node(),
            connectors(),
            vec![with_property(target(0, "root"), "target_portal", Value::Null)],
            format!("volume target {uuid} (boot index 0): properties/target_portal: missing"),
        ),
        (
            node(),
            connectors(),
            vec![with_property(target(0, "root"), "uefi_loader", json!("a b"))],
            format!(
                "volume target {uuid} (boot index 0): properties/uefi_loader: \
                 expected the path of an EFI program without spaces, such as \\EFI\\debian\\shimx64.efi"
            ),
        ),
    ];
    for (node, connectors, targets, reason) in cases {
        let actual = expect_refusal(answer(&node, &connectors, &targets, &ALL).await);
        assert_eq!(actual, format!("node web-1: {reason}"));
    }
}

#[tokio::test]
async fn a_record_with_ambiguous_or_unknown_values_is_refused() {
    let refuse = async |connectors: Vec<VolumeConnector>, targets: Vec<VolumeTarget>| {
        expect_refusal(answer(&node(), &connectors, &targets, &ALL).await)
    };
    let uuid = Uuid::nil();
    assert_eq!(
        refuse(vec![connector("iqn", "web-1")], vec![target(0, "root")]).await,
        format!(
            "node web-1: volume connector {uuid} has an invalid connector_id: \
             an iSCSI name looks like iqn.2017-08.org.example:disk-1 (or eui.… or naa.…)"
        )
    );
    for (key, value, fault) in [
        (
            "target_portal",
            "fd03::546c:3260",
            "the IPv6 address needs brackets: write [fd03::546c]:3260 or, if the number is part of the address, \
             [fd03::546c:3260]:3260",
        ),
        ("addressing_mode", "SAM5", "expected SAM, SAM2, SAM3-flat or transparent"),
    ] {
        let target = with_property(target(0, "root"), key, value.into());
        let expected = format!("node web-1: volume target {uuid} (boot index 0): properties/{key}: {fault}");
        assert_eq!(refuse(connectors(), vec![target]).await, expected);
    }
}

#[tokio::test]
async fn disabled_storage_interface_is_refused() {
    let actual =
        expect_refusal(answer(&node(), &connectors(), &[target(0, "root")], &[StorageInterface::Noop]).await);
    assert_eq!(actual, "node web-1: storage interface external is not enabled");
}

#[tokio::test]
async fn node_boots_in_every_bootable_state() {
    for provision_state in ProvisionState::ALL {
        let node = Node { provision_state, ..node() };
        let answer = answer(&node, &connectors(), &[target(0, "root")], &ALL).await;
        assert_eq!(
            matches!(answer, BootAnswer::Boot(_)),
            provision_state.is_bootable(),
            "{provision_state:?}"
        );
    }
}
