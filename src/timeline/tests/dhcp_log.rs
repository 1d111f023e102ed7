//! Tests of the log of DHCP requests: restarts, evictions, a full log, and compaction.

use super::dhcp::{boot_server, discover, request, sequence};
use super::*;
use crate::timeline::compaction::compact;

const OTHER: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
const THIRD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 3]);

fn discover_of(mac: Mac, seconds: i64) -> Event {
    Event::new(at(seconds), Some(mac), None, discover())
}

fn commit(history: &History, index: &mut MachineIndex) {
    index.prepare_log_commit();
    index.in_commit = std::mem::take(&mut index.uncommitted);
    history.write(index).expect("writes");
    index.in_commit = PendingWrites::default();
}

/// The index as the next start of the process has it.
fn reload(history: &History) -> MachineIndex {
    let mut index = MachineIndex::new(Bounds::default());
    history.load(&mut index).expect("loads");
    index
}

/// Number of a machine's requests in the log that were not written since.
fn logged(index: &MachineIndex, mac: Mac) -> usize {
    let (record_id, _) = index.get(MachineId::Mac(mac)).expect("a machine");
    index.dhcp_log().of_record(record_id).count()
}

#[test]
fn requests_survive_a_restart_and_are_written_with_the_next_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let requests = events(sequence([(0, discover()), (4, request()), (5, boot_server())]));
    let id = MachineId::Mac(CARD);
    let record_all = |timeline: &Timeline, events: &[Event]| {
        for event in events {
            timeline.record(event.clone());
        }
        timeline.close_blocking();
        timeline.machine(id).expect("a machine")
    };
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    let before = record_all(&timeline, &requests);
    drop(timeline);

    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert_eq!(logged(&timeline.shared.index.read(), CARD), 3);
    assert_eq!(timeline.machine(id).expect("a machine"), before);
    assert_eq!(timeline.events_blocking(id), requests);
    let loaded = Event::new(at(9), Some(CARD), address(), transfer("snponly.efi", TransferOutcome::Complete));
    let before = record_all(&timeline, std::slice::from_ref(&loaded));
    drop(timeline);

    // The entries in the log are obsolete.
    let timeline = Timeline::open_blocking(Some(&path), Metrics::new());
    assert_eq!(logged(&timeline.shared.index.read(), CARD), 0);
    assert_eq!(timeline.machine(id).expect("a machine"), before);
    let all: Vec<_> = requests.into_iter().chain([loaded]).collect();
    assert_eq!(timeline.events_blocking(id), all);
}

#[test]
fn requests_alone_write_no_record() {
    let mut index = MachineIndex::new(Bounds::default());
    for event in events(sequence([(0, discover()), (4, request())])) {
        index.insert(&event);
    }
    assert!(index.uncommitted.records.is_empty() && index.uncommitted.events.is_empty());
    // The same request again within a second is merged.
    index.insert(&events(sequence([(4, request())])).remove(0));
    assert_eq!(index.uncommitted.events.len(), 2);
    assert_eq!(index.pending_events().map(|(_, event)| event.count).max(), Some(2));
    assert_eq!((index.uncommitted.records.len(), logged(&index, CARD)), (1, 0));
}

#[test]
fn nodes_and_their_names_are_in_the_log() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = History::open(&directory.path().join("history.redb")).expect("opens");
    let mut index = MachineIndex::new(Bounds::default());
    for (number, mac) in [CARD, OTHER, THIRD].into_iter().enumerate() {
        let mut event = discover_of(mac, 0);
        if let EventKind::Dhcp(dhcp) = &mut event.kind
            && mac != THIRD
        {
            (dhcp.node, dhcp.name) = (Some(Uuid::from_u128(number as u128)), Some(format!("web-{number}")));
        }
        index.insert(&event);
    }
    commit(&history, &mut index);
    let index = reload(&history);
    let names = [CARD, OTHER, THIRD].map(|mac| {
        let (_, record) = index.get(MachineId::Mac(mac)).expect("a machine");
        (record.node.map(|node| node.as_u128()), record.name.clone())
    });
    let expected = [(Some(0), Some("web-0".into())), (Some(1), Some("web-1".into())), (None, None)];
    assert_eq!(names, expected);
}

#[test]
fn evicted_machines_stay_away() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = History::open(&directory.path().join("history.redb")).expect("opens");
    let mut index = MachineIndex::new(Bounds { machines: 2, ..Bounds::default() });
    index.insert(&discover_of(CARD, 0));
    commit(&history, &mut index);
    index.insert(&discover_of(OTHER, 1));
    index.insert(&discover_of(THIRD, 2));
    assert!(index.get(MachineId::Mac(CARD)).is_none());
    commit(&history, &mut index);
    let mut reloaded = reload(&history);
    assert_eq!(reloaded.len(), 2);
    assert!(reloaded.get(MachineId::Mac(CARD)).is_none());
    // The evicted machine has a new record when it comes back.
    reloaded.insert(&discover_of(CARD, 3));
    commit(&history, &mut reloaded);
    assert_eq!(reload(&history).len(), 3);
}

#[test]
fn a_full_log_is_cleared_and_its_records_are_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let history = History::open(&directory.path().join("history.redb")).expect("opens");
    let mut index = MachineIndex::new(Bounds { log_bytes: 600, ..Bounds::default() });
    index.insert(&discover_of(CARD, 0));
    index.insert(&discover_of(OTHER, 1));
    commit(&history, &mut index);
    assert_eq!((logged(&index, CARD), logged(&reload(&history), OTHER)), (1, 1));
    index.insert(&discover_of(THIRD, 2));
    commit(&history, &mut index);
    let mut index = reload(&history);
    assert_eq!((index.len(), logged(&index, CARD), logged(&index, THIRD)), (3, 0, 0));
    let (record_id, _) = index.get(MachineId::Mac(OTHER)).expect("a machine");
    assert_eq!(history.events(record_id).expect("reads"), [(0, discover_of(OTHER, 1))]);
    index.insert(&discover_of(CARD, 3));
    commit(&history, &mut index);
    assert_eq!(logged(&reload(&history), CARD), 1);
}

#[test]
fn compaction_keeps_the_requests() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.redb");
    let history = History::open(&path).expect("opens");
    let mut index = MachineIndex::new(Bounds { small_file: 0, ..Bounds::default() });
    index.insert(&discover_of(CARD, 0));
    commit(&history, &mut index);
    let (history, index) = (RwLock::new(Some(history)), RwLock::new(index));
    compact(&path, &history, &index).expect("compacts").expect("is too large");
    let history = history.into_inner().expect("a history");
    let index = reload(&history);
    let (record_id, _) = index.get(MachineId::Mac(CARD)).expect("a machine");
    assert_eq!(history.events(record_id).expect("reads"), [(0, discover_of(CARD, 0))]);
}
