//! One run: a site under load and faults, its end, and the verdict.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::checker::{Violation, check};
use super::ending::{LastSession, check_attachments, check_sessions, check_wanted};
use super::faults::{heal, inject};
use super::history::{HistoryEntry, RunEvent};
use super::machine::SiteMachine;
use super::operations::operate;
use super::random::Random;
use super::site::SimulatedSite;
use crate::model::{Fallback, Node, ProvisionState, VolumeTarget};
use crate::store::{Attachments, Inventory};

/// How long records may need at the end of a run: the windows in which volboot expects late requests, and its longest
/// back-off, several times.
const SETTLING: Duration = Duration::from_secs(1200);

/// A finished run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) history: Vec<HistoryEntry>,
    pub(super) fault: Option<String>,
}

impl Run {
    /// Runs a site from a seed.
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(perform(seed))
    }

    /// The number of events that fit.
    pub(super) fn count(&self, fits: impl Fn(&RunEvent) -> bool) -> usize {
        self.history.iter().filter(|entry| fits(&entry.event)).count()
    }
}

/// A history as text.
pub(super) fn describe(history: &[HistoryEntry]) -> String {
    let mut text = String::new();
    for entry in history {
        let _ = writeln!(text, "{entry}");
    }
    text
}

async fn perform(seed: u64) -> Run {
    let mut random = Random::new(seed, 1);
    let instances = 2 + random.below(2);
    let site = Arc::new(SimulatedSite::open(seed, instances).await);
    let mut tasks = JoinSet::new();
    for (number, machine) in (0..).zip(&site.machines) {
        tasks.spawn(machine.run(Arc::clone(&site), Random::new(seed, 100 + number)));
    }
    for number in 0..2 {
        tasks.spawn(operate(Arc::clone(&site), Random::new(seed, 200 + number)));
        tasks.spawn(inject(Arc::clone(&site), Random::new(seed, 300 + number)));
    }
    sleep(random.millis(60_000, 300_000)).await;
    tasks.shutdown().await;
    heal(&site).await;
    let end = judge_end(&site, &random).await;
    let history = site.history.entries();
    let fault = match check(&history, &site.shared) {
        Err(Violation { position, fault }) => Some(format!("{fault}\n{}", history[position])),
        Ok(()) => end.err(),
    };
    Run { history, fault }
}

/// Waits for the reconcilers, lets each machine boot, and judges the end.
async fn judge_end(site: &SimulatedSite, random: &Random) -> Result<(), String> {
    wait_for_settled(site).await?;
    let mut sessions = Vec::new();
    for machine in &site.machines {
        let must_boot = must_boot(site, *machine).await;
        let end = machine.boot(site, &Mutex::new(random.clone())).await;
        sessions.push(LastSession { node: machine.node.to_string(), end, must_boot });
    }
    check_sessions(&sessions)?;
    wait_for_settled(site).await
}

/// Waits until records and attachments belong together, and no node keeps a volume that it has lost.
async fn wait_for_settled(site: &SimulatedSite) -> Result<(), String> {
    let records = Attachments::new(Arc::clone(&site.store) as _);
    let named = list_named_volumes(site).await;
    let deadline = Instant::now() + SETTLING;
    loop {
        let all = records.list_all().await.expect("the store is readable");
        let attachments = site.network.cinder.lock().attachments();
        let result = check_attachments(&all, &attachments).and_then(|()| check_wanted(&all, &named));
        match result {
            Ok(()) => return Ok(()),
            Err(fault) if Instant::now() >= deadline => return Err(fault),
            Err(_) => sleep(Duration::from_secs(5)).await,
        }
    }
}

/// The volumes that each node's records name: for its targets, its one-time boot and its fallback.
async fn list_named_volumes(site: &SimulatedSite) -> BTreeSet<(Uuid, String)> {
    let inventory = Inventory::new(Arc::clone(&site.store) as _);
    let mut all = BTreeSet::new();
    for SiteMachine { node: uuid, .. } in &site.machines {
        let node = inventory.get::<Node>(*uuid).await.expect("reads").expect("exists").value;
        let targets: Vec<VolumeTarget> = inventory.list_all_of(*uuid).await.expect("reads");
        let once = inventory.find_boot_once(*uuid).await.expect("reads");
        let once = once.into_iter().flat_map(|once| {
            [once.cinder_volume().map(str::to_owned), once.earlier_volume].into_iter().flatten()
        });
        let fallback = Fallback::of(&node).ok().flatten();
        let fallback = fallback.and_then(|fallback| fallback.source.cinder_volume().map(str::to_owned));
        let named = targets.into_iter().map(|target| target.volume_id).chain(once).chain(fallback);
        all.extend(named.map(|volume| (*uuid, volume)));
    }
    all
}

/// Whether a node's records call for a boot, from volumes that no other node has or names.
async fn must_boot(site: &SimulatedSite, machine: SiteMachine) -> bool {
    let inventory = Inventory::new(Arc::clone(&site.store) as _);
    let node = inventory.get::<Node>(machine.node).await.expect("reads").expect("exists").value;
    let targets: Vec<VolumeTarget> = inventory.list_all_of(machine.node).await.expect("reads");
    let may_boot = node.provision_state == ProvisionState::Active
        && !node.maintenance
        && targets.iter().any(|target| target.boot_index == 0);
    let named = list_named_volumes(site).await;
    let is_free = |volume: &String| {
        site.shared.contains(volume)
            || named.iter().all(|(user, named)| *user == machine.node || named != volume)
    };
    may_boot && named.iter().filter(|(user, _)| *user == machine.node).all(|(_, volume)| is_free(volume))
}
