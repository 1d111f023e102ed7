//! `/v1/nodes/{node}/validate`: whether each of a node's interfaces has what it needs, and if not, what is missing.
//!
//! Ironic's rules for storage (its `cinder` interface), with two additions, since here nothing can be done about a
//! volume but boot from it: there must be one, and with `external` its properties must say how it is reached.

use serde_json::{Map, Value, json};

use super::call::{At, Call};
use super::fault::Fault;
use super::node::found;
use super::reply::{Answer, Reply};
use crate::model::{Connection, Iqn, Node, StorageInterface, VolumeConnector, VolumeTarget};

/// Interfaces that do what there is to do.
const PRESENT: [&str; 5] = ["boot", "deploy", "management", "network", "power"];
/// Interfaces that no driver here has.
const ABSENT: [&str; 6] = ["bios", "console", "firmware", "inspect", "raid", "rescue"];

/// `GET /v1/nodes/{node}/validate`
pub(super) async fn get(call: Call, At(ident): At<String>) -> Answer {
    report(&call, &ident).await
}

/// `GET /v1/nodes/validate?node=`
pub(super) async fn get_by_query(call: Call) -> Answer {
    call.query.only(&["node", "node_uuid"])?;
    match call.query.text("node_uuid")?.or(call.query.text("node")?) {
        Some(ident) => report(&call, ident).await,
        None => Err(Fault::Invalid("Missing mandatory parameter: node".into())),
    }
}

async fn report(call: &Call, ident: &str) -> Answer {
    let node = found(call, ident).await?;
    let connectors: Vec<VolumeConnector> = call.state.inventory.all_of(node.uuid).await?;
    let targets: Vec<VolumeTarget> = call.state.inventory.all_of(node.uuid).await?;
    let mut report = Map::new();
    for kind in PRESENT {
        report.insert(kind.into(), json!({"result": true}));
    }
    for kind in ABSENT {
        let reason = Fault::unsupported(&node.driver, kind).to_string();
        report.insert(kind.into(), json!({"result": false, "reason": reason}));
    }
    report.insert("storage".into(), storage_report(&node, &connectors, &targets));
    Ok(Reply::Shown(report.into()))
}

