//! What a machine does: boot sessions at any instance, power cycles, reports.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{sleep, timeout};

use super::cinder::parse_target;
use super::history::{RunEvent, ScriptSource, ScriptVolume};
use super::machine::SiteMachine;
use super::random::Random;
use super::site::SimulatedSite;
use crate::boot::Decision;
use crate::model::{BootAnswer, BootRequest, BootStep, BootWindowStage, ConnectionSource};

/// How long a machine waits for an answer before it asks again, as a rule another instance.
const PATIENCE: Duration = Duration::from_secs(20);
/// The requests of a boot session before the machine starts again.
const MAX_REQUESTS: u32 = 40;

/// How a boot session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SessionEnd {
    Booted,
    /// With the last reason.
    NotBooted(String),
}

impl SiteMachine {
    /// Boots again and again, until the task is aborted.
    pub(super) async fn run(self, site: Arc<SimulatedSite>, random: Random) {
        let random = Mutex::new(random);
        let draw = |from, to| random.lock().millis(from, to);
        loop {
            // A power cycle ends a session at any time.
            let limit = draw(500, 90_000);
            let _ = timeout(limit, self.boot(&site, &random)).await;
            sleep(draw(100, 20_000)).await;
        }
    }

    /// One boot session: requests until the machine has a script, and the reports that follow.
    pub(super) async fn boot(self, site: &SimulatedSite, random: &Mutex<Random>) -> SessionEnd {
        let journey = site.new_journey();
        let mut attempt = 1;
        let mut reason = "no instance answered".to_owned();
        for _ in 0..MAX_REQUESTS {
            let slot = random.lock().below(site.slots());
            let answer = timeout(PATIENCE, self.ask(site, slot, &journey, attempt)).await;
            let seconds = match answer {
                Ok(BootAnswer::Boot(_)) => {
                    if self.run_system(site, random).await {
                        return SessionEnd::Booted;
                    }
                    attempt += 1;
                    1
                }
                Ok(BootAnswer::Wait { reason: why, seconds }) => {
                    reason = why;
                    seconds
                }
                Ok(answer) => {
                    reason = answer.reason().unwrap_or_default().to_owned();
                    return SessionEnd::NotBooted(reason);
                }
                Err(_) => 1,
            };
            sleep(Duration::from_secs(seconds.into())).await;
        }
        SessionEnd::NotBooted(reason)
    }

    /// Sends a boot request to an instance.
    async fn ask(self, site: &SimulatedSite, slot: usize, journey: &str, attempt: u32) -> BootAnswer {
        let instance = site.instance(slot);
        let request = site.new_request();
        let (node, history) = (self.node, &site.history);
        history.record(RunEvent::Asked { node, request, instance: instance.link.instance });
        let boot_request =
            BootRequest { journey: Some(journey.to_owned()), attempt, ..BootRequest::new(self.card) };
        instance.link.pass().await;
        let boot = instance.boot();
        let decision = boot.answer(&boot_request).await;
        // A suspended instance sends its answer later.
        instance.link.pass().await;
        history.record(match read_script(&decision) {
            Some(volumes) => RunEvent::Script { node, request, volumes },
            None => RunEvent::Told { node, request, answer: format!("{:?}", decision.answer) },
        });
        if let Some(once) = decision.ended_once {
            tokio::spawn(async move { boot.end_once(&once).await });
        }
        decision.answer
    }

    /// The machine runs from its volume. Returns whether it could use its script.
    async fn run_system(self, site: &SimulatedSite, random: &Mutex<Random>) -> bool {
        let (slot, hooks, comes_up, delay) = {
            let mut random = random.lock();
            let slot = random.below(site.slots());
            (slot, !random.one_in(6), !random.one_in(3), random.millis(500, 5_000))
        };
        sleep(delay).await;
        if !hooks {
            return false;
        }
        let boot = site.instance(slot).boot();
        boot.note_report(self.card, Some(&BootStep::Hooked), None);
        let hooked = timeout(PATIENCE, boot.note_boot(self.card, BootWindowStage::Hooked));
        if hooked.await.is_ok() && comes_up {
            sleep(delay).await;
            boot.note_report(self.card, Some(&BootStep::Up), None);
        }
        true
    }
}

/// The volumes of a boot script, as the machine meets them. `None`: the answer is no boot from volumes.
fn read_script(decision: &Decision) -> Option<Vec<ScriptVolume>> {
    let BootAnswer::Boot(plan) = &decision.answer else { return None };
    let volumes = std::iter::once(&plan.boot).chain(&plan.data);
    let read = volumes.map(|volume| {
        let (attachment, export) =
            parse_target(volume.paths[0].target.as_str()).expect("a target of the virtual Cinder");
        let resolution = decision.resolutions.iter().find(|resolution| resolution.volume == volume.id);
        let source = match resolution.map(|resolution| &resolution.source) {
            Some(ConnectionSource::LastKnown { .. }) => ScriptSource::LastKnown,
            Some(ConnectionSource::Confirmed { .. }) => ScriptSource::Confirmed,
            _ => ScriptSource::Export,
        };
        ScriptVolume { volume: volume.id.clone(), attachment, export, source }
    });
    Some(read.collect())
}
