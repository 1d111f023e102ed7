//! `/v1/nodes/{node}/validate`: whether each of a node's interfaces has what it needs, and if not, what is missing.
//!
//! What is asked about storage is what a boot will ask ([`fitness`]): Ironic's rules for its `cinder` interface, and
//! that there is a volume to boot from, which with `external` says how it is reached.

use serde_json::{Map, Value, json};

use super::call::{At, Call};
use super::fault::Fault;
use super::node::found;
use super::reply::{Answer, Reply};
use crate::boot::fitness;
use crate::model::{Node, StorageInterface, VolumeConnector, VolumeTarget};

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
    let missing = fitness::faults(node, connectors, targets);
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
        VolumeConnector::new(Uuid::from_u128(1), Uuid::nil(), "iqn", id, Timestamp::UNIX_EPOCH)
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

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let report = storage_report(&node(StorageInterface::External, ""), &[], &[]);
        let reason = "Failed to validate external storage interface for node \
                      00000000-0000-0000-0000-000000000000: has no boot volume: no volume target with boot index 0; lacks the capability iscsi_boot: set \
                      properties/capabilities to iscsi_boot:True; has no initiator name: no volume connector of type \
                      iqn";
        assert_eq!(report, json!({"result": false, "reason": reason}));
        let report = storage_report(&node(StorageInterface::Noop, ""), &[], &[]);
        assert_eq!(report, json!({"result": true}));
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
