//! What is on record of a node: its volumes, its connectors, and what is held in Cinder. Without the secrets.

use jiff::Timestamp;
use serde_json::Value;

use super::WebState;
use super::words;
use crate::boot::fitness;
use crate::model::{
    Attachment, AttachmentState, Node, Properties, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::StoreError;

/// A node's records, in words.
pub(super) struct Records {
    pub(super) label: String,
    pub(super) uuid: String,
    pub(super) storage: String,
    pub(super) state: String,
    pub(super) maintenance: Option<String>,
    pub(super) volumes: Vec<Volume>,
    pub(super) connectors: Vec<Connector>,
    pub(super) attachments: Vec<Held>,
    pub(super) warnings: Vec<String>,
}

/// A volume that it is to have.
pub(super) struct Volume {
    pub(super) id: String,
    pub(super) boot: bool,
    pub(super) index: i64,
    pub(super) kind: String,
    /// Where it is, one line for each path.
    pub(super) places: Vec<String>,
    /// With whose secret.
    pub(super) user: Option<String>,
}

/// What it shows to storage.
pub(super) struct Connector {
    pub(super) kind: String,
    pub(super) id: String,
}

/// A volume that is held in Cinder.
pub(super) struct Held {
    pub(super) volume: String,
    pub(super) state: &'static str,
    pub(super) cinder_id: String,
    pub(super) learnt: String,
}

impl Records {
    /// All of a node's.
    pub(super) async fn of(state: &WebState, node: &Node, now: Timestamp) -> Result<Self, StoreError> {
        let connectors: Vec<VolumeConnector> = state.inventory.all_of(node.uuid).await?;
        let mut targets: Vec<VolumeTarget> = state.inventory.all_of(node.uuid).await?;
        targets.sort_by_key(|target| target.boot_index);
        let mut held = state.attach.held(node.uuid).await;
        held.sort_by(|a, b| a.volume.cmp(&b.volume));
        let asked = node.storage_interface == StorageInterface::Cinder;
        Ok(Self {
            label: node.label(),
            uuid: node.uuid.to_string(),
            storage: node.storage_interface.as_str().to_owned(),
            state: node.provision_state.as_str().to_owned(),
            maintenance: node
                .maintenance
                .then(|| node.maintenance_reason.clone().unwrap_or_else(|| "no reason given".to_owned())),
            warnings: fitness::warnings(&connectors, &targets),
            volumes: targets.iter().map(|target| volume(target, asked)).collect(),
            connectors: connectors
                .into_iter()
                .map(|connector| Connector { kind: connector.kind, id: connector.connector_id })
                .collect(),
            attachments: held.iter().map(|attachment| held_as(attachment, now)).collect(),
        })
    }
}

fn volume(target: &VolumeTarget, asked: bool) -> Volume {
    Volume {
        id: target.volume_id.clone(),
        boot: target.boot_index == 0,
        index: target.boot_index,
        kind: target.volume_type.clone(),
        places: if asked { Vec::new() } else { places(&target.properties) },
        user: target.properties.text("auth_username").filter(|_| !asked).map(str::to_owned),
    }
}

/// Where a volume's paths lead, as its record says (the words are those of Cinder's connections).
fn places(properties: &Properties) -> Vec<String> {
    let portals = all(properties, "target_portals", "target_portal");
    let (names, luns) =
        (all(properties, "target_iqns", "target_iqn"), all(properties, "target_luns", "target_lun"));
    let at = |texts: &[String], index: usize| texts.get(index).or(texts.first()).cloned();
    let place = |(index, portal): (usize, &String)| {
        let lun = at(&luns, index).map(|lun| format!("LUN {lun}"));
        let parts = [Some(portal.clone()), lun, at(&names, index)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    };
    portals.iter().enumerate().map(place).collect()
}

fn all(properties: &Properties, many: &str, one: &str) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    match (properties.get(many), properties.get(one)) {
        (Some(Value::Array(values)), _) => values.iter().map(text).collect(),
        (_, Some(value)) => vec![text(value)],
        _ => Vec::new(),
    }
}

fn held_as(attachment: &Attachment, now: Timestamp) -> Held {
    Held {
        volume: attachment.volume.clone(),
        state: match attachment.state {
            AttachmentState::Intended => "to be attached",
            AttachmentState::Reserved => "reserved",
            AttachmentState::Attached => "attached",
            AttachmentState::Detaching => "being detached",
        },
        cinder_id: attachment.cinder_id.clone().unwrap_or_default(),
        learnt: attachment.learnt_at.map(|at| words::ago(at, now)).unwrap_or_default(),
    }
}
