//! Checks of a node's volumes: the records become a [`CheckRequest`], and nothing is attached for it.

use std::sync::Arc;

use super::Operator;
use crate::boot::FallbackAtBoot;
use crate::boot::validate::{MachineSettings, read_machine_settings};
use crate::check::{CheckReport, CheckRequest, RequestedVolume, VolumeRole};
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
        let loader = loader.ok().flatten();
        let attachments = self.attach.attachments(node.uuid).await;
        let initiator = initiator.map(|name| name.as_str().to_owned());
        let connect = |node: &Node, target: &VolumeTarget| {
            find_connection(node, target, &attachments, initiator.as_deref().unwrap_or_default())
        };
        let fallback = self.boot.fallback_at_boot(node).await?;
        let is_in_force = fallback.as_ref().is_some_and(|fallback| fallback.is_in_force);
        let mut volumes = Vec::new();
        if node.storage_interface != StorageInterface::Noop {
            volumes.extend(targets.iter().map(|target| {
                let is_boot_target = target.boot_index == 0;
                RequestedVolume {
                    id: target.volume_id.clone(),
                    role: if is_boot_target { VolumeRole::Boot } else { VolumeRole::Data },
                    is_boot: is_boot_target && !is_in_force,
                    loader: loader.clone().filter(|_| is_boot_target),
                    connection: connect(node, target),
                }
            }));
        }
        // Before the fallback is due, too: then it is too late to find it without a loader.
        if let Some(FallbackAtBoot { node, target, is_in_force }) = fallback {
            let targets = std::slice::from_ref(&target);
            volumes.push(RequestedVolume {
                id: target.volume_id.clone(),
                role: VolumeRole::Fallback,
                is_boot: is_in_force,
                loader: read_machine_settings(&node, &connectors, targets).loader.ok().flatten(),
                connection: connect(&node, &target),
            });
        }
        volumes.sort_by_key(|volume| !volume.is_boot);
        Ok(CheckRequest {
            node: node.uuid,
            initiator,
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
                    "volume {id} is not attached to the node, and a check attaches nothing; the first boot request that \
                     gets the volume attaches it"
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
