//! Is it really that machine? What the network shows of who asks, against the node that it says it is.
//!
//! A script for a node that boots from volumes holds secrets, and asking for it attaches them: it is for a card of
//! that node's alone. Any of its cards will do, since a machine may ask through another than it booted through.

use crate::model::{Answer, Asker, Node, Seen};
use crate::store::{Inventory, StoreError};

use super::name;

/// How long a machine waits whose card was not seen, in seconds.
const PAUSE: u32 = 5;

/// What somebody is told who may not be the node they say they are.
pub(super) async fn doubt(
    inventory: &Inventory,
    node: &Node,
    asker: &Asker,
) -> Result<Option<Answer>, StoreError> {
    let (mac, at) = match &asker.seen {
        Seen::Nothing => return Ok(None),
        Seen::Unclear(reason) => {
            let reason = format!("{}: {reason}", name(node));
            return Ok(Some(Answer::Wait { reason, seconds: PAUSE }));
        }
        Seen::Card { mac, at } => (*mac, *at),
    };
    let ports = inventory.ports(&[mac]).await?;
    if ports.iter().any(|port| port.node_uuid == node.uuid) {
        return Ok(None);
    }
    let reason = format!(
        "{} has no port with the address {mac}, which the network shows for {at} ([boot] verify_mac)",
        name(node)
    );
    Ok(Some(Answer::Refuse { reason }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::model::{Mac, Port, StorageInterface};
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

    #[tokio::test]
    async fn any_card_of_the_node_will_do_and_no_other() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1, 2]).await;
        node_with(&inventory, "web-2", &[3]).await;
        let at = "192.0.2.7".parse().expect("an address");
        for (card, welcome) in [(1, true), (2, true), (3, false), (4, false)] {
            let asker = Asker { seen: Seen::Card { mac: mac(card), at }, ..Asker::new(mac(1)) };
            let reason = format!(
                "node web-1 has no port with the address {}, which the network shows for 192.0.2.7 ([boot] verify_mac)",
                mac(card)
            );
            let expected = (!welcome).then_some(Answer::Refuse { reason });
            assert_eq!(doubt(&inventory, &node, &asker).await.expect("is read"), expected);
        }
    }

    #[tokio::test]
    async fn where_nothing_can_be_seen_it_is_believed_and_where_nothing_was_seen_it_waits() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1]).await;
        let asker = Asker::new(mac(1));
        assert_eq!(doubt(&inventory, &node, &asker).await.expect("is read"), None);
        let asker = Asker { seen: Seen::Unclear("the network is dark".into()), ..asker };
        let expected = Answer::Wait { reason: "node web-1: the network is dark".into(), seconds: 5 };
        assert_eq!(doubt(&inventory, &node, &asker).await.expect("is read"), Some(expected));
    }
}
