//! Chooses the volume of a boot session: the node's own, or its fallback; and hands its script out.
//!
//! The first boot request of a session judges the boot before it, and writes the result before the machine gets its script. The
//! script of an own volume is recorded before it leaves. A state that another instance or an operator changed meanwhile makes
//! the machine ask again.

use jiff::Timestamp;

use super::find::{FallbackBoot, storage_interface};
use super::judge::{BootJudgement, EndedBoot, count, judge};
use super::presence::SentScript;
use super::reports::ReportNote;
use super::{FallbackPolicy, FallbackWatch};
use crate::boot::decision::{Mode, Stop};
use crate::boot::records::NodeRecords;
use crate::model::{
    BootRequest, Fallback, FallbackInForce, FallbackState, Node, VolumeTarget, WatchedBoot, WatchedStage,
};
use crate::store::{FallbackSnapshot, StoreError};

/// Attempts at a write before the machine is asked to wait.
const ATTEMPTS: usize = 10;
/// The delay before a machine retries after its node's records changed, in seconds.
const RETRY_SECONDS: u32 = 1;

/// The volume of a boot session.
#[derive(Debug)]
pub(in crate::boot) enum BootChoice {
    /// The node's own volumes.
    Own {
        /// What is left to record once the script is made; `None`: nothing.
        hand_out: Option<PendingHandOut>,
        /// Remarks for the console.
        note: Option<String>,
    },
    /// The fallback.
    Fallback(Box<FallbackBoot>),
}

/// A boot script of an own volume that is not recorded yet.
#[derive(Debug)]
pub(in crate::boot) struct PendingHandOut {
    journey: String,
    policy: FallbackPolicy,
}

/// A boot session that begins, and the node's fallback.
#[derive(Debug, Clone, Copy)]
struct BeginningSession<'a> {
    own: &'a NodeRecords,
    fallback: &'a Fallback,
    /// The own boot volume: the id of its target, and of the volume.
    volume: &'a str,
    journey: &'a str,
    policy: FallbackPolicy,
}

/// The state after the first request of a session.
#[derive(Debug)]
struct NextState {
    state: FallbackState,
    /// The fallback is due, for this number of failed boots.
    flip: Option<u32>,
}

impl FallbackWatch {
    /// Chooses the volume of a boot session, by a request whose sender is verified. The first request of the session judges
    /// the boot before it. `check_free`: finds the reason why the fallback's volume must not be used, another node for example.
    pub(in crate::boot) async fn choose<F>(
        &self,
        own: &NodeRecords,
        request: &BootRequest,
        mode: Mode,
        policy: FallbackPolicy,
        check_free: impl Fn(Fallback) -> F,
    ) -> Result<BootChoice, Stop>
    where
        F: Future<Output = Result<Result<(), String>, StoreError>>,
    {
        let untracked = |note| BootChoice::Own { hand_out: None, note };
        let fallback = match Fallback::of(&own.node) {
            Ok(None) => return Ok(untracked(None)),
            Ok(Some(fallback)) => fallback,
            Err(error) => return Ok(untracked(Some(format!("the fallback is not watched: {error}")))),
        };
        let Some(target) = own.boot_target() else { return Ok(untracked(None)) };
        let journey = match (request.journey.as_deref(), mode) {
            (Some(journey), _) => journey,
            // The next session has no name yet.
            (None, Mode::Preview | Mode::NextSession) => "",
            (None, Mode::Boot) => {
                // A script outside a boot session is in no record: the watched boot may not be the last one.
                let doubt = ReportNote::Doubt("a script was sent outside a boot session");
                self.shared.notes.push(request.mac(), doubt);
                return Ok(untracked(None));
            }
        };
        let volume = name_own_volume(target);
        let session = BeginningSession { own, fallback: &fallback, volume: &volume, journey, policy };
        for _ in 0..ATTEMPTS {
            let Some(snapshot) = self.records.read(own.node.uuid, Some(target.uuid)).await? else {
                return Ok(untracked(None));
            };
            if !session.matches(&snapshot) {
                return Err(session.retry());
            }
            if let Some(in_force) = snapshot.state.in_force_for(&fallback.source) {
                let boot = FallbackBoot::new(own, &fallback, &snapshot, in_force, false);
                return Ok(BootChoice::Fallback(Box::new(boot)));
            }
            let hand_out =
                || (mode == Mode::Boot).then(|| PendingHandOut { journey: journey.to_owned(), policy });
            if snapshot.state.boot.as_ref().is_some_and(|boot| boot.journey == journey) {
                return Ok(BootChoice::Own { hand_out: hand_out(), note: None });
            }
            let mut next = self.judge_last_boot(&session, &snapshot, request).await;
            let mut note = None;
            if let Some(failed_boots) = next.flip {
                match check_free(fallback.clone()).await? {
                    Ok(()) => next.state = session.put_in_force(&snapshot.state, failed_boots),
                    Err(reason) => {
                        next.flip = None;
                        note = Some(format!(
                            "the fallback is due after {failed_boots} failed boots, but {reason}"
                        ));
                    }
                }
            }
            if mode != Mode::Boot {
                return Ok(session.describe(&snapshot, &next, None, note));
            }
            match self.records.replace(&snapshot, &next.state).await {
                Ok(true) => {
                    self.shared.sightings.note(own.node.uuid, Some(&next.state));
                    if let Some(failed_boots) = next.flip {
                        tracing::warn!(node = %own.node.uuid, failed_boots, "the node boots from its fallback from now on");
                    }
                    return Ok(session.describe(&snapshot, &next, hand_out(), note));
                }
                Ok(false) => {}
                // The machine boots all the same, from its own volume, and the boot is never judged.
                Err(error) => {
                    tracing::warn!(node = %own.node.uuid, %error, "boot not watched for the fallback");
                    self.shared.notes.push(request.mac(), ReportNote::Doubt(UNRECORDED));
                    return Ok(untracked(None));
                }
            }
        }
        Err(session.retry())
    }

