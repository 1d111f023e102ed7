//! The claim of a boot window, and what extends it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::attach::{Attach, Policy};
use crate::model::{
    Fallback, FallbackSource, Mac, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::{Attachments, InterceptedStore, Interceptor, MemoryStore, Record, Store, StoreFuture};
use crate::timeline::LoopDetector;

const POLICY: BootWindowPolicy = BootWindowPolicy { duration: Duration::from_secs(900), reboot: false };

async fn inventory_with_node() -> (Inventory, Uuid) {
    let inventory = Inventory::new(Arc::new(MemoryStore::default()));
    let node = Node::new(Uuid::nil(), "redfish", StorageInterface::External, Timestamp::UNIX_EPOCH);
    inventory.create(&node).await.expect("creates");
    (inventory, node.uuid)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_sessions_at_once_one_claims_the_window() {
    let (inventory, node) = inventory_with_node().await;
    let now = Timestamp::now();
    inventory.open_boot_window(node, &BootWindow::open(now, true)).await.expect("opens");
    let claims = (0..16).map(|number| {
        let inventory = inventory.clone();
        tokio::spawn(async move {
            let journey = format!("a{number}");
            claim_window(&inventory, POLICY, node, Some(&journey), now).await.expect("the store works")
        })
    });
    let results = futures_util::future::join_all(claims).await;
    let granted = results.into_iter().filter(|result| *result.as_ref().expect("no panic") == Ok(()));
    assert_eq!(granted.count(), 1);
    let window = inventory.read_boot_window(node).await.expect("reads").expect("exists");
    assert!(window.journey.is_some() && !window.awaits_request);
}

#[tokio::test]
async fn the_window_goes_with_its_node() {
    let (inventory, node) = inventory_with_node().await;
    let window = BootWindow::open(Timestamp::now(), true);
    inventory.open_boot_window(node, &window).await.expect("opens");
    assert_eq!(inventory.list_awaited_machines().await.expect("lists"), [node]);
    inventory.delete(node, |_: &Node, _| Ok::<_, ()>(())).await.expect("deletes");
    assert_eq!(inventory.read_boot_window(node).await.expect("reads"), None);
    inventory.open_boot_window(node, &window).await.expect("is no error");
    assert_eq!(inventory.read_boot_window(node).await.expect("reads"), None);
}

/// Where the records of a fallback change during a boot request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RecordFault {
    Never,
    /// Another boot volume, before the choice between the node's volumes and its fallback.
    BeforeChoice,
    /// Another boot session, before the script is handed out.
    BeforeHandOut,
    /// The records cannot be read at the choice.
    Failure,
}

impl Interceptor for RecordFault {
    fn get<'a>(&'a self, store: &'a MemoryStore, keys: &'a [String]) -> StoreFuture<'a, Vec<Option<Record>>> {
        Box::pin(async move {
            let mut records = store.get(keys).await?;
            let state = keys.iter().position(|key| key.starts_with("fallback/"));
            let target = keys.iter().position(|key| key.starts_with("target/"));
            match (self, state, target) {
                (Self::BeforeChoice, Some(_), Some(target)) => records[target] = None,
                (Self::BeforeHandOut, Some(state), None) => records[state] = None,
                (Self::Failure, Some(_), Some(_)) => return Err(StoreError::Unavailable("no answer".into())),
                _ => {}
            }
            Ok(records)
        })
    }
}

/// A boot from its own volume, of a node with a BMC and a fallback.
async fn boot_with(fault: RecordFault) -> (Boot, Inventory, Uuid, BootRequest) {
    let store: Arc<dyn Store> = Arc::new(InterceptedStore::new(Arc::default(), fault));
    let inventory = Inventory::new(Arc::clone(&store));
    let attach = Attach::new(Attachments::new(store), None, Policy::default());
    let boot =
        Boot::new(inventory.clone(), attach, Arc::<LoopDetector>::default(), [StorageInterface::External])
            .with_window(Some(POLICY));
    let (now, uuid) = (Timestamp::now(), Uuid::from_u128(1));
    let card = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
    let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
    let node = Node {
        properties: properties(json!({"capabilities": "iscsi_boot:True"})),
        ..Node::new(uuid, "redfish", StorageInterface::External, now)
    };
    let path = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:spare".parse().expect("a path");
    let fallback = Fallback::new(FallbackSource::Target { name: None, paths: vec![path] });
    inventory.create(&Fallback::write(Some(&fallback), node)).await.expect("creates");
    inventory.create(&Port::new(Uuid::from_u128(2), uuid, card, now)).await.expect("creates");
    let iqn = "iqn.2017-08.org.openstack.web-1";
    let connector = VolumeConnector::new(Uuid::from_u128(3), uuid, "iqn", iqn, now);
    inventory.create(&connector).await.expect("creates");
    let target = VolumeTarget {
        properties: properties(json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.example:own", "target_lun": 1,
        })),
        ..VolumeTarget::new(Uuid::from_u128(4), uuid, 0, "own", now)
    };
    inventory.create(&target).await.expect("creates");
    inventory.open_boot_window(uuid, &BootWindow::open(now, true)).await.expect("opens");
    let request = BootRequest { journey: Some("a1".into()), ..BootRequest::new(card) };
    (boot, inventory, uuid, request)
}

/// The window must not end while a machine waits because volboot said so.
#[tokio::test]
async fn a_wait_from_every_phase_extends_the_window() {
    for (fault, seconds) in [
        (RecordFault::Never, None),
        (RecordFault::BeforeChoice, Some(1)),
        (RecordFault::BeforeHandOut, Some(1)),
        (RecordFault::Failure, Some(STORE_RETRY_SECONDS)),
    ] {
        let (boot, inventory, node, request) = boot_with(fault).await;
        let mut extended = 0;
        for _ in 0..3 {
            let decision = boot.answer(&request).await;
            let wait = match &decision.answer {
                BootAnswer::Boot(_) => None,
                BootAnswer::Wait { seconds, .. } => Some(*seconds),
                other => panic!("{fault:?}: {other:?}"),
            };
            assert_eq!(wait, seconds, "{fault:?}");
            let window = inventory.read_boot_window(node).await.expect("reads").expect("exists");
            assert_eq!(window.journey.as_deref(), Some("a1"), "{fault:?}");
            extended += wait
                .map_or(0, |seconds| BootWindow::open(Timestamp::now(), true).extended(seconds).extension);
            assert_eq!(window.extension, extended, "{fault:?}");
        }
    }
}
