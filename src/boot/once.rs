//! The one-time boot of a node: what its machine gets in place of the node's own volumes, and when that ends.
//!
//! | the record ([`BootOnce`]) | the answer |
//! |---|---|
//! | armed | the source; the record is consumed before the script leaves |
//! | consumed by this journey | the source, at every try |
//! | consumed by another journey, or expired | the node's own volumes; the record ends once that script is out |
//!
//! The rules of admission and of the requester's place in the network are those of volumes, whatever the source. A volume
//! that is not shared is given only if no other node uses it by now. Where the store cannot write, the machine waits:
//! otherwise the next journey would get the source again.

#[cfg(test)]
mod tests;

use jiff::Timestamp;

use super::admit::check_state;
use super::decision::{Decision, Mode, Stop};
use super::hold::hold;
use super::locate::{VolumeLocator, locate_once};
use super::plan::plan;
use super::records::{BootableRecords, NodeRecords};
use super::validate::{read_machine_settings, validate};
use super::verify::Verification;
use super::volumes::VerifiedRequester;
use super::{Boot, NamedVolume};
use crate::model::{
    BootAnswer, BootOnce, BootOutcome, BootRequest, Node, OncePhase, OnceSource, VolumeTarget,
};
use crate::store::{InventoryError, StoreError};

/// The delay before a machine retries while the store cannot write, in seconds.
const STORE_RETRY_SECONDS: u32 = 10;
/// The delay before a machine retries after another request changed the record, in seconds.
const CONFLICT_RETRY_SECONDS: u32 = 1;

/// The node's one-time boot, as a boot request meets it.
#[derive(Debug)]
pub(super) enum OnceAtRequest {
    /// The request gets the source; `true` if the record has still to be consumed.
    Given(BootOnce, bool),
    /// The script of this request ends the record.
    Over(BootOnce),
    /// There is none for this request.
    None,
}

impl OnceAtRequest {
    fn new(once: BootOnce, request: &BootRequest, mode: Mode, now: Timestamp) -> Self {
        // The next session has a journey of its own.
        if mode == Mode::NextSession {
            return if once.is_armed(now) { Self::Given(once, true) } else { Self::None };
        }
        match once.phase(request.journey.as_deref(), now) {
            OncePhase::Armed => Self::Given(once, true),
            OncePhase::Bound => Self::Given(once, false),
            OncePhase::Over => Self::Over(once),
            OncePhase::OutOfReach => Self::None,
        }
    }
}

