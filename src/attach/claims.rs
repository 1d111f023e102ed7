//! [`Claims`]: which task of which instance works on an attachment.
//!
//! | claim | held for | why |
//! |---|---|---|
//! | `attachment/<node>/<volume>` | all work on the attachment | one task exports, completes or detaches it |
//! | `volume/<volume>` | *list* … *id recorded* of a create, and the search for an orphan | no task adopts the attachment that another one is creating |
//!
//! Lock order: the attachment, then the volume. A node's later boots need the first claim alone, so the nodes of a
//! multi-attachable volume boot concurrently.
//!
//! Tasks of one process queue for a claim. A claim of another instance is not waited for: the machine, or the reconciler,
//! tries again. The claim of a volume is held for two calls, so a task waits [`VOLUME_WAIT`] for it.
//!
//! After its claim is lost, a task makes no further call and writes nothing: see [`HeldClaim`]. The records tell its
//! successor what may have happened in Cinder.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::error::AttachError;
use super::keyed_mutex::{KeyedGuard, KeyedMutex};
use crate::store::{Attachments, Claim, ClaimHolder, ClaimId, StoreError};

/// How long a task waits for the claim of a volume while another instance holds it.
const VOLUME_WAIT: Duration = Duration::from_secs(2);
/// How long a task waits for the store to take back a claim of this process.
const RELEASE_WAIT: Duration = Duration::from_secs(2);
/// The pause between two attempts at a claim.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The claims of this process.
#[derive(Debug)]
pub(super) struct Claims {
    records: Attachments,
    queues: KeyedMutex,
}

/// A held claim. Its drop gives it back, and lets the next task of this process try.
#[derive(Debug)]
pub(super) struct HeldClaim {
    /// Taken on drop.
    held: Option<(Claim, KeyedGuard)>,
    id: ClaimId,
    records: Attachments,
}

impl Claims {
    pub(super) fn new(records: Attachments) -> Self {
        Self { records, queues: KeyedMutex::default() }
    }

    /// Claims the work on an attachment. Waits for other tasks of this process, not for another instance.
    pub(super) async fn claim_attachment(&self, node: Uuid, volume: &str) -> Result<HeldClaim, AttachError> {
        let work = attachment_work(node, volume);
        let turn = self.queues.lock(&work).await;
        match self.claim(&work, turn, Duration::ZERO).await? {
            Ok(claim) => Ok(claim),
            Err(holder) => Err(AttachError::Busy(self.describe_holder(holder.as_ref(), volume).await)),
        }
    }

    /// Claims the work on an attachment, unless another task of any instance has it.
    pub(super) async fn try_claim_attachment(
        &self,
        node: Uuid,
        volume: &str,
    ) -> Result<Option<HeldClaim>, StoreError> {
        let work = attachment_work(node, volume);
        let Some(turn) = self.queues.try_lock(&work) else { return Ok(None) };
        Ok(self.claim(&work, turn, Duration::ZERO).await?.ok())
    }

    /// Claims the creation of attachments of a volume, and the search for orphans.
    pub(super) async fn claim_volume(&self, volume: &str) -> Result<HeldClaim, AttachError> {
        let work = format!("volume/{volume}");
        let turn = self.queues.lock(&work).await;
        match self.claim(&work, turn, VOLUME_WAIT).await? {
            Ok(claim) => Ok(claim),
            Err(holder) => Err(AttachError::Busy(self.describe_holder(holder.as_ref(), volume).await)),
        }
    }

    /// Claims work for the task whose turn it is. `Err`: another instance holds the claim, if it is known which.
    async fn claim(
        &self,
        work: &str,
        turn: KeyedGuard,
        patience: Duration,
    ) -> Result<Result<HeldClaim, Option<ClaimHolder>>, StoreError> {
        let cluster = self.records.cluster();
        let started_at = Instant::now();
        loop {
            if let Some(claim) = cluster.claim(work, b"").await? {
                let id = claim.id().clone();
                return Ok(Ok(HeldClaim { held: Some((claim, turn)), id, records: self.records.clone() }));
            }
            let holder = cluster.holder(work).await?;
            let patience = match &holder {
                // An earlier task of this process: the store has not taken the claim back yet.
                Some(holder) if holder.is_self => RELEASE_WAIT,
                Some(_) => patience,
                // Given back meanwhile.
                None => RELEASE_WAIT,
            };
            if started_at.elapsed() >= patience {
                return Ok(Err(holder));
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    /// Why a machine waits for the holder of a claim.
    async fn describe_holder(&self, holder: Option<&ClaimHolder>, volume: &str) -> String {
        let instances = self.records.cluster().instances().await.unwrap_or_default();
        let named = holder
            .and_then(|holder| instances.into_iter().find(|instance| instance.session == holder.session));
        let name = named.map_or_else(|| "another instance of volboot".to_owned(), |instance| instance.name);
        format!("{name} is asking Cinder about volume {volume}")
    }
}

impl HeldClaim {
    /// The condition of each write.
    pub(super) fn id(&self) -> &ClaimId {
        &self.id
    }

    /// Whether the deadline has passed: before each call to Cinder, its caller asks.
    pub(super) fn is_lost(&self) -> bool {
        self.held.as_ref().is_none_or(|(claim, _)| claim.is_lost())
    }

    /// Waits until the claim is lost. Each confirmed keep-alive moves the deadline, so a call may take longer than one
    /// deadline.
    pub(super) async fn wait_for_loss(&self) {
        if let Some((claim, _)) = &self.held {
            claim.wait_for_loss().await;
        }
    }
}

impl Drop for HeldClaim {
    fn drop(&mut self) {
        let Some((claim, turn)) = self.held.take() else { return };
        let records = self.records.clone();
        // The machine's answer does not wait for the store. Without a runtime, the process ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Err(error) = records.cluster().release(claim).await {
                tracing::debug!(%error, "claim not given back; it ends with the session");
            }
            drop(turn);
        });
    }
}

/// The claimed work on an attachment. A volume's id is free text, so it comes last.
fn attachment_work(node: Uuid, volume: &str) -> String {
    format!("attachment/{node}/{volume}")
}
