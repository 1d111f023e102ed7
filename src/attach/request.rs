//! [`VolumeRequest`]: the volumes that a node asks for at boot, and the attachments that it should have for them.

use uuid::Uuid;

use crate::model::{ConnectorProperties, Iqn, Node, Properties, VolumeConnector, VolumeTarget};

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
}

/// A volume that a node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DesiredAttachment {
    pub(super) node: Uuid,
    pub(super) volume: String,
    pub(super) target: Uuid,
    pub(super) read_only: bool,
    pub(super) connector: ConnectorProperties,
}

impl VolumeRequest<'_> {
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
        };
        let mut attachments: Vec<DesiredAttachment> = Vec::new();
        for target in self.targets {
            if attachments.iter().all(|attachment| attachment.volume != target.volume_id) {
                attachments.push(DesiredAttachment {
                    node: node.uuid,
                    volume: target.volume_id.clone(),
                    target: target.uuid,
                    read_only: is_read_only(&target.properties),
                    connector: connector.clone(),
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