fn storage_report(node: &Node, connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Value {
    let missing = storage(node, connectors, targets);
    if !missing.is_empty() {
        let (interface, missing) = (&node.storage_interface, missing.join("; "));
        let reason =
            format!("Failed to validate {interface} storage interface for node {}: {missing}", node.uuid);
        return json!({"result": false, "reason": reason});
    }
    let mut initiators = connectors.iter().filter(|connector| connector.is_iqn());
    match (&node.storage_interface, initiators.next(), initiators.next()) {
        (StorageInterface::Noop, ..) | (_, _, None) | (_, None, _) => json!({"result": true}),
        (_, Some(used), Some(_)) => {
            let reason = format!("several iqn connectors: the oldest is used, {}", used.connector_id);
            json!({"result": true, "reason": reason})
        }
    }
}

/// All that keeps a node from booting from its volumes. Nothing, if it is not to.
pub(super) fn storage(node: &Node, connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Vec<String> {
    let external = match &node.storage_interface {
        StorageInterface::Noop => return Vec::new(),
        StorageInterface::External => true,
        StorageInterface::Cinder => false,
        StorageInterface::Other(name) => return vec![format!("unknown storage interface \"{name}\"")],
    };
    let mut missing = Vec::new();
    if !targets.iter().any(|target| target.boot_index == 0) {
        missing.push("there is no volume target with boot_index 0".to_owned());
    }
    if !node.capabilities().is_true("iscsi_boot") {
        missing.push("properties/capabilities does not hold iscsi_boot:True".to_owned());
    }
    match connectors.iter().find(|connector| connector.is_iqn()) {
        None => missing.push("there is no volume connector of type iqn".to_owned()),
        Some(connector) => {
            if let Err(error) = connector.connector_id.parse::<Iqn>() {
                missing.push(format!("volume connector {}: connector_id: {error}", connector.uuid));
            }
        }
    }
    for target in targets {
        if target.volume_type != "iscsi" {
            let (uuid, kind) = (target.uuid, &target.volume_type);
            missing.push(format!(
                "volume target {uuid}: unknown volume_type \"{kind}\", only iscsi can be booted"
            ));
        } else if external && let Err(error) = Connection::try_from(&target.properties) {
            missing.push(format!("volume target {}: properties/{error}", target.uuid));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::Properties;

    fn properties(value: Value) -> Properties {
        serde_json::from_value(value).expect("an object")
    }

    fn node(storage: StorageInterface, capabilities: &str) -> Node {
        let node = Node::new(Uuid::nil(), "fake-hardware", storage, Timestamp::UNIX_EPOCH);
        Node { properties: properties(json!({"capabilities": capabilities})), ..node }
    }

    fn connector(id: &str) -> VolumeConnector {
        VolumeConnector {
            uuid: Uuid::from_u128(1),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: None,
            node_uuid: Uuid::nil(),
            kind: "iqn".into(),
            connector_id: id.into(),
            extra: Properties::default(),
        }
    }

    fn target(boot_index: i64, kind: &str, found: Value) -> VolumeTarget {
        VolumeTarget {
            uuid: Uuid::from_u128(2),
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: None,
            node_uuid: Uuid::nil(),
            volume_type: kind.into(),
            volume_id: "v".into(),
            boot_index,
            properties: properties(found),
            extra: Properties::default(),
        }
    }

    const IQN: &str = "iqn.2017-08.org.openstack.n1";

    fn reachable() -> Value {
        json!({"target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:v", "target_lun": 0})
    }

    #[test]
    fn a_node_that_can_boot_lacks_nothing() {
        let capable = node(StorageInterface::External, "boot_mode:uefi,iscsi_boot:True");
        let targets = [target(0, "iscsi", reachable())];
        assert_eq!(storage(&capable, &[connector(IQN)], &targets), [""; 0]);
        let cinders = node(StorageInterface::Cinder, "iscsi_boot:1");
        assert_eq!(storage(&cinders, &[connector(IQN)], &[target(0, "iscsi", json!({}))]), [""; 0]);
        assert_eq!(storage(&node(StorageInterface::Noop, ""), &[], &[]), [""; 0]);
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let bare = node(StorageInterface::External, "");
        let expected = [
            "there is no volume target with boot_index 0",
            "properties/capabilities does not hold iscsi_boot:True",
            "there is no volume connector of type iqn",
        ];
        assert_eq!(storage(&bare, &[], &[]), expected);
        let targets =
            [target(0, "fibre_channel", json!({})), target(1, "iscsi", json!({"target_portal": "x:"}))];
        let uuid = Uuid::from_u128(2);
        let found =
            storage(&node(StorageInterface::External, "iscsi_boot:True"), &[connector("x")], &targets);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(
            found[0]
                .starts_with("volume connector 00000000-0000-0000-0000-000000000001: connector_id: an iSCSI")
        );
        assert_eq!(
            found[1],
            format!("volume target {uuid}: unknown volume_type \"fibre_channel\", only iscsi can be booted")
        );
        assert!(
            found[2].starts_with(&format!("volume target {uuid}: properties/target_portal: ")),
            "{}",
            found[2]
        );
        let other = node(StorageInterface::Other("ceph".into()), "");
        assert_eq!(storage(&other, &[], &[]), ["unknown storage interface \"ceph\""]);
    }

    #[test]
    fn with_several_initiators_the_one_that_is_used_is_told() {
        let capable = node(StorageInterface::Cinder, "iscsi_boot:True");
        let connectors = [connector(IQN), connector("iqn.2017-08.org.openstack.n2")];
        let report = storage_report(&capable, &connectors, &[target(0, "iscsi", json!({}))]);
        let reason = format!("several iqn connectors: the oldest is used, {IQN}");
        assert_eq!(report, json!({"result": true, "reason": reason}));
    }
}
