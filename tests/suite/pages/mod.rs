//! The web pages, requested with the headers of a browser, over a store in memory.

mod actions;
mod pictures;
mod security;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use tower::ServiceExt as _;
use uuid::Uuid;
use volboot::auth::{Auth, BrowserGuard};
use volboot::model::{
    BootOutcome, BootStep, Mac, Node, Platform, Port, PowerState, StorageInterface, TransferOutcome,
    VolumeConnector, VolumeTarget,
};
use volboot::store::{Inventory, UniqueKey};
use volboot::telemetry::{BootRequestEvent, Event, EventKind, TftpTransfer};
use volboot::timeline::Timeline;
use volboot::web::router;

use crate::daemon::LIMIT;
use crate::operator::build_operator_with_history;

/// The `User-Agent` of Chromium.
const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0";
const HOST: &str = "192.0.2.1:6385";

struct Site {
    pages: Router,
    inventory: Inventory,
    timeline: Timeline,
    /// Directory of the history.
    _directory: TempDir,
}

struct PageResponse {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Site {
    fn new() -> Self {
        Self::with_auth(Auth::NoAuth)
    }

    fn with_auth(auth: Auth) -> Self {
        let directory = tempfile::tempdir().expect("temporary directory");
        let operator = Arc::new(build_operator_with_history(Some(&directory.path().join("history.redb"))));
        Self {
            pages: BrowserGuard::new(&[]).wrap(router(Arc::clone(&operator), auth)),
            inventory: operator.inventory.clone(),
            timeline: operator.timeline.clone(),
            _directory: directory,
        }
    }

    /// Records an event and waits until the timeline has processed it.
    async fn record(&self, mac: Mac, kind: EventKind) {
        self.record_at(Timestamp::now(), Some(mac), None, kind).await;
    }

    async fn record_at(&self, at: Timestamp, mac: Option<Mac>, address: Option<IpAddr>, kind: EventKind) {
        let mut updates = self.timeline.subscribe();
        self.timeline.record(Event::new(at, mac, address, kind));
        tokio::time::timeout(LIMIT, updates.recv()).await.expect("within the limit").expect("an update");
    }

    async fn get(&self, path: &str) -> PageResponse {
        self.request("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, form: &str) -> PageResponse {
        let headers =
            [("origin", "http://192.0.2.1:6385"), ("content-type", "application/x-www-form-urlencoded")];
        self.request("POST", path, &headers, form).await
    }

    async fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> PageResponse {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", CHROMIUM);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", HOST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("valid request");
        let response = self.pages.clone().oneshot(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let body = String::from_utf8(bytes.to_vec()).expect("UTF-8 text");
        PageResponse { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Creates a node with external storage and a CHAP secret.
    async fn create_node(&self, name: &str, mac: Mac) -> Uuid {
        let now = Timestamp::now();
        let mut node = Node::new(Uuid::new_v4(), "manual-management", StorageInterface::External, now);
        node.name = Some(name.into());
        node.properties =
            serde_json::from_value(json!({"capabilities": "iscsi_boot:True"})).expect("JSON object");
        self.inventory.create(&node).await.expect("create succeeds");
        self.inventory
            .create(&Port::new(Uuid::new_v4(), node.uuid, mac, now))
            .await
            .expect("create succeeds");
        let iqn = format!("iqn.2017-08.org.openstack.{name}");
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", &iqn, now);
        self.inventory.create(&connector).await.expect("create succeeds");
        let mut target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, "root-volume", now);
        target.properties = serde_json::from_value(json!({
            "target_portal": "192.0.2.2:3260", "target_iqn": "iqn.2010-10.org.example:root", "target_lun": 1,
            "auth_method": "CHAP", "auth_username": "ann", "auth_password": "hunter2 hunter2",
        }))
        .expect("JSON object");
        self.inventory.create(&target).await.expect("create succeeds");
        node.uuid
    }
}

impl PageResponse {
    #[track_caller]
    fn page(self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        self.body
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("UTF-8 text")
    }
}

fn mac(last: u16) -> Mac {
    let [high, low] = last.to_be_bytes();
    Mac::new([0x52, 0x54, 0, 0, high, low])
}

fn boot_request(name: Option<&str>, node: Option<Uuid>, outcome: BootOutcome, reason: &str) -> EventKind {
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some(Platform::Uefi),
        arch: None,
        uuid: None,
        host_name_bytes: None,
        node,
        name: name.map(str::to_owned),
        journey: None,
        resolutions: Vec::new(),
        hooks: vec!["root-volume".into()],
        warnings: Vec::new(),
        outcome,
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        held: false,
        once: None,
        attached_card: None,
        claimed_mac: None,
        duration_us: 100,
    }))
}

fn boot_report(step: BootStep, rc: Option<&str>) -> EventKind {
    EventKind::BootReport { step: Some(step), rc: rc.map(str::to_owned), attempt: 1 }
}

#[tokio::test]
async fn the_power_state_is_shown_as_recorded_and_as_inferred() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let page = async || site.get("/ui/machines/52:54:00:00:00:01").await.page();
    assert!(page().await.contains("<span class=\"state neutral\">unknown</span>"));
    let record_off = |node: &Node, _: Option<&Node>| {
        Ok::<_, ()>(node.clone().with_power_state(PowerState::Off, Timestamp::UNIX_EPOCH))
    };
    site.inventory.update(node, record_off).await.expect("update succeeds");
    assert!(page().await.contains("<span class=\"state neutral\">off</span>"));
    let mut request = boot_request(Some("web-1"), Some(node), BootOutcome::Boot, "");
    if let EventKind::BootRequest(request) = &mut request {
        request.attached_card = Some(mac(1));
    }
    site.record(mac(1), request).await;
    let page = page().await;
    assert!(page.contains("<span class=\"state neutral\">off</span>"), "{page}");
    assert!(page.contains("<dt>Power</dt><dd>on, inferred from the boot request just now</dd>"), "{page}");
}

