//! An operator: random requests at any instance, one at a time for each node.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::history::{RunEvent, Usage, shorten};
use super::random::Random;
use super::site::SimulatedSite;
use crate::model::{Fallback, FallbackSource, Node, OnceSource, VolumeTarget};
use crate::operator::{
    FallbackValues, MaintenanceChange, OnceRequest, OperationRefusal, Operator, RequestedVerb, Verb,
    VolumeError, VolumeValues,
};
use crate::store::{InventoryError, StoreError};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
enum ClientOperation {
    AddTarget,
    RemoveTargets,
    Deploy,
    Undeploy,
    SetMaintenance,
    ClearMaintenance,
    SetOnce,
    CancelOnce,
    SetFallback,
    ClearFallback,
    PromoteFallback,
}

/// What an operator does next: requests for one node, then requests for another.
const PLANS: [(&[ClientOperation], &[ClientOperation]); 14] = [
    // The volume moves.
    (
        &[ClientOperation::Undeploy, ClientOperation::RemoveTargets],
        &[ClientOperation::AddTarget, ClientOperation::Deploy],
    ),
    (&[ClientOperation::Undeploy], &[ClientOperation::AddTarget, ClientOperation::Deploy]),
    (&[ClientOperation::Undeploy, ClientOperation::AddTarget, ClientOperation::Deploy], &[]),
    (&[ClientOperation::Undeploy], &[]),
    (&[ClientOperation::AddTarget, ClientOperation::Deploy], &[]),
    (&[ClientOperation::AddTarget], &[]),
    (&[ClientOperation::RemoveTargets], &[]),
    (&[ClientOperation::SetMaintenance], &[ClientOperation::ClearMaintenance]),
    (&[ClientOperation::ClearMaintenance], &[]),
    (&[ClientOperation::SetOnce], &[]),
    (&[ClientOperation::CancelOnce], &[]),
    (&[ClientOperation::SetFallback], &[]),
    (&[ClientOperation::ClearFallback], &[]),
    (&[ClientOperation::PromoteFallback], &[]),
];

/// Why a request was not performed.
enum ClientFailure {
    /// Nothing was changed.
    Refused(String),
    /// It may have been performed.
    Unknown(String),
}

impl ClientFailure {
    fn unknown(error: impl Display) -> Self {
        Self::Unknown(error.to_string())
    }
}

impl From<OperationRefusal> for ClientFailure {
    fn from(refusal: OperationRefusal) -> Self {
        match refusal {
            OperationRefusal::Inventory(InventoryError::Store(error)) => Self::unknown(error),
            refusal => Self::Refused(refusal.to_string()),
        }
    }
}

impl From<VolumeError> for ClientFailure {
    fn from(error: VolumeError) -> Self {
        match error {
            VolumeError::Refused(refusal) => refusal.into(),
            error => Self::Refused(format!("{error:?}")),
        }
    }
}

impl From<StoreError> for ClientFailure {
    fn from(error: StoreError) -> Self {
        Self::unknown(error)
    }
}

/// Sends requests until the task is aborted.
pub(super) async fn operate(site: Arc<SimulatedSite>, mut random: Random) {
    loop {
        sleep(random.millis(500, 15_000)).await;
        let volume = random.below(site.volumes.len());
        let volume = site.volumes[volume].clone();
        let slot = random.below(site.slots());
        let (first, then) = random.pick(&PLANS);
        for operations in [first, then] {
            let node = random.pick(&site.machines).node;
            let _turn = site.lock_node(node).await;
            for operation in operations {
                send(&site, slot, *operation, node, &volume).await;
            }
        }
    }
}

/// Sends a request to an instance, and records its events.
async fn send(site: &SimulatedSite, slot: usize, operation: ClientOperation, node: Uuid, volume: &str) {
    let instance = site.instance(slot);
    let request = format!(
        "{operation:?} of node {}, volume {} at instance {}",
        shorten(node),
        shorten(volume),
        instance.link.instance
    );
    let task = Request { site, operator: &instance.operator, node, volume };
    let perform = async {
        instance.link.pass().await;
        let answer = task.perform(operation).await;
        instance.link.pass().await;
        answer
    };
    let (answer, events) = match timeout(PATIENCE, perform).await {
        Ok(Ok(events)) => ("done".to_owned(), events),
        Ok(Err(ClientFailure::Refused(reason) | ClientFailure::Unknown(reason))) => (reason, Vec::new()),
        Err(_) => ("no answer".to_owned(), Vec::new()),
    };
    site.history.record(RunEvent::Operation { request, answer });
    for event in events {
        site.history.record(event);
    }
}

/// A request about a node, and about a volume if it needs one.
struct Request<'a> {
    site: &'a SimulatedSite,
    operator: &'a Arc<Operator>,
    node: Uuid,
    volume: &'a str,
}

