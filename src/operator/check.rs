//! Checks of a node's volumes: the records become a [`CheckRequest`], and nothing is attached for it.

use std::sync::Arc;

use super::Operator;
use crate::boot::validate::{MachineSettings, read_machine_settings};
use crate::check::{CheckReport, CheckRequest, RequestedVolume};
use crate::inspect::LoaderArchitecture;
use crate::model::{
    Attachment, AttachmentState, Connection, Node, StorageInterface, VolumeConnector, VolumeTarget,
};
use crate::store::StoreError;
use crate::timeline::MachineId;

impl Operator {
    /// Checks the volumes of a node; see [`crate::check`]. `None`: the check panicked.
    pub async fn check_volumes(&self, node: &Node) -> Result<Option<Arc<CheckReport>>, StoreError> {
        let request = self.build_check_request(node).await?;
        Ok(self.volume_checks.check(request).await)
    }

    /// The last check of a node since the start of this process. Runs none.
    pub fn last_volume_check(&self, node: &Node) -> Option<Arc<CheckReport>> {
        self.volume_checks.last(node.uuid)
    }

    async fn build_check_request(&self, node: &Node) -> Result<CheckRequest, StoreError> {
        let connectors: Vec<VolumeConnector> = self.inventory.list_all_of(node.uuid).await?;
        let mut targets: Vec<VolumeTarget> = self.inventory.list_all_of(node.uuid).await?;
        targets.sort_by_key(|target| target.boot_index);
        let MachineSettings { initiator, loader } = read_machine_settings(node, &connectors, &targets);
        let attachments = self.attach.attachments(node.uuid).await;
        let initiator = initiator.map(|name| name.as_str().to_owned());
        let volumes = match node.storage_interface {
            StorageInterface::Noop => Vec::new(),
            _ => targets
                .iter()
                .map(|target| RequestedVolume {
                    id: target.volume_id.clone(),
                    is_boot: target.boot_index == 0,
                    connection: find_connection(
                        node,
                        target,
                        &attachments,
                        initiator.as_deref().unwrap_or_default(),
                    ),
                })
                .collect(),
        };
        Ok(CheckRequest {
            node: node.uuid,
            initiator,
            loader: loader.ok().flatten(),
            architecture: self.find_architecture(node).await?,
            volumes,
        })
    }

    /// The architecture of a node's machine: as iPXE reported it, else of the property `cpu_arch`.
    async fn find_architecture(&self, node: &Node) -> Result<Option<LoaderArchitecture>, StoreError> {
        let machine =
            self.find_machine_of_node(node).await?.and_then(|mac| self.timeline.machine(MachineId::Mac(mac)));
        let reported = machine.and_then(|machine| machine.arch);
        Ok(match reported.as_deref().or(node.properties.text("cpu_arch")) {
            Some("x86_64" | "i386") => Some(LoaderArchitecture::X86_64),
            Some("arm64" | "aarch64") => Some(LoaderArchitecture::Arm64),
            Some(_) | None => None,
        })
    }
}

/// The paths to a volume, as far as they are known without attaching it.
fn find_connection(
    node: &Node,
    target: &VolumeTarget,
    attachments: &[Attachment],
    initiator: &str,
) -> Result<Connection, String> {
    let id = &target.volume_id;
    if target.volume_type != "iscsi" {
        return Err(format!("volume {id} has type \"{}\": only iscsi can be checked", target.volume_type));
    }
    match &node.storage_interface {
        StorageInterface::Cinder => {
            let attachment = attachments.iter().find(|attachment| attachment.volume == *id);
            let Some(Attachment {
                connection: Some(connection),
                state: AttachmentState::Attached,
                initiator: name,
                ..
            }) = attachment
            else {
                return Err(format!(
                    "volume {id} is not attached to the node, and a check attaches nothing; the first boot request of the \
                     machine attaches it"
                ));
            };
            if name.as_deref() != Some(initiator) {
                return Err(format!(
                    "volume {id} is attached with another initiator name; the next boot request of the machine exports it \
                     again"
                ));
            }
            Connection::from_cinder(connection)
                .map_err(|error| format!("the connection of volume {id}: {error}"))
        }
        _ => Connection::from_record(&target.properties)
            .map_err(|error| format!("volume target {}: properties/{error}", target.uuid)),
    }
}
