//! The pages, asked as a browser asks for them, over a store in memory.

mod strangers;

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
use volboot::attach::{Attach, Policy};
use volboot::auth::{Auth, Browsers};
use volboot::boot::Boot;
use volboot::config::Config;
use volboot::images::Images;
use volboot::model::{Mac, Node, Port, StorageInterface, VolumeConnector, VolumeTarget};
use volboot::store::{Attachments, Inventory, MemoryStore, Store, Unique};
use volboot::telemetry::{Answered, Event, Metrics, Transfer, What};
use volboot::timeline::Timeline;
use volboot::web::{WebState, router};

use crate::daemon::LIMIT;

/// What chromium sends with every request.
const CHROMIUM: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0";
const HOST: &str = "192.0.2.1:6385";

struct Site {
    pages: Router,
    inventory: Inventory,
    timeline: Timeline,
    /// Where timelines are kept.
    _place: TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Site {
    fn new() -> Self {
        Self::guarded(Auth::Anybody)
    }

    fn guarded(auth: Auth) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
        let inventory = Inventory::new(Arc::clone(&store));
        let policy = Policy { last_known: None, resolutions: 1 };
        let attach = Attach::new(Attachments::new(store), None, policy);
        let place = tempfile::tempdir().expect("a directory");
        let timeline = Timeline::open(Some(&place.path().join("history.redb")), Metrics::new());
        let enabled = [StorageInterface::Noop, StorageInterface::External, StorageInterface::Cinder];
        let state = WebState {
            inventory: inventory.clone(),
            boot: Boot::new(inventory.clone(), attach.clone(), enabled),
            scripts: Config::default().boot,
            attach,
            timeline: timeline.clone(),
            images: Images::default(),
            auth,
            doors: vec![("tftp", "192.0.2.1:69".parse().expect("an address"))],
            store: "/nowhere/volboot.redb".into(),
            history: "/nowhere/history.redb".into(),
            started: Timestamp::now(),
        };
        Self { pages: Browsers::new(&[]).guard(router(state)), inventory, timeline, _place: place }
    }

    /// Something happened, and is known by now.
    async fn tell(&self, mac: Mac, what: What) {
        self.tell_at(Timestamp::now(), Some(mac), None, what).await;
    }

    async fn tell_at(&self, at: Timestamp, mac: Option<Mac>, address: Option<IpAddr>, what: What) {
        let mut told = self.timeline.follow();
        self.timeline.tell(Event::new(at, mac, address, what));
        tokio::time::timeout(LIMIT, told.recv()).await.expect("in time").expect("is told");
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    async fn post(&self, path: &str, form: &str) -> Answer {
        let own =
            [("origin", "http://192.0.2.1:6385"), ("content-type", "application/x-www-form-urlencoded")];
        self.ask("POST", path, &own, form).await
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("user-agent", CHROMIUM);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", HOST);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).expect("a request");
        let response = self.pages.clone().oneshot(request).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
        let body = String::from_utf8(bytes.to_vec()).expect("text");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// A node that boots what its records say, with a secret.
    async fn enrol(&self, name: &str, mac: Mac) -> Uuid {
        let now = Timestamp::now();
        let mut node = Node::new(Uuid::new_v4(), "manual-management", StorageInterface::External, now);
        node.name = Some(name.into());
        node.properties =
            serde_json::from_value(json!({"capabilities": "iscsi_boot:True"})).expect("an object");
        self.inventory.create(&node).await.expect("creates");
        self.inventory.create(&Port::new(Uuid::new_v4(), node.uuid, mac, now)).await.expect("creates");
        let iqn = format!("iqn.2017-08.org.openstack.{name}");
        let connector = VolumeConnector::new(Uuid::new_v4(), node.uuid, "iqn", &iqn, now);
        self.inventory.create(&connector).await.expect("creates");
        let mut target = VolumeTarget::new(Uuid::new_v4(), node.uuid, 0, "root-volume", now);
        target.properties = serde_json::from_value(json!({
            "target_portal": "192.0.2.2:3260", "target_iqn": "iqn.2010-10.org.example:root", "target_lun": 1,
            "auth_method": "CHAP", "auth_username": "ann", "auth_password": "hunter2 hunter2",
        }))
        .expect("an object");
        self.inventory.create(&target).await.expect("creates");
        node.uuid
    }
}

impl Answer {
    #[track_caller]
    fn page(self) -> String {
        assert_eq!(self.status, 200, "{}", self.body);
        assert_eq!(self.header("content-type"), "text/html; charset=utf-8");
        self.body
    }

    #[track_caller]
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}")).to_str().expect("text")
    }
}