    async fn judge_last_boot(
        &self,
        session: &BeginningSession<'_>,
        snapshot: &FallbackSnapshot,
        request: &BootRequest,
    ) -> NextState {
        let BeginningSession { own, fallback, journey, policy, .. } = *session;
        let mut state = snapshot.state.clone();
        let mut next = WatchedBoot::begin(journey, session.volume);
        if let Some(boot) = &snapshot.state.boot {
            let elapsed = self.shared.sightings.elapsed(own.node.uuid, boot);
            let instances = self.list_instances().await;
            let unwritten = self.find_unwritten_doubt(own.node.uuid, &request.macs).await;
            let ended = EndedBoot {
                stage: boot.stage,
                doubt: boot.doubt.as_deref().or(unwritten),
                elapsed: elapsed.map(|(clock, _)| clock),
                own_elapsed: elapsed.map(|(_, own)| own),
                same_instances: instances.is_some_and(|instances| instances == boot.instances),
                same_volume: boot.volume == session.volume,
                is_down: boot.is_down,
            };
            let result = judge(&ended, policy);
            tracing::info!(node = %own.node.uuid, ?result, failed_boots = state.failed_boots, "boot judged for the fallback");
            match result {
                BootJudgement::Unknown(reason) => state.reset(reason),
                BootJudgement::Up => state.reset("the node reported up"),
                BootJudgement::Early => {
                    (next.clock, next.instances) = (boot.clock.clone(), boot.instances.clone());
                }
                BootJudgement::Failed => {}
            }
            state.failed_boots = count(state.failed_boots, result);
        }
        // Every boot of a system that sends no reports would look failed. So this volume's system must have sent one.
        let is_due = state.failed_boots >= policy.after && snapshot.has_reported_up();
        let flip = (is_due && is_usable(own, fallback)).then_some(state.failed_boots);
        state.boot = Some(next);
        NextState { state, flip }
    }

    /// The sessions of all instances; `None`: unknown, or without the session of this process.
    async fn list_instances(&self) -> Option<Vec<String>> {
        let instances = self.records.cluster().instances().await.ok()?;
        let is_listed = instances.iter().any(|instance| instance.is_self);
        let mut sessions: Vec<_> = instances.into_iter().map(|instance| instance.session).collect();
        sessions.sort();
        is_listed.then_some(sessions)
    }