#[tokio::test]
async fn an_empty_list_explains_when_machines_appear() {
    let page = Site::new().get("/ui/").await.page();
    assert!(page.contains("<h1>Machines</h1>") && page.contains("No machines yet."), "{page}");
    assert!(!page.contains("<table"));
}

#[tokio::test]
async fn the_list_shows_verdicts_and_can_be_filtered() {
    let site = Site::new();
    site.record(mac(1), boot_request(Some("web-1"), Some(Uuid::nil()), BootOutcome::Boot, "")).await;
    site.record(mac(1), boot_report(BootStep::Hook(0), Some("0f0a6039"))).await;
    site.record(
        mac(2),
        boot_request(None, None, BootOutcome::Unknown, "no node has a port with the address"),
    )
    .await;
    let page = site.get("/ui/").await.page();
    assert!(page.contains(r#"<a href="/ui/machines/52:54:00:00:00:01">web-1</a>"#), "{page}");
    assert!(page.contains("failed: connecting to volume root-volume: "), "{page}");
    assert!(page.contains(r#"href="/ui/machines/52:54:00:00:00:02#enroll""#), "{page}");
    let contains = |page: &str| (page.contains("00:00:01\""), page.contains("00:00:02\""));
    assert_eq!(contains(&site.get("/ui/?state=unknown").await.page()), (false, true));
    assert_eq!(contains(&site.get("/ui/?q=WEB").await.page()), (true, false));
    assert_eq!(contains(&site.get("/ui/?q=no+node+has").await.page()), (false, true));
    assert_eq!(contains(&site.get("/ui/?q=web&state=unknown").await.page()), (false, false));
    assert!(site.get("/ui/?q=web&state=unknown").await.page().contains("No machine matches."));
}

#[tokio::test]
async fn a_machine_in_a_boot_loop_comes_first_and_is_highlighted() {
    let site = Site::new();
    site.record(mac(1), boot_request(Some("loops"), Some(Uuid::nil()), BootOutcome::Boot, "")).await;
    site.record(mac(1), EventKind::LoopDelay { journeys: 7, seconds: 60 }).await;
    site.record(mac(2), boot_request(Some("later"), Some(Uuid::nil()), BootOutcome::Boot, "")).await;
    let page = site.get("/ui/").await.page();
    assert!(
        page.contains("1 machine in a boot loop</a>: boot sessions restart without a hooked volume."),
        "{page}"
    );
    let position = |text: &str| page.find(text).expect("a row");
    assert!(position(">loops<") < position(">later<") && page.contains(r#"<tr class="looping">"#), "{page}");
}

#[tokio::test]
async fn long_lists_are_paged_and_every_machine_appears_once() {
    let site = Site::new();
    for n in 0..250 {
        site.record(mac(n), boot_request(Some("web & co"), Some(Uuid::nil()), BootOutcome::Boot, "")).await;
    }
    let mut links = BTreeMap::new();
    let (mut next, mut pages) = (Some("/ui/?q=web+%26+co".to_owned()), 0);
    while let Some(path) = next {
        let page = site.get(&path).await.page();
        for part in page.split("href=\"/ui/machines/").skip(1) {
            *links.entry(part.split('"').next().expect("a link").to_owned()).or_insert(0) += 1;
        }
        let (before, _) = page.split_once("\" rel=\"next\"").unwrap_or_default();
        next = before.rsplit_once("href=\"").map(|(_, link)| link.replace("&#38;", "&"));
        pages += 1;
    }
    assert_eq!((pages, links.len(), links.values().max()), (3, 250, Some(&1)));
    for query in ["page=99", "page=0", "page=x", "page=-1"] {
        site.get(&format!("/ui/?{query}")).await.page();
    }
}

#[tokio::test]
async fn text_from_machines_is_escaped() {
    let site = Site::new();
    let evil = "<script>alert(1)</script>\"'>";
    let transfer = TftpTransfer {
        file: evil.into(),
        outcome: TransferOutcome::Aborted,
        size: 0,
        block_size: 512,
        window_size: 1,
        blocks: 0,
        retransmissions: 0,
        duration_ms: 1,
        client_message: Some(evil.into()),
        refusal: None,
    };
    let address = "198.51.100.7".parse().expect("valid address");
    site.record_at(Timestamp::now(), None, Some(address), EventKind::TftpTransfer(transfer)).await;
    let mut request = boot_request(Some(evil), None, BootOutcome::Unknown, evil);
    if let EventKind::BootRequest(event) = &mut request {
        event.arch = Some(evil.into());
        event.outcome = BootOutcome::Other(evil.into());
    }
    site.record(mac(1), request).await;
    let query = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%3E";
    for path in [
        "/ui/",
        &format!("/ui/?q={query}&state={query}&page={query}"),
        "/ui/machines/198.51.100.7",
        "/ui/machines/52:54:00:00:00:01",
        &format!("/ui/machines/{query}"),
        &format!("/ui/nodes/{query}"),
    ] {
        let response = site.get(path).await;
        assert!(!response.body.contains("<script>alert"), "{path}: {}", response.body);
        assert!(!response.body.contains("\"'>"), "{path}: {}", response.body);
    }
    let form = format!("name={query}&iqn={query}&volume={query}&user={query}&secret={query}");
    let response = site.post("/ui/machines/52:54:00:00:00:01/enroll", &form).await;
    assert_eq!(response.status, 422);
    assert!(!response.body.contains("<script>alert") && !response.body.contains("\"'>"), "{}", response.body);
}

#[tokio::test]
async fn a_machine_s_page_shows_everything_except_secrets() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let now = Timestamp::now();
    let ago = |seconds| now - SignedDuration::from_secs(seconds);
    let address = "192.0.2.7".parse().ok();
    site.record_at(ago(900), Some(mac(1)), address, EventKind::SessionStarted).await;
    site.record_at(
        ago(899),
        Some(mac(1)),
        address,
        boot_request(None, None, BootOutcome::Unknown, "an earlier reason"),
    )
    .await;
    site.record_at(ago(20), Some(mac(1)), address, EventKind::SessionStarted).await;
    site.record_at(
        ago(19),
        Some(mac(1)),
        address,
        boot_request(Some("web-1"), Some(node), BootOutcome::Boot, ""),
    )
    .await;
    site.record_at(ago(15), Some(mac(1)), address, boot_report(BootStep::Hooked, None)).await;
    let page = site.get("/ui/machines/52:54:00:00:00:01").await.page();
    for text in [
        "<h1>web-1 ",
        "volume hooked after 5 s",
        "<summary>2 earlier events</summary>",
        "an earlier reason",
        "boot request (UEFI), try 1; boot script sent",
        "+5.0 s",
        "root-volume",
        "192.0.2.2:3260, LUN 1, iqn.2010-10.org.example:root",
        "CHAP user ann",
        "iqn.2017-08.org.openstack.web-1",
        "The machine would boot from its volumes.",
        "set initiator-iqn iqn.2017-08.org.openstack.web-1",
        "set password:hex ******",
        "sanhook --drive 0x80",
        "192.0.2.7",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let hex = "hunter2 hunter2".bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    assert!(!page.contains("hunter2") && !page.contains(&hex), "{page}");
    // The live page has the same timeline, but no preview.
    let live = site.get("/ui/machines/52:54:00:00:00:01?live=1").await.page();
    let timeline = |page: &str| {
        page.split("id=\"timeline\"").nth(1).and_then(|rest| rest.split("</ol>").next()).map(str::to_owned)
    };
    assert_eq!(timeline(&live), timeline(&page));
    assert!(!live.contains("sanhook"));
    for name in ["web-1", &node.to_string()] {
        let response = site.get(&format!("/ui/nodes/{name}")).await;
        assert_eq!((response.status, response.header("location")), (303, "/ui/machines/52:54:00:00:00:01"));
    }
}

#[tokio::test]
async fn a_node_without_a_seen_machine_has_a_page_and_is_found_by_name() {
    let site = Site::new();
    let node = site.create_node("web-1", mac(1)).await;
    let page = site.get("/ui/?q=web-1").await.page();
    assert!(page.contains(&format!("Node <a href=\"/ui/nodes/{node}\">web-1</a> is registered")), "{page}");
    assert!(
        site.get("/ui/machines/52:54:00:00:00:01")
            .await
            .page()
            .contains("This machine has not been seen yet.")
    );
    assert_eq!(site.get("/ui/machines/52:54:00:00:00:02").await.status, 404);
    assert_eq!(site.get("/ui/nodes/web-2").await.status, 404);
    assert_eq!(site.get("/ui/nothing").await.status, 404);
}

#[tokio::test]
async fn an_unknown_machine_is_enrolled_by_a_form() {
    let site = Site::new();
    site.record(
        mac(1),
        boot_request(None, None, BootOutcome::Unknown, "no node has a port with the address"),
    )
    .await;
    let machine = "/ui/machines/52:54:00:00:00:01";
    let page = site.get(machine).await.page();
    assert!(page.contains(r#"value="iqn.2017-08.org.openstack.52-54-00-00-00-01""#), "{page}");
    let form = |name: &str| {
        format!(
            "name={name}&iqn=iqn.2017-08.org.openstack.{name}&user=ann&secret=hunter2+hunter2&\
             volume=iscsi%3A192.0.2.2%3A%3A3260%3A1%3Aiqn.2010-10.org.example%3Aroot"
        )
    };
    let response = site.post(&format!("{machine}/enroll"), &form("web-1")).await;
    assert_eq!((response.status, response.header("location")), (303, machine));
    let node = site
        .inventory
        .find::<Node>(&UniqueKey::NodeName("web-1".into()))
        .await
        .expect("read succeeds")
        .expect("the node");
    assert_eq!(node.value.storage_interface, StorageInterface::External);
    let page = site.get(machine).await.page();
    assert!(
        page.contains("The machine would boot from its volumes.") && !page.contains("id=\"enroll\""),
        "{page}"
    );
    assert!(!page.contains("hunter2"));
    // A conflict with an existing node: nothing is created for the second machine.
    site.record(
        mac(2),
        boot_request(None, None, BootOutcome::Unknown, "no node has a port with the address"),
    )
    .await;
    let response = site.post("/ui/machines/52:54:00:00:00:02/enroll", &form("web-1")).await;
    assert_eq!(response.status, 422);
    assert!(response.body.contains("Another node has the name web-1."), "{}", response.body);
    assert!(
        response.body.contains(r#"value="web-1""#) && !response.body.contains("hunter2"),
        "{}",
        response.body
    );
    assert_eq!(site.inventory.find_ports(&[mac(2)]).await.expect("read succeeds"), []);
}

#[tokio::test]
async fn the_appliance_page_shows_the_status() {
    let page = Site::new().get("/ui/appliance").await.page();
    for text in ["192.0.2.1:69", "not configured", "read in ", "memory", "No iPXE binaries found"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
}
