//! `/v1/nodes/{node}/validate`: validates each of a node's interfaces and reports what is missing.
//!
//! The storage check is the same as at boot ([`Boot::check`](crate::boot::Boot::check)): Ironic's rules for its
//! `cinder` interface, a boot volume, and no obstacle to attaching it.

use serde_json::{Map, Value, json};

use super::fault::Fault;
use super::node::find_node;
use super::reply::{HandlerResult, Reply};
use super::request::{ApiRequest, PathParam};
use crate::boot::NodeCheck;
use crate::model::{Node, StorageInterface};
use crate::power::parse_driver_info;

/// The supported interfaces. Without a BMC, all of them always validate.
const SUPPORTED: [&str; 4] = ["boot", "management", "network", "power"];
/// The interfaces that no driver here supports.
const UNSUPPORTED: [&str; 6] = ["bios", "console", "firmware", "inspect", "raid", "rescue"];

/// `GET /v1/nodes/{node}/validate`
pub(super) async fn get(request: ApiRequest, PathParam(ident): PathParam<String>) -> HandlerResult {
    build_report(&request, &ident).await
}

/// `GET /v1/nodes/validate?node=`
pub(super) async fn get_by_query(request: ApiRequest) -> HandlerResult {
    request.query.reject_unknown(&["node", "node_uuid"])?;
    match request.query.text("node_uuid")?.or(request.query.text("node")?) {
        Some(ident) => build_report(&request, ident).await,
        None => Err(Fault::Invalid("Missing mandatory parameter: node".into())),
    }
}

async fn build_report(request: &ApiRequest, ident: &str) -> HandlerResult {
    let node = find_node(request, ident).await?;
    let mut report = Map::new();
    for kind in SUPPORTED {
        report.insert(kind.into(), json!({"result": true}));
    }
    for (kind, uses_bmc) in [("power", node.has_bmc()), ("management", node.has_managed_boot_device())] {
        if let Some(error) = parse_driver_info(&node).err().filter(|_| uses_bmc) {
            report.insert(kind.into(), json!({"result": false, "reason": error.to_string()}));
        }
    }
    report.insert("deploy".into(), deploy_report(&node));
    for kind in UNSUPPORTED {
        let reason = Fault::unsupported(&node.driver, kind).to_string();
        report.insert(kind.into(), json!({"result": false, "reason": reason}));
    }
    let NodeCheck { faults, mut warnings } = request.operator.boot.check(&node).await?;
    if let Some(check) = request.operator.last_volume_check(&node) {
        warnings.push(check.summarize(request.now));
    }
    report.insert("storage".into(), storage_report(&node, &faults, &warnings));
    Ok(Reply::Json(report.into()))
}

fn deploy_report(node: &Node) -> Value {
    match node.check_instance_traits() {
        Err(error) => json!({"result": false, "reason": error.to_string()}),
        Ok(()) if node.storage_interface == StorageInterface::Noop => json!({"result": true}),
        Ok(()) => json!({"result": true, "reason": drive_notice(node)}),
    }
}

/// What becomes of a config drive. Clients send one with the deployment of a machine that cannot get it from here.
fn drive_notice(node: &Node) -> String {
    let notice = "A machine that boots from its volumes gets no config drive from volboot.";
    match node.instance_info.get("configdrive") {
        Some(_) => format!("{notice} The config drive of the deployment was discarded."),
        None => notice.to_owned(),
    }
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
        (StorageInterface::External | StorageInterface::Cinder | StorageInterface::Other(_), warnings) => {
            json!({"result": true, "reason": warnings.join("; ")})
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn report(storage: StorageInterface, missing: &[&str], warnings: &[&str]) -> Value {
        let to_strings = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let node = Node::new(Uuid::nil(), "fake-hardware", storage, Timestamp::UNIX_EPOCH);
        storage_report(&node, &to_strings(missing), &to_strings(warnings))
    }

    #[test]
    fn all_missing_records_are_reported_at_once() {
        let reason = "Failed to validate external storage interface for node \
                      00000000-0000-0000-0000-000000000000: lacks this; has that";
        let got = report(StorageInterface::External, &["lacks this", "has that"], &["beware"]);
        assert_eq!(got, json!({"result": false, "reason": reason}));
    }

    #[test]
    fn warnings_are_reported_only_for_nodes_with_volumes() {
        assert_eq!(report(StorageInterface::Cinder, &[], &[]), json!({"result": true}));
        let got = report(StorageInterface::Cinder, &[], &["one", "two"]);
        assert_eq!(got, json!({"result": true, "reason": "one; two"}));
        assert_eq!(report(StorageInterface::Noop, &[], &["one"]), json!({"result": true}));
    }
}
