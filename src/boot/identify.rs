//! Identifies the node of a boot request by the machine's MAC addresses.
//!
//! The SMBIOS UUID is not used: in the field, whole batches of boards share one UUID.

use crate::model::{BootAnswer, BootRequest, Mac, Node, Port};
use crate::store::{Inventory, StoreError, Versioned};

use super::node_reason;

/// The result of the identification.
#[derive(Debug)]
pub(super) enum NodeMatch {
    /// Exactly one node matches.
    Unique(Box<Node>),
    /// No node, or several; with the answer for the machine.
    None(BootAnswer),
}

/// Finds the node that has a port with one of the machine's MAC addresses. The port must have `pxe_enabled`.
pub(super) async fn identify(inventory: &Inventory, request: &BootRequest) -> Result<NodeMatch, StoreError> {
    let ports = inventory.find_ports(&request.macs).await?;
    let mut matches: Vec<(Node, Mac)> = Vec::new();
    for port in ports.iter().filter(|port| port.pxe_enabled) {
        if matches.iter().all(|(node, _)| node.uuid != port.node_uuid)
            && let Some(node) = node_of(inventory, port).await?
        {
            matches.push((node, port.address));
        }
    }
    Ok(match (matches.len(), ports.first()) {
        (1, _) => NodeMatch::Unique(Box::new(matches.remove(0).0)),
        (0, None) => NodeMatch::None(unknown(request)),
        (0, Some(port)) => NodeMatch::None(match node_of(inventory, port).await? {
            Some(node) => {
                let sentence =
                    format!("port {} is not enabled for booting (pxe_enabled is false)", port.address);
                BootAnswer::Refused { reason: node_reason(&node, sentence) }
            }
            None => unknown(request),
        }),
        _ => {
            let nodes: Vec<_> =
                matches.iter().map(|(node, mac)| format!("node {} ({mac})", node.label())).collect();
            let nodes = nodes.join(", ");
            NodeMatch::None(BootAnswer::Refused {
                reason: format!("this machine's network cards belong to several nodes: {nodes}"),
            })
        }
    })
}

async fn node_of(inventory: &Inventory, port: &Port) -> Result<Option<Node>, StoreError> {
    let node: Option<Versioned<Node>> = inventory.get(port.node_uuid).await?;
    Ok(node.map(|node| node.value))
}

fn unknown(request: &BootRequest) -> BootAnswer {
    let macs: Vec<_> = request.macs.iter().map(ToString::to_string).collect();
    BootAnswer::Unknown { reason: format!("no node has a port with the address {}", macs.join(" or ")) }
}
