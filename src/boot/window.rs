//! The boot window of a node with a BMC: `[boot] window`. The script of such a node is only for the boot that volboot began.
//!
//! The window is checked after the requester's place, and before the volumes are attached: a request outside of it changes
//! nothing in Cinder. The rules are those of [`BootWindow`]; this module reads and writes its record.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::decision::{Decision, Mode, Stop};
use super::{Boot, STORE_RETRY_SECONDS};
use crate::model::{
    BootAnswer, BootRequest, BootWindow, BootWindowPolicy, BootWindowRefusal, BootWindowStage, Node,
};
use crate::store::{Inventory, StoreError, WindowChange};

/// The boot session of a preview, which has none of its own.
const PREVIEWED_SESSION: &str = "preview";

/// By how much the clocks of two instances may differ: less than a machine needs from its power-on to a report.
const CLOCK_DIFFERENCE: SignedDuration = SignedDuration::from_secs(2);

/// The window of an admitted request: the node, if a window applies to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClaimedWindow(Option<Uuid>);

impl Boot {
    /// Checks that a request of the node's own card is within the node's boot window, and claims the window for its
    /// session. Stops other requests.
    pub(super) async fn check_window(
        &self,
        node: &Node,
        request: &BootRequest,
        mode: Mode,
    ) -> Result<ClaimedWindow, Stop> {
        let Some(policy) = self.window.filter(|_| node.has_bmc()) else { return Ok(ClaimedWindow(None)) };
        let now = Timestamp::now();
        if mode != Mode::Boot || self.store_outage.is_some() {
            let window = self.inventory.read_boot_window(node.uuid).await?;
            let journey = match mode {
                Mode::Boot => request.journey.as_deref(),
                Mode::Preview | Mode::NextSession => {
                    Some(request.journey.as_deref().unwrap_or(PREVIEWED_SESSION))
                }
            };
            return match policy.judge(window.as_ref(), journey, now) {
                Err(refusal) => Err(Stop::refuse_window(node, refusal)),
                // Another instance may have granted the window meanwhile.
                Ok(Some(_)) if mode == Mode::Boot => Err(Stop::wait(
                    node,
                    "the store does not respond, so that the boot window cannot be claimed",
                    STORE_RETRY_SECONDS,
                )),
                Ok(_) => Ok(ClaimedWindow(None)),
            };
        }
        let claim = claim_window(&self.inventory, policy, node.uuid, request.journey.as_deref(), now).await?;
        claim.map_err(|refusal| Stop::refuse_window(node, refusal))?;
        Ok(ClaimedWindow(Some(node.uuid)))
    }

    /// Extends a claimed window by the wait that the phases after it impose, whichever of them stopped. Returns their result.
    pub(super) async fn extend_window(
        &self,
        window: ClaimedWindow,
        decided: Result<Decision, Stop>,
    ) -> Result<Decision, Stop> {
        let answer = match &decided {
            Ok(decision) => &decision.answer,
            Err(Stop::Decided(decision)) => &decision.answer,
            Err(Stop::StoreError(_)) => {
                self.extend_by(window, STORE_RETRY_SECONDS).await;
                return decided;
            }
        };
        if let BootAnswer::Wait { seconds, .. } = answer {
            self.extend_by(window, *seconds).await;
        }
        decided
    }

    async fn extend_by(&self, ClaimedWindow(node): ClaimedWindow, seconds: u32) {
        let Some(node) = node else { return };
        let extend = |window: Option<&BootWindow>| match window {
            Some(window) => WindowChange::Write(window.extended(seconds), ()),
            None => WindowChange::Keep(()),
        };
        if let Err(error) = self.inventory.change_boot_window(node, extend).await {
            tracing::warn!(%node, %error, "cannot extend the boot window of a machine that waits");
        }
    }

    /// Ends a node's boot window after a report, unless the window was opened later.
    pub(super) async fn end_window(
        &self,
        node: Uuid,
        stage: BootWindowStage,
        reported_at: Timestamp,
    ) -> Result<(), StoreError> {
        if self.window.is_none() {
            return Ok(());
        }
        let is_meant =
            |window: &&BootWindow| window.opened_at.duration_since(reported_at) <= CLOCK_DIFFERENCE;
        let end = |window: Option<&BootWindow>| {
            let ended = window.filter(is_meant).and_then(|window| window.ended(stage));
            ended.map_or(WindowChange::Keep(()), |ended| WindowChange::Write(ended, ()))
        };
        self.inventory.change_boot_window(node, end).await
    }
}

/// Claims the window for a boot session, by a conditional write.
async fn claim_window(
    inventory: &Inventory,
    policy: BootWindowPolicy,
    node: Uuid,
    journey: Option<&str>,
    now: Timestamp,
) -> Result<Result<(), BootWindowRefusal>, StoreError> {
    let claim = |window: Option<&BootWindow>| match policy.judge(window, journey, now) {
        Ok(Some(claimed)) => WindowChange::Write(claimed, Ok(())),
        Ok(None) => WindowChange::Keep(Ok(())),
        Err(refusal) => WindowChange::Keep(Err(refusal)),
    };
    inventory.change_boot_window(node, claim).await
}

#[cfg(test)]
mod tests;
