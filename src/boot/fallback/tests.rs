//! Tests of the notes on their way into the store.

use jiff::Timestamp;

use super::*;
use crate::model::{Port, StorageInterface, WatchedStage};
use crate::store::{Batch, MemoryStore, Store};

fn card(number: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, number])
}

async fn add_node(inventory: &Inventory, number: u8) {
    let (uuid, now) = (Uuid::from_u128(number.into()), Timestamp::UNIX_EPOCH);
    let node = Node::new(uuid, "manual-management", StorageInterface::External, now);
    inventory.create(&node).await.expect("creates");
    inventory.create(&Port::new(uuid, uuid, card(number), now)).await.expect("creates");
    let boot = WatchedBoot { stage: WatchedStage::HandedOut, ..WatchedBoot::begin("a", "v") };
    let records = inventory.fallbacks();
    let snapshot = records.read(uuid, None).await.expect("reads").expect("a node");
    let state = FallbackState { boot: Some(boot), ..FallbackState::default() };
    assert!(records.replace(&snapshot, &state).await.expect("writes"));
}

/// The damaged record is that of a node's state, or of its port.
#[tokio::test]
async fn a_damaged_record_stops_the_notes_of_its_own_node_only() {
    const NODES: u8 = 12;
    for kind in ["fallback", "port"] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let inventory = Inventory::new(Arc::clone(&store));
        for number in 1..=NODES {
            add_node(&inventory, number).await;
        }
        let damaged = format!("{kind}/{}", Uuid::from_u128(5));
        assert!(store.get(std::slice::from_ref(&damaged)).await.expect("reads")[0].is_some());
        store.write(Batch::default().put(damaged, "no JSON")).await.expect("writes");
        let watch = FallbackWatch::new(inventory.clone());
        for number in 1..=NODES {
            watch.note_dropped_report(card(number));
        }
        watch.shared.notes.push_doubt_of_all("a test");
        let error = watch.flush().await.expect_err("a damaged record");
        assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        for number in (1..=NODES).filter(|number| *number != 5) {
            let snapshot = watch.records.read(Uuid::from_u128(number.into()), None).await.expect("reads");
            let boot = snapshot.and_then(|snapshot| snapshot.state.boot).expect("a boot");
            assert_eq!(boot.doubt.as_deref(), Some("a report of the machine was dropped"), "{number}");
            assert_eq!(
                watch.shared.notes.find_doubt(Uuid::from_u128(number.into()), &[card(number)]),
                None,
                "{number}"
            );
        }
        assert!(watch.shared.notes.find_doubt(Uuid::from_u128(5), &[card(5)]).is_some(), "it is tried again");
    }
}

/// Requesters that nobody knows may send any number of reports, in the name of any card.
#[tokio::test]
async fn dropped_reports_of_strangers_leave_the_boots_of_nodes_alone() {
    let inventory = Inventory::new(Arc::new(MemoryStore::default()));
    for number in [1, 2] {
        add_node(&inventory, number).await;
    }
    let watch = FallbackWatch::new(inventory.clone());
    let changes = watch.records.wait_for_change(0).await.expect("reads");
    for (node, state) in changes.states {
        watch.follow_cards(node, state.as_ref()).await;
    }
    // The second node gets a card that is not known yet.
    let port = Port::new(Uuid::from_u128(9), Uuid::from_u128(2), card(9), Timestamp::UNIX_EPOCH);
    inventory.create(&port).await.expect("creates");
    for number in 0..10_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        watch.note_dropped_report(Mac::new([2, 0, a, b, c, d]));
    }
    watch.note_report(card(1), Some(&BootStep::Hooked), None);
    let doubts = async || {
        let mut doubts = Vec::new();
        for number in [1, 2] {
            let snapshot = watch.records.read(Uuid::from_u128(number), None).await.expect("reads");
            let boot = snapshot.and_then(|snapshot| snapshot.state.boot).expect("a boot");
            doubts.push((boot.stage, boot.doubt));
        }
        doubts
    };
    let unwritten = watch.find_unwritten_doubt(Uuid::from_u128(2), &[card(2)]).await;
    assert!(unwritten.is_some(), "the dropped report may have been that of its new card");
    watch.flush().await.expect("writes");
    let overflow = Some("more reports than volboot can keep".to_owned());
    assert_eq!(doubts().await, [(WatchedStage::Hooked, None), (WatchedStage::HandedOut, overflow)]);
    assert_eq!(watch.shared.notes.find_dropped(), None);
}
