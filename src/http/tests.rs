//! Tests of the boot listener's router over a store in memory.

mod fallback_reports;
mod paths;
mod recorded_boot;
mod requesters;

use std::sync::Arc;

use axum::body::Body;
use axum::http::{Method, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use serde_json::json;
use tower::ServiceExt;
use uuid::Uuid;

use super::*;
use crate::attach::{Attach, Policy};
use crate::config::Config;
use crate::model::{NeighbourCheck, Node, Port, Properties, StorageInterface, VolumeConnector, VolumeTarget};
use crate::store::{Attachments, Batch, Inventory, MemoryStore, Store};
use crate::telemetry::Metrics;

/// Creates node `web-N` with a port `52:54:00:00:00:N`, a connector and a target.
async fn enroll(inventory: &Inventory, n: u8) {
    let properties = |value| serde_json::from_value::<Properties>(value).expect("properties");
    let uuid = Uuid::from_u128(u128::from(n));
    let created_at = Timestamp::UNIX_EPOCH;
    let node = Node {
        name: Some(format!("web-{n}")),
        properties: properties(json!({"capabilities": "iscsi_boot:True"})),
        ..Node::new(uuid, "manual-management", StorageInterface::External, created_at)
    };
    inventory.create(&node).await.expect("the record is created");
    let address = format!("52:54:00:00:00:{n:02x}").parse().expect("a MAC");
    let port = Port { pxe_enabled: n != 9, ..Port::new(uuid, uuid, address, created_at) };
    inventory.create(&port).await.expect("the record is created");
    let iqn = format!("iqn.2017-08.org.openstack.web-{n}");
    let connector = VolumeConnector::new(uuid, uuid, "iqn", &iqn, created_at);
    inventory.create(&connector).await.expect("the record is created");
    let target = VolumeTarget {
        properties: properties(json!({
            "target_portal": "192.0.2.1:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": 1,
            "auth_username": "u", "auth_password": "hunter2",
        })),
        ..VolumeTarget::new(uuid, uuid, 0, "root", created_at)
    };
    inventory.create(&target).await.expect("the record is created");
}

async fn boot_router() -> Router {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let inventory = Inventory::new(Arc::clone(&store));
    for n in [1, 2, 9] {
        enroll(&inventory, n).await;
    }
    router_over(store, inventory)
}

fn router_over(store: Arc<dyn Store>, inventory: Inventory) -> Router {
    router_of(store, inventory, Images::default())
}

fn router_of(store: Arc<dyn Store>, inventory: Inventory, images: Images) -> Router {
    let config = Config::default();
    let attach = Attach::new(Attachments::new(store), None, Policy { resolutions: 1, ..Policy::default() });
    let timeline = Timeline::open_blocking(None, Metrics::new());
    let boot = Boot::new(inventory, attach, timeline.loop_detector(), config.enabled_storage_interfaces);
    let neighbours = Neighbours::fixed(NeighbourCheck::Unchecked);
    router(HttpState::new(boot, config.boot, &config.http, images, timeline, neighbours))
}

async fn request_from(
    router: &Router,
    remote: &str,
    method: Method,
    uri: &str,
) -> (StatusCode, Option<String>, String) {
    let peer = Peer {
        remote: remote.parse().expect("an address"),
        local: "192.168.0.1:8080".parse().expect("an address"),
        tls: false,
    };
    let mut request = Request::builder().method(method).uri(uri).body(Body::empty()).expect("a request");
    request.extensions_mut().insert(peer);
    let response = router.clone().oneshot(request).await.expect("the router responds");
    let cache =
        response.headers().get(header::CACHE_CONTROL).map(|value| value.to_str().expect("text").to_owned());
    let status = response.status();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, cache, String::from_utf8(body.to_vec()).expect("text"))
}

