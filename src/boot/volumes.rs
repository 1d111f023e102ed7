//! Decides a boot request that gets the node's volumes: its own, or its fallback.

use jiff::Timestamp;

use super::admit::{AdmittedNode, admit};
use super::decision::{Decision, Mode, Stop};
use super::fallback::{BootChoice, FallbackBoot, storage_interface};
use super::hold::hold;
use super::plan::plan;
use super::records::NodeRecords;
use super::verify::{Verification, verify_requester};
use super::window::ClaimedWindow;
use super::{Boot, FallbackAtBoot, NamedVolume};
use crate::model::{BootAnswer, BootRequest, Fallback, Node, VolumeTarget};
use crate::store::StoreError;

/// A requester that may get the node's volumes.
pub(super) struct VerifiedRequester {
    pub(super) verification: Verification,
    pub(super) window: ClaimedWindow,
}

impl Boot {
    /// Decides a request that gets the node's volumes.
    pub(super) async fn decide_volumes(
        &self,
        own: &NodeRecords,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        if let Some(fallback) = self.fallback_watch.find_in_force(own).await? {
            admit(&fallback.records, &self.enabled)?;
            let VerifiedRequester { verification, window } = self.verify(&own.node, request, mode).await?;
            let decided = self.decide_fallback(fallback, verification, request, mode).await;
            return self.extend_window(window, decided).await;
        }
        let admitted = admit(own, &self.enabled)?;
        let VerifiedRequester { verification, window } = self.verify(&own.node, request, mode).await?;
        let decided = self.decide_watched(own, admitted, verification, request, mode).await;
        self.extend_window(window, decided).await
    }

    /// Decides a request that gets the node's own volumes, or its fallback if that is due.
    async fn decide_watched(
        &self,
        own: &NodeRecords,
        admitted: AdmittedNode<'_>,
        verification: Verification,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let check_free = |fallback| self.check_fallback(&own.node, fallback);
        let policy = self.fallback_policy;
        match self.fallback_watch.choose(own, request, mode, policy, check_free).await? {
            BootChoice::Fallback(fallback) => {
                self.decide_fallback(*fallback, verification, request, mode).await
            }
            BootChoice::Own { hand_out, note } => {
                let decision = self.decide_admitted(admitted, verification, request, mode).await?;
                if let (BootAnswer::Boot(_), Some(hand_out)) = (&decision.answer, hand_out) {
                    self.fallback_watch.hand_out(&own.node, request, &hand_out).await?;
                }
                Ok(decision.with_note(note.as_deref()))
            }
        }
    }

    /// Decides a request that gets the fallback.
    async fn decide_fallback(
        &self,
        FallbackBoot { records, notice }: FallbackBoot,
        verification: Verification,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let admitted = admit(&records, &self.enabled)?;
        let decision = self.decide_admitted(admitted, verification, request, mode).await?;
        Ok(decision.with_fallback(notice))
    }

    /// Verifies the requester's place in the network, then the node's boot window.
    pub(super) async fn verify(
        &self,
        node: &Node,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<VerifiedRequester, Stop> {
        let verification =
            verify_requester(&self.reads, &self.neighbours, &self.policy, node, request).await?;
        let window = self.check_window(node, request, mode).await?;
        Ok(VerifiedRequester { verification, window })
    }

    async fn decide_admitted(
        &self,
        admitted: AdmittedNode<'_>,
        verification: Verification,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let decision = match self.locate(admitted, request, mode).await {
            Ok(decision) => {
                let decision = Decision { attached_card: verification.card(), ..decision };
                let decision = hold(&self.loop_detector, request, mode, verification, decision);
                self.order_paths(mode, decision).await
            }
            Err(Stop::Decided(decision)) => *decision,
            Err(stop @ Stop::StoreError(_)) => return Err(stop),
        };
        Ok(Decision { is_claim_accepted: true, ..decision })
    }

    async fn locate(
        &self,
        AdmittedNode { locator, records }: AdmittedNode<'_>,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<Decision, Stop> {
        let outage = self.store_outage.as_ref();
        let volumes = locator.locate(&self.attach, &records, request, mode, outage).await?;
        Ok(plan(records, volumes))
    }

    /// Why the configuration keeps a node's fallback from coming into force. A failed boot counts when the machine itself begins
    /// the next one, which is refused with a boot window; one that volboot begins makes the count 0.
    pub fn find_fallback_obstacle(&self, node: &Node) -> Option<&'static str> {
        (self.window.is_some() && node.has_bmc()).then_some(
            "with [boot] window, a machine gets no script for a boot that it begins after a failed one, and a boot that \
             volboot begins sets the count to 0",
        )
    }

    /// Finds a node's fallback, as a boot would get it.
    pub async fn fallback_at_boot(&self, node: &Node) -> Result<Option<FallbackAtBoot>, StoreError> {
        self.fallback_watch.find(node).await
    }

    /// Checks that a node may boot from a fallback: its kind of volume is enabled, and no other node uses it. A reason
    /// otherwise. Reads all volume targets: for rare operations only.
    pub async fn check_fallback(
        &self,
        node: &Node,
        fallback: Fallback,
    ) -> Result<Result<(), String>, StoreError> {
        let interface = storage_interface(&fallback.source);
        if !self.enabled.contains(&interface) {
            return Ok(Err(format!("storage interface {interface} is not enabled")));
        }
        let volume = NamedVolume::of_fallback(&fallback.source);
        let targets: Vec<VolumeTarget> = self.inventory.list_all_of(node.uuid).await?;
        if targets.iter().any(|target| volume.is_target(target)) {
            return Ok(Err("the volume is one of the node's own volumes".to_owned()));
        }
        if fallback.shared {
            return Ok(Ok(()));
        }
        let user = self.find_other_user(node.uuid, &volume, Timestamp::now()).await?;
        Ok(user.map_or(Ok(()), |user| Err(user.to_string())))
    }
}
