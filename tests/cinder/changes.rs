//! What changes between two boots is right on the next one.

use anyhow::{Result, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::stand::Stand;

pub(crate) const TESTS: &[Test] = &[
    ("a_target_that_forgot_its_exports_has_them_again_on_the_next_boot", a_target_that_forgot),
    ("a_portal_that_moved_is_found_on_the_next_boot", a_portal_that_moved),
    ("a_volume_detached_by_hand_is_attached_again", detached_by_hand),
    ("a_token_taken_away_is_renewed", a_token_taken_away),
    ("a_volume_that_was_deleted_is_refused", a_volume_that_was_deleted),
];

fn a_target_that_forgot(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    let before = node.machine.boots()?;
    stand.ground.cloud.restart_target(&stand.ground.lab)?;
    ensure!(before.log_in().is_err(), "the target still knows it");
    node.machine.boots()?;
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

fn a_portal_that_moved(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    let [first, second] = stand.ground.cloud.portals();
    ensure!(node.machine.boots()?.hooks[0].portals() == [first.as_str()]);
    stand.ground.cloud.move_portals()?;
    ensure!(node.machine.boots()?.hooks[0].portals() == [second.as_str()]);
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

fn detached_by_hand(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    let first = stand.is_attached_once(&volume)?;
    stand.ground.owner.detach(&first)?;
    stand.ground.owner.await_status(&volume, "available")?;
    node.machine.boots()?;
    ensure!(stand.is_attached_once(&volume)? != first);
    stand.ends_well(&node, &volume)
}

fn a_token_taken_away(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    stand.ground.admin.revoke_tokens_of(&stand.ground.owner)?;
    node.machine.boots()?;
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

fn a_volume_that_was_deleted(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    let attachment = stand.is_attached_once(&volume)?;
    stand.ground.owner.detach(&attachment)?;
    stand.ground.owner.await_status(&volume, "available")?;
    stand.ground.owner.delete_volume(&volume)?;
    let reason = node.machine.is_refused()?;
    ensure!(reason.contains(&volume), "it was told: {reason}");
    let fault = stand.storage_fault(&node)?;
    ensure!(fault.contains(&volume), "validate says: {fault}");
    stand.undeploy(&node)?;
    ensure!(stand.ground.owner.all_attachments()?.is_empty());
    Ok(())
}
