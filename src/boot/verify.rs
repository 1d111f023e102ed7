//! Verifies the requester of a boot script: the neighbour check of `[boot] verify_mac`.
//!
//! The script of a node with volumes holds secrets, and building it attaches the volumes. It is therefore only for a
//! network card of the node. Any card of the node passes: a machine may send the request through another card than
//! its boot card.

use crate::model::{BootRequest, NeighbourCheck, Node};
use crate::store::Inventory;

use super::decision::Stop;

/// The delay before a machine retries after an inconclusive check, in seconds.
const RETRY_SECONDS: u32 = 5;

/// Checks the neighbour entry of the requester against the node's ports. Stops a requester that does not pass.
pub(super) async fn verify_requester(
    inventory: &Inventory,
    node: &Node,
    request: &BootRequest,
) -> Result<(), Stop> {
    let (mac, address) = match &request.neighbour_check {
        NeighbourCheck::Unchecked => return Ok(()),
        NeighbourCheck::Inconclusive(reason) => return Err(Stop::wait(node, reason, RETRY_SECONDS)),
        NeighbourCheck::Entry { mac, address } => (*mac, *address),
    };
    let ports = inventory.find_ports(&[mac]).await?;
    if ports.iter().any(|port| port.node_uuid == node.uuid) {
        return Ok(());
    }
    let sentence = format!(
        "no port has the address {mac}, which the neighbour table shows for {address} ([boot] verify_mac)"
    );
    Err(Stop::refuse(node, sentence))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{BootAnswer, Mac, Port, StorageInterface};
    use crate::store::MemoryStore;

    fn mac(last: u8) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, last])
    }

    async fn node_with(inventory: &Inventory, name: &str, cards: &[u8]) -> Node {
        let created_at = Timestamp::UNIX_EPOCH;
        let node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::External, created_at);
        let node = Node { name: Some(name.into()), ..node };
        inventory.create(&node).await.expect("creates");
        for card in cards {
            let port = Port::new(Uuid::new_v4(), node.uuid, mac(*card), created_at);
            inventory.create(&port).await.expect("creates");
        }
        node
    }

    /// The answer for a requester that does not pass.
    async fn find_rejection(inventory: &Inventory, node: &Node, request: &BootRequest) -> Option<BootAnswer> {
        match verify_requester(inventory, node, request).await {
            Ok(()) => None,
            Err(Stop::Decided(decision)) => Some(decision.answer),
            Err(Stop::StoreError(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn any_card_of_the_node_passes_and_no_other() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1, 2]).await;
        node_with(&inventory, "web-2", &[3]).await;
        let address = "192.0.2.7".parse().expect("an address");
        for (card, passes) in [(1, true), (2, true), (3, false), (4, false)] {
            let request = BootRequest {
                neighbour_check: NeighbourCheck::Entry { mac: mac(card), address },
                ..BootRequest::new(mac(1))
            };
            let reason = format!(
                "node web-1: no port has the address {}, which the neighbour table shows for 192.0.2.7 ([boot] verify_mac)",
                mac(card)
            );
            let expected = (!passes).then_some(BootAnswer::Refused { reason });
            assert_eq!(find_rejection(&inventory, &node, &request).await, expected);
        }
    }

    #[tokio::test]
    async fn unchecked_request_passes_and_inconclusive_check_waits() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1]).await;
        let request = BootRequest::new(mac(1));
        assert_eq!(find_rejection(&inventory, &node, &request).await, None);
        let request = BootRequest {
            neighbour_check: NeighbourCheck::Inconclusive("the neighbour table is unreadable".into()),
            ..request
        };
        let expected =
            BootAnswer::Wait { reason: "node web-1: the neighbour table is unreadable".into(), seconds: 5 };
        assert_eq!(find_rejection(&inventory, &node, &request).await, Some(expected));
    }
}
