//! Turns the results of a resolution into the response to a boot request, and previews that response.
//!
//! The strictest result decides. If Cinder refused one volume, the machine does not boot from the others. A transient
//! error makes the machine wait. Last known connections serve only if every missing volume is merely unavailable.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

use super::error::AttachError;
use super::single_flight::{Phase, PhaseReceiver, VolumeResults};
use super::{
    Attach, ConnectionSource, MAX_RETRY_SECONDS, MIN_RETRY_SECONDS, Resolution, ResolvedVolume, VolumeCheck,
    VolumeRequest,
};
use crate::model::{Attachment, AttachmentState, Connection};

/// How long a machine waits for a transient error to pass.
const MAX_TRANSIENT: Duration = Duration::from_secs(60);

impl Attach {
    /// The response while the resolution is queued or running.
    pub(super) fn respond_pending(&self, node: Uuid, resolution: &PhaseReceiver) -> Resolution {
        if let Some(reason) = self.expire_wait(node) {
            return Resolution::Refused(reason);
        }
        let position = match &*resolution.borrow() {
            Phase::Queued(ticket) => Some(ticket.position()),
            Phase::Running | Phase::Done(_) => None,
        };
        match position {
            Some(position) => Resolution::Wait {
                reason: format!("the request to Cinder is queued at position {position}"),
                seconds: MIN_RETRY_SECONDS.saturating_add((position / 50) as u32).min(MAX_RETRY_SECONDS),
            },
            None => {
                Resolution::Wait { reason: "Cinder has not answered yet".into(), seconds: MIN_RETRY_SECONDS }
            }
        }
    }

    /// The response once the resolution is done.
    pub(super) async fn respond_done(
        &self,
        request: &VolumeRequest<'_>,
        resolution: &PhaseReceiver,
        results: &VolumeResults,
    ) -> Resolution {
        let node = request.node.uuid;
        let mut volumes = HashMap::new();
        let (mut refusals, mut transients, mut outages) = (Vec::new(), Vec::new(), Vec::new());
        for (volume, result) in results {
            match result {
                Ok(resolved) if self.is_still_attached(request, volume, resolved).await => {
                    volumes.insert(volume.clone(), resolved.clone());
                }
                // The volume was taken from the node after the resolution.
                Ok(_) => {
                    self.forget(node);
                    let reason = "the volume targets changed during the request".into();
                    return Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS };
                }
                Err(AttachError::Refused(reason)) => refusals.push(reason.clone()),
                Err(AttachError::Transient(reason)) => transients.push(reason.clone()),
                Err(AttachError::Unavailable(reason)) => outages.push((volume, reason)),
            }
        }
        if !refusals.is_empty() {
            self.forget(node);
            return Resolution::Refused(refusals.join("; "));
        }
        if !transients.is_empty() {
            let reason = transients.join("; ");
            self.mark_delivered(node, resolution, false);
            return if self.transient_duration(node) > MAX_TRANSIENT {
                self.forget(node);
                let limit = MAX_TRANSIENT.as_secs();
                Resolution::Refused(format!("{reason}; the condition persisted for more than {limit} s"))
            } else {
                Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS * 2 }
            };
        }
        let mut missing = Vec::new();
        for (volume, outage) in outages {
            match self.find_last_known(request, volume, Some(outage)).await {
                Ok(last_known) => {
                    volumes.insert(volume.clone(), last_known);
                }
                Err(reason) => missing.push((outage, reason)),
            }
        }
        let Some((outage, reason)) = missing.pop() else {
            self.mark_delivered(node, resolution, true);
            return Resolution::Ready(volumes);
        };
        self.mark_delivered(node, resolution, false);
        if let Some(reason) = self.expire_wait(node) {
            return Resolution::Refused(reason);
        }
        let reason = format!("Cinder is unavailable: {outage}; {reason}");
        Resolution::Wait { reason, seconds: MAX_RETRY_SECONDS - 1 }
    }

    /// Whether the node still has the attachment of a resolved volume.
    async fn is_still_attached(
        &self,
        request: &VolumeRequest<'_>,
        volume: &str,
        resolved: &ResolvedVolume,
    ) -> bool {
        match self.0.records.get(request.node.uuid, volume).await {
            Ok(Some(record)) => {
                record.state == AttachmentState::Attached && resolved.attachment == Some(record.id)
            }
            Ok(None) | Err(_) => false,
        }
    }

    /// Predicts [`resolve`](Self::resolve) without changing anything: the last known connections, if Cinder would
    /// permit the attachments.
    pub async fn preview(&self, request: VolumeRequest<'_>) -> Resolution {
        let outage = match self.check(request.node.uuid, request.targets).await {
            VolumeCheck::Faults(faults) if faults.is_empty() => None,
            VolumeCheck::Faults(faults) => return Resolution::Refused(faults.join("; ")),
            VolumeCheck::Unavailable(reason) => Some(reason),
        };
        let mut volumes = HashMap::new();
        for target in request.targets {
            let volume = &target.volume_id;
            match (self.find_last_known(&request, volume, outage.as_deref()).await, &outage) {
                (Ok(last_known), _) => drop(volumes.insert(volume.clone(), last_known)),
                (Err(reason), Some(outage)) => {
                    let reason = format!("Cinder is unavailable: {outage}; {reason}");
                    return Resolution::Wait { reason, seconds: MAX_RETRY_SECONDS };
                }
                (Err(_), None) => {
                    let reason = format!("volume {volume} will be attached on the machine's boot request");
                    return Resolution::Wait { reason, seconds: MIN_RETRY_SECONDS };
                }
            }
        }
        Resolution::Ready(volumes)
    }

    /// The last known connection, if the volume is certainly still this node's; otherwise the reason against its use.
    /// `outage` is why Cinder cannot be used, if so.
    async fn find_last_known(
        &self,
        request: &VolumeRequest<'_>,
        volume: &str,
        outage: Option<&str>,
    ) -> Result<ResolvedVolume, String> {
        let started_at = Instant::now();
        let max_age = match (self.settings().policy.last_known_max_age, outage) {
            (None, Some(_)) => {
                return Err("last known connections are disabled (when_cinder_is_away)".into());
            }
            (max_age, _) => max_age.unwrap_or(Duration::MAX),
        };
        let no_connection = || format!("volume {volume} has no last known connection");
        let record = self.0.records.get(request.node.uuid, volume).await;
        let record = record.ok().flatten().ok_or_else(no_connection)?;
        let Attachment { connection: Some(connection), resolved_at: Some(resolved_at), .. } = &record else {
            return Err(no_connection());
        };
        if record.state != AttachmentState::Attached {
            return Err(format!("volume {volume} is being detached"));
        }
        if record.initiator.as_deref() != Some(request.initiator.as_str()) {
            return Err(format!("volume {volume} was attached with another initiator name"));
        }
        let age = Timestamp::now().duration_since(*resolved_at).unsigned_abs();
        if age > max_age {
            return Err(format!(
                "the last known connection of volume {volume} is older than last_known_max_age"
            ));
        }
        let connection = Connection::try_from(connection).map_err(|error| error.to_string())?;
        let source =
            ConnectionSource::LastKnown { resolved_at: *resolved_at, outage: outage.map(str::to_owned) };
        Ok(ResolvedVolume { connection, source, duration: started_at.elapsed(), attachment: None })
    }
}
