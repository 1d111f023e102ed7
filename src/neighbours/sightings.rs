//! [`Sightings`]: the network cards of nodes that the neighbour table showed on an attached network.
//!
//! A requester beyond a router that claims such a card is most likely another machine. The past counts too, because the
//! entry of a machine that is switched off disappears.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use rtnetlink::packet_route::neighbour::{NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::mac_of_entry;
use super::netlink::{Netlink, NetlinkError};
use crate::model::{CardSighting, Mac};

/// The shortest time between two dumps of the table: a busy host has ten thousand entries.
const DUMP_INTERVAL: Duration = Duration::from_secs(1);
/// Cards in memory; 3 MB. Only cards of nodes are noted.
const CAPACITY: usize = 1 << 16;
/// Clock ticks per second in the ages of entries (`USER_HZ`, the same on all architectures that volboot supports).
const TICKS_PER_SECOND: i64 = 100;

/// The cards that the table showed.
#[derive(Debug, Default)]
pub(super) struct Sightings {
    noted: Mutex<HashMap<Mac, Timestamp>>,
    /// The last dump. The lock is held during a dump, so concurrent requests share it.
    dump: tokio::sync::Mutex<Option<(Instant, HashMap<Mac, Timestamp>)>>,
}

impl Sightings {
    /// Notes a sighting of a node's card.
    pub(super) fn note(&self, CardSighting { mac, at }: CardSighting) {
        // A sighting from a time with a wrong clock must not outlast all changes of the port.
        let at = at.min(Timestamp::now());
        let mut noted = self.noted.lock();
        if noted.len() >= CAPACITY && !noted.contains_key(&mac) {
            let oldest = noted.iter().min_by_key(|(_, at)| **at).map(|(mac, _)| *mac);
            oldest.map(|oldest| noted.remove(&oldest));
        }
        let known = noted.entry(mac).or_insert(at);
        *known = at.max(*known);
    }

    /// The latest sighting of these cards, by the table and by the notes.
    pub(super) async fn find(
        &self,
        cards: &[Mac],
        netlink: &Netlink,
    ) -> Result<Option<CardSighting>, NetlinkError> {
        let mut dump = self.dump.lock().await;
        let is_current = dump.as_ref().is_some_and(|(at, _)| at.elapsed() < DUMP_INTERVAL);
        if !is_current {
            *dump = Some((Instant::now(), dump_table(netlink).await?));
        }
        let shown = dump.as_ref().map(|(_, shown)| shown);
        for mac in cards {
            if let Some(at) = shown.and_then(|shown| shown.get(mac)) {
                self.note(CardSighting { mac: *mac, at: *at });
            }
        }
        drop(dump);
        let noted = self.noted.lock();
        let sightings = cards.iter().filter_map(|mac| Some(CardSighting { mac: *mac, at: *noted.get(mac)? }));
        Ok(sightings.max_by_key(|sighting| sighting.at))
    }
}

/// Reads the MAC address of each entry, with the time when the entry was last valid.
async fn dump_table(netlink: &Netlink) -> Result<HashMap<Mac, Timestamp>, NetlinkError> {
    let now = Timestamp::now();
    let mut shown = HashMap::new();
    let mut request = NeighbourMessage::default();
    request.header.family = AddressFamily::Unspec;
    netlink
        .dump(RouteNetlinkMessage::GetNeighbour(request), |object| {
            if let RouteNetlinkMessage::NewNeighbour(entry) = object
                && let Some(mac) = mac_of_entry(&entry)
            {
                let at = now.saturating_sub(age_of_entry(&entry)).unwrap_or(now);
                let known = shown.entry(mac).or_insert(at);
                *known = at.max(*known);
            }
        })
        .await?;
    Ok(shown)
}

/// The time since the entry was valid.
fn age_of_entry(entry: &NeighbourMessage) -> SignedDuration {
    let updated = entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::CacheInfo(info) => Some(info.updated),
        _ => None,
    });
    age(entry.header.state, updated.unwrap_or_default())
}

/// The time since an entry of this state was valid, by the ticks since its state changed. Entries of silent hosts stay in
/// the table for hours (`NUD_STALE`).
fn age(state: NeighbourState, updated: u32) -> SignedDuration {
    if state == NeighbourState::Stale {
        SignedDuration::from_secs(i64::from(updated) / TICKS_PER_SECOND)
    } else {
        SignedDuration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(number: u32, second: i64) -> CardSighting {
        let [a, b, c, d] = number.to_be_bytes();
        let at = Timestamp::from_second(second).expect("a time");
        CardSighting { mac: Mac::new([0x52, 0x54, a, b, c, d]), at }
    }

    #[tokio::test]
    async fn latest_sighting_of_the_cards_wins() {
        let (sightings, netlink) = (Sightings::default(), Netlink::default());
        let [first, second] = [sighting(1, 10), sighting(2, 20)];
        for sighting in [first, second, CardSighting { at: Timestamp::UNIX_EPOCH, ..first }] {
            sightings.note(sighting);
        }
        let find =
            async |cards: &[Mac]| sightings.find(cards, &netlink).await.expect("the table is readable");
        assert_eq!(find(&[first.mac]).await, Some(first));
        assert_eq!(find(&[first.mac, second.mac]).await, Some(second));
        assert_eq!(find(&[sighting(3, 0).mac]).await, None);
        let future = CardSighting { at: Timestamp::now() + SignedDuration::from_hours(24), ..first };
        sightings.note(future);
        assert!(find(&[first.mac]).await.is_some_and(|sighting| sighting.at <= Timestamp::now()));
    }

    #[test]
    fn number_of_cards_is_bounded() {
        let sightings = Sightings::default();
        for number in 0..CAPACITY as u32 + 10 {
            sightings.note(sighting(number, i64::from(number)));
        }
        let noted = sightings.noted.lock();
        assert_eq!(noted.len(), CAPACITY);
        assert!(!noted.contains_key(&sighting(9, 0).mac) && noted.contains_key(&sighting(10, 0).mac));
    }

    #[test]
    fn stale_entry_is_as_old_as_its_state() {
        assert_eq!(age(NeighbourState::Stale, 36_000), SignedDuration::from_mins(6));
        for state in [NeighbourState::Reachable, NeighbourState::Permanent, NeighbourState::Delay] {
            assert_eq!(age(state, 36_000), SignedDuration::ZERO, "{state}");
        }
    }
}