impl Boot {
    /// Reads the one-time boot of a request's node.
    pub(super) async fn read_once(
        &self,
        node: &Node,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<OnceAtRequest, StoreError> {
        let once = self.reads.find_boot_once(node.uuid).await?;
        Ok(once.map_or(OnceAtRequest::None, |once| OnceAtRequest::new(once, request, mode, Timestamp::now())))
    }

    /// Decides a request that gets the source of a one-time boot.
    pub(super) async fn decide_once(
        &self,
        records: &NodeRecords,
        once: BootOnce,
        is_armed: bool,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let node = &records.node;
        check_state(node).map_err(|reason| Stop::refuse(node, reason))?;
        let VerifiedRequester { verification, window } = self.verify(node, request, mode).await?;
        let decided = self.decide_verified_once(records, once, is_armed, verification, request, mode).await;
        self.extend_window(window, decided).await
    }

    async fn decide_verified_once(
        &self,
        records: &NodeRecords,
        once: BootOnce,
        is_armed: bool,
        verification: Verification,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let node = &records.node;
        let answer = async {
            if is_armed {
                self.check_unused(node, &once).await?;
            }
            self.answer_once(records, &once, request, mode).await
        };
        let decision = match answer.await {
            Ok(decision) => decision,
            Err(Stop::Decided(decision)) => *decision,
            Err(stop @ Stop::StoreError(_)) => return Err(stop),
        };
        let decision = Decision {
            attached_card: verification.card(),
            is_claim_accepted: true,
            once: Some(once.source.to_string()),
            ..decision
        };
        let decision = match decision.answer {
            BootAnswer::Boot(_) => hold(&self.loop_detector, request, mode, verification, decision),
            _ => decision,
        };
        let decision = self.order_paths(mode, decision).await;
        self.consume(node, &once, is_armed, request, mode, decision).await
    }

    /// Refuses a volume that another node has begun to use since the one-time boot was set.
    async fn check_unused(&self, node: &Node, once: &BootOnce) -> Result<(), Stop> {
        let Some(volume) = NamedVolume::of_once(&once.source).filter(|_| !once.shared) else {
            return Ok(());
        };
        match self.find_other_user(node.uuid, &volume, Timestamp::now()).await? {
            Some(user) => Err(Stop::refuse(node, format!("one-time boot from {}: {user}", once.source))),
            None => Ok(()),
        }
    }

    async fn answer_once(
        &self,
        records: &NodeRecords,
        once: &BootOnce,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let node = &records.node;
        let sentence = format!("one-time boot from {}", once.source);
        match (&once.source, once.volume_target()) {
            (OnceSource::Local, _) => Ok(Decision::boot_local_disk(node, sentence)),
            (OnceSource::Shell, _) => Ok(Decision::open_shell(node, sentence)),
            (OnceSource::Url { url }, _) => {
                let url = url.parse().map_err(|error| Stop::refuse(node, format!("{sentence}: {error}")))?;
                Ok(Decision::boot_url(node, sentence, url))
            }
            (OnceSource::Volume { .. } | OnceSource::Target { .. }, Some(target)) => {
                self.boot_volume_once(records, once, target, request, mode).await
            }
            // The two sources with a volume have a target.
            (OnceSource::Volume { .. } | OnceSource::Target { .. }, None) => {
                Err(Stop::refuse(node, format!("{sentence}: there is no volume")))
            }
        }
    }

    /// Boots the volume of a one-time boot, with the node's own volumes after it if the record says so.
    async fn boot_volume_once(
        &self,
        records: &NodeRecords,
        once: &BootOnce,
        target: VolumeTarget,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let NodeRecords { node, connectors, .. } = records;
        let refuse =
            |fault: String| Stop::refuse(node, format!("one-time boot from {}: {fault}", once.source));
        // The loader of the node's own volume says nothing about this one.
        let initiator = read_machine_settings(node, connectors, &[]).initiator.map_err(refuse)?;
        let (own, locator) = if once.with_volumes { own_volumes(records, once)? } else { (Vec::new(), None) };
        let is_in_cinder = |target: &VolumeTarget| {
            if target.uuid == once.uuid {
                once.cinder_volume().is_some()
            } else {
                locator == Some(VolumeLocator::Cinder)
            }
        };
        let targets: Vec<_> = [target].into_iter().chain(own).collect();
        let (in_cinder, fixed): (Vec<_>, Vec<_>) = targets.iter().cloned().partition(is_in_cinder);
        let records = BootableRecords {
            node,
            connectors,
            targets: &targets,
            initiator,
            loader: None,
            boot: &targets[0],
            data: targets[1..].iter().collect(),
        };
        let outage = self.store_outage.as_ref();
        let volumes = locate_once(&self.attach, &records, &in_cinder, &fixed, request, mode, outage).await?;
        let mut decision = plan(records, volumes);
        if let BootAnswer::Boot(plan) = &mut decision.answer {
            plan.once = Some(once.source.to_string());
        }
        Ok(decision)
    }

    /// Consumes the record for the request's journey, unless the machine has to wait or is refused anyway.
    async fn consume(
        &self,
        node: &Node,
        once: &BootOnce,
        is_armed: bool,
        request: &BootRequest,
        mode: Mode,
        decision: Decision,
    ) -> Result<Decision, Stop> {
        let is_given = !matches!(decision.answer.outcome(), BootOutcome::Wait | BootOutcome::Refused);
        let (true, true, Mode::Boot, Some(journey)) = (is_given, is_armed, mode, request.journey.as_deref())
        else {
            return Ok(decision);
        };
        let reason = match self.inventory.consume_boot_once(once, journey, Timestamp::now()).await {
            Ok(true) => {
                tracing::info!(node = %node.uuid, source = %once.source, journey, "one-time boot consumed");
                return Ok(decision);
            }
            Ok(false) => {
                // A retransmission of the same request may have been first.
                let present = self.inventory.find_boot_once(node.uuid).await?;
                if present.is_some_and(|present| {
                    present.uuid == once.uuid && present.journey.as_deref() == Some(journey)
                }) {
                    return Ok(decision);
                }
                let reason = "the one-time boot was changed during the request";
                return Err(Stop::wait(node, reason, CONFLICT_RETRY_SECONDS));
            }
            Err(InventoryError::Store(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(node = %node.uuid, reason, "one-time boot not consumed: cannot write the store");
        let reason = format!("the one-time boot waits until the store can note it as consumed: {reason}");
        Err(Stop::wait(node, reason, STORE_RETRY_SECONDS))
    }

    /// Ends a one-time boot whose successor has its script: deletes the record, and detaches its volume.
    pub async fn end_once(&self, once: &BootOnce) {
        match self.inventory.end_boot_once(once).await {
            Ok(()) => tracing::info!(node = %once.node_uuid, source = %once.source, "one-time boot ended"),
            // The script of the next journey tries again.
            Err(error) => {
                tracing::warn!(node = %once.node_uuid, %error, "cannot end a one-time boot");
            }
        }
    }
}

/// The node's own volumes beside the one of a one-time boot, in the order of their boot indexes.
fn own_volumes(
    records: &NodeRecords,
    once: &BootOnce,
) -> Result<(Vec<VolumeTarget>, Option<VolumeLocator>), Stop> {
    let NodeRecords { node, connectors, targets } = records;
    let refuse = |fault: String| {
        let without =
            "set the one-time boot without the node's volumes (--with-volumes) to boot all the same";
        Stop::refuse(node, format!("one-time boot from {}: {fault}; {without}", once.source))
    };
    let Some(locator) = VolumeLocator::find(&node.storage_interface) else {
        return Ok((Vec::new(), None));
    };
    let locator = locator.map_err(refuse)?;
    validate(locator, node, connectors, targets).map_err(|faults| refuse(faults.join("; ")))?;
    let named = NamedVolume::of_once(&once.source);
    let is_other = |target: &&VolumeTarget| !named.as_ref().is_some_and(|named| named.is_target(target));
    Ok((targets.iter().filter(is_other).cloned().collect(), Some(locator)))
}
