//! [`ReloadMemory`]: finds an iPXE that loaded a complete iPXE, and comes back with the same request.
//!
//! Such a machine loads the binary for ever, as the binary lacks the same feature. The first load is served. The next
//! request within [`RELOAD_WINDOW`] gets the reason instead, unless the machine did something else in between.
//!
//! A request shows an IP address only, and several machines may share one: behind a router that translates addresses, or
//! as a lease changes hands. The request of one is no return of another. So a shared address gets the binary every time.
//! Two MAC addresses show that it is shared, or two loads at the same time: iPXE loads one file at a time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use crate::model::{IpxeFeature, Mac};
use crate::telemetry::{Event, EventKind, TftpTransfer};

/// Time from the end of a load to the next request. An iPXE that was loaded sends its own DHCP request after a few
/// seconds, and repeats it for up to a minute.
const RELOAD_WINDOW: SignedDuration = SignedDuration::from_mins(2);
/// Time for which a MAC address is remembered for an IP address, and for which a shared one counts as shared.
const SHARING_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// Maximum number of IP addresses. A new one replaces the one that was idle longest.
const CAPACITY: usize = 4096;

/// What each IP address has loaded last, and whether machines share it.
#[derive(Debug, Default)]
pub struct ReloadMemory(Mutex<HashMap<IpAddr, AddressUse>>);

#[derive(Debug, Default)]
struct AddressUse {
    updated_at: Timestamp,
    mac: Option<(Mac, Timestamp)>,
    shared_at: Option<Timestamp>,
    load: Option<WholeLoad>,
}

/// A binary for an incomplete iPXE, read as a whole.
#[derive(Debug)]
struct WholeLoad {
    file: String,
    ended_at: Timestamp,
    /// The request that gets the reason instead of the file.
    refused: Option<SocketAddr>,
}

impl ReloadMemory {
    /// Whether the machine has just loaded this file, and must get the reason now. `file` is a canonical name.
    pub fn refuse(&self, client: SocketAddr, file: &str, now: Timestamp) -> bool {
        let mut uses = self.0.lock();
        let Some(address_use) = uses.get_mut(&client.ip().to_canonical()) else { return false };
        if address_use.is_shared(now) {
            return false;
        }
        let recent = |load: &&mut WholeLoad| {
            load.file.eq_ignore_ascii_case(file) && now.duration_since(load.ended_at) < RELOAD_WINDOW
        };
        let Some(load) = address_use.load.as_mut().filter(recent) else { return false };
        load.refused = Some(client);
        true
    }

    /// Whether the request of this client for the file got the reason.
    pub fn is_refused(&self, client: SocketAddr, file: &str) -> bool {
        let uses = self.0.lock();
        let load = uses.get(&client.ip().to_canonical()).and_then(|address_use| address_use.load.as_ref());
        load.is_some_and(|load| load.refused == Some(client) && load.file.eq_ignore_ascii_case(file))
    }

    /// Learns from an event of another instance, unless the address has done something else since.
    pub(super) fn observe_joined(&self, event: &Event) {
        let address = event.address.map(|address| address.to_canonical());
        let is_late = address.is_some_and(|address| {
            self.0.lock().get(&address).is_some_and(|address_use| event.at < address_use.updated_at)
        });
        if !is_late {
            self.observe(event);
        }
    }

    /// Learns from an event.
    pub(super) fn observe(&self, event: &Event) {
        let Some(address) = event.address.map(|address| address.to_canonical()) else { return };
        let load = match &event.kind {
            EventKind::TftpTransfer(transfer) if transfer.outcome.is_whole_file() => Some(transfer),
            EventKind::Dhcp(_) | EventKind::TftpTransfer(_) | EventKind::HttpFetch { size: None, .. } => {
                return;
            }
            EventKind::HttpFetch { size: Some(_), .. }
            | EventKind::SessionStarted
            | EventKind::BootRequest(_)
            | EventKind::BootReport { .. }
            | EventKind::NoNetworkBoot { .. }
            | EventKind::LoopDelay { .. } => None,
        };
        let load = load
            .filter(|transfer| transfer.refusal.is_none() && IpxeFeature::lacking(&transfer.file).is_some());
        // A datagram may have a forged address; a whole file and a boot request are proof of it.
        let is_new_address = load.is_some() || matches!(event.kind, EventKind::BootRequest(_));
        let mut uses = self.0.lock();
        if !uses.contains_key(&address) {
            if !is_new_address {
                return;
            }
            make_room(&mut uses);
        }
        uses.entry(address).or_default().observe(event, load);
    }
}

impl AddressUse {
    fn observe(&mut self, event: &Event, load: Option<&TftpTransfer>) {
        let now = event.at;
        let is_other_mac = |(mac, at): (Mac, Timestamp)| {
            event.mac.is_some_and(|other| other != mac) && now.duration_since(at) < SHARING_WINDOW
        };
        let overlaps = |transfer: &TftpTransfer| {
            let started_at = now - SignedDuration::from_millis(transfer.duration_ms.cast_signed());
            self.load.as_ref().is_some_and(|earlier| started_at < earlier.ended_at)
        };
        if self.mac.is_some_and(is_other_mac) || load.is_some_and(overlaps) {
            self.shared_at = Some(now);
        }
        self.mac = event.mac.map(|mac| (mac, now)).or(self.mac);
        self.load =
            load.map(|transfer| WholeLoad { file: transfer.file.clone(), ended_at: now, refused: None });
        self.updated_at = now;
    }

    fn is_shared(&self, now: Timestamp) -> bool {
        self.shared_at.is_some_and(|at| now.duration_since(at) < SHARING_WINDOW)
    }
}

