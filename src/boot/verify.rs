//! Verifies the requester of a boot script by its place in the network: `[boot] verify_mac` and `routed_networks`.
//!
//! The script of a node with volumes holds secrets, and building it attaches the volumes. It is therefore only for a
//! network card of the node. Any card of the node passes: a machine may send the request through another card than
//! its boot card. Beyond a router, the neighbour table shows no card, and the operator has to name the network.

use jiff::Timestamp;

use crate::config::RequesterPolicy;
use crate::model::{BootRequest, CardSighting, Mac, NeighbourCheck, Node, Port, RequesterFault};
use crate::neighbours::Neighbours;
use crate::store::{Inventory, StoreError};

use super::decision::Stop;

/// The result for a requester that gets its volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verification {
    /// The requester is the node; with the card in the neighbour table, unless the requester is on this host.
    Confirmed(Option<Mac>),
    /// The requester's claim is trusted.
    Unconfirmed,
}

impl Verification {
    /// The card in the neighbour table.
    pub(super) fn card(self) -> Option<Mac> {
        match self {
            Self::Confirmed(card) => card,
            Self::Unconfirmed => None,
        }
    }
}

/// Verifies the requester of the node's volumes. Stops a requester that does not pass.
pub(super) async fn verify_requester(
    inventory: &Inventory,
    neighbours: &Neighbours,
    policy: &RequesterPolicy,
    node: &Node,
    request: &BootRequest,
) -> Result<Verification, Stop> {
    let check = &request.neighbour_check;
    let is_card_of_node = match check.mac() {
        Some(mac) => inventory.find_ports(&[mac]).await?.iter().any(|port| port.node_uuid == node.uuid),
        None => false,
    };
    let sighting = match check {
        NeighbourCheck::Routed { address } if policy.verify_mac && policy.names(*address) => {
            let sighting = find_sighting(inventory, neighbours, node).await?;
            sighting.map_err(|reason| Stop::reject(node, RequesterFault::Inconclusive(reason)))?
        }
        _ => None,
    };
    let verification =
        judge(policy, check, is_card_of_node, sighting).map_err(|fault| Stop::reject(node, fault))?;
    if let Some(mac) = verification.card() {
        neighbours.note_sighting(CardSighting { mac, at: Timestamp::now() });
    }
    Ok(verification)
}

/// Finds the latest sighting of one of the node's cards on an attached network, since the card's port was changed.
async fn find_sighting(
    inventory: &Inventory,
    neighbours: &Neighbours,
    node: &Node,
) -> Result<Result<Option<CardSighting>, String>, StoreError> {
    let ports: Vec<Port> = inventory.list_all_of(node.uuid).await?;
    let mut latest: Option<CardSighting> = None;
    for port in ports.iter().filter(|port| port.pxe_enabled) {
        let sighting = match neighbours.find_sighting(&[port.address]).await {
            Ok(sighting) => sighting,
            Err(reason) => return Ok(Err(reason)),
        };
        let changed_at = port.updated_at.unwrap_or(port.created_at);
        let sighting = sighting.filter(|sighting| sighting.at > changed_at);
        latest = latest.into_iter().chain(sighting).max_by_key(|sighting| sighting.at);
    }
    Ok(Ok(latest))
}

