//! Kinds of volumes: multipath, without CHAP, multi-attachable, and in use elsewhere.

use anyhow::{Result, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::setup::Setup;

pub(crate) const TESTS: &[Test] = &[
    ("a_volume_with_two_portals_is_hooked_on_both", two_portals),
    ("a_volume_without_chap_is_hooked_without_credentials", without_a_secret),
    ("several_volumes_are_attached_and_detached_together", several_volumes),
    ("a_volume_in_use_elsewhere_is_refused_with_its_holder", in_use_elsewhere),
    ("a_multi_attachable_volume_boots_two_nodes", two_nodes),
];

/// A data volume gets all paths. The boot volume gets as many as fit into the firmware's table (iBFT). With CHAP,
/// Cinder's long names and a host name the table fits one path, and the console says so.
fn two_portals(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volumes = [setup.fixture.owner.create_volume("mpath")?, setup.fixture.owner.create_volume("mpath")?];
    let node = setup.deploy_with(0, &[&volumes[0], &volumes[1]], &[("ip", "10.99.0.50")])?;
    let boot = node.machine.boot_from_cinder()?;
    let [first, second] = setup.fixture.cloud.portals();
    ensure!(boot.hooks[0].portals() == [first.as_str()], "{:?}", boot.hooks);
    ensure!(boot.console.iter().any(|line| line.contains("1 of the 2 paths")), "{:?}", boot.console);
    ensure!(boot.hooks[1].portals() == [first.as_str(), second.as_str()], "{:?}", boot.hooks);
    setup.tear_down(&node, &volumes)
}

fn without_a_secret(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("plain")?;
    let node = setup.deploy(0, &[&volume])?;
    ensure!(node.machine.boot_from_cinder()?.hooks[0].account.is_none());
    setup.tear_down_one(&node, &volume)
}

fn several_volumes(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volumes = [setup.fixture.owner.create_volume("chap")?, setup.fixture.owner.create_volume("plain")?];
    let node = setup.deploy(0, &[&volumes[0], &volumes[1]])?;
    let boot = node.machine.boot_from_cinder()?;
    ensure!(boot.hooks.len() == 2 && boot.hooks[0].account.is_some() && boot.hooks[1].account.is_none());
    for volume in &volumes {
        setup.expect_single_attachment(volume)?;
    }
    setup.tear_down(&node, &volumes)
}

fn in_use_elsewhere(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    let foreign = setup.fixture.owner.reserve(&volume)?;
    setup.fixture.owner.connect(&foreign, "iqn.2026-01.lab.volboot:another-host")?;
    setup.fixture.owner.await_status(&volume, "in-use")?;
    // Cinder does not show the host to a project member, so the attachment is named.
    for reason in [node.machine.expect_refusal()?, setup.read_storage_fault(&node)?] {
        ensure!(reason.contains(&volume) && reason.contains(&foreign), "unexpected reason: {reason}");
    }
    setup.expect_history(&node, &["refused: ", &volume, "in use", &foreign])?;
    ensure!(setup.expect_single_attachment(&volume)? == foreign, "the foreign attachment is gone");
    setup.fixture.owner.detach(&foreign)?;
    setup.fixture.owner.await_status(&volume, "available")?;
    node.machine.boot_from_cinder()?;
    setup.tear_down_one(&node, &volume)
}

fn two_nodes(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("multiattach")?;
    let (first, second) = (setup.deploy(0, &[&volume])?, setup.deploy(1, &[&volume])?);
    first.machine.boot_from_cinder()?;
    let boot = second.machine.boot_from_cinder()?;
    ensure!(setup.fixture.owner.attachments(&volume)?.len() == 2);
    setup.undeploy(&first)?;
    crate::lab::cinder::await_until("the first node's attachment to go", || {
        Ok(setup.fixture.owner.attachments(&volume)?.len() == 1)
    })?;
    boot.log_in()?;
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&second, &volume)
}
