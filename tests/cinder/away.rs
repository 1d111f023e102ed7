//! Parts of the cloud are away: machines that surely still have their volumes boot, others are told why they wait, and
//! when it is back nothing needs a hand.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::Test;
use crate::ground::Ground;
use crate::lab::cinder::{Service, await_until};
use crate::machine::{Boot, Told};
use crate::stand::{Node, Stand};

pub(crate) const TESTS: &[Test] = &[
    ("while_cinder_volume_is_away_a_node_boots_from_what_is_known", cinder_volume_is_away),
    ("cinder_volume_that_comes_back_in_time_attaches_what_was_asked", cinder_volume_comes_back),
    ("while_cinder_api_is_away_known_nodes_boot_and_others_wait", cinder_api_is_away),
    ("while_keystone_is_away_a_node_boots_from_what_is_known", keystone_is_away),
    ("a_detachment_that_cinder_did_not_hear_of_is_made_when_it_is_back", a_detachment_is_remembered),
];

/// The bar: from the question to a script that boots.
const LAST_KNOWN_LIMIT: Duration = Duration::from_secs(10);

/// Boots from the last known connection, in time.
fn boots_from_what_is_known(node: &Node) -> Result<Boot> {
    let began = Instant::now();
    let Told::Boot(boot) = node.machine.switch_on()? else { bail!("it does not boot") };
    let took = began.elapsed();
    ensure!(boot.is_last_known(), "nobody could be asked, but it was told: {:?}", boot.said);
    ensure!(took < LAST_KNOWN_LIMIT, "it took {} s", took.as_secs_f32());
    boot.log_in()?;
    Ok(boot)
}

fn cinder_volume_is_away(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    let attachment = stand.is_attached_once(&volume)?;
    stand.ground.cloud.stop(Service::CinderVolume)?;
    boots_from_what_is_known(&node)?;
    stand.ground.cloud.start_again(Service::CinderVolume)?;
    // What was asked and not answered is seen to, also if no machine asks again.
    await_until("the attachment to be complete", || {
        let all = stand.ground.owner.attachments(&volume)?;
        Ok(all.iter().all(|one| one["status"] == "attached"))
    })?;
    ensure!(stand.is_attached_once(&volume)? == attachment);
    node.machine.boots()?;
    stand.ends_well(&node, &volume)
}

fn cinder_volume_comes_back(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    stand.ground.cloud.freeze(Service::CinderVolume)?;
    let told = node.machine.ask_first()?;
    let Told::Wait { pause, again, .. } = told else { bail!("it was told {told:?}") };
    stand.ground.cloud.thaw(Service::CinderVolume)?;
    thread::sleep(pause);
    match node.machine.follow(node.machine.ask(&again)?)? {
        Told::Boot(boot) => boot.log_in()?,
        other => bail!("it was told {other:?}"),
    }
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

fn cinder_api_is_away(ground: &mut Ground) -> Result<()> {
    let stand = Stand::new(ground)?;
    let known = stand.ground.owner.create_volume("chap")?;
    let new = stand.ground.owner.create_volume("chap")?;
    let (node, other) = (stand.deploy(0, &[&known])?, stand.deploy(1, &[&new])?);
    node.machine.boots()?;
    stand.ground.cloud.stop(Service::CinderApi)?;
    boots_from_what_is_known(&node)?;
    stand.people_are_told(&node, &[&format!("volume {known} as last known, since Cinder did not say (")])?;
    other.machine.waits_because("Cinder is away")?;
    stand.people_are_told(&other, &["waits, because ", "Cinder is away"])?;
    stand.ground.cloud.start_again(Service::CinderApi)?;
    node.machine.boots()?;
    other.machine.boots()?;
    stand.is_attached_once(&known)?;
    stand.is_attached_once(&new)?;
    stand.undeploy(&other)?;
    stand.ground.owner.await_status(&new, "available")?;
    stand.ground.owner.delete_volume(&new)?;
    stand.ends_well(&node, &known)
}

fn keystone_is_away(ground: &mut Ground) -> Result<()> {
    let mut stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    // It has no token now, and must not need one to boot what it knows.
    stand.volboot.stop()?;
    stand.ground.cloud.stop(Service::Keystone)?;
    stand.start_again()?;
    boots_from_what_is_known(&node)?;
    stand.ground.cloud.start_again(Service::Keystone)?;
    node.machine.boots().context("after Keystone came back")?;
    stand.is_attached_once(&volume)?;
    stand.ends_well(&node, &volume)
}

fn a_detachment_is_remembered(ground: &mut Ground) -> Result<()> {
    let mut stand = Stand::new(ground)?;
    let volume = stand.ground.owner.create_volume("chap")?;
    let node = stand.deploy(0, &[&volume])?;
    node.machine.boots()?;
    stand.ground.cloud.stop(Service::CinderApi)?;
    stand.undeploy(&node)?;
    stand.volboot.stop()?;
    stand.start_again()?;
    stand.ground.cloud.start_again(Service::CinderApi)?;
    stand.is_free(&volume)?;
    stand.ground.owner.delete_volume(&volume)
}
