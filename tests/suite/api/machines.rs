//! volboot's extensions: machines, timelines, previews, events, metrics, appliance status and enrollment.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use volboot::model::{BootOutcome, BootStep, Mac, Platform};
use volboot::telemetry::{BootRequestEvent, Event, EventKind};
use volboot::timeline::{CountedCard, MachineId, Timeline};

use super::Api;

/// The time limit of each wait.
const LIMIT: Duration = Duration::from_secs(20);

fn mac(last: u8) -> Mac {
    Mac::new([0x52, 0x54, 0, 0, 0, last])
}

fn boot_request(outcome: BootOutcome, reason: Option<&str>, node: Option<&str>) -> EventKind {
    EventKind::BootRequest(Box::new(BootRequestEvent {
        attempt: 1,
        tries: 10,
        macs: Vec::new(),
        platform: Some(Platform::Uefi),
        arch: None,
        uuid: None,
        host_name_bytes: None,
        node: node.map(|uuid| uuid.parse().expect("a UUID")),
        name: node.map(|_| "web-1".into()),
        journey: None,
        resolutions: Vec::new(),
        hooks: Vec::new(),
        warnings: Vec::new(),
        outcome,
        reason: reason.map(str::to_owned),
        held: false,
        once: None,
        attached_card: None,
        claimed_mac: None,
        duration_us: 10,
    }))
}

/// Records an event and waits until the timeline has processed it.
async fn record_event(timeline: &Timeline, last: u8, kind: EventKind) {
    let address: IpAddr = [192, 0, 2, last].into();
    timeline.record(Event::new(Timestamp::now(), Some(mac(last)), Some(address), kind));
    let deadline = Instant::now() + LIMIT;
    while timeline.queued_events() > 0 || timeline.machine(MachineId::Mac(mac(last))).is_none() {
        assert!(Instant::now() < deadline, "the timeline has not processed the event");
        tokio::task::yield_now().await;
    }
}

fn api_with_timeline() -> (Api, Timeline) {
    // Events are read from a file. The timeline keeps the file open after the directory is deleted.
    let directory = tempfile::tempdir().expect("a directory");
    let mut timeline = None;
    let api = Api::with(|operator| {
        let path = directory.path().join("history.redb");
        *operator = crate::operator::build_operator_with_history(Some(&path));
        timeline = Some(operator.timeline.clone());
    });
    (api, timeline.expect("the operator was configured"))
}

/// Creates a bootable node with the MAC address `mac(1)`.
async fn create_bootable_node(api: &Api) -> String {
    let node = api
        .create_node(json!({
            "name": "web-1", "storage_interface": "external", "properties": {"capabilities": "iscsi_boot:True"},
        }))
        .await;
    let port = json!({"node_uuid": node, "address": mac(1).to_string()});
    api.post("/v1/ports", port).await.expect(201);
    let connector = json!({
        "node_uuid": node, "type": "iqn", "connector_id": "iqn.2017-08.org.openstack.web-1",
    });
    api.post("/v1/volume/connectors", connector).await.expect(201);
    let properties = json!({
        "target_portal": "192.0.2.9:3260", "target_iqn": "iqn.2010-10.org.openstack:root", "target_lun": 1,
        "auth_method": "CHAP", "auth_username": "user", "auth_password": "hunter2",
    });
    let target = json!({
        "node_uuid": node, "volume_type": "iscsi", "boot_index": 0, "volume_id": "root", "properties": properties,
    });
    api.post("/v1/volume/targets", target).await.expect(201);
    node
}

