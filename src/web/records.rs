//! [`NodeDetails`]: a node's volumes, connectors and Cinder attachments, without secrets.

use jiff::Timestamp;
use serde_json::Value;

use super::{actions, format};
use crate::boot::validate;
use crate::model::{
    Attachment, AttachmentState, InstanceServer, Node, Properties, VolumeConnector, VolumeTarget,
};
use crate::operator::Operator;
use crate::store::StoreError;

/// A node's records, formatted for the page.
pub(super) struct NodeDetails {
    pub(super) label: String,
    pub(super) uuid: String,
    pub(super) driver: String,
    pub(super) storage: String,
    /// The link to the form that adds a volume.
    pub(super) addition: String,
    pub(super) volumes: Vec<VolumeRow>,
    pub(super) connectors: Vec<ConnectorRow>,
    pub(super) attachments: Vec<AttachmentRow>,
    pub(super) warnings: Vec<String>,
}

/// A volume target.
pub(super) struct VolumeRow {
    pub(super) id: String,
    pub(super) is_boot_volume: bool,
    pub(super) index: i64,
    pub(super) kind: String,
    /// Portal, LUN and target name of each path.
    pub(super) paths: Vec<String>,
    /// The CHAP user.
    pub(super) user: Option<String>,
    /// The links to the forms that change and remove the volume.
    pub(super) change: String,
    pub(super) removal: String,
}

/// A volume connector.
pub(super) struct ConnectorRow {
    pub(super) kind: String,
    pub(super) id: String,
}

/// A Cinder attachment.
pub(super) struct AttachmentRow {
    pub(super) volume: String,
    pub(super) state: &'static str,
    pub(super) cinder_id: String,
    pub(super) resolved: String,
    /// The server, if another client created the attachment.
    pub(super) server: Option<String>,
    /// Why Cinder does not delete the attachment.
    pub(super) obstacle: Option<String>,
}

impl NodeDetails {
    /// Reads all records of a node.
    pub(super) async fn load(operator: &Operator, node: &Node, now: Timestamp) -> Result<Self, StoreError> {
        let connectors: Vec<VolumeConnector> = operator.inventory.list_all_of(node.uuid).await?;
        let mut targets: Vec<VolumeTarget> = operator.inventory.list_all_of(node.uuid).await?;
        targets.sort_by_key(|target| target.boot_index);
        let mut attachments = operator.attach.attachments(node.uuid).await;
        attachments.sort_by(|a, b| a.volume.cmp(&b.volume));
        let uses_attachments = node.storage_interface.uses_attachments();
        Ok(Self {
            label: node.label(),
            uuid: node.uuid.to_string(),
            driver: node.driver.clone(),
            storage: node.storage_interface.as_str().to_owned(),
            addition: actions::link_to_addition(node),
            warnings: validate::find_warnings(&connectors, &targets),
            volumes: targets.iter().map(|target| volume_row(node, target, uses_attachments)).collect(),
            connectors: connectors
                .into_iter()
                .map(|connector| ConnectorRow { kind: connector.kind, id: connector.connector_id })
                .collect(),
            attachments: attachments.iter().map(|attachment| attachment_row(attachment, now)).collect(),
        })
    }
}

/// Paths and credentials come from the record, unless Cinder provides them at each boot.
fn volume_row(node: &Node, target: &VolumeTarget, uses_attachments: bool) -> VolumeRow {
    VolumeRow {
        id: target.volume_id.clone(),
        change: actions::link_to_change(node, target.uuid),
        removal: actions::link_to_removal(node, target.uuid),
        is_boot_volume: target.boot_index == 0,
        index: target.boot_index,
        kind: target.volume_type.clone(),
        paths: if uses_attachments { Vec::new() } else { format_paths(&target.properties) },
        user: target.properties.text("auth_username").filter(|_| !uses_attachments).map(str::to_owned),
    }
}

/// The paths of a volume, from properties in the format of Cinder's `connection_info`.
fn format_paths(properties: &Properties) -> Vec<String> {
    let portals = list_values(properties, "target_portals", "target_portal");
    let (names, luns) = (
        list_values(properties, "target_iqns", "target_iqn"),
        list_values(properties, "target_luns", "target_lun"),
    );
    let at = |texts: &[String], index: usize| texts.get(index).or(texts.first()).cloned();
    let path = |(index, portal): (usize, &String)| {
        let lun = at(&luns, index).map(|lun| format!("LUN {lun}"));
        let parts = [Some(portal.clone()), lun, at(&names, index)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    portals.iter().enumerate().map(path).collect()
}

/// The values under the plural key, else the single value under the singular key.
fn list_values(properties: &Properties, plural: &str, singular: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (properties.get(plural), properties.get(singular)) {
        (Some(Value::Array(values)), _) => values.iter().map(text).collect(),
        (_, Some(value)) => vec![text(value)],
        _ => Vec::new(),
    }
}

fn attachment_row(attachment: &Attachment, now: Timestamp) -> AttachmentRow {
    AttachmentRow {
        volume: attachment.volume.clone(),
        state: match attachment.state {
            AttachmentState::Intended => "pending",
            AttachmentState::Reserved => "reserved",
            AttachmentState::Attached => "attached",
            AttachmentState::Detaching => "detaching",
        },
        cinder_id: attachment.cinder_id.clone().unwrap_or_default(),
        resolved: attachment.resolved_at.map(|at| format::time_ago(at, now)).unwrap_or_default(),
        server: attachment.server().map(|server| InstanceServer(server).to_string()),
        obstacle: attachment.obstacle.clone(),
    }
}
