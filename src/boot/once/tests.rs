//! The decision table of one-time boots: source, journey, place of the requester, and state of the store.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::attach::{Attach, Policy};
use crate::model::{
    BootWindow, BootWindowPolicy, Mac, NeighbourCheck, Port, Properties, SanUri, StorageInterface,
    VolumeConnector,
};
use crate::store::{Attachments, Inventory, MemoryStore, Store};
use crate::timeline::LoopDetector;

const NODE: Uuid = Uuid::from_u128(1);
const CARD: Mac = Mac::new([0x52, 0x54, 0, 0, 0, 1]);
const RESCUE: &str = "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.example:rescue";

struct OnceSite {
    store: Arc<MemoryStore>,
    inventory: Inventory,
    boot: Boot,
}

impl OnceSite {
    /// A node with two volumes, and a machine on the host.
    async fn new(storage: StorageInterface) -> Self {
        let store = Arc::new(MemoryStore::default());
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let inventory = Inventory::new(Arc::clone(&shared));
        let attach = Attach::new(Attachments::new(shared), None, Policy::default());
        let enabled = [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
        let boot = Boot::new(inventory.clone(), attach, Arc::new(LoopDetector::default()), enabled);
        let now = Timestamp::now();
        let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
        let node = Node {
            name: Some("web-1".into()),
            properties: properties(json!({"capabilities": "iscsi_boot:True", "uefi_loader": "/EFI/own.efi"})),
            ..Node::new(NODE, "manual-management", storage, now)
        };
        inventory.create(&node).await.expect("creates");
        inventory.create(&Port::new(Uuid::new_v4(), NODE, CARD, now)).await.expect("creates");
        let iqn = "iqn.2017-08.org.openstack.web-1";
        let connector = VolumeConnector::new(Uuid::new_v4(), NODE, "iqn", iqn, now);
        inventory.create(&connector).await.expect("creates");
        for (index, name) in [(1, "data"), (0, "root")] {
            let target = VolumeTarget {
                properties: properties(json!({
                    "target_portal": "192.0.2.1:3260", "target_iqn": format!("iqn.2010-10.org.example:{name}"),
                    "target_lun": 1,
                })),
                ..VolumeTarget::new(Uuid::new_v4(), NODE, index, name, now)
            };
            inventory.create(&target).await.expect("creates");
        }
        Self { store, inventory, boot }
    }

    async fn set(&self, source: OnceSource, with_volumes: bool) -> BootOnce {
        let now = Timestamp::now();
        let once = BootOnce {
            uuid: Uuid::new_v4(),
            created_at: now,
            node_uuid: NODE,
            source,
            with_volumes,
            shared: false,
            expires_at: now + SignedDuration::from_hours(1),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        self.inventory.set_boot_once(&once, None).await.expect("writes").expect("no conflict")
    }

    async fn answer(&self, journey: &str, attempt: u32) -> Decision {
        self.boot.answer(&request(journey, attempt)).await
    }

    async fn journey(&self) -> Option<String> {
        self.inventory.find_boot_once(NODE).await.expect("reads").and_then(|once| once.journey)
    }
}

fn request(journey: &str, attempt: u32) -> BootRequest {
    BootRequest { journey: Some(journey.to_owned()), attempt, ..BootRequest::new(CARD) }
}

fn rescue() -> OnceSource {
    let uri: SanUri = RESCUE.parse().expect("a path");
    OnceSource::from_target(&uri, Some(("ann", "a-long-secret")))
}

/// The target names of a boot, in the order of the drives.
fn drives(decision: &Decision) -> Vec<&str> {
    let BootAnswer::Boot(plan) = &decision.answer else { panic!("no boot: {:?}", decision.answer) };
    [&plan.boot]
        .into_iter()
        .chain(&plan.data)
        .map(|volume| volume.paths[0].target.as_str().trim_start_matches("iqn.2010-10.org.example:"))
        .collect()
}

#[tokio::test]
async fn each_source_has_its_answer() {
    for storage in [StorageInterface::External, StorageInterface::Noop] {
        let site = OnceSite::new(storage.clone()).await;
        let own = if storage == StorageInterface::Noop { vec![] } else { vec!["root", "data"] };
        for (journey, with_volumes, expected) in
            [("a", false, vec!["rescue"]), ("b", true, [vec!["rescue"], own].concat())]
        {
            site.set(rescue(), with_volumes).await;
            let decision = site.answer(journey, 1).await;
            assert_eq!(drives(&decision), expected, "{storage:?}");
            let BootAnswer::Boot(plan) = &decision.answer else { panic!() };
            let chap = plan.boot.chap.as_ref().map(|chap| chap.username.as_str());
            assert_eq!(
                (chap, plan.loader.as_ref()),
                (Some("ann"), None),
                "the node's loader is of its own volume"
            );
            let source = Some("target iqn.2010-10.org.example:rescue");
            assert_eq!((plan.once.as_deref(), decision.once.as_deref()), (source, source));
        }
        let url = "http://192.0.2.1/rescue.ipxe".to_owned();
        for (journey, source, outcome, reason) in [
            ("c", OnceSource::Local, BootOutcome::LocalDisk, "one-time boot from the local disk"),
            ("d", OnceSource::Shell, BootOutcome::Shell, "one-time boot from the iPXE shell"),
            (
                "e",
                OnceSource::Url { url },
                BootOutcome::Url,
                "one-time boot from http://192.0.2.1/rescue.ipxe",
            ),
        ] {
            site.set(source, false).await;
            let decision = site.answer(journey, 1).await;
            assert_eq!(decision.answer.outcome(), outcome);
            assert_eq!(decision.answer.reason(), Some(format!("node web-1: {reason}").as_str()));
            assert_eq!(site.journey().await.as_deref(), Some(journey));
        }
    }
}

#[tokio::test]
async fn own_volume_is_no_second_drive() {
    let site = OnceSite::new(StorageInterface::External).await;
    let uri: SanUri = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:data".parse().expect("a path");
    site.set(OnceSource::from_target(&uri, None), true).await;
    assert_eq!(drives(&site.answer("a", 1).await), ["data", "root"]);
}

#[tokio::test]
async fn all_tries_of_one_journey_get_it_and_the_next_journey_ends_it() {
    let site = OnceSite::new(StorageInterface::External).await;
    let once = site.set(rescue(), false).await;
    // An answer that is lost, and a hook that fails: the machine tries again.
    for attempt in [1, 2, 2, 3] {
        let decision = site.answer("a", attempt).await;
        assert_eq!((drives(&decision), &decision.ended_once), (vec!["rescue"], &None), "try {attempt}");
    }
    let decision = site.answer("b", 1).await;
    assert_eq!((drives(&decision), &decision.once), (vec!["root", "data"], &None));
    let ended = decision.ended_once.expect("ends");
    assert_eq!(ended.uuid, once.uuid);
    site.boot.end_once(&ended).await;
    assert_eq!(site.inventory.find_boot_once(NODE).await.expect("reads"), None);
    // A late try of the first journey does not get it again.
    assert_eq!(drives(&site.answer("a", 4).await), ["root", "data"]);
}

#[tokio::test]
async fn a_request_that_boots_nothing_neither_consumes_nor_ends() {
    let site = OnceSite::new(StorageInterface::External).await;
    let once = site.set(rescue(), false).await;
    assert_eq!(drives(&site.boot.preview(&request("a", 1)).await), ["rescue"]);
    assert_eq!(drives(&site.boot.predict(&BootRequest::new(CARD)).await), ["rescue"]);
    // A request outside of a boot session.
    assert_eq!(drives(&site.boot.answer(&BootRequest::new(CARD)).await), ["root", "data"]);
    assert_eq!(site.inventory.find_boot_once(NODE).await.expect("reads"), Some(once.clone()));
    // Another machine claims the address.
    let address: IpAddr = "192.0.2.7".parse().expect("an address");
    let other = NeighbourCheck::Entry { mac: Mac::new([2, 0, 0, 0, 0, 9]), address };
    let stranger = BootRequest { neighbour_check: other.clone(), ..request("a", 1) };
    assert_eq!(site.boot.answer(&stranger).await.answer.outcome(), BootOutcome::Refused);
    let maintenance =
        |is_set| move |old: &Node, _: Option<&Node>| Ok::<_, ()>(Node { maintenance: is_set, ..old.clone() });
    site.inventory.update(NODE, maintenance(true)).await.expect("updates");
    assert_eq!(site.answer("a", 1).await.answer.outcome(), BootOutcome::Refused);
    site.inventory.update(NODE, maintenance(false)).await.expect("updates");
    assert_eq!(site.inventory.find_boot_once(NODE).await.expect("reads"), Some(once));

    assert_eq!(drives(&site.answer("a", 1).await), ["rescue"]);
    for decision in [
        site.boot.preview(&request("b", 1)).await,
        site.boot.predict(&BootRequest::new(CARD)).await,
        site.boot.answer(&BootRequest::new(CARD)).await,
    ] {
        assert_eq!(drives(&decision), ["root", "data"]);
        assert_eq!(decision.once, None);
    }
    assert_eq!(site.boot.answer(&BootRequest::new(CARD)).await.ended_once, None);
    let stranger = BootRequest { neighbour_check: other, ..request("b", 1) };
    assert_eq!(site.boot.answer(&stranger).await.ended_once, None);
    site.inventory.update(NODE, maintenance(true)).await.expect("updates");
    assert_eq!(site.answer("b", 1).await.ended_once, None, "the machine may still run from the volume");
}

#[tokio::test]
async fn the_machine_waits_while_the_store_cannot_write() {
    let site = OnceSite::new(StorageInterface::External).await;
    site.set(rescue(), false).await;
    site.store.close().await.expect("closes");
    let decision = site.answer("a", 1).await;
    let BootAnswer::Wait { reason, seconds: STORE_RETRY_SECONDS } = &decision.answer else {
        panic!("{:?}", decision.answer)
    };
    assert!(
        reason.starts_with("node web-1: the one-time boot waits until the store can note it as consumed: "),
        "{reason}"
    );
    assert_eq!(site.journey().await, None);
}

#[tokio::test]
async fn undeployment_and_deletion_end_it() {
    for end in ["deletion", "undeployment with its targets", "undeployment"] {
        let site = OnceSite::new(StorageInterface::External).await;
        site.set(rescue(), false).await;
        if end == "deletion" {
            let deleted = site.inventory.delete(NODE, |_: &Node, _| Ok::<_, ()>(())).await;
            deleted.expect("deletes");
        } else if end == "undeployment" {
            let undeploy =
                |old: &Node, _: Option<&Node>| Ok::<_, ()>(Node { undeployed: true, ..old.clone() });
            site.inventory.update(NODE, undeploy).await.expect("updates");
        } else {
            let undeployed =
                site.inventory.undeploy_without_targets(NODE, |old| Ok::<_, ()>(old.clone())).await;
            undeployed.expect("updates");
        }
        assert_eq!(site.inventory.find_boot_once_with(|_| true).await.expect("lists"), None, "{end}");
    }
}

#[tokio::test]
async fn a_volume_of_another_node_is_found() {
    let site = OnceSite::new(StorageInterface::External).await;
    let now = Timestamp::now();
    let other = Uuid::from_u128(2);
    let find = async |node, path: &str| {
        let named = NamedVolume::Paths(vec![path.parse().expect("a path")]);
        let user = site.boot.find_other_user(node, &named, now).await.expect("reads");
        user.map(|user| user.to_string())
    };
    let root = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:root";
    let data = "iscsi:192.0.2.1::3260:1:iqn.2010-10.org.example:data";
    assert_eq!(find(other, root).await.as_deref(), Some("the volume is the boot volume of node web-1"));
    assert_eq!(
        find(other, data).await.as_deref(),
        Some("the volume is a volume of node web-1 (boot index 1)")
    );
    assert_eq!((find(NODE, root).await, find(other, RESCUE).await), (None, None));
    site.set(rescue(), false).await;
    assert_eq!(find(other, RESCUE).await.as_deref(), Some("node web-1 boots once from the volume"));
}

#[tokio::test]
async fn a_change_of_volumes_after_the_scan_is_a_conflict() {
    let site = OnceSite::new(StorageInterface::External).await;
    let scanned = site.inventory.revision_after(0);
    let now = Timestamp::now();
    let target = VolumeTarget::new(Uuid::new_v4(), NODE, 7, "new", now);
    site.inventory.create(&target).await.expect("creates");
    let once = site.set(OnceSource::Shell, false).await;
    let next = BootOnce { uuid: Uuid::new_v4(), ..once };
    assert_eq!(site.inventory.set_boot_once(&next, scanned).await.expect("reads"), None);
    let scanned = site.inventory.revision_after(0);
    assert_eq!(site.inventory.set_boot_once(&next, scanned).await.expect("writes"), Some(next));
}

#[tokio::test]
async fn a_wait_for_the_record_extends_the_boot_window() {
    let mut site = OnceSite::new(StorageInterface::External).await;
    let policy = BootWindowPolicy { duration: Duration::from_secs(900), reboot: false };
    site.boot = site.boot.with_window(Some(policy));
    let with_bmc =
        |old: &Node, _: Option<&Node>| Ok::<_, ()>(Node { driver: "redfish".into(), ..old.clone() });
    site.inventory.update(NODE, with_bmc).await.expect("updates");
    site.inventory.open_boot_window(NODE, &BootWindow::open(Timestamp::now(), true)).await.expect("opens");
    // Another record takes the place of the one that the request has read.
    let read = site.set(rescue(), false).await;
    site.set(OnceSource::Local, false).await;
    let records = crate::boot::identify::identify(&site.inventory, &request("a", 1)).await.expect("a node");
    let decided = site.boot.decide_once(&records, read, true, &request("a", 1), Mode::Boot).await;
    let Err(Stop::Decided(decision)) = decided else { panic!("{decided:?}") };
    let BootAnswer::Wait { seconds, .. } = decision.answer else { panic!("{decision:?}") };
    let window = site.inventory.read_boot_window(NODE).await.expect("reads").expect("exists");
    assert_eq!((seconds, window.extension > seconds), (CONFLICT_RETRY_SECONDS, true), "{window:?}");
}

#[tokio::test]
async fn a_volume_that_another_node_got_meanwhile_is_not_given() {
    let site = OnceSite::new(StorageInterface::External).await;
    let once = site.set(rescue(), false).await;
    let other =
        Node::new(Uuid::from_u128(2), "manual-management", StorageInterface::External, Timestamp::now());
    site.inventory.create(&other).await.expect("creates");
    let target = VolumeTarget {
        properties: once.volume_target().expect("a target").properties,
        ..VolumeTarget::new(Uuid::new_v4(), other.uuid, 0, "rescue", Timestamp::now())
    };
    site.inventory.create(&target).await.expect("creates");
    let refused = site.answer("a", 1).await.answer;
    assert_eq!(refused.outcome(), BootOutcome::Refused);
    let reason = refused.reason().unwrap_or_default();
    assert!(reason.contains("the volume is the boot volume of node 00000000-0000-0000"), "{reason}");
    assert_eq!(site.journey().await, None);
    site.inventory.delete(target.uuid, |_: &VolumeTarget, _| Ok::<_, ()>(())).await.expect("deletes");
    assert_eq!(drives(&site.answer("a", 2).await), ["rescue"]);
    // The machine has the volume by now, so its further tries get it.
    site.inventory.create(&target).await.expect("creates");
    assert_eq!(drives(&site.answer("a", 3).await), ["rescue"]);
    // Neither does a shared one care.
    let shared = BootOnce { uuid: Uuid::new_v4(), shared: true, ..once };
    site.inventory.set_boot_once(&shared, None).await.expect("writes");
    assert_eq!(drives(&site.answer("b", 1).await), ["rescue"]);
}