#[tokio::test]
async fn machines_are_listed_with_verdicts_and_filters() {
    let (api, timeline) = api_with_timeline();
    let node = create_bootable_node(&api).await;
    record_event(&timeline, 1, boot_request(BootOutcome::Boot, None, Some(&node))).await;
    record_event(
        &timeline,
        2,
        boot_request(BootOutcome::Unknown, Some("no node has a port with the address X"), None),
    )
    .await;
    let list = api.get("/v1/machines").await.expect(200);
    let listed = list["machines"].as_array().expect("a list");
    let ids: Vec<_> = listed.iter().map(|machine| machine["id"].as_str().expect("a string")).collect();
    assert_eq!(ids, ["52:54:00:00:00:02", "52:54:00:00:00:01"]);
    assert_eq!(
        listed[0]["verdict"],
        json!({
            "state": "unknown", "advice": "Enroll the machine with `volboot enroll`.",
            "text": "unknown machine: no node has a port with the address X",
        })
    );
    assert_eq!((&listed[1]["name"], &listed[1]["node"]), (&json!("web-1"), &json!(node)));
    for (query, expected) in [
        ("state=unknown", vec!["52:54:00:00:00:02"]),
        ("state=booted", vec![]),
        ("q=web", vec!["52:54:00:00:00:01"]),
        ("q=192.0.2.2", vec!["52:54:00:00:00:02"]),
        ("q=52:54", vec!["52:54:00:00:00:02", "52:54:00:00:00:01"]),
        ("limit=1", vec!["52:54:00:00:00:02"]),
        ("after=52:54:00:00:00:02", vec!["52:54:00:00:00:01"]),
    ] {
        let page = api.get(&format!("/v1/machines?{query}")).await.expect(200);
        let ids = page["machines"].as_array().expect("a list").iter();
        let ids: Vec<_> = ids.map(|machine| machine["id"].as_str().expect("a string")).collect();
        assert_eq!(ids, expected, "{query}");
        let next = json!("http://boot.example:6385/v1/machines?limit=1&after=52:54:00:00:00:02");
        assert_eq!(page.get("next"), (query == "limit=1").then_some(&next), "{query}");
    }
    for invalid in ["state=lost", "limit=0", "after=web-1", "x=1"] {
        api.get(&format!("/v1/machines?{invalid}")).await.expect_fault(400);
    }
    api.get("/v1/machines?after=52:54:00:00:00:09").await.expect_fault(404);
    api.get("/v1/machines/52:54:00:00:00:09").await.expect_fault(404);
    api.get("/v1/machines/invalid").await.expect_fault(400);
}

#[tokio::test]
async fn machines_and_nodes_have_a_timeline() {
    let (api, timeline) = api_with_timeline();
    let node = create_bootable_node(&api).await;
    record_event(&timeline, 1, boot_request(BootOutcome::Boot, None, Some(&node))).await;
    record_event(&timeline, 1, EventKind::BootReport { step: Some(BootStep::Hooked), rc: None, attempt: 1 })
        .await;
    let machine = api.get("/v1/machines/52-54-00-00-00-01").await.expect(200);
    let history = api.get("/v1/nodes/web-1/boot-history").await.expect(200);
    assert_eq!(machine["timeline"], history["timeline"]);
    let texts = |timeline: &Value| -> Vec<String> {
        let entries = timeline.as_array().expect("a list").iter();
        entries.map(|entry| entry["text"].as_str().expect("a string").to_owned()).collect()
    };
    assert_eq!(
        texts(&history["timeline"]),
        ["boot request (UEFI), try 1; boot script sent", "volumes hooked: login succeeded, disks found"]
    );
    assert_eq!(history["verdict"]["state"], "hooked");
    assert_eq!(history["machines"][0]["id"], "52:54:00:00:00:01");
    // A node without boots has an empty history.
    api.create_node(json!({"name": "web-2"})).await;
    let without_port = api.get("/v1/nodes/web-2/boot-history").await.expect(200);
    assert_eq!((&without_port["verdict"], &without_port["timeline"]), (&Value::Null, &json!([])));
    api.get("/v1/nodes/web-3/boot-history").await.expect_fault(404);
}

#[tokio::test]
async fn manage_records_the_power_state_with_its_time() {
    let (api, _timeline) = api_with_timeline();
    create_bootable_node(&api).await;
    api.put("/v1/nodes/web-1/states/provision", json!({"target": "manage"})).await.expect(202);
    let power = api.get("/v1/nodes/web-1/boot-history").await.expect(200)["power"].take();
    assert_eq!(power["recorded"], "power off");
    assert!(power["recorded_at"].is_string(), "{power}");
}

#[tokio::test]
async fn an_inferred_power_state_is_shown_and_prevents_no_change_of_targets() {
    let (api, timeline) = api_with_timeline();
    let node = create_bootable_node(&api).await;
    let power = async |path: &str| api.get(path).await.expect(200)["power"].take();
    let (of_node, of_machine) = ("/v1/nodes/web-1/boot-history", "/v1/machines/52:54:00:00:00:01");
    let unknown = json!({"recorded": null, "recorded_at": null, "inferred": null, "inferred_at": null});
    assert_eq!(power(of_node).await, unknown);
    let set_power = json!({"target": "power off"});
    api.put("/v1/nodes/web-1/states/power", set_power.clone()).await.expect(202);
    let mut request = boot_request(BootOutcome::Boot, None, Some(&node));
    record_event(&timeline, 1, request.clone()).await;
    assert_eq!(power(of_node).await["inferred"], Value::Null, "the neighbour table showed no card");
    if let EventKind::BootRequest(request) = &mut request {
        request.attached_card = Some(mac(1));
        request.attempt = 2;
    }
    record_event(&timeline, 1, request).await;
    let shown = power(of_node).await;
    assert_eq!((&shown["recorded"], &shown["inferred"]), (&json!("power off"), &json!("power on")));
    assert!(shown["inferred_at"].is_string() && shown["recorded_at"].is_string());
    assert_eq!(power(of_machine).await, shown);
    let list = api.get("/v1/machines").await.expect(200);
    assert_eq!(list["machines"][0]["inferred_on_at"], shown["inferred_at"]);
    assert_eq!(api.get("/v1/nodes/web-1").await.expect(200)["power_state"], "power off");
    let targets = api.get("/v1/volume/targets").await.expect(200);
    let target = format!("/v1/volume/targets/{}", targets["targets"][0]["uuid"].as_str().expect("a UUID"));
    let change = json!([{"op": "replace", "path": "/properties/target_lun", "value": 2}]);
    api.patch(&target, change).await.expect(200);
    // A later record supersedes it.
    api.put("/v1/nodes/web-1/states/power", set_power).await.expect(202);
    assert_eq!(power(of_node).await["inferred"], Value::Null);
    assert_eq!(power(of_machine).await["recorded"], "power off");
}