/// Judges a requester by its place. `is_card_of_node`: the card in the neighbour table is one of the node.
pub(super) fn judge(
    policy: &RequesterPolicy,
    check: &NeighbourCheck,
    is_card_of_node: bool,
    sighting: Option<CardSighting>,
) -> Result<Verification, RequesterFault> {
    match check {
        NeighbourCheck::Unchecked => Ok(Verification::Confirmed(None)),
        NeighbourCheck::Entry { mac, .. } if is_card_of_node => Ok(Verification::Confirmed(Some(*mac))),
        NeighbourCheck::Entry { mac, address } if policy.verify_mac => {
            Err(RequesterFault::OtherCard { mac: *mac, address: *address })
        }
        NeighbourCheck::NoEntry { address } if policy.verify_mac => {
            Err(RequesterFault::NoEntry { address: *address })
        }
        NeighbourCheck::Entry { .. } | NeighbourCheck::NoEntry { .. } => Ok(Verification::Unconfirmed),
        NeighbourCheck::Routed { address } => match sighting {
            _ if !policy.names(*address) => Err(RequesterFault::Routed { address: *address }),
            Some(sighting) => Err(RequesterFault::AttachedCard(sighting)),
            None => Ok(Verification::Unconfirmed),
        },
        NeighbourCheck::Redirected { address, .. } => Err(RequesterFault::Redirected { address: *address }),
        NeighbourCheck::Proxied { address } => Err(RequesterFault::Proxied { address: *address }),
        NeighbourCheck::Inconclusive(reason) => Err(RequesterFault::Inconclusive(reason.clone())),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::model::{BootAnswer, StorageInterface};
    use crate::store::MemoryStore;

    fn mac(last: u8) -> Mac {
        Mac::new([0x52, 0x54, 0, 0, 0, last])
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn policy(verify_mac: bool) -> RequesterPolicy {
        let routed_networks = ["10.98.0.0/24", "fd00:98::/64"];
        let routed_networks = routed_networks.map(|network| network.parse().expect("a network")).to_vec();
        RequesterPolicy { verify_mac, routed_networks }
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

    #[test]
    fn every_place_with_every_policy() {
        let local = address("10.99.0.7");
        let (named, unnamed) = (address("10.98.0.1"), address("10.97.0.1"));
        let sighting = CardSighting { mac: mac(1), at: Timestamp::UNIX_EPOCH };
        let entry = NeighbourCheck::Entry { mac: mac(1), address: local };
        let no_entry = NeighbourCheck::NoEntry { address: local };
        let routed = |address| NeighbourCheck::Routed { address };
        let redirected = NeighbourCheck::Redirected { address: named, gateway: None };
        let proxied = NeighbourCheck::Proxied { address: local };
        let unreadable = NeighbourCheck::Inconclusive("dark".into());
        let confirmed = Ok(Verification::Confirmed(Some(mac(1))));
        let unconfirmed = Ok(Verification::Unconfirmed);
        let other = Err(RequesterFault::OtherCard { mac: mac(1), address: local });
        let rejected_as_routed = Err(RequesterFault::Routed { address: unnamed });
        let rejected_as_redirected = Err(RequesterFault::Redirected { address: named });
        let rejected_as_proxied = Err(RequesterFault::Proxied { address: local });
        let rejected_as_unreadable = Err(RequesterFault::Inconclusive("dark".into()));
        // The check, whether the entry is a card of the node, the sighting; the result with verify_mac and without.
        for (check, is_card_of_node, sighting, verified, trusted) in [
            (
                NeighbourCheck::Unchecked,
                false,
                None,
                Ok(Verification::Confirmed(None)),
                Ok(Verification::Confirmed(None)),
            ),
            (entry.clone(), true, None, confirmed.clone(), confirmed),
            (entry, false, None, other, unconfirmed.clone()),
            (no_entry, false, None, Err(RequesterFault::NoEntry { address: local }), unconfirmed.clone()),
            (routed(named), false, None, unconfirmed.clone(), unconfirmed.clone()),
            (routed(address("fd00:98::7")), false, None, unconfirmed.clone(), unconfirmed),
            (
                routed(named),
                false,
                Some(sighting),
                Err(RequesterFault::AttachedCard(sighting)),
                Err(RequesterFault::AttachedCard(sighting)),
            ),
            (routed(unnamed), false, None, rejected_as_routed.clone(), rejected_as_routed.clone()),
            (routed(unnamed), false, Some(sighting), rejected_as_routed.clone(), rejected_as_routed),
            (redirected, false, None, rejected_as_redirected.clone(), rejected_as_redirected),
            (proxied, false, None, rejected_as_proxied.clone(), rejected_as_proxied),
            (unreadable, false, None, rejected_as_unreadable.clone(), rejected_as_unreadable),
        ] {
            assert_eq!(judge(&policy(true), &check, is_card_of_node, sighting), verified, "{check:?}");
            assert_eq!(judge(&policy(false), &check, is_card_of_node, sighting), trusted, "{check:?}, off");
        }
    }

    async fn find_rejection(
        inventory: &Inventory,
        neighbours: &Neighbours,
        node: &Node,
        neighbour_check: NeighbourCheck,
    ) -> Option<BootAnswer> {
        let request = BootRequest { neighbour_check, ..BootRequest::new(mac(1)) };
        match verify_requester(inventory, neighbours, &policy(true), node, &request).await {
            Ok(_) => None,
            Err(Stop::Decided(decision)) => Some(decision.answer),
            Err(Stop::StoreError(error)) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn any_card_of_the_node_passes_and_no_other() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1, 2]).await;
        node_with(&inventory, "web-2", &[3]).await;
        let neighbours = Neighbours::default();
        for (card, passes) in [(1, true), (2, true), (3, false), (4, false)] {
            let check = NeighbourCheck::Entry { mac: mac(card), address: address("192.0.2.7") };
            let reason = format!(
                "node web-1: no port has the address {}, which the neighbour table shows for 192.0.2.7 ([boot] verify_mac)",
                mac(card)
            );
            let expected = (!passes).then_some(BootAnswer::Refused { reason });
            assert_eq!(find_rejection(&inventory, &neighbours, &node, check).await, expected);
        }
    }

    #[tokio::test]
    async fn unclear_place_waits_and_unnamed_network_is_refused() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1]).await;
        let neighbours = Neighbours::default();
        let find = async |check| find_rejection(&inventory, &neighbours, &node, check).await;
        assert_eq!(find(NeighbourCheck::Unchecked).await, None);
        let reason = "node web-1: the neighbour table is unreadable".to_owned();
        assert_eq!(
            find(NeighbourCheck::Inconclusive("the neighbour table is unreadable".into())).await,
            Some(BootAnswer::Wait { reason, seconds: 5 })
        );
        let reason =
            "node web-1: 10.97.0.1 is behind a router, and no network in [boot] routed_networks contains it";
        assert_eq!(
            find(NeighbourCheck::Routed { address: address("10.97.0.1") }).await,
            Some(BootAnswer::Refused { reason: reason.to_owned() })
        );
    }

    #[tokio::test]
    async fn card_seen_on_an_attached_network_gets_nothing_by_way_of_a_router_until_its_port_changes() {
        let inventory = Inventory::new(Arc::new(MemoryStore::default()));
        let node = node_with(&inventory, "web-1", &[1, 2]).await;
        let neighbours = Neighbours::default();
        let find = async |check| find_rejection(&inventory, &neighbours, &node, check).await;
        let routed = NeighbourCheck::Routed { address: address("10.98.0.1") };
        assert_eq!(find(routed.clone()).await, None);
        // The request names card 1, but the table showed card 2 of the node.
        let entry = NeighbourCheck::Entry { mac: mac(2), address: address("192.0.2.7") };
        assert_eq!(find(entry).await, None);
        let Some(BootAnswer::Refused { reason }) = find(routed.clone()).await else { panic!("not refused") };
        let start = format!("node web-1: the neighbour table showed card {} on an attached network", mac(2));
        assert!(reason.starts_with(&start), "{reason}");
        let ports: Vec<Port> = inventory.list_all_of(node.uuid).await.expect("lists");
        for port in ports {
            let now = Timestamp::now();
            let change =
                |port: &Port, _: Option<&Node>| Ok::<_, ()>(Port { updated_at: Some(now), ..port.clone() });
            inventory.update(port.uuid, change).await.expect("updates");
        }
        assert_eq!(find(routed).await, None);
    }
}
