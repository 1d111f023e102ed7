//! Boot previews: the API previews the boot request of a node's machine, and the page of that machine the same.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use uuid::Uuid;
use volboot::auth::Auth;
use volboot::model::{BootOutcome, Mac, Node, Platform, Port, StorageInterface};
use volboot::operator::Operator;
use volboot::telemetry::{BootRequestEvent, Event, EventKind};
use volboot::web;

use super::{build_operator, call_api};
use crate::daemon::LIMIT;

/// Two cards with a port of the node each.
const FIRST: Mac = mac(1);
const SECOND: Mac = mac(2);
/// A card of the same machine without a port.
const THIRD: Mac = mac(3);
/// A card of another machine.
const OTHER: Mac = mac(4);

const fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

/// Creates a node that boots with the second of its two ports.
async fn create_node(operator: &Operator) -> Node {
    let now = Timestamp::now();
    let mut node = Node::new(Uuid::new_v4(), "fake-hardware", StorageInterface::Noop, now);
    node.name = Some("web-1".into());
    operator.inventory.create(&node).await.expect("a node");
    for (mac, pxe_enabled) in [(FIRST, false), (SECOND, true)] {
        let port = Port { pxe_enabled, ..Port::new(Uuid::new_v4(), node.uuid, mac, now) };
        operator.inventory.create(&port).await.expect("a port");
    }
    node
}

/// Records an event of a machine, and waits until the timeline has processed it.
async fn record(operator: &Operator, seconds_ago: i64, mac: Mac, kind: EventKind) {
    let mut updates = operator.timeline.subscribe();
    let at = Timestamp::now() - SignedDuration::from_secs(seconds_ago);
    operator.timeline.record(Event::new(at, Some(mac), None, kind));
    tokio::time::timeout(LIMIT, updates.recv()).await.expect("within the limit").expect("an update");
}

fn boot_request(node: &Node, macs: &[Mac], platform: Platform) -> EventKind {
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: 1,
        tries: 10,
        macs: macs.to_vec(),
        platform: Some(platform),
        arch: None,
        uuid: None,
        host_name_bytes: None,
        node: Some(node.uuid),
        name: node.name.clone(),
        journey: None,
        resolutions: Vec::new(),
        hooks: Vec::new(),
        warnings: Vec::new(),
        outcome: BootOutcome::LocalDisk,
        reason: None,
        held: false,
        once: None,
        attached_card: None,
        claimed_mac: None,
        duration_us: 10,
    }))
}

/// Asserts the boot request that the API previews, and that the page of the node shows the machine with this request.
#[track_caller]
fn assert_previews(api: &Value, page: &str, macs: &[Mac], platform: Option<&str>) {
    assert_eq!(api["requester"], json!({"macs": macs, "platform": platform}));
    assert_eq!(page, format!("/ui/machines/{}", macs[0]));
}

#[tokio::test]
async fn api_and_page_preview_the_boot_request_of_the_same_machine() {
    let operator = Arc::new(build_operator());
    let node = create_node(&operator).await;
    let preview = async || {
        let (status, api) = call_api(&operator, "GET", "/v1/nodes/web-1/boot-preview", &Value::Null).await;
        assert_eq!(status, 200, "{api}");
        let request = Request::get("/ui/nodes/web-1").body(Body::empty()).expect("a request");
        let pages = web::router(Arc::clone(&operator), Auth::NoAuth);
        let response = pages.oneshot(request).await.expect("a response");
        let location = response.headers()["location"].to_str().expect("a text").to_owned();
        let machine = location.trim_start_matches("/ui/machines/").parse().expect("a MAC address");
        let by_page = operator.find_requester(machine).await.expect("a machine").request;
        let by_api = operator.predict_request_of_node(&node).await.expect("ports").expect("a request");
        assert_eq!(by_page, by_api);
        (api, location)
    };
    let (api, page) = preview().await;
    assert_previews(&api, &page, &[SECOND, FIRST], None);
    // The firmware has loaded iPXE with the first card. Its boot request is not known yet.
    record(&operator, 60, FIRST, EventKind::SessionStarted).await;
    let (api, page) = preview().await;
    assert_previews(&api, &page, &[FIRST, SECOND], None);
    record(&operator, 50, SECOND, boot_request(&node, &[SECOND, FIRST, THIRD], Platform::Uefi)).await;
    let (api, page) = preview().await;
    assert_previews(&api, &page, &[SECOND, FIRST, THIRD], Some("efi"));
    // The machine boots with a card that has no port, but has reported one that has.
    record(&operator, 40, THIRD, boot_request(&node, &[THIRD, SECOND], Platform::Bios)).await;
    let (api, page) = preview().await;
    assert_previews(&api, &page, &[THIRD, SECOND], Some("pcbios"));
    // The room in the firmware's table depends on the host name.
    let mut named = boot_request(&node, &[THIRD, SECOND], Platform::Bios);
    if let EventKind::BootRequest(request) = &mut named {
        request.host_name_bytes = Some(59);
    }
    record(&operator, 35, THIRD, named).await;
    let request = operator.find_requester(THIRD).await.expect("a machine").request;
    assert_eq!(request.host_name_bytes, Some(59));
    // A machine that was this node once, before its port was moved, is another machine now.
    record(&operator, 30, OTHER, boot_request(&node, &[OTHER], Platform::Uefi)).await;
    let (api, page) = preview().await;
    assert_previews(&api, &page, &[THIRD, SECOND], Some("pcbios"));
}