#[tokio::test]
async fn a_preview_is_the_boot_script_with_masked_secrets() {
    let (api, timeline) = api_with_timeline();
    let node = create_bootable_node(&api).await;
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!((&preview["outcome"], &preview["reason"]), (&json!("boot"), &Value::Null));
    let script = preview["script"].as_str().expect("a string");
    assert!(
        script.contains("set password:hex ******\n") && script.contains("sanhook --drive 0x80"),
        "{script}"
    );
    assert!(!script.contains("68:75:6e:74:65:72:32"), "{script}");
    assert_eq!(preview["requester"], json!({"macs": ["52:54:00:00:00:01"], "platform": null}));
    // The platform is that of the machine's last boot.
    record_event(&timeline, 1, boot_request(BootOutcome::Boot, None, Some(&node))).await;
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(preview["requester"]["platform"], "efi");
    let preview = api.get("/v1/nodes/web-1/boot-preview?platform=pcbios").await.expect(200);
    assert_eq!(preview["requester"]["platform"], "pcbios");
    api.get("/v1/nodes/web-1/boot-preview?platform=riscv").await.expect_fault(400);
    // Previews record no events.
    assert_eq!(timeline.events_blocking(MachineId::Mac(mac(1))).len(), 1);
    api.put("/v1/nodes/web-1/maintenance", json!({"reason": "disks"})).await.expect(202);
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(
        (&preview["outcome"], &preview["reason"]),
        (&json!("refused"), &json!("node web-1: maintenance is set (disks)"))
    );
    api.create_node(json!({"name": "web-2"})).await;
    let without_port = api.get("/v1/nodes/web-2/boot-preview").await.expect(200);
    assert_eq!((&without_port["outcome"], &without_port["script"]), (&json!("unknown"), &Value::Null));
}

#[tokio::test]
async fn a_preview_shows_that_a_boot_loop_holds_the_machine() {
    let mut timeline = None;
    let api = Api::with(|operator| timeline = Some(operator.timeline.clone()));
    let timeline = timeline.expect("the operator was configured");
    create_bootable_node(&api).await;
    let card = CountedCard { mac: mac(1), is_confirmed: true };
    for journey in ["a", "b", "c", "d", "e", "f"] {
        timeline.loop_detector().check(card, journey, Instant::now());
    }
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    let reason =
        "boot loop: 6 boot sessions in a row without a hooked volume; the machine's timeline shows why";
    assert_eq!((&preview["outcome"], &preview["reason"]), (&json!("wait"), &json!(reason)));
    let script = preview["script"].as_str().expect("a string");
    assert!(script.contains("\nsleep ") && !script.contains("sanhook"), "{script}");
    let hooked = EventKind::BootReport { step: Some(BootStep::Hooked), rc: None, attempt: 1 };
    record_event(&timeline, 1, hooked).await;
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!((&preview["outcome"], &preview["reason"]), (&json!("boot"), &Value::Null));
}