fn mac(last: u16) -> Mac {
    let [high, low] = last.to_be_bytes();
    Mac::new([0x52, 0x54, 0, 0, high, low])
}

fn answered(name: Option<&str>, node: Option<Uuid>, outcome: &'static str, reason: &str) -> What {
    What::Answered(Box::new(Answered {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some("efi".into()),
        arch: None,
        uuid: None,
        node,
        name: name.map(str::to_owned),
        journey: None,
        resolved: Vec::new(),
        hooks: vec!["root-volume".into()],
        outcome: outcome.into(),
        reason: Some(reason.to_owned()).filter(|reason| !reason.is_empty()),
        micros: 100,
    }))
}

fn reported(step: &'static str, rc: Option<&str>) -> What {
    What::Reported { step: Some(step.into()), rc: rc.map(str::to_owned), attempt: 1 }
}

#[tokio::test]
async fn before_anything_happened_the_page_says_what_will() {
    let page = Site::new().get("/ui/").await.page();
    assert!(page.contains("<h1>Machines</h1>") && page.contains("No machine was heard of yet."), "{page}");
    assert!(!page.contains("<table"));
}

#[tokio::test]
async fn machines_are_listed_with_what_became_of_their_last_boots() {
    let site = Site::new();
    site.tell(mac(1), answered(Some("web-1"), Some(Uuid::nil()), "boot", "")).await;
    site.tell(mac(1), reported("hook-0", Some("0f0a6039"))).await;
    site.tell(mac(2), answered(None, None, "unknown", "no node has a port with the address")).await;
    let page = site.get("/ui/").await.page();
    assert!(page.contains(r#"<a href="/ui/machines/52:54:00:00:00:01">web-1</a>"#), "{page}");
    assert!(page.contains("stopped at connecting to volume root-volume, because"), "{page}");
    assert!(page.contains(r#"href="/ui/machines/52:54:00:00:00:02#enrol""#), "{page}");
    let only = |page: &str| (page.contains("00:00:01\""), page.contains("00:00:02\""));
    assert_eq!(only(&site.get("/ui/?state=unknown").await.page()), (false, true));
    assert_eq!(only(&site.get("/ui/?q=WEB").await.page()), (true, false));
    assert_eq!(only(&site.get("/ui/?q=no+node+has").await.page()), (false, true));
    assert_eq!(only(&site.get("/ui/?q=web&state=unknown").await.page()), (false, false));
    assert!(site.get("/ui/?q=web&state=unknown").await.page().contains("No machine is like that."));
}

#[tokio::test]
async fn a_machine_that_begins_again_and_again_comes_first_and_stands_out() {
    let site = Site::new();
    site.tell(mac(1), answered(Some("loops"), Some(Uuid::nil()), "boot", "")).await;
    site.tell(mac(1), What::Paced { journeys: 7, seconds: 60 }).await;
    site.tell(mac(2), answered(Some("later"), Some(Uuid::nil()), "boot", "")).await;
    let page = site.get("/ui/").await.page();
    assert!(page.contains("1 machine begins again and again</a> without ever hooking a volume."), "{page}");
    let (loops, later) = (page.find(">loops<").expect("is there"), page.find(">later<").expect("is there"));
    assert!(loops < later && page.contains(r#"<tr class="looping">"#), "{page}");
}

#[tokio::test]
async fn long_lists_are_paged_and_every_machine_is_on_one_page() {
    let site = Site::new();
    for n in 0..250 {
        site.tell(mac(n), answered(Some("web & co"), Some(Uuid::nil()), "boot", "")).await;
    }
    let mut seen = BTreeMap::new();
    let (mut next, mut pages) = (Some("/ui/?q=web+%26+co".to_owned()), 0);
    while let Some(path) = next {
        let page = site.get(&path).await.page();
        for part in page.split("href=\"/ui/machines/").skip(1) {
            *seen.entry(part.split('"').next().expect("a link").to_owned()).or_insert(0) += 1;
        }
        let (before, _) = page.split_once("\" rel=\"next\"").unwrap_or_default();
        next = before.rsplit_once("href=\"").map(|(_, link)| link.replace("&#38;", "&"));
        pages += 1;
    }
    assert_eq!((pages, seen.len(), seen.values().max()), (3, 250, Some(&1)));
    for beyond in ["page=99", "page=0", "page=x", "page=-1"] {
        site.get(&format!("/ui/?{beyond}")).await.page();
    }
}

#[tokio::test]
async fn what_machines_say_is_text_and_nothing_else() {
    let site = Site::new();
    let evil = "<script>alert(1)</script>\"'>";
    let transfer = Transfer {
        file: evil.into(),
        outcome: "aborted".into(),
        size: 0,
        block_size: 512,
        window: 1,
        blocks: 0,
        again: 0,
        millis: 1,
        words: Some(evil.into()),
    };
    let address = "198.51.100.7".parse().expect("an address");
    site.tell_at(Timestamp::now(), None, Some(address), What::Transfer(transfer)).await;
    let mut what = answered(Some(evil), None, "unknown", evil);
    if let What::Answered(answered) = &mut what {
        answered.arch = Some(evil.into());
        answered.platform = Some(evil.into());
    }
    site.tell(mac(1), what).await;
    let query = "%3Cscript%3Ealert%281%29%3C%2Fscript%3E%22%27%3E";
    for path in [
        "/ui/",
        &format!("/ui/?q={query}&state={query}&page={query}"),
        "/ui/machines/198.51.100.7",
        "/ui/machines/52:54:00:00:00:01",
        &format!("/ui/machines/{query}"),
        &format!("/ui/nodes/{query}"),
    ] {
        let answer = site.get(path).await;
        assert!(!answer.body.contains("<script>alert"), "{path}: {}", answer.body);
        assert!(!answer.body.contains("\"'>"), "{path}: {}", answer.body);
    }
    let form = format!("name={query}&iqn={query}&volume={query}&user={query}&secret={query}");
    let again = site.post("/ui/machines/52:54:00:00:00:01/enrol", &form).await;
    assert_eq!(again.status, 422);
    assert!(!again.body.contains("<script>alert") && !again.body.contains("\"'>"), "{}", again.body);
}

#[tokio::test]
async fn one_machine_s_page_tells_all_of_it_but_no_secret() {
    let site = Site::new();
    let node = site.enrol("web-1", mac(1)).await;
    let now = Timestamp::now();
    let ago = |seconds| now - SignedDuration::from_secs(seconds);
    let address = "192.0.2.7".parse().ok();
    site.tell_at(ago(900), Some(mac(1)), address, What::Gathered).await;
    site.tell_at(ago(899), Some(mac(1)), address, answered(None, None, "unknown", "an earlier reason")).await;
    site.tell_at(ago(20), Some(mac(1)), address, What::Gathered).await;
    site.tell_at(ago(19), Some(mac(1)), address, answered(Some("web-1"), Some(node), "boot", "")).await;
    site.tell_at(ago(15), Some(mac(1)), address, reported("hooked", None)).await;
    let page = site.get("/ui/machines/52:54:00:00:00:01").await.page();
    for text in [
        "<h1>web-1 ",
        "hooked its volume, 5 s after it began",
        "<summary>2 earlier lines</summary>",
        "an earlier reason",
        "asked for its script (UEFI), try 1; it was sent",
        "+5.0 s",
        "root-volume",
        "192.0.2.2:3260, LUN 1, iqn.2010-10.org.example:root",
        "with the secret of ann",
        "iqn.2017-08.org.openstack.web-1",
        "It would boot from its volumes.",
        "set initiator-iqn iqn.2017-08.org.openstack.web-1",
        "set password:hex ******",
        "sanhook --drive 0x80",
        "192.0.2.7",
    ] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
    let hex = "hunter2 hunter2".bytes().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":");
    assert!(!page.contains("hunter2") && !page.contains(&hex), "{page}");
    // What is asked for again and again asks nobody else, and has no less of the timeline.
    let live = site.get("/ui/machines/52:54:00:00:00:01?live=1").await.page();
    let part = |page: &str| {
        page.split("id=\"timeline\"").nth(1).and_then(|rest| rest.split("</ol>").next()).map(str::to_owned)
    };
    assert_eq!(part(&live), part(&page));
    assert!(!live.contains("sanhook"));
    for name in ["web-1", &node.to_string()] {
        let answer = site.get(&format!("/ui/nodes/{name}")).await;
        assert_eq!((answer.status, answer.header("location")), (303, "/ui/machines/52:54:00:00:00:01"));
    }
}

#[tokio::test]
async fn a_node_whose_machine_was_never_heard_of_has_a_page_and_is_found_by_its_name() {
    let site = Site::new();
    let node = site.enrol("web-1", mac(1)).await;
    let page = site.get("/ui/?q=web-1").await.page();
    assert!(page.contains(&format!("Node <a href=\"/ui/nodes/{node}\">web-1</a> is registered")), "{page}");
    assert!(
        site.get("/ui/machines/52:54:00:00:00:01")
            .await
            .page()
            .contains("Nothing was heard of this machine yet.")
    );
    assert_eq!(site.get("/ui/machines/52:54:00:00:00:02").await.status, 404);
    assert_eq!(site.get("/ui/nodes/web-2").await.status, 404);
    assert_eq!(site.get("/ui/nothing").await.status, 404);
}

#[tokio::test]
async fn a_machine_that_nobody_knew_is_enrolled_by_a_form() {
    let site = Site::new();
    site.tell(mac(1), answered(None, None, "unknown", "no node has a port with the address")).await;
    let machine = "/ui/machines/52:54:00:00:00:01";
    let page = site.get(machine).await.page();
    assert!(page.contains(r#"value="iqn.2017-08.org.openstack.52-54-00-00-00-01""#), "{page}");
    let form = |name: &str| {
        format!(
            "name={name}&iqn=iqn.2017-08.org.openstack.{name}&user=ann&secret=hunter2+hunter2&\
             volume=iscsi%3A192.0.2.2%3A%3A3260%3A1%3Aiqn.2010-10.org.example%3Aroot"
        )
    };
    let answer = site.post(&format!("{machine}/enrol"), &form("web-1")).await;
    assert_eq!((answer.status, answer.header("location")), (303, machine));
    let node = site
        .inventory
        .find::<Node>(&Unique::NodeName("web-1".into()))
        .await
        .expect("reads")
        .expect("is there");
    assert_eq!(node.value.storage_interface, StorageInterface::External);
    let page = site.get(machine).await.page();
    assert!(page.contains("It would boot from its volumes.") && !page.contains("id=\"enrol\""), "{page}");
    assert!(!page.contains("hunter2"));
    // Another machine cannot get what this one has, and then gets nothing.
    site.tell(mac(2), answered(None, None, "unknown", "no node has a port with the address")).await;
    let again = site.post("/ui/machines/52:54:00:00:00:02/enrol", &form("web-1")).await;
    assert_eq!(again.status, 422);
    assert!(again.body.contains("Another node has the name web-1."), "{}", again.body);
    assert!(again.body.contains(r#"value="web-1""#) && !again.body.contains("hunter2"), "{}", again.body);
    assert_eq!(site.inventory.ports(&[mac(2)]).await.expect("reads"), []);
}

#[tokio::test]
async fn the_appliance_tells_how_it_is() {
    let page = Site::new().get("/ui/appliance").await.page();
    for text in ["192.0.2.1:69", "not configured", "answers", "/nowhere/volboot.redb", "None was found"] {
        assert!(page.contains(text), "{text} is not in {page}");
    }
}
