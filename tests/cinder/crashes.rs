//! volboot is killed at every step of an attachment; what it left in Cinder is found, used, and let go in the end.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::Test;
use crate::gate::{Gate, Moment};
use crate::ground::Ground;
use crate::lab::cinder::await_until;
use crate::machine::Told;
use crate::stand::{Node, Stand};

pub(crate) const TESTS: &[Test] = &[
    ("killed_at_any_step_of_an_attachment_it_boots_and_leaves_nothing", killed_at_any_step),
    ("killed_while_detaching_it_detaches", killed_while_detaching),
    ("anothers_reservation_is_waited_for_across_crash_and_restart", anothers_reservation_is_waited_for),
    ("anothers_reservation_survives_what_becomes_of_ours", anothers_reservation_survives),
];

/// What a first boot asks Cinder: list, reserve, export, complete.
const CALLS: usize = 4;

fn killed_at_any_step(ground: &mut Ground) -> Result<()> {
    let gate = Gate::open()?;
    let mut stand = Stand::behind(ground, Some(gate.endpoint.clone()))?;
    let mut cuts = Vec::new();
    for call in 1..=CALLS {
        for moment in [Moment::Before, Moment::After] {
            let volume = stand.ground.owner.create_volume("chap")?;
            let node = stand.deploy(0, &[&volume])?;
            gate.kill_at(call, moment, stand.volboot.pid());
            asks_until_the_kill(&mut stand, &node)?;
            let cut = gate.was_cut().with_context(|| format!("there is no call {call}"))?;
            stand.start_again()?;
            node.machine.boots().with_context(|| format!("killed {cut}"))?;
            stand.is_attached_once(&volume).with_context(|| format!("killed {cut}"))?;
            stand.ends_well(&node, &volume).with_context(|| format!("killed {cut}"))?;
            stand.delete(&node)?;
            cuts.push(cut);
        }
    }
    // Else a call was added, and this test does not know of it.
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    gate.kill_at(CALLS + 1, Moment::Before, stand.volboot.pid());
    node.machine.boots()?;
    ensure!(gate.was_cut().is_none(), "a boot asks for more than {cuts:?}");
    stand.ends_well(&node, &volume)
}

fn killed_while_detaching(ground: &mut Ground) -> Result<()> {
    let gate = Gate::open()?;
    let mut stand = Stand::behind(ground, Some(gate.endpoint.clone()))?;
    for moment in [Moment::Before, Moment::After] {
        let volume = stand.ground.owner.create_volume("chap")?;
        let node = stand.deploy(0, &[&volume])?;
        node.machine.boots()?;
        gate.kill_at(1, moment, stand.volboot.pid());
        // It may be killed before it has answered: what it wrote down counts.
        let _answer = stand.undeploy(&node);
        stand.volboot.ended()?;
        ensure!(gate.was_cut().is_some());
        stand.start_again()?;
        stand.is_free(&volume)?;
        stand.ground.owner.delete_volume(&volume)?;
        stand.delete(&node)?;
    }
    Ok(())
}

/// It has the volume to itself: the machine waits for it, and nobody takes it away.
fn anothers_reservation_is_waited_for(ground: &mut Ground) -> Result<()> {
    let gate = Gate::open()?;
    let mut stand = Stand::behind(ground, Some(gate.endpoint.clone()))?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    let theirs = stand.ground.owner.reserve(&volume)?;
    // Cinder has said no to our own, and volboot does not know it.
    gate.kill_at(2, Moment::After, stand.volboot.pid());
    asks_until_the_kill(&mut stand, &node)?;
    ensure!(gate.was_cut().is_some_and(|cut| cut.contains("POST")));
    for _ in 0..2 {
        stand.start_again()?;
        node.machine.waits_because(&theirs)?;
        stand.volboot.stop()?;
    }
    ensure!(states(&stand, &volume)? == [(theirs.clone(), "reserved".to_owned())]);
    stand.start_again()?;
    stand.ground.owner.detach(&theirs)?;
    node.machine.boots()?;
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

/// It shares the volume with a node that comes and goes.
fn anothers_reservation_survives(ground: &mut Ground) -> Result<()> {
    let gate = Gate::open()?;
    let mut stand = Stand::behind(ground, Some(gate.endpoint.clone()))?;
    let volume = stand.ground.owner.create_volume("multiattach")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    let ours = stand.is_attached_once(&volume)?;
    let theirs = stand.ground.owner.reserve(&volume)?;
    gate.kill_at(1, Moment::After, stand.volboot.pid());
    asks_until_the_kill(&mut stand, &node)?;
    ensure!(gate.was_cut().is_some_and(|cut| cut.contains("PUT")));
    stand.start_again()?;
    node.machine.boots()?;
    let mut both = [(ours, "attached".to_owned()), (theirs.clone(), "reserved".to_owned())];
    both.sort();
    let there = states(&stand, &volume)?;
    ensure!(there == both, "{there:?}");
    stand.undeploy(&node)?;
    let last = [(theirs.clone(), "reserved".to_owned())];
    await_until("only theirs to be there", || Ok(states(&stand, &volume)? == last))?;
    stand.ground.owner.detach(&theirs)?;
    stand.is_free(&volume)?;
    stand.ground.owner.delete_volume(&volume)
}

/// A machine asks, which is the end of volboot.
fn asks_until_the_kill(stand: &mut Stand<'_>, node: &Node) -> Result<()> {
    // On a busy host it may have told the machine to wait before.
    if let Ok(told @ (Told::Boot(_) | Told::No(_))) = node.machine.ask_first() {
        bail!("it was told {told:?}");
    }
    stand.volboot.ended()
}

/// A volume's attachments, and in which state they are.
fn states(stand: &Stand<'_>, volume: &str) -> Result<Vec<(String, String)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = stand.ground.owner.attachments(volume)?;
    let mut all: Vec<_> = all.iter().map(|one| (text(&one["id"]), text(&one["status"]))).collect();
    all.sort();
    Ok(all)
}
