//! The door as a machine meets it, over a store in memory.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Method;
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::json;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::attach::{Attach, Policy};
use crate::config::Config;
use crate::model::{Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Attachments, Batch, Inventory, MemoryStore, Store};
use crate::telemetry::Metrics;

/// A node `web-N` with the address `52:54:00:00:00:N` and all it needs to boot.
async fn enrol(inventory: &Inventory, n: u8) {
    let properties = |value| serde_json::from_value::<Properties>(value).expect("an object");
    let uuid = Uuid::from_u128(u128::from(n));
    let created_at = Timestamp::UNIX_EPOCH;
    let node = Node {
        name: Some(format!("web-{n}")),
        properties: properties(json!({"capabilities": "iscsi_boot:True"})),
        ..Node::new(uuid, "manual-management", StorageInterface::External, created_at)
    };
    inventory.create(&node).await.expect("creates");
    let address = format!("52:54:00:00:00:{n:02x}").parse().expect("a MAC");
    let port = Port { pxe_enabled: n != 9, ..Port::new(uuid, uuid, address, created_at) };
    inventory.create(&port).await.expect("creates");
    let iqn = format!("iqn.2017-08.org.openstack.web-{n}");
    let connector = VolumeConnector::new(uuid, uuid, "iqn", &iqn, created_at);
    inventory.create(&connector).await.expect("creates");
    let target = VolumeTarget {
        properties: properties(json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": 1,
            "auth_username": "u", "auth_password": "hunter2",
        })),
        ..VolumeTarget::new(uuid, uuid, 0, "root", created_at)
    };
    inventory.create(&target).await.expect("creates");
}

async fn door() -> Router {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store));
    for n in [1, 2, 9] {
        enrol(&inventory, n).await;
    }
    over(store, inventory)
}

fn over(store: Arc<dyn Store>, inventory: Inventory) -> Router {
    let config = Config::default();
    let attach = Attach::new(Attachments::new(store), None, Policy { last_known: None, resolutions: 1 });
    let boot = Boot::new(inventory, attach, config.enabled_storage_interfaces);
    let boot_config = BootConfig { verify_mac: false, ..config.boot };
    let timeline = Timeline::open(None, Metrics::new());
    router(Machines::new(boot, boot_config, &config.http, Images::default(), timeline))
}

async fn ask_from(
    door: &Router,
    remote: &str,
    method: Method,
    uri: &str,
) -> (StatusCode, Option<String>, String) {
    let peer = Peer {
        remote: remote.parse().expect("an address"),
        local: "192.168.0.1:8080".parse().expect("one"),
        tls: false,
    };
    let mut request = Request::builder().method(method).uri(uri).body(Body::empty()).expect("a request");
    request.extensions_mut().insert(peer);
    let response = door.clone().oneshot(request).await.expect("answers");
    let cache =
        response.headers().get(header::CACHE_CONTROL).map(|value| value.to_str().expect("text").to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, cache, String::from_utf8(body.to_vec()).expect("text"))
}

async fn ask(door: &Router, uri: &str) -> String {
    let (status, cache, body) = ask_from(door, "192.168.0.7:1024", Method::GET, uri).await;
    assert_eq!((status, cache.as_deref()), (StatusCode::OK, Some("no-store")), "{uri}: {body}");
    body
}

#[tokio::test]
async fn a_machine_is_given_its_own_volume_under_every_spelling_of_its_address() {
    let door = door().await;
    for mac in [
        "52:54:00:00:00:01",
        "52-54-00-00-00-01",
        "525400000001",
        "52-54-00-00-00-01".to_uppercase().as_str(),
        "52%3A54%3a00%3A00%3A00%3A01",
    ] {
        let script = ask(&door, &format!("/boot/{mac}")).await;
        assert!(script.starts_with("#!ipxe\necho volboot: web-1: try 1 of 10\n"), "{mac}: {script}");
        assert!(script.contains("set initiator-iqn iqn.2017-08.org.openstack.web-1\n"), "{script}");
        assert!(!script.contains("hunter2"), "{script}");
    }
}

#[tokio::test]
async fn a_machine_is_known_by_any_of_its_cards() {
    for uri in
        ["/boot/52-54-00-00-00-77?macs=52-54-00-00-00-77,52-54-00-00-00-02", "/boot/?macs=52-54-00-00-00-02"]
    {
        let script = ask(&door().await, uri).await;
        assert!(script.contains("volboot: web-2: try"), "{script}");
    }
}

async fn reason(door: &Router, uri: &str) -> String {
    let script = ask(door, uri).await;
    let second = script.lines().nth(1).expect("a second line");
    assert!(script.ends_with("exit 1\n"), "{script}");
    second.strip_prefix("echo volboot: ").expect("an echo").to_owned()
}

#[tokio::test]
async fn who_is_nobody_or_two_is_told_so() {
    let door = door().await;
    assert_eq!(
        reason(&door, "/boot/52-54-00-00-00-77?macs=52-54-00-00-00-78").await,
        "no node has a port with the address 52:54:00:00:00:77 or 52:54:00:00:00:78"
    );
    assert_eq!(
        reason(&door, "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-02").await,
        "this machine's network cards belong to several nodes: \
         node web-1 (52:54:00:00:00:01), node web-2 (52:54:00:00:00:02)"
    );
    assert_eq!(
        reason(&door, "/boot/52-54-00-00-00-09").await,
        "node web-9 may not boot through port 52:54:00:00:00:09: pxe_enabled is false"
    );
    // A card that must not be booted through does not make a second node of the machine.
    let script = ask(&door, "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-09").await;
    assert!(script.contains("volboot: web-1: try"), "{script}");
}