#[tokio::test]
async fn events_are_streamed_until_shutdown() {
    let mut timeline = None;
    let stop = CancellationToken::new();
    let api = Api::with(|operator| {
        operator.appliance.stop = stop.clone();
        timeline = Some(operator.timeline.clone());
    });
    let timeline = timeline.expect("the operator was configured");
    let request = Request::get("/v1/events?machine=52:54:00:00:00:01").header("host", "boot.example:6385");
    let request = request.body(Body::empty()).expect("a request");
    let response = api.router.clone().oneshot(request).await.expect("a response");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let mut next = async || {
        let frame = tokio::time::timeout(LIMIT, body.frame()).await.expect("in time");
        frame.map(|frame| {
            String::from_utf8(frame.expect("a frame").into_data().expect("data").to_vec()).expect("text")
        })
    };
    assert_eq!(next().await.as_deref(), Some("retry: 2000\n\n"));
    record_event(&timeline, 2, boot_request(BootOutcome::Unknown, Some("no node matches"), None)).await;
    record_event(&timeline, 1, boot_request(BootOutcome::Wait, Some("Cinder is away"), None)).await;
    let message = next().await.expect("a message");
    let data = message.strip_prefix("data: ").and_then(|data| data.strip_suffix("\n\n")).expect("data");
    let update: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(update["machine"]["id"], "52:54:00:00:00:01");
    assert_eq!(update["machine"]["verdict"]["text"], "waiting: Cinder is away");
    assert_eq!(update["event"]["text"], "boot request (UEFI), try 1; must wait: Cinder is away");
    stop.cancel();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn the_number_of_subscribers_is_limited() {
    let (api, timeline) = api_with_timeline();
    let subscribers: Vec<_> = (0..64).map(|_| timeline.subscribe()).collect();
    api.get("/v1/events").await.expect_fault(503);
    drop(subscribers);
}

#[tokio::test]
async fn metrics_and_appliance_status_are_served() {
    let (api, timeline) = api_with_timeline();
    record_event(&timeline, 2, boot_request(BootOutcome::Unknown, Some("no node matches"), None)).await;
    let text = api.get("/v1/metrics").await.expect(200);
    let text = text.as_str().expect("a string");
    for line in [
        "volboot_boot_requests_total{outcome=\"unknown\"} 1",
        "volboot_machines{state=\"unknown\"} 1",
        "volboot_store_up 1",
    ] {
        assert!(text.lines().any(|actual| actual == line), "{line} is not in\n{text}");
    }
    assert_eq!(
        api.get("/metrics").await.expect(200).as_str().expect("a string").lines().last(),
        Some("# EOF")
    );
    let appliance = api.get("/v1/appliance").await.expect(200);
    assert_eq!(appliance["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(appliance["cinder"], "not configured");
    assert_eq!(appliance["machines"]["unknown"], 1);
}

#[tokio::test]
async fn enrollment_is_atomic() {
    let (api, _timeline) = api_with_timeline();
    let body = json!({
        "name": "web-1", "mac": "52-54-00-00-00-01", "iqn": "iqn.2017-08.org.openstack.web-1",
        "target": "iscsi:192.0.2.9::3260:1:iqn.2010-10.org.openstack:root",
        "auth_username": "user", "auth_password": "hunter2",
    });
    let created = api.post("/v1/enrollments", body.clone()).await;
    let location = created.header("location").to_owned();
    let created = created.expect(201);
    let uuid = created["node"]["uuid"].as_str().expect("a UUID");
    assert_eq!(location, format!("http://boot.example:6385/v1/nodes/{uuid}"));
    assert_eq!(created["target"]["properties"]["auth_password"], "******");
    let preview = api.get("/v1/nodes/web-1/boot-preview").await.expect(200);
    assert_eq!(preview["outcome"], "boot", "{preview}");
    // The records are the same as from Ironic's own requests.
    assert_eq!(api.get("/v1/nodes/web-1").await.expect(200), created["node"]);
    assert_eq!(api.get("/v1/ports").await.expect(200)["ports"].as_array().map(Vec::len), Some(1));

    let with = |name: &str, value: Value| {
        let mut body = body.clone();
        body[name] = value;
        body
    };
    let other = with("name", json!("web-2"));
    let fault = api.post("/v1/enrollments", other.clone()).await.expect_fault(409);
    assert_eq!(fault, "A port with MAC address 52:54:00:00:00:01 already exists.");
    for (name, value) in [
        ("mac", json!("invalid")),
        ("iqn", json!("invalid")),
        ("target", json!("iscsi:invalid")),
        ("target", Value::Null),
        ("volume", json!("7f0e5a3c-0000-0000-0000-000000000001")),
        ("auth_password", Value::Null),
        ("driver", json!("ipmi")),
        ("name", json!("a b")),
        ("colour", json!("red")),
    ] {
        api.post("/v1/enrollments", with(name, value)).await.expect_fault(400);
    }
    let nodes = api.get("/v1/nodes").await.expect(200);
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "rejected enrollments leave no records");
    let mut cinder = with("mac", json!("52:54:00:00:00:02"));
    cinder["name"] = "web-2".into();
    cinder["iqn"] = "iqn.2017-08.org.openstack.web-2".into();
    for name in ["target", "auth_username", "auth_password"] {
        cinder[name] = Value::Null;
    }
    cinder["volume"] = "7f0e5a3c-0000-0000-0000-000000000001".into();
    let created = api.post("/v1/enrollments", cinder).await.expect(201);
    assert_eq!(created["node"]["storage_interface"], "cinder");
    api.delete(&format!("/v1/nodes/{uuid}")).await.expect(204);
    assert_eq!(api.get("/v1/ports").await.expect(200)["ports"].as_array().map(Vec::len), Some(1));
}
