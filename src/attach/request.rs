//! [`VolumeRequest`]: the volumes that a node asks for at boot, and the attachments that it should have for them.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::node_identity::NodeIdentity;
use super::store_outage::StoreOutage;
use crate::model::{
    BootAttempt, ConnectorProperties, Iqn, Mac, Node, Properties, VolumeConnector, VolumeTarget,
};

/// The volumes that a node should have, and its identity as an initiator.
#[derive(Debug, Clone)]
pub struct VolumeRequest<'a> {
    /// The node.
    pub node: &'a Node,
    /// The node's initiator name.
    pub initiator: &'a Iqn,
    /// All volume connectors of the node.
    pub connectors: &'a [VolumeConnector],
    /// The volume targets of the node.
    pub targets: &'a [VolumeTarget],
    /// The journey (boot session) and the try.
    pub journey: Option<(&'a str, u32)>,
    /// The card that asks.
    pub card: Option<Mac>,
    /// The outage of the store, if the request was made from last known records.
    pub store_outage: Option<&'a StoreOutage>,
}

/// A volume that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredAttachment {
    pub(super) node: Uuid,
    pub(super) volume: String,
    pub(super) target: Uuid,
    pub(super) read_only: bool,
    pub(super) connector: ConnectorProperties,
    pub(super) identity: Arc<NodeIdentity>,
}

/// The versions of the records behind a request: the node, and its volume connectors and targets. A change of any of them
/// makes other versions, and so does a record that was added, deleted or created again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordVersions(Arc<[(Uuid, Timestamp)]>);

impl RecordVersions {
    pub(super) fn of(node: &Node, connectors: &[VolumeConnector], targets: &[VolumeTarget]) -> Self {
        let version =
            |uuid, created_at, updated_at: Option<Timestamp>| (uuid, updated_at.unwrap_or(created_at));
        let connectors =
            connectors.iter().map(|record| version(record.uuid, record.created_at, record.updated_at));
        let targets = targets.iter().map(|record| version(record.uuid, record.created_at, record.updated_at));
        let node = version(node.uuid, node.created_at, node.updated_at);
        Self(std::iter::once(node).chain(connectors).chain(targets).collect())
    }
}

/// What a resolution knows of its request, besides the volumes.
#[derive(Debug, Clone)]
pub(super) struct ResolutionContext {
    /// The versions of the records behind the request.
    pub(super) versions: RecordVersions,
    /// The boot attempt of the machine that waits.
    pub(super) attempt: Option<BootAttempt>,
}

impl VolumeRequest<'_> {
    /// The context of the request's resolution.
    pub(super) fn context(&self) -> ResolutionContext {
        let attempt = |(journey, attempt): (&str, u32)| BootAttempt { journey: journey.to_owned(), attempt };
        ResolutionContext { versions: self.record_versions(), attempt: self.journey.map(attempt) }
    }

    /// The versions of the request's records.
    pub(super) fn record_versions(&self) -> RecordVersions {
        RecordVersions::of(self.node, self.connectors, self.targets)
    }

    /// The attachments for the request. A volume with two targets counts once.
    pub(super) fn desired_attachments(&self) -> Vec<DesiredAttachment> {
        let node = self.node;
        let ip = self.connectors.iter().find(|connector| connector.kind == "ip");
        // Ironic's heuristic: a node with an `iqn` and an `ip` connector has several paths. The capability overrides
        // it.
        let multipath = match node.capabilities().get("multipath") {
            Some(_) => node.capabilities().is_true("multipath"),
            None => ip.is_some(),
        };
        let connector = ConnectorProperties {
            initiator: self.initiator.as_str().to_owned(),
            host: node.uuid.to_string(),
            ip: ip.map(|connector| connector.connector_id.clone()),
            multipath,
            mountpoint: None,
        };
        let identity = Arc::new(NodeIdentity::of(node, self.connectors));
        let mut attachments: Vec<DesiredAttachment> = Vec::new();
        for target in self.targets {
            if attachments.iter().all(|attachment| attachment.volume != target.volume_id) {
                attachments.push(DesiredAttachment {
                    node: node.uuid,
                    volume: target.volume_id.clone(),
                    target: target.uuid,
                    read_only: is_read_only(&target.properties),
                    connector: connector.clone(),
                    identity: Arc::clone(&identity),
                });
            }
        }
        attachments
    }
}

/// Whether `properties.access_mode` of a volume target is `ro`; Cinder knows `ro` and `rw`.
fn is_read_only(properties: &Properties) -> bool {
    properties.text("access_mode") == Some("ro")
}
