//! What came of a question, for the machine that asked it.
//!
//! The strictest word counts: if Cinder said no to one volume, the machine does not boot from the others; if one is in
//! a state that passes, it waits; and only where Cinder is away for all that is missing does what it said last do.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::obstacle::Trouble;
use super::question::{Outcome, Resolving, Stage};
use super::{Attach, Examined, Found, LONG_PAUSE, Progress, SHORT_PAUSE, Source, Wanted};
use crate::model::{Attachment, AttachmentState, Connection};

/// How long a volume may be in a state that passes.
const LONGEST_PASSING: Duration = Duration::from_secs(60);

impl Attach {
    /// It takes longer than a machine is made to wait.
    pub(super) fn not_yet(&self, node: Uuid, resolving: &Resolving) -> Progress {
        if let Some(reason) = self.waited_too_long(node) {
            return Progress::Refused(reason);
        }
        let place = match &*resolving.borrow() {
            Stage::Queued(ticket) => Some(ticket.place()),
            Stage::Asking | Stage::Ended(_) => None,
        };
        match place {
            Some(place) => Progress::Wait {
                reason: format!("waiting for its turn to ask Cinder: {place} in the queue"),
                seconds: SHORT_PAUSE.saturating_add((place / 50) as u32).min(LONG_PAUSE),
            },
            None => Progress::Wait { reason: "asking Cinder for its volumes".into(), seconds: SHORT_PAUSE },
        }
    }

    /// What an ended resolution means for the machine that asks.
    pub(super) async fn delivered(
        &self,
        wanted: &Wanted<'_>,
        resolving: &Resolving,
        outcome: &Outcome,
    ) -> Progress {
        let node = wanted.node.uuid;
        let mut found = HashMap::new();
        let (mut refused, mut passing, mut away) = (Vec::new(), Vec::new(), Vec::new());
        for (volume, answer) in outcome {
            match answer {
                Ok(answer) if self.still_holds(wanted, volume, answer).await => {
                    found.insert(volume.clone(), answer.clone());
                }
                // Between the answer and this question, somebody took it away.
                Ok(_) => {
                    self.forget(node);
                    let reason = "the node's volumes were changed while it asked for them".into();
                    return Progress::Wait { reason, seconds: SHORT_PAUSE };
                }
                Err(Trouble::Refused(reason)) => refused.push(reason.clone()),
                Err(Trouble::Passing(reason)) => passing.push(reason.clone()),
                Err(Trouble::Away(reason)) => away.push((volume, reason)),
            }
        }
        if !refused.is_empty() {
            self.forget(node);
            return Progress::Refused(refused.join("; "));
        }
        if !passing.is_empty() {
            let reason = passing.join("; ");
            self.told(node, resolving, false);
            return if self.passing_for(node) > LONGEST_PASSING {
                self.forget(node);
                Progress::Refused(format!("{reason} for over {} s", LONGEST_PASSING.as_secs()))
            } else {
                Progress::Wait { reason, seconds: SHORT_PAUSE * 2 }
            };
        }
        let mut unknown = Vec::new();
        for (volume, reason) in away {
            match self.last_known(wanted, volume, Some(reason)).await {
                Ok(last) => {
                    found.insert(volume.clone(), last);
                }
                Err(why) => unknown.push((why, reason)),
            }
        }
        let Some((why, reason)) = unknown.pop() else {
            self.told(node, resolving, true);
            return Progress::Ready(found);
        };
        self.told(node, resolving, false);
        if let Some(reason) = self.waited_too_long(node) {
            return Progress::Refused(reason);
        }
        let reason = format!("Cinder is away: {reason}; {why}");
        Progress::Wait { reason, seconds: LONG_PAUSE - 1 }
    }

    /// Whether a volume that Cinder was asked for is held for the node still.
    async fn still_holds(&self, wanted: &Wanted<'_>, volume: &str, found: &Found) -> bool {
        match self.0.records.get(wanted.node.uuid, volume).await {
            Ok(Some(record)) => record.state == AttachmentState::Attached && found.held_by == Some(record.id),
            Ok(None) | Err(_) => false,
        }
    }

    /// What asking would most likely bring, found out without changing anything: what Cinder said last, unless
    /// something is in the way.
    pub async fn foresee(&self, wanted: Wanted<'_>) -> Progress {
        let away = match self.examine(wanted.node.uuid, wanted.targets).await {
            Examined::Faults(faults) if faults.is_empty() => None,
            Examined::Faults(faults) => return Progress::Refused(faults.join("; ")),
            Examined::Away(reason) => Some(reason),
        };
        let mut found = HashMap::new();
        for target in wanted.targets {
            let volume = &target.volume_id;
            match (self.last_known(&wanted, volume, away.as_deref()).await, &away) {
                (Ok(last), _) => drop(found.insert(volume.clone(), last)),
                (Err(why), Some(reason)) => {
                    let reason = format!("Cinder is away: {reason}; {why}");
                    return Progress::Wait { reason, seconds: LONG_PAUSE };
                }
                (Err(_), None) => {
                    let reason = format!("volume {volume} will be attached when the machine asks");
                    return Progress::Wait { reason, seconds: SHORT_PAUSE };
                }
            }
        }
        Progress::Ready(found)
    }

    /// The connection that Cinder gave last, if the volume surely still is this node's; else why it is not used. `away`:
    /// why it has to do.
    async fn last_known(
        &self,
        wanted: &Wanted<'_>,
        volume: &str,
        away: Option<&str>,
    ) -> Result<Found, String> {
        let began = Instant::now();
        let oldest = match (self.present().policy.last_known, away) {
            (None, Some(_)) => {
                return Err("last known connections are not used (when_cinder_is_away)".into());
            }
            (oldest, _) => oldest.unwrap_or(Duration::MAX),
        };
        let never = || format!("volume {volume} was never attached before");
        let record = self.0.records.get(wanted.node.uuid, volume).await.ok().flatten().ok_or_else(never)?;
        let Attachment { connection: Some(connection), learnt_at: Some(learnt_at), .. } = &record else {
            return Err(never());
        };
        if record.state != AttachmentState::Attached {
            return Err(format!("volume {volume} is being detached"));
        }
        if record.initiator.as_deref() != Some(wanted.initiator.as_str()) {
            return Err(format!("volume {volume} was attached with another initiator name"));
        }
        let age = Timestamp::now().duration_since(*learnt_at).unsigned_abs();
        if age > oldest {
            return Err(format!("what is known of volume {volume} is too old (last_known_max_age)"));
        }
        let connection = Connection::try_from(connection).map_err(|error| error.to_string())?;
        let source = Source::LastKnown { learnt_at: *learnt_at, away: away.map(str::to_owned) };
        Ok(Found { connection, source, took: began.elapsed(), held_by: None })
    }
}
