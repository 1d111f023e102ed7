//! Identifies the node of a boot request by the machine's MAC addresses, and reads its records.
//!
//! The SMBIOS UUID is not used: in the field, whole batches of boards share one UUID.

use crate::model::{BootAnswer, BootRequest, Mac, Node, Port, VolumeTarget};
use crate::store::{Inventory, StoreError, Versioned};

use super::decision::{Stop, node_reason};
use super::records::NodeRecords;

/// Reads the records of the one node that matches the machine.
pub(super) async fn identify(inventory: &Inventory, request: &BootRequest) -> Result<NodeRecords, Stop> {
    let node = find_unique_node(inventory, request).await?;
    Ok(read_records(inventory, node).await?)
}

/// Reads the records of a node.
pub(super) async fn read_records(inventory: &Inventory, node: Node) -> Result<NodeRecords, StoreError> {
    let connectors = inventory.list_all_of(node.uuid).await?;
    let mut targets: Vec<VolumeTarget> = inventory.list_all_of(node.uuid).await?;
    // Reasons name the boot volume first.
    targets.sort_by_key(|target| target.boot_index);
    Ok(NodeRecords { node, connectors, targets })
}

/// Finds the node of a machine, for display: with a port for one of these MAC addresses, `pxe_enabled` or not. A port
/// with `pxe_enabled` decides, as for a boot.
pub(super) async fn find_node(inventory: &Inventory, macs: &[Mac]) -> Result<Option<Node>, StoreError> {
    let (enabled, disabled): (Vec<_>, Vec<_>) =
        inventory.find_ports(macs).await?.into_iter().partition(|port| port.pxe_enabled);
    for port in enabled.iter().chain(&disabled) {
        if let Some(node) = node_of(inventory, port).await? {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// Finds the one node that has a port with one of the machine's MAC addresses. The port must have `pxe_enabled`.
async fn find_unique_node(inventory: &Inventory, request: &BootRequest) -> Result<Node, Stop> {
    let ports = inventory.find_ports(&request.macs).await?;
    let mut matches: Vec<(Node, Mac)> = Vec::new();
    for port in ports.iter().filter(|port| port.pxe_enabled) {
        if matches.iter().all(|(node, _)| node.uuid != port.node_uuid)
            && let Some(node) = node_of(inventory, port).await?
        {
            matches.push((node, port.address));
        }
    }
    let answer = match (matches.len(), ports.first()) {
        (1, _) => return Ok(matches.remove(0).0),
        (0, None) => unknown(request),
        (0, Some(port)) => match node_of(inventory, port).await? {
            Some(node) => {
                let sentence =
                    format!("port {} is not enabled for booting (pxe_enabled is false)", port.address);
                BootAnswer::Refused { reason: node_reason(&node, sentence) }
            }
            None => unknown(request),
        },
        _ => {
            let nodes: Vec<_> =
                matches.iter().map(|(node, mac)| format!("node {} ({mac})", node.label())).collect();
            // The requester may be a stranger that looks for the names of nodes.
            tracing::warn!(
                mac = %request.mac(),
                nodes = nodes.join(", "),
                "network cards of several nodes in one boot request"
            );
            let reason = "this machine's network cards belong to several nodes; volboot's log names them";
            BootAnswer::Refused { reason: reason.to_owned() }
        }
    };
    Err(Stop::without_node(answer))
}

async fn node_of(inventory: &Inventory, port: &Port) -> Result<Option<Node>, StoreError> {
    let node: Option<Versioned<Node>> = inventory.get(port.node_uuid).await?;
    Ok(node.map(|node| node.value))
}

fn unknown(request: &BootRequest) -> BootAnswer {
    let macs: Vec<_> = request.macs.iter().map(ToString::to_string).collect();
    let more =
        if request.has_more_cards { "; the machine has more network cards, not looked up" } else { "" };
    BootAnswer::Unknown { reason: format!("no node has a port with the address {}{more}", macs.join(" or ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Mac;

    #[test]
    fn reason_for_an_unknown_machine_says_whether_cards_were_left_out() {
        let request = BootRequest::new(Mac::new([0x52, 0x54, 0, 0, 0, 1]));
        let sentence = "no node has a port with the address 52:54:00:00:00:01";
        assert_eq!(unknown(&request), BootAnswer::Unknown { reason: sentence.to_owned() });
        let more = BootRequest { has_more_cards: true, ..request };
        let reason = format!("{sentence}; the machine has more network cards, not looked up");
        assert_eq!(unknown(&more), BootAnswer::Unknown { reason });
    }
}
