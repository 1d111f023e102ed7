//! `/boot/<mac>/os`: the machine itself gets what was recorded at its boot, and nobody else gets anything.

use serde_json::Value;

use super::requesters::TestListener;
use super::*;
use crate::config::RequesterPolicy;
use crate::model::{
    Attachment, AttachmentState, BootOnce, Fallback, FallbackInForce, FallbackSource, FallbackState, Mac,
    OnceSource,
};
use crate::timeline::MachineId;

const PATH: &str = "/boot/52-54-00-00-00-01/os";
const DRACUT: &str = "rd.iscsi.initiator=iqn.2017-08.org.openstack.web-1 rd.neednet=1 \
                      netroot=iscsi:192.0.2.1::3260:1:iqn.2010-10.org.openstack:root";
const INITRAMFS_TOOLS: &str = "iscsi_initiator=iqn.2017-08.org.openstack.web-1 \
                               iscsi_target_name=iqn.2010-10.org.openstack:root iscsi_target_ip=192.0.2.1 \
                               iscsi_target_port=3260";

async fn open(check: NeighbourCheck) -> TestListener {
    TestListener::open(check, RequesterPolicy::default(), &[]).await
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).expect("JSON")
}

#[tokio::test]
async fn the_machine_gets_its_records_without_a_secret() {
    let site = open(NeighbourCheck::Unchecked).await;
    let (status, headers, body) = site.send(PATH, &[]).await;
    assert_eq!((status, headers[header::CACHE_CONTROL].as_bytes()), (StatusCode::OK, &b"no-store"[..]));
    assert_eq!(
        parse(&body),
        json!({
            "node": "web-1",
            "initiator": "iqn.2017-08.org.openstack.web-1",
            "volumes": [{
                "volume_id": "root",
                "boot_index": 0,
                "portals": [
                    { "portal": "192.0.2.1:3260", "target": "iqn.2010-10.org.openstack:root", "lun": 1 },
                ],
                "chap": true,
                "resolved_at": null,
            }],
            "kernel_arguments": { "dracut": DRACUT, "initramfs-tools": INITRAMFS_TOOLS },
        })
    );
    // Neither the secret nor the account's name.
    assert!(!body.contains("hunter2") && !body.contains("\"u\""), "{body}");
}

#[tokio::test]
async fn format_follows_the_query_then_the_accept_header() {
    let site = open(NeighbourCheck::Unchecked).await;
    for (query, accept, expected) in [
        ("?format=dracut", "application/json", DRACUT),
        ("?format=initramfs-tools", "*/*", INITRAMFS_TOOLS),
        ("", "text/plain", DRACUT),
        ("", "Text/Plain; q=0.9, text/html", DRACUT),
    ] {
        let (status, _, body) = site.send(&format!("{PATH}{query}"), &[("accept", accept)]).await;
        assert_eq!((status, body), (StatusCode::OK, format!("{expected}\n")), "{query} {accept}");
    }
    for (query, accept) in [("?format=json", "text/plain"), ("", "text/plain, */*"), ("", "*/*")] {
        let (status, _, body) = site.send(&format!("{PATH}{query}"), &[("accept", accept)]).await;
        assert_eq!((status, parse(&body)["node"].as_str()), (StatusCode::OK, Some("web-1")), "{query}");
    }
    for path in [format!("{PATH}?format=grub"), "/boot/os".into(), "/boot/52-54-00/os".into()] {
        let (status, _, body) = site.send(&path, &[]).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{path}: {body}");
    }
}

