//! Checks of a node with a fallback: `validate`, and the check of the volumes.

use volboot::check::VolumeRole;
use volboot::model::{Fallback, FallbackSource, Node, Properties, VolumeTarget};

use super::{Machine, Site, advance, settle};

/// Takes the connection from the node's boot target.
async fn damage_boot_target(site: &Site, machine: Machine) {
    let targets: Vec<VolumeTarget> = site.operator.inventory.list_all_of(machine.node).await.expect("reads");
    let change = |old: &VolumeTarget, _: Option<&Node>| {
        Ok::<_, ()>(VolumeTarget { properties: Properties::default(), ..old.clone() })
    };
    site.operator.inventory.update(targets[0].uuid, change).await.expect("writes");
}

async fn bring_into_force(site: &mut Site, machine: Machine) {
    for _ in 0..3 {
        site.boot_and_hook(0, machine).await;
        advance(300).await;
    }
    assert_eq!(site.boot_and_hook(0, machine).await, "spare-1");
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_in_fallback_is_validated_by_the_fallback() {
    let mut site = Site::open(1).await;
    let machine = site.add_node(1, true).await;
    let node = site.node(machine).await;
    let check = site.instances[0].boot.check(&node).await.expect("reads");
    assert_eq!((check.faults, check.warnings), (vec![], vec![]));
    bring_into_force(&mut site, machine).await;
    // The own volume has a fault, and the machine boots all the same.
    damage_boot_target(&site, machine).await;
    let check = site.instances[0].boot.check(&node).await.expect("reads");
    assert_eq!(check.faults, Vec::<String>::new());
    let notice =
        check.warnings.iter().find(|text| text.starts_with("boots from its fallback, volume spare-1"));
    assert!(notice.is_some(), "{:?}", check.warnings);
}

/// No volume has a connection here, so the check opens none.
#[tokio::test]
async fn a_check_of_the_volumes_includes_the_fallback_before_it_is_due() {
    let site = Site::open(1).await;
    let machine = site.add_node(1, false).await;
    damage_boot_target(&site, machine).await;
    let set = |old: &Node, _: Option<&Node>| {
        let fallback = Fallback::new(FallbackSource::Volume("spare".into()));
        Ok::<_, ()>(Fallback::write(Some(&fallback), old.clone()))
    };
    let node = site.operator.inventory.update(machine.node, set).await.expect("writes");
    let report = site.operator.check_volumes(&node).await.expect("reads").expect("a report");
    let volumes: Vec<_> = report
        .volumes
        .iter()
        .map(|volume| (volume.volume_id.as_str(), volume.role, volume.is_boot))
        .collect();
    assert_eq!(volumes, [("own-1", VolumeRole::Boot, true), ("spare", VolumeRole::Fallback, false)]);
    let needs = "volume spare is not attached to the node, and a check attaches nothing; the first boot request that gets the \
                 volume attaches it";
    assert!(report.volumes[1].verdict[0].contains(needs), "{:?}", report.volumes[1]);
}
