//! Refusals and their reasons.

use std::time::Duration;

use volboot::attach::Resolution;

use super::{Site, advance_clock, wait_until};
use crate::fake_cinder::{Fault, Operation};

#[tokio::test]
async fn a_volume_in_use_is_refused_with_its_holder() {
    let site = Site::open();
    site.cinder.add_volume("root", |volume| volume.status = "in-use".into());
    let machine = site.add_machine("web-1", &["root"]).await;
    let reason = machine.expect_refusal().await;
    assert_eq!(reason, "volume root is in use by an unknown holder and is not multi-attachable");

    site.cinder.add_volume("data", |_| {});
    let holder = site.add_machine("web-2", &["data"]).await;
    holder.boot(None).await;
    let attachment = site.cinder.attachments("data")[0].0.clone();
    let late = site.add_machine("web-3", &["data"]).await;
    let expected = format!("volume data is in use by attachment {attachment} and is not multi-attachable");
    assert_eq!(late.expect_refusal().await, expected);
    assert_eq!(site.check(&late).await, [expected]);
    assert_eq!(site.check(&holder).await, Vec::<String>::new());
    assert_eq!(site.records().list_by_node(late.node.uuid).await.expect("the store is readable"), []);
}

#[tokio::test]
async fn refusals_of_cinder_keep_their_message() {
    let site = Site::open();
    let machine = site.add_machine("web-1", &["nowhere"]).await;
    assert_eq!(machine.expect_refusal().await, "volume nowhere was not found in Cinder");
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-2", &["root"]).await;
    site.cinder.inject_fault(Operation::Reserve, Fault::Status(403), 1);
    assert_eq!(machine.expect_refusal().await, "Cinder refused volume root: injected fault (403)");
    site.cinder.add_volume("bad", |volume| volume.status = "error".into());
    let machine = site.add_machine("web-3", &["bad"]).await;
    assert_eq!(machine.expect_refusal().await, "volume bad is in state \"error\"");
}

#[tokio::test]
async fn a_transient_state_makes_the_machine_wait() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let foreign = site.cinder.reserve_for_another("root", None);
    let machine = site.add_machine("web-1", &["root"]).await;
    let expected = format!("volume root is in state \"reserved\", held by attachment {foreign}");
    assert_eq!(machine.expect_wait(Some(("a", 1))).await, expected);
    site.cinder.detach_by_hand(&foreign);
    machine.boot(Some(("a", 1))).await;
}

#[tokio::test]
async fn a_holder_with_a_server_is_named_by_the_server() {
    const SERVER: &str = "4f2b1c1e-0000-4000-8000-000000000001";
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let foreign = site.cinder.reserve_for_another("root", Some(SERVER));
    let machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(
        machine.expect_wait(Some(("a", 1))).await,
        format!("volume root is in state \"reserved\", held by server {SERVER}")
    );

    site.cinder.attach_for_another(&foreign);
    let expected = format!("volume root is in use by server {SERVER} and is not multi-attachable");
    assert_eq!(machine.expect_refusal().await, expected);
    assert_eq!(site.check(&machine).await, [expected]);
    assert_eq!(site.cinder.attachments("root"), [(foreign, "attached")]);
}

#[tokio::test]
async fn a_lasting_transient_state_becomes_a_refusal() {
    let site = Site::open();
    site.cinder.add_volume("root", |volume| volume.status = "backing-up".into());
    let machine = site.add_machine("web-1", &["root"]).await;
    let state = "volume root is in state \"backing-up\"";
    assert_eq!(machine.expect_wait(Some(("a", 1))).await, state);
    advance_clock(Duration::from_secs(55)).await;
    assert_eq!(machine.expect_wait(Some(("a", 1))).await, state);
    advance_clock(Duration::from_secs(10)).await;
    let Resolution::Refused(reason) = machine.request(Some(("a", 1))).await else {
        panic!("the wait has to end")
    };
    assert_eq!(reason, format!("{state}; the condition persisted for more than 60 s"));
    assert_eq!(site.records().list_by_node(machine.node.uuid).await.expect("the store is readable"), []);
    // The next boot session waits again.
    assert_eq!(machine.expect_wait(Some(("b", 1))).await, state);
}

#[tokio::test]
async fn an_encrypted_connection_is_refused_and_detached() {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.encrypt_connections();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root"]).await;
    assert_eq!(machine.expect_refusal().await, "volume root is encrypted, which firmware cannot read");
    wait_until("the volume is available", || site.cinder.status("root") == "available").await;
    assert_eq!(site.cinder.attachments("root"), []);
}

#[tokio::test]
async fn an_unsupported_transport_is_refused_and_detached() {
    let mut site = Site::open();
    site.start_reconciler();
    site.cinder.add_volume("fibre", |volume| volume.transport = "fibre_channel");
    let machine = site.add_machine("web-1", &["fibre"]).await;
    let reason = machine.expect_refusal().await;
    assert_eq!(reason, "volume fibre has transport \"fibre_channel\"; only iscsi can be booted");
    wait_until("the volume is available", || site.cinder.status("fibre") == "available").await;

    site.cinder.add_volume("secret", |volume| volume.encrypted = true);
    let machine = site.add_machine("web-2", &["secret"]).await;
    let faults = site.check(&machine).await;
    assert_eq!(faults, ["volume secret is encrypted, which firmware cannot read"]);
}

#[tokio::test]
async fn a_node_boots_from_all_its_volumes_or_none() {
    let site = Site::open();
    site.cinder.add_volume("root", |_| {});
    let machine = site.add_machine("web-1", &["root", "nowhere"]).await;
    let Resolution::Refused(reason) = machine.request(None).await else { panic!("a volume is missing") };
    assert_eq!(reason, "volume nowhere was not found in Cinder");
}
