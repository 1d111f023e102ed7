//! Which node is this? By the MAC addresses of the machine's cards, and by nothing else: UUIDs are shared by whole
//! batches of boards in the field.

use crate::model::{Answer, Asker, Mac, Node, Port};
use crate::store::{Inventory, StoreError, Versioned};

use super::name;

/// Who a machine is.
#[derive(Debug)]
pub(super) enum Identity {
    /// This one.
    Node(Box<Node>),
    /// None that could be answered for; this is what it is told.
    Nobody(Answer),
}

/// A machine is the node that has a port with one of its addresses, if the node may boot through that port.
pub(super) async fn identify(inventory: &Inventory, asker: &Asker) -> Result<Identity, StoreError> {
    let ports = inventory.ports(&asker.macs).await?;
    let mut found: Vec<(Node, Mac)> = Vec::new();
    for port in ports.iter().filter(|port| port.pxe_enabled) {
        if found.iter().all(|(node, _)| node.uuid != port.node_uuid)
            && let Some(node) = node_of(inventory, port).await?
        {
            found.push((node, port.address));
        }
    }
    Ok(match (found.len(), ports.first()) {
        (1, _) => Identity::Node(Box::new(found.remove(0).0)),
        (0, None) => Identity::Nobody(unknown(asker)),
        (0, Some(port)) => Identity::Nobody(match node_of(inventory, port).await? {
            Some(node) => Answer::Refuse {
                reason: format!(
                    "{} may not boot through port {}: pxe_enabled is false",
                    name(&node),
                    port.address
                ),
            },
            None => unknown(asker),
        }),
        _ => {
            let nodes: Vec<_> = found.iter().map(|(node, mac)| format!("{} ({mac})", name(node))).collect();
            Identity::Nobody(Answer::Refuse {
                reason: format!("this machine's network cards belong to several nodes: {}", nodes.join(", ")),
            })
        }
    })
}

async fn node_of(inventory: &Inventory, port: &Port) -> Result<Option<Node>, StoreError> {
    let node: Option<Versioned<Node>> = inventory.get(port.node_uuid).await?;
    Ok(node.map(|node| node.value))
}

fn unknown(asker: &Asker) -> Answer {
    let macs: Vec<_> = asker.macs.iter().map(ToString::to_string).collect();
    Answer::Unknown { reason: format!("no node has a port with the address {}", macs.join(" or ")) }
}