impl Request<'_> {
    /// Performs the request; returns the events that the client knows by its answer.
    async fn perform(&self, operation: ClientOperation) -> Result<Vec<RunEvent>, ClientFailure> {
        let Self { operator, volume, .. } = *self;
        let now = Timestamp::now();
        let found = operator.inventory.get::<Node>(self.node).await?;
        let node = found.ok_or(ClientFailure::Refused("no such node".into()))?.value;
        let fallback = Fallback::of(&node).ok().flatten().and_then(|fallback| match fallback.source {
            FallbackSource::Volume(volume) => Some(volume),
            FallbackSource::Target { .. } => None,
        });
        let no_events = |()| Vec::new();
        match operation {
            ClientOperation::AddTarget => {
                let values = VolumeValues { volume, chap_user: "", chap_secret: "".into() };
                let has_it = self.targets().await?.contains(&volume.to_owned());
                self.grant(Usage::Target, has_it, operator.add_volume(&node, &values, now)).await
            }
            ClientOperation::RemoveTargets => self.remove_targets().await,
            ClientOperation::Deploy => Ok(self.start(&node, Verb::Active, "active").await.map(no_events)?),
            ClientOperation::Undeploy => {
                self.start(&node, Verb::Deleted, "deleted").await?;
                let usages = [Usage::Target, Usage::Once, Usage::Fallback];
                let all = self.site.volumes.iter();
                Ok(all.flat_map(|volume| usages.map(|usage| self.revoked(volume, usage))).collect())
            }
            ClientOperation::SetMaintenance => {
                let change = MaintenanceChange::Set(None);
                operator.change_maintenance(self.node, change, now).await?;
                Ok(vec![RunEvent::MaintenanceSet { node: self.node }])
            }
            ClientOperation::ClearMaintenance => {
                self.site.history.record(RunEvent::MaintenanceEnding { node: self.node });
                Ok(operator
                    .change_maintenance(self.node, MaintenanceChange::Clear, now)
                    .await
                    .map(no_events)?)
            }
            ClientOperation::SetOnce => {
                let request = OnceRequest {
                    source: OnceSource::Volume { volume_id: volume.to_owned() },
                    with_volumes: false,
                    shared: false,
                    ttl: Duration::from_secs(3600),
                };
                // An earlier one keeps its volume until the next boot.
                let has_it = operator.find_boot_once(&node).await?.is_some();
                self.grant(Usage::Once, has_it, operator.set_boot_once(&node, request, now)).await
            }
            ClientOperation::CancelOnce => Ok(operator.cancel_boot_once(&node, now).await.map(no_events)?),
            ClientOperation::SetFallback => {
                let values = FallbackValues { volume, ..FallbackValues::default() };
                let has_it = fallback.as_deref() == Some(volume);
                self.grant(Usage::Fallback, has_it, operator.set_fallback(&node, &values, now)).await?;
                let old = fallback.filter(|old| old != volume);
                Ok(old.map(|old| self.revoked(&old, Usage::Fallback)).into_iter().collect())
            }
            ClientOperation::ClearFallback => {
                operator.clear_fallback(&node, now).await?;
                Ok(fallback.map(|old| self.revoked(&old, Usage::Fallback)).into_iter().collect())
            }
            ClientOperation::PromoteFallback => {
                // The two volumes change places: for the checker, the node has both for both uses.
                for volume in self.targets().await?.iter().chain(&fallback) {
                    self.granting(volume, Usage::Target);
                    self.granting(volume, Usage::Fallback);
                }
                Ok(operator.promote_fallback(&node, now).await.map(no_events)?)
            }
        }
    }

    /// Sends a request that gives the node the volume. `has_it`: the node has the volume for this use already.
    async fn grant<T, E: Into<ClientFailure>>(
        &self,
        usage: Usage,
        has_it: bool,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<Vec<RunEvent>, ClientFailure> {
        self.granting(self.volume, usage);
        match request.await.map_err(Into::into) {
            Ok(_) => Ok(Vec::new()),
            Err(refusal @ ClientFailure::Refused(_)) => {
                if !has_it {
                    self.site.history.record(self.revoked(self.volume, usage));
                }
                Err(refusal)
            }
            Err(failure) => Err(failure),
        }
    }

    async fn remove_targets(&self) -> Result<Vec<RunEvent>, ClientFailure> {
        let targets: Vec<VolumeTarget> = self.operator.inventory.list_all_of(self.node).await?;
        for target in &targets {
            self.operator.remove_volume(target.uuid).await?;
        }
        Ok(targets.iter().map(|target| self.revoked(&target.volume_id, Usage::Target)).collect())
    }

    async fn start(&self, node: &Node, verb: Verb, name: &str) -> Result<(), OperationRefusal> {
        let requested = RequestedVerb { verb, name, has_drive: false };
        self.operator.start_verb(node, requested, Timestamp::now()).await
    }

    async fn targets(&self) -> Result<Vec<String>, StoreError> {
        let targets: Vec<VolumeTarget> = self.operator.inventory.list_all_of(self.node).await?;
        Ok(targets.into_iter().map(|target| target.volume_id).collect())
    }

    fn granting(&self, volume: &str, usage: Usage) {
        let event = RunEvent::Granting { node: self.node, volume: volume.to_owned(), usage };
        self.site.history.record(event);
    }

    fn revoked(&self, volume: &str, usage: Usage) -> RunEvent {
        RunEvent::Revoked { node: self.node, volume: volume.to_owned(), usage }
    }
}
