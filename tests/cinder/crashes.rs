//! Crash safety: volboot is killed at every step of an attachment, and recovers without orphans.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Test;
use crate::fixture::Fixture;
use crate::lab::cinder::await_until;
use crate::machine::BootResponse;
use crate::proxy::{CrashProxy, Moment};
use crate::setup::{Node, Setup};

pub(crate) const TESTS: &[Test] = &[
    ("a_kill_at_any_step_of_an_attachment_leaves_no_orphan", kill_at_any_step),
    ("a_kill_during_detachment_does_not_stop_it", kill_during_detachment),
    ("a_foreign_reservation_is_respected_across_crash_and_restart", wait_for_foreign_reservation),
    ("a_foreign_reservation_survives_our_detachment", keep_foreign_reservation),
];

/// The calls of a first boot: list, reserve, export, complete.
const CALLS: usize = 4;

fn kill_at_any_step(fixture: &mut Fixture) -> Result<()> {
    let proxy = CrashProxy::start()?;
    let mut setup = Setup::with_endpoint(fixture, Some(proxy.endpoint.clone()))?;
    let mut kills = Vec::new();
    for call in 1..=CALLS {
        for moment in [Moment::Before, Moment::After] {
            let volume = setup.fixture.owner.create_volume("chap")?;
            let node = setup.deploy(0, &[&volume])?;
            proxy.kill_at(call, moment, &volume, setup.volboot.pid());
            boot_until_killed(&mut setup, &node)?;
            let kill = proxy.take_kill().with_context(|| format!("there is no call {call}"))?;
            setup.restart()?;
            node.machine.boot_from_cinder().with_context(|| format!("killed {kill}"))?;
            setup.expect_single_attachment(&volume).with_context(|| format!("killed {kill}"))?;
            setup.tear_down_one(&node, &volume).with_context(|| format!("killed {kill}"))?;
            setup.delete_node(&node)?;
            kills.push(kill);
        }
    }
    // Fails if volboot makes a call that this test does not cover.
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    proxy.kill_at(CALLS + 1, Moment::Before, &volume, setup.volboot.pid());
    node.machine.boot_from_cinder()?;
    ensure!(proxy.take_kill().is_none(), "a boot makes more calls than {kills:?}");
    setup.tear_down_one(&node, &volume)
}

fn kill_during_detachment(fixture: &mut Fixture) -> Result<()> {
    let proxy = CrashProxy::start()?;
    let mut setup = Setup::with_endpoint(fixture, Some(proxy.endpoint.clone()))?;
    for moment in [Moment::Before, Moment::After] {
        let volume = setup.fixture.owner.create_volume("chap")?;
        let node = setup.deploy(0, &[&volume])?;
        node.machine.boot_from_cinder()?;
        proxy.kill_at(1, moment, &volume, setup.volboot.pid());
        // The kill may precede the response; the record counts.
        let _response = setup.undeploy(&node);
        setup.volboot.wait_for_exit()?;
        ensure!(proxy.take_kill().is_some());
        setup.restart()?;
        setup.expect_free(&volume)?;
        setup.fixture.owner.delete_volume(&volume)?;
        setup.delete_node(&node)?;
    }
    Ok(())
}

/// A foreign reservation blocks the volume: the machine waits, and volboot does not delete the reservation.
fn wait_for_foreign_reservation(fixture: &mut Fixture) -> Result<()> {
    let proxy = CrashProxy::start()?;
    let mut setup = Setup::with_endpoint(fixture, Some(proxy.endpoint.clone()))?;
    let volume = setup.fixture.owner.create_volume("chap")?;
    let node = setup.deploy(0, &[&volume])?;
    let foreign = setup.fixture.owner.reserve(&volume)?;
    // Cinder refuses volboot's reservation, and the kill loses the response.
    proxy.kill_at(2, Moment::After, &volume, setup.volboot.pid());
    boot_until_killed(&mut setup, &node)?;
    ensure!(proxy.take_kill().is_some_and(|kill| kill.contains("POST")));
    for _ in 0..2 {
        setup.restart()?;
        node.machine.expect_wait(&foreign)?;
        setup.volboot.stop()?;
    }
    ensure!(attachment_states(&setup, &volume)? == [(foreign.clone(), "reserved".to_owned())]);
    setup.restart()?;
    setup.fixture.owner.detach(&foreign)?;
    node.machine.boot_from_cinder()?;
    setup.expect_single_attachment(&volume)?;
    setup.tear_down_one(&node, &volume)
}

/// The foreign reservation is on a multi-attachable volume, which a node attaches and detaches.
fn keep_foreign_reservation(fixture: &mut Fixture) -> Result<()> {
    let proxy = CrashProxy::start()?;
    let mut setup = Setup::with_endpoint(fixture, Some(proxy.endpoint.clone()))?;
    let volume = setup.fixture.owner.create_volume("multiattach")?;
    let node = setup.deploy(0, &[&volume])?;
    node.machine.boot_from_cinder()?;
    let ours = setup.expect_single_attachment(&volume)?;
    let foreign = setup.fixture.owner.reserve(&volume)?;
    proxy.kill_at(1, Moment::After, &volume, setup.volboot.pid());
    boot_until_killed(&mut setup, &node)?;
    ensure!(proxy.take_kill().is_some_and(|kill| kill.contains("PUT")));
    setup.restart()?;
    node.machine.boot_from_cinder()?;
    let mut both = [(ours, "attached".to_owned()), (foreign.clone(), "reserved".to_owned())];
    both.sort();
    let present = attachment_states(&setup, &volume)?;
    ensure!(present == both, "{present:?}");
    setup.undeploy(&node)?;
    let last = [(foreign.clone(), "reserved".to_owned())];
    await_until("only the foreign reservation to be left", || {
        Ok(attachment_states(&setup, &volume)? == last)
    })?;
    setup.fixture.owner.detach(&foreign)?;
    setup.expect_free(&volume)?;
    setup.fixture.owner.delete_volume(&volume)
}

/// Sends a boot request, during which volboot is killed.
fn boot_until_killed(setup: &mut Setup<'_>, node: &Node) -> Result<()> {
    // On a busy host, the machine may get a wait response before the kill.
    if let Ok(response @ (BootResponse::Boot(_) | BootResponse::Refused(_))) = node.machine.request_first() {
        bail!("unexpected response: {response:?}");
    }
    setup.volboot.wait_for_exit()
}

/// The ids and states of the attachments of a volume.
fn attachment_states(setup: &Setup<'_>, volume: &str) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = setup.fixture.owner.attachments(volume)?;
    let mut all: Vec<_> =
        all.iter().map(|attachment| (text(&attachment["id"]), text(&attachment["status"]))).collect();
    all.sort();
    Ok(all)
}