#[tokio::test]
async fn a_store_that_fails_makes_machines_wait_and_says_so() {
    let store = Arc::new(MemoryStore::default());
    store.write(Batch::default().put("port-address/52:54:00:00:00:01", "nonsense")).await.expect("writes");
    let script = ask(&over(store.clone(), Inventory::new(store)), "/boot/52-54-00-00-00-01").await;
    assert!(
        script.starts_with("#!ipxe\necho volboot: volboot cannot read its store; its log says why\n"),
        "{script}"
    );
    assert!(script.contains("\nsleep 10 ||\n"), "{script}");
}

#[tokio::test]
async fn what_cannot_be_understood_is_a_clear_400() {
    let door = door().await;
    let long = format!("/boot/52-54-00-00-00-01?x={}", "y".repeat(3000));
    for (uri, text) in [
        ("/boot/52-54-00", "volboot: in the path: expected a MAC address such as 52:54:00:12:34:56\n"),
        (
            "/boot/x/event?step=hooked",
            "volboot: in the path: expected a MAC address such as 52:54:00:12:34:56\n",
        ),
        (long.as_str(), "volboot: the query is longer than 2048 bytes\n"),
    ] {
        let (status, _, body) = ask_from(&door, "10.0.0.1:1", Method::GET, uri).await;
        assert_eq!((status, body.as_str()), (StatusCode::BAD_REQUEST, text));
    }
    let (status, _, _) = ask_from(&door, "10.0.0.1:1", Method::GET, "/boot/%ff").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_event_is_noted_with_a_body() {
    let (status, _, body) = ask_from(
        &door().await,
        "[fe80::1]:1",
        Method::GET,
        "/boot/52-54-00-00-00-01/event?step=hooked&try=1",
    )
    .await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "noted\n"));
}

#[tokio::test]
async fn a_network_that_is_not_allowed_gets_nothing_but_the_health() {
    let door = door().await;
    for remote in ["203.0.113.9:1", "[2001:db8::1]:1", "[::ffff:203.0.113.9]:1"] {
        let (_, _, script) = ask_from(&door, remote, Method::GET, "/boot/52-54-00-00-00-01").await;
        assert!(
            script.contains(" is in no network of [http] allow\n") && script.ends_with("exit 1\n"),
            "{script}"
        );
        let (status, _, _) = ask_from(&door, remote, Method::GET, "/images/ipxe.efi").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(ask_from(&door, remote, Method::GET, "/healthz").await.0, StatusCode::OK);
    }
    let (status, _, _) = ask_from(&door, "[::ffff:10.1.2.3]:1", Method::GET, "/boot.ipxe").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn newer_ipxe_finds_its_script_beside_itself_or_in_the_root() {
    let door = door().await;
    for (path, base) in [
        ("/boot.ipxe", " "),
        ("/autoexec.ipxe", " http://192.168.0.1:8080/"),
        ("/images/autoexec.ipxe", " http://192.168.0.1:8080/"),
    ] {
        let (status, _, script) = ask_from(&door, "10.0.0.1:1", Method::GET, path).await;
        assert_eq!(status, StatusCode::OK);
        assert!(script.contains(&format!("{base}boot/${{netX/mac:hexhyp}}?")), "{path}: {script}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let door = door().await;
    assert_eq!(ask_from(&door, "10.0.0.1:1", Method::GET, "/v1/nodes").await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        ask_from(&door, "10.0.0.1:1", Method::POST, "/boot.ipxe").await.0,
        StatusCode::METHOD_NOT_ALLOWED
    );
    assert_eq!(ask_from(&door, "10.0.0.1:1", Method::GET, "/images/shadow").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_machine_that_asks_without_end_waits_and_its_reports_are_not_noted() {
    let door = door().await;
    let question = "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-01&try=4";
    let (mut sent, mut script) = (0, ask(&door, question).await);
    // The slower the host, the more may ask meanwhile.
    while sent < 1000 && script.contains("sanboot") {
        sent += 1;
        script = ask(&door, question).await;
    }
    assert!((30..1000).contains(&sent), "{sent}");
    assert!(script.contains("echo volboot: 52:54:00:00:00:01 or 192.168.0.7 asks too often\n"), "{script}");
    assert!(script.contains("sleep 15 ") && script.contains("&try=4"), "{script}");
    assert!(!script.contains("hunter2") && !script.contains("password"), "{script}");
    let event = "/boot/52-54-00-00-00-01/event?step=hooked";
    let mut refused = false;
    for _ in 0..10 {
        let (status, ..) = ask_from(&door, "192.168.0.7:1024", Method::GET, event).await;
        refused |= status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(refused);
    // The script that is the same for everybody costs nothing.
    let (status, ..) = ask_from(&door, "192.168.0.7:1024", Method::GET, "/boot.ipxe").await;
    assert_eq!(status, StatusCode::OK);
    let (status, ..) = ask_from(&door, "192.168.0.8:1024", Method::GET, "/boot/52-54-00-00-00-02").await;
    assert_eq!(status, StatusCode::OK);
}