#[tokio::test]
async fn each_path_is_an_argument_of_dracut() {
    let site = open(NeighbourCheck::Unchecked).await;
    let properties = json!({
        "target_portals": ["[2001:db8::1]:3261", "192.0.2.2:3260"],
        "target_iqns": ["iqn.2010-10.org.openstack:root", "iqn.2010-10.org.openstack:other"],
        "target_luns": [300, 0],
    });
    let target =
        site.inventory.get::<VolumeTarget>(Uuid::from_u128(1)).await.expect("reads").expect("a target");
    let change = |target: &VolumeTarget, _: Option<&Node>| {
        let properties = serde_json::from_value(properties.clone()).expect("properties");
        Ok::<_, ()>(VolumeTarget { properties, ..target.clone() })
    };
    site.inventory.update(target.value.uuid, change).await.expect("updates");
    let (_, _, body) = site.send(&format!("{PATH}?format=dracut"), &[]).await;
    assert_eq!(
        body,
        "rd.iscsi.initiator=iqn.2017-08.org.openstack.web-1 rd.neednet=1 \
         netroot=iscsi:[2001:db8::1]::3261:300:iqn.2010-10.org.openstack:root \
         netroot=iscsi:192.0.2.2::3260:0:iqn.2010-10.org.openstack:other\n"
    );
    assert_eq!(parse(&site.send(PATH, &[]).await.2)["volumes"][0]["chap"], false);
}

#[tokio::test]
async fn other_requesters_get_nothing_and_are_counted() {
    let address = "10.99.0.7".parse().expect("an address");
    let stranger = Mac::new([0x52, 0x54, 0, 0, 0, 7]);
    // The card of another node.
    let other_node = Mac::new([0x52, 0x54, 0, 0, 0, 2]);
    for (check, cause, status) in [
        (NeighbourCheck::Entry { mac: stranger, address }, "other_card", StatusCode::FORBIDDEN),
        (NeighbourCheck::Entry { mac: other_node, address }, "other_card", StatusCode::FORBIDDEN),
        (NeighbourCheck::Routed { address }, "routed", StatusCode::FORBIDDEN),
        (NeighbourCheck::NoEntry { address }, "no_entry", StatusCode::SERVICE_UNAVAILABLE),
        (
            NeighbourCheck::Redirected { address, gateway: None },
            "redirected",
            StatusCode::SERVICE_UNAVAILABLE,
        ),
        (NeighbourCheck::Inconclusive("dark".into()), "inconclusive", StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let site = open(check).await;
        enroll(&site.inventory, 2).await;
        for (query, accept) in [("", "*/*"), ("?format=dracut", "*/*"), ("", "text/plain")] {
            let (got, headers, body) = site.send(&format!("{PATH}{query}"), &[("accept", accept)]).await;
            assert_eq!(got, status, "{cause}: {body}");
            assert!(!headers.contains_key(header::RETRY_AFTER), "{cause}");
            for word in ["iqn.", "192.0.2.1", "web-1", "root"] {
                assert!(!body.contains(word), "{cause}: {body}");
            }
        }
        assert!(site.has_fault(cause, 3), "{cause} is not counted");
    }
}

#[tokio::test]
async fn a_node_s_card_gets_its_own_node_s_records_only() {
    let address = "10.99.0.7".parse().expect("an address");
    let card = |last| Mac::new([0x52, 0x54, 0, 0, 0, last]);
    let site = open(NeighbourCheck::Entry { mac: card(2), address }).await;
    enroll(&site.inventory, 2).await;
    let (status, _, body) = site.send("/boot/52-54-00-00-00-02/os", &[]).await;
    assert_eq!((status, parse(&body)["node"].as_str()), (StatusCode::OK, Some("web-2")));
    // A machine without a node, by its own card.
    let site = open(NeighbourCheck::Entry { mac: card(7), address }).await;
    let (status, _, body) = site.send("/boot/52-54-00-00-00-07/os", &[]).await;
    let reason = "volboot: no node has a port with the address 52:54:00:00:00:07\n";
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, reason));
}

