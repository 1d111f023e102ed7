//! Kinds of volumes, and volumes that others have.

use anyhow::{Result, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::stand::Stand;

pub(crate) const TESTS: &[Test] = &[
    ("a_volume_with_two_portals_is_hooked_by_both", two_portals),
    ("a_volume_without_a_secret_is_hooked_without_one", without_a_secret),
    ("several_volumes_are_attached_and_let_go_together", several_volumes),
    ("a_volume_in_use_elsewhere_is_refused_and_its_holder_named", in_use_elsewhere),
    ("a_multi_attachable_volume_boots_two_nodes", two_nodes),
];

/// All paths of a data volume. Of the boot volume's, as many as the firmware's table (iBFT) has room for: with CHAP and
/// names as long as Cinder's that is one, and the machine is told so.
fn two_portals(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volumes = [stand.ground.owner.create_volume("mpath")?, stand.ground.owner.create_volume("mpath")?];
    let node = stand.deploy_with(0, &[&volumes[0], &volumes[1]], &[("ip", "10.99.0.50")])?;
    let boot = node.machine.boots()?;
    let [first, second] = stand.ground.cloud.portals();
    ensure!(boot.hooks[0].portals() == [first.as_str()], "{:?}", boot.hooks);
    ensure!(boot.said.iter().any(|line| line.contains("1 of the 2 paths")), "{:?}", boot.said);
    ensure!(boot.hooks[1].portals() == [first.as_str(), second.as_str()], "{:?}", boot.hooks);
    stand.end_well(&node, &volumes)
}

fn without_a_secret(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("plain")?;
    let node = stand.deploy(0, &[&volume])?;
    ensure!(node.machine.boots()?.hooks[0].account.is_none());
    stand.ends_well(&node, &volume)
}

fn several_volumes(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volumes = [stand.ground.owner.create_volume("chap")?, stand.ground.owner.create_volume("plain")?];
    let node = stand.deploy(0, &[&volumes[0], &volumes[1]])?;
    let boot = node.machine.boots()?;
    ensure!(boot.hooks.len() == 2 && boot.hooks[0].account.is_some() && boot.hooks[1].account.is_none());
    for volume in &volumes {
        stand.is_attached_once(volume)?;
    }
    stand.end_well(&node, &volumes)
}

fn in_use_elsewhere(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    let theirs = stand.ground.owner.reserve(&volume)?;
    stand.ground.owner.connect(&theirs, "iqn.2026-01.lab.volboot:another-host")?;
    stand.ground.owner.await_status(&volume, "in-use")?;
    // A member of a project is not shown the host: the attachment has to do.
    for told in [node.machine.is_refused()?, stand.storage_fault(&node)?] {
        ensure!(told.contains(&volume) && told.contains(&theirs), "it was told: {told}");
    }
    stand.people_are_told(&node, &["stopped at its question, because ", &volume, "in use", &theirs])?;
    ensure!(stand.is_attached_once(&volume)? == theirs, "it is not theirs any more");
    stand.ground.owner.detach(&theirs)?;
    stand.ground.owner.await_status(&volume, "available")?;
    node.machine.boots()?;
    stand.ends_well(&node, &volume)
}

fn two_nodes(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("multiattach")?;
    let (first, second) = (stand.deploy(0, &[&volume])?, stand.deploy(1, &[&volume])?);
    first.machine.boots()?;
    let boot = second.machine.boots()?;
    ensure!(stand.ground.owner.attachments(&volume)?.len() == 2);
    stand.undeploy(&first)?;
    crate::lab::cinder::await_until("the first node's attachment to go", || {
        Ok(stand.ground.owner.attachments(&volume)?.len() == 1)
    })?;
    boot.log_in()?;
    stand.is_attached_once(&volume)?;
    stand.ends_well(&second, &volume)
}
