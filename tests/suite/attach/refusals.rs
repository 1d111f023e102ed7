//! What is refused, and with which words.

use std::time::Duration;

use volboot::attach::Progress;

use super::{Site, later, until};
use crate::fake_cinder::{Fault, Kind};

#[tokio::test]
async fn a_volume_that_another_has_is_refused_and_who_has_it_is_named() {
    let site = Site::open();
    site.cinder.volume("root", |volume| volume.status = "in-use".into());
    let machine = site.machine("web-1", &["root"]).await;
    let reason = machine.is_refused().await;
    assert_eq!(
        reason,
        "volume root is in use by somebody whom Cinder does not show and is not multi-attachable"
    );

    site.cinder.volume("data", |_| {});
    let other = site.machine("web-2", &["data"]).await;
    other.gets(None).await;
    let held = site.cinder.attachments("data")[0].0.clone();
    let late = site.machine("web-3", &["data"]).await;
    let expected = format!("volume data is in use by attachment {held} and is not multi-attachable");
    assert_eq!(late.is_refused().await, expected);
    assert_eq!(site.attach.examine(late.node.uuid, &late.targets).await.faults(), [expected]);
    assert_eq!(site.attach.examine(other.node.uuid, &other.targets).await.faults(), Vec::<String>::new());
    assert_eq!(site.records().of_node(late.node.uuid).await.expect("reads"), []);
}

#[tokio::test]
async fn what_cinder_does_not_know_or_forbids_is_refused_with_its_words() {
    let site = Site::open();
    let machine = site.machine("web-1", &["nowhere"]).await;
    assert_eq!(machine.is_refused().await, "Cinder knows no volume nowhere");
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-2", &["root"]).await;
    site.cinder.fault(Kind::Reserve, Fault::Status(403), 1);
    assert_eq!(machine.is_refused().await, "Cinder refuses volume root: as it was told to (403)");
    site.cinder.volume("bad", |volume| volume.status = "error".into());
    let machine = site.machine("web-3", &["bad"]).await;
    assert_eq!(machine.is_refused().await, "volume bad is in state \"error\"");
}

#[tokio::test]
async fn a_volume_in_a_state_that_passes_is_waited_for() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let others = site.cinder.reserve_for_another("root", None);
    let machine = site.machine("web-1", &["root"]).await;
    let expected = format!("volume root is in state \"reserved\" by attachment {others}");
    assert_eq!(machine.waits(Some(("a", 1))).await, expected);
    site.cinder.detach_by_hand(&others);
    machine.gets(Some(("a", 1))).await;
}

#[tokio::test]
async fn who_holds_a_volume_is_named_by_its_server_if_cinder_shows_one() {
    const SERVER: &str = "4f2b1c1e-0000-4000-8000-000000000001";
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let others = site.cinder.reserve_for_another("root", Some(SERVER));
    let machine = site.machine("web-1", &["root"]).await;
    assert_eq!(
        machine.waits(Some(("a", 1))).await,
        format!("volume root is in state \"reserved\" by server {SERVER}")
    );

    site.cinder.attach_for_another(&others);
    let expected = format!("volume root is in use by server {SERVER} and is not multi-attachable");
    assert_eq!(machine.is_refused().await, expected);
    assert_eq!(site.attach.examine(machine.node.uuid, &machine.targets).await.faults(), [expected]);
    assert_eq!(site.cinder.attachments("root"), [(others, "attached")]);
}

#[tokio::test]
async fn a_state_that_does_not_pass_is_refused_after_a_while_and_named() {
    let site = Site::open();
    site.cinder.volume("root", |volume| volume.status = "backing-up".into());
    let machine = site.machine("web-1", &["root"]).await;
    let state = "volume root is in state \"backing-up\"";
    assert_eq!(machine.waits(Some(("a", 1))).await, state);
    later(Duration::from_secs(55)).await;
    assert_eq!(machine.waits(Some(("a", 1))).await, state);
    later(Duration::from_secs(10)).await;
    let Progress::Refused(reason) = machine.asks(Some(("a", 1))).await else { panic!("it waited for long") };
    assert_eq!(reason, format!("{state} for over 60 s"));
    assert_eq!(site.records().of_node(machine.node.uuid).await.expect("reads"), []);
    // Somebody switches it on again: that is another boot, and waits again.
    assert_eq!(machine.waits(Some(("b", 1))).await, state);
}

#[tokio::test]
async fn a_volume_whose_connection_is_encrypted_is_refused_and_not_held() {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.encrypt_connections();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root"]).await;
    assert_eq!(machine.is_refused().await, "volume root is encrypted, which firmware cannot read");
    until("it is let go", || site.cinder.status("root") == "available").await;
    assert_eq!(site.cinder.attachments("root"), []);
}

#[tokio::test]
async fn what_firmware_cannot_use_is_refused_and_not_held() {
    let mut site = Site::open();
    site.reconcile();
    site.cinder.volume("fibre", |volume| volume.transport = "fibre_channel");
    let machine = site.machine("web-1", &["fibre"]).await;
    let reason = machine.is_refused().await;
    assert_eq!(reason, "volume fibre is reached by \"fibre_channel\": only iscsi can be booted");
    until("it is let go", || site.cinder.status("fibre") == "available").await;

    site.cinder.volume("secret", |volume| volume.encrypted = true);
    let machine = site.machine("web-2", &["secret"]).await;
    let faults = site.attach.examine(machine.node.uuid, &machine.targets).await.faults();
    assert_eq!(faults, ["volume secret is encrypted, which firmware cannot read"]);
}

#[tokio::test]
async fn a_node_boots_from_all_its_volumes_or_none() {
    let site = Site::open();
    site.cinder.volume("root", |_| {});
    let machine = site.machine("web-1", &["root", "nowhere"]).await;
    let Progress::Refused(reason) = machine.asks(None).await else { panic!("one is missing") };
    assert_eq!(reason, "Cinder knows no volume nowhere");
}