async fn get_script(router: &Router, uri: &str) -> String {
    let (status, cache, body) = request_from(router, "192.168.0.7:1024", Method::GET, uri).await;
    assert_eq!((status, cache.as_deref()), (StatusCode::OK, Some("no-store")), "{uri}: {body}");
    body
}

#[tokio::test]
async fn boot_script_for_every_mac_notation() {
    let router = boot_router().await;
    for mac in [
        "52:54:00:00:00:01",
        "52-54-00-00-00-01",
        "525400000001",
        "52-54-00-00-00-01".to_uppercase().as_str(),
        "52%3A54%3a00%3A00%3A00%3A01",
    ] {
        let script = get_script(&router, &format!("/boot/{mac}")).await;
        assert!(script.starts_with("#!ipxe\necho volboot: web-1: try 1 of 10\n"), "{mac}: {script}");
        assert!(script.contains("set initiator-iqn iqn.2017-08.org.openstack.web-1\n"), "{script}");
        assert!(!script.contains("hunter2"), "{script}");
    }
}

#[tokio::test]
async fn node_is_found_by_any_mac() {
    for uri in
        ["/boot/52-54-00-00-00-77?macs=52-54-00-00-00-77,52-54-00-00-00-02", "/boot/?macs=52-54-00-00-00-02"]
    {
        let script = get_script(&boot_router().await, uri).await;
        assert!(script.contains("volboot: web-2: try"), "{script}");
    }
}

async fn reason(router: &Router, uri: &str) -> String {
    let script = get_script(router, uri).await;
    let second = script.lines().nth(1).expect("a second line");
    assert!(script.ends_with("exit 1\n"), "{script}");
    second.strip_prefix("echo volboot: ").expect("an echo").to_owned()
}

#[tokio::test]
async fn unknown_and_ambiguous_requesters_are_refused() {
    let router = boot_router().await;
    assert_eq!(
        reason(&router, "/boot/52-54-00-00-00-77?macs=52-54-00-00-00-78").await,
        "no node has a port with the address 52:54:00:00:00:77 or 52:54:00:00:00:78"
    );
    assert_eq!(
        reason(&router, "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-02").await,
        "this machine's network cards belong to several nodes; volboot's log names them"
    );
    assert_eq!(
        reason(&router, "/boot/52-54-00-00-00-09").await,
        "node web-9: port 52:54:00:00:00:09 is not enabled for booting (pxe_enabled is false)"
    );
    // A port with pxe_enabled false does not count: the requester stays unambiguous.
    let script = get_script(&router, "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-09").await;
    assert!(script.contains("volboot: web-1: try"), "{script}");
}

/// The query of the request after a failed try, as iPXE expands it.
fn next_query(script: &str, rc: &str, host_name: &str) -> String {
    let line = script.lines().find_map(|line| line.strip_prefix("chain --replace --autofree "));
    let url = line.and_then(|line| line.split(' ').next()).expect("a next try");
    assert!(script.contains("\nset failure ${rc} ||\n"), "{script}");
    url.replace("${failure}", rc).replace("${hostname:uristring}", host_name)
}

#[tokio::test]
async fn after_a_full_ibft_the_next_tries_do_without() {
    let router = boot_router().await;
    let hook = "sanhook --drive 0x80 iscsi:";
    let first = get_script(&router, "/boot/52-54-00-00-00-01?platform=pcbios&hostname=web-1").await;
    assert!(first.contains(hook) && !first.contains("warning"), "{first}");
    let other = next_query(&first, "0xf0a6039", "web-1");
    let second = get_script(&router, &format!("/boot/{other}")).await;
    assert!(second.contains(hook) && !second.contains("warning"), "{second}");
    let full = next_query(&second, "0x34852039", "web-1");
    let mut script = get_script(&router, &format!("/boot/{full}")).await;
    // Later failures of other kinds keep the limit, and so does a wait.
    for attempt in 3..6 {
        let start = format!(
            "#!ipxe\necho volboot: web-1: try {attempt} of 10\necho volboot: warning: the iBFT cannot hold volume root:"
        );
        assert!(script.starts_with(&start), "{script}");
        assert!(script.contains("sanhook --drive 0x80 --no-describe iscsi:"), "{script}");
        assert!(script.contains("sanboot --drive 0x80 --no-describe ||"), "{script}");
        script = get_script(&router, &format!("/boot/{}", next_query(&script, "0x4c0a6039", "web-1"))).await;
    }
}