    /// Records that the script of an own volume leaves. Stops it if the session has another volume by now.
    pub(in crate::boot) async fn hand_out(
        &self,
        node: &Node,
        request: &BootRequest,
        pending: &PendingHandOut,
    ) -> Result<(), Stop> {
        match self.try_hand_out(node, pending).await {
            Ok(Some(script)) => {
                if let Some(delay) = pending.policy.presence_delay() {
                    self.schedule_check(script, &request.neighbour_check, delay);
                }
                Ok(())
            }
            Ok(None) => Err(Stop::wait(node, "its records were changed a moment ago", RETRY_SECONDS)),
            Err(error) => {
                tracing::warn!(node = %node.uuid, %error, "boot not watched for the fallback");
                self.shared.notes.push(request.mac(), ReportNote::Doubt(UNRECORDED));
                Ok(())
            }
        }
    }

    /// Returns the script as recorded; `None`: the session has another volume by now.
    async fn try_hand_out(
        &self,
        node: &Node,
        pending: &PendingHandOut,
    ) -> Result<Option<SentScript>, StoreError> {
        let instances = self.list_instances().await;
        for _ in 0..ATTEMPTS {
            let Some(snapshot) = self.records.read(node.uuid, None).await? else { return Ok(None) };
            let mut state = snapshot.state.clone();
            let Some(boot) = state.boot.as_mut().filter(|boot| boot.journey == pending.journey) else {
                return Ok(None);
            };
            if state.in_force.is_some() {
                return Ok(None);
            }
            boot.scripts = boot.scripts.saturating_add(1);
            boot.is_down = false;
            let number = boot.scripts;
            if boot.stage != WatchedStage::Up {
                // An earlier boot whose time goes on keeps its own instances.
                if boot.stage == WatchedStage::Begun && boot.clock == boot.journey {
                    match &instances {
                        Some(instances) => boot.instances.clone_from(instances),
                        None => boot.doubt = Some("the instances of volboot were not known".to_owned()),
                    }
                }
                boot.stage = WatchedStage::HandedOut;
                state.may_run = false;
            }
            if self.records.replace(&snapshot, &state).await? {
                self.shared.sightings.note(node.uuid, Some(&state));
                let journey = pending.journey.clone();
                return Ok(Some(SentScript { node: node.uuid, journey, number }));
            }
        }
        Ok(None)
    }
}

/// Why a boot whose record could not be written does not count.
const UNRECORDED: &str = "a boot of the machine could not be recorded";

impl BeginningSession<'_> {
    /// Whether the records that the request was decided from are those of the snapshot.
    fn matches(&self, snapshot: &FallbackSnapshot) -> bool {
        let is_same_volume =
            snapshot.target.as_ref().is_some_and(|target| name_own_volume(target) == self.volume);
        is_same_volume && Fallback::of(&snapshot.node).as_ref() == Ok(&Some(self.fallback.clone()))
    }

    fn retry(&self) -> Stop {
        Stop::wait(&self.own.node, "its records were changed a moment ago", RETRY_SECONDS)
    }

    fn put_in_force(&self, state: &FallbackState, failed_boots: u32) -> FallbackState {
        let in_force = FallbackInForce {
            since: Timestamp::now(),
            failed_boots,
            failed_volume: own_volume_id(self.own).to_owned(),
            source: self.fallback.source.key(),
        };
        let last_reset = state.last_reset.clone();
        FallbackState { failed_boots, last_reset, boot: None, may_run: true, in_force: Some(in_force) }
    }

    fn describe(
        &self,
        snapshot: &FallbackSnapshot,
        next: &NextState,
        hand_out: Option<PendingHandOut>,
        note: Option<String>,
    ) -> BootChoice {
        match &next.state.in_force {
            Some(in_force) if next.flip.is_some() => {
                let boot = FallbackBoot::new(self.own, self.fallback, snapshot, in_force, true);
                BootChoice::Fallback(Box::new(boot))
            }
            _ => BootChoice::Own { hand_out, note },
        }
    }
}

/// The identity of an own boot volume; changes with every update of the volume target.
pub(super) fn name_own_volume(target: &VolumeTarget) -> String {
    let VolumeTarget { uuid, volume_id, created_at, updated_at, .. } = target;
    format!("{uuid} {} {volume_id}", updated_at.unwrap_or(*created_at))
}

fn own_volume_id(own: &NodeRecords) -> &str {
    own.boot_target().map_or("", |target| target.volume_id.as_str())
}

/// Whether the node can boot from the fallback beside its own records.
fn is_usable(own: &NodeRecords, fallback: &Fallback) -> bool {
    !fallback.with_data || storage_interface(&fallback.source) == own.node.storage_interface
}
