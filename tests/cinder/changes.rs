//! Changes in the cloud between two boots: the next boot has current data.

use anyhow::{Result, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::setup::Setup;

pub(crate) const TESTS: &[Test] = &[
    ("lost_exports_are_restored_on_the_next_boot", lost_exports),
    ("a_moved_portal_is_used_on_the_next_boot", moved_portal),
    ("a_volume_detached_by_hand_is_attached_again", detached_by_hand),
    ("a_revoked_token_is_renewed", revoked_token),
    ("a_deleted_volume_is_refused", deleted_volume),
];

fn lost_exports(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    let before = node.machine.boot_from_cinder()?;
    setup.fixture.cloud.restart_target(&setup.fixture.lab)?;
    ensure!(before.log_in().is_err(), "the target still has the export");
    node.machine.boot_from_cinder()?;
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

fn moved_portal(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    let [first, second] = setup.fixture.cloud.portals();
    ensure!(node.machine.boot_from_cinder()?.hooks[0].portals() == [first.as_str()]);
    setup.fixture.cloud.move_portals()?;
    ensure!(node.machine.boot_from_cinder()?.hooks[0].portals() == [second.as_str()]);
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

fn detached_by_hand(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    let first = setup.expect_single_attachment(&volume)?;
    setup.fixture.owner.detach(&first)?;
    setup.fixture.owner.await_status(&volume, "available")?;
    node.machine.boot_from_cinder()?;
    ensure!(setup.expect_single_attachment(&volume)? != first);
    setup.tear_down_one(&node, &volume)
}

fn revoked_token(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    setup.fixture.admin.revoke_tokens_of(&setup.fixture.owner)?;
    node.machine.boot_from_cinder()?;
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

fn deleted_volume(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    let attachment = setup.expect_single_attachment(&volume)?;
    setup.fixture.owner.detach(&attachment)?;
    setup.fixture.owner.await_status(&volume, "available")?;
    setup.fixture.owner.delete_volume(&volume)?;
    let reason = node.machine.expect_refusal()?;
    ensure!(reason.contains(&volume), "unexpected reason: {reason}");
    let fault = setup.read_storage_fault(&node)?;
    ensure!(fault.contains(&volume), "unexpected fault: {fault}");
    setup.undeploy(&node)?;
    ensure!(setup.fixture.owner.all_attachments()?.is_empty());
    Ok(())
}
