//! Outages of parts of the cloud: machines with a last known connection boot, others wait with the reason, and
//! recovery needs no operator.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::cinder::{Service, await_until};
use crate::machine::{Boot, BootResponse};
use crate::setup::{Node, Setup};

pub(crate) const TESTS: &[Test] = &[
    ("a_node_boots_without_cinder_volume", cinder_volume_outage),
    ("a_waiting_machine_boots_when_cinder_volume_recovers", cinder_volume_recovery),
    ("without_cinder_api_known_nodes_boot_and_others_wait", cinder_api_outage),
    ("a_node_boots_without_keystone", keystone_outage),
    ("a_detachment_during_an_outage_is_made_up_for", deferred_detachment),
];

/// The maximum time from the boot request to a boot script.
const LAST_KNOWN_LIMIT: Duration = Duration::from_secs(10);

/// Boots from the last known connection within the limit.
fn boot_from_last_known(node: &Node) -> Result<Boot> {
    let started_at = Instant::now();
    let BootResponse::Boot(boot) = node.machine.switch_on()? else { bail!("the machine does not boot") };
    let duration = started_at.elapsed();
    ensure!(boot.is_last_known(), "unexpected console output during an outage: {:?}", boot.console);
    ensure!(duration < LAST_KNOWN_LIMIT, "the boot took {} s", duration.as_secs_f32());
    boot.log_in()?;
    Ok(boot)
}

fn cinder_volume_outage(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    let attachment = setup.expect_single_attachment(&volume)?;
    setup.fixture.cloud.stop(Service::CinderVolume)?;
    boot_from_last_known(&node)?;
    setup.fixture.cloud.restart(Service::CinderVolume)?;
    // The reconciler completes the pending export without another boot request.
    await_until("the attachment to be complete", || {
        let all = setup.fixture.owner.attachments(&volume)?;
        Ok(all.iter().all(|attachment| attachment["status"] == "attached"))
    })?;
    ensure!(setup.expect_single_attachment(&volume)? == attachment);
    node.machine.boot_from_cinder()?;
    setup.tear_down_one(&node, &volume)
}

fn cinder_volume_recovery(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    setup.fixture.cloud.freeze(Service::CinderVolume)?;
    let response = node.machine.request_first()?;
    let BootResponse::Wait { pause, url, .. } = response else { bail!("unexpected response: {response:?}") };
    setup.fixture.cloud.thaw(Service::CinderVolume)?;
    thread::sleep(pause);
    match node.machine.follow(node.machine.request_script(&url)?)? {
        BootResponse::Boot(boot) => boot.log_in()?,
        other => bail!("unexpected response: {other:?}"),
    }
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

fn cinder_api_outage(fixture: &mut Fixture) -> Result<()> {
    let setup = Setup::new(fixture)?;
    let known = setup.fixture.owner.create_volume("chap")?;
    let new = setup.fixture.owner.create_volume("chap")?;
    let (node, other) = (setup.deploy(0, &[&known])?, setup.deploy(1, &[&new])?);
    node.machine.boot_from_cinder()?;
    setup.fixture.cloud.stop(Service::CinderApi)?;
    boot_from_last_known(&node)?;
    setup.expect_history(&node, &[&format!("volume {known} from its last known connection in ")])?;
    other.machine.expect_wait("Cinder is unavailable")?;
    setup.expect_history(&other, &["waiting: ", "Cinder is unavailable"])?;
    setup.fixture.cloud.restart(Service::CinderApi)?;
    node.machine.boot_from_cinder()?;
    other.machine.boot_from_cinder()?;
    setup.expect_single_attachment(&known)?;
    setup.expect_single_attachment(&new)?;
    setup.undeploy(&other)?;
    setup.fixture.owner.await_status(&new, "available")?;
    setup.fixture.owner.delete_volume(&new)?;
    setup.tear_down_one(&node, &known)
}

fn keystone_outage(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    // A restarted volboot has no token and needs none for a last known connection.
    setup.volboot.stop()?;
    setup.fixture.cloud.stop(Service::Keystone)?;
    setup.restart()?;
    boot_from_last_known(&node)?;
    setup.fixture.cloud.restart(Service::Keystone)?;
    node.machine.boot_from_cinder().context("after the recovery of Keystone")?;
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

fn deferred_detachment(fixture: &mut Fixture) -> Result<()> {
    let mut setup = Setup::new(fixture)?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    setup.fixture.cloud.stop(Service::CinderApi)?;
    setup.undeploy(&node)?;
    setup.volboot.stop()?;
    setup.restart()?;
    setup.fixture.cloud.restart(Service::CinderApi)?;
    setup.expect_free(&volume)?;
    setup.fixture.owner.delete_volume(&volume)
}
