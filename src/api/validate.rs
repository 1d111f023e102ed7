//! `/v1/nodes/{node}/validate`: whether each of a node's interfaces has what it needs, and if not, what is missing.
//!
//! What is asked about storage is what a boot will ask ([`Boot::faults`](crate::boot::Boot::faults)): Ironic's rules
//! for its `cinder` interface, that there is a volume to boot from, and that nothing is in the way of having it.

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
    let missing = call.state.boot.faults(&node, &connectors, &targets).await;
    report
        .insert("storage".into(), storage_report(&node, &missing, &fitness::warnings(&connectors, &targets)));
    Ok(Reply::Shown(report.into()))
}

fn storage_report(node: &Node, missing: &[String], warnings: &[String]) -> Value {
    if !missing.is_empty() {
        let (interface, missing) = (&node.storage_interface, missing.join("; "));
        let reason =
            format!("Failed to validate {interface} storage interface for node {}: {missing}", node.uuid);
        return json!({"result": false, "reason": reason});
    }
    match (&node.storage_interface, warnings) {
        (StorageInterface::Noop, _) | (_, []) => json!({"result": true}),
        (_, warnings) => json!({"result": true, "reason": warnings.join("; ")}),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn report(storage: StorageInterface, missing: &[&str], warnings: &[&str]) -> Value {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let node = Node::new(Uuid::nil(), "fake-hardware", storage, Timestamp::UNIX_EPOCH);
        storage_report(&node, &owned(missing), &owned(warnings))
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let reason = "Failed to validate external storage interface for node \
                      00000000-0000-0000-0000-000000000000: lacks this; has that";
        let got = report(StorageInterface::External, &["lacks this", "has that"], &["beware"]);
        assert_eq!(got, json!({"result": false, "reason": reason}));
    }

    #[test]
    fn what_is_to_be_known_is_told_where_volumes_are_booted() {
        assert_eq!(report(StorageInterface::Cinder, &[], &[]), json!({"result": true}));
        let got = report(StorageInterface::Cinder, &[], &["one", "two"]);
        assert_eq!(got, json!({"result": true, "reason": "one; two"}));
        assert_eq!(report(StorageInterface::Noop, &[], &["one"]), json!({"result": true}));
    }
}