#[tokio::test]
async fn a_long_host_name_leaves_no_room_in_the_ibft() {
    let router = boot_router().await;
    let path = "/boot/52-54-00-00-00-01?hostname=";
    let script = get_script(&router, &format!("{path}{}&platform=pcbios", "h".repeat(255))).await;
    assert!(script.contains("warning: the iBFT cannot hold volume root:"), "{script}");
    let script = get_script(&router, &format!("{path}{}&platform=efi", "h".repeat(255))).await;
    assert!(!script.contains("warning"), "{script}");
}

#[tokio::test]
async fn store_error_makes_the_machine_wait() {
    let store = Arc::new(MemoryStore::default());
    store.write(Batch::default().put("port-address/52:54:00:00:00:01", "nonsense")).await.expect("writes");
    let script =
        get_script(&router_over(store.clone(), Inventory::new(store)), "/boot/52-54-00-00-00-01").await;
    assert!(
        script.starts_with("#!ipxe\necho volboot: the store cannot be read; see the log of volboot\n"),
        "{script}"
    );
    assert!(script.contains("\nsleep 10 ||\n"), "{script}");
}

#[tokio::test]
async fn boot_report_response_has_a_body() {
    let (status, _, body) = request_from(
        &boot_router().await,
        "[fe80::1]:1",
        Method::GET,
        "/boot/52-54-00-00-00-01/event?step=hooked&try=1",
    )
    .await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "noted\n"));
}