fn make_room(uses: &mut HashMap<IpAddr, AddressUse>) {
    if uses.len() < CAPACITY {
        return;
    }
    let oldest = uses.iter().min_by_key(|(_, address_use)| address_use.updated_at);
    if let Some(address) = oldest.map(|(address, _)| *address) {
        uses.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TransferOutcome;

    const FILE: &str = "without-http/undionly.kpxe";
    const CARDS: [Mac; 2] = [Mac::new([0x52, 0x54, 0, 0, 0, 1]), Mac::new([0x52, 0x54, 0, 0, 0, 2])];

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
    }

    fn client() -> SocketAddr {
        "192.0.2.7:1024".parse().expect("an address")
    }

    fn transfer(file: &str, outcome: TransferOutcome, refusal: Option<&str>) -> EventKind {
        EventKind::TftpTransfer(TftpTransfer {
            file: file.into(),
            outcome,
            size: 100,
            block_size: 1468,
            window_size: 4,
            blocks: 1,
            retransmissions: 0,
            duration_ms: 1000,
            client_message: None,
            refusal: refusal.map(str::to_owned),
        })
    }

    fn load() -> EventKind {
        transfer(FILE, TransferOutcome::Complete, None)
    }

    fn memory(events: impl IntoIterator<Item = (i64, Option<Mac>, EventKind)>) -> ReloadMemory {
        let memory = ReloadMemory::default();
        for (seconds, mac, kind) in events {
            memory.observe(&Event::new(at(seconds), mac, Some(client().ip()), kind));
        }
        memory
    }

    #[test]
    fn a_second_request_gets_the_reason_unless_the_machine_did_something_else() {
        for (events, now, is_refused) in [
            (vec![], 0, false),
            (vec![load()], 20, true),
            (vec![load(), load()], 25, true),
            (vec![load()], 121, false),
            (vec![transfer(FILE, TransferOutcome::TimedOut, None)], 5, false),
            (vec![transfer("undionly.kpxe", TransferOutcome::Complete, None)], 5, false),
            (vec![load(), transfer("autoexec.ipxe", TransferOutcome::NotFound, None)], 20, true),
            // The loaded iPXE is complete, and continues.
            (vec![load(), EventKind::SessionStarted], 20, false),
            (vec![load(), transfer("boot.ipxe", TransferOutcome::Complete, None)], 20, false),
            // It has read the reason: the next start of the machine is a new one.
            (vec![load(), transfer(FILE, TransferOutcome::Complete, Some("no HTTP"))], 20, false),
            (vec![load(), transfer(FILE, TransferOutcome::Aborted, Some("no HTTP"))], 20, true),
        ] {
            let events = (0..).step_by(5).zip(events).map(|(seconds, kind)| (seconds, None, kind));
            let events: Vec<_> = events.collect();
            let memory = memory(events.clone());
            assert_eq!(memory.refuse(client(), FILE, at(now)), is_refused, "{events:?}");
            assert_eq!(memory.is_refused(client(), FILE), is_refused, "{events:?}");
        }
    }

    #[test]
    fn late_event_of_another_instance_changes_nothing() {
        let memory = memory([(0, None, load())]);
        let event = |seconds| Event::new(at(seconds), None, Some(client().ip()), EventKind::SessionStarted);
        memory.observe_joined(&event(-5));
        assert!(memory.refuse(client(), FILE, at(20)));
        memory.observe_joined(&event(5));
        assert!(!memory.refuse(client(), FILE, at(20)), "the loaded iPXE went on at another instance");
    }

    #[test]
    fn only_the_refused_request_counts_as_refused() {
        let memory = memory([(0, None, load())]);
        assert!(!memory.is_refused(client(), FILE));
        assert!(memory.refuse(client(), FILE, at(9)));
        let other_port = SocketAddr::new(client().ip(), 1025);
        assert!(memory.is_refused(client(), FILE) && !memory.is_refused(other_port, FILE));
        assert!(!memory.refuse(client(), "without-iscsi/undionly.kpxe", at(9)));
    }

    #[test]
    fn machines_that_share_an_address_get_the_binary() {
        let [one, other] = CARDS.map(Some);
        let request = EventKind::SessionStarted;
        assert!(memory([(0, one, load()), (9, one, load())]).refuse(client(), FILE, at(20)));
        for events in [
            vec![(0, one, load()), (9, other, load())],
            vec![(0, one, load()), (5, other, request), (9, None, load())],
        ] {
            let memory = memory(events.clone());
            assert!(!memory.refuse(client(), FILE, at(20)), "{events:?}");
            memory.observe(&Event::new(at(4000), None, Some(client().ip()), load()));
            assert!(memory.refuse(client(), FILE, at(4009)), "a lease changed hands, an hour ago");
        }
    }

    #[test]
    fn two_loads_at_the_same_time_are_of_two_machines() {
        let memory = memory([(0, None, load()), (0, None, load())]);
        assert!(!memory.refuse(client(), FILE, at(9)));
    }

    #[test]
    fn forged_addresses_take_no_room_and_the_oldest_address_leaves() {
        let memory = ReloadMemory::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..=CAPACITY as u32 {
            let kind = transfer(FILE, TransferOutcome::TimedOut, None);
            memory.observe(&Event::new(at(0), None, Some(address(number)), kind));
            assert!(memory.0.lock().is_empty());
        }
        for number in 0..=CAPACITY as u32 {
            memory.observe(&Event::new(at(i64::from(number) / 100), None, Some(address(number)), load()));
        }
        assert_eq!(memory.0.lock().len(), CAPACITY);
        assert!(memory.refuse((address(CAPACITY as u32), 9).into(), FILE, at(50)));
    }
}
