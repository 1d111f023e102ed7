//! Whose report `up` lets a fallback come into force: only that of the system on the present boot volume.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use volboot::model::{BootStep, Node, VolumeTarget};

use super::{Machine, Site, advance, boot_volume, iqn_of, settle};

/// Boots that look failed, more than the policy counts. Returns the volume of the last one.
async fn fail_boots(site: &mut Site, machine: Machine) -> String {
    let mut volume = String::new();
    for _ in 0..5 {
        volume = site.boot_and_hook(0, machine).await;
        advance(300).await;
    }
    volume
}

async fn boot_up(site: &mut Site, machine: Machine) {
    site.boot_and_hook(0, machine).await;
    site.report(0, machine, &BootStep::Up, None);
    settle().await;
}

/// Whether the operator is told that the system on the boot volume has reported `up`, and that the fallback waits for it.
async fn shown(site: &Site, machine: Machine) -> (bool, bool) {
    let node = site.node(machine).await;
    let status = site.operator.fallback_status(&node).await.expect("reads");
    (
        status.has_reported_up,
        status.obstacle.is_some_and(|obstacle| obstacle.contains("has never reported up")),
    )
}

async fn move_boot_volume(site: &Site, machine: Machine, volume: &str) {
    let targets: Vec<VolumeTarget> = site.operator.inventory.list_all_of(machine.node).await.expect("reads");
    let properties = json!({
        "target_portal": "192.0.2.1:3260", "target_iqn": iqn_of(volume), "target_lun": 1,
    });
    let change = |old: &VolumeTarget, _: Option<&Node>| {
        let properties = serde_json::from_value(properties.clone()).expect("an object");
        Ok::<_, ()>(VolumeTarget { properties, updated_at: Some(Timestamp::now()), ..old.clone() })
    };
    site.operator.inventory.update(targets[0].uuid, change).await.expect("writes");
}

#[tokio::test(start_paused = true)]
async fn a_report_from_a_one_time_boot_says_nothing_about_the_boot_volume() {
    for is_up_from_once in [true, false] {
        let mut site = Site::open(1).await;
        let machine = site.add_silent_node(1, true).await;
        if is_up_from_once {
            let source = volboot::operator::SourceText { local: true, ..Default::default() };
            let once = volboot::operator::OnceRequest {
                source: source.parse().expect("a source"),
                with_volumes: false,
                shared: false,
                ttl: Duration::from_secs(3600),
            };
            let node = site.node(machine).await;
            site.operator.set_boot_once(&node, once, Timestamp::now()).await.expect("sets");
            let journey = site.new_journey();
            assert_eq!(boot_volume(&site.ask(0, machine, &journey, 1).await), None);
            site.report(0, machine, &BootStep::Up, None);
            settle().await;
        } else {
            boot_up(&mut site, machine).await;
        }
        let expected = if is_up_from_once { "own-1" } else { "spare-1" };
        assert_eq!(fail_boots(&mut site, machine).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn another_boot_volume_needs_a_report_of_its_own() {
    let mut site = Site::open(1).await;
    let machine = site.add_silent_node(1, true).await;
    assert_eq!(shown(&site, machine).await, (false, true));
    boot_up(&mut site, machine).await;
    assert_eq!(shown(&site, machine).await, (true, false));
    // The same target in the records, with the paths of another volume.
    move_boot_volume(&site, machine, "other-1").await;
    assert_eq!(shown(&site, machine).await, (false, true));
    assert_eq!(fail_boots(&mut site, machine).await, "other-1");
    // A report of a boot before the change is not for the new volume.
    move_boot_volume(&site, machine, "third-1").await;
    site.report(0, machine, &BootStep::Up, None);
    settle().await;
    assert_eq!(fail_boots(&mut site, machine).await, "third-1");
    boot_up(&mut site, machine).await;
    assert_eq!(fail_boots(&mut site, machine).await, "spare-1");
    assert_eq!(shown(&site, machine).await, (true, false));
}

#[tokio::test(start_paused = true)]
async fn a_report_before_the_fallback_was_set_counts() {
    let mut site = Site::open(1).await;
    let machine = site.add_silent_node(1, false).await;
    boot_up(&mut site, machine).await;
    let node = site.node(machine).await;
    let uri = format!("iscsi:192.0.2.1::3260:1:{}", iqn_of("spare-1"));
    let values = volboot::operator::FallbackValues { targets: vec![&uri], ..Default::default() };
    site.operator.set_fallback(&node, &values, Timestamp::now()).await.expect("sets");
    assert_eq!(fail_boots(&mut site, machine).await, "spare-1");
}