#[tokio::test]
async fn nothing_changes_by_a_request_and_head_has_no_body() {
    let site = open(NeighbourCheck::Unchecked).await;
    for method in [Method::GET, Method::HEAD] {
        let (status, cache, body) = request_from(&site.router, "10.99.0.1:9", method.clone(), PATH).await;
        assert_eq!((status, cache.as_deref()), (StatusCode::OK, Some("no-store")), "{method}");
        assert_eq!(body.is_empty(), method == Method::HEAD);
    }
    let (status, ..) = request_from(&site.router, "10.99.0.1:9", Method::POST, PATH).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    let id = MachineId::Mac(Mac::new([0x52, 0x54, 0, 0, 0, 1]));
    assert!(site.timeline.machine(id).is_none(), "a request is no sign of a boot");
}

#[tokio::test]
async fn requests_over_the_rate_limit_are_rejected() {
    let site = open(NeighbourCheck::Unchecked).await;
    let mut status = StatusCode::OK;
    for _ in 0..1000 {
        let (got, headers, _) = site.send(PATH, &[]).await;
        assert!(!headers.contains_key(header::RETRY_AFTER));
        status = got;
        if status != StatusCode::OK {
            break;
        }
    }
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
}

/// With storage interface `cinder` the connection of the last export is the record. This listener has no Cinder to call.
#[tokio::test]
async fn with_cinder_the_recorded_connection_is_given_and_cinder_is_not_called() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let (uuid, now) = (Uuid::from_u128(1), Timestamp::UNIX_EPOCH);
    let inventory = Inventory::new(Arc::clone(&store));
    enroll(&inventory, 1).await;
    let change = |node: &Node, _: Option<&Node>| {
        Ok::<_, ()>(Node { storage_interface: StorageInterface::Cinder, ..node.clone() })
    };
    inventory.update(uuid, change).await.expect("updates");
    let timeline = Timeline::open_blocking(None, Metrics::new());
    let policy = RequesterPolicy::default();
    let site = TestListener::over(Arc::clone(&store), timeline, NeighbourCheck::Unchecked, policy, &[]);
    let (status, _, body) = site.send(PATH, &[]).await;
    let reason = "volboot: node web-1: volume root has no last known connection\n";
    assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, reason));

    let connection = json!({
        "target_portal": "192.0.2.9:3260", "target_iqn": "iqn.2010-10.org.openstack:exported", "target_lun": 7,
        "auth_method": "CHAP", "auth_username": "u", "auth_password": "hunter2",
    });
    let attached = Attachment {
        state: AttachmentState::Attached,
        connection: Some(serde_json::from_value(connection).expect("an object")),
        initiator: Some("iqn.2017-08.org.openstack.web-1".into()),
        resolved_at: Some(now),
        ..Attachment::new(uuid, "root", uuid, Vec::new(), now)
    };
    let write = async |attachment: &Attachment| {
        let value = serde_json::to_string(attachment).expect("serializes");
        store.write(Batch::default().put(format!("attachment/{uuid}/root"), value)).await.expect("writes");
    };
    write(&attached).await;
    let (status, _, body) = site.send(PATH, &[]).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let volume = &parse(&body)["volumes"][0];
    assert_eq!(
        (volume["portals"][0]["portal"].as_str(), volume["resolved_at"].as_str(), volume["chap"].as_bool()),
        (Some("192.0.2.9:3260"), Some("1970-01-01T00:00:00Z"), Some(true))
    );
    assert!(!body.contains("hunter2"), "{body}");
    write(&Attachment { state: AttachmentState::Detaching, ..attached }).await;
    assert_eq!(site.send(PATH, &[]).await.0, StatusCode::NOT_FOUND);
}

/// The only volume and its first target name in the machine's records, or the reason why there are none.
async fn recorded_volume(site: &TestListener) -> Result<(String, String), String> {
    let (status, _, body) = site.send(PATH, &[]).await;
    if status != StatusCode::OK {
        return Err(body);
    }
    let volumes = parse(&body)["volumes"].as_array().cloned().unwrap_or_default();
    assert_eq!(volumes.len(), 1, "{body}");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok((text(&volumes[0]["volume_id"]), text(&volumes[0]["portals"][0]["target"])))
}