#[tokio::test]
async fn other_networks_reach_healthz_only() {
    let router = boot_router().await;
    for remote in ["203.0.113.9:1", "[2001:db8::1]:1", "[::ffff:203.0.113.9]:1"] {
        let (_, _, script) = request_from(&router, remote, Method::GET, "/boot/52-54-00-00-00-01").await;
        assert!(
            script.contains(" is not in any network of [http] allow\n") && script.ends_with("exit 1\n"),
            "{script}"
        );
        let (status, _, _) = request_from(&router, remote, Method::GET, "/images/ipxe.efi").await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(request_from(&router, remote, Method::GET, "/healthz").await.0, StatusCode::OK);
    }
    let (status, _, _) = request_from(&router, "[::ffff:10.1.2.3]:1", Method::GET, "/boot.ipxe").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn rate_limit_delays_scripts_and_rejects_reports() {
    let router = boot_router().await;
    let uri = "/boot/52-54-00-00-00-01?macs=52-54-00-00-00-01&try=4";
    let (mut sent, mut script) = (0, get_script(&router, uri).await);
    // On a slow host the bucket refills meanwhile.
    while sent < 1000 && script.contains("sanboot") {
        sent += 1;
        script = get_script(&router, uri).await;
    }
    assert!((30..1000).contains(&sent), "{sent}");
    assert!(
        script
            .contains("echo volboot: requests from 52:54:00:00:00:01 or 192.168.0.7 exceed the rate limit "),
        "{script}"
    );
    assert!(script.contains("sleep 15 ") && script.contains("&try=4"), "{script}");
    assert!(!script.contains("hunter2") && !script.contains("password"), "{script}");
    let report = "/boot/52-54-00-00-00-01/event?step=hooked";
    let mut refused = false;
    for _ in 0..10 {
        let (status, ..) = request_from(&router, "192.168.0.7:1024", Method::GET, report).await;
        refused |= status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(refused);
    // Files are counted apart.
    let (status, ..) = request_from(&router, "192.168.0.7:1024", Method::GET, "/boot.ipxe").await;
    assert_eq!(status, StatusCode::OK);
    let (status, ..) =
        request_from(&router, "192.168.0.8:1024", Method::GET, "/boot/52-54-00-00-00-02").await;
    assert_eq!(status, StatusCode::OK);
}

/// Firmware that looks for many names still gets its script, and the history gets none of the names over the limit.
#[tokio::test]
async fn files_and_missing_paths_have_a_rate_limit_of_their_own() {
    let router = boot_router().await;
    let mut statuses = Vec::new();
    for number in 0..100 {
        let uri = format!("/images/{number}{}.efi", "x".repeat(15_000));
        statuses.push(request_from(&router, "192.168.0.7:1024", Method::GET, &uri).await.0);
    }
    let allowed = statuses.iter().take_while(|status| **status == StatusCode::NOT_FOUND).count();
    assert!((30..100).contains(&allowed), "{statuses:?}");
    let mut limited = false;
    for _ in 0..10 {
        let (status, ..) = request_from(&router, "192.168.0.7:1024", Method::GET, "/v1/nodes").await;
        limited |= status == StatusCode::TOO_MANY_REQUESTS;
    }
    assert!(limited);
    for uri in ["/boot/52-54-00-00-00-01", "/boot.ipxe"] {
        let script = get_script(&router, uri).await;
        assert!(script.starts_with("#!ipxe"), "{script}");
    }
}

/// The scripts that every machine reads first have the limit of files, with a burst for a rack behind one address.
#[tokio::test]
async fn first_scripts_are_limited_and_a_rack_behind_one_address_is_not() {
    let router = boot_router().await;
    let get = async |remote: &str, uri: &str| request_from(&router, remote, Method::GET, uri).await.0;
    // 32 machines, each of which asks twice.
    for machine in 1024..1056 {
        for uri in ["/autoexec.ipxe", "/boot.ipxe"] {
            assert_eq!(get(&format!("192.168.0.7:{machine}"), uri).await, StatusCode::OK, "{uri}");
        }
    }
    // Even with the binary, which UEFI firmware requests twice; this host lacks it.
    for machine in 1024..1056 {
        for _ in 0..2 {
            let status = get(&format!("192.168.0.7:{machine}"), "/images/snponly.efi").await;
            assert_eq!(status, StatusCode::NOT_FOUND);
        }
    }
    let mut allowed = 0;
    for uri in ["/boot.ipxe", "/autoexec.ipxe", "/images/autoexec.ipxe", "/tftpboot/boot.ipxe"] {
        assert_eq!(get("192.168.0.8:1", uri).await, StatusCode::OK, "{uri}: another address");
        for _ in 0..1000 {
            let status = get("192.168.0.7:1", uri).await;
            if status == StatusCode::TOO_MANY_REQUESTS {
                break;
            }
            assert_eq!(status, StatusCode::OK, "{uri}");
            allowed += 1;
        }
        assert!(allowed < 1000, "{uri} is not limited");
    }
    // iPXE repeats the request by itself, without executing the text.
    let peer = Peer {
        remote: "192.168.0.7:1".parse().expect("an address"),
        local: "192.168.0.1:8080".parse().expect("an address"),
        tls: false,
    };
    let mut retry_after = None;
    for _ in 0..10 {
        let request = Request::builder().uri("/boot.ipxe").extension(peer).body(Body::empty());
        let response = router.clone().oneshot(request.expect("a request")).await.expect("a response");
        retry_after = retry_after.or(response.headers().get(header::RETRY_AFTER).cloned());
    }
    assert_eq!(retry_after.expect("the header"), "15");
    // Boot requests are counted apart.
    let script = get_script(&router, "/boot/52-54-00-00-00-01").await;
    assert!(script.contains("sanboot"), "{script}");
}
