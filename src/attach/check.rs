//! Validations and previews: the checks of a node's volumes with Cinder that change nothing.

use std::collections::HashMap;

use tokio::time::timeout;
use uuid::Uuid;

use super::Attach;
use super::error::{AttachError, Outage};
use super::monitored_cinder::{CINDER_TIMEOUT, timeout_reason};
use super::node_identity::NodeIdentity;
use super::outcome::{self, Outcome};
use super::progress::VolumeResults;
use super::request::{RecordVersions, VolumeRequest};
use super::resolution::{Resolution, VolumeCheck};
use super::volume_status::{CheckedVolume, check_volume};
use crate::cinder::Cinder;
use crate::model::{InstanceServer, Node, VolumeConnector, VolumeTarget};

/// The result of a check of a node's volumes.
struct CheckedVolumes {
    /// The volumes that cannot be attached, or whose backend is unavailable.
    errors: VolumeResults,
    /// The volumes that the node has through attachments of another client, and the servers of these.
    servers: Vec<(String, Uuid)>,
}

impl Attach {
    /// Checks with Cinder whether a node's volumes can be attached and booted, without changing anything. Only an export
    /// shows a connection, so the result of the last export counts if it failed.
    pub async fn check(
        &self,
        node: &Node,
        connectors: &[VolumeConnector],
        targets: &[VolumeTarget],
    ) -> VolumeCheck {
        let Some(cinder) = self.state.cinder() else {
            let faults = vec!["Cinder is not configured".into()];
            return VolumeCheck::Checked { faults, notes: Vec::new() };
        };
        let versions = RecordVersions::of(node, connectors, targets);
        let identity = NodeIdentity::of(node, connectors);
        match self.check_volumes(cinder, &identity, targets, &versions).await {
            Ok(CheckedVolumes { errors, servers }) => VolumeCheck::Checked {
                // The outage of a backend is no fault of the volume; the failure of its own export may be.
                faults: errors
                    .into_iter()
                    .filter_map(|(_, result)| result.err())
                    .filter(|error| !matches!(error, AttachError::Unavailable(Outage::Backend(_))))
                    .map(AttachError::into_reason)
                    .collect(),
                notes: servers
                    .iter()
                    .map(|(volume, server)| {
                        format!("volume {volume} is attached by {}", InstanceServer(*server))
                    })
                    .collect(),
            },
            Err(outage) => VolumeCheck::Unavailable(outage.to_string()),
        }
    }

    /// Checks each volume with Cinder, unless Cinder is unavailable.
    async fn check_volumes(
        &self,
        cinder: Cinder,
        identity: &NodeIdentity,
        targets: &[VolumeTarget],
        versions: &RecordVersions,
    ) -> Result<CheckedVolumes, Outage> {
        let node = identity.node();
        if let Some(reason) = self.cinder_outage() {
            return Err(Outage::Cinder(reason));
        }
        let cinder = self.state.monitor(cinder);
        let records = self.attachments(node).await;
        let (mut errors, mut servers) = (Vec::new(), Vec::new());
        for target in targets {
            let record = records.iter().find(|record| record.volume == target.volume_id);
            let _permit = match self.permits.checks.acquire().await {
                Ok(permit) => permit,
                Err(busy) => {
                    errors.push((target.volume_id.clone(), Err(busy)));
                    continue;
                }
            };
            let volume = &target.volume_id;
            let finding = self.state.findings.recall_unbootable(node, volume, versions);
            let check =
                check_volume(&cinder, &self.state.records, identity, volume, record, finding.as_ref());
            match timeout(CINDER_TIMEOUT, check).await {
                Ok(Ok(CheckedVolume { volume_type, server })) => {
                    servers.extend(server.map(|server| (target.volume_id.clone(), server)));
                    let failed = self.state.findings.recall_failed(node, &target.volume_id, versions);
                    let outage = failed.or_else(|| self.state.backend_outage(&volume_type?));
                    errors.extend(
                        outage
                            .map(|reason| (target.volume_id.clone(), Err(AttachError::Unavailable(reason)))),
                    );
                }
                Ok(Err(AttachError::Unavailable(outage))) => return Err(outage),
                Ok(Err(
                    error @ (AttachError::Refused(_) | AttachError::Transient(_) | AttachError::Busy(_)),
                )) => {
                    errors.push((target.volume_id.clone(), Err(error)));
                }
                Err(_) => return Err(Outage::Cinder(timeout_reason())),
            }
        }
        Ok(CheckedVolumes { errors, servers })
    }

    /// Predicts [`resolve`](Self::resolve) without changing anything: the last known connections, if Cinder would
    /// permit the attachments.
    pub async fn preview(&self, request: VolumeRequest<'_>) -> Resolution {
        let Some(cinder) = self.state.cinder() else {
            return outcome::refuse_without_cinder();
        };
        if let Some(obstacle) = self.find_write_obstacle(&request) {
            return self.confirm(cinder, &self.permits.checks, &request, &obstacle).await;
        }
        let versions = request.record_versions();
        let identity = NodeIdentity::of(request.node, request.connectors);
        let checked = self.check_volumes(cinder, &identity, request.targets, &versions).await;
        let (outage, backend_outages) = match &checked {
            Ok(CheckedVolumes { errors, .. }) => match Outcome::of(errors) {
                Outcome::Refused(reason) => return Resolution::Refused(reason),
                Outcome::Transient(reason) => return outcome::wait_for_condition(reason),
                Outcome::Busy(reason) => return outcome::wait_for_work(reason),
                Outcome::Usable { resolved: _, outages } => (None, HashMap::from_iter(outages)),
            },
            Err(outage) => (Some(outage), HashMap::new()),
        };
        let mut volumes = HashMap::new();
        for target in request.targets {
            let volume = &target.volume_id;
            let outage = outage.or(backend_outages.get(volume.as_str()).copied());
            match (self.find_last_known(&request, volume, outage).await, outage) {
                (Ok(last_known), _) => drop(volumes.insert(volume.clone(), last_known)),
                (Err(reason), Some(outage)) => return outcome::wait_for_cinder(outage, &reason),
                (Err(_), None) => {
                    let servers = checked.iter().flat_map(|checked| &checked.servers);
                    let server = servers.clone().find(|(held, _)| held == volume).map(|(_, server)| *server);
                    return outcome::predict_attachment(volume, server);
                }
            }
        }
        Resolution::Ready(volumes)
    }
}