#[tokio::test]
async fn a_machine_that_may_run_from_its_fallback_gets_the_records_of_the_fallback() {
    let site = open(NeighbourCheck::Unchecked).await;
    let uuid = Uuid::from_u128(1);
    let target = "iqn.2010-10.org.example:spare";
    let path = format!("iscsi:192.0.2.9::3260:1:{target}").parse().expect("a path");
    let source = FallbackSource::Target { name: Some("spare".into()), paths: vec![path] };
    let fallback = Fallback::new(source.clone());
    let change = |node: &Node, _: Option<&Node>| Ok::<_, ()>(Fallback::write(Some(&fallback), node.clone()));
    site.inventory.update(uuid, change).await.expect("updates");
    let own = Ok(("root".to_owned(), "iqn.2010-10.org.openstack:root".to_owned()));
    let spare = Ok(("spare".to_owned(), target.to_owned()));
    assert_eq!(recorded_volume(&site).await, own);
    let in_force = FallbackInForce {
        since: Timestamp::UNIX_EPOCH,
        failed_boots: 3,
        failed_volume: "root".into(),
        source: source.key(),
    };
    let records = site.inventory.fallbacks();
    for (in_force, may_run, expected) in [
        (Some(in_force), true, &spare),
        // An operator returned to the own volume, and the machine has not booted since.
        (None, true, &spare),
        (None, false, &own),
    ] {
        let state = FallbackState { may_run, in_force, ..FallbackState::default() };
        let snapshot = records.read(uuid, None).await.expect("reads").expect("a node");
        assert!(records.replace(&snapshot, &state).await.expect("writes"));
        assert_eq!(recorded_volume(&site).await, *expected);
    }
}

#[tokio::test]
async fn a_machine_in_a_one_time_boot_gets_the_records_of_that_boot() {
    let own = Ok(("root".to_owned(), "iqn.2010-10.org.openstack:root".to_owned()));
    let rescue = "iqn.2010-10.org.example:rescue";
    let properties = json!({ "target_portal": "192.0.2.9:3260", "target_iqn": rescue, "target_lun": 1 });
    let properties: Properties = serde_json::from_value(properties).expect("an object");
    let reason = |text: &str| Err(format!("volboot: node web-1: {text}\n"));
    for (source, with_volumes, expected) in [
        (
            OnceSource::Target { properties: properties.clone() },
            false,
            Ok((rescue.to_owned(), rescue.to_owned())),
        ),
        (
            OnceSource::Volume { volume_id: "rescue".into() },
            false,
            reason("volume rescue has no last known connection"),
        ),
        (OnceSource::Local, false, reason("its machine booted once from the local disk")),
        (
            OnceSource::Target { properties },
            true,
            reason("its machine booted once from target iqn.2010-10.org.example:rescue"),
        ),
    ] {
        let site = open(NeighbourCheck::Unchecked).await;
        let now = Timestamp::now();
        let once = BootOnce {
            uuid: Uuid::from_u128(7),
            created_at: now,
            node_uuid: Uuid::from_u128(1),
            source,
            with_volumes,
            shared: false,
            expires_at: now + jiff::SignedDuration::from_hours(1),
            journey: None,
            consumed_at: None,
            earlier_volume: None,
        };
        let once = site.inventory.set_boot_once(&once, None).await.expect("writes").expect("no conflict");
        assert_eq!(recorded_volume(&site).await, own, "it is armed, and no machine runs from it yet");
        assert!(site.inventory.consume_boot_once(&once, "a", now).await.expect("writes"));
        assert_eq!(recorded_volume(&site).await, expected);
        let consumed = site.inventory.find_boot_once(once.node_uuid).await.expect("reads").expect("a record");
        site.inventory.end_boot_once(&consumed).await.expect("ends");
        assert_eq!(recorded_volume(&site).await, own);
    }
}
